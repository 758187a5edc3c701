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

"""Damage stops the reading with one line, or is salvaged and accounted for."""

from pathlib import Path
import random
import re
import shutil
import sqlite3
import struct
import tempfile

from bag_files import (
    BEGIN,
    cdr_payload,
    CLAW,
    HEAD_MOTION,
    metadata_yaml,
    read_only,
    recording,
    records,
    ros1_payload,
    TOPICS,
    unfinished,
    unindexed,
    write_mcap,
    write_rosbag1,
    write_rosbag2,
)
from hypothesis import given, HealthCheck, settings
from hypothesis import strategies as st
from kuavo_bag_converter.bags.open import open_bag
from kuavo_bag_converter.support.errors import BagError
from mcap.opcode import Opcode
from mcap.writer import IndexType
import numpy as np
import pytest
import zstandard

SAMPLES = recording(1.0)
MAGICS = {'lz4': b'\x04\x22\x4d\x18', 'bz2': b'BZh'}
ADVICE = 'set on_damage: salvage to keep what can be read'


def read(path, on_damage='fail'):
    """Messages as (topic, stamp, payload) in storage order, and the problems."""
    with open_bag(path, reader='portable', on_damage=on_damage) as bag:
        index = bag.index(set(bag.counts))
        assert {t: len(i.receive) for t, i in index.items()} == dict(bag.counts)
        wanted = {topic: np.arange(count) for topic, count in bag.counts.items()}
        got = [(m.connection.topic, m.stamp, bytes(m.data)) for m in bag.messages(wanted)]
        return got, list(bag.problems)


def expected(serialize=cdr_payload):
    return [(s.topic.name, s.stamp, serialize(s)) for s in SAMPLES]


def refusal(path, on_damage='fail'):
    with pytest.raises(BagError) as info:
        read(path, on_damage)
    assert '\n' not in str(info.value)
    return str(info.value)


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])
    return path


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)
    return path


def read_line(path, got):
    """Return the line of the report that says exactly what was read of a file."""
    stamps = sorted(stamp for _, stamp, _ in got)
    first, last = (f'{stamp // 10**9}.{stamp % 10**9:09d}' for stamp in (stamps[0], stamps[-1]))
    return f'{path}: salvaged {len(got)} messages from {first} to {last} s'


def lost_and_read(problems):
    """Return the numbers in the report's lines: messages lost, messages salvaged."""
    text = '\n'.join(problems)
    lost = sum(int(n) for n in re.findall(r'(\d+) of the \d+ messages[^\n]*lost', text))
    (kept,) = re.findall(r'salvaged (\d+) messages', text)
    return lost, int(kept)


PART = len(SAMPLES) // 3


def split(folder, storage='MCAP', packed=False):
    """Return a recording in three files, with the metadata.yaml of the newest version."""
    folder.mkdir()
    suffix = {'MCAP': 'mcap', 'SQLITE3': 'db3'}[storage]
    end = '.zstd' if packed else ''
    files = {}
    for n in range(3):
        mode = 'FILE' if packed else 'NONE'
        part = SAMPLES[slice(n * PART, n * PART + PART)]
        aside = write_rosbag2(folder.with_name(f'part_{n}'), part, storage, mode)
        name = f'{folder.name}_{n}.{suffix}{end}'
        (aside / f'{aside.name}.{suffix}{end}').rename(folder / name)
        shutil.rmtree(aside)
        files[name] = part
    counts = {(t.name, t.msgtype): sum(s.topic is t for s in SAMPLES) for t in TOPICS}
    (folder / 'metadata.yaml').write_text(
        metadata_yaml(
            9,
            counts,
            {name: len(part) for name, part in files.items()},
            storage={'MCAP': 'mcap', 'SQLITE3': 'sqlite3'}[storage],
            times={name: (part[0].stamp, part[-1].stamp) for name, part in files.items()},
        )
    )
    return folder


# --- cut files


@pytest.mark.parametrize('compression', ['', 'lz4', 'bz2'])
def test_a_cut_ros1_bag_gives_what_lies_before_the_cut(compression, tmp_path):
    path = write_rosbag1(tmp_path / 'r.bag', SAMPLES, compression)
    chunks = [end for _, header, end in records(path.read_bytes()) if b'op=\x05' in header]
    cut(path, path.stat().st_size * 6 // 10)
    assert re.search(rf'r\.bag: byte \d+: the file ends here.*truncated; {ADVICE}', refusal(path))
    got, problems = read(path, 'salvage')
    assert 50 < len(got) < len(SAMPLES)
    assert got == expected(ros1_payload)[: len(got)]
    assert problems[-1] == read_line(path, got)
    touched = sum(end < path.stat().st_size for end in chunks) + 1  # the last one in part
    lost = f'{len(chunks) - touched} of its {len(chunks)} chunks are lost'
    assert problems[-2] == f'{path}: {lost}'


@pytest.mark.parametrize('compression', ['NONE', 'LZ4', 'ZSTD'])
def test_a_cut_mcap_gives_what_lies_before_the_cut(compression, tmp_path):
    path = write_mcap(tmp_path / 'r.mcap', SAMPLES, compression)
    cut(path, path.stat().st_size * 6 // 10)
    assert re.search(rf'r\.mcap: byte \d+: .*; {ADVICE}', refusal(path))
    got, problems = read(path, 'salvage')
    assert 50 < len(got) < len(SAMPLES)
    assert got == expected()[: len(got)]
    assert any('has no footer' in line for line in problems)
    assert problems[-1] == read_line(path, got)


def test_a_cut_mcap_without_chunks_gives_what_lies_before_the_cut(tmp_path):
    path = write_mcap(tmp_path / 'r.mcap', SAMPLES, use_chunking=False)
    cut(path, path.stat().st_size * 6 // 10)
    assert ADVICE in refusal(path)
    got, problems = read(path, 'salvage')
    assert 50 < len(got) < len(SAMPLES)
    assert got == expected()[: len(got)]
    assert problems[-1] == read_line(path, got)


def test_a_cut_sqlite_file_gives_what_can_be_reached(tmp_path):
    path = write_rosbag2(tmp_path / 'r', SAMPLES, 'SQLITE3') / 'r.db3'
    size = path.stat().st_size
    cut(path, size * 6 // 10)
    assert re.search(rf'is cut: it has \d+ of {size} bytes; {ADVICE}', refusal(path))
    got, problems = read(path, 'salvage')
    assert 20 < len(got) < len(SAMPLES)
    assert set(got) <= set(expected())
    assert problems[-1] == read_line(path, got)


def test_what_a_cut_sqlite_file_lacks_is_never_filled_with_zeros(tmp_path):
    # Sqlite does so with the rest of the last page and, in old versions, with pages beyond it.
    path = write_rosbag2(tmp_path / 'r', SAMPLES, 'SQLITE3') / 'r.db3'
    whole = path.read_bytes()
    page, stored = 4096, set(expected())
    assert int.from_bytes(whole[16:18], 'big') == page
    for size in range(8 * page, len(whole), 3 * page // 2):
        path.write_bytes(whole[:size])
        got, _ = read(path, 'salvage')
        assert stored.issuperset(got), size
        assert path.stat().st_size == size
    assert len(got) > len(SAMPLES) // 2


@pytest.mark.parametrize('size', [0, 5, 100, 1000])
def test_a_file_with_almost_nothing_left_is_refused(size, tmp_path):
    for path in (
        write_rosbag1(tmp_path / 'r.bag', SAMPLES),
        write_mcap(tmp_path / 'r.mcap', SAMPLES),
        write_rosbag2(tmp_path / 'r', SAMPLES, 'SQLITE3') / 'r.db3',
    ):
        assert str(path) in refusal(cut(path, size))


@pytest.mark.parametrize('storage', ['MCAP', 'SQLITE3'])
def test_the_second_file_of_a_split_recording_is_cut(storage, tmp_path):
    folder = split(tmp_path / 'r', storage)
    _, second, third = sorted(folder.glob('r_*'))
    cut(second, second.stat().st_size * 6 // 10)
    assert f'{second}: ' in refusal(folder)
    got, problems = read(folder, 'salvage')
    assert 2 * PART < len(got) < len(SAMPLES)
    assert set(got) < set(expected())
    assert read_line(second, got[PART:-PART]) in problems
    assert read_line(third, got[-PART:]) in problems
    promised = f'{len(SAMPLES)} messages are promised, {len(got)} are stored'
    assert problems[-1] == f'{folder}/metadata.yaml: the recording: {promised}'


@pytest.mark.parametrize(('storage', 'name'), [('MCAP', 'r.mcap.zstd'), ('SQLITE3', 'r.db3.zstd')])
def test_a_cut_compressed_file_gives_what_lies_before_the_cut(storage, name, tmp_path):
    path = write_rosbag2(tmp_path / 'r', SAMPLES, storage, 'FILE') / name
    cut(path, path.stat().st_size * 6 // 10)
    assert f'{name}: zstd data is cut; {ADVICE}' in refusal(path)
    got, _ = read(path, 'salvage')
    assert set(got) <= set(expected())


# --- unfinished recordings


def test_an_active_bag_is_read_by_scanning(tmp_path):
    path = unfinished(write_rosbag1(tmp_path / 'r.bag', SAMPLES))
    with read_only(tmp_path):
        got, problems = read(path)
        assert got == expected(ros1_payload)
        assert problems == [f'{path}: has no index, its recording was not closed: it was scanned']
        assert read(path, 'salvage') == (got, problems)


def test_an_active_bag_that_ends_within_a_message(tmp_path):
    path = unfinished(write_rosbag1(tmp_path / 'r.bag', SAMPLES))
    cut(path, path.stat().st_size - 10)
    assert 'the last message is cut' in refusal(path)
    assert read(path, 'salvage')[0] == expected(ros1_payload)[:-1]


@pytest.mark.parametrize('compression', ['lz4', 'bz2'])
def test_the_open_chunk_of_an_active_bag_is_compressed(compression, tmp_path):
    path = unfinished(write_rosbag1(tmp_path / 'r.bag', SAMPLES, compression, chunk=2 * 10**5))
    assert ADVICE in refusal(path)
    assert read(path, 'salvage')[0] == expected(ros1_payload)


def test_an_unindexed_bag_is_read_by_scanning(tmp_path):
    from rosbags.rosbag1 import Writer

    writer = Writer(tmp_path / 'r.bag')
    writer.chunk_threshold = 100
    writer.open()
    connection = writer.add_connection(
        '/t', 'std_msgs/msg/UInt8', msgdef='uint8 data', md5sum='0' * 32
    )
    for n in range(200):
        writer.write(connection, BEGIN + n, bytes([n]))
    writer.abort()
    with read_only(tmp_path):
        got, problems = read(tmp_path / 'r.bag')
    assert 190 < len(got) <= 200
    assert [data[0] for _, _, data in got] == list(range(len(got)))
    assert 'has no index' in problems[0]


def test_an_mcap_without_footer_is_read_by_scanning(tmp_path):
    path = write_mcap(tmp_path / 'r.mcap', SAMPLES, 'ZSTD')
    data = path.read_bytes()
    (summary,) = struct.unpack_from('<Q', data, len(data) - 28)
    for end in (summary, summary - 13):
        path.write_bytes(data[:end])
        with read_only(tmp_path):
            got, problems = read(path)
        assert got == expected()
        assert problems == [f'{path}: has no footer, its recording was not closed: it was scanned']


def test_a_write_ahead_log_is_honoured_and_left_alone(tmp_path):
    path = write_rosbag2(tmp_path / 'r', SAMPLES[:30], 'SQLITE3') / 'r.db3'
    writer = sqlite3.connect(path)
    writer.execute('PRAGMA journal_mode=WAL')
    writer.execute('PRAGMA wal_autocheckpoint=0')
    for sample in SAMPLES[30:]:
        writer.execute(
            'INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)',
            (TOPICS.index(sample.topic) + 1, sample.stamp, cdr_payload(sample)),
        )
    writer.commit()
    crashed = tmp_path / 'crashed'
    crashed.mkdir()
    for name in ('r.db3', 'r.db3-wal'):
        shutil.copy(path.with_name(name), crashed / name)
    writer.close()
    with read_only(crashed):
        got, problems = read(crashed / 'r.db3')
    assert got == expected()
    assert 'r.db3-wal is honoured' in problems[0]


def test_a_file_whose_write_ahead_log_was_merged_is_read_without_it(tmp_path):
    path = write_rosbag2(tmp_path / 'r', SAMPLES, 'SQLITE3') / 'r.db3'
    writer = sqlite3.connect(path)
    writer.execute('PRAGMA journal_mode=WAL')
    writer.close()
    with read_only(tmp_path):
        assert read(path) == (expected(), [])


@pytest.mark.parametrize('kind', ['log', 'packed'])
def test_copies_lie_in_the_temporary_folder_and_go_with_the_reader(kind, tmp_path, monkeypatch):
    scratch = tmp_path / 'scratch'
    scratch.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(scratch))
    folder = write_rosbag2(
        tmp_path / 'r', SAMPLES, 'SQLITE3', 'FILE' if kind == 'packed' else 'NONE'
    )
    path = next(folder.glob('r.db3*'))
    if kind == 'log':
        # Of a log without a valid header sqlite reads nothing.
        path.with_name('r.db3-wal').write_bytes(b'log')
    with open_bag(path, reader='portable') as bag:
        assert sum(bag.counts.values()) == len(SAMPLES)
        assert len([p for p in scratch.rglob('*') if p.is_file()]) >= 1
    assert list(scratch.iterdir()) == []


def test_a_transaction_that_was_not_finished_is_rolled_back_in_a_copy(tmp_path):
    path = write_rosbag2(tmp_path / 'r', SAMPLES, 'SQLITE3') / 'r.db3'
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute('PRAGMA cache_size=5')
    writer.execute('BEGIN')
    writer.execute('DELETE FROM messages WHERE id < 100')
    crashed = tmp_path / 'crashed'
    shutil.copytree(path.parent, crashed)
    writer.close()
    with read_only(crashed):
        got, problems = read(crashed / 'r.db3')
    assert got == expected()
    assert 'r.db3-journal is honoured' in problems[0]


# --- corrupted files


@pytest.mark.parametrize('compression', ['NONE', 'LZ4', 'ZSTD'])
def test_flipped_bytes_in_an_mcap_chunk_are_found(compression, tmp_path):
    path = write_mcap(tmp_path / 'r.mcap', SAMPLES, compression)
    flip(path, path.stat().st_size // 2)
    assert re.search(rf'r\.mcap: byte \d+: chunk: .*; {ADVICE}', refusal(path))
    got, problems = read(path, 'salvage')
    lost, kept = lost_and_read([p for p in problems if 'chunk:' not in p])
    assert kept == len(got)
    assert lost == len(SAMPLES) - len(got) > 0
    assert set(got) < set(expected())
    (line,) = [p for p in problems if 'chunk:' in p]
    assert re.search(r'messages from 1700000000\.\d+ to 1700000000\.\d+ s are lost', line)


@pytest.mark.parametrize('compression', ['lz4', 'bz2'])
def test_flipped_bytes_in_a_ros1_chunk_are_found(compression, tmp_path):
    path = write_rosbag1(tmp_path / 'r.bag', SAMPLES, compression)
    chunks = [at for at, header, _ in records(path.read_bytes()) if b'op=\x05' in header]
    flip(path, path.read_bytes().index(MAGICS[compression], chunks[1]))
    assert re.search(rf'byte {chunks[1]}: chunk: {compression} data', refusal(path))
    got, problems = read(path, 'salvage')
    lost, kept = lost_and_read([p for p in problems if 'chunk:' not in p])
    assert (lost, kept) == (len(SAMPLES) - len(got), len(got))
    assert set(got) < set(expected(ros1_payload))


@pytest.mark.parametrize('off', [-500, -1, 1, 1000])
@pytest.mark.parametrize('compression', ['', 'lz4', 'bz2'])
def test_sizes_of_ros1_chunks_are_verified(compression, off, tmp_path):
    path = write_rosbag1(tmp_path / 'r.bag', SAMPLES, compression)
    data = bytearray(path.read_bytes())
    at, header, _ = [r for r in records(data) if b'op=\x05' in r[1]][1]
    place = at + 4 + header.index(b'size=') + len(b'size=')
    (size,) = struct.unpack_from('<I', data, place)
    struct.pack_into('<I', data, place, size + off)
    path.write_bytes(data)
    line = f'byte {at}: chunk: ' + (
        f'{compression} data does not give the {size + off} bytes' if compression
        else 'its two sizes differ'
    )  # fmt: skip
    assert line in refusal(path)
    got, problems = read(path, 'salvage')
    assert line in problems[0]
    assert problems[-1] == read_line(path, got)
    if compression:
        lost, _ = lost_and_read(problems[1:])
        assert lost == len(SAMPLES) - len(got) > 0
        assert f'{lost} of the {lost} messages from 1700000000.' in problems[0]
    else:  # The other of the two sizes is right: all is there.
        assert got == expected(ros1_payload)
    unindexed(path)
    assert line in refusal(path)
    assert read(path, 'salvage')[0] == got


@pytest.mark.parametrize('crcs', [True, False])
@pytest.mark.parametrize('compression', ['NONE', 'LZ4', 'ZSTD'])
def test_sizes_of_mcap_chunks_are_verified(compression, crcs, tmp_path):
    path = write_mcap(tmp_path / 'r.mcap', SAMPLES, compression, enable_crcs=crcs)
    data = bytearray(path.read_bytes())
    chunks = [at for op, at in mcap_records(data) if op == Opcode.CHUNK]
    place = chunks[1] + 9 + 16
    struct.pack_into('<Q', data, place, struct.unpack_from('<Q', data, place)[0] + 1)
    path.write_bytes(data)
    assert f'byte {chunks[1]}: chunk: ' in refusal(path)
    got, problems = read(path, 'salvage')
    assert set(got) < set(expected())
    lost, kept = lost_and_read(problems[1:])
    assert (lost, kept) == (len(SAMPLES) - len(got), len(got))
    assert problems[-1] == read_line(path, got)


def mcap_records(data):
    """Opcode and offset of each top-level record."""
    at = 8
    while at < len(data) - 8:
        op, length = struct.unpack_from('<BQ', data, at)
        yield op, at
        at += 9 + length


@pytest.mark.parametrize(
    ('field', 'complaint'),
    [
        (b'time=', 'a message is not what the index says'),
        (b'conn=', 'a message is not what the index says'),
        (b'length', 'a message is longer than its place'),
    ],
)
def test_messages_of_a_ros1_bag_are_compared_with_the_index(field, complaint, tmp_path):
    path = write_rosbag1(tmp_path / 'r.bag', SAMPLES)
    data = bytearray(path.read_bytes())
    payload = ros1_payload(SAMPLES[5])
    at = data.index(payload)
    place = at - 4 if field == b'length' else data.rindex(field, 0, at) + len(field)
    data[place] ^= 1
    if field == b'length':
        data[place + 1] ^= 0x80
    path.write_bytes(data)
    assert complaint in refusal(path)


@pytest.mark.parametrize('field', [b'time=', b'conn=', b'op='])
def test_messages_of_a_ros1_bag_that_nobody_reads_are_compared_too(field, tmp_path):
    path = write_rosbag1(tmp_path / 'r.bag', SAMPLES)
    data = bytearray(path.read_bytes())
    unread = SAMPLES[-1]
    at = data.index(ros1_payload(unread))
    data[data.rindex(field, 0, at) + len(field)] ^= 1
    for damaged in (False, True):
        if damaged:
            path.write_bytes(data)
        with open_bag([path]) as reader:
            others = set(reader.counts) - {unread.topic.name}
            wanted = {name: np.arange(reader.counts[name]) for name in others}
            assert len(list(reader.messages(wanted))) == sum(map(len, wanted.values()))
            reader.verify_rest()
            assert bool(reader.problems) == damaged


@pytest.mark.parametrize('name', [b'chunk_count', b'conn_count'])
def test_counts_in_a_bag_header_are_not_believed(name, tmp_path):
    path = write_rosbag1(tmp_path / 'r.bag', SAMPLES)
    data = bytearray(path.read_bytes())
    place = data.index(name + b'=') + len(name) + 1
    data[place] += 1
    path.write_bytes(data)
    assert 'the bag header promises' in refusal(path)
    got, problems = read(path, 'salvage')
    assert got == expected(ros1_payload)
    assert 'the bag header promises' in problems[0]


@pytest.mark.parametrize('more', [5, -5])
def test_counts_in_mcap_statistics_are_not_believed(more, tmp_path):
    path = write_mcap(tmp_path / 'r.mcap', SAMPLES, enable_crcs=False)
    data = bytearray(path.read_bytes())
    (at,) = (at for op, at in mcap_records(data) if op == Opcode.STATISTICS)
    place = data.index(struct.pack('<Q', 100), at)  # of the claw
    data[place] += more
    path.write_bytes(data)
    line = f'{CLAW.name}: the index lists 100 messages, the file says that it holds {100 + more}'
    assert line in refusal(path)
    got, problems = read(path, 'salvage')
    assert got == expected()
    total = len(SAMPLES) + more
    said = (
        f'{more} of the {total} messages that the file says it holds are lost: {more} of '
        f'{CLAW.name}' if more > 0
        else f'{CLAW.name}: 100 messages were found, the file says that it holds {100 + more}'
    )  # fmt: skip
    assert problems[0] == f'{path}: {said}'


def test_a_broken_index_does_not_stop_a_salvage(tmp_path):
    path = write_rosbag1(tmp_path / 'r.bag', SAMPLES)
    data = path.read_bytes()
    last = [at for at, header, _ in records(data) if b'op=\x06' in header][-1]
    flip(path, last + 2)
    assert ADVICE in refusal(path)
    assert read(path, 'salvage')[0] == expected(ros1_payload)


def test_scanning_goes_on_behind_a_broken_record(tmp_path):
    path = write_rosbag1(tmp_path / 'r.bag', SAMPLES)
    chunks = [at for at, header, _ in records(path.read_bytes()) if b'op=\x05' in header]
    data = bytearray(path.read_bytes())
    data[slice(chunks[2], chunks[2] + 8)] = b'\xff' * 8
    path.write_bytes(data)
    got, problems = read(path, 'salvage')
    assert got[-1] == expected(ros1_payload)[-1]
    assert any(f'byte {chunks[2]}: ' in p and 'bytes skipped' in p for p in problems)
    without_index = bytearray(data)
    place = without_index.index(b'index_pos=') + len(b'index_pos=')
    without_index[slice(place, place + 8)] = bytes(8)
    path.write_bytes(without_index)
    assert read(path, 'salvage')[0] == got


def test_scanning_goes_on_behind_an_empty_chunk_with_a_broken_record(tmp_path):
    path = unindexed(write_rosbag1(tmp_path / 'r.bag', SAMPLES))
    data = bytearray(path.read_bytes())
    at, header, _ = [r for r in records(data) if b'op=\x05' in r[1]][2]
    data[slice(at + 4 + len(header), at + 8 + len(header))] = bytes(4)
    data[slice(at + 8 + len(header), at + 12 + len(header))] = b'\xff' * 4
    path.write_bytes(data)
    got, problems = read(path, 'salvage')
    assert got[-1] == expected(ros1_payload)[-1]
    assert any(f'byte {at + 8 + len(header)}: ' in p and 'skipped' in p for p in problems)


def test_messages_of_an_mcap_are_compared_with_the_index(tmp_path):
    path = write_mcap(tmp_path / 'r.mcap', SAMPLES, enable_crcs=False)
    data = path.read_bytes()
    at = data.index(cdr_payload(SAMPLES[5]))
    flip(path, at - 16)  # its log time
    assert 'a message is not what the index says' in refusal(path)
    path.write_bytes(data)
    flip(path, at - 29)  # the length of its record
    assert 'a message is longer than its place' in refusal(path)


def test_chunks_that_nobody_needs_are_not_verified(tmp_path):
    path = write_mcap(tmp_path / 'r.mcap', SAMPLES, 'ZSTD')
    flip(path, path.stat().st_size // 2)
    with open_bag(path, reader='portable') as bag:
        (message,) = bag.messages({CLAW.name: np.arange(1)})
        assert message.stamp == next(s.stamp for s in SAMPLES if s.topic is CLAW)
        with pytest.raises(BagError, match='chunk: '):
            list(bag.messages({CLAW.name: np.arange(100)}))


def test_a_summary_with_a_wrong_checksum_is_not_believed(tmp_path):
    path = write_mcap(tmp_path / 'r.mcap', SAMPLES)
    flip(path, path.stat().st_size - 200)
    assert 'the summary: its checksum (CRC-32) is wrong' in refusal(path)
    got, problems = read(path, 'salvage')
    assert got == expected()
    assert any('the summary' in line for line in problems)


def test_a_data_section_with_a_wrong_checksum_is_found(tmp_path):
    path = write_mcap(tmp_path / 'r.mcap', SAMPLES, enable_crcs=False, enable_data_crcs=True)
    flip(path, path.stat().st_size // 2)
    assert 'the data: its checksum (CRC-32) is wrong' in refusal(path)
    got, problems = read(path, 'salvage')
    assert [stamp for _, stamp, _ in got] == [sample.stamp for sample in SAMPLES]
    assert 'the data: its checksum (CRC-32) is wrong' in problems[0]


def test_a_message_that_does_not_decompress_is_named_or_left_out(tmp_path):
    path = write_rosbag2(tmp_path / 'r', SAMPLES, 'SQLITE3', 'MESSAGE') / 'r.db3'
    with sqlite3.connect(path) as base:
        base.execute("UPDATE messages SET data = x'28b52ffdffff' WHERE id = 7")
    base.close()
    seventh = SAMPLES[6]
    assert re.search(rf'{seventh.topic.name}: message \d+: zstd data is broken', refusal(path))
    got, problems = read(path, 'salvage')
    assert got == [e for e in expected() if e[1] != seventh.stamp]
    assert any('1 messages that cannot be decompressed are lost' in p for p in problems)


@pytest.mark.parametrize('claim', [2**31 + 1, 2**62])
def test_sizes_are_not_believed(claim, tmp_path):
    frame = zstandard.ZstdCompressor().compress(bytes(100))
    huge = frame[:4] + bytes([0xE0]) + struct.pack('<Q', claim) + frame[6:]
    path = write_rosbag2(tmp_path / 'r', SAMPLES, 'SQLITE3') / 'r.db3'
    with sqlite3.connect(path) as base:
        base.execute('UPDATE messages SET data = ? WHERE id = 7', (huge,))
    base.close()
    assert re.search(rf'claims to be {claim} bytes', refusal(path))


# --- metadata.yaml


def metadata_of(folder, old, new):
    path = folder / 'metadata.yaml'
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_metadata_that_promises_more_than_is_stored(tmp_path):
    folder = write_rosbag2(tmp_path / 'r', SAMPLES, 'SQLITE3')
    metadata_of(folder, 'message_count: 100\n', 'message_count: 103\n')
    message = f'{CLAW.name}: 103 messages are promised, 100 are stored'
    assert message in refusal(folder)
    got, problems = read(folder, 'salvage')
    assert got == expected()
    assert any(message in line for line in problems)


def test_metadata_that_promises_less_than_is_stored(tmp_path):
    folder = write_rosbag2(tmp_path / 'r', SAMPLES)
    metadata_of(folder, 'message_count: 100\n', 'message_count: 2\n')
    got, problems = read(folder)
    assert got == expected()
    assert problems == [
        f'{folder}/metadata.yaml: {CLAW.name}: 2 messages are promised, 100 are stored'
    ]


def test_other_qos_in_metadata_loses_no_messages(tmp_path):
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability
    from rosbags.interfaces import QosTime as Time
    from rosbags.rosbag2 import Writer

    qos = Qos(
        QosHistory.KEEP_LAST, 10, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL,
        Time(1, 0), Time(1, 0), QosLiveliness.AUTOMATIC, Time(1, 0), False,
    )  # fmt: skip
    for version in (8, 9):
        folder = tmp_path / str(version)
        with Writer(folder, version=version) as writer:
            connection = writer.add_connection(
                '/t', 'std_msgs/msg/UInt8', msgdef='uint8 data', rihs01='R',
                offered_qos_profiles=[qos],
            )  # fmt: skip
            writer.write(connection, BEGIN, b'\0\1\0\0\7')
        with open_bag(folder, reader='portable') as bag:
            assert bag.connections[0].latched
        assert read(folder)[1] == []
        metadata_of(folder, 'depth: 10', 'depth: 11')
        got, problems = read(folder)
        assert len(got) == 1
        assert problems == [
            f'{folder}/metadata.yaml: /t: other QoS profiles are listed than stored'
        ]


@pytest.mark.parametrize(
    ('old', 'new', 'line'),
    [
        ('version: 9', 'version: 10', 'is version 10, newer than 9'),
        ('identifier: mcap', 'identifier: sqlite3', 'storage sqlite3 is listed, mcap is stored'),
        (
            f'type: {CLAW.msgtype}',
            'type: a_msgs/msg/Claw',
            f'{CLAW.name}: type a_msgs/msg/Claw is listed, {CLAW.msgtype} is stored',
        ),
        (
            '  - message_count: 2\n    topic_metadata:\n      name: /robot_head_motion_data\n',
            '  - message_count: 0\n    topic_metadata:\n      name: /nowhere\n',
            f'{HEAD_MOTION.name} is in the files but not listed',
        ),
    ],
)
def test_metadata_that_disagrees_with_the_files_is_reported(old, new, line, tmp_path):
    folder = write_rosbag2(tmp_path / 'r', SAMPLES)
    metadata_of(folder, old, new)
    assert read(folder) == (expected(), [f'{folder}/metadata.yaml: {line}'])


@pytest.mark.parametrize('packed', [False, True])
@pytest.mark.parametrize('storage', ['MCAP', 'SQLITE3'])
def test_a_missing_file_of_a_split_recording(storage, packed, tmp_path):
    folder = split(tmp_path / 'r', storage, packed)
    lost = sorted(folder.glob('r_*'))[1]
    lost.unlink()
    times = [
        f'{s.stamp // 10**9}.{s.stamp % 10**9:09d}' for s in (SAMPLES[PART], SAMPLES[2 * PART - 1])
    ]
    line = (
        f'{folder}/metadata.yaml: {lost.name} is listed but missing: '
        f'its {PART} messages from {times[0]} to {times[1]} s are lost'
    )
    assert refusal(folder) == f'{line}; {ADVICE}'
    got, problems = read(folder, 'salvage')
    assert got == expected()[:PART] + expected()[slice(2 * PART, None)]
    assert problems[0] == line
    promised = f'{len(SAMPLES)} messages are promised, {2 * PART} are stored'
    assert problems[-1] == f'{folder}/metadata.yaml: the recording: {promised}'


def test_a_missing_file_of_which_metadata_says_no_more(tmp_path):
    folder = write_rosbag2(tmp_path / 'r', SAMPLES)
    metadata_of(folder, '  - r.mcap', '  - r.mcap\n  - r_1.mcap')
    assert f'r_1.mcap is listed but missing; {ADVICE}' in refusal(folder)
    got, problems = read(folder, 'salvage')
    assert got == expected()
    assert any('r_1.mcap is listed but missing' in line for line in problems)


@pytest.mark.parametrize('packed', [False, True])
def test_a_file_may_be_packed_or_unpacked_after_it_was_listed(packed, tmp_path):
    folder = write_rosbag2(tmp_path / 'r', SAMPLES, 'SQLITE3', 'FILE' if packed else 'NONE')
    file = folder / ('r.db3.zstd' if packed else 'r.db3')
    data = file.read_bytes()
    file.unlink()
    if packed:
        file.with_suffix('').write_bytes(
            zstandard.ZstdDecompressor().decompressobj().decompress(data)
        )
    else:
        (folder / 'r.db3.zstd').write_bytes(zstandard.ZstdCompressor().compress(data))
    assert read(folder) == (expected(), [])


def test_a_file_that_metadata_does_not_list(tmp_path):
    folder = write_rosbag2(tmp_path / 'r', SAMPLES)
    write_mcap(folder / 'other.mcap', SAMPLES)
    got, problems = read(folder)
    assert got == expected()
    assert problems == [
        f'{folder}/metadata.yaml: other.mcap is in the folder but not listed; it is not read'
    ]


@pytest.mark.parametrize('storage', ['MCAP', 'SQLITE3'])
def test_a_directory_without_metadata_is_read(storage, tmp_path):
    folder = write_rosbag2(tmp_path / 'r', SAMPLES, storage)
    (folder / 'metadata.yaml').unlink()
    got, problems = read(folder)
    assert got == expected()
    assert problems == [f'{folder}: has no metadata.yaml; its 1 storage files are read by name']


def test_split_files_without_metadata_are_read_by_number(tmp_path):
    folder = tmp_path / 'r'
    folder.mkdir()
    for n in range(11):
        write_mcap(folder / f'r_{n}.mcap', SAMPLES[slice(n * 10, n * 10 + 10)])
    assert read(folder)[0] == expected()[:110]


def test_a_missing_number_is_noticed_without_metadata(tmp_path):
    folder = split(tmp_path / 'r')
    (folder / 'metadata.yaml').unlink()
    (folder / 'r_1.mcap').unlink()
    line = f'{folder}: r_0.mcap is followed by r_2.mcap: what lies between is missing'
    assert refusal(folder) == f'{line}; {ADVICE}'
    got, problems = read(folder, 'salvage')
    assert got == expected()[:PART] + expected()[slice(2 * PART, None)]
    assert problems[0] == line


@pytest.mark.parametrize('name', ['r', 'r_0'])
def test_a_file_and_its_packed_twin_are_one_without_metadata(name, tmp_path):
    folder = write_rosbag2(tmp_path / 'r', SAMPLES, 'SQLITE3')
    (folder / 'metadata.yaml').unlink()
    file = (folder / 'r.db3').rename(folder / f'{name}.db3')
    (folder / f'{name}.db3.zstd').write_bytes(zstandard.compress(file.read_bytes()))
    got, problems = read(folder)
    assert got == expected()
    assert problems[0] == f'{file}.zstd: is not read: {name}.db3 is the same unpacked'


def test_of_a_file_and_its_packed_twin_the_listed_one_is_read(tmp_path):
    folder = write_rosbag2(tmp_path / 'r', SAMPLES, 'SQLITE3', 'FILE')
    (folder / 'r.db3').write_bytes(b'left behind by a reader that was killed')
    got, problems = read(folder)
    assert got == expected()
    assert problems == [
        f'{folder}/metadata.yaml: r.db3 is in the folder but not listed; it is not read'
    ]


@pytest.mark.parametrize('text', ['', 'rosbag2_bagfile_information: 3', '{', 'a: b', '- 1'])
def test_metadata_that_is_none(text, tmp_path):
    folder = write_rosbag2(tmp_path / 'r', SAMPLES)
    (folder / 'metadata.yaml').write_text(text)
    assert 'metadata.yaml' in refusal(folder)
    assert read(folder, 'salvage')[0] == expected()


@pytest.mark.parametrize('version', range(1, 10))
def test_metadata_of_every_version_is_understood(version, tmp_path):
    folder = write_rosbag2(tmp_path / 'r', SAMPLES, 'SQLITE3', version=8)
    counts = {
        (topic.name, topic.msgtype): sum(s.topic is topic for s in SAMPLES) for topic in TOPICS
    }
    text = metadata_yaml(version, counts, {'r.db3': len(SAMPLES)})
    (folder / 'metadata.yaml').write_text(text)
    assert read(folder) == (expected(), [])


@pytest.mark.parametrize('schema', [1, 2, 3, 4])
def test_sqlite_files_of_every_schema_are_read(schema, tmp_path):
    path = tmp_path / 'r.db3'
    base = sqlite3.connect(path)
    qos = ', offered_qos_profiles TEXT NOT NULL' if schema >= 2 else ''
    digest = ', type_description_hash TEXT NOT NULL' if schema >= 4 else ''
    base.execute(
        'CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, '
        f'serialization_format TEXT NOT NULL{qos}{digest})'
    )
    base.execute(
        'CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, '
        'timestamp INTEGER NOT NULL, data BLOB NOT NULL)'
    )
    if schema >= 3:
        base.execute('CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT)')
        base.execute('INSERT INTO schema VALUES (?, ?)', (schema, 'iron'))
    columns = [5, 'name', 'std_msgs/UInt8', 'cdr'] + [''] * ((schema >= 2) + (schema >= 4))
    base.execute(f'INSERT INTO topics VALUES ({",".join("?" * len(columns))})', columns)
    base.execute('INSERT INTO messages VALUES (9, 5, ?, ?)', (BEGIN, b'\0\1\0\0\7'))
    base.commit()
    base.close()
    with open_bag(path, reader='portable') as bag:
        assert bag.connections[0].msgtype == 'std_msgs/msg/UInt8'
        assert bag.connections[0].definition == ''
    assert read(path) == ([('name', BEGIN, b'\0\1\0\0\7')], [])


# --- what is no recording


@pytest.mark.parametrize(
    ('name', 'content', 'line'),
    [
        (
            'a.bag',
            b'version https://git-lfs.github.com/spec/v1\noid sha256:1',
            'a Git LFS pointer',
        ),
        ('a.bag', b'PK\x03\x04....', 'a zip archive; unpack it first'),
        ('a.bag', b'\x1f\x8b\x08....', 'gzip data; unpack it first'),
        ('a.mcap', b'', r'empty \(0 bytes\); expected a ROS 1 bag 2.0, an MCAP file or'),
        ('a.mcap', bytes(5000), 'not a recording: it begins with zeros'),
        ('a.db3', b'<!DOCTYPE html>', 'a web page, not the recording'),
        ('a.bag', b'#ROSBAG V1.2\n....', 'a ROS 1 bag of version 1.2, expected 2.0'),
        ('a.bag', b'something else', 'not a recording: it begins with'),
        (
            'metadata.yaml',
            b'rosbag2_bagfile_information:\n',
            'the metadata of a rosbag2 directory',
        ),
    ],
)
def test_what_is_no_recording_is_refused(name, content, line, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    for on_damage in ('fail', 'salvage'):
        assert re.match(rf'{re.escape(str(path))}: is {line}', refusal(path, on_damage))


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    assert refusal(tmp_path / 'no.bag') == f'{tmp_path}/no.bag: does not exist'


def test_a_folder_without_recording_is_refused(tmp_path):
    assert 'holds no recording: no metadata.yaml, no .bag, .mcap or .db3' in refusal(tmp_path)


def test_a_folder_of_unrelated_files_is_refused(tmp_path):
    write_mcap(tmp_path / 'monday.mcap', SAMPLES)
    write_mcap(tmp_path / 'tuesday.mcap', SAMPLES)
    assert 'are not the parts of one recording; give the path of one of them' in refusal(tmp_path)


def test_an_sqlite_database_of_something_else_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / 'a.db3') as base:
        base.execute('CREATE TABLE albums(id INTEGER)')
    base.close()
    assert 'is an sqlite database but not of rosbag2' in refusal(tmp_path / 'a.db3')


def test_an_encrypted_bag_is_refused(tmp_path):
    fields = [b'op=\x03', b'index_pos=' + bytes(8), b'conn_count=' + bytes(4)]
    fields += [b'chunk_count=' + bytes(4), b'encryptor=rosbag/AesCbcEncryptor']
    header = b''.join(struct.pack('<I', len(field)) + field for field in fields)
    path = tmp_path / 'a.bag'
    path.write_bytes(b'#ROSBAG V2.0\n' + struct.pack('<I', len(header)) + header + bytes(4))
    assert 'a.bag: is encrypted' in refusal(path)


def test_unreadable_permissions_are_named(tmp_path, monkeypatch):
    path = write_rosbag1(tmp_path / 'r.bag', SAMPLES)

    def denied(self, *args, **kwargs):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(Path, 'open', denied)
    assert 'r.bag: permission denied; it may have been recorded by root' in refusal(path)


# --- anything at all

FEW = recording(0.2)
VICTIMS = {
    'bag': lambda p: write_rosbag1(p / 'r.bag', FEW, chunk=20000),
    'bag-lz4': lambda p: write_rosbag1(p / 'r.bag', FEW, 'lz4', chunk=20000),
    'mcap': lambda p: write_mcap(p / 'r.mcap', FEW, chunk=20000),
    'mcap-zstd': lambda p: write_mcap(p / 'r.mcap', FEW, 'ZSTD', chunk=20000),
    'mcap-no-chunks': lambda p: write_mcap(p / 'r.mcap', FEW, use_chunking=False),
    'mcap-no-index': lambda p: write_mcap(p / 'r.mcap', FEW, index=IndexType.NONE),
    'db3': lambda p: write_rosbag2(p / 'r', FEW, 'SQLITE3') / 'r.db3',
    'db3-message-zstd': lambda p: write_rosbag2(p / 'r', FEW, 'SQLITE3', 'MESSAGE') / 'r.db3',
}
WHOLE: dict[str, bytes] = {}
"""The bytes of each victim; written once, for sqlite waits for the disk."""


@pytest.mark.parametrize('victim', VICTIMS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_whatever_is_broken_is_said(victim, tmp_path_factory, seed):
    """No crash, no hang; and fewer messages than were written never come without a line."""
    folder = tmp_path_factory.mktemp('r')
    if victim not in WHOLE:
        WHOLE[victim] = VICTIMS[victim](folder).read_bytes()
    path = folder / 'mangled'
    path.write_bytes(mangled(WHOLE[victim], random.Random(seed)))
    for on_damage in ('fail', 'salvage'):
        lines, got = attempt(path, on_damage)
        assert all('\n' not in line for line in lines)
        assert lines or got == len(FEW)


def attempt(path, on_damage):
    """Return the error or the problems, and how many messages came."""
    try:
        got, problems = read(path, on_damage)
    except BagError as error:
        return [str(error)], 0
    return problems, len(got)


def mangled(data, rng):
    at = rng.choice([rng.randrange(len(data)), rng.randrange(5000), -rng.randrange(1, 3000)])
    at %= len(data)
    kind = rng.randrange(5)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + data[slice(at + rng.randrange(1, 2000), None)]
    if kind == 2:
        return data[:at] + rng.randbytes(rng.randrange(1, 300)) + data[at:]
    if kind == 3:
        return data[:at] + b'\xff\xff\xff\xff' + data[slice(at + 4, None)]
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[slice(at + 1, None)]
