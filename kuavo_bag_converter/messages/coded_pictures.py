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

"""Access units of H.264 and H.265: decoded, or kept as they are until pixels are needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple, Protocol

import av
from kuavo_bag_converter.messages.codecs import open_decoder, packet_of
from kuavo_bag_converter.messages.nal_units import nal_kind, split, START_CODE
from kuavo_bag_converter.support.errors import BagError, ImageError

_STREAMS = count()
HELD_BYTES = 16 << 20
"""Of a group, above which pictures that have been passed are decoded to let go of them."""
_DELIMITERS = {'h264': (9,), 'hevc': (35,)}
_SETS = {'h264': (7, 8), 'hevc': (32, 33, 34)}


class PictureDecoder:
    """Decodes access units; where the pictures before one are not all there, it has no picture."""

    def __init__(self, codec: str, extradata: bytes = b'') -> None:
        self._codec = codec
        self._context = open_decoder(codec)
        if extradata:
            self._context.extradata = extradata
        self._fed = 0
        self.waits = True
        """Whether no picture can be decoded before the next key frame."""
        self._since = ''

    @property
    def color_tags(self) -> dict[str, int]:
        """Return what the stream says of its colours, by the attributes of a codec context."""
        names = ('color_primaries', 'color_trc', 'colorspace', 'color_range')
        return {name: getattr(self._context, name) for name in names}

    def lose(self, since: str) -> None:
        """Wait for a key frame, because of what a text for users says."""
        self._context.flush_buffers()
        self.waits, self._since = True, f', since {since}'

    def take_parameters(self, data: bytes) -> None:
        """Take an access unit without picture."""
        with suppress(av.FFmpegError):
            self._context.decode(packet_of(memoryview(data)))

    def decode(self, data: bytes, *, is_key: bool, first: object = None) -> av.VideoFrame:
        """
        Decode the next access unit.

        :param data: The unit, in Annex B where it has NAL units.
        :param is_key: Whether decoding can begin with it.
        :param first: Header of its first slice.
        :raises ImageError: It gives no picture.
        :raises BagError: The stream reorders its pictures.
        """
        del first
        if self.waits and not is_key:
            raise ImageError(f'no {self._codec} key frame before this picture{self._since}')
        packet = packet_of(memoryview(data))
        packet.pts = self._fed = self._fed + 1
        try:
            frames = self._context.decode(packet)
        except av.FFmpegError as error:
            self.lose('one is damaged')
            raise ImageError(f'damaged {self._codec} picture ({error.strerror})') from None
        self.waits = False
        if any(frame.is_corrupt for frame in frames):
            self.lose('one is damaged')
            raise ImageError(f'damaged {self._codec} picture')
        if (
            self._context.has_b_frames
            or len(frames) > 1
            or any(f.pts != self._fed for f in frames)
        ):
            raise reordered(self._codec)
        if not frames:
            raise ImageError(f'no {self._codec} picture in the message: its reference is missing')
        return frames[0]


def reordered(codec: str) -> BagError:
    """Return the error about a stream with B-frames."""
    return BagError(
        f'the {codec} stream reorders its pictures (B-frames), so that messages and pictures do '
        'not match; only streams without B-frames are supported'
    )


class StreamSyntax(Protocol):
    """What is asked of the headers of a stream that is kept as it is."""

    sets: dict[tuple[int, int], bytes]
    """Parameter sets that hold now, by kind and number."""

    def reorders(self, first: Any) -> bool:
        """Tell by the first slice of the next picture whether the order is another than shown."""


class PictureForm(NamedTuple):
    """What the pictures of a stream must have in common to be in one video."""

    height: int
    width: int
    pix_fmt: str

    def __str__(self) -> str:
        """Return it for users."""
        return f'{self.width}x{self.height} {self.pix_fmt}'


class PictureGroup:
    """
    The pictures of a stream from one key frame up to the next, in order, not decoded.

    :ivar codec: ``h264`` or ``hevc``.
    :ivar begins_with_key: Whether nothing in it refers to a picture before it; not so where a
        recording begins, or goes on after a loss, with a picture that is refreshed bit by bit.
    :ivar restarts: Whether it may also follow pictures of another stream.
    :ivar order: Low bits of the order count of its first picture (H.265).
    :ivar sets: The parameter sets that hold at its beginning, in Annex B.
    :ivar begin: Those and the access unit of its first picture.
    :ivar form: Of its pictures.
    """

    def __init__(
        self, codec: str, sets: bytes, *, begins_with_key: bool, restarts: bool, order: int
    ) -> None:
        self.codec = codec
        self.begins_with_key = begins_with_key
        self.restarts = restarts
        self.order = order
        self.sets = sets
        self.form = PictureForm(0, 0, '')
        self.begin = sets
        self._units: deque[bytes] = deque()
        self._first = 0
        """Place of the first picture that is held."""
        self._bytes = 0
        self._decoder: PictureDecoder | None = None
        self._next = 0
        """Place of the picture that the decoder takes next."""
        self._last: av.VideoFrame | ImageError | None = None
        """What the one before it gave."""

    def add(self, data: bytes, stream: int, number: int) -> CodedPicture:
        """
        Take the next picture.

        :param data: Its access unit, in Annex B.
        :param stream: Of which nothing is missing between its pictures.
        :param number: Of the picture in it.
        """
        if not self._first + len(self._units):
            self.begin = self.sets + data
        self._units.append(data)
        self._bytes += len(data)
        return CodedPicture(self, self._first + len(self._units) - 1, data, stream, number)

    def decoded(self, place: int) -> av.VideoFrame:
        """
        Return a picture of the group.

        :raises ImageError: It is damaged.
        :raises BagError: The stream reorders its pictures, or it was let go of.
        """
        if place < self._next - 1:
            if self._first:
                raise BagError(
                    f'pictures of a {self.codec} stream come again after many others and cannot '
                    'be copied; set video: encode'
                )
            self._decoder, self._next = None, 0
        while self._next <= place:
            self._decode_next()
        if not isinstance(self._last, av.VideoFrame):
            raise self._last or ImageError(f'no {self.codec} picture')
        return self._last

    @property
    def color_tags(self) -> dict[str, int]:
        """Return those of a group of which a picture was decoded."""
        return self._decoder.color_tags if self._decoder else {}

    def _decode_next(self) -> None:
        is_first = self._decoder is None
        decoder = self._decoder = self._decoder or PictureDecoder(self.codec)
        data = self._units[self._next - self._first]
        try:
            self._last = decoder.decode(self.sets + data if is_first else data, is_key=is_first)
        except ImageError as error:
            self._last = error
        self._next += 1

    def pass_by(self, place: int) -> None:
        """Hold no more than a few megabytes of pictures up to a place, which come no more."""
        if self._bytes < HELD_BYTES:
            return
        with suppress(ImageError):
            self.decoded(place)
        while self._first <= place:
            self._bytes -= len(self._units.popleft())
            self._first += 1


@dataclass(frozen=True)
class CodedPicture:
    """
    A picture of a stream as it was recorded.

    :ivar group: That it belongs to.
    :ivar place: In the group, from 0.
    :ivar data: Its access unit, in Annex B.
    :ivar stream: Of which nothing is missing between its pictures.
    :ivar number: Of the picture in that.
    """

    group: PictureGroup
    place: int
    data: bytes
    stream: int
    number: int

    @property
    def nbytes(self) -> int:
        """Return the size of its access unit."""
        return len(self.data)

    @property
    def is_key(self) -> bool:
        """Whether a decoder can begin with it, and nothing behind it looks past it."""
        return self.place == 0 and self.group.begins_with_key

    @property
    def restarts(self) -> bool:
        """Whether it can be decoded behind any other picture, and those behind it with it."""
        return self.place == 0 and self.group.restarts

    @property
    def counts_on(self) -> bool:
        """Whether it does behind an IDR picture: a key frame with another order count than 0."""
        return self.is_key and not self.restarts and self.group.order != 0

    def follows(self, other: CodedPicture) -> bool:
        """Tell whether it comes next in the stream."""
        return (self.stream, self.number) == (other.stream, other.number + 1)

    def decoded(self) -> av.VideoFrame:
        """
        Return it decoded, as it was coded.

        :raises ImageError: It is damaged.
        :raises BagError: The stream reorders its pictures.
        """
        return self.group.decoded(self.place)

    @property
    def stored(self) -> bytes:
        """
        Return its access unit for a video, with all parameter sets if it is a key frame.

        So pictures of several encoders can follow each other in one video.
        """
        if not self.is_key:
            return self.data
        codec = self.group.codec
        units = _units(codec, self.data)
        delimiters = [unit for unit in units if nal_kind(codec, unit) in _DELIMITERS[codec]]
        others = (*_DELIMITERS[codec], *_SETS[codec])
        rest = (unit for unit in units if nal_kind(codec, unit) not in others)
        return annexb(delimiters) + self.group.sets + annexb(rest)


def annexb(units: Iterable[bytes]) -> bytes:
    """Return NAL units as a stream of bytes."""
    return b''.join(START_CODE + unit for unit in units)


def coded_content(codec: str, data: bytes) -> list[bytes]:
    """
    Return the NAL units of an access unit that hold its picture, whatever its framing.

    Two packets with the same ones show the same picture behind the same pictures.
    """
    kinds = (*_DELIMITERS[codec], *_SETS[codec])
    return [unit for unit in _units(codec, data) if nal_kind(codec, unit) not in kinds]


def _units(codec: str, data: bytes) -> list[bytes]:
    framing = split(codec, data, 4)
    return framing.units if framing else []


class PictureKeeper:
    """Keeps access units as they are, in groups; stands in the place of a decoder."""

    def __init__(self, codec: str, syntax: StreamSyntax) -> None:
        self._codec = codec
        self._syntax = syntax
        self._group: PictureGroup | None = None
        self._stream, self._number = next(_STREAMS), 0
        self.waits = True
        """Whether there is no picture before the next key frame."""
        self._since = ''

    def lose(self, since: str) -> None:
        """Wait for a key frame, because of what a text for users says."""
        self.waits, self._since = True, f', since {since}'
        self._stream = next(_STREAMS)

    def take_parameters(self, data: bytes) -> None:
        """Take an access unit without picture: what it holds is known by the syntax."""

    def decode(self, data: bytes, *, is_key: bool, first: Any = None) -> CodedPicture:
        """
        Take the next access unit.

        :param data: The unit, in Annex B.
        :param is_key: Whether decoding can begin with it.
        :param first: Header of its first slice.
        :raises ImageError: It gives no picture.
        :raises BagError: The stream reorders its pictures.
        """
        if self.waits and not is_key:
            raise ImageError(f'no {self._codec} key frame before this picture{self._since}')
        if self._syntax.reorders(first):
            raise reordered(self._codec)
        begins = first is not None and first.begins_group
        self._number += 1
        if self.waits or begins or self._group is None:
            sets = annexb(unit for _, unit in sorted(self._syntax.sets.items()))
            restarts = begins and first.restarts
            before = self._group
            self._group = PictureGroup(
                self._codec,
                sets,
                begins_with_key=begins,
                restarts=restarts,
                order=getattr(first, 'order', None) or 0,
            )
            picture = self._group.add(data, self._stream, self._number)
            if before is not None and before.sets == sets:
                self._group.form = before.form
            else:
                self._group.form = self._form_of(picture)
        else:
            picture = self._group.add(data, self._stream, self._number)
        self.waits = False
        return picture

    def _form_of(self, picture: CodedPicture) -> PictureForm:
        try:
            frame = picture.decoded()
        except ImageError:
            self._group = None
            self.lose('one is damaged')
            raise
        return PictureForm(frame.height, frame.width, frame.format.name)
