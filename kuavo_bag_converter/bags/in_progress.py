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

"""
Whether a recording is still being written; such a one is left alone.

A recorder must not be disturbed: of sqlite3 files no lock is taken, for a recorder that meets one
gives up. Who writes is found by looking: at who has a file open for writing (``/proc``), at who
holds a lock on it, and, where another user's processes do not show, at whether it grows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
import fcntl
import os
from pathlib import Path
import struct
import time
from typing import NamedTuple

from kuavo_bag_converter.bags.byte_readers import BagFile
from kuavo_bag_converter.bags.damage import DamagedError
from kuavo_bag_converter.bags.detect import status_of
from kuavo_bag_converter.bags.mcap.records import MAGIC as MCAP
from kuavo_bag_converter.bags.mcap.summary import has_footer
from kuavo_bag_converter.bags.rosbag1.records import MAGIC as ROSBAG1
from kuavo_bag_converter.bags.rosbag1.storage import has_index
from kuavo_bag_converter.bags.rosbag2.metadata import Metadata, metadata_of, plain_name
from kuavo_bag_converter.bags.sqlite3.storage import logs_beside
from kuavo_bag_converter.support.errors import BagError

_PROCESSES = Path('/proc')
_SQLITE3 = b'SQLite format 3\0'
_LOCKS = 0x40000000, 512
"""The bytes of an sqlite3 file that carry its locks: https://sqlite.org/lockingv3.html."""
_WRITERS_LOCKS = 0x40000000, 2
"""Those of them that only a writer holds."""
_FLOCK = 'hhqqi'
_RECENT_S = 10.0
_GROWTH_S = 1.0
"""How long a file that was written just now is watched for growth."""


class _Writer(NamedTuple):
    """Who writes a file, as far as it shows."""

    file: Path
    who: str


def check_not_in_progress(path: Path, files: Sequence[Path], metadata: Metadata | None) -> None:
    """
    Refuse a recording that is still being written.

    :param path: The recording, for the error.
    :param files: Its files.
    :param metadata: Its metadata.yaml, if it has one that can be read.
    :raises BagError: Names the file, and who writes it.
    """
    for writer in writers_of(files, _listed(metadata or metadata_of(files[0]))).values():
        raise BagError(
            f'{path}: is still being recorded: {writer}; wait until the recording has ended'
        )


def writers_of(files: Sequence[Path], listed: Collection[str] = ()) -> dict[Path, str]:
    """
    Return who writes files, as far as somebody does: by file, a text that names both.

    :param files: They; what is not there has no writer.
    :param listed: Names of those whose completeness is known otherwise; the rest is finished if
        its content says so.
    """
    unfinished = {file for file in files if not _is_finished(file, listed)}
    found = {writer.file: writer for writer in _lock_holders(files, unfinished)}
    found |= {writer.file: writer for writer in _writers(unfinished - found.keys())}
    return {file: f'{file.name} {writer.who}' for file, writer in found.items()}


def is_listed(file: Path) -> bool:
    """Tell whether a metadata.yaml beside a file says that it is complete."""
    return plain_name(file.name) in _listed(metadata_of(file))


def _listed(metadata: Metadata | None) -> set[str]:
    """Return the files that a metadata.yaml lists with messages, which is written last."""
    if metadata is None or not metadata.messages:
        return set()
    return {plain_name(name) for name in metadata.files}


def _is_finished(file: Path, listed: Collection[str]) -> bool:
    """Tell whether a file shows that its writer has ended, whoever has it open now."""
    if plain_name(file.name) in listed:
        return not logs_beside(file)
    try:
        status_of(file)
        source = BagFile(file)
    except BagError:  # which its reader says
        return True
    try:
        begin = source.read(0, min(source.size, len(ROSBAG1)))
        if begin.startswith(MCAP):
            return has_footer(source)
        return begin == ROSBAG1 and file.suffix != '.active' and has_index(source)
    except DamagedError:  # it has just become shorter
        return False
    finally:
        source.close()


def _lock_holders(files: Sequence[Path], unfinished: Collection[Path]) -> Iterator[_Writer]:
    """Yield who holds the locks of sqlite3 files; a reader's count for unfinished ones alone."""
    for file in filter(os.path.isfile, files):  # a pipe would keep its reader waiting
        span = _LOCKS if file in unfinished else _WRITERS_LOCKS
        try:
            with file.open('rb') as stream:
                if stream.read(len(_SQLITE3)) != _SQLITE3:
                    continue
                query = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, *span, 0)
                found = fcntl.fcntl(stream, fcntl.F_GETLK, query)
        except OSError:  # a file system without locks
            continue
        kind, *_, process = struct.unpack(_FLOCK, found)
        if kind != fcntl.F_UNLCK:
            yield _Writer(file, f'is locked by {_named(process)}')


def _writers(files: Iterable[Path]) -> Iterator[_Writer]:
    """Yield the processes that have files open for writing, and the files that grow."""
    statuses = dict(_statuses(files))
    wanted: dict[tuple[int, int] | None, Path] = {
        (status.st_dev, status.st_ino): file for file, status in statuses.items()
    }
    hidden = False
    for process in _PROCESSES.glob('[0-9]*'):
        if not wanted:
            return
        try:
            entries = list(os.scandir(process / 'fd'))
        except PermissionError:
            hidden = True
            continue
        except OSError:
            continue
        for entry in entries:
            key = _file_of(entry)
            if key in wanted and _is_for_writing(entry):
                who = f'is open for writing in {_named(int(process.name))}'
                yield _Writer(wanted.pop(key), who)
    # Whoever has made our own file is one of us, and would have been seen.
    foreign = [
        file for file in wanted.values() if hidden and statuses[file].st_uid != os.geteuid()
    ]
    yield from _growing(foreign)


def _growing(files: Sequence[Path]) -> Iterator[_Writer]:
    now = time.time()
    recent = {
        file: status for file, status in _statuses(files) if abs(now - status.st_mtime) < _RECENT_S
    }
    if not recent:
        return
    time.sleep(_GROWTH_S)
    for file, after in _statuses(recent):
        before = recent[file]
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            yield _Writer(file, 'grows')


def _statuses(files: Iterable[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    for file in files:
        with suppress(OSError):  # it has gone
            yield file, file.stat()


def _file_of(descriptor: os.DirEntry[str]) -> tuple[int, int] | None:
    """Return device and number of the file of a process's descriptor, None of a closed one."""
    try:
        status = descriptor.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_for_writing(descriptor: os.DirEntry[str]) -> bool:
    info = Path(descriptor.path).parent.with_name('fdinfo') / descriptor.name
    try:
        lines = info.read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith('flags:')), 'flags: 0')
    return int(flags.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY


def _named(process: int) -> str:
    """Name a process, by number alone where it lives in another container."""
    try:
        name = (_PROCESSES / str(process) / 'comm').read_text(errors='replace').strip()
    except OSError:
        return f'process {process}' if process > 0 else 'a process of another machine'
    return f'{name} (process {process})'
