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

"""Encoders in hardware: whether one works is found by encoding pictures, never by its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import av
from av.codec import codecs_available
import av.logging
from kuavo_bag_converter.dataset.encoders import ENCODERS, SOFTWARE
from kuavo_bag_converter.dataset.features import Feature, VideoOptions
from kuavo_bag_converter.dataset.video import VideoWriter
from kuavo_bag_converter.messages.video_frames import FrameFitter, plane_pixels, sample_bits
from kuavo_bag_converter.settings import AUTO, codec_of, HARDWARE_ENCODERS
from kuavo_bag_converter.support.errors import DatasetError, UsageError
from kuavo_bag_converter.support.texts import listed
import numpy as np

_EPISODES = (5, 4)
"""Frames of the video that is tried: the second episode begins where no key frame is due."""
_FPS = 30
_WORSE_DB = 6.0
"""By how much pictures may be worse than those of the software encoder."""
_ORDINARY_SIZE = (480, 640)


class EncoderChoice:
    """
    Which encoders the cameras of a run get.

    It is decided once for each size of pictures and goes along where it is pickled.
    """

    def __init__(self, vcodec: str) -> None:
        """
        Choose for what the setting ``vcodec`` names.

        :raises UsageError: It is an encoder in hardware that does not work here.
        """
        self._vcodec = vcodec
        self._chosen: dict[tuple[int, int], tuple[str, ...]] = {}
        self._notes: list[str] = []
        if vcodec in HARDWARE_ENCODERS:
            self.of(VideoOptions(codec_of(vcodec)), *_ORDINARY_SIZE)

    def of(self, options: VideoOptions, height: int, width: int) -> tuple[str, ...]:
        """
        Return :attr:`.VideoOptions.encoders` for pictures of a size.

        :param options: The settings; those of all pictures of a run are the same.
        :param height: Of the pictures.
        :param width: Of the pictures.
        :raises UsageError: The encoder that was asked for by name cannot encode them.
        """
        if self._vcodec in ENCODERS:
            return ()
        size = (height, width)
        if size not in self._chosen:
            self._chosen[size] = self._choose(options, *size)
        return self._chosen[size]

    def take_notes(self) -> list[str]:
        """Return what there is to say of new choices."""
        notes, self._notes = self._notes, []
        return notes

    def _choose(self, options: VideoOptions, height: int, width: int) -> tuple[str, ...]:
        if self._vcodec != AUTO:
            reason = why_not(self._vcodec, options, height, width)
            if reason:
                raise UsageError(
                    f'vcodec {self._vcodec} cannot encode {width}x{height} {options.pix_fmt} here '
                    f'({reason}); set vcodec: auto, or {options.vcodec}, which needs no hardware'
                )
            return (self._vcodec,)
        failed = []
        what = f'vcodec: auto: pictures of {width}x{height} are encoded by'
        for encoder, codec in HARDWARE_ENCODERS.items():
            if codec != options.vcodec or encoder not in codecs_available:
                continue
            reason = why_not(encoder, options, height, width)
            if not reason:
                self._notes.append(f'{what} {encoder}, in hardware')
                return (encoder, SOFTWARE)
            failed.append(f'{encoder}: {reason}')
        why = '; '.join(failed) or f'PyAV {av.__version__} has no encoder in hardware'
        self._notes.append(f'{what} {ENCODERS[options.vcodec]}, in software ({why})')
        return (SOFTWARE,)


@lru_cache
def why_not(encoder: str, options: VideoOptions, height: int, width: int) -> str:
    """
    Encode a few pictures, decode them, and return what is wrong with that.

    :param encoder: By FFmpeg's name.
    :param options: The settings.
    :param height: Of the pictures.
    :param width: Of the pictures.
    :return: '' if nothing is.
    """
    if encoder not in codecs_available:
        return f'PyAV {av.__version__} has no such encoder'
    fitter = FrameFitter(None, options.pix_fmt)
    frames = [fitter.fit(_picture(n, height, width)) for n in range(sum(_EPISODES))]
    try:
        with _errors_of_ffmpeg():
            found = _psnr_coded(replace(options, encoders=(encoder,)), frames)
        least = _psnr_coded(replace(options, encoders=(SOFTWARE,)), frames) - _WORSE_DB
    except Exception as error:  # noqa: BLE001  # whatever a driver makes FFmpeg raise
        return _reason(error)
    return '' if found >= least else f'bad pictures: PSNR {found:.1f} dB, expected {least:.1f}'


def _picture(number: int, height: int, width: int) -> av.VideoFrame:
    """Make a picture with slopes, edges, colours, and something that moves."""
    rows, columns = np.indices((height, width))
    picture = np.stack(
        [255 * columns // width, 255 * rows // height, (rows // 8 + columns // 8 + number) * 16],
        -1,
    ).astype(np.uint8)
    left = number * width // (2 * sum(_EPISODES))
    moving = slice(height // 4, height // 2), slice(left, left + width // 3)
    picture[moving] = (220, 40, 90)
    return av.VideoFrame.from_ndarray(picture, 'rgb24')


def _psnr_coded(options: VideoOptions, frames: Sequence[av.VideoFrame]) -> float:
    """
    Return the peak signal-to-noise ratio of coded frames, dB, over all planes.

    :raises UsageError: The encoder cannot be opened.
    :raises DatasetError: What it gives is no video of these frames.
    """
    first = frames[0]
    feature = Feature('tried', 'video', (first.height, first.width, 3))
    with TemporaryDirectory(prefix='kuavo_encoder_') as folder:
        path = Path(folder) / 'tried.mp4'
        writer = VideoWriter(path, feature, options, fps=_FPS, episode_lengths=_EPISODES)
        try:
            for frame in frames:
                writer.write(frame)
            writer.close()
        except BaseException:
            writer.abort()
            raise
        with av.open(str(path)) as container:
            decoded = list(container.decode(video=0))
    if len(decoded) != len(frames):
        raise DatasetError(f'{len(frames)} pictures were encoded, {len(decoded)} decoded')
    keys = [number for number, frame in enumerate(decoded) if frame.key_frame]
    if any(after - key > options.gop for key, after in pairwise([*keys, len(decoded)])):
        raise DatasetError(
            f'key frames {listed(map(str, keys))} of {len(decoded)}, with gop {options.gop}'
        )
    form = (decoded[0].width, decoded[0].height, decoded[0].format.name)
    if form != (first.width, first.height, options.pix_fmt):
        raise DatasetError(f'decodes to pictures of {form[0]}x{form[1]} {form[2]}')
    lost = max(_mean_square(*pair) for pair in zip(frames, decoded, strict=True))
    return 10 * math.log10(255**2 / max(lost, 1e-3))


def _mean_square(first: av.VideoFrame, second: av.VideoFrame) -> float:
    """Return the mean square by which planes differ, levels of 8 bits; the largest of them."""
    planes = range(len(first.planes))
    apart = (plane_pixels(first, n).astype(float) - plane_pixels(second, n) for n in planes)
    largest = max(float(np.square(plane).mean()) for plane in apart)
    return largest / float(4 ** (sample_bits(first) - 8))


@contextmanager
def _errors_of_ffmpeg() -> Iterator[None]:
    """Let exceptions tell what FFmpeg logs, which PyAV leaves out otherwise."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture():
            yield
    finally:
        av.logging.set_level(before)


def _reason(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error.__cause__, av.FFmpegError) else error
    log = getattr(cause, 'log', None)
    text = log[2] if log else getattr(cause, 'strerror', None) or str(cause)
    return ' '.join(str(text).split()).rstrip('.') or type(cause).__name__
