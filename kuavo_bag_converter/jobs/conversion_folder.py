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

"""Writes the folder ``conversion/`` of a dataset: how it was made, and from what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
import os
from pathlib import Path
import re
import tempfile
from typing import Any

from kuavo_bag_converter.alignment.alignment_file import ALIGNMENT
from kuavo_bag_converter.alignment.report import PlanReport
from kuavo_bag_converter.bags.fingerprint import files_of, Fingerprint, fingerprint
from kuavo_bag_converter.dataset.layout import (
    ALIGNMENT_PATH,
    alignment_path,
    PROFILE_PATH,
    REPORT_PATH,
)
from kuavo_bag_converter.dataset.record import ConversionRecord, write_record
from kuavo_bag_converter.dataset.recorded_bag import (
    as_recorded,
    BagDetails,
    RecordedBag,
    RecordedFile,
)
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.jobs.append import ExistingDataset
from kuavo_bag_converter.jobs.finished_shards import FinishedShards
from kuavo_bag_converter.jobs.report import Outcome
from kuavo_bag_converter.jobs.shard import Origin
from kuavo_bag_converter.profiles.dump import profile_as_yaml
from kuavo_bag_converter.profiles.loader import read_profile
from kuavo_bag_converter.profiles.model import IN_DATASET, Profile
from kuavo_bag_converter.settings import OF_A_RUN, recorded_values, Settings
from kuavo_bag_converter.support.errors import BagError, UsageError
from kuavo_bag_converter.support.files import link_or_copy, sync, sync_tree, write_text
from kuavo_bag_converter.support.places import with_urls
from kuavo_bag_converter.support.texts import visible

_BEGIN = re.compile(r'(?<![\w.~/-])/')
"""Where a path in a text may begin."""
_REST = re.compile(r'[^\s:;,\'"]*')
"""What follows the folders of a path that are known."""
_IN_ROOT = 2
"""Parts of a path to what lies in the root folder."""


def write_conversion_folder(
    folder: Path,
    root: Path,
    settings: Settings,
    profile: Profile,
    outcomes: Sequence[Outcome],
    shards: FinishedShards,
    before: ExistingDataset | None = None,
) -> None:
    """
    Write ``report.json`` and the tables beside it, ``profile.yaml``, the alignment of each bag.

    They are durable on return. See :mod:`.alignment_file` for the last.

    :param folder: The dataset as it is being put together.
    :param root: Where it is going to be, without links; paths are recorded relative to it.
    :param settings: It was made with them.
    :param profile: What a frame is made of.
    :param outcomes: Of the bags of this run.
    :param shards: Of the converted ones.
    :param before: The dataset whose episodes come first; a bag that failed there takes its old
        place in the list.
    """
    if before is not None and before.record.alignment_path != ALIGNMENT_PATH:
        for bag in before.record.bags:
            if (before.root / bag.alignment_path).exists():
                link_or_copy(before.root / bag.alignment_path, folder / alignment_path(bag.number))
    bags = _Bags(root, settings, profile, outcomes, before)
    write_record(
        folder,
        root,
        _recorded_settings(settings),
        bags.recorded(shards, folder),
        profile.fps,
        bags.before,
    )
    _write_profile(folder, root, profile, before)
    sync_tree((folder / REPORT_PATH).parent)


def write_failures(
    folder: Path,
    root: Path,
    settings: Settings,
    outcomes: Sequence[Outcome],
    before: ExistingDataset,
) -> None:
    """
    Write the record of a dataset to which nothing was added, with the bags that failed.

    :param folder: Where to; the record alone is written there.
    :param root: The dataset.
    :param settings: Of the run.
    :param outcomes: Of its bags, of which none is converted.
    :param before: The dataset.
    """
    profile = read_profile(root / PROFILE_PATH)
    bags = _Bags(root, settings, profile, outcomes, before)
    write_record(
        folder,
        root,
        before.record.settings,
        bags.recorded(FinishedShards((), ()), folder),
        profile.fps,
        bags.before,
        before.record.alignment_path,
    )


def replace_record(folder: Path, root: Path) -> None:
    """
    Let the record in a folder take the place of that of a dataset; durable.

    A reader, or who is stopped in between, finds tables with bags that the summary does not count
    yet, which is as good a record.
    """
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    files.sort(key=lambda file: file == folder / REPORT_PATH)
    for file in files:
        place = root / file.relative_to(folder)
        if not place.exists() or not file.samefile(place):
            sync(file)
            place.parent.mkdir(exist_ok=True)
            file.replace(place)
            sync(place.parent)
    sync((root / REPORT_PATH).parent)


class _Bags:
    """The bags of a run as the record has them, and those before."""

    def __init__(
        self,
        root: Path,
        settings: Settings,
        profile: Profile,
        outcomes: Sequence[Outcome],
        before: ExistingDataset | None,
    ) -> None:
        self._task = profile.task
        self._texts = _Texts(root, settings, profile, outcomes)
        self.before = None if before is None else _with_tasks(before)
        first = 0 if before is None else before.episodes
        number = 0 if before is None else len(before.record.bags)
        self._placed: list[tuple[int, int, Outcome]] = []
        """Number and first episode of each, in the order of numbers."""
        for outcome in outcomes:
            if outcome.status == 'present':
                continue
            place = number if outcome.recorded is None else outcome.recorded
            number += outcome.recorded is None
            self._placed.append((place, first, outcome))
            first += outcome.episodes
        self._placed.sort(key=lambda placed: placed[0])

    def recorded(self, shards: FinishedShards, folder: Path) -> Iterator[RecordedBag]:
        """Yield them in order, and give the alignment of each its place in the dataset."""
        for number, first, outcome in self._placed:
            shard = shards.read(outcome)
            if shard is not None:
                link_or_copy(shard.attachment(ALIGNMENT), folder / alignment_path(number))
            task = outcome.task or self._task
            yield _recorded(outcome, number, first, shard, self._texts, task)


def _with_tasks(before: ExistingDataset) -> ConversionRecord:
    """Return a record with the tasks of bags, which former versions did not tell."""
    record = before.record
    if all(bag.task for bag in record.bags):
        return record
    task = read_profile(before.root / PROFILE_PATH).task
    bags = tuple(replace(bag, task=bag.task or task) for bag in record.bags)
    return replace(record, bags=bags)


def _recorded(
    outcome: Outcome,
    number: int,
    first_episode: int,
    shard: Shard | None,
    texts: _Texts,
    task: str,
) -> RecordedBag:
    origin = None if shard is None else Origin.of(shard)
    known = None if origin is None else origin.fingerprint
    plan = PlanReport() if origin is None else origin.plan
    details = BagDetails(
        tuple(map(texts.without_places, outcome.problems)),
        PlanReport.from_json(texts.without_places(plan.as_json())),
        {} if origin is None else origin.calibration,
        () if origin is None else origin.topics,
        {**({} if shard is None else shard.labels), **dict(outcome.labels)},
        {} if shard is None else {k: v.encoder for k, v in shard.videos.items() if v.encoder},
        outcome.ranges if origin is None else origin.ranges,
    )
    return RecordedBag(
        number,
        outcome.paths[0],
        tuple(_recorded_files(outcome.paths, known)),
        # Whether an interrupted run was continued must not show in the dataset.
        'converted' if outcome.status == 'kept' else outcome.status,
        texts.without_places(outcome.reason),
        first_episode,
        outcome.episodes,
        outcome.frames,
        task,
        alignment_path(number),
        lambda: details,
    )


def _recorded_files(paths: Sequence[Path], known: Fingerprint | None) -> Iterator[RecordedFile]:
    """Yield what is recorded of the files of a bag, as far as they can be read."""
    try:
        found = known or fingerprint(paths)
        for path, file in zip(files_of(paths), found.files, strict=False):
            yield RecordedFile(path, file.bytes, file.digest)
    except BagError:
        for path in paths:
            if not os.path.isdir(path):
                yield RecordedFile(path, -1, '')


def _recorded_settings(settings: Settings) -> dict[str, Any]:
    values = recorded_values(settings)
    return {name: value for name, value in values.items() if name not in OF_A_RUN}


def _movable(profile: Profile, root: Path) -> Profile:
    """Return a profile that names no place of the machine."""
    marks = profile.episodes.marks_file
    if not os.path.isabs(marks):
        return profile
    place = f'{IN_DATASET}{os.path.relpath(marks, root)}'
    return replace(profile, episodes=replace(profile.episodes, marks_file=place))


def _write_profile(
    folder: Path, root: Path, profile: Profile, before: ExistingDataset | None
) -> None:
    """Write the profile; a file that says the same stays, with the comments that it may have."""
    if before is not None and _says(before.root / PROFILE_PATH, profile):
        link_or_copy(before.root / PROFILE_PATH, folder / PROFILE_PATH)
    else:
        write_text(folder / PROFILE_PATH, profile_as_yaml(_movable(profile, root)))


def _says(path: Path, profile: Profile) -> bool:
    """Tell whether a file holds a profile, but for its name and the task, which bags keep."""
    try:
        found = read_profile(path)
        return found == replace(profile, name=found.name, task=found.task)
    except UsageError:
        return False


class _Texts:
    """Makes the absolute paths in texts relative to the dataset."""

    def __init__(
        self, root: Path, settings: Settings, profile: Profile, outcomes: Iterable[Outcome]
    ) -> None:
        paths = [path for outcome in outcomes for path in outcome.paths]
        paths += [Path(os.readlink(path)) for path in paths if os.path.islink(path)]
        folders = {path.parent for path in paths} | {root, root.parent, Path.cwd()}
        folders |= {Path(folder) for folder in settings.msg_path}
        folders |= {Path(profile.episodes.marks_file).parent, Path(settings.profile).parent}
        folders |= {Path(os.path.expanduser('~')), Path(tempfile.gettempdir())}
        folders |= {Path(os.path.realpath(folder)) for folder in folders}
        self._root = root
        self._folders = {
            f'{visible(str(folder))}/': folder
            for folder in folders
            if folder.is_absolute() and folder.name
        }
        self._lengths = sorted({*map(len, self._folders)}, reverse=True)

    def without_places(self, value: Any) -> Any:
        """Return a JSON value whose texts name no place of the machine."""
        if isinstance(value, str):
            return self._without_places(visible(with_urls(value)))
        if isinstance(value, Mapping):
            return {name: self.without_places(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.without_places(item) for item in value]
        return value

    def _without_places(self, text: str) -> str:
        parts = []
        done = 0
        for match in _BEGIN.finditer(text):
            start = match.start()
            if start < done:
                continue
            # Among many folders each length is tried, not each folder.
            ends = (start + length for length in self._lengths)
            end = next((end for end in ends if text[slice(start, end)] in self._folders), None)
            if end is None:
                continue
            folder = self._folders[text[slice(start, end)]]
            rest = _REST.match(text, end)
            assert rest is not None  # it may be empty
            # The names of topics begin with a slash, too, as in /data/state.
            whole = text[slice(start, rest.end())]
            is_topic = len(folder.parts) == _IN_ROOT and not os.path.lexists(whole)
            begin = visible(str(folder)) if is_topic else as_recorded(folder, self._root)
            parts += [text[slice(done, start)], begin, text[slice(end - 1, rest.end())]]
            done = rest.end()
        return ''.join([*parts, text[done:]])
