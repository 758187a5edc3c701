"""A bag decoded in memory as a whole, and how a dataset is written from it."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import numpy as np

from kuavo_bag_converter.alignment import Plan
from kuavo_bag_converter.bags.model import Connection, Message, Ordinals
from kuavo_bag_converter.episode import Task
from kuavo_bag_converter.pictures import Picture
from kuavo_bag_converter.table import Table


class LoadedBag:
    """The decoded messages of every topic that a binding uses."""

    def __init__(self, task: Task) -> None:
        """Begin with nothing loaded."""
        self._task = task
        self._numbers: list[tuple[Connection, int, object]] = []
        self._pictures: dict[str, dict[int, Picture]] = {
            camera.feature.key: {} for camera in task.binding.cameras
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
        connection, ordinal = message.connection, message.ordinal
        if connection.topic in task.binding.vector_topics:
            decoded = task.definitions.decoder(connection)(bytes(message.data))
            self._numbers.append((connection, ordinal, decoded))
        for camera in task.binding.cameras:
            if camera.source.topic == connection.topic:
                key = camera.feature.key
                picture = task.decoders[key].decode(connection, bytes(message.data))
                self._pictures[key][ordinal] = picture

    def write(self, plan: Plan) -> None:
        """Write the frames of a plan."""
        task = self._task
        target = task.open_target(plan)
        table = Table(task.binding, plan, task.definitions, task.chunk_size, target.append_rows)
        for connection, ordinal, decoded in self._numbers:
            table.take(connection, ordinal, decoded)
        table.close()
        for camera in task.binding.cameras:
            key = camera.feature.key
            for ordinal in plan.tracks[camera.track].first.tolist():
                task.check_cancelled()
                target.write_picture[key](self._pictures[key][ordinal])
        task.progress(len(plan), len(plan))
