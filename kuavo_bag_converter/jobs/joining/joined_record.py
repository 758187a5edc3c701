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

"""The record of a dataset that is made of others: what these know of their bags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from kuavo_bag_converter.check.description import Description
from kuavo_bag_converter.dataset.layout import alignment_path, PROFILE_PATH, REPORT_PATH
from kuavo_bag_converter.dataset.record import ConversionRecord, write_record
from kuavo_bag_converter.dataset.recorded_bag import RecordedBag
from kuavo_bag_converter.jobs.folders.configuration import NOT_IN_THE_DATASET
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.settings import recorded_values
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.files import copy_file, sync_tree
from kuavo_bag_converter.support.texts import counted

_MAY_DIFFER = frozenset(
    (
        *NOT_IN_THE_DATASET, 'lerobot_version', 'labels', 'on_damage', 'msg_path', 'profile',
        'task_description',
    )
)  # fmt: skip
"""Settings that need not be equal: they do not shape what ``verify`` expects of a frame."""


class ChosenEpisodes(NamedTuple):
    """Some episodes of a dataset."""

    dataset: Description
    episodes: Sequence[int]
    """Their numbers, ascending."""


def check_records(chosen: Sequence[ChosenEpisodes]) -> None:
    """
    Check that datasets were made in one way, as far as this converter has made them.

    :raises UsageError: Names what differs.
    """
    known = [(one.dataset, one.dataset.record) for one in chosen]
    recorded = [(dataset, record) for dataset, record in known if record is not None]
    for dataset, record in recorded[1:]:
        first, mine = recorded[0]
        theirs, ours = _settings_of(dataset, record), _settings_of(first, mine)
        differing = [
            f'{name} is {theirs.get(name)!r} and {ours.get(name)!r}'
            for name in sorted({*theirs, *ours} - _MAY_DIFFER)
            if theirs.get(name) != ours.get(name)
        ]
        if not differing and _frame_of(dataset.profile) != _frame_of(first.profile):
            differing = ['what a frame is made of (conversion/profile.yaml)']
        if differing:
            raise UsageError(
                f'{dataset.root}: was made with other settings than {first.root} '
                f'({"; ".join(differing)}); only datasets that were made in one way can be joined'
            )


def _settings_of(dataset: Description, record: ConversionRecord) -> dict[str, Any]:
    """Return the settings that a dataset was made with, in the words of today."""
    known = record.known_settings(str(dataset.root / REPORT_PATH))
    return {**record.settings, **recorded_values(known)}


def _frame_of(profile: Profile) -> Profile:
    return replace(profile, name='', task='')


def write_joined_record(
    folder: Path,
    root: Path,
    chosen: Sequence[ChosenEpisodes],
    version: str,
    note: Callable[[str], None],
) -> None:
    """
    Write the record of a dataset that is made of others; durable. None is written without bags.

    A bag of which only some episodes are there is left out, since its alignment is of all of
    them; bags that failed come along with all episodes of their dataset.

    :param folder: The dataset as it is being put together.
    :param root: Where it is going to be, without links.
    :param chosen: What it is made of, in order.
    :param version: Of its format.
    :param note: Called with a line for what is left out.
    """
    recorded = [(one.dataset, one.dataset.record) for one in chosen if one.dataset.record]
    if not recorded:
        return
    first, record = recorded[0]
    assert record is not None  # those without are left out above
    settings: Mapping[str, Any] = {**record.settings, 'lerobot_version': version}
    bags = list(_bags(chosen, note))
    if not any(bag.converted for bag, _ in bags):
        return
    _note_doubles([bag for bag, _ in bags if bag.converted and bag.files], note)
    for bag, dataset in bags:
        if bag.converted:
            copy_file(dataset.root / bag.alignment_path, folder / alignment_path(bag.number))
    numbered = (
        replace(bag, alignment_path=alignment_path(bag.number), read_details=bag.read_details)
        for bag, _ in bags
    )
    write_record(folder, root, settings, numbered, first.fps)
    copy_file(first.root / PROFILE_PATH, folder / PROFILE_PATH)
    sync_tree((folder / REPORT_PATH).parent)


def _bags(
    chosen: Sequence[ChosenEpisodes], note: Callable[[str], None]
) -> Iterator[tuple[RecordedBag, Description]]:
    """Yield the bags with their numbers and episodes in the new dataset, and where they are."""
    number = before = 0
    for dataset, episodes in chosen:
        record = dataset.record
        is_whole = len(episodes) == len(dataset.episodes)
        places = {episode: before + place for place, episode in enumerate(episodes)}
        unrecorded = 0
        for bag in () if record is None else record.bags:
            task = bag.task or _task(dataset, record)
            if not bag.converted:
                if is_whole:
                    yield replace(bag, number=number, first_episode=before, task=task), dataset
                    number += 1
                continue
            own = range(bag.first_episode, bag.first_episode + bag.episodes)
            there = [places[episode] for episode in own if episode in places]
            if len(there) == bag.episodes:
                moved = replace(bag, number=number, first_episode=there[0], task=task)
                yield moved, dataset
                number += 1
            else:
                unrecorded += len(there)
        if unrecorded:
            note(
                f'{dataset.root}: {counted(unrecorded, "episode")} of bags that are there in part '
                'only: conversion/ does not tell their bags'
            )
        before += len(episodes)


def _note_doubles(bags: Sequence[RecordedBag], note: Callable[[str], None]) -> None:
    """Say which recordings are in the dataset more than once."""
    counts = Counter(bag.key for bag in bags)
    doubles = [bag for bag in bags if counts[bag.key] > 1]
    if doubles:
        note(
            f'{counted(len(doubles) - len({bag.key for bag in doubles}), "bag")} more than once, '
            f'the first {doubles[0].name}: its episodes are repeated'
        )


def _task(dataset: Description, record: ConversionRecord | None) -> str:
    """Return the task of the bags of a former version's record, which did not tell them."""
    return '' if record is None else dataset.profile.task
