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
What the headers of an H.265 stream say of its order (ITU-T H.265, 7.3 and 8.3).

Every picture lists by their order count those that it and later ones refer to: one that was not
decoded tells that pictures are missing, which decoders may conceal.
"""

from __future__ import annotations

from typing import NamedTuple

from kuavo_bag_converter.messages.nal_units import Bits

_VPS, _SPS, _PPS, _PREFIX_SEI = 32, 33, 34, 39
_KEYS = range(16, 24)
_ALONE = range(16, 21)
"""Key frames that nothing behind them looks past."""
_IDR = (19, 20)
_RESTARTING = (16, 17, 18, *_IDR)
"""Key frames from which on order counts begin anew."""
_LEADING = range(6, 10)
_SKIPPED = (8, 9)
"""Leading pictures that cannot be decoded where decoding begins with their key frame."""
_MOST = 16
"""References of a picture."""

_References = tuple[list[tuple[int, bool]], list[tuple[int, bool]]]
"""Order counts before and behind a picture less its own, nearest first; whether it needs them."""


class Slice(NamedTuple):
    """The beginning of a slice header."""

    kind: int
    layer: int
    """Temporal layer."""
    first_block: int
    """Address of its first coding tree block."""
    order: int | None
    """Low bits of the picture's order count; None in a slice that depends on the one before."""
    modulus: int
    """What ``order`` counts up to."""
    references: tuple[tuple[int, bool], ...]
    """Order counts less the picture's own, and whether it needs them itself."""
    keeps_all: bool
    """Whether references may be kept that ``references`` does not list."""

    @property
    def begins_group(self) -> bool:
        """Whether nothing behind it refers to a picture before it."""
        return self.kind in _KEYS

    @property
    def restarts(self) -> bool:
        """
        Whether it may follow pictures of another stream.

        Others than IDR pictures have an order count, by which libavcodec takes one for a picture
        that it has (8.0 even where a sequence has ended).
        """
        return self.kind in _IDR


class _Sequence(NamedTuple):
    """What slice headers need of the parameter set of a sequence."""

    separate_planes: bool
    block_bits: int
    """Of the address of a coding tree block."""
    order_bits: int
    references: list[_References]
    has_long_term: bool


class _Picture(NamedTuple):
    """What slice headers need of the parameter set of pictures."""

    sequence: int
    has_dependent_slices: bool
    has_output_flag: bool
    extra_bits: int


class Syntax:
    """Reads the NAL units of a stream, in order."""

    slices = range(32)
    before_picture = frozenset({_VPS, _SPS, _PPS, 35, _PREFIX_SEI, *range(41, 45), *range(48, 56)})
    """Kinds that begin the next access unit when the one before has its slices."""

    def __init__(self) -> None:
        self._sequences: dict[int, _Sequence] = {}
        self._pictures: dict[int, _Picture] = {}
        self._kept: set[int] | None = None
        """Order counts of decoded pictures; None where nothing is known of them."""
        self._anchor = 0
        """Order count that the next one is near."""
        self._order: int | None = None
        """Low bits of the order count of the picture before."""
        self.sets: dict[tuple[int, int], bytes] = {}
        """Parameter sets that hold now, by kind and number."""

    @property
    def has_parameters(self) -> bool:
        """Whether the sets that slices need have come."""
        return bool(self._sequences and self._pictures)

    def take(self, kind: int, unit: bytes) -> None:
        """Remember a parameter set; a broken one is left out."""
        try:
            if kind == _VPS:
                self.sets[kind, Bits.of_unit(unit, 2).read(4)] = unit
            elif kind == _SPS:
                number, sequence = _sequence(Bits.of_unit(unit, 2))
                self._sequences[number] = sequence
                self.sets[kind, number] = unit
            elif kind == _PPS:
                bits = Bits.of_unit(unit, 2)
                number = bits.read_ue()
                self._pictures[number] = _Picture(
                    bits.read_ue(), bool(bits.read(1)), bool(bits.read(1)), bits.read(3)
                )
                self.sets[kind, number] = unit
        except (ValueError, IndexError):
            pass

    def slice(self, unit: bytes) -> Slice | None:  # noqa: A003
        """Read a slice header; None if it is broken or its parameter sets are missing."""
        kind = unit[0] >> 1
        bits = Bits.of_unit(unit, 2, 256)
        try:
            is_first = bits.read(1)
            bits.read(1 if kind in _KEYS else 0)
            picture = self._pictures.get(bits.read_ue())
            sequence = self._sequences.get(picture.sequence) if picture else None
            if picture is None or sequence is None:
                return None
            depends = not is_first and picture.has_dependent_slices and bits.read(1)
            block = 0 if is_first else bits.read(sequence.block_bits)
            found = Slice(kind, (unit[1] & 7) - 1, block, None, 1 << sequence.order_bits, (), True)
            if depends:
                return found
            bits.read(picture.extra_bits)
            bits.read_ue()
            bits.read(int(picture.has_output_flag) + 2 * int(sequence.separate_planes))
            if kind in _IDR:
                return found._replace(order=0, keeps_all=False)
            order = bits.read(sequence.order_bits)
            sets = sequence.references
            if not bits.read(1):
                before, behind = _references(bits, len(sets), sets)
            else:
                before, behind = sets[bits.read((len(sets) - 1).bit_length())]
        except (ValueError, IndexError):
            return None
        references = (*before, *behind)
        return found._replace(order=order, references=references, keeps_all=sequence.has_long_term)

    def begins(self, unit: bytes, header: Slice | None, before: Slice | None) -> bool:
        """
        Tell whether a slice begins a picture.

        :param unit: Of the slice.
        :param header: What :meth:`slice` says of it.
        :param before: The first slice of the picture before.
        """
        if unit[2:3] >= b'\x80':
            return True
        if header is None or before is None or None in (header.order, before.order):
            return False
        return (header.order, header.kind in _KEYS) != (before.order, before.kind in _KEYS)

    def recovery(self, kind: int, unit: bytes) -> int | None:
        """Return 0 for a unit that decoding can begin with, else None."""
        del unit
        return 0 if kind in _KEYS else None

    def missing(self, first: Slice | None) -> int:
        """Take the first slice of the next picture; return how many are missing before it."""
        if first is None or first.order is None:
            self._kept = None
            return 0
        is_alone = first.kind in _ALONE or (first.kind in _KEYS and self._kept is None)
        order = first.order
        if not is_alone:
            half = first.modulus // 2
            order += self._anchor - self._anchor % first.modulus
            order += first.modulus * (
                (order <= self._anchor - half) - (order > self._anchor + half)
            )
        is_sublayer = first.kind < _KEYS.start and not first.kind % 2
        if not first.layer and first.kind not in _LEADING and not is_sublayer:
            self._anchor = order
        needed = {order + distance for distance, is_needed in first.references if is_needed}
        kept = set() if is_alone else self._kept
        if kept is None:
            return 0
        if not first.keeps_all:
            kept = kept & {order + distance for distance, _ in first.references}
        self._kept = kept | {order}
        return 0 if is_alone or first.kind in _SKIPPED else len(needed - kept)

    def reorders(self, first: Slice | None) -> bool:
        """Tell by the first slice of the next picture whether it is shown before the last one."""
        before, self._order = self._order, None if first is None else first.order
        if first is None or first.order is None or before is None or first.kind in _RESTARTING:
            return False
        return not 0 < (first.order - before) % first.modulus < first.modulus // 2

    def forget(self) -> None:
        """Begin anew: the next picture may have any number."""
        self._kept = self._order = None


def _sequence(bits: Bits) -> tuple[int, _Sequence]:
    bits.read(4)
    layers = bits.read(3)
    bits.read(1)
    _skip_profile(bits, layers)
    number = bits.read_ue()
    chroma_format = bits.read_ue()
    separate_planes = bool(bits.read(1)) if chroma_format == 3 else False
    width, height = bits.read_ue(), bits.read_ue()
    for _ in range(4 * bits.read(1) + 2):
        bits.read_ue()
    order_bits = bits.read_ue() + 4
    for _ in range(3 * (1 if not bits.read(1) else layers + 1)):
        bits.read_ue()
    block = 1 << (bits.read_ue() + 3 + bits.read_ue())
    for _ in range(4):
        bits.read_ue()
    if bits.read(1) and bits.read(1):
        _skip_scaling_lists(bits)
    bits.read(2)
    if bits.read(1):
        bits.read(8)
        bits.read_ue()
        bits.read_ue()
        bits.read(1)
    sets: list[_References] = []
    count = bits.read_ue()
    if count > 64 or order_bits > 16 or block > 64:
        raise ValueError('no parameter set')
    for index in range(count):
        sets.append(_references(bits, index, sets, in_slice=False))
    blocks = -(-width // block) * -(-height // block)
    has_long_term = bool(bits.read(1))
    return number, _Sequence(
        separate_planes, (blocks - 1).bit_length(), order_bits, sets, has_long_term
    )


def _skip_profile(bits: Bits, layers: int) -> None:
    bits.read(96)
    present = [(bits.read(1), bits.read(1)) for _ in range(layers)]
    if layers:
        bits.read(2 * (8 - layers))
    for has_profile, has_level in present:
        bits.read(88 * has_profile + 8 * has_level)


def _skip_scaling_lists(bits: Bits) -> None:
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            if not bits.read(1):
                bits.read_ue()
            else:
                for _ in range(min(64, 16 << 2 * size) + (size > 1)):
                    bits.read_se()


def _references(
    bits: Bits, index: int, sets: list[_References], *, in_slice: bool = True
) -> _References:
    """Read st_ref_pic_set (7.3.7, 7.4.8)."""
    if not index or not bits.read(1):
        counts = bits.read_ue(), bits.read_ue()
        if max(counts) > _MOST:
            raise ValueError('too many references')
        before, behind = (
            _distances(bits, count, sign) for count, sign in zip(counts, (-1, 1), strict=True)
        )
        return before, behind
    source = index - 1 - (bits.read_ue() if in_slice else 0)
    if source < 0:
        raise ValueError('no such references')
    known_before, known_behind = sets[source]
    shift = -1 if bits.read(1) else 1
    shift *= bits.read_ue() + 1
    flags = []
    for _ in range(len(known_before) + len(known_behind) + 1):
        is_needed = bool(bits.read(1))
        flags.append((is_needed, is_needed or bool(bits.read(1))))
    known = [distance for distance, _ in (*known_before, *known_behind)]
    shifted = [
        (distance + shift, is_needed)
        for distance, (is_needed, is_kept) in zip((*known, 0), flags, strict=True)
        if is_kept
    ]
    return (
        sorted((item for item in shifted if item[0] < 0), reverse=True),
        sorted(item for item in shifted if item[0] > 0),
    )


def _distances(bits: Bits, count: int, sign: int) -> list[tuple[int, bool]]:
    found = []
    distance = 0
    for _ in range(count):
        distance += sign * (bits.read_ue() + 1)
        found.append((distance, bool(bits.read(1))))
    return found
