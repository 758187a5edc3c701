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

"""The pictures of one camera feature: what decodes them, and what may go wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast, Generic, Protocol, TypeVar

import av
from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.messages.identity import FrameIdCheck
from kuavo_bag_converter.support.stages import staged

PictureT = TypeVar('PictureT')
"""What a camera's writer takes: an encoder-ready frame, a depth map, or the JPEG itself."""
PictureT_co = TypeVar('PictureT_co', covariant=True)
StreamPicture = tuple[int, Callable[[], PictureT]]
"""What a message of a stream is called, and what gives its picture or raises ImageError."""


def picture_bytes(picture: object) -> int:
    """Return how many bytes a decoded picture takes."""
    if isinstance(picture, av.VideoFrame):
        return sum(plane.buffer_size for plane in picture.planes)
    return getattr(picture, 'nbytes', 0)


class ConnectionDecoder(Protocol[PictureT_co]):
    """Decodes the messages of one connection."""

    def decode(self, data: bytes) -> PictureT_co:
        """Return the picture of a message, or raise ImageError if this one cannot be decoded."""


class StreamDecoder(ConnectionDecoder[PictureT_co], Protocol):
    """Decodes the messages of a video stream, of which every one must be fed in order."""

    def feed(self, key: int, data: bytes) -> Iterable[StreamPicture[PictureT_co]]:
        """
        Take the next message, which is called ``key``.

        :return: Messages whose picture is known now, this one or those before; each with what
            gives the picture, or raises ImageError if there is none.
        """

    def flush(self) -> Iterable[StreamPicture[PictureT_co]]:
        """Return what is left when no message follows."""


class PictureDecoder(Generic[PictureT]):
    """Decodes the messages of one camera, with a decoder for each connection."""

    def __init__(
        self,
        decoder_for: Callable[[Connection], ConnectionDecoder[PictureT]],
        *,
        is_stream: bool,
        check: FrameIdCheck | None = None,
    ) -> None:
        """
        Use ``decoder_for`` once for every connection.

        :param decoder_for: Makes the decoder.
        :param is_stream: Pictures need the pictures before them: the decoders are a
            :class:`StreamDecoder`, and every message must be passed to ``feed``, in order.
        :param check: Refuses messages that are not of the same camera.
        """
        self._decoder_for = decoder_for
        self._decoders: dict[int, ConnectionDecoder[PictureT]] = {}
        self.is_stream = is_stream
        self._check = check

    def another(self) -> PictureDecoder[PictureT]:
        """Return one more for the same camera, to be used by another thread."""
        return PictureDecoder(self._decoder_for, is_stream=self.is_stream, check=self._check)

    @staged('decode')
    def decode(self, connection: Connection, data: bytes) -> PictureT:
        """
        Return the picture of a message that stands alone.

        :raises ImageError: This picture cannot be decoded.
        :raises BagError: The camera's messages are no such pictures.
        """
        if self._check is not None:
            self._check.compare(connection, data)
        return self._of(connection).decode(data)

    @staged('decode')
    def feed(self, connection: Connection, key: int, data: bytes) -> list[StreamPicture[PictureT]]:
        """
        Take the next message of a stream; see :meth:`StreamDecoder.feed`.

        :raises BagError: The camera's messages are no such pictures.
        """
        if self._check is not None:
            self._check.compare(connection, data)
        decoder = cast('StreamDecoder[PictureT]', self._of(connection))
        return list(decoder.feed(key, data))

    @staged('decode')
    def flush(self) -> list[StreamPicture[PictureT]]:
        """
        Return what is left of streams when no message follows.

        :raises BagError: The camera's messages are no such pictures.
        """
        decoders = cast('Iterable[StreamDecoder[PictureT]]', self._decoders.values())
        return [picture for decoder in decoders for picture in decoder.flush()]

    def _of(self, connection: Connection) -> ConnectionDecoder[PictureT]:
        decoder = self._decoders.get(connection.id)
        if decoder is None:
            decoder = self._decoders[connection.id] = self._decoder_for(connection)
        return decoder
