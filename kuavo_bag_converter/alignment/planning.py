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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kuavo_bag_converter.alignment.binding import Binding
from kuavo_bag_converter.alignment.marks import find_marks, read_marks
from kuavo_bag_converter.alignment.plan import (
    BadPictures,
    LanguageRow,
    Plan,
    plan_recording,
    recording_of,
    topics_with_header,
)
from kuavo_bag_converter.alignment.report import CutReport, LanguageReport, TopicStampReport
from kuavo_bag_converter.alignment.runs import BagTimes, step_text
from kuavo_bag_converter.alignment.segments import (
    Cut,
    cut_by_marks,
    cut_by_messages,
    cut_by_ranges,
    FrameTasks,
    joined_tasks,
    language_rows,
    tasks_of_frames,
    Value,
)
from kuavo_bag_converter.alignment.stamps import TopicTimes, total_counts
from kuavo_bag_converter.bags.model import BagReader, Connection, Ordinals, Stamps
from kuavo_bag_converter.bags.time_spans import TimeSpan
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.fields import ValueReader
from kuavo_bag_converter.profiles.model import Source
from kuavo_bag_converter.support.errors import BagError
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
    latched = latched_topics(reader.connections)
    recording = recording_of(
        profile.clock, binding.clock_topic, binding.tracks, index, latched,
        by_receive=bool(binding.text_sources),
    )  # fmt: skip
    cuts, failures = _cuts(binding, reader, definitions, recording)
    plan = plan_recording(
        profile.clock,
        binding.clock_topic,
        profile.fps,
        binding.tracks,
        recording,
        binding.end_topics,
        [cut.segments if cut else () for cut in cuts] if any(cuts) else None,
        bad,
        latched,
        profile.episodes.min_episode_s,
    )
    report = replace(
        plan.report,
        cut=_cut_report(binding, recording, cuts),
        stand_ins=binding.stand_ins or None,
    )
    if failures:
        reasons = (*failures, *(report.runs_without_frames or ()))
        report = replace(report, runs_without_frames=reasons)
    if binding.task_source is not None:
        stamps = _stamps(recording, binding.task_source.topic, held=True)
        report = replace(report, task_stamps=stamps)
    tasks = _tasks(binding, reader, definitions, recording, plan, cuts)
    if profile.task_sources:
        report = replace(report, frames_with_default_task=tasks.by_default)
    plan = replace(plan, tasks=tasks.texts, task_index=tasks.of_frame)
    if profile.language:
        rows, counts = _language(binding, reader, definitions, recording, plan)
        plan, report = replace(plan, language=rows), replace(report, language=counts)
    return replace(plan, report=report)


def _tasks(
    binding: Binding,
    reader: BagReader,
    definitions: Definitions,
    recording: BagTimes,
    plan: Plan,
    cuts: Sequence[Cut | None],
) -> FrameTasks:
    """Return the task of every frame; a text lasts until the next, also over a clock's step."""
    found = []
    for number, times in enumerate(recording.runs):
        texts: list[str] = []
        stamps: Stamps = np.empty(0, dtype=np.int64)
        source = binding.task_source
        if source is not None:
            stamps, ordinals = _on_clock(binding, times, source.topic, held=True)
            texts = [str(value) for value in _values(source, ordinals, reader, definitions)]
        frames = plan.stamps[plan.run == number]
        found.append(tasks_of_frames(frames, binding.profile.task, cuts[number], stamps, texts))
    return joined_tasks(found)


def _language(
    binding: Binding,
    reader: BagReader,
    definitions: Definitions,
    recording: BagTimes,
    plan: Plan,
) -> tuple[tuple[tuple[LanguageRow, ...], ...], tuple[LanguageReport, ...]]:
    """Return the rows of each episode's language columns, and what became of the texts."""
    assert plan.run is not None
    of_episode: list[list[LanguageRow]] = [[] for _ in plan.episodes]
    reports = []
    for one, source in zip(binding.profile.language, binding.language_sources, strict=True):
        report = LanguageReport(one.style, one.role, key=one.key or None)
        for number, times in enumerate(recording.runs if source is not None else ()):
            assert source is not None
            stamps, ordinals = _on_clock(binding, times, source.topic, held=one.lasts)
            texts = [str(text).strip() for text in _values(source, ordinals, reader, definitions)]
            said = [(at, text) for at, text in zip(stamps.tolist(), texts, strict=True) if text]
            report = replace(
                report, topic=source.topic, texts=report.texts + len(texts),
                blank=report.blank + len(texts) - len(said),
            )  # fmt: skip
            for rows, (start, stop) in zip(of_episode, plan.episodes, strict=True):
                if plan.run[start] == number:
                    frames = plan.stamps[start:stop]
                    found = language_rows(one, frames, said, binding.profile.fps)
                    rows.extend(found)
                    report = replace(report, rows=report.rows + len(found))
        reports.append(report)
    ordered = (tuple(sorted(rows, key=lambda row: row.frame)) for rows in of_episode)
    return tuple(ordered), tuple(reports)


def latched_topics(connections: Iterable[Connection]) -> frozenset[str]:
    """Return the topics whose last message lasts, by what all their publishers declare."""
    latched: dict[str, bool] = {}
    for connection in connections:
        latched[connection.topic] = latched.get(connection.topic, True) and connection.latched
    return frozenset(topic for topic, lasts in latched.items() if lasts)


def aligned_topics(binding: Binding) -> frozenset[str]:
    """Return the topics whose stamps a plan takes into account."""
    return frozenset(
        [
            binding.clock_topic,
            *binding.end_topics,
            *(track.topic for track in binding.tracks),
            *(source.topic for source, _ in binding.text_sources),
        ]
    )


def _cuts(
    binding: Binding, reader: BagReader, definitions: Definitions, recording: BagTimes
) -> tuple[list[Cut | None], list[str]]:
    """
    Cut each run; where one gives no episode, say why.

    :raises BagError: No run gives one.
    """
    episodes = binding.profile.episodes
    if recording.steps and (episodes.ranges or episodes.marks_file):
        rule = 'ranges' if episodes.ranges else 'marks_file'
        raise BagError(
            f'episodes.{rule} needs one clock, but {step_text(recording.steps[0])}; cut by a '
            'topic, or cut the recording there'
        )
    cuts: list[Cut | None] = []
    failures: list[BagError] = []
    for times in recording.runs:
        cut, failure = _tried(binding, reader, definitions, times)
        cuts.append(cut)
        failures += [failure] if failure else []
    if len(failures) == len(cuts):
        raise failures[0]
    return cuts, [str(error) for error in failures]


def _tried(
    binding: Binding, reader: BagReader, definitions: Definitions, times: Mapping[str, TopicTimes]
) -> tuple[Cut | None, BagError | None]:
    try:
        return _cut(binding, reader, definitions, times), None
    except BagError as error:
        return None, error


def _cut_report(
    binding: Binding, recording: BagTimes, cuts: Sequence[Cut | None]
) -> CutReport | None:
    """Add up how the runs of a bag were cut."""
    counts = [vars(cut.report) for cut in cuts if cut]
    if not counts:
        return None
    report = CutReport(
        **{
            key: sum(one[key] for one in counts) if isinstance(value, int) else value
            for key, value in counts[0].items()
        }
    )
    source = binding.episode_source
    if source is None:
        return report
    held = binding.profile.episodes.rule == 'while_true'
    return replace(report, stamps=_stamps(recording, source.topic, held=held))


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
    return cut_by_messages(episodes, source.topic, stamps, values, span)


def _stamps(recording: BagTimes, topic: str, *, held: bool) -> TopicStampReport:
    return TopicStampReport(topic, held, total_counts(recording.topic(topic), 'bag'))


def _on_clock(
    binding: Binding, times: Mapping[str, TopicTimes], topic: str, *, held: bool
) -> tuple[Stamps, Ordinals]:
    """Return when messages were received, ascending, on the time line of the frame clock."""
    stamps, ordinals = times[topic].usable('bag', held=held, carried=held)
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
