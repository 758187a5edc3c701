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

"""A dataset to append to: what must fit, what goes on from where, and files that stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
import json
from pathlib import Path
import re
from typing import Any

from kuavo_bag_converter.dataset.encoders import COPY
from kuavo_bag_converter.dataset.features import Feature
from kuavo_bag_converter.dataset.layout import (
    DATA_PATH,
    DATA_PATH_V21,
    EPISODES_FILES,
    EPISODES_PATH_V21,
    EPISODES_STATS_PATH_V21,
    FileNumber,
    FILES_PER_CHUNK,
    INFO_PATH,
    STATS_PATH,
    TASKS_PATH,
    TASKS_PATH_V21,
    VIDEO_PATH,
    VIDEO_PATH_V21,
)
from kuavo_bag_converter.dataset.metadata import read_pictures
from kuavo_bag_converter.dataset.statistics import Histogram
from kuavo_bag_converter.dataset.tables import videos
from kuavo_bag_converter.dataset.video import copies_jpegs, copies_streams
from kuavo_bag_converter.support.errors import DatasetError
from kuavo_bag_converter.support.files import link_or_copy
import pyarrow as pa
import pyarrow.parquet as pq

_FEATURE_KEYS = ('dtype', 'shape', 'names')
_COMPARED_INFO = (
    'video.codec',
    'video.pix_fmt',
    'is_depth_map',
    'depth_unit',
    'video.depth_min',
    'video.depth_max',
    'video.shift',
    'video.use_log',
)
_PLACES: Mapping[str, Mapping[str, Any]] = {
    'v3.0': {'data_path': DATA_PATH, 'video_path': VIDEO_PATH},
    'v2.1': {
        'data_path': DATA_PATH_V21,
        'video_path': VIDEO_PATH_V21,
        'chunks_size': FILES_PER_CHUNK,
    },
}
"""Where new episodes go; those of info.json must be the same."""
_COUNTS = ('total_episodes', 'total_frames', 'total_tasks', 'total_videos', 'total_chunks')


@dataclass(frozen=True)
class Existing:
    """
    What a dataset says of itself in info.json and its tasks.

    :ivar info: Its info.json; empty of a dataset that is about to begin.
    :ivar tasks: By ``task_index``.
    """

    info: Mapping[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()

    @property
    def episodes(self) -> int:
        """How many it has."""
        return int(self.info.get('total_episodes', 0))

    @property
    def frames(self) -> int:
        """How many it has."""
        return int(self.info.get('total_frames', 0))


@dataclass(frozen=True)
class ExistingV30(Existing):
    """
    A v3.0 dataset to append to, or one that is about to begin.

    :ivar data_number: The next file of rows.
    :ivar episodes_number: The next file of meta/episodes.
    :ivar video_numbers: The next file of each camera that has any.
    :ivar pictures: The histograms of all its pictures; none where another program wrote some of
        its episodes.
    :ivar statistics: Its stats.json.
    :ivar task_table: Its tasks.parquet; None of a dataset that is about to begin.
    """

    data_number: FileNumber = field(default_factory=FileNumber)
    episodes_number: FileNumber = field(default_factory=FileNumber)
    video_numbers: Mapping[str, FileNumber] = field(default_factory=dict)
    pictures: Mapping[str, Histogram] = field(default_factory=dict)
    statistics: Mapping[str, Any] = field(default_factory=dict)
    task_table: pa.Table | None = None


@dataclass(frozen=True)
class ExistingV21(Existing):
    """
    A v2.1 dataset to append to, or one that is about to begin.

    :ivar task_lines: The lines of meta/tasks.jsonl, as they are.
    :ivar episode_lines: The lines of meta/episodes.jsonl.
    :ivar statistics_lines: The lines of meta/episodes_stats.jsonl.
    """

    task_lines: tuple[str, ...] = ()
    episode_lines: tuple[str, ...] = ()
    statistics_lines: tuple[str, ...] = ()


def read_info(
    root: Path, version: str, entries: Mapping[str, Any], fps: float, robot_type: str | None
) -> dict[str, Any]:
    """
    Read info.json of a dataset to append to and check that the new episodes belong to it.

    :param root: Of the dataset.
    :param version: Of the format, ``v3.0`` or ``v2.1``.
    :param entries: The ``features`` of the new episodes.
    :param fps: Of the new episodes.
    :param robot_type: Of the new episodes.
    :raises DatasetError: Names what differs.
    """
    info = _read_json(root / INFO_PATH)
    try:
        found = info['features']
        wanted = {
            'version': version,
            'fps': fps,
            'robot_type': robot_type,
            'features': list(entries),
        }
        has = {
            'version': info['codebase_version'],
            'fps': info['fps'],
            'robot_type': info.get('robot_type'),
            'features': list(found),
        }
        for key in entries:
            if key in found:
                ours, theirs = _comparable(entries[key], found[key])
                wanted |= {f'{key} ({name})': value for name, value in ours.items()}
                has |= {f'{key} ({name})': value for name, value in theirs.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise _no_info(root, error) from error
    for name, value in _PLACES[version].items():
        if info.get(name) is not None:
            wanted[name], has[name] = value, info[name]
    for name, value in wanted.items():
        if has[name] != value:
            raise DatasetError(
                f'{root}: its {name} is {apart(has[name], value)}, the new episodes have '
                f'{apart(value, has[name])}; only equal ones can be appended'
            )
    return info


def apart(value: Any, other: Any) -> Any:
    """Return of two lists the names that the other is without, if there are any; else a value."""
    if not isinstance(value, list) or not isinstance(other, list):
        return value
    return [item for item in value if isinstance(item, str) and item not in other] or value


def encoded_cameras(root: Path) -> frozenset[str]:
    """
    Return the cameras of a dataset whose pictures were encoded, not copied.

    :raises DatasetError: It is no info.json of LeRobot.
    """
    info = _read_json(root / INFO_PATH)
    try:
        return frozenset(
            key
            for key, entry in info['features'].items()
            if entry['dtype'] == 'video'
            and not copies_jpegs(entry['info'])
            and not copies_streams(entry['info'])
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _no_info(root, error) from error


def sizes_of(root: Path) -> dict[str, tuple[int, ...]]:
    """
    Return the (height, width) of each camera of a dataset, as its info.json states them.

    :raises DatasetError: It is no info.json of LeRobot.
    """
    info = _read_json(root / INFO_PATH)
    try:
        return {
            key: tuple(entry['shape'][:2])
            for key, entry in info['features'].items()
            if entry['dtype'] in ('video', 'image')
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise _no_info(root, error) from error


def _no_info(root: Path, error: Exception) -> DatasetError:
    return DatasetError(f'{root / INFO_PATH}: not a LeRobot info.json ({error!r})')


def compared_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return of a camera's ``info`` what must be equal in joined datasets that both tell it."""
    told = {name: info[name] for name in _COMPARED_INFO if name in info}
    if 'video.height' in info and copies_jpegs(info):
        told['video.codec'] = COPY
    return told


def _comparable(
    wanted: Mapping[str, Any], found: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return of two feature entries what must be equal; encoder settings may differ."""
    wanted_info, found_info = (compared_info(one.get('info') or {}) for one in (wanted, found))
    shared = [key for key in wanted_info if key in found_info]
    return (
        {name: wanted[name] for name in _FEATURE_KEYS} | {k: wanted_info[k] for k in shared},
        {name: found[name] for name in _FEATURE_KEYS} | {k: found_info[k] for k in shared},
    )


def open_v30(root: Path, info: Mapping[str, Any], features: Sequence[Feature]) -> ExistingV30:
    """
    Read where a v3.0 dataset ends.

    :raises DatasetError: Its metadata is incomplete.
    """
    files = sorted(root.glob(EPISODES_FILES))
    cameras = [feature.key for feature in videos(features)]
    try:
        task_table = pq.read_table(root / TASKS_PATH)
        table = task_table.to_pydict()
        tasks = dict(zip(table['task_index'], table['task'], strict=True))
        numbers = _last_numbers(
            root, files, ['data', 'meta/episodes', *(f'videos/{c}' for c in cameras)]
        )
        pictures = read_pictures(files[-1])
        return ExistingV30(
            info=info,
            tasks=tuple(tasks[index] for index in range(len(tasks))),
            data_number=numbers['data'].next(),
            episodes_number=numbers['meta/episodes'].next(),
            video_numbers={camera: numbers[f'videos/{camera}'].next() for camera in cameras},
            pictures={
                camera: histogram
                for camera, histogram in pictures.items()
                if histogram.frames == info['total_frames']
            },
            statistics=_read_json(root / STATS_PATH),
            task_table=task_table,
        )
    except (OSError, KeyError, IndexError, ValueError) as error:
        raise DatasetError(f'{root}: its metadata is not complete ({error!r})') from error


def with_info(before: Existing, info: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return info.json of a dataset that has grown: all that it said, and the new counts.

    Splits of other programs stay as they are; the only one that is ours takes in all episodes.
    """
    if not before.info:
        return dict(info)
    ours = before.info.get('splits') in (None, {'train': f'0:{before.episodes}'})
    changed = [name for name in info if name in _COUNTS or (name == 'splits' and ours)]
    return {**info, **before.info, **{name: info[name] for name in changed}}


def with_statistics(before: ExistingV30, statistics: Mapping[str, Any]) -> dict[str, Any]:
    """Return stats.json of a dataset that has grown: what others have put there stays."""
    now = dict(before.statistics)
    for key, values in statistics.items():
        known = now.get(key)
        now[key] = {**(known if isinstance(known, dict) else {}), **values}
    return now


def _last_numbers(
    root: Path, files: Sequence[Path], places: Sequence[str]
) -> dict[str, FileNumber]:
    """Return the last file of each kind that meta/episodes names, or that is there."""
    last = {place: _last_number(root / place) for place in places}
    for file in files:
        names = [f'{place}/{name}' for place in places for name in ('chunk_index', 'file_index')]
        table = pq.read_table(file, columns=names)
        for place in places:
            chunks = table.column(f'{place}/chunk_index').to_pylist()
            numbers = table.column(f'{place}/file_index').to_pylist()
            found = max(zip(chunks, numbers, strict=True))
            last[place] = max(last[place], FileNumber(*found))
    return last


def _last_number(folder: Path) -> FileNumber:
    names = [re.search(r'chunk-(\d+)/file-(\d+)\.', str(p)) for p in folder.glob('chunk-*/file-*')]
    return max((FileNumber(int(n[1]), int(n[2])) for n in names if n), default=FileNumber())


def open_v21(root: Path, info: Mapping[str, Any], _: Sequence[Feature]) -> ExistingV21:
    """
    Read where a v2.1 dataset ends.

    :raises DatasetError: Its metadata is incomplete.
    """
    try:
        lines = read_lines(root / TASKS_PATH_V21)
        tasks = {line['task_index']: line['task'] for line in map(json.loads, lines)}
        return ExistingV21(
            info=info,
            tasks=tuple(tasks[index] for index in range(len(tasks))),
            task_lines=lines,
            episode_lines=read_lines(root / EPISODES_PATH_V21),
            statistics_lines=read_lines(root / EPISODES_STATS_PATH_V21),
        )
    except (OSError, KeyError, ValueError) as error:
        raise DatasetError(f'{root}: its metadata is not complete ({error!r})') from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise DatasetError(f'{path}: cannot be read ({error})') from error
    if not isinstance(content, dict):
        raise DatasetError(f'{path}: holds no JSON object')
    return content


def read_lines(path: Path) -> tuple[str, ...]:
    """Return the lines of a JSON Lines file but empty ones."""
    return tuple(line for line in path.read_text(encoding='utf-8').split('\n') if line.strip())


def keep_files(root: Path, target: Path, patterns: Sequence[str]) -> None:
    """Give a dataset's files a second name in another folder."""
    for pattern in patterns:
        for file in sorted(root.glob(pattern)):
            link_or_copy(file, target / file.relative_to(root))
