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

"""Clocks that are set back, pauses, and what commands mean between frames (docs/time.md)."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from kuavo_bag_converter.alignment.plan import make_plan, Track
from kuavo_bag_converter.bags.clock_steps import steps_back
from kuavo_bag_converter.bags.model import TopicIndex
from kuavo_bag_converter.profiles.model import Align, Clock
from kuavo_bag_converter.support.errors import BagError
import numpy as np
from plain_robot import BEGIN, MS, NS
import pytest

CLOCK = Clock(sources=(), source_fps=20)


# Whether stamps step back


def ms(*ranges):
    return np.array([time for times in ranges for time in times], np.int64) * MS


def interleaved(*publishers):
    return [time for pair in zip(*publishers, strict=True) for time in pair]


EARLIER, LATER = range(0, 1500, 20), range(1500, 3000, 20)
STEPPED = {
    'NTP': (ms(EARLIER, range(750, 2250, 20)), [75]),
    'simulator reset, run after run': (
        ms(range(0, 3000, 100), range(0, 1000, 100), range(0, 700, 100), range(0, 5000, 100)),
        [30, 40, 47],
    ),
    'set back to before the recording': (ms(LATER, range(-900, 0, 20)), [75]),
    'set back, and forth before it has caught up': (
        ms(range(0, 5000, 20), range(2000, 3000, 20), range(9000, 9900, 20)),
        [250],
    ),
    'of two publishers that are under way for different times': (
        ms(
            interleaved(range(0, 3000, 20), range(-150, 2850, 20)),
            interleaved(range(-2000, 3000, 20), range(-2150, 2850, 20)),
        ),
        [300],
    ),
}
UNSTEPPED = {
    'in order': ms(EARLIER, LATER),
    'jitter': ms([0, 30, 10, 50, 40, 90, 70, 120, 60, 180, 140]),
    'two publishers': ms(interleaved(range(0, 3000, 20), range(-150, 2850, 20))),
    'two publishers, one of which stops': ms(
        interleaved(range(0, 3000, 20), range(-150, 2850, 20)), range(2850, 6000, 20)
    ),
    'a fast and a slow one': ms(
        t for s in range(0, 9000, 100) for t in (s, *range(s - 300, s - 200, 10))
    ),
    'bursts': ms(np.repeat(range(0, 9000, 400), 20)),
    'late by itself': ms(EARLIER, [100], LATER),
    'late at the end': ms(EARLIER, [100]),
    'chunks in another order': ms(
        EARLIER, range(2000, 2500, 20), range(1500, 2000, 20), range(2500, 4000, 20)
    ),
    'newest first': ms(range(3000, 0, -10)),
    'in no order': ms(Random(1).sample(range(0, 9000, 10), 900)),
    'set forward': ms(EARLIER, range(5000, 6000, 20)),
    'of last week': ms(EARLIER, [-7 * 86_400_000] * 3, LATER),
    'two messages': ms([500, 0]),
}


@pytest.mark.parametrize('name', STEPPED)
def test_a_clock_that_was_set_back_is_told_from_messages_out_of_order(name):
    stamps, places = STEPPED[name]
    assert steps_back(stamps) == places


@pytest.mark.parametrize('name', UNSTEPPED)
def test_messages_out_of_order_are_no_step(name):
    assert steps_back(UNSTEPPED[name]) == []


def test_files_in_another_order_are_no_step_and_two_sessions_are():
    assert steps_back(ms(LATER, EARLIER), begins=[75, 150]) == []
    assert steps_back(ms(LATER, range(700, 2200, 20)), begins=[75, 150]) == [75]


def test_what_was_only_held_up_is_no_step():
    first, second = range(0, 3000, 20), range(-10, 2000, 20)
    held_up = range(2000, 3000, 20)
    stamps = ms(
        interleaved(first[:101], second[:101]), first[101:], held_up, range(3010, 4000, 20)
    )
    running = np.sort(stamps)
    assert steps_back(stamps, received=running) != []
    received = np.concatenate([running[:251], np.full(len(stamps) - 251, running[251])])
    since = slice(251 + len(held_up), None)
    received[since] = running[since]
    assert steps_back(stamps, received=received) == []


# Short episodes


def test_short_episodes_are_left_out_and_counted_unless_they_are_most():
    frames = np.arange(80, dtype=np.int64) * (NS // 20)
    near = np.delete(frames, [30, 36, 37])
    index = {'/clock': TopicIndex(frames, None), '/x': TopicIndex(near, None)}
    tracks = [Track('x', '/x', Align(tolerance_ms=5, on_gap='split'))]
    clock = replace(CLOCK, end_trim='none')
    plan = make_plan(clock, '/clock', 20, tracks, index, min_episode_s=0.3)
    assert plan.episodes == ((0, 30), (30, 72))
    report = plan.report
    assert (report.episodes_too_short, report.frames_in_short_episodes) == (1, 5)
    assert (report.frames_cut, report.frames) == (3, 72)
    with pytest.raises(BagError, match=r'^3 of 3 episodes, 77 of 77 frames') as caught:
        make_plan(clock, '/clock', 20, tracks, index, min_episode_s=2.2)
    assert str(caught.value).endswith('check why, or lower min_episode_s')


# A recording of which a clock was set back is its halves


def recorded(seed, rates, seconds):
    """Return what is stored: (topic, received, taken, number), at rates, Hz, by topic."""
    random = Random(seed)
    stored = []
    for topic, rate in rates.items():
        for number in range(int(seconds * rate)):
            taken = BEGIN + number * NS // rate + random.randrange(5 * MS)
            stored.append((topic, taken + random.randrange(10 * MS), taken, number))
    return sorted(stored, key=lambda message: message[1])


def stepped(stored, cut, back, kind):
    """Set clocks back by so many ns, from a place on."""
    receive, header = (back * (kind in (name, 'both')) for name in ('receive', 'header'))
    after = [(t, r - receive, h - header, n) for t, r, h, n in stored[cut:]]
    return [*stored[:cut], *after]


def indexed(stored, timeline):
    """Return the index of what is stored, and each topic's messages by ordinal."""
    index, numbers = {}, {}
    by_topic = {}
    for place, message in enumerate(stored):
        by_topic.setdefault(message[0], []).append((place, *message[1:]))
    steps = {
        topic: steps_back(np.array([message[1] for message in messages]))
        for topic, messages in by_topic.items()
    }
    for topic, messages in by_topic.items():
        place, receive, header, number = np.array(messages, np.int64).T
        order = np.argsort(receive, kind='stable')
        index[topic] = TopicIndex(
            receive[order],
            header[order] if timeline == 'header' else None,
            int(np.sum(receive[1:] < receive[:-1])),
            tuple(place[steps[topic]].tolist()),
            place[order] if any(steps.values()) else None,
        )
        numbers[topic] = number[order]
    return index, numbers


def frames_of(stored, clock, aligns, **more):
    """Return the episodes, each frame with its stamp and what serves it; or none and why."""
    index, numbers = indexed(stored, clock.timeline)
    tracks = [Track(topic, topic, align) for topic, align in aligns.items()]
    try:
        plan = make_plan(clock, '/clock', 20, tracks, index, **more)
    except (BagError, KeyError) as error:
        return [], str(error)
    cells = [
        [
            (numbers[track.track.topic][[first, second]].tolist(), float(weight), int(error))
            if first >= 0
            else None
            for first, second, weight, error in zip(
                track.first, track.second, track.weight, track.error, strict=True
            )
        ]
        for track in plan.tracks
    ]
    rows = list(zip(plan.stamps.tolist(), *cells, strict=True))
    return [rows[start:stop] for start, stop in plan.episodes], plan.report


ALIGNS = st.fixed_dictionaries(
    {
        '/clock': st.just(Align()),
        '/joints': st.builds(
            Align,
            strategy=st.sampled_from(['nearest', 'linear', 'hold']),
            tolerance_ms=st.sampled_from([None, 60]),
            on_gap=st.sampled_from(['keep', 'split']),
        ),
        '/rare': st.builds(Align, strategy=st.just('hold'), zeros_before_first=st.booleans()),
    }
)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 99),
    st.floats(0.1, 0.9),
    st.floats(0.4, 20),
    st.sampled_from(['receive', 'header', 'both']),
    st.sampled_from(['bag', 'header']),
    ALIGNS,
    st.sampled_from(['auto', 'time']),
    st.integers(0, 3),
)
def test_a_step_gives_the_episodes_of_both_halves(
    seed, where, back_s, kind, timeline, aligns, decimation, drop
):
    stored = recorded(seed, {'/clock': 20, '/joints': 50, '/rare': 1}, 4)
    cut = int(where * len(stored))
    whole = stepped(stored, cut, round(back_s * NS), kind)
    clock = replace(CLOCK, timeline=timeline, decimation=decimation, drop=drop)
    aligns = {topic: replace(align, timeline=timeline) for topic, align in aligns.items()}
    matters = kind == 'both' or kind == {'bag': 'receive', 'header': 'header'}[timeline]
    parts = [whole[:cut], whole[cut:]] if matters else [stored]
    expected = [episode for part in parts for episode in frames_of(part, clock, aligns)[0]]
    found, report = frames_of(whole, clock, aligns)
    assert found == expected
    if expected:
        assert bool(report.clock_steps) == matters
        if matters:
            assert report.clock_steps[0].back_s == pytest.approx(back_s, abs=0.1)
    assert not frames_of(whole, replace(clock, on_step_back='fail'), aligns)[0] or not matters
