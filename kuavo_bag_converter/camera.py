"""The pictures of one camera in the order of the frames, and what stands in for a bad one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import numpy as np

from kuavo_bag_converter.alignment import TrackPlan
from kuavo_bag_converter.bags.model import Connection, Ordinals
from kuavo_bag_converter.errors import BagError, ImageError
from kuavo_bag_converter.pictures import Picture, PictureDecoder


class Camera:
    """Decodes and writes the pictures that the plan names, in the order of the frames.

    A picture that cannot be decoded follows ``on_bad_image``: ``fail`` raises, ``repeat`` writes
    the picture before it again (at the start, the first good one), ``drop`` and ``split`` note
    it, so that the bag can be planned again without the frames that it serves.
    """

    def __init__(
        self,
        track: TrackPlan,
        decoder: PictureDecoder,
        write: Callable[[Picture], None],
        on_bad_image: str,
    ) -> None:
        """Follow ``track`` from its first frame to its last; used by one thread at a time."""
        self.topic = track.track.topic
        self.frames_done = 0
        self.bad: list[int] = []
        """Ordinals of wanted messages whose picture could not be decoded."""
        self._decoder = decoder
        self._write = write
        self._on_bad_image = on_bad_image
        self._serving = track.first
        self._uses = _Uses(track.first)
        self._ready: dict[int, Picture | None] = {}
        self._shown: Picture | None = None
        self._owed = 0
        """Frames before the first good picture."""

    def take(self, connection: Connection, ordinal: int, data: bytes) -> None:
        """Decode a message and write the frames whose turn has come.

        Raises:
            ImageError: The picture cannot be decoded and must be.
            BagError: The camera's messages are no pictures of its kind, or none is good.

        """
        if self._uses.last(ordinal) < 0:
            self._decoder.skip(connection, data)
            return
        self._ready[ordinal] = self._decoded(connection, ordinal, data)
        while self.frames_done < len(self._serving):
            wanted = int(self._serving[self.frames_done])
            if wanted not in self._ready:
                return
            self._show(self._ready[wanted])
            if self._uses.last(wanted) == self.frames_done:
                del self._ready[wanted]
            self.frames_done += 1
        self._shown = None
        if self._owed:
            raise BagError(f'{self.topic}: none of the pictures can be decoded')

    @property
    def held(self) -> int:
        """Pictures that are kept for frames to come, without the one shown last."""
        return len(self._ready)

    def _decoded(self, connection: Connection, ordinal: int, data: bytes) -> Picture | None:
        try:
            return self._decoder.decode(connection, data)
        except ImageError:
            if self._on_bad_image == 'fail':
                raise
            self.bad.append(ordinal)
            return None

    def _show(self, picture: Picture | None) -> None:
        if picture is not None:
            self._shown = picture
            for _ in range(self._owed):
                self._write(picture)
            self._owed = 0
        if self._shown is None:
            self._owed += 1
        else:
            self._write(self._shown)


class _Uses:
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
