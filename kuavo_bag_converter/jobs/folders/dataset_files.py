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
What is in the folder of a dataset, and what of it a longer one takes over: all it does not write.

A dataset holds files of others: its card, notes, the modalities of another training library. They
come along as they are; the tables and videos of its episodes do, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import os
from pathlib import Path
import re
import shutil
import stat
from typing import NamedTuple

from kuavo_bag_converter.dataset.layout import (
    EPISODES_PATH_V21,
    EPISODES_STATS_PATH_V21,
    INFO_PATH,
    PROFILE_PATH,
    REPORT_PATH,
    STATS_PATH,
    TASKS_PATH,
    TASKS_PATH_V21,
)
from kuavo_bag_converter.support.errors import DatasetError
from kuavo_bag_converter.support.files import link_or_copy, sync

_REWRITTEN = frozenset(
    (
        INFO_PATH,
        STATS_PATH,
        TASKS_PATH,
        TASKS_PATH_V21,
        EPISODES_PATH_V21,
        EPISODES_STATS_PATH_V21,
        REPORT_PATH,
        PROFILE_PATH,
    )
)
"""Files that every run writes anew."""
_KEPT = re.compile(
    r'data/[^/]+/[^/]+\.parquet|videos/[^/]+/[^/]+/[^/]+\.mp4'
    r'|meta/episodes/[^/]+/[^/]+\.parquet|conversion/alignment/([^/]+/)?[^/]+\.parquet'
)
"""Files of episodes; no run changes those that it finds."""
_TABLES = re.compile(r'conversion/(bags|topics)/file-\d+\.parquet')
"""Files of the record; a run changes those to which it adds."""
_FORMER_ALIGNMENT = re.compile(r'conversion/alignment/[^/]+\.parquet')
"""Where former versions had the alignment of all bags; it moves into folders."""
_LISTS = re.compile(r'/chunk-\d+/file-\d+\.parquet$')
"""How files that list episodes are named."""


class Entry(NamedTuple):
    """What tells that a file, link or folder is still the one that it was."""

    kind: int
    inode: int
    size: int
    changed_ns: int
    """Modification time; 0 of a folder, as is its size."""


Snapshot = dict[str, Entry]
"""Everything in a folder by its path within; the folder itself is ''."""


def take_snapshot(root: Path) -> Snapshot:
    """
    Look at everything in a folder; links are not followed.

    :raises OSError: It cannot be read.
    """
    snapshot = {'': _entry(os.lstat(root))}
    snapshot.update(_entries(root, ''))
    return snapshot


def _entries(root: Path, folder: str) -> Iterator[tuple[str, Entry]]:
    with os.scandir(root / folder) as items:
        for item in items:
            path = os.path.join(folder, item.name)
            try:
                entry = _entry(item.stat(follow_symlinks=False))
            except FileNotFoundError:  # gone meanwhile
                continue
            yield path, entry
            if stat.S_ISDIR(entry.kind):
                yield from _entries(root, path)


def _entry(status: os.stat_result) -> Entry:
    kind = stat.S_IFMT(status.st_mode)
    if stat.S_ISDIR(kind):
        return Entry(kind, status.st_ino, 0, 0)
    return Entry(kind, status.st_ino, status.st_size, status.st_mtime_ns)


def is_of_the_dataset(path: str) -> bool:
    """Tell whether a path in a dataset is LeRobot's or the record's, not a file of others."""
    return is_rewritten(path) or _KEPT.fullmatch(path) is not None


def is_rewritten(path: str) -> bool:
    """Tell whether a run may write the file at a path in a dataset anew."""
    return path in _REWRITTEN or _TABLES.fullmatch(path) is not None


def is_at(place: Path, entry: Entry) -> bool:
    """Tell whether a file or link is (also) at a place."""
    try:
        status = os.lstat(place)
    except OSError:
        return False
    return (stat.S_IFMT(status.st_mode), status.st_ino) == (entry.kind, entry.inode)


def own_files(snapshot: Snapshot) -> Snapshot:
    """Return of what is in a dataset what is LeRobot's or the record's."""
    return {path: entry for path, entry in snapshot.items() if is_of_the_dataset(path)}


def others_in(snapshot: Snapshot) -> list[str]:
    """Return the files and links in a dataset that are none of its own, in order."""
    return sorted(
        path
        for path, entry in snapshot.items()
        if not stat.S_ISDIR(entry.kind) and not is_of_the_dataset(path)
    )


def check_can_be_carried(root: Path, snapshot: Snapshot) -> None:
    """
    Check that a longer dataset can have everything of a dataset at its place.

    :raises DatasetError: Names what cannot.
    """
    disk = root.stat().st_dev
    for path, entry in sorted(snapshot.items()):
        place = root / path
        is_folder = stat.S_ISDIR(entry.kind)
        if is_folder and place.stat().st_dev != disk:
            raise DatasetError(
                f'{place}: is on another disk, where what is in it cannot stay when the dataset '
                'is replaced; unmount it first'
            )
        if is_folder and not os.access(place, os.W_OK | os.X_OK, effective_ids=True):
            raise DatasetError(
                f'{place}: is write-protected; a dataset that is added to must be writable'
            )
        if is_rewritten(path) and not stat.S_ISREG(entry.kind):
            raise DatasetError(f'{place}: is no regular file; the dataset needs one there')
        if path.startswith('meta/episodes/') and _KEPT.fullmatch(path) and not _LISTS.search(path):
            raise DatasetError(f'{place}: would be read as a list of episodes; move it away')
        if not stat.S_ISLNK(entry.kind):
            continue
        if is_of_the_dataset(path) or _holds_episodes(path):
            raise DatasetError(
                f'{place}: is a link; a dataset that is added to needs its own files and folders: '
                'put there what it leads to'
            )


def _holds_episodes(path: str) -> bool:
    """Tell whether new episodes may come to lie below a path."""
    parts = path.split('/')
    depth = {'data': 2, 'videos': 3, 'meta': 1, 'conversion': 3}.get(parts[0], 0)
    return len(parts) <= depth or (parts[:2] == ['meta', 'episodes'] and len(parts) <= 3)


def carry_over(old: Path, new: Path, snapshot: Snapshot) -> None:
    """
    Give everything in a dataset that a longer one does not have a place there; durable.

    Files get a second name by a hard link, or are copied where there are none.

    :raises DatasetError: Something lies where the longer dataset has a file of its own.
    :raises OSError: Something cannot be carried over.
    """
    for path, entry in sorted(snapshot.items()):
        if not stat.S_ISDIR(entry.kind):
            if _FORMER_ALIGNMENT.fullmatch(path) is None:
                carry(old / path, new / path, rewritten=is_rewritten(path))
        elif (new / path).is_symlink() or not (new / path).is_dir():
            _make_folder(new / path)
    for path, entry in sorted(snapshot.items(), reverse=True):
        if stat.S_ISDIR(entry.kind):
            shutil.copystat(old / path, new / path)
            sync(new / path)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir()
    except FileExistsError:
        raise DatasetError(f'{path}: a folder of the dataset lies where a file belongs') from None


def carry(source: Path, target: Path, *, rewritten: bool = False) -> None:
    """
    Give a file or link another place; what is there already must be the same file.

    :raises DatasetError: Another file is there.
    """
    if os.path.lexists(target):
        if not rewritten and not _is_carried(os.lstat(source), os.lstat(target)):
            raise DatasetError(
                f'{source}: lies where a file of the new episodes belongs; move it away'
            )
        return
    try:
        link_or_copy(source, target)
    except NotADirectoryError:
        raise DatasetError(f'{source}: lies below a file of the dataset; move it away') from None


def _is_carried(source: os.stat_result, target: os.stat_result) -> bool:
    """Tell whether a file is another one, or its copy where there are no hard links."""
    copied = _entry(source)._replace(inode=0) == _entry(target)._replace(inode=0)
    return os.path.samestat(source, target) or copied


def remove_made(root: Path, is_made: Callable[[str, Entry], bool]) -> list[Path]:
    """
    Delete from a folder what a run has made, and folders that are empty then.

    :return: What is left, files before the folders that hold them; what cannot be deleted is left.
    """
    left: list[Path] = []
    try:
        snapshot = take_snapshot(root)
    except OSError:
        return left
    for path, entry in sorted(snapshot.items(), reverse=True):
        place = root / path
        try:
            if stat.S_ISDIR(entry.kind):
                place.rmdir()
            elif is_made(path, entry):
                place.unlink()
            else:
                left.append(place)
        except OSError:
            if not stat.S_ISDIR(entry.kind):
                left.append(place)
    return left
