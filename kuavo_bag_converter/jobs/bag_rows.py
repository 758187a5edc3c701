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

"""What a table of bags says of a recording: its task, labels, and the pieces to take of it."""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import NamedTuple

from kuavo_bag_converter.bags.discover import Recording
from kuavo_bag_converter.bags.inputs import RowsByPlace, TableRow, unlike_rows
from kuavo_bag_converter.jobs.tasks import TASK
from kuavo_bag_converter.profiles.model import TimeRange
from kuavo_bag_converter.support.errors import UsageError

_START, _STOP = 'start_s', 'stop_s'
_OF_RANGES = (TASK, _START, _STOP)
"""Columns that may differ in the rows of one recording."""


class BagRow(NamedTuple):
    """What a table says of a recording."""

    task: str = ''
    labels: tuple[tuple[str, str], ...] = ()
    """By column."""
    ranges: tuple[TimeRange, ...] = ()
    """In order of time."""


def bag_row(recording: Recording, rows: RowsByPlace) -> BagRow:
    """
    Return what the rows say that are of a recording.

    :raises UsageError: They say different things, or their times are no pieces of a recording.
    """
    found = list({id(row): row for path in recording for row in rows.of(path)}.values())
    if not found:
        return BagRow()
    first = found[0]
    timed = [row for row in found if {_START, _STOP} & row.values.keys()]
    for row in found[1:]:
        if _labels(row) != _labels(first) or (not timed and row.values != first.values):
            raise unlike_rows(first, row, recording[0])
    task = first.values.get(TASK, '')
    return BagRow(task, _labels(first), _ranges(found, task) if timed else ())


def _labels(row: TableRow) -> tuple[tuple[str, str], ...]:
    return tuple((name, text) for name, text in row.values.items() if name not in _OF_RANGES)


def _ranges(rows: Sequence[TableRow], task: str) -> tuple[TimeRange, ...]:
    """
    Return the pieces of a recording; those of another task than the first say so.

    Rows of several files of it may name the same pieces.
    """
    ranges: list[TimeRange] = []
    for row in sorted(rows, key=lambda row: _seconds(row, _START)):
        start, stop = _seconds(row, _START), _seconds(row, _STOP)
        if not 0 <= start < stop:
            raise _error(row, f'expected 0 <= start_s < stop_s, found {start:g} and {stop:g}')
        own = row.values.get(TASK, '')
        piece = TimeRange(start, stop, '' if own == task else own)
        if ranges and piece == ranges[-1]:
            continue
        if ranges and start < ranges[-1].stop_s:
            raise _error(
                row, f'start_s {start:g} lies in the piece before, until {ranges[-1].stop_s:g} s'
            )
        ranges.append(piece)
    return tuple(ranges)


def _seconds(row: TableRow, name: str) -> float:
    text = row.values.get(name, '')
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise _error(row, f'{name}: expected seconds, found {text or "nothing"}')
    return seconds


def _error(row: TableRow, text: str) -> UsageError:
    return UsageError(f'{row.source}: line {row.line}: {text}')
