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

"""What payloads are where a channel and its schema contradict each other: ``cdr`` or ``ros1``."""

from __future__ import annotations

from collections.abc import Sequence
import struct

from kuavo_bag_converter.bags.compression import ZSTD_MAGIC
from kuavo_bag_converter.bags.model import Connection
from rosbags.serde import SerdeError
from rosbags.typesys import get_types_from_msg, get_typestore, Stores, TypesysError

LOOKED_AT = 16
"""Payloads that tell the encoding."""
_OF_SCHEMA = {'ros1msg': 'ros1', 'ros2msg': 'cdr', 'ros2idl': 'cdr'}
_CDR = (b'\0\0', b'\0\1')
_ERRORS = (SerdeError, TypesysError, struct.error, ValueError, KeyError, IndexError,
           AssertionError, OverflowError, RecursionError)  # fmt: skip


def contradict(channel: str, schema: str) -> bool:
    """Tell whether the encoding of a channel's messages and that of its schema do not agree."""
    return channel in ('cdr', 'ros1') and _OF_SCHEMA.get(schema, channel) != channel


def payload_encoding(connection: Connection, payloads: Sequence[bytes]) -> str:
    """
    Tell what payloads of a connection are.

    Most ROS 1 payloads do not begin as CDR does. Those that do (a sequence number of 0) fit their
    definition to the byte, which is next to impossible for CDR.
    """
    if not all(data[:2] in _CDR or data[:4] == ZSTD_MAGIC for data in payloads):
        return 'ros1'
    return 'ros1' if _fit_ros1(connection, payloads) else 'cdr'


def _fit_ros1(connection: Connection, payloads: Sequence[bytes]) -> bool:
    try:
        store = get_typestore(Stores.EMPTY)
        store.register(get_types_from_msg(connection.definition, connection.msgtype))
        for data in payloads:
            store.deserialize_ros1(data, connection.msgtype)
    except _ERRORS:
        return False
    return True
