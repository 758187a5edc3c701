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
JPEGs with chroma sampled as asked, which OpenCV writes from 4.7 on only.

The baseline process of ITU-T T.81, with codes of one length in place of Huffman's.
"""

import struct

import cv2
import numpy as np

STEP = 2
"""Every coefficient is quantized by it."""
DC_SYMBOLS = bytes(range(12))
AC_SYMBOLS = bytes([0x00, 0xF0, *(run << 4 | size for run in range(16) for size in range(1, 11))])
DC_CODES = [f'{n:04b}' for n in range(len(DC_SYMBOLS))]
AC_CODES = {symbol: f'{n:08b}' for n, symbol in enumerate(AC_SYMBOLS)}
ZIGZAG = sorted(
    range(64),
    key=lambda n: (sum(divmod(n, 8)), n // 8 if sum(divmod(n, 8)) % 2 else n % 8),
)


def sampled_jpeg(pixels, across, down):
    """BGR pixels, with one chroma sample for so many of them across and down."""
    height, width = pixels.shape[:2]
    padded = cv2.copyMakeBorder(
        pixels, 0, -height % (8 * down), 0, -width % (8 * across), cv2.BORDER_REPLICATE
    )
    luma, red, blue = cv2.split(cv2.cvtColor(padded, cv2.COLOR_BGR2YCrCb))
    size = padded.shape[1] // across, padded.shape[0] // down
    luma = coefficients(luma, across, down)
    chroma = [
        coefficients(cv2.resize(plane, size, interpolation=cv2.INTER_AREA))
        for plane in (blue, red)
    ]
    blocks = np.concatenate([luma, *chroma], axis=1).reshape(-1, 64)
    text = ''.join(code_of(block) for block in blocks.tolist())
    text += '1' * (-len(text) % 8)
    data = int(text, 2).to_bytes(len(text) // 8, 'big').replace(b'\xff', b'\xff\0')
    components = bytes([1, across << 4 | down, 0, 2, 0x11, 0, 3, 0x11, 0])
    return b''.join([
        b'\xff\xd8',
        segment(0xDB, bytes([0]) + bytes([STEP] * 64)),
        segment(0xC0, struct.pack('>BHHB', 8, height, width, 3) + components),
        segment(0xC4, bytes([0x00, *lengths(4, DC_SYMBOLS)]) + DC_SYMBOLS),
        segment(0xC4, bytes([0x10, *lengths(8, AC_SYMBOLS)]) + AC_SYMBOLS),
        segment(0xDA, bytes([3, 1, 0, 2, 0, 3, 0, 0, 63, 0])),
        data,
        b'\xff\xd9',
    ])  # fmt: skip


def segment(marker, body):
    return struct.pack('>BBH', 0xFF, marker, len(body) + 2) + body


def lengths(bits, symbols):
    """How many codes there are of 1 to 16 bits."""
    return [len(symbols) if length == bits else 0 for length in range(1, 17)]


def coefficients(plane, across=1, down=1):
    """Units, their blocks and coefficients, where the first is told by its difference."""
    n, k = np.mgrid[0:8, 0:8]
    cosines = np.cos((2 * k + 1) * n * np.pi / 16) * np.where(n, 0.5, 8**-0.5)
    rows, columns = (side // 8 for side in plane.shape)
    blocks = (plane - 128.0).reshape(rows, 8, columns, 8).swapaxes(1, 2)
    found = (cosines @ blocks @ cosines.T / STEP).round().astype(int)
    units = found.reshape(rows // down, down, columns // across, across, 64).swapaxes(1, 2)
    units = units.reshape(-1, down * across, 64)[..., ZIGZAG]
    first = units[..., 0].reshape(-1)
    units[..., 0] = np.diff(first, prepend=0).reshape(units.shape[:2])
    return units


def code_of(block):
    size, bits = amplitude(block[0])
    parts = [DC_CODES[size], bits]
    run = 0
    for value in block[1:]:
        if value == 0:
            run += 1
            continue
        parts += [AC_CODES[0xF0]] * (run // 16)
        size, bits = amplitude(value)
        parts += [AC_CODES[run % 16 << 4 | size], bits]
        run = 0
    return ''.join([*parts, AC_CODES[0]] if run else parts)


def amplitude(value):
    """Return the number of bits that tell a value, and these."""
    size = abs(value).bit_length()
    return size, f'{value + (value < 0) * (2**size - 1):0{size}b}' if size else ''
