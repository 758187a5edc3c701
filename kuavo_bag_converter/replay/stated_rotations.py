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

"""What a rotation is in another representation, stated by matrices, one rotation at a time."""

from __future__ import annotations

from collections.abc import Sequence
import math

from kuavo_bag_converter.profiles.model import Rotation
from kuavo_bag_converter.replay.plain_recording import NotJudged
import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
"""Shape (3, 3)."""

_OFF = 0.01
"""How far the squared length of what has length 1 may be off."""
_NEAR = 1e-4
"""How near to where two axes coincide, or to half a turn, nothing is said, rad."""


def rotated(
    first: Sequence[float], second: Sequence[float], share: float, rotation: Rotation
) -> list[float]:
    """
    Return the numbers of a rotation that lies at a share of the way between two.

    :param first: As it was recorded.
    :param second: As it was recorded; not looked at where the share is 0.
    :raises NotJudged: Others may stand for the same rotation: two axes of Euler angles coincide,
        or it is half a turn.
    """
    if not all(is_rotation(rotation.recorded, numbers) for numbers in (first, second)):
        return [math.nan] * len(Rotation.elements_of(rotation.written))
    whole = matrix_of(rotation.recorded, first)
    if share:
        other = whole.T @ matrix_of(rotation.recorded, second)
        axis, angle = _axis_and_angle(other)
        whole = whole @ _turn(axis, share * angle)
    return _written(rotation.written, whole)


def is_rotation(representation: str, numbers: Sequence[float]) -> bool:
    """Tell whether numbers, each finite, are one: of length 1, and at right angles."""
    values = np.array(numbers, np.float64)
    if not np.isfinite(values).all():
        return False
    if representation.startswith('quaternion'):
        return abs(float(values @ values) - 1) <= _OFF
    if representation == 'matrix':
        rows = values.reshape(3, 3)
        off = float(np.abs(rows @ rows.T - np.eye(3)).max())
        return off <= _OFF and float(np.linalg.det(rows)) > 0
    if representation.startswith('rot6d'):
        lengths = float(np.linalg.norm(values[:3]) * np.linalg.norm(values[3:]))
        return float(np.linalg.norm(np.cross(values[:3], values[3:]))) > 1e-6 * lengths
    return True


def matrix_of(representation: str, numbers: Sequence[float]) -> Matrix:
    """Return the matrix of a rotation."""
    values = np.array(numbers, np.float64)
    if representation == 'matrix' or representation.startswith('rot6d'):
        first = values[:3] / np.linalg.norm(values[:3])
        third = np.cross(first, values[3:6])
        third = third / np.linalg.norm(third)
        rows = np.array([first, np.cross(third, first), third])
        return rows.T if representation == 'rot6d_columns' else rows
    if representation == 'rotvec':
        angle = float(np.linalg.norm(values))
        return _turn(values / angle, angle) if angle else np.eye(3)
    if representation.startswith('quaternion'):
        real = representation.removeprefix('quaternion_').index('w')
        vector = np.delete(values, real)
        angle = 2 * math.atan2(float(np.linalg.norm(vector)), float(values[real]))
        return _turn(vector / max(float(np.linalg.norm(vector)), 1e-300), angle)
    axes, is_intrinsic, factor = _convention(representation)
    whole: Matrix = np.eye(3)
    for axis, number in zip(axes, values.tolist(), strict=True):
        turn = _turn(np.eye(3)[axis], number * factor)
        whole = whole @ turn if is_intrinsic else turn @ whole
    return whole


def _written(representation: str, whole: Matrix) -> list[float]:
    if representation == 'matrix':
        return [*whole.ravel().tolist()]
    if representation == 'rot6d_rows':
        return [*whole[0].tolist(), *whole[1].tolist()]
    if representation == 'rot6d_columns':
        return [*whole[:, 0].tolist(), *whole[:, 1].tolist()]
    if representation == 'rotvec':
        axis, angle = _axis_and_angle(whole)
        if angle > math.pi - _NEAR:
            raise NotJudged('a rotation vector of half a turn')
        return [*(axis * angle).tolist()]
    if representation.startswith('quaternion'):
        axis, angle = _axis_and_angle(whole)
        numbers = dict(zip('xyz', (axis * math.sin(angle / 2)).tolist(), strict=True))
        numbers['w'] = math.cos(angle / 2)
        return [numbers[name] for name in representation.removeprefix('quaternion_')]
    return _euler(representation, whole)


def _convention(representation: str) -> tuple[list[int], bool, float]:
    """Return the axes in the order of the turns, whether they turn along, and the unit in rad."""
    axes = representation.removeprefix('euler_')[:3]
    factor = math.pi / 180 if representation.endswith('_deg') else 1.0
    return ['xyz'.index(axis) for axis in axes.lower()], axes.isupper(), factor


def _euler(representation: str, whole: Matrix) -> list[float]:
    """Return the angles, one after the other, each seen from the axes that the others leave."""
    axes, is_intrinsic, factor = _convention(representation)
    a, b, c = axes if is_intrinsic else axes[::-1]
    image = whole[:, c]
    if a != c:
        hand = float(np.linalg.det(np.eye(3)[[a, b, c]]))
        middle = math.asin(max(-1.0, min(1.0, hand * float(image[a]))))
        first = math.atan2(-hand * float(image[b]), float(image[c]))
        apart = math.cos(middle)
    else:
        third = 3 - a - b
        hand = float(np.linalg.det(np.eye(3)[[a, b, third]]))
        middle = math.acos(max(-1.0, min(1.0, float(image[a]))))
        first = math.atan2(float(image[b]), -hand * float(image[third]))
        apart = math.sin(middle)
    rest = (_turn(np.eye(3)[a], first) @ _turn(np.eye(3)[b], middle)).T @ whole
    ahead, side = (c + 1) % 3, (c + 2) % 3
    last = math.atan2(float(rest[side, ahead]), float(rest[ahead, ahead]))
    if apart < _NEAR or max(abs(first), abs(last)) > math.pi - _NEAR:
        raise NotJudged('Euler angles that others may stand for')
    angles = [first, middle, last] if is_intrinsic else [last, middle, first]
    return [angle / factor for angle in angles]


def _turn(axis: Matrix, angle: float) -> Matrix:
    """Return the turn about an axis of length 1, or 0 (Rodrigues)."""
    x, y, z = axis.tolist()
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn: Matrix = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    return turn


def _axis_and_angle(whole: Matrix) -> tuple[Matrix, float]:
    """Return the axis of a turn, of length 1, and its angle from 0 to pi."""
    across = np.array([whole[2, 1] - whole[1, 2], whole[0, 2] - whole[2, 0],
                       whole[1, 0] - whole[0, 1]])  # fmt: skip
    sine = float(np.linalg.norm(across)) / 2
    angle = math.atan2(sine, (float(np.trace(whole)) - 1) / 2)
    if sine > 1e-3:
        return across / (2 * sine), angle
    # Of a small turn, or about half of one, the axis is what the turn leaves as it is.
    values, vectors = np.linalg.eigh((whole + whole.T) / 2)
    axis = vectors[:, values.argmax()]
    if float(axis @ across) < 0:
        axis = -axis
    return (axis if angle > 1 else across / (2 * sine or 1.0)), angle
