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

"""The pictures of one camera in the order of the frames, and what stands in for a bad one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from kuavo_bag_converter.alignment.plan import TrackPlan
from kuavo_bag_converter.bags.model import Connection, Ordinals
from kuavo_bag_converter.frames.pictures import (
    picture_bytes,
    PictureDecoder,
    PictureT,
    StreamPicture,
)
from kuavo_bag_converter.support.errors import BagError, ImageError
from kuavo_bag_converter.support.process import MB
import numpy as np

PictureT_contra = TypeVar('PictureT_contra', contravariant=True)

_BEHIND = 32
"""Messages of a video stream in which its last picture is complete."""


def _as_it_is(picture: PictureT | None) -> PictureT | None:
    return picture


class Stretches(Protocol[PictureT_contra]):
    """Parts of a camera's frames that can be written beside each other, each in order."""

    @property
    def stretches(self) -> Sequence[range]:
        """Return the frames of each."""

    def stretch(self, number: int) -> Stretch[PictureT_contra]:
        """Return what writes the frames of one; each is asked for once."""


class Stretch(Protocol[PictureT_contra]):
    """A part of a camera's frames."""

    def write(self, picture: PictureT_contra) -> None:
        """Write the next frame."""


@dataclass(frozen=True)
class _WaitingMessage(Generic[PictureT]):
    """A message whose frame's turn has not come, or comes again."""

    last_frame: int
    """The last frame that it serves."""
    size: int
    """Bytes."""
    picture: Callable[[], PictureT | None]
    """Decodes it; None if it cannot be decoded."""


class CameraSequence(Generic[PictureT]):
    """
    Decodes and writes the pictures that the plan names, in the order of the frames.

    A message that comes before its turn is held as it is, and decoded when its turn comes; only
    pictures of a video stream, which are decoded in the order of the messages, are held decoded.
    Where messages are so far out of order that ``room`` does not take them, those of the nearest
    frames are held, and the others must be read again (see :meth:`to_read_again`); a video stream
    is refused.

    A picture that cannot be decoded follows ``on_bad_image``: ``fail`` raises, ``repeat`` writes
    the picture before it again (at the start, the first good one), ``drop`` and ``split`` note
    it, so that the bag can be planned again without the frames that it serves.
    """

    def __init__(
        self,
        track: TrackPlan,
        decoder: PictureDecoder[PictureT],
        write: Callable[[PictureT], None],
        on_bad_image: str,
        room: int | None,
        stretches: Stretches[PictureT] | None = None,
    ) -> None:
        """
        Follow ``track`` from its first frame to its last; used by one thread at a time.

        :param track: Which message serves which frame.
        :param decoder: Decodes the messages.
        :param write: Takes the pictures in the order of the frames.
        :param on_bad_image: What becomes of a picture that cannot be decoded.
        :param room: Bytes of messages that may be held; None for no limit.
        :param stretches: What writes parts of the frames in place of ``write``, if there are any.
        """
        self.topic = track.track.topic
        self.frames_done = 0
        self.frames_open = len(track.first)
        """Frames that may be written; pictures of later ones are held, see :meth:`open_to`."""
        self.bad: list[int] = []
        """Ordinals of wanted messages whose picture could not be decoded."""
        self.decoder = decoder
        self._write = write
        self.on_bad_image = on_bad_image
        self.room = room
        self.stretches = stretches
        self.track = track
        self._serving = track.first
        self._last_frames = _LastFrames(track.first)
        self._held: dict[int, _WaitingMessage[PictureT]] = {}
        self._held_bytes = 0
        self._largest = 1
        """Bytes of the largest message so far."""
        self._current: int | None = None
        """The message that was decoded last."""
        self._picture: PictureT | None = None
        """Its picture, None if it could not be decoded."""
        self._last_good: PictureT | None = None
        self._frames_before_first = 0
        """Frames before the first good picture."""

    def take(self, connection: Connection, ordinal: int, data: bytes) -> None:
        """
        Take a message, and write the frames whose turn has come.

        :raises ImageError: The picture cannot be decoded and must be.
        :raises BagError: The camera's messages are no pictures of its kind, none is good, or a
            video stream is too far out of order.
        """
        if self.decoder.is_stream:
            with self._naming_message(ordinal):
                pictures = self.decoder.feed(connection, ordinal, data)
            self._take_pictures(pictures)
            return
        picture = partial(self.decoder.decode, connection, data)
        size = 0 if self.room is None else len(data)
        self._hold(ordinal, partial(self.decoded, ordinal, picture), size)

    def finish(self) -> None:
        """
        Write what waits for a next message of a video stream; call it behind the last message.

        :raises ImageError: As in :meth:`take`.
        :raises BagError: Likewise.
        """
        if self.decoder.is_stream:
            self._take_pictures(self.decoder.flush())

    def _take_pictures(self, pictures: Iterable[StreamPicture[PictureT]]) -> None:
        for ordinal, give in pictures:
            if self._last_frames.last(ordinal) >= self.frames_done:
                picture = self.decoded(ordinal, give)
                size = 0 if picture is None else picture_bytes(picture)
                self._hold(ordinal, partial(_as_it_is, picture), size)

    def _hold(self, ordinal: int, picture: Callable[[], PictureT | None], size: int) -> None:
        """Hold a message until its frames' turn has come, and write the frames that are due."""
        last_frame = self._last_frames.last(ordinal)
        if last_frame < self.frames_done:
            return
        if ordinal not in self._held:
            self._held[ordinal] = _WaitingMessage(last_frame, size, picture)
            self._held_bytes += size
            self._largest = max(self._largest, size)
        self._write_due()
        while self.room is not None and self._held_bytes > self.room:
            self._drop_furthest()

    def open_to(self, frames: int) -> None:
        """
        Let the first ``frames`` frames be written, and write those that are due.

        :raises ImageError: As in :meth:`take`.
        :raises BagError: Likewise.
        """
        self.frames_open = frames
        self._write_due()

    def wanted(self, count: int) -> Ordinals:
        """
        Return the messages to take of the ``count`` that there are.

        They are those that serve; of a video stream all before them, too, and some behind them
        that may belong to the last picture. Where a clock was set back, any may be stored before.
        """
        needed: Ordinals = np.unique(self._serving)
        if self.decoder.is_stream and (self._serving[1:] < self._serving[:-1]).any():
            return np.arange(count, dtype=np.int64)
        if self.decoder.is_stream:
            return np.arange(min(count, needed[-1] + 1 + _BEHIND), dtype=np.int64)
        return needed

    @property
    def frames_written(self) -> int:
        """Frames that are written."""
        return self.frames_done

    @property
    def stale_messages(self) -> int:
        """Messages that are held though they serve no frame to come."""
        return sum(held.last_frame < self.frames_done for held in self._held.values())

    def to_read_again(self) -> Ordinals:
        """Return messages that must be read again: those of the next frames, as room allows."""
        count = 1 if self.room is None else max(1, self.room // self._largest)
        next_ones = self._serving[slice(self.frames_done, self.frames_done + count)]
        return np.setdiff1d(next_ones, np.array([*self._held], dtype=np.int64))

    def _write_due(self) -> None:
        while self.frames_done < self.frames_open:
            wanted = int(self._serving[self.frames_done])
            held = self._held.get(wanted)
            if wanted != self._current:
                if held is None:
                    return
                self._current, self._picture = wanted, held.picture()
            self._write_or_repeat(self._picture)
            if held is not None and held.last_frame == self.frames_done:
                self._drop(wanted)
            self.frames_done += 1
        if self.frames_done < len(self._serving):
            return
        self._last_good = self._picture = None
        if self._frames_before_first:
            raise BagError(f'{self.topic}: none of the pictures can be decoded')

    def _drop_furthest(self) -> None:
        """
        Let go of the held message whose frame is furthest.

        :raises BagError: The messages are a video stream, which cannot be begun in between.
        """
        if self.decoder.is_stream:
            waiting = (
                f'{self.topic}: {len(self._held)} decoded pictures of this video stream '
                f'({self._held_bytes / MB:.0f} MB) wait for '
            )
            if self.frames_done == self.frames_open:
                raise BagError(
                    f'{waiting}other topics of their frames, which are stored too far behind '
                    'them; sort the bag by time, or leave the camera out of the profile'
                )
            raise BagError(
                f'{waiting}message {self._serving[self.frames_done]}, whose frame comes first: '
                'the order of the messages is too far from that of the frames; use timeline: bag '
                'for it, or a higher memory_limit_mb if one is set'
            )
        self._drop(max(self._held, key=lambda ordinal: self._held[ordinal].last_frame))

    def _drop(self, ordinal: int) -> None:
        self._held_bytes -= self._held.pop(ordinal).size

    def decoded(self, ordinal: int, give: Callable[[], PictureT]) -> PictureT | None:
        """
        Return the picture that ``give`` decodes, None if it cannot and need not be decoded.

        :raises ImageError: The picture cannot be decoded and must be.
        :raises BagError: The messages are no pictures of the camera's kind.
        """
        try:
            with self._naming_message(ordinal):
                return give()
        except ImageError:
            if self.on_bad_image == 'fail':
                raise
            self.bad.append(ordinal)
            return None

    @contextmanager
    def _naming_message(self, ordinal: int) -> Iterator[None]:
        """Say in errors which message they are about."""
        try:
            yield
        except BagError as error:
            error.topic, error.ordinal = self.topic, ordinal
            raise

    def _write_or_repeat(self, picture: PictureT | None) -> None:
        if picture is not None:
            self._last_good = picture
            for _ in range(self._frames_before_first):
                self._write(picture)
            self._frames_before_first = 0
        if self._last_good is None:
            self._frames_before_first += 1
        else:
            self._write(self._last_good)


def bad_pictures(cameras: Iterable[CameraSequence[Any]]) -> dict[str, Ordinals]:
    """Return the wanted messages whose picture could not be decoded, by topic."""
    found: dict[str, set[int]] = {}
    for camera in cameras:
        if camera.bad:
            found.setdefault(camera.topic, set()).update(camera.bad)
    return {topic: np.array(sorted(bad), dtype=np.int64) for topic, bad in found.items()}


class _LastFrames:
    """The last frame that each message of a track serves."""

    def __init__(self, serving: Ordinals) -> None:
        ordinals, from_the_end = np.unique(serving[::-1], return_index=True)
        # Looked up one by one, which bisect does in a sixth of the time that numpy takes.
        self._ordinals = ordinals.data
        self._frames = (len(serving) - 1 - from_the_end).data

    def last(self, ordinal: int) -> int:
        """Return the frame, -1 for a message that serves none."""
        place = bisect_left(self._ordinals, ordinal)
        if place == len(self._ordinals) or self._ordinals[place] != ordinal:
            return -1
        return self._frames[place]
