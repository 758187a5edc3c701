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

"""Bags for tests, written by the writers that others use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from random import Random
import struct
from typing import NamedTuple, Protocol

from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag1 import Writer as Rosbag1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Rosbag2Writer

HEADER_DEFINITION = '=' * 80 + '\nMSG: std_msgs/Header\nuint32 seq\ntime stamp\nstring frame_id\n'
SECOND = 10**9
BEGIN = 1_700_000_000 * SECOND


class Topic(NamedTuple):
    name: str
    msgtype: str
    ros1: str
    """Definition as ROS 1 embeds it."""
    ros2: str
    """Definition as ROS 2 embeds it."""
    md5: str = '0123456789abcdef0123456789abcdef'
    latched: bool = False


def _topic(name: str, msgtype: str, definition: str, *, latched: bool = False) -> Topic:
    return Topic(name, msgtype, definition, definition, latched=latched)


IMAGE = _topic(
    '/cam_h/color/image_raw/compressed',
    'sensor_msgs/msg/CompressedImage',
    'std_msgs/Header header\nstring format\nuint8[] data\n' + HEADER_DEFINITION,
)
CLAW = _topic(
    '/leju_claw_state',
    'kuavo_msgs/msg/lejuClawState',
    'int8 kError = -1\nint8 kUnknown = 0\nint8 kMoving = 1\n'
    'Header header\nint8[] state\n' + HEADER_DEFINITION,
)
HEAD_MOTION = _topic(
    '/robot_head_motion_data',
    'kuavo_msgs/msg/robotHeadMotionData',
    'float64[] joint_data\n',
    latched=True,
)
TOPICS = (IMAGE, CLAW, HEAD_MOTION)


class Sample(NamedTuple):
    """A message before it is serialized."""

    topic: Topic
    stamp: int
    body: bytes

    @property
    def header_stamp(self) -> int:
        return self.stamp - 5_000_000

    @property
    def ros1(self) -> bytes:
        return ros1_payload(self)

    @property
    def cdr(self) -> bytes:
        return cdr_payload(self)


class Message(Protocol):
    """What the writers write."""

    topic: Topic
    stamp: int

    @property
    def ros1(self) -> bytes:
        """Return the payload as ROS 1 serializes it."""

    @property
    def cdr(self) -> bytes:
        """Return the payload as ROS 2 serializes it."""


def ros1_payload(sample: Sample) -> bytes:
    if sample.topic is HEAD_MOTION:
        return sample.body
    sec, nsec = divmod(sample.header_stamp, SECOND)
    return struct.pack('<IIII', 7, sec, nsec, 3) + b'cam' + sample.body


def cdr_payload(sample: Sample, order: str = '<') -> bytes:
    begin = b'\0\1\0\0' if order == '<' else b'\0\0\0\0'
    if sample.topic is HEAD_MOTION:
        return begin + sample.body
    sec, nsec = divmod(sample.header_stamp, SECOND)
    return begin + struct.pack(f'{order}iII', sec, nsec, 4) + b'cam\0' + sample.body


def recording(seconds: float = 2.0) -> list[Sample]:
    """Return a camera at 30 Hz, a claw at 100 Hz, and a head that is moved twice."""
    samples = [
        Sample(IMAGE, BEGIN + n * SECOND // 30, Random(n).randbytes(9000 + n))
        for n in range(int(30 * seconds))
    ]
    samples += [
        Sample(CLAW, BEGIN + 3_000_000 + n * SECOND // 100, struct.pack('<I2b', 2, n % 4, 1))
        for n in range(int(100 * seconds))
    ]
    samples += [Sample(HEAD_MOTION, BEGIN + n * SECOND + 17, bytes(24)) for n in range(2)]
    return sorted(samples, key=lambda sample: sample.stamp)


def write_rosbag1(
    path: Path,
    messages: Sequence[Message],
    compression: str = '',
    chunk: int = 65536,
    topics: Sequence[Topic] = TOPICS,
    publishers: int = 1,
) -> Path:
    """Write a ROS 1 bag; the publishers of a topic take turns."""
    writer = Rosbag1Writer(path)
    if compression:
        writer.set_compression(Rosbag1Writer.CompressionFormat[compression.upper()])
    writer.chunk_threshold = chunk
    with writer:
        connections = {
            topic: cycle(
                [
                    writer.add_connection(
                        topic.name,
                        topic.msgtype,
                        msgdef=topic.ros1,
                        md5sum=topic.md5,
                        callerid=f'/publisher_{number}',
                        latching=1 if topic.latched else None,
                    )
                    for number in range(publishers)
                ]
            )
            for topic in topics
        }
        for message in messages:
            writer.write(next(connections[message.topic]), message.stamp, message.ros1)
    return path


def write_rosbag2(
    path: Path,
    messages: Sequence[Message],
    storage: str = 'MCAP',
    compression: str = 'NONE',
    version: int = 9,
    topics: Sequence[Topic] = TOPICS,
) -> Path:
    """Write a rosbag2 directory."""
    writer = Rosbag2Writer(path, version=version, storage_plugin=StoragePlugin[storage])
    writer.set_compression(CompressionMode[compression], CompressionFormat.ZSTD)
    with writer:
        connections = {
            topic: writer.add_connection(
                topic.name, topic.msgtype, msgdef=topic.ros2, rihs01='RIHS01_0'
            )
            for topic in topics
        }
        for message in messages:
            writer.write(connections[message.topic], message.stamp, message.cdr)
    return path


def write_mcap(
    path: Path,
    messages: Sequence[Message],
    compression: str = 'NONE',
    encoding: str = 'cdr',
    profile: str = 'ros2',
    index: IndexType = IndexType.ALL,
    chunk: int = 65536,
    extras: bool = False,
    topics: Sequence[Topic] = TOPICS,
    **options: bool,
) -> Path:
    """Write an MCAP file; ``extras`` are records that are no messages, here and there."""
    with path.open('wb') as stream:
        writer = McapWriter(
            stream,
            chunk_size=chunk,
            compression=CompressionType[compression],
            index_types=index,
            **options,
        )
        writer.start(profile)
        channels = {}
        for topic in topics:
            if encoding == 'cdr':
                words = topic.msgtype, 'ros2msg', topic.ros2.encode()
            else:
                words = topic.msgtype.replace('/msg/', '/'), 'ros1msg', topic.ros1.encode()
            schema = writer.register_schema(*words)
            channels[topic] = writer.register_channel(topic.name, encoding, schema)
        for number, message in enumerate(messages):
            payload = message.cdr if encoding == 'cdr' else message.ros1
            writer.add_message(channels[message.topic], message.stamp, payload, message.stamp - 1)
            if extras and number % 20 == 0:
                writer.add_attachment(BEGIN, BEGIN, 'calibration.json', 'text/plain', bytes(999))
                writer.add_metadata('rosbag2', {'serialized_metadata': 'version: 9'})
        writer.finish()
    return path


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Take the right to write away from all that is below a folder, and see it unchanged after."""
    paths = [folder, *folder.rglob('*')]
    modes = {path: path.stat().st_mode for path in paths}
    before = _contents(folder)
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    assert _contents(folder) == before


def _contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b'')
        for path in (folder, *folder.rglob('*'))
    }


def records(data):
    """Offset, header and end of each top-level record of a ROS 1 bag."""
    at = 13
    while at < len(data):
        (size,) = struct.unpack_from('<I', data, at)
        (length,) = struct.unpack_from('<I', data, at + 4 + size)
        end = at + size + 8 + length
        yield at, data[slice(at + 4, at + 4 + size)], end
        at = end


def unfinished(path):
    """Turn a bag into what a killed recorder leaves: no index, the last chunk open."""
    data = path.read_bytes()
    chunks = [(at, header, end) for at, header, end in records(data) if b'op=\x05' in header]
    at, header, end = chunks[-1]
    payload = data[slice(at + len(header) + 8, end)]
    opened = bytearray(header)
    place = opened.index(b'size=') + len(b'size=')
    opened[slice(place, place + 4)] = bytes(4)
    head = struct.pack('<I', len(opened)) + bytes(opened) + bytes(4)
    active = path.with_name(path.name + '.active')
    active.write_bytes(_without_index_pos(data[:at]) + head + payload)
    return active


def unindexed(path):
    """Take the index section off a bag, as in a recording that was stopped between two chunks."""
    data = path.read_bytes()
    end = max(end for _, header, end in records(data) if b'op=\x04' in header)
    path.write_bytes(_without_index_pos(data[:end]))
    return path


def _without_index_pos(data):
    place = data.index(b'index_pos=') + len(b'index_pos=')
    return data[:place] + bytes(8) + data[slice(place + 8, None)]


def metadata_yaml(version, counts, files, storage='sqlite3', folder='r', times=None):
    """
    Return the text of a metadata.yaml as rosbag2 of a version writes it.

    ``counts`` are messages by (topic, type), ``files`` by file name, ``times`` the first and last
    stamp by file name.
    """
    total = sum(files.values())
    topics = ''.join(
        f'    - topic_metadata:\n        name: {name}\n        type: {msgtype}\n'
        f'        serialization_format: cdr\n'
        + ('        offered_qos_profiles: ""\n' if version >= 4 else '')
        + ('        type_description_hash: RIHS01_0\n' if version >= 7 else '')
        + f'      message_count: {count}\n'
        for (name, msgtype), count in counts.items()
    )
    listed = ''.join(f'    - {f"{folder}/" if version < 4 else ""}{name}\n' for name in files)
    text = (
        f'rosbag2_bagfile_information:\n  version: {version}\n  storage_identifier: {storage}\n'
        f'  relative_file_paths:\n{listed}'
        f'  duration:\n    nanoseconds: 1\n  starting_time:\n    nanoseconds_since_epoch: '
        f'{BEGIN}\n'
        f'  message_count: {total}\n  topics_with_message_count:\n{topics}'
    )
    if version >= 3:
        text += '  compression_format: ""\n  compression_mode: ""\n'
    if version >= 5:
        times = times or dict.fromkeys(files, (BEGIN, BEGIN))
        text += '  files:\n' + ''.join(
            f'    - path: {name}\n      starting_time:\n'
            f'        nanoseconds_since_epoch: {times[name][0]}\n      duration:\n'
            f'        nanoseconds: {times[name][1] - times[name][0]}\n'
            f'      message_count: {count}\n'
            for name, count in files.items()
        )
    if version >= 6:
        text += '  custom_data: ~\n'
    if version >= 8:
        text += '  ros_distro: jazzy\n'
    return text
