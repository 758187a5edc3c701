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
The original team's other methods, as references: same settings, same dataset.

They hold the whole bag decoded in memory and promise nothing about it; tests and the benchmark
compare :func:`kuavo_bag_converter.frames.stream.fill_frames` with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
import threading
from typing import Any

from kuavo_bag_converter.bags.model import BagReader, Connection, Message, Ordinals
from kuavo_bag_converter.frames.camera_sequence import CameraSequence
from kuavo_bag_converter.frames.pictures import PictureDecoder
from kuavo_bag_converter.frames.stream import fill_frames, Filler, FramesDone, Limits
from kuavo_bag_converter.frames.table import Table
from kuavo_bag_converter.support.errors import Cancelled, ImageError
import numpy as np


def _load_and_fill(
    reader: BagReader,
    table: Table,
    cameras: Sequence[CameraSequence[Any]],
    limits: Limits,
    *,
    progress: FramesDone,
    cancel: threading.Event,
    abandon: Callable[[], None],
    by_topic: bool,
) -> None:
    """
    Decode everything, keep it, then write.

    The bag is read once, or ``by_topic``, once for each as the original's load-everything method.

    :raises BagError: The bag is damaged or a message does not decode.
    :raises Cancelled: ``cancel`` was set.
    """
    del limits, abandon
    loaded = _LoadedBag(table, cameras, cancel)
    for topics in [{topic} for topic in sorted(loaded.topics)] if by_topic else [loaded.topics]:
        for message in reader.messages(loaded.all_of(reader, topics)):
            loaded.take(message)
    loaded.write(progress)


FILLERS: Mapping[str, Filler] = {
    'chunked': fill_frames,
    'streaming': partial(_load_and_fill, by_topic=False),
    'whole_bag': partial(_load_and_fill, by_topic=True),
}
"""By the names that the original team gave them; ``chunked`` is the product."""


class _LoadedBag:
    """The decoded messages of every topic that serves a frame."""

    def __init__(
        self, table: Table, cameras: Sequence[CameraSequence[Any]], cancel: threading.Event
    ) -> None:
        self.topics = table.topics | {camera.topic for camera in cameras}
        self._table = table
        self._cameras = cameras
        self._cancel = cancel
        self._numbers: list[tuple[Message, object]] = []
        self._pictures: list[list[tuple[Connection, int, object]]] = [[] for _ in cameras]

    @staticmethod
    def all_of(reader: BagReader, topics: AbstractSet[str]) -> dict[str, Ordinals]:
        """Return every ordinal of these topics, to be read."""
        return {topic: np.arange(reader.counts[topic], dtype=np.int64) for topic in sorted(topics)}

    def take(self, message: Message) -> None:
        """Decode a message for every feature that its topic serves, and keep the result."""
        self._check_cancelled()
        connection, data = message.connection, bytes(message.data)
        if connection.topic in self._table.topics:
            decoded = self._table.decode(message)
            self._numbers.append((message._replace(data=b''), decoded))
        for camera, pictures in zip(self._cameras, self._pictures, strict=True):
            if camera.topic == connection.topic:
                try:
                    picture: object = camera.decoder.decode(connection, data)
                except ImageError as error:
                    picture = error
                pictures.append((connection, message.ordinal, picture))

    def write(self, progress: FramesDone) -> None:
        """Write the frames."""
        for message, decoded in self._numbers:
            self._table.take(message.connection, message.ordinal, message.stamp, decoded)
        self._table.close()
        for camera, pictures in zip(self._cameras, self._pictures, strict=True):
            camera.decoder = PictureDecoder(lambda _: _Decoded(), is_stream=False)
            camera.room = None
            for connection, ordinal, picture in pictures:
                self._check_cancelled()
                camera.take(connection, ordinal, picture)  # type: ignore[arg-type]  # decoded
        progress(self._table.frames, self._table.frames)

    def _check_cancelled(self) -> None:
        if self._cancel.is_set():
            raise Cancelled


class _Decoded:
    """Stands in for a decoder where pictures are decoded already."""

    def decode(self, data: Any) -> Any:
        if isinstance(data, ImageError):
            raise data
        return data
