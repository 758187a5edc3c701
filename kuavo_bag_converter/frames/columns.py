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

"""One part of a vector: its place in the rows, from decoded messages to finished values."""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import Any, NamedTuple

from kuavo_bag_converter.alignment.binding import BoundPart
from kuavo_bag_converter.alignment.plan import Fill, Plan, TrackPlan
from kuavo_bag_converter.bags.damage import seconds_text
from kuavo_bag_converter.frames.elements import ElementReader
from kuavo_bag_converter.frames.operations import (
    apply_operations,
    interpolate,
    is_as_recorded,
    Mask,
    Matrix,
    one_sign,
    quaternions_of,
    shorter_way,
    turn_of,
    TURNS,
    whole,
    WrapDetector,
)
from kuavo_bag_converter.frames.poses import ChainedPoses
from kuavo_bag_converter.frames.rotations import (
    as_quaternions,
    from_quaternions,
    is_no_rotation,
)
from kuavo_bag_converter.frames.served_frames import FramesOfMessages
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.profiles.model import GAP_MARK, INTEGERS, Reduce, Source, VectorFeature
from kuavo_bag_converter.support.errors import BagError
import numpy as np
import numpy.typing as npt

FillCodes = npt.NDArray[np.uint8]
_SCALES = {
    'deg2rad': f' and scale: {math.radians(1)!r}',
    'rad2deg': f' and scale: {math.degrees(1)!r}',
}
"""What stands for a unit beside that of an angle."""
Numbers = npt.NDArray[Any]
"""float64, or int64 of a feature of integers."""


class Cells(NamedTuple):
    """What messages say for some frames."""

    values: Numbers
    """Shape (frames, width)."""
    stamps: npt.NDArray[np.int64]
    """When the messages were received, ns, shape (frames,)."""

    @classmethod
    def allocate(cls, frames: int, width: int, dtype: type[Any]) -> Cells:
        """Return empty cells."""
        return cls(np.zeros((frames, width), dtype), np.zeros(frames, np.int64))

    def of(self, frames: int) -> Cells:
        """Return the first ``frames``."""
        return Cells(self.values[:frames], self.stamps[:frames])


class Block(NamedTuple):
    """Finished values and a :class:`Fill` for each, shape (frames, width)."""

    values: Numbers
    fill: FillCodes


class Column:
    """
    One part: its cells and how to finish them.

    What it calls a frame is a sample of one, where the feature has several samples a frame.
    Chunks are finished in order, each once: what is held, kept in one sign or subtracted goes
    from one to the next.
    """

    def __init__(
        self, bound: BoundPart, plan: Plan, definitions: Definitions, feature: VectorFeature
    ) -> None:
        self.part = bound.part
        self.width = len(bound.part.names)
        self.plan: TrackPlan | None = plan.tracks[bound.track] if bound.track >= 0 else None
        self.first: FramesOfMessages | None = None
        self.second: FramesOfMessages | None = None
        self.frames = np.empty(0, dtype=np.int64)
        self.reader: ElementReader | None = None
        self.not_finite = 0
        """Frames so far in which a number was held or replaced that was not finite."""
        self.fitted: dict[str, Mask] = {}
        """Which frames have a message that was ``padded``, or ``cut_short``; shape (frames,)."""
        self._key = feature.key
        self.reduce: Reduce | None = None
        """What becomes of several messages of a frame."""
        self._integers = feature.dtype in INTEGERS
        self._turn = TURNS.get(bound.part.unit)
        self.samples = len(bound.offsets)
        """Of each frame."""
        self._frames = len(plan)
        self._starts = self.samples * np.array([start for start, _ in plan.episodes], np.int64)
        self._last_frames = np.array([stop - 1 for _, stop in plan.episodes], dtype=np.int64)
        self._held = _Memory()
        self._turned: list[_Memory] = []
        self._first_values = _Memory()
        self._quaternions: tuple[tuple[int, ...], ...] = ()
        self._wrap: WrapDetector | None = None
        self._jumps: dict[tuple[int, str], str] = {}
        self.dtype: type[Any] = np.float64
        self.poses: ChainedPoses | None = None
        self._fields = '' if bound.source is None else '+'.join(bound.source.fields)
        if bound.links:
            self.poses = ChainedPoses(bound, plan, feature.key)
            self.plan, self.frames = self.poses.plan, self.poses.frames
            assert bound.source is not None
            self._find_quaternions(bound.source, '')
        elif self.plan is not None and bound.source is not None and not bound.part.gap_flag:
            self._read_messages(bound, definitions, feature)

    def _read_messages(
        self, bound: BoundPart, definitions: Definitions, feature: VectorFeature
    ) -> None:
        assert self.plan is not None
        assert bound.source is not None
        earlier = self.plan.earlier
        if earlier is not None:
            self.reduce = self.plan.track.align.reduce
        if self._integers and is_as_recorded(bound.part) and self.reduce != 'mean':
            self.dtype = np.int64
        self.reader = ElementReader(bound.part, bound.source, definitions, feature)
        valued = np.flatnonzero(self.plan.fill == Fill.VALUE)
        mixed = valued[self.plan.second[valued] != self.plan.first[valued]]
        ordinals, frames = self.plan.first[valued], valued
        if earlier is not None:
            ordinals = np.concatenate([ordinals, earlier.ordinals])
            frames = np.concatenate([frames, earlier.frames])
        self.first = FramesOfMessages(ordinals, frames)
        self.second = FramesOfMessages(self.plan.second[mixed], mixed) if len(mixed) else None
        self.frames = np.concatenate([frames, mixed])
        strategy = self.plan.track.align.strategy
        self._find_quaternions(bound.source, strategy)
        if strategy == 'linear' and self._turn is None:
            self._wrap = WrapDetector(self.width, bound.part.unit)

    def _find_quaternions(self, source: Source, strategy: str) -> None:
        self._quaternions = quaternions_of(self.part, source, strategy)
        real = self.part.real_part(source) if self.part.rotation is None else 3
        self._real = [real for _ in self._quaternions]
        self._turned = [_Memory() for _ in self._quaternions]

    @property
    def cell_width(self) -> int:
        """Numbers that messages tell for a frame."""
        return len(self.part.recorded_names) if self.poses is None else self.poses.width

    @property
    def needs_second(self) -> bool:
        """Whether some frame lies between two messages, or its messages are counted."""
        return self.second is not None or self.reduce is not None

    def put(
        self, cells: tuple[Cells, Cells | None], slot: int, row: int, stamp: int, values: Numbers
    ) -> None:
        """Take the values of a message that serves a row, received at ``stamp``."""
        if self.poses is not None:
            cells[0].stamps[row] = stamp
            self.poses.put(cells[0].values[row], slot, values)
            return
        mine, counts = cells[slot], cells[1]
        assert mine is not None
        mine.stamps[row] = max(stamp, mine.stamps[row]) if self.reduce is not None else stamp
        if self.reduce is None:
            mine.values[row] = values
            return
        assert counts is not None
        if self.reduce == 'any':
            values = np.where(np.isfinite(values), values != 0, values)
        if not counts.values[row, 0]:
            mine.values[row] = values
        elif self.reduce == 'mean':
            mine.values[row] += values
        else:
            np.maximum(mine.values[row], values, out=mine.values[row])
        counts.values[row] += 1

    def note_fitted(self, what: str, rows: Sequence[int]) -> None:
        """Note what became of the elements of the message that serves some rows."""
        if what not in self.fitted:
            self.fitted[what] = np.zeros(self._frames, dtype=bool)
        self.fitted[what][[row // self.samples for row in rows]] = True

    def forget(self, cells: tuple[Cells, Cells | None]) -> None:
        """Make finished cells ready for other frames."""
        if self.reduce is not None and cells[1] is not None:
            cells[1].values.fill(0)
            cells[0].stamps.fill(0)

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics whose messages it takes."""
        if self.poses is not None:
            return self.poses.topics
        return () if self.first is None else (self.topic,)

    @property
    def topic(self) -> str:
        """Of its messages; '' of one that has none."""
        return '' if self.plan is None else self.plan.track.topic

    def fill(self, start: int, stop: int) -> FillCodes:
        """Return the :class:`Fill` of each frame from start to stop."""
        if self.plan is None or self.part.gap_flag:
            return np.zeros(stop - start, dtype=np.uint8)
        return self.plan.fill[start:stop]

    def finish(self, first: Cells, second: Cells | None, start: int, stop: int) -> Block:
        """
        Return the part's values for the frames from start to stop.

        :raises BagError: A message says what must not be in a dataset.
        """
        if self.reduce is not None and second is not None:
            if self.reduce == 'mean':
                first = first._replace(values=first.values / np.maximum(second.values, 1))
            second = None
        values = self._flags(start, stop)
        fill = self.fill(start, stop)
        if values is None:
            values = self._operated(first, second, start, stop)
            if fill.any():
                values = values.copy()
                values[fill == Fill.ZEROS] = 0
                values[fill == Fill.MARK] = GAP_MARK
        if self._integers and values.dtype != np.int64:
            values = self._whole(values, first)
        if self.part.relative_to_start:
            values = self._relative(values, fill, start)
        return Block(values, np.repeat(fill[:, None], self.width, axis=1))

    def check(self) -> None:
        """
        Check what only all frames together tell.

        :raises BagError: Angles that wrap around were interpolated through all between.
        """
        for (element, unit), text in self._jumps.items():
            if self._wrap is not None and self._wrap.wraps(element, unit):
                raise BagError(text)

    def error(self, cells: Cells, row: int, name: str, problem: str) -> BagError:
        """Return an error about an element, by its name, of the message that serves a row."""
        return BagError(
            f'{self.topic}: the message received at {seconds_text(int(cells.stamps[row]))}: '
            f'{name} ({self._fields}) {problem} ({self._key})'
        )

    def _flags(self, start: int, stop: int) -> Numbers | None:
        """Return the values of a part that no message gives; None of any other."""
        if self.part.gap_flag:
            in_gap = None if self.plan is None else self.plan.in_gap[start:stop]
            flags = np.zeros(stop - start, dtype=bool) if in_gap is None else in_gap
        elif self.part.last_frame:
            flags = np.isin(np.arange(start, stop), self._last_frames)
        else:
            return None
        return flags[:, None].astype(np.float64)

    def _operated(self, first: Cells, second: Cells | None, start: int, stop: int) -> Numbers:
        if self.dtype is np.int64:
            return first.values
        served = self.fill(start, stop) == Fill.VALUE
        if self.poses is not None and self.poses.constant is not None:
            values = self._as_quaternions(np.tile(self.poses.constant, (stop - start, 1)))
        else:
            values = self._served(first, second, served, start)
        for group, memory, real in zip(self._quaternions, self._turned, self._real, strict=True):
            values = self._in_one_sign(values, list(group), memory, real, served, start)
        if self.part.rotation is not None:
            values = from_quaternions(self.part.rotation.written, values)
        return apply_operations(self.part, values)

    def _served(self, first: Cells, second: Cells | None, served: Mask, start: int) -> Matrix:
        """Return what the messages say, or lies between what two of them say, all finite."""
        assert self.plan is not None
        if self.poses is not None:
            first = first._replace(values=self.poses.elements(first.values, start))
        messages = [(first, served)]
        weight = self.plan.weight[slice(start, start + len(served))]
        if second is not None:
            messages.append((second, served & (weight > 0)))
        found = self._check_finite(messages)
        not_finite = found if self.part.nan == 'hold' else np.zeros_like(found)
        for cells, rows in messages:
            not_finite = not_finite | self._check_rotations(cells, rows & ~not_finite)
        self.not_finite += int((found | not_finite).reshape(-1, self.samples).any(axis=1).sum())
        messages = [
            (cells._replace(values=self._as_quaternions(cells.values)), rows)
            for cells, rows in messages
        ]
        values = messages[0][0].values
        if second is not None:
            values = self._between(messages, weight, not_finite)
        if self.part.nan == 'hold':  # in each chunk, as the next one may begin with what is held
            if self.part.rotation is not None:
                values[not_finite] = np.nan  # as a whole
            values = self._hold(values, served, first, start)
        return values

    def _as_quaternions(self, values: Matrix) -> Matrix:
        """Return the numbers of messages, those of a rotation as unit quaternions x, y, z, w."""
        if self.part.rotation is None:
            return values
        return as_quaternions(self.part.rotation.recorded, values)

    def _between(
        self, messages: list[tuple[Cells, Mask]], weight: Matrix, not_finite: Mask
    ) -> Matrix:
        """Interpolate between the two messages of each frame."""
        assert self.plan is not None
        (first, _), (second, between) = messages
        strategy = self.plan.track.align.strategy
        later = np.where(weight[:, None] == 0, first.values, second.values)
        if strategy == 'linear':
            for group in map(list, self._quaternions):
                dot = np.sum(first.values[:, group] * later[:, group], axis=1)
                opposite = np.flatnonzero(between & (dot < 0))
                later[opposite[:, None], group] *= -1
            self._find_jumps(messages, later, between & ~not_finite)
        with np.errstate(invalid='ignore'):  # of what is not finite and is going to be held
            return interpolate(strategy, first.values, later, weight, self._turn)

    def _find_jumps(self, messages: list[tuple[Cells, Mask]], later: Matrix, rows: Mask) -> None:
        if self._wrap is None:
            return
        (first, _), (second, _) = messages
        places = np.flatnonzero(rows)
        found = self._wrap.add(first.values[places], later[places])
        for unit, jumps in found.items():
            for element in np.flatnonzero(jumps.any(axis=0)).tolist():
                at = places[jumps[:, element].argmax()]
                self._jumps.setdefault(
                    (element, unit),
                    str(
                        self.error(
                            first, at, self.part.names[element],
                            f'is {first.values[at, element]:g}, and {later[at, element]:g} in the '
                            f'next, received at {seconds_text(int(second.stamps[at]))}: a full '
                            'turn between two messages, through which linear would go the long '
                            f'way; if it is an angle, set unit: {unit}'
                            f'{_SCALES.get(self.part.unit, "")}, else strategy: nearest',
                        )
                    ),
                )  # fmt: skip

    def _check_finite(self, messages: list[tuple[Cells, Mask]]) -> Mask:
        """Do what ``nan`` says; return the rows of which a message has numbers it is for."""
        found = np.zeros(len(messages[0][1]), dtype=bool)
        for cells, rows in messages:
            wrong = ~np.isfinite(cells.values) & rows[:, None]
            if not wrong.any():
                continue
            if self.part.nan == 'fail':
                row, element = (int(at[0]) for at in np.nonzero(wrong))
                raise self.error(
                    cells, row, self.part.recorded_names[element],
                    f'is {cells.values[row, element]}; a dataset needs finite numbers: set nan: '
                    'hold, or nan: and a number, at the part',
                )  # fmt: skip
            found |= wrong.any(axis=1)
            if self.part.nan != 'hold':
                cells.values[wrong] = self.part.nan
        return found

    def _check_rotations(self, cells: Cells, rows: Mask) -> Mask:
        """Refuse what is no rotation; return the rows in which it is held, if ``nan`` says so."""
        places, held = np.flatnonzero(rows), np.zeros(len(rows), dtype=bool)
        rotation, recorded = self.part.rotation, 'quaternion_xyzw'
        groups = [list(group) for group in self._quaternions]
        if rotation is not None:
            recorded, groups = rotation.recorded, [[*range(len(self.part.recorded_names))]]
        kind = recorded.partition('_')[0]
        for group in groups:
            wrong = places[is_no_rotation(recorded, cells.values[places][:, group])]
            if rotation is not None and self.part.nan == 'hold':
                held[wrong] = True
            elif len(wrong):
                row = int(wrong[0])
                numbers = ', '.join(f'{cells.values[row, element]:g}' for element in group)
                why = 'expected two vectors, neither 0 nor along each other'
                if kind == 'matrix':
                    why = 'expected rows of length 1 at right angles'
                elif kind == 'quaternion':
                    length = np.linalg.norm(cells.values[row, group])
                    why = f'its length is {length:.3g}, expected 1'
                raise self.error(
                    cells, row, self.part.recorded_names[group[0]],
                    f'begins the {kind} ({numbers}), which is no rotation: {why}; leave it out, '
                    'or cut the recording',
                )  # fmt: skip
        return held

    def _episodes(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        frames = np.arange(start, stop)
        return np.searchsorted(self._starts, frames, side='right') - 1

    def _hold(self, values: Matrix, served: Mask, first: Cells, start: int) -> Matrix:
        """Put the number of the frame before in the place of each that is not finite."""
        good = np.isfinite(values) & served[:, None]
        episodes = self._episodes(start, start + len(values))
        result: Matrix = values.copy()
        for episode in np.unique(episodes).tolist():
            rows = np.flatnonzero(episodes == episode)
            mine, known = values[rows], good[rows]
            before = self._held.of(episode)
            latest = np.where(known, np.arange(len(rows))[:, None], -1)
            latest = np.maximum.accumulate(latest, axis=0)
            held = np.take_along_axis(mine, np.maximum(latest, 0), axis=0)
            none = np.full(values.shape[1], np.nan) if before is None else before
            held = np.where(latest >= 0, held, none)
            missing = served[rows][:, None] & ~np.isfinite(held)
            if missing.any():
                row, element = (int(at[0]) for at in np.nonzero(missing))
                problem, advice = 'not finite', 'set nan: and a number at the part'
                if self.part.rotation is not None:
                    element, problem, advice = 0, 'no rotation', 'cut the recording'
                raise self.error(
                    first, int(rows[row]), self.part.names[element],
                    f'is {problem}, and no frame before it in its episode has a number to hold; '
                    f'{advice}',
                )  # fmt: skip
            self._held.keep(episode, held[-1])
            result[rows] = np.where(served[rows][:, None], held, mine)
        return result

    def _in_one_sign(
        self, values: Matrix, group: list[int], memory: _Memory, real: int | None, served: Mask,
        start: int,
    ) -> Matrix:  # fmt: skip
        """Give the quaternions of each episode the sign that ``quaternion`` says."""
        if self.part.quaternion == 'as_recorded':
            return values
        signs = np.ones(len(values))
        if self.part.quaternion == 'positive_w':
            assert real is not None
            signs[served & (values[:, real] < 0)] = -1.0
        else:
            episodes = self._episodes(start, start + len(values))
            for episode in np.unique(episodes[served]).tolist():
                rows = np.flatnonzero((episodes == episode) & served)
                mine = values[rows][:, group]
                signs[rows] = one_sign(mine, memory.of(episode))
                memory.keep(episode, mine[-1] * signs[rows[-1]])
        if (signs > 0).all():
            return values
        result: Matrix = values.copy()
        result[:, group] *= signs[:, None]
        return result

    def _whole(self, values: Matrix, first: Cells) -> Numbers:
        numbers, wrong = whole(values)
        if wrong.any():
            row, element = (int(at[0]) for at in np.nonzero(wrong))
            raise self.error(
                first, row, self.part.names[element],
                f'is {values[row, element]!s} after the operations of its part, no whole number '
                'that float64 holds exactly; set another dtype, or scale or threshold',
            )  # fmt: skip
        return numbers

    def _relative(self, values: Numbers, fill: FillCodes, start: int) -> Numbers:
        """Subtract from each value the first one of its episode; what is filled stays."""
        episodes = self._episodes(start, start + len(values))
        episodes[fill != Fill.VALUE] = -1
        turn = turn_of(self.part)
        result: Numbers = values.copy()
        for episode in np.unique(episodes[episodes >= 0]).tolist():
            mine = np.flatnonzero(episodes == episode)
            first = self._first_values.of(episode)
            if first is None:
                first = self._first_values.keep(episode, values[mine[0]].copy())
            result[mine] -= first
            if turn is not None:
                result[mine] = shorter_way(result[mine], turn)
        return result


class _Memory:
    """Values that go from one chunk to the next of an episode."""

    def __init__(self) -> None:
        self._episode = -1
        self._values: Numbers | None = None

    def of(self, episode: int) -> Numbers | None:
        """Return what is kept of an episode, if anything is."""
        return self._values if episode == self._episode else None

    def keep(self, episode: int, values: Numbers) -> Numbers:
        """Keep and return values of an episode."""
        self._episode, self._values = episode, values
        return values
