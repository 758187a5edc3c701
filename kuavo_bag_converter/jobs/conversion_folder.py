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
from kuavo_bag_converter.dataset.layout import PROFILE_PATH, REPORT_PATH
from kuavo_bag_converter.dataset.record import (
    as_recorded,
    ConversionRecord,
    RecordedBag,
    RecordedFile,
    write_record,
)
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.jobs.append import ExistingDataset
from kuavo_bag_converter.jobs.report import Outcome
from kuavo_bag_converter.jobs.shard import Origin
from kuavo_bag_converter.profiles.dump import profile_as_yaml
from kuavo_bag_converter.profiles.loader import read_profile
from kuavo_bag_converter.profiles.model import IN_DATASET, Profile
from kuavo_bag_converter.settings import recorded_values, Settings
from kuavo_bag_converter.support.errors import BagError, UsageError
from kuavo_bag_converter.support.files import link_or_copy, sync_tree, write_text
from kuavo_bag_converter.support.places import with_urls
from kuavo_bag_converter.support.texts import visible

_NOT_RECORDED = (
    'bags', 'output', 'shard', 'append', 'retry_failed', 'executor', 'jobs', 'spool_dir',
    'spool_mb',
)  # fmt: skip
_PATH = r'(?<![\w.~/-]){}/[^\s:;,\'"]*'
"""A path in a text that begins with a folder."""
_IN_ROOT = 2
"""Parts of a path to what lies in the root folder."""


def write_conversion_folder(
    folder: Path,
    root: Path,
    settings: Settings,
    profile: Profile,
    outcomes: Sequence[Outcome],
    shards: Iterable[Shard],
    before: ExistingDataset | None = None,
) -> None:
    """
    Write ``report.json``, ``profile.yaml`` and ``alignment/<number of the bag>.parquet``.

    They are durable on return. See :mod:`.alignment_file` for the last.

    :param folder: The dataset as it is being put together.
    :param root: Where it is going to be, without links; paths are recorded relative to it.
    :param settings: It was made with them.
    :param profile: What a frame is made of.
    :param outcomes: Of the bags of this run.
    :param shards: Of the converted ones, in order; they are gone through twice.
    :param before: The dataset whose episodes come first; a bag that failed there takes its old
        place in the list.
    """
    bags = recorded_bags(root, settings, profile, outcomes, shards, before)
    first = 0
    others: Mapping[str, Any] = {}
    if before is not None:
        first, others = before.episodes, before.record.others
        for path in (bag.alignment_path for bag in before.record.bags):
            if (before.root / path).exists():
                link_or_copy(before.root / path, folder / path)
    record = ConversionRecord(_recorded_settings(settings), bags, others)
    added = [bag for bag in record.converted if bag.first_episode >= first]
    for bag, shard in zip(added, shards, strict=True):
        link_or_copy(shard.attachment(ALIGNMENT), folder / bag.alignment_path)
    write_record(record, folder, root)
    _write_profile(folder, root, profile, before)
    sync_tree((folder / REPORT_PATH).parent)


def recorded_bags(
    root: Path,
    settings: Settings,
    profile: Profile,
    outcomes: Sequence[Outcome],
    shards: Iterable[Shard],
    before: ExistingDataset | None,
) -> tuple[RecordedBag, ...]:
    """Return the bags of a record: those before, and those of a run; see the arguments above."""
    texts = _Texts(root, settings, profile, outcomes)
    bags: list[RecordedBag] = []
    first = 0
    if before is not None:
        # Of a former version, which did not tell the tasks of bags.
        task = read_profile(before.root / PROFILE_PATH).task
        bags = [replace(bag, task=bag.task or task) for bag in before.record.bags]
        first = before.episodes
    remaining = iter(shards)
    for outcome in outcomes:
        if outcome.status == 'present':
            continue
        shard = next(remaining) if outcome.episodes else None
        number = len(bags) if outcome.recorded is None else outcome.recorded
        bag = _recorded(outcome, number, first, shard, texts, outcome.task or profile.task)
        bags[slice(number, number + 1)] = [bag]
        first += outcome.episodes
    return tuple(bags)


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
        tuple(map(texts.without_places, outcome.problems)),
        PlanReport.from_json(texts.without_places(plan.as_json())),
        task,
        {} if origin is None else origin.calibration,
        () if origin is None else origin.topics,
        {} if shard is None else shard.labels,
        {} if shard is None else {k: v.encoder for k, v in shard.videos.items() if v.encoder},
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
    return {name: value for name, value in values.items() if name not in _NOT_RECORDED}


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
        known = [folder for folder in folders if folder.is_absolute() and folder.name]
        known.sort(key=lambda folder: len(str(folder)), reverse=True)
        self._places = [
            (re.compile(_PATH.format(re.escape(visible(str(folder))))), folder, root)
            for folder in known
        ]

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
        for pattern, folder, root in self._places:

            def place(match: re.Match[str], folder: Path = folder, root: Path = root) -> str:
                # The names of topics begin with a slash, too, as in /data/state.
                is_topic = len(folder.parts) == _IN_ROOT and not os.path.lexists(match[0])
                beginning = str(folder) if is_topic else as_recorded(folder, root)
                return match[0].replace(str(folder), beginning, 1)

            text = pattern.sub(place, text)
        return text
