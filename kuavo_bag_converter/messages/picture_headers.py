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
What the headers of compressed pictures say, checked before anything is allocated or decoded.

Formats: ITU-T T.81 (JPEG), CIPA DC-008 (Exif), W3C PNG third edition, RFC 9649 (WebP).
"""

from __future__ import annotations

import struct
from typing import NamedTuple
import zlib

from kuavo_bag_converter.support.errors import BagError, ImageError

MAX_SIDE = 16384
MAX_PIXELS = 1 << 26
"""Larger pictures are refused."""

JPEG_MAGIC = b'\xff\xd8\xff'
PNG_MAGIC = b'\x89PNG\r\n\x1a\n'
DEPTH_HEADER = 12
"""Bytes that compressedDepth puts before a picture."""

_END_OF_IMAGE = b'\xff\xd9'
_DEFLATE_LIMIT = 1032
"""Bytes that one byte of a deflate stream can become at most."""
_JPEG_LIMIT = 512
"""Pixels that one byte of a JPEG can become: a bit for each block of 64 in a progressive scan."""


class JpegHeader(NamedTuple):
    """Frame header of a JPEG."""

    height: int
    width: int
    components: int
    orientation: int
    """Exif orientation, 1 to 8; 1 is upright."""


class PngHeader(NamedTuple):
    """IHDR of a PNG."""

    height: int
    width: int
    bit_depth: int
    channels: int


def check_size(height: int, width: int) -> None:
    """
    Refuse sizes that no camera has.

    :raises ImageError: A side is 0 or the picture is too large.
    """
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and height * width <= MAX_PIXELS):
        raise ImageError(f'the header claims {width}x{height} pixels')


class JpegReader:
    """Reads the headers of one camera's JPEGs; a header like the one before is read only once."""

    def __init__(self) -> None:
        self._begin = b''
        self._header: JpegHeader | None = None

    def read(self, data: memoryview) -> JpegHeader:
        """
        Read the header of a JPEG and check that the picture is all there.

        :raises ImageError: The header is damaged, or the end of the picture is missing.
        :raises BagError: A kind of JPEG that is not supported.
        """
        header = self._header
        if header is None or bytes(data[: len(self._begin)]) != self._begin:
            header, scan = _jpeg_header(data)
            self._begin, self._header = bytes(data[:scan]), header
        if header.height * header.width > _JPEG_LIMIT * len(data):
            raise ImageError(
                f'a JPEG of {len(data)} bytes cannot hold {header.width}x{header.height} pixels'
            )
        # Some drivers leave bytes after the end marker.
        if data[-2:] != _END_OF_IMAGE and (
            bytes(data[slice(len(self._begin), None)]).rfind(_END_OF_IMAGE) < 0
        ):
            raise ImageError('the JPEG is cut off: its end is missing')
        return header


def _jpeg_header(data: memoryview) -> tuple[JpegHeader, int]:
    """Read everything before the picture; return where that begins, too."""
    frame: tuple[int, int, int] | None = None
    orientation = 1
    position = 2
    try:
        while True:
            prefix, marker, length = struct.unpack_from('>BBH', data, position)
            if prefix == marker == 0xFF:
                position += 1
                continue
            if prefix != 0xFF or length < 2:
                raise ImageError('damaged JPEG header')
            position += 2
            if marker == 0xDA:
                break
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                frame = _jpeg_frame(data, position, marker)
            elif marker == 0xE1 and bytes(data[slice(position + 2, position + 8)]) == b'Exif\0\0':
                segment = data[slice(position + 8, position + length)]
                orientation = _exif_orientation(segment)
            position += length
    except struct.error:
        raise ImageError('the JPEG ends within its header') from None
    if frame is None:
        raise ImageError('damaged JPEG header')
    height, width, components = frame
    check_size(height, width)
    return JpegHeader(height, width, components, orientation), position


def _jpeg_frame(data: memoryview, position: int, marker: int) -> tuple[int, int, int]:
    precision, height, width, components = struct.unpack_from('>BHHB', data, position + 2)
    if marker > 0xC2 or precision != 8:
        raise BagError(
            f'a JPEG of kind SOF{marker - 0xC0} with {precision} bits; only 8 bit baseline, '
            'extended and progressive Huffman JPEGs are supported'
        )
    if components == 4:
        raise BagError('a CMYK JPEG; only grey and colour pictures are supported')
    if components not in (1, 3):
        raise ImageError('damaged JPEG header')
    return height, width, components


def _exif_orientation(tiff: memoryview) -> int:
    """Return the orientation tag of the first IFD, or 1."""
    order = {b'II': '<', b'MM': '>'}.get(bytes(tiff[:2]))
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f'{order}I', tiff, 4)
        (count,) = struct.unpack_from(f'{order}H', tiff, start)
        for entry in range(count):
            tag, kind, _, value = struct.unpack_from(f'{order}HHIH', tiff, start + 2 + 12 * entry)
            if tag == 0x0112 and kind == 3:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def find_png(data: memoryview) -> int:
    """Return where a PNG begins, -1 if there is none; compressedDepth puts 12 bytes before it."""
    for start in (0, DEPTH_HEADER):
        if bytes(data[slice(start, start + len(PNG_MAGIC))]) == PNG_MAGIC:
            return start
    return bytes(data).find(PNG_MAGIC)


def read_png(data: memoryview) -> PngHeader:
    """
    Read the header of a PNG and check the length and checksum of every chunk.

    :raises ImageError: The PNG is damaged or cut off.
    """
    header: PngHeader | None = None
    position = len(PNG_MAGIC)
    kind = b''
    try:
        while kind != b'IEND':
            length, kind = struct.unpack_from('>I4s', data, position)
            body = data[slice(position + 4, position + 8 + length)]
            (checksum,) = struct.unpack_from('>I', data, position + 8 + length)
            if zlib.crc32(body) != checksum:
                raise ImageError('damaged PNG: a checksum does not match')
            if header is None:
                header = _png_header(body, len(data))
            position += 12 + length
    except struct.error:
        raise ImageError('the PNG is cut off') from None
    if header is None:
        raise ImageError('damaged PNG header')
    return header


def _png_header(chunk: memoryview, size: int) -> PngHeader:
    kind, width, height, bit_depth, color_type = struct.unpack_from('>4sIIBB', chunk)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(color_type)
    if kind != b'IHDR' or channels is None or bit_depth not in (1, 2, 4, 8, 16):
        raise ImageError('damaged PNG header')
    check_size(height, width)
    if height * (1 + (width * channels * bit_depth + 7) // 8) > _DEFLATE_LIMIT * size:
        raise ImageError(f'a PNG of {size} bytes cannot hold {width}x{height} pixels')
    return PngHeader(height, width, bit_depth, channels)


def read_webp(data: memoryview) -> tuple[int, int]:
    """
    Return height and width of a WebP whose payload is all there.

    :raises ImageError: The WebP is damaged or cut off.
    """
    try:
        size, kind = struct.unpack_from('<4xI4x4s', data)
        if size + 8 > len(data):
            raise ImageError('the WebP is cut off')
        if kind == b'VP8 ':
            width, height = (side & 0x3FFF for side in struct.unpack_from('<HH', data, 26))
        elif kind == b'VP8L':
            (bits,) = struct.unpack_from('<I', data, 21)
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif kind == b'VP8X':
            width = int.from_bytes(data[24:27], 'little') + 1
            height = int.from_bytes(data[27:30], 'little') + 1
        else:
            raise ImageError('damaged WebP header')
    except struct.error:
        raise ImageError('the WebP is cut off') from None
    check_size(height, width)
    return height, width
