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

"""The command ``catalogue``: what a dataset is made of, and lists of the bags that are chosen."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import csv
import io
import json
import os
from pathlib import Path
import tempfile
from typing import Any, TYPE_CHECKING

from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.texts import aligned, counted, listed, PROGRAM, visible

if TYPE_CHECKING:
    from kuavo_bag_converter.dataset.catalogue import Catalogue
    from kuavo_bag_converter.dataset.record import ConversionRecord
    import pyarrow as pa

_SHOWN = 40
"""Rows that are printed."""
_WIDTH = 60
"""Characters of a value that are printed."""
_WORST = 5
"""Bags with the largest time errors that the summary names."""
_OF_BAGS = ('bag', 'path', 'status', 'task', 'episodes', 'frames', 'seconds', 'error_p95_ms')
_OF_TOPICS = (
    'bag', 'topic', 'used_for', 'messages', 'used', 'repeated', 'in_gap', 'error_p95_ms',
)  # fmt: skip
_COUNTED = ('status', 'task', 'episodes', 'frames', 'seconds')
_ENDINGS = ('.txt', '.csv', '.parquet')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``catalogue``."""
    parser.add_argument('dataset', metavar='DATASET', help='folder of a dataset')
    parser.add_argument(
        '--where',
        metavar='CONDITION',
        default='',
        help='print the bags for which this holds: a condition of SQL (by DuckDB) on columns of '
        "conversion/bags/, such as \"error_p95_ms < 20 AND labels['operator'] = 'Li'\"; "
        'conversion/topics/ is the table topics',
    )
    parser.add_argument(
        '--topics', action='store_true', help='likewise the topics of the bags, not the bags'
    )
    parser.add_argument(
        '--columns', metavar='A,B', default='', help='columns to print or to write'
    )
    parser.add_argument(
        '-o',
        '--output',
        metavar='FILE',
        default='',
        help='write the bags to a list (.txt) or table (.csv, .parquet) that convert, inspect and '
        'verify take in place of bags',
    )


def run(options: argparse.Namespace) -> int:
    """
    Print what is asked for, or write it; return the exit code.

    :raises UsageError: There is no such dataset, column or condition, or the file is there.
    """
    from kuavo_bag_converter.dataset.record import read_record

    root = Path(options.dataset)
    try:
        record = read_record(root)
    except FileNotFoundError:
        raise UsageError(
            f'{root}: has no record; only a dataset that this converter made has a catalogue'
        ) from None
    columns = [name.strip() for name in options.columns.split(',') if name.strip()]
    with _catalogue(root, record) as catalogue:
        if not (options.where or options.topics or columns or options.output):
            lines = _summary(root, catalogue)
        else:
            name = 'topics' if options.topics else 'bags'
            found = select(catalogue, name, options.where)
            if options.output:
                lines = [_written(Path(options.output), found, record, columns, options)]
            else:
                lines = _rows(found, columns or (_OF_TOPICS if options.topics else _OF_BAGS))
    print('\n'.join(map(visible, lines)))  # noqa: T201  # its purpose
    return 0


@contextmanager
def _catalogue(root: Path, record: ConversionRecord) -> Iterator[Catalogue]:
    """Open the tables of a dataset; for a record of a former form, make them in between."""
    from kuavo_bag_converter.dataset.catalogue import Catalogue, write_catalogue
    from kuavo_bag_converter.dataset.layout import PROFILE_PATH
    from kuavo_bag_converter.profiles.loader import read_profile

    if record.catalogue is not None:
        yield record.catalogue
        return
    with tempfile.TemporaryDirectory() as folder:
        fps = read_profile(root / PROFILE_PATH).fps
        write_catalogue(Path(folder), Path(os.path.realpath(root)), record.bags, fps)
        yield Catalogue(Path(folder))


def select(catalogue: Catalogue, name: str, where: str) -> pa.Table:
    """
    Return the rows of a table for which a condition holds, in order.

    :param catalogue: Of a dataset.
    :param name: ``bags`` or ``topics``; the condition may name either.
    :param where: The condition, in SQL; all rows without one.
    :raises UsageError: It is none, or DuckDB is not installed.
    """
    from kuavo_bag_converter.dataset.layout import BAGS_PATH, TOPICS_PATH

    patterns = {'bags': BAGS_PATH, 'topics': TOPICS_PATH}
    if not where:
        return catalogue.table(patterns[name])
    try:
        import duckdb
    except ImportError:
        raise UsageError(
            "--where: needs DuckDB; install it: pip install 'kuavo_bag_converter[catalogue]'"
        ) from None
    with duckdb.connect() as connection:
        for table, pattern in patterns.items():
            connection.register(table, catalogue.dataset(pattern))
        try:
            query = f'SELECT * FROM {name} WHERE ({where}\n) ORDER BY bag'  # noqa: S608
            return connection.sql(query).to_arrow_table()
        except duckdb.Error as error:
            reason = str(error).split('\n\n', maxsplit=1)[0]
            raise UsageError(f'--where: {" ".join(reason.split())}') from error


def _summary(root: Path, catalogue: Catalogue) -> list[str]:
    """Return how much of what was given is in the dataset, what failed, and the worst errors."""
    from kuavo_bag_converter.dataset.catalogue import Totals
    from kuavo_bag_converter.dataset.layout import BAGS_PATH

    table = catalogue.table(
        BAGS_PATH, [*_COUNTED, 'bag', 'path', 'cause', 'reason', 'error_p95_ms']
    )
    all_bags, by_task = Totals(), dict[str, Totals]()
    for row in table.to_pylist():
        all_bags.add(row)
        by_task.setdefault(row['task'], Totals()).add(row)
    lines = [f'{root}: {_coverage(all_bags)}']
    if len(by_task) > 1:
        head = ('task', 'bags', 'converted', 'episodes', 'hours')
        lines += ['', *aligned([head, *(_of_task(*item) for item in by_task.items())])]
    failures = all_bags.as_json()['failures']
    if failures:
        lines += ['', 'not in the dataset:']
        lines += [
            f'  {counted(one["bags"], "bag")}, the first {one["first"]}: '
            f'{one["reason"].removeprefix(one["first"] + ": ")}'
            for one in failures
        ]
        command = f'{PROGRAM} convert --output {root} --retry-failed'
        lines.append(f'  when that is mended: {command}')
    late = table.filter(table['error_p95_ms'].is_valid())
    if late.num_rows:
        late = late.sort_by([('error_p95_ms', 'descending'), ('bag', 'ascending')])[:_WORST]
        lines += ['', 'largest time errors:']
        lines += aligned([_row(row, ('path', 'error_p95_ms')) for row in late.to_pylist()])
    return lines


def _coverage(totals: Any) -> str:
    statuses = totals.statuses
    declared = sum(statuses.values())
    parts = [f'{statuses[name]} {name}' for name in ('failed', 'skipped') if statuses[name]]
    return ', '.join(
        [
            f'{statuses["converted"]} of {counted(declared, "bag")}',
            *parts,
            counted(totals.episodes, 'episode'),
            counted(totals.frames, 'frame'),
            f'{totals.seconds / 3600:.2f} h',
        ]
    )


def _of_task(task: str, totals: Any) -> tuple[str, ...]:
    counts = totals.statuses
    numbers = sum(counts.values()), counts['converted'], totals.episodes
    return _short(task), *map(str, numbers), f'{totals.seconds / 3600:.2f}'


def _rows(table: pa.Table, columns: Sequence[str]) -> list[str]:
    """Return rows as they are printed."""
    _check_columns(table, columns)
    found = table.select(list(columns))
    lines = aligned([tuple(columns), *(_row(row, columns) for row in found[:_SHOWN].to_pylist())])
    if found.num_rows > _SHOWN:
        lines.append(f'... and {found.num_rows - _SHOWN} more; --output FILE has all of them')
    return [*lines, f'{counted(found.num_rows, "row")}']


def _row(row: dict[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(_short(_text(row[name])) for name in columns)


def _text(value: Any) -> str:
    if value is None:
        return ''
    if isinstance(value, float):
        return f'{value:.3f}'.rstrip('0').rstrip('.')
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else f'{text[:_WIDTH]}...'


def _check_columns(table: pa.Table, columns: Sequence[str]) -> None:
    for name in columns:
        if name not in table.column_names:
            raise UsageError(
                f'--columns: there is no {name}; known are {listed(table.column_names, 99)}'
            )


def _written(
    file: Path,
    table: pa.Table,
    record: ConversionRecord,
    columns: Sequence[str],
    options: argparse.Namespace,
) -> str:
    """Write rows to a file; return what is said of it."""
    if file.suffix.lower() not in _ENDINGS:
        raise UsageError(f'--output {file}: expected a name that ends in {", ".join(_ENDINGS)}')
    if os.path.lexists(file):
        raise UsageError(f'--output {file}: exists already; choose another name, or remove it')
    _check_columns(table, columns)
    if options.topics:
        if file.suffix.lower() == '.txt':
            raise UsageError(f'--output {file}: topics are rows of a table: .csv or .parquet')
        rows = table.select(list(columns) or table.column_names).to_pylist()
    else:
        rows = list(_with_places(table, record, columns, Path(options.dataset)))
    if not rows:
        raise UsageError('--where: holds for no row; nothing is written')
    if file.suffix.lower() == '.txt':
        what = f'{options.dataset}: {options.where}' if options.where else options.dataset
        text = ''.join(f'{row["path"]}\n' for row in rows)
        file.write_text(f'# {" ".join(what.split())}\n{text}', encoding='utf-8')
    else:
        _write_table(file, rows)
    return f'{file}: {counted(table.num_rows, "topic" if options.topics else "bag")}'


def _with_places(
    table: pa.Table, record: ConversionRecord, columns: Sequence[str], root: Path
) -> Iterator[dict[str, Any]]:
    """
    Yield a row for each path of the bags, with the named columns, or the task and labels.

    Without columns, bags of which a table gave pieces have a row for each path and piece.
    """
    from kuavo_bag_converter.dataset.layout import PROFILE_PATH
    from kuavo_bag_converter.profiles.loader import read_profile

    by_profile = bool(columns) or read_profile(root / PROFILE_PATH).episodes.cuts
    for row in table.select(['bag', 'task', 'labels', 'ranges', *columns]).to_pylist():
        labels = {key: text for key, text in dict(row['labels'] or ()).items() if text}
        named = {name: row[name] for name in columns if name != 'path'}
        values = named if columns else {'task': row['task'], **labels}
        ranges = [] if by_profile else row['ranges'] or []
        # The first row of a bag gives its task.
        pieces = [
            {'task': one['task'] or row['task'], **{k: one[k] for k in ('start_s', 'stop_s')}}
            for one in sorted(ranges, key=lambda one: bool(one['task']))
        ]
        for path in record.bags[row['bag']].paths:
            for piece in pieces or [{}]:
                yield {'path': str(path), **values, **piece}


def _write_table(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    if file.suffix.lower() == '.parquet':
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), file)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(names)
    writer.writerows([_plain(row.get(name)) for name in names] for row in rows)
    file.write_text(text.getvalue(), encoding='utf-8')


def _plain(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
