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

"""Decoders that other packages bring: payloads of any encoding become messages of a definition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TYPE_CHECKING

from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.plugins import DECODERS, Plugin, plugins
import numpy as np
from rosbags.interfaces import Nodetype

if TYPE_CHECKING:
    from rosbags.interfaces.typing import FieldDesc
    from rosbags.typesys.store import Typestore

_BYTES = ('octet', 'byte', 'char')
_TEXTS = ('string', 'wstring')


class Decoder(Protocol):
    """Decodes messages of some types; an instance is an entry point in the group of decoders."""

    encoding: str
    """Of the payloads, as the bag names it: ``json``, ``protobuf``, ``cdr``..."""
    msgtypes: Mapping[str, str]
    """The types by the names that the bag has for them, each with what a message looks like when
    it is decoded, as the text of a ``.msg`` file. Types that it contains follow as in bags, or are
    found where those of bags are."""

    def decode(self, msgtype: str, payload: memoryview) -> object:
        """
        Decode one message; may be called by many threads at once.

        :param msgtype: One of :attr:`msgtypes`.
        :param payload: Of the message; not valid any more when the next one is decoded.
        :return: An object or a mapping that has every field of the definition; messages within it
            likewise, arrays of numbers as anything that numpy takes, arrays of bytes also as
            bytes.
        :raises Exception: The payload cannot be decoded; its text is shown.
        """


class Claim(NamedTuple):
    """A type that a plug-in decodes."""

    plugin: Plugin
    msgtype: str
    """As the plug-in names it."""
    definition: str

    @property
    def ros_name(self) -> str:
        """See :meth:`name_in_ros`."""
        return self.name_in_ros(self.msgtype)

    @staticmethod
    def name_in_ros(msgtype: str) -> str:
        """Return the name of any type as types of ROS are named, one that is named so as it is."""
        package, _, kind = msgtype.replace('/msg/', '.').replace('/', '.').rpartition('.')
        return f'{package.strip(".").replace(".", "_") or "plugin"}/msg/{kind}'


Claims = Mapping[tuple[str, str], Claim]
"""By ROS name and encoding."""


def claims() -> Claims:
    """
    Return the types that installed plug-ins decode.

    :raises UsageError: One cannot be loaded, or two decode the same type.
    """
    found: dict[tuple[str, str], Claim] = {}
    for plugin in plugins(DECODERS).values():
        encoding, msgtypes = plugin.value.encoding, plugin.value.msgtypes
        is_mapping = isinstance(msgtypes, Mapping)
        texts = [encoding, *msgtypes, *msgtypes.values()] if is_mapping else []
        if not texts or not all(isinstance(text, str) for text in texts):
            raise UsageError(
                f'{plugin}: its encoding must be a text, and its msgtypes a mapping of type names '
                'to texts of .msg files (docs/extending.md)'
            )
        for msgtype, definition in msgtypes.items():
            claim = Claim(plugin, msgtype, definition)
            other = found.setdefault((claim.ros_name, encoding), claim)
            if other is not claim:
                raise UsageError(
                    f'{plugin}: decodes {msgtype} ({encoding}), as {other.plugin} '
                    'does; uninstall one of them'
                )
    return found


def build_message(store: Typestore, msgtype: str, value: object, path: str = '') -> Any:
    """
    Make a message of a type from what a plug-in returns.

    :raises ValueError: Names the field that is missing or has another type.
    """
    fields = []
    for name, desc in store.fielddefs[msgtype][1]:
        try:
            item = value[name] if isinstance(value, Mapping) else getattr(value, name)
        except (KeyError, AttributeError):
            raise ValueError(f'the decoded message has no {path}{name}') from None
        fields.append(_field(store, desc, item, f'{path}{name}'))
    return store.types[msgtype](*fields)


def _field(store: Typestore, desc: FieldDesc, item: Any, path: str) -> Any:
    if desc[0] == Nodetype.NAME:
        return build_message(store, desc[1], item, f'{path}.')
    if desc[0] == Nodetype.BASE:
        return _checked(path, desc[1][0], item)
    element, length = desc[1]
    if element[0] == Nodetype.BASE and element[1][0] not in _TEXTS:
        items = _numbers(path, element[1][0], item)
    else:
        items = [_field(store, element, one, f'{path}[{k}]') for k, one in enumerate(item)]
    if desc[0] == Nodetype.ARRAY and len(items) != length:
        raise ValueError(f'{path} has {len(items)} elements, the definition has {length}')
    return items


def _checked(path: str, kind: str, item: Any) -> Any:
    if kind in _TEXTS:
        if not isinstance(item, str):
            raise ValueError(f'{path} is {type(item).__name__}, the definition has {kind}')
        return item
    return _numbers(path, kind, [item])[0].item()


def _numbers(path: str, kind: str, item: Any) -> Any:
    dtype = np.dtype('uint8' if kind in _BYTES else kind)
    try:
        if isinstance(item, bytes | bytearray | memoryview):
            return np.frombuffer(item, dtype)
        numbers = np.asarray(item, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f'{path} cannot be {kind} ({error})') from None
    if numbers.ndim != 1:
        raise ValueError(f'{path} has {numbers.ndim} dimensions, the definition has 1')
    return numbers
