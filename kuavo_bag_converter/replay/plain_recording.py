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
A recording as it lies in its files, read from front to back by other code than the converter's.

Nothing is looked up in an index, nothing is sorted: messages come in the order in which they were
stored, which is the order in which they happened. ROS 1 bags are walked record by record, MCAP by
the ``mcap`` library, sqlite3 by SQL. Slow, and plain.
"""

from __future__ import annotations

import base64
import bz2
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
import re
import sqlite3
import struct
import tempfile
from typing import Any, IO, NamedTuple

from kuavo_bag_converter.bags.model import Connection, normal_type
import lz4.frame
from mcap.exceptions import EndOfFile, McapError
from mcap.records import Channel, Message, Schema
from mcap.stream_reader import StreamReader
import yaml
import zstandard

_ZSTD = b'\x28\xb5\x2f\xfd'
_ROS1 = b'#ROSBAG V2.0\n'
_MCAP = b'\x89MCAP0\r\n'
_SQLITE = b'SQLite format 3\0'


class NotJudged(Exception):  # noqa: N818  # nothing is wrong
    """Something that this statement does not cover, and so says nothing about."""


@dataclass
class OpinionSummary:
    """What was looked at."""

    frames: int = 0
    values: int = 0
    pictures: int = 0
    not_judged: Counter[str] = field(default_factory=Counter)
    """What nothing is said about, and in how many bags or frames."""

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            'frames': self.frames,
            'values': self.values,
            'pictures': self.pictures,
            'not_judged': dict(self.not_judged),
        }


class Stored(NamedTuple):
    """One message where it is stored."""

    place: int
    """Its rank in the recording, over all topics."""
    connection: Connection
    received: int
    """Receive stamp, ns."""
    data: bytes


@dataclass(frozen=True)
class PlainRecording:
    """
    The files of one recording, in order.

    :param files: A bag file, the files of one recording, or a rosbag2 directory.
    """

    files: tuple[Path, ...]

    def messages(self) -> Iterator[Stored]:
        """
        Yield every message in the order of storage.

        :raises NotJudged: The files are damaged or of a kind that is not read here.
        """
        place = 0
        declared: dict[tuple[Any, ...], Connection] = {}
        try:
            for path in self._paths:
                for connection, received, data in _messages_of(path):
                    own = connection[1:]
                    known = declared.get(own)
                    if known is None:
                        known = declared[own] = connection._replace(id=len(declared))
                    yield Stored(place, known, received, data)
                    place += 1
        except (OSError, EOFError, ValueError, KeyError, struct.error, sqlite3.Error, McapError,
                zstandard.ZstdError, RuntimeError) as error:  # fmt: skip
            found = ' '.join(str(error).split()) or type(error).__name__
            raise NotJudged(f'a file that cannot be read from front to back ({found})') from None

    @cached_property
    def _paths(self) -> Sequence[Path]:
        if len(self.files) != 1 or not self.files[0].is_dir():
            return self.files
        folder = self.files[0]
        try:
            listed = yaml.safe_load((folder / 'metadata.yaml').read_text('utf-8'))
            names = listed['rosbag2_bagfile_information']['relative_file_paths']
            paths = [folder / Path(name).name for name in names]
        except (OSError, yaml.YAMLError, KeyError, TypeError):
            paths = [p for p in folder.iterdir() if p.suffix in ('.db3', '.mcap', '.zstd')]
            paths.sort(key=lambda path: [int(n) for n in re.findall(r'\d+', path.name)] or [0])
        unpacked = [path.with_suffix('') if path.suffix == '.zstd' else path for path in paths]
        return [
            plain if plain.exists() else path for plain, path in zip(unpacked, paths, strict=True)
        ]


_Found = tuple[Connection, int, bytes]


def _messages_of(path: Path) -> Iterator[_Found]:
    with _unpacked(path) as (plain, stream):
        start = stream.read(16)
        stream.seek(0)
        if start.startswith(_ROS1):
            yield from _ros1(stream)
        elif start.startswith(_MCAP):
            yield from _mcap(stream)
        elif start.startswith(_SQLITE):
            yield from _sqlite3(plain)
        else:
            raise NotJudged('a storage that is neither ROS 1, MCAP nor sqlite3')


@contextmanager
def _unpacked(path: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    with path.open('rb') as stream:
        packed = stream.read(4) == _ZSTD
        stream.seek(0)
        if not packed:
            yield path, stream
            return
        with tempfile.NamedTemporaryFile() as plain:
            zstandard.ZstdDecompressor().copy_stream(stream, plain)
            plain.seek(0)
            yield Path(plain.name), plain


def _ros1(stream: IO[bytes]) -> Iterator[_Found]:
    """Walk the records: connections (7) and messages (2), most of them in chunks (5)."""
    stream.seek(len(_ROS1))
    connections: dict[int, Connection] = {}
    for fields, data in _records(stream.read):
        if fields[b'op'] == b'\5':
            inner = BytesIO(_unpack(fields[b'compression'], data))
            for inner_fields, body in _records(inner.read):
                yield from _record(inner_fields, body, connections)
        else:
            yield from _record(fields, data, connections)


def _record(
    fields: dict[bytes, bytes], data: bytes, connections: dict[int, Connection]
) -> Iterator[_Found]:
    if fields[b'op'] == b'\7':
        said = _fields(data)
        connections[struct.unpack('<I', fields[b'conn'])[0]] = Connection(
            0,
            fields[b'topic'].decode(errors='replace'),
            normal_type(said[b'type'].decode()),
            'ros1',
            said[b'message_definition'].decode('utf-8', 'replace'),
            'msg',
            publisher=said.get(b'callerid', b'').decode(errors='replace'),
        )
    elif fields[b'op'] == b'\2':
        second, rest = struct.unpack('<II', fields[b'time'])
        yield (
            connections[struct.unpack('<I', fields[b'conn'])[0]], second * 10**9 + rest, data
        )  # fmt: skip


def _records(read: Any) -> Iterator[tuple[dict[bytes, bytes], bytes]]:
    while len(size := read(4)) == 4:
        fields = _fields(read(struct.unpack('<I', size)[0]))
        length = struct.unpack('<I', read(4))[0]
        data = read(length)
        if len(data) < length:
            raise EOFError('the file ends within a record')
        yield fields, data


def _fields(data: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        length = struct.unpack_from('<I', data, at)[0]
        name, _, value = data[slice(at + 4, at + 4 + length)].partition(b'=')
        found[name] = value
        at += 4 + length
    return found


def _unpack(compression: bytes, data: bytes) -> bytes:
    if compression == b'lz4':
        unpacking: Any = lz4.frame.LZ4FrameDecompressor()  # type: ignore[no-untyped-call]
        return bytes(unpacking.decompress(data))
    return bz2.decompress(data) if compression == b'bz2' else data


def _mcap(stream: IO[bytes]) -> Iterator[_Found]:
    schemas: dict[int, Schema] = {}
    channels: dict[int, Connection] = {}
    for record in _whole(StreamReader(stream).records):
        if isinstance(record, Schema):
            schemas[record.id] = record
        elif isinstance(record, Channel):
            channels[record.id] = _channel(record, schemas.get(record.schema_id))
        elif isinstance(record, Message):
            yield channels[record.channel_id], record.log_time, _message(record.data)


def _whole(records: Iterator[Any]) -> Iterator[Any]:
    """Yield records up to the end of the file, also of one that was not closed."""
    with suppress(EndOfFile):
        yield from records


def _channel(channel: Channel, schema: Schema | None) -> Connection:
    kind, text, name = ('', '', '') if schema is None else (
        schema.encoding, schema.data.decode('utf-8', 'replace'), schema.name
    )  # fmt: skip
    if schema is not None and kind == 'protobuf':
        text = base64.b64encode(schema.data).decode()
    encoding = channel.message_encoding
    return Connection(
        0,
        channel.topic,
        normal_type(name),
        encoding,
        text,
        {'ros1msg': 'msg', 'ros2msg': 'msg', 'ros2idl': 'idl'}.get(kind, kind),
        publisher=channel.metadata.get('callerid', ''),
    )


def _message(data: bytes) -> bytes:
    if data[:4] != _ZSTD:
        return data
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


def _sqlite3(path: Path) -> Iterator[_Found]:
    with sqlite3.connect(f'file:{path}?mode=ro', uri=True) as base:
        definitions: dict[str, tuple[str, str]] = {}
        tables = {name for (name,) in base.execute('SELECT name FROM sqlite_master')}
        if 'message_definitions' in tables:
            query = (
                'SELECT topic_type, encoding, encoded_message_definition FROM message_definitions'
            )
            for name, kind, text in base.execute(query):
                definitions[name] = text, kind.removeprefix('ros2')
        query = 'SELECT * FROM topics'
        cursor = base.execute(query)
        names = [column[0] for column in cursor.description]
        topics: dict[int, Connection] = {}
        for row in cursor:
            said = dict(zip(names, row, strict=True))
            text, kind = definitions.get(said['type'], ('', ''))
            topics[said['id']] = Connection(
                0, said['name'], normal_type(said['type']), said['serialization_format'], text,
                kind,
            )  # fmt: skip
        for topic, received, data in base.execute(
            'SELECT topic_id, timestamp, data FROM messages ORDER BY id'
        ):
            yield topics[topic], received, _message(bytes(data))


def plain_header_stamp(message: Stored) -> int:
    """
    Return the stamp in a payload that begins with a ``std_msgs/Header``, ns.

    :raises NotJudged: The payload is neither ROS 1 nor CDR.
    """
    data = message.data
    if message.connection.encoding == 'ros1':
        second, rest = struct.unpack_from('<II', data, 4)
    elif message.connection.encoding == 'cdr':
        second, rest = struct.unpack_from('<iI' if data[1] else '>iI', data, 4)
    else:
        raise NotJudged(f'stamps in {message.connection.encoding}')
    return int(second * 10**9 + rest)
