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

"""Decoders of libavcodec that report damage in place of concealing it."""

from __future__ import annotations

from typing import Any, cast

import av
from av.video.codeccontext import VideoCodecContext
from kuavo_bag_converter.messages.picture_headers import MAX_PIXELS
from kuavo_bag_converter.support.errors import ImageError

_DECODERS = {'av1': 'libdav1d'}
"""Where the decoder of a codec has another name; libavcodec's own for AV1 needs a GPU."""


class PictureCodec:
    """Decodes pictures that each stand alone: ``mjpeg``, ``png`` or ``webp``."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._context = open_decoder(name)

    def decode(self, data: memoryview) -> av.VideoFrame:
        """
        Decode one picture; nothing refers to ``data`` afterwards.

        :raises ImageError: The picture is damaged.
        """
        packet = packet_of(data)
        # Else the PNG decoder takes it for the difference to the picture before.
        packet.is_keyframe = True
        try:
            frames = self._context.decode(packet)
        except av.FFmpegError as error:
            raise ImageError(f'damaged {self._name} picture ({error.strerror})') from None
        if len(frames) != 1:
            raise ImageError(f'damaged {self._name} picture')
        return frames[0]


def open_decoder(name: str) -> VideoCodecContext:
    """Return a decoder of one thread, which does not conceal what it knows to be damaged."""
    context = cast('VideoCodecContext', av.CodecContext.create(_DECODERS.get(name, name), 'r'))
    context.thread_count = 1
    context.options = {'err_detect': 'explode', 'max_pixels': str(MAX_PIXELS)}
    return context


def packet_of(data: memoryview) -> av.Packet[Any]:
    """Copy a payload: libavcodec reads past its end and may keep it."""
    packet: av.Packet[Any] = av.Packet(len(data))
    packet.update(data)  # type: ignore[arg-type]  # takes any buffer
    return packet
