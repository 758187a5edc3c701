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

"""Which of the given bags is which of those that a dataset was made from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
import os
from pathlib import Path
from typing import NamedTuple

from kuavo_bag_converter.bags.discover import find_recordings
from kuavo_bag_converter.bags.fingerprint import fingerprint, Key
from kuavo_bag_converter.check.findings import Findings
from kuavo_bag_converter.dataset.record import ConversionRecord
from kuavo_bag_converter.dataset.recorded_bag import RecordedBag
from kuavo_bag_converter.support.errors import BagError, UsageError
from kuavo_bag_converter.support.places import name_of, place_of, url_of


class Match(NamedTuple):
    """A bag of the dataset and where it is."""

    bag: RecordedBag
    files: tuple[Path, ...]


class Matches(NamedTuple):
    """Which of the given bags are in the dataset."""

    found: list[Match]
    """In the dataset's order, each bag once."""
    others: list[str]
    """The bags that are not in the dataset, and why if the record tells."""


def match_bags(
    record: ConversionRecord, paths: Sequence[str | Path], findings: Findings
) -> Matches:
    """
    Find the bags of a dataset by their content, or else by name.

    :param record: What the dataset was made from.
    :param paths: Bags and folders of bags; the recorded paths if there are none.
    :param findings: Gets a finding for a bag that has changed or cannot be read.
    :raises UsageError: A path does not exist, or none of the bags is in the dataset.
    """
    found: dict[int, Match] = {}
    left: list[tuple[tuple[Path, ...], str]] = []
    given = _given(record, paths)
    for files in (part for recording in given for part in _as_converted(record, recording)):
        try:
            key = fingerprint(files).key
        except BagError as error:
            left.append((files, str(error)))
            continue
        bag = _equal(record, files, key)
        if bag is None:
            left.append((files, ''))
        else:
            found.setdefault(bag.number, Match(bag, files))
    others = []
    changed = False
    for files, problem in left:
        bag = _namesake(record, files[0].name)
        if bag is None or bag.number in found:
            others.append(_described(record, files[0]))
            continue
        changed = True
        if problem:
            findings.add('bags.unreadable', problem, 'the bag as it was converted', file=bag.name)
            continue
        found[bag.number] = Match(bag, files)
        different = f'{name_of(files[0])}: another size or content'
        findings.add('bags.changed', different, 'the bag as it was converted', file=bag.name)
    if not found and not changed:
        places = ', '.join(map(name_of, paths)) or 'the recorded paths'
        raise UsageError(f'{places}: no bag that the dataset was made from')
    return Matches(sorted(found.values(), key=lambda match: match.bag.first_episode), others)


def _given(record: ConversionRecord, paths: Sequence[str | Path]) -> list[tuple[Path, ...]]:
    """Return the files of each recording; of those that are recorded, what is still there."""
    if not paths:
        local = [bag.paths for bag in record.converted if all(map(os.path.exists, bag.paths))]
        urls = [path for bag in record.converted for path in bag.paths if url_of(path)]
        return [*local, *find_recordings(urls)]
    return find_recordings(paths)


def _as_converted(record: ConversionRecord, files: tuple[Path, ...]) -> list[tuple[Path, ...]]:
    """Part a recording as the dataset has it: as several bags if one of its files was damaged."""
    try:
        keys = {path: fingerprint([path]).key for path in files}
    except BagError:
        return [files]

    def holder(path: Path) -> int | None:
        return next((bag.number for bag in record.having(keys[path])), None)

    parts = [(number, tuple(part)) for number, part in groupby(files, key=holder)]
    whole = all(
        number is None or _equal(record, part, tuple(one for path in part for one in keys[path]))
        for number, part in parts
    )
    return [part for _, part in parts] if whole else [files]


def _equal(record: ConversionRecord, files: tuple[Path, ...], key: Key) -> RecordedBag | None:
    """Return the bag that has this content, if there are several the one that was there."""
    equal = [bag for bag in record.having(key) if sorted(bag.key) == sorted(key)]
    equal.sort(key=lambda bag: place_of(bag.path) != place_of(files[0]))
    return equal[0] if equal else None


def _namesake(record: ConversionRecord, name: str) -> RecordedBag | None:
    """Return the only bag of this file name."""
    named = [bag for bag in record.converted if bag.path.name == name]
    return named[0] if len(named) == 1 else None


def _described(record: ConversionRecord, path: Path) -> str:
    """Return a bag that is not in the dataset, with the reason if its conversion failed."""
    failed = [bag for bag in record.bags if bag.status == 'failed' and bag.path.name == path.name]
    here = [bag for bag in failed if place_of(bag.path) == place_of(path)] or failed
    name = name_of(path)
    return f'{name} (failed: {here[0].reason})' if len(here) == 1 else name
