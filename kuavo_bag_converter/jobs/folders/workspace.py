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

"""The folder beside the output where a run keeps its work until the dataset is complete."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
import fcntl
import json
import os
from pathlib import Path
import re
import shutil
from typing import Any

from kuavo_bag_converter.dataset.layout import INFO_PATH, MODALITY_PATH, REPORT_PATH
from kuavo_bag_converter.dataset.shard import MANIFEST
from kuavo_bag_converter.jobs.folders.atomic_renames import rename_new
from kuavo_bag_converter.jobs.folders.configuration import differences, of_today
from kuavo_bag_converter.jobs.folders.dataset_files import (
    Entry,
    is_at,
    is_of_the_dataset,
    remove_made,
    Snapshot,
    take_snapshot,
)
from kuavo_bag_converter.jobs.folders.publishing import (
    finish_replacing,
    is_replaced,
    PREVIOUS,
    publish_new,
    publish_over,
    Published,
    REPLACED,
    ReplacedDataset,
    REPLACEMENT,
)
from kuavo_bag_converter.jobs.folders.shard_folder import ShardFolder
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.files import sync, write_text
from kuavo_bag_converter.support.places import is_url, masked, without_file_scheme
from kuavo_bag_converter.support.texts import visible

_NOTE = """\
This folder holds an unfinished conversion by kuavo_bag_converter. Run the same command again and
it goes on from here; delete the folder to begin anew. It is not a dataset.

If there is a folder "previous" in it and the dataset beside it is gone, "previous" is that
dataset: the next run, or you, can move it back.
"""
_PART_NOTE = """\
This folder holds a finished part of a conversion by kuavo_bag_converter, which the command
assemble joins with the others to a dataset. Delete it to convert its bags anew.
"""
PART = 'part.json'
"""What a finished part of a run holds."""
PART_SETTINGS = 'settings.yaml'
"""The settings of a part, as a file of ROS parameters."""
_README = 'README.txt'
_CONFIGURATION = 'configuration.json'
_DATASET = 'dataset'
_BY_PLUGIN = 'by_plugin'
"""A dataset that a plug-in is writing; removed as a whole."""
_DATASETS = re.compile(r'dataset(\.\d+)?')
_SMALL_FILES = (
    PART,
    PART_SETTINGS,
    _README,
    REPLACED,
    'replaced.tmp',
    'configuration.tmp',
    _CONFIGURATION,
)
"""Removed in this order: the last one tells whose folder it is."""
_ATTEMPTS = 100


class InUseError(UsageError):
    """Another run is writing to the output; later it may not be."""


class Workspace:
    """
    ``<output>.unfinished``: a shard for each finished bag, and what the run was asked for.

    Only one run may use it at a time. It disappears when the dataset is complete, or when a run
    ends without a single finished shard. What this converter did not make in it stays.
    """

    def __init__(self, output: Path, *, adding: bool = False) -> None:
        """
        Open or make the workspace of ``output`` and lock it; nothing is in it yet.

        A dataset that a killed run was about to replace is brought back.

        :param output: The dataset's root, without links; must not exist, or must if ``adding``.
        :param adding: The dataset is going to be replaced by a longer one.
        :raises UsageError: The output exists or does not, cannot be made, is in use by another
            run, or its workspace is something else.
        """
        self.output = output
        self.root = output.with_name(output.name + '.unfinished')
        self.shards = ShardFolder(self.root / 'shards')
        self.notes: list[str] = []
        """What became of the work of former runs, in lines."""
        self._adding = adding
        self._made_parents: list[Path] = []
        if not os.path.lexists(self.root):
            self._check_output()
        self._lock = self._locked()
        try:
            self._check_owner()
            self.notes += finish_replacing(self.root, output)
        except BaseException:
            os.close(self._lock)
            raise
        try:
            if self._is_published():
                self._clear()
            self._check_output()
        except BaseException:
            self.close()
            raise

    def _check_output(self) -> None:
        output = self.output
        if not self._adding:
            if os.path.lexists(output):
                raise UsageError(
                    f'{output}: exists already; choose another output, remove it, or set append'
                )
        elif not (output / INFO_PATH).exists():
            raise UsageError(
                f'{output}: is no dataset to append to; only a dataset that this converter made '
                'can be added to'
            )
        elif os.path.ismount(output) or output.stat().st_dev != output.parent.stat().st_dev:
            raise UsageError(
                f'{output}: is a disk of its own, which a longer dataset cannot take the place '
                'of; move the dataset to a folder on it'
            )

    def _locked(self) -> int:
        """Make the folder if it is missing and lock it; return its descriptor."""
        for _ in range(_ATTEMPTS):
            try:
                self._made_parents = _make_folders(self.root.parent) or self._made_parents
                self.root.mkdir(exist_ok=True)
                lock = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue  # another run has just removed it
            except OSError as error:
                if os.path.islink(self.root) or os.path.isfile(self.root):
                    raise self._foreign('it is no folder') from error
                self._remove_parents()
                raise UsageError(f'{self.root}: cannot be made: {error.strerror}') from error
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock), os.lstat(self.root)):
                    return lock
            except FileNotFoundError:
                pass
            except OSError as error:
                os.close(lock)
                raise InUseError(f'{self.root}: another conversion is writing here') from error
            os.close(lock)  # another run has removed the folder in between
        raise UsageError(f'{self.root}: cannot be made')

    def _is_published(self) -> bool:
        """Tell whether the run that left all this was killed when its dataset had its name."""
        replaced = ReplacedDataset.read(self.root)
        if replaced is None or replaced.by is None or not os.path.lexists(self.output):
            return False
        return os.lstat(self.output).st_ino == replaced.by

    def _check_owner(self) -> None:
        """
        Take the folder only if a run of this converter has made it.

        :raises UsageError: It holds something else.
        """
        entries = sorted(os.listdir(self.root))
        if _CONFIGURATION in entries:
            before = _read_configuration(self.root / _CONFIGURATION)
            if {'version', 'profile'} <= before.keys():
                return
            raise self._foreign(f'its {_CONFIGURATION} is of something else')
        for name in entries:
            if not _is_begun(self.root / name):
                raise self._foreign(f'it holds {visible(name)}')

    def _foreign(self, why: str) -> UsageError:
        return UsageError(
            f'{self.root}: is not of a conversion ({why}), and the work of this run would go '
            'there; move it away, or choose another output'
        )

    def prepare(self, configuration: Mapping[str, object], *, redo: bool = False) -> None:
        """
        Take over the finished shards of an unfinished run with the same configuration.

        :param configuration: Everything that shapes the dataset, as JSON can hold it.
        :param redo: Throw away what a run with another configuration left, in place of refusing.
        :raises UsageError: An unfinished run had another configuration.
        """
        self._check(configuration, redo=redo)
        self.notes += self.shards.take_over()
        self._remove_datasets()
        (self.root / REPLACED).unlink(missing_ok=True)

    def dataset_path(self, *, by_plugin: bool = False) -> Path:
        """Return a free place for the dataset that is being put together."""
        self._remove_datasets()
        return self.root / _BY_PLUGIN if by_plugin else self._free_name()

    def _free_name(self) -> Path:
        """Return where a dataset can be: others may have put files where one was."""
        names = [_DATASET, *(f'{_DATASET}.{number}' for number in range(2, _ATTEMPTS))]
        return next(self.root / name for name in names if not os.path.lexists(self.root / name))

    def begin_replacing(self) -> Snapshot:
        """Return what is in the dataset that a longer one is going to be built on."""
        snapshot = take_snapshot(self.output)
        ReplacedDataset(snapshot).write(self.root)
        return snapshot

    def publish(self, dataset: Path, snapshot: Snapshot | None = None) -> Published:
        """
        Give the complete dataset its name; the workspace is gone afterwards.

        :param dataset: It, in the workspace.
        :param snapshot: What was in the dataset that it has grown from, if it has.
        """
        if snapshot is None:
            ReplacedDataset({}, dataset.stat().st_ino).write(self.root)
            published = publish_new(dataset, self.output)
        else:
            published = publish_over(dataset, self.output, self.root, snapshot)
        self.remove()
        try:
            os.getcwd()
        except FileNotFoundError:
            self.notes.append(
                f'{self.output}: is a new folder, to which a shell that was in the one before '
                'must change again (cd)'
            )
        return published

    def keep_as_part(self) -> None:
        """Give the workspace, which holds a finished part of a run, the name of the output."""
        write_text(self.root / _README, _PART_NOTE)
        sync(self.root)
        rename_new(self.root, self.output)
        sync(self.output.parent)

    def remove(self) -> None:
        """Delete the workspace, but for what this converter did not make."""
        self._clear()
        with suppress(OSError):
            left = sorted(os.listdir(self.root))
            if left:
                names = visible(', '.join(left))
                self.notes.append(f'{self.root}: is left, for {names}, which no conversion made')
            else:
                self.root.rmdir()

    def _clear(self) -> None:
        # The shards first: without them, what is left is not taken for work to go on with.
        self.shards.clear()
        self._remove_datasets()
        with suppress(OSError):
            for name in _SMALL_FILES:
                (self.root / name).unlink(missing_ok=True)

    def _remove_datasets(self) -> None:
        """Delete datasets that have not become the output."""
        shutil.rmtree(self.root / _BY_PLUGIN, ignore_errors=True)
        replaced = ReplacedDataset.read(self.root)

        def is_made(path: str, entry: Entry) -> bool:
            before = None if replaced is None else replaced.snapshot.get(path)
            carried = before is not None and before._replace(inode=entry.inode) == entry
            made = is_of_the_dataset(path) or path == MODALITY_PATH
            return made or carried or is_at(self.output / path, entry)

        for tree in list(self.root.iterdir()):
            ours = tree.name == REPLACEMENT or _DATASETS.fullmatch(tree.name)
            if ours and tree.is_dir() and not is_replaced(tree, replaced):
                remove_made(tree, is_made)
                if tree.name == REPLACEMENT and tree.exists():
                    tree.rename(self._free_name())

    def close(self) -> None:
        """Let go of the workspace; without a finished shard it is removed."""
        with suppress(OSError):
            if not any(self.shards.path.glob(f'*/{MANIFEST}')):
                self.remove()
        if not os.path.lexists(self.output):
            self._remove_parents()
        os.close(self._lock)

    def _remove_parents(self) -> None:
        with suppress(OSError):
            for folder in reversed(self._made_parents):
                folder.rmdir()

    def _check(self, configuration: Mapping[str, object], *, redo: bool) -> None:
        job = self.root / _CONFIGURATION
        if job.exists():
            differing = differences(of_today(_read_configuration(job)), configuration)
            if not differing:
                return
            if not redo:
                raise UsageError(
                    f'{self.root}: an unfinished run has other settings ({differing}); use the '
                    'same ones to go on, set on_change: redo, or remove that folder'
                )
            for shard in self.shards.path.glob('*'):
                self.shards.remove(shard)
        write_text(self.root / _README, _NOTE)
        temporary = job.with_suffix('.tmp')
        write_text(temporary, json.dumps(configuration, indent=2))
        temporary.rename(job)
        sync(self.root)

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def remove_part(folder: Path) -> str:
    """Delete a finished part, but for what this converter did not make; say what is left."""
    ShardFolder(folder / 'shards').clear()
    with suppress(OSError):
        for name in _SMALL_FILES:
            (folder / name).unlink(missing_ok=True)
        left = visible(', '.join(sorted(os.listdir(folder))))
        if left:
            return f'{folder}: is left, for {left}, which no conversion made'
        folder.rmdir()
    return ''


def resolve_output(output: str) -> Path:
    """
    Return the folder of a dataset without links: one to another disk is written there.

    :raises UsageError: It is no place for a dataset.
    """
    output = without_file_scheme(output)
    if is_url(output) or output.startswith('file://'):
        raise UsageError(f'output: {masked(output)}: expected a folder of this machine, no URL')
    try:
        path = Path(os.path.realpath(output))
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError(
            f'output: {output}: has a name that is not UTF-8, which a dataset cannot '
            'have; choose another output'
        ) from None
    except OSError as error:
        raise UsageError(f'output: {output}: cannot be found: {error.strerror}') from error
    if not path.name:
        raise UsageError(f'output: {path}: expected a folder for the dataset, found the root')
    return path


def _read_configuration(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _is_begun(path: Path) -> bool:
    """Tell whether a run has made this before it could say so, or after it had done its work."""
    if path.name == PREVIOUS:
        return (path / REPORT_PATH).exists()
    if path.name == 'shards':
        return path.is_dir() and not any(path.iterdir())
    if path.name == _README:
        return path.is_file() and _NOTE.encode().startswith(path.read_bytes())
    return path.name == 'configuration.tmp'


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder with its parents; return those that were not there, outermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return list(reversed(missing))
