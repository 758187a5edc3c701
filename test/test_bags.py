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

"""Every container gives the same messages, by the same ordinals."""

from pathlib import Path
import struct

from bag_files import (
    BEGIN,
    cdr_payload,
    CLAW,
    HEAD_MOTION,
    IMAGE,
    read_only,
    recording,
    ros1_payload,
    Sample,
    SECOND,
    write_mcap,
    write_rosbag1,
    write_rosbag2,
)
from hypothesis import given, HealthCheck, settings
from hypothesis import strategies as st
from kuavo_bag_converter.bags.open import open_bag
from kuavo_bag_converter.support.errors import BagError, UsageError
from mcap.writer import IndexType
import numpy as np
import pytest

SAMPLES = recording()
LAYOUTS = {
    'bag': lambda p: write_rosbag1(p / 'r.bag', SAMPLES),
    'bag-lz4': lambda p: write_rosbag1(p / 'r.bag', SAMPLES, 'lz4'),
    'bag-bz2': lambda p: write_rosbag1(p / 'r.bag', SAMPLES, 'bz2'),
    'bag-one-chunk': lambda p: write_rosbag1(p / 'r.bag', SAMPLES, chunk=10**9),
    'mcap-none': lambda p: write_mcap(p / 'r.mcap', SAMPLES),
    'mcap-lz4': lambda p: write_mcap(p / 'r.mcap', SAMPLES, 'LZ4'),
    'mcap-zstd': lambda p: write_mcap(p / 'r.mcap', SAMPLES, 'ZSTD'),
    'mcap-ros1': lambda p: write_mcap(p / 'r.mcap', SAMPLES, 'ZSTD', 'ros1', 'ros1'),
    'mcap-no-profile': lambda p: write_mcap(p / 'r.mcap', SAMPLES, profile=''),
    'mcap-no-index': lambda p: write_mcap(p / 'r.mcap', SAMPLES, 'ZSTD', index=IndexType.NONE),
    'mcap-no-message-index': lambda p: write_mcap(p / 'r.mcap', SAMPLES, index=IndexType.CHUNK),
    'mcap-no-crc': lambda p: write_mcap(p / 'r.mcap', SAMPLES, enable_crcs=False),
    'mcap-data-crc': lambda p: write_mcap(
        p / 'r.mcap', SAMPLES, enable_crcs=False, enable_data_crcs=True
    ),
    'mcap-no-statistics': lambda p: write_mcap(p / 'r.mcap', SAMPLES, use_statistics=False),
    'mcap-no-repeats': lambda p: write_mcap(
        p / 'r.mcap', SAMPLES, repeat_channels=False, repeat_schemas=False
    ),
    'mcap-no-chunks': lambda p: write_mcap(p / 'r.mcap', SAMPLES, use_chunking=False),
    'mcap-extras': lambda p: write_mcap(p / 'r.mcap', SAMPLES, extras=True),
    'mcap-extras-no-chunks': lambda p: write_mcap(
        p / 'r.mcap', SAMPLES, extras=True, use_chunking=False
    ),
    'directory-mcap': lambda p: write_rosbag2(p / 'r', SAMPLES),
    'directory-mcap-8': lambda p: write_rosbag2(p / 'r', SAMPLES, version=8),
    'directory-mcap-storage-zstd': lambda p: write_rosbag2(p / 'r', SAMPLES, 'MCAP', 'STORAGE'),
    'directory-mcap-file-zstd': lambda p: write_rosbag2(p / 'r', SAMPLES, 'MCAP', 'FILE'),
    'directory-mcap-message-zstd': lambda p: write_rosbag2(p / 'r', SAMPLES, 'MCAP', 'MESSAGE'),
    'directory-db3': lambda p: write_rosbag2(p / 'r', SAMPLES, 'SQLITE3'),
    'directory-db3-8': lambda p: write_rosbag2(p / 'r', SAMPLES, 'SQLITE3', version=8),
    'directory-db3-file-zstd': lambda p: write_rosbag2(p / 'r', SAMPLES, 'SQLITE3', 'FILE'),
    'directory-db3-message-zstd': lambda p: write_rosbag2(p / 'r', SAMPLES, 'SQLITE3', 'MESSAGE'),
    'db3': lambda p: write_rosbag2(p / 'r', SAMPLES, 'SQLITE3') / 'r.db3',
    'db3-zstd': lambda p: write_rosbag2(p / 'r', SAMPLES, 'SQLITE3', 'FILE') / 'r.db3.zstd',
}
STAMPS = {
    topic.name: [s.stamp for s in SAMPLES if s.topic is topic]
    for topic in (IMAGE, CLAW, HEAD_MOTION)
}
HEADER_STAMPS = {
    topic.name: [s.header_stamp for s in SAMPLES if s.topic is topic] for topic in (IMAGE, CLAW)
}


def everything(counts):
    return {topic: np.arange(count) for topic, count in counts.items()}


@pytest.mark.parametrize('on_damage', ['fail', 'salvage'])
@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_container_gives_the_same_messages(layout, on_damage, tmp_path):
    path = LAYOUTS[layout](tmp_path)
    with read_only(tmp_path), open_bag(path, reader='portable', on_damage=on_damage) as bag:
        assert bag.counts == {topic: len(stamps) for topic, stamps in STAMPS.items()}
        index = bag.index(set(STAMPS), header=set(HEADER_STAMPS))
        messages = [
            (m.connection.topic, m.ordinal, m.stamp, bytes(m.data))
            for m in bag.messages(everything(bag.counts))
        ]
        serialize = ros1_payload if bag.connections[0].encoding == 'ros1' else cdr_payload
        assert bag.problems == []
    assert {t: i.receive.tolist() for t, i in index.items()} == STAMPS
    assert {t: index[t].header.tolist() for t in HEADER_STAMPS} == HEADER_STAMPS
    assert index[HEAD_MOTION.name].header is None
    seen = dict.fromkeys(STAMPS, 0)
    expected = []
    for sample in SAMPLES:
        name = sample.topic.name
        expected.append((name, seen[name], sample.stamp, serialize(sample)))
        seen[name] += 1
    assert messages == expected


@pytest.mark.parametrize('on_damage', ['fail', 'salvage'])
@pytest.mark.parametrize(
    ('layout', 'compression'),
    [('bag', ''), ('bag-lz4', 'lz4'), ('bag-bz2', 'bz2'), ('mcap-none', ''), ('mcap-zstd', 'zstd'),
     ('mcap-no-chunks', ''), ('directory-mcap-storage-zstd', 'zstd'),
     ('directory-mcap-file-zstd', 'zstd file'), ('directory-mcap-message-zstd', 'zstd message'),
     ('db3', ''), ('db3-zstd', 'zstd file'), ('directory-db3-message-zstd', 'zstd message')],
)  # fmt: skip
def test_compression_is_that_of_the_messages(layout, compression, on_damage, tmp_path):
    with open_bag(LAYOUTS[layout](tmp_path), reader='portable', on_damage=on_damage) as bag:
        assert bag.compression == compression


def test_a_bag_without_messages_has_no_compression(tmp_path):
    for path in (
        write_rosbag1(tmp_path / 'r.bag', []),
        write_mcap(tmp_path / 'r.mcap', []),
        write_rosbag2(tmp_path / 'r', [], 'SQLITE3'),
    ):
        with open_bag(path, reader='portable', on_damage='salvage') as bag:
            assert bag.compression is None


@pytest.mark.parametrize('layout', LAYOUTS)
def test_only_wanted_messages_are_yielded(layout, tmp_path):
    wanted = {IMAGE.name: np.array([0, 7, 8, 59]), CLAW.name: np.arange(5, 150, 20)}
    with open_bag(LAYOUTS[layout](tmp_path), reader='portable') as bag:
        got = [(m.connection.topic, m.ordinal) for m in bag.messages(wanted)]
        assert [n for t, n in got if t == IMAGE.name] == wanted[IMAGE.name].tolist()
        assert [n for t, n in got if t == CLAW.name] == wanted[CLAW.name].tolist()
        assert list(bag.messages({})) == []


@pytest.mark.parametrize('layout', ['bag', 'mcap-no-crc', 'mcap-none'])
def test_the_index_pass_reads_no_payloads(layout, tmp_path):
    path = LAYOUTS[layout](tmp_path)
    with open_bag(path, reader='portable') as bag:
        bag.index(set(bag.counts))
        assert 0 < bag.bytes_read < path.stat().st_size / 10


@pytest.mark.parametrize('layout', ['bag', 'mcap-no-crc'])
def test_uncompressed_chunks_are_not_read_whole(layout, tmp_path):
    path = LAYOUTS[layout](tmp_path)
    with open_bag(path, reader='portable') as bag:
        list(bag.messages({IMAGE.name: np.arange(0, 60, 10)}))
        assert bag.bytes_read < path.stat().st_size / 3


def test_a_ros1_connection_tells_what_the_bag_declares(tmp_path):
    with open_bag(write_rosbag1(tmp_path / 'r.bag', SAMPLES), reader='portable') as bag:
        claw = next(c for c in bag.connections if c.topic == CLAW.name)
        head = next(c for c in bag.connections if c.topic == HEAD_MOTION.name)
        assert (bag.container, bag.backend) == ('rosbag1', 'portable')
    assert claw.msgtype == 'kuavo_msgs/msg/lejuClawState'
    assert claw.encoding == 'ros1'
    assert claw.definition == CLAW.ros1
    assert claw.definition_format == 'msg'
    assert claw.md5 == '0123456789abcdef0123456789abcdef'
    assert not claw.latched
    assert head.latched


def test_two_publishers_of_a_topic_share_its_ordinals(tmp_path):
    from rosbags.rosbag1 import Writer

    with Writer(tmp_path / 'r.bag') as writer:
        first, second = (
            writer.add_connection(
                '/t', 'std_msgs/msg/UInt8', msgdef='uint8 data', md5sum=md5, callerid=caller
            )
            for md5, caller in (('1' * 32, '/a'), ('2' * 32, '/b'))
        )
        for n in range(10):
            writer.write(second if n % 3 else first, BEGIN + n, bytes([n]))
    with open_bag(tmp_path / 'r.bag', reader='portable') as bag:
        assert [c.md5 for c in bag.connections] == ['1' * 32, '2' * 32]
        assert bag.counts == {'/t': 10}
        got = [
            (m.ordinal, m.connection.md5[0], m.data[0]) for m in bag.messages({'/t': range(10)})
        ]
    assert got == [(n, '2' if n % 3 else '1', n) for n in range(10)]


def test_types_without_the_msg_part_get_it(tmp_path):
    with open_bag(
        write_mcap(tmp_path / 'r.mcap', SAMPLES, encoding='ros1'), reader='portable'
    ) as bag:
        assert {c.msgtype for c in bag.connections} == {
            IMAGE.msgtype, CLAW.msgtype, HEAD_MOTION.msgtype
        }  # fmt: skip


@pytest.mark.parametrize('encoding', ['protobuf', 'json', ''])
def test_a_topic_of_any_other_encoding_is_read_past(encoding, tmp_path):
    from mcap.writer import Writer

    with (tmp_path / 'r.mcap').open('wb') as stream:
        writer = Writer(stream)
        writer.start('ros2')
        schema = writer.register_schema('pkg/srv/Add_Event', 'other', b'\xff\xfe')
        good = writer.register_schema('std_msgs/msg/UInt8', 'ros2msg', b'uint8 data')
        odd = writer.register_channel('/add/_service_event', encoding, schema)
        plain = writer.register_channel('/t', 'cdr', good)
        bare = writer.register_channel('/bare', encoding, 0)
        for n in range(5):
            writer.add_message(odd, BEGIN + n, b'\x28\xb5\x2f\xfdodd', BEGIN)
            writer.add_message(plain, BEGIN + n, b'\0\1\0\0' + bytes([n]), BEGIN)
            writer.add_message(bare, BEGIN + n, b'', BEGIN)
        writer.finish()
    with open_bag(tmp_path / 'r.mcap', reader='portable') as bag:
        assert [bytes(m.data)[4] for m in bag.messages({'/t': range(5)})] == [0, 1, 2, 3, 4]
        assert [c.definition for c in bag.connections] == ['', 'uint8 data', '']
        assert [c.definition_format for c in bag.connections] == ['', 'msg', '']
        assert {bytes(m.data) for m in bag.messages({'/bare': range(5)})} == {b''}
        with pytest.raises(BagError, match=r'/add/_service_event: .*does not begin with'):
            bag.index({'/t'}, header={'/add/_service_event'})


def test_idl_definitions_are_told_apart(tmp_path):
    from mcap.writer import Writer

    idl = (
        '=' * 80
        + '\nIDL: sensor_msgs/msg/Image\n#include "std_msgs/msg/Header.idl"\n'
        + 'module sensor_msgs { module msg {\n@verbatim (language="comment", text="an (image)")\n'
        + 'struct Image {\n@verbatim (language="comment", text="the" "stamp")\n'
        + 'std_msgs::msg::Header header;\nuint32 height; }; }; };\n'
    )
    with (tmp_path / 'r.mcap').open('wb') as stream:
        writer = Writer(stream)
        writer.start('ros2')
        schema = writer.register_schema('sensor_msgs/msg/Image', 'ros2idl', idl.encode())
        channel = writer.register_channel('/t', 'cdr', schema)
        writer.add_message(channel, BEGIN, b'\0\0\0\0' + struct.pack('>iI', 5, 6), BEGIN)
        writer.finish()
    with open_bag(tmp_path / 'r.mcap', reader='portable') as bag:
        assert bag.connections[0].definition_format == 'idl'
        assert bag.index({'/t'}, header={'/t'})['/t'].header.tolist() == [5 * SECOND + 6]


def test_header_stamps_of_a_topic_without_header_are_refused(tmp_path):
    with open_bag(write_rosbag1(tmp_path / 'r.bag', SAMPLES), reader='portable') as bag:
        message = f'{HEAD_MOTION.name}: .*robotHeadMotionData.*does not begin with'
        with pytest.raises(BagError, match=message):
            bag.index(set(), header={HEAD_MOTION.name})


def test_a_topic_that_is_not_there_is_named(tmp_path):
    with open_bag(write_rosbag1(tmp_path / 'r.bag', SAMPLES), reader='portable') as bag:
        with pytest.raises(BagError, match=r'no topic /nowhere; there are /cam_h'):
            bag.index({'/nowhere', CLAW.name})
        with pytest.raises(BagError, match=r'no topic /nowhere'):
            list(bag.messages({'/nowhere': np.arange(1)}))
        with pytest.raises(BagError, match=r'message 200 was asked for, the topic has 200'):
            list(bag.messages({CLAW.name: np.arange(201)}))


def test_a_bag_without_messages_has_empty_topics(tmp_path):
    for path in (
        write_rosbag1(tmp_path / 'r.bag', []),
        write_mcap(tmp_path / 'r.mcap', []),
        write_rosbag2(tmp_path / 'r', [], 'SQLITE3'),
    ):
        with open_bag(path, reader='portable') as bag:
            topics = set(bag.counts)
            assert all(len(i.receive) == 0 for i in bag.index(topics).values())
            assert list(bag.messages(dict.fromkeys(topics, np.arange(0)))) == []


def test_files_of_one_recording_count_on(tmp_path):
    parts = [SAMPLES[:80], SAMPLES[80:200], SAMPLES[200:]]
    for write, suffix in ((write_rosbag1, 'bag'), (write_mcap, 'mcap')):
        paths = [write(tmp_path / f'r_{n}.{suffix}', part) for n, part in enumerate(parts)]
        with open_bag(paths, reader='portable') as bag:
            assert len(bag.connections) == 3
            index = bag.index(set(STAMPS), header={CLAW.name})
            got = [(m.connection.topic, m.ordinal) for m in bag.messages(everything(bag.counts))]
            some = [m.ordinal for m in bag.messages({CLAW.name: np.array([3, 150])})]
        assert {t: i.receive.tolist() for t, i in index.items()} == STAMPS
        assert index[CLAW.name].header.tolist() == HEADER_STAMPS[CLAW.name]
        for topic, stamps in STAMPS.items():
            assert [n for t, n in got if t == topic] == list(range(len(stamps)))
        assert some == [3, 150]


def test_files_of_different_kinds_are_not_one_recording(tmp_path):
    paths = [write_rosbag1(tmp_path / 'a.bag', SAMPLES), write_mcap(tmp_path / 'b.mcap', SAMPLES)]
    with pytest.raises(BagError, match='must be of one kind, found mcap and rosbag1'):
        open_bag(paths, reader='portable')


def test_unknown_settings_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"reader: 'ros' is unknown; expected one of auto, "):
        open_bag(tmp_path, reader='ros')
    with pytest.raises(UsageError, match=r"on_damage: 'ignore' is unknown"):
        open_bag(tmp_path, on_damage='ignore')


def few(stamps):
    topics = [IMAGE, HEAD_MOTION]
    return [
        Sample(topics[n % 3 == 0], BEGIN + stamp, bytes([n % 256]))
        for n, stamp in enumerate(stamps)
    ]


CONTAINERS = {
    'bag': lambda p, samples: write_rosbag1(p / 'r.bag', samples, chunk=150),
    'bag-lz4': lambda p, samples: write_rosbag1(p / 'r.bag', samples, 'lz4', chunk=150),
    'mcap': lambda p, samples: write_mcap(p / 'r.mcap', samples, chunk=150),
    'mcap-no-index': lambda p, samples: write_mcap(
        p / 'r.mcap', samples, chunk=150, index=IndexType.NONE
    ),
    'mcap-no-chunks': lambda p, samples: write_mcap(p / 'r.mcap', samples, use_chunking=False),
    'db3': lambda p, samples: write_rosbag2(p / 'r', samples, 'SQLITE3'),
}


@pytest.mark.parametrize('container', CONTAINERS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    stamps=st.lists(st.integers(0, 12), max_size=40),
    choice=st.integers(0, 2**40 - 1),
    cut=st.integers(0, 40),
)
def test_ordinals_rank_by_stamp_then_by_place(container, tmp_path_factory, stamps, choice, cut):
    """Whatever the order of the stamps, and however the recording is split."""
    samples = few(stamps)
    folder = tmp_path_factory.mktemp('r')
    parts = [part for part in (samples[:cut], samples[cut:]) if part] or [samples]
    paths = []
    for n, part in enumerate(parts):
        (folder / str(n)).mkdir()
        path = CONTAINERS[container](folder / str(n), part)
        paths.append(path / 'r.db3' if path.is_dir() else path)
    with open_bag(paths, reader='portable') as bag:
        for topic in (IMAGE, HEAD_MOTION):
            ranked = sorted((s for s in samples if s.topic is topic), key=lambda s: s.stamp)
            index = bag.index({topic.name})[topic.name]
            assert index.receive.tolist() == [s.stamp for s in ranked]
            wanted = np.array([n for n in range(len(ranked)) if choice >> n & 1], np.int64)
            got = {
                m.ordinal: (m.stamp, bytes(m.data)[-1]) for m in bag.messages({topic.name: wanted})
            }
            assert got == {n: (ranked[n].stamp, ranked[n].body[0]) for n in wanted.tolist()}


def test_messages_come_in_storage_order(tmp_path: Path):
    samples = few([5, 3, 9, 1, 1, 7])
    with open_bag(write_mcap(tmp_path / 'r.mcap', samples), reader='portable') as bag:
        got = [bytes(m.data)[-1] for m in bag.messages(everything(bag.counts))]
    assert got == [0, 1, 2, 3, 4, 5]
