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

"""Rules about recordings of every kind, from the file to what the commands say."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from itertools import pairwise
import json
import os
import re
import shlex
import shutil
import signal
import tempfile

from bag_edits import copied
from bag_files import BEGIN, metadata_yaml, recording, write_rosbag2
from conversions import report, rows, run
from hypothesis import given
from hypothesis import strategies as st
from kuavo_bag_converter.alignment.report import PlanReport
from kuavo_bag_converter.bags.open import open_bag
from kuavo_bag_converter.bags.rosbag2.qos import MOST_CHARACTERS
from kuavo_bag_converter.bags.scratch import RESERVE, Scratch
from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.jobs.display import Display, print_report
from kuavo_bag_converter.jobs.report import Outcome, Report
from kuavo_bag_converter.jobs.topic_alignment import AlignmentSummary
from kuavo_bag_converter.sample.write import write_sample
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.texts import LINE, one_line, shown
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from plain_robot import at, every, joint_state, jpeg, NS, ramps, Robot, said
from plain_robot import BEGIN as BEGIN_OF_ROBOT
import pytest
from ros_messages import ROS1, ROS2
from rosbags.rosbag1 import Writer as Rosbag1Writer
import zstandard

PROFILE = """
robot_type: made_up
fps: 10
task: Move
clock: {from: {topic: /head/compressed}, fps: 10}
features:
  observation.state:
    parts: [{from: {topic: /joints, field: position}, names: [a, b]}]
  observation.images.head:
    camera: {from: {topic: /head/compressed}}
"""
JOINTS, HEAD = '/joints', '/head/compressed'


@pytest.fixture(scope='module')
def robot():
    """Two joints and a camera, for two seconds."""
    made = Robot().publish(JOINTS, every(20, 2.0), joint_state(ramps(2)))
    return made.publish(HEAD, every(10, 2.0), jpeg('head_cam_h'))


@pytest.fixture(scope='module')
def profile(tmp_path_factory):
    path = tmp_path_factory.mktemp('profile') / 'robot.yaml'
    path.write_text(PROFILE)
    return str(path)


def printed(capsys, *words):
    """Run a command; return its exit code and all lines that it prints."""
    capsys.readouterr()
    code = cli.run([*map(str, words)])
    done = capsys.readouterr()
    return code, (done.out + done.err).splitlines()


# --- bytes behind the end of messages


@pytest.mark.parametrize('surplus', [bytes(8), b'\xff' * 8])
@pytest.mark.parametrize('method', ['chunked', 'whole_bag'])
def test_messages_longer_than_they_are_give_the_same_rows(
    robot, profile, tmp_path, surplus, method
):
    bag = robot.write(tmp_path / 'longer', surplus)
    outcome = run(bag, tmp_path / 'out', profile=profile, method=method).outcomes[0]
    assert run(robot.write(tmp_path / 'plain'), tmp_path / 'other', profile=profile).frames
    mine, other = rows(tmp_path / 'out'), rows(tmp_path / 'other')
    assert (mine['observation.state'] == other['observation.state']).all()
    assert len(outcome.problems) == 2
    joints = next(line for line in outcome.problems if line.startswith(JOINTS))
    assert joints.endswith(' messages have 8 bytes behind the end, which are ignored')
    assert report(tmp_path / 'out')['bags'][0]['problems'] == list(outcome.problems)
    assert report(tmp_path / 'other')['bags'][0]['problems'] == []


def test_messages_longer_than_they_are_are_counted_where_the_user_looks(
    robot, profile, tmp_path, capsys
):
    bag = robot.write(tmp_path / 'longer', bytes(8))
    code, lines = printed(
        capsys, 'convert', bag, '--output', tmp_path / 'out', '--set', f'profile={profile}'
    )
    assert code == 0
    tracks = report(tmp_path / 'out')['bags'][0]['plan']['tracks']
    for track in tracks:
        text = f'{track["used"]} messages have 8 bytes behind the end, which are ignored'
        assert lines.count(f'    {track["topic"]}: {text}') == 1
    code, lines = printed(capsys, 'inspect', bag)
    assert code == 0
    assert f'  {JOINTS}: its first message has 8 bytes behind the end; a conversion ignores and ' \
        'counts them' in lines  # fmt: skip


# --- texts that come from a bag

BOMB = """
a: &a ["lol","lol","lol","lol","lol","lol","lol","lol","lol"]
""" + ''.join(
    f'{name}: &{name} [{",".join(["*" + before] * 9)}]\n'
    for before, name in pairwise('abcdefghi')
)  # fmt: skip


def edited_metadata(bag, old, new):
    path = bag / 'metadata.yaml'
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return bag


@pytest.mark.parametrize('place', ['version: 9', 'offered_qos_profiles: []'])
def test_a_metadata_file_that_unfolds_is_refused_in_a_short_line(
    robot, profile, tmp_path, capsys, place
):
    bag = robot.write(tmp_path / 'bomb')
    path = bag / 'metadata.yaml'
    key = place.partition(':')[0]
    path.write_text(BOMB + path.read_text().replace(place, f'{key}: *i', 1))
    for words in (
        ('convert', bag, '--output', tmp_path / 'out', '--set', f'profile={profile}'),
        ('inspect', bag),
    ):
        code, lines = printed(capsys, *words)
        assert code == 1
        assert any('has the anchor &a, which no recorder writes' in line for line in lines)
        assert max(map(len, lines)) < 500
    salvaged = run(bag, tmp_path / 'out', profile=profile, on_damage='salvage')
    assert salvaged.frames


def test_a_metadata_file_that_is_too_long_is_not_read(robot, profile, tmp_path):
    bag = robot.write(tmp_path / 'long')
    with (bag / 'metadata.yaml').open('a') as file:
        file.write('# ' + 'x' * MOST_CHARACTERS)
    (outcome,) = run(bag, tmp_path / 'out', profile=profile).outcomes
    assert f'metadata.yaml: has more than {MOST_CHARACTERS} bytes' in outcome.reason


def test_a_metadata_file_that_is_too_deep_is_refused(robot, profile, tmp_path):
    deep = '[' * 300 + ']' * 300
    bag = edited_metadata(robot.write(tmp_path / 'deep'), 'version: 9', f'version: {deep}')
    (outcome,) = run(bag, tmp_path / 'out', profile=profile).outcomes
    assert 'metadata.yaml: is nested more than 20 deep' in outcome.reason


@pytest.mark.parametrize(
    ('old', 'new', 'line'),
    [
        ('version: 9', 'version: [1]', 'version: expected a whole number, found a list'),
        ('version: 9', 'version: 9.5', "version: expected a whole number, found '9.5'"),
        ('version: 9', 'version: 1' + '0' * 5000, "found '1000"),
        ('storage_identifier: mcap', 'storage_identifier: {a: b}',
         'storage_identifier: expected a text, found keys and values'),
        ('relative_file_paths:', 'relative_file_paths: 7\n  more:',
         "relative_file_paths: expected a list, found '7'"),
        ('relative_file_paths:\n', 'relative_file_paths:\n  - [a]\n',
         'relative_file_paths[0]: expected a text, found a list'),
        ('message_count: 40', 'message_count: many',
         "[0].message_count: expected a whole number, found 'many'"),
        ('topic_metadata:', 'topic_metadata: here\n    more:',
         "[0].topic_metadata: expected keys and values, found 'here'"),
        ('    name: /joints', '    named: /joints', 'has no '),
    ],
)  # fmt: skip
def test_what_a_metadata_file_holds_at_each_place_is_checked(
    robot, profile, tmp_path, old, new, line
):
    bag = edited_metadata(robot.write(tmp_path / 'bag'), old, new)
    (outcome,) = run(bag, tmp_path / 'out', profile=profile).outcomes
    assert 'metadata.yaml: ' in outcome.reason
    assert line in outcome.reason
    assert len(outcome.reason) < 500


def foreign_mcap(path, topics):
    """Write an MCAP file with one empty message for each (topic, type, encoding, metadata)."""
    with path.open('wb') as stream:
        writer = McapWriter(stream)
        writer.start('ros2')
        for number, (topic, kind, encoding, metadata) in enumerate(topics):
            schema = writer.register_schema(kind, 'ros2msg', b'int8 a')
            channel = writer.register_channel(topic, encoding, schema, metadata)
            writer.add_message(channel, BEGIN + number, b'\0\1\0\0\1', BEGIN + number)
        writer.finish()
    return path


EVIL = '/\x1b[2J\x1b]0;owned\x07\n\u202e\x9b'


def test_nothing_that_a_bag_says_acts_on_the_terminal(profile, tmp_path, capsys):
    long = '/' + 'x' * 100_000
    bag = foreign_mcap(
        tmp_path / 'evil.mcap',
        [
            (EVIL, 'std_msgs/msg/Int8', 'cdr', {}),
            (long, f'std_msgs/msg/{"Y" * 100_000}', 'cdr', {}),
            ('/odd', EVIL, EVIL * 1000, {}),
        ],
    )
    for words in (
        ('inspect', bag),
        ('convert', bag, '--output', tmp_path / 'out', '--set', f'profile={profile}'),
    ):
        _, lines = printed(capsys, *words)
        assert all(char.isprintable() for line in lines for char in line)
        assert max(map(len, lines)) < 4200
    _, lines = printed(capsys, 'inspect', bag)
    assert any('(100001 characters)' in line for line in lines)
    assert any(r'/\x1b[2J\x1b]0;owned\x07\n' in line for line in lines)


def test_qos_profiles_in_a_file_that_unfold_are_other_profiles(robot, tmp_path):
    """They are compared with those that metadata.yaml lists."""
    bag = tmp_path / 'bag'
    bag.mkdir()
    bomb = f'{BOMB}history: *i'
    foreign_mcap(bag / 'bag_0.mcap', [('/a', 'std_msgs/msg/Int8', 'cdr',
                                       {'offered_qos_profiles': bomb})])  # fmt: skip
    text = metadata_yaml(9, {('/a', 'std_msgs/msg/Int8'): 1}, {'bag_0.mcap': 1}, 'mcap')
    (bag / 'metadata.yaml').write_text(text)
    with open_bag(bag) as reader:
        assert reader.problems == [
            f'{bag}/metadata.yaml: /a: other QoS profiles are listed than stored'
        ]


@pytest.mark.parametrize(
    ('text', 'line'),
    [
        ('plain', 'plain'),
        ('two\nlines\t', r'two\nlines\t'),
        ('\u6d4b\u8bd5\u3000\xa0', '\u6d4b\u8bd5\u3000\xa0'),
        ('\ud800\x7f\x85\u2028', r'\ud800\x7f\x85\u2028'),
        ('x' * 120, 'x' * 120),
        ('x' * 121, 'x' * 120 + '... (121 characters)'),
    ],
)
def test_a_text_is_shown_in_one_line(text, line):
    assert shown(text) == line
    assert one_line(shown(text)) == line


@given(st.text(st.characters(), max_size=300), st.integers(0, 100))
def test_any_text_becomes_a_printable_line_of_bounded_length(text, times):
    for made in (one_line(text * times), shown(text * times), str(BagError(text * times))):
        assert len(made) < 12 * 5000
        assert all(char.isprintable() or char.isspace() for char in made)
        assert len(made.splitlines()) <= 1
        assert one_line(made[:LINE]) == made[:LINE]


def test_the_end_of_a_long_error_is_kept():
    error = str(BagError(f'{"a" * 9000}; set on_damage: salvage'))
    assert len(error) < 4100
    assert error.endswith('; set on_damage: salvage')


# --- room for temporary copies

MB = 1_000_000


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Return the temporary folder, on a disk whose free bytes the test sets."""
    folder = tmp_path / 'scratch'
    folder.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(folder))

    def set_free(free):
        def usage(_):
            used = sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
            return shutil._ntuple_diskusage(free, used, free - used)

        monkeypatch.setattr(shutil, 'disk_usage', usage)

    return folder, set_free


def packed_file(path, sizes, *, known=True):
    """Write zstd frames of zeros of so many bytes behind the begin of an MCAP file."""
    begin = b'\x89MCAP0\r\n'
    with path.open('wb') as file:
        for number, size in enumerate(sizes):
            packer = zstandard.ZstdCompressor(write_content_size=known)
            stream = packer.compressobj(size=size) if known else packer.compressobj()
            file.write(stream.compress(begin if not number else bytes(len(begin))))
            for done in range(len(begin), size, MB):
                file.write(stream.compress(bytes(min(MB, size - done))))
            file.write(stream.flush())
    return path


def no_room(line, folder):
    return f'{folder} (TMPDIR), which needs' in line and 'point TMPDIR to another folder' in line


def test_a_packed_file_that_says_its_size_is_not_unpacked_without_room(
    tmp_path, scratch, capsys, profile
):
    folder, set_free = scratch
    bag = packed_file(tmp_path / 'big.mcap.zstd', [50 * MB])
    set_free(RESERVE + 49 * MB)
    code, lines = printed(capsys, 'inspect', bag)
    assert code == 1
    (line,) = {line.strip() for line in lines if no_room(line, folder)}
    assert line.startswith(f'{bag}: ')
    assert 'needs 50 MB more and a reserve of 67 MB; 116 MB are free' in line
    words = 'convert', bag, bag, '--output', tmp_path / 'out', '--set', f'profile={profile}'
    code, lines = printed(capsys, *words)
    assert code == 1
    assert any(no_room(line, folder) for line in lines)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize('sizes', [[500 * MB], [9, 500 * MB]])
def test_a_packed_file_that_hides_its_size_is_stopped_on_its_way(
    tmp_path, scratch, sizes, monkeypatch
):
    folder, set_free = scratch
    bag = packed_file(tmp_path / 'big.mcap.zstd', sizes, known=False)
    set_free(RESERVE + 70 * MB)
    with pytest.raises(BagError, match='needs more than is known, beside a reserve') as error:
        open_bag(bag, on_damage='salvage')
    assert no_room(str(error.value), folder)
    assert list(folder.iterdir()) == []


def test_files_that_find_no_room_are_not_left_out(tmp_path, scratch):
    """Salvaging goes on without a damaged file; this one is not damaged."""
    folder, set_free = scratch
    bag = tmp_path / 'run'
    bag.mkdir()
    for number in range(2):
        packed_file(bag / f'run_{number}.mcap.zstd', [30 * MB], known=number == 0)
    set_free(RESERVE + 20 * MB)
    for on_damage in ('fail', 'salvage'):
        with pytest.raises(BagError) as error:
            open_bag(bag, on_damage=on_damage)
        assert no_room(str(error.value), folder)
    assert list(folder.iterdir()) == []


def test_an_sqlite_file_with_its_log_is_not_copied_without_room(tmp_path, scratch):
    folder, set_free = scratch
    path = write_rosbag2(tmp_path / 'r', recording(), 'SQLITE3') / 'r.db3'
    path.with_name('r.db3-wal').write_bytes(b'log')
    set_free(RESERVE + 100)
    with pytest.raises(BagError) as error:
        open_bag(path)
    assert no_room(str(error.value), folder)
    assert list(folder.iterdir()) == []
    set_free(RESERVE + 10 * MB)
    with open_bag(path) as reader:
        assert sum(reader.counts.values()) == len(recording())


def test_a_temporary_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'none'))
    bag = packed_file(tmp_path / 'a.mcap.zstd', [MB])
    code, lines = printed(capsys, 'inspect', bag)
    assert code == 1
    assert any('no temporary folder can be made (No such file' in line for line in lines)


@pytest.mark.parametrize('command', ['inspect', 'verify'])
def test_a_signal_to_end_leaves_no_copy(tmp_path, scratch, monkeypatch, command, robot, profile):
    folder, _ = scratch
    (file,) = robot.write(tmp_path / 'bag').glob('*.mcap')
    bag = tmp_path / 'a.mcap.zstd'
    bag.write_bytes(zstandard.compress(file.read_bytes()))
    words = [command, str(bag)]
    if command == 'verify':
        assert run(bag, tmp_path / 'out', profile=profile).frames
        words = [command, str(tmp_path / 'out'), '--bags', str(bag)]
    seen = []

    def signalled(self, *_):
        seen.append(self.folder().exists())
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Scratch, 'check_room', signalled)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        cli.run(words)
    assert end.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
    assert seen == [True]
    assert list(folder.iterdir()) == []


# --- the annotation beside a bag


def annotated(tmp_path, robot, name, annotations, pattern='{bag}.json'):
    """Convert a recording of that name; return the outcome."""
    (file,) = robot.write(tmp_path / 'recorded').glob('*.mcap')
    folder = tmp_path / 'bags'
    (folder / 'labels').mkdir(parents=True)
    data = file.read_bytes()
    bag = folder / name
    if name.endswith('/'):
        shutil.move(tmp_path / 'recorded', bag)
    else:
        bag.write_bytes(zstandard.compress(data) if name.endswith(('.zstd', '.zst')) else data)
    marks = {'marks': [{'startPosition': 0.25, 'endPosition': 0.75}]}
    for path in annotations:
        (folder / path).write_text(json.dumps(marks))
    profile = tmp_path / 'marks.yaml'
    profile.write_text(f'{PROFILE}episodes: {{marks_file: "{pattern}"}}\n')
    return run(bag, tmp_path / 'out', profile=str(profile)).outcomes[0]


@pytest.mark.parametrize(
    ('name', 'annotation'),
    [
        ('run_0.mcap', 'run_0.json'),
        ('run_0.mcap', 'run_0.mcap.json'),
        ('run_0.mcap.zstd', 'run_0.json'),
        ('run_0.mcap.zstd', 'run_0.mcap.json'),
        ('run_0.mcap.zst', 'run_0.mcap.zst.json'),
        ('run.v2.mcap', 'run.v2.json'),
        ('run.bag.active', 'run.json'),
        ('run.bag.active', 'run.bag.json'),
        ('run', 'run.json'),
        ('run.d/', 'run.d.json'),
    ],
)
def test_the_annotation_of_a_bag_is_found_by_its_name(tmp_path, robot, name, annotation):
    outcome = annotated(tmp_path, robot, name, [annotation, 'other.json'])
    assert outcome.status == 'converted', outcome.reason
    assert report(tmp_path / 'out')['bags'][0]['plan']['cut']['rule'] == 'marks_file'
    assert 8 <= outcome.frames <= 11


def test_two_annotations_of_a_bag_are_one_too_many(tmp_path, robot):
    outcome = annotated(tmp_path, robot, 'run_0.mcap.zstd', ['run_0.json', 'run_0.mcap.json'])
    assert outcome.reason == (
        f'{tmp_path}/bags/run_0.json and {tmp_path}/bags/run_0.mcap.json: both may hold the marks '
        'of run_0.mcap.zstd; keep one of them'
    )


def test_an_annotation_that_is_missing_is_named_with_its_other_names(tmp_path, robot):
    outcome = annotated(tmp_path, robot, 'run_0.mcap.zstd', [], 'labels/{bag}.json')
    assert outcome.reason == (
        f'{tmp_path}/bags/labels/run_0.json: cannot read the marks of the bag: there is no such '
        'file, nor run_0.mcap.json, run_0.mcap.zstd.json'
    )


def test_one_annotation_for_all_bags_is_one(tmp_path, robot):
    outcome = annotated(tmp_path, robot, 'run_0.mcap.zstd', ['all.json'], 'all.json')
    assert outcome.status == 'converted'


# --- what is counted is said

UNSAID = {
    'fps', 'frames_done', 'candidate_frames', 'skipped', 'beyond_full_frame',
}  # fmt: skip
"""Follows from what is said."""


def numbered(value, numbers, key=''):
    """Copy a plan with another number for every count in it."""
    if isinstance(value, dict):
        return {name: numbered(item, numbers, name) for name, item in value.items()}
    if isinstance(value, list):
        return [numbered(item, numbers, key) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and key not in UNSAID:
        number = 7001 + len(numbers)
        numbers.append((key, number))
        return number
    return value


@pytest.mark.parametrize('on_gap', ['hold', 'keep', 'mark'])
def test_every_count_of_a_plan_is_printed(robot, tmp_path, on_gap):
    robot = Robot().publish(JOINTS, every(20, 2.0), joint_state(ramps(2)))
    robot.publish(HEAD, every(10, 2.0), jpeg('head_cam_h'))
    robot.publish('/events', at(0.3, 0.5, 1.0), said(['start', 'stop', 'start']))
    profile = tmp_path / 'robot.yaml'
    align = f'align: {{tolerance_ms: 100, on_gap: {on_gap}}}'
    events = 'events: {from: {topic: /events, field: data}, start: [start], stop: [stop]}'
    profile.write_text(
        PROFILE.replace('names: [a, b]', f'names: [a, b], {align}') + f'episodes: {{{events}}}\n'
    )
    (outcome,) = run(
        robot.write(tmp_path / 'bag'), tmp_path / 'out', profile=str(profile)
    ).outcomes
    document = report(tmp_path / 'out')['bags'][0]['plan']
    document.pop('format', None)
    document['cut'].pop('messages')  # they are not all counted, and nothing became of them
    numbers: list[tuple[str, int]] = []
    plan = PlanReport.from_json(numbered({**document, 'bad_images': {HEAD: 1}}, numbers))
    outcome = replace(outcome, frames=plan.frames, episodes=plan.episodes)
    printed = StringIO()
    display = Display(printed)
    display.planned(1, plan)
    display.bag_finished(1, outcome, plan)
    summary = AlignmentSummary()
    summary.add(1, plan)
    done = Report(tmp_path, (outcome,), 1.0, 1.0, tuple(summary.topics()))
    print_report(done, printed)
    text = printed.getvalue()
    unsaid = {key for key, number in numbers if not re.search(rf'\b{number}\b', text)}
    assert unsaid <= ({'in_gap'} if on_gap == 'mark' else set()), text


def test_of_many_bags_those_are_listed_of_which_there_is_something_to_say(tmp_path):
    outcomes = [Outcome(f'{number}.bag', 'converted', episodes=1) for number in range(200)]
    outcomes[70] = Outcome('70.bag', 'failed', 'is empty')
    outcomes[90] = Outcome('90.bag', 'kept', episodes=1)

    def lines(some):
        printed = StringIO()
        print_report(Report(tmp_path, tuple(some), 1.0, 1.0, ()), printed)
        return printed.getvalue().splitlines()

    many = lines(outcomes)
    assert [line.split()[0] for line in many[1:4]] == ['70.bag', '90.bag', 'and']
    assert many[3].startswith('and 198 bags converted')
    assert sum('.bag' in line for line in lines(outcomes[60:100])) == 40


def test_bags_of_one_name_are_told_apart(tmp_path):
    bags = [str(tmp_path / name) for name in ('day_1/a.bag', 'day_2/a.bag', 'day_2/b.bag')]
    outcomes = [Outcome(bag, 'failed', 'is empty') for bag in bags]
    printed = StringIO()
    display = Display(printed)
    display.bags_found(bags)
    for number, outcome in enumerate(outcomes, start=1):
        display.bag_refused(number, 3, outcome)
    display.bag_started(3, 3, bags[2])
    print_report(Report(tmp_path, tuple(outcomes), 1.0, 1.0), printed)
    lines = printed.getvalue().splitlines()
    assert lines[:4] == [
        '[1/3] day_1/a.bag: failed: is empty',
        '[2/3] day_2/a.bag: failed: is empty',
        '[3/3] b.bag: failed: is empty',
        '[3/3] b.bag: reading timestamps',
    ]
    assert [line.split()[0] for line in lines[5:8]] == ['day_1/a.bag', 'day_2/a.bag', 'b.bag']


def test_counts_of_nothing_are_not_printed(robot, profile, tmp_path):
    (outcome,) = run(robot.write(tmp_path / 'bag'), tmp_path / 'out', profile=profile).outcomes
    plan = PlanReport.from_json(report(tmp_path / 'out')['bags'][0]['plan'])
    printed = StringIO()
    display = Display(printed)
    display.planned(1, plan)
    display.bag_finished(1, outcome, plan)
    assert len(printed.getvalue().splitlines()) == 2


# --- pictures that cannot be decoded


def stream_bag(path, skipped):
    """Write a bag whose H.265 camera begins so many pictures after a key frame."""
    write_sample(
        path.with_suffix('.whole.bag'), transport='h265', seconds=2.0, size=(60, 80), depth=False,
        extras=False,
    )  # fmt: skip
    return copied(
        path.with_suffix('.whole.bag'), path,
        keep=lambda topic, number: topic != STREAM or number >= skipped,
    )  # fmt: skip


STREAM = '/cam_h/color/h265_stream'
STREAM_PROFILE = PROFILE.replace(HEAD, STREAM).replace(
    'from: {topic: /joints, field: position}, names: [a, b]',
    'from: {topic: /kuavo_arm_traj, field: position}, select: [0:2], names: [a, b]',
).replace('fps: 10}', 'fps: 30, decimation: time, drop: 0}')  # fmt: skip


@pytest.mark.parametrize('method', ['chunked', 'whole_bag'])
def test_an_error_about_a_picture_names_its_stamp_and_what_helps(robot, profile, tmp_path, method):
    whole = robot.topics[HEAD]
    broken = Robot()
    broken.topics = {**robot.topics, HEAD: list(whole)}
    message = whole[4].message
    kind = type(message)
    broken.topics[HEAD][4] = whole[4]._replace(
        message=kind(message.header, message.format, message.data[:-200])
    )
    (outcome,) = run(
        broken.write(tmp_path / 'bag'), tmp_path / 'out', profile=profile, method=method
    ).outcomes
    stamp = whole[4].received
    assert outcome.reason.startswith(
        f'{HEAD}: the picture received at {stamp // NS}.{stamp % NS:09d} s, '
        f'{(stamp - BEGIN_OF_ROBOT) / NS:.3f} s after the bag begins: the JPEG is cut off'
    )
    assert outcome.reason.endswith(
        '; set on_bad_image to repeat, split or drop to convert the bag without it'
    )
    assert len(outcome.reason.splitlines()) == 1


@pytest.fixture(scope='module')
def streams(tmp_path_factory):
    folder = tmp_path_factory.mktemp('streams')
    profile = folder / 'stream.yaml'
    profile.write_text(STREAM_PROFILE)
    return stream_bag(folder / 'late.bag', 3), str(profile)


def test_inspect_says_what_a_stream_that_begins_late_costs(streams, capsys):
    bag, profile = streams
    code, lines = printed(capsys, 'inspect', bag, '--profile', profile)
    assert code == 1
    said = [line.strip() for line in lines if line.strip().startswith(f'{STREAM}: ')]
    begin = f'{STREAM}: the hevc stream begins before a key frame: its first '
    assert any(line.startswith(begin) for line in said)
    assert any('stops; set on_bad_image to split, drop or repeat (obs' in line for line in said)


@pytest.mark.parametrize('on_bad_image', ['split', 'drop', 'repeat'])
def test_inspect_and_convert_agree_about_a_stream_that_begins_late(
    streams, tmp_path, capsys, on_bad_image
):
    bag, profile = streams
    assert run(bag, tmp_path / 'fail', profile=profile).exit_code == 1
    capsys.readouterr()
    words = ['--profile', profile, '--set', f'on_bad_image={on_bad_image}']
    assert cli.run(['inspect', '--json', str(bag), *words]) == 0
    asked = json.loads(capsys.readouterr().out)['bags'][0]['asked']
    command = shlex.split(asked['command'])
    command[command.index('DIR')] = str(tmp_path / 'out')
    assert cli.run(command[3:]) == 0
    plan = report(tmp_path / 'out')['bags'][0]['plan']
    assert (plan['frames'], plan['episodes']) == (asked['frames'], asked['episodes'])
    assert plan['frames'] > 3


def test_the_command_that_inspect_advises_for_a_late_stream_converts_it(streams, tmp_path, capsys):
    bag, _ = streams
    capsys.readouterr()
    assert cli.run(['inspect', '--json', str(bag), '--set', 'sample_drop=0']) == 1  # as asked
    best = json.loads(capsys.readouterr().out)['bags'][0]['profiles'][0]
    assert best['fits']
    command = shlex.split(best['command'])
    assert 'on_bad_image=split' in command
    command[command.index('DIR')] = str(tmp_path / 'out')
    assert cli.run(command[3:]) == 0
    plan = report(tmp_path / 'out')['bags'][0]['plan']
    assert (plan['frames'], plan['episodes']) == (best['frames'], best['episodes'])


# --- damage of what is not converted

OTHER = '/other'


@pytest.fixture(scope='module')
def talking(robot):
    """Return the robot, and a topic that the profile does not use."""
    made = Robot()
    made.topics = dict(robot.topics)
    return made.publish(OTHER, every(5, 2.0), said([f'needle {n:04d}' for n in range(10)]))


def in_small_chunks(robot, path, **options):
    """Write the robot's messages to MCAP, each into a chunk of its own."""
    with path.open('wb') as stream:
        writer = McapWriter(stream, chunk_size=1, compression=CompressionType.NONE, **options)
        writer.start('ros2')
        channels = {}
        for topic, sent in robot.topics.items():
            kind = sent[0].message.__msgtype__
            text, _ = ROS2.generate_msgdef(kind, ros_version=2)
            schema = writer.register_schema(kind, 'ros2msg', text.encode())
            channels[topic] = writer.register_channel(topic, 'cdr', schema)
        everything = [
            (item.received, topic, item.message)
            for topic, sent in robot.topics.items()
            for item in sent
        ]
        for received, topic, message in sorted(everything, key=lambda item: item[:2]):
            payload = bytes(ROS2.serialize_cdr(message, message.__msgtype__))
            writer.add_message(channels[topic], received, payload, received)
        writer.finish()
    return path


def in_a_ros1_bag(robot, path):
    with Rosbag1Writer(path) as writer:
        connections = {}
        for topic, sent in robot.topics.items():
            kind = sent[0].message.__msgtype__
            text, digest = ROS1.generate_msgdef(kind, ros_version=1)
            connections[topic] = writer.add_connection(topic, kind, msgdef=text, md5sum=digest)
        for topic, sent in robot.topics.items():
            for item in sent:
                data = ROS2.serialize_cdr(item.message, item.message.__msgtype__)
                payload = ROS2.cdr_to_ros1(data, item.message.__msgtype__)
                writer.write(connections[topic], item.received, payload)
    return path


def flipped(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    return path


def damaged_aside(robot, folder, kind):
    """Write a recording that is damaged in messages of the topic that nothing needs."""
    if kind == 'mcap':
        path = in_small_chunks(robot, folder / 'a.mcap')
        return flipped(path, path.read_bytes().index(b'needle 0007'))
    if kind == 'rosbag1':
        path = in_a_ros1_bag(robot, folder / 'a.bag')
        data = path.read_bytes()
        return flipped(path, data.rindex(b'time=', 0, data.index(b'needle 0007')) + 5)
    (file,) = robot.write(folder / 'a').glob('*.mcap')
    bag = file.parent
    path = bag / 'metadata.yaml'
    text = path.read_text()
    at = text.rindex('message_count:', 0, text.index(f'name: {OTHER}'))
    text = text[:at] + text[at:].replace('message_count: 10', 'message_count: 12', 1)
    total = sum(map(len, robot.topics.values()))
    path.write_text(text.replace(f'message_count: {total}', f'message_count: {total + 2}'))
    return bag


@pytest.mark.parametrize('kind', ['mcap', 'rosbag1', 'metadata'])
def test_damage_of_what_is_not_converted_is_said_and_stops_nothing(
    talking, profile, tmp_path, capsys, kind
):
    bag = damaged_aside(talking, tmp_path, kind)
    code, lines = printed(
        capsys, 'convert', bag, '--output', tmp_path / 'out', '--set', f'profile={profile}'
    )
    assert code == 0, lines
    problems = report(tmp_path / 'out')['bags'][0]['problems']
    assert problems
    for line in problems:  # whose paths are relative there
        assert any(said.endswith(line.partition(': ')[2]) for said in lines)
    if kind != 'metadata':
        assert any(line.endswith('it lies in nothing that is converted') for line in problems)
    else:
        assert any('/other: 12 messages are promised, 10 are stored' in line for line in problems)
    code, lines = printed(capsys, 'inspect', bag)
    assert code == 1
    assert any('damaged; this is what on_damage: salvage reads' in line for line in lines)
    whole = run(in_small_chunks(talking, tmp_path / 'b.mcap'), tmp_path / 'whole', profile=profile)
    assert whole.frames == report(tmp_path / 'out')['bags'][0]['frames']
    assert whole.outcomes[0].problems == ()


@pytest.mark.parametrize('kind', ['mcap', 'rosbag1', 'metadata'])
def test_the_same_damage_of_what_is_converted_stops_the_bag(talking, tmp_path, kind):
    profile = tmp_path / 'task.yaml'
    profile.write_text(
        PROFILE.replace(
            'task: Move', f'task: {{default: Move, from: {{topic: {OTHER}, field: data}}}}'
        )
    )
    (outcome,) = run(
        damaged_aside(talking, tmp_path, kind), tmp_path / 'out', profile=str(profile)
    ).outcomes
    assert outcome.status == 'failed'
    assert outcome.reason.endswith('; set on_damage: salvage to keep what can be read')


def test_messages_that_are_missing_from_no_topic_in_particular_stop_the_bag(
    talking, profile, tmp_path
):
    bag = talking.write(tmp_path / 'a')
    total = sum(map(len, talking.topics.values()))
    path = bag / 'metadata.yaml'
    path.write_text(
        path.read_text().replace(f'message_count: {total}', f'message_count: {total + 1}')
    )
    (outcome,) = run(bag, tmp_path / 'out', profile=profile).outcomes
    assert f'{total + 1} messages are promised, {total} are stored' in outcome.reason


@pytest.mark.parametrize('loses', [False, True])
def test_what_was_salvaged_is_printed(talking, profile, tmp_path, capsys, loses):
    path = in_small_chunks(talking, tmp_path / 'a.mcap')
    data = path.read_bytes()
    # A payload, or the summary whose checksum it then fails.
    flipped(path, data.index(b'needle 0007') if loses else len(data) - 60)
    code, lines = printed(
        capsys, 'convert', path, '--output', tmp_path / 'out', '--set', f'profile={profile}',
        '--set', 'on_damage=salvage',
    )  # fmt: skip
    assert code == 0
    text = '\n'.join(lines)
    total = sum(map(len, talking.topics.values()))
    assert f'{path}: salvaged {total - loses} messages from 1700000000.' in text
    if loses:
        assert (
            f'1 of the {total} messages that the file says it holds are lost: 1 of {OTHER}' in text
        )


# --- what contradicts itself, and what is not there


@pytest.mark.parametrize('payload', ['cdr', 'ros1'])
@pytest.mark.parametrize('channel', ['cdr', 'ros1'])
def test_messages_are_read_as_what_they_are(robot, profile, tmp_path, capsys, channel, payload):
    schema = 'ros1msg' if channel == 'cdr' else 'ros2msg'
    store, version = (ROS1, 1) if payload == 'ros1' else (ROS2, 2)
    path = tmp_path / 'odd.mcap'
    with path.open('wb') as stream:
        writer = McapWriter(stream)
        writer.start()
        for topic, sent in robot.topics.items():
            kind = sent[0].message.__msgtype__
            text, _ = store.generate_msgdef(kind, ros_version=version)
            number = writer.register_schema(kind, schema, text.encode())
            number = writer.register_channel(topic, channel, number)
            for item in sent:
                data = ROS2.serialize_cdr(item.message, kind)
                if payload == 'ros1':
                    data = ROS2.cdr_to_ros1(data, kind)
                writer.add_message(number, item.received, bytes(data), item.received)
        writer.finish()
    (outcome,) = run(path, tmp_path / 'out', profile=profile).outcomes
    assert outcome.status == 'converted', outcome.reason
    (line,) = outcome.problems
    assert line == (
        f'{path}: channels say {channel} and their schemas {schema}, of {JOINTS}, {HEAD}: by '
        f'their messages they are read as {payload}'
    )
    assert run(robot.write(tmp_path / 'bag'), tmp_path / 'same', profile=profile).frames
    mine, other = rows(tmp_path / 'out'), rows(tmp_path / 'same')
    assert (mine['observation.state'] == other['observation.state']).all()
    assert printed(capsys, 'inspect', path)[0] == 0


def test_a_listed_file_that_is_absent_is_named_without_advice(robot, profile, tmp_path, capsys):
    bag = robot.write(tmp_path / 'bag')
    (file,) = bag.glob('*.mcap')
    file.unlink()
    expected = (
        f'{bag}: none of the files that metadata.yaml lists is there: bag.mcap; put them into the '
        'folder'
    )
    (outcome,) = run(bag, tmp_path / 'out', profile=profile).outcomes
    assert outcome.reason == expected
    code, lines = printed(capsys, 'inspect', bag)
    assert code == 1
    assert [line.strip() for line in lines if 'bag.mcap' in line] == [expected]
