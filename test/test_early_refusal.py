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

"""What a bag lacks is said in one line before hours of work, and the other bags go on."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
import random
import shutil
import sqlite3
import threading
import zipfile

from bag_edits import copied
from bag_files import unindexed
from conversions import report, run
from kuavo_bag_converter.bags.discover import list_recordings
from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.frames import preflight
from kuavo_bag_converter.frames.options import shard_options
from kuavo_bag_converter.jobs.convert import convert_bags
from kuavo_bag_converter.jobs.report import Observer
from kuavo_bag_converter.robots.resolve import resolve
from kuavo_bag_converter.sample.write import write_sample
from kuavo_bag_converter.settings import settings_from
from kuavo_bag_converter.support.errors import BagError, Cancelled
from mcap.reader import make_reader
from mcap.writer import Writer as McapWriter
from ordinary_user import as_nobody
from plain_robot import BEGIN, depth, every, image, joint_state, NS, ramps, Robot, said
import pytest
from rosbags.rosbag1 import Writer as Rosbag1Writer
import yaml

SIZE = (48, 64)
SECONDS = 1.0
CAMERA, STATE, COMMAND = '/camera/image_raw', '/joint_states', '/joint_command'


def robot_of(state=None, command=None, camera=None, seconds=SECONDS):
    """Return a robot with camera, joints and commands; what is given replaces a topic."""
    robot = Robot()
    robot.publish(CAMERA, every(15, seconds), camera or image('head_cam_h', size=SIZE))
    robot.publish(STATE, every(50, seconds), state or joint_state(ramps(3)))
    robot.publish(COMMAND, every(50, seconds), command or joint_state(ramps(3)))
    return robot


def profile_of(state=None, **keys):
    names = ['a', 'b', 'c']
    part = {'from': {'topic': STATE, 'field': 'position'}, 'names': names}
    action = {'from': {'topic': COMMAND, 'field': 'position'}, 'names': names}
    return {
        'robot_type': 'made_up', 'fps': 15, 'task': 'Do it',
        'clock': {'from': {'topic': CAMERA}, 'fps': 15},
        'features': {
            'observation.state': {'parts': [{**part, **(state or {})}]},
            'action': {'parts': [action]},
            'observation.images.head': {'camera': {'from': {'topic': CAMERA}}},
        },
        **keys,
    }  # fmt: skip


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    return robot_of().write(tmp_path_factory.mktemp('good') / 'good')


@pytest.fixture
def bags(good, tmp_path):
    folder = tmp_path / 'bags'
    folder.mkdir()
    shutil.copytree(good, folder / 'a_good')
    return folder


def arguments(tmp_path, profile=None):
    path = tmp_path / 'robot.yaml'
    path.unlink(missing_ok=True)
    path.write_text(json.dumps(profile or profile_of()))  # which is YAML too
    return ['--set', f'profile={path}', '--set', 'crf=40']


def command(capsys, *words):
    """Run a command; its exit code and the lines that it prints to stderr and stdout."""
    capsys.readouterr()
    code = cli.run([str(word) for word in words])
    captured = capsys.readouterr()
    assert 'Traceback' not in captured.err + captured.out
    return code, captured.err.splitlines(), captured.out


def refused(capsys, tmp_path, bags, bad, profile=None, settings=()):
    """Convert a good bag and a bad one, and the bad one alone; return the line about it."""
    given = [*arguments(tmp_path, profile), *(w for s in settings for w in ('--set', s))]
    output = tmp_path / 'out' / 'dataset'
    good = bags / 'a_good'
    code, lines, _ = command(capsys, 'convert', good, bad, '--output', output, *given)
    assert code == 1
    (line,) = (line for line in lines if 'failed' in line)
    assert line.startswith(f'[2/2] {bad.name}: failed: ')
    started = next(number for number, text in enumerate(lines) if text.startswith('[1/2]'))
    assert lines.index(line) < started, 'it is said before the first bag is converted'
    first, second = report(output)['bags']
    assert (first['status'], second['status']) == ('converted', 'failed')
    assert second['bag'] == os.path.relpath(bad, output)
    recorded = line.replace(f'{tmp_path}/', '../../')
    assert recorded.endswith(f': failed: {second["reason"]}')
    assert sorted(path.name for path in output.parent.iterdir()) == ['dataset']
    shutil.rmtree(output.parent)

    before = sorted(tmp_path.rglob('*'))
    code, lines, printed = command(capsys, 'convert', bad, '--output', output, *given)
    assert code == 1
    assert [text for text in lines if 'failed' in text] == [line.replace('[2/2]', '[1/1]')]
    assert line.partition(': failed: ')[2] in printed
    assert sorted(tmp_path.rglob('*')) == before
    assert_inspect_says_it(capsys, good, bad, line.partition(': failed: ')[2], given)
    return line


def assert_inspect_says_it(capsys, good, bad, reason, given):
    """Check that inspecting the bags says what converting them says."""
    code, _, printed = command(capsys, 'inspect', '--json', good, bad, *given)
    first, second = json.loads(printed)['bags']
    assert code == 1
    assert (first['error'], first['asked']['misses']) == ('', [])
    if second['asked'] is None:
        assert second['error'] == reason
    else:
        assert reason in (second['error'], *(miss['text'] for miss in second['asked']['misses']))
        assert not second['asked']['fits'] or second['error']


def inspected(capsys, tmp_path, bad, profile=None):
    code, _, printed = command(capsys, 'inspect', '--json', bad, *arguments(tmp_path, profile))
    (bag,) = json.loads(printed)['bags']
    return code, bag


# --- what is no bag


def zipped(good):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w') as archive:
        for path in good.iterdir():
            archive.write(path, path.name)
    return stream.getvalue()


POINTER = b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n'
CONTENTS = {
    'pointer': (POINTER, 'is a Git LFS pointer, not the recording itself; run `git lfs pull`'),
    'zip': (zipped, 'is a zip archive; unpack it first'),
    'empty': (b'', 'is empty (0 bytes); expected a ROS 1 bag 2.0, an MCAP file or an sqlite3'),
    'random': (random.Random(3).randbytes(70000), 'is not a recording: it begins with'),
    'zeros': (bytes(70000), 'is not a recording: it begins with zeros; expected a ROS 1 bag'),
    'page': (b'\n<!DOCTYPE html><html>404', 'is a web page, not the recording; download it'),
    'xml': (b'\xef\xbb\xbf<?xml version="1.0"?><Error>', 'is a web page, not the recording'),
    'header': (b'#ROSBAG V2.0\n', 'byte 13: '),
}


@pytest.mark.parametrize('kind', CONTENTS)
def test_a_file_that_is_no_bag(capsys, tmp_path, bags, good, kind):
    content, words = CONTENTS[kind]
    endings = ('.bag', '.mcap', '.db3', '.bag.active')
    bad = bags / f'b{endings[list(CONTENTS).index(kind) % 4]}'
    bad.write_bytes(content(good) if callable(content) else content)
    line = refused(capsys, tmp_path, bags, bad)
    assert f'failed: {bad}: {words}' in line
    code, bag = inspected(capsys, tmp_path, bad)
    assert (code, bag['health']) == (1, 'damaged' if kind == 'header' else 'unreadable')
    assert line.endswith(f'failed: {bag["error"]}')


def folder_of(bags, files):
    folder = bags / 'b'
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ('files', 'words'),
    [
        ({}, 'b: holds no recording: no metadata.yaml, no .bag, .mcap or .db3 files'),
        ({'notes.txt': b'none'}, 'b: holds no recording'),
        ({'b_0.mcap': POINTER}, 'b_0.mcap: is a Git LFS pointer'),
        ({'b_0.mcap': b'', 'metadata.yaml': POINTER}, 'metadata.yaml: is a Git LFS pointer'),
        ({'metadata.yaml': b''}, 'metadata.yaml: is empty; set on_damage: salvage'),
    ],
)
def test_a_folder_that_is_no_bag(capsys, tmp_path, bags, files, words):
    bad = folder_of(bags, files)
    assert f'failed: {bags}/b' in refused(capsys, tmp_path, bags, bad)
    code, bag = inspected(capsys, tmp_path, bad)
    assert (code, bag['health']) == (1, 'unreadable')
    assert words in bag['error']


@pytest.mark.parametrize('readable', [False, True])
def test_another_storage_plugin_is_named_unless_its_files_can_be_read(
    capsys, tmp_path, bags, good, readable
):
    bad = bags / 'b'
    shutil.copytree(good, bad)
    (file,) = bad.glob('*.mcap')
    metadata = yaml.safe_load((bad / 'metadata.yaml').read_text())
    metadata['rosbag2_bagfile_information']['storage_identifier'] = 'my_storage'
    (bad / 'metadata.yaml').write_text(yaml.safe_dump(metadata))
    if readable:
        outcome = run(bad, tmp_path / 'out', profile=arguments(tmp_path)[1].partition('=')[2])
        (item,) = outcome.outcomes
        assert 'storage my_storage is listed, mcap is stored' in item.problems[0]
        return
    file.write_bytes(b'another format')
    line = refused(capsys, tmp_path, bags, bad)
    assert "begins with b'another '; expected a ROS 1 bag 2.0, an MCAP file or an sqlite3" in line
    assert "names the storage plugin 'my_storage', expected mcap or sqlite3: where that" in line
    assert 'plugin is installed, set reader: rosbag2_py, or use `ros2 bag convert`' in line


def test_the_content_of_a_file_counts_and_not_its_name(capsys, tmp_path, good):
    write_sample(tmp_path / 's.bag', storage='bag', seconds=1.0, size=(60, 80), depth=False)
    (tmp_path / 's.bag').rename(tmp_path / 'really_ros1.mcap')
    shutil.copy(next(good.glob('*.mcap')), tmp_path / 'really_mcap.bag')
    for name, container in (('really_ros1.mcap', 'rosbag1'), ('really_mcap.bag', 'mcap')):
        _, bag = inspected(capsys, tmp_path, tmp_path / name)
        assert (bag['health'], bag['container']) == ('good', container)
    output = tmp_path / 'out'
    words = ['convert', tmp_path / 'really_mcap.bag', '--output', output, *arguments(tmp_path)]
    assert command(capsys, *words)[0] == 0


def test_a_pipe_a_device_and_a_broken_link_keep_nobody_waiting(capsys, tmp_path, bags):
    os.mkfifo(bags / 'b.bag')
    (bags / 'c.bag').symlink_to('/dev/zero')
    (bags / 'd.bag').symlink_to('nowhere.bag')
    code, lines, _ = command(
        capsys, 'convert', bags, '--output', tmp_path / 'out', *arguments(tmp_path)
    )
    assert code == 1
    said = [line for line in lines if 'failed' in line]
    assert [line[:13] for line in said] == ['[2/4] b.bag: ', '[3/4] c.bag: ', '[4/4] d.bag: ']
    assert ['is no regular file' in line for line in said] == [True, True, False]
    assert 'd.bag: is a link to nowhere.bag, which does not exist' in said[2]
    for name in 'bcd':
        code, lines, _ = command(
            capsys, 'convert', bags / f'{name}.bag', '--output', tmp_path / 'o',
            *arguments(tmp_path),
        )  # fmt: skip
        assert code == (2 if name == 'd' else 1)
        assert any(f'{name}.bag: ' in line for line in lines)


# --- what must not be read


def locked_file(bad, good):
    shutil.copy(next(good.glob('*.mcap')), bad.with_suffix('.mcap'))
    return bad.with_suffix('.mcap'), bad.with_suffix('.mcap')


def locked_folder(bad, good):
    shutil.copytree(good, bad)
    return bad, bad


def locked_storage(bad, good):
    shutil.copytree(good, bad)
    return bad, next(bad.glob('*.mcap'))


def locked_metadata(bad, good):
    shutil.copytree(good, bad)
    return bad, bad / 'metadata.yaml'


def locked_above(bad, good):
    shutil.copytree(good, bad / 'inner')
    return bad / 'inner', bad


@pytest.mark.parametrize(
    'lock', [locked_file, locked_folder, locked_storage, locked_metadata, locked_above]
)
def test_what_must_not_be_read(capsys, place, good, lock):
    bags = place / 'bags'
    robot_of(seconds=SECONDS + 0.5).write(bags / 'a_good')
    bad, locked = lock(bags / 'b', good)
    given = arguments(place)

    def convert(*paths):
        words = ['convert', *paths, '--output', place / 'out', *given]
        code, lines, _ = command(capsys, *words)
        return code, lines

    def attempt():
        both = convert(bags / 'a_good', bad)
        status = [bag['status'] for bag in report(place / 'out')['bags']]
        shutil.rmtree(place / 'out')
        folder = convert(bags)
        shutil.rmtree(place / 'out')
        alone = convert(bad)
        return both, status, folder, alone, inspected(capsys, place, bad)

    locked.chmod(0)
    both, status, folder, alone, (code, bag) = as_nobody(attempt)
    locked.chmod(0o755)
    assert both[0] == folder[0] == alone[0] == code == 1
    assert status == ['converted', 'failed']
    assert bag['health'] == ('damaged' if lock is locked_metadata else 'unreadable')
    for lines in (both[1], folder[1], alone[1]):
        (line,) = (line for line in lines if 'failed' in line)
        assert 'permission denied; it may have been recorded by root: change its owner' in line
        assert f'failed: {bags}/b' in line
    assert bag['error'] in both[1][1]
    assert sorted(path.name for path in place.iterdir()) == ['bags', 'robot.yaml']


# --- what does not fit


def rewritten(source, target, encoding=(), types=(), payload=None, without=()):
    """Copy a bag as one MCAP file with other encodings or types of topics, or payloads."""
    (path,) = source.glob('*.mcap')
    with path.open('rb') as stream, target.open('wb') as copy:
        writer = McapWriter(copy)
        writer.start('ros2')
        channels = {}
        for schema, channel, message in make_reader(stream).iter_messages():
            topic = channel.topic
            if topic not in channels:
                name, text = dict(types).get(topic, (schema.name, schema.data))
                number = writer.register_schema(name, 'ros2msg', text)
                channels[topic] = writer.register_channel(
                    topic, dict(encoding).get(topic, 'cdr'), number
                )
            if topic not in without:
                data = payload(topic, message.data) if payload else message.data
                writer.add_message(channels[topic], message.log_time, data, message.publish_time)
        writer.finish()
    return target


STRING = ('std_msgs/msg/String', b'string data')


@pytest.mark.parametrize('encoding', ['protobuf', 'json', 'cbor', ''])
@pytest.mark.parametrize(
    ('topic', 'key'), [(STATE, 'observation.state'), (CAMERA, 'observation.images.head')]
)
def test_a_used_topic_in_another_encoding(capsys, tmp_path, bags, good, topic, key, encoding):
    bad = rewritten(good, bags / 'b.mcap', {topic: encoding})
    line = refused(capsys, tmp_path, bags, bad)
    assert f'failed: {topic}: its payloads are encoded as {encoding!r}; only ros1 and cdr' in line
    assert line.endswith(f' ({key})')
    code, bag = inspected(capsys, tmp_path, bad)
    assert (code, bag['health']) == (1, 'good')
    assert any(f'encoded as {encoding!r}' in miss['text'] for miss in bag['asked']['misses'])


@pytest.mark.parametrize('encoding', ['protobuf', 'json', 'cdr', 'ros1', ''])
def test_an_unused_topic_in_any_encoding_does_not_matter(tmp_path, encoding):
    robot = robot_of()
    robot.publish('/other', every(50, SECONDS), said(['?'] * 50))
    bag = robot.write(tmp_path / 'bag')
    types = {'/other': ('foxglove.Log', b'\0\1\2')}
    bag = rewritten(bag, tmp_path / 'b.mcap', {'/other': encoding}, types, lambda topic, data:
                    b'{?}' if topic == '/other' else data)  # fmt: skip
    profile = arguments(tmp_path)[1].partition('=')[2]
    (outcome,) = run([bag], tmp_path / 'out', profile=profile).outcomes
    assert outcome.status == 'converted'
    # Where the schema contradicts it, it is said what the messages are taken for.
    noted = ['channels say ros1' in line for line in outcome.problems]
    assert noted == ([True] if encoding == 'ros1' else [])


def test_payloads_in_another_encoding_than_is_declared(capsys, tmp_path, bags, good):
    def as_ros1(topic, data):
        return (7).to_bytes(4, 'little') + data[4:] if topic == STATE else data

    bad = rewritten(good, bags / 'b.mcap', payload=as_ros1)
    line = refused(capsys, tmp_path, bags, bad)
    assert STATE in line
    assert 'is no CDR message' in line


def test_an_encoding_that_the_schema_contradicts_is_told_by_the_messages(tmp_path, good):
    bag = rewritten(good, tmp_path / 'b.mcap', {STATE: 'ros1'})
    profile = arguments(tmp_path)[1].partition('=')[2]
    (outcome,) = run([bag], tmp_path / 'out', profile=profile).outcomes
    assert outcome.status == 'converted'
    (problem,) = outcome.problems
    assert f'of {STATE}: by their messages they are read as cdr' in problem


@pytest.mark.parametrize(
    ('topic', 'profile', 'words'),
    [
        (STATE, {}, f"{STATE}: position: std_msgs/msg/String has no field 'position'"),
        (STATE, {'type': 'sensor_msgs/msg/JointState'}, f'{STATE}: observation.state needs '
         'sensor_msgs/msg/JointState, the bag has std_msgs/msg/String; the command inspect'),
        (CAMERA, {}, f'{CAMERA}: std_msgs/msg/String holds no picture; expected '
         'sensor_msgs/msg/CompressedImage or sensor_msgs/msg/Image (observation.images.head)'),
    ],
)  # fmt: skip
def test_a_used_topic_of_another_type(capsys, tmp_path, bags, topic, profile, words):
    robot = robot_of()
    times = every(50, SECONDS)
    del robot.topics[topic]
    robot.publish(topic, times, said(['?'] * len(times)))
    bad = robot.write(bags / 'b')
    asked = profile_of({'from': {'topic': STATE, 'field': 'position', **profile}})
    assert words in refused(capsys, tmp_path, bags, bad, asked)
    code, bag = inspected(capsys, tmp_path, bad, asked)
    assert code == 1
    assert bag['asked']['misses'][0]['topic'] == topic


def test_a_colour_camera_that_is_a_depth_camera(capsys, tmp_path, bags):
    bad = robot_of(camera=depth).write(bags / 'b')
    line = refused(capsys, tmp_path, bags, bad)
    assert CAMERA in line
    assert '16UC1' in line
    assert '(observation.images.head)' in line


def test_pictures_of_an_odd_size(capsys, tmp_path, bags):
    bad = robot_of(camera=image('head_cam_h', size=(49, 65))).write(bags / 'b')
    line = refused(capsys, tmp_path, bags, bad)
    assert CAMERA in line
    assert '65x49' in line


def test_pictures_of_another_size_than_those_of_the_other_bags(capsys, tmp_path, bags):
    good = bags / 'a_good'
    bad = robot_of(camera=image('head_cam_h', size=(60, 80))).write(bags / 'b')
    given = arguments(tmp_path)
    code, lines, _ = command(
        capsys, 'convert', good, bad, '--output', tmp_path / 'out', *given
    )  # fmt: skip
    (line,) = (line for line in lines if 'failed' in line)
    assert (code, '80x60' in line) == (1, True)
    assert_inspect_says_it(capsys, good, bad, line.partition(': failed: ')[2], given)


def lengths(length_of):
    """Return a maker of joints whose number depends on the number of the message."""
    return lambda number, time: joint_state(ramps(length_of(number)))(number, time)


SELECTED = {'select': [0, 1, 2]}
STAMP = BEGIN + 30 * NS // 50
CHANGES = {
    'all': (lambda _: 4, {}, f'{BEGIN // NS}.000000000 has 4 elements in position, expected 3'),
    'later': (
        lambda number: 3 if number < 30 else 2,
        {},
        f'{STAMP // NS}.600000000 has 2 elements in position, expected 3',
    ),
    'length': (
        lambda number: 3 if number < 30 else 4,
        {**SELECTED, 'length': 3},
        f'{STAMP // NS}.600000000 has 4 elements in position, expected 3; check',
    ),
    'changes': (
        lambda number: 5 if number < 30 else 6,
        SELECTED,
        f'{STAMP // NS}.600000000 has 6 elements in position, expected 5 as in the messages '
        f'before',
    ),
    'too short': (
        lambda _: 2,
        SELECTED,
        f'{BEGIN // NS}.000000000 has 2 elements in position, expected more than 2; check',
    ),
}


@pytest.mark.parametrize('change', CHANGES)
def test_an_array_of_another_length(capsys, tmp_path, bags, change):
    length_of, part, words = CHANGES[change]
    bad = robot_of(state=lengths(length_of)).write(bags / 'b')
    if length_of(0) == length_of(49):
        line = refused(capsys, tmp_path, bags, bad, profile_of(part))
    else:
        # Only reading every message tells; the line comes when the bag's turn has come.
        code, lines, _ = command(
            capsys,
            'convert',
            bags,
            '--output',
            tmp_path / 'out',
            *arguments(tmp_path, profile_of(part)),
        )
        (line,) = (line for line in lines if 'failed' in line)
        assert code == 1
        assert [bag['status'] for bag in report(tmp_path / 'out')['bags']] == [
            'converted',
            'failed',
        ]
        assert sorted(path.name for path in tmp_path.iterdir()) == ['bags', 'out', 'robot.yaml']
    assert f'failed: {STATE}: the message received at {words}' in line
    assert 'check the robot or the profile' in line
    assert line.endswith(' (observation.state)')


def test_a_first_message_that_no_frame_needs_refuses_no_bag(tmp_path):
    robot = robot_of(state=lengths(lambda number: 3 if number else 0))
    profile = profile_of(clock={'from': {'topic': CAMERA}, 'fps': 15, 'drop': 1})
    bag = robot.write(tmp_path / 'bag')
    name = arguments(tmp_path, profile)[1].partition('=')[2]
    assert run(bag, tmp_path / 'out', profile=name).exit_code == 0


@pytest.mark.parametrize(
    ('topic', 'user'),
    [
        (STATE, 'observation.state needs it'),
        (COMMAND, 'action needs it'),
        (CAMERA, 'the frame clock needs it'),
    ],
)
@pytest.mark.parametrize('declared', [True, False])
def test_a_used_topic_that_is_empty_or_missing(
    capsys, tmp_path, bags, good, topic, user, declared
):
    bad = bags / 'b.mcap'
    if declared:
        rewritten(good, bad, without=(topic,))
    else:
        robot = robot_of()
        robot.topics[f'{topic}s'] = robot.topics.pop(topic)
        rewritten(robot.write(tmp_path / 'source'), bad)
        shutil.rmtree(tmp_path / 'source')
    line = refused(capsys, tmp_path, bags, bad)
    if declared:
        assert f'failed: {topic}: the topic has no messages; {user}; the command inspect' in line
    else:
        assert f'failed: no topic {topic} in the bag; {user}; did you mean' in line
        assert line.endswith('the command inspect tells what fits the bag')
    code, bag = inspected(capsys, tmp_path, bad)
    assert code == 1
    assert {miss['kind'] for miss in bag['asked']['misses']} == {'empty' if declared else 'topic'}


def test_a_topic_without_header_stamps_where_they_are_needed(capsys, tmp_path, bags):
    robot = robot_of()
    del robot.topics[STATE]
    robot.publish(STATE, every(50, SECONDS), said([1.0] * 50, 'Float64'))
    robot.write(bags / 'b')
    state = {
        'from': {'topic': STATE, 'field': 'data'}, 'names': ['a'], 'align': {'timeline': 'header'},
    }  # fmt: skip
    profile = profile_of(state)
    code, lines, _ = command(
        capsys, 'convert', bags, '--output', tmp_path / 'out', *arguments(tmp_path, profile)
    )
    assert code == 1
    # The other bag does not fit the profile either.
    lines = [line for line in lines if 'failed' in line]
    assert len(lines) == 2
    assert 'std_msgs/msg/Float64 (cdr) does not begin with a std_msgs/Header' in lines[1]
    assert not (tmp_path / 'out').exists()


# --- bags without messages


def empty_rosbag1(path, *, declared):
    writer = Rosbag1Writer(path)
    with writer:
        if declared:
            text = 'string data\n'
            writer.add_connection('/a', 'std_msgs/msg/String', msgdef=text, md5sum='0' * 32)
    return path


def empty_mcap(path):
    with path.open('wb') as stream:
        writer = McapWriter(stream)
        writer.start('ros2')
        writer.finish()
    return path


def empty_sqlite3(path):
    base = sqlite3.connect(path)
    base.execute('CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, '
                 'type TEXT NOT NULL, serialization_format TEXT NOT NULL)')  # fmt: skip
    base.execute('CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, '
                 'timestamp INTEGER NOT NULL, data BLOB NOT NULL)')  # fmt: skip
    base.commit()
    base.close()
    return path


@pytest.mark.parametrize('kind', ['rosbag1', 'rosbag1 topics', 'unindexed', 'mcap', 'sqlite3'])
@pytest.mark.parametrize('on_damage', ['fail', 'salvage'])
def test_a_bag_without_messages(capsys, tmp_path, bags, kind, on_damage):
    if kind == 'mcap':
        bad = empty_mcap(bags / 'b.mcap')
    elif kind == 'sqlite3':
        bad = empty_sqlite3(bags / 'b.db3')
    else:
        bad = empty_rosbag1(bags / 'b.bag', declared=kind != 'rosbag1')
    if kind == 'unindexed':
        data = bytearray(bad.read_bytes())
        place = data.index(b'index_pos=') + len(b'index_pos=')
        data[slice(place, place + 8)] = bytes(8)
        bad.write_bytes(data)
    code, lines, _ = command(
        capsys, 'convert', bags, '--output', tmp_path / 'out', *arguments(tmp_path),
        '--set', f'on_damage={on_damage}',
    )  # fmt: skip
    (line,) = (line for line in lines if 'failed' in line)
    assert code == 1
    assert line.endswith('failed: the bag has no messages; leave it out, or record it again')
    _, bag = inspected(capsys, tmp_path, bad)
    assert bag['health'] == ('noted' if kind == 'unindexed' else 'good')
    assert bag['remarks'][0] == 'the bag has no messages'


# --- previews and backups


def test_previews_and_backups_in_a_folder_are_left_out_and_named(capsys, tmp_path):
    bags = tmp_path / 'bags'
    bags.mkdir()
    beside = ['run_1.c.bag', 'run_1.orig.bag', 'run_2.c.bag']
    alone = ['gone.orig.bag', 'run_1.bag', 'run_2.bag.active', 'x.c.mcap']
    for name in beside + alone:
        (bags / name).write_bytes(b'?')
    listed = list_recordings([bags])
    assert [path.name for (path,) in listed.recordings] == alone
    assert [path.name for path in listed.left_out] == beside
    named = list_recordings([bags, bags / 'run_1.c.bag'])
    assert [path.name for (path,) in named.recordings] == [*alone, 'run_1.c.bag']
    assert [path.name for path in named.left_out] == beside[1:]
    for words in (['convert', '--output', tmp_path / 'out'], ['inspect']):
        code, lines, _ = command(capsys, *words, bags)
        assert code == 1
        assert lines[0] == (
            'left out 3 files, previews or backups of the bags beside them: run_1.c.bag, '
            'run_1.orig.bag, run_2.c.bag; to convert one, give its own path'
        )
    # A preview between the parts of a recording does not part them.
    parts = tmp_path / 'parts'
    parts.mkdir()
    write_sample(parts / 'r_0.bag', storage='bag', seconds=1.0, size=(60, 80), depth=False)
    shutil.copy(parts / 'r_0.bag', parts / 'r_0.c.bag')
    assert list_recordings([parts]).recordings == [(parts / 'r_0.bag',)]


# --- a run of many bags


class Watching(Observer):
    """Notes in which order things are said."""

    def __init__(self):
        self.said = []

    def checking(self, total):
        self.said.append(f'checking {total}')

    def bag_refused(self, number, total, outcome):
        self.said.append(f'refused {number}')

    def bag_started(self, number, total, bag):
        self.said.append(f'started {number}')

    def bag_finished(self, number, outcome, plan):
        self.said.append(outcome.status)


def watched(tmp_path, bags, output, cancel_at=None, **values):
    """Convert; what is said in order, and the outcomes, None where the run was cancelled."""
    watching, cancel = Watching(), threading.Event()

    class Cancelling(Watching):
        """Cancels the run."""

        def __getattribute__(self, name):
            if name == cancel_at:
                cancel.set()
            return object.__getattribute__(watching, name)

    given = {'profile': arguments(tmp_path)[1].partition('=')[2], 'crf': 40, **values}
    given |= {'bags': [str(bag) for bag in bags], 'output': str(output)}
    try:
        outcome = convert_bags(settings_from(given, 'test'), observer=Cancelling(), cancel=cancel)
    except Cancelled:
        return watching.said, None
    return watching.said, [item.status for item in outcome.outcomes]


@pytest.fixture
def many(bags):
    """Three good bags, and one that is none between them."""
    for name in 'cd':
        robot_of(seconds=SECONDS + 0.1 * ord(name) % 7).write(bags / name)
    (bags / 'b.bag').write_bytes(POINTER)
    return sorted(bags.iterdir())


def test_all_bags_are_checked_before_the_first_is_converted(tmp_path, many):
    said, status = watched(tmp_path, many, tmp_path / 'out')
    assert said[:3] == ['checking 4', 'refused 2', 'started 1']
    assert said[3:] == ['converted', 'started 3', 'converted', 'started 4', 'converted']
    assert status == ['converted', 'failed', 'converted', 'converted']
    said, _ = watched(tmp_path, many[:1], tmp_path / 'one')
    assert said == ['started 1', 'converted'], 'one bag is opened once'


def test_on_error_stop_converts_nothing_if_a_bag_is_refused(tmp_path, many):
    said, status = watched(tmp_path, many, tmp_path / 'out', on_error='stop')
    assert said[:2] == ['checking 4', 'refused 2']
    assert status == ['skipped', 'failed', 'skipped', 'skipped']
    assert sorted(path.name for path in tmp_path.iterdir()) == ['bags', 'robot.yaml']


def test_a_run_may_be_cancelled_while_bags_are_checked(tmp_path, many):
    said, status = watched(tmp_path, many, tmp_path / 'out', cancel_at='checking')
    assert (said, status) == (['checking 4'], None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['bags', 'robot.yaml']


def test_a_run_that_goes_on_an_append_and_a_retry_show_refused_bags(tmp_path, many):
    output = tmp_path / 'out'
    _, status = watched(tmp_path, many[:3], output, cancel_at='bag_finished')
    assert status is None
    said, status = watched(tmp_path, many[:3], output)
    assert said[:2] == ['checking 3', 'refused 2']
    assert status == ['kept', 'failed', 'converted']

    (many[1].with_name('e.mcap')).write_bytes(b'')
    said, status = watched(tmp_path, [*many, many[1].with_name('e.mcap')], output, append=True)
    assert said[:3] == ['checking 5', 'refused 2', 'refused 5']
    assert status == ['present', 'failed', 'present', 'converted', 'failed']
    listed = {Path(bag['bag']).name: bag['reason'] for bag in report(output)['bags']}
    assert 'is a Git LFS pointer' in listed['b.bag']
    assert 'is empty (0 bytes)' in listed['e.mcap']

    other = robot_of(seconds=SECONDS + 0.5).write(tmp_path / 'other')
    shutil.move(next(other.glob('*.mcap')), many[1])
    outcome = convert_bags(settings_from({'output': str(output), 'retry_failed': True}, 'test'))
    assert [item.status for item in outcome.outcomes] == ['converted', 'failed']
    bags = report(output)['bags']
    assert [bag['status'] for bag in bags] == ['converted'] * 4 + ['failed']


def test_what_is_in_the_dataset_already_is_not_refused(tmp_path, many):
    """It was converted with definitions that are gone, or on another machine."""
    output = tmp_path / 'out'
    watched(tmp_path, [many[0]], output)
    # Opening it fails now, its content is the same.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preflight, 'open_quickly', lambda *_: opened.append(1) or refuse())
        opened = []

        def refuse():
            raise BagError('cannot be opened')

        _, status = watched(tmp_path, [many[0], many[2]], output, append=True)
    assert opened
    assert status == ['present', 'failed']


def test_a_damaged_bag_is_refused_at_once_or_salvaged(tmp_path, bags):
    write_sample(bags / 'b.bag', storage='bag', seconds=1.5, size=(60, 80), depth=False)
    (bags / 'c.bag').write_bytes(POINTER)
    data = (bags / 'b.bag').read_bytes()
    (bags / 'b.bag').write_bytes(data[: len(data) * 3 // 4])
    kuavo = {'profile': 'kuavo', 'use_depth': False, 'sample_drop': 0, 'eef_type': 'leju_claw'}
    given = [bags / 'b.bag', bags / 'c.bag']
    said, status = watched(tmp_path, given, tmp_path / 'out', **kuavo)
    assert (said, status) == (['checking 2', 'refused 1', 'refused 2'], ['failed', 'failed'])
    said, status = watched(tmp_path, given, tmp_path / 'out', on_damage='salvage', **kuavo)
    assert said[:3] == ['checking 2', 'refused 2', 'started 1']
    assert status == ['converted', 'failed']


def test_a_bag_that_is_refused_does_not_settle_the_end_effector(tmp_path):
    sizes = {'seconds': 1.0, 'size': (60, 80), 'depth': False}
    write_sample(tmp_path / 'a.bag', storage='bag', eef_type='rq2f85', **sizes)
    copied(tmp_path / 'a.bag', tmp_path / 'b.bag', keep=lambda topic, _: 'cam_l' not in topic)
    write_sample(tmp_path / 'c.bag', storage='bag', eef_type='leju_claw', **sizes)
    given = {'eef_type': 'auto', 'use_depth': False, 'sample_drop': 0}
    outcome = run([tmp_path / 'b.bag', tmp_path / 'c.bag'], tmp_path / 'out', **given)
    assert [item.status for item in outcome.outcomes] == ['failed', 'converted']


@pytest.mark.parametrize('kind', ['indexed', 'unindexed', 'salvage'])
def test_checking_a_bag_reads_little_of_it(tmp_path, monkeypatch, kind):
    bag = tmp_path / 'a.bag'
    write_sample(bag, storage='bag', seconds=6.0, size=(240, 320), depth=False)
    if kind == 'unindexed':
        unindexed(bag)
    settings = settings_from({'use_depth': False, 'eef_type': 'leju_claw'}, 'test')
    read, real = [], os.pread

    def pread(*arguments):
        read.append(real(*arguments))
        return read[-1]

    monkeypatch.setattr(os, 'pread', pread)
    profile = preflight.try_bag(
        [bag], lambda reader: resolve(settings, reader.counts), shard_options(settings),
        reader='auto', on_damage='salvage' if kind == 'salvage' else 'fail',
    )  # fmt: skip
    assert (profile is None) == (kind == 'unindexed')
    assert sum(map(len, read)) < bag.stat().st_size / 10
