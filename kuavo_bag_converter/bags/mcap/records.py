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

"""MCAP records, https://mcap.dev/spec; the rare ones are parsed by the ``mcap`` library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
import struct
from typing import Any, NamedTuple

from kuavo_bag_converter.bags.byte_readers import ByteReader
from kuavo_bag_converter.bags.chunked import StoredChunk
from kuavo_bag_converter.bags.compression import ZSTD_MAGIC
from kuavo_bag_converter.bags.damage import DamagedError
from kuavo_bag_converter.bags.model import Connection, Stamps
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
import mcap.records
import numpy as np
import numpy.typing as npt
from rosbags.serde import SerdeError
from rosbags.typesys import get_types_from_msg, get_typestore, Stores, TypesysError

MAGIC = b'\x89MCAP0\r\n'
FOOTER_SIZE = 9 + 20
"""Bytes of the footer record."""
INDEX_ENTRY = np.dtype([('time', '<u8'), ('offset', '<u8')])
INDEX_HEADER = 9 + 6
"""Bytes of a message index record before its entries."""
MESSAGE_HEADER = 9 + 22
"""Bytes of a message record before its payload."""
CHUNK_HEADER_LIMIT = 128
"""No chunk record has a longer header; the name of the compression has a few letters."""

_HEAD = struct.Struct('<BQ')
_MESSAGE = struct.Struct('<BQHIQQ')
_INDEX = struct.Struct('<BQHI')
_CHUNK = struct.Struct('<BQQQQII')
_CHUNK_INDEX = struct.Struct('<QQQQI')
_OFFSET = np.dtype([('channel', '<u2'), ('offset', '<u8')])
_U64 = struct.Struct('<Q')
LOOKED_AT = 16
"""Payloads that tell the encoding."""
_OF_SCHEMA = {'ros1msg': 'ros1', 'ros2msg': 'cdr', 'ros2idl': 'cdr'}
_CDR = (b'\0\0', b'\0\1')
_ERRORS = (SerdeError, TypesysError, struct.error, ValueError, KeyError, IndexError,
           AssertionError, OverflowError, RecursionError)  # fmt: skip


class Record(NamedTuple):
    """One record: what it is, and where."""

    offset: int
    op: int
    length: int
    """Bytes of content, behind 9 bytes of opcode and length."""

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.offset + 9 + self.length


class MessageHead(NamedTuple):
    """A message record without its payload."""

    channel: int
    stamp: int
    length: int
    """Bytes of payload."""


class ChunkIndex(NamedTuple):
    """What the summary says of a chunk and its message indexes."""

    start: int
    end: int
    index_length: int
    """Bytes of message index records, which begin at ``end``."""
    channels: frozenset[int]
    """Those that a message index exists for."""


def records_from(source: ByteReader, offset: int) -> Iterator[Record]:
    """
    Yield record after record until the source ends; one's content may end beyond it.

    :raises DamagedError: too few bytes for a record are left.
    """
    while offset < source.end:
        op, length = _HEAD.unpack(source.read(offset, 9))
        if op == 0:
            raise DamagedError(offset, 'there is no record')
        record = Record(offset, op, length)
        yield record
        offset = record.end


def content(source: ByteReader, record: Record) -> Any:
    """
    Parse a record by the class of the ``mcap`` library that its opcode names.

    :raises DamagedError: its content is broken or cut.
    """
    kind = _KINDS[record.op]
    data = source.read(record.offset + 9, record.length)
    try:
        return kind.read(ReadDataStream(BytesIO(data)))
    except (McapError, struct.error, UnicodeDecodeError, OverflowError):
        name = kind.__name__.lower()
        raise DamagedError(record.offset, f'the {name} record is broken') from None


_KINDS: dict[int, Any] = {
    Opcode.HEADER: mcap.records.Header,
    Opcode.FOOTER: mcap.records.Footer,
    Opcode.SCHEMA: mcap.records.Schema,
    Opcode.CHANNEL: mcap.records.Channel,
    Opcode.STATISTICS: mcap.records.Statistics,
    Opcode.DATA_END: mcap.records.DataEnd,
}


def message_head(data: bytes | memoryview, at: int = 0) -> MessageHead | None:
    """Parse the message record that begins there; None where it is cut or another record."""
    if at + MESSAGE_HEADER > len(data):
        return None
    op, length, channel, _, stamp, _ = _MESSAGE.unpack_from(data, at)
    if op != Opcode.MESSAGE or length < 22:
        return None
    return MessageHead(channel, signed(stamp), length - 22)


def chunk_of(source: ByteReader, record: Record) -> StoredChunk:
    """
    Read a chunk record's header.

    :raises DamagedError: it is broken.
    """
    begin = record.offset
    head = source.read(begin, min(CHUNK_HEADER_LIMIT, source.end - begin))
    if len(head) < _CHUNK.size + 8:
        raise DamagedError(begin, 'chunk: its header is cut')
    op, length, _, _, size, crc, name = _CHUNK.unpack_from(head)
    at = _CHUNK.size + name
    if op != Opcode.CHUNK or at + 8 > min(len(head), length + 9):
        raise DamagedError(begin, 'chunk: its header is broken')
    compression = head[slice(_CHUNK.size, at)].decode(errors='replace')
    (packed,) = _U64.unpack_from(head, at)
    if at + 8 + packed > length + 9 or (not compression and size != packed):
        raise DamagedError(begin, 'chunk: its sizes do not agree')
    return StoredChunk(begin, begin + at + 8, packed, compression, size, crc)


def chunk_index(source: ByteReader, record: Record) -> ChunkIndex:
    """
    Read a chunk index record.

    :raises DamagedError: it is broken.
    """
    data = source.read(record.offset + 9, record.length)
    try:
        _, _, start, length, size = _CHUNK_INDEX.unpack_from(data)
        at = _CHUNK_INDEX.size + size
        (index_length,) = _U64.unpack_from(data, at)
        table = np.frombuffer(data[slice(_CHUNK_INDEX.size, at)], _OFFSET)
    except (struct.error, ValueError):
        raise DamagedError(record.offset, 'the chunk index record is broken') from None
    channels = frozenset(table['channel'].tolist())
    return ChunkIndex(start, start + length, index_length, channels)


def message_indexes(data: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """
    Yield the channel and entries of the message index records that ``data`` consists of.

    :raises DamagedError: it consists of something else; ``offset`` says where it is in the file.
    """
    at = 0
    while at < len(data):
        if at + INDEX_HEADER > len(data):
            raise DamagedError(offset + at, 'message index record expected')
        op, length, channel, size = _INDEX.unpack_from(data, at)
        begin = at + INDEX_HEADER
        at += 9 + length
        if op != Opcode.MESSAGE_INDEX or length < size + 6 or at > len(data) or size % 16:
            raise DamagedError(offset + begin - INDEX_HEADER, 'message index record is broken')
        yield channel, data[slice(begin, begin + size)]


def signed(stamp: int) -> int:
    """Reinterpret an unsigned stamp beyond 2262 as the signed one that numpy makes of it."""
    return stamp - 2**64 if stamp >= 2**63 else stamp


def entry_stamps(table: npt.NDArray[np.void]) -> Stamps:
    """Return the stamps of index entries, ns, shape (entries,)."""
    return table['time'].astype(np.int64)


def contradict(channel: str, schema: str) -> bool:
    """Tell whether the encoding of a channel's messages and that of its schema do not agree."""
    return channel in ('cdr', 'ros1') and _OF_SCHEMA.get(schema, channel) != channel


def payload_encoding(connection: Connection, payloads: Sequence[bytes]) -> str:
    """
    Tell what payloads of a connection are.

    Most ROS 1 payloads do not begin as CDR does. Those that do (a sequence number of 0) fit their
    definition to the byte, which is next to impossible for CDR.
    """
    if not all(data[:2] in _CDR or data[:4] == ZSTD_MAGIC for data in payloads):
        return 'ros1'
    return 'ros1' if _fit_ros1(connection, payloads) else 'cdr'


def _fit_ros1(connection: Connection, payloads: Sequence[bytes]) -> bool:
    try:
        store = get_typestore(Stores.EMPTY)
        store.register(get_types_from_msg(connection.definition, connection.msgtype))
        for data in payloads:
            store.deserialize_ros1(data, connection.msgtype)
    except _ERRORS:
        return False
    return True
