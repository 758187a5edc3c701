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

"""The plan equals a naive statement of each rule, on arbitrary stamps."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from kuavo_bag_converter.alignment.plan import Fill, make_plan, Segment, topics_with_header, Track
from kuavo_bag_converter.bags.model import TopicIndex
from kuavo_bag_converter.profiles.model import Align, Clock
from kuavo_bag_converter.support.errors import BagError
from naive_plan import NaivePlan, uses_of
import numpy as np
from plain_robot import Robot, Sent
import pytest

MS = 1_000_000
CLOCK = Clock(sources=(), source_fps=30, decimation='jump', end_trim='none')


def index_of(receive, header=None):
    receive = np.sort(np.array(receive, dtype=np.int64), kind='stable')
    header = None if header is None else np.array(header, dtype=np.int64)
    return TopicIndex(receive, header)


def plan_of(frames, stamps, align, header=None, frame_headers=None, fps=30, clock=CLOCK, **kwargs):
    """Plan one topic against frames that are the clock's messages one to one."""
    index = {'/clock': index_of(frames, frame_headers), '/x': index_of(stamps, header)}
    clock = replace(clock, source_fps=fps)
    return make_plan(clock, '/clock', fps, [Track('x', '/x', align)], index, **kwargs)


times = st.integers(0, 400).map(lambda t: 1_000_000 * MS + t * MS // 4)
topic_times = st.lists(times, min_size=1, max_size=25).map(sorted)
frame_times = topic_times.filter(lambda frames: len(frames) == 1 or frames[0] < frames[-1])


@given(frame_times, topic_times)
def test_nearest_takes_the_first_of_the_nearest_messages(frames, stamps):
    plan = plan_of(frames, stamps, Align())
    for frame, ordinal, error in zip(
        plan.stamps, plan.tracks[0].first, plan.tracks[0].error, strict=True
    ):
        distances = [abs(stamp - int(frame)) for stamp in stamps]
        assert ordinal == distances.index(min(distances))
        assert error == stamps[ordinal] - frame


@given(frame_times, topic_times)
def test_hold_takes_the_last_message_that_is_not_in_the_future(frames, stamps):
    naive = [
        max((i for i, stamp in enumerate(stamps) if stamp <= frame), default=None)
        for frame in frames
    ]
    kept = [(frame, ordinal) for frame, ordinal in zip(frames, naive, strict=True)
            if ordinal is not None]  # fmt: skip
    if not kept:
        with pytest.raises(BagError, match='no frame is left'):
            plan_of(frames, stamps, Align('hold'))
        return
    plan = plan_of(frames, stamps, Align('hold'))
    assert [
        (int(f), int(o)) for f, o in zip(plan.stamps, plan.tracks[0].first, strict=True)
    ] == kept
    assert (plan.tracks[0].error <= 0).all()


@given(frame_times, topic_times)
def test_linear_takes_the_neighbours_and_weighs_them_by_time(frames, stamps):
    plan = plan_of(frames, stamps, Align('linear'))
    track = plan.tracks[0]
    for row, frame in enumerate(frames):
        before = [i for i, stamp in enumerate(stamps) if stamp <= frame]
        after = [i for i, stamp in enumerate(stamps) if stamp > frame]
        first = before[-1] if before else 0
        assert track.first[row] == first
        if not before or not after or stamps[first] == frame:
            assert track.second[row] == first
            assert track.weight[row] == 0
            assert track.error[row] == stamps[first] - frame
        else:
            second = after[0]
            assert track.second[row] == second
            share = (frame - stamps[first]) / (stamps[second] - stamps[first])
            assert track.weight[row] == share
            assert track.error[row] == 0


@given(frame_times, st.lists(times, min_size=1, max_size=20), st.randoms())
def test_header_stamps_may_be_unsorted_and_unset_ones_serve_no_frame(frames, headers, random):
    headers = [random.choice([0, stamp, stamp]) for stamp in headers]
    receive = [1_000_000 * MS + i for i in range(len(headers))]
    align = Align(timeline='header')
    clock = replace(CLOCK, timeline='header')
    if not any(headers):
        with pytest.raises(BagError, match='no message with a header stamp'):
            plan_of(frames, receive, align, headers, frames, clock=clock)
        return
    plan = plan_of(frames, receive, align, headers, frames, clock=clock)
    for frame, ordinal in zip(plan.stamps, plan.tracks[0].first, strict=True):
        distances = [abs(h - int(frame)) if h else None for h in headers]
        nearest = min(d for d in distances if d is not None)
        assert headers[ordinal] != 0
        assert distances[ordinal] == nearest


@given(frame_times, topic_times, st.integers(1, 30))
def test_split_cuts_exactly_the_frames_beyond_the_tolerance(frames, stamps, tolerance_ms):
    near = [min(abs(s - f) for s in stamps) <= tolerance_ms * MS for f in frames]
    align = Align(tolerance_ms=tolerance_ms, on_gap='split')
    if not any(near):
        with pytest.raises(BagError, match='no frame is left of'):
            plan_of(frames, stamps, align)
        return
    plan = plan_of(frames, stamps, align)
    assert plan.stamps.tolist() == [f for f, ok in zip(frames, near, strict=True) if ok]
    runs, position = [], 0
    for previous, ok in zip([False, *near], near, strict=False):
        if ok and not previous:
            runs.append((position, position))
        if ok:
            position += 1
            runs[-1] = (runs[-1][0], position)
    assert list(plan.episodes) == runs
    assert plan.report.frames_cut == near.count(False)


@given(frame_times, topic_times, st.integers(1, 30))
def test_drop_keeps_one_episode_without_a_hole(frames, stamps, tolerance_ms):
    near = [min(abs(s - f) for s in stamps) <= tolerance_ms * MS for f in frames]
    if not any(near):
        return
    plan = plan_of(frames, stamps, Align(tolerance_ms=tolerance_ms, on_gap='drop'))
    longest = max(''.join('x' if ok else ' ' for ok in near).split(), key=len)
    assert len(plan.episodes) == 1
    assert len(plan) == len(longest)


@given(frame_times, topic_times, st.integers(1, 30))
def test_gap_rule_marks_frames_strictly_between_distant_messages(frames, stamps, gap_ms):
    plan = plan_of(frames, stamps, Align(gap_ms=gap_ms, on_gap='mark'))
    for row, frame in enumerate(frames):
        inside = any(a < frame < b and b - a > gap_ms * MS for a, b in pairwise(stamps))
        assert plan.tracks[0].in_gap[row] == inside
        assert plan.tracks[0].fill[row] == (Fill.MARK if inside else Fill.VALUE)
        assert (plan.tracks[0].first[row] == -1) == inside


@given(frame_times, topic_times)
def test_zeros_stand_in_only_before_the_first_message(frames, stamps):
    plan = plan_of(frames, stamps, Align('hold', zeros_before_first=True))
    assert plan.stamps.tolist() == frames
    expected = [Fill.ZEROS if frame < stamps[0] else Fill.VALUE for frame in frames]
    assert plan.tracks[0].fill.tolist() == expected


@given(frame_times, topic_times, st.integers(1, 30))
def test_hold_on_gap_never_takes_the_future_beyond_the_tolerance(frames, stamps, tolerance_ms):
    align = Align(tolerance_ms=tolerance_ms, on_gap='hold')
    try:
        plan = plan_of(frames, stamps, align)
    except BagError:
        assert all(f < stamps[0] - tolerance_ms * MS for f in frames)
        return
    for frame, ordinal in zip(plan.stamps, plan.tracks[0].first, strict=True):
        assert stamps[ordinal] - frame <= tolerance_ms * MS


def test_a_gap_that_must_not_be_is_an_error_that_names_the_frame():
    with pytest.raises(BagError, match=r'/x: 1 frames have no message near enough.*frame 1 '):
        plan_of([0, 100 * MS, 200 * MS], [0, 199 * MS], Align(tolerance_ms=50, on_gap='fail'))


@settings(max_examples=50)
@given(st.integers(3, 40), st.integers(0, 5), st.sampled_from([(30, 10), (60, 10), (30, 30)]))
def test_jump_takes_every_nth_picture_between_the_dropped_ones(count, drop, rates):
    source_fps, fps = rates
    stamps = [i * 1_000_000_000 // source_fps for i in range(count)]
    clock = replace(CLOCK, source_fps=source_fps, drop=drop, decimation='auto')
    index = {'/clock': index_of(stamps)}
    if count < 2 * drop + 1:
        with pytest.raises(BagError, match='too few to drop'):
            make_plan(clock, '/clock', fps, [], index)
        return
    plan = make_plan(clock, '/clock', fps, [Track('c', '/clock', Align())], index)
    assert plan.report.decimation == 'jump'
    assert plan.stamps.tolist() == stamps[slice(drop, count - drop)][:: source_fps // fps]


def test_an_uneven_camera_gets_an_even_clock():
    stamps = [i * 33_333_333 for i in range(90) if not 30 <= i < 48]
    clock = replace(CLOCK, source_fps=30, decimation='auto')
    plan = make_plan(
        clock, '/clock', 10, [Track('c', '/clock', Align())], {'/clock': index_of(stamps)}
    )
    assert plan.report.decimation == 'time'
    assert np.abs(np.diff(plan.stamps) - 100 * MS).max() <= 1
    assert plan.tracks[0].report.repeated > 0
    assert plan.tracks[0].report.beyond_full_frame > 0


def test_end_trim_stops_before_the_first_or_the_last_topic_ends():
    index = {
        '/clock': index_of(range(0, 1000 * MS, 100 * MS)),
        '/x': index_of([0, 500 * MS]),
        '/y': index_of([0, 700 * MS]),
    }
    tracks = [Track('x', '/x', Align())]
    lengths = {}
    for trim in ('min_end', 'max_end', 'none'):
        clock = replace(CLOCK, source_fps=10, end_trim=trim)
        lengths[trim] = len(make_plan(clock, '/clock', 10, tracks, index, ['/y']))
    assert lengths == {'min_end': 5, 'max_end': 9, 'none': 10}


def test_wanted_names_each_message_once():
    plan = plan_of([0, 10 * MS, 20 * MS], [0, 5 * MS, 15 * MS, 25 * MS], Align('linear'))
    assert plan.wanted()['/x'].tolist() == [0, 1, 2, 3]
    assert plan.tracks[0].report.messages == 4
    assert plan.tracks[0].report.used == 4


stamps_of_a_topic = st.lists(
    st.tuples(times, st.integers(-30, 30), st.integers(0, 9)), min_size=1, max_size=20
).map(
    lambda drawn: [
        Sent(received + late * MS if set_ else 0, received, None)
        for received, late, set_ in sorted(drawn)
    ]
)
limits = st.none() | st.integers(1, 40)
timelines = st.sampled_from(['bag', 'header'])
aligns = st.builds(
    dict,
    strategy=st.sampled_from(['nearest', 'hold', 'linear']),
    timeline=timelines,
    tolerance_ms=limits,
    gap_ms=limits,
    on_gap=st.sampled_from(['keep', 'hold', 'split', 'drop', 'mark', 'zeros', 'fail']),
    zeros_before_first=st.booleans(),
    reduce=st.sampled_from([None, 'any', 'max', 'mean', 'last']),
    offset_ms=st.sampled_from([0, 0, -12.5, 20]),
    shift=st.sampled_from([0, 0, 0, 1, 2]),
).map(
    lambda align: (
        align
        if align['strategy'] == 'hold'
        else {**align, 'zeros_before_first': False, 'reduce': None}
    )
)
clocks = st.builds(
    dict,
    fps=st.sampled_from([20, 40, 60]),
    timeline=timelines,
    decimation=st.sampled_from(['auto', 'time', 'jump']),
    drop=st.integers(0, 2),
    end_trim=st.sampled_from(['min_end', 'max_end', 'none']),
    on_pause=st.sampled_from(['split', 'keep']),
)
pauses = st.none() | st.tuples(times, st.integers(600, 2000))
"""When everything falls silent, ns, and for how long, ms."""
FILLS = {'': Fill.VALUE, 'zeros': Fill.ZEROS, 'mark': Fill.MARK}
edges = st.none() | st.lists(times, min_size=2, max_size=6, unique=True).map(sorted)


def after(sent, pause):
    """Send what comes after some time later."""
    begin, length = pause or (0, 0)
    return [
        one._replace(
            received=one.received + length * MS,
            taken=one.taken and one.taken + length * MS,
        )
        if one.received >= begin
        else one
        for one in sent
    ]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(stamps_of_a_topic, min_size=3, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), aligns), min_size=1, max_size=3),
    clocks,
    st.sampled_from([20, 15]),
    edges,
    pauses,
)
def test_any_plan_is_the_naive_one(topics, uses, clock, fps, cuts, pause):
    robot = Robot()
    robot.topics = {f'/{number}': after(sent, pause) for number, sent in enumerate(topics)}
    parts = [{'from': {'topic': f'/{number}'}, 'align': align} for number, align in uses]
    profile = {
        'fps': fps,
        'clock': {'from': {'topic': '/0'}, **clock},
        'features': {'action': {'parts': parts}},
    }
    segments = None
    if cuts is not None:
        segments = [Segment(*pair) for pair in zip(cuts[::2], cuts[1::2], strict=False)]

    def piece_of(stamp):
        if segments is None:
            return 0
        inside = [n for n, (start, stop) in enumerate(segments) if start <= stamp < stop]
        return inside[0] if inside else None

    used = uses_of(profile)
    tracks = [Track(str(number), use.topic, Align(*use[1:])) for number, use in enumerate(used)]
    settled = Clock(
        (), clock['fps'], False, clock['decimation'], clock['drop'], clock['end_trim'], (),
        clock['timeline'], on_pause=clock['on_pause'],
    )  # fmt: skip
    headed = topics_with_header('/0', settled, tracks)
    index = {
        topic: index_of(
            robot.stamps(topic), robot.stamps(topic, 'header') if topic in headed else None
        )
        for topic in sorted({'/0', *(use.topic for use in used)})
    }

    def planned():
        return make_plan(settled, '/0', fps, tracks, index, segments=segments)

    usable = [stamp for stamp in robot.stamps('/0', clock['timeline']) if stamp]
    frozen = len(usable) > 1 and len(set(usable)) == 1
    few = len(usable) <= 2 * clock['drop']
    if frozen or few or not all(any(index[topic].header) for topic in headed):
        with pytest.raises(BagError):
            planned()
        return
    naive = NaivePlan(robot, profile, piece_of)
    failing = any(
        cell.in_gap and use.on_gap == 'fail'
        for frame in naive.candidates
        for cell, use in zip(frame.cells, used, strict=True)
        if frame.piece is not None
    )
    if failing or not naive.frames:
        with pytest.raises(BagError):
            planned()
        return
    plan = planned()
    assert plan.stamps.tolist() == [frame.stamp for frame in naive.frames]
    ends = np.cumsum([len(episode) for episode in naive.episodes]).tolist()
    assert list(plan.episodes) == list(zip([0, *ends], ends, strict=False))
    assert plan.report.segments_without_frames == len(segments or ()) - len(
        {frame.piece[0] for frame in naive.frames if segments is not None}
    )
    reports = plan.report.as_json()['tracks']
    for use, track, report in zip(used, plan.tracks, reports, strict=True):
        cells = naive.cells(use)
        assert track.first.tolist() == [cell.first for cell in cells]
        assert track.second.tolist() == [cell.second for cell in cells]
        assert track.weight.tolist() == [cell.weight for cell in cells]
        assert track.error.tolist() == [cell.error for cell in cells]
        assert track.fill.tolist() == [FILLS[cell.fill] for cell in cells]
        if track.earlier is not None:
            rows, ordinals = track.earlier.frames.tolist(), track.earlier.ordinals.tolist()
            assert list(zip(rows, ordinals, strict=True)) == [
                (row, ordinal) for row, cell in enumerate(cells) for ordinal in cell.earlier
            ]
        assert track.in_gap.tolist() == [cell.in_gap for cell in cells]
        expected = naive.report(use)
        found = {key: report[key] for key in expected}
        assert found.pop('error_ms') == pytest.approx(expected.pop('error_ms'), abs=2e-6)
        assert found == expected
