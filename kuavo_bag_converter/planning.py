"""Pass 1: from the stamps of a bag, and the few texts that cut it, to its plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from kuavo_bag_converter.alignment import Bad, Plan, make_plan, topics_with_header
from kuavo_bag_converter.bags.model import BagReader, Stamps, TopicIndex
from kuavo_bag_converter.binding import Binding
from kuavo_bag_converter.errors import BagError
from kuavo_bag_converter.marks import marks_path, read_marks
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.fields import ValueReader
from kuavo_bag_converter.profiles.model import Source
from kuavo_bag_converter.segments import (
    Cut,
    Span,
    Value,
    cut_by_marks,
    cut_by_messages,
    cut_by_ranges,
    tasks_of_frames,
)


def plan_bag(
    binding: Binding, reader: BagReader, definitions: Definitions, bad: Bad | None = None
) -> Plan:
    """Decide which message serves which frame, and how frames form episodes.

    Payloads are read of the topics that name the task or cut the bag, and of no other. Frames
    that ``bad`` messages would serve are cut.

    Raises:
        BagError: The bag is damaged, or no frame is left.

    """
    index = _index(binding, reader)
    cut = _cut(binding, reader, definitions, index)
    profile = binding.profile
    plan = make_plan(
        profile.clock,
        binding.clock_topic,
        profile.fps,
        binding.tracks,
        index,
        binding.end_topics,
        cut.segments if cut else None,
        bad,
    )
    if cut:
        plan.report['cut'] = cut.report
    texts: list[str] = []
    stamps: Stamps = np.empty(0, dtype=np.int64)
    if binding.task_source is not None:
        texts = [str(value) for value in _values(binding.task_source, reader, definitions)]
        stamps = _on_clock(binding, index[binding.task_source.topic])
    tasks = tasks_of_frames(plan.stamps, profile.task, cut, stamps, texts)
    if profile.task_sources:
        plan.report['frames_with_default_task'] = tasks.by_default
    return replace(plan, tasks=tasks.texts, task_index=tasks.of_frame)


def _index(binding: Binding, reader: BagReader) -> dict[str, TopicIndex]:
    clock = binding.profile.clock
    read = [binding.task_source, binding.episode_source]
    topics = {
        binding.clock_topic,
        *binding.end_topics,
        *(track.topic for track in binding.tracks),
        *(source.topic for source in read if source is not None),
    }
    return reader.index(topics, topics_with_header(binding.clock_topic, clock, binding.tracks))


def _cut(
    binding: Binding,
    reader: BagReader,
    definitions: Definitions,
    index: Mapping[str, TopicIndex],
) -> Cut | None:
    episodes = binding.profile.episodes
    clock = _on_clock(binding, index[binding.clock_topic])
    clock = clock[clock > 0]  # unset header stamps are 0
    if not len(clock):
        raise BagError(f'{binding.clock_topic}: no header stamp is set; use timeline: bag')
    span = Span(int(clock.min()), int(clock.max()))
    if episodes.ranges:
        return cut_by_ranges(episodes.ranges, span)
    if episodes.marks_file:
        name = reader.path.name.removesuffix('.active')
        name = name if reader.path.is_dir() else name.rpartition('.')[0]
        path = marks_path(episodes.marks_file, reader.path.parent, name)
        return cut_by_marks(read_marks(path), span, path.name)
    source = binding.episode_source
    if source is None:
        return None
    values = _values(source, reader, definitions) if source.fields else []
    stamps = _on_clock(binding, index[source.topic])
    return cut_by_messages(episodes, source.topic, stamps, values, span)


def _on_clock(binding: Binding, index: TopicIndex) -> Stamps:
    """Return stamps on the time line of the frame clock, or receive stamps without a header."""
    if binding.profile.clock.timeline == 'header' and index.header is not None:
        return index.header
    return index.receive


def _values(source: Source, reader: BagReader, definitions: Definitions) -> list[Value]:
    """Read one field of every message of a topic, in the order of its ordinals."""
    ordinals = np.arange(reader.counts[source.topic], dtype=np.int64)
    readers: dict[int, ValueReader] = {}
    values: dict[int, Value] = {}
    for message in reader.messages({source.topic: ordinals}):
        connection = message.connection
        if connection.id not in readers:
            readers[connection.id] = ValueReader(source.fields[0], connection, definitions)
        decoded = definitions.decoder(connection)(bytes(message.data))
        values[message.ordinal] = readers[connection.id].read(decoded)
    return [values[ordinal] for ordinal in sorted(values)]
