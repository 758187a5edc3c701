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

"""Episodes of finished datasets as what another dataset is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
import json
from pathlib import Path
from typing import Any, cast

import av
from av.video.stream import VideoStream
from kuavo_bag_converter.check.description import Description, StoredFeature
from kuavo_bag_converter.check.images import decoded_image
from kuavo_bag_converter.check.videos import depth_coding
from kuavo_bag_converter.dataset.existing import read_lines
from kuavo_bag_converter.dataset.features import Feature
from kuavo_bag_converter.dataset.layout import (
    EPISODES_FILES,
    EPISODES_PATH_V21,
    EPISODES_STATS_PATH_V21,
)
from kuavo_bag_converter.dataset.metadata import read_pictures
from kuavo_bag_converter.dataset.mp4 import frame_rate
from kuavo_bag_converter.dataset.sources import VideoPiece
from kuavo_bag_converter.dataset.statistics import (
    EpisodeStatistics,
    Histogram,
    ImageStatistics,
    QUANTILES,
    STATISTICS,
    Statistics,
)
from kuavo_bag_converter.dataset.tables import DEFAULT_FEATURES, table_schema, vectors
from kuavo_bag_converter.dataset.vector_statistics import vector_statistics
from kuavo_bag_converter.support.errors import DatasetError
import numpy as np
from numpy.typing import NDArray
import pyarrow as pa
import pyarrow.parquet as pq

_DEFAULTS = frozenset(feature.key for feature in DEFAULT_FEATURES)
_LABELS = 'labels/'
_BATCH = 64
_BROKEN = (OSError, KeyError, ValueError, TypeError, pa.ArrowException)


class StoredEpisodes:
    """
    Some episodes of a dataset of either version, see :class:`.EpisodeSource`.

    Statistics of numbers are taken anew, of which v2.1 has no quantiles; those of pictures are as
    the dataset has them, or those of the decoded pictures where it has not all.

    :param dataset: What the metadata says.
    :param chosen: Numbers of episodes, ascending.
    :param quantiles: Whether those of pictures are needed, which v2.1 has not.
    """

    def __init__(self, dataset: Description, chosen: Sequence[int], *, quantiles: bool) -> None:
        self.name = str(dataset.root)
        self.features = features_of(dataset)
        self.fps = dataset.fps
        self.video_settings: Mapping[str, Any] = {}
        self._dataset = dataset
        self._chosen = list(chosen)
        self._needed = [name for name in STATISTICS if quantiles or name not in QUANTILES]
        self._episodes = [dataset.episodes[number] for number in chosen]
        self.episode_lengths = [episode.length for episode in self._episodes]
        self._first_rows: dict[str, int] = {}
        for episode in dataset.episodes:
            self._first_rows.setdefault(episode.data_file, episode.first_row)
        self._table: tuple[str, pq.ParquetFile, list[int]] | None = None
        self._read: tuple[int, pa.Table] | None = None
        self._videos: dict[str, _Video] = {}

    @property
    def is_whole(self) -> bool:
        """Whether these are all episodes of the dataset."""
        return len(self._chosen) == len(self._dataset.episodes)

    @cached_property
    def histograms(self) -> Mapping[str, Histogram]:
        """Return those of all pictures together, by camera, where they are known."""
        files = sorted(self._dataset.root.glob(EPISODES_FILES))
        if not self.is_whole or not files:
            return {}
        try:
            known = read_pictures(files[-1])
        except _BROKEN:
            return {}
        return {key: one for key, one in known.items() if one.frames == self._dataset.frames}

    def rows(
        self, place: int, features: Sequence[Feature]
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], Sequence[str]]:
        """Read the rows of an episode, see :class:`.EpisodeSource`."""
        table, episode = self._rows(place), self._episodes[place]
        try:
            columns = {feature.key: _numbers(table, feature) for feature in features}
            own = {feature.key: _numbers(table, feature)[:, 0] for feature in DEFAULT_FEATURES}
            task_index = own['task_index']
            is_there = (own['episode_index'] == episode.index).all() and np.array_equal(
                own['frame_index'], np.arange(episode.length)
            )
        except _BROKEN as error:
            raise self._error(place, f'its rows cannot be read ({error})') from error
        tasks = self._dataset.tasks
        if not is_there or not ((task_index >= 0) & (task_index < len(tasks))).all():
            raise self._error(place, 'its rows are not where the metadata says, or have no task')
        return columns, task_index, tasks

    def _error(self, place: int, what: str) -> DatasetError:
        episode = self._episodes[place]
        return DatasetError(
            f'{self.name}: {episode.data_file}: episode {episode.index}: {what}; verify names all '
            'that is wrong'
        )

    def _rows(self, place: int) -> pa.Table:
        """Read all columns of an episode; those that were read last are kept."""
        if self._read is None or self._read[0] != place:
            episode = self._episodes[place]
            try:
                table = self._read_rows(
                    episode.data_file,
                    episode.first_row - self._first_rows[episode.data_file],
                    episode.length,
                )
            except _BROKEN as error:
                raise self._error(place, f'its rows cannot be read ({error})') from error
            self._read = place, table
        return self._read[1]

    def _read_rows(self, file: str, first: int, count: int) -> pa.Table:
        if self._table is None or self._table[0] != file:
            table = pq.ParquetFile(self._dataset.root / file)
            groups = range(table.num_row_groups)
            lengths = [table.metadata.row_group(group).num_rows for group in groups]
            self._table = file, table, [0, *np.cumsum(lengths).tolist()]
        _, table, starts = self._table
        low = int(np.searchsorted(starts, first, side='right')) - 1
        high = int(np.searchsorted(starts, first + count, side='left'))
        read = table.read_row_groups(list(range(low, high)), use_threads=False)
        rows = read.slice(first - starts[low], count)
        if rows.num_rows != count:
            raise ValueError(f'{rows.num_rows} rows from row {first} on, expected {count}')
        return rows

    def texts(
        self, place: int, features: Sequence[Feature], _: NDArray[np.float32]
    ) -> Mapping[str, pa.ChunkedArray]:
        """Read the columns of texts of an episode, see :class:`.EpisodeSource`."""
        return {feature.key: self._column(place, feature) for feature in features}

    def image_bytes(self, place: int) -> int:
        """Return the bytes of an episode's pictures that go into the table."""
        table = self._rows(place)
        return sum(
            int(table.column(feature.key).nbytes) for feature in self.features if feature.is_image
        )

    def images(self, place: int, feature: Feature) -> Iterator[pa.ChunkedArray]:
        """Yield the pictures of an episode, see :class:`.EpisodeSource`."""
        yield self._column(place, feature)

    def _column(self, place: int, feature: Feature) -> pa.ChunkedArray:
        """Return a column that holds no numbers, in the type that it has in new datasets."""
        try:
            kind = table_schema([feature]).field(0).type
            return self._rows(place).column(feature.key).cast(kind)
        except _BROKEN as error:
            raise self._error(place, f'{feature.key} cannot be read ({error})') from error

    def video(self, place: int, key: str) -> VideoPiece:
        """Return where the pictures of an episode are that go into a video."""
        episode = self._episodes[place]
        segment = episode.videos[key]
        if segment.file not in self._videos:
            self._videos[segment.file] = _Video(self._dataset.root / segment.file, self.fps)
        video = self._videos[segment.file]
        return VideoPiece(
            video.path,
            round(segment.start * self.fps),
            episode.length,
            round(video.bytes * episode.length / max(video.frames, 1)),
            video.join_key,
            video.frames,
            linkable=False,
            whole=not video.can_be_cut,
        )

    def labels(self, place: int) -> Mapping[str, str | None]:
        """Return what the list of episodes says of an episode besides, by column."""
        return {name: texts[self._chosen[place]] for name, texts in self._labels.items()}

    @cached_property
    def _labels(self) -> dict[str, list[str | None]]:
        root = self._dataset.root
        if self._dataset.version == 'v2.1':
            lines = [json.loads(line) for line in read_lines(root / EPISODES_PATH_V21)]
            names = [name for name in (lines[0] if lines else ()) if name.startswith(_LABELS)]
            return {name: [line.get(name) for line in lines] for name in names}
        found: dict[str, list[str | None]] = {}
        for file in sorted(root.glob(EPISODES_FILES)):
            names = [n for n in pq.read_schema(file).names if n.startswith(_LABELS)]
            for name, texts in pq.read_table(file, columns=names).to_pydict().items():
                found.setdefault(name, []).extend(texts)
        complete = len(self._dataset.episodes)
        return {name: texts for name, texts in found.items() if len(texts) == complete}

    def statistics(self) -> Iterator[EpisodeStatistics]:
        """Yield the statistics of each episode."""
        cameras = [feature for feature in self.features if feature.is_picture]
        stored = self._stored_statistics(cameras)
        for place, length in enumerate(self.episode_lengths):
            columns, _, _ = self.rows(place, vectors(self.features))
            own = {
                feature.key: _statistics_of(columns[feature.key], feature)
                for feature in vectors(self.features)
            }
            known = next(stored)
            pictures = {
                feature.key: self._complete(known.get(feature.key), length)
                or self._decoded(place, feature)
                for feature in cameras
            }
            yield EpisodeStatistics(own, pictures)

    def _stored_statistics(self, cameras: Sequence[Feature]) -> Iterator[Mapping[str, Any]]:
        """Yield what the dataset says of the pictures of each episode, by camera."""
        wanted = frozenset(self._chosen)
        for number, known in enumerate(self._all_stored(cameras)):
            if number in wanted:
                yield known
        while True:  # where the list is too short
            yield {}

    def _all_stored(self, cameras: Sequence[Feature]) -> Iterator[Mapping[str, Any]]:
        root = self._dataset.root
        if self._dataset.version == 'v2.1':
            if (root / EPISODES_STATS_PATH_V21).is_file():
                for line in read_lines(root / EPISODES_STATS_PATH_V21):
                    yield json.loads(line).get('stats', {})
            return
        for file in sorted(root.glob(EPISODES_FILES)):
            with pq.ParquetFile(file) as table:
                there = table.schema_arrow.names
                names = {
                    f'stats/{feature.key}/{name}': (feature.key, name)
                    for feature in cameras
                    for name in STATISTICS
                    if f'stats/{feature.key}/{name}' in there
                }
                for batch in table.iter_batches(_BATCH, columns=list(names) or ['length']):
                    for row in batch.to_pylist():
                        known: dict[str, dict[str, Any]] = {}
                        for column, (key, name) in names.items():
                            known.setdefault(key, {})[name] = row[column]
                        yield known

    def _complete(self, known: Mapping[str, Any] | None, length: int) -> Statistics | None:
        """Return the statistics of a camera in our form, None where one is missing."""
        if known is None or any(known.get(name) is None for name in self._needed):
            return None
        statistics: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {
            name: np.array(known[name], np.float64).reshape(-1, 1, 1) for name in self._needed
        }
        # Sampled frames or pixels in LeRobot's; it is the weight with which datasets are joined.
        statistics['count'] = np.array([length], np.int64)
        return statistics

    def _decoded(self, place: int, feature: Feature) -> Histogram:
        """Return the histogram of the pictures that LeRobot would take statistics from."""
        length = self.episode_lengths[place]
        height, width, _ = feature.shape
        statistics = ImageStatistics([length], height, width, depth=feature.is_depth)
        if feature.is_image:
            for index, cell in enumerate(self._column(place, feature).to_pylist()):
                if statistics.wants(index):
                    picture = decoded_image(cell['bytes'], depth=feature.is_depth)
                    if picture is None:
                        raise self._error(place, f'{feature.key} has no picture in frame {index}')
                    statistics.add_array(index, picture)
        elif feature.depth is not None:
            raise self._error(place, f'no statistics of {feature.key}')
        else:
            piece = self.video(place, feature.key)
            for index, frame in enumerate(_frames(piece)):
                if statistics.wants(index):
                    statistics.add_frame(index, frame)
        return statistics.histograms()[0]


def features_of(dataset: Description) -> tuple[Feature, ...]:
    """
    Return the features of a dataset without the default ones.

    :raises DatasetError: One is of a kind that cannot be written.
    """
    return tuple(
        _feature(dataset, column)
        for column in dataset.features.values()
        if column.key not in _DEFAULTS
    )


def _feature(dataset: Description, column: StoredFeature) -> Feature:
    if column.is_picture:
        depth = depth_coding(column) if column.is_depth and column.is_video else None
        return Feature(column.key, column.dtype, column.picture_shape, depth=depth)
    if not column.is_numeric and not column.is_language:
        raise DatasetError(f'{dataset.root}: {column.key}: {column.dtype} cannot be written')
    if len(column.shape) > 2:
        raise DatasetError(
            f'{dataset.root}: {column.key}: has {len(column.shape)} dimensions; at most 2 can be '
            'written'
        )
    names = column.names
    named = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return Feature(column.key, column.dtype, column.shape, tuple(names) if named else None)


def _numbers(table: pa.Table, feature: Feature) -> NDArray[Any]:
    """Return a column as an array (rows, *shape), whatever lists it is stored in."""
    column = table.column(feature.key).combine_chunks()
    if column.null_count:
        raise ValueError(f'{feature.key}: {column.null_count} rows without a value')
    while pa.types.is_nested(column.type):
        column = column.flatten()
    values: NDArray[Any] = np.asarray(column.to_numpy(zero_copy_only=False), feature.dtype)
    shaped: NDArray[Any] = values.reshape(table.num_rows, *feature.shape)
    return shaped


def _statistics_of(values: NDArray[Any], feature: Feature) -> Statistics:
    return vector_statistics(lambda: [values], len(values), *feature.shape)


def _frames(piece: VideoPiece) -> Iterator[av.VideoFrame]:
    """Yield the decoded pictures of a piece of a video."""
    found = 0
    try:
        with av.open(str(piece.path)) as container:
            stream = container.streams.video[0]
            rate = stream.average_rate
            time_base = stream.time_base
            if rate is None or time_base is None:
                raise DatasetError(f'{piece.path}: not a video with a constant frame rate')
            start = stream.start_time or 0
            if piece.first_frame:
                container.seek(start + round(piece.first_frame / rate / time_base), stream=stream)
            for frame in container.decode(stream):
                number = round(((frame.pts or 0) - start) * time_base * rate)
                if number < piece.first_frame:
                    continue
                yield frame
                found += 1
                if found == piece.frames:
                    return
    except av.FFmpegError as error:
        raise DatasetError(f'{piece.path}: cannot be decoded ({error})') from error
    raise DatasetError(
        f'{piece.path}: {found} frames from frame {piece.first_frame} on, expected {piece.frames}'
    )


class _Video:
    """What is known of a video file of a dataset."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        try:
            self.bytes = path.stat().st_size
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                self.frames = stream.frames
                self.can_be_cut = _is_plain(stream, fps)
                context = stream.codec_context
                # JPEG pictures bring all with them.
                shape = () if context.name == 'mjpeg' else (context.pix_fmt,)
                described = (context.name, context.width, context.height, *shape)
                self.join_key = f'{described} {bytes(context.extradata or b"").hex()}'
        except (OSError, IndexError, av.FFmpegError) as error:
            raise DatasetError(f'{path}: cannot be read as a video ({error})') from error
        if not self.can_be_cut:
            self.join_key = str(path)


def _is_plain(stream: VideoStream, fps: float) -> bool:
    """Tell whether packets are pictures in their order at a constant rate from 0 on."""
    rate, time_base = stream.average_rate, stream.time_base
    if rate is None or time_base is None or rate != frame_rate(fps):
        return False
    whole = (1 / (rate * time_base)).denominator == 1
    reordered = cast('Any', stream.codec_context).has_b_frames
    return whole and not stream.start_time and not reordered
