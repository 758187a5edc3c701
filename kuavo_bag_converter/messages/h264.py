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
What the headers of an H.264 stream say of its order (ITU-T H.264, 7.3 and 7.4.3).

Every picture carries ``frame_num``, which counts the pictures that others may refer to: a gap in
it tells that some are missing, which decoders conceal.
"""

from __future__ import annotations

from typing import NamedTuple

from kuavo_bag_converter.messages.nal_units import Bits

_IDR = 5
_SEI, _SPS, _PPS = 6, 7, 8
_WITH_HEADER = (1, 2, 5)
"""Kinds whose units begin with a slice header."""
_B = 1
"""Slice type."""
_RECOVERY_POINT = 6
_WITH_CHROMA_FORMAT = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})


class Slice(NamedTuple):
    """The beginning of a slice header."""

    is_idr: bool
    is_reference: bool
    first_block: int
    """Address of its first macroblock."""
    frame_num: int
    modulus: int
    """What ``frame_num`` counts up to."""
    field: str
    """``top`` or ``bottom``, '' for a frame."""
    is_bipredictive: bool

    @property
    def begins_group(self) -> bool:
        """Whether nothing behind it refers to a picture before it."""
        return self.is_idr

    @property
    def restarts(self) -> bool:
        """Whether it may follow pictures of another stream."""
        return self.is_idr


class Syntax:
    """Reads the NAL units of a stream, in order."""

    slices = range(1, 6)
    before_picture = frozenset({_SEI, _SPS, _PPS, 9, 15, 16, 17, 18})
    """Kinds that begin the next access unit when the one before has its slices."""

    def __init__(self) -> None:
        self._before: int | None = None
        """frame_num of the reference picture before; None where nothing is known of it."""
        self._sequences: dict[int, tuple[int, bool, bool]] = {}
        """Bits of frame_num, separate colour planes, frames only."""
        self._pictures: dict[int, int] = {}
        """Number of the sequence's parameter set."""
        self.sets: dict[tuple[int, int], bytes] = {}
        """Parameter sets that hold now, by kind and number."""

    @property
    def has_parameters(self) -> bool:
        """Whether the sets that slices need have come."""
        return bool(self._sequences and self._pictures)

    def take(self, kind: int, unit: bytes) -> None:
        """Remember a parameter set; a broken one is left out."""
        try:
            if kind == _SPS:
                number, entry = _sequence(unit)
                self._sequences[number] = entry
                self.sets[kind, number] = unit
            elif kind == _PPS:
                bits = Bits.of_unit(unit, 1)
                number = bits.read_ue()
                self._pictures[number] = bits.read_ue()
                self.sets[kind, number] = unit
        except ValueError:
            pass

    def slice(self, unit: bytes) -> Slice | None:  # noqa: A003
        """Read a slice header; None if it is broken or its parameter sets are missing."""
        kind = unit[0] & 0x1F
        if kind not in _WITH_HEADER:
            return None
        bits = Bits.of_unit(unit, 1, 64)
        try:
            first = bits.read_ue()
            slice_type = bits.read_ue()
            sequence = self._sequences.get(self._pictures.get(bits.read_ue(), -1))
            if sequence is None:
                return None
            frame_num_bits, separate_planes, frames_only = sequence
            bits.read(2 if separate_planes else 0)
            number = bits.read(frame_num_bits)
            field = ''
            if not frames_only and bits.read(1):
                field = 'bottom' if bits.read(1) else 'top'
        except ValueError:
            return None
        is_reference, modulus = bool(unit[0] & 0x60), 1 << frame_num_bits
        is_bipredictive = slice_type % 5 == _B
        return Slice(kind == _IDR, is_reference, first, number, modulus, field, is_bipredictive)

    def begins(self, unit: bytes, header: Slice | None, before: Slice | None) -> bool:
        """
        Tell whether a slice begins a picture; two fields are one picture.

        :param unit: Of the slice.
        :param header: What :meth:`slice` says of it.
        :param before: The first slice of the picture before.
        """
        if header is None or before is None:
            return unit[0] & 0x1F in _WITH_HEADER and unit[1:2] >= b'\x80'
        if (header.frame_num, header.is_idr) != (before.frame_num, before.is_idr):
            return True
        is_second_field = header.field and before.field and header.field != before.field
        return header.first_block == 0 and not is_second_field

    def recovery(self, kind: int, unit: bytes) -> int | None:
        """
        Return after how many frames pictures are exact if decoding begins with a unit.

        :return: 0 for an IDR picture, what a recovery point says, None where it cannot begin.
        """
        if kind == _IDR:
            return 0
        return _recovery_frames(unit) if kind == _SEI else None

    def missing(self, first: Slice | None) -> int:
        """Take the first slice of the next picture; return how many are missing before it."""
        if first is None:
            return 0
        before = self._before
        if first.is_reference:
            self._before = first.frame_num
        if first.is_idr or before is None:
            return 0
        return (first.frame_num - before - 1) % first.modulus

    def reorders(self, first: Slice | None) -> bool:
        """Tell by the first slice of the next picture whether pictures may be shown in turns."""
        return first is not None and first.is_bipredictive

    def forget(self) -> None:
        """Begin anew: the next picture may have any number."""
        self._before = None


def _sequence(unit: bytes) -> tuple[int, tuple[int, bool, bool]]:
    bits = Bits.of_unit(unit, 1)
    profile = bits.read(24) >> 16
    number = bits.read_ue()
    separate_planes = False
    if profile in _WITH_CHROMA_FORMAT:
        chroma_format = bits.read_ue()
        if chroma_format == 3:
            separate_planes = bool(bits.read(1))
        bits.read_ue()
        bits.read_ue()
        bits.read(1)
        if bits.read(1):
            for index in range(12 if chroma_format == 3 else 8):
                if bits.read(1):
                    _skip_scaling_list(bits, 16 if index < 6 else 64)
    frame_num_bits = bits.read_ue() + 4
    order_type = bits.read_ue()
    if order_type == 0:
        bits.read_ue()
    elif order_type == 1:
        bits.read(1)
        bits.read_se()
        bits.read_se()
        for _ in range(min(bits.read_ue(), 255)):
            bits.read_se()
    bits.read_ue()
    bits.read(1)
    bits.read_ue()
    bits.read_ue()
    return number, (min(frame_num_bits, 16), separate_planes, bool(bits.read(1)))


def _skip_scaling_list(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.read_se()) % 256
        last = following or last


def _recovery_frames(unit: bytes) -> int | None:
    bits = Bits.of_unit(unit, 1, 4096)
    try:
        while True:
            kind, size = _sei_number(bits), _sei_number(bits)
            if kind == _RECOVERY_POINT:
                return bits.read_ue()
            bits.read(8 * size)
    except ValueError:
        return None


def _sei_number(bits: Bits) -> int:
    number = 0
    while True:
        byte = bits.read(8)
        number += byte
        if byte != 255:
            return number
