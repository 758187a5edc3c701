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

"""One camera on several threads: each stretch of its frames is decoded and encoded by itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
import threading
from typing import Any, NamedTuple

from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.frames.camera_sequence import CameraSequence, Stretch, Stretches
from kuavo_bag_converter.support.workers import WorkerPool, WorkerQueue


class _PictureMessage(NamedTuple):
    """A message that is decoded on the thread that encodes its picture."""

    ordinal: int
    connection: Connection
    data: bytes


class ParallelCamera(CameraSequence[Any]):
    """
    Puts the messages of a camera into the order of the frames, and each stretch into a queue.

    Its pictures stand alone, and none is written again in place of a bad one: then the bag fails,
    or is planned again and what was written is of no use. To be used by the thread that reads.
    """

    def __init__(
        self, camera: CameraSequence[Any], stretches: Stretches[Any], workers: WorkerPool
    ) -> None:
        """
        Do the work of a camera.

        :param camera: The camera; gets to know of pictures that are bad.
        :param stretches: What writes its frames.
        :param workers: Get a queue for each stretch.
        """
        super().__init__(
            camera.track, camera.decoder, self._pass_on, camera.on_bad_image, camera.room
        )
        self.bad = camera.bad
        self._written = 0
        self._lock = threading.Lock()
        self._stretches = stretches
        self._workers = workers
        self._number = -1
        self._left = 0
        """Frames that are missing in the stretch."""
        self._task: _StretchTask | None = None
        self._queue: WorkerQueue | None = None

    def take(self, connection: Connection, ordinal: int, data: bytes) -> None:
        """
        Take a message, and pass on those of frames whose turn has come.

        :raises Exception: What a task of the workers raised before.
        :raises StalledError: No task is finished any more.
        :raises Cancelled: The user asked to stop.
        """
        message = _PictureMessage(ordinal, connection, data)
        self._hold(ordinal, lambda: message, len(data))

    @property
    def frames_written(self) -> int:
        """Frames that are written."""
        return self._written

    def count_written(self) -> None:
        """Count a frame that a thread has written."""
        with self._lock:
            self._written += 1

    def _pass_on(self, message: _PictureMessage) -> None:
        """Queue the message of the next frame."""
        if not self._left:
            self._number += 1
            frames = self._stretches.stretches[self._number]
            self._left = len(frames)
            self._queue = self._workers.queue(self.topic, rank=frames.start)
            self._task = _StretchTask(self, partial(self._stretches.stretch, self._number))
        if self._queue is None or self._task is None:
            raise RuntimeError('no stretch was begun')
        self._queue.submit(partial(self._task.write, message), len(message.data))
        self._left -= 1
        if not self._left:
            self._queue.close()
            self._queue = self._task = None


class _StretchTask:
    """Decodes and writes the frames of one stretch; used by one thread at a time."""

    def __init__(self, camera: ParallelCamera, open_writer: Callable[[], Stretch[Any]]) -> None:
        self._camera = camera
        self._decoder = camera.decoder.another()
        self._open_writer = open_writer
        self._writer: Stretch[Any] | None = None
        self._message: _PictureMessage | None = None
        """That was decoded last."""
        self._picture: Any = None

    def write(self, message: _PictureMessage) -> None:
        """
        Write the next frame.

        :raises ImageError: The picture cannot be decoded and must be.
        :raises BagError: The camera's messages are no pictures of its kind.
        """
        if message is not self._message:
            decode = partial(self._decoder.decode, message.connection, message.data)
            self._picture = self._camera.decoded(message.ordinal, decode)
            self._message = message
        if not self._camera.bad:
            if self._writer is None:
                self._writer = self._open_writer()
            self._writer.write(self._picture)
        self._camera.count_written()
