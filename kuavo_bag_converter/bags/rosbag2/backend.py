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
Payloads through rosbag2_py, checked against the portable index of the same files.

rosbag2_py has no index, loses messages of damaged files without an error and believes
metadata.yaml. So topics, definitions, counts and stamps come from the portable reader; rosbag2_py
is given one file at a time by its path and streams it from the beginning. That needs no
metadata.yaml, leaves nothing in the bag's folder (compressed files are decompressed to a temporary
one before), and never seeks. Compressed messages are decompressed by the caller.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from kuavo_bag_converter.bags.damage import DamagePolicy
from kuavo_bag_converter.bags.model import Stamps
from kuavo_bag_converter.bags.storage import Selection, Storage, StoredMessage
from kuavo_bag_converter.bags.storage_plugins import BagMessage, ScannedStorage
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.texts import quoted, shown
import numpy as np
import rosbag2_py

_ADVICE = 'set reader: portable to read without it'
_ERRORS = (RuntimeError, ValueError, IndexError, OSError)
"""What rosbag2_py raises; pybind11 makes these of C++ exceptions."""


class Rosbag2PyStorage(Storage):
    """One ``.mcap`` or ``.db3`` file."""

    def __init__(self, index: Storage, damage: DamagePolicy) -> None:
        """
        Open a file that the portable reader has opened.

        :raises BagError: rosbag2_py cannot open it.
        """
        self._index = index
        self._damage = damage
        self.path = index.path
        self.file = index.file
        self.container = index.container
        self.connections = index.connections
        self.counts = index.counts
        self.qos = index.qos
        try:
            reader, self._by_place = _open(self.file, self.container)
        except _ERRORS as error:
            raise self._failure(error) from None
        _close(reader)

    @property
    def compression(self) -> str:
        """How the first chunk is packed; see :class:`Storage`."""
        return self._index.compression

    @property
    def bytes_read(self) -> int:
        """Bytes read of the index; rosbag2_py does not tell."""
        return self._index.bytes_read

    def stamps(self, topics: Collection[str]) -> dict[str, Stamps]:
        """Receive stamps in the order in which rosbag2_py yields the messages."""
        stamps = self._index.stamps(topics)
        if self._by_place:
            return stamps
        return {topic: np.sort(column) for topic, column in stamps.items()}

    def messages(self, selection: Selection, head: int | None = None) -> Iterator[StoredMessage]:
        """Yield selected messages; see :class:`Storage`."""
        first = {c.topic: c.id for c in reversed(self.connections) if selection.slots[c.id] >= 0}
        if not selection.missing:
            return
        self.verify(first)
        expected = self.stamps(first)
        seen = dict.fromkeys(first, 0)
        for topic, data, stamp in self._stream(sorted(first)):
            if topic not in first:
                continue
            place = seen[topic]
            seen[topic] += 1
            if place >= len(expected[topic]) or expected[topic][place] != stamp:
                self._damage.report(
                    self.path,
                    f'{shown(topic)}: message {place} of rosbag2_py has stamp {stamp} ns, '
                    f'which is not what the index lists; {_ADVICE}',
                )
                return
            rank = selection.step(first[topic])
            if rank is not None:
                yield StoredMessage(
                    first[topic], rank, stamp, data if head is None else data[:head]
                )
            if not selection.missing:
                return
        for topic, count in seen.items():
            if count != len(expected[topic]):
                self._damage.report(
                    self.path,
                    f'{shown(topic)}: rosbag2_py read {count} messages, '
                    f'the index lists {len(expected[topic])}; {_ADVICE}',
                )

    def verify(self, topics: Collection[str]) -> None:
        """Verify the checksums, which rosbag2_py does not; see :class:`Storage`."""
        self._index.verify(topics)

    def verify_rest(self, *, needed: bool = False) -> None:
        """Note damage of what was not read; see :class:`Storage`."""
        self._index.verify_rest(needed=needed)

    def close(self) -> None:
        """Release the file."""
        self._index.close()

    def _stream(self, topics: list[str]) -> Iterator[tuple[str, bytes, int]]:
        try:
            reader, _ = _open(self.file, self.container)
            reader.set_filter(rosbag2_py.StorageFilter(topics=topics))
            yield from _taken(reader)
            _close(reader)
        except _ERRORS as error:
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> BagError:
        reason = ' '.join(str(error).split())
        return BagError(f'{self.path}: rosbag2_py: {reason}; {_ADVICE}')


def open_by_rosbag2(file: Path, storage: str, damage: DamagePolicy) -> Storage:
    """
    Open a file that only a storage plugin of rosbag2 reads; it is scanned from its beginning.

    :param file: It.
    :param storage: Name of the plugin.
    :param damage: What to do with damage.
    :raises BagError: It cannot be opened, or is damaged and that is not allowed.
    """
    try:
        reader, _ = _open(file, storage)
    except _ERRORS as error:
        raise BagError(
            f'{file}: rosbag2_py cannot open it by the storage plugin {quoted(storage)} '
            f'({" ".join(str(error).split())}); install the plugin where this runs'
        ) from None
    _close(reader)
    scanned = ScannedStorage(file, partial(_messages, storage), damage)
    scanned.container = storage
    return scanned


def _messages(storage: str, file: Path) -> Iterator[BagMessage]:
    reader, _ = _open(file, storage)
    topics = {topic.name: topic for topic in reader.get_all_topics_and_types()}
    # Humble tells no definitions.
    definitions = {
        found.topic_type: found.encoded_message_definition
        for found in getattr(reader, 'get_all_message_definitions', list)()
        if found.encoding == 'ros2msg'
    }
    for name, data, stamp in _taken(reader):
        topic = topics[name]
        definition = definitions.get(topic.type, '')
        yield BagMessage(name, topic.type, stamp, data, topic.serialization_format, definition)
    _close(reader)


def _taken(reader: Any) -> Iterator[tuple[str, bytes, int]]:
    """Yield topic, payload and receive stamp of each message."""
    # Since Lyrical read_next() warns at every call; the longer form adds the send time.
    read_next = getattr(reader, 'read_next_ext', reader.read_next)
    while reader.has_next():
        topic, data, stamp = read_next()[:3]
        yield topic, data, stamp


def _open(file: Path, container: str) -> tuple[Any, bool]:
    """
    Open a file by rosbag2_py; the reader, and whether it yields by place instead of stamp.

    Order by place exists since Jazzy, and for mcap alone.
    """
    reader = rosbag2_py.SequentialReader()
    reader.open(
        rosbag2_py.StorageOptions(uri=str(file), storage_id=container),
        rosbag2_py.ConverterOptions(input_serialization_format='', output_serialization_format=''),
    )
    if not hasattr(reader, 'set_read_order') or container != 'mcap':
        return reader, False
    order = rosbag2_py.ReadOrder(sort_by=rosbag2_py.ReadOrderSortBy.File, reverse=False)
    return reader, bool(reader.set_read_order(order))


def _close(reader: Any) -> None:
    """Close a reader; before Jazzy 0.26.7 only its end does."""
    if hasattr(reader, 'close'):
        reader.close()
