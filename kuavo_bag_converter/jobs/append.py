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

"""Appending to a dataset: whether it can be done, with which settings, for which bags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
import os
from pathlib import Path
import stat

from kuavo_bag_converter.bags.discover import find_recordings
from kuavo_bag_converter.bags.open import local_path
from kuavo_bag_converter.check.description import describe, Description
from kuavo_bag_converter.check.findings import Findings
from kuavo_bag_converter.check.metadata import check_conversion, check_metadata
from kuavo_bag_converter.dataset.layout import EPISODES_FILES, PROFILE_PATH, REPORT_PATH
from kuavo_bag_converter.dataset.record import (
    ConversionRecord,
    format_of,
    LEROBOT,
    read_record,
)
from kuavo_bag_converter.dataset.recorded_bag import RecordedBag
from kuavo_bag_converter.jobs.folders.configuration import configuration, differences
from kuavo_bag_converter.jobs.folders.dataset_files import (
    check_can_be_carried,
    is_of_the_dataset,
    is_rewritten,
    own_files,
    Snapshot,
)
from kuavo_bag_converter.profiles.loader import read_profile
from kuavo_bag_converter.robots.resolve import robot_of
from kuavo_bag_converter.settings import AUTO, known_settings, OF_A_RUN, Settings, updated
from kuavo_bag_converter.support.errors import DatasetError, UsageError
from kuavo_bag_converter.support.places import place_of
from kuavo_bag_converter.support.remote.spool import Spool

_TO_RETRY = ('failed', 'skipped')
"""What became of bags that are to be tried again."""


def check_is_lerobot(settings: Settings, output: Path) -> None:
    """
    Refuse to add to a dataset of another format than LeRobot's.

    :raises UsageError: The dataset is, or the settings ask for one.
    """
    for name in (format_of(output), settings.dataset_format):
        if name != LEROBOT:
            raise UsageError(
                f'{output}: datasets of the format {name} cannot be added to; leave out append '
                'and retry_failed, and choose another output'
            )


@dataclass(frozen=True)
class ExistingDataset:
    """
    A dataset whose episodes come first.

    :ivar root: Its folder.
    :ivar record: What it was made from.
    :ivar episodes: How many it has, those of other programs counted.
    :ivar files: What it consists of, as it was when it was read.
    """

    root: Path
    record: ConversionRecord
    episodes: int
    files: Snapshot = field(default_factory=dict)


def read_before(output: Path, snapshot: Snapshot) -> ExistingDataset:
    """
    Read a dataset that is going to be added to, and check that it can be.

    :param output: The dataset.
    :param snapshot: What is in it.
    :raises UsageError: It is not of this converter, or something in it does not fit.
    :raises DatasetError: It holds what a longer dataset cannot have.
    """
    try:
        record = read_record(output)
    except FileNotFoundError:
        raise UsageError(
            f'{output / REPORT_PATH}: does not exist; only a dataset that this converter made can '
            'be added to'
        ) from None
    check_can_be_carried(output, snapshot)
    findings = Findings()
    dataset = describe(output, findings, record)
    if dataset is not None and dataset.record is not None:
        check_metadata(dataset, findings)
        # What alignments hold is verified at leisure: there is one for each bag.
        check_conversion(dataset, dataset.record, findings, len(dataset.episodes))
        _check_files(dataset, snapshot, findings)
    for finding in findings:
        raise UsageError(
            f'{output}: cannot be added to: {finding} ({len(findings)} findings in all); another '
            'program has changed the dataset since: mend it, or convert to another output'
        )
    assert dataset is not None
    return ExistingDataset(output, record, len(dataset.episodes), own_files(snapshot))


def read_again(before: ExistingDataset, snapshot: Snapshot) -> ExistingDataset:
    """
    Return a dataset as it is now, which must be as it was when it was read.

    :param before: It.
    :param snapshot: What is in it now.
    :raises UsageError: Something in it does not fit.
    :raises DatasetError: It is another one, or holds what a longer dataset cannot have.
    """
    if own_files(snapshot) == before.files:
        check_can_be_carried(before.root, snapshot)
        return before
    now = read_before(before.root, snapshot)
    if now.record != before.record:
        raise DatasetError(f'{before.root}: is another dataset than when the run began')
    return now


def _check_files(dataset: Description, snapshot: Snapshot, findings: Findings) -> None:
    """Check that the files of episodes are those that the metadata names."""
    named = {*dataset.data_files(), *dataset.files_on_disk(EPISODES_FILES)}
    for camera in dataset.cameras:
        named |= {*dataset.video_files(camera.key)}
    if dataset.record is not None:
        named |= {bag.alignment_path for bag in dataset.record.converted}
    found = {
        path
        for path, entry in snapshot.items()
        if stat.S_ISREG(entry.kind) and is_of_the_dataset(path) and not is_rewritten(path)
    }
    for file in sorted(named - found):
        findings.add('file.missing', 'no file', 'one that episodes need', file=file)
    for file in sorted(found - named):
        findings.add('file.unexpected', 'a file', 'none: no episode needs it', file=file)


def settings_for(settings: Settings, before: ExistingDataset) -> Settings:
    """
    Return the settings for adding to a dataset: what shapes it must be as it was.

    :raises UsageError: Something that shapes the dataset differs, or nothing failed.
    """
    root = before.root
    was = before.record.known_settings(str(root / REPORT_PATH))
    profile = read_profile(root / PROFILE_PATH) if robot_of(was.profile) is None else None
    if settings.retry_failed:
        if not _to_retry(before.record):
            raise UsageError(f'{root}: no bag failed when it was made')
        return replace(
            was,
            **{name: getattr(settings, name) for name in OF_A_RUN},
            profile_object=profile,
        )
    if not all(map(os.path.isdir, was.msg_path)):
        was = replace(was, msg_path=settings.msg_path)  # nothing is left to compare with
    settings = _settled_as(settings, was)
    if settings.on_damage == 'salvage':
        was = replace(was, on_damage='salvage')  # which changes nothing of bags without damage
    differing = differences(
        configuration(was, profile, with_task=False), configuration(settings, with_task=False)
    )
    if differing:
        raise UsageError(
            f'{root}: was made with other settings ({differing}); use the same ones, or another '
            'output'
        )
    return settings


def _settled_as(settings: Settings, was: Settings) -> Settings:
    """Take what is ``auto`` from the settings of a dataset that was made with a choice."""
    chosen = {
        name: info.value_in(was)
        for name, info in known_settings().items()
        if (info.robot or name == 'vcodec')
        and info.value_in(settings) == AUTO
        and info.value_in(was) != AUTO
    }
    return updated(settings, chosen, str(REPORT_PATH)) if chosen else settings


def _to_retry(record: ConversionRecord) -> list[RecordedBag]:
    return [bag for bag in record.bags if bag.status in _TO_RETRY]


def numbers_to_retry(record: ConversionRecord) -> dict[str, int]:
    """Return the numbers in a record of the bags that are not in the dataset, by their paths."""
    places = ((place_of(bag.path), bag.number) for bag in _to_retry(record))
    return dict(reversed(list(places)))  # the first of equal ones counts


def recordings_to_retry(
    record: ConversionRecord, bags: Sequence[str], spool: Spool
) -> list[tuple[tuple[Path, ...], int]]:
    """
    Return the recordings that are not in a dataset, with their numbers in its record.

    :param record: The dataset's record.
    :param bags: Where the recordings are now, or folders that hold them; what is not there is
        looked for where it was.
    :param spool: Where copies of URLs are.
    :raises UsageError: Two of the given bags have the name of a recording.
    """
    given: dict[str, list[tuple[Path, ...]]] = {}
    for recording in find_recordings(bags, spool):
        for name in {path.name: None for path in recording}:
            given.setdefault(name, []).append(recording)
    found = []
    for bag in _to_retry(record):
        named = [_part_of(bag, recording, record) for recording in given.get(bag.path.name, ())]
        if len(named) > 1:
            raise UsageError(
                f'{named[0][0]} and {named[1][0]}: have the name of a bag that failed; give one'
            )
        paths = named[0] if named else _paths_of(bag, record)
        found.append((tuple(local_path(path, spool) for path in paths), bag.number))
    return found


def _part_of(
    bag: RecordedBag, recording: tuple[Path, ...], record: ConversionRecord
) -> tuple[Path, ...]:
    """
    Return the files in a recording that are a bag's own, by name; none if it is another one.

    A recording of which a file was damaged was taken for several; the others may be converted.
    """
    names = [path.name for path in recording]
    if bag.path.name not in names:
        return ()
    start = names.index(bag.path.name)
    if start + 1 == len(names):
        return recording[start:]
    of_others = {
        path.name
        for other in record.bags
        if other is not bag
        for path in other.paths
        if path.parent == bag.path.parent
    }
    after = (place for place in range(start + 1, len(names)) if names[place] in of_others)
    return recording[slice(start, next(after, len(names)))]


def _paths_of(bag: RecordedBag, record: ConversionRecord) -> tuple[Path, ...]:
    """Return the files of a bag; former versions recorded the first of several."""
    if bag.files or not os.path.isfile(bag.path):
        return bag.paths
    for recording in find_recordings([bag.path.parent]):
        if bag.path in recording:
            return _part_of(bag, recording, record)
    return bag.paths
