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

"""Which recordings a run converts, each once, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import os
from pathlib import Path
import random
from typing import NamedTuple

from kuavo_bag_converter.bags.discover import list_recordings, Listing
from kuavo_bag_converter.bags.fingerprint import find_duplicates
from kuavo_bag_converter.bags.inputs import RowsByPlace
from kuavo_bag_converter.dataset.recorded_bag import RecordedBag
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.jobs.append import ExistingDataset, numbers_to_retry, recordings_to_retry
from kuavo_bag_converter.jobs.bag_rows import bag_row, BagRow
from kuavo_bag_converter.jobs.report import Outcome, Status
from kuavo_bag_converter.jobs.shard import Origin
from kuavo_bag_converter.jobs.tasks import tasks_of
from kuavo_bag_converter.profiles.model import TimeRange
from kuavo_bag_converter.settings import Settings
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.places import name_of, place_of, with_urls
from kuavo_bag_converter.support.remote.spool import Spool
from kuavo_bag_converter.support.texts import error_text


class Bag(NamedTuple):
    """A recording to convert."""

    paths: tuple[Path, ...]
    """Its file or directory, or the files of one recording."""
    recorded: int | None = None
    """Its number in the record of a dataset in which it failed."""
    task: str = ''
    """In place of the profile's."""
    labels: tuple[tuple[str, str], ...] = ()
    """What a table of bags says of it, by column."""
    ranges: tuple[TimeRange, ...] = ()
    """Pieces that a table of bags cuts it into."""

    @property
    def name(self) -> str:
        """Its path, or that of its first file."""
        return name_of(self.paths[0])

    @property
    def place(self) -> str:
        """Return the same without links."""
        return place_of(self.paths[0])

    def outcome(self, status: Status, reason: str = '', shard: Shard | None = None) -> Outcome:
        """Return what became of it."""
        lengths = () if shard is None else shard.episode_lengths
        return Outcome(
            self.name,
            status,
            reason,
            episodes=len(lengths),
            frames=sum(lengths),
            shard=None if shard is None else shard.path,
            problems=() if shard is None else tuple(map(with_urls, Origin.of(shard).problems)),
            paths=self.paths,
            recorded=self.recorded,
            task=self.task,
            labels=self.labels,
            ranges=self.ranges,
        )

    def failure(self, error: Exception) -> Outcome:
        """Return that it is not converted, and why."""
        reason = error_text(error)
        if self.recorded is not None and not any(map(os.path.lexists, self.paths)):
            reason += '; tell where the bag is now: --retry-failed BAG'
        return self.outcome('failed', reason)


def find_bags(
    settings: Settings, before: ExistingDataset | None, note: Callable[[str], None]
) -> list[Bag]:
    """
    Return the recordings to convert, in order.

    :param settings: What to do.
    :param before: The dataset that is added to.
    :param note: Called with a line for what is left out.
    :raises UsageError: A path does not exist, or a recording has no task where it must have one.
    """
    spool = Spool(settings.spool_dir, settings.spool_mb)
    if settings.retry_failed and before is not None:
        left = recordings_to_retry(before.record, settings.bags, spool)
        return [_to_retry(paths, before.record.bags[number]) for paths, number in left]
    listed = list_recordings(settings.bags, spool)
    for remark in listed.remarks:
        note(remark)
    recordings = listed.recordings
    rows = _rows_of(listed)
    tasks = _tasks(settings, listed, rows, note)
    doubles = find_duplicates(recordings)
    for number, other in doubles.items():
        if tasks[number] != tasks[other]:
            raise UsageError(
                f'{recordings[number][0]}: holds what {recordings[other][0]} holds, but their '
                f'tasks are {tasks[number]!r} and {tasks[other]!r}; leave one of them out'
            )
        if rows[number].ranges != rows[other].ranges:
            raise UsageError(
                f'{recordings[number][0]}: holds what {recordings[other][0]} holds, but their '
                'start_s and stop_s differ; give all pieces by the path of one of them'
            )
        note(
            f'{recordings[number][0]}: holds what {recordings[other][0]} holds; that one is '
            'converted, once'
        )
    recorded = {} if before is None else numbers_to_retry(before.record)
    bags = [
        Bag(
            paths,
            recorded.get(place_of(paths[0])),
            tasks[number],
            rows[number].labels,
            rows[number].ranges,
        )
        for number, paths in enumerate(recordings)
        if number not in doubles
    ]
    return _drawn(bags, settings.num_used, settings.seed)


def _to_retry(paths: tuple[Path, ...], bag: RecordedBag) -> Bag:
    labels = {key: text for key, text in bag.details.labels.items() if text is not None}
    return Bag(paths, bag.number, bag.task, tuple(labels.items()), bag.details.ranges)


def _rows_of(listed: Listing) -> list[BagRow]:
    """Return for each recording what a table of bags says of it."""
    by_place = RowsByPlace(listed.rows)
    return [bag_row(recording, by_place) for recording in listed.recordings]


def _tasks(
    settings: Settings,
    listed: Listing,
    rows: Sequence[BagRow],
    note: Callable[[str], None],
) -> list[str]:
    """Return the task of each recording: of its row, or by the setting ``tasks``."""
    tasks = [row.task for row in rows]
    others = [number for number, task in enumerate(tasks) if not task]
    found = tasks_of(settings.tasks, [listed.recordings[number] for number in others], note)
    for number, task in zip(others, found, strict=True):
        tasks[number] = task
    return tasks


def _drawn(bags: list[Bag], count: int, seed: int) -> list[Bag]:
    """Draw some of the recordings, in their order; 0 takes all."""
    if not count or count >= len(bags):
        return bags
    chosen = sorted(random.Random(seed).sample(range(len(bags)), count))  # noqa: S311
    return [bags[position] for position in chosen]
