"""A bag in memory as a whole, decoded, and how a dataset is written from it."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace

import numpy as np

from kuavo_bag_converter.alignment.plan import Plan
from kuavo_bag_converter.bags.model import Connection, Message, Ordinals
from kuavo_bag_converter.frames.episode import BadPictures, Task, bad_pictures
from kuavo_bag_converter.frames.pictures import Picture, PictureDecoder
from kuavo_bag_converter.frames.table import Table
from kuavo_bag_converter.support.errors import ImageError


class LoadedBag:
    """The decoded messages of every topic that a binding uses."""

    def __init__(self, task: Task) -> None:
        """Begin with nothing loaded."""
        self._task = task
        self._numbers: list[tuple[Connection, int, int, object]] = []
        self._pictures: dict[str, list[tuple[Connection, int, Picture]]] = {
            camera.feature.key: [] for camera in task.binding.cameras
        }

    def all_of(self, topics: AbstractSet[str]) -> dict[str, Ordinals]:
        """Return every ordinal of these topics, to be read."""
        counts = self._task.reader.counts
        return {topic: np.arange(counts[topic], dtype=np.int64) for topic in sorted(topics)}

    def take(self, message: Message) -> None:
        """Decode a message for every feature that its topic serves, and keep the result.

        Raises:
            BagError: It does not decode.
            Cancelled: The user asked to stop.

        """
        task = self._task
        task.check_cancelled()
        connection, ordinal, data = message.connection, message.ordinal, bytes(message.data)
        if connection.topic in task.binding.vector_topics:
            decoded = task.definitions.decoder(connection)(data)
            self._numbers.append((connection, ordinal, message.stamp, decoded))
        for camera in task.binding.cameras:
            if camera.source.topic == connection.topic:
                key = camera.feature.key
                try:
                    picture = task.decoders[key].decode(connection, data)
                except ImageError as error:
                    picture = error
                self._pictures[key].append((connection, ordinal, picture))

    def write(self, plan: Plan) -> BadPictures:
        """Write the frames of a plan."""
        task = self._task
        target = task.open_target(plan)
        table = Table(task.binding, plan, task.definitions, task.chunk_size, target.append_rows)
        for connection, ordinal, stamp, decoded in self._numbers:
            table.take(connection, ordinal, stamp, decoded)
        table.close()
        decoded = PictureDecoder(lambda _: _Decoded(), is_stream=False)
        decoders = dict.fromkeys(self._pictures, decoded)
        cameras = replace(task, decoders=decoders, held_bytes=None).cameras(plan, target)
        for camera, pictures in zip(cameras, self._pictures.values(), strict=True):
            for connection, ordinal, picture in pictures:
                task.check_cancelled()
                camera.take(connection, ordinal, picture)
        task.progress(len(plan), len(plan))
        return bad_pictures(cameras)


class _Decoded:
    """Stands in for a decoder where pictures are decoded already."""

    def decode(self, data: Picture) -> Picture:
        if isinstance(data, ImageError):
            raise data
        return data

    def skip(self, data: Picture) -> None:
        """Ignore a picture that serves no frame."""
