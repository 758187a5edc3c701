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
What a row is, stated once more from the definition of the profile, frame by frame.

Nothing of the converter's planning and tables is used: a topic is a list of messages, a frame is a
time, and for each of them docs/profiles.md and docs/time.md say which message serves it and what
becomes of its numbers.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, MISSING
from itertools import pairwise
import math
import re
from typing import Any, NamedTuple

from kuavo_bag_converter.profiles.model import (
    Align,
    CameraFeature,
    Clock,
    Episodes,
    Part,
    Profile,
    Source,
    VectorFeature,
)
from kuavo_bag_converter.replay.plain_recording import NotJudged
import numpy as np

SECOND = 10**9
_SILENCE_S = 600
"""A silence of all topics that parts a recording."""
_FILLED = {'zeros': 0.0, 'mark': 999.0}
_STATED = {
    Align: 'strategy timeline tolerance_ms gap_ms on_gap zeros_before_first reduce offset_ms '
    'shift',
    Source: 'topic fields msgtypes align names_field frame_ids publisher stamp_field '
    'stamp_unit tf',
    Part: 'names sources length on_length pad_value element_count select joints unit value_range '
    'scale offset threshold relative_to_start gap_flag align stand_in nan quaternion last_frame '
    'rotation',
    VectorFeature: 'key parts minus dtype samples window_ms',
    CameraFeature: 'key sources size depth depth_range align crop rotate fit value_range unit_mm '
    'store info_topic',
    Clock: 'sources source_fps most_messages decimation drop end_trim end_topics timeline '
    'absurd_stamp_s on_step_back on_pause',
    Episodes: 'ranges marks_file sources rule start stop discard min_episode_s',
    Profile: 'name robot_type fps clock features task task_sources episodes language',
}
"""What of a profile is stated here."""


def check_stated(*items: Any) -> None:
    """
    Look for what is not stated here.

    :raises NotJudged: A profile, or a part of it, sets a key of which nothing is said here.
    """
    for item in items:
        for one in fields(item):
            default = one.default if one.default_factory is MISSING else one.default_factory()
            if one.name not in _STATED[type(item)].split() and getattr(item, one.name) != default:
                raise NotJudged(f'the key {one.name}')


@dataclass
class StatedTopic:
    """The messages of a topic in the order in which they were stored; lists of equal length."""

    name: str
    places: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    headers: list[int] = field(default_factory=list)
    """Header stamps, ns; 0 where unset, or where there is no header."""
    numbers: list[int] = field(default_factory=list)
    """Which messages of the bag's topic they are, where only some can serve."""
    stretch: list[int] = field(default_factory=list)
    """Between which two steps of a clock a message lies."""

    def add(self, number: int, place: int, received: int, header: int) -> None:
        """Append a message."""
        self.numbers.append(number)
        self.places.append(place)
        self.received.append(received)
        self.headers.append(header)

    def stamps(self, timeline: str) -> list[int]:
        """Return the stamps on a time line."""
        return self.headers if timeline == 'header' else self.received


class StatedFrame(NamedTuple):
    """A frame of an episode: its stamp, on the time line of the frame clock, and its stretch."""

    stamp: int
    stretch: int
    before: int = 0
    """How long before the frame the sample lies that is meant, ns."""


class Cell(NamedTuple):
    """What serves a frame: the numbers of two messages of their topic, or what is filled in."""

    first: int = -1
    second: int = -1
    weight: float = 0.0
    fill: str = ''
    in_gap: bool = False
    cut: bool = False
    """Whether the frame must not be there at all."""


def samples_before(vector: VectorFeature, fps: int) -> list[int]:
    """Return how long before a frame its samples lie, ns: evenly spread, the last at the frame."""
    count = vector.samples
    window_ms = 1000 / fps if vector.window_ms is None else vector.window_ms
    return [round((count - number) * window_ms * 1e6 / count) for number in range(1, count + 1)]


def source_of(
    sources: Sequence[Source], topics: Mapping[str, object], types: Mapping[str, set[str]]
) -> Source | None:
    """Return the first source of which the bag has messages of a type that fits."""
    for source in sources:
        known = types.get(source.topic, set())
        if source.topic in topics and (not source.msgtypes or known & set(source.msgtypes)):
            return source
    return None


def mark_stretches(topics: Sequence[StatedTopic], timelines: Mapping[str, set[str]]) -> int:
    """
    Give each message the number of its stretch, and return how many stretches there are.

    Messages are stored as they happen. Where the stamps of a topic go back by more than jitter can
    explain, a clock was set back and a stretch begins; each topic notices with its next message.
    """
    steps: list[tuple[int, str]] = []
    for topic in topics:
        for timeline in timelines[topic.name]:
            steps += [(topic.places[i], topic.name) for i in _steps(topic.stamps(timeline))]
    groups: list[dict[str, int]] = []
    for place, name in sorted(steps):
        if not groups or name in groups[-1]:
            groups.append({})
        groups[-1][name] = place
    for topic in topics:
        begins = [group.get(topic.name, min(group.values())) for group in groups]
        topic.stretch = [bisect_right(begins, place) for place in topic.places]
    return len(groups) + 1


def _steps(stamps: Sequence[int]) -> list[int]:
    """
    Return where stamps go back and stay there.

    What is behind for one or two messages is late. What fills a hole was stored in another order.
    """
    known = [(index, stamp) for index, stamp in enumerate(stamps) if stamp]
    runs: list[tuple[int, int, int, int]] = []
    """Where stamps go back, from which stamp to which, and for how many messages."""
    late: list[int] = []
    place = 0
    latest = -(2**63)
    while place < len(known):
        index, stamp = known[place]
        if stamp >= latest:
            latest = stamp
            place += 1
            continue
        end = place
        while end < len(known) and known[end][1] < latest:
            end += 1
        if end - place > 2:
            runs.append((place, index, latest, end))
            latest = stamp
        else:
            late += [latest - value for _, value in known[place:end]]
            place = end
    late = sorted([0] * (len(known) - len(late)) + late)
    jitter = max(SECOND // 10, 2 * late[len(late) * 98 // 100] if late else 0)
    found = []
    for place, index, latest, end in runs:
        mine = [stamp for _, stamp in known[place:end]]
        before = sorted(stamp for _, stamp in known[:place])
        overlaps = bisect_left(before, mine[-1]) > bisect_right(before, mine[0])
        falls = sum(b < a for a, b in pairwise(mine))
        if latest - mine[0] > jitter and overlaps and falls <= 2 * len(mine) / 3:
            found.append(index)
    return found


class Statement:
    """
    Which messages serve the frames of one bag.

    :param profile: What a frame is made of.
    :param topics: Every topic that the profile names, as far as the bag has messages of it.
    :param clock: The messages that can be the frame clock.
    """

    def __init__(
        self, profile: Profile, topics: Sequence[StatedTopic], clock: StatedTopic
    ) -> None:
        self._profile = profile
        self._topics = topics
        self.clock = clock
        self._limit = profile.clock.absurd_stamp_s * SECOND or math.inf
        self.recording = self._recording()
        self._lines: dict[tuple[int, str, bool, int], tuple[list[int], list[int]]] = {}
        self._clocks: dict[tuple[str, int], list[tuple[int, int]]] = {}
        self.pauses = self._pauses()
        """Stretches of time, on that of the frame clock, in which no topic says anything."""

    def _recording(self) -> tuple[int, int]:
        """Return the first and the last stamp of the stretch that no long silence parts."""
        if not self._profile.clock.absurd_stamp_s:
            return -(2**63), 2**63
        silence = max(_SILENCE_S * SECOND, self._limit)
        stamps = sorted(stamp for topic in self._topics for stamp in topic.received)
        spans = [[stamps[0], stamps[0]]]
        for stamp in stamps:
            if stamp - spans[-1][1] > silence:
                spans.append([stamp, stamp])
            spans[-1][1] = stamp
        clock = self.clock.received
        low, high = max(spans, key=lambda s: sum(s[0] <= stamp <= s[1] for stamp in clock))
        return low, high

    def _pauses(self) -> list[tuple[int, int]]:
        """Find what is silent for long, and not followed by what was missing in it."""
        clock = self._profile.clock
        low, high = self.recording
        stamps = sorted(
            stamp
            for topic in self._topics
            for stamp, received in zip(topic.stamps(clock.timeline), topic.received, strict=True)
            if stamp and low <= received <= high
        )
        if len(stamps) < 2 or clock.on_pause == 'keep':
            return []
        often = len(stamps) / max(1, stamps[-1] - stamps[0])
        silence = max(0.5 * SECOND, 5 * SECOND / clock.source_fps, 20 / often)
        found = []
        for start, stop in pairwise(stamps):
            if stop - start > silence:
                soon = bisect_right(stamps, stop + SECOND // 50) - bisect_left(stamps, stop)
                if soon < 0.3 * often * (stop - start):
                    found.append((start, stop))
        return found

    def since(
        self, topic: StatedTopic, align: Align, before: StatedFrame | None, frame: StatedFrame
    ) -> list[int]:
        """Return which messages came since the frame before, or for as long as a frame lasts."""
        shift = round(align.offset_ms * 1e6)
        stop = self.time(frame, align.timeline) - shift
        start = stop - SECOND // self._profile.fps
        if before is not None:
            start = self.time(before, align.timeline) - shift
        stamps, numbers = self.line(topic, align.timeline, frame.stretch, held=True)
        return numbers[slice(bisect_right(stamps, start), bisect_right(stamps, stop))]

    def line(
        self, topic: StatedTopic, timeline: str, stretch: int, *, held: bool = False
    ) -> tuple[list[int], list[int]]:
        """Return the stamps of a topic that count, in order of time, and whose they are."""
        key = id(topic), timeline, held, stretch
        if key not in self._lines:
            low, high = self.recording
            pairs = sorted(
                (stamp, number)
                for number, stamp, received, mine in zip(
                    topic.numbers, topic.stamps(timeline), topic.received, topic.stretch,
                    strict=True,
                )
                if (low <= received or (held and received >= 0)) and received <= high
                and (timeline == 'bag' or (stamp and abs(stamp - received) <= self._limit))
                and (mine == stretch or (held and mine < stretch and received < low))
            )  # fmt: skip
            self._lines[key] = [s for s, _ in pairs], [n for _, n in pairs]
        return self._lines[key]

    def time(self, frame: StatedFrame, timeline: str) -> int:
        """Return when a frame is, on a time line: as far from the nearest message of the clock."""
        own = self._profile.clock.timeline
        if timeline == own:
            return frame.stamp - frame.before
        key = own, frame.stretch
        if key not in self._clocks:
            _, trusted = self.line(self.clock, 'header', frame.stretch)
            stamps, others = self.clock.stamps(own), self.clock.stamps(timeline)
            places = {number: place for place, number in enumerate(self.clock.numbers)}
            found = [places[number] for number in trusted]
            self._clocks[key] = sorted((stamps[place], others[place]) for place in found)
        pairs = self._clocks[key]
        after = bisect_left(pairs, (frame.stamp, -(2**63)))
        near, other = min(
            pairs[slice(max(after - 1, 0), after + 1)],
            key=lambda p: (abs(p[0] - frame.stamp), p[0]),
        )
        return other + frame.stamp - near - frame.before

    def cell(self, topic: StatedTopic, align: Align, frame: StatedFrame) -> Cell:
        """Return what serves a frame."""
        time = self.time(frame, align.timeline) - round(align.offset_ms * 1e6)
        held = align.strategy == 'hold'
        stamps, numbers = self.line(topic, align.timeline, frame.stretch, held=held)
        if not stamps:
            raise NotJudged(f'{topic.name}: has no stamps where a frame is')
        past = bisect_right(stamps, time) - 1
        future = bisect_right(stamps, time)
        between = past >= 0 and stamps[past] < time and future < len(stamps)
        first = past
        if align.strategy == 'nearest':
            near = [n for n in (past, future) if 0 <= n < len(stamps)]
            first = min(near, key=lambda n: (abs(stamps[n] - time), n))
            first = bisect_left(stamps, stamps[first])
        elif align.strategy != 'hold':
            first = max(past, 0)
        second = first
        if align.strategy in ('linear', 'slerp') and between:
            second = future
        missing = first < 0
        gap = missing
        if not missing and align.tolerance_ms is not None:
            reach = max(abs(stamps[first] - time), abs(stamps[second] - time))
            gap |= reach > align.tolerance_ms * 1e6
        if align.gap_ms is not None and between:
            gap |= stamps[future] - stamps[past] > align.gap_ms * 1e6
        if missing and align.zeros_before_first:
            return Cell(fill='zeros')
        if gap and align.on_gap in ('mark', 'zeros'):
            return Cell(fill=align.on_gap, in_gap=True)
        if gap and align.on_gap == 'hold':
            first = second = past
        if first < 0 or (gap and align.on_gap in ('drop', 'split')):
            return Cell(in_gap=gap, cut=True)
        weight = 0.0
        if first != second:
            if any(
                stamps[first] <= start and stop <= stamps[second] for start, stop in self.pauses
            ):
                raise NotJudged('what lies beside a pause')
            weight = (time - stamps[first]) / (stamps[second] - stamps[first])
        return Cell(numbers[first], numbers[second], weight, in_gap=gap)


_MEANT = re.compile(r'\[([^=\]]+)=([^\]]+)\]\.')
_STEP = re.compile(r'([A-Za-z]\w*)(?:\[([^\]]*)\])?(?:\.|$)')


def value_at(message: Any, path: str) -> Any:
    """
    Return what a path leads to: a value, an array, or a list where it goes through every entry.

    :raises LookupError: The message has no such entry, or is none of those that the path means.
    """
    meant = _MEANT.match(path)
    if meant is not None:
        value = message
        for name in meant[1].split('.'):
            value = getattr(value, name)
        if str(value) != meant[2]:
            raise LookupError
        path = path[slice(meant.end(), None)]
    for match in _STEP.finditer(path):
        name, which = match[1], match[2]
        holder, message = message, getattr(message, name)
        if which == '':
            rest = path[slice(match.end(), None)]
            return [value_at(entry, rest) if rest else entry for entry in message]
        if which is not None:
            message = message[_entry(holder, message, which)]
    return message


def _entry(holder: Any, entries: Any, which: str) -> int:
    """Return the place that ``3``, ``id=7`` or ``names=arm`` stands for in a list."""
    key, equals, wanted = which.partition('=')
    if not equals:
        return int(which)
    beside = getattr(holder, key, None)
    names = beside if beside is not None else [getattr(entry, key) for entry in entries]
    return [str(name) for name in names].index(wanted)


def elements(message: Any, part: Part, source: Source) -> list[float | None]:
    """
    Return the elements of a part as a message has them, None for joints that it does not have.

    :raises LookupError: It does not have them all.
    """
    values = [
        float(number)
        for path in source.fields
        for number in np.concatenate([np.atleast_1d(v) for v in _listed(value_at(message, path))])
    ]
    if part.element_count:
        return [float(len(values))]
    if part.on_length != 'refuse':
        length = len(part.recorded_names) if part.length is None else part.length
        if part.on_length != 'cut':
            values += [part.pad_value] * (length - len(values))
        values = values if part.on_length == 'pad' else values[:length]
    if isinstance(part.nan, float | int):
        values = [value if math.isfinite(value) else part.nan for value in values]
    if part.joints:
        names = [str(name) for name in names_of(message, source)]
        return [values[names.index(joint)] if joint in names else None for joint in part.joints]
    if part.select is not None:
        return [values[place] for place in part.select]
    if len(values) != len(part.recorded_names):
        raise LookupError
    return [*values]


def _listed(found: Any) -> Any:
    return found if isinstance(found, list) and found else [found]


_NAMES = ('name', 'joint_names', 'names')


def names_of(message: Any, source: Source) -> Sequence[Any]:
    """Return the texts that name the elements of a field; none if there are no such texts."""
    if source.names_field is None:
        return ()
    steps = re.split(r'\.(?![^\[]*\])', source.fields[0])[:-1]
    beside = ['.'.join(steps[:depth]) for depth in range(len(steps), 0, -1)]
    usual = [f'{way}.{name}' for way in beside for name in _NAMES] + list(_NAMES)
    for field_name in [source.names_field] if source.names_field != 'name' else usual:
        try:
            found = value_at(message, field_name)
        except (AttributeError, LookupError, ValueError):
            continue
        if isinstance(found, (list, tuple, str, int)):
            return found if isinstance(found, (list, tuple)) else [found]
    return ()


_OWN_NAMES = ('name', 'id', 'label', 'ns')


def speaker_of(message: Any, source: Source) -> tuple[str, ...]:
    """Return who speaks: names of frames and of the list entries that the fields lie in."""
    found: dict[str, None] = {}
    for path in source.fields or ('',):
        places = re.finditer(r'\[\d+\](?=\.)', path)
        entries = [value_at(message, path[: match.end()]) for match in places]
        for holder in (message, *entries):
            words = [getattr(holder, name, '') for name in ('child_frame_id', *_OWN_NAMES)]
            if source.frame_ids is not None:
                words.append(getattr(getattr(holder, 'header', None), 'frame_id', ''))
            found |= {str(word): None for word in words if isinstance(word, str) and word}
    return tuple(found)


def stated_between(
    first: Sequence[float], second: Sequence[float], cell: Cell, part: Part, align: Align
) -> Any:
    """Return the elements at the share of the way that a frame lies between two messages."""
    a, b = np.array(first), np.array(second)
    if cell.first == cell.second:
        return a
    if align.strategy == 'slerp':
        return turned(a, b if float(a @ b) >= 0 else -b, cell.weight)
    turn = _TURNS.get(part.unit)
    if turn is None:
        return (1 - cell.weight) * a + cell.weight * b
    low = np.where(np.minimum(a, b) < 0, -turn / 2, 0.0)
    there = a + cell.weight * (b - a - turn * np.rint((b - a) / turn))
    return np.where(np.abs(b - a) > turn / 2, (there - low) % turn + low, there)


_TURNS = {'angle': 2 * math.pi, 'angle_deg': 360.0}


def full_turn(part: Part) -> float:
    """Return a full turn in the unit of a part behind its operations; 0 if it has no angles."""
    turn = _TURNS.get(part.unit, 0.0) * (1 if part.scale is None else abs(part.scale))
    if part.value_range is not None:
        turn /= abs(part.value_range[1] - part.value_range[0])
    return turn


def reduced_values(found: Sequence[Sequence[float]], how: str) -> Any:
    """Return what becomes of the elements of several messages."""
    values = np.array(found)
    if how == 'any':
        return (values != 0).any(axis=0).astype(np.float64)
    return {'max': values.max(axis=0), 'mean': values.mean(axis=0), 'last': values[-1]}[how]


def quaternions(part: Part, source: Source, strategy: str) -> list[list[int]]:
    """Return which elements of a part are quaternions of which either sign may stand."""
    if part.rotation is not None:
        is_quaternion = part.rotation.written.startswith('quaternion')
        return [list(range(4))] if is_quaternion and part.quaternion != 'positive_w' else []
    if part.quaternion in ('as_recorded', 'positive_w'):
        return []
    if part.quaternion or strategy == 'slerp':
        return [list(range(4))]
    places: dict[str, dict[str, int]] = {}
    if len(source.fields) == len(part.names) and part.select is None and not part.joints:
        for place, path in enumerate(source.fields):
            parent, _, last = path.rpartition('.')
            places.setdefault(parent, {})[last] = place
    return [[*found.values()] for found in places.values() if set(found) == set('xyzw')]


def turned(first: Any, second: Any, share: float) -> Any:
    """Turn by a share of the angle between two unit vectors that are not opposite."""
    first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
    angle = 2 * math.atan2(
        float(np.linalg.norm(second - first)), float(np.linalg.norm(second + first))
    )
    if angle < 1e-9:
        return first
    turned = math.sin((1 - share) * angle) * first + math.sin(share * angle) * second
    return turned / math.sin(angle)


def operated(values: Any, part: Part) -> Any:
    """Apply the operations of a part in their order."""
    values = np.asarray(values, np.float64)
    if part.unit == 'deg2rad':
        values = values * math.pi / 180
    elif part.unit == 'rad2deg':
        values = values * 180 / math.pi
    if part.value_range is not None:
        low, high = part.value_range
        values = (values - low) / (high - low)
    values = values * (1 if part.scale is None else part.scale)
    values = values + (0 if part.offset is None else part.offset)
    if part.threshold is None:
        return values
    return np.where(np.isfinite(values), values > part.threshold, np.nan)  # to be held


StatedNumber = float | str | None
"""A number, or ``zeros`` or ``mark`` in its place; None where it is not judged."""


def difference(value: StatedNumber, base: StatedNumber, turn: float = 0.0) -> StatedNumber:
    """Subtract, the shorter way where there is a full turn; nothing from what is filled in."""
    for fill in (None, 'mark', 'zeros'):
        if fill in (value, base):
            return fill
    assert isinstance(value, float)
    assert isinstance(base, float)
    apart = value - base
    return apart - turn * round(apart / turn) if turn and math.isfinite(apart) else apart


def as_number(value: float | str) -> float:
    """Return the number that stands for what is filled in."""
    return _FILLED[value] if isinstance(value, str) else value


PartRow = Callable[[int], Sequence[StatedNumber]]


def relative(row: PartRow, frame: int, length: int, turn: float) -> Sequence[StatedNumber]:
    """Subtract the first numbers of the episode; ``row`` gives those of a frame."""
    values = row(frame)
    if isinstance(values[0], str):
        return values
    start = next(found for found in map(row, range(length)) if not isinstance(found[0], str))
    return [difference(value, base, turn) for value, base in zip(values, start, strict=True)]
