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

"""What became of every bag of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kuavo_bag_converter.alignment.report import PlanReport
from kuavo_bag_converter.jobs.topic_alignment import TopicAlignment
from kuavo_bag_converter.profiles.model import TimeRange

Status = Literal['converted', 'kept', 'present', 'failed', 'skipped']


@dataclass(frozen=True)
class Outcome:
    """
    One bag's result, in few bytes: the rest is in its shard, and later in the dataset's record.

    ``kept``: an earlier, unfinished run had converted it. ``present``: it is in the dataset that
    others are added to.
    """

    bag: str
    status: Status
    reason: str = ''
    """Why it failed or was skipped; one line."""
    episodes: int = 0
    frames: int = 0
    shard: Path | None = None
    """Its shard, which is there until the dataset is published; None if it was not converted."""
    problems: tuple[str, ...] = ()
    """Disagreements and damage that the reader found."""
    paths: tuple[Path, ...] = ()
    """The bag's file or directory, or the files of one recording."""
    recorded: int | None = None
    """Its number in the dataset's record, if it has failed before."""
    task: str = ''
    """In place of the profile's."""
    labels: tuple[tuple[str, str], ...] = ()
    """What a table of bags says of it, by column."""
    ranges: tuple[TimeRange, ...] = ()
    """Pieces that a table of bags cuts it into."""


@dataclass(frozen=True)
class Report:
    """The result of a run."""

    output: Path
    """Where the dataset is."""
    outcomes: tuple[Outcome, ...]
    seconds: float
    """Wall time of the run."""
    peak_memory_mb: float
    """Largest resident set of the process, or of those of all jobs together, MB (2**20 bytes)."""
    alignment: tuple[TopicAlignment, ...] = ()
    """How the topics of all bags were aligned."""
    problem: str = ''
    """Why the dataset is not where it was to be; one line, '' if it is."""

    @property
    def frames(self) -> int:
        """Frames of the dataset."""
        return sum(outcome.frames for outcome in self.outcomes)

    @property
    def episodes(self) -> int:
        """Episodes of the dataset."""
        return sum(outcome.episodes for outcome in self.outcomes)

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """Bags that are not in the dataset."""
        return tuple(item for item in self.outcomes if item.status in ('failed', 'skipped'))

    @property
    def exit_code(self) -> int:
        """0 if every bag was converted and the dataset is where it was to be, else 1."""
        return 1 if self.failures or self.problem else 0


class Observer:
    """
    Is told how a run goes on; does nothing itself.

    Bags that are converted beside each other are told apart by their numbers. Calls come from one
    thread.
    """

    def note(self, text: str) -> None:
        """Learn something about the run as a whole, in a line."""

    def warning(self, text: str) -> None:
        """Learn in a line what is wrong beside the bags that are converted."""

    def waiting(self, ready: int, unfinished: int) -> None:
        """Learn how many recordings wait to be converted, and how many are not finished."""

    def bags_found(self, bags: Sequence[str]) -> None:
        """Learn the paths of all bags, as the other calls name them."""

    def checking(self, total: int) -> None:
        """Learn that all bags are checked before the first one is converted."""

    def bag_refused(self, number: int, total: int, outcome: Outcome) -> None:
        """Learn that bag ``number`` of ``total`` (from 1) is not going to be converted."""

    def bag_started(self, number: int, total: int, bag: str) -> None:
        """Learn that bag ``number`` of ``total`` (from 1) is being opened."""

    def planned(self, number: int, plan: PlanReport) -> None:
        """Learn what pass 1 found in bag ``number``."""

    def progressed(self, number: int, done: int, total: int) -> None:
        """Learn how many frames of bag ``number`` are written."""

    def bag_finished(self, number: int, outcome: Outcome, plan: PlanReport | None) -> None:
        """Learn what became of bag ``number``, and the plan with all counts if it has a shard."""

    def assembling(self, episodes: int) -> None:
        """Learn that the shards are being joined to the dataset."""
