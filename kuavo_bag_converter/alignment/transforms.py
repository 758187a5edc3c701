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

"""The chain of transforms between two frames, and the messages that tell each of them."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from itertools import pairwise
import math
from typing import Any, NamedTuple

from kuavo_bag_converter.bags.model import Message, NS_PER_S
from kuavo_bag_converter.profiles.model import Source
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.texts import did_you_mean, listed

Pose = tuple[float, ...]
"""Translation and rotation, see :data:`kuavo_bag_converter.profiles.model.POSE_FIELDS`."""
_JUMP = 0.02
"""From one pose to the next, m or in a quaternion, what may come of two publishers."""
_RETURN = 3
"""Poses of which the first and the last are alike and the one between is not."""


class Edge(NamedTuple):
    """A frame and the one that its pose is given in."""

    parent: str
    child: str

    def __str__(self) -> str:
        return f'{self.parent} to {self.child}'


class Samples(NamedTuple):
    """The messages of a topic that tell one transform."""

    ordinals: array[int]
    stamps: array[int]
    """Of the transform's header, ns."""


class _PoseTrail:
    """The last poses of a transform, and how often it jumps to another one and back."""

    def __init__(self) -> None:
        self.publisher: str | None = None
        self._poses: list[Pose] = []
        self._returns = 0
        self._seen = 0

    def add(self, pose: Pose) -> None:
        """Take the next pose."""
        self._seen += 1
        self._poses = [*self._poses[-2:], pose]
        if len(self._poses) == _RETURN:
            first, between, _ = self._poses
            jump = math.dist(between, pose)
            if jump > _JUMP and math.dist(first, pose) < jump / 5:
                self._returns += 1

    @property
    def values(self) -> tuple[Pose, Pose] | None:
        """Two poses by turns, if that is what there is, as no single publisher says."""
        if self._returns < _RETURN or self._returns * 5 < self._seen:
            return None
        return self._poses[-2], self._poses[-1]


def transforms_of(message: Any) -> list[Any]:
    """Return the transforms of a decoded message, or itself if it is one."""
    found = getattr(message, 'transforms', None)
    return [message] if found is None else list(found)


def edge_of(transform: Any) -> Edge:
    """Return the frames of a ``TransformStamped``."""
    return Edge(transform.header.frame_id.lstrip('/'), transform.child_frame_id.lstrip('/'))


def pose_of(transform: Any) -> Pose:
    """Return the pose that a ``TransformStamped`` holds."""
    move, turn = transform.transform.translation, transform.transform.rotation
    return (move.x, move.y, move.z, turn.x, turn.y, turn.z, turn.w)


class TransformLook:
    """
    Collects the transforms of a recording from which the pose of a frame in another follows.

    What is kept are the frames, and the ordinals and stamps of the transforms that may be needed:
    of all until the chain is known, of its own from then on.
    """

    def __init__(self, source: Source, user: str) -> None:
        """Look for the transform of ``source``, which ``user`` needs."""
        assert source.tf is not None
        self.source = source
        self.tf = source.tf
        self._user = user
        self._parents: dict[str, dict[str, None]] = {}
        """Parents of each frame."""
        self._samples: dict[Edge, Samples] = {}
        self._static: dict[Edge, Pose] = {}
        self._trails: dict[Edge, _PoseTrail] = {}
        self._chain: frozenset[str] = frozenset()
        """Children of the transforms of the chain, once it is known."""
        self._contradictions: dict[Edge, str] = {}
        self.messages = 0
        """Of the topic of the source."""

    def see(self, message: Message, decoded: Any) -> None:
        """Take a message of one of the topics."""
        static = message.connection.topic == self.tf.static_topic
        self.messages += not static
        publisher = message.connection.publisher
        if self.source.publisher and publisher != self.source.publisher and not static:
            return
        new = False
        for transform in transforms_of(decoded):
            edge = edge_of(transform)
            known = self._parents.setdefault(edge.child, {})
            if edge.parent not in known:
                known[edge.parent] = None
                new = True
            if self._chain and edge.child not in self._chain:
                continue
            if static:
                self._take_static(edge, pose_of(transform))
            else:
                self._take(edge, transform, message, publisher)
        if new:
            links = self._links(strict=False)
            self._chain = frozenset(edge.child for edge, _ in links or ())
            if self._chain:
                self._samples = {e: s for e, s in self._samples.items() if e.child in self._chain}

    def _take_static(self, edge: Edge, pose: Pose) -> None:
        before = self._static.setdefault(edge, pose)
        if before != pose:
            self._contradictions[edge] = (
                f'{self.tf.static_topic}: the transform of {edge} changes from {_shown(before)} '
                f'to {_shown(pose)}, though it must not; record it on {self.source.topic}'
            )

    def _take(self, edge: Edge, transform: Any, message: Message, publisher: str) -> None:
        header = transform.header.stamp
        stamp = header.sec * NS_PER_S + header.nanosec
        trail = self._trails.setdefault(edge, _PoseTrail())
        trail.add(pose_of(transform))
        if trail.publisher not in (None, publisher):
            self._contradictions[edge] = (
                f'{self.source.topic}: the transform of {edge} is published by '
                f'{trail.publisher} and by {publisher}; give one of them as publisher in the '
                'source'
            )
        trail.publisher = publisher
        samples = self._samples.setdefault(edge, Samples(array('q'), array('q')))
        if samples.ordinals and samples.ordinals[-1] == message.ordinal:
            samples.stamps[-1] = stamp
        else:
            samples.ordinals.append(message.ordinal)
            samples.stamps.append(stamp)

    def chain(self) -> list[tuple[Edge, bool]]:
        """
        Return the transforms from the parent to the child, each with whether it goes downwards.

        :raises BagError: A frame is not there, has several parents, or they are not connected.
        """
        links = self._links(strict=True)
        assert links is not None
        for edge, _ in links:
            if edge in self._contradictions:
                raise BagError(f'{self._contradictions[edge]} ({self._user})')
            by_turns = self._trails[edge].values if edge in self._trails else None
            if by_turns is not None:
                raise BagError(
                    f'{self.source.topic}: the transform of {edge} is by turns '
                    f'{_shown(by_turns[0])} and {_shown(by_turns[1])}, as of several publishers; '
                    f'record one of them ({self._user})'
                )
            if edge in self._static and edge in self._samples:
                raise BagError(
                    f'{self.source.topic}: the transform of {edge} is on {self.tf.static_topic}, '
                    f'too; record it on one of them ({self._user})'
                )
        return links

    def static(self, edge: Edge) -> Pose | None:
        """Return the pose of a transform that never changes; None of another."""
        return self._static.get(edge)

    def samples(self) -> Mapping[Edge, Samples]:
        """Return the messages that tell each transform of the chain."""
        return self._samples

    def _links(self, *, strict: bool) -> list[tuple[Edge, bool]] | None:
        down, ambiguous = self._ancestors(self.tf.child)
        up, also = self._ancestors(self.tf.parent)
        common = next((frame for frame in down if frame in up), None)
        if common is None:
            if strict:
                raise self._not_connected(down, up, ambiguous or also)
            return None
        rising = up[: up.index(common) + 1]
        falling = down[: down.index(common) + 1]
        links = [(Edge(b, a), False) for a, b in pairwise(rising)]
        falling.reverse()
        return links + [(Edge(a, b), True) for a, b in pairwise(falling)]

    def _ancestors(self, frame: str) -> tuple[list[str], str]:
        """Return a frame and those above it, and the one at which several go on."""
        found = [frame]
        while True:
            parents = [*self._parents.get(found[-1], ())]
            if len(parents) > 1:
                return found, found[-1]
            if not parents or parents[0] in found:
                return found, ''
            found.append(parents[0])

    def _not_connected(self, down: list[str], up: list[str], ambiguous: str) -> BagError:
        topic = self.source.topic
        frames = {*self._parents, *(p for parents in self._parents.values() for p in parents)}
        for frame in (self.tf.parent, self.tf.child):
            if frame not in frames:
                return BagError(
                    f'{topic}: no transform of the frame {frame!r}; there are '
                    f'{listed(sorted(frames)) or "none"}{did_you_mean(frame, frames)} '
                    f'({self._user})'
                )
        if ambiguous:
            return BagError(
                f'{topic}: the frame {ambiguous} has several parents, '
                f'{listed(self._parents[ambiguous])}, so that the way from {self.tf.parent} to '
                f'{self.tf.child} is ambiguous; choose frames below it, or record one publisher '
                f'({self._user})'
            )
        return BagError(
            f'{topic}: {self.tf.child} is below {down[-1]} and {self.tf.parent} below {up[-1]}: '
            f'no transforms connect them ({self._user})'
        )


def _shown(pose: Pose) -> str:
    return f'[{", ".join(f"{value:g}" for value in pose)}]'
