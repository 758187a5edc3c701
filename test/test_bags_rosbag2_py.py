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

"""rosbag2_py as the reader of payloads: the same messages, and no loss without a line."""

import importlib
from pathlib import Path
import re
import shutil
import sqlite3
import sys

from bag_files import (
    BEGIN,
    cdr_payload,
    CLAW,
    IMAGE,
    recording,
    Sample,
    write_mcap,
    write_rosbag1,
    write_rosbag2,
)
import fake_rosbag2_py
from kuavo_bag_converter.bags.open import open_bag
from kuavo_bag_converter.support.errors import BagError, UsageError
from mcap.writer import IndexType
import numpy as np
import pytest
from ros_modules import needed

SAMPLES = recording(1.0)
SHUFFLED = [
    Sample((IMAGE, CLAW)[n % 2], BEGIN + stamp, bytes([n]) * 50)
    for n, stamp in enumerate([5, 3, 9, 1, 1, 7, 7, 7, 0, 2, 9, 9])
]
BACKEND = 'kuavo_bag_converter.bags.rosbag2.backend'


@pytest.fixture(params=['real', 'HumbleReader', 'SequentialReader', 'LyricalReader'])
def rosbag2_py(request, monkeypatch):
    """Return the real module where it is installed, and what stands for each distro's."""
    if request.param == 'real':
        yield needed('rosbag2_py', 'rosbag2_py comes with ROS 2 only')
        return
    fake = importlib.reload(fake_rosbag2_py)
    fake.SequentialReader = getattr(fake, request.param)
    yield from installed(fake, monkeypatch)


@pytest.fixture
def fake(monkeypatch):
    yield from installed(importlib.reload(fake_rosbag2_py), monkeypatch)


def installed(module, monkeypatch):
    monkeypatch.setitem(sys.modules, 'rosbag2_py', module)
    before = sys.modules.pop(BACKEND, None)
    yield module
    sys.modules.pop(BACKEND, None)
    if before:
        sys.modules[BACKEND] = before


def read(path, reader='rosbag2_py', on_damage='fail'):
    with open_bag(path, reader=reader, on_damage=on_damage) as bag:
        index = bag.index(set(bag.counts), header={IMAGE.name, CLAW.name})
        wanted = {topic: np.arange(count) for topic, count in bag.counts.items()}
        messages = {
            (m.connection, m.ordinal): (m.stamp, bytes(m.data)) for m in bag.messages(wanted)
        }
        stamps = {
            topic: (i.receive.tolist(), i.header if i.header is None else i.header.tolist())
            for topic, i in index.items()
        }
        return bag.backend, bag.container, bag.counts, stamps, messages, bag.problems


LAYOUTS = {
    'mcap': lambda p, samples: write_mcap(p / 'r.mcap', samples),
    'mcap-zstd': lambda p, samples: write_mcap(p / 'r.mcap', samples, 'ZSTD'),
    'mcap-no-index': lambda p, samples: write_mcap(p / 'r.mcap', samples, index=IndexType.NONE),
    'directory-mcap': lambda p, samples: write_rosbag2(p / 'r', samples),
    'directory-mcap-8': lambda p, samples: write_rosbag2(p / 'r', samples, version=8),
    'directory-mcap-file': lambda p, samples: write_rosbag2(p / 'r', samples, 'MCAP', 'FILE'),
    'directory-mcap-message': lambda p, samples: write_rosbag2(
        p / 'r', samples, 'MCAP', 'MESSAGE'
    ),
    'directory-db3': lambda p, samples: write_rosbag2(p / 'r', samples, 'SQLITE3'),
    'directory-db3-file': lambda p, samples: write_rosbag2(p / 'r', samples, 'SQLITE3', 'FILE'),
    'directory-db3-message': lambda p, samples: write_rosbag2(
        p / 'r', samples, 'SQLITE3', 'MESSAGE'
    ),
}


@pytest.mark.parametrize('samples', [SAMPLES, SHUFFLED], ids=['recorded', 'shuffled'])
@pytest.mark.parametrize('layout', LAYOUTS)
def test_both_backends_give_the_same_messages(layout, samples, rosbag2_py, tmp_path):
    path = LAYOUTS[layout](tmp_path, samples)
    before = {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}
    backend, *got = read(path)
    assert backend == 'rosbag2_py'
    assert ['portable', *got] == list(read(path, 'portable'))
    assert before == {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}


def test_parts_of_a_split_recording_follow_each_other(rosbag2_py, tmp_path):
    folder = tmp_path / 'r'
    folder.mkdir()
    for n in range(3):
        write_mcap(folder / f'r_{n}.mcap', SAMPLES[slice(n * 30, n * 30 + 30)])
    backend, *got = read(folder)
    assert backend == 'rosbag2_py'
    assert ['portable', *got] == list(read(folder, 'portable'))


def test_only_wanted_messages_are_yielded(rosbag2_py, tmp_path):
    with open_bag(write_mcap(tmp_path / 'r.mcap', SAMPLES), reader='rosbag2_py') as bag:
        wanted = {CLAW.name: np.array([3, 50])}
        assert [(m.connection.topic, m.ordinal) for m in bag.messages(wanted)] == [
            (CLAW.name, 3),
            (CLAW.name, 50),
        ]
        assert list(bag.messages({CLAW.name: np.arange(0)})) == []


def test_flipped_bytes_are_found_although_rosbag2_py_does_not(rosbag2_py, tmp_path):
    path = write_mcap(tmp_path / 'r.mcap', SAMPLES)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BagError, match=r'chunk: its checksum'):
        read(path)


def test_a_cut_file_is_found_although_rosbag2_py_does_not(rosbag2_py, tmp_path):
    path = write_mcap(tmp_path / 'r.mcap', SAMPLES)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(BagError, match=r'r\.mcap: byte \d+'):
        read(path)
    backend, *_, messages, problems = read(path, on_damage='salvage')
    assert backend == 'portable'
    assert 0 < len(messages) < len(SAMPLES)
    assert any('it is salvaged by the portable reader' in line for line in problems)


@pytest.mark.parametrize('kept', [0, 40])
def test_messages_that_rosbag2_py_loses_are_missed(kept, fake, monkeypatch, tmp_path):
    path = write_mcap(tmp_path / 'r.mcap', SAMPLES)
    rows = fake._mcap_rows
    monkeypatch.setattr(fake, '_mcap_rows', lambda path: rows(path)[:kept])
    with pytest.raises(
        BagError, match=r'rosbag2_py read \d+ messages, the index lists \d+; set r'
    ):
        read(path)


def test_stamps_that_rosbag2_py_changes_are_noticed(fake, monkeypatch, tmp_path):
    path = write_mcap(tmp_path / 'r.mcap', SAMPLES)
    rows = fake._mcap_rows
    monkeypatch.setattr(fake, '_mcap_rows', lambda path: rows(path)[1:])
    with pytest.raises(BagError, match=r'message 0 of rosbag2_py has stamp \d+ ns, which is not'):
        read(path)


def test_what_rosbag2_py_cannot_open_is_read_without_it(fake, tmp_path):
    from mcap.writer import Writer

    with (tmp_path / 'r.mcap').open('wb') as stream:
        writer = Writer(stream)
        writer.start('ros2')
        schema = writer.register_schema('std_msgs/msg/UInt8', 'ros2msg', b'uint8 data')
        for topic, encoding in (('/t', 'cdr'), ('/u', 'protobuf')):
            channel = writer.register_channel(topic, encoding, schema)
            writer.add_message(channel, BEGIN, cdr_payload(SHUFFLED[0]), BEGIN)
        writer.finish()
    with open_bag(tmp_path / 'r.mcap') as bag:
        assert bag.backend == 'portable'
        assert bag.problems == []
        assert len(list(bag.messages({'/t': np.arange(1)}))) == 1
    with pytest.raises(BagError, match=r'rosbag2_py: Topics with different.*; set reader: port'):
        open_bag(tmp_path / 'r.mcap', reader='rosbag2_py')


def test_a_database_that_is_not_known_to_be_complete_is_read_from_a_copy(fake, tmp_path, place):
    """Read as it is, it would be locked and, in WAL mode, get logs beside it."""
    alone = (
        write_rosbag2(tmp_path / 'r', SAMPLES, 'SQLITE3').joinpath('r.db3').rename(place / 'r.db3')
    )
    logging = write_rosbag2(tmp_path / 'w', SAMPLES, 'SQLITE3')
    with sqlite3.connect(logging / 'w.db3') as base:
        base.execute('PRAGMA journal_mode=WAL')
    base.close()
    complete = write_rosbag2(tmp_path / 'c', SAMPLES, 'SQLITE3')
    for path, in_place in ((alone, False), (logging, False), (complete, True)):
        with open_bag(path, reader='rosbag2_py') as bag:
            (storage,) = bag.storages
            assert (storage.file == storage.path) == in_place
            assert sum(bag.counts.values()) == len(SAMPLES)
        assert read(path)[1:] == read(path, 'portable')[1:]
    assert [path.name for path in place.iterdir()] == ['r.db3']
    assert {path.name for path in logging.iterdir()} == {'w.db3', 'metadata.yaml'}


@pytest.mark.parametrize('reader', ['HumbleReader', 'SequentialReader', 'LyricalReader'])
def test_what_only_a_plugin_of_rosbag2_reads_is_read_by_it(reader, fake, tmp_path):
    fake.SequentialReader = getattr(fake, reader)
    plain = write_rosbag2(tmp_path / 'plain' / 'r', SAMPLES)
    path = Path(shutil.copytree(plain, tmp_path / 'r'))
    fake.mirrored(path / 'r.mcap')
    (path / 'r.mcap').rename(path / 'r.bin')
    metadata = path / 'metadata.yaml'
    text = metadata.read_text().replace('r.mcap', 'r.bin')
    metadata.write_text(text.replace('storage_identifier: mcap', 'storage_identifier: mirrored'))
    with pytest.raises(BagError, match=r"plugin 'mirrored', .* installed, set reader: rosbag2_py"):
        read(path, 'auto')
    backend, container, counts, stamps, messages, problems = read(path)
    assert (backend, container, problems) == ('rosbag2_py', 'mirrored', [])
    expected = read(plain, 'portable')
    assert [counts, stamps] == list(expected[2:4])
    payloads = {(c.topic, n): message for (c, n), message in messages.items()}
    assert payloads == {(c.topic, n): message for (c, n), message in expected[4].items()}
    embedded = {c.topic: c.definition for c, _ in messages}
    assert all(embedded.values()) == (reader != 'HumbleReader')
    metadata.write_text(metadata.read_text().replace('mirrored', 'absent'))
    with pytest.raises(BagError, match=r"r\.bin: .*plugin 'absent' \(No storage could be in"):
        read(path)


def test_ros1_bags_are_read_without_rosbag2_py(fake, tmp_path):
    path = write_rosbag1(tmp_path / 'r.bag', SAMPLES)
    with open_bag(path) as bag:
        assert bag.backend == 'portable'
    with pytest.raises(BagError, match=re.escape('which rosbag2_py does not read')):
        open_bag(path, reader='rosbag2_py')


def test_asking_for_rosbag2_py_without_ros_is_refused(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'rosbag2_py', None)
    monkeypatch.delitem(sys.modules, BACKEND, raising=False)
    path = write_mcap(tmp_path / 'r.mcap', SAMPLES)
    with pytest.raises(
        UsageError, match=r'reader: rosbag2_py cannot be imported .*source the ROS'
    ):
        open_bag(path, reader='rosbag2_py')
    with open_bag(path) as bag:
        assert bag.backend == 'portable'
