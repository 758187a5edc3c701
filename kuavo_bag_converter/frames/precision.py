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

"""Whether a dtype of a dataset holds numbers apart that are apart; pure functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

EXACT = 2**53
"""Up to here, float64 holds every integer."""
_LARGE = 2.0**17
"""From here on, neighbouring numbers of float32 are 1/64 apart or more."""
_LOST = 0.1
"""Share of a step from one frame to the next that rounding may change."""
_NEAR = 1e-6
"""How far a number may be from a whole one that calculating was to give."""


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
