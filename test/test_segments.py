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

"""How markers, annotations and ranges cut a bag, and which task a frame has."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from kuavo_bag_converter.alignment.marks import find_marks, Mark, read_marks
from kuavo_bag_converter.alignment.plan import make_plan, Segment, Track
from kuavo_bag_converter.alignment.segments import (
    Cut,
    cut_by_marks,
    cut_by_messages,
    cut_by_ranges,
    tasks_of_frames,
)
from kuavo_bag_converter.bags.model import TopicIndex
from kuavo_bag_converter.bags.time_spans import TimeSpan
from kuavo_bag_converter.profiles.model import Align, Clock, Episodes, Source, TimeRange
from kuavo_bag_converter.support.errors import BagError
import numpy as np
import pytest

S = 1_000_000_000
SPAN = TimeSpan(100, 199)
FIELD = (Source('/mark', ('data',)),)
WHILE = Episodes(sources=FIELD)
EVENTS = Episodes(
    sources=FIELD, rule='events', start=('go',), stop=('end',), discard=('no',)
)  # fmt: skip
PROMPTS = Episodes(sources=FIELD, rule='each_message')


def cut(episodes, *messages, span=SPAN):
    stamps = np.array([stamp for stamp, _ in messages], dtype=np.int64)
    return cut_by_messages(episodes, '/mark', stamps, [value for _, value in messages], span)


def pieces(result):
    return [tuple(segment) for segment in result.segments]


def counts(result):
    return {key: value for key, value in vars(result.report).items() if value and key != 'rule'}


stamps = st.integers(80, 220)
flags = st.lists(st.tuples(stamps, st.booleans()), max_size=12, unique_by=lambda item: item[0])


@given(flags)
def test_while_true_keeps_exactly_the_times_whose_last_message_is_true(messages):
    def state(time):
        past = [message for message in messages if message[0] <= time]
        return bool(past) and max(past)[1]

    expected = [time for time in range(SPAN.start, SPAN.stop + 1) if state(time)]
    if not expected:
        with pytest.raises(BagError, match='/mark: no episode'):
            cut(WHILE, *messages)
        return
    result = cut(WHILE, *messages)
    inside = [t for start, stop in pieces(result) for t in range(start, stop)]
    assert inside == expected
    assert result.tasks == ('',) * len(result.segments)
    assert result.report.open_at_end == bool(max(messages)[1])


def test_numbers_are_true_unless_they_are_zero():
    result = cut(WHILE, (110, 0), (120, 2), (130, 3.5), (140, 0.0), (150, 1), (160, 0))
    assert pieces(result) == [(120, 140), (150, 160)]
    assert counts(result) == {'episodes': 2, 'messages': 6}
    with pytest.raises(
        BagError, match="/mark: while_true needs a boolean or a number, found 'on'"
    ):
        cut(WHILE, (110, 'on'))


@given(st.lists(st.tuples(stamps, st.sampled_from('abc')), min_size=1, max_size=10))
def test_each_message_begins_an_episode_with_its_text_as_task(messages):
    times = sorted(stamp for stamp, _ in messages)
    if times[0] > SPAN.stop:
        with pytest.raises(BagError, match='no episode lies between'):
            cut(PROMPTS, *messages)
        return
    result = cut(PROMPTS, *messages)
    by_time = sorted(messages, key=lambda message: message[0])
    for time in range(SPAN.start, SPAN.stop + 1):
        found = [
            task
            for segment, task in zip(result.segments, result.tasks, strict=True)
            if segment.start <= time < segment.stop
        ]
        assert found == [task for stamp, task in by_time if stamp <= time][-1:]
    assert len(result.segments) + result.report.outside == len(messages)


def test_each_message_needs_no_field():
    markers = Episodes(sources=(Source('/mark'),), rule='each_message')
    result = cut_by_messages(markers, '/mark', np.array([150, 120]), [], SPAN)
    assert pieces(result) == [(120, 150), (150, 200)]
    assert result.tasks == ('', '')
    with pytest.raises(BagError, match='/mark: each_message needs a text, found 7; leave out'):
        cut(PROMPTS, (120, 7))


@pytest.mark.parametrize(
    ('messages', 'expected', 'counted'),
    [
        ('go110 end120 go130 end150', [(110, 120), (130, 150)], {}),
        ('go110 end120 go130 no140 go150 end160', [(110, 120), (150, 160)], {'discarded': 1}),
        ('go110 end120 go130 end140 no145', [(110, 120)], {'discarded': 1}),
        ('go110 end120 go130 end140 no145 no146', [(110, 120)],
         {'discarded': 1, 'without_effect': 1}),
        ('go110 end120 no121 go130 end140', [(130, 140)], {'discarded': 1}),
        ('go110 end120 go130 no140 no141', [(110, 120)], {'discarded': 1, 'without_effect': 1}),
        ('go110 go120 end130', [(120, 130)], {'unfinished': 1}),
        ('go110 end120 go130', [(110, 120)], {'unfinished': 1}),
        ('end105 no106 go110 end120 end125', [(110, 120)], {'without_effect': 3}),
        ('go110 hm115 end120', [(110, 120)], {'other_texts': 1}),
        ('end120 go110', [(110, 120)], {}),
        ('go110 end300', [(110, 200)], {}),
        ('go10 end20 go110 end120', [(110, 120)], {'outside': 1}),
    ],
)  # fmt: skip
def test_events_begin_end_and_discard_episodes(messages, expected, counted):
    events = [(int(word.lstrip('abcdefghijklmno')), word.rstrip('0123456789'))
              for word in messages.split()]  # fmt: skip
    result = cut(EVENTS, *events)
    assert pieces(result) == expected
    assert counts(result) == {'episodes': len(expected), 'messages': len(events), **counted}


def test_without_stop_texts_the_next_start_or_the_end_ends_an_episode():
    rule = Episodes(sources=FIELD, rule='events', start=('go',), discard=('no',))
    result = cut(rule, (110, 'go'), (120, 'go'), (125, 'no'), (130, 'go'))
    assert pieces(result) == [(110, 120), (130, 200)]
    assert result.report.discarded == 1


def test_events_that_make_no_episode_say_what_was_found():
    with pytest.raises(BagError, match=r"^/mark: no episode begins and ends; expected \['go'\] "
                       r"then \['end'\], found 'Go', 'stop'$"):  # fmt: skip
        cut(EVENTS, (110, 'Go'), (120, 'stop'))
    with pytest.raises(BagError, match='found no message'):
        cut(EVENTS)


def test_events_may_be_numbers():
    rule = Episodes(sources=FIELD, rule='events', start=('1', 'true'), stop=('-2', '2.5'))
    result = cut(rule, (110, 1), (120, -2.0), (130, True), (140, 2.5), (150, 1.0), (160, -2))
    assert pieces(result) == [(110, 120), (130, 140), (150, 160)]


@given(
    st.lists(st.tuples(st.integers(100, 199), st.sampled_from(['go', 'end', 'no', 'hm']))),
    st.booleans(),
)
def test_every_event_is_accounted_for(messages, with_stop):
    rule = EVENTS if with_stop else Episodes(
        sources=FIELD, rule='events', start=('go',), discard=('no', 'end')
    )  # fmt: skip
    try:
        result = cut(rule, *messages)
    except BagError:
        return
    report = result.report
    starts = sum(text == 'go' for _, text in messages)
    begun = report.episodes + report.outside + report.discarded + report.unfinished
    assert begun == starts
    assert report.other_texts == sum(text == 'hm' for _, text in messages)
    edges = [edge for piece in pieces(result) for edge in piece]
    assert edges == sorted(edges)
    assert all(start < stop for start, stop in pieces(result))


def test_ranges_are_seconds_after_the_first_message_of_the_clock():
    span = TimeSpan(5 * S, 15 * S)
    ranges = (TimeRange(0, 2.5), TimeRange(4, 100, 'Place'))
    result = cut_by_ranges(ranges, span)
    assert pieces(result) == [(5 * S, 7 * S + S // 2), (9 * S, 15 * S + 1)]
    assert result.tasks == ('', 'Place')
    assert counts(result) == {'episodes': 2, 'beyond_end': 1}
    with pytest.raises(BagError, match=r'a range starts at 10.5 s, the recording has 10.000 s'):
        cut_by_ranges((TimeRange(10.5, 12),), span)


def mark(start, stop, **keys):
    return {'startPosition': start, 'endPosition': stop, 'markType': 'step', **keys}


def annotated(tmp_path, *marks):
    path = tmp_path / 'run.json'
    path.write_text(json.dumps({'taskName': '线圈分类', 'marks': marks}), encoding='utf-8')
    return path


def test_marks_of_a_let_annotation_become_episodes_with_their_texts(tmp_path):
    path = annotated(
        tmp_path,
        mark(0.5, 0.75, duration=5.0, skillAtomic='place', skillDetail='放下'),
        mark(
            0.25, 0.5, duration=5.0, skillAtomic='pick', skillDetail='拿起',
            enSkillDetail='pick up', taskId='1',
            markStart='2025-07-22 9:18:39.640', markEnd='2025-07-22 9:18:44.640',
        ),
        mark(0.8, 0.9, duration=2.0, markType='retry', enSkillDetail='slipped'),
        mark(0.9, 1.0, duration=None),
    )  # fmt: skip
    marks = read_marks(path)
    assert [item.task for item in marks] == ['pick up', '放下', 'slipped', '']
    span = TimeSpan(0, 20 * S - 1)
    result = cut_by_marks(marks, span, path.name)
    assert pieces(result) == [
        (5 * S, 10 * S), (10 * S, 15 * S), (18 * S, 20 * S)
    ]  # fmt: skip
    assert result.tasks == ('pick up', '放下', '')
    assert counts(result) == {'episodes': 3, 'discarded': 1}
    assert result.segments[-1].stop == span.stop + 1


def test_an_annotation_of_another_recording_is_refused(tmp_path):
    marks = read_marks(annotated(tmp_path, mark(0.25, 0.5, duration=5.0)))
    assert cut_by_marks(marks, TimeSpan(0, 19 * S), 'run.json').segments
    with pytest.raises(
        BagError,
        match=r'^run\.json: by duration and positions of its marks it annotates a recording of '
        r'20\.0 s, the bag has 60\.0 s; check that it belongs to this bag$',
    ):
        cut_by_marks(marks, TimeSpan(0, 60 * S), 'run.json')


def test_marks_that_overlap_or_all_failed_are_refused():
    overlapping = [Mark(0.1, 0.5, None, False, ''), Mark(0.4, 0.6, None, False, '')]
    with pytest.raises(
        BagError, match=r'run\.json: a mark starts at 0\.4, before the end of the '
    ):
        cut_by_marks(overlapping, SPAN, 'run.json')
    with pytest.raises(BagError, match=r'run\.json: none of 1 marks is a step'):
        cut_by_marks([Mark(0.1, 0.5, None, True, '')], SPAN, 'run.json')


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        (3, 'expected an object, found 3'),
        ({}, 'startPosition: expected a number, found nothing'),
        (mark('0', 1), "startPosition: expected a number, found '0'"),
        (mark(True, 1), 'startPosition: expected a number, found True'),
        (mark(0.5, 0.5), 'expected 0 <= startPosition < endPosition <= 1, found 0.5 and 0.5'),
        (mark(0.5, 1.5), 'expected 0 <= startPosition < endPosition <= 1, found 0.5 and 1.5'),
        (mark(float('nan'), 1), 'expected 0 <= startPosition'),
        (mark(0, 1, markType='skip'), "markType: expected step or retry, found 'skip'"),
        (mark(0, 1, duration='5 s'), "duration: expected a number, found '5 s'"),
        (mark(0, 1, enSkillDetail=['x']), 'enSkillDetail: expected a text'),
    ],
)
def test_marks_that_are_not_understood_are_refused(tmp_path, entry, message):
    path = annotated(tmp_path, mark(0, 0.1), entry)
    with pytest.raises(BagError) as caught:
        read_marks(path)
    assert str(caught.value).startswith(f'{path}: marks[1]: {message}')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{', 'not valid JSON: Expecting property name'),
        ('[' * 100_000, 'not valid JSON: '),
        ('[]', 'expected an object with "marks", a list that is not empty'),
        ('{"marks": []}', 'expected an object with "marks", a list that is not empty'),
        ('{"moments": [{}]}', 'expected an object with "marks", a list that is not empty'),
    ],
)
def test_files_that_are_no_annotation_are_refused(tmp_path, text, message):
    path = tmp_path / 'run.json'
    path.write_text(text, encoding='utf-8')
    with pytest.raises(BagError) as caught:
        read_marks(path)
    assert str(caught.value).startswith(f'{path}: {message}')
    with pytest.raises(BagError, match=r'none\.json: cannot read the marks of the bag: No such'):
        read_marks(tmp_path / 'none.json')


@pytest.mark.parametrize(
    ('pattern', 'place'),
    [
        ('{bag}.json', 'data/run-v1.json'),
        ('labels/{bag}.json', 'data/labels/run-v1.json'),
        ('{root}/labels/all.json', 'labels/all.json'),
    ],
)
def test_the_annotation_lies_beside_the_bag(tmp_path, pattern, place):
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.touch()
    pattern = pattern.replace('{root}', str(tmp_path))
    assert find_marks(pattern, tmp_path / 'data' / 'run-v1.bag') == path


@given(
    st.lists(st.integers(100, 199), unique=True).map(sorted),
    st.lists(st.tuples(stamps, st.sampled_from(['a', 'b ', ' '])), max_size=6),
    st.booleans(),
)
def test_a_frame_has_the_task_of_its_episode_or_the_last_text_before_it(frames, messages, is_cut):
    result = Cut((Segment(120, 140), Segment(150, 170)), ('segment', ''), {})
    tasks, index, by_default = tasks_of_frames(
        np.array(frames, dtype=np.int64),
        'usual',
        result if is_cut else None,
        np.array([stamp for stamp, _ in messages], dtype=np.int64),
        [text for _, text in messages],
    )
    named = []
    for frame in frames:
        past = [m for m in sorted(messages, key=lambda m: m[0]) if m[0] <= frame]
        task = past[-1][1].strip() if past else ''
        named.append('segment' if is_cut and 120 <= frame < 140 else task)
    expected = [task or 'usual' for task in named]
    assert by_default == named.count('')
    assert [tasks[i] for i in index] == expected
    assert list(tasks) == list(dict.fromkeys(expected))


def test_the_plan_makes_episodes_of_the_segments():
    frames = np.arange(10, dtype=np.int64) * (S // 10)
    span = TimeSpan(int(frames[0]), int(frames[-1]))
    result = cut(WHILE, (S // 10, True), (3 * S // 10, False), (6 * S // 10, True), span=span)
    plan = make_plan(
        Clock((), 10, end_trim='none'), '/clock', 10, [Track('c', '/clock', Align())],
        {'/clock': TopicIndex(frames, None)}, segments=result.segments,
    )  # fmt: skip
    assert plan.stamps.tolist() == frames[[1, 2, 6, 7, 8, 9]].tolist()
    assert plan.episodes == ((0, 2), (2, 6))
