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
Message definitions, and the decoders made from them: payload bytes to Python messages.

A bag's own definitions come first, whatever their md5 is, so that three versions of one type in
three bags all decode. What a bag does not embed is taken from folders of ``.msg`` files, from the
standard types of a distro, and from the packages of a sourced ROS, in this order. Types that a
plug-in decodes are as the plug-in says.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
import functools
from pathlib import Path
import re
import struct
import threading
from typing import Any, NamedTuple, TYPE_CHECKING

from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.messages.decoder_plugins import build_message, Claim, claims
from kuavo_bag_converter.messages.json_schemas import json_schema
from kuavo_bag_converter.messages.protobuf import protobuf_schema
from kuavo_bag_converter.messages.schemas import Schema
from kuavo_bag_converter.support.errors import BagError, UsageError
from kuavo_bag_converter.support.files import share_of_package
from kuavo_bag_converter.support.plugins import described
from kuavo_bag_converter.support.texts import quoted, shown
from rosbags.interfaces import Nodetype
from rosbags.serde import SerdeError
from rosbags.typesys import (
    get_types_from_idl,
    get_types_from_msg,
    get_typestore,
    Stores,
    TypesysError,
)

if TYPE_CHECKING:
    from rosbags.interfaces.typing import FieldDesc, Typesdict
    from rosbags.typesys.store import Typestore

DISTROS = tuple(
    store.value.removeprefix('ros2_') for store in Stores if store.value.startswith('ros2_')
)
"""Distros whose standard types are known."""

_CDR_BEGIN = 4
"""Bytes that tell the encapsulation."""
_PADDING = 3
"""Bytes that may fill the last word of a CDR message."""
_MANY = 1000
_SEPARATOR = '=' * 80
_NOT_EMBEDDED = '; the bag embeds no definition: check msg_path and distro'
_FIELD = re.compile(
    r'(?P<type>[A-Za-z][\w/]*(?:<=\d+)?(?:\[(?:<=)?\d*\])?)\s+(?P<name>[A-Za-z]\w*)'
    r'\s*(?P<constant>=)?'
)
_FIELD_NAME = re.compile(r'[A-Za-z_]\w*', re.ASCII)
_TYPE_NAME = re.compile(r'[A-Za-z_]\w*(?:/\w+)+', re.ASCII)
_STRING = r'"(?:\\.|[^"\\])*"'
_IDL_NOISE = re.compile(
    rf'(?P<string>{_STRING})|//[^\n]*|/\*.*?\*/|^[ \t]*#[^\n]*'
    rf'|@\w+(?:\s*\((?:[^()"]|{_STRING})*\))?',
    re.DOTALL | re.MULTILINE,
)
"""Comments, annotations, and the directives that the parser does not know; strings are kept."""
_IDL_CONSTANT = re.compile(rf'(?P<head>\bconst\s[^=;"]*?(?P<name>\w+)\s*=)(?:[^;"]|{_STRING})*;')
_IDL_NESTING = re.compile(rf'{_STRING}|[()]|sequence\s*<\s*sequence')
_MALFORMED = (SerdeError, struct.error, ValueError, IndexError, OverflowError, AssertionError)
_UNREADABLE = (TypesysError, AssertionError, KeyError, IndexError, ValueError, RecursionError)


class Surplus(NamedTuple):
    """Bytes behind the end of messages of a topic."""

    topic: str
    extra: int
    """Bytes behind a message; those from 1000 on count as 1000."""
    advice: str
    """What to check, '' where the bag embeds the definition."""


class TrailingBytes:
    """Counts payloads with bytes behind the end of their message; used by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[Surplus] = Counter()

    def add(self, topic: str, extra: int, advice: str) -> None:
        """Count a payload with so many bytes behind its message."""
        with self._lock:
            self._counts[Surplus(topic, min(extra, _MANY), advice)] += 1

    def counts(self) -> Counter[Surplus]:
        """Return how many payloads were met so far."""
        with self._lock:
            return Counter(self._counts)

    def lines_since(self, before: Counter[Surplus]) -> list[str]:
        """Say in a line for each topic how many payloads were met since ``before``."""
        topics: dict[tuple[str, str], dict[int, int]] = {}
        for (topic, extra, advice), count in sorted((self.counts() - before).items()):
            topics.setdefault((topic, advice), {})[extra] = count
        return [
            f'{topic}: {trailing_text(sum(sizes.values()), min(sizes), max(sizes))}{advice}'
            for (topic, advice), sizes in topics.items()
        ]


def trailing_text(messages: int, least: int, most: int) -> str:
    """Say of messages that there are bytes behind their end."""
    size = f'{least}' if least == most else f'{least} to {most}'
    size += ' or more' if most == _MANY else ''
    have = 'message has' if messages == 1 else 'messages have'
    return f'{messages} {have} {size} bytes behind the end, which are ignored'


class MessageDecoder:
    """Decodes the payloads of one connection; safe to share between threads."""

    def __init__(
        self,
        topic: str,
        msgtype: str,
        encoding: str,
        store: Typestore,
        trailing: TrailingBytes,
        advice: str = '',
    ) -> None:
        """
        Decode by a store that holds the type.

        :param topic: For errors, and for ``trailing``.
        :param msgtype: The type of the messages.
        :param encoding: ``ros1`` or ``cdr``.
        :param store: Where the type and those that it contains are registered.
        :param trailing: Counts the payloads that are longer than their message.
        :param advice: Ends the error about a payload that does not fit.
        """
        self.topic = topic
        self.msgtype = msgtype
        self.advice = advice
        """Ends errors: what to check where the bag embeds no definition."""
        self._trailing = trailing
        self._fields = {name: dict(entry[1]) for name, entry in store.fielddefs.items()}
        self._store = store
        message = store.get_msgdef(msgtype)
        self._class = message.cls
        self._by_begin = (
            {} if encoding == 'ros1'
            else {b'\0\0': message.deserialize_cdr_be, b'\0\1': message.deserialize_cdr_le}
        )  # fmt: skip
        self._ros1 = message.deserialize_ros1

    def __call__(self, data: bytes | memoryview) -> Any:
        """
        Decode one payload.

        Bytes behind the end of a CDR message are allowed (writers that estimate the size leave
        them) and counted. ROS 1 knows none: there they tell of another definition.

        :return: An object with the fields as attributes. Arrays of numbers are numpy arrays that
            may be views of ``data``; a field whose name is a Python keyword has a trailing
            underscore.
        :raises BagError: The payload does not fit the definition.
        """
        message, extra = self._decoded(data)
        if extra > _PADDING:
            self._trailing.add(self.topic, extra, self.advice)
        return message

    def peek(self, data: bytes | memoryview) -> Any:
        """
        Decode a payload that is decoded again if it is used; nothing is counted.

        :raises BagError: The payload does not fit the definition.
        """
        return self._decoded(data)[0]

    def trailing_bytes(self, data: bytes | memoryview) -> int:
        """
        Return how many bytes of a payload lie behind its message, 0 for mere padding.

        :raises BagError: The payload does not fit the definition.
        """
        _, extra = self._decoded(data)
        return extra if extra > _PADDING else 0

    def _decoded(self, data: bytes | memoryview) -> tuple[Any, int]:
        """Return the message, and how many bytes lie behind its end."""
        # A memoryview, because slices of bytes would copy pictures.
        view = memoryview(data)
        try:
            if not self._by_begin:
                message, end = self._ros1(view, 0, self._class, self._store)
                if end != len(view):
                    raise ValueError(f'it has {end} bytes by the definition')
                return message, 0
            decode = self._by_begin.get(bytes(view[:2]))
            if decode is None or len(view) < _CDR_BEGIN:
                raise ValueError(f'CDR does not begin with {bytes(view[:_CDR_BEGIN])!r}')
            body = view[_CDR_BEGIN:]
            message, end = decode(body, 0, self._class, self._store)
            if end > len(body):
                raise ValueError('it is cut')
            return message, len(body) - end
        except _MALFORMED as error:
            raise BagError(
                f'{self.topic}: a message of {len(data)} bytes does not fit the definition of '
                f'{shown(self.msgtype)} ({_brief(error)}){self.advice}'
            ) from None

    def text(self) -> str:
        """Return the definition as bags embed it, with those of the types that it contains."""
        version = 2 if self._by_begin else 1
        return self._store.generate_msgdef(self.msgtype, ros_version=version)[0]

    def fields(self, msgtype: str = '') -> dict[str, FieldDesc]:
        """Return the fields of a type that the message contains, by default of its own."""
        return self._fields[msgtype or self.msgtype]


class _PluginDecoder(MessageDecoder):
    """Decodes by a plug-in; what that returns becomes a message of the definition it gives."""

    def __init__(
        self, topic: str, claim: Claim, store: Typestore, trailing: TrailingBytes
    ) -> None:
        super().__init__(topic, claim.ros_name, 'ros1', store, trailing)
        self._claim = claim

    def text(self) -> str:
        """Return '': what bags embed of it says the plug-in alone."""
        return ''

    def _decoded(self, data: bytes | memoryview) -> tuple[Any, int]:
        plugin, msgtype, _ = self._claim
        try:
            found = plugin.value.decode(msgtype, memoryview(data))
            return build_message(self._store, self.msgtype, found), 0
        except Exception as error:  # whatever the code of others raises
            raise BagError(
                f'{self.topic}: {plugin} cannot decode a message of {len(data)} bytes of '
                f'{shown(msgtype)} ({described(error)})'
            ) from error


class _SchemaDecoder(MessageDecoder):
    """Decodes by a schema of protobuf or JSON, to a message of the definition that it gives."""

    def __init__(
        self, connection: Connection, schema: Schema, store: Typestore, trailing: TrailingBytes
    ) -> None:
        super().__init__(connection.label, schema.name, 'ros1', store, trailing)
        self._connection = connection
        self._schema = schema

    def _decoded(self, data: bytes | memoryview) -> tuple[Any, int]:
        try:
            found = self._schema.decode(memoryview(data))
            return build_message(self._store, self.msgtype, found), 0
        except (ValueError, struct.error, RecursionError) as error:
            raise BagError(
                f'{self.topic}: a message of {len(data)} bytes does not fit the schema of '
                f'{shown(self._connection.msgtype)} ({_brief(error)})'
            ) from None


_COMPILING = threading.Lock()

_SCHEMAS: Mapping[str, tuple[str, Callable[[str, str], Schema]]] = {
    'protobuf': ('protobuf', lambda name, text: protobuf_schema(name, base64.b64decode(text))),
    'json': ('jsonschema', json_schema),
}
"""What a schema is called and what reads it, by the encoding of messages."""


class Definitions:
    """Finds the definitions of connections and makes their decoders, each set once."""

    def __init__(self, msg_path: Iterable[str | Path] = (), distro: str = 'humble') -> None:
        """
        Choose where definitions come from that a bag does not embed.

        :param msg_path: Folders with ``package/msg/Type.msg`` files, or folders of one package.
        :param distro: ROS 2 distro of the standard types; for ROS 1 payloads it is always noetic.
        :raises UsageError: A folder does not exist, the distro is not known, or a plug-in that
            decodes messages cannot be used.
        """
        self._claims = claims()
        self._folders = [Path(folder) for folder in msg_path]
        for folder in self._folders:
            if not folder.is_dir():
                raise UsageError(f'msg_path: {folder} is not a folder')
        if distro not in DISTROS:
            raise UsageError(f'distro: expected one of {", ".join(DISTROS)}, found {distro!r}')
        self._standard = {'cdr': Stores(f'ros2_{distro}'), 'ros1': Stores.ROS1_NOETIC}
        self.trailing = TrailingBytes()
        """Of the payloads that the decoders have met."""
        self._lock = threading.Lock()
        self._decoders: dict[Connection, MessageDecoder] = {}
        self._stores: dict[tuple[str, ...], Typestore] = {}

    def decoder(self, connection: Connection) -> MessageDecoder:
        """
        Return the decoder of a connection, made when it is first asked for.

        :raises BagError: The payloads are in another encoding than ``ros1`` or ``cdr``, the
            definition cannot be read, or a type that it needs is nowhere defined.
        """
        decoder = self._decoders.get(connection)
        if decoder is None:
            with self._lock:
                decoder = self._decoders[connection] = self._make(connection)
        return decoder

    def _make(self, connection: Connection) -> MessageDecoder:
        topic, encoding = connection.label, connection.encoding
        msgtype = _normalized(connection.msgtype)
        claim = self._claims.get((Claim.name_in_ros(msgtype), encoding))
        if claim is not None:
            types = _types_of_plugin(claim)
            store = self._store_of(topic, claim.ros_name, 'cdr', types)
            return _PluginDecoder(topic, claim, store, self.trailing)
        if encoding not in self._standard:
            schema = _schema_of(connection)
            store = self._store_of(topic, schema.name, 'cdr', schema.types)
            return _SchemaDecoder(connection, schema, store, self.trailing)
        key = (msgtype, encoding, connection.definition_format, connection.definition)
        if key not in self._stores:
            embedded = _embedded_types(connection, msgtype)
            self._stores[key] = self._store_of(topic, msgtype, encoding, embedded)
        advice = '' if connection.definition.strip() else _NOT_EMBEDDED
        return MessageDecoder(topic, msgtype, encoding, self._stores[key], self.trailing, advice)

    def _store_of(self, topic: str, msgtype: str, encoding: str, embedded: Typesdict) -> Typestore:
        """Return a store that holds a type with all types that it contains."""
        try:
            types = self._closure(topic, msgtype, encoding, embedded)
            _check_names(types)
            return _compiled(
                msgtype, tuple((name, tuple(c), tuple(f)) for name, (c, f) in types.items())
            )
        except _UNREADABLE as error:
            raise BagError(
                f'{topic}: the definition of {shown(msgtype)} cannot be used ({_brief(error)})'
            ) from None

    def _closure(self, topic: str, msgtype: str, encoding: str, embedded: Typesdict) -> Typesdict:
        """Return a type with all types that it contains."""
        found: Typesdict = {}
        pending = [msgtype]
        while pending:
            name = pending.pop()
            if name in found:
                continue
            types = embedded if name in embedded else self._elsewhere(name, encoding)
            if name not in types:
                missing = shown(name)
                whole = '' if name == msgtype else f', which {shown(msgtype)} contains'
                advice = f'; give a folder that holds {missing}.msg as msg_path'
                raise BagError(
                    f'{topic}: no definition of '
                    f'{missing}{whole}{advice if "/msg/" in name else ""}'
                )
            found[name] = types[name]
            pending += _contained(found[name][1])
        return found

    def _elsewhere(self, name: str, encoding: str) -> Typesdict:
        """Return types that have ``name`` if it is defined anywhere outside the bag."""
        package, _, kind = name.partition('/msg/')
        path = self._file(kind, (f'{package}/msg', package))
        if path is None:
            # Time and Duration are in the empty store; to load a distro's types costs 0.1 s.
            for store in (Stores.EMPTY, self._standard[encoding]):
                standard = get_typestore(store).fielddefs
                if name in standard:
                    return standard
            share = share_of_package(package)
            path = share / 'msg' / f'{kind}.msg' if share is not None else None
            if path is None or not path.is_file():
                # Last, because nothing tells what package such a file belongs to.
                path = self._file(kind, ('msg', '.'))
        return _types_of_file(path, name) if path is not None else {}

    def _file(self, kind: str, places: Iterable[str]) -> Path | None:
        paths = (folder / place / f'{kind}.msg' for folder in self._folders for place in places)
        return next((path for path in paths if path.is_file()), None)


@functools.lru_cache(maxsize=256)
def _compiled(msgtype: str, types: tuple[tuple[str, Any, Any], ...]) -> Typestore:
    """
    Return a store of types that has made the code of one of them, which takes 40 ms.

    :param types: Name, constants and fields of each.
    """
    store = get_typestore(Stores.EMPTY)
    # rosbags compiles types through one entry of sys.modules.
    with _COMPILING:
        store.register({name: (list(c), list(f)) for name, c, f in types})
        store.get_msgdef(msgtype)
    return store


def _check_names(types: Typesdict) -> None:
    """
    Refuse names that are none: rosbags makes code of them, which it runs.

    :raises ValueError: Names the first one.
    """
    for name, (_, fields) in types.items():
        if _TYPE_NAME.fullmatch(name) is None:
            raise ValueError(f'{quoted(name)} is no name of a type')
        for field, _ in fields:
            if _FIELD_NAME.fullmatch(field) is None:
                raise ValueError(f'{quoted(field)} is no name of a field')


def _schema_of(connection: Connection) -> Schema:
    topic, encoding = connection.label, connection.encoding
    form, read = _SCHEMAS.get(encoding, ('', None))
    why = ''
    if read is not None and connection.definition_format == form:
        try:
            return read(connection.msgtype, connection.definition)
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            why = f'; its schema cannot be used ({_brief(error)})'
    elif read is not None:
        why = '; the bag has no schema of it'
    raise BagError(
        f'{topic}: its payloads are encoded as {quoted(encoding)}; only ros1 and cdr can '
        f'be read, and no plug-in is installed that decodes {quoted(connection.msgtype)}{why}'
    )


def _normalized(msgtype: str) -> str:
    """Return a type's name with its ``/msg/`` part."""
    package, _, kind = msgtype.rpartition('/')
    return msgtype if '/' in package else f'{package}/msg/{kind}'


def _embedded_types(connection: Connection, msgtype: str) -> Typesdict:
    text = connection.definition
    if not text.strip():
        return {}
    try:
        if connection.definition_format == 'idl':
            return _types_of_idl(text)
        return _types_of_msg(text, msgtype)
    except _UNREADABLE as error:
        raise BagError(
            f'{connection.label}: the bag holds a definition of {shown(msgtype)} that cannot be '
            f'read ({_brief(error)})'
        ) from None


@functools.lru_cache(maxsize=256)
def _types_of_msg(text: str, name: str) -> Typesdict:
    """Read MSG text: a type, and those that it contains under ``MSG: package/Type`` headings."""
    types = get_types_from_msg(_fields_only(text), name)
    return {
        _service_name(kind): (constants, [(field, _service_names(desc)) for field, desc in fields])
        for kind, (constants, fields) in types.items()
    }


def _service_name(name: str) -> str:
    """Undo what the parser does to ``package/srv/Type``, the types of service events."""
    return name.replace('/srv/msg/', '/srv/')


def _service_names(desc: FieldDesc) -> FieldDesc:
    if desc[0] == Nodetype.NAME:
        return desc[0], _service_name(desc[1])
    if desc[0] == Nodetype.ARRAY or desc[0] == Nodetype.SEQUENCE:
        element, length = desc[1]
        if element[0] == Nodetype.NAME:
            return desc[0], ((element[0], _service_name(element[1])), length)
    return desc


def _types_of_idl(text: str) -> Typesdict:
    """Read IDL: one type, or several under ``IDL: package/msg/Type`` headings as in MCAP."""
    types: Typesdict = {}
    for section in text.split(f'{_SEPARATOR}\n'):
        body = section.partition('\n')[2] if section.startswith('IDL: ') else section
        body = _IDL_NOISE.sub(lambda match: match['string'] or ' ', body)
        if body.strip():
            body = _without_values(body)
            _check_idl(body)
            types.update(get_types_from_idl(body))
    return types


def _without_values(text: str) -> str:
    """Set constants that nothing refers to to 0: the parser takes seconds for some expressions."""
    words = Counter(re.findall(r'\w+', text))
    words.subtract(match['name'] for match in _IDL_CONSTANT.finditer(text))
    return _IDL_CONSTANT.sub(
        lambda match: match[0] if words[match['name']] else f'{match["head"]} 0;', text
    )


def _check_idl(text: str) -> None:
    """
    Refuse what takes the parser time that is exponential in its depth; ROS has none of it.

    :raises TypesysError: Parentheses within parentheses, or a sequence of sequences.
    """
    depth = 0
    for word in _IDL_NESTING.findall(text):
        depth += {'(': 1, ')': -1}.get(word, 0)
        if depth > 1 or word.startswith('sequence'):
            raise TypesysError('nested parentheses or sequences')


def _types_of_plugin(claim: Claim) -> Typesdict:
    try:
        return _types_of_msg(claim.definition, claim.ros_name)
    except _UNREADABLE as error:
        raise UsageError(
            f'{claim.plugin}: its definition of {claim.msgtype} cannot be read ({_brief(error)})'
        ) from None


def _types_of_file(path: Path, name: str) -> Typesdict:
    try:
        return _types_of_msg(path.read_text('utf-8'), name)
    except (*_UNREADABLE, OSError) as error:
        raise BagError(
            f'{path}: cannot be read as a message definition ({_brief(error)})'
        ) from None


def _fields_only(text: str) -> str:
    """
    Reduce MSG text to its fields and headings.

    Constants, default values and comments do not matter for decoding, and the parser takes
    constants with lower-case names for fields.
    """
    lines = []
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith(('#', '@')):
            continue
        if line.strip('=') == '':
            lines.append(_SEPARATOR)
        elif line.startswith('MSG:'):
            lines.append(f'MSG: {line[4:].strip()}')
        else:
            field = _FIELD.match(line)
            if field is None:
                raise TypesysError(f'no field in the line {quoted(line)}')
            if not field['constant']:
                lines.append(f'{field["type"]} {field["name"]}')
    return '\n'.join(lines) + '\n'


def _contained(fields: Iterable[tuple[str, FieldDesc]]) -> Iterator[str]:
    """Yield the names of the message types among the types of fields."""
    for _, desc in fields:
        element = desc[1][0] if desc[0] in (Nodetype.ARRAY, Nodetype.SEQUENCE) else desc
        if element[0] == Nodetype.NAME:
            yield element[1]


def _brief(error: BaseException) -> str:
    """Return an error's text as one short line."""
    return shown(' '.join(str(error).split()) or type(error).__name__)
