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

"""What becomes of stamps that cannot be true: tests for each rule of docs/time.md."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
import copy
from dataclasses import fields, replace
import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from bag_files import BEGIN as START
from bag_files import HEAD_MOTION, IMAGE, Sample, write_rosbag1
from conversions import alignment, report, rows, same_frames, serving
from hypothesis import given, HealthCheck, settings
from hypothesis import strategies as st
from kuavo_bag_converter.alignment.plan import make_plan, Segment, Track
from kuavo_bag_converter.alignment.report import PlanReport
from kuavo_bag_converter.bags.discover import find_recordings
from kuavo_bag_converter.bags.model import TopicIndex
from kuavo_bag_converter.bags.time_spans import recorded_spans, TimeSpan
from kuavo_bag_converter.cli.main import run as command
from kuavo_bag_converter.jobs.display import Display
from kuavo_bag_converter.profiles.model import Align, Clock
from kuavo_bag_converter.support.errors import BagError
import numpy as np
from plain_robot import at, BEGIN, every, image, joint_state, MS, NS, ramps, Robot, said
import pytest
from ros_messages import ROS1, ROS2
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag1 import Writer as Rosbag1Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Rosbag2Writer
import yaml

CAMERA, JOINTS, COMMANDS = '/camera/image_raw', '/joint_states', '/joint_command'
WEEK, YEAR = 7 * 24 * 3600 * NS, 365 * 24 * 3600 * NS
BEFORE = {
    'zero': 0,
    '1970': 7 * NS,
    'decades before': BEGIN - 30 * YEAR,
    'last week': BEGIN - WEEK,
}
AFTER = {'next week': BEGIN + WEEK, 'years after': BEGIN + 10 * YEAR}
ABSURD = {**BEFORE, **AFTER}
"""Stamps, ns."""
TRANSIENT, VOLATILE = (
    Qos(
        QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, durability,
        QosTime(0, 0), QosTime(0, 0), QosLiveliness.AUTOMATIC, QosTime(0, 0), False,
    )
    for durability in (QosDurability.TRANSIENT_LOCAL, QosDurability.VOLATILE)
)  # fmt: skip


def robot_of(begin=0.0):
    def moving(number, time):
        return ramps(2)(number, time - round(min(begin, 0) * NS))  # decades are too far to ramp

    robot = Robot()
    robot.publish(CAMERA, every(30, 2, begin), image('head_cam_h', size=(32, 48)))
    robot.publish(JOINTS, every(50, 2, begin), joint_state(moving), (1, 3))
    robot.publish(COMMANDS, every(40, 1.9, begin + 0.1), joint_state(moving))
    return robot


def profile_of(folder, strategy='nearest', timeline='bag', commands='nearest', clock=None, **more):
    """Write a profile of joints, commands and the camera that is the clock."""

    def vector(topic, how):
        align = {'strategy': how}
        source = {'topic': topic, 'field': 'position'}
        return {'parts': [{'from': source, 'names': ['a', 'b'], 'align': align}]}

    profile = {
        'robot_type': 'made_up',
        'fps': 10,
        'task': 'Pick',
        'clock': {'from': {'topic': CAMERA}, 'fps': 30, 'timeline': timeline, **(clock or {})},
        'align': {'timeline': timeline},
        'features': {
            'observation.state': vector(JOINTS, strategy),
            'action': vector(COMMANDS, commands),
            'observation.images.head': {'camera': {'from': {'topic': CAMERA}}},
        },
        **more,
    }
    path = folder / 'profile.yaml'
    path.write_text(yaml.safe_dump(profile))
    return str(path)


def write(path, robot, container='db3', latched=None, stored=None):
    """
    Write a bag.

    ``latched`` has for a topic whether each of its publishers latches it; ``stored`` sorts
    (received, topic, number) into the order of the file.
    """
    order = sorted(
        (
            (sent.received, topic, number)
            for topic, all_sent in robot.topics.items()
            for number, sent in enumerate(all_sent)
        ),
        key=stored,
    )
    publishers = {topic: (latched or {}).get(topic, [False]) for topic in robot.topics}
    messages = [(topic, at_, robot.topics[topic][number].message) for at_, topic, number in order]
    if container == 'bag':
        return _rosbag1(path.with_suffix('.bag'), messages, publishers)
    plugin = StoragePlugin.MCAP if 'mcap' in container else StoragePlugin.SQLITE3
    with Rosbag2Writer(path, version=9, storage_plugin=plugin) as writer:
        connections = {}
        for topic, received, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(
                    topic, message.__msgtype__, typestore=ROS2,
                    offered_qos_profiles=[TRANSIENT if kept else VOLATILE
                                          for kept in publishers[topic]],
                )  # fmt: skip
            data = ROS2.serialize_cdr(message, message.__msgtype__)
            writer.write(connections[topic], received, data)
    return next(path.glob('*.mcap')) if container == 'mcap file' else path


def _rosbag1(path, messages, publishers):
    with Rosbag1Writer(path) as writer:
        connections = {}
        for topic, received, message in messages:
            if topic not in connections:
                connections[topic] = [
                    writer.add_connection(
                        topic, message.__msgtype__, typestore=ROS1, callerid=f'/node_{number}',
                        latching=int(kept),
                    )
                    for number, kept in enumerate(publishers[topic])
                ]  # fmt: skip
            data = ROS1.serialize_ros1(in_ros1(message), message.__msgtype__)
            writer.write(connections[topic][0], received, data)
    return path


def in_ros1(value):
    """Make the ROS 1 message that says the same."""
    kind = getattr(value, '__msgtype__', None)
    if kind is None:
        return value
    given = {item.name: in_ros1(getattr(value, item.name)) for item in fields(value)}
    return ROS1.types[kind](**given, **({'seq': 0} if kind == 'std_msgs/msg/Header' else {}))


def convert(bags, root, profile):
    """Convert from the command line; return the exit code and the lines that are printed."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        code = command(
            ['convert', *map(str, bags), '--output', str(root), '--set', f'profile={profile}',
             '--set', 'threads=1']
        )  # fmt: skip
    assert 'Traceback' not in out.getvalue()
    return code, [line.strip() for line in out.getvalue().splitlines()]


def converted(folder, robot, profile, container='db3', **how):
    root = folder / 'dataset'
    code, lines = convert([write(folder / 'run', robot, container, **how)], root, profile)
    assert code == 0, lines
    return root


def refusal(folder, robot, profile, **how):
    """Return why the ROS 1 bag and the rosbag2 directory are refused, without their paths."""
    reasons = set()
    for container in ('bag', 'mcap'):
        bag = write(folder / 'run', robot, container, **how)
        before = sorted(folder.rglob('*'))
        code, lines = convert([bag], folder / 'dataset', profile)
        assert code == 1
        assert sorted(folder.rglob('*')) == before
        (reason,) = {line.partition('failed: ')[2] for line in lines if 'failed: ' in line}
        reasons.add(reason.removeprefix(f'{bag}: '))
    return reasons


def plan_of(root):
    return report(root)['bags'][0]['plan']


def track_of(root, topic):
    return next(track for track in plan_of(root)['tracks'] if track['topic'] == topic)


def add(robot, topic, *stamps):
    """Add messages of a topic that were received at absurd times."""
    sent = robot.topics[topic]
    for stamp in stamps:
        sent.append(sent[0]._replace(received=stamp))
    return robot


def stamped(robot, topic, number, taken):
    """Give a message another header stamp."""
    sent = robot.topics[topic]
    message = copy.deepcopy(sent[number].message)
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(taken, NS)
    sent[number] = sent[number]._replace(taken=taken, message=message)
    return robot


def without(robot, topic, number):
    del robot.topics[topic][number]
    return robot


def content(root):
    """Digests of rows and pictures, and the frames' stamps; ordinals are left out."""
    files = {n: d for n, d in same_frames(root).items() if not n.startswith('conversion/')}
    return files, alignment(root)['frame_stamp_ns'].tolist()


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    """Return what becomes of the robot without any odd stamp, by strategy and time line."""
    made = {}
    for strategy, timeline in (('nearest', 'bag'), ('linear', 'bag'), ('nearest', 'header')):
        folder = tmp_path_factory.mktemp('plain')
        root = converted(folder, robot_of(), profile_of(folder, strategy, timeline))
        made[strategy, timeline] = content(root)
    return made


LACKING = 9
"""The number of a message that serves a frame."""


@pytest.fixture(scope='module')
def lacking(tmp_path_factory):
    """Return what becomes of the robot if a topic lacks that message, on header stamps."""
    made = {}
    for topic in (CAMERA, JOINTS):
        folder = tmp_path_factory.mktemp('lacking')
        robot = without(robot_of(), topic, LACKING)
        root = converted(folder, robot, profile_of(folder, timeline='header'))
        made[topic] = content(root)
        track = track_of(root, topic)
        assert (track['absurd_header_stamps'], track['without_header_stamp']) == (0, 0)
    return made


# Receive stamps


@pytest.mark.parametrize('when', ABSURD)
@pytest.mark.parametrize(('topic', 'strategy'), [(CAMERA, 'nearest'), (JOINTS, 'linear')])
def test_a_message_received_far_from_the_recording_changes_nothing_but_a_count(
    plain, tmp_path, topic, strategy, when
):
    robot = add(robot_of(), topic, ABSURD[when])
    root = converted(tmp_path, robot, profile_of(tmp_path, strategy))
    assert content(root) == plain[strategy, 'bag']
    assert track_of(root, topic)['outside_recording'] == 1
    apart = track_of(root, topic)['outside_by_s']
    assert apart == pytest.approx(abs(ABSURD[when] - BEGIN) / NS, abs=2)
    assert plan_of(root)['clock_stamps']['outside_recording'] == (topic == CAMERA)


@pytest.mark.parametrize('end_trim', ['min_end', 'max_end', 'none'])
def test_a_message_received_far_from_the_recording_is_no_end(tmp_path, end_trim):
    stamps = {}
    for name, robot in (
        ('plain', robot_of()),
        ('odd', add(robot_of(), JOINTS, *ABSURD.values())),
    ):
        (tmp_path / name).mkdir()
        profile = profile_of(tmp_path / name, clock={'end_trim': end_trim})
        stamps[name] = content(converted(tmp_path / name, robot, profile))
    assert stamps['odd'] == stamps['plain']


def test_topics_that_are_not_used_may_have_any_stamps(plain, tmp_path):
    robot = robot_of().publish('/notes', at(0.5), said(['?']))
    add(robot, '/notes', *ABSURD.values())
    root = converted(tmp_path, robot, profile_of(tmp_path))
    assert content(root) == plain['nearest', 'bag']
    assert '/notes' not in str(plan_of(root))


def test_a_clock_that_is_set_while_recording_leaves_the_longer_part(tmp_path):
    robot = robot_of()
    for topic, sent in robot.topics.items():
        robot.topics[topic] = [
            s._replace(received=s.received - 20 * YEAR) if s.received < BEGIN + NS // 2 else s
            for s in sent
        ]
    root = converted(tmp_path, robot, profile_of(tmp_path))
    assert alignment(root)['frame_stamp_ns'][0] >= BEGIN + NS // 2
    assert plan_of(root)['clock_stamps']['outside_recording'] == 15
    assert track_of(root, JOINTS)['outside_recording'] == 25


def test_a_pause_of_some_minutes_is_a_hole_and_no_end(tmp_path):
    robot = robot_of()
    later = robot_of(begin=300)
    for topic in robot.topics:
        robot.topics[topic] += later.topics[topic]
    profile = profile_of(tmp_path, align={'tolerance_ms': 200})
    root = converted(tmp_path, robot, profile)
    assert track_of(root, JOINTS)['outside_recording'] == 0
    assert len(np.unique(rows(root)['episode_index'])) == 2


@pytest.mark.parametrize('timeline', ['bag', 'header'])
@pytest.mark.parametrize('begin_s', [0, 1])
def test_the_clock_of_a_simulator_begins_at_zero(tmp_path, timeline, begin_s):
    robot = robot_of(begin=begin_s - BEGIN // NS)
    root = converted(tmp_path, robot, profile_of(tmp_path, timeline=timeline), 'bag')
    unset = int(begin_s == 0 and timeline == 'header')
    first = begin_s * NS + unset * NS // 30
    assert alignment(root)['frame_stamp_ns'][0] == pytest.approx(first, abs=1000)
    for track in plan_of(root)['tracks']:
        assert track['outside_recording'] == 0
        assert track['without_header_stamp'] == (unset if track['topic'] != COMMANDS else 0)


def test_messages_are_taken_as_received_wherever_they_are_stored(tmp_path):
    made = {}
    for name, order in (('sorted', None), ('mixed', lambda m: (m[0] // (70 * MS), -m[0]))):
        (tmp_path / name).mkdir()
        profile = profile_of(tmp_path / name, 'linear')
        root = converted(tmp_path / name, robot_of(), profile, stored=order)
        made[name] = same_frames(root)
        assert (track_of(root, JOINTS)['backward_stamps'] > 0) == (name == 'mixed')
    assert made['mixed'] == made['sorted']


# Latched topics, and what lasts


@pytest.mark.parametrize('when', BEFORE)
def test_what_was_said_before_the_recording_is_held(tmp_path, when):
    robot = robot_of()
    last = robot.topics[COMMANDS][0]._replace(received=BEFORE[when])
    robot.topics[COMMANDS] = [last]
    profile = profile_of(tmp_path, commands='hold')
    root = converted(tmp_path, robot, profile, latched={COMMANDS: [True]})
    assert (rows(root)['action'] == np.float32([last.message.position])).all()
    assert track_of(root, COMMANDS)['outside_recording'] == 1
    assert plan_of(root)['latched_topics'] == [COMMANDS]
    assert plan_of(root)['frames'] == 20


@pytest.mark.parametrize('when', AFTER)
def test_what_is_said_after_the_recording_is_not_held(tmp_path, when):
    robot = robot_of()
    robot.topics[COMMANDS] = [robot.topics[COMMANDS][0]._replace(received=AFTER[when])]
    (text,) = refusal(tmp_path, robot, profile_of(tmp_path, commands='hold'))
    assert text.startswith(f'{COMMANDS}: none of its 1 messages was received before or during the')


def test_a_topic_with_nothing_but_absurd_stamps_is_refused_by_name(tmp_path):
    robot = robot_of()
    robot.topics[JOINTS] = [s._replace(received=s.received - YEAR) for s in robot.topics[JOINTS]]
    (text,) = refusal(tmp_path, robot, profile_of(tmp_path))
    assert text.startswith(f'{JOINTS}: none of its 100 messages was received during the recording')
    assert text.endswith('or a larger absurd_stamp_s')


@pytest.mark.parametrize('age_s', [0, 1, 250])
def test_the_end_of_a_latched_topic_does_not_count(tmp_path, age_s):
    robot = robot_of()
    first = robot.topics[COMMANDS][0]
    robot.topics[COMMANDS] = [first._replace(received=BEGIN - age_s * NS)]
    profile = profile_of(tmp_path)
    root = converted(tmp_path, robot, profile, latched={COMMANDS: [True]})
    assert plan_of(root)['frames'] == 20
    assert plan_of(root)['latched_topics'] == [COMMANDS]


def test_a_topic_that_is_over_before_the_first_frame_is_refused_by_name(tmp_path):
    robot = robot_of()
    robot.topics[COMMANDS] = [robot.topics[COMMANDS][0]._replace(received=BEGIN - NS)]
    (text,) = refusal(tmp_path, robot, profile_of(tmp_path))
    assert text == (
        f'{CAMERA}: no frame lies before the end of {COMMANDS}, whose last message (of 1) is '
        '1.000 s before the first frame; set end_trim: none if it lasts, or check that the topics '
        'belong together'
    )


def test_the_task_lasts_from_before_the_recording_and_not_from_after_it(tmp_path):
    robot = robot_of().publish('/task', at(1.0), said(['Place']))
    (place,) = robot.topics['/task']
    for stamp, text in ((BEGIN - WEEK, 'Pick'), (BEGIN + WEEK, 'never')):
        message = copy.deepcopy(place.message)
        message.data = text
        robot.topics['/task'].append(place._replace(received=stamp, message=message))
    task = {'from': {'topic': '/task', 'field': 'data'}, 'default': 'Wait'}
    root = converted(tmp_path, robot, profile_of(tmp_path, task=task))
    assert rows(root)['task_index'].tolist() == [0] * 10 + [1] * 10
    assert plan_of(root)['task_stamps']['outside_recording'] == 2
    assert plan_of(root)['frames_with_default_task'] == 0


@pytest.mark.parametrize(
    ('rule', 'values', 'frames'),
    [
        ({'while_true': {'topic': '/mark', 'field': 'data'}}, [True, False, True], 10),
        ({'each_message': {'topic': '/mark'}}, [True, False, True], 10),
    ],
)
def test_episodes_are_cut_by_what_belongs_to_the_recording(tmp_path, rule, values, frames):
    robot = robot_of().publish('/mark', at(0.0, 1.0, 2.0), said(values, 'Bool'))
    sent = robot.topics['/mark']
    sent[0] = sent[0]._replace(received=BEGIN - WEEK)
    sent[2] = sent[2]._replace(received=BEGIN + WEEK)
    root = converted(tmp_path, robot, profile_of(tmp_path, episodes=rule))
    stamps = alignment(root)['frame_stamp_ns'] - BEGIN
    assert (plan_of(root)['episodes'], len(stamps)) == (1, frames)
    assert (stamps < NS).all() == ('while_true' in rule)
    assert plan_of(root)['cut']['stamps']['outside_recording'] == 2


@pytest.mark.parametrize('container', ['bag', 'mcap', 'db3'])
def test_a_topic_that_only_some_publishers_latch_has_an_end(tmp_path, container):
    robot = robot_of()
    robot.topics[COMMANDS] = robot.topics[COMMANDS][:20]
    profile = profile_of(tmp_path)
    root = converted(tmp_path, robot, profile, container, latched={COMMANDS: [True, False]})
    assert plan_of(root)['latched_topics'] == []
    assert plan_of(root)['end_trim_topic'] == COMMANDS


@pytest.mark.parametrize('container', ['bag', 'mcap', 'mcap file'])
def test_a_topic_whose_end_cuts_the_recording_is_named_with_the_way_out(tmp_path, container):
    robot = robot_of()
    robot.topics[COMMANDS] = [robot.topics[COMMANDS][5]]  # 0.225 s after the first picture
    root = tmp_path / 'dataset'
    bag = write(tmp_path / 'run', robot, container)
    code, lines = convert([bag], root, profile_of(tmp_path))
    assert code == 0
    assert plan_of(root)['frames_cut_by_end_trim'] == 17
    assert plan_of(root)['end_trim_topic'] == COMMANDS
    assert any(f'; 17 frames cut (17 at the end of {COMMANDS}, 0 in gaps)' in li for li in lines)
    remark = 'its end cuts most frames; if its last message lasts, set end_trim: none'
    assert f'{COMMANDS}: {remark}' in lines


def test_inspect_foresees_the_frames_of_a_bag_with_odd_stamps(tmp_path, capsys):
    robot = add(robot_of(), JOINTS, *ABSURD.values())
    robot.publish('/notes', every(1 / 500, 10_000), said(['?'] * 20))
    robot.topics[COMMANDS] = robot.topics[COMMANDS][:1]
    bag = write(tmp_path / 'run', robot, 'mcap', {COMMANDS: [True]})
    profile = profile_of(tmp_path)
    assert command(['inspect', str(bag), '--json', '--set', f'profile={profile}']) == 0
    (inspected,) = json.loads(capsys.readouterr().out)['bags']
    assert convert([bag], tmp_path / 'dataset', profile)[0] == 0
    assert inspected['asked']['frames'] == plan_of(tmp_path / 'dataset')['frames'] == 20


# Header stamps


@pytest.mark.parametrize('topic', [CAMERA, JOINTS])
@pytest.mark.parametrize('when', [*ABSURD, 'two minutes before'])
def test_a_message_with_an_absurd_header_stamp_is_as_if_it_were_not_there(
    lacking, tmp_path, topic, when
):
    stamp = {**ABSURD, 'two minutes before': BEGIN - 120 * NS}[when]
    robot = stamped(robot_of(), topic, LACKING, stamp)
    root = converted(tmp_path, robot, profile_of(tmp_path, timeline='header'))
    assert content(root) == lacking[topic]
    key = 'without_header_stamp' if stamp == 0 else 'absurd_header_stamps'
    assert track_of(root, topic)[key] == 1


@pytest.mark.parametrize('topic', [CAMERA, JOINTS])
def test_header_stamps_do_not_matter_on_receive_stamps(plain, tmp_path, topic):
    robot = robot_of()
    for number, stamp in enumerate(ABSURD.values()):
        stamped(robot, topic, 5 * number, stamp)
    root = converted(tmp_path, robot, profile_of(tmp_path))
    assert alignment(root)['frame_stamp_ns'].tolist() == plain['nearest', 'bag'][1]
    assert track_of(root, topic)['absurd_header_stamps'] == 0


def test_header_stamps_that_go_back_are_taken_in_their_order(plain, tmp_path):
    robot = robot_of()
    stamps = robot.stamps(JOINTS, 'header')
    messages = robot.topics[JOINTS]
    for a, b in ((10, 11), (20, 22)):
        messages[a], messages[b] = (
            messages[a]._replace(taken=stamps[b], message=messages[b].message),
            messages[b]._replace(taken=stamps[a], message=messages[a].message),
        )
    root = converted(tmp_path, robot, profile_of(tmp_path, timeline='header'))
    assert content(root) == plain['nearest', 'header']
    assert track_of(root, JOINTS)['backward_stamps'] == 3


@pytest.mark.parametrize('topics', [[CAMERA], [JOINTS], [CAMERA, JOINTS, COMMANDS]])
def test_a_clock_that_is_off_in_every_message_is_refused_with_what_to_do(tmp_path, topics):
    robot = robot_of()
    for topic in topics:
        for number, sent in enumerate(robot.topics[topic]):
            stamped(robot, topic, number, sent.taken - YEAR)
    (text,) = refusal(tmp_path, robot, profile_of(tmp_path, timeline='header'))
    off = -YEAR // NS
    assert f'{topics[0]}: no header stamp is within 60 s of the receive stamp' in text
    assert f'the first is {off}' in text
    assert text.endswith('or a larger absurd_stamp_s where all clocks are off alike')


@pytest.mark.parametrize('limit_s', [0, 2 * YEAR // NS])
def test_clocks_that_are_all_off_alike_can_be_believed(plain, tmp_path, limit_s):
    robot = robot_of()
    for topic, all_sent in robot.topics.items():
        for number, sent in enumerate(all_sent):
            stamped(robot, topic, number, sent.taken - YEAR)
    profile = profile_of(tmp_path, timeline='header', clock={'absurd_stamp_s': limit_s})
    root = converted(tmp_path, robot, profile)
    frames = alignment(root)['frame_stamp_ns'] + YEAR
    assert frames.tolist() == plain['nearest', 'header'][1]
    assert track_of(root, JOINTS)['absurd_header_stamps'] == 0


def test_a_topic_without_header_cannot_be_aligned_by_header_stamps(tmp_path):
    robot = robot_of().publish('/gripper', every(50, 2), said(list(np.zeros(100)), 'Float64'))
    profile = yaml.safe_load(Path(profile_of(tmp_path, timeline='header')).read_text())
    profile['features']['observation.state']['parts'].append(
        {'from': {'topic': '/gripper', 'field': 'data'}, 'names': ['gripper']}
    )
    path = tmp_path / 'gripper.yaml'
    path.write_text(yaml.safe_dump(profile))
    reasons = refusal(tmp_path, robot, path)
    assert reasons == {
        f'/gripper: std_msgs/msg/Float64 ({encoding}) does not begin with a std_msgs/Header, so '
        'it has no header stamps; use timeline: bag or a stamp_field for it'
        for encoding in ('ros1', 'cdr')
    }


def test_the_reason_of_a_refusal_is_in_the_report_of_the_other_bags(tmp_path):
    profile = profile_of(tmp_path, timeline='header')
    unset = robot_of()
    for number in range(len(unset.topics[JOINTS])):
        stamped(unset, JOINTS, number, 0)
    frozen = robot_of()
    for number in range(len(frozen.topics[CAMERA])):
        stamped(frozen, CAMERA, number, BEGIN)
    bags = [
        write(tmp_path / name, robot, 'mcap')
        for name, robot in (('good', robot_of()), ('unset', unset), ('frozen', frozen))
    ]
    root = tmp_path / 'dataset'
    code, lines = convert(bags, root, profile)
    assert code == 1
    good, *failed = report(root)['bags']
    assert good['status'] == 'converted'
    assert [bag['reason'] for bag in failed] == [
        f'{JOINTS}: no message with a header stamp; use timeline: bag',
        f'{CAMERA}: its 60 messages all have the same header stamp and so are no clock; use '
        'timeline: bag',
    ]
    for bag in failed:
        assert any(line.endswith(f'failed: {bag["reason"]}') for line in lines)


def test_a_bag_without_any_header_stamp_is_refused_on_header_stamps(tmp_path):
    robot = robot_of()
    for topic, all_sent in robot.topics.items():
        for number in range(len(all_sent)):
            stamped(robot, topic, number, 0)
    reasons = refusal(tmp_path, robot, profile_of(tmp_path, timeline='header'))
    assert reasons == {f'{CAMERA}: no message with a header stamp; use timeline: bag'}


def with_one_receive_stamp():
    """Return the robot, as after a recorder that stamps all messages when it writes them."""
    robot = robot_of()
    for topic, sent in robot.topics.items():
        robot.topics[topic] = [s._replace(received=BEGIN) for s in sent]
    return robot


def test_receive_stamps_that_are_all_equal_are_no_clock(tmp_path):
    reasons = refusal(tmp_path, with_one_receive_stamp(), profile_of(tmp_path))
    assert reasons == {
        f'{CAMERA}: its 60 messages all have the same receive stamp and so are no clock; use '
        'timeline: header'
    }


def test_receive_stamps_that_are_all_equal_do_not_matter_on_header_stamps(plain, tmp_path):
    profile = profile_of(tmp_path, timeline='header')
    root = converted(tmp_path, with_one_receive_stamp(), profile)
    assert content(root) == plain['nearest', 'header']


@pytest.mark.parametrize('cut', ['task', 'episodes'])
def test_texts_without_header_count_when_they_were_received_whatever_the_header_clock(
    tmp_path, cut
):
    robot = robot_of().publish('/task', at(0.0, 1.0), said(['Pick', 'Place']))
    for topic, all_sent in robot.topics.items():
        if topic != '/task':
            for number, sent in enumerate(all_sent):
                stamped(robot, topic, number, sent.taken - YEAR)
    source = {'from': {'topic': '/task', 'field': 'data'}}
    rule = {
        'task': {'task': {**source, 'default': 'Wait'}},
        'episodes': {'episodes': {'each_message': source['from']}},
    }[cut]
    profile = profile_of(tmp_path, timeline='header', clock={'absurd_stamp_s': 0}, **rule)
    root = converted(tmp_path, robot, profile)
    assert rows(root)['task_index'].tolist() == [0] * 10 + [1] * 10
    assert plan_of(root)['frames_with_default_task' if cut == 'task' else 'frames_cut'] == 0


# Every kind of stamp at once, in every kind of container

CALIBRATION = '/calibration'


def odd_robot(timeline):
    """Return the robot, a task and a calibration, with messages that must not change anything."""
    robot = normal_robot()
    add(robot, CAMERA, 0, AFTER['years after'])
    add(robot, JOINTS, BEFORE['1970'], BEFORE['decades before'])
    add(robot, '/task', AFTER['next week'])
    robot.topics[CALIBRATION] = [
        robot.topics[CALIBRATION][0]._replace(received=BEFORE['last week'])
    ]
    if timeline == 'header':
        for stamp in ABSURD.values():
            extra = robot.topics[JOINTS][30]
            robot.topics[JOINTS].append(extra._replace(received=extra.received + 1))
            stamped(robot, JOINTS, len(robot.topics[JOINTS]) - 1, stamp)
        swap_received(robot, COMMANDS, 20, 21)
    return robot


def normal_robot():
    robot = robot_of().publish('/task', at(0.0), said(['Pick']))
    return robot.publish(CALIBRATION, at(-1.0), joint_state(ramps(1)))


def swap_received(robot, topic, a, b):
    sent = robot.topics[topic]
    sent[a], sent[b] = sent[b]._replace(received=sent[a].received), sent[a]._replace(
        received=sent[b].received
    )  # fmt: skip


def calibrated_profile(folder, timeline):
    """Return the profile with a task from a topic, and an element that is said once."""
    task = {'from': {'topic': '/task', 'field': 'data'}, 'default': 'Wait'}
    profile = yaml.safe_load(Path(profile_of(folder, timeline=timeline, task=task)).read_text())
    profile['features']['observation.state']['parts'].append(
        {
            'from': {'topic': CALIBRATION, 'field': 'position'}, 'names': ['c'],
            'align': {'strategy': 'hold', 'timeline': 'bag'},
        }
    )  # fmt: skip
    path = folder / 'profile.yaml'
    path.write_text(yaml.safe_dump(profile))
    return str(path)


@pytest.fixture(scope='module')
def calibrated(tmp_path_factory):
    """Return what becomes of the robot without any odd stamp, by time line."""
    made = {}
    for timeline in ('bag', 'header'):
        folder = tmp_path_factory.mktemp('calibrated')
        root = converted(
            folder, normal_robot(), calibrated_profile(folder, timeline),
            latched={CALIBRATION: [True]},
        )  # fmt: skip
        assert plan_of(root)['frames'] == 20
        made[timeline] = content(root)
    return made


@pytest.mark.parametrize('timeline', ['bag', 'header'])
@pytest.mark.parametrize('container', ['bag', 'mcap', 'mcap file', 'db3'])
def test_every_kind_of_stamp_is_counted_and_printed_in_every_container(
    calibrated, tmp_path, container, timeline
):
    bag = write(
        tmp_path / 'run', odd_robot(timeline), container, {CALIBRATION: [True]},
        stored=lambda m: (m[0] // (70 * MS), -m[0]),
    )  # fmt: skip
    root = tmp_path / 'dataset'
    code, lines = convert([bag], root, calibrated_profile(tmp_path, timeline))
    assert code == 0, lines
    assert content(root) == calibrated[timeline]
    outside, week = 'received outside of the recording', WEEK // NS
    expected = [
        f'{CAMERA}: 2 messages {outside} (by {10 * YEAR // NS - 2} s or more), not used',
        f'{JOINTS}: 2 messages {outside} (by {30 * YEAR // NS} s or more), not used',
        f'/task: 1 message {outside} (by {week - 2} s or more), used only if it lasts from before',
        f'{CALIBRATION}: 1 message {outside} (by {week} s or more), used only if it lasts from '
        'before',
        f'{CALIBRATION}: latched, so its end does not count',
    ]
    plan = plan_of(root)
    assert plan['latched_topics'] == [CALIBRATION]
    assert plan['clock_stamps']['outside_recording'] == 2
    assert plan['task_stamps']['outside_recording'] == 1
    if timeline == 'header':
        expected += [
            f'{JOINTS}: 1 message without header stamp, not used',
            f'{JOINTS}: 5 messages with a header stamp far from its receive stamp, not used',
            f'{COMMANDS}: 1 message stamped before the one before it, sorted in',
        ]
        assert track_of(root, JOINTS)['absurd_header_stamps'] == 5
    else:
        backward = track_of(root, JOINTS)['backward_stamps']
        assert backward > 20
        expected.append(
            f'{JOINTS}: {backward} messages stamped before the one before it, sorted in'
        )
    for line in expected:
        assert lines.count(line) == 1, line


# What is said


def test_what_was_not_believed_is_printed_with_the_plan(tmp_path):
    robot = add(robot_of(), CAMERA, 0)
    add(robot, JOINTS, BEGIN - WEEK, BEGIN + WEEK)
    stamped(robot, JOINTS, 7, 0)
    stamped(robot, JOINTS, 8, 5 * NS)
    profile = profile_of(tmp_path, timeline='header')
    root = converted(tmp_path, robot, profile, latched={COMMANDS: [True]})
    stream = io.StringIO()
    Display(stream).planned(1, PlanReport.from_json(plan_of(root)))
    lines = [line.strip() for line in stream.getvalue().splitlines()]
    for line in (
        f'{CAMERA}: 1 message received outside of the recording (by 1700000000 s or more), '
        'not used',
        f'{JOINTS}: 2 messages received outside of the recording (by 604798 s or more), not used',
        f'{JOINTS}: 1 message without header stamp, not used',
        f'{JOINTS}: 1 message with a header stamp far from its receive stamp, not used',
        f'{COMMANDS}: latched, so its end does not count',
    ):
        assert lines.count(line) == 1, line


# The plan alone


CLOCK = Clock(sources=(), source_fps=30, decimation='jump', end_trim='none')
times = st.integers(0, 400).map(lambda t: 1_000_000 * MS + t * MS // 4)
some = st.lists(times, min_size=1, max_size=25).map(sorted)
normal = st.lists(times, min_size=6, max_size=25, unique=True).map(sorted)
strategies = st.sampled_from(['nearest', 'hold', 'linear'])
timelines = st.sampled_from(['bag', 'header'])
odd = st.one_of(
    st.integers(-(2**63), -NS * 10**6), st.just(0), st.integers(10**15 + 700 * NS, 2**63 - 1)
)
"""Receive stamps far from ``times``, the farthest that fit included."""


def index_of(receive, header=None):
    order = np.argsort(np.array(receive, dtype=np.int64), kind='stable')
    receive = np.array(receive, dtype=np.int64)[order]
    return TopicIndex(receive, None if header is None else np.array(header, np.int64)[order])


def planned(clock, align, index, end_trim='none', absurd=60.0, **more):
    clock = replace(clock, end_trim=end_trim, absurd_stamp_s=absurd, timeline=align.timeline)
    try:
        return make_plan(clock, '/clock', 30, [Track('x', '/x', align)], index, **more)
    except BagError as error:
        return str(error)


def as_lists(plan, skip=0):
    """Return the plan as plain values; ``skip`` is how far ordinals of the topic are shifted."""
    if isinstance(plan, str):
        return plan
    (track,) = plan.tracks
    first = np.where(track.first < 0, -1, track.first - skip)
    second = np.where(track.second < 0, -1, track.second - skip)
    arrays = (plan.stamps, first, second, track.weight, track.error, track.fill, track.in_gap)
    return [array.tolist() for array in arrays], plan.episodes


@given(
    some, some, strategies, timelines, st.sampled_from(['min_end', 'max_end', 'none']),
    st.sampled_from([None, 5, 20]),
)  # fmt: skip
def test_rules_never_change_a_recording_without_absurd_stamps(
    frames, stamps, strategy, timeline, end_trim, tolerance_ms
):
    align = Align(strategy, timeline, tolerance_ms, on_gap='split' if tolerance_ms else 'keep')
    index = {
        '/clock': index_of(frames, [f + 7 for f in frames]),
        '/x': index_of(stamps, [s - 9 for s in reversed(stamps)]),
    }
    believing = planned(CLOCK, align, index, end_trim, absurd=0.0)
    judging = planned(CLOCK, align, index, end_trim)
    assert as_lists(judging) == as_lists(believing)
    if not isinstance(judging, str):
        assert judging.report == believing.report


@given(
    normal, some, st.sampled_from(['nearest', 'linear']), st.lists(odd, max_size=5),
)  # fmt: skip
def test_absurd_messages_never_serve_and_never_change_who_does(frames, stamps, strategy, absurd):
    assert len(frames) > len(absurd), 'else they would be the recording'
    align = Align(strategy)
    expected = planned(CLOCK, align, {'/clock': index_of(frames), '/x': index_of(stamps)})
    index = {'/clock': index_of(frames + absurd), '/x': index_of(stamps + absurd)}
    found = planned(CLOCK, align, index)
    assert as_lists(found, sum(stamp < stamps[0] for stamp in absurd)) == as_lists(expected)
    assert found.tracks[0].report.stamps.outside_recording == len(absurd)


@given(st.lists(st.lists(st.one_of(times, odd), max_size=20), max_size=4))
def test_stretches_are_what_a_silence_parts(topics):
    everything = sorted(stamp for topic in topics for stamp in topic)
    expected = []
    for stamp in everything:
        if expected and stamp - expected[-1][1] <= 600 * NS:
            expected[-1] = TimeSpan(expected[-1][0], stamp)
        else:
            expected.append(TimeSpan(stamp, stamp))
    assert recorded_spans(np.array(sorted(topic), np.int64) for topic in topics) == expected


def test_stamps_that_would_make_endless_frames_are_refused():
    index = {'/clock': index_of([0, 2**62]), '/x': index_of([0])}
    clock = replace(CLOCK, decimation='time')
    text = planned(clock, Align(), index, absurd=0.0)
    assert text.startswith('/clock: its 2 messages span 53376 days')
    assert text.endswith('set a lower absurd_stamp_s')


# Long recordings, and the law


def after_a_pause(pause_s):
    """Return the robot, and half as much of it again after a pause."""
    robot = robot_of()
    later = robot_of(begin=2 + pause_s)
    for topic, sent in later.topics.items():
        robot.topics[topic] += sent[: len(sent) // 2]
    return robot


def test_a_pause_of_more_than_ten_minutes_ends_the_recording_and_is_reported(plain, tmp_path):
    bag = write(tmp_path / 'run', after_a_pause(900), 'bag')
    root = tmp_path / 'dataset'
    code, lines = convert([bag], root, profile_of(tmp_path))
    assert code == 0
    assert content(root) == plain['nearest', 'bag']
    assert plan_of(root)['clock_stamps']['outside_by_s'] == pytest.approx(900, abs=0.1)
    text = 'received outside of the recording (by 900 s or more), not used'
    assert f'{CAMERA}: 30 messages {text}' in lines


def test_a_larger_limit_joins_what_a_pause_parts(tmp_path):
    profile = profile_of(
        tmp_path, align={'tolerance_ms': 200}, clock={'absurd_stamp_s': 1000}
    )  # fmt: skip
    root = converted(tmp_path, after_a_pause(900), profile, 'bag')
    assert plan_of(root)['clock_stamps']['outside_recording'] == 0
    assert len(np.unique(rows(root)['episode_index'])) == 2


def test_a_recording_of_half_a_day_is_planned_whole():
    seconds = 12 * 3600
    frames = BEGIN + np.arange(30 * seconds, dtype=np.int64) * NS // 30
    stamps = BEGIN + np.arange(50 * seconds, dtype=np.int64) * (NS // 50)
    odd_stamps = np.array([0, BEGIN - WEEK], np.int64)
    index = {
        '/clock': TopicIndex(frames, None),
        '/x': TopicIndex(np.concatenate([odd_stamps, stamps]), None),
    }
    marks = np.arange(0, seconds, 10, dtype=np.int64) * NS + BEGIN
    segments = [Segment(int(start), int(start) + 9 * NS) for start in marks]
    clock, tracks = Clock((), 30), [Track('x', '/x', Align())]
    plan = make_plan(clock, '/clock', 10, tracks, index, segments=segments)
    assert len(plan) == 9 * 10 * len(marks)
    assert len(plan.episodes) == len(marks)
    assert np.abs(plan.tracks[0].error).max() <= NS // 100
    assert (plan.tracks[0].first >= 2).all()


absurd_messages = st.lists(
    st.tuples(
        st.sampled_from([CAMERA, JOINTS, COMMANDS, '/task']),
        st.integers(0, 2**32 * NS - 1).filter(lambda stamp: abs(stamp - BEGIN) > 700 * NS),
        st.booleans(),
        st.integers(0, 2 * NS),
    ),
    max_size=25,
)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    absurd_messages, st.sampled_from(['bag', 'header']), st.sampled_from(['bag', 'mcap', 'db3'])
)
def test_no_absurd_messages_change_the_dataset(
    calibrated, tmp_path, messages, timeline, container
):
    robot = normal_robot()
    for topic, stamp, by_header, when in messages:
        if topic == '/task':  # what was said before the recording lasts
            add(robot, topic, BEGIN + 700 * NS + stamp % (80 * YEAR))
        elif by_header and timeline == 'header':
            add(robot, topic, BEGIN + when)
            stamped(robot, topic, len(robot.topics[topic]) - 1, stamp % (2**31 * NS))
        else:
            add(robot, topic, stamp)
    with TemporaryDirectory(dir=tmp_path) as name:
        folder = Path(name)
        profile = calibrated_profile(folder, timeline)
        root = converted(folder, robot, profile, container, latched={CALIBRATION: [True]})
        assert content(root) == calibrated[timeline]
        assert plan_of(root)['clock_stamps']['topic'] == CAMERA


@pytest.mark.parametrize('value', ['.inf', '.nan', '-1', '1e999'])
def test_a_limit_is_a_finite_number(tmp_path, value):
    out = io.StringIO()
    with redirect_stderr(out):
        code = command(['convert', 'run.bag', '--output', str(tmp_path / 'out'),
                        '--set', f'absurd_stamp_s={value}'])  # fmt: skip
    assert code == 2
    assert 'absurd_stamp_s: expected float of at least 0, found' in out.getvalue()


# Clocks that are set back, and pauses


def set_back(robot, at_s=1.0, back_s=0.75, *, receive=True, header=False):
    """Set clocks back in the middle; return the robot, and the order in which it was recorded."""
    order = {}
    for topic, all_sent in robot.topics.items():
        for number, sent in enumerate(all_sent):
            after = sent.received >= BEGIN + at_s * NS
            received = sent.received - round(back_s * NS) * (receive and after)
            order[topic, number] = sent.received
            all_sent[number] = sent._replace(received=received)
            if header and after and hasattr(sent.message, 'header'):
                stamped(robot, topic, number, sent.taken - round(back_s * NS))
    return robot, lambda message: (order[message[1], message[2]], message[1])


def moments(root, robot, topic):
    """Return of each frame when what serves it was sent, s."""
    begin = {id(sent): number for number, sent in enumerate(robot.topics[topic])}
    by_ordinal = sorted(robot.topics[topic], key=lambda sent: sent.received)
    rate = len(by_ordinal) / 2 if topic != COMMANDS else 40
    return [
        begin[id(by_ordinal[ordinal])] / rate + 0.1 * (topic == COMMANDS)
        for ordinal in serving(root, topic)
    ]


def check_halves(root, robot):
    """Check that there are two episodes in the order of the recording, in which all goes on."""
    assert np.unique(rows(root)['episode_index']).tolist() == [0, 1]
    pictures = moments(root, robot, CAMERA)
    assert pictures == sorted(pictures)
    assert np.abs(np.subtract(pictures, moments(root, robot, JOINTS))).max() < 0.03
    assert np.abs(np.subtract(pictures, moments(root, robot, COMMANDS))).max() < 0.11
    assert np.abs(rows(root)['observation.state'][:, 0] - pictures).max() < 0.03


@pytest.mark.parametrize('container', ['bag', 'mcap', 'db3'])
@pytest.mark.parametrize(
    ('timeline', 'receive', 'header'),
    [('bag', True, False), ('header', True, True), ('header', False, True)],
)
def test_a_clock_that_is_set_back_ends_an_episode(tmp_path, container, timeline, receive, header):
    robot, order = set_back(robot_of(), receive=receive, header=header)
    bag = write(tmp_path / 'run', robot, container, stored=order)
    root = tmp_path / 'dataset'
    code, lines = convert([bag], root, profile_of(tmp_path, timeline=timeline))
    assert code == 0, lines
    check_halves(root, robot)
    kinds = ['receive'] * receive + ['header'] * (header and not receive)
    assert [step['stamps'] for step in plan_of(root)['clock_steps']] == kinds
    assert plan_of(root)['clock_steps'][0]['back_s'] == pytest.approx(0.75, abs=0.05)
    text = 'where a clock was set back: an episode ends there (on_step_back: split)'
    assert sum(line.endswith(text) for line in lines) == 1
    assert command(['verify', str(root), '--bags', str(bag)]) == 0
    profile = profile_of(tmp_path, timeline=timeline, clock={'on_step_back': 'fail'})
    code, lines = convert([bag], tmp_path / 'refused', profile)
    assert code == 1
    assert any('set on_step_back: split to end the episode there' in line for line in lines)


@pytest.mark.parametrize('kind', ['receive', 'header'])
def test_a_clock_that_nothing_is_aligned_by_may_be_set_back(plain, tmp_path, kind):
    timeline = {'receive': 'header', 'header': 'bag'}[kind]
    how = {'receive': kind == 'receive', 'header': kind == 'header'}
    robot, order = set_back(robot_of(), **how)
    root = converted(tmp_path, robot, profile_of(tmp_path, timeline=timeline), stored=order)
    assert content(root) == plain['nearest', timeline]
    assert 'clock_steps' not in plan_of(root)


@pytest.mark.parametrize('by', ['topic', 'chunk'])
def test_topics_or_chunks_that_are_stored_in_another_order_are_no_step(plain, tmp_path, by):
    order = {
        'topic': lambda m: (m[1], m[0]),
        'chunk': lambda m: ({6: 7, 7: 6}.get(k := (m[0] - BEGIN) * 10 // NS, k), m[0]),
    }[by]
    root = converted(tmp_path, robot_of(), profile_of(tmp_path), 'mcap', stored=order)
    assert content(root) == plain['nearest', 'bag']


def split(folder, robot, at_s):
    """Write the messages of a robot before and after some time as two files of a recording."""
    run = folder / 'run'
    run.mkdir()
    for number in range(2):
        part = Robot()
        for topic, all_sent in robot.topics.items():
            sent = [s for s in all_sent if (s.received >= BEGIN + at_s * NS) == bool(number)]
            part.topics[topic] = sent
        write(folder / f'{number}', part, 'mcap file').rename(run / f'run_{number}.mcap')
    return run


def test_files_of_a_recording_in_another_order_are_put_in_order(plain, tmp_path):
    run = split(tmp_path, robot_of(), 1.0)
    for old, new in (('0', 'x'), ('1', '0'), ('x', '1')):
        (run / f'run_{old}.mcap').rename(run / f'run_{new}.mcap')
    root = tmp_path / 'dataset'
    assert convert([run], root, profile_of(tmp_path))[0] == 0
    assert content(root) == plain['nearest', 'bag']


def test_files_of_two_sessions_give_two_episodes(tmp_path):
    run = split(tmp_path, robot_of(), 1.0)
    second, _ = set_back(robot_of(), back_s=1.3)
    for topic, all_sent in second.topics.items():
        second.topics[topic] = all_sent[slice(len(all_sent) // 2, None)]
    write(tmp_path / 'second', second, 'mcap file').rename(run / 'run_1.mcap')
    root = tmp_path / 'dataset'
    assert convert([run], root, profile_of(tmp_path))[0] == 0
    stamps = alignment(root)
    assert plan_of(root)['episodes'] == 2
    first, later = (stamps['frame_stamp_ns'][stamps['episode'] == n] for n in range(2))
    assert later[0] < first[-1]
    assert rows(root)['observation.state'][slice(len(first), None), 0].min() > 0.9


def test_a_task_and_a_state_last_where_a_clock_is_set_back_and_what_is_held_does_not(tmp_path):
    robot = robot_of().publish('/task', at(0.0), said(['Place']))
    robot.publish('/on', at(0.2, 1.7), said([True, False], 'Bool'))
    robot.topics[COMMANDS] = [
        s for s in robot.topics[COMMANDS] if not 1 <= (s.received - BEGIN) / NS < 1.5
    ]
    robot, order = set_back(robot)
    profile = profile_of(
        tmp_path, commands='hold',
        task={'from': {'topic': '/task', 'field': 'data'}, 'default': 'Wait'},
        episodes={'while_true': {'topic': '/on', 'field': 'data'}},
    )  # fmt: skip
    root = converted(tmp_path, robot, profile, stored=order)
    assert plan_of(root)['frames_with_default_task'] == 0
    pictures = moments(root, robot, CAMERA)
    assert pictures[0] == pytest.approx(0.2, abs=0.11)
    assert pictures[-1] == pytest.approx(1.7, abs=0.11)
    assert not any(1 < picture < 1.49 for picture in pictures)


@pytest.mark.parametrize('rule', ['ranges', 'marks_file'])
def test_seconds_mean_nothing_where_a_clock_is_set_back(tmp_path, rule):
    (tmp_path / 'run.json').write_text(
        json.dumps({'marks': [{'startPosition': 0, 'endPosition': 1}]})
    )
    robot, order = set_back(robot_of())
    value = {'ranges': [{'start_s': 0, 'stop_s': 1}], 'marks_file': '{bag}.json'}[rule]
    (text,) = refusal(tmp_path, robot, profile_of(tmp_path, episodes={rule: value}), stored=order)
    assert text.startswith(f'episodes.{rule} needs one clock, but {CAMERA}, ')


def paused(pause_s=20):
    robot = robot_of()
    later = robot_of(begin=2 + pause_s)
    for topic in robot.topics:
        robot.topics[topic] += later.topics[topic]
    return robot


def test_a_pause_of_all_topics_parts_an_episode_and_is_named(tmp_path, capsys):
    bag = write(tmp_path / 'run', paused(), 'mcap')
    profile = profile_of(tmp_path, 'linear', commands='hold')
    root = tmp_path / 'dataset'
    code, lines = convert([bag], root, profile)
    assert code == 0
    assert [plan_of(root)[key] for key in ('episodes', 'frames', 'decimation')] == [2, 39, 'jump']
    (line,) = (line for line in lines if line.startswith('all topics are silent for 20.0'))
    assert line.endswith('at 1.98 s: an episode ends there (on_pause: split)')
    states = rows(root)['observation.state'][:, 0]
    assert ((states < 2) | (states > 21.9)).all(), 'nothing is interpolated across'
    assert command(['inspect', str(bag), '--set', f'profile={profile}']) == 0
    shown = capsys.readouterr().out
    assert 'all topics are silent for 20.02 s at 1.98 s, as where the recorder pauses' in shown
    assert 'bursts' not in shown
    assert '39 frames in 2 episodes' in shown


def test_a_pause_is_kept_if_asked_and_what_is_held_up_is_none(tmp_path):
    profile = profile_of(tmp_path, clock={'on_pause': 'keep'})
    root = converted(tmp_path, paused(5), profile)
    assert [plan_of(root)[key] for key in ('episodes', 'frames')] == [1, 90]
    robot = robot_of()
    for topic, all_sent in robot.topics.items():
        robot.topics[topic] = [
            s._replace(received=BEGIN + 1700 * MS + number)
            if BEGIN + NS < s.received < BEGIN + 1700 * MS
            else s
            for number, s in enumerate(all_sent)
        ]
    (tmp_path / 'held_up').mkdir()
    root = converted(tmp_path / 'held_up', robot, profile_of(tmp_path / 'held_up'))
    assert plan_of(root)['episodes'] == 1


def test_a_clock_that_is_set_forward_is_a_hole(tmp_path):
    robot, order = set_back(robot_of(), back_s=-0.75)
    root = converted(tmp_path, robot, profile_of(tmp_path), stored=order)
    check_halves(root, robot)


def test_coarse_receive_stamps_are_named(tmp_path):
    robot = robot_of()
    for topic, all_sent in robot.topics.items():
        robot.topics[topic] = [
            s._replace(received=s.received // (100 * MS) * 100 * MS) for s in all_sent
        ]
    bag = write(tmp_path / 'run', robot, 'mcap')
    code, lines = convert([bag], tmp_path / 'dataset', profile_of(tmp_path))
    assert code == 0
    assert 'receive stamps come in steps of 100 ms; use timeline: header' in lines
    assert plan_of(tmp_path / 'dataset')['receive_step_ms'] == 100


# Which files are one recording


def test_an_absurd_stamp_does_not_part_a_split_recording(tmp_path):
    def part(number, *absurd):
        samples = [Sample(IMAGE, START + (10 * number + n) * NS // 10, b'.') for n in range(10)]
        samples += [Sample(HEAD_MOTION, stamp, bytes(24)) for stamp in absurd]
        return write_rosbag1(tmp_path / f'run_{number}.bag', samples)

    paths = (part(0, START + YEAR), part(1), part(2, START - WEEK))
    assert find_recordings([tmp_path]) == [paths]
