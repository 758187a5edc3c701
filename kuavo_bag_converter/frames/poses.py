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
from kuavo_bag_converter.frames.rotations import multiplied
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


_LENGTH = len(POSE_FIELDS)


class ChainedPoses:
    """
    The poses of a part that is a transform.

    Of each link that changes, messages tell two poses for a frame, between which its own lies;
    they are put into its row, each in its slot. Where one message serves alone, it tells both.
    """

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
        """The frames that get poses from messages, each once for every slot."""
        self.width = 2 * _LENGTH * len(self._tracks)
        """Of a row."""
        self._slots: dict[str, dict[int, FramesOfMessages]] = {}
        """By topic, the frames for which a message tells the pose of a slot."""
        if self._tracks:
            self._plan_frames()

    def _plan_frames(self) -> None:
        tracks = [*self._tracks.values()]
        fill = np.maximum.reduce([track.fill for track in tracks])
        in_gap = np.logical_or.reduce([track.in_gap for track in tracks])
        self.plan = replace(tracks[0], fill=fill, in_gap=in_gap)
        frames = np.flatnonzero(fill == Fill.VALUE)
        for place, track in enumerate(tracks):
            self._slots[track.track.topic] = {
                2 * place: FramesOfMessages(track.first[frames], frames),
                2 * place + 1: FramesOfMessages(track.second[frames], frames),
            }
        self.frames = np.tile(frames, 2 * len(tracks))

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

    def take(self, topic: str, ordinal: int, message: object) -> list[tuple[int, int, Poses]]:
        """
        Take a decoded message; return the frames that it serves, each with a slot and a pose.

        :raises BagError: The transform that it tells is none.
        """
        served = [
            (frame, slot)
            for slot, frames in self._slots[topic].items()
            for frame in frames.of(ordinal)
        ]
        if not served:
            return []
        pose = self._read(self._numbers[topic], topic, message)
        return [(frame, slot, pose) for frame, slot in served]

    @staticmethod
    def put(row: Poses, slot: int, pose: Poses) -> None:
        """Put a pose into its slot of a row, shape (width,)."""
        row[slice(_LENGTH * slot, _LENGTH * (slot + 1))] = pose

    def elements(self, rows: Poses, start: int) -> Poses:
        """
        Return the elements of frames, shape (frames, elements).

        :param rows: Of consecutive frames, shape (frames, width).
        :param start: The first of them.
        """
        told = iter(np.split(rows, 2 * len(self._tracks), axis=1))
        poses = []
        for number, fixed in enumerate(self._fixed):
            if fixed is not None:
                poses.append(fixed)
                continue
            weight = self._tracks[number].weight[slice(start, start + len(rows))]
            poses.append(between(next(told), next(told), weight))
        elements: Poses = along(self._links, poses)[:, self._places]
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
    :param poses: Of each link, shape (frames, 7), or (1, 7) of one that never changes.
    """
    result: Poses | None = None
    for link, pose in zip(links, poses, strict=True):
        step = pose if link.forward else _inverse(pose)
        result = step if result is None else _product(result, step)
    assert result is not None, 'a chain has a link at least'
    return result


def _product(first: Poses, second: Poses) -> Poses:
    moved = first[:, :3] + _turned(first[:, 3:], second[:, :3])
    return np.hstack([moved, multiplied(first[:, 3:], second[:, 3:])])


def _inverse(pose: Poses) -> Poses:
    back = pose[:, 3:] * [-1.0, -1.0, -1.0, 1.0]
    return np.hstack([-_turned(back, pose[:, :3]), back])


def _turned(rotation: Poses, vector: Poses) -> Poses:
    """Turn vectors, shape (frames, 3), by quaternions."""
    axis, real = rotation[:, :3], rotation[:, 3:]
    twice = 2 * np.cross(axis, vector)
    return vector + real * twice + np.cross(axis, twice)
