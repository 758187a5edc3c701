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
One camera's frames into one MP4 file, in order, blocking, none dropped.

Colour is coded as BT.601 in limited range, which is what LeRobot's readers take an untagged file
for. Tags in the stream and in the file say so to players that would guess BT.709 for larger
pictures; browsers heed them where primaries and transfer are named, too. They change nothing in
what torchcodec and PyAV decode.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
import threading
from typing import Any, cast, Generic, TypeVar

import av
from av.codec import CodecContext
from av.error import InvalidDataError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.stream import VideoStream
from kuavo_bag_converter.dataset.depth import code_table
from kuavo_bag_converter.dataset.encoders import (
    check_video_options,
    check_video_size,
    COPY,
    encoder_setup,
    extra_options,
    open_encoder,
    SOFTWARE,
)
from kuavo_bag_converter.dataset.features import Feature, VideoOptions
from kuavo_bag_converter.dataset.mp4 import (
    DESCRIBES_ENCODERS,
    frame_rate,
    Mp4Writer,
    StreamEncoder,
)
from kuavo_bag_converter.dataset.statistics import ImageStatistics
from kuavo_bag_converter.messages.picture_headers import JPEG_MAGIC, JpegReader
from kuavo_bag_converter.settings import HARDWARE_ENCODERS
from kuavo_bag_converter.support.errors import BagError, DatasetError, ImageError, UsageError
from kuavo_bag_converter.support.process import release_memory
from kuavo_bag_converter.support.stages import staged
import numpy as np
from numpy.typing import NDArray

_SRGB_AS_BT601 = {
    'color_primaries': 1, 'color_trc': 13, 'colorspace': 6, 'color_range': 1,
}  # fmt: skip
"""By the numbers of ITU-T H.273: sRGB, BT.601's matrix, limited range."""
_STRETCH = 160
"""Least frames for each of which an encoder is opened, which costs as much as one frame does."""


_OWN_KEY_FRAMES = {'video.g': None}
"""In the ``info`` of copied streams: key frames come as the camera has sent them."""


def video_info(feature: Feature, options: VideoOptions, fps: float) -> dict[str, Any]:
    """
    Return the ``info`` of a video feature, with LeRobot 0.6's keys.

    For copied JPEG pictures the codec and its settings are left out: LeRobot's editing tools
    refuse a codec that they cannot encode, and fall back to their default when none is named.
    """
    info = _stream_info(feature, options, fps)
    if options.copied:
        info |= _OWN_KEY_FRAMES
    elif options.vcodec != COPY:
        preset = int(options.preset) if options.vcodec == 'libsvtav1' else options.preset
        info |= {
            'video.g': options.gop,
            'video.crf': options.crf,
            'video.preset': preset,
            'video.fast_decode': 0,
            'video.video_backend': 'pyav',
            'video.extra_options': extra_options(options),
        }
        if not HARDWARE_ENCODERS.keys().isdisjoint(options.encoders):
            for name in ('video.preset', 'video.extra_options'):  # of the software encoder
                del info[name]
    info['is_depth_map'] = feature.depth is not None
    if feature.depth is not None:
        info |= {
            'depth_unit': 'mm',
            'video.depth_min': feature.depth.depth_min,
            'video.depth_max': feature.depth.depth_max,
            'video.shift': feature.depth.shift,
            'video.use_log': feature.depth.use_log,
        }
    return info


def video_info_v21(feature: Feature, options: VideoOptions, fps: float) -> dict[str, Any]:
    """Return the ``info`` of a video feature, with LeRobot 0.3's keys."""
    own = _OWN_KEY_FRAMES if options.copied else {}
    return _stream_info(feature, options, fps) | own | {'video.is_depth_map': False}


def _stream_info(feature: Feature, options: VideoOptions, fps: float) -> dict[str, Any]:
    height, width, channels = feature.shape
    info: dict[str, Any] = {'video.height': height, 'video.width': width}
    if options.vcodec != COPY:
        codec = 'av1' if options.vcodec == 'libsvtav1' else options.vcodec
        info |= {'video.codec': codec, 'video.pix_fmt': options.pix_fmt}
    return info | {'video.fps': fps, 'video.channels': channels, 'has_audio': False}


def copies_jpegs(info: Mapping[str, Any]) -> bool:
    """Tell by the ``info`` of a video feature whether it has the JPEG pictures of its bags."""
    return 'video.codec' not in info


def copies_streams(info: Mapping[str, Any]) -> bool:
    """Tell by the ``info`` of a video feature whether it has pictures of its bags' streams."""
    return not copies_jpegs(info) and info.get('video.g', 0) is None


PictureT = TypeVar('PictureT')


class CameraWriter(ABC, Generic[PictureT]):
    """
    Writes one camera's file; ``PictureT`` is what it takes for a frame.

    :param path: The MP4 file.
    :param feature: Of the camera; its frames have this shape.
    :param options: Encoder settings.
    :param fps: Frames per second.
    :param episode_lengths: Frames of each episode; each begins with a key frame.
    :param statistics: Gets the pictures that it wants, before they are encoded.
    :raises UsageError: Pictures of this kind cannot become the feature's, or not with these
        settings.
    :ivar path: The file.
    :ivar episode_bytes: Size of the packets of each episode, as the encoder gave them.
    :ivar join_key: Files of one key can be joined packet by packet; known once closed.
    :ivar encoder: FFmpeg's name of what encodes; '' if nothing does.
    :ivar remarks: What there is to say of encoders that were not used, each in a line.
    """

    def __init__(
        self,
        path: Path,
        feature: Feature,
        options: VideoOptions,
        *,
        fps: float,
        episode_lengths: Sequence[int],
        statistics: ImageStatistics | None = None,
    ) -> None:
        self.path = path
        self.frames = 0
        self.episode_bytes = [0] * len(episode_lengths)
        self.join_key = ''
        self.encoder = ''
        self.remarks: list[str] = []
        self._feature = feature
        self._options = options
        self._height, self._width, _ = feature.shape
        self._statistics = statistics
        self._check()
        self._ends = list(accumulate(episode_lengths))
        self._starts = frozenset(
            end - length for end, length in zip(self._ends, episode_lengths, strict=True)
        )
        rate = frame_rate(fps)
        self._time_base = 1 / rate
        self._mp4 = Mp4Writer(path, rate, self._ends[-1])
        self._episode = 0
        self._open()

    @abstractmethod
    def write(self, picture: PictureT) -> None:
        """
        Append the next frame.

        :raises DatasetError: The picture has another form than the feature, or is one too many.
        """

    @abstractmethod
    def _check(self) -> None:
        """Refuse a feature or settings that are not for pictures of this kind."""

    @abstractmethod
    def _open(self) -> None:
        """Add the stream to the file."""

    def _take(self) -> int:
        """Return the number of the next frame."""
        if self.frames == self._ends[-1]:
            raise DatasetError(
                f'{self.path.name}: more than the announced {self.frames} frames were given'
            )
        self.frames += 1
        return self.frames - 1

    def _mux_encoded(self, packet: Packet[VideoStream]) -> None:
        frame_index = self._mp4.written
        if packet.pts != frame_index or packet.dts != frame_index:
            raise DatasetError(
                f'{self.path.name}: the encoder returned frame {packet.pts} in place of '
                f'{frame_index}'
            )
        if self._needs_key(frame_index) and not packet.is_keyframe:
            raise DatasetError(f'{self.path.name}: frame {frame_index} is not a key frame')
        self._mux(packet)

    def _needs_key(self, frame_index: int) -> bool:
        """Tell whether a frame must be a key frame."""
        return frame_index in self._starts

    def _mux(self, packet: Packet[VideoStream]) -> None:
        frame_index = self._mp4.written
        if frame_index == self._ends[self._episode]:
            self._episode += 1
        self.episode_bytes[self._episode] += packet.size
        self._mp4.mux(packet)

    def close(self) -> None:
        """
        Write what is left and make the file durable.

        :raises DatasetError: Fewer frames were given than announced; the file is removed.
        """
        self._mp4.close()

    def abort(self) -> None:
        """Stop and remove the file."""
        self._mp4.abort()


def stretches_of(episode_lengths: Sequence[int], gop: int) -> list[range]:
    """
    Part frames into stretches that can be encoded beside each other.

    Each begins where a key frame is: at the beginning of an episode, or whole groups of pictures
    behind it. All have :data:`_STRETCH` frames or more, the last one half of it, if there are so
    many.
    """
    frames = sum(episode_lengths)
    starts = [0]
    episode = 0
    for length in episode_lengths:
        key = episode
        while key < episode + length and frames - key >= _STRETCH // 2:
            if key - starts[-1] >= _STRETCH:
                starts.append(key)
            missing = starts[-1] + _STRETCH - key
            key += max(1, -(-missing // gop)) * gop
        episode += length
    return [range(*pair) for pair in pairwise([*starts, frames])]


class EncodingWriter(CameraWriter[PictureT]):
    """
    Encodes frames as they come, those of every stretch with an encoder of their own.

    So stretches can be encoded by several threads, and the file is the same however many there
    are: :meth:`stretch` gives what writes the frames of one, and their packets are put into the
    file in the order of the frames. :meth:`write` does so for one stretch after the other.

    :ivar stretches: The frames of each stretch.
    """

    def _open(self) -> None:
        self._expected = (self._width, self._height, self._options.pix_fmt)
        self._lock = threading.Lock()
        self._joined = 0
        """The first stretch of which packets are missing in the file."""
        self._ahead: dict[int, list[Packet[VideoStream]]] = {}
        """Packets of stretches behind that one."""
        self._ended: set[int] = set()
        self._opened = -1
        """The stretch that :meth:`write` has come to."""
        self._current: StretchWriter[PictureT] | None = None
        *others, last = self._options.encoders or (SOFTWARE,)
        try:
            found = next(filter(None, map(self._tried, others)), None)
            first = found or self._encoder(last)
            self._parameters = first.parameters
            if DESCRIBES_ENCODERS:
                self._mp4.add_copy(first.description())
            else:
                first.close()
                first = self._encoder(self._chosen, self._mp4)
            self._first: StreamEncoder | None = first
        except UsageError:
            self.abort()
            raise
        self.stretches = [range(self._ends[-1])]
        if self.encoder not in HARDWARE_ENCODERS:  # of which few can be open at a time
            lengths = [end - start for start, end in pairwise([0, *self._ends])]
            self.stretches = stretches_of(lengths, self._options.gop)

    def _tried(self, encoder: str) -> StreamEncoder | None:
        """Open an encoder that may fail, such as of a card whose sessions are all in use."""
        try:
            return self._encoder(encoder)
        except UsageError as error:
            self.remarks.append(f'{self._feature.key}: {encoder} was not used: {error}')
            return None

    def _check(self) -> None:
        check_video_options(self._options)
        check_video_size(self._options, self._height, self._width)

    @abstractmethod
    def _frame_of(self, index: int, picture: PictureT) -> av.VideoFrame:
        """
        Return what is to be encoded of a picture, after the statistics have seen it.

        :raises DatasetError: The picture has another form than the feature.
        """

    def _encoder(self, encoder: str, file: Mp4Writer | None = None) -> StreamEncoder:
        options, rate = self._options, 1 / self._time_base
        setup = encoder_setup(options, encoder, self._height, self._width, float(rate))
        opened = StreamEncoder(
            setup.name,
            self._width,
            self._height,
            setup.pix_fmt,
            frame_rate=rate,
            options=setup.options,
            device=setup.device,
            file=file,
        )
        if not options.pix_fmt.startswith('gray'):
            for name, number in _SRGB_AS_BT601.items():
                setattr(opened.context, name, number)
        open_encoder(opened.context, options)
        self.encoder, self._chosen = setup.name, encoder
        return opened

    def stretch(self, number: int) -> StretchWriter[PictureT]:
        """
        Return what writes the frames of a stretch.

        :param number: Of the stretch, each of which is asked for once.
        """
        with self._lock:
            encoder, self._first = self._first, None
        encoder = encoder or self._encoder(self._chosen)
        if encoder.parameters != self._parameters:
            raise DatasetError(f'{self.path.name}: encoders of one camera differ')
        self.join_key = f'{encoder.context.name} {self._expected} {self._parameters.hex()}'
        return StretchWriter(self, number, encoder)

    def write(self, picture: PictureT) -> None:
        """
        Encode the next frame.

        :raises DatasetError: The picture has another form than the feature, or is one too many.
        """
        if self._current is None or self._current.is_complete:
            if self._opened + 1 == len(self.stretches):
                raise DatasetError(
                    f'{self.path.name}: more than the announced {self._ends[-1]} frames were given'
                )
            self._opened += 1
            self._current = self.stretch(self._opened)
        self._current.write(picture)

    def close(self) -> None:
        """
        Make the file durable.

        :raises DatasetError: Fewer frames were given than announced; the file is removed.
        """
        if self._current is not None and not self._current.is_complete:
            self._current.end()
        self._current = self._first = None
        super().close()

    def abort(self) -> None:
        """Stop and remove the file."""
        self._current = self._first = None
        super().abort()

    def _join(self, number: int, packets: Iterable[Packet[VideoStream]], *, last: bool) -> None:
        """Put packets into the file, as soon as those of all stretches before are in it."""
        with self._lock:
            self._ahead.setdefault(number, []).extend(packets)
            if last:
                self._ended.add(number)
            while self._joined in self._ahead:
                for packet in self._ahead.pop(self._joined):
                    self._mux_encoded(packet)
                if self._joined not in self._ended:
                    break
                self._ended.remove(self._joined)
                self._joined += 1

    def _needs_key(self, frame_index: int) -> bool:
        start = self.stretches[self._joined].start
        return frame_index == start or super()._needs_key(frame_index)


class StretchWriter(Generic[PictureT]):
    """Encodes the frames of one stretch; used by one thread at a time."""

    def __init__(
        self, writer: EncodingWriter[PictureT], number: int, encoder: StreamEncoder
    ) -> None:
        """Begin a stretch of a camera's frames with an encoder that is open."""
        self._writer = writer
        self._number = number
        self._encoder: StreamEncoder | None = encoder
        self._index = writer.stretches[number].start

    @property
    def is_complete(self) -> bool:
        """Whether all frames were given."""
        return self._encoder is None

    @staged('encode')
    def write(self, picture: PictureT) -> None:
        """
        Encode the next frame.

        :raises DatasetError: The picture has another form than the feature, or is one too many.
        """
        writer, index = self._writer, self._index
        if self._encoder is None:
            raise DatasetError(f'{writer.path.name}: more frames than stretch {self._number} has')
        frame = writer._frame_of(index, picture)
        frame.pts = index
        frame.time_base = writer._time_base
        frame.pict_type = PictureType.I if index in writer._starts else PictureType.NONE
        writer._join(self._number, self._packets(self._encoder.context, frame), last=False)
        self._index += 1
        if self._index == writer.stretches[self._number].stop:
            self.end()

    def _packets(
        self, context: VideoCodecContext, frame: av.VideoFrame | None
    ) -> list[Packet[VideoStream]]:
        try:
            return cast('list[Packet[VideoStream]]', context.encode(frame))
        except av.FFmpegError as error:
            raise DatasetError(
                f'{self._writer.path.name}: {context.name} failed at frame {self._index} '
                f'({error.strerror})'
            ) from error

    def end(self) -> None:
        """Encode what the encoder still holds, close it and give its memory back."""
        if self._encoder is not None:
            packets = self._packets(self._encoder.context, None)
            self._encoder.close()
            self._encoder = None  # and nobody else has it
            release_memory()
            self._writer._join(self._number, packets, last=True)


class VideoWriter(EncodingWriter[av.VideoFrame]):
    """Encodes colour frames."""

    def _check(self) -> None:
        if self._options.vcodec == COPY:
            raise UsageError(
                f'{self._feature.key}: vcodec {COPY} copies JPEG pictures; it cannot take frames'
            )
        super()._check()

    def _frame_of(self, index: int, picture: av.VideoFrame) -> av.VideoFrame:
        """Return the picture, which has the encoder's size and pixel format."""
        found = (picture.width, picture.height, picture.format.name)
        if found != self._expected:
            raise DatasetError(
                f'{self.path.name}: frame {index} is {found}, the encoder was set up for '
                f'{self._expected}'
            )
        if self._statistics is not None and self._statistics.wants(index):
            self._statistics.add_frame(index, picture)
        return picture


class DepthWriter(EncodingWriter[NDArray[np.uint16]]):
    """Stores metric depth without loss of its 12-bit codes (HEVC gray12le, as LeRobot >= 0.6)."""

    def _check(self) -> None:
        if self._feature.depth is None:
            raise UsageError(f'{self._feature.key}: is not a metric depth feature')
        self._codes = code_table(self._feature.depth)
        super()._check()

    def _frame_of(self, index: int, picture: NDArray[np.uint16]) -> av.VideoFrame:
        """Return the codes of a depth map: (height, width), millimetres, 0 where there is none."""
        width, height, pix_fmt = self._expected
        if picture.shape != (height, width) or picture.dtype != np.uint16:
            raise DatasetError(
                f'{self.path.name}: depth map {index} is {picture.dtype}{picture.shape}, '
                f'expected uint16{(height, width)}'
            )
        if self._statistics is not None and self._statistics.wants(index):
            self._statistics.add_array(index, picture)
        return av.VideoFrame.from_ndarray(self._codes[picture], format=pix_fmt)


class PacketWriter(CameraWriter[bytes | memoryview]):
    """Stores JPEG pictures as they are; those that statistics need are decoded for them."""

    def _open(self) -> None:
        self._expected = (self._width, self._height)
        self._decoder = cast('VideoCodecContext', CodecContext.create(COPY, 'r'))
        self._decoder.thread_count = 1
        self._jpegs = JpegReader()
        rate = 1 / self._time_base  # of an encoder that has nothing to encode
        StreamEncoder(
            COPY, *self._expected, 'yuvj420p', frame_rate=rate, options={}, file=self._mp4
        )
        self.join_key = f'{COPY} {self._expected}'

    def _check(self) -> None:
        if self._options.vcodec != COPY:
            raise UsageError(f'{self._feature.key}: copying JPEG pictures needs vcodec {COPY}')

    def write(self, picture: bytes | memoryview) -> None:
        """
        Store the next frame's JPEG picture.

        :raises DatasetError: It is not a JPEG picture of the expected size, or one too many.
        """
        self._check_size(picture)
        index = self._take()
        packet = cast('Packet[VideoStream]', Packet(bytes(picture)))
        packet.is_keyframe = True
        if self._statistics is not None and self._statistics.wants(index):
            self._statistics.add_frame(index, self._decode(packet))
        self._mux(packet)

    def _check_size(self, jpeg: bytes | memoryview) -> None:
        width, height = self._expected
        try:
            header = self._jpegs.read(memoryview(jpeg))
            found = f'{header.width}x{header.height}'
        except (ImageError, BagError):
            damaged = bytes(jpeg[: len(JPEG_MAGIC)]) == JPEG_MAGIC
            found = 'a damaged JPEG' if damaged else 'not a JPEG'
        if found != f'{width}x{height}':
            raise DatasetError(
                f'{self.path.name}: picture {self.frames} is {found}, expected '
                f'JPEG {width}x{height}'
            )

    def _decode(self, packet: Packet[VideoStream]) -> av.VideoFrame:
        try:
            frames = self._decoder.decode(packet)
        except InvalidDataError as error:
            raise DatasetError(
                f'{self.path.name}: picture {self.frames - 1} is a damaged JPEG ({error})'
            ) from error
        return frames[0]
