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

"""A dataset whose place is a URL: it is made here, and sent when it is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
import fcntl
import hashlib
import json
import os
from pathlib import Path, PurePosixPath
import shutil
import threading
import time
from typing import Any

from kuavo_bag_converter.dataset.layout import INFO_PATH, REPORT_PATH
from kuavo_bag_converter.dataset.record import read_record
from kuavo_bag_converter.jobs.folders.configuration import configuration
from kuavo_bag_converter.jobs.folders.workspace import InUseError
from kuavo_bag_converter.jobs.report import Observer, Outcome, Report
from kuavo_bag_converter.settings import Settings
from kuavo_bag_converter.support.errors import Cancelled, OutputError, UsageError
from kuavo_bag_converter.support.files import total_bytes, write_text
from kuavo_bag_converter.support.places import masked, plain_url
from kuavo_bag_converter.support.process import peak_memory_mb
from kuavo_bag_converter.support.remote.spool import Spool
from kuavo_bag_converter.support.remote.upload import Upload
from kuavo_bag_converter.support.remote.urls import remember
from kuavo_bag_converter.support.texts import counted

_MADE_OF = 'made_of.json'
_SENT = 'sent.jsonl'


def convert_to_url(
    settings: Settings,
    convert: Callable[[Settings], Report],
    observer: Observer,
    cancel: threading.Event,
) -> Report:
    """
    Convert in the folder of the spool, and send the dataset to ``settings.output``.

    :param settings: What to do.
    :param convert: Converts to a folder of this machine.
    :param observer: Is told how it goes on.
    :param cancel: Set it to stop soon.
    :raises UsageError: The settings cannot be carried out, or something is at that place.
    :raises OutputError: The place cannot be reached or written.
    :raises Cancelled: ``cancel`` was set.
    """
    started = time.monotonic()
    remember([settings.output])
    url = plain_url(settings.output).rstrip('/')
    if settings.append or settings.retry_failed:
        raise UsageError(
            f'{url}: lies on another machine, where no bags can be added to a dataset; copy it '
            'here, add to it, and send it to another URL'
        )
    if settings.shard:
        raise UsageError(f'shard: needs an output on a disk that all shards share, found {url}')
    digest = hashlib.blake2b(url.encode(), digest_size=8).hexdigest()
    folder = Spool(settings.spool_dir, settings.spool_mb).prepare() / f'output-{digest}'
    dataset = folder / (PurePosixPath(url).name or 'dataset')
    with _locked(folder, url):
        upload = Upload(url, folder / _SENT, cancel)
        made_of = _made_of(settings)
        if dataset.exists():
            report = _finished(dataset, folder / _MADE_OF, made_of, url)
            observer.note(f'{url}: was converted before; what is left of it is sent')
        else:
            if upload.there:
                raise UsageError(
                    f'{url}: exists already, with {next(iter(sorted(upload.there)))}; choose '
                    'another output, or remove it'
                )
            (folder / _SENT).unlink(missing_ok=True)
            write_text(folder / _MADE_OF, json.dumps(made_of))
            report = convert(replace(settings, output=str(dataset)))
        if dataset.exists():
            _send(upload, dataset, url, observer)
    seconds = time.monotonic() - started
    return replace(report, output=Path(url), seconds=seconds)


def _made_of(settings: Settings) -> dict[str, Any]:
    """Return what tells whether two runs make the same dataset."""
    bags = {'bags': list(map(masked, settings.bags)), 'drawn': (settings.num_used, settings.seed)}
    document: dict[str, Any] = json.loads(json.dumps(configuration(settings) | bags))
    return document


def _finished(dataset: Path, file: Path, made_of: Mapping[str, Any], url: str) -> Report:
    """
    Return the report of a dataset that is made, but was not sent whole.

    :raises UsageError: It is made otherwise than this run would make it.
    """
    try:
        before = json.loads(file.read_text(encoding='utf-8'))
        record = read_record(dataset)
    except (OSError, ValueError):
        before = record = None
    if record is None or before != made_of:
        raise UsageError(
            f'{dataset}: is of another run, which was stopped while it sent this to {url}; give '
            'the same bags and settings to go on, or remove it'
        )
    outcomes = tuple(
        Outcome(
            bag.name,
            'kept' if bag.converted else 'failed',
            bag.reason,
            episodes=bag.episodes,
            frames=bag.frames,
            paths=bag.paths,
            problems=bag.details.problems,
            task=bag.task,
        )
        for bag in record.bags
    )
    return Report(dataset, outcomes, 0.0, peak_memory_mb(), ())


def _send(upload: Upload, dataset: Path, url: str, observer: Observer) -> None:
    """Send a dataset, and remove it here."""
    observer.note(f'sending {total_bytes([dataset]) / 1e6:.1f} MB to {url}')
    # LeRobot's readers begin with info.json: without it there is no dataset.
    last = [path for path in (REPORT_PATH, INFO_PATH) if (dataset / path).exists()]
    try:
        upload.send(dataset, last)
    except Cancelled:
        raise Cancelled(f'the dataset is whole in {dataset}, and is not sent yet') from None
    except OutputError as error:
        raise OutputError(
            f'{error}; the dataset is whole in {dataset}: run the same command again to send '
            'what is left'
        ) from None
    if upload.interruptions:
        observer.note(f'sent after {counted(upload.interruptions, "interruption")}')
    shutil.rmtree(dataset)


@contextmanager
def _locked(folder: Path, url: str) -> Iterator[None]:
    """
    Let no other run of this machine write to the same place.

    :raises InUseError: Another one does.
    """
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InUseError(f'{url}: another conversion is writing here') from None
        try:
            yield
        finally:
            if {*os.listdir(folder)} <= {_MADE_OF, _SENT}:
                shutil.rmtree(folder)
    finally:
        os.close(descriptor)
