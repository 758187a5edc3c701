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
What is done with the numbers of a part, and whether a dtype holds apart those that are apart.

Pure functions on arrays (rows, elements).
"""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import Any

from kuavo_bag_converter.profiles.model import Part, Source
import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

TURNS = {'angle': 2 * math.pi, 'angle_deg': 360.0}
"""A full turn by ``unit``, before other operations."""
_JUMP = 0.9
"""Share of a full turn that is no movement from one message to the next."""
_SLACK = 1.001
"""How far values of wrapped angles may reach, in full turns."""
EXACT = 2**53
"""Up to here, float64 holds every integer."""
_LARGE = 2.0**17
"""From here on, neighbouring numbers of float32 are 1/64 apart or more."""
_LOST = 0.1
"""Share of a step from one frame to the next that rounding may change."""
_NEAR = 1e-6
"""How far a number may be from a whole one that calculating was to give."""


def turn_of(part: Part) -> float | None:
    """Return what a full turn is after the operations of a part; None if it has no angles."""
    turn = TURNS.get(part.unit)
    if turn is None or part.threshold is not None:
        return None
    if part.value_range is not None:
        turn /= abs(part.value_range[1] - part.value_range[0])
    return turn * abs(part.scale or 1.0)


def shorter_way(difference: Matrix, turn: float) -> Matrix:
    """Return differences of angles the shorter way, from -turn / 2 to turn / 2."""
    return difference - turn * np.round(difference / turn)


def interpolate(
    strategy: str, first: Matrix, second: Matrix, weight: Matrix, turn: float | None = None
) -> Matrix:
    """
    Interpolate between rows of two arrays of shape (rows, n) by weights of shape (rows,).

    ``linear`` is elementwise, of angles the shorter way; ``slerp`` takes rows as quaternions and
    goes the shorter way (Shoemake, Animating Rotation with Quaternion Curves, 1985). A weight of
    0 gives ``first`` exactly.

    :param turn: A full turn, if the elements are angles. What lies between two that wrap around
        is wrapped as they are: to -turn / 2 ... turn / 2 if one is negative, else to 0 ... turn.
    """
    share = weight[:, None]
    if strategy != 'slerp':
        if turn is None:
            return first + (second - first) * share
        between = first + shorter_way(second - first, turn) * share
        wraps = (np.abs(second - first) > turn / 2) & (share > 0)
        low = np.where(np.minimum(first, second) < 0, -turn / 2, 0.0)
        return np.where(wraps, low + np.mod(between - low, turn), between)
    dot = np.sum(first * second, axis=1, keepdims=True)
    second = np.where(dot < 0, -second, second)
    angle = np.arccos(np.clip(np.abs(dot), 0.0, 1.0))
    sine = np.sin(angle)
    small = sine < 1e-9
    divisor = np.where(small, 1.0, sine)
    turned = (np.sin((1 - share) * angle) * first + np.sin(share * angle) * second) / divisor
    straight = first + (second - first) * share
    return np.where(share == 0, first, np.where(small, straight, turned))


def apply_operations(part: Part, values: Matrix) -> Matrix:
    """Apply the operations of a part to raw values of shape (rows, n)."""
    if part.unit == 'deg2rad':
        values = np.deg2rad(values)
    elif part.unit == 'rad2deg':
        values = np.rad2deg(values)
    if part.value_range is not None:
        low, high = part.value_range
        values = (values - low) / (high - low)
    if part.scale is not None:
        values = values * part.scale
    if part.offset is not None:
        values = values + part.offset
    if part.threshold is not None:
        values = np.where(values > part.threshold, 1.0, 0.0)
    return values


def is_as_recorded(part: Part) -> bool:
    """Tell whether no operation changes the numbers of a part before they are subtracted."""
    changes = (part.value_range, part.scale, part.offset, part.threshold)
    is_same_unit = part.unit not in ('deg2rad', 'rad2deg') and part.rotation is None
    return is_same_unit and changes == (None,) * len(changes)


class WrapDetector:
    """Finds out whether a column that is interpolated linearly holds angles that wrap around."""

    def __init__(self, width: int, unit: str) -> None:
        """Begin; what ``unit`` turns into the other is degrees or radians for certain."""
        units = {'deg2rad': ['angle_deg'], 'rad2deg': ['angle']}.get(unit, [*TURNS])
        self._turns = {one: TURNS[one] for one in units}
        self._low = np.full(width, np.inf)
        self._high = np.full(width, -np.inf)

    def add(self, first: Matrix, second: Matrix) -> dict[str, Mask]:
        """
        Take the values of the messages before and after each frame, all finite.

        :return: Where they jump by a full turn, by the unit of angles that they then have.
        """
        for values in (first, second):
            self._low = np.minimum(self._low, values.min(axis=0, initial=np.inf))
            self._high = np.maximum(self._high, values.max(axis=0, initial=-np.inf))
        jump = np.abs(second - first)
        return {
            unit: (jump >= turn * _JUMP) & (jump <= turn * _SLACK)
            for unit, turn in self._turns.items()
        }

    def wraps(self, element: int, unit: str) -> bool:
        """Tell whether all values of an element lie within one turn, as angles that wrap do."""
        return bool(self._high[element] - self._low[element] <= TURNS[unit] * _SLACK)


def quaternions_of(part: Part, source: Source, strategy: str) -> tuple[tuple[int, ...], ...]:
    """
    Return the elements of each quaternion of a part.

    That is all of a part that ``slerp`` or ``quaternion`` declares one, and fields ``x``, ``y``,
    ``z`` and ``w`` of one parent. Of a rotation they are those that it becomes.
    """
    if part.rotation is not None:
        becomes_quaternion = part.rotation.written.startswith('quaternion')
        return ((0, 1, 2, 3),) if becomes_quaternion else ()
    if strategy == 'slerp' or part.quaternion:
        return (tuple(range(len(part.names))),)
    fields = source.fields
    if source.tf is not None and part.select is not None:
        fields = tuple(fields[place] for place in part.select)
    elif part.select is not None or part.joints or len(fields) != len(part.names):
        return ()
    axes: dict[str, dict[str, int]] = {}
    for element, path in enumerate(fields):
        parent, _, axis = path.rpartition('.')
        axes.setdefault(parent, {})[axis] = element
    return tuple(
        tuple(sorted(of_axis[axis] for axis in 'xyzw'))
        for parent, of_axis in axes.items()
        if parent and of_axis.keys() == set('xyzw')
    )


def one_sign(quaternions: Matrix, before: Matrix | None) -> Matrix:
    """
    Return the sign, 1 or -1, that keeps each quaternion in the half of the one before it.

    :param quaternions: Of consecutive frames, shape (rows, 4).
    :param before: What the frame before them has, shape (4,); None if there is none.
    """
    turned = np.sum(quaternions[1:] * quaternions[:-1], axis=1) < 0
    start = before is not None and float(before @ quaternions[0]) < 0
    signs: Matrix = np.where(np.concatenate([[start], turned]), -1.0, 1.0)
    return np.asarray(np.cumprod(signs), np.float64)


def whole(values: Matrix) -> tuple[npt.NDArray[np.int64], Mask]:
    """Return numbers as int64, and which of them are none: not whole or beyond 2**53."""
    rounded = np.rint(values)
    wrong = ~((np.abs(values - rounded) <= _NEAR) & (np.abs(rounded) <= EXACT))
    return np.where(wrong, 0, rounded).astype(np.int64), wrong


def outside(values: npt.NDArray[Any], dtype: np.dtype[Any]) -> Mask:
    """Tell which numbers are beyond the range of a dtype."""
    if dtype.kind == 'f':
        with np.errstate(over='ignore'):
            return np.asarray(np.isfinite(values) & ~np.isfinite(values.astype(dtype)))
    if dtype.kind == 'b':
        return np.asarray((values != 0) & (values != 1))
    limits = np.iinfo(dtype)
    return np.asarray((values < limits.min) | (values > limits.max))


def rounded_integers(values: Matrix) -> Mask:
    """Tell which numbers are whole ones that float32 changes."""
    large = (np.abs(values) >= 2.0**24) & (values == np.rint(values))
    return np.asarray(large & (values.astype(np.float32) != values))


class StepLoss:
    """
    Finds out whether a column moves in steps that float32 loses.

    Positions on earth and times are large numbers that change by little. A column is lost if,
    where it is larger than 2**17, rounding changes most of its steps from frame to frame by more
    than a tenth. So none is lost for being still, or for noise in small numbers. What may be
    degrees on earth counts from 1 on: there, a millionth is 11 cm.
    """

    def __init__(self, degrees: Sequence[bool]) -> None:
        """Begin; ``degrees`` tells of each element whether it may be a position on earth."""
        self._last: Matrix | None = None
        self._large = np.where(degrees, 1.0, _LARGE)
        self._steps = np.zeros(len(degrees), np.int64)
        self._changed = np.zeros(len(degrees), np.int64)

    def add(self, values: Matrix) -> None:
        """Take the values of the next frames, finite and of shape (rows, n)."""
        if not len(values):
            return
        if self._last is not None:
            values = np.concatenate([self._last, values])
        self._last = values[-1:].copy()
        sizes = np.abs(values)
        if (sizes.max(axis=0) < self._large).all():
            return
        step = np.diff(values, axis=0)
        stored = np.diff(values.astype(np.float32).astype(np.float64), axis=0)
        counts = (np.maximum(sizes[1:], sizes[:-1]) >= self._large) & (step != 0)
        changed = counts & (np.abs(stored - step) > _LOST * np.abs(step))
        self._steps += counts.sum(axis=0)
        self._changed += changed.sum(axis=0)

    def lost(self) -> Mask:
        """Tell which elements are lost so far, shape (n,)."""
        return np.asarray(2 * self._changed > self._steps)
