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

"""Compares the pictures of a camera in a dataset with those of the bag, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
import hashlib
import math
from typing import Any, cast, NamedTuple

import av
from av.container import InputContainer
from av.error import FFmpegError
from kuavo_bag_converter.check.coding import loss_of
from kuavo_bag_converter.check.description import Description, StoredEpisode, StoredFeature
from kuavo_bag_converter.check.findings import Findings
from kuavo_bag_converter.check.images import cells_of, decoded_image
from kuavo_bag_converter.check.videos import depth_coding
from kuavo_bag_converter.dataset.depth import code_table
from kuavo_bag_converter.dataset.tables import read_rows
from kuavo_bag_converter.messages.coded_pictures import coded_content, CodedPicture
from kuavo_bag_converter.messages.depth import DepthPng
from kuavo_bag_converter.messages.video_frames import rgb_pixels
from kuavo_bag_converter.replay.rows import first_rows
from kuavo_bag_converter.replay.similarity import (
    ComparedFrame,
    EpisodeComparison,
    reduced_frame,
    Suspicion,
)
from kuavo_bag_converter.support.errors import DatasetError
import numpy as np
from numpy.typing import NDArray

_READ_ON = 8
"""Frames to skip by reading on; further ones are reached by seeking."""


class WantedFrame(NamedTuple):
    """A frame to compare."""

    episode: StoredEpisode
    frame: int
    """Within the episode."""
    ordinal: int
    """Of the message that it should show."""


@dataclass
class CameraSummary:
    """What comparing the pictures of one camera came to."""

    key: str
    frames: int = 0
    exact: bool = False
    """Whether pictures were compared bit by bit and not by likeness."""
    encoded: int = 0
    """Frames of a copied stream that were encoded, and so are compared by likeness."""
    pairs: int = 0
    """Neighbouring frames that show different messages."""
    still: int = 0
    """Those of them that are too alike to tell if they were in each other's place."""
    losses: dict[int, float] = field(default_factory=dict)
    """Median of what coding lost, by episode: root mean square of the luma, levels."""

    @property
    def loss(self) -> float | None:
        """Return the median over the episodes."""
        return float(np.median(list(self.losses.values()))) if self.losses else None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            'feature': self.key,
            'frames': self.frames,
            'compared': 'exactly' if self.exact else 'by likeness',
            'frames_compared_by_likeness': self.encoded if self.exact else self.frames,
            'pairs': self.pairs,
            'pairs_too_alike': self.still,
            'coding_loss_levels': None if self.loss is None else round(self.loss, 3),
        }


class PictureComparer:
    """Takes the pictures of the bag in the order of the wanted frames."""

    def __init__(
        self,
        dataset: Description,
        column: StoredFeature,
        wanted: Iterator[WantedFrame],
        summary: CameraSummary,
    ) -> None:
        self.findings = Findings()
        self._dataset = dataset
        self._column = column
        self._coding = dataset.coding(column)
        self._wanted = wanted
        self._summary = summary
        self._stored: StoredPictures | StoredImages | None = None
        self._decoded: StoredPictures | None = None
        """Gives the frames of a stream whose packets ``_stored`` gives."""
        self._compared: tuple[int, CodedPicture | None] = (-1, None)
        """The frame of a stream that was compared last, and its picture if that was copied."""
        self._episode: StoredEpisode | None = None
        self._comparison: EpisodeComparison | _ExactComparison | None = None
        self._broken = False

    def write(self, picture: Any) -> None:
        """Compare the picture of the next wanted frame with that of the dataset."""
        wanted = next(self._wanted)
        if self._broken:
            return
        if isinstance(picture, DepthPng):
            picture = picture.data
        if wanted.episode is not self._episode:
            self._finish_episode()
            self._episode = wanted.episode
            exact = self._column.is_image or not isinstance(picture, av.VideoFrame)
            by_likeness = not exact or isinstance(picture, CodedPicture)
            self._comparison = (
                EpisodeComparison(self._coding) if by_likeness else _ExactComparison()
            )
            self._summary.exact = exact
            self._compared = (-1, None)
        try:
            stored = self._picture(wanted, packets=isinstance(picture, (bytes, CodedPicture)))
            if isinstance(picture, CodedPicture):
                known = self._is_copied(wanted, picture, stored)
                picture.group.pass_by(picture.place)
                if known:
                    self._summary.frames += 1
                    return
                self._summary.encoded += 1
                picture = comparable(picture.decoded())
                stored = comparable(self._frame(wanted))
        except DatasetError as error:
            self._add(Suspicion('pictures.missing', wanted.frame, str(error), 'a picture'))
            self._broken = True
            return
        self._summary.frames += 1
        self._compare(wanted, picture, stored)

    def _picture(self, wanted: WantedFrame, *, packets: bool) -> Any:
        if self._stored is None:
            self._stored = stored_pictures(self._dataset, self._column, packets=packets)
        return self._stored.picture(wanted.episode, wanted.frame)

    def _frame(self, wanted: WantedFrame) -> av.VideoFrame:
        if self._decoded is None:
            self._decoded = StoredPictures(self._dataset, self._column.key, packets=False)
        frame: av.VideoFrame = self._decoded.picture(wanted.episode, wanted.frame)
        return frame

    def _is_copied(self, wanted: WantedFrame, picture: CodedPicture, packet: bytes) -> bool:
        """
        Tell whether a packet of the dataset is that of the message of its frame.

        It must be behind the one that comes before it in the stream, on which it depends.
        """
        codec = picture.group.codec
        is_copied = coded_content(codec, packet) == coded_content(codec, picture.data)
        frame, before = self._compared
        self._compared = wanted.frame, picture if is_copied else None
        if not is_copied or picture.restarts or frame != wanted.frame - 1:
            return is_copied
        if not (picture.is_key if before is None else picture.follows(before)):
            self._add(
                Suspicion(
                    'pictures.exact', wanted.frame,
                    'a packet behind another one than in the stream', 'the one before it',
                )
            )  # fmt: skip
        return True

    def _compare(self, wanted: WantedFrame, picture: Any, stored: Any) -> None:
        if isinstance(self._comparison, EpisodeComparison):
            source, found = reduced_frame(picture), reduced_frame(stored)
            if source.shape != found.shape:
                self._add(
                    Suspicion(
                        'pictures.size', wanted.frame,
                        f'{stored.width}x{stored.height} {stored.format.name}',
                        f'{picture.width}x{picture.height} {picture.format.name}',
                    )
                )  # fmt: skip
                self._broken = True
                return
            loss = loss_of(picture, stored, self._coding)
            shown = ComparedFrame(wanted.frame, wanted.ordinal, source, found, loss)
            self._add(*self._comparison.add(shown))
        elif isinstance(self._comparison, _ExactComparison):
            if self._column.is_image and isinstance(picture, av.VideoFrame):
                picture = rgb_pixels(picture)
            elif self._column.is_video and not isinstance(picture, bytes):
                picture, stored = self._codes(picture), stored.to_ndarray()
            self._add(*self._comparison.add(wanted.frame, _digest(picture), _digest(stored)))

    def _codes(self, depth: NDArray[np.uint16]) -> NDArray[np.uint16]:
        return code_table(depth_coding(self._column))[depth]

    def finish(self) -> None:
        """Judge the last episode; call it when every wanted frame was given."""
        self._finish_episode()
        for source in (self._stored, self._decoded):
            if source is not None:
                source.close()

    def _finish_episode(self) -> None:
        comparison, episode = self._comparison, self._episode
        if comparison is None or episode is None:
            return
        self._add(*comparison.finish())
        self._comparison = None
        if isinstance(comparison, EpisodeComparison) and not math.isnan(comparison.loss):
            self._summary.pairs += comparison.pairs
            self._summary.still += comparison.still
            self._summary.losses[episode.index] = comparison.loss

    def _add(self, *suspicions: Suspicion) -> None:
        episode = self._episode
        assert episode is not None
        key = self._column.key
        for rule, frame, found, expected, places in suspicions:
            self.findings.add(
                rule,
                found,
                expected,
                file=episode.data_file if self._column.is_image else episode.videos[key].file,
                feature=key,
                episode=episode.index,
                frame=frame,
                places=places,
            )


def comparable(frame: av.VideoFrame) -> av.VideoFrame:
    """Return a frame with 8 bits a sample in planes, which pictures are compared in."""
    is_plain = frame.format.is_planar and frame.format.components[0].bits == 8
    return frame if is_plain else frame.reformat(format='yuv444p')


class _ExactComparison:
    """Compares pictures that must be equal bit by bit, by their digests."""

    def __init__(self) -> None:
        self._before: tuple[int, bytes] | None = None
        """The frame before and its own picture."""
        self._unexplained: tuple[int, bytes] | None = None
        """The frame before, if it shows another picture that may be the next one."""

    def add(self, frame: int, source: bytes, stored: bytes) -> Iterator[Suspicion]:
        """Compare the next frame."""
        unexplained, self._unexplained = self._unexplained, None
        if unexplained is not None:
            known = unexplained[1] == source
            yield _neighbour(unexplained[0], frame) if known else _other(unexplained[0])
        before, self._before = self._before, (frame, source)
        if stored == source:
            return
        if before is not None and stored == before[1]:
            yield _neighbour(frame, before[0])
        else:
            self._unexplained = (frame, stored)

    def finish(self) -> Iterator[Suspicion]:
        """Report the last frame if it is wrong."""
        if self._unexplained is not None:
            yield _other(self._unexplained[0])


def _neighbour(frame: int, other: int) -> Suspicion:
    return Suspicion('pictures.neighbour', frame, f'the picture of frame {other}', 'its own')


def _other(frame: int) -> Suspicion:
    return Suspicion('pictures.exact', frame, 'another picture', 'the picture of its message')


def _digest(picture: Any) -> bytes:
    data = picture if isinstance(picture, bytes) else np.ascontiguousarray(picture).data
    return hashlib.blake2b(data, digest_size=16).digest()


def stored_pictures(
    dataset: Description, column: StoredFeature, *, packets: bool
) -> StoredPictures | StoredImages:
    """Return what gives chosen frames of a camera; decoded ones, or ``packets`` as stored."""
    if column.is_image:
        return StoredImages(dataset, column, packets=packets)
    return StoredPictures(dataset, column.key, packets=packets)


class StoredImages:
    """Gives chosen frames of a camera whose pictures are in the table."""

    def __init__(self, dataset: Description, column: StoredFeature, *, packets: bool) -> None:
        """
        Read a camera's column.

        :param dataset: The dataset.
        :param column: The camera.
        :param packets: Give what is stored (bytes) in place of decoded pictures.
        """
        self._dataset = dataset
        self._feature = column
        self._packets = packets
        self._first_rows = first_rows(dataset)

    def picture(self, episode: StoredEpisode, frame: int) -> Any:
        """
        Return a frame of an episode.

        :return: RGB uint8 (height, width, 3), depth uint16 (height, width), or bytes.
        :raises DatasetError: The table does not have it.
        """
        row = episode.first_row - self._first_rows[episode.data_file] + frame
        path = self._dataset.root / episode.data_file
        for table in read_rows(path, row, 1, [self._feature]):
            (cell,) = cells_of(table.column(0).combine_chunks())
            picture = cell if self._packets else decoded_image(cell, depth=self._feature.is_depth)
            if picture is not None:
                return picture
        raise DatasetError(f'{episode.data_file}: no picture of {self._feature.key} in row {row}')

    def close(self) -> None:
        """Do nothing: no file is held open."""


class StoredPictures:
    """Gives chosen frames of a camera, in ascending order, holding one decoder."""

    def __init__(self, dataset: Description, key: str, *, packets: bool) -> None:
        """
        Read a camera's files.

        :param dataset: The dataset.
        :param key: The camera's feature.
        :param packets: Give the packets (bytes) in place of decoded frames.
        """
        self._dataset = dataset
        self._key = key
        self._packets = packets
        self._file = ''
        self._container: InputContainer | None = None
        self._pictures: Iterator[tuple[int, Any]] = iter(())
        self._next = 0

    def picture(self, episode: StoredEpisode, frame: int) -> Any:
        """
        Return a frame of an episode: an ``av.VideoFrame``, or bytes.

        :raises DatasetError: The video does not have it.
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
