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

"""
Pass 2: stream a bag once and give every frame of its plan what serves it.

A number goes into its rows of the table; a picture goes to its camera's worker, which decodes,
writes and forgets it. No feature waits for another, so what is in memory depends neither on the
length of the bag nor on how its topics are interleaved.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
import threading
from typing import Any, NamedTuple, Protocol

from kuavo_bag_converter.bags.model import BagReader, Ordinals
from kuavo_bag_converter.frames.camera_sequence import CameraSequence
from kuavo_bag_converter.frames.kinds import CameraKind
from kuavo_bag_converter.frames.parallel_camera import ParallelCamera
from kuavo_bag_converter.frames.table import Table
from kuavo_bag_converter.support.errors import BagMemoryError, Cancelled, CodecMemoryError
from kuavo_bag_converter.support.process import MB, release_memory, resident_bytes
from kuavo_bag_converter.support.stages import stage, stage_of_each
from kuavo_bag_converter.support.workers import InlineWorkers, WorkerPool, WorkerQueue
import numpy as np

FramesDone = Callable[[int, int], None]
"""Called now and then with the frames that every feature has reached, and all frames."""

_LOOK_EVERY = 16
"""Messages from one look at the progress to the next."""
_TABLES = 16 * MB
_LEAST_WAITING = 1 * MB
_MOST_WAITING = 16 * MB
_WAITING_FOR_STRETCH = 8 * MB
"""More where there are more threads than cameras, for each: a stretch behind others."""
_MOST_HELD = 32 * MB


@dataclass(frozen=True)
class Limits:
    """
    How much a stream may use.

    :ivar threads: Workers of the cameras.
    :ivar chunk_size: Frames that are flushed together, and messages that may wait for one camera.
    :ivar encoders: How many may be open, one for each camera at least.
    :ivar waiting_bytes: Payload that may wait for the workers.
    :ivar memory_bytes: Resident set above which nothing is read before what waits is written, and
        which that must leave; 0 for none.
    :ivar stall_timeout_s: How long one picture may take.
    :ivar debug_memory: Check after each chunk that nothing of it is held.
    """

    threads: int
    chunk_size: int
    encoders: int
    waiting_bytes: int
    memory_bytes: int
    stall_timeout_s: float
    debug_memory: bool = False


class Filler(Protocol):
    """
    What brings a bag's messages to the table and the cameras: :func:`fill_frames`.

    The benchmark has others, which hold the whole bag in memory.
    """

    def __call__(
        self,
        reader: BagReader,
        table: Table,
        cameras: Sequence[CameraSequence[Any]],
        limits: Limits,
        *,
        progress: FramesDone,
        cancel: threading.Event,
        abandon: Callable[[], None],
    ) -> None:
        """Fill the table and the cameras to their last frame."""


def fill_frames(
    reader: BagReader,
    table: Table,
    cameras: Sequence[CameraSequence[Any]],
    limits: Limits,
    *,
    progress: FramesDone,
    cancel: threading.Event,
    abandon: Callable[[], None],
) -> None:
    """
    Fill the table and the cameras to their last frame, holding only what is in flight.

    :param reader: The bag.
    :param table: Takes the numbers.
    :param cameras: Take the pictures, each on one worker at a time.
    :param limits: How much may be used.
    :param progress: Told how it goes on.
    :param cancel: Set it to stop.
    :param abandon: Called where a thread is stuck in a codec and may still write.
    :raises BagError: The bag is damaged, a message does not decode, or one that the index lists is
        not there.
    :raises StalledError: A codec is stuck.
    :raises Cancelled: ``cancel`` was set.
    """
    max_tasks = limits.chunk_size
    if limits.encoders > len(cameras):  # a stretch must be read for the next one to begin
        parted = (camera.stretches.stretches for camera in cameras if camera.stretches)
        max_tasks = max([max_tasks, *(len(frames) for frames in chain(*parted))])
    pool = WorkerPool(
        limits.threads,
        limits.waiting_bytes,
        max_tasks,
        limits.stall_timeout_s,
        cancel,
        max_begun=limits.encoders,
    )
    cameras = [_in_parallel(camera, pool) for camera in cameras]
    try:
        with pool:
            chunk = 0
            for done in stream(reader, table, cameras, pool):
                if cancel.is_set():
                    raise Cancelled
                if limits.memory_bytes and resident_bytes() > limits.memory_bytes:
                    _make_room(limits.memory_bytes, pool)
                if done is None:
                    continue
                progress(done, table.frames)
                if limits.debug_memory and done // limits.chunk_size > chunk:
                    chunk = done // limits.chunk_size
                    pool.drain()
                    _check_released(chunk, cameras, pool)
            pool.drain()
    finally:
        if pool.stuck:
            abandon()
    table.close()
    progress(table.frames, table.frames)


def stream(
    reader: BagReader,
    table: Table | None,
    cameras: Sequence[CameraSequence[Any]],
    workers: WorkerPool | InlineWorkers,
) -> Iterator[int | None]:
    """
    Read the messages that serve frames in the order in which they are stored, and pass them on.

    Each is read once; only where a camera's messages are stored so far from the order of the
    frames that it cannot hold them (see :class:`CameraSequence`), those are read again.

    :param reader: The bag.
    :param table: Takes the numbers, at once; None where only pictures are wanted.
    :param cameras: Take the pictures.
    :param workers: Run the cameras.
    :return: Something for every message: now and then the frames that every feature has reached,
        else None.
    :raises BagError: The bag is damaged, or a message does not decode.
    """
    by_topic: dict[str, list[tuple[CameraSequence[Any], WorkerQueue | InlineWorkers]]] = {}
    for camera in cameras:
        # A parallel camera has queues of its own.
        given = InlineWorkers() if isinstance(camera, ParallelCamera) else workers
        by_topic.setdefault(camera.topic, []).append((camera, given.queue(camera.topic)))
    numbers_of = table
    numbers = () if table is None else table.wanted().items()
    pictures = ((c.topic, c.wanted(reader.counts[c.topic])) for c in cameras)
    wanted = _union([*numbers, *pictures])
    while wanted:
        for count, message in enumerate(stage_of_each('read', reader.messages(wanted))):
            connection, ordinal = message.connection, message.ordinal
            if table is not None and connection.topic in table.topics:
                with stage('numbers'):
                    table.feed(message)
            for camera, queue in by_topic.get(connection.topic, ()):
                data = message.data if isinstance(message.data, bytes) else bytes(message.data)
                queue.submit(partial(camera.take, connection, ordinal, data), len(data))
            yield None if count % _LOOK_EVERY else _frames_done(numbers_of, cameras)
        for pairs in by_topic.values():
            for camera, queue in pairs:
                queue.submit(camera.finish, 0)
        workers.drain()
        yield _frames_done(numbers_of, cameras)
        table = None
        wanted = _union((camera.topic, camera.to_read_again()) for camera in cameras)


def _in_parallel(camera: CameraSequence[Any], pool: WorkerPool) -> CameraSequence[Any]:
    """Return what uses several threads for a camera, if that is possible."""
    stretches = camera.stretches
    alone = camera.decoder.is_stream or camera.on_bad_image == 'repeat'
    if stretches is None or alone or len(stretches.stretches) == 1:
        return camera
    return ParallelCamera(camera, stretches, pool)


def _frames_done(table: Table | None, cameras: Sequence[CameraSequence[Any]]) -> int:
    """Return the frames that every feature has reached."""
    numbers = [] if table is None else [table.frames_done]
    return min([*numbers, *(camera.frames_written for camera in cameras)])


def _union(wanted: Iterable[tuple[str, Ordinals]]) -> dict[str, Ordinals]:
    """Join the ordinals of each topic; topics without any are left out."""
    joined: dict[str, Ordinals] = {}
    for topic, ordinals in wanted:
        if len(ordinals):
            joined[topic] = np.union1d(joined[topic], ordinals) if topic in joined else ordinals
    return joined


def _make_room(limit: int, pool: WorkerPool) -> None:
    """
    Write what waits for the workers.

    :raises BagMemoryError: What is left is more than the limit, bytes.
    """
    pool.drain()
    release_memory()
    found = resident_bytes()
    if found > limit:
        raise BagMemoryError(
            f'memory_limit_mb: {limit // MB} does not suffice for this bag, {-(-found // MB)} are '
            f'used where nothing waits; set it to {found * 5 // 4 // MB}'
        )


def _check_released(chunk: int, cameras: Sequence[CameraSequence[Any]], pool: WorkerPool) -> None:
    """
    Fail if a message is held that serves no frame to come, though all that was read is written.

    :raises MemoryError: Names what is held.
    """
    held = {camera.topic: camera.stale_messages for camera in cameras if camera.stale_messages}
    if pool.waiting_bytes or held:
        raise MemoryError(
            f'after chunk {chunk}: {pool.waiting_bytes} bytes wait, pictures are held of {held}'
        )


class MemoryShares(NamedTuple):
    """What may be in memory: bytes of messages, and encoders."""

    waiting: int
    """Messages that wait for the workers."""
    held: int
    """Messages that cameras hold for frames to come."""
    encoders: int
    """How many may be open: one for each camera, and more where there are more threads."""


def memory_shares(
    limit_mb: int, cameras: Collection[CameraKind[Any]], threads: int = 1
) -> MemoryShares:
    """
    Return how many bytes of messages may be in memory; with a limit, what it leaves.

    :param limit_mb: ``memory_limit_mb``; 0 is no limit.
    :param cameras: Of the bag.
    :param threads: Workers; those beyond one for each camera want encoders of their own.
    :raises CodecMemoryError: The limit is below what the encoders and libraries need.
    """
    more = max(0, threads - len(cameras))
    if not limit_mb:
        waiting = _MOST_WAITING + more * _WAITING_FOR_STRETCH
        return MemoryShares(waiting, _MOST_HELD, len(cameras) + more)
    encoders = [camera.memory_bytes for camera in cameras]
    needed = resident_bytes() + _TABLES + sum(encoders)
    left = limit_mb * MB - needed
    if left < _LEAST_WAITING:
        enough = -(-(needed + _LEAST_WAITING) // MB)
        raise CodecMemoryError(
            f'memory_limit_mb: {limit_mb} is too small for these cameras and vcodec, which need '
            f'about {enough}; raise it, or use fewer or smaller cameras'
        )
    if more:
        more = min(more, left // 2 // (max(encoders, default=0) + _WAITING_FOR_STRETCH))
        left -= more * max(encoders, default=0)
    most_waiting = _MOST_WAITING + more * _WAITING_FOR_STRETCH
    waiting = min(max(_LEAST_WAITING, left // 3), most_waiting)
    return MemoryShares(waiting, min(left - waiting, _MOST_HELD), len(cameras) + more)
