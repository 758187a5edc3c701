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

"""The index section at the end of a ROS 1 bag, and the search for chunks where it is missing."""

from __future__ import annotations

import bisect
from typing import NamedTuple

from kuavo_bag_converter.bags.byte_readers import BagFile, FileWindow
from kuavo_bag_converter.bags.chunked import StoredChunk
from kuavo_bag_converter.bags.damage import DamagedError
from kuavo_bag_converter.bags.rosbag1 import records as rb
import numpy as np

_CHUNK_COUNT = np.dtype([('connection', '<u4'), ('count', '<u4')])
_STEP = 1024 * 1024
_BEFORE_COMPRESSION = (8, 16, 21, 29)
"""Bytes between a chunk record and its ``compression`` field, by the order of the fields."""


class Index(NamedTuple):
    """What the index section says of the bag."""

    connections: list[tuple[rb.Record, bytes]]
    """Connection records with their data, in the order of the file."""
    chunks: list[int]
    """Offsets of the chunk records, ascending."""
    counts: list[bytes]
    """Per chunk its messages per connection, as the file stores them."""
    times: tuple[int, int] | None = None
    """First and last receive stamp that the chunk infos tell, in ns; None without messages."""

    def counts_of(self, number: int) -> dict[int, int]:
        """Messages per connection (as the file numbers them) of one chunk."""
        table = np.frombuffer(self.counts[number], _CHUNK_COUNT)
        return dict(zip(table['connection'].tolist(), table['count'].tolist(), strict=True))

    def totals(self) -> dict[int, int]:
        """Messages per connection (as the file numbers them) of the bag."""
        table = np.frombuffer(b''.join(self.counts), _CHUNK_COUNT)
        names, place = np.unique(table['connection'], return_inverse=True)
        sums = np.bincount(place, weights=table['count'], minlength=len(names))
        return dict(zip(names.tolist(), sums.astype(np.int64).tolist(), strict=True))

    def chunk_after(self, offset: int) -> int | None:
        """Offset of the first chunk behind ``offset``."""
        place = bisect.bisect_right(self.chunks, offset)
        return self.chunks[place] if place < len(self.chunks) else None


def read_index(source: BagFile, header: rb.Record) -> Index:
    """
    Read the index section that the bag header record points to.

    :raises DamagedError: it is not there, or not what the bag header promises.
    """
    start = header.u64(b'index_pos')
    expected = header.u32(b'conn_count'), header.u32(b'chunk_count')
    # The index of a recording in which nothing was received has no records, so it ends the file.
    if start > source.size or (start == source.size and any(expected)):
        raise DamagedError(
            source.size, f'the file ends here, its index should be at byte {start}: truncated'
        )
    window = FileWindow(source, source.size, _STEP)
    connections: list[tuple[rb.Record, bytes]] = []
    chunks: list[tuple[int, bytes]] = []
    begins: list[int] = []
    ends: list[int] = []
    for record in rb.records_from(window, start):
        data = window.read(record.data, record.length)
        if record.op == rb.CONNECTION:
            connections.append((record, data))
        elif record.op == rb.CHUNK_INFO:
            chunks.append((_chunk_position(record, start), data))
            if len(data) != record.u32(b'count') * _CHUNK_COUNT.itemsize:
                raise DamagedError(record.offset, 'chunk info record is broken')
            if data:
                begins.append(record.time(b'start_time'))
                ends.append(record.time(b'end_time'))
    found = len(connections), len(chunks)
    if found != expected:
        raise DamagedError(
            start,
            f'the index holds {found[0]} connections and {found[1]} chunks, '
            f'the bag header promises {expected[0]} and {expected[1]}',
        )
    chunks.sort()
    times = (min(begins), max(ends)) if begins else None
    return Index(connections, [c[0] for c in chunks], [c[1] for c in chunks], times)


def _chunk_position(record: rb.Record, index: int) -> int:
    position = record.u64(b'chunk_pos')
    if record.u32(b'ver') != 1 or position >= index:
        raise DamagedError(record.offset, 'chunk info record is broken')
    return position


def find_chunk(source: BagFile, offset: int) -> int | None:
    """Search for a chunk record from ``offset`` on; its offset, or None."""
    word = b'compression='
    first = offset
    while offset < source.size:
        block = source.read(offset, min(_STEP, source.size - offset))
        at = block.find(word)
        while at >= 0:
            for back in _BEFORE_COMPRESSION:
                found = offset + at - back
                if found >= first and is_chunk(source, found):
                    return found
            at = block.find(word, at + 1)
        if offset + len(block) == source.size:
            break
        offset += len(block) - len(word)
    return None


def is_chunk(source: BagFile, offset: int) -> bool:
    """Tell whether a chunk record begins there."""
    try:
        record = rb.record_at(FileWindow(source, source.size, 256), offset)
        chunk_of(record)
    except DamagedError:
        return False
    return True


def chunk_of(record: rb.Record) -> StoredChunk:
    """
    Chunk that a record is.

    :raises DamagedError: it is something else.
    """
    if record.op != rb.CHUNK:
        raise DamagedError(record.offset, 'chunk record expected')
    compression = record.fields.get(b'compression', b'').decode(errors='replace')
    if compression == 'none':
        compression = ''
    elif not compression:
        raise DamagedError(record.offset, 'chunk record without a compression field')
    size = record.u32(b'size')
    return StoredChunk(record.offset, record.data, record.length, compression, size)
