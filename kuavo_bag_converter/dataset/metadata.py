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

"""The files in ``meta/`` of a dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

from kuavo_bag_converter.dataset.features import Feature, VideoOptions
from kuavo_bag_converter.dataset.layout import (
    DATA_PATH,
    DATA_PATH_V21,
    EPISODES_PATH,
    FileLimits,
    FileNumber,
    FILES_PER_CHUNK,
    TASKS_PATH,
    VIDEO_PATH,
    VIDEO_PATH_V21,
)
from kuavo_bag_converter.dataset.statistics import (
    Histogram,
    PictureTotals,
    STATISTICS,
    Statistics,
)
from kuavo_bag_converter.dataset.tables import DEFAULT_FEATURES, TableWriter, videos
from kuavo_bag_converter.dataset.video import video_info, video_info_v21
from kuavo_bag_converter.support.files import sync, write_text
import pyarrow as pa
import pyarrow.parquet as pq

_EPISODES_PER_ROW_GROUP = 10
DEPTH_IMAGE_INFO = {'is_depth_map': True, 'depth_unit': 'mm'}
"""What tells LeRobot >= 0.6 that pictures in the table are depth, and the unit of all numbers."""
_PICTURES = 'pictures'
"""Where a file of meta/episodes keeps the pictures of all episodes up to its last one."""


def feature_entries(
    features: Sequence[Feature], options: Mapping[str, VideoOptions], fps: float, version: str
) -> dict[str, dict[str, Any]]:
    """
    Return the ``features`` of info.json, the default ones last.

    :param features: Besides those that every dataset has.
    :param options: How the videos are encoded, by feature.
    :param fps: Of the dataset, Hz.
    :param version: Of the format, ``v3.0`` or ``v2.1``.
    """
    describe = video_info_v21 if version == 'v2.1' else video_info
    entries: dict[str, dict[str, Any]] = {}
    for feature in [*features, *DEFAULT_FEATURES]:
        entry: dict[str, Any] = {'dtype': feature.dtype, 'shape': list(feature.shape)}
        if feature.is_picture:
            entry['names'] = ['height', 'width', 'channels']
        if feature.is_video:
            entry['info'] = describe(feature, options[feature.key], fps)
        elif feature.is_image and feature.is_depth:
            entry['info'] = dict(DEPTH_IMAGE_INFO)
        elif not feature.is_image:
            entry['names'] = None if feature.names is None else list(feature.names)
        entries[feature.key] = entry
    return entries


@dataclass(frozen=True)
class DatasetSummary:
    """What info.json says of a dataset as a whole."""

    fps: float
    robot_type: str | None
    features: Mapping[str, Any]
    episodes: int
    frames: int
    tasks: int


def info_v30(summary: DatasetSummary, limits: FileLimits) -> dict[str, Any]:
    """Return info.json of a v3.0 dataset, with the keys of LeRobot 0.6, which 0.4 reads too."""
    has_video = any(entry['dtype'] == 'video' for entry in summary.features.values())
    return {
        'codebase_version': 'v3.0',
        'fps': summary.fps,
        'features': summary.features,
        'total_episodes': summary.episodes,
        'total_frames': summary.frames,
        'total_tasks': summary.tasks,
        'chunks_size': FILES_PER_CHUNK,
        'data_files_size_in_mb': limits.data_mb,
        'video_files_size_in_mb': limits.video_mb,
        'data_path': DATA_PATH,
        'video_path': VIDEO_PATH if has_video else None,
        'robot_type': summary.robot_type,
        'splits': {'train': f'0:{summary.episodes}'},
    }


def info_v21(summary: DatasetSummary) -> dict[str, Any]:
    """Return info.json of a v2.1 dataset, with the keys of LeRobot 0.3."""
    cameras = sum(entry['dtype'] == 'video' for entry in summary.features.values())
    return {
        'codebase_version': 'v2.1',
        'robot_type': summary.robot_type,
        'total_episodes': summary.episodes,
        'total_frames': summary.frames,
        'total_tasks': summary.tasks,
        'total_videos': summary.episodes * cameras,
        'total_chunks': -(-summary.episodes // FILES_PER_CHUNK),
        'chunks_size': FILES_PER_CHUNK,
        'fps': summary.fps,
        'splits': {'train': f'0:{summary.episodes}'},
        'data_path': DATA_PATH_V21,
        'video_path': VIDEO_PATH_V21 if cameras else None,
        'features': summary.features,
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file in LeRobot's style."""
    write_text(path, json.dumps(content, indent=4, ensure_ascii=False))


class JsonLinesWriter:
    """
    Writes a JSON Lines file in LeRobot's style, line by line.

    :param path: The file, which must not exist.
    :param lines: Those that it begins with.
    """

    def __init__(self, path: Path, lines: Iterable[str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open('x', encoding='utf-8')
        self._file.writelines(line + '\n' for line in lines)

    def write(self, content: Mapping[str, Any]) -> None:
        """Write a line."""
        self._file.write(json.dumps(content, ensure_ascii=False) + '\n')

    def close(self) -> None:
        """Make the file durable."""
        self._file.close()
        sync(self._path)


def as_lists(statistics: Statistics) -> dict[str, list[Any]]:
    """Return statistics as nested lists."""
    return {name: values.tolist() for name, values in statistics.items()}


def of_pictures(pictures: Mapping[str, Histogram | Statistics]) -> dict[str, Statistics]:
    """Return the statistics of cameras of which histograms, or no more than these are known."""
    return {
        key: known.statistics() if isinstance(known, Histogram) else known
        for key, known in pictures.items()
    }


def _encoded_pictures(pictures: Mapping[str, Histogram]) -> str:
    """Return the pictures of a dataset's cameras as a text that ``read_pictures`` reads."""
    return json.dumps(
        {
            key: {
                'frames': histogram.frames,
                'scale': histogram.scale,
                'counts': histogram.encode(),
            }
            for key, histogram in pictures.items()
        }
    )


def read_pictures(file: Path) -> dict[str, Histogram]:
    """Read the histograms of all pictures from the last file of episodes, if it has them."""
    note = (pq.read_metadata(file).metadata or {}).get(_PICTURES.encode(), b'{}')
    return {
        key: Histogram.decode(entry['counts'], entry['frames'], entry['scale'])
        for key, entry in json.loads(note).items()
    }


def write_tasks(root: Path, tasks: Sequence[str], before: pa.Table | None = None) -> None:
    """
    Write meta/tasks.parquet of a v3.0 dataset: pandas reads it with the task as the index.

    :param root: The dataset.
    :param tasks: All tasks, by ``task_index``.
    :param before: The table of the first ones; other columns than ours stay, and have no value for
        the tasks that follow.
    """
    columns = [
        {
            'name': name,
            'field_name': name,
            'pandas_type': pandas_type,
            'numpy_type': numpy_type,
            'metadata': None,
        }
        for name, pandas_type, numpy_type in (
            ('task_index', 'int64', 'int64'),
            ('task', 'unicode', 'object'),
        )
    ]
    pandas = {
        'index_columns': ['task'],
        'column_indexes': [
            {
                'name': None,
                'field_name': None,
                'pandas_type': 'unicode',
                'numpy_type': 'object',
                'metadata': {'encoding': 'UTF-8'},
            }
        ],
        'columns': columns,
        'attributes': {},
        'creator': {'library': 'pyarrow', 'version': pa.__version__},
        'pandas_version': '2.0.0',
    }
    schema = pa.schema(
        [('task_index', pa.int64()), ('task', pa.string())], {'pandas': json.dumps(pandas)}
    )
    first = 0
    if before is not None and set(before.column_names) != {'task_index', 'task'}:
        schema, first = before.schema, before.num_rows
    values: dict[str, list[Any]] = {name: [None] * (len(tasks) - first) for name in schema.names}
    values |= {'task_index': list(range(first, len(tasks))), 'task': list(tasks[first:])}
    table = pa.Table.from_pydict(values, schema=schema)
    if first:
        table = pa.concat_tables([before, table])
    writer = TableWriter(root / TASKS_PATH, schema)
    writer.write(table)
    writer.close()


def episodes_schema(features: Sequence[Feature], labels: Sequence[str] = ()) -> pa.Schema:
    """
    Return the columns of meta/episodes.

    :param features: Of the dataset; of them are the columns that LeRobot writes and needs.
    :param labels: Columns of texts, which LeRobot passes by.
    """
    fields = [
        ('episode_index', pa.int64()),
        ('tasks', _list_of(pa.string())),
        ('length', pa.int64()),
        ('data/chunk_index', pa.int64()),
        ('data/file_index', pa.int64()),
        ('dataset_from_index', pa.int64()),
        ('dataset_to_index', pa.int64()),
    ]
    for feature in videos(features):
        fields += [
            (f'videos/{feature.key}/chunk_index', pa.int64()),
            (f'videos/{feature.key}/file_index', pa.int64()),
            (f'videos/{feature.key}/from_timestamp', pa.float64()),
            (f'videos/{feature.key}/to_timestamp', pa.float64()),
        ]
    for feature in [*features, *DEFAULT_FEATURES]:
        if feature.is_language:
            continue
        depth = 3 if feature.is_picture else 1
        for name in STATISTICS:
            kind = _list_of(pa.int64()) if name == 'count' else _list_of(pa.float64(), depth)
            fields.append((f'stats/{feature.key}/{name}', kind))
    fields += [(label, pa.string()) for label in labels]
    fields += [('meta/episodes/chunk_index', pa.int64()), ('meta/episodes/file_index', pa.int64())]
    return pa.schema(fields)


def _list_of(kind: pa.DataType, depth: int = 1) -> pa.DataType:
    for _ in range(depth):
        kind = pa.list_(pa.field('element', kind))
    return kind


class EpisodesWriter:
    """
    Writes meta/episodes of a v3.0 dataset, some episodes at a time.

    :param root: The dataset.
    :param schema: See :func:`episodes_schema`.
    :param number: The number of the first file.
    :param max_bytes: A new file begins once one has this size.
    :param totals: The pictures of the dataset; each file keeps their histograms as they are then.
    """

    def __init__(
        self,
        root: Path,
        schema: pa.Schema,
        number: FileNumber,
        max_bytes: float,
        totals: PictureTotals,
    ) -> None:
        self._totals = totals
        self._root = root
        self._schema = schema
        self._number = number
        self._max_bytes = max_bytes
        self._rows: list[dict[str, Any]] = []
        self._writer = self._open()

    def _open(self) -> TableWriter:
        return TableWriter(self._root / self._number.path(EPISODES_PATH), self._schema)

    def write(
        self,
        row: Mapping[str, Any],
        statistics: Mapping[str, Statistics],
    ) -> None:
        """
        Add an episode.

        :param row: Its columns but those of statistics and of this file's number.
        :param statistics: Of its vectors and pictures.
        """
        self._rows.append(
            {
                **row,
                **{
                    f'stats/{key}/{name}': values
                    for key, columns in statistics.items()
                    for name, values in as_lists(columns).items()
                },
            }
        )
        if len(self._rows) == _EPISODES_PER_ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._writer.rows and self._writer.bytes_written >= self._max_bytes:
            self._close_file()
            self._number = self._number.next()
            self._writer = self._open()
        numbers = {
            'meta/episodes/chunk_index': self._number.chunk_index,
            'meta/episodes/file_index': self._number.file_index,
        }
        rows = [row | numbers for row in self._rows]
        self._writer.write(pa.Table.from_pylist(rows, schema=self._schema))
        self._rows.clear()

    def close(self) -> None:
        """Write the remaining episodes and make the files durable."""
        if self._rows:
            self._flush()
        self._close_file()

    def _close_file(self) -> None:
        self._writer.note(_PICTURES, _encoded_pictures(self._totals.histograms))
        self._writer.close()
