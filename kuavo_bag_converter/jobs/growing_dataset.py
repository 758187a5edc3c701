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

"""A new dataset that takes in the shards of bags while others are still being converted."""

from __future__ import annotations

from pathlib import Path
import shutil

from kuavo_bag_converter.dataset.assemble import Assembler
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.dataset.sources import ShardEpisodes
from kuavo_bag_converter.jobs.bags_to_shards import Conversion
from kuavo_bag_converter.jobs.finished_shards import FinishedShards
from kuavo_bag_converter.jobs.report import Outcome
from kuavo_bag_converter.robots.resolve import RunProfile
from kuavo_bag_converter.support.errors import DatasetError
from kuavo_bag_converter.support.files import total_bytes


class GrowingDataset:
    """
    Puts shards together in the order of their bags, as far as these are finished.

    Where that fails it is given up, and what is wrong is said when all shards are put together.

    :param run: The run; it adds to no dataset.
    :param profile: That of the run, once it is settled.
    """

    def __init__(self, run: Conversion, profile: RunProfile) -> None:
        self._run = run
        self._profile = profile
        self._assembler: Assembler | None = None
        self._root: Path | None = None
        self._shards = 0
        self._failed = False

    def take(self, outcome: Outcome) -> int:
        """
        Take in the next bag in order; return the bytes that need not be joined any more.

        :raises Cancelled: The user asked to stop.
        """
        if outcome.shard is None or self._failed:
            return 0
        try:
            shard = FinishedShards((outcome,), self._run.settings.labels).read(outcome)
            assert shard is not None  # as it has one
            self._add(shard)
        except (DatasetError, OSError):
            self.abandon()
            return 0
        return total_bytes([shard.path])

    def _add(self, shard: Shard) -> None:
        profile, settings = self._profile.profile, self._run.settings
        if self._assembler is None:
            assert profile is not None  # that of the shard
            self._root = self._run.workspace.dataset_path()
            self._assembler = Assembler(
                self._root,
                features=shard.features,
                fps=profile.fps,
                robot_type=profile.robot_type,
                version=settings.lerobot_version,
                progress=lambda _: self._run.check_cancelled(),
            )
        self._assembler.add(ShardEpisodes(shard))
        self._shards += 1

    def finish(self, shards: int) -> Path | None:
        """
        Return where the dataset is; None if it has not all shards, and is to be made of them.

        :param shards: How many there are.
        :raises DatasetError: A shard is damaged.
        """
        if self._assembler is None or self._shards != shards:
            return None
        self._assembler.finish()
        return self._root

    def abandon(self) -> None:
        """Remove what is there."""
        self._failed = True
        self._assembler = None
        if self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)
