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

"""Header stamps, taken from the first bytes of serialized messages."""

from __future__ import annotations

import re
import struct

from kuavo_bag_converter.bags.model import Connection

HEAD = 12
"""Bytes of a payload that hold the stamp in every encoding."""

_TYPES = {('Header',), ('std_msgs/Header',), ('std_msgs/msg/Header',), ('std_msgs::msg::Header',)}
_STAMPS = {(f'builtin_interfaces{part}Time', 'timestamp') for part in ('/', '/msg/', '::msg::')}
_ROS1 = struct.Struct('<4xII')
_CDR = {1: struct.Struct('<4xiI'), 0: struct.Struct('>4xiI')}
_IDL_NOISE = re.compile(
    r'//[^\n]*|/\*.*?\*/|@\w+\s*\((?:[^()"]|"(?:\\.|[^"\\])*")*\)|@\w+', re.DOTALL
)


def begins_with_header(connection: Connection) -> bool:
    """
    Tell whether the definition's first field is a ``std_msgs/Header``; True without one.

    In CDR a ``timestamp`` is as good, which Foxglove's messages begin with.
    """
    if not connection.definition:
        return True
    if connection.definition_format == 'idl':
        first = _first_idl_field(connection)
    else:
        first = _first_msg_field(connection.definition)
    return first[:1] in _TYPES or (connection.encoding == 'cdr' and first in _STAMPS)


def _first_msg_field(definition: str) -> tuple[str, ...]:
    for line in definition.splitlines():
        if line.startswith('====') and not line.strip('= '):
            continue
        text = line.split('#', 1)[0].strip()
        if text and '=' not in text and not text.startswith('MSG:'):
            return tuple(text.split()[:2])
    return ()


def _first_idl_field(connection: Connection) -> tuple[str, ...]:
    name = re.escape(connection.msgtype.rsplit('/', 1)[-1])
    text = _IDL_NOISE.sub(' ', connection.definition)
    body = re.search(rf'struct\s+{name}\s*{{\s*([\w:]+)\s+(\w+)', text)
    return body.groups() if body else ()


def header_stamp(encoding: str, head: bytes | memoryview) -> int | None:
    """
    Header stamp in ns of a message that begins with a header; None where there is none.

    Sources: ROS 1 serializes ``uint32 seq, time stamp``; CDR (DDS-XTypes 7.6.3.1.2) has a 4-byte
    encapsulation header whose second byte tells the byte order, then ``int32 sec, uint32
    nanosec``.
    """
    if len(head) < HEAD:
        return None
    if encoding == 'ros1':
        sec, nsec = _ROS1.unpack_from(head)
    elif encoding == 'cdr':
        sec, nsec = _CDR[head[1] & 1].unpack_from(head)
    else:
        return None
    return int(sec) * 10**9 + int(nsec)
