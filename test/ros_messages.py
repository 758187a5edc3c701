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

"""Connections and payloads for tests, made with the serializers of rosbags."""

from __future__ import annotations

from typing import Any

from kuavo_bag_converter.bags.model import Connection
import numpy as np
from rosbags.typesys import get_types_from_msg, get_typestore, Stores

ROS1 = get_typestore(Stores.ROS1_NOETIC)
ROS2 = get_typestore(Stores.ROS2_HUMBLE)


def store_of(definition: str, msgtype: str, ros1: bool = True):
    """Return a typestore that also knows the types of a definition."""
    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_HUMBLE)
    store.register(get_types_from_msg(definition, msgtype))
    return store


def connection_of(
    msgtype: str,
    *,
    encoding: str = 'cdr',
    topic: str = '/topic',
    definition: str | None = None,
    definition_format: str = 'msg',
) -> Connection:
    """Return a connection; by default with the standard definition of the type embedded."""
    if definition is None:
        store, version = (ROS1, 1) if encoding == 'ros1' else (ROS2, 2)
        definition, _ = store.generate_msgdef(msgtype, ros_version=version)
    return Connection(0, topic, msgtype, encoding, definition, definition_format)


def header(ros1: bool = False, sec: int = 5, nanosec: int = 7) -> Any:
    """Return a std_msgs/Header."""
    store = ROS1 if ros1 else ROS2
    stamp = store.types['builtin_interfaces/msg/Time'](sec, nanosec)
    kind = store.types['std_msgs/msg/Header']
    return kind(seq=1, stamp=stamp, frame_id='map') if ros1 else kind(stamp, 'map')


def compressed_image(data: bytes, image_format: str = 'jpeg', encoding: str = 'cdr') -> bytes:
    """Return the payload of a sensor_msgs/CompressedImage."""
    ros1 = encoding == 'ros1'
    store = ROS1 if ros1 else ROS2
    msgtype = 'sensor_msgs/msg/CompressedImage'
    message = store.types[msgtype](header(ros1), image_format, np.frombuffer(data, np.uint8))
    serialize = store.serialize_ros1 if ros1 else store.serialize_cdr
    return bytes(serialize(message, msgtype))


def image(
    data: bytes,
    height: int,
    width: int,
    encoding: str,
    step: int,
    *,
    big_endian: bool = False,
) -> bytes:
    """Return the CDR payload of a sensor_msgs/Image."""
    msgtype = 'sensor_msgs/msg/Image'
    message = ROS2.types[msgtype](
        header(), height, width, encoding, int(big_endian), step, np.frombuffer(data, np.uint8)
    )
    return bytes(ROS2.serialize_cdr(message, msgtype))
