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

"""What a profile says under ``features``: vectors with their parts, and cameras."""

from __future__ import annotations

from collections.abc import Mapping
import re
from typing import Any, get_args

from kuavo_bag_converter.profiles.alignment_keys import AlignKeys, merged, read_align
from kuavo_bag_converter.profiles.camera_keys import read_camera
from kuavo_bag_converter.profiles.document import LONGEST_S, read_keys, YamlNode
from kuavo_bag_converter.profiles.model import (
    Align,
    CameraFeature,
    Dtype,
    INTEGERS,
    OnLength,
    Part,
    REPRESENTATIONS,
    Rotation,
    VectorFeature,
)
from kuavo_bag_converter.profiles.name_patterns import MAX_ELEMENTS, names_by_pattern
from kuavo_bag_converter.profiles.source_keys import read_sources
from kuavo_bag_converter.support.texts import did_you_mean

_DEFAULT_COLUMNS = ('timestamp', 'frame_index', 'episode_index', 'index', 'task_index', 'task')
_KEY = re.compile(r'[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*')
_SLICE = re.compile(r'([0-9]+):([0-9]+)')
_VECTOR_KEYS = ('parts', 'minus', 'dtype', 'samples', 'window_ms')
UNSEEN = 'complementary_info.'
"""How keys begin that policies do not see."""
_VECTORS = ('action.', 'observation.', 'next.', UNSEEN)
"""How the keys of vectors begin, beside ``action``."""
_QUATERNION = 4


def read_features(
    node: YamlNode, inherited: AlignKeys
) -> tuple[VectorFeature | CameraFeature, ...]:
    """
    Read the features; what they do not say of their alignment is ``inherited``.

    :raises UsageError: There is none, LeRobot cannot hold one, or a key or value is not allowed.
    """
    members = node.members('a mapping of features')
    if not members:
        raise node.expected('at least one feature')
    features = tuple(_feature(key, item, inherited) for key, item in members.items())
    vectors = {item.key: item for item in features if isinstance(item, VectorFeature)}
    for vector in vectors.values():
        if vector.minus is not None:
            _check_minus(vector, vectors, members[vector.key].mapping(*_VECTOR_KEYS)['minus'])
    return features


def _feature(key: str, node: YamlNode, inherited: AlignKeys) -> VectorFeature | CameraFeature:
    if not isinstance(node.value, dict) or ('parts' in node.value) == ('camera' in node.value):
        found = 'both' if isinstance(node.value, dict) and 'parts' in node.value else 'neither'
        raise node.error(f'expected a mapping with parts or camera, found {found}')
    _check_key(key, node, camera='camera' in node.value)
    if 'camera' in node.value:
        return read_camera(key, node.mapping('camera')['camera'], inherited)
    keys = node.mapping(*_VECTOR_KEYS, required=('parts',))
    dtype = keys['dtype'].choice(*get_args(Dtype)) if 'dtype' in keys else VectorFeature.dtype
    parts = []
    seen: dict[str, str] = {}
    for item in keys['parts'].items('parts'):
        part = _part(item, inherited)
        for one in (part, part.stand_in):
            if one is not None:
                _check_dtype(dtype, one, item)
        for name in part.names:
            if name in seen:
                raise item.error(
                    f'names: {name!r} is in {seen[name]} already; the elements of a feature need '
                    'different names'
                )
            seen[name] = item.path
        parts.append(part)
    minus = keys['minus'].text() if 'minus' in keys else None
    if minus is not None and dtype == 'bool':
        raise keys['minus'].error('booleans have no difference; set dtype: int64')
    samples = keys['samples'].integer(2, MAX_ELEMENTS) if 'samples' in keys else 1
    vector = VectorFeature(
        key,
        tuple(parts),
        minus,
        dtype,
        samples,
        **read_keys(keys, window_ms=lambda node: node.positive(most=LONGEST_S * 1e3)),
    )
    if key.startswith('next.') and vector.shape != (1,):
        found = f'{samples} samples' if samples > 1 else f'{len(vector.names)} elements'
        raise keys['parts'].error(f'LeRobot takes one number of {key}, found {found}')
    _check_samples(vector, keys)
    return vector


def _check_samples(vector: VectorFeature, keys: Mapping[str, YamlNode]) -> None:
    """Refuse what has no meaning with several samples a frame, or only with them."""
    if vector.samples == 1:
        if vector.window_ms is not None:
            raise keys['window_ms'].error('is that of several samples; give samples, too')
        return
    if vector.samples * len(vector.names) > MAX_ELEMENTS:
        raise keys['samples'].error(
            f'expected at most {MAX_ELEMENTS} numbers in a frame, found {vector.samples} x '
            f'{len(vector.names)}'
        )
    for place, part in enumerate(vector.parts):
        node = keys['parts'].items('parts')[place]
        if part.last_frame:
            raise node.error('last_frame is one of a frame, not of its samples; make it a feature')
        for one in filter(None, (part, part.stand_in)):
            if any(align.reduce for align in _aligns(one)):
                raise node.error(
                    'reduce makes one number of several, samples keep them; leave one'
                )


def _check_dtype(dtype: Dtype, part: Part, node: YamlNode) -> None:
    """Refuse what would give numbers that a dtype does not have."""
    if dtype not in ('bool', *INTEGERS):
        return
    if part.pad_value != int(part.pad_value):
        raise node.error(f'pad_value: {part.pad_value} is no number of {dtype}; give a whole one')
    for align in _aligns(part):
        if align.strategy in ('linear', 'slerp'):
            raise node.error(
                f'{align.strategy} gives numbers between those of two messages, which {dtype} '
                'does not have; set strategy: nearest or hold'
            )
        if dtype == 'bool' and align.on_gap == 'mark':
            raise node.error('mark writes 999, which bool does not have; set another on_gap')
    if part.rotation is not None:
        raise node.error(f'rotation gives numbers with a fraction, which {dtype} does not have')
    if dtype == 'bool' and part.relative_to_start:
        raise node.error('relative_to_start: booleans have no difference; set dtype: int64')


def _aligns(part: Part) -> list[Align]:
    return [part.align, *(source.align for source in part.sources if source.align)]


def is_key(key: str) -> bool:
    """Tell whether a text can be the key of a feature."""
    return bool(_KEY.fullmatch(key))


def _check_key(key: str, node: YamlNode, *, camera: bool) -> None:
    """Refuse keys that LeRobot cannot hold or would take for something else."""
    if key in _DEFAULT_COLUMNS:
        raise node.error(f'{key} is a column that every LeRobot dataset has; choose another key')
    if not is_key(key):
        raise node.error(
            'a key consists of words of letters, digits, _ and -, joined by dots; choose another '
            'key'
        )
    if camera and not key.startswith('observation.'):
        raise node.error(
            'the key of a camera starts with observation., as observation.images.'
            f'{key.rpartition(".")[2]}'
        )
    if not camera and key != 'action' and not key.startswith(_VECTORS):
        raise node.error(
            f'LeRobot knows vectors by action, {", ".join(f"{first}<name>" for first in _VECTORS)}'
            f'; choose such a key{did_you_mean(key, ["action", "observation.state"])}'
        )
    if not camera and 'image' in key:
        raise node.error('LeRobot takes every key with "image" in it for pictures; choose another')


def _check_minus(
    vector: VectorFeature, vectors: Mapping[str, VectorFeature], node: YamlNode
) -> None:
    base = vectors.get(vector.minus or '')
    if base is None or base is vector:
        others = [key for key in vectors if key != vector.key]
        raise node.error(
            f'expected the key of another vector, found {vector.minus!r}'
            f'{did_you_mean(vector.minus or "", others)}'
        )
    if (base.dtype in INTEGERS) != (vector.dtype in INTEGERS) or base.dtype == 'bool':
        raise node.error(
            f'{base.key} has dtype {base.dtype}, and {vector.key} {vector.dtype}; a difference '
            'needs integers of both, or neither'
        )
    units, of_base = (
        {name: part.unit for part in feature.parts for name in part.names}
        for feature in (vector, base)
    )
    for name, unit in units.items():
        other = of_base.get(name, unit)
        if unit != other and {unit, other} & {'angle', 'angle_deg'}:
            raise node.error(
                f'{name} has unit {other or "none"} in {base.key}, and {unit or "none"} in '
                f'{vector.key}; angles need the same'
            )
    if any(part.takes_empty for feature in (vector, base) for part in feature.parts):
        raise node.error('would calculate with what is padded, or counted; leave it out')
    if (base.samples, base.window_ms) != (vector.samples, vector.window_ms):
        raise node.error(
            f'{base.key} has other samples than {vector.key}; a difference needs the same'
        )
    if base.minus is not None:
        raise node.error(f'{base.key} is a difference itself; expected a vector without minus')
    if not set(base.names) & set(vector.names):
        raise node.error(
            f'{base.key} has no element with a name of {vector.key}; elements of the same name '
            'are subtracted'
        )


def _part(node: YamlNode, inherited: AlignKeys, stands_for: tuple[str, ...] = ()) -> Part:
    known = (
        'from', 'length', 'on_length', 'pad_value', 'element_count', 'select', 'joints', 'names',
        'unit', 'range', 'scale', 'offset', 'threshold', 'relative_to_start', 'nan', 'rotation',
        'quaternion', 'gap_flag', 'last_frame', 'align', 'stand_in',
    )  # fmt: skip
    keys = node.mapping(*known)
    if stands_for:
        for name in ('names', 'gap_flag', 'last_frame', 'stand_in'):
            if name in keys:
                raise keys[name].error('a stand_in has the names of its part, and none itself')
    if 'last_frame' in keys and keys['last_frame'].flag():
        return _last_frame(node)
    if 'from' not in keys:
        raise node.error("the key 'from' is missing")
    if 'gap_flag' in keys and keys['gap_flag'].flag():
        return _gap_flag(node, inherited)
    joints = _joints(keys['joints'], keys) if 'joints' in keys else ()
    rotation = _rotation(keys['rotation']) if 'rotation' in keys else None
    names = stands_for or names_of_part(node)
    if not names:
        raise node.error("the key 'names' is missing")
    length = keys['length'].integer(1, MAX_ELEMENTS) if 'length' in keys else None
    select = _select(keys['select'], length) if 'select' in keys else None
    elements = length if select is None else len(select)
    if joints:
        elements = len(joints)
    if rotation is not None:
        if joints:
            raise keys['joints'].error('the numbers of a rotation have none; use select')
        needed = len(Rotation.elements_of(rotation.recorded))
        if elements not in (None, needed):
            raise keys['rotation'].error(
                f'{rotation.recorded} has {needed} elements, found {elements}; select its own'
            )
        elements = len(Rotation.elements_of(rotation.written))
    if elements is not None and len(names) != elements:
        raise keys.get('names', node).error(
            f'expected {elements} names, one for each element, found {len(names)}'
        )
    given = merged(keys.get('align'), inherited)
    part = Part(
        names=names,
        sources=read_sources(
            keys['from'],
            'named' if joints else 'some',
            given,
            own_strategy='strategy' in merged(keys.get('align'), {}),
        ),
        length=length,
        select=select,
        joints=joints,
        rotation=rotation,
        value_range=_range(keys['range']) if 'range' in keys else None,
        align=read_align(given, 'vector', node),
        stand_in=_part(keys['stand_in'], inherited, names) if 'stand_in' in keys else None,
        **read_keys(
            keys,
            unit=lambda node: node.choice('deg2rad', 'rad2deg', 'angle', 'angle_deg'),
            scale=_scale,
            offset=YamlNode.number,
            threshold=YamlNode.number,
            relative_to_start=YamlNode.flag,
            nan=_nan,
            quaternion=lambda node: node.choice('continuous', 'positive_w', 'as_recorded'),
            on_length=lambda node: node.choice(*get_args(OnLength)),
            pad_value=YamlNode.number,
            element_count=YamlNode.flag,
        ),
    )
    _check_length_rules(part, keys, node)
    _check_transforms(part, node)
    if rotation is None:
        _check_quaternion(part, node)
    else:
        _check_rotation(part, rotation, node)
    if part.unit in ('angle', 'angle_deg') and 'mean' in {a.reduce for a in _aligns(part)}:
        raise node.error('reduce: the mean of angles is none; set max, any or last')
    return part


def names_of_part(node: YamlNode) -> tuple[str, ...]:
    """
    Return the names of the elements of a part; () where it gives none.

    :raises UsageError: They are not allowed.
    """
    keys = node.members('a mapping')
    for key in ('names', 'joints'):
        if key in keys:
            return _names(keys[key])
    if 'rotation' not in keys:
        return ()
    written = _rotation(keys['rotation']).written
    kind = written.partition('_')[0]
    return tuple(f'{kind}_{name}' for name in Rotation.elements_of(written))


def _check_length_rules(part: Part, keys: Mapping[str, YamlNode], node: YamlNode) -> None:
    """Refuse what has no meaning where the elements of messages change in number."""
    changes = part.on_length != 'refuse'
    if 'pad_value' in keys and part.on_length not in ('pad', 'pad_or_cut'):
        raise keys['pad_value'].error('is for on_length: pad or pad_or_cut')
    if not changes and not part.element_count:
        return
    what = 'on_length' if changes else 'element_count'
    if part.joints or any(source.tf for source in part.sources):
        raise keys[what].error('is for arrays of numbers by their places; leave it out')
    for align in _aligns(part):
        if align.strategy in ('linear', 'slerp') or align.reduce not in (None, 'last'):
            found = align.reduce or align.strategy
            raise keys[what].error(
                f'{found} calculates with the elements of several messages, which may differ in '
                'number; set strategy: nearest or hold, without reduce'
            )
    if part.element_count:
        if changes or len(part.names) != 1 or {'length', 'select'} & keys.keys():
            raise node.error(
                'element_count is one number with one name, without length, on_length and select'
            )
        return
    if part.length is None and part.select is not None:
        raise keys['on_length'].error('needs to know the length with select; give length')
    if part.takes_empty and (part.relative_to_start or part.quaternion):
        key = 'relative_to_start' if part.relative_to_start else 'quaternion'
        raise keys[key].error('would calculate with what is padded; leave it out')


def _check_quaternion(part: Part, node: YamlNode) -> None:
    strategies = {align.strategy for align in _aligns(part)}
    if 'slerp' not in strategies and not part.quaternion:
        return
    user = 'slerp turns' if 'slerp' in strategies else 'quaternion: is for'
    if len(part.names) != _QUATERNION:
        raise node.error(
            f'{user} one quaternion, expected {_QUATERNION} elements, found {len(part.names)}; '
            'make it a part of its own'
        )
    if 'linear' in strategies and not any(source.tf for source in part.sources):
        raise node.error('quaternion: linear does not turn; set strategy: slerp')
    if part.unit in ('angle', 'angle_deg'):
        raise node.error(f'{user} one quaternion, whose elements are no angles; leave out unit')
    if part.quaternion == 'positive_w' and None in map(part.real_part, part.sources):
        raise node.error(
            f'quaternion: positive_w needs to know which element is w, found {list(part.names)}; '
            'let the name of w alone end in w'
        )


def _rotation(node: YamlNode) -> Rotation:
    keys = node.mapping('from', 'to', required=('from', 'to'))
    for item in keys.values():
        if not Rotation.elements_of(item.text()):
            raise item.expected(
                f'one of {", ".join(REPRESENTATIONS)}, or euler_ and three axes: euler_xyz about '
                'fixed axes, euler_XYZ about those of the body, euler_xyz_deg in degrees'
            )
    return Rotation(keys['from'].text(), keys['to'].text())


def _check_rotation(part: Part, rotation: Rotation, node: YamlNode) -> None:
    """Refuse what is for single numbers, of which a rotation has none."""
    strategies = {align.strategy for align in _aligns(part)}
    if 'linear' in strategies and not any(source.tf for source in part.sources):
        raise node.error('rotation: linear does not turn; set strategy: slerp')
    if part.takes_empty:
        raise node.error('rotation: what is padded or counted is none; leave it out')
    if part.nan not in ('fail', 'hold'):
        raise node.error('nan: a number makes no rotation; set fail or hold')
    if {align.reduce for align in _aligns(part)} - {None, 'last'}:
        raise node.error('reduce: of rotations there is only the last; set last')
    if part.quaternion and not rotation.written.startswith('quaternion'):
        raise node.error(f'quaternion: is for rotations to a quaternion, found {rotation.written}')
    euler = Rotation.euler(rotation.written)
    unit = '' if euler is None else 'angle_deg' if euler.degrees else 'angle'
    if part.unit in ('angle', 'angle_deg') and part.unit != unit:
        raise node.error(
            f'unit: {rotation.written} is no {part.unit}; '
            f'{f"set {unit}" if unit else "leave it out"}'
        )


def _last_frame(node: YamlNode) -> Part:
    keys = node.mapping('names', 'last_frame', required=('names',))
    names = _names(keys['names'])
    if len(names) != 1:
        raise keys['names'].error(f'expected 1 name for a last_frame, found {len(names)}')
    return Part(names=names, sources=(), last_frame=True)


def _nan(node: YamlNode) -> Any:
    if isinstance(node.value, str):
        return node.choice('fail', 'hold')
    return node.number('fail, hold or a number')


def _check_transforms(part: Part, node: YamlNode) -> None:
    """Refuse a part of transforms that does not name each of their fields."""
    for source in part.sources:
        if source.tf is None:
            continue
        if (source.align or part.align).reduce is not None:
            raise node.error('reduce is for numbers, not for transforms; leave it out')
        found = len(part.recorded_names) if part.select is None else max(part.select) + 1
        if found > len(source.fields) or (part.select is None and found < len(source.fields)):
            raise node.error(
                f'expected {len(source.fields)} names, for {", ".join(source.fields)} of the '
                f'transform, found {found}; give as many names, or fields in the source'
            )


def _gap_flag(node: YamlNode, inherited: AlignKeys) -> Part:
    keys = node.mapping('from', 'names', 'gap_flag', 'align', required=('from', 'names'))
    names = _names(keys['names'])
    if len(names) != 1:
        raise keys['names'].error(f'expected 1 name for a gap_flag, found {len(names)}')
    time = {key: value for key, value in inherited.items() if key == 'timeline'}
    return Part(
        names=names,
        sources=read_sources(keys['from'], 'none'),
        gap_flag=True,
        align=read_align(merged(keys.get('align'), time), 'flag', node),
    )


def _names(node: YamlNode) -> tuple[str, ...]:
    given = (
        [(node, name) for name in names_by_pattern(node)]
        if isinstance(node.value, str)
        else [
            (item, item.text('a name (texts that look like numbers in quotes)'))
            for item in node.items('names')
        ]
    )
    names: dict[str, None] = {}
    for item, name in given:
        if name in names:
            raise item.error(f'the name {name!r} is given twice')
        names[name] = None
    return tuple(names)


def _joints(node: YamlNode, keys: Mapping[str, YamlNode]) -> tuple[str, ...]:
    if 'select' in keys:
        raise node.error('expected select or joints, found both')
    return _names(node)


def _select(node: YamlNode, length: int | None) -> tuple[int, ...]:
    chosen: list[int] = []
    for item in node.items('elements, as 6 or "0:6"'):
        what = 'an element such as 6 or a range such as "0:6" (6 not included)'
        match = _SLICE.fullmatch(item.value) if isinstance(item.value, str) else None
        if match is not None:
            start, stop = int(match[1]), int(match[2])
            if start >= stop or stop > MAX_ELEMENTS:
                raise item.expected(f'{what}, start below stop')
            elements = range(start, stop)
        elif isinstance(item.value, str):
            raise item.expected(what)
        else:
            element = item.integer(0, MAX_ELEMENTS)
            elements = range(element, element + 1)
        if length is not None and elements[-1] >= length:
            raise item.error(
                f'expected elements from 0 to {length - 1} (length is {length}), found '
                f'{elements[-1]}'
            )
        if len(chosen) + len(elements) > MAX_ELEMENTS:
            raise node.error(f'expected at most {MAX_ELEMENTS} elements')
        chosen += elements
    return tuple(chosen)


def _range(node: YamlNode) -> tuple[float, float]:
    items = node.items('two numbers')
    if len(items) != 2:
        raise node.expected('[low, high], what becomes 0 and what becomes 1')
    low, high = (item.number() for item in items)
    if low == high:
        raise node.expected('[low, high] with low and high different')
    return low, high


def _scale(node: YamlNode) -> float:
    value = node.number()
    if value == 0:
        raise node.expected('a number that is not 0')
    return value
