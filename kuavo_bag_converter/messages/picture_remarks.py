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

"""What is noticed of the pictures of one camera while they are decoded, for the bag's report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]

_GRID = 32
"""Rows and columns of a picture that are looked at, evenly spread."""
_FEW_LEVELS = 32
"""Grey levels below which hardly anything is left of a picture of 16 bits."""
_LEAST_DEPTH = 0.01
"""Share of a map that has depth, if the map is not empty."""
_NEAREST_MM, _FURTHEST_MM = 20.0, 30_000.0
"""Between these lies half of the depths of any plausible map."""
_NO_DEPTH = 65535
_METRE = 1000.0


class PictureRemarks:
    """
    Collects what is said once of a camera's pictures, and not of each.

    To be used by several threads.
    """

    def __init__(
        self,
        topic: str,
        key: str = '',
        depth_range: tuple[int, int] | None = None,
        *,
        tell_any: bool = False,
    ) -> None:
        """
        Begin for a camera.

        :param topic: Of its messages.
        :param key: Of its feature.
        :param depth_range: [min, max] in mm to which its depth is clipped; None if it is not.
        :param tell_any: Whether any depth outside of the range is said, which nobody chose.
        """
        self._topic = topic
        self._key = f' ({key})' if key else ''
        self._notes: dict[str, None] = {}
        self.stream: Counter[str] = Counter()
        """What is counted of a video stream: messages and pictures that are not one to one."""
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._levels = np.zeros(256, dtype=np.bool_)
        self._lowest, self._highest = np.inf, -np.inf
        self._range: tuple[float, float] | None = None
        self._values = self._outside = 0
        self._maps: Counter[str] = Counter()
        self._medians: list[float] = []
        self._clipped = 0
        """Maps of which nearly nothing lies in the range."""
        self._unit_mm = 0.0
        self._depth_range = depth_range
        self._tell_any = tell_any
        self._depths = self._depths_outside = 0
        self._lock = threading.Lock()

    def note(self, text: str) -> None:
        """Say something once, however often it is noticed."""
        self._notes[text] = None

    def size(self, height: int, width: int) -> None:
        """Count the size of a picture."""
        with self._lock:
            self._sizes[height, width] += 1

    def values(self, pixels: Pixels, value_range: tuple[float, float] | None) -> None:
        """
        Look at the values of a picture of more than 8 bits.

        :param pixels: (height, width) or (height, width, channels), as recorded.
        :param value_range: What becomes 0 and 255; 0 and 65535 if None.
        """
        sample = _sample(pixels).astype(np.float64).ravel()
        sample = sample[np.isfinite(sample)]
        if not len(sample):
            return
        low, high = value_range or (0.0, 65535.0)
        share = (sample - low) / (high - low)
        outside = int(((share < 0) | (share > 1)).sum())
        with self._lock:
            self._levels[np.rint(share.clip(0, 1) * 255).astype(np.intp)] = True
            self._range = value_range
            self._values += len(sample)
            self._outside += outside
            self._lowest = min(self._lowest, float(sample.min()))
            self._highest = max(self._highest, float(sample.max()))

    def depth(self, stored: Pixels, unit_mm: float) -> None:
        """
        Look at a depth map.

        :param stored: (height, width), as recorded.
        :param unit_mm: What 1 is, mm.
        """
        sample = _sample(stored).astype(np.float64)
        valid = np.isfinite(sample) & (sample > 0)
        if stored.dtype.kind != 'f':
            valid &= sample != _NO_DEPTH
        self._unit_mm = unit_mm
        if valid.mean() < _LEAST_DEPTH:
            with self._lock:
                self._maps['empty'] += 1
            return
        depths = sample[valid] * unit_mm
        median = float(np.median(depths))
        plausible = _NEAREST_MM <= median <= _FURTHEST_MM
        clipped, outside = False, 0
        if self._depth_range is not None:
            low, high = self._depth_range
            clipped = bool(((depths > low) & (depths < high)).mean() < _LEAST_DEPTH)
            outside = int(((depths < low) | (depths > high)).sum())
        with self._lock:
            self._depths += len(depths)
            self._depths_outside += outside
            self._clipped += clipped
            self._medians.append(median)
            self._maps['plausible' if plausible else 'implausible'] += 1

    def lines(self) -> Iterator[str]:
        """Yield what there is to say, each in a line."""
        texts = (sorted(self._notes), self._on_stream(), self._on_sizes(), self._on_values())
        for text in (*chain(*texts), *self._on_depth()):
            yield f'{self._topic}: {text}{self._key}'

    def _on_stream(self) -> Iterator[str]:
        for what, count in sorted(self.stream.items()):
            if count:
                yield f'{what}: {count}'

    def _on_sizes(self) -> Iterator[str]:
        if len(self._sizes) > 1:
            sizes = (f'{count} of {w}x{h}' for (h, w), count in sorted(self._sizes.items()))
            yield f'its pictures change in size: {", ".join(sizes)}; all are brought to one size'

    def _on_values(self) -> Iterator[str]:
        left = int(self._levels.sum())
        if not self._values:
            return
        if self._range is not None:
            outside = 100 * self._outside / self._values
            low, high = self._range
            yield (
                f'range [{low:g}, {high:g}] leaves {left} of 256 levels, and '
                f'{outside:.3g} % of the values lie outside'
            )
        elif left < _FEW_LEVELS <= self._highest - self._lowest:
            yield (
                f'of its values from {self._lowest:g} to {self._highest:g} of 65535 only '
                f'{left} of 256 levels are left; set range at the camera, as '
                f'[{self._lowest:g}, {self._highest:g}]'
            )

    def _on_depth(self) -> Iterator[str]:
        maps = sum(self._maps.values())
        if 2 * self._maps['empty'] > maps:
            yield f'{self._maps["empty"]} of {maps} depth maps hold no depth'
        if not self._medians:
            return
        beyond = (
            f'with half of the depths beyond {float(np.median(self._medians)) / _METRE:.4g} m '
            f'where 1 is {unit_text(self._unit_mm)}'
        )
        if 2 * self._maps['implausible'] > maps:
            yield (
                f'{self._maps["implausible"]} of {maps} depth maps are implausible, {beyond}; '
                'set unit at the camera if it is another'
            )
        elif 2 * self._clipped > maps and self._depth_range is not None:
            low, high = self._depth_range
            yield (
                f'{self._clipped} of {maps} depth maps lie outside of [{low}, {high}] mm, to '
                f'which they are clipped, {beyond}; set unit if it is another, or depth_range'
            )
        elif self._tell_any and self._depths_outside and self._depth_range is not None:
            low, high = self._depth_range
            yield (
                f'{100 * self._depths_outside / self._depths:.2g} % of the depths looked at lie '
                f'outside of [{low}, {high}] mm, to which they are clipped; image16 keeps them'
            )


def unit_text(unit_mm: float) -> str:
    """Return the name of a unit of length."""
    return {_METRE: '1 m', 10.0: '1 cm', 1.0: '1 mm'}.get(unit_mm, f'{unit_mm:g} mm')


def _sample(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    return pixels[:: -(-height // _GRID), :: -(-width // _GRID)]
