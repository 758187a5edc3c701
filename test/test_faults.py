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

"""Real faults during a run: kills, signals, a full disk, a bag that changes."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

from conversions import run, write_samples
from dataset_reading import tree
from kuavo_bag_converter.jobs.report import Observer
from kuavo_bag_converter.support.errors import OutputError, UsageError
from ordinary_user import as_nobody
import pytest

VALUES = {'resize__width': 80, 'resize__height': 60, 'sample_drop': 0, 'use_depth': False}
KILLS = 36
PHASES = {
    'start': bool,
    'workspace': lambda work: (work / 'configuration.json').exists(),
    'shard begun': lambda work: any(work.glob('shards/*.partial')),
    'rows written': lambda work: any(work.glob('shards/*.partial/data.parquet')),
    'shard finished': lambda work: bool(finished_shards(work)),
    'assembly begun': lambda work: (work / 'dataset').exists(),
    'videos joined': lambda work: any(work.glob('dataset/videos/*/*/*.mp4')),
    'info written': lambda work: (work / 'dataset/meta/info.json').exists(),
    'record begun': lambda work: (work / 'dataset/conversion').exists(),
    'published': lambda work: work.with_suffix('').exists(),
}


@pytest.fixture(scope='module')
def bags(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bags')
    return write_samples(folder, 4, seconds=1.2, size=(60, 80), depth=False)


@pytest.fixture(scope='module')
def expected(bags, tmp_path_factory):
    root = tmp_path_factory.mktemp('expected') / 'dataset'
    run(bags, root, **VALUES)
    return tree(root)


@pytest.fixture(scope='module')
def two(bags):
    return bags[:2]


@pytest.fixture(scope='module')
def expected_two(two, tmp_path_factory):
    root = tmp_path_factory.mktemp('expected') / 'dataset'
    run(two, root, **VALUES)
    return tree(root)


def finished_shards(work):
    return {path.name for path in work.glob('shards/*') if not path.suffix}


def start(bags, output):
    """Run a conversion in a process of its own; return its number."""
    process = os.fork()
    if process == 0:
        try:
            os._exit(run(bags, output, **VALUES).exit_code)
        finally:
            os._exit(99)
    return process


def killed_when(condition, bags, output):
    """Kill a run as soon as a condition holds; tell whether it was still running."""
    process = start(bags, output)
    while not condition():
        if os.waitpid(process, os.WNOHANG) != (0, 0):
            return False
        time.sleep(0.0005)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def test_a_run_that_is_killed_anywhere_goes_on_to_the_same_dataset(bags, expected, tmp_path):
    output, work = tmp_path / 'dataset', tmp_path / 'dataset.unfinished'
    generator = random.Random(7)
    kills = dict.fromkeys(PHASES, 0)
    finished = 0
    while sum(kills.values()) < KILLS:
        phase = min(kills, key=lambda name: (kills[name], list(PHASES).index(name)))
        until = time.monotonic() + generator.uniform(0, 0.15)
        kept = finished_shards(work)

        def reached(phase=phase, until=until):
            return PHASES[phase](work) and time.monotonic() > until

        killed_when(reached, bags, output)
        kills[phase] += 1
        if output.exists():
            assert tree(output) == expected
            shutil.rmtree(output)
            shutil.rmtree(work, ignore_errors=True)
            finished += 1
        else:
            now = finished_shards(work)
            assert kept <= now, f'a finished episode was lost when killed in phase {phase!r}'
    assert min(kills.values()) >= 3
    assert finished
    outcome = run(bags, output, **VALUES)
    assert outcome.exit_code == 0
    assert tree(output) == expected
    assert not work.exists()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_soon_and_cleanly(bags, expected, tmp_path, number):
    output = tmp_path / 'dataset'
    pairs = [f'{name.replace("__", ".")}={value}'.lower() for name, value in VALUES.items()]
    words = [word for pair in pairs for word in ('--set', pair)]
    program = [sys.executable, '-m', 'kuavo_bag_converter', 'convert', '--output', str(output)]
    program += [*words, *map(str, bags)]
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True)
    while not any((tmp_path / 'dataset.unfinished').glob('shards/*.partial')):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert 'cancelled; finished bags are kept' in errors
    assert 'Traceback' not in errors
    assert not output.exists()
    assert run(bags, output, **VALUES).exit_code == 0
    assert tree(output) == expected


@pytest.fixture
def disk(tmp_path):
    """Return a small disk, and what mounts it anew with other options."""
    disk = tmp_path / 'disk'
    disk.mkdir()
    options = ['-t', 'tmpfs', '-o', 'size=600k', 'tmpfs', str(disk)]
    mounted = subprocess.run(['mount', *options], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f'no disk can be mounted: {mounted.stderr.strip()}')  # as in a container
    yield (
        disk,
        lambda text: subprocess.run(['mount', '-o', f'remount,{text}', str(disk)], check=True),
    )
    subprocess.run(['umount', '-l', str(disk)], check=True)


@pytest.fixture
def file_limit():
    """Lets no file grow beyond so many bytes; None for no limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size or before[0], before[1]))

    yield limit
    limit(None)
    signal.signal(signal.SIGXFSZ, ignored)


def stopped(bags, output, expected, reason, mend, **values):
    """Check that a run ends with one line, and goes on when its cause is mended."""
    with pytest.raises(OutputError, match=f'cannot be written: {reason};') as caught:
        run(bags, output, check_disk=False, **VALUES, **values)
    assert len(str(caught.value).splitlines()) == 1
    assert not output.exists()
    mend()
    assert run(bags, output, check_disk=False, **VALUES).exit_code == 0
    digest = tree(output)
    for name in ('conversion/report.json', 'conversion/bags/file-000.parquet'):
        digest.pop(name)  # They name the settings, and the bags by where they are from there.
    assert digest.items() <= expected.items()


@pytest.mark.root
def test_a_disk_that_fills_up_stops_the_run_with_one_line(bags, expected, disk):
    folder, remount = disk
    reason = 'No space left on device'
    stopped(bags, folder / 'dataset', expected, reason, lambda: remount('size=64m'))


def test_a_file_that_may_not_grow_stops_the_run_with_one_line(
    two, expected_two, tmp_path, file_limit
):
    file_limit(20_000)
    stopped(two, tmp_path / 'dataset', expected_two, 'File too large', lambda: file_limit(None))


def test_what_pyarrow_says_of_a_full_disk_is_left_out(two, expected_two, tmp_path, file_limit):
    # The first file behind a plan is written by pyarrow itself.
    observer = WithTheSecond(lambda: file_limit(1000))
    stopped(two, tmp_path / 'dataset', expected_two, 'File too large', lambda: file_limit(None),
            observer=observer)  # fmt: skip


class WithTheSecond(Observer):
    """Does something when the second bag has been planned."""

    def __init__(self, action):
        self._action = action
        self._planned = 0

    def planned(self, number, plan):
        self._planned += 1
        if self._planned == 2:
            self._action()


@pytest.mark.root
def test_a_disk_that_becomes_read_only_stops_the_run_with_one_line(two, expected_two, disk):
    folder, remount = disk
    remount('size=64m')
    observer = WithTheSecond(lambda: remount('ro'))
    stopped(two, folder / 'dataset', expected_two, 'Read-only file system',
            lambda: remount('rw'), observer=observer)  # fmt: skip


def test_an_output_that_may_not_be_written_stops_the_run_with_one_line(two, expected_two, place):
    copies = [shutil.copy(bag, place) for bag in two]
    shards = place / 'dataset.unfinished/shards'
    observer = WithTheSecond(lambda: shards.chmod(0o500))
    as_nobody(
        lambda: stopped(copies, place / 'dataset', expected_two, 'Permission denied',
                        lambda: shards.chmod(0o700), observer=observer)
    )  # fmt: skip


def test_work_that_is_removed_stops_the_run_with_one_line(two, expected_two, tmp_path):
    work = tmp_path / 'dataset.unfinished'
    observer = WithTheSecond(lambda: shutil.rmtree(work))
    stopped(two, tmp_path / 'dataset', expected_two, 'No such file or directory', lambda: None,
            observer=observer)  # fmt: skip


def test_a_bag_that_goes_away_is_the_fault_of_no_output(bags, tmp_path):
    copies = [shutil.copy(bag, tmp_path) for bag in bags[:3]]
    observer = WithTheSecond(lambda: os.unlink(copies[2]))
    outcome = run(copies, tmp_path / 'out', observer=observer, **VALUES)
    assert [item.status for item in outcome.outcomes] == ['converted', 'converted', 'failed']
    assert outcome.outcomes[2].reason == f'{copies[2]}: does not exist'


def test_an_output_that_cannot_be_made_is_one_line():
    with pytest.raises((UsageError, OutputError), match='/proc/1/nowhere'):
        run(__file__, '/proc/1/nowhere/out')


def test_a_write_that_fails_stops_the_run_and_keeps_finished_bags(
    bags, expected, tmp_path, monkeypatch
):
    output = tmp_path / 'dataset'
    real, calls = os.fsync, []

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) > 25:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    monkeypatch.setattr(os, 'fsync', fsync)
    with pytest.raises(OutputError, match='Input/output error'):
        run(bags, output, **VALUES)
    monkeypatch.undo()
    assert not output.exists()
    run(bags, output, **VALUES)
    assert tree(output) == expected


def test_a_bag_that_changes_while_it_is_read_is_not_in_the_dataset(bags, tmp_path):
    copies = [shutil.copy(bag, tmp_path) for bag in bags[:2]]

    class Grow(Observer):
        """Lets a bag grow in the run."""

        def planned(self, number, plan):
            if plan.frames and not grown:
                grown.append(True)
                with open(copies[0], 'ab') as file:
                    file.write(b'more')

    grown = []
    outcome = run(copies, tmp_path / 'out', observer=Grow(), **VALUES)
    assert [item.status for item in outcome.outcomes] == ['failed', 'converted']
    assert 'changed while it was read' in outcome.outcomes[0].reason
