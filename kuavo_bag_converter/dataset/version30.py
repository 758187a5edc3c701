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
    DATA_FILES,
    DATA_PATH,
    EPISODES_FILES,
    FileNumber,
    STATS_PATH,
    VIDEO_PATH,
)
from kuavo_bag_converter.dataset.metadata import (
    as_lists,
    episodes_schema,
    EpisodesWriter,
    info_v30,
    of_pictures,
    write_json,
    write_tasks,
)
from kuavo_bag_converter.dataset.parts import (
    Assembly,
    Episode,
    episode_pieces,
    episode_rows,
    table_statistics,
    TaskNumbers,
    write_video,
)
from kuavo_bag_converter.dataset.sources import VideoPiece
from kuavo_bag_converter.dataset.statistics import (
    EpisodeStatistics,
    Histogram,
    PictureTotals,
    STATISTICS,
    Statistics,
)
from kuavo_bag_converter.dataset.tables import (
    DEFAULT_FEATURES,
    images,
    read_rows,
    TableWriter,
    videos,
)
import numpy as np
import pyarrow as pa

KEPT_FILES = (DATA_FILES, 'videos/*/*/*.mp4', EPISODES_FILES)


class WriterV30:
    """Writes episodes after those of ``before``, one at a time."""

    def __init__(self, job: Assembly, labels: Sequence[str], before: ExistingV30) -> None:
        """
        Begin.

        :param job: What is being assembled.
        :param labels: Columns of texts that the list of episodes has besides.
        :param before: The dataset that the episodes are added to.
        """
        self._job = job
        self._before = before
        self._tasks = TaskNumbers(before.tasks)
        self._totals = PictureTotals(before.pictures)
        for feature in (*videos(job.features), *images(job.features)):
            if before.frames and feature.key not in before.pictures:
                known = _arrays(before.statistics[feature.key])
                self._totals.add(feature.key, known, before.frames)
        numbers = before.video_numbers
        self._videos = {
            feature.key: _CameraFiles(job, feature.key, numbers.get(feature.key, FileNumber()))
            for feature in videos(job.features)
        }
        self._rows = _RowsWriter(job, before.data_number)
        self._metadata = EpisodesWriter(
            job.root,
            episodes_schema(job.features, labels),
            before.episodes_number,
            job.limits.data_bytes,
            self._totals,
        )

    def add(self, episode: Episode, known: EpisodeStatistics) -> None:
        """
        Write an episode, or a part of it while its video is not full.

        :raises DatasetError: What it comes from is damaged.
        """
        rows = episode_rows(self._job, episode, self._tasks, known)
        self._rows.write(episode, rows.table)
        for key, pictures in rows.pictures.items():
            if key not in episode.source.histograms:
                self._totals.add(key, pictures, episode.length)
        number = self._rows.number
        row: dict[str, Any] = {
            'episode_index': episode.index,
            'tasks': rows.tasks,
            'length': episode.length,
            'data/chunk_index': number.chunk_index,
            'data/file_index': number.file_index,
            'dataset_from_index': episode.first_row,
            'dataset_to_index': episode.first_row + episode.length,
            **episode.labels,
        }
        for files in self._videos.values():
            row |= files.add(episode)
        self._metadata.write(row, {**rows.statistics, **of_pictures(rows.pictures)})
        self._job.advance(1)

    def add_histograms(self, histograms: Mapping[str, Histogram]) -> None:
        """Take in the pictures of a source whose episodes do not tell theirs."""
        for key, histogram in histograms.items():
            self._totals.add(key, histogram, histogram.frames)

    def finish(self, episodes: int, frames: int) -> dict[str, Any]:
        """
        Write what is left; return the content of info.json.

        :param episodes: How many the dataset has, those before among them.
        :param frames: Likewise.
        """
        for files in self._videos.values():
            files.close()
        self._rows.close()
        self._metadata.close()
        job, before = self._job, self._before
        write_tasks(job.root, self._tasks.names, before.task_table)
        statistics = _statistics(job, frames, self._totals)
        grown = with_statistics(
            before, {key: as_lists(value) for key, value in statistics.items()}
        )
        write_json(job.root / STATS_PATH, grown)
        summary = job.summary(episodes, frames, len(self._tasks.names))
        return info_v30(summary, job.limits)


class _CameraFiles:
    """
    Distributes the episodes of a camera over files.

    A file takes episodes until the next one would exceed a limit, or cannot be joined to it packet
    by packet; then it is written. A longer episode has a file of its own.
    """

    def __init__(self, job: Assembly, key: str, number: FileNumber) -> None:
        """Write the camera ``key``; ``number`` is that of its first file."""
        self._job = job
        self._key = key
        self._number = number
        self._pieces: list[VideoPiece] = []
        self._bytes = self._frames = 0

    def add(self, episode: Episode) -> dict[str, int | float]:
        """Add an episode; return the columns of meta/episodes that say where it is."""
        piece, limits, fps = episode.video(self._key), self._job.limits, self._job.fps
        last = self._pieces[-1] if self._pieces else piece
        fits = last.join_key == piece.join_key and (
            (piece.whole and last.path == piece.path)
            or (
                self._bytes + piece.bytes < limits.video_bytes
                and self._frames + episode.length <= limits.video_seconds * fps
            )
        )
        if self._pieces and not fits:
            self.close()
            self._number = self._number.next()
        first = self._frames
        self._pieces.append(piece)
        self._bytes += piece.bytes
        self._frames += episode.length
        return {
            f'videos/{self._key}/chunk_index': self._number.chunk_index,
            f'videos/{self._key}/file_index': self._number.file_index,
            f'videos/{self._key}/from_timestamp': first / fps,
            f'videos/{self._key}/to_timestamp': self._frames / fps,
        }

    def close(self) -> None:
        """Write the file that is being filled."""
        path = self._job.root / self._number.path(VIDEO_PATH, video_key=self._key)
        write_video(path, self._pieces, self._job.fps)
        self._job.advance(len(self._pieces))
        self._pieces.clear()
        self._bytes = self._frames = 0


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
            expected += 1.01 * (self._image_bytes + episode.image_bytes)
            if expected >= self._job.limits.data_bytes:
                self._writer.close()
                self.number = self.number.next()
                self._writer = self._open()
        for piece in episode_pieces(self._job, episode, table):
            self._writer.write(piece)
        self._image_bytes += episode.image_bytes

    def close(self) -> None:
        self._writer.close()


def _statistics(job: Assembly, frames: int, totals: PictureTotals) -> dict[str, Statistics]:
    """Return the statistics of the whole dataset: of all its rows, and of its pictures."""
    files = sorted(job.root.glob(DATA_FILES))
    statistics = totals.statistics()
    for feature in job.columns:
        statistics |= table_statistics(partial(_read_files, files, feature), frames, [feature])
    ordered = [*job.features, *DEFAULT_FEATURES]
    return {item.key: statistics[item.key] for item in ordered if not item.is_language}


def _arrays(statistics: Mapping[str, Any]) -> Statistics:
    return {name: np.array(statistics[name]) for name in STATISTICS if name in statistics}


def _read_files(files: Sequence[Path], feature: Feature) -> Iterator[pa.Table]:
    for file in files:
        yield from read_rows(file, 0, sys.maxsize, [feature])
