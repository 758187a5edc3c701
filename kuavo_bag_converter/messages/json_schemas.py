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
from collections.abc import Callable, Mapping
from functools import partial
import json
import re
from typing import Any, TYPE_CHECKING

from kuavo_bag_converter.messages.decoder_plugins import Claim
from kuavo_bag_converter.messages.schemas import BYTES, many, plain, Schema, time_parts

if TYPE_CHECKING:
    from rosbags.interfaces.typing import FieldDesc, Typesdict

_KINDS = {'number': 'float64', 'integer': 'int64', 'boolean': 'bool'}
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


_Decode = Callable[[Any, str], Any]
"""Brings a value at a path to the form of its type; raises ValueError if it is of another."""


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
    form = _form(root, root, name, found, 0) if isinstance(root, dict) else None
    if form is None:
        raise ValueError('it defines no fields')
    return Schema(name, found, lambda payload: form[1](json.loads(bytes(payload)), ''))


def _form(
    root: Mapping[str, Any], schema: Any, name: str, found: Typesdict, depth: int
) -> tuple[FieldDesc, _Decode] | None:
    """Say in terms of ROS what a value is, and how it is decoded; None for what ROS cannot say."""
    schema = _resolved(root, schema)
    kind = _kind(schema)
    if kind == 'object':
        return _object_form(root, schema.get('properties'), name, found, depth, schema)
    if kind == 'array':
        form = _form(root, schema.get('items'), name, found, depth + 1)
        if form is None or form[0][0] == BYTES[0]:  # ROS has no lists of lists
            return None
        return many(form[0]), partial(_elements, form[1])
    if kind == 'string' and schema.get('contentEncoding') == 'base64':
        return BYTES, lambda value, path: base64.b64decode(_text(value, path), validate=True)
    if kind == 'string':
        return plain('string'), _text
    return (plain(_KINDS[kind]), partial(_number, kind)) if kind in _KINDS else None


def _object_form(
    root: Mapping[str, Any],
    properties: Any,
    name: str,
    found: Typesdict,
    depth: int,
    schema: Mapping[str, Any],
) -> tuple[FieldDesc, _Decode] | None:
    if not isinstance(properties, dict) or depth > _DEPTH:
        return None
    if set(properties) == _TIME:
        is_duration = 'duration' in str(schema.get('title', '')).lower()
        return plain(time_parts(found, 'Duration' if is_duration else 'Time')), _time
    forms = {
        key: form
        for key, value in properties.items()
        if _NAME.fullmatch(key)
        and (form := _form(root, value, f'{name}_{key}', found, depth + 1)) is not None
    }
    if not forms:
        return None
    found[name] = ([], [(key, desc) for key, (desc, _) in forms.items()])

    def fields(value: Any, path: str) -> dict[str, Any]:
        given = _object(value, path)
        return {
            key: decode(given.get(key), f'{path}.{key}'.lstrip('.'))
            for key, (_, decode) in forms.items()
        }

    return plain(name), fields


def _object(value: Any, path: str) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise ValueError(f'{path or "it"} is no object')
    return value or {}


def _time(value: Any, path: str) -> dict[str, Any]:
    given = _object(value, path)
    return {'sec': given.get('sec', 0), 'nanosec': given.get('nsec', 0)}


def _elements(decode: _Decode, value: Any, path: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise ValueError(f'{path} is no array')
    return [decode(one, f'{path}[{place}]') for place, one in enumerate(value or ())]


def _text(value: Any, path: str) -> str:
    if value is not None and not isinstance(value, str):
        raise ValueError(f'{path} is no string')
    return value or ''


def _number(kind: str, value: Any, path: str) -> Any:
    """Return a number; one that is missing is NaN where the type has it."""
    if kind == 'number' and value is None:
        return float('nan')
    if type(value) not in _PYTHON[kind]:
        raise ValueError(f'{path} is {json.dumps(value)[:40]}, no {kind}')
    return value


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
