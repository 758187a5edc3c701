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

"""Verifying finds every fault of a dataset that it can find, and none in a good one."""

from __future__ import annotations

from dataclasses import replace
import json
import os
from pathlib import Path
import shutil

from conversions import alignment, report, run, write_samples
from dataset_edits import (
    CAMERA,
    data_file,
    edit_column,
    edit_info,
    edit_json,
    episodes_file,
    lengths,
    reorder,
    swap_frames,
    video_file,
    write_groups,
)
from dataset_faults import FAULTS, one_row_group
from kuavo_bag_converter.check.dataset import check_dataset
from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.profiles.dump import profile_as_yaml
from kuavo_bag_converter.profiles.model import Episodes, TimeRange
from kuavo_bag_converter.replay.verify import verify
from kuavo_bag_converter.robots.resolve import resolve
from kuavo_bag_converter.sample.write import write_sample
from kuavo_bag_converter.settings import settings_from
from kuavo_bag_converter.support.errors import UsageError
import numpy as np
import pyarrow.parquet as pq
import pytest
from record_files import edit_record
from rosbags.rosbag1 import Reader, Writer

SIZE = {'resize__width': 128, 'resize__height': 96}
SIZED = {name.replace('__', '.'): value for name, value in SIZE.items()}
KINDS = {
    'v3.0': {},
    'v2.1': {'lerobot_version': 'v2.1'},
    'copy': {'video': 'copy'},
    'hevc': {'vcodec': 'hevc', 'crf': 28, 'preset': 'ultrafast'},
    'av1': {'vcodec': 'libsvtav1', 'crf': 30, 'preset': '12'},
    'yuv444p': {'pix_fmt': 'yuv444p', 'gop': 30},
    'metric12': {'use_depth': True, 'depth_coding': 'metric12'},
    'range8': {'use_depth': True, 'depth_coding': 'range8'},
}


@pytest.fixture(scope='module')
def bags(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bags')
    write_samples(folder, 2, seconds=2.4, size=(96, 128), extras=False)
    return folder


@pytest.fixture(scope='module')
def datasets(bags, tmp_path_factory):
    """Return a good dataset of a kind; each is made once."""
    folder = tmp_path_factory.mktemp('datasets')

    def made(kind):
        root = folder / kind
        if not root.exists():
            values = {'use_depth': False, 'sample_drop': 2} | SIZE | KINDS[kind]
            assert run(bags, root, **values).exit_code == 0
        return root

    return made


@pytest.fixture
def copy_of(datasets, tmp_path):
    """Return a copy of a good dataset, to be damaged."""

    def copied(kind):
        root = tmp_path / 'dataset'
        shutil.copytree(datasets(kind), root)
        return root

    return copied


def rules(findings):
    return {finding.rule for finding in findings}


def cheap(root):
    return rules(check_dataset(root, 'cheap'))


def full(root):
    return rules(check_dataset(root, 'full'))


def with_bags(root, bags, sample=None):
    return rules(verify(root, [str(bags)], sample).findings)


@pytest.mark.parametrize('kind', KINDS)
def test_a_good_dataset_has_no_findings(datasets, bags, kind):
    root = datasets(kind)
    assert check_dataset(root, 'cheap') == []
    for sample in (None, 3):
        result = verify(root, [str(bags)], sample)
        assert result.findings == ()
        assert len(result.bags) == 2
        assert all(camera.frames for camera in result.cameras)


@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_is_found(copy_of, bags, fault):
    kind, damage, expected = FAULTS[fault]
    root = copy_of(kind)
    damage(root)
    checks = {'cheap': cheap, 'full': full, 'bags': lambda root: with_bags(root, bags)}
    was_found = False
    for name, check in checks.items():
        if name in expected:
            found = check(root)
            assert any(rule.startswith(expected[name]) for rule in found), found
            was_found = True
        elif not was_found:
            assert check(root) == set()


DAMAGES = {
    'cut in half': lambda data: data[: len(data) // 2],
    'emptied': lambda _: b'',
    'with zeros in the middle': lambda data: (
        data[: len(data) // 3] + bytes(64) + data[slice(len(data) // 3 + 64, None)]
    ),
    'with zeros at the end': lambda data: data[:-40] + bytes(40),
}


@pytest.fixture(scope='module', params=['v3.0', 'v2.1'])
def little(request, tmp_path_factory):
    """Return a dataset of few frames and one camera."""
    folder = tmp_path_factory.mktemp('little')
    write_sample(folder / 'bag.bag', seconds=1, size=(48, 64), extras=False, depth=False)
    values = {'use_depth': False, 'sample_drop': 2, 'resize__width': 64, 'resize__height': 48}
    root = folder / 'out'
    run(folder / 'bag.bag', root, which_arm='left', lerobot_version=request.param, **values)
    return root


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_file_is_a_finding_and_no_crash(little, tmp_path, damage):
    root = tmp_path / 'dataset'
    shutil.copytree(little, root)
    unnoticed = set()
    # What the alignment should be, only the bags can tell.
    shutil.rmtree(root / 'conversion/alignment')
    for path in [path for path in root.rglob('*') if path.is_file()]:
        whole = path.read_bytes()
        rows = pq.read_table(path) if path.suffix == '.parquet' else None
        path.write_bytes(DAMAGES[damage](whole))
        # The zeros may meet a description of a column that pyarrow writes twice, and none reads.
        if full(root) == {'conversion.missing'} and (rows is None or rows != pq.read_table(path)):
            unnoticed.add(path.suffix)
        path.write_bytes(whole)
    # A decoder may hide damage in the middle of a picture.
    assert unnoticed <= ({'.mp4'} if 'zeros' in damage else set())


def as_lerobot_writes(root):
    """Turn a v3.0 dataset into one as LeRobot's own recorder leaves it."""
    shutil.rmtree(root / 'conversion')
    for path in root.glob('videos/*/*/*.mp4'):
        path.chmod(0o600)
    # Positions are sums of probed durations, which drift.
    prefix = f'videos/{CAMERA}'
    edit_column(
        episodes_file(root),
        f'{prefix}/from_timestamp',
        lambda t: [v + 3e-6 * i for i, v in enumerate(t)],
    )
    table = pq.ParquetFile(data_file(root)).read()
    metadata = table.schema.metadata[b'huggingface'].replace(b'Sequence', b'List')
    table = table.replace_schema_metadata({'huggingface': metadata})
    write_groups(data_file(root), table, [table.num_rows])

    def less_exact(document):
        for statistics in document.values():
            for name in ('mean', 'std'):
                statistics[name] = np.float32(statistics[name]).astype(float).tolist()
            # The weighted mean of the episodes' quantiles, each from a histogram.
            statistics['q50'] = statistics['mean']

    edit_json(root / 'meta/stats.json', less_exact)

    tasks = pq.ParquetFile(root / 'meta/tasks.parquet').read()
    pandas = json.loads(tasks.schema.metadata[b'pandas'])
    pandas['index_columns'] = ['__index_level_0__']
    tasks = tasks.rename_columns(['task_index', '__index_level_0__'])
    tasks = tasks.replace_schema_metadata({'pandas': json.dumps(pandas)})
    pq.write_table(tasks, root / 'meta/tasks.parquet')


def test_a_dataset_of_lerobot_need_not_follow_the_rules_of_this_writer(copy_of):
    root = copy_of('v3.0')
    as_lerobot_writes(root)
    assert check_dataset(root, 'cheap') == []
    assert check_dataset(root, 'full') == []


@pytest.mark.parametrize(
    'fault',
    [
        'video frame dropped',
        'row dropped',
        'value not a number',
        'mp4 truncated',
        'stats.json edited',
        'tasks missing',
        'task_index out of range',
        'timestamp off',
        'index not contiguous',
        'from_timestamp off',
        'total_frames off',
        'undeclared column',
        'names missing',
    ],
)
def test_faults_are_found_in_a_dataset_of_lerobot_too(copy_of, fault):
    _, damage, expected = FAULTS[fault]
    root = copy_of('v3.0')
    shutil.rmtree(root / 'conversion')
    damage(root)
    mode, rule = next(iter(expected.items()))
    area = rule.split('.')[0]
    assert any(name.startswith(area) for name in rules(check_dataset(root, mode)))


def test_what_lerobot_added_to_a_dataset_is_held_to_its_own_rules(copy_of):
    root = copy_of('v3.0')
    one_row_group(root)
    assert cheap(root) == {'data.row_groups'}

    def forget_last(document):
        document['bags'].pop()

    edit_record(root, forget_last)
    assert cheap(root) == set()


@pytest.mark.parametrize('mode', [0o600, 0o440, 0o000])
@pytest.mark.parametrize('kind', ['v3.0', 'v2.1'])
def test_permissions_are_the_users_as_long_as_files_can_be_read(copy_of, kind, mode):
    root = copy_of(kind)
    for path in root.rglob('*'):
        if path.suffix in ('.mp4', '.parquet'):
            path.chmod(mode)
    found = cheap(root)
    if os.access(video_file(root), os.R_OK):
        assert found == set()
    else:
        assert found >= {'video.unreadable', 'data.unreadable'} or 'episodes.unreadable' in found


def test_the_command_says_by_its_exit_code_what_it_found(copy_of, bags, tmp_path, capsys):
    root = copy_of('v3.0')
    assert cli.run(['verify', str(root)]) == 0
    assert 'nothing is wrong' in capsys.readouterr().out
    assert cli.run(['verify', str(root), '--bags', str(bags), '--sample', '2']) == 0
    assert 'state minus picture' in capsys.readouterr().out
    edit_info(root, total_frames=3)
    assert cli.run(['verify', str(root)]) == 1
    assert 'info.totals' in capsys.readouterr().out
    edit_info(root, robot_type='\x1b[2Jaloha')
    assert cli.run(['verify', str(root)]) == 1
    assert '\\x1b[2Jaloha' in capsys.readouterr().out
    assert cli.run(['verify', str(tmp_path / 'none')]) == 2
    assert cli.run(['verify', str(root), '--sample', '1']) == 2


def test_json_has_every_finding_and_where_it_is(copy_of, bags, capsys):
    root = copy_of('v3.0')
    reorder(root, swap_frames(7, 8))
    assert cli.run(['verify', str(root), '--bags', str(bags), '--all', '--json']) == 1
    document = json.loads(capsys.readouterr().out)
    assert not document['ok']
    found = {(item['rule'], item['feature'], item['episode']) for item in document['findings']}
    assert ('pictures.order', CAMERA, 0) in found
    order = next(item for item in document['findings'] if item['rule'] == 'pictures.order')
    assert order['frame'] == 7
    assert order['file'] == str(video_file(root).relative_to(root))


def test_many_wrong_rows_are_one_finding_with_their_number(copy_of):
    root = copy_of('v3.0')
    edit_column(data_file(root), 'timestamp', lambda times: [time + 1 for time in times])
    findings = check_dataset(root, 'cheap')
    assert [finding.places for finding in findings] == lengths(root)


def test_bags_are_looked_for_where_they_were_converted(datasets, bags):
    result = verify(datasets('v3.0'), [], 2)
    assert result.ok
    assert [Path(bag).name for bag in result.bags] == ['0.bag', '1.bag']


def test_a_bag_is_known_by_its_content_under_any_name(datasets, bags, tmp_path):
    moved = tmp_path / 'elsewhere' / 'renamed.bag'
    moved.parent.mkdir()
    shutil.copy(bags / '1.bag', moved)
    result = verify(datasets('v3.0'), [str(moved)], 2)
    assert result.ok
    assert [Path(bag).name for bag in result.bags] == ['1.bag']
    assert [Path(bag).name for bag in result.not_compared] == ['0.bag']


def test_a_bag_that_has_changed_is_named(datasets, tmp_path):
    changed = tmp_path / '1.bag'
    write_sample(changed, seconds=2.4, size=(96, 128), seed=9, extras=False)
    found = rules(verify(datasets('v3.0'), [str(changed)], None).findings)
    assert {'bags.changed', 'plan.alignment', 'rows.value', 'pictures.scene'} <= found


def test_bags_none_of_which_is_in_the_dataset_are_refused(datasets, tmp_path):
    other = tmp_path / 'other.bag'
    write_sample(other, seconds=1, size=(96, 128), seed=9, extras=False)
    with pytest.raises(UsageError, match=r'other\.bag: no bag that the dataset was made from'):
        verify(datasets('v3.0'), [str(other)])
    assert cli.run(['verify', str(datasets('v3.0')), '--bags', str(other)]) == 2


def test_bags_of_the_folder_that_are_not_in_the_dataset_are_listed(bags, tmp_path, capsys):
    folder = tmp_path / 'day'
    folder.mkdir()
    for name in ('0.bag', '1.bag'):
        shutil.copy(bags / name, folder)
    (folder / 'broken.bag').write_bytes(b'#ROSBAG V2.0\n' + bytes(500))
    root = tmp_path / 'out'
    values = {'use_depth': False, 'sample_drop': 2} | SIZE
    assert run(folder, root, **values).exit_code == 1
    # Another recording of a name that is in the dataset, and one that came later.
    (folder / 'later').mkdir()
    shutil.copy(bags / '0.bag', folder / 'later.bag')
    with (folder / 'later.bag').open('ab') as file:
        file.write(b'more')
    write_sample(folder / 'later' / '0.bag', seconds=1, size=(96, 128), seed=9, extras=False)
    paths = [str(folder), str(folder / 'later' / '0.bag')]
    assert cli.run(['verify', str(root), '--bags', *paths, '--sample', '2']) == 0
    text = capsys.readouterr().out
    result = verify(root, paths, 2)
    assert [Path(bag).name for bag in result.bags] == ['0.bag', '1.bag']
    broken, later, other = result.others
    assert broken.startswith(f'{folder / "broken.bag"} (failed: ')
    assert [later, other] == [str(folder / 'later.bag'), str(folder / 'later' / '0.bag')]
    for bag in result.others:
        assert f'not in the dataset: {bag}' in text
    document = result.as_json()
    assert document['bags_not_in_dataset'] == [broken, later, other]


def test_recorded_bags_that_are_gone_are_not_compared(bags, tmp_path):
    paths = [shutil.copy(bags / name, tmp_path) for name in ('0.bag', '1.bag')]
    root = tmp_path / 'out'
    run(paths, root, use_depth=False, sample_drop=2, **SIZE)
    Path(paths[0]).unlink()
    result = verify(root, [], 2)
    assert result.ok
    assert [Path(bag).name for bag in result.not_compared] == ['0.bag']
    Path(paths[1]).unlink()
    with pytest.raises(UsageError, match='the recorded paths: no bag'):
        verify(root, [], 2)


def test_a_dataset_without_a_record_cannot_be_compared_with_bags(copy_of, bags):
    root = copy_of('v3.0')
    shutil.rmtree(root / 'conversion')
    with pytest.raises(UsageError, match=r'conversion/report\.json: missing'):
        verify(root, [str(bags)])


def test_the_time_from_picture_to_state_is_that_of_the_alignment(datasets, bags):
    root = datasets('v3.0')
    result = verify(root, [str(bags)], 2)
    topics = [track['topic'] for track in report(root)['bags'][0]['plan']['tracks']]
    state = topics.index('/sensors_data_raw')
    picture = topics.index('/cam_h/color/image_raw/compressed')
    apart = np.concatenate(
        [
            alignment(root, bag)[f'track.{state}.error_ns']
            - alignment(root, bag)[f'track.{picture}.error_ns']
            for bag in (0, 1)
        ]
    )
    found = next(
        entry
        for entry in result.timing
        if (entry.state, entry.picture) == ('/sensors_data_raw', CAMERA)
    )
    assert found.frames == len(apart) == sum(lengths(root))
    assert found.median == pytest.approx(np.median(apart) / 1e6, abs=2e-3)
    assert found.p95 == pytest.approx(np.percentile(np.abs(apart), 95) / 1e6, abs=2e-3)
    assert found.max == pytest.approx(np.abs(apart).max() / 1e6, abs=2e-3)


@pytest.fixture(scope='module')
def bad_bag(bags, tmp_path_factory):
    """Return a bag with two pictures of the head camera that cannot be decoded."""
    target = tmp_path_factory.mktemp('bad') / 'bad.bag'
    left = {20, 41}
    number = 0
    with Reader(bags / '0.bag') as bag, Writer(target) as copy:
        connections = {
            c.id: copy.add_connection(
                c.topic, c.msgtype, msgdef=c.msgdef.data, md5sum=c.digest, callerid=c.ext.callerid
            )
            for c in bag.connections
        }
        for connection, stamp, data in bag.messages():
            if connection.topic == '/cam_h/color/image_raw/compressed':
                if number in left:
                    data = bytes(data).replace(b'\xff\xd8\xff', b'\0\0\0')  # noqa: PLW2901
                number += 1
            copy.write(connections[connection.id], stamp, data)
    return target


@pytest.mark.parametrize('on_bad_image', ['repeat', 'drop', 'split'])
@pytest.mark.parametrize('sample', [None, 2])
def test_frames_with_bad_pictures_are_as_the_setting_says(bad_bag, tmp_path, on_bad_image, sample):
    values = {'use_depth': False, 'sample_drop': 2, 'train_hz': 30} | SIZE
    outcome = run(bad_bag, tmp_path / 'out', on_bad_image=on_bad_image, **values)
    assert outcome.episodes == (3 if on_bad_image == 'split' else 1)
    assert verify(tmp_path / 'out', [], sample).findings == ()


WAYS = {
    'stream': ({'transport': 'h265'}, {}),
    'raw': ({'transport': 'raw'}, {'use_depth': True}),
    'linear, by header': ({}, {'align__strategy': 'linear', 'align__timeline': 'header'}),
    'differences': ({}, {'delta_action': True, 'relative_start': True, 'chunk_size': 7}),
    'base motion': ({'whole_body': True}, {'only_arm': False}),
    'gaps': ({'gaps': {'/sensors_data_raw': ((1.0, 1.4),)}}, {'align__tolerance_ms': 50.0}),
    'late': ({'starts': {'/leju_claw_command': 1.0}}, {'late_eef': 'zeros_then_hold'}),
}


@pytest.mark.parametrize('way', WAYS)
def test_every_way_of_converting_verifies(tmp_path, way):
    options, values = WAYS[way]
    bag = tmp_path / 'bag.bag'
    write_sample(bag, seconds=2, size=(96, 128), extras=False, **options)
    run(bag, tmp_path / 'out', **({'use_depth': False, 'sample_drop': 2} | SIZE | values))
    result = verify(tmp_path / 'out', [])
    assert result.findings == ()
    assert result.bags


def test_bags_that_were_added_later_verify(bags, tmp_path):
    values = {'use_depth': False, 'sample_drop': 2} | SIZE
    root = tmp_path / 'out'
    run(bags / '0.bag', root, **values)
    run(bags / '1.bag', root, append=True, **values)
    result = verify(root, [], 2)
    assert result.findings == ()
    assert len(result.bags) == 2


@pytest.fixture(scope='module')
def pieces(bags, tmp_path_factory):
    """Return a dataset of two episodes of one bag, each with a task of its own."""
    folder = tmp_path_factory.mktemp('pieces')
    topics = {'/leju_claw_state'}
    profile = resolve(settings_from({'use_depth': False} | SIZED, 'test'), topics)
    ranges = (TimeRange(0.2, 1.0, 'reach for it'), TimeRange(1.1, 2.0, 'put it away'))
    profile = replace(profile, episodes=Episodes(ranges=ranges))
    (folder / 'profile.yaml').write_text(profile_as_yaml(profile))
    root = folder / 'out'
    assert run(bags / '0.bag', root, profile=str(folder / 'profile.yaml')).episodes == 2
    return root


def test_pieces_of_a_bag_with_their_tasks_verify(pieces):
    assert verify(pieces, []).findings == ()


def test_a_task_of_another_episode_is_found(pieces, tmp_path):
    root = tmp_path / 'dataset'
    shutil.copytree(pieces, root)
    edit_column(root / 'meta/tasks.parquet', 'task', lambda tasks: tasks[::-1])
    edit_column(episodes_file(root), 'tasks', lambda tasks: tasks[::-1])
    assert full(root) == set()
    assert rules(verify(root, []).findings) == {'rows.task'}
