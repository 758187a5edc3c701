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
The frames of a bag before any is cut for what serves it. Pure numpy, no input or output.

All stamps are int64 nanoseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kuavo_bag_converter.alignment.report import ClockReport, TopicStampReport
from kuavo_bag_converter.alignment.stamps import TopicTimes
from kuavo_bag_converter.bags.model import Stamps
from kuavo_bag_converter.profiles.model import Clock
from kuavo_bag_converter.support.errors import BagError
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

_NS = 1_000_000_000
_MOST_FRAMES = 50_000_000
"""Of one bag: a plan of so many has gigabytes."""


class FrameStamps(NamedTuple):
    """Stamps of the frames on both time lines."""

    bag: Stamps
    header: Stamps | None

    def on(self, timeline: str) -> Stamps:
        """Return the stamps on a time line that the plan needs."""
        stamps = self.header if timeline == 'header' else self.bag
        assert stamps is not None, 'header stamps of the clock are asked for by topics_with_header'
        return stamps

    def only(self, chosen: Mask) -> FrameStamps:
        """Return some of the frames."""
        return FrameStamps(self.bag[chosen], None if self.header is None else self.header[chosen])


class _End(NamedTuple):
    """The last stamp of a topic."""

    timeline: str
    stamp: int


def clock_frames(
    clock: Clock,
    topic: str,
    fps: int,
    times: Mapping[str, TopicTimes],
    ending: Sequence[str],
) -> tuple[FrameStamps, ClockReport]:
    """
    Return the frames that a clock makes, and what is to be reported of that.

    :param clock: How frames lie in time.
    :param topic: Topic of the clock.
    :param fps: Frames per second.
    :param times: Stamps of the topics.
    :param ending: Topics besides that of the clock whose end counts for ``clock.end_trim``.
    :raises BagError: The stamps make no frames, or too many.
    """
    stamps, _ = times[topic].usable(clock.timeline)
    if not len(stamps):
        raise times[topic].nothing_usable(topic, clock.timeline)
    if len(stamps) > 1 and stamps[0] == stamps[-1]:
        kind, other = ('header', 'bag') if clock.timeline == 'header' else ('receive', 'header')
        raise BagError(
            f'{topic}: its {len(stamps)} messages all have the same {kind} stamp and so are no '
            f'clock; use timeline: {other}'
        )
    if len(stamps) < 2 * clock.drop + 1:
        raise BagError(
            f'{topic}: {len(stamps)} messages are too few to drop {clock.drop} at each end; '
            'lower sample_drop or use a longer bag'
        )
    kept = stamps[slice(clock.drop, len(stamps) - clock.drop)]
    decimation, made = _decimate(clock, topic, kept, fps)
    candidates = _on_both_timelines(made, clock, topic, times[topic])
    ends = _ends(clock, (topic, *ending), times)
    before_end, ender = _before_end(clock, candidates, ends)
    if not before_end.any():
        timeline, stamp = ends[ender]
        apart = (int(candidates.on(timeline)[0]) - stamp) / _NS
        raise BagError(
            f'{topic}: no frame lies before the end of {ender}, whose last message (of '
            f'{len(times[ender].index.receive)}) is {apart:.3f} s before the first frame; set '
            'end_trim: none if it lasts, or check that the topics belong together'
        )
    cut = int(np.sum(~before_end))
    report = ClockReport(
        clock_topic=topic,
        clock_messages=len(stamps),
        clock_stamps=TopicStampReport(topic, stamps=times[topic].counts(clock.timeline)),
        decimation=decimation,
        dropped_at_each_end=clock.drop,
        frames_cut_by_end_trim=cut,
        end_trim_topic=ender if cut else None,
    )
    return candidates.only(before_end), report


def _decimate(clock: Clock, topic: str, stamps: Stamps, fps: int) -> tuple[str, Stamps]:
    if clock.decimation != 'time' and clock.source_fps >= fps:
        jumped = stamps[:: int(clock.source_fps // fps)]
        exact = clock.source_fps % fps == 0
        if clock.decimation == 'jump' or (
            exact and np.ptp(unevenness(jumped, fps)) <= _NS / fps / 2
        ):
            return 'jump', jumped
    elif clock.decimation == 'jump':
        raise BagError(
            f'decimation: jump needs a camera at least as fast as the frames, '
            f'found {clock.source_fps:g} Hz for {fps} Hz; set decimation: time'
        )
    count = (int(stamps[-1]) - int(stamps[0])) * fps // _NS + 1
    if count > _MOST_FRAMES:
        raise BagError(
            f'{topic}: its {len(stamps)} messages span {count / fps / 86400:.0f} days, that is '
            f'{count} frames; set a lower absurd_stamp_s'
        )
    return 'time', stamps[0] + np.arange(count, dtype=np.int64) * _NS // fps


def unevenness(frames: Stamps, fps: int) -> Stamps:
    """Return how much later each frame is than index / fps after the first, ns."""
    ideal: Stamps = frames[0] + np.arange(len(frames), dtype=np.int64) * _NS // fps
    return frames - ideal


def _on_both_timelines(made: Stamps, clock: Clock, topic: str, times: TopicTimes) -> FrameStamps:
    """Give each frame its stamp on the other time line: that of its clock message, shifted."""
    if times.index.header is None:
        return FrameStamps(made, None)
    if not len(times.usable('header')[0]):
        raise times.nothing_usable(topic, 'header')
    if clock.timeline == 'header':
        return FrameStamps(times.moved(made, 'bag'), made)
    return FrameStamps(made, times.moved(made, 'header'))


def _ends(clock: Clock, topics: Sequence[str], times: Mapping[str, TopicTimes]) -> dict[str, _End]:
    """
    Return the end of each topic of which a stamp is trusted.

    On header stamps, topics without them end when their last message was received.
    """
    ends: dict[str, _End] = {}
    for topic in topics:
        timeline = 'bag' if times[topic].index.header is None else clock.timeline
        stamps, _ = times[topic].usable(timeline)
        if len(stamps):
            ends[topic] = _End(timeline, int(stamps[-1]))
    return ends


def _before_end(clock: Clock, frames: FrameStamps, ends: Mapping[str, _End]) -> tuple[Mask, str]:
    """
    Tell which frames lie before the end of every topic, or of any, and whose end decides.

    Of topics that end with the same frame, the first one decides.
    """
    if clock.end_trim == 'none':
        return np.ones(len(frames.bag), dtype=bool), ''
    before = {topic: frames.on(end.timeline) < end.stamp for topic, end in ends.items()}
    chosen, combine = (
        (min, np.logical_and) if clock.end_trim == 'min_end' else (max, np.logical_or)
    )
    ender = chosen(before, key=lambda topic: int(before[topic].sum()))
    return np.asarray(combine.reduce([*before.values()]), dtype=bool), ender
