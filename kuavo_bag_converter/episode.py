"""Pass 2: stream a bag once and write the frames of its plan into a shard.

A number goes into its rows of the table; a picture goes to its camera's worker, which decodes,
encodes and forgets it. No feature waits for another, so what is in memory depends neither on the
length of the bag nor on how its topics are interleaved.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from kuavo_bag_converter.alignment import Plan, TrackPlan
from kuavo_bag_converter.bags.model import BagReader, Connection
from kuavo_bag_converter.errors import Cancelled
from kuavo_bag_converter.table import Table
from kuavo_bag_converter.workers import Strand, WorkerPool

Progress = Callable[[int], None]
"""Called now and then with the number of frames that every feature has reached."""


class Film(Protocol):
    """One camera's pictures on their way into the dataset; used by one thread at a time."""

    def show(self, connection: Connection, data: bytes) -> None:
        """Make a message's picture the current one."""

    def write(self) -> None:
        """Append the current picture as the next frame."""


class Camera:
    """Gives a film the pictures that the plan names, in the order of the frames."""

    def __init__(self, name: str, track: TrackPlan, film: Film, strand: Strand) -> None:
        """Follow ``track``; ``film`` is only touched on ``strand``."""
        self.name = name
        self.topic = track.track.topic
        self._film = film
        self._strand = strand
        self._serving = track.first
        self._in_order = bool(np.all(np.diff(track.first) >= 0))
        self._waiting: dict[int, tuple[Connection, bytes]] = {}
        self._shown = -1
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
                    break
                self._film.show(*self._waiting[wanted])
                self._shown = wanted
                self._forget(wanted)
            self._film.write()
            self.frames_done += 1

    def _forget(self, ordinal: int) -> None:
        # Out of order (header stamps may be), a picture can be wanted again later.
        if self._in_order or ordinal not in self._serving[self.frames_done + 1 :]:
            del self._waiting[ordinal]


def write_frames(
    reader: BagReader,
    plan: Plan,
    table: Table,
    cameras: Sequence[Camera],
    pool: WorkerPool,
    *,
    progress: Progress,
    cancel: threading.Event,
) -> None:
    """Stream the messages that the plan needs to the table and the cameras.

    Raises:
        BagError: The bag is damaged, a message does not decode, or one that was promised is not
            there.
        Cancelled: ``cancel`` was set.

    """
    by_topic: dict[str, list[Camera]] = {}
    for camera in cameras:
        by_topic.setdefault(camera.topic, []).append(camera)

    def done() -> int:
        return min([table.frames_done, *(camera.frames_done for camera in cameras)])

    wanted = {
        topic: ordinals
        for topic, ordinals in plan.wanted().items()
        if topic in by_topic or topic in table.topics
    }
    for message in reader.messages(wanted):
        if cancel.is_set():
            raise Cancelled('cancelled')
        topic = message.connection.topic
        if topic in table.topics:
            table.feed(message)
        for camera in by_topic.get(topic, ()):
            camera.feed(message.connection, message.ordinal, bytes(message.data))
        progress(done())
    pool.drain()
    table.close()
    progress(done())
