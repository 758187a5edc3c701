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
Pictures decoded by OpenCV, numpy and libavcodec alone, and made small: only the scene is left.

The converter takes JPEGs apart into planes, scales and encodes them; here they become RGB, and
then some 64x48 pixels, as those of the dataset do. Codings and sizes then hardly matter; colours,
scenes and their times do.
"""

from __future__ import annotations

from collections.abc import Mapping
import re
import struct
from typing import Any, cast, NamedTuple

import av
from av.error import FFmpegError
import av.logging
import cv2
from kuavo_bag_converter.profiles.model import CameraFeature
from kuavo_bag_converter.replay.plain_recording import NotJudged
import numpy as np
from numpy.typing import NDArray

Reduced = NDArray[np.float32]
"""RGB levels, shape (height, width, 3) of at most 48x64."""
_SMALL = (48, 64)
_DIFFERENT = 1.0
"""Levels in the mean by which two pictures differ that can be told apart in spite of coding."""
_PNG = b'\x89PNG\r\n\x1a\n'
_DEPTH_HEADER = 12
_FARTHEST = 65535
_FORMATS = {
    'rgb8': ('u1', 3), 'bgr8': ('u1', 3), 'rgba8': ('u1', 4), 'bgra8': ('u1', 4),
    'mono8': ('u1', 1), '8UC1': ('u1', 1), 'mono16': ('u2', 1), '16UC1': ('u2', 1),
    '32FC1': ('f4', 1), '8UC3': ('u1', 3), '8UC4': ('u1', 4), 'rgb16': ('u2', 3),
    '16UC4': ('u2', 4),
    'bgr16': ('u2', 3), 'rgba16': ('u2', 4), 'bgra16': ('u2', 4), '16UC3': ('u2', 3),
}  # fmt: skip
_PAIRS = {'yuv422': 'UYVY', 'uyvy': 'UYVY', 'yuv422_yuy2': 'YUY2', 'yuyv': 'YUY2', 'yvyu': 'YVYU'}
_STREAMS = {'h264': 'h264', 'avc': 'h264', 'h265': 'hevc', 'hevc': 'hevc'}


class PlainPicture(NamedTuple):
    """A picture of a message."""

    reduced: Reduced
    empty: bool = False
    """Whether it is depth, and there is none anywhere."""
    far: bool = False
    """Whether it is depth and most of it is beyond what a camera sees."""
    levels: int = 0
    """How many of 256 levels are left of the many that a colour camera has; 0 if not reduced."""


class Unreadable(Exception):  # noqa: N818  # on_bad_image says what becomes of it
    """A picture that is damaged."""


def reduced_rgb(rgb: NDArray[Any], size: tuple[int, ...]) -> Reduced:
    """Make RGB or grey levels that are to be of a size (height, width) small, by averaging."""
    if rgb.ndim == 2:
        rgb = np.repeat(rgb[:, :, None], 3, axis=2)
    height, width = (min(a, b) for a, b in zip(size, _SMALL, strict=True))
    small = cv2.resize(rgb.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def distance(first: Reduced, second: Reduced) -> float:
    """Return by how many levels two pictures differ in the mean."""
    return float(np.abs(first - second).mean())


def scene_distance(first: Reduced, second: Reduced) -> float:
    """Return by how many levels pictures differ in the mean of areas, where no noise is left."""
    areas = [cv2.resize(one, (8, 6), interpolation=cv2.INTER_AREA) for one in (first, second)]
    return float(np.abs(areas[0] - areas[1]).mean())


def rather_like(shown: Reduced, own: Reduced, others: Mapping[int, Reduced]) -> int | None:
    """Return to which other one, that differs from its own, a picture is most of the way."""
    rest = _centred(shown - own)
    for number, other in others.items():
        change = _centred(other - own)
        if float(np.abs(change).mean()) < _DIFFERENT:
            continue
        if float((rest * change).sum()) > 0.7 * float((change**2).sum()):
            return number
    return None


def _centred(picture: Reduced) -> Reduced:
    return np.asarray(picture - picture.mean(axis=(0, 1)), np.float32)


class PlainDecoder:
    """
    Decodes the messages of a camera, fed in the order in which they were stored.

    :param camera: What becomes of its pictures.
    :param size: (height, width) of its frames.
    """

    def __init__(self, camera: CameraFeature, size: tuple[int, int]) -> None:
        self._camera = camera
        self._size = size
        self._stream: av.VideoCodecContext | None = None
        self._fed = 0
        self._loss = ''
        self.losses: list[str] = []
        """What libavcodec said of what wanted pictures of a stream were made of."""

    @property
    def is_stream(self) -> bool:
        """Whether pictures need those before them."""
        return self._stream is not None

    def feed(self, message: Any, *, wanted: bool) -> PlainPicture | None:
        """
        Decode the next message; None if nothing is wanted of it.

        :raises Unreadable: The picture is damaged.
        :raises NotJudged: It is of a kind that is not read here.
        """
        said = str(getattr(message, 'format', getattr(message, 'encoding', '')))
        data = bytes(message.data)
        still = hasattr(message, 'format')
        name = _stream_of(said, data, 'h264' if still else '')
        if name:
            return self._of_stream(name, data, wanted=wanted)
        if not wanted:
            return None
        if not still and not hasattr(message, 'step'):
            raise NotJudged('packets of another stream than H.264 and H.265')
        return self._picture(_still(said, data) if still else _raw(message))

    def _of_stream(self, name: str, data: bytes, *, wanted: bool) -> PlainPicture | None:
        if self._stream is None:
            self._stream = cast('av.VideoCodecContext', av.CodecContext.create(name, 'r'))
            self._stream.thread_count = 1
            self._stream.flags |= 1 << 19  # AV_CODEC_FLAG_LOW_DELAY
        if _continues(name, data):
            raise NotJudged('pictures of a stream in several messages')
        packet = av.Packet(data)
        self._fed += 1
        packet.pts = self._fed
        av.logging.set_level(av.logging.DEBUG)  # a gap in the numbers of pictures is no more
        try:
            with av.logging.Capture() as said:
                frames = self._stream.decode(packet)
        except FFmpegError as error:
            raise Unreadable(str(error)) from None
        finally:
            av.logging.set_level(None)
        own = [frame for frame in frames if frame.pts == self._fed]
        if any(frame.key_frame for frame in own):
            self._loss = ''
        for level, _, text in said:
            if text.startswith('Frame num change'):
                raise NotJudged('several pictures of a stream in one message')
            if level <= av.logging.ERROR or text.startswith('Frame num gap'):
                self._loss = self._loss or text.strip()
        if not own:
            raise Unreadable('a message without a picture')
        if wanted and self._loss:
            self.losses.append(self._loss)
            raise Unreadable(self._loss)
        return self._picture(own[-1].to_ndarray(format='rgb24')) if wanted else None

    def _picture(self, pixels: NDArray[Any]) -> PlainPicture:
        camera = self._camera
        if camera.depth:
            return self._depth(pixels)
        levels = 0
        if pixels.dtype != np.uint8:
            if camera.value_range is None and pixels.dtype.kind == 'f':
                raise NotJudged('floating-point pictures without a range')
            low, high = camera.value_range or (0, 65535)
            values = pixels.astype(np.float32)
            pixels = ((values - low) / (high - low)).clip(0, 1) * 255
            if len(np.unique(values)) > 64:
                levels = len(np.unique(pixels.astype(np.uint8)))
        return PlainPicture(reduced_rgb(_shaped(pixels, camera), self._size), levels=levels)

    def _depth(self, pixels: NDArray[Any]) -> PlainPicture:
        if pixels.ndim != 2:
            raise NotJudged('depth in several channels')
        height, width = self._size
        pixels = _shaped(pixels, self._camera)
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_NEAREST)
        millimetres = _millimetres(pixels, self._camera.unit_mm)
        valid = (millimetres > 0) & (millimetres < _FARTHEST)
        far = bool(valid.any() and np.median(millimetres[valid]) > 30_000)
        return PlainPicture(
            reduced_rgb(_coded(millimetres, self._camera), self._size), not valid.any(), far
        )


def _shaped(pixels: NDArray[Any], camera: CameraFeature) -> NDArray[Any]:
    """Cut and turn a picture, and give it the proportions of the frames."""
    if camera.crop is not None:
        x, y, width, height = camera.crop.x, camera.crop.y, camera.crop.width, camera.crop.height
        pixels = pixels[slice(y, y + height), slice(x, x + width)]
    pixels = np.ascontiguousarray(np.rot90(pixels, -camera.rotate // 90))
    if camera.size is None or camera.fit not in ('pad', 'crop'):
        return pixels
    height, width = pixels.shape[:2]
    wide = round(height * camera.size[1] / camera.size[0])
    high = round(width * camera.size[0] / camera.size[1])
    if (wide > width) == (camera.fit == 'pad'):
        high = height
    else:
        wide = width
    x, y = abs(wide - width) // 2, abs(high - height) // 2
    if camera.fit == 'crop':
        return pixels[slice(y, y + high), slice(x, x + wide)]
    framed = np.zeros((high, wide, *pixels.shape[2:]), pixels.dtype)
    framed[slice(y, y + height), slice(x, x + width)] = pixels
    return framed


def _millimetres(pixels: NDArray[Any], unit_mm: float | None) -> NDArray[np.float64]:
    """Return depth in mm, 0 where there is none; 65535 in whole numbers is left as it is."""
    if pixels.dtype.kind != 'f':
        depth = pixels.astype(np.float64)
        if unit_mm is None:
            return depth
        return np.where(depth < _FARTHEST, _within(np.rint(depth * unit_mm)), depth)
    known = np.isfinite(pixels) & (pixels > 0)
    metres = np.where(known, pixels, 0).astype(np.float64)
    return _within(np.rint(metres * (1000 if unit_mm is None else unit_mm)))


def _within(depth: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(depth < _FARTHEST, depth, 0)


def _coded(depth: NDArray[np.float64], camera: CameraFeature) -> NDArray[np.float64]:
    """Return what a frame shows of depth, 0 to 255."""
    low, high = camera.depth_range
    if camera.channels == 1:
        return _metric_levels(_within(depth))
    if camera.depth == 'range8':
        return np.asarray(np.rint((_within(depth).clip(low, high) - low) / (high - low) * 255))
    clipped = depth.clip(low, high)
    least = clipped.min()
    return np.asarray(np.floor((clipped - least) / (clipped.max() - least + 1e-9) * 255))


def _metric_levels(depth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return LeRobot's logarithmic codes of depth from 0.01 to 10 m, as a share of 255."""
    logs = np.log(np.clip(depth / 1000, 0.01, 10.0) + 3.5)
    return np.asarray((logs - np.log(3.51)) / (np.log(13.5) - np.log(3.51)) * 255)


def stored_picture(frame: Any, *, metric: bool) -> Reduced:
    """Reduce a frame of a video, a JPEG of one whose pictures were copied, RGB, or depth in mm."""
    if isinstance(frame, np.ndarray):
        pixels = _metric_levels(_within(frame)) if metric else frame
    elif isinstance(frame, bytes):
        pixels = _still('jpeg', frame)
    elif metric:
        pixels = frame.to_ndarray().astype(np.float32) / 4095 * 255
    else:
        pixels = frame.to_ndarray(format='rgb24')
    return reduced_rgb(pixels, pixels.shape[:2])


def _stream_of(said: str, data: bytes, unsaid: str) -> str:
    begins = data.startswith((b'\0\0\1', b'\0\0\0\1'))
    named = next((codec for word, codec in _STREAMS.items() if word in said.lower()), unsaid)
    return named if begins else ''


def _continues(name: str, data: bytes) -> bool:
    """Tell whether the first slice of a message is not the first of its picture."""
    for unit in re.finditer(rb'\x00\x00\x01(...)', data, re.DOTALL):
        head, second, third = unit[1]
        if name == 'h264' and head & 31 in (1, 5):
            return second < 128
        if name == 'hevc' and head >> 1 < 32:
            return third < 128
    return False


def _still(said: str, data: bytes) -> NDArray[Any]:
    """Decode a JPEG, PNG or WebP: RGB, or grey depth."""
    encoding = said.partition(';')[0].strip()
    if 'compressedDepth' in said:
        return _compressed_depth(said, data)
    if encoding.startswith('bayer_'):
        mosaic = _opened(data, cv2.IMREAD_UNCHANGED)
        if mosaic.ndim == 2:
            return _without_mosaic(mosaic, encoding)
    grey = encoding in ('16UC1', 'mono16') or data.startswith(_PNG)
    if grey:
        pixels = _opened(data, cv2.IMREAD_UNCHANGED)
        if pixels.ndim == 2:
            return pixels
    return _opened(data, cv2.IMREAD_COLOR)[:, :, ::-1]


def _opened(data: bytes, how: int) -> NDArray[Any]:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), how) if data else None
    if pixels is None:
        raise Unreadable('OpenCV cannot decode it')
    return pixels


def _compressed_depth(said: str, data: bytes) -> NDArray[Any]:
    start = data.find(_PNG)
    if start < 0:
        raise NotJudged('RVL')
    stored = _opened(data[start:], cv2.IMREAD_UNCHANGED)
    if not said.startswith('32FC1'):
        return stored
    if start < _DEPTH_HEADER:
        raise Unreadable('no header')
    first, second = struct.unpack_from('<ff', data, start - 8)
    with np.errstate(divide='ignore', invalid='ignore'):
        return np.where(stored > 0, first / (stored.astype(np.float32) - second), 0)


def _raw(message: Any) -> NDArray[Any]:
    """Return the pixels of an Image: RGB, or one channel."""
    encoding, height, width = message.encoding, message.height, message.width
    data = np.frombuffer(bytes(message.data), np.uint8)
    if encoding in ('nv12', 'nv21'):
        step = message.step or width
        planes = data[: step * (height * 3 // 2)].reshape(-1, step)[:, :width]
        code = cv2.COLOR_YUV2RGB_NV12 if encoding == 'nv12' else cv2.COLOR_YUV2RGB_NV21
        return cv2.cvtColor(np.ascontiguousarray(planes), code)
    bayer = encoding.startswith('bayer_')
    kind, channels = ('u1', 2) if encoding in _PAIRS else _FORMATS.get(encoding, ('', 0))
    if bayer:
        kind, channels = ('u2' if encoding.endswith('16') else 'u1'), 1
    if not channels:
        raise NotJudged(f'pictures of the encoding {encoding}')
    item = int(kind[1:])
    row = width * channels * item
    step = message.step or row
    if step < row or len(data) < step * (height - 1) + row or not height * width:
        raise Unreadable('too short')
    rows = np.zeros((height, step), np.uint8)
    rows.reshape(-1)[: min(len(data), rows.size)] = data[: rows.size]
    order = '>' if getattr(message, 'is_bigendian', False) else '<'
    pixels = np.ascontiguousarray(rows[:, :row]).view(f'{order}{kind}').astype(kind)
    if bayer:
        return _without_mosaic(pixels, encoding)
    if channels == 1:
        return pixels
    pixels = pixels.reshape(height, width, channels)
    if encoding in _PAIRS:
        return cv2.cvtColor(pixels, getattr(cv2, f'COLOR_YUV2RGB_{_PAIRS[encoding]}'))
    blue_first = encoding.startswith(('bgr', '8UC', '16UC'))
    return pixels[:, :, 2::-1] if blue_first else pixels[:, :, :3]


def _without_mosaic(mosaic: NDArray[Any], encoding: str) -> NDArray[Any]:
    """Make one pixel of each cell of four, which ``bayer_rggb8`` names in the order of reading."""
    height, width = (side // 2 * 2 for side in mosaic.shape)
    levels = mosaic[:height, :width].astype(np.float32)
    cells = [levels[y::2, x::2] for y in (0, 1) for x in (0, 1)]
    letters = encoding.removeprefix('bayer_')[:4]
    planes = [
        np.mean([cell for cell, one in zip(cells, letters, strict=True) if one == color], axis=0)
        for color in 'rgb'
    ]
    return np.asarray(np.stack(planes, axis=2), mosaic.dtype)
