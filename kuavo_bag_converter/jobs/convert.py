"""Many bags to one dataset: each bag becomes a shard, the shards become the dataset."""

from __future__ import annotations

import dataclasses
import os
import random
import resource
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from threadpoolctl import threadpool_limits

from kuavo_bag_converter import __version__
from kuavo_bag_converter.bags import open_bag
from kuavo_bag_converter.bags.discover import find_recordings
from kuavo_bag_converter.bags.model import BagReader
from kuavo_bag_converter.binding import bind
from kuavo_bag_converter.dataset.assemble import assemble
from kuavo_bag_converter.dataset.features import VideoOptions
from kuavo_bag_converter.dataset.shard import Shard, ShardWriter
from kuavo_bag_converter.dataset.video import check_video_options
from kuavo_bag_converter.episode import write_frames
from kuavo_bag_converter.errors import BagError, Cancelled, ConverterError, UsageError
from kuavo_bag_converter.jobs.fingerprint import fingerprint
from kuavo_bag_converter.jobs.report import Observer, Outcome, Report
from kuavo_bag_converter.jobs.workspace import Workspace
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.settings import SETTINGS, Settings, values_of

Recording = tuple[Path, ...]
"""The files (or the one directory) of one recording."""

_NOT_IN_THE_DATASET = ('bags', 'output', 'num_used', 'threads', 'memory_limit_mb', 'chunk_size',
                       'reader', 'on_error', 'method')  # fmt: skip
"""Settings that do not change what a bag becomes."""
_WAITING_BYTES = 16 << 20
"""Payload bytes that may wait for workers."""


def convert(
    settings: Settings,
    *,
    observer: Observer | None = None,
    cancel: threading.Event | None = None,
) -> Report:
    """Convert ``settings.bags`` to a dataset at ``settings.output``.

    Args:
        settings: What to do.
        observer: Is told how it goes on.
        cancel: Set it to stop soon; finished bags are kept for the next run.

    Returns:
        The outcome of every bag; the dataset exists if at least one was converted.

    Raises:
        UsageError: The settings cannot be carried out.
        Cancelled: ``cancel`` was set.

    """
    return _Run(settings, observer or Observer(), cancel or threading.Event()).run()


class _Run:
    """One call of :func:`convert`."""

    def __init__(self, settings: Settings, observer: Observer, cancel: threading.Event) -> None:
        self._settings = settings
        self._observer = observer
        self._cancel = cancel
        self._video = VideoOptions(
            settings.vcodec, settings.crf, settings.preset, settings.gop, settings.pix_fmt
        )
        self._definitions = Definitions(msg_path=tuple(map(Path, settings.msg_path)))
        self._profile: Profile | None = None
        self._threads = settings.threads or len(os.sched_getaffinity(0))

    def run(self) -> Report:
        started = time.monotonic()
        settings = self._settings
        if not settings.output:
            raise UsageError('output: no folder given for the dataset')
        check_video_options(self._video)
        recordings = _chosen(find_recordings([Path(bag) for bag in settings.bags]), settings)
        output = Path(settings.output)
        with Workspace(output, _configuration(settings)) as workspace, _one_thread_each():
            outcomes, shards = self._convert_all(workspace, recordings)
            if shards:
                self._assemble(workspace, shards, outcomes)
        return Report(output, tuple(outcomes), time.monotonic() - started, peak_memory_mb())

    def _convert_all(
        self, workspace: Workspace, recordings: Sequence[Recording]
    ) -> tuple[list[Outcome], list[Shard]]:
        outcomes: list[Outcome] = []
        shards: list[Shard] = []
        stopped = False
        for number, recording in enumerate(recordings, start=1):
            bag = _name(recording)
            self._observer.bag_started(number, len(recordings), bag)
            if stopped:
                outcome = Outcome(bag, 'skipped', 'on_error: stop, after the failure before')
            else:
                outcome, shard = self._convert_one(workspace, recording, bag)
                if shard is not None:
                    shards.append(shard)
                stopped = outcome.status == 'failed' and self._settings.on_error == 'stop'
            outcomes.append(outcome)
            self._observer.bag_finished(outcome)
        return outcomes, shards

    def _convert_one(
        self, workspace: Workspace, recording: Recording, bag: str
    ) -> tuple[Outcome, Shard | None]:
        try:
            identity = {'bag': fingerprint(recording)}
            path = workspace.shard_path(identity)
            if path.exists():
                shard = Shard.load(path)
                return _outcome(bag, 'kept', shard), shard
            shard = self._write_shard(recording, path, identity)
        except (BagError, OSError) as error:
            return Outcome(bag, 'failed', _one_line(error)), None
        return _outcome(bag, 'converted', shard), shard

    def _write_shard(self, recording: Recording, path: Path, identity: dict[str, Any]) -> Shard:
        settings = self._settings
        source = recording[0] if len(recording) == 1 else recording
        with open_bag(source, reader=settings.reader, on_damage=settings.on_damage) as reader:
            profile = self._profile_for(reader)
            binding = bind(profile, reader)
            plan = binding.plan(reader)
            self._observer.planned(plan.report)
            raise NotImplementedError(binding)

    def _profile_for(self, reader: BagReader) -> Profile:
        if self._profile is None:
            self._profile = resolve(self._settings, [c.topic for c in reader.connections])
        return self._profile
