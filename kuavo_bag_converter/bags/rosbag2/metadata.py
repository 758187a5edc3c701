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
The metadata.yaml of rosbag2 directories, versions 1 to 9, and what it disagrees with.

Since version 3 it names the compression, since 4 QoS profiles and paths relative to the folder,
since 5 the files with their counts, since 7 type hashes, since 9 QoS profiles as lists. None of it
is believed: the files decide.
"""

from __future__ import annotations

from collections.abc import Mapping
import os
from pathlib import Path, PurePosixPath
import re
from typing import Any, NamedTuple

from kuavo_bag_converter.bags.damage import DamagePolicy, range_text
from kuavo_bag_converter.bags.model import Connection, normal_type
from kuavo_bag_converter.bags.rosbag2.qos import load_yaml, MOST_CHARACTERS, normal_qos
from kuavo_bag_converter.support.texts import quoted, shown

NAME = 'metadata.yaml'
NEWEST = 9
_NUMBER = re.compile(r'[+-]?[0-9]{1,19}')


class DeclaredTopic(NamedTuple):
    """What metadata.yaml says of a topic."""

    topic: str
    msgtype: str
    qos: object
    messages: int


class DeclaredFile(NamedTuple):
    """What metadata.yaml says of a file, since version 5."""

    messages: int
    times: tuple[int, int] | None
    """First and last receive stamp, ns."""

    def __str__(self) -> str:
        where = f' {range_text(*self.times)}' if self.times else ''
        return f'{self.messages} messages{where}'


class Metadata(NamedTuple):
    """What metadata.yaml says of a recording."""

    version: int
    storage: str
    """Plugin name, '' where it is not said."""
    files: list[str]
    """File names, in order."""
    declared_files: dict[str, DeclaredFile]
    """By file name without the suffix that says it is compressed."""
    topics: list[DeclaredTopic]
    compression: str
    """``file``, ``message`` or ''."""
    messages: int
    """Messages of the recording."""
    custom_data: Mapping[str, str]
    """What the recorder was told to note, since version 6."""


def metadata_of(path: Path) -> Metadata | None:
    """Return the metadata.yaml of a directory, or that beside a file which lists it, if any."""
    # Not path.is_dir(), which raises where a folder above must not be entered.
    folder = path if os.path.isdir(path) else path.parent
    try:
        metadata = read_metadata(folder / NAME)
    except (OSError, ValueError):
        return None
    listed = {plain_name(name) for name in metadata.files}
    return metadata if folder == path or plain_name(path.name) in listed else None


def read_metadata(path: Path) -> Metadata:
    """
    Read a metadata.yaml.

    :raises ValueError: it is not one; the text says why.
    :raises OSError: it cannot be read.
    """
    with path.open('rb') as file:
        data = file.read(MOST_CHARACTERS + 1)
    if len(data) > MOST_CHARACTERS:
        raise ValueError(f'has more than {MOST_CHARACTERS} bytes, which is too long for a {NAME}')
    document = load_yaml(data.decode(errors='replace'))
    if not document:
        raise ValueError('is empty')
    top = _Part(document, '').part('rosbag2_bagfile_information')
    return Metadata(
        version=top.number('version'),
        storage=top.text('storage_identifier', ''),
        files=[_name(part.whole_text()) for part in top.parts('relative_file_paths')],
        declared_files={
            plain_name(_name(file.text('path'))): _declared_file(file)
            for file in top.parts('files', needed=False)
        },
        topics=[_topic(item) for item in top.parts('topics_with_message_count')],
        compression=top.text('compression_mode', '').lower(),
        messages=top.number('message_count'),
        custom_data=_texts(top.value('custom_data')),
    )


def custom_data_in(text: str) -> dict[str, str]:
    """
    Return the custom_data of metadata as an MCAP file holds it in itself.

    :raises ValueError: it is not such metadata.
    """
    return _texts(_Part(load_yaml(text), '').value('custom_data'))


class _Part:
    """A value of the document with its place; whatever is not as expected is a ValueError."""

    def __init__(self, value: Any, place: str) -> None:
        self._value = value
        self._place = place

    def has(self, key: str) -> bool:
        return key in self._mapping()

    def value(self, key: str) -> Any:
        return self._mapping().get(key)

    def part(self, key: str) -> _Part:
        if not self.has(key):
            raise ValueError(f'has no {self._named(key)}')
        return _Part(self._mapping()[key], self._named(key))

    def parts(self, key: str, *, needed: bool = True) -> list[_Part]:
        if not needed and not self.has(key):
            return []
        part = self.part(key)
        items = part._value or []
        if not isinstance(items, list):
            raise part._other('a list')
        return [_Part(item, f'{part._place}[{number}]') for number, item in enumerate(items)]

    def text(self, key: str, default: str | None = None) -> str:
        if default is not None and not self.has(key):
            return default
        return self.part(key).whole_text()

    def whole_text(self) -> str:
        if not isinstance(self._value, str):
            raise self._other('a text')
        return self._value

    def number(self, key: str) -> int:
        part = self.part(key)
        if not isinstance(part._value, str) or not _NUMBER.fullmatch(part._value):
            raise part._other('a whole number')
        return int(part._value)

    def _mapping(self) -> dict[str, Any]:
        if not isinstance(self._value, dict):
            raise self._other('keys and values')
        return self._value

    def _named(self, key: str) -> str:
        return f'{self._place}.{key}' if self._place else key

    def _other(self, expected: str) -> ValueError:
        found = quoted(self._value) if isinstance(self._value, str) else 'keys and values'
        if isinstance(self._value, list):
            found = 'a list'
        return ValueError(f'{self._place or "the whole"}: expected {expected}, found {found}')


def _topic(item: _Part) -> DeclaredTopic:
    topic = item.part('topic_metadata')
    return DeclaredTopic(
        topic=topic.text('name'),
        msgtype=normal_type(topic.text('type')),
        qos=topic.value('offered_qos_profiles'),
        messages=item.number('message_count'),
    )


def _declared_file(file: _Part) -> DeclaredFile:
    times: tuple[int, int] | None = None
    if file.has('starting_time') and file.has('duration'):
        begin = file.part('starting_time').number('nanoseconds_since_epoch')
        times = begin, begin + file.part('duration').number('nanoseconds')
    return DeclaredFile(file.number('message_count'), times)


def _texts(value: object) -> dict[str, str]:
    items = value.items() if isinstance(value, Mapping) else ()
    return {key: text for key, text in items if isinstance(text, str)}


def _name(path: str) -> str:
    """Name of a file: before version 4 paths began with the folder's name."""
    return PurePosixPath(path).name


def plain_name(name: str) -> str:
    """Name of a file without the suffix that says it is compressed."""
    return name.removesuffix('.zstd').removesuffix('.zst')


def compare(
    path: Path,
    metadata: Metadata,
    connections: list[tuple[Connection, str]],
    counts: Mapping[str, int],
    file_counts: Mapping[str, int],
    damage: DamagePolicy,
) -> None:
    """
    Report where metadata.yaml disagrees with what the files hold.

    :param path: the metadata.yaml.
    :param metadata: its content.
    :param connections: of all files, each with its QoS profiles as the file words them.
    :param counts: messages by topic, as stored.
    :param file_counts: messages by file name, as stored.
    :param damage: what to do with fewer messages than stated.
    :raises BagError: there are fewer messages than stated, and that is not allowed.
    """
    if metadata.version > NEWEST:
        damage.note(f'{path}: is version {metadata.version}, newer than {NEWEST}')
    short = 0
    for declared in metadata.topics:
        stored_here = counts.get(declared.topic, 0)
        line = _count_line(shown(declared.topic), declared.messages, stored_here)
        if declared.messages > stored_here:
            short += declared.messages - stored_here
            damage.note_topic(path, declared.topic, line)
        elif declared.messages < stored_here:
            damage.note(f'{path}: {line}')
        _compare_topic(path, declared, connections, damage)
    for topic in counts.keys() - {declared.topic for declared in metadata.topics}:
        damage.note(f'{path}: {shown(topic)} is in the files but not listed')
    stored = {plain_name(name): count for name, count in file_counts.items()}
    for name, stated in metadata.declared_files.items():
        if name in stored:
            _compare_count(path, shown(name), stated.messages, stored[name], short, damage)
    total = sum(counts.values())
    _compare_count(path, 'the recording', metadata.messages, total, short, damage)


def _compare_count(
    path: Path, what: str, stated: int, stored: int, short: int, damage: DamagePolicy
) -> None:
    """Compare a count of all topics, of which ``short`` messages are known to be missing."""
    line = _count_line(what, stated, stored)
    if stated - stored > (0 if damage.salvage else short):
        damage.report(path, line)
    elif stated != stored:
        damage.note(f'{path}: {line}')


def _count_line(what: str, stated: int, stored: int) -> str:
    return f'{what}: {stated} messages are promised, {stored} are stored'


def _compare_topic(
    path: Path,
    declared: DeclaredTopic,
    connections: list[tuple[Connection, str]],
    damage: DamagePolicy,
) -> None:
    topic = shown(declared.topic)
    for connection, qos in connections:
        if connection.topic != declared.topic:
            continue
        if connection.msgtype != declared.msgtype:
            damage.note(
                f'{path}: {topic}: type {shown(declared.msgtype)} is listed, '
                f'{shown(connection.msgtype)} is stored'
            )
        if normal_qos(qos) != normal_qos(declared.qos):
            damage.note(f'{path}: {topic}: other QoS profiles are listed than stored')
