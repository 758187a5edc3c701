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

"""The pose of a frame in another one, stated by matrices along the chain of transforms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kuavo_bag_converter.replay.plain_recording import NotJudged
from kuavo_bag_converter.replay.stated_rows import Cell, SECOND, StatedTopic, turned
import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
"""Of a pose, shape (4, 4)."""


class StatedEdge:
    """
    The transforms of one frame in its parent.

    :ivar topic: Their stamps; those of headers are their own.
    :ivar poses: Their translations and rotations, (x, y, z, qx, qy, qz, qw), by their numbers.
    """

    def __init__(self, name: str, parent: str, *, static: bool) -> None:
        self.topic = StatedTopic(name)
        self.parent = parent
        self.static = static
        self.poses: list[NDArray[np.float64]] = []

    def add(self, place: int, received: int, transform: Any) -> None:
        """Take a ``TransformStamped``."""
        stamp = transform.header.stamp
        move, turn = transform.transform.translation, transform.transform.rotation
        self.topic.add(len(self.poses), place, received, stamp.sec * SECOND + stamp.nanosec)
        self.poses.append(np.array([move.x, move.y, move.z, turn.x, turn.y, turn.z, turn.w]))


def pose(
    edges: Mapping[str, StatedEdge],
    parent: str,
    child: str,
    serve: Callable[[StatedEdge], Cell],
) -> Sequence[float]:
    """
    Return the pose of ``child`` in ``parent``: translation, and a quaternion of either sign.

    :param edges: By the child of each; ``serve`` tells which of its transforms serve.
    :raises NotJudged: The frames are not connected.
    """
    up, down = _ancestors(edges, parent), _ancestors(edges, child)
    common = next((frame for frame in up if frame in down), None)
    if common is None:
        raise NotJudged(f'the frames {parent} and {child}, which are not connected')
    first = _along(edges, up[: up.index(common)], serve)
    second = _along(edges, down[: down.index(common)], serve)
    whole = np.linalg.inv(first) @ second
    return [*whole[:3, 3].tolist(), *_quaternion(whole)]


def _ancestors(edges: Mapping[str, StatedEdge], frame: str) -> list[str]:
    found = [frame]
    while frame in edges and edges[frame].parent not in found:
        frame = edges[frame].parent
        found.append(frame)
    return found


def _along(
    edges: Mapping[str, StatedEdge],
    frames: Sequence[str],
    serve: Callable[[StatedEdge], Cell],
) -> Matrix:
    """Return the pose of the first frame in the parent of the last."""
    whole: Matrix = np.eye(4)
    for frame in frames:
        edge = edges[frame]
        cell = Cell(0, 0) if edge.static else serve(edge)
        if cell.fill or cell.cut:
            raise NotJudged('a pose where a transform is missing')
        first, second = edge.poses[cell.first], edge.poses[cell.second]
        move = (1 - cell.weight) * first[:3] + cell.weight * second[:3]
        turn = first[3:] / np.linalg.norm(first[3:])
        if cell.first != cell.second:
            other = second[3:] if float(first[3:] @ second[3:]) >= 0 else -second[3:]
            turn = turned(first[3:], other, cell.weight)
        whole = _matrix(move, turn) @ whole
    return whole


def _matrix(move: NDArray[np.float64], turn: Sequence[float]) -> Matrix:
    x, y, z, w = turn
    result: Matrix = np.eye(4)
    result[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    result[:3, 3] = move
    return result


def _quaternion(pose: Matrix) -> list[float]:
    """Return x, y, z and w of a rotation: the eigenvector that stays (Bar-Itzhack)."""
    r = pose[:3, :3]
    symmetric = np.array([
        [r[0, 0] - r[1, 1] - r[2, 2], r[1, 0] + r[0, 1], r[2, 0] + r[0, 2], r[2, 1] - r[1, 2]],
        [r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], r[2, 1] + r[1, 2], r[0, 2] - r[2, 0]],
        [r[2, 0] + r[0, 2], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1], r[1, 0] - r[0, 1]],
        [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], r[0, 0] + r[1, 1] + r[2, 2]],
    ])  # fmt: skip
    values, vectors = np.linalg.eigh(symmetric)
    return [float(number) for number in vectors[:, values.argmax()]]
