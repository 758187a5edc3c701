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

"""The tasks of a run's recordings, by ``tasks``: folders, a table, metadata or annotations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import json
import os
from pathlib import Path
from typing import Any

from kuavo_bag_converter.alignment.marks import find_marks
from kuavo_bag_converter.bags.custom_data import custom_data_of
from kuavo_bag_converter.bags.discover import Recording
from kuavo_bag_converter.bags.inputs import read_table, RowsByPlace, TableRow, unlike_rows
from kuavo_bag_converter.bags.rosbag2.metadata import NAME
from kuavo_bag_converter.settings import is_table
from kuavo_bag_converter.support.errors import BagError, UsageError
from kuavo_bag_converter.support.texts import counted, listed, shown, visible

BY_FOLDER = 'folder'
BY_METADATA = 'custom_data:'
BY_ANNOTATION = 'annotation:'
TASK = 'task'
"""Column of a table."""


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
    if tasks.startswith(BY_ANNOTATION):
        return _by_annotation(tasks.removeprefix(BY_ANNOTATION), recordings)
    if not is_table(tasks):
        raise UsageError(
            f'tasks: expected {BY_FOLDER}, {BY_METADATA}KEY, {BY_ANNOTATION}KEY, or the path of '
            f'a table that ends in .csv or .parquet, found {tasks!r}'
        )
    return _by_table(Path(tasks), recordings, note)


def row_of(recording: Recording, rows: RowsByPlace) -> TableRow | None:
    """
    Return the row of a table that is of a recording, if there is one.

    :raises UsageError: Its files have rows that say something different.
    """
    found = [row for path in recording for row in rows.of(path)]
    for row in found[1:]:
        if row.values != found[0].values:
            raise unlike_rows(found[0], row, recording[0])
    return found[0] if found else None


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


def _by_annotation(key: str, recordings: Sequence[Recording]) -> list[str]:
    """Return what the JSON file of each recording has under a key, in one line."""
    found = [_annotated(recording[0], key) for recording in recordings]
    problems = [problem for _, problem in found if problem]
    if problems:
        raise UsageError(
            f'tasks: {BY_ANNOTATION}{shown(key)}: {counted(len(problems), "bag")} of '
            f'{len(found)} without it: {problems[0]}'
        )
    return [text for text, _ in found]


def _annotated(bag: Path, key: str) -> tuple[str, str]:
    """Return the text of a key, or what is wrong."""
    try:
        file = find_marks('{bag}.json', bag)
        value: Any = json.loads(file.read_text(encoding='utf-8'))
    except BagError as error:
        return '', str(error)
    except (OSError, ValueError, RecursionError) as error:
        return '', f'{file}: cannot be read: {" ".join(str(error).split())}'
    known = [*value] if isinstance(value, dict) else []
    for part in (key,) if key in known else key.split('.'):
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, str) or not value.strip():
        return '', f'{file}: has no text there; keys that are there: {listed(known) or "none"}'
    return visible(' '.join(value.split())), ''


def _by_table(
    table: Path, recordings: Sequence[Recording], note: Callable[[str], None]
) -> list[str]:
    rows = _read(table)
    by_place = RowsByPlace(rows)
    found = [row_of(recording, by_place) for recording in recordings]
    without = [str(recordings[n][0]) for n, row in enumerate(found) if row is None]
    if without:
        raise UsageError(
            f'{table}: has no task for {counted(len(without), "bag")} of {len(recordings)}: '
            f'{listed(without, 3)}; add a row for it, or for a folder that holds it'
        )
    used = {row.line for one in recordings for path in one for row in by_place.of(path)}
    unused = [row for row in rows if row.line not in used]
    if unused:
        note(
            f'{table}: {counted(len(unused), "row")} of {len(rows)} for no bag of this run: '
            f'{listed((row.given for row in unused), 3)}'
        )
    return [row.values[TASK] for row in found if row is not None]


def _read(table: Path) -> list[TableRow]:
    """Return the rows of a table of tasks, of which each bag or folder has one."""
    try:
        table.stat()
    except OSError as error:
        raise UsageError(f'tasks: {table}: cannot be read: {error.strerror}') from error
    rows = read_table(table, (TASK,))
    lines: dict[str, int] = {}
    for row in rows:
        if row.place in lines:
            raise UsageError(
                f'{table}: line {row.line}: {row.given}: is in line {lines[row.place]} already'
            )
        lines[row.place] = row.line
    missing = [row for row in rows if not os.path.lexists(row.place)]
    if missing:
        raise UsageError(
            f'{table}: {counted(len(missing), "row")} of {len(rows)} for bags that are not there, '
            f'the first in line {missing[0].line}: {shown(missing[0].given)}; paths are relative '
            'to the folder of the table'
        )
    return rows
