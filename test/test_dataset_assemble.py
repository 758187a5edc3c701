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

from dataclasses import replace
import json
from pathlib import Path
import tempfile

from dataset_files import (
    ACTION,
    COPIED,
    decode,
    DEPTH,
    FEATURES,
    FPS,
    FRONT,
    make_dataset,
    make_shard,
    make_shards,
    number_of,
    packets,
    rows,
    STATE,
    table,
    WRIST,
)
from dataset_reading import info, tree
from hypothesis import given, settings
from hypothesis import strategies as st
from kuavo_bag_converter.dataset.features import VideoOptions
from kuavo_bag_converter.dataset.layout import FileNumber
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.support.errors import DatasetError, UsageError
import numpy as np
import pyarrow.parquet as pq
import pytest

LENGTHS = [[5], [3, 4], [1], [6]]
EPISODES = [5, 3, 4, 1, 6]
STARTS = [0, 5, 8, 12, 13]
STATS = ['min', 'max', 'mean', 'std', 'count', 'q01', 'q10', 'q50', 'q90', 'q99']
DEFAULTS = ['timestamp', 'frame_index', 'episode_index', 'index', 'task_index']
TINY = 1e-6


@pytest.fixture(scope='module')
def shards(tmp_path_factory):
    return make_shards(tmp_path_factory.mktemp('shards'), LENGTHS)


@pytest.fixture(scope='module')
def dataset(shards, tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp('v30') / 'dataset', shards)


@pytest.fixture(scope='module')
def dataset21(shards, tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp('v21') / 'dataset', shards, version='v2.1')


def episodes(root):
    files = sorted(root.glob('meta/episodes/*/*.parquet'))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def numbers_of(root, key):
    """Read the number of each frame as LeRobot finds it: file, from_timestamp, timestamp."""
    found = []
    for episode in episodes(root):
        chunk, file = (episode[f'videos/{key}/{name}_index'] for name in ('chunk', 'file'))
        pictures = decode(root / f'videos/{key}/chunk-{chunk:03d}/file-{file:03d}.mp4')
        first = round(episode[f'videos/{key}/from_timestamp'] * FPS)
        last = round(episode[f'videos/{key}/to_timestamp'] * FPS)
        assert last - first == episode['length']
        found += [number_of(image) for image in pictures[first:last]]
    return found


def files_of(root, key):
    return sorted(str(file.relative_to(root)) for file in root.glob(f'videos/{key}/*/*'))


def test_rows_are_numbered_through_all_episodes(dataset):
    columns = table(dataset)
    assert list(columns) == [STATE.key, ACTION.key, *DEFAULTS]
    assert columns['index'] == list(range(19))
    assert columns['episode_index'] == [e for e, n in enumerate(EPISODES) for _ in range(n)]
    assert columns['frame_index'] == [k for n in EPISODES for k in range(n)]
    expected = [np.float32(k / FPS) for n in EPISODES for k in range(n)]
    assert columns['timestamp'] == expected
    written = rows([STATE, ACTION], 0, 19)
    assert (np.array(columns[STATE.key], np.float32) == written[STATE.key]).all()
    assert (np.array(columns[ACTION.key], np.float32) == written[ACTION.key][:, 0]).all()


def test_each_episode_is_a_row_group(dataset):
    metadata = pq.read_metadata(dataset / 'data/chunk-000/file-000.parquet')
    groups = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    assert groups == EPISODES


def test_the_table_describes_itself_for_all_versions_of_datasets(dataset):
    schema = pq.read_schema(dataset / 'data/chunk-000/file-000.parquet')
    assert str(schema.field(STATE.key).type) == 'fixed_size_list<element: float>[3]'
    assert str(schema.field(ACTION.key).type) == 'float'
    described = json.loads(schema.metadata[b'huggingface'])['info']['features']
    assert described[STATE.key]['_type'] == 'Sequence'
    assert list(described) == schema.names


def test_every_picture_is_found_by_its_time(dataset):
    for key in (FRONT.key, WRIST.key):
        assert numbers_of(dataset, key) == list(range(19))


def test_episodes_say_where_everything_is(dataset):
    found = episodes(dataset)
    assert [e['episode_index'] for e in found] == list(range(5))
    assert [e['length'] for e in found] == EPISODES
    assert [e['dataset_from_index'] for e in found] == STARTS
    assert [e['dataset_to_index'] for e in found] == [*STARTS[1:], 19]
    assert [e[f'videos/{FRONT.key}/from_timestamp'] for e in found] == [s / FPS for s in STARTS]
    assert [e['tasks'] for e in found] == [['pick']] * 5
    columns = set(found[0])
    keys = [*(feature.key for feature in FEATURES), *DEFAULTS]
    assert {c for c in columns if c.startswith('stats/')} == {
        f'stats/{key}/{name}' for key in keys for name in STATS
    }
    assert {c for c in columns if not c.startswith(('stats/', 'videos/'))} == {
        'episode_index',
        'tasks',
        'length',
        'data/chunk_index',
        'data/file_index',
        'dataset_from_index',
        'dataset_to_index',
        'meta/episodes/chunk_index',
        'meta/episodes/file_index',
    }


def test_statistics_are_exact_for_each_episode_and_for_all(dataset):
    values = rows([STATE], 0, 19)[STATE.key].astype(np.float64)
    stats = json.loads((dataset / 'meta/stats.json').read_text())
    assert list(stats) == [*(feature.key for feature in FEATURES), *DEFAULTS]
    assert list(stats[STATE.key]) == STATS
    np.testing.assert_allclose(stats[STATE.key]['std'], values.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(stats[STATE.key]['q10'], np.quantile(values, 0.1, axis=0))
    assert stats['index']['q50'] == [9.0]
    assert stats[FRONT.key]['count'] == [19]
    assert np.shape(stats[FRONT.key]['mean']) == (3, 1, 1)
    for episode, first, length in zip(episodes(dataset), STARTS, EPISODES, strict=True):
        part = values[slice(first, first + length)]
        np.testing.assert_allclose(episode[f'stats/{STATE.key}/mean'], part.mean(axis=0))
        assert episode['stats/index/max'] == [first + length - 1]


def test_tasks_are_the_index_that_pandas_reads(tmp_path):
    shards = [
        make_shard(tmp_path / 'a', [2], tasks=('place', 'pick'), task_index=np.array([1, 1])),
        make_shard(tmp_path / 'b', [3], tasks=('place', 'pick'), task_index=np.array([0, 1, 0])),
    ]
    root = make_dataset(tmp_path / 'dataset', shards)
    tasks = pq.read_table(root / 'meta/tasks.parquet')
    assert tasks.to_pydict() == {'task_index': [0, 1], 'task': ['pick', 'place']}
    assert json.loads(tasks.schema.metadata[b'pandas'])['index_columns'] == ['task']
    assert table(root)['task_index'] == [0, 0, 1, 0, 1]
    assert [episode['tasks'] for episode in episodes(root)] == [['pick'], ['place', 'pick']]
    assert info(root)['total_tasks'] == 2


def test_info_is_what_lerobot_reads(dataset):
    found = info(dataset)
    features = found.pop('features')
    assert found == {
        'codebase_version': 'v3.0',
        'fps': FPS,
        'total_episodes': 5,
        'total_frames': 19,
        'total_tasks': 1,
        'chunks_size': 1000,
        'data_files_size_in_mb': 100,
        'video_files_size_in_mb': 200,
        'data_path': 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet',
        'video_path': 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4',
        'robot_type': 'kuavo',
        'splits': {'train': '0:5'},
    }
    assert isinstance(found['fps'], int)
    assert features[STATE.key] == {'dtype': 'float32', 'shape': [3], 'names': ['a', 'b', 'c']}
    assert features['index'] == {'dtype': 'int64', 'shape': [1], 'names': None}
    assert features[FRONT.key] == {
        'dtype': 'video',
        'shape': [48, 64, 3],
        'names': ['height', 'width', 'channels'],
        'info': {
            'video.height': 48,
            'video.width': 64,
            'video.codec': 'h264',
            'video.pix_fmt': 'yuv420p',
            'video.fps': FPS,
            'video.channels': 3,
            'has_audio': False,
            'video.g': 2,
            'video.crf': 23,
            'video.preset': 'superfast',
            'video.fast_decode': 0,
            'video.video_backend': 'pyav',
            'video.extra_options': {
                'bf': '0',
                'tune': 'zerolatency',
                'x264-params': 'cabac=0',
            },
            'is_depth_map': False,
        },
    }


def test_metric_depth_is_described(tmp_path):
    shards = make_shards(tmp_path, [[2]], features=(STATE, DEPTH))
    root = make_dataset(tmp_path / 'dataset', shards)
    described = info(root)['features'][DEPTH.key]['info']
    assert described['is_depth_map'] is True
    assert (described['video.codec'], described['video.pix_fmt']) == ('hevc', 'gray12le')
    assert (described['depth_unit'], described['video.depth_max']) == ('mm', 10.0)
    stats = json.loads((root / 'meta/stats.json').read_text())[DEPTH.key]
    assert stats['min'] == [[[0.0]]]


def test_a_copied_codec_is_not_named(tmp_path):
    root = make_dataset(tmp_path / 'dataset', make_shards(tmp_path, [[2], [3]], options=COPIED))
    described = info(root)['features'][FRONT.key]['info']
    assert 'video.codec' not in described
    assert 'video.pix_fmt' not in described
    assert numbers_of(root, FRONT.key) == list(range(5))


def test_joined_videos_keep_every_packet(dataset, shards):
    joined = packets(dataset / f'videos/{FRONT.key}/chunk-000/file-000.mp4')
    single = [data for shard in shards for _, _, data in packets(shard.video_path(FRONT.key))]
    assert [data for _, _, data in joined] == single
    assert [time * FPS for time, _, _ in joined] == list(range(19))


def test_a_shards_own_file_is_linked_where_it_is_a_whole_file(tmp_path, shards):
    root = make_dataset(tmp_path / 'dataset', shards, video_files_size_in_mb=TINY)
    first = root / f'videos/{FRONT.key}/chunk-000/file-000.mp4'
    assert first.samefile(shards[0].video_path(FRONT.key))
    assert numbers_of(root, FRONT.key) == list(range(19))


@pytest.mark.parametrize(
    ('limits', 'files'),
    [
        ({}, 1),
        ({'video_files_size_in_mb': TINY}, 5),
        ({'max_video_seconds': 0.8}, 3),
        ({'max_video_seconds': 0.1}, 5),
    ],
)
def test_a_full_video_is_followed_by_a_new_one(tmp_path, shards, limits, files):
    root = make_dataset(tmp_path / 'dataset', shards, **limits)
    assert len(files_of(root, FRONT.key)) == files
    assert numbers_of(root, FRONT.key) == list(range(19))
    assert numbers_of(root, WRIST.key) == list(range(19))


def test_videos_that_cannot_be_joined_go_to_files_of_their_own(tmp_path, shards):
    videos = {
        key: replace(video, join_key=video.join_key + ' of another encoder')
        for key, video in shards[1].videos.items()
    }
    other = replace(shards[1], videos=videos)
    root = make_dataset(tmp_path / 'dataset', [shards[0], other, shards[2], shards[3]])
    assert len(files_of(root, FRONT.key)) == 3
    assert numbers_of(root, FRONT.key) == list(range(19))


def test_shards_of_other_encoder_switches_come_together(tmp_path):
    # As those of a version before: their parameter sets differ, which a file has only once.
    former = make_shard(tmp_path / 'former', [3])
    now = make_shard(tmp_path / 'now', [4], first=3, options=VideoOptions(gray_depth=True))
    root = make_dataset(tmp_path / 'dataset', [former, now])
    assert len(files_of(root, FRONT.key)) == 2
    assert numbers_of(root, FRONT.key) == list(range(7))


def test_a_full_table_is_followed_by_a_new_one(tmp_path, shards):
    root = make_dataset(tmp_path / 'dataset', shards, data_files_size_in_mb=TINY)
    assert len(list(root.glob('data/*/*'))) == 5
    assert table(root)['index'] == list(range(19))
    assert [episode['data/file_index'] for episode in episodes(root)] == list(range(5))


def test_a_full_file_of_episodes_is_followed_by_a_new_one(tmp_path):
    shards = make_shards(tmp_path, [[1] * 25], features=(STATE,))
    root = make_dataset(tmp_path / 'dataset', shards, data_files_size_in_mb=TINY)
    found = episodes(root)
    assert [episode['episode_index'] for episode in found] == list(range(25))
    numbers = [episode['meta/episodes/file_index'] for episode in found]
    assert numbers == [0] * 10 + [1] * 10 + [2] * 5


def test_a_thousand_files_fill_a_folder():
    assert FileNumber(0, 998).next() == FileNumber(0, 999)
    assert FileNumber(0, 999).next() == FileNumber(1, 0)


@pytest.mark.parametrize('version', ['v3.0', 'v2.1'])
def test_the_same_shards_give_the_same_bytes(tmp_path, shards, version):
    trees = [tree(make_dataset(tmp_path / name, shards, version=version)) for name in ('a', 'b')]
    assert trees[0] == trees[1]


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=3), st.integers(1, 40))
def test_how_rows_were_cut_into_calls_does_not_show(lengths, step):
    with tempfile.TemporaryDirectory() as folder:
        trees = []
        for name, size in (('whole', 1000), ('cut', step)):
            features = (STATE, ACTION)
            shard = make_shard(Path(folder, name, 'shard'), lengths, features=features, step=size)
            trees.append(tree(make_dataset(Path(folder, name, 'dataset'), [shard])))
        assert trees[0] == trees[1]


@settings(max_examples=10, deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=3), min_size=1, max_size=4))
def test_how_episodes_were_cut_into_shards_does_not_show(lengths):
    with tempfile.TemporaryDirectory() as folder:
        features = (STATE, ACTION)
        together = [[length for episodes in lengths for length in episodes]]
        one, many = (
            tree(
                make_dataset(
                    Path(folder, name, 'dataset'),
                    make_shards(Path(folder, name), cut, features=features),
                )
            )
            for name, cut in (('one', together), ('many', lengths))
        )
        assert one == many


def test_files_are_readable_by_everyone(dataset, dataset21):
    for root in (dataset, dataset21):
        modes = {path.stat().st_mode & 0o777 for path in root.rglob('*') if path.is_file()}
        assert modes == {0o644}


def test_progress_ends_at_all(tmp_path, shards):
    calls = []
    make_dataset(tmp_path / 'dataset', shards, progress=calls.append)
    assert calls == sorted(calls)
    assert calls[-1] == 15


def test_v21_has_a_file_for_each_episode_and_camera(dataset21):
    for index, (first, length) in enumerate(zip(STARTS, EPISODES, strict=True)):
        columns = pq.read_table(
            dataset21 / f'data/chunk-000/episode_{index:06d}.parquet'
        ).to_pydict()
        assert columns['index'] == list(range(first, first + length))
        for key in (FRONT.key, WRIST.key):
            pictures = decode(dataset21 / f'videos/chunk-000/{key}/episode_{index:06d}.mp4')
            assert [number_of(image) for image in pictures] == columns['index']


def test_v21_metadata_is_what_lerobot_033_writes(dataset21):
    found = info(dataset21)
    described = found.pop('features')[FRONT.key]['info']
    assert found == {
        'codebase_version': 'v2.1',
        'robot_type': 'kuavo',
        'total_episodes': 5,
        'total_frames': 19,
        'total_tasks': 1,
        'total_videos': 10,
        'total_chunks': 1,
        'chunks_size': 1000,
        'fps': FPS,
        'splits': {'train': '0:5'},
        'data_path': 'data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet',
        'video_path': (
            'videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4'
        ),
    }
    assert described['video.is_depth_map'] is False
    assert lines(dataset21 / 'meta/tasks.jsonl') == [{'task_index': 0, 'task': 'pick'}]
    assert lines(dataset21 / 'meta/episodes.jsonl')[1] == {
        'episode_index': 1,
        'tasks': ['pick'],
        'length': 3,
    }
    stats = lines(dataset21 / 'meta/episodes_stats.jsonl')[1]['stats']
    assert list(stats) == [*(feature.key for feature in FEATURES), *DEFAULTS]
    assert list(stats[FRONT.key]) == ['min', 'max', 'mean', 'std', 'count']
    assert stats['index']['min'] == [5]


def test_v21_has_no_metric_depth(tmp_path):
    shards = make_shards(tmp_path, [[2]], features=(STATE, DEPTH))
    with pytest.raises(UsageError, match=r'v2\.1 has no metric depth'):
        make_dataset(tmp_path / 'dataset', shards, version='v2.1')


@pytest.mark.parametrize('version', ['v3.0', 'v2.1'])
def test_appending_leaves_old_files_alone(tmp_path, shards, version):
    old = make_dataset(tmp_path / 'old', shards[:2], version=version)
    before = tree(old)
    new = make_dataset(tmp_path / 'new', shards[2:], version=version, onto=old)
    assert tree(old) == before
    kept = [name for name in before if name.startswith(('data/', 'videos/', 'meta/episodes/'))]
    assert kept
    assert all((new / name).samefile(old / name) for name in kept)
    assert table(new)['index'] == list(range(19))
    assert info(new)['total_episodes'] == 5


def test_appending_episodes_gives_the_same_as_assembling_all(tmp_path, shards, dataset):
    parts = make_dataset(tmp_path / 'a', shards[:1])
    parts = make_dataset(tmp_path / 'b', shards[1:2], onto=parts)
    parts = make_dataset(tmp_path / 'c', shards[2:], onto=parts)
    assert table(parts) == table(dataset)
    assert numbers_of(parts, FRONT.key) == numbers_of(parts, WRIST.key) == list(range(19))
    for name in ('meta/stats.json', 'meta/info.json', 'meta/tasks.parquet'):
        assert (parts / name).read_bytes() == (dataset / name).read_bytes()
    assert files_of(parts, FRONT.key)[-1].endswith('chunk-000/file-002.mp4')
    places = [(e['data/file_index'], e['meta/episodes/file_index']) for e in episodes(parts)]
    assert places == [(0, 0), (1, 1), (1, 1), (2, 2), (2, 2)]


def test_appending_to_v21_gives_the_same_as_assembling_all(tmp_path, shards, dataset21):
    old = make_dataset(tmp_path / 'old', shards[:2], version='v2.1')
    new = make_dataset(tmp_path / 'new', shards[2:], version='v2.1', onto=old)
    assert tree(new) == tree(dataset21)


def test_appending_a_new_task_goes_on_from_the_old_ones(tmp_path):
    first = make_shard(tmp_path / 'a', [2], features=(STATE,), tasks=('pick',))
    second = make_shard(tmp_path / 'b', [2], features=(STATE,), tasks=('place',))
    old = make_dataset(tmp_path / 'old', [first])
    new = make_dataset(tmp_path / 'new', [second, first], onto=old)
    assert pq.read_table(new / 'meta/tasks.parquet').to_pydict()['task'] == ['pick', 'place']
    assert table(new)['task_index'] == [0, 0, 1, 1, 0, 0]


def test_appending_to_another_programs_episodes_pools_picture_statistics(
    tmp_path, shards, dataset
):
    old = make_dataset(tmp_path / 'old', shards[:2])
    file = old / 'meta/episodes/chunk-000/file-000.parquet'
    plain = pq.read_table(file).replace_schema_metadata(None)
    file.unlink()
    pq.write_table(plain, file)
    new = make_dataset(tmp_path / 'middle', shards[2:3], onto=old)
    new = make_dataset(tmp_path / 'new', shards[3:], onto=new)
    found, exact = (json.loads((root / 'meta/stats.json').read_text()) for root in (new, dataset))
    assert found[STATE.key] == exact[STATE.key]
    for name in ('min', 'max', 'mean', 'std', 'count'):
        np.testing.assert_allclose(found[FRONT.key][name], exact[FRONT.key][name])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'robot_type': 'other'}, 'its robot_type is kuavo, the new episodes have other'),
        ({'version': 'v2.1'}, 'its version is v3.0, the new episodes have v2.1'),
    ],
)
def test_appending_what_does_not_belong_is_refused(tmp_path, shards, dataset, change, message):
    with pytest.raises(DatasetError, match=message):
        make_dataset(tmp_path / 'new', shards, onto=dataset, **change)
    assert not (tmp_path / 'new').exists()


def test_appending_other_videos_or_dimensions_is_refused(tmp_path, dataset):
    other = make_shard(tmp_path / 'a', [2], options=VideoOptions('hevc', preset='ultrafast'))
    with pytest.raises(DatasetError, match=r'front \(video\.codec\) is h264, .* have hevc'):
        make_dataset(tmp_path / 'new', [other], onto=dataset)
    features = (replace(STATE, names=('x', 'y', 'z')), *FEATURES[1:])
    other = make_shard(tmp_path / 'b', [2], features=features)
    with pytest.raises(
        DatasetError, match=r'its observation.state \(names\) is .*a.*b.*c.*x.*y.*z'
    ):
        make_dataset(tmp_path / 'new', [other], onto=dataset)


def test_appending_to_a_damaged_dataset_is_refused(tmp_path, shards):
    old = make_dataset(tmp_path / 'old', shards[:1])
    (old / 'meta/tasks.parquet').unlink()
    with pytest.raises(DatasetError, match='its metadata is not complete'):
        make_dataset(tmp_path / 'new', shards, onto=old)
    (old / 'meta/info.json').write_text('{')
    with pytest.raises(DatasetError, match=r'info\.json: cannot be read'):
        make_dataset(tmp_path / 'new', shards, onto=old)


def test_shards_that_do_not_belong_together_are_refused(tmp_path, shards):
    other = make_shard(tmp_path / 'other', [2], options=VideoOptions(crf=30))
    with pytest.raises(DatasetError, match='other: its video settings are'):
        make_dataset(tmp_path / 'dataset', [*shards, other])
    other = make_shard(tmp_path / 'fewer', [2], features=(STATE,))
    with pytest.raises(DatasetError, match='fewer: its features are'):
        make_dataset(tmp_path / 'dataset', [*shards, other])
    with pytest.raises(DatasetError, match='its fps are 10, the dataset has 11'):
        make_dataset(tmp_path / 'dataset', shards, fps=11)
    with pytest.raises(UsageError, match="'v1' is not one of"):
        make_dataset(tmp_path / 'dataset', shards, version='v1')
    assert not (tmp_path / 'dataset').exists()


def test_a_folder_in_use_is_refused(tmp_path, shards):
    (tmp_path / 'dataset').mkdir()
    (tmp_path / 'dataset' / 'notes.txt').touch()
    with pytest.raises(DatasetError, match='is not empty'):
        make_dataset(tmp_path / 'dataset', shards)


@pytest.mark.parametrize('name', ['data.parquet', f'videos/{FRONT.key}.mp4'])
@pytest.mark.parametrize('kept', [0, 100, 0.5])
def test_a_shard_damaged_after_it_was_opened_is_noticed(tmp_path, name, kept):
    shards = make_shards(tmp_path, [[4], [3, 3]])
    file = shards[1].path / name
    data = file.read_bytes()
    size = int(kept * len(data)) if isinstance(kept, float) else kept
    file.write_bytes(data[:size] + bytes(len(data) - size))
    with pytest.raises(DatasetError, match=file.name) as caught:
        make_dataset(tmp_path / 'dataset', shards)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('dtype', ['float16', 'float64', 'int8', 'uint16', 'int64', 'bool'])
def test_every_numeric_type_is_kept(tmp_path, dtype):
    features = (replace(STATE, dtype=dtype), replace(ACTION, dtype=dtype))
    root = make_dataset(tmp_path / 'dataset', make_shards(tmp_path, [[4], [3]], features=features))
    written = rows(features, 0, 7)
    columns = table(root)
    assert np.array_equal(np.array(columns[STATE.key], dtype), written[STATE.key])
    assert np.array_equal(np.array(columns[ACTION.key], dtype), written[ACTION.key][:, 0])
    assert info(root)['features'][STATE.key]['dtype'] == dtype
    stats = json.loads((root / 'meta/stats.json').read_text())[ACTION.key]
    assert stats['max'] == [float(written[ACTION.key].max())]


def test_a_shard_is_found_again_by_its_folder(tmp_path, shards, dataset):
    again = [Shard.load(shard.path) for shard in shards]
    assert tree(make_dataset(tmp_path / 'dataset', again)) == tree(dataset)
