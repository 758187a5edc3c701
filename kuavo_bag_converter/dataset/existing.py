"""A dataset to append to: what must fit, what goes on from where, and files that stay."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from kuavo_bag_converter.dataset.features import Feature
from kuavo_bag_converter.dataset.files import link_or_copy
from kuavo_bag_converter.dataset.layout import (
    EPISODES_PATH_V21,
    EPISODES_STATS_PATH_V21,
    INFO_PATH,
    STATS_PATH,
    TASKS_PATH,
    TASKS_PATH_V21,
    FileNumber,
)
from kuavo_bag_converter.dataset.metadata import PICTURES, decode_pictures
from kuavo_bag_converter.dataset.statistics import Histogram, Statistics
from kuavo_bag_converter.dataset.tables import videos
from kuavo_bag_converter.errors import DatasetError

_FEATURE_KEYS = ('dtype', 'shape', 'names')
_INFO_KEYS = (
    'video.codec',
    'video.pix_fmt',
    'is_depth_map',
    'depth_unit',
    'video.depth_min',
    'video.depth_max',
    'video.shift',
    'video.use_log',
)


@dataclass(frozen=True)
class Existing:
    """What a dataset says of itself in info.json and its tasks.

    Attributes:
        episodes: How many it has.
        frames: How many it has.
        tasks: By ``task_index``.
    """

    episodes: int
    frames: int
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class ExistingV30(Existing):
    """A v3.0 dataset to append to.

    Attributes:
        data_number: The next file of rows.
        episodes_number: The next file of meta/episodes.
        video_numbers: The next file of each camera.
        pictures: The histograms of all its pictures; none where another program wrote some of
            its episodes.
        statistics: Its stats.json.
    """

    data_number: FileNumber
    episodes_number: FileNumber
    video_numbers: Mapping[str, FileNumber]
    pictures: Mapping[str, Histogram]
    statistics: Mapping[str, Statistics]


@dataclass(frozen=True)
class ExistingV21(Existing):
    """A v2.1 dataset to append to.

    Attributes:
        episode_lines: The lines of meta/episodes.jsonl.
        statistics_lines: The lines of meta/episodes_stats.jsonl.
    """

    episode_lines: tuple[dict[str, Any], ...]
    statistics_lines: tuple[dict[str, Any], ...]


def nothing_v30(features: Sequence[Feature]) -> ExistingV30:
    """Return the state of a dataset that is about to begin."""
    first = FileNumber()
    return ExistingV30(
        episodes=0,
        frames=0,
        tasks=(),
        data_number=first,
        episodes_number=first,
        video_numbers={feature.key: first for feature in videos(features)},
        pictures={},
        statistics={},
    )


def nothing_v21() -> ExistingV21:
    """Return the state of a dataset that is about to begin."""
    return ExistingV21(episodes=0, frames=0, tasks=(), episode_lines=(), statistics_lines=())


def read_info(
    root: Path, version: str, entries: Mapping[str, Any], fps: float, robot_type: str | None
) -> dict[str, Any]:
    """Read info.json of a dataset to append to and check that the new episodes belong to it.

    Raises:
        DatasetError: Names what differs.
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
    for name, value in wanted.items():
        if has[name] != value:
            raise DatasetError(
                f'{root}: its {name} is {_apart(has[name], value)}, the new episodes have '
                f'{_apart(value, has[name])}; only equal ones can be appended'
            )
    return info


def _apart(value: Any, other: Any) -> Any:
    """Return of names those that others are without, if there are any; else the value."""
    if not isinstance(value, list) or not isinstance(other, list):
        return value
    return [item for item in value if isinstance(item, str) and item not in other] or value


def sizes_of(root: Path) -> dict[str, tuple[int, ...]]:
    """Return the (height, width) of each video of a dataset, as its info.json states them.

    Raises:
        DatasetError: It is no info.json of LeRobot.
    """
    info = _read_json(root / INFO_PATH)
    try:
        return {
            key: tuple(entry['shape'][:2])
            for key, entry in info['features'].items()
            if entry['dtype'] == 'video'
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise _no_info(root, error) from error


def _no_info(root: Path, error: Exception) -> DatasetError:
    return DatasetError(f'{root / INFO_PATH}: not a LeRobot info.json ({error!r})')


def _comparable(
    wanted: Mapping[str, Any], found: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return of two feature entries what must be equal; encoder settings may differ."""
    wanted_info, found_info = wanted.get('info') or {}, found.get('info') or {}
    shared = [key for key in _INFO_KEYS if key in wanted_info and key in found_info]
    return (
        {name: wanted[name] for name in _FEATURE_KEYS} | {k: wanted_info[k] for k in shared},
        {name: found[name] for name in _FEATURE_KEYS} | {k: found_info[k] for k in shared},
    )


def open_v30(root: Path, info: Mapping[str, Any], features: Sequence[Feature]) -> ExistingV30:
    """Read where a v3.0 dataset ends.

    Raises:
        DatasetError: Its metadata is incomplete.
    """
    files = sorted(root.glob('meta/episodes/*/*.parquet'))
    cameras = [feature.key for feature in videos(features)]
    try:
        table = pq.read_table(root / TASKS_PATH).to_pydict()
        tasks = dict(zip(table['task_index'], table['task'], strict=True))
        numbers = _last_numbers(files, ['data', 'meta/episodes', *(f'videos/{c}' for c in cameras)])
        note = (pq.read_metadata(files[-1]).metadata or {}).get(PICTURES.encode(), b'{}')
        pictures = decode_pictures(note.decode())
        statistics = {
            key: {name: np.array(value) for name, value in values.items()}
            for key, values in _read_json(root / STATS_PATH).items()
        }
        return ExistingV30(
            episodes=info['total_episodes'],
            frames=info['total_frames'],
            tasks=tuple(tasks[index] for index in range(len(tasks))),
            data_number=numbers['data'].next(),
            episodes_number=numbers['meta/episodes'].next(),
            video_numbers={camera: numbers[f'videos/{camera}'].next() for camera in cameras},
            pictures={
                camera: histogram
                for camera, histogram in pictures.items()
                if histogram.frames == info['total_frames']
            },
            statistics=statistics,
        )
    except (OSError, KeyError, IndexError, ValueError) as error:
        raise DatasetError(f'{root}: its metadata is not complete ({error!r})') from error


def _last_numbers(files: Sequence[Path], places: Sequence[str]) -> dict[str, FileNumber]:
    """Return the last file of each kind that meta/episodes names."""
    last = dict.fromkeys(places, FileNumber())
    for file in files:
        names = [f'{place}/{name}' for place in places for name in ('chunk_index', 'file_index')]
        table = pq.read_table(file, columns=names)
        for place in places:
            chunks = table.column(f'{place}/chunk_index').to_pylist()
            numbers = table.column(f'{place}/file_index').to_pylist()
            found = max(zip(chunks, numbers, strict=True))
            last[place] = max(last[place], FileNumber(*found))
    return last


def open_v21(root: Path, info: Mapping[str, Any]) -> ExistingV21:
    """Read where a v2.1 dataset ends.

    Raises:
        DatasetError: Its metadata is incomplete.
    """
    try:
        tasks = {line['task_index']: line['task'] for line in _read_lines(root / TASKS_PATH_V21)}
        return ExistingV21(
            episodes=info['total_episodes'],
            frames=info['total_frames'],
            tasks=tuple(tasks[index] for index in range(len(tasks))),
            episode_lines=_read_lines(root / EPISODES_PATH_V21),
            statistics_lines=_read_lines(root / EPISODES_STATS_PATH_V21),
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


def _read_lines(path: Path) -> tuple[dict[str, Any], ...]:
    lines = path.read_text(encoding='utf-8').split('\n')
    return tuple(json.loads(line) for line in lines if line)


def keep_files(root: Path, target: Path, patterns: Sequence[str]) -> None:
    """Give a dataset's files a second name in another folder."""
    for pattern in patterns:
        for file in sorted(root.glob(pattern)):
            link_or_copy(file, target / file.relative_to(root))
