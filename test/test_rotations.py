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

"""Rotations in every representation: formulas, rows of datasets, and what is refused."""

from __future__ import annotations

from itertools import product
import math

from conversions import opinion, report, rows, run
from hypothesis import given, settings
from hypothesis import strategies as st
from kuavo_bag_converter.frames.rotations import as_quaternions, from_quaternions, is_no_rotation
from kuavo_bag_converter.profiles.dump import profile_as_yaml
from kuavo_bag_converter.profiles.loader import read_profile
from kuavo_bag_converter.profiles.model import Rotation
from kuavo_bag_converter.replay.stated_rotations import matrix_of, rotated
from kuavo_bag_converter.support.errors import UsageError
import numpy as np
from plain_robot import every
import pytest
from ros_messages import ROS2
from test_numbers import array, FRAMES, NAN, part, profile_of, refused, robot_of, state_of, written

AXES = [a + b + c for a, b, c in product('xyz', repeat=3) if b not in (a, c)]
EULER = [f'euler_{axes}' for axes in AXES] + [f'euler_{axes.upper()}_deg' for axes in AXES]
OTHERS = ['quaternion_xyzw', 'quaternion_wxyz', 'matrix', 'rot6d_rows', 'rot6d_columns', 'rotvec']
angles = st.floats(-3.1, 3.1)


def spun(x, y, z):
    """Return the quaternion x, y, z, w of turns about the fixed axes x, y and z, one by one."""
    cr, cp, cy = (math.cos(angle / 2) for angle in (x, y, z))
    sr, sp, sy = (math.sin(angle / 2) for angle in (x, y, z))
    return [
        sr * cp * cy - cr * sp * sy, cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy, cr * cp * cy + sr * sp * sy,
    ]  # fmt: skip


def moved(quaternion, vector):
    """Return a vector as a quaternion moves it: v + 2 r x (r x v + w v)."""
    axis, w = np.array(quaternion[:3]), quaternion[3]
    return vector + 2 * np.cross(axis, np.cross(axis, vector) + w * vector)


def become(representation, quaternion):
    return from_quaternions(representation, np.array([quaternion]))[0]


@pytest.mark.parametrize(
    ('representation', 'expected'),
    [
        ('quaternion_wxyz', [math.sqrt(0.5), 0, 0, math.sqrt(0.5)]),
        ('matrix', [0, -1, 0, 1, 0, 0, 0, 0, 1]),
        ('rot6d_rows', [0, -1, 0, 1, 0, 0]),
        ('rot6d_columns', [0, 1, 0, -1, 0, 0]),
        ('rotvec', [0, 0, math.pi / 2]),
        ('euler_xyz', [0, 0, math.pi / 2]),
        ('euler_ZYX_deg', [90, 0, 0]),
    ],
)
def test_a_quarter_turn_about_z(representation, expected):
    assert become(representation, spun(0, 0, math.pi / 2)) == pytest.approx(expected)


@given(angles, st.floats(-1.5, 1.5), angles)
def test_roll_pitch_and_yaw_are_turns_about_fixed_axes(roll, pitch, yaw):
    """Those of ROS, tf2's getRPY; the other way round they are turns about the body's axes."""
    quaternion = spun(roll, pitch, yaw)
    assert become('euler_xyz', quaternion) == pytest.approx([roll, pitch, yaw], abs=1e-9)
    assert become('euler_ZYX', quaternion) == pytest.approx([yaw, pitch, roll], abs=1e-9)


@settings(max_examples=200)
@given(st.sampled_from(OTHERS + EULER), angles, angles, angles)
def test_every_representation_moves_vectors_alike(representation, x, y, z):
    quaternion = spun(x, y, z)
    numbers = become(representation, quaternion)
    there = np.array([moved(quaternion, axis) for axis in np.eye(3)]).T
    assert matrix_of(representation, numbers) == pytest.approx(there, abs=1e-7)
    assert not is_no_rotation(representation, numbers[None]).any()
    back = as_quaternions(representation, numbers[None])[0]
    assert pytest.approx(there, abs=1e-7) == np.array([moved(back, axis) for axis in np.eye(3)]).T
    assert np.linalg.norm(back) == pytest.approx(1)


@pytest.mark.parametrize('middle', [-math.pi / 2, 0, math.pi / 2, math.pi])
def test_where_two_axes_coincide_the_last_angle_is_0(middle):
    for representation in EULER:
        euler = Rotation.euler(representation)
        unit = math.pi / 180 if euler.degrees else 1
        locked = [0.4 / unit, middle / unit, 0.3 / unit]
        quaternion = as_quaternions(representation, np.array([locked]))[0]
        found = become(representation, quaternion)
        is_proper = euler.axes[0] == euler.axes[2]
        assert (found[2] == 0) == (is_proper == (middle in (0, math.pi)))
        assert matrix_of(representation, found) == pytest.approx(matrix_of(representation, locked))


@pytest.mark.parametrize('angle', [0.0, 1e-200, 1e-9, 1e-5, 1.0, 3.0, math.pi])
def test_a_rotation_vector_is_the_shorter_way(angle):
    vector = np.array([0.6, 0.0, -0.8]) * angle
    quaternion = as_quaternions('rotvec', vector[None])
    assert from_quaternions('rotvec', quaternion)[0] == pytest.approx(vector, rel=1e-9)
    assert np.linalg.norm(from_quaternions('rotvec', -quaternion)[0]) <= math.pi
    beyond = np.array([0.6, 0.0, -0.8]) * (2 * math.pi - 1)
    shorter = from_quaternions('rotvec', as_quaternions('rotvec', beyond[None]))[0]
    assert shorter == pytest.approx([-0.6, 0.0, 0.8])


# Rows of a dataset


def tumbling(number):
    """Return quaternions x, y, z, w that turn about a tilted axis, farther than once around."""
    half = 0.35 * number + 0.1
    return np.array([*np.sin(half) * np.array([2, -1, 2]) / 3, np.cos(half)])


def recorded(number):
    """Return one rotation in several representations, one after the other."""
    quaternion = tumbling(number)
    return [
        *quaternion, *(quaternion[[3, 0, 1, 2]] * (-1) ** number),
        *become('euler_ZXZ_deg', quaternion), *become('rotvec', quaternion),
        *become('rot6d_columns', quaternion) * 1.5,
    ]  # fmt: skip


SELECTED = {
    'quaternion_xyzw': '0:4', 'quaternion_wxyz': '4:8', 'euler_ZXZ_deg': '8:11', 'rotvec': '11:14',
    'rot6d_columns': '14:20',
}  # fmt: skip
WRITTEN = ['rot6d_rows', 'quaternion_wxyz', 'euler_xyz', 'rotvec', 'matrix']


def turning(recorded_as, written_as, **keys):
    names = f'{recorded_as}_{written_as}_{{0:{len(Rotation.elements_of(written_as))}}}'
    return part([], select=[SELECTED[recorded_as]], **keys) | {
        'names': names, 'length': 20, 'rotation': {'from': recorded_as, 'to': written_as},
    }  # fmt: skip


@pytest.mark.parametrize(('strategy', 'start_s'), [('nearest', 0.0), ('slerp', -0.04)])
def test_rows_hold_the_rotation_of_their_time(tmp_path, strategy, start_s):
    """Messages turn evenly, so that what lies between two of them is known."""
    robot = robot_of(
        array([recorded(number) for number in range(FRAMES + 1)]), count=FRAMES + 1,
        start_s=start_s,
    )  # fmt: skip
    align = {'align': {'strategy': strategy}}
    pairs = list(product(SELECTED, WRITTEN))
    bag, profile = written(
        tmp_path, robot, profile_of(*(turning(*pair, **align) for pair in pairs))
    )
    out = tmp_path / 'out'
    assert run(bag, out, profile=str(profile), judged=True).exit_code == 0
    table = rows(out)['observation.state'].astype(float)
    assert len(table) == FRAMES
    start = 0
    for _, written_as in pairs:
        width = len(Rotation.elements_of(written_as))
        mine = table[:, slice(start, start + width)]
        start += width
        for number, numbers in enumerate(mine):
            quaternion = tumbling(number - 10 * start_s)
            there = np.array([moved(quaternion, axis) for axis in np.eye(3)]).T
            assert matrix_of(written_as, numbers) == pytest.approx(there, abs=1e-5)
        if written_as == 'quaternion_wxyz':
            assert (np.sum(mine[1:] * mine[:-1], axis=1) > 0.5).all()


def test_each_of_several_samples_a_frame_turns(tmp_path):
    robot = robot_of(array([recorded(number) for number in range(FRAMES)]))
    turn = turning('quaternion_wxyz', 'rot6d_rows', align={'strategy': 'slerp'})
    samples = {'parts': [turn], 'samples': 2}
    bag, profile = written(tmp_path, robot, profile_of(observation__turn=samples))
    out = tmp_path / 'out'
    assert run(bag, out, profile=str(profile), judged=True).exit_code == 0
    found = np.stack([np.stack(frame) for frame in rows(out)['observation.turn']])
    assert found.shape == (FRAMES, 2, 6)
    for number, place in product(range(1, FRAMES), range(2)):
        quaternion = tumbling(number - 0.5 + 0.5 * place)
        there = np.array([moved(quaternion, axis) for axis in np.eye(3)]).T
        assert found[number, place] == pytest.approx(there[:2].ravel(), abs=1e-6)


def test_a_rotation_by_the_chain_of_transforms_is_judged(tmp_path):
    types = ROS2.types

    def transforms(number, _):
        turn = types['geometry_msgs/msg/Quaternion'](*tumbling(number))
        pose = types['geometry_msgs/msg/Transform'](
            types['geometry_msgs/msg/Vector3'](1.0, 2.0, 3.0), turn
        )
        header = types['std_msgs/msg/Header'](types['builtin_interfaces/msg/Time'](0, 0), 'base')
        stamped = types['geometry_msgs/msg/TransformStamped'](header, 'tool', pose)
        return types['tf2_msgs/msg/TFMessage']([stamped])

    robot = robot_of(array([[0.0]] * FRAMES))
    robot.publish('/tf', every(10, 1.3, -0.04), transforms)
    turn = {
        'from': {'tf': {'parent': 'base', 'child': 'tool'}}, 'select': ['3:7'],
        'rotation': {'from': 'quaternion_xyzw', 'to': 'rot6d_rows'},
    }  # fmt: skip
    bag, profile = written(tmp_path, robot, profile_of(turn))
    out = tmp_path / 'out'
    assert run(bag, out, profile=str(profile), judged=True).exit_code == 0
    for number, found in enumerate(rows(out)['observation.state']):
        there = np.array([moved(tumbling(number + 0.4), axis) for axis in np.eye(3)]).T
        assert found == pytest.approx(there[:2].ravel(), abs=1e-6)


def test_the_second_opinion_knows_rows_from_columns(tmp_path):
    robot = robot_of(array([recorded(number) for number in range(FRAMES)]))
    bag, profile = written(tmp_path, robot, profile_of(turning('quaternion_xyzw', 'rot6d_rows')))
    out = tmp_path / 'out'
    assert run(bag, out, profile=str(profile), judged=True).exit_code == 0
    kept = out / 'conversion' / 'profile.yaml'
    kept.write_text(kept.read_text().replace('rot6d_rows', 'rot6d_columns'))
    assert {finding.rule for finding in opinion(out, [bag])[0]} == {'opinion.row'}


def test_what_the_second_opinion_says_between_two_rotations():
    """Half of the way from 20 to 100 degrees about one axis is 60."""
    first, second = ([0, 0, math.radians(angle)] for angle in (20, 100))
    found = rotated(first, second, 0.5, Rotation('rotvec', 'euler_xyz_deg'))
    assert found == pytest.approx([0, 0, 60])


def test_names_are_those_of_the_representation_if_none_are_given(tmp_path):
    def names_of(representation):
        turn = turning('quaternion_wxyz', representation)
        del turn['names']
        _, path = written(tmp_path, robot_of(array([[0.0]] * FRAMES)), profile_of(turn))
        profile = read_profile(path)
        path.write_text(profile_as_yaml(profile))
        assert read_profile(path) == profile
        return ' '.join(profile.vectors[0].names)

    assert names_of('rot6d_rows') == 'rot6d_0 rot6d_1 rot6d_2 rot6d_3 rot6d_4 rot6d_5'
    assert names_of('quaternion_wxyz') == 'quaternion_w quaternion_x quaternion_y quaternion_z'
    assert names_of('rotvec') == 'rotvec_x rotvec_y rotvec_z'
    assert names_of('euler_zyx_deg') == 'euler_z euler_y euler_x'
    assert names_of('euler_ZXZ') == 'euler_Z euler_X euler_Z2'
    assert names_of('matrix') == ' '.join(f'matrix_{r}{c}' for r in range(3) for c in range(3))


def test_euler_angles_are_subtracted_the_shorter_way_where_they_are_angles(tmp_path):
    """Yaw goes from 170 degrees on by 4 a frame, through 180."""
    yaws = [170.0 + 4 * number for number in range(FRAMES)]
    robot = robot_of(array([spun(0, 0, math.radians(yaw)) for yaw in yaws]))
    turn = part([], rotation={'from': 'quaternion_xyzw', 'to': 'euler_ZYX_deg'})
    del turn['names']
    for unit, expected in (({}, -356), ({'unit': 'angle_deg'}, 4)):
        folder = tmp_path / f'{expected}'
        folder.mkdir()
        bag, profile = written(
            folder, robot, profile_of({**turn, **unit, 'relative_to_start': True})
        )
        assert run(bag, folder / 'out', profile=str(profile), judged=True).exit_code == 0
        yaw = rows(folder / 'out')['observation.state'][:, 0]
        assert yaw[2] == pytest.approx(8, abs=1e-3)
        assert yaw[3] - yaw[2] == pytest.approx(expected, abs=1e-3)


def test_w_can_be_kept_positive(tmp_path):
    robot = robot_of(array([recorded(number) for number in range(FRAMES)]))
    turn = turning('quaternion_xyzw', 'quaternion_wxyz', quaternion='positive_w')
    found = state_of(tmp_path, robot, turn)
    assert (found[:, 0] >= 0).all()
    assert np.abs(found[:, 1:] @ [2, -1, 2]).min() > 0.1


@pytest.mark.parametrize(
    ('recorded_as', 'place', 'wrong', 'refusal'),
    [
        ('quaternion_xyzw', 1, [NAN], 'y (data) is nan; a dataset needs'),
        ('quaternion_wxyz', 4, [0.0] * 4, 'begins the quaternion (0, 0, 0, 0), which is no rota'),
        ('rot6d_columns', 14, [0.0] * 3, 'expected two vectors, neither 0 nor along each other'),
    ],
)
def test_what_is_no_rotation_is_held_as_a_whole(tmp_path, recorded_as, place, wrong, refusal):
    """As where a tracker has lost what it tracks."""
    sent = [recorded(number) for number in range(FRAMES)]
    sent[5][slice(place, place + len(wrong))] = wrong
    robot = robot_of(array(sent))
    turn = turning(recorded_as, 'rot6d_rows')
    assert refusal in refused(tmp_path, robot, profile_of(turn))
    folder = tmp_path / 'held'
    folder.mkdir()
    bag, profile = written(folder, robot, profile_of(turn | {'nan': 'hold'}))
    out = folder / 'out'
    assert run(bag, out, profile=str(profile), judged=True).exit_code == 0
    found = rows(out)['observation.state']
    assert (found[5] == found[4]).all()
    assert (found[6] != found[4]).any()
    assert report(out)['bags'][0]['plan']['not_finite'] == {'/numbers': 1}
    sent[0] = sent[5]
    folder = tmp_path / 'first'
    folder.mkdir()
    text = refused(folder, robot_of(array(sent)), profile_of(turn | {'nan': 'hold'}))
    assert 'no rotation, and no frame before it in its episode has a number to hold; cut' in text


@pytest.mark.parametrize(
    ('recorded_as', 'place', 'wrong', 'words'),
    [
        ('quaternion_wxyz', 4, [0] * 4, r'begins the quaternion (0, 0, 0, 0), which is no rotatio'
         'n: its length is 0, expected 1'),
        ('quaternion_xyzw', 0, [0.5, 0.5, 0, 0], 'its length is 0.707, expected 1'),
        ('rot6d_columns', 14, [1, 2, 3, 2, 4, 6], 'expected two vectors, neither 0 nor along'),
    ],
)  # fmt: skip
def test_what_is_no_rotation_fails_the_bag(tmp_path, recorded_as, place, wrong, words):
    sent = [recorded(number) for number in range(FRAMES)]
    sent[5][slice(place, place + len(wrong))] = wrong
    text = refused(tmp_path, robot_of(array(sent)), profile_of(turning(recorded_as, 'rotvec')))
    assert 'the message received at 1700000000.500000' in text
    assert words in text


def test_a_mirror_is_no_rotation(tmp_path):
    mirror = np.diag([1.0, 1.0, -1.0]).ravel().tolist()
    turn = part([], rotation={'from': 'matrix', 'to': 'rotvec'})
    del turn['names']
    text = refused(tmp_path, robot_of(array([mirror] * FRAMES)), profile_of(turn))
    assert 'begins the matrix (1, 0, 0, 0, 1, 0, 0, 0, -1), which is no rotation' in text


@pytest.mark.parametrize(
    ('keys', 'words'),
    [
        ({'rotation': 'rot6d'}, 'rotation: expected a mapping with the keys from, to'),
        ({'rotation': {'from': 'quaternion_xyzw'}}, "rotation: the key 'to' is missing"),
        ({'rotation': {'from': 'quaternion', 'to': 'rot6d_rows'}},
         'rotation.from: expected one of quaternion_xyzw, quaternion_wxyz, matrix, rot6d_rows, '
         'rot6d_columns, rotvec, or euler_ and three axes: euler_xyz about fixed axes, euler_XYZ '
         "about those of the body, euler_xyz_deg in degrees, found 'quaternion'"),
        ({'rotation': {'from': 'rotvec', 'to': 'euler_xxz'}}, 'rotation.to: expected one of'),
        ({'rotation': {'from': 'rotvec', 'to': 'euler_xYz'}}, 'rotation.to: expected one of'),
        ({'length': 4}, 'rotation: rotvec has 3 elements, found 4; select its own'),
        ({'names': ['a', 'b', 'c']}, 'names: expected 6 names, one for each element, found 3'),
        ({'align': {'strategy': 'linear'}}, 'rotation: linear does not turn; set strategy: slerp'),
        ({'nan': 0}, 'nan: a number makes no rotation; set fail or hold'),
        ({'align': {'strategy': 'hold', 'reduce': 'mean'}}, 'reduce: of rotations there is only'),
        ({'quaternion': 'continuous'}, 'quaternion: is for rotations to a quaternion, found rot6'),
        ({'unit': 'angle'}, 'unit: rot6d_rows is no angle; leave it out'),
        ({'unit': 'angle', 'rotation': {'from': 'rotvec', 'to': 'euler_xyz_deg'}},
         'unit: euler_xyz_deg is no angle; set angle_deg'),
        ({'length': 3, 'on_length': 'pad'}, 'rotation: what is padded or counted is none; leave'),
        ({'joints': ['a', 'b', 'c']}, 'joints: the numbers of a rotation have none; use select'),
    ],
)  # fmt: skip
def test_what_a_rotation_cannot_be(tmp_path, keys, words):
    turn = {
        'from': {'topic': '/numbers', 'field': 'data'},
        'rotation': {'from': 'rotvec', 'to': 'rot6d_rows'},
    }
    _, path = written(tmp_path, robot_of(array([[0.0]] * FRAMES)), profile_of(turn | keys))
    with pytest.raises(UsageError) as error:
        read_profile(path)
    text = str(error.value).removeprefix(f'{path}: features.observation.state.parts[0]')
    assert text.lstrip('.: ').startswith(words)


def test_integers_are_no_rotation(tmp_path):
    turn = turning('rotvec', 'matrix')
    profile = profile_of(observation__turn={'dtype': 'int64', 'parts': [turn]})
    _, path = written(tmp_path, robot_of(array([[0.0]] * FRAMES)), profile)
    with pytest.raises(UsageError, match='with a fraction, which int64 does not have'):
        read_profile(path)
