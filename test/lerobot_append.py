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

"""Adds an episode to a dataset as LeRobot does when it goes on recording, without its code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

QUANTILES = {'q01': 0.01, 'q10': 0.1, 'q50': 0.5, 'q90': 0.9, 'q99': 0.99}


def append_episode(root: Path, states: list[tuple[float, ...]], task: str) -> list[Path]:
    """
    Add an episode without cameras to a v3.0 dataset; return the files that are new.

    LeRobot begins new files of rows and of episodes when it goes on with a dataset, and rewrites
    tasks.parquet, stats.json and, last, info.json.
    """
    info = json.loads((root / 'meta/info.json').read_text())
    stats = json.loads((root / 'meta/stats.json').read_text())
    episodes_file = max((root / 'meta/episodes').glob('*/*.parquet'))
    known = pq.read_table(episodes_file)
    last = known.slice(known.num_rows - 1).to_pylist()[0]
    episode, first = info['total_episodes'], info['total_frames']
    task_index = _add_task(root / 'meta/tasks.parquet', task, info)

    count = len(states)
    numbers = np.arange(count)
    columns = {
        'observation.state': np.array(states, np.float32),
        'timestamp': (numbers / info['fps']).astype(np.float32),
        'frame_index': numbers,
        'episode_index': np.full(count, episode),
        'index': first + numbers,
        'task_index': np.full(count, task_index),
    }
    data = _next(last, 'data', info)
    data_file = root / info['data_path'].format(**data)
    schema = pq.read_schema(max((root / 'data').glob('*/*.parquet')))
    _write(data_file, pa.Table.from_pydict({k: v.tolist() for k, v in columns.items()}, schema))

    own = {key: _statistics(values) for key, values in columns.items()}
    place = _next(last, 'meta/episodes', info)
    row = {
        'episode_index': episode,
        'tasks': [task],
        'length': count,
        'dataset_from_index': first,
        'dataset_to_index': first + count,
        **{f'data/{name}': value for name, value in data.items()},
        **{f'meta/episodes/{name}': value for name, value in place.items()},
        **{f'stats/{key}/{name}': v for key, s in own.items() for name, v in s.items()},
    }
    path = 'meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
    new_file = root / path.format(**place)
    _write(new_file, pa.Table.from_pylist([row], known.schema.remove_metadata()))

    merged = {key: _merged(stats[key], own[key]) for key in stats}
    (root / 'meta/stats.json').write_text(json.dumps(merged, indent=4))
    info['total_episodes'] += 1
    info['total_frames'] += count
    info['splits'] = {'train': f'0:{info["total_episodes"]}'}
    (root / 'meta/info.json').write_text(json.dumps(info, indent=4))
    return [data_file, new_file]


def _next(last, place, info):
    chunk, file = last[f'{place}/chunk_index'], last[f'{place}/file_index']
    if file + 1 == info['chunks_size']:
        return {'chunk_index': chunk + 1, 'file_index': 0}
    return {'chunk_index': chunk, 'file_index': file + 1}


def _write(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def _add_task(path, task, info):
    table = pq.read_table(path)
    tasks = table['task'].to_pylist()
    if task not in tasks:
        tasks.append(task)
        columns = {'task_index': list(range(len(tasks))), 'task': tasks}
        pq.write_table(pa.Table.from_pydict(columns, table.schema), path)
        info['total_tasks'] = len(tasks)
    return tasks.index(task)


def _statistics(values):
    values = values.reshape(len(values), -1).astype(np.float64)
    found = {
        'min': values.min(0),
        'max': values.max(0),
        'mean': values.mean(0),
        'std': values.std(0),
        **{name: np.quantile(values, share, axis=0) for name, share in QUANTILES.items()},
    }
    return {name: value.tolist() for name, value in found.items()} | {'count': [len(values)]}


def _merged(one, other):
    """Return the statistics of both, weighed by their counts, as LeRobot does."""
    a, b = ({k: np.array(v, np.float64) for k, v in s.items()} for s in (one, other))
    total = a['count'] + b['count']
    shares = a['count'] / total, b['count'] / total

    def weighed(name):
        return shares[0] * a[name] + shares[1] * b[name]

    mean = weighed('mean')
    variance = sum(
        share * (s['std'] ** 2 + (s['mean'] - mean) ** 2)
        for share, s in zip(shares, (a, b), strict=True)
    )
    found = {name: weighed(name) for name in QUANTILES}
    found |= {
        'min': np.minimum(a['min'], b['min']),
        'max': np.maximum(a['max'], b['max']),
        'mean': mean,
        'std': np.sqrt(variance),
    }
    return {k: v.tolist() for k, v in found.items()} | {'count': total.astype(int).tolist()}
