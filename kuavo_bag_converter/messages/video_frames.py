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

"""Encoder-ready video frames: planes as arrays, limited range, size and pixel format."""

from __future__ import annotations

from typing import Any

import av
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
import cv2
from kuavo_bag_converter.support.stages import staged
import numpy as np
import numpy.typing as npt

Gray = npt.NDArray[np.uint8]

RGB = 'gbrp'
"""Full range, a plane for each of green, blue and red; see :func:`rgb_pixels`."""
LIMITED_LUMA = (219 / 255, 16.0)
LIMITED_CHROMA = (224 / 255, 128 - 128 * 224 / 255)
"""Factor and offset from full to limited range, 8 bit (ITU-T H.273, equations 20 to 25)."""
_LEVELS_OF_10_BITS = 4
"""In one of 8 bits."""
_ROUNDED_UP = 0.5
"""
Added to the luma of colours of full range before it is rounded: FFmpeg's own way from 4:2:0 to
RGB, which is that of LeRobot's readers, cuts fractions off and shows them 1.2 levels too
dark. So they are off by 0.5 levels there, and by 0.6 where colours are converted exactly.
"""

# Since PyAV 17 a reformatter starts threads of its own if it is not told otherwise.
_ONE_THREAD: dict[str, Any] = {'threads': 1} if int(av.__version__.partition('.')[0]) > 16 else {}
_BT601 = Colorspace.ITU601
_MATRICES = {1: Colorspace.ITU709, 9: 9, 10: 9}
"""By AVColorSpace; everything else is taken as BT.601, as swscale does."""
_FULL = ('yuvj', 'rgb', 'bgr', 'gbr', 'argb', 'gray', 'ya', 'pal')
"""Beginnings of the pixel formats that are always of full range."""


def plane_pixels(frame: av.VideoFrame, index: int) -> npt.NDArray[Any]:
    """Return a plane as a writable array (height, width): uint8, or uint16 of more bits."""
    data = frame.planes[index]
    dtype = np.uint8 if sample_bits(frame) == 8 else '<u2'
    rows = np.frombuffer(memoryview(data), dtype).reshape(data.height, -1)
    return rows[:, : data.width]


def sample_bits(frame: av.VideoFrame) -> int:
    """Return how many bits a sample of luma, grey or a colour has."""
    return frame.format.components[0].bits


def cropped(frame: av.VideoFrame, x: int, y: int, width: int, height: int) -> av.VideoFrame | None:
    """
    Cut a part out of a frame of planar YUV, which costs far less than out of one in RGB.

    :return: A frame of the same form; None if it has another one, or the part begins or ends
        within pixels that share their colour.
    """
    pixel_format = frame.format
    if not pixel_format.name.startswith(('yuv4', 'yuvj4')) or sample_bits(frame) != 8:
        return None
    across, down = (
        8 // side for side in (pixel_format.chroma_width(8), pixel_format.chroma_height(8))
    )
    if (x % across, width % across, y % down, height % down) != (0, 0, 0, 0):
        return None
    part = av.VideoFrame(width, height, pixel_format.name)
    part.color_range, part.colorspace = frame.color_range, frame.colorspace
    for index, (columns, rows) in enumerate(((1, 1), (across, down), (across, down))):
        plane = plane_pixels(frame, index)[slice(y // rows, None), slice(x // columns, None)]
        plane_pixels(part, index)[:] = plane[: height // rows, : width // columns]
    return part


def gray_pixels(frame: av.VideoFrame) -> npt.NDArray[Any] | None:
    """
    View a grey picture as recorded, (height, width).

    :return: uint8, or big-endian uint16; None if it has colours, or fewer bits.
    """
    if frame.format.name == 'gray':
        return plane_pixels(frame, 0)
    if frame.format.name != 'gray16be':
        return None
    data = frame.planes[0]
    rows = np.frombuffer(memoryview(data), '>u2').reshape(data.height, data.line_size // 2)
    return rows[:, : data.width]


def gray_frame(gray: Gray, pix_fmt: str = 'yuv420p') -> av.VideoFrame:
    """Make a frame of limited range YUV, or RGB, from full range grey, shape (height, width)."""
    height, width = gray.shape
    frame = av.VideoFrame(width, height, pix_fmt)
    if pix_fmt == RGB:
        for index in range(3):
            plane_pixels(frame, index)[:] = gray
        return frame
    _scale(gray, plane_pixels(frame, 0), *LIMITED_LUMA)
    for index in (1, 2):
        plane_pixels(frame, index)[:] = 128 * 2 ** (sample_bits(frame) - 8)
    return frame


class FrameFitter:
    """
    Brings the frames of one camera to its size and pixel format.

    They are BT.601 in limited range, or RGB.
    """

    def __init__(self, size: tuple[int, int] | None, pix_fmt: str) -> None:
        """``size`` is (height, width); if None, the frames keep theirs."""
        self._size = size
        self._pix_fmt = pix_fmt
        self._reformatter = VideoReformatter()

    @staged('resize')
    def fit(self, frame: av.VideoFrame, orientation: int = 1) -> av.VideoFrame:
        """
        Return a frame that is ready to encode; scaling averages areas.

        ``orientation`` is the Exif orientation of the picture, which is turned upright.
        """
        height, width = self._size or (frame.height, frame.width)
        if self._size is not None and orientation > 4:
            height, width = width, height
        fitted = self._converted(frame, height, width)
        return fitted if orientation == 1 else _upright(fitted, orientation)

    def _converted(self, frame: av.VideoFrame, height: int, width: int) -> av.VideoFrame:
        if frame.format.name == 'monob':
            # swscale leaves out the range of bilevel pictures.
            frame = frame.reformat(format='gray')
        if self._pix_fmt == RGB:
            if frame.format.name.startswith('yuv'):
                # Where swscale converts to RGB at once it repeats colours in place of mixing them.
                frame = self._reformatted(frame, height, width, 'yuv444p', ColorRange.JPEG)
            return self._reformatted(frame, height, width, RGB, ColorRange.JPEG)
        if frame.format.name == 'gray':
            frame = gray_frame(plane_pixels(frame, 0))
        if _is_full(frame) and sample_bits(frame) == 8:
            return self._made_limited(frame, height, width)
        return self._reformatted(frame, height, width, self._pix_fmt, ColorRange.MPEG)

    def _made_limited(self, frame: av.VideoFrame, height: int, width: int) -> av.VideoFrame:
        pix_fmt = self._pix_fmt
        if frame.format.name.startswith('yuv'):
            layout = pix_fmt.removesuffix('10le')
            full = layout.replace('yuv', 'yuvj')  # which PyAV before 17 takes for full range
            ready = (height, width) == (frame.height, frame.width) and _matrix(frame) is _BT601
            if not ready or frame.format.name not in (layout, full):
                frame = self._reformatted(frame, height, width, full, ColorRange.JPEG)
            scales = (LIMITED_LUMA, LIMITED_CHROMA)
        elif pix_fmt.startswith('yuv420'):
            frame = self._reformatted(frame, height, width, 'yuv420p10le', ColorRange.MPEG)
            scales = ((1 / _LEVELS_OF_10_BITS, 0.0),) * 2  # swscale rounds fewer bits worse
        else:
            return self._reformatted(frame, height, width, pix_fmt, ColorRange.MPEG)
        result = av.VideoFrame(width, height, pix_fmt)
        (factor, offset), chroma = scales
        luma = (factor, offset + _ROUNDED_UP * pix_fmt.startswith('yuv420'))
        for index, scale in enumerate((luma, chroma, chroma)):
            _scale(plane_pixels(frame, index), plane_pixels(result, index), *scale)
        return result

    def _reformatted(
        self, frame: av.VideoFrame, height: int, width: int, pix_fmt: str, color_range: ColorRange
    ) -> av.VideoFrame:
        return self._reformatter.reformat(
            frame,
            width,
            height,
            pix_fmt,
            src_colorspace=_matrix(frame),
            dst_colorspace=_BT601,
            interpolation='AREA',
            src_color_range=ColorRange.JPEG if _is_full(frame) else ColorRange.MPEG,
            dst_color_range=color_range,
            **_ONE_THREAD,
        )


def rgb_pixels(frame: av.VideoFrame) -> Gray:
    """Return a frame of the format :data:`RGB` as an array, uint8 (height, width, 3)."""
    return np.stack([plane_pixels(frame, index) for index in (2, 0, 1)], axis=-1)


def _is_full(frame: av.VideoFrame) -> bool:
    return frame.color_range == ColorRange.JPEG or frame.format.name.startswith(_FULL)


def _matrix(frame: av.VideoFrame) -> Any:
    return _MATRICES.get(frame.colorspace, _BT601)


def _scale(source: Any, target: Any, factor: float, offset: float) -> None:
    """Scale and shift samples, in levels of 8 bits, to as many bits as the target has."""
    if target.dtype == np.uint8:
        cv2.convertScaleAbs(source, target, factor, offset)
    else:
        levels = np.arange(256 if source.dtype == np.uint8 else 1024) * factor + offset
        target[:] = np.rint(levels * _LEVELS_OF_10_BITS).astype(target.dtype)[source]


def _upright(frame: av.VideoFrame, orientation: int) -> av.VideoFrame:
    """Undo an Exif orientation (2 to 8)."""
    width, height = frame.width, frame.height
    if orientation > 4:
        width, height = height, width
    result = av.VideoFrame(width, height, frame.format.name)
    for index in range(3):
        plane_pixels(result, index)[:] = _turned(plane_pixels(frame, index), orientation)
    return result


def _turned(gray: Gray, orientation: int) -> Any:
    if orientation in (2, 4):
        return cv2.flip(gray, 1 if orientation == 2 else 0)
    if orientation == 5:
        return cv2.transpose(gray)
    if orientation == 7:
        return cv2.rotate(cv2.transpose(gray), cv2.ROTATE_180)
    turns = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}
    return cv2.rotate(gray, turns[orientation])
