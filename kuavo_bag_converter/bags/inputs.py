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
What may be given in place of bags: patterns of paths, lists of them, and tables.

A list (``.txt``) has a path in each line; lines that begin with # are passed by. A table (``.csv``
or ``.parquet``) has a column ``path``, and others that say something of the bags. Paths in either
are relative to the folder that it lies in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
import csv
from datetime import date, time
import glob
import os
from pathlib import Path
from typing import Any, NamedTuple

from kuavo_bag_converter.bags.rosbag2.directory import natural
from kuavo_bag_converter.bags.storage_plugins import is_of_a_plugin
from kuavo_bag_converter.settings import is_table
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.files import system_reason
from kuavo_bag_converter.support.places import (
    is_url,
    name_of,
    plain_url,
    url_of,
    without_file_scheme,
)
from kuavo_bag_converter.support.texts import error_text, listed, shown

LIST = '.txt'
PATH = 'path'
_NAMED = 3
"""Paths that an error names."""


class TableRow(NamedTuple):
    """A row of a table of bags, or a line of a list."""

    source: Path
    """The table."""
    line: int
    """From 1; of a CSV file the line that it ends in, of others the number of the row."""
    given: str
    """The path as it is written."""
    values: Mapping[str, str]
    """Of the other columns; those without a value are left out."""

    @property
    def path(self) -> str:
        """Return the path as it is opened, or the URL."""
        return self.given if is_url(self.given) else os.path.join(self.source.parent, self.given)

    @property
    def place(self) -> str:
        """Return the absolute path, or the URL without secrets."""
        if is_url(self.given):
            return plain_url(self.given).rstrip('/')
        return os.path.abspath(self.path)


class Inputs(NamedTuple):
    """What was given."""

    paths: list[str]
    """Of bags and folders, and URLs, in order."""
    rows: list[TableRow]
    """What tables say of them."""


def expand_inputs(given: Iterable[str | Path]) -> Inputs:
    """
    Return the paths of what was given: bags, folders, patterns of paths, lists and tables.

    :raises UsageError: A list or table cannot be read, or something is not there: says how much.
    """
    paths: list[str] = []
    rows: list[TableRow] = []
    missing: list[str] = []
    for one in (url_of(path) or without_file_scheme(str(path)) for path in given):
        found, own = _expanded(one)
        rows += own
        paths += found
        missing += [path for path in found if not is_url(path) and not _exists(path)]
    if missing:
        raise UsageError(_not_there(missing, len(paths), rows))
    return Inputs(paths, rows)


def _expanded(given: str) -> tuple[list[str], list[TableRow]]:
    """Return the paths that something stands for, and the rows of a table."""
    is_file = os.path.isfile(given) and not is_of_a_plugin(Path(given))
    if is_file and given.lower().endswith(LIST):
        lines = _read_list(Path(given))
        paths = [path for line in lines for path in _matching(line.path) or [line.path]]
        return paths, []
    if is_file and is_table(given):
        rows = read_table(Path(given))
        return list(dict.fromkeys(row.path for row in rows)), rows
    return _matching(given) or [given], []


def _matching(pattern: str) -> list[str]:
    """Return the paths that match a pattern, in order; nothing if it is none."""
    if is_url(pattern) or os.path.lexists(pattern) or not glob.has_magic(pattern):
        return []
    return sorted(glob.glob(pattern, recursive=True), key=lambda path: natural(Path(path)))


def _exists(path: str) -> bool:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # which opening it says
    return True


def _not_there(missing: Sequence[str], total: int, rows: Sequence[TableRow]) -> str:
    row = next((row for row in rows if row.path == missing[0]), None)
    where = '' if row is None else f' ({row.source}, line {row.line})'
    text = f'{missing[0]}: does not exist{where}'
    if len(missing) > 1:
        text += f'; {len(missing)} of {total} paths that are given do not: '
        text += listed(map(shown, missing), _NAMED)
    return text


def _read_list(file: Path) -> list[TableRow]:
    try:
        lines = file.read_text(encoding='utf-8-sig').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f'{file}: cannot be read as a list of bags: {_reason(error)}') from error
    found = [
        TableRow(file, number, without_file_scheme(line.strip()), {})
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.lstrip().startswith('#')
    ]
    if not found:
        raise UsageError(f'{file}: names no bag; expected a path in each line')
    return found


def read_table(table: Path, needed: Sequence[str] = ()) -> list[TableRow]:
    """
    Read a table of bags.

    :param table: Its path; ``.csv`` (UTF-8, commas, names of columns in the first line) or
        ``.parquet``.
    :param needed: Columns beside the path that it must have, with a value in each row.
    :raises UsageError: It cannot be read, or is not as it must be: names the line.
    """
    read = _read_parquet if table.suffix.lower() == '.parquet' else _read_csv
    try:
        rows = [
            TableRow(table, line, without_file_scheme(values.pop(PATH, '')), values)
            for line, values in read(table, (PATH, *needed))
        ]
    except OSError as error:
        raise UsageError(f'{table}: cannot be read: {_reason(error)}') from error
    except (csv.Error, ValueError) as error:  # UnicodeDecodeError and ArrowInvalid are ValueErrors
        kind = 'Parquet' if read is _read_parquet else 'UTF-8'
        raise UsageError(f'{table}: is no table in {kind}: {_reason(error)}') from error
    for row in rows:
        for name, value in {**dict.fromkeys(needed, ''), PATH: row.given, **row.values}.items():
            _check(row, name, value)
    if not rows:
        raise UsageError(f'{table}: names no bag; expected a row for each')
    return rows


def _read_csv(table: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    with table.open(encoding='utf-8-sig', newline='') as file:
        reader = csv.DictReader(file, strict=True)
        names = list(reader.fieldnames or ())
        _check_columns(table, names, needed, 'in the first line, separated by commas')
        for entry in reader:
            if entry.get(None) is not None:
                raise csv.Error(f'line {reader.line_num} has more values than there are columns')
            values = {name: (text or '').strip() for name, text in entry.items()}
            yield reader.line_num, {name: text for name, text in values.items() if text}


def _read_parquet(table: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    import pyarrow.parquet as pq

    content = pq.ParquetFile(table).read()
    _check_columns(table, content.column_names, needed, '')
    for number, row in enumerate(content.to_pylist(), start=1):
        yield number, {name: text for name, value in row.items() if (text := _text(value))}


def _text(value: Any) -> str:
    """Return a value of a Parquet file as text; nothing for what is no single value."""
    if value is None or isinstance(value, bytes | list | dict | tuple):
        return ''
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else str(value).strip()


def _check_columns(table: Path, names: Sequence[str], needed: Sequence[str], where: str) -> None:
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise UsageError(f'{table}: has the column {shown(twice[0])} twice')
    for name in needed:
        if name not in names:
            plural = 's' if len(needed) > 1 else ''
            wanted = f'{" and ".join(needed)} {where}'.strip()
            raise UsageError(
                f'{table}: expected the column{plural} {wanted}, found '
                f'{listed(names) or "nothing"}'
            )


def _check(row: TableRow, name: str, value: str) -> None:
    if not value:
        raise UsageError(f'{row.source}: line {row.line}: has no {name}')
    if not value.isprintable():
        raise UsageError(
            f'{row.source}: line {row.line}: {name}: expected one line without control '
            f'characters, found {value[:60]!r}'
        )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return system_reason(error)
    return error_text(error)


def unlike_rows(first: TableRow, other: TableRow, path: Path) -> UsageError:
    """Return the error about rows that say different things of the recording at a path."""
    lines = ' and '.join(map(str, sorted({first.line, other.line})))
    return UsageError(
        f'{other.source}: lines {lines}: say different things of one recording, {path}'
    )


class RowsByPlace:
    """Finds the rows of tables that are of a recording."""

    def __init__(self, rows: Iterable[TableRow]) -> None:
        self._by_place: dict[str, list[TableRow]] = {}
        for row in rows:
            self._by_place.setdefault(row.place, []).append(row)
        self._by_real = {os.path.realpath(place): own for place, own in self._by_place.items()}

    def of(self, path: Path) -> list[TableRow]:
        """
        Return the rows of a file or, without one, those of the nearest folder that holds it.

        :param path: The file; links are followed where no row names it by its own path.
        """
        known = ((os.path.abspath(path), self._by_place), (os.path.realpath(path), self._by_real))
        for place, rows in ((name_of(path), self._by_place), *known):
            for one in _with_folders(place):
                if one in rows:
                    return rows[one]
        return []


def _with_folders(place: str) -> Iterator[str]:
    """Yield a path or URL, and the folders that it lies in, the nearest first."""
    while place:
        yield place
        head, slash, _ = place.rpartition('/')
        place = head or (slash if place != '/' else '')
