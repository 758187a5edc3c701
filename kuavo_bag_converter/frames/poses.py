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
Poses along a chain of transforms: read, interpolated and put together.

A pose is a row of seven numbers, as :data:`kuavo_bag_converter.profiles.model.POSE_FIELDS` has
them: a translation, and a rotation as a unit quaternion x, y, z, w.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kuavo_bag_converter.alignment.binding import BoundPart, Link
from kuavo_bag_converter.alignment.plan import Fill, Plan, TrackPlan
from kuavo_bag_converter.alignment.transforms import Edge, edge_of, pose_of, transforms_of
from kuavo_bag_converter.frames.operations import interpolate
from kuavo_bag_converter.frames.served_frames import FramesOfMessages
from kuavo_bag_converter.profiles.model import POSE_FIELDS
from kuavo_bag_converter.support.errors import BagError
import numpy as np
import numpy.typing as npt

Poses = npt.NDArray[np.float64]
"""Shape (frames, 7)."""

_UNIT = 1e-2
"""How far the length of a rotation may be from 1; what is nearer is put right."""
_EXACT = 1e-12


class ChainedPoses:
    """The poses of a part that is a transform, frame by frame, once all messages are there."""

    def __init__(self, bound: BoundPart, plan: Plan, key: str) -> None:
        """
        Put the chain of a part of the feature ``key`` together.

        :param bound: Has the links.
        :param plan: Of the bag.
        :param key: For errors.
        """
        assert bound.source is not None
        self._links = bound.links
        self._key = key
        places = [POSE_FIELDS.index(field) for field in bound.source.fields]
        if bound.part.select is not None:
            places = [places[element] for element in bound.part.select]
        self._places = places
        self._fixed = [np.array([link.pose]) if link.track < 0 else None for link in bound.links]
        self._tracks = {
            number: plan.tracks[link.track]
            for number, link in enumerate(bound.links)
            if link.track >= 0
        }
        self._numbers = {track.track.topic: number for number, track in self._tracks.items()}
        self.plan: TrackPlan | None = None
        """What serves the frames; None for a pose that never changes."""
        self.frames = np.empty(0, dtype=np.int64)
        """The frames that get a pose from messages."""
        self._first: dict[int, FramesOfMessages] = {}
        self._second: dict[int, FramesOfMessages] = {}
        self._waiting: dict[int, dict[tuple[int, bool], Poses]] = {}
        """Of frames for which messages are missing, the pose of each link, and the later one."""
        if self._tracks:
            self._plan_frames()

    def _plan_frames(self) -> None:
        tracks = [*self._tracks.values()]
        fill = np.maximum.reduce([track.fill for track in tracks])
        in_gap = np.logical_or.reduce([track.in_gap for track in tracks])
        self.plan = replace(tracks[0], fill=fill, in_gap=in_gap)
        self.frames = np.flatnonzero(fill == Fill.VALUE)
        self._needed = np.zeros(len(fill), dtype=np.int64)
        for number, track in self._tracks.items():
            first, second = track.first[self.frames], track.second[self.frames]
            mixed = second != first
            self._first[number] = FramesOfMessages(first, self.frames)
            self._second[number] = FramesOfMessages(second[mixed], self.frames[mixed])
            self._needed[self.frames] += 1 + mixed

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics whose messages must be taken."""
        return tuple(self._numbers)

    @property
    def constant(self) -> Poses | None:
        """Return the elements of a pose that never changes, shape (elements,); None of another."""
        if self._tracks:
            return None
        fixed = [pose for pose in self._fixed if pose is not None]
        elements: Poses = along(self._links, fixed)[0, self._places]
        return elements

    def take(self, topic: str, ordinal: int, message: object) -> list[tuple[int, Poses]]:
        """
        Take a decoded message; return the frames that are complete with it, and their elements.

        :raises BagError: The transform that it tells is none.
        """
        number = self._numbers[topic]
        served = [(frame, False) for frame in self._first[number].of(ordinal)]
        served += [(frame, True) for frame in self._second[number].of(ordinal)]
        if not served:
            return []
        pose = self._read(number, topic, message)
        complete = []
        for frame, later in served:
            waiting = self._waiting.setdefault(frame, {})
            waiting[number, later] = pose
            if len(waiting) == self._needed[frame]:
                complete.append((frame, self._pose_at(frame, self._waiting.pop(frame))))
        return complete

    def _pose_at(self, frame: int, given: dict[tuple[int, bool], Poses]) -> Poses:
        poses = []
        for number, fixed in enumerate(self._fixed):
            if fixed is not None:
                poses.append(fixed)
                continue
            first = given[number, False]
            second = given.get((number, True), first)
            poses.append(between(first, second, self._tracks[number].weight[[frame]]))
        elements: Poses = along(self._links, poses)[0, self._places]
        return elements

    def _read(self, number: int, topic: str, message: object) -> Poses:
        """Return the pose that a message tells of a link, of several the last, shape (1, 7)."""
        edge = Edge(self._links[number].parent, self._links[number].child)
        matching = [one for one in transforms_of(message) if edge_of(one) == edge]
        pose = np.array([pose_of(matching[-1])], dtype=np.float64)
        length = float(np.linalg.norm(pose[0, 3:]))
        if not np.isfinite(pose).all() or abs(length - 1) > _UNIT:
            numbers = ', '.join(f'{value:g}' for value in pose[0])
            raise BagError(
                f'{topic}: its transform is ({numbers}), whose rotation is no unit quaternion; '
                f'leave it out, or cut the recording ({self._key})'
            )
        if abs(length - 1) > _EXACT:
            pose[0, 3:] /= length
        return pose


def between(first: Poses, second: Poses, weight: npt.NDArray[np.float64]) -> Poses:
    """
    Interpolate poses, shape (frames, 7): translations linearly, rotations by slerp.

    A weight of 0 gives ``first`` exactly.

    :param first: The earlier poses.
    :param second: The later ones.
    :param weight: The share of ``second``, 0 to 1, shape (frames,).
    """
    moved = interpolate('linear', first[:, :3], second[:, :3], weight)
    return np.hstack([moved, interpolate('slerp', first[:, 3:], second[:, 3:], weight)])


def along(links: Sequence[Link], poses: Sequence[Poses]) -> Poses:
    """
    Put the poses of links together, from the parent of the first to the child of the last.

    :param links: The chain.
    :param poses: Of each link, shape (frames, 7).
    """
    result: Poses | None = None
    for link, pose in zip(links, poses, strict=True):
        step = pose if link.forward else _inverse(pose)
        result = step if result is None else _product(result, step)
    assert result is not None, 'a chain has a link at least'
    return result


def _product(first: Poses, second: Poses) -> Poses:
    moved = first[:, :3] + _turned(first[:, 3:], second[:, :3])
    return np.hstack([moved, _multiplied(first[:, 3:], second[:, 3:])])


def _inverse(pose: Poses) -> Poses:
    back = pose[:, 3:] * [-1.0, -1.0, -1.0, 1.0]
    return np.hstack([-_turned(back, pose[:, :3]), back])


def _multiplied(first: Poses, second: Poses) -> Poses:
    """Return the products of quaternions, shape (frames, 4)."""
    v1, w1, v2, w2 = first[:, :3], first[:, 3:], second[:, :3], second[:, 3:]
    vector = w1 * v2 + w2 * v1 + np.cross(v1, v2)
    return np.hstack([vector, w1 * w2 - np.sum(v1 * v2, axis=1, keepdims=True)])


def _turned(rotation: Poses, vector: Poses) -> Poses:
    """Turn vectors, shape (frames, 3), by quaternions."""
    axis, real = rotation[:, :3], rotation[:, 3:]
    twice = 2 * np.cross(axis, vector)
    return vector + real * twice + np.cross(axis, twice)
