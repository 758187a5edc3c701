"""The metadata.yaml of rosbag2 directories, versions 1 to 9, and what it disagrees with.

Since version 3 it names the compression, since 4 QoS profiles and paths relative to the folder,
since 5 the files with their counts, since 7 type hashes, since 9 QoS profiles as lists. None of it
is believed: the files decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from kuavo_bag_converter.bags.damage import Damage, span
from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.bags.qos import load_yaml, normal_qos
from kuavo_bag_converter.bags.rosbag1_records import normal_type

NAME = 'metadata.yaml'
NEWEST = 9


class TopicPromise(NamedTuple):
    """What metadata.yaml says of a topic."""

    topic: str
    msgtype: str
    qos: object
    messages: int


class FilePromise(NamedTuple):
    """What metadata.yaml says of a file, since version 5."""

    messages: int
    times: tuple[int, int] | None
    """First and last receive stamp, ns."""

    def __str__(self) -> str:
        where = f' {span(*self.times)}' if self.times else ''
        return f'{self.messages} messages{where}'


class Metadata(NamedTuple):
    """What metadata.yaml says of a recording."""

    version: int
    storage: str
    """Plugin name, '' where it is not said."""
    files: list[str]
    """File names, in order."""
    file_promises: dict[str, FilePromise]
    """By file name without the suffix that says it is compressed."""
    topics: list[TopicPromise]
    compression: str
    """``file``, ``message`` or ''."""
    messages: int
    """Messages of the recording."""


def read_metadata(path: Path) -> Metadata:
    """Read a metadata.yaml.

    Raises:
        ValueError: it is not one; the text says why.
        OSError: it cannot be read.

    """
    document = load_yaml(path.read_text(encoding='utf-8', errors='replace'))
    if document is None:
        raise ValueError('is empty')
    try:
        top: dict[str, Any] = document['rosbag2_bagfile_information']
        topics = [_topic(item) for item in top['topics_with_message_count'] or ()]
        promises = {
            plain_name(_name(file['path'])): _promise(file) for file in top.get('files') or ()
        }
        return Metadata(
            version=int(top['version']),
            storage=str(top.get('storage_identifier') or ''),
            files=[_name(file) for file in top['relative_file_paths'] or ()],
            file_promises=promises,
            topics=topics,
            compression=str(top.get('compression_mode') or '').lower(),
            messages=int(top['message_count']),
        )
    except KeyError as error:
        raise ValueError(f'has no {error.args[0]}') from None
    except (TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f'has another form than rosbag2 writes ({error})') from None


def _topic(item: Mapping[str, Any]) -> TopicPromise:
    topic = item['topic_metadata']
    return TopicPromise(
        topic=str(topic['name']),
        msgtype=normal_type(str(topic['type'])),
        qos=topic.get('offered_qos_profiles'),
        messages=int(item['message_count']),
    )


def _promise(file: Mapping[str, Any]) -> FilePromise:
    times: tuple[int, int] | None = None
    if 'starting_time' in file and 'duration' in file:
        begin = int(file['starting_time']['nanoseconds_since_epoch'])
        times = begin, begin + int(file['duration']['nanoseconds'])
    return FilePromise(int(file['message_count']), times)


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
    damage: Damage,
) -> None:
    """Report where metadata.yaml disagrees with what the files hold.

    Args:
        path: the metadata.yaml.
        metadata: its content.
        connections: of all files, each with its QoS profiles as the file words them.
        counts: messages by topic, as stored.
        file_counts: messages by file name, as stored.
        damage: what to do with fewer messages than promised.

    Raises:
        BagError: there are fewer messages than promised, and that is not allowed.

    """
    if metadata.version > NEWEST:
        damage.note(f'{path}: is version {metadata.version}, newer than {NEWEST}')
    for promise in metadata.topics:
        _compare_count(
            path, f'{promise.topic}', promise.messages, counts.get(promise.topic, 0), damage
        )
        _compare_topic(path, promise, connections, damage)
    for topic in counts.keys() - {promise.topic for promise in metadata.topics}:
        damage.note(f'{path}: {topic} is in the files but not listed')
    stored = {plain_name(name): count for name, count in file_counts.items()}
    for name, promised in metadata.file_promises.items():
        if name in stored:
            _compare_count(path, name, promised.messages, stored[name], damage)
    _compare_count(path, 'the recording', metadata.messages, sum(counts.values()), damage)


def _compare_count(path: Path, what: str, promised: int, stored: int, damage: Damage) -> None:
    line = f'{what}: {promised} messages are promised, {stored} are stored'
    if promised > stored:
        damage.found(path, line)
    elif promised < stored:
        damage.note(f'{path}: {line}')


def _compare_topic(
    path: Path, promise: TopicPromise, connections: list[tuple[Connection, str]], damage: Damage
) -> None:
    for connection, qos in connections:
        if connection.topic != promise.topic:
            continue
        if connection.msgtype != promise.msgtype:
            damage.note(
                f'{path}: {promise.topic}: type {promise.msgtype} is listed, '
                f'{connection.msgtype} is stored'
            )
        if normal_qos(qos) != normal_qos(promise.qos):
            damage.note(f'{path}: {promise.topic}: other QoS profiles are listed than stored')
