"""Bags for tests, written by the writers that others use."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random
from typing import NamedTuple

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
    definition: str


IMAGE = Topic(
    '/cam_h/color/image_raw/compressed',
    'sensor_msgs/msg/CompressedImage',
    'std_msgs/Header header\nstring format\nuint8[] data\n' + HEADER_DEFINITION,
)
CLAW = Topic(
    '/leju_claw_state',
    'kuavo_msgs/msg/lejuClawState',
    'int8 kError = -1\nint8 kUnknown = 0\nint8 kMoving = 1\n'
    'Header header\nint8[] state\n' + HEADER_DEFINITION,
)
HEAD_MOTION = Topic(
    '/robot_head_motion_data', 'kuavo_msgs/msg/robotHeadMotionData', 'float64[] joint_data\n'
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
    """A camera at 30 Hz, a claw at 100 Hz, and a head that is moved twice."""
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
    path: Path, samples: list[Sample], compression: str = '', chunk: int = 65536
) -> Path:
    writer = Rosbag1Writer(path)
    if compression:
        writer.set_compression(Rosbag1Writer.CompressionFormat[compression.upper()])
    writer.chunk_threshold = chunk
    with writer:
        connections = {
            topic: writer.add_connection(
                topic.name,
                topic.msgtype,
                msgdef=topic.definition,
                md5sum='0123456789abcdef0123456789abcdef',
                latching=1 if topic is HEAD_MOTION else None,
            )
            for topic in TOPICS
        }
        for sample in samples:
            writer.write(connections[sample.topic], sample.stamp, ros1_payload(sample))
    return path


def write_rosbag2(
    path: Path,
    samples: list[Sample],
    storage: str = 'MCAP',
    compression: str = 'NONE',
    version: int = 9,
) -> Path:
    writer = Rosbag2Writer(path, version=version, storage_plugin=StoragePlugin[storage])
    writer.set_compression(CompressionMode[compression], CompressionFormat.ZSTD)
    with writer:
        connections = {
            topic: writer.add_connection(
                topic.name, topic.msgtype, msgdef=topic.definition, rihs01='RIHS01_0'
            )
            for topic in TOPICS
        }
        for sample in samples:
            writer.write(connections[sample.topic], sample.stamp, cdr_payload(sample))
    return path


def write_mcap(
    path: Path,
    samples: list[Sample],
    compression: str = 'NONE',
    encoding: str = 'cdr',
    profile: str = 'ros2',
    index: IndexType = IndexType.ALL,
    chunk: int = 65536,
    **options: bool,
) -> Path:
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
        for topic in TOPICS:
            schema = writer.register_schema(
                topic.msgtype if encoding == 'cdr' else topic.msgtype.replace('/msg/', '/'),
                'ros2msg' if encoding == 'cdr' else 'ros1msg',
                topic.definition.encode(),
            )
            channels[topic] = writer.register_channel(topic.name, encoding, schema)
        serialize = cdr_payload if encoding == 'cdr' else ros1_payload
        for sample in samples:
            writer.add_message(
                channels[sample.topic], sample.stamp, serialize(sample), sample.stamp - 1
            )
        writer.finish()
    return path
