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

"""Where the episodes of a dataset come from: what assembling it asks of a shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from kuavo_bag_converter.dataset.features import Feature
from kuavo_bag_converter.dataset.language import language_columns
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.dataset.statistics import EpisodeStatistics, Histogram
from kuavo_bag_converter.dataset.tables import read_arrays, read_rows, TASK_INDEX
from kuavo_bag_converter.support.errors import DatasetError
import numpy as np
from numpy.typing import NDArray
import pyarrow as pa


class VideoPiece(NamedTuple):
    """The pictures of an episode in a video file."""

    path: Path
    first_frame: int
    """In the file."""
    frames: int
    bytes: int  # noqa: A003
    """Of its packets."""
    join_key: str
    """Pieces with the same key can be joined packet by packet."""
    file_frames: int
    """All that the file has."""
    linkable: bool
    """Whether a dataset may have the file itself by a hard link."""
    whole: bool = False
    """Whether the file can be taken as it is only, with all pieces in it."""


class EpisodeSource(Protocol):
    """Some episodes that follow each other in a dataset; ``place`` is a number among them."""

    @property
    def name(self) -> str:
        """Return what it is called in errors."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """Those of the dataset without the default ones."""

    @property
    def fps(self) -> float:
        """Frames per second."""

    @property
    def episode_lengths(self) -> Sequence[int]:
        """Frames of each episode."""

    @property
    def histograms(self) -> Mapping[str, Histogram]:
        """Those of all pictures of all of its episodes, by camera, where they are known."""

    @property
    def video_settings(self) -> Mapping[str, Any]:
        """Return what of the coding of each camera must be equal in all sources, by feature."""

    def rows(
        self, place: int, features: Sequence[Feature]
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], Sequence[str]]:
        """
        Read the rows of an episode.

        :param place: Which episode.
        :param features: Columns of numbers.
        :return: Their arrays (frames, *shape) by feature, positions of tasks (frames,), and the
            tasks that these refer to.
        :raises DatasetError: They are damaged or too few.
        """

    def texts(
        self, place: int, features: Sequence[Feature], timestamps: NDArray[np.float32]
    ) -> Mapping[str, pa.Array | pa.ChunkedArray]:
        """Read the columns of texts of an episode; ``timestamps`` (frames,) in s."""

    def image_bytes(self, place: int) -> int:
        """Return the bytes of an episode's pictures that go into the table."""

    def images(self, place: int, feature: Feature) -> Iterator[pa.ChunkedArray]:
        """
        Yield the pictures of an episode in order, some at a time, as the table holds them.

        :raises DatasetError: They are damaged or too few.
        """

    def video(self, place: int, key: str) -> VideoPiece:
        """Return where the pictures of an episode are that go into a video."""

    def labels(self, place: int) -> Mapping[str, str | None]:
        """Return what the list of episodes says of an episode besides, by column."""

    def statistics(self) -> Iterator[EpisodeStatistics]:
        """Yield the statistics of each episode."""


class ShardEpisodes:
    """The episodes of a shard."""

    def __init__(self, shard: Shard) -> None:
        self.name = str(shard.path)
        self.features = shard.features
        self.fps = shard.fps
        self.episode_lengths = shard.episode_lengths
        self.histograms: Mapping[str, Histogram] = {}
        """None: those of episodes are known."""
        self.video_settings = {key: video.options for key, video in shard.videos.items()}
        self._shard = shard
        self._first_frames = [0, *accumulate(shard.episode_lengths)]
        self._labels = {f'labels/{key}': text for key, text in shard.labels.items()}

    def rows(
        self, place: int, features: Sequence[Feature]
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], Sequence[str]]:
        """Read the rows of an episode, see :class:`EpisodeSource`."""
        first, length = self._first_frames[place], self.episode_lengths[place]
        columns = read_arrays(self._shard.table_path, first, length, [*features, TASK_INDEX])
        return columns, columns.pop(TASK_INDEX.key)[:, 0], self._shard.tasks

    def texts(
        self, place: int, features: Sequence[Feature], timestamps: NDArray[np.float32]
    ) -> Mapping[str, pa.Array | pa.ChunkedArray]:
        """Return the columns of texts of an episode, see :class:`EpisodeSource`."""
        return language_columns(features, self._shard.language[place], timestamps)

    def image_bytes(self, place: int) -> int:
        """Return the bytes of an episode's pictures that go into the table."""
        return sum(stored.episode_bytes[place] for stored in self._shard.images.values())

    def images(self, place: int, feature: Feature) -> Iterator[pa.ChunkedArray]:
        """Yield the pictures of an episode, see :class:`EpisodeSource`."""
        path = self._shard.image_path(feature.key)
        first, length = self._first_frames[place], self.episode_lengths[place]
        count = 0
        for table in read_rows(path, first, length, [feature]):
            count += table.num_rows
            yield table.column(0)
        if count != length:
            raise DatasetError(f'{path}: {count} pictures from {first} on, expected {length}')

    def video(self, place: int, key: str) -> VideoPiece:
        """Return where the pictures of an episode are that go into a video."""
        video = self._shard.videos[key]
        return VideoPiece(
            self._shard.video_path(key),
            self._first_frames[place],
            self.episode_lengths[place],
            video.episode_bytes[place],
            video.join_key,
            self._first_frames[-1],
            linkable=True,
        )

    def labels(self, _: int) -> Mapping[str, str | None]:
        """Return what the list of episodes says of an episode besides, by column."""
        return self._labels

    def statistics(self) -> Iterator[EpisodeStatistics]:
        """Return the statistics of each episode."""
        return self._shard.statistics()
