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
Colour pictures: from message payloads to encoder-ready frames without a detour by RGB, or JPEGs.

What is to be stored as it is (``video: copy``) is taken out of its message and not decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import av
from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.messages import raw_images, rvl
from kuavo_bag_converter.messages.codecs import PictureCodec, stream_codec_name, StreamCodec
from kuavo_bag_converter.messages.definitions import Definitions, MessageDecoder
from kuavo_bag_converter.messages.picture_headers import (
    DEPTH_HEADER,
    JPEG_MAGIC,
    JpegHeader,
    JpegReader,
    PNG_MAGIC,
    read_png,
    read_webp,
)
from kuavo_bag_converter.messages.video_frames import FrameFitter
from kuavo_bag_converter.support.errors import BagError, ImageError
from kuavo_bag_converter.support.texts import quoted, shown

STREAMS = ('h264', 'hevc')
"""Codecs whose pictures need the pictures before them."""

_COMPRESSED = ('format', 'data')
_RAW = ('height', 'width', 'encoding', 'is_bigendian', 'step', 'data')


class PictureInfo(NamedTuple):
    """What the headers of a picture say."""

    height: int
    width: int
    """Both upright; 0 where the payload does not say (a stream without a key frame)."""
    codec: str
    """``jpeg``, ``png``, ``webp``, ``h264``, ``hevc``, ``rvl`` or ``raw``."""
    encoding: str
    """The message's own words: its ``format`` or ``encoding``."""
    channels: int
    upright: bool = True
    """False where Exif says that the stored picture is turned."""

    @property
    def is_stream(self) -> bool:
        """Whether pictures need the pictures before them, so that all must be decoded."""
        return self.codec in STREAMS


@contextmanager
def errors_about(topic: str) -> Iterator[None]:
    """Name the topic in errors about its pictures."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f'{topic}: {error}') from None
    except BagError as error:
        raise BagError(f'{topic}: {error}') from None


def picture_decoder(
    connection: Connection, definitions: Definitions
) -> tuple[MessageDecoder, bool]:
    """
    Return the message decoder of a camera, and whether its pictures are compressed.

    :raises BagError: The type of the connection holds no picture.
    """
    decoder = definitions.decoder(connection)
    fields = decoder.fields()
    if all(name in fields for name in _RAW):
        return decoder, False
    if all(name in fields for name in _COMPRESSED):
        return decoder, True
    raise BagError(
        f'{connection.label}: {shown(connection.msgtype)} holds no picture; expected '
        'sensor_msgs/msg/CompressedImage or sensor_msgs/msg/Image'
    )


class ColorDecoder:
    """
    Decodes the pictures of one colour camera; to be used by one thread at a time.

    A JPEG goes from its own planes to the encoder's without becoming RGB. Its Exif orientation is
    applied, as ``cv2.imdecode`` does; alpha is dropped. :class:`StreamCodec` tells about H.264 and
    H.265.
    """

    def __init__(
        self,
        connection: Connection,
        definitions: Definitions,
        size: tuple[int, int] | None = None,
        pix_fmt: str = 'yuv420p',
        *,
        use_cv_bridge: bool = False,
    ) -> None:
        """
        Prepare for a connection.

        :param connection: The camera's; messages with ``format`` and ``data`` are taken for
            CompressedImage, those with ``encoding`` and ``step`` for Image.
        :param definitions: Where message definitions come from.
        :param size: (height, width) of the frames; each picture's own if None.
        :param pix_fmt: ``yuv420p``, ``yuv444p``, or :data:`.frames.RGB`.
        :param use_cv_bridge: Convert Image messages by cv_bridge, with equal results.
        :raises BagError: The type holds no picture, or its definition is missing.
        """
        self._topic = connection.label
        self._message, self._is_compressed = picture_decoder(connection, definitions)
        self._fitter = FrameFitter(size, pix_fmt)
        self._color_of = raw_images.color_of
        if use_cv_bridge:
            from kuavo_bag_converter.messages import cv_bridge_backend

            self._color_of = cv_bridge_backend.color_of
        self._jpegs = JpegReader()
        self._pictures: dict[str, PictureCodec] = {}
        self._streams: dict[str, StreamCodec] = {}

    def decode(self, data: bytes | memoryview) -> av.VideoFrame:
        """
        Decode the picture of a message.

        :return: A frame of the wanted size and pixel format, BT.601 in limited range or RGB;
            nothing in it refers to ``data``.
        :raises ImageError: This picture is damaged, or a stream has none for this message.
        :raises BagError: The message does not fit its definition, or the camera's kind of picture
            is not supported.
        """
        message = self._message(data)
        with errors_about(self._topic):
            return self._fitter.fit(*self._frame(message))

    def skip(self, data: bytes | memoryview) -> None:
        """
        Take notice of a message whose picture is not used; only streams need it.

        :raises BagError: The message does not fit its definition, or the camera's kind of picture
            is not supported.
        """
        message = self._message(data)
        with errors_about(self._topic), suppress(ImageError):
            self._frame(message)

    def _frame(self, message: Any) -> tuple[av.VideoFrame, int]:
        """Return the picture as it is stored, and its Exif orientation."""
        if not self._is_compressed:
            return av.VideoFrame.from_numpy_buffer(*self._color_of(message)), 1
        payload = memoryview(message.data)
        codec = codec_of(payload, message.format)
        if codec in STREAMS:
            if codec not in self._streams:
                self._streams[codec] = StreamCodec(codec)
            return self._streams[codec].decode(payload), 1
        if codec not in self._pictures:
            self._pictures[codec] = PictureCodec('mjpeg' if codec == 'jpeg' else codec)
        orientation = 1
        if codec == 'jpeg':
            orientation = self._jpegs.read(payload).orientation
        elif codec == 'png':
            read_png(payload)
        else:
            read_webp(payload)
        return self._pictures[codec].decode(payload), orientation


class JpegCopier:
    """Takes the JPEGs out of the messages of one camera."""

    def __init__(self, connection: Connection, definitions: Definitions) -> None:
        """Prepare for a connection whose messages have ``data``, as CompressedImage."""
        self._topic = connection.label
        self._message = definitions.decoder(connection)
        self._headers = JpegReader()
        self._first: JpegHeader | None = None

    def decode(self, data: bytes | memoryview) -> bytes:
        """
        Return the JPEG of a message, undecoded.

        :raises ImageError: It is no JPEG, its header is damaged, or its end is missing.
        :raises BagError: The message does not fit its definition, or the picture has another size
            or orientation than the first.
        """
        payload = memoryview(self._message(data).data)
        with errors_about(self._topic):
            if bytes(payload[:3]) != JPEG_MAGIC:
                raise ImageError('the payload is no JPEG')
            header = self._headers.read(payload)
            first = self._first = self._first or header
            if header != first:
                raise BagError(
                    f'its pictures change from {first.width}x{first.height} to '
                    f'{header.width}x{header.height} or in colour or orientation, and cannot '
                    'be copied; set video: encode'
                )
        return bytes(payload)

    def skip(self, data: bytes | memoryview) -> None:
        """Ignore a message whose picture is not used."""


def picture_info(
    connection: Connection, definitions: Definitions, data: bytes | memoryview
) -> PictureInfo:
    """
    Read the headers of a message's picture, colour or depth, without decoding it.

    Only for a video stream its first picture is decoded.

    :raises ImageError: The picture is damaged.
    :raises BagError: It is of a kind that is not supported, or the type holds no picture.
    """
    decoder, is_compressed = picture_decoder(connection, definitions)
    message = decoder(data)
    with errors_about(connection.label):
        if not is_compressed:
            encoding = raw_images.encoding_of(message)
            raw_images.pixels_of(message)
            size = (message.height, message.width)
            return PictureInfo(*size, 'raw', message.encoding, encoding.channels)
        return _compressed_info(memoryview(message.data), message.format)


def _compressed_info(payload: memoryview, description: str) -> PictureInfo:
    if is_rvl(description):
        begin = rvl.begin_of(payload)
        return PictureInfo(*rvl.read_size(payload[begin:]), 'rvl', description, 1)
    if bytes(payload[DEPTH_HEADER : DEPTH_HEADER + len(PNG_MAGIC)]) == PNG_MAGIC:
        payload = payload[DEPTH_HEADER:]
    codec = codec_of(payload, description)
    if codec == 'jpeg':
        height, width, channels, orientation = JpegReader().read(payload)
        if orientation > 4:
            height, width = width, height
        return PictureInfo(height, width, codec, description, channels, orientation == 1)
    if codec == 'png':
        png = read_png(payload)
        return PictureInfo(png.height, png.width, codec, description, png.channels)
    if codec == 'webp':
        return PictureInfo(*read_webp(payload), codec, description, 3)
    try:
        frame = StreamCodec(codec).decode(payload)
    except ImageError:
        return PictureInfo(0, 0, codec, description, 3)
    return PictureInfo(frame.height, frame.width, codec, description, 3)


def is_rvl(description: str) -> bool:
    """Tell from its ``format`` whether a compressedDepth message holds RVL."""
    return 'rvl' in description.lower()


def codec_of(payload: memoryview, description: str) -> str:
    """
    Tell by its first bytes what a compressed picture is.

    :param payload: The ``data`` of a CompressedImage.
    :param description: Its ``format``, which only tells video codecs apart.
    :raises ImageError: The payload is empty or nothing known.
    :raises BagError: A video stream of an unknown codec, or compressedDepth.
    """
    start = bytes(payload[:12])
    if start.startswith(JPEG_MAGIC):
        return 'jpeg'
    if start.startswith(PNG_MAGIC):
        return 'png'
    if start[:4] == b'RIFF' and start[8:] == b'WEBP':
        return 'webp'
    name = stream_codec_name(payload, description)
    if name:
        return name
    if bytes(payload[DEPTH_HEADER : DEPTH_HEADER + len(PNG_MAGIC)]) == PNG_MAGIC:
        raise BagError('compressedDepth pictures; make it a depth camera')
    found = f'starts with {start.hex(" ")}' if start else 'is empty'
    raise ImageError(
        f'the payload (format {quoted(description)}) {found}; expected JPEG, PNG, WebP, H.264 or '
        'H.265'
    )
