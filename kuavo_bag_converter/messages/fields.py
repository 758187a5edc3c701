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

"""Field paths such as ``joint_data.joint_q`` or ``transforms[0].translation.x``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import keyword
import re
from typing import Any, NamedTuple, TYPE_CHECKING

from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.messages.definitions import Definitions, MessageDecoder
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.texts import did_you_mean, listed, shown
import numpy as np
import numpy.typing as npt
from rosbags.interfaces import Nodetype

if TYPE_CHECKING:
    from rosbags.interfaces.typing import FieldDesc

Vector = npt.NDArray[np.float64]

_STEP = re.compile(r'(?P<name>[A-Za-z]\w*)(?:\[(?P<index>\d+)\])?')
_TEXT = ('string', 'wstring', 'wchar')


class _Step(NamedTuple):
    attribute: str
    element: int | None


class _Path(NamedTuple):
    """A path that was found in the type of a connection."""

    topic: str
    path: str
    steps: tuple[_Step, ...]

    def of(self, message: Any) -> Any:
        """Return what the path leads to in a decoded message."""
        value = message
        for attribute, index in self.steps:
            value = getattr(value, attribute)
            if index is not None:
                if index >= len(value):
                    raise BagError(
                        f'{self.topic}: {attribute} has {len(value)} elements, '
                        f'element {index} of {self.path} is not there'
                    )
                value = value[index]
        return value


class FieldReader:
    """Reads fields of decoded messages of one connection as one vector."""

    def __init__(
        self, paths: Iterable[str], connection: Connection, definitions: Definitions
    ) -> None:
        """
        Check the paths against the type of the connection.

        A path names a number, an array of numbers or one element of an array; a list of messages
        needs an index.

        :raises BagError: A path is not in the type or does not lead to numbers.
        """
        decoder = definitions.decoder(connection)
        self._paths = [_numbers_path(decoder, path) for path in paths]

    def read(self, message: Any) -> Vector:
        """
        Return the fields one after the other.

        :return: float64, shape (n,); independent of the payload that the message was decoded from.
        :raises BagError: A list is too short for the index of a path.
        """
        parts = [np.array(path.of(message), dtype=np.float64, ndmin=1) for path in self._paths]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]


class ValueReader:
    """Reads one boolean, number or text of decoded messages of one connection."""

    def __init__(self, path: str, connection: Connection, definitions: Definitions) -> None:
        """
        Check the path against the type of the connection.

        :raises BagError: The path is not in the type or does not lead to a single value.
        """
        decoder = definitions.decoder(connection)
        self._path, desc = _path(decoder, path)
        if desc[0] != Nodetype.BASE:
            what = 'a list: give an index' if _element(desc)[1] else f'{_type_name(desc)}'
            raise BagError(
                f'{decoder.topic}: {path} is {what}; a single boolean, number or text is needed'
            )

    def read(self, message: Any) -> bool | int | float | str:
        """
        Return the value.

        :raises BagError: A list is too short for the index of the path.
        """
        value = self._path.of(message)
        if isinstance(value, np.generic):
            value = value.item()
        assert isinstance(value, (bool, int, float, str))
        return value


class TextsReader:
    """Reads a list of texts, as the names of joints, of decoded messages of one connection."""

    def __init__(self, path: str, connection: Connection, definitions: Definitions) -> None:
        """
        Check the path against the type of the connection.

        :raises BagError: The path is not in the type or does not lead to a list of texts.
        """
        decoder = definitions.decoder(connection)
        self._path, desc = _path(decoder, path)
        element, many = _element(desc)
        if not many or element[0] == Nodetype.NAME or element[1][0] not in _TEXT:
            raise BagError(f'{decoder.topic}: {path} is {_type_name(desc)}, not a list of texts')

    def read(self, message: Any) -> tuple[str, ...]:
        """
        Return the texts.

        :raises BagError: A list is too short for the index of the path.
        """
        return tuple(self._path.of(message))


def numeric_fields(decoder: MessageDecoder) -> dict[str, str]:
    """
    List the paths of a type that lead to numbers, with their types (``float64[]``...).

    Lists of messages are listed by their first element.
    """
    return {path: _type_name(desc) for path, desc in _walk(decoder, '', '')}


def _walk(decoder: MessageDecoder, msgtype: str, prefix: str) -> Iterator[tuple[str, FieldDesc]]:
    for name, desc in decoder.fields(msgtype).items():
        element, many = _element(desc)
        if element[0] == Nodetype.NAME:
            yield from _walk(decoder, element[1], f'{prefix}{name}{"[0]" if many else ""}.')
        elif element[1][0] not in _TEXT:
            yield f'{prefix}{name}', desc


def _numbers_path(decoder: MessageDecoder, path: str) -> _Path:
    found, desc = _path(decoder, path)
    element, _ = _element(desc)
    if element[0] == Nodetype.NAME or element[1][0] in _TEXT:
        numbers = listed(numeric_fields(decoder)) or 'none'
        raise BagError(
            f'{decoder.topic}: {path} is {_type_name(desc)}, not numbers '
            f'(numbers of {shown(decoder.msgtype)}: {numbers})'
        )
    return found


def _path(decoder: MessageDecoder, path: str) -> tuple[_Path, FieldDesc]:
    """Split a path into attributes, following the types on the way to the one that it leads to."""
    steps: list[_Step] = []
    msgtype = ''
    desc: FieldDesc = (Nodetype.NAME, decoder.msgtype)
    for part in path.split('.'):
        element, many = _element(desc)
        if element[0] != Nodetype.NAME or many:
            what = 'a list: give an index' if many else f'{_type_name(desc)} and has no fields'
            raise BagError(f'{decoder.topic}: {path}: {_joined(steps)} is {what}')
        msgtype = element[1]
        match = _STEP.fullmatch(part)
        fields = decoder.fields(msgtype)
        if match is None or match['name'] not in fields:
            available = listed(fields) or 'none'
            raise BagError(
                f'{decoder.topic}: {path}: {shown(msgtype)} has no field {part!r}'
                f'{did_you_mean(part, fields)} (it has {available}){decoder.advice}'
            )
        desc = fields[match['name']]
        attribute = f'{match["name"]}_' if keyword.iskeyword(match['name']) else match['name']
        index = None
        if match['index'] is not None:
            index = int(match['index'])
            element, many = _element(desc)
            if not many:
                raise BagError(f'{decoder.topic}: {path}: {match["name"]} is not a list')
            desc = element
        steps.append(_Step(attribute, index))
    return _Path(decoder.topic, path, tuple(steps)), desc


def _element(desc: FieldDesc) -> tuple[Any, bool]:
    """Return the type of a field, or of its elements and True if it is an array."""
    if desc[0] in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        return desc[1][0], True
    return desc, False


def _type_name(desc: FieldDesc) -> str:
    element, many = _element(desc)
    name = element[1] if element[0] == Nodetype.NAME else element[1][0]
    if not many:
        return shown(str(name))
    return f'{shown(str(name))}[{desc[1][1] if desc[0] == Nodetype.ARRAY else ""}]'


def _joined(steps: list[_Step]) -> str:
    return '.'.join(name if index is None else f'{name}[{index}]' for name, index in steps)
