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

"""The rows of a dataset: the files of its table and the columns that LeRobot addresses rows by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
import json
from pathlib import Path
from typing import Any

from kuavo_bag_converter.check.description import (
    Description,
    StoredEpisode,
    StoredFeature,
)
from kuavo_bag_converter.check.findings import ARROW_ERRORS, Findings, first_line
from kuavo_bag_converter.dataset.features import LANGUAGE_FEATURES
from kuavo_bag_converter.dataset.layout import DATA_FILES, FileLimits
from kuavo_bag_converter.dataset.tables import DEFAULT_FEATURES, table_schema
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Numbers = npt.NDArray[Any]
Columns = Mapping[str, Numbers]

_PERSISTENT = LANGUAGE_FEATURES[0].key
_BATCH_ROWS = 1 << 14
_TIMESTAMP_TOLERANCE = 1e-4
"""Seconds; LeRobot's ``tolerance_s``."""
_LASTING_STYLES = frozenset(['subtask', 'plan', 'memory', 'motion', 'task_aug'])
"""Styles of texts that LeRobot keeps in ``language_persistent``."""
_DEFAULT_KEYS = tuple(feature.key for feature in DEFAULT_FEATURES)


def check_rows(dataset: Description, findings: Findings, *, values: bool, since: int = 0) -> None:
    """
    Check every file of rows.

    :param dataset: The dataset.
    :param findings: Where findings go.
    :param values: Whether to read the features too and not just the columns that LeRobot adds.
    :param since: The first episode whose files are read.
    """
    expected = dataset.data_files()
    found = dataset.files_on_disk(DATA_FILES)
    for file in found:
        if file not in expected:
            findings.add(
                'data.unexpected', 'a file', 'none: LeRobot would read its rows too', file=file
            )
    for file, episodes in expected.items():
        if file not in found:
            findings.add(
                'data.missing', 'no file', f'rows of {len(episodes)} episodes', file=file,
                episode=episodes[0].index,
            )  # fmt: skip
            continue
        if episodes[-1].index < since:
            continue
        try:
            with pq.ParquetFile(dataset.root / file) as table:
                _FileCheck(dataset, file, episodes, table, findings).run(values=values)
        except ARROW_ERRORS as error:
            findings.add('data.unreadable', first_line(error), 'a Parquet file', file=file)


def batches(
    table: pq.ParquetFile, columns: Sequence[str]
) -> Iterator[tuple[int, dict[str, pa.Array]]]:
    """Yield a file's columns in batches: the first row of each and its arrays by column."""
    first = 0
    for batch in table.iter_batches(batch_size=_BATCH_ROWS, columns=list(columns)):
        yield first, {name: batch.column(name) for name in columns}
        first += batch.num_rows


def values_by_episode(
    path: Path, episodes: Sequence[StoredEpisode], columns: Sequence[StoredFeature]
) -> Iterator[list[Numbers]]:
    """
    Yield the values (rows, width) of each column for each episode of a file in turn.

    :raises KeyError: A column is missing.
    :raises ValueError: The file has another number of rows, or not every row has its numbers.
    """
    with pq.ParquetFile(path) as table:
        if table.metadata.num_rows != sum(episode.length for episode in episodes):
            raise ValueError(f'{path}: {table.metadata.num_rows} rows')
        parts = batches(table, [column.key for column in columns])
        held: list[Numbers] = [np.empty((0, column.width)) for column in columns]
        for episode in episodes:
            while len(held[0]) < episode.length:
                _, arrays = next(parts, (0, None))
                if arrays is None:
                    raise ValueError(f'{path}: ends early')
                held = [
                    _joined(part, numbers_of(arrays[column.key]).reshape(-1, column.width))
                    for part, column in zip(held, columns, strict=True)
                ]
            yield [part[: episode.length] for part in held]
            held = [part[slice(episode.length, None)] for part in held]


def _joined(first: Numbers, second: Numbers) -> Numbers:
    """Join rows; nothing has no type."""
    return np.concatenate([first, second]) if len(first) else second


def numbers_of(array: pa.Array) -> Numbers:
    """Return the numbers of a column of scalars or of (nested) lists, one after the other."""
    while is_list(array.type):
        array = array.flatten()
    return np.asarray(array.to_numpy(zero_copy_only=False))


def is_list(kind: pa.DataType) -> bool:
    """Whether a column is of lists of any kind."""
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


class _FileCheck:
    """Checks one file against the episodes that it should hold."""

    def __init__(
        self,
        dataset: Description,
        file: str,
        episodes: Sequence[StoredEpisode],
        table: pq.ParquetFile,
        findings: Findings,
    ) -> None:
        self._dataset = dataset
        self._file = file
        self._episodes = episodes
        self._own = dataset.own(episodes)
        self._table = table
        self._findings = findings
        self._columns = [c for c in dataset.features.values() if not c.is_video]

    def run(self, *, values: bool) -> None:
        readable = self._check_schema()
        if self._own:
            self._check_own_form()
        rows = sum(episode.length for episode in self._episodes)
        if self._table.metadata.num_rows != rows:
            self._add('data.rows', f'{self._table.metadata.num_rows} rows', f'{rows} rows')
        if all(key in readable for key in _DEFAULT_KEYS):
            self._check_default_columns()
        if values:
            for column in self._columns:
                if column.key in readable and column.is_numeric:
                    self._check_values(column)
                elif column.key in readable and column.dtype == 'language':
                    self._check_language(column)

    def _add(self, rule: str, found: object, expected: object, **where: Any) -> None:
        self._findings.add(rule, found, expected, file=self._file, **where)

    def _check_schema(self) -> set[str]:
        """Check that the columns are the features; return those of the right type."""
        schema = self._table.schema_arrow
        declared = {column.key for column in self._columns}
        for name in schema.names:
            if name not in declared:
                self._add('data.columns', f'column {name!r}', 'the features of info.json')
        right_type = set()
        for column in self._columns:
            if column.key not in schema.names:
                self._add('data.columns', 'no column', 'its values', feature=column.key)
            elif not _fits(schema.field(column.key).type, column):
                self._add(
                    'data.type',
                    schema.field(column.key).type,
                    f'{column.dtype}{list(column.shape)}',
                    feature=column.key,
                )
            else:
                right_type.add(column.key)
        return right_type

    def _check_own_form(self) -> None:
        """Check what this converter promises of a file beyond what LeRobot reads."""
        path = self._dataset.root / self._file
        features = [
            column
            for column in self._columns
            if column.is_image
            or column.dtype in ('language', 'string')
            or (column.is_numeric and len(column.shape) <= 2)
        ]
        # Numbers come first, then pictures and texts, then the default columns.
        features.sort(
            key=lambda feature: (
                feature.key in _DEFAULT_KEYS,
                feature.is_language,
                feature.is_image,
            )
        )
        expected, found = table_schema(features), self._table.schema_arrow
        if found.names != expected.names or found.types != expected.types:
            self._add('data.schema', _schema_text(found), _schema_text(expected))
        if _list_kinds(found.metadata) - {'Sequence'}:
            self._add('data.list_kind', 'List', 'Sequence, which LeRobot 0.3 needs')
        groups = [
            self._table.metadata.row_group(group).num_rows
            for group in range(self._table.num_row_groups)
        ]
        lengths = [episode.length for episode in self._episodes]
        if any(feature.is_image for feature in features):
            # Episodes with pictures may have several; none has rows of two episodes.
            ends = set(np.cumsum(groups).tolist())
            apart = ends.issuperset(np.cumsum(lengths).tolist())
        else:
            apart = groups == lengths
        if not apart:
            self._add('data.row_groups', groups[:5], f'one for each episode: {lengths[:5]}')
        limit = self._dataset.limit_mb('data_files_size_in_mb')
        size = path.stat().st_size
        if len(lengths) > 1 and size >= FileLimits(data_mb=limit).data_bytes:
            self._add('data.size', f'{size} bytes', f'below {limit} MB')

    def _check_default_columns(self) -> None:
        check = _DefaultColumnsCheck(self._dataset, self._file, self._episodes, self._findings)
        for _, arrays in batches(self._table, _DEFAULT_KEYS):
            if any(array.null_count for array in arrays.values()):
                self._add('data.null', 'an empty cell', 'a number', feature='default columns')
                return
            check.feed({name: numbers_of(array) for name, array in arrays.items()})
        check.finish()

    def _check_values(self, column: StoredFeature) -> None:
        for first, arrays in batches(self._table, [column.key]):
            array = arrays[column.key]
            numbers = numbers_of(array)
            if array.null_count or len(numbers) != len(array) * column.width:
                self._add(
                    'data.null',
                    f'{len(numbers)} numbers, {array.null_count} empty cells in {len(array)} rows',
                    f'{column.width} numbers in a row',
                    feature=column.key,
                )
                continue
            finite = np.isfinite(numbers)
            if not finite.all():
                bad = np.flatnonzero(~finite)
                episode, frame = self._frame_of(first + int(bad[0]) // column.width)
                self._add(
                    'data.finite',
                    numbers[bad[0]],
                    'finite numbers',
                    feature=column.key,
                    episode=episode,
                    frame=frame,
                    places=len(bad),
                )

    def _check_language(self, column: StoredFeature) -> None:
        """Check the texts of each row; those that last are the same in all rows of an episode."""
        lasts = column.key == _PERSISTENT
        last: tuple[int, Any] = (-1, None)
        for first, arrays in batches(self._table, [column.key]):
            for row, cell in enumerate(arrays[column.key], first):
                episode, frame = self._frame_of(row)
                if lasts and last[0] == episode and cell.equals(last[1]):
                    continue
                problem = self._language_problem(column.key, cell.as_py(), episode)
                if lasts and last[0] == episode:
                    problem = 'other texts than the frame before'
                last = episode, cell
                if problem:
                    self._add(
                        'data.language', problem, 'texts of language as LeRobot reads them',
                        feature=column.key, episode=episode, frame=frame,
                    )  # fmt: skip
                    return

    def _language_problem(
        self, key: str, rows: Sequence[Mapping[str, Any]] | None, episode: int
    ) -> str:
        """Return what is wrong with the texts of a row, '' if nothing is."""
        if rows is None:
            return 'an empty cell'
        lengths = {one.index: one.length for one in self._episodes}
        lasts = key == _PERSISTENT
        for row in rows:
            if not row.get('role'):
                return 'a text without a role'
            if (row.get('style') in _LASTING_STYLES) is not lasts:
                return f'a text of style {row.get("style")}'
            time = row.get('timestamp') if lasts else 0.0
            if time is None or not -1e-4 <= time * self._dataset.fps < lengths[episode]:
                return f'a text at {time} s of {lengths[episode]} frames'
        return ''

    def _frame_of(self, row: int) -> tuple[int, int]:
        for episode in self._episodes:
            if row < episode.length:
                return episode.index, row
            row -= episode.length
        return self._episodes[-1].index, self._episodes[-1].length + row


class _DefaultColumnsCheck:
    """
    Compares the default columns with what they must be, run by run of ``episode_index``.

    A run begins anew where an episode does, so one missing row is found once and does not make
    every row after it wrong.
    """

    def __init__(
        self,
        dataset: Description,
        file: str,
        episodes: Sequence[StoredEpisode],
        findings: Findings,
    ) -> None:
        self._fps = dataset.fps
        self._own = dataset.own(episodes)
        self._tasks = dataset.tasks
        self._file = file
        self._findings = findings
        self._episodes = {episode.index: episode for episode in episodes}
        self._rows = dict.fromkeys(self._episodes, 0)
        self._seen_tasks: dict[int, set[int]] = {index: set() for index in self._episodes}
        self._last = -1

    def feed(self, columns: Columns) -> None:
        """Check the next rows of the file."""
        episodes = columns['episode_index']
        edges = np.flatnonzero(np.diff(episodes)) + 1
        for start, stop in pairwise([0, *edges.tolist(), len(episodes)]):
            self._run(int(episodes[start]), {k: v[start:stop] for k, v in columns.items()})

    def _run(self, index: int, columns: Columns) -> None:
        episode = self._episodes.get(index)
        count = len(columns['episode_index'])
        if episode is None or index < self._last:
            self._findings.add(
                'data.episode_index', index, f'episodes {min(self._episodes)} to '
                f'{max(self._episodes)}, ascending', file=self._file, places=count,
            )  # fmt: skip
            return
        self._last = index
        frames = np.arange(self._rows[index], self._rows[index] + count)
        self._rows[index] += count
        self._compare('data.frame_index', episode, frames, columns['frame_index'], frames)
        rows = episode.first_row + frames
        self._compare('data.index', episode, frames, columns['index'], rows)
        self._compare_timestamps(episode, frames, columns['timestamp'])
        self._compare_tasks(episode, frames, columns['task_index'])

    def _compare(
        self, rule: str, episode: StoredEpisode, frames: Numbers, found: Numbers, expected: Numbers
    ) -> None:
        self._add(rule, episode, frames, found, expected, found != expected)

    def _compare_timestamps(self, episode: StoredEpisode, frames: Numbers, found: Numbers) -> None:
        expected = (frames / self._fps).astype(np.float32)
        if self._own:
            wrong = found != expected
        else:
            wrong = ~(np.abs(found - frames / self._fps) < _TIMESTAMP_TOLERANCE)
        self._add('data.timestamp', episode, frames, found, expected, wrong)

    def _compare_tasks(self, episode: StoredEpisode, frames: Numbers, found: Numbers) -> None:
        wrong = (found < 0) | (found >= len(self._tasks))
        last = np.full(len(found), len(self._tasks) - 1)
        self._add('data.task_index', episode, frames, found, last, wrong)
        self._seen_tasks[episode.index].update(np.unique(found[~wrong]).tolist())

    def _add(
        self,
        rule: str,
        episode: StoredEpisode,
        frames: Numbers,
        found: Numbers,
        expected: Numbers,
        wrong: npt.NDArray[np.bool_],
    ) -> None:
        if not wrong.any():
            return
        at = int(wrong.argmax())
        self._findings.add(
            rule,
            found[at],
            f'0 to {expected[at]}' if rule == 'data.task_index' else expected[at],
            file=self._file,
            episode=episode.index,
            frame=int(frames[at]),
            places=int(wrong.sum()),
        )

    def finish(self) -> None:
        """Check that every episode was there as a whole."""
        for index, episode in self._episodes.items():
            if self._rows[index] != episode.length:
                self._findings.add(
                    'data.episode_rows',
                    f'{self._rows[index]} rows',
                    f'{episode.length} rows',
                    file=self._file,
                    episode=index,
                )
            found = {self._tasks[task] for task in self._seen_tasks[index]}
            if found != set(episode.tasks):
                self._findings.add(
                    'episodes.tasks',
                    f'rows of {sorted(found)}',
                    f'{sorted(episode.tasks)}, as the episode says',
                    file=self._file,
                    episode=index,
                )


def _fits(kind: pa.DataType, column: StoredFeature) -> bool:
    """Whether LeRobot can cast a column to the feature's type."""
    if column.dtype == 'image':
        return bool(pa.types.is_struct(kind) or _is_binary(kind))
    if column.dtype == 'string':
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
    if column.dtype == 'language':
        return is_list(kind)
    if column.shape == (1,):
        return _is_number(kind)
    for length in column.shape:
        if not is_list(kind):
            return False
        if pa.types.is_fixed_size_list(kind) and kind.list_size != length:
            return False
        kind = kind.value_type
    return _is_number(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    )


def _schema_text(schema: pa.Schema) -> str:
    return ', '.join(f'{field.name}: {field.type}' for field in schema)


def _list_kinds(metadata: Mapping[bytes, bytes] | None) -> set[str]:
    """Return how Hugging Face's metadata calls the lists of a table."""
    try:
        document = json.loads((metadata or {})[b'huggingface'])
        features = document['info']['features'].values()
        return {feature['_type'] for feature in features if 'feature' in feature}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {'none'}
