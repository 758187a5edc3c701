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

"""Numbers mean what they say: dtypes, angles, quaternions, NaN, rewards and ends of episodes."""

from __future__ import annotations

from itertools import pairwise
import json
import math

from conversions import report, rows, run
from dataset_reading import info
from hypothesis import given, settings
from hypothesis import strategies as st
from kuavo_bag_converter import iter_chunks, load_profile, open_bag
from kuavo_bag_converter.frames.operations import (
    interpolate,
    one_sign,
    rounded_integers,
    shorter_way,
    StepLoss,
    TURNS,
)
from kuavo_bag_converter.jobs.display import Display
from kuavo_bag_converter.replay.verify import verify
from kuavo_bag_converter.support.errors import BagError
from lerobot_readers import BACKENDS, PYTHONS, read, version_of
import numpy as np
from plain_robot import every, imu, joint_state, NS, Robot, said
import pytest
from ros_messages import ROS2

FRAMES = 12
HZ = 10
NAN, INF = math.nan, math.inf


def array(values, kind='Float64'):
    """Return a maker of an array message with one list of numbers after the other."""
    types = ROS2.types
    dtype = {'Float64': np.float64, 'Float32': np.float32, 'Int64': np.int64, 'Int32': np.int32}

    def make(number, _):
        layout = types['std_msgs/msg/MultiArrayLayout']([], 0)
        data = np.array(values[number], dtype[kind])
        return types[f'std_msgs/msg/{kind}MultiArray'](layout, data)

    return make


def fix(latitudes):
    """Return a maker of NavSatFix."""
    types = ROS2.types

    def make(number, time):
        header = joint_state(lambda *_: [])(number, time).header
        status = types['sensor_msgs/msg/NavSatStatus'](0, 1)
        return types['sensor_msgs/msg/NavSatFix'](
            header, status, latitudes[number], 11.5, 500.0, np.zeros(9), 0
        )

    return make


def robot_of(make, *, hz=HZ, count=FRAMES, start_s=0.0):
    """Return a robot with frames of a tick and a topic ``/numbers``."""
    robot = Robot()
    robot.publish('/tick', every(HZ, FRAMES / HZ), said([0.0] * FRAMES, 'Float64'))
    return robot.publish('/numbers', every(hz, count / hz, start_s), make)


def profile_of(*parts, episodes=None, **vectors):
    """Return a profile with ``observation.state`` of some parts, and other features."""
    features = {'observation.state': {'parts': list(parts)}} if parts else {}
    document = {
        'robot_type': 'made_up', 'fps': HZ, 'task': 'Do it',
        'clock': {'from': {'topic': '/tick'}, 'fps': HZ, 'end_trim': 'none'},
        'features': features | {key.replace('__', '.'): value for key, value in vectors.items()},
    }  # fmt: skip
    return document | ({} if episodes is None else {'episodes': episodes})


def part(names='abc', *, field='data', **keys):
    source = {'topic': '/numbers', 'field': field} if field else {'topic': '/numbers'}
    return {'from': source, 'names': list(names), **keys}


def written(folder, robot, profile):
    path = folder / 'robot.yaml'
    path.write_text(json.dumps(profile))
    bag = folder / 'bag'
    return bag if bag.exists() else robot.write(bag), path


def frames_of(folder, robot, profile, chunk=5):
    """Return the values of each vector, and the chunks' sizes do not matter."""
    bag, path = written(folder, robot, profile)
    with open_bag(bag) as reader:
        chunks = list(iter_chunks(reader, load_profile(path), chunk_size=chunk))
    return {
        key: np.concatenate([part.vectors[key] for part in chunks]) for key in chunks[0].vectors
    }


def state_of(folder, robot, *parts, **keys):
    return frames_of(folder, robot, profile_of(*parts, **keys))['observation.state']


def refused(folder, robot, profile):
    with pytest.raises(BagError) as error:
        frames_of(folder, robot, profile)
    text = str(error.value)
    assert '\n' not in text
    assert '/numbers' in text
    return text


def vector(dtype, *parts, **keys):
    return {'dtype': dtype, 'parts': list(parts), **keys}


# What float32 does not hold apart


def test_a_position_on_earth_needs_another_dtype(tmp_path):
    robot = robot_of(fix([48.1374321 + 1e-6 * number for number in range(FRAMES)]))
    latitude = part(['lat'], field='latitude')
    text = refused(tmp_path, robot, profile_of(latitude))
    assert 'latitude is a position on earth' in text
    assert 'set an offset at the part, or dtype: float64 at the feature' in text
    exact = [[sent.message.latitude] for sent in robot.topics['/numbers']]
    wide = tmp_path / 'wide'
    wide.mkdir()
    found = frames_of(wide, robot, profile_of(observation__gps=vector('float64', latitude)))
    assert found['observation.gps'].dtype == np.float64
    assert found['observation.gps'].tolist() == exact
    near = tmp_path / 'near'
    near.mkdir()
    found = state_of(near, robot, {**latitude, 'offset': -48.1374321})
    np.testing.assert_allclose(found, np.array(exact) - 48.1374321, rtol=1e-6)


@pytest.mark.parametrize(
    'values',
    [
        [[0.0, 5_333_000.25 + 0.03 * number] for number in range(FRAMES)],  # UTM
        [[1.0, 1_750_000_000.0 + number / HZ] for number in range(FRAMES)],  # seconds
        [[2.0, 20_000_001.0 + number] for number in range(FRAMES)],  # a counter, as float64
    ],
)
def test_large_numbers_that_change_by_little_are_refused(tmp_path, values):
    text = refused(tmp_path, robot_of(array(values)), profile_of(part('xy')))
    assert text.startswith('/numbers: y moves in steps that float32 rounds away')
    found = tmp_path / 'wide'
    found.mkdir()
    profile = profile_of(observation__far=vector('float64', part('xy')))
    assert frames_of(found, robot_of(array(values)), profile)['observation.far'].tolist() == values


def test_degrees_in_an_array_are_told_by_their_names(tmp_path):
    values = [[48.1 + 5e-7 * number, 11.5 - 3e-7 * number] for number in range(FRAMES)]
    text = refused(tmp_path, robot_of(array(values)), profile_of(part(['gps_lat', 'gps_lon'])))
    assert 'gps_lat moves in steps' in text
    joints = tmp_path / 'joints'
    joints.mkdir()
    for names in (['a', 'b'], ['gps_lat', 'b']):  # lateral, perhaps
        assert state_of(joints, robot_of(array(values)), part(names)).shape == (FRAMES, 2)


def test_integers_that_float32_rounds_are_refused_at_the_first(tmp_path):
    values = [[2**24 + number] for number in range(FRAMES)]
    text = refused(tmp_path, robot_of(array(values, 'Int64')), profile_of(part('n')))
    assert 'n (data) becomes 16777217.0, which is rounded by float32; set an offset at' in text
    assert 'the message received at 1700000000.1' in text
    less = tmp_path / 'less'
    less.mkdir()
    found = state_of(less, robot_of(array(values, 'Int64')), part('n', offset=-(2**24)))
    assert found[:, 0].tolist() == list(range(FRAMES))


def test_what_float32_has_always_held_is_not_refused(tmp_path):
    rng = np.random.default_rng(4)
    values = np.stack(
        [
            np.full(FRAMES, 1.57) + 1e-9 * rng.normal(size=FRAMES),  # a joint at rest
            101325.37 + rng.normal(size=FRAMES),  # a pressure
            1.57 + 1e-5 * np.exp(-np.arange(FRAMES)),  # a joint that settles
            np.full(FRAMES, 5_333_000.123),  # a constant
            1e7 * np.arange(FRAMES) / 3,
            0.1 * np.arange(FRAMES),
        ],
        axis=1,
    )
    found = state_of(tmp_path, robot_of(array(values)), part('abcdef'))
    assert (found == values.astype(np.float32)).all()


def test_a_source_of_float32_has_lost_nothing_more(tmp_path):
    values = [[5_333_000.25 + 0.3 * number] for number in range(FRAMES)]
    align = {'strategy': 'linear'}
    robot = robot_of(array(values, 'Float32'), hz=4, count=6)
    assert len(state_of(tmp_path, robot, part('y', align=align))) == FRAMES


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.floats(-(2.0**17), 2.0**17, exclude_min=True, exclude_max=True), min_size=1, max_size=20
    )
)
def test_no_number_of_an_ordinary_size_is_ever_lost(values):
    column = np.array(values)[:, None]
    steps = StepLoss([False])
    steps.add(column)
    assert not steps.lost().any()
    small = np.rint(column / 2)
    assert not rounded_integers(small).any()


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 40), st.integers(1, 20), st.integers(0, 20))
def test_losing_steps_does_not_depend_on_chunks(size, count, cut):
    column = 2.0**size + np.arange(count)[:, None] * 0.7
    whole, parts = StepLoss([False]), StepLoss([False])
    whole.add(column)
    for piece in (column[:cut], column[cut:]):
        parts.add(piece)
    assert whole.lost() == parts.lost()


def test_a_number_beyond_float32_is_refused(tmp_path):
    values = [[1e39 if number == 7 else 1.0] for number in range(FRAMES)]
    text = refused(tmp_path, robot_of(array(values)), profile_of(part('n')))
    assert 'becomes 1e+39, which cannot be held by float32; set an offset' in text
    assert 'received at 1700000000.7' in text


# Integers and booleans


def test_integers_are_exact_to_the_last_of_64_bits(tmp_path):
    values = [[2**63 - 1 - number, -(2**53) - 1] for number in range(FRAMES)]
    profile = profile_of(observation__count=vector('int64', part('ab')))
    found = frames_of(tmp_path, robot_of(array(values, 'Int64')), profile)['observation.count']
    assert found.dtype == np.int64
    assert found.tolist() == values


def test_integers_that_float64_rounds_are_refused(tmp_path):
    values = [[2**53 + 1] for _ in range(FRAMES)]
    profile = profile_of(observation__count=vector('float64', part('a')))
    text = refused(tmp_path, robot_of(array(values, 'Int64')), profile)
    assert 'data is 9007199254740993, which float64 would round; set dtype: int64' in text


@pytest.mark.parametrize(
    ('dtype', 'values', 'keys', 'message'),
    [
        ('int64', [0.5], {}, 'data is 0.5, no whole number; set dtype: float64 (observation.x)'),
        ('int64', [0.5], {'scale': 3}, 'a .data. is 1.5 after the operations of its part, no'),
        ('int32', [2.0**31], {}, 'becomes 2147483648, which cannot be held by int32; set anot'),
        ('bool', [2.0], {}, 'becomes 2.0, which cannot be held by bool; set another dtype, or th'),
    ],
)
def test_numbers_that_a_dtype_does_not_have_are_refused(tmp_path, dtype, values, keys, message):
    robot = robot_of(array([values] * FRAMES))
    text = refused(tmp_path, robot, profile_of(observation__x=vector(dtype, part('a', **keys))))
    assert message.replace('.data.', '(data)') in text


def test_integers_are_scaled_and_subtracted(tmp_path):
    values = [[0.29 + 0.01 * number, number] for number in range(FRAMES)]
    parts = [part('a', select=[0], scale=100), part('b', select=[1], relative_to_start=True)]
    profile = profile_of(
        observation__x=vector('int64', *parts),
        action=vector('int32', part('b', select=[1], scale=2), minus='observation.x'),
    )
    found = frames_of(tmp_path, robot_of(array(values)), profile)
    assert found['observation.x'].tolist() == [[29 + n, n] for n in range(FRAMES)]
    assert found['action'].tolist() == [[n] for n in range(FRAMES)]
    assert found['action'].dtype == np.int32


# Angles


def turning(start, step):
    """Return angles in degrees as they are recorded, from -180 to 180."""
    return [[(start + step * number + 180.0) % 360.0 - 180.0] for number in range(FRAMES)]


@pytest.mark.parametrize('unit', ['angle', 'angle_deg'])
def test_angles_are_interpolated_the_shorter_way(tmp_path, unit):
    degrees = np.array(turning(150.0, 9.0))
    values = degrees if unit == 'angle_deg' else np.deg2rad(degrees)
    turn = TURNS[unit]
    robot = robot_of(array(values), start_s=-0.05, count=FRAMES)
    found = state_of(tmp_path, robot, part('a', unit=unit, align={'strategy': 'linear'}))
    true = (150.0 + 9.0 * (np.arange(FRAMES) + 0.5)) * turn / 360
    apart = np.abs(shorter_way(found[:-1, 0] - true[:-1], turn))
    assert apart.max() < 1e-5 * turn
    assert np.abs(found).max() <= turn / 2 * (1 + 1e-6)


@pytest.mark.parametrize('low', [-math.pi, 0.0, -1.0])
def test_a_full_turn_between_two_messages_is_refused(tmp_path, low):
    values = [[1.0, (2.0 + 0.4 * number - low) % (2 * math.pi) + low] for number in range(FRAMES)]
    robot = robot_of(array(values), start_s=-0.05)
    text = refused(tmp_path, robot, profile_of(part('ab', align={'strategy': 'linear'})))
    assert text.startswith('/numbers: the message received at 1700000000.')
    assert 'b (data) is ' in text
    assert 'in the next, received at 170000000' in text
    assert 'set unit: angle, else strategy: nearest (observation.state)' in text
    ends = [f'{value:g}' for row in values for value in row[1:]]
    assert any(f'is {a}, and {b} in' in text for a, b in pairwise(ends))
    near = tmp_path / 'near'
    near.mkdir()
    assert len(state_of(near, robot, part('ab'))) == FRAMES


def test_degrees_that_wrap_are_refused_too(tmp_path):
    robot = robot_of(array(turning(150.0, 9.0)), start_s=-0.05)
    text = refused(tmp_path, robot, profile_of(part('a', align={'strategy': 'linear'})))
    assert 'set unit: angle_deg, else' in text
    other = tmp_path / 'radians'
    other.mkdir()
    wrapped = part('a', unit='deg2rad', align={'strategy': 'linear'})
    text = refused(other, robot, profile_of(wrapped))
    assert 'set unit: angle_deg and scale: 0.017453292519943295, else' in text
    wrapped |= {'unit': 'angle_deg', 'scale': 0.017453292519943295}
    assert np.abs(state_of(tmp_path / 'radians', robot, wrapped)).max() <= math.pi


def test_an_angle_is_found_beside_forces_that_jump_as_far(tmp_path):
    wrapped = np.array(turning(150.0, 9.0))[:, 0] * math.pi / 180
    force = np.where(np.arange(FRAMES) % 2, 3.1, -3.1) + 9.0 * (np.arange(FRAMES) == 0)
    robot = robot_of(array(np.stack([force, wrapped], axis=1)), start_s=-0.05)
    text = refused(tmp_path, robot, profile_of(part('ab', align={'strategy': 'linear'})))
    assert ': b (data) is' in text


def test_what_is_degrees_for_certain_does_not_wrap_at_six(tmp_path):
    values = [[0.0 if number < 5 else 6.1] for number in range(FRAMES)]
    robot = robot_of(array(values), start_s=-0.05)
    command = part('a', unit='deg2rad', align={'strategy': 'linear'})
    assert len(state_of(tmp_path, robot, command)) == FRAMES


def test_forces_that_jump_as_far_are_no_angles(tmp_path):
    rng = np.random.default_rng(1)
    values = rng.normal(scale=6, size=(120, 3))
    values[5], values[6] = 3.1, -3.1
    robot = robot_of(array(values), hz=100, count=120, start_s=-0.005)
    found = state_of(tmp_path, robot, part('abc', align={'strategy': 'linear'}))
    assert len(found) == FRAMES


def test_angles_are_subtracted_the_shorter_way(tmp_path):
    values = [[3.1 - 0.01 * number, -3.1 + 0.02 * number] for number in range(FRAMES)]
    state = part('a', select=[0], unit='angle')
    command = part('a', select=[1], unit='angle')
    profile = profile_of(
        state,
        action={'parts': [command], 'minus': 'observation.state'},
        action__turned={'parts': [{**command, 'relative_to_start': True, 'scale': 10}]},
        action__moved={'parts': [{**part('m', select=[1], unit='angle'), 'offset': 6.2,
                                  'relative_to_start': True}]},
    )  # fmt: skip
    found = frames_of(tmp_path, robot_of(array(values)), profile)
    steps = np.arange(FRAMES)
    np.testing.assert_allclose(
        found['action'][:, 0], 2 * math.pi - 6.2 + 0.03 * steps, atol=1e-6
    )  # fmt: skip
    np.testing.assert_allclose(found['action.turned'][:, 0], 0.2 * steps, atol=1e-5)
    np.testing.assert_allclose(found['action.moved'][:, 0], 0.02 * steps, atol=1e-6)


angles = st.floats(-math.pi, math.pi)


@settings(max_examples=200, deadline=None)
@given(angles, angles, st.floats(0, 1))
def test_between_two_angles_lies_the_shorter_way(first, second, weight):
    one, two, share = np.array([[first]]), np.array([[second]]), np.array([weight])
    (found,) = interpolate('linear', one, two, share, 2 * math.pi)[0]
    way = shorter_way(np.array(second - first), 2 * math.pi)
    assert abs(way) <= math.pi * (1 + 1e-12)
    assert abs(shorter_way(np.array(found - first - weight * way), 2 * math.pi)) < 1e-9
    assert abs(found) <= math.pi * (1 + 1e-12)
    if abs(second - first) <= math.pi:
        assert found == interpolate('linear', one, two, share)[0]


# Quaternions


def turned(angle):
    return [0.0, 0.0, math.sin(angle / 2), math.cos(angle / 2)]


def flipping(number, _):
    return np.array(turned(0.6 * number)) * (-1) ** (number // 2)


ORIENTATION = [f'orientation.{axis}' for axis in 'xyzw']


def orientation(strategy='nearest', **keys):
    source = {'topic': '/numbers', 'fields': ORIENTATION}
    return {'from': source, 'names': list('xyzw'), 'align': {'strategy': strategy}, **keys}


def leaps(values):
    return int((np.sum(values[1:] * values[:-1], axis=1) < 0).sum())


@pytest.mark.parametrize('strategy', ['nearest', 'hold', 'slerp', 'linear'])
def test_a_quaternion_has_one_sign_along_an_episode(tmp_path, strategy):
    robot = robot_of(imu(flipping), start_s=-0.02)
    found = state_of(tmp_path, robot, orientation(strategy))
    assert leaps(found) == 0
    # The sign of the first is as it was recorded.
    assert (found[0] @ flipping(0, 0)) > 0
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 0.02


def test_a_pose_in_one_part_has_its_orientation_in_one_sign(tmp_path):
    robot = robot_of(imu(flipping))
    fields = ['angular_velocity.x', *ORIENTATION[::-1], 'linear_acceleration.z']
    pose = {'from': {'topic': '/numbers', 'fields': fields}, 'names': list('awzyxb')}
    found = state_of(tmp_path, robot, pose)
    assert leaps(found[:, 1:5]) == 0
    assert not found[:, [0, 5]].any()


def test_the_sign_of_a_quaternion_is_a_setting(tmp_path):
    robot = robot_of(imu(flipping))
    sent = np.array([flipping(number, 0) for number in range(FRAMES)], np.float32)
    for value, expected in (
        ('as_recorded', sent),
        ('positive_w', sent * np.where(sent[:, 3:] < 0, -1, 1)),
    ):
        folder = tmp_path / value
        folder.mkdir()
        found = state_of(folder, robot, orientation(quaternion=value))
        assert (found == expected).all()


def test_every_episode_begins_with_the_sign_that_was_recorded(tmp_path):
    robot = robot_of(imu(flipping))
    ranges = [{'start_s': 0, 'stop_s': 0.25}, {'start_s': 0.25, 'stop_s': 9}]
    found = state_of(tmp_path, robot, orientation(), episodes={'ranges': ranges})
    assert leaps(found[:3]) == leaps(found[3:]) == 0
    assert found[3] @ flipping(3, 0) > 0.99


def test_an_array_is_a_quaternion_where_the_profile_says_so(tmp_path):
    robot = robot_of(array([flipping(number, 0) for number in range(FRAMES)]))
    assert leaps(state_of(tmp_path, robot, part('xyzw'))) > 0
    other = tmp_path / 'other'
    other.mkdir()
    assert leaps(state_of(other, robot, part('xyzw', quaternion='continuous'))) == 0


@pytest.mark.parametrize('wrong', [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]])
@pytest.mark.parametrize('strategy', ['nearest', 'slerp'])
def test_what_is_no_rotation_is_an_error_of_its_message(tmp_path, wrong, strategy):
    robot = robot_of(imu(lambda number, _: wrong if number == 5 else turned(number / 10)))
    text = refused(tmp_path, robot, profile_of(orientation(strategy)))
    numbers = ', '.join(f'{value:g}' for value in wrong)
    assert text.startswith('/numbers: the message received at 1700000000.500000')
    assert f'begins the quaternion ({numbers}), which is no rotation' in text


def test_rounded_quaternions_are_good_enough(tmp_path):
    robot = robot_of(imu(lambda *_: [0.0, 0.0, 0.707, 0.707]))
    found = state_of(tmp_path, robot, orientation())
    assert (found == np.float32([0, 0, 0.707, 0.707])).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-1, 1)] * 4), min_size=1, max_size=12), st.integers(0, 12))
def test_one_sign_is_that_of_the_neighbour_and_the_same_in_any_pieces(quaternions, cut):
    found = np.array(quaternions)
    signs = one_sign(found, None)
    assert signs[0] == 1
    in_one = found * signs[:, None]
    assert (np.sum(in_one[1:] * in_one[:-1], axis=1) >= 0).all()
    if 0 < cut < len(found):
        rest = one_sign(found[cut:], in_one[cut - 1])
        assert (np.sum(in_one[cut:] * in_one[slice(cut - 1, -1)], axis=1) >= 0).all()
        assert (rest == signs[cut:]).all()
    steady = np.abs(found)  # all dot products are positive: as it was recorded
    assert (one_sign(steady, None) == 1).all()


# NaN and infinity


HOLES = [[1.0, NAN if number in (4, 5) else INF if number == 8 else float(number)]
         for number in range(FRAMES)]  # fmt: skip


@pytest.mark.parametrize('align', ['nearest', 'hold', 'linear'])
def test_nan_fails_a_bag_with_its_place(tmp_path, align):
    robot = robot_of(array(HOLES), start_s=-0.01)
    text = refused(tmp_path, robot, profile_of(part('ab', align={'strategy': align})))
    assert text.startswith('/numbers: the message received at 1700000000.390000')
    assert 'b (data) is nan; a dataset needs finite numbers: set nan: hold, or' in text


def test_nan_is_held_within_an_episode(tmp_path):
    found = state_of(tmp_path, robot_of(array(HOLES)), part('ab', nan='hold'))
    assert found[:, 1].tolist() == [0, 1, 2, 3, 3, 3, 6, 7, 7, 9, 10, 11]
    assert (found[:, 0] == 1).all()


@pytest.mark.parametrize('holes', [(5,), (2, 10)])
def test_what_is_held_goes_over_chunks_that_have_no_nan(tmp_path, holes):
    values = [[NAN if number in holes else float(number)] for number in range(FRAMES)]
    found = state_of(tmp_path, robot_of(array(values)), part('a', nan='hold'))
    expected = [number - (number in holes) for number in range(FRAMES)]
    assert found[:, 0].tolist() == expected


def test_the_second_opinion_holds_behind_thresholds_and_what_is_filled(tmp_path):
    times = [number for number in range(FRAMES) if number not in (6, 7)]
    values = {number: [NAN if number in (2, 8) else number - 0.5] for number in times}
    robot = Robot().publish('/tick', every(HZ, FRAMES / HZ), said([0.0] * FRAMES, 'Float64'))
    robot.publish(
        '/numbers', [number * NS // HZ for number in times],
        lambda number, time: array([values[times[number]]])(0, time),
    )  # fmt: skip
    filled = {'strategy': 'hold', 'tolerance_ms': 50, 'on_gap': 'zeros'}
    profile = profile_of(
        part('a', nan='hold', align=filled, threshold=1),
        action={'parts': [part('a', nan='hold', align=filled)]},
    )
    bag, path = written(tmp_path, robot, profile)
    run(bag, tmp_path / 'out', profile=str(path))
    found = rows(tmp_path / 'out')
    assert found['action'].tolist() == [-0.5, 0.5, 0.5, 2.5, 3.5, 4.5, 0, 0, 4.5, 8.5, 9.5, 10.5]
    assert found['observation.state'].tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1]
    assert verify(tmp_path / 'out', [bag], independent=FRAMES).findings == ()


def test_a_base_that_stops_without_commands_does_not_jump(tmp_path):
    times = [number * NS // HZ for number in range(FRAMES) if number not in (5, 6, 7)]
    robot = Robot().publish('/tick', every(HZ, FRAMES / HZ), said([0.0] * FRAMES, 'Float64'))
    robot.publish('/numbers', times, array([[0.8 + n / 1000] for n in range(FRAMES)]))
    stops = {'strategy': 'hold', 'tolerance_ms': 150, 'on_gap': 'zeros'}
    bag, path = written(tmp_path, robot, profile_of(part('a', align=stops)))
    run(bag, tmp_path / 'out', profile=str(path))
    assert rows(tmp_path / 'out')['observation.state'].tolist().count(0) == 2
    assert verify(tmp_path / 'out', [bag], independent=FRAMES).findings == ()


def test_the_second_opinion_holds_for_long(tmp_path):
    values = [[NAN if number else 3.0] for number in range(FRAMES)]
    state = {'parts': [part('a', nan='hold')], 'samples': 100}
    profile = profile_of(observation__state=state)
    bag, path = written(tmp_path, robot_of(array(values)), profile)
    run(bag, tmp_path / 'out', profile=str(path))
    assert (rows(tmp_path / 'out')['observation.state'] == 3).all()
    assert verify(tmp_path / 'out', [bag], independent=FRAMES).findings == ()
    plan = report(tmp_path / 'out')['bags'][0]['plan']
    assert plan['not_finite'] == {'/numbers': FRAMES - 1}


def test_nan_is_replaced_before_all_operations(tmp_path):
    found = state_of(tmp_path, robot_of(array(HOLES)), part('ab', nan=5, scale=2))
    assert found[:, 1].tolist() == [0, 2, 4, 6, 10, 10, 12, 14, 10, 18, 20, 22]


def test_nan_between_two_messages_is_held(tmp_path):
    robot = robot_of(array(HOLES), start_s=-0.05)
    found = state_of(tmp_path, robot, part('ab', nan='hold', align={'strategy': 'linear'}))
    assert found[:, 1].tolist() == [0.5, 1.5, 2.5, 2.5, 2.5, 2.5, 6.5, 6.5, 6.5, 9.5, 10.5, 11]


@pytest.mark.parametrize('first', [0, 4])
def test_nothing_is_held_over_the_beginning_of_an_episode(tmp_path, first):
    values = [[NAN if number == first else 1.0] for number in range(FRAMES)]
    profile = profile_of(
        part('a', nan='hold'),
        episodes={'ranges': [{'start_s': 0, 'stop_s': 0.35}, {'start_s': 0.35, 'stop_s': 9}]},
    )
    text = refused(tmp_path, robot_of(array(values)), profile)
    assert 'no frame before it in its episode has a number to hold; set nan: and a number' in text
    assert f'received at 1700000000.{first}' in text


def test_a_quaternion_that_is_not_finite_is_held_too(tmp_path):
    robot = robot_of(imu(lambda number, _: [NAN] * 4 if number == 3 else turned(number / 10)))
    found = state_of(tmp_path, robot, orientation('slerp', nan='hold'))
    assert (found[3] == found[2]).all()


def test_what_was_held_is_counted_and_shown(tmp_path, capsys):
    import sys

    profile = profile_of(part('ab', nan='hold'), action={'parts': [part('b', select=[1], nan=0)]})
    bag, path = written(tmp_path, robot_of(array(HOLES)), profile)
    with Display(sys.stderr) as display:
        run(bag, tmp_path / 'out', profile=str(path), observer=display)
    assert report(tmp_path / 'out')['bags'][0]['plan']['not_finite'] == {'/numbers': 6}
    assert '/numbers: 6 frames with NaN or infinity held or replaced' in capsys.readouterr().err
    assert verify(tmp_path / 'out', []).ok


# Arrays whose length changes

LENGTHS = [3, 0, 1, 5, 3, 2, 4, 3, 3, 0, 3, 6]


def test_lists_of_things_in_any_order_are_one_source(tmp_path):
    things = [[10 + 0.1 * n, 500 - 0.1 * n] for n in range(FRAMES)]
    lists = [two if number % 2 else two[::-1] for number, two in enumerate(things)]
    arrays = part('ab', length=2, on_length='pad_or_cut')
    bag, path = written(tmp_path, robot_of(array(lists)), profile_of(arrays))
    run(bag, tmp_path / 'out', profile=str(path))
    assert verify(tmp_path / 'out', [bag], independent=FRAMES).findings == ()


def lists(lengths=LENGTHS):
    """Return arrays of these lengths, whose elements tell their message and their place."""
    return [[10.0 * number + place for place in range(n)] for number, n in enumerate(lengths)]


def fitted(values, length, on_length, pad_value=0.0):
    if len(values) < length and 'pad' in on_length:
        return [*values, *[pad_value] * (length - len(values))]
    return values[:length] if 'cut' in on_length else values


@pytest.mark.parametrize('strategy', ['nearest', 'hold'])
def test_an_array_of_any_length_is_padded_and_cut_where_the_profile_says_so(tmp_path, strategy):
    fits = {'on_length': 'pad_or_cut', 'pad_value': -1, 'align': {'strategy': strategy}}
    count = part('n', element_count=True, align={'strategy': strategy})
    profile = profile_of(
        part('abc', **fits), count,
        observation__some=vector('int64', part('ca', length=3, select=[2, 0], **fits)),
        observation__any=vector('bool', part('a', element_count=True, threshold=0)),
    )  # fmt: skip
    bag, path = written(tmp_path, robot_of(array(lists(), 'Int64')), profile)
    run(bag, tmp_path / 'out', judged=True, profile=str(path))
    expected = [fitted(one, 3, 'pad_or_cut', -1) for one in lists()]
    found = rows(tmp_path / 'out')
    assert found['observation.state'].tolist() == [
        [*one, length] for one, length in zip(expected, LENGTHS, strict=True)
    ]
    assert found['observation.some'].tolist() == [[one[2], one[0]] for one in expected]
    assert found['observation.any'].tolist() == [length > 0 for length in LENGTHS]
    plan = report(tmp_path / 'out')['bags'][0]['plan']
    assert (plan['padded'], plan['cut_short']) == ({'/numbers': 8}, {'/numbers': 6})
    assert verify(tmp_path / 'out', [bag], independent=FRAMES).ok


@pytest.mark.parametrize(
    ('lengths', 'on_length', 'words'),
    [
        ([3, 3, 2], None, 'has 2 elements in data, expected 3; check the robot or the profile, '
         'or set on_length: pad, or pad_or_cut'),
        ([3, 3, 4], 'pad', 'has 4 elements in data, expected 3; check the robot or the profile, '
         'or set on_length: cut, or pad_or_cut'),
        ([3, 3, 2], 'cut', 'has 2 elements in data, expected 3'),
        ([3, 3, 0], 'cut', 'has 0 elements in data, expected 3'),
    ],
)  # fmt: skip
def test_a_length_that_the_profile_does_not_allow_is_refused(tmp_path, lengths, on_length, words):
    keys = {} if on_length is None else {'on_length': on_length}
    robot = robot_of(array(lists([*lengths, *[3] * (FRAMES - len(lengths))])))
    assert words in refused(tmp_path, robot, profile_of(part('abc', **keys)))


def test_padding_comes_before_operations_and_is_shown(tmp_path, capsys):
    import sys

    scaled = part('abc', on_length='pad_or_cut', pad_value=1, scale=2, offset=5)
    bag, path = written(tmp_path, robot_of(array(lists())), profile_of(scaled))
    with Display(sys.stderr) as display:
        run(bag, tmp_path / 'out', profile=str(path), observer=display)
    expected = [[2 * value + 5 for value in fitted(one, 3, 'pad_cut', 1)] for one in lists()]
    assert rows(tmp_path / 'out')['observation.state'].tolist() == expected
    shown = capsys.readouterr().err
    assert '/numbers: 4 frames with too few elements padded (on_length)' in shown
    assert '/numbers: 3 frames with too many elements cut (on_length)' in shown


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(-9, 9), max_size=6), min_size=1, max_size=6),
    st.integers(1, 6),
    st.sampled_from(['pad', 'cut', 'pad_or_cut']),
    st.integers(-3, 3),
)
def test_any_array_is_fitted_as_stated_or_refused(values, length, on_length, pad_value):
    from types import SimpleNamespace

    from kuavo_bag_converter.bags.model import Connection
    from kuavo_bag_converter.frames.elements import ElementReader
    from kuavo_bag_converter.messages.definitions import Definitions
    from kuavo_bag_converter.profiles.model import Part, Source, VectorFeature

    source = Source('/numbers', ('data',))
    names = tuple(map(str, range(length)))
    mine = Part(names, (source,), on_length=on_length, pad_value=float(pad_value))
    definitions = Definitions()
    reader = ElementReader(mine, source, definitions, VectorFeature('action', (mine,)))
    connection = Connection(0, '/numbers', 'std_msgs/msg/Float64MultiArray', 'cdr', '', '')
    for given_values in values:
        message = SimpleNamespace(data=np.array(given_values, np.float64))
        wanted = fitted(given_values, length, on_length, pad_value)
        if len(wanted) == length:
            assert reader.read(connection, 0, message).tolist() == wanted
            changed = 'padded' if len(given_values) < length else 'cut_short'
            assert reader.fitted == (changed if len(given_values) != length else '')
        else:
            with pytest.raises(BagError, match='elements in data, expected'):
                reader.read(connection, 0, message)


# Rewards, ends and what else is no float32, as a dataset


@pytest.mark.parametrize('version', ['v3.0', 'v2.1'])
def test_features_of_all_dtypes_become_a_dataset(tmp_path, version):
    values = [[2**53 + 1 + number, number % 2] for number in range(FRAMES)]
    profile = profile_of(
        part('b', select=[1]),
        observation__count=vector('int64', part('ab')),
        observation__contact=vector('bool', part('b', select=[1])),
        next__reward=vector('float32', part('r', select=[1], scale=0.5)),
        next__done=vector('bool', {'last_frame': True, 'names': ['done']}),
        next__success=vector('int64', {'last_frame': True, 'names': ['success']}),
        episodes={'ranges': [{'start_s': 0, 'stop_s': 0.35}, {'start_s': 0.35, 'stop_s': 9}]},
    )
    bag, path = written(tmp_path, robot_of(array(values, 'Int64')), profile)
    root = tmp_path / 'out'
    run(bag, root, judged=True, profile=str(path), lerobot_version=version)
    table = rows(root)
    assert table['next.done'].tolist() == [n in (3, FRAMES - 1) for n in range(FRAMES)]
    assert table['next.success'].tolist() == [int(n in (3, 11)) for n in range(FRAMES)]
    assert table['next.reward'].tolist() == [0.5 * (n % 2) for n in range(FRAMES)]
    assert table['observation.count'].tolist() == values
    assert table['observation.contact'].tolist() == [bool(n % 2) for n in range(FRAMES)]
    features = info(root)['features']
    assert {key: entry['dtype'] for key, entry in features.items() if key in table} == {
        'observation.state': 'float32',
        'observation.count': 'int64',
        'observation.contact': 'bool',
        'next.reward': 'float32',
        'next.done': 'bool',
        'next.success': 'int64',
        'timestamp': 'float32',
        **dict.fromkeys(['frame_index', 'episode_index', 'index', 'task_index'], 'int64'),
    }
    assert features['next.done']['shape'] == [1]
    assert verify(root, []).ok


@pytest.mark.parametrize('python', PYTHONS)
def test_lerobot_loads_features_of_all_dtypes(tmp_path, python):
    values = [[2**62 + number, number % 2] for number in range(FRAMES)]
    profile = profile_of(
        part('b', select=[1]),
        observation__count=vector('int64', part('ab')),
        observation__contacts=vector('bool', part('bc', select=[1, 1])),
        next__reward=vector('float32', part('r', select=[1], scale=0.5)),
        next__done=vector('bool', {'last_frame': True, 'names': ['done']}),
        next__success=vector('int64', {'last_frame': True, 'names': ['success']}),
    )
    bag, path = written(tmp_path, robot_of(array(values, 'Int64')), profile)
    version = 'v2.1' if version_of(python) < (0, 4) else 'v3.0'
    run(bag, tmp_path / 'out', profile=str(path), lerobot_version=version)
    found = read(python, tmp_path / 'frames.npz', tmp_path / 'out')
    for backend in BACKENDS:
        loaded = {key: found[f'out/{backend}/{key}'] for key in profile['features']}
        assert loaded['observation.count'].tolist() == values
        assert loaded['observation.contacts'].tolist() == [[bool(n % 2)] * 2 for _, n in values]
        assert loaded['next.reward'].tolist() == [0.5 * n for _, n in values]
        assert loaded['next.done'].tolist() == [False] * (FRAMES - 1) + [True]
        assert loaded['next.success'].tolist() == [0] * (FRAMES - 1) + [1]


def test_a_dataset_of_another_dtype_is_not_added_to(tmp_path):
    from kuavo_bag_converter.support.errors import UsageError

    robot = robot_of(array([[1.0]] * FRAMES))
    bag, path = written(tmp_path, robot, profile_of(part('a')))
    run(bag, tmp_path / 'out', profile=str(path))
    text = path.read_text().replace('"parts"', '"dtype": "float64", "parts"')
    path.write_text(text)
    with pytest.raises(UsageError, match='was made with other settings'):
        run(bag, tmp_path / 'out', profile=str(path), append=True)


def test_a_quaternion_over_several_messages_is_refused(tmp_path):
    names = [['x', 'y'], ['z', 'w']]
    make = joint_state(lambda *_: [0.6, 0.8], lambda number: names[number % 2])
    joints = part(field='position', joints=list('xyzw'), quaternion='continuous', names='xyzw')
    text = refused(tmp_path, robot_of(make, hz=20, count=24), profile_of(joints))
    assert 'quaternion needs all elements of a quaternion in one message' in text


def test_the_second_opinion_agrees_on_what_the_settings_do(tmp_path):
    values = [
        [*degrees, NAN if number == 7 else float(number)]
        for number, degrees in enumerate(turning(150.0, 9.0))
    ]
    robot = robot_of(array(values), start_s=-0.05)
    robot.publish('/imu', every(15, FRAMES / HZ, -0.02), imu(flipping))
    angle = {'unit': 'angle_deg', 'select': [0]}
    source = {'from': {'topic': '/imu', 'fields': ORIENTATION}, 'names': list('xyzw')}
    profile = profile_of(
        part('a', **angle, align={'strategy': 'linear'}),
        part('b', select=[1], nan='hold', align={'strategy': 'linear'}),
        {**source, 'align': {'strategy': 'slerp'}},
        observation__turned={'parts': [{**source, 'quaternion': 'positive_w'}]},
        observation__moved={'parts': [part('a', **angle, relative_to_start=True)]},
        observation__whole=vector('int64', part('b', select=[1], nan=-1, scale=2)),
        action={'parts': [part('a', **angle)], 'minus': 'observation.state'},
        next__done=vector('bool', {'last_frame': True, 'names': ['done']}),
    )
    bag, path = written(tmp_path, robot, profile)
    run(bag, tmp_path / 'out', profile=str(path))
    found = verify(tmp_path / 'out', [bag], independent=FRAMES)
    assert found.findings == ()
    assert found.opinion.values == FRAMES * (6 + 4 + 1 + 1 + 1 + 1)
