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

"""Whether the stored statistics have LeRobot's form, agree with each other and with the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from kuavo_bag_converter.check.coding import DECODED, Floats, limits
from kuavo_bag_converter.check.description import Description, StoredFeature
from kuavo_bag_converter.check.findings import ARROW_ERRORS, BROKEN, Findings, read_json
from kuavo_bag_converter.check.rows import batches, numbers_of, values_by_episode
from kuavo_bag_converter.check.stored_statistics import (
    Batch,
    stacked,
    stored_statistics,
    StoredStatistics,
)
from kuavo_bag_converter.check.videos import depth_coding, PictureStatistics
from kuavo_bag_converter.dataset.layout import DATA_FILES, EPISODES_FILES, STATS_PATH
from kuavo_bag_converter.dataset.metadata import read_pictures
from kuavo_bag_converter.dataset.statistics import QUANTILES, STATISTICS
from kuavo_bag_converter.dataset.tables import DEFAULT_FEATURES
from kuavo_bag_converter.dataset.vector_statistics import vector_statistics
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

BOOKKEEPING = frozenset(feature.key for feature in DEFAULT_FEATURES)
"""Columns whose statistics LeRobot's editing tools leave as they were."""
_ORDER = ('min', *QUANTILES, 'max')
BASIC = ('min', 'max', 'mean', 'std', 'count')
_MILLIMETRES = 1000.0
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Tolerance:
    """How far statistics may be from what they should be."""

    spread: Mapping[str, float]
    """Share of max - min, by statistic; what is not named is not compared."""
    size: float = 1e-12
    """Share of the largest magnitude: what rounding takes away."""
    absolute: float = 0.0

    def exceeded(
        self, name: str, found: Floats, expected: Floats, low: Floats, high: Floats
    ) -> npt.NDArray[np.bool_]:
        """
        Tell for each episode whether a statistic is further away than allowed.

        :param name: Of the statistic: ``min``, ``max``, ``mean``, ``std`` or a quantile.
        :param found: What is stored, (episodes, elements).
        :param expected: What the data give, likewise.
        :param low: Smallest value of each element, likewise.
        :param high: Largest value, likewise.
        """
        largest = np.maximum(np.abs(low), np.abs(high))
        allowed = self.spread[name] * (high - low) + self.size * largest + self.absolute
        return np.asarray((~(np.abs(found - expected) <= allowed)).any(axis=1))


OWN_VECTORS = Tolerance(dict.fromkeys(STATISTICS, 1e-12))
# LeRobot sums squares in float32 and takes quantiles from histograms.
_OTHER_VECTORS = Tolerance({'min': 1e-6, 'max': 1e-6, 'mean': 2e-3, 'std': 2e-3}, 1e-3)
# LeRobot 0.4 and 0.5 write a wrong standard deviation of pictures.
_OTHER_PICTURES = 0.05
"""How far the mean of pictures may be from that of the video where others wrote it."""
# Invalid depth, 0, reads back as the smallest, 10 mm.
_DEPTH = Tolerance(dict.fromkeys([*BASIC[:4], *QUANTILES], 2e-3), absolute=12.0)


def check_episodes(
    dataset: Description, findings: Findings, pictures: PictureStatistics | None
) -> Pools:
    """
    Check the statistics of each episode.

    :param dataset: The dataset.
    :param findings: Where findings go.
    :param pictures: Those of the decoded videos, to compare the stored ones with, along with those
        of the rows; None to compare the stored ones with each other only.
    :return: The stored statistics joined, by feature.
    """
    rows = _row_statistics(dataset)
    pools: Pools = {}
    covered = 0
    for batch in stored_statistics(dataset, findings):
        checker = BatchCheck(dataset, batch, findings, 'stats.episode')
        checker.check_form()
        checker.check_counts()
        if pictures is not None:
            vectors = _stacked_vectors([next(rows) for _ in batch.episodes])
            for key, expected in vectors.items():
                if checker.own:
                    checker.compare(key, expected, OWN_VECTORS)
                elif key not in BOOKKEEPING:
                    checker.compare(key, expected, _OTHER_VECTORS)
            for column in dataset.features.values():
                if column.is_picture:
                    checker.compare_pictures(column, pictures)
        for key, values in batch.values.items():
            pools.setdefault(key, Pool()).add(values)
        covered += len(batch.episodes)
    if covered < len(dataset.episodes) and dataset.own(dataset.episodes):
        findings.add('stats.missing', f'those of {covered} episodes', len(dataset.episodes))
    return pools


def _row_statistics(dataset: Description) -> Iterator[dict[str, dict[str, Floats]]]:
    """Yield the statistics of each episode's rows in turn; {} where they cannot be read."""
    columns = [column for column in dataset.features.values() if column.is_numeric]
    for file, episodes in dataset.data_files().items():
        done = 0
        try:
            for values in values_by_episode(dataset.root / file, episodes, columns):
                yield {
                    column.key: _statistics(column, held)
                    for column, held in zip(columns, values, strict=True)
                }
                done += 1
        except (*ARROW_ERRORS, KeyError):  # reported as a finding of its own
            yield from ({} for _ in episodes[done:])


def _statistics(column: StoredFeature, values: npt.NDArray[Any]) -> dict[str, Floats]:
    found = vector_statistics(partial(iter, (values,)), len(values), *column.shape)
    return {name: np.asarray(value, float) for name, value in found.items()}


def _stacked_vectors(episodes: Sequence[dict[str, dict[str, Floats]]]) -> StoredStatistics:
    """Join the statistics of episodes; none where those of one are missing."""
    if not all(episodes):
        return {}
    return {
        key: {name: np.stack([e[key][name] for e in episodes]) for name in STATISTICS}
        for key in episodes[0]
    }


class BatchCheck:
    """Checks the statistics of some episodes, or of the whole dataset as if it were one."""

    def __init__(self, dataset: Description, batch: Batch, findings: Findings, rule: str) -> None:
        self.own = dataset.own(batch.episodes)
        self._dataset = dataset
        self._batch = batch
        self._findings = findings
        self._rule = rule

    def check_form(self) -> None:
        """Check that all are there, finite, of the right number and in order."""
        required = STATISTICS if self._dataset.version == 'v3.0' else BASIC
        for key, column in self._dataset.features.items():
            if not (column.is_numeric or column.is_picture):
                continue
            values = self._batch.values.get(key, {})
            missing = [name for name in required if name not in values]
            if missing and self.own:
                self._findings.add(
                    'stats.missing', f'no {", ".join(missing)}', 'all', file=self._batch.file,
                    feature=key,
                )  # fmt: skip
            self._check_numbers(column, values)
            if {'min', 'max'} <= values.keys():
                self._check_order(key, values)

    def _check_numbers(self, column: StoredFeature, values: dict[str, Floats]) -> None:
        """Report statistics of another form, and leave them out of what follows."""
        for name, value in list(values.items()):
            expected = 1 if name == 'count' else _width(column)
            # LeRobot before 0.4 has them for each of several samples.
            other = column.width if not self.own and column.is_numeric else expected
            if value.shape[1] not in (expected, other):
                self._findings.add(
                    'stats.form', f'{value.shape[1]} numbers of {name}', expected,
                    file=self._batch.file, feature=column.key,
                )  # fmt: skip
                del values[name]
                continue
            wrong = ~np.isfinite(value).all(axis=1)
            self._report('stats.finite', column.key, name, wrong, value, 'finite numbers')

    def _check_order(self, key: str, values: Mapping[str, Floats]) -> None:
        low, high = values['min'], values['max']
        allowed = _ROUNDING * (np.abs(low) + np.abs(high) + 1)
        names = [name for name in _ORDER if name in values]
        pairs = [*pairwise(names), ('min', 'mean'), ('mean', 'max')]
        for below, above in pairs:
            if below in values and above in values:
                wrong = (values[below] > values[above] + allowed).any(axis=1)
                self._report('stats.order', key, above, wrong, values[above], values[below])

    def check_counts(self) -> None:
        """Check that each own episode counts its frames."""
        lengths = np.array([[float(episode.length)] for episode in self._batch.episodes])
        for key, values in self._batch.values.items():
            if self.own and 'count' in values:
                wrong = (values['count'] != lengths).any(axis=1)
                self._report(self._rule, key, 'count', wrong, values['count'], lengths)

    def compare(self, key: str, expected: Mapping[str, Floats], tolerance: Tolerance) -> None:
        """Compare a feature's statistics, (episodes, width), with others; NaN is not known."""
        found = self._batch.values.get(key, {})
        for name in tolerance.spread:
            if name not in found or found[name].shape != expected[name].shape:
                continue
            wrong = tolerance.exceeded(
                name, found[name], expected[name], expected['min'], expected['max']
            )
            wrong &= ~np.isnan(expected[name]).any(axis=1)
            self._report(self._rule, key, name, wrong, found[name], expected[name])

    def compare_pictures(self, column: StoredFeature, pictures: PictureStatistics) -> None:
        """Compare a camera's statistics with those of its decoded video."""
        unknown = np.full((len(DECODED), _width(column)), np.nan)
        known = np.stack(
            [
                pictures.get((episode.index, column.key), unknown)
                for episode in self._batch.episodes
            ]
        )
        expected = {name: known[:, index] for index, name in enumerate(DECODED)}
        if column.is_image and self.own:
            self.compare(column.key, expected, _OWN_IMAGES)
        elif not column.is_depth:
            self._compare_coded(column, expected)
        elif column.is_image:
            self.compare(column.key, expected, _DEPTH)
        elif column.info.get('depth_unit') == 'mm':
            clipped = _clipped(column, self._batch.values.get(column.key, {}))
            batch = self._batch._replace(values={column.key: clipped})
            checker = BatchCheck(self._dataset, batch, self._findings, self._rule)
            checker.compare(column.key, expected, _DEPTH)

    def _compare_coded(self, column: StoredFeature, decoded: Mapping[str, Floats]) -> None:
        """Compare statistics of pictures with what those of the decoded ones leave open."""
        key, found = column.key, self._batch.values.get(column.key, {})
        mean = decoded['mean']
        ranges = {'mean': (mean - _OTHER_PICTURES, mean + _OTHER_PICTURES)}
        if self.own and 'std' in found:
            coding = None if column.has_copied_jpegs else self._dataset.coding(column)
            ranges = limits(decoded, found['std'], coding)
        for name, (low, high) in ranges.items():
            if name in found and found[name].shape == low.shape:
                wrong = ((found[name] < low) | (found[name] > high)).any(axis=1)
                self._report(self._rule, key, name, wrong, found[name], decoded[name])

    def _report(
        self,
        rule: str,
        key: str,
        name: str,
        wrong: npt.NDArray[np.bool_] | np.bool_,
        found: Floats,
        expected: Floats | str,
    ) -> None:
        for index in np.flatnonzero(wrong).tolist():
            text = expected if isinstance(expected, str) else _text(expected[index])
            whole = self._rule == 'stats.total'
            self._findings.add(
                rule,
                f'{name} {_text(found[index])}',
                text,
                file=self._batch.file,
                feature=key,
                episode=None if whole else self._batch.episodes[index].index,
            )


def _width(column: StoredFeature) -> int:
    return column.picture_shape[2] if column.is_picture else column.shape[-1]


def _clipped(column: StoredFeature, values: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return the statistics of metric depth as coding leaves them; none that it changes."""
    coding = depth_coding(column)
    low, high = coding.depth_min * _MILLIMETRES, coding.depth_max * _MILLIMETRES
    beyond = 'max' in values and bool((values['max'] > high).any())
    return {
        name: value if name in ('mean', 'std') else value.clip(low, high)
        for name, value in values.items()
        if name != 'count' and not (beyond and name in ('mean', 'std'))
    }


def _text(values: Floats) -> str:
    shown = ', '.join(f'{value:.9g}' for value in values[:6])
    return f'[{shown}{", ..." if len(values) > 6 else ""}]'


class Pool:
    """Joins the statistics of episodes as far as they determine those of all."""

    def __init__(self) -> None:
        self._parts: list[dict[str, Floats]] = []

    def add(self, values: Mapping[str, Floats]) -> None:
        """Add some episodes' statistics of one feature, each (episodes, width)."""
        if all(name in values for name in BASIC):
            self._parts.append({name: values[name] for name in BASIC})

    def pooled(self) -> dict[str, Floats]:
        """Return those of all episodes together, (1, width), each weighing by its count."""
        parts = {name: np.concatenate([part[name] for part in self._parts]) for name in BASIC}
        weight = parts['count'] / parts['count'].sum()
        mean = (weight * parts['mean']).sum(axis=0)
        variance = (weight * (parts['std'] ** 2 + (parts['mean'] - mean) ** 2)).sum(axis=0)
        return {
            'min': parts['min'].min(axis=0)[None],
            'max': parts['max'].max(axis=0)[None],
            'mean': mean[None],
            'std': np.sqrt(variance)[None],
            'count': parts['count'].sum(axis=0)[None],
        }

    @property
    def episodes(self) -> int:
        """How many were added."""
        return sum(len(part['count']) for part in self._parts)


Pools = dict[str, Pool]


_OWN_POOLED = Tolerance(dict.fromkeys(BASIC, 1e-9), 1e-9)
_OWN_IMAGES = Tolerance(dict.fromkeys([*BASIC[:4], *QUANTILES], 1e-9), 1e-9)
_OWN_PICTURES = Tolerance(dict.fromkeys(STATISTICS, 1e-9), 1e-9)
_OTHER_POOLED = Tolerance(dict.fromkeys(BASIC, 1e-2), 1e-3)


def check_total(dataset: Description, findings: Findings, pools: Pools, *, rows: bool) -> None:
    """
    Check stats.json: against the episodes', own ones where ``rows`` against all rows.

    :param dataset: The dataset.
    :param findings: Takes what is wrong.
    :param pools: Statistics of the episodes, by feature.
    :param rows: Whether own statistics are compared with all rows of the data.
    """
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


def _compare_rows(dataset: Description, checker: BatchCheck, column: StoredFeature) -> None:
    try:
        checker.compare(column.key, _total(dataset, column), OWN_VECTORS)
    except (*ARROW_ERRORS, KeyError):  # reported as a finding of its own
        return


def _total(dataset: Description, column: StoredFeature) -> dict[str, Floats]:
    """Return the statistics of a feature over all rows of the dataset."""

    def parts() -> Iterator[npt.NDArray[Any]]:
        for file in dataset.files_on_disk(DATA_FILES):
            with pq.ParquetFile(dataset.root / file) as table:
                for _, arrays in batches(table, [column.key]):
                    yield numbers_of(arrays[column.key]).reshape(-1, column.width)

    found = vector_statistics(parts, dataset.frames, *column.shape)
    return {name: np.asarray(value, float)[None] for name, value in found.items()}


def _pictures_of_all(dataset: Description, findings: Findings) -> StoredStatistics:
    """Return the statistics of the pictures that this converter notes beside the episodes."""
    file = dataset.files_on_disk(EPISODES_FILES)[-1]
    try:
        return {
            key: {
                name: np.asarray(value, float).reshape(1, -1)
                for name, value in histogram.statistics().items()
            }
            for key, histogram in read_pictures(dataset.root / file).items()
        }
    except BROKEN as error:
        findings.add('stats.unreadable', error, 'the pictures of all episodes', file=file)
        return {}
