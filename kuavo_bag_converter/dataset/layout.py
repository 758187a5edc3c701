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

"""Where the episodes of a dataset go: LeRobot's folders and files, and how far these grow."""

from __future__ import annotations

from dataclasses import dataclass, replace

FILES_PER_CHUNK = 1000
_BYTES_PER_MB = 1 << 20

DATA_PATH = 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
DATA_FILES = 'data/*/*.parquet'
EPISODES_FILES = 'meta/episodes/*/*.parquet'
"""LeRobot finds these files by globbing, sorted by path."""
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
BAGS_PATH = 'conversion/bags/file-{index:03d}.parquet'
TOPICS_PATH = 'conversion/topics/file-{index:03d}.parquet'
ALIGNMENT_PATH = 'conversion/alignment/chunk-{chunk:03d}/{bag:06d}.parquet'
FORMER_ALIGNMENT_PATH = 'conversion/alignment/{bag:06d}.parquet'


def alignment_path(bag: int, pattern: str = ALIGNMENT_PATH) -> str:
    """Return the file that says which messages serve the frames of the bag of a number."""
    return pattern.format(chunk=bag // FILES_PER_CHUNK, bag=bag)


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
