"""One bag to one shard: the profile is bound, the sinks are opened, the method does the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kuavo_bag_converter.alignment.alignment_file import ALIGNMENT, write_alignment
from kuavo_bag_converter.alignment.binding import Binding
from kuavo_bag_converter.alignment.plan import Bad, Plan
from kuavo_bag_converter.alignment.report import PlanReport
from kuavo_bag_converter.bags.model import BagReader, Ordinals
from kuavo_bag_converter.dataset.features import Feature
from kuavo_bag_converter.dataset.shard import Shard, ShardWriter
from kuavo_bag_converter.frames.cameras import Cameras, at_its_stamp
from kuavo_bag_converter.frames.episode import BadPictures, Target, Task, convert_chunked
from kuavo_bag_converter.frames.memory_budget import memory_shares
from kuavo_bag_converter.frames.options import ShardOptions
from kuavo_bag_converter.frames.streaming import convert_streaming
from kuavo_bag_converter.frames.table import Rows
from kuavo_bag_converter.frames.whole_bag import convert_whole_bag
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.support.errors import BagError, DamagedBagError
from kuavo_bag_converter.support.memory import MB, give_back

_NONE: Ordinals = np.empty(0, dtype=np.int64)
_METHODS: Mapping[str, Callable[[Task], BadPictures]] = {
    'chunked': convert_chunked,
    'streaming': convert_streaming,
    'whole_bag': convert_whole_bag,
}


def write_shard(
    reader: BagReader,
    binding: Binding,
    cameras: Cameras,
    path: Path,
    options: ShardOptions,
    extra: Mapping[str, Any],
    *,
    planned: Callable[[Plan], None],
    progress: Callable[[int, int], None],
    cancel: threading.Event,
) -> Shard:
    """Convert one bag; the shard at ``path`` is complete or does not exist.

    Args:
        reader: The bag.
        binding: What to read, and for which feature.
        cameras: The picture side of it.
        path: Where the shard goes.
        options: How to convert.
        extra: Kept in the shard's manifest, with the plan's report.
        planned: Called when a plan is made.
        progress: Called with frames done and all frames.
        cancel: Set to stop.

    Raises:
        BagError: The bag cannot be converted as asked.
        DatasetError: What came out is not complete.
        Cancelled: ``cancel`` was set.

    A codec that is stuck leaves its files beside ``path`` for the next run to remove.
    """
    features = shard_features(binding, cameras)
    shares = memory_shares(options.memory_limit_mb, cameras.encoders())
    bad: Bad | None = None
    trailing = options.definitions.trailing
    while True:
        met_before = trailing.counts()
        with ExitStack() as stack:
            attempt = _Attempt(path, features, binding.profile, cameras, planned, stack)
            task = Task(
                reader,
                binding,
                options.definitions,
                cameras.decoders(),
                attempt.open_target,
                options.on_bad_image,
                bad,
                options.chunk_size,
                options.threads,
                shares.waiting,
                shares.held,
                options.memory_limit_mb * MB,
                options.debug_memory,
                options.stall_timeout_s,
                progress,
                cancel,
            )
            try:
                found = _METHODS[options.method](task)
            except DamagedBagError:
                raise
            except BagError as error:
                raise at_its_stamp(error, reader) from None
            if not found or options.on_bad_image == 'repeat':
                reader.verify_rest()
                problems = [*reader.problems, *trailing.lines_since(met_before)]
                shard = attempt.finish(
                    {**extra, 'problems': problems}, found, options.stall_timeout_s
                )
                give_back()
                return shard
        bad = _with(bad, found, options.on_bad_image)


def shard_features(binding: Binding, cameras: Cameras) -> tuple[Feature, ...]:
    """Return the features of a bag's shard."""
    vectors = binding.profile.vectors
    return (
        *(Feature(v.key, 'float32', (len(v.names),), v.names) for v in vectors),
        *cameras.features(),
    )


class _Attempt:
    """A shard that is being written, and given up unless it is finished."""

    def __init__(
        self,
        path: Path,
        features: Sequence[Feature],
        profile: Profile,
        cameras: Cameras,
        planned: Callable[[Plan], None],
        stack: ExitStack,
    ) -> None:
        self._path = path
        self._features = features
        self._profile = profile
        self._cameras = cameras
        self._planned = planned
        self._stack = stack
        self._shard: ShardWriter | None = None
        self._report: PlanReport | None = None

    def open_target(self, plan: Plan) -> Target:
        self._planned(plan)
        self._report = plan.report
        self._shard = self._stack.enter_context(
            ShardWriter(
                self._path,
                self._features,
                self._profile.fps,
                episode_lengths=[stop - start for start, stop in plan.episodes],
                tasks=plan.tasks or (self._profile.task,),
                video=self._cameras.video_options(),
            )
        )
        write_alignment(self._shard.attachment(ALIGNMENT), plan)
        return Target(
            _rows_with_tasks(self._shard, plan),
            self._cameras.writers(self._shard),
            self._shard.abandon,
        )

    def finish(
        self, extra: Mapping[str, Any], repeated: BadPictures, stall_timeout_s: float
    ) -> Shard:
        assert self._shard is not None
        assert self._report is not None
        counts = {topic: len(ordinals) for topic, ordinals in repeated.items()}
        report = replace(self._report, bad_images=counts)
        return self._shard.finish({**extra, 'plan': report.as_json()}, stall_timeout_s)


def _with(bad: Bad | None, found: BadPictures, on_bad: str) -> Bad:
    """Add pictures that were found to be bad; another attempt may meet new ones."""
    before = bad.ordinals if bad else {}
    ordinals = {
        topic: np.union1d(before.get(topic, _NONE), found.get(topic, _NONE))
        for topic in {*before, *found}
    }
    return Bad(ordinals, 'drop' if on_bad == 'drop' else 'split')


def _rows_with_tasks(shard: ShardWriter, plan: Plan) -> Callable[[Rows], None]:
    task_index = plan.task_index
    if task_index is None:
        task_index = np.zeros(len(plan), dtype=np.int64)
    written = 0

    def append(rows: Rows) -> None:
        nonlocal written
        start, written = written, written + rows.frames
        shard.append_rows(rows.vectors, task_index[start:written])

    return append
