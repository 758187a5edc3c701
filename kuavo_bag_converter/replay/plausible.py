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
What the numbers of a column must be like if they mean what the profile says.

Values can be taken from the right messages and still be wrong: two robots that speak on one topic,
columns that are named after other joints, an angle that was interpolated through a full turn.
Nothing here knows which message served a frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
import math
from typing import Any, NamedTuple

from kuavo_bag_converter.profiles.model import Part, Source
from kuavo_bag_converter.replay.stated_rows import quaternions
import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
_LARGE = 1 << 17
"""From here on float32 is too coarse for much that is counted or measured."""
_SWITCHES = 3


class Doubt(NamedTuple):
    """Something that speaks against a column."""

    rule: str
    found: str
    expected: str


@dataclass
class PartEvidence:
    """
    What there is of one part of a feature in one episode: rows, and messages that tell them.

    :ivar rows: What the dataset has, float64 (frames, elements); filled cells are NaN.
    :ivar columns: The names of its elements.
    :ivar values: What the messages have, before the operations, (messages, elements).
    :ivar operated: The same behind the operations.
    :ivar stamps: Of the messages, ns, ascending, (messages,).
    :ivar who: Who speaks in each message: its frame_id and the names of its elements.
    """

    part: Part
    source: Source
    columns: Sequence[str]
    strategy: str
    is_difference: bool
    single: bool
    """Whether the column holds 32 bits."""
    rows: Values
    values: Values
    operated: Values
    stamps: NDArray[np.int64]
    frame_stamps: NDArray[np.int64]
    who: Sequence[tuple[Any, ...]]
    names: Sequence[Sequence[str]]
    """Of the elements, as each message gives them; empty where it does not."""


def doubts(seen: PartEvidence) -> Iterator[Doubt]:
    """Yield what speaks against a part."""
    yield from _several_speakers(seen)
    yield from _other_names(seen)
    if seen.part.rotation is not None:
        return  # one rotation has other numbers in the message than in the row
    if seen.part.on_length == 'refuse':  # else places are those of other things in each message
        yield from _two_sources(seen)
    yield from _wrapped(seen)
    yield from _collapsed(seen)
    yield from _lost_pulses(seen)
    yield from _quaternion(seen)
    yield from _jumps(seen)
    yield from _implausible(seen)


def in_turns(who: Sequence[tuple[Any, ...]]) -> bool:
    """Tell whether several speak in turns, and not one after the other."""
    return sum(a != b for a, b in pairwise(who)) >= _SWITCHES


def _several_speakers(seen: PartEvidence) -> Iterator[Doubt]:
    if seen.part.joints:
        return
    if in_turns(seen.who):
        shown = ' and '.join(sorted({' '.join(filter(None, who)) for who in seen.who})[:2])
        yield Doubt('opinion.sources', f'messages of {shown} in turns', 'one publisher')


def _other_names(seen: PartEvidence) -> Iterator[Doubt]:
    columns = list(seen.columns)
    first: Sequence[str] = ()
    for names in seen.names:
        if len(names) != len(columns):
            continue
        first = first or names
        for column, name, before in zip(columns, names, first, strict=True):
            if (column != name and column in names) or name != before:
                expected = column if column in names else before
                yield Doubt('opinion.names', f'{name} of a message as {column}', f'its {expected}')
                return


def _two_sources(seen: PartEvidence) -> Iterator[Doubt]:
    """Find values that jump to and fro between two groups, each of which changes by itself."""
    values = _in_one_sign(seen)
    for element in range(values.shape[1]):
        column = values[:, element]
        ordered = np.unique(column[np.isfinite(column)])
        if len(ordered) < 10:
            continue
        gaps = np.diff(ordered)
        widest = int(gaps.argmax())
        if gaps[widest] < 0.3 * (ordered[-1] - ordered[0]):
            continue
        upper = column > ordered[widest]
        groups = len(np.unique(column[upper])), len(np.unique(column[~upper]))
        switches = int(np.sum(upper[1:] != upper[:-1]))
        if min(groups) >= 5 and switches >= 0.3 * len(column):
            name = seen.columns[element]
            low, high = ordered[widest], ordered[widest + 1]
            found = f'{name} at most {low:g} and at least {high:g} in turns'
            yield Doubt('opinion.sources', found, 'values of one source')
            return


def _in_one_sign(seen: PartEvidence) -> Values:
    """Return what messages say, each quaternion with the sign that is nearer to that before it."""
    part = seen.part
    values: Values = seen.values.copy()
    if part.quaternion:
        part = replace(part, quaternion='continuous')
    for group in quaternions(part, seen.source, seen.strategy):
        opposite = np.sum(values[1:, group] * values[:-1, group], axis=1) < 0
        values[1:, group] *= np.cumprod(np.where(opposite, -1.0, 1.0))[:, None]
    return values


def _wrapped(seen: PartEvidence) -> Iterator[Doubt]:
    """Find a full turn between two messages where numbers are mixed or subtracted."""
    mixed = seen.strategy == 'linear'
    if seen.part.unit.startswith('angle') or not (
        mixed or seen.is_difference or seen.part.relative_to_start
    ):
        return
    steps = np.abs(np.diff(seen.values, axis=0))
    for turn, slack in ((2 * math.pi, 1.0), (360.0, 57.0)):
        largest = np.abs(seen.values).max(initial=0.0)
        if not 0.45 * turn <= largest <= 1.01 * turn:
            continue
        wraps = (steps > turn - slack) & (steps < turn + 0.01 * slack)
        rare = wraps.sum(axis=0) < 0.2 * len(steps)
        if (wraps & rare).any():
            element = int((wraps & rare).any(axis=0).argmax())
            what = 'interpolated' if mixed else 'subtracted'
            yield Doubt(
                'opinion.angle', f'{seen.columns[element]} {what} over a full turn',
                'the shorter way',
            )  # fmt: skip
            return


def _collapsed(seen: PartEvidence) -> Iterator[Doubt]:
    """Find steps from frame to frame that 32 bits change by more than a tenth."""
    if not seen.single or seen.is_difference or seen.part.relative_to_start:
        return
    position = any('itude' in path for path in seen.source.fields)
    at = np.searchsorted(seen.stamps, seen.frame_stamps).clip(0, len(seen.stamps) - 1)
    for name, column in zip(seen.columns, seen.operated[at].T, strict=True):
        if not np.isfinite(column).all() or (abs(column).max() < _LARGE and not position):
            continue
        rounded = column.astype(np.float32).astype(np.float64)
        if (column == np.rint(column)).all() and (column != rounded).any():
            found = f'{int((column != rounded).sum())} whole numbers of {name} rounded to 32 bits'
            yield Doubt('opinion.precision', found, 'the numbers of the messages')
            return
        steps, kept = np.diff(column), np.diff(rounded)
        moving = steps != 0
        bent = np.abs(kept - steps)[moving] > 0.1 * np.abs(steps)[moving]
        if moving.sum() > 2 and bent.mean() > 0.5:
            found = f'{int(bent.sum())} of {len(bent)} steps of {name} bent by 32 bits'
            yield Doubt('opinion.precision', found, 'values that can be told apart')
            return


def _quaternion(seen: PartEvidence) -> Iterator[Doubt]:
    part = seen.part
    changed = part.scale, part.offset, part.value_range, part.threshold
    if any(one is not None for one in changed) or part.relative_to_start or seen.is_difference:
        return
    for places in quaternions(part, seen.source, seen.strategy):
        rows = seen.rows[:, places]
        known = np.asarray(~np.isnan(rows).any(axis=1))
        length: Values = np.sqrt((rows**2).sum(axis=1))
        wrong = known & np.asarray(abs(length - 1) > 0.02)
        if wrong.any():
            frame = int(wrong.argmax())
            found = f'a quaternion of length {float(length[frame]):.3g} in frame {frame}'
            yield Doubt('opinion.quaternion', found, 'length 1')
        turned = (rows[1:] * rows[:-1]).sum(axis=1)
        flips = known[1:] & known[:-1] & (turned < -0.5)
        if flips.any():
            found = f'the sign of the quaternion turns in frame {int(flips.argmax()) + 1}'
            yield Doubt('opinion.quaternion', found, 'one sign along an episode')


def _jumps(seen: PartEvidence) -> Iterator[Doubt]:
    """Compare changes from row to row with those from message to message."""
    if seen.part.relative_to_start or seen.is_difference or len(seen.operated) < 2:
        return
    fastest = np.abs(np.diff(seen.operated, axis=0)).max(axis=0)
    between = np.diff(np.searchsorted(seen.stamps, seen.frame_stamps)) + 2
    change = np.abs(np.diff(seen.rows, axis=0))
    allowed = between[:, None] * fastest * 1.001 + 1e-6 * np.abs(seen.rows[1:]) + 1e-6
    wrong = change > allowed
    if wrong.any():
        frame, element = (int(at[0]) for at in np.nonzero(wrong))
        yield Doubt(
            'opinion.jump',
            f'{seen.columns[element]} changes by {change[frame, element]:.4g} in frame '
            f'{frame + 1}',
            f'at most {allowed[frame, element]:.4g}, by its messages',
        )


def _lost_pulses(seen: PartEvidence) -> Iterator[Doubt]:
    """Find pulses that fall between the frames: 0 in every row, but not in every message."""
    inside = (seen.stamps >= seen.frame_stamps[0]) & (seen.stamps <= seen.frame_stamps[-1])
    if seen.is_difference or not inside.any():
        return
    for element, column in enumerate(seen.values[inside].T):
        if not np.isin(column, (0.0, 1.0)).all():
            continue
        pulses = int(np.sum(np.diff(column) > 0))
        rows = seen.rows[:, element]
        if pulses and len(np.unique(rows[~np.isnan(rows)])) == 1:
            found = f'{pulses} pulses of {seen.columns[element]} in no row'
            yield Doubt('opinion.pulses', found, 'a row with each; set reduce')
            return


def _implausible(seen: PartEvidence) -> Iterator[Doubt]:
    """Find statistics that no quantity of the unit has."""
    part = seen.part
    rows = seen.rows[~np.isnan(seen.rows).any(axis=1)]
    if not len(rows) or seen.is_difference or part.relative_to_start:
        return
    least, most = float(rows.min()), float(rows.max())
    found = f'values from {least:.4g} to {most:.4g}'
    scaled = part.scale is not None or part.offset is not None
    if part.threshold is not None:
        if not np.isin(rows, (0.0, 1.0)).all():
            yield Doubt('opinion.statistics', found, '0 and 1')
    elif part.value_range is not None and not scaled:
        if not -1 <= float(np.median(rows)) <= 2:
            yield Doubt('opinion.statistics', found, f'about 0 to 1, by range {part.value_range}')
    elif part.unit == 'deg2rad' and not scaled and max(-least, most) > 4 * math.pi:
        yield Doubt('opinion.statistics', found, 'radians of joints, at most two turns')
    elif part.unit == 'rad2deg' and not scaled and max(-least, most) > 720:
        yield Doubt('opinion.statistics', found, 'degrees of joints, at most two turns')
