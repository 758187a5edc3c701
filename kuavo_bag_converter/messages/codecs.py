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

"""Decoders of libavcodec, one for each camera, that report damage in place of concealing it."""

from __future__ import annotations

from collections.abc import Mapping
import re
from typing import Any, cast

import av
from av.video.codeccontext import VideoCodecContext
from kuavo_bag_converter.messages.picture_headers import MAX_PIXELS
from kuavo_bag_converter.support.errors import BagError, ImageError
from kuavo_bag_converter.support.texts import quoted

_START_CODE = b'\x00\x00\x01'
_NAL = re.compile(re.escape(_START_CODE) + b'(..)', re.DOTALL)
_H264_PICTURE = range(1, 6)
_H264_KEY = 5
_H264_SEI = 6
_RECOVERY_POINT = 6
_HEVC_PICTURE = range(32)
_HEVC_KEY = range(16, 24)


class PictureCodec:
    """Decodes pictures that each stand alone: ``mjpeg``, ``png`` or ``webp``."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._context = _open(name)

    def decode(self, data: memoryview) -> av.VideoFrame:
        """
        Decode one picture; nothing refers to ``data`` afterwards.

        :raises ImageError: The picture is damaged.
        """
        packet = _packet(data)
        # Else the PNG decoder takes it for the difference to the picture before.
        packet.is_keyframe = True
        try:
            frames = self._context.decode(packet)
        except av.FFmpegError as error:
            raise ImageError(f'damaged {self._name} picture ({error.strerror})') from None
        if len(frames) != 1:
            raise ImageError(f'damaged {self._name} picture')
        return frames[0]


class StreamCodec:
    """
    Decodes the access units of an H.264 or H.265 stream (Annex B), one for each message.

    Every message must be fed, in order, also where its picture is not used. A message gives its
    own picture or an error: before the first key frame, and after damage up to the next one, there
    is no picture. Streams that reorder pictures (B-frames) are refused. A message that the
    recorder lost is noticed in H.265 (by FFmpeg 8 and later): the pictures that refer to it do not
    decode. In H.264 libavcodec conceals it.
    """

    def __init__(self, name: str) -> None:
        """``name`` is ``h264`` or ``hevc``."""
        self._name = name
        self._context = _open(name)
        self._fed = 0
        self._has_key = False

    def decode(self, data: memoryview) -> av.VideoFrame:
        """
        Decode the next access unit.

        :raises ImageError: There is no picture for this message.
        :raises BagError: The stream reorders its pictures.
        """
        has_picture, is_key = self._survey(data)
        if has_picture and not (is_key or self._has_key):
            raise ImageError(f'no {self._name} key frame before this picture')
        packet = _packet(data)
        packet.pts = self._fed = self._fed + 1
        try:
            frames = self._context.decode(packet)
        except av.FFmpegError as error:
            if has_picture:
                self._resynchronize()
                raise ImageError(f'damaged {self._name} picture ({error.strerror})') from None
            frames = []
        self._has_key = self._has_key or is_key
        if any(frame.is_corrupt for frame in frames):
            self._resynchronize()
            raise ImageError(f'damaged {self._name} picture')
        if (
            self._context.has_b_frames
            or len(frames) > 1
            or any(f.pts != self._fed for f in frames)
        ):
            raise BagError(
                f'the {self._name} stream reorders its pictures (B-frames), so that messages and '
                'pictures do not match; only streams without B-frames are supported'
            )
        if not frames:
            what = 'its reference is missing' if has_picture else 'it holds parameters only'
            raise ImageError(f'no {self._name} picture in the message: {what}')
        return frames[0]

    def _resynchronize(self) -> None:
        self._context.flush_buffers()
        self._has_key = False

    def _survey(self, data: memoryview) -> tuple[bool, bool]:
        """Tell whether an access unit holds a picture, and whether decoding can begin with it."""
        is_key = False
        for match in _NAL.finditer(data):
            first, second = match[1]
            if self._name == 'hevc':
                kind = first >> 1 & 0x3F
                if kind in _HEVC_PICTURE:
                    return True, kind in _HEVC_KEY
            else:
                kind = first & 0x1F
                if kind in _H264_PICTURE:
                    return True, is_key or kind == _H264_KEY
                is_key = is_key or (kind == _H264_SEI and second == _RECOVERY_POINT)
        return False, False


def stream_codec_name(data: memoryview, description: str) -> str:
    """
    Return the codec of a payload: ``h264``, ``hevc``, or '' if it is no video stream.

    :param data: The payload.
    :param description: What the message says about its format.
    :raises BagError: It is a stream, but the description names no known codec.
    """
    if data[:3] != _START_CODE and data[:4] != b'\0' + _START_CODE:
        return ''
    names: Mapping[str, tuple[str, ...]] = {'h264': ('264', 'avc'), 'hevc': ('265', 'hevc')}
    for name, signs in names.items():
        if any(sign in description.lower() for sign in signs):
            return name
    raise BagError(f'a video stream whose format {quoted(description)} is neither h264 nor h265')


def _open(name: str) -> VideoCodecContext:
    context = cast('VideoCodecContext', av.CodecContext.create(name, 'r'))
    context.thread_count = 1
    context.options = {'err_detect': 'explode', 'max_pixels': str(MAX_PIXELS)}
    return context


def _packet(data: memoryview) -> av.Packet[Any]:
    """Copy a payload: libavcodec reads past its end and may keep it."""
    packet: av.Packet[Any] = av.Packet(len(data))
    packet.update(data)  # type: ignore[arg-type]  # takes any buffer
    return packet
