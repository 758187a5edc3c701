"""The picture side of a shard: sizes, decoders and writers of the cameras of one bag."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from kuavo_bag_converter.alignment.binding import Binding, BoundCamera
from kuavo_bag_converter.bags.damage import seconds
from kuavo_bag_converter.bags.model import BagReader, Connection, Message
from kuavo_bag_converter.bags.spans import spans_of
from kuavo_bag_converter.dataset.features import DepthCoding, Feature, VideoOptions
from kuavo_bag_converter.dataset.shard import ShardWriter
from kuavo_bag_converter.dataset.video import COPY, DEPTH_OPTIONS, check_video_size
from kuavo_bag_converter.frames.options import ShardOptions
from kuavo_bag_converter.frames.pictures import Decoder, Picture, PictureDecoder
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.depth import DepthDecoder, GrayDepth
from kuavo_bag_converter.messages.images import ColorDecoder, PictureInfo, picture_info
from kuavo_bag_converter.messages.jpeg_copy import JpegCopier
from kuavo_bag_converter.support.errors import BagError, DamagedBagError, ImageError, UsageError
from kuavo_bag_converter.support.texts import shown

_WITHIN = 600
"""Pictures among which a readable one must be."""


class Cameras:
    """What the first pictures of a bag's cameras say, and what follows from it."""

    def __init__(self, binding: Binding, reader: BagReader, options: ShardOptions) -> None:
        """Read and decode the first good picture of every camera.

        Raises:
            BagError: It is no picture of the camera's kind, or cannot be stored as asked.
            UsageError: The size that the profile gives a camera cannot be encoded.

        """
        self._options = options
        self._cameras = []
        for bound in binding.cameras:
            with needed_for(bound.feature.key):
                info, message = _first_picture(bound, reader, options.definitions)
                camera = _Camera(bound, info, options)
                with suppress(ImageError):  # on_bad_image decides, if a frame needs it
                    camera.decoder(message.connection).decode(bytes(message.data))
            self._cameras.append(camera)

    def features(self) -> list[Feature]:
        """Return the video features."""
        return [camera.feature() for camera in self._cameras]

    def video_options(self) -> dict[str, VideoOptions]:
        """Return the encoder settings of every camera."""
        return {camera.key: camera.video_options() for camera in self._cameras}

    def topics(self) -> dict[str, str]:
        """Return the topic of every camera, by the key of its feature."""
        return {camera.key: camera.topic for camera in self._cameras}

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
        self.topic = bound.source.topic
        self.info = info
        self._depth = feature.depth
        self._depth_range = feature.depth_range
        self._size = feature.size or (info.height, info.width)
        self._options = options
        self._copied = options.copy and not feature.depth
        if self._copied:
            _check_copy(self.topic, info, self._size)
        else:
            self._check_encoded(given=feature.size is not None)

    def _check_encoded(self, *, given: bool) -> None:
        """Refuse sizes that the encoder does not take; ``given`` ones are the fault of no bag."""
        try:
            check_video_size(self.video_options(), *self._size)
        except UsageError as error:
            if given:
                raise UsageError(f'{self.key}: {error}') from None
            raise BagError(f'{self.topic}: {error}') from None

    def feature(self) -> Feature:
        metric = self._depth == 'metric12'
        shape = (*self._size, 1 if metric else 3)
        return Feature(self.key, 'video', shape, depth=DepthCoding() if metric else None)

    def video_options(self) -> VideoOptions:
        if self._depth == 'metric12':
            return DEPTH_OPTIONS
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
                use_cv_bridge=self._options.use_cv_bridge,
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


def at_its_stamp(error: BagError, reader: BagReader) -> BagError:
    """Return an error of :class:`.camera.Camera` that names when the picture was received.

    What of a damaged picture the settings can do about it is said, too.
    """
    if error.ordinal is None:
        return error
    index = reader.index({topic for topic, count in reader.counts.items() if count})
    stamp = int(index[error.topic].receive[error.ordinal])
    spans = spans_of(topic.receive for topic in index.values())
    start = next(span.start for span in spans if span.start <= stamp <= span.stop)
    topic = shown(error.topic)
    what = str(error).removeprefix(f'{topic}: ')
    advice = ''
    if isinstance(error, ImageError):
        advice = '; set on_bad_image to repeat, split or drop to convert the bag without it'
    return type(error)(
        f'{topic}: the picture received at {seconds(stamp)} s, {(stamp - start) / 1e9:.3f} s '
        f'after the bag begins: {what}{advice}'
    )


@contextmanager
def needed_for(user: str) -> Iterator[None]:
    """Say in errors what a topic is needed for.

    Raises:
        BagError: Was raised inside; what it says ends with ``user``.

    """
    try:
        yield
    except DamagedBagError:
        raise
    except BagError as error:
        raise BagError(f'{error} ({user})') from None


def _first_picture(
    camera: BoundCamera, reader: BagReader, definitions: Definitions
) -> tuple[PictureInfo, Message]:
    """Read the headers of the first picture of a camera that tells what is needed.

    Damaged pictures are passed, and so are those of a stream before its first key frame where the
    size is not known. Whether frames need them is not known yet; then ``on_bad_image`` decides.
    """
    topic = camera.source.topic
    damage: ImageError | None = None
    tried = 0
    for message in reader.first_messages(topic, _WITHIN):
        tried += 1
        try:
            info = picture_info(message.connection, definitions, message.data)
        except ImageError as error:
            text = f'{error}, received at {seconds(message.stamp)} s'
            damage = damage or ImageError(text)
            continue
        if info.height or camera.feature.size is not None:
            return info, message
    raise _nothing_found(topic, tried, damage)


def _nothing_found(topic: str, tried: int, damage: ImageError | None) -> BagError:
    if damage is not None:
        return BagError(f'{damage}; none of its first {tried} pictures can be read')
    return BagError(f'{topic}: no key frame in the first {tried} pictures; give the camera a size')


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
