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

"""Compares the rows of a dataset with those that the bag gives, bit by bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kuavo_bag_converter.alignment.plan import LanguageRow
from kuavo_bag_converter.check.description import Description, StoredEpisode
from kuavo_bag_converter.check.findings import ARROW_ERRORS, Findings
from kuavo_bag_converter.check.rows import Columns
from kuavo_bag_converter.dataset.features import Feature
from kuavo_bag_converter.dataset.language import language_columns
from kuavo_bag_converter.dataset.tables import column_of, read_rows, TASK_INDEX
from kuavo_bag_converter.frames.table import FrameRows
from kuavo_bag_converter.support.errors import DatasetError
import numpy as np
import numpy.typing as npt
import pyarrow as pa


class RowComparer:
    """Takes the rows of a bag in order and compares them with those of its episodes."""

    def __init__(
        self,
        dataset: Description,
        episodes: Sequence[StoredEpisode],
        tasks: Iterator[str],
        findings: Findings,
        texts: Sequence[Feature] = (),
        language: Sequence[Sequence[LanguageRow]] = (),
    ) -> None:
        """
        Begin at the first row of the first episode.

        ``tasks`` gives the task of each row, ``language`` the texts of each episode, for the
        columns ``texts``.
        """
        self._texts = texts
        self._dataset = dataset
        self._tasks = tasks
        self._findings = findings
        self._left = iter(episodes)
        self._language = iter(language)
        self._features = [
            column
            for column in dataset.features.values()
            if column.is_numeric and len(column.shape) <= 2
        ]
        self._first_rows = first_rows(dataset)
        self._episode: StoredEpisode | None = None
        self._stored: Columns = {}
        self._frame = 0

    def append(self, rows: FrameRows) -> None:
        """Compare the next rows of the bag."""
        start = 0
        while start < rows.frames:
            if self._episode is None or self._frame == self._episode.length:
                self._open(next(self._left))
            assert self._episode is not None
            stop = min(rows.frames, start + self._episode.length - self._frame)
            vectors = {key: values[start:stop] for key, values in rows.vectors.items()}
            self._compare(self._episode, FrameRows(stop - start, vectors))
            self._frame += stop - start
            start = stop

    def _open(self, episode: StoredEpisode) -> None:
        path = self._dataset.root / episode.data_file
        first = episode.first_row - self._first_rows[episode.data_file]
        try:
            table = pa.concat_tables(read_rows(path, first, episode.length, self._features))
            self._stored = {f.key: column_of(table, f) for f in self._features}
            self._compare_language(episode, path, first)
        except (*ARROW_ERRORS, DatasetError):  # reported as data.unreadable or data.missing
            self._stored = {}
        self._episode, self._frame = episode, 0

    def _compare(self, episode: StoredEpisode, rows: FrameRows) -> None:
        count = rows.frames
        for key, expected in rows.vectors.items():
            stored = self._stored.get(key)
            if stored is None or len(stored) != episode.length:
                continue  # reported as data.columns or data.rows
            found = stored[slice(self._frame, self._frame + count)]
            if found.dtype != expected.dtype or found.shape != expected.shape:
                self._findings.add(
                    'rows.form',
                    f'{found.dtype}{list(found.shape[1:])}',
                    f'{expected.dtype}{list(expected.shape[1:])}',
                    feature=key,
                    episode=episode.index,
                )
                continue
            self._compare_bits(episode, key, found, expected)
        self._compare_tasks(episode, count)

    def _compare_bits(
        self, episode: StoredEpisode, key: str, found: npt.NDArray[Any], expected: npt.NDArray[Any]
    ) -> None:
        bits = f'u{found.dtype.itemsize}'
        wrong = np.ascontiguousarray(found).view(bits) != np.ascontiguousarray(expected).view(bits)
        if not wrong.any():
            return
        frame, *sample, element = (int(at[0]) for at in np.nonzero(wrong))
        names = self._dataset.features[key].names
        name = names[element] if isinstance(names, list) else element
        place = (frame, *sample, element)
        self._findings.add(
            'rows.value',
            f'{name}{f" of sample {sample[0]}" if sample else ""} {found[place]!s}',
            f'{expected[place]!s}',
            file=episode.data_file,
            feature=key,
            episode=episode.index,
            frame=self._frame + frame,
            places=int(wrong.reshape(len(wrong), -1).any(axis=1).sum()),
        )

    def _compare_language(self, episode: StoredEpisode, path: Path, first: int) -> None:
        """Compare the texts of an episode, if there are any to be."""
        rows = next(self._language, None)
        known = self._dataset.features
        columns = [
            one for one in self._texts if one.key in known and one.dtype == known[one.key].dtype
        ]
        if rows is None or len(columns) < len(self._texts):
            return  # of the second, the metadata says so
        table = pa.concat_tables(read_rows(path, first, episode.length, columns))
        frames = np.arange(episode.length)
        timestamps = (frames / self._dataset.fps).astype(np.float32)
        expected = language_columns(columns, rows, timestamps)
        for key, column in expected.items():
            found, wanted = table.column(key).to_pylist(), column.to_pylist()
            wrong = [frame for frame in frames.tolist() if found[frame] != wanted[frame]]
            if wrong:
                self._findings.add(
                    'rows.language',
                    _texts(found[wrong[0]]),
                    _texts(wanted[wrong[0]]),
                    file=episode.data_file,
                    feature=key,
                    episode=episode.index,
                    frame=wrong[0],
                    places=len(wrong),
                )

    def _compare_tasks(self, episode: StoredEpisode, count: int) -> None:
        numbers = self._stored.get(TASK_INDEX.key)
        for frame in range(self._frame, self._frame + count):
            expected = next(self._tasks)
            if numbers is None or len(numbers) != episode.length:
                continue
            number = int(numbers[frame, 0])
            known = 0 <= number < len(self._dataset.tasks)
            found = self._dataset.tasks[number] if known else str(number)
            if found != expected:
                self._findings.add(
                    'rows.task',
                    repr(found),
                    repr(expected),
                    file=episode.data_file,
                    episode=episode.index,
                    frame=frame,
                )


def _texts(rows: Sequence[Mapping[str, Any]] | str | None) -> str:
    if isinstance(rows, str):
        return repr(rows)
    found = [f'{row["role"]}: {row["content"]} ({row["style"]})' for row in rows or ()]
    return ', '.join(map(repr, found)) or 'no text'


def first_rows(dataset: Description) -> dict[str, int]:
    """Return the dataset's row that each file begins with."""
    return {file: episodes[0].first_row for file, episodes in dataset.data_files().items()}
