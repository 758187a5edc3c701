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

"""A profile bound to one bag: every source resolved to a topic that the bag really has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from kuavo_bag_converter.alignment.plan import topics_with_header, Track
from kuavo_bag_converter.bags.model import BagReader
from kuavo_bag_converter.profiles.model import (
    Align,
    CameraFeature,
    Clock,
    Part,
    Profile,
    Source,
    VectorFeature,
)
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.texts import did_you_mean, listed

_ADVICE = 'the command inspect tells what fits the bag'


class Link(NamedTuple):
    """One transform on the way from a frame to another."""

    parent: str
    child: str
    forward: bool
    """Whether the way goes from the parent to the child."""
    track: int
    """The track that aligns it, -1 for one that never changes."""
    pose: tuple[float, ...]
    """Of one that never changes: see :data:`POSE_FIELDS`."""


class BoundPart(NamedTuple):
    """A part of a vector, its source and the track that aligns it."""

    part: Part
    source: Source | None
    """None for what no topic tells, and for a gap flag whose topic the bag does not have."""
    track: int
    """-1 where there is none, or those of the links."""
    links: tuple[Link, ...] = ()
    """Of a source that is a transform, from its parent to its child, once they are known."""
    offsets: tuple[int, ...] = (0,)
    """How long before a frame each of its samples lies, ns."""


class BoundVector(NamedTuple):
    """A vector feature and its parts."""

    feature: VectorFeature
    parts: tuple[BoundPart, ...]


class BoundCamera(NamedTuple):
    """A camera feature, its source and the track that aligns it."""

    feature: CameraFeature
    source: Source
    track: int


@dataclass(frozen=True)
class Binding:
    """What to read from one bag, and for which feature."""

    profile: Profile
    clock_source: Source
    end_topics: tuple[str, ...]
    tracks: tuple[Track, ...]
    vectors: tuple[BoundVector, ...]
    cameras: tuple[BoundCamera, ...]
    task_source: Source | None
    """Topic of the task's text; None if the bag has none."""
    episode_source: Source | None
    """Topic that cuts the bag into episodes; None if no topic does."""
    language_sources: tuple[Source | None, ...] = ()
    """Topic of each of the profile's ``language``; None if the bag has none."""
    element_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names that the bag gives elements that are read by their places, by part."""
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    """The topic that stands in where the bag has none of a part's own, by feature and elements."""

    @property
    def text_sources(self) -> list[tuple[Source, str]]:
        """Return the topics of which single values are read in the first pass, and for what."""
        named = [(self.task_source, 'task'), (self.episode_source, 'episodes')]
        named += [(source, 'language') for source in self.language_sources]
        return [(source, user) for source, user in named if source is not None]

    @property
    def clock_topic(self) -> str:
        """Return the topic whose messages set the frames."""
        return self.clock_source.topic

    @property
    def topics_with_header(self) -> frozenset[str]:
        """Return the topics whose headers give stamps, and not another field."""
        bound = [part for vector in self.vectors for part in vector.parts]
        sources = [part.source for part in bound if part.source is not None]
        sources += [camera.source for camera in self.cameras]
        own = {source.topic for source in sources if source.stamp_field}
        if self.clock_source.stamp_field:
            own.add(self.clock_topic)
        return topics_with_header(self.clock_topic, self.profile.clock, self.tracks) - own


def bind(profile: Profile, reader: BagReader) -> Binding:
    """
    Choose the source of every part among the topics of the bag.

    :raises BagError: A topic is missing or empty, or has a type that does not fit.
    """
    binder = _Binder(reader)
    clock = binder.clock(profile.clock, [s for item in profile.cameras for s in item.sources])
    vectors = tuple(
        BoundVector(
            feature,
            tuple(
                binder.part(feature.key, part, feature.sample_offsets(profile.fps))
                for part in feature.parts
            ),
        )
        for feature in profile.vectors
    )
    cameras = tuple(binder.camera(feature) for feature in profile.cameras)
    end_topics = tuple(t for t in profile.clock.end_topics if reader.counts.get(t))
    episodes = profile.episodes
    return Binding(
        profile,
        clock,
        end_topics,
        tuple(binder.tracks()),
        vectors,
        cameras,
        binder.first_usable(profile.task_sources, 'the task'),
        binder.choose(episodes.sources, 'the cutting into episodes') if episodes.sources else None,
        tuple(binder.first_usable(one.sources, 'the language') for one in profile.language),
        stand_ins=binder.stand_ins,
    )


class _Binder:
    """Finds the topics of a bag that serve a profile."""

    def __init__(self, reader: BagReader) -> None:
        self._reader = reader
        self._types = message_types(reader)
        self._tracks: dict[tuple[object, ...], tuple[Track, list[str]]] = {}
        self.stand_ins: dict[str, str] = {}

    def tracks(self) -> Iterable[Track]:
        for track, users in self._tracks.values():
            yield track._replace(name=' + '.join(dict.fromkeys(users)))

    def clock(self, clock: Clock, cameras: Sequence[Source]) -> Source:
        sources: Sequence[Source] = clock.sources
        if clock.most_messages:
            sources = sorted(sources, key=lambda s: -self._reader.counts.get(s.topic, 0))
        sources = [_as_its_camera(source, cameras) for source in sources]
        return self.choose(sources, 'the frame clock')

    def part(self, key: str, part: Part, offsets: tuple[int, ...]) -> BoundPart:
        if part.last_frame or (part.gap_flag and not self.present(part.sources)):
            return BoundPart(part, None, -1, offsets=offsets)
        if part.stand_in is not None and not self.present(part.sources):
            bound = self.part(key, part.stand_in, offsets)
            assert bound.source is not None
            elements = ' to '.join(dict.fromkeys((part.names[0], part.names[-1])))
            self.stand_ins[f'{key}: {elements}'] = bound.source.topic
            return bound
        source = self.choose(part.sources, key)
        track = -1 if source.tf is not None else self._track(key, source, part.align, offsets)
        return BoundPart(part, source, track, offsets=offsets)

    def camera(self, feature: CameraFeature) -> BoundCamera:
        source = self.choose(feature.sources, feature.key)
        return BoundCamera(feature, source, self._track(feature.key, source, feature.align))

    def _track(
        self, key: str, source: Source, align: Align, offsets: tuple[int, ...] = (0,)
    ) -> int:
        align = source.align or align
        chosen = chooser_of(source) if self.must_choose(source) else None
        place = (source.topic, align, chosen, offsets)
        if place not in self._tracks:
            self._tracks[place] = (Track('', source.topic, align, offsets=offsets), [])
        self._tracks[place][1].append(key)
        return [*self._tracks].index(place)

    def must_choose(self, source: Source) -> bool:
        """Tell whether only some messages of a topic can serve."""
        return chooses(source) or len(self._types[source.topic]) > 1

    def present(self, sources: Sequence[Source]) -> list[Source]:
        return [
            source
            for source in sources
            if self._reader.counts.get(source.topic)
            or (source.tf is not None and self._reader.counts.get(source.tf.static_topic))
        ]

    def first_usable(self, sources: Sequence[Source], user: str) -> Source | None:
        for source in self.present(sources):
            types = self._types.get(source.topic, set())
            if source.msgtypes and not types & set(source.msgtypes):
                continue
            if not source.msgtypes and len(types) > 1 and source.tf is None:
                raise BagError(
                    f'{source.topic}: has messages of {listed(sorted(types))}; give the type that '
                    f'{user} needs in the source'
                )
            return source
        return None

    def choose(self, sources: Sequence[Source], user: str) -> Source:
        usable = self.first_usable(sources, user)
        if usable is not None:
            return usable
        present = self.present(sources)
        if present:
            types = listed(sorted(self._types[present[0].topic]))
            wanted = ' or '.join(sorted({t for source in present for t in source.msgtypes}))
            raise BagError(
                f'{present[0].topic}: {user} needs {wanted}, the bag has {types}; {_ADVICE}'
            )
        topics = list(dict.fromkeys(source.topic for source in sources))
        empty = [topic for topic in topics if topic in self._types]
        if empty:
            raise BagError(f'{empty[0]}: the topic has no messages; {user} needs it; {_ADVICE}')
        near = next(filter(None, (did_you_mean(topic, self._types) for topic in topics)), '')
        tried = f' (nor {len(topics) - 1} other names of it)' if len(topics) > 1 else ''
        raise BagError(f'no topic {topics[0]} in the bag{tried}; {user} needs it{near}; {_ADVICE}')


def message_types(reader: BagReader) -> dict[str, set[str]]:
    """Return of which types each topic has messages."""
    types: dict[str, set[str]] = {}
    for connection, count in zip(reader.connections, reader.connection_counts, strict=True):
        mine = types.setdefault(connection.topic, set())
        if count:
            mine.add(connection.msgtype)
    return types


def chooser_of(source: Source) -> Source:
    """Return what of a source says which messages of its topic can serve."""
    return replace(source, fields=(), names_field='name', align=None)


def chooses(source: Source) -> bool:
    """Tell whether a source says which messages of its topic can serve, or their stamps."""
    return bool(source.frame_ids or source.publisher or source.stamp_field)


def _as_its_camera(source: Source, cameras: Sequence[Source]) -> Source:
    """Let a clock that does not say which messages of its topic it means mean its camera's."""
    mine = {chooser_of(camera) for camera in cameras if camera.topic == source.topic}
    if len(mine) != 1 or chooses(source) or source.msgtypes:
        return source
    return mine.pop()
