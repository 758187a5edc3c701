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

"""Any robot by a profile, end to end: what comes out is what was sent, frame by frame."""

from __future__ import annotations

import json
from pathlib import Path
import re

from conversions import alignment, pictures, report, rows, run, same_frames, serving
from dataset_reading import info
from kuavo_bag_converter.alignment.report import PlanReport
from kuavo_bag_converter.cli.main import run as command
from kuavo_bag_converter.jobs.display import plan_summary
from kuavo_bag_converter.profiles.shipped import shipped_profiles
from kuavo_bag_converter.sample.barcode import read_frame_number
from naive_plan import NaivePlan, use_of
from naive_rows import rows_of
import numpy as np
from plain_robot import (
    at,
    BEGIN,
    COLOR,
    depth,
    diagnostics,
    every,
    image,
    imu,
    joint_state,
    joy,
    jpeg,
    MS,
    NS,
    ramps,
    Robot,
    said,
    trajectory,
)
import pyarrow.parquet as pq
import pytest
import yaml

JOINTS = ['j1', 'j2', 'j3']
STATE = {'from': {'topic': '/joint_states', 'field': 'position'}, 'names': JOINTS}
ACTION = {
    'from': {'topic': '/joint_command', 'field': 'position'},
    'names': JOINTS,
    'align': {'strategy': 'hold'},
}
TURN = {
    'from': {'topic': '/imu', 'fields': [f'orientation.{axis}' for axis in 'xyzw']},
    'names': ['x', 'y', 'z', 'w'],
    'align': {'strategy': 'slerp'},
}
SECONDS = 2.0


def robot_of(seconds=SECONDS, hz=30, camera=(), joints=(), command=(), **latency):
    """Return a robot with a camera, joints and commands; the ranges are times without messages."""
    robot = Robot()
    robot.publish(
        '/camera/image_raw', every(hz, seconds, jitter_ms=4, without=camera),
        image('head_cam_h'), latency.get('camera_ms', (0, 0)),
    )  # fmt: skip
    robot.publish(
        '/joint_states', every(125, seconds, 0.0007, jitter_ms=2, without=joints),
        joint_state(ramps(3)), latency.get('joints_ms', (0, 0)),
    )  # fmt: skip
    robot.publish(
        '/joint_command', every(40, seconds, 0.0031, jitter_ms=6, without=command),
        joint_state(ramps(3)), latency.get('command_ms', (0, 0)),
    )  # fmt: skip
    return robot


def profile_of(fps=30, clock=None, cameras=('/camera/image_raw',), state=(STATE,), **keys):
    features = {'observation.state': {'parts': list(state)}, 'action': {'parts': [ACTION]}}
    for topic in cameras:
        key = f'observation.images.{topic.strip("/").partition("/")[0]}'
        features[key] = {'camera': {'from': {'topic': topic}}}
    return {
        'robot_type': 'made_up',
        'fps': fps,
        'task': 'Do it',
        'clock': {'from': {'topic': '/camera/image_raw'}, 'fps': 30, **(clock or {})},
        'features': features,
        **keys,
    }


def converted(tmp_path, robot, profile, **settings):
    """Convert the robot's bag by a profile (or by the name of one) and return the dataset."""
    outcome = attempt(tmp_path, robot, profile, **settings)
    assert outcome.status == 'converted', outcome.reason
    return tmp_path / 'dataset'


def refusal(tmp_path, robot, profile):
    """Return why the robot's bag cannot be converted."""
    outcome = attempt(tmp_path, robot, profile)
    assert outcome.status == 'failed'
    return outcome.reason


def attempt(tmp_path, robot, profile, **settings):
    """Convert and return the outcome of the bag."""
    bag = tmp_path / 'bags' / 'run'
    bag.parent.mkdir(parents=True, exist_ok=True)
    robot.write(bag)
    if isinstance(profile, dict):
        path = tmp_path / 'robot.yaml'
        path.write_text(json.dumps(profile))  # which is YAML too
        profile = path
    done = run(bag, tmp_path / 'dataset', judged=True, profile=str(profile), **settings)
    (outcome,) = done.outcomes
    return outcome


def check(root, robot, profile, piece_of=lambda _: 0):
    """Compare a dataset with the naive plan; return the plan."""
    plan = NaivePlan(robot, profile, piece_of)
    stored = alignment(root)
    assert stored['frame_stamp_ns'].tolist() == [frame.stamp for frame in plan.frames]
    episodes = [n for n, episode in enumerate(plan.episodes) for _ in episode]
    table = rows(root)
    assert stored['episode'].tolist() == table['episode_index'].tolist() == episodes
    assert table['frame_index'].tolist() == [
        number for episode in plan.episodes for number in range(len(episode))
    ]
    check_report(root, plan)
    check_rows(table, robot, profile, plan)
    check_pictures(root, robot, profile, plan)
    return plan


def check_report(root, plan):
    found = report(root)['bags'][0]['plan']
    for use, track in zip(plan.uses, found['tracks'], strict=True):
        expected = plan.report(use)
        assert track['error_ms'] == pytest.approx(expected.pop('error_ms'), abs=2e-6), use
        assert {key: track[key] for key in expected} == expected, use
    inside = [frame for frame in plan.candidates if frame.piece is not None]
    assert found['frames'] == len(plan.frames)
    assert found['episodes'] == len(plan.episodes)
    assert found['candidate_frames'] == len(plan.candidates)
    assert found['frames_outside_segments'] == len(plan.candidates) - len(inside)
    assert found['frames_cut'] == len(inside) - plan.uncut
    assert found['frames_cut_by_end_trim'] == plan.trimmed
    off = [
        abs(frame.stamp - episode[0].stamp - number * NS / plan.fps)
        for episode in plan.episodes
        for number, frame in enumerate(episode)
    ]
    assert found['clock_error_ms'] == pytest.approx(max(off) / MS, abs=2e-6)
    assert found['frames_off_clock'] == sum(one > NS / plan.fps / 2 for one in off)


def check_rows(table, robot, profile, plan):
    for key, expected in rows_of(robot, profile, plan).items():
        np.testing.assert_allclose(table[key], expected, rtol=1.5e-7, atol=1e-7, err_msg=key)


def check_pictures(root, robot, profile, plan):
    for key, feature in profile['features'].items():
        if 'camera' in feature:
            cells = plan.cells(use_of(profile, feature['camera']))
            shown = [read_frame_number(picture)[1] for picture in pictures(root, key)]
            assert shown == [cell.first for cell in cells], key


def check_even(root):
    """Check that within every episode a frame is 1 / fps after the one before, to half of that."""
    stored, fps = alignment(root), info(root)['fps']
    steps = np.diff(stored['frame_stamp_ns'])[np.diff(stored['episode']) == 0]
    assert (np.abs(steps - NS / fps) <= NS / fps / 2).all()
    lengths = np.bincount(stored['episode'])
    assert lengths.tolist() == [entry['length'] for entry in episodes(root)]


def episodes(root):
    """Return the rows of the dataset's list of episodes."""
    return [
        row
        for path in sorted(root.glob('meta/episodes/*/*.parquet'))
        for row in pq.read_table(path).to_pylist()
    ]


def tasks(root):
    """Return the task of every frame."""
    known = pq.read_table(root / 'meta' / 'tasks.parquet').to_pylist()
    names = {row['task_index']: row['task'] for row in known}
    return [names[number] for number in rows(root)['task_index']]


# The shipped profile.


def shipped_robot(encoding='rgb8'):
    robot = Robot()
    robot.publish(
        '/camera/image_raw', every(30, SECONDS, jitter_ms=4),
        image('head_cam_h', encoding), (3, 25),
    )  # fmt: skip
    names = [*(f'joint_{number}' for number in range(1, 7)), 'gripper']
    robot.publish('/joint_states', every(125, SECONDS), joint_state(ramps(7), names), (0, 2))
    robot.publish(
        '/joint_command', every(25, SECONDS - 0.5, 0.3, jitter_ms=9), joint_state(ramps(7)), (0, 2)
    )
    return robot


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8'])
def test_the_shipped_profile_converts_joint_states_and_raw_pictures(tmp_path, encoding):
    robot = shipped_robot(encoding)
    root = converted(tmp_path, robot, 'joint_state_image')
    profile = yaml.safe_load(shipped_profiles()['joint_state_image'].read_text())
    plan = check(root, robot, profile)
    check_even(root)
    assert len(plan.frames) > 30
    assert report(root)['bags'][0]['plan']['tracks'][1]['cut'] > 5  # before the first command
    described = info(root)
    assert described['robot_type'] == 'my_robot'
    assert described['features']['observation.images.front']['shape'] == [480, 640, 3]
    assert set(tasks(root)) == {'Pick the cube'}
    for picture in pictures(root, 'observation.images.front'):
        assert np.abs(picture[300:, 400:].mean(axis=(0, 1)) - COLOR).max() < 8


def test_interpolated_joints_are_those_of_the_frame_and_held_ones_never_of_the_future(tmp_path):
    robot = shipped_robot()
    root = converted(tmp_path, robot, 'joint_state_image')
    table, stamps = rows(root), alignment(root)['frame_stamp_ns']
    moved = (np.arange(7) + 1) * (stamps[:, None] - BEGIN) / NS
    late = 2e-3 * (np.arange(7) + 1)  # by what a message may be late
    assert (moved + np.arange(7) - late <= table['observation.state'] + 1e-6).all()
    assert (table['observation.state'] <= moved + np.arange(7) + 1e-6).all()
    assert (table['action'] <= moved + np.arange(7) + 1e-6).all()
    said = stamps < robot.topics['/joint_command'][-1].received  # the last command lasts
    fresh = moved + np.arange(7) - 0.06 * (np.arange(7) + 1)
    assert (table['action'][said] > fresh[said]).all()
    assert (table['action'][~said] == table['action'][~said][0]).all()


def test_the_example_of_the_reference_converts(tmp_path):
    text = (Path(__file__).parents[1] / 'docs' / 'profiles.md').read_text(encoding='utf-8')
    (tmp_path / 'my_robot.yaml').write_text(re.findall(r'```yaml\n(.*?)```', text, re.DOTALL)[0])
    arm = ['wheel_l', 'wheel_r', *(f'arm_{number}' for number in range(7, 0, -1))]
    robot = Robot()
    robot.publish('/head/image_raw/compressed', every(30, 3), jpeg('head_cam_h'), (5, 20))
    robot.publish('/head/depth/image_raw', every(30, 3, 0.003), depth, (5, 20))
    robot.publish('/joint_states', every(100, 3), joint_state(ramps(9), arm), (0, 3))
    robot.publish('/gripper/state', every(50, 3), joint_state(lambda _, time: [51 * time / NS]))
    robot.publish('/imu', every(100, 3), imu(spinning))
    robot.publish('/arm/trajectory', every(20, 3), trajectory(lambda *_: [180] * 7, arm[2:]))
    robot.publish('/gripper/command', every(20, 3), said([255.0] * 60, 'Float64'))
    robot.publish('/recording', at(0.0, 0.5, 1.5, 2.0), said([False, True, False, True], 'Bool'))
    robot.publish('/prompt', at(0.1, 1.8), said(['Open the drawer', 'Close it']))
    root = converted(tmp_path, robot, tmp_path / 'my_robot.yaml')
    check_even(root)
    assert [entry['tasks'] for entry in episodes(root)] == [['Open the drawer'], ['Close it']]
    table = rows(root)
    fastest_first = 9 - np.arange(7)  # arm_1 is the last of the message
    stamps = alignment(root)['frame_stamp_ns']
    time = (stamps - BEGIN)[:, None] / NS
    moved = table['observation.state'][:, :7] - (fastest_first - 1)
    assert np.abs(moved - fastest_first * time).max() < 0.03 * 9
    assert np.abs(table['observation.state'][:, 7] - time[:, 0] / 5).max() < 0.01
    assert np.abs(table['action'] - [*[np.pi] * 7, 1]).max() < 1e-6
    assert info(root)['features']['observation.depth_head']['shape'] == [120, 160, 1]


# Commands between frames.


def test_commands_mean_between_frames_what_the_profile_says(tmp_path):
    robot = robot_of(3.0)
    still = [(0.9, 1.7)]
    robot.publish('/cmd_vel', every(20, 2.9, 0.2, without=still), joint_state(ramps(2)))
    pulses = {3: 1, 47: 2, 48: 4, 161: 1}
    robot.publish(
        '/buttons', every(100, 2.9, jitter_ms=3),
        joint_state(lambda number, _: [pulses.get(number, 0), number % 7]),
    )  # fmt: skip

    def part(topic, names, **align):
        source = {'topic': topic, 'field': 'position'}
        return {'from': source, 'names': names, 'align': {'strategy': 'hold', **align}}

    stops = {'tolerance_ms': 200, 'on_gap': 'zeros'}
    profile = profile_of(
        10,
        cameras=(),
        state=(
            part('/cmd_vel', ['vx', 'vy'], **stops),
            part('/buttons', ['max_a', 'max_b'], reduce='max'),
            part('/buttons', ['any_a', 'any_b'], reduce='any'),
            {**part('/buttons', ['mean_a', 'mean_b'], reduce='mean'), 'scale': 2},
            part('/buttons', ['last_a', 'last_b'], reduce='last'),
            {**STATE, 'align': {'strategy': 'linear', 'shift': 2}},
        ),
        episodes={'min_episode_s': 0.5},
    )
    late = {**ACTION, 'align': {'strategy': 'hold', 'offset_ms': -40}}
    profile['features']['action'] = {'parts': [late]}
    root = converted(tmp_path, robot, profile)
    plan = check(root, robot, profile)
    found = report(root)['bags'][0]['plan']
    assert found['frames_cut_by_shift'] == 2 == plan.uncut - len(plan.frames)
    velocity, most, *_ = found['tracks']
    assert 5 < velocity['filled_with_zeros'] < 12
    assert most['reduced'] > 20
    assert rows(root)['observation.state'][:, 2].max() == 4
    bag = tmp_path / 'bags' / 'run'
    assert command(['verify', str(root), '--bags', str(bag)]) == 0


# Strategies.


def spinning(number, time):
    """Return a constant turn around a skew axis, written with either sign."""
    half = 1.3 * time / NS
    axis = np.array([2, -1, 2]) / 3
    return np.array([*(axis * np.sin(half)), np.cos(half)]) * (-1) ** (number // 3)


def tumbling(number, time):
    turn = np.random.default_rng(number).normal(size=4)
    return turn / np.linalg.norm(turn)


@pytest.mark.parametrize('timeline', ['bag', 'header'])
def test_orientations_turn_at_an_even_speed_between_two_messages(tmp_path, timeline):
    robot = robot_of(camera_ms=(5, 30))
    robot.publish('/imu', every(12, SECONDS, jitter_ms=20), imu(spinning), (0, 8))
    profile = profile_of(state=(STATE, TURN), cameras=(), align={'timeline': timeline})
    root = converted(tmp_path, robot, profile)
    plan = check(root, robot, profile)
    found = rows(root)['observation.state'][:, 3:]
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-6
    if timeline == 'header':
        cells = plan.cells(use_of(profile, TURN))
        for row, cell, frame in zip(found, cells, plan.frames, strict=True):
            if cell.first != cell.second:
                true = spinning(0, frame.taken - BEGIN)
                assert abs(abs(row @ true) - 1) < 1e-6
                assert min(np.abs(row - true).max(), np.abs(row + true).max()) < 1e-6


def test_any_two_orientations_are_mixed_the_shorter_way(tmp_path):
    robot = robot_of()
    robot.publish('/imu', every(20, SECONDS, jitter_ms=20), imu(tumbling))
    first = {**TURN, 'from': {'topic': '/imu', 'fields': [f'orientation.{a}' for a in 'wxyz']}}
    profile = profile_of(state=(STATE, TURN), cameras=())
    root = converted(tmp_path, robot, profile)
    check(root, robot, profile)
    turned_first = rows(root)['observation.state'][:, 3:]
    other = tmp_path / 'other'
    other.mkdir()
    scalar_first = rows(
        converted(other, robot, profile_of(state=(STATE, first), cameras=()))
    )['observation.state'][:, 3:]  # fmt: skip
    np.testing.assert_allclose(scalar_first, np.roll(turned_first, 1, axis=1), atol=1e-6)


@pytest.mark.parametrize('strategy', ['nearest', 'hold', 'linear'])
@pytest.mark.parametrize('timeline', ['bag', 'header'])
@pytest.mark.parametrize('clock_timeline', ['bag', 'header'])
def test_a_strategy_takes_what_it_promises_on_each_time_line(
    tmp_path, strategy, timeline, clock_timeline
):
    robot = robot_of(camera_ms=(10, 40), joints_ms=(0, 9), command_ms=(0, 4))
    state = {**STATE, 'align': {'strategy': strategy}}
    profile = profile_of(
        fps=15, state=(state,), cameras=(), align={'timeline': timeline},
        clock={'timeline': clock_timeline},
    )  # fmt: skip
    root = converted(tmp_path, robot, profile)
    plan = check(root, robot, profile)
    taken = np.array([frame.taken for frame in plan.frames])
    was = BEGIN + np.rint(rows(root)['observation.state'][:, 0] * NS)
    if timeline == 'header':
        limit = {'nearest': (-6 * MS, 6 * MS), 'hold': (-11 * MS, 300), 'linear': (-300, 300)}
        low, high = limit[strategy]
        assert (low <= was - taken).all()
        assert (was - taken <= high).all()
    else:
        # Pictures arrive late, so that the joints of the moment of receiving are newer.
        assert (was - taken).mean() > 10 * MS
    held = BEGIN + np.rint(rows(root)['action'][:, 0] * NS)
    if timeline == 'header':
        assert (held - taken <= 300).all()


def test_messages_and_pictures_without_header_stamp_are_left_out_of_the_header_time_line(tmp_path):
    robot = Robot()
    robot.publish(
        '/camera/image_raw', every(30, SECONDS), image('head_cam_h'), (5, 9), range(7, 50, 2)
    )
    robot.publish(
        '/joint_states', every(50, SECONDS), joint_state(ramps(3)), (0, 1), range(20, 24)
    )
    robot.publish('/joint_command', every(40, SECONDS), joint_state(ramps(3)))
    profile = profile_of(cameras=(), align={'timeline': 'header'})
    root = converted(tmp_path, robot, profile)
    plan = check(root, robot, profile)
    joints = report(root)['bags'][0]['plan']['tracks'][0]
    assert (joints['topic'], joints['without_header_stamp']) == ('/joint_states', 4)
    assert max(abs(cell.error) for cell in plan.cells(plan.uses[0])) < 60 * MS


def test_a_clock_without_header_stamps_cannot_align_by_them(tmp_path):
    robot = Robot()
    robot.publish('/camera/image_raw', every(30, 1), image('head_cam_h'), unset=range(30))
    robot.publish('/joint_states', every(50, 1), joint_state(ramps(3)))
    robot.publish('/joint_command', every(40, 1), joint_state(ramps(3)))
    text = refusal(tmp_path, robot, profile_of(cameras=(), align={'timeline': 'header'}))
    assert '/camera/image_raw: no message with a header stamp; use timeline: bag' in text


# Joints by name.

ORDERS = [
    ['a', 'b', 'c', 'd'],
    ['d', 'c', 'b', 'a'],
    ['c', 'a', 'd', 'b'],
    ['b', 'd', 'x', 'c', 'a'],
]
SPEED = {'a': 1, 'b': 2, 'c': 3, 'd': 4, 'x': 99}


def shuffled(number):
    return ORDERS[number % len(ORDERS)]


def by_name(number, time):
    """Joint a is 1 rad/s fast, b 2 rad/s and so on, wherever they are in the message."""
    return [SPEED[name] * time / NS for name in shuffled(number)]


def named_robot():
    robot = robot_of()
    robot.publish('/joints', every(120, SECONDS, jitter_ms=2), joint_state(by_name, shuffled))
    commands = trajectory(lambda _, time: [3 * time / NS, time / NS], ['c', 'a'])
    robot.publish('/planned', every(50, SECONDS), commands)
    return robot


@pytest.mark.parametrize('strategy', ['nearest', 'linear'])
def test_joints_chosen_by_name_stay_in_their_columns_whatever_order_they_come_in(
    tmp_path, strategy
):
    robot = named_robot()
    state = {
        'from': {'topic': '/joints', 'field': 'position'}, 'joints': ['b', 'd', 'a'],
        'names': ['elbow', 'wrist', 'hip'], 'align': {'strategy': strategy},
    }  # fmt: skip
    command = {
        'from': {'topic': '/planned', 'field': 'points[0].positions',
                 'names_field': 'joint_names'},
        'joints': ['a', 'c'], 'names': ['hip', 'knee'],
    }  # fmt: skip
    profile = profile_of(state=(state,), cameras=())
    profile['features']['action']['parts'] = [command]
    root = converted(tmp_path, robot, profile)
    check(root, robot, profile)
    table, stamps = rows(root), alignment(root)['frame_stamp_ns']
    time = (stamps[:, None] - BEGIN) / NS
    assert np.abs(table['observation.state'] - time * [2, 4, 1]).max() < 0.05
    assert np.abs(table['action'] - time * [1, 3]).max() < 0.05
    assert info(root)['features']['observation.state']['names'] == ['elbow', 'wrist', 'hip']


def test_joints_name_their_columns_if_nothing_else_does(tmp_path):
    robot = named_robot()
    state = {'from': {'topic': '/joints', 'field': 'position'}, 'joints': ['d', 'a']}
    root = converted(tmp_path, robot, profile_of(state=(state,), cameras=()))
    assert info(root)['features']['observation.state']['names'] == ['d', 'a']


@pytest.mark.parametrize(
    ('names', 'joints', 'words'),
    [
        (['arm_1', 'arm_2'], ['arm_1', 'arm2'], r"has no joint 'arm2' \(in name: arm_1, arm_2\); "
         r"check joints in the profile; did you mean 'arm_2'\?"),
        ([], ['arm_1'], 'has 0 names in name for 2 elements in position; use select where'),
        (['a', 'a'], ['a'], r"has several joints 'a' \(in name: a, a\)"),
    ],
)  # fmt: skip
def test_a_joint_that_is_not_there_is_told_with_those_that_are(tmp_path, names, joints, words):
    robot = robot_of()
    robot.publish('/joints', every(100, SECONDS), joint_state(ramps(2), names))
    state = {'from': {'topic': '/joints', 'field': 'position'}, 'joints': joints}
    text = refusal(tmp_path, robot, profile_of(state=(state,), cameras=()))
    assert re.match(rf'/joints: the message received at 1700000000\.0\d{{8}} {words}', text)


def test_a_joint_that_messages_stop_to_name_ends_its_topic(tmp_path):
    robot = robot_of()
    robot.publish(
        '/joints', every(100, SECONDS),
        joint_state(ramps(2), lambda number: ['a', 'b'] if number < 123 else ['a', 'gripper']),
    )  # fmt: skip
    state = {'from': {'topic': '/joints', 'field': 'position'}, 'joints': ['b']}
    root = converted(tmp_path, robot, profile_of(state=(state,), cameras=()))
    (bag,) = report(root)['bags']
    assert bag['plan']['end_trim_topic'] == '/joints (b)'
    assert bag['plan']['tracks'][0]['passed_by'] == {'without the joint': 77}
    assert serving(root, '/joints (b)').max() == 120


def test_lists_that_name_no_joints_are_refused(tmp_path):
    state = {
        'from': {'topic': '/joint_states', 'field': 'position', 'names_field': 'velocity'},
        'joints': ['a'],
    }
    text = refusal(tmp_path, robot_of(), profile_of(state=(state,), cameras=()))
    said = '/joint_states: velocity is float64[], not a list of texts (observation.state)'
    assert text == said


# Tasks and episodes.


def test_each_frame_has_the_last_task_that_was_said(tmp_path):
    robot = robot_of()
    said_at = at(0.4, 0.7, 1.0, 1.0, 1.6)
    texts = ['Pick', ' Place it ', 'never heard', '拿起', '   ']
    robot.publish('/task', said_at, said(texts))
    profile = profile_of(
        cameras=(), task={'from': {'topic': '/task', 'field': 'data'}, 'default': 'Wait'}
    )
    root = converted(tmp_path, robot, profile)
    plan = check(root, robot, profile)
    expected = []
    for frame in plan.frames:
        heard = [text for time, text in zip(said_at, texts, strict=True)
                 if BEGIN + time <= frame.stamp]  # fmt: skip
        expected.append((heard or [''])[-1].strip() or 'Wait')
    assert tasks(root) == expected
    assert set(expected) == {'Wait', 'Pick', 'Place it', '拿起'}
    assert episodes(root)[0]['tasks'] == ['Wait', 'Pick', 'Place it', '拿起']
    found = report(root)['bags'][0]['plan']
    assert found['frames_with_default_task'] == expected.count('Wait')


def test_a_task_topic_that_is_not_there_or_of_another_type_leaves_the_default(tmp_path):
    robot = robot_of()
    robot.publish('/task', at(0.1), said([7], 'Int32'))
    source = {'topic': '/task', 'field': 'data', 'type': 'std_msgs/msg/String'}
    for place in (source, {**source, 'topic': '/tusk'}):
        folder = tmp_path / place['topic'].strip('/')
        folder.mkdir()
        profile = profile_of(cameras=(), task={'from': place, 'default': 'Wait'})
        root = converted(folder, robot, profile)
        assert set(tasks(root)) == {'Wait'}
        found = report(root)['bags'][0]['plan']
        assert found['frames_with_default_task'] == found['frames'] > 0


FLAGS = [
    (0.3, True), (0.9, False), (0.95, False), (1.2, True), (1.3, True), (1.5, False), (1.8, True),
]  # fmt: skip
SPOKEN = [(0.2, 'Pick'), (0.7, 'Place'), (1.5, 'Pick')]
EVENTS = [
    (0.05, 'stop'), (0.1, 'start'), (0.4, 'stop'), (0.5, 'start'), (0.7, 'bad'), (0.8, 'start'),
    (0.9, 'start'), (1.2, 'stop'), (1.25, 'hello'), (1.3, 'start'), (1.5, 'stop'), (1.55, 'bad'),
    (1.6, 'start'), (1.9, 'stop'), (1.95, 'start'),
]  # fmt: skip
RANGES = [
    {'start_s': 0.1, 'stop_s': 0.5, 'task': 'Pick'},
    {'start_s': 0.5, 'stop_s': 0.8},
    {'start_s': 1.75, 'stop_s': 9.0, 'task': 'Place'},
]


def between(*pieces):
    """Return the piece that holds a stamp, given (first, end) in seconds after the beginning."""

    def piece_of(stamp):
        time = stamp - BEGIN
        for number, (first, end) in enumerate(pieces):
            if round(first * NS) <= time < round(end * NS):
                return number
        return None

    return piece_of


def cut_robot():
    """Return the pictures of this robot come at whole thirtieths, some together with a marker."""
    robot = Robot()
    robot.publish('/camera/image_raw', every(30, SECONDS), image('head_cam_h'))
    robot.publish('/joint_states', every(100, SECONDS + 0.1), joint_state(ramps(3)))
    robot.publish('/joint_command', every(50, SECONDS + 0.1), joint_state(ramps(3)))
    for topic, kind, items in (
        ('/recording', 'Bool', FLAGS),
        ('/prompt', 'String', SPOKEN),
        ('/events', 'String', EVENTS),
    ):
        robot.publish(topic, at(*(t for t, _ in items)), said([v for _, v in items], kind))
    return robot


CUTS = {
    'while_true': (
        {'while_true': {'topic': '/recording', 'field': 'data'}},
        between((0.3, 0.9), (1.2, 1.5), (1.8, 9)),
        ['Do it'] * 3,
        {'rule': 'while_true', 'episodes': 3, 'messages': 7, 'open_at_end': 1, 'outside': 0},
    ),
    'each_message': (
        {'each_message': {'topic': '/prompt'}},
        between((0.2, 0.7), (0.7, 1.5), (1.5, 9)),
        ['Do it'] * 3,
        {'rule': 'each_message', 'episodes': 3, 'messages': 3, 'open_at_end': 1, 'outside': 0},
    ),
    'each_message with text': (
        {'each_message': {'topic': '/prompt', 'field': 'data'}},
        between((0.2, 0.7), (0.7, 1.5), (1.5, 9)),
        ['Pick', 'Place', 'Pick'],
        {'rule': 'each_message', 'episodes': 3, 'messages': 3, 'open_at_end': 1, 'outside': 0},
    ),
    'events': (
        {'events': {'from': {'topic': '/events', 'field': 'data'}, 'start': ['start'],
                    'stop': ['stop'], 'discard': ['bad']}},
        between((0.1, 0.4), (0.9, 1.2), (1.6, 1.9)),
        ['Do it'] * 3,
        {'rule': 'events', 'episodes': 3, 'messages': 15, 'discarded': 2, 'unfinished': 2,
         'without_effect': 1, 'other_texts': 1, 'outside': 0},
    ),
    'events without stop': (
        {'events': {'from': {'topic': '/events', 'field': 'data'}, 'start': ['start'],
                    'discard': ['bad']}},
        between((0.1, 0.5), (0.8, 0.9), (0.9, 1.3), (1.6, 1.95), (1.95, 9)),
        ['Do it'] * 5,
        {'rule': 'events', 'episodes': 5, 'messages': 15, 'discarded': 2, 'unfinished': 0,
         'without_effect': 0, 'other_texts': 6, 'outside': 0},
    ),
    'ranges': (
        {'ranges': RANGES},
        between((0.1, 0.5), (0.5, 0.8), (1.75, 9)),
        ['Pick', 'Do it', 'Place'],
        {'rule': 'ranges', 'episodes': 3, 'beyond_end': 1, 'outside': 0},
    ),
}  # fmt: skip


@pytest.mark.parametrize('rule', CUTS)
def test_a_bag_is_cut_exactly_where_the_rule_says(tmp_path, rule):
    cut, piece_of, names, counted = CUTS[rule]
    robot, profile = cut_robot(), profile_of(episodes=cut, clock={'end_trim': 'none'})
    root = converted(tmp_path, robot, profile)
    plan = check(root, robot, profile, piece_of)
    check_even(root)
    edges = [frames[0].stamp - BEGIN for frames in plan.episodes]
    assert any(round(t * NS) in edges for t in (0.3, 0.7, 0.1, 0.9, 0.5, 1.2)), 'none on an edge'
    assert [entry['tasks'] for entry in episodes(root)] == [[name] for name in names]
    found = report(root)['bags'][0]['plan']
    assert {key: found['cut'][key] for key in counted} == counted
    assert found['segments_without_frames'] == 0


def test_a_button_among_others_cuts_and_a_text_in_a_list_names_the_task(tmp_path):
    robot = robot_of()
    pressed = [(0.2, [0, 0]), (0.4, [1, 1]), (0.9, [1, 0]), (1.2, [0, 1]), (1.5, [1, 0])]
    robot.publish('/joy', at(*(t for t, _ in pressed)), joy([b for _, b in pressed]))
    robot.publish('/diagnostics', at(0, 0.6), diagnostics(['Reach', 'Grasp']))
    profile = profile_of(
        cameras=(),
        task={'from': {'topic': '/diagnostics', 'field': 'status[1].message'}, 'default': 'Wait'},
        episodes={'while_true': {'topic': '/joy', 'field': 'buttons[1]'}},
    )
    root = converted(tmp_path, robot, profile)
    check(root, robot, profile, between((0.4, 0.9), (1.2, 1.5)))
    assert [entry['tasks'] for entry in episodes(root)] == [['Reach', 'Grasp'], ['Grasp']]


@pytest.mark.parametrize(
    ('field', 'words'),
    [
        (
            'buttons',
            'buttons is a list: give an index; a single boolean, number or text is needed',
        ),
        ('header.stamp', 'header.stamp is builtin_interfaces/msg/Time; a single'),
        ('button', "sensor_msgs/msg/Joy has no field 'button'; did you mean 'buttons'?"),
        ('buttons[7]', 'buttons has 2 elements, element 7 of buttons[7] is not there'),
    ],
)
def test_a_marker_without_a_single_value_is_refused(tmp_path, field, words):
    robot = robot_of()
    robot.publish('/joy', at(0.4), joy([[1, 1]]))
    profile = profile_of(episodes={'while_true': {'topic': '/joy', 'field': field}}, cameras=())
    text = refusal(tmp_path, robot, profile)
    assert text.startswith('/joy: ')
    assert words in text


def test_let_annotations_cut_and_name_the_episodes(tmp_path):
    robot = cut_robot()
    marks = [
        {'startPosition': 0.1, 'endPosition': 0.3, 'duration': 0.2 * SECONDS, 'markType': 'step',
         'skillDetail': '拿起', 'enSkillDetail': 'Pick up'},
        {'startPosition': 0.5, 'endPosition': 0.75, 'markType': 'step', 'skillDetail': '放下'},
        {'startPosition': 0.35, 'endPosition': 0.4, 'markType': 'retry', 'skillDetail': 'no'},
        {'startPosition': 0.75, 'endPosition': 1.0},
    ]  # fmt: skip
    (tmp_path / 'bags').mkdir()
    (tmp_path / 'bags' / 'run.json').write_text(json.dumps({'marks': marks}))
    profile = profile_of(episodes={'marks_file': '{bag}.json'}, clock={'end_trim': 'none'})
    root = converted(tmp_path, robot, profile)
    length = (29 * 2 + 1) / 30 + 1e-9  # from the first to the last picture, which counts
    shares = ((0.1, 0.3), (0.5, 0.75), (0.75, 1))
    pieces = [(start * length, stop * length) for start, stop in shares]
    check(root, robot, profile, between(*pieces))
    check_even(root)
    assert [entry['tasks'] for entry in episodes(root)] == [['Pick up'], ['放下'], ['Do it']]
    assert report(root)['bags'][0]['plan']['cut'] == {
        'rule': 'marks_file', 'episodes': 3, 'discarded': 1, 'outside': 0
    }  # fmt: skip


def test_episodes_between_two_pictures_have_no_frames_and_are_counted(tmp_path):
    robot = cut_robot()
    ranges = [{'start_s': 0.101, 'stop_s': 0.102}, {'start_s': 0.5, 'stop_s': 0.9}]
    profile = profile_of(cameras=(), episodes={'ranges': ranges})
    root = converted(tmp_path, robot, profile)
    check(root, robot, profile, between((0.101, 0.102), (0.5, 0.9)))
    found = report(root)['bags'][0]['plan']
    assert (found['cut']['episodes'], found['segments_without_frames']) == (2, 1)
    assert len(episodes(root)) == 1


# Gaps.

HOLES = {
    'joints': {'joints': [(0.5, 0.7), (1.2, 1.5)]},
    'camera': {'camera': [(0.6, 0.85), (1.4, 1.6)]},
    'both': {'joints': [(0.5, 0.7)], 'camera': [(0.65, 0.9), (1.2, 1.3)]},
    'start': {'joints': [(0, 0.4)]},
    'end': {'joints': [(1.6, 2)]},
}


@pytest.mark.parametrize('holes', HOLES)
@pytest.mark.parametrize('on_gap', ['split', 'drop', 'hold', 'keep', 'mark'])
@pytest.mark.parametrize('strategy', ['nearest', 'linear', 'hold'])
def test_holes_are_cut_filled_or_kept_but_never_closed_up(tmp_path, strategy, on_gap, holes):
    robot = robot_of(**HOLES[holes], camera_ms=(0, 5))
    state = {**STATE, 'align': {'strategy': strategy, 'on_gap': on_gap}}
    profile = profile_of(
        fps=15, state=(state,), cameras=('/camera/image_raw',) if strategy == 'hold' else (),
        align={'tolerance_ms': 60, 'on_gap': 'split' if on_gap == 'mark' else on_gap},
        clock={'end_trim': 'none'},
    )  # fmt: skip
    root = converted(tmp_path, robot, profile)
    plan = check(root, robot, profile)
    check_even(root)
    if on_gap == 'drop':
        assert len(plan.episodes) == 1


@pytest.mark.parametrize(
    ('align', 'words'),
    [
        ({'tolerance_ms': 60}, r'3 frames .* frame 8 \(0\.5\d+ s\): what would serve it is 8\d\.'),
        ({'gap_ms': 100}, r'5 frames .* frame 7 \(0\.4\d+ s\): it lies between two messages more'),
        (
            {'strategy': 'linear', 'tolerance_ms': 60},
            r'5 frames .* frame 7 \(0\.4\d+ s\): what would serve it is 28\d\.',
        ),
    ],
)
def test_a_gap_that_must_not_be_fails_the_bag(tmp_path, align, words):
    robot = robot_of(joints=[(0.45, 0.75)])
    state = {**STATE, 'align': {**align, 'on_gap': 'fail'}}
    text = refusal(tmp_path, robot, profile_of(fps=15, state=(state,), cameras=()))
    assert re.match(f'/joint_states: {words}', text)


def test_a_gap_outside_of_every_episode_fails_nothing(tmp_path):
    robot = robot_of(joints=[(0.5, 0.7)])
    robot.publish('/recording', at(0.0, 0.4, 0.8), said([True, False, True], 'Bool'))
    state = {**STATE, 'align': {'tolerance_ms': 50, 'on_gap': 'fail'}}
    profile = profile_of(
        fps=15, state=(state,), cameras=(), episodes=CUTS['while_true'][0], clock={'drop': 1}
    )
    root = converted(tmp_path, robot, profile)
    check(root, robot, profile, between((0, 0.4), (0.8, 9)))
    check_even(root)


def test_what_is_held_fails_where_nothing_is_before_it(tmp_path):
    robot = robot_of(command=[(0, 0.5)])
    profile = profile_of(cameras=())
    profile['features']['action']['parts'] = [
        {**ACTION, 'align': {'strategy': 'hold', 'on_gap': 'fail'}}
    ]
    text = refusal(tmp_path, robot, profile)
    assert '/joint_command: ' in text
    assert 'the first at frame 0 (0.000 s): nothing is before it' in text


# Differences.

CELLS = {
    'marked action': ({}, {'on_gap': 'mark', 'tolerance_ms': 40}),
    'marked state': ({'on_gap': 'mark', 'tolerance_ms': 40}, {}),
    'zeros before the action': ({}, {'strategy': 'hold', 'zeros_before_first': True}),
    'zeros before the state': ({'strategy': 'hold', 'zeros_before_first': True}, {}),
    'zeros and marks': (
        {'on_gap': 'mark', 'gap_ms': 60},
        {'strategy': 'hold', 'zeros_before_first': True, 'on_gap': 'mark', 'tolerance_ms': 40},
    ),
}


@pytest.mark.parametrize('chunk_size', [1, 7, 100])
@pytest.mark.parametrize('relative', [False, True])
@pytest.mark.parametrize('cells', CELLS)
def test_what_is_filled_in_is_no_number_to_reckon_with(tmp_path, cells, relative, chunk_size):
    robot = robot_of(joints=[(0, 0.3), (0.9, 1.1)], command=[(0, 0.25), (0.8, 1.05), (1.4, 1.6)])
    robot.publish('/recording', at(0.2, 1.0, 1.2), said([True, False, True], 'Bool'))
    of_state, of_action = CELLS[cells]
    profile = profile_of(
        fps=20, cameras=(), episodes=CUTS['while_true'][0],
        state=({**STATE, 'relative_to_start': relative, 'align': of_state},),
    )  # fmt: skip
    action = {
        **ACTION, 'names': ['j3', 'j2', 'other'],
        'relative_to_start': relative, 'align': of_action,
    }  # fmt: skip
    profile['features']['action'] = {'parts': [action], 'minus': 'observation.state'}
    root = converted(tmp_path, robot, profile, chunk_size=chunk_size)
    plan = check(root, robot, profile, between((0.2, 1.0), (1.2, 9)))
    table = rows(root)
    kinds = {cell.fill for frame in plan.frames for cell in frame.cells}
    assert kinds > {''}
    for key, sort, number in (('action', 'mark', 999), ('action', 'zeros', 0)):
        filled = [cell.fill == sort for cell in plan.cells(use_of(profile, action))]
        assert (table[key][filled] == number).all()
    assert np.abs(table['action'][table['action'] != 999]).max() < 50


def test_operations_are_done_in_their_order_and_rounded_once(tmp_path):
    robot = robot_of()
    parts = [
        {'from': {'topic': '/joint_states', 'field': 'position'},
         'length': 3, 'select': [2, '0:2'],
         'names': ['a', 'b', 'c'], 'unit': 'rad2deg', 'range': [-20, 70.5], 'scale': -1.5,
         'offset': 1e6, 'relative_to_start': True, 'align': {'strategy': 'linear'}},
        {'from': {'topic': '/joint_command', 'field': 'position'}, 'select': [1], 'names': ['d'],
         'unit': 'deg2rad', 'scale': 57, 'threshold': 2.5},
        {'from': {'topic': '/joint_command'}, 'names': ['late'], 'gap_flag': True,
         'align': {'gap_ms': 27}},
    ]  # fmt: skip
    profile = profile_of(cameras=(), state=parts)
    root = converted(tmp_path, robot, profile)
    check(root, robot, profile)
    table = rows(root)['observation.state']
    assert set(table[:, 3]) == set(table[:, 4]) == {0.0, 1.0}


def everything():
    """Return a robot and a profile with something of all that a profile can say."""
    robot = named_robot()
    robot.publish('/imu', every(30, SECONDS, jitter_ms=9), imu(tumbling), (0, 8))
    robot.publish('/left/image_raw', every(12, SECONDS), image('wrist_cam_l', 'bgr8'), (2, 9))
    robot.publish('/events', at(*(t for t, _ in EVENTS)), said([text for _, text in EVENTS]))
    robot.publish('/task', at(0.3, 1.1), said(['Pick', 'Place']))
    joints = {
        'from': {'topic': '/joints', 'field': 'position'}, 'joints': ['d', 'b', 'a'],
        'names': JOINTS, 'relative_to_start': True,
        'align': {'strategy': 'linear', 'timeline': 'header'},
    }  # fmt: skip
    profile = profile_of(
        fps=20, state=(joints, TURN), cameras=('/camera/image_raw', '/left/image_raw'),
        task={'from': {'topic': '/task', 'field': 'data'}, 'default': 'Wait'},
        episodes=CUTS['events'][0],
    )  # fmt: skip
    held = {**ACTION, 'align': {'strategy': 'hold', 'tolerance_ms': 22, 'on_gap': 'mark'}}
    profile['features']['action'] = {'parts': [held], 'minus': 'observation.state'}
    return robot, profile


def test_every_method_agrees_on_a_profile_with_something_of_everything(tmp_path):
    robot, profile = everything()
    found = {}
    for method, chunk_size in (('chunked', 3), ('streaming', 50), ('whole_bag', 50)):
        folder = tmp_path / method
        folder.mkdir()
        root = converted(folder, robot, profile, method=method, chunk_size=chunk_size)
        check(root, robot, profile, CUTS['events'][1])
        check_even(root)
        found[method] = same_frames(root)
    assert found['chunked'] == found['streaming'] == found['whole_bag']
    assert 999 in rows(root)['action']


# Rates.


@pytest.mark.parametrize('fps', [30, 25, 24, 60, 7, 10])
def test_cameras_of_mixed_rates_share_an_even_clock(tmp_path, fps):
    robot = Robot()
    rates = {'/camera/image_raw': 60, '/left/image_raw': 10, '/right/image_raw': 30}
    for (topic, hz), name in zip(
        rates.items(), ('head_cam_h', 'wrist_cam_l', 'wrist_cam_r'), strict=True
    ):
        robot.publish(topic, every(hz, 1.5, jitter_ms=2), image(name), (2, 6))
    robot.publish('/joint_states', every(125, 1.5), joint_state(ramps(3)))
    robot.publish('/joint_command', every(50, 1.5), joint_state(ramps(3)))
    profile = profile_of(fps=fps, clock={'fps': 60}, cameras=tuple(rates))
    root = converted(tmp_path, robot, profile)
    plan = check(root, robot, profile)
    check_even(root)
    found = report(root)['bags'][0]['plan']
    divides = 60 % fps == 0
    assert found['decimation'] == ('jump' if divides else 'time')
    stamps = alignment(root)['frame_stamp_ns']
    off = np.abs(stamps - stamps[0] - np.arange(len(stamps)) * NS / fps).max()
    assert off <= (7 * MS if divides else 1)
    slow = report(root)['bags'][0]['plan']['tracks'][plan.uses.index(
        next(use for use in plan.uses if use.topic == '/left/image_raw'))]  # fmt: skip
    if fps >= 24:
        assert slow['repeated'] > len(plan.frames) * (1 - 12 / fps) - 2
    assert (np.diff(rows(root)['timestamp']) > 0).all()


def test_a_camera_that_skips_pictures_does_not_bend_time(tmp_path):
    robot = robot_of(camera=[(0.5, 0.62), (1.1, 1.3)])
    profile = profile_of()
    root = converted(tmp_path, robot, profile)
    plan = check(root, robot, profile)
    check_even(root)
    found = report(root)['bags'][0]['plan']
    assert found['decimation'] == 'time'
    (camera,) = [track for track in found['tracks'] if track['topic'] == '/camera/image_raw']
    assert camera['repeated'] > 5
    assert camera['beyond_full_frame'] > 3
    assert camera['error_ms']['max'] > 90
    assert len(plan.episodes) == 1


def test_a_jump_over_lost_pictures_bends_time_and_says_so(tmp_path):
    robot = robot_of(camera=[(0.5, 0.8)])
    profile = profile_of(fps=10, cameras=(), clock={'decimation': 'jump'})
    root = converted(tmp_path, robot, profile)
    check(root, robot, profile)
    plan = report(root)['bags'][0]['plan']
    assert plan['clock_error_ms'] > 290
    assert plan['frames_off_clock'] > 10
    assert re.search(
        r'; \d+ frames more than half a frame from index / fps',
        plan_summary(PlanReport.from_json(plan)),
    )


def test_an_automatic_clock_is_even_to_half_a_frame_from_any_frame_to_the_next(tmp_path):
    robot = Robot()
    late = every(10, SECONDS)
    late[5] -= 40 * MS
    late[6] += 40 * MS
    robot.publish('/camera/image_raw', late, image('head_cam_h'))
    robot.publish('/joint_states', every(50, SECONDS), joint_state(ramps(3)))
    robot.publish('/joint_command', every(40, SECONDS), joint_state(ramps(3)))
    profile = profile_of(fps=10, cameras=(), clock={'fps': 10})
    root = converted(tmp_path, robot, profile)
    check(root, robot, profile)
    check_even(root)
    assert report(root)['bags'][0]['plan']['decimation'] == 'time'
