"""Frame numbers written into pictures, and read back after lossy coding and resizing.

The code is a grid of 4 x 10 cells. A cell is 1/20 of the picture's width and 1/15 of its height,
and the grid begins one cell from the top left corner, so that it is found at any size. Row by row
the cells hold 2 reference cells (1, 0), 4 bits of camera, 24 bits of number, 8 bits of checksum
and 2 reference cells (0, 1).
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

CAMERAS = ('head_cam_h', 'wrist_cam_l', 'wrist_cam_r', 'depth_h', 'depth_l', 'depth_r')
"""Cameras that a code can name, under the names of their dataset features."""

_ROWS, _COLUMNS = 4, 10
_CELLS_ACROSS, _CELLS_DOWN = 20, 15
_PAYLOAD_BITS = 28
_NUMBER_BITS = 24


def draw_frame_number(
    picture: npt.NDArray[Any], camera: str, number: int, levels: tuple[int, int]
) -> None:
    """Write a code into ``picture`` in place.

    Args:
        picture: Shape (height, width) or (height, width, channels).
        camera: One of ``CAMERAS``.
        number: 0 to 2**24 - 1.
        levels: Values of a 0 and of a 1.

    """
    payload = CAMERAS.index(camera) << _NUMBER_BITS | number
    word = 0b10 << 38 | payload << 10 | _checksum(payload) << 2 | 0b01
    down, across = _edges(picture.shape, 0.0)
    for cell in range(_ROWS * _COLUMNS):
        row, column = divmod(cell, _COLUMNS)
        picture[down[row] : down[row + 1], across[column] : across[column + 1]] = levels[
            word >> (39 - cell) & 1
        ]


def read_frame_number(picture: npt.NDArray[Any]) -> tuple[str, int]:
    """Read the camera and the number that ``draw_frame_number`` wrote.

    Args:
        picture: Shape (height, width) or (height, width, channels), of any real dtype; brightness
            may have been scaled, shifted or inverted.

    Raises:
        ValueError: There is no readable code in the picture.

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


def _cell_means(gray: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Average the inner half of each cell, where neighbours do not bleed in."""
    top, left = _edges(gray.shape, 0.25)
    bottom, right = _edges(gray.shape, 0.75)
    return np.array(
        [
            gray[
                top[row] : max(bottom[row], top[row] + 1),
                left[column] : max(right[column], left[column] + 1),
            ].mean()
            for row in range(_ROWS)
            for column in range(_COLUMNS)
        ]
    )
