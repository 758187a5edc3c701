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

"""The numbers of an episode: from decoded messages to rows of the table, chunk by chunk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from kuavo_bag_converter.alignment.binding import Binding
from kuavo_bag_converter.alignment.plan import Fill, Plan
from kuavo_bag_converter.alignment.report import PlanReport
from kuavo_bag_converter.bags.model import Connection, Message, Ordinals
from kuavo_bag_converter.frames.columns import Block, Cells, Column, Numbers
from kuavo_bag_converter.frames.elements import WIDER, words_of
from kuavo_bag_converter.frames.operations import (
    outside,
    rounded_integers,
    shorter_way,
    StepLoss,
    turn_of,
)
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.profiles.model import GAP_MARK, VectorFeature
from kuavo_bag_converter.support.errors import BagError
import numpy as np
import numpy.typing as npt

_LATITUDE, _LONGITUDE = {'lat'}, {'lon', 'lng'}
"""Words in the names of elements that are positions on earth where a feature has both."""


class FrameRows(NamedTuple):
    """Finished rows of consecutive frames."""

    frames: int
    vectors: Mapping[str, npt.NDArray[Any]]
    """
    Values of each vector feature by its key, in its dtype.

    Shape (frames, elements), or (frames, samples, elements) of a feature with several samples.
    """


class _Vector(NamedTuple):
    """A feature and its parts."""

    feature: VectorFeature
    columns: tuple[Column, ...]
    steps: StepLoss

    def part_of(self, element: int) -> tuple[Column, int]:
        """Return the part that an element belongs to, and its place in the part."""
        for column in self.columns:
            if element < column.width:
                return column, element
            element -= column.width
        raise IndexError(element)


class _Chunk(NamedTuple):
    """What messages say for a chunk's frames, for each column once or, interpolated, twice."""

    cells: list[tuple[Cells, Cells | None]]


class Table:
    """
    Collects the numbers of an episode and hands out finished rows in order.

    Rows of a chunk are kept until its last cell is there, so memory is bounded by how far topics
    are apart in the bag, not by its length.
    """

    def __init__(
        self,
        binding: Binding,
        plan: Plan,
        definitions: Definitions,
        chunk_size: int,
        append: Callable[[FrameRows], None],
    ) -> None:
        """Prepare the cells of every part; ``append`` takes finished rows."""
        self._plan = plan
        self._definitions = definitions
        self._chunk_size = chunk_size
        self._append = append
        self._vectors = [
            _Vector(
                bound.feature,
                tuple(Column(part, plan, definitions, bound.feature) for part in bound.parts),
                StepLoss(_are_degrees(bound.feature.names)),
            )
            for bound in binding.vectors
        ]
        self._columns = [column for vector in self._vectors for column in vector.columns]
        self._features = {vector.feature.key: vector.feature for vector in self._vectors}
        self._by_topic: dict[str, list[int]] = {}
        for index, column in enumerate(self._columns):
            for topic in column.topics:
                self._by_topic.setdefault(topic, []).append(index)
        self.topics = frozenset(self._by_topic)
        """Topics whose messages must be fed."""
        chunks = -(-len(plan) // chunk_size)
        self._missing = np.zeros(chunks, dtype=np.int64)
        for column in self._columns:
            rows = chunk_size * column.samples
            self._missing += np.bincount(column.frames // rows, minlength=chunks)
        self._open: dict[int, _Chunk] = {}
        self._spare: list[_Chunk] = []
        self._next = 0
        self._flush()

    def wanted(self) -> dict[str, Ordinals]:
        """Return the messages that must be fed, by topic."""
        wanted = self._plan.wanted()
        return {topic: wanted[topic] for topic in self._by_topic}

    @property
    def frames(self) -> int:
        """All frames."""
        return len(self._plan)

    @property
    def frames_done(self) -> int:
        """Frames whose rows are finished."""
        return min(self._next * self._chunk_size, len(self._plan))

    def feed(self, message: Message) -> None:
        """
        Decode a message and put its values into the rows that it serves.

        :raises BagError: The message cannot be decoded or has another shape than it must.
        """
        self.take(message.connection, message.ordinal, message.stamp, self.decode(message))

    def decode(self, message: Message) -> object:
        """
        Decode a message.

        :raises BagError: It does not fit its definition.
        """
        return self._definitions.decoder(message.connection)(message.data)

    def take(self, connection: Connection, ordinal: int, stamp: int, decoded: object) -> None:
        """
        Put the values of a decoded message, received at ``stamp``, into the rows it serves.

        :raises BagError: The message does not have the elements that it must.
        """
        touched: set[int] = set()
        for index in self._by_topic[connection.topic]:
            column = self._columns[index]
            if column.poses is not None:
                for frame, slot, pose in column.poses.take(connection.topic, ordinal, decoded):
                    touched.add(self._put(index, slot, frame, stamp, pose))
                continue
            assert column.first is not None
            assert column.reader is not None
            first = column.first.of(ordinal)
            second = column.second.of(ordinal) if column.second is not None else []
            if not first and not second:
                continue
            values = column.reader.read(connection, stamp, decoded)
            if column.reader.fitted:
                column.note_fitted(column.reader.fitted, first)
            for slot, rows in enumerate((first, second)):
                for row in rows:
                    touched.add(self._put(index, slot, row, stamp, values))
        if any(self._missing[chunk] == 0 for chunk in touched):
            self._flush()

    def add_counts(self, report: PlanReport) -> PlanReport:
        """Return a report with what was done about the numbers of messages, by topic."""
        counts: dict[str, Counter[str]] = {}
        for column in self._columns:
            for key, frames in column.fitted.items():
                counts.setdefault(key, Counter())[column.topic] += int(frames.sum())
            if column.not_finite:
                counts.setdefault('not_finite', Counter())[column.topic] += column.not_finite
        given: dict[str, Any] = {key: dict(topics) for key, topics in counts.items()}
        return replace(report, **given)

    def close(self) -> None:
        """
        Check that every row came, and what only all rows together tell.

        :raises BagError: The bag did not hold what its index lists, or a dtype or strategy of the
            profile bends what it holds.
        """
        if self._next < len(self._missing):
            raise BagError(
                f'{int(self._missing.sum())} values are missing after the last message; '
                'the bag changed while it was read'
            )
        for vector in self._vectors:
            for column in vector.columns:
                column.check()
            for element in np.flatnonzero(vector.steps.lost()).tolist():
                column, place = vector.part_of(element)
                if column.reader is None or not column.reader.is_single:
                    raise BagError(
                        f'{column.topic}: {column.part.names[place]} moves in steps that float32 '
                        f'rounds away, at numbers as large as these; {WIDER} '
                        f'({vector.feature.key})'
                    )

    def _put(self, index: int, slot: int, row: int, stamp: int, values: Numbers) -> int:
        chunk, row = divmod(row, self._chunk_size * self._columns[index].samples)
        opened = self._open.get(chunk)
        if opened is None:
            opened = self._open[chunk] = self._spare.pop() if self._spare else self._allocate()
        self._columns[index].put(opened.cells[index], slot, row, stamp, values)
        self._missing[chunk] -= 1
        return chunk

    def _allocate(self) -> _Chunk:
        cells: list[tuple[Cells, Cells | None]] = []
        for column in self._columns:
            shape = (self._chunk_size * column.samples, column.cell_width)
            second = Cells.allocate(*shape, column.dtype) if column.needs_second else None
            cells.append((Cells.allocate(*shape, column.dtype), second))
        return _Chunk(cells)

    def _flush(self) -> None:
        while self._next < len(self._missing) and self._missing[self._next] == 0:
            start = self._next * self._chunk_size
            stop = min(start + self._chunk_size, len(self._plan))
            chunk = self._open.pop(self._next, None) or self._allocate()
            self._append(self._rows(chunk, start, stop))
            for column, cells in zip(self._columns, chunk.cells, strict=True):
                column.forget(cells)
            self._spare.append(chunk)
            self._next += 1

    def _rows(self, chunk: _Chunk, start: int, stop: int) -> FrameRows:
        count = stop - start
        cells = iter(
            (first.of(rows), None if second is None else second.of(rows))
            for rows, (first, second) in (
                (count * column.samples, cells)
                for column, cells in zip(self._columns, chunk.cells, strict=True)
            )
        )
        blocks: dict[str, Block] = {}
        said: dict[str, list[Cells]] = {}
        for vector in self._vectors:
            mine = [next(cells) for _ in vector.columns]
            parts = [
                column.finish(first, second, start * column.samples, stop * column.samples)
                for column, (first, second) in zip(vector.columns, mine, strict=True)
            ]
            said[vector.feature.key] = [first for first, _ in mine]
            blocks[vector.feature.key] = Block(
                np.concatenate([block.values for block in parts], axis=1),
                np.concatenate([block.fill for block in parts], axis=1),
            )
        return FrameRows(
            count,
            {
                key: self._stored(vector, self._difference(blocks, vector), said[key]).reshape(
                    count, *vector.feature.shape
                )
                for key, vector in zip(blocks, self._vectors, strict=True)
            },
        )

    def _stored(self, vector: _Vector, values: Numbers, cells: Sequence[Cells]) -> Numbers:
        """
        Return the values of a feature in its dtype.

        :raises BagError: It cannot hold one of them.
        """
        dtype = np.dtype(vector.feature.dtype)
        wrong, problem = outside(values, dtype), 'which cannot be held by'
        if dtype == np.float32:
            if not wrong.any():
                counted = [
                    bool(column.reader and column.reader.is_integer)
                    for column in vector.columns
                    for _ in column.part.names
                ]
                if any(counted):
                    wrong, problem = rounded_integers(values) & counted, 'which is rounded by'
            if not wrong.any():
                vector.steps.add(values)
        if wrong.any():
            row, element = (int(at[0]) for at in np.nonzero(wrong))
            column, place = vector.part_of(element)
            advice = WIDER if dtype.kind == 'f' else 'set another dtype, or threshold at the part'
            raise column.error(
                cells[vector.columns.index(column)], row, column.part.names[place],
                f'becomes {values[row, element]!s}, {problem} {dtype}; {advice}',
            )  # fmt: skip
        return values.astype(dtype)

    def _difference(self, blocks: Mapping[str, Block], vector: _Vector) -> Numbers:
        """Subtract elements of the same name; what is filled has no difference."""
        feature = vector.feature
        values, fill = blocks[feature.key]
        if feature.minus is None:
            return values
        base, base_fill = blocks[feature.minus]
        base_names = self._features[feature.minus].names
        turns = [turn_of(column.part) for column in vector.columns for _ in column.part.names]
        result: Numbers = values.copy()
        for element, name in enumerate(feature.names):
            if name in base_names:
                other = base_names.index(name)
                filled = np.maximum(fill[:, element], base_fill[:, other])
                result[:, element] -= base[:, other]
                turn = turns[element]
                if turn is not None:
                    result[:, element] = shorter_way(result[:, element], turn)
                result[filled == Fill.ZEROS, element] = 0
                result[filled == Fill.MARK, element] = GAP_MARK
        return result


def _are_degrees(names: Sequence[str]) -> list[bool]:
    """Tell which elements of a feature are positions on earth, by their names."""
    words = [words_of(name) for name in names]
    if not any(_LATITUDE & mine for mine in words) or not any(_LONGITUDE & mine for mine in words):
        return [False] * len(names)
    return [bool((_LATITUDE | _LONGITUDE) & mine) for mine in words]
