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

"""ROS 1 bags 2.0 with an index; those without, and damaged ones, are scanned."""

from __future__ import annotations

from pathlib import Path

from kuavo_bag_converter.bags.byte_readers import BagFile, FileWindow, read_pieces
from kuavo_bag_converter.bags.chunked import (
    ChunkedStorage,
    IndexEntries,
    MessageRecord,
    ScannedRows,
    StoredChunk,
)
from kuavo_bag_converter.bags.damage import DamagedError, DamagePolicy
from kuavo_bag_converter.bags.rosbag1 import records as rb
from kuavo_bag_converter.bags.rosbag1.index import chunk_of, Index, read_index
from kuavo_bag_converter.bags.rosbag1.scan import DeclaredConnections, Rosbag1Scan, scan_chunk
from kuavo_bag_converter.bags.storage import MessageRows, Selection
from kuavo_bag_converter.support.errors import BagError
import numpy as np
import numpy.typing as npt

_HEADER = 256
"""Enough for the header of a chunk record or the bag header record."""


class Rosbag1Storage(ChunkedStorage):
    """One ``.bag`` file."""

    container = 'rosbag1'
    entry = rb.INDEX_ENTRY
    entry_stamps = staticmethod(rb.entry_stamps)

    def __init__(self, path: Path, damage: DamagePolicy, shown: Path | None = None) -> None:
        """
        Open a bag and read its index, or scan it; ``shown`` is its name for users.

        :raises BagError: not a readable ROS 1 bag 2.0, or it is damaged and that is not allowed.
        """
        super().__init__(path, damage, shown)
        self._known = DeclaredConnections(self.connections)
        self._index = Index([], [], [])
        self._entries = rb.IndexParser()
        self._messages = rb.MessageParser()
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        index: Index | None = None
        chunks = 0
        try:
            header = _bag_header(self._source)
            if header.fields.get(b'encryptor'):
                raise BagError(f'{self.path}: is encrypted; decrypt it with `rosbag decrypt`')
            if header.u64(b'index_pos'):
                chunks = header.u32(b'chunk_count')
                index = read_index(self._source, header)
            else:
                self._damage.note(
                    f'{self.path}: has no index, its recording was not closed: it was scanned'
                )
        except DamagedError as error:
            self._damage.report(self.path, error)
        if index is None or self._damage.salvage:
            self._scan(index, chunks)
        else:
            self._declare(index)
            self._index = index
            self.counts = self._totals(index)

    def _scan(self, index: Index | None, chunks: int) -> None:
        """Scan a bag whose header promises so many chunks, 0 if it was not closed."""
        self._damage.require_whole()
        scan = Rosbag1Scan(self._source, self._damage, self._known, index)
        self._scanned, self._chunks = scan.columns, scan.chunks
        if index:
            self._declare(index)
        elif chunks > len(self._chunks):
            lost = chunks - len(self._chunks)
            self._damage.note(f'{self.path}: {lost} of its {chunks} chunks are lost')
        self._count_scanned(self._totals(index) if index else None)

    def _declare(self, index: Index) -> None:
        try:
            for record, data in index.connections:
                self._known.add(record, data)
        except DamagedError as error:
            self._damage.report(self.path, error)

    def _totals(self, index: Index) -> dict[int, int]:
        totals: dict[int, int] = {}
        for number, count in index.totals().items():
            local = self._known.local.get(number)
            if local is None:
                self._damage.report(
                    self.path,
                    f'the index lists {count} messages of undeclared connection {number}',
                )
            else:
                totals[local] = count
        return totals

    def _chunk_count(self) -> int:
        return len(self._index.chunks)

    def _chunk_connections(self, number: int) -> dict[int, int]:
        counts = self._index.counts_of(number)
        return {self._known.local[conn]: count for conn, count in counts.items()}

    def _chunk_holds(self, number: int, selection: Selection) -> bool:
        return selection.wants(self._chunk_connections(number))

    def _chunk_at(self, number: int) -> StoredChunk:
        window = FileWindow(self._source, self._source.size, _HEADER)
        chunk = chunk_of(rb.record_at(window, self._index.chunks[number]))
        if chunk.end > self._source.size:
            raise DamagedError(chunk.offset, 'chunk: it ends beyond the end of the file')
        if not chunk.compression and chunk.size != chunk.length:
            raise DamagedError(chunk.offset, 'chunk: its two sizes differ')
        return chunk

    def _chunk_index(self, number: int) -> list[IndexEntries]:
        chunk = self._chunk_at(number)
        counts = self._chunk_connections(number)
        size = len(counts) * rb.INDEX_HEADER + sum(counts.values()) * rb.INDEX_ENTRY.itemsize
        data = self._source.read(chunk.end, size)
        entries: list[IndexEntries] = []
        at = 0
        while at < size:
            conn, raw, at = self._entries.take(data, at, chunk.end)
            local = self._known.local.get(conn, -1)
            if len(raw) != counts.pop(local, -1) * rb.INDEX_ENTRY.itemsize:
                raise DamagedError(chunk.end, 'index record disagrees with the chunk info')
            entries.append(IndexEntries(number, local, raw))
        return entries

    def _read_rows(self, chunk: StoredChunk, data: bytes | None) -> ScannedRows:
        return scan_chunk(self._source, chunk, data, self._known)

    def _parse(self, record: memoryview) -> MessageRecord | None:
        parts = self._messages.take(record)
        if parts is None:
            return None
        connection, stamp, begin, length = parts
        return MessageRecord(self._known.local.get(connection, -1), stamp, begin, length)

    def _plainly_right(self, chunk: StoredChunk, rows: MessageRows) -> npt.NDArray[np.bool_]:
        """Compare all heads at once that are laid out like the last one that was parsed."""
        right = np.zeros(len(rows.stamp), np.bool_)
        layout = self._messages.layout
        if layout is None:
            return right
        size = rb.LENGTHS + layout.size
        room = np.append(rows.offset[1:], chunk.size) - rows.offset
        whole = np.flatnonzero(room >= size)
        heads = read_pieces(self._source, chunk.data + rows.offset[whole], size)
        fits, connection, stamp = rb.message_heads(heads, layout)
        listed = {place: number for number, place in self._known.local.items()}
        expected = np.array([listed[place] for place in range(len(self.connections))], np.int64)
        right[whole] = (
            fits
            & (rows.connection[whole] >= 0)
            & (connection == expected[rows.connection[whole]])
            & (stamp == rows.stamp[whole])
        )
        return right


def time_range(path: Path) -> tuple[int, int] | None:
    """First and last receive stamp of an indexed bag by its index, in ns; else None."""
    source = BagFile(path)
    try:
        header = _bag_header(source)
        return read_index(source, header).times if header.u64(b'index_pos') else None
    except DamagedError:
        return None
    finally:
        source.close()


def has_index(source: BagFile) -> bool:
    """Tell whether the header of a bag names the place of an index: it was closed."""
    try:
        return _bag_header(source).u64(b'index_pos') != 0
    except DamagedError:
        return False


def check_index(source: BagFile) -> None:
    """
    Check that a bag has its index, to the end of it.

    :raises DamagedError: it has none, or the file ends before.
    """
    header = _bag_header(source)
    if not header.u64(b'index_pos'):
        raise DamagedError(0, 'its recording was not closed')
    read_index(source, header)


def _bag_header(source: BagFile) -> rb.Record:
    return rb.record_at(FileWindow(source, source.size, _HEADER), len(rb.MAGIC))
