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

"""What a profile says under ``from``: topics and the fields of their messages."""

from __future__ import annotations

from collections.abc import Mapping
import re
from typing import Any, get_args, Literal

from kuavo_bag_converter.profiles.alignment_keys import AlignKeys, merged, read_align, Use
from kuavo_bag_converter.profiles.document import read_keys, YamlNode
from kuavo_bag_converter.profiles.model import Align, POSE_FIELDS, Source, StampUnit, Transform

Fields = Literal['none', 'one', 'some', 'none or one', 'named']
"""How many fields a source has; ``named`` is one whose elements have names."""

_STEP = r'[A-Za-z]\w*(\[(\d+|[\w.]+=[^\[\]=]+|)\])?'
_FIELD = re.compile(rf'(\[[\w.]+=[^\[\]=]+\]\.)?{_STEP}(\.{_STEP})*')
_MSGTYPE = re.compile(r'[A-Za-z]\w*/msg/[A-Za-z]\w*')


def read_sources(
    node: YamlNode,
    fields: Fields,
    inherited: AlignKeys | None = None,
    use: Use = 'vector',
    *,
    own_strategy: bool = False,
) -> tuple[Source, ...]:
    """
    Read a ``from``: one source, or a list of alternatives.

    :param node: The value.
    :param fields: How many fields each source has.
    :param inherited: What is written of the alignment so far; without it, sources may have none of
        their own.
    :param use: What that alignment is for.
    :param own_strategy: Whether the strategy that is inherited was written for these sources;
        else transforms are interpolated.
    :raises UsageError: A key or value is not allowed.
    """
    if isinstance(node.value, dict):
        return (_source(node, fields, inherited, use, own_strategy),)
    return tuple(
        _source(item, fields, inherited, use, own_strategy)
        for item in node.items('alternatives, or a mapping with the key topic')
    )


def _source(
    node: YamlNode,
    fields: Fields,
    inherited: AlignKeys | None,
    use: Use,
    own_strategy: bool,
) -> Source:
    known = ['topic', 'type']
    if fields in ('none', 'some', 'named'):
        known += ['frame_id', 'publisher', 'stamp_field', 'stamp_unit']
    if fields != 'none':
        known.insert(1, 'field')
    if fields in ('some', 'named'):
        known[2:2] = ['fields', 'tf'] if fields == 'some' else []
        known.insert(2, 'names_field')
    if inherited is not None:
        known.append('align')
    is_transform = fields == 'some' and isinstance(node.value, dict) and 'tf' in node.value
    if is_transform:
        known = ['tf', 'topic', 'field', 'fields', 'publisher', 'align']
    keys = node.mapping(*known, required=() if is_transform else ('topic',))
    align = None
    if inherited is not None and 'align' in keys:
        align = read_align(merged(keys['align'], inherited), use, keys['align'])
    if is_transform:
        align = _align_of_transform(keys.get('align'), inherited or {}, own_strategy, node)
    more: dict[str, Any] = read_keys(
        keys,
        names_field=_field_path if fields == 'named' else _no_names_field,
        publisher=lambda node: node.word('the name of a node'),
        stamp_field=_field_path,
        stamp_unit=lambda node: node.choice(*filter(None, get_args(StampUnit))),
    )
    if 'frame_id' in keys:
        more['frame_ids'] = _frame_ids(keys['frame_id'])
    if 'stamp_unit' in keys and 'stamp_field' not in keys:
        raise keys['stamp_unit'].error('is that of a stamp_field, which is missing')
    topic = keys['topic'].word('a topic') if 'topic' in keys else '/tf'
    if is_transform:
        more['tf'] = _transform(keys['tf'], topic)
        paths = _pose_fields(node, keys)
    else:
        paths = _field_paths(node, keys, fields)
    return Source(
        topic=topic,
        fields=paths,
        msgtypes=_msgtypes(keys['type']) if 'type' in keys else (),
        align=align,
        **more,
    )


def _align_of_transform(
    node: YamlNode | None,
    inherited: AlignKeys,
    own_strategy: bool,
    source: YamlNode,
) -> Align:
    """Read the alignment of a transform, which is interpolated unless it says otherwise itself."""
    given = dict(merged(node, inherited))
    if not own_strategy and 'strategy' not in merged(node, {}):
        given['strategy'] = YamlNode(source.file, source.path, 'linear')
    align = read_align(given, 'vector', node or source)
    if align.strategy == 'slerp':
        raise given['strategy'].error(
            'a transform has more than a rotation, which linear turns by slerp; set linear'
        )
    return align


def _transform(node: YamlNode, topic: str) -> Transform:
    keys = node.mapping('parent', 'child', 'static_topic', required=('parent', 'child'))
    parent, child = (keys[key].word('a frame').lstrip('/') for key in ('parent', 'child'))
    if parent == child:
        raise node.error(f'expected two frames, found {parent} twice')
    static = f'{topic}_static'
    if 'static_topic' in keys:
        static = keys['static_topic'].word('a topic')
    return Transform(parent, child, static)


def _pose_fields(node: YamlNode, keys: Mapping[str, YamlNode]) -> tuple[str, ...]:
    if 'field' not in keys and 'fields' not in keys:
        return POSE_FIELDS
    paths = _field_paths(node, keys, 'some')
    for path in paths:
        if path not in POSE_FIELDS:
            raise node.error(
                f'a transform has the fields {", ".join(POSE_FIELDS)}, found {path!r}'
            )
    return paths


def _frame_ids(node: YamlNode) -> tuple[str, ...] | None:
    if node.value is None:
        return None
    items = node.items('frames') if isinstance(node.value, list) else [node]
    return tuple(item.word('a frame, a list of them, or null for any') for item in items)


def _no_names_field(node: YamlNode) -> None:
    if node.value is not None:
        raise node.error(
            'names the joints of a part that has joints; without, only null is possible, for '
            'texts that tell nothing'
        )


def _field_paths(node: YamlNode, keys: Mapping[str, YamlNode], wanted: Fields) -> tuple[str, ...]:
    if 'field' in keys and 'fields' in keys:
        raise node.error('expected field or fields, found both')
    items = [keys['field']] if 'field' in keys else []
    if 'fields' in keys:
        items = keys['fields'].items('field paths')
    if not items and wanted in ('one', 'some', 'named'):
        raise node.error("the key 'field' is missing")
    return tuple(_field_path(item) for item in items)


def _field_path(node: YamlNode) -> str:
    if not isinstance(node.value, str) or not _FIELD.fullmatch(node.value):
        raise node.expected('a field path such as position or points[0].positions')
    return node.value


def _msgtypes(node: YamlNode) -> tuple[str, ...]:
    items = node.items('message types') if isinstance(node.value, list) else [node]
    for item in items:
        if not isinstance(item.value, str) or not _MSGTYPE.fullmatch(item.value):
            raise item.expected('a message type such as sensor_msgs/msg/JointState')
    return tuple(item.text() for item in items)
