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

"""The cameras of one bag, opened by their first good pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import chain
import threading
from typing import Any

from kuavo_bag_converter.alignment.binding import Binding, BoundCamera
from kuavo_bag_converter.alignment.selection import chosen_messages
from kuavo_bag_converter.bags.damage import seconds_text
from kuavo_bag_converter.bags.model import BagReader, Message
from kuavo_bag_converter.bags.time_spans import recorded_spans
from kuavo_bag_converter.frames.kinds import camera_of, CameraKind
from kuavo_bag_converter.frames.options import ShardOptions
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.images import PictureInfo, PictureProbe, ProbedPicture
from kuavo_bag_converter.support.errors import BagError, DamagedBagError, ImageError
from kuavo_bag_converter.support.texts import shown
from kuavo_bag_converter.support.workers import call_within

_SPARE_PICTURES = 1.25
"""Pictures for each frame above which ``video: auto`` encodes a stream whole."""
_WITHIN = 600
"""Pictures among which a readable one must be."""


def open_cameras(
    binding: Binding,
    reader: BagReader,
    options: ShardOptions,
    cancel: threading.Event | None = None,
    known: Sequence[PictureInfo] = (),
) -> tuple[CameraKind[Any], ...]:
    """
    Read and decode the first good picture of every camera, and tell what it becomes.

    :param binding: Names the cameras.
    :param reader: The bag.
    :param options: How it is going to be converted.
    :param cancel: Set to stop.
    :param known: What these pictures say of themselves, in the order of the binding, where the
        cameras were opened before; then none is read.
    :return: In the order of the binding.
    :raises BagError: It is no picture of the camera's kind, or cannot be stored as asked.
    :raises UsageError: The size that the profile gives a camera cannot be encoded.
    :raises Cancelled: ``cancel`` was set.
    """
    faster = replace(options, encoded=options.encoded | _faster_than_frames(binding, reader))

    def camera_with(bound: BoundCamera, info: PictureInfo) -> CameraKind[Any]:
        return camera_of(bound, info, faster if info.is_stream else options)

    if known:
        pairs = zip(binding.cameras, known, strict=True)
        return tuple(camera_with(bound, info) for bound, info in pairs)
    cameras = []
    for bound in binding.cameras:
        call = partial(call_within, options.stall_timeout_s, cancel, bound.source.topic)
        with needed_for(bound.feature.key):
            info, message = first_picture(bound, reader, options.definitions, call)
            camera = camera_with(bound, info)
            decoder = camera.decoder(message.connection)
            with suppress(ImageError):  # on_bad_image decides, if a frame needs it
                call(partial(decoder.decode, bytes(message.data)))
        cameras.append(camera)
    return tuple(cameras)


def _faster_than_frames(binding: Binding, reader: BagReader) -> frozenset[str]:
    """Return the cameras with so many more pictures than frames that few can be copied in turn."""
    profile = binding.profile
    frames = reader.counts[binding.clock_topic] * profile.fps / profile.clock.source_fps
    return frozenset(
        bound.feature.key
        for bound in binding.cameras
        if reader.counts[bound.source.topic] > _SPARE_PICTURES * frames
    )


def at_its_stamp(error: BagError, reader: BagReader) -> BagError:
    """
    Return an error of :class:`.CameraSequence` that names when the picture was received.

    What of a damaged picture the settings can do about it is said, too.
    """
    if error.ordinal is None:
        return error
    index = reader.index({topic for topic, count in reader.counts.items() if count})
    stamp = int(index[error.topic].receive[error.ordinal])
    spans = recorded_spans(topic.receive for topic in index.values())
    start = next(span.start for span in spans if span.start <= stamp <= span.stop)
    topic = shown(error.topic)
    what = str(error).removeprefix(f'{topic}: ')
    advice = ''
    if isinstance(error, ImageError):
        advice = '; set on_bad_image to repeat, split or drop to convert the bag without it'
    return type(error)(
        f'{topic}: the picture received at {seconds_text(stamp)} s, {(stamp - start) / 1e9:.3f} s '
        f'after the bag begins: {what}{advice}'
    )


@contextmanager
def needed_for(user: str) -> Iterator[None]:
    """
    Say in errors what a topic is needed for.

    :raises BagError: Was raised inside; what it says ends with ``user``.
    """
    try:
        yield
    except DamagedBagError:
        raise
    except BagError as error:
        raise BagError(f'{error} ({user})') from None


def first_picture(
    camera: BoundCamera,
    reader: BagReader,
    definitions: Definitions,
    call: Callable[[Callable[[], list[ProbedPicture]]], list[ProbedPicture]] = lambda task: task(),
) -> tuple[PictureInfo, Message]:
    """
    Read the headers of the first picture of a camera that tells what is needed.

    Damaged pictures are passed, and so are those of a stream before its first key frame. Whether
    frames need them is not known yet; then ``on_bad_image`` decides.

    :raises BagError: There is none among the first messages.
    """
    topic = camera.source.topic
    damage: ImageError | None = None
    waiting: tuple[PictureInfo, Message] | None = None
    lacks = ''
    probe = PictureProbe(definitions)
    tried = 0
    unknown: dict[int, Message] = {}
    """Messages of streams whose picture is not known yet."""
    for message in chain(chosen_messages(camera.source, reader, definitions, _WITHIN), [None]):
        try:
            if message is None:
                probed = call(probe.flush)
            else:
                unknown[tried] = message._replace(data=bytes(message.data))
                tried += 1
                payload = unknown[tried - 1].data
                probed = call(partial(probe.feed, tried - 1, message.connection, payload))
        except ImageError as error:
            text = f'{error}, received at {seconds_text(unknown.pop(tried - 1).stamp)} s'
            damage = damage or ImageError(text)
            continue
        for key, info, why in probed:
            found = unknown.pop(key)
            if info.height:
                return info, found
            if waiting is None or 'parameter sets' in why:
                lacks, waiting = why, (info, found)
    if waiting is None:
        raise BagError(f'{damage}; none of its first {tried} pictures can be read')
    if tried < _WITHIN:
        raise _undecodable(topic, tried, lacks)
    if camera.feature.size is None:
        raise BagError(
            f'{topic}: no key frame in the first {tried} messages; give the camera a size'
        )
    return waiting


def _undecodable(topic: str, count: int, lacks: str) -> BagError:
    advice = (
        '; the stream began before the recording: record it from its beginning, or let the '
        'encoder repeat key frames and their parameter sets every second or so'
    )
    is_late = 'key frame' in lacks or 'headers' in lacks
    return BagError(
        f'{topic}: none of its {count} messages gives a picture ({lacks})'
        f'{advice if is_late else ""}'
    )
