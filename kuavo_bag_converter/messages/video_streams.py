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
Video streams: from the messages of one camera to the pictures that they show.

A message shows the last picture that it holds a slice of; one without slices (parameter sets,
delimiters) shows the picture that follows. So a picture may come in several messages; it is known
to be complete when the next one begins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import av
from kuavo_bag_converter.messages import h264, hevc, packets
from kuavo_bag_converter.messages.coded_pictures import (
    annexb,
    CodedPicture,
    PictureDecoder,
    PictureKeeper,
    StreamSyntax,
)
from kuavo_bag_converter.messages.nal_units import nal_kind, split, START_CODE
from kuavo_bag_converter.support.errors import ImageError

STREAMS: Mapping[str, tuple[str, ...]] = {
    'h264': ('264', 'avc'),
    'hevc': ('265', 'hevc', 'hev1', 'hvc1'),
    'av1': ('av1', 'av01'),
    'vp9': ('vp9', 'vp09'),
    'vp8': ('vp8', 'libvpx'),
    'theora': ('theora',),
}
"""Codecs whose pictures need the pictures before them, and what formats say that mean them."""

COPYABLE = ('h264', 'hevc')
"""Streams whose pictures can be stored as they are."""

_THEORA_BEGIN = 0x80
"""First byte of the first header."""
_THEORA_HEADERS = 3
_HIDDEN = 'pictures of its stream that share a message with a later one, which it shows'
_PARTED = 'pictures of its stream that came in several messages, of which each shows it'
_TWICE = 'messages of its stream that repeat the one before, whose picture they show'
_WITHOUT = 'messages with only what comes before a picture of its stream, which they show'
_SURE = 3
"""Pictures of the same slices after which one that lacks some is taken as incomplete."""


def stream_codec(description: str) -> str:
    """Return the codec that a message's words for its format name, '' if it is no stream."""
    words = description.lower()
    named = (name for name, signs in STREAMS.items() if any(sign in words for sign in signs))
    return next(named, '')


def begins_with_start_code(payload: memoryview) -> bool:
    """Tell whether a payload looks like H.264 or H.265."""
    return bytes(payload[:4]).startswith((START_CODE, START_CODE[1:]))


class ShownPicture(NamedTuple):
    """What a message shows."""

    key: int
    """Of the message."""
    picture: av.VideoFrame | CodedPicture | ImageError


class VideoStream(Protocol):
    """
    A stream of one camera, of which every message must be fed in order.

    There is no picture before the first key frame, and after damage or missing pictures up to the
    next one. Streams that reorder pictures (B-frames) are refused.
    """

    def feed(self, key: int, payload: memoryview, number: int | None) -> list[ShownPicture]:
        """
        Take the next message.

        :param key: What the message is called in results.
        :param payload: Of the message; nothing refers to it afterwards.
        :param number: Of the packet in its stream, or its stamp; None if it has neither.
        :return: What is known now of messages, this one or those before.
        :raises BagError: The stream reorders its pictures.
        """

    def flush(self) -> list[ShownPicture]:
        """
        Return what is known of messages because no other follows.

        :raises BagError: The stream reorders its pictures.
        """


def open_stream(codec: str, counts: Counter[str], *, decodes: bool = True) -> VideoStream:
    """
    Return a stream that begins with the next message.

    :param codec: One of :data:`STREAMS`.
    :param counts: Counts messages and pictures that are not one to one, by what they are.
    :param decodes: Whether pictures are decoded, or given as they are (one of :data:`COPYABLE`).
    """
    if codec in COPYABLE:
        return NalStream(codec, counts, decodes=decodes)
    return PacketStream(codec, counts)


_Shown = av.VideoFrame | CodedPicture | ImageError


class _Syntax(StreamSyntax, Protocol):
    """Reads the NAL units of a stream, in order: :class:`.h264.Syntax`, :class:`.hevc.Syntax`."""

    slices: range
    before_picture: frozenset[int]

    @property
    def has_parameters(self) -> bool: ...
    def take(self, kind: int, unit: bytes) -> None: ...
    def slice(self, unit: bytes) -> Any: ...  # noqa: A003
    def begins(self, unit: bytes, header: Any, before: Any) -> bool: ...
    def recovery(self, kind: int, unit: bytes) -> int | None: ...
    def missing(self, first: Any) -> int: ...
    def forget(self) -> None: ...


@dataclass
class _AccessUnit:
    """The NAL units of one picture, and the messages that they came in."""

    units: list[bytes] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    """Where each of its slices begins, -1 where its header cannot be read."""
    first: Any = None
    """Header of the first slice, if it can be read."""
    number: int | None = None
    """Of the message with the first slice in its stream, or its stamp."""
    recovery: int | None = None
    """After how many frames pictures are exact if decoding begins here; None if it cannot."""
    keys: list[int] = field(default_factory=list)
    """Messages that hold slices of it."""
    twice: int = 0
    """Messages of ``keys`` that repeat another."""
    early_keys: list[int] = field(default_factory=list)
    """Messages that hold only what comes before the slices."""


class NalStream:
    """An H.264 or H.265 stream, whatever its framing and its share of messages are."""

    def __init__(self, codec: str, counts: Counter[str], *, decodes: bool) -> None:
        self._codec = codec
        self._counts = counts
        self._turns = packets.Turns()
        self._syntax: _Syntax = h264.Syntax() if codec == 'h264' else hevc.Syntax()
        self._decoder: PictureDecoder | PictureKeeper = (
            PictureDecoder(codec) if decodes else PictureKeeper(codec, self._syntax)
        )
        self._length_bytes = 4
        self._open = _AccessUnit()
        self._blocks: list[int] = []
        """Where the slices of the picture before begin."""
        self._equal = 0
        """Pictures whose slices begin there."""

    def feed(self, key: int, payload: memoryview, number: int | None) -> list[ShownPicture]:
        """Take the next message; see :class:`VideoStream`."""
        framing = split(self._codec, bytes(payload), self._length_bytes)
        if framing is None:
            start = bytes(payload[:12]).hex(' ')
            found = f'starts with {start}' if start else 'is empty'
            return [
                ShownPicture(key, ImageError(f'the payload of an {self._codec} stream {found}'))
            ]
        if framing.length_bytes:
            self._length_bytes = framing.length_bytes
        if self._open.blocks and framing.units == self._open.units:
            # Merged recordings hold messages twice; pictures differ in their numbers at least.
            self._counts[_TWICE] += 1
            self._open.keys.append(key)
            self._open.twice += 1
            return []
        shown: dict[int, _Shown] = {}
        for unit in framing.units:
            self._add(key, unit, number, shown)
        if key in self._open.keys:
            if shown.pop(key, None) is not None:
                self._counts[_HIDDEN] += 1
        elif key in shown and key in self._open.early_keys:
            self._open.early_keys.remove(key)
        return [ShownPicture(*item) for item in shown.items()]

    def flush(self) -> list[ShownPicture]:
        """End the picture that the last message holds; see :class:`VideoStream`."""
        shown: dict[int, _Shown] = {}
        self._close(shown)
        return [ShownPicture(*item) for item in shown.items()]

    def _add(
        self,
        key: int,
        unit: bytes,
        number: int | None,
        shown: dict[int, _Shown],
    ) -> None:
        syntax, kind = self._syntax, nal_kind(self._codec, unit)
        is_slice = kind in syntax.slices
        header = syntax.slice(unit) if is_slice else None
        begins = is_slice and syntax.begins(unit, header, self._open.first)
        if self._open.blocks and (begins or kind in syntax.before_picture):
            self._close(shown)
        mine = self._open
        mine.units.append(unit)
        if mine.recovery is None:
            mine.recovery = syntax.recovery(kind, unit)
        if is_slice:
            if not mine.blocks:
                mine.first, mine.number = header, number
            mine.blocks.append(header.first_block if header else -1)
            if key in mine.early_keys:
                mine.early_keys.remove(key)
            if key not in mine.keys:
                mine.keys.append(key)
            return
        syntax.take(kind, unit)
        if key not in mine.keys and key not in mine.early_keys:
            mine.early_keys.append(key)

    def _close(self, shown: dict[int, _Shown]) -> None:
        """Decode the open access unit, and begin another one."""
        mine, self._open = self._open, _AccessUnit()
        picture: _Shown
        try:
            picture = self._decoded(mine)
        except ImageError as error:
            picture = error
        self._counts[_HIDDEN] += sum(key in shown for key in mine.keys)
        if mine.blocks:
            self._counts[_PARTED] += len(mine.keys) - mine.twice > 1
            self._counts[_WITHOUT] += len(mine.early_keys)
        shown.update(dict.fromkeys((*mine.early_keys, *mine.keys), picture))

    def _decoded(self, mine: _AccessUnit) -> av.VideoFrame | CodedPicture:
        codec, decoder, syntax = self._codec, self._decoder, self._syntax
        data = annexb(mine.units)
        if not mine.blocks:
            decoder.take_parameters(data)
            raise ImageError(f'no {codec} picture in the message: it holds parameters only')
        is_whole = self._is_whole(mine)
        is_key = mine.recovery is not None
        if decoder.waits:
            syntax.forget()
            if is_key and not syntax.has_parameters:
                raise ImageError(f'no parameter sets of the {codec} stream before this key frame')
        if not is_whole:
            decoder.lose('one is incomplete')
            raise ImageError(f'slices of this {codec} picture are missing')
        if is_key or not decoder.waits:
            missing = syntax.missing(mine.first)
            turn = self._turns.before(mine.number, mine.first.modulus if mine.first else 0)
            missing = missing or turn
            if missing and mine.recovery != 0:
                decoder.lose(f'{missing} of the stream are missing')
        return decoder.decode(data, is_key=is_key, first=mine.first)

    def _is_whole(self, mine: _AccessUnit) -> bool:
        """Tell whether a picture has its first slice, and the others that those before it had."""
        blocks, before, equal = mine.blocks, self._blocks, self._equal
        same = blocks == before and -1 not in blocks
        self._blocks, self._equal = blocks, equal + 1 if same else 1
        if equal >= _SURE and set(blocks) < set(before):
            return False
        return blocks[0] <= 0


class PacketStream:
    """
    A stream of which each message holds one picture: AV1, VP8, VP9 or Theora.

    What is missing is told by the numbers of AV1 pictures, else by those of the messages: by a
    step between them (or their stamps) that is longer than usual.
    """

    def __init__(self, codec: str, counts: Counter[str]) -> None:
        self._codec = codec
        self._counts = counts
        self._syntax = packets.SYNTAXES[codec]()
        self._decoder = None if codec == 'theora' else PictureDecoder(codec)
        self._gaps = packets.Gaps()
        self._headers: list[bytes] = []
        """Of Theora."""
        self._waiting: list[int] = []
        """Messages that show the next picture."""
        self._last: av.VideoFrame | None = None
        """The picture before, None if it has none."""

    def feed(self, key: int, payload: memoryview, number: int | None) -> list[ShownPicture]:
        """Take the next message; see :class:`VideoStream`."""
        data = bytes(payload)
        packet = self._syntax.read(data)
        self._waiting.append(key)
        if not packet.is_picture:
            self._take_header(data)
            return []
        picture: av.VideoFrame | ImageError
        self._last, before = None, self._last
        try:
            picture = self._last = self._decoded(data, packet, number, before)
        except ImageError as error:
            picture = error
        return self._shown_by_all(picture)

    def flush(self) -> list[ShownPicture]:
        """Give up headers that no picture follows; see :class:`VideoStream`."""
        return self._shown_by_all(
            ImageError(f'no {self._codec} picture in the message: it holds parameters only')
        )

    def _shown_by_all(self, picture: av.VideoFrame | ImageError) -> list[ShownPicture]:
        if not isinstance(picture, ImageError) and len(self._waiting) > 1:
            self._counts[_WITHOUT] += len(self._waiting) - 1
        shown = [ShownPicture(key, picture) for key in self._waiting]
        self._waiting = []
        return shown

    def _decoded(
        self,
        data: bytes,
        packet: packets.Packet,
        number: int | None,
        before: av.VideoFrame | None,
    ) -> av.VideoFrame:
        if self._decoder is None:
            raise ImageError(f'no headers of the {self._codec} stream before this picture')
        missing = self._gaps.before(packet, number)
        if missing:
            self._decoder.lose(missing)
        if not data:
            if before is None:
                raise ImageError('the payload is empty')
            return before
        return self._decoder.decode(data, is_key=packet.is_key)

    def _take_header(self, data: bytes) -> None:
        """Take one of the three headers of Theora, and open the decoder when all are there."""
        if data[0] == _THEORA_BEGIN:
            self._headers = []
        self._headers.append(data)
        if len(self._headers) == _THEORA_HEADERS:
            extradata = b''.join(
                len(header).to_bytes(2, 'big') + header for header in self._headers
            )
            self._decoder = PictureDecoder(self._codec, extradata)
