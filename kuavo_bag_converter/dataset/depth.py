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
Metric depth as 12-bit codes, as LeRobot >= 0.6 stores it (``quantize_depth`` in depth_utils).

A code is ``rint(4095 * (f(d) - f(depth_min)) / (f(depth_max) - f(depth_min)))`` limited to
0..4095, where ``f(d)`` is ``ln(d + shift)``, or ``d`` without ``use_log``. So 0, the invalid
depth, reads back as ``depth_min``, and anything beyond ``depth_max`` as ``depth_max``.
"""

from __future__ import annotations

import math

from kuavo_bag_converter.dataset.features import DepthCoding
from kuavo_bag_converter.support.errors import UsageError
import numpy as np
from numpy.typing import NDArray

MAX_CODE = 4095
_MILLIMETRES = 1000.0


def code_table(coding: DepthCoding) -> NDArray[np.uint16]:
    """
    Return the code of every depth in millimetres: shape (65536,), values 0..4095.

    The arithmetic is LeRobot's, in float32, so that the codes are the ones it would write.

    :raises UsageError: The range is empty, or ``depth_min + shift`` has no logarithm.
    """
    if coding.depth_min >= coding.depth_max or (
        coding.use_log and coding.depth_min + coding.shift <= 0
    ):
        raise UsageError(
            f'depth coding {coding}: needs depth_min < depth_max and, with use_log, '
            'depth_min + shift > 0 (metres)'
        )
    depth = np.arange(65536, dtype=np.float32)
    low = np.float32(coding.depth_min * _MILLIMETRES)
    high = np.float32(coding.depth_max * _MILLIMETRES)
    if coding.use_log:
        shift = np.float32(coding.shift * _MILLIMETRES)
        log_low = math.log(float(low + shift))
        log_high = math.log(float(high + shift))
        share = (np.log(depth + shift) - log_low) / (log_high - log_low)
    else:
        share = (depth - low) / (high - low)
    codes: NDArray[np.uint16] = np.rint(share * MAX_CODE).clip(0, MAX_CODE).astype(np.uint16)
    return codes


def largest_error(coding: DepthCoding) -> int:
    """Return by how many mm whole millimetres within the range are read back wrong at most."""
    low, high = (round(limit * _MILLIMETRES) for limit in (coding.depth_min, coding.depth_max))
    depth = np.arange(low, high + 1)
    return int(np.abs(depth_of_codes(coding)[code_table(coding)[depth]] - depth).max())


def depth_of_codes(coding: DepthCoding) -> NDArray[np.float64]:
    """Return the depth in millimetres that each code stands for: shape (4096,)."""
    codes = np.arange(MAX_CODE + 1, dtype=np.float64)
    if coding.use_log:
        low = math.log(coding.depth_min + coding.shift)
        high = math.log(coding.depth_max + coding.shift)
        metres = np.exp(low + codes * (high - low) / MAX_CODE) - coding.shift
    else:
        metres = coding.depth_min + codes * (coding.depth_max - coding.depth_min) / MAX_CODE
    return np.rint(np.clip(metres, coding.depth_min, coding.depth_max) * _MILLIMETRES)
