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
Recordings become part of a dataset as soon as they are complete: folders are watched.

What is in the dataset and what failed is known from its record, so that a watch that was ended in
any way goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
import fcntl
import os
from pathlib import Path
import threading
import time

from kuavo_bag_converter.bags.detect import cannot_be_read
from kuavo_bag_converter.bags.discover import is_directory_bag, part_of
from kuavo_bag_converter.bags.rosbag2.directory import natural
from kuavo_bag_converter.dataset.encoders import check_video_options
from kuavo_bag_converter.dataset.hardware import EncoderChoice
from kuavo_bag_converter.frames.options import shard_options
from kuavo_bag_converter.jobs.append import check_is_lerobot, read_before, settings_for
from kuavo_bag_converter.jobs.convert import convert_bags
from kuavo_bag_converter.jobs.folders.dataset_files import take_snapshot
from kuavo_bag_converter.jobs.folders.watched_folders import Watched, WatchedFolders, WatchedStatus
from kuavo_bag_converter.jobs.folders.workspace import InUseError, resolve_output
from kuavo_bag_converter.jobs.labels import check_labels
from kuavo_bag_converter.jobs.report import Observer, Report
from kuavo_bag_converter.jobs.tasks import tasks_of
from kuavo_bag_converter.robots.resolve import RunProfile
from kuavo_bag_converter.settings import setting, Settings
from kuavo_bag_converter.support.errors import Cancelled, OutputError, UsageError
from kuavo_bag_converter.support.places import name_of, url_of
from kuavo_bag_converter.support.priority import PRIORITIES
from kuavo_bag_converter.support.texts import counted, error_text, listed, visible

_SETTLE_S = 2.0
"""A recording that has not changed for so long, and shows that it is complete, is taken."""
_NOTICE_S = 0.2
"""How long a wait goes on without looking whether it is to end."""
_AT_ONCE = 50
"""Recordings that are put into the dataset together, where so many are ready."""
_NAMED = 5
_ADVICE = (
    'its recorder was killed, or its copy has stopped; it is left out until it is complete: mend '
    'it (ros2 bag reindex, rosbag reindex, mcap recover), or watch with on_damage: salvage, which '
    'takes what can be read'
)
_FAILED_BEFORE = 'failed before, and has not changed; retry_failed tries it again'
_LOCK_NOTE = 'kuavo_bag_converter'
"""How the file begins that says who watches for an output."""
_ATTEMPTS = 100


@dataclass(frozen=True)
class WatchOptions:
    """What a watch has beside the settings of its conversions."""

    poll_s: float = setting(2.0, 'Time from one look at the folders to the next, s.', minimum=0.1)
    once: bool = setting(
        False, 'Convert what is complete and end, in place of waiting for more recordings.'
    )
    finish: bool = setting(
        False,
        'When asked to stop (Ctrl-C, SIGTERM), first wait for recordings that are being written, '
        'and convert them.',
    )
    priority: str = setting(
        'low',
        'How the conversion shares processor and disk: low (nice 19), idle (only what nothing '
        'else wants) or normal.',
        choices=PRIORITIES,
    )


@dataclass(frozen=True)
class WatchReport:
    """What a watch has done until it was ended."""

    output: Path
    converted: int
    """Recordings that it has put into the dataset."""
    missing: tuple[str, ...]
    """What of the folders is complete or has lost its writer, and is not in the dataset: lines."""

    @property
    def exit_code(self) -> int:
        """0 if the dataset has every recording that ought to be in it, else 1."""
        return 1 if self.missing else 0

    def __str__(self) -> str:
        text = f'{visible(str(self.output))}: {counted(self.converted, "recording")} added'
        if self.missing:
            text += f'; not in it: {len(self.missing)}'
        return text


def watch(
    settings: Settings,
    options: WatchOptions,
    *,
    observer: Observer | None = None,
    cancel: threading.Event | None = None,
    finish: threading.Event | None = None,
    wake: threading.Event | None = None,
) -> WatchReport:
    """
    Convert the recordings of ``settings.bags`` as they are completed, until asked to stop.

    :param settings: How to convert; the bags are folders, the output is made or added to.
    :param options: How to watch.
    :param observer: Learns how it goes on.
    :param cancel: Set it to end soon; finished bags are kept.
    :param finish: Set it to end when nothing is being recorded and all is converted.
    :param wake: Set it to look at the folders now.
    :return: What has been done.
    :raises UsageError: The settings cannot be carried out, or the output is watched for already.
    :raises OutputError: The disk is full or cannot be written.
    :raises DatasetError: What came out is not complete.
    """
    folders = [Path(folder) for folder in settings.bags]
    _check(settings, folders)
    output = resolve_output(settings.output)
    _check_profile(settings, output)
    with _sole_watch(output, folders):
        return _Watch(
            settings,
            options,
            output,
            observer or Observer(),
            cancel or threading.Event(),
            finish or threading.Event(),
            wake or threading.Event(),
        ).run()


class _Watch:
    def __init__(
        self,
        settings: Settings,
        options: WatchOptions,
        output: Path,
        observer: Observer,
        cancel: threading.Event,
        finish: threading.Event,
        wake: threading.Event,
    ) -> None:
        self._settings = settings
        self._once = options.once
        self._poll_s = options.poll_s
        self._settle_s = min(options.poll_s, _SETTLE_S)
        self._output = output
        self._observer = observer
        self._cancel = cancel
        self._finish = finish
        self._wake = wake
        self._folders = WatchedFolders(
            [Path(folder) for folder in settings.bags],
            output,
            self._settle_s,
            cancel,
            retry_failed=settings.retry_failed,
        )
        self._salvage = settings.on_damage == 'salvage'
        self._said: dict[Path, str] = {}
        """What was said last of a bag or folder that is not converted."""
        self._without_task: dict[Path, str] = {}
        self._interrupted: Sequence[Watched] = ()
        self._converted = 0
        self._stopped = False

    def run(self) -> WatchReport:
        self._observer.note(
            f'watching {listed(map(str, self._settings.bags))} for recordings; those that are '
            f'complete become part of {self._output}'
        )
        while not self._stopped:
            finishing = self._finish.is_set()
            self._folders.look()
            if self._cancel.is_set():
                break
            ready = self._ready()
            self._say()
            unfinished = len(self._folders.with_status('changing', 'written', 'unfinished'))
            self._observer.waiting(len(ready), unfinished)
            if ready:
                self._convert(ready)
            elif self._is_done(finishing):
                self._say_what_is_not_complete()
                break
            else:
                self._wait()
        return WatchReport(self._output, self._converted, tuple(map(visible, self._missing())))

    def _missing(self) -> Iterator[str]:
        """Yield what is not in the dataset though it is complete or has lost its writer."""
        for one in self._folders.with_status('failed'):
            yield f'{one.path}: {one.reason or _FAILED_BEFORE}'
        for one in self._folders.with_status('left'):
            yield f'{one.path}: {one.reason}'
        for path, reason in self._without_task.items():
            yield f'{path}: {reason}'
        for one in self._interrupted:
            if one.status not in ('failed', 'done'):
                yield f'{one.path}: the watch was ended before it was in the dataset'

    def _ready(self) -> list[Watched]:
        """Return what can be converted now, parts of one recording together, oldest first."""
        taken: tuple[WatchedStatus, ...] = ('ready', 'left') if self._salvage else ('ready',)
        found = self._folders.with_status(*taken)
        self._without_task.clear()
        groups: dict[object, list[Watched]] = {}
        for one in filter(lambda one: one.state, found):
            if self._has_task(one):
                part = part_of(one.path)
                family = (one.path.parent, part.name, part.kind) if part else one.path
                groups.setdefault(family, []).append(one)
        ready: list[Watched] = []
        for group in groups.values():
            if len(ready) < _AT_ONCE:
                ready += sorted(group, key=lambda one: natural(one.path))
        return ready

    def _has_task(self, one: Watched) -> bool:
        """Tell whether a recording has the task that ``tasks`` is to give it."""
        try:
            tasks_of(self._settings.tasks, [(one.path,)], lambda _: None)
        except UsageError as error:
            self._without_task[one.path] = error_text(error)
            return False
        return True

    def _convert(self, ready: Sequence[Watched]) -> None:
        exists = os.path.lexists(self._output)
        if not exists:
            # No record has them until there is a dataset.
            ready = [*self._folders.with_status('failed'), *ready]
        settings = replace(
            self._settings,
            bags=tuple(str(one.path) for one in ready),
            append=exists,
            retry_failed=False,
        )
        try:
            report = convert_bags(settings, observer=self._observer, cancel=self._cancel)
        except Cancelled:
            self._interrupted = ready
            return
        except InUseError as error:
            self._say_once(self._output, f'{error}; waits until it has ended')
            self._wait()
            return
        except UsageError:
            gone = not all(os.path.lexists(one.path) for one in ready)
            if gone or os.path.lexists(self._output) != exists:
                return
            if len(ready) == 1:
                raise
            self._convert(ready[:1])  # what stops them together need not be wrong with each
            return
        self._take_outcomes(ready, report)
        self._folders.take_record()

    def _take_outcomes(self, ready: Sequence[Watched], report: Report) -> None:
        outcomes = {path: outcome for outcome in report.outcomes for path in outcome.paths}
        for one in ready:
            outcome = outcomes.get(one.path)
            # What has no outcome is in another one whole.
            one.status = 'done'
            if outcome is None or outcome.status in ('converted', 'kept', 'present'):
                continue
            if not os.path.lexists(one.path):
                self._observer.note(f'{one.path}: has gone meanwhile, which is no fault')
                continue
            one.status, one.reason = 'failed', outcome.reason.removeprefix(f'{one.path}: ')
        self._converted += sum(
            outcome.status in ('converted', 'kept') for outcome in report.outcomes
        )
        if report.problem:
            raise OutputError(report.problem)
        self._stopped = self._settings.on_error == 'stop' and bool(report.failures)

    def _say(self) -> None:
        """Name what is not converted, once, and what to do about it."""
        for folder, reason in self._folders.unreadable.items():
            self._say_once(folder, f'{reason}; looks again every {self._poll_s:g} s')
        for path in self._folders.beside:
            if path not in self._said:
                self._said[path] = 'beside'
                self._observer.note(
                    f'{path}: is a preview or backup of the bag beside it; is left out'
                )
        for path in self._folders.deeper - self._said.keys():
            self._said[path] = 'deeper'
            self._observer.note(
                f'{path}: holds recordings that are not taken: folders are searched one level '
                'deep; give this one, too'
            )
        for path, reason in self._without_task.items():
            self._say_once(path, f'{path}: {reason}')
        for one in self._folders.with_status('written', 'waiting'):
            self._note_once(one, 'waits')
        for one in self._folders.with_status('failed'):
            if not one.reason:
                self._say_once(one.path, f'{one.path}: {_FAILED_BEFORE}')
        for one in self._folders.with_status('left'):
            advice = f'; {_ADVICE}' if one.lack else ''
            if self._salvage and one.state:
                advice = '; what can be read of it is taken (on_damage: salvage)'
            self._say_once(one.path, f'{one.path}: {one.reason}{advice}')

    def _say_what_is_not_complete(self) -> None:
        for one in self._folders.with_status('changing', 'unfinished'):
            one.reason = one.reason or 'has changed just now'
            self._note_once(one, 'is left for the next watch')

    def _note_once(self, one: Watched, what_follows: str) -> None:
        if self._said.get(one.path) != one.reason:
            self._said[one.path] = one.reason
            self._observer.note(f'{one.path}: {one.reason}; {what_follows}')

    def _say_once(self, path: Path, text: str) -> None:
        if self._said.get(path) != text:
            self._said[path] = text
            self._observer.warning(text)

    def _is_done(self, finishing: bool) -> bool:
        """Tell whether all is converted that was to be."""
        if finishing:
            return not any(one.in_work for one in self._folders.all.values())
        if not self._once:
            return False
        now = time.monotonic()
        return not any(
            one.in_work and now - one.first_seen < self._settle_s + _NOTICE_S
            for one in self._folders.all.values()
        )

    def _wait(self) -> None:
        """Wait for the next look."""
        settles = any(one.status == 'changing' for one in self._folders.all.values())
        end = time.monotonic() + (self._settle_s if settles else self._poll_s)
        finishing = self._finish.is_set()
        while (left := end - time.monotonic()) > 0:
            if self._cancel.is_set() or self._finish.is_set() != finishing:
                break
            if self._wake.wait(min(left, _NOTICE_S)):
                self._wake.clear()
                break


def _check(settings: Settings, folders: Sequence[Path]) -> None:
    """
    Refuse at once what no recording would change.

    :raises UsageError: A folder cannot be watched, or a setting means nothing here.
    """
    if not folders:
        raise UsageError('bags: no folder given that is to be watched')
    for folder in folders:
        if url_of(folder):
            raise UsageError(f'{name_of(folder)}: only a folder of this machine can be watched')
        try:
            os.scandir(folder).close()
        except NotADirectoryError:
            raise UsageError(f'{folder}: is no folder; watch the one that it lies in') from None
        except OSError as error:
            raise UsageError(error_text(cannot_be_read(folder, error))) from None
        if is_directory_bag(folder):
            raise UsageError(f'{folder}: is a recording; watch the folder that it lies in')
    if not settings.output:
        raise UsageError('output: no folder given for the dataset')
    if settings.num_used:
        raise UsageError('num_used: a watch takes every recording; leave it out')
    if settings.shard:
        raise UsageError('shard: a watch takes every recording; leave it out')


def _check_profile(settings: Settings, output: Path) -> None:
    """
    Refuse at once settings that fit each other or the dataset not.

    :raises UsageError: They do not.
    """
    check_is_lerobot(settings, output)
    if settings.tasks not in ('', 'folder'):
        tasks_of(settings.tasks, [], lambda _: None)
    check_labels(settings.labels)
    options = shard_options(settings)
    if options.color_cameras == 'encode':
        check_video_options(options.video)
        EncoderChoice(settings.vcodec)
    RunProfile(settings)
    if os.path.lexists(output):
        adding = replace(settings, append=True, retry_failed=False)
        settings_for(adding, read_before(output, take_snapshot(output)))


@contextmanager
def _sole_watch(output: Path, folders: Sequence[Path]) -> Iterator[None]:
    """
    Let no other watch put recordings into a dataset meanwhile; conversions may, between ours.

    :raises UsageError: There is one already, or the file beside the output cannot be made.
    """
    path = output.with_name(output.name + '.watched')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _locked(path)
    except OSError as error:
        raise UsageError(f'{path}: cannot be made: {error.strerror}') from error
    try:
        names = listed(map(str, folders), _NAMED)
        text = f'{_LOCK_NOTE}: process {os.getpid()} watches {names} for {output}\n'
        os.ftruncate(lock, 0)
        os.pwrite(lock, text.encode(errors='backslashreplace'), 0)
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(lock)


def _locked(path: Path) -> int:
    for _ in range(_ATTEMPTS):
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        found = os.pread(lock, 1000, 0).decode(errors='replace').strip()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise UsageError(
                f'{path}: another watch is putting recordings into this dataset ({found}); end '
                'it, or choose another output'
            ) from None
        if found and not found.startswith(_LOCK_NOTE):
            os.close(lock)
            raise UsageError(f'{path}: is a file of something else; move it away')
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), os.lstat(path)):
                return lock
        os.close(lock)  # the watch before has removed it just now
    raise UsageError(f'{path}: cannot be made')
