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
The job of a process: what decoding, resizing and encoding cost at least, on a bag's pictures.

Pictures that serve frames are taken from three places of the bag and put through every way to do
a stage that this Python has; the cheapest counts. No bag is read while the clock runs, and nothing
but the stage itself is done. As in a conversion there is a thread for each core, each with a
camera at a time: cores that are all busy are slower than one alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import partial
import os
import statistics
import time
from typing import Any

import av
import cv2
from kuavo_bag_converter.alignment.binding import BoundCamera
from kuavo_bag_converter.benchmark.served import ServedBag
from kuavo_bag_converter.dataset.depth import code_table
from kuavo_bag_converter.dataset.encoders import DEPTH_OPTIONS, software_encoder
from kuavo_bag_converter.dataset.features import DepthCoding, VideoOptions
from kuavo_bag_converter.frames.options import video_options
from kuavo_bag_converter.messages.codecs import PictureCodec
from kuavo_bag_converter.messages.video_frames import FrameFitter, LIMITED_LUMA, plane_pixels
from kuavo_bag_converter.settings import Settings, settings_from
import numpy as np

_PLACES = (1 / 6, 1 / 2, 5 / 6)
_FRAMES_OF_A_PLACE = 30
_ROUNDS = 3
_PIX_FMT = 'yuv420p'
_THREADED = ('libsvtav1',)
"""Encoders that work on threads of their own, whose time is found when they work alone."""

Ways = Mapping[str, Callable[[Any], Any]]
"""Functions that do a stage for one picture, by the name of the library."""


def prepare(specification: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
    """Return the measuring of the stages of all ``specification['settings']``, a list."""
    listed = [settings_from(values, 'benchmark') for values in specification['settings']]
    cv2.setNumThreads(1)

    def work() -> dict[str, Any]:
        with ServedBag(listed[0]) as bag:
            cameras = [_Camera(bag, camera) for camera in bag.binding.cameras]
            frames = len(bag.plan)
            _fill(bag, cameras)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            costs = list(pool.map(_Camera.front_costs, cameras))
            for settings in listed:
                encoding = partial(_Camera.encoding_cost, settings=settings)
                alone = settings.vcodec in _THREADED
                for cost, encode in zip(
                    costs, (map if alone else pool.map)(encoding, cameras), strict=True
                ):
                    cost['encode'].append(encode)
        return {'frames': frames, 'cameras': costs}

    return work


def _fill(bag: ServedBag, cameras: Sequence[_Camera]) -> None:
    count = min(_FRAMES_OF_A_PLACE, max(1, len(bag.plan) // len(_PLACES)))
    starts = [int(place * len(bag.plan)) - count // 2 for place in _PLACES]
    chosen = np.unique(np.concatenate([np.arange(start, start + count) for start in starts]))
    chosen = chosen[(chosen >= 0) & (chosen < len(bag.plan))]
    by_key = {camera.key: camera for camera in cameras}
    for served in bag.pictures(chosen):
        by_key[served.key].stored.append(served.data)


class _Camera:
    """One camera's sample of stored pictures, and what its stages cost."""

    def __init__(self, bag: ServedBag, camera: BoundCamera) -> None:
        self.key = camera.feature.key
        self.stored: list[bytes] = []
        self._feature = camera.feature
        self._ready: list[Any] = []
        self._pictures = len(np.unique(bag.plan.tracks[camera.track].first))

    def front_costs(self) -> dict[str, Any]:
        """Return CPU milliseconds per picture, by stage before the encoder and library."""
        if self._feature.depth == 'copy':
            return self._costs({'none': 0.0}, {'none': 0.0})
        ways = _depth_decoders() if self._feature.depth else _color_decoders()
        decode = {name: _cost(way, self.stored) for name, way in ways.items()}
        decoded = [ways['PyAV'](data) for data in self.stored]
        fit = self._depth_fitters() if self._feature.depth else self._color_fitters()
        resize = {name: _cost(way, decoded) for name, way in fit.items()}
        first = next(iter(fit.values()))
        self._ready = [first(frame) for frame in decoded]
        return self._costs(decode, resize)

    def _costs(self, decode: Mapping[str, float], resize: Mapping[str, float]) -> dict[str, Any]:
        return {
            'camera': self.key,
            'pictures': self._pictures,
            'decode': decode,
            'resize': resize,
            'encode': [],
        }

    def encoding_cost(self, settings: Settings) -> float:
        """Return CPU milliseconds per frame, without opening the encoder."""
        if self._feature.depth == 'copy':
            return 0.0
        if self._feature.dtype == 'image':
            return _cost(_png, self._ready)
        options = self._options(settings)
        clock = time.process_time if options.vcodec in _THREADED else time.thread_time
        costs = [_encoding_cost(options, self._ready, clock) for _ in range(_ROUNDS)]
        return statistics.median(costs)

    def _options(self, settings: Settings) -> VideoOptions:
        if self._feature.depth == 'metric12':
            return DEPTH_OPTIONS
        return replace(video_options(settings), gray_depth=bool(self._feature.depth))

    def _color_fitters(self) -> Ways:
        size = self._feature.size
        fitter = FrameFitter(size, _PIX_FMT)

        def swscale(frame: av.VideoFrame) -> av.VideoFrame:
            height, width = size or (frame.height, frame.width)
            return frame.reformat(
                width,
                height,
                _PIX_FMT,
                src_color_range='JPEG',
                dst_color_range='MPEG',
                interpolation='AREA',
            )

        return {'this package': fitter.fit, 'swscale': swscale}

    def _depth_fitters(self) -> Ways:
        low, high = self._feature.depth_range
        factor, offset = LIMITED_LUMA
        codes = code_table(DepthCoding())

        def gray(frame: av.VideoFrame) -> av.VideoFrame:
            depth = self._scaled(frame)
            height, width = depth.shape
            result = av.VideoFrame(width, height, 'yuv420p')
            clipped = np.clip(depth, low, high)
            least, most, _, _ = cv2.minMaxLoc(clipped)
            share = 255 * factor / max(most - least, 1)
            cv2.convertScaleAbs(clipped, plane_pixels(result, 0), share, offset - least * share)
            for index in (1, 2):
                plane_pixels(result, index)[:] = 128
            return result

        def metric(frame: av.VideoFrame) -> av.VideoFrame:
            return av.VideoFrame.from_ndarray(codes[self._scaled(frame)], format='gray12le')

        ways = {'metric12': metric, 'image16': self._scaled}
        return {'OpenCV': ways.get(self._feature.depth, gray)}

    def _scaled(self, frame: av.VideoFrame) -> Any:
        data = frame.planes[0]
        rows = np.frombuffer(memoryview(data), '>u2').reshape(data.height, data.line_size // 2)
        depth = rows[:, : data.width].astype(np.uint16)
        size = self._feature.size
        if size is None or depth.shape == size:
            return depth
        return cv2.resize(depth, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)


def _color_decoders() -> Ways:
    ways: dict[str, Callable[[Any], Any]] = {
        'PyAV': lambda data: jpeg.decode(memoryview(data)),
    }
    jpeg = PictureCodec('mjpeg')
    with suppress(ImportError, RuntimeError):  # the library itself may be missing
        from turbojpeg import TurboJPEG

        ways['PyTurboJPEG'] = TurboJPEG().decode_to_yuv_planes
    return ways


def _depth_decoders() -> Ways:
    png = PictureCodec('png')
    ways: dict[str, Callable[[Any], Any]] = {
        'PyAV': lambda data: png.decode(memoryview(data)),
        'OpenCV': lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED),
    }
    with suppress(ImportError):
        from imagecodecs import png_decode

        ways['imagecodecs'] = png_decode
    return ways


def _png(picture: Any) -> Any:
    """Encode depth, or a frame, as the table has it."""
    if isinstance(picture, av.VideoFrame):
        picture = picture.to_ndarray(format='bgr24')
    return cv2.imencode('.png', picture)


def _cost(way: Callable[[Any], Any], pictures: Sequence[Any]) -> float:
    """Return the median CPU milliseconds per picture of some rounds, of this thread alone."""
    rounds = []
    for _ in range(_ROUNDS):
        way(pictures[0])
        before = time.thread_time()
        for picture in pictures:
            way(picture)
        rounds.append((time.thread_time() - before) / len(pictures))
    return statistics.median(rounds) * 1000


def _encoding_cost(
    options: VideoOptions, frames: Sequence[av.VideoFrame], clock: Callable[[], float]
) -> float:
    context = software_encoder(options, frames[0].height, frames[0].width, Fraction(10))
    warm = len(frames) // 4
    before = 0.0
    for index, frame in enumerate(frames):
        if index == warm:
            before = clock()
        frame.pts = index
        context.encode(frame)
    context.encode(None)
    return (clock() - before) / (len(frames) - warm) * 1000
