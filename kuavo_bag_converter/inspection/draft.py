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

"""What a first profile of a robot takes from a recording: cameras, joints, clock and rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
import re
from typing import Any

from kuavo_bag_converter.bags.model import Connection, Message
from kuavo_bag_converter.inspection.fit import InspectedBag, is_depth
from kuavo_bag_converter.inspection.report import BagReport, TopicReport
from kuavo_bag_converter.messages.fields import FieldReader, TextsReader, ValueReader
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.texts import counted, listed


def _words_in(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WITHIN = 50
"""First messages of a topic whose names count; several nodes may publish joints on it."""
_MOST_ELEMENTS = 512
_MOST_FPS = 30
_LEAST_HZ = 1.0
"""Of what measures a state; slower topics tell of events."""
_LEAST_SHARE = 0.5
"""Of the recording in which a state is measured."""
_BURST = 4.0
"""Messages that are so many times as near to each other as their rate says come in bursts."""
_FAR_MS = 1000.0
"""Header stamps further from the receive stamps are those of another clock."""
_TRANSFORMS = 'tf2_msgs/msg/TFMessage'
_CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
_WORD = re.compile(r'[A-Z]?[a-z]+|[A-Z]+|[0-9]+')
_COMMANDS = _words_in(
    'cmd command commands action actions target targets desired goal leader teleop '
    'ctrl control controller setpoint ref reference master traj trajectory'
)
"""Words of topics that say what a robot shall do."""
_ROLES = _COMMANDS | _words_in(
    'state states status joint joints position positions pos data feedback measured '
    'current actual sensor sensors raw msg topic'
)
"""Words of topics that do not tell one limb from another."""
_PICTURES = _words_in(
    'image images img raw compressed color colour rgb rect camera cameras depth '
    'aligned to theora ffmpeg h264 h265 hevc stream video sensors usb transport'
)
"""Words of topics that do not tell one camera from another."""
_MAIN = _words_in('head main front top high ego egocentric global chest')
"""Words of cameras on whose pictures frames had better lie."""
_JOINTS = re.compile(r'(?:.*[._])?(?:positions?|pos|(?:joint_)?q|angles?)')
"""Arrays of joints, which are taken before others beside them."""
_QUATERNION = ('x', 'y', 'z', 'w')
_BODY = re.compile(r'.*(?:imu|odom|twist|wrench|accel|force|torque|velocity|scan|battery|temp).*')
"""Types and fields that measure something else than where joints and tools are."""
_TASK = re.compile(r'.*(?:task|prompt|instruction|language).*')
_REAL = re.compile(r'float(?:32|64)?|double')
_NUMBER = re.compile(r'u?int(?:8|16|32|64)|float(?:32|64)?|double')


@dataclass(frozen=True)
class DraftPart:
    """A part of a vector."""

    topic: str
    fields: tuple[str, ...]
    names: tuple[str, ...]
    joints: tuple[str, ...] = ()
    """What each message calls its elements, so that they are looked up by name."""
    is_quaternion: bool = False


@dataclass(frozen=True)
class DraftVector:
    """A vector; ``reason`` says why it is left out, '' if it is not."""

    key: str
    parts: tuple[DraftPart, ...]
    reason: str = ''


@dataclass(frozen=True)
class DraftCamera:
    """A camera."""

    key: str
    topic: str
    depth: bool = False
    frame_id: str = ''
    """Of the messages that are meant, where others are on the topic."""
    is_odd: bool = False
    """Whether its pictures have a size that no encoder takes."""


@dataclass(frozen=True)
class Draft:
    """What a profile is written from."""

    clock: str
    """Topic on whose messages frames lie."""
    clock_fps: int
    fps: int
    by_header: bool
    """Whether frames lie at the stamps of headers, not at those of receiving."""
    unstamped: frozenset[str]
    """Topics that are aligned by receiving all the same."""
    vectors: tuple[DraftVector, ...]
    cameras: tuple[DraftCamera, ...]
    task: tuple[str, str] = ('', '')
    """Topic and field of a text that says what is done, if there is one."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Topics that serve nothing, and why."""
    transforms: tuple[tuple[str, str], ...] = ()
    """Parent and child frames of ``/tf``."""


def draft_profile(report: BagReport, bag: InspectedBag, refused: Mapping[str, str]) -> Draft:
    """
    Choose what a profile takes from a recording.

    :param report: What its inspection has found.
    :param bag: The recording.
    :param refused: Topics that a conversion would refuse, and why; they are left out.
    :raises BagError: The recording holds neither pictures nor vectors of numbers.
    """
    return _Drafter(report, bag, refused).draft()


class _Drafter:
    """Sorts the topics of a recording."""

    def __init__(self, report: BagReport, bag: InspectedBag, refused: Mapping[str, str]) -> None:
        self._bag = bag
        self._duration = report.duration_s or 0.0
        self._topics = {one.topic: one for one in report.topics if one.topic not in refused}
        self._left_out = [*refused.items()]
        self._others: list[DraftVector] = []

    def draft(self) -> Draft:
        cameras = self._cameras()
        measured, commanded = self._parts()
        state = _distinct(self._without_copies(measured))
        action = _distinct(self._without_copies(commanded))
        if not cameras and not state and not action:
            why = listed(f'{topic}: {reason}' for topic, reason in self._left_out)
            raise BagError(
                f'{self._bag.files[0]}: holds neither pictures nor joints that a profile could be '
                f'made of ({why or "no topic has messages"})'
            )
        vectors = [
            DraftVector(key, tuple(parts))
            for key, parts in (('observation.state', state), ('action', action))
            if parts
        ]
        color = [camera for camera in cameras if not camera.depth]
        clocks = [camera.topic for camera in color or cameras]
        clocks = clocks or [part.topic for part in (*state, *action)]
        clock = max(clocks, key=self._clock_rank)
        rate = steady_rate(self._topics[clock]) or 1.0
        clock_fps = min(max(round(rate), 1), 1000)
        by_header = self._has_headers(clock)
        used = {part.topic for part in (*state, *action)} | {one.topic for one in cameras}
        return Draft(
            clock,
            clock_fps,
            _frame_rate(clock_fps),
            by_header,
            frozenset(topic for topic in used if by_header and not self._has_headers(topic)),
            (*vectors, *self._others),
            tuple(cameras),
            self._task(),
            tuple(self._left_out),
            self._transforms(),
        )

    def _cameras(self) -> list[DraftCamera]:
        found: list[TopicReport] = []
        # The coded pictures are what the robot has sent, and smaller.
        for topic in sorted(self._topics.values(), key=_is_coded, reverse=True):
            if topic.picture is None:
                continue
            twin = next((one for one in found if _is_same_camera(topic, one)), None)
            if twin is None:
                found.append(topic)
            else:
                self._leave_out(topic.topic, f'shows what {twin.topic} shows')
        found.sort(key=lambda topic: topic.topic)
        names = _camera_names(found)
        cameras: list[DraftCamera] = []
        for topic in found:
            assert topic.picture is not None
            depth = is_depth(topic.picture)
            odd = bool(topic.picture.width % 2 or topic.picture.height % 2)
            key = f'observation.images.{names[topic.topic]}' + ('_depth' if depth else '')
            frames = self._frames_of(topic.topic)
            if len(frames) < 2:
                cameras.append(DraftCamera(key, topic.topic, depth, '', odd))
            else:
                cameras += [
                    DraftCamera(f'{key}_{_as_name(frame)}', topic.topic, depth, frame, odd)
                    for frame in frames
                ]
        return sorted(cameras, key=lambda camera: (camera.depth, camera.key))

    def _parts(self) -> tuple[list[DraftPart], list[DraftPart]]:
        """Return the parts that measure and those that command."""
        measured: list[DraftPart] = []
        commanded: list[DraftPart] = []
        for topic in self._topics.values():
            if topic.picture is not None or topic.types in ((_TRANSFORMS,), (_CAMERA_INFO,)):
                continue
            is_command = bool(_COMMANDS & set(_words(topic.topic)))
            reason = self._unfit(topic, is_command=is_command)
            parts = [] if reason else list(self._parts_of(topic))
            if reason or not parts:
                self._leave_out(topic.topic, reason or 'holds no vector of one length')
            elif not is_command and _BODY.fullmatch(
                f'{topic.types[0]} {parts[0].fields[0]}'.lower()
            ):
                key = f'observation.{_as_name("_".join(_words(topic.topic)))}'
                self._others.append(DraftVector(key, tuple(parts), 'no joints or tool'))
            else:
                (commanded if is_command else measured).extend(parts)
        return measured, commanded

    def _unfit(self, topic: TopicReport, *, is_command: bool) -> str:
        """Return why a topic cannot serve all of a recording, '' if it can."""
        if topic.error:
            return topic.error
        if not topic.messages or topic.timing is None:
            return 'has no messages'
        if len(topic.types) > 1:
            return f'has messages of {len(topic.types)} types'
        if is_command:
            return ''  # A command holds, however seldom it is given.
        seconds = topic.timing.last_s - topic.timing.first_s
        if topic.messages < _LEAST_HZ * self._duration * _LEAST_SHARE:
            return f'has {counted(topic.messages, "message")} in {self._duration:.1f} s'
        if self._duration and seconds < _LEAST_SHARE * self._duration:
            return f'measures {seconds:.1f} s of {self._duration:.1f} s'
        return ''

    def _parts_of(self, topic: TopicReport) -> Iterator[DraftPart]:
        arrays = [
            path
            for path, values in topic.fields.items()
            if 0 < (values.length or 0) <= _MOST_ELEMENTS
            and 'covariance' not in path
            and _NUMBER.match(values.type.partition('[')[0])
        ]
        joints = [path for path in arrays if _JOINTS.fullmatch(path)]
        # One of them: positions, velocities and efforts of joints are no one vector.
        for path in (joints or arrays)[:1]:
            part = self._array_part(topic.topic, path)
            yield from () if part is None else (part,)
        if arrays:
            return
        scalars = [
            path
            for path, values in topic.fields.items()
            if values.length is None and _REAL.fullmatch(values.type)
        ]
        if not scalars and [*topic.fields] == ['data']:
            scalars = ['data']
        groups: dict[str, list[str]] = {}
        for path in scalars:
            groups.setdefault(path.rpartition('.')[0], []).append(path)
        for holder, paths in groups.items():
            last = tuple(path.rpartition('.')[2] for path in paths)
            word = _as_name('_'.join(_words(f'{_limb(topic.topic)}/{holder}')))
            single = len(paths) == 1 and not holder
            names = tuple(word if single else f'{word}_{name}' for name in last)
            is_quaternion = sorted(last) == sorted(_QUATERNION)
            yield DraftPart(topic.topic, tuple(paths), names, is_quaternion=is_quaternion)

    def _array_part(self, topic: str, path: str) -> DraftPart | None:
        """Return a part of an array; None where messages have another number of elements."""
        names: dict[str, None] = {}
        lengths: set[int] = set()
        named = True
        for message in self._first(topic):
            decoded = self._decoded(message)
            reader = FieldReader((path,), message.connection, self._bag.definitions)
            length = len(reader.read(decoded))
            mine = self._names_beside(path, message.connection, decoded) if named else ()
            named = len(mine) == len(set(mine)) == length and '' not in mine
            names.update(dict.fromkeys(mine))
            lengths.add(length)
        if named and names:
            return DraftPart(topic, (path,), tuple(names), tuple(names))
        if len(lengths) != 1:
            return None
        word, (length,) = _limb(topic), lengths
        numbered = tuple(f'{word}_{number}' for number in range(length))
        return DraftPart(topic, (path,), numbered if length > 1 else (word,))

    def _names_beside(self, path: str, connection: Connection, decoded: object) -> Sequence[str]:
        """Return what a message calls the elements of an array, none where it does not."""
        with suppress(BagError):
            return TextsReader('name', connection, self._bag.definitions, path).read(decoded)
        return ()

    def _without_copies(self, parts: Sequence[DraftPart]) -> list[DraftPart]:
        """Leave out joints that another topic has, with more besides."""
        kept = []
        for part in parts:
            holder = next(
                (one.topic for one in parts if part.joints and set(part.joints) < set(one.joints)),
                None,
            )
            if holder is None:
                kept.append(part)
            else:
                self._leave_out(part.topic, f'{holder} has its joints and more')
        return kept

    def _clock_rank(self, topic: str) -> tuple[bool, int]:
        words = set(_words(topic))
        return bool(words & _MAIN), self._topics[topic].messages

    def _has_headers(self, topic: str) -> bool:
        """Tell whether the header stamps of a topic are those of the recorder's clock."""
        header = self._topics[topic].header
        return (
            header is not None
            and not header.zero
            and header.offset_median_ms is not None
            and abs(header.offset_median_ms) < _FAR_MS
        )

    def _frames_of(self, topic: str) -> list[str]:
        """Return the frames that the headers of the first messages name, in order."""
        frames: Counter[str] = Counter()
        with suppress(BagError):
            for message in self._first(topic):
                reader = ValueReader('header.frame_id', message.connection, self._bag.definitions)
                frames[str(reader.read(self._decoded(message)))] += 1
        return [frame for frame in frames if frame]

    def _task(self) -> tuple[str, str]:
        for name, topic in self._topics.items():
            is_text = topic.types == ('std_msgs/msg/String',) and topic.messages
            if is_text and _TASK.fullmatch(name.lower()):
                return name, 'data'
        return '', ''

    def _transforms(self) -> tuple[tuple[str, str], ...]:
        pairs: dict[tuple[str, str], None] = {}
        for name, topic in self._topics.items():
            if topic.types == (_TRANSFORMS,) and topic.messages:
                with suppress(BagError):
                    for message in self._first(name):
                        for one in self._decoded(message).transforms:
                            pairs[one.header.frame_id, one.child_frame_id] = None
        return tuple(pairs)

    def _first(self, topic: str) -> Iterator[Message]:
        return self._bag.reader.first_messages(topic, _WITHIN)

    def _decoded(self, message: Message) -> Any:
        return self._bag.definitions.decoder(message.connection)(bytes(message.data))

    def _leave_out(self, topic: str, reason: str) -> None:
        self._left_out.append((topic, reason))


def steady_rate(topic: TopicReport) -> float | None:
    """Return how often messages of a topic come, Hz, be it in bursts; None for one message."""
    if topic.timing is None or not topic.timing.rate_hz:
        return None
    header = topic.header.median_rate_hz if topic.header else None
    rate = header or topic.timing.median_rate_hz or topic.timing.rate_hz
    return topic.timing.rate_hz if rate > _BURST * topic.timing.rate_hz else rate


def _frame_rate(clock_fps: int) -> int:
    """Return the greatest rate up to 30 Hz that takes every n-th message of the clock."""
    return next(
        clock_fps // n
        for n in range(1, clock_fps + 1)
        if clock_fps % n == 0 and clock_fps // n <= _MOST_FPS
    )


def _words(topic: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(topic)]


def _as_name(text: str) -> str:
    return re.sub(r'\W+', '_', text, flags=re.ASCII).strip('_').lower() or 'value'


def _limb(topic: str) -> str:
    """Return the words of a topic that tell a limb from another."""
    return '_'.join(word for word in _words(topic) if word not in _ROLES) or 'joint'


def _is_coded(topic: TopicReport) -> bool:
    return topic.picture is not None and topic.picture.codec != 'raw'


def _is_same_camera(topic: TopicReport, other: TopicReport) -> bool:
    """Tell whether two topics show the same, as those of image_transport do."""
    base, longer = sorted((topic.topic, other.topic), key=len)
    depths = {is_depth(one.picture) for one in (topic, other) if one.picture is not None}
    return len(depths) == 1 and longer.startswith(f'{base}/')


def _camera_names(topics: Iterable[TopicReport]) -> dict[str, str]:
    """Return a name by topic: the words that tell cameras apart, or all where they do not."""
    each = {topic.topic: (_words(topic.topic), topic.picture) for topic in topics}
    short = {
        topic: ('_'.join(w for w in words if w not in _PICTURES) or 'camera', is_depth(picture))
        for topic, (words, picture) in each.items()
        if picture is not None
    }
    counts = Counter(short.values())
    return {
        topic: name[0] if counts[name] == 1 else '_'.join(each[topic][0])
        for topic, name in short.items()
    }


def _distinct(parts: Sequence[DraftPart]) -> list[DraftPart]:
    """Put words of their topics before names that another part has, too."""
    counts = Counter(name for part in parts for name in part.names)
    return [
        part
        if all(counts[name] == 1 for name in part.names)
        else replace(
            part,
            names=tuple(f'{_as_name("_".join(_words(part.topic)))}_{name}' for name in part.names),
        )
        for part in parts
    ]
