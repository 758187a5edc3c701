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
RVL, the run-length and variable-length coding of depth that compressedDepth can use.

Format: A. D. Wilson, Fast Lossless Depth Image Compression, ISS 2017, as written by
compressed_depth_image_transport: int32 columns, int32 rows, then the code; all of it behind the
header that compressedDepth has, unless the publisher leaves that out.
"""

from __future__ import annotations

import struct

from kuavo_bag_converter.messages.picture_headers import check_size, DEPTH_HEADER, MAX_SIDE
from kuavo_bag_converter.support.errors import ImageError
import numpy as np
import numpy.typing as npt

_HEADER = struct.Struct('<II')
_SHIFTS = np.arange(28, -1, -4, dtype=np.uint32)
_MAX_DIGITS = 11
"""Three-bit digits of a 32 bit number."""


def begin_of(payload: memoryview) -> int:
    """
    Return where in a compressedDepth payload RVL begins: behind the header, if there is one.

    The header begins with 0 (``INV_DEPTH``), which is no width, so the two cannot be mistaken.
    """
    if len(payload) < _HEADER.size:
        return DEPTH_HEADER
    sides = _HEADER.unpack_from(payload)
    return 0 if all(0 < side <= MAX_SIDE for side in sides) else DEPTH_HEADER


def read_size(data: memoryview) -> tuple[int, int]:
    """
    Return height and width.

    :raises ImageError: The payload is too short or the size is none.
    """
    if len(data) < _HEADER.size:
        raise ImageError('the RVL picture is cut off')
    width, height = _HEADER.unpack_from(data)
    check_size(height, width)
    return height, width


def decode(data: memoryview) -> npt.NDArray[np.uint16]:
    """
    Decode a depth map.

    :return: Shape (height, width).
    :raises ImageError: The code is damaged or cut off.
    """
    height, width = read_size(data)
    numbers = _numbers(data[slice(_HEADER.size, None)])
    sources, targets = _runs(numbers, height * width)
    zigzag = numbers[sources]
    steps = (zigzag >> 1) ^ -(zigzag & 1)
    depth = np.zeros(height * width, dtype=np.uint16)
    depth[targets] = np.cumsum(steps)
    return depth.reshape(height, width)


def _numbers(code: memoryview) -> npt.NDArray[np.int64]:
    """Split the code into its numbers: digits of three bits, lowest first, and a bit 'goes on'."""
    words = np.frombuffer(code, '<u4', count=len(code) // 4)
    nibbles: npt.NDArray[np.int64] = (words[:, None] >> _SHIFTS & 15).astype(np.int64).reshape(-1)
    ends = np.flatnonzero(nibbles < 8)
    if not len(ends):
        raise ImageError('the RVL picture is cut off')
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _MAX_DIGITS:
        raise ImageError('damaged RVL picture')
    nibbles = nibbles[: ends[-1] + 1]
    digit = np.arange(len(nibbles)) - np.repeat(starts, lengths)
    return np.add.reduceat((nibbles & 7) << (3 * digit), starts)


def _runs(
    numbers: npt.NDArray[np.int64], pixels: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """
    Return where in ``numbers`` the pixels that have a depth are, and which pixels they are.

    The code alternates a count of pixels without depth, a count of pixels with depth, and these.
    """
    first, target, count = [], [], []
    position = pixel = 0
    values = memoryview(numbers)  # type: ignore[arg-type]  # plain ints, unlike numpy's own
    while pixel < pixels:
        if position + 2 > len(values):
            raise ImageError('the RVL picture is cut off')
        pixel += values[position]
        run = values[position + 1]
        position += 2
        first.append(position)
        target.append(pixel)
        count.append(run)
        position += run
        pixel += run
    if pixel > pixels or position > len(values):
        raise ImageError('damaged RVL picture')
    counts = np.array(count)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(first, counts) + within, np.repeat(target, counts) + within
