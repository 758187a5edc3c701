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

"""The record of a conversion keeps how cameras see and where they are."""

from __future__ import annotations

import json
import sqlite3

from bag_files import recording, TOPICS, write_rosbag1
from conversions import report, run
from kuavo_bag_converter.bags.open import open_bag
from kuavo_bag_converter.jobs.topics import described_topics
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.sample.write import write_sample
import numpy as np
from plain_robot import _header, _message, every, jpeg, Robot, ROS2
import pyarrow.parquet as pq
import pytest
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer

CAMERA, INFO = '/eye/color/image_raw/compressed', '/eye/color/camera_info'
KEY = 'observation.images.eye'


def camera_info(focal, frame='eye_optical'):
    """Return a maker of CameraInfo with the focal length ``focal(number)``."""

    def make(number, _):
        k = np.array([focal(number), 0, 80, 0, focal(number), 60, 0, 0, 1.0])
        header = _header()
        header.frame_id = frame
        kind = 'sensor_msgs/msg/'
        return _message(
            f'{kind}CameraInfo', header, 120, 160, 'plumb_bob',
            np.array([0.1, -0.2, 0, 0, np.nan]), k, np.eye(3).reshape(-1),
            np.append(np.eye(3), np.zeros((3, 1)), axis=1).reshape(-1), 0, 0,
            _message(f'{kind}RegionOfInterest', 0, 0, 0, 0, False),
        )  # fmt: skip

    return make


def transforms(*pairs):
    """Return a maker of TFMessage with a transform for each (parent, child, x)."""

    def make(number, _):
        stamped = []
        for parent, child, x in pairs[number]:
            header = _header()
            header.frame_id = parent
            geometry = 'geometry_msgs/msg/'
            moved = _message(f'{geometry}Vector3', x, 0.0, 0.5)
            turned = _message(f'{geometry}Quaternion', 0.0, 0.0, 0.6, 0.8)
            transform = _message(f'{geometry}Transform', moved, turned)
            stamped.append(_message(f'{geometry}TransformStamped', header, child, transform))
        return _message('tf2_msgs/msg/TFMessage', stamped)

    return make


def profile(tmp_path, **keys):
    document = {
        'robot_type': 'eye', 'fps': 10, 'task': 'look',
        'clock': {'from': {'topic': CAMERA}, 'fps': 10, 'end_trim': 'none'},
        'features': {KEY: {'camera': {'from': {'topic': CAMERA}, **keys}}},
    }  # fmt: skip
    path = tmp_path / 'robot.yaml'
    path.write_text(json.dumps(document))  # which is YAML too
    return str(path)


def bag(path, focal=lambda _: 500.0, info=INFO, **options):
    robot = Robot().publish(CAMERA, every(10, 0.4), jpeg('head_cam_h'))
    robot.publish(info, every(10, 0.4), camera_info(focal))
    static = transforms([('base', 'eye', 1.0), ('base', 'hand', 2.0)], [('base', 'eye', 1.5)])
    return robot.publish('/robot/tf_static', [0, 100], static).write(path, **options)


def test_intrinsics_and_static_transforms_are_recorded(tmp_path):
    paths = [bag(tmp_path / 'a'), bag(tmp_path / 'b', lambda _: 400.0)]
    values = {'profile': profile(tmp_path)}
    assert run(paths[0], tmp_path / 'out', **values).exit_code == 0
    assert run(paths[1], tmp_path / 'out', append=True, **values).exit_code == 0
    for recorded, focal in zip(report(tmp_path / 'out')['bags'], (500.0, 400.0), strict=True):
        assert recorded['cameras'] == {
            KEY: {
                'topic': INFO, 'frame_id': 'eye_optical', 'width': 160, 'height': 120,
                'distortion_model': 'plumb_bob', 'd': [0.1, -0.2, 0.0, 0.0, None],
                'k': [focal, 0.0, 80.0, 0.0, focal, 60.0, 0.0, 0.0, 1.0],
                'r': [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
                'p': [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            }
        }  # fmt: skip
        assert {
            (one['parent'], one['child'], *one['translation'])
            for one in recorded['static_transforms']
        } == {('base', 'eye', 1.5, 0.0, 0.5), ('base', 'hand', 2.0, 0.0, 0.5)}
        assert recorded['static_transforms'][0]['rotation_xyzw'] == [0.0, 0.0, 0.6, 0.8]
        assert recorded['problems'] == []
    first, second = (bag['topics'] for bag in report(tmp_path / 'out')['bags'])
    assert first == second
    assert {one['type'].rpartition('/')[2]: one['topic'] for one in first} == {
        'CompressedImage': CAMERA, 'CameraInfo': INFO, 'TFMessage': '/robot/tf_static'
    }  # fmt: skip
    table = pq.ParquetFile(
        tmp_path / 'out/conversion/topics/file-000.parquet', read_dictionary=['definition']
    ).read()
    # Once for a hundred bags, not once for each.
    assert [len(chunk.dictionary) for chunk in table.column('definition').chunks] == [3]
    text = next(one['definition'] for one in first if one['topic'] == CAMERA)
    assert (text['format'], text['embedded']) == ('msg', True)
    assert 'string format' in text['text']
    assert 'MSG: std_msgs/' in text['text']


def test_two_definitions_of_one_type_are_both_recorded(tmp_path):
    paths = [bag(tmp_path / name, storage='SQLITE3') for name in 'abc']
    with sqlite3.connect(paths[1] / 'b.db3') as base:
        base.execute(
            'UPDATE message_definitions SET encoded_message_definition = '
            "'# changed' || char(10) || encoded_message_definition"
        )
    base.close()
    assert run(paths, tmp_path / 'out', profile=profile(tmp_path)).exit_code == 0
    own, changed, again = (
        next(topic['definition']['text'] for topic in bag['topics'] if topic['topic'] == CAMERA)
        for bag in report(tmp_path / 'out')['bags']
    )
    assert own == again
    assert changed == f'# changed\n{own}'


PROFILE = Qos(
    QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL,
    QosTime(2147483647, 4294967295), QosTime(0, 5), QosLiveliness.AUTOMATIC, QosTime(0, 0), False,
)  # fmt: skip


@pytest.mark.parametrize('version', [8, 9])
@pytest.mark.parametrize('storage', ['MCAP', 'SQLITE3', 'without definitions'])
def test_offered_qos_profiles_are_described_whoever_tells_them(storage, version, tmp_path):
    plugin = StoragePlugin['MCAP' if storage == 'MCAP' else 'SQLITE3']
    with Writer(tmp_path / 'r', version=version, storage_plugin=plugin) as writer:
        connection = writer.add_connection(
            '/t', 'std_msgs/msg/UInt8', typestore=ROS2, offered_qos_profiles=[PROFILE]
        )
        writer.write(connection, 5, b'\0\1\0\0\7')
    if storage == 'without definitions':
        with sqlite3.connect(tmp_path / 'r/r.db3') as base:
            base.execute('DROP TABLE message_definitions')
            base.execute("UPDATE topics SET offered_qos_profiles = ''")
        base.close()
    with open_bag(tmp_path / 'r') as reader:
        (found,) = described_topics({'/t', '/absent'}, reader, Definitions())
    assert [found[key] for key in ('topic', 'type', 'encoding')] == [
        '/t', 'std_msgs/msg/UInt8', 'cdr'
    ]  # fmt: skip
    (qos,) = found['qos']
    assert qos['durability'] == 'transient_local'
    assert (qos['depth'], qos['lifespan']) == (1, {'sec': 0, 'nsec': 5})
    assert qos['avoid_ros_namespace_conventions'] is False
    assert found['definition']['text'].startswith('uint8 data')
    assert found['definition']['embedded'] == (storage != 'without definitions')


def test_what_ros1_tells_of_a_topic_is_described(tmp_path):
    path = write_rosbag1(tmp_path / 'r.bag', recording(0.2))
    with open_bag(path) as reader:
        found = {
            one['topic']: one for one in described_topics(reader.counts, reader, Definitions())
        }
    for topic in TOPICS:
        one = found[topic.name]
        assert one['md5'] == topic.md5
        assert one['definition'] == {'format': 'msg', 'embedded': True, 'text': topic.ros1}
        assert one.get('latched', False) == topic.latched
        assert 'qos' not in one


def test_a_camera_info_that_changes_is_said(tmp_path):
    path = bag(tmp_path / 'bag', lambda number: 500.0 + (number > 1))
    assert run(path, tmp_path / 'out', profile=profile(tmp_path)).exit_code == 0
    (recorded,) = report(tmp_path / 'out')['bags']
    assert recorded['problems'] == [
        f'{INFO}: changes within the bag, 2 of 4 messages that were looked at differ from the '
        f'first, which is recorded ({KEY})'
    ]
    assert recorded['cameras'][KEY]['k'][0] == 500.0


def test_another_topic_may_have_the_intrinsics_and_one_that_is_missing_is_said(tmp_path):
    path = bag(tmp_path / 'bag', info='/elsewhere')
    assert run(path, tmp_path / 'none', profile=profile(tmp_path)).exit_code == 0
    assert 'cameras' not in report(tmp_path / 'none')['bags'][0]
    assert run(path, tmp_path / 'out', profile=profile(tmp_path, info='/elsewhere')).exit_code == 0
    assert report(tmp_path / 'out')['bags'][0]['cameras'][KEY]['topic'] == '/elsewhere'
    assert run(path, tmp_path / 'wrong', profile=profile(tmp_path, info='/nothing')).exit_code == 0
    assert report(tmp_path / 'wrong')['bags'][0]['problems'] == [
        f'/nothing: no sensor_msgs/msg/CameraInfo in the bag, nothing is recorded of it ({KEY})'
    ]


@pytest.mark.parametrize('name', ['a.bag', 'a'])
def test_ros_1_and_2_are_recorded_alike(tmp_path, name):
    write_sample(tmp_path / name, seconds=1.0, size=(48, 64))
    assert run(tmp_path / name, tmp_path / 'out', use_depth=False, sample_drop=1).exit_code == 0
    (recorded,) = report(tmp_path / 'out')['bags']
    assert {info['width'] for info in recorded['cameras'].values()} == {64}
    assert recorded['static_transforms']
