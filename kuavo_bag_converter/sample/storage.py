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

"""Writing a recording in each storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

from kuavo_bag_converter.sample.definitions import SampleDefinition
from kuavo_bag_converter.sample.messages import Topic
from rosbags import rosbag1, rosbag2
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)

_NO_DEADLINE = QosTime(2147483647, 4294967295)
_ROSBAG2_VERSION: Literal[8] = 8  # The newest that stores QoS as Humble and Iron read it.


Declare = Callable[[Topic, SampleDefinition], Callable[[int, memoryview], None]]
"""Adds a topic to a recording; gives what writes a message from its receive stamp and payload."""


def _declare_ros1(
    writer: rosbag1.Writer, topic: Topic, definition: SampleDefinition
) -> Callable[[int, memoryview], None]:
    connection = writer.add_connection(
        topic.name,
        topic.msgtype,
        msgdef=definition.text,
        md5sum=definition.digest,
        callerid='/kuavo',
        latching=int(topic.latched),
    )
    return partial(writer.write, connection)


def _declare_ros2(
    writer: rosbag2.Writer, topic: Topic, definition: SampleDefinition
) -> Callable[[int, memoryview], None]:
    connection = writer.add_connection(
        topic.name,
        topic.msgtype,
        msgdef=definition.text,
        rihs01=definition.digest,
        offered_qos_profiles=[_qos(topic.latched)],
    )
    return partial(writer.write, connection)


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
def recorder(path: Path, storage: str, compression: str) -> Iterator[Declare]:
    """Open a recording that does not exist yet: a file for ``bag``, else a directory."""
    if storage == 'bag':
        bag = rosbag1.Writer(path)
        if compression:
            bag.set_compression(rosbag1.Writer.CompressionFormat[compression.upper()])
        with bag:
            yield partial(_declare_ros1, bag)
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
        yield partial(_declare_ros2, writer)
