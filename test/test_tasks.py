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

"""Several tasks in one dataset: by folder, by table, and of what is added."""

from __future__ import annotations

import json
import sys

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
from dataset_reading import tree
from kuavo_bag_converter.bags.custom_data import custom_data_of
from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.jobs.display import print_report
from kuavo_bag_converter.replay.verify import verify
from kuavo_bag_converter.support.errors import Cancelled, UsageError
from mcap.writer import Writer
from observers import CancelAfter, Notes
import pyarrow.parquet as pq
import pytest
from record_files import as_former_record
import yaml


@pytest.fixture
def folders(tmp_path):
    """Return a ROS 1 bag and a rosbag2 directory, in a folder of their task each."""
    return [
        write_bag(tmp_path / 'data' / 'pick the cube' / 'ep1.bag', 0, 2),
        write_directory(tmp_path / 'data' / 'open_door' / 'ep1', 1, 3),
    ]


def tasks(root):
    """Return the task of each frame as LeRobot reads it, with the recording's number."""
    texts = pq.read_table(root / 'meta/tasks.parquet').to_pydict()
    by_index = dict(zip(texts['task_index'], texts['task'], strict=True))
    numbers = [
        number
        for path in sorted(root.glob('data/*/*.parquet'))
        for number in pq.read_table(path)['task_index'].to_pylist()
    ]
    return [(row[0], by_index[number]) for row, number in zip(states(root), numbers, strict=True)]


def table_of(folder, *lines):
    path = folder / 'tasks.csv'
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return path


def verified(root):
    found = verify(root, [])
    assert found.ok, found.findings
    return len(found.bags)


def wrong(error):
    text = str(error.value)
    assert '\n' not in text
    return text


def test_the_folder_of_a_bag_names_its_task(tmp_path, profile, folders):
    root = tmp_path / 'out'
    convert_arm(folders, root, profile, tasks='folder')
    assert tasks(root) == [(0, 'pick the cube')] * 2 + [(1, 'open_door')] * 3
    assert [bag['task'] for bag in report(root)['bags']] == ['pick the cube', 'open_door']
    episodes = pq.read_table(next(root.glob('meta/episodes/*/*.parquet')))
    assert episodes['tasks'].to_pylist() == [['pick the cube'], ['open_door']]
    assert verified(root) == 2


def test_what_comes_of_a_run_shows_the_tasks_that_bags_were_given(
    tmp_path, profile, folders, capsys
):
    done = convert_arm(folders, tmp_path / 'out', profile, tasks='folder')
    print_report(done, sys.stdout)
    header, first, *_ = capsys.readouterr().out.splitlines()
    assert header.split() == ['bag', 'outcome', 'episodes', 'frames', 'task', 'reason']
    assert first.split() == ['ep1.bag', 'converted', '1', '2', 'pick', 'the', 'cube']
    print_report(convert_arm(folders, tmp_path / 'other', profile), sys.stdout)
    assert 'task' not in capsys.readouterr().out


def test_a_file_of_a_rosbag2_directory_has_the_task_of_the_folder_around_it(
    tmp_path, profile, folders
):
    (part,) = [path for path in folders[1].iterdir() if path.suffix in ('.db3', '.mcap')]
    convert_arm(part, tmp_path / 'out', profile, tasks='folder')
    assert {task for _, task in tasks(tmp_path / 'out')} == {'open_door'}


def test_a_table_names_the_task_of_each_bag_or_folder(tmp_path, profile, folders):
    bags = [*folders, write_bag(tmp_path / 'data' / 'open_door' / 'later.bag', 2, 1)]
    table = table_of(
        tmp_path / 'data', 'who,task,path', 'a,Pick,pick the cube/ep1.bag', 'b,"Open, wide",.',
        'a,打开门,open_door/ep1/',
    )  # fmt: skip
    root = tmp_path / 'out'
    convert_arm(bags, root, profile, tasks=str(table))
    assert tasks(root) == [
        *[(0, 'Pick')] * 2, *[(1, '打开门')] * 3, (2, 'Open, wide')
    ]  # fmt: skip
    assert verified(root) == 3
    assert report(root)['settings']['tasks'] == '../data/tasks.csv'


@pytest.mark.parametrize(
    ('lines', 'message'),
    [
        (['path,text', '.,Pick'], 'expected the columns path and task .*, found path, text$'),
        (['path;task', '.;Pick'], 'separated by commas, found path;task$'),
        ([''], 'found nothing$'),
        (['path,task', 'a.bag,Pick', 'data,Open', 'b,Close'],
         '2 rows of 3 for bags that are not there, the first in line 2: a.bag; paths are'),
        (['path,task', 'data/open_door,Open'], r'no task for 1 bag of 2: .*ep1.bag; add a row'),
        (['path,task', 'data,Open', 'data/,Pick'], 'line 3: data/: is in line 2 already$'),
        (['path,task', 'data, '], 'line 2: has no task$'),
        (['path,task', ',Open'], 'line 2: has no path$'),
        (['path,task', 'data'], 'line 2: has no task$'),
        (['path,task', 'data,"Open\nit"'], 'task: expected one line without control characters'),
        (['path,task', 'data,"Open'], 'is no table in UTF-8'),
    ],
)  # fmt: skip
def test_a_table_that_does_not_tell_is_wrong_use(tmp_path, profile, folders, lines, message):
    table = table_of(tmp_path, *lines)
    with pytest.raises(UsageError, match=message) as error:
        convert_arm(folders, tmp_path / 'out', profile, tasks=str(table))
    assert wrong(error).startswith(f'{table}: ') or 'is no table' in wrong(error)
    assert not list(tmp_path.glob('out*'))


def test_what_is_no_table_is_wrong_use(tmp_path, profile, folders, capsys):
    for value, message in (
        (
            'folders',
            'tasks: expected folder, custom_data:KEY, annotation:KEY, or the path of a table that '
            'ends in .csv or .parquet',
        ),
        (str(tmp_path / 'none.csv'), f'tasks: {tmp_path}/none.csv: cannot be read: No such file'),
    ):
        arguments = ['--set', f'profile={profile}', '--set', f'tasks={value}']
        assert cli.run(
            ['convert', str(folders[0]), '--output', str(tmp_path / 'out'), *arguments]
        ) == 2  # fmt: skip
        assert message in capsys.readouterr().err


def test_rows_for_bags_of_another_run_are_counted(tmp_path, profile, folders):
    table = table_of(
        tmp_path, 'path,task', 'data/open_door,Open', 'data/pick the cube/ep1.bag,Pick'
    )
    notes = Notes()
    convert_arm(folders[:1], tmp_path / 'out', profile, tasks=str(table), observer=notes)
    assert notes.lines == [f'{table}: 1 row of 2 for no bag of this run: data/open_door']


def noted(directory, **custom_data):
    """Let the recorder of a rosbag2 directory have noted something."""
    path = directory / 'metadata.yaml'
    document = yaml.safe_load(path.read_text())
    document['rosbag2_bagfile_information']['custom_data'] = custom_data
    path.write_text(yaml.safe_dump(document))
    return directory


def test_what_the_recorder_noted_names_the_task(tmp_path, profile):
    key = 'lerobot.operator_prompt'
    bags = [
        noted(write_directory(tmp_path / f'ep{n}', n, 2), **{key: text, 'other': '1'})
        for n, text in enumerate(['pick the\n cube', '2024'])
    ]
    alone = next(path for path in bags[1].iterdir() if path.suffix in ('.db3', '.mcap'))
    for given in (bags, [bags[0], alone]):
        root = tmp_path / f'out{len(list(tmp_path.iterdir()))}'
        convert_arm(given, root, profile, tasks=f'custom_data:{key}')
        assert tasks(root) == [(0, 'pick the cube')] * 2 + [(1, '2024')] * 2


def test_a_bag_whose_recorder_noted_no_task_is_wrong_use(tmp_path, profile, folders):
    bags = [*folders, noted(write_directory(tmp_path / 'ep2', 2, 2), prompt='Pick', empty='')]
    with pytest.raises(UsageError) as error:
        convert_arm(bags, tmp_path / 'out', profile, tasks='custom_data:prompts')
    assert wrong(error) == (
        'tasks: custom_data:prompts: 3 bags of 3 without it in the custom_data of metadata.yaml: '
        f'{bags[0]}, {bags[1]}, {bags[2]}; keys that are there: prompt'
    )
    with pytest.raises(UsageError, match='2 bags of 3 without it'):
        convert_arm(bags, tmp_path / 'out', profile, tasks='custom_data:prompt')


def test_a_recording_given_twice_with_two_tasks_is_wrong_use(tmp_path, profile, folders):
    copy = tmp_path / 'data' / 'close' / 'ep1.bag'
    copy.parent.mkdir()
    copy.write_bytes(folders[0].read_bytes())
    with pytest.raises(UsageError, match="their tasks are 'close' and 'pick the cube'; leave one"):
        convert_arm([folders[0], copy], tmp_path / 'out', profile, tasks='folder')


def test_a_link_has_the_task_of_the_folder_that_it_is_in(tmp_path, profile, folders):
    link = tmp_path / 'linked' / 'wave' / 'ep.bag'
    link.parent.mkdir(parents=True)
    link.symlink_to(folders[0])
    convert_arm(link, tmp_path / 'out', profile, tasks='folder')
    assert {task for _, task in tasks(tmp_path / 'out')} == {'wave'}


@pytest.mark.parametrize('version', ['v3.0', 'v2.1'])
def test_what_is_added_may_have_another_task(tmp_path, profile, folders, version):
    root = tmp_path / 'out'
    convert_arm(folders[:1], root, profile, lerobot_version=version)
    other = tmp_path / 'other.yaml'  # its name, too, is another one
    other.write_text(PROFILE.replace('task: Count', 'task: Sing'))
    convert_arm(folders[1:], root, other, lerobot_version=version, append=True)
    assert [bag['task'] for bag in report(root)['bags']] == ['Count', 'Sing']
    assert verified(root) == 2
    if version == 'v3.0':
        assert tasks(root) == [(0, 'Count')] * 2 + [(1, 'Sing')] * 3
    else:
        lines = (root / 'meta/episodes.jsonl').read_text().splitlines()
        assert [json.loads(line)['tasks'] for line in lines] == [['Count'], ['Sing']]


def test_what_is_added_must_be_alike_in_all_but_the_task(tmp_path, profile, folders):
    convert_arm(folders[:1], tmp_path / 'out', profile)
    other = write_profile(tmp_path, PROFILE.replace('fps: 10\ntask: Count', 'fps: 5\ntask: Sing'))
    with pytest.raises(UsageError, match='was made with other settings'):
        convert_arm(folders[1:], tmp_path / 'out', other, append=True)


def test_a_dataset_of_a_version_that_told_no_tasks_of_bags_keeps_its_own(
    tmp_path, profile, folders
):
    root = tmp_path / 'out'
    convert_arm(folders[:1], root, profile)

    def forget(document):
        del document['settings']['tasks']
        for bag in document['bags']:
            del bag['task']

    as_former_record(root, forget)
    other = write_profile(tmp_path, PROFILE.replace('task: Count', 'task: Sing'))
    convert_arm(folders[1:], root, other, append=True)
    assert tasks(root) == [(0, 'Count')] * 2 + [(1, 'Sing')] * 3
    assert verified(root) == 2


def test_a_bag_of_the_dataset_keeps_its_task_and_that_is_said(tmp_path, profile, folders):
    root = tmp_path / 'out'
    convert_arm(folders, root, profile, tasks='folder')
    before = tree(root)
    done = convert_arm(folders, root, profile, append=True)
    assert statuses(done) == ['present', 'present']
    assert [outcome.reason for outcome in done.outcomes] == [
        'its task there stays pick the cube, not Count',
        'its task there stays open_door, not Count',
    ]  # fmt: skip
    assert tree(root) == before


def test_an_unfinished_run_goes_on_with_the_tasks_that_it_began_with(tmp_path, profile, folders):
    root = tmp_path / 'out'
    stop = CancelAfter(1)
    with pytest.raises(Cancelled):
        convert_arm(
            folders, root, profile, tasks='folder', observer=stop, cancel=stop.cancel
        )  # fmt: skip
    with pytest.raises(UsageError, match="with the task 'pick the cube', which is 'Count' now;"):
        convert_arm(folders, root, profile)
    done = convert_arm(folders, root, profile, tasks='folder')
    assert statuses(done) == ['kept', 'converted']
    assert verified(root) == 2


def test_a_changed_task_is_redone_where_that_is_asked_for(tmp_path, profile, folders):
    root = tmp_path / 'out'
    stop = CancelAfter(1)
    with pytest.raises(Cancelled):
        convert_arm(folders, root, profile, tasks='folder', observer=stop, cancel=stop.cancel)
    convert_arm(folders, root, profile, on_change='redo')
    assert {task for _, task in tasks(root)} == {'Count'}
    assert verified(root) == 2


def test_a_bag_that_failed_is_tried_again_with_its_own_task(tmp_path, profile, folders):
    root, whole = tmp_path / 'out', folders[0].read_bytes()
    folders[0].write_bytes(whole[: len(whole) // 2])
    convert_arm(folders, root, profile, tasks='folder')
    folders[0].write_bytes(whole)
    done = convert_arm([], root, profile, retry_failed=True)
    assert statuses(done) == ['converted']
    assert tasks(root) == [(1, 'open_door')] * 3 + [(0, 'pick the cube')] * 2
    assert verified(root) == 2


LABELS = ('outcome', 'goal.id')


@pytest.mark.parametrize('version', ['v3.0', 'v2.1'])
def test_labels_are_columns_of_the_list_of_episodes(version, tmp_path, profile):
    bags = [
        noted(write_directory(tmp_path / 'a', 0, 2), outcome='success', other='1'),
        write_directory(tmp_path / 'b', 1, 2),
        noted(write_directory(tmp_path / 'c', 2, 2), **{'goal.id': '7', 'outcome': '抓取'}),
    ]
    values = {'labels': LABELS, 'lerobot_version': version}
    done = convert_arm(bags[:2], tmp_path / 'out', profile, **values)
    assert [outcome.problems[-1].partition(': ')[2] for outcome in done.outcomes] == [
        '1 label not in its custom_data: goal.id; keys that are there: other, outcome',
        '2 labels not in its custom_data: outcome, goal.id; keys that are there: none',
    ]
    with pytest.raises(UsageError, match=r'other settings \(labels was .*, now \[\]\)'):
        convert_arm(bags[2:], tmp_path / 'out', profile, append=True, lerobot_version=version)
    convert_arm(bags[2:], tmp_path / 'out', profile, append=True, **values)
    found = [('success', None), (None, None), ('抓取', '7')]
    assert labels(tmp_path / 'out') == found
    assert [tuple(bag['labels'].values()) for bag in report(tmp_path / 'out')['bags']] == found
    assert not verify(tmp_path / 'out', bags).findings


def labels(root):
    """Return the labels of each episode."""
    lines = root / 'meta/episodes.jsonl'
    if lines.exists():
        rows = [json.loads(line) for line in lines.read_text().splitlines()]
    else:
        rows = [
            row for path in sorted(root.glob('meta/episodes/*/*.parquet'))
            for row in pq.read_table(path).to_pylist()
        ]  # fmt: skip
    return [tuple(row[f'labels/{label}'] for label in LABELS) for row in rows]


@pytest.mark.parametrize('keys', [('outcome', 'outcome'), ('',)])
def test_labels_that_cannot_be_columns_are_wrong_use(keys, tmp_path, profile, folders):
    with pytest.raises(UsageError, match=r'^labels: '):
        convert_arm(folders, tmp_path / 'out', profile, labels=keys)


def test_an_mcap_file_without_its_metadata_yaml_tells_what_was_noted(tmp_path):
    path = tmp_path / 'r.mcap'
    with path.open('wb') as stream:
        writer = Writer(stream)
        writer.start('ros2')
        for text in ('version: 9\ncustom_data: ~', 'version: 9\ncustom_data: {outcome: "1"}'):
            writer.add_metadata('rosbag2', {'serialized_metadata': text})
        writer.add_metadata('other', {'serialized_metadata': 'custom_data: {outcome: no}'})
        writer.finish()
    assert custom_data_of(path) == {'outcome': '1'}
    whole = path.read_bytes()
    for data in (whole[:-20], whole[:40], b'', b'custom_data: {a: 1}'):
        path.write_bytes(data)
        assert custom_data_of(path) == {}
    assert custom_data_of(tmp_path) == custom_data_of(tmp_path / 'absent') == {}
