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

"""Reading an MCAP file record by record, without its index, past what is damaged."""

from __future__ import annotations

import base64

from kuavo_bag_converter.bags.byte_readers import BagFile, ByteReader, FileWindow, MemoryReader
from kuavo_bag_converter.bags.chunked import (
    index_table,
    load_chunk,
    ScannedChunk,
    ScannedRows,
    StoredChunk,
)
from kuavo_bag_converter.bags.damage import DamagedError, DamagePolicy
from kuavo_bag_converter.bags.mcap import records as mc
from kuavo_bag_converter.bags.mcap.records import contradict
from kuavo_bag_converter.bags.mcap.summary import Summary
from kuavo_bag_converter.bags.model import Connection, normal_type
from kuavo_bag_converter.bags.rosbag2.qos import is_latched
from kuavo_bag_converter.bags.scan import Scan
from kuavo_bag_converter.bags.storage import MessageRows
from mcap.opcode import Opcode
from mcap.records import Channel, Schema
import numpy as np

UNCHUNKED_BATCH = 10_000
"""Messages outside chunks that are handled at a time."""

_FORMATS = {
    'ros1msg': 'msg', 'ros2msg': 'msg', 'ros2idl': 'idl', 'protobuf': 'protobuf',
    'jsonschema': 'jsonschema',
}  # fmt: skip


def _text_of(schema: Schema) -> str:
    if schema.encoding == 'protobuf':
        return base64.b64encode(schema.data).decode()
    return schema.data.decode(errors='replace')


class DeclaredChannels:
    """The channels that a file has declared so far."""

    def __init__(self, connections: list[Connection], qos: dict[int, str]) -> None:
        """Add them to ``connections``, and their QoS profiles to ``qos``."""
        self.connections = connections
        self.qos = qos
        self.local: dict[int, int] = {}
        """Position in ``connections`` by channel id."""
        self.doubtful: dict[int, str] = {}
        """Encodings of schemas that contradict their channels, by position in ``connections``."""
        self._schemas: dict[int, Schema] = {}

    def add_schema(self, schema: Schema) -> None:
        """Take a schema record."""
        self._schemas[schema.id] = schema

    def add_channel(self, channel: Channel) -> None:
        """Take a channel record; repeated ones change nothing."""
        if channel.id in self.local:
            return
        place = self.local[channel.id] = len(self.connections)
        schema = self._schemas.get(channel.schema_id)
        kind = _FORMATS.get(schema.encoding, '') if schema else ''
        if schema and contradict(channel.message_encoding, schema.encoding):
            self.doubtful[place] = schema.encoding
        qos = channel.metadata.get('offered_qos_profiles', '')
        if qos:
            self.qos[place] = qos
        self.connections.append(
            Connection(
                id=place,
                topic=channel.topic,
                msgtype=normal_type(schema.name) if schema else '',
                encoding=channel.message_encoding,
                definition=_text_of(schema) if schema and kind else '',
                definition_format=kind if schema and schema.data else '',
                md5=channel.metadata.get('md5sum', ''),
                latched=channel.metadata.get('latching') == '1' or is_latched(qos),
                publisher=channel.metadata.get('callerid', ''),
            )
        )

    def take(self, source: ByteReader, record: mc.Record) -> None:
        """
        Take a schema or channel record, and no other.

        :raises DamagedError: it is broken.
        """
        if record.op == Opcode.SCHEMA:
            self.add_schema(mc.content(source, record))
        elif record.op == Opcode.CHANNEL:
            self.add_channel(mc.content(source, record))


def scan_messages(
    source: ByteReader, begin: int, known: DeclaredChannels, limit: int
) -> ScannedRows:
    """Rows of up to ``limit`` messages from ``begin`` on, up to a chunk or the end of the data."""
    connection: list[int] = []
    stamp: list[int] = []
    offset: list[int] = []
    error: DamagedError | None = None
    end = begin
    try:
        for record in mc.records_from(source, begin):
            if record.op in _STOPS or len(stamp) == limit:
                break
            if record.end > source.end:
                raise DamagedError(record.offset, 'the last record is cut')
            if record.op == Opcode.MESSAGE:
                head = mc.message_head(source.read(record.offset, mc.MESSAGE_HEADER))
                if head is None or head.channel not in known.local:
                    raise DamagedError(record.offset, 'message record is broken')
                connection.append(known.local[head.channel])
                stamp.append(head.stamp)
                offset.append(record.offset - begin)
            else:
                known.take(source, record)
            end = record.end
    except DamagedError as broken:
        error = broken
    rows = MessageRows(*(np.array(column, np.int64) for column in (connection, stamp, offset)))
    return ScannedRows(rows, error, end)


_ENDS: dict[int, int] = {Opcode.DATA_END: 4, Opcode.FOOTER: 20}
"""Records behind which there are no messages, and their lengths."""
_STOPS = {Opcode.CHUNK, *_ENDS}


class McapScan(Scan):
    """One pass over a file's records; the results are its attributes."""

    def __init__(
        self,
        source: BagFile,
        damage: DamagePolicy,
        known: DeclaredChannels,
        summary: Summary | None,
    ) -> None:
        """
        Scan a file; ``known`` grows by its channels, ``summary`` tells how to go on past damage.

        :raises BagError: damage was found and is not allowed.
        """
        super().__init__(source, damage, known.connections)
        self._known = known
        self._summary = summary
        self.run(len(mc.MAGIC))

    def _run(self, offset: int) -> int | None:
        window = FileWindow(self._source, self._source.size)
        at = offset
        try:
            while at < window.end:
                record = next(mc.records_from(window, at))
                if record.op != Opcode.MESSAGE_INDEX:
                    self._settle()
                if record.op in _ENDS:
                    if record.length != _ENDS[record.op]:
                        raise DamagedError(at, 'the record that ends the data is broken')
                    return None
                if record.op == Opcode.CHUNK:
                    self._chunk(window, record)
                    at = record.end
                elif record.op == Opcode.MESSAGE:
                    at = self._unchunked(window, at)
                elif record.end > window.end:
                    raise DamagedError(at, 'the last record is cut')
                else:
                    self._other(window, record)
                    at = record.end
        except DamagedError as error:
            self._settle()
            after = self._summary.chunk_after(at) if self._summary else None
            return self._skip(error, error.offset, after)
        return None

    def _other(self, window: FileWindow, record: mc.Record) -> None:
        if record.op == Opcode.MESSAGE_INDEX and self._loss:
            data = window.read(record.offset, 9 + record.length)
            for _, entries in mc.message_indexes(data, record.offset):
                self._loss.add(mc.entry_stamps(index_table(entries, mc.INDEX_ENTRY)))
        else:
            self._known.take(window, record)

    def _chunk(self, window: FileWindow, record: mc.Record) -> None:
        chunk = mc.chunk_of(window, record)
        if chunk.end > window.end:
            room = window.end - chunk.data
            chunk = chunk._replace(length=room, size=room, cut=True)
        read = 0
        try:
            data = load_chunk(self._source, chunk)
            if chunk.cut:
                chunk = chunk._replace(size=len(data))
            scanned = scan_messages(MemoryReader(data), 0, self._known, len(data))
            if len(scanned.rows.stamp):
                self.columns.add(scanned.rows)
                read = len(scanned.rows.stamp)
                self.chunks.append(ScannedChunk(chunk, read))
            if chunk.cut:
                raise DamagedError(chunk.offset, 'chunk: the file ends within it')
            if scanned.error:
                raise DamagedError(chunk.offset, f'chunk: {scanned.error.reason}')
        except DamagedError as error:
            self._lose(error, read)

    def _unchunked(self, window: FileWindow, begin: int) -> int:
        scanned = scan_messages(window, begin, self._known, UNCHUNKED_BATCH)
        length = scanned.end - begin
        self.columns.add(scanned.rows)
        chunk = StoredChunk(begin, begin, length, '', length)
        self.chunks.append(ScannedChunk(chunk, len(scanned.rows.stamp)))
        if scanned.error:
            raise scanned.error
        return scanned.end
