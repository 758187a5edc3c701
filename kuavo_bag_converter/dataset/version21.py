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

"""LeRobot's format v2.1: each episode has a file of rows and one for each camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kuavo_bag_converter.dataset.existing import ExistingV21
from kuavo_bag_converter.dataset.layout import (
    DATA_PATH_V21,
    EPISODES_PATH_V21,
    EPISODES_STATS_PATH_V21,
    FILES_PER_CHUNK,
    TASKS_PATH_V21,
    VIDEO_PATH_V21,
)
from kuavo_bag_converter.dataset.metadata import (
    as_lists,
    info_v21,
    JsonLinesWriter,
    of_pictures,
)
from kuavo_bag_converter.dataset.parts import (
    Assembly,
    Episode,
    episode_pieces,
    episode_rows,
    TaskNumbers,
    write_video,
)
from kuavo_bag_converter.dataset.statistics import (
    EpisodeStatistics,
    Histogram,
    QUANTILES,
    Statistics,
)
from kuavo_bag_converter.dataset.tables import (
    DEFAULT_FEATURES,
    TableWriter,
    videos,
)

KEPT_FILES = ('data/*/*.parquet', 'videos/*/*/*.mp4')


class WriterV21:
    """Writes episodes after those of ``before``, one at a time."""

    def __init__(self, job: Assembly, _: Sequence[str], before: ExistingV21) -> None:
        """
        Begin.

        :param job: What is being assembled.
        :param before: The dataset that the episodes are added to.
        """
        self._job = job
        self._before = before
        self._tasks = TaskNumbers(before.tasks)
        self._episodes = JsonLinesWriter(job.root / EPISODES_PATH_V21, before.episode_lines)
        self._statistics = JsonLinesWriter(
            job.root / EPISODES_STATS_PATH_V21, before.statistics_lines
        )

    def add(self, episode: Episode, known: EpisodeStatistics) -> None:
        """
        Write an episode.

        :raises DatasetError: What it comes from is damaged.
        """
        job = self._job
        rows = episode_rows(job, episode, self._tasks, known)
        writer = TableWriter(job.root / _episode_path(DATA_PATH_V21, episode), job.schema)
        for piece in episode_pieces(job, episode, rows.table):
            writer.write(piece)
        writer.close()
        line = {'episode_index': episode.index, 'tasks': rows.tasks, 'length': episode.length}
        self._episodes.write({**line, **episode.labels})
        statistics = {**rows.statistics, **of_pictures(rows.pictures)}
        self._statistics.write(
            {'episode_index': episode.index, 'stats': _without_quantiles(job, statistics)}
        )
        job.advance(1)
        for feature in videos(job.features):
            path = job.root / _episode_path(VIDEO_PATH_V21, episode, video_key=feature.key)
            write_video(path, [episode.video(feature.key)], job.fps)
            job.advance(1)

    def add_histograms(self, _: Mapping[str, Histogram]) -> None:
        """Do nothing: v2.1 keeps no statistics of the whole dataset."""

    def finish(self, episodes: int, frames: int) -> dict[str, Any]:
        """
        Write what is left; return the content of info.json.

        :param episodes: How many the dataset has, those before among them.
        :param frames: Likewise.
        """
        self._episodes.close()
        self._statistics.close()
        tasks = JsonLinesWriter(self._job.root / TASKS_PATH_V21, self._before.task_lines)
        new_tasks = list(enumerate(self._tasks.names))[slice(len(self._before.task_lines), None)]
        for index, task in new_tasks:
            tasks.write({'task_index': index, 'task': task})
        tasks.close()
        return info_v21(self._job.summary(episodes, frames, len(self._tasks.names)))


def _episode_path(template: str, episode: Episode, **names: str) -> str:
    return template.format(
        episode_chunk=episode.index // FILES_PER_CHUNK, episode_index=episode.index, **names
    )


def _without_quantiles(job: Assembly, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
    """Return the statistics that v2.1 knows, in the order of the features."""
    return {
        feature.key: {
            name: values
            for name, values in as_lists(statistics[feature.key]).items()
            if name not in QUANTILES
        }
        for feature in [*job.features, *DEFAULT_FEATURES]
        if not feature.is_language
    }
