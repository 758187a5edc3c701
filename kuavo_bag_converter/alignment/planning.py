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

"""Pass 1: from the stamps of a bag, and the few texts that cut it, to its plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from kuavo_bag_converter.alignment.binding import Binding
from kuavo_bag_converter.alignment.marks import find_marks, read_marks
from kuavo_bag_converter.alignment.plan import BadPictures, make_plan, Plan, topics_with_header
from kuavo_bag_converter.alignment.report import TopicStampReport
from kuavo_bag_converter.alignment.segments import (
    Cut,
    cut_by_marks,
    cut_by_messages,
    cut_by_ranges,
    tasks_of_frames,
    Value,
)
from kuavo_bag_converter.alignment.stamps import topic_times, TopicTimes
from kuavo_bag_converter.bags.model import BagReader, Connection, Ordinals, Stamps
from kuavo_bag_converter.bags.time_spans import TimeSpan
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.fields import ValueReader
from kuavo_bag_converter.profiles.model import Source
import numpy as np


def plan_bag(
    binding: Binding, reader: BagReader, definitions: Definitions, bad: BadPictures | None = None
) -> Plan:
    """
    Decide which message serves which frame, and how frames form episodes.

    Payloads are read of the topics that name the task or cut the bag, and of no other. Frames
    that ``bad`` messages would serve are cut.

    :raises BagError: The bag is damaged, or no frame is left.
    """
    profile = binding.profile
    headed = topics_with_header(binding.clock_topic, profile.clock, binding.tracks)
    index = reader.index(aligned_topics(binding), headed)
    times = topic_times(index, binding.clock_topic, profile.clock.absurd_stamp_s)
    cut = _cut(binding, reader, definitions, times)
    plan = make_plan(
        profile.clock,
        binding.clock_topic,
        profile.fps,
        binding.tracks,
        index,
        binding.end_topics,
        cut.segments if cut else None,
        bad,
        latched_topics(reader.connections),
    )
    report = replace(
        plan.report, cut=cut.report if cut else None, stand_ins=binding.stand_ins or None
    )
    texts: list[str] = []
    stamps: Stamps = np.empty(0, dtype=np.int64)
    if binding.task_source is not None:
        source = binding.task_source
        stamps, ordinals = _on_clock(binding, times, source.topic, held=True)
        texts = [str(value) for value in _values(source, ordinals, reader, definitions)]
        report = replace(report, task_stamps=_stamps(times, source.topic, held=True))
    tasks = tasks_of_frames(plan.stamps, profile.task, cut, stamps, texts)
    if profile.task_sources:
        report = replace(report, frames_with_default_task=tasks.by_default)
    return replace(plan, report=report, tasks=tasks.texts, task_index=tasks.of_frame)


def latched_topics(connections: Iterable[Connection]) -> frozenset[str]:
    """Return the topics whose last message lasts, by what all their publishers declare."""
    latched: dict[str, bool] = {}
    for connection in connections:
        latched[connection.topic] = latched.get(connection.topic, True) and connection.latched
    return frozenset(topic for topic, lasts in latched.items() if lasts)


def aligned_topics(binding: Binding) -> frozenset[str]:
    """Return the topics whose stamps a plan takes into account."""
    read = [binding.task_source, binding.episode_source]
    return frozenset(
        [
            binding.clock_topic,
            *binding.end_topics,
            *(track.topic for track in binding.tracks),
            *(source.topic for source in read if source is not None),
        ]
    )


def _cut(
    binding: Binding,
    reader: BagReader,
    definitions: Definitions,
    times: Mapping[str, TopicTimes],
) -> Cut | None:
    episodes = binding.profile.episodes
    timeline = binding.profile.clock.timeline
    clock, _ = times[binding.clock_topic].usable(timeline)
    if not len(clock):
        raise times[binding.clock_topic].nothing_usable(binding.clock_topic, timeline)
    span = TimeSpan(int(clock[0]), int(clock[-1]))
    if episodes.ranges:
        return cut_by_ranges(episodes.ranges, span)
    if episodes.marks_file:
        path = find_marks(episodes.marks_file, reader.path)
        return cut_by_marks(read_marks(path), span, path.name)
    source = binding.episode_source
    if source is None:
        return None
    # Only a state lasts from before the recording; what was begun or said then is over.
    held = episodes.rule == 'while_true'
    stamps, ordinals = _on_clock(binding, times, source.topic, held=held)
    values = _values(source, ordinals, reader, definitions) if source.fields else []
    cut = cut_by_messages(episodes, source.topic, stamps, values, span)
    stamps_of_topic = _stamps(times, source.topic, held=held)
    return cut._replace(report=replace(cut.report, stamps=stamps_of_topic))


def _stamps(times: Mapping[str, TopicTimes], topic: str, *, held: bool) -> TopicStampReport:
    return TopicStampReport(topic, held, times[topic].counts('bag'))


def _on_clock(
    binding: Binding, times: Mapping[str, TopicTimes], topic: str, *, held: bool
) -> tuple[Stamps, Ordinals]:
    """Return when messages were received, ascending, on the time line of the frame clock."""
    stamps, ordinals = times[topic].usable('bag', held=held)
    if binding.profile.clock.timeline == 'header':
        stamps = np.maximum.accumulate(times[binding.clock_topic].moved(stamps, 'header'))
    return stamps, ordinals


def _values(
    source: Source, ordinals: Ordinals, reader: BagReader, definitions: Definitions
) -> list[Value]:
    """Read one field of some messages of a topic, in the order of ``ordinals``."""
    readers: dict[int, ValueReader] = {}
    values: dict[int, Value] = {}
    for message in reader.messages({source.topic: ordinals}):
        connection = message.connection
        if connection.id not in readers:
            readers[connection.id] = ValueReader(source.fields[0], connection, definitions)
        decoded = definitions.decoder(connection)(bytes(message.data))
        values[message.ordinal] = readers[connection.id].read(decoded)
    return [values[ordinal] for ordinal in ordinals.tolist()]
