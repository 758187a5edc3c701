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
The kinds of camera: what each one's feature, pictures, encoder and writer are.

A kind is everything that a conversion does differently for its pictures. Another one is added by
a class here and its name in :data:`KINDS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Generic

import av
from kuavo_bag_converter.alignment.binding import BoundCamera
from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.dataset.features import DepthCoding, Feature, VideoOptions
from kuavo_bag_converter.dataset.shard import ShardWriter
from kuavo_bag_converter.dataset.video import (
    check_video_size,
    COPY,
    DEPTH_OPTIONS,
    DepthWriter,
    PacketWriter,
    VideoWriter,
)
from kuavo_bag_converter.frames.options import ShardOptions
from kuavo_bag_converter.frames.pictures import Decoder, PictureDecoder, PictureT
from kuavo_bag_converter.messages.depth import DepthDecoder, GrayDepthDecoder
from kuavo_bag_converter.messages.images import ColorDecoder, JpegCopier, PictureInfo
from kuavo_bag_converter.support.errors import BagError, UsageError
import numpy as np
import numpy.typing as npt

_ENCODER_BYTES_PER_PIXEL = {'h264': 30, 'hevc': 75, 'libsvtav1': 100}
"""Memory of an encoder with the settings that it gets here; measured, rounded up."""
_PICTURE_BYTES_PER_PIXEL = 20
"""Memory of a decoder, its picture, the scaled picture and a sample for the statistics."""


class CameraKind(ABC, Generic[PictureT]):
    """
    A camera of one bag; ``Picture`` is what its decoders give and its writer takes.

    :ivar key: Of its feature.
    :ivar topic: Of its messages.
    :ivar size: (height, width) of its frames.
    :ivar is_stream: Whether its pictures need the pictures before them.
    """

    def __init__(self, bound: BoundCamera, info: PictureInfo, options: ShardOptions) -> None:
        """
        Take a camera by what its first good picture says of itself.

        :raises BagError: Such pictures cannot become what was asked for.
        :raises UsageError: The size that the profile gives the camera cannot be encoded.
        """
        self.key = bound.feature.key
        self.topic = bound.source.topic
        self.size = bound.feature.size or (info.height, info.width)
        self.is_stream = info.is_stream
        self._bound = bound
        self._options = options
        self._check(info)

    @property
    def feature(self) -> Feature:
        """The feature of the dataset."""
        return Feature(self.key, 'video', (*self.size, 3))

    @property
    def video(self) -> VideoOptions:
        """The settings of its encoder."""
        return self._options.video

    @property
    def memory_bytes(self) -> int:
        """What its decoder and encoder need, without messages that wait."""
        height, width = self.size
        return height * width * (self._encoder_bytes_per_pixel() + _PICTURE_BYTES_PER_PIXEL)

    @abstractmethod
    def decoder(self, connection: Connection) -> Decoder[PictureT]:
        """
        Return a fresh decoder for one connection of its topic.

        :raises BagError: The messages of the connection hold no picture of this kind.
        """

    @abstractmethod
    def writer(self, shard: ShardWriter) -> Callable[[PictureT], None]:
        """Open its file in a shard; the result appends a picture as the next frame."""

    def decoders(self) -> PictureDecoder[PictureT]:
        """Return what decodes the messages of all its connections."""
        return PictureDecoder(self.decoder, is_stream=self.is_stream)

    def _check(self, info: PictureInfo) -> None:
        """
        Refuse pictures that cannot become frames of this kind.

        A size that the profile gives is the fault of no bag.
        """
        del info
        try:
            check_video_size(self.video, *self.size)
        except UsageError as error:
            if self._bound.feature.size is not None:
                raise UsageError(f'{self.key}: {error}') from None
            raise BagError(f'{self.topic}: {error}') from None

    def _encoder_bytes_per_pixel(self) -> int:
        return _ENCODER_BYTES_PER_PIXEL[self.video.vcodec]


class ColorCamera(CameraKind[av.VideoFrame]):
    """Pictures are decoded, scaled and encoded."""

    def decoder(self, connection: Connection) -> Decoder[av.VideoFrame]:
        """Return a decoder to frames of the encoder's pixel format."""
        return ColorDecoder(
            connection,
            self._options.definitions,
            self.size,
            self.video.pix_fmt,
            use_cv_bridge=self._options.use_cv_bridge,
        )

    def writer(self, shard: ShardWriter) -> Callable[[av.VideoFrame], None]:
        """Open an encoder."""
        return shard.camera_writer(self.key, VideoWriter).write


class GrayDepthCamera(ColorCamera):
    """Depth becomes 8-bit grey pictures (``minmax8``, ``range8``), which are encoded as colour."""

    def decoder(self, connection: Connection) -> Decoder[av.VideoFrame]:
        """Return a decoder to grey frames of the encoder's pixel format."""
        camera = self._bound.feature
        depth = DepthDecoder(connection, self._options.definitions, self.size)
        return GrayDepthDecoder(depth, camera.depth, camera.depth_range, self.video.pix_fmt)


class MetricDepthCamera(CameraKind[npt.NDArray[np.uint16]]):
    """Depth is stored in millimetres as 12-bit codes without loss (``metric12``)."""

    @property
    def feature(self) -> Feature:
        """The feature of the dataset, which tells how depth is coded."""
        return Feature(self.key, 'video', (*self.size, 1), depth=DepthCoding())

    @property
    def video(self) -> VideoOptions:
        """The settings of its encoder, which no setting changes."""
        return DEPTH_OPTIONS

    def decoder(self, connection: Connection) -> Decoder[npt.NDArray[np.uint16]]:
        """Return a decoder to depth maps, mm."""
        return DepthDecoder(connection, self._options.definitions, self.size)

    def writer(self, shard: ShardWriter) -> Callable[[npt.NDArray[np.uint16]], None]:
        """Open an encoder of depth."""
        return shard.camera_writer(self.key, DepthWriter).write

    def _encoder_bytes_per_pixel(self) -> int:
        return 90


class CopiedJpegCamera(CameraKind[bytes]):
    """The bag's own JPEG pictures become the packets of the video (``video: copy``)."""

    @property
    def video(self) -> VideoOptions:
        """What stands for the encoder."""
        return replace(self._options.video, vcodec=COPY)

    def decoder(self, connection: Connection) -> Decoder[bytes]:
        """Return what takes the JPEG out of a message."""
        return JpegCopier(connection, self._options.definitions)

    def writer(self, shard: ShardWriter) -> Callable[[bytes], None]:
        """Open a file of packets."""
        return shard.camera_writer(self.key, PacketWriter).write

    def _check(self, info: PictureInfo) -> None:
        if info.codec != 'jpeg' or not info.upright:
            found = 'a JPEG that Exif turns' if info.codec == 'jpeg' else info.codec
            raise BagError(
                f'{self.topic}: video: copy needs upright JPEG pictures, found {found}; set '
                'video: encode'
            )
        if (info.height, info.width) != self.size:
            height, width = self.size
            raise BagError(
                f'{self.topic}: video: copy needs pictures of {width}x{height}, found '
                f'{info.width}x{info.height}; set resize to that size, or video: encode'
            )

    def _encoder_bytes_per_pixel(self) -> int:
        return 1


KINDS: Mapping[str, type[CameraKind[Any]]] = {
    'encode': ColorCamera,
    'copy': CopiedJpegCamera,
    'minmax8': GrayDepthCamera,
    'range8': GrayDepthCamera,
    'metric12': MetricDepthCamera,
}
"""By the depth coding of a depth camera, or by the setting ``video`` of a colour camera."""


def camera_of(bound: BoundCamera, info: PictureInfo, options: ShardOptions) -> CameraKind[Any]:
    """
    Return the camera of a bag whose first good picture says ``info``.

    :raises BagError: Such pictures cannot become what was asked for.
    """
    return KINDS[bound.feature.depth or options.color_cameras](bound, info, options)
