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
The numbers of every frame of a naive plan, element by element.

Nothing here is shared with the code under test.
"""

from __future__ import annotations

import math
import statistics

from naive_plan import use_of
import numpy as np

FILLED = {'zeros': 0.0, 'mark': 999.0}


def rows_of(robot, profile, plan):
    """Return the rows of every vector, shape (frames, elements)."""
    vectors = {
        key: _frames(robot, profile, plan, feature['parts'])
        for key, feature in profile['features'].items()
        if 'parts' in feature
    }
    rows = {}
    for key, frames in vectors.items():
        minus = profile['features'][key].get('minus')
        bases = vectors[minus] if minus else [{} for _ in frames]
        rows[key] = np.array(
            [
                [_difference(value, base.get(name, 0.0)) for name, value in frame.items()]
                for frame, base in zip(frames, bases, strict=True)
            ]
        )
    return rows


def _difference(value, base):
    """Return a number for two that may be 'zeros' or 'mark' instead."""
    for fill in ('mark', 'zeros'):
        if fill in (value, base):
            return FILLED[fill]
    return value - base


def _frames(robot, profile, plan, parts):
    """Return for each frame the elements by name, numbers or what is filled in."""
    frames = [{} for _ in plan.frames]
    for part in parts:
        names = part.get('names') or part['joints']
        cells = plan.cells(use_of(profile, part))
        if part.get('gap_flag'):
            values = [[float(cell.in_gap)] for cell in cells]
        else:
            values = [
                [cell.fill] * len(names) if cell.fill else _mixed(robot, profile, part, cell)
                for cell in cells
            ]
            if _is_quaternion(part, use_of(profile, part).strategy):
                values = _on_one_side(values, [len(episode) for episode in plan.episodes])
            values = [
                found if found[0] in FILLED else [_converted(value, part) for value in found]
                for found in values
            ]
        if part.get('relative_to_start'):
            values = _relative(values, [len(episode) for episode in plan.episodes])
        for frame, found in zip(frames, values, strict=True):
            frame.update(zip(names, found, strict=True))
    return frames


def _relative(values, lengths):
    """Subtract the first numbers of each episode."""
    result, remaining = [], iter(values)
    for length in lengths:
        episode = [next(remaining) for _ in range(length)]
        starts = next((found for found in episode if found[0] not in FILLED), None)
        for found in episode:
            filled = found[0] in FILLED
            result.append(found if filled else [a - b for a, b in zip(found, starts, strict=True)])
    return result


def _is_quaternion(part, strategy):
    axes = [path.rpartition('.')[2] for path in part['from'].get('fields', ())]
    return strategy == 'slerp' or sorted(axes) == ['w', 'x', 'y', 'z']


def _on_one_side(values, lengths):
    """Negate each quaternion of an episode that is nearer to the one before it so."""
    result, remaining = [], iter(values)
    for length in lengths:
        before = None
        for _ in range(length):
            found = next(remaining)
            if found[0] not in FILLED:
                other = [-value for value in found]
                if before is not None and math.dist(other, before) < math.dist(found, before):
                    found = other
                before = found
            result.append(found)
    return result


def _mixed(robot, profile, part, cell):
    use = use_of(profile, part)
    first, second = (
        _read(robot.topics[use.topic][ordinal].message, part)
        for ordinal in (cell.first, cell.second)
    )
    if use.reduce not in (None, 'last'):
        every = [
            _read(robot.topics[use.topic][ordinal].message, part)
            for ordinal in (*cell.earlier, cell.first)
        ]
        how = {'any': any, 'max': max, 'mean': statistics.fmean}[use.reduce]
        return [float(how(element)) for element in zip(*every, strict=True)]
    if use.strategy == 'slerp':
        return list(turned(first, second, cell.weight))
    return [(1 - cell.weight) * a + cell.weight * b for a, b in zip(first, second, strict=True)]


def _converted(value, part):
    if 'unit' in part:
        value = {'deg2rad': math.radians, 'rad2deg': math.degrees}[part['unit']](value)
    if 'range' in part:
        low, high = part['range']
        value = (value - low) / (high - low)
    value = value * part.get('scale', 1) + part.get('offset', 0)
    if 'threshold' in part:
        value = float(value > part['threshold'])
    return value


def _read(message, part):
    source = part['from']
    values = []
    for path in source.get('fields') or [source['field']]:
        values += np.atleast_1d(_at(message, path)).tolist()
    if 'joints' in part:
        names = list(_at(message, source.get('names_field', 'name')))
        return [values[names.index(joint)] for joint in part['joints']]
    chosen = []
    for item in part.get('select', range(len(values))):
        low, _, high = str(item).partition(':')
        chosen += values[slice(int(low), int(high or int(low) + 1))]
    return chosen


def _at(message, path):
    for step in path.split('.'):
        name, _, index = step.rstrip(']').partition('[')
        message = getattr(message, name)
        message = message[int(index)] if index else message
    return message


def turned(first, second, share):
    """Turn by a share of the rotation between unit quaternions (x, y, z, w): q1 (q1* q2)^share."""
    first, second = np.array(first), np.array(second)
    vector, scalar = first[:3], first[3]
    other = second if first @ second >= 0 else -second
    between = scalar * other[:3] - other[3] * vector - np.cross(vector, other[:3])
    half = np.arctan2(np.linalg.norm(between), scalar * other[3] + vector @ other[:3])
    axis = between / max(np.linalg.norm(between), 1e-300)
    step, cosine = axis * np.sin(share * half), np.cos(share * half)
    imaginary = scalar * step + cosine * vector + np.cross(vector, step)
    return np.array([*imaginary, scalar * cosine - vector @ step])
