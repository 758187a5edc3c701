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

"""Bags of a made-up robot with standard messages, and all that is true in them."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import cv2
from kuavo_bag_converter.sample.barcode import draw_frame_number
import numpy as np
from ros_messages import ROS2
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Rosbag2Writer

NS = 10**9
MS = 10**6
BEGIN = 1_700_000_000 * NS
COLOR = (200, 90, 40)
"""Of every picture beside its code, RGB."""


class Sent(NamedTuple):
    """A message as it was published; its place in its topic's list is its ordinal."""

    taken: int
    """Header stamp, ns, 0 if unset; what the message holds was true then."""
    received: int
    message: Any


class Robot:
    """Publishes messages and keeps them, so that tests can compare with the truth."""

    def __init__(self, seed: int = 0) -> None:
        self.topics: dict[str, list[Sent]] = {}
        self._random = Random(seed)

    def publish(self, topic, times, make, latency_ms=(0, 0), unset=()):
        """
        Publish ``make(number, time)`` at each time, ns after the beginning.

        Messages whose number is in ``unset`` have no header stamp.
        """
        sent = self.topics.setdefault(topic, [])
        for number, time in enumerate(times):
            message = make(number, time)
            taken = 0 if number in unset else BEGIN + time
            if hasattr(message, 'header'):
                stamp = message.header.stamp
                stamp.sec, stamp.nanosec = divmod(taken, NS)
            latency = round(self._random.uniform(*latency_ms) * MS)
            earliest = sent[-1].received + 1 if sent else 0
            sent.append(Sent(taken, max(BEGIN + time + latency, earliest), message))
        return self

    def stamps(self, topic, timeline='bag'):
        return [sent.taken if timeline == 'header' else sent.received
                for sent in self.topics[topic]]  # fmt: skip

    def write(self, path: Path, surplus: bytes = b'', clock=int, storage='MCAP') -> Path:
        """
        Write a ROS 2 bag, with ``surplus`` behind the end of each message.

        ``clock`` makes of a receive stamp the one that is stored; the order stays.
        """
        with Rosbag2Writer(path, version=9, storage_plugin=StoragePlugin[storage]) as writer:
            connections = {
                topic: writer.add_connection(topic, sent[0].message.__msgtype__, typestore=ROS2)
                for topic, sent in self.topics.items()
            }
            everything = [
                (sent.received, topic, sent.message)
                for topic, messages in self.topics.items()
                for sent in messages
            ]
            for received, topic, message in sorted(everything, key=lambda item: item[:2]):
                payload = ROS2.serialize_cdr(message, message.__msgtype__)
                writer.write(connections[topic], clock(received), bytes(payload) + surplus)
        return path


def every(hz, seconds, start_s=0.0, jitter_ms=0.0, without=(), seed=0):
    """Return times, ns, at a rate; ``without`` are ranges of seconds in which nothing is sent."""
    random = Random(seed)
    times = []
    for number in range(int(seconds * hz)):
        time = round((start_s + number / hz) * NS + random.uniform(0, jitter_ms) * MS)
        if not any(low * NS <= time < high * NS for low, high in without):
            times.append(time)
    return times


def at(*times_s):
    return [round(time * NS) for time in times_s]


def _message(msgtype, *values):
    return ROS2.types[msgtype](*values)


def _header():
    stamp = _message('builtin_interfaces/msg/Time', 0, 0)
    return _message('std_msgs/msg/Header', stamp, 'base')


def joint_state(values, names=()):
    """Return a maker of JointState with the position ``values(number, time)``."""
    none = np.empty(0)

    def make(number, time):
        position = np.array(values(number, time), dtype=np.float64)
        given = names(number) if callable(names) else names
        return _message(
            'sensor_msgs/msg/JointState', _header(), list(given), position, none, none
        )  # fmt: skip

    return make


def ramps(count):
    """Return positions that tell their time: joint k is (k + 1) rad/s fast and begins at k."""
    return lambda _, time: [k + (k + 1) * time / NS for k in range(count)]


def trajectory(values, names):
    """Return a maker of JointTrajectory whose first point is ``values(number, time)``."""
    kind = 'trajectory_msgs/msg/JointTrajectory'

    def make(number, time):
        none, soon = np.empty(0), _message('builtin_interfaces/msg/Duration', 0, 0)
        position = np.array(values(number, time), dtype=np.float64)
        point = _message(f'{kind}Point', position, none, none, none, soon)
        return _message(kind, _header(), list(names), [point])

    return make


def joy(buttons):
    """Return a maker of Joy with one list of buttons after the other."""
    return lambda number, _: _message(
        'sensor_msgs/msg/Joy',
        _header(),
        np.empty(0, np.float32),
        np.array(buttons[number], np.int32),
    )


def diagnostics(texts):
    """Return a maker of DiagnosticArray whose second status has one message after the other."""

    def make(number, time):
        kind = 'diagnostic_msgs/msg/DiagnosticStatus'
        status = [_message(kind, 0, 'a', text, '', []) for text in ('first', texts[number])]
        return _message('diagnostic_msgs/msg/DiagnosticArray', _header(), status)

    return make


def imu(orientation):
    """Return a maker of Imu with the orientation (x, y, z, w) ``orientation(number, time)``."""
    kind = 'geometry_msgs/msg/'

    def make(number, time):
        zero = _message(f'{kind}Vector3', 0.0, 0.0, 0.0)
        turned = _message(f'{kind}Quaternion', *map(float, orientation(number, time)))
        nine = np.zeros(9)
        return _message('sensor_msgs/msg/Imu', _header(), turned, nine, zero, nine, zero, nine)

    return make


def image(camera, encoding='rgb8', size=(120, 160)):
    """Return a maker of Image that carries its number as a code; ``size`` is (height, width)."""

    def make(number, time):
        picture = np.full((*size, 3), COLOR, dtype=np.uint8)
        draw_frame_number(picture, camera, number, (30, 220))
        if encoding == 'bgr8':
            picture = picture[:, :, ::-1]
        height, width = size
        return _message(
            'sensor_msgs/msg/Image', _header(), height, width, encoding, 0, 3 * width,
            np.ascontiguousarray(picture).reshape(-1),
        )  # fmt: skip

    return make


def pixels(pictures):
    """Return a maker of Image, one picture after the other: RGB uint8, or depth uint16 in mm."""

    def make(number, _):
        picture = np.ascontiguousarray(pictures[number])
        height, width = picture.shape[:2]
        encoding = '16UC1' if picture.dtype == np.uint16 else 'rgb8'
        data = picture.reshape(-1).view(np.uint8)
        step = data.size // height
        return _message(
            'sensor_msgs/msg/Image', _header(), height, width, encoding, 0, step, data
        )  # fmt: skip

    return make


def payloads_of(payloads, said):
    """Return a maker of CompressedImage, one payload after the other; ``said`` is its format."""

    def make(number, _):
        data = np.frombuffer(payloads[number], np.uint8)
        return _message('sensor_msgs/msg/CompressedImage', _header(), said, data)

    return make


def jpeg(camera, size=(120, 160)):
    """Return a maker of CompressedImage that carries its number as a code."""
    raw = image(camera, 'bgr8', size)

    def make(number, time):
        picture = raw(number, time)
        pixels = picture.data.reshape(picture.height, picture.width, 3)
        data = cv2.imencode('.jpg', pixels)[1].reshape(-1)
        return _message('sensor_msgs/msg/CompressedImage', _header(), 'jpeg', data)

    return make


def raw(encoding, size, rows):
    """Return a maker of the same Image each time; ``rows`` are its bytes, (n, step)."""
    data = np.ascontiguousarray(rows).reshape(-1)

    def make(number, time):
        return _message(
            'sensor_msgs/msg/Image', _header(), *size, encoding, 0, rows.shape[1], data
        )

    return make


def compressed(name, data):
    """Return a maker of the same CompressedImage each time."""

    def make(number, time):
        array = np.frombuffer(data, np.uint8)
        return _message('sensor_msgs/msg/CompressedImage', _header(), name, array)

    return make


def depth(number, time):
    """Make an Image of depth, mm."""
    levels = np.full((120, 160), 900, dtype='<u2')
    draw_frame_number(levels, 'depth_h', number, (500, 1300))
    data = np.frombuffer(levels.tobytes(), np.uint8)
    return _message('sensor_msgs/msg/Image', _header(), 120, 160, '16UC1', 0, 320, data)


def said(values, kind='String'):
    """Return a maker of std_msgs with one value after the other."""
    return lambda number, _: _message(f'std_msgs/msg/{kind}', values[number])
