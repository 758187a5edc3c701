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

"""A codec that never comes back: the run ends, names it, and keeps what is finished."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

from conversions import run, write_samples
from dataset_reading import tree
from kuavo_bag_converter.dataset.mp4 import Mp4Writer
from kuavo_bag_converter.jobs.report import Observer
from kuavo_bag_converter.support import workers
from kuavo_bag_converter.support.errors import BagError, Cancelled
from kuavo_bag_converter.support.workers import WorkerPool
import pytest
from stuck_codecs import DECODER_HANGS, PASS_HANGS, StuckDecoder, wait_for_line

VALUES = {'resize__width': 80, 'resize__height': 60, 'sample_drop': 0, 'use_depth': False}
CAMERA = r'/cam_\w/color/image_raw/compressed: a picture has kept its decoder or encoder busy'


@pytest.fixture(scope='module')
def bags(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bags')
    return write_samples(folder, 2, seconds=1.2, size=(60, 80), depth=False)


@pytest.fixture(scope='module')
def expected(bags, tmp_path_factory):
    root = tmp_path_factory.mktemp('expected') / 'dataset'
    run(bags, root, **VALUES)
    return tree(root)


@pytest.fixture
def stuck():
    """Return a task that does not end before the test does."""
    event = threading.Event()
    yield event.wait
    event.set()


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(workers, '_GRACE_S', 0.1)


def use(pool, *steps):
    with pool:
        for step in steps:
            step()


@pytest.mark.parametrize('wait', ['submit', 'drain'])
def test_cancelling_ends_every_wait_for_a_stuck_task(wait, stuck, hasty):
    cancel = threading.Event()
    pool = WorkerPool(2, 100, 3, 3600, cancel)
    camera, other = pool.queue('/cam'), pool.queue('/other')

    def submit():
        while True:
            camera.submit(lambda: None, 1)

    def begin():
        camera.submit(stuck, 1)
        other.submit(cancel.set, 1)

    with pytest.raises(Cancelled, match=r'bags are kept for the next run; /cam: a picture'):
        use(pool, begin, submit if wait == 'submit' else pool.drain)
    assert pool.stuck


def test_cancelling_waits_for_a_task_that_ends():
    cancel, begun, ended = threading.Event(), threading.Event(), []
    pool = WorkerPool(1, 100, 3, 3600, cancel)

    def task():
        begun.set()
        cancel.wait()
        ended.append(True)

    def begin():
        pool.queue('/cam').submit(task, 1)
        begun.wait()

    with pytest.raises(Cancelled, match=r'next run$'):
        use(pool, begin, cancel.set, pool.drain)
    assert ended
    assert not pool.stuck


def test_an_error_beside_a_stuck_task_is_raised_when_the_time_is_up(stuck):
    pool = WorkerPool(2, 100, 3, 0.3)

    def fail():
        raise BagError('/other: is bad')

    def begin():
        pool.queue('/cam').submit(stuck, 1)
        pool.queue('/other').submit(fail, 1)

    with pytest.raises(BagError, match=r'^/other: is bad$'):
        use(pool, begin, pool.drain)
    assert pool.stuck


def test_an_interrupt_beside_a_stuck_task_is_passed_on(stuck, hasty):
    pool = WorkerPool(1, 100, 3, 3600)
    begun = threading.Event()

    def task():
        begun.set()
        stuck()

    def interrupted():
        pool.queue('/cam').submit(task, 1)
        begun.wait()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use(pool, interrupted)
    assert pool.stuck


class CancelAtBag(Observer):
    """Cancels once the bag of a number, from 1, is stuck."""

    def __init__(self, monkeypatch, number):
        self.cancel = threading.Event()
        self.decoder = None
        self._monkeypatch = monkeypatch
        self._number = number

    def bag_started(self, number, total, bag):
        if number == self._number:
            self.decoder = StuckDecoder(self._monkeypatch, self.cancel.set)


def test_a_cancelled_run_names_the_stuck_topic_and_keeps_finished_bags(
    bags, expected, tmp_path, monkeypatch, hasty
):
    observer = CancelAtBag(monkeypatch, number=2)
    with pytest.raises(Cancelled, match=CAMERA):
        run(bags, tmp_path / 'out', observer=observer, cancel=observer.cancel, **VALUES)
    assert not (tmp_path / 'out').exists()
    outcome = run(bags, tmp_path / 'out', **VALUES)
    assert [item.status for item in outcome.outcomes] == ['kept', 'converted']
    observer.decoder.release()
    assert tree(tmp_path / 'out') == expected
    assert [path.name for path in tmp_path.iterdir()] == ['out']


def test_a_first_picture_that_is_stuck_fails_its_bag_in_time(bags, tmp_path, monkeypatch):
    decoder = StuckDecoder(monkeypatch, name='single')
    report = run(bags, tmp_path / 'out', stall_timeout_s=1, **VALUES)
    decoder.release()
    assert [item.status for item in report.outcomes] == ['failed', 'converted']
    reason = report.outcomes[0].reason
    assert reason.startswith('/cam_h/color/image_raw/compressed: a picture has kept its decoder')
    assert reason.endswith('or set stall_timeout_s higher (observation.images.head_cam_h)')


def test_a_run_that_is_stuck_at_a_first_picture_can_be_cancelled(
    bags, tmp_path, monkeypatch, hasty
):
    cancel = threading.Event()
    decoder = StuckDecoder(monkeypatch, cancel.set, name='single')
    with pytest.raises(Cancelled, match=CAMERA):
        run(bags, tmp_path / 'out', cancel=cancel, **VALUES)
    decoder.release()
    assert list(tmp_path.iterdir()) == []


class ReleaseHalfWay(Observer):
    """Lets a stuck decoder go on when another run is half done."""

    def __init__(self, decoder):
        self._decoder = decoder

    def progressed(self, number, done, total):
        if done > total // 2 and self._decoder is not None:
            self._decoder.release()
            self._decoder = None


def test_a_thread_that_wakes_up_later_writes_nothing_into_the_next_run(
    bags, tmp_path, monkeypatch
):
    # Files that are larger than what is buffered before it is written.
    large = {'resize__width': 640, 'resize__height': 480, 'crf': 1}
    values = VALUES | large | {'chunk_size': 1, 'stall_timeout_s': 1}
    run(bags[:1], tmp_path / 'whole', **values)
    decoder = StuckDecoder(monkeypatch)
    (outcome,) = run(bags[:1], tmp_path / 'out', **values).outcomes
    assert outcome.status == 'failed'
    assert 'or set stall_timeout_s higher' in outcome.reason
    assert not (tmp_path / 'out.unfinished').exists(), 'nothing finished is in it'
    observer = ReleaseHalfWay(decoder)
    (again,) = run(bags[:1], tmp_path / 'out', observer=observer, **values).outcomes
    assert again.status == 'converted'
    assert tree(tmp_path / 'out') == tree(tmp_path / 'whole')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out', 'whole']


def test_an_encoder_that_is_stuck_at_its_end_is_named(bags, tmp_path, monkeypatch, stuck):
    real = Mp4Writer.close

    def close(writer):
        if writer.path.stem.endswith('wrist_cam_l') and writer.path.parts[-4] == 'shards':
            stuck()
        real(writer)

    monkeypatch.setattr(Mp4Writer, 'close', close)
    (outcome,) = run(bags[:1], tmp_path / 'out', stall_timeout_s=1, **VALUES).outcomes
    assert outcome.reason.startswith('observation.images.wrist_cam_l: a picture has kept')


def command(hang, bags, output):
    program = f'{hang}\nimport sys\nfrom kuavo_bag_converter.cli.main import run\n'
    program += 'sys.exit(run(sys.argv[1:]))'
    pairs = [f'{name.replace("__", ".")}={value}'.lower() for name, value in VALUES.items()]
    words = [word for pair in pairs for word in ('--set', pair)]
    return subprocess.Popen(
        [sys.executable, '-c', program, 'convert', '--output', str(output), *words, str(bags[0])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_signal_ends_the_command_though_a_codec_is_stuck(bags, tmp_path):
    process = command(DECODER_HANGS, bags, tmp_path / 'out')
    wait_for_line(process, 'stuck')
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert 'error: cancelled; finished bags are kept for the next run; /cam_' in errors
    assert 'Traceback' not in errors


@pytest.mark.parametrize(
    ('first', 'second'), [(signal.SIGINT, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)]
)
def test_a_second_signal_ends_the_command_at_once(bags, tmp_path, first, second):
    process = command(PASS_HANGS, bags, tmp_path / 'out')
    wait_for_line(process, 'stuck')
    process.send_signal(first)
    wait_for_line(process, 'cancelled')
    process.send_signal(second)
    process.communicate(timeout=60)
    assert process.returncode == -second
