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
Frame numbers written into pictures, and read back after lossy coding and resizing.

The code is a grid of 4 x 10 cells. A cell is 1/20 of the picture's width and 1/15 of its height,
and the grid begins one cell from the top left corner, so that it is found at any size. Row by row
the cells hold 2 reference cells (1, 0), 4 bits of camera, 24 bits of number, 8 bits of checksum
and 2 reference cells (0, 1). A margin of medium brightness parts the cells: where flat areas
change as a whole, SVT-AV1 (4.1, presets 11 and up) takes them for unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
import itertools
from typing import Any
import zlib

import numpy as np
import numpy.typing as npt

CAMERAS = ('head_cam_h', 'wrist_cam_l', 'wrist_cam_r', 'depth_h', 'depth_l', 'depth_r')
"""Cameras that a code can name, under the names of their dataset features."""

_ROWS, _COLUMNS = 4, 10
_CELLS_ACROSS, _CELLS_DOWN = 20, 15
_PAYLOAD_BITS = 28
_NUMBER_BITS = 24
_MARGIN = 0.15
_CORE = 0.25


def draw_frame_number(
    picture: npt.NDArray[Any], camera: str, number: int, levels: tuple[int, int]
) -> None:
    """
    Write a code into ``picture`` in place.

    :param picture: Shape (height, width) or (height, width, channels).
    :param camera: One of ``CAMERAS``.
    :param number: 0 to 2**24 - 1.
    :param levels: Values of a 0 and of a 1.
    """
    payload = CAMERAS.index(camera) << _NUMBER_BITS | number
    word = 0b10 << 38 | payload << 10 | _checksum(payload) << 2 | 0b01
    down, across = _edges(picture.shape, 0.0)
    picture[slice(down[0], down[-1]), slice(across[0], across[-1])] = sum(levels) // 2
    for cell, area in enumerate(_areas(picture.shape, _MARGIN)):
        picture[area] = levels[word >> (39 - cell) & 1]


def read_frame_number(picture: npt.NDArray[Any]) -> tuple[str, int]:
    """
    Read the camera and the number that ``draw_frame_number`` wrote.

    :param picture: Shape (height, width) or (height, width, channels), of any real dtype;
        brightness may have been scaled, shifted or inverted.
    :raises ValueError: There is no readable code in the picture.
    """
    gray = picture if picture.ndim == 2 else picture.mean(axis=2)
    means = _cell_means(gray)
    ones, zeros = (means[0] + means[39]) / 2, (means[1] + means[38]) / 2
    bits = (means - (ones + zeros) / 2) * (ones - zeros) > 0
    word = int(''.join('1' if bit else '0' for bit in bits), 2)
    payload, checksum = word >> 10 & (1 << _PAYLOAD_BITS) - 1, word >> 2 & 0xFF
    camera, number = divmod(payload, 1 << _NUMBER_BITS)
    if word >> 38 != 0b10 or word & 3 != 0b01 or checksum != _checksum(payload):
        raise ValueError('no frame number in the picture: its checksum is wrong')
    if camera >= len(CAMERAS):
        raise ValueError(f'no frame number in the picture: it names camera {camera}')
    return CAMERAS[camera], number


def _checksum(payload: int) -> int:
    return zlib.crc32(payload.to_bytes(4, 'big')) & 0xFF


def _edges(
    shape: tuple[int, ...], offset: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the pixel rows and columns ``offset`` cells after the cells' edges."""
    down = (np.arange(_ROWS + 1) + 1 + offset) * shape[0] / _CELLS_DOWN
    across = (np.arange(_COLUMNS + 1) + 1 + offset) * shape[1] / _CELLS_ACROSS
    return np.rint(down).astype(np.int64), np.rint(across).astype(np.int64)


def _areas(shape: tuple[int, ...], inset: float) -> Iterator[tuple[slice, slice]]:
    """Yield the pixels of each cell that are ``inset`` cells away from its edges."""
    top, left = _edges(shape, inset)
    bottom, right = _edges(shape, 1 - inset)
    for row, column in itertools.product(range(_ROWS), range(_COLUMNS)):
        yield slice(top[row], bottom[row]), slice(left[column], right[column])


def _cell_means(gray: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Average the inner part of each cell, where neighbours do not bleed in."""
    return np.array([gray[area].mean() for area in _areas(gray.shape, _CORE)])
