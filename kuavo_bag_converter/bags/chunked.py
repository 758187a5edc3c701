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
What ROS 1 bags and MCAP files share: messages in chunks, with an index beside each chunk.

With an index, stamps come from it alone, and of a chunk only what is needed is read. Without one,
or to salvage, the file is scanned once when it is opened: stamps are kept, chunks remembered.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
import zlib

from kuavo_bag_converter.bags.byte_readers import BagFile, read_ranges
from kuavo_bag_converter.bags.compression import CompressionError, decompress, decompress_prefix
from kuavo_bag_converter.bags.damage import DamagedError, DamagePolicy
from kuavo_bag_converter.bags.model import Connection, Stamps
from kuavo_bag_converter.bags.storage import (
    MessageRows,
    SelectedRows,
    Selection,
    StampColumns,
    Storage,
    StoredMessage,
)
import numpy as np
import numpy.typing as npt

BATCH = 1024 * 1024
"""Bytes of index entries that the index pass turns into rows at a time."""
HEAD_SLACK = 128
"""Bytes of a record that are read besides the head of its payload."""


class StoredChunk(NamedTuple):
    """Where a chunk's data is, and how it is packed."""

    offset: int
    """Of its record."""
    data: int
    """Offset of the (compressed) data."""
    length: int
    """Bytes of (compressed) data."""
    compression: str
    """'' for none."""
    size: int
    """Bytes of decompressed data."""
    crc: int = 0
    """CRC-32 of the decompressed data, 0 for none."""
    cut: bool = False
    """The file ends, or becomes unreadable, within this chunk."""

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.data + self.length


class ScannedChunk(NamedTuple):
    """A chunk that a scan has found."""

    chunk: StoredChunk
    messages: int
    """How many of its messages, from the first on, can be read."""


class IndexEntries(NamedTuple):
    """Index entries of one connection in one chunk, as the file stores them."""

    chunk: int
    connection: int
    raw: bytes


class MessageRecord(NamedTuple):
    """A message record that was parsed: what it is, and where its payload is in the record."""

    connection: int
    stamp: int
    begin: int
    length: int


_RECENT = 16
"""Chunks whose index is kept: a short bag is gone through several times."""


class ScannedRows(NamedTuple):
    """Rows of a chunk that was read without an index, and what stopped the reading."""

    rows: MessageRows
    error: DamagedError | None
    end: int = 0
    """Where the first record behind them begins."""


class ChunkedStorage(Storage):
    """A file of chunks."""

    entry: np.dtype[np.void]
    """An index entry, with a field ``offset`` within the chunk's data."""
    entry_stamps: Callable[[npt.NDArray[np.void]], Stamps]
    """Takes the stamps of index entries."""

    def __init__(self, path: Path, damage: DamagePolicy, shown: Path | None = None) -> None:
        self.path = shown or path
        self.file = path
        self.connections: list[Connection] = []
        self.counts: dict[int, int] = {}
        self.qos: dict[int, str] = {}
        self._damage = damage
        self._source = BagFile(path, shown)
        self._scanned: StampColumns | None = None
        self._verified: set[int] = set()
        """Offsets of chunks that were read whole."""
        self._chunks: list[ScannedChunk] = []
        """What a scan has found."""
        self._recent: dict[int, MessageRows] = {}

    @property
    def compression(self) -> str:
        """How the first chunk is packed; see :class:`Storage`."""
        if self._scanned is not None:
            return self._chunks[0].chunk.compression if self._chunks else ''
        try:
            return self._chunk_at(0).compression if self._chunk_count() else ''
        except DamagedError as error:
            self._damage.report(self.path, error)
            return ''

    @property
    def bytes_read(self) -> int:
        """Bytes read from disk so far."""
        return self._source.bytes_read

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    @abstractmethod
    def _chunk_count(self) -> int:
        """Count the chunks of the index."""

    @abstractmethod
    def _chunk_holds(self, number: int, selection: Selection) -> bool:
        """Tell whether an indexed chunk may hold selected messages; pass it if not."""

    @abstractmethod
    def _chunk_connections(self, number: int) -> Collection[int]:
        """Return which connections have messages in an indexed chunk."""

    @abstractmethod
    def _chunk_at(self, number: int) -> StoredChunk:
        """Read an indexed chunk's header."""

    @abstractmethod
    def _chunk_index(self, number: int) -> list[IndexEntries]:
        """Read an indexed chunk's index."""

    @abstractmethod
    def _read_rows(self, chunk: StoredChunk, data: bytes | None) -> ScannedRows:
        """Rows of a chunk without index, from its data or, where that is None, from the file."""

    @abstractmethod
    def _parse(self, record: memoryview) -> MessageRecord | None:
        """Parse the message record that ``record`` begins with; None where that is too short."""

    def _plainly_right(self, chunk: StoredChunk, rows: MessageRows) -> npt.NDArray[np.bool_]:
        """
        Tell which messages of a chunk that is not loaded are quickly seen to be as indexed.

        The others are parsed one by one.
        """
        del chunk
        return np.zeros(len(rows.stamp), np.bool_)

    def stamps(self, topics: Collection[str]) -> dict[str, Stamps]:
        """Receive stamps in storage order; see :class:`Storage`."""
        columns = self._scanned
        if columns is None:
            columns = StampColumns(self.connections, topics)
            try:
                self._collect(columns, topics)
            except DamagedError as error:
                self._damage.report(self.path, error)
        return {topic: columns.stamps(topic) for topic in topics}

    def messages(self, selection: Selection, head: int | None = None) -> Iterator[StoredMessage]:
        """Yield selected messages; see :class:`Storage`."""
        try:
            for chunk, rows, data in self._selected_chunks(selection):
                selected = selection.select(rows.connection)
                if len(selected.rows):
                    yield from self._selected(chunk, rows, selected, data, head)
        except DamagedError as error:
            self._damage.report(self.path, error)

    def verify(self, topics: Collection[str]) -> None:
        """Verify the checksums of chunks; a scan has done so already."""
        if self._scanned is not None:
            return
        try:
            for number in range(self._chunk_count()):
                places = self._chunk_connections(number)
                if any(self.connections[place].topic in topics for place in places):
                    chunk = self._chunk_at(number)
                    if needs_loading(chunk):
                        self._loaded(chunk)
        except DamagedError as error:
            self._damage.report(self.path, error)

    def verify_rest(self, *, needed: bool = False) -> None:
        """Note damage of what was not read; see :class:`Storage`."""
        if self._scanned is not None:
            return
        try:
            for number in range(self._chunk_count()):
                chunk = self._chunk_at(number)
                if chunk.offset in self._verified:
                    continue
                if needs_loading(chunk):
                    load_chunk(self._source, chunk)
                    continue
                rows = self._rows_of(number)
                rest = np.flatnonzero(~self._plainly_right(chunk, rows))
                for _ in self._selected(chunk, rows, SelectedRows(rest, rest), None, 0):
                    pass
        except DamagedError as error:
            self._damage.note_unused(self.path, error, needed=needed)

    def _loaded(self, chunk: StoredChunk) -> bytes:
        data = load_chunk(self._source, chunk)
        self._verified.add(chunk.offset)
        return data

    def _collect(self, columns: StampColumns, topics: Collection[str]) -> None:
        waiting: list[IndexEntries] = []
        size = 0
        for number in range(self._chunk_count()):
            for entries in self._chunk_index(number):
                waiting.append(entries)
                size += len(entries.raw)
            if size >= BATCH:
                columns.add(self._rows(waiting))
                waiting, size = [], 0
        if waiting:
            columns.add(self._rows(waiting))
        for connection in self.connections:
            listed, stated = columns.count(connection.id), self.counts.get(connection.id, 0)
            if listed != stated:
                what = (
                    f'{connection.label}: the index lists {listed} messages, '
                    f'the file says that it holds {stated}'
                )
                if connection.topic in topics:
                    self._damage.report(self.path, what)
                else:
                    self._damage.note_unused(self.path, what)

    def _count_scanned(self, stated: Mapping[int, int] | None) -> None:
        """Count what a scan has found, and compare it with what the file promises."""
        columns = self._scanned
        if columns is None:
            return
        self.counts = {c.id: columns.count(c.id) for c in self.connections}
        read = sum(self.counts.values())
        lost: dict[str, int] = {}
        for connection, count in (stated or {}).items():
            found = self.counts.get(connection, 0)
            if count > found:
                topic = self.connections[connection].label
                lost[topic] = lost.get(topic, 0) + count - found
            if count < found:
                topic = self.connections[connection].label
                self._damage.note(
                    f'{self.path}: {topic}: {found} messages were found, '
                    f'the file says that it holds {count}'
                )
        if lost:
            each = ', '.join(f'{count} of {topic}' for topic, count in lost.items())
            self._damage.report(
                self.path,
                f'{sum(lost.values())} of the {sum((stated or {}).values())} messages that the '
                f'file says it holds are lost: {each}',
            )
        if self._damage.count:
            if stated and not lost:
                total = sum(stated.values())
                held = f'of the {total} messages that the file says it holds'
                self._damage.note(f'{self.path}: {held}, none is lost')
            self._damage.note(f'{self.path}: salvaged {read} messages{columns.range()}')

    def _rows_of(self, number: int) -> MessageRows:
        """Return the rows of an indexed chunk; those of the last few are kept."""
        rows = self._recent.get(number)
        if rows is None:
            rows = self._rows(self._chunk_index(number))
            if len(self._recent) == _RECENT:
                self._recent.clear()
            self._recent[number] = rows
        return rows

    def _rows(self, entries: Sequence[IndexEntries]) -> MessageRows:
        table = np.frombuffer(b''.join(e.raw for e in entries), self.entry)
        counts = [len(e.raw) // self.entry.itemsize for e in entries]
        chunk = np.repeat(np.array([e.chunk for e in entries], np.int64), counts)
        connection = np.repeat(np.array([e.connection for e in entries], np.int64), counts)
        offset = table['offset'].astype(np.int64)
        order = np.lexsort((offset, chunk))
        return MessageRows(connection[order], self.entry_stamps(table)[order], offset[order])

    def _selected_chunks(
        self, selection: Selection
    ) -> Iterator[tuple[StoredChunk, MessageRows, bytes | None]]:
        if self._scanned is None:
            for number in range(self._chunk_count()):
                if self._chunk_holds(number, selection):
                    yield self._chunk_at(number), self._rows_of(number), None
        else:
            for chunk, count in self._chunks:
                data = load_chunk(self._source, chunk) if needs_loading(chunk) else None
                rows = self._read_rows(chunk, data).rows
                yield chunk, MessageRows(*(column[:count] for column in rows)), data

    def _selected(
        self,
        chunk: StoredChunk,
        rows: MessageRows,
        selected: SelectedRows,
        data: bytes | None,
        head: int | None,
    ) -> Iterator[StoredMessage]:
        starts = rows.offset[selected.rows].tolist()
        ends = np.append(rows.offset, chunk.size)[selected.rows + 1].tolist()
        if data is None and needs_loading(chunk):
            data = self._loaded(chunk)
        if data is not None:
            whole = memoryview(data)
            records: Iterator[memoryview] = (whole[a:b] for a, b in zip(starts, ends, strict=True))
        else:
            stops = (
                ends
                if head is None
                else [min(b, a + head + HEAD_SLACK) for a, b in zip(starts, ends, strict=True)]
            )
            records = read_ranges(
                self._source, [chunk.data + a for a in starts], [chunk.data + b for b in stops]
            )
        for k, piece in enumerate(records):
            row, record, found = int(selected.rows[k]), piece, self._parsed(chunk, piece)
            if data is None and not _holds(record, found, head):
                length = ends[k] - starts[k]
                record = memoryview(self._source.read(chunk.data + starts[k], length))
                found = self._parsed(chunk, record)
            if found is None or not _holds(record, found, head):
                raise DamagedError(chunk.offset, 'chunk: a message is longer than its place')
            if found[:2] != (rows.connection[row], rows.stamp[row]):
                raise DamagedError(chunk.offset, 'chunk: a message is not what the index says')
            length = found.length if head is None else min(found.length, head)
            payload = record[slice(found.begin, found.begin + length)]
            yield StoredMessage(found.connection, int(selected.ranks[k]), found.stamp, payload)

    def _parsed(self, chunk: StoredChunk, record: memoryview) -> MessageRecord | None:
        try:
            return self._parse(record)
        except DamagedError as error:
            raise DamagedError(chunk.offset, f'chunk: {error.reason}') from None


def load_chunk(source: BagFile, chunk: StoredChunk) -> bytes:
    """
    Read the data of a chunk, decompress and check it.

    :raises DamagedError: it cannot be read, or its checksum is wrong.
    """
    packed = source.read(chunk.data, chunk.length)
    try:
        if not chunk.compression:
            data = packed
        elif chunk.cut:
            data = decompress_prefix(chunk.compression, packed)
        else:
            data = decompress(chunk.compression, packed, chunk.size)
    except CompressionError as error:
        raise DamagedError(chunk.offset, f'chunk: {error}') from None
    if chunk.crc and not chunk.cut and zlib.crc32(data) != chunk.crc:
        raise DamagedError(chunk.offset, 'chunk: its checksum (CRC-32) is wrong')
    return data


def needs_loading(chunk: StoredChunk) -> bool:
    """Tell whether a chunk is read whole: compressed, or with a checksum to verify."""
    return bool(chunk.compression or chunk.crc)


def _holds(record: memoryview, found: MessageRecord | None, head: int | None) -> bool:
    if found is None:
        return False
    return found.begin + (found.length if head is None else min(found.length, head)) <= len(record)


def index_table(raw: bytes, entry: np.dtype[np.void]) -> npt.NDArray[np.void]:
    """Whole index entries of an index record that may be cut, shape (entries,)."""
    return np.frombuffer(raw[: len(raw) - len(raw) % entry.itemsize], entry)
