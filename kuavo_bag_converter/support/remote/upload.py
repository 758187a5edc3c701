# Copyright 2026 The kuavo_bag_converter maintainers
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Sends a finished dataset to another machine; what makes it one is sent last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
import json
from pathlib import Path
import threading
from typing import Any

from kuavo_bag_converter.support.errors import BagError, Cancelled, OutputError, UsageError
from kuavo_bag_converter.support.places import masked
from kuavo_bag_converter.support.remote.remote_file import RemoteFile
from kuavo_bag_converter.support.remote.retries import with_retries
from kuavo_bag_converter.support.remote.urls import explained, file_system

_AT_ONCE = 4
_WAIT_S = 0.5
_WITH_BUCKETS = ('s3', 's3a', 'gs', 'gcs', 'az', 'abfs', 'abfss')


class Upload:
    """
    A folder of another machine that becomes a copy of one here.

    What has been sent is noted in a file, so that a later run goes on from there.
    """

    def __init__(self, url: str, notes: Path, cancel: threading.Event) -> None:
        """
        Look at what is there.

        :param url: The folder.
        :param notes: File in which is noted what has been sent.
        :param cancel: Set it to stop soon.
        :raises UsageError: It cannot be opened, or must not be.
        :raises OutputError: It cannot be reached.
        """
        self._url = url
        self._notes = notes
        self._cancel = cancel
        self._lock = threading.Lock()
        self.interruptions = 0
        """How often sending was interrupted, and begun again."""
        self._fs, self._root = file_system(url)
        self.there = self._listed()
        """What is there, by its path within."""

    def _listed(self) -> dict[str, RemoteFile]:
        try:
            with explained(self._url):
                self._fs.invalidate_cache()
                found = {}
                with suppress(FileNotFoundError):  # which it need not be
                    found = self._fs.find(self._root, detail=True)
                self._check_bucket()
        except BagError as error:
            raise OutputError(str(error)) from None
        start = len(self._root.rstrip('/')) + 1
        return {
            path[start:]: RemoteFile.of(self._url_of(path[start:]), info)
            for path, info in found.items()
        }

    def _check_bucket(self) -> None:
        bucket = self._root.partition('/')[0]
        if bucket and self._url.partition('://')[0] in _WITH_BUCKETS:
            with suppress(PermissionError):  # who may write need not be allowed to look
                if not self._fs.exists(bucket):
                    raise UsageError(f'{masked(self._url)}: there is no bucket {bucket}')

    def _url_of(self, name: str) -> str:
        return f'{masked(self._url).rstrip("/")}/{name}'

    def send(self, folder: Path, last: Sequence[str]) -> None:
        """
        Send the files of a folder; what was sent before and has not changed is left out.

        :param folder: A dataset.
        :param last: What is sent when all else is there, in this order.
        :raises UsageError: Something else is there.
        :raises OutputError: Something cannot be sent.
        :raises Cancelled: The user asked to stop.
        """
        files = {str(path.relative_to(folder)): path for path in _files(folder)}
        for name in sorted(self.there.keys() - files.keys()):
            raise UsageError(
                f'{masked(self._url)}: holds {name}, which is not of the dataset; choose another '
                'output, or empty it'
            )
        sent = self._sent(files)
        left = [name for name in files if name not in sent]
        with ThreadPoolExecutor(_AT_ONCE, 'upload') as pool:
            jobs = [
                pool.submit(self._send, name, files[name]) for name in left if name not in last
            ]
            finished, _ = wait(jobs, return_when=FIRST_EXCEPTION)
            failed = [error for job in finished if (error := job.exception()) is not None]
            if failed:
                pool.shutdown(cancel_futures=True)
                raise next((e for e in failed if not isinstance(e, Cancelled)), failed[0])
        for name in last:
            if name in left:
                self._send(name, files[name])

    def _sent(self, files: dict[str, Path]) -> set[str]:
        """Return what is there already as this machine has sent it."""
        sent: set[str] = set()
        try:
            lines = self._notes.read_text(encoding='utf-8').splitlines()
        except FileNotFoundError:
            return sent
        for line in lines:
            try:
                name, size, changed, identity = json.loads(line)
            except ValueError:  # the last line of a run that was killed
                continue
            there = self.there.get(name)
            status = files[name].stat() if name in files else None
            same = status is not None and (status.st_size, status.st_mtime_ns) == (size, changed)
            if same and there is not None and (there.bytes, there.identity) == (size, identity):
                sent.add(name)
        return sent

    def _send(self, name: str, path: Path) -> None:
        target = f'{self._root.rstrip("/")}/{name}'

        def put() -> RemoteFile:
            with explained(self._url_of(name)):
                self._fs.makedirs(target.rpartition('/')[0], exist_ok=True)
                self._fs.put_file(str(path), target, callback=_stopping(self._cancel))
                self._fs.invalidate_cache()
                return RemoteFile.of(self._url_of(name), self._fs.info(target))

        try:
            now, retries = with_retries(put, BagError, _WAIT_S, self._cancel)
        except (BagError, UsageError) as error:
            raise OutputError(str(error)) from None
        _check(path, now)
        status = path.stat()
        line = json.dumps([name, status.st_size, status.st_mtime_ns, now.identity])
        with self._lock, self._notes.open('a', encoding='utf-8') as notes:
            self.interruptions += retries
            notes.write(line + '\n')


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob('*')) if path.is_file())


def _check(path: Path, there: RemoteFile) -> None:
    """
    Compare what has been sent with what is there.

    :raises OutputError: They differ.
    """
    size = path.stat().st_size
    if there.bytes != size:
        raise OutputError(f'{there.url}: has {there.bytes} bytes, {size} were sent')
    difference = there.difference(path)
    if difference:
        raise OutputError(f'{there.url}: {difference}')


def _stopping(cancel: threading.Event) -> Any:
    """Return what a library calls as it sends, and which stops it."""
    from fsspec.callbacks import Callback

    class Stopping(Callback):  # type: ignore[misc,unused-ignore]
        """Stops a transfer."""

        def call(self, *_: Any, **__: Any) -> None:
            if cancel.is_set():
                raise Cancelled

    return Stopping()
