"""Pass 2: stream a bag once and write the frames of its plan.

A number goes into its rows of the table; a picture goes to its camera's worker, which decodes,
encodes and forgets it. No feature waits for another, so what is in memory depends neither on the
length of the bag nor on how its topics are interleaved.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from kuavo_bag_converter.alignment.binding import Binding
from kuavo_bag_converter.alignment.plan import Bad, Plan
from kuavo_bag_converter.alignment.planning import plan_bag
from kuavo_bag_converter.bags.model import BagReader, Ordinals
from kuavo_bag_converter.frames.camera import Camera, messages_for
from kuavo_bag_converter.frames.pictures import Picture, PictureDecoder
from kuavo_bag_converter.frames.table import Rows, Table
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.support.errors import BagError, Cancelled
from kuavo_bag_converter.support.memory import MB, give_back, resident_bytes
from kuavo_bag_converter.support.stages import stage, staged
from kuavo_bag_converter.support.workers import Strand, WorkerPool

Progress = Callable[[int, int], None]
"""Called now and then with the frames that every feature has reached, and all frames."""


@dataclass(frozen=True)
class Target:
    """Where the frames of a bag go."""

    append_rows: Callable[[Rows], None]
    write_picture: Mapping[str, Callable[[Picture], None]]
    """Appends a picture as the next frame of a camera feature, by its key."""
    abandon: Callable[[], None]
    """Leaves all as it is, because a thread that is stuck may still write."""


@dataclass(frozen=True)
class Task:
    """What a method needs to convert one bag."""

    reader: BagReader
    binding: Binding
    definitions: Definitions
    decoders: Mapping[str, PictureDecoder]
    """By key of the camera feature; each is used by one thread at a time."""
    open_target: Callable[[Plan], Target]
    """Called once, when the plan is made."""
    on_bad_image: str
    bad: Bad | None
    """Messages that an attempt before could not decode."""
    chunk_size: int
    threads: int
    waiting_bytes: int
    """Payload that may wait for the workers."""
    held_bytes: int | None
    """Messages that cameras may hold for frames to come, all together; None for no limit."""
    memory_limit: int
    """Bytes; above it, nothing is read before what waits is written. 0 is no limit."""
    debug_memory: bool
    """Check after each chunk that nothing of it is held."""
    stall_timeout_s: float
    progress: Progress
    cancel: threading.Event

    @staged('pass 1')
    def plan(self) -> Plan:
        """Make pass 1, whose memory grows with the bag and is given back."""
        plan = plan_bag(self.binding, self.reader, self.definitions, self.bad)
        give_back()
        return plan

    def cameras(self, plan: Plan, target: Target) -> list[Camera]:
        """Return what follows each camera's track of the plan, in the order of the binding."""
        room = None
        if self.held_bytes is not None:
            room = self.held_bytes // max(1, len(self.binding.cameras))
        return [
            Camera(
                plan.tracks[camera.track],
                self.decoders[camera.feature.key],
                target.write_picture[camera.feature.key],
                self.on_bad_image,
                room,
            )
            for camera in self.binding.cameras
        ]

    def check_cancelled(self) -> None:
        """Stop if the user asked to.

        Raises:
            Cancelled: The user did.

        """
        if self.cancel.is_set():
            raise Cancelled


_LOOK_EVERY = 16
"""Messages from one look at the progress to the next."""

BadPictures = dict[str, Ordinals]
"""Ordinals of wanted messages whose picture could not be decoded, by topic."""


def convert_chunked(task: Task) -> BadPictures:
    """Convert a bag in two passes, holding only what is in flight.

    Raises:
        BagError: The bag is damaged, a message does not decode, or one that was promised is not
            there.
        StalledError: A codec is stuck.
        Cancelled: The user asked to stop.

    """
    plan = task.plan()
    target = task.open_target(plan)
    table = Table(task.binding, plan, task.definitions, task.chunk_size, target.append_rows)
    cameras = task.cameras(plan, target)
    pool = WorkerPool(
        task.threads, task.waiting_bytes, task.chunk_size, task.stall_timeout_s, task.cancel
    )
    try:
        with pool:
            _stream(task, plan, table, cameras, pool)
            pool.drain()
    finally:
        if pool.stuck:
            target.abandon()
    table.close()
    task.progress(len(plan), len(plan))
    return bad_pictures(cameras)


def bad_pictures(cameras: Sequence[Camera]) -> BadPictures:
    """Collect what the cameras could not decode."""
    found: dict[str, set[int]] = {}
    for camera in cameras:
        if camera.bad:
            found.setdefault(camera.topic, set()).update(camera.bad)
    return {topic: np.array(sorted(bad), dtype=np.int64) for topic, bad in found.items()}


def _stream(
    task: Task, plan: Plan, table: Table, cameras: Sequence[Camera], pool: WorkerPool
) -> None:
    by_topic: dict[str, list[tuple[Camera, Strand]]] = {}
    for camera in cameras:
        strand = pool.strand(camera.topic)
        by_topic.setdefault(camera.topic, []).append((camera, strand))
    checked = 0
    with_numbers = table.topics
    messages = messages_for(cameras, task.reader, _wanted(task, plan), pool.drain)
    for count, (message, first) in enumerate(messages):
        task.check_cancelled()
        if task.memory_limit and resident_bytes() > task.memory_limit:
            _make_room(task, pool)
        connection, ordinal = message.connection, message.ordinal
        if first and connection.topic in with_numbers:
            with stage('numbers'):
                table.feed(message)
        for camera, strand in by_topic.get(connection.topic, ()):
            data = bytes(message.data)
            strand.submit(partial(camera.take, connection, ordinal, data), len(data))
        if count % _LOOK_EVERY:
            continue
        done = min([table.frames_done, *(camera.frames_done for camera in cameras)])
        task.progress(done, len(plan))
        if task.debug_memory and done // task.chunk_size > checked:
            checked = done // task.chunk_size
            pool.drain()
            _check_released(checked, cameras, pool)


def _make_room(task: Task, pool: WorkerPool) -> None:
    """Write what waits for the workers.

    Raises:
        BagError: What is left is more than the limit.

    """
    pool.drain()
    give_back()
    found = resident_bytes()
    if found > task.memory_limit:
        raise BagError(
            f'memory_limit_mb: {task.memory_limit // MB} does not suffice for this bag, '
            f'{-(-found // MB)} are used where nothing waits; set it to {found * 5 // 4 // MB}'
        )


def _check_released(chunk: int, cameras: Sequence[Camera], pool: WorkerPool) -> None:
    """Fail if a message is held that serves no frame to come, though all that was read is written.

    Raises:
        MemoryError: Names what is held.

    """
    held = {camera.topic: camera.forgotten for camera in cameras if camera.forgotten}
    if pool.waiting_bytes or held:
        raise MemoryError(
            f'after chunk {chunk}: {pool.waiting_bytes} bytes wait, pictures are held of {held}'
        )


def _wanted(task: Task, plan: Plan) -> dict[str, Ordinals]:
    """Return the messages to read: those that serve, and of a video stream all before them."""
    used = task.binding.topics
    wanted = {topic: ordinals for topic, ordinals in plan.wanted().items() if topic in used}
    for camera in task.binding.cameras:
        if task.decoders[camera.feature.key].is_stream:
            topic = camera.source.topic
            wanted[topic] = np.arange(wanted[topic].max() + 1, dtype=np.int64)
    return wanted
