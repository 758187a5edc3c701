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
What every file format gives: its topics, stamps in storage order, and chosen payloads.

Ranks here are in *storage order*; :mod:`.recording` turns them into ordinals.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kuavo_bag_converter.bags.damage import range_text
from kuavo_bag_converter.bags.model import Connection, Ordinals, Stamps
import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


class MessageRows(NamedTuple):
    """A stretch of a file's messages in storage order; three arrays of one length."""

    connection: Integers
    """Position in the file's ``connections``."""
    stamp: Stamps
    """Receive stamps, ns."""
    offset: Integers
    """Where the record is, within the chunk's data or the file, as the format means it."""


class StoredMessage(NamedTuple):
    """One message as a file yields it."""

    connection: int
    """Position in the file's ``connections``."""
    rank: int
    """As the cursor of its topic names it."""
    stamp: int
    data: bytes | memoryview


class TopicCursor:
    """The wanted messages of one topic of one file, taken in storage order."""

    def __init__(self, positions: Integers, ranks: Ordinals) -> None:
        """Hold ``positions``, ascending ranks in storage order, and what each is to be called."""
        self.positions = positions
        self.ranks = ranks
        self._seen = 0
        self._next = 0

    def wants(self, count: int) -> bool:
        """Tell whether one of the next ``count`` messages is wanted."""
        return (
            self._next < len(self.positions)
            and int(self.positions[self._next]) < self._seen + count
        )

    def advance(self, count: int) -> slice:
        """Pass ``count`` messages; the slice holds the wanted ones among them."""
        first = self._next
        self._seen += count
        if first < len(self.positions) and self.positions[first] < self._seen:
            rest = self.positions[first:]
            self._next += int(np.searchsorted(rest, self._seen))
        return slice(first, self._next)

    def take(self, count: int) -> tuple[Integers, Ordinals]:
        """Pass ``count`` messages; wanted ones are counted from the first of them."""
        begin = self._seen
        chosen = self.advance(count)
        return self.positions[chosen] - begin, self.ranks[chosen]

    def step(self) -> int | None:
        """Pass one message; its rank if it is wanted."""
        begin = self._next
        chosen = self.advance(1)
        return int(self.ranks[begin]) if chosen.stop > begin else None

    @property
    def missing(self) -> int:
        """How many wanted messages have not come yet."""
        return len(self.positions) - self._next


class SelectedRows(NamedTuple):
    """Wanted rows of a stretch, ascending, and the ranks they are to be called by."""

    rows: Integers
    ranks: Ordinals


class Selection:
    """The wanted messages of one file, topic by topic."""

    def __init__(
        self, connections: Sequence[Connection], cursors: Mapping[str, TopicCursor]
    ) -> None:
        self._cursors = list(cursors.values())
        slots = {topic: slot for slot, topic in enumerate(cursors)}
        self.slots = np.array([slots.get(c.topic, -1) for c in connections], dtype=np.int64)
        """Slot of each connection, -1 where its topic is not wanted."""

    def wants(self, counts: Mapping[int, int]) -> bool:
        """
        Tell whether a stretch with so many messages per connection holds a wanted one.

        A stretch that holds none is passed.
        """
        totals: dict[int, int] = {}
        for connection, count in counts.items():
            slot = int(self.slots[connection])
            if slot >= 0:
                totals[slot] = totals.get(slot, 0) + count
        if any(self._cursors[slot].wants(count) for slot, count in totals.items()):
            return True
        for slot, count in totals.items():
            self._cursors[slot].advance(count)
        return False

    def step(self, connection: int) -> int | None:
        """Pass one message of a connection; its rank if it is wanted."""
        slot = int(self.slots[connection])
        return self._cursors[slot].step() if slot >= 0 else None

    @property
    def missing(self) -> int:
        """How many wanted messages have not come yet."""
        return sum(cursor.missing for cursor in self._cursors)

    def select(self, connection: Integers) -> SelectedRows:
        """Pass a stretch given by its rows' connections, and choose the wanted rows."""
        slots = self.slots[connection]
        rows: list[Integers] = []
        ranks: list[Ordinals] = []
        for slot, cursor in enumerate(self._cursors):
            where = np.flatnonzero(slots == slot)
            if len(where):
                chosen, called = cursor.take(len(where))
                rows.append(where[chosen])
                ranks.append(called)
        if not rows:
            return SelectedRows(np.empty(0, np.int64), np.empty(0, np.int64))
        row, rank = np.concatenate(rows), np.concatenate(ranks)
        order = np.argsort(row)
        return SelectedRows(row[order], rank[order])


class StampColumns:
    """Stamps of chosen topics in storage order, growing stretch by stretch."""

    def __init__(
        self, connections: Sequence[Connection], topics: Collection[str] | None = None
    ) -> None:
        """Collect ``topics``, or all; ``connections`` may grow meanwhile."""
        self._connections = connections
        self._topics = topics
        self._columns: dict[str, array[int]] = {}
        self._counts: list[int] = []

    def add(self, rows: MessageRows) -> None:
        """Append a stretch."""
        found = np.bincount(rows.connection, minlength=len(self._connections))
        self._counts.extend([0] * (len(found) - len(self._counts)))
        topics: dict[str, list[int]] = {}
        for connection in np.flatnonzero(found).tolist():
            self._counts[connection] += int(found[connection])
            topic = self._connections[connection].topic
            if self._topics is None or topic in self._topics:
                topics.setdefault(topic, []).append(connection)
        for topic, members in topics.items():
            mask = rows.connection == members[0]
            for member in members[1:]:
                mask |= rows.connection == member
            column = self._columns.setdefault(topic, array('q'))
            column.frombytes(rows.stamp[mask].tobytes())

    def count(self, connection: int) -> int:
        """Messages of a connection so far, whether or not its topic is collected."""
        return self._counts[connection] if connection < len(self._counts) else 0

    def range(self) -> str:  # noqa: A003
        """Text of the range of all stamps so far, '' for none."""
        columns = [self.stamps(topic) for topic, column in self._columns.items() if len(column)]
        if not columns:
            return ''
        first, last = min(int(c.min()) for c in columns), max(int(c.max()) for c in columns)
        return f' {range_text(first, last)}'

    def stamps(self, topic: str) -> Stamps:
        """Stamps of one topic so far, in storage order."""
        return np.frombuffer(self._columns.get(topic, array('q')), np.int64)


class Storage(ABC):
    """One file of a recording."""

    path: Path
    """What users know it by."""
    file: Path
    """What is read: ``path``, or a temporary copy of it."""
    container: str
    connections: Sequence[Connection]
    """Numbered from 0 within this file."""
    counts: Mapping[int, int]
    """Messages per connection as the file itself stores them."""
    qos: Mapping[int, str]
    """Offered QoS profiles per connection as the file words them (YAML), where it has any."""

    @property
    def compression(self) -> str:
        """
        How the first chunk is packed: ``lz4``, ``bz2``, ``zstd``, or '' for not at all.

        :raises BagError: damage was found.
        """
        return ''

    @property
    def bytes_read(self) -> int:
        """Bytes read from disk so far, 0 where it cannot be told."""
        return 0

    @abstractmethod
    def stamps(self, topics: Collection[str]) -> dict[str, Stamps]:
        """
        Receive stamps in storage order.

        :raises BagError: damage was found.
        """

    @abstractmethod
    def messages(self, selection: Selection, head: int | None = None) -> Iterator[StoredMessage]:
        """
        Yield the selected messages in storage order, or the first ``head`` bytes of each.

        :raises BagError: damage was found.
        """

    def verify(self, topics: Collection[str]) -> None:  # noqa: B027  # optional
        """
        Verify the checksums of what holds messages of the topics, where there are any.

        :raises BagError: a checksum is wrong.
        """

    def verify_rest(self, *, needed: bool = False) -> None:  # noqa: B027  # optional
        """
        Look for damage in what was not read yet, and note it.

        :raises BagError: damage was found, and what lies there is ``needed``, too.
        """

    def close(self) -> None:  # noqa: B027  # optional
        """Release the file."""
