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
Statistics under LeRobot's names and in its shapes, and those of pictures.

Those of numbers are in :mod:`.vector_statistics`. Of pictures: LeRobot's sample of the frames,
every n-th pixel of each (``sample_indices`` and ``auto_downsample_height_width`` in its
compute_stats), collected in histograms, from which all statistics follow exactly. Of streams whose
pictures are copied, the key frames behind those of the sample are taken. ``count`` is
the number of frames, sampled or not: it is the weight with which LeRobot merges statistics.
"""

from __future__ import annotations

import base64
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from tempfile import SpooledTemporaryFile
import threading
from typing import Any, NamedTuple
import zlib

import av
from av.video.reformatter import VideoReformatter
from kuavo_bag_converter.support.stages import staged
import numpy as np
from numpy.typing import NDArray

QUANTILES = {'q01': 0.01, 'q10': 0.10, 'q50': 0.50, 'q90': 0.90, 'q99': 0.99}
STATISTICS = ('min', 'max', 'mean', 'std', 'count', *QUANTILES)

Statistics = Mapping[str, NDArray[np.float64] | NDArray[np.int64]]

_SPOOLED_BYTES = 64 << 10
_TIE = 1e-12
_KEY_FRAME_WITHIN = 60
"""Frames within which a key frame may stand in the sample for one that is none."""
_HISTOGRAM_TYPES = {'<i8': np.dtype(np.int64), '<f8': np.dtype(np.float64)}


@dataclass(frozen=True)
class Histogram:
    """
    The sampled pixels of some frames of one camera.

    :ivar counts: (channels, bins) pixels of every value; int64 for one episode, float64 once
        weighted.
    :ivar frames: How many frames it stands for.
    :ivar scale: What a bin's number is multiplied with: 1/255 for colour, 1 for depth.
    """

    counts: NDArray[np.int64] | NDArray[np.float64]
    frames: int
    scale: float

    def statistics(self) -> Statistics:
        """Return arrays (channels, 1, 1): float64, and ``count`` int64 of shape (1,)."""
        channels, bins = self.counts.shape
        values = np.arange(bins) * self.scale
        total = self.counts.sum(axis=1, dtype=np.float64)
        mean = (self.counts * values).sum(axis=1) / total
        deviation = np.square(values - mean[:, None])
        present = self.counts > 0
        columns = {
            'min': values[present.argmax(axis=1)],
            'max': values[bins - 1 - present[:, ::-1].argmax(axis=1)],
            'mean': mean,
            'std': np.sqrt((self.counts * deviation).sum(axis=1) / total),
        }
        reached = np.cumsum(self.counts, axis=1, dtype=np.float64)
        for name, share in QUANTILES.items():
            target = share * total * (1 - _TIE)
            columns[name] = values[(reached >= target[:, None]).argmax(axis=1)]
        statistics: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {
            name: column.reshape(channels, 1, 1) for name, column in columns.items()
        }
        statistics['count'] = np.array([self.frames], np.int64)
        return {name: statistics[name] for name in STATISTICS}

    def weighted(self) -> Histogram:
        """Return the histogram with as much weight in all as it has frames."""
        total = self.counts.sum(axis=1, dtype=np.float64, keepdims=True)
        return Histogram(self.counts * (self.frames / total), self.frames, self.scale)

    def __add__(self, other: Histogram) -> Histogram:
        """
        Join the histograms of different frames of one camera, each weighing by its frames.

        Longer episodes are sampled more sparsely, so a plain sum would favour the short ones.
        """
        counts = self.weighted().counts + other.weighted().counts
        return Histogram(counts, self.frames + other.frames, self.scale)

    def encode(self) -> str:
        """Return the counts in a compact text that ``decode`` reads."""
        kind = '<i8' if self.counts.dtype == np.int64 else '<f8'
        packed = zlib.compress(self.counts.astype(kind).tobytes(), 1)
        return f'{kind}:{len(self.counts)}:{base64.b64encode(packed).decode()}'

    @staticmethod
    def decode(text: str, frames: int, scale: float) -> Histogram:
        """
        Read what ``encode`` wrote.

        :raises ValueError: The text is damaged.
        """
        try:
            kind, channels, packed = text.split(':')
            data = zlib.decompress(base64.b64decode(packed, validate=True))
            counts: NDArray[Any] = np.frombuffer(data, _HISTOGRAM_TYPES[kind])
            return Histogram(counts.reshape(int(channels), -1), frames, scale)
        except (KeyError, ValueError, zlib.error) as error:
            raise ValueError(f'damaged histogram: {error!r}') from error


class EpisodeStatistics(NamedTuple):
    """What is known of an episode, by feature."""

    vectors: Mapping[str, Statistics]
    pictures: Mapping[str, Histogram | Statistics]
    """A histogram, from which all others follow; or the others alone."""


def pooled(parts: Sequence[tuple[Statistics, int]]) -> Statistics:
    """
    Join statistics of which only the results are known, each weighing by its frames.

    All are exact but quantiles, which are averaged as LeRobot's ``aggregate_stats`` does; those
    that one has not are left out.
    """
    frames = np.array([weight for _, weight in parts])

    def average(values: list[NDArray[Any]]) -> NDArray[np.float64]:
        return np.asarray(np.average(np.stack(values), axis=0, weights=frames))

    columns = {
        name: [np.asarray(statistics[name]) for statistics, _ in parts]
        for name in QUANTILES
        if all(name in statistics for statistics, _ in parts)
    }
    joined: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {
        name: average(values) for name, values in columns.items()
    }
    means = [statistics['mean'] for statistics, _ in parts]
    mean = average(means)
    joined['mean'] = mean
    joined['std'] = np.sqrt(
        average([np.square(s['std']) + np.square(s['mean'] - mean) for s, _ in parts])
    )
    joined['min'] = np.minimum.reduce([statistics['min'] for statistics, _ in parts])
    joined['max'] = np.maximum.reduce([statistics['max'] for statistics, _ in parts])
    joined['count'] = np.array([frames.sum()], np.int64)
    return {name: joined[name] for name in STATISTICS if name in joined}


class PictureTotals:
    """
    The pictures of all episodes of a dataset, by camera, while these are added.

    :ivar histograms: Of the episodes whose histograms are known.
    """

    def __init__(self, histograms: Mapping[str, Histogram]) -> None:
        """Begin with the pictures that a dataset has."""
        self.histograms = dict(histograms)
        self._others: dict[str, tuple[Statistics, int]] = {}
        """Statistics and frames of those of which no more is known."""

    def add(self, key: str, known: Histogram | Statistics, frames: int) -> None:
        """Add some frames of a camera."""
        if isinstance(known, Histogram):
            before = self.histograms.get(key)
            self.histograms[key] = known if before is None else before + known
        elif key in self._others:
            other, weight = self._others[key]
            joined = pooled([(other, weight), (known, frames)])
            self._others[key] = joined, weight + frames
        else:
            self._others[key] = known, frames

    def statistics(self) -> dict[str, Statistics]:
        """Return the statistics of each camera: exact, but for what :func:`pooled` averages."""
        found = {key: histogram.statistics() for key, histogram in self.histograms.items()}
        for key, other in self._others.items():
            histogram = self.histograms.get(key)
            if histogram is None:
                found[key] = pooled([other])
            else:
                found[key] = pooled([other, (found[key], histogram.frames)])
        return found


def sample_indices(frames: int) -> NDArray[np.int64]:
    """Return the frames of an episode that LeRobot takes image statistics from, ascending."""
    samples = max(min(100, frames), min(int(frames**0.75), 10_000))
    return np.round(np.linspace(0, frames - 1, samples)).astype(np.int64)


def sample_step(height: int, width: int) -> int:
    """Return n, where LeRobot takes every n-th row and column of a picture."""
    longer = max(height, width)
    return 1 if longer < 300 else int(longer / 150)


@lru_cache(maxsize=32)
def _sampled(frames: int) -> frozenset[int]:
    """Return the frames of an episode that image statistics are taken from."""
    return frozenset(sample_indices(frames).tolist())


class ImageStatistics:
    """
    Collects one camera's histograms, one for each episode, while its frames pass by.

    Frames may come in any order and from several threads. The histogram of an episode is in memory
    until all its frames that are wanted have come (512 KB for depth, 6 KB for colour), and as text
    in a temporary file from then on, so that memory does not grow with the number of episodes.

    :param episode_lengths: Frames of each episode; frames are numbered through all of them.
    :param height: Height of a picture.
    :param width: Width of a picture.
    :param depth: Whether pictures are uint16 depth maps and not RGB.
    :param folder: Where the temporary file goes, which has no name; the system's place if None.
    """

    def __init__(
        self,
        episode_lengths: Sequence[int],
        height: int,
        width: int,
        *,
        depth: bool = False,
        folder: Path | None = None,
    ) -> None:
        self._lengths = tuple(episode_lengths)
        self._ends = tuple(accumulate(self._lengths))
        self._step = sample_step(height, width)
        self._channels, self._bins, self._scale = (1, 65536, 1.0) if depth else (3, 256, 1 / 255)
        self._counts: dict[int, NDArray[np.int64]] = {}
        """Of the episodes that have begun."""
        self._missing: dict[int, int] = {}
        """How many of their frames have not come."""
        self._texts: dict[int, str] = {}
        """Of the episodes that have ended before one that comes before them has."""
        self._written = 0
        place = None if folder is None else str(folder)
        self._file = SpooledTemporaryFile(  # noqa: SIM115  # open as long as frames come
            _SPOOLED_BYTES, 'w+', encoding='ascii', dir=place
        )
        self._reformatter = VideoReformatter()
        self._lock = threading.Lock()

    def wants(self, frame_index: int) -> bool:
        """Whether the statistics need this frame."""
        episode = bisect_right(self._ends, frame_index)
        length = self._lengths[episode]
        return frame_index - self._ends[episode] + length in _sampled(length)

    @staged('statistics')
    def add_frame(self, frame_index: int, frame: av.VideoFrame, times: int = 1) -> None:
        """Count the pixels of a colour frame of any pixel format, see :meth:`add_array`."""
        with self._lock:
            picture = self._reformatter.reformat(frame, format='rgb24').to_ndarray()
        self.add_array(frame_index, picture, times)

    @staged('statistics')
    def add_array(self, frame_index: int, picture: NDArray[Any], times: int = 1) -> None:
        """
        Count the pixels of a picture.

        :param frame_index: Of its frame.
        :param picture: uint8 (height, width, 3) or uint16 (height, width).
        :param times: How many wanted frames it counts for.
        """
        sampled = picture[:: self._step, :: self._step].reshape(-1, self._channels)
        counts = [np.bincount(values, minlength=self._bins) for values in sampled.T]
        episode = bisect_right(self._ends, frame_index)
        with self._lock:
            if episode not in self._counts:
                self._counts[episode] = np.zeros((self._channels, self._bins), np.int64)
                self._missing[episode] = len(_sampled(self._lengths[episode]))
            self._counts[episode] += counts if times == 1 else np.multiply(counts, times)
            self._come(episode, times)

    def leave_out(self, frame_index: int, times: int) -> None:
        """Do without some wanted frames of the episode that a frame is in, which has begun."""
        with self._lock:
            self._come(bisect_right(self._ends, frame_index), times)

    def _come(self, episode: int, times: int) -> None:
        self._missing[episode] -= times
        if not self._missing[episode]:
            self._end_episode(episode)

    def encoded(self) -> Iterator[str]:
        """Yield the histogram of each episode as ``Histogram.encode`` returns it; ends adding."""
        for episode in range(self._written, len(self._lengths)):
            if episode not in self._texts and episode >= self._written:
                self._end_episode(episode)
        self._file.seek(0)
        for line in self._file:
            yield line.rstrip()

    def histograms(self) -> list[Histogram]:
        """Return the histogram of each episode; ends adding."""
        return [
            Histogram.decode(text, frames, self._scale)
            for text, frames in zip(self.encoded(), self._lengths, strict=True)
        ]

    def _end_episode(self, episode: int) -> None:
        nothing = np.zeros((self._channels, self._bins), np.int64)
        counts = self._counts.pop(episode, nothing)
        self._texts[episode] = Histogram(counts, self._lengths[episode], self._scale).encode()
        while self._written in self._texts:
            self._file.write(self._texts.pop(self._written) + '\n')
            self._written += 1


class KeyFrameSample:
    """
    The frames of a stream that statistics are taken from, so that few must be decoded for them.

    They are key frames: each stands for the wanted frames since the one before it. Where none
    comes for a long time, a frame that is none is taken. Frames come in order.
    """

    def __init__(self, statistics: ImageStatistics) -> None:
        """Choose for some statistics."""
        self._statistics = statistics
        self._due: list[int] = []
        """Wanted frames that wait for a key frame."""

    def times(self, frame_index: int, *, is_key: bool, begins: bool) -> int:
        """
        Tell for how many wanted frames the next frame must be added to the statistics; 0 for none.

        :param frame_index: Of the frame.
        :param is_key: Whether it can be decoded without those before it.
        :param begins: Whether it begins an episode, and is a key frame.
        """
        if begins and self._due:
            self._statistics.leave_out(self._due[0], len(self._due))
            self._due.clear()
        if self._statistics.wants(frame_index):
            self._due.append(frame_index)
        if not self._due or not (is_key or frame_index - self._due[0] >= _KEY_FRAME_WITHIN):
            return 0
        times = len(self._due)
        self._due.clear()
        return times
