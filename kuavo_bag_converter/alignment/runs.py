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

"""
A recording as runs: between two of them a clock was set back. Pure numpy, no input or output.

Within a run stamps are sorted; between runs they never are, and no message of one run serves a
frame of another, see docs/time.md. All stamps are int64 nanoseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from kuavo_bag_converter.alignment.report import ClockStep
from kuavo_bag_converter.alignment.stamps import header_limit_of, topic_times, TopicTimes, trusted
from kuavo_bag_converter.bags.clock_steps import steps_back
from kuavo_bag_converter.bags.model import NS_PER_S, Ordinals, Stamps, TopicIndex
from kuavo_bag_converter.profiles.model import Clock
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.texts import listed
import numpy as np
import numpy.typing as npt

_UNDER_WAY_NS = NS_PER_S
"""Messages of one moment are received within this time."""
_MIXED_NS = NS_PER_S // 4
"""Messages of one moment are stored within this time."""

MessageNumbers = Mapping[str, Ordinals]
"""A number for each message, by topic and ordinal."""


@dataclass(frozen=True, eq=False)
class BagTimes:
    """The stamps of a bag's topics, run by run."""

    runs: tuple[Mapping[str, TopicTimes], ...]
    """The topics of each run, in the order in which they were recorded."""
    steps: tuple[ClockStep, ...] = ()
    """Where clocks were set back: one less than there are runs."""

    def topic(self, name: str) -> list[TopicTimes]:
        """Return a topic's times in each run."""
        return [run[name] for run in self.runs]


class _Shown(NamedTuple):
    """What one topic shows of a step, in places of the file or in time."""

    high: int
    """Of the first message after the step."""
    low: int
    """Of the last message before it."""
    topic: str
    before_ns: int
    """Stamp of the last message before it."""
    after_ns: int
    begin: int
    """Rank of the first message after it, among those of the topic."""


class _Step(NamedTuple):
    """A clock that was set back, as the topics show it that can."""

    shown: tuple[_Shown, ...]

    @property
    def place(self) -> int:
        """Where the first of the topics has passed it."""
        return min(item.high for item in self.shown)

    @property
    def before_ns(self) -> int:
        return max(item.before_ns for item in self.shown)

    @property
    def after_ns(self) -> int:
        return min(item.after_ns for item in self.shown)

    @property
    def first(self) -> _Shown:
        """Who shows first that it is over."""
        return min(self.shown, key=lambda item: item.high)

    @property
    def last(self) -> _Shown:
        """Who shows last that it is still to come."""
        return max(self.shown, key=lambda item: item.low)

    def of(self, topic: str) -> _Shown | None:
        return next((item for item in self.shown if item.topic == topic), None)


def read_bag_times(
    index: Mapping[str, TopicIndex],
    clock: Clock,
    clock_topic: str,
    needed: AbstractSet[str],
    *,
    by_receive: bool = True,
    latched: AbstractSet[str] = frozenset(),
) -> BagTimes:
    """
    Part a bag where a clock was set back, and decide which stamps are trusted.

    :param index: Stamps of the topics.
    :param clock: What is to be done.
    :param clock_topic: Topic of the frame clock.
    :param needed: Topics that every frame needs a message of from its own run.
    :param by_receive: Whether anything is aligned by receive stamps; else steps of the recorder's
        clock do not matter.
    :param latched: Topics whose last message lasts, over steps too.
    :raises BagError: A clock was set back and must not be.
    """
    if not any(times.steps for times in index.values()) and not _headers_step_back(index, clock):
        return BagTimes((topic_times(index, clock_topic, clock.absurd_stamp_s),))
    found, elapsed = _recorder_runs(index, needed)
    if found.steps and not by_receive:
        # Then the recorder's clock does not matter, unless it was set back with the publishers'.
        as_one = {topic: np.zeros_like(numbers) for topic, numbers in found.run.items()}
        if not _publisher_runs(index, clock, as_one, elapsed)[1]:
            found = _RecorderRuns(as_one, [])
    run, header_steps = _publisher_runs(index, clock, found.run, elapsed)
    steps = sorted([*found.steps, *header_steps], key=lambda step: step.at_s)
    if steps and clock.on_step_back == 'fail':
        raise BagError(f'{step_text(steps[0])}; set on_step_back: split to end the episode there')
    count = 1 + max((int(numbers.max()) for numbers in run.values() if len(numbers)), default=0)
    runs = []
    for number in range(count):
        ordinals = {topic: np.flatnonzero(numbers == number) for topic, numbers in run.items()}
        whole = count == 1
        part = index if whole else {t: _restricted(index[t], ordinals[t]) for t in index}
        times = topic_times(part, clock_topic, clock.absurd_stamp_s)
        if not whole:
            begins = _begins(times[clock_topic])
            times = {
                topic: replace(
                    one,
                    numbers=ordinals[topic],
                    last_before=_last_before(run[topic], index[topic], number),
                    lasts=topic in latched,
                    begins=begins,
                )
                for topic, one in times.items()
            }
        runs.append(times)
    return BagTimes(tuple(runs), tuple(steps))


@dataclass
class _RecorderRuns:
    run: dict[str, Ordinals]
    steps: list[ClockStep]


def _recorder_runs(
    index: Mapping[str, TopicIndex], needed: AbstractSet[str]
) -> tuple[_RecorderRuns, MessageNumbers]:
    """
    Part topics where the recorder's clock was set back.

    Returns also when messages were received by a clock that is never set back.
    """
    one = {topic: np.zeros(len(times.receive), np.int64) for topic, times in index.items()}
    received: MessageNumbers = {topic: times.receive for topic, times in index.items()}
    if not any(times.steps for times in index.values()):
        return _RecorderRuns(one, []), received
    steps = _shared_steps(index)
    run: dict[str, Ordinals] = {}
    for topic, times in index.items():
        assert times.place is not None
        passed = [
            times.place >= own.high
            if (own := step.of(topic))
            else _passed(
                step, times.place, times.receive, step.last.before_ns, step.first.after_ns
            )
            for step in steps
        ]
        run[topic] = np.asarray(np.sum(passed, axis=0, dtype=np.int64))
    present = [
        {topic for topic, numbers in run.items() if (numbers == number).any()}
        for number in range(len(steps) + 1)
    ]
    if not any(needed <= topics for topics in present):
        # Recordings were put one after the other, each with some of the topics.
        return _RecorderRuns(one, []), received
    back = np.cumsum([0, *(max(step.before_ns - step.after_ns, 0) for step in steps)])
    elapsed = {topic: index[topic].receive + back[numbers] for topic, numbers in run.items()}
    begin = min(int(stamps.min()) for stamps in elapsed.values() if len(stamps))
    reports = [
        _report('receive', step, int(step.before_ns + moved - begin))
        for step, moved in zip(steps, back, strict=False)
    ]
    return _RecorderRuns(run, reports), elapsed


def recorder_steps(index: Mapping[str, TopicIndex]) -> list[ClockStep]:
    """
    Return where the recorder's clock was set back.

    :raises BagError: Topics show the same step at places that are far from each other.
    """
    return _recorder_runs(index, frozenset())[0].steps


def _shared_steps(index: Mapping[str, TopicIndex]) -> list[_Step]:
    """
    Find the places where topics show that the recorder's clock was set back.

    :raises BagError: Topics show the same step at places that are far from each other.
    """
    shown: list[_Shown] = []
    total, length = 0, 1
    for topic, times in index.items():
        total += len(times.receive)
        if len(times.receive):
            length = max(length, int(times.receive[-1]) - int(times.receive[0]))
        if not times.steps:
            continue
        assert times.place is not None
        order = np.argsort(times.place)
        places, stamps = times.place[order], times.receive[order]
        ranks = np.searchsorted(places, times.steps).tolist()
        shown += [_shown(topic, places, stamps, rank, rank) for rank in ranks]
    steps = _gathered(shown, max(8, total * _MIXED_NS // length))
    for number, first in enumerate(steps):
        for second in steps[slice(number + 1, None)]:
            alike = all(
                abs(a - b) <= _MIXED_NS
                for a, b in (
                    (first.before_ns, second.before_ns),
                    (first.after_ns, second.after_ns),
                )
            )
            topics = [{item.topic for item in step.shown} for step in (first, second)]
            if alike and not topics[0] & topics[1]:
                raise BagError(
                    f'{listed(sorted(topics[0] | topics[1]))}: their receive stamps go back at '
                    'places of the file that are far apart, as its topics are stored one after '
                    'the other; sort the bag as it was recorded, or use timeline: header'
                )
    return steps


def _shown(topic: str, places: Ordinals, stamps: Stamps, at: int, begin: int) -> _Shown:
    return _Shown(
        int(places[at]), int(places[at - 1]), topic, int(stamps[at - 1]), int(stamps[at]), begin
    )


def _gathered(shown: Collection[_Shown], slack: int) -> list[_Step]:
    """Gather what topics show of the same step; ``slack`` is how far they mix."""
    steps: list[list[_Shown]] = []
    for item in sorted(shown):
        mine = steps[-1] if steps else []
        if (
            not mine
            or any(other.topic == item.topic for other in mine)
            or item.low >= mine[0].high + slack
        ):
            steps.append(mine := [])
        mine.append(item)
    return [_Step(tuple(mine)) for mine in steps]


def _headers_step_back(index: Mapping[str, TopicIndex], clock: Clock) -> bool:
    limit = header_limit_of(clock.absurd_stamp_s)
    for times in index.values():
        if times.header is not None:
            believed = trusted(times, limit)
            if steps_back(times.header[believed], received=times.receive[believed]):
                return True
    return False


def _publisher_runs(
    index: Mapping[str, TopicIndex],
    clock: Clock,
    run: MessageNumbers,
    elapsed: MessageNumbers,
) -> tuple[MessageNumbers, list[ClockStep]]:
    """Part runs further where the clocks of publishers were set back."""
    limit = header_limit_of(clock.absurd_stamp_s)
    ranks: dict[str, Ordinals] = {}
    shown: dict[int, list[_Shown]] = {}
    for topic, times in index.items():
        if times.header is None:
            continue
        order = np.argsort(elapsed[topic], kind='stable')
        ranks[topic] = np.argsort(order)
        order = order[trusted(times, limit)[order]]
        for number in np.unique(run[topic][order]).tolist():
            mine = order[run[topic][order] == number]
            stamps, received = times.header[mine], elapsed[topic][mine]
            found = [
                _shown(topic, received, stamps, at, int(ranks[topic][mine[at]]))
                for at in steps_back(stamps, received=received)
            ]
            if found:
                shown.setdefault(number, []).extend(found)
    if not shown:
        return run, []
    start = min(int(stamps.min()) for stamps in elapsed.values() if len(stamps))
    steps = {number: _gathered(found, _UNDER_WAY_NS) for number, found in sorted(shown.items())}
    parted: dict[str, Ordinals] = {}
    for topic, numbers in run.items():
        parted[topic] = numbers.copy()
        for number, mine in steps.items():
            parted[topic][numbers > number] += len(mine)
            for step in mine:
                own = step.of(topic)
                if own is not None:
                    after = ranks[topic] >= own.begin
                else:
                    header, received = index[topic].header, elapsed[topic]
                    after = received >= step.place
                    if header is not None:
                        before, behind = step.last, step.first
                        after = _passed(
                            step, received, header - received,
                            before.before_ns - before.low, behind.after_ns - behind.high,
                        )  # fmt: skip
                parted[topic][(numbers == number) & after] += 1
    reports = [
        _report('header', step, step.place - start) for mine in steps.values() for step in mine
    ]
    return parted, reports


def _passed(
    step: _Step, places: Ordinals, values: Stamps, before: int, after: int
) -> npt.NDArray[np.bool_]:
    """
    Tell which messages came after a step, of a topic that does not show it.

    Of those that lie between topics that do, it is told by which of two values theirs is nearer.
    """
    nearer = np.abs(values - after) < np.abs(values - before)
    return np.asarray((places >= step.place) | ((places > step.last.low) & nearer))


def _report(stamps: Literal['receive', 'header'], step: _Step, at_ns: int) -> ClockStep:
    back = (step.before_ns - step.after_ns) / NS_PER_S
    return ClockStep(
        stamps,
        tuple(sorted(item.topic for item in step.shown)),
        round(at_ns / NS_PER_S, 3),
        round(back, 3),
    )


def step_text(step: ClockStep) -> str:
    """Say where a clock was set back, and whose stamps show it."""
    return (
        f'{listed(step.topics)}: {step.stamps} stamps go back by {step.back_s:.3f} s at '
        f'{step.at_s:.3f} s, where a clock was set back'
    )


def _begins(clock: TopicTimes) -> dict[str, int]:
    """Return when the messages of the frame clock begin, on each time line that is known."""
    lines = ['bag'] if clock.index.header is None else ['bag', 'header']
    return {line: int(min(clock.usable(line)[0], default=0)) for line in lines}


def _restricted(times: TopicIndex, ordinals: Ordinals) -> TopicIndex:
    """Return the stamps of one run of a topic."""
    index = times.only(ordinals)
    if index.place is None:
        return index
    stored = index.receive[np.argsort(index.place)]
    backward = int(np.sum(stored[1:] < stored[:-1]))
    return TopicIndex(index.receive, index.header, backward)


def _last_before(numbers: Ordinals, times: TopicIndex, run: int) -> int | None:
    """Return the message of earlier runs that came last."""
    earlier = np.flatnonzero(numbers < run)
    if not len(earlier):
        return None
    if times.place is not None:
        return int(earlier[np.argmax(times.place[earlier])])
    return int(earlier[-1])
