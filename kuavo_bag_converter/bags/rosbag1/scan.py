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

"""Reading a ROS 1 bag without its index, record by record, past what is damaged."""

from __future__ import annotations

from kuavo_bag_converter.bags.byte_readers import BagFile, ByteReader, FileWindow, MemoryReader
from kuavo_bag_converter.bags.chunked import (
    index_table,
    load_chunk,
    needs_loading,
    ScannedChunk,
    ScannedRows,
    StoredChunk,
)
from kuavo_bag_converter.bags.damage import DamagedError, DamagePolicy
from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.bags.rosbag1 import records as rb
from kuavo_bag_converter.bags.rosbag1.index import chunk_of, find_chunk, Index
from kuavo_bag_converter.bags.scan import Scan
from kuavo_bag_converter.bags.storage import MessageRows
import numpy as np


class DeclaredConnections:
    """The connections that a bag has declared so far."""

    def __init__(self, connections: list[Connection]) -> None:
        """Add them to ``connections``."""
        self.connections = connections
        self.local: dict[int, int] = {}
        """Position in ``connections`` by the number that the file uses."""

    def add(self, record: rb.Record, data: bytes) -> None:
        """
        Take a connection record; repeated ones change nothing.

        :raises DamagedError: it is broken.
        """
        number = record.u32(b'conn')
        if number not in self.local:
            self.connections.append(rb.connection_of(record, data, len(self.connections)))
            self.local[number] = len(self.connections) - 1


def scan_chunk(
    source: BagFile, chunk: StoredChunk, data: bytes | None, known: DeclaredConnections
) -> ScannedRows:
    """
    Return the rows of a chunk from its records, and the damage that ends them.

    :param source: The bag.
    :param chunk: The chunk.
    :param data: Its decompressed data; None to read it from the bag.
    :param known: Gets the connections that are declared on the way.
    """
    view: ByteReader = FileWindow(source, chunk.end) if data is None else MemoryReader(data)
    base = chunk.data if data is None else 0
    connection: list[int] = []
    stamp: list[int] = []
    offset: list[int] = []
    error: DamagedError | None = None
    try:
        for record in rb.records_from(view, base):
            if record.end > view.end:
                raise DamagedError(record.offset, 'the last message is cut')
            if record.op == rb.CONNECTION:
                known.add(record, view.read(record.data, record.length))
            elif record.op == rb.MESSAGE:
                local, time = known.local.get(record.u32(b'conn')), record.time(b'time')
                if local is None:
                    raise DamagedError(record.offset, 'message of an undeclared connection')
                connection.append(local)
                stamp.append(time)
                offset.append(record.offset - base)
            else:
                raise DamagedError(record.offset, f'unexpected record {record.op} in a chunk')
    except DamagedError as broken:
        error = DamagedError(broken.offset - base + chunk.data, f'chunk: {broken.reason}')
        if data is not None and chunk.compression:
            error.offset = chunk.offset
    rows = MessageRows(*(np.array(column, np.int64) for column in (connection, stamp, offset)))
    return ScannedRows(rows, error)


class Rosbag1Scan(Scan):
    """One pass over a bag's records; the results are its attributes."""

    def __init__(
        self,
        source: BagFile,
        damage: DamagePolicy,
        known: DeclaredConnections,
        index: Index | None,
    ) -> None:
        """
        Scan a bag; ``known`` grows by its connections, ``index`` tells how to go on past damage.

        :raises BagError: damage was found and is not allowed.
        """
        super().__init__(source, damage, known.connections)
        self._known = known
        self._index = index
        self.run(len(rb.MAGIC))

    def _run(self, offset: int) -> int | None:
        window = FileWindow(self._source, self._source.size)
        at = offset
        try:
            for record in rb.records_from(window, offset):
                at = record.offset
                if record.op != rb.INDEX:
                    self._settle()
                if record.op == rb.CHUNK:
                    opened = self._chunk(record, window)
                    if opened:
                        return None
                elif record.end > window.end:
                    raise DamagedError(at, 'the last record is cut')
                elif record.op == rb.CONNECTION:
                    self._known.add(record, window.read(record.data, record.length))
                elif record.op == rb.INDEX and self._loss:
                    entries = window.read(record.data, record.length)
                    self._loss.add(rb.entry_stamps(index_table(entries, rb.INDEX_ENTRY)))
                at = record.end
        except DamagedError as error:
            self._settle()
            index = self._index
            after = index.chunk_after(at) if index else find_chunk(self._source, at + 1)
            return self._skip(error, at, after)
        return None

    def _chunk(self, record: rb.Record, window: FileWindow) -> bool:
        """Take a chunk; True where it is the open one of an unfinished recording."""
        chunk = chunk_of(record)
        room = self._source.size - chunk.data
        opened = chunk.length == 0 and room > 0 and not self._empty(chunk, window)
        if opened or chunk.length > room:
            chunk = chunk._replace(length=room, size=room, cut=True)
        elif not chunk.compression and chunk.size != chunk.length:
            error = DamagedError(chunk.offset, 'chunk: its two sizes differ')
            self._damage.report(self._source.path, error)
            chunk = chunk._replace(size=chunk.length)
        try:
            data = load_chunk(self._source, chunk) if needs_loading(chunk) else None
            if data is not None and chunk.cut:
                chunk = chunk._replace(size=len(data))
        except DamagedError as error:
            self._lose(error, 0)
            return opened
        rows, error_inside, _ = scan_chunk(self._source, chunk, data, self._known)
        self.columns.add(rows)
        self.chunks.append(ScannedChunk(chunk, len(rows.stamp)))
        if error_inside is None and chunk.cut and chunk.compression:
            error_inside = DamagedError(chunk.offset, 'chunk: its end is missing')
        if error_inside is not None:
            self._lose(error_inside, len(rows.stamp))
        return chunk.cut

    def _empty(self, chunk: StoredChunk, window: FileWindow) -> bool:
        """Tell whether a chunk of length 0 is really empty: no message follows it."""
        if chunk.compression:
            return False
        return rb.record_at(window, chunk.data).op not in {rb.MESSAGE, rb.CONNECTION}
