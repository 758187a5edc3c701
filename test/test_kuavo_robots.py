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
Every robot and end effector of today: what is converted is what the messages of a sample hold.

The layout of rows is stated anew here, as the successor of the original converter has it: arm and
end effector of each side, then lower body, head and base.
"""

from __future__ import annotations

from bag_edits import copied
from conversions import alignment, report, rows, run, serving, write_samples
from dataset_reading import info
from kuavo_bag_converter.cli.main import run as command
from kuavo_bag_converter.sample.write import write_sample
from kuavo_bag_converter.support.errors import UsageError
import numpy as np
import pytest

SMALL = {'resize__width': 80, 'resize__height': 60, 'sample_drop': 1}
TINY = {'seconds': 1.2, 'size': (60, 80)}
START = {'4pro': 12, '5w': 4, '5': 13}


class Served:
    """The values of the messages that serve the frames of a dataset."""

    def __init__(self, root, truth):
        self._root = root
        self._truth = truth

    def __call__(self, topic, *fields):
        known = self._truth.topics[topic]
        times = known.time[serving(self._root, topic)]
        return np.concatenate([known.ramps[field].at(times) for field in fields], axis=1)


def both(arms, hands):
    """Put the left arm before its hand, then the right one; both of shape (frames, 2 n)."""
    width = hands.shape[1] // 2
    return [arms[:, :7], hands[:, :width], arms[:, 7:], hands[:, width:]]


def check(root, state, action):
    table = rows(root)
    for key, parts in (('observation.state', state), ('action', action)):
        expected = np.concatenate(parts, axis=1).astype(np.float32)
        found = table[key].astype(np.float32)
        assert found.shape == expected.shape, key
        assert (found == expected).all(), key
        assert len(found) > 5


def test_a_competition_bag_converts_by_itself(tmp_path):
    """5W, SG100, both arm commands, no depth: the layout of the simulated competition."""
    bag = tmp_path / 'round.bag'
    truth = write_sample(
        bag, **TINY, platform_type='5w', eef_type='sg100', whole_body=True, depth=False,
        simulator=True, storage='bag',
    )  # fmt: skip
    out = tmp_path / 'out'
    assert run(bag, out, judged=True, **SMALL, dex_dof_needed=11).exit_code == 0
    at = Served(out, truth)
    joints = at('/sensors_data_raw', 'joint_data.joint_q')
    hands = ('left_hand_positions', 'right_hand_positions')
    arms = np.deg2rad(at('/kuavo_arm_traj_synced', 'position'))
    check(
        out,
        both(joints[:, 4:18], at('/sg100_hand_state', *hands) / 1.57),
        both(arms, at('/sg100_hand_command', *hands) / 1.57),
    )
    assert info(out)['robot_type'] == 'kuavo-5w'
    assert not [key for key in info(out)['features'] if 'depth' in key]


def test_a_5w_has_lower_body_head_and_base(tmp_path):
    bag = tmp_path / 'bag'
    truth = write_sample(
        bag, **TINY, platform_type='5w', eef_type='sg100', whole_body=True, depth=False,
        storage='mcap',
    )  # fmt: skip
    out = tmp_path / 'out'
    options = {'5w_wholebody': True, '5w_base_move': True, 'use_head': True}
    given = {**SMALL, **options, 'arm_command': 'plain', 'end_trim': 'none'}
    assert run(bag, out, judged=True, **given).exit_code == 0
    at = Served(out, truth)
    joints = at('/sensors_data_raw', 'joint_data.joint_q')
    hands = ('left_hand_positions', 'right_hand_positions')
    first = [0, 11]  # dex_dof_needed 1
    arms = np.deg2rad(at('/kuavo_arm_traj', 'position'))
    base = at('/cmd_vel', 'linear.x', 'linear.y', 'angular.z')
    head = truth.topics['/robot_head_motion_data']
    last = np.searchsorted(head.receive, alignment(out)['frame_stamp_ns'], side='right') - 1
    turns = np.deg2rad(head.ramps['joint_data'].at(head.time[np.maximum(last, 0)]))
    turns[last < 0] = 0
    check(
        out,
        [*both(joints[:, 4:18], at('/sg100_hand_state', *hands)[:, first] / 1.57),
         joints[:, :4], joints[:, 18:]],
        [*both(arms, at('/sg100_hand_command', *hands)[:, first] / 1.57),
         np.deg2rad(at('/lb_leg_traj', 'position')), turns, base],
    )  # fmt: skip


def test_the_arm_command_that_was_not_taken_is_said(tmp_path):
    """A competition bag has both; how far they differ is known from the truth."""
    bag = tmp_path / 'bag'
    truth = write_sample(bag, **TINY, whole_body=True, depth=False, storage='mcap')
    for number, (taken, other) in enumerate(
        [
            ('/kuavo_arm_traj_synced', '/kuavo_arm_traj'),
            ('/kuavo_arm_traj', '/kuavo_arm_traj_synced'),
        ]
    ):
        out = tmp_path / str(number)
        prefer = 'plain' if number else 'synced'
        assert run(bag, out, judged=True, **SMALL, arm_command=prefer).exit_code == 0
        of_taken, of_other = truth.topics[taken], truth.topics[other]
        at = serving(out, taken)
        near = [np.abs(of_other.receive - of_taken.receive[one]).argmin() for one in at]
        off = np.abs(
            of_taken.ramps['position'].at(of_taken.time[at])
            - of_other.ramps['position'].at(of_other.time[near])
        )
        off = np.deg2rad(off)
        (line,) = (text for text in report(out)['bags'][0]['problems'] if taken in text)
        assert line == (
            f'{taken}: taken for action; {other} is in the bag, too, and differs by '
            f'{np.median(off):.2g} at the median, {off.max():.2g} at most'
        )


@pytest.mark.parametrize('which_arm', ['both', 'right'])
def test_linker_hands_have_a_topic_each(tmp_path, which_arm):
    bag = tmp_path / 'bag'
    truth = write_sample(bag, **TINY, eef_type='linker_hand', depth=False, storage='mcap')
    out = tmp_path / 'out'
    dof = {'dex_dof_needed': 4, 'dex_dof_offset': 3}
    assert run(bag, out, judged=True, **SMALL, **dof, which_arm=which_arm).exit_code == 0
    at = Served(out, truth)
    joints = at('/sensors_data_raw', 'joint_data.joint_q')
    arms = np.deg2rad(at('/kuavo_arm_traj', 'position'))
    state, action = [], []
    for number, side in enumerate(('left', 'right')):
        if which_arm in (side, 'both'):
            of_side = slice(12 + 7 * number, 19 + 7 * number)
            hand = at(f'/cb_{side}_hand_state', 'position')[:, 3:7] / 255
            state += [joints[:, of_side], hand]
            hand = at(f'/cb_{side}_hand_control_cmd', 'position')[:, 3:7] / 255
            action += [arms[:, slice(7 * number, 7 * number + 7)], hand]
    check(out, state, action)


def test_touch_is_15_normal_forces_a_hand(tmp_path):
    bag = tmp_path / 'bag.bag'
    write_sample(bag, **TINY, eef_type='qiangnao', depth=False, storage='bag')
    out = tmp_path / 'out'
    assert run(bag, out, judged=True, **SMALL, use_tactile=True, eef_type='revo2').exit_code == 0
    touch = rows(out)['observation.tactile']
    counted = serving(out, '/dexhand/touch_state')[:, None] + np.arange(15)
    assert (touch == np.concatenate([counted, counted + 1000], axis=1)).all()
    names = info(out)['features']['observation.tactile']['names']
    assert names[:4] == ['left_thumb_1', 'left_thumb_2', 'left_thumb_3', 'left_index_1']


def test_what_auto_settles_must_hold_for_every_bag_of_a_run(tmp_path):
    with_depth = {'eef_type': 'leju_claw', 'storage': 'bag'}
    bags = write_samples(tmp_path, 1, **TINY, **with_depth)
    for name, other in (
        ('without', {'depth': False}),
        ('other', {'platform_type': '5w'}),
        ('fits', {'seed': 3}),
    ):
        bags.append(tmp_path / f'{name}.bag')
        write_sample(bags[-1], **TINY, **with_depth | other)
    done = run(bags, tmp_path / 'out', **SMALL)
    assert [bag.status for bag in done.outcomes] == ['converted', 'failed', 'failed', 'converted']
    reasons = [bag['reason'] for bag in report(tmp_path / 'out')['bags']]
    assert reasons[1] == (
        'by what it holds it is use_depth false, the run is use_depth true by its first bag; set '
        'use_depth, or convert it apart'
    )
    assert reasons[2] == (
        'by what it holds it is platform_type 5w, the run is platform_type 4pro by its first bag; '
        'set platform_type, or convert it apart'
    )
    assert run(bags[1], tmp_path / 'apart', **SMALL).exit_code == 0
    assert run(bags[:2], tmp_path / 'set', **SMALL, use_depth=False).exit_code == 0


def test_the_state_stands_in_for_a_command_that_is_missing(tmp_path, capsys):
    """Each bag by itself: one has the command of the claws, the other has not."""
    made = write_samples(tmp_path, 2, **TINY, depth=False)
    lacking = copied(
        made[0], tmp_path / 'lacking.bag', keep=lambda topic, _: topic != '/leju_claw_command'
    )
    failed = run([lacking], tmp_path / 'none', **SMALL)
    assert 'no topic /leju_claw_command' in failed.outcomes[0].reason
    out = tmp_path / 'out'
    given = {'missing_action': 'state', 'resize.width': 80, 'resize.height': 60, 'sample_drop': 1}
    words = [word for name, value in given.items() for word in ('--set', f'{name}={value}')]
    assert command(['convert', str(lacking), str(made[1]), '--output', str(out), *words]) == 0
    table = rows(out)
    claws = [7, 15]
    stood_in = table['episode_index'] == 0
    same = (table['action'][:, claws] == table['observation.state'][:, claws]).all(axis=1)
    assert (same == stood_in).all()
    assert stood_in.sum() > 5
    plans = [bag['plan'] for bag in report(out)['bags']]
    assert plans[0]['stand_ins'] == {
        'action: left_claw': '/leju_claw_state', 'action: right_claw': '/leju_claw_state',
    }  # fmt: skip
    assert 'stand_ins' not in plans[1]
    shown = capsys.readouterr()
    line = f'action: left_claw: {stood_in.sum()} frames from /leju_claw_state, which stands in for'
    assert (shown.out + shown.err).count(line) == 1
    assert command(['verify', str(out), '--bags', str(lacking), str(made[1])]) == 0


def test_what_is_auto_is_as_in_the_dataset_that_grows(tmp_path):
    bags = write_samples(tmp_path, 2, **TINY, depth=False)
    out = tmp_path / 'out'
    given = {'platform_type': '4pro', 'use_depth': False, 'eef_type': 'leju_claw'}
    assert run(bags[0], out, **SMALL, **given).exit_code == 0
    assert run(bags[1], out, **SMALL, append=True).exit_code == 0
    assert len(np.unique(rows(out)['episode_index'])) == 2
    with pytest.raises(UsageError, match=r"settings \(use_depth was 'false', now 't"):
        run(bags[1], out, **SMALL, append=True, use_depth=True)


def test_a_roban_has_its_own_profile(tmp_path, capsys):
    """Stated anew as Leju's converter has it: q of the reference begins with the waist."""
    bag = tmp_path / 'roban.bag'
    truth = write_sample(bag, **TINY, platform_type='roban', storage='bag')
    named = run(bag, tmp_path / 'none', **SMALL)
    assert [one.reason for one in named.outcomes] == [
        '/rt/joint_state: is of a Roban, which is no Kuavo; set profile=roban'
    ]
    assert command(['inspect', str(bag)]) == 0
    fits = capsys.readouterr().out.partition('\nfits\n')[2].partition('\ndoes not fit')[0]
    assert fits.startswith('  roban: ')
    assert fits.rstrip().endswith('--set profile=roban')
    mine = tmp_path / 'mine.yaml'
    mine.write_text(
        'extends: roban\n'
        'features: {observation.images.head_cam_h: {camera: {size: {width: 80, height: 60}}}}'
    )
    out = tmp_path / 'out'
    assert run(bag, out, judged=True, profile=str(mine)).exit_code == 0
    at = Served(out, truth)
    q, hands = at('/rt/joint_state', 'q'), at('/rt/hand_state', 'position') / 100
    state = [q[:, 13:17], hands[:, :1], q[:, 17:21], hands[:, 6:7], q[:, :13]]
    q, hands = at('/rt/pico/heft_reference', 'q'), at('/rt/hand_cmd', 'data') / 100
    yaw = at('/rt/pico/heft_reference', 'root_quat')
    none = np.zeros_like(yaw)
    turn = [np.cos(yaw), -np.sin(yaw), none, np.sin(yaw), np.cos(yaw), none]
    ordered = [q[:, 13:17], hands[:, :1], q[:, 17:21], hands[:, 6:7], q[:, 1:13], q[:, :1]]
    action = [*ordered, at('/rt/pico/heft_reference', 'root_pos'), *turn]
    table = rows(out)
    assert len(yaw) > 30
    for key, parts in (('observation.state', state), ('action', action)):
        assert table[key] == pytest.approx(np.concatenate(parts, axis=1), abs=1e-6), key
    found = info(out)
    assert (found['robot_type'], found['fps']) == ('roban', 50)
    names = found['features']['action']['names']
    assert names[:5] == ['left_arm_1', 'left_arm_2', 'left_arm_3', 'left_arm_4', 'left_hand']
    assert names[-10:] == ['waist', 'root_x', 'root_y', 'root_z',
                           *(f'root_rot6d_{number}' for number in range(1, 7))]  # fmt: skip
    assert found['features']['observation.state']['names'] == names[:23]


def test_depth_in_h265_is_refused_by_name(tmp_path):
    made = tmp_path / 'made.bag'
    write_sample(made, **TINY, transport='h265', storage='bag')
    bag = copied(
        made, tmp_path / 'bag.bag', keep=lambda topic, _: not topic.startswith('/cam_h/depth'),
        renamed={'/cam_l/color/h265_stream': '/cam_h/depth/h265_stream'},
    )  # fmt: skip
    done = run(bag, tmp_path / 'deep', judged=True, **SMALL, which_arm='right')
    assert [bag.reason for bag in done.outcomes] == [
        '/cam_h/depth/h265_stream: no depth: hevc pictures; expected a 16 bit PNG or RVL '
        '(observation.depth_h)'
    ]
    assert run(bag, tmp_path / 'flat', **SMALL, which_arm='right', use_depth=False).exit_code == 0
