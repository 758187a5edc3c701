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
Joints of the robots, and the straight lines in time that their values follow.

Joint order and ranges: ``docs`` of LejuRobotics/kuavo-ros-opensource and the clamp ranges of the
original converter.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from kuavo_bag_converter.sample.truth import Ramp, Vector
import numpy as np
import numpy.typing as npt

ARM_NAMES = [f'arm_joint_{number}' for number in range(1, 15)]

_LEFT_ARM = (
    (-3.1416, 1.5708),
    (-0.3491, 2.0944),
    (-1.5708, 1.5708),
    (-2.618, 0.0),
    (-1.5708, 1.5708),
    (-1.309, 0.6981),
    (-0.6981, 0.6981),
)
_MIRRORED_JOINTS = (1, 5)
_LOWER_BODY = (-0.5, 0.5)
SG100_JOINTS = 11
LINKER_JOINTS = 10
_HEAD = ((-0.5236, 0.5236), (-0.4363, 0.4363))
_LOWER_BODY_JOINTS = {'4pro': 12, '5w': 4, '5': 13}


class Band(NamedTuple):
    """The part of a range that values of one topic sweep, as shares of it."""

    low: float
    high: float


STATE = Band(0.15, 0.4)
JOINT_COMMAND = Band(0.45, 0.6)
ARM_COMMAND = Band(0.65, 0.9)
SYNCED_ARM_COMMAND = Band(0.6, 0.85)


class SampleTimeline(NamedTuple):
    """The time that a recording spans, in ns."""

    start: int
    duration: int

    def ramp(self, first: npt.ArrayLike, last: npt.ArrayLike) -> Ramp:
        """Return the line from ``first`` at the start to ``last`` at the end, both (d,)."""
        return Ramp(*self, np.asarray(first, np.float64), np.asarray(last, np.float64))

    def sweep(self, ranges: Vector, band: Band) -> Ramp:
        """
        Sweep a band of ``ranges``, shape (d, 2); every second element falls.

        Each element is shifted a little against the others, so that no two are equal.
        """
        low, span = ranges[:, 0], ranges[:, 1] - ranges[:, 0]
        elements = np.arange(len(ranges))
        shift = 0.05 * elements / len(ranges)
        rising = elements % 2 == 0
        first = np.where(rising, band.low, band.high) + shift
        last = np.where(rising, band.high, band.low) + shift
        return self.ramp(low + span * first, low + span * last)


def arm_ranges() -> Vector:
    """Return the ranges of the left, then the right arm in rad, shape (14, 2)."""
    right = [
        (-high, -low) if joint in _MIRRORED_JOINTS else (low, high)
        for joint, (low, high) in enumerate(_LEFT_ARM)
    ]
    return np.array([*_LEFT_ARM, *right])


def joint_ranges(platform: str) -> Vector:
    """Return the ranges of all joints in rad: lower body, arms, head; shape (joints, 2)."""
    return np.concatenate([lower_body_ranges(platform), arm_ranges(), head_ranges()])


def lower_body_ranges(platform: str) -> Vector:
    """Return the ranges of the joints of the lower body in rad, shape (joints, 2)."""
    return np.array([_LOWER_BODY] * _LOWER_BODY_JOINTS[platform])


def head_ranges() -> Vector:
    """Return the ranges of yaw and pitch of the head in rad, shape (2, 2)."""
    return np.array(_HEAD)


def degrees(ranges: Vector) -> Vector:
    """Convert ranges from rad."""
    return ranges * (180 / math.pi)
