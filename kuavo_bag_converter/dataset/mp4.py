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
MP4 files with one video stream at a constant frame rate: frame k is shown at k / fps.

LeRobot's readers find a frame by its time alone (``round(t * average_fps)`` or the nearest time
stamp within 1e-4 s), so the first time stamp is 0, no frame is missing and the average rate that
the file states is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from io import BytesIO
from itertools import islice
import math
import os
from pathlib import Path
from typing import cast

import av
from av.codec.codec import UnknownCodecError
from av.codec.hwaccel import HWAccel
from av.container import OutputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream
from kuavo_bag_converter.support.errors import DatasetError, UsageError
from kuavo_bag_converter.support.files import sync

# An upper bound of what the sample tables of one frame take in the index (sizes, key frames,
# offsets, chunks, dependencies), and of everything else in it.
_INDEX_BYTES_PER_FRAME = 32
_INDEX_BYTES = 8192

# The index says all that copying needs; FFmpeg would decode the first frames to learn more.
_NO_PROBING = {'probesize': '32', 'analyzeduration': '0', 'skip_frame': 'all'}


def frame_rate(fps: float) -> Fraction:
    """
    Return the exact rate that the MP4 time base uses for ``fps``.

    :raises UsageError: ``fps`` is not positive, or no fraction with a denominator up to 1001 is
        it.
    """
    rate = Fraction(fps).limit_denominator(1001) if 0 < fps < math.inf else Fraction(0)
    if rate == 0 or abs(float(rate) - fps) > 1e-9 * fps:
        raise UsageError(f'fps {fps}: a video needs a positive rate such as 10, 15.5 or 29.97')
    return rate


DESCRIBES_ENCODERS = int(av.__version__.partition('.')[0]) >= 18
"""
Whether a stream can be described by an encoder of another file: former versions of PyAV open a
second one for it, with other settings, or lose the frame rate.
"""


class StreamEncoder:
    """
    An encoder for streams of MP4 files, of which each may get packets of several encoders.

    :ivar context: The encoder, to be opened by the caller.
    """

    def __init__(
        self,
        encoder: str,
        width: int,
        height: int,
        pix_fmt: str,
        *,
        frame_rate: Fraction,
        options: dict[str, str],
        device: str = '',
        file: Mp4Writer | None = None,
    ) -> None:
        """
        Prepare an encoder.

        :param encoder: By FFmpeg's name.
        :param width: In pixels.
        :param height: In pixels.
        :param pix_fmt: By FFmpeg's name.
        :param frame_rate: Frames per second.
        :param options: Of the encoder, by FFmpeg's names.
        :param device: Kind of the device that pictures are uploaded to, by FFmpeg's name; '' for
            none.
        :param file: That gets the stream, and keeps the encoder as long as it is open; else it is
            added by :meth:`description`.
        :raises UsageError: There is no such encoder or device here.
        """
        # FFmpeg describes a stream only for a file, which nobody needs here.
        container = av.open(os.devnull, 'w', format='mp4') if file is None else file._container
        self._container: OutputContainer | None = container if file is None else None
        try:
            stream = container.add_stream(
                encoder,
                rate=frame_rate,
                options=options,
                width=width,
                height=height,
                pix_fmt=pix_fmt,
                **({'hwaccel': HWAccel(device)} if device else {}),
            )
        except (UnknownCodecError, TypeError, NotImplementedError, av.FFmpegError) as error:
            raise UsageError(f'PyAV {av.__version__} cannot use {encoder} ({error})') from error
        self._stream = cast('VideoStream', stream)
        self.context: VideoCodecContext = self._stream.codec_context
        self.context.time_base = 1 / frame_rate
        if file is not None:
            file._stream = self._stream

    @property
    def parameters(self) -> bytes:
        """Return what decoders need before the first packet; known once the encoder is open."""
        return bytes(self.context.extradata or b'')

    def description(self) -> VideoStream:
        """Return a description of the stream, for :meth:`Mp4Writer.add_copy`."""
        if self._container is not None:
            self._container.start_encoding()
        return self._stream

    def close(self) -> None:
        """Give its memory back, which else waits for the garbage collector."""
        if self._container is not None:
            self._container.close()


class Mp4Writer:
    """
    Writes the packets of one stream; the index stands in front and the file is written once.

    :param path: The file; it must not be in use.
    :param rate: Frames per second.
    :param frames: How many packets will come.
    """

    def __init__(self, path: Path, rate: Fraction, frames: int) -> None:
        self.path = path
        self.written = 0
        self._frames = frames
        self._time_base = 1 / rate
        self._stream: VideoStream | None = None
        reserved = _INDEX_BYTES_PER_FRAME * frames + _INDEX_BYTES
        self._container: OutputContainer = av.open(
            str(path),
            'w',
            format='mp4',
            container_options={'moov_size': str(reserved), 'fflags': '+bitexact'},
        )

    def __enter__(self) -> Mp4Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def add_copy(self, template: VideoStream) -> None:
        """Add the stream for packets copied from another file's stream."""
        self._stream = self._container.add_stream_from_template(template, opaque=True)

    def add_coded(self, codec: str, begin: bytes) -> None:
        """
        Add the stream for packets of H.264 or H.265 whose key frames have their parameter sets.

        So the stream may change its encoder at a key frame.

        :param codec: ``h264`` or ``hevc``.
        :param begin: An access unit with parameter sets, in Annex B.
        :raises DatasetError: It does not tell what the stream is.
        """
        try:
            with av.open(BytesIO(begin), format=codec) as source:
                self.add_copy(source.streams.video[0])
        except (av.FFmpegError, IndexError) as error:
            raise DatasetError(f'{self.path.name}: no {codec} stream ({error})') from error
        assert self._stream is not None
        self._stream.time_base = self._time_base
        if codec == 'h264':
            self._stream.codec_context.codec_tag = 'avc3'  # as hev1, the default of HEVC

    def mux(self, packet: Packet[VideoStream]) -> None:
        """Write the packet of the next frame; a stream has been added."""
        if self._stream is None:
            raise RuntimeError('mux() before a stream was added')
        packet.stream = self._stream
        packet.time_base = self._time_base
        packet.pts = packet.dts = self.written
        packet.duration = 1
        self._container.mux_one(packet)
        self.written += 1

    def close(self) -> None:
        """
        Finish the file and make it durable.

        :raises DatasetError: The number of packets is not the announced one; the file is removed.
        """
        if self.written != self._frames:
            self.abort()
            raise DatasetError(
                f'{self.path.name}: {self.written} video frames were written, {self._frames} '
                'were announced'
            )
        self._container.close()
        sync(self.path)

    def abort(self) -> None:
        """Remove the file."""
        with suppress(OSError, av.FFmpegError):  # what stopped the writing stops its end, too
            self._container.close()
        self.path.unlink(missing_ok=True)


def read_packets(
    path: Path, first: int, count: int
) -> Iterator[tuple[VideoStream, Packet[VideoStream]]]:
    """
    Yield the packets of the frames ``first`` to ``first + count - 1`` with their stream.

    :raises DatasetError: The file ends early, or frame ``first`` is not a key frame.
    """
    found = 0
    try:
        with av.open(str(path), options=_NO_PROBING) as container:
            stream = container.streams.video[0]
            ticks = _ticks_per_frame(path, stream)
            if first:
                container.seek(first * ticks, stream=stream)
            for packet in islice(container.demux(stream), count):
                if packet.size == 0:
                    break
                expected = (first + found) * ticks
                if packet.pts != expected or not (found or packet.is_keyframe):
                    raise DatasetError(
                        f'{path}: frame {first + found} is not where it should be (time stamp '
                        f'{packet.pts}, expected {expected}, key frame {packet.is_keyframe})'
                    )
                found += 1
                yield stream, packet
    except (av.FFmpegError, IndexError) as error:
        raise DatasetError(f'{path}: cannot be read as a video ({error})') from error
    if found != count:
        raise DatasetError(f'{path}: ends after frame {first + found - 1}')


def _ticks_per_frame(path: Path, stream: VideoStream) -> int:
    if stream.time_base is None or stream.average_rate is None:
        raise DatasetError(f'{path}: not a video with a constant frame rate')
    ticks = 1 / (stream.average_rate * stream.time_base)
    if ticks.denominator != 1:
        raise DatasetError(f'{path}: frames at {stream.average_rate} Hz are not at whole ticks')
    return int(ticks)
