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
Quick decoding of the PNGs that depth cameras write: one channel of 16 bits.

It needs an extension that is built where there is a compiler. What it does not do, pictures that
are not plain or not whole, FFmpeg decodes or refuses.
"""

from __future__ import annotations

from importlib import import_module
import struct
from types import ModuleType
from typing import Any
import zlib

from kuavo_bag_converter.messages.picture_headers import PNG_MAGIC, PngHeader
import numpy as np
import numpy.typing as npt


def _found(name: str) -> Any:
    """Return a module, None where it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        return None


rows: ModuleType | None = _found('kuavo_bag_converter.messages.png_rows')
"""Undoes the filters of rows."""
inflater: ModuleType = _found('isal.isal_zlib') or zlib
"""isal takes a third of the time."""
_PLAIN = struct.pack('>BBBBB', 16, 0, 0, 0, 0)
"""Bits, colours, compression, filters and interlacing of an IHDR."""


def decode(png: memoryview, header: PngHeader) -> npt.NDArray[np.uint16] | None:
    """
    Decode a PNG.

    :param png: All of it; the chunks are whole, see :func:`.read_png`.
    :param header: What that has found.
    :return: The pixels, (height, width); None if FFmpeg is to be asked.
    """
    if rows is None or bytes(png[24:29]) != _PLAIN:
        return None
    parts = []
    position, kind = len(PNG_MAGIC), b''
    while kind != b'IEND':
        length, kind = struct.unpack_from('>I4s', png, position)
        if kind == b'IDAT':
            parts.append(png[slice(position + 8, position + 8 + length)])
        elif kind not in (b'IHDR', b'IEND'):
            return None
        position += 12 + length
    height, width = header.height, header.width
    size = height * (1 + 2 * width)
    inflate = inflater.decompressobj()
    try:
        filtered = inflate.decompress(b''.join(parts), size + 1)
    except inflater.error:
        return None
    if len(filtered) != size or not inflate.eof:
        return None
    pixels = np.empty((height, width), np.uint16)
    return pixels if rows.unfilter(filtered, pixels, height, width) else None
