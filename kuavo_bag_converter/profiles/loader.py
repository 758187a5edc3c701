"""Profiles from YAML; ``docs/profiles.md`` is the reference of every key."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from kuavo_bag_converter.profiles.document import Node, read_document
from kuavo_bag_converter.profiles.model import (
    Align,
    CameraFeature,
    Clock,
    Episodes,
    OnGap,
    Part,
    Profile,
    Source,
    Strategy,
    Timeline,
    TimeRange,
    VectorFeature,
)
from kuavo_bag_converter.settings import did_you_mean

_DEFAULT_COLUMNS = ('timestamp', 'frame_index', 'episode_index', 'index', 'task_index', 'task')
_KEY = re.compile(r'[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*')
_FIELD = re.compile(r'[A-Za-z]\w*(\[\d+\])?(\.[A-Za-z]\w*(\[\d+\])?)*')
_MSGTYPE = re.compile(r'[A-Za-z]\w*/msg/[A-Za-z]\w*')
_SLICE = re.compile(r'([0-9]+):([0-9]+)')
_QUATERNION = 4
_MAX_ELEMENTS = 100_000

_ALIGN_KEYS = tuple(field.name for field in dataclasses.fields(Align))
_DEPTH_CODINGS = ('minmax8', 'range8', 'metric12')

_Use = Literal['vector', 'camera', 'all', 'flag']
"""What an alignment is for; ``all`` is the profile's default."""
_Fields = Literal['none', 'one', 'some', 'none or one', 'named']
"""How many fields a source has; ``named`` is one whose elements have names."""
_AlignKeys = Mapping[str, Node]
"""What is written of an alignment, with what is inherited."""


def load_profile(path: str | Path) -> Profile:
    """Read and check a profile.

    Raises:
        UsageError: The file cannot be read, is not valid YAML, or a key or value is not allowed;
            one line names the file, the key path, what was found and what is allowed.

    """
    document = read_document(path)
    keys = document.mapping(
        'name', 'robot_type', 'fps', 'task', 'clock', 'align', 'features', 'episodes',
        required=('robot_type', 'fps', 'task', 'clock', 'features'),
    )  # fmt: skip
    fps = keys['fps'].integer(1, 1000)
    task, task_sources = _task(keys['task'])
    return Profile(
        name=keys['name'].text() if 'name' in keys else Path(path).stem,
        robot_type=keys['robot_type'].text(),
        fps=fps,
        clock=_clock(keys['clock'], fps),
        features=_features(keys['features'], _default_align(keys.get('align'))),
        task=task,
        task_sources=task_sources,
        episodes=_episodes(keys['episodes']) if 'episodes' in keys else Episodes(),
    )


def fits_every_feature(align: Align) -> bool:
    """Tell whether an alignment may be the default of a profile, for vectors and cameras."""
    return (
        align.strategy in ('nearest', 'hold')
        and align.on_gap != 'mark'
        and not align.zeros_before_first
    )


def _task(node: Node) -> tuple[str, tuple[Source, ...]]:
    if not isinstance(node.value, dict):
        return node.text('a text, or a mapping with the keys from, default'), ()
    keys = node.mapping('from', 'default', required=('from', 'default'))
    return keys['default'].text(), _sources(keys['from'], 'one')


def _clock(node: Node, fps: int) -> Clock:
    keys = node.mapping(
        'from', 'most_messages', 'fps', 'decimation', 'drop', 'end_trim', 'end_topics',
        'timeline', 'absurd_stamp_s', required=('from', 'fps'),
    )  # fmt: skip
    clock = Clock(
        sources=_sources(keys['from'], 'none'),
        source_fps=keys['fps'].positive(),
        **_given(
            keys,
            most_messages=Node.flag,
            decimation=lambda node: node.choice('auto', 'jump', 'time'),
            drop=lambda node: node.integer(0),
            end_trim=lambda node: node.choice('min_end', 'max_end', 'none'),
            end_topics=_topics,
            timeline=lambda node: node.choice(*get_args(Timeline)),
            absurd_stamp_s=_seconds,
        ),
    )
    if clock.decimation == 'jump' and clock.source_fps < fps:
        raise keys['decimation'].error(
            f'jump needs a clock topic at least as fast as the frames, found {clock.source_fps:g} '
            f'Hz for {fps} Hz; set time'
        )
    return clock


def _seconds(node: Node) -> float:
    value = node.number('seconds')
    if value < 0:
        raise node.expected('seconds, or 0 for no limit')
    return value


def _given(keys: Mapping[str, Node], **readers: Callable[[Node], Any]) -> dict[str, Any]:
    """Read the keys that are there, so that the model's defaults hold for the rest."""
    return {key: read(keys[key]) for key, read in readers.items() if key in keys}


def _topics(node: Node) -> tuple[str, ...]:
    if node.value == []:
        return ()
    return tuple(item.word('a topic') for item in node.items('topics'))


def _sources(
    node: Node, fields: _Fields, inherited: _AlignKeys | None = None, use: _Use = 'vector'
) -> tuple[Source, ...]:
    """Read a ``from``; sources may have an alignment of their own if ``inherited`` is given."""
    if isinstance(node.value, dict):
        return (_source(node, fields, inherited, use),)
    return tuple(
        _source(item, fields, inherited, use)
        for item in node.items('alternatives, or a mapping with the key topic')
    )


def _source(node: Node, fields: _Fields, inherited: _AlignKeys | None, use: _Use) -> Source:
    known = ['topic', 'type']
    if fields != 'none':
        known.insert(1, 'field')
    if fields == 'some':
        known.insert(2, 'fields')
    if fields == 'named':
        known.insert(2, 'names_field')
    if inherited is not None:
        known.append('align')
    keys = node.mapping(*known, required=('topic',))
    align = None
    if inherited is not None and 'align' in keys:
        align = _align(_merged(keys['align'], inherited), use, keys['align'])
    return Source(
        topic=keys['topic'].word('a topic'),
        fields=_field_paths(node, keys, fields),
        msgtypes=_msgtypes(keys['type']) if 'type' in keys else (),
        align=align,
        **_given(keys, names_field=_field_path),
    )


def _field_paths(node: Node, keys: Mapping[str, Node], wanted: _Fields) -> tuple[str, ...]:
    if 'field' in keys and 'fields' in keys:
        raise node.error('expected field or fields, found both')
    items = [keys['field']] if 'field' in keys else []
    if 'fields' in keys:
        items = keys['fields'].items('field paths')
    if not items and wanted in ('one', 'some', 'named'):
        raise node.error("the key 'field' is missing")
    return tuple(_field_path(item) for item in items)


def _field_path(node: Node) -> str:
    if not isinstance(node.value, str) or not _FIELD.fullmatch(node.value):
        raise node.expected('a field path such as position or transforms[0].translation.x')
    return node.value


def _msgtypes(node: Node) -> tuple[str, ...]:
    items = node.items('message types') if isinstance(node.value, list) else [node]
    for item in items:
        if not isinstance(item.value, str) or not _MSGTYPE.fullmatch(item.value):
            raise item.expected('a message type such as sensor_msgs/msg/JointState')
    return tuple(item.text() for item in items)


def _default_align(node: Node | None) -> _AlignKeys:
    if node is None:
        return {}
    given = node.mapping(*_ALIGN_KEYS)
    _align(given, 'all', node)
    return given


def _merged(node: Node | None, inherited: _AlignKeys) -> _AlignKeys:
    own = node.mapping(*_ALIGN_KEYS) if node is not None else {}
    return {**inherited, **own}


def _align(given: _AlignKeys, use: _Use, node: Node) -> Align:
    """Read an alignment; ``node`` is where it is used, for errors about the whole."""
    values: dict[str, Any] = {}
    if 'strategy' in given:
        values['strategy'] = _strategy(given['strategy'], use)
    if 'timeline' in given:
        values['timeline'] = given['timeline'].choice(*get_args(Timeline))
    for key in ('tolerance_ms', 'gap_ms'):
        if key in given and given[key].value is not None:
            what = 'a number greater than 0, or null for no limit'
            values[key] = given[key].positive(what)
    values['on_gap'] = 'split' if 'tolerance_ms' in values or 'gap_ms' in values else 'keep'
    if use == 'flag':
        values['on_gap'] = 'keep'
    if 'on_gap' in given:
        values['on_gap'] = _on_gap(given['on_gap'], use)
    if 'zeros_before_first' in given:
        values['zeros_before_first'] = given['zeros_before_first'].flag()
    align = Align(**values)
    if align.zeros_before_first and use != 'vector':
        raise given['zeros_before_first'].error('only for the parts of vectors')
    if align.zeros_before_first and align.strategy != 'hold':
        raise given['zeros_before_first'].error(
            f'needs strategy hold, found {align.strategy}; set strategy: hold'
        )
    if use == 'flag' and align.tolerance_ms is None and align.gap_ms is None:
        raise node.error('a gap_flag needs to know what a gap is; set align.gap_ms')
    return align


def _strategy(node: Node, use: _Use) -> Strategy:
    strategy: Strategy = node.choice(*get_args(Strategy))
    if strategy in ('linear', 'slerp') and use in ('camera', 'all'):
        place = 'for cameras' if use == 'camera' else 'as the default of all, cameras included'
        raise node.error(
            f'{strategy} is not possible {place}; set nearest or hold, and {strategy} at the parts '
            'that want it'
        )
    return strategy


def _on_gap(node: Node, use: _Use) -> OnGap:
    on_gap: OnGap = node.choice(*get_args(OnGap))
    if use == 'flag' and on_gap != 'keep':
        raise node.error(f'a gap_flag keeps the frames that it flags, found {on_gap}; set keep')
    if on_gap == 'mark' and use in ('camera', 'all'):
        raise node.error(
            'mark writes 999 in place of numbers, which pictures do not have; set it at the parts '
            'that want it'
        )
    return on_gap


def _features(node: Node, inherited: _AlignKeys) -> tuple[VectorFeature | CameraFeature, ...]:
    members = node.members('a mapping of features')
    if not members:
        raise node.expected('at least one feature')
    features = tuple(_feature(key, item, inherited) for key, item in members.items())
    vectors = {item.key: item for item in features if isinstance(item, VectorFeature)}
    for vector in vectors.values():
        if vector.minus is not None:
            _check_minus(vector, vectors, members[vector.key].mapping('parts', 'minus')['minus'])
    return features


def _feature(key: str, node: Node, inherited: _AlignKeys) -> VectorFeature | CameraFeature:
    if not isinstance(node.value, dict) or ('parts' in node.value) == ('camera' in node.value):
        found = 'both' if isinstance(node.value, dict) and 'parts' in node.value else 'neither'
        raise node.error(f'expected a mapping with parts or camera, found {found}')
    _check_key(key, node, camera='camera' in node.value)
    if 'camera' in node.value:
        return _camera(key, node.mapping('camera')['camera'], inherited)
    keys = node.mapping('parts', 'minus', required=('parts',))
    parts = []
    seen: dict[str, str] = {}
    for item in keys['parts'].items('parts'):
        part = _part(item, inherited)
        for name in part.names:
            if name in seen:
                raise item.error(
                    f'names: {name!r} is in {seen[name]} already; the elements of a feature need '
                    'different names'
                )
            seen[name] = item.path
        parts.append(part)
    return VectorFeature(key, tuple(parts), keys['minus'].text() if 'minus' in keys else None)


def _check_key(key: str, node: Node, *, camera: bool) -> None:
    """Refuse keys that LeRobot cannot hold or would take for something else."""
    if key in _DEFAULT_COLUMNS:
        raise node.error(f'{key} is a column that every LeRobot dataset has; choose another key')
    if not _KEY.fullmatch(key):
        raise node.error(
            'a key consists of words of letters, digits, _ and -, joined by dots; choose another '
            'key'
        )
    if camera and not key.startswith('observation.'):
        raise node.error(
            'the key of a camera starts with observation., as observation.images.'
            f'{key.rpartition(".")[2]}'
        )
    if not camera and key != 'action' and not key.startswith(('action.', 'observation.')):
        raise node.error(
            'LeRobot knows vectors by action, action.<name> and observation.<name>; choose such a '
            f'key{did_you_mean(key, ["action", "observation.state"])}'
        )
    if not camera and 'image' in key:
        raise node.error('LeRobot takes every key with "image" in it for pictures; choose another')


def _check_minus(vector: VectorFeature, vectors: Mapping[str, VectorFeature], node: Node) -> None:
    base = vectors.get(vector.minus or '')
    if base is None or base is vector:
        others = [key for key in vectors if key != vector.key]
        raise node.error(
            f'expected the key of another vector, found {vector.minus!r}'
            f'{did_you_mean(vector.minus or "", others)}'
        )
    if base.minus is not None:
        raise node.error(f'{base.key} is a difference itself; expected a vector without minus')
    if not set(base.names) & set(vector.names):
        raise node.error(
            f'{base.key} has no element with a name of {vector.key}; elements of the same name are '
            'subtracted'
        )


def _camera(key: str, node: Node, inherited: _AlignKeys) -> CameraFeature:
    keys = node.mapping('from', 'size', 'depth', 'depth_range', 'align', required=('from',))
    given = _merged(keys.get('align'), inherited)
    if 'depth_range' in keys and 'depth' not in keys:
        raise keys['depth_range'].error(
            f'only for depth cameras; set depth to one of {", ".join(_DEPTH_CODINGS)}'
        )
    return CameraFeature(
        key=key,
        sources=_sources(keys['from'], 'none', given, 'camera'),
        size=_size(keys['size']) if 'size' in keys else None,
        align=_align(given, 'camera', node),
        **_given(keys, depth=lambda node: node.choice(*_DEPTH_CODINGS), depth_range=_depth_range),
    )


def _size(node: Node) -> tuple[int, int]:
    keys = node.mapping('width', 'height', required=('width', 'height'))
    return keys['height'].integer(16, 8192), keys['width'].integer(16, 8192)


def _depth_range(node: Node) -> tuple[int, int]:
    what = '[min, max] in mm, both whole and min below max'
    items = node.items('two integers')
    if len(items) != 2 or not all(type(item.value) is int for item in items):
        raise node.expected(what)
    low, high = (item.integer(0, 65535) for item in items)
    if low >= high:
        raise node.expected(what)
    return low, high


def _part(node: Node, inherited: _AlignKeys) -> Part:
    known = (
        'from', 'length', 'select', 'joints', 'names', 'unit', 'range', 'scale', 'offset',
        'threshold', 'relative_to_start', 'gap_flag', 'align',
    )  # fmt: skip
    keys = node.mapping(*known, required=('from',))
    if 'gap_flag' in keys and keys['gap_flag'].flag():
        return _gap_flag(node, inherited)
    joints = _joints(keys['joints'], keys) if 'joints' in keys else ()
    if 'names' not in keys and not joints:
        raise node.error("the key 'names' is missing")
    length = keys['length'].integer(1, _MAX_ELEMENTS) if 'length' in keys else None
    select = _select(keys['select'], length) if 'select' in keys else None
    names = _names(keys['names']) if 'names' in keys else joints
    elements = length if select is None else len(select)
    if joints:
        elements = len(joints)
    if elements is not None and len(names) != elements:
        raise keys['names'].error(
            f'expected {elements} names, one for each element, found {len(names)}'
        )
    given = _merged(keys.get('align'), inherited)
    part = Part(
        names=names,
        sources=_sources(keys['from'], 'named' if joints else 'some', given),
        length=length,
        select=select,
        joints=joints,
        value_range=_range(keys['range']) if 'range' in keys else None,
        align=_align(given, 'vector', node),
        **_given(
            keys,
            unit=lambda node: node.choice('deg2rad', 'rad2deg'),
            scale=_scale,
            offset=Node.number,
            threshold=Node.number,
            relative_to_start=Node.flag,
        ),
    )
    aligns = [part.align, *(source.align for source in part.sources if source.align)]
    if any(align.strategy == 'slerp' for align in aligns) and len(names) != _QUATERNION:
        raise node.error(
            f'slerp turns one quaternion, expected {_QUATERNION} elements, found {len(names)}; '
            'make it a part of its own'
        )
    return part


def _gap_flag(node: Node, inherited: _AlignKeys) -> Part:
    keys = node.mapping('from', 'names', 'gap_flag', 'align', required=('from', 'names'))
    names = _names(keys['names'])
    if len(names) != 1:
        raise keys['names'].error(f'expected 1 name for a gap_flag, found {len(names)}')
    time = {key: value for key, value in inherited.items() if key == 'timeline'}
    return Part(
        names=names,
        sources=_sources(keys['from'], 'none'),
        gap_flag=True,
        align=_align(_merged(keys.get('align'), time), 'flag', node),
    )


def _names(node: Node) -> tuple[str, ...]:
    items = node.items('names')
    names: dict[str, None] = {}
    for item in items:
        name = item.text('a name (texts that look like numbers in quotes)')
        if name in names:
            raise item.error(f'the name {name!r} is given twice')
        names[name] = None
    return tuple(names)


def _joints(node: Node, keys: Mapping[str, Node]) -> tuple[str, ...]:
    if 'select' in keys:
        raise node.error('expected select or joints, found both')
    return _names(node)


def _select(node: Node, length: int | None) -> tuple[int, ...]:
    chosen: list[int] = []
    for item in node.items('elements, as 6 or "0:6"'):
        what = 'an element such as 6 or a range such as "0:6" (6 not included)'
        match = _SLICE.fullmatch(item.value) if isinstance(item.value, str) else None
        if match is not None:
            start, stop = int(match[1]), int(match[2])
            if start >= stop or stop > _MAX_ELEMENTS:
                raise item.expected(f'{what}, start below stop')
            elements = range(start, stop)
        elif isinstance(item.value, str):
            raise item.expected(what)
        else:
            element = item.integer(0, _MAX_ELEMENTS)
            elements = range(element, element + 1)
        if length is not None and elements[-1] >= length:
            raise item.error(
                f'expected elements from 0 to {length - 1} (length is {length}), found '
                f'{elements[-1]}'
            )
        if len(chosen) + len(elements) > _MAX_ELEMENTS:
            raise node.error(f'expected at most {_MAX_ELEMENTS} elements')
        chosen += elements
    return tuple(chosen)


def _range(node: Node) -> tuple[float, float]:
    items = node.items('two numbers')
    if len(items) != 2:
        raise node.expected('[low, high], what becomes 0 and what becomes 1')
    low, high = (item.number() for item in items)
    if low == high:
        raise node.expected('[low, high] with low and high different')
    return low, high


def _scale(node: Node) -> float:
    value = node.number()
    if value == 0:
        raise node.expected('a number that is not 0')
    return value


def _episodes(node: Node) -> Episodes:
    rules = ('ranges', 'marks_file', 'while_true', 'each_message', 'events')
    keys = node.mapping(*rules)
    if len(keys) != 1:
        found = ' and '.join(keys) or 'none'
        raise node.error(f'expected one of {", ".join(rules)}, found {found}')
    rule, value = next(iter(keys.items()))
    if rule == 'ranges':
        return Episodes(ranges=_ranges(value))
    if rule == 'marks_file':
        return Episodes(marks_file=_marks_file(value))
    if rule == 'while_true':
        return Episodes(sources=_sources(value, 'one'), rule='while_true')
    if rule == 'each_message':
        return Episodes(sources=_sources(value, 'none or one'), rule='each_message')
    return _events(value)


def _marks_file(node: Node) -> str:
    what = 'a path such as "{bag}.json", with no other braces'
    path = node.text(what)
    if set('{}') & set(path.replace('{bag}', '')):
        raise node.expected(what)
    return path


def _ranges(node: Node) -> tuple[TimeRange, ...]:
    ranges: list[TimeRange] = []
    for item in node.items('ranges of time'):
        keys = item.mapping('start_s', 'stop_s', 'task', required=('start_s', 'stop_s'))
        start, stop = keys['start_s'].number(), keys['stop_s'].number()
        if start < 0 or stop <= start:
            raise item.error(f'expected 0 <= start_s < stop_s, found {start:g} and {stop:g}')
        if ranges and start < ranges[-1].stop_s:
            raise keys['start_s'].error(
                f'expected a start at or after the end of the range before, {ranges[-1].stop_s:g} '
                f's, found {start:g} s'
            )
        ranges.append(TimeRange(start, stop, keys['task'].text() if 'task' in keys else ''))
    return tuple(ranges)


def _events(node: Node) -> Episodes:
    keys = node.mapping('from', 'start', 'stop', 'discard', required=('from', 'start'))
    texts: dict[str, tuple[str, ...]] = {}
    seen: dict[str, str] = {}
    for rule in ('start', 'stop', 'discard'):
        if rule not in keys or (rule != 'start' and keys[rule].value == []):
            continue
        items = keys[rule].items('texts')
        texts[rule] = tuple(item.text('a text (numbers in quotes)') for item in items)
        for item in items:
            if item.text() in seen:
                raise item.error(f'{item.value!r} is in {seen[item.text()]} already')
            seen[item.text()] = rule
    return Episodes(
        sources=_sources(keys['from'], 'one'),
        rule='events',
        start=texts['start'],
        stop=texts.get('stop', ()),
        discard=texts.get('discard', ()),
    )
