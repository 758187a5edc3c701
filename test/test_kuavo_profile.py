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

"""
Every Kuavo option does what it says, at the level of the profile.

The expectations are those of the original converter's main branch (LejuRobotics/
kuavo_data_challenge, ``kuavo_data/``), stated anew: joints in radians, 7 of each arm, end effector
after its arm, left before right.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, product
from pathlib import Path
from typing import NamedTuple

from kuavo_bag_converter.alignment.binding import bind
from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.cli.main import run as command
from kuavo_bag_converter.frames.operations import apply_operations
from kuavo_bag_converter.jobs.folders.configuration import configuration, differences, of_today
from kuavo_bag_converter.profiles.dump import profile_as_yaml
from kuavo_bag_converter.profiles.loader import read_profile
from kuavo_bag_converter.profiles.model import Align, Clock
from kuavo_bag_converter.robots.kuavo.branches import BRANCHES
from kuavo_bag_converter.robots.kuavo.options import KuavoOptions
from kuavo_bag_converter.robots.kuavo.profile import kuavo_profile, settled
from kuavo_bag_converter.robots.resolve import resolve
from kuavo_bag_converter.robots.robot import BagTopics
from kuavo_bag_converter.settings import Settings, settings_from, updated
from kuavo_bag_converter.support.errors import BagError, UsageError
import numpy as np
import pytest

EEFS = ('leju_claw', 'qiangnao', 'rq2f85', 'sg100', 'linker_hand')
HAND_JOINTS = {'qiangnao': 6, 'sg100': 11, 'linker_hand': 10}
ARMS = {
    side: tuple(f'zarm_{side[0]}{joint}_link' for joint in range(1, 8))
    for side in ('left', 'right')
}
PLAIN, SYNCED = '/kuavo_arm_traj', '/kuavo_arm_traj_synced'


def profile_of(eef='leju_claw', **values):
    values = {name.replace('__', '.'): value for name, value in values.items()}
    values = {'platform_type': '4pro', 'use_depth': True, 'eef_type': eef} | values
    return kuavo_profile(settings_from(values, 'test').options_of(KuavoOptions))


def feature(profile, key):
    return next(item for item in profile.features if item.key == key)


def parts_of(profile, key, topic):
    """Return the parts of a vector that may come from a topic."""
    return [
        part
        for part in feature(profile, key).parts
        if topic in [source.topic for source in part.sources]
    ]


def hand_names(eef, side, dof):
    if eef in HAND_JOINTS:
        return tuple(f'{side}_{eef}_{i}' for i in range(1, dof + 1))
    return (f'{side}_claw',)


@pytest.mark.parametrize(
    ('eef', 'which_arm', 'dof', 'only_arm'),
    list(product(EEFS, ('left', 'right', 'both'), (1, 2, 6), (True, False))),
)
def test_state_and_action_have_arm_and_end_effector_of_each_side(eef, which_arm, dof, only_arm):
    profile = profile_of(eef, which_arm=which_arm, dex_dof_needed=dof, only_arm=only_arm)
    sides = ('left', 'right') if which_arm == 'both' else (which_arm,)
    names = sum(((*ARMS[side], *hand_names(eef, side, dof)) for side in sides), ())
    base = () if only_arm else ('cmd_pos_x', 'cmd_pos_y', 'cmd_pos_yaw', 'ctrl_change_cmd')
    assert feature(profile, 'observation.state').names == names
    assert feature(profile, 'action').names == names + base
    per_hand = dof if eef in HAND_JOINTS else 1
    assert len(names) == len(sides) * (7 + per_hand)


@pytest.mark.parametrize(
    ('platform', 'joints', 'arms', 'robot_type'),
    [
        ('4pro', 28, range(12, 26), 'kuavo4pro'),
        ('5w', 20, range(4, 18), 'kuavo-5w'),
        ('5', 29, range(13, 27), 'kuavo-5'),
    ],
)
def test_the_platform_says_where_the_arms_are(platform, joints, arms, robot_type):
    profile = profile_of(platform_type=platform)
    assert profile.robot_type == robot_type
    left, right = parts_of(profile, 'observation.state', '/sensors_data_raw')
    assert left.sources[0].fields == ('joint_data.joint_q',)
    assert left.length == right.length == joints
    assert left.select + right.select == tuple(arms)
    assert left.unit == right.unit == ''
    left, right = parts_of(profile, 'action', PLAIN)
    assert left.select + right.select == tuple(range(14))


def test_arm_commands_are_degrees_and_the_synced_topic_comes_first():
    for side, select in (('left', range(7)), ('right', range(7, 14))):
        (part,) = parts_of(profile_of(which_arm=side), 'action', PLAIN)
        assert [source.topic for source in part.sources] == [SYNCED, PLAIN]
        assert {source.fields for source in part.sources} == {('position',)}
        assert (part.length, part.select) == (14, tuple(select))
        np.testing.assert_allclose(apply_operations(part, np.array([[180.0]])), [[np.pi]])


HANDS = {
    'leju_claw': (
        '/leju_claw_state', '/leju_claw_command', 2, {('data.position',)}, {('data.position',)},
    ),
    'qiangnao': (
        '/dexhand/state', '/control_robot_hand_position', 12,
        {('position',), ('left_hand_position', 'right_hand_position')},
        {('left_hand_position', 'right_hand_position')},
    ),
    'rq2f85': (
        '/gripper/state', '/gripper/command', 2,
        {('position',), ('left_position', 'right_position')},
        {('position',), ('left_cmd', 'right_cmd')},
    ),
    'sg100': (
        '/sg100_hand_state', '/sg100_hand_command', 22,
        {('left_hand_positions', 'right_hand_positions')},
        {('left_hand_positions', 'right_hand_positions')},
    ),
    'linker_hand': (
        '/cb_left_hand_state', '/cb_left_hand_control_cmd', None, {('position',)}, {('position',)},
    ),
}  # fmt: skip
FULL = {
    'leju_claw': (100, 100), 'qiangnao': (100, 100), 'rq2f85': (0.8, 255), 'sg100': (1.57, 1.57),
    'linker_hand': (255, 255),
}  # fmt: skip
THRESHOLD = {
    'leju_claw': (50, 50), 'qiangnao': (50, 50), 'rq2f85': (0.4, 70), 'sg100': (0.785, 0.785),
    'linker_hand': (127.5, 127.5),
}  # fmt: skip


@pytest.mark.parametrize('eef', EEFS)
def test_end_effectors_come_from_their_topics_scaled_to_one(eef):
    state, command, length, state_fields, command_fields = HANDS[eef]
    profile = profile_of(eef, dex_dof_needed=2)
    for key, topic, fields, full in (
        ('observation.state', state, state_fields, FULL[eef][0]),
        ('action', command, command_fields, FULL[eef][1]),
    ):
        left, right = (
            parts_of(profile, key, topic.replace('left', side))[-1] for side in ('left', 'right')
        )
        if eef != 'linker_hand':
            left, right = parts_of(profile, key, topic)
        assert {source.fields for source in left.sources} == fields
        assert left.length == right.length == length
        first = {'qiangnao': 6, 'sg100': 11, 'linker_hand': 0}.get(eef, 1)
        assert left.select == ((0, 1) if eef in HAND_JOINTS else (0,))
        assert right.select == ((first, first + 1) if eef in HAND_JOINTS else (1,))
        values = np.array([[0.0], [full / 4], [full]])
        np.testing.assert_allclose(apply_operations(left, values), [[0], [0.25], [1]])


@pytest.mark.parametrize('eef', EEFS)
def test_binary_end_effectors_are_one_above_the_threshold(eef):
    state, command = HANDS[eef][:2]
    profile = profile_of(eef, is_binary=True)
    for key, topic, threshold in (
        ('observation.state', state, THRESHOLD[eef][0]),
        ('action', command, THRESHOLD[eef][1]),
    ):
        parts = parts_of(profile, key, topic)
        assert len(parts) == (1 if eef == 'linker_hand' else 2)
        for part in parts:
            values = np.array([[0.0], [threshold], [threshold * 1.001], [threshold * 2]])
            assert apply_operations(part, values).tolist() == [[0], [0], [1], [1]]
    for part in parts_of(profile, 'observation.state', '/sensors_data_raw'):
        assert part.threshold is None


@pytest.mark.parametrize(('train_hz', 'gap_ms'), [(10, 150), (30, 50), (15, 100)])
def test_base_motion_adds_the_pose_command_and_the_gap_rule(train_hz, gap_ms):
    profile = profile_of(only_arm=False, train_hz=train_hz)
    pose, flag = feature(profile, 'action').parts[-2:]
    (source,) = pose.sources
    assert source.topic == '/cmd_pose_world_synced'
    assert source.fields == ('twist.linear.x', 'twist.linear.y', 'twist.angular.z')
    assert flag.gap_flag
    assert flag.sources[0].topic == PLAIN
    assert flag.align.gap_ms == gap_ms
    arm = parts_of(profile, 'action', PLAIN)[0]
    synced, plain = arm.sources
    assert synced.align is None
    assert (plain.align.gap_ms, plain.align.on_gap) == (gap_ms, 'mark')
    assert profile_of().features[1].parts[0].sources[1].align is None


@pytest.mark.parametrize(
    ('which_arm', 'suffixes'), [('left', 'hl'), ('right', 'hr'), ('both', 'hlr')]
)
@pytest.mark.parametrize('use_depth', [True, False])
def test_cameras_are_the_head_and_the_wrists_in_use(which_arm, suffixes, use_depth):
    profile = profile_of(which_arm=which_arm, use_depth=use_depth, resize__width=848)
    color = {'h': 'head_cam_h', 'l': 'wrist_cam_l', 'r': 'wrist_cam_r'}
    expected = {}
    for s in suffixes:
        expected[f'observation.images.{color[s]}'] = f'/cam_{s}/color/image_raw/compressed'
        if use_depth:
            name = 'image_raw' if s == 'h' else 'image_rect_raw'
            expected[f'observation.depth_{s}'] = f'/cam_{s}/depth/{name}/compressedDepth'
    assert {item.key: item.sources[0].topic for item in profile.cameras} == expected
    assert {item.size for item in profile.cameras} == {(480, 848)}


class Bag(NamedTuple):
    """As much of a reader as binding looks at: topics with one message each."""

    topics: tuple[str, ...]

    @property
    def connections(self):
        return [Connection(i, t, 'a/msg/B', 'cdr', '', '') for i, t in enumerate(self.topics)]

    @property
    def counts(self):
        return dict.fromkeys(self.topics, 1)

    @property
    def connection_counts(self):
        return [1] * len(self.topics)


CAMERA_TOPICS = {
    'observation.images.head_cam_h': [
        '/cam_h/color/image_raw/compressed', '/cam_h/color/compressed', '/cam_h/color/image_raw',
        '/cam_h/color/h265_stream', '/cam_h/color/h264_stream',
        '/camera/color/image_raw/compressed', '/camera/color/image_raw',
        '/zedm/zed_node/left/image_rect_color/compressed',
    ],
    'observation.images.wrist_cam_l': [
        '/cam_l/color/image_raw/compressed', '/cam_l/color/compressed', '/cam_l/color/image_raw',
        '/cam_l/color/h265_stream', '/cam_l/color/h264_stream',
        '/left_wrist_camera/color/image_raw/compressed', '/left_wrist_camera/color/image_raw',
        '/wrist_cam_l/color/image_raw',
    ],
    'observation.images.wrist_cam_r': [
        '/cam_r/color/image_raw/compressed', '/cam_r/color/compressed', '/cam_r/color/image_raw',
        '/cam_r/color/h265_stream', '/cam_r/color/h264_stream',
        '/right_wrist_camera/color/image_raw/compressed', '/right_wrist_camera/color/image_raw',
        '/wrist_cam_r/color/image_raw',
    ],
    'observation.depth_h': [
        '/cam_h/depth/image_raw/compressedDepth', '/cam_h/depth/image_raw/compressed',
        '/cam_h/depth/image_raw', '/camera/depth/image_raw/compressedDepth',
        '/camera/depth/image_raw', '/cam_h/depth/h265_stream',
    ],
    'observation.depth_l': [
        '/cam_l/depth/image_rect_raw/compressedDepth', '/cam_l/depth/image_rect_raw/compressed',
        '/cam_l/depth/image_rect_raw', '/left_wrist_camera/depth/image_rect_raw/compressedDepth',
        '/left_wrist_camera/depth/image_rect_raw', '/cam_l/depth/h265_stream',
    ],
    'observation.depth_r': [
        '/cam_r/depth/image_rect_raw/compressedDepth', '/cam_r/depth/image_rect_raw/compressed',
        '/cam_r/depth/image_rect_raw', '/right_wrist_camera/depth/image_rect_raw/compressedDepth',
        '/right_wrist_camera/depth/image_rect_raw', '/cam_r/depth/h265_stream',
    ],
}  # fmt: skip


@pytest.mark.parametrize('key', CAMERA_TOPICS)
def test_a_camera_is_found_under_every_name_that_robots_give_it(key):
    topics = CAMERA_TOPICS[key]
    camera = feature(profile_of(), key)
    clock = Clock(camera.sources, 30)
    for first in range(len(topics)):
        bag = Bag(('/other', *reversed(topics[first:])))
        bound = bind(replace(profile_of(), clock=clock, features=(camera,)), bag)
        assert bound.cameras[0].source.topic == topics[first]
        assert bound.clock_topic == topics[first]


def test_no_topic_is_of_two_cameras():
    topics = list(chain.from_iterable(CAMERA_TOPICS.values()))
    assert len(set(topics)) == len(topics)


def test_depth_cameras_are_coded_as_asked():
    for asked in ('original', 'range8', 'metric12', 'image16', 'copy', 'minmax8'):
        coding = 'original' if asked == 'minmax8' else asked
        profile = profile_of(depth_coding=asked, depth_range=[100, 900])
        for camera in profile.cameras:
            if 'depth' in camera.key:
                assert (camera.depth, camera.depth_range) == (coding, (100, 900))
            else:
                assert camera.depth == ''


def test_an_unfinished_run_with_the_former_name_of_a_depth_coding_goes_on():
    now = configuration(settings_from({'depth_coding': 'original'}, 'test'))
    assert differences(of_today({**now, 'depth_coding': 'minmax8'}), now) == ''
    assert differences(of_today({**now, 'depth_coding': 'range8'}), now) != ''


def test_the_clock_is_the_main_camera():
    clock = profile_of(
        main_timeline='wrist_cam_r', main_timeline_fps=60, sample_drop=3, decimation='time',
        end_trim='max_end', align__timeline='header',
    ).clock  # fmt: skip
    assert clock.sources == feature(profile_of(), 'observation.images.wrist_cam_r').sources
    assert not clock.most_messages
    assert (clock.source_fps, clock.drop) == (60, 3)
    assert (clock.decimation, clock.end_trim, clock.timeline) == ('time', 'max_end', 'header')
    clock = profile_of(main_timeline='most_messages', which_arm='left').clock
    assert clock.most_messages
    assert clock.sources == sum(
        (feature(profile_of(), f'observation.images.{name}').sources
         for name in ('head_cam_h', 'wrist_cam_l')), (),
    )  # fmt: skip


@pytest.mark.parametrize('eef', list(HAND_JOINTS))
def test_joints_of_a_hand_begin_at_the_offset(eef):
    left = feature(profile_of(eef, dex_dof_needed=3, dex_dof_offset=2), 'action').parts[1]
    assert left.names == tuple(f'left_{eef}_{i}' for i in (3, 4, 5))
    assert left.select == (2, 3, 4)
    assert profile_of('revo2') == profile_of('qiangnao')


def test_a_5w_may_have_its_lower_body_and_base_too():
    profile = profile_of(
        'sg100', platform_type='5w', dex_dof_needed=11, use_head=True,
        **{'5w_wholebody': True, '5w_base_move': True},
    )  # fmt: skip
    lower = tuple(f'lower_body_{i}' for i in (1, 2, 3, 4))
    head = ('head_yaw', 'head_pitch')
    state, action = (feature(profile, key) for key in ('observation.state', 'action'))
    assert state.names == action.names[:-3]
    assert (state.names[-6:-2], state.names[-2:]) == (lower, head)
    assert action.names[-3:] == ('base_vx', 'base_vy', 'base_vyaw')
    assert len(action.names) == 2 * (7 + 11) + 4 + 2 + 3
    *_, of_lower, of_head = state.parts
    assert (of_lower.select, of_head.select) == ((0, 1, 2, 3), (18, 19))
    *_, legs, neck, base = action.parts
    for part, topic, unit in ((legs, '/lb_leg_traj', 'deg2rad'),
                              (neck, '/robot_head_motion_data', 'deg2rad'),
                              (base, '/cmd_vel', '')):  # fmt: skip
        assert ([source.topic for source in part.sources], part.unit) == ([topic], unit)
    on_header = profile_of('sg100', platform_type='5w', align__timeline='header', use_head=True,
                           **{'5w_base_move': True})  # fmt: skip
    without_header = feature(on_header, 'action').parts[-2:]
    assert {part.align.timeline for part in without_header} == {'bag'}


@pytest.mark.parametrize(('platform', 'head'), [('4pro', 26), ('5w', 18), ('5', 27)])
def test_the_head_is_behind_the_arms(platform, head):
    profile = profile_of(platform_type=platform, use_head=True)
    assert feature(profile, 'observation.state').parts[-1].select == (head, head + 1)


@pytest.mark.parametrize(('which_arm', 'count'), [('both', 30), ('left', 15)])
def test_touch_is_a_feature_of_its_own(which_arm, count):
    touch = feature(profile_of('qiangnao', use_tactile=True, which_arm=which_arm),
                    'observation.tactile')  # fmt: skip
    assert len(touch.names) == count
    assert touch.parts[0].sources[0].fields[:4] == (
        'left_hand[0].normal_force1', 'left_hand[0].normal_force2', 'left_hand[0].normal_force3',
        'left_hand[1].normal_force1',
    )  # fmt: skip


def test_there_may_be_more_cameras_on_the_head():
    cameras = profile_of(extra_cameras=['head_cam_r', 'head_cam_l'], use_depth=False).cameras
    assert [camera.key for camera in cameras[-2:]] == [
        'observation.images.head_cam_r', 'observation.images.head_cam_l',
    ]  # fmt: skip
    topics = [source.topic for camera in cameras for source in camera.sources]
    assert len(set(topics)) == len(topics)


def test_the_plain_arm_command_may_be_preferred():
    for part in feature(profile_of(arm_command='plain'), 'action').parts[::2]:
        assert [source.topic for source in part.sources] == [PLAIN, SYNCED]


def test_frames_end_with_every_topic_that_the_original_knows():
    assert set(profile_of().clock.end_topics) == {
        '/sensors_data_raw', '/joint_cmd', PLAIN, SYNCED, '/cmd_pose_world_synced',
        '/leju_claw_state', '/leju_claw_command', '/dexhand/state', '/control_robot_hand_position',
        '/gripper/state', '/gripper/command',
    }  # fmt: skip


def test_rate_and_task_are_those_of_the_settings():
    profile = profile_of(train_hz=15, task_description='Sort coils')
    assert (profile.fps, profile.task) == (15, 'Sort coils')


def test_a_delta_action_is_the_action_minus_the_state():
    assert feature(profile_of(delta_action=True), 'action').minus == 'observation.state'
    assert feature(profile_of(), 'action').minus is None


def test_a_relative_start_is_for_arm_joints_alone():
    profile = profile_of(relative_start=True, only_arm=False)
    for vector in profile.vectors:
        for part in vector.parts:
            assert part.relative_to_start == part.names[0].startswith('zarm')
    assert not any(p.relative_to_start for v in profile_of().vectors for p in v.parts)


def test_a_late_end_effector_command_may_be_zeros_and_then_hold():
    profile = profile_of(late_eef='zeros_then_hold')
    for part in parts_of(profile, 'action', '/leju_claw_command'):
        assert part.align == Align('hold', zeros_before_first=True)
    others = [
        part for vector in profile.vectors for part in vector.parts
        if part.sources[0].topic != '/leju_claw_command'
    ]  # fmt: skip
    assert {part.align for part in others} == {Align()}


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        ({}, Align()),
        ({'align__tolerance_ms': 20.0}, Align(tolerance_ms=20, on_gap='split')),
        ({'align__tolerance_ms': 20.0, 'align__on_gap': 'drop'},
         Align(tolerance_ms=20, on_gap='drop')),
        ({'align__strategy': 'hold', 'align__timeline': 'header'}, Align('hold', 'header')),
    ],
)  # fmt: skip
def test_every_topic_is_aligned_as_asked(values, expected):
    profile = profile_of(**values)
    parts = [part for vector in profile.vectors for part in vector.parts]
    assert {item.align for item in (*parts, *profile.cameras)} == {expected}


def test_linear_is_for_numbers_and_pictures_then_take_the_nearest():
    profile = profile_of(align__strategy='linear')
    assert {p.align.strategy for v in profile.vectors for p in v.parts} == {'linear'}
    assert {camera.align.strategy for camera in profile.cameras} == {'nearest'}


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        (
            {'eef': 'qiangnao', 'dex_dof_needed': 4, 'dex_dof_offset': 3},
            'dex_dof_needed: qiangnao has 6 joints a hand, found 4 from dex_dof_offset 3 on',
        ),
        (
            {'eef': 'sg100', 'dex_dof_needed': 12},
            'dex_dof_needed: sg100 has 11 joints a hand, found 12 from dex_dof_offset 0 on',
        ),
        ({'5w_wholebody': True}, '5w_wholebody: is of platform_type 5w, found 4pro'),
        (
            {'platform_type': '5', '5w_base_move': True},
            '5w_base_move: is of platform_type 5w, found 5',
        ),
        ({'depth_range': [900, 100]}, r'depth_range: expected \[min, max\] in mm'),
        ({'depth_range': [900]}, r'depth_range: expected \[min, max\] in mm'),
        (
            {'which_arm': 'left', 'main_timeline': 'wrist_cam_r'},
            'main_timeline: wrist_cam_r is no',
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        profile_of(**values)


def test_the_end_effector_is_the_one_whose_state_the_bag_has():
    for eef, (state, *_) in HANDS.items():
        topics = BagTopics(['/joint_cmd', state])
        assert settled(KuavoOptions(platform_type='5w'), topics).eef_type == eef
        given = {'platform_type': '4pro', 'use_depth': True}
        assert resolve(settings_from(given, 'test'), [state]) == profile_of(eef)
    given |= {'eef_type': 'rq2f85'}
    assert resolve(settings_from(given, 'test'), []) == profile_of('rq2f85')
    with pytest.raises(BagError, match='no end effector topic in the bag'):
        settled(KuavoOptions(), BagTopics(['/joint_cmd']))
    with pytest.raises(BagError, match='several end effectors in the bag; set eef_type'):
        settled(KuavoOptions(), BagTopics(['/gripper/state', '/dexhand/state']))


@pytest.mark.parametrize(('joints', 'platform'), [(28, '4pro'), (20, '5w'), (29, '5')])
def test_the_robot_is_known_by_its_joints(joints, platform):
    asked = []
    topics = BagTopics(
        ['/sensors_data_raw'], lambda topic, field: asked.append((topic, field)) or joints
    )
    found = settled(KuavoOptions(eef_type='leju_claw'), topics)
    assert (found.platform_type, found.use_depth) == (platform, 'false')
    assert asked == [('/sensors_data_raw', 'joint_data.joint_q')]


def test_a_robot_of_another_number_of_joints_is_asked_for():
    topics = BagTopics(['/sensors_data_raw'], lambda *_: 23)
    with pytest.raises(BagError, match=r'23 elements in joint_data.joint_q, by which '
                       r'platform_type: auto knows 28 \(4pro\), 20 \(5w\), 29 '):  # fmt: skip
        settled(KuavoOptions(eef_type='leju_claw'), topics)


@pytest.mark.parametrize(
    ('which_arm', 'topic', 'found'),
    [
        ('both', '/cam_l/depth/image_rect_raw/compressedDepth', 'true'),
        ('right', '/cam_l/depth/image_rect_raw/compressedDepth', 'false'),
        ('right', '/camera/depth/image_raw', 'true'),
        ('both', '/cam_l/color/image_raw/compressed', 'false'),
    ],
)
def test_depth_is_converted_where_a_camera_in_use_has_it(which_arm, topic, found):
    options = KuavoOptions(platform_type='5w', eef_type='sg100', which_arm=which_arm)
    assert settled(options, BagTopics([topic])).use_depth == found


@pytest.mark.parametrize(
    ('eef', 'which_arm', 'only_arm', 'late_eef', 'tolerance', 'strategy'),
    [
        combination
        for number, combination in enumerate(
            product(EEFS, ('left', 'right', 'both'), (True, False),
                    ('nearest', 'zeros_then_hold'), (0.0, 20.0), ('nearest', 'hold', 'linear'))
        )
        if number % 5 == 0
    ],
)  # fmt: skip
def test_what_the_options_mean_can_be_written_as_a_profile(
    tmp_path, eef, which_arm, only_arm, late_eef, tolerance, strategy
):
    profile = profile_of(
        eef, which_arm=which_arm, only_arm=only_arm, late_eef=late_eef, delta_action=not only_arm,
        relative_start=only_arm, is_binary=which_arm == 'left', depth_coding='metric12',
        align__tolerance_ms=tolerance, align__strategy=strategy,
    )  # fmt: skip
    path = tmp_path / 'kuavo.yaml'
    path.write_text(profile_as_yaml(profile), encoding='utf-8')
    assert read_profile(path) == profile


def test_the_table_of_branches_in_the_docs_is_what_the_command_prints(capsys):
    assert command(['profile', '--branches']) == 0
    printed = capsys.readouterr().out
    assert printed in (Path(__file__).parents[1] / 'docs/original.md').read_text()


def test_the_table_of_robots_in_the_docs_is_what_the_command_prints(capsys):
    assert command(['profile', '--robots']) == 0
    printed = capsys.readouterr().out
    assert printed in (Path(__file__).parents[1] / 'docs/kuavo.md').read_text()
    assert printed.count('\n| 5w | ') == len(EEFS)


def test_the_settings_of_every_branch_make_a_profile():
    for branch in BRANCHES:
        chosen = updated(Settings(), branch.settings, branch.name)
        profile = kuavo_profile(chosen.options_of(KuavoOptions))
        assert profile.clock.decimation == 'jump'
        ends = {'dev': 'max_end', 'research_scenario': 'none'}
        ends |= dict.fromkeys(('letools', 'letools-sg100'), 'max_end')
        assert profile.clock.end_trim == ends.get(branch.name, 'min_end')
        (first, *_) = feature(profile, 'action').parts[0].sources
        assert first.topic == (PLAIN if branch.name.startswith('letools') else SYNCED)
