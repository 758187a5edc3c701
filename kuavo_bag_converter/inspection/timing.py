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

"""Statistics of stamps. Pure numpy; stamps are int64 nanoseconds."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from kuavo_bag_converter.alignment.frame_clock import silences
from kuavo_bag_converter.alignment.report import ClockStep, Pause
from kuavo_bag_converter.bags.clock_steps import steps_back
from kuavo_bag_converter.bags.model import NS_PER_S, Ordinals, Stamps
from kuavo_bag_converter.bags.time_spans import recorded_spans, TimeSpan, within
from kuavo_bag_converter.inspection.report import HeaderStamps, OutsideStamps, Timing
import numpy as np

_MS = 1e6
_LEAST, _MOST = -(2**63), 2**63 - 1
SLACK = NS_PER_S
"""Latched messages so near to the recording are a part of it."""


def span_of(topics: Iterable[Stamps]) -> TimeSpan | None:
    """
    Return the time in which a recording was made; None without messages.

    Stamps are parted as :func:`.stamps.recorded_spans` does; the part with most messages is the
    recording. So a clock that was not set yet, or an absurd stamp, does not stretch it. Give the
    stamps of latched topics only if there are no others.

    :param topics: Stamps of each topic, ascending.
    """
    each = list(topics)
    return max(
        recorded_spans(each),
        key=lambda span: sum(len(stamps[within(stamps, span)]) for stamps in each),
        default=None,
    )


def inside(stamps: Stamps, span: TimeSpan) -> slice:
    """Return where ascending stamps lie within the recording."""
    return within(stamps, TimeSpan(max(span.start - SLACK, _LEAST), min(span.stop + SLACK, _MOST)))


def timing_of(stamps: Stamps, span: TimeSpan) -> Timing | None:
    """Measure the receive stamps of one topic that lie within the recording, ascending."""
    mine = stamps[inside(stamps, span)]
    if not len(mine):
        return None
    first, last = float(mine[0] - span.start) / NS_PER_S, float(mine[-1] - span.start) / NS_PER_S
    intervals = np.diff(mine)
    if not len(intervals):
        return Timing(first, last, None, None, None, None, None)
    median = float(np.median(intervals))
    widest = int(np.argmax(intervals))
    return Timing(
        first,
        last,
        rate_hz=_rate(float(mine[-1] - mine[0]) / len(intervals)),
        median_rate_hz=_rate(median),
        jitter_p95_ms=float(np.percentile(np.abs(intervals - median), 95)) / _MS,
        largest_gap_ms=float(intervals[widest]) / _MS,
        largest_gap_at_s=float(mine[widest] - span.start) / NS_PER_S,
    )


def outside_of(stamps: Stamps, span: TimeSpan) -> OutsideStamps | None:
    """Describe the receive stamps of one topic, ascending, that are not within the recording."""
    where = inside(stamps, span)
    count = len(stamps) - (where.stop - where.start)
    if not count:
        return None
    before = span.start - int(stamps[0]) if where.start > 0 else 0
    after = int(stamps[-1]) - span.stop if where.stop < len(stamps) else 0
    return OutsideStamps(count, before / NS_PER_S, after / NS_PER_S)


def header_stamps_of(ordinals: Ordinals, receive: Stamps, header: Stamps) -> HeaderStamps:
    """Measure header stamps of sampled messages; element i of the arrays is one, as stored."""
    steps = header_steps(receive[header != 0], header[header != 0])
    order = np.argsort(ordinals)
    ordinals, receive, header = ordinals[order], receive[order], header[order]
    set_ = header != 0
    offset = (receive - header)[set_] / _MS
    neighbours = (np.diff(ordinals) == 1) & set_[1:] & set_[:-1]
    intervals = np.diff(header)[neighbours]
    return HeaderStamps(
        sampled=len(header),
        zero=int(len(header) - set_.sum()),
        backward=int((intervals < 0).sum()),
        median_rate_hz=_rate(float(np.median(intervals))) if len(intervals) else None,
        offset_median_ms=float(np.median(offset)) if len(offset) else None,
        offset_min_ms=float(offset.min()) if len(offset) else None,
        offset_max_ms=float(offset.max()) if len(offset) else None,
        steps=steps,
    )


def header_steps(receive: Stamps, header: Stamps) -> tuple[ClockStep, ...]:
    """Return where the clock of a publisher was set back, of its messages as they are stored."""
    return tuple(
        ClockStep(
            'header',
            at_s=round(float(receive[step - 1] - receive[0]) / NS_PER_S, 3),
            back_s=round(float(header[step - 1] - header[step]) / NS_PER_S, 3),
        )
        for step in steps_back(header, received=receive)
    )


def silences_of(topics: Collection[Stamps], span: TimeSpan) -> tuple[Pause, ...]:
    """Return the times within the recording in which no topic says anything."""
    return tuple(
        Pause(
            round((silence.start - span.start) / NS_PER_S, 3),
            round((silence.stop - silence.start) / NS_PER_S, 3),
        )
        for silence in silences([stamps[within(stamps, span)] for stamps in topics])
    )


def _rate(interval: float) -> float | None:
    return NS_PER_S / interval if interval > 0 else None
