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

"""What may be given in place of bags: patterns, lists and tables, and what tables say of bags."""

from __future__ import annotations

import json
import os
from pathlib import Path

from arm_runs import (
    convert_arm,
    PROFILE,
    states,
    statuses,
    write_bag,
    write_directory,
    write_profile,
)
from conversions import report
from kuavo_bag_converter.bags.discover import list_recordings
from kuavo_bag_converter.bags.inputs import expand_inputs
from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.dataset.record import read_record
from kuavo_bag_converter.replay.verify import verify
from kuavo_bag_converter.support.errors import UsageError
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def profile(tmp_path):
    return write_profile(tmp_path)


@pytest.fixture
def bags(tmp_path):
    """Return two ROS 1 bags and a rosbag2 directory, in two folders."""
    return [
        write_bag(tmp_path / 'day1/ep10.bag', 0, 1),
        write_bag(tmp_path / 'day1/ep9.bag', 1, 1),
        write_directory(tmp_path / 'day2/run', 2, 1),
    ]


def names(*given):
    return [Path(path).name for path in expand_inputs(given).paths]


def converted(root):
    return [recording for recording, _ in states(root)]


def test_a_pattern_is_what_matches_it_in_the_order_of_numbers(tmp_path, bags):
    assert names(tmp_path / 'day1/*.bag') == ['ep9.bag', 'ep10.bag']
    assert names(f'{tmp_path}/**/ep?.bag', bags[0]) == ['ep9.bag', 'ep10.bag']
    with pytest.raises(UsageError, match=r'day1/\*\.mcap: does not exist$'):
        expand_inputs([f'{tmp_path}/day1/*.mcap'])


def test_a_path_that_looks_like_a_pattern_is_that_path(tmp_path):
    bag = write_bag(tmp_path / 'run[1].bag', 0, 1)
    write_bag(tmp_path / 'run1.bag', 0, 1)
    assert names(bag) == ['run[1].bag']


def test_a_list_names_paths_beside_it(tmp_path, bags, profile, monkeypatch):
    (tmp_path / 'lists').mkdir()
    file = tmp_path / 'lists/good.txt'
    text = f'# checked\n../day2\n\n  ../day1/ep1*.bag\n{bags[1]}  \n'
    file.write_text('\ufeff' + text, encoding='utf-8')
    monkeypatch.chdir('/')
    convert_arm(file, tmp_path / 'out', profile)
    assert converted(tmp_path / 'out') == [2, 0, 1]
    assert len(verify(tmp_path / 'out', [file]).bags) == 3
    assert len(list_recordings([file, bags[0]]).remarks) == 1


@pytest.mark.parametrize('kind', ['csv', 'parquet'])
def test_a_table_says_the_tasks_and_labels_of_bags(tmp_path, bags, profile, kind):
    rows = [
        {'operator': 'Li', 'path': 'day2', 'task': 'Open', 'good': True, 'day': 2},
        {'operator': '王', 'path': 'day1/ep9.bag', 'task': 'Close', 'good': False, 'day': 1},
        {'operator': None, 'path': str(bags[0]), 'task': None, 'good': None, 'day': None},
    ]
    table = tmp_path / f'bags.{kind}'
    if kind == 'csv':
        lines = ['operator,path,task,good,day', 'Li,day2,Open,true,2']
        lines += ['王,day1/ep9.bag,Close,false,1', f',{bags[0]},,,']
        table.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    else:
        pq.write_table(pa.Table.from_pylist(rows), table)
    convert_arm(table, tmp_path / 'out', profile, labels=['operator'])
    assert converted(tmp_path / 'out') == [2, 1, 0]
    recorded = report(tmp_path / 'out')['bags']
    assert [bag['task'] for bag in recorded] == ['Open', 'Close', 'Count']
    assert [bag['labels'] for bag in recorded] == [
        {'operator': 'Li', 'good': 'true', 'day': '2'},
        {'operator': '王', 'good': 'false', 'day': '1'},
        {'operator': None},
    ]
    episodes = pq.read_table(next((tmp_path / 'out').glob('meta/episodes/*/*.parquet')))
    assert episodes['labels/operator'].to_pylist() == ['Li', '王', None]
    assert 'labels/good' not in episodes.column_names
    assert verify(tmp_path / 'out', [table]).findings == ()


def test_a_bag_that_failed_keeps_what_the_table_says_of_it(tmp_path, bags, profile):
    table = tmp_path / 'bags.csv'
    table.write_text('path,task,who\nday1/ep9.bag,Close,Li\nday2,Open,王\n', encoding='utf-8')
    whole = bags[1].read_bytes()
    bags[1].write_bytes(whole[:-100])
    done = convert_arm(table, tmp_path / 'out', profile)
    assert statuses(done) == ['failed', 'converted']
    bags[1].write_bytes(whole)
    convert_arm([], tmp_path / 'out', profile, retry_failed=True)
    first = report(tmp_path / 'out')['bags'][0]
    assert (first['status'], first['task']) == ('converted', 'Close')
    assert first['labels'] == {'who': 'Li'}


def test_the_table_of_bags_wins_over_the_setting_of_tasks(tmp_path, bags, profile):
    table = tmp_path / 'bags.csv'
    table.write_text('path,task\nday1/ep9.bag,Close\nday1/ep10.bag,\nday2,\n', encoding='utf-8')
    convert_arm(table, tmp_path / 'out', profile, tasks='folder')
    assert [bag['task'] for bag in report(tmp_path / 'out')['bags']] == ['Close', 'day1', 'day2']


def test_the_annotation_beside_a_bag_names_its_task(tmp_path, bags, profile):
    for stem, text in (('ep9', 'Pick\n it'), ('ep10', 'Open')):
        document = {'task': {'en': text, 'zh': '打开'}, 'marks': []}
        (tmp_path / f'day1/{stem}.json').write_text(json.dumps(document))
    given = {'tasks': 'annotation:task.en'}
    convert_arm(tmp_path / 'day1', tmp_path / 'out', profile, **given)
    assert [bag['task'] for bag in report(tmp_path / 'out')['bags']] == ['Pick it', 'Open']
    with pytest.raises(UsageError, match=r'1 bag of 3 without it: .*run\.json') as error:
        convert_arm([tmp_path / 'day1', bags[2]], tmp_path / 'other', profile, **given)
    assert '\n' not in str(error.value)
    with pytest.raises(UsageError, match='keys that are there: task, marks'):
        convert_arm(bags[0], tmp_path / 'other', profile, tasks='annotation:prompt')


def test_what_is_declared_and_not_there_is_counted_before_a_bag_is_converted(
    tmp_path, bags, profile, capsys
):
    table = tmp_path / 'bags.csv'
    lines = ['path,task', 'day1/ep9.bag,a', 'gone/1.bag,b', 'gone/2.bag,c', 'day2,d']
    table.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    words = ['convert', str(table), '-o', str(tmp_path / 'out'), '--set', f'profile={profile}']
    assert cli.run(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f'{tmp_path}/gone/1.bag: does not exist ({table}, line 3); 2 of 4 paths' in line
    assert 'gone/2.bag' in line
    assert not list(tmp_path.glob('out*'))


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('a.txt', '# nothing\n', 'names no bag; expected a path in each line'),
        ('a.csv', 'path,task\n', 'names no bag; expected a row for each'),
        (
            'a.csv',
            'bag,task\nx,y\n',
            'expected the column path in the first line.*found bag, task',
        ),
        ('a.csv', 'path,a,a\nx,y,z\n', 'has the column a twice'),
        ('a.csv', 'path,a\nx,y,z\n', 'line 2 has more values than there are columns'),
        ('a.csv', 'path,a\n,y\n', 'line 2: has no path'),
        ('a.csv', b'path\n\xb2\xe2\n', 'is no table in UTF-8'),
        ('a.txt', b'\xb2\xe2\n', 'cannot be read as a list of bags'),
        ('a.parquet', 'path', 'is no table in Parquet'),
    ],
)
def test_a_list_or_table_that_does_not_tell_is_wrong_use(tmp_path, name, content, message):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=message) as error:
        expand_inputs([file])
    assert str(error.value).startswith(f'{file}: ')
    assert '\n' not in str(error.value)


def test_parts_of_one_recording_must_have_one_row(tmp_path, profile):
    parts = [write_bag(tmp_path / f'rec_{n}.bag', 0, 4, first=4 * n) for n in range(2)]
    table = tmp_path / 'bags.csv'
    table.write_text('path,task\nrec_0.bag,a\nrec_1.bag,a\n', encoding='utf-8')
    convert_arm(table, tmp_path / 'out', profile)
    assert [bag['task'] for bag in report(tmp_path / 'out')['bags']] == ['a']
    table.write_text('path,task\nrec_0.bag,a\nrec_1.bag,b\n', encoding='utf-8')
    with pytest.raises(UsageError, match=f'lines 2 and 3: say different .*{parts[0]}'):
        convert_arm(table, tmp_path / 'other', profile)


def test_a_table_says_which_pieces_of_bags_are_episodes(tmp_path, profile):
    bags = [write_bag(tmp_path / f'{n}.bag', n, 10) for n in range(2)]
    table = tmp_path / 'bags.csv'
    lines = ['path,start_s,stop_s,task,who', '0.bag,0.5,0.9,Close,Li', '0.bag,0.1,0.3,Open,Li']
    table.write_text('\n'.join([*lines, '1.bag,,,,']) + '\n', encoding='utf-8')
    whole = bags[0].read_bytes()
    bags[0].write_bytes(whole[:-100])
    assert statuses(convert_arm(table, tmp_path / 'out', profile)) == ['failed', 'converted']
    bags[0].write_bytes(whole)
    convert_arm([], tmp_path / 'out', profile, retry_failed=True)
    pieces = [(0, 1), (0, 2), (0, 5), (0, 6), (0, 7), (0, 8)]
    assert states(tmp_path / 'out') == [*[(1, n) for n in range(10)], *pieces]
    files = sorted((tmp_path / 'out').glob('meta/episodes/*/*.parquet'))
    told = [text for file in files for text in pq.read_table(file)['tasks'].to_pylist()]
    assert told == [['Count'], ['Open'], ['Close']]
    assert report(tmp_path / 'out')['bags'][0]['labels'] == {'who': 'Li'}
    result = verify(tmp_path / 'out', [table])
    assert (len(result.bags), result.findings) == (2, ())
    whole_profile = write_profile(
        tmp_path, PROFILE + 'episodes: {ranges: [{start_s: 0, stop_s: 1}]}\n'
    )
    (refused,) = convert_arm(table, tmp_path / 'no', whole_profile, num_used=1, seed=1).outcomes
    assert 'leave one of them out' in refused.reason


def test_urls_of_files_here_are_their_paths(tmp_path, profile, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bag = write_bag(tmp_path / 'a bag.bag', 0, 4)
    (tmp_path / 'list.txt').write_text(f'file://{tmp_path}/a%20bag.bag\n')
    for number, given in enumerate(
        [f'file://{tmp_path}/a%20bag.bag', f'file://localhost{bag}', tmp_path / 'list.txt']
    ):
        convert_arm(given, f'file://{tmp_path}/out{number}', profile)
        assert states(tmp_path / f'out{number}') == [(0, n) for n in range(4)]
    assert verify(tmp_path / 'out0', [f'file://{bag}']).findings == ()
    with pytest.raises(UsageError, match=r'file://server/out: expected a folder of this machine'):
        convert_arm(bag, 'file://server/out', profile)
    assert not list(tmp_path.glob('file*'))


@pytest.mark.parametrize('ending', ['csv', 'parquet'])
def test_the_table_that_catalogue_writes_has_the_pieces_of_bags(tmp_path, profile, ending):
    for number in range(2):
        write_bag(tmp_path / f'rec_{number}.bag', 0, 6, first=6 * number)
    write_bag(tmp_path / 'a.bag', 1, 4)
    table = tmp_path / 'bags.csv'
    lines = ['path,start_s,stop_s,task,who', 'rec_0.bag,0.5,0.9,Close,Li',
             'rec_1.bag,0.1,0.3,Open,Li', 'a.bag,,,,']  # fmt: skip
    table.write_text('\n'.join(lines), encoding='utf-8')
    convert_arm(table, tmp_path / 'out', profile)
    chosen = tmp_path / f'chosen.{ending}'
    assert cli.run(['catalogue', str(tmp_path / 'out'), '--output', str(chosen)]) == 0
    convert_arm(chosen, tmp_path / 'again', profile)
    assert states(tmp_path / 'again') == states(tmp_path / 'out')
    told, expected = (
        [
            (bag.task, bag.details.ranges, bag.details.labels)
            for bag in read_record(tmp_path / name).bags
        ]
        for name in ('again', 'out')
    )
    assert told == expected


def test_copies_of_a_bag_with_other_pieces_are_wrong_use(tmp_path, profile):
    for name in 'ab':
        write_bag(tmp_path / f'{name}.bag', 0, 10)
    table = tmp_path / 'bags.csv'
    table.write_text('path,start_s,stop_s\na.bag,0,0.3\nb.bag,0.5,0.9\n')
    with pytest.raises(UsageError, match=r'b\.bag: holds what .* holds, but their start_s'):
        convert_arm(table, tmp_path / 'out', profile)


@pytest.mark.parametrize(
    ('lines', 'message'),
    [
        (['a.bag,0.3,'], 'line 2: stop_s: expected seconds, found nothing'),
        (['a.bag,x,1'], 'line 2: start_s: expected seconds, found x'),
        (['a.bag,2,1'], 'line 2: expected 0 <= start_s < stop_s, found 2 and 1'),
        (['a.bag,0,2', 'a.bag,1,3'], 'line 3: start_s 1 lies in the piece before, until 2 s'),
        (['a.bag,0,2', 'a.bag,,'], 'line 3: start_s: expected seconds, found nothing'),
    ],
)
def test_times_that_are_no_pieces_are_wrong_use(tmp_path, profile, lines, message):
    write_bag(tmp_path / 'a.bag', 0, 4)
    table = tmp_path / 'bags.csv'
    table.write_text('\n'.join(['path,start_s,stop_s', *lines]) + '\n')
    with pytest.raises(UsageError, match=message) as error:
        convert_arm(table, tmp_path / 'out', profile)
    assert str(error.value).startswith(f'{table}: line ')
    assert not list(tmp_path.glob('out*'))


def test_another_seed_draws_other_bags(tmp_path, profile):
    for number in range(12):
        write_bag(tmp_path / f'bags/{number}.bag', number, 1)
    drawn = []
    for seed in (42, 42, 7):
        root = tmp_path / f'out{len(drawn)}'
        convert_arm(tmp_path / 'bags', root, profile, num_used=3, seed=seed)
        drawn.append(converted(root))
    assert drawn[0] == drawn[1] == sorted(drawn[0])
    assert drawn[0] != drawn[2]


def test_inputs_are_kept_apart_from_the_folder_of_the_run(tmp_path, bags, profile, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'all.txt').write_text('day1/ep9.bag\n')
    convert_arm('all.txt', tmp_path / 'out', profile)
    assert report(tmp_path / 'out')['bags'][0]['bag'] == '../day1/ep9.bag'
    assert os.path.samefile(tmp_path / 'day1/ep9.bag', bags[1])
