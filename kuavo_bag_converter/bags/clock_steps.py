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
Where the clock that stamped the messages of a topic was set back.

Stamps go back for two reasons. Messages that are under way for different times come out of order:
they are late for a moment, and the next one is in time again (jitter). Or the clock was set back:
then stamps run on from where it was set to, until they pass what they were before. The first is
sorted, the second must not be, see docs/time.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kuavo_bag_converter.bags.model import Stamps
from kuavo_bag_converter.bags.time_spans import SILENCE_S
import numpy as np
import numpy.typing as npt

JITTER_NS = 100_000_000
"""Less than this is never a step: recorders and networks mix messages so far."""
_FEW = 2
"""Messages that are no run of a clock."""
_USUAL = 50
"""Lateness that one in so many messages has is usual for a topic."""
_FALLING = 2 / 3
"""Share of messages stamped before the one before them that no clock has which runs on."""
_SHORTEST = 6
"""Messages between steps; where there are fewer on average, messages are in no order at all."""

_Numbers = npt.NDArray[np.int64]


class _Late(NamedTuple):
    """Consecutive messages that are stamped before an earlier one; each array (stretches,)."""

    start: _Numbers
    stop: _Numbers
    before: Stamps
    """The latest stamp before the stretch."""
    low: Stamps
    """The stamps of the stretch lie between ``low`` and ``high``."""
    high: Stamps
    after: Stamps
    """The stamp that follows the stretch; ``high`` where none does."""


def steps_back(
    stamps: Stamps, begins: Sequence[int] = (), received: Stamps | None = None
) -> list[int]:
    """
    Return the places at which a clock was set back: each the first message after a step.

    :param stamps: Stamps of a topic in the order in which its messages came, ns, shape (n,).
    :param begins: Places at which a file begins, whose order need not be that of time.
    :param received: Where ``stamps`` are the publishers', when messages were received, ns, shape
        (n,): what was stamped in a second and received at once was only held up.
    """
    found: list[int] = []
    waiting = [(0, len(stamps))]
    while waiting:
        low, high = waiting.pop()
        part = stamps[low:high]
        inner = [begin - low for begin in begins if low < begin < high]
        got = None if received is None else received[low:high]
        for start, stop, is_step in _looked_into(part, inner, got):
            if is_step:
                found.append(low + start)
            waiting.append((low + start, low + stop))
        if len(found) > len(stamps) // _SHORTEST:
            return []
    return sorted(found)


def _looked_into(
    stamps: Stamps, begins: Sequence[int], received: Stamps | None
) -> list[tuple[int, int, bool]]:
    """Return the late stretches that may hold steps: start, stop, whether a step begins it."""
    late = _late_stretches(stamps)
    depth = late.before - late.low
    deep = np.flatnonzero(depth > JITTER_NS)
    if not len(deep):
        return []
    period = float(np.median(np.diff(np.sort(stamps))))
    returns = (late.stop < len(stamps)) & (
        late.after - late.high > np.maximum(depth / 2, 1.5 * period)
    )
    usual = np.sort(depth[returns])[::-1]
    rank = max(3, len(stamps) // _USUAL)
    jitter = max(JITTER_NS, 2 * int(usual[rank - 1]) if len(usual) >= rank else 0)
    result = []
    for number in deep[depth[deep] > jitter].tolist():
        start, stop = int(late.start[number]), int(late.stop[number])
        before, low, high = (int(stamp[number]) for stamp in (late.before, late.low, late.high))
        # What is just out of order may come right before a step.
        start += int(np.argmax(before - stamps[start:stop] > jitter))
        if stop - start <= _FEW or (
            returns[number] and before - high > SILENCE_S * 1e9  # absurd stamps, see docs/time.md
        ):
            continue
        if np.mean(np.diff(stamps[start:stop]) < 0) > _FALLING:
            continue
        if received is not None:
            under_way = int(received[stop - 1]) - int(received[start])
            if high - low > 4 * under_way + JITTER_NS:
                continue
        margin = max(JITTER_NS, int(5 * period))
        at_file = any(start - 1 <= begin <= start + 1 for begin in begins)
        is_step = not _fills_hole(stamps, start, stop, margin, first_too=at_file)
        result.append((start, stop, is_step))
    return result


def _late_stretches(stamps: Stamps) -> _Late:
    highest = np.maximum.accumulate(stamps)
    late = np.concatenate([[False], stamps < highest, [False]])
    edges = np.flatnonzero(late[1:] != late[:-1])
    start, stop = edges[::2], edges[1::2]
    if not len(start):
        none = np.empty(0, np.int64)
        return _Late(none, none, none, none, none, none)
    # reduceat takes pairs, of which every second one is what lies between two stretches.
    pairs = edges[: len(edges) - int(edges[-1] == len(stamps))]
    low = np.minimum.reduceat(stamps, pairs)[::2]
    high = np.maximum.reduceat(stamps, pairs)[::2]
    follows = stop < len(stamps)
    after = np.where(follows, stamps[np.minimum(stop, len(stamps) - 1)], high)
    return _Late(start, stop, highest[start - 1], low, high, after)


def _fills_hole(stamps: Stamps, start: int, stop: int, margin: int, *, first_too: bool) -> bool:
    """
    Tell whether late messages lie, by their stamps, just where others left a hole.

    Then they are only stored in another order. Before all others there is a hole for a file alone
    (``first_too``).
    """
    low, high = int(stamps[start:stop].min()), int(stamps[start:stop].max())
    earlier = stamps[:start]
    slack = min(JITTER_NS, (high - low) // 4)
    if ((earlier > low + slack) & (earlier < high - slack)).any():
        return False
    below, above = earlier[earlier <= low + slack], earlier[earlier >= high - slack]
    if int(above.min()) - high > margin:
        return False
    return low - int(below.max()) <= margin if len(below) else first_too
