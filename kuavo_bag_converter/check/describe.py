"""Reads the metadata of a dataset; what cannot be read becomes a finding."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from kuavo_bag_converter.check.description import Column, Description
from kuavo_bag_converter.check.episode_list import episodes_v21, episodes_v30
from kuavo_bag_converter.check.findings import Findings
from kuavo_bag_converter.check.reading import (
    BROKEN,
    check_order,
    first_line,
    read_json,
    read_json_lines,
)
from kuavo_bag_converter.check.record import read_record
from kuavo_bag_converter.dataset.layout import INFO_PATH, TASKS_PATH, TASKS_PATH_V21

_LARGEST = 1 << 24
"""Length that a shape may have; more is no feature but damage."""
_INFO_KEYS = ('codebase_version', 'fps', 'features', 'total_episodes', 'data_path')


def describe(root: Path, findings: Findings) -> Description | None:
    """Read the metadata of a dataset; None where it is too broken to go on."""
    info = read_json(root, INFO_PATH, 'info', findings)
    if info is None or not _check_keys(info, findings):
        return None
    version = _version(info, findings)
    features = _features(info, findings)
    if version is None or features is None:
        return None
    cameras = [key for key, column in features.items() if column.is_video]
    if version == 'v3.0':
        tasks = _tasks_v30(root, findings)
        episodes = episodes_v30(root, info, cameras, findings)
    else:
        tasks = _tasks_v21(root, findings)
        episodes = episodes_v21(root, info, cameras, findings)
    if episodes == ():
        findings.add('episodes.missing', 'no episode', 'at least one')
    if tasks is None or not episodes:
        return None
    record = read_record(root, findings)
    return Description(root, version, info, info['fps'], features, tasks, episodes, record)


def _check_keys(info: Mapping[str, Any], findings: Findings) -> bool:
    missing = [key for key in _INFO_KEYS if key not in info]
    for key in missing:
        findings.add('info.keys', f'no {key}', 'LeRobot needs it', file=INFO_PATH)
    if missing:
        return False
    fps = info['fps']
    if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0 < fps < math.inf:
        findings.add('info.fps', repr(fps), 'a number greater than 0', file=INFO_PATH)
        return False
    return True


def _version(info: Mapping[str, Any], findings: Findings) -> str | None:
    version = info['codebase_version']
    if version in ('v2.1', 'v3.0'):
        return str(version)
    findings.add('info.version', repr(version), "'v3.0' or 'v2.1'", file=INFO_PATH)
    return None


def _features(info: Mapping[str, Any], findings: Findings) -> dict[str, Column] | None:
    try:
        features = {
            key: Column(
                key,
                str(entry['dtype']),
                tuple(int(length) for length in entry['shape']),
                entry.get('names'),
                dict(entry.get('info') or entry.get('video_info') or {}),
            )
            for key, entry in info['features'].items()
        }
        for column in features.values():
            fits = all(0 < length <= _LARGEST for length in column.shape) and column.shape
            if not fits or (column.is_picture and len(column.shape) != 3):
                raise ValueError(f'{column.key}: {column.dtype} of shape {list(column.shape)}')
        return features
    except BROKEN as error:
        findings.add('features.entry', repr(error), 'dtype and shape for each', file=INFO_PATH)
        return None


def _tasks_v30(root: Path, findings: Findings) -> tuple[str, ...] | None:
    """Read the tasks as LeRobot does: the text is the index of the pandas table."""
    try:
        table = pq.ParquetFile(root / TASKS_PATH).read()
        pandas = json.loads((table.schema.metadata or {}).get(b'pandas', b'{}'))
        names = [name for name in pandas.get('index_columns', ()) if isinstance(name, str)]
        if len(names) != 1:
            findings.add('tasks.index', f'pandas index {names}', "['task']", file=TASKS_PATH)
        texts = table.column(names[0] if names else 'task').to_pylist()
        index = table.column('task_index').to_pylist()
    except FileNotFoundError:
        findings.add('tasks.missing', 'no file', 'the tasks', file=TASKS_PATH)
        return None
    except BROKEN as error:
        expected = 'columns task_index and task'
        findings.add('tasks.unreadable', first_line(error), expected, file=TASKS_PATH)
        return None
    check_order('tasks.order', index, TASKS_PATH, findings)
    return tuple(str(text) for text in texts)


def _tasks_v21(root: Path, findings: Findings) -> tuple[str, ...] | None:
    lines = read_json_lines(root, TASKS_PATH_V21, 'tasks', findings)
    if lines is None:
        return None
    try:
        index, texts = [line['task_index'] for line in lines], [line['task'] for line in lines]
    except KeyError as error:
        findings.add('tasks.unreadable', f'no {error}', 'task_index, task', file=TASKS_PATH_V21)
        return None
    check_order('tasks.order', index, TASKS_PATH_V21, findings)
    return tuple(str(text) for text in texts)
