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

"""What schemas other than those of ROS say of messages, in terms of ROS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast, NamedTuple, TYPE_CHECKING

from rosbags.interfaces import Nodetype

if TYPE_CHECKING:
    from rosbags.interfaces.typing import FieldDesc, Typesdict


class Schema(NamedTuple):
    """How messages of a type are decoded, and what they look like then."""

    name: str
    """Of the type, as types of ROS are named."""
    types: Typesdict
    """The type, and those that it contains."""
    decode: Callable[[memoryview], Mapping[str, Any]]
    """Returns a message as a mapping that has every field; raises ValueError if it is broken."""


def plain(name: str) -> FieldDesc:
    """Return the description of a field of a type."""
    desc = (Nodetype.NAME, name) if '/' in name else (Nodetype.BASE, (name, 0))
    return cast('FieldDesc', desc)


def many(desc: FieldDesc) -> FieldDesc:
    """Return the description of a list."""
    return cast('FieldDesc', (Nodetype.SEQUENCE, (desc, 0)))


BYTES = many(plain('uint8'))


def time_parts(types: Typesdict, kind: str) -> str:
    """Add ROS's ``Time`` or ``Duration`` to types; return its name."""
    name = f'builtin_interfaces/msg/{kind}'
    types[name] = ([], [('sec', plain('int32')), ('nanosec', plain('uint32'))])
    return name
