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

"""
Which stamps of a bag are trusted. Pure numpy, no input or output.

All stamps are int64 nanoseconds. The rules are stated in docs/time.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from kuavo_bag_converter.alignment.report import StampCounts
from kuavo_bag_converter.bags.model import NS_PER_S, Ordinals, Stamps, TopicIndex
from kuavo_bag_converter.bags.time_spans import recorded_spans, SILENCE_S, TimeSpan, within
from kuavo_bag_converter.support.errors import BagError
import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class TopicTimes:
    """The stamps of one topic, and which of them are trusted."""

    index: TopicIndex
    recording: TimeSpan
    """When messages must have been received."""
    during: slice
    """Ordinals of the messages that were."""
    header_limit: float
    """How far a header stamp may be from its receive stamp, ns."""
    numbers: Ordinals | None = None
    """Ordinals of the messages of ``index`` where it has only some of the topic."""
    last_before: int | None = None
    """Ordinal of the message that came last before a clock was set back, if one did."""
    lasts: bool = False
    """Whether that message is held, because its publishers latch it."""
    begins: Mapping[str, int] = field(default_factory=dict)
    """By time line, when the frame clock begins."""

    def usable(
        self, timeline: str, *, held: bool = False, carried: bool = False
    ) -> tuple[Stamps, Ordinals]:
        """
        Return trusted stamps in ascending order, and the ordinals that they belong to.

        With ``held``, what was received before the recording counts too: it lasts into it. With
        ``carried``, so does the last message before a clock was set back, as it does with ``held``
        where the topic is latched; it is stamped as the first frame.
        """
        stamps, positions = self._usable(timeline, held=held)
        ordinals = positions if self.numbers is None else self.numbers[positions]
        if self.last_before is not None and (carried or (held and self.lasts)):
            begin = min([self.begins[timeline], *stamps[:1].tolist()])
            stamps = np.concatenate([[begin], stamps])
            ordinals = np.concatenate([[self.last_before], ordinals])
        return stamps, ordinals

    def _usable(self, timeline: str, *, held: bool = False) -> tuple[Stamps, Ordinals]:
        """Return trusted stamps in ascending order, and their positions in ``index``."""
        received = self._received(held=held)
        positions: Ordinals = np.arange(received.start, received.stop, dtype=np.int64)
        if timeline == 'bag':
            return self.index.receive[received], positions
        assert self.index.header is not None
        positions = positions[self._trusted()[received]]
        stamps = self.index.header[positions]
        order = np.argsort(stamps, kind='stable')
        return stamps[order], positions[order]

    def moved(self, stamps: Stamps, onto: str) -> Stamps:
        """
        Bring stamps of the other time line onto one: the nearest message's stamps, shifted.

        That is exact where all messages are under way for as long.
        """
        receive, header = self.index.receive, self.index.header
        assert header is not None
        _, positions = self._usable('header')
        own, other = (header, receive) if onto == 'bag' else (receive, header)
        positions = positions[np.lexsort((positions, own[positions]))]
        known = own[positions]
        near = nearest(known, stamps)
        moved: Stamps = other[positions[near]] + (stamps - known[near])
        return moved

    def counts(self, timeline: str) -> StampCounts:
        """Count the messages about which a rule had to decide on a time line."""
        outside = len(self.index.receive) - _length(self.during)
        if timeline == 'bag':
            backward = self.index.backward
            return StampCounts(outside, self._outside_by_s(), backward_stamps=backward)
        header = self.index.header
        assert header is not None
        believed, received = self._trusted()[self.during], header[self.during]
        stamps = received[believed]
        return StampCounts(
            outside,
            self._outside_by_s(),
            without_header_stamp=int(np.sum(header == 0)),
            absurd_header_stamps=int(np.sum(~believed & (received != 0))),
            backward_stamps=int(np.sum(stamps[1:] < stamps[:-1])),
        )

    def _received(self, *, held: bool) -> slice:
        """Return the ordinals received during the recording, or ``held`` from before it."""
        since_1970 = int(np.searchsorted(self.index.receive, 0))
        low = min(since_1970, self.during.start) if held else self.during.start
        return slice(low, self.during.stop)

    def _outside_by_s(self) -> float | None:
        receive = self.index.receive
        apart = []
        if self.during.start > 0:
            apart.append(self.recording.start - int(receive[self.during.start - 1]))
        if self.during.stop < len(receive):
            apart.append(int(receive[self.during.stop]) - self.recording.stop)
        return round(min(apart) / NS_PER_S, 3) if apart else None

    def _trusted(self) -> npt.NDArray[np.bool_]:
        return trusted(self.index, self.header_limit)

    def nothing_usable(self, topic: str, timeline: str, *, held: bool = False) -> BagError:
        """Return the error for a topic of which :meth:`usable` gives nothing."""
        receive, header = self.index.receive, self.index.header
        received = self._received(held=held)
        if not len(receive):
            return BagError(f'{topic}: has no message on one side of a step of a clock')
        if received.start >= received.stop:
            when, way_out = 'during', 'strategy: hold where what was said before holds, or '
            if held:
                when, way_out = 'before or during', ''
            return BagError(
                f'{topic}: none of its {len(receive)} messages was received {when} the recording, '
                f'the nearest is {self._outside_by_s() or 0:.0f} s off; use {way_out}a larger '
                'absurd_stamp_s'
            )
        if timeline == 'bag' or header is None or not header[received].any():
            return BagError(f'{topic}: no message with a header stamp; use timeline: bag')
        first = int(np.flatnonzero(header[received])[0]) + received.start
        apart = (int(header[first]) - int(receive[first])) / NS_PER_S
        return BagError(
            f'{topic}: no header stamp is within {self.header_limit / NS_PER_S:g} s of the '
            f'receive stamp, the first is {apart:+.0f} s off; use timeline: bag, or a larger '
            'absurd_stamp_s where all clocks are off alike'
        )


def trusted(times: TopicIndex, header_limit: float) -> npt.NDArray[np.bool_]:
    """Tell which header stamps are set, and within a limit (ns) of the receive stamps."""
    header = times.header
    assert header is not None
    # In floating point, because a difference need not fit int64.
    apart: npt.NDArray[np.float64] = np.abs(header.astype(np.float64) - times.receive)
    return np.asarray((header != 0) & (apart <= header_limit))


def header_limit_of(absurd_stamp_s: float) -> float:
    """Return how far a header stamp may be from its receive stamp, ns."""
    return absurd_stamp_s * NS_PER_S if absurd_stamp_s else np.inf


def total_counts(runs: Sequence[TopicTimes], timeline: str) -> StampCounts:
    """Add up what is counted of a topic in each run."""
    counts = [times.counts(timeline) for times in runs]
    apart = [one.outside_by_s for one in counts if one.outside_by_s is not None]
    summed = {
        item.name: sum(getattr(one, item.name) for one in counts)
        for item in fields(StampCounts)
        if item.name != 'outside_by_s'
    }
    return StampCounts(**summed, outside_by_s=min(apart, default=None))


def topic_times(
    index: Mapping[str, TopicIndex], clock_topic: str, absurd_stamp_s: float
) -> dict[str, TopicTimes]:
    """
    Decide which stamps of a bag's topics are trusted.

    The recording is the stretch with most messages of the frame clock, among those that a silence
    of all topics for ten minutes (or ``absurd_stamp_s`` if that is more) parts; messages received
    outside of it are not used, nor are header stamps further than ``absurd_stamp_s`` from the
    receive stamp. 0 believes every stamp but unset ones.
    """
    recording = TimeSpan(-(2**63), 2**63 - 1)
    if absurd_stamp_s:
        spans = recorded_spans((t.receive for t in index.values()), max(SILENCE_S, absurd_stamp_s))
        clock = index[clock_topic].receive
        recording = max(spans, key=lambda span: _length(within(clock, span)))
    header_limit = header_limit_of(absurd_stamp_s)
    return {
        topic: TopicTimes(times, recording, within(times.receive, recording), header_limit)
        for topic, times in index.items()
    }


def nearest(stamps: Stamps, times: Stamps) -> Ordinals:
    """
    Return positions of the nearest of ascending stamps: of equally near ones the earlier.

    Of equal ones it is the first.
    """
    right = np.searchsorted(stamps, times, side='left')
    left = np.maximum(right - 1, 0)
    right = np.minimum(right, len(stamps) - 1)
    closer_right = np.abs(stamps[right] - times) < np.abs(stamps[left] - times)
    chosen = np.where(closer_right, right, left)
    found: Ordinals = np.searchsorted(stamps, stamps[chosen], side='left')
    return found


def _length(part: slice) -> int:
    return int(part.stop - part.start)
