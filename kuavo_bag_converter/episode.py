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

from kuavo_bag_converter.alignment import Plan, TrackPlan
from kuavo_bag_converter.bags.model import BagReader, Connection
from kuavo_bag_converter.binding import Binding
from kuavo_bag_converter.errors import Cancelled
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.pictures import Picture, PictureDecoder
from kuavo_bag_converter.planning import plan_bag
from kuavo_bag_converter.table import Rows, Table
from kuavo_bag_converter.workers import Strand, WorkerPool

Progress = Callable[[int, int], None]
"""Called now and then with the frames that every feature has reached, and all frames."""


@dataclass(frozen=True)
class Target:
    """Where the frames of a bag go."""

    append_rows: Callable[[Rows], None]
    write_picture: Mapping[str, Callable[[Picture], None]]
    """Appends a picture as the next frame of a camera feature, by its key."""


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
    chunk_size: int
    threads: int
    waiting_bytes: int
    """Payload that may wait for the workers."""
    progress: Progress
    cancel: threading.Event

    def check_cancelled(self) -> None:
        """Stop if the user asked to.

        Raises:
            Cancelled: The user did.

        """
        if self.cancel.is_set():
            raise Cancelled('cancelled; finished bags are kept for the next run')


def convert_chunked(task: Task) -> None:
    """Convert a bag in two passes, holding only what is in flight.

    Raises:
        BagError: The bag is damaged, a message does not decode, or one that was promised is not
            there.
        Cancelled: The user asked to stop.

    """
    binding = task.binding
    plan = plan_bag(binding, task.reader, task.definitions)
    target = task.open_target(plan)
    table = Table(binding, plan, task.definitions, task.chunk_size, target.append_rows)
    with WorkerPool(task.threads, task.waiting_bytes, task.chunk_size) as pool:
        cameras = [
            _Camera(
                plan.tracks[camera.track],
                task.decoders[camera.feature.key],
                target.write_picture[camera.feature.key],
                pool.strand(),
            )
            for camera in binding.cameras
        ]
        _stream(task, plan, table, cameras)
        pool.drain()
    table.close()
    task.progress(len(plan), len(plan))


class _Camera:
    """Decodes and writes the pictures that the plan names, in the order of the frames."""

    def __init__(
        self,
        track: TrackPlan,
        decoder: PictureDecoder,
        write: Callable[[Picture], None],
        strand: Strand,
    ) -> None:
        self.topic = track.track.topic
        self._decoder = decoder
        self._write = write
        self._strand = strand
        self._serving = track.first
        self._in_order = bool(np.all(np.diff(track.first) >= 0))
        self._waiting: dict[int, tuple[Connection, bytes]] = {}
        self._shown = -1
        self._picture: Picture = None
        self.frames_done = 0

    def feed(self, connection: Connection, ordinal: int, data: bytes) -> None:
        """Queue a message; waits while the camera's worker is behind."""
        self._strand.submit(partial(self._take, connection, ordinal, data), len(data))

    def _take(self, connection: Connection, ordinal: int, data: bytes) -> None:
        self._waiting[ordinal] = (connection, data)
        serving, count = self._serving, len(self._serving)
        while self.frames_done < count:
            wanted = int(serving[self.frames_done])
            if wanted != self._shown:
                if wanted not in self._waiting:
                    return
                self._picture = None
                self._picture = self._decoder.decode(*self._waiting[wanted])
                self._shown = wanted
                self._forget(wanted)
            self._write(self._picture)
            self.frames_done += 1
        self._picture = None

    def _forget(self, ordinal: int) -> None:
        # Where header stamps are out of order, a picture can be wanted again later.
        if self._in_order or ordinal not in self._serving[self.frames_done + 1 :]:
            del self._waiting[ordinal]


def _stream(task: Task, plan: Plan, table: Table, cameras: Sequence[_Camera]) -> None:
    by_topic: dict[str, list[_Camera]] = {}
    for camera in cameras:
        by_topic.setdefault(camera.topic, []).append(camera)
    wanted = {
        topic: ordinals
        for topic, ordinals in plan.wanted().items()
        if topic in by_topic or topic in table.topics
    }
    for message in task.reader.messages(wanted):
        task.check_cancelled()
        topic = message.connection.topic
        if topic in table.topics:
            table.feed(message)
        for camera in by_topic.get(topic, ()):
            camera.feed(message.connection, message.ordinal, bytes(message.data))
        done = min([table.frames_done, *(camera.frames_done for camera in cameras)])
        task.progress(done, len(plan))
