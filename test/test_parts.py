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

"""Parts of a run, converted by processes of their own, become the dataset of one run."""

from __future__ import annotations

from functools import partial
import json
import os
from pathlib import Path
import shlex
import signal
import struct
import subprocess
import sys

from conversions import run
from dataset_reading import tree
from hypothesis import given
from hypothesis import strategies as st
from interruptions import killed_at, Point
from kuavo_bag_converter.cli.main import run as command
from kuavo_bag_converter.jobs.executors.model import RETRIED
from kuavo_bag_converter.jobs.executors.serial import SerialExecutor
from kuavo_bag_converter.jobs.folders.workspace import InUseError, Workspace
from kuavo_bag_converter.jobs.joining.assemble_parts import assemble_parts
from kuavo_bag_converter.jobs.part import PartOf
from kuavo_bag_converter.sample.write import write_sample
from kuavo_bag_converter.support.errors import Cancelled, UsageError
from observers import CancelAfter, Warnings
from plain_robot import every, image, joint_state, jpeg, payloads_of, ramps, Robot
import pytest
from video_packets import encode
import yaml

ROOT = Path(__file__).resolve().parent.parent
CLUSTER = ROOT / 'examples' / 'cluster'
CAMERA, STATE = '/camera/image_raw', '/joint_states'
SMALL, LARGE = (48, 64), (64, 80)
PARTS = 3


def bag(path, size=SMALL, seconds=0.6):
    robot = Robot()
    robot.publish(CAMERA, every(10, seconds), image('head_cam_h', size=size))
    robot.publish(STATE, every(50, seconds), joint_state(ramps(2)))
    return robot.write(path)


@pytest.fixture
def profile(tmp_path):
    part = {'from': {'topic': STATE, 'field': 'position'}, 'names': ['a', 'b']}
    document = {
        'robot_type': 'made_up', 'fps': 10, 'task': 'Do it',
        'clock': {'from': {'topic': CAMERA}, 'fps': 10},
        'features': {
            'observation.state': {'parts': [part]},
            'observation.images.head': {'camera': {'from': {'topic': CAMERA}}},
        },
    }  # fmt: skip
    path = tmp_path / 'robot.yaml'
    path.write_text(json.dumps(document))
    return str(path)


@pytest.fixture
def bags(tmp_path):
    """Return bags of which some cannot be in a dataset, each for another reason."""
    lengths = [0.6, 0.8, 0.5, 1.0, 0.7]
    paths = [bag(tmp_path / f'bag{n}', seconds=length) for n, length in enumerate(lengths)]
    paths.insert(1, bag(tmp_path / 'odd', LARGE))
    late = bag(tmp_path / 'late', LARGE) / 'late.mcap'
    paths.insert(3, tmp_path / 'late.mcap')
    data = late.read_bytes()
    (summary,) = struct.unpack_from('<Q', data, len(data) - 28)
    paths[3].write_bytes(data[:summary])  # is found to be as the other one when it is converted
    paths.insert(4, tmp_path / 'empty.mcap')
    paths[4].touch()
    return paths


def in_parts(bags, output, parts=PARTS, **values):
    return [run(bags, output, shard=f'{n}/{parts}', **values) for n in range(1, parts + 1)]


def states(root):
    found = {path: path.stat() for path in root.rglob('*')}
    return {path: (one.st_ino, one.st_size, one.st_mtime_ns) for path, one in found.items()}


def comparable(done):
    return [(one.bag, one.status, one.reason, one.frames, one.problems) for one in done.outcomes]


@pytest.mark.parametrize('version', ['v3.0', 'v2.1'])
def test_parts_become_the_dataset_of_one_run(tmp_path, bags, profile, version):
    values = {'profile': profile, 'lerobot_version': version}
    whole = run(bags, tmp_path / 'whole', **values)
    done = in_parts(bags, tmp_path / 'out', **values)
    assert not (tmp_path / 'out').exists()
    assert sorted(one.bag for part in done for one in part.outcomes) == sorted(map(str, bags))
    joined = assemble_parts(str(tmp_path / 'out'))
    assert tree(tmp_path / 'out') == tree(tmp_path / 'whole')
    assert comparable(joined) == comparable(whole)
    assert [one.status for one in joined.outcomes].count('failed') == 3
    assert joined.alignment == whole.alignment
    assert joined.exit_code == whole.exit_code == 1
    assert sorted(path.name for path in tmp_path.glob('out*')) == ['out']


def test_parts_of_one_bag_become_the_dataset_of_one_run(tmp_path, profile):
    bags = [bag(tmp_path / 'only')]
    run(bags, tmp_path / 'whole', profile=profile)
    in_parts(bags, tmp_path / 'out', profile=profile)
    assert assemble_parts(str(tmp_path / 'out')).exit_code == 0
    assert tree(tmp_path / 'out') == tree(tmp_path / 'whole')


def test_the_first_bag_of_all_settles_the_profile_of_each_part(tmp_path):
    bags = [tmp_path / f'{n}.bag' for n in range(3)]
    options = {'seconds': 1.5, 'size': (48, 64), 'depth': False}
    for seed, (path, platform) in enumerate(zip(bags, ('4pro', '5', '4pro'), strict=True)):
        write_sample(path, platform_type=platform, seed=seed, **options)
    whole = run(bags, tmp_path / 'whole')
    assert [one.status for one in whole.outcomes] == ['converted', 'failed', 'converted']
    in_parts(bags, tmp_path / 'out')
    assert comparable(assemble_parts(str(tmp_path / 'out'))) == comparable(whole)
    assert tree(tmp_path / 'out') == tree(tmp_path / 'whole')


def test_a_finished_part_is_left_as_it_is(tmp_path, bags, profile):
    in_parts(bags, tmp_path / 'out', parts=2, profile=profile)
    before = states(tmp_path / 'out.parts')
    (again, *_) = (
        part
        for part in in_parts(bags, tmp_path / 'out', parts=2, profile=profile)
        if not part.failures
    )
    assert {one.status for one in again.outcomes} == {'kept'}
    now = states(again.output)
    assert now
    assert now.items() <= before.items()


@pytest.mark.parametrize('damage', ['shard', 'file', 'manifest'])
def test_a_damaged_part_is_converted_again(tmp_path, profile, damage):
    bags = [bag(tmp_path / 'a'), bag(tmp_path / 'b')]
    run(bags, tmp_path / 'whole', profile=profile)
    first, _ = in_parts(bags, tmp_path / 'out', parts=2, profile=profile)
    (folder,) = first.output.glob('shards/*')
    assert first.outcomes[0].shard.name == folder.name
    if damage == 'shard':
        (folder / 'shard.json').unlink()
    elif damage == 'file':
        data = (folder / 'data.parquet').read_bytes()
        (folder / 'data.parquet').write_bytes(data[:20] + b'?' + data[21:])
    else:
        (first.output / 'part.json').write_text('{')
    in_parts(bags, tmp_path / 'out', parts=2, profile=profile)
    assemble_parts(str(tmp_path / 'out'))
    assert tree(tmp_path / 'out') == tree(tmp_path / 'whole')


def test_parts_that_are_missing_are_named_with_what_makes_them(tmp_path, profile, capsys):
    bags = [bag(tmp_path / name, seconds=0.4) for name in 'ab']
    run(bags, tmp_path / 'whole', profile=profile)
    run(bags, tmp_path / 'out', shard='2/3', profile=profile)
    assert command(['assemble', str(tmp_path / 'out')]) == 2
    error = capsys.readouterr().err
    assert f'{tmp_path}/out.parts: 2 of 3 parts are missing: 1/3, 3/3; run each' in error
    words = shlex.split(error.rpartition('kuavo_bag_converter ')[2])
    assert words[:2] == ['convert', '--params-file']
    assert command(words) == 0
    assert command([*words[:-1], '3/3']) == 0
    assert command(['assemble', str(tmp_path / 'out')]) == 0
    assert tree(tmp_path / 'out') == tree(tmp_path / 'whole')


def test_a_part_that_was_stopped_goes_on(tmp_path, profile):
    bags = [bag(tmp_path / name) for name in 'abc']
    stop = CancelAfter(1)
    with pytest.raises(Cancelled):
        run(bags, tmp_path / 'out', shard='1/1', profile=profile, cancel=stop.cancel,
            observer=stop)  # fmt: skip
    with pytest.raises(UsageError, match='no finished part is there'):
        assemble_parts(str(tmp_path / 'out'))
    done = run(bags, tmp_path / 'out', shard='1/1', profile=profile)
    assert [one.status for one in done.outcomes] == ['kept', 'converted', 'converted']


def test_a_name_that_a_killed_run_has_claimed_is_taken_back(tmp_path, profile):
    # Where renaming cannot refuse to replace something, an empty folder has the name before.
    bags = [bag(tmp_path / 'a')]
    run(bags, tmp_path / 'out', shard='1/1', profile=profile)
    folder = PartOf(1, 1).folder(tmp_path / 'out')
    folder.rename(f'{folder}.unfinished')
    folder.mkdir()
    done = run(bags, tmp_path / 'out', shard='1/1', profile=profile)
    assert [one.status for one in done.outcomes] == ['kept']
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_parts_that_run_at_the_same_time_do_not_meet(tmp_path, profile):
    bags = [bag(tmp_path / name) for name in 'ab']
    with Workspace(PartOf(1, 2).folder(tmp_path / 'out')):
        assert run(bags, tmp_path / 'out', shard='2/2', profile=profile).exit_code == 0
        with pytest.raises(InUseError, match='another conversion is writing here'):
            run(bags, tmp_path / 'out', shard='1/2', profile=profile)


@pytest.mark.parametrize(
    ('change', 'differs'),
    [
        ({'crf': 30}, 'crf was 23, now 30'),
        ({'bags': 1}, 'its list of bags, their sizes or tasks: 3 and 2 bags'),
    ],
)
def test_parts_of_different_runs_are_not_joined(tmp_path, profile, change, differs):
    bags = [bag(tmp_path / name) for name in 'abc']
    run(bags, tmp_path / 'out', shard='1/2', profile=profile)
    others = bags[slice(change.pop('bags', None), None)]
    run(others, tmp_path / 'out', shard='2/2', profile=profile, **change)
    with pytest.raises(UsageError, match=differs) as caught:
        assemble_parts(str(tmp_path / 'out'))
    assert 'out.parts/00002-of-00002: is of another run than' in str(caught.value)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('video', ['auto', 'copy'])
def test_parts_agree_about_cameras_that_bags_have_coded_otherwise(tmp_path, profile, video):
    bags = []
    for name, make in (
        ('a', jpeg('head_cam_h', size=SMALL)),
        ('b', payloads_of(encode('h264', 6, 6), 'h264')),
        ('c', jpeg('wrist_cam_l', size=SMALL)),
        ('d', jpeg('head_cam_h', size=LARGE)),
    ):
        robot = Robot().publish(CAMERA, every(10, 0.6), make)
        robot.publish(STATE, every(50, 0.6), joint_state(ramps(2)))
        bags.append(robot.write(tmp_path / name))
    whole = run(bags, tmp_path / 'whole', profile=profile, video=video)
    in_parts(bags, tmp_path / 'out', profile=profile, video=video)
    assembled = assemble_parts(str(tmp_path / 'out'))
    statuses = [one.status for one in whole.outcomes]
    others = 'converted' if video == 'auto' else 'failed'
    assert statuses == ['converted', others, 'converted', 'failed']
    assert comparable(assembled) == comparable(whole)
    assert tree(tmp_path / 'out') == tree(tmp_path / 'whole')


class FarAway(SerialExecutor):
    """Tries each task twice, and only where it has checked that it can."""

    reached: tuple = ()

    def check_reach(self, folder, inputs):
        assert folder.is_dir()
        self.reached = tuple(inputs)

    def map(self, work, tasks, begin, on_event, *, in_order=False):  # noqa: A003
        assert len(tasks) <= len(self.reached)
        for task in tasks:
            on_event(task.number, RETRIED, 'its process has gone')
        yield from super().map(work, tasks, begin, on_event, in_order=in_order)


def test_bags_of_other_parts_are_tried_where_they_are_seen_and_told_of_by_their_names(
    tmp_path, profile, monkeypatch
):
    bags = [bag(tmp_path / name) for name in 'abc']
    monkeypatch.setattr(
        'kuavo_bag_converter.jobs.part.choose_executor',
        lambda _settings, _tasks, cancel: FarAway(1, 0, cancel),
    )
    warnings = Warnings()
    done = run(
        bags, tmp_path / 'out', shard='3/3', profile=profile, video='auto', observer=warnings
    )
    assert done.exit_code == 0
    told = [line.partition(':')[0] for line in warnings.lines if 'has gone' in line]
    assert told[:3] == [*map(str, bags)]


@pytest.mark.parametrize('phase', ['assembly', 'info', 'record'])
def test_putting_parts_together_goes_on_after_a_kill(tmp_path, profile, phase):
    paths = [bag(tmp_path / f'bag{n}') for n in range(2)]
    run(paths, tmp_path / 'whole', profile=profile)
    in_parts(paths, tmp_path / 'out', parts=2, profile=profile)
    killed_at(Point(phase, 1), lambda: str(assemble_parts(str(tmp_path / 'out'))))
    assert [path.name for path in tmp_path.glob('out*')] != ['out']
    assemble_parts(str(tmp_path / 'out'))
    assert tree(tmp_path / 'out') == tree(tmp_path / 'whole')
    assert [path.name for path in tmp_path.glob('out*')] == ['out']


def test_a_part_whose_last_bag_has_failed_is_stopped_too(tmp_path, bags, profile):
    data = bags[3].read_bytes()
    bags[3].write_bytes(data[: len(data) // 2])
    done = in_parts([bags[0], bags[3]], tmp_path / 'out', 1, profile=profile, on_error='stop')
    assert [one.status for one in done[0].outcomes] == ['converted', 'failed']
    with pytest.raises(UsageError, match=r'1 of 1 parts is stopped at a bag that failed'):
        assemble_parts(str(tmp_path / 'out'))


def test_a_run_that_stops_at_a_failure_leaves_its_part_to_be_done(tmp_path, bags, profile):
    in_parts(bags, tmp_path / 'out', parts=2, profile=profile, on_error='stop')
    with pytest.raises(UsageError, match=r'stopped at a bag that failed \(on_error: stop\)'):
        assemble_parts(str(tmp_path / 'out'))


@pytest.mark.parametrize('shard', ['0/3', '4/3', '1', 'a/b', '1/0'])
def test_what_is_no_part_is_refused(tmp_path, shard):
    with pytest.raises(UsageError, match='shard: expected I/N with I from 1 to N'):
        run(tmp_path, tmp_path / 'out', shard=shard)


def test_no_part_is_added_to_a_dataset(tmp_path, profile):
    bags = [bag(tmp_path / 'a')]
    run(bags, tmp_path / 'out', profile=profile)
    with pytest.raises(UsageError, match='shard: has no meaning with append'):
        run(bags, tmp_path / 'out', profile=profile, shard='1/2', append=True)
    with pytest.raises(UsageError, match='exists already'):
        run(bags, tmp_path / 'out', profile=profile, shard='1/2')


@given(st.lists(st.integers(0, 1000), max_size=30), st.integers(1, 8))
def test_parts_have_each_bag_once_and_about_as_much(sizes, parts):
    members = [PartOf(number, parts).members(sizes) for number in range(1, parts + 1)]
    assert sorted(place for mine in members for place in mine) == list(range(len(sizes)))
    assert all(mine == sorted(mine) for mine in members)
    loads = [sum(max(1, sizes[place]) for place in mine) for mine in members]
    assert max(loads) - min(loads) <= max([1, *sizes])


@pytest.fixture
def cluster(tmp_path):
    """Return what runs a command where ``python`` is that of the tests, and Slurm a stand-in."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    programs = {
        'python': f'[ -p "$BEGUN" ] && echo > "$BEGUN"; exec {sys.executable} "$@" $MORE',
        'scontrol': f'echo "$@" >> {tmp_path}/scontrol.log',
    }
    for name, text in programs.items():
        (folder / name).write_text(f'#!/bin/sh\n{text}\n')
        (folder / name).chmod(0o755)
    path = f'{folder}:{os.environ["PATH"]}'
    common = {**os.environ, 'PATH': path, 'PYTHONPATH': str(ROOT), 'STAGGER': '1'}
    common |= {'BEGUN': '', 'MORE': ''}
    return lambda words, **env: subprocess.Popen(words, env={**common, **env}, cwd=tmp_path)


def test_slurm_tasks_convert_parts_and_queue_themselves_again(tmp_path, profile, cluster):
    (tmp_path / 'bags').mkdir()
    for name in 'ab':
        bag(tmp_path / 'bags' / name)
    run([tmp_path / 'bags'], tmp_path / 'whole', profile=profile)
    task = partial(
        cluster,
        ['bash', str(CLUSTER / 'convert.sbatch'), 'bags', '--output', 'out',
         '--set', f'profile={profile}'],
        SLURM_ARRAY_JOB_ID='77', SLURM_ARRAY_TASK_COUNT='2',
    )  # fmt: skip
    os.mkfifo(tmp_path / 'begun')
    stopped = task(SLURM_ARRAY_TASK_ID='1', BEGUN=str(tmp_path / 'begun'))
    (tmp_path / 'begun').read_text()
    stopped.send_signal(signal.SIGUSR1)
    stopped.wait()
    assert (tmp_path / 'scontrol.log').read_text() == 'requeue 77_1\n'
    assert not list(tmp_path.glob('out.parts/*-of-00002'))
    running = [task(SLURM_ARRAY_TASK_ID=number) for number in '12']
    assert [one.wait() for one in running] == [0, 0]
    assert command(['assemble', str(tmp_path / 'out')]) == 0
    assert tree(tmp_path / 'out') == tree(tmp_path / 'whole')


def test_pods_of_an_indexed_job_convert_parts(tmp_path, profile, cluster):
    (tmp_path / 'bags').mkdir()
    bag(tmp_path / 'bags' / 'a')
    run([tmp_path / 'bags'], tmp_path / 'whole', profile=profile)
    documents = yaml.safe_load_all((CLUSTER / 'kubernetes.yaml').read_text())
    convert, assemble = (job['spec'] for job in documents)
    (pod,) = convert['template']['spec']['containers']
    (joining,) = assemble['template']['spec']['containers']
    given = {one['name']: one['value'] for one in pod['env']}
    assert given.keys() == {'BAGS', 'OUTPUT', 'PARTS', 'STAGGER'}
    assert given['PARTS'] == str(convert['completions'])
    assert convert['completionMode'] == 'Indexed'
    places = {'BAGS': str(tmp_path / 'bags'), 'OUTPUT': str(tmp_path / 'out')}
    pods = [
        cluster(
            [*pod['command'], *pod['args']],
            **{**given, **places, 'STAGGER': '1', 'PARTS': '2', 'JOB_COMPLETION_INDEX': index},
            MORE=f'--set profile={profile}',
        )
        for index in '01'
    ]
    assert [one.wait() for one in pods] == [0, 0]
    assert cluster([*joining['command'], *joining['args']], **places).wait() == 0
    assert tree(tmp_path / 'out') == tree(tmp_path / 'whole')
