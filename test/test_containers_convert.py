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

"""One recording gives one dataset, whatever it was recorded into."""

from __future__ import annotations

import json
import os
from pathlib import Path
import re
import sqlite3

from containers import (
    CONTAINERS,
    Recording,
    sample_recording,
    Sent,
    Topic,
    write_msg_files,
)
from conversions import alignment, report, rows, run, same_frames
from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.replay.verify import verify
from kuavo_bag_converter.sample.write import write_sample
from mcap.writer import Writer as McapWriter
import numpy as np
import pytest
from rosbags.rosbag1 import Reader as Rosbag1Reader
from rosbags.rosbag1 import Writer as Rosbag1Writer
from rosbags.typesys import get_typestore, Stores

PROFILE = """
robot_type: kuavo
fps: 10
task: Pick
clock: {from: {topic: /cam_h/color/image_raw/compressed}, fps: 30, drop: 2}
features:
  observation.state:
    parts:
      - from: {topic: /sensors_data_raw, field: joint_data.joint_q}
        select: [12:15]
        names: [a, b, c]
        align: {timeline: header, strategy: linear}
      - {from: {topic: /leju_claw_state, field: data.position}, names: [left, right]}
  action:
    parts:
      - {from: {topic: /kuavo_arm_traj, field: position}, select: [0:3], names: [a, b, c]}
  observation.images.head:
    camera: {from: {topic: /cam_h/color/image_raw/compressed}}
  observation.depth_head:
    camera: {from: {topic: /cam_h/depth/image_raw/compressedDepth}, depth: range8}
"""
SIZE = (32, 48)
"""As small as frame numbers and encoders allow."""


@pytest.fixture(scope='module')
def recording(tmp_path_factory):
    return sample_recording(tmp_path_factory.mktemp('sample'), seconds=2.0, size=SIZE)


@pytest.fixture(scope='module')
def msg_path(recording, tmp_path_factory):
    return write_msg_files(tmp_path_factory.mktemp('msgs'), recording)


@pytest.fixture(scope='module')
def profile(tmp_path_factory):
    path = tmp_path_factory.mktemp('profile') / 'small.yaml'
    path.write_text(PROFILE)
    return path


@pytest.fixture(scope='module')
def expected(recording, msg_path, profile, tmp_path_factory):
    """Digests of the dataset of a plain ROS 1 bag, and the report of its plan."""
    return made(CONTAINERS['bag'], recording, tmp_path_factory.mktemp('expected'),
                profile=str(profile), msg_path=[str(msg_path)])  # fmt: skip


def made(write, recording, folder: Path, **values):
    (folder / 'recording').mkdir()
    bags = write(folder / 'recording', recording)
    outcome = run(bags, folder / 'dataset', judged=True, threads=1, **values)
    assert [item.reason for item in outcome.outcomes] == ['']
    assert outcome.frames > 10
    (bag,) = report(folder / 'dataset')['bags']
    return same_frames(folder / 'dataset'), bag['plan']


@pytest.mark.parametrize('container', [name for name in CONTAINERS if name != 'bag'])
def test_every_container_gives_the_same_dataset(
    container, recording, expected, msg_path, profile, tmp_path
):
    values = {'profile': str(profile), 'msg_path': [str(msg_path)]}
    assert made(CONTAINERS[container], recording, tmp_path, **values) == expected


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    return path


def without_its_middle(folder):
    sorted(folder.glob('run_*'))[1].unlink()
    return folder


def with_a_broken_chunk(path):
    data = bytearray(path.read_bytes())
    data[slice(len(data) // 2, len(data) // 2 + 1000)] = bytes(1000)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ('container', 'damage'),
    [
        ('bag', cut),
        ('mcap', cut),
        ('db3', cut),
        ('mcap-zstd', with_a_broken_chunk),
        ('bag-bz2', with_a_broken_chunk),
        ('directory-mcap-split', without_its_middle),
        ('directory-db3-split', without_its_middle),
    ],
)
def test_a_damaged_recording_fails_by_default_and_is_salvaged_where_that_is_asked_for(
    container, damage, recording, expected, msg_path, profile, tmp_path
):
    values = {'profile': str(profile), 'msg_path': [str(msg_path)], 'threads': 1}
    (tmp_path / 'recording').mkdir()
    bag = damage(CONTAINERS[container](tmp_path / 'recording', recording))
    outcome = run(bag, tmp_path / 'out', **values)
    assert outcome.exit_code == 1
    assert outcome.outcomes[0].reason.endswith('set on_damage: salvage to keep what can be read')
    assert [path.name for path in tmp_path.iterdir()] == ['recording']
    outcome = run(bag, tmp_path / 'out', on_damage='salvage', **values)
    assert outcome.exit_code == 0
    (item,) = report(tmp_path / 'out')['bags']
    assert any('lost' in line or 'cut' in line or 'ends' in line for line in item['problems'])
    assert any(re.search(r'salvaged \d+ messages from \d+', line) for line in item['problems'])
    whole = expected[1]
    clock = next(t for t in item['plan']['tracks'] if t['topic'] == item['plan']['clock_topic'])
    assert clock['messages'] < whole['clock_messages']
    # A hole stays a hole: the frames before it and behind it are as far apart as ever, or in two
    # episodes where nothing was left for long.
    stored = alignment(tmp_path / 'out')
    apart = np.diff(stored['frame_stamp_ns'])[np.diff(stored['episode']) == 0]
    assert np.abs(apart - 10**8).max() < 5 * 10**6
    fewer = damage in (cut, without_its_middle)
    assert (item['plan']['frames'] < whole['frames']) == fewer


SERVICE = '=' * 80 + '\nSRV: my_pkg/srv/Add\nint64 a\n---\nint64 sum\n'
ODD = [
    ('/proto', 'foxglove.PoseInFrame', 'protobuf', 'protobuf', '\n\x05bytes'),
    ('/json', 'Thing', 'json', 'jsonschema', '{}'),
    ('/add/_service_event', 'my_pkg/srv/Add_Event', 'cdr', 'ros2msg', SERVICE),
    ('/unknown', 'my_pkg/msg/Unknown', 'cdr', 'ros2msg', ''),
    ('/broken', 'my_pkg/msg/Broken', 'cdr', 'ros2msg', 'float64 [no definition'),
    ('/idl', 'my_pkg/msg/Odd', 'cdr', 'ros2idl', 'enum {'),
]
"""Topics that no profile can use: name, type, encoding, encoding of the definition, definition."""
ODD_PAYLOAD = b'\0\1\0\0odd'


def odd_mcap(folder, recording):
    path = folder / 'run.mcap'
    with path.open('wb') as stream:
        writer = McapWriter(stream)
        writer.start('ros2')
        odd = [writer.register_channel('/none', '', 0)]
        for topic, msgtype, encoding, kind, definition in ODD:
            schema = writer.register_schema(msgtype, kind, definition.encode())
            odd.append(writer.register_channel(topic, encoding, schema))
        channels = {
            topic: writer.register_channel(
                topic.name,
                'cdr',
                writer.register_schema(topic.msgtype, 'ros2msg', topic.ros2.encode()),
            )
            for topic in recording.topics
        }
        for sent in recording.messages:
            writer.add_message(channels[sent.topic], sent.stamp, sent.cdr, sent.stamp)
            for channel in odd:
                writer.add_message(channel, sent.stamp, ODD_PAYLOAD, sent.stamp)
        writer.finish()
    return path


def odd_sqlite(folder, recording):
    path = CONTAINERS['db3'](folder, recording)
    base = sqlite3.connect(path)
    for number, (topic, msgtype, encoding, kind, definition) in enumerate(ODD, start=1000):
        base.execute(
            'INSERT INTO topics (id, name, type, serialization_format, offered_qos_profiles, '
            "type_description_hash) VALUES (?, ?, ?, ?, '[', '')",
            (number, topic, msgtype, encoding),
        )
        base.execute(
            'INSERT INTO message_definitions (topic_type, encoding, encoded_message_definition, '
            "type_description_hash) VALUES (?, ?, ?, '')",
            (msgtype, kind, definition),
        )
        base.executemany(
            'INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)',
            [(number, sent.stamp, ODD_PAYLOAD) for sent in recording.messages],
        )
    base.commit()
    base.close()
    return path


def odd_rosbag1(folder, recording):
    path = folder / 'run.bag'
    with Rosbag1Writer(path) as writer:
        odd = [
            writer.add_connection(topic, msgtype, msgdef=definition, md5sum=md5)
            for topic, msgtype, definition, md5 in (
                ('/any', 'my_pkg/msg/Any', '', '*'),
                ('/zeros', 'my_pkg/msg/Unknown', '', '0' * 32),
                ('/broken', 'my_pkg/msg/Broken', 'float64 [no definition', '1' * 32),
            )
        ]
        connections = {
            topic: writer.add_connection(
                topic.name, topic.msgtype, msgdef=topic.ros1, md5sum=topic.md5
            )
            for topic in recording.topics
        }
        for sent in recording.messages:
            writer.write(connections[sent.topic], sent.stamp, sent.ros1)
            for connection in odd:
                writer.write(connection, sent.stamp, ODD_PAYLOAD)
    return path


@pytest.mark.parametrize('write', [odd_mcap, odd_sqlite, odd_rosbag1])
def test_topics_that_the_profile_does_not_use_can_be_anything(
    write, recording, expected, msg_path, profile, tmp_path, capsys
):
    values = {'profile': str(profile), 'msg_path': [str(msg_path)]}
    assert made(write, recording, tmp_path, **values) == expected
    (path,) = (p for p in (tmp_path / 'recording').rglob('run.*') if p.is_file())
    assert cli.run(['inspect', '--json', str(path)]) == 0
    (bag,) = json.loads(capsys.readouterr().out)['bags']
    assert bag['health'] == 'good'
    errors = {topic['topic'] for topic in bag['topics'] if topic['error']}
    assert errors == {topic['topic'] for topic in bag['topics']} - {
        t.name for t in recording.topics
    }
    assert len(errors) >= 3


def test_three_versions_of_a_type_in_three_bags_make_one_dataset(profile, tmp_path):
    bags = []
    for sdk in ('main', 'dev', '2025-04'):
        bags.append(tmp_path / f'{sdk}.bag')
        write_sample(bags[-1], sdk=sdk, seconds=2.0, size=SIZE, extras=False)
    digests = set()
    for bag in bags:
        with Rosbag1Reader(bag) as reader:
            digests |= {c.digest for c in reader.connections if c.topic == '/sensors_data_raw'}
    assert len(digests) == 3
    outcome = run(bags, tmp_path / 'out', profile=str(profile))
    assert (outcome.exit_code, outcome.episodes) == (0, 3)
    table = rows(tmp_path / 'out')
    states = [table['observation.state'][table['episode_index'] == n] for n in range(3)]
    assert len(states[0]) > 10
    assert np.array_equal(states[0], states[1])
    assert np.array_equal(states[0], states[2])


RANGE_PROFILE = """
robot_type: ranger
fps: 10
task: Measure
clock: {from: {topic: /cam_h/color/image_raw/compressed}, fps: 30, drop: 2}
features:
  observation.state:
    parts:
      - {from: {topic: /range, field: range}, names: [range]}
      - {from: {topic: /range, field: variance}, names: [variance]}
  observation.images.head:
    camera: {from: {topic: /cam_h/color/image_raw/compressed}}
"""


def test_standard_types_are_those_of_the_distro_in_conversion_and_verification(
    recording, tmp_path
):
    """Since Iron a sensor_msgs/Range has a variance."""
    store = get_typestore(Stores.ROS2_JAZZY)
    stamp = store.types['builtin_interfaces/msg/Time'](1, 2)
    header = store.types['std_msgs/msg/Header'](stamp, 'front')
    measured = store.types['sensor_msgs/msg/Range'](header, 0, 0.1, 0.2, 4.0, 1.5, 0.25)
    payload = bytes(store.serialize_cdr(measured, 'sensor_msgs/msg/Range'))
    topic = Topic('/range', 'sensor_msgs/msg/Range', '', '', '')
    (camera,) = (t for t in recording.topics if t.name == '/cam_h/color/image_raw/compressed')
    messages = [
        item
        for sent in recording.messages
        if sent.topic is camera
        for item in (sent, Sent(topic, sent.stamp, b'', payload))
    ]
    bag = CONTAINERS['mcap'](tmp_path, Recording([camera, topic], messages))
    path = tmp_path / 'ranger.yaml'
    path.write_text(RANGE_PROFILE)
    (outcome,) = run(bag, tmp_path / 'humble', profile=str(path)).outcomes
    assert outcome.reason.startswith("/range: variance: sensor_msgs/msg/Range has no field 'var")
    assert 'the bag embeds no definition: check msg_path and distro' in outcome.reason
    root = tmp_path / 'jazzy'
    assert run(bag, root, profile=str(path), distro='jazzy').exit_code == 0
    assert np.unique(rows(root)['observation.state'], axis=0).tolist() == [[1.5, 0.25]]
    assert verify(root, [bag]).findings == ()


def test_folders_of_definitions_can_be_given_on_the_command_line(
    recording, msg_path, profile, tmp_path, capsys
):
    bag = CONTAINERS['db3-schema-1'](tmp_path, recording)
    (tmp_path / 'empty').mkdir()
    folders = ['--msg-path', str(tmp_path / 'empty'), '--msg-path', str(msg_path)]
    words = [str(bag), '--set', f'profile={profile}', *folders]
    assert cli.run(['inspect', *words]) == 0
    assert cli.run(['convert', *words, '--output', str(tmp_path / 'out')]) == 0
    root = tmp_path / 'out'
    recorded = report(root)['settings']['msg_path']
    assert recorded == [os.path.relpath(folder, root) for folder in folders[1::2]]
    assert cli.run(['inspect', str(bag), '--msg-path', 'nowhere']) == 2
    assert 'msg_path: nowhere is not a folder' in capsys.readouterr().err


def test_types_that_neither_the_bag_nor_a_folder_defines_are_named(recording, profile, tmp_path):
    bag = CONTAINERS['db3-schema-1'](tmp_path, recording)
    (outcome,) = run(bag, tmp_path / 'dataset', profile=str(profile)).outcomes
    assert 'give a folder that holds kuavo_msgs/msg/' in outcome.reason
    assert sorted(path.name for path in tmp_path.iterdir()) == ['run.db3']
