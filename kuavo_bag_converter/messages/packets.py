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
What the packets of AV1, VP8, VP9 and Theora streams say of themselves, one picture in each.

Formats: AV1 bitstream (5.5, 5.9), RFC 6386 (VP8), VP9 bitstream (6.2), Theora (6.1, 7.1).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import NamedTuple, Protocol

from kuavo_bag_converter.messages.nal_units import Bits

_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6
_KEY_FRAME, _INTRA_FRAME, _SWITCH_FRAME = 0, 2, 3
_SELECT = 2
"""Of an AV1 sequence: each frame says it for itself."""
_LONG_STEP = 1.5
"""Usual steps between the numbers of packets from which on some are missing."""
_COUNTED = 8
"""Longest step that is taken for a counter's where nothing is usual yet."""
_FEW = 4
"""Steps that do not tell yet what is usual."""
_STEPS = 63
"""That tell what is usual."""


class Packet(NamedTuple):
    """What a packet says of itself."""

    is_picture: bool = True
    is_key: bool = False
    order: int | None = None
    """Of the shown picture in its stream, None if the packet does not say it."""
    modulus: int = 0
    """What ``order`` counts up to; 0 where the stream does not count."""


class Syntax(Protocol):
    """Reads the packets of a stream, in order."""

    def read(self, data: bytes) -> Packet:
        """Read the next packet; a broken one is a picture that is no key frame."""


class Vp8:
    """Reads the frame tag of VP8."""

    def read(self, data: bytes) -> Packet:
        """Read the next packet."""
        return Packet(is_key=bool(data) and not data[0] & 1)


class Vp9:
    """Reads the first bits of VP9 frames."""

    def read(self, data: bytes) -> Packet:
        """Read the next packet."""
        bits = Bits(data[:2])
        try:
            marker, low, high = bits.read(2), bits.read(1), bits.read(1)
            if low and high:
                bits.read(1)
            shows_existing, is_inter = bits.read(1), bits.read(1)
        except ValueError:
            return Packet()
        return Packet(is_key=marker == 2 and not shows_existing and not is_inter)


class Theora:
    """Reads the first byte of Theora packets."""

    def read(self, data: bytes) -> Packet:
        """Read the next packet; an empty one shows the picture before it again."""
        first = data[0] if data else 0x40
        return Packet(is_picture=not first & 0x80, is_key=not first & 0xC0)


class _Sequence(NamedTuple):
    """What the frame headers of AV1 depend on."""

    screen_content: int
    integer_vectors: int
    number_bits: int
    """Of the number of a frame."""
    order_bits: int
    has_model: bool
    """Whether frames say when buffers are free."""
    timing_bits: int
    """Of the time at which a frame is shown."""


class Av1:
    """Reads the headers of AV1 temporal units, in low overhead format."""

    def __init__(self) -> None:
        self._sequence: _Sequence | None = None
        self._slots: list[int | None] = [None] * 8
        """Order of the frames that others may refer to or show."""

    def read(self, data: bytes) -> Packet:
        """Read the next packet."""
        found = Packet()
        try:
            for kind, body in _obus(data):
                if kind == _SEQUENCE_HEADER:
                    self._sequence = _sequence(Bits(body[:128]))
                elif kind in (_FRAME_HEADER, _FRAME) and self._sequence is not None:
                    found = self._frame(Bits(body[:32]), self._sequence) or found
        except (ValueError, IndexError):
            pass
        return found

    def _frame(self, bits: Bits, sequence: _Sequence) -> Packet | None:
        """Read a frame header; None for a frame that is not shown."""
        modulus = 1 << sequence.order_bits if sequence.order_bits else 0
        if bits.read(1):
            return Packet(order=self._slots[bits.read(3)], modulus=modulus)
        kind, is_shown = bits.read(2), bits.read(1)
        if is_shown:
            bits.read(sequence.timing_bits)
        else:
            bits.read(1)
        is_whole = kind == _SWITCH_FRAME or (kind == _KEY_FRAME and is_shown)
        is_resilient = is_whole or bits.read(1)
        bits.read(1)
        screen_content = sequence.screen_content
        if screen_content == _SELECT:
            screen_content = bits.read(1)
        if screen_content and sequence.integer_vectors == _SELECT:
            bits.read(1)
        bits.read(sequence.number_bits)
        if kind != _SWITCH_FRAME:
            bits.read(1)
        order = bits.read(sequence.order_bits) if modulus else None
        if not (is_resilient or kind in (_KEY_FRAME, _INTRA_FRAME)):
            bits.read(3)
        if sequence.has_model and bits.read(1):
            self._slots = [None] * 8  # what follows has a length that is not known here
        else:
            kept = 0xFF if is_whole else bits.read(8)
            self._slots = [
                order if kept >> slot & 1 else before for slot, before in enumerate(self._slots)
            ]
        if not is_shown:
            return None
        return Packet(is_key=kind == _KEY_FRAME, order=order, modulus=modulus)


SYNTAXES: Mapping[str, type[Syntax]] = {'av1': Av1, 'vp8': Vp8, 'vp9': Vp9, 'theora': Theora}
"""By codec."""


class Gaps:
    """Tells where packets of a stream are missing."""

    def __init__(self) -> None:
        self._order: int | None = None
        self._number: int | None = None
        self._steps: deque[int] = deque(maxlen=_STEPS)

    def before(self, packet: Packet, number: int | None) -> str:
        """
        Take the next packet that holds a picture.

        :param packet: What it says of itself.
        :param number: Of the packet, or its stamp; None if nothing is known.
        :return: What is missing before it, '' if nothing is.
        """
        if packet.modulus:
            return self._by_order(packet)
        before, self._number = self._number, number
        if before is None or number is None:
            return ''
        step = number - before
        usual = median(self._steps) if self._steps else 1 if step <= _COUNTED else step
        if 0 < usual * _LONG_STEP < step:
            return f'{round(step / usual) - 1} messages of the stream are missing'
        self._steps.append(step)
        return ''

    def _by_order(self, packet: Packet) -> str:
        before = self._order
        expected = None if before is None else (before + 1) % packet.modulus
        self._order = expected if packet.order is None else packet.order
        if expected is None or self._order is None or packet.is_key:
            return ''
        missing = (self._order - expected) % packet.modulus
        return f'{missing} pictures of the stream are missing' if missing else ''


class Turns:
    """Tells where just as many pictures are missing as their own numbers take to turn around."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._steps: deque[int] = deque(maxlen=_STEPS)

    def before(self, number: int | None, modulus: int) -> int:
        """
        Take the next picture, whose own number follows that of the one before it.

        :param number: Of its message, or the stamp; None if nothing is known.
        :param modulus: What pictures are counted up to; 0 if that is not known.
        :return: How many are missing before it by the steps between the numbers.
        """
        before, self._number = self._number, number
        if before is None or number is None or not modulus:
            return 0
        step = number - before
        usual = median(self._steps) if len(self._steps) > _FEW else 0
        if usual <= 0 or step < usual * (modulus - 1):
            self._steps.append(step)
            return 0
        missing = step / usual - 1
        turns = round(missing / modulus)
        return turns * modulus if abs(missing - turns * modulus) < 0.25 + missing / 1000 else 0


def _obus(data: bytes) -> list[tuple[int, bytes]]:
    """Part a temporal unit into its units: types and contents."""
    units = []
    at = 0
    while at < len(data):
        header = data[at]
        at += 2 if header & 4 else 1
        size = len(data) - at
        if header & 2:
            size, shift = 0, 0
            while True:
                byte = data[at]
                at += 1
                size |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80 or shift > 56:
                    break
        units.append((header >> 3 & 15, data[slice(at, at + size)]))
        at += size
    return units


def _sequence(bits: Bits) -> _Sequence:
    bits.read(4)
    is_still = bits.read(1)
    has_model, timing_bits, delay_bits = False, 0, 0
    if is_still:
        bits.read(5)
    else:
        if bits.read(1):
            bits.read(64)
            is_equal = bits.read(1)
            if is_equal:
                bits.read_ue()
            has_model = bool(bits.read(1))
            if has_model:
                delay_bits = bits.read(5) + 1
                bits.read(37)
                timing_bits = bits.read(5) + 1
            if is_equal:
                timing_bits = 0
        has_delay = bits.read(1)
        for _ in range(bits.read(5) + 1):
            bits.read(12)
            if bits.read(5) > 7:
                bits.read(1)
            if has_model and bits.read(1):
                bits.read(2 * delay_bits + 1)
            if has_delay and bits.read(1):
                bits.read(4)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    bits.read(width_bits + height_bits)
    number_bits = 0
    if not is_still and bits.read(1):
        number_bits = bits.read(4) + 2
        number_bits += bits.read(3) + 1
    bits.read(3)
    if is_still:
        return _Sequence(_SELECT, _SELECT, number_bits, 0, has_model, timing_bits)
    bits.read(4)
    has_order = bits.read(1)
    bits.read(2 if has_order else 0)
    screen_content = _SELECT if bits.read(1) else bits.read(1)
    integer_vectors = _SELECT
    if screen_content:
        integer_vectors = _SELECT if bits.read(1) else bits.read(1)
    order_bits = bits.read(3) + 1 if has_order else 0
    return _Sequence(
        screen_content, integer_vectors, number_bits, order_bits, has_model, timing_bits
    )
