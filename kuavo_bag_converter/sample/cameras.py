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

"""The topics of the cameras: pictures, and what drivers publish beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
import json
from typing import Any

from kuavo_bag_converter.sample.messages import Build, Messages, Moment, Topic
from kuavo_bag_converter.sample.options import SampleOptions, STREAM_TRANSPORTS
from kuavo_bag_converter.sample.pictures import ColorScene, DepthScene, StreamEncoder
from kuavo_bag_converter.sample.stamps import PublishTiming
import numpy as np
import numpy.typing as npt

_COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
_IMAGE = 'sensor_msgs/msg/Image'
_JPEG_QUALITY = 80
_SIMULATOR_JPEG_QUALITY = 95
_DEPTH_LAG_MS = 6.0


@dataclass(frozen=True)
class _Camera:
    letter: str
    """As in ``/cam_h``."""
    native: str
    """First part of the topics as the driver names them."""
    color: str
    depth: str
    """Names in the frame numbers."""
    depth_topic: str
    depth_frame: str
    driver: str
    delay_ms: tuple[float, float]
    phase_ms: float
    focal: float
    """In picture widths."""
    distortion: tuple[str, int]
    """Model and number of its parameters."""
    simulator_frame: str


_CAMERAS = (
    _Camera(
        'h', 'camera', 'head_cam_h', 'depth_h', 'image_raw', 'cam_h_color_optical_frame',
        'orbbec_camera', (51.0, 53.0), 5.0, 406 / 848, ('rational_polynomial', 8),
        'Head Camera View',
    ),
    _Camera(
        'l', 'left_wrist_camera', 'wrist_cam_l', 'depth_l', 'image_rect_raw',
        'cam_l_depth_optical_frame', 'realsense2_camera', (22.0, 24.0), 12.0, 430 / 848,
        ('plumb_bob', 5), 'Left Wrist Camera View',
    ),
    _Camera(
        'r', 'right_wrist_camera', 'wrist_cam_r', 'depth_r', 'image_rect_raw',
        'cam_r_depth_optical_frame', 'realsense2_camera', (22.0, 24.0), 19.0, 430 / 848,
        ('plumb_bob', 5), 'Right wrist Camera View',
    ),
)  # fmt: skip


def cameras(options: SampleOptions) -> Iterator[Topic]:
    """Yield the topics of the head and wrist cameras, and of their depth if it is wanted."""
    # A Roban has the first alone.
    for camera, rate in zip(_CAMERAS, options.rates_of_cameras, strict=not options.is_roban):
        timing = PublishTiming(rate, camera.delay_ms, jitter_ms=0.35, phase_ms=camera.phase_ms)
        yield from _color_topics(camera, timing, options)
        if options.depth and not options.is_roban:
            least, most = camera.delay_ms
            timing = replace(timing, delay_ms=(least + _DEPTH_LAG_MS, most + _DEPTH_LAG_MS))
            yield from _depth_topics(camera, timing, options)


def _color_topics(
    camera: _Camera, timing: PublishTiming, options: SampleOptions
) -> Iterator[Topic]:
    quality = _SIMULATOR_JPEG_QUALITY if options.simulator else _JPEG_QUALITY
    frame = (
        camera.simulator_frame if options.simulator else f'cam_{camera.letter}_color_optical_frame'
    )
    scene = ColorScene(options.size, options.seed, camera.color, quality)
    base = f'/{_namespace(camera, options)}/color'
    if options.transport == 'jpeg':
        picture_format = 'rgb8' if options.simulator else 'rgb8; jpeg compressed bgr8'
        name, msgtype = f'{base}/image_raw/compressed', _COMPRESSED_IMAGE
        build = _compressed(scene.encode, frame, picture_format)
    elif options.transport == 'raw':
        name, msgtype = f'{base}/image_raw', _IMAGE
        build = _image(lambda number, time: scene.draw(number, time)[..., ::-1], frame, 'rgb8')
    else:
        stream = StreamEncoder(options.transport, options.size)
        name, msgtype = f'{base}/{options.transport}_stream', _COMPRESSED_IMAGE
        build = _compressed(
            lambda number, time: stream.encode(scene.draw(number, time)), frame, options.transport
        )
    in_order = options.transport in STREAM_TRANSPORTS
    yield Topic(name, msgtype, timing, build, camera=camera.color, in_order=in_order)
    if options.extras:
        yield from _about_pictures(camera, base, frame, name, timing, options)


def _depth_topics(
    camera: _Camera, timing: PublishTiming, options: SampleOptions
) -> Iterator[Topic]:
    frame = camera.simulator_frame if options.simulator else camera.depth_frame
    scene = DepthScene(options.size, options.seed, camera.depth, simulator=options.simulator)
    base = f'/{_namespace(camera, options)}/depth'
    if options.transport == 'raw':
        name, msgtype = f'{base}/{camera.depth_topic}', _IMAGE
        build = _image(scene.draw, frame, '16UC1')
    else:
        picture_format = '16UC1; compressedDepth png'
        if options.simulator:
            picture_format = '16UC1; jpeg compressed; znear=0.000100; zfar=100.000000'
        name, msgtype = f'{base}/{camera.depth_topic}/compressedDepth', _COMPRESSED_IMAGE
        build = _compressed(scene.encode, frame, picture_format)
    yield Topic(name, msgtype, timing, build, camera=camera.depth)
    if options.extras:
        yield from _about_pictures(camera, base, frame, name, timing, options)


def _namespace(camera: _Camera, options: SampleOptions) -> str:
    return camera.native if options.transport == 'raw' else f'cam_{camera.letter}'


def _compressed(
    encode: Callable[[int, int], npt.NDArray[np.uint8]], frame: str, picture_format: str
) -> Build:
    def build(messages: Messages, moment: Moment) -> Any:
        return messages.new(
            _COMPRESSED_IMAGE,
            header=messages.header(moment, frame),
            format=picture_format,
            data=encode(moment.ordinal, moment.time),
        )

    return build


def _image(draw: Callable[[int, int], npt.NDArray[Any]], frame: str, encoding: str) -> Build:
    def build(messages: Messages, moment: Moment) -> Any:
        pixels = np.ascontiguousarray(draw(moment.ordinal, moment.time))
        return messages.new(
            _IMAGE,
            header=messages.header(moment, frame),
            height=pixels.shape[0],
            width=pixels.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=pixels.strides[0],
            data=pixels.reshape(-1).view(np.uint8),
        )

    return build


def _about_pictures(
    camera: _Camera,
    base: str,
    frame: str,
    pictures: str,
    timing: PublishTiming,
    options: SampleOptions,
) -> Iterator[Topic]:
    def build_info(messages: Messages, moment: Moment) -> Any:
        focal = camera.focal * options.size[1]
        return messages.camera_info(
            messages.header(moment, frame), options.size, focal, *camera.distortion
        )

    metadata = f'{camera.driver}/msg/Metadata'

    def build_metadata(messages: Messages, moment: Moment) -> Any:
        content = {'frame_number': moment.ordinal, 'timestamp': moment.time // 1000}
        return messages.new(
            metadata, header=messages.header(moment, frame), json_data=json.dumps(content)
        )

    sensor_msgs = 'sensor_msgs/msg/CameraInfo'
    yield Topic(f'{base}/camera_info', sensor_msgs, timing, build_info, clock=pictures)
    yield Topic(f'{base}/metadata', metadata, timing, build_metadata, clock=pictures)
