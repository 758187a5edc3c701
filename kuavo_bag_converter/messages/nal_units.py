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

"""NAL units of H.264 and H.265 streams: their framing, and the bits of their headers."""

from __future__ import annotations

from typing import NamedTuple

START_CODE = b'\x00\x00\x00\x01'

_HEADER = {'h264': 1, 'hevc': 2}
"""Bytes of the header of a NAL unit."""
_CONFIGURATION = {'h264': 6, 'hevc': 22}
"""Bytes of avcC and hvcC records before their parameter sets."""


class Framing(NamedTuple):
    """How the NAL units of a payload are told apart."""

    length_bytes: int
    """Of the length before each NAL unit; 0 where start codes part them (Annex B)."""
    units: list[bytes]


def nal_kind(codec: str, unit: bytes) -> int:
    """Return the type of a NAL unit, -1 if it has no valid header."""
    if len(unit) < _HEADER[codec] or unit[0] & 0x80:
        return -1
    return unit[0] & 0x1F if codec == 'h264' else unit[0] >> 1


def split(codec: str, payload: bytes, length_bytes: int) -> Framing | None:
    """
    Part a payload into its NAL units; None if it has no framing that is known.

    Lengths come first, because a length of 256 to 511 looks like a start code; that other bytes
    look like lengths up to the last one hardly happens.

    :param codec: ``h264`` or ``hevc``.
    :param payload: Access units or parts of one, or an avcC or hvcC record.
    :param length_bytes: What a record said of the payloads behind it; 4 without one.
    """
    units = _by_lengths(codec, payload, length_bytes)
    if units is not None:
        return Framing(length_bytes, units)
    if payload.startswith((START_CODE[1:], START_CODE)):
        parts = [part.rstrip(b'\0') for part in payload.split(START_CODE[1:])[1:]]
        units = [part for part in parts if part]
        return Framing(0, units) if units else None
    return _configuration(codec, payload)


def _by_lengths(codec: str, payload: bytes, length_bytes: int) -> list[bytes] | None:
    units = []
    at = 0
    while at < len(payload):
        begin = at + length_bytes
        at = begin + int.from_bytes(payload[at:begin], 'big')
        unit = payload[begin:at] if at <= len(payload) else b''
        if nal_kind(codec, unit) < (codec == 'h264'):
            return None
        units.append(unit)
    return units or None


def _configuration(codec: str, payload: bytes) -> Framing | None:
    """Read an avcC or hvcC record (ISO/IEC 14496-15)."""
    at = _CONFIGURATION[codec]
    if len(payload) <= at or payload[0] != 1:
        return None
    units: list[bytes] = []
    try:
        if codec == 'h264':
            length_bytes = (payload[4] & 3) + 1
            at = _sets(payload, at, payload[5] & 0x1F, units)
            _sets(payload, at + 1, payload[at], units)
        else:
            length_bytes = (payload[21] & 3) + 1
            at += 1
            for _ in range(payload[22]):
                at = _sets(
                    payload, at + 3, int.from_bytes(payload[slice(at + 1, at + 3)], 'big'), units
                )
    except IndexError:
        return None
    if not units or any(nal_kind(codec, unit) < 0 for unit in units):
        return None
    return Framing(length_bytes, units)


def _sets(payload: bytes, at: int, count: int, units: list[bytes]) -> int:
    """Take parameter sets that follow each other; return where the next thing begins."""
    for _ in range(count):
        length = payload[at] << 8 | payload[at + 1]
        units.append(payload[slice(at + 2, at + 2 + length)])
        at += 2 + length
    return at


class Bits:
    """Reads a bit string from its beginning."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, 'big')
        self._left = 8 * len(data)

    @classmethod
    def of_unit(cls, unit: bytes, header: int, limit: int = 1 << 16) -> Bits:
        """
        Read the first bytes of a NAL unit, without those that keep start codes out of it.

        :param unit: The unit.
        :param header: Bytes that are skipped.
        :param limit: Most bytes that are read behind them.
        """
        return cls(unit[slice(header, header + limit)].replace(b'\0\0\3', b'\0\0'))

    def read(self, count: int) -> int:
        """
        Read an unsigned number of so many bits.

        :raises ValueError: There are too few bits.
        """
        self._left -= count
        if self._left < 0:
            raise ValueError('too few bits')
        return self._value >> self._left & ((1 << count) - 1)

    def read_ue(self) -> int:
        """
        Read an unsigned Exp-Golomb number.

        :raises ValueError: There is none.
        """
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > 32:
                raise ValueError('no Exp-Golomb number')
        return (1 << zeros) - 1 + self.read(zeros)

    def read_se(self) -> int:
        """
        Read a signed Exp-Golomb number.

        :raises ValueError: There is none.
        """
        number = self.read_ue()
        return (number + 1) // 2 if number % 2 else -(number // 2)
