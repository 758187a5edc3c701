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

"""A run survives interruption, change and failure, and its result does not show it."""

from __future__ import annotations

from collections import Counter
import errno
import os
from pathlib import Path
import shutil
import threading

from conversions import report, rows, run, write_samples
from dataset_reading import info, tree
from kuavo_bag_converter.frames import cameras
from kuavo_bag_converter.frames.cameras import first_picture
from kuavo_bag_converter.jobs.convert import convert_bags
from kuavo_bag_converter.jobs.report import Observer
from kuavo_bag_converter.sample.write import write_sample
from kuavo_bag_converter.settings import settings_from
from kuavo_bag_converter.support.errors import Cancelled, OutputError, StalledError, UsageError
from kuavo_bag_converter.support.workers import WorkerPool
from observers import CancelAfter
import pytest

VALUES = {'resize__width': 80, 'resize__height': 60, 'sample_drop': 0, 'use_depth': False}


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bags')
    write_samples(folder, 3, seconds=1.5, size=(60, 80), depth=False)
    return folder


@pytest.fixture
def bags(recorded, tmp_path):
    folder = tmp_path / 'bags'
    shutil.copytree(recorded, folder)
    return sorted(folder.iterdir())


def interrupted(bags, output, after, **values):
    observer = CancelAfter(after)
    with pytest.raises(Cancelled):
        run(bags, output, observer=observer, cancel=observer.cancel, **VALUES | values)


def test_a_cancelled_run_goes_on_and_ends_as_if_it_had_not_been(bags, tmp_path):
    run(bags, tmp_path / 'whole', **VALUES)
    interrupted(bags, tmp_path / 'resumed', 2)
    assert not (tmp_path / 'resumed').exists()
    assert 'unfinished conversion' in (tmp_path / 'resumed.unfinished/README.txt').read_text()
    outcome = run(bags, tmp_path / 'resumed', **VALUES)
    assert [item.status for item in outcome.outcomes] == ['kept', 'kept', 'converted']
    assert tree(tmp_path / 'resumed') == tree(tmp_path / 'whole')
    assert not (tmp_path / 'resumed.unfinished').exists()


def test_other_settings_are_noticed_and_named(bags, tmp_path):
    interrupted(bags, tmp_path / 'out', 1)
    with pytest.raises(UsageError, match='crf was 23, now 30'):
        run(bags, tmp_path / 'out', crf=30, **VALUES)
    outcome = run(bags, tmp_path / 'out', crf=30, on_change='redo', **VALUES)
    assert [item.status for item in outcome.outcomes] == ['converted'] * 3


def test_the_first_messages_of_a_bag_are_read_once(bags, tmp_path, monkeypatch):
    looked = []

    def counted(camera, *arguments):
        looked.append(camera.feature.key)
        return first_picture(camera, *arguments)

    monkeypatch.setattr(cameras, 'first_picture', counted)
    outcome = run(bags, tmp_path / 'out', **VALUES)
    assert outcome.exit_code == 0
    assert set(Counter(looked).values()) == {len(bags)}


def test_a_bag_that_changes_after_it_was_checked_is_looked_at_again(bags, tmp_path):
    class Replacing(Observer):
        """Puts another bag in the place of the second."""

        def bag_started(self, number, total, bag):
            if number == 2:
                Path(bag).unlink()
                write_sample(Path(bag), seed=5, seconds=1.5, size=(120, 160), depth=False)

    changed = bags[1].with_name('as_changed.bag')
    write_sample(changed, seed=5, seconds=1.5, size=(120, 160), depth=False)
    outcome = run(bags, tmp_path / 'out', observer=Replacing(), **VALUES)
    assert [item.status for item in outcome.outcomes] == ['converted'] * 3
    run([bags[0], changed, bags[2]], tmp_path / 'same', **VALUES)
    assert rows(tmp_path / 'out')['observation.state'].tolist() == (
        rows(tmp_path / 'same')['observation.state'].tolist()
    )


def test_settings_that_cannot_be_carried_out_throw_no_finished_work_away(bags, tmp_path):
    interrupted(bags, tmp_path / 'out', 1)
    with pytest.raises(UsageError, match='is not a folder'):
        run(bags, tmp_path / 'out', msg_path=['nowhere'], on_change='redo', **VALUES)
    outcome = run(bags, tmp_path / 'out', **VALUES)
    assert [item.status for item in outcome.outcomes] == ['kept', 'converted', 'converted']


def test_settings_that_do_not_shape_the_dataset_may_change(bags, tmp_path):
    interrupted(bags, tmp_path / 'out', 1)
    outcome = run(bags, tmp_path / 'out', threads=1, chunk_size=3, **VALUES)
    assert [item.status for item in outcome.outcomes] == ['kept', 'converted', 'converted']


def test_a_bag_that_has_changed_is_noticed_and_named(bags, tmp_path):
    interrupted(bags, tmp_path / 'out', 1)
    bags[0].unlink()
    write_sample(bags[0], seed=9, seconds=1.5, size=(60, 80), depth=False)
    with pytest.raises(UsageError, match=r'0\.bag: has changed'):
        run(bags, tmp_path / 'out', **VALUES)
    outcome = run(bags, tmp_path / 'out', on_change='redo', **VALUES)
    assert [item.status for item in outcome.outcomes] == ['converted'] * 3


def test_two_runs_cannot_write_to_one_place(bags, tmp_path):
    class Second(Observer):
        """Starts a second run within the first."""

        def planned(self, number, plan):
            with pytest.raises(UsageError, match='another conversion is writing'):
                run(bags, tmp_path / 'out', **VALUES)

    assert run(bags[0], tmp_path / 'out', observer=Second(), **VALUES).exit_code == 0


@pytest.mark.parametrize('version', ['v3.0', 'v2.1'])
def test_append_adds_new_bags_and_leaves_old_videos_alone(bags, tmp_path, version):
    root = tmp_path / 'out'
    values = VALUES | {'lerobot_version': version}
    run(bags[:1], root, preset='superfast', **values)  # as its record said before it was auto
    before = {path: path.stat().st_ino for path in root.rglob('*.mp4')}
    rows_before = rows(root)['observation.state'] if version == 'v3.0' else None
    outcome = run(bags, root, append=True, **values)
    assert [item.status for item in outcome.outcomes] == ['present', 'converted', 'converted']
    assert {path: path.stat().st_ino for path in before} == before
    assert info(root)['total_episodes'] == 3
    assert [bag['first_episode'] for bag in report(root)['bags']] == [0, 1, 2]
    assert len(list((root / 'conversion/alignment').glob('*/*'))) == 3
    if version == 'v3.0':
        assert (rows(root)['observation.state'][: len(rows_before)] == rows_before).all()
        assert rows(root)['episode_index'].max() == 2
    with pytest.raises(UsageError, match='train_hz was 10, now 15'):
        run(bags, root, append=True, train_hz=15, **values)


def test_append_needs_a_dataset_of_this_converter(bags, tmp_path):
    (tmp_path / 'other').mkdir()
    for name in ('other', 'nothing'):
        with pytest.raises(UsageError, match='only a dataset that this converter made'):
            run(bags, tmp_path / name, append=True, **VALUES)
    assert not (tmp_path / 'nothing').exists()


def test_retry_failed_takes_just_the_bags_that_failed_and_their_settings(bags, tmp_path):
    whole = bags[1].read_bytes()
    bags[1].write_bytes(whole[: len(whole) // 2])
    root = tmp_path / 'out'
    outcome = run(bags, root, train_hz=15, **VALUES)
    assert [item.status for item in outcome.outcomes] == ['converted', 'failed', 'converted']
    bags[1].write_bytes(whole)
    again = convert_bags(settings_from({'output': str(root), 'retry_failed': True}, 'test'))
    assert [item.bag for item in again.outcomes] == [str(bags[1])]
    assert again.exit_code == 0
    listed = report(root)['bags']
    assert [bag['status'] for bag in listed] == ['converted'] * 3
    assert [bag['first_episode'] for bag in listed] == [0, 2, 1]
    assert info(root)['total_episodes'] == 3
    with pytest.raises(UsageError, match='no bag failed'):
        convert_bags(settings_from({'output': str(root), 'retry_failed': True}, 'test'))


def test_a_dataset_that_was_being_replaced_comes_back(bags, tmp_path):
    root = tmp_path / 'out'
    run(bags[:1], root, **VALUES)
    digest = tree(root)
    # As a kill between the two renames leaves it.
    (tmp_path / 'out.unfinished').mkdir()
    root.rename(tmp_path / 'out.unfinished/previous')
    with pytest.raises(UsageError, match='exists already'):
        run(bags[:1], root, **VALUES)
    assert tree(root) == digest


def test_a_full_disk_stops_the_run_and_keeps_what_is_finished(bags, tmp_path, monkeypatch):
    from kuavo_bag_converter.jobs import bag_converter as module

    real = module.write_shard
    left = iter([False, True, True])

    def write_shard(*arguments, **options):
        if next(left):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **options)

    monkeypatch.setattr(module, 'write_shard', write_shard)
    with pytest.raises(OutputError, match='No space left on device; finished bags are kept'):
        run(bags, tmp_path / 'out', **VALUES)
    monkeypatch.undo()
    outcome = run(bags, tmp_path / 'out', **VALUES)
    assert [item.status for item in outcome.outcomes] == ['kept', 'converted', 'converted']


def test_a_run_that_does_not_fit_the_disk_is_refused_before_it_writes(bags, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage._replace(free=10 << 20))
    with pytest.raises(OutputError, match=r'needs about \d+ MB more, 10 MB are free'):
        run(bags, tmp_path / 'out', **VALUES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['bags']
    assert run(bags, tmp_path / 'out', check_disk=False, **VALUES).exit_code == 0


def test_a_stuck_codec_is_named():
    stuck = threading.Event()
    with WorkerPool(2, 100, 10, 0.2) as pool:
        pool.queue('/cam').submit(stuck.wait, 1)
        pool.queue('/other').submit(lambda: None, 1)
        with pytest.raises(StalledError, match=r'^/cam: a picture has kept'):
            pool.drain()
    stuck.set()


def test_workers_keep_the_order_of_a_strand_and_pass_errors_on():
    with WorkerPool(3, 1000, 5, 60) as pool:
        queues = [pool.queue(str(i)) for i in range(4)]
        done = [[] for _ in queues]
        for number in range(200):
            queues[number % 4].submit(lambda n=number: done[n % 4].append(n), 10)
        pool.drain()
        assert done == [list(range(i, 200, 4)) for i in range(4)]
        queues[0].submit(lambda: 1 / 0, 1)
        with pytest.raises(ZeroDivisionError):
            pool.drain()
