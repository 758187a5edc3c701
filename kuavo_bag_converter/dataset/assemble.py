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

"""Shards become a dataset: rows are copied, videos joined packet by packet, metadata written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
import shutil
from typing import Any, NamedTuple

from kuavo_bag_converter.dataset import version21, version30
from kuavo_bag_converter.dataset.existing import (
    Existing,
    ExistingV21,
    ExistingV30,
    keep_files,
    open_v21,
    open_v30,
    read_info,
    with_info,
)
from kuavo_bag_converter.dataset.features import Feature, VideoOptions
from kuavo_bag_converter.dataset.layout import FileLimits, INFO_PATH
from kuavo_bag_converter.dataset.metadata import feature_entries, write_json
from kuavo_bag_converter.dataset.parts import Assembly, Episode
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.dataset.sources import EpisodeSource, ShardEpisodes
from kuavo_bag_converter.dataset.version21 import WriterV21
from kuavo_bag_converter.dataset.version30 import WriterV30
from kuavo_bag_converter.support.errors import DatasetError, UsageError
from kuavo_bag_converter.support.files import sync_tree


class _Version(NamedTuple):
    """What differs between the versions of the format."""

    nothing: Any
    """A dataset that is about to begin."""
    open: Callable[[Path, Mapping[str, Any], Sequence[Feature]], Any]  # noqa: A003
    """Reads where a dataset ends, from its folder, info.json and features."""
    kept_files: Sequence[str]
    """Of a dataset that is appended to."""
    writer: type[WriterV30] | type[WriterV21]
    """Writes everything but info.json."""


_VERSIONS = {
    'v3.0': _Version(ExistingV30(), open_v30, version30.KEPT_FILES, WriterV30),
    'v2.1': _Version(ExistingV21(), open_v21, version21.KEPT_FILES, WriterV21),
}


class Assembler:
    """
    Makes a dataset of episodes that come one source after the other.

    What has come is written as far as files are full, so that memory does not grow with it, and
    the last source is followed by little work. Where a ``with`` block ends by an error, what is
    written is removed.

    :param root: The dataset's folder, absent or empty; info.json is written last.
    :param features: The features of all sources, without the default ones.
    :param fps: Frames per second of all sources.
    :param robot_type: For info.json.
    :param version: LeRobot's format, v3.0 (LeRobot >= 0.4) or v2.1 (LeRobot <= 0.3.3).
    :param data_files_size_in_mb: A v3.0 table file grows to this size.
    :param video_files_size_in_mb: A v3.0 video file grows to this size.
    :param max_video_seconds: A v3.0 video file of more than one episode grows to this length.
    :param onto: A dataset of the same version whose episodes come first. Its tables and videos get
        a second name in ``root`` by hard links and are not touched; the new episodes go to files
        of their own. What others have put into its info.json, statistics and tasks stays; files
        that are not LeRobot's are left to the caller.
    :param entries: The ``features`` of info.json; made of ``features`` if None.
    :param labels: Columns of texts of the list of episodes; those of the first source if None.
    :param progress: Called with the number of finished pieces (an episode's rows, an episode's
        video).
    :raises DatasetError: ``root`` is in use.
    :raises UsageError: The version is unknown or cannot hold the features.
    """

    def __init__(
        self,
        root: Path,
        *,
        features: Sequence[Feature],
        fps: float,
        robot_type: str | None,
        version: str = 'v3.0',
        data_files_size_in_mb: float = 100,
        video_files_size_in_mb: float = 200,
        max_video_seconds: float = 1000,
        onto: Path | None = None,
        entries: Mapping[str, Any] | None = None,
        labels: Sequence[str] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        if version not in _VERSIONS:
            raise UsageError(f'lerobot version {version!r} is not one of {", ".join(_VERSIONS)}')
        check_format(features, version)
        if root.exists() and any(root.iterdir()):
            raise DatasetError(
                f'{root}: is not empty; a dataset is assembled in a folder of its own'
            )
        self._root = root
        self._features = tuple(features)
        self._fps = int(fps) if float(fps).is_integer() else fps
        self._robot_type = robot_type
        self._version = version
        self._limits = FileLimits(data_files_size_in_mb, video_files_size_in_mb, max_video_seconds)
        self._onto = onto
        self._entries = entries
        self._labels = labels
        self._advance = _counter(progress)
        self._first: EpisodeSource | None = None
        self._writer: WriterV30 | WriterV21
        self._before: Existing
        self._episodes = self._frames = 0

    def __enter__(self) -> Assembler:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            shutil.rmtree(self._root, ignore_errors=True)

    def add(self, source: EpisodeSource) -> None:
        """
        Write the episodes of a source behind those that have come.

        :raises DatasetError: It does not belong to the others, or to the dataset to append to, or
            is damaged.
        """
        if self._first is None:
            self._first = source
            self._begin(source)
        check_equal(source, self._features, self._fps, self._first.video_settings)
        self._writer.add_histograms(source.histograms)
        for place, known in enumerate(source.statistics()):
            length = source.episode_lengths[place]
            episode = Episode(self._episodes, self._frames, length, source, place)
            self._writer.add(episode, known)
            self._episodes += 1
            self._frames += length

    def _begin(self, source: EpisodeSource) -> None:
        written, fps = _VERSIONS[self._version], self._fps
        entries = self._entries
        if entries is None:
            entries = feature_entries(self._features, source.video_settings, fps, self._version)
        before = written.nothing
        if self._onto is not None:
            info = read_info(self._onto, self._version, entries, fps, self._robot_type)
            before = written.open(self._onto, info, self._features)
            entries = info['features']
            keep_files(self._onto, self._root, written.kept_files)
        job = Assembly(
            root=self._root,
            features=self._features,
            entries=entries,
            fps=fps,
            robot_type=self._robot_type,
            limits=self._limits,
            advance=self._advance,
        )
        self._before = before
        self._episodes, self._frames = before.episodes, before.frames
        labels = list(source.labels(0)) if self._labels is None else self._labels
        self._writer = written.writer(job, labels, before)

    def finish(self) -> None:
        """
        Write what is left, info.json last; durable on return.

        :raises DatasetError: No source has come, or one is damaged.
        """
        if self._first is None:
            raise DatasetError('no episodes: a dataset needs one at least')
        info = self._writer.finish(self._episodes, self._frames)
        sync_tree(self._root)
        write_json(self._root / INFO_PATH, with_info(self._before, info))
        sync_tree(self._root)


def assemble(shards: Iterable[Shard], root: Path, **options: Any) -> None:
    """
    Write a dataset of all episodes of the shards, in order; durable on return.

    :param shards: In the order of the dataset.
    :param root: The dataset's folder, absent or empty.
    :param options: See :class:`Assembler`.
    :raises DatasetError: The shards, or the dataset to append to, do not belong together or are
        damaged, or ``root`` is in use.
    :raises UsageError: The version is unknown or cannot hold the features.
    """
    with Assembler(root, **options) as assembler:
        for shard in shards:
            assembler.add(ShardEpisodes(shard))
        assembler.finish()


def check_format(features: Sequence[Feature], version: str) -> None:
    """
    Refuse features that a format cannot hold.

    :raises UsageError: The format has no metric depth or no language, or takes depth for colours.
    """
    for feature in features:
        if version == 'v2.1' and feature.dtype == 'language':
            raise UsageError(
                f'language: LeRobot {version} has no columns of language; use v3.0 (they are read '
                'by LeRobot 0.6 or later), or give the texts a key in place of a style'
            )
        if version == 'v2.1' and feature.depth is not None:
            raise UsageError(
                f'{feature.key}: LeRobot {version} has no metric depth; use v3.0, or store depth '
                'in the table (image16, copy) or as 8-bit pictures'
            )
        if version == 'v2.1' and feature.is_depth and 'image' in feature.key:
            raise UsageError(
                f'{feature.key}: LeRobot 0.3 loads no {version} dataset with depth under a key '
                'with "image", which it takes for colours; rename it, as observation.depth, or '
                'use v3.0'
            )


def check_fits(
    onto: Path,
    features: Sequence[Feature],
    options: Mapping[str, VideoOptions],
    *,
    fps: float,
    robot_type: str | None,
    version: str,
) -> None:
    """
    Refuse a shard that cannot be appended to a dataset, before it is made.

    :param onto: The dataset.
    :param features: The shard's.
    :param options: Its encoder settings by camera.
    :param fps: Its frames per second.
    :param robot_type: Of the profile.
    :param version: LeRobot's format.
    :raises DatasetError: Names what differs.
    """
    read_info(onto, version, feature_entries(features, options, fps, version), fps, robot_type)


def check_equal(
    source: EpisodeSource,
    features: Sequence[Feature],
    fps: float,
    video_settings: Mapping[str, Any],
) -> None:
    """
    Check that a source belongs to a dataset.

    :raises DatasetError: Names the source and what differs.
    """
    for name, have, want in (
        ('features', source.features, tuple(features)),
        ('fps', source.fps, fps),
        ('video settings', source.video_settings, video_settings),
    ):
        if have != want:
            raise DatasetError(
                f'{source.name}: its {name} are {have}, the dataset has {want}; convert its bag '
                'again'
            )


def _counter(progress: Callable[[int], None] | None) -> Callable[[int], None]:
    done = 0

    def advance(pieces: int) -> None:
        nonlocal done
        done += pieces
        if progress is not None:
            progress(done)

    return advance
