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

"""The stretches of time in which something was recorded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kuavo_bag_converter.bags.model import NS_PER_S, Stamps
import numpy as np

SILENCE_S = 600.0
"""Where no topic at all says anything for so long, stamps do not belong together."""


class TimeSpan(NamedTuple):
    """A stretch of time, both ends included."""

    start: int
    stop: int


def recorded_spans(topics: Iterable[Stamps], silence_s: float = SILENCE_S) -> list[TimeSpan]:
    """
    Return the stretches between which all topics are silent for longer than ``silence_s``.

    :param topics: Stamps of each topic, ascending.
    :param silence_s: Seconds.
    """
    silence = min(int(min(silence_s, 2e10) * NS_PER_S), 2**64 - 1)
    joined: list[TimeSpan] = []
    for start, stop in sorted(
        span for stamps in topics for span in _spans_of_topic(stamps, silence)
    ):
        if joined and start - joined[-1].stop <= silence:
            joined[-1] = TimeSpan(joined[-1].start, max(joined[-1].stop, stop))
        else:
            joined.append(TimeSpan(start, stop))
    return joined


def _spans_of_topic(stamps: Stamps, silence: int) -> list[TimeSpan]:
    if not len(stamps):
        return []
    first, last = int(stamps[0]), int(stamps[-1])
    if last - first <= silence:
        return [TimeSpan(first, last)]
    # A difference of int64 stamps need not fit int64, but does modulo 2**64.
    steps = stamps[1:].view(np.uint64) - stamps[:-1].view(np.uint64)
    cuts = np.flatnonzero(steps > silence).tolist()
    starts = [first, *(int(stamps[cut + 1]) for cut in cuts)]
    stops = [*(int(stamps[cut]) for cut in cuts), last]
    return [TimeSpan(*ends) for ends in zip(starts, stops, strict=True)]


def within(stamps: Stamps, span: TimeSpan) -> slice:
    """Return where ascending stamps lie within a stretch of time."""
    low = np.searchsorted(stamps, span.start, side='left')
    return slice(int(low), int(np.searchsorted(stamps, span.stop, side='right')))
