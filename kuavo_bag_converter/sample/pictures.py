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
Moving scenes that cost about as much to code as those of a real robot, with frame numbers.

A scene is a still world that the camera's window drifts over, an object that moves on its own, and
sensor noise; drawing a frame is a handful of array operations.
"""

from __future__ import annotations

from fractions import Fraction
import math
from typing import Any, cast

import av
from av.video.codeccontext import VideoCodecContext
import cv2
from kuavo_bag_converter.sample.barcode import draw_frame_number
from kuavo_bag_converter.sample.stamps import seeded
import numpy as np
import numpy.typing as npt

_Picture = npt.NDArray[Any]

DEPTH_HEADER = bytes(12)
"""What ``compressed_depth_image_transport`` puts before a PNG: quantization, all zero."""

SIMULATOR_MM_PER_COUNT = (100 - 0.0001) * 1000 / 65535
"""The simulator spreads 0.1 mm to 100 m over 16 bits."""

_COLOR_LEVELS = (24, 232)
_DEPTH_LEVELS_MM = (400, 1200)
_HOLES = 0.22
_DRIFT_S = (7.0, 11.0)
_OBJECT_S = (3.0, 5.0)
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)
KEY_INTERVAL = 30
"""Pictures from one key frame to the next; parameter sets are sent before each."""
# Without B-frames, look-ahead and threads, every picture is out before the next comes in.
_ENCODERS = {
    'h264': (
        'libx264',
        {
            'preset': 'ultrafast',
            'tune': 'zerolatency',
            'crf': '23',
            'x264-params': f'keyint={KEY_INTERVAL}:min-keyint={KEY_INTERVAL}:scenecut=0',
        },
    ),
    'h265': (
        'libx265',
        {
            'preset': 'ultrafast',
            'tune': 'zerolatency',
            'crf': '23',
            'x265-params': f'keyint={KEY_INTERVAL}:min-keyint={KEY_INTERVAL}:scenecut=0'
            ':repeat-headers=1:pools=none:frame-threads=1:log-level=none',
        },
    ),
}


class _Scene:
    """A world with a window that drifts over it, noise, and an object; all of one dtype."""

    def __init__(self, size: tuple[int, int], seed: int, camera: str) -> None:
        self._size = size
        self._camera = camera
        self._reach = (max(8, size[0] // 8), max(8, size[1] // 8))
        self._random = seeded(seed, camera)
        self._phase = float(self._random.uniform(0, math.tau))

    @property
    def _world_size(self) -> tuple[int, int]:
        return self._size[0] + self._reach[0], self._size[1] + self._reach[1]

    def _window(self, world: _Picture, time: int) -> _Picture:
        """Return the part of ``world`` in view at a time in ns, as a view."""
        top, left = self._swing(time, _DRIFT_S, self._reach)
        return world[slice(top, top + self._size[0]), slice(left, left + self._size[1])]

    def _noise_window(self, noise: _Picture, number: int) -> _Picture:
        """Return a part of ``noise`` that differs between any frames near each other."""
        top, left = number * 7 % self._reach[0], number * 13 % self._reach[1]
        return noise[slice(top, top + self._size[0]), slice(left, left + self._size[1])]

    def _paste(self, frame: _Picture, thing: _Picture, time: int) -> None:
        height, width = thing.shape[:2]
        room = (self._size[0] - height, self._size[1] - width)
        top, left = self._swing(time, _OBJECT_S, room)
        frame[slice(top, top + height), slice(left, left + width)] = thing

    def _swing(
        self, time: int, periods_s: tuple[float, float], room: tuple[int, int]
    ) -> tuple[int, int]:
        seconds = time / 1e9
        down, right = (
            0.5 + 0.5 * math.sin(math.tau * (seconds % period) / period + self._phase)
            for period in periods_s
        )
        return int(down * room[0]), int(right * room[1])

    def _clouds(
        self, size: tuple[int, int], cells: tuple[int, ...], weights: tuple[float, ...]
    ) -> npt.NDArray[np.float32]:
        """Return smooth noise: a sum of random grids of ``cells`` pixels, each with a weight."""
        total = np.zeros(size, np.float32)
        for cell, weight in zip(cells, weights, strict=True):
            grid = self._random.standard_normal((size[0] // cell + 2, size[1] // cell + 2))
            total += weight * cv2.resize(
                grid.astype(np.float32), size[::-1], interpolation=cv2.INTER_CUBIC
            )
        return total


class ColorScene(_Scene):
    """What a color camera sees."""

    def __init__(self, size: tuple[int, int], seed: int, camera: str, quality: int) -> None:
        super().__init__(size, seed, camera)
        self._parameters = (cv2.IMWRITE_JPEG_QUALITY, quality)
        world = self._world_size
        light = self._clouds(world, (160, 48, 16, 5, 2), (34, 22, 14, 10, 9))
        layers = [118 + light + self._clouds(world, (200, 60), (20, 8)) for _ in range(3)]
        self._world = _as_bytes(np.dstack(layers))
        for _ in range(24):
            self._draw_box(self._world)
        self._noise = _as_bytes(128 + self._random.normal(0, 3.5, (*world, 3)))
        thing = (size[0] // 4, size[1] // 5)
        self._thing = _as_bytes(np.dstack([self._clouds(thing, (24, 4), (30, 12)) + 150] * 3))

    def draw(self, number: int, time: int) -> _Picture:
        """Draw the picture of a time in ns since the epoch: BGR, uint8 (height, width, 3)."""
        frame = self._window(self._world, time).copy()
        self._paste(frame, self._thing, time)
        frame = cv2.addWeighted(frame, 1, self._noise_window(self._noise, number), 1, -128)
        draw_frame_number(frame, self._camera, number, _COLOR_LEVELS)
        return frame

    def encode(self, number: int, time: int) -> npt.NDArray[np.uint8]:
        """Draw a picture; return its JPEG as uint8 (bytes,)."""
        return _encoded('.jpg', self.draw(number, time), self._parameters)

    def _draw_box(self, world: _Picture) -> None:
        height, width = world.shape[:2]
        top, left = self._random.integers(0, (height, width))
        down, right = self._random.integers(4, (height // 4 + 5, width // 4 + 5))
        box = world[slice(top, top + down), slice(left, left + right)]
        color = self._random.uniform(-50, 50, 3)
        box[:] = np.clip(box + color, 0, 255)


class DepthScene(_Scene):
    """What a depth camera sees, in mm with 0 for holes, or in the simulator's counts."""

    def __init__(self, size: tuple[int, int], seed: int, camera: str, *, simulator: bool) -> None:
        super().__init__(size, seed, camera)
        unit = SIMULATOR_MM_PER_COUNT if simulator else 1.0
        self._prefix = b'' if simulator else DEPTH_HEADER
        self._levels = (round(_DEPTH_LEVELS_MM[0] / unit), round(_DEPTH_LEVELS_MM[1] / unit))
        world = self._world_size
        surface = 1500 + self._clouds(world, (260, 110), (550, 90))
        steps = np.rint(self._clouds(world, (70,), (1.2,))) * 160
        depth = np.clip(surface + steps, 260, 5200)
        # Stereo matching gives neighbouring pixels the same error.
        coarse = np.rint(self._random.normal(0, 0.6, (world[0] // 2 + 1, world[1] // 2 + 1)))
        noise = np.repeat(np.repeat(coarse, 2, axis=0), 2, axis=1)
        self._noise = noise[: world[0], : world[1]].astype(np.int16)
        self._mask = np.ones(world, np.int16)
        if not simulator:
            clouds = self._clouds(world, (60, 14), (1.0, 0.5))
            self._mask[clouds > np.quantile(clouds, 1 - _HOLES)] = 0
        self._world = np.rint(depth / unit).astype(np.int16) * self._mask
        thing = (size[0] // 4, size[1] // 5)
        near = np.clip(700 + self._clouds(thing, (40,), (40,)), 260, 5200)
        self._thing = np.rint(near / unit).astype(np.int16)

    def draw(self, number: int, time: int) -> npt.NDArray[np.uint16]:
        """Draw the picture of a time in ns since the epoch, shape (height, width)."""
        noise = self._noise_window(self._noise, number) * self._window(self._mask, time)
        frame = self._window(self._world, time) + noise
        self._paste(frame, self._thing, time)
        draw_frame_number(frame, self._camera, number, self._levels)
        depth: npt.NDArray[np.uint16] = frame.view(np.uint16)
        return depth

    def encode(self, number: int, time: int) -> npt.NDArray[np.uint8]:
        """Draw a picture; return header and PNG as uint8 (bytes,)."""
        png = _encoded('.png', self.draw(number, time), _PNG)
        return np.concatenate([np.frombuffer(self._prefix, np.uint8), png])


def _encoded(
    extension: str, frame: _Picture, parameters: tuple[int, ...]
) -> npt.NDArray[np.uint8]:
    done, data = cv2.imencode(extension, frame, parameters)
    if not done:
        raise RuntimeError(f'OpenCV cannot encode {extension}')
    return np.asarray(data, np.uint8)


def _as_bytes(picture: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    clipped: npt.NDArray[np.uint8] = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    return clipped


class StreamEncoder:
    """Encodes the pictures of one camera, to be given in their order."""

    def __init__(self, codec: str, size: tuple[int, int]) -> None:
        """Prepare for ``h265`` or ``h264`` and pictures of ``size`` (height, width), both even."""
        name, options = _ENCODERS[codec]
        context = cast('VideoCodecContext', av.CodecContext.create(name, 'w'))
        context.height, context.width = size
        context.pix_fmt = 'yuv420p'
        context.framerate = Fraction(30)
        context.thread_count = 1
        context.options = options
        self._context = context
        self._count = 0

    def encode(self, picture: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Return the access unit (Annex B) of a BGR picture, uint8 (height, width, 3)."""
        frame = av.VideoFrame.from_ndarray(picture, format='bgr24').reformat(format='yuv420p')
        frame.pts = self._count
        self._count += 1
        (packet,) = self._context.encode(frame)
        return np.frombuffer(bytes(packet), np.uint8)
