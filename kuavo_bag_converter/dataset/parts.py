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

"""What an assembled dataset of any version is made of: an episode's rows and a camera's file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
import os
from pathlib import Path
from typing import Any, NamedTuple

from kuavo_bag_converter.dataset.features import Feature
from kuavo_bag_converter.dataset.layout import FileLimits
from kuavo_bag_converter.dataset.metadata import DatasetSummary
from kuavo_bag_converter.dataset.mp4 import frame_rate, Mp4Writer, read_packets
from kuavo_bag_converter.dataset.sources import EpisodeSource, VideoPiece
from kuavo_bag_converter.dataset.statistics import EpisodeStatistics, Histogram, Statistics
from kuavo_bag_converter.dataset.tables import (
    column_of,
    DEFAULT_FEATURES,
    images,
    table_of,
    table_schema,
    texts,
    vectors,
)
from kuavo_bag_converter.dataset.vector_statistics import vector_statistics
from kuavo_bag_converter.support.errors import DatasetError
from kuavo_bag_converter.support.files import copy_file, link_or_copy
import numpy as np
from numpy.typing import NDArray
import pyarrow as pa

_PIECE_BYTES = 8 << 20
"""Pictures of an episode that are in memory at a time."""


@dataclass(frozen=True)
class Assembly:
    """
    What is being assembled.

    :ivar root: The dataset's folder.
    :ivar features: Its features without the default ones.
    :ivar entries: The ``features`` of info.json.
    :ivar fps: Frames per second.
    :ivar robot_type: For info.json.
    :ivar limits: How far the files of a v3.0 dataset grow.
    :ivar advance: Called with each number of finished pieces.
    """

    root: Path
    features: tuple[Feature, ...]
    entries: Mapping[str, Any]
    fps: float
    robot_type: str | None
    limits: FileLimits
    advance: Callable[[int], None]

    @property
    def columns(self) -> list[Feature]:
        """Return the columns of its table that hold numbers."""
        return [*vectors(self.features), *DEFAULT_FEATURES]

    @property
    def schema(self) -> pa.Schema:
        """Return the columns of its table, those of pictures too."""
        kept = (*vectors(self.features), *images(self.features), *texts(self.features))
        return table_schema([*kept, *DEFAULT_FEATURES])

    def summary(self, episodes: int, frames: int, tasks: int) -> DatasetSummary:
        """Return what info.json says when the dataset has so many of each."""
        return DatasetSummary(self.fps, self.robot_type, self.entries, episodes, frames, tasks)


class TaskNumbers:
    """The tasks of a dataset, in the order in which its frames bring them."""

    def __init__(self, names: Sequence[str]) -> None:
        """Begin with the tasks that a dataset has."""
        self.names = list(names)
        # The first of equal ones counts.
        self._numbers = {name: number for number, name in reversed(list(enumerate(names)))}

    def renumber(
        self, task_index: NDArray[np.int64], names: Sequence[str]
    ) -> tuple[NDArray[np.int64], list[str]]:
        """Turn a shard's ``task_index``, (frames,), into the dataset's; return also its tasks."""
        numbers = np.zeros(len(names), np.int64)
        used = []
        for local in np.unique(task_index):
            name = names[local]
            if name not in self._numbers:
                self._numbers[name] = len(self.names)
                self.names.append(name)
            numbers[local] = self._numbers[name]
            used.append(name)
        return numbers[task_index], used


@dataclass(frozen=True)
class Episode:
    """
    One episode of the dataset and where it comes from.

    :ivar index: Its number in the dataset.
    :ivar first_row: Its first row in the dataset.
    :ivar length: Its frames.
    :ivar source: What holds it.
    :ivar place: Its number there.
    """

    index: int
    first_row: int
    length: int
    source: EpisodeSource
    place: int

    @property
    def labels(self) -> Mapping[str, str | None]:
        """Return what the list of episodes says of it besides, by column."""
        return self.source.labels(self.place)

    @property
    def image_bytes(self) -> int:
        """Return the bytes of its pictures that go into the table."""
        return self.source.image_bytes(self.place)

    def video(self, key: str) -> VideoPiece:
        """Return where its pictures are that go into a video."""
        return self.source.video(self.place, key)


class EpisodeRows(NamedTuple):
    """
    An episode as both versions of the format store it.

    :ivar table: All of it but pictures.
    :ivar tasks: Those of its frames.
    :ivar statistics: Of the columns of numbers, by feature.
    :ivar pictures: Of its cameras, by feature.
    """

    table: pa.Table
    tasks: list[str]
    statistics: Mapping[str, Statistics]
    pictures: Mapping[str, Histogram | Statistics]


def episode_rows(
    job: Assembly, episode: Episode, tasks: TaskNumbers, known: EpisodeStatistics
) -> EpisodeRows:
    """
    Read the rows of an episode and add the default columns.

    :param job: What is being assembled.
    :param episode: The episode.
    :param tasks: Grows by its tasks.
    :param known: Its statistics.
    :raises DatasetError: Its rows are damaged or too few.
    """
    own = vectors(job.features)
    columns, task_index, names = episode.source.rows(episode.place, own)
    task_index, used = tasks.renumber(task_index, names)
    frame_index = np.arange(episode.length, dtype=np.int64)
    timestamps = (frame_index / job.fps).astype(np.float32)
    columns |= {
        'timestamp': timestamps,
        'frame_index': frame_index,
        'episode_index': np.full(episode.length, episode.index, np.int64),
        'index': episode.first_row + frame_index,
        'task_index': task_index,
    }
    table = table_of(job.columns, columns)
    default = table_statistics(partial(iter, (table,)), table.num_rows, DEFAULT_FEATURES)
    if texts(job.features):
        table = _with_texts(table, episode, job, timestamps)
    return EpisodeRows(table, used, {**known.vectors, **default}, known.pictures)


def _with_texts(
    table: pa.Table, episode: Episode, job: Assembly, timestamps: NDArray[np.float32]
) -> pa.Table:
    """Add the texts of an episode to its numbers."""
    columns = {name: table.column(name) for name in table.column_names}
    columns |= episode.source.texts(episode.place, texts(job.features), timestamps)
    pictures = {feature.key for feature in images(job.features)}
    fields = [field for field in job.schema if field.name not in pictures]
    schema = pa.schema(fields, job.schema.metadata)
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def episode_pieces(job: Assembly, episode: Episode, table: pa.Table) -> Iterator[pa.Table]:
    """
    Yield an episode's table with its pictures, in as many rows at a time as memory allows.

    :param job: What is being assembled.
    :param episode: The episode.
    :param table: All of it but pictures, see :func:`episode_rows`.
    :raises DatasetError: The pictures are damaged or too few.
    """
    kept = images(job.features)
    if not kept:
        yield table
        return
    rows = max(1, _PIECE_BYTES * episode.length // (episode.image_bytes + 1))
    pictures = {
        feature.key: _Pictures(episode.source.images(episode.place, feature)) for feature in kept
    }
    for first in range(0, episode.length, rows):
        piece = table.slice(first, rows)
        columns = {name: piece.column(name) for name in piece.column_names}
        columns |= {key: column.take(piece.num_rows) for key, column in pictures.items()}
        yield pa.Table.from_arrays([columns[name] for name in job.schema.names], schema=job.schema)


class _Pictures:
    """Gives pictures that come some at a time in other numbers, each read once."""

    def __init__(self, parts: Iterator[pa.ChunkedArray]) -> None:
        self._parts = parts
        self._rest: pa.ChunkedArray | None = None

    def take(self, count: int) -> pa.ChunkedArray:
        """
        Return the next ``count`` pictures.

        :raises DatasetError: There are fewer.
        """
        chunks: list[pa.Array] = []
        while count:
            if self._rest is None or not len(self._rest):
                self._rest = next(self._parts, None)
                if self._rest is None:
                    raise DatasetError(f'{count} pictures of an episode are missing')
            found = self._rest.slice(0, count)
            self._rest = self._rest.slice(len(found))
            chunks += found.chunks
            count -= len(found)
        return pa.chunked_array(chunks)


def table_statistics(
    tables: Callable[[], Iterable[pa.Table]], rows: int, features: Sequence[Feature]
) -> dict[str, Statistics]:
    """Return the statistics of the columns of a table that comes in parts."""

    def batches(feature: Feature) -> Iterator[NDArray[Any]]:
        return (column_of(table, feature) for table in tables())

    return {
        feature.key: vector_statistics(partial(batches, feature), rows, *feature.shape)
        for feature in features
    }


def write_video(path: Path, pieces: Sequence[VideoPiece], fps: float) -> None:
    """
    Make a camera's file of some episodes without decoding a picture.

    :param path: The file to make; one that has exactly these pieces lends itself, or is copied.
    :param pieces: In their order.
    :param fps: Of the dataset, Hz.
    :raises DatasetError: A video is not what its source says, or the file is there.
    """
    if os.path.lexists(path):
        raise DatasetError(f'{path}: exists already; a file of no episode must not lie there')
    path.parent.mkdir(parents=True, exist_ok=True)
    ranges = list(_ranges(pieces))
    file, first, frames = ranges[0]
    if len(ranges) == 1 and not first and frames == pieces[0].file_frames:
        if pieces[0].linkable:
            link_or_copy(file, path)
        else:
            copy_file(file, path)
        return
    for piece in pieces:
        if piece.whole:
            raise DatasetError(
                f'{piece.path}: its pictures are stored in another order than they are shown in, '
                'or not at a constant rate from 0 on; episodes cannot be cut from it without '
                'encoding them again'
            )
    with Mp4Writer(path, frame_rate(fps), sum(piece.frames for piece in pieces)) as writer:
        for file, first, frames in ranges:
            for stream, packet in read_packets(file, first, frames):
                if not writer.written:
                    writer.add_copy(stream)
                writer.mux(packet)


def _ranges(pieces: Iterable[VideoPiece]) -> Iterator[tuple[Path, int, int]]:
    """Yield file, first frame and frames; pieces that follow each other in a file as one."""
    last: tuple[Path, int, int] | None = None
    for piece in pieces:
        if last is not None and (piece.path, piece.first_frame) == (last[0], last[1] + last[2]):
            last = (*last[:2], last[2] + piece.frames)
            continue
        if last is not None:
            yield last
        last = (piece.path, piece.first_frame, piece.frames)
    if last is not None:
        yield last
