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

"""
A bag's part of a dataset, on disk.

It has ``data.parquet``, ``videos/<key>.mp4``, ``images/<key>.parquet``, ``episodes.jsonl`` (the
statistics of each episode) and ``shard.json``, its manifest.

A shard is written under a temporary name beside its own and renamed when everything in it is on
disk: under its name it is complete or does not exist. It holds one episode or more; each camera
has one file for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
import glob
import json
import math
from pathlib import Path
import shutil
from typing import Any, TypeVar
import uuid
import zlib

import av
from kuavo_bag_converter.alignment.plan import LanguageRow
from kuavo_bag_converter.dataset.encoders import (
    check_video_options,
    check_video_size,
    DEPTH_OPTIONS,
)
from kuavo_bag_converter.dataset.features import DepthCoding, Feature, VideoOptions
from kuavo_bag_converter.dataset.images import ImageWriter
from kuavo_bag_converter.dataset.mp4 import frame_rate
from kuavo_bag_converter.dataset.rules import check_features
from kuavo_bag_converter.dataset.statistics import (
    EpisodeStatistics,
    Histogram,
    ImageStatistics,
    STATISTICS,
    Statistics,
)
from kuavo_bag_converter.dataset.stream_writer import StreamWriter
from kuavo_bag_converter.dataset.tables import (
    column_of,
    read_rows,
    table_of,
    table_schema,
    TableWriter,
    TASK_INDEX,
    vectors,
    videos,
)
from kuavo_bag_converter.dataset.vector_statistics import vector_statistics
from kuavo_bag_converter.dataset.video import CameraWriter, EncodingWriter
from kuavo_bag_converter.support.errors import DatasetError, UsageError
from kuavo_bag_converter.support.files import sync, sync_tree, write_text
from kuavo_bag_converter.support.workers import WorkerPool
import numpy as np
from numpy.typing import NDArray
import pyarrow as pa

SHARD_FORMAT = 2
MANIFEST = 'shard.json'
_TABLE = 'data.parquet'
_BLOCK = 1 << 20
_Writer = TypeVar('_Writer', bound=CameraWriter[Any])
_ImageWriter = TypeVar('_ImageWriter', bound=ImageWriter[Any])
_EPISODES = 'episodes.jsonl'


@dataclass(frozen=True)
class ShardVideo:
    """
    One camera's file of a shard.

    :ivar options: The encoder settings.
    :ivar episode_bytes: Size of the packets of each episode.
    :ivar join_key: Files with the same key can be joined packet by packet.
    :ivar bytes: Size of the file.
    :ivar encoder: FFmpeg's name of the encoder, where it was chosen among several.
    """

    options: VideoOptions
    episode_bytes: tuple[int, ...]
    join_key: str
    bytes: int  # noqa: A003
    encoder: str = ''


@dataclass(frozen=True)
class ShardImages:
    """
    One camera's pictures for the table of a dataset.

    :ivar episode_bytes: Size of the pictures of each episode.
    :ivar bytes: Size of the file.
    """

    episode_bytes: tuple[int, ...]
    bytes: int  # noqa: A003


@dataclass(frozen=True)
class Shard:
    """
    A complete shard on disk.

    :ivar path: Its folder.
    :ivar features: The dataset's features without the default ones.
    :ivar fps: Frames per second.
    :ivar episode_lengths: Frames of each episode.
    :ivar tasks: What its ``task_index`` column refers to.
    :ivar videos: The camera files, by feature.
    :ivar images: The pictures that go into the table, by feature.
    :ivar labels: What the list of episodes says of its episodes, None for nothing. They are not
        on disk.
    :ivar language: The texts of each episode; none without columns of language.
    """

    path: Path
    features: tuple[Feature, ...]
    fps: float
    episode_lengths: tuple[int, ...]
    tasks: tuple[str, ...]
    videos: Mapping[str, ShardVideo]
    images: Mapping[str, ShardImages] = field(default_factory=dict)
    labels: Mapping[str, str | None] = field(default_factory=dict)
    language: tuple[tuple[LanguageRow, ...], ...] = ()

    @property
    def versions(self) -> Mapping[str, str]:
        """Return the libraries that wrote it."""
        return dict(_read_manifest(self.path)['versions'])

    @property
    def extra(self) -> Mapping[str, Any]:
        """Return what the caller keeps with it; read at each call, since shards may be many."""
        return dict(_read_manifest(self.path)['extra'])

    @property
    def table_path(self) -> Path:
        """Return the Parquet file: the vectors and ``task_index``."""
        return self.path / _TABLE

    def video_path(self, key: str) -> Path:
        """Return the MP4 file of a video feature."""
        return _video_path(self.path, key)

    def image_path(self, key: str) -> Path:
        """Return the Parquet file of the pictures of an image feature."""
        return _image_path(self.path, key)

    def attachment(self, name: str) -> Path:
        """Return a file that the caller keeps with the shard."""
        return self.path / name

    def check_attachment(self, name: str) -> None:
        """
        Check that a file that the caller keeps with the shard is there.

        :raises DatasetError: It is not.
        """
        if not self.attachment(name).is_file():
            raise DatasetError(f'{self.attachment(name)}: missing; convert its bag again')

    def statistics(self) -> Iterator[EpisodeStatistics]:
        """Yield the statistics of each episode."""
        scales = {f.key: 1.0 if f.is_depth else 1 / 255 for f in self.features}
        with (self.path / _EPISODES).open(encoding='utf-8') as file:
            for length, line in zip(self.episode_lengths, file, strict=True):
                episode = json.loads(line)
                yield EpisodeStatistics(
                    {
                        key: {name: np.array(value) for name, value in statistics.items()}
                        for key, statistics in episode['statistics'].items()
                    },
                    {
                        key: Histogram.decode(text, length, scales[key])
                        for key, text in episode['histograms'].items()
                    },
                )

    @staticmethod
    def load(path: Path, *, whole: bool = False) -> Shard:
        """
        Open a shard.

        :param path: Its folder.
        :param whole: Read all of its files, to notice damage that leaves their sizes alone.
        :raises DatasetError: It does not exist, is of another version, or a file of it is missing
            or has another size, or other content, than when it was written.
        """
        manifest = _read_manifest(path)
        try:
            shard = _shard_of(path, manifest)
            sizes = {name: manifest['bytes'][name] for name in (_TABLE, _EPISODES)} | {
                str(shard.video_path(key).relative_to(path)): video.bytes
                for key, video in shard.videos.items()
            }
            sizes |= {
                str(shard.image_path(key).relative_to(path)): stored.bytes
                for key, stored in shard.images.items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DatasetError(
                f'{path / MANIFEST}: not a complete shard manifest ({error!r}); convert its bag '
                'again'
            ) from error
        for name, size in sizes.items():
            file = path / name
            found = file.stat().st_size if file.is_file() else None
            if found != size:
                raise DatasetError(
                    f'{file}: {"missing" if found is None else f"{found} bytes"}, expected '
                    f'{size} bytes; convert its bag again'
                )
        for name, checksum in manifest.get('checksums', {}).items() if whole else ():
            if not (path / name).is_file() or _checksum(path / name) != checksum:
                raise DatasetError(f'{path / name}: is damaged; convert its bag again')
        return shard


def _checksum(path: Path) -> int:
    """Return the CRC-32 of a file, which costs a quarter of a digest: gigabytes may be copied."""
    checksum = 0
    with path.open('rb') as file:
        while block := file.read(_BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _video_path(folder: Path, key: str) -> Path:
    return folder / 'videos' / f'{key}.mp4'


def _image_path(folder: Path, key: str) -> Path:
    return folder / 'images' / f'{key}.parquet'


def _read_manifest(path: Path) -> dict[str, Any]:
    """
    Read the manifest of the shard in a folder.

    :raises DatasetError: It is missing, not readable, or of another version.
    """
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise DatasetError(f'{file}: missing; {path} is not a finished shard') from None
    except ValueError as error:
        raise DatasetError(f'{file}: not readable ({error}); convert its bag again') from error
    found = manifest.get('format') if isinstance(manifest, dict) else None
    if found != SHARD_FORMAT:
        raise DatasetError(
            f'{file}: shard format {found}, this version reads {SHARD_FORMAT}; convert its bag '
            'again'
        )
    return dict(manifest)


def _feature_of(described: Mapping[str, Any]) -> Feature:
    """Return the feature that a manifest describes."""
    names, depth = described['names'], described['depth']
    return Feature(
        key=described['key'],
        dtype=described['dtype'],
        shape=tuple(described['shape']),
        names=None if names is None else tuple(names),
        depth=None if depth is None else DepthCoding(**depth),
    )


@lru_cache(maxsize=8)
def _features_of(described: str) -> tuple[Feature, ...]:
    """Return the features that a manifest lists; those of all shards of a run are the same."""
    return tuple(map(_feature_of, json.loads(described)))


def _shard_of(path: Path, manifest: Mapping[str, Any]) -> Shard:
    return Shard(
        path=path,
        features=_features_of(json.dumps(manifest['features'])),
        fps=manifest['fps'],
        episode_lengths=tuple(manifest['episode_lengths']),
        tasks=tuple(manifest['tasks']),
        videos={
            key: ShardVideo(
                options=VideoOptions(**video['options']),
                episode_bytes=tuple(video['episode_bytes']),
                join_key=video['join_key'],
                bytes=video['bytes'],
                encoder=video.get('encoder', ''),
            )
            for key, video in manifest['videos'].items()
        },
        images={
            key: ShardImages(tuple(stored['episode_bytes']), stored['bytes'])
            for key, stored in manifest.get('images', {}).items()
        },
        language=tuple(
            tuple(LanguageRow(*row) for row in rows) for rows in manifest.get('language', ())
        ),
    )


class ShardWriter:
    """
    Writes a shard: rows in order, and each camera's frames through a writer of its own.

    The table and the camera writers are independent of each other: each may be used from its own
    thread.

    :param path: The shard's folder, which must not exist, in one that does; leftovers of a broken
        run beside it are removed.
    :param features: The dataset's features without the default ones.
    :param fps: Frames per second.
    :param episode_lengths: Frames of each episode, at least one each.
    :param tasks: The tasks that ``task_index`` refers to; one or more.
    :param video: Encoder settings for all colour cameras, or for each one by feature. Metric depth
        has its own.
    :param language: The texts of each episode, where the features have columns of language.
    :raises UsageError: The settings cannot be written.
    :raises DatasetError: The shard exists.
    """

    def __init__(
        self,
        path: Path,
        features: Sequence[Feature],
        fps: float,
        *,
        episode_lengths: Sequence[int],
        tasks: Sequence[str],
        video: VideoOptions | Mapping[str, VideoOptions],
        language: Sequence[Sequence[LanguageRow]] = (),
    ) -> None:
        self._path = path
        self._language = language
        self._features = tuple(features)
        self._fps = int(fps) if float(fps).is_integer() else fps
        self._lengths = tuple(int(length) for length in episode_lengths)
        self._tasks = tuple(tasks)
        check_features(self._features)
        self._options = {
            feature.key: _options_of(feature, video) for feature in videos(self._features)
        }
        frame_rate(fps)
        self._check()
        if path.exists():
            raise DatasetError(f'{path}: exists already')
        for leftover in path.parent.glob(f'{glob.escape(path.name)}.*partial'):
            shutil.rmtree(leftover, ignore_errors=True)
        # Never the same twice, so that a stuck thread of an attempt before, or a process on a node
        # that was taken for lost, finds no file of this.
        self._partial = path.with_name(f'{path.name}.{uuid.uuid4().hex[:12]}.partial')
        self._partial.mkdir()
        (self._partial / 'videos').mkdir()
        self._columns = [*vectors(self._features), TASK_INDEX]
        self._table = TableWriter(self._partial / _TABLE, table_schema(self._columns))
        self._writers: dict[str, CameraWriter[Any]] = {}
        self._image_writers: dict[str, ImageWriter[Any]] = {}
        self._image_statistics: dict[str, ImageStatistics] = {}
        self._open = True

    def _check(self) -> None:
        if not self._lengths or min(self._lengths) < 1:
            raise UsageError(
                f'{self._path.name}: episodes of {list(self._lengths)} frames; each needs one'
            )
        if not self._tasks:
            raise UsageError(f'{self._path.name}: no task; give task_description')
        for feature in self._features:
            if feature.is_video:
                check_video_options(self._options[feature.key])
                check_video_size(self._options[feature.key], *feature.shape[:2])

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def append_rows(
        self,
        columns: Mapping[str, NDArray[Any]],
        task_index: NDArray[np.int64] | None = None,
    ) -> None:
        """
        Write the next rows to disk.

        :param columns: For every vector feature an array (n, *shape) of the feature's dtype.
        :param task_index: (n,) positions in ``tasks``; the first task for all without it.
        :raises DatasetError: A column is missing, of another form, or has a number that is not
            finite.
        """
        rows = {len(values) for values in columns.values()}
        if task_index is not None:
            rows.add(len(task_index))
        keys = {feature.key for feature in vectors(self._features)}
        if len(rows) != 1 or columns.keys() != keys:
            raise DatasetError(
                f'{self._path.name}: rows of {sorted(columns)} with lengths {sorted(rows)}, '
                f'expected {sorted(keys)} of one length'
            )
        for feature in vectors(self._features):
            self._check_column(feature, columns[feature.key])
        if task_index is None:
            task_index = np.zeros(rows.pop(), np.int64)
        elif task_index.min(initial=0) < 0 or task_index.max(initial=0) >= len(self._tasks):
            raise DatasetError(
                f'{self._path.name}: task_index {task_index.min()}..{task_index.max()}, there '
                f'are {len(self._tasks)} tasks'
            )
        own = {TASK_INDEX.key: task_index.astype(np.int64).reshape(-1, 1)}
        self._table.write(table_of(self._columns, {**columns, **own}))

    def _check_column(self, feature: Feature, values: NDArray[Any]) -> None:
        if values.dtype != feature.dtype or values.shape[1:] != feature.shape:
            raise DatasetError(
                f'{feature.key}: rows are {values.dtype}{list(values.shape[1:])}, the feature is '
                f'{feature.dtype}{list(feature.shape)}'
            )
        finite = np.isfinite(values)
        if not finite.all():
            place = tuple(int(at[0]) for at in np.nonzero(~finite))
            name = feature.names[place[-1]] if feature.names else place[-1]
            raise DatasetError(
                f'{feature.key}: {values[place]} in frame {self._table.rows + place[0]}, '
                f'dimension {name}; a dataset needs finite numbers'
            )

    def camera_writer(self, key: str, kind: Callable[..., _Writer]) -> _Writer:
        """
        Open the file of a camera, whose writer takes pictures of its kind.

        :raises UsageError: The feature or its settings are not for pictures of this kind.
        """
        feature = next(feature for feature in self._features if feature.key == key)
        writer = kind(
            _video_path(self._partial, key),
            feature,
            self._options[key],
            fps=self._fps,
            episode_lengths=self._lengths,
            statistics=self._statistics_of(feature),
        )
        self._writers[key] = writer
        return writer

    @property
    def copied_streams(self) -> dict[str, tuple[int, int]]:
        """Return how many pictures of streams were copied and encoded so far, by feature."""
        return {
            key: (writer.frames - writer.encoded, writer.encoded)
            for key, writer in self._writers.items()
            if isinstance(writer, StreamWriter)
        }

    def encoding_writer(self, key: str) -> EncodingWriter[Any] | None:
        """Return the writer of a camera if it encodes, after it was opened."""
        writer = self._writers.get(key)
        return writer if isinstance(writer, EncodingWriter) else None

    @property
    def remarks(self) -> list[str]:
        """Return what there is to say of encoders that were not used, each in a line."""
        return [line for writer in self._writers.values() for line in writer.remarks]

    def image_writer(self, key: str, kind: type[_ImageWriter]) -> _ImageWriter:
        """
        Open the file of a camera whose pictures go into the table.

        :param key: Of its feature.
        :param kind: The writer, which takes pictures of its kind.
        """
        feature = next(feature for feature in self._features if feature.key == key)
        path = _image_path(self._partial, key)
        statistics = self._statistics_of(feature)
        writer = kind(path, feature, episode_lengths=self._lengths, statistics=statistics)
        self._image_writers[key] = writer
        return writer

    def _statistics_of(self, feature: Feature) -> ImageStatistics:
        height, width, _ = feature.shape
        statistics = ImageStatistics(
            self._lengths,
            height,
            width,
            depth=feature.is_depth,
            folder=self._partial,
        )
        self._image_statistics[feature.key] = statistics
        return statistics

    def attachment(self, name: str) -> Path:
        """Return the place of a file that the caller wants to keep with the shard."""
        return self._partial / name

    def finish(self, extra: Mapping[str, Any], stall_timeout_s: float = math.inf) -> Shard:
        """
        Close all files, check them against each other and give the shard its name.

        :param extra: Anything that JSON can hold, kept in the manifest.
        :param stall_timeout_s: How long an encoder may take to give what it still holds.
        :raises DatasetError: Rows or frames are missing; nothing is left of the shard.
        :raises StalledError: An encoder is stuck; the shard is abandoned.
        """
        try:
            self._close_files(stall_timeout_s)
            self._write_episodes()
            manifest = self._manifest(extra)
            write_text(self._partial / MANIFEST, json.dumps(manifest))
            sync_tree(self._partial)
        except BaseException:
            self.abort()
            raise
        self._open = False
        self._partial.rename(self._path)
        sync(self._path.parent)
        return Shard.load(self._path)

    def _close_files(self, stall_timeout_s: float) -> None:
        frames = sum(self._lengths)
        if self._table.rows != frames:
            raise DatasetError(
                f'{self._path.name}: {self._table.rows} rows were written, the episodes have '
                f'{frames} frames'
            )
        writers: dict[str, CameraWriter[Any] | ImageWriter[Any]] = (
            self._writers | self._image_writers
        )
        for feature in self._features:
            if feature.is_picture and feature.key not in writers:
                raise DatasetError(f'{self._path.name}: no frames of {feature.key} were written')
        closings = {key: writer.close for key, writer in writers.items()}
        closings[_TABLE] = self._table.close
        # Each waits for the disk, which takes all files in about the time of one.
        pool = WorkerPool(len(closings), 0, 1, stall_timeout_s)
        try:
            with pool:
                for name, close in closings.items():
                    pool.queue(name).submit(close, 0)
                pool.drain()
        finally:
            if pool.stuck:
                self.abandon()

    def _manifest(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        return {
            'format': SHARD_FORMAT,
            'fps': self._fps,
            'features': [asdict(feature) for feature in self._features],
            'tasks': self._tasks,
            'episode_lengths': self._lengths,
            'bytes': {name: (self._partial / name).stat().st_size for name in (_TABLE, _EPISODES)},
            'videos': {
                key: {
                    'options': asdict(self._options[key]),
                    'episode_bytes': writer.episode_bytes,
                    'join_key': writer.join_key,
                    'bytes': writer.path.stat().st_size,
                    **({'encoder': writer.encoder} if self._options[key].encoders else {}),
                }
                for key, writer in sorted(self._writers.items())
            },
            'images': {
                key: {
                    'episode_bytes': writer.episode_bytes,
                    'bytes': writer.path.stat().st_size,
                }
                for key, writer in sorted(self._image_writers.items())
            },
            **({'language': self._language} if self._language else {}),
            'versions': {
                'av': av.__version__,
                'ffmpeg': av.ffmpeg_version_info,
                'pyarrow': pa.__version__,
                'numpy': np.__version__,
            },
            'checksums': {
                str(file.relative_to(self._partial)): _checksum(file)
                for file in sorted(self._partial.rglob('*'))
                if file.is_file()
            },
            'extra': extra,
        }

    def _write_episodes(self) -> None:
        encoded = {key: s.encoded() for key, s in sorted(self._image_statistics.items())}
        first = 0
        with (self._partial / _EPISODES).open('w', encoding='utf-8') as file:
            for length in self._lengths:
                statistics = {
                    feature.key: self._vector_statistics(feature, first, length)
                    for feature in vectors(self._features)
                }
                episode = {
                    'statistics': {
                        key: {name: values[name].tolist() for name in STATISTICS}
                        for key, values in statistics.items()
                    },
                    'histograms': {key: next(texts) for key, texts in encoded.items()},
                }
                file.write(json.dumps(episode) + '\n')
                first += length

    def _vector_statistics(self, feature: Feature, first: int, length: int) -> Statistics:
        path = self._partial / _TABLE
        return vector_statistics(
            lambda: (column_of(t, feature) for t in read_rows(path, first, length, [feature])),
            length,
            *feature.shape,
        )

    def abandon(self) -> None:
        """
        Leave all as it is, because a thread that is stuck may still write.

        Whoever writes the shard next removes it.
        """
        self._open = False

    def abort(self) -> None:
        """Stop and remove everything; a finished or abandoned shard stays."""
        if not self._open:
            return
        self._open = False
        for writer in self._writers.values():
            writer.abort()
        for image_writer in self._image_writers.values():
            image_writer.abort()
        self._table.abort()
        shutil.rmtree(self._partial, ignore_errors=True)


def _options_of(
    feature: Feature, video: VideoOptions | Mapping[str, VideoOptions]
) -> VideoOptions:
    if feature.depth is not None:
        return DEPTH_OPTIONS
    if isinstance(video, VideoOptions):
        return video
    if feature.key not in video:
        raise UsageError(f'{feature.key}: no video settings; given for {", ".join(video)}')
    return video[feature.key]
