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

"""The tasks of a run's recordings, by ``tasks``: by their folders, a table or their metadata."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import csv
import os
from pathlib import Path
from typing import NamedTuple

from kuavo_bag_converter.bags.custom_data import custom_data_of
from kuavo_bag_converter.bags.discover import Recording
from kuavo_bag_converter.bags.rosbag2.metadata import NAME
from kuavo_bag_converter.settings import is_table
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.texts import counted, listed, shown, visible

BY_FOLDER = 'folder'
BY_METADATA = 'custom_data:'
_COLUMNS = ('path', 'task')


class _Row(NamedTuple):
    line: int
    path: str
    """As it is written."""
    task: str


def tasks_of(
    tasks: str, recordings: Sequence[Recording], note: Callable[[str], None]
) -> list[str]:
    """
    Return the task of each recording, '' where the profile's holds.

    :param tasks: The setting.
    :param recordings: Those of the run.
    :param note: Called with a line for rows of the table that are of none of them.
    :raises UsageError: The table is not as it must be, or a recording has no task in it.
    """
    if not tasks:
        return [''] * len(recordings)
    if tasks == BY_FOLDER:
        return [_folder_of(recording[0]) for recording in recordings]
    if tasks.startswith(BY_METADATA):
        return _by_metadata(tasks.removeprefix(BY_METADATA), recordings)
    if not is_table(tasks):
        raise UsageError(
            f'tasks: expected {BY_FOLDER}, {BY_METADATA}KEY, or the path of a table that ends in '
            f'.csv, found {tasks!r}'
        )
    return _by_table(Path(tasks), recordings, note)


def _folder_of(path: Path) -> str:
    """Return the name of the folder that a bag lies in; a rosbag2 directory is no such folder."""
    place = Path(os.path.abspath(path))
    folder = place.parent
    if (folder / NAME).exists():
        folder = folder.parent
    if not folder.name.strip():
        raise UsageError(
            f'{path}: lies in no folder that could name its task; move it into one, or give tasks '
            'by a table'
        )
    return folder.name


def _by_metadata(key: str, recordings: Sequence[Recording]) -> list[str]:
    """Return what the recorder noted under a key of each recording, in one line."""
    data = [custom_data_of(recording[0]) for recording in recordings]
    tasks = [visible(' '.join(one.get(key, '').split())) for one in data]
    without = [str(recordings[n][0]) for n, task in enumerate(tasks) if not task]
    if without:
        keys = sorted({name for one in data for name, text in one.items() if text.strip()})
        raise UsageError(
            f'tasks: {BY_METADATA}{shown(key)}: {counted(len(without), "bag")} of {len(tasks)} '
            f'without it in the custom_data of {NAME}: {listed(without, 3)}; keys that are there: '
            f'{listed(keys) or "none"}'
        )
    return tasks


def _by_table(
    table: Path, recordings: Sequence[Recording], note: Callable[[str], None]
) -> list[str]:
    rows = _read(table)
    real = {os.path.realpath(place): row for place, row in rows.items()}
    used: set[int] = set()
    tasks: list[str] = []
    without: list[str] = []
    for recording in recordings:
        found = {row.task: row.line for path in recording for row in _rows_for(path, rows, real)}
        used |= set(found.values())
        if len(found) > 1:
            raise UsageError(
                f'{table}: lines {" and ".join(map(str, sorted(found.values())))}: give the files '
                f'of one recording, {recording[0]}, different tasks'
            )
        tasks += found or ['']
        without += [] if found else [str(recording[0])]
    if without:
        raise UsageError(
            f'{table}: has no task for {counted(len(without), "bag")} of {len(recordings)}: '
            f'{listed(without, 3)}; add a row for it, or for a folder that holds it'
        )
    unused = [row for row in rows.values() if row.line not in used]
    if unused:
        note(
            f'{table}: {counted(len(unused), "row")} of {len(rows)} for no bag of this run: '
            f'{listed((row.path for row in unused), 3)}'
        )
    return tasks


def _rows_for(path: Path, rows: dict[str, _Row], real: dict[str, _Row]) -> list[_Row]:
    """
    Return the row of a file or, without one, that of the nearest folder that holds it.

    :param path: The file.
    :param rows: By absolute path.
    :param real: The same, with links followed.
    """
    for place, known in ((os.path.abspath(path), rows), (os.path.realpath(path), real)):
        for one in map(str, (Path(place), *Path(place).parents)):
            if one in known:
                return [known[one]]
    return []


def _read(table: Path) -> dict[str, _Row]:
    """Return the rows of a table by the absolute paths of their bags."""
    rows: dict[str, _Row] = {}
    missing: list[_Row] = []
    try:
        with table.open(encoding='utf-8-sig', newline='') as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            for column in _COLUMNS:
                if columns.count(column) != 1:
                    raise UsageError(
                        f'{table}: expected the columns path and task in the first line, '
                        f'separated by commas, found {listed(columns) or "nothing"}'
                    )
            for entry in reader:
                row = _Row(reader.line_num, *((entry[name] or '').strip() for name in _COLUMNS))
                _check(table, row)
                place = os.path.abspath(table.parent / row.path)
                if place in rows:
                    raise UsageError(
                        f'{table}: line {row.line}: {row.path}: is in line {rows[place].line} '
                        'already'
                    )
                rows[place] = row
                missing += [] if os.path.lexists(place) else [row]
    except OSError as error:
        raise UsageError(f'tasks: {table}: cannot be read: {error.strerror}') from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f'tasks: {table}: is no table in UTF-8: {error}') from error
    if missing:
        raise UsageError(
            f'{table}: {counted(len(missing), "row")} of {len(rows)} for bags that are not there, '
            f'the first in line {missing[0].line}: {shown(missing[0].path)}; paths are relative '
            'to the folder of the table'
        )
    return rows


def _check(table: Path, row: _Row) -> None:
    for name, value in zip(_COLUMNS, (row.path, row.task), strict=True):
        if not value:
            raise UsageError(f'{table}: line {row.line}: has no {name}')
        if not value.isprintable():
            raise UsageError(
                f'{table}: line {row.line}: {name}: expected one line without control characters, '
                f'found {value[:60]!r}'
            )
