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
Depth maps: from message payloads to millimetres, and to the 8 bit pictures of a dataset.

Where there is no depth, a map has 0. That is what cameras write; 65535, and in float images NaN,
infinite and negative values, mean the same and become 0 too. Only the coding ``original``, which
repeats the original converter, takes 65535 for the farthest depth as that does.

compressedDepth is written as compressed_depth_image_transport (image_transport_plugins) does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
import struct
from typing import Any, NamedTuple

import av
import cv2
from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.messages import gray_png, rvl
from kuavo_bag_converter.messages.codecs import PictureCodec
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.geometry import Geometry, Size, size_of
from kuavo_bag_converter.messages.images import (
    check_recorded_size,
    codec_of,
    errors_about,
    is_rvl,
)
from kuavo_bag_converter.messages.picture_headers import (
    DEPTH_HEADER,
    find_png,
    PngHeader,
    read_png,
)
from kuavo_bag_converter.messages.picture_messages import PictureMessages
from kuavo_bag_converter.messages.picture_remarks import PictureRemarks
from kuavo_bag_converter.messages.raw_images import ENCODINGS, pixels_of, PLANAR
from kuavo_bag_converter.messages.video_frames import Gray, gray_frame, gray_pixels
from kuavo_bag_converter.support.errors import BagError, ImageError
from kuavo_bag_converter.support.texts import quoted
import numpy as np
import numpy.typing as npt

Depth = npt.NDArray[np.uint16]

NO_DEPTH = 65535
"""Besides 0."""
_METRE = 1000.0

_ENCODINGS = ('16UC1', 'mono16', '32FC1', '8UC1', 'mono8')
_QUANTIZATION = struct.Struct('<iff')
"""Header of compressedDepth: format, depthParam[2]."""
_SINGLE_PRECISION = 8000
"""Depth up to which single precision tells the greys of 1 mm apart."""


class DepthDecoder:
    """Decodes the depth maps of one camera; to be used by one thread at a time."""

    def __init__(
        self,
        connection: Connection,
        definitions: Definitions,
        size: Size | None = None,
        *,
        geometry: Geometry = Geometry(),  # noqa: B008  # frozen
        recorded_size: Size | None = None,
        unit_mm: float | None = None,
        remarks: PictureRemarks | None = None,
    ) -> None:
        """
        Prepare for a connection.

        :param connection: The camera's: compressedDepth or any 16 bit PNG in a CompressedImage, or
            an Image.
        :param definitions: Where message definitions come from.
        :param size: (height, width) of the maps, taken from the nearest pixels; each its own if
            None.
        :param geometry: What is done to maps before they are scaled.
        :param recorded_size: (height, width) that each must have; any if None.
        :param unit_mm: What a value of 1 is, mm; if None, 1 for whole numbers and 1000 for others.
        :param remarks: Is told what there is to say of the maps.
        :raises BagError: The type holds no picture, or its definition is missing.
        """
        self._topic = connection.label
        self._messages = PictureMessages(connection, definitions)
        self._size = size
        self._geometry = geometry
        self._recorded_size = recorded_size
        self._unit_mm = unit_mm
        self._remarks = remarks or PictureRemarks(self._topic)
        self._png = PictureCodec('png')
        self._dequantization: tuple[tuple[float, float], Depth] | None = None

    def decode(self, data: bytes | memoryview) -> Depth:
        """
        Decode the depth map of a message.

        :return: Millimetres, shape (height, width), 0 where there is no depth; independent of
            ``data``.
        :raises ImageError: The map is damaged.
        :raises BagError: The message does not fit its definition, or the camera's kind of picture
            is no depth.
        """
        depth = self.decode_as_recorded(data)
        if depth.max(initial=0) == NO_DEPTH:
            depth[depth == NO_DEPTH] = 0
        return depth

    def decode_as_recorded(self, data: bytes | memoryview) -> Depth:
        """
        Decode as :meth:`decode` does, but leave 65535 as it is.

        :return: Millimetres, uint16 (height, width).
        :raises ImageError: This map is damaged.
        :raises BagError: The message does not fit its definition, or is no depth.
        """
        message = self._messages.decode(data)
        with errors_about(self._topic):
            part = self._messages.compressed(message)
            if part is not None:
                return self._compressed(part.data, part.description)
            known = message.encoding in ENCODINGS or message.encoding in PLANAR
            if known and message.encoding not in _ENCODINGS:
                raise BagError(f'image encoding {quoted(message.encoding)} is no depth')
            return self._finished(pixels_of(message))

    def _compressed(self, payload: memoryview, description: str) -> Depth:
        encoding = description.partition(';')[0].strip()
        # Simulators leave the header out, and nothing else tells.
        start = rvl.begin_of(payload) if is_rvl(description) else find_png(payload)
        if is_rvl(description):
            stored: npt.NDArray[Any] = rvl.decode(payload[start:])
        elif start >= 0:
            stored = self._decoded_png(payload[start:])
        else:
            # A camera of another kind is refused as such, and not picture by picture.
            codec = codec_of(payload, description)
            raise BagError(f'no depth: {codec} pictures; expected a 16 bit PNG or RVL')
        if encoding == '32FC1':
            if start < DEPTH_HEADER:
                raise ImageError('32FC1 depth without the header that holds its quantization')
            _, first, second = _QUANTIZATION.unpack_from(payload, start - DEPTH_HEADER)
            return self._finished(self._dequantized(stored, (first, second)), 1.0)
        return self._finished(stored)

    def _decoded_png(self, png: memoryview) -> npt.NDArray[Any]:
        """Return the pixels of a grey PNG, uint16 in any byte order, or uint8."""
        header = read_png(png)
        if header.channels != 1 or header.bit_depth not in (8, 16):
            raise BagError(
                f'no depth: a PNG with {header.channels} channels of {header.bit_depth} bits; '
                'expected one of 16 bits'
            )
        return _png_pixels(self._png, png, header)

    def _dequantized(self, stored: npt.NDArray[Any], parameters: tuple[float, float]) -> Depth:
        """Turn quantized inverse depth into millimetres: A / (stored - B) metres, none where 0."""
        if self._dequantization is None or self._dequantization[0] != parameters:
            first, second = parameters
            with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
                metres = first / (np.arange(65536, dtype=np.float32) - np.float32(second))
            metres[0] = 0
            self._dequantization = (parameters, _millimetres(metres, self._unit_mm or _METRE))
        return self._dequantization[1].take(stored, mode='clip')

    def _finished(self, stored: npt.NDArray[Any], unit_mm: float | None = None) -> Depth:
        """Bring a map to the wanted form and size, and to millimetres in memory of its own."""
        is_float = stored.dtype.kind == 'f'
        unit_mm = unit_mm or self._unit_mm or (_METRE if is_float else 1.0)
        check_recorded_size(size_of(stored), self._recorded_size)
        self._remarks.size(*size_of(stored))
        self._remarks.depth(stored, unit_mm)
        # Pixels are only moved, which is the same in every byte order.
        raw = self._geometry.applied(stored.view(stored.dtype.newbyteorder('=')))
        if self._size is not None and size_of(raw) != self._size:
            height, width = self._size
            raw = cv2.resize(raw, (width, height), interpolation=cv2.INTER_NEAREST)
        stored = raw.view(stored.dtype)
        if is_float:
            return _millimetres(stored, unit_mm)
        if unit_mm != 1:
            return _unit_table(unit_mm).take(stored, mode='clip')
        depth = np.empty(stored.shape, dtype=np.uint16)
        np.copyto(depth, stored)
        return depth


def _png_pixels(codec: PictureCodec, png: memoryview, header: PngHeader) -> npt.NDArray[Any]:
    """Decode a grey PNG: uint16 in any byte order, or uint8."""
    quickly = gray_png.decode(png, header)
    if quickly is not None:
        return quickly
    frame = codec.decode(png)
    pixels = gray_pixels(frame)
    if pixels is None:
        raise BagError(f'no depth: a PNG of pixel format {frame.format.name}')
    return pixels


def _millimetres(stored: npt.NDArray[np.float32], unit_mm: float) -> Depth:
    """Round to millimetres, 0 where they are no depth or do not fit."""
    with np.errstate(over='ignore', invalid='ignore'):
        millimetres = np.rint(stored * np.float32(unit_mm))
        valid = (millimetres > 0) & (millimetres < NO_DEPTH)
    return np.where(valid, millimetres, 0).astype(np.uint16)


@lru_cache
def _unit_table(unit_mm: float) -> Depth:
    """Return the millimetres of every count, 0 where they do not fit; no depth stays as it is."""
    millimetres = np.rint(np.arange(NO_DEPTH + 1) * unit_mm)
    table: Depth = np.where(millimetres < NO_DEPTH, millimetres, 0).astype(np.uint16)
    table[NO_DEPTH] = NO_DEPTH
    return table


class DepthPng(NamedTuple):
    """A recorded PNG of 16 bits that is to be stored as it is."""

    data: bytes
    size: Size
    """(height, width)."""
    pixels: Callable[[], Depth]
    """Decodes it, uint16 (height, width) as recorded; raises ImageError if it is damaged."""


class DepthPngCopier:
    """
    Takes the PNGs out of the messages of one depth camera; to be used by one thread at a time.

    Their chunks are checked, the first one is decoded, and of the others those that are asked for.
    """

    def __init__(
        self,
        connection: Connection,
        definitions: Definitions,
        remarks: PictureRemarks | None = None,
    ) -> None:
        """
        Prepare for a connection.

        :param connection: The camera's: compressedDepth, or any PNG of 16 bits.
        :param definitions: Where message definitions come from.
        :param remarks: Is told what there is to say of the maps that are decoded.
        :raises BagError: The type holds no picture, or its definition is missing.
        """
        self._topic = connection.label
        self._messages = PictureMessages(connection, definitions)
        self._remarks = remarks or PictureRemarks(self._topic)
        self._png = PictureCodec('png')
        self._size: Size | None = None

    def decode(self, data: bytes | memoryview) -> DepthPng:
        """
        Return the PNG of a message, undecoded.

        :raises ImageError: It is no PNG, damaged or cut off.
        :raises BagError: The message does not fit its definition, or holds something else than a
            grey PNG of 16 bits of the size of the first.
        """
        with errors_about(self._topic):
            part = self._messages.compressed(self._messages.decode(data))
            found = 'Image messages' if part is None else _no_copy(part.description)
            if part is None or found:
                raise not_copied(found)
            start = find_png(part.data)
            if start < 0:
                raise not_copied(f'{codec_of(part.data, part.description)} pictures')
            png = bytes(part.data[start:])
            header = read_png(memoryview(png))
            if (header.channels, header.bit_depth) != (1, 16):
                raise not_copied(
                    f'a PNG with {header.channels} channels of {header.bit_depth} bits'
                )
            size = (header.height, header.width)
            if self._size is None:
                self._decoded(png, header)
                self._size = size
            if size != self._size:
                raise BagError(
                    f'its pictures change from {self._size[1]}x{self._size[0]} to '
                    f'{header.width}x{header.height}, and cannot be copied; set depth to image16'
                )
        return DepthPng(png, size, partial(self._pixels, png, header))

    def _pixels(self, png: bytes, header: PngHeader) -> Depth:
        with errors_about(self._topic):
            try:
                return self._decoded(png, header)
            except ImageError as error:
                raise ImageError(
                    f'{error}, though its checksums are right; depth: image16 decodes every PNG, '
                    'so that on_bad_image decides'
                ) from None

    def _decoded(self, png: bytes, header: PngHeader) -> Depth:
        stored = _png_pixels(self._png, memoryview(png), header)
        self._remarks.depth(stored, 1.0)
        depth = stored.astype(np.uint16)
        if depth.max(initial=0) == NO_DEPTH:
            self._remarks.note(
                '65535 stands for no depth in its maps and is copied as it is; depth: image16 '
                'would make it 0'
            )
        return depth


def not_copied(found: str) -> BagError:
    """Return the error about pictures that are something else than PNGs to be copied."""
    return BagError(
        f'depth: copy needs PNGs of 16 bits whose 1 is 1 mm, found {found}; set depth to image16'
    )


def _no_copy(description: str) -> str:
    """Return what a ``format`` says that a PNG in millimetres is not; '' if nothing."""
    encoding = description.partition(';')[0].strip()
    if encoding == '32FC1':
        return 'inverse depth (32FC1)'
    return 'RVL' if is_rvl(description) else ''


class GrayDepthDecoder:
    """
    Turns the depth maps of a camera into grey frames, the codings of 8 bit.

    ``original`` is the original converter's: clipped to ``depth_range``, then each frame's own
    least and greatest depth become 0 and 255 (truncated). ``range8`` maps ``depth_range`` itself
    to 0 to 255 (rounded) in every frame; no depth is 0.
    """

    def __init__(
        self,
        decoder: DepthDecoder,
        coding: str,
        depth_range: tuple[int, int],
        pix_fmt: str = 'yuv420p',
    ) -> None:
        """
        Prepare for a camera.

        :param decoder: Of the camera.
        :param coding: ``original`` or ``range8``.
        :param depth_range: [min, max] in mm.
        :param pix_fmt: ``yuv420p`` or ``yuv444p``, either with ``10le``.
        """
        self._decoder = decoder
        self._low, self._high = (min(max(limit, 0), NO_DEPTH) for limit in depth_range)
        self._pix_fmt = pix_fmt
        self._table: Gray | None = None
        if coding == 'range8':
            span = np.clip(np.arange(65536.0), self._low, self._high) - self._low
            self._table = np.rint(span / (self._high - self._low) * 255).astype(np.uint8)
            self._table[NO_DEPTH] = 0

    def decode(self, data: bytes | memoryview) -> av.VideoFrame:
        """
        Decode the depth map of a message into a grey frame, limited range.

        :raises ImageError: The map is damaged.
        :raises BagError: The message does not fit its definition, or holds no depth.
        """
        depth = self._decoder.decode_as_recorded(data)
        if self._table is None:
            return gray_frame(_stretched(depth, self._low, self._high), self._pix_fmt)
        return gray_frame(self._table.take(depth, mode='clip'), self._pix_fmt)


def _stretched(depth: Depth, lower: int, upper: int) -> Gray:
    """
    Return the original's grey: (clipped - least) / (greatest - least + 1e-9) * 255, truncated.

    OpenCV is fast in single precision and rounds. That is exact here: half less makes rounding
    truncation, and before it the values are multiples of 1 / span; those that are whole numbers
    1e-9 takes below themselves, so all are meant to be half a multiple less.
    """
    least, greatest, _, _ = cv2.minMaxLoc(depth)
    low = int(min(max(least, lower), upper))
    high = int(min(max(greatest, lower), upper))
    span = high - low
    if span < 255 or high > _SINGLE_PRECISION:
        table = (np.arange(span + 1) / (span + 1e-9) * 255).astype(np.uint8)
        return table[np.clip(depth, low, high) - low]
    # The least one and the next are both 0, and nothing is negative.
    # The stubs do not know that OpenCV takes numbers too.
    clipped = cv2.max(depth, low + 1)  # type: ignore[call-overload]
    cv2.min(clipped, high, clipped)  # type: ignore[call-overload]
    factor = 255 / span
    gray = np.empty(depth.shape, dtype=np.uint8)
    cv2.convertScaleAbs(clipped, gray, factor, -factor * low - 0.5 - 0.5 / span)
    return gray
