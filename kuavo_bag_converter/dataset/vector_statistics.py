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
Statistics of numbers: true values over all frames, per dimension.

Where a frame has several samples they are over all of these, as LeRobot takes them since 0.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
import math
from typing import Any

from kuavo_bag_converter.dataset.statistics import QUANTILES, STATISTICS, Statistics
import numpy as np
from numpy.typing import NDArray

Batches = Callable[[], Iterable[NDArray[np.generic]]]

_BLOCK_BYTES = 8 << 20
_LARGEST_ITEM = 8
_MOST_BLOCKS = 8
"""Passes in which columns are sorted; what needs more is counted."""
_TABLES = 48
"""Tables of counts, 0.5 MB each, that are filled in a pass."""
_DIGIT = 16
_LAST_DIGIT = (1 << _DIGIT) - 1


def vector_statistics(batches: Batches, rows: int, *shape: int) -> Statistics:
    """
    Return the statistics of a table column.

    Memory is bounded: dimensions are sorted, as many in each pass as fit in 8 MB; of columns that
    take many passes values are counted digit by digit, which finds the same quantiles in fewer.

    :param batches: Starts a new pass over the column, in arrays (n, *shape) of one numeric dtype.
    :param rows: How many rows there are, at least one.
    :param shape: Of a row: how many dimensions it has, behind how many samples if several.
    :return: Arrays (width,): float64, and ``count`` int64 of shape (1,). Quantiles are
        interpolated linearly between the two nearest values, as ``numpy.quantile`` does.
    """
    first, width, values = 0, shape[-1], rows * math.prod(shape[:-1])
    parts: list[dict[str, NDArray[np.float64]]] = []
    if _is_long(batches, values, width):
        parts, first = [_statistics_by_counting(batches, values, width)], width
    while first < width:
        block = _read_columns(batches, values, first, width)
        parts.append(_statistics_of_columns(block))
        first += len(block)
    statistics: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {
        name: np.concatenate([part[name] for part in parts]) for name in parts[0]
    }
    statistics['count'] = np.array([rows], np.int64)
    return {name: statistics[name] for name in STATISTICS}


def _read_columns(batches: Batches, rows: int, first: int, width: int) -> NDArray[np.generic]:
    """Read as many dimensions from ``first`` on as fit in a block: (dimensions, rows)."""
    columns: NDArray[np.generic] | None = None
    filled = 0
    for batch in (batch.reshape(-1, width) for batch in batches()):
        if columns is None:
            at_once = max(1, _BLOCK_BYTES // (rows * batch.itemsize))
            columns = np.empty((min(at_once, width - first), rows), batch.dtype)
        columns[:, slice(filled, filled + len(batch))] = batch[
            :, slice(first, first + len(columns))
        ].T
        filled += len(batch)
    if columns is None or filled != rows:
        raise ValueError(f'{filled} rows were read, {rows} were expected')
    return columns


def _is_long(batches: Batches, rows: int, width: int) -> bool:
    """Tell whether a dimension does not fit in a block, or many blocks are needed."""
    if rows * width * _LARGEST_ITEM <= _BLOCK_BYTES:
        return False
    column = rows * next(iter(batches()), np.zeros(0)).itemsize
    return column > _BLOCK_BYTES or column * width > _MOST_BLOCKS * _BLOCK_BYTES


def _statistics_by_counting(
    batches: Batches, rows: int, width: int
) -> dict[str, NDArray[np.float64]]:
    """Take the statistics of columns of any length."""

    def columns() -> Iterator[NDArray[Any]]:
        return _in_large_parts(batch.reshape(-1, width) for batch in batches() if batch.size)

    filled, total = 0, np.zeros(width)
    least: NDArray[Any] | None = None
    most: NDArray[Any] | None = None
    for part in columns():
        filled += len(part)
        total += part.sum(axis=0, dtype=np.float64)
        low, high = part.min(axis=0), part.max(axis=0)
        least = low if least is None else np.minimum(least, low)
        most = high if most is None else np.maximum(most, high)
    if least is None or most is None or filled != rows:
        raise ValueError(f'{filled} rows were read, {rows} were expected')
    mean = total / rows
    squares = np.zeros(width)
    for part in columns():
        squares += np.square(part - mean).sum(axis=0)
    result = {
        'min': least.astype(np.float64),
        'max': most.astype(np.float64),
        'mean': mean,
        'std': np.sqrt(squares / rows),
    }
    at = np.array(list(QUANTILES.values())) * (rows - 1)
    below, above = np.floor(at).astype(np.int64), np.ceil(at).astype(np.int64)
    ranks = np.unique([below, above])
    ordered = _values_at(columns, ranks, least, most)
    for name, place, first, last in zip(QUANTILES, at, below, above, strict=True):
        low, high = ordered[np.searchsorted(ranks, first)], ordered[np.searchsorted(ranks, last)]
        result[name] = low + (high - low) * (place - first)
    return result


def _in_large_parts(parts: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """Yield arrays (n, width) joined to ones of many rows, for each of which tables are added."""
    held: list[NDArray[Any]] = []
    size = 0
    for part in parts:
        held.append(part)
        size += part.nbytes
        if size >= _BLOCK_BYTES // 4:
            yield np.concatenate(held)
            held, size = [], 0
    if held:
        yield np.concatenate(held)


def _values_at(
    columns: Callable[[], Iterable[NDArray[Any]]],
    ranks: NDArray[np.int64],
    least: NDArray[Any],
    most: NDArray[Any],
) -> NDArray[np.float64]:
    """
    Return the values (ranks, dimensions) that sorted columns have at some ranks.

    All values are counted by the first 16 bits of a number that orders them, then those that begin
    as the wanted ones by the next 16, and so on.

    :param columns: Starts a new pass, in arrays (n, dimensions).
    :param ranks: Ascending, from 0.
    :param least: The least value of each dimension.
    :param most: The largest.
    """
    keys = _ordered(most[None], least)
    bits = 8 * keys.itemsize
    if least.dtype.kind != 'f':
        bits = max(_DIGIT, -(-int(keys.max()).bit_length() // _DIGIT) * _DIGIT)
    known = np.zeros((len(ranks), len(least)), np.uint64)
    left = np.repeat(ranks[:, None], len(least), axis=1)
    for shift in range(bits - _DIGIT, -1, -_DIGIT):
        beginnings = [np.unique(column) for column in known.T]
        first = 0
        while first < len(least):
            tables = np.cumsum([len(beginning) for beginning in beginnings[first:]])
            stop = first + max(1, int(np.searchsorted(tables, _TABLES, side='right')))
            block = slice(first, stop)
            counts = _counts(columns, beginnings[block], block, least[block], shift)
            for dimension, reached in zip(range(first, stop), counts, strict=True):
                for rank in range(len(ranks)):
                    place = np.searchsorted(beginnings[dimension], known[rank, dimension])
                    row = reached[place]
                    digit = int(np.searchsorted(row, left[rank, dimension], side='right'))
                    left[rank, dimension] -= row[digit - 1] if digit else 0
                    known[rank, dimension] = (int(known[rank, dimension]) << _DIGIT) + digit
            first = stop
    return _unordered(known, least)


def _counts(
    columns: Callable[[], Iterable[NDArray[Any]]],
    beginnings: Sequence[NDArray[np.uint64]],
    block: slice,
    least: NDArray[Any],
    shift: int,
) -> list[NDArray[np.int64]]:
    """
    Count values by a digit of their keys, cumulatively.

    :param columns: Starts a new pass.
    :param beginnings: For each dimension of the block what counted keys have before the digit.
    :param block: The dimensions.
    :param least: The least value of each.
    :param shift: Of the digit, in bits.
    :return: For each dimension an array (beginnings, digits).
    """
    counts = [np.zeros((len(beginning), 1 << _DIGIT), np.int64) for beginning in beginnings]
    for part in columns():
        keys = _ordered(part[:, block], least).astype(np.uint64) >> np.uint64(shift)
        for count, beginning, digits in zip(counts, beginnings, keys.T, strict=True):
            before = digits >> np.uint64(_DIGIT)
            for place, prefix in enumerate(beginning):
                mine = digits[before == prefix] & np.uint64(_LAST_DIGIT)
                count[place] += np.bincount(mine.astype(np.int64), minlength=1 << _DIGIT)
    return [count.cumsum(axis=1) for count in counts]


def _ordered(values: NDArray[Any], least: NDArray[Any]) -> NDArray[np.unsignedinteger[Any]]:
    """Return unsigned numbers in the order of some values (n, dimensions)."""
    if values.dtype.kind == 'f':
        wide = np.ascontiguousarray(values, np.promote_types(values.dtype, np.float32))
        unsigned = wide.view(f'u{wide.itemsize}')
        top = unsigned.dtype.type(1 << (8 * wide.itemsize - 1))
        return np.where(unsigned & top, ~unsigned, unsigned | top)
    return values.astype(np.uint64) - least.astype(np.uint64)


def _unordered(keys: NDArray[np.uint64], least: NDArray[Any]) -> NDArray[np.float64]:
    """Return the values of which :func:`_ordered` has made the keys (n, dimensions)."""
    if least.dtype.kind == 'f':
        kind = np.promote_types(least.dtype, np.float32)
        unsigned = keys.astype(f'u{kind.itemsize}')
        top = unsigned.dtype.type(1 << (8 * kind.itemsize - 1))
        return np.where(unsigned & top, unsigned ^ top, ~unsigned).view(kind).astype(np.float64)
    signed = keys + least.astype(np.uint64)
    return signed.astype(least.dtype).astype(np.float64)


def _statistics_of_columns(columns: NDArray[np.generic]) -> dict[str, NDArray[np.float64]]:
    """Take the statistics of every row of ``columns``, which is sorted on return."""
    names = ('min', 'max', 'mean', 'std', *QUANTILES)
    result = np.empty((len(names), len(columns)))
    at = np.array(list(QUANTILES.values())) * (columns.shape[1] - 1)
    below = np.floor(at).astype(np.int64)
    above = np.ceil(at).astype(np.int64)
    for index, column in enumerate(columns):
        values = column.astype(np.float64)
        mean = values.mean()
        values -= mean
        std = np.sqrt(np.square(values, out=values).mean())
        column.sort()
        low = column[below].astype(np.float64)
        high = column[above].astype(np.float64)
        result[:4, index] = float(column[0]), float(column[-1]), mean, std
        result[4:, index] = low + (high - low) * (at - below)
    return dict(zip(names, result, strict=True))
