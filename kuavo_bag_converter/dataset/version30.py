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

"""LeRobot's format v3.0: many episodes in a file of rows and in a camera's file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
import sys
from typing import Any

from kuavo_bag_converter.dataset.existing import ExistingV30, with_statistics
from kuavo_bag_converter.dataset.features import Feature
from kuavo_bag_converter.dataset.layout import (
    DATA_PATH,
    Episode,
    FileNumber,
    plan_video_files,
    STATS_PATH,
    VIDEO_PATH,
    VideoFile,
)
from kuavo_bag_converter.dataset.metadata import (
    as_lists,
    episodes_schema,
    EpisodesWriter,
    info_v30,
    write_json,
    write_tasks,
)
from kuavo_bag_converter.dataset.parts import (
    Assembly,
    episode_pieces,
    episode_rows,
    image_bytes,
    table_statistics,
    TaskNumbers,
    write_video,
)
from kuavo_bag_converter.dataset.statistics import Histogram, pooled, STATISTICS, Statistics
from kuavo_bag_converter.dataset.tables import (
    DEFAULT_FEATURES,
    read_rows,
    TableWriter,
    videos,
)
import numpy as np
import pyarrow as pa

KEPT_FILES = ('data/*/*.parquet', 'videos/*/*/*.mp4', 'meta/episodes/*/*.parquet')


def write_v30(job: Assembly, episodes: Sequence[Episode], before: ExistingV30) -> dict[str, Any]:
    """Write episodes after those in ``before``; return the content of info.json."""
    tasks = TaskNumbers(before.tasks)
    files = {
        feature.key: plan_video_files(
            episodes,
            feature.key,
            before.video_numbers.get(feature.key, FileNumber()),
            limits=job.limits,
            fps=job.fps,
        )
        for feature in videos(job.features)
    }
    pictures = _write_episodes(job, episodes, before, tasks, _video_columns(files, job.fps))
    for key, planned in files.items():
        for file in planned:
            path = job.root / file.number.path(VIDEO_PATH, video_key=key)
            write_video(path, file.episodes, key, job.fps)
            job.advance(len(file.episodes))
    summary = job.summary(before, episodes, tasks)
    write_tasks(job.root, tasks.names, before.task_table)
    statistics = _statistics(job, before, summary.frames, pictures)
    grown = with_statistics(before, {key: as_lists(value) for key, value in statistics.items()})
    write_json(job.root / STATS_PATH, grown)
    return info_v30(summary, job.limits)


def _video_columns(
    files: Mapping[str, Sequence[VideoFile]], fps: float
) -> dict[int, dict[str, int | float]]:
    """Return for each episode the columns of meta/episodes that say where its videos are."""
    columns: dict[int, dict[str, int | float]] = {}
    for key, planned in files.items():
        for file in planned:
            for episode, first in zip(file.episodes, file.first_frames.tolist(), strict=True):
                columns.setdefault(episode.index, {}).update(
                    {
                        f'videos/{key}/chunk_index': file.number.chunk_index,
                        f'videos/{key}/file_index': file.number.file_index,
                        f'videos/{key}/from_timestamp': first / fps,
                        f'videos/{key}/to_timestamp': (first + episode.length) / fps,
                    }
                )
    return columns


class _RowsWriter:
    """Writes the files of rows, a row group for each episode; more where it has pictures."""

    def __init__(self, job: Assembly, number: FileNumber) -> None:
        self.number = number
        self._job = job
        self._writer = self._open()
        self._image_bytes = 0
        """Of the pictures in the file."""

    def _open(self) -> TableWriter:
        self._image_bytes = 0
        return TableWriter(self._job.root / self.number.path(DATA_PATH), self._job.schema)

    def write(self, episode: Episode, table: pa.Table) -> None:
        """Write an episode, to a new file where it would bring this one to the limit."""
        written = self._writer.rows
        if written:
            numbers = self._writer.bytes_written - self._image_bytes
            # A little more, for what goes with each picture.
            expected = numbers * (1 + table.num_rows / written)
            expected += 1.01 * (self._image_bytes + image_bytes(episode))
            if expected >= self._job.limits.data_bytes:
                self._writer.close()
                self.number = self.number.next()
                self._writer = self._open()
        for piece in episode_pieces(self._job, episode, table):
            self._writer.write(piece)
        self._image_bytes += image_bytes(episode)

    def close(self) -> None:
        self._writer.close()


def _write_episodes(
    job: Assembly,
    episodes: Sequence[Episode],
    before: ExistingV30,
    tasks: TaskNumbers,
    video_columns: Mapping[int, Mapping[str, int | float]],
) -> dict[str, Histogram]:
    """Write the rows and meta/episodes; return the pictures of all episodes, by camera."""
    rows = _RowsWriter(job, before.data_number)
    metadata = EpisodesWriter(
        job.root,
        episodes_schema(job.features, list(episodes[0].labels)),
        before.episodes_number,
        job.limits.data_bytes,
        before.pictures,
    )
    for episode, table, names, statistics, pictures in episode_rows(job, episodes, tasks):
        rows.write(episode, table)
        metadata.write(
            {
                'episode_index': episode.index,
                'tasks': names,
                'length': episode.length,
                'data/chunk_index': rows.number.chunk_index,
                'data/file_index': rows.number.file_index,
                'dataset_from_index': episode.first_row,
                'dataset_to_index': episode.first_row + episode.length,
                **video_columns.get(episode.index, {}),
                **episode.labels,
            },
            statistics,
            pictures,
        )
    rows.close()
    metadata.close()
    return metadata.pictures


def _statistics(
    job: Assembly, before: ExistingV30, frames: int, pictures: Mapping[str, Histogram]
) -> dict[str, Statistics]:
    """Return the statistics of the whole dataset: of all its rows, and of its pictures."""
    files = sorted(job.root.glob(KEPT_FILES[0]))
    statistics: dict[str, Statistics] = {}
    for feature in job.columns:
        statistics |= table_statistics(partial(_read_files, files, feature), frames, [feature])
    for key, histogram in pictures.items():
        statistics[key] = histogram.statistics()
        if before.frames and key not in before.pictures:
            known = (_arrays(before.statistics[key]), before.frames)
            statistics[key] = pooled([known, (statistics[key], histogram.frames)])
    ordered = [*job.features, *DEFAULT_FEATURES]
    return {item.key: statistics[item.key] for item in ordered if not item.is_language}


def _arrays(statistics: Mapping[str, Any]) -> Statistics:
    return {name: np.array(statistics[name]) for name in STATISTICS if name in statistics}


def _read_files(files: Sequence[Path], feature: Feature) -> Iterator[pa.Table]:
    for file in files:
        yield from read_rows(file, 0, sys.maxsize, [feature])
