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
The jobs of a process: encode the pictures of one camera with one codec, and judge the video.

Both work on consecutive frames of the first colour or depth camera, which are in memory before the
work begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
import statistics
import time
from typing import Any, NamedTuple

import av
import cv2
from kuavo_bag_converter.benchmark.served import ServedBag
from kuavo_bag_converter.dataset.depth import code_table
from kuavo_bag_converter.dataset.encoders import COPY, encoder_options, ENCODERS
from kuavo_bag_converter.dataset.features import DepthCoding, Feature, VideoOptions
from kuavo_bag_converter.dataset.mp4 import frame_rate, Mp4Writer, StreamEncoder
from kuavo_bag_converter.dataset.video import (
    CameraWriter,
    DepthWriter,
    PacketWriter,
    VideoWriter,
)
from kuavo_bag_converter.messages.codecs import PictureCodec
from kuavo_bag_converter.messages.video_frames import (
    FrameFitter,
    gray_frame,
    gray_pixels,
    plane_pixels,
    sample_bits,
)
from kuavo_bag_converter.settings import settings_from
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.process import MB, PeakMemory, release_memory, resident_bytes
import numpy as np
import numpy.typing as npt

_FRAMES = 120
_SEEKS = 40
_WINDOW, _SIGMA = (11, 11), 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

Luma = npt.NDArray[np.float64]
"""In levels of 8 bits."""


class _Pictures(NamedTuple):
    """Of one camera, in the order of the frames."""

    given: list[Any]
    """What the writer takes."""
    originals: list[av.VideoFrame]
    """What a video without loss would show."""
    fps: float


def prepare(specification: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
    """
    Return the encoding of pictures to ``specification['path']``, or the judging of it.

    ``['video']`` are the settings and ``['depth']`` is how depth is coded, '' for colours;
    ``['parallel']`` leaves threads and lookahead to the encoder, as LeRobot does.
    """
    options, depth = VideoOptions(**specification['video']), specification['depth']
    pictures = _pictures(specification['settings'], options, depth)
    path = Path(specification['path'])
    if specification['judge']:
        return lambda: _judge(path, pictures.originals)
    encode = _encode_as_lerobot if specification['parallel'] else partial(_encode, depth=depth)
    return lambda: _encode_measured(lambda: encode(path, pictures, options), len(pictures.given))


def _pictures(values: Mapping[str, Any], options: VideoOptions, depth: str) -> _Pictures:
    """Read the pictures of consecutive frames from the middle of the bag."""
    settings = settings_from(values, 'benchmark')
    with ServedBag(settings) as bag:
        cameras = [c.feature for c in bag.binding.cameras if bool(c.feature.depth) == bool(depth)]
        if not cameras:
            raise BagError(f'no {"depth" if depth else "colour"} camera in the bag')
        start = max(0, (len(bag.plan) - _FRAMES) // 2)
        frames = np.arange(start, min(start + _FRAMES, len(bag.plan)))
        stored = [
            served.data for served in bag.pictures(frames) if served.key == cameras[0].key
            for _ in served.frames
        ]  # fmt: skip
        fps = bag.binding.profile.fps
    if depth:
        given, originals = _depth_pictures(stored, options, depth)
    else:
        pix_fmt = 'yuv420p' if options.vcodec == COPY else options.pix_fmt
        jpeg, fitter = PictureCodec('mjpeg'), FrameFitter(cameras[0].size, pix_fmt)
        originals = [fitter.fit(jpeg.decode(memoryview(data))) for data in stored]
        given = stored if options.vcodec == COPY else originals
    # What reading has left behind would hide what the work takes.
    release_memory()
    return _Pictures(given, originals, fps)


def _depth_pictures(
    stored: Sequence[bytes], options: VideoOptions, depth: str
) -> tuple[list[Any], list[av.VideoFrame]]:
    png = PictureCodec('png')
    maps = [
        np.asarray(gray_pixels(png.decode(memoryview(data)))).astype(np.uint16) for data in stored
    ]
    if depth == 'metric12':
        codes = code_table(DepthCoding())
        return maps, [
            av.VideoFrame.from_ndarray(codes[one], format=options.pix_fmt) for one in maps
        ]
    grays = (
        cv2.normalize(one, np.empty(one.shape, np.uint8), 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)
        for one in maps
    )
    frames = [gray_frame(np.asarray(gray, np.uint8), options.pix_fmt) for gray in grays]
    return frames, frames


def _encode_measured(encode: Callable[[], None], frames: int) -> dict[str, Any]:
    """Encode, and find the memory that it takes at most, which readings could miss."""
    peak, before = PeakMemory(), resident_bytes()
    encode()
    return {'frames': frames, 'encoder_mb': (peak.bytes() - before) / MB}


def _encode(path: Path, pictures: _Pictures, options: VideoOptions, *, depth: str) -> None:
    width, height = pictures.originals[0].width, pictures.originals[0].height
    kind: type[CameraWriter[Any]] = PacketWriter if options.vcodec == COPY else VideoWriter
    feature = Feature('camera', 'video', (height, width, 3))
    if depth == 'metric12':
        kind, feature = DepthWriter, replace(feature, depth=DepthCoding())
    count = len(pictures.given)
    writer = kind(path, feature, options, fps=pictures.fps, episode_lengths=[count])
    for picture in pictures.given:
        writer.write(picture)
    writer.close()


def _encode_as_lerobot(path: Path, pictures: _Pictures, options: VideoOptions) -> None:
    given = {
        name: value for name, value in encoder_options(options).items()
        if name in ('crf', 'preset', 'g')
    }  # fmt: skip
    first, rate = pictures.originals[0], frame_rate(pictures.fps)
    with Mp4Writer(path, rate, len(pictures.originals)) as file:
        encoder = StreamEncoder(
            ENCODERS[options.vcodec],
            first.width,
            first.height,
            options.pix_fmt,
            frame_rate=rate,
            options=given,
            file=file,
        )
        for index, frame in enumerate([*pictures.originals, None]):
            if frame is not None:
                frame.pts = index
                frame.time_base = 1 / rate
            for packet in encoder.context.encode(frame):
                file.mux(packet)


def _judge(path: Path, originals: Sequence[av.VideoFrame]) -> dict[str, Any]:
    """Decode from beginning to end, then at random; compare the luma with the original's."""
    before = time.process_time()
    with _opened(path) as container:
        decoded = list(container.decode(video=0))
    sequential = (time.process_time() - before) / len(decoded)
    pairs = [
        (_luma(original), _luma(frame)) for original, frame in zip(originals, decoded, strict=True)
    ]
    psnr = [_psnr(*pair) for pair in pairs]
    return {
        'bytes_per_frame': path.stat().st_size / len(decoded),
        'psnr_db': statistics.fmean(psnr),
        'worst_psnr_db': min(psnr),
        'ssim': statistics.fmean(_ssim(*pair) for pair in pairs),
        'decode_ms': sequential * 1000,
        'random_decode_ms': _random_access(path, len(decoded)) * 1000,
    }


def _opened(path: Path) -> av.container.InputContainer:
    container = av.open(str(path))
    container.streams.video[0].codec_context.thread_count = 1
    return container


def _random_access(path: Path, count: int) -> float:
    """Return the CPU seconds to get a frame from anywhere, in a file that is open."""
    chosen = np.random.default_rng(0).integers(0, count, _SEEKS)
    with _opened(path) as container:
        stream = container.streams.video[0]
        if stream.average_rate is None or stream.time_base is None:
            raise BagError(f'{path}: no frame rate')
        ticks = 1 / (stream.average_rate * stream.time_base)
        before = time.process_time()
        for index in chosen.tolist():
            container.seek(int(index * ticks), stream=stream)
            for frame in container.decode(stream):
                if frame.pts is not None and frame.pts >= index * ticks:
                    break
        return (time.process_time() - before) / len(chosen)


def _luma(frame: av.VideoFrame) -> Luma:
    """Return the luma in limited range, as it was before encoding, or the codes of depth."""
    if frame.format.name.startswith('yuvj'):
        frame = FrameFitter(None, 'yuv420p').fit(frame)
    levels = plane_pixels(frame, 0).astype(np.float64)
    return levels / float(2 ** (sample_bits(frame) - 8))


def _psnr(original: Luma, decoded: Luma) -> float:
    error = np.mean(np.square(original.astype(np.float64) - decoded))
    return float(10 * np.log10(255**2 / error)) if error else float('inf')


def _ssim(original: Luma, decoded: Luma) -> float:
    """Return the mean structural similarity (Wang et al., IEEE TIP 13(4), 2004)."""
    first, second = original.astype(np.float64), decoded.astype(np.float64)

    def blurred(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(values, _WINDOW, _SIGMA), np.float64)

    mean1, mean2 = blurred(first), blurred(second)
    variance1 = blurred(first * first) - mean1 * mean1
    variance2 = blurred(second * second) - mean2 * mean2
    covariance = blurred(first * second) - mean1 * mean2
    likeness = (2 * mean1 * mean2 + _C1) * (2 * covariance + _C2)
    likeness /= (mean1**2 + mean2**2 + _C1) * (variance1 + variance2 + _C2)
    return float(likeness.mean())
