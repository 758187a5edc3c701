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

"""Depth maps as compressedDepth messages hold them, behind the header of the transport."""

from __future__ import annotations

import struct

import cv2


def png(depth, header=bytes(12)):
    """Encode as compressedDepth does."""
    return header + cv2.imencode('.png', depth, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()


def rvl(depth, header=bytes(12)):
    """Encode as in the paper: Wilson, Fast Lossless Depth Image Compression, 2017."""
    nibbles = []

    def put(number):
        while True:
            digit, number = number & 7, number >> 3
            nibbles.append(digit | (8 if number else 0))
            if not number:
                return

    values, previous, index = depth.reshape(-1).tolist(), 0, 0
    while index < len(values):
        for empty in (True, False):
            end = index
            while end < len(values) and (values[end] == 0) == empty:
                end += 1
            put(end - index)
            for value in () if empty else values[index:end]:
                step = value - previous
                put(step << 1 ^ step >> 31)
                previous = value
            index = end
    nibbles += [0] * (-len(nibbles) % 8)
    words = [
        int(''.join(f'{nibble:x}' for nibble in nibbles[slice(i, i + 8)]), 16)
        for i in range(0, len(nibbles), 8)
    ]
    height, width = depth.shape
    return header + struct.pack('<II', width, height) + struct.pack(f'<{len(words)}I', *words)
