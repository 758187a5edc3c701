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

"""What ``inspect`` says of bags whose content is known."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise
import json
import os
import shlex
import subprocess
import sys

from bag_edits import copied
from bag_files import unindexed
from conversions import report as report_of
from hypothesis import given, HealthCheck, settings
from hypothesis import strategies as st
from kuavo_bag_converter.bags.time_spans import SILENCE_S, TimeSpan
from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.inspection.contents import choose, WHOLE_BYTES, WINDOWS
from kuavo_bag_converter.inspection.timing import span_of, timing_of
from kuavo_bag_converter.sample.write import write_sample
from mcap.writer import Writer as McapWriter
import numpy as np
import pytest

HEAD = '/cam_h/color/image_raw/compressed'
SMALL = {'seconds': 1.5, 'size': (60, 80)}
PLAIN = {**SMALL, 'depth': False, 'extras': False}
RICH = {
    **SMALL,
    'unstamped_s': 0.3,
    'latched_age_s': 30_000,
    'starts': {'/leju_claw_command': 0.7},
    'gaps': {'/kuavo_arm_traj': ((0.8, 1.1),)},
}


def inspected(capsys, *arguments):
    """Run the command; return its exit code and the bags of its JSON."""
    capsys.readouterr()
    code = cli.run(['inspect', '--json', *map(str, arguments)])
    return code, json.loads(capsys.readouterr().out)['bags']


def shown(capsys, *arguments):
    """Run the command; return its exit code and its lines."""
    capsys.readouterr()
    code = cli.run(['inspect', *map(str, arguments)])
    return code, capsys.readouterr().out.splitlines()


def one(capsys, *arguments):
    """Inspect one good bag."""
    code, (bag,) = inspected(capsys, *arguments)
    assert code == 0
    return bag


def topics_of(bag):
    return {topic['topic']: topic for topic in bag['topics']}


def configuration(fit):
    return tuple(fit['settings'][name] for name in ('platform_type', 'eef_type', 'use_depth'))


def remarks(bag, topic):
    return [text for text in bag['remarks'] if text.startswith(f'{topic}: ')]


@pytest.fixture(scope='module')
def samples(tmp_path_factory):
    """One recording with everything in it, in the three storages, and its truth."""
    folder = tmp_path_factory.mktemp('samples')
    paths = {'bag': 'sample.bag', 'mcap': 'mcap/sample', 'sqlite3': 'sqlite3/sample'}
    truths = {
        storage: write_sample(folder / path, storage=storage, **RICH)
        for storage, path in paths.items()
    }
    return {storage: folder / path for storage, path in paths.items()}, truths['bag']


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    """Return a small recording without depth and extras, and its truth."""
    path = tmp_path_factory.mktemp('plain') / 'plain.bag'
    return path, write_sample(path, **PLAIN)


@pytest.fixture(scope='module')
def long(tmp_path_factory):
    """As the one before, but long enough for a conversion with default settings."""
    path = tmp_path_factory.mktemp('long') / 'long.bag'
    write_sample(path, **{**PLAIN, 'seconds': 2.5})
    return path


@pytest.mark.parametrize(
    ('storage', 'container'), [('bag', 'rosbag1'), ('mcap', 'mcap'), ('sqlite3', 'sqlite3')]
)
def test_a_bag_is_described_alike_in_every_storage(samples, capsys, storage, container):
    bag = one(capsys, samples[0][storage])
    assert (bag['container'], bag['backend'], bag['health']) == (container, 'portable', 'good')
    assert bag['compression'] == ''
    assert (bag['error'], bag['problems']) == ('', [])
    assert bag['header_stamps_read'] == 'all messages'
    other = one(capsys, samples[0]['bag'])
    for key in ('duration_s', 'start_ns', 'start', 'messages', 'remarks'):
        assert bag[key] == other[key], key
    for topic, same in zip(bag['topics'], other['topics'], strict=True):
        for item in (topic, same):
            item.pop('encoding')
            (item['picture'] or {}).pop('bytes', None)
        if topic['types'] == ['sensor_msgs/msg/CameraInfo']:  # has other field names in ROS 2
            topic['fields'] = same['fields'] = {}
        assert topic == same


def test_numbers_of_topics_are_those_of_their_stamps(samples, capsys):
    paths, truth = samples
    bag = one(capsys, paths['bag'])
    live = [item.receive for item in truth.topics.values() if item.rate]
    start, end = min(stamps[0] for stamps in live), max(stamps[-1] for stamps in live)
    assert bag['start_ns'] == start
    assert bag['duration_s'] == pytest.approx((end - start) / 1e9)
    assert bag['messages'] == sum(len(item.receive) for item in truth.topics.values())
    found = topics_of(bag)
    assert list(found) == sorted(truth.topics)
    for name, item in truth.topics.items():
        topic = found[name]
        assert topic['messages'] == len(item.receive)
        assert topic['types'] == [item.msgtype]
        if not item.rate:
            continue
        apart = np.diff(item.receive)
        timing = topic['timing']
        assert timing['rate_hz'] == pytest.approx(1e9 / apart.mean())
        assert timing['median_rate_hz'] == pytest.approx(1e9 / np.median(apart))
        off = np.abs(apart - np.median(apart)) / 1e6
        assert timing['jitter_p95_ms'] == pytest.approx(np.percentile(off, 95))
        assert timing['largest_gap_ms'] == pytest.approx(apart.max() / 1e6)
        gap_at = item.receive[apart.argmax()] - start
        assert timing['largest_gap_at_s'] == pytest.approx(gap_at / 1e9)
        assert timing['first_s'] == pytest.approx((item.receive[0] - start) / 1e9)


def test_header_stamps_are_compared_with_receive_stamps(samples, capsys):
    paths, truth = samples
    found = topics_of(one(capsys, paths['mcap']))
    for name, item in truth.topics.items():
        header = found[name]['header']
        if item.header is None:
            assert header is None
            continue
        stamped = item.header != 0
        offset = (item.receive - item.header)[stamped] / 1e6
        assert (header['sampled'], header['zero']) == (len(stamped), (~stamped).sum())
        assert header['offset_median_ms'] == pytest.approx(np.median(offset))
        assert header['offset_min_ms'] == pytest.approx(offset.min())
        assert header['offset_max_ms'] == pytest.approx(offset.max())
    assert found['/joint_cmd']['header']['zero'] > 100
    assert found['/sensors_data_raw']['header']['median_rate_hz'] == pytest.approx(500, rel=0.02)


def test_first_messages_give_pictures_and_numbers(samples, capsys):
    paths, truth = samples
    found = topics_of(one(capsys, paths['bag']))
    for name, item in truth.topics.items():
        picture = found[name]['picture']
        assert bool(picture) == bool(item.camera)
        if picture:
            codec = 'png' if 'depth' in item.camera else 'jpeg'
            assert (picture['codec'], picture['width'], picture['height']) == (codec, 80, 60)
            assert found[name]['fields'] == {}
        for path, ramp in item.ramps.items():
            values = found[name]['fields'].get(path)
            if values is not None:
                expected = ramp.at(item.time[0])
                assert values['type'] == 'float64[]'
                assert values['length'] == len(expected)
                assert values['first'] == pytest.approx(expected[:8].tolist())
    assert found['/sensors_data_raw']['fields']['joint_data.joint_q']['length'] == 28
    assert found['/sensors_data_raw']['fields']['imu_data.acc.z'] == {
        'type': 'float64', 'length': None, 'first': [9.81]
    }  # fmt: skip
    assert not any('header' in path for topic in found.values() for path in topic['fields'])


def test_what_a_conversion_may_stumble_over_is_said(samples, capsys):
    paths, truth = samples
    bag = one(capsys, paths['bag'])
    zero = (truth.topics['/joint_cmd'].header == 0).sum()
    assert remarks(bag, '/joint_cmd') == [
        f'/joint_cmd: {zero} of {len(truth.topics["/joint_cmd"].header)} header stamps are 0'
    ]
    (late,) = remarks(bag, '/leju_claw_command')
    assert late.startswith('/leju_claw_command: begins 0.7')
    assert any('is silent for 0.3' in text for text in remarks(bag, '/kuavo_arm_traj'))
    assert any('comes in bursts' in text for text in remarks(bag, '/sensors_data_raw'))
    assert remarks(bag, HEAD) == []


def test_an_old_latched_message_does_not_stretch_the_recording(samples, capsys):
    bag = one(capsys, samples[0]['bag'])
    assert bag['duration_s'] < 2
    for name in ('/kuavo/arm_zeros', '/kuavo/offset', '/tf_static'):
        topic = topics_of(bag)[name]
        assert topic['latched']
        assert topic['timing'] is None
        assert topic['outside']['messages'] == 1
        assert topic['outside']['before_s'] == pytest.approx(30_000, abs=1)
        (text,) = remarks(bag, name)
        assert 'latched; 1 of 1 messages are stamped outside of the recording, 8.3 hours' in text


def test_a_clock_that_was_not_set_yet_does_not_stretch_the_recording(plain, tmp_path, capsys):
    path, truth = plain
    copied(
        path, tmp_path / 'a.bag',
        restamped=lambda topic, n, stamp: n * 10**6 + 10**9
        if topic == '/joint_cmd' and n < 5 else stamp,
    )  # fmt: skip
    bag = one(capsys, tmp_path / 'a.bag')
    assert bag['duration_s'] < 2
    topic = topics_of(bag)['/joint_cmd']
    assert topic['messages'] == len(truth.topics['/joint_cmd'].receive)
    assert topic['outside']['messages'] == 5
    assert topic['timing']['largest_gap_ms'] < 100
    assert 'years before its start' in remarks(bag, '/joint_cmd')[0]


@pytest.mark.parametrize(
    ('platform_type', 'eef_type'),
    [('4pro', 'leju_claw'), ('5w', 'qiangnao'), ('5', 'rq2f85'), ('5w', 'sg100'),
     ('4pro', 'linker_hand')],
)  # fmt: skip
def test_the_robot_of_a_bag_is_found(tmp_path, capsys, eef_type, platform_type):
    path = tmp_path / 'a.bag'
    write_sample(path, platform_type=platform_type, eef_type=eef_type, **PLAIN)
    bag = one(capsys, path)
    fits = [fit for fit in bag['profiles'] if fit['fits']]
    assert [configuration(fit) for fit in fits] == [(platform_type, eef_type, 'false')]
    assert fits[0]['command'] == (
        f'python -m kuavo_bag_converter convert {path} --output DIR '
        f'--set platform_type={platform_type} --set eef_type={eef_type} --set use_depth=false'
    )
    misses = {configuration(fit): fit['misses'] for fit in bag['profiles'] if fit['settings']}
    assert len(misses) == 30
    assert {miss['kind'] for miss in misses[platform_type, eef_type, 'true']} == {'topic'}
    assert len(misses[platform_type, eef_type, 'true']) == 3
    other = next(name for name in ('4pro', '5w', '5') if name != platform_type)
    (miss,) = misses[other, eef_type, 'false']
    assert (miss['kind'], miss['topic']) == ('length', '/sensors_data_raw')
    joints = {'4pro': 28, '5w': 20, '5': 29}
    assert f'has {joints[platform_type]} elements' in miss['text']
    assert f'expected {joints[other]}' in miss['text']
    other = next(name for name in ('leju_claw', 'qiangnao', 'rq2f85') if name != eef_type)
    assert [(m['kind'], m['feature']) for m in misses[platform_type, other, 'false']] == [
        ('topic', 'observation.state'), ('topic', 'action'),
    ]  # fmt: skip


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'simulator': True, 'eef_type': 'rq2f85'},
        {'eef_type': 'rq2f85', 'gripper_messages': 'Rq2f85'},
        {'transport': 'raw'},
        {'transport': 'h265'},
        {'whole_body': True, 'storage': 'mcap'},
        {'camera_rates': (60.0, 30.0, 30.0), 'storage': 'sqlite3'},
    ],
    ids=str,
)
def test_the_command_that_is_told_gives_the_frames_that_are_told(tmp_path, capsys, options):
    path = tmp_path / ('sample' if 'storage' in options else 'sample.bag')
    write_sample(path, **{**SMALL, 'extras': False, **options})
    best = one(capsys, path)['profiles'][0]
    assert best['fits']
    assert best['settings']['use_depth'] == 'true'
    words = shlex.split(best['command'])
    assert words[:3] == ['python', '-m', 'kuavo_bag_converter']
    words[words.index('DIR')] = str(tmp_path / 'out')
    assert cli.run([*words[3:], '--set', 'resize={width: 80, height: 60}']) == 0
    plan = report_of(tmp_path / 'out')['bags'][0]['plan']
    assert (best['frames'], best['episodes']) == (plan['frames'], plan['episodes'])
    assert plan['frames'] > 3


def test_a_head_camera_of_another_rate_is_told_to_the_conversion(tmp_path, capsys):
    path = tmp_path / 'a.bag'
    write_sample(path, camera_rates=(60.0, 30.0, 30.0), **PLAIN)
    best = one(capsys, path)['profiles'][0]
    assert best['fits']
    assert '--set main_timeline_fps=60' in best['command']
    mine = one(capsys, path, '--set', 'main_timeline_fps=50', '--set', 'use_depth=false')
    assert '--set main_timeline_fps=50' in mine['profiles'][0]['command']


def test_a_recording_of_one_arm_is_converted_with_that_arm(plain, tmp_path, capsys):
    copied(plain[0], tmp_path / 'a.bag', keep=lambda topic, _: not topic.startswith('/cam_r'))
    best = one(capsys, tmp_path / 'a.bag')['profiles'][0]
    assert best['fits']
    assert best['settings']['which_arm'] == 'left'
    assert '--set which_arm=left' in best['command']


def test_topics_that_hold_what_is_missing_are_named(plain, tmp_path, capsys):
    renamed = {HEAD: '/front/jpeg', '/kuavo_arm_traj': '/arms'}
    bag = one(capsys, copied(plain[0], tmp_path / 'a.bag', renamed=renamed))
    assert not bag['profiles'][0]['fits']
    nearest = next(
        f for f in bag['profiles'] if configuration(f) == ('4pro', 'leju_claw', 'false')
    )
    camera, arms = sorted(nearest['misses'], key=lambda miss: miss['topic'])
    assert (camera['topic'], camera['kind']) == (HEAD, 'topic')
    assert camera['feature'] == 'observation.images.head_cam_h'
    assert '/front/jpeg' in camera['instead']
    assert (arms['topic'], arms['kind']) == ('/kuavo_arm_traj_synced', 'topic')
    assert arms['instead'] == ['/arms']
    lines = shown(capsys, tmp_path / 'a.bag')[1]
    nearest = lines[slice(lines.index('does not fit; the nearest'), None)]
    assert nearest[1] == '  kuavo 4pro leju_claw, without depth'
    assert '      the bag has /arms' in nearest
    assert not any(' arm, ' in line for line in nearest)


def test_types_pictures_and_fields_that_do_not_fit_are_told_apart(plain, tmp_path, capsys):
    renamed = {'/leju_claw_state': '/gripper/state', '/leju_claw_command': '/dexhand/state',
               HEAD: '/cam_h/depth/image_raw/compressedDepth',
               '/cam_l/color/image_raw/compressed': HEAD}  # fmt: skip
    path = copied(plain[0], tmp_path / 'a.bag', renamed=renamed)
    fits = {configuration(fit): fit for fit in one(capsys, path)['profiles'] if fit['settings']}
    misses = {miss['topic']: miss for miss in fits['4pro', 'rq2f85', 'true']['misses']}
    assert misses['/gripper/state']['kind'] == 'field'
    assert "has no field 'left_position'" in misses['/gripper/state']['text']
    depth = misses['/cam_h/depth/image_raw/compressedDepth']
    assert depth['kind'] == 'picture'
    assert 'no depth: jpeg pictures' in depth['text']


def test_what_is_asked_for_is_checked_by_itself(long, capsys):
    code, (bag,) = inspected(capsys, long, '--set', 'use_depth=false')
    assert code == 0
    assert bag['asked']['fits']
    assert bag['asked']['frames'] > 10
    code, (bag,) = inspected(
        capsys, long, '--set', 'eef_type=qiangnao', '--set', 'use_depth=false'
    )
    assert code == 1
    assert not bag['asked']['fits']
    assert {miss['topic'] for miss in bag['asked']['misses']} == {
        '/dexhand/state', '/control_robot_hand_position',
    }  # fmt: skip
    code, (bag,) = inspected(capsys, long, '--set', 'reader=portable')
    assert (code, bag['asked']) == (0, None)


def test_a_profile_is_checked_by_name_or_path(long, tmp_path, capsys):
    code, (bag,) = inspected(capsys, long, '--profile', 'joint_state_image')
    assert code == 1
    assert bag['asked']['profile'] == 'joint_state_image'
    kinds = {(miss['feature'], miss['kind']) for miss in bag['asked']['misses']}
    assert ('observation.state', 'topic') in kinds
    path = tmp_path / 'mine.yaml'
    path.write_text(
        'robot_type: mine\nfps: 10\ntask: Wave\n'
        f'clock: {{from: {{topic: {HEAD}}}, fps: 30}}\n'
        'features:\n  observation.state:\n    parts:\n'
        '      - {from: {topic: /kuavo_arm_traj, field: position}, names: [a, b]}\n'
    )
    code, (bag,) = inspected(capsys, long, '--profile', path)
    assert code == 1
    (miss,) = bag['asked']['misses']
    assert (miss['kind'], miss['feature']) == ('length', 'observation.state')
    assert 'has 14 elements in position, expected 2; check the robot' in miss['text']
    path.write_text(
        path.read_text().replace('names: [a, b]', 'joints: [arm_joint_1, wheel], names: [a, b]')
    )
    code, (bag,) = inspected(capsys, long, '--profile', path)
    (miss,) = bag['asked']['misses']
    assert miss['kind'] == 'names'
    assert "no joint 'wheel'" in miss['text']
    path.write_text(path.read_text().replace('joints: [arm_joint_1, wheel]', 'select: [3, 4]'))
    code, (bag,) = inspected(capsys, long, '--profile', path)
    assert code == 0
    assert bag['asked']['frames'] > 10


def test_settings_that_leave_no_frame_do_not_fit(plain, capsys):
    code, (bag,) = inspected(capsys, plain[0], '--set', 'sample_drop=900', '--set',
                             'use_depth=false')  # fmt: skip
    assert code == 1
    (miss,) = bag['asked']['misses']
    assert miss['kind'] == 'frames'
    assert 'too few to drop' in miss['text']


def test_shipped_profiles_are_tried_too(long, capsys):
    bag = one(capsys, long)
    (shipped,) = [fit for fit in bag['profiles'] if fit['profile'] == 'joint_state_image']
    assert not shipped['fits']
    assert {miss['kind'] for miss in shipped['misses']} == {'topic'}


@pytest.mark.parametrize(
    ('storage', 'compression', 'told'),
    [('bag', 'lz4', 'lz4'), ('bag', 'bz2', 'bz2'), ('mcap', 'zstd', 'zstd'),
     ('sqlite3', 'zstd', 'zstd message')],
)  # fmt: skip
def test_compression_is_told(tmp_path, capsys, storage, compression, told):
    path = tmp_path / ('a.bag' if storage == 'bag' else 'a')
    write_sample(path, storage=storage, compression=compression, **PLAIN)
    bag = one(capsys, path)
    assert bag['compression'] == told
    assert bag['health'] == 'good'


def test_a_truncated_bag_says_what_would_be_salvaged(long, tmp_path, capsys):
    path = tmp_path / 'cut.bag'
    path.write_bytes(long.read_bytes()[: long.stat().st_size * 9 // 10])
    code, (bag,) = inspected(capsys, path)
    assert code == 1
    assert bag['health'] == 'damaged'
    assert 'truncated; set on_damage: salvage' in bag['error']
    assert any('salvaged' in problem for problem in bag['problems'])
    assert 0 < bag['messages'] < 10_000
    assert len(bag['topics']) == 8
    best = bag['profiles'][0]
    assert best['fits']
    assert '--set on_damage=salvage' in best['command']


def test_a_bag_that_was_not_closed_is_read_whole_and_said_to_be_so(plain, tmp_path, capsys):
    path = tmp_path / 'open.bag'
    path.write_bytes(plain[0].read_bytes())
    bag = one(capsys, unindexed(path))
    whole = one(capsys, plain[0])
    assert (bag['health'], bag['error']) == ('noted', '')
    assert bag['problems'] == [
        f'{path}: has no index, its recording was not closed: it was scanned'
    ]
    assert bag['topics'] == whole['topics']
    assert 'health: no damage in what was read, but:' in '\n'.join(shown(capsys, path)[1])


def test_what_cannot_be_read_does_not_stop_the_others(long, tmp_path, capsys):
    (tmp_path / 'a.bag').write_bytes(b'hello')
    (tmp_path / 'b.bag').write_bytes(b'version https://git-lfs.github.com/spec/v1\n')
    (tmp_path / 'c.mcap').touch()
    code, bags = inspected(capsys, tmp_path, long)
    assert code == 1
    assert [bag['health'] for bag in bags] == ['unreadable', 'unreadable', 'unreadable', 'good']
    assert 'is not a recording' in bags[0]['error']
    assert 'git lfs pull' in bags[1]['error']
    assert 'is empty (0 bytes)' in bags[2]['error']
    assert all(bag['topics'] == [] and bag['problems'] == [] for bag in bags[:3])
    code, lines = shown(capsys, tmp_path, long)
    assert code == 1
    assert sum('health: cannot be read' in line for line in lines) == 3


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['nothing.bag'], 'nothing.bag: does not exist'),
        (['{bag}', '--profile', 'no_such'], "'no_such' is not known"),
        (['{bag}', '--profile', 'no/such.yaml'], 'no/such.yaml'),
        (['{bag}', '--set', 'train_hs=1'], "did you mean 'train_hz'"),
        (
            ['{bag}', '--set', 'dex_dof_needed=12', '--set', 'eef_type=sg100'],
            'dex_dof_needed: sg100 has 11 joints a hand, found 12',
        ),
        (['{bag}', '--set', 'msg_path=[nowhere]'], 'msg_path: nowhere is not a folder'),
    ],
)
def test_wrong_use_gives_one_line_and_exit_code_2(plain, capsys, arguments, words):
    assert cli.run(['inspect', *(a.format(bag=plain[0]) for a in arguments)]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert len(captured.err.splitlines()) == 1


def test_topics_that_cannot_be_decoded_are_named_and_do_not_stop_it(tmp_path, capsys):
    with (tmp_path / 'a.mcap').open('wb') as stream:
        writer = McapWriter(stream)
        writer.start('ros2')
        protobuf = writer.register_schema('a.B', 'protobuf', b'?')
        unknown = writer.register_schema('my_msgs/msg/Thing', 'ros2msg', b'')
        text = writer.register_schema('std_msgs/msg/String', 'ros2msg', b'string data')
        channels = [
            writer.register_channel('/protobuf', 'protobuf', protobuf),
            writer.register_channel('/unknown', 'cdr', unknown),
            writer.register_channel('/text', 'cdr', text),
        ]
        for n in range(3):
            for channel in channels:
                writer.add_message(channel, 10**18 + n, b'\0\1\0\0\2\0\0\0a\0', 10**18)
        writer.finish()
    bag = one(capsys, tmp_path / 'a.mcap')
    found = topics_of(bag)
    assert "encoded as 'protobuf'" in found['/protobuf']['error']
    assert 'my_msgs/msg/Thing.msg as msg_path' in found['/unknown']['error']
    assert found['/text']['error'] == ''
    assert all(topic['messages'] == 3 for topic in found.values())
    assert remarks(bag, '/unknown')[0].count('/unknown') == 1
    assert not bag['profiles'][0]['fits']


def test_a_missing_definition_is_taken_from_the_folder_that_is_given(tmp_path, capsys):
    folder = tmp_path / 'msgs' / 'my_msgs' / 'msg'
    folder.mkdir(parents=True)
    (folder / 'Thing.msg').write_text('float64[] values\n')
    with (tmp_path / 'a.mcap').open('wb') as stream:
        writer = McapWriter(stream)
        writer.start('ros2')
        schema = writer.register_schema('my_msgs/msg/Thing', 'ros2msg', b'')
        channel = writer.register_channel('/thing', 'cdr', schema)
        payload = b'\0\1\0\0' + (2).to_bytes(4, 'little') + bytes(4)
        payload += np.array([1.5, np.nan]).tobytes()
        writer.add_message(channel, 10**18, payload, 10**18)
        writer.finish()
    bag = one(capsys, tmp_path / 'a.mcap', '--set', f'msg_path=[{tmp_path / "msgs"}]')
    (topic,) = bag['topics']
    assert topic['fields'] == {'values': {'type': 'float64[]', 'length': 2, 'first': [1.5, None]}}


def test_a_stream_that_begins_before_its_key_frame_is_named(tmp_path, capsys):
    write_sample(tmp_path / 'a.bag', transport='h265', **PLAIN)
    topic = '/cam_h/color/h265_stream'
    whole = topics_of(one(capsys, tmp_path / 'a.bag'))[topic]['picture']
    assert (whole['codec'], whole['width'], whole['height']) == ('hevc', 80, 60)
    copied(tmp_path / 'a.bag', tmp_path / 'b.bag', keep=lambda name, n: name != topic or n >= 3)
    bag = one(capsys, tmp_path / 'b.bag')
    picture = topics_of(bag)[topic]['picture']
    assert (picture['width'], picture['height']) == (80, 60)
    assert picture['before_key'] > 0
    assert f'before a key frame: its first {picture["before_key"]} p' in remarks(bag, topic)[0]
    assert bag['profiles'][0]['fits']


def test_a_recording_in_several_files_is_one(long, tmp_path, capsys):
    half = 4000
    for part in range(2):
        seen = iter(range(10**6))
        copied(
            long, tmp_path / f'run_{part}.bag',
            keep=lambda *_, seen=seen, part=part: (next(seen) >= half) == bool(part),
        )  # fmt: skip
    whole = one(capsys, long)
    bag = one(capsys, tmp_path)
    assert [bag[key] for key in ('messages', 'duration_s')] == [
        whole[key] for key in ('messages', 'duration_s')
    ]
    assert bag['files'] == [str(tmp_path / 'run_0.bag'), str(tmp_path / 'run_1.bag')]
    best = bag['profiles'][0]
    assert f'{tmp_path / "run_0.bag"} {tmp_path / "run_1.bag"} --output' in best['command']
    assert best['frames'] == whole['profiles'][0]['frames']


def test_an_empty_bag_has_no_messages_and_nothing_fits(tmp_path, capsys):
    with (tmp_path / 'a.mcap').open('wb') as stream:
        writer = McapWriter(stream)
        writer.start('ros2')
        writer.finish()
    bag = one(capsys, tmp_path / 'a.mcap')
    assert (bag['messages'], bag['duration_s'], bag['profiles']) == (0, None, [])
    assert bag['remarks'] == ['the bag has no messages']
    code, (bag,) = inspected(capsys, tmp_path / 'a.mcap', '--set', 'eef_type=rq2f85')
    assert code == 1
    assert {miss['kind'] for miss in bag['asked']['misses']} == {'topic', 'refused'}


def test_inspecting_changes_nothing(samples, capsys):
    for path in samples[0].values():
        files = sorted(path.parent.rglob('*'))
        before = [(file, file.stat().st_mtime_ns, file.stat().st_size) for file in files]
        one(capsys, path)
        after = sorted(path.parent.rglob('*'))
        assert [(file, file.stat().st_mtime_ns, file.stat().st_size) for file in after] == before


def test_the_keys_of_the_json_form_are_stable(samples, capsys):
    capsys.readouterr()
    assert cli.run(['inspect', '--json', str(samples[0]['bag']), '--set', 'train_hz=10']) == 0
    document = json.loads(capsys.readouterr().out)
    assert (sorted(document), document['format']) == (['bags', 'format'], 1)
    (bag,) = document['bags']
    assert list(bag) == [
        'bag', 'files', 'size_bytes', 'health', 'error', 'problems', 'container', 'backend',
        'compression', 'start_ns', 'start', 'duration_s', 'messages', 'header_stamps_read',
        'bytes_read', 'topics', 'clock_steps', 'silences', 'receive_step_ms', 'remarks', 'asked',
        'profiles',
    ]  # fmt: skip
    topic = topics_of(bag)[HEAD]
    assert list(topic) == [
        'topic', 'types', 'encoding', 'messages', 'publishers', 'latched', 'timing', 'outside',
        'header', 'picture', 'fields', 'error', 'trailing_bytes',
    ]  # fmt: skip
    assert list(topic['timing']) == [
        'first_s', 'last_s', 'rate_hz', 'median_rate_hz', 'jitter_p95_ms', 'largest_gap_ms',
        'largest_gap_at_s',
    ]  # fmt: skip
    assert list(topic['header']) == [
        'sampled', 'zero', 'backward', 'median_rate_hz', 'offset_median_ms', 'offset_min_ms',
        'offset_max_ms', 'steps',
    ]  # fmt: skip
    assert list(topic['picture']) == [
        'codec', 'encoding', 'width', 'height', 'channels', 'upright', 'bytes', 'before_key',
    ]  # fmt: skip
    outside = topics_of(bag)['/tf_static']['outside']
    assert list(outside) == ['messages', 'before_s', 'after_s']
    assert list(bag['asked']) == list(bag['profiles'][0])
    assert list(bag['asked']) == [
        'profile', 'settings', 'fits', 'frames', 'episodes', 'misses', 'command', 'remarks',
    ]  # fmt: skip
    misses = bag['profiles'][-1]['misses']
    assert list(misses[0]) == ['feature', 'topic', 'kind', 'text', 'instead']


def test_whoever_closes_the_pipe_gets_no_traceback(plain):
    command = [sys.executable, '-m', 'kuavo_bag_converter', 'inspect', str(plain[0]), '--json']
    path = os.pathsep.join(filter(None, sys.path))
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, 'PYTHONPATH': path},
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b''
    assert process.returncode == 1


def test_the_text_form_is_an_aligned_table(samples, capsys):
    code, lines = shown(capsys, samples[0]['mcap'])
    assert code == 0
    assert any(line.startswith('  mcap, not compressed, ') for line in lines)
    head = next(n for n, line in enumerate(lines) if line.startswith('topic '))
    count = len(samples[1].topics)
    rows = lines[slice(head + 2, head + 2 + count)]
    assert [row.split()[0] for row in rows] == sorted(samples[1].topics)
    column = lines[head].index('messages') + len('messages')
    for row in rows:
        assert row[:column].split()[-1] == str(len(samples[1].topics[row.split()[0]].receive))
    for title in ('first values', 'remarks', 'fits', 'does not fit; the nearest'):
        assert title in lines
    fits = lines[slice(lines.index('fits') + 1, None)]
    assert fits[0].startswith('  kuavo 4pro leju_claw: ')
    assert fits[1].strip().startswith('python -m kuavo_bag_converter convert ')


# The pure parts.

SILENCE = round(SILENCE_S * 1e9)
STAMPS = st.lists(st.integers(0, 10**12), min_size=1, max_size=40).map(sorted)


@given(STAMPS, st.integers(2 * SILENCE, 2**60))
def test_a_lone_stamp_far_away_does_not_move_a_recording(stamps, far):
    near = np.array(stamps, np.int64) + 2**61
    span = span_of([near])
    assert span is not None
    if len(stamps) > 1 and max(b - a for a, b in pairwise(stamps)) <= SILENCE:
        assert span == (near[0], near[-1])
        lone = np.array([near[0] - far], np.int64)
        assert span_of([lone, near]) == span_of([np.concatenate([lone, near])]) == span


@given(STAMPS, STAMPS)
def test_the_time_of_a_recording_does_not_depend_on_how_topics_share_it(first, second):
    one_, two = np.array(first, np.int64), np.array(second, np.int64)
    assert span_of([one_, two]) == span_of([two, one_]) == span_of([np.sort([*one_, *two])])


@given(STAMPS, st.integers(-(10**15), 10**15))
def test_the_timing_of_a_topic_is_relative_to_the_recording(stamps, shift):
    mine = np.array(stamps, np.int64)
    span = TimeSpan(int(mine[0]), int(mine[-1]))
    shifted = TimeSpan(span.start + shift, span.stop + shift)
    assert timing_of(mine, span) == timing_of(mine + shift, shifted)


def test_no_message_at_all_makes_no_recording():
    assert span_of([]) is None
    assert span_of([np.empty(0, np.int64)]) is None
    assert timing_of(np.empty(0, np.int64), TimeSpan(0, 1)) is None


def test_stamps_at_the_ends_of_their_range_do_not_overflow():
    stamps = np.array([-(2**63), 5, 6, 7, 2**63 - 1], np.int64)
    assert span_of([stamps]) == TimeSpan(5, 7)


@pytest.mark.parametrize('seconds', [0, 1, 100, 10_000])
def test_a_large_bag_is_sampled_evenly_and_within_bounds(seconds):
    receive = {
        '/fast': np.arange(500 * seconds + 1, dtype=np.int64) * 2_000_000,
        '/slow': np.arange(seconds // 10 + 1, dtype=np.int64) * 10**10,
        '/rare': np.arange(3, dtype=np.int64) * 1000,
        '/plain': np.arange(10, dtype=np.int64),
        '/none': np.empty(0, np.int64),
    }
    span = TimeSpan(0, seconds * 10**9)
    sample = choose(receive, {'/fast', '/slow', '/rare'}, span, WHOLE_BYTES + 1)
    assert set(sample.wanted) == set(receive) - {'/none'}
    assert all(wanted[0] == 0 for wanted in sample.wanted.values())
    assert all((np.diff(wanted) > 0).all() for wanted in sample.wanted.values())
    assert sample.wanted['/rare'].tolist() == [0, 1, 2]
    assert sample.wanted['/plain'].tolist() == [0]
    assert len(sample.wanted['/fast']) <= 51 * WINDOWS
    if seconds >= 100:
        parts = np.unique(sample.wanted['/fast'] * 10 // len(receive['/fast']))
        assert parts.tolist() == list(range(10))
        assert f'of {len(receive["/fast"]) + len(receive["/slow"]) + 3} messages' in sample.text
    whole = choose(receive, {'/fast'}, span, WHOLE_BYTES)
    assert len(whole.wanted['/fast']) == len(receive['/fast'])
    assert whole.text == 'all messages'


def test_a_sampled_bag_says_so_and_finds_the_same(samples, capsys, monkeypatch):
    paths, truth = samples
    monkeypatch.setattr('kuavo_bag_converter.inspection.contents.WHOLE_BYTES', 1000)
    monkeypatch.setattr('kuavo_bag_converter.inspection.contents.WINDOW_S', 0.02)
    bag = one(capsys, paths['bag'])
    assert 'in 10 windows of 0.02 s evenly spread' in bag['header_stamps_read']
    header = topics_of(bag)['/leju_claw_state']['header']
    known = truth.topics['/leju_claw_state']
    assert header['sampled'] < len(known.receive) / 2
    offset = (known.receive - known.header) / 1e6
    assert header['offset_median_ms'] == pytest.approx(np.median(offset), abs=0.1)
    assert 'that were read are 0' in remarks(bag, '/joint_cmd')[0]
    assert topics_of(bag)[HEAD]['picture']['codec'] == 'jpeg'


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    storage=st.sampled_from(['bag', 'mcap', 'sqlite3']),
    edits=st.lists(st.tuples(st.floats(-1, 1), st.binary(min_size=1, max_size=8)), max_size=4),
    keep=st.floats(0, 1),
    cut=st.booleans(),
    form=st.sampled_from([(), ('--json',)]),
)
def test_no_damage_stops_it(tiny, tmp_path_factory, storage, edits, keep, cut, form):
    content = bytearray(tiny[storage].read_bytes())
    for place, new in edits:
        # Most structure is near the ends.
        at = min(int(abs(place) ** 3 * len(content)), len(content) - 1)
        at = at if place >= 0 else len(content) - 1 - at
        content[slice(at, at + len(new))] = new
    path = tmp_path_factory.mktemp('broken') / f'a{tiny[storage].suffix}'
    path.write_bytes(content[: int(keep * len(content))] if cut else content)
    with redirect_stdout(StringIO()) as out:
        assert cli.run(['inspect', str(path), *form]) in (0, 1)
    assert out.getvalue()


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """Return the file of a very small recording in each storage."""
    folder = tmp_path_factory.mktemp('tiny')
    files = {}
    for storage in ('bag', 'mcap', 'sqlite3'):
        path = folder / storage / ('a.bag' if storage == 'bag' else 'a')
        write_sample(path, storage=storage, seconds=0.2, size=(30, 40), extras=False)
        files[storage] = path if storage == 'bag' else next(path.glob('a.*'))
    return files


def test_a_damaged_first_picture_is_named_and_does_not_rule_a_configuration_out(
    plain, tmp_path, capsys
):
    copied(
        plain[0], tmp_path / 'a.bag',
        edited=lambda topic, n, data: data[:-40] + bytes(40) if (topic, n) == (HEAD, 0) else data,
    )  # fmt: skip
    bag = one(capsys, tmp_path / 'a.bag')
    assert 'its first picture' in remarks(bag, HEAD)[0]
    assert bag['profiles'][0]['fits']
