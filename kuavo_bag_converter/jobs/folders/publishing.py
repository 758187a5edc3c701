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

"""Gives a finished dataset its name, without taking anything away that this run did not make."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
import stat
from typing import NamedTuple

from kuavo_bag_converter.dataset.layout import REPORT_PATH
from kuavo_bag_converter.jobs.folders.atomic_renames import exchange, rename_new
from kuavo_bag_converter.jobs.folders.dataset_files import (
    carry,
    Entry,
    is_at,
    is_of_the_dataset,
    is_rewritten,
    remove_made,
    Snapshot,
    take_snapshot,
)
from kuavo_bag_converter.support.errors import DatasetError, UsageError
from kuavo_bag_converter.support.files import sync, write_text
from kuavo_bag_converter.support.texts import visible

PREVIOUS = 'previous'
"""The dataset that is being replaced, where two folders cannot be swapped at once."""
REPLACEMENT = 'replacement'
"""The dataset that takes the place of another; once swapped, that other one."""
REPLACED = 'replaced.json'
"""What was in the dataset that is being replaced."""
_REFUSED = (errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM)
"""What a folder that must not be moved answers."""


class Published(NamedTuple):
    """Where a finished dataset is."""

    path: Path
    problem: str = ''
    """Why it is not where it was to be, or what is not as it was to be; one line."""


class ReplacedDataset(NamedTuple):
    """A dataset that another one takes the place of; kept in the workspace."""

    snapshot: Snapshot
    """What was in it; nothing if there was none."""
    by: int | None = None
    """The inode of the other one, once it is complete."""

    def write(self, work: Path) -> None:
        """Keep it; the file is complete or not there."""
        temporary = work / 'replaced.tmp'
        write_text(temporary, json.dumps(self))
        temporary.rename(work / REPLACED)
        sync(work)

    @staticmethod
    def read(work: Path) -> ReplacedDataset | None:
        """Read what was kept; None where there is nothing."""
        try:
            snapshot, by = json.loads((work / REPLACED).read_text(encoding='utf-8'))
        except (FileNotFoundError, ValueError):
            return None
        return ReplacedDataset({path: Entry(*entry) for path, entry in snapshot.items()}, by)


def publish_new(dataset: Path, output: Path) -> Published:
    """Give a dataset its name; if something else has it meanwhile, a name beside it."""
    try:
        rename_new(dataset, output)
    except FileExistsError:
        return _beside(dataset, output, 'something was put there while the run went on')
    sync(output.parent)
    return Published(output)


def publish_over(dataset: Path, output: Path, work: Path, snapshot: Snapshot) -> Published:
    """
    Let a dataset take the place of the one that it has grown from.

    What others have added to that one, or changed in files that are not the dataset's, comes
    along. If they have changed the dataset itself, the new one gets a name beside it.

    :param dataset: In ``work``.
    :param output: The dataset to replace.
    :param work: The workspace.
    :param snapshot: What was in ``output`` when ``dataset`` was built on it.
    """
    try:
        now = take_snapshot(output)
    except FileNotFoundError:
        return _beside(dataset, output, 'was moved or removed while episodes were added to it')
    changed = sorted(
        path for path in {*snapshot, *now} if path and snapshot.get(path) != now.get(path)
    )
    own = [path for path in changed if is_of_the_dataset(path)]
    if own or now[''] != snapshot['']:
        what = visible(own[0]) if own else 'the folder'
        return _beside(dataset, output, f'another program changed {what} meanwhile')
    try:
        for path in changed:
            _carry_again(path, output, dataset, snapshot, now)
    except DatasetError as error:
        return _beside(dataset, output, str(error))
    replacement, previous = work / REPLACEMENT, work / PREVIOUS
    ReplacedDataset(now, dataset.stat().st_ino).write(work)
    dataset.rename(replacement)
    sync(work)
    try:
        if not exchange(replacement, output):
            output.rename(previous)
            rename_new(replacement, output)
    except FileExistsError:
        published = _beside(replacement, output, 'something was put there meanwhile')
        kept = _move_beside(previous, output, PREVIOUS)
        return published._replace(problem=f'{published.problem}; the dataset before is {kept}')
    except OSError as error:
        if error.errno not in _REFUSED or not output.exists():
            raise
        return _beside(replacement, output, f'cannot be replaced ({error.strerror})')
    sync(output.parent)
    return Published(output, '; '.join(finish_replacing(work, output)))


def _carry_again(path: str, old: Path, new: Path, snapshot: Snapshot, now: Snapshot) -> None:
    """Bring a file or folder of others to its state of now."""
    target = new / path
    if path in snapshot and stat.S_ISDIR(snapshot[path].kind):
        if path not in now and target.is_dir() and not any(target.iterdir()):
            target.rmdir()
    elif path in snapshot and os.path.lexists(target):
        target.unlink()
    if path not in now:
        return
    if stat.S_ISDIR(now[path].kind):
        target.mkdir(exist_ok=True)
    else:
        carry(old / path, target)


def _beside(dataset: Path, output: Path, reason: str) -> Published:
    place = _move_beside(dataset, output, 'finished')
    return Published(
        place,
        f'{output}: {reason}; it is left alone, and the finished dataset is '
        f'{place}: look at both, and give the one to keep the name',
    )


def _move_beside(folder: Path, output: Path, ending: str) -> Path:
    """Rename a folder to the first free name ``<output>.<ending>``, then ``.2``..."""
    number = 1
    while True:
        name = f'{output.name}.{ending}' + (f'.{number}' if number > 1 else '')
        try:
            rename_new(folder, output.with_name(name))
        except FileExistsError:
            number += 1
            continue
        sync(output.parent)
        return output.with_name(name)


def finish_replacing(work: Path, output: Path) -> list[str]:
    """
    Finish what a run began that replaced a dataset: bring it back, or clear it away.

    :return: Lines about what cannot be cleared away.
    :raises UsageError: The dataset cannot come back, because something else has its place.
    """
    remarks: list[str] = []
    replaced = ReplacedDataset.read(work)
    for name in (PREVIOUS, REPLACEMENT):
        tree = work / name
        if not tree.is_dir() or tree.is_symlink() or not is_replaced(tree, replaced):
            continue
        try:
            there = os.lstat(output).st_ino
        except FileNotFoundError:
            rename_new(tree, output)
            sync(output.parent)
            continue
        if replaced is not None and there != replaced.by:
            raise UsageError(
                f'{output}: something is there in place of the dataset, which is in {tree} since '
                'a run was stopped; move it away, and run the same command again'
            )
        remarks += _clear_away(tree, output, None if replaced is None else replaced.snapshot)
    return remarks


def is_replaced(tree: Path, replaced: ReplacedDataset | None) -> bool:
    """Tell whether a folder of the workspace is the dataset before, not the one after."""
    if replaced is None:  # former versions did not say
        return tree.name == PREVIOUS
    return '' in replaced.snapshot and tree.stat().st_ino == replaced.snapshot[''].inode


def _clear_away(tree: Path, output: Path, snapshot: Snapshot | None) -> list[str]:
    """Delete a dataset that another one has taken the place of; nothing that is only there."""
    newer = (output / REPORT_PATH).exists()

    def is_made(path: str, entry: Entry) -> bool:
        if snapshot is not None:
            return snapshot.get(path) == entry
        return is_at(output / path, entry) or (newer and is_rewritten(path))

    kept = []
    for file in remove_made(tree, is_made):
        path = str(file.relative_to(tree))
        before = None if snapshot is None else snapshot.get(path)
        if is_of_the_dataset(path) or not _move_over(file, output / path, before):
            kept.append(path)
    remove_made(tree, lambda *_: False)
    if not kept:
        return []
    place = _move_beside(tree, output, PREVIOUS)
    return [
        f'{output}: {visible(kept[0])} was changed in the dataset before while '
        f'this one took its place; that file is in {place}'
    ]


def _move_over(file: Path, target: Path, before: Entry | None) -> bool:
    """Move a file of others that was changed at the last moment; tell whether it has a place."""
    if os.path.lexists(target):
        there = os.lstat(target)
        if os.path.samestat(there, os.lstat(file)):
            file.unlink()
            return True
        if before is None or there.st_ino != before.inode:
            return False
        target.unlink()
    try:
        carry(file, target)
    except (OSError, DatasetError):
        return False
    file.unlink()
    return True
