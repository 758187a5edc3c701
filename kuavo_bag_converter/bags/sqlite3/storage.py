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
sqlite3 files of rosbag2, all schemas from the first to version 4.

Files are opened immutable, so that nothing is written beside them. Where a write-ahead log or a
journal lies beside a file, both are copied to a temporary folder and opened there. Of a file that
is cut, its whole pages are copied, for sqlite shows what is missing as zeros.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
import sqlite3
import struct
from typing import Any
from urllib.parse import quote

from kuavo_bag_converter.bags.byte_readers import BagFile
from kuavo_bag_converter.bags.damage import DamagePolicy, range_text
from kuavo_bag_converter.bags.model import Connection, normal_type, Stamps
from kuavo_bag_converter.bags.rosbag2.qos import is_latched
from kuavo_bag_converter.bags.scratch import Scratch
from kuavo_bag_converter.bags.storage import (
    MessageRows,
    SelectedRows,
    Selection,
    StampColumns,
    Storage,
    StoredMessage,
)
from kuavo_bag_converter.support.errors import BagError
import numpy as np

ROWS = 20_000
"""Rows of the index that are fetched at a time."""
FIRST_ROWS = 100
"""Rows that are fetched first, so that the first messages of a topic are found quickly."""
PAYLOADS = 200
"""Payloads that one statement asks for."""
LAST_ID = 2**63 - 1
HOLES = 1000
"""After so many unreadable places the rest of a file is given up."""
STEPS = 1_000_000
"""Steps of sqlite's machine between two looks at whether it goes in circles."""

_FORMATS = {'ros2msg': 'msg', 'ros2idl': 'idl', 'ros1msg': 'msg'}
_BROKEN = (sqlite3.DatabaseError, TypeError, ValueError, OverflowError)
"""What a damaged file raises: sqlite itself, or values of another type than the schema's."""


class Sqlite3Storage(Storage):
    """One ``.db3`` file."""

    container = 'sqlite3'

    def __init__(
        self, path: Path, damage: DamagePolicy, scratch: Scratch, shown: Path | None = None
    ) -> None:
        """
        Open a file, and count its messages; ``shown`` is its name for users.

        :raises BagError: not a rosbag2 file, or it is damaged and that is not allowed.
        """
        self.path = shown or path
        self._damage = damage
        self._ranges = [(0, LAST_ID)]
        """Ranges of ids that are readable, both ends included."""
        self._scanned: StampColumns | None = None
        self._base, self.file = _connect(path, damage, scratch)
        self._looks = 0
        self._limit = 1000 + 4 * path.stat().st_size // STEPS
        self._base.set_progress_handler(self._in_circles, STEPS)
        try:
            self._base.execute('PRAGMA cell_size_check = ON')
            if damage.salvage:  # Else sqlite refuses a broken schema as a whole.
                self._base.execute('PRAGMA writable_schema = ON')
            self.connections: list[Connection] = []
            self.qos: dict[int, str] = {}
            self._local: dict[int, int] = {}
            self._declare()
            self.counts = self._count()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def stamps(self, topics: Collection[str]) -> dict[str, Stamps]:
        """Receive stamps in storage order; see :class:`Storage`."""
        columns = self._scanned
        if columns is None:
            columns = StampColumns(self.connections, topics)
            try:
                for rows in self._rows(topics):
                    columns.add(rows)
                for connection in self.connections:
                    count = columns.count(connection.id)
                    if connection.topic in topics and count != self.counts.get(connection.id, 0):
                        raise ValueError(f'{connection.label}: its messages cannot be counted')
            except _BROKEN as error:
                self._damage.report(self.path, f'sqlite: {error}')
        return {topic: columns.stamps(topic) for topic in topics}

    def messages(self, selection: Selection, head: int | None = None) -> Iterator[StoredMessage]:
        """Yield selected messages; see :class:`Storage`."""
        topics = {c.topic for c in self.connections if selection.slots[c.id] >= 0}
        try:
            for rows in self._rows(topics):
                selected = selection.select(rows.connection)
                yield from self._payloads(rows, selected, head)
        except _BROKEN as error:
            self._damage.report(self.path, f'sqlite: {error}')

    def verify_rest(self, *, needed: bool = False) -> None:
        """Note damage of what was not read; see :class:`Storage`."""
        if self._scanned is not None:
            return
        try:
            (found,) = self._query('PRAGMA quick_check(1)').fetchone()
        except _BROKEN as error:
            found = str(error)
        if found != 'ok':
            self._damage.note_unused(self.path, f'sqlite: {found}', needed=needed)

    def _declare(self) -> None:
        try:
            tables = {name for (name,) in self._query('SELECT name FROM sqlite_master')}
            if not {'topics', 'messages'} <= tables:
                raise BagError(
                    f'{self.path}: is an sqlite database but not of rosbag2: '
                    f'it has no tables topics and messages'
                )
            columns = {row[1] for row in self._query('PRAGMA table_info(topics)')}
            qos = 'offered_qos_profiles' if 'offered_qos_profiles' in columns else "''"
            definitions: dict[str, tuple[str, str]] = {}
            if 'message_definitions' in tables:
                for kind, encoding, text in self._query(
                    'SELECT topic_type, encoding, encoded_message_definition '
                    'FROM message_definitions'
                ):
                    if isinstance(text, str):
                        definitions[kind] = _FORMATS.get(encoding, ''), text
            for number, name, kind, encoding, profiles in self._query(
                f'SELECT id, name, type, serialization_format, {qos} '  # noqa: S608  # a constant
                f'FROM topics ORDER BY id'
            ):
                words = name, kind, encoding, profiles
                if not isinstance(number, int) or not all(isinstance(w, str) for w in words):
                    raise ValueError('table topics is broken')
                form, text = definitions.get(kind, ('', ''))
                place = self._local[number] = len(self.connections)
                self.qos[place] = profiles
                self.connections.append(
                    Connection(
                        id=place,
                        topic=name,
                        msgtype=normal_type(kind),
                        encoding=encoding,
                        definition=text if form else '',
                        definition_format=form if text else '',
                        latched=is_latched(profiles),
                    )
                )
        except _BROKEN as error:
            reason = ' '.join(str(error).split())
            raise BagError(
                f'{self.path}: sqlite: {reason}; the list of topics cannot be read, '
                f'so nothing can be salvaged'
            ) from None

    def _count(self) -> dict[int, int]:
        if self._damage.salvage:
            return self._salvage()
        counts: dict[int, int] = {}
        try:
            for number, count in self._query(
                'SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id'
            ):
                if number in self._local:
                    counts[self._local[number]] = count
                else:
                    self._damage.report(
                        self.path, f'{count} messages belong to topic {number}, not declared'
                    )
        except _BROKEN as error:
            self._damage.report(self.path, f'sqlite: {error}')
        self._compare(sum(counts.values()))
        return counts

    def _rows(self, topics: Collection[str]) -> Iterator[MessageRows]:
        """Yield the rows of chosen topics by id; their offset is the id."""
        numbers = [
            n for n, place in self._local.items() if self.connections[place].topic in topics
        ]
        for first, last in self._ranges:
            cursor = self._query(
                f'SELECT topic_id, timestamp, id FROM messages '  # noqa: S608  # place holders
                f'WHERE id BETWEEN ? AND ? AND topic_id IN ({_places(numbers)}) ORDER BY id',
                first,
                last,
                *numbers,
            )
            count = FIRST_ROWS
            while table := cursor.fetchmany(count):
                yield self._table(table)
                count = min(2 * count, ROWS)

    def _table(self, table: list[tuple[Any, ...]]) -> MessageRows:
        columns = np.array(table, dtype=np.int64)
        if np.any(columns[1:, 2] <= columns[:-1, 2]):
            raise ValueError('message ids are out of order')
        known, place = np.unique(columns[:, 0], return_inverse=True)
        local = np.array([self._local[number] for number in known.tolist()], np.int64)
        return MessageRows(local[place], columns[:, 1], columns[:, 2])

    def _payloads(
        self, rows: MessageRows, selected: SelectedRows, head: int | None
    ) -> Iterator[StoredMessage]:
        data = 'data' if head is None else f'substr(data, 1, {head})'
        for begin in range(0, len(selected.rows), PAYLOADS):
            chosen = selected.rows[slice(begin, begin + PAYLOADS)]
            ids = rows.offset[chosen].tolist()
            cursor = self._query(
                f'SELECT id, {data} FROM messages '  # noqa: S608  # place holders
                f'WHERE id IN ({_places(ids)}) ORDER BY id',
                *ids,
            )
            found = zip(
                cursor, ids, chosen.tolist(), selected.ranks[begin:].tolist(), strict=False
            )
            for (number, payload), wanted, row, rank in found:
                if number != wanted or not isinstance(payload, bytes):
                    raise ValueError(f'message {wanted} has no data')
                yield StoredMessage(int(rows.connection[row]), rank, int(rows.stamp[row]), payload)

    def _in_circles(self) -> int:
        """Stop a statement that takes more steps than the file has bytes, as in broken trees."""
        self._looks += 1
        return self._looks > self._limit

    def _query(self, statement: str, *values: int) -> sqlite3.Cursor:
        self._looks = 0
        return self._base.execute(statement, values)

    def _salvage(self) -> dict[int, int]:
        """Read every row that can be read, and note what cannot."""
        columns = self._scanned = StampColumns(self.connections)
        self._ranges = []
        first: int | None = 0
        holes = 0
        while first is not None:
            last, error = self._read_from(first, columns)
            if error is None:
                break
            holes += 1
            first = self._readable_after(last) if holes < HOLES else None
            where = 'all messages' if first is None else f'messages {last + 1} to {first - 1}'
            self._damage.report(
                self.path, f'sqlite: {error}: behind message {last}, {where} cannot be read'
            )
        counts = {c.id: columns.count(c.id) for c in self.connections}
        read = sum(counts.values())
        self._compare(read)
        if self._damage.count:
            self._damage.note(f'{self.path}: salvaged {read} messages{columns.range()}')
        return counts

    def _read_from(self, first: int, columns: StampColumns) -> tuple[int, Exception | None]:
        """Read rows with their data from an id on; the last id, and what ended the reading."""
        last = first - 1
        table: list[tuple[int, int, int]] = []
        error: Exception | None = None
        try:
            for number, topic, stamp, data in self._query(
                'SELECT id, topic_id, timestamp, data FROM messages WHERE id >= ? ORDER BY id',
                first,
            ):
                if number <= last:
                    raise sqlite3.DatabaseError('message ids are out of order')
                if topic in self._local and isinstance(data, bytes) and isinstance(stamp, int):
                    table.append((topic, stamp, number))
                else:
                    self._damage.report(self.path, f'message {number}: its row is broken')
                    self._close_range(first, last)
                    first = number + 1
                last = number
                if len(table) == ROWS:
                    columns.add(self._table(table))
                    table = []
        except sqlite3.DatabaseError as broken:
            error = broken
        self._close_range(first, last)
        if table:
            columns.add(self._table(table))
        return last, error

    def _close_range(self, first: int, last: int) -> None:
        if last >= first:
            self._ranges.append((first, last))

    def _readable_after(self, broken: int) -> int | None:
        """Search for an id behind ``broken`` from which reading can go on; None at the end."""
        step = 1
        low = broken + 1
        while not self._is_readable(broken + 1 + step):
            low = broken + 1 + step
            step *= 2
            if broken + step >= LAST_ID:
                return None
        high = broken + 1 + step
        while high - low > 1:
            middle = (low + high) // 2
            if self._is_readable(middle):
                high = middle
            else:
                low = middle
        return high

    def _is_readable(self, first: int) -> bool:
        try:
            self._query(
                'SELECT id, data FROM messages WHERE id >= ? ORDER BY id LIMIT 1', first
            ).fetchall()
        except _BROKEN:
            return False
        return True

    def _compare(self, read: int) -> None:
        """Compare the number of messages in the table with those in its time index."""
        try:
            ((listed, low, high),) = self._query(
                'SELECT COUNT(*), MIN(timestamp), MAX(timestamp) '
                'FROM messages INDEXED BY timestamp_idx'
            ).fetchall()
        except sqlite3.DatabaseError:
            return
        if listed > read and isinstance(low, int) and isinstance(high, int):
            self._damage.report(
                self.path,
                f'{listed - read} of the {listed} messages {range_text(low, high)} that the time '
                f'index lists are lost',
            )


def _places(values: Collection[object]) -> str:
    return ','.join('?' * len(values))


def logs_beside(file: Path) -> list[Path]:
    """Return the logs that sqlite leaves beside a file that was not closed, if they hold any."""
    logs = (file.with_name(file.name + suffix) for suffix in ('-wal', '-journal'))
    return [log for log in logs if log.exists() and log.stat().st_size]


def keeps_a_log(file: Path) -> bool:
    """Tell whether sqlite writes beside a file also to read it: in its WAL mode."""
    with file.open('rb') as stream:
        return 2 in stream.read(20)[18:]


def _connect(
    path: Path, damage: DamagePolicy, scratch: Scratch
) -> tuple[sqlite3.Connection, Path]:
    """Open a file, or a copy of it together with its log; the connection and what was opened."""
    if beside := logs_beside(path):
        damage.require_whole()
        damage.note(
            f'{path}: was not closed: {beside[0].name} is honoured on a temporary copy of the file'
        )
        path = scratch.copied([path, *beside])
        options = ''
    else:
        if page := _page_if_cut(path, damage):
            path = _whole_pages(path, page, scratch)
        options = '?mode=ro&immutable=1'
    try:
        base = sqlite3.connect(
            f'file:{quote(str(path.resolve()))}{options}', uri=True, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise BagError(f'{path}: cannot be opened: {error}') from None
    base.text_factory = _text
    return base, path


def _text(data: bytes) -> str:
    return data.decode(errors='replace')


def _page_if_cut(path: Path, damage: DamagePolicy) -> int:
    """
    Compare the size with the header's; the bytes of a page if the file is cut, else 0.

    https://sqlite.org/fileformat2.html#the_database_header
    """
    source = BagFile(path)
    header = source.read(0, min(100, source.size))
    source.close()
    if len(header) < 100:
        raise BagError(f'{path}: is cut within the sqlite header, nothing can be read')
    (page,) = struct.unpack_from('>H', header, 16)
    page = 65536 if page == 1 else page
    change, pages = struct.unpack_from('>II', header, 24)
    (valid,) = struct.unpack_from('>I', header, 92)
    if change != valid or source.size >= pages * page:
        return 0
    damage.report(path, f'is cut: it has {source.size} of {pages * page} bytes')
    if source.size < page:
        raise BagError(f'{path}: is cut within the first page, nothing can be read')
    return page


def _whole_pages(path: Path, page: int, scratch: Scratch) -> Path:
    """Copy a cut file without a part of a page, and with a header that says so."""
    if path.parent != scratch.folder():  # Else it is a copy already.
        path = scratch.copied([path])
    count = path.stat().st_size // page
    with path.open('r+b') as file:
        file.truncate(count * page)
        file.seek(28)
        file.write(struct.pack('>I', count))
    return path
