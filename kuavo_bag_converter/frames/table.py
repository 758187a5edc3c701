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

from collections.abc import Callable, Mapping
from typing import NamedTuple

from kuavo_bag_converter.alignment.binding import Binding, BoundPart
from kuavo_bag_converter.alignment.plan import Fill, Plan, TrackPlan
from kuavo_bag_converter.bags.model import Connection, Message, Ordinals
from kuavo_bag_converter.frames.elements import ElementReader
from kuavo_bag_converter.frames.poses import ChainedPoses
from kuavo_bag_converter.frames.served_frames import FramesOfMessages
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.profiles.model import GAP_MARK, Part
from kuavo_bag_converter.support.errors import BagError
import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
FillCodes = npt.NDArray[np.uint8]


class FrameRows(NamedTuple):
    """Finished rows of consecutive frames."""

    frames: int
    vectors: Mapping[str, npt.NDArray[np.float32]]
    """Values of each vector feature by its key, shape (frames, elements)."""


def interpolate(strategy: str, first: Matrix, second: Matrix, weight: Matrix) -> Matrix:
    """
    Interpolate between rows of two arrays of shape (rows, n) by weights of shape (rows,).

    ``linear`` is elementwise; ``slerp`` takes rows as quaternions and goes the shorter way
    (Shoemake, Animating Rotation with Quaternion Curves, 1985). A weight of 0 gives ``first``
    exactly.
    """
    share = weight[:, None]
    if strategy != 'slerp':
        return first + (second - first) * share
    dot = np.sum(first * second, axis=1, keepdims=True)
    second = np.where(dot < 0, -second, second)
    angle = np.arccos(np.clip(np.abs(dot), 0.0, 1.0))
    sine = np.sin(angle)
    small = sine < 1e-9
    divisor = np.where(small, 1.0, sine)
    turned = (np.sin((1 - share) * angle) * first + np.sin(share * angle) * second) / divisor
    straight = first + (second - first) * share
    return np.where(share == 0, first, np.where(small, straight, turned))


def apply_operations(part: Part, values: Matrix) -> Matrix:
    """Apply the operations of a part to raw values of shape (rows, n)."""
    if part.unit == 'deg2rad':
        values = np.deg2rad(values)
    elif part.unit == 'rad2deg':
        values = np.rad2deg(values)
    if part.value_range is not None:
        low, high = part.value_range
        values = (values - low) / (high - low)
    if part.scale is not None:
        values = values * part.scale
    if part.offset is not None:
        values = values + part.offset
    if part.threshold is not None:
        values = np.where(values > part.threshold, 1.0, 0.0)
    return values


class _Column:
    """One part: its place in the feature, its cells and how to fill them."""

    def __init__(self, bound: BoundPart, whole: Plan, definitions: Definitions, key: str) -> None:
        self.part = bound.part
        self.width = len(bound.part.names)
        plan = whole.tracks[bound.track] if bound.track >= 0 else None
        self.poses: ChainedPoses | None = None
        self.plan: TrackPlan | None = plan
        self.first: FramesOfMessages | None = None
        self.second: FramesOfMessages | None = None
        self.frames = np.empty(0, dtype=np.int64)
        self.reader: ElementReader | None = None
        if bound.links:
            self.poses = ChainedPoses(bound, whole, key)
            self.plan, self.frames = self.poses.plan, self.poses.frames
        elif plan is not None and bound.source is not None and not bound.part.gap_flag:
            self.reader = ElementReader(bound.part, bound.source, definitions, key)
            valued = np.flatnonzero(plan.fill == Fill.VALUE)
            mixed = valued[plan.second[valued] != plan.first[valued]]
            self.first = FramesOfMessages(plan.first[valued], valued)
            self.second = FramesOfMessages(plan.second[mixed], mixed) if len(mixed) else None
            self.frames = np.concatenate([valued, mixed])

    @property
    def interpolates(self) -> bool:
        return self.second is not None

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics whose messages it takes."""
        if self.poses is not None:
            return self.poses.topics
        return () if self.first is None or self.plan is None else (self.plan.track.topic,)

    def fill(self, start: int, stop: int) -> FillCodes:
        """Return the :class:`Fill` of each frame from start to stop."""
        if self.plan is None or self.part.gap_flag:
            return np.zeros(stop - start, dtype=np.uint8)
        return self.plan.fill[start:stop]

    def finish(self, buffers: tuple[Matrix, Matrix | None], start: int, stop: int) -> Matrix:
        """Return the part's values for the frames from start to stop, shape (frames, width)."""
        plan = self.plan
        if self.part.gap_flag:
            flags = plan.in_gap[start:stop] if plan else np.zeros(stop - start, dtype=bool)
            return flags[:, None].astype(np.float64)
        first, second = buffers
        values = first
        if self.poses is not None and self.poses.constant is not None:
            values = np.tile(self.poses.constant, (stop - start, 1))
        if second is not None and plan is not None:
            weight = plan.weight[start:stop]
            second = np.where(weight[:, None] == 0, first, second)
            values = interpolate(plan.track.align.strategy, first, second, weight)
        values = apply_operations(self.part, values)
        fill = self.fill(start, stop)
        if fill.any():
            values = values.copy()
            values[fill == Fill.ZEROS] = 0.0
            values[fill == Fill.MARK] = GAP_MARK
        return values


class _Block(NamedTuple):
    """Finished values and a :class:`Fill` for each, shape (frames, elements)."""

    values: Matrix
    fill: FillCodes


class _Chunk(NamedTuple):
    """Raw values of a chunk's frames, for each column one array or two, (frames, width)."""

    buffers: list[tuple[Matrix, Matrix | None]]


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
        self._columns: list[_Column] = []
        self._features: list[tuple[str, str | None, list[_Column]]] = []
        self._names: dict[str, tuple[str, ...]] = {}
        for vector in binding.vectors:
            key = vector.feature.key
            columns = [_Column(bound, plan, definitions, key) for bound in vector.parts]
            self._columns += columns
            self._features.append((key, vector.feature.minus, columns))
            self._names[key] = vector.feature.names
        self._by_topic: dict[str, list[int]] = {}
        for index, column in enumerate(self._columns):
            for topic in column.topics:
                self._by_topic.setdefault(topic, []).append(index)
        chunks = -(-len(plan) // chunk_size)
        self._missing = np.zeros(chunks, dtype=np.int64)
        for column in self._columns:
            self._missing += np.bincount(column.frames // chunk_size, minlength=chunks)
        self._open: dict[int, _Chunk] = {}
        self._spare: list[_Chunk] = []
        self._starts: dict[int, tuple[int, Matrix]] = {}
        """By column, the number of the last episode that began and its first values."""
        self._episode_starts = np.array([start for start, _ in plan.episodes], dtype=np.int64)
        self._next = 0
        self._flush()

    @property
    def topics(self) -> frozenset[str]:
        """Topics whose messages must be fed."""
        return frozenset(self._by_topic)

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
                for frame, pose in column.poses.take(connection.topic, ordinal, decoded):
                    touched.add(self._put(index, 0, frame, pose))
                continue
            assert column.first is not None
            assert column.reader is not None
            first = column.first.of(ordinal)
            second = column.second.of(ordinal) if column.second is not None else []
            if not first and not second:
                continue
            values = column.reader.read(connection, stamp, decoded)
            for slot, frames in enumerate((first, second)):
                for frame in frames:
                    touched.add(self._put(index, slot, frame, values))
        if any(self._missing[chunk] == 0 for chunk in touched):
            self._flush()

    def close(self) -> None:
        """
        Check that every row came.

        :raises BagError: The bag did not hold what its index lists.
        """
        if self._next < len(self._missing):
            raise BagError(
                f'{int(self._missing.sum())} values are missing after the last message; '
                'the bag changed while it was read'
            )

    def _put(self, index: int, slot: int, frame: int, values: Matrix) -> int:
        chunk, row = divmod(frame, self._chunk_size)
        opened = self._open.get(chunk)
        if opened is None:
            opened = self._open[chunk] = self._spare.pop() if self._spare else self._allocate()
        buffer = opened.buffers[index][slot]
        assert buffer is not None
        buffer[row] = values
        self._missing[chunk] -= 1
        return chunk

    def _allocate(self) -> _Chunk:
        buffers: list[tuple[Matrix, Matrix | None]] = []
        for column in self._columns:
            shape = (self._chunk_size, column.width)
            second = np.zeros(shape) if column.interpolates else None
            buffers.append((np.zeros(shape), second))
        return _Chunk(buffers)

    def _flush(self) -> None:
        while self._next < len(self._missing) and self._missing[self._next] == 0:
            start = self._next * self._chunk_size
            stop = min(start + self._chunk_size, len(self._plan))
            chunk = self._open.pop(self._next, None) or self._allocate()
            self._append(self._rows(chunk, start, stop))
            self._spare.append(chunk)
            self._next += 1

    def _rows(self, chunk: _Chunk, start: int, stop: int) -> FrameRows:
        blocks = [self._block(index, chunk, start, stop) for index in range(len(self._columns))]
        vectors: dict[str, _Block] = {}
        done = 0
        for key, _, columns in self._features:
            mine = blocks[done : done + len(columns)]
            done += len(columns)
            vectors[key] = _Block(
                np.concatenate([block.values for block in mine], axis=1),
                np.concatenate([block.fill for block in mine], axis=1),
            )
        return FrameRows(
            stop - start,
            {
                key: self._difference(vectors, key, minus).astype(np.float32)
                for key, minus, _ in self._features
            },
        )

    def _block(self, index: int, chunk: _Chunk, start: int, stop: int) -> _Block:
        """Return the finished values of a column for the frames from start to stop."""
        column = self._columns[index]
        first, second = chunk.buffers[index]
        count = stop - start
        used = (first[:count], None if second is None else second[:count])
        values, fill = column.finish(used, start, stop), column.fill(start, stop)
        if column.part.relative_to_start:
            values = self._relative(index, values, fill, start)
        return _Block(values, np.repeat(fill[:, None], column.width, axis=1))

    def _relative(self, index: int, values: Matrix, fill: FillCodes, start: int) -> Matrix:
        """Subtract from each value the first one of its episode; what is filled stays."""
        frames = np.arange(start, start + len(values))
        episodes = np.searchsorted(self._episode_starts, frames, side='right') - 1
        episodes[fill != Fill.VALUE] = -1
        result: Matrix = values.copy()
        for episode in np.unique(episodes[episodes >= 0]).tolist():
            mine = np.flatnonzero(episodes == episode)
            if self._starts.get(index, (-1,))[0] != episode:
                self._starts[index] = (episode, values[mine[0]].copy())
            result[mine] -= self._starts[index][1]
        return result

    def _difference(self, vectors: Mapping[str, _Block], key: str, minus: str | None) -> Matrix:
        """Subtract elements of the same name; to what is filled there is no difference."""
        values, fill = vectors[key]
        if minus is None:
            return values
        base, base_fill = vectors[minus]
        base_names = self._names[minus]
        result: Matrix = values.copy()
        for element, name in enumerate(self._names[key]):
            if name in base_names:
                other = base_names.index(name)
                filled = np.maximum(fill[:, element], base_fill[:, other])
                result[:, element] -= base[:, other]
                result[filled == Fill.ZEROS, element] = 0.0
                result[filled == Fill.MARK, element] = GAP_MARK
        return result
