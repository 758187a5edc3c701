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

"""Converts a bag again and compares with the dataset in place of writing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any

from kuavo_bag_converter.alignment.binding import bind
from kuavo_bag_converter.alignment.plan import Plan, TrackPlan
from kuavo_bag_converter.alignment.selection import looked_into, select_messages
from kuavo_bag_converter.bags.model import BagReader
from kuavo_bag_converter.bags.open import open_bag
from kuavo_bag_converter.check.description import Description
from kuavo_bag_converter.check.findings import Findings
from kuavo_bag_converter.dataset.language import language_features
from kuavo_bag_converter.frames.camera_sequence import CameraSequence
from kuavo_bag_converter.frames.cameras import open_cameras
from kuavo_bag_converter.frames.options import ShardOptions
from kuavo_bag_converter.frames.stream import memory_shares, stream
from kuavo_bag_converter.frames.table import Table
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.replay.bags import Match
from kuavo_bag_converter.replay.pictures import CameraSummary, PictureComparer, WantedFrame
from kuavo_bag_converter.replay.plans import (
    add_distances,
    check_plan,
    derive_plan,
    StampDistances,
)
from kuavo_bag_converter.replay.rows import RowComparer
from kuavo_bag_converter.support.errors import ConverterError
from kuavo_bag_converter.support.workers import WorkerPool
import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.int64]

_SHARES = memory_shares(0, ())
"""What may be in memory of messages."""


@dataclass
class Replay:
    """
    What bags are compared with, and what came of it.

    :ivar dataset: The dataset.
    :ivar profile: What a frame is made of.
    :ivar options: How the bags were converted.
    :ivar on_damage: What was done with damage.
    :ivar sample: Frames of each episode whose pictures are compared; None for all.
    :ivar findings: What is wrong.
    :ivar cameras: What comparing pictures came to, by feature.
    :ivar distances: How far apart states and pictures are.
    """

    dataset: Description
    profile: Profile
    options: ShardOptions
    on_damage: str
    sample: int | None
    findings: Findings
    cameras: dict[str, CameraSummary] = field(default_factory=dict)
    distances: StampDistances = field(default_factory=dict)

    def check(self, match: Match) -> None:
        """Compare one bag; what cannot be read becomes a finding."""
        try:
            with open_bag(list(match.files), on_damage=self.on_damage) as reader:
                _BagReplay(self, match, reader).check()
        except (ConverterError, OSError) as error:
            text = ' '.join(str(error).split())
            self.findings.add('bags.unreadable', text, 'a bag that converts', file=match.bag.name)


class _BagReplay:
    """Compares one bag."""

    def __init__(self, replay: Replay, match: Match, reader: BagReader) -> None:
        self._replay = replay
        self._dataset = replay.dataset
        self._bag = match.bag
        profile = replay.profile.for_bag(match.bag.task, match.bag.details.ranges)
        bound = bind(profile, reader)
        self._cameras = open_cameras(bound, reader, replay.options)
        topics = looked_into(match.bag.plan.tracks)
        self._binding, self._reader = select_messages(
            bound, reader, replay.options.definitions, topics
        )
        first = match.bag.first_episode
        self._episodes = replay.dataset.episodes[slice(first, first + match.bag.episodes)]

    def check(self) -> None:
        """Compare the plan, the rows and the pictures."""
        replay = self._replay
        plan = derive_plan(
            self._bag,
            self._reader,
            self._binding,
            replay.options.definitions,
            self._cameras,
            replay.options.on_bad_image,
        )
        add_distances(replay.distances, self._binding, plan)
        if check_plan(self._dataset.root, self._bag, plan, self._episodes, replay.findings):
            self._compare(plan)

    def _compare(self, plan: Plan) -> None:
        options, replay = self._replay.options, self._replay
        tasks = _tasks(plan, self._binding.profile)
        rows = RowComparer(
            self._dataset,
            self._episodes,
            tasks,
            replay.findings,
            language_features(self._binding.profile.language),
            plan.language,
        )
        table = Table(self._binding, plan, options.definitions, options.chunk_size, rows.append)
        cameras, comparers = self._compared(plan)
        pool = WorkerPool(
            options.threads, _SHARES.waiting, options.chunk_size, options.stall_timeout_s
        )
        with pool:
            for _ in stream(self._reader, table, cameras, pool):
                pass
            pool.drain()
        table.close()
        for comparer in comparers:
            comparer.finish()
            replay.findings.extend(comparer.findings)

    def _compared(self, plan: Plan) -> tuple[list[CameraSequence[Any]], list[PictureComparer]]:
        """Return for every camera what decodes its chosen pictures, and what compares them."""
        cameras, comparers = [], []
        for bound, kind in zip(self._binding.cameras, self._cameras, strict=True):
            key, topic = bound.feature.key, bound.source.topic
            chosen = self._chosen(topic)
            track = plan.tracks[bound.track]
            track = replace(track, first=track.first[chosen])
            summary = self._replay.cameras.setdefault(key, CameraSummary(key))
            comparer = PictureComparer(
                self._dataset, self._dataset.features[key], self._wanted(chosen, track), summary
            )
            on_bad = self._replay.options.on_bad_image
            room = _SHARES.held // len(self._cameras)
            cameras.append(CameraSequence(track, kind.decoders(), comparer.write, on_bad, room))
            comparers.append(comparer)
        return cameras, comparers

    def _chosen(self, topic: str) -> Frames:
        """Return the frames of the bag whose pictures are compared, with their neighbours."""
        sample = self._replay.sample
        # What stands in for a bad picture is the one of the frame before.
        if sample is None or (self._bag.plan.bad_images or {}).get(topic):
            return np.arange(sum(episode.length for episode in self._episodes))
        parts = []
        start = 0
        for episode in self._episodes:
            middle = np.round(np.linspace(0, episode.length - 1, sample)).astype(np.int64)
            frames = np.unique(np.concatenate([middle - 1, middle, middle + 1]))
            parts.append(start + frames[(frames >= 0) & (frames < episode.length)])
            start += episode.length
        return np.concatenate(parts)

    def _wanted(self, chosen: Frames, track: TrackPlan) -> Iterator[WantedFrame]:
        ends = np.cumsum([episode.length for episode in self._episodes])
        for frame, ordinal in zip(chosen.tolist(), track.first.tolist(), strict=True):
            place = int(np.searchsorted(ends, frame, side='right'))
            episode = self._episodes[place]
            yield WantedFrame(episode, frame - int(ends[place]) + episode.length, ordinal)


def _tasks(plan: Plan, profile: Profile) -> Iterator[str]:
    """Yield the task of each frame."""
    if plan.task_index is None:
        yield from repeat(plan.tasks[0] if plan.tasks else profile.task, len(plan))
    else:
        yield from (plan.tasks[index] for index in plan.task_index.tolist())
