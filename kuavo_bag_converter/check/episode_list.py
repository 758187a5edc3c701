"""Reads what the metadata says of each episode, in both versions of the format."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from kuavo_bag_converter.check.description import EPISODES_FILES, Episode, Place
from kuavo_bag_converter.check.findings import Findings
from kuavo_bag_converter.check.reading import (
    BROKEN,
    check_order,
    first_line,
    read_json_lines,
)
from kuavo_bag_converter.dataset.layout import EPISODES_PATH_V21

_EPISODE_COLUMNS = (
    'episode_index',
    'tasks',
    'length',
    'data/chunk_index',
    'data/file_index',
    'dataset_from_index',
    'dataset_to_index',
)
_VIDEO_COLUMNS = ('chunk_index', 'file_index', 'from_timestamp', 'to_timestamp')
_BATCH_EPISODES = 256


def episodes_v30(
    root: Path, info: Mapping[str, Any], cameras: Sequence[str], findings: Findings
) -> tuple[Episode, ...] | None:
    """Read meta/episodes of a v3.0 dataset; None where it cannot be read."""
    files = sorted(root.glob(EPISODES_FILES))
    if not files:
        findings.add('episodes.missing', 'no file', EPISODES_FILES)
        return None
    episodes: list[Episode] = []
    first_row = 0
    try:
        for path in files:
            for row in _rows(path, path.relative_to(root).as_posix(), cameras, findings):
                episode = _episode(row, first_row, info, cameras)
                _check_rows(episode, row, findings)
                episodes.append(episode)
                first_row += episode.length
    except BROKEN as error:
        findings.add('episodes.unreadable', first_line(error), 'numbers and path templates')
        return None
    check_order('episodes.order', [episode.index for episode in episodes], '', findings)
    return tuple(episodes)


def _rows(
    path: Path, file: str, cameras: Sequence[str], findings: Findings
) -> Iterator[dict[str, Any]]:
    wanted = [*_EPISODE_COLUMNS]
    wanted += [f'videos/{camera}/{name}' for camera in cameras for name in _VIDEO_COLUMNS]
    with pq.ParquetFile(path) as table:
        columns = table.schema_arrow.names
        missing = [name for name in wanted if name not in columns]
        if missing:
            raise KeyError(f'{file}: no column {", ".join(missing)}')
        others = {n.split('/')[1] for n in columns if n.startswith('videos/')} - {*cameras}
        if others:
            findings.add('episodes.columns', f'videos of {sorted(others)}', [*cameras], file=file)
        for batch in table.iter_batches(_BATCH_EPISODES, columns=wanted):
            yield from batch.to_pylist()


def _episode(
    row: Mapping[str, Any], first_row: int, info: Mapping[str, Any], cameras: Sequence[str]
) -> Episode:
    def place(camera: str) -> Place:
        prefix = f'videos/{camera}'
        file = info['video_path'].format(
            video_key=camera,
            chunk_index=row[f'{prefix}/chunk_index'],
            file_index=row[f'{prefix}/file_index'],
        )
        piece = float(row[f'{prefix}/from_timestamp']), float(row[f'{prefix}/to_timestamp'])
        if not all(map(math.isfinite, piece)):
            raise ValueError(f'{prefix}: from {piece[0]} to {piece[1]} s')
        return Place(sys.intern(file), *piece)

    data_file = info['data_path'].format(
        chunk_index=row['data/chunk_index'], file_index=row['data/file_index']
    )
    return Episode(
        int(row['episode_index']),
        _length(row['length']),
        first_row,
        tuple(map(sys.intern, row['tasks'])),
        sys.intern(data_file),
        {camera: place(camera) for camera in cameras},
    )


def _length(value: Any) -> int:
    length = int(value)
    if length < 1:
        raise ValueError(f'an episode of length {length}')
    return length


def _check_rows(episode: Episode, row: Mapping[str, Any], findings: Findings) -> None:
    found = (row['dataset_from_index'], row['dataset_to_index'])
    expected = (episode.first_row, episode.first_row + episode.length)
    if found != expected:
        findings.add(
            'episodes.rows',
            'dataset_from_index {}, dataset_to_index {}'.format(*found),
            '{} and {}, from the lengths'.format(*expected),
            episode=episode.index,
        )


def episodes_v21(
    root: Path, info: Mapping[str, Any], cameras: Sequence[str], findings: Findings
) -> tuple[Episode, ...] | None:
    """Read meta/episodes.jsonl of a v2.1 dataset; None where it cannot be read."""
    lines = read_json_lines(root, EPISODES_PATH_V21, 'episodes', findings)
    if lines is None:
        return None
    episodes: list[Episode] = []
    first_row = 0
    try:
        check_order(
            'episodes.order',
            [line['episode_index'] for line in lines],
            EPISODES_PATH_V21,
            findings,
        )
        for line in lines:
            index, length = int(line['episode_index']), _length(line['length'])
            names = {'episode_chunk': index // info['chunks_size'], 'episode_index': index}
            videos = {
                camera: Place(
                    info['video_path'].format(video_key=camera, **names), 0.0, length / info['fps']
                )
                for camera in cameras
            }
            data_file = info['data_path'].format(**names)
            tasks = tuple(map(sys.intern, line['tasks']))
            episodes.append(Episode(index, length, first_row, tasks, data_file, videos))
            first_row += length
    except BROKEN as error:
        findings.add(
            'episodes.unreadable',
            repr(error),
            'episode_index, tasks, length',
            file=EPISODES_PATH_V21,
        )
        return None
    return tuple(episodes)
