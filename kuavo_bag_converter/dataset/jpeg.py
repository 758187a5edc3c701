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

"""The size of a JPEG picture, from its header alone (ISO/IEC 10918-1, annex B)."""

from __future__ import annotations

from typing import NamedTuple

_START_OF_IMAGE = b'\xff\xd8'
_NO_FRAME_HEADER = (0xC4, 0xC8, 0xCC)  # Huffman tables, reserved, arithmetic conditioning
_STANDALONE = (0x01, *range(0xD0, 0xD8))


class FrameHeader(NamedTuple):
    """
    What a JPEG picture says of itself.

    :ivar size: (width, height).
    :ivar end: How many bytes of the picture say so.
    """

    size: tuple[int, int]
    end: int


def frame_header(data: bytes | memoryview) -> FrameHeader | None:
    """Return the frame header, or None where ``data`` is not a JPEG picture."""
    if bytes(data[:2]) != _START_OF_IMAGE:
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
        elif 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME_HEADER:
            height, width = (
                int.from_bytes(data[slice(i, i + 2)], 'big') for i in (at + 5, at + 7)
            )
            return FrameHeader((width, height), at + 9)
        else:
            at += 2 + int.from_bytes(data[slice(at + 2, at + 4)], 'big')
    return None
