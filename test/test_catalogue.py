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

"""What a dataset says of its bags: tables that grow with them, and a summary that does not."""

from __future__ import annotations

from dataclasses import replace
import json
import os
from pathlib import Path
import shutil
import sys

from arm_runs import (
    convert_arm,
    states,
    statuses,
    write_bag,
    write_profile,
)
from conversions import run
from dataset_reading import tree
from hypothesis import given, settings
from hypothesis import strategies as st
from kuavo_bag_converter.alignment.report import ErrorMs, PlanReport, StampCounts, TrackReport
from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.dataset import catalogue
from kuavo_bag_converter.dataset.layout import alignment_path
from kuavo_bag_converter.dataset.record import read_record, write_record
from kuavo_bag_converter.dataset.recorded_bag import BagDetails, RecordedBag, RecordedFile
from kuavo_bag_converter.profiles.model import TimeRange
from kuavo_bag_converter.replay.verify import verify
from kuavo_bag_converter.support.errors import UsageError
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from record_files import as_former_record, edit_record, tables
from record_files import read_record as document_of


def frames_of(*numbers):
    return [(number, frame) for number in numbers for frame in range(4)]


def retry(root):
    return run([], root, retry_failed=True)


TEXT = st.text(st.characters(blacklist_categories=['Cs']), max_size=8)
NAME = st.text('abcXYZ_ 0\\é字', min_size=1, max_size=6).filter(lambda name: name.strip())
COUNT = st.integers(0, 2**40)
SECONDS = st.floats(0, 1e6)
ERROR = st.none() | st.floats(0, 1e6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
TRACK = st.builds(
    TrackReport,
    name=TEXT,
    topic=st.sampled_from(['/a', '/b', '/c']),
    messages=COUNT,
    stamps=st.builds(StampCounts, outside_recording=COUNT, outside_by_s=ERROR),
    used=COUNT,
    error_ms=st.builds(ErrorMs, ERROR, ERROR, ERROR),
    in_gap=COUNT,
    selected_from=st.none() | st.sampled_from(['/a', '/d']),
)
PLAN = st.builds(
    PlanReport,
    frames=COUNT,
    tracks=st.lists(TRACK, max_size=3).map(tuple),
    element_names=st.none() | st.just({'arm': ['x', 'y']}),
)
TOPIC = st.builds(
    lambda topic, kind, qos, definition: {
        'topic': topic, 'type': kind, 'encoding': 'cdr', 'qos': qos,
        **({} if definition is None else {'definition': {'format': 'msg', 'text': definition}}),
    },
    st.sampled_from(['/a', '/b', '/e']), TEXT, st.lists(JSON, max_size=1), st.none() | TEXT,
)  # fmt: skip
DETAILS = st.builds(
    BagDetails,
    problems=st.lists(TEXT, max_size=2).map(tuple),
    plan=PLAN,
    calibration=st.dictionaries(st.sampled_from(['cameras', 'static_transforms']), JSON),
    topics=st.lists(TOPIC, max_size=3).map(tuple),
    labels=st.dictionaries(TEXT, st.none() | TEXT, max_size=2),
    ranges=st.lists(st.builds(TimeRange, SECONDS, SECONDS, TEXT), max_size=2).map(tuple),
    others=st.dictionaries(TEXT, JSON, max_size=2),
)


@st.composite
def recorded_bags(draw, root):
    """Draw bags of a record, numbered; some failed."""
    bags, first = [], 0
    for number in range(draw(st.integers(0, 4))):
        details = draw(DETAILS)
        names = draw(st.lists(NAME, min_size=1, max_size=2))
        files = tuple(
            RecordedFile(root.parent / name, draw(st.integers(-1, 2**40)), draw(TEXT))
            for name in names
        )
        status = draw(st.sampled_from(['converted', 'failed', 'skipped']))
        episodes = draw(st.integers(1, 3)) if status == 'converted' else 0
        if not episodes:
            details = BagDetails(**{**vars(details), 'plan': PlanReport()})
        bags.append(
            RecordedBag(
                number, files[0].path, files, status, draw(TEXT), first, episodes,
                draw(COUNT) if episodes else 0, draw(TEXT), alignment_path(number),
                lambda details=details: details,
            )
        )  # fmt: skip
        first += episodes
    return bags


def same(found, expected):
    """Tell whether bags are the same in all that is recorded of them."""
    return [*found] == expected and [bag.details for bag in found] == [
        bag.details for bag in expected
    ]


def failed(bag):
    """Return a bag as it was when it had failed."""
    now = {'status': 'failed', 'reason': 'is cut', 'first_episode': 0, 'episodes': 0, 'frames': 0}
    return replace(bag, task='', read_details=BagDetails, **now)


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_what_is_recorded_of_bags_is_what_is_read(tmp_path_factory, data):
    root = Path(os.path.realpath(tmp_path_factory.mktemp('record'))) / 'out'
    bags = data.draw(recorded_bags(root))
    there = data.draw(st.integers(0, len(bags)))
    tried_again = data.draw(st.sets(st.integers(0, max(0, there - 1))))
    before = [failed(bag) if bag.number in tried_again else bag for bag in bags[:there]]
    write_record(root, root, {'vcodec': 'h264'}, before, 10)
    record = read_record(root)
    assert record.settings == {'vcodec': 'h264'}
    assert same(record.bags, before)
    added = [bag for bag in bags if bag.number >= there or bag.number in tried_again]
    write_record(root.with_name('new'), root, {}, added, 10, record)
    shutil.rmtree(root)
    root.with_name('new').rename(root)
    assert same(read_record(root).bags, bags)


def test_a_run_writes_the_last_file_and_those_of_bags_that_were_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, 'BAGS_PER_FILE', 20)
    monkeypatch.setattr(catalogue, '_BAGS_PER_GROUP', 5)
    root = Path(os.path.realpath(tmp_path)) / 'out'
    file = RecordedFile(root.parent / 'a.bag', 1, 'x')
    bags = [RecordedBag(n, file.path, (file,), 'converted', '', n, 1, 10) for n in range(63)]
    bags[24] = failed(bags[24])
    write_record(root, root, {}, bags[:61], 10)
    new, record = root.with_name('new'), read_record(root)
    again = RecordedBag(24, file.path, (file,), 'converted', '', 63, 1, 10)
    write_record(new, root, {}, [again, *bags[61:]], 10, record)
    for name in ('bags', 'topics'):
        files = {path.name: path for path in (new / 'conversion' / name).iterdir()}
        assert sorted(files) == [f'file-{n:03d}.parquet' for n in range(4)]
        assert [
            path.samefile(root / 'conversion' / name / file)
            for file, path in sorted(files.items())
        ] == [True, False, True, False]
    rows = tables(new, 'bags')
    assert [row['bag'] for row in rows] == list(range(63))
    assert {row['status'] for row in rows} == {'converted'}
    summary = json.loads((new / 'conversion/report.json').read_text())
    assert summary['totals'] == {
        'bags': {'declared': 63, 'converted': 63, 'failed': 0, 'skipped': 0},
        'episodes': 63, 'frames': 630, 'hours': 0.0175,
    }  # fmt: skip
    # However it has grown, it is the same.
    bags[24] = again
    whole = root.with_name('whole')
    write_record(whole, root, {}, bags, 10)
    assert tree(whole) == tree(new)


@pytest.fixture
def profile(tmp_path):
    return write_profile(tmp_path)


@pytest.fixture
def bags(tmp_path):
    return [write_bag(tmp_path / f'bags/{number}.bag', number) for number in range(4)]


def cut_bags(*bags):
    for bag in bags:
        bag.write_bytes(bag.read_bytes()[:-100])


def test_the_summary_counts_what_became_of_all_that_was_given(tmp_path, bags, profile):
    cut_bags(bags[1], bags[3])
    (tmp_path / 'bags/4.bag').write_bytes(b'no bag')
    given = [*bags, tmp_path / 'bags/4.bag']
    assert statuses(convert_arm(given, tmp_path / 'out', profile)).count('failed') == 3
    summary = json.loads((tmp_path / 'out/conversion/report.json').read_text())
    assert summary['format'] == 3
    assert summary['totals']['bags'] == {
        'declared': 5, 'converted': 2, 'failed': 3, 'skipped': 0,
    }  # fmt: skip
    assert summary['totals']['frames'] == 8
    first, second = summary['failures']
    assert (first['bags'], second['bags']) == (2, 1)
    assert (first['first'], second['first']) == ('../bags/1.bag', '../bags/4.bag')
    rows = tables(tmp_path / 'out', 'bags')
    assert rows[1]['cause'] == rows[3]['cause'] == first['cause']
    assert [row['seconds'] for row in rows] == [0.4, 0, 0.4, 0, 0]
    assert [row['bytes'] for row in rows] == [path.stat().st_size for path in given]


def test_the_tables_say_what_the_plan_says(tmp_path, bags, profile):
    convert_arm(bags[:1], tmp_path / 'out', profile)
    (bag,), (topic,) = (tables(tmp_path / 'out', name) for name in ('bags', 'topics'))
    (track,) = json.loads(bag['plan'])['tracks']
    assert (topic['bag'], topic['topic'], topic['type']) == (0, '/arm', 'test_msgs/msg/Numbers')
    for name in ('strategy', 'messages', 'used', 'in_gap', 'cut', 'backward_stamps'):
        assert topic[name] == track[name]
    for name in ('median', 'p95', 'max'):
        assert topic[f'error_{name}_ms'] == bag[f'error_{name}_ms'] == track['error_ms'][name]


def test_a_record_of_the_former_form_becomes_one_of_today_when_bags_are_added(
    tmp_path, bags, profile
):
    root = tmp_path / 'out'
    convert_arm(bags[:2], root, profile)
    as_former_record(root, lambda document: document.update(seen_by='me'))
    (root / 'conversion/alignment/notes').mkdir()
    (root / 'conversion/alignment/notes/mine.txt').write_text('mine')
    assert len(verify(root, bags).bags) == 2
    assert verify(root).findings == ()
    assert statuses(convert_arm(bags[1:], root, profile, append=True)) == [
        'present', 'converted', 'converted',
    ]  # fmt: skip
    assert document_of(root)['seen_by'] == 'me'
    assert states(root) == frames_of(0, 1, 2, 3)
    assert verify(root, bags).findings == ()
    shutil.rmtree(root / 'conversion/alignment/notes')
    convert_arm(bags, tmp_path / 'new/out', profile)
    made, expected = tree(root / 'conversion'), tree(tmp_path / 'new/out/conversion')
    assert sorted(made) == sorted(expected)
    assert {path for path in made if made[path] != expected[path]} <= {
        'report.json', 'bags/file-000.parquet',  # which name the folder of the bags
    }  # fmt: skip


def test_bags_that_fail_are_added_to_a_record_of_the_former_form(tmp_path, bags, profile):
    root = tmp_path / 'out'
    convert_arm(bags[:1], root, profile)
    as_former_record(root)
    cut_bags(bags[1])
    assert statuses(convert_arm(bags[1:2], root, profile, append=True)) == ['failed']
    assert [bag['status'] for bag in document_of(root)['bags']] == ['converted', 'failed']
    assert verify(root, bags[:1]).findings == ()
    assert statuses(convert_arm(bags[2:3], root, profile, append=True)) == ['converted']
    assert (root / 'conversion/alignment/chunk-000/000000.parquet').exists()
    assert verify(root, bags).findings == ()


def test_who_is_stopped_while_failures_are_recorded_leaves_a_record(tmp_path, bags, profile):
    root = tmp_path / 'out'
    convert_arm(bags[:1], root, profile)
    summary = (root / 'conversion/report.json').read_bytes()
    whole = bags[1].read_bytes()
    cut_bags(bags[1])
    convert_arm(bags[1:2], root, profile, append=True)
    (root / 'conversion/report.json').write_bytes(summary)  # as it is until the very end
    assert verify(root).findings == ()
    bags[1].write_bytes(whole)
    assert statuses(retry(root)) == ['converted']
    assert json.loads((root / 'conversion/report.json').read_text())['totals']['bags'] == {
        'declared': 2, 'converted': 2, 'failed': 0, 'skipped': 0,
    }  # fmt: skip


def test_a_column_that_others_have_added_stays(tmp_path, bags, profile):
    root = tmp_path / 'out'
    convert_arm(bags[:2], root, profile)
    file = root / 'conversion/bags/file-000.parquet'
    table = pq.ParquetFile(file).read()
    pq.write_table(table.append_column('rating', pa.array([5, 4])), file)
    convert_arm(bags, root, profile, append=True)
    assert [row['rating'] for row in tables(root, 'bags')] == [5, 4, None, None]
    assert verify(root).findings == ()


@pytest.mark.parametrize(
    ('damage', 'reason'),
    [
        (lambda folder: (folder / 'bags/file-000.parquet').unlink(), 'bags/.*: is missing'),
        (lambda folder: (folder / 'topics/file-000.parquet').unlink(), 'topics/.*: is missing'),
        (lambda folder: (folder / 'bags/file-001.parquet').touch(), 'topics/.*: is missing'),
        (lambda folder: (folder / 'bags/file-000.parquet').write_bytes(b'x'), 'cannot be read'),
    ],
)
def test_tables_that_are_not_whole_are_refused_by_name(tmp_path, bags, profile, damage, reason):
    root = tmp_path / 'out'
    convert_arm(bags[:2], root, profile)
    damage(root / 'conversion')
    with pytest.raises(UsageError, match=reason) as caught:
        convert_arm(bags, root, profile, append=True)
    assert len(str(caught.value).splitlines()) == 1


def test_a_bag_whose_numbers_are_not_those_of_the_tables_is_no_record(tmp_path, bags, profile):
    convert_arm(bags[:2], tmp_path / 'out', profile)
    edit_record(tmp_path / 'out', lambda document: document['bags'][1].update(episodes=0))
    with pytest.raises(UsageError, match='bag 1: without episodes or files'):
        convert_arm(bags, tmp_path / 'out', profile, append=True)


def command(capsys, *words):
    """Run the command; return its exit code and what it printed."""
    code = cli.run(['catalogue', *map(str, words)])
    printed = capsys.readouterr()
    return code, (printed.out if code == 0 else printed.err).splitlines()


@pytest.fixture
def labelled(tmp_path, bags, profile):
    """Return a dataset of three bags of two tasks, of which one has failed."""
    cut_bags(bags[1])
    table = tmp_path / 'bags.csv'
    lines = [
        'path,task,operator',
        'bags/0.bag,Open,Li',
        'bags/1.bag,Open,王',
        'bags/2.bag,Close,王',
    ]
    table.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    convert_arm(table, tmp_path / 'out', profile)
    return tmp_path / 'out'


@pytest.mark.parametrize('former', [False, True])
def test_the_command_says_how_much_is_there_and_what_failed(labelled, capsys, former):
    if former:
        as_former_record(labelled)
    code, lines = command(capsys, labelled)
    assert code == 0
    assert lines[0] == f'{labelled}: 2 of 3 bags, 1 failed, 2 episodes, 8 frames, 0.00 h'
    assert [line.split() for line in lines if line.startswith(('Open', 'Close'))] == [
        ['Open', '2', '1', '1', '0.00'], ['Close', '1', '1', '1', '0.00'],
    ]  # fmt: skip
    (failed,) = [line for line in lines if line.startswith('  1 bag, the first ../bags/1.bag: ')]
    assert failed.startswith('  1 bag, the first ../bags/1.bag: byte ')
    assert (
        f'  when that is mended: python -m kuavo_bag_converter convert --output {labelled} '
        in ('\n'.join(lines))
    )


def test_bags_are_chosen_by_a_condition_of_sql(labelled, capsys):
    pytest.importorskip('duckdb')
    code, lines = command(
        capsys, labelled, '--where', "labels['operator'] = '王'", '--columns', 'path,status,frames'
    )
    assert (code, [line.split() for line in lines]) == (0, [
        ['path', 'status', 'frames'], ['../bags/1.bag', 'failed', '0'],
        ['../bags/2.bag', 'converted', '4'], ['2', 'rows'],
    ])  # fmt: skip
    where = "bag IN (SELECT bag FROM topics WHERE topic = '/arm' AND used = 4)"
    _, lines = command(capsys, labelled, '--where', where, '--columns', 'bag')
    assert lines == ['bag', '0', '2', '2 rows']
    _, lines = command(
        capsys, labelled, '--topics', '--where', 'bag > 1', '--columns', 'topic,used'
    )
    assert [line.split() for line in lines[1:-1]] == [['/arm', '4']]
    code, (line,) = command(capsys, labelled, '--where', 'speed > 1')
    assert code == 2
    assert line.startswith('error: --where: Binder Error: Referenced column "speed" not found')


@pytest.mark.parametrize('ending', ['txt', 'csv', 'parquet'])
def test_what_is_chosen_is_given_to_convert_and_verify(
    labelled, tmp_path, capsys, profile, ending, monkeypatch
):
    pytest.importorskip('duckdb')
    monkeypatch.chdir(tmp_path)
    chosen = tmp_path / f'chosen.{ending}'
    words = [labelled, '--where', "status = 'converted' AND task = 'Close'", '-o', chosen]
    assert command(capsys, *words) == (0, [f'{chosen}: 1 bag'])
    code, (line,) = command(capsys, *words)
    assert (code, line) == (
        2, f'error: --output {chosen}: exists already; choose another name, or remove it'
    )  # fmt: skip
    assert len(verify(labelled, [chosen]).bags) == 1
    convert_arm(chosen, tmp_path / 'some', profile)
    (bag,) = document_of(tmp_path / 'some')['bags']
    assert bag['bag'] == '../bags/2.bag'
    if ending != 'txt':
        assert (bag['task'], bag['labels']) == ('Close', {'operator': '王'})


def test_wrong_use_of_the_command_is_one_line(labelled, tmp_path, capsys, monkeypatch):
    for words, message in (
        ([tmp_path], 'has no record; only a dataset that this converter made'),
        ([labelled, '--columns', 'speed'], '--columns: there is no speed; known are bag, path, '),
        (
            [labelled, '-o', tmp_path / 'a.json'],
            'expected a name that ends in .txt, .csv, .parquet',
        ),
        ([labelled, '--topics', '-o', tmp_path / 'a.txt'], 'topics are rows of a table'),
    ):
        code, (line,) = command(capsys, *words)
        assert code == 2
        assert message in line
    monkeypatch.setitem(sys.modules, 'duckdb', None)
    assert command(capsys, labelled, '--where', 'true') == (
        2,
        ["error: --where: needs DuckDB; install it: pip install 'kuavo_bag_converter[catalogue]'"],
    )  # fmt: skip
