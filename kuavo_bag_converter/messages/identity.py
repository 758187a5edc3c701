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

"""What tells the numbers of messages apart: names of elements, identities of entries, frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from operator import attrgetter
import re
import struct
import threading
from typing import Any, NamedTuple, TYPE_CHECKING

from kuavo_bag_converter.bags.damage import seconds_text
from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.messages.definitions import Definitions, MessageDecoder
from kuavo_bag_converter.messages.fields import (
    attribute_of,
    element_of,
    FieldPath,
    follow,
    HEADER,
    is_text,
    Step,
)
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.texts import listed
import numpy as np
from rosbags.interfaces import Nodetype

if TYPE_CHECKING:
    from rosbags.interfaces.typing import FieldDesc

_TIME = 'builtin_interfaces/msg/Time'
_FRAME = 'frame_id'
_ENTRY = re.compile(r'id|ns|uuid|label|name|.*_(?:id|name)')
"""Fields that tell the entries of a list apart."""
_BEST_KEYS = ('child_frame_id', 'name', 'id')
_OWNER = re.compile(
    r'child_frame_id|name|ns|id|label|side|arm|'
    r'(?:joint|motor|link|object|body|marker|sensor|device|model|entity)(?:_name|_id)?'
)
"""Texts that tell to whom the numbers of a message belong."""
_NUMBER = re.compile(
    r'id|(?:joint|motor|servo|actuator|axis|can|node|device|sensor|arm|hand|finger|leg|link|'
    r'object|body|marker|tag|robot)_id'
)
"""Integers that do, or count messages; then they do not come back to a value."""
_MOST_NUMBERS = 64
"""Values of such an integer after which it is a counter."""
_NAMES = re.compile(
    r'(?:.*_)?(?:names?|joints?|labels?|links?|motors?|actuators?|frames?|axis|axes|fingers?|ids?)'
    r'|frame_ids'
)
"""Lists of texts that are names."""
_REMARKS = re.compile(
    r'.*(?:stat|mode|unit|error|warn|message|text|info|type|result|reason|descr|value|command).*'
)
"""Lists of texts that are none, but say something about the elements."""


class Identity(NamedTuple):
    """Something in messages that says what their numbers belong to."""

    path: str
    kind: str
    """
    ``names`` of elements, ``entry`` of a list, ``frame``, ``owner`` of the message.

    Or the ``number`` of one, which may be a counter.
    """
    advice: str
    """How to tell such messages apart in a profile."""


_NAMES_ADVICE = 'give joints in the profile, by which they are read by name'
_FRAME_ADVICE = (
    'give the one that is meant as frame_id in the source, or frame_id: null if all mean the same'
)
_Getter = Callable[[Any], tuple[object, ...]]


class _Level(NamedTuple):
    """A step of a path, and what lies beside it in the message that it begins at."""

    step: Step
    scalars: _Getter | None
    lists: tuple[str, ...]
    each: _Getter | None = None
    """Reads an element, if the step takes all."""


class IdentityReader:
    """
    Reads what the numbers at some paths belong to.

    That are the lists of names beside arrays of numbers, the ids and names of entries that are
    chosen by their place in a list, the names of what a message is about, and the frames that
    headers name.
    """

    def __init__(
        self,
        paths: Iterable[str],
        connection: Connection,
        definitions: Definitions,
        *,
        names: bool,
        frames: bool,
    ) -> None:
        """
        Look for what there is in the type of a connection.

        :param paths: Of the numbers.
        :param connection: Of the messages.
        :param definitions: Where their type is defined.
        :param names: Whether names of elements, entries and owners count.
        :param frames: Whether the frame that a header names counts.
        :raises BagError: A path is not in the type.
        """
        decoder = definitions.decoder(connection)
        self.identities: list[Identity] = []
        """What :meth:`read` gives, in order."""
        self._paths: list[tuple[FieldPath, list[_Level]]] = []
        known: set[tuple[Step, ...]] = set()
        for path in paths:
            found, desc = follow(decoder, path)
            is_array = element_of(desc)[1]
            last = found.steps[-1]
            # Numbers beside each other, as x and y, belong to the same.
            alike = (
                last
                if is_array or last.element is not None
                else last._replace(name='', attribute='')
            )
            key = (*found.steps[:-1], alike)
            if key not in known:
                known.add(key)
                self._add(decoder, found, names=names, frames=frames)

    def _add(self, decoder: MessageDecoder, path: FieldPath, *, names: bool, frames: bool) -> None:
        levels = []
        before = len(self.identities)
        prefix = ''
        chosen = False
        for step in path.steps:
            scalars: list[str] = []
            for name, desc in decoder.fields(step.holder).items():
                inner = ''
                if desc == HEADER:
                    if not frames:
                        continue
                    inner = f'.{_FRAME}'
                    kind, advice = 'frame', _FRAME_ADVICE
                elif names and not step.key and _tells(name, desc, chosen=chosen):
                    kind = 'owner' if is_text(desc) else 'number'
                    advice = _owner_advice(f'{prefix}{name}')
                else:
                    continue
                if chosen:
                    kind, advice = 'entry', self._entry_advice(decoder, prefix, f'{name}{inner}')
                scalars.append(f'{attribute_of(name)}{inner}')
                self.identities.append(Identity(f'{prefix}{name}{inner}', kind, advice))
            lists = _names_of(decoder, step.holder) if names else ()
            for name in lists:
                what = f'{prefix}{name}'
                self.identities.append(Identity(what, 'names', _NAMES_ADVICE))
                if step.element is not None:
                    advice = self._entry_advice(decoder, f'{prefix}{step.name}[].', name)
                    self.identities.append(Identity(what, 'entry', advice))
            level = _Level(step, _getter(scalars), tuple(map(attribute_of, lists)))
            prefix += step.name + ('' if step.element is None else f'[{step.element}]') + '.'
            chosen = step.element is not None
            if step.each and names:
                naming = _entry_keys(decoder, step)
                if naming:
                    each = f'{prefix.removesuffix(".")}[]'
                    advice = f'{_NAMES_ADVICE}, with names_field: {each}.{naming[0]}'
                    what = f'{each}.{", ".join(naming)}'
                    self.identities.append(Identity(what, 'names', advice))
                level = level._replace(each=_getter([*map(attribute_of, naming)]))
            levels.append(level)
            if step.each:
                break
        if len(self.identities) > before:
            self._paths.append((path, levels))

    @staticmethod
    def _entry_advice(decoder: MessageDecoder, prefix: str, key: str) -> str:
        if decoder.msgtype.endswith('/TFMessage'):
            return 'use tf: {parent: FRAME, child: FRAME} as source in place of a field'
        entry = prefix.removesuffix('.').rpartition('[')[0]
        return f'choose the entry by what it is, as {entry}[{key}=...]'

    def read(self, message: Any) -> tuple[object, ...]:
        """
        Return the value of each of :attr:`identities`, None where it tells nothing.

        The message has the elements that the paths lead to.
        """
        values: list[object] = []
        for path, levels in self._paths:
            holder = message
            beside: list[list[tuple[int, Any]]] = []
            for level in levels:
                if level.scalars is not None:
                    values += level.scalars(holder)
                found = getattr(holder, level.step.attribute)
                element = level.step.element
                beside.append([])
                for name in level.lists:
                    texts = getattr(holder, name)
                    beside[-1].append((len(values), texts))
                    values.append(None)
                    if element is not None:
                        values.append(texts[element] if len(texts) == len(found) else None)
                if level.each is not None:
                    values.append(tuple(map(level.each, found)))
                if element is not None:
                    holder = found[element]
                elif level.step.key:
                    holder = found[path.place(level.step, holder, found)]
                else:
                    holder = found
            if hasattr(holder, '__len__'):
                _put_names(values, beside, len(holder))
        return tuple(values)


def _put_names(values: list[object], beside: list[list[tuple[int, Any]]], elements: int) -> None:
    """Fill in the lists that name the elements of an array: those that lie nearest to it."""
    for level in reversed(beside):
        fitting = [(place, texts) for place, texts in level if len(texts) == elements]
        for place, texts in fitting:
            values[place] = tuple(texts)
        if fitting:
            return


def _tells(name: str, desc: FieldDesc, *, chosen: bool) -> bool:
    """Tell whether a field says what an entry that is ``chosen``, or else a message, is about."""
    element, many = element_of(desc)
    if element[0] == Nodetype.NAME:
        return False
    is_whole = 'int' in element[1][0]
    if chosen:
        return bool(_ENTRY.fullmatch(name)) and (is_whole or (is_text(desc) and not many))
    pattern = _OWNER if is_text(desc) else _NUMBER
    return bool(pattern.fullmatch(name)) and not many and (is_whole or is_text(desc))


def _owner_advice(what: str) -> str:
    return (
        f'choose the messages, as field: [{what}=...].FIELD, or give joints with names_field: '
        f'{what} for a number of each'
    )


def named_path(decoder: MessageDecoder, path: str, message: Any) -> str:
    """
    Return a path that chooses entries of lists by what they are, where their type tells.

    :param decoder: Of the messages.
    :param path: One with places in brackets.
    :param message: A decoded message, whose entries at these places are meant.
    :raises BagError: The path is not in the type.
    """
    found, _ = follow(decoder, path)
    written = []
    holder = message
    for step in found.steps:
        name = step.name
        elements = () if holder is None else getattr(holder, step.attribute)
        if holder is not None:
            holder = elements
        if step.element is not None:
            there = step.element < len(elements)
            name += f'[{_choice_of(decoder, step, elements if there else ())}]'
            holder = elements[step.element] if there else None
        written.append(name)
    return '.'.join(written)


def _entry_keys(decoder: MessageDecoder, step: Step) -> list[str]:
    """Return the fields that tell the elements of a list apart."""
    element, _ = element_of(decoder.fields(step.holder)[step.name])
    fields = decoder.fields(str(element[1])) if element[0] == Nodetype.NAME else {}
    return [
        name
        for name, desc in fields.items()
        if desc[0] == Nodetype.BASE and _ENTRY.fullmatch(name)
    ]


def _choice_of(decoder: MessageDecoder, step: Step, elements: Any) -> str:
    """Return what belongs in the brackets of a step; its place where nothing else tells."""
    keys = _entry_keys(decoder, step)
    keys.sort(key=lambda name: _BEST_KEYS.index(name) if name in _BEST_KEYS else len(_BEST_KEYS))
    for key in keys:
        texts = [str(getattr(one, attribute_of(key))) for one in elements]
        if texts and texts.count(texts[step.element or 0]) == 1 and texts[step.element or 0]:
            return f'{key}={texts[step.element or 0]}'
    return f'{keys[0]}=...' if keys else str(step.element)


def _getter(attributes: list[str]) -> Callable[[Any], tuple[object, ...]] | None:
    if not attributes:
        return None
    get = attrgetter(*attributes)

    def read(holder: Any) -> tuple[object, ...]:
        found = get(holder) if len(attributes) > 1 else (get(holder),)
        return tuple(tuple(one.tolist()) if isinstance(one, np.ndarray) else one for one in found)

    return read


def _names_of(decoder: MessageDecoder, msgtype: str) -> tuple[str, ...]:
    """Return the lists of texts of a type that name elements: those called so, else any."""
    lists = [
        name
        for name, desc in decoder.fields(msgtype).items()
        if is_text(desc) and element_of(desc)[1]
    ]
    named = [name for name in lists if _NAMES.fullmatch(name)]
    return tuple(named or [name for name in lists if not _REMARKS.fullmatch(name)])


class FrameIdReader:
    """Reads the frame that the header of a message names, of its first bytes where they tell."""

    def __init__(self, connection: Connection, definitions: Definitions) -> None:
        """
        Look for the header in the type of a connection.

        :raises BagError: Its messages cannot be decoded.
        """
        self._decoder = definitions.decoder(connection)
        fields = [*self._decoder.fields().items()]
        self._is_cdr = connection.encoding == 'cdr'
        self._place = _place_of_frame_id(fields, connection.encoding)
        self._attributes = ''
        for name, desc in fields:
            if desc == HEADER:
                self._attributes = f'{attribute_of(name)}.{_FRAME}'
                break
            if name == _FRAME and is_text(desc):
                self._attributes = _FRAME

    @property
    def is_known(self) -> bool:
        """Whether messages of this type name a frame."""
        return bool(self._attributes)

    @property
    def is_quick(self) -> bool:
        """Whether a message need not be decoded."""
        return self._place is not None

    def read(self, data: bytes | memoryview) -> str:
        """
        Return the frame that a message names, '' where there is none.

        :raises BagError: The message does not fit its definition.
        """
        if self._place is not None:
            try:
                order = '>' if self._is_cdr and not data[1] & 1 else '<'
                (size,) = struct.unpack_from(f'{order}I', data, self._place)
            except (struct.error, IndexError):
                return ''
            begin = self._place + 4
            return bytes(data[slice(begin, begin + size)]).rstrip(b'\0').decode(errors='replace')
        if not self._attributes:
            return ''
        return str(attrgetter(self._attributes)(self._decoder(data)))


_CDR = 12
"""Where the frame's length stands behind the encapsulation and a stamp."""


def _place_of_frame_id(fields: list[tuple[str, Any]], encoding: str) -> int | None:
    if encoding not in ('ros1', 'cdr') or not fields:
        return None
    if fields[0][1] == HEADER:
        return _CDR  # also in ROS 1, where a number stands before the stamp
    if (
        fields[0][1] == (Nodetype.NAME, _TIME)
        and len(fields) > 1
        and fields[1][0] == _FRAME
        and is_text(fields[1][1])
    ):
        return _CDR if encoding == 'cdr' else _CDR - 4
    return None


class OtherIdentityError(BagError):
    """The numbers or pictures of a message belong to something else than those before."""


class IdentityCheck:
    """Compares what messages say their numbers belong to, one message after the other."""

    def __init__(self) -> None:
        self._last: tuple[object, ...] = ()
        self._known: dict[tuple[str, str], object] = {}
        self._numbers: dict[str, list[object]] = {}
        """Values of what may be a counter, the latest last."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the elements and entries, as the messages so far have them."""
        found: list[str] = []
        for (_, kind), value in self._known.items():
            if kind in ('names', 'entry'):
                found += map(str, value if isinstance(value, tuple) else (value,))
        return tuple(found)

    def compare(self, reader: IdentityReader, message: Any, topic: str, stamp: int) -> None:
        """
        Compare a message with those before.

        :param reader: Reads what there is in messages of its type.
        :param message: The decoded message.
        :param topic: Its topic, for the error.
        :param stamp: When it was received, ns, for the error.
        :raises OtherIdentityError: Something is another than in them.
        """
        values = reader.read(message)
        if values == self._last:
            return
        for identity, value in zip(reader.identities, values, strict=True):
            if value is None or value in ('', ()):
                continue
            if identity.kind == 'number' and not self._comes_back(identity.path, value):
                continue
            before = self._known.setdefault((identity.path, identity.kind), value)
            if identity.kind == 'number':
                before = self._numbers[identity.path][-1]
            if before != value:
                never_mind = ''
                if identity.kind != 'frame':
                    never_mind = ', or names_field: null in the source if it does not matter'
                raise OtherIdentityError(
                    f'{topic}: the message received at {seconds_text(stamp)}: its '
                    f'{identity.path} is {_written(value)}, of those before {_written(before)}; '
                    f'{identity.advice}{never_mind}'
                )
        self._last = values

    def _comes_back(self, path: str, value: object) -> bool:
        """Tell whether a number has been there before another one, as no counter's has."""
        values = self._numbers.setdefault(path, [])
        if values and values[-1] == value:
            return False
        if value in values:
            return len(values) <= _MOST_NUMBERS
        if len(values) <= _MOST_NUMBERS:
            values.append(value)
        return False


class FrameIdCheck:
    """
    Compares the frames that pictures are of, where their first bytes tell.

    To be used by several threads.
    """

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._readers: dict[int, FrameIdReader | None] = {}
        self._frame = ''
        self._lock = threading.Lock()

    def compare(self, connection: Connection, data: bytes | memoryview) -> None:
        """
        Compare a picture with those before.

        :raises OtherIdentityError: It is of another frame.
        """
        with self._lock:
            self._compare(connection, data)

    def _compare(self, connection: Connection, data: bytes | memoryview) -> None:
        if connection.id not in self._readers:
            self._readers[connection.id] = None
            with suppress(BagError):  # the picture's decoder says what is wrong
                self._readers[connection.id] = FrameIdReader(connection, self._definitions)
        reader = self._readers[connection.id]
        frame = reader.read(data) if reader is not None and reader.is_quick else ''
        if frame and frame != self._frame:
            if self._frame:
                raise OtherIdentityError(
                    f'{connection.label}: its frame_id is {frame!r}, of those before '
                    f'{self._frame!r}, so that several cameras publish there; {_FRAME_ADVICE}'
                )
            self._frame = frame


def _written(value: object) -> str:
    if not isinstance(value, tuple):
        return repr(value)
    return f'[{listed(map(str, value))}]'
