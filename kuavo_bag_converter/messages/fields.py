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
Field paths such as ``joint_data.joint_q`` or ``transforms[child_frame_id=tool0].translation.x``.

In brackets stands which element of a list is meant: its place; or ``key=value``, what a field of
it says, or what a list of texts says at its place that lies beside the list (``joint_names=arm``);
or nothing for a value of every element. Brackets before a path say which messages are meant:
``[child_frame_id=tool0].pose.position.x``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import keyword
from operator import attrgetter
import re
from typing import Any, NamedTuple, TYPE_CHECKING

from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.messages.definitions import Definitions, MessageDecoder
from kuavo_bag_converter.support.errors import BagError, UnfitMessageError
from kuavo_bag_converter.support.texts import did_you_mean, listed, shown
import numpy as np
import numpy.typing as npt
from rosbags.interfaces import Nodetype

if TYPE_CHECKING:
    from rosbags.interfaces.typing import FieldDesc

Vector = npt.NDArray[np.float64]

_STEP = re.compile(r'(?P<name>[A-Za-z]\w*)(?P<brackets>\[(?P<choice>[^\[\]]*)\])?')
_MESSAGES = re.compile(r'\[(?P<key>[^\[\]=]+)=(?P<value>[^\[\]=]+)\]\.')
_DOT = re.compile(r'\.(?![^\[\]]*\])')
_NAMES = ('name', 'joint_names', 'names')
"""What types of ROS call the names of joints."""
EMPTY = 'empty'
WITHOUT_JOINT = 'without the joint'
WITHOUT_ENTRY = 'without the entry'
"""Reasons why a message does not serve."""
_TEXT = ('string', 'wstring', 'wchar')
HEADER: FieldDesc = (Nodetype.NAME, 'std_msgs/msg/Header')
"""The type of a header."""


class Step(NamedTuple):
    """One attribute on the way of a path, and which of its elements are meant."""

    holder: str
    """Type of the message that has the attribute."""
    name: str
    """Of the field."""
    attribute: str
    element: int | None = None
    """Its place, if it is told by that."""
    key: str = ''
    """What tells the element apart: a path in it, or the name of a list beside the attribute."""
    value: str = ''
    """What ``key`` must be."""
    beside: bool = False
    """Whether ``key`` is a list beside the attribute."""
    each: bool = False
    """Whether all elements are meant."""


class FieldPath(NamedTuple):
    """A path that was found in the type of a connection."""

    topic: str
    path: str
    steps: tuple[Step, ...]
    key: str = ''
    """What tells the messages that are meant, if not all are."""
    value: str = ''
    """What ``key`` must be."""

    def of(self, message: Any) -> Any:
        """
        Return what the path leads to in a decoded message.

        :raises UnfitMessageError: The message is another than is meant, or does not have the
            element that is.
        """
        if self.key:
            found = str(attrgetter(self.key)(message))
            if found != self.value:
                raise UnfitMessageError(
                    f'{self.topic}: {self.key} is {shown(found)!r}, not {shown(self.value)!r}',
                    WITHOUT_ENTRY,
                )
        value = message
        for place, step in enumerate(self.steps):
            holder, value = value, getattr(value, step.attribute)
            if step.element is not None:
                if step.element >= len(value):
                    text = (
                        f'{self.topic}: {step.attribute} has {len(value)} elements, '
                        f'element {step.element} of {self.path} is not there'
                    )
                    raise UnfitMessageError(text, EMPTY) if not len(value) else BagError(text)
                value = value[step.element]
            elif step.key:
                value = value[self.place(step, holder, value)]
            elif step.each:
                rest = self._replace(steps=self.steps[slice(place + 1, None)], key='')
                return [rest.of(element) for element in value]
        return value

    def place(self, step: Step, holder: Any, elements: Any) -> int:
        """
        Return the place of the element that a step names.

        :param step: One with a key.
        :param holder: The message that has the list.
        :param elements: The list.
        :raises UnfitMessageError: There is not just one such element.
        """
        texts = getattr(holder, step.key) if step.beside else map(attrgetter(step.key), elements)
        known = [str(text) for text in texts]
        if known.count(step.value) != 1 or len(known) != len(elements):
            what = 'no element' if step.value not in known else 'several elements'
            raise UnfitMessageError(
                f'{self.topic}: {step.attribute} has {what} with {step.key} '
                f'{shown(step.value)!r} ({step.key}: {listed(known) or "nothing"})',
                WITHOUT_ENTRY,
            )
        return known.index(step.value)


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
        found = [_numbers_path(decoder, path) for path in paths]
        self._paths = [path for path, _ in found]
        types = {kind for _, kind in found}
        self.is_integer = not types & {'float32', 'float64'}
        """Whether all fields are integers or booleans."""
        self.is_wide = bool(types & {'int64', 'uint64'})
        """Whether a field may have integers that float64 rounds."""
        self.is_single = types == {'float32'}
        """Whether all fields are float32."""

    def read(self, message: Any) -> Vector:
        """
        Return the fields one after the other.

        :return: float64, shape (n,); independent of the payload that the message was decoded from.
        :raises UnfitMessageError: A list does not have the element of a path.
        """
        parts = [np.array(path.of(message), dtype=np.float64, ndmin=1) for path in self._paths]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def read_exact(self, message: Any) -> npt.NDArray[np.object_]:
        """
        Return the fields one after the other as numbers of Python, of which none is rounded.

        :return: Shape (n,).
        :raises BagError: A list is too short for the index of a path.
        """
        parts = [np.array(path.of(message), dtype=object, ndmin=1) for path in self._paths]
        return np.concatenate(parts)


class ValueReader:
    """Reads one boolean, number or text of decoded messages of one connection."""

    def __init__(self, path: str, connection: Connection, definitions: Definitions) -> None:
        """
        Check the path against the type of the connection.

        :raises BagError: The path is not in the type or does not lead to a single value.
        """
        decoder = definitions.decoder(connection)
        self._path, desc = follow(decoder, path)
        if desc[0] != Nodetype.BASE:
            what = 'a list: give an index' if element_of(desc)[1] else f'{_type_name(desc)}'
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
    """Reads texts or ids, as the names of joints, of decoded messages of one connection."""

    def __init__(
        self, path: str, connection: Connection, definitions: Definitions, field: str = ''
    ) -> None:
        """
        Check the path against the type of the connection.

        :param path: Of the texts; ``name`` is also what types have instead, at the top or beside
            a step of the way to ``field``.
        :param connection: Of the messages.
        :param definitions: Where their type is defined.
        :param field: Path of what the texts name.
        :raises BagError: The path is not in the type or does not lead to texts.
        """
        decoder = definitions.decoder(connection)
        if path == _NAMES[0]:
            path = _names_beside(decoder, field) or path
        self._path, desc = follow(decoder, path)
        is_id = desc[0] == Nodetype.BASE and 'int' in desc[1][0]
        if not is_text(desc) and not is_id:
            raise BagError(f'{decoder.topic}: {path} is {_type_name(desc)}, not a list of texts')
        self._single = desc[0] == Nodetype.BASE and not any(s.each for s in self._path.steps)

    def read(self, message: Any) -> tuple[str, ...]:
        """
        Return the texts.

        :raises BagError: A list is too short for the index of the path.
        """
        texts = self._path.of(message)
        return (str(texts),) if self._single else tuple(map(str, texts))


def _names_beside(decoder: MessageDecoder, field: str) -> str:
    """Return the path of the texts that name what a field holds, '' where there are none."""
    steps: tuple[Step, ...] = ()
    if field:
        steps = follow(decoder, field)[0].steps
    parts = _DOT.split(_MESSAGES.sub('', field, count=1))
    for depth in reversed(range(max(1, len(steps)))):
        holder = steps[depth].holder if steps else decoder.msgtype
        for name in _NAMES:
            if name in decoder.fields(holder) and is_text(decoder.fields(holder)[name]):
                return '.'.join([*parts[:depth], name])
    return ''


def numeric_fields(decoder: MessageDecoder) -> dict[str, str]:
    """
    List the paths of a type that lead to numbers, with their types (``float64[]``...).

    Lists of messages are listed by their first element, which may be another in the next message.
    """
    return {path: _type_name(desc) for path, desc in _walk(decoder, '', '')}


def _walk(decoder: MessageDecoder, msgtype: str, prefix: str) -> Iterator[tuple[str, FieldDesc]]:
    for name, desc in decoder.fields(msgtype).items():
        element, many = element_of(desc)
        if element[0] == Nodetype.NAME:
            yield from _walk(decoder, element[1], f'{prefix}{name}{"[0]" if many else ""}.')
        elif element[1][0] not in _TEXT:
            yield f'{prefix}{name}', desc


def _numbers_path(decoder: MessageDecoder, path: str) -> tuple[FieldPath, str]:
    """Return a path that leads to numbers, and their type."""
    found, desc = follow(decoder, path)
    element, _ = element_of(desc)
    if element[0] == Nodetype.NAME or element[1][0] in _TEXT:
        known = [name.replace('[0]', '[...]') for name in numeric_fields(decoder)]
        numbers = listed(known) or 'none'
        raise BagError(
            f'{decoder.topic}: {path} is {_type_name(desc)}, not numbers '
            f'(numbers of {shown(decoder.msgtype)}: {numbers})'
        )
    return found, element[1][0]


def follow(decoder: MessageDecoder, path: str) -> tuple[FieldPath, FieldDesc]:
    """
    Follow a path through the types on its way; return it with the type that it leads to.

    :raises BagError: The path is not in the type.
    """
    steps: list[Step] = []
    written: list[str] = []
    desc: FieldDesc = (Nodetype.NAME, decoder.msgtype)
    key, value, rest = '', '', path
    chosen = _MESSAGES.match(path)
    if chosen is not None:
        key, value = _key_in(decoder, path, desc, chosen['key']), chosen['value']
        rest = path[slice(chosen.end(), None)]
    for part in _DOT.split(rest):
        element, many = element_of(desc)
        if element[0] != Nodetype.NAME or many:
            what = 'a list: give an index' if many else f'{_type_name(desc)} and has no fields'
            raise BagError(f'{decoder.topic}: {path}: {".".join(written)} is {what}')
        msgtype = element[1]
        match = _STEP.fullmatch(part)
        fields = decoder.fields(msgtype)
        if match is None or match['name'] not in fields:
            raise BagError(
                f'{decoder.topic}: {path}: {_no_field(decoder, msgtype, part)}{decoder.advice}'
            )
        desc = fields[match['name']]
        step = Step(msgtype, match['name'], attribute_of(match['name']))
        if match['brackets'] is not None:
            element, many = element_of(desc)
            if not many:
                raise BagError(f'{decoder.topic}: {path}: {match["name"]} is not a list')
            step = _chosen(decoder, path, step, element, match['choice'])
            desc = element
        steps.append(step)
        written.append(part)
    each = [step for step in steps if step.each]
    if each and (len(each) > 1 or desc[0] != Nodetype.BASE):
        raise BagError(
            f'{decoder.topic}: {path}: [] takes one number of every element of one list, found '
            f'{_type_name(desc)}; give what tells the others apart, as in [name=arm]'
        )
    return FieldPath(decoder.topic, path, tuple(steps), key, value), desc


def _chosen(
    decoder: MessageDecoder, path: str, step: Step, element: FieldDesc, choice: str
) -> Step:
    """Return a step with the element that the text in its brackets means."""
    if choice.isdecimal():
        return step._replace(element=int(choice))
    if not choice:
        if element[0] != Nodetype.NAME:
            raise BagError(
                f'{decoder.topic}: {path}: {step.attribute} has numbers; leave [] out to take all'
            )
        return step._replace(each=True)
    key, equals, value = choice.partition('=')
    fields = decoder.fields(step.holder)
    if equals and key in fields and is_text(fields[key]) and element_of(fields[key])[1]:
        return step._replace(key=attribute_of(key), value=value, beside=True)
    if not equals or element[0] != Nodetype.NAME:
        raise BagError(
            f'{decoder.topic}: {path}: [{choice}] means no element of {step.attribute}; expected '
            'a place such as [0], or [key=value] with a field of the elements or a list of names '
            'beside them'
        )
    return step._replace(key=_key_in(decoder, path, element, key), value=value)


def _key_in(decoder: MessageDecoder, path: str, element: FieldDesc, key: str) -> str:
    """Return the attributes that lead to a key in a message of the type of ``element``."""
    attributes = []
    for name in key.split('.'):
        msgtype = str(element[1])
        inner = decoder.fields(msgtype) if element[0] == Nodetype.NAME else {}
        if name not in inner:
            what = _no_field(decoder, msgtype, name) if inner else f'{key} is not in {msgtype}'
            raise BagError(f'{decoder.topic}: {path}: {what}{decoder.advice}')
        element = inner[name]
        attributes.append(attribute_of(name))
    if element[0] != Nodetype.BASE:
        raise BagError(f'{decoder.topic}: {path}: {key} is {_type_name(element)}, not one value')
    return '.'.join(attributes)


def _no_field(decoder: MessageDecoder, msgtype: str, name: str) -> str:
    fields = decoder.fields(msgtype)
    return (
        f'{shown(msgtype)} has no field {name!r}{did_you_mean(name, fields)} '
        f'(it has {listed(fields) or "none"})'
    )


def attribute_of(name: str) -> str:
    """Return the attribute of decoded messages that holds a field."""
    return f'{name}_' if keyword.iskeyword(name) else name


def element_of(desc: FieldDesc) -> tuple[Any, bool]:
    """Return the type of a field, or of its elements and True if it is an array."""
    if desc[0] in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        return desc[1][0], True
    return desc, False


def is_text(desc: FieldDesc) -> bool:
    """Tell whether a field is a text or a list of texts."""
    element, _ = element_of(desc)
    return element[0] != Nodetype.NAME and element[1][0] in _TEXT


def _type_name(desc: FieldDesc) -> str:
    element, many = element_of(desc)
    name = element[1] if element[0] == Nodetype.NAME else element[1][0]
    if not many:
        return shown(str(name))
    return f'{shown(str(name))}[{desc[1][1] if desc[0] == Nodetype.ARRAY else ""}]'
