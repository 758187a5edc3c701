"""One bag to one shard: the profile is bound, the sinks are opened, the method does the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kuavo_bag_converter.alignment import Plan
from kuavo_bag_converter.bags.model import BagReader, Connection
from kuavo_bag_converter.binding import Binding, BoundCamera, bind
from kuavo_bag_converter.dataset.features import DepthCoding, Feature, VideoOptions
from kuavo_bag_converter.dataset.shard import Shard, ShardWriter
from kuavo_bag_converter.episode import Target, Task, convert_chunked
from kuavo_bag_converter.errors import BagError
from kuavo_bag_converter.jobs.record import ALIGNMENT, write_alignment
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.depth import DepthDecoder, GrayDepth
from kuavo_bag_converter.messages.images import ColorDecoder, picture_info
from kuavo_bag_converter.methods.streaming import convert_streaming
from kuavo_bag_converter.methods.whole_bag import convert_whole_bag
from kuavo_bag_converter.pictures import Picture, PictureDecoder
from kuavo_bag_converter.profiles.model import CameraFeature, Profile
from kuavo_bag_converter.table import Rows

_METHODS: Mapping[str, Callable[[Task], None]] = {
    'chunked': convert_chunked,
    'streaming': convert_streaming,
    'whole_bag': convert_whole_bag,
}


@dataclass(frozen=True)
class ShardOptions:
    """How a bag becomes a shard, apart from the profile."""

    method: str
    video: VideoOptions
    definitions: Definitions
    chunk_size: int
    threads: int
    waiting_bytes: int


def write_shard(
    reader: BagReader,
    profile: Profile,
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
        profile: What a frame is made of.
        path: Where the shard goes.
        options: How to convert.
        extra: Kept in the shard's manifest, with the plan's report.
        planned: Called when the plan is made.
        progress: Called with frames done and all frames.
        cancel: Set to stop.

    Raises:
        BagError: The bag cannot be converted as asked.
        DatasetError: What came out is not complete.
        Cancelled: ``cancel`` was set.

    """
    binding = bind(profile, reader)
    cameras = _Cameras(binding, reader, options)
    features = [*_vector_features(profile), *cameras.features()]
    shard: ShardWriter | None = None
    report: dict[str, object] = {}

    def open_target(plan: Plan) -> Target:
        nonlocal shard
        planned(plan)
        report.update(plan.report)
        lengths = [stop - start for start, stop in plan.episodes]
        shard = ShardWriter(
            path,
            features,
            profile.fps,
            episode_lengths=lengths,
            tasks=plan.tasks or (profile.task,),
            video=cameras.video_options(),
        )
        write_alignment(shard.attachment(ALIGNMENT), plan)
        return Target(_rows_with_tasks(shard, plan), cameras.writers(shard))

    task = Task(
        reader,
        binding,
        options.definitions,
        cameras.decoders(),
        open_target,
        options.chunk_size,
        options.threads,
        options.waiting_bytes,
        progress,
        cancel,
    )
    try:
        _METHODS[options.method](task)
        assert shard is not None
        return shard.finish({**extra, 'plan': report, 'problems': list(reader.problems)})
    except BaseException:
        if shard is not None:
            shard.abort()
        raise


def _rows_with_tasks(shard: ShardWriter, plan: Plan) -> Callable[[Rows], None]:
    written = 0

    def append(rows: Rows) -> None:
        nonlocal written
        start, written = written, written + len(next(iter(rows.values())))
        tasks = None if plan.task_index is None else plan.task_index[start:written]
        shard.append_rows(rows, tasks)

    return append


def _vector_features(profile: Profile) -> list[Feature]:
    return [
        Feature(vector.key, 'float32', (len(vector.names),), vector.names)
        for vector in profile.vectors
    ]


class _Cameras:
    """The picture side of a shard: sizes, decoders and writers of the cameras."""

    def __init__(self, binding: Binding, reader: BagReader, options: ShardOptions) -> None:
        self._cameras = binding.cameras
        self._options = options
        self._sizes = {
            camera.feature.key: camera.feature.size or _first_size(camera, reader, options)
            for camera in binding.cameras
        }

    def features(self) -> list[Feature]:
        features = []
        for camera in self._cameras:
            metric = camera.feature.depth == 'metric12'
            shape = (*self._sizes[camera.feature.key], 1 if metric else 3)
            depth = DepthCoding() if metric else None
            features.append(Feature(camera.feature.key, 'video', shape, depth=depth))
        return features

    def video_options(self) -> dict[str, VideoOptions]:
        return {camera.feature.key: self._options.video for camera in self._cameras}

    def decoders(self) -> dict[str, PictureDecoder]:
        return {
            camera.feature.key: PictureDecoder(partial(self._decoder, camera.feature))
            for camera in self._cameras
        }

    def _decoder(
        self, feature: CameraFeature, connection: Connection
    ) -> Callable[[bytes], Picture]:
        size = self._sizes[feature.key]
        definitions = self._options.definitions
        if not feature.depth:
            return ColorDecoder(connection, definitions, size, self._options.video.pix_fmt).decode
        depth = DepthDecoder(connection, definitions, size)
        if feature.depth == 'metric12':
            return depth.decode
        return GrayDepth(depth, feature.depth, feature.depth_range).decode

    def writers(self, shard: ShardWriter) -> dict[str, Callable[[Picture], None]]:
        writers: dict[str, Callable[[Picture], None]] = {}
        for camera in self._cameras:
            key = camera.feature.key
            if camera.feature.depth == 'metric12':
                writers[key] = shard.depth_writer(key).write_depth
            else:
                writers[key] = shard.video_writer(key).write
        return writers


def _first_size(camera: BoundCamera, reader: BagReader, options: ShardOptions) -> tuple[int, int]:
    """Return (height, width) of the camera's first picture."""
    first = {camera.source.topic: np.zeros(1, dtype=np.int64)}
    for message in reader.messages(first):
        info = picture_info(message.connection, options.definitions, message.data)
        return info.height, info.width
    raise BagError(f'{camera.source.topic}: its first picture cannot be read')
