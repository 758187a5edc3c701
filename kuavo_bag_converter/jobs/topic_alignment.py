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

"""How the topics of a run were aligned, summed over its bags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kuavo_bag_converter.alignment.report import PlanReport, TrackReport


@dataclass
class TopicAlignment:
    """
    One use of a topic in all bags of a run.

    :ivar topic: Its name, and how many samples of it a frame has if that is not one.
    :ivar messages: Messages in the bags.
    :ivar used: Those that serve frames.
    :ivar repeated: Frames whose message serves the frame before, too.
    :ivar median_ms: Time from a frame to its message: of the medians of the bags, the largest.
    :ivar p95_ms: Likewise, of the 95th percentiles.
    :ivar max_ms: The largest.
    :ivar beyond_half_frame: Frames further than half a frame from their message.
    """

    topic: str
    messages: int = 0
    used: int = 0
    repeated: int = 0
    median_ms: float = 0.0
    p95_ms: float = 0.0
    max_ms: float = 0.0
    beyond_half_frame: int = 0

    def add(self, track: TrackReport) -> None:
        """Add that of a bag."""
        self.messages += track.messages
        self.used += track.used
        self.repeated += track.repeated
        self.beyond_half_frame += track.beyond_half_frame
        error = track.error_ms
        if error.max is not None:
            self.median_ms = max(self.median_ms, error.median or 0.0)
            self.p95_ms = max(self.p95_ms, error.p95 or 0.0)
            self.max_ms = max(self.max_ms, error.max)


class AlignmentSummary:
    """Sums up the plans of bags, in any order; its size is that of one."""

    def __init__(self) -> None:
        self._topics: dict[tuple[str, str], TopicAlignment] = {}
        self._places: dict[tuple[str, str], tuple[int, int]] = {}
        """The first bag that has it, and where in its plan."""

    def add(self, number: int, plan: PlanReport) -> None:
        """Add the plan of bag ``number``."""
        for place, track in enumerate(plan.tracks):
            samples = f' ({track.samples} samples)' if track.samples else ''
            topic = f'{track.topic}{samples}'
            key = topic, track.strategy
            self._topics.setdefault(key, TopicAlignment(topic)).add(track)
            self._places[key] = min(self._places.get(key, (number, place)), (number, place))

    def topics(self) -> Sequence[TopicAlignment]:
        """Return them in the order in which the first bag has them."""
        return [self._topics[key] for key in sorted(self._topics, key=self._places.__getitem__)]
