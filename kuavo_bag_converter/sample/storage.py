"""Writing a recording in each storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

from rosbags import rosbag1, rosbag2
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)

from kuavo_bag_converter.sample.definitions import SampleDefinition
from kuavo_bag_converter.sample.topic import Topic

_NO_DEADLINE = QosTime(2147483647, 4294967295)
_ROSBAG2_VERSION: Literal[8] = 8  # The newest that stores QoS as Humble and Iron read it.


class Recorder(Protocol):
    """An open recording."""

    def declare(
        self, topic: Topic, definition: SampleDefinition
    ) -> Callable[[int, memoryview], None]:
        """Add a topic; return what writes a message from its receive stamp and payload."""


class _Rosbag1Recorder:
    def __init__(self, writer: rosbag1.Writer) -> None:
        self._writer = writer

    def declare(
        self, topic: Topic, definition: SampleDefinition
    ) -> Callable[[int, memoryview], None]:
        connection = self._writer.add_connection(
            topic.name,
            topic.msgtype,
            msgdef=definition.text,
            md5sum=definition.digest,
            callerid='/kuavo',
            latching=int(topic.latched),
        )
        return _bound(self._writer, connection)


class _Rosbag2Recorder:
    def __init__(self, writer: rosbag2.Writer) -> None:
        self._writer = writer

    def declare(
        self, topic: Topic, definition: SampleDefinition
    ) -> Callable[[int, memoryview], None]:
        connection = self._writer.add_connection(
            topic.name,
            topic.msgtype,
            msgdef=definition.text,
            rihs01=definition.digest,
            offered_qos_profiles=[_qos(topic.latched)],
        )
        return _bound(self._writer, connection)


def _bound(
    writer: rosbag1.Writer | rosbag2.Writer, connection: Connection
) -> Callable[[int, memoryview], None]:
    def write(stamp: int, payload: memoryview) -> None:
        writer.write(connection, stamp, payload)

    return write


def _qos(latched: bool) -> Qos:
    return Qos(
        QosHistory.KEEP_LAST,
        1 if latched else 10,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        _NO_DEADLINE,
        _NO_DEADLINE,
        QosLiveliness.AUTOMATIC,
        _NO_DEADLINE,
        avoid_ros_namespace_conventions=False,
    )


@contextmanager
def recorder(path: Path, storage: str, compression: str) -> Iterator[Recorder]:
    """Open a recording that does not exist yet: a file for ``bag``, else a directory."""
    if storage == 'bag':
        bag = rosbag1.Writer(path)
        if compression:
            bag.set_compression(rosbag1.Writer.CompressionFormat[compression.upper()])
        with bag:
            yield _Rosbag1Recorder(bag)
        return
    plugin = rosbag2.StoragePlugin[storage.upper()]
    writer = rosbag2.Writer(path, version=_ROSBAG2_VERSION, storage_plugin=plugin)
    if compression:
        mode = rosbag2.CompressionMode
        writer.set_compression(
            mode.STORAGE if storage == 'mcap' else mode.MESSAGE,
            rosbag2.CompressionFormat[compression.upper()],
        )
    with writer:
        yield _Rosbag2Recorder(writer)
