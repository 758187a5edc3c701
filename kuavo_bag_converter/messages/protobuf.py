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
Protobuf messages, by the descriptors that a bag embeds.

Formats: https://protobuf.dev/programming-guides/encoding, google/protobuf/descriptor.proto.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import struct
from typing import Any, NamedTuple, TYPE_CHECKING

from kuavo_bag_converter.messages.decoder_plugins import Claim
from kuavo_bag_converter.messages.schemas import BYTES, many, plain, Schema, time_parts

if TYPE_CHECKING:
    from rosbags.interfaces.typing import FieldDesc, Typesdict

_VARINT, _EIGHT, _BYTES, _BEGIN, _END, _FOUR = range(6)
_LENGTHS = {_EIGHT: 8, _FOUR: 4}
_MESSAGE, _RAW, _STRING = 11, 12, 9
_KINDS = {
    1: 'float64', 2: 'float32', 3: 'int64', 4: 'uint64', 5: 'int32', 6: 'uint64', 7: 'uint32',
    8: 'bool', 9: 'string', 13: 'uint32', 14: 'int32', 15: 'int32', 16: 'int64', 17: 'int32',
    18: 'int64',
}  # fmt: skip
"""Of ROS, by the type of a field that is neither bytes nor a message."""
_FIXED = {1: '<d', 2: '<f', 6: '<Q', 7: '<I', 15: '<i', 16: '<q'}
_FLOATS = (1, 2)
_ZIGZAG = (17, 18)
_SIGNED = (3, 5, 14)
_REPEATED = 3
_TIMES = {'google.protobuf.Timestamp': 'Time', 'google.protobuf.Duration': 'Duration'}
_TIME_FIELDS = {'seconds': 'sec', 'nanos': 'nanosec'}


class _Field(NamedTuple):
    name: str
    kind: int
    message: str
    """Full name of its type, '' unless it is a message."""
    is_repeated: bool
    has_presence: bool
    """Whether a field that is not set is another thing than 0."""


_Types = dict[str, dict[int, _Field]]
"""Fields by number, by the full name of their message."""


def protobuf_schema(msgtype: str, data: bytes) -> Schema:
    """
    Read a FileDescriptorSet.

    :param msgtype: Full name of the messages, as ``foxglove.CompressedVideo``.
    :param data: The serialized descriptors.
    :raises ValueError: They are broken, or do not define the type.
    """
    types: _Types = {}
    for number, _, file in _wire(data):
        if number == 1:
            _add_file(types, file)
    if not types.get(msgtype):
        raise ValueError('it does not define the fields of the type')
    _leave_out_cycles(types)
    found: Typesdict = {}
    _describe(types, msgtype, found)
    return Schema(
        Claim.name_in_ros(msgtype), found, lambda payload: _decoded(types, msgtype, payload)
    )


def _add_file(types: _Types, data: Any) -> None:
    package, is_proto3, messages = '', False, []
    for number, _, value in _wire(data):
        if number == 2:
            package = _text(value)
        elif number == 4:
            messages.append(value)
        elif number == 12:
            is_proto3 = _text(value) == 'proto3'
    for message in messages:
        _add_message(types, package, message, is_proto3=is_proto3)


def _add_message(types: _Types, parent: str, data: Any, *, is_proto3: bool) -> None:
    name, fields, nested = '', [], []
    for number, _, value in _wire(data):
        if number == 1:
            name = f'{parent}.{_text(value)}'.lstrip('.')
        elif number == 2:
            fields.append(value)
        elif number == 3:
            nested.append(value)
    types[name] = dict(_field(field, is_proto3=is_proto3) for field in fields)
    for message in nested:
        _add_message(types, name, message, is_proto3=is_proto3)


def _field(data: Any, *, is_proto3: bool) -> tuple[int, _Field]:
    values = {number: value for number, _, value in _wire(data)}
    kind = values.get(5, 0)
    message = _text(values.get(6, b'')).lstrip('.') if kind == _MESSAGE else ''
    return values[3], _Field(
        _text(values[1]), kind, message, values.get(4) == _REPEATED,
        not is_proto3 or bool(values.get(17)) or 9 in values or kind == _MESSAGE,
    )  # fmt: skip


def _leave_out_cycles(types: _Types) -> None:
    """Leave out fields that no ROS message has: those that lead back, and lists of bytes."""
    reached: dict[str, set[str]] = {}
    for name in types:
        pending, seen = [name], set[str]()
        while pending:
            for field in types.get(pending.pop(), {}).values():
                if field.message and field.message not in seen:
                    seen.add(field.message)
                    pending.append(field.message)
        reached[name] = seen
    for name, fields in types.items():
        types[name] = {
            number: field
            for number, field in fields.items()
            if field.kind in _KINDS
            or (field.kind == _RAW and not field.is_repeated)
            or (field.message in types and name not in {field.message, *reached[field.message]})
        }


def _describe(types: _Types, name: str, found: Typesdict) -> str:
    """Say in terms of ROS what a message holds; return the name that it has there."""
    if name in _TIMES:
        return time_parts(found, _TIMES[name])
    ros_name = Claim.name_in_ros(name)
    if ros_name not in found:
        found[ros_name] = ([], [])
        fields: list[tuple[str, FieldDesc]] = []
        for field in types[name].values():
            if field.message:
                desc = plain(_describe(types, field.message, found))
            else:
                desc = BYTES if field.kind == _RAW else plain(_KINDS[field.kind])
            fields.append((field.name, many(desc) if field.is_repeated else desc))
        found[ros_name] = ([], fields)
    return ros_name


def _decoded(types: _Types, name: str, data: Any) -> Mapping[str, Any]:
    """Decode a message; numbers that are not set where that can be told are NaN if they can be."""
    fields = types[name]
    found: dict[str, Any] = {
        field.name: [] if field.is_repeated else _unset(field) for field in fields.values()
    }
    for number, wire, value in _wire(data):
        field = fields.get(number)
        if field is None:
            continue
        if not field.is_repeated:
            found[field.name] = (
                found[field.name] + bytes(value) if field.message else _value(field, wire, value)
            )
        elif wire == _BYTES and field.kind in _KINDS and field.kind != _STRING:
            found[field.name] += _packed(field, value)
        else:
            found[field.name].append(_value(field, wire, value))
    for field in fields.values():
        if field.message:
            value = found[field.name]
            found[field.name] = (
                [_decoded(types, field.message, one) for one in value]
                if field.is_repeated
                else _decoded(types, field.message, value)
            )
    if name in _TIMES:
        return {name: found.get(key, 0) for key, name in _TIME_FIELDS.items()}
    return found


def _unset(field: _Field) -> Any:
    if field.message or field.kind == _RAW:
        return b''
    if field.kind == _STRING:
        return ''
    return float('nan') if field.kind in _FLOATS and field.has_presence else 0


def _value(field: _Field, wire: int, value: Any) -> Any:
    """
    Return the value of a field.

    :raises ValueError: It is encoded as another type.
    """
    kind = field.kind
    if kind in _FIXED:
        expected = _FOUR if struct.calcsize(_FIXED[kind]) == 4 else _EIGHT
    else:
        expected = _BYTES if kind in (_MESSAGE, _RAW, _STRING) else _VARINT
    if wire != expected:
        raise ValueError(f'{field.name} is encoded as another type than its schema says')
    if kind in _FIXED:
        return struct.unpack(_FIXED[kind], value)[0]
    if kind == _STRING:
        return _text(value)
    if kind in (_MESSAGE, _RAW):
        return bytes(value)
    return _number(kind, value)


def _packed(field: _Field, data: Any) -> list[Any]:
    if field.kind in _FIXED:
        return [item for (item,) in struct.iter_unpack(_FIXED[field.kind], data)]
    numbers = []
    at = 0
    while at < len(data):
        number, at = _varint(data, at)
        numbers.append(_number(field.kind, number))
    return numbers


def _number(kind: int, value: int) -> int | bool:
    if kind in _ZIGZAG:
        return value >> 1 ^ -(value & 1)
    if kind in _SIGNED and value >= 1 << 63:
        return value - (1 << 64)
    return bool(value) if kind == 8 else value


def _wire(data: Any) -> Iterator[tuple[int, int, Any]]:
    """
    Yield number, wire type and value of each field of a message.

    :raises ValueError: The message is broken.
    """
    view = memoryview(data)
    at = depth = 0
    while at < len(view):
        tag, at = _varint(view, at)
        number, wire = tag >> 3, tag & 7
        value: Any = None
        if wire == _VARINT:
            value, at = _varint(view, at)
        elif wire in (_BYTES, *_LENGTHS):
            length = _LENGTHS.get(wire)
            if length is None:
                length, at = _varint(view, at)
            value, at = view[slice(at, at + length)], at + length
        elif wire in (_BEGIN, _END):
            depth += 1 if wire == _BEGIN else -1
        else:
            raise ValueError('it is no protobuf message')
        if at > len(view) or depth < 0:
            raise ValueError('it is cut')
        if not depth and wire != _END:
            yield number, wire, value
    if depth:
        raise ValueError('it is cut')


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & ((1 << 64) - 1), at
        shift += 7
    raise ValueError('it is cut')


def _text(value: Any) -> str:
    return bytes(value).decode()
