"""Shards become a dataset: rows are copied, videos joined packet by packet, metadata written.

The layout follows LeRobot's own writer, with what its readers need beyond that: an exact
``from_timestamp``, files short enough for their float32 time stamps, and an exact frame rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kuavo_bag_converter.dataset.features import Feature, VideoOptions
from kuavo_bag_converter.dataset.files import link_or_copy, sync_tree
from kuavo_bag_converter.dataset.layout import (
    DATA_PATH,
    VIDEO_PATH,
    Episode,
    FileNumber,
    VideoFile,
    episodes_of,
    plan_video_files,
)
from kuavo_bag_converter.dataset.metadata import (
    EpisodesWriter,
    feature_entries,
    info_v30,
    max_bytes_of,
    write_info,
    write_stats,
    write_tasks,
)
from kuavo_bag_converter.dataset.mp4 import Mp4Writer, frame_rate, read_packets
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.dataset.statistics import (
    Histogram,
    Statistics,
    vector_statistics,
)
from kuavo_bag_converter.dataset.tables import (
    DEFAULT_FEATURES,
    TASK_INDEX,
    TableWriter,
    column_of,
    read_all,
    read_rows,
    rows_of,
    table_of,
    table_schema,
    vectors,
    videos,
)
from kuavo_bag_converter.errors import DatasetError

Progress = Callable[[int, int], None]


@dataclass
class Tasks:
    """The tasks of a dataset in the order in which its frames bring them."""

    names: list[str] = field(default_factory=list)

    def renumber(
        self, task_index: NDArray[np.int64], names: Sequence[str]
    ) -> tuple[NDArray[np.int64], list[str]]:
        """Turn a shard's ``task_index`` into the dataset's; return also the tasks in it."""
        table = np.zeros(len(names), np.int64)
        used = []
        for local in np.unique(task_index):
            name = names[local]
            if name not in self.names:
                self.names.append(name)
            table[local] = self.names.index(name)
            used.append(name)
        return table[task_index], used


def assemble(
    shards: Sequence[Shard],
    root: Path,
    *,
    features: Sequence[Feature],
    fps: float,
    robot_type: str | None,
    data_files_size_in_mb: int = 100,
    video_files_size_in_mb: int = 200,
    max_video_seconds: float = 1000,
    progress: Progress | None = None,
) -> None:
    """Write a dataset of all episodes of the shards, in order; durable on return.

    Args:
        shards: In the order of the dataset.
        root: The dataset's folder, absent or empty; info.json is written last.
        features: The features of all shards, without the default ones.
        fps: Frames per second of all shards.
        robot_type: For info.json.
        data_files_size_in_mb: A v3.0 table file grows to this size.
        video_files_size_in_mb: A v3.0 video file grows to this size.
        max_video_seconds: A v3.0 video file of more than one episode grows to this length.
        progress: Called with the number of finished pieces (an episode's rows, an episode's
            video) and of all.

    Raises:
        DatasetError: The shards do not belong together, one is damaged, or ``root`` is in use.
    """
    options = common_options(shards, features, fps)
    if root.exists() and any(root.iterdir()):
        raise DatasetError(f'{root}: is not empty; a dataset is assembled in a folder of its own')
    root.mkdir(parents=True, exist_ok=True)
    fps = shards[0].fps
    episodes = list(episodes_of(shards))
    advance = _counter(progress, len(episodes) * (1 + len(videos(features))))

    frames = sum(episode.length for episode in episodes)
    files = {
        feature.key: plan_video_files(
            episodes,
            feature.key,
            FileNumber(),
            max_bytes=max_bytes_of(video_files_size_in_mb),
            max_frames=max_video_seconds * fps,
        )
        for feature in videos(features)
    }
    tasks = Tasks()
    pictures = _write_rows(
        root,
        episodes,
        features,
        fps,
        tasks,
        video_columns(files, fps),
        max_bytes_of(data_files_size_in_mb),
        advance,
    )
    for key, planned in files.items():
        for file in planned:
            write_video(root / file.number.path(VIDEO_PATH, video_key=key), file.episodes, key, fps)
            advance(len(file.episodes))
    write_tasks(root, tasks.names)
    write_stats(root, _dataset_statistics(root, frames, features, pictures))
    sync_tree(root)
    info = info_v30(
        fps=fps,
        features=feature_entries(features, options, fps),
        robot_type=robot_type,
        episodes=len(episodes),
        frames=frames,
        tasks=len(tasks.names),
        data_files_size_in_mb=data_files_size_in_mb,
        video_files_size_in_mb=video_files_size_in_mb,
    )
    write_info(root, info)
    sync_tree(root)


def common_options(
    shards: Sequence[Shard], features: Sequence[Feature], fps: float
) -> dict[str, VideoOptions]:
    """Check that shards belong together; return the encoder settings of each camera.

    Raises:
        DatasetError: Names the shard and what differs.
    """
    if not shards:
        raise DatasetError('no episodes: a dataset needs one at least')
    options = {key: video.options for key, video in shards[0].videos.items()}
    for shard in shards:
        found = {key: video.options for key, video in shard.videos.items()}
        for name, have, want in (
            ('features', shard.features, tuple(features)),
            ('fps', shard.fps, fps),
            ('video settings', found, options),
        ):
            if have != want:
                raise DatasetError(
                    f'{shard.path}: its {name} are {have}, the dataset has {want}; convert its '
                    'bag again'
                )
    return options


def _counter(progress: Progress | None, total: int) -> Callable[[int], None]:
    done = 0

    def advance(pieces: int) -> None:
        nonlocal done
        done += pieces
        if progress is not None:
            progress(done, total)

    return advance


def video_columns(
    files: Mapping[str, Sequence[VideoFile]], fps: float
) -> dict[int, dict[str, int | float]]:
    """Return for each episode the columns of meta/episodes that say where its videos are."""
    columns: dict[int, dict[str, int | float]] = {}
    for key, planned in files.items():
        for file in planned:
            for episode, first in zip(file.episodes, file.first_frames.tolist(), strict=True):
                columns.setdefault(episode.index, {}).update(
                    {
                        f'videos/{key}/chunk_index': file.number.chunk_index,
                        f'videos/{key}/file_index': file.number.file_index,
                        f'videos/{key}/from_timestamp': first / fps,
                        f'videos/{key}/to_timestamp': (first + episode.length) / fps,
                    }
                )
    return columns


def episode_table(
    episode: Episode, features: Sequence[Feature], fps: float, tasks: Tasks
) -> tuple[pa.Table, list[str]]:
    """Read an episode's rows and add the default columns; return also its tasks."""
    shard = episode.shard
    own = [*vectors(features), TASK_INDEX]
    rows = rows_of(read_rows(shard.table_path, episode.first_frame, episode.length, own))
    if rows.num_rows != episode.length:
        raise DatasetError(
            f'{shard.table_path}: {rows.num_rows} rows of episode {episode.place}, expected '
            f'{episode.length}; convert its bag again'
        )
    task_index, names = tasks.renumber(column_of(rows, TASK_INDEX)[:, 0], shard.tasks)
    frame_index = np.arange(episode.length, dtype=np.int64)
    arrays = {feature.key: column_of(rows, feature) for feature in vectors(features)}
    arrays |= {
        'timestamp': (frame_index / fps).astype(np.float32),
        'frame_index': frame_index,
        'episode_index': np.full(episode.length, episode.index, np.int64),
        'index': episode.first_row + frame_index,
        'task_index': task_index,
    }
    return table_of([*vectors(features), *DEFAULT_FEATURES], arrays), names


def table_statistics(
    tables: Callable[[], Iterable[pa.Table]], rows: int, features: Sequence[Feature]
) -> dict[str, Statistics]:
    """Return the statistics of the columns of a table that comes in parts."""

    def batches(feature: Feature) -> Iterator[NDArray[Any]]:
        return (column_of(table, feature) for table in tables())

    return {
        feature.key: vector_statistics(partial(batches, feature), rows, feature.shape[0])
        for feature in features
    }


def _write_rows(
    root: Path,
    episodes: Sequence[Episode],
    features: Sequence[Feature],
    fps: float,
    tasks: Tasks,
    video_columns: Mapping[int, Mapping[str, int | float]],
    max_bytes: int,
    advance: Callable[[int], None],
) -> dict[str, Histogram]:
    """Write the table files, a row group for each episode, and meta/episodes.

    Returns:
        The pictures of all episodes, by camera.
    """
    number = FileNumber()
    schema = table_schema([*vectors(features), *DEFAULT_FEATURES])
    writer = TableWriter(root / number.path(DATA_PATH), schema)
    metadata = EpisodesWriter(root, features, FileNumber(), max_bytes)
    pictures: dict[str, Histogram] = {}
    for shard, group in groupby(episodes, attrgetter('shard')):
        shard_statistics, histograms = shard.statistics(), shard.histograms()
        for episode in group:
            table, names = episode_table(episode, features, fps, tasks)
            if writer.would_exceed(table.num_rows, max_bytes):
                writer.close()
                number = number.next()
                writer = TableWriter(root / number.path(DATA_PATH), schema)
            writer.write(table)
            row: dict[str, Any] = {
                'episode_index': episode.index,
                'tasks': names,
                'length': episode.length,
                'data/chunk_index': number.chunk_index,
                'data/file_index': number.file_index,
                'dataset_from_index': episode.first_row,
                'dataset_to_index': episode.first_row + episode.length,
                **video_columns.get(episode.index, {}),
            }
            statistics = shard_statistics[episode.place]
            statistics |= table_statistics(
                partial(iter, (table,)), table.num_rows, DEFAULT_FEATURES
            )
            for key, histogram in histograms[episode.place].items():
                statistics[key] = histogram.statistics()
                pictures[key] = pictures[key] + histogram if key in pictures else histogram
            metadata.write(row, statistics)
            advance(1)
    writer.close()
    metadata.close()
    return pictures


def write_video(path: Path, episodes: Sequence[Episode], key: str, fps: float) -> None:
    """Make a camera's file of some episodes without decoding a picture.

    A shard whose own file is exactly that lends it by a hard link.
    """
    shard = VideoFile(FileNumber(), tuple(episodes)).whole_shard
    if shard is not None:
        link_or_copy(shard.video_path(key), path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = sum(episode.length for episode in episodes)
    with Mp4Writer(path, frame_rate(fps), frames) as writer:
        for episode in episodes:
            source = episode.shard.video_path(key)
            for stream, packet in read_packets(source, episode.first_frame, episode.length):
                if not writer.written:
                    writer.add_copy(stream)
                writer.mux(packet)


def _dataset_statistics(
    root: Path, rows: int, features: Sequence[Feature], pictures: Mapping[str, Histogram]
) -> dict[str, Statistics]:
    """Return the statistics of the whole dataset: of its table files, and of its pictures."""
    files = sorted(root.glob('data/*/*.parquet'))
    columns = vectors([*features, *DEFAULT_FEATURES])
    statistics = {key: histogram.statistics() for key, histogram in pictures.items()}
    for feature in columns:
        statistics |= table_statistics(partial(_read_files, files, feature), rows, [feature])
    return {feature.key: statistics[feature.key] for feature in [*features, *DEFAULT_FEATURES]}


def _read_files(files: Sequence[Path], feature: Feature) -> Iterator[pa.Table]:
    for file in files:
        yield from read_all(file, [feature])
