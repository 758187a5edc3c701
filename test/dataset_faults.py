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

"""Faults of datasets, and which check finds each of them as what."""

from __future__ import annotations

import shutil

from dataset_edits import (
    CAMERA,
    data_file,
    edit_column,
    edit_info,
    edit_json,
    edit_lines,
    episodes_file,
    info,
    lengths,
    reorder,
    rewrite_video,
    swap_frames,
    truncate,
    video_file,
    write_groups,
)
import pyarrow as pa
import pyarrow.parquet as pq
from record_files import edit_record


def roll_state(root):
    """Shift the state of the first episode by one row."""

    def change(rows):
        count = lengths(root)[0]
        return [rows[count - 1], *rows[: count - 1], *rows[count:]]

    edit_column(data_file(root), 'observation.state', change)


def delay_state(root):
    """Shift the state of the first episode by one row, the first one twice."""

    def change(rows):
        count = lengths(root)[0]
        return [rows[0], *rows[: count - 1], *rows[count:]]

    edit_column(data_file(root), 'observation.state', change)


def set_cell(name, row, value):
    def change(rows):
        rows[row] = value(rows[row]) if callable(value) else value
        return rows

    return lambda root: edit_column(data_file(root), name, change)


def nudged(row):
    return [row[0], row[1] + 0.25, *row[2:]]


def with_nan(row):
    return [*row[:3], float('nan'), *row[4:]]


def set_episode(name, value, episode=1):
    def change(rows):
        rows[episode] = value(rows[episode])
        return rows

    return lambda root: edit_column(episodes_file(root), name, change)


def nudged_list(values):
    return [value + 0.125 for value in values]


def other_camera(root):
    """Give the head camera's pictures the name of the left one, and the other way round."""
    first, second = video_file(root), video_file(root, 'observation.images.wrist_cam_l')
    aside = first.with_suffix('.aside')
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def other_episode(root):
    """Exchange the pictures of the first two episodes, which are equally long."""
    if (root / 'meta/episodes.jsonl').exists():
        first, second = video_file(root), video_file(root, number=1)
        aside = first.with_suffix('.aside')
        first.rename(aside)
        second.rename(first)
        aside.rename(second)
        return
    for name in ('from_timestamp', 'to_timestamp'):
        edit_column(episodes_file(root), f'videos/{CAMERA}/{name}', lambda t: [t[1], t[0], *t[2:]])


def edit_mean(root):
    def change(document):
        document['action']['mean'][0] += 0.125

    edit_json(root / 'meta/stats.json', change)


def edit_quantile(root):
    def change(document):
        document['action']['q50'][0] += 1e-6

    edit_json(root / 'meta/stats.json', change)


def edit_all_stats(root):
    """Change a mean in the episodes and in stats.json so that they agree."""

    def moved(values):
        return [value + 0.0625 for value in values]

    def total(document):
        document['action']['mean'] = moved(document['action']['mean'])

    edit_column(
        episodes_file(root), 'stats/action/mean', lambda rows: [moved(row) for row in rows]
    )
    edit_json(root / 'meta/stats.json', total)


def edit_stats_v21(root):
    def change(lines):
        lines[1]['stats']['action']['mean'][0] += 0.125

    edit_lines(root / 'meta/episodes_stats.jsonl', change)


def edit_picture_stats(root):
    def change(document):
        document[CAMERA]['q50'][0][0][0] += 0.25

    edit_json(root / 'meta/stats.json', change)


def without(pattern):
    def remove(root):
        min(root.glob(pattern)).unlink()

    return remove


def without_pandas_index(root):
    path = root / 'meta/tasks.parquet'
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)


def one_row_group(root):
    table = pq.ParquetFile(data_file(root)).read()
    write_groups(data_file(root), table, [table.num_rows])


def extra_column(root):
    table = pq.ParquetFile(data_file(root)).read()
    write_groups(data_file(root), table.append_column('extra', table['index']), lengths(root))


def without_row(root):
    """Leave out a row of the first episode and nothing else."""
    table = pq.ParquetFile(data_file(root)).read().to_pylist()
    schema = pq.read_schema(data_file(root))
    del table[4]
    groups = lengths(root)[:1] if (root / 'meta/episodes.jsonl').exists() else lengths(root)
    groups[0] -= 1
    write_groups(data_file(root), pa.Table.from_pylist(table, schema), groups)


def edit_feature(key, **changes):
    def change(document):
        document['features'][key].update(changes)

    return lambda root: edit_json(root / 'meta/info.json', change)


def without_key_frame(root):
    """Encode a camera without a key frame where the second episode begins."""
    order = list(range(sum(lengths(root))))
    order[lengths(root)[0]] -= 1  # else the encoder sees the change of scene
    rewrite_video(video_file(root), order, gop=100)


def edit_alignment(root):
    path = root / 'conversion/alignment/chunk-000/000001.parquet'
    edit_column(path, 'track.0.first', lambda rows: [rows[0] + 1, *rows[1:]])


def names_swapped(root):
    def change(document):
        names = document['features']['action']['names']
        names[0], names[1] = names[1], names[0]

    edit_json(root / 'meta/info.json', change)


def edit_profile_fps(root):
    path = root / 'conversion/profile.yaml'
    text = path.read_text()
    assert '\nfps: 10\n' in text
    path.write_text(text.replace('\nfps: 10\n', '\nfps: 5\n'))


def in_order(_):
    """Leave the frames of a video in their order."""


def recoded(crf, camera=CAMERA):
    """Encode a camera's first file once more, with another quality."""
    return reordered(in_order, camera=camera, crf=crf)


def darker(root):
    """Encode a camera's first file once more, 4 levels darker."""
    reorder(root, in_order, darker=4)


def tasks_renamed(root):
    """Give every episode another task, in the list of tasks and in the episodes."""
    if (root / 'meta/tasks.jsonl').exists():
        edit_lines(root / 'meta/tasks.jsonl', lambda lines: lines[0].update(task='sweep it'))

        def change(lines):
            for line in lines:
                line['tasks'] = ['sweep it']

        edit_lines(root / 'meta/episodes.jsonl', change)
        return
    edit_column(root / 'meta/tasks.parquet', 'task', lambda tasks: ['sweep it' for _ in tasks])
    edit_column(episodes_file(root), 'tasks', lambda rows: [['sweep it'] for _ in rows])


def drop_last_frame_and_row(root):
    """Shorten the last episode of a v2.1 dataset by a frame, and all that counts frames."""
    last = len(lengths(root)) - 1
    path = data_file(root, last)
    table = pq.ParquetFile(path).read()
    count = table.num_rows - 1
    write_groups(path, table.slice(0, count), [count])
    for camera in [key for key in info(root)['features'] if 'images' in key]:
        video = video_file(root, camera, last)
        rewrite_video(video, list(range(count)))

    def shorter(lines):
        lines[last]['length'] = count

    def counted(lines):
        for statistics in lines[last]['stats'].values():
            statistics['count'] = [count]

    edit_lines(root / 'meta/episodes.jsonl', shorter)
    edit_lines(root / 'meta/episodes_stats.jsonl', counted)
    edit_info(root, total_frames=sum(lengths(root)))


def drop_it_from_the_record_too(root):
    drop_last_frame_and_row(root)
    alignment = max((root / 'conversion/alignment').glob('*/*'))
    table = pq.ParquetFile(alignment).read()
    pq.write_table(table.slice(0, table.num_rows - 1), alignment)

    def change(document):
        document['bags'][-1]['frames'] -= 1

    edit_record(root, change)


def reordered(change, **options):
    return lambda root: reorder(root, change, **options)


# Fault: kind of dataset, what happens to it, and as what each check finds it. Checks that come
# before the first one named, of cheap, full and bags, find nothing.
FAULTS = {
    'video frame dropped': ('v3.0', reordered(lambda f: f.pop(7)), {'cheap': 'video.frames'}),
    'video frame dropped, v2.1': (
        'v2.1',
        reordered(lambda f: f.pop(7)),
        {'cheap': 'video.frames'},
    ),
    'copied frame dropped': ('copy', reordered(lambda f: f.pop(7)), {'cheap': 'video.frames'}),
    'video frame twice': (
        'v3.0',
        reordered(lambda f: f.insert(3, 3)),
        {'cheap': 'video.frames'},
    ),
    'frame and row dropped': ('v2.1', drop_last_frame_and_row, {'cheap': 'conversion.frames'}),
    'frame dropped from everything': (
        'v2.1',
        drop_it_from_the_record_too,
        {'full': 'stats.episode', 'bags': 'plan.frames'},
    ),
    'row dropped': ('v3.0', without_row, {'cheap': 'data.episode_rows'}),
    'row dropped, v2.1': ('v2.1', without_row, {'cheap': 'data.rows'}),
    'frames swapped': ('v3.0', reordered(swap_frames(7, 8)), {'bags': 'pictures.order'}),
    'frames swapped, v2.1': ('v2.1', reordered(swap_frames(7, 8)), {'bags': 'pictures.order'}),
    'frames swapped, av1': ('av1', reordered(swap_frames(7, 8)), {'bags': 'pictures.order'}),
    'frames swapped, hevc': ('hevc', reordered(swap_frames(7, 8)), {'bags': 'pictures.order'}),
    'frames swapped, gop 30': (
        'yuv444p',
        reordered(swap_frames(7, 8), gop=30),
        {'bags': 'pictures.order'},
    ),
    'copied frames swapped': (
        'copy',
        reordered(swap_frames(7, 8)),
        {'bags': 'pictures.neighbour'},
    ),
    'metric depth swapped': (
        'metric12',
        reordered(swap_frames(7, 8), camera='observation.depth_h'),
        {'bags': 'pictures.neighbour'},
    ),
    'coded depth swapped': (
        'range8',
        reordered(swap_frames(7, 8), camera='observation.depth_h'),
        {'bags': 'pictures.order'},
    ),
    'encoded again, crf 40': ('v3.0', recoded(40), {'bags': 'pictures.loss'}),
    'encoded again, crf 51': ('v3.0', recoded(51), {'bags': 'pictures.loss'}),
    'encoded again, v2.1': ('v2.1', recoded(40), {'bags': 'pictures.loss'}),
    'encoded again, hevc': ('hevc', recoded(51), {'bags': 'pictures.loss'}),
    'encoded again, 4:4:4': ('yuv444p', recoded(40), {'bags': 'pictures.loss'}),
    'coded depth encoded again': (
        'range8',
        recoded(51, 'observation.depth_h'),
        {'bags': 'pictures.loss'},
    ),
    'video 4 levels darker': ('v3.0', darker, {'bags': 'pictures.level'}),
    'video 4 levels darker, v2.1': ('v2.1', darker, {'bags': 'pictures.level'}),
    'video 4 levels darker, hevc': ('hevc', darker, {'bags': 'pictures.level'}),
    'names swapped': ('v3.0', names_swapped, {'cheap': 'features.names'}),
    'names swapped, v2.1': ('v2.1', names_swapped, {'cheap': 'features.names'}),
    'another robot': (
        'v3.0',
        lambda r: edit_info(r, robot_type='aloha'),
        {'cheap': 'info.robot_type'},
    ),
    'another robot, v2.1': (
        'v2.1',
        lambda r: edit_info(r, robot_type='aloha'),
        {'cheap': 'info.robot_type'},
    ),
    'tasks renamed': ('v3.0', tasks_renamed, {'bags': 'rows.task'}),
    'tasks renamed, v2.1': ('v2.1', tasks_renamed, {'bags': 'rows.task'}),
    'distant frames swapped': ('v3.0', reordered(swap_frames(4, 15)), {'bags': 'pictures.scene'}),
    'frames one early': (
        'v3.0',
        reordered(lambda f: f.append(f.pop(0))),
        {'bags': 'pictures.neighbour'},
    ),
    'pictures of another camera': (
        'v3.0',
        other_camera,
        {'full': 'stats.episode', 'bags': 'pictures.scene'},
    ),
    'pictures of another episode': (
        'v3.0',
        other_episode,
        {'full': 'stats.episode', 'bags': 'pictures.scene'},
    ),
    'pictures of another episode, v2.1': (
        'v2.1',
        other_episode,
        {'full': 'stats.episode', 'bags': 'pictures.scene'},
    ),
    'copied pictures of another episode': (
        'copy',
        other_episode,
        {'full': 'stats.episode', 'bags': 'pictures.exact'},
    ),
    'state shifted, rolling': ('v3.0', roll_state, {'bags': 'rows.value'}),
    'state shifted': ('v3.0', delay_state, {'full': 'stats.episode'}),
    'state shifted, v2.1': ('v2.1', delay_state, {'full': 'stats.episode'}),
    'value edited': ('v3.0', set_cell('action', 9, nudged), {'full': 'stats.episode'}),
    'value not a number': ('v3.0', set_cell('action', 9, with_nan), {'full': 'data.finite'}),
    'mp4 truncated': ('v3.0', lambda r: truncate(video_file(r), 0.9), {'cheap': 'video.frames'}),
    'mp4 cut down to nothing': (
        'v3.0',
        lambda r: truncate(video_file(r), 0),
        {'cheap': 'video.unreadable'},
    ),
    'copied mp4 truncated': ('copy', lambda r: truncate(video_file(r), 0.97), {'cheap': 'video.'}),
    'parquet truncated': ('v3.0', lambda r: truncate(data_file(r), 0.9), {'cheap': 'data.'}),
    'stats.json edited': ('v3.0', edit_mean, {'cheap': 'stats.total'}),
    'quantiles of stats.json edited': (
        'v3.0',
        edit_quantile,
        {'full': 'stats.total'},
    ),
    'picture quantiles edited': ('v3.0', edit_picture_stats, {'cheap': 'stats.total'}),
    'episode statistics edited': (
        'v3.0',
        set_episode('stats/action/std', nudged_list),
        {'cheap': 'stats.total'},
    ),
    'all statistics edited': ('v3.0', edit_all_stats, {'full': 'stats.episode'}),
    'statistics edited, v2.1': ('v2.1', edit_stats_v21, {'full': 'stats.episode'}),
    'fps edited': ('v3.0', lambda r: edit_info(r, fps=15), {'cheap': 'video.fps'}),
    'fps of the profile edited': ('v3.0', edit_profile_fps, {'cheap': 'info.fps'}),
    'fps edited, v2.1': ('v2.1', lambda r: edit_info(r, fps=15), {'cheap': 'data.timestamp'}),
    'video of another rate': ('v3.0', reordered(lambda f: f, rate=20), {'cheap': 'video.fps'}),
    'no key frame': (
        'yuv444p',
        without_key_frame,
        {'cheap': 'video.keyframe'},
    ),
    'info.json missing': ('v3.0', without('meta/info.json'), {'cheap': 'info.missing'}),
    'tasks missing': ('v3.0', without('meta/tasks.parquet'), {'cheap': 'tasks.missing'}),
    'tasks missing, v2.1': ('v2.1', without('meta/tasks.jsonl'), {'cheap': 'tasks.missing'}),
    'episodes missing': ('v3.0', without('meta/episodes/*/*'), {'cheap': 'episodes.missing'}),
    'stats.json missing': ('v3.0', without('meta/stats.json'), {'cheap': 'stats.missing'}),
    'statistics missing, v2.1': (
        'v2.1',
        without('meta/episodes_stats.jsonl'),
        {'cheap': 'stats.missing'},
    ),
    'data missing': ('v2.1', without('data/*/*'), {'cheap': 'data.missing'}),
    'video missing': ('v2.1', without('videos/*/*/*'), {'cheap': 'video.missing'}),
    'alignment missing': (
        'v3.0',
        without('conversion/alignment/*/*'),
        {'cheap': 'conversion.missing'},
    ),
    'alignment edited': ('v3.0', edit_alignment, {'bags': 'plan.alignment'}),
    'task_index out of range': (
        'v3.0',
        set_cell('task_index', 3, 7),
        {'cheap': 'data.task_index'},
    ),
    'timestamp off': ('v3.0', set_cell('timestamp', 3, 0.31), {'cheap': 'data.timestamp'}),
    'index not contiguous': ('v3.0', set_cell('index', 3, 4), {'cheap': 'data.index'}),
    'frame_index off': ('v3.0', set_cell('frame_index', 3, 4), {'cheap': 'data.frame_index'}),
    'episode_index off': (
        'v3.0',
        set_cell('episode_index', 3, 9),
        {'cheap': 'data.episode_index'},
    ),
    'from_timestamp off': (
        'v3.0',
        set_episode(f'videos/{CAMERA}/from_timestamp', lambda t: t + 0.1),
        {'cheap': 'video.from_timestamp'},
    ),
    'to_timestamp off': (
        'v3.0',
        set_episode(f'videos/{CAMERA}/to_timestamp', lambda t: t + 0.1),
        {'cheap': 'video.to_timestamp'},
    ),
    'length off': ('v3.0', set_episode('length', lambda n: n + 1), {'cheap': 'episodes.rows'}),
    'total_frames off': ('v3.0', lambda r: edit_info(r, total_frames=9), {'cheap': 'info.totals'}),
    'another codec stated': (
        'v3.0',
        edit_feature(CAMERA, info={'video.codec': 'av1', 'is_depth_map': False}),
        {'cheap': 'video.info'},
    ),
    'another shape stated': (
        'v3.0',
        edit_feature(CAMERA, shape=[96, 120, 3]),
        {'cheap': 'video.size'},
    ),
    'another shape stated, v2.1': (
        'v2.1',
        edit_feature('action', shape=[3]),
        {'cheap': 'features.shape'},
    ),
    'another dtype stated, v2.1': (
        'v2.1',
        edit_feature('observation.state', dtype='float64'),
        {'cheap': 'features.dtype'},
    ),
    'another dtype stated': (
        'v3.0',
        edit_feature('action', dtype='float64'),
        {'cheap': 'data.schema'},
    ),
    'names missing': ('v3.0', edit_feature(CAMERA, names=None), {'cheap': 'features.entry'}),
    'no pandas index': ('v3.0', without_pandas_index, {'cheap': 'tasks.index'}),
    'row groups joined': ('v3.0', one_row_group, {'cheap': 'data.row_groups'}),
    'undeclared column': ('v3.0', extra_column, {'cheap': 'data.columns'}),
    'file of rows left over': (
        'v3.0',
        lambda r: shutil.copy(data_file(r), data_file(r).with_name('file-009.parquet')),
        {'cheap': 'data.unexpected'},
    ),
}
