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

"""Where the episodes of a dataset go: LeRobot's folders, and which episodes share a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from kuavo_bag_converter.dataset.shard import Shard
import numpy as np
from numpy.typing import NDArray

FILES_PER_CHUNK = 1000
_BYTES_PER_MB = 1 << 20

DATA_PATH = 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
VIDEO_PATH = 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4'
EPISODES_PATH = 'meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
INFO_PATH = 'meta/info.json'
STATS_PATH = 'meta/stats.json'
TASKS_PATH = 'meta/tasks.parquet'
MODALITY_PATH = 'meta/modality.json'
"""GR00T's, which LeRobot passes by; others may have made or changed it."""

DATA_PATH_V21 = 'data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet'
VIDEO_PATH_V21 = 'videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4'
EPISODES_PATH_V21 = 'meta/episodes.jsonl'
EPISODES_STATS_PATH_V21 = 'meta/episodes_stats.jsonl'
TASKS_PATH_V21 = 'meta/tasks.jsonl'

# How the dataset was made; LeRobot passes these by.
REPORT_PATH = 'conversion/report.json'
PROFILE_PATH = 'conversion/profile.yaml'
ALIGNMENT_PATH = 'conversion/alignment/{bag:06d}.parquet'


@dataclass(frozen=True, order=True)
class FileNumber:
    """Which file of a v3.0 dataset: its number, and the number of its folder."""

    chunk_index: int = 0
    file_index: int = 0

    def next(self) -> FileNumber:  # noqa: A003
        """Return the number of the file after this one."""
        if self.file_index + 1 < FILES_PER_CHUNK:
            return replace(self, file_index=self.file_index + 1)
        return FileNumber(self.chunk_index + 1, 0)

    def path(self, template: str, **names: str) -> str:
        """Fill in a path template."""
        return template.format(chunk_index=self.chunk_index, file_index=self.file_index, **names)


@dataclass(frozen=True)
class Episode:
    """
    One episode of the dataset and where it comes from.

    :ivar index: Its number in the dataset.
    :ivar first_row: Its first row in the dataset.
    :ivar length: Its frames.
    :ivar shard: The shard that holds it.
    :ivar place: Its number in the shard.
    :ivar first_frame: Its first row, and first frame of each camera's file, in the shard.
    """

    index: int
    first_row: int
    length: int
    shard: Shard
    place: int
    first_frame: int

    @property
    def labels(self) -> dict[str, str | None]:
        """Return what the list of episodes says of it besides, by column."""
        return {f'labels/{key}': text for key, text in self.shard.labels.items()}


def episodes_of(shards: Sequence[Shard], index: int = 0, first_row: int = 0) -> Iterator[Episode]:
    """Yield the episodes of all shards in order, numbered from ``index`` and ``first_row`` on."""
    for shard in shards:
        first_frame = 0
        for place, length in enumerate(shard.episode_lengths):
            yield Episode(index, first_row, length, shard, place, first_frame)
            index += 1
            first_row += length
            first_frame += length


@dataclass(frozen=True)
class VideoFile:
    """One camera's file in the dataset and the episodes that it holds, one after the other."""

    number: FileNumber
    episodes: tuple[Episode, ...]

    @property
    def frames(self) -> int:
        """How many frames it has."""
        return sum(episode.length for episode in self.episodes)

    @property
    def first_frames(self) -> NDArray[np.int64]:
        """Where each episode begins in the file, in frames."""
        lengths = [episode.length for episode in self.episodes]
        return np.cumsum([0, *lengths[:-1]], dtype=np.int64)


@dataclass(frozen=True)
class FileLimits:
    """
    How far the files of a v3.0 dataset grow.

    :ivar data_mb: Size of a file of rows or of episodes.
    :ivar video_mb: Size of a video.
    :ivar video_seconds: Length of a video of more than one episode; LeRobot's readers compare
        times in float32 and fail beyond 1024 s.
    """

    data_mb: float = 100
    video_mb: float = 200
    video_seconds: float = 1000

    @property
    def data_bytes(self) -> float:
        """``data_mb`` in bytes."""
        return self.data_mb * _BYTES_PER_MB

    @property
    def video_bytes(self) -> float:
        """``video_mb`` in bytes."""
        return self.video_mb * _BYTES_PER_MB


def whole_shard(episodes: Sequence[Episode]) -> Shard | None:
    """Return the shard that has exactly these episodes, if there is one."""
    shard = episodes[0].shard
    held = [(episode.shard.path, episode.place) for episode in episodes]
    wanted = [(shard.path, place) for place in range(len(shard.episode_lengths))]
    return shard if held == wanted else None


def plan_video_files(
    episodes: Sequence[Episode],
    key: str,
    number: FileNumber,
    limits: FileLimits,
    fps: float,
) -> list[VideoFile]:
    """
    Distribute episodes over a camera's files.

    A file takes episodes until the next one would exceed a limit, or cannot be joined to it
    packet by packet. A longer episode has a file of its own.

    :param episodes: In the order of the dataset.
    :param key: The camera's feature.
    :param number: The number of the first file.
    :param limits: When a file is full.
    :param fps: Frames per second.
    """
    files: list[VideoFile] = []
    current: list[Episode] = []
    size = frames = 0
    for episode in episodes:
        video = episode.shard.videos[key]
        added = video.episode_bytes[episode.place]
        fits = (
            size + added < limits.video_bytes
            and frames + episode.length <= limits.video_seconds * fps
            and (not current or current[-1].shard.videos[key].join_key == video.join_key)
        )
        if current and not fits:
            files.append(VideoFile(number, tuple(current)))
            number = number.next()
            current, size, frames = [], 0, 0
        current.append(episode)
        size += added
        frames += episode.length
    return [*files, VideoFile(number, tuple(current))] if current else files
