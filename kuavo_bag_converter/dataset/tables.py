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

"""The table of a dataset in Parquet, as LeRobot and Hugging Face ``datasets`` read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
import json
from pathlib import Path
from typing import Any

from kuavo_bag_converter.dataset.features import Feature
from kuavo_bag_converter.dataset.language import (
    described_language,
    language_type,
    REPEATING_TEXTS,
)
from kuavo_bag_converter.support.errors import DatasetError
from kuavo_bag_converter.support.files import sync
import numpy as np
from numpy.typing import NDArray
import pyarrow as pa
import pyarrow.parquet as pq

DEFAULT_FEATURES = (
    Feature('timestamp', 'float32', (1,)),
    Feature('frame_index', 'int64', (1,)),
    Feature('episode_index', 'int64', (1,)),
    Feature('index', 'int64', (1,)),
    Feature('task_index', 'int64', (1,)),
)
TASK_INDEX = DEFAULT_FEATURES[-1]

# A dictionary of measured numbers costs 40 MB while 6000 rows are written, and makes them larger.
_REPEATING = ['episode_index', 'task_index']
_PAGE_BYTES = 64 << 10


def vectors(features: Sequence[Feature]) -> list[Feature]:
    """Return the features that live in the table as numbers."""
    return [feature for feature in features if not (feature.is_picture or feature.is_language)]


def texts(features: Sequence[Feature]) -> list[Feature]:
    """Return the features that live in the table as texts."""
    return [feature for feature in features if feature.is_language]


def images(features: Sequence[Feature]) -> list[Feature]:
    """Return the features that live in the table as pictures."""
    return [feature for feature in features if feature.is_image]


def videos(features: Sequence[Feature]) -> list[Feature]:
    """Return the features that live in MP4 files."""
    return [feature for feature in features if feature.is_video]


def table_schema(features: Sequence[Feature]) -> pa.Schema:
    """
    Return the schema of a table, with the metadata that ``datasets`` looks for.

    A list is called "Sequence", which all versions of ``datasets`` understand; "List" needs 4.0.
    """
    described: dict[str, Any] = {}
    for feature in features:
        value = {'dtype': feature.dtype, '_type': 'Value'}
        if feature.is_image:
            described[feature.key] = {'_type': 'Image'}
        elif feature.dtype == 'language':
            described[feature.key] = described_language(feature.key)
        elif feature.shape == (1,):
            described[feature.key] = value
        elif len(feature.shape) == 2:
            shape = list(feature.shape)
            described[feature.key] = {'shape': shape, 'dtype': feature.dtype, '_type': 'Array2D'}
        else:
            described[feature.key] = {
                'feature': value,
                'length': feature.shape[0],
                '_type': 'Sequence',
            }
    metadata = {'huggingface': json.dumps({'info': {'features': described}})}
    return pa.schema(
        [pa.field(feature.key, _arrow_type(feature)) for feature in features], metadata
    )


def _arrow_type(feature: Feature) -> pa.DataType:
    if feature.is_image:
        return pa.struct([('bytes', pa.binary()), ('path', pa.string())])
    if feature.is_language:
        return pa.string() if feature.dtype == 'string' else language_type(feature.key)
    value = pa.from_numpy_dtype(np.dtype(feature.dtype))
    if feature.shape == (1,):
        return value
    if len(feature.shape) == 2:  # the lists of any length in which datasets stores its Array2D
        return pa.list_(pa.field('element', pa.list_(pa.field('element', value))))
    return pa.list_(pa.field('element', value), feature.shape[0])


def table_of(features: Sequence[Feature], columns: Mapping[str, NDArray[Any]]) -> pa.Table:
    """Make a table of arrays (n, *shape), one for each feature and of its dtype."""
    arrays = []
    for feature in features:
        values = pa.array(np.ascontiguousarray(columns[feature.key]).reshape(-1))
        kind = _arrow_type(feature)
        if len(feature.shape) == 2:
            for inner, length in zip((kind.value_type, kind), feature.shape[::-1], strict=True):
                ends = np.arange(0, len(values) + 1, length, dtype=np.int32)
                values = pa.ListArray.from_arrays(ends, values, type=inner)
        elif feature.shape != (1,):
            values = pa.FixedSizeListArray.from_arrays(values, type=kind)
        arrays.append(values)
    return pa.Table.from_arrays(arrays, schema=table_schema(features))


def column_of(table: pa.Table, feature: Feature) -> NDArray[Any]:
    """Return a table's column as an array (n, *shape)."""
    parts = []
    for chunk in table.column(feature.key).chunks:
        values = chunk
        for _ in feature.shape if feature.shape != (1,) else ():
            values = values.flatten()
        parts.append(values.to_numpy(zero_copy_only=False))
    joined = np.concatenate(parts) if parts else np.empty(0, feature.dtype)
    return joined.reshape(-1, *feature.shape)


class TableWriter:
    """Writes a Parquet file, one row group for each table that it is given."""

    def __init__(self, path: Path, schema: pa.Schema, compression: str = 'snappy') -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.rows = 0
        self._file = path.open('xb')  # never over a file that is there
        self._writer = pq.ParquetWriter(
            self._file,
            schema,
            compression=compression,
            use_dictionary=[*_REPEATING, *REPEATING_TEXTS],
            data_page_size=_PAGE_BYTES,
        )

    @property
    def bytes_written(self) -> int:
        """Size of the row groups so far."""
        return self._file.tell()

    def write(self, table: pa.Table) -> None:
        """Write all rows of a table as one row group."""
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self.rows += table.num_rows

    def note(self, key: str, value: str) -> None:
        """Put a text into the file's own metadata, which readers of the table ignore."""
        self._writer.add_key_value_metadata({key: value})

    def close(self) -> None:
        """Write the footer and make the file durable."""
        self._writer.close()
        self._file.close()
        sync(self.path)

    def abort(self) -> None:
        """Stop and remove the file."""
        with suppress(OSError):  # what stopped the writing stops its end, too
            self._writer.close()
        with suppress(OSError):
            self._file.close()
        self.path.unlink(missing_ok=True)


def read_rows(
    path: Path, first: int, count: int, features: Sequence[Feature]
) -> Iterator[pa.Table]:
    """
    Yield the rows ``first`` to ``first + count - 1`` of a Parquet file, by row group.

    :param path: The file.
    :param first: The first row, from 0.
    :param count: How many rows.
    :param features: The columns to read.
    :raises DatasetError: The file is damaged.
    """
    keys = [feature.key for feature in features]
    try:
        with pq.ParquetFile(path) as file:
            start = 0
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                low, high = max(first - start, 0), min(first + count - start, rows)
                if low < high:
                    table = file.read_row_group(group, columns=keys, use_threads=False)
                    yield table.select(keys).slice(low, high - low)
                start += rows
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f'{path}: cannot be read ({error})') from error


def read_arrays(
    path: Path, first: int, count: int, features: Sequence[Feature]
) -> dict[str, NDArray[Any]]:
    """
    Read rows of a Parquet file into arrays (count, *shape), by feature.

    :param path: The file.
    :param first: The first row, from 0.
    :param count: How many rows.
    :param features: The columns to read.
    :raises DatasetError: The file is damaged or too short.
    """
    arrays: dict[str, NDArray[Any]] = {
        feature.key: np.empty((count, *feature.shape), feature.dtype) for feature in features
    }
    filled = 0
    for table in read_rows(path, first, count, features):
        for feature in features:
            arrays[feature.key][slice(filled, filled + table.num_rows)] = column_of(table, feature)
        filled += table.num_rows
    if filled != count:
        raise DatasetError(f'{path}: {filled} rows from row {first} on, expected {count}')
    return arrays
