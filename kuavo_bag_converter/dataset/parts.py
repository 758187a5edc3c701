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
from itertools import groupby
from operator import attrgetter
import os
from pathlib import Path
from typing import Any, NamedTuple

from kuavo_bag_converter.dataset.existing import Existing
from kuavo_bag_converter.dataset.features import Feature
from kuavo_bag_converter.dataset.language import language_columns
from kuavo_bag_converter.dataset.layout import Episode, FileLimits, whole_shard
from kuavo_bag_converter.dataset.metadata import DatasetSummary
from kuavo_bag_converter.dataset.mp4 import frame_rate, Mp4Writer, read_packets
from kuavo_bag_converter.dataset.statistics import Histogram, Statistics, vector_statistics
from kuavo_bag_converter.dataset.tables import (
    column_of,
    DEFAULT_FEATURES,
    images,
    read_arrays,
    read_rows,
    table_of,
    table_schema,
    TASK_INDEX,
    texts,
    vectors,
)
from kuavo_bag_converter.support.errors import DatasetError
from kuavo_bag_converter.support.files import link_or_copy
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

    def summary(
        self, before: Existing, episodes: Sequence[Episode], tasks: TaskNumbers
    ) -> DatasetSummary:
        """Return what info.json says when ``episodes`` have come after those in ``before``."""
        return DatasetSummary(
            fps=self.fps,
            robot_type=self.robot_type,
            features=self.entries,
            episodes=before.episodes + len(episodes),
            frames=before.frames + sum(episode.length for episode in episodes),
            tasks=len(tasks.names),
        )


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


def episode_table(
    episode: Episode, features: Sequence[Feature], fps: float, tasks: TaskNumbers
) -> tuple[pa.Table, list[str]]:
    """
    Read an episode's rows and add the default columns; return also its tasks.

    :param episode: Where it comes from.
    :param features: All of the dataset.
    :param fps: Of the dataset, Hz.
    :param tasks: The number of each task.
    :raises DatasetError: The shard's table is damaged or too short.
    """
    shard = episode.shard
    own = [*vectors(features), TASK_INDEX]
    columns = read_arrays(shard.table_path, episode.first_frame, episode.length, own)
    task_index, names = tasks.renumber(columns[TASK_INDEX.key][:, 0], shard.tasks)
    frame_index = np.arange(episode.length, dtype=np.int64)
    columns |= {
        'timestamp': (frame_index / fps).astype(np.float32),
        'frame_index': frame_index,
        'episode_index': np.full(episode.length, episode.index, np.int64),
        'index': episode.first_row + frame_index,
        'task_index': task_index,
    }
    return table_of([*vectors(features), *DEFAULT_FEATURES], columns), names


def image_bytes(episode: Episode) -> int:
    """Return the bytes of an episode's pictures that go into the table."""
    shard = episode.shard
    return sum(stored.episode_bytes[episode.place] for stored in shard.images.values())


def episode_pieces(job: Assembly, episode: Episode, table: pa.Table) -> Iterator[pa.Table]:
    """
    Yield an episode's table with its pictures, in as many rows at a time as memory allows.

    :param job: What is being assembled.
    :param episode: The episode.
    :param table: Its numbers, see :func:`episode_table`.
    :raises DatasetError: A shard's pictures are damaged or too few.
    """
    kept = images(job.features)
    if not kept:
        yield table
        return
    rows = max(1, _PIECE_BYTES * episode.length // (image_bytes(episode) + 1))
    for first in range(0, episode.length, rows):
        piece = table.slice(first, rows)
        columns = {name: piece.column(name) for name in piece.column_names}
        for feature in kept:
            path = episode.shard.image_path(feature.key)
            found = read_rows(path, episode.first_frame + first, piece.num_rows, [feature])
            pictures = pa.concat_tables(found)
            if pictures.num_rows != piece.num_rows:
                raise DatasetError(
                    f'{path}: {pictures.num_rows} pictures from {episode.first_frame + first} '
                    f'on, expected {piece.num_rows}'
                )
            columns[feature.key] = pictures.column(0)
        yield pa.Table.from_arrays([columns[name] for name in job.schema.names], schema=job.schema)


class EpisodeRows(NamedTuple):
    """
    An episode as both versions of the format store it.

    :ivar table: Its numbers, see :func:`episode_table`.
    :ivar tasks: Those of its frames.
    :ivar statistics: Of the columns of the table, by feature.
    :ivar pictures: Of its cameras, by feature.
    """

    episode: Episode
    table: pa.Table
    tasks: list[str]
    statistics: dict[str, Statistics]
    pictures: dict[str, Histogram]


def episode_rows(
    job: Assembly, episodes: Sequence[Episode], tasks: TaskNumbers
) -> Iterator[EpisodeRows]:
    """
    Yield the rows of episodes in order; ``tasks`` grows by theirs.

    :raises DatasetError: The table of a shard is damaged or too short.
    """
    for shard, group in groupby(episodes, attrgetter('shard')):
        for episode, known in zip(group, shard.statistics(), strict=True):
            table, names = episode_table(episode, job.features, job.fps, tasks)
            own = table_statistics(partial(iter, (table,)), table.num_rows, DEFAULT_FEATURES)
            table = _with_texts(table, episode, job)
            yield EpisodeRows(episode, table, names, known.vectors | own, known.pictures)
            job.advance(1)


def _with_texts(table: pa.Table, episode: Episode, job: Assembly) -> pa.Table:
    """Add the texts of an episode to its numbers."""
    if not texts(job.features):
        return table
    columns = {name: table.column(name) for name in table.column_names}
    columns |= language_columns(
        texts(job.features),
        episode.shard.language[episode.place],
        table.column('timestamp').to_numpy(),
    )
    pictures = {feature.key for feature in images(job.features)}
    fields = [field for field in job.schema if field.name not in pictures]
    schema = pa.schema(fields, job.schema.metadata)
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


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


def write_video(path: Path, episodes: Sequence[Episode], key: str, fps: float) -> None:
    """
    Make a camera's file of some episodes without decoding a picture.

    A shard whose own file is exactly that lends it by a hard link.

    :param path: The file to make.
    :param episodes: In their order; they follow each other within each shard.
    :param key: Of the camera.
    :param fps: Of the dataset, Hz.
    :raises DatasetError: A shard's video is not what its manifest says, or the file is there.
    """
    if os.path.lexists(path):
        raise DatasetError(f'{path}: exists already; a file of no episode must not lie there')
    shard = whole_shard(episodes)
    if shard is not None:
        link_or_copy(shard.video_path(key), path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = sum(episode.length for episode in episodes)
    with Mp4Writer(path, frame_rate(fps), frames) as writer:
        for episode in episodes:
            source = episode.shard.video_path(key)
            for stream, packet in read_packets(source, episode.first_frame, episode.length):
                if not writer.written:
                    writer.add_copy(stream)
                writer.mux(packet)
