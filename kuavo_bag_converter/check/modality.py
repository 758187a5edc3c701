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

"""The rules for ``meta/modality.json``, by which GR00T finds its way in a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kuavo_bag_converter.check.description import Description
from kuavo_bag_converter.check.findings import Findings, read_json
from kuavo_bag_converter.dataset.layout import MODALITY_PATH
from kuavo_bag_converter.dataset.modality import GROUPS, ROTATION_TYPES

_REQUIRED = (*GROUPS, 'video')
_TYPES = (*ROTATION_TYPES.values(), 'matrix')


def check_modality(dataset: Description, findings: Findings) -> None:
    """Check ``meta/modality.json`` against the features, if the dataset has one."""
    if not (dataset.root / MODALITY_PATH).exists():
        return
    document = read_json(dataset.root, MODALITY_PATH, 'modality', findings)
    if document is None:
        return
    for group in (*_REQUIRED, 'annotation'):
        entries = document.get(group)
        if entries is None and group not in _REQUIRED:
            continue
        if not isinstance(entries, Mapping):
            kind = 'nothing' if entries is None else type(entries).__name__
            findings.add('modality.groups', f'{group}: {kind}', 'a mapping', file=MODALITY_PATH)
            continue
        for name, entry in entries.items():
            for found, expected in _problems(dataset, group, name, entry):
                findings.add(
                    'modality.entry', found, expected, file=MODALITY_PATH,
                    feature=f'{group}.{name}',
                )  # fmt: skip


def _problems(dataset: Description, group: str, name: str, entry: object) -> list[tuple[str, str]]:
    """Return what is found and what is expected of one entry."""
    if not isinstance(entry, Mapping):
        return [(type(entry).__name__, 'a mapping')]
    usual = GROUPS.get(group, f'observation.images.{name}')
    key = entry.get('original_key') or (f'annotation.{name}' if group == 'annotation' else usual)
    column = dataset.features.get(key)
    if column is None:
        return [(f'original_key {key}', 'a feature of the dataset')]
    if group == 'video':
        return [] if column.is_video else [(f'{key} of dtype {column.dtype}', 'a video')]
    if group == 'annotation':
        if column.dtype.startswith('int'):
            return []
        return [(f'{key} of dtype {column.dtype}', 'an integer, the index of a task')]
    if not column.is_numeric or len(column.shape) != 1:
        return [(f'{key} of dtype {column.dtype}{list(column.shape)}', 'a vector of numbers')]
    return _slice_problems(entry, column.shape[0])


def _slice_problems(entry: Mapping[str, Any], elements: int) -> list[tuple[str, str]]:
    start, end = entry.get('start'), entry.get('end')
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= elements:
        found = f'start {start!r}, end {end!r}'
        return [(found, f'0 <= start < end <= {elements}, the elements of the vector')]
    kind = entry.get('rotation_type')
    if kind is not None and kind not in _TYPES:
        return [(f'rotation_type {kind!r}', f'one of {", ".join(_TYPES)}')]
    return []
