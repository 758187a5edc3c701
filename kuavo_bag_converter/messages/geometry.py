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
What is done to a picture before it is scaled: cut, turned, brought to proportions.

The order is always this one, whatever the order of the keys in a profile; scaling comes last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
from kuavo_bag_converter.support.errors import BagError
import numpy as np
import numpy.typing as npt

ResizeFit = Literal['', 'scale', 'pad', 'crop']
QuarterTurn = Literal[0, 90, 180, 270]
Size = tuple[int, int]
"""(height, width) in pixels."""

_TURNS = {
    90: cv2.ROTATE_90_CLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}


def size_of(pixels: npt.NDArray[Any]) -> Size:
    """Return (height, width) of an array of pixels."""
    height, width = pixels.shape[:2]
    return height, width


@dataclass(frozen=True)
class Geometry:
    """How the pictures of one camera become frames, apart from their colours."""

    crop: tuple[int, int, int, int] | None = None
    """(x, y, width, height) of the part to take, in pixels of the picture as recorded, upright."""
    rotate: QuarterTurn = 0
    """Degrees, clockwise, after ``crop``."""
    fit: ResizeFit = ''
    """How a picture of other proportions gets those of the size; as ``scale`` if not given."""
    size: Size | None = None
    """Of the frames; what the steps before give, if not given."""
    grid: Size = (1, 1)
    """What height and width must be multiples of; without ``size``, ``fit`` makes them so."""
    least: int = 1
    """Pixels that each side must have, likewise."""

    def turned(self, size: Size) -> Size:
        """
        Return the size of a picture of ``size`` after ``crop`` and ``rotate``.

        :raises BagError: The part to cut out does not lie in the picture.
        """
        if self.crop is not None:
            x, y, width, height = self.crop
            if x + width > size[1] or y + height > size[0]:
                raise BagError(
                    f'crop takes x {x} to {x + width} and y {y} to {y + height}, the pictures are '
                    f'{size[1]}x{size[0]}; set crop to a part of them'
                )
            size = height, width
        return size[::-1] if self.rotate in (90, 270) else size

    def frame_size(self, size: Size) -> Size:
        """
        Return the size of the frames of pictures of ``size``.

        :raises BagError: The part to cut out does not lie in the picture.
        """
        return self.size or self._on_grid(self.turned(size))

    def is_plain(self, size: Size) -> bool:
        """Tell whether a picture of ``size`` is to be scaled at most."""
        if self.crop is not None or self.rotate:
            return False
        return self._proportioned(size) == size

    def applied(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """
        Cut, turn and give proportions; what is added is 0.

        :param pixels: (height, width) or (height, width, channels), of any type.
        :return: A picture that only needs to be scaled to ``size``; maybe a view.
        :raises BagError: The part to cut out does not lie in the picture.
        """
        self.turned(size_of(pixels))
        if self.crop is not None:
            x, y, width, height = self.crop
            pixels = pixels[slice(y, y + height), slice(x, x + width)]
        if self.rotate:
            pixels = cv2.rotate(np.ascontiguousarray(pixels), _TURNS[self.rotate])
        found = size_of(pixels)
        wanted = self._proportioned(found)
        if wanted == found:
            return pixels
        if self.fit == 'crop':
            top, left = ((have - want) // 2 for have, want in zip(found, wanted, strict=True))
            return pixels[slice(top, top + wanted[0]), slice(left, left + wanted[1])]
        padded = np.zeros((*wanted, *pixels.shape[2:]), pixels.dtype)
        top, left = ((want - have) // 2 for have, want in zip(found, wanted, strict=True))
        padded[slice(top, top + found[0]), slice(left, left + found[1])] = pixels
        return padded

    def _proportioned(self, size: Size) -> Size:
        """Return the size that ``fit`` brings a turned picture to before it is scaled."""
        if self.fit not in ('pad', 'crop'):
            return size
        if self.size is None:
            return self._on_grid(size)
        (height, width), (to_height, to_width) = size, self.size
        wider = width * to_height > height * to_width
        if wider == (self.fit == 'pad'):
            # Rows are added, or taken away.
            return max(1, round(width * to_height / to_width)), width
        return height, max(1, round(height * to_width / to_height))

    def _on_grid(self, size: Size) -> Size:
        if not self.fit:
            return size
        sides = zip(size, self.grid, strict=True)
        if self.fit == 'crop':
            height, width = (max(1, side - side % step) for side, step in sides)
        else:
            height, width = (max(-(-side // step) * step, self.least) for side, step in sides)
        return height, width
