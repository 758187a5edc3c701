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
A stream's own pictures into an MP4 file, frame by frame; only what they cannot be is encoded.

A video is decoded from key frame to key frame, so a picture can be copied if it is an IDR picture
(another key frame of H.265: if the frame before is encoded, as an IDR picture),
or if that of the frame before is copied and comes before it in the stream, too. Any other one (the
first of an episode between two key frames, one that is shown again, one before which some are left
out) is encoded with its codec, size and pixel format, and so are those behind it up to the next
IDR picture. Every key frame has its parameter sets in itself, by which decoders follow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

import av
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.stream import VideoStream
from kuavo_bag_converter.dataset.encoders import open_encoder, software_encoder
from kuavo_bag_converter.dataset.statistics import KeyFrameSample
from kuavo_bag_converter.dataset.video import CameraWriter
from kuavo_bag_converter.messages.coded_pictures import CodedPicture
from kuavo_bag_converter.support.errors import BagError, ImageError, UsageError
from kuavo_bag_converter.support.stages import staged

_PARAMETERS = {'h264': 'x264-params', 'hevc': 'x265-params'}


class StreamWriter(CameraWriter[CodedPicture]):
    """
    Stores the pictures of an H.264 or H.265 stream.

    :param may_encode: Whether pictures that cannot be copied are encoded; else they are refused.
    :ivar encoded: Frames that were encoded.
    """

    def __init__(self, *arguments: Any, may_encode: bool = True, **named: Any) -> None:
        self.encoded = 0
        self._may_encode = may_encode
        self._before: CodedPicture | None = None
        """The picture of the frame before."""
        self._encoder: VideoCodecContext | None = None
        self._held: tuple[int, av.VideoFrame] | None = None
        """The frame before, if it is to be encoded."""
        self._key = 0
        """The last key frame that was encoded."""
        super().__init__(*arguments, **named)
        self._sample = None if self._statistics is None else KeyFrameSample(self._statistics)

    def _check(self) -> None:
        if not self._options.copied:
            raise UsageError(f'{self._feature.key}: streams are copied, not encoded')

    def _open(self) -> None:
        """Leave it to the first picture, which has the parameter sets."""

    @staged('copy')
    def write(self, picture: CodedPicture) -> None:
        """
        Store the next frame's picture.

        :raises BagError: It cannot be copied, and must be or cannot be decoded.
        :raises DatasetError: It is one too many.
        """
        index = self._take()
        if not index:
            group = picture.group
            self._mp4.add_coded(group.codec, group.begin)
            self.join_key = f'{group.codec} {group.form} {group.sets.hex()}'
        begins = index in self._starts
        copied = self._before if self._held is None else None
        follows = copied is not None and picture.follows(copied) and not begins
        parted = picture.counts_on and self._held is not None and not begins
        if picture.restarts or parted or (follows and (picture.place or picture.is_key)):
            self._finish_encoding(parts=parted)
            self._copy(index, picture)
        else:
            self._encode(index, picture, begins=begins)
        self._before = picture
        picture.group.pass_by(picture.place)

    def _copy(self, index: int, picture: CodedPicture) -> None:
        give = partial(self._decoded, index, picture)
        self._add_to_statistics(index, give, is_key=picture.is_key)
        packet = cast('Packet[VideoStream]', Packet(picture.stored))
        packet.is_keyframe = picture.is_key
        self._mux(packet)

    def _encode(self, index: int, picture: CodedPicture, *, begins: bool) -> None:
        if not self._may_encode:
            reason = self._reason(picture, begins)
            raise BagError(
                f'{self._feature.key}: video: copy: frame {index} {reason}; set video: auto to '
                'encode such frames'
            )
        frame = self._decoded(index, picture)
        if self._encoder is None:
            self._encoder = self._open_encoder(frame, picture.group.color_tags)
            self._key = index
        self._encode_held(is_key=False)
        self._held = index, frame
        self.encoded += 1

    def _encode_held(self, *, is_key: bool) -> None:
        """Encode the frame that was held, as a key frame if it must be one or ``is_key``."""
        if self._held is None or self._encoder is None:
            return
        index, frame = self._held
        self._held = None
        due = index in self._starts or (index - self._key) % self._options.gop == 0
        if due or is_key:
            self._key = index
        self._add_to_statistics(index, lambda: frame, is_key=due or is_key)
        frame.pts = index
        frame.time_base = self._time_base
        frame.pict_type = PictureType.I if due or is_key else PictureType.NONE
        for packet in self._encoder.encode(frame):
            self._mux_encoded(packet)

    def _reason(self, picture: CodedPicture, begins: bool) -> str:
        if begins:
            return 'begins an episode and is no IDR picture'
        if picture == self._before:
            return 'shows the picture of the frame before'
        return 'does not show the picture behind that of the frame before'

    def _add_to_statistics(
        self, index: int, give: Callable[[], av.VideoFrame], *, is_key: bool
    ) -> None:
        if self._statistics is None or self._sample is None:
            return
        times = self._sample.times(index, is_key=is_key, begins=index in self._starts)
        if times:
            self._statistics.add_frame(index, give(), times)

    @staged('decode')
    def _decoded(self, index: int, picture: CodedPicture) -> av.VideoFrame:
        try:
            return picture.decoded()
        except ImageError as error:
            raise BagError(
                f'{self._feature.key}: frame {index}: {error}; set video: encode, with which '
                'on_bad_image says what becomes of it'
            ) from None

    def _open_encoder(self, frame: av.VideoFrame, tags: Mapping[str, int]) -> VideoCodecContext:
        """
        Return an encoder whose stream can be joined to that of pictures like this one.

        Its key frames come when they are due and at no other time, as statistics expect it.
        """
        options = replace(self._options, pix_fmt=frame.format.name)
        context = software_encoder(options, frame.height, frame.width, 1 / self._time_base)
        for name, number in tags.items():
            setattr(context, name, number)
        more = _PARAMETERS[options.vcodec]
        words = [context.options[more]] if more in context.options else []
        context.options = {**context.options, more: ':'.join([*words, 'scenecut=0'])}
        open_encoder(context, options)
        return context

    def _finish_encoding(self, *, parts: bool = False) -> None:
        """
        End what is encoded.

        With ``parts``, its last frame is an IDR picture: then decoders hold no other one, whose
        order count could be that of the picture that follows.
        """
        self._encode_held(is_key=parts)
        if self._encoder is not None:
            for packet in self._encoder.encode(None):
                self._mux_encoded(packet)
            self._encoder = None

    def close(self) -> None:
        """
        Encode what the encoder still holds and make the file durable.

        :raises DatasetError: Fewer frames were given than announced; the file is removed.
        """
        self._finish_encoding()
        super().close()
