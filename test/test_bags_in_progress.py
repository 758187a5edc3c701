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

"""A recording that is still being written is recognised, named and never disturbed."""

from contextlib import contextmanager
import re
import shutil
import sqlite3
import subprocess
import sys

from bag_files import recording, write_mcap, write_rosbag1, write_rosbag2
from kuavo_bag_converter.bags.open import open_bag
from kuavo_bag_converter.cli.main import run
from kuavo_bag_converter.support.errors import BagError
from ordinary_user import as_nobody
import pytest

SAMPLES = recording(1.0)

# As rosbag2 writes: in transactions, which fail at once where anybody holds a lock.
RECORDER = """
import os, sqlite3, sys, time
path, mode = sys.argv[1:]
base = sqlite3.connect(path, timeout=0, isolation_level=None)
base.execute(f'PRAGMA journal_mode={mode}')
base.execute('PRAGMA synchronous=OFF')
transactions = 0
os.set_blocking(0, False)
while sys.stdin.read(1) != 'q':
    base.execute('BEGIN IMMEDIATE')
    base.executemany(
        'INSERT INTO messages (topic_id, timestamp, data) '
        'SELECT topic_id, timestamp + ?, data FROM messages WHERE id < 3 AND ? = ?',
        [(10**9 * transactions, n, n) for n in range(10)],
    )
    base.execute('COMMIT')
    time.sleep(0.001)
    transactions += 1
    if transactions == 1:
        print('recording', flush=True)
print(transactions, flush=True)
"""
# Keeps a file open for writing.
HOLDER = """
import sys
file = open(sys.argv[1], sys.argv[2])
print('recording', flush=True)
sys.stdin.read(1)
"""
GROWING = """
import sys, time
file = open(sys.argv[1], 'ab', buffering=0)
print('recording', flush=True)
while file.write(b'0'):
    time.sleep(0.05)
"""


@contextmanager
def running(program, *arguments):
    """Run a writer until the end of the block; it must end well."""
    writer = subprocess.Popen(
        [sys.executable, '-c', program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert writer.stdout.readline() == 'recording\n'
        yield writer
        assert writer.poll() is None, writer.stderr.read()
    finally:
        _, errors = writer.communicate('q')
    assert writer.returncode == 0, errors
    assert not errors


def refused(path):
    return pytest.raises(BagError, match=re.escape(f'{path}: is still being recorded: '))


def states(folder):
    return {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir()}


def unlisted(folder):
    (folder / 'metadata.yaml').unlink(missing_ok=True)
    return folder


@pytest.mark.parametrize('mode', ['MEMORY', 'DELETE', 'WAL'])
def test_a_recorder_of_sqlite3_never_meets_a_lock(mode, tmp_path, capsys):
    folder = unlisted(write_rosbag2(tmp_path / 'r', SAMPLES[:60], 'SQLITE3'))
    output = tmp_path / 'dataset'
    with running(RECORDER, folder / 'r.db3', mode):
        for path in (folder, folder / 'r.db3') * 3:
            for reader in ('auto', 'rosbag2_py'):
                with refused(path):
                    open_bag(path, reader=reader)
        for words in (['convert', folder, '--output', output], ['inspect', folder]):
            assert run([*map(str, words)]) == 1
            assert 'is still being recorded: r.db3 ' in ''.join(capsys.readouterr())
            assert not output.exists()
        names = {path.name for path in folder.iterdir()}
        assert names <= {'r.db3', 'r.db3-wal', 'r.db3-shm', 'r.db3-journal'}
    if mode != 'WAL':
        assert {path.name for path in folder.iterdir()} - {'r.db3-journal'} == {'r.db3'}


@pytest.mark.parametrize('mode', ['DELETE', 'WAL'])
def test_a_lock_of_a_recorder_whose_files_do_not_show_is_seen(mode, tmp_path, monkeypatch):
    folder = unlisted(write_rosbag2(tmp_path / 'r', SAMPLES[:60], 'SQLITE3'))
    monkeypatch.setattr('kuavo_bag_converter.bags.in_progress._PROCESSES', tmp_path / 'none')
    program = (
        'import sqlite3, sys\n'
        'base = sqlite3.connect(sys.argv[1], isolation_level=None)\n'
        f'base.execute("PRAGMA journal_mode={mode}")\n'
        'base.execute("BEGIN IMMEDIATE")\n'
        'print("recording", flush=True)\n'
        'sys.stdin.read(1)\n'
    )
    with running(program, folder / 'r.db3') as writer, refused(folder) as error:
        open_bag(folder)
    assert f'r.db3 is locked by process {writer.pid}; wait until' in str(error.value)


def test_who_only_reads_does_not_matter(tmp_path):
    folder = unlisted(write_rosbag2(tmp_path / 'r', SAMPLES[:60], 'SQLITE3'))
    with running(HOLDER, folder / 'r.db3', 'rb'), open_bag(folder) as bag:
        assert sum(bag.counts.values()) == 60


@pytest.mark.parametrize('storage', ['SQLITE3', 'MCAP'])
def test_a_finished_recording_is_read_whoever_has_it_open(storage, tmp_path):
    folder = write_rosbag2(tmp_path / 'r', SAMPLES[:60], storage)
    file = next(path for path in folder.iterdir() if path.name != 'metadata.yaml')
    with running(HOLDER, file, 'r+b'), open_bag(folder) as bag, open_bag(file) as alone:
        assert bag.counts == alone.counts


def unfinished_mcap(folder):
    folder.mkdir()
    path = write_mcap(folder / 'r_1.mcap', SAMPLES)
    path.write_bytes(path.read_bytes()[:-100])
    return path


def finished_parts(folder):
    """Return the part that is being written, of a recording whose first part is complete."""
    path = unfinished_mcap(folder)
    write_mcap(folder / 'r_0.mcap', SAMPLES[:30])
    return path


def ros1_parts(folder):
    folder.mkdir()
    half = len(SAMPLES) // 2
    write_rosbag1(folder / 'r_0.bag', SAMPLES[:half])
    return write_rosbag1(folder / 'r_1.bag', SAMPLES[half:]).rename(folder / 'r_1.bag.active')


def begun_mcap(folder):
    folder.mkdir()
    (folder / 'r_0.mcap').write_bytes(b'\x89MCAP0\r\n')
    return folder / 'r_0.mcap'


@pytest.mark.parametrize('kind', [unfinished_mcap, finished_parts, ros1_parts, begun_mcap])
def test_every_kind_of_recording_in_progress_is_left_alone_as_a_whole(kind, tmp_path, capsys):
    file = kind(tmp_path / 'r')
    before = states(file.parent)
    output = tmp_path / 'dataset'
    words = ['convert', file.parent, '--output', output]
    with running(HOLDER, file, 'ab') as writer:
        assert run([*map(str, words)]) == 1
    said = capsys.readouterr().err
    assert f'is still being recorded: {file.name} is open for writing in ' in said
    assert f'(process {writer.pid}); wait until the recording has ended' in said
    assert not output.exists()
    assert states(file.parent) == before


def test_metadata_without_messages_does_not_make_a_recording_complete(tmp_path):
    folder = write_rosbag2(tmp_path / 'r', SAMPLES[:60], 'SQLITE3')
    metadata = folder / 'metadata.yaml'
    metadata.write_text(re.sub(r'message_count: \d+', 'message_count: 0', metadata.read_text()))
    with running(HOLDER, folder / 'r.db3', 'r+b'), refused(folder):
        open_bag(folder)


@pytest.mark.root
def test_growth_is_seen_where_the_writer_is_another_users(place):
    def refusal():
        with pytest.raises(BagError) as error:
            open_bag(file)
        return str(error.value)

    file = unfinished_mcap(place / 'r')
    writer = subprocess.Popen(
        [sys.executable, '-c', GROWING, file], stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout.readline() == 'recording\n'
        said = as_nobody(refusal)
    finally:
        writer.kill()
        writer.communicate()
    assert f'{file}: is still being recorded: r_1.mcap grows; wait' in said


def test_a_log_mode_recording_that_was_closed_is_read_and_stays_as_it_is(tmp_path):
    folder = write_rosbag2(tmp_path / 'r', SAMPLES[:60], 'SQLITE3')
    with sqlite3.connect(folder / 'r.db3') as base:
        base.execute('PRAGMA journal_mode=WAL')
    base.close()
    before = states(folder)
    for reader in ('auto', 'portable'):
        with open_bag(folder, reader=reader) as bag:
            assert sum(bag.counts.values()) == 60
            assert bag.backend == 'portable'
    assert states(folder) == before
    shutil.rmtree(folder)
