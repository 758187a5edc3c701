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
import cv2
from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.messages import raw_images, rvl
from kuavo_bag_converter.messages.codecs import PictureCodec, stream_codec_name, StreamCodec
from kuavo_bag_converter.messages.definitions import Definitions, MessageDecoder
from kuavo_bag_converter.messages.geometry import Geometry, Size
from kuavo_bag_converter.messages.picture_headers import (
    DEPTH_HEADER,
    JPEG_MAGIC,
    JpegHeader,
    JpegReader,
    PNG_MAGIC,
    read_png,
    read_webp,
)
from kuavo_bag_converter.messages.picture_remarks import PictureRemarks
from kuavo_bag_converter.messages.video_frames import FrameFitter, gray_pixels, RGB, rgb_pixels
from kuavo_bag_converter.support.errors import BagError, ImageError
from kuavo_bag_converter.support.texts import quoted, shown
import numpy as np

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
        size: Size | None = None,
        pix_fmt: str = 'yuv420p',
        *,
        geometry: Geometry = Geometry(),  # noqa: B008  # frozen
        recorded_size: Size | None = None,
        value_range: tuple[float, float] | None = None,
        use_cv_bridge: bool = False,
        remarks: PictureRemarks | None = None,
    ) -> None:
        """
        Prepare for a connection.

        :param connection: The camera's; messages with ``format`` and ``data`` are taken for
            CompressedImage, those with ``encoding`` and ``step`` for Image.
        :param definitions: Where message definitions come from.
        :param size: (height, width) of the frames; each picture's own if None.
        :param pix_fmt: ``yuv420p``, ``yuv444p``, or :data:`.frames.RGB`.
        :param geometry: What is done to pictures before they are scaled.
        :param recorded_size: (height, width) that each must have, upright; any if None.
        :param value_range: What becomes black and white in grey pictures of more than 8 bits.
        :param remarks: Is told what there is to say of the pictures.
        :param use_cv_bridge: Convert Image messages by cv_bridge, with equal results.
        :raises BagError: The type holds no picture, or its definition is missing.
        """
        self._topic = connection.label
        self._message, self._is_compressed = picture_decoder(connection, definitions)
        self._fitter = FrameFitter(size, pix_fmt)
        self._rgb_fitter = FrameFitter(None, RGB)
        self._geometry = geometry
        self._recorded_size = recorded_size
        self._range = value_range
        self._remarks = remarks or PictureRemarks(self._topic)
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
            frame, orientation = self._frame(message)
            size = (frame.height, frame.width)
            if orientation > 4:
                size = (frame.width, frame.height)
            check_recorded_size(size, self._recorded_size)
            self._remarks.size(*size)
            if self._geometry.is_plain(size):
                return self._fitter.fit(frame, orientation)
            pixels = rgb_pixels(self._rgb_fitter.fit(frame, orientation))
            pixels = np.ascontiguousarray(self._geometry.applied(pixels))
            return self._fitter.fit(av.VideoFrame.from_numpy_buffer(pixels, 'rgb24'))

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
            if message.encoding in raw_images.PLANAR:
                return raw_images.planar_frame(message), 1
            picture = self._color_of(message, self._range, self._remarks)
            return av.VideoFrame.from_numpy_buffer(*picture), 1
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
        frame = self._pictures[codec].decode(payload)
        return self._colored(frame, message.format), orientation

    def _colored(self, frame: av.VideoFrame, description: str) -> av.VideoFrame:
        """Give a mosaic its colours, and bring grey of 16 bits to the wanted range."""
        pixels = gray_pixels(frame)
        mosaic = raw_images.mosaic_of(description)
        if pixels is None:
            if self._range is not None:
                raise BagError('range is for grey pictures, found colours; leave range out')
            return frame
        if pixels.dtype != np.uint8:
            self._remarks.values(pixels, self._range)
        if not mosaic and self._range is None:
            return frame
        encoding = raw_images.ENCODINGS[mosaic or 'mono8']
        plain = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder('='))
        try:
            picture = raw_images.colored(plain, encoding, self._range)
        except cv2.error:
            raise ImageError(f'{frame.width}x{frame.height} pixels cannot be {mosaic}') from None
        return av.VideoFrame.from_numpy_buffer(picture, encoding.pix_fmt)


def check_recorded_size(size: Size, expected: Size | None) -> None:
    """
    Refuse a picture of another size than the camera's first.

    :param size: (height, width).
    :param expected: Of the first; None if it does not matter.
    :raises BagError: Names both.
    """
    if expected is not None and size != expected:
        raise BagError(
            f'its pictures change from {expected[1]}x{expected[0]} to {size[1]}x{size[0]}; give '
            'the camera a size in the profile, or part the recording there'
        )


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
            channels = raw_images.channels_of(message)
            return PictureInfo(message.height, message.width, 'raw', message.encoding, channels)
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
