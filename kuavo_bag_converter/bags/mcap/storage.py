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

"""MCAP files with an index; those without, and damaged ones, are scanned."""

from __future__ import annotations

from pathlib import Path
import zlib

from kuavo_bag_converter.bags.byte_readers import BagFile, FileWindow, MemoryReader
from kuavo_bag_converter.bags.chunked import (
    ChunkedStorage,
    IndexEntries,
    MessageRecord,
    ScannedRows,
    StoredChunk,
)
from kuavo_bag_converter.bags.damage import DamagedError, DamagePolicy
from kuavo_bag_converter.bags.mcap import records as mc
from kuavo_bag_converter.bags.mcap.records import LOOKED_AT, payload_encoding
from kuavo_bag_converter.bags.mcap.scan import DeclaredChannels, McapScan, scan_messages
from kuavo_bag_converter.bags.mcap.summary import has_footer, is_index, read_summary, Summary
from kuavo_bag_converter.bags.storage import Selection, TopicCursor
from kuavo_bag_converter.support.texts import listed
import numpy as np

_STEP = 4 * 1024 * 1024


class McapStorage(ChunkedStorage):
    """One ``.mcap`` file."""

    container = 'mcap'
    entry = mc.INDEX_ENTRY
    entry_stamps = staticmethod(mc.entry_stamps)

    def __init__(self, path: Path, damage: DamagePolicy, shown: Path | None = None) -> None:
        """
        Open a file and read its summary, or scan it; ``shown`` is its name for users.

        :raises BagError: it is damaged and that is not allowed.
        """
        super().__init__(path, damage, shown)
        self._known = DeclaredChannels(self.connections, self.qos)
        self._index: list[mc.ChunkIndex] = []
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        summary: Summary | None = None
        indexed = False
        try:
            if has_footer(self._source):
                summary = read_summary(self._source)
                indexed = summary is not None and is_index(self._source, summary)
            else:
                self._damage.note(
                    f'{self.path}: has no footer, its recording was not closed: it was scanned'
                )
            if summary:
                self._check_data(summary)
        except DamagedError as error:
            self._damage.report(self.path, error)
        if summary and indexed and not self._damage.salvage:
            self._declare(summary)
            self._index = summary.chunks
            self.counts = self._stated_counts(summary) or {}
        else:
            self._damage.require_whole()
            scan = McapScan(self._source, self._damage, self._known, summary)
            self._scanned, self._chunks = scan.columns, scan.chunks
            if summary:
                self._declare(summary)
            self._count_scanned(self._stated_counts(summary) if summary else None)
        if self._known.doubtful:
            self._settle_encodings()

    def _declare(self, summary: Summary) -> None:
        for schema in summary.schemas:
            self._known.add_schema(schema)
        for channel in sorted(summary.channels, key=lambda channel: channel.id):
            self._known.add_channel(channel)

    def _settle_encodings(self) -> None:
        """Look at the first payloads of channels that their schemas contradict."""
        topics: dict[tuple[str, str, str], list[str]] = {}
        first = np.arange(LOOKED_AT)
        for place, schema in self._known.doubtful.items():
            connection = self.connections[place]
            chosen = Selection(self.connections, {connection.topic: TopicCursor(first, first)})
            payloads = [
                bytes(stored.data)
                for stored in self.messages(chosen)
                if stored.connection == place
            ]
            encoding = payload_encoding(connection, payloads) if payloads else connection.encoding
            self.connections[place] = connection._replace(encoding=encoding)
            topics.setdefault((connection.encoding, schema, encoding), []).append(connection.topic)
        for (channel, schema, encoding), names in topics.items():
            self._damage.note(
                f'{self.path}: channels say {channel} and their schemas {schema}, of '
                f'{listed(names)}: by their messages they are read as {encoding}'
            )

    def _stated_counts(self, summary: Summary) -> dict[int, int] | None:
        if summary.statistics is None:
            return None
        counts = summary.statistics.channel_message_counts
        return {self._known.local[c]: n for c, n in counts.items() if c in self._known.local}

    def _check_data(self, summary: Summary) -> None:
        """Verify the data section's checksum, unless the chunks have their own."""
        window = FileWindow(self._source, self._source.size, mc.CHUNK_HEADER_LIMIT)
        if not summary.data_crc or (
            summary.chunks and self._chunk_in(window, summary.chunks[0].start).crc
        ):
            return
        self._damage.require_whole()
        crc = 0
        for at in range(0, summary.data_end, _STEP):
            crc = zlib.crc32(self._source.read(at, min(_STEP, summary.data_end - at)), crc)
        if crc != summary.data_crc:
            raise DamagedError(summary.data_end, 'the data: its checksum (CRC-32) is wrong')

    def _chunk_in(self, window: FileWindow, offset: int) -> StoredChunk:
        chunk = mc.chunk_of(window, next(mc.records_from(window, offset)))
        if chunk.end > self._source.size:
            raise DamagedError(offset, 'chunk: it ends beyond the end of the file')
        return chunk

    def _chunk_count(self) -> int:
        return len(self._index)

    def _chunk_connections(self, number: int) -> list[int]:
        local = self._known.local
        return [local[channel] for channel in self._index[number].channels if channel in local]

    def _chunk_holds(self, number: int, selection: Selection) -> bool:
        return bool((selection.slots[self._chunk_connections(number)] >= 0).any())

    def _chunk_at(self, number: int) -> StoredChunk:
        window = FileWindow(self._source, self._source.size, mc.CHUNK_HEADER_LIMIT)
        return self._chunk_in(window, self._index[number].start)

    def _chunk_index(self, number: int) -> list[IndexEntries]:
        chunk = self._index[number]
        data = self._source.read(chunk.end, chunk.index_length)
        entries: list[IndexEntries] = []
        for channel, raw in mc.message_indexes(data, chunk.end):
            if channel not in self._known.local:
                raise DamagedError(chunk.end, f'message index of undeclared channel {channel}')
            entries.append(IndexEntries(number, self._known.local[channel], raw))
        return entries

    def _read_rows(self, chunk: StoredChunk, data: bytes | None) -> ScannedRows:
        if data is None:
            window = FileWindow(self._source, chunk.end)
            return scan_messages(window, chunk.data, self._known, chunk.size)
        return scan_messages(MemoryReader(data), 0, self._known, chunk.size)

    def _parse(self, record: memoryview) -> MessageRecord | None:
        head = mc.message_head(record)
        if head is None:
            return None
        local = self._known.local.get(head.channel, -1)
        return MessageRecord(local, head.stamp, mc.MESSAGE_HEADER, head.length)


def time_range(path: Path) -> tuple[int, int] | None:
    """First and last receive stamp by the statistics of a closed file, in ns; else None."""
    source = BagFile(path)
    try:
        summary = read_summary(source) if has_footer(source) else None
    except DamagedError:
        return None
    finally:
        source.close()
    statistics = summary.statistics if summary else None
    if statistics is None or not statistics.message_count:
        return None
    return statistics.message_start_time, statistics.message_end_time
