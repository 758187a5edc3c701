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

"""Poses from transforms: along the chain of two frames, at the time of the dataset's frames."""

from __future__ import annotations

from conversions import report, run
from kuavo_bag_converter.profiles.loader import read_profile
from kuavo_bag_converter.replay.verify import verify
from kuavo_bag_converter.support.errors import BagError, UsageError
from named_recordings import profile_file, profile_of, read, Recording
import numpy as np
import pytest

NAMES = ['x', 'y', 'z', 'qx', 'qy', 'qz', 'qw']


def about_z(angle):
    return (0.0, 0.0, np.sin(angle / 2), np.cos(angle / 2))


def matrix(move, turn):
    """Return a pose as a matrix, which is another statement than that of quaternions."""
    x, y, z, w = turn
    result = np.eye(4)
    result[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    result[:3, 3] = move
    return result


def arm_at(t):
    """Return the transforms of the robot at a time: parent, child, translation, rotation."""
    return {
        'odom to base': ((3 * t, -t, 0.0), about_z(0.5 * t)),
        'base to arm': ((0.1, 0.0, 0.5), about_z(2 * t)),
        'base to camera': ((0.2, 0.0, 1.0), (0.5, -0.5, 0.5, -0.5)),
        'arm to tool': ((0.3 + t, 0.0, 0.0), (0.0, np.sin(t / 2), 0.0, np.cos(t / 2))),
    }


STATIC = ('base to camera',)
PUBLISHED = {'odom to base': (33, '/odometry'), 'base to arm': (50, '/robot'),
             'arm to tool': (50, '/robot')}  # fmt: skip


def robot(ros1=False, topic='/tf', leave_out=(), more=()):
    """Return a robot whose nodes publish its transforms, those of one node in one message."""
    recording = Recording(ros1)
    for name in STATIC:
        parent, _, child = name.split()
        pose = recording.transform(0, parent, child, *arm_at(0)[name])
        recording.send(f'{topic}_static', 0.0, recording.tf(pose), publisher='/robot')
    for hz, node, names in (
        (33, '/odometry', ['odom to base']), (50, '/robot', ['base to arm', 'arm to tool']),
    ):  # fmt: skip

        def made(t, names=names):
            return recording.tf(
                *(
                    recording.transform(t, *name.split()[::2], *arm_at(t)[name])
                    for name in names
                    if name not in leave_out
                )
            )

        recording.every(topic, hz, made, -0.1, 1.1, publisher=node, late=0.003)
    return recording


def pose_part(parent, child, names=NAMES, align=None, **source):
    part = {'from': {'tf': {'parent': parent, 'child': child}, **source}, 'names': list(names)}
    return part if align is None else {**part, 'align': align}


def true_pose(times, *chain):
    """Return the pose along a chain of names, those with a minus backwards, shape (n, 4, 4)."""
    found = []
    for t in times:
        pose = np.eye(4)
        for name in chain:
            step = matrix(*arm_at(t)[name.removeprefix('-')])
            pose = pose @ (np.linalg.inv(step) if name.startswith('-') else step)
        found.append(pose)
    return np.array(found)


CHAINS = {
    ('base', 'tool'): ['base to arm', 'arm to tool'],
    ('odom', 'tool'): ['odom to base', 'base to arm', 'arm to tool'],
    ('tool', 'base'): ['-arm to tool', '-base to arm'],
    ('camera', 'tool'): ['-base to camera', 'base to arm', 'arm to tool'],
    ('base', 'camera'): ['base to camera'],
}


@pytest.mark.parametrize(('parent', 'child'), CHAINS)
@pytest.mark.parametrize('ros1', [False, True])
def test_a_pose_follows_the_chain_at_the_time_of_the_frame(tmp_path, ros1, parent, child):
    part = pose_part(parent, child)
    clock = {'from': {'topic': '/stamped'}, 'timeline': 'header'}
    recording = robot(ros1)
    recording.every('/stamped', 10, lambda t: recording.joints(t, ['a'], [t]), late=0.02)
    values, times = read(
        tmp_path, recording, part, clock=clock, align={'timeline': 'header'}
    )  # fmt: skip
    found = np.array([matrix(row[:3], row[3:]) for row in values.astype(float)])
    assert len(found) >= 10
    assert np.abs(found - true_pose(times, *CHAINS[parent, child])).max() < 1e-3


def test_a_pose_has_its_rotation_in_six_numbers(tmp_path):
    """Between two transforms it is turned first, whatever it becomes then; a fixed one, too."""
    fields = [f'rotation.{axis}' for axis in 'wxyz']
    turn = {'rotation': {'from': 'quaternion_wxyz', 'to': 'rot6d_columns'}}
    for child in ('tool', 'camera'):
        part = pose_part('base', child, [f'r{place}' for place in range(6)], fields=fields) | turn
        folder = tmp_path / child
        folder.mkdir()
        values, times = read(folder, robot(), part)
        true = true_pose(times, *CHAINS['base', child])
        columns = np.concatenate([true[:, :3, 0], true[:, :3, 1]], axis=1)
        assert np.abs(values - columns).max() < 0.02


def test_some_fields_by_receive_stamps_in_a_namespace(tmp_path):
    part = pose_part(
        'base', 'tool', ['height', 'x'], topic='/one/tf', fields=['translation.z', 'translation.x']
    )
    values, times = read(tmp_path, robot(topic='/one/tf'), part)
    true = true_pose(times, *CHAINS['base', 'tool'])
    assert np.abs(values - true[:, [2, 0], 3]).max() < 0.02


def test_each_transform_is_read_from_its_own_messages_and_counted(tmp_path):
    profile = profile_file(tmp_path, profile_of(pose_part('odom', 'tool')))
    bag = robot().write(tmp_path)
    (outcome,) = run(bag, tmp_path / 'dataset', judged=True, profile=str(profile)).outcomes
    assert outcome.status == 'converted', outcome.reason
    tracks = report(tmp_path / 'dataset')['bags'][0]['plan']['tracks']
    assert [track['topic'] for track in tracks] == [
        '/tf (odom to base)', '/tf (base to arm)', '/tf (arm to tool)'
    ]  # fmt: skip
    assert [track['passed_by'] for track in tracks] == [
        {'without the transform': 61}, {'without the transform': 41}, {'without the transform': 41}
    ]  # fmt: skip
    assert verify(tmp_path / 'dataset', [str(bag)]).findings == ()


def test_a_gap_of_one_transform_is_a_gap_of_the_pose(tmp_path):
    recording = robot(leave_out=['odom to base'])
    for start, until in ((-0.1, 0.3), (0.7, 1.1)):
        recording.every(
            '/tf', 33, lambda t: recording.tf(
                recording.transform(t, 'odom', 'base', *arm_at(t)['odom to base'])
            ), start, until,
        )  # fmt: skip
    align = {'tolerance_ms': 60, 'on_gap': 'split'}
    _, times = read(tmp_path, recording, pose_part('odom', 'tool', align=align))
    assert not ((times > 0.38) & (times < 0.62)).any()
    assert (times < 0.38).sum() >= 3
    assert (times > 0.62).sum() >= 3


def other(parent, child, pose=((0, 0, 0), (0, 0, 0, 1)), publisher='/other'):
    return parent, child, pose, publisher


@pytest.mark.parametrize(
    ('frames', 'more', 'words'),
    [
        (('base', 'tol'), [], "no transform of the frame 'tol'; there are arm, base, camera, "
                              "odom, tool; did you mean 'tool'?"),
        (('base', 'world'), [], "no transform of the frame 'world'"),
        (('map', 'tool'), [other('map', 'anchor')], 'tool is below odom and map below map: no '
                                                    'transforms connect them'),
        (('odom', 'tool'), [other('map', 'arm')], 'the frame arm has several parents, '),
        (('base', 'tool'), [other('arm', 'tool')], 'the transform of arm to tool is '),
    ],
)  # fmt: skip
@pytest.mark.parametrize('ros1', [False, True])
def test_a_chain_that_is_not_there_or_not_one_is_refused(tmp_path, frames, more, words, ros1):
    recording = robot(ros1)
    for parent, child, pose, publisher in more:
        recording.every(
            '/tf', 50, lambda t, pose=pose, parent=parent, child=child: recording.tf(
                recording.transform(t, parent, child, *pose)
            ), -0.1, publisher=publisher,
        )  # fmt: skip
    with pytest.raises(BagError) as caught:
        read(tmp_path, recording, pose_part(*frames))
    assert words in str(caught.value)
    assert str(caught.value).endswith('(observation.state)')
    assert '\n' not in str(caught.value)


def test_a_static_transform_that_changes_is_refused_where_it_is_needed(tmp_path):
    recording = robot()
    moved = recording.transform(0.5, 'base', 'camera', (0.25, 0, 1), (0.5, -0.5, 0.5, -0.5))
    recording.send('/tf_static', 0.5, recording.tf(moved))
    values, _ = read(tmp_path, recording, pose_part('base', 'tool'))
    assert len(values)
    (tmp_path / 'camera').mkdir()
    with pytest.raises(BagError, match='the transform of base to camera changes from'):
        read(tmp_path / 'camera', recording, pose_part('camera', 'tool'))


def test_a_rotation_that_is_none_is_refused(tmp_path):
    recording = robot(leave_out=['arm to tool'])
    recording.every(
        '/tf', 50,
        lambda t: recording.tf(recording.transform(t, 'arm', 'tool', (t, 0, 0), (0, 0, 0, 0))),
    )  # fmt: skip
    with pytest.raises(BagError, match='whose rotation is no unit quaternion'):
        read(tmp_path, recording, pose_part('base', 'tool'))


@pytest.mark.parametrize(
    ('part', 'words'),
    [
        (pose_part('a', 'a'), 'expected two frames, found a twice'),
        (pose_part('a', 'b', ['x']), 'expected 7 names, for translation.x'),
        (pose_part('a', 'b', ['x'], field='position'), 'a transform has the fields translation.x'),
        (pose_part('a', 'b', align={'strategy': 'slerp'}), 'linear turns by slerp'),
        ({'from': {'tf': {'parent': 'a'}}, 'names': NAMES}, "the key 'child' is missing"),
        (
            {'from': {'tf': {'parent': 'a', 'child': 'b'}}, 'joints': ['a']},
            "unknown key 'tf'",
        ),
    ],
)
def test_what_a_transform_must_say(tmp_path, part, words):
    with pytest.raises(UsageError) as caught:
        read_profile(profile_file(tmp_path, profile_of(part)))
    assert words in str(caught.value)


@pytest.mark.parametrize('strategy', [None, 'nearest', 'hold', 'linear'])
def test_transforms_are_interpolated_unless_they_say_otherwise(tmp_path, strategy):
    align = None if strategy is None else {'strategy': strategy}
    profile = read_profile(
        profile_file(tmp_path, profile_of(pose_part('a', 'b', align=align)))
    )  # fmt: skip
    (source,) = profile.vectors[0].parts[0].sources
    assert source.align.strategy == (strategy or 'linear')
    assert source.tf.static_topic == '/tf_static'


@pytest.mark.parametrize('late', [0.0, 0.007])
def test_two_nodes_that_the_bag_does_not_tell_are_found_by_what_they_say(tmp_path, late):
    recording = robot()
    recording.every(
        '/tf', 33,
        lambda t: recording.tf(recording.transform(t + late, 'arm', 'tool', (-1, 0, 0))),
        -0.1 + late,
    )  # fmt: skip
    with pytest.raises(BagError, match=r'the transform of arm to tool is by turns \['):
        read(tmp_path, recording, pose_part('base', 'tool'))


def test_a_coarse_clock_and_an_encoder_that_flickers_are_one_publisher(tmp_path):
    recording = Recording()
    for number in range(101):
        time = number / 100
        flicker = (0.1 + 0.001 * (number % 2), 0.0, time)
        transform = recording.transform(number // 5 / 20, 'base', 'tool', flicker)
        recording.send('/tf', time, recording.tf(transform))
    values, times = read(tmp_path, recording, pose_part('base', 'tool'))
    assert np.abs(values[:, 2] - times).max() < 0.011
