"""Which stamps of a bag are believed. Pure numpy, no input or output.

All stamps are int64 nanoseconds. The rules are stated in docs/time.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kuavo_bag_converter.bags.model import Ordinals, Stamps, TopicIndex
from kuavo_bag_converter.errors import BagError

SILENCE_S = 600.0
"""Where no topic at all says anything for so long, stamps do not belong together."""

_NS = 1_000_000_000


class Span(NamedTuple):
    """A stretch of time, both ends included."""

    start: int
    stop: int


class _Part(NamedTuple):
    span: Span
    messages: int


def spans_of(topics: Iterable[Stamps], silence_s: float = SILENCE_S) -> list[Span]:
    """Return the stretches between which all topics are silent for longer than ``silence_s``.

    Args:
        topics: Stamps of each topic, ascending.
        silence_s: Seconds.

    """
    silence = int(silence_s * _NS)
    joined: list[Span] = []
    for start, stop in sorted(span for stamps in topics for span in _stretches(stamps, silence)):
        if joined and start - joined[-1].stop <= silence:
            joined[-1] = Span(joined[-1].start, max(joined[-1].stop, stop))
        else:
            joined.append(Span(start, stop))
    return joined


def _stretches(stamps: Stamps, silence: int) -> list[Span]:
    if not len(stamps):
        return []
    first, last = int(stamps[0]), int(stamps[-1])
    if last - first <= silence:
        return [Span(first, last)]
    # A difference of int64 stamps need not fit int64, but does modulo 2**64.
    steps = stamps[1:].view(np.uint64) - stamps[:-1].view(np.uint64)
    cuts = np.flatnonzero(steps > min(silence, 2**64 - 1)).tolist()
    starts = [first, *(int(stamps[cut + 1]) for cut in cuts)]
    stops = [*(int(stamps[cut]) for cut in cuts), last]
    return [Span(*ends) for ends in zip(starts, stops, strict=True)]


@dataclass(frozen=True, eq=False)
class TopicTimes:
    """The stamps of one topic, and which of them are believed."""

    index: TopicIndex
    during: slice
    """Ordinals of the messages that were received during the recording."""
    header_limit: float
    """How far a header stamp may be from its receive stamp, ns."""

    def usable(self, timeline: str, *, held: bool = False) -> tuple[Stamps, Ordinals]:
        """Return believed stamps in ascending order, and the ordinals that they belong to.

        With ``held``, what was received before the recording counts too: it lasts into it.
        """
        low, high = self.during.start, self.during.stop
        if held:
            low = int(np.searchsorted(self.index.receive, 0))
        ordinals = np.arange(low, high, dtype=np.int64)
        if timeline == 'bag':
            return self.index.receive[low:high], ordinals
        assert self.index.header is not None
        ordinals = ordinals[self._believed()[low:high]]
        stamps = self.index.header[ordinals]
        order = np.argsort(stamps, kind='stable')
        return stamps[order], ordinals[order]

    def counts(self, timeline: str) -> dict[str, int]:
        """Count the messages about which a rule had to decide on a time line.

        ``outside_recording``: received long before or after it. ``backward_stamps``: received
        before the message stored before them, or stamped so in the header. On header stamps also
        ``without_header_stamp`` (0) and ``absurd_header_stamps`` (too far from receiving).
        """
        messages = len(self.index.receive)
        counts = {
            'outside_recording': messages - (self.during.stop - self.during.start),
            'without_header_stamp': 0,
            'absurd_header_stamps': 0,
            'backward_stamps': self.index.backward,
        }
        if timeline == 'header':
            header = self.index.header
            assert header is not None
            counts['without_header_stamp'] = int(np.sum(header == 0))
            believed = self._believed()[self.during]
            received = header[self.during]
            counts['absurd_header_stamps'] = int(np.sum(~believed & (received != 0)))
            stamps = received[believed]
            counts['backward_stamps'] = int(np.sum(stamps[1:] < stamps[:-1]))
        return counts

    def _believed(self) -> npt.NDArray[np.bool_]:
        header, receive = self.index.header, self.index.receive
        assert header is not None
        # In floating point, because a difference need not fit int64.
        apart: npt.NDArray[np.float64] = np.abs(header.astype(np.float64) - receive)
        return np.asarray((header != 0) & (apart <= self.header_limit))

    def nothing_usable(self, topic: str, timeline: str) -> BagError:
        """Return the error for a topic of which no stamp is believed."""
        receive, header = self.index.receive, self.index.header
        if self.during.start >= self.during.stop:
            return BagError(
                f'{topic}: none of its {len(receive)} messages was received during the recording; '
                'use strategy: hold where what was said before holds, or a larger absurd_stamp_s'
            )
        if timeline == 'bag' or header is None or not header[self.during].any():
            return BagError(f'{topic}: no message with a header stamp; use timeline: bag')
        first = int(np.flatnonzero(header[self.during])[0]) + self.during.start
        apart = (int(header[first]) - int(receive[first])) / _NS
        return BagError(
            f'{topic}: no header stamp is within {self.header_limit / _NS:g} s of the receive '
            f'stamp, the first is {apart:+.0f} s off; use timeline: bag, or a larger '
            'absurd_stamp_s where all clocks are off alike'
        )


def believed(
    index: Mapping[str, TopicIndex], clock_topic: str, absurd_stamp_s: float
) -> dict[str, TopicTimes]:
    """Decide which stamps of a bag's topics are believed.

    The recording is the stretch with most messages of the frame clock, among those that a silence
    of all topics for ten minutes (or ``absurd_stamp_s`` if that is more) parts; messages received
    outside of it are not used, nor are header stamps further than ``absurd_stamp_s`` from the
    receive stamp. 0 believes every stamp but unset ones.
    """
    if not absurd_stamp_s:
        return {
            topic: TopicTimes(times, slice(0, len(times.receive)), np.inf)
            for topic, times in index.items()
        }
    clock = index[clock_topic].receive
    spans = spans_of((t.receive for t in index.values()), max(SILENCE_S, absurd_stamp_s))
    inside = [_inside(clock, span) for span in spans]
    recording = spans[max(range(len(spans)), key=lambda n: inside[n].stop - inside[n].start)]
    return {
        topic: TopicTimes(times, _inside(times.receive, recording), absurd_stamp_s * _NS)
        for topic, times in index.items()
    }


def _inside(stamps: Stamps, span: Span) -> slice:
    low = np.searchsorted(stamps, span.start, side='left')
    return slice(int(low), int(np.searchsorted(stamps, span.stop, side='right')))
