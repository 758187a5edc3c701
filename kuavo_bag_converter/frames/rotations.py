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
Rotations from one representation to another: pure functions on arrays (rows, elements).

All go through unit quaternions x, y, z, w. The representations are those of
:class:`kuavo_bag_converter.profiles.model.Rotation`.
"""

from __future__ import annotations

from kuavo_bag_converter.frames.operations import Mask, Matrix, shorter_way
from kuavo_bag_converter.profiles.model import Rotation
import numpy as np

_UNIT = 0.01
"""How far the squared length of a quaternion may be from 1; that of tf2."""
_ORTHONORMAL = 0.01
"""How far the product of a matrix and its transpose may be from the identity."""
_INDEPENDENT = 1e-6
"""Sine of the least angle between the two vectors of six numbers."""
_LOCKED = 1e-9
"""How near to where two axes of Euler angles coincide only their sum counts, rad."""
_SMALL = 1e-12
"""Sine of half an angle that is so small that it is half the angle."""
_W_FIRST = [3, 0, 1, 2]
_W_LAST = [1, 2, 3, 0]


def is_no_rotation(representation: str, values: Matrix) -> Mask:
    """Tell which rows, all finite, are no rotation; angles and rotation vectors always are one."""
    if representation.startswith('quaternion'):
        return np.asarray(~(np.abs(np.sum(values * values, axis=1) - 1.0) <= _UNIT))
    if representation == 'matrix':
        matrices = values.reshape(-1, 3, 3)
        product = matrices @ matrices.transpose(0, 2, 1)
        off = np.abs(product - np.eye(3)).max(axis=(1, 2), initial=0)
        return np.asarray((off > _ORTHONORMAL) | (np.linalg.det(matrices) < 0))
    if representation.startswith('rot6d'):
        first, second = values[:, :3], values[:, 3:6]
        area = np.linalg.norm(np.cross(first, second), axis=1)
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        return np.asarray(~(area > _INDEPENDENT * lengths))
    return np.zeros(len(values), dtype=bool)


def as_quaternions(representation: str, values: Matrix) -> Matrix:
    """
    Return unit quaternions x, y, z, w, shape (rows, 4); rows that are not finite become NaN.

    :param representation: Of the values.
    :param values: Shape (rows, elements).
    """
    with np.errstate(invalid='ignore', divide='ignore'):  # of rows that no message serves
        quaternions = _quaternions(representation, values)
        quaternions = quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)
    return np.where(np.isfinite(values).all(axis=1, keepdims=True), quaternions, np.nan)


def _quaternions(representation: str, values: Matrix) -> Matrix:
    if representation == 'quaternion_xyzw':
        return values
    if representation == 'quaternion_wxyz':
        return values[:, _W_LAST]
    if representation == 'rotvec':
        angle = np.linalg.norm(values, axis=1, keepdims=True)
        return np.hstack([values * np.sinc(angle / (2 * np.pi)) / 2, np.cos(angle / 2)])
    euler = Rotation.euler(representation)
    if euler is None:
        return _of_matrices(_matrices(representation, values))
    angles = np.deg2rad(values) if euler.degrees else values
    result: Matrix | None = None
    for axis, angle in zip(euler.axes, angles.T, strict=True):
        turn = np.zeros((len(angle), 4))
        turn[:, axis], turn[:, 3] = np.sin(angle / 2), np.cos(angle / 2)
        if result is None:
            result = turn
        elif euler.intrinsic:
            result = multiplied(result, turn)
        else:
            result = multiplied(turn, result)
    assert result is not None, 'three axes'
    return result


def from_quaternions(representation: str, quaternions: Matrix) -> Matrix:
    """Return unit quaternions x, y, z, w, shape (rows, 4), in another representation."""
    if representation == 'quaternion_xyzw':
        return quaternions
    if representation == 'quaternion_wxyz':
        return quaternions[:, _W_FIRST]
    if representation == 'rotvec':
        shorter = np.where(quaternions[:, 3:] < 0, -quaternions, quaternions)
        sine = np.linalg.norm(shorter[:, :3], axis=1, keepdims=True)
        angle = 2 * np.arctan2(sine, shorter[:, 3:])
        small = sine < _SMALL
        return shorter[:, :3] * np.where(small, 2.0, angle / np.where(small, 1.0, sine))
    if representation in ('matrix', 'rot6d_rows', 'rot6d_columns'):
        matrices = _matrices_of(quaternions)
        if representation == 'rot6d_columns':
            matrices = matrices.transpose(0, 2, 1)
        return matrices.reshape(-1, 9)[:, : len(Rotation.elements_of(representation))]
    return _euler_angles(representation, quaternions)


def multiplied(first: Matrix, second: Matrix) -> Matrix:
    """Return the products of quaternions x, y, z, w, shape (rows, 4)."""
    v1, w1, v2, w2 = first[:, :3], first[:, 3:], second[:, :3], second[:, 3:]
    vector = w1 * v2 + w2 * v1 + np.cross(v1, v2)
    return np.hstack([vector, w1 * w2 - np.sum(v1 * v2, axis=1, keepdims=True)])


def _matrices_of(quaternions: Matrix) -> Matrix:
    x, y, z, w = quaternions.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrices: Matrix = np.array(rows).transpose(2, 0, 1)
    return matrices


def _matrices(representation: str, values: Matrix) -> Matrix:
    """Return what the first two rows, or columns, tell of a matrix, made orthonormal."""
    first, second = values[:, :3], values[:, 3:6]
    first = first / np.linalg.norm(first, axis=1, keepdims=True)
    second = second - np.sum(first * second, axis=1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=1, keepdims=True)
    matrices = np.stack([first, second, np.cross(first, second)], axis=1)
    return matrices.transpose(0, 2, 1) if representation == 'rot6d_columns' else matrices


def _of_matrices(matrices: Matrix) -> Matrix:
    """Return the quaternions of matrices, of any length, by their largest element (Shepperd)."""
    diagonal = np.diagonal(matrices, axis1=1, axis2=2)
    trace = diagonal.sum(axis=1)
    largest = np.argmax(np.hstack([diagonal, trace[:, None]]), axis=1)
    candidates = np.empty((4, len(matrices), 4))
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        across = matrices[:, k, j] - matrices[:, j, k]
        candidates[i, :, i] = 1 + 2 * diagonal[:, i] - trace
        candidates[i, :, j] = matrices[:, j, i] + matrices[:, i, j]
        candidates[i, :, k] = matrices[:, k, i] + matrices[:, i, k]
        candidates[i, :, 3] = candidates[3, :, i] = across
    candidates[3, :, 3] = 1 + trace
    quaternions: Matrix = candidates[largest, np.arange(len(matrices))]
    return quaternions


def _euler_angles(representation: str, quaternions: Matrix) -> Matrix:
    """
    Return Euler angles; where two axes coincide, the last angle is 0.

    Bernardes and Viollet, Quaternion to Euler angles conversion, 2022.
    """
    euler = Rotation.euler(representation)
    assert euler is not None, representation
    # Turns about axes of the body are the turns about fixed axes in the other order.
    i, j, k = euler.axes[::-1] if euler.intrinsic else euler.axes
    is_proper = i == k
    third = 3 - i - j
    handed = (i - j) * (j - third) * (third - i) / 2
    x, y, z, w = (quaternions[:, place] for place in (i, j, third, 3))
    a, b, c, d = w, x, y, z * handed
    if not is_proper:
        a, b, c, d = a - c, b + d, c + a, d - b
    middle = 2 * np.arctan2(np.hypot(c, d), np.hypot(a, b))
    half_sum, half_difference = np.arctan2(b, a), np.arctan2(d, c)
    last_is_zero = 1 if euler.intrinsic else -1
    half_difference = np.where(middle <= _LOCKED, last_is_zero * half_sum, half_difference)
    half_sum = np.where(middle >= np.pi - _LOCKED, last_is_zero * half_difference, half_sum)
    begin, end = half_sum - half_difference, half_sum + half_difference
    if not is_proper:
        middle, end = middle - np.pi / 2, end * handed
    angles = shorter_way(np.stack([begin, middle, end], axis=1), 2 * np.pi)
    if euler.intrinsic:
        angles = angles[:, ::-1]
    return np.rad2deg(angles) if euler.degrees else angles
