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

"""The report of a plan has one JSON form, which says everything and can be read back."""

from __future__ import annotations

import json

from conversions import report, run
from hypothesis import given
from hypothesis import strategies as st
from kuavo_bag_converter.alignment.report import (
    CutReport,
    ErrorMs,
    PLAN_FORMAT,
    PlanReport,
    StampCounts,
    TopicStampReport,
    TrackReport,
)
from kuavo_bag_converter.replay.verify import verify
from kuavo_bag_converter.sample.write import write_sample
from record_files import edit_record

numbers = st.integers(0, 10**6)
texts = st.text(max_size=5)
maybe = st.none() | numbers
seconds = st.none() | st.floats(0, 1e6)
stamps = st.builds(StampCounts, numbers, seconds, numbers, numbers, numbers)
topics = st.builds(TopicStampReport, texts, st.none() | st.booleans(), stamps)
tracks = st.builds(
    TrackReport, name=texts, topic=texts, strategy=texts, messages=numbers, stamps=stamps,
    used=numbers, error_ms=st.builds(ErrorMs, seconds, seconds, seconds),
    cut=numbers, on_gap=texts,
)  # fmt: skip
cuts = st.builds(
    CutReport, rule=texts, episodes=numbers, messages=maybe, beyond_end=maybe, open_at_end=maybe,
    discarded=maybe, unfinished=maybe, other_texts=maybe, outside=numbers,
    stamps=st.none() | topics,
)  # fmt: skip
plans = st.builds(
    PlanReport, clock_topic=texts, clock_stamps=topics, end_trim_topic=st.none() | texts,
    latched_topics=st.lists(texts, max_size=2).map(tuple), clock_error_ms=st.floats(0, 1e6),
    frames=numbers, tracks=st.lists(tracks, max_size=2).map(tuple), cut=st.none() | cuts,
    task_stamps=st.none() | topics, frames_with_default_task=maybe,
    bad_images=st.none() | st.dictionaries(texts, numbers, max_size=2),
)  # fmt: skip


@given(plans)
def test_what_is_written_is_read_back(plan):
    assert PlanReport.from_json(json.loads(json.dumps(plan.as_json()))) == plan


@given(plans)
def test_what_does_not_apply_is_left_out_and_what_is_unknown_is_null(plan):
    document = plan.as_json()
    for name in ('cut', 'task_stamps', 'frames_with_default_task', 'bad_images'):
        assert (name in document) == (getattr(plan, name) is not None)
    assert document['end_trim_topic'] == plan.end_trim_topic
    for track, written in zip(plan.tracks, document['tracks'], strict=True):
        assert written['outside_by_s'] == track.stamps.outside_by_s
        assert written['error_ms']['max'] == track.error_ms.max


def test_a_record_of_an_earlier_version_is_read():
    track = {'topic': '/x', 'messages': 3, 'outside_recording': 1}
    plan = PlanReport.from_json({'frames': 7, 'tracks': [track], 'of_another_version': 1})
    assert (plan.frames, plan.frames_with_bad_images, plan.bad_images) == (7, 0, None)
    (read,) = plan.tracks
    assert (read.topic, read.stamps.outside_recording, read.used) == ('/x', 1, 0)


def test_a_dataset_has_the_format_and_one_of_a_later_format_is_not_taken_for_it(tmp_path):
    write_sample(tmp_path / '0.bag', seconds=1.5, size=(48, 64), depth=False)
    run(tmp_path / '0.bag', tmp_path / 'out', use_depth=False)
    assert report(tmp_path / 'out')['bags'][0]['plan']['format'] == PLAN_FORMAT
    edit_record(
        tmp_path / 'out',
        lambda document: document['bags'][0]['plan'].update(format=PLAN_FORMAT + 1),
    )
    (finding,) = verify(tmp_path / 'out').findings
    assert finding.rule == 'conversion.unreadable'
    assert f'format {PLAN_FORMAT + 1} of a plan, known is {PLAN_FORMAT}' in finding.found
