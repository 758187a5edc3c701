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

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import av
from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.messages import raw_images, rvl
from kuavo_bag_converter.messages.codecs import PictureCodec
from kuavo_bag_converter.messages.coded_pictures import PictureForm
from kuavo_bag_converter.messages.definitions import Definitions
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
from kuavo_bag_converter.messages.picture_messages import Compressed, PictureMessages
from kuavo_bag_converter.messages.picture_remarks import PictureRemarks
from kuavo_bag_converter.messages.video_frames import (
    cropped,
    FrameFitter,
    gray_pixels,
    RGB,
    rgb_pixels,
)
from kuavo_bag_converter.messages.video_streams import (
    begins_with_start_code,
    open_stream,
    ShownPicture,
    stream_codec,
    STREAMS,
    VideoStream,
)
from kuavo_bag_converter.support.errors import BagError, ImageError
from kuavo_bag_converter.support.texts import quoted
import numpy as np


class PictureInfo(NamedTuple):
    """What the headers of a picture say."""

    height: int
    width: int
    """Both upright; 0 where the payload does not say (a stream without a key frame)."""
    codec: str
    """``jpeg``, ``png``, ``webp``, ``rvl``, ``raw`` or one of :data:`.STREAMS`."""
    encoding: str
    """The message's own words: its ``format`` or ``encoding``."""
    channels: int
    upright: bool = True
    """False where Exif says that the stored picture is turned."""
    pix_fmt: str = ''
    """Of a stream, by FFmpeg's name, where its size is known."""

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


class ColorDecoder:
    """
    Decodes the pictures of one colour camera; to be used by one thread at a time.

    A JPEG goes from its own planes to the encoder's without becoming RGB. Its Exif orientation is
    applied, as ``cv2.imdecode`` does; alpha is dropped. :mod:`.video_streams` tells about streams.
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
        :param pix_fmt: ``yuv420p``, ``yuv444p``, either with ``10le``, or ``RGB``.
        :param geometry: What is done to pictures before they are scaled.
        :param recorded_size: (height, width) that each must have, upright; any if None.
        :param value_range: What becomes black and white in grey pictures of more than 8 bits.
        :param remarks: Is told what there is to say of the pictures.
        :param use_cv_bridge: Convert Image messages by cv_bridge, with equal results.
        :raises BagError: The type holds no picture, or its definition is missing.
        """
        self._topic = connection.label
        self._messages = PictureMessages(connection, definitions)
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
        self._streams: dict[tuple[str, str], VideoStream] = {}

    def decode(self, data: bytes | memoryview) -> av.VideoFrame:
        """
        Decode the picture of a message.

        :return: A frame of the wanted size and pixel format, BT.601 in limited range or RGB;
            nothing in it refers to ``data``.
        :raises ImageError: This picture is damaged, or a stream has none for this message.
        :raises BagError: The message does not fit its definition, or the camera's kind of picture
            is not supported.
        """
        results = dict([*self.feed(0, data), *self.flush()])
        return results[0]()

    def feed(
        self, key: int, data: bytes | memoryview
    ) -> list[tuple[int, Callable[[], av.VideoFrame]]]:
        """
        Take the next message, where it may be one of a stream.

        :param key: What the message is called in results.
        :param data: Its payload.
        :return: Messages whose picture is known now, this one or those before it; each with a
            function that gives the frame as :meth:`decode` does.
        :raises BagError: As in :meth:`decode`.
        """
        message = self._messages.decode(data)
        with errors_about(self._topic):
            part = self._messages.compressed(message)
            if part is None:
                return [(key, self._named(self._pixels, message))]
            try:
                codec = codec_of(part.data, part.description)
            except ImageError as error:
                return [(key, self._named(self._fitted, error))]
            if codec not in STREAMS:
                return [(key, self._named(self._still, codec, part))]
            stream = self._streams.get((codec, part.frame_id))
            if stream is None:
                stream = self._streams[codec, part.frame_id] = self._open_stream(codec)
            return self._shown(stream.feed(key, part.data, part.number))

    def flush(self) -> list[tuple[int, Callable[[], av.VideoFrame]]]:
        """
        Return the pictures that are known because no message follows, as :meth:`feed` does.

        :raises BagError: As in :meth:`decode`.
        """
        with errors_about(self._topic):
            return [
                shown for stream in self._streams.values() for shown in self._shown(stream.flush())
            ]

    def _shown(
        self, pictures: Iterable[ShownPicture]
    ) -> list[tuple[int, Callable[[], av.VideoFrame]]]:
        self._refuse_range()
        return [(key, self._named(self._fitted, picture)) for key, picture in pictures]

    def _open_stream(self, codec: str) -> VideoStream:
        return open_stream(codec, self._remarks.stream)

    def _refuse_range(self) -> None:
        if self._range is not None:
            raise BagError('range is for grey pictures, found colours; leave range out')

    def _named(
        self, give: Callable[..., av.VideoFrame], *arguments: Any
    ) -> Callable[[], av.VideoFrame]:
        """Return what calls a function with the topic named in its errors."""

        def named() -> av.VideoFrame:
            with errors_about(self._topic):
                return give(*arguments)

        return named

    def _pixels(self, message: Any) -> av.VideoFrame:
        if message.encoding in raw_images.PLANAR:
            self._refuse_range()
            return self._fitted(raw_images.planar_frame(message))
        picture = self._color_of(message, self._range, self._remarks)
        return self._fitted(av.VideoFrame.from_numpy_buffer(*picture))

    def _still(self, codec: str, part: Compressed) -> av.VideoFrame:
        """Decode a picture that stands alone."""
        if codec not in self._pictures:
            self._pictures[codec] = PictureCodec('mjpeg' if codec == 'jpeg' else codec)
        orientation = 1
        if codec == 'jpeg':
            orientation = self._jpegs.read(part.data).orientation
        elif codec == 'png':
            read_png(part.data)
        else:
            read_webp(part.data)
        picture = self._pictures[codec].decode(part.data)
        return self._fitted(self._colored(picture, part.description), orientation)

    def _fitted(self, picture: av.VideoFrame | ImageError, orientation: int = 1) -> av.VideoFrame:
        if isinstance(picture, ImageError):
            raise picture
        size = (picture.height, picture.width)
        if orientation > 4:
            size = (picture.width, picture.height)
        check_recorded_size(size, self._recorded_size)
        self._remarks.size(*size)
        geometry = self._geometry
        if geometry.crop is not None and orientation == 1:
            geometry.turned(size)
            part = cropped(picture, *geometry.crop)
            if part is not None:
                picture, geometry = part, replace(geometry, crop=None)
                size = (picture.height, picture.width)
        if geometry.is_plain(size):
            return self._fitter.fit(picture, orientation)
        pixels = rgb_pixels(self._rgb_fitter.fit(picture, orientation))
        pixels = np.ascontiguousarray(geometry.applied(pixels))
        return self._fitter.fit(av.VideoFrame.from_numpy_buffer(pixels, 'rgb24'))

    def _colored(self, frame: av.VideoFrame, description: str) -> av.VideoFrame:
        """Give a mosaic its colours, and bring grey of 16 bits to the wanted range."""
        pixels = gray_pixels(frame)
        mosaic = raw_images.mosaic_of(description)
        if description.startswith('bayer_') and 'mono' in description:
            self._remarks.note('the mosaic was made grey before it was compressed')
        if pixels is None:
            self._refuse_range()
            return frame
        if pixels.dtype != np.uint8:
            self._remarks.values(pixels, self._range)
        if not mosaic and self._range is None:
            return frame
        encoding = raw_images.ENCODINGS[mosaic or 'mono8']
        plain = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder('='))
        picture = raw_images.colored(plain, encoding, self._range)
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


class StreamCopier(ColorDecoder):
    """Takes the coded pictures of a stream out of the messages of one camera."""

    def __init__(
        self,
        connection: Connection,
        definitions: Definitions,
        info: PictureInfo,
        remarks: PictureRemarks,
    ) -> None:
        """
        Prepare for a connection.

        :param connection: The camera's.
        :param definitions: Where message definitions come from.
        :param info: Of its first picture, which all must be like.
        :param remarks: Is told what there is to say of the pictures.
        :raises BagError: The type holds no picture, or its definition is missing.
        """
        super().__init__(connection, definitions, remarks=remarks)
        self._codec = info.codec
        self._form = PictureForm(info.height, info.width, info.pix_fmt)

    def _open_stream(self, codec: str) -> VideoStream:
        if codec != self._codec:
            raise self._changed(self._codec, codec)
        return open_stream(codec, self._remarks.stream, decodes=False)

    def _fitted(self, picture: Any, orientation: int = 1) -> Any:
        del orientation
        if isinstance(picture, ImageError):
            raise picture
        found = picture.group.form
        if found != self._form:
            raise self._changed(str(self._form), str(found))
        return picture

    def _still(self, codec: str, part: Compressed) -> Any:
        del part
        raise self._changed(self._codec, codec)

    def _pixels(self, message: Any) -> Any:
        raise self._changed(self._codec, message.encoding)

    @staticmethod
    def _changed(first: str, other: str) -> BagError:
        return BagError(
            f'its pictures change from {first} to {other} and cannot be copied; set video: encode'
        )


def picture_info(
    connection: Connection, definitions: Definitions, data: bytes | memoryview
) -> PictureInfo:
    """
    Read the headers of a message's picture, colour or depth.

    :param connection: Of the message.
    :param definitions: Where message definitions come from.
    :param data: Its payload.
    :return: What the headers say; of a stream that begins here.
    :raises ImageError: The picture is damaged.
    :raises BagError: It is of a kind that is not supported, or the type holds no picture.
    """
    probe = PictureProbe(definitions)
    (found,) = [*probe.feed(0, connection, data), *probe.flush()]
    return found.info


class ProbedPicture(NamedTuple):
    """What the headers of a message's picture say."""

    key: int
    """Of the message."""
    info: PictureInfo
    lacks: str = ''
    """Why a stream has no picture for it, and so its size is not known."""


class PictureProbe:
    """Reads the headers of the pictures of a topic; only those of streams are decoded."""

    def __init__(self, definitions: Definitions) -> None:
        """Use ``definitions`` where a bag embeds none."""
        self._definitions = definitions
        self._streams: dict[tuple[int, str, str], VideoStream] = {}
        self._descriptions: dict[tuple[int, str, str], str] = {}

    def feed(
        self, key: int, connection: Connection, data: bytes | memoryview
    ) -> list[ProbedPicture]:
        """
        Read the headers of the next message's picture, colour or depth.

        :param key: What the message is called in results.
        :param connection: Of the message.
        :param data: Its payload.
        :return: What is known now of messages, this one or, of streams, those before.
        :raises ImageError: The picture is damaged.
        :raises BagError: It is of a kind that is not supported, or the type holds no picture.
        """
        messages = PictureMessages(connection, self._definitions)
        message = messages.decode(data)
        with errors_about(connection.label):
            part = messages.compressed(message)
            if part is None:
                height, width, channels = raw_images.shape_of(message)
                info = PictureInfo(height, width, 'raw', message.encoding, channels)
                return [ProbedPicture(key, info)]
            codec = ''
            if not is_rvl(part.description):
                codec = codec_of(_behind_header(part.data), part.description)
            if codec not in STREAMS:
                return [ProbedPicture(key, _still_info(codec, part))]
            place = (connection.id, codec, part.frame_id)
            if place not in self._streams:
                self._streams[place] = open_stream(codec, Counter())
                self._descriptions[place] = part.description
            shown = self._streams[place].feed(key, part.data, part.number)
            return list(self._probed(place, shown))

    def flush(self) -> list[ProbedPicture]:
        """
        Return what is known of the last messages of streams.

        :raises BagError: They are of a kind that is not supported.
        """
        return [
            found
            for place, stream in self._streams.items()
            for found in self._probed(place, stream.flush())
        ]

    def _probed(
        self, place: tuple[int, str, str], shown: Iterable[ShownPicture]
    ) -> Iterator[ProbedPicture]:
        codec, description = place[1], self._descriptions[place]
        for key, picture in shown:
            if isinstance(picture, av.VideoFrame):
                size, pix_fmt = (picture.height, picture.width), picture.format.name
                info = PictureInfo(*size, codec, description, 3, pix_fmt=pix_fmt)
                yield ProbedPicture(key, info)
            else:
                info = PictureInfo(0, 0, codec, description, 3)
                yield ProbedPicture(key, info, str(picture))


def _behind_header(payload: memoryview) -> memoryview:
    """Return a PNG without the header of compressedDepth, and anything else as it is."""
    is_depth = bytes(payload[slice(DEPTH_HEADER, DEPTH_HEADER + len(PNG_MAGIC))]) == PNG_MAGIC
    return payload[DEPTH_HEADER:] if is_depth else payload


def _still_info(codec: str, part: Compressed) -> PictureInfo:
    """Read the headers of a picture that stands alone; ``codec`` is '' for RVL."""
    payload, description = _behind_header(part.data), part.description
    if not codec:
        begin = rvl.begin_of(payload)
        return PictureInfo(*rvl.read_size(payload[begin:]), 'rvl', description, 1)
    if codec == 'jpeg':
        height, width, channels, orientation = JpegReader().read(payload)
        if orientation > 4:
            height, width = width, height
        return PictureInfo(height, width, codec, description, channels, orientation == 1)
    if codec == 'png':
        png = read_png(payload)
        return PictureInfo(png.height, png.width, codec, description, png.channels)
    return PictureInfo(*read_webp(payload), codec, description, 3)


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
    name = stream_codec(description)
    if name:
        return name
    if begins_with_start_code(payload):
        raise BagError(
            f'a video stream whose format {quoted(description)} is neither h264 nor h265 (nor '
            'av1, vp8, vp9 or theora)'
        )
    if bytes(payload[slice(DEPTH_HEADER, DEPTH_HEADER + len(PNG_MAGIC))]) == PNG_MAGIC:
        raise BagError('compressedDepth pictures; make it a depth camera')
    found = f'starts with {start.hex(" ")}' if start else 'is empty'
    raise ImageError(
        f'the payload (format {quoted(description)}) {found}; expected JPEG, PNG, WebP, H.264 or '
        'H.265'
    )
