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

"""The statistics that a dataset stores for each episode, in one form for both versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kuavo_bag_converter.check.coding import Floats
from kuavo_bag_converter.check.description import (
    Description,
    StoredEpisode,
    StoredFeature,
)
from kuavo_bag_converter.check.findings import ARROW_ERRORS, BROKEN, Findings, read_json_lines
from kuavo_bag_converter.check.rows import is_list, numbers_of
from kuavo_bag_converter.dataset.layout import EPISODES_FILES, EPISODES_STATS_PATH_V21
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

StoredStatistics = dict[str, dict[str, Floats]]
"""Statistics by feature and name: arrays (episodes, numbers)."""

_BATCH_EPISODES = 64


class Batch(NamedTuple):
    """The statistics of some episodes, one after the other."""

    episodes: Sequence[StoredEpisode]
    file: str
    values: StoredStatistics


def stored_statistics(dataset: Description, findings: Findings) -> Iterator[Batch]:
    """Yield the statistics of all episodes in order; what has another form becomes a finding."""
    if dataset.version == 'v3.0':
        yield from _stored_v30(dataset, findings)
    else:
        yield from _stored_v21(dataset, findings)


def _stored_v30(dataset: Description, findings: Findings) -> Iterator[Batch]:
    first = 0
    for file in dataset.files_on_disk(EPISODES_FILES):
        for batch in _read(dataset, file, findings):
            episodes = dataset.episodes[slice(first, first + batch.num_rows)]
            first += batch.num_rows
            yield Batch(episodes, file, _stored_columns(batch, file, findings))


def _read(dataset: Description, file: str, findings: Findings) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(dataset.root / file) as table:
            names = [name for name in table.schema_arrow.names if name.startswith('stats/')]
            _check_nesting(dataset, table.schema_arrow, file, findings)
            yield from table.iter_batches(_BATCH_EPISODES, columns=names)
    except ARROW_ERRORS as error:
        findings.add('episodes.unreadable', error, 'statistics', file=file)


def _stored_columns(batch: pa.RecordBatch, file: str, findings: Findings) -> StoredStatistics:
    stored: StoredStatistics = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        _, key, statistic = _split(name)
        values = numbers_of(column)
        if column.null_count or not batch.num_rows or len(values) % batch.num_rows:
            findings.add('stats.form', f'{statistic} with gaps', 'numbers', file=file, feature=key)
            continue
        stored.setdefault(key, {})[statistic] = values.reshape(batch.num_rows, -1).astype(float)
    return stored


def _split(name: str) -> tuple[str, str, str]:
    """Split ``stats/<feature>/<statistic>``; a feature may contain a slash."""
    prefix, rest = name.split('/', 1)
    key, _, statistic = rest.rpartition('/')
    return prefix, key, statistic


def _check_nesting(dataset: Description, schema: pa.Schema, file: str, findings: Findings) -> None:
    for field in schema:
        if not field.name.startswith('stats/'):
            continue
        _, key, statistic = _split(field.name)
        column = dataset.features.get(key)
        if column is None:
            findings.add('stats.form', 'statistics', 'those of features', file=file, feature=key)
            continue
        depth, kind = 0, field.type
        while is_list(kind):
            depth, kind = depth + 1, kind.value_type
        expected = 3 if column.is_picture and statistic != 'count' else 1
        if depth != expected and (column.is_picture or depth != len(column.shape)):
            findings.add(
                'stats.form', f'{statistic} nested {depth} deep', expected, file=file, feature=key
            )


def _stored_v21(dataset: Description, findings: Findings) -> Iterator[Batch]:
    file = EPISODES_STATS_PATH_V21
    lines = read_json_lines(dataset.root, file, 'stats', findings) or []
    if len(lines) > len(dataset.episodes):
        findings.add('stats.order', f'{len(lines)} lines', len(dataset.episodes), file=file)
    for first in range(0, min(len(lines), len(dataset.episodes)), _BATCH_EPISODES):
        episodes = dataset.episodes[slice(first, min(first + _BATCH_EPISODES, len(lines)))]
        part = lines[slice(first, first + len(episodes))]
        for line, episode in zip(part, episodes, strict=True):
            if line.get('episode_index') != episode.index:
                findings.add(
                    'stats.order', line.get('episode_index'), episode.index, file=file,
                    episode=episode.index,
                )  # fmt: skip
        documents = [line.get('stats') for line in part]
        yield Batch(episodes, file, stacked(dataset, documents, file, findings))


def stacked(
    dataset: Description, documents: Sequence[Any], file: str, findings: Findings
) -> StoredStatistics:
    """
    Turn documents ``{feature: {statistic: nested lists}}`` into arrays.

    :param dataset: The dataset.
    :param documents: One for each episode.
    :param file: Where they stand, within the dataset.
    :param findings: Takes what is wrong.
    """
    stored: StoredStatistics = {}
    names = {
        (key, name)
        for document in documents
        for key in _mapping(document)
        for name in _mapping(document[key])
    }
    for key, name in sorted(names):
        column = dataset.features.get(key)
        if column is None:
            continue  # of another program; LeRobot passes it by
        try:
            arrays = [np.array(document[key][name], dtype=float) for document in documents]
            shapes = {array.shape for array in arrays}
            if len(shapes) != 1 or not _fitting(column, name, shapes.pop()):
                raise ValueError('not of its feature')
        except BROKEN as error:
            findings.add(
                'stats.form', f'{name}: {error}', 'numbers in the shape of the feature', file=file,
                feature=key,
            )  # fmt: skip
            continue
        stored.setdefault(key, {})[name] = np.stack([array.reshape(-1) for array in arrays])
    return stored


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _fitting(column: StoredFeature, name: str, shape: tuple[int, ...]) -> bool:
    if column.is_picture and name != 'count':
        return len(shape) == 3 and shape[1:] == (1, 1)
    return len(shape) <= max(1, len(column.shape))
