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
import resource

from dataset_files import (
    ACTION,
    COPIED,
    decode,
    DEPTH,
    FEATURES,
    fill,
    FPS,
    frame,
    FRONT,
    H264,
    make_shard,
    number_of,
    rows,
    STATE,
    WRIST,
)
from dataset_reading import tree
from kuavo_bag_converter.dataset.features import Feature, VideoOptions
from kuavo_bag_converter.dataset.shard import Shard, ShardWriter
from kuavo_bag_converter.dataset.video import DepthWriter, PacketWriter, VideoWriter
from kuavo_bag_converter.support.errors import DatasetError, UsageError
import numpy as np
import pytest


def open_writer(path, lengths=(4,), features=FEATURES, video=H264, tasks=('pick',), fps=FPS):
    return ShardWriter(path, features, fps, episode_lengths=lengths, tasks=tasks, video=video)


def test_a_shard_reads_back_as_written(tmp_path):
    features = (*FEATURES, DEPTH)
    written = make_shard(tmp_path / 'shard', [5, 3], features=features, tasks=('a', 'b'))
    shard = Shard.load(tmp_path / 'shard')
    assert shard == written
    assert (shard.features, shard.fps, shard.episode_lengths) == (features, FPS, (5, 3))
    assert (shard.tasks, shard.extra) == (('a', 'b'), {'bag': 'shard'})
    assert shard.videos[FRONT.key].options == H264
    assert [number_of(image) for image in decode(shard.video_path(WRIST.key))] == list(range(8))
    assert {'av', 'ffmpeg', 'pyarrow', 'numpy'} <= shard.versions.keys()


def test_statistics_of_each_episode_are_kept(tmp_path):
    shard = make_shard(tmp_path / 'shard', [5, 3])
    expected = rows([STATE], 0, 8)[STATE.key].astype(np.float64)
    first, second = shard.statistics()
    np.testing.assert_allclose(first.vectors[STATE.key]['mean'], expected[:5].mean(axis=0))
    np.testing.assert_allclose(
        second.vectors[STATE.key]['q90'], np.quantile(expected[5:], 0.9, axis=0)
    )
    assert second.vectors[ACTION.key]['count'].tolist() == [3]
    assert [part.pictures[FRONT.key].frames for part in (first, second)] == [5, 3]
    assert first.pictures[FRONT.key].statistics()['max'].max() == 1.0


def test_cameras_may_have_settings_of_their_own(tmp_path):
    video = {FRONT.key: COPIED, WRIST.key: H264}
    writer = open_writer(tmp_path / 'shard', video=video)
    with pytest.raises(UsageError, match='mjpeg copies JPEG pictures'):
        writer.camera_writer(FRONT.key, VideoWriter)
    with pytest.raises(UsageError, match='copying JPEG pictures needs vcodec mjpeg'):
        writer.camera_writer(WRIST.key, PacketWriter)
    with pytest.raises(UsageError, match='is not a metric depth feature'):
        writer.camera_writer(WRIST.key, DepthWriter)
    writer.abort()
    with pytest.raises(UsageError, match='wrist: no video settings; given for'):
        open_writer(tmp_path / 'shard', video={FRONT.key: COPIED})


def test_nothing_has_the_shards_name_before_it_is_complete(tmp_path):
    path = tmp_path / 'shard'
    with open_writer(path) as writer:
        fill(writer, FEATURES, 4)
        assert not path.exists()
        writer.finish({})
    assert sorted(p.name for p in tmp_path.iterdir()) == ['shard']
    assert sorted(tree(path)) == [
        'data.parquet',
        'episodes.jsonl',
        'shard.json',
        'videos/observation.images.front.mp4',
        'videos/observation.images.wrist.mp4',
    ]


def test_a_shard_that_is_not_finished_leaves_nothing(tmp_path):
    with open_writer(tmp_path / 'shard') as writer:
        writer.append_rows(rows(FEATURES, 0, 2))
        writer.camera_writer(FRONT.key, VideoWriter).write(frame(0))
    assert list(tmp_path.iterdir()) == []


def test_a_shard_keeps_what_is_attached_to_it(tmp_path):
    with open_writer(tmp_path / 'shard') as writer:
        fill(writer, FEATURES, 4)
        writer.attachment('plan.txt').write_text('a plan')
        shard = writer.finish({})
    assert shard.attachment('plan.txt').read_text() == 'a plan'


@pytest.mark.parametrize('limit', [2_000, 9_000, 11_000])
def test_a_full_disk_leaves_nothing(tmp_path, limit):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(OSError, match='File too large'):
            make_shard(tmp_path / 'shard', [30])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_abort_does_not_take_a_finished_shard_away(tmp_path):
    writer = open_writer(tmp_path / 'shard')
    fill(writer, FEATURES, 4)
    shard = writer.finish({})
    writer.abort()
    assert Shard.load(tmp_path / 'shard') == shard


def test_leftovers_of_a_killed_run_do_not_matter(tmp_path):
    (tmp_path / 'shard.partial').mkdir()
    (tmp_path / 'shard.partial' / 'data.parquet').write_text('half')
    make_shard(tmp_path / 'shard', [3])
    assert sorted(p.name for p in tmp_path.iterdir()) == ['shard']


def test_an_existing_shard_is_not_overwritten(tmp_path):
    make_shard(tmp_path / 'shard', [3])
    before = tree(tmp_path)
    with pytest.raises(DatasetError, match='exists already'):
        open_writer(tmp_path / 'shard')
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ('table_rows', 'pictures', 'message'),
    [
        (3, 4, '3 rows were written, the episodes have 4 frames'),
        (4, 3, 'front.mp4: 3 video frames were written, 4 were announced'),
        (4, None, 'no frames of observation.images.front were written'),
    ],
)
def test_a_shard_of_which_something_is_missing_is_refused(tmp_path, table_rows, pictures, message):
    writer = open_writer(tmp_path / 'shard', features=(STATE, FRONT))
    writer.append_rows(rows([STATE], 0, table_rows))
    if pictures is not None:
        camera = writer.camera_writer(FRONT.key, VideoWriter)
        for number in range(pictures):
            camera.write(frame(number))
    with pytest.raises(DatasetError, match=message):
        writer.finish({})
    assert list(tmp_path.iterdir()) == []


NAN = rows([STATE, ACTION], 0, 2)
NAN[STATE.key][1, 2] = np.nan


@pytest.mark.parametrize(
    ('columns', 'message'),
    [
        (rows([STATE], 0, 2), r"rows of \['observation.state'\]"),
        (rows([STATE], 0, 2) | rows([ACTION], 0, 1), r'lengths \[1, 2\]'),
        (rows([STATE, ACTION, Feature('x', 'int64', (1,))], 0, 2), "'x'"),
        ({k: v.astype(np.float64) for k, v in rows([STATE, ACTION], 0, 2).items()}, 'are float64'),
        (rows([STATE, replace(ACTION, shape=(2,))], 0, 2), r'action: rows are float32\[2\]'),
        (NAN, 'observation.state: nan in frame 1, dimension c'),
    ],
)
def test_rows_of_another_form_are_refused(tmp_path, columns, message):
    with open_writer(tmp_path / 'shard') as writer, pytest.raises(DatasetError, match=message):
        writer.append_rows(columns)


@pytest.mark.parametrize('task_index', [[0, 2], [-1, 0]])
def test_a_task_that_is_not_listed_is_refused(tmp_path, task_index):
    columns = rows(FEATURES, 0, 2)
    with (
        open_writer(tmp_path / 'shard', tasks=('a', 'b')) as writer,
        pytest.raises(DatasetError, match='there are 2 tasks'),
    ):
        writer.append_rows(columns, np.array(task_index))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'lengths': ()}, 'episodes of'),
        ({'lengths': (3, 0)}, 'each needs one'),
        ({'tasks': ()}, 'no task'),
        ({'fps': 0}, 'fps 0'),
        ({'video': VideoOptions(preset='warp')}, 'preset'),
        ({'features': (replace(FRONT, shape=(47, 64, 3)),)}, '64x47 cannot be stored'),
        ({'features': (replace(FRONT, shape=(48, 64, 1)),)}, r'expected \[height, width, 3\]'),
        ({'features': (replace(DEPTH, shape=(48, 64, 3)),)}, r'expected \[height, width, 1\]'),
        ({'features': (replace(STATE, key='a/b'),)}, 'a key is a word without slashes'),
        ({'features': (replace(FRONT, key='..'),)}, 'a key is a word without slashes'),
        ({'features': (replace(STATE, dtype='string'),)}, 'expected a numeric dtype'),
        ({'features': (replace(STATE, dtype='float31'),)}, 'expected a numeric dtype'),
        ({'features': (replace(STATE, names=('a',)),)}, '1 names for 3 dimensions'),
        ({'features': (STATE, STATE)}, 'observation.state: is there twice'),
        ({'features': (replace(STATE, key='index'),)}, 'index: is a column of every dataset'),
    ],
)
def test_settings_that_make_no_dataset_are_refused_at_once(tmp_path, settings, message):
    with pytest.raises(UsageError, match=message):
        open_writer(tmp_path / 'shard', **settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('name', 'damage', 'message'),
    [
        ('shard.json', None, 'is not a finished shard'),
        ('shard.json', b'{"format"', 'not readable'),
        ('shard.json', b'[]', 'shard format None'),
        ('shard.json', b'{"format": 99}', 'shard format 99'),
        ('shard.json', b'{"format": 2}', 'not a complete shard manifest'),
        ('episodes.jsonl', b'', 'episodes.jsonl: 0 bytes, expected'),
        ('data.parquet', b'', 'data.parquet: 0 bytes, expected'),
        ('data.parquet', None, 'data.parquet: missing'),
        ('videos/observation.images.wrist.mp4', b'x', 'wrist.mp4: 1 bytes'),
    ],
)
def test_a_damaged_shard_is_noticed_when_opened(tmp_path, name, damage, message):
    make_shard(tmp_path / 'shard', [3])
    file = tmp_path / 'shard' / name
    file.unlink()
    if damage is not None:
        file.write_bytes(damage)
    with pytest.raises(DatasetError, match=message):
        Shard.load(tmp_path / 'shard')


def test_the_same_frames_give_the_same_shard(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        make_shard(tmp_path / name / 'shard', [5, 2])
    assert tree(tmp_path / 'a') == tree(tmp_path / 'b')


def test_the_manifest_is_compact(tmp_path):
    make_shard(tmp_path / 'shard', [30])
    manifest = tmp_path / 'shard' / 'shard.json'
    assert manifest.stat().st_size < 4_000
    assert (tmp_path / 'shard' / 'episodes.jsonl').stat().st_size < 6_000
    assert json.loads(manifest.read_text())['episode_lengths'] == [30]
