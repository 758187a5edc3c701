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

"""Datasets of other formats than LeRobot's, written by other packages from the shards of bags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kuavo_bag_converter.dataset.assemble import check_equal
from kuavo_bag_converter.dataset.features import Feature
from kuavo_bag_converter.dataset.layout import REPORT_PATH
from kuavo_bag_converter.dataset.record import LEROBOT
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.dataset.sources import ShardEpisodes
from kuavo_bag_converter.support.errors import ConverterError, DatasetError, UsageError
from kuavo_bag_converter.support.files import sync_tree
from kuavo_bag_converter.support.plugins import described, Plugin, plugins, WRITERS
from kuavo_bag_converter.support.texts import did_you_mean


@dataclass(frozen=True)
class DatasetInfo:
    """What all episodes of a dataset share."""

    features: tuple[Feature, ...]
    """Vectors, cameras and columns of language, without LeRobot's default columns."""
    fps: float
    """Frames per second."""
    robot_type: str


class DatasetWriter(Protocol):
    """Writes datasets of one format; an instance is an entry point in the group of writers."""

    def write(self, shards: Sequence[Shard], root: Path, info: DatasetInfo) -> None:
        """
        Write a dataset of all episodes of the shards, in order.

        :param shards: One for each bag; their files must not be changed, but may be linked.
        :param root: An empty folder, which gets the name of the output when all is in it. The
            folder ``conversion`` in it, the record, is not the writer's.
        :param info: What the shards share.
        :raises Exception: The dataset cannot be written; its text is shown.
        """


def writer_of(dataset_format: str, lerobot_version: str = 'v3.0') -> Plugin | None:
    """
    Return the writer of a format; None for LeRobot's, which this package writes.

    :raises UsageError: There is none, it cannot be used, or there is a version for it.
    """
    if dataset_format == LEROBOT:
        return None
    known = plugins(WRITERS)
    if dataset_format not in known:
        raise UsageError(
            f'dataset_format: {dataset_format!r} is not known; expected '
            f'{" or ".join([LEROBOT, *known])}{did_you_mean(dataset_format, [LEROBOT, *known])}'
        )
    if lerobot_version != 'v3.0':
        raise UsageError(
            f'lerobot_version: has no meaning with dataset_format {dataset_format}; leave it out'
        )
    return known[dataset_format]


def write_dataset(writer: Plugin, shards: Sequence[Shard], root: Path, info: DatasetInfo) -> None:
    """
    Let a plug-in write a dataset; durable on return.

    :param writer: The plug-in.
    :param shards: The episodes, in the order of the dataset.
    :param root: A folder that does not exist yet.
    :param info: What all episodes share.
    :raises DatasetError: It cannot, or the shards do not belong together.
    """
    sources = [ShardEpisodes(shard) for shard in shards]
    for source in sources:
        check_equal(source, info.features, info.fps, sources[0].video_settings)
    root.mkdir()
    try:
        writer.value.write(shards, root, info)
    except (ConverterError, OSError):
        raise
    except Exception as error:  # whatever the code of others raises
        raise DatasetError(
            f'{writer}: cannot write the dataset ({described(error)}); finished bags are kept '
            'beside it, run the same command again when this is mended'
        ) from error
    record = (root / REPORT_PATH).parent
    if record.exists() or not any(root.iterdir()):
        what = f'{record.name}/, which is for the record' if record.exists() else 'nothing'
        raise DatasetError(f'{writer}: wrote {what}; update or uninstall it')
    sync_tree(root)
