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

"""Values belong to what messages name: joints, entries, publishers, frames; never to a place."""

from __future__ import annotations

from conversions import numbers, report, run
import cv2
from kuavo_bag_converter.api import inspect
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.identity import IdentityReader, named_path
from kuavo_bag_converter.messages.stamp_fields import StampReader
from kuavo_bag_converter.profiles.dump import profile_as_yaml
from kuavo_bag_converter.profiles.loader import read_profile
from kuavo_bag_converter.replay.verify import verify
from kuavo_bag_converter.sample.barcode import draw_frame_number
from kuavo_bag_converter.support.errors import BagError, UsageError
from named_recordings import profile_file, profile_of, read, Recording
import numpy as np
import pytest
from ros_messages import connection_of, store_of

LEFT, RIGHT = ['left_1', 'left_2'], ['right_1', 'right_2']


def both_arms(ros1=False, left=(0.0, 1.0), right=(0.0, 1.0)):
    """Return two nodes that publish the joints of their arm on one topic, as numbers of time."""
    recording = Recording(ros1)
    for names, hz, when, sign in ((LEFT, 47, left, 1), (RIGHT, 33, right, -1)):
        recording.every(
            '/joint_states', hz,
            lambda t, names=names, sign=sign: recording.joints(t, names, [sign * t, sign * 2 * t]),
            *when, publisher=f'/{names[0]}', late=0.004 if sign < 0 else 0.001,
        )  # fmt: skip
    return recording


def part(joints=None, field='position', topic='/joint_states', **keys):
    source = {'topic': topic, 'field': field}
    names = {'joints': joints} if joints else {'names': ['a', 'b']}
    return {'from': source, **names, **keys}


def refused(folder, recording, *parts, **keys):
    with pytest.raises(BagError) as caught:
        read(folder, recording, *parts, **keys)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_names_do_not_matter_where_the_profile_says_so(tmp_path):
    recording = both_arms()
    plain = part()
    plain['from']['names_field'] = None
    assert len(read(tmp_path, recording, plain)[0])


@pytest.mark.parametrize('ros1', [False, True])
def test_a_place_in_messages_that_name_their_elements_differently_is_refused(tmp_path, ros1):
    text = refused(tmp_path, both_arms(ros1), part())
    assert text.startswith('/joint_states: the message received at 17000000')
    assert 'its name is [right_1, right_2], of those before [left_1, left_2]' in text
    assert text.endswith(
        'give joints in the profile, by which they are read by name, or names_field: null in the '
        'source if it does not matter (observation.state)'
    )


@pytest.mark.parametrize('strategy', ['nearest', 'hold', 'linear'])
@pytest.mark.parametrize('ros1', [False, True])
def test_joints_are_gathered_from_the_messages_that_name_them(tmp_path, ros1, strategy):
    mixed = part(['right_2', 'left_1', 'left_2', 'right_1'], align={'strategy': strategy})
    values, times = read(tmp_path, both_arms(ros1), mixed)
    late = {'nearest': 0.02, 'hold': 0.04, 'linear': 0.005}[strategy]
    assert np.abs(values - times[:, None] * [-2, 1, 2, -1]).max() <= 2 * late
    if strategy == 'hold':
        assert (np.abs(values) <= np.abs(times[:, None] * [2, 1, 2, 1]) + 1e-6).all()


def test_a_publisher_that_comes_late_or_stops_early_is_gathered_too(tmp_path):
    late = both_arms(right=(0.5, 0.8))
    align = {'strategy': 'nearest', 'tolerance_ms': 40, 'on_gap': 'split'}
    values, times = read(tmp_path, late, part(['left_1', 'right_1'], align=align))
    assert times.min() > 0.45
    assert times.max() < 0.85
    assert np.abs(values - times[:, None] * [1, -1]).max() < 0.05


def test_the_messages_that_pass_by_are_counted_and_verified(tmp_path):
    recording = both_arms()
    profile = profile_file(tmp_path, profile_of(part([*RIGHT, *LEFT])))
    bag = recording.write(tmp_path)
    done = run(bag, tmp_path / 'dataset', judged=True, profile=str(profile))
    assert [outcome.status for outcome in done.outcomes] == ['converted']
    tracks = report(tmp_path / 'dataset')['bags'][0]['plan']['tracks']
    assert [track['topic'] for track in tracks] == [
        '/joint_states (right_1, right_2)', '/joint_states (left_1, left_2)'
    ]  # fmt: skip
    assert [track['passed_by'] for track in tracks] == [
        {'without the joint': 48}, {'without the joint': 34}
    ]  # fmt: skip
    assert {track['selected_from'] for track in tracks} == {'/joint_states'}
    bag = str(tmp_path / 'run')
    assert verify(tmp_path / 'dataset', [bag], independent=20).findings == ()


def test_a_joint_that_no_message_has_is_refused_with_those_that_there_are(tmp_path):
    text = refused(tmp_path, both_arms(), part(['left_1', 'right_3']))
    assert "no message has the joint 'right_3'" in text or "has no joint 'right_3'" in text
    assert "did you mean 'right_" in text


def test_messages_without_names_and_names_that_only_change_places(tmp_path):
    recording = Recording()
    recording.every('/joint_states', 50, lambda t: recording.joints(t, [], [t, 2 * t]))
    values, times = read(tmp_path, recording, part())
    assert np.abs(values - times[:, None] * [1, 2]).max() < 0.02
    turned = Recording()
    turned.every('/joint_states', 50, lambda t: turned.joints(t, LEFT, [t, 2 * t]))
    turned.every('/joint_states', 50, lambda t: turned.joints(t, LEFT[::-1], [2 * t, t]), 0.01)
    (tmp_path / 'turned').mkdir()
    assert 'its name is [left_2, left_1]' in refused(tmp_path / 'turned', turned, part())


def dynamic(recording, time, names, values):
    kind = 'control_msgs/msg/'
    interfaces = [
        recording.make(f'{kind}InterfaceValue', ['effort', 'position'], np.array([9.0, value]))
        for value in values
    ]
    return recording.make(
        f'{kind}DynamicJointState', recording.header(time), list(names), interfaces
    )


def test_joints_of_dynamic_joint_states_are_read_by_their_names(tmp_path):
    recording = Recording()
    recording.every('/joint_states', 50, lambda t: dynamic(recording, t, ['a', 'b'], [t, 2 * t]))
    recording.every(
        '/joint_states', 50, lambda t: dynamic(recording, t, ['b', 'a'], [2 * t, t]), 0.01
    )
    fields = [
        f'interface_values[joint_names={name}].values[interface_names=position]' for name in 'ba'
    ]
    by_key = {'from': {'topic': '/joint_states', 'fields': fields}, 'names': ['b', 'a']}
    values, times = read(tmp_path, recording, by_key)
    assert np.abs(values - times[:, None] * [2, 1]).max() < 0.03
    each = 'interface_values[].values[interface_names=position]'
    (tmp_path / 'joints').mkdir()
    by_joints = part(['b', 'a'], field=each)
    values, times = read(tmp_path / 'joints', recording, by_joints)
    assert np.abs(values - times[:, None] * [2, 1]).max() < 0.03
    (tmp_path / 'place').mkdir()
    at_place = part(field='interface_values[0].values')
    text = refused(tmp_path / 'place', recording, at_place)
    assert "its joint_names is 'b', of those before 'a'" in text
    assert 'interface_values[joint_names=...]' in text


def test_the_names_of_trajectories_and_of_single_numbers_count_too(tmp_path):
    recording = Recording()
    recording.every('/go', 40, lambda t: recording.trajectory(t, ['a', 'b'], [[t, 2 * t]]))
    recording.every('/go', 40, lambda t: recording.trajectory(t, ['b', 'a'], [[2 * t, t]]), 0.01)
    command = part(topic='/go', field='points[0].positions')
    assert 'its joint_names is [b, a]' in refused(tmp_path, recording, command)
    (tmp_path / 'named').mkdir()
    named = part(['b', 'a'], topic='/go', field='points[0].positions')
    values, times = read(tmp_path / 'named', recording, named)
    assert np.abs(values - times[:, None] * [2, 1]).max() < 0.03
    motors = Recording()
    for name, sign in (('left', 1), ('right', -1)):
        motors.every(
            '/motor', 40, lambda t, name=name, sign=sign: motors.make(
                'made_up/msg/Motor', name, sign * t
            ), 0.0 if sign > 0 else 0.01,
        )  # fmt: skip
    (tmp_path / 'motors').mkdir()
    single = {'from': {'topic': '/motor', 'field': 'position'}, 'names': ['q']}
    assert "its name is 'right'" in refused(tmp_path / 'motors', motors, single)
    (tmp_path / 'each').mkdir()
    values, times = read(
        tmp_path / 'each', motors, part(['right', 'left'], topic='/motor')
    )  # fmt: skip
    assert np.abs(values - times[:, None] * [-1, 1]).max() < 0.03


def servos(make_id):
    recording = Recording()
    for number in range(101):
        identity, sign = make_id(number)
        message = recording.make('made_up/msg/Servo', identity, sign * number / 100)
        recording.send('/servo', number / 100, message)
    return recording


def test_numbers_of_motors_tell_them_apart_and_counters_do_not(tmp_path):
    plain = {'from': {'topic': '/servo', 'field': 'position'}, 'names': ['q']}
    turns = servos(lambda number: (3 + number % 2, 1 - 2 * (number % 2)))
    assert 'its id is 3, of those before 4' in refused(tmp_path, turns, plain)
    (tmp_path / 'joints').mkdir()
    named = part(['4', '3'], topic='/servo')
    named['from']['names_field'] = 'id'
    values, times = read(tmp_path / 'joints', turns, named)
    assert np.abs(values - times[:, None] * [-1, 1]).max() < 0.03
    (tmp_path / 'key').mkdir()
    keyed = {'from': {'topic': '/servo', 'field': '[id=4].position'}, 'names': ['q']}
    values, times = read(tmp_path / 'key', turns, keyed)
    assert np.abs(values[:, 0] + times).max() < 0.03
    (tmp_path / 'counter').mkdir()
    values, times = read(tmp_path / 'counter', servos(lambda number: (number, 1)), plain)
    assert np.abs(values[:, 0] - times).max() < 1e-6


def test_tags_with_lists_of_ids_and_names_within_a_goal(tmp_path):
    recording = Recording()
    point = recording.make('geometry_msgs/msg/Point', 1.0, 0.0, 0.0)
    for number in range(101):
        ids = [np.array([one], np.int32) for one in ((4, 5), (5, 4))[number % 2]]
        tags = [recording.make('made_up/msg/Tag', one, point) for one in ids]
        recording.send('/tags', number / 100, recording.make('made_up/msg/Tags', tags))
        names = ['a', 'b'] if number % 2 else ['b', 'a']
        goal = recording.trajectory(0, names, [[names.index('a'), names.index('b')]])
        recording.send('/goal', number / 100, recording.make('made_up/msg/Goal', goal))
    first = {'from': {'topic': '/tags', 'field': 'tags[0].position.x'}, 'names': ['x']}
    assert 'its tags[0].id is [5], of those before [4]' in refused(tmp_path, recording, first)
    (tmp_path / 'goal').mkdir()
    values, _ = read(
        tmp_path / 'goal', recording,
        part(['b', 'a'], topic='/goal', field='trajectory.points[0].positions'),
    )  # fmt: skip
    assert np.isin(values.sum(axis=1), 1).all()


def test_texts_that_are_no_names_do_not_matter(tmp_path):
    recording = Recording()
    recording.every(
        '/motors', 40,
        lambda t: recording.make(
            'made_up/msg/Motors', ['moving', f'{t}'], np.array([t, 2 * t])
        ),
    )  # fmt: skip
    values, times = read(tmp_path, recording, part(topic='/motors', field='q'))
    assert np.abs(values - times[:, None] * [1, 2]).max() < 0.03


def objects(recording, time, *order):
    point = 'geometry_msgs/msg/Point'
    made = [
        recording.make('made_up/msg/Object', i, recording.make(point, i + time, 0.0, 0.0))
        for i in order
    ]
    return recording.make('made_up/msg/Objects', made)


def test_a_place_in_a_list_whose_entries_change_is_refused_and_a_key_chosen(tmp_path):
    recording = Recording()
    recording.every('/seen', 40, lambda t: objects(recording, t, 7, 3))
    recording.every('/seen', 40, lambda t: objects(recording, t, 3), 0.01)
    recording.every('/seen', 40, lambda t: objects(recording, t), 0.005)

    def x_of(entry):
        return {
            'from': {'topic': '/seen', 'field': f'objects[{entry}].position.x'},
            'names': ['x'],
        }

    text = refused(tmp_path, recording, x_of(0))
    assert 'its objects[0].id is 3, of those before 7' in text or 'is 7, of those before 3' in text
    assert 'choose the entry by what it is, as objects[id=...]' in text
    (tmp_path / 'key').mkdir()
    values, times = read(tmp_path / 'key', recording, x_of('id=7'))
    assert np.abs(values[:, 0] - 7 - times).max() < 0.03
    (tmp_path / 'none').mkdir()
    text = refused(tmp_path / 'none', recording, x_of('id=8'))
    assert 'none of its messages can serve' in text or 'no element with id' in text


def poses(recording, times, frame, sign=1, publisher='/node', start=0.0):
    kind = 'geometry_msgs/msg/'
    recording.every(
        '/pose', times,
        lambda t: recording.make(
            f'{kind}PoseStamped', recording.header(t, frame),
            recording.make(
                f'{kind}Pose', recording.make(f'{kind}Point', sign * t, 0.0, 0.0),
                recording.make(f'{kind}Quaternion', 0.0, 0.0, 0.0, 1.0),
            ),
        ), start, publisher=publisher,
    )  # fmt: skip
    return recording


def pose_part(**source):
    return {'from': {'topic': '/pose', 'field': 'pose.position.x', **source}, 'names': ['x']}


@pytest.mark.parametrize('ros1', [False, True])
def test_poses_of_two_frames_on_a_topic_are_told_apart_by_frame_id(tmp_path, ros1):
    recording = poses(poses(Recording(ros1), 40, 'map'), 40, 'odom', -1, start=0.01)
    text = refused(tmp_path, recording, pose_part())
    assert "its header.frame_id is 'odom', of those before 'map'" in text
    for name, sign in (('map', 1), ('odom', -1)):
        (tmp_path / name).mkdir()
        values, times = read(tmp_path / name, recording, pose_part(frame_id=name))
        assert np.abs(values[:, 0] - sign * times).max() < 0.03
    (tmp_path / 'any').mkdir()
    assert len(read(tmp_path / 'any', recording, pose_part(frame_id=None))[0])
    (tmp_path / 'other').mkdir()
    text = refused(tmp_path / 'other', recording, pose_part(frame_id='mop'))
    assert "no message is of the frame mop, but of 'map', 'odom'; did you mean 'map'?" in text


def test_joints_of_nodes_with_other_frames_are_gathered_but_not_mixed(tmp_path):
    recording = Recording()
    for names, frame, start in ((LEFT, 'left', 0.0), (RIGHT, 'right', 0.01)):
        recording.every(
            '/joint_states', 40,
            lambda t, names=names, frame=frame: recording.joints(t, names, [t, t], frame=frame),
            start,
        )  # fmt: skip
    values, times = read(tmp_path, recording, part(['left_1', 'right_2']))
    assert np.abs(values - times[:, None]).max() < 0.03
    (tmp_path / 'mixed').mkdir()
    recording = Recording()
    for frame, start, until in (('left', 0.0, 0.5), ('else', 0.51, 1.0)):
        recording.every(
            '/joint_states', 40,
            lambda t, frame=frame: recording.joints(t, LEFT, [t, t], frame=frame), start, until,
        )  # fmt: skip
    text = refused(tmp_path / 'mixed', recording, part(['left_1']))
    assert "its header.frame_id is 'else', of those before 'left'" in text


def test_a_publisher_is_chosen_where_the_bag_tells_them(tmp_path):
    recording = poses(Recording(ros1=True), 40, 'map', publisher='/slam')
    poses(recording, 40, 'odom', -1, publisher='/wheels', start=0.01)
    values, times = read(tmp_path, recording, pose_part(publisher='/wheels'))
    assert np.abs(values[:, 0] + times).max() < 0.03
    (tmp_path / 'other').mkdir()
    text = refused(tmp_path / 'other', recording, pose_part(publisher='/wheel'))
    assert "but by /slam, /wheels; did you mean '/wheels'?" in text
    (tmp_path / 'none').mkdir()
    text = refused(tmp_path / 'none', poses(Recording(), 40, 'map'), pose_part(publisher='/slam'))
    assert 'the bag does not tell who publishes what' in text


@pytest.mark.parametrize('container', ['mcap', 'sqlite3', 'bag'])
def test_a_topic_of_two_types_asks_which(tmp_path, container):
    recording = Recording(ros1=container == 'bag')
    recording.every('/q', 40, lambda t: recording.joints(t, LEFT, [t, 2 * t]))
    recording.every(
        '/q', 40, lambda t: recording.make(
            'std_msgs/msg/Float64MultiArray',
            recording.make('std_msgs/msg/MultiArrayLayout', [], 0), np.array([-t, -t]),
        ), 0.01,
    )  # fmt: skip
    text = refused(tmp_path, recording, part(topic='/q'), container=container)
    assert 'has messages of sensor_msgs/msg/JointState, std_msgs/msg/Float64MultiArray' in text
    assert 'give the type that observation.state needs in the source' in text
    chosen = part(topic='/q')
    chosen['from']['type'] = 'sensor_msgs/msg/JointState'
    (tmp_path / 'one').mkdir()
    values, times = read(tmp_path / 'one', recording, chosen, container=container)
    assert np.abs(values - times[:, None] * [1, 2]).max() < 0.03


def test_an_empty_command_is_none_and_an_empty_state_an_error(tmp_path):
    recording = Recording()
    recording.every('/go', 20, lambda t: recording.trajectory(t, ['a', 'b'], [[t, 2 * t]]))
    recording.every('/go', 20, lambda t: recording.trajectory(t, ['a', 'b'], []), 0.02)
    held = part(topic='/go', field='points[0].positions', align={'strategy': 'hold'})
    values, times = read(tmp_path, recording, held)
    assert (values[:, 0] <= times + 1e-6).all()
    assert np.abs(values - times[:, None] * [1, 2]).max() < 0.11
    (tmp_path / 'joints').mkdir()
    named = part(['b'], topic='/go', field='points[0].positions', align={'strategy': 'hold'})
    assert len(read(tmp_path / 'joints', recording, named)[0])
    (tmp_path / 'nearest').mkdir()
    recording = Recording()
    recording.every(
        '/go', 20, lambda t: recording.trajectory(t, ['a', 'b'], [[t, t]] if t < 0.5 else [])
    )
    state = part(topic='/go', field='points[0].positions', align={'strategy': 'linear'})
    text = refused(tmp_path / 'nearest', recording, state)
    assert 'points has 0 elements' in text


@pytest.mark.parametrize('field', ['timestamp', 'header', 'header.stamp', 't'])
@pytest.mark.parametrize('ros1', [False, True])
def test_stamps_anywhere_in_a_message_are_its_header_stamps(tmp_path, field, ros1):
    recording = Recording(ros1)
    recording.every(
        '/late', 50, lambda t: recording.make(
            'made_up/msg/Late', t, 1_700_000_000_000_000 + round(t * 1e6), recording.header(t),
            1_700_000_000 + t,
        ), late=0.2,
    )  # fmt: skip
    recording.every('/stamped', 10, lambda t: recording.joints(t, ['a'], [t]), late=0.05)
    source = {'topic': '/late', 'field': 'q', 'stamp_field': field}
    state = {'from': source, 'names': ['q'], 'align': {'strategy': 'linear'}}
    clock = {'from': {'topic': '/stamped'}, 'timeline': 'header'}
    values, times = read(
        tmp_path, recording, state, clock=clock, align={'timeline': 'header'}
    )  # fmt: skip
    assert np.abs(values[:, 0] - times).max() < 1e-4


def test_a_stamp_in_an_unknown_unit_asks_for_it_and_a_text_is_none(tmp_path):
    recording = Recording()
    recording.every(
        '/late', 50, lambda t: recording.make(
            'made_up/msg/Late', t, round((t + 3) * 1000), recording.header(t), 0.0
        ),
    )  # fmt: skip
    recording.every('/stamped', 10, lambda t: recording.joints(t, ['a'], [t]))
    clock = {'from': {'topic': '/stamped'}, 'timeline': 'header'}

    def part_of(**more):
        return {'from': {'topic': '/late', 'field': 'q', **more}, 'names': ['q']}

    keys = {'clock': clock, 'align': {'timeline': 'header'}}
    text = refused(tmp_path, recording, part_of(stamp_field='timestamp'), **keys)
    assert 'give its unit as stamp_unit: s, ms, us, ns' in text
    (tmp_path / 'ms').mkdir()
    text = refused(
        tmp_path / 'ms', recording, part_of(stamp_field='timestamp', stamp_unit='ms'), **keys
    )
    assert 'no header stamp is within 60 s of the receive stamp' in text


def test_a_receive_stamp_of_0_tells_no_unit():
    connection = connection_of('made_up/msg/Counted', definition='uint64 ticks\n')
    decoder = Definitions().decoder(connection)
    message = decoder(b'\0\1\0\0' + (5).to_bytes(8, 'little'))
    reader = StampReader('ticks', '', connection, Definitions())
    with pytest.raises(BagError, match=r'ticks is 5, which in no unit is near .* as stamp_unit'):
        reader.read(message, 0)


CAMERAS = {'left': 'head_cam_h', 'right': 'wrist_cam_l'}


def two_cameras(ros1):
    """Return two cameras that publish their coded pictures on one topic, 5 ms apart."""
    recording = Recording(ros1)
    for frame, code in CAMERAS.items():
        for number in range(5):
            picture = np.full((120, 160, 3), (40, 90, 200), np.uint8)
            draw_frame_number(picture, code, number, (30, 220))
            data = cv2.imencode('.jpg', picture)[1].reshape(-1)
            time = number / 5 + (0 if frame == 'left' else 0.005)
            message = recording.make(
                'sensor_msgs/msg/CompressedImage', recording.header(time, frame), 'jpeg', data
            )
            recording.send('/cam', time, message, publisher=f'/{frame}')
    return recording


def camera_profile(**sources):
    cameras = {
        f'observation.images.{name}': {'camera': {'from': {'topic': '/cam', **source}}}
        for name, source in sources.items()
    }
    tick = {'from': {'topic': '/tick', 'field': 'data'}, 'names': ['a']}
    return profile_of(tick, fps=5, **cameras)


@pytest.mark.parametrize(
    ('ros1', 'key', 'video'),
    [(False, 'frame_id', 'encode'), (True, 'publisher', 'copy'), (True, 'frame_id', 'encode')],
)
def test_two_cameras_on_one_topic_ask_which_and_become_two(tmp_path, ros1, key, video):
    bag = two_cameras(ros1).write(tmp_path)
    one = profile_file(tmp_path, camera_profile(cam={}))
    (outcome,) = run(bag, tmp_path / 'refused', profile=str(one)).outcomes
    assert outcome.status == 'failed'
    assert "/cam: its frame_id is 'right', of those before 'left'" in outcome.reason
    slash = '/' if key == 'publisher' else ''
    sources = {name: {key: f'{slash}{name}', 'frame_id': name} for name in CAMERAS}
    profile = profile_file(tmp_path, camera_profile(**sources))
    (outcome,) = run(bag, tmp_path / 'both', profile=str(profile), video=video).outcomes
    assert outcome.status == 'converted', outcome.reason
    for frame, code in CAMERAS.items():
        found = numbers(tmp_path / 'both', f'observation.images.{frame}')
        assert found[:5] == [(code, number) for number in range(5)]
    topics = [track['topic'] for track in report(tmp_path / 'both')['bags'][0]['plan']['tracks']]
    assert len(topics) == 3


def test_inspect_says_what_convert_says_and_advises_no_place_that_changes(tmp_path):
    recording = both_arms()
    recording.every('/seen', 40, lambda t: objects(recording, t, 7, 3))
    bag = recording.write(tmp_path)
    for wanted, words in (
        (part(), 'its name is [right_1, right_2]'),
        (part(['left_1', 'right_2']), ''),
        ({'from': {'topic': '/seen', 'field': 'objects[0].position.x'}, 'names': ['x']}, ''),
    ):
        profile = profile_file(tmp_path, profile_of(wanted))
        found = inspect(bag, profile=str(profile))
        misses = [miss.text for miss in found.asked.misses]
        assert bool(misses) == bool(words)
        assert all(words in text for text in misses)
    topics = {topic.topic: topic for topic in found.topics}
    assert 'objects[id=7].position.x' in topics['/seen'].fields
    assert not any('[0]' in path for path in topics['/seen'].fields)


def test_bags_whose_elements_come_in_another_order_are_not_joined(tmp_path):
    bags = []
    for number, names in enumerate((LEFT, LEFT, LEFT[::-1])):
        recording = Recording()
        for time in np.arange(0, 1.01, 0.05).tolist():
            message = recording.joints(time, names, [time, number])
            recording.send('/joint_states', time, message)
        folder = tmp_path / str(number)
        folder.mkdir()
        bags.append(recording.write(folder))
    profile = str(profile_file(tmp_path, profile_of(part())))
    outcomes = run(bags, tmp_path / 'dataset', profile=profile).outcomes
    assert [outcome.status for outcome in outcomes] == ['converted', 'converted', 'failed']
    assert 'come in the order left_2, left_1, those of other bags in the order' in str(
        outcomes[2].reason
    )
    (added,) = run(bags[2], tmp_path / 'dataset', profile=profile, append=True).outcomes[-1:]
    assert added.status == 'failed'
    assert 'by which they are read by name (observation.state, part 1)' in added.reason


@pytest.mark.parametrize(
    'source',
    [
        {'frame_id': 'left'},
        {'frame_id': ['left', 'right'], 'publisher': '/camera'},
        {'frame_id': None, 'names_field': None},
        {'stamp_field': 'info.stamp', 'stamp_unit': 'us'},
        {'field': 'a[id=7].b[c.d=e f].x'},
    ],
)
def test_what_a_source_chooses_is_kept_in_the_profile(tmp_path, source):
    state = {'from': {'topic': '/a', 'field': 'b', **source}, 'names': ['x']}
    profile = read_profile(profile_file(tmp_path, profile_of(state)))
    (kept,) = profile.vectors[0].parts[0].sources
    path = tmp_path / 'written.yaml'
    path.write_text(profile_as_yaml(profile).replace('name: profile', 'name: written'))
    assert read_profile(path).vectors == profile.vectors
    frames = source.get('frame_id', ())
    assert kept.frame_ids == (None if frames is None else tuple([frames] * isinstance(frames, str)
                                                                or frames))  # fmt: skip


@pytest.mark.parametrize(
    ('source', 'words'),
    [
        ({'frame_id': 3}, 'expected a frame, a list of them, or null for any, found 3'),
        ({'publisher': ''}, 'expected the name of a node'),
        ({'stamp_unit': 'ns'}, 'is that of a stamp_field, which is missing'),
        ({'stamp_field': 'a', 'stamp_unit': 'min'}, 'expected one of s, ms, us, ns'),
        ({'names_field': 'name'}, 'names the joints of a part that has joints'),
        ({'field': 'a[id=].x'}, 'expected a field path such as position'),
    ],
)
def test_a_source_says_what_it_chooses_in_its_own_words(tmp_path, source, words):
    state = {'from': {'topic': '/a', 'field': 'b', **source}, 'names': ['x']}
    with pytest.raises(UsageError) as caught:
        read_profile(profile_file(tmp_path, profile_of(state)))
    assert words in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('stamps', [{}, {'stamp_field': 'header.stamp'}])
def test_a_clock_on_the_topic_of_a_camera_means_the_same_messages(tmp_path, stamps):
    profile = camera_profile(cam={'frame_id': 'right', **stamps})
    profile['clock'] = {'from': {'topic': '/cam'}, 'fps': 5, 'end_trim': 'none'}
    if stamps:
        profile['align'] = {'timeline': 'header'}
        profile['clock']['timeline'] = 'header'
        profile['features'].pop('observation.state')
    bag = two_cameras(ros1=False).write(tmp_path)
    path = profile_file(tmp_path, profile)
    (outcome,) = run(bag, tmp_path / 'dataset', profile=str(path)).outcomes
    assert outcome.status == 'converted', outcome.reason
    found = numbers(tmp_path / 'dataset', 'observation.images.cam')
    assert found == [('wrist_cam_l', number) for number in range(5)]
    (entry,) = report(tmp_path / 'dataset')['bags']
    topic = entry['plan']['clock_topic']
    assert topic.startswith('/cam (right')
    assert entry['plan']['tracks'][-1]['error_ms']['max'] == 0


@pytest.mark.parametrize('face', ['convert', 'inspect'])
def test_a_publisher_that_begins_after_hundreds_of_messages_is_found(tmp_path, face):
    recording = Recording()
    recording.every('/joint_states', 400, lambda t: recording.joints(t, LEFT, [t, 2 * t]))
    recording.every('/joint_states', 50, lambda t: recording.joints(t, RIGHT, [-t, t]), 0.7)
    recording.every('/go', 400, lambda t: recording.trajectory(t, ['a'], []), 0, 0.6)
    recording.every('/go', 40, lambda t: recording.trajectory(t, ['a'], [[t]]), 0.7)
    hold = {'strategy': 'hold'}
    go = {
        'from': {'topic': '/go', 'field': 'points[0].positions'}, 'names': ['q'], 'align': hold,
    }  # fmt: skip
    profile = profile_file(tmp_path, profile_of(part(['left_1', 'right_1']), go))
    bag = recording.write(tmp_path)
    if face == 'inspect':
        assert inspect(bag, profile=str(profile)).asked.fits
        return
    (outcome,) = run(bag, tmp_path / 'dataset', profile=str(profile)).outcomes
    assert outcome.status == 'converted', outcome.reason
    passed = [t['passed_by'] for t in report(tmp_path / 'dataset')['bags'][0]['plan']['tracks']]
    assert {'empty': 241} in passed


def test_what_tells_elements_apart_is_found_whatever_their_list_is_called():
    texts = ('string name\nfloat64 x\n', 'made_up/Item[] from\nmade_up/Item[] items_\n')
    definition = f'{texts[1]}{"=" * 80}\nMSG: made_up/Item\n{texts[0]}'
    kind = 'made_up/msg/Lists'
    connection = connection_of(kind, definition=definition)
    decoder = Definitions().decoder(connection)
    store = store_of(definition, kind, ros1=False)
    items = [store.types['made_up/msg/Item'](name, 1.0) for name in 'ab']
    message = decoder(bytes(store.serialize_cdr(store.types[kind](items, items), kind)))
    assert named_path(decoder, 'from[1].x', message) == 'from[name=b].x'
    assert named_path(decoder, 'items_[0].x', message) == 'items_[name=a].x'
    reader = IdentityReader(
        ['from[].x', 'items_[].x'], connection, Definitions(), names=True, frames=True
    )
    assert [identity.path for identity in reader.identities] == ['from[].name', 'items_[].name']
    assert reader.read(message) == ((('a',), ('b',)),) * 2
