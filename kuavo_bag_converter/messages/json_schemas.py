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

"""JSON messages, by the JSON schema that a bag embeds (https://json-schema.org, 2020-12)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
import json
import re
from typing import Any, TYPE_CHECKING

from kuavo_bag_converter.messages.decoder_plugins import Claim
from kuavo_bag_converter.messages.schemas import BYTES, many, plain, Schema, time_parts

if TYPE_CHECKING:
    from rosbags.interfaces.typing import FieldDesc, Typesdict

_KINDS = {'number': 'float64', 'integer': 'int64', 'boolean': 'bool', 'string': 'string'}
_PYTHON = {'number': (int, float), 'integer': (int,), 'boolean': (bool,)}
_STAMPED = {
    'timestamp': {'type': 'object', 'properties': {'sec': {}, 'nsec': {}}},
    'frame_id': {'type': 'string'},
    'data': {'type': 'string', 'contentEncoding': 'base64'},
}
_PICTURE = {'type': 'object', 'properties': {**_STAMPED, 'format': {'type': 'string'}}}
_KNOWN: Mapping[str, Mapping[str, Any]] = {
    'foxglove.CompressedImage': _PICTURE,
    'foxglove.CompressedVideo': _PICTURE,
}
"""Schemas that writers leave empty, as the name tells all."""
_DEPTH = 16
"""Objects within objects; what is deeper is left out."""
_TIME = {'sec', 'nsec'}
_NAME = re.compile(r'[A-Za-z_]\w*', re.ASCII)
"""Keys that can be fields of a path; others are left out."""


def json_schema(msgtype: str, text: str) -> Schema:
    """
    Read a JSON schema.

    :param msgtype: Name of the messages.
    :param text: The schema, of an object.
    :raises ValueError: It is broken, or defines no fields.
    """
    root = json.loads(text)
    if isinstance(root, dict) and 'properties' not in root:
        root = {**root, **_KNOWN.get(msgtype, {})}
    found: Typesdict = {}
    name = Claim.name_in_ros(msgtype)
    if not isinstance(root, dict) or not _describe(root, root, name, found, 0):
        raise ValueError('it defines no fields')
    return Schema(
        name, found, lambda payload: _decoded(root, root, json.loads(bytes(payload)), '')
    )


def _describe(
    root: Mapping[str, Any], schema: Mapping[str, Any], name: str, found: Typesdict, depth: int
) -> FieldDesc | None:
    """Say in terms of ROS what a value is; None for what ROS has no type for."""
    schema = _resolved(root, schema)
    kind = _kind(schema)
    if kind == 'object':
        properties = schema.get('properties')
        if not isinstance(properties, dict) or depth > _DEPTH:
            return None
        if set(properties) == _TIME:
            is_duration = 'duration' in str(schema.get('title', '')).lower()
            return plain(time_parts(found, 'Duration' if is_duration else 'Time'))
        fields = [
            (key, desc)
            for key, value in properties.items()
            if _NAME.fullmatch(key)
            and (desc := _describe(root, value, f'{name}_{key}', found, depth + 1)) is not None
        ]
        if not fields:
            return None
        found[name] = ([], fields)
        return plain(name)
    if kind == 'array':
        items = schema.get('items')
        desc = _describe(root, items, name, found, depth + 1) if isinstance(items, dict) else None
        return None if desc is None or _is_list(desc) else many(desc)
    if kind == 'string' and schema.get('contentEncoding') == 'base64':
        return BYTES
    return plain(_KINDS[kind]) if kind in _KINDS else None


def _is_list(desc: FieldDesc) -> bool:
    return desc[0] == BYTES[0]


def _resolved(root: Mapping[str, Any], schema: Any) -> Mapping[str, Any]:
    """Follow references within the schema; {} for what is none."""
    for _ in range(_DEPTH):
        if not isinstance(schema, dict) or '$ref' not in schema:
            break
        target: Any = root
        for step in str(schema['$ref']).removeprefix('#').strip('/').split('/'):
            target = target.get(step) if isinstance(target, dict) else None
        schema = target
    return schema if isinstance(schema, dict) else {}


def _kind(schema: Mapping[str, Any]) -> str:
    kinds = schema.get('type', 'object' if 'properties' in schema else '')
    if isinstance(kinds, list):
        kinds = next((kind for kind in kinds if kind != 'null'), '')
    return str(kinds)


def _decoded(root: Mapping[str, Any], schema: Any, value: Any, path: str) -> Any:
    """
    Bring a value to the form of its type; numbers that are missing become NaN.

    :raises ValueError: Names what is of another type than the schema says.
    """
    schema = _resolved(root, schema)
    kind = _kind(schema)
    if kind == 'object':
        value = {} if value is None else value
        if not isinstance(value, dict):
            raise ValueError(f'{path or "it"} is no object')
        properties = schema.get('properties', {})
        if set(properties) == _TIME:
            return {'sec': value.get('sec', 0), 'nanosec': value.get('nsec', 0)}
        return {
            key: _decoded(root, what, value.get(key), f'{path}.{key}'.lstrip('.'))
            for key, what in properties.items()
        }
    if kind == 'array':
        items = schema.get('items')
        if not isinstance(value, list) and value is not None:
            raise ValueError(f'{path} is no array')
        return [_decoded(root, items, one, f'{path}[{k}]') for k, one in enumerate(value or ())]
    if kind == 'string':
        if value is None:
            value = ''
        if not isinstance(value, str):
            raise ValueError(f'{path} is no string')
        is_binary = schema.get('contentEncoding') == 'base64'
        return base64.b64decode(value, validate=True) if is_binary else value
    if kind == 'number' and value is None:
        return float('nan')
    allowed = _PYTHON.get(kind)
    if value is None or (allowed and type(value) not in allowed):
        raise ValueError(f'{path} is {json.dumps(value)[:40]}, no {kind}')
    return value
