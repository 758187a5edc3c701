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
The recordings in folders that are watched: which are complete, and which are in a dataset.

A look at the folders opens a recording only once after each change; else it asks for names, sizes
and times, of a directory that is done with only for its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
import functools
import os
from pathlib import Path
import threading
import time
from typing import Literal, NamedTuple

from kuavo_bag_converter.bags.completeness import lacks
from kuavo_bag_converter.bags.detect import cannot_be_read
from kuavo_bag_converter.bags.discover import goes_on, is_bag, is_beside_its_bag, part_of
from kuavo_bag_converter.bags.fingerprint import files_of, fingerprint
from kuavo_bag_converter.bags.in_progress import writers_of
from kuavo_bag_converter.bags.rosbag2.directory import natural
from kuavo_bag_converter.dataset.layout import REPORT_PATH
from kuavo_bag_converter.dataset.record import ConversionRecord, read_record
from kuavo_bag_converter.dataset.recorded_bag import RecordedFile
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.texts import error_text

ABANDONED_S = 60.0
"""What is not complete and was not written for so long has lost its writer."""

WatchedStatus = Literal[
    'changing', 'written', 'unfinished', 'left', 'waiting', 'ready', 'failed', 'done'
]

_SETTLED = ('left', 'failed', 'done')
"""What is not looked into again before it changes."""


class _FileState(NamedTuple):
    """What shows that a file or folder has changed."""

    name: str
    bytes: int  # noqa: A003
    modified_ns: int
    changed_ns: int
    """When its content, name or permissions changed, which no copy can set."""
    inode: int


@dataclass(eq=False)
class Watched:
    """A bag file or rosbag2 directory as it was seen last."""

    path: Path
    inode: int
    """Tells it from another one of its name."""
    state: tuple[_FileState, ...]
    """Of it and of what is in it; nothing if it cannot be read."""
    first_seen: float
    unchanged_since: float
    """On the monotonic clock, s, both."""
    status: WatchedStatus = 'changing'
    reason: str = ''
    """Why it is not converted, for a line."""
    lack: str | None = None
    """What it lacks to be complete in this state; None until it was looked into."""

    @property
    def modified_ns(self) -> int:
        """Return when it was written last, 0 if that is not known."""
        return max((one.modified_ns for one in self.state), default=0)

    @property
    def changed_ns(self) -> int:
        """Return when anything of it changed last, 0 if that is not known."""
        return max((one.changed_ns for one in self.state), default=0)

    @property
    def in_work(self) -> bool:
        """Whether somebody writes it, or may."""
        return self.status in ('changing', 'written')

    def is_still(self, inode: int) -> bool:
        """Tell whether what has its name is it, and was not written over."""
        try:
            now = _file_state(self.path.name, self.path.stat())
        except OSError:
            return True  # a link whose recording has gone
        return self.inode == inode and now == self.state[0]


class WatchedFolders:
    """
    What is in some folders.

    :ivar all: Every bag in them, by its path.
    :ivar unreadable: Folders that cannot be read now, each with the reason.
    :ivar beside: Previews and backups of bags in them, which are left out.
    :ivar deeper: Folders in them that hold bags, which are left out.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        output: Path,
        settle_s: float,
        cancel: threading.Event,
        *,
        retry_failed: bool,
    ) -> None:
        """
        Watch folders whose recordings go to the dataset ``output``.

        :param folders: They.
        :param output: The dataset, which need not exist yet.
        :param settle_s: A recording must not have changed for so long.
        :param cancel: Set it to end a look soon, which then has not seen all.
        :param retry_failed: Whether those that failed before count as not tried.
        """
        self.all: dict[Path, Watched] = {}
        self.unreadable: dict[Path, str] = {}
        self.beside: set[Path] = set()
        self.deeper: set[Path] = set()
        self._looked_into: dict[Path, int] = {}
        """Folders in them, with the time of their last change."""
        self._folders = folders
        self._output = output
        self._settle_s = settle_s
        self._cancel = cancel
        self._retry_failed = retry_failed
        self._record_state: tuple[int, ...] = ()
        self._recorded: dict[str, tuple[str, RecordedFile]] = {}
        """By place: what became of its bag, and the file as it was then."""
        self._recorded_ns = 0
        """When the record was written: what has not changed since is what it says by its size."""
        self._known_to_go_on: dict[tuple[Path, int], bool] = {}

    def look(self) -> None:
        """
        Find out what is in the folders now.

        :raises UsageError: The record of the dataset cannot be read.
        """
        if self._state_of_record() != self._record_state:
            self.all.clear()  # somebody else has changed the dataset, or this is the first look
            self.take_record()
        found: dict[Path, Watched] = {}
        beside: set[Path] = set()
        for folder in self._folders:
            try:
                with os.scandir(folder) as entries:
                    inodes = {Path(entry): entry.inode() for entry in entries}
            except OSError as error:
                self.unreadable[folder] = error_text(cannot_be_read(folder, error))
                found |= {path: one for path, one in self.all.items() if path.parent == folder}
                continue
            self.unreadable.pop(folder, None)
            bags = {*inodes, *self._recorded_in(folder)}  # some have gone when they were converted
            beside |= {
                path for path in inodes if path in self.beside or is_beside_its_bag(path, bags)
            }
            for path, inode in inodes.items():
                if self._cancel.is_set():
                    return
                before = self.all.get(path)
                if before is not None and before.status == 'done' and before.is_still(inode):
                    found[path] = before
                elif path not in beside and is_bag(path):
                    found[path] = self._seen(path, inode, before)
                elif path not in self.deeper and self._holds_bags(path):
                    self.deeper.add(path)
        self.beside = beside
        self.all = {path: one for path, one in found.items() if one.state or os.path.lexists(path)}
        self._judge()
        self._hold_back_parts()

    def take_record(self) -> None:
        """
        Read what is in the dataset, and what failed.

        :raises UsageError: The record of the dataset cannot be read.
        """
        self._record_state = self._state_of_record()
        self._recorded_ns = self._record_state[-1]
        try:
            self._recorded = _files_by_place(read_record(self._output))
        except FileNotFoundError:
            self._recorded = {}

    def with_status(self, *statuses: WatchedStatus) -> list[Watched]:
        """Return the bags of these, oldest first: by when they were written last."""
        return sorted(
            (one for one in self.all.values() if one.status in statuses),
            key=lambda one: (one.modified_ns, natural(one.path)),
        )

    def _holds_bags(self, folder: Path) -> bool:
        """Tell whether there are bags in a folder that has changed."""
        try:
            changed_ns = folder.stat().st_mtime_ns
            if self._looked_into.get(folder) == changed_ns:
                return False
            self._looked_into[folder] = changed_ns
            return any(map(is_bag, folder.iterdir()))
        except OSError:  # a file, or it has just gone
            return False

    def _recorded_in(self, folder: Path) -> Iterator[Path]:
        """Yield what the record has of a folder."""
        place = _real(folder)
        for path in self._recorded:
            head, name = os.path.split(path)
            if head == place:
                yield folder / name

    def _state_of_record(self) -> tuple[int, ...]:
        try:
            status = (self._output / REPORT_PATH).stat()
        except OSError:
            return (0,)
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _seen(self, path: Path, inode: int, before: Watched | None) -> Watched:
        """Return a bag as it is now."""
        now = time.monotonic()
        try:
            state = _state_of(path)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not path.is_symlink():
                return Watched(path, inode, (), now, now)  # it, or something in it, has just gone
            reason = error_text(cannot_be_read(path, error)).removeprefix(f'{path}: ')
            return Watched(path, inode, (), now, now, 'left', reason)
        if before is not None and before.state == state:
            return before
        first_seen = now if before is None else before.first_seen
        return Watched(path, inode, state, first_seen, now, self._recorded_status(path))

    def _recorded_status(self, path: Path) -> WatchedStatus:
        """Return ``done`` or ``failed`` if the record has a bag with this content."""
        try:
            files = files_of([path])
            known = [self._recorded[_place(file)] for file in files]
            sizes = [os.path.getsize(file) for file in files]
            if not files or sizes != [file.bytes for _, file in known]:
                return 'changing'
            outcomes = {status for status, _ in known}
            if outcomes == {'converted'}:
                status: WatchedStatus = 'done'
                if max(file.stat().st_ctime_ns for file in files) < self._recorded_ns:
                    return status
            elif 'failed' in outcomes and not self._retry_failed:
                status = 'failed'
            else:
                return 'changing'
            now = fingerprint([path]).key
        except (BagError, OSError, KeyError):
            return 'changing'
        same = now == tuple((file.bytes, file.digest) for _, file in known)
        return status if same else 'changing'

    def _judge(self) -> None:
        """Find out of what does not change whether it is complete and nobody writes it."""
        now = time.monotonic()
        files: dict[Path, Watched] = {}
        for one in tuple(self.all.values()):
            if one.status in _SETTLED or not one.state:
                continue
            if now - one.unchanged_since < self._settle_s or self._cancel.is_set():
                continue
            try:
                if one.lack is None:
                    one.lack = lacks(one.path)
                files |= dict.fromkeys(files_of([one.path]), one)
            except (BagError, OSError) as error:
                if not os.path.lexists(one.path):
                    del self.all[one.path]
                one.status = 'left'
                one.reason = error_text(error).removeprefix(f'{one.path}: ')
        # Together, because each look at all processes takes some milliseconds.
        written = {files[file].path: who for file, who in writers_of([*files]).items()}
        for one in dict.fromkeys(files.values()):
            self._settle(one, written.get(one.path, ''))

    def _settle(self, one: Watched, writer: str) -> None:
        """Set the status of a bag that does not change."""
        if writer:
            one.status, one.reason = 'written', f'is being recorded: {writer}'
        elif not one.lack:
            one.status, one.reason = 'ready', ''
        else:
            unchanged_s = time.monotonic() - one.unchanged_since
            silent_s = max(unchanged_s, time.time() - one.changed_ns / 1e9)
            one.status = 'left' if silent_s >= ABANDONED_S else 'unfinished'
            one.reason = one.lack

    def _hold_back_parts(self) -> None:
        """Let the parts of a recording wait for those that still belong to it."""
        parts = {(path.parent, part_of(path)): one for path, one in self.all.items()}
        numbered = [(folder, part) for folder, part in parts if part is not None]
        # A part that waits lets the one before it wait, too.
        for folder, part in sorted(numbered, key=lambda key: -key[1].number):
            one = parts[folder, part]
            after = parts.get((folder, part._replace(number=part.number + 1)))
            if one.status != 'ready' or after is None:
                continue
            if after.status not in ('ready', 'failed', 'done') and self._goes_on_in(one, after):
                one.status = 'waiting'
                one.reason = f'goes on in {after.path.name}, which is not complete'

    def _goes_on_in(self, one: Watched, after: Watched) -> bool:
        """Tell whether a part that is not complete begins where another ends, or may."""
        if after.in_work and after.path.suffix == '.db3':
            return True  # a reader's lock would end its recorder
        key = one.path, after.inode
        if key not in self._known_to_go_on:
            known = goes_on(one.path, after.path)
            if known is None:  # there is no message in it yet
                return after.in_work
            self._known_to_go_on[key] = known
        return self._known_to_go_on[key]


def _state_of(path: Path) -> tuple[_FileState, ...]:
    """
    Return the state of a file, or of a directory and its entries.

    :raises OSError: The system does not tell.
    """
    states = [_file_state(path.name, path.stat())]
    if os.path.isdir(path):
        with os.scandir(path) as entries:
            states += sorted(_file_state(entry.name, _status_of(entry)) for entry in entries)
    return tuple(states)


def _status_of(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except FileNotFoundError:
        return entry.stat(follow_symlinks=False)  # a link to nothing


def _file_state(name: str, status: os.stat_result) -> _FileState:
    return _FileState(name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _files_by_place(record: ConversionRecord) -> dict[str, tuple[str, RecordedFile]]:
    # What is in the dataset wins over a file of its name that had failed.
    bags = sorted(record.bags, key=lambda bag: bag.converted)
    return {_place(file.path): (bag.status, file) for bag in bags for file in bag.files}


def _place(path: Path) -> str:
    """Return a path without links in its folders, as a record has it."""
    return os.path.join(_real(path.parent), path.name)


_real: Callable[[Path], str] = functools.lru_cache(maxsize=1000)(os.path.realpath)
