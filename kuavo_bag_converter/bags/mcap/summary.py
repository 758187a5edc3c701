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

"""The summary section of an MCAP file, and whether it serves as an index."""

from __future__ import annotations

import bisect
from typing import NamedTuple
import zlib

from kuavo_bag_converter.bags.byte_readers import BagFile, FileWindow
from kuavo_bag_converter.bags.damage import DamagedError
from kuavo_bag_converter.bags.mcap import records as mc
from mcap.opcode import Opcode
from mcap.records import Channel, DataEnd, Schema, Statistics


class Summary(NamedTuple):
    """What the summary section holds."""

    schemas: list[Schema]
    channels: list[Channel]
    statistics: Statistics | None
    chunks: list[mc.ChunkIndex]
    """In the order of the file."""
    data_end: int
    """Offset of the data end record."""
    data_crc: int
    """CRC-32 of the file up to there, 0 for none."""

    def chunk_after(self, offset: int) -> int | None:
        """Offset of the first chunk behind ``offset``."""
        place = bisect.bisect_right(self.chunks, offset, key=lambda chunk: chunk.start)
        return self.chunks[place].start if place < len(self.chunks) else None


def has_footer(source: BagFile) -> bool:
    """Tell whether the file ends as a closed one does."""
    begin = source.size - len(mc.MAGIC) - mc.FOOTER_SIZE
    if begin < len(mc.MAGIC):
        return False
    tail = source.read(begin, source.size - begin)
    return tail[0] == Opcode.FOOTER and tail.endswith(mc.MAGIC)


def read_summary(source: BagFile) -> Summary | None:
    """
    Read the summary section of a file that has a footer; None where the footer names none.

    :raises DamagedError: it is broken, or its checksum is wrong.
    """
    begin = source.size - len(mc.MAGIC) - mc.FOOTER_SIZE
    window = FileWindow(source, source.size, 2**20)
    footer = mc.content(window, mc.Record(begin, Opcode.FOOTER, mc.FOOTER_SIZE - 9))
    start = footer.summary_start
    if start == 0:
        return None
    if not len(mc.MAGIC) < start <= begin:
        raise DamagedError(begin, f'the footer places the summary at byte {start}')
    _check_crc(source, start, begin, footer.summary_crc)
    schemas: list[Schema] = []
    channels: list[Channel] = []
    statistics: Statistics | None = None
    chunks: list[mc.ChunkIndex] = []
    same: dict[frozenset[int], frozenset[int]] = {}
    for record in mc.records_from(window, start):
        if record.op == Opcode.FOOTER:
            break
        if record.op == Opcode.CHUNK_INDEX:
            chunk = mc.chunk_index(window, record)
            chunks.append(chunk._replace(channels=same.setdefault(chunk.channels, chunk.channels)))
        elif record.op == Opcode.SCHEMA:
            schemas.append(mc.content(window, record))
        elif record.op == Opcode.CHANNEL:
            channels.append(mc.content(window, record))
        elif record.op == Opcode.STATISTICS:
            statistics = mc.content(window, record)
    chunks.sort(key=lambda chunk: chunk.start)
    if any(chunk.end + chunk.index_length > start for chunk in chunks):
        raise DamagedError(start, 'the summary places a chunk behind the data')
    end = _data_end(source, start)
    return Summary(schemas, channels, statistics, chunks, start - 13, end.data_section_crc)


def _check_crc(source: BagFile, start: int, footer: int, crc: int) -> None:
    covered = source.read(start, footer + mc.FOOTER_SIZE - 4 - start)
    if crc and zlib.crc32(covered) != crc:
        raise DamagedError(start, 'the summary: its checksum (CRC-32) is wrong')


def _data_end(source: BagFile, summary: int) -> DataEnd:
    """Read the data end record, which lies directly before the summary."""
    window = FileWindow(source, source.size, 16)
    record = next(mc.records_from(window, summary - 13), None)
    if record is None or record.op != Opcode.DATA_END or record.end != summary:
        raise DamagedError(summary - 13, 'data end record expected')
    end: DataEnd = mc.content(window, record)
    return end


def is_index(source: BagFile, summary: Summary) -> bool:
    """
    Tell whether every message of the file is in a chunk with a message index.

    :raises DamagedError: what lies between the chunks is broken.
    """
    statistics = summary.statistics
    if statistics is None or statistics.chunk_count != len(summary.chunks):
        return False
    channels = {channel.id for channel in summary.channels}
    schemas = {schema.id for schema in summary.schemas} | {0}
    if not channels.issuperset(statistics.channel_message_counts):
        return False
    if not schemas.issuperset(channel.schema_id for channel in summary.channels):
        return False
    return all(chunk.channels for chunk in summary.chunks) and not _unchunked(source, summary)


def _unchunked(source: BagFile, summary: Summary) -> bool:
    """Tell whether there are messages or chunks that the summary does not know."""
    window = FileWindow(source, summary.data_end, 4096)
    at = len(mc.MAGIC)
    for chunk in summary.chunks:
        if _holds_data(window, at, chunk.start):
            return True
        at = chunk.end + chunk.index_length
    return _holds_data(window, at, summary.data_end)


def _holds_data(window: FileWindow, start: int, end: int) -> bool:
    at = start
    while at < end:
        record = next(mc.records_from(window, at))
        if record.op in {Opcode.MESSAGE, Opcode.CHUNK}:
            return True
        at = record.end
    if at != end:
        raise DamagedError(start, 'the records between two chunks are broken')
    return False
