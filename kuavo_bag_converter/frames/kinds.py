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
a class here and its name in :data:`DEPTH_KINDS`, or in :func:`camera_of`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, cast, Generic

import av
from kuavo_bag_converter.alignment.binding import BoundCamera
from kuavo_bag_converter.alignment.selection import frame_check
from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.dataset.depth import largest_error
from kuavo_bag_converter.dataset.encoders import (
    check_video_options,
    check_video_size,
    copied_stream_options,
    COPY,
    DEPTH_OPTIONS,
    size_grid,
)
from kuavo_bag_converter.dataset.features import DepthCoding, Feature, VideoOptions
from kuavo_bag_converter.dataset.images import (
    ColorImageWriter,
    CopiedDepthWriter,
    DepthImageWriter,
)
from kuavo_bag_converter.dataset.shard import ShardWriter
from kuavo_bag_converter.dataset.stream_writer import StreamWriter
from kuavo_bag_converter.dataset.video import DepthWriter, PacketWriter, VideoWriter
from kuavo_bag_converter.frames.options import ShardOptions
from kuavo_bag_converter.frames.pictures import ConnectionDecoder, PictureDecoder, PictureT
from kuavo_bag_converter.messages.coded_pictures import CodedPicture, HELD_BYTES
from kuavo_bag_converter.messages.depth import (
    DepthDecoder,
    DepthPng,
    DepthPngCopier,
    GrayDepthDecoder,
    not_copied,
)
from kuavo_bag_converter.messages.geometry import Geometry, Size
from kuavo_bag_converter.messages.images import (
    ColorDecoder,
    JpegCopier,
    PictureInfo,
    StreamCopier,
)
from kuavo_bag_converter.messages.picture_remarks import PictureRemarks
from kuavo_bag_converter.messages.raw_images import mosaic_of
from kuavo_bag_converter.messages.video_frames import RGB
from kuavo_bag_converter.messages.video_streams import COPYABLE
from kuavo_bag_converter.profiles.model import CameraFeature
from kuavo_bag_converter.support.errors import BagError, UsageError
from kuavo_bag_converter.support.texts import shown
import numpy as np
import numpy.typing as npt

_ENCODER_BYTES_PER_PIXEL = {'h264': 30, 'hevc': 75, 'libsvtav1': 100}
"""Memory of an encoder with the settings that it gets here; measured, rounded up."""
_METRIC_RANGE = (
    round(1000 * DepthCoding().depth_min),
    round(1000 * DepthCoding().depth_max),
)
"""mm."""
_LEAST_SIDES = (1, 16, 32, 64)
"""Sides that encoders need at least, of which the first that helps is taken."""
_PICTURE_BYTES_PER_PIXEL = 20
"""Memory of a decoder, its picture, the scaled picture and a sample for the statistics."""


class CameraKind(ABC, Generic[PictureT]):
    """
    A camera of one bag; ``Picture`` is what its decoders give and its writer takes.

    :ivar key: Of its feature.
    :ivar topic: Of its messages.
    :ivar size: (height, width) of its frames.
    :ivar info: What its first good picture says of itself.
    :ivar is_stream: Whether its pictures need the pictures before them.
    :ivar remarks: What there is to say of the pictures that its last decoders have met.
    """

    def __init__(self, bound: BoundCamera, info: PictureInfo, options: ShardOptions) -> None:
        """
        Take a camera by what its first good picture says of itself.

        :raises BagError: Such pictures cannot become what was asked for.
        :raises UsageError: The size that the profile gives the camera cannot be encoded, or not
            with these settings.
        """
        self.key = bound.feature.key
        self.topic = bound.source.topic
        self.info = info
        self.is_stream = info.is_stream
        self._bound = bound
        self.remarks = self._no_remarks()
        self._options = options
        self._encoders: tuple[str, ...] = ()
        recorded = (info.height, info.width)
        self._recorded_size = None if bound.feature.size else recorded
        try:
            if info.height:
                geometry_of(bound.feature).turned(recorded)
            self._geometry = self._storable_geometry(recorded)
            self.size = self._geometry.frame_size(recorded)
        except BagError as error:
            raise BagError(f'{self.topic}: {error}') from None
        self._check(info)

    @property
    def feature(self) -> Feature:
        """Return the feature of the dataset."""
        return Feature(self.key, 'video', (*self.size, 3))

    @property
    def video(self) -> VideoOptions:
        """Return the settings of its encoder."""
        return replace(self._options.video, encoders=self._encoders)

    @property
    def memory_bytes(self) -> int:
        """Return what its decoder and encoder need, without messages that wait."""
        height, width = self.size
        return height * width * (self._encoder_bytes_per_pixel() + _PICTURE_BYTES_PER_PIXEL)

    @property
    def loss(self) -> str:
        """Return what its coding loses of every picture, where that has a bound; '' if not."""
        return ''

    @abstractmethod
    def decoder(self, connection: Connection) -> ConnectionDecoder[PictureT]:
        """
        Return a fresh decoder for one connection of its topic.

        :raises BagError: The messages of the connection hold no picture of this kind.
        """

    @abstractmethod
    def writer(self, shard: ShardWriter) -> Callable[[PictureT], None]:
        """Open its file in a shard; the result appends a picture as the next frame."""

    def decoders(self) -> PictureDecoder[PictureT]:
        """Return what decodes the messages of all its connections, and begins with no remarks."""
        self.remarks = self._no_remarks()
        return PictureDecoder(
            self.decoder,
            is_stream=self.is_stream,
            check=frame_check(self._bound.source, self._options.definitions),
        )

    def _check(self, info: PictureInfo) -> None:
        """
        Refuse pictures that cannot become frames of this kind.

        A size that the profile gives is the fault of no bag.
        """
        del info
        check_video_options(self.video)
        try:
            check_video_size(self.video, *self.size)
            self._encoders = self._choose_encoders()
        except UsageError as error:
            if self._bound.feature.size is not None:
                raise UsageError(f'{self.key}: {error}') from None
            raise BagError(f'{self.topic}: {error}') from None

    def _choose_encoders(self) -> tuple[str, ...]:
        """
        Return :attr:`.VideoOptions.encoders`.

        :raises UsageError: The one that the settings name cannot encode such pictures.
        """
        return ()

    def _storable_geometry(self, recorded: Size) -> Geometry:
        """Return a geometry whose frames the encoder takes, if ``fit`` allows it."""
        feature = self._bound.feature
        geometry = geometry_of(feature, size_grid(self.video))
        if feature.size is not None or feature.fit not in ('pad', 'scale'):
            return geometry
        for least in _LEAST_SIDES:
            geometry = replace(geometry, least=least)
            with suppress(UsageError):
                check_video_size(self.video, *geometry.frame_size(recorded))
                break
        return geometry

    def _no_remarks(self) -> PictureRemarks:
        feature = self._bound.feature
        clipped = feature.depth_range if feature.depth in ('original', 'range8') else None
        return PictureRemarks(shown(self.topic), self.key, clipped)

    def _depth_decoder(self, connection: Connection) -> DepthDecoder:
        return DepthDecoder(
            connection,
            self._options.definitions,
            self.size,
            geometry=self._geometry,
            recorded_size=self._recorded_size,
            unit_mm=self._bound.feature.unit_mm,
            remarks=self.remarks,
        )

    def _encoder_bytes_per_pixel(self) -> int:
        whole = self.video.pix_fmt.startswith('yuv444')
        deep = self.video.pix_fmt.endswith('10le')
        return _ENCODER_BYTES_PER_PIXEL[self.video.vcodec] * (1 + whole) * (1 + deep)


class ColorCamera(CameraKind[av.VideoFrame]):
    """Pictures are decoded, scaled and encoded."""

    def decoder(self, connection: Connection) -> ConnectionDecoder[av.VideoFrame]:
        """Return a decoder to frames of the encoder's pixel format."""
        return ColorDecoder(
            connection,
            self._options.definitions,
            self.size,
            self._pix_fmt,
            geometry=self._geometry,
            recorded_size=self._recorded_size,
            value_range=self._bound.feature.value_range,
            remarks=self.remarks,
            use_cv_bridge=self._options.use_cv_bridge,
        )

    def writer(self, shard: ShardWriter) -> Callable[[av.VideoFrame], None]:
        """Open an encoder."""
        return shard.camera_writer(self.key, VideoWriter).write

    @property
    def _pix_fmt(self) -> str:
        return self.video.pix_fmt

    def _choose_encoders(self) -> tuple[str, ...]:
        encoders = self._options.encoders
        return () if encoders is None else encoders.of(self._options.video, *self.size)


class GrayDepthCamera(ColorCamera):
    """Depth becomes grey pictures of 8 bits (``original``, ``range8``), encoded as colour."""

    def decoder(self, connection: Connection) -> ConnectionDecoder[av.VideoFrame]:
        """Return a decoder to grey frames of the encoder's pixel format."""
        camera = self._bound.feature
        depth = self._depth_decoder(connection)
        return GrayDepthDecoder(depth, camera.depth, camera.depth_range, self._pix_fmt)

    @property
    def video(self) -> VideoOptions:
        """Return the settings of its encoder, which takes such pictures for what they are."""
        return replace(super().video, gray_depth=True)


class _TableCamera(CameraKind[PictureT]):
    """Pictures are stored in the table, which takes any."""

    def _storable_geometry(self, recorded: Size) -> Geometry:
        del recorded
        return geometry_of(self._bound.feature, (1, 1))

    def _check(self, info: PictureInfo) -> None:
        """Refuse nothing."""

    def _encoder_bytes_per_pixel(self) -> int:
        return 20


class ImageCamera(_TableCamera[av.VideoFrame], ColorCamera):
    """Pictures are stored in the table, without loss (``store: image``)."""

    @property
    def feature(self) -> Feature:
        """Return the feature of the dataset, which is no video."""
        return Feature(self.key, 'image', (*self.size, 3))

    def writer(self, shard: ShardWriter) -> Callable[[av.VideoFrame], None]:
        """Open a file of pictures."""
        return shard.image_writer(self.key, ColorImageWriter).write

    @property
    def _pix_fmt(self) -> str:
        return RGB


class GrayDepthImageCamera(ImageCamera, GrayDepthCamera):
    """Depth as 8-bit grey pictures in the table."""


class MetricDepthCamera(CameraKind[npt.NDArray[np.uint16]]):
    """Depth is stored in millimetres as 12-bit codes without loss (``metric12``)."""

    @property
    def feature(self) -> Feature:
        """Return the feature of the dataset, which tells how depth is coded."""
        return Feature(self.key, 'video', (*self.size, 1), depth=DepthCoding())

    @property
    def video(self) -> VideoOptions:
        """Return the settings of its encoder, which no setting changes."""
        return DEPTH_OPTIONS

    @property
    def loss(self) -> str:
        """Return the error of the codes."""
        low, high = _METRIC_RANGE
        return (
            f'metric12 keeps {low} to {high} mm to within {largest_error(DepthCoding())} mm, and '
            f'no depth reads as {low} mm'
        )

    def _no_remarks(self) -> PictureRemarks:
        return PictureRemarks(shown(self.topic), self.key, _METRIC_RANGE, tell_any=True)

    def decoder(self, connection: Connection) -> ConnectionDecoder[npt.NDArray[np.uint16]]:
        """Return a decoder to depth maps, mm."""
        return self._depth_decoder(connection)

    def writer(self, shard: ShardWriter) -> Callable[[npt.NDArray[np.uint16]], None]:
        """Open an encoder of depth."""
        return shard.camera_writer(self.key, DepthWriter).write

    def _encoder_bytes_per_pixel(self) -> int:
        return 90


class DepthTableCamera(_TableCamera[PictureT]):
    """Depth is stored in the table, as pictures of 16 bits in millimetres."""

    @property
    def feature(self) -> Feature:
        """Return the feature of the dataset, which is no video."""
        return Feature(self.key, 'image', (*self.size, 1))


class DepthImageCamera(DepthTableCamera[npt.NDArray[np.uint16]]):
    """Depth maps are decoded, scaled and stored without loss (``image16``)."""

    def decoder(self, connection: Connection) -> ConnectionDecoder[npt.NDArray[np.uint16]]:
        """Return a decoder to depth maps, mm."""
        return self._depth_decoder(connection)

    def writer(self, shard: ShardWriter) -> Callable[[npt.NDArray[np.uint16]], None]:
        """Open a file of pictures."""
        return shard.image_writer(self.key, DepthImageWriter).write


class CopiedDepthCamera(DepthTableCamera[DepthPng]):
    """The bag's own PNGs of 16 bits are stored as they are (``depth: copy``)."""

    def decoder(self, connection: Connection) -> ConnectionDecoder[DepthPng]:
        """Return what takes the PNG out of a message."""
        return DepthPngCopier(connection, self._options.definitions, self.remarks)

    def writer(self, shard: ShardWriter) -> Callable[[DepthPng], None]:
        """Open a file of pictures."""
        return shard.image_writer(self.key, CopiedDepthWriter).write

    def _check(self, info: PictureInfo) -> None:
        _check_unchanged(self._bound.feature, 'depth: copy', 'depth: image16')
        if self._bound.feature.unit_mm not in (None, 1):
            raise UsageError(
                f'{self.key}: depth: copy stores counts as they are, which LeRobot takes for mm; '
                'set depth: image16, which brings the unit to mm'
            )
        if info.codec != 'png':
            found = info.encoding if info.codec == 'raw' else info.codec
            raise BagError(f'{self.topic}: {not_copied(f"{shown(found)} pictures")}')
        _check_same_size(info, self, 'depth: copy', 'depth: image16')


class _CopiedCamera(CameraKind[PictureT]):
    """The bag's own coded pictures become the packets of the video."""

    def _check(self, info: PictureInfo) -> None:
        _check_unchanged(self._bound.feature, 'video: copy', 'video: encode')
        self._check_pictures(info)
        _check_same_size(info, self, 'video: copy', 'video: encode')

    @abstractmethod
    def _check_pictures(self, info: PictureInfo) -> None:
        """
        Refuse pictures that cannot be copied.

        :raises BagError: Says why.
        """

    def _encoder_bytes_per_pixel(self) -> int:
        return 1


class CopiedJpegCamera(_CopiedCamera[bytes]):
    """The bag's own JPEG pictures become the packets of the video (``video: copy``)."""

    @property
    def video(self) -> VideoOptions:
        """Return what stands for the encoder."""
        return replace(self._options.video, vcodec=COPY)

    def decoder(self, connection: Connection) -> ConnectionDecoder[bytes]:
        """Return what takes the JPEG out of a message."""
        return JpegCopier(connection, self._options.definitions)

    def writer(self, shard: ShardWriter) -> Callable[[bytes], None]:
        """Open a file of packets."""
        return shard.camera_writer(self.key, PacketWriter).write

    def _check_pictures(self, info: PictureInfo) -> None:
        if info.channels == 1 and mosaic_of(info.encoding):
            raise BagError(
                f'{self.topic}: video: copy needs pictures with colours, found the mosaic of a '
                f'sensor ({shown(info.encoding)}); set video: encode'
            )
        if info.codec != 'jpeg' or not info.upright:
            found = 'a JPEG that Exif turns' if info.codec == 'jpeg' else info.codec
            raise BagError(
                f'{self.topic}: video: copy needs upright JPEG pictures, H.264 or H.265, found '
                f'{found}; set video: encode'
            )


class CopiedStreamCamera(_CopiedCamera[CodedPicture]):
    """
    The pictures of an H.264 or H.265 stream become packets of the video as they are.

    With ``video: auto`` those that cannot are encoded, see :mod:`.stream_writer`.
    """

    @property
    def video(self) -> VideoOptions:
        """Return the form of the video."""
        return copied_stream_options(self.info.codec, self.info.pix_fmt)

    def decoder(self, connection: Connection) -> ConnectionDecoder[CodedPicture]:
        """Return what takes coded pictures out of the messages."""
        copier = StreamCopier(connection, self._options.definitions, self.info, self.remarks)
        return cast('ConnectionDecoder[CodedPicture]', copier)

    def writer(self, shard: ShardWriter) -> Callable[[CodedPicture], None]:
        """Open a file of packets."""
        kind = partial(StreamWriter, may_encode=self._options.color_cameras == 'auto')
        return shard.camera_writer(self.key, kind).write

    @property
    def memory_bytes(self) -> int:
        """Return that of the pictures of a group, too."""
        return HELD_BYTES + super().memory_bytes

    def _check_pictures(self, info: PictureInfo) -> None:
        if not info.pix_fmt:
            raise BagError(
                f'{self.topic}: video: copy needs a key frame among the first pictures; set '
                'video: encode'
            )

    def _encoder_bytes_per_pixel(self) -> int:
        if self._options.color_cameras == 'copy':
            return 1
        return _ENCODER_BYTES_PER_PIXEL[self.info.codec]


def _check_unchanged(feature: CameraFeature, copy: str, other: str) -> None:
    """
    Refuse to copy pictures that the profile changes.

    :raises UsageError: Names the key.
    """
    changes = {
        'crop': feature.crop, 'rotate': feature.rotate, 'fit': feature.fit,
        'range': feature.value_range,
    }  # fmt: skip
    for name, value in changes.items():
        if value:
            raise UsageError(
                f'{feature.key}: {copy} stores pictures as they are, {name} changes them; '
                f'set {other}, or leave it out'
            )


def _check_same_size(info: PictureInfo, camera: CameraKind[Any], copy: str, other: str) -> None:
    """
    Refuse to copy pictures of another size than the frames'.

    :raises BagError: Names both sizes.
    """
    if (info.height, info.width) != camera.size:
        height, width = camera.size
        raise BagError(
            f'{camera.topic}: {copy} needs pictures of {width}x{height}, found '
            f'{info.width}x{info.height}; set resize to that size, or {other}'
        )


DEPTH_KINDS: Mapping[str, type[CameraKind[Any]]] = {
    'original': GrayDepthCamera,
    'range8': GrayDepthCamera,
    'metric12': MetricDepthCamera,
    'image16': DepthImageCamera,
    'copy': CopiedDepthCamera,
}
"""Of depth cameras, by the coding."""
IMAGE_KINDS: Mapping[str, type[CameraKind[Any]]] = {
    '': ImageCamera,
    'original': GrayDepthImageCamera,
    'range8': GrayDepthImageCamera,
}
"""Of cameras with ``store: image``, by the depth coding, if that is one for videos."""


def geometry_of(feature: CameraFeature, grid: Size = (2, 2)) -> Geometry:
    """
    Return how the pictures of a camera become frames.

    :param feature: The camera.
    :param grid: What height and width of a frame must be multiples of.
    """
    return Geometry(feature.crop, feature.rotate, feature.fit, feature.size, grid)


def camera_of(bound: BoundCamera, info: PictureInfo, options: ShardOptions) -> CameraKind[Any]:
    """
    Return the camera of a bag whose first good picture says ``info``.

    :raises BagError: Such pictures cannot become what was asked for.
    """
    feature = bound.feature
    if feature.store == 'image' and feature.depth in IMAGE_KINDS:
        return IMAGE_KINDS[feature.depth](bound, info, options)
    if feature.depth:
        return DEPTH_KINDS[feature.depth](bound, info, options)
    copied = CopiedStreamCamera if info.codec in COPYABLE else CopiedJpegCamera
    if options.color_cameras == 'copy':
        return copied(bound, info, options)
    if options.color_cameras == 'auto' and feature.key not in options.encoded:
        with suppress(BagError, UsageError):
            return copied(bound, info, options)
    return ColorCamera(bound, info, options)
