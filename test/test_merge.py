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

"""Datasets are joined, taken apart and brought to another version without encoding anything."""

from __future__ import annotations

import json
from pathlib import Path
import shutil

import av
from conversions import numbers, opinion, rows, run
from dataset_files import decode, packets
from dataset_reading import info, tree
from kuavo_bag_converter.check.dataset import check_dataset
from kuavo_bag_converter.cli.main import run as command
from kuavo_bag_converter.dataset.record import read_record
from kuavo_bag_converter.jobs.joining.merge import merge, split
from kuavo_bag_converter.support.errors import DatasetError, UsageError
import numpy as np
from observers import Notes
from plain_robot import every, image, joint_state, jpeg, payloads_of, Robot
import pyarrow.parquet as pq
import pytest
from video_packets import encode

CAMERA, STATE = '/camera/image_raw', '/joint_states'
HEAD = 'observation.images.head'
GAP = 3.0
EPISODES, STATS = 'meta/episodes/chunk-000/file-000.parquet', 'meta/stats.json'


def bag(path, seconds=0.6, start=0.0, pause=0.0, size=(48, 64)):
    """Write a bag; behind a pause, its frames are another episode."""
    times = [every(hz, seconds) for hz in (10, 50)]
    if pause:
        times = [[*t, *(round(pause * 1e9) + n for n in t)] for t in times]
    robot = Robot()
    robot.publish(CAMERA, times[0], image('head_cam_h', size=size))
    robot.publish(STATE, times[1], joint_state(lambda n, _: [start + n / 10, -n]))
    return robot.write(path)


def profile(tmp_path, task='Do it', **camera):
    part = {'from': {'topic': STATE, 'field': 'position'}, 'names': ['a', 'b']}
    document = {
        'robot_type': 'made_up', 'fps': 10, 'task': task,
        'clock': {'from': {'topic': CAMERA}, 'fps': 10},
        'align': {'tolerance_ms': 100, 'on_gap': 'split'},
        'features': {
            'observation.state': {'parts': [part]},
            HEAD: {'camera': {'from': {'topic': CAMERA}, **camera}},
        },
    }  # fmt: skip
    path = tmp_path / f'{task}.yaml'
    path.write_text(json.dumps(document))
    return str(path)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Return a folder with bags a, b and c, and datasets of one, of the others and of all."""
    root = tmp_path_factory.mktemp('merge')
    bags = {
        'a': bag(root / 'a', pause=GAP),
        'b': bag(root / 'b', 0.8, 5),
        'c': bag(root / 'c', 0.5, 9, GAP),
    }
    for version in ('v3.0', 'v2.1'):
        for name in ('a', 'bc', 'abc'):
            run([bags[one] for one in name], root / f'{name}_{version}',
                profile=profile(root), lerobot_version=version)  # fmt: skip
    return root


def differing(first, second):
    found, expected = tree(first), tree(second)
    return {name for name in found | expected if found.get(name) != expected.get(name)}


def check_pictures(root, other):
    """Check that videos hold the same packets, whatever their headers say of the bit rate."""
    videos = sorted(path.relative_to(root) for path in root.glob('videos/*/*/*'))
    assert videos == sorted(path.relative_to(other) for path in other.glob('videos/*/*/*'))
    for path in videos:
        assert packets(root / path) == packets(other / path)
    return {str(path) for path in videos}


def check_statistics(root, other, rtol=1e-12):
    """Check that those of two datasets are equal, but for how they are rounded."""
    found, expected = (json.loads((one / STATS).read_text()) for one in (root, other))
    assert list(found) == list(expected)
    for key, values in expected.items():
        assert list(found[key]) == list(values)
        for name in values:
            np.testing.assert_allclose(found[key][name], values[name], rtol=rtol, atol=1e-12)


def check_equal(root, other):
    """Check that v3.0 datasets are equal, but for how statistics of all pictures are rounded."""
    assert differing(root, other) <= {EPISODES, STATS}
    assert pq.read_table(root / EPISODES).equals(pq.read_table(other / EPISODES))
    check_statistics(root, other)
    assert check_dataset(root) == []


def test_joined_datasets_are_the_one_of_all_bags(world, tmp_path):
    inputs = [world / f'{name}_v3.0' for name in ('a', 'bc')]
    before = [tree(root) for root in inputs]
    joined = merge(list(map(str, inputs)), str(world / 'joined'))
    assert str(joined) == f'{world / "joined"}: 5 episodes, 27 frames'
    assert [tree(root) for root in inputs] == before
    check_equal(world / 'joined', world / 'abc_v3.0')
    shared = {path.stat().st_ino for root in inputs for path in root.rglob('*')}
    assert not shared & {path.stat().st_ino for path in (world / 'joined').rglob('*')}
    assert sorted(path.name for path in world.glob('joined*')) == ['joined']


@pytest.mark.parametrize('version', ['v3.0', 'v2.1'])
def test_jpegs_and_streams_as_they_were_recorded_do_not_go_together(tmp_path, version):
    values = {'profile': profile(tmp_path), 'video': 'auto', 'lerobot_version': version}
    roots = {}
    for name, make in (
        ('jpeg', jpeg('head_cam_h', size=(48, 64))),
        ('h264', payloads_of(encode('h264', 6, 6), 'h264')),
    ):
        robot = Robot().publish(CAMERA, every(10, 0.6), make)
        robot.publish(STATE, every(50, 0.6), joint_state(lambda n, _: [n, -n]))
        roots[name] = robot.write(tmp_path / name), tmp_path / f'dataset_{name}'
        run(roots[name][0], roots[name][1], **values)
    for one, other in (('jpeg', 'h264'), ('h264', 'jpeg')):
        before = tree(roots[one][1])
        (outcome,) = run(roots[other][0], roots[one][1], append=True, **values).outcomes
        told = [{'jpeg': 'mjpeg'}.get(name, name) for name in (one, other)]
        assert 'its {} (video.codec) is {}, the new episodes have {}'.format(HEAD, *told) in (
            outcome.reason
        )
        changed = dict(tree(roots[one][1]).items() ^ before.items())
        assert all(name.startswith('conversion/') for name in changed)
        with pytest.raises(UsageError, match=r'\(video\.codec\) is .* only datasets of equal'):
            merge([str(roots[name][1]) for name in (one, other)], str(tmp_path / 'joined'))
    (video,) = roots['jpeg'][1].glob('videos/**/*.mp4')
    shutil.copy(*roots['h264'][1].glob('videos/**/*.mp4'), video)
    assert 'video.info' in [one.rule for one in check_dataset(roots['jpeg'][1])]


def test_settings_in_the_words_of_a_former_version_are_the_same_ones(world):
    shutil.copytree(world / 'a_v3.0', world / 'former')
    path = world / 'former/conversion/report.json'
    document = json.loads(path.read_text())
    assert document['settings'].pop('dataset_format') == 'lerobot'
    assert document['settings']['depth_coding'] == 'original'
    document['settings']['depth_coding'] = 'minmax8'
    path.write_text(json.dumps(document))
    merge([str(world / name) for name in ('former', 'bc_v3.0')], str(world / 'of_former'))
    left = differing(world / 'of_former', world / 'abc_v3.0')
    assert left <= {EPISODES, STATS, 'conversion/report.json'}
    assert check_dataset(world / 'of_former') == []


def test_joined_datasets_of_v21_are_the_one_of_all_bags(world):
    inputs = [str(world / f'{name}_v2.1') for name in ('a', 'bc')]
    assert merge(inputs, str(world / 'joined21')).problem == ''
    assert differing(world / 'joined21', world / 'abc_v2.1') == set()


def test_a_joined_dataset_is_added_to_and_verified_as_any(world):
    merge([str(world / f'{name}_v3.0') for name in 'a'], str(world / 'grown'))
    done = run([world / name for name in 'abc'], world / 'grown', append=True,
               profile=profile(world))  # fmt: skip
    assert [one.status for one in done.outcomes] == ['present', 'converted', 'converted']
    assert info(world / 'grown')['total_episodes'] == 5
    findings, _ = opinion(world / 'grown', [world / name for name in 'abc'])
    assert findings == []


def test_v30_becomes_the_v21_that_the_bags_make(world):
    merge([str(world / 'abc_v3.0')], str(world / 'older'), version='v2.1')
    videos = check_pictures(world / 'older', world / 'abc_v2.1')
    left = differing(world / 'older', world / 'abc_v2.1') - videos
    assert left <= {'meta/modality.json'}


def test_v21_becomes_v30(world):
    merge([str(world / 'abc_v2.1')], str(world / 'newer'), version='v3.0')
    assert check_dataset(world / 'newer') == []
    videos = check_pictures(world / 'newer', world / 'abc_v3.0')
    left = differing(world / 'newer', world / 'abc_v3.0') - videos
    # v2.1 tells neither the settings of encoders nor quantiles of pictures, which are those of
    # the decoded pictures then.
    assert left <= {EPISODES, STATS, 'meta/info.json', 'meta/modality.json'}
    features = info(world / 'newer')['features']
    assert features[HEAD]['info']['is_depth_map'] is False
    assert 'video.is_depth_map' not in features[HEAD]['info']
    found, expected = (json.loads((world / n / STATS).read_text()) for n in ('newer', 'abc_v3.0'))
    assert found['observation.state'] == expected['observation.state']
    for name in ('min', 'mean', 'std', 'q50', 'max'):
        np.testing.assert_allclose(found[HEAD][name], expected[HEAD][name], atol=0.06)


@pytest.mark.parametrize('version', ['v3.0', 'v2.1'])
def test_parts_of_a_dataset_have_its_episodes_once(world, version):
    notes = Notes()
    whole, root = world / f'abc_{version}', world / f'split_{version}'
    made = split(str(whole), str(root), {'train': '.6', 'val': '0.4'}, observer=notes)
    assert {place.name: size for place, size in made.made.items()} == {
        'train': (3, 18), 'val': (2, 9)
    }  # fmt: skip
    for name in ('train', 'val'):
        assert check_dataset(root / name) == []
    columns = [rows(root / name)['observation.state'] for name in ('train', 'val')]
    assert np.array_equal(np.concatenate(columns), rows(whole)['observation.state'])
    pictures = [numbers(root / name, HEAD) for name in ('train', 'val')]
    assert [*pictures[0], *pictures[1]] == list(numbers(whole, HEAD))
    recorded = [read_record(root / name).bags for name in ('train', 'val')]
    assert [[bag.path.name for bag in bags] for bags in recorded] == [['a', 'b'], ['c']]
    assert notes.lines == []


def test_recordings_that_are_joined_twice_are_told(world):
    notes = Notes()
    inputs = [str(world / name) for name in ('bc_v3.0', 'a_v3.0', 'abc_v2.1')]
    merge(inputs, str(world / 'double'), version='v3.0', observer=notes)
    assert notes.lines == [
        f'3 bags more than once, the first {world / "b"}: its episodes are repeated'
    ]


def test_episodes_of_a_bag_in_part_are_said_to_have_no_record(world):
    notes = Notes()
    split(str(world / 'abc_v3.0'), str(world / 'some'), {'': '1:3,4'}, observer=notes)
    expected = rows(world / 'abc_v3.0')
    kept = np.isin(expected['episode_index'], [1, 2, 4])
    assert np.array_equal(rows(world / 'some')['observation.state'],
                          expected['observation.state'][kept])  # fmt: skip
    assert [bag.path.name for bag in read_record(world / 'some').bags] == ['b']
    assert notes.lines == [
        f'{world / "abc_v3.0"}: 2 episodes of bags that are there in part only: conversion/ does '
        'not tell their bags'
    ]
    assert check_dataset(world / 'some') == []


@pytest.mark.parametrize(
    ('parts', 'error'),
    [
        ({}, 'no part given'),
        ({'a': '0.6', 'b': '0.6'}, 'shares of 1.2 in all'),
        ({'a': '3:9'}, 'a: 3:9 is not among the 5 episodes, 0:5'),
        ({'a': '2:2'}, 'a: 2:2 is not among'),
        ({'a': '0:2', 'b': '1'}, 'episode 1 is in a and in b'),
        ({'a': '0:5', 'b': '0.5'}, 'b would have no episode of 5'),
        ({'a/b': '0.5'}, "'a/b' is no name of a folder"),
        ({'a': 'some'}, "a: expected ranges such as 0:10,15 or a share such as 0.8, found 'some'"),
    ],
)
def test_parts_that_cannot_be_are_refused(world, tmp_path, parts, error):
    with pytest.raises(UsageError, match=error):
        split(str(world / 'abc_v3.0'), str(tmp_path / 'out'), parts)
    assert not list(tmp_path.iterdir())


def test_datasets_that_differ_are_not_joined(world, tmp_path):
    run([world / 'a'], tmp_path / 'crf', profile=profile(tmp_path), crf=30)
    small = profile(tmp_path, size={'width': 32, 'height': 24})
    run([world / 'a'], tmp_path / 'small', profile=small)
    document = json.loads(Path(profile(tmp_path)).read_text())
    document['align']['tolerance_ms'] = 200
    (tmp_path / 'other.yaml').write_text(json.dumps(document))
    run([world / 'a'], tmp_path / 'aligned', profile=str(tmp_path / 'other.yaml'))
    (tmp_path / 'none').mkdir()
    for name, error in {
        'crf': r'was made with other settings than .*abc_v3\.0 \(crf is 30 and 23\)',
        'small': r'its observation.images.head \(shape\) is \(24, 32, 3\), that of',
        'aligned': r'what a frame is made of \(conversion/profile.yaml\)',
        'none': r'none: meta/info\.json: info\.missing: found no file',
    }.items():
        with pytest.raises(UsageError, match=error):
            merge([str(world / 'abc_v3.0'), str(tmp_path / name)], str(tmp_path / 'out'))
    with pytest.raises(UsageError, match='exists already'):
        merge([str(world / 'abc_v3.0')], str(tmp_path / 'crf'))
    with pytest.raises(UsageError, match=r'expected one of v3\.0, v2\.1'):
        merge([str(world / 'abc_v3.0')], str(tmp_path / 'out'), version='v3')
    with pytest.raises(UsageError, match='lies in'):
        merge([str(world / 'a_v3.0')], str(world / 'a_v3.0' / 'copy'))
    assert not list(tmp_path.glob('out*'))


def test_the_commands_join_and_take_apart(world, capsys):
    inputs = [str(world / f'{name}_v3.0') for name in ('a', 'bc')]
    assert command(['merge', *inputs, '-o', str(world / 'by_command')]) == 0
    assert capsys.readouterr().out == f'{world / "by_command"}: 5 episodes, 27 frames\n'
    words = ['split', str(world / 'by_command'), '--output', str(world / 'taken')]
    assert command([*words, '--parts', 'one=0:1', 'rest=1.0']) == 0
    made = capsys.readouterr().out.splitlines()
    assert made == [f'{world}/taken/one: 1 episode, 6 frames',
                    f'{world}/taken/rest: 4 episodes, 21 frames']  # fmt: skip
    assert command([*words, '--episodes', '0']) == 2
    assert 'exists already' in capsys.readouterr().err


def with_reordered_pictures(root):
    """Encode the videos of a dataset again, with pictures stored before they are shown."""
    for path in root.glob('videos/*/*/*.mp4'):
        pictures = decode(path)
        with av.open(str(path), 'w') as container:
            stream = container.add_stream('libx264', 10, options={'bf': '2', 'g': '12'})
            stream.height, stream.width, _ = pictures[0].shape
            for picture in pictures:
                frame = av.VideoFrame.from_ndarray(picture, format='rgb24')
                container.mux(stream.encode(frame.reformat(format='yuv420p')))
            container.mux(stream.encode(None))
        assert [time for time, _, _ in packets(path)] != sorted(t for t, _, _ in packets(path))
    shutil.rmtree(root / 'conversion')


def test_videos_that_cannot_be_cut_are_kept_whole_or_refused(world, tmp_path):
    shutil.copytree(world / 'abc_v3.0', tmp_path / 'reordered')
    with_reordered_pictures(tmp_path / 'reordered')
    inputs = [tmp_path / 'reordered', world / 'bc_v3.0']
    merge(list(map(str, inputs)), str(tmp_path / 'joined'))
    shown = [number for root in inputs for number in numbers(root, HEAD)]
    assert list(numbers(tmp_path / 'joined', HEAD)) == shown
    kept, other = sorted((tmp_path / 'joined').glob('videos/*/*/*'))
    assert kept.read_bytes() == next(inputs[0].glob('videos/*/*/*')).read_bytes()
    assert packets(other) == packets(next(inputs[1].glob('videos/*/*/*')))
    for act in (
        lambda: split(str(inputs[0]), str(tmp_path / 'out'), {'a': '0.4'}),
        lambda: merge([str(inputs[0])], str(tmp_path / 'out'), version='v2.1'),
    ):
        with pytest.raises(DatasetError, match=r'file-000\.mp4: its pictures are stored in an'):
            act()
    assert not list(tmp_path.glob('out*'))


def test_damaged_datasets_are_named(world, tmp_path):
    shutil.copytree(world / 'a_v3.0', tmp_path / 'a')
    (data,) = (tmp_path / 'a').glob('data/*/*')
    table = pq.read_table(data)
    index = table.schema.get_field_index('frame_index')
    moved = table.set_column(index, 'frame_index', table['frame_index'].combine_chunks()[::-1])
    pq.write_table(moved, data)
    with pytest.raises(DatasetError, match='episode 0: its rows are not where the metadata says'):
        merge([str(tmp_path / 'a')], str(tmp_path / 'out'))
    data.write_bytes(b'PAR1')
    with pytest.raises(DatasetError, match='episode 0: its rows cannot be read'):
        merge([str(tmp_path / 'a')], str(tmp_path / 'out'))
    (tmp_path / 'a' / 'meta/tasks.parquet').unlink()
    with pytest.raises(UsageError, match=r'tasks\.missing'):
        merge([str(tmp_path / 'a')], str(tmp_path / 'out'))
    assert [path.name for path in tmp_path.iterdir()] == ['a']
