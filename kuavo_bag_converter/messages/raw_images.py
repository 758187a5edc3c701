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

from functools import lru_cache
from typing import Any, NamedTuple

import av
import cv2
from kuavo_bag_converter.messages.picture_headers import check_size
from kuavo_bag_converter.messages.picture_remarks import PictureRemarks
from kuavo_bag_converter.messages.video_frames import plane_pixels
from kuavo_bag_converter.support.errors import BagError, ImageError
from kuavo_bag_converter.support.texts import quoted, shown
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]

MONO16_SCALE = 255 / 65535
_LEAST_MOSAIC = 3
"""Pixels of a side; of smaller ones OpenCV makes black pictures."""


class Encoding(NamedTuple):
    """How a pixel is stored, and what becomes of it."""

    dtype: str
    channels: int
    pix_fmt: str = ''
    """Of the colour picture; '' for depth encodings, which are no colour."""
    conversion: int | None = None
    """OpenCV's code to get there."""
    taken_as: str = ''
    """What an encoding is taken for that does not name its colours."""


ENCODINGS = {
    'rgb8': Encoding('u1', 3, 'rgb24'),
    'bgr8': Encoding('u1', 3, 'bgr24'),
    'rgba8': Encoding('u1', 4, 'rgba'),
    'bgra8': Encoding('u1', 4, 'bgra'),
    'rgb16': Encoding('u2', 3, 'rgb24'),
    'bgr16': Encoding('u2', 3, 'bgr24'),
    'rgba16': Encoding('u2', 4, 'rgba'),
    'bgra16': Encoding('u2', 4, 'bgra'),
    # As OpenCV orders colours, whose pictures cv_bridge names so if it is not told otherwise.
    '8UC3': Encoding('u1', 3, 'bgr24', taken_as='bgr8'),
    '8UC4': Encoding('u1', 4, 'bgra', taken_as='bgra8'),
    '16UC3': Encoding('u2', 3, 'bgr24', taken_as='bgr16'),
    '16UC4': Encoding('u2', 4, 'bgra', taken_as='bgra16'),
    'mono8': Encoding('u1', 1, 'gray'),
    '8UC1': Encoding('u1', 1, 'gray'),
    'mono16': Encoding('u2', 1, 'gray'),
    '16UC1': Encoding('u2', 1),
    '32FC1': Encoding('f4', 1),
    'yuv422': Encoding('u1', 2, 'bgr24', cv2.COLOR_YUV2BGR_UYVY),
    'uyvy': Encoding('u1', 2, 'bgr24', cv2.COLOR_YUV2BGR_UYVY),
    'yuv422_yuy2': Encoding('u1', 2, 'bgr24', cv2.COLOR_YUV2BGR_YUY2),
    'yuyv': Encoding('u1', 2, 'bgr24', cv2.COLOR_YUV2BGR_YUY2),
    'yvyu': Encoding('u1', 2, 'bgr24', cv2.COLOR_YUV2BGR_YVYU),
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


class Planar(NamedTuple):
    """A luma plane with a plane of chroma pairs behind it, BT.601 in limited range."""

    pix_fmt: str
    across: int
    down: int
    """Pixels that share a pair."""
    red_first: bool = False


PLANAR = {
    'nv12': Planar('yuv420p', 2, 2),
    'nv21': Planar('yuv420p', 2, 2, red_first=True),
    'nv16': Planar('yuv422p', 2, 1),
    'nv24': Planar('yuv444p', 1, 1),
}

_UNDECIDED = (
    ('8UC2', 'does not say what its two channels are', 'yuv422 or yuv422_yuy2'),
    ('yuv444', 'does not say in which order its bytes are', 'rgb8, or nv24'),
    ('32F', 'does not say which range its colours have', 'rgb8, or rgb16'),
    ('64F', 'does not say which range its colours have', 'rgb8, or rgb16'),
)
"""Beginnings of encodings that could be read in several ways."""


def encoding_of(message: Any) -> Encoding:
    """
    Return the encoding of an image whose pixels are stored one after the other.

    :raises BagError: It is not supported.
    """
    encoding = ENCODINGS.get(message.encoding)
    if encoding is not None:
        return encoding
    for begin, why, instead in _UNDECIDED:
        if message.encoding.startswith(begin):
            raise BagError(
                f'image encoding {quoted(message.encoding)} {why}; let its driver publish '
                f'{instead}, or record it so'
            )
    raise BagError(
        f'image encoding {quoted(message.encoding)} is not supported; let its driver publish one '
        f'of {", ".join((*ENCODINGS, *PLANAR))}, or record it so'
    )


def shape_of(message: Any) -> tuple[int, int, int]:
    """
    Return height, width and channels of an image, whose size, step and data fit each other.

    :raises BagError: The encoding is not supported.
    :raises ImageError: Size, step and data do not fit each other.
    """
    if message.encoding in PLANAR:
        luma, _ = _planes(message)
        return luma.shape[0], luma.shape[1], 3
    pixels_of(message)
    return message.height, message.width, encoding_of(message).channels


def pixels_of(message: Any) -> Pixels:
    """
    View the pixels of an image without its row padding, in the machine's byte order.

    :return: Shape (height, width) or (height, width, channels); a view of the payload, or a copy
        if the byte order is another or the numbers are not aligned.
    :raises BagError: The encoding is not supported.
    :raises ImageError: Size, step and data do not fit each other.
    """
    encoding = encoding_of(message)
    height, width = message.height, message.width
    check_size(height, width)
    itemsize = int(encoding.dtype[1:])
    row = width * encoding.channels * itemsize
    step = message.step or row
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
    # foxglove.RawImage is always little-endian.
    order = '>' if getattr(message, 'is_bigendian', False) else '<'
    pixels: Pixels = np.ndarray(shape, f'{order}{encoding.dtype}', message.data, strides=strides)
    # OpenCV takes no rows that begin within a number.
    plain = pixels.dtype.isnative and pixels.flags.aligned
    return pixels if plain else pixels.astype(encoding.dtype)


def planar_frame(message: Any) -> av.VideoFrame:
    """
    Return an image of :data:`PLANAR` as a frame of planar YUV, BT.601 in limited range.

    :raises ImageError: Size, step and data do not fit each other.
    """
    planar = PLANAR[message.encoding]
    luma, chroma = _planes(message)
    frame = av.VideoFrame(message.width, len(luma), planar.pix_fmt)
    plane_pixels(frame, 0)[:] = luma
    for index in (0, 1):
        plane_pixels(frame, 1 + index)[:] = chroma[..., index ^ planar.red_first]
    return frame


def _planes(message: Any) -> tuple[Pixels, Pixels]:
    """View luma (height, width) and chroma pairs (height / down, width / across, 2)."""
    planar = PLANAR[message.encoding]
    height, width = message.height, message.width
    check_size(height, width)
    step = message.step or width
    # In units of a row of luma, all planes are so many times as high.
    rows, share = planar.across * planar.down, planar.across * planar.down + 2
    if len(message.data) == step * height and height * rows % share == 0:
        # Whoever publishes OpenCV's matrix counts the rows of all planes.
        height = height * rows // share
    if height % planar.down or width % planar.across:
        raise _odd_size(message)
    pairs = (height // planar.down, width // planar.across)
    row, pair_step = 2 * pairs[1], 2 * step // planar.across
    needed = step * height + pair_step * (pairs[0] - 1) + row
    if step < width or len(message.data) < needed:
        raise ImageError(
            f'{width}x{height} pixels of {shown(message.encoding)} need {needed} bytes and rows '
            f'of {width}; step is {step}, data has {len(message.data)} bytes'
        )
    luma: Pixels = np.ndarray((height, width), 'u1', message.data, strides=(step, 1))
    chroma: Pixels = np.ndarray(
        (*pairs, 2), 'u1', message.data, step * height, strides=(pair_step, 2, 1)
    )
    return luma, chroma


def color_of(
    message: Any,
    value_range: tuple[float, float] | None = None,
    remarks: PictureRemarks | None = None,
) -> tuple[Pixels, str]:
    """
    Return an image as a picture of libav's pixel format rgb24, bgr24, rgba, bgra or gray.

    :param message: Not of :data:`PLANAR`.
    :param value_range: See :func:`colored`.
    :param remarks: Is told of values, and of colours that are not named.
    :raises BagError: The encoding is not supported, or is no colour.
    :raises ImageError: Size, step and data do not fit each other.
    """
    encoding = encoding_of(message)
    check_color(message, encoding, value_range)
    pixels = pixels_of(message)
    if remarks is not None:
        if encoding.taken_as:
            remarks.note(
                f'encoding {message.encoding} does not name its colours, taken as '
                f'{encoding.taken_as} as OpenCV orders them'
            )
        if encoding.dtype != 'u1':
            remarks.values(pixels, value_range)
    return colored(pixels, encoding, value_range), encoding.pix_fmt or 'gray'


def colored(pixels: Pixels, encoding: Encoding, value_range: tuple[float, float] | None) -> Pixels:
    """
    Make a picture of 8 bits, of a mosaic one in colour.

    :param pixels: As :func:`pixels_of` gives them.
    :param encoding: Theirs.
    :param value_range: What becomes 0 and 255; all values of 16 bits if None.
    :raises BagError: A range is given and the pictures are not grey, or have 8 bits.
    :raises ImageError: A mosaic has no pixel with neighbours on all sides.
    """
    if value_range is not None:
        if encoding.channels != 1 or pixels.dtype == np.uint8:
            bits = 8 * pixels.dtype.itemsize
            raise BagError(
                f'range is for pictures of one channel with more than 8 bits, found '
                f'{encoding.channels} of {bits}; leave range out'
            )
        pixels = _levels(pixels, value_range)
    if encoding.conversion is not None:
        if encoding.channels == 1 and min(pixels.shape) < _LEAST_MOSAIC:
            raise ImageError(
                f'a mosaic of {pixels.shape[1]}x{pixels.shape[0]} pixels is too small for colours'
            )
        pixels = cv2.cvtColor(pixels, encoding.conversion)
    if pixels.dtype != np.uint8:
        pixels = cv2.convertScaleAbs(pixels, alpha=MONO16_SCALE)
    return pixels


def _levels(pixels: Pixels, value_range: tuple[float, float]) -> Pixels:
    low, high = value_range
    if pixels.dtype.kind != 'f':
        return _level_table(low, high)[pixels]
    with np.errstate(invalid='ignore', over='ignore'):
        share = (pixels - np.float32(low)) / np.float32(high - low)
    levels: Pixels = np.rint(np.nan_to_num(share, nan=0.0).clip(0, 1) * 255).astype(np.uint8)
    return levels


@lru_cache
def _level_table(low: float, high: float) -> Pixels:
    share = (np.arange(65536) - low) / (high - low)
    levels: Pixels = np.rint(share.clip(0, 1) * 255).astype(np.uint8)
    return levels


def mosaic_of(description: str) -> str:
    """
    Return the encoding of the mosaic that a compressed grey picture is, '' if it is none.

    Publishers of image_transport compress a mosaic as it is, and subscribers restore its encoding,
    which is the beginning of ``format``; since Humble they make JPEGs of its grey first, and say
    so (``bayer_rggb8; jpeg compressed mono8``).
    """
    encoding, _, compressed = description.partition(';')
    encoding = encoding.strip()
    known = encoding.startswith('bayer_') and encoding in ENCODINGS
    return encoding if known and 'mono' not in compressed else ''


def check_color(
    message: Any, encoding: Encoding, value_range: tuple[float, float] | None = None
) -> None:
    """
    Refuse depth where colour is wanted, and halves of 4:2:2 pixel pairs.

    :raises BagError: The encoding is no colour.
    :raises ImageError: The width is odd where pixels come in pairs.
    """
    if not encoding.pix_fmt and value_range is None:
        raise BagError(
            f'image encoding {quoted(message.encoding)} is depth; make it a depth camera, or set '
            'range at the camera if it is none (thermal)'
        )
    if encoding.channels == 2 and message.width % 2:
        raise _odd_size(message)


def _odd_size(message: Any) -> ImageError:
    return ImageError(
        f'{message.width}x{message.height} pixels cannot be {shown(message.encoding)}'
    )
