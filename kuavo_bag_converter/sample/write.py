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

"""Making a sample: schedule all messages, build them in receive order, write them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
import shutil
from typing import Any

from kuavo_bag_converter.bags.model import NS_PER_S, Stamps
from kuavo_bag_converter.sample.cameras import cameras
from kuavo_bag_converter.sample.definitions import Ros, SampleDefinitions
from kuavo_bag_converter.sample.end_effectors import end_effectors
from kuavo_bag_converter.sample.extras import extras
from kuavo_bag_converter.sample.joints import body, whole_body
from kuavo_bag_converter.sample.messages import Messages, Moment, Topic
from kuavo_bag_converter.sample.options import SampleOptions
from kuavo_bag_converter.sample.roban import roban
from kuavo_bag_converter.sample.robot import SampleTimeline
from kuavo_bag_converter.sample.stamps import published, received, seeded
from kuavo_bag_converter.sample.storage import recorder
from kuavo_bag_converter.sample.truth import SampleTruth, TopicTruth
from kuavo_bag_converter.support.errors import UsageError
import numpy as np

START = 1_767_500_000 * NS_PER_S
"""When every sample starts, ns since the epoch."""

_THREADS = 2
_AHEAD = 128


def write_sample(
    path: Path | str, options: SampleOptions | None = None, **changes: Any
) -> SampleTruth:
    """
    Write a recording of a Kuavo, or a Roban, with known content.

    The same options give the same stamps, values and pictures in every storage. Messages are
    built and written one at a time, in the order of their receive stamps.

    :param path: Where it goes: a ``.bag`` file, or the directory of a rosbag2 recording.
    :param options: What it contains.
    :param changes: Single options by name, which win over ``options``.
    :raises UsageError: ``path`` exists, or the options do not fit each other.
    """
    options = replace(options or SampleOptions(), **changes)
    path = Path(path)
    if path.exists():
        raise UsageError(f'sample: {path} exists already; remove it or name another place')
    timeline = SampleTimeline(START, round(options.seconds * NS_PER_S))
    topics = _robot_topics(options, timeline)
    truth = SampleTruth(*timeline, _schedule(topics, options, timeline), asdict(options))
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f'.{path.name}.unfinished')
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        _record(aside / path.name, topics, truth, options)
        (aside / path.name).rename(path)
    finally:
        shutil.rmtree(aside)
    return truth


def _robot_topics(options: SampleOptions, timeline: SampleTimeline) -> list[Topic]:
    """
    Return the topics that a robot with these options records.

    :raises UsageError: ``starts`` or ``gaps`` name a topic that is not among them.
    """
    topics = (
        [*roban(timeline), *cameras(options)]
        if options.is_roban
        else [
            *body(options, timeline),
            *end_effectors(options, timeline),
            *(whole_body(options, timeline) if options.whole_body else ()),
            *cameras(options),
            *(extras(timeline) if options.extras else ()),
        ]
    )
    names = {topic.name for topic in topics if not topic.clock}
    for option in ('starts', 'gaps'):
        for name in getattr(options, option):
            if name not in names:
                raise UsageError(
                    f'sample: {option} names {name}, which is not among the topics: '
                    f'{", ".join(sorted(names))}'
                )
    return [_timed(topic, options) for topic in topics]


def _timed(topic: Topic, options: SampleOptions) -> Topic:
    own = topic.clock or topic.name
    timing = replace(
        topic.timing,
        start_s=options.starts.get(own, topic.timing.start_s),
        gaps_s=tuple(options.gaps.get(own, ())),
    )
    return replace(topic, timing=timing)


def _schedule(
    topics: list[Topic], options: SampleOptions, timeline: SampleTimeline
) -> dict[str, TopicTruth]:
    schedule = {}
    for topic in topics:
        clock = seeded(options.seed, f'published {topic.clock or topic.name}')
        times = published(topic.timing, *timeline, clock)
        if not len(times):
            raise UsageError(f'sample: starts and gaps leave no message on {topic.name}')
        receive = received(topic.timing, times, seeded(options.seed, f'received {topic.name}'))
        if topic.latched:
            receive = receive - round(options.latched_age_s * NS_PER_S)
        schedule[topic.name] = TopicTruth(
            msgtype=topic.msgtype,
            rate=topic.timing.rate,
            receive=receive,
            header=_headers(topic, times, timeline),
            time=times,
            camera=topic.camera,
            ramps=topic.ramps,
        )
    return schedule


def _headers(topic: Topic, times: Stamps, timeline: SampleTimeline) -> Stamps | None:
    if not topic.has_header:
        return None
    stamped = times >= timeline.start + round(topic.timing.unstamped_s * NS_PER_S)
    return np.where(stamped, times, 0)


def _record(path: Path, topics: list[Topic], truth: SampleTruth, options: SampleOptions) -> None:
    ros: Ros = 1 if options.storage == 'bag' else 2
    definitions = SampleDefinitions(ros, options.sdk)
    messages = Messages(ros, definitions)
    with recorder(path, options.storage, options.compression) as declare:
        writers = [declare(topic, definitions[topic.msgtype]) for topic in topics]
        for index, stamp, payload in _payloads(topics, truth, messages):
            writers[index](stamp, payload)


def _payloads(
    topics: list[Topic], truth: SampleTruth, messages: Messages
) -> Iterator[tuple[int, int, memoryview]]:
    """Yield topic index, receive stamp and payload of all messages, pictures made ahead."""
    ahead: deque[tuple[int, int, memoryview | Future[memoryview]]] = deque()
    schedules = [truth.topics[topic.name] for topic in topics]
    with ExitStack() as stack:
        shared = stack.enter_context(ThreadPoolExecutor(_THREADS))
        pools = [
            stack.enter_context(ThreadPoolExecutor(1)) if topic.in_order else shared
            for topic in topics
        ]
        for index, ordinal in _receive_order(schedules):
            schedule = schedules[index]
            time = int(schedule.time[ordinal])
            header = time if schedule.header is None else int(schedule.header[ordinal])
            moment = Moment(ordinal, header, time)
            topic = topics[index]
            payload = (
                pools[index].submit(_payload, topic, messages, moment)
                if topic.camera
                else _payload(topic, messages, moment)
            )
            ahead.append((index, int(schedule.receive[ordinal]), payload))
            if len(ahead) > _AHEAD:
                yield _finished(ahead)
        while ahead:
            yield _finished(ahead)


def _payload(topic: Topic, messages: Messages, moment: Moment) -> memoryview:
    return messages.serialize(topic.build(messages, moment), topic.msgtype)


def _finished(
    ahead: deque[tuple[int, int, memoryview | Future[memoryview]]],
) -> tuple[int, int, memoryview]:
    index, stamp, payload = ahead.popleft()
    return index, stamp, payload.result() if isinstance(payload, Future) else payload


def _receive_order(schedules: list[TopicTruth]) -> Iterator[tuple[int, int]]:
    """Yield topic index and ordinal of all messages, ties in the order of topics."""
    counts = [len(schedule.receive) for schedule in schedules]
    topics = np.repeat(np.arange(len(counts)), counts)
    ordinals = np.concatenate([np.arange(count) for count in counts])
    order = np.argsort(np.concatenate([schedule.receive for schedule in schedules]), kind='stable')
    for position in order:
        yield int(topics[position]), int(ordinals[position])
