"""The job of a process: what decoding, resizing and encoding cost at least, on a bag's pictures.

Pictures that serve frames are taken from three places of the bag and put through every way to do
a stage that this Python has; the cheapest counts. No bag is read while the clock runs, and nothing
but the stage itself is done.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Any, cast

import av
import cv2
import numpy as np
from av.video.codeccontext import VideoCodecContext

from kuavo_bag_converter.benchmark.served import ServedBag
from kuavo_bag_converter.binding import BoundCamera
from kuavo_bag_converter.dataset.depth import code_table
from kuavo_bag_converter.dataset.features import DepthCoding, VideoOptions
from kuavo_bag_converter.dataset.video import DEPTH_OPTIONS, ENCODERS, encoder_options
from kuavo_bag_converter.messages.codecs import PictureCodec
from kuavo_bag_converter.messages.frames import LIMITED_LUMA, Fitter, plane
from kuavo_bag_converter.settings import Settings, settings_from

_PLACES = (1 / 6, 1 / 2, 5 / 6)
_FRAMES_OF_A_PLACE = 30
_ROUNDS = 3

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
        return {'frames': frames, 'cameras': [camera.costs(listed) for camera in cameras]}

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
        self._pictures = len(np.unique(bag.plan.tracks[camera.track].first))

    def costs(self, listed: Sequence[Settings]) -> dict[str, Any]:
        """Return CPU milliseconds per picture: by stage and library, and by codec."""
        ways = _depth_decoders() if self._feature.depth else _color_decoders()
        decode = {name: _cost(way, self.stored) for name, way in ways.items()}
        decoded = [ways['PyAV'](data) for data in self.stored]
        fit = self._depth_fitters() if self._feature.depth else self._color_fitters(listed[0])
        resize = {name: _cost(way, decoded) for name, way in fit.items()}
        ready = [fit['this package'](frame) for frame in decoded]
        del decoded
        return {
            'camera': self.key,
            'pictures': self._pictures,
            'decode': decode,
            'resize': resize,
            'encode': [_encoding_cost(self._options(settings), ready) for settings in listed],
        }

    def _options(self, settings: Settings) -> VideoOptions:
        if self._feature.depth == 'metric12':
            return DEPTH_OPTIONS
        return VideoOptions(
            settings.vcodec, settings.crf, settings.preset, settings.gop, settings.pix_fmt
        )

    def _color_fitters(self, settings: Settings) -> Ways:
        size = self._feature.size
        fitter = Fitter(size, settings.pix_fmt)

        def swscale(frame: av.VideoFrame) -> av.VideoFrame:
            height, width = size or (frame.height, frame.width)
            return frame.reformat(
                width,
                height,
                settings.pix_fmt,
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
            cv2.convertScaleAbs(clipped, plane(result, 0), share, offset - least * share)
            for index in (1, 2):
                plane(result, index)[:] = 128
            return result

        def metric(frame: av.VideoFrame) -> av.VideoFrame:
            return av.VideoFrame.from_ndarray(codes[self._scaled(frame)], format='gray12le')

        return {'this package': metric if self._feature.depth == 'metric12' else gray}

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


def _cost(way: Callable[[Any], Any], pictures: Sequence[Any]) -> float:
    """Return the median CPU milliseconds per picture of some rounds."""
    rounds = []
    for _ in range(_ROUNDS):
        way(pictures[0])
        before = time.process_time()
        for picture in pictures:
            way(picture)
        rounds.append((time.process_time() - before) / len(pictures))
    return statistics.median(rounds) * 1000


def _encoding_cost(options: VideoOptions, frames: Sequence[av.VideoFrame]) -> float:
    """Return the median CPU milliseconds per frame, without opening the encoder."""
    rounds = []
    warm = len(frames) // 4
    for _ in range(_ROUNDS):
        context = _encoder(options, frames[0])
        before = 0.0
        for index, frame in enumerate(frames):
            if index == warm:
                before = time.process_time()
            frame.pts = index
            context.encode(frame)
        context.encode(None)
        rounds.append((time.process_time() - before) / (len(frames) - warm))
    return statistics.median(rounds) * 1000


def _encoder(options: VideoOptions, frame: av.VideoFrame) -> VideoCodecContext:
    context = cast('VideoCodecContext', av.CodecContext.create(ENCODERS[options.vcodec], 'w'))
    context.width, context.height = frame.width, frame.height
    context.pix_fmt = options.pix_fmt
    context.time_base = Fraction(1, 10)
    context.framerate = Fraction(10)
    context.options = encoder_options(options)
    return context
