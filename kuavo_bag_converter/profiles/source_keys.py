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
from typing import Literal

from kuavo_bag_converter.profiles.alignment_keys import AlignKeys, merged, read_align, Use
from kuavo_bag_converter.profiles.document import read_keys, YamlNode
from kuavo_bag_converter.profiles.model import Source

Fields = Literal['none', 'one', 'some', 'none or one', 'named']
"""How many fields a source has; ``named`` is one whose elements have names."""

_FIELD = re.compile(r'[A-Za-z]\w*(\[\d+\])?(\.[A-Za-z]\w*(\[\d+\])?)*')
_MSGTYPE = re.compile(r'[A-Za-z]\w*/msg/[A-Za-z]\w*')


def read_sources(
    node: YamlNode, fields: Fields, inherited: AlignKeys | None = None, use: Use = 'vector'
) -> tuple[Source, ...]:
    """
    Read a ``from``: one source, or a list of alternatives.

    :param node: The value.
    :param fields: How many fields each source has.
    :param inherited: What is written of the alignment so far; without it, sources may have none of
        their own.
    :param use: What that alignment is for.
    :raises UsageError: A key or value is not allowed.
    """
    if isinstance(node.value, dict):
        return (_source(node, fields, inherited, use),)
    return tuple(
        _source(item, fields, inherited, use)
        for item in node.items('alternatives, or a mapping with the key topic')
    )


def _source(node: YamlNode, fields: Fields, inherited: AlignKeys | None, use: Use) -> Source:
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
        align = read_align(merged(keys['align'], inherited), use, keys['align'])
    return Source(
        topic=keys['topic'].word('a topic'),
        fields=_field_paths(node, keys, fields),
        msgtypes=_msgtypes(keys['type']) if 'type' in keys else (),
        align=align,
        **read_keys(keys, names_field=_field_path),
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
        raise node.expected('a field path such as position or transforms[0].translation.x')
    return node.value


def _msgtypes(node: YamlNode) -> tuple[str, ...]:
    items = node.items('message types') if isinstance(node.value, list) else [node]
    for item in items:
        if not isinstance(item.value, str) or not _MSGTYPE.fullmatch(item.value):
            raise item.expected('a message type such as sensor_msgs/msg/JointState')
    return tuple(item.text() for item in items)
