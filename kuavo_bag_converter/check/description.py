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

"""Reads what a dataset's metadata says of it, in one form for both versions of the format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
import json
import math
from pathlib import Path
import sys
from typing import Any, NamedTuple

from kuavo_bag_converter.check.coding import Coding, coding_of
from kuavo_bag_converter.check.findings import (
    BROKEN,
    check_order,
    Findings,
    first_line,
    read_json,
    read_json_lines,
)
from kuavo_bag_converter.dataset.encoders import copied_stream_options
from kuavo_bag_converter.dataset.features import Feature
from kuavo_bag_converter.dataset.layout import (
    EPISODES_FILES,
    EPISODES_PATH_V21,
    INFO_PATH,
    PROFILE_PATH,
    REPORT_PATH,
    TASKS_PATH,
    TASKS_PATH_V21,
)
from kuavo_bag_converter.dataset.record import ConversionRecord, read_record
from kuavo_bag_converter.dataset.video import copies_jpegs, copies_streams
from kuavo_bag_converter.profiles.loader import read_profile
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.support.errors import UsageError
import numpy as np
import pyarrow.parquet as pq

_LARGEST = 1 << 24
"""Length that a shape may have; more is no feature but damage."""
_INFO_KEYS = ('codebase_version', 'fps', 'features', 'total_episodes', 'data_path')
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


@dataclass(frozen=True)
class StoredFeature(Feature):
    """One entry of ``features`` in info.json."""

    names: Any = None
    """As they are written, which others do in many ways."""
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_numeric(self) -> bool:
        """Whether it holds numbers in the table."""
        try:
            return np.dtype(self.dtype).kind in 'biuf'
        except (TypeError, ValueError):
            return False

    @property
    def has_copied_jpegs(self) -> bool:
        """Whether this converter copied JPEG pictures, for which it names no codec."""
        return self.is_video and copies_jpegs(self.info)

    @property
    def has_copied_stream(self) -> bool:
        """Whether this converter copied the pictures of a stream, whose key frames it keeps."""
        return self.is_video and copies_streams(self.info)

    @property
    def is_depth(self) -> bool:
        """Whether it is metric depth, under today's key or under one of LeRobot's former ones."""
        return bool(self.info.get('is_depth_map') or self.info.get('video.is_depth_map'))

    @property
    def width(self) -> int:
        """How many numbers a row has."""
        return math.prod(self.shape)

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of a picture, whichever its shape says first."""
        first, second, third = self.shape
        if isinstance(self.names, list) and self.names[:1] in (['channel'], ['channels']):
            return second, third, first
        return first, second, third


class VideoSegment(NamedTuple):
    """Where an episode's pictures are: a file and a piece of it, in seconds."""

    file: str
    start: float
    stop: float


@dataclass(frozen=True)
class StoredEpisode:
    """What the metadata says of one episode."""

    index: int
    length: int
    first_row: int
    tasks: tuple[str, ...]
    data_file: str
    videos: Mapping[str, VideoSegment]
    """By camera feature."""


@dataclass(frozen=True)
class Description:
    """A dataset as its metadata describes it."""

    root: Path
    version: str
    """``v2.1`` or ``v3.0``."""
    info: Mapping[str, Any]
    fps: float
    features: Mapping[str, StoredFeature]
    tasks: tuple[str, ...]
    """By ``task_index``."""
    episodes: tuple[StoredEpisode, ...]
    record: ConversionRecord | None
    """How this converter made the dataset or a part of it, if it did."""

    @cached_property
    def _coding(self) -> Coding:
        return coding_of({} if self.record is None else self.record.settings)

    def coding(self, column: StoredFeature) -> Coding:
        """Return how this converter coded the pictures of a camera, unless it copied them."""
        if column.has_copied_stream:
            options = copied_stream_options(column.info['video.codec'], '')
            return coding_of({'vcodec': options.vcodec, 'crf': options.crf})
        return self._coding

    @cached_property
    def profile(self) -> Profile:
        """
        Return the profile that the conversion has recorded.

        :raises UsageError: It cannot be read.
        """
        return read_profile(self.root / PROFILE_PATH)

    @property
    def cameras(self) -> list[StoredFeature]:
        """Return the features that live in MP4 files."""
        return [column for column in self.features.values() if column.is_video]

    @property
    def frames(self) -> int:
        """Frames of all episodes."""
        return sum(episode.length for episode in self.episodes)

    def limit_mb(self, key: str) -> float:
        """Return how far a kind of file grows, MB; infinite where info.json does not say."""
        limit = self.info.get(key)
        return limit if isinstance(limit, (int, float)) else math.inf

    def own(self, episodes: Iterable[StoredEpisode]) -> bool:
        """Whether this converter wrote all of these episodes: its writer's rules hold too."""
        record = self.record
        return record is not None and all(record.wrote(episode.index) for episode in episodes)

    def data_files(self) -> dict[str, list[StoredEpisode]]:
        """Return the files of rows and the episodes in them, in order."""
        return self._by_file(lambda episode: episode.data_file)

    def video_files(self, key: str) -> dict[str, list[StoredEpisode]]:
        """Return the files of a camera and the episodes in them, in order."""
        return self._by_file(lambda episode: episode.videos[key].file)

    def _by_file(self, file_of: Callable[[StoredEpisode], str]) -> dict[str, list[StoredEpisode]]:
        files: dict[str, list[StoredEpisode]] = {}
        for episode in self.episodes:
            files.setdefault(file_of(episode), []).append(episode)
        return files

    def files_on_disk(self, pattern: str) -> list[str]:
        """Return the files that match a pattern, sorted by path, relative to the root."""
        return [path.relative_to(self.root).as_posix() for path in sorted(self.root.glob(pattern))]


def describe(
    root: Path, findings: Findings, record: ConversionRecord | None = None
) -> Description | None:
    """
    Read the metadata of a dataset; None where it is too broken to go on.

    :param root: Of the dataset.
    :param findings: Takes what is wrong.
    :param record: Its record, if that has been read.
    """
    info = read_json(root, INFO_PATH, 'info', findings)
    if info is None or not _check_keys(info, findings):
        return None
    version = _version(info, findings)
    features = _features(info, findings)
    if version is None or features is None:
        return None
    cameras = [key for key, column in features.items() if column.is_video]
    if version == 'v3.0':
        tasks = _tasks_v30(root, findings)
        episodes = episodes_v30(root, info, cameras, findings)
    else:
        tasks = _tasks_v21(root, findings)
        episodes = episodes_v21(root, info, cameras, findings)
    if episodes == ():
        findings.add('episodes.missing', 'no episode', 'at least one')
    if tasks is None or not episodes:
        return None
    record = record or _record(root, findings)
    return Description(root, version, info, info['fps'], features, tasks, episodes, record)


def _record(root: Path, findings: Findings) -> ConversionRecord | None:
    """Read the record of the conversion; None where there is none that can be read."""
    try:
        return read_record(root)
    except FileNotFoundError:
        return None
    except UsageError as error:
        expected = 'settings and bags, as the conversion wrote them'
        findings.add('conversion.unreadable', error, expected, file=REPORT_PATH)
        return None


def _check_keys(info: Mapping[str, Any], findings: Findings) -> bool:
    missing = [key for key in _INFO_KEYS if key not in info]
    for key in missing:
        findings.add('info.keys', f'no {key}', 'LeRobot needs it', file=INFO_PATH)
    if missing:
        return False
    fps = info['fps']
    if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0 < fps < math.inf:
        findings.add('info.fps', repr(fps), 'a number greater than 0', file=INFO_PATH)
        return False
    return True


def _version(info: Mapping[str, Any], findings: Findings) -> str | None:
    version = info['codebase_version']
    if version in ('v2.1', 'v3.0'):
        return str(version)
    findings.add('info.version', repr(version), "'v3.0' or 'v2.1'", file=INFO_PATH)
    return None


def _features(info: Mapping[str, Any], findings: Findings) -> dict[str, StoredFeature] | None:
    try:
        features = {
            key: StoredFeature(
                key,
                str(entry['dtype']),
                tuple(int(length) for length in entry['shape']),
                entry.get('names'),
                info=dict(entry.get('info') or entry.get('video_info') or {}),
            )
            for key, entry in info['features'].items()
        }
        for column in features.values():
            fits = all(0 < length <= _LARGEST for length in column.shape) and column.shape
            if not fits or (column.is_picture and len(column.shape) != 3):
                raise ValueError(f'{column.key}: {column.dtype} of shape {list(column.shape)}')
        return features
    except BROKEN as error:
        findings.add('features.entry', repr(error), 'dtype and shape for each', file=INFO_PATH)
        return None


def _tasks_v30(root: Path, findings: Findings) -> tuple[str, ...] | None:
    """Read the tasks as LeRobot does: the text is the index of the pandas table."""
    try:
        table = pq.ParquetFile(root / TASKS_PATH).read()
        pandas = json.loads((table.schema.metadata or {}).get(b'pandas', b'{}'))
        names = [name for name in pandas.get('index_columns', ()) if isinstance(name, str)]
        if len(names) != 1:
            findings.add('tasks.index', f'pandas index {names}', "['task']", file=TASKS_PATH)
        texts = table.column(names[0] if names else 'task').to_pylist()
        index = table.column('task_index').to_pylist()
    except FileNotFoundError:
        findings.add('tasks.missing', 'no file', 'the tasks', file=TASKS_PATH)
        return None
    except BROKEN as error:
        expected = 'columns task_index and task'
        findings.add('tasks.unreadable', first_line(error), expected, file=TASKS_PATH)
        return None
    check_order('tasks.order', index, TASKS_PATH, findings)
    return tuple(str(text) for text in texts)


def _tasks_v21(root: Path, findings: Findings) -> tuple[str, ...] | None:
    lines = read_json_lines(root, TASKS_PATH_V21, 'tasks', findings)
    if lines is None:
        return None
    try:
        index, texts = [line['task_index'] for line in lines], [line['task'] for line in lines]
    except KeyError as error:
        findings.add('tasks.unreadable', f'no {error}', 'task_index, task', file=TASKS_PATH_V21)
        return None
    check_order('tasks.order', index, TASKS_PATH_V21, findings)
    return tuple(str(text) for text in texts)


def episodes_v30(
    root: Path, info: Mapping[str, Any], cameras: Sequence[str], findings: Findings
) -> tuple[StoredEpisode, ...] | None:
    """
    Read meta/episodes of a v3.0 dataset; None where it cannot be read.

    :param root: Of the dataset.
    :param info: What info.json says.
    :param cameras: Keys of the features in MP4 files.
    :param findings: Takes what is wrong.
    """
    files = sorted(root.glob(EPISODES_FILES))
    if not files:
        findings.add('episodes.missing', 'no file', EPISODES_FILES)
        return None
    episodes: list[StoredEpisode] = []
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
) -> StoredEpisode:
    def place(camera: str) -> VideoSegment:
        prefix = f'videos/{camera}'
        file = info['video_path'].format(
            video_key=camera,
            chunk_index=row[f'{prefix}/chunk_index'],
            file_index=row[f'{prefix}/file_index'],
        )
        piece = float(row[f'{prefix}/from_timestamp']), float(row[f'{prefix}/to_timestamp'])
        if not all(map(math.isfinite, piece)):
            raise ValueError(f'{prefix}: from {piece[0]} to {piece[1]} s')
        return VideoSegment(sys.intern(file), *piece)

    data_file = info['data_path'].format(
        chunk_index=row['data/chunk_index'], file_index=row['data/file_index']
    )
    return StoredEpisode(
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


def _check_rows(episode: StoredEpisode, row: Mapping[str, Any], findings: Findings) -> None:
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
) -> tuple[StoredEpisode, ...] | None:
    """
    Read meta/episodes.jsonl of a v2.1 dataset; None where it cannot be read.

    :param root: Of the dataset.
    :param info: What info.json says.
    :param cameras: Keys of the features in MP4 files.
    :param findings: Takes what is wrong.
    """
    lines = read_json_lines(root, EPISODES_PATH_V21, 'episodes', findings)
    if lines is None:
        return None
    episodes: list[StoredEpisode] = []
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
                camera: VideoSegment(
                    info['video_path'].format(video_key=camera, **names), 0.0, length / info['fps']
                )
                for camera in cameras
            }
            data_file = info['data_path'].format(**names)
            tasks = tuple(map(sys.intern, line['tasks']))
            episodes.append(StoredEpisode(index, length, first_row, tasks, data_file, videos))
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
