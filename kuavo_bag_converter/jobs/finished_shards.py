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

"""The shards of a run, in the order of its bags, of which one at a time is in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.jobs.labels import labels_of
from kuavo_bag_converter.jobs.report import Outcome


class FinishedShards:
    """
    The shards of the bags that were converted, read from disk each time they are iterated.

    :param outcomes: Of the bags, in order.
    :param labels: The keys of their labels.
    """

    def __init__(self, outcomes: Sequence[Outcome], labels: Sequence[str]) -> None:
        self._outcomes = [outcome for outcome in outcomes if outcome.shard is not None]
        self._labels = labels

    def __len__(self) -> int:
        return len(self._outcomes)

    def __iter__(self) -> Iterator[Shard]:
        """
        Yield each shard with the labels of its bag.

        :raises DatasetError: One is damaged.
        """
        for outcome in self._outcomes:
            shard = self.read(outcome)
            assert shard is not None  # those without are left out above
            yield shard

    def read(self, outcome: Outcome) -> Shard | None:
        """
        Return the shard of a bag with the labels of it, if it has one.

        :raises DatasetError: It is damaged.
        """
        if outcome.shard is None:
            return None
        labels, _ = labels_of(self._labels, outcome.paths[0], dict(outcome.labels))
        return replace(Shard.load(outcome.shard), labels=labels)
