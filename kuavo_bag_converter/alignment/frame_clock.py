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

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from kuavo_bag_converter.alignment.report import ClockReport, Pause
from kuavo_bag_converter.alignment.stamps import TopicTimes
from kuavo_bag_converter.bags.model import NS_PER_S, Ordinals, Stamps
from kuavo_bag_converter.bags.time_spans import recorded_spans, TimeSpan
from kuavo_bag_converter.profiles.model import Clock
from kuavo_bag_converter.support.errors import BagError
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

_FEWEST = 3
"""Messages whose rate is known."""
_MANY = 30
_COARSE_NS = 5_000_000
"""Steps of stamps that are worth a word."""
_MOST_FRAMES = 50_000_000
"""Of one bag: a plan of so many has gigabytes."""


class FrameStamps(NamedTuple):
    """Stamps of the frames on both time lines, each of shape (frames,)."""

    bag: Stamps
    header: Stamps | None
    part: Ordinals
    """Number of the part of the bag that a pause or a step of a clock leaves, ascending."""

    def on(self, timeline: str) -> Stamps:
        """Return the stamps on a time line that the plan needs."""
        stamps = self.header if timeline == 'header' else self.bag
        assert stamps is not None, 'header stamps of the clock are asked for by topics_with_header'
        return stamps

    def only(self, chosen: Mask) -> FrameStamps:
        """Return some of the frames."""
        header = None if self.header is None else self.header[chosen]
        return FrameStamps(self.bag[chosen], header, self.part[chosen])


def joined(runs: Sequence[FrameStamps]) -> FrameStamps:
    """Put the frames of runs one after the other."""
    if len(runs) == 1:
        return runs[0]
    part, first = [], 0
    for frames in runs:
        part.append(frames.part + first)
        first = int(part[-1][-1]) + 1
    headers = [frames.header for frames in runs if frames.header is not None]
    return FrameStamps(
        np.concatenate([frames.bag for frames in runs]),
        np.concatenate(headers) if headers else None,
        np.concatenate(part),
    )


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
    streams = _streams(clock, times)
    pauses = _pauses(clock, kept, streams) if clock.on_pause == 'split' else []
    parts = np.split(kept, np.unique(np.searchsorted(kept, [pause.stop for pause in pauses])))
    decimation, made = _decimate(clock, topic, parts, fps)
    part = np.repeat(np.arange(len(made)), [len(frames) for frames in made])
    bag, header = _on_both_timelines(np.concatenate(made), clock, topic, times[topic])
    candidates = FrameStamps(bag, header, part)
    ends = _ends(clock, (topic, *ending), times)
    before_end, ender = _before_end(clock, candidates, ends)
    if not before_end.any():
        timeline, stamp = ends[ender]
        apart = (int(candidates.on(timeline)[0]) - stamp) / NS_PER_S
        raise BagError(
            f'{topic}: no frame lies before the end of {ender}, whose last message (of '
            f'{len(times[ender].index.receive)}) is {apart:.3f} s before the first frame; set '
            'end_trim: none if it lasts, or check that the topics belong together'
        )
    cut = int(np.sum(~before_end))
    report = ClockReport(
        clock_topic=topic,
        clock_messages=len(stamps),
        decimation=decimation,
        dropped_at_each_end=clock.drop,
        frames_cut_by_end_trim=cut,
        end_trim_topic=ender if cut else None,
        pauses=tuple(_reported(pause, stamps) for pause in pauses) or None,
        receive_step_ms=common_step_ms(streams.values()) if clock.timeline == 'bag' else None,
    )
    return candidates.only(before_end), report


def _streams(clock: Clock, times: Mapping[str, TopicTimes]) -> dict[str, Stamps]:
    """Return the stamps of every topic that has some on the time line of the clock."""
    return {
        topic: topic_times.usable(clock.timeline)[0]
        for topic, topic_times in times.items()
        if clock.timeline == 'bag' or topic_times.index.header is not None
    }


def _pauses(clock: Clock, stamps: Stamps, streams: Mapping[str, Stamps]) -> list[TimeSpan]:
    """
    Return the silences, of five periods of the clock at least, between two of its messages.

    Where what is missing comes at once after it, it was only held up.
    """
    if len(stamps) < _FEWEST:
        return []
    pauses = []
    for silence in silences(streams.values(), 5 * _period(stamps)):
        place = int(np.searchsorted(stamps, silence.stop))
        length = silence.stop - silence.start
        soon = np.searchsorted(stamps, silence.stop + length // 10, side='right') - place
        held_up = soon >= length / NS_PER_S * clock.source_fps / 2
        if 0 < place < len(stamps) and not held_up:
            pauses.append(silence)
    return pauses


def silences(streams: Collection[Stamps], at_least_ns: float = 0.0) -> list[TimeSpan]:
    """
    Return the times in which no topic says anything, each from one message to the next.

    They are longer than half a second, and than the time in which all topics together say twenty
    messages.

    :param streams: Stamps of each topic, ascending.
    :param at_least_ns: How long they are at least, ns.
    """
    rate = sum(1 / _period(stamps) for stamps in streams if len(stamps) >= _FEWEST)
    if not rate:
        return []
    spans = recorded_spans(streams, max(NS_PER_S / 2, at_least_ns, 20 / rate) / NS_PER_S)
    return [TimeSpan(before.stop, after.start) for before, after in pairwise(spans)]


def _period(stamps: Stamps) -> float:
    """Return the usual time from one message to the next, ns, of ascending stamps."""
    steps = np.diff(stamps)
    steps = steps[steps > 0]
    if not len(steps):
        return np.inf
    return float(np.median(steps)) * len(steps) / (len(stamps) - 1)


def _reported(pause: TimeSpan, stamps: Stamps) -> Pause:
    at, silent = pause.start - int(stamps[0]), pause.stop - pause.start
    return Pause(round(at / NS_PER_S, 3), round(silent / NS_PER_S, 3))


def common_step_ms(streams: Iterable[Stamps]) -> float | None:
    """Return in what steps stamps come, ms, where those of a topic are mostly shared."""
    steps = []
    for stamps in streams:
        apart = np.diff(np.sort(stamps))  # a tenth of the time that np.unique takes
        apart = apart[apart > 0]
        if len(stamps) >= _MANY and _FEWEST <= len(apart) + 1 <= len(stamps) // 2:
            steps.append(float(np.median(apart)))
    step = min(steps, default=0.0)
    return round(step / 1e6, 3) if step >= _COARSE_NS else None


def _decimate(
    clock: Clock, topic: str, parts: Sequence[Stamps], fps: int
) -> tuple[str, list[Stamps]]:
    """Return how the messages of each part become frames, and the frames."""
    if clock.decimation != 'time' and clock.source_fps >= fps:
        jumped = [stamps[:: int(clock.source_fps // fps)] for stamps in parts]
        exact = clock.source_fps % fps == 0
        if clock.decimation == 'jump' or (
            exact and all(np.ptp(unevenness(part, fps)) <= NS_PER_S / fps / 2 for part in jumped)
        ):
            return 'jump', jumped
    elif clock.decimation == 'jump':
        raise BagError(
            f'decimation: jump needs a camera at least as fast as the frames, '
            f'found {clock.source_fps:g} Hz for {fps} Hz; set decimation: time'
        )
    counts = [(int(stamps[-1]) - int(stamps[0])) * fps // NS_PER_S + 1 for stamps in parts]
    if sum(counts) > _MOST_FRAMES:
        messages = sum(map(len, parts))
        raise BagError(
            f'{topic}: its {messages} messages span {sum(counts) / fps / 86400:.0f} days, that is '
            f'{sum(counts)} frames; set a lower absurd_stamp_s'
        )
    return 'time', [
        stamps[0] + np.arange(count, dtype=np.int64) * NS_PER_S // fps
        for stamps, count in zip(parts, counts, strict=True)
    ]


def unevenness(frames: Stamps, fps: int) -> Stamps:
    """Return how much later each frame is than index / fps after the first, ns."""
    ideal: Stamps = frames[0] + np.arange(len(frames), dtype=np.int64) * NS_PER_S // fps
    return frames - ideal


def _on_both_timelines(
    made: Stamps, clock: Clock, topic: str, times: TopicTimes
) -> tuple[Stamps, Stamps | None]:
    """Give each frame its stamp on the other time line: that of its clock message, shifted."""
    if times.index.header is None:
        return made, None
    if not len(times.usable('header')[0]):
        raise times.nothing_usable(topic, 'header')
    if clock.timeline == 'header':
        return times.moved(made, 'bag'), made
    return made, times.moved(made, 'header')


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
