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
        int(''.join(f'{nibble:x}' for nibble in nibbles[i : i + 8]), 16)
        for i in range(0, len(nibbles), 8)
    ]
    height, width = depth.shape
    return header + struct.pack('<II', width, height) + struct.pack(f'<{len(words)}I', *words)
