"""Whether stats.json of a v3.0 dataset agrees with its episodes and its rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from kuavo_bag_converter.check.description import (
    DATA_FILES,
    EPISODES_FILES,
    Column,
    Description,
)
from kuavo_bag_converter.check.findings import Findings
from kuavo_bag_converter.check.reading import ARROW_ERRORS, BROKEN, read_json
from kuavo_bag_converter.check.rows import batches, numbers_of
from kuavo_bag_converter.check.statistics import (
    BASIC,
    BOOKKEEPING,
    OWN_VECTORS,
    BatchCheck,
    Pools,
    Tolerance,
)
from kuavo_bag_converter.check.stored_statistics import Batch, Stored, Values, stacked
from kuavo_bag_converter.dataset.layout import STATS_PATH
from kuavo_bag_converter.dataset.metadata import PICTURES, decode_pictures
from kuavo_bag_converter.dataset.statistics import STATISTICS, vector_statistics

_OWN_POOLED = Tolerance(dict.fromkeys(BASIC, 1e-9), 1e-9)
_OWN_PICTURES = Tolerance(dict.fromkeys(STATISTICS, 1e-9), 1e-9)
_OTHER_POOLED = Tolerance(dict.fromkeys(BASIC, 1e-2), 1e-3)


def check_total(dataset: Description, findings: Findings, pools: Pools, *, rows: bool) -> None:
    """Check stats.json: against the episodes', own ones where ``rows`` against all rows."""
    own = dataset.own(dataset.episodes)
    if not own and not (dataset.root / STATS_PATH).exists():
        return
    document = read_json(dataset.root, STATS_PATH, 'stats', findings)
    if document is None:
        return
    values = stacked(dataset, [document], STATS_PATH, findings)
    checker = BatchCheck(
        dataset, Batch(dataset.episodes, STATS_PATH, values), findings, 'stats.total'
    )
    checker.check_form()
    for column in dataset.features.values():
        if column.is_picture and column.key not in values:
            findings.add(
                'stats.missing', 'no statistics', 'those of every camera: training needs them',
                file=STATS_PATH, feature=column.key,
            )  # fmt: skip
        pool = pools.get(column.key) if own or column.key not in BOOKKEEPING else None
        if pool is not None and pool.episodes == len(dataset.episodes):
            checker.compare(column.key, pool.pooled(), _OWN_POOLED if own else _OTHER_POOLED)
        if own and rows and column.is_numeric:
            _compare_rows(dataset, checker, column)
    if own:
        for key, expected in _pictures_of_all(dataset, findings).items():
            checker.compare(key, expected, _OWN_PICTURES)


def _compare_rows(dataset: Description, checker: BatchCheck, column: Column) -> None:
    try:
        checker.compare(column.key, _total(dataset, column), OWN_VECTORS)
    except (*ARROW_ERRORS, KeyError):  # reported as a finding of its own
        return


def _total(dataset: Description, column: Column) -> dict[str, Values]:
    """Return the statistics of a feature over all rows of the dataset."""

    def parts() -> Iterator[npt.NDArray[Any]]:
        for file in dataset.files_on_disk(DATA_FILES):
            with pq.ParquetFile(dataset.root / file) as table:
                for _, arrays in batches(table, [column.key]):
                    yield numbers_of(arrays[column.key]).reshape(-1, column.width)

    found = vector_statistics(parts, dataset.frames, column.width)
    return {name: np.asarray(value, float)[None] for name, value in found.items()}


def _pictures_of_all(dataset: Description, findings: Findings) -> Stored:
    """Return the statistics of the pictures that this converter notes beside the episodes."""
    file = dataset.files_on_disk(EPISODES_FILES)[-1]
    try:
        note = (pq.read_metadata(dataset.root / file).metadata or {}).get(PICTURES.encode())
        pictures = {} if note is None else decode_pictures(note.decode())
        return {
            key: {
                name: np.asarray(value, float).reshape(1, -1)
                for name, value in histogram.statistics().items()
            }
            for key, histogram in pictures.items()
        }
    except BROKEN as error:
        findings.add('stats.unreadable', error, 'the pictures of all episodes', file=file)
        return {}
