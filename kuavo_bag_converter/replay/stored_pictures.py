"""The pictures of one camera in a dataset, read in order."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, cast

import av
from av.container import InputContainer
from av.error import FFmpegError

from kuavo_bag_converter.check.description import Description, Episode
from kuavo_bag_converter.errors import DatasetError

_READ_ON = 8
"""Frames to skip by reading on; further ones are reached by seeking."""


class StoredPictures:
    """Gives chosen frames of a camera, in ascending order, holding one decoder."""

    def __init__(self, dataset: Description, key: str, *, packets: bool) -> None:
        """Read a camera's files.

        Args:
            dataset: The dataset.
            key: The camera's feature.
            packets: Give the packets (bytes) in place of decoded frames.

        """
        self._dataset = dataset
        self._key = key
        self._packets = packets
        self._file = ''
        self._container: InputContainer | None = None
        self._pictures: Iterator[tuple[int, Any]] = iter(())
        self._next = 0

    def picture(self, episode: Episode, frame: int) -> Any:
        """Return a frame of an episode: an ``av.VideoFrame``, or bytes.

        Raises:
            DatasetError: The video does not have it.

        """
        place = episode.videos[self._key]
        wanted = round(place.start * self._dataset.fps) + frame
        try:
            if place.file != self._file:
                self._open(place.file)
            if not 0 <= wanted - self._next <= _READ_ON:
                self._seek(wanted)
            for index, picture in self._pictures:
                self._next = index + 1
                if index == wanted:
                    return picture
                if index > wanted:
                    break
        except FFmpegError as error:
            raise DatasetError(f'{place.file}: frame {wanted} cannot be read: {error}') from error
        raise DatasetError(f'{place.file}: has no frame {wanted}')

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def _open(self, file: str) -> None:
        self.close()
        self._container = av.open(str(self._dataset.root / file))
        self._container.streams.video[0].codec_context.thread_count = 1
        self._file = file
        self._next = 0
        self._pictures = self._read(self._container)

    def _seek(self, wanted: int) -> None:
        container = self._container
        assert container is not None
        stream = container.streams.video[0]
        base = cast('Fraction', stream.time_base)
        container.seek(round(wanted / self._dataset.fps / base), stream=stream)
        self._pictures = self._read(container)

    def _read(self, container: InputContainer) -> Iterator[tuple[int, Any]]:
        """Yield frame numbers and frames or packets from the current place on."""
        stream = container.streams.video[0]
        base = float(cast('Fraction', stream.time_base))
        if self._packets:
            for packet in container.demux(stream):
                if packet.size and packet.pts is not None:
                    yield round(packet.pts * base * self._dataset.fps), bytes(packet)
        else:
            for frame in container.decode(stream):
                if frame.time is not None:
                    yield round(frame.time * self._dataset.fps), frame
