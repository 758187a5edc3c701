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
Aligned frames of a recording as arrays, chunk by chunk: what a conversion writes, in a script.

They go the way of a conversion (:mod:`.stream`), but for two things. Pictures are decoded when
they are asked for. And a frame is given away whole: a camera whose topic is stored far ahead of
the others waits for them, and what it cannot hold meanwhile is read again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
from kuavo_bag_converter.alignment.binding import bind, Binding, BoundCamera
from kuavo_bag_converter.alignment.plan import LanguageRow, Plan
from kuavo_bag_converter.alignment.planning import plan_bag
from kuavo_bag_converter.alignment.selection import (
    compare_first_messages,
    frame_check,
    select_messages,
    UnfitTopics,
)
from kuavo_bag_converter.bags.model import BagReader, Connection, Stamps
from kuavo_bag_converter.frames.camera_sequence import CameraSequence
from kuavo_bag_converter.frames.cameras import at_its_stamp, first_picture, needed_for
from kuavo_bag_converter.frames.kinds import geometry_of
from kuavo_bag_converter.frames.pictures import (
    ConnectionDecoder,
    picture_bytes,
    PictureDecoder,
    StreamDecoder,
    StreamPicture,
)
from kuavo_bag_converter.frames.stream import memory_shares, stream
from kuavo_bag_converter.frames.table import FrameRows, Table
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.depth import DepthDecoder
from kuavo_bag_converter.messages.images import ColorDecoder
from kuavo_bag_converter.messages.video_frames import RGB, rgb_pixels
from kuavo_bag_converter.profiles.loader import checked
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.support.errors import (
    BagError,
    DamagedBagError,
    ImageError,
    UsageError,
)
from kuavo_bag_converter.support.workers import InlineWorkers
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
_ROWS = 10
"""Frames whose numbers are finished together: for so long, pictures wait for them."""


class Picture:
    """
    A picture of a frame; it is decoded when it is asked for.

    It holds the message as it is stored. Only pictures of a video stream (H.264, H.265), which
    need those before them, are decoded already.
    """

    def __init__(self, decoder: ConnectionDecoder[Any], data: bytes, decoded: Any = None) -> None:
        """Hold a message, and what is decoded of it already."""
        self._decoder = decoder
        self._data = data
        self._decoded = decoded

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return len(self._data) + picture_bytes(self._decoded)

    def decode(self) -> Pixels:
        """
        Return its pixels in the size that the profile gives the camera, else in their own.

        Pictures of one camera must not be decoded by several threads at once.

        :return: RGB, uint8 (height, width, 3); of a depth camera millimetres, uint16 (height,
            width), 0 where there is no depth, whatever coding the profile gives it.
        :raises ImageError: It is damaged.
        :raises BagError: It is of another kind than the camera's pictures are.
        """
        decoded = self._decoder.decode(self._data) if self._decoded is None else self._decoded
        if isinstance(decoded, av.VideoFrame):
            return rgb_pixels(decoded)
        depth: npt.NDArray[np.uint16] = decoded
        return depth


@dataclass(frozen=True, eq=False)
class Chunk:
    """
    Consecutive frames of one episode.

    :ivar episode: Number of the episode in the recording, from 0.
    :ivar first_frame: Number of the first frame in its episode, from 0.
    :ivar stamps: When the frames are, ns on the time line of the profile's clock, int64 (frames,).
    :ivar vectors: Values by feature, in its dtype (frames, elements); (frames, samples, elements)
        of a feature with several samples a frame.
    :ivar pictures: By feature, one for each frame.
    :ivar tasks: One for each frame.
    :ivar errors_ms: By topic, stamp of the message that serves the frame minus stamp of the frame,
        float64 (frames,); 0 where values are interpolated or filled. A topic that features align
        in different ways is there for each of them, as ``topic (feature)``. That of several
        samples a frame has shape (frames, samples) and is measured from the time of each.
    :ivar language: Texts that are said at each frame or hold from it on, a tuple for each; see the
        profile's ``language``.
    """

    episode: int
    first_frame: int
    stamps: Stamps
    vectors: Mapping[str, npt.NDArray[Any]]
    pictures: Mapping[str, Sequence[Picture]]
    tasks: Sequence[str]
    errors_ms: Mapping[str, npt.NDArray[np.float64]]
    language: Sequence[tuple[LanguageRow, ...]]

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.stamps)


@dataclass(frozen=True, eq=False)
class Frame:
    """
    One frame.

    :ivar episode: Number of the episode in the recording, from 0.
    :ivar index: Number of the frame in its episode, from 0.
    :ivar stamp: When it is, ns on the time line of the profile's clock.
    :ivar vectors: Values by feature, in its dtype (elements,) or (samples, elements).
    :ivar pictures: By feature.
    :ivar task: What is done.
    :ivar errors_ms: As in :class:`Chunk`; an array (samples,) where there are several.
    :ivar language: Texts that are said at the frame or hold from it on.
    """

    episode: int
    index: int
    stamp: int
    vectors: Mapping[str, npt.NDArray[Any]]
    pictures: Mapping[str, Picture]
    task: str
    errors_ms: Mapping[str, float | npt.NDArray[np.float64]]
    language: tuple[LanguageRow, ...]


def plan(
    bag: BagReader,
    profile: Profile,
    *,
    msg_path: Sequence[str | Path] = (),
    distro: str = 'humble',
) -> Plan:
    """
    Decide which message serves which frame, from the stamps of a recording.

    :param bag: The recording.
    :param profile: What a frame is made of.
    :param msg_path: Folders with .msg files, for bags that embed no message definitions.
    :param distro: ROS 2 distro of standard message types that the bag does not define.
    :raises BagError: The recording does not have what the profile needs, is damaged, or no frame
        is left.
    :raises UsageError: A folder of ``msg_path`` does not exist, or ``distro`` is not known.
    """
    definitions = Definitions(msg_path, distro)
    binding = bind(checked(profile), bag)
    compare_first_messages(binding, bag, definitions)
    binding, selected = select_messages(binding, bag, definitions)
    return plan_bag(binding, selected, definitions)


def iter_chunks(
    bag: BagReader,
    profile: Profile,
    *,
    chunk_size: int = 50,
    msg_path: Sequence[str | Path] = (),
    distro: str = 'humble',
) -> Iterator[Chunk]:
    """
    Yield the frames of a recording in order, with the values that a conversion writes.

    In memory are a chunk, up to 32 MB of messages that are stored before their frame's turn, and
    the numbers (not the pictures) that are stored ahead. Pictures are held as they are stored;
    those of a video stream decoded, 3 bytes a pixel.

    :param bag: The recording, which is read anew by each call.
    :param profile: What a frame is made of.
    :param chunk_size: Frames of a chunk; the last one of an episode may have fewer.
    :param msg_path: Folders with .msg files, for bags that embed no message definitions.
    :param distro: ROS 2 distro of standard message types that the bag does not define.
    :raises BagError: The recording does not have what the profile needs, is damaged, no frame is
        left, or a video stream is stored too far ahead of what else its frames need.
    :raises UsageError: An argument is not allowed.
    """
    if chunk_size < 1:
        raise UsageError(f'chunk_size: expected at least 1, found {chunk_size}')
    definitions = Definitions(msg_path, distro)
    binding = bind(checked(profile), bag)
    compare_first_messages(binding, bag, definitions)
    attempts = _Attempts(bag, binding, definitions, chunk_size)
    return attempts.chunks(attempts.begin())


class _Attempts:
    """Goes through a recording, once more where messages do not hold what is read of them."""

    def __init__(
        self, bag: BagReader, binding: Binding, definitions: Definitions, chunk_size: int
    ) -> None:
        self._bag = bag
        self._binding = binding
        self._chosen = binding
        self._definitions = definitions
        self._chunk_size = chunk_size
        self._unfit = UnfitTopics()

    def begin(self) -> Iterator[Chunk]:
        """Plan the recording."""
        definitions = self._definitions
        self._chosen, selected = select_messages(
            self._binding, self._bag, definitions, self._unfit.topics
        )
        return _chunks(
            selected,
            self._chosen,
            plan_bag(self._chosen, selected, definitions),
            [_decoders(bound, selected, definitions) for bound in self._chosen.cameras],
            definitions,
            self._chunk_size,
        )

    def chunks(self, attempt: Iterator[Chunk]) -> Iterator[Chunk]:
        """Yield the chunks of the attempt that succeeds, none twice."""
        given: list[tuple[int, int, int]] = []
        while True:
            with self._unfit.met_in(self._chosen):
                for number, chunk in enumerate(attempt):
                    place = (chunk.episode, len(chunk), int(chunk.stamps[0]))
                    if number == len(given):
                        given.append(place)
                        yield chunk
                    elif place != given[number]:
                        raise BagError(
                            f'{self._bag.path}: messages do not hold what is read of them in '
                            f'{", ".join(self._unfit.topics)}, and without them the frames that '
                            'were given already are others; convert the bag, or leave the topic '
                            'out'
                        )
            if not self._unfit.are_new:
                return
            attempt = self.begin()


def iter_frames(
    bag: BagReader,
    profile: Profile,
    *,
    msg_path: Sequence[str | Path] = (),
    distro: str = 'humble',
) -> Iterator[Frame]:
    """Yield the frames of a recording one by one; see :func:`iter_chunks`."""
    chunks = iter_chunks(bag, profile, chunk_size=_ROWS, msg_path=msg_path, distro=distro)
    return (_frame(chunk, row) for chunk in chunks for row in range(len(chunk)))


def _frame(chunk: Chunk, row: int) -> Frame:
    return Frame(
        chunk.episode,
        chunk.first_frame + row,
        int(chunk.stamps[row]),
        {key: values[row] for key, values in chunk.vectors.items()},
        {key: pictures[row] for key, pictures in chunk.pictures.items()},
        chunk.tasks[row],
        {
            name: errors[row] if errors.ndim > 1 else float(errors[row])
            for name, errors in chunk.errors_ms.items()
        },
        chunk.language[row],
    )


class _Undecoded:
    """In place of a decoder: gives pictures that it decodes later, if at all."""

    def __init__(self, decoder: ConnectionDecoder[Any]) -> None:
        self._decoder = decoder

    def decode(self, data: bytes) -> Picture:
        return Picture(self._decoder, data)


class _DecodedStream:
    """In place of a decoder of a video stream, which decodes every picture at once."""

    def __init__(self, decoder: StreamDecoder[Any]) -> None:
        self._decoder = decoder

    def decode(self, data: bytes) -> Picture:
        return self._picture(partial(self._decoder.decode, data))

    def feed(self, key: int, data: bytes) -> list[StreamPicture[Picture]]:
        return self._pictures(self._decoder.feed(key, data))

    def flush(self) -> list[StreamPicture[Picture]]:
        return self._pictures(self._decoder.flush())

    def _pictures(self, pictures: Iterable[StreamPicture[Any]]) -> list[StreamPicture[Picture]]:
        return [(key, partial(self._picture, give)) for key, give in pictures]

    def _picture(self, give: Callable[[], Any]) -> Picture:
        return Picture(self._decoder, b'', give())


def _decoders(
    bound: BoundCamera, bag: BagReader, definitions: Definitions
) -> PictureDecoder[Picture]:
    """Look at the first good picture of a camera, and return what decodes all of them."""
    with needed_for(bound.feature.key):
        info, message = first_picture(bound, bag, definitions)
        feature = bound.feature
        geometry = geometry_of(feature)
        recorded = (info.height, info.width)
        size = geometry.frame_size(recorded)
        expected = None if feature.size else recorded

        def decoder_for(connection: Connection) -> Any:
            if feature.depth:
                return DepthDecoder(
                    connection, definitions, size,
                    geometry=geometry, recorded_size=expected, unit_mm=feature.unit_mm,
                )  # fmt: skip
            return ColorDecoder(
                connection, definitions, size, RGB,
                geometry=geometry, recorded_size=expected, value_range=feature.value_range,
            )  # fmt: skip

        with suppress(ImageError):
            decoder_for(message.connection).decode(bytes(message.data))
    late = _DecodedStream if info.is_stream else _Undecoded
    return PictureDecoder(
        lambda connection: late(decoder_for(connection)),
        is_stream=info.is_stream,
        check=frame_check(bound.source, definitions),
    )


def _chunks(
    bag: BagReader,
    binding: Binding,
    plan: Plan,
    decoders: Sequence[PictureDecoder[Picture]],
    definitions: Definitions,
    chunk_size: int,
) -> Iterator[Chunk]:
    room = memory_shares(0, ()).held // max(1, len(decoders))
    collected = _Collected(binding, plan)
    table = Table(binding, plan, definitions, min(chunk_size, _ROWS), collected.add_rows)
    cameras = [
        CameraSequence(
            plan.tracks[bound.track], decoder,
            collected.pictures[bound.feature.key].append, 'fail',
            room,
        )
        for bound, decoder in zip(binding.cameras, decoders, strict=True)
    ]  # fmt: skip
    features: list[Table | CameraSequence[Picture]] = [table, *cameras]
    left = deque(
        (episode, start, first, min(first + chunk_size, stop))
        for episode, (start, stop) in enumerate(plan.episodes)
        for first in range(start, stop, chunk_size)
    )

    def complete() -> Iterator[Chunk]:
        """Yield the chunks whose frames are all there."""
        while left and all(item.frames_done >= left[0][3] for item in features):
            yield collected.take(*left.popleft())
            open_next()

    def open_next() -> None:
        if left:
            for camera in cameras:
                camera.open_to(left[0][3])

    try:
        open_next()
        yield from complete()
        for _ in stream(bag, table, cameras, InlineWorkers()):
            yield from complete()
        table.close()
        bag.verify_rest()
    except DamagedBagError:
        raise
    except BagError as error:
        raise at_its_stamp(error, bag) from None


class _Collected:
    """What the features bring, until it is taken as a chunk."""

    def __init__(self, binding: Binding, plan: Plan) -> None:
        self.pictures: dict[str, deque[Picture]] = {
            camera.feature.key: deque() for camera in binding.cameras
        }
        self._rows: dict[str, deque[npt.NDArray[Any]]] = {
            vector.feature.key: deque() for vector in binding.vectors
        }
        self._plan = plan
        self._task = binding.profile.task
        topics = [track.track.topic for track in plan.tracks]
        self._names = [
            topic if topics.count(topic) == 1 else f'{topic} ({track.track.name})'
            for topic, track in zip(topics, plan.tracks, strict=True)
        ]

    def add_rows(self, rows: FrameRows) -> None:
        for key, values in rows.vectors.items():
            self._rows[key].append(values)

    def take(self, episode: int, start: int, first: int, stop: int) -> Chunk:
        plan, count = self._plan, stop - first
        return Chunk(
            episode,
            first - start,
            plan.stamps[first:stop].copy(),
            {key: self._take_rows(rows, count) for key, rows in self._rows.items()},
            {
                key: [pictures.popleft() for _ in range(count)]
                for key, pictures in self.pictures.items()
            },
            self._tasks(first, stop),
            {
                name: track.by_frame(track.error)[first:stop] / 1e6
                for name, track in zip(self._names, plan.tracks, strict=True)
            },
            self._texts(episode, range(first - start, stop - start)),
        )

    def _texts(self, episode: int, frames: range) -> list[tuple[LanguageRow, ...]]:
        rows = self._plan.language[episode] if self._plan.language else ()
        return [tuple(row for row in rows if row.frame == frame) for frame in frames]

    def _tasks(self, first: int, stop: int) -> list[str]:
        plan = self._plan
        if plan.task_index is None:
            return [plan.tasks[0] if plan.tasks else self._task] * (stop - first)
        return [plan.tasks[index] for index in plan.task_index[first:stop].tolist()]

    @staticmethod
    def _take_rows(rows: deque[npt.NDArray[Any]], count: int) -> npt.NDArray[Any]:
        taken = []
        while count:
            block = rows.popleft()
            if len(block) > count:
                rows.appendleft(block[count:])
            taken.append(block[:count])
            count -= len(taken[-1])
        return np.concatenate(taken)
