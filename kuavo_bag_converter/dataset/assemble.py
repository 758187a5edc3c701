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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from kuavo_bag_converter.dataset import version21, version30
from kuavo_bag_converter.dataset.existing import (
    ExistingV21,
    ExistingV30,
    keep_files,
    open_v21,
    open_v30,
    read_info,
    with_info,
)
from kuavo_bag_converter.dataset.features import Feature, VideoOptions
from kuavo_bag_converter.dataset.layout import Episode, episodes_of, FileLimits, INFO_PATH
from kuavo_bag_converter.dataset.metadata import feature_entries, write_json
from kuavo_bag_converter.dataset.parts import Assembly
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.dataset.tables import videos
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
    write: Callable[[Assembly, Sequence[Episode], Any], dict[str, Any]]
    """Writes everything but info.json, which it returns."""


_VERSIONS = {
    'v3.0': _Version(ExistingV30(), open_v30, version30.KEPT_FILES, version30.write_v30),
    'v2.1': _Version(ExistingV21(), open_v21, version21.KEPT_FILES, version21.write_v21),
}


def assemble(
    shards: Sequence[Shard],
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
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """
    Write a dataset of all episodes of the shards, in order; durable on return.

    :param shards: In the order of the dataset.
    :param root: The dataset's folder, absent or empty; info.json is written last.
    :param features: The features of all shards, without the default ones.
    :param fps: Frames per second of all shards.
    :param robot_type: For info.json.
    :param version: LeRobot's format, v3.0 (LeRobot >= 0.4) or v2.1 (LeRobot <= 0.3.3).
    :param data_files_size_in_mb: A v3.0 table file grows to this size.
    :param video_files_size_in_mb: A v3.0 video file grows to this size.
    :param max_video_seconds: A v3.0 video file of more than one episode grows to this length.
    :param onto: A dataset of the same version whose episodes come first. Its tables and videos get
        a second name in ``root`` by hard links and are not touched; the new episodes go to files
        of their own. What others have put into its info.json, statistics and tasks stays; files
        that are not LeRobot's are left to the caller.
    :param progress: Called with the number of finished pieces (an episode's rows, an episode's
        video) and of all.
    :raises DatasetError: The shards, or the dataset to append to, do not belong together or are
        damaged, or ``root`` is in use.
    :raises UsageError: The version is unknown or cannot hold the features.
    """
    if version not in _VERSIONS:
        raise UsageError(f'lerobot version {version!r} is not one of {", ".join(_VERSIONS)}')
    options = common_options(shards, features, fps)
    check_format(features, version)
    if root.exists() and any(root.iterdir()):
        raise DatasetError(f'{root}: is not empty; a dataset is assembled in a folder of its own')
    fps = shards[0].fps
    count = sum(len(shard.episode_lengths) for shard in shards)
    job = Assembly(
        root=root,
        features=tuple(features),
        entries=feature_entries(features, options, fps, version),
        fps=fps,
        robot_type=robot_type,
        limits=FileLimits(data_files_size_in_mb, video_files_size_in_mb, max_video_seconds),
        advance=_counter(progress, count * (1 + len(videos(features)))),
    )
    written = _VERSIONS[version]
    before = written.nothing
    if onto is not None:
        info = read_info(onto, version, job.entries, fps, robot_type)
        before = written.open(onto, info, job.features)
        job = replace(job, entries=info['features'])
        keep_files(onto, root, written.kept_files)
    info = written.write(job, list(episodes_of(shards, before.episodes, before.frames)), before)
    sync_tree(root)
    write_json(root / INFO_PATH, with_info(before, info))
    sync_tree(root)


def check_format(features: Sequence[Feature], version: str) -> None:
    """
    Refuse features that a format cannot hold.

    :raises UsageError: The format has no metric depth, or no language.
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
                'as 8-bit pictures'
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


def common_options(
    shards: Sequence[Shard], features: Sequence[Feature], fps: float
) -> dict[str, VideoOptions]:
    """
    Check that shards belong together; return the encoder settings of each camera.

    :raises DatasetError: Names the shard and what differs.
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


def _counter(progress: Callable[[int, int], None] | None, total: int) -> Callable[[int], None]:
    done = 0

    def advance(pieces: int) -> None:
        nonlocal done
        done += pieces
        if progress is not None:
            progress(done, total)

    return advance
