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

"""One bag to one shard: plan its frames, open the shard, stream the bag into it, finish."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
import threading
from typing import Any

from kuavo_bag_converter.alignment.alignment_file import ALIGNMENT, write_alignment
from kuavo_bag_converter.alignment.binding import Binding
from kuavo_bag_converter.alignment.plan import BadPictures, Plan
from kuavo_bag_converter.alignment.planning import plan_bag
from kuavo_bag_converter.alignment.report import PlanReport
from kuavo_bag_converter.alignment.selection import select_messages, UnfitTopics
from kuavo_bag_converter.bags.fingerprint import Fingerprint
from kuavo_bag_converter.bags.model import BagReader, Ordinals
from kuavo_bag_converter.dataset.agreement import ShardFormat
from kuavo_bag_converter.dataset.shard import Shard, ShardWriter
from kuavo_bag_converter.frames.alternatives import alternative_lines
from kuavo_bag_converter.frames.camera_sequence import bad_pictures, CameraSequence
from kuavo_bag_converter.frames.cameras import at_its_stamp
from kuavo_bag_converter.frames.kinds import CameraKind
from kuavo_bag_converter.frames.options import ShardOptions
from kuavo_bag_converter.frames.preflight import shard_features
from kuavo_bag_converter.frames.stream import (
    fill_frames,
    Filler,
    FramesDone,
    Limits,
    memory_shares,
    MemoryShares,
)
from kuavo_bag_converter.frames.table import FrameRows, Table
from kuavo_bag_converter.jobs.calibration import read_calibration
from kuavo_bag_converter.jobs.topics import described_topics, used_topics
from kuavo_bag_converter.profiles.model import TimeRange
from kuavo_bag_converter.support.errors import BagError, DamagedBagError, DatasetError
from kuavo_bag_converter.support.process import MB, release_memory
from kuavo_bag_converter.support.stages import stage
import numpy as np

_NONE: Ordinals = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Origin:
    """What a shard keeps of the bag that it was made from."""

    fingerprint: Fingerprint
    files: tuple[Path, ...]
    """Where its files were; none if a former version made the shard."""
    problems: tuple[str, ...]
    """Disagreements and damage that its reader found, each in a line."""
    plan: PlanReport
    task: str = ''
    """Of frames for which nothing names another; '' if a former version made the shard."""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """Intrinsics and static transforms, see :class:`.Calibration`."""
    topics: tuple[Mapping[str, Any], ...] = ()
    """What the bag says of the topics that were used, see :func:`.described_topics`."""
    ranges: tuple[TimeRange, ...] = ()
    """Pieces that it was cut into, where these were given by their times."""

    def as_json(self) -> dict[str, Any]:
        """Return what the shard's manifest holds."""
        return {
            'identity': {
                'bag': self.fingerprint.as_json(),
                'paths': [str(file) for file in self.files],
            },
            'problems': list(self.problems),
            'plan': self.plan.as_json(),
            'task': self.task,
            'calibration': dict(self.calibration),
            'topics': list(self.topics),
            **({'ranges': list(map(astuple, self.ranges))} if self.ranges else {}),
        }

    @classmethod
    def of(cls, shard: Shard) -> Origin:
        """
        Read that of a shard.

        :raises DatasetError: The shard has none.
        """
        try:
            extra = shard.extra
            identity = extra['identity']
            return cls(
                Fingerprint.from_json(identity['bag']),
                tuple(map(Path, identity.get('paths', ()))),
                tuple(extra['problems']),
                PlanReport.from_json(extra['plan']),
                str(extra.get('task', '')),
                dict(extra.get('calibration', {})),
                tuple(extra.get('topics', ())),
                tuple(TimeRange(*one) for one in extra.get('ranges', ())),
            )
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise DatasetError(f'{shard.path}: does not tell its bag ({error!r})') from error


def format_of(shard: Shard, origin: Origin, robot_type: str = '') -> ShardFormat:
    """Return what a finished shard must have in common with the others of a dataset."""
    options = {key: video.options for key, video in shard.videos.items()}
    topics = {track.name: track.topic for track in origin.plan.tracks}
    names = origin.plan.element_names or {}
    return ShardFormat(shard.features, options, shard.fps, robot_type, topics, names)


def write_shard(
    reader: BagReader,
    binding: Binding,
    kinds: Sequence[CameraKind[Any]],
    path: Path,
    options: ShardOptions,
    fingerprint: Fingerprint,
    files: Sequence[Path],
    *,
    planned: Callable[[Plan], None],
    progress: FramesDone,
    cancel: threading.Event,
    fill: Filler = fill_frames,
) -> Shard:
    """
    Convert one bag; the shard at ``path`` is complete or does not exist.

    A codec that is stuck leaves its files beside ``path`` for the next run to remove.

    :param reader: The bag.
    :param binding: What to read, and for which feature.
    :param kinds: Its cameras, see :func:`open_cameras`.
    :param path: Where the shard goes.
    :param options: How to convert.
    :param fingerprint: The bag's fingerprint, which the shard keeps, see :class:`Origin`.
    :param files: Those that the bag is read from.
    :param planned: Called when a plan is made.
    :param progress: Called with frames done and all frames.
    :param cancel: Set to stop.
    :param fill: Brings the messages to the frames.
    :raises BagError: The bag cannot be converted as asked.
    :raises DatasetError: What came out is not complete.
    :raises Cancelled: ``cancel`` was set.
    """
    calibration = read_calibration(binding, reader, options.definitions)
    used = used_topics(binding) | calibration.topics
    topics = described_topics(used, reader, options.definitions)
    shares = memory_shares(options.memory_limit_mb, kinds, options.threads)
    trailing = options.definitions.trailing
    bad: BadPictures | None = None
    unfit = UnfitTopics()
    everything = (binding, reader)
    while True:
        met_before = trailing.counts()
        with stage('pass 1'):
            binding, reader = select_messages(*everything, options.definitions, unfit.topics)
            plan = plan_bag(binding, reader, options.definitions, bad)
            release_memory()
        planned(plan)
        with unfit.met_in(binding), _open_shard(path, binding, plan, kinds) as shard:
            write_alignment(shard.attachment(ALIGNMENT), plan)
            table = Table(
                binding, plan, options.definitions, options.chunk_size, _appending(shard, plan)
            )
            cameras = [
                CameraSequence(
                    plan.tracks[bound.track],
                    kind.decoders(),
                    kind.writer(shard),
                    options.on_bad_image,
                    shares.held // len(kinds),
                    shard.encoding_writer(kind.key),
                )
                for bound, kind in zip(binding.cameras, kinds, strict=True)
            ]
            try:
                fill(
                    reader,
                    table,
                    cameras,
                    _limits(options, shares),
                    progress=progress,
                    cancel=cancel,
                    abandon=shard.abandon,
                )
            except DamagedBagError:
                raise
            except BagError as error:
                raise at_its_stamp(error, reader) from None
            found = bad_pictures(cameras)
            if not found or options.on_bad_image == 'repeat':
                reader.verify_rest()
                repeated = {topic: len(ordinals) for topic, ordinals in found.items()}
                report = replace(
                    table.add_counts(plan.report),
                    bad_images=repeated,
                    element_names=binding.element_names or None,
                    pictures_copied={k: n for k, (n, _) in shard.copied_streams.items()} or None,
                    pictures_encoded={k: n for k, (_, n) in shard.copied_streams.items()} or None,
                )
                problems = (
                    *reader.problems,
                    *trailing.lines_since(met_before),
                    *(line for kind in kinds for line in kind.remarks.lines()),
                    *shard.remarks,
                    *calibration.remarks,
                    *alternative_lines(binding, plan, reader, options.definitions),
                )
                origin = Origin(
                    fingerprint,
                    tuple(files),
                    problems,
                    report,
                    binding.profile.task,
                    calibration.as_json(),
                    topics,
                    binding.profile.episodes.ranges,
                )
                finished = shard.finish(origin.as_json(), options.stall_timeout_s)
                release_memory()
                return finished
        if unfit.are_new:
            continue
        bad = _with(bad, found, options.on_bad_image)


def _limits(options: ShardOptions, shares: MemoryShares) -> Limits:
    return Limits(
        options.threads,
        options.chunk_size,
        shares.encoders,
        shares.waiting,
        options.memory_limit_mb * MB,
        options.stall_timeout_s,
        options.debug_memory,
    )


def _open_shard(
    path: Path, binding: Binding, plan: Plan, kinds: Sequence[CameraKind[Any]]
) -> ShardWriter:
    return ShardWriter(
        path,
        shard_features(binding, kinds),
        binding.profile.fps,
        episode_lengths=[stop - start for start, stop in plan.episodes],
        tasks=plan.tasks or (binding.profile.task,),
        video={kind.key: kind.video for kind in kinds if kind.feature.is_video},
        language=plan.language,
    )


def _appending(shard: ShardWriter, plan: Plan) -> Callable[[FrameRows], None]:
    """Return what appends rows with the tasks of their frames."""
    task_index = plan.task_index
    if task_index is None:
        task_index = np.zeros(len(plan), dtype=np.int64)
    written = 0

    def append(rows: FrameRows) -> None:
        nonlocal written
        start, written = written, written + rows.frames
        shard.append_rows(rows.vectors, task_index[start:written])

    return append


def _with(bad: BadPictures | None, found: Mapping[str, Ordinals], on_bad: str) -> BadPictures:
    """Add pictures that were found to be bad; another attempt may meet new ones."""
    before = bad.ordinals if bad else {}
    ordinals = {
        topic: np.union1d(before.get(topic, _NONE), found.get(topic, _NONE))
        for topic in {*before, *found}
    }
    return BadPictures(ordinals, 'drop' if on_bad == 'drop' else 'split')
