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

"""Texts of topics as LeRobot's columns of language."""

from __future__ import annotations

from itertools import pairwise
import json
import subprocess
import sys

from conversions import opinion, report, run
from dataset_reading import info
from hypothesis import given, settings
from hypothesis import strategies as st
from kuavo_bag_converter import iter_frames, load_profile, open_bag
from kuavo_bag_converter.alignment.segments import language_rows
from kuavo_bag_converter.jobs.display import Display
from kuavo_bag_converter.profiles.model import Language, Source
from kuavo_bag_converter.replay.verify import verify
from kuavo_bag_converter.support.errors import UsageError
from lerobot_readers import PYTHONS, version_of
import numpy as np
from plain_robot import at, every, MS, Robot, said
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

FPS = 10
FRAMES = 20
SUBTASKS = {-0.5: 'home', -0.1: 'reach', 0.32: 'grasp', 0.38: 'lift', 0.45: 'lift', 0.7: ' ',
            1.2: 'place', 9.0: 'late'}  # fmt: skip
CALLS = {-0.5: 'early', -0.05: 'go', 0.61: 'stop', 0.68: 'now', 1.2: 'on', 2.5: 'late'}
RANGES = [{'start_s': 0, 'stop_s': 1}, {'start_s': 1.15, 'stop_s': 9}]
"""Episodes of the frames 0 to 9, and 12 to 19."""


def robot():
    made = Robot().publish('/tick', every(FPS, FRAMES / FPS), said([0.0] * FRAMES, 'Float64'))
    made.publish('/subtask', at(*SUBTASKS), said([*SUBTASKS.values()]))
    return made.publish('/operator', at(*CALLS), said([*CALLS.values()]))


def profile_of(*language, **keys):
    tick = {'from': {'topic': '/tick', 'field': 'data'}, 'names': ['x']}
    subtask = {'from': {'topic': '/subtask', 'field': 'data'}, 'style': 'subtask'}
    calls = {'from': {'topic': '/operator', 'field': 'data'}, 'style': 'interjection'}
    return {
        'robot_type': 'made_up', 'fps': FPS, 'task': 'Do it',
        'clock': {'from': {'topic': '/tick'}, 'fps': FPS, 'end_trim': 'none'},
        'features': {'observation.state': {'parts': [tick]}},
        'language': list(language) or [subtask, calls],
        **keys,
    }  # fmt: skip


def converted(folder, profile, made=None, **keys):
    path = folder / 'robot.yaml'
    path.write_text(json.dumps(profile))
    bag = folder / 'bag'
    if not bag.exists():
        (made or robot()).write(bag)
    done = run(bag, folder / 'out', profile=str(path), **keys)
    assert done.outcomes[0].status == 'converted', done.outcomes[0].reason
    return bag


def table_of(root):
    return pq.read_table(root / 'data' / 'chunk-000' / 'file-000.parquet')


def lasting(style='subtask', role='assistant', **texts):
    """Return rows of texts by the number of their frame, as ``f3``."""
    return [
        {'role': role, 'content': text, 'style': style, 'timestamp': np.float32(int(f[1:]) / FPS),
         'camera': None, 'tool_calls': None}
        for f, text in texts.items()
    ]  # fmt: skip


def events(table):
    """Return what is said, by row."""
    found = {}
    for row, cell in enumerate(table.column('language_events').to_pylist()):
        for one in cell:
            assert (one['role'], one['style']) == ('user', 'interjection')
            assert one['camera'] is one['tool_calls'] is None
            found.setdefault(row, []).append(one['content'])
    return found


def test_texts_hold_from_their_frame_on_or_are_said_at_it(tmp_path):
    bag = converted(tmp_path, profile_of(episodes={'ranges': RANGES}), judged=True)
    root = tmp_path / 'out'
    table = table_of(root)
    cells = table.column('language_persistent').to_pylist()
    assert cells[:10] == [lasting(f0='reach', f4='lift')] * 10
    assert cells[10:] == [lasting(f0='place')] * 8
    assert events(table) == {0: ['go'], 7: ['stop', 'now'], 10: ['on']}
    for key in ('language_persistent', 'language_events'):
        assert info(root)['features'][key] == {'dtype': 'language', 'shape': [1], 'names': None}
    subtask, operator = report(root)['bags'][0]['plan']['language']
    assert subtask == {
        'style': 'subtask', 'role': 'assistant', 'topic': '/subtask', 'texts': 8, 'blank': 1,
        'rows': 3,
    }  # fmt: skip
    assert (operator['texts'], operator['rows']) == (6, 4)
    found = verify(root, [bag], independent=FRAMES)
    assert found.findings == ()
    assert found.opinion.values == 18 * (1 + 2)


def test_aligned_frames_have_the_texts(tmp_path):
    path = tmp_path / 'robot.yaml'
    path.write_text(json.dumps(profile_of(episodes={'ranges': RANGES})))
    with open_bag(robot().write(tmp_path / 'bag')) as bag:
        frames = list(iter_frames(bag, load_profile(path)))
    found = {(one.episode, one.index): [row.text for row in one.language] for one in frames}
    assert {place: texts for place, texts in found.items() if texts} == {
        (0, 0): ['reach', 'go'], (0, 4): ['lift'], (0, 7): ['stop', 'now'], (1, 0): ['place', 'on']
    }  # fmt: skip


@pytest.mark.parametrize('version', ['v3.0', 'v2.1'])
def test_a_text_has_a_column_of_its_own_where_it_has_a_key(tmp_path, version):
    text = {'from': {'topic': '/subtask', 'field': 'data'}, 'key': 'complementary_info.subtask'}
    profile = profile_of(text, episodes={'ranges': RANGES})
    bag = converted(tmp_path, profile, judged=True, lerobot_version=version)
    root = tmp_path / 'out'
    files = sorted(root.glob('data/*/*.parquet'))
    table = pa.concat_tables(map(pq.read_table, files))
    expected = ['reach'] * 4 + ['lift'] * 6 + ['place'] * 8
    assert table.column('complementary_info.subtask').to_pylist() == expected
    assert 'language_persistent' not in table.column_names
    entry = info(root)['features']['complementary_info.subtask']
    assert entry == {'dtype': 'string', 'shape': [1], 'names': None}
    (told,) = report(root)['bags'][0]['plan']['language']
    assert (told['key'], told['rows']) == ('complementary_info.subtask', 3)
    found = verify(root, [bag], independent=FRAMES)
    assert found.findings == ()
    assert found.opinion.values == 18 * 2


def test_frames_before_the_first_text_have_an_empty_one(tmp_path):
    text = {'from': {'topic': '/late', 'field': 'data'}, 'key': 'complementary_info.subtask'}
    made = robot().publish('/late', at(0.35), said(['go']))
    bag = converted(tmp_path, profile_of(text), made)
    column = table_of(tmp_path / 'out').column('complementary_info.subtask')
    assert column.to_pylist() == [''] * 4 + ['go'] * 16
    change(tmp_path / 'out', one_frame_late, 'complementary_info.subtask')
    assert 'rows.language' in {one.rule for one in verify(tmp_path / 'out', [bag]).findings}
    assert {one.rule for one in opinion(tmp_path / 'out', [bag], FRAMES)[0]} == {'opinion.text'}


def test_what_was_made_of_the_texts_is_shown(tmp_path, capsys):
    missing = {'from': {'topic': '/plan', 'field': 'data'}, 'style': 'plan'}
    memory = {'from': {'topic': '/subtask', 'field': 'data'}, 'style': 'memory', 'role': 'user'}
    with Display(sys.stderr) as display:
        converted(tmp_path, profile_of(memory, missing), observer=display)
    shown = capsys.readouterr().err
    assert 'language (memory, user): 3 rows from 8 messages of /subtask, 1 of them blank' in shown
    assert 'language (plan, assistant): no row, for the bag has none of its topics' in shown
    cell = table_of(tmp_path / 'out').column('language_persistent').to_pylist()[-1]
    assert cell == lasting('memory', 'user', f0='reach', f4='lift', f12='place')


def test_pictures_in_the_table_and_more_bags_go_with_texts(tmp_path):
    from plain_robot import image

    made = robot().publish('/eye', every(FPS, FRAMES / FPS), image('head_cam_h', size=(16, 16)))
    eye = {'camera': {'from': {'topic': '/eye'}, 'store': 'image'}}
    profile = profile_of()
    profile['features']['observation.images.eye'] = eye
    bag = converted(tmp_path, profile, made)
    more = made.write(tmp_path / 'more')
    root = tmp_path / 'out'
    run(more, root, profile=str(tmp_path / 'robot.yaml'), append=True)
    files = sorted(root.glob('data/*/*.parquet'))
    for file in files:
        table = pq.read_table(file)
        assert events(table) == {0: ['go'], 7: ['stop', 'now'], 12: ['on']}
        expected = lasting(f0='reach', f4='lift', f12='place')
        assert table.column('language_persistent').to_pylist() == [expected] * FRAMES
    assert len(files) == 2
    assert verify(root, [bag, more]).ok


def test_a_format_without_language_is_refused_before_the_run(tmp_path):
    (tmp_path / 'robot.yaml').write_text(json.dumps(profile_of()))
    robot().write(tmp_path / 'bag')
    with pytest.raises(UsageError, match='has no columns of language; use v3'):
        run(tmp_path / 'bag', tmp_path / 'out', profile=str(tmp_path / 'robot.yaml'),
            lerobot_version='v2.1')  # fmt: skip


@pytest.mark.parametrize(
    ('language', 'message'),
    [
        ([], 'language: expected a list of topics with texts'),
        ([{'style': 'plan'}], r"language\[0\]: the key 'from' is missing"),
        ([{'from': {'topic': '/a', 'field': 'b'}}], r'language\[0\]: expected a style, .* a key'),
        ([{'from': {'topic': '/a', 'field': 'b'}, 'key': 'observation.text'}],
         r'language\[0\].key: expected complementary_info.<name>, which policies do not see'),
        ([{'from': {'topic': '/a', 'field': 'b'}, 'key': 'complementary_info.x', 'role': 'user'}],
         r'language\[0\]: expected a style, for the columns of language'),
        ([{'from': {'topic': '/a', 'field': 'b'}, 'style': 'vqa'}], r'language\[0\].style: expec'),
        ([{'from': {'topic': '/a', 'field': 'b'}, 'style': 'plan'}] * 2,
         r'language\[1\]: plan with role assistant is there already; one topic says it'),
    ],
)  # fmt: skip
def test_what_is_no_language_is_refused(tmp_path, language, message):
    path = tmp_path / 'robot.yaml'
    path.write_text(json.dumps({**profile_of(), 'language': language}))
    with pytest.raises(UsageError, match=message):
        load_profile(path)


def change(root, make, begins='language'):
    """Change the cells of columns by ``make(key, cells)``."""
    file = root / 'data' / 'chunk-000' / 'file-000.parquet'
    table = pq.read_table(file)
    for place, field in enumerate(table.schema):
        if field.name.startswith(begins):
            cells = make(field.name, table.column(place).to_pylist())
            table = table.set_column(place, field, pa.array(cells, field.type))
    pq.write_table(table, file)


def other_text(_, cells):
    return [[{**row, 'content': row['content'].replace('lift', 'drop').replace('now', 'no')}
             for row in cell] for cell in cells]  # fmt: skip


def one_frame_late(_, cells):
    return cells[1:] + cells[:1]


@pytest.mark.parametrize('wrong', [other_text, one_frame_late])
def test_other_texts_than_the_bag_has_are_found(tmp_path, wrong):
    bag = converted(tmp_path, profile_of())
    change(tmp_path / 'out', wrong)
    assert 'rows.language' in {one.rule for one in verify(tmp_path / 'out', [bag]).findings}
    assert {one.rule for one in opinion(tmp_path / 'out', [bag], FRAMES)[0]} == {'opinion.text'}


@pytest.mark.parametrize(
    ('made', 'found'),
    [
        (lambda cells: [*cells[:5], [], *cells[6:]], 'other texts than the frame before'),
        (lambda cells: [[{**row, 'style': 'vqa'} for row in cell] for cell in cells],
         'a text of style vqa'),
        (lambda cells: [[{**row, 'role': None} for row in cell] for cell in cells],
         'a text without a role'),
        (lambda cells: [[{**row, 'timestamp': 2.0} for row in cell] for cell in cells],
         'a text at 2.0 s of 20 frames'),
        (lambda cells: [None] * len(cells), 'an empty cell'),
    ],
)  # fmt: skip
def test_texts_that_lerobot_would_not_find_are_found(tmp_path, made, found):
    converted(tmp_path, profile_of())
    change(
        tmp_path / 'out', lambda key, cells: made(cells) if key == 'language_persistent' else cells
    )
    findings = verify(tmp_path / 'out', []).findings
    assert [one.found for one in findings if one.rule == 'data.language'] == [found]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-500, 1500), st.sampled_from('abc')), max_size=12),
    st.lists(st.integers(0, 9), min_size=1, unique=True).map(sorted),
    st.booleans(),
)
def test_each_frame_has_what_was_said_by_then(texts, frames, lasts):
    language = Language((Source('/a', ('b',)),), 'plan' if lasts else 'interjection', 'user')
    ordered = sorted(texts, key=lambda item: item[0])
    frame_stamps = np.array([number * 100 * MS for number in frames])
    sent = [(time * MS, text) for time, text in ordered]
    found = language_rows(language, frame_stamps, sent, FPS)
    for number, frame in enumerate(frames):
        if lasts:
            held = [row.text for row in found if row.frame <= number]
            expected = [text for time, text in ordered if time <= frame * 100]
            assert held[-1:] == expected[-1:]
            continue
        since = frames[number - 1] * 100 if number else frame * 100 - 100
        said_now = [row.text for row in found if row.frame == number]
        assert said_now == [text for time, text in ordered if since < time <= frame * 100]
    if lasts:
        assert len({row.frame for row in found}) == len(found)
        assert all(a.text != b.text for a, b in pairwise(found))


_LOAD = """
import sys
from lerobot.datasets.language_render import active_at, emitted_at
from lerobot.datasets.lerobot_dataset import LeRobotDataset
data = LeRobotDataset('local/check', root=sys.argv[1])
for number in range(len(data)):
    item = data[number]
    time = float(item['timestamp'])
    row = active_at(time, persistent=item['language_persistent'], style='subtask')
    print(row['content'], [one['content'] for one in item['language_events']])
"""


def loaded(python, program, folder):
    done = subprocess.run(
        [python, '-c', program, str(folder / 'out')], capture_output=True, text=True,
        env={'HF_HUB_OFFLINE': '1', 'HF_HOME': str(folder / 'hf'), 'PATH': '/usr/bin:/bin'},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize('python', [p for p in PYTHONS if version_of(p) >= (0, 6)])
def test_lerobot_tells_the_subtask_of_each_frame(tmp_path, python):
    converted(tmp_path, profile_of())
    shown = loaded(python, _LOAD, tmp_path)
    subtasks = ['reach'] * 4 + ['lift'] * 8 + ['place'] * 8
    said_at = {0: ['go'], 7: ['stop', 'now'], 12: ['on']}
    assert shown.split('\n')[:-1] == [
        f'{subtask} {said_at.get(frame, [])}' for frame, subtask in enumerate(subtasks)
    ]


_TEXTS = """
import sys
from lerobot.datasets.lerobot_dataset import LeRobotDataset
data = LeRobotDataset('local/check', root=sys.argv[1])
print([data[number]['complementary_info.subtask'] for number in range(len(data))])
"""


@pytest.mark.parametrize('python', PYTHONS)
def test_lerobot_loads_a_column_of_texts(tmp_path, python):
    text = {'from': {'topic': '/subtask', 'field': 'data'}, 'key': 'complementary_info.subtask'}
    version = 'v2.1' if version_of(python) < (0, 4) else 'v3.0'
    converted(tmp_path, profile_of(text), lerobot_version=version)
    assert loaded(python, _TEXTS, tmp_path) == f'{["reach"] * 4 + ["lift"] * 8 + ["place"] * 8}\n'
