"""The picture side of a shard: sizes, decoders and writers of the cameras of one bag."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np

from kuavo_bag_converter.bags.model import BagReader, Connection
from kuavo_bag_converter.binding import Binding, BoundCamera
from kuavo_bag_converter.dataset.features import DepthCoding, Feature, VideoOptions
from kuavo_bag_converter.dataset.shard import ShardWriter
from kuavo_bag_converter.dataset.video import COPY
from kuavo_bag_converter.errors import BagError
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.depth import DepthDecoder, GrayDepth
from kuavo_bag_converter.messages.images import ColorDecoder, PictureInfo, picture_info
from kuavo_bag_converter.messages.jpeg_copy import JpegCopier
from kuavo_bag_converter.pictures import Decoder, Picture, PictureDecoder


@dataclass(frozen=True)
class ShardOptions:
    """How a bag becomes a shard, apart from the profile."""

    method: str
    video: VideoOptions
    copy: bool
    """Copy JPEG pictures of colour cameras in place of encoding them."""
    on_bad_image: str
    definitions: Definitions
    chunk_size: int
    threads: int
    memory_limit_mb: int
    stall_timeout_s: float
    debug_memory: bool = False


_KEY_FRAME_WITHIN = 600


class Cameras:
    """What the first pictures of a bag's cameras say, and what follows from it."""

    def __init__(self, binding: Binding, reader: BagReader, options: ShardOptions) -> None:
        """Read the first picture of every camera.

        Raises:
            BagError: It is no picture of the camera's kind, or cannot be copied as asked.

        """
        self._options = options
        first = _first_pictures(binding, reader, options.definitions)
        self._cameras = [
            _Camera(camera, first[camera.source.topic], options) for camera in binding.cameras
        ]

    def features(self) -> list[Feature]:
        """Return the video features."""
        return [camera.feature() for camera in self._cameras]

    def video_options(self) -> dict[str, VideoOptions]:
        """Return the encoder settings of every camera."""
        return {camera.key: camera.video_options() for camera in self._cameras}

    def encoders(self) -> list[tuple[Feature, VideoOptions]]:
        """Return the video features with their encoder settings."""
        return [(camera.feature(), camera.video_options()) for camera in self._cameras]

    def decoders(self) -> dict[str, PictureDecoder]:
        """Return fresh decoders."""
        return {
            camera.key: PictureDecoder(camera.decoder, is_stream=camera.info.is_stream)
            for camera in self._cameras
        }

    def writers(self, shard: ShardWriter) -> dict[str, Callable[[Picture], None]]:
        """Open the writers of a shard."""
        return {camera.key: camera.writer(shard) for camera in self._cameras}


class _Camera:
    def __init__(self, bound: BoundCamera, info: PictureInfo, options: ShardOptions) -> None:
        feature = bound.feature
        self.key = feature.key
        self.info = info
        self._depth = feature.depth
        self._depth_range = feature.depth_range
        self._size = feature.size or (info.height, info.width)
        self._options = options
        self._copied = options.copy and not feature.depth
        if self._copied:
            _check_copy(bound.source.topic, info, self._size)

    def feature(self) -> Feature:
        metric = self._depth == 'metric12'
        shape = (*self._size, 1 if metric else 3)
        return Feature(self.key, 'video', shape, depth=DepthCoding() if metric else None)

    def video_options(self) -> VideoOptions:
        options = self._options.video
        return replace(options, vcodec=COPY) if self._copied else options

    def decoder(self, connection: Connection) -> Decoder:
        definitions = self._options.definitions
        pix_fmt = self._options.video.pix_fmt
        if self._copied:
            return JpegCopier(connection, definitions)
        if not self._depth:
            return ColorDecoder(
                connection,
                definitions,
                self._size,
                pix_fmt,
                use_cv_bridge=self.info.codec == 'raw' and find_spec('cv_bridge') is not None,
            )
        depth = DepthDecoder(connection, definitions, self._size)
        if self._depth == 'metric12':
            return depth
        return GrayDepth(depth, self._depth, self._depth_range, pix_fmt)

    def writer(self, shard: ShardWriter) -> Callable[[Picture], None]:
        if self._copied:
            return shard.packet_writer(self.key).write_packet
        if self._depth == 'metric12':
            return shard.depth_writer(self.key).write_depth
        return shard.video_writer(self.key).write


def _first_pictures(
    binding: Binding, reader: BagReader, definitions: Definitions
) -> dict[str, PictureInfo]:
    """Read the headers of the first picture of every camera topic."""
    topics = {camera.source.topic for camera in binding.cameras}
    first = np.zeros(1, dtype=np.int64)
    found = {
        message.connection.topic: picture_info(message.connection, definitions, message.data)
        for message in reader.messages(dict.fromkeys(topics, first))
    }
    for topic in topics - found.keys():
        raise BagError(f'{topic}: its first picture cannot be read')
    for camera in binding.cameras:
        topic = camera.source.topic
        if not found[topic].height and camera.feature.size is None:
            found[topic] = _key_frame(topic, reader, definitions)
    return found


def _key_frame(topic: str, reader: BagReader, definitions: Definitions) -> PictureInfo:
    """Read the headers of a stream's first key frame; before it, no picture tells its size."""
    wanted = np.arange(min(reader.counts[topic], _KEY_FRAME_WITHIN), dtype=np.int64)
    for message in reader.messages({topic: wanted}):
        info = picture_info(message.connection, definitions, message.data)
        if info.height:
            return info
    raise BagError(
        f'{topic}: no key frame in the first {len(wanted)} pictures; give the camera a size'
    )


def _check_copy(topic: str, info: PictureInfo, size: tuple[int, int]) -> None:
    if info.codec != 'jpeg' or not info.upright:
        found = 'a JPEG that Exif turns' if info.codec == 'jpeg' else info.codec
        raise BagError(
            f'{topic}: video: copy needs upright JPEG pictures, found {found}; set video: encode'
        )
    if (info.height, info.width) != size:
        raise BagError(
            f'{topic}: video: copy needs pictures of {size[1]}x{size[0]}, found '
            f'{info.width}x{info.height}; set resize to that size, or video: encode'
        )
