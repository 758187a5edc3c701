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

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kuavo_bag_converter.alignment.plan import Track
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


class BoundPart(NamedTuple):
    """A part of a vector, its source and the track that aligns it."""

    part: Part
    source: Source | None
    """None for a gap flag whose topic the bag does not have: it is never set."""
    track: int


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
    clock_topic: str
    end_topics: tuple[str, ...]
    tracks: tuple[Track, ...]
    vectors: tuple[BoundVector, ...]
    cameras: tuple[BoundCamera, ...]
    task_source: Source | None
    """Topic of the task's text; None if the bag has none."""
    episode_source: Source | None
    """Topic that cuts the bag into episodes; None if no topic does."""

    @property
    def vector_topics(self) -> frozenset[str]:
        """Topics whose numbers are used."""
        parts = (part for vector in self.vectors for part in vector.parts)
        return frozenset(
            part.source.topic
            for part in parts
            if part.source is not None and not part.part.gap_flag
        )

    @property
    def topics(self) -> frozenset[str]:
        """Topics whose payloads are used."""
        return self.vector_topics | {camera.source.topic for camera in self.cameras}


def bind(profile: Profile, reader: BagReader) -> Binding:
    """
    Choose the source of every part among the topics of the bag.

    :raises BagError: A topic is missing or empty, or has a type that does not fit.
    """
    binder = _Binder(reader)
    clock = binder.clock(profile.clock)
    vectors = tuple(
        BoundVector(feature, tuple(binder.part(feature.key, part) for part in feature.parts))
        for feature in profile.vectors
    )
    cameras = tuple(binder.camera(feature) for feature in profile.cameras)
    end_topics = tuple(t for t in profile.clock.end_topics if reader.counts.get(t))
    episodes = profile.episodes
    return Binding(
        profile,
        clock.topic,
        end_topics,
        tuple(binder.tracks()),
        vectors,
        cameras,
        binder.first_usable(profile.task_sources),
        binder.choose(episodes.sources, 'the cutting into episodes') if episodes.sources else None,
    )


class _Binder:
    def __init__(self, reader: BagReader) -> None:
        self._reader = reader
        self._types: dict[str, set[str]] = {}
        for connection in reader.connections:
            self._types.setdefault(connection.topic, set()).add(connection.msgtype)
        self._tracks: dict[tuple[str, Align], tuple[int, list[str]]] = {}

    def tracks(self) -> Iterable[Track]:
        for (topic, align), (_, users) in self._tracks.items():
            yield Track(' + '.join(dict.fromkeys(users)), topic, align)

    def clock(self, clock: Clock) -> Source:
        sources: Sequence[Source] = clock.sources
        if clock.most_messages:
            sources = sorted(sources, key=lambda s: -self._reader.counts.get(s.topic, 0))
        return self.choose(sources, 'the frame clock')

    def part(self, key: str, part: Part) -> BoundPart:
        if part.gap_flag and not self.present(part.sources):
            return BoundPart(part, None, -1)
        source = self.choose(part.sources, key)
        return BoundPart(part, source, self._track(key, source, part.align))

    def camera(self, feature: CameraFeature) -> BoundCamera:
        source = self.choose(feature.sources, feature.key)
        return BoundCamera(feature, source, self._track(feature.key, source, feature.align))

    def _track(self, key: str, source: Source, align: Align) -> int:
        entry = self._tracks.setdefault(
            (source.topic, source.align or align), (len(self._tracks), [])
        )
        entry[1].append(key)
        return entry[0]

    def present(self, sources: Sequence[Source]) -> list[Source]:
        return [source for source in sources if self._reader.counts.get(source.topic)]

    def first_usable(self, sources: Sequence[Source]) -> Source | None:
        for source in self.present(sources):
            if not source.msgtypes or self._types[source.topic] <= set(source.msgtypes):
                return source
        return None

    def choose(self, sources: Sequence[Source], user: str) -> Source:
        usable = self.first_usable(sources)
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
