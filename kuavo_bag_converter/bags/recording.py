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

"""A recording that consists of one or more files: ordinals, header stamps, decompression."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from kuavo_bag_converter.bags.clock_steps import steps_back
from kuavo_bag_converter.bags.compression import CompressionError, decompress_message, ZSTD_MAGIC
from kuavo_bag_converter.bags.damage import DamagePolicy
from kuavo_bag_converter.bags.detect import container_of
from kuavo_bag_converter.bags.header_stamps import begins_with_header, HEAD, header_stamp
from kuavo_bag_converter.bags.model import Connection, Message, Ordinals, Stamps, TopicIndex
from kuavo_bag_converter.bags.rosbag2.qos import readable_qos
from kuavo_bag_converter.bags.storage import (
    Integers,
    Selection,
    Storage,
    StoredMessage,
    TopicCursor,
)
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.texts import listed, shown
import numpy as np

WHOLE_BYTES = 64 << 20
"""Bags up to this size are looked at whole."""


class RecordingReader:
    """Files read as one recording; implements :class:`.model.BagReader`."""

    def __init__(
        self,
        path: Path,
        storages: Sequence[Storage],
        portable: Sequence[Storage],
        damage: DamagePolicy,
        resources: ExitStack,
        backend: str,
        listed_qos: Mapping[str, object],
    ) -> None:
        """
        Join files into one recording.

        :param path: what the recording is known by.
        :param storages: its files in order, one at least.
        :param portable: the same files, read without ROS.
        :param damage: what to do with damage.
        :param resources: what :meth:`close` releases, files included.
        :param backend: who reads the payloads.
        :param listed_qos: QoS profiles by topic for what the files tell none of.
        """
        self.path = path
        self.container = storages[0].container
        self.backend = backend
        self.problems = damage.problems
        self._damage = damage
        self._listed_qos = listed_qos
        self.storages = storages
        """The files, in order."""
        self._portable = portable
        self._resources = resources
        self.connections: Sequence[Connection]
        self.connections, self._globals = _join_connections(storages)
        counts = {c.topic: 0 for c in self.connections}
        of_connections = [0] * len(self.connections)
        self._qos: list[object] = [None] * len(self.connections)
        for storage, places in zip(storages, self._globals, strict=True):
            for connection in storage.connections:
                count = storage.counts.get(connection.id, 0)
                counts[connection.topic] += count
                place = places[connection.id]
                of_connections[place] += count
                self._qos[place] = self._qos[place] or storage.qos.get(connection.id)
        self.connection_counts: Sequence[int] = of_connections
        self._counts = counts
        self.counts: Mapping[str, int] = counts
        self._orders: dict[str, Ordinals | None] = {}
        """Per topic that was indexed, the place in storage of each ordinal; None if identical."""
        self._backward: dict[str, int] = {}
        """Per topic that was indexed, its messages received before the one stored before."""
        self._steps: dict[str, list[int]] = {}
        """Per topic that was indexed, places in storage where its receive stamps step back."""
        self._sizes: dict[str, list[int]] = {}
        """Per topic that was indexed, its messages in each file."""
        self._broken: dict[str, list[int]] = {}
        """Places in storage of messages that are left out."""
        if damage.salvage:
            self._leave_out_broken()

    @property
    def compression(self) -> str | None:
        """How payloads are packed; see :class:`.model.BagReader`."""
        storage = self._portable[0]
        if storage.file != storage.path and container_of(storage.path) == 'zstd':
            return 'zstd file'
        every = {
            c.topic: TopicCursor(np.zeros(1, np.int64), np.zeros(1, np.int64))
            for c in storage.connections
        }
        selection = Selection(storage.connections, every)
        first = next(storage.messages(selection, len(ZSTD_MAGIC)), None)
        if first is None:
            return None
        encoding = storage.connections[first.connection].encoding
        packed = encoding == 'cdr' and first.data == ZSTD_MAGIC
        return 'zstd message' if packed else storage.compression

    @property
    def bytes_read(self) -> int:
        """Bytes read from disk so far; 0 for sqlite3, which does not tell."""
        return sum(storage.bytes_read for storage in self.storages)

    def index(
        self, topics: AbstractSet[str], header: AbstractSet[str] = frozenset()
    ) -> dict[str, TopicIndex]:
        """Collect stamps; see :class:`.model.BagReader`."""
        self._check_topics(topics | header)
        self.check_headers(header)
        receive = self._receive_stamps(topics | header)
        headers = self._header_stamps(header) if header else {}
        places = self._places(receive) if any(self._steps[topic] for topic in receive) else {}
        return {
            topic: TopicIndex(
                stamps,
                headers.get(topic),
                self._backward[topic],
                tuple(np.sort(places[topic])[self._steps[topic]].tolist()) if places else (),
                places.get(topic),
            )
            for topic, stamps in receive.items()
        }

    def messages(self, wanted: Mapping[str, Ordinals]) -> Iterator[Message]:
        """Stream the wanted messages once; see :class:`.model.BagReader`."""
        self._check_topics(wanted.keys())
        new = wanted.keys() - self._orders.keys()
        if new:
            self._receive_stamps(new)
        places: dict[str, tuple[Integers, Ordinals]] = {}
        for topic, ordinals in wanted.items():
            unique = np.unique(np.asarray(ordinals, np.int64))
            count = self.counts[topic]
            if len(unique) and (unique[0] < 0 or unique[-1] >= count):
                raise BagError(
                    f'{self.path}: {shown(topic)}: message {unique[-1]} was asked for, '
                    f'the topic has {count}'
                )
            places[topic] = _in_storage_order(unique, self._orders[topic])
        for storage, connection, stored in self._stored(places, None):
            data = self._plain(storage, connection, stored)
            yield Message(connection, stored.rank, stored.stamp, data)

    def first_messages(self, topic: str, limit: int) -> Iterator[Message]:
        """Stream the messages of a topic that are stored first; see :class:`.model.BagReader`."""
        self._check_topics({topic})
        broken = self._broken.get(topic, [])
        kept = np.setdiff1d(np.arange(limit + len(broken)), broken)[:limit]
        begin = 0
        for number, storage in enumerate(self._portable):
            mine = [c.id for c in storage.connections if c.topic == topic]
            end = begin + sum(storage.counts.get(connection, 0) for connection in mine)
            positions = kept[(kept >= begin) & (kept < end)]
            cursors = {topic: TopicCursor(positions - begin, positions)}
            begin = end
            if not len(positions):
                continue
            for stored in storage.messages(Selection(storage.connections, cursors)):
                connection = self.connections[self._globals[number][stored.connection]]
                data = self._plain(storage, connection, stored)
                yield Message(connection, stored.rank, stored.stamp, data)

    def verify_rest(self, *, needed: bool = False) -> None:
        """Note damage of what was not read; see :class:`.model.BagReader`."""
        if sum(storage.file.stat().st_size for storage in self.storages) <= WHOLE_BYTES:
            for storage in self.storages:
                storage.verify_rest(needed=needed)

    def qos(self, connection: Connection) -> list[dict[str, Any]]:
        """Return offered QoS profiles; see :class:`.model.BagReader`."""
        return readable_qos(self._qos[connection.id] or self._listed_qos.get(connection.topic))

    def close(self) -> None:
        """Release files and temporary files."""
        self._resources.close()

    def __enter__(self) -> RecordingReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_topics(self, topics: Iterable[str]) -> None:
        missing = sorted(set(topics) - self.counts.keys())
        self._damage.check_topics(sorted(set(topics)))
        if missing:
            raise BagError(
                f'{self.path}: no topic {listed(missing)}; '
                f'there are {listed(sorted(self.counts)) or "no topics at all"}'
            )

    def check_headers(self, topics: AbstractSet[str]) -> None:
        """Check that topics have header stamps; see :class:`.model.BagReader`."""
        for connection in self.connections:
            if connection.topic not in topics:
                continue
            if connection.encoding not in {'ros1', 'cdr'} or not begins_with_header(connection):
                raise BagError(
                    f'{self.path}: {connection.label}: {shown(connection.msgtype)} '
                    f'({shown(connection.encoding)}) does not begin with a std_msgs/Header, '
                    f'so it has no header stamps; use timeline: bag or a stamp_field for it'
                )

    def _receive_stamps(self, topics: AbstractSet[str]) -> dict[str, Stamps]:
        parts = [storage.stamps(topics) for storage in self.storages]
        receive: dict[str, Stamps] = {}
        for topic in topics:
            columns = [part[topic] for part in parts]
            stamps = columns[0] if len(columns) == 1 else np.concatenate(columns)
            self._sizes[topic] = [len(column) for column in columns]
            self._backward[topic] = int(np.sum(stamps[1:] < stamps[:-1]))
            self._steps[topic] = []
            self._orders[topic] = None
            if self._backward[topic] or topic in self._broken:
                kept = np.delete(np.arange(len(stamps)), self._broken.get(topic, []))
                self._orders[topic] = order = kept[np.argsort(stamps[kept], kind='stable')]
                begins = np.searchsorted(kept, np.cumsum(self._sizes[topic])).tolist()
                self._steps[topic] = steps_back(stamps[kept], begins)
                stamps = stamps[order]
            receive[topic] = stamps
        return receive

    def _places(self, topics: Iterable[str]) -> dict[str, Ordinals]:
        """Return the place of each message among those of all the topics, as they are stored."""
        found = {topic: np.zeros(self.counts[topic], np.int64) for topic in topics}
        every = {
            topic: _in_storage_order(np.arange(len(column)), self._orders[topic])
            for topic, column in found.items()
        }
        for place, (_, connection, stored) in enumerate(self._stored(every, 0)):
            found[connection.topic][stored.rank] = place
        return found

    def _header_stamps(self, topics: AbstractSet[str]) -> dict[str, Stamps]:
        columns: dict[str, Stamps] = {
            topic: np.zeros(self.counts[topic], np.int64) for topic in topics
        }
        places: dict[str, tuple[Integers, Ordinals]] = {}
        for topic, column in columns.items():
            ordinals = np.arange(len(column))
            places[topic] = _in_storage_order(ordinals, self._orders[topic])
        packed: set[str] = set()
        for storage, connection, stored in self._stored(places, HEAD):
            if stored.data[:4] == ZSTD_MAGIC:
                packed.add(connection.topic)
            else:
                self._put_header(columns, storage, connection, stored, stored.data)
        whole = {topic: places[topic] for topic in packed}
        for storage, connection, stored in self._stored(whole, None):
            data = self._plain(storage, connection, stored)
            self._put_header(columns, storage, connection, stored, data)
        return columns

    def _put_header(
        self,
        columns: Mapping[str, Stamps],
        storage: Storage,
        connection: Connection,
        stored: StoredMessage,
        head: bytes | memoryview,
    ) -> None:
        stamp = header_stamp(connection.encoding, head)
        if stamp is None:
            self._damage.report(
                storage.path,
                f'{connection.label}: message {stored.rank} is too short for a header',
            )
        else:
            columns[connection.topic][stored.rank] = stamp

    def _stored(
        self, places: Mapping[str, tuple[Integers, Ordinals]], head: int | None
    ) -> Iterator[tuple[Storage, Connection, StoredMessage]]:
        """Yield chosen messages of all files; ``places`` are (place in storage, rank) by topic."""
        begins = dict.fromkeys(places, 0)
        for number, storage in enumerate(self.storages):
            cursors: dict[str, TopicCursor] = {}
            for topic, (positions, ranks) in places.items():
                begin = begins[topic]
                begins[topic] = end = begin + self._sizes[topic][number]
                low, high = np.searchsorted(positions, (begin, end))
                cursors[topic] = TopicCursor(positions[low:high] - begin, ranks[low:high])
            for stored in storage.messages(Selection(storage.connections, cursors), head):
                place = self._globals[number][stored.connection]
                yield storage, self.connections[place], stored
            for topic, cursor in cursors.items():
                if cursor.missing:
                    raise BagError(
                        f'{storage.path}: {shown(topic)}: {cursor.missing} messages that the '
                        f'index lists are not there'
                    )

    def _leave_out_broken(self) -> None:
        """Find the messages of a message-compressed recording that cannot be decompressed."""
        topics = {c.topic for c in self.connections if c.encoding == 'cdr'}
        self._receive_stamps(topics)
        firsts = {t: (np.arange(1), np.arange(1)) for t in topics if self.counts[t]}
        packed = {
            connection.topic
            for _, connection, stored in self._stored(firsts, len(ZSTD_MAGIC))
            if stored.data == ZSTD_MAGIC
        }
        ranks = {topic: np.arange(self.counts[topic]) for topic in packed}
        places = {topic: (rank, rank) for topic, rank in ranks.items()}
        for storage, connection, stored in self._stored(places, None):
            if self._is_broken(storage, connection, stored):
                self._broken.setdefault(connection.topic, []).append(stored.rank)
        for topic, broken in self._broken.items():
            self._counts[topic] -= len(broken)
            self._damage.note(
                f'{self.path}: {shown(topic)}: {len(broken)} messages that cannot be decompressed '
                f'are lost'
            )

    def _is_broken(self, storage: Storage, connection: Connection, stored: StoredMessage) -> bool:
        try:
            self._plain(storage, connection, stored)
        except BagError as error:
            self._damage.report_error(error)
            return True
        return False

    def _plain(
        self, storage: Storage, connection: Connection, stored: StoredMessage
    ) -> bytes | memoryview:
        """
        Payload, decompressed if it is a zstd frame, which no CDR message looks like.

        :raises BagError: it is neither a CDR message nor a zstd frame.
        """
        data = stored.data
        if connection.encoding != 'cdr' or data[:1] == b'\0':
            return data
        where = f'{storage.path}: {connection.label}: message {stored.rank}'
        if data[:4] != ZSTD_MAGIC:
            raise BagError(f'{where}: is no CDR message: it begins with {bytes(data[:4])!r}')
        try:
            return decompress_message(data)
        except CompressionError as error:
            raise BagError(f'{where}: {error}') from None


def _in_storage_order(ordinals: Ordinals, order: Ordinals | None) -> tuple[Integers, Ordinals]:
    if order is None:
        return ordinals, ordinals
    places = order[ordinals]
    by_place = np.argsort(places)
    return places[by_place], ordinals[by_place]


def _join_connections(
    storages: Sequence[Storage],
) -> tuple[list[Connection], list[list[int]]]:
    """
    One list for all files, and for each file where in that list its connections are.

    The n-th of several equal declarations in one file is the n-th of them in the next.
    """
    joined: list[Connection] = []
    places: list[list[int]] = []
    known: dict[tuple[Connection, int], int] = {}
    for storage in storages:
        seen: dict[Connection, int] = {}
        local: list[int] = []
        for connection in storage.connections:
            key = connection._replace(id=0)
            seen[key] = seen.get(key, 0) + 1
            place = known.get((key, seen[key]))
            if place is None:
                place = known[key, seen[key]] = len(joined)
                joined.append(connection._replace(id=place))
            local.append(place)
        places.append(local)
    return joined, places
