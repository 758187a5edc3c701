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

"""Which frames a message serves."""

from __future__ import annotations

from bisect import bisect_left

from kuavo_bag_converter.bags.model import Ordinals
import numpy as np
import numpy.typing as npt


class FramesOfMessages:
    """The frames that each message of a track serves, as first or as second of its two."""

    def __init__(self, ordinals: Ordinals, frames: npt.NDArray[np.int64]) -> None:
        """Take the message of each of ``frames``."""
        order = np.argsort(ordinals, kind='stable')
        # Looked up one by one, which bisect does in a sixth of the time that numpy takes.
        self._ordinals = ordinals[order].data
        self._frames = frames[order].data

    def of(self, ordinal: int) -> list[int]:
        """Return the frames that a message serves."""
        low = bisect_left(self._ordinals, ordinal)
        high = bisect_left(self._ordinals, ordinal + 1, low)
        return self._frames[low:high].tolist()
