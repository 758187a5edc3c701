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

"""A profile drafted from a bag converts that bag, and says what a person has to know."""

from __future__ import annotations

import shlex

from conversions import pictures, rows
from dataset_reading import info
from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.profiles.loader import read_profile
from kuavo_bag_converter.sample.write import write_sample
import numpy as np
from plain_robot import BEGIN, depth, every, image, imu, joint_state, jpeg, NS, ramps, Robot, said
import pyarrow.parquet as pq
import pytest

SECONDS = 1.0
ARM = ('elbow', 'shoulder', 'wrist')


def robot_of(cameras=('/front/image_raw',), joints=('/joint_states',), commands=()):
    robot = Robot()
    for topic in cameras:
        robot.publish(topic, every(30, SECONDS), image('head_cam_h', size=(48, 64)))
    for topic in (*joints, *commands):
        robot.publish(topic, every(100, SECONDS, 0.0003), joint_state(ramps(3), ARM))
    return robot


def drafted(tmp_path, capsys, robot):
    """Write the robot's bag, draft a profile; return it, its text and what was printed."""
    bag = robot.write(tmp_path / 'run')
    profile = tmp_path / 'my_robot.yaml'
    capsys.readouterr()
    assert cli.run(['init', str(bag), '-o', str(profile)]) == 0
    return read_profile(profile), profile.read_text(), capsys.readouterr().out.splitlines()


def commands_of(lines, root):
    """Return the commands that are advised, for a dataset at ``root``."""
    begin = lines.index('next') + 1
    words = [shlex.split(line) for line in lines[begin:][:2]]
    assert all(word[:3] == ['python', '-m', 'kuavo_bag_converter'] for word in words)
    return [[str(root) if word == 'DIR' else word for word in each[3:]] for each in words]


def carry_out(tmp_path, lines):
    """Run the commands that are advised; return the dataset."""
    root = tmp_path / 'dataset'
    for command in commands_of(lines, root):
        assert cli.run(command) == 0
    return root


def keys_of(profile):
    return [feature.key for feature in profile.features]


def test_three_commands_lead_from_a_strangers_bag_to_a_verified_dataset(tmp_path, capsys):
    robot = robot_of(
        cameras=('/camera_left/image_raw', '/head/image_raw'), commands=('/arm/command',)
    )
    profile, text, lines = drafted(tmp_path, capsys, robot)
    assert keys_of(profile) == [
        'observation.state', 'action', 'observation.images.head', 'observation.images.left'
    ]  # fmt: skip
    assert profile.clock.sources[0].topic == '/head/image_raw'
    assert (profile.fps, profile.robot_type) == (30, 'my_robot')
    assert '100.0 Hz' in text
    assert 'rgb8 64x48' in text
    root = carry_out(tmp_path, lines)
    names = info(root)['features']['observation.state']['names']
    assert names == list(ARM)
    state = np.stack(rows(root)['observation.state'])
    stamps = np.array(robot.stamps('/head/image_raw', 'header')[1:], dtype=np.int64)[: len(state)]
    times = (stamps - BEGIN) / NS
    expected = np.arange(3) + times[:, None] * [1, 2, 3]
    # Joint k turns by k + 1 rad/s, and its message is at most half a period of 10 ms off.
    off = np.abs(state - expected).max(axis=0)
    assert (off < 0.0055 * np.array([1, 2, 3])).all()
    assert sum(1 for _ in pictures(root, 'observation.images.left')) == len(state)


def test_two_arms_with_equal_joint_names_keep_apart(tmp_path, capsys):
    topics = ('/left/joint_states', '/right/joint_states')
    profile, _, lines = drafted(tmp_path, capsys, robot_of(joints=topics))
    (state,) = [vector for vector in profile.vectors if vector.key == 'observation.state']
    assert [name for part in state.parts for name in part.names] == [
        f'{side}_joint_states_{joint}' for side in ('left', 'right') for joint in ARM
    ]
    carry_out(tmp_path, lines)


def test_without_commands_the_action_is_the_next_state(tmp_path, capsys):
    _, text, lines = drafted(tmp_path, capsys, robot_of())
    assert 'the action is the next state' in text
    table = rows(carry_out(tmp_path, lines))
    state, action = np.stack(table['observation.state']), np.stack(table['action'])
    assert (action[:-1] == state[1:]).all()


def test_names_of_all_nodes_on_a_topic_are_found(tmp_path, capsys):
    robot = robot_of(joints=())
    names = lambda number: ARM if number % 2 else ('left', 'mid', 'right')  # noqa: E731
    robot.publish('/joint_states', every(100, SECONDS), joint_state(ramps(3), names))
    profile, _, lines = drafted(tmp_path, capsys, robot)
    assert set(profile.vectors[0].names) == {*ARM, 'left', 'mid', 'right'}
    carry_out(tmp_path, lines)


def test_a_topic_that_a_conversion_would_refuse_is_left_out_with_the_reason(tmp_path, capsys):
    robot = robot_of(commands=('/command',))
    lengths = lambda number, _: [0.0] * (2 + number % 2)  # noqa: E731
    robot.publish('/fingers/state', every(50, SECONDS), joint_state(lengths))
    _, text, lines = drafted(tmp_path, capsys, robot)
    assert any(line.startswith('left out  /fingers/state: ') for line in lines)
    assert '#   /fingers/state: ' in text
    carry_out(tmp_path, lines)


def test_joints_that_another_topic_has_with_more_are_taken_once(tmp_path, capsys):
    robot = robot_of()
    robot.publish('/gripper', every(50, SECONDS), joint_state(ramps(1), ('wrist',)))
    profile, text, _ = drafted(tmp_path, capsys, robot)
    assert profile.vectors[0].names == ARM
    assert '#   /gripper: /joint_states has its joints and more' in text


def test_pictures_of_a_camera_that_are_there_twice_are_taken_once(tmp_path, capsys):
    robot = robot_of()
    robot.publish('/front/image_raw/compressed', every(30, SECONDS), jpeg('head_cam_h'))
    profile, _, lines = drafted(tmp_path, capsys, robot)
    assert [camera.sources[0].topic for camera in profile.cameras] == [
        '/front/image_raw/compressed'
    ]
    assert 'left out  /front/image_raw: shows what /front/image_raw/compressed shows' in lines


def test_odd_pictures_depth_imu_and_a_task_find_their_place(tmp_path, capsys):
    robot = robot_of(cameras=())
    robot.publish('/front/image_raw', every(30, SECONDS), image('head_cam_h', size=(49, 65)))
    robot.publish('/front/depth/image_raw', every(30, SECONDS), depth)
    robot.publish('/imu', every(100, SECONDS), imu(lambda *_: (0, 0, 0, 1)))
    robot.publish('/task', every(1, SECONDS), said(['stack the cups']))
    profile, text, lines = drafted(tmp_path, capsys, robot)
    color, deep = profile.cameras
    assert (color.key, color.fit) == ('observation.images.front', 'pad')
    assert (deep.key, deep.depth) == ('observation.images.front_depth', 'metric12')
    assert profile.task_sources[0].topic == '/task'
    assert '  # observation.imu:' in text
    root = carry_out(tmp_path, lines)
    assert {color.key, deep.key} <= info(root)['features'].keys()
    tasks = pq.read_table(root / 'meta/tasks.parquet')
    assert tasks['task'].to_pylist() == ['stack the cups']


def test_what_is_advised_can_be_typed_wherever_the_files_are(tmp_path, capsys):
    folder = tmp_path / 'my lab'
    for name in ('1', '2'):
        robot_of(cameras=()).write(folder / 'runs' / name)
    profile = folder / 'robot.yaml'
    assert cli.run(['init', str(folder / 'runs'), '-o', str(profile)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (others,) = (line for line in lines if '1 other recording there' in line)
    inspect = shlex.split(others.partition('python -m kuavo_bag_converter ')[2])
    assert inspect == ['inspect', str(folder / 'runs'), '--profile', str(profile)]
    carry_out(tmp_path, lines)


def test_a_kuavo_is_told_of_its_own_profile(tmp_path, capsys):
    bag = tmp_path / 'sample.bag'
    write_sample(bag, seconds=2.5, size=(60, 80), depth=False, extras=False)
    assert cli.run(['init', str(bag), '-o', str(tmp_path / 'robot.yaml')]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert 'or as kuavo, which fits as well' in lines
    carry_out(tmp_path, lines)


@pytest.mark.parametrize(
    ('name', 'said_of_it'),
    [('robot.txt', 'a profile is a file that ends in .yaml'), ('there.yaml', 'exists already')],
)
def test_a_file_that_is_no_profile_or_is_there_is_not_written(tmp_path, capsys, name, said_of_it):
    bag = robot_of().write(tmp_path / 'run')
    (tmp_path / 'there.yaml').write_text('mine')
    assert cli.run(['init', str(bag), '-o', str(tmp_path / name)]) == 2
    assert said_of_it in capsys.readouterr().err
    assert (tmp_path / 'there.yaml').read_text() == 'mine'
    assert not (tmp_path / 'robot.txt').exists()


def test_a_bag_without_pictures_and_numbers_is_an_error_in_one_line(tmp_path, capsys):
    robot = Robot().publish('/task', every(5, SECONDS), said(['stack the cups'] * 5))
    bag = robot.write(tmp_path / 'run')
    assert cli.run(['init', str(bag), '-o', str(tmp_path / 'robot.yaml')]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert 'holds neither pictures nor joints' in line
    assert '/task' in line
