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
A second opinion agrees with right datasets and finds those that only their converter calls right.

One right dataset is made. A recording with a fault is what a converter that knows no better would
have made that dataset of; or the dataset is edited into what it would have written.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
import shutil

import av
from conversions import opinion, run
from dataset_edits import data_file, edit_column, reorder, swap_frames
from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.replay.verify import verify
from kuavo_bag_converter.support.errors import UsageError
import numpy as np
from plain_robot import BEGIN, every, image, imu, joint_state, MS, NS, pixels, Robot, said
import pytest
from record_files import edit_record
from ros_messages import ROS2
import yaml

SECONDS = 3.0
NAMES = ['a', 'b', 'c']
TURRET = ['t1', 't2', 't3']
STATE = 'observation.state'
CAMERA, OTHER = 'observation.images.head', 'observation.images.other'
SIZE = (48, 64)


def message(kind, *values):
    return ROS2.types[kind](*values)


def header(frame_id=''):
    stamp = message('builtin_interfaces/msg/Time', 0, 0)
    return message('std_msgs/msg/Header', stamp, frame_id)


def transform(parent, child, x):
    kind = 'geometry_msgs/msg/'
    moved = message(f'{kind}Vector3', x, 0.0, 0.0)
    turned = message(f'{kind}Quaternion', 0.0, 0.0, 0.0, 1.0)
    both = message(f'{kind}Transform', moved, turned)
    return message(f'{kind}TransformStamped', header(parent), child, both)


def transforms(of):
    """Return a maker of TFMessage with one transform; ``of(number, time)`` gives its values."""
    return lambda number, time: message('tf2_msgs/msg/TFMessage', [transform(*of(number, time))])


def fix(number, time):
    """Make a NavSatFix that moves by a metre a second."""
    kind = 'sensor_msgs/msg/NavSat'
    status = message(f'{kind}Status', 0, 1)
    return message(
        f'{kind}Fix', header(), status, 31.2304167 + 1e-5 * time / NS, 121.0, 4.0, np.zeros(9), 0
    )


def from_frames(make, *names):
    """Return a maker whose messages come from the frames ``names`` in turns."""

    def made(number, time):
        result = make(number, time)
        result.header.frame_id = names[number % len(names)]
        return result

    return made


def quaternion():
    """Return a maker of Imu that turns about z."""
    return imu(lambda _, time: (0, 0, math.sin(time / NS / 2), math.cos(time / NS / 2)))


def wrapped(_, time):
    return [math.remainder(4.0 * time / NS, 2 * math.pi)] * 3


CELLS = np.tile(np.array([[60, 200], [200, 120]], np.uint8), (16, 16))
"""The mosaic (rggb) of a picture of one colour."""


def grey(levels, encoding='mono8'):
    """Return a maker of Image with one channel."""

    def make(number, _):
        data = np.ascontiguousarray(levels(number) if callable(levels) else levels)
        high, wide = data.shape
        raw = data.reshape(-1).view(np.uint8)
        step = raw.size // high
        return message(
            'sensor_msgs/msg/Image', header(), high, wide, encoding, 0, step, raw
        )  # fmt: skip

    return make


TOPICS = {
    '/camera': (10, image('head_cam_h', size=SIZE)),
    '/other': (10, grey(CELLS)),
    '/depth': (10, grey(np.full(SIZE, 900, np.uint16), '16UC1')),
    '/joints': (50, joint_state(lambda _, t: [0.3 * t / NS, 1.0 + t / NS, 2.0], NAMES)),
    '/turret': (12, joint_state(lambda _, t: [0.5 * t / NS] * 3, NAMES)),
    '/imu': (50, quaternion()),
    '/place': (20, joint_state(lambda _, t: [0.5 * t / NS, 1.0, 2.0], NAMES)),
    '/button': (50, lambda *_: message('std_msgs/msg/Bool', False)),
    '/grip': (2, joint_state(lambda number, _: [0.1 * number] * 3, NAMES)),
}  # fmt: skip


def part(topic, *fields, names, **keys):
    return {'from': {'topic': topic, 'fields': list(fields)}, 'names': names, **keys}


PROFILE = {
    'robot_type': 'made_up',
    'fps': 10,
    'task': 'Do it',
    'clock': {'from': {'topic': '/camera'}, 'fps': 10, 'end_trim': 'none'},
    'align': {'timeline': 'header'},
    'features': {
        STATE: {
            'parts': [
                part('/joints', 'position', names=NAMES),
                part('/turret', 'position', names=TURRET, align={'strategy': 'linear'}),
                part('/imu', *(f'orientation.{axis}' for axis in 'xyzw'), names=list('xyzw')),
                part('/place', 'position[0]', names=['place']),
            ]
        },
        'action': {
            'parts': [
                part('/button', 'data', names=['on'], threshold=0.5, align={'timeline': 'bag'}),
                part('/grip', 'position', names=['g1', 'g2', 'g3'], align={'strategy': 'hold'}),
            ]
        },
        CAMERA: {'camera': {'from': {'topic': '/camera'}}},
        OTHER: {'camera': {'from': {'topic': '/other'}}},
        'observation.depth': {'camera': {'from': {'topic': '/depth'}, 'depth': 'range8'}},
    },
}  # fmt: skip


def robot_of(seconds=SECONDS, without=(), **topics):
    """Return the robot; topics that are given (without their slash) are other than usual."""
    robot = Robot()
    for topic, (rate, make) in TOPICS.items():
        rate, make = topics.get(topic[1:], (rate, make))  # noqa: PLW2901
        robot.publish(topic, every(rate, seconds, 0.001, without=without), make)
    return robot


def set_back(robot, path, by_s=0.75, at_s=1.5):
    """Write a recording in whose middle the clock of all was set back."""

    def clock(received):
        later = received - BEGIN >= at_s * NS
        return received - (round(by_s * NS) if later else 0)

    for sent in (sent for messages in robot.topics.values() for sent in messages):
        if hasattr(sent.message, 'header'):
            stamp = sent.message.header.stamp
            stamp.sec, stamp.nanosec = divmod(clock(sent.received), NS)
    return robot.write(path, clock=clock)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Return the folder of the right dataset and its bag."""
    folder = tmp_path_factory.mktemp('made')
    bag = robot_of().write(folder / 'bag')
    profile = folder / 'profile.yaml'
    profile.write_text(yaml.safe_dump(PROFILE))
    run(bag, folder / 'dataset', profile=str(profile), threads=1)
    return folder / 'dataset', bag


@pytest.fixture
def dataset(made, tmp_path):
    return Path(shutil.copytree(made[0], tmp_path / 'dataset'))


def rules(findings):
    return {finding.rule for finding in findings}


def test_a_right_dataset_is_judged_as_a_whole_and_right(made):
    findings, looked = opinion(made[0], [made[1]])
    assert findings == []
    assert dict(looked.not_judged) == {}
    assert looked.values > 100
    assert looked.pictures > 20


TWO_ARMS = [['l1', 'l2', 'l3'], ['r1', 'r2', 'r3']]


def alternating(_, time):
    """Return joints of one of two arms, by the message."""
    side = 1 if time // (20 * MS) % 2 else -1
    return [side * (1 + 0.1 * time / NS)] * 3


def two_pictures(number, _):
    return pixels([np.full((*SIZE, 3), 40 if number % 2 else 220, np.uint8)])(0, 0)


def stream():
    """Return a maker of H.264 pictures of which one is lost."""
    codec = av.CodecContext.create('libx264', 'w')
    codec.height, codec.width = SIZE
    codec.pix_fmt, codec.framerate = 'yuv420p', 10
    codec.options = {'tune': 'zerolatency', 'x264-params': 'keyint=12:bframes=0:repeat-headers=1'}
    packets = []
    for number in range(31):
        picture = image('head_cam_h', size=SIZE)(number, 0).data.reshape(*SIZE, 3)
        packets += codec.encode(av.VideoFrame.from_ndarray(picture, format='rgb24'))
    packets = [np.frombuffer(bytes(p), np.uint8) for p in [*packets, *codec.encode(None)]]
    kind = 'sensor_msgs/msg/CompressedImage'
    return lambda number, _: message(kind, header(), 'h264', packets[number + (number >= 5)])


FAULTY = {
    'two publishers': (
        {'joints': (50, joint_state(lambda *_: [1.0, 2.0, 3.0], lambda n: TWO_ARMS[n % 2]))},
        'opinion.sources',
    ),
    'two publishers that name nothing': (
        {'joints': (50, joint_state(alternating))}, 'opinion.sources',
    ),
    'two cameras': (
        {'camera': (10, from_frames(TOPICS['/camera'][1], 'left', 'right'))}, 'opinion.sources',
    ),
    'two cameras of one name': ({'camera': (10, two_pictures)}, 'opinion.sources'),
    'joints in another order': (
        {'joints': (50, joint_state(lambda *_: [1.0, 2.0, 3.0], ['a', 'c', 'b']))},
        'opinion.names',
    ),
    'joints that change their order': (
        {'joints': (50, joint_state(
            lambda *_: [1.0, 2.0, 3.0], lambda n: NAMES if n < 70 else ['b', 'a', 'c']))},
        'opinion.names',
    ),
    'an angle interpolated over its turn': (
        {'turret': (12, joint_state(wrapped, NAMES))}, 'opinion.angle',
    ),
    'depth that is not there': (
        {'depth': (10, grey(np.zeros(SIZE, np.uint16), '16UC1'))}, 'opinion.levels',
    ),
    'depth in another unit': (
        {'depth': (10, grey(np.full(SIZE, 43.0, np.float32), '32FC1'))}, 'opinion.levels',
    ),
    'a mosaic as grey': ({'other': (10, grey(CELLS, 'bayer_rggb8'))}, 'opinion.picture'),
    'heat in few levels': (
        {'other': (10, grey(30000 + np.arange(1024, dtype=np.uint16).reshape(32, 32), 'mono16'))},
        'opinion.levels',
    ),
    'pulses between the frames': (
        {'button': (50, said([i in (13, 58, 103) for i in range(150)], 'Bool'))},
        'opinion.pulses',
    ),
    'a stream that has lost a picture': ({'camera': (10, stream())}, 'opinion.stream'),
    'a recording of which most is missing': ({'seconds': 6.0}, 'opinion.length'),
    'a pause of all': ({'without': [(0.8, 2.3)]}, 'opinion.frozen'),
}  # fmt: skip
"""What is wrong with a recording, and the rule that tells."""


@pytest.mark.parametrize('fault', FAULTY)
def test_a_recording_that_means_something_else_is_found(made, tmp_path, fault):
    changes, rule = FAULTY[fault]
    bag = robot_of(**changes).write(tmp_path / 'bag')
    findings, _ = opinion(made[0], (), frames=12, instead=bag)
    assert rule in rules(findings)


@pytest.mark.parametrize('timeline', ['bag', 'header'])
def test_a_clock_that_was_set_back_is_found(dataset, tmp_path, timeline):
    profile = dataset / 'conversion/profile.yaml'
    document = yaml.safe_load(profile.read_text())
    document['clock']['timeline'] = timeline
    profile.write_text(yaml.safe_dump(document))
    bag = set_back(robot_of(), tmp_path / 'bag')
    findings, _ = opinion(dataset, (), instead=bag)
    assert 'opinion.clock' in rules(findings)


def fields_of(profile, topic, **keys):
    """Change the part of a topic in the profile of a dataset."""
    for feature in profile['features'].values():
        for item in feature.get('parts', ()):
            if item['from']['topic'] == topic:
                item.update(keys)


@pytest.mark.parametrize(
    ('topic', 'fields', 'make', 'rule'),
    [
        (
            '/place', ['transforms[0].transform.translation.x'],
            transforms(lambda n, t: ('base', 'tool', t / NS) if n % 2 else ('odom', 'base', 9.0)),
            'opinion.sources',
        ),
        ('/place', ['latitude'], fix, 'opinion.precision'),
    ],
)  # fmt: skip
def test_fields_that_cannot_be_read_so_are_found(dataset, tmp_path, topic, fields, make, rule):
    profile = dataset / 'conversion/profile.yaml'
    document = yaml.safe_load(profile.read_text())
    fields_of(
        document, topic, align={'timeline': 'bag'}, **{'from': {'topic': topic, 'fields': fields}}
    )
    profile.write_text(yaml.safe_dump(document))
    bag = robot_of(place=(20, make)).write(tmp_path / 'bag')
    findings, _ = opinion(dataset, (), instead=bag)
    assert rule in rules(findings)


def column(name, elements, change):
    """Return an edit of some elements of a column: ``change(row, value)``."""

    def edit(root):
        def changed(rows):
            return [
                [change(row, v) if i in elements else v for i, v in enumerate(values)]
                for row, values in enumerate(rows)
            ]

        edit_column(data_file(root), name, changed)

    return edit


def trimmed_by_a_held_topic(root):
    def change(document):
        document['bags'][0]['plan'].update(frames_cut_by_end_trim=9, end_trim_topic='/grip')

    edit_record(root, change)


EDITS = {
    'a value': (column(STATE, [0], lambda row, v: v + 0.01 * (row == 0)), 'opinion.row'),
    'rows late': (
        lambda root: edit_column(
            data_file(root), STATE, lambda rows: [rows[0], *rows[:-1]]
        ),
        'opinion.row',
    ),
    'a jump': (column(STATE, [1], lambda row, v: v + 2 * (row == 9)), 'opinion.jump'),
    'a quaternion that turns its sign': (
        column(STATE, range(6, 10), lambda row, v: -v if row > 12 else v),
        'opinion.quaternion',
    ),
    'a quaternion of no length': (
        column(STATE, range(6, 10), lambda row, v: 0.0 if row > 12 else v),
        'opinion.quaternion',
    ),
    'a threshold that gives halves': (
        column('action', [0], lambda *_: 0.5), 'opinion.statistics',
    ),
    'two pictures': (
        lambda root: reorder(root, swap_frames(0, 15), CAMERA), 'opinion.picture',
    ),
    'what a held topic cuts': (trimmed_by_a_held_topic, 'opinion.length'),
}  # fmt: skip
"""What is wrong with a dataset, and the rule that tells."""


@pytest.mark.parametrize('fault', EDITS)
def test_a_dataset_that_says_something_else_is_found(made, dataset, fault):
    edit, rule = EDITS[fault]
    edit(dataset)
    findings, _ = opinion(dataset, [made[1]])
    assert rule in rules(findings)


def test_what_is_not_judged_is_said(dataset, made, tmp_path):
    path = tmp_path / 'other'
    path.write_bytes(b'another format')
    findings, looked = opinion(dataset, (), instead=path)
    assert findings == []
    assert looked.frames == 0
    assert [*looked.not_judged] == ['a storage that is neither ROS 1, MCAP nor sqlite3']


def test_verify_asks_for_an_opinion_and_prints_it(made, dataset, capsys):
    words = ['verify', str(dataset), '--bags', str(made[1]), '--sample', '2', '--independent', '4']
    assert cli.run(words) == 0
    assert 'independent opinion on ' in capsys.readouterr().out
    EDITS['a jump'][0](dataset)
    assert cli.run([*words, '--json']) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed['independent']['pictures'] > 0
    assert 'opinion.jump' in {finding['rule'] for finding in printed['findings']}


def test_an_opinion_needs_bags_and_two_frames(made):
    with pytest.raises(UsageError, match='needs the bags'):
        verify(made[0], independent=5)
    with pytest.raises(UsageError, match='at least 2 frames'):
        verify(made[0], [made[1]], independent=1)
