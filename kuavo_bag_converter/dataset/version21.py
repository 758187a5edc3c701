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
    Episode,
    EPISODES_PATH_V21,
    EPISODES_STATS_PATH_V21,
    FILES_PER_CHUNK,
    TASKS_PATH_V21,
    VIDEO_PATH_V21,
)
from kuavo_bag_converter.dataset.metadata import (
    as_lists,
    info_v21,
    json_line,
    write_json_lines,
)
from kuavo_bag_converter.dataset.parts import (
    Assembly,
    episode_pieces,
    episode_rows,
    TaskNumbers,
    write_video,
)
from kuavo_bag_converter.dataset.statistics import QUANTILES, Statistics
from kuavo_bag_converter.dataset.tables import (
    DEFAULT_FEATURES,
    TableWriter,
    videos,
)

KEPT_FILES = ('data/*/*.parquet', 'videos/*/*/*.mp4')


def write_v21(job: Assembly, episodes: Sequence[Episode], before: ExistingV21) -> dict[str, Any]:
    """Write episodes after those in ``before``; return the content of info.json."""
    tasks = TaskNumbers(before.tasks)
    episode_lines = list(before.episode_lines)
    statistics_lines = list(before.statistics_lines)
    for episode, table, names, statistics, pictures in episode_rows(job, episodes, tasks):
        writer = TableWriter(job.root / _episode_path(DATA_PATH_V21, episode), job.schema)
        for piece in episode_pieces(job, episode, table):
            writer.write(piece)
        writer.close()
        known = statistics | {key: histogram.statistics() for key, histogram in pictures.items()}
        line = {'episode_index': episode.index, 'tasks': names, 'length': episode.length}
        line |= episode.labels
        episode_lines.append(json_line(line))
        line = {'episode_index': episode.index, 'stats': _without_quantiles(job, known)}
        statistics_lines.append(json_line(line))
    for episode in episodes:
        for feature in videos(job.features):
            path = job.root / _episode_path(VIDEO_PATH_V21, episode, video_key=feature.key)
            write_video(path, [episode], feature.key, job.fps)
            job.advance(1)
    write_json_lines(job.root / EPISODES_PATH_V21, episode_lines)
    write_json_lines(job.root / EPISODES_STATS_PATH_V21, statistics_lines)
    new_tasks = list(enumerate(tasks.names))[slice(len(before.task_lines), None)]
    lines = [json_line({'task_index': index, 'task': task}) for index, task in new_tasks]
    write_json_lines(job.root / TASKS_PATH_V21, [*before.task_lines, *lines])
    return info_v21(job.summary(before, episodes, tasks))


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
