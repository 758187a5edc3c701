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

"""One recording in every container, compression and layout in which recorders leave it."""

from __future__ import annotations

from pathlib import Path
import shutil
import sqlite3
import struct
from typing import NamedTuple

from bag_files import (
    metadata_yaml,
    Topic,
    unfinished,
    unindexed,
    write_mcap,
    write_rosbag1,
    write_rosbag2,
)
from kuavo_bag_converter.sample.write import write_sample
from mcap.reader import make_reader
from mcap.writer import IndexType
from rosbags.rosbag1 import Reader as Rosbag1Reader
import zstandard

_HEADING = '=' * 80 + '\nMSG: '


class Sent(NamedTuple):
    topic: Topic
    stamp: int
    ros1: bytes
    cdr: bytes


class Recording(NamedTuple):
    topics: list[Topic]
    messages: list[Sent]

    def parts(self, count):
        """Split at message boundaries, as recorders do when a file is full."""
        size = -(-len(self.messages) // count)
        return [
            Recording(self.topics, self.messages[slice(at, at + size)])
            for at in range(0, len(self.messages), size)
        ]


def sample_recording(folder: Path, **options) -> Recording:
    """Make a sample, and read its messages as both generations of ROS serialize them."""
    write_sample(folder / 'sample.bag', **options)
    write_sample(folder / 'sample', storage='mcap', **options)
    topics: dict[str, Topic] = {}
    messages: list[Sent] = []
    (path,) = (folder / 'sample').glob('*.mcap')
    with Rosbag1Reader(folder / 'sample.bag') as bag, path.open('rb') as stream:
        mcap = make_reader(stream).iter_messages(log_time_order=False)
        for (schema, channel, cdr), (connection, stamp, payload) in zip(
            mcap, bag.messages(), strict=True
        ):
            assert (channel.topic, cdr.log_time) == (connection.topic, stamp)
            name = connection.topic
            if name not in topics:
                topics[name] = Topic(
                    name, connection.msgtype, connection.msgdef.data, schema.data.decode(),
                    connection.digest,
                )  # fmt: skip
            messages.append(Sent(topics[name], stamp, bytes(payload), bytes(cdr.data)))
    return Recording(list(topics.values()), messages)


def _rosbag1(path, recording, *words, **options):
    options = {'chunk': 200_000, 'topics': recording.topics, **options}
    return write_rosbag1(path, recording.messages, *words, **options)


def _rosbag1_parts(folder, recording):
    return [
        _rosbag1(folder / f'run_{number}.bag', part)
        for number, part in enumerate(recording.parts(3))
    ]


def _mcap(path, recording, *words, **options):
    options = {'chunk': 200_000, 'topics': recording.topics, **options}
    return write_mcap(path, recording.messages, *words, **options)


def _mcap_without_footer(path, recording, **options):
    data = _mcap(path, recording, **options).read_bytes()
    (summary,) = struct.unpack_from('<Q', data, len(data) - 28)
    path.write_bytes(data[:summary])
    return path


def _directory(path, recording, *words, **options):
    return write_rosbag2(path, recording.messages, *words, topics=recording.topics, **options)


def _split_directory(path, recording, storage, *, metadata=True):
    """Several files in one folder; the first file's metadata.yaml is rewritten for all."""
    path.mkdir()
    suffix = {'MCAP': 'mcap', 'SQLITE3': 'db3'}[storage]
    files = {}
    for number, part in enumerate(recording.parts(3)):
        aside = _directory(path.with_name(f'part_{number}'), part, storage)
        name = f'{path.name}_{number}.{suffix}'
        (aside / f'{aside.name}.{suffix}').rename(path / name)
        shutil.rmtree(aside)
        files[name] = len(part.messages)
    if metadata:
        _write_metadata(path, recording, 9, files, {'MCAP': 'mcap', 'SQLITE3': 'sqlite3'}[storage])
    return path


def _write_metadata(path, recording, version, files, storage='sqlite3'):
    counts = {
        (topic.name, topic.msgtype): sum(sent.topic is topic for sent in recording.messages)
        for topic in recording.topics
    }
    text = metadata_yaml(version, counts, files, storage=storage, folder=path.name)
    (path / 'metadata.yaml').write_text(text)


def _with_metadata(path, recording, version):
    _directory(path, recording, 'SQLITE3', version=8)
    _write_metadata(path, recording, version, {f'{path.name}.db3': len(recording.messages)})
    return path


def _without_metadata(path, recording, storage):
    (_directory(path, recording, storage) / 'metadata.yaml').unlink()
    return path


def _old_sqlite(path, recording, schema=1):
    """Return tables of Eloquent to Humble, without definitions; types also without /msg/."""
    base = sqlite3.connect(path)
    qos = ', offered_qos_profiles TEXT NOT NULL' if schema >= 2 else ''
    base.execute(
        'CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, '
        f'serialization_format TEXT NOT NULL{qos})'
    )
    base.execute(
        'CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, '
        'timestamp INTEGER NOT NULL, data BLOB NOT NULL)'
    )
    base.execute('CREATE INDEX timestamp_idx ON messages (timestamp ASC)')
    numbers = {topic: number for number, topic in enumerate(recording.topics, start=1)}
    for topic, number in numbers.items():
        kind = topic.msgtype if schema >= 2 else topic.msgtype.replace('/msg/', '/')
        words = [number, topic.name, kind, 'cdr'] + [''] * (schema >= 2)
        base.execute(f'INSERT INTO topics VALUES ({",".join("?" * len(words))})', words)
    base.executemany(
        'INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)',
        [(numbers[sent.topic], sent.stamp, sent.cdr) for sent in recording.messages],
    )
    base.commit()
    base.close()
    return path


def _sqlite_with_log(path, recording):
    """Return a file whose recorder was killed: most of the messages are in its write-ahead log."""
    first, *rest = recording.parts(4)
    live = _directory(path.with_name('live'), first, 'SQLITE3') / 'live.db3'
    writer = sqlite3.connect(live)
    writer.execute('PRAGMA journal_mode=WAL')
    writer.execute('PRAGMA wal_autocheckpoint=0')
    numbers = {topic: n for n, topic in enumerate(recording.topics, start=1)}
    writer.executemany(
        'INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)',
        [(numbers[s.topic], s.stamp, s.cdr) for part in rest for s in part.messages],
    )
    writer.commit()
    path.mkdir()
    for suffix in ('', '-wal'):
        shutil.copy(f'{live}{suffix}', path / f'run.db3{suffix}')
    writer.close()
    shutil.rmtree(live.parent)
    return path / 'run.db3'


def write_msg_files(folder: Path, recording: Recording) -> Path:
    """Write the definitions of the robot's own types as .msg files, one package per folder."""
    for topic in recording.topics:
        for section in f'{topic.msgtype}\n{topic.ros2}'.split(_HEADING):
            name, _, text = section.partition('\n')
            package, _, kind = name.strip().replace('/msg/', '/').partition('/')
            if package == 'kuavo_msgs':
                path = folder / package / 'msg' / f'{kind}.msg'
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    return folder


def _packed(path):
    target = path.with_name(path.name + '.zstd')
    target.write_bytes(zstandard.ZstdCompressor().compress(path.read_bytes()))
    path.unlink()
    return target


CONTAINERS = {
    'bag': lambda p, r: _rosbag1(p / 'run.bag', r),
    'bag-lz4': lambda p, r: _rosbag1(p / 'run.bag', r, 'lz4'),
    'bag-bz2': lambda p, r: _rosbag1(p / 'run.bag', r, 'bz2'),
    'bag-one-chunk': lambda p, r: _rosbag1(p / 'run.bag', r, chunk=10**9),
    'bag-two-publishers': lambda p, r: _rosbag1(p / 'run.bag', r, publishers=2),
    'bag-split': _rosbag1_parts,
    'bag-active': lambda p, r: unfinished(_rosbag1(p / 'run.bag', r)),
    'bag-unindexed': lambda p, r: unindexed(_rosbag1(p / 'run.bag', r)),
    'bag-unindexed-lz4': lambda p, r: unindexed(_rosbag1(p / 'run.bag', r, 'lz4')),
    'mcap': lambda p, r: _mcap(p / 'run.mcap', r),
    'mcap-lz4': lambda p, r: _mcap(p / 'run.mcap', r, 'LZ4'),
    'mcap-zstd': lambda p, r: _mcap(p / 'run.mcap', r, 'ZSTD'),
    'mcap-no-chunks': lambda p, r: _mcap(p / 'run.mcap', r, use_chunking=False),
    'mcap-no-index': lambda p, r: _mcap(p / 'run.mcap', r, index=IndexType.NONE),
    'mcap-no-index-zstd': lambda p, r: _mcap(
        p / 'run.mcap', r, 'ZSTD', index=IndexType.NONE
    ),
    'mcap-no-message-index': lambda p, r: _mcap(p / 'run.mcap', r, index=IndexType.CHUNK),
    'mcap-no-crc': lambda p, r: _mcap(p / 'run.mcap', r, enable_crcs=False),
    'mcap-no-footer': lambda p, r: _mcap_without_footer(p / 'run.mcap', r),
    'mcap-no-footer-zstd': lambda p, r: _mcap_without_footer(
        p / 'run.mcap', r, compression='ZSTD'
    ),
    'mcap-no-footer-no-chunks': lambda p, r: _mcap_without_footer(
        p / 'run.mcap', r, use_chunking=False
    ),
    'mcap-no-profile': lambda p, r: _mcap(p / 'run.mcap', r, profile=''),
    'mcap-ros1': lambda p, r: _mcap(p / 'run.mcap', r, 'ZSTD', 'ros1', 'ros1'),
    'mcap-ros1-no-profile': lambda p, r: _mcap(p / 'run.mcap', r, 'LZ4', 'ros1', ''),
    'mcap-ros1-no-chunks': lambda p, r: _mcap(
        p / 'run.mcap', r, encoding='ros1', profile='ros1', use_chunking=False
    ),
    'mcap-file-zstd': lambda p, r: _packed(_mcap(p / 'run.mcap', r)),
    'db3': lambda p, r: _directory(p / 'run', r, 'SQLITE3') / 'run.db3',
    'db3-wal': lambda p, r: _sqlite_with_log(p / 'run', r),
    'db3-schema-1': lambda p, r: _old_sqlite(p / 'run.db3', r),
    'db3-schema-2': lambda p, r: _old_sqlite(p / 'run.db3', r, schema=2),
    'db3-file-zstd': lambda p, r: _packed(_directory(p / 'run', r, 'SQLITE3') / 'run.db3'),
    **{
        f'directory-{suffix}{name}': lambda p, r, s=storage, c=compression: _directory(
            p / 'run', r, s, c
        )
        for storage, suffix in (('MCAP', 'mcap'), ('SQLITE3', 'db3'))
        for compression, name in (
            ('NONE', ''), ('FILE', '-file-zstd'), ('MESSAGE', '-message-zstd')
        )
    },
    'directory-mcap-storage-zstd': lambda p, r: _directory(p / 'run', r, 'MCAP', 'STORAGE'),
    'directory-mcap-split': lambda p, r: _split_directory(p / 'run', r, 'MCAP'),
    'directory-mcap-split-no-metadata': lambda p, r: _split_directory(
        p / 'run', r, 'MCAP', metadata=False
    ),
    'directory-db3-split': lambda p, r: _split_directory(p / 'run', r, 'SQLITE3'),
    'directory-mcap-no-metadata': lambda p, r: _without_metadata(p / 'run', r, 'MCAP'),
    'directory-db3-no-metadata': lambda p, r: _without_metadata(p / 'run', r, 'SQLITE3'),
    **{
        f'directory-db3-metadata-{version}': lambda p, r, v=version: _with_metadata(
            p / 'run', r, v
        )
        for version in range(1, 10)
    },
}  # fmt: skip
"""By name, a writer that takes a folder and a recording, and returns a path or the paths."""
