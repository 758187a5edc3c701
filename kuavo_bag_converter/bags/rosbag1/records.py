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

"""Records of the ROS 1 bag format 2.0, http://wiki.ros.org/Bags/Format/2.0."""

from __future__ import annotations

from collections.abc import Iterator
import struct
from typing import NamedTuple

from kuavo_bag_converter.bags.byte_readers import ByteReader
from kuavo_bag_converter.bags.damage import DamagedError
from kuavo_bag_converter.bags.model import Connection, normal_type, Stamps
import numpy as np
import numpy.typing as npt

MAGIC = b'#ROSBAG V2.0\n'
MESSAGE, BAG_HEADER, INDEX, CHUNK, CHUNK_INFO, CONNECTION = 2, 3, 4, 5, 6, 7
INDEX_ENTRY = np.dtype([('sec', '<u4'), ('nsec', '<u4'), ('offset', '<u4')])
INDEX_HEADER = 55
"""Bytes of an index record before its entries: two lengths and four fields of fixed size."""
LENGTHS = 8
"""Bytes of a record beside its header and its data: the two lengths."""
HEADER_LIMIT = 2**24
"""Longer record headers are taken for damage; real ones have tens of bytes."""

_U32 = struct.Struct('<I')
_U64 = struct.Struct('<Q')
_TIME = struct.Struct('<II')


class Record(NamedTuple):
    """One record: its header's fields, and where its data is."""

    offset: int
    op: int
    fields: dict[bytes, bytes]
    data: int
    """Offset of the data."""
    length: int
    """Bytes of data."""

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.data + self.length

    def u32(self, name: bytes) -> int:
        """
        Read a 4-byte field.

        :raises DamagedError: it is missing or malformed.
        """
        return int(_U32.unpack(self._field(name, 4))[0])

    def u64(self, name: bytes) -> int:
        """
        Read an 8-byte field.

        :raises DamagedError: it is missing or malformed.
        """
        return int(_U64.unpack(self._field(name, 8))[0])

    def time(self, name: bytes) -> int:
        """
        Read a time field, in ns.

        :raises DamagedError: it is missing or malformed.
        """
        sec, nsec = _TIME.unpack(self._field(name, 8))
        return int(sec) * 10**9 + int(nsec)

    def _field(self, name: bytes, size: int) -> bytes:
        value = self.fields.get(name)
        if value is None or len(value) != size:
            raise DamagedError(self.offset, f'record without a valid {name.decode()!r} field')
        return value


def parse_fields(data: bytes, offset: int) -> dict[bytes, bytes]:
    """
    Split a header into its fields.

    :raises DamagedError: the lengths do not fit; ``offset`` says where the header is.
    """
    fields: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise DamagedError(offset, 'record header is broken')
        (size,) = _U32.unpack_from(data, at)
        at += 4
        name, equals, value = data[slice(at, at + size)].partition(b'=')
        if at + size > len(data) or not equals:
            raise DamagedError(offset, 'record header is broken')
        fields[name] = value
        at += size
    return fields


def record_at(source: ByteReader, offset: int) -> Record:
    """
    Read a record's header; its data is only known to begin within the source.

    :raises DamagedError: there is no record.
    """
    (size,) = _U32.unpack(source.read(offset, 4))
    if size > HEADER_LIMIT:
        raise DamagedError(offset, f'record header claims {size} bytes')
    header = source.read(offset + 4, size + 4)
    fields = parse_fields(header[:size], offset)
    op = fields.get(b'op', b'')
    if len(op) != 1:
        raise DamagedError(offset, 'record without an op field')
    (length,) = _U32.unpack_from(header, size)
    return Record(offset, op[0], fields, offset + size + 8, length)


def records_from(source: ByteReader, offset: int) -> Iterator[Record]:
    """
    Yield record after record until the source ends; a record's data may end beyond it.

    :raises DamagedError: something is not a record.
    """
    while offset < source.end:
        record = record_at(source, offset)
        yield record
        offset = record.end


def connection_of(record: Record, data: bytes, number: int) -> Connection:
    """
    Make a connection, the ``number``-th, of a connection record and its data.

    :raises DamagedError: a field is missing.
    """
    fields = parse_fields(data, record.data)
    try:
        kind = fields[b'type'].decode()
        topic = record.fields[b'topic'].decode()
    except (KeyError, UnicodeDecodeError):
        raise DamagedError(record.offset, 'connection without a valid topic or type') from None
    return Connection(
        id=number,
        topic=topic,
        msgtype=normal_type(kind),
        encoding='ros1',
        definition=fields.get(b'message_definition', b'').decode(errors='replace'),
        definition_format='msg' if fields.get(b'message_definition') else '',
        md5=fields.get(b'md5sum', b'').decode(errors='replace'),
        latched=fields.get(b'latching', b'0') == b'1',
        publisher=fields.get(b'callerid', b'').decode(errors='replace'),
    )


def entry_stamps(table: npt.NDArray[np.void]) -> Stamps:
    """Return the stamps of index entries, ns, shape (entries,)."""
    stamps: Stamps = table['sec'].astype(np.int64) * 10**9 + table['nsec']
    return stamps


class Layout:
    """Where a header keeps some fields, for the many that are laid out like the first one."""

    def __init__(self, header: bytes, fields: dict[bytes, bytes], *names: bytes) -> None:
        """Learn from a header and its fields."""
        begins = [header.index(name + b'=') + len(name) + 1 for name in names]
        self.places = tuple(begins)
        """Offset of each named field's value."""
        self.size = len(header)
        mask = bytearray(b'\xff' * len(header))
        for begin, name in zip(begins, names, strict=True):
            mask[slice(begin, begin + len(fields[name]))] = bytes(len(fields[name]))
        # One comparison of long integers: this is asked for every message.
        self._mask = int.from_bytes(mask, 'little')
        self._fixed = int.from_bytes(header, 'little') & self._mask

    def fits(self, header: bytes) -> bool:
        """Tell whether a header differs from the first one in the named fields alone."""
        return (
            len(header) == self.size
            and int.from_bytes(header, 'little') & self._mask == self._fixed
        )

    def fit(self, headers: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Do as :meth:`fits` for many headers of the same size, shape (headers, size)."""
        mask, fixed = (
            np.frombuffer(number.to_bytes(self.size, 'little'), np.uint8)
            for number in (self._mask, self._fixed)
        )
        fit: npt.NDArray[np.bool_] = ((headers & mask) == fixed).all(axis=1)
        return fit


class IndexParser:
    """Takes index records apart."""

    def __init__(self) -> None:
        self._layout: Layout | None = None

    def take(self, data: bytes, at: int, offset: int) -> tuple[int, bytes, int]:
        """
        Take an index record out of ``data``: connection, entries, where the next one begins.

        :raises DamagedError: it is not one; ``offset`` says where ``data`` is in the file.
        """
        begin = at + INDEX_HEADER
        header = data[slice(at + 4, begin - 4)]
        if self._layout is None or not self._layout.fits(header):
            self._layout = _index_layout(data, at, offset)
        connection_at, count_at = self._layout.places
        (connection,) = _U32.unpack_from(header, connection_at)
        (count,) = _U32.unpack_from(header, count_at)
        end = begin + count * INDEX_ENTRY.itemsize
        if _U32.unpack_from(data, begin - 4)[0] != end - begin or end > len(data):
            raise DamagedError(offset + at, 'index record is broken')
        return connection, data[begin:end], end


def _index_layout(data: bytes, at: int, offset: int) -> Layout:
    header = data[slice(at + 4, at + INDEX_HEADER - 4)]
    if len(header) < INDEX_HEADER - 8 or _U32.unpack_from(data, at)[0] != len(header):
        raise DamagedError(offset + at, 'index record expected')
    fields = parse_fields(header, offset + at)
    sizes = {name: len(value) for name, value in fields.items()}
    if sizes != {b'op': 1, b'ver': 4, b'conn': 4, b'count': 4}:
        raise DamagedError(offset + at, 'index record expected')
    if fields[b'op'][0] != INDEX or _U32.unpack(fields[b'ver'])[0] != 1:
        raise DamagedError(offset + at, 'index record expected')
    return Layout(header, fields, b'conn', b'count')


class MessageParser:
    """Takes the records apart that an index entry points to."""

    def __init__(self) -> None:
        self.layout: Layout | None = None
        """Of the record that was taken last."""

    def take(self, record: memoryview) -> tuple[int, int, int, int] | None:
        """
        Take a message record apart: connection, stamp, where its data begins, and its length.

        Connection records before it are passed. None where ``record`` is too short.

        :raises DamagedError: it is another record.
        """
        at = 0
        while True:
            if at + 4 > len(record):
                return None
            (size,) = _U32.unpack_from(record, at)
            begin = at + size + 8
            if begin > len(record):
                return None
            header = bytes(record[slice(at + 4, begin - 4)])
            (length,) = _U32.unpack_from(record, begin - 4)
            if self.layout and self.layout.fits(header):
                break
            fields = parse_fields(header, 0)
            if fields.get(b'op') == bytes([CONNECTION]):
                at = begin + length
                continue
            sizes = len(fields.get(b'conn', b'')), len(fields.get(b'time', b''))
            if fields.get(b'op') != bytes([MESSAGE]) or sizes != (4, 8):
                raise DamagedError(0, 'message record expected')
            self.layout = Layout(header, fields, b'conn', b'time')
        connection_at, time_at = self.layout.places
        (connection,) = _U32.unpack_from(header, connection_at)
        sec, nsec = _TIME.unpack_from(header, time_at)
        return connection, sec * 10**9 + nsec, begin, length


def message_heads(
    heads: npt.NDArray[np.uint8], layout: Layout
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64], Stamps]:
    """
    Take the heads of message records apart that are laid out alike.

    :param heads: The length of each header, the header, and the length of the data; uint8
        (heads, size).
    :param layout: Of the headers.
    :return: Which have that layout, and what those say: connection, and stamp in ns; all (heads,).
    """

    def number_at(place: int) -> npt.NDArray[np.int64]:
        return (
            np.ascontiguousarray(heads[:, slice(place, place + 4)]).view('<u4')[:, 0].astype(int)
        )

    headers = heads[:, slice(4, 4 + layout.size)]
    fits = (number_at(0) == layout.size) & layout.fit(headers)
    connection_at, time_at = (4 + place for place in layout.places)
    stamps = number_at(time_at) * 10**9 + number_at(time_at + 4)
    return fits, number_at(connection_at), stamps
