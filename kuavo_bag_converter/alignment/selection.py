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
Which messages of a topic can serve a use of it at all, by what they hold.

Most topics are used whole. Where a source names a frame, a publisher, a type among several, a
field with the stamp or a transform, and where messages were found not to hold what is read of them
(joints that others of the topic name, commands without a point), the messages of the topic are
read once before the plan is made; ordinals and stamps are kept of them. What can serve becomes a
topic of its own in the bag that is planned and converted: :class:`SelectedBag`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from kuavo_bag_converter.alignment.binding import (
    Binding,
    BoundPart,
    BoundVector,
    chooser_of,
    chooses,
    Link,
    message_types,
)
from kuavo_bag_converter.alignment.plan import Selected, Track
from kuavo_bag_converter.alignment.transforms import Samples, TransformLook
from kuavo_bag_converter.bags.model import (
    BagReader,
    Connection,
    Message,
    Ordinals,
    Stamps,
    TopicIndex,
)
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.fields import (
    EMPTY,
    FieldReader,
    TextsReader,
    WITHOUT_ENTRY,
    WITHOUT_JOINT,
)
from kuavo_bag_converter.messages.identity import (
    FrameIdCheck,
    FrameIdReader,
    IdentityCheck,
    IdentityReader,
    OtherIdentityError,
)
from kuavo_bag_converter.messages.stamp_fields import StampReader
from kuavo_bag_converter.profiles.model import Align, Part, Source
from kuavo_bag_converter.support.errors import BagError, UnfitMessageError
from kuavo_bag_converter.support.texts import did_you_mean, listed
import numpy as np

_COMPARED = 10
_COMPARED_PICTURES = 4
"""First messages of a topic that are compared with each other in any case."""
_FRAME = 'of another frame'
_PUBLISHER = 'of another publisher'
_TYPE = 'of another type'
_TRANSFORM = 'without the transform'
_LACKING = frozenset([EMPTY, WITHOUT_ENTRY, WITHOUT_JOINT])
_ANY = 'anything'
"""What a message holds that cannot be decoded: it is an error where a frame needs it."""


def select_messages(
    binding: Binding,
    reader: BagReader,
    definitions: Definitions,
    look_into: AbstractSet[str] = frozenset(),
) -> tuple[Binding, BagReader]:
    """
    Find the messages that can serve each use of a topic, where that are not all.

    Parts whose joints are in different messages are split into parts with a track each, and
    transforms get a track for each link of their chain.

    :param binding: As :func:`bind` gives it.
    :param reader: The bag.
    :param definitions: Where message types are defined.
    :param look_into: Topics with messages that were found not to hold what is read of them.
    :return: What is to be read of the bag that is returned with it: of the same one, if all
        messages can serve.
    :raises BagError: No message holds something, or what there is is ambiguous.
    """
    selector = _Selector(binding, reader, definitions, look_into)
    if not selector.looks:
        return binding, reader
    selector.read()
    settled = selector.settled()
    return settled, SelectedBag(reader, selector.streams)


def looked_into(tracks: Iterable[Any]) -> frozenset[str]:
    """Return the topics with messages that, by the report of a plan, lacked what is read."""
    return frozenset(
        track.selected_from
        for track in tracks
        if track.selected_from and _LACKING & (track.passed_by or {}).keys()
    )


class UnfitTopics:
    """The topics that were found to have messages that do not hold what is read of them."""

    def __init__(self) -> None:
        self.topics: frozenset[str] = frozenset()
        """Those to look into."""
        self.are_new = False
        """Whether one was met last time, so that the bag must be planned again."""

    @contextmanager
    def met_in(self, binding: Binding) -> Iterator[None]:
        """
        Note a topic that is met while a bag is read.

        :param binding: What is read.
        :raises UnfitMessageError: The topic was looked into already.
        """
        self.are_new = False
        try:
            yield
        except UnfitMessageError as error:
            origins = {t.topic: t.selected.topic for t in binding.tracks if t.selected is not None}
            topic = origins.get(error.topic, error.topic)
            if topic in self.topics:
                raise
            self.topics |= {topic}
            self.are_new = True


@dataclass(frozen=True, eq=False)
class Stream:
    """Some messages of a topic, which are a topic of their own in a :class:`SelectedBag`."""

    topic: str
    """Of which they are."""
    ordinals: Ordinals
    """In that topic, ascending."""
    header: Stamps | None
    """Their stamps in place of header stamps, if they have others."""
    passed_by: Mapping[str, int]
    """The other messages of the topic, counted by what they are."""


class SelectedBag:
    """A bag with streams as topics besides its own; implements :class:`BagReader`."""

    def __init__(self, bag: BagReader, streams: Mapping[str, Stream]) -> None:
        """Add ``streams`` by name."""
        self._bag = bag
        self._streams = streams
        self.path: Path = bag.path
        self.container = bag.container
        self.backend = bag.backend
        self.problems = bag.problems
        self.connections: Sequence[Connection] = [
            *bag.connections,
            *(
                connection._replace(topic=name)
                for name, stream in streams.items()
                for connection in bag.connections
                if connection.topic == stream.topic
            ),
        ]
        self.connection_counts: Sequence[int] = [
            *bag.connection_counts,
            *[0] * (len(self.connections) - len(bag.connections)),
        ]
        self.counts: Mapping[str, int] = {
            **bag.counts,
            **{name: len(stream.ordinals) for name, stream in streams.items()},
        }

    @property
    def compression(self) -> str | None:
        """See :class:`BagReader`."""
        return self._bag.compression

    @property
    def bytes_read(self) -> int:
        """See :class:`BagReader`."""
        return self._bag.bytes_read

    def index(
        self, topics: AbstractSet[str], header: AbstractSet[str] = frozenset()
    ) -> dict[str, TopicIndex]:
        """Collect stamps; see :class:`BagReader`."""
        index = self._bag.index(self._topics(topics | header), self._with_header(header))
        found = {}
        for name in topics | header:
            stream = self._streams.get(name)
            found[name] = index[name] if stream is None else _index_of(stream, index[stream.topic])
        return found

    def messages(self, wanted: Mapping[str, Ordinals]) -> Iterator[Message]:
        """Stream the wanted messages once; see :class:`BagReader`."""
        uses: dict[str, list[tuple[str, Ordinals, Ordinals]]] = {}
        for name, ordinals in wanted.items():
            unique = np.unique(np.asarray(ordinals, np.int64))
            stream = self._streams.get(name)
            topic, places = name, unique
            if stream is not None:
                topic, places = stream.topic, stream.ordinals[unique]
            uses.setdefault(topic, []).append((name, places, unique))
        union = {
            topic: np.unique(np.concatenate([places for _, places, _ in mine]))
            for topic, mine in uses.items()
        }
        # Looked up one by one, which bisect does in a sixth of the time that numpy takes.
        quick = {
            topic: [(name, places.data, unique.data) for name, places, unique in mine]
            for topic, mine in uses.items()
        }
        for message in self._bag.messages(union):
            topic = message.connection.topic
            for name, known, own in quick[topic]:
                at = bisect_left(known, message.ordinal)
                if at < len(known) and known[at] == message.ordinal:
                    if name == topic:
                        yield message
                    else:
                        connection = message.connection._replace(topic=name)
                        yield message._replace(connection=connection, ordinal=own[at])

    def check_headers(self, topics: AbstractSet[str]) -> None:
        """Check that topics have header stamps; see :class:`BagReader`."""
        self._bag.check_headers(self._with_header(topics))

    def first_messages(self, topic: str, limit: int) -> Iterator[Message]:
        """Stream the first messages of a topic; see :class:`BagReader`."""
        stream = self._streams.get(topic)
        if stream is None:
            yield from self._bag.first_messages(topic, limit)
        else:
            ordinals: Ordinals = np.arange(min(limit, len(stream.ordinals)), dtype=np.int64)
            yield from self.messages({topic: ordinals})

    def verify_rest(self, *, needed: bool = False) -> None:
        """Note damage of what was not read; see :class:`BagReader`."""
        self._bag.verify_rest(needed=needed)

    def qos(self, connection: Connection) -> list[dict[str, Any]]:
        """Return offered QoS profiles; see :class:`BagReader`."""
        return self._bag.qos(connection)

    def close(self) -> None:
        """Release files."""
        self._bag.close()

    def __enter__(self) -> SelectedBag:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _topics(self, names: AbstractSet[str]) -> frozenset[str]:
        streams = self._streams
        return frozenset(streams[name].topic if name in streams else name for name in names)

    def _with_header(self, names: AbstractSet[str]) -> frozenset[str]:
        """Return the topics whose header stamps are those of the streams and topics named."""
        streams = self._streams
        own = {name for name in names if name in streams and streams[name].header is not None}
        return self._topics(names - own)


def _index_of(stream: Stream, topic: TopicIndex) -> TopicIndex:
    index = topic.only(stream.ordinals)
    return index if stream.header is None else index._replace(header=stream.header)


class MessageChooser:
    """Tells of messages whether they can serve a source, as far as it says so itself."""

    def __init__(self, source: Source, reader: BagReader, definitions: Definitions) -> None:
        """
        Choose for ``source`` among the messages of its topic.

        :raises BagError: The bag does not tell the publishers, or has no such one.
        """
        self._source = source
        self._definitions = definitions
        self._frames: dict[int, FrameIdReader] = {}
        self.frames: dict[str, None] = {}
        """Frames that messages were of."""
        self._wanted = frozenset(frame.lstrip('/') for frame in source.frame_ids or ())
        if source.publisher:
            _check_publisher(source, reader)

    def reason(self, message: Message) -> str:
        """
        Return why a message cannot serve, '' if it can.

        :raises BagError: Messages of its type name no frame.
        """
        source, connection = self._source, message.connection
        if source.msgtypes and connection.msgtype not in source.msgtypes:
            return _TYPE
        if source.publisher and connection.publisher != source.publisher:
            return _PUBLISHER
        if not self._wanted:
            return ''
        frames = self._frames.get(connection.id)
        if frames is None:
            frames = self._frames[connection.id] = FrameIdReader(connection, self._definitions)
            if not frames.is_known:
                raise BagError(
                    f'{source.topic}: {connection.msgtype} names no frame; leave frame_id out'
                )
        frame = frames.read(message.data)
        self.frames.setdefault(frame)
        return '' if frame.lstrip('/') in self._wanted else _FRAME


def _check_publisher(source: Source, reader: BagReader) -> None:
    known = sorted({c.publisher for c in reader.connections if c.topic == source.topic})
    if not any(known):
        raise BagError(
            f'{source.topic}: publisher: the bag does not tell who publishes what, as ROS 1 bags '
            'do; tell messages apart by frame_id or type'
        )
    if source.publisher not in known:
        raise BagError(
            f'{source.topic}: publisher: it is not published by {source.publisher}, but by '
            f'{listed(known)}{did_you_mean(source.publisher, known)}'
        )


def chosen_messages(
    source: Source, reader: BagReader, definitions: Definitions, limit: int
) -> Iterator[Message]:
    """
    Stream up to ``limit`` messages that can serve a source, of those that are stored first.

    :raises BagError: As :class:`MessageChooser`, or damage was found.
    """
    chooser = MessageChooser(source, reader, definitions)
    several = 1 if not (chooses(source) or source.msgtypes) else 4
    left = limit
    for message in reader.first_messages(source.topic, limit * several):
        if not chooser.reason(message):
            yield message
            left -= 1
        if not left:
            return


def identity_reader(
    part: Part,
    source: Source,
    connection: Connection,
    definitions: Definitions,
    *,
    frames: bool = True,
) -> IdentityReader | None:
    """
    Return what reads to what the numbers of a part belong; None if nothing tells, or need be.

    :param part: The part.
    :param source: Where it is read from.
    :param connection: Of the messages.
    :param definitions: Where their type is defined.
    :param frames: Whether frames count, unless the source chooses them.
    :raises BagError: The messages do not have the fields.
    """
    reader = IdentityReader(
        source.fields,
        connection,
        definitions,
        names=not part.joints and source.names_field is not None,
        frames=frames and source.frame_ids == (),
    )
    return reader if reader.identities else None


def names_reader(
    part: Part, source: Source, connection: Connection, definitions: Definitions
) -> TextsReader | None:
    """
    Return what reads the names of the joints in a message; None for a part without joints.

    :raises BagError: The messages have no such names.
    """
    if not part.joints:
        return None
    return TextsReader(source.names_field or 'name', connection, definitions, source.fields[0])


def frame_check(source: Source, definitions: Definitions) -> FrameIdCheck | None:
    """Return what refuses pictures of several cameras; None where the source chooses one."""
    return FrameIdCheck(definitions) if source.frame_ids == () else None


def compare_first_messages(
    binding: Binding, reader: BagReader, definitions: Definitions
) -> dict[str, tuple[str, ...]]:
    """
    Compare what the first messages of each topic say that their numbers and pictures belong to.

    :return: The names of elements that are read by their places, by part.
    :raises OtherIdentityError: Several publishers share a topic, and nothing tells which to take.
    """
    names = {}
    for vector in binding.vectors:
        for number, bound in enumerate(vector.parts, 1):
            part, source = bound.part, bound.source
            if source is not None and source.tf is None and not part.gap_flag:
                key = vector.feature.key
                with _naming(key):
                    found = _compare_numbers(part, source, reader, definitions)
                if found:
                    names[f'{key}, part {number}'] = found
    for camera in binding.cameras:
        check = frame_check(camera.source, definitions)
        if check is not None:
            with _naming(camera.feature.key):
                for message in chosen_messages(
                    camera.source, reader, definitions, _COMPARED_PICTURES
                ):
                    check.compare(message.connection, message.data)
    return names


@contextmanager
def _naming(user: str) -> Iterator[None]:
    try:
        yield
    except OtherIdentityError as error:
        raise OtherIdentityError(f'{error} ({user})') from None


def _compare_numbers(
    part: Part, source: Source, reader: BagReader, definitions: Definitions
) -> tuple[str, ...]:
    """Return the names of the elements, if they have any."""
    check = IdentityCheck()
    readers: dict[int, tuple[FieldReader, IdentityReader | None]] = {}
    for message in chosen_messages(source, reader, definitions, _COMPARED):
        connection = message.connection
        try:
            if connection.id not in readers:
                readers[connection.id] = (
                    FieldReader(source.fields, connection, definitions),
                    # Joints may be gathered from messages of several frames.
                    identity_reader(part, source, connection, definitions, frames=not part.joints),
                )
            numbers, identity = readers[connection.id]
            if identity is None:
                continue
            decoded = definitions.decoder(connection).peek(message.data)
            numbers.read(decoded)
        except BagError:
            continue  # an error where a frame needs it
        check.compare(identity, decoded, connection.label, message.stamp)
    return check.names


def spread_topics(binding: Binding, reader: BagReader, definitions: Definitions) -> frozenset[str]:
    """Return the topics of which some first messages lack joints that others have."""
    spread: set[str] = set()
    for vector in binding.vectors:
        for bound in vector.parts:
            part, source = bound.part, bound.source
            if not part.joints or source is None or source.topic in spread:
                continue
            for message in chosen_messages(source, reader, definitions, _COMPARED):
                names = names_reader(part, source, message.connection, definitions)
                assert names is not None
                try:
                    decoded = definitions.decoder(message.connection).peek(message.data)
                    found = set(names.read(decoded))
                except BagError:
                    continue  # an error where a frame needs it
                if not found.issuperset(part.joints):
                    spread.add(source.topic)
                    break
    return frozenset(spread)


def tried_messages(
    source: Source, reader: BagReader, definitions: Definitions, limit: int
) -> Iterator[Message]:
    """
    Stream messages that can serve a source until one holds what is read of them.

    First come up to ``limit`` that are stored first, then as many that are spread over the bag: a
    publisher may begin late, and a command say nothing for long.

    :raises BagError: As :class:`MessageChooser`, or damage was found.
    """
    yield from chosen_messages(source, reader, definitions, limit)
    chooser = MessageChooser(source, reader, definitions)
    spread = np.linspace(0, reader.counts[source.topic] - 1, limit).astype(np.int64)
    for message in reader.messages({source.topic: np.unique(spread)}):
        if not chooser.reason(message):
            yield message


class _Look:
    """Collects what the messages of a topic hold for one use."""

    def __init__(
        self,
        source: Source,
        chooser: MessageChooser,
        definitions: Definitions,
        user: str,
        part: Part | None = None,
        align: Align | None = None,
    ) -> None:
        """Look for what ``user`` reads; for a ``part``, whether its elements are there."""
        self.source = source
        self.user = user
        self.part = part
        self._held = align is not None and align.strategy == 'hold'
        self._tried = self._held or any('=' in path for path in source.fields)
        """Whether it is told by the numbers if a message can serve."""
        self._chooser = chooser
        self._definitions = definitions
        self._readers: dict[int, tuple[FieldReader, TextsReader | None]] = {}
        self._stamp_readers: dict[int, StampReader] = {}
        self.ordinals = array('q')
        self.stamps = array('q')
        self.kinds = array('q')
        self.kinds_held: dict[object, int] = {}
        """What messages hold, and the number of that kind."""
        self.passed_by: Counter[str] = Counter()

    def see(self, message: Message, decoded: Any) -> None:
        """
        Take a message.

        :param message: The message.
        :param decoded: What it holds; None if it need not be known, or cannot be.
        :raises BagError: There is no stamp where it should be.
        """
        reason = self._chooser.reason(message)
        held: object = _ANY
        if not reason and self.part is not None and decoded is not None:
            reason, held = self._held_by(message, decoded)
        if reason:
            self.passed_by[reason] += 1
            return
        self.ordinals.append(message.ordinal)
        self.kinds.append(self.kinds_held.setdefault(held, len(self.kinds_held)))
        if self.source.stamp_field:
            self.stamps.append(self._stamp_of(message, decoded))

    def must_decode(self, connection: Connection) -> bool:
        """Tell whether the messages of a connection must be decoded."""
        if self.source.stamp_field:
            return True
        # The first one shows whether the type has the fields.
        return self.part is not None and (
            self._tried or bool(self.part.joints) or connection.id not in self._readers
        )

    def _stamp_of(self, message: Message, decoded: Any) -> int:
        if decoded is None:
            return 0
        connection = message.connection
        reader = self._stamp_readers.get(connection.id)
        if reader is None:
            reader = self._stamp_readers[connection.id] = StampReader(
                self.source.stamp_field, self.source.stamp_unit, connection, self._definitions
            )
        return reader.read(decoded, message.stamp)

    def _held_by(self, message: Message, decoded: Any) -> tuple[str, object]:
        """Return why a message cannot serve, or '' and the names that it has."""
        part = self.part
        assert part is not None
        connection = message.connection
        readers = self._readers.get(connection.id)
        if readers is None:
            source, definitions = self.source, self._definitions
            names = names_reader(part, source, connection, definitions)
            readers = FieldReader(source.fields, connection, definitions), names
            self._readers[connection.id] = readers
        numbers, names = readers
        try:
            empty = self._tried and not len(numbers.read(decoded))
            if empty and self._held and not part.takes_empty:
                return EMPTY, None
        except UnfitMessageError as error:
            if error.reason == WITHOUT_ENTRY or self._held:
                return error.reason, None
        except BagError:
            return '', _ANY
        return '', _ANY if names is None else names.read(decoded)

    def streams(self, messages: int) -> list[tuple[tuple[str, ...], Stream | None]]:
        """
        Return the messages that serve, for the joints that the same ones hold.

        :param messages: Of the topic.
        :return: Joints, none if there is no question of them, with their stream; None in place of
            one of all messages.
        :raises BagError: There are none.
        """
        self._check_found()
        if self.part is None or not self.part.joints:
            return [((), self._stream(frozenset(self.kinds_held.values()), messages))]
        groups: dict[frozenset[int], list[str]] = {}
        for joint in self.part.joints:
            kinds = frozenset(
                number
                for held, number in self.kinds_held.items()
                if held == _ANY or (isinstance(held, tuple) and joint in held)
            )
            if not kinds:
                known = dict.fromkeys(
                    name for held in self.kinds_held if isinstance(held, tuple) for name in held
                )
                raise BagError(
                    f'{self.source.topic}: no message has the joint {joint!r}; there are '
                    f'{listed(known) or "none"}; check joints in the profile'
                    f'{did_you_mean(joint, known)} ({self.user})'
                )
            groups.setdefault(kinds, []).append(joint)
        return [(tuple(joints), self._stream(kinds, messages)) for kinds, joints in groups.items()]

    def _check_found(self) -> None:
        if self.ordinals:
            return
        topic = self.source.topic
        if self._chooser.frames:
            wanted = listed(self.source.frame_ids or ())
            known = self._chooser.frames
            raise BagError(
                f'{topic}: no message is of the frame {wanted}, but of '
                f'{listed(map(repr, known))}{did_you_mean(wanted, known)} ({self.user})'
            )
        reasons = listed(f'{count} are {reason}' for reason, count in self.passed_by.items())
        raise BagError(f'{topic}: none of its messages can serve: {reasons} ({self.user})')

    def _stream(self, kinds: frozenset[int], messages: int) -> Stream | None:
        ordinals = np.frombuffer(self.ordinals, np.int64)
        stamps = np.frombuffer(self.stamps, np.int64) if self.source.stamp_field else None
        passed_by = Counter(self.passed_by)
        if len(kinds) < len(self.kinds_held):
            kept = np.isin(np.frombuffer(self.kinds, np.int64), [*kinds])
            passed_by[WITHOUT_JOINT] = int(np.sum(~kept))
            ordinals = ordinals[kept]
            stamps = None if stamps is None else stamps[kept]
        if len(ordinals) == messages and stamps is None:
            return None
        return _sorted_stream(self.source.topic, ordinals, stamps, passed_by)


def _sorted_stream(
    topic: str, ordinals: Ordinals, stamps: Stamps | None, passed_by: Mapping[str, int]
) -> Stream:
    order = np.argsort(ordinals)
    return Stream(
        topic, ordinals[order], None if stamps is None else stamps[order], dict(passed_by)
    )


class _Selector:
    """Looks into the topics of a binding where that is needed, and binds to what it found."""

    def __init__(
        self,
        binding: Binding,
        reader: BagReader,
        definitions: Definitions,
        look_into: AbstractSet[str],
    ) -> None:
        self._binding = binding
        self._reader = reader
        self._definitions = definitions
        self._look_into = look_into
        self._types = message_types(reader)
        self.looks: dict[object, _Look | TransformLook] = {}
        self.streams: dict[str, Stream] = {}
        self._tracks: dict[tuple[object, ...], tuple[Track, list[str]]] = {}
        for vector in binding.vectors:
            for bound in vector.parts:
                self._look_for_part(bound, vector.feature.key)
        for camera in binding.cameras:
            self._look_for(camera.source, camera.feature.key)
        self._look_for(binding.clock_source, 'the frame clock')
        for source, user in binding.text_sources:
            self._look_for(source, user)

    def _look_for_part(self, bound: BoundPart, user: str) -> None:
        part, source = bound.part, bound.source
        if source is None:
            return
        if source.tf is not None:
            self.looks[_key(source)] = TransformLook(source, user)
        elif part.gap_flag:
            self._look_for(source, user)
        elif self._must_look(source) or source.topic in self._look_into:
            align = source.align or part.align
            chooser = MessageChooser(source, self._reader, self._definitions)
            look = _Look(source, chooser, self._definitions, user, part, align)
            self.looks[_key(source, part, align)] = look

    def _look_for(self, source: Source, user: str) -> None:
        if self._must_look(source):
            chooser = MessageChooser(source, self._reader, self._definitions)
            self.looks[_key(source)] = _Look(source, chooser, self._definitions, user)

    def _must_look(self, source: Source) -> bool:
        return chooses(source) or len(self._types.get(source.topic, ())) > 1

    def read(self) -> None:
        """
        Read the topics.

        :raises BagError: Damage was found, or a message does not have what it must.
        """
        by_topic: dict[str, list[_Look | TransformLook]] = {}
        for look in self.looks.values():
            for topic in _topics_of(look):
                if self._reader.counts.get(topic):
                    by_topic.setdefault(topic, []).append(look)
        every = {topic: np.arange(self._reader.counts[topic]) for topic in by_topic}
        for message in self._reader.messages(every):
            looks = by_topic[message.connection.topic]
            decoded = None
            connection = message.connection
            if any(isinstance(k, TransformLook) or k.must_decode(connection) for k in looks):
                decoder = self._definitions.decoder(message.connection)
                try:
                    decoded = decoder.peek(message.data)
                except BagError:
                    decoded = None  # an error where a frame needs it
            for look in looks:
                if not isinstance(look, TransformLook) or decoded is not None:
                    look.see(message, decoded)

    def settled(self) -> Binding:
        """
        Bind to what was found.

        :raises BagError: Nothing was found, or what was is ambiguous.
        """
        binding = self._binding
        vectors = tuple(
            BoundVector(
                vector.feature,
                tuple(
                    settled
                    for bound in vector.parts
                    for settled in self._settled_part(bound, vector.feature.key)
                ),
            )
            for vector in binding.vectors
        )
        cameras = []
        for camera in binding.cameras:
            stream = self._stream_of(camera.source)
            align = camera.source.align or camera.feature.align
            track = self._track(camera.feature.key, camera.source, align, stream)
            source = self._from(camera.source, stream)
            cameras.append(camera._replace(source=source, track=track))
        others = [binding.clock_source, binding.task_source, binding.episode_source]
        clock, task, episodes, *language = (
            None if source is None else self._from(source, self._stream_of(source))
            for source in (*others, *binding.language_sources)
        )
        assert clock is not None
        return replace(
            binding,
            clock_source=clock,
            task_source=task,
            episode_source=episodes,
            language_sources=tuple(language),
            vectors=vectors,
            cameras=tuple(cameras),
            tracks=tuple(
                track._replace(name=' + '.join(dict.fromkeys(users)))
                for track, users in self._tracks.values()
            ),
        )

    def _settled_part(self, bound: BoundPart, key: str) -> list[BoundPart]:
        part, source = bound.part, bound.source
        if source is None:
            return [bound]
        align = source.align or part.align
        if source.tf is not None:
            look = self.looks[_key(source)]
            assert isinstance(look, TransformLook)
            return [bound._replace(links=self._links(look, key, align, bound.offsets))]
        found_in = self.looks.get(_key(source, part, align))
        if part.gap_flag or found_in is None:
            stream = self._stream_of(source)
            track = self._track(key, source, align, stream, offsets=bound.offsets)
            return [bound._replace(source=self._from(source, stream), track=track)]
        assert isinstance(found_in, _Look)
        found = found_in.streams(self._reader.counts[source.topic])
        place: dict[str, tuple[Stream | None, int]] = {}
        for joints, stream in found:
            by_joint = stream is not None and WITHOUT_JOINT in stream.passed_by
            what = joints if by_joint else ()
            track = self._track(key, source, align, stream, what, bound.offsets)
            for joint in joints or part.joints or ('',):
                place[joint] = stream, track
        if len(found) > 1 and (align.strategy == 'slerp' or part.quaternion):
            user = 'slerp' if align.strategy == 'slerp' else 'quaternion'
            raise BagError(
                f'{source.topic}: {user} needs all elements of a quaternion in one message; they '
                f'are spread over {len(found)} kinds of them ({key})'
            )
        settled = []
        first = 0
        for track, run in groupby(place[joint][1] for joint in part.joints or ('',)):
            count = len([*run]) if part.joints else len(part.names)
            joint = part.joints[first] if part.joints else ''
            mine = part
            if len(found) > 1:
                mine = replace(
                    part,
                    joints=part.joints[slice(first, first + count)],
                    names=part.names[slice(first, first + count)],
                )
            first += count
            taken = self._from(source, place[joint][0])
            settled.append(bound._replace(part=mine, source=taken, track=track))
        return settled

    def _links(
        self, look: TransformLook, key: str, align: Align, offsets: tuple[int, ...]
    ) -> tuple[Link, ...]:
        links = []
        for edge, forward in look.chain():
            pose = look.static(edge)
            track = -1
            if pose is None:
                stream = self._transform_stream(look, look.samples()[edge])
                track = self._track(key, look.source, align, stream, (str(edge),), offsets)
            links.append(Link(edge.parent, edge.child, forward, track, pose or ()))
        return tuple(links)

    def _transform_stream(self, look: TransformLook, samples: Samples) -> Stream:
        return _sorted_stream(
            look.source.topic,
            np.frombuffer(samples.ordinals, np.int64),
            np.frombuffer(samples.stamps, np.int64),
            {_TRANSFORM: look.messages - len(samples.ordinals)},
        )

    def _stream_of(self, source: Source) -> Stream | None:
        look = self.looks.get(_key(source))
        if look is None:
            return None
        assert isinstance(look, _Look)
        return look.streams(self._reader.counts[source.topic])[0][1]

    def _track(
        self,
        key: str,
        source: Source,
        align: Align,
        stream: Stream | None,
        what: Sequence[str] = (),
        offsets: tuple[int, ...] = (0,),
    ) -> int:
        topic = source.topic if stream is None else self._name(source, stream, what)
        place = (topic, align, offsets)
        if place not in self._tracks:
            selected = None if stream is None else Selected(stream.topic, stream.passed_by)
            self._tracks[place] = (Track('', topic, align, selected, offsets), [])
        self._tracks[place][1].append(key)
        return [*self._tracks].index(place)

    def _from(self, source: Source, stream: Stream | None) -> Source:
        """Return a source that names the topic that the messages are in the bag that is read."""
        return source if stream is None else replace(source, topic=self._name(source, stream))

    def _name(self, source: Source, stream: Stream, what: Sequence[str] = ()) -> str:
        """Return the name of a stream, given when it is first asked for."""
        for name, known in self.streams.items():
            if source.tf is None and _is_same(known, stream):
                return name
        several = len(self._types.get(source.topic, ())) > 1
        words = [
            *what,
            *(source.frame_ids or ()),
            *([source.publisher] if source.publisher else []),
            *(source.msgtypes if several else ()),
            *([source.stamp_field] if source.stamp_field else []),
        ]
        what = listed(words, 3) or ('not empty' if EMPTY in stream.passed_by else 'not all')
        name = f'{source.topic} ({what})'
        if source.tf is not None:
            self.streams[name] = stream
            return name
        number = 2
        while name in self.streams or name in self._reader.counts:
            name = f'{source.topic} ({what}, {number})'
            number += 1
        self.streams[name] = stream
        return name


def _key(source: Source, part: Part | None = None, align: Align | None = None) -> object:
    """Return what looks have in common that need not be taken twice."""
    if part is None or align is None:
        return chooser_of(source)
    return source, part.joints, align.strategy


def _topics_of(look: _Look | TransformLook) -> tuple[str, ...]:
    if isinstance(look, TransformLook):
        return tuple(dict.fromkeys((look.source.topic, look.tf.static_topic)))
    return (look.source.topic,)


def _is_same(first: Stream, second: Stream) -> bool:
    return (
        first.topic == second.topic
        and np.array_equal(first.ordinals, second.ordinals)
        and (first.header is None) == (second.header is None)
        and (
            first.header is None
            or second.header is None
            or np.array_equal(first.header, second.header)
        )
    )
