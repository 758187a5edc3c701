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
The pixels of ``sensor_msgs/Image`` messages.

Encodings: sensor_msgs/image_encodings.hpp; conversions as cv_bridge makes them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
from kuavo_bag_converter.messages.picture_headers import check_size
from kuavo_bag_converter.support.errors import BagError, ImageError
from kuavo_bag_converter.support.texts import quoted, shown
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]

MONO16_SCALE = 255 / 65535


class Encoding(NamedTuple):
    """How a pixel is stored, and what becomes of it."""

    dtype: str
    channels: int
    pix_fmt: str = ''
    """Of the colour picture; '' for depth encodings, which are no colour."""
    conversion: int | None = None
    """OpenCV's code to get there."""


ENCODINGS = {
    'rgb8': Encoding('u1', 3, 'rgb24'),
    'bgr8': Encoding('u1', 3, 'bgr24'),
    'rgba8': Encoding('u1', 4, 'rgba'),
    'bgra8': Encoding('u1', 4, 'bgra'),
    'mono8': Encoding('u1', 1, 'gray'),
    '8UC1': Encoding('u1', 1, 'gray'),
    'mono16': Encoding('u2', 1, 'gray'),
    '16UC1': Encoding('u2', 1),
    '32FC1': Encoding('f4', 1),
    'yuv422': Encoding('u1', 2, 'bgr24', cv2.COLOR_YUV2BGR_UYVY),
    'uyvy': Encoding('u1', 2, 'bgr24', cv2.COLOR_YUV2BGR_UYVY),
    'yuv422_yuy2': Encoding('u1', 2, 'bgr24', cv2.COLOR_YUV2BGR_YUY2),
    'yuyv': Encoding('u1', 2, 'bgr24', cv2.COLOR_YUV2BGR_YUY2),
    # OpenCV names a pattern by the second row, second and third column.
    'bayer_rggb8': Encoding('u1', 1, 'bgr24', cv2.COLOR_BayerBG2BGR),
    'bayer_bggr8': Encoding('u1', 1, 'bgr24', cv2.COLOR_BayerRG2BGR),
    'bayer_gbrg8': Encoding('u1', 1, 'bgr24', cv2.COLOR_BayerGR2BGR),
    'bayer_grbg8': Encoding('u1', 1, 'bgr24', cv2.COLOR_BayerGB2BGR),
    'bayer_rggb16': Encoding('u2', 1, 'bgr24', cv2.COLOR_BayerBG2BGR),
    'bayer_bggr16': Encoding('u2', 1, 'bgr24', cv2.COLOR_BayerRG2BGR),
    'bayer_gbrg16': Encoding('u2', 1, 'bgr24', cv2.COLOR_BayerGR2BGR),
    'bayer_grbg16': Encoding('u2', 1, 'bgr24', cv2.COLOR_BayerGB2BGR),
}


def encoding_of(message: Any) -> Encoding:
    """
    Return the encoding of an image.

    :raises BagError: It is not supported.
    """
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise BagError(
            f'image encoding {quoted(message.encoding)} is not supported; supported are '
            f'{", ".join(ENCODINGS)}'
        )
    return encoding


def pixels_of(message: Any) -> Pixels:
    """
    View the pixels of an image without its row padding, in the machine's byte order.

    :return: Shape (height, width) or (height, width, channels); a view of the payload, or a copy
        if the byte order is another or the numbers are not aligned.
    :raises BagError: The encoding is not supported.
    :raises ImageError: Size, step and data do not fit each other.
    """
    encoding = encoding_of(message)
    height, width, step = message.height, message.width, message.step
    check_size(height, width)
    itemsize = int(encoding.dtype[1:])
    row = width * encoding.channels * itemsize
    needed = (height - 1) * step + row
    if step < row or len(message.data) < needed:
        raise ImageError(
            f'{width}x{height} pixels of {shown(message.encoding)} need rows of {row} bytes; '
            f'step is {step}, data has {len(message.data)} bytes'
        )
    shape: tuple[int, ...] = (height, width)
    strides: tuple[int, ...] = (step, encoding.channels * itemsize)
    if encoding.channels > 1:
        shape, strides = (*shape, encoding.channels), (*strides, itemsize)
    order = '>' if message.is_bigendian else '<'
    pixels: Pixels = np.ndarray(shape, f'{order}{encoding.dtype}', message.data, strides=strides)
    # OpenCV takes no rows that begin within a number.
    plain = pixels.dtype.isnative and pixels.flags.aligned
    return pixels if plain else pixels.astype(encoding.dtype)


def color_of(message: Any) -> tuple[Pixels, str]:
    """
    Return an image as a picture of libav's pixel format rgb24, bgr24, rgba, bgra or gray.

    :raises BagError: The encoding is not supported, or is no colour.
    :raises ImageError: Size, step and data do not fit each other.
    """
    encoding = encoding_of(message)
    check_color(message, encoding)
    pixels = pixels_of(message)
    if encoding.conversion is not None:
        try:
            pixels = cv2.cvtColor(pixels, encoding.conversion)
        except cv2.error:
            raise _odd_size(message) from None
    if pixels.dtype != np.uint8:
        pixels = cv2.convertScaleAbs(pixels, alpha=MONO16_SCALE)
    return pixels, encoding.pix_fmt


def check_color(message: Any, encoding: Encoding) -> None:
    """
    Refuse depth where colour is wanted, and halves of 4:2:2 pixel pairs.

    :raises BagError: The encoding is no colour.
    :raises ImageError: The width is odd where pixels come in pairs.
    """
    if not encoding.pix_fmt:
        raise BagError(
            f'image encoding {quoted(message.encoding)} is depth; make it a depth camera'
        )
    if encoding.channels == 2 and message.width % 2:
        raise _odd_size(message)


def _odd_size(message: Any) -> ImageError:
    return ImageError(
        f'{message.width}x{message.height} pixels cannot be {shown(message.encoding)}'
    )
