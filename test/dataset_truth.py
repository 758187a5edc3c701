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

"""What a dataset of numbers holds, checked as a whole and read without the code under test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from record_files import read_record

Rows = list[tuple[float, ...]]


class Entry(NamedTuple):
    """A bag in the record of the conversion."""

    name: str
    """Its file or folder name."""
    status: str
    episodes: list[Rows]


class Truth(NamedTuple):
    """What a dataset holds."""

    episodes: list[Rows]
    """The states of each."""
    record: list[Entry]
    """The bags of the record of the conversion."""
    files: set[Path]
    """Everything that it consists of."""


def table(path: Path) -> pa.Table:
    """Read a small table."""
    with pq.ParquetFile(path) as file:
        return file.read(use_threads=False)


def read(root: Path) -> Truth:
    """Read a v3.0 dataset without cameras; everything in it must agree."""
    info = json.loads((root / 'meta/info.json').read_text())
    data = sorted(root.glob('data/*/*.parquet'))
    listed = sorted(root.glob('meta/episodes/*/*.parquet'))
    episodes = [row for file in listed for row in table(file).to_pylist()]
    tables = {file: table(file) for file in data}
    rows = [row for table in tables.values() for row in table.to_pylist()]

    assert info['total_episodes'] == len(episodes)
    assert info['total_frames'] == len(rows)
    assert info['splits'] == {'train': f'0:{len(episodes)}'}
    assert [row['index'] for row in rows] == list(range(len(rows)))
    assert [episode['episode_index'] for episode in episodes] == list(range(len(episodes)))
    tasks = table(root / 'meta/tasks.parquet').to_pydict()
    assert tasks['task_index'] == list(range(info['total_tasks']))

    first, states = 0, []
    for episode in episodes:
        length = episode['length']
        own = rows[slice(first, first + length)]
        assert len(own) == length
        assert episode['dataset_from_index'] == first
        assert episode['dataset_to_index'] == first + length
        assert {row['episode_index'] for row in own} == {episode['episode_index']}
        assert [row['frame_index'] for row in own] == list(range(length))
        assert np.allclose([row['timestamp'] for row in own], np.arange(length) / info['fps'])
        assert [tasks['task'][row['task_index']] for row in own] == episode['tasks'] * length
        place = {name: episode[f'data/{name}'] for name in ('chunk_index', 'file_index')}
        held = tables[root / info['data_path'].format(**place)]['episode_index'].to_pylist()
        assert held.count(episode['episode_index']) == length
        states.append([tuple(row['observation.state']) for row in own])
        first += length
    _check_statistics(root, rows)
    record, files = _record(root, states)
    meta = {root / 'meta' / name for name in ('info.json', 'stats.json', 'tasks.parquet')}
    return Truth(states, record, {*data, *listed, *meta, *files})


def _check_statistics(root, rows):
    stats = json.loads((root / 'meta/stats.json').read_text())
    assert set(stats) == set(rows[0])
    for key, values in stats.items():
        column = np.array([row[key] for row in rows], np.float64).reshape(len(rows), -1)
        assert values['count'] == [len(rows)], key
        assert np.allclose(values['mean'], column.mean(0)), key
        assert np.allclose(values['std'], column.std(0), atol=1e-6), key
        assert np.allclose(values['min'], column.min(0)), key
        assert np.allclose(values['max'], column.max(0)), key


def _record(root, states):
    files = {root / 'conversion' / name for name in ('report.json', 'profile.yaml')}
    files |= {*root.glob('conversion/bags/*'), *root.glob('conversion/topics/*')}
    entries, taken = [], []
    for number, bag in enumerate(read_record(root)['bags']):
        first, count = bag['first_episode'], bag['episodes']
        own = states[slice(first, first + count)]
        assert len(own) == count
        assert sum(map(len, own)) == bag['frames']
        assert (bag['status'] == 'converted') == bool(count)
        if count:
            taken += range(first, first + count)
            file = root / f'conversion/alignment/chunk-000/{number:06}.parquet'
            assert pq.read_metadata(file).num_rows == bag['frames']
            files.add(file)
        entries.append(Entry(Path(bag['bag']).name, bag['status'], own))
    assert len(taken) == len(set(taken)), 'two bags of the record have one episode'
    return entries, files
