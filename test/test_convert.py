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

"""Bags to datasets, checked against what the bags are known to hold."""

from __future__ import annotations

from collections import Counter
import shutil

from conversions import (
    alignment,
    COLOR,
    DEPTH,
    numbers,
    pictures,
    report,
    rows,
    run,
    same_frames,
    serving,
)
from dataset_reading import info, tree
from hypothesis import given, HealthCheck, settings
from hypothesis import strategies as st
from kuavo_bag_converter.cli.main import run as command
from kuavo_bag_converter.jobs.report import Observer
from kuavo_bag_converter.sample.write import write_sample
from kuavo_bag_converter.settings import parse_assignments, read_params_file, settings_from
from kuavo_bag_converter.support.errors import UsageError
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

SIZE = {'resize__width': 160, 'resize__height': 120}
SMALL = {**SIZE, 'sample_drop': 3}


@pytest.fixture(scope='module')
def samples(tmp_path_factory):
    """Return the same recording in the three storages, and its truth."""
    folder = tmp_path_factory.mktemp('samples')
    paths = {'bag': 'sample.bag', 'mcap': 'mcap/sample', 'sqlite3': 'sqlite3/sample'}
    truths = {
        storage: write_sample(folder / path, storage=storage, seconds=2.5, size=(120, 160))
        for storage, path in paths.items()
    }
    return {storage: folder / path for storage, path in paths.items()}, truths['bag']


@pytest.fixture(scope='module')
def sample(samples):
    return samples[0]['bag']


@pytest.fixture(scope='module')
def truth(samples):
    return samples[1]


@pytest.fixture(scope='module')
def dataset(sample, tmp_path_factory):
    root = tmp_path_factory.mktemp('dataset') / 'sample'
    assert run(sample, root, **SMALL).exit_code == 0
    return root


def test_the_storage_of_a_recording_does_not_show_in_the_dataset(samples, dataset, tmp_path):
    for storage, path in samples[0].items():
        run(path, tmp_path / storage, **SMALL)
        assert same_frames(tmp_path / storage) == same_frames(dataset)


def test_every_picture_is_the_one_that_the_plan_names(dataset):
    for key, topic in (COLOR | DEPTH).items():
        shown = numbers(dataset, key)
        assert [number for _, number in shown] == serving(dataset, topic).tolist(), key
        assert len({camera for camera, _ in shown}) == 1
        assert len(shown) == len(serving(dataset, topic)) > 10


def test_state_and_action_are_exactly_what_the_messages_hold(dataset, truth):
    def values(topic, field):
        known = truth.topics[topic]
        return known.ramps[field].at(known.time[serving(dataset, topic)])

    joints = values('/sensors_data_raw', 'joint_data.joint_q')
    claws = values('/leju_claw_state', 'data.position') / 100
    state = [joints[:, 12:19], claws[:, :1], joints[:, 19:26], claws[:, 1:]]
    arms = np.deg2rad(values('/kuavo_arm_traj', 'position'))
    claws = values('/leju_claw_command', 'data.position') / 100
    action = [arms[:, :7], claws[:, :1], arms[:, 7:], claws[:, 1:]]
    table = rows(dataset)
    for key, parts in (('observation.state', state), ('action', action)):
        expected = np.concatenate(parts, axis=1).astype(np.float32)
        assert (table[key].astype(np.float32) == expected).all(), key
        assert len(np.unique(expected, axis=0)) == len(expected)


def test_frames_are_those_of_the_original_converter(dataset, truth):
    stamps = truth.topics[COLOR['observation.images.head_cam_h']].receive
    used = {*COLOR.values(), *DEPTH.values(), '/sensors_data_raw', '/joint_cmd',
            '/kuavo_arm_traj', '/leju_claw_state', '/leju_claw_command'}  # fmt: skip
    end = min(truth.topics[topic].receive[-1] for topic in used)
    expected = [stamp for stamp in stamps[3:-3][::3] if stamp < end]
    assert alignment(dataset)['frame_stamp_ns'].tolist() == expected
    for topic in used - {'/joint_cmd'}:
        nearest = [np.argmin(np.abs(truth.topics[topic].receive - t)) for t in expected]
        assert serving(dataset, topic).tolist() == nearest


def test_info_describes_a_lerobot_dataset(dataset):
    described = info(dataset)
    assert described['codebase_version'] == 'v3.0'
    assert described['fps'] == 10
    assert described['robot_type'] == 'kuavo4pro'
    features = described['features']
    assert features['observation.state']['shape'] == [16]
    assert features['action']['names'] == [
        *(f'zarm_l{i}_link' for i in range(1, 8)), 'left_claw',
        *(f'zarm_r{i}_link' for i in range(1, 8)), 'right_claw',
    ]  # fmt: skip
    for key in COLOR | DEPTH:
        assert features[key]['shape'] == [120, 160, 3]


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(chunk_size=st.integers(1, 40), threads=st.integers(1, 4))
def test_chunks_and_threads_do_not_change_a_result(
    sample, dataset, tmp_path_factory, chunk_size, threads
):
    root = tmp_path_factory.mktemp('chunks') / 'dataset'
    run(sample, root, chunk_size=chunk_size, threads=threads, **SMALL)
    assert same_frames(root) == same_frames(dataset)


def test_copied_pictures_are_the_very_packets_of_the_bag(sample, truth, tmp_path):
    run(sample, tmp_path / 'copy', video='copy', **SMALL)
    jpegs = Counter()
    for path in (tmp_path / 'copy').glob('videos/observation.images.*/*/*.mp4'):
        content = path.read_bytes()
        start = content.index(b'\xff\xd8')
        jpegs[path.parts[-3]] = content.count(b'\xff\xd8\xff')
        assert content[slice(start, start + 64)] in sample.read_bytes()
    assert set(jpegs.values()) == {info(tmp_path / 'copy')['total_frames']}
    for key, topic in COLOR.items():
        shown = [number for _, number in numbers(tmp_path / 'copy', key)]
        assert shown == serving(tmp_path / 'copy', topic).tolist()


def picture_and_state_times(root, truth):
    """Return for each frame when its main picture and its state were taken, ns."""
    table = rows(root)['observation.state'].astype(np.float64)
    ramp = truth.topics['/sensors_data_raw'].ramps['joint_data.joint_q']
    first, last = ramp.first[12:19], ramp.last[12:19]
    shares = (table[:, :7] - first) / (last - first)
    head = truth.topics[COLOR['observation.images.head_cam_h']]
    return head.time[serving(root, COLOR['observation.images.head_cam_h'])], (
        ramp.start + np.median(shares, axis=1) * ramp.duration
    )


def test_on_header_stamps_the_state_is_as_near_to_the_picture_as_the_strategy_promises(
    sample, truth, tmp_path
):
    off = {}
    for strategy in ('nearest', 'linear', 'hold'):
        values = {'align__timeline': 'header', 'align__strategy': strategy, 'use_depth': False}
        run(sample, tmp_path / strategy, **SMALL, **values)
        picture, state = picture_and_state_times(tmp_path / strategy, truth)
        off[strategy] = (state - picture) / 1e6
    half_a_joint_period = 1.0
    float32 = 0.02
    assert np.abs(off['nearest']).max() <= half_a_joint_period + 0.1 + float32
    assert np.abs(off['linear']).max() < 0.1
    assert off['hold'].max() <= float32


def test_several_bags_become_several_episodes(samples, tmp_path):
    paths = list(samples[0].values())
    outcome = run(paths, tmp_path / 'three', task_description='Stack', **SMALL)
    assert (outcome.exit_code, outcome.episodes) == (0, 3)
    table = rows(tmp_path / 'three')
    assert table['index'].tolist() == list(range(outcome.frames))
    assert Counter(table['episode_index'].tolist()) == dict.fromkeys(range(3), outcome.frames // 3)
    assert info(tmp_path / 'three')['total_episodes'] == 3


def test_num_used_draws_the_same_bags_every_time(samples, tmp_path):
    paths = list(samples[0].values())
    for name in ('one', 'two'):
        run(paths, tmp_path / name, num_used=2, **SMALL)
    assert tree(tmp_path / 'one') == tree(tmp_path / 'two')
    assert len(report(tmp_path / 'one')['bags']) == 2


def test_a_bag_that_fails_is_named_and_does_not_stop_the_others(samples, tmp_path, capsys):
    broken = tmp_path / 'broken.bag'
    broken.write_bytes(b'#ROSBAG V2.0\n')
    code = command(
        ['convert', str(broken), str(samples[0]['bag']), '--output', str(tmp_path / 'dataset'),
         '--set', 'sample_drop=3', '--set', 'resize={width: 160, height: 120}']
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert code == 1
    assert 'broken.bag  failed' in printed
    assert 'peak memory' in printed
    outcomes = report(tmp_path / 'dataset')['bags']
    assert [outcome['status'] for outcome in outcomes] == ['failed', 'converted']
    assert not (tmp_path / 'dataset.unfinished').exists()


def test_on_error_stop_ends_the_run_and_names_what_was_skipped(samples, tmp_path):
    broken = tmp_path / 'broken.bag'
    broken.write_bytes(b'#ROSBAG V2.0\n')
    outcome = run([broken, samples[0]['bag']], tmp_path / 'dataset', on_error='stop', **SMALL)
    assert [item.status for item in outcome.outcomes] == ['failed', 'skipped']
    assert sorted(path.name for path in tmp_path.iterdir()) == ['broken.bag']


class NotPlanned(Observer):
    """Fails the test when a bag is planned."""

    def planned(self, number, plan):
        pytest.fail('the bag was planned')


def test_each_encoder_has_a_preset_of_its_own(sample, tmp_path):
    root = tmp_path / 'dataset'
    run(sample, root, vcodec='libsvtav1', **SMALL)
    cameras = [entry['info'] for entry in info(root)['features'].values() if 'info' in entry]
    assert {camera['video.preset'] for camera in cameras} == {10}
    assert report(root)['settings']['preset'] == '10'
    wrong = {'vcodec': 'libsvtav1', 'preset': 'superfast', **SMALL}
    with pytest.raises(UsageError, match=r'superfast.* does not go with vcodec libsvtav1'):
        run(sample, tmp_path / 'refused', observer=NotPlanned(), **wrong)


@pytest.mark.parametrize(
    ('vcodec', 'preset', 'meant'),
    [
        ('h264', 'auto', 'superfast'),
        ('hevc', 'auto', 'ultrafast'),
        ('auto', 'fastest', 'ultrafast'),
        ('hevc_nvenc', 'fastest', 'ultrafast'),
        ('libsvtav1', 'fastest', '12'),
    ],
)
def test_words_for_presets_mean_one_of_the_codec(vcodec, preset, meant):
    settings = settings_from({'vcodec': vcodec, 'preset': preset}, 'test')
    assert settings.encoder_preset == meant


@pytest.mark.parametrize('way', ['python', 'params-file', 'set'])
def test_a_preset_may_be_written_as_the_number_it_is(tmp_path, way):
    file = tmp_path / 'av1.yaml'
    file.write_text('/**: {ros__parameters: {vcodec: libsvtav1, preset: 12}}')
    values = {
        'python': {'vcodec': 'libsvtav1', 'preset': 12},
        'params-file': read_params_file(str(file)),
        'set': parse_assignments(['vcodec=libsvtav1', 'preset=12']),
    }[way]
    assert settings_from(values, 'test').encoder_preset == '12'


@pytest.mark.parametrize(
    ('arguments', 'code', 'words'),
    [
        (['missing.bag', '--output', 'out'], 2, 'missing.bag: does not exist'),
        (['sample.bag', '--output', 'there'], 2, 'there: exists already'),
        (['sample.bag', '--output', 'out', '--set', 'train_hs=10'], 2, "did you mean 'train_hz'"),
        (['sample.bag', '--output', 'out', '--set', 'train_hz'], 2, 'expected name=value'),
        (['sample.bag', '--output', 'out', '--set', 'crf=99'], 2, 'crf'),
        (['sample.bag', '--output', 'out', '--set', 'crf=2026-13-01'], 2, 'not a valid value'),
        (['sample.bag', '--output', 'out', '--params-file', 'date.yaml'], 2, 'not valid YAML'),
        (
            ['sample.bag', '--output', 'out', '--set', 'preset=14'],
            2,
            'preset: expected one of auto',
        ),
        (['sample.bag', '--output', 'out', '--params-file', 'no.yaml'], 2, 'no.yaml'),
        (['sample.bag', '--output', 'out', '--params-file', 'typo.yaml'], 2, 'typo.yaml: unknown'),
        (['sample.bag'], 2, 'output'),
        (['--output', 'out'], 2, 'bags'),
        (['empty.bag', '--output', 'out'], 1, 'empty.bag'),
        (['sample.bag', '--output', 'out', '--set', 'eef_type=rq2f85'], 1, '/gripper/state'),
        (['sample.bag', '--output', 'out', '--set', 'platform_type=5w'], 1, 'expected 20'),
        (['sample.bag', '--output', 'out', '--set', 'sample_drop=900'], 1, 'too few to drop'),
        (['sample.bag', '--output', 'out', '--set', 'video=copy'], 1, 'video: copy needs'),
    ],
    ids=lambda value: ' '.join(value) if isinstance(value, list) else None,
)
def test_a_mistake_gives_one_line_and_leaves_nothing(
    sample, tmp_path, monkeypatch, capsys, arguments, code, words
):
    shutil.copy(sample, tmp_path / 'sample.bag')
    (tmp_path / 'empty.bag').touch()
    (tmp_path / 'there').mkdir()
    (tmp_path / 'typo.yaml').write_text('/**: {ros__parameters: {train_hs: 10}}')
    (tmp_path / 'date.yaml').write_text('/**: {ros__parameters: {crf: 2026-13-01}}')
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in tmp_path.rglob('*'))
    assert command(['convert', *arguments]) == code
    captured = capsys.readouterr()
    told = [line for line in (captured.err + captured.out).splitlines() if words in line]
    assert told
    assert 'Traceback' not in captured.err + captured.out
    if code == 2:
        assert len(captured.err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.rglob('*')) == before


def test_settings_come_from_a_ros_parameter_file_and_the_command_line_wins(
    sample, tmp_path, capsys
):
    params = tmp_path / 'params.yaml'
    params.write_text(
        '/**:\n  ros__parameters:\n    train_hz: 15\n    resize: {width: 160, height: 120}\n'
        'convert_node:\n  ros__parameters: {sample_drop: 3, use_depth: false}\n'
    )
    code = command(
        ['convert', str(sample), '--output', str(tmp_path / 'out'), '--params-file', str(params),
         '--set', 'sample_drop=5']
    )  # fmt: skip
    assert code == 0
    made = report(tmp_path / 'out')
    assert made['settings']['train_hz'] == 15
    assert made['settings']['sample_drop'] == 5
    assert 'observation.depth_h' not in info(tmp_path / 'out')['features']
    assert 'frames per second' in capsys.readouterr().out


def test_pictures_look_like_those_of_the_bag(dataset):
    for key in COLOR:
        for picture in pictures(dataset, key):
            assert picture.shape == (120, 160, 3)
            assert picture.std() > 20


@pytest.mark.parametrize('strategy', ['nearest', 'linear'])
def test_nothing_is_held_after_a_chunk(sample, tmp_path, strategy):
    values = {'debug_memory': True, 'chunk_size': 4, 'align__strategy': strategy}
    assert run(sample, tmp_path / 'out', **SMALL, **values).exit_code == 0


@pytest.mark.parametrize('version', ['v3.0', 'v2.1'])
@pytest.mark.parametrize('kept', ['cameras', 'vectors'])
def test_a_profile_with_cameras_only_or_vectors_only_makes_a_dataset(
    sample, dataset, tmp_path, kept, version
):
    profile = yaml.safe_load((dataset / 'conversion/profile.yaml').read_text())
    features = profile['features'].items()
    profile['features'] = {k: v for k, v in features if ('camera' in v) == (kept == 'cameras')}
    path = tmp_path / 'robot.yaml'
    path.write_text(yaml.safe_dump(profile, sort_keys=False))
    root = tmp_path / 'out'
    given = {'profile': str(path), 'lerobot_version': version}
    done = run(sample, root, **given)
    assert done.exit_code == 0
    assert list(info(root)['features'])[:-5] == list(profile['features'])
    assert (info(root)['video_path'] is None) == (kept == 'vectors')
    # It ends with the topics that are left, and may have more frames.
    table = pq.ParquetDataset(sorted(root.glob('data/*/*.parquet'))).read()
    assert table.num_rows == done.frames >= 10
    assert table['frame_index'].to_pylist() == list(range(done.frames))
    assert command(['verify', str(root), '--bags', str(sample)]) == 0
