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

"""The videos of a dataset: what LeRobot's reader relies on to find a frame by its time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
import os
from typing import Any, cast, NamedTuple

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from kuavo_bag_converter.check.coding import decoded_statistics
from kuavo_bag_converter.check.description import Description, StoredEpisode, StoredFeature
from kuavo_bag_converter.check.findings import Findings
from kuavo_bag_converter.dataset.depth import depth_of_codes
from kuavo_bag_converter.dataset.existing import compared_info
from kuavo_bag_converter.dataset.features import DepthCoding
from kuavo_bag_converter.dataset.layout import FileLimits
from kuavo_bag_converter.dataset.statistics import ImageStatistics, KeyFrameSample
import numpy as np
import numpy.typing as npt

PictureStatistics = dict[tuple[int, str], npt.NDArray[np.float64]]
"""Of the decoded pictures, by episode and camera feature: (DECODED, channels)."""

MAX_SECONDS = 1024
"""From here on LeRobot's comparison of times in float32 fails."""
_TIMESTAMP_TOLERANCE = 1e-4
"""Seconds; LeRobot's ``tolerance_s``."""
_OWN_TOLERANCE = 1e-9
_DEPTH_FORMAT = 'gray12le'
_VIDEO_FILES = 'videos/*/*/*'


class AccessCost(NamedTuple):
    """What it costs to read frames of a camera at random, as training does."""

    frames: int = 0
    decoded: int = 0
    """Pictures from the last key frame up to each, of all frames together."""
    most: int = 0
    """Of one frame."""

    @property
    def mean(self) -> float:
        """Return the pictures that are decoded for a frame."""
        return self.decoded / self.frames if self.frames else 0.0

    def __add__(self, other: Any) -> AccessCost:
        """Join those of two files."""
        return AccessCost(
            self.frames + other.frames, self.decoded + other.decoded, max(self.most, other.most)
        )


class CheckedVideos(NamedTuple):
    """What the videos of a dataset are like."""

    statistics: PictureStatistics
    """Of the decoded pictures; none where nothing was decoded."""
    access: dict[str, AccessCost]
    """By camera feature."""


def check_videos(
    dataset: Description, findings: Findings, *, decode: bool, since: int = 0
) -> CheckedVideos:
    """
    Check every file of every camera.

    :param dataset: The dataset.
    :param findings: Where findings go.
    :param decode: Whether to decode every frame and not just read the packets.
    :param since: The first episode whose files are read.
    """
    jobs = [
        _FileCheck(dataset, column, file, episodes)
        for column in dataset.cameras
        for file, episodes in dataset.video_files(column.key).items()
    ]
    if dataset.own(dataset.episodes):
        known = {job.file for job in jobs}
        for file in dataset.files_on_disk(_VIDEO_FILES):
            if file not in known:
                findings.add('video.unexpected', 'a file', 'none: no episode names it', file=file)
    checked = CheckedVideos({}, {column.key: AccessCost() for column in dataset.cameras})
    workers = len(os.sched_getaffinity(0))
    wanted = [job for job in jobs if job.last_episode >= since]
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for job in pool.map(lambda job: job.run(decode=decode), wanted):
            findings.extend(job.findings)
            checked.statistics.update(job.statistics)
            checked.access[job.key] += job.access
    return checked


@dataclass
class _Packets:
    """What the packets of a stream say, in the order of presentation."""

    times: npt.NDArray[np.float64]
    """Seconds; NaN where a packet has no time stamp."""
    keyframes: npt.NDArray[np.bool_]
    bytes: int  # noqa: A003
    in_order: bool
    """Whether every packet is decoded when it is shown."""
    damaged: int


class _FileCheck:
    """Checks one file of a camera against the episodes that it should hold."""

    def __init__(
        self,
        dataset: Description,
        column: StoredFeature,
        file: str,
        episodes: Sequence[StoredEpisode],
    ) -> None:
        self.file = file
        self.key = column.key
        self.last_episode = max(episode.index for episode in episodes)
        self.findings = Findings()
        self.statistics: PictureStatistics = {}
        self.access = AccessCost()
        self._dataset = dataset
        self._column = column
        self._fps = dataset.fps
        self._own = dataset.own(episodes)
        self._episodes = sorted(episodes, key=lambda e: e.videos[column.key].start)

    def run(self, *, decode: bool) -> _FileCheck:
        """Check the file; findings and statistics are in the attributes afterwards."""
        self._check_places()
        path = self._dataset.root / self.file
        try:
            if not path.is_file():
                episode = self._episodes[0].index
                self._add('video.missing', 'no file', 'a video', episode=episode)
                return self
            with av.open(str(path)) as container:
                streams = container.streams.video
                if len(streams) != 1 or streams[0].codec_context is None:
                    self._add('video.stream', f'{len(streams)} video streams', 'one to decode')
                    return self
                self._check_stream(container)
                packets = _read_packets(container)
        except (FFmpegError, ValueError, OSError) as error:
            self._add('video.unreadable', error, 'a video')
            return self
        self._check_packets(packets)
        self.access = _access_cost(packets.keyframes)
        if decode:
            self._decode(packets.keyframes)
        return self

    def _add(self, rule: str, found: object, expected: object, **where: Any) -> None:
        self.findings.add(rule, found, expected, file=self.file, feature=self._column.key, **where)

    def _first_frame(self, episode: StoredEpisode) -> int:
        return round(episode.videos[self._column.key].start * self._fps)

    def _check_places(self) -> None:
        """Check that the pieces of the episodes lie on frames and side by side."""
        tolerance = _OWN_TOLERANCE if self._own else _TIMESTAMP_TOLERANCE
        end = 0
        for episode in self._episodes:
            place = episode.videos[self._column.key]
            first = self._first_frame(episode)
            expected = end / self._fps
            apart = abs(place.start - first / self._fps) >= tolerance
            if apart or first < end or (self._own and first > end):
                self._add('video.from_timestamp', place.start, expected, episode=episode.index)
            stop = place.start + episode.length / self._fps
            if abs(place.stop - stop) > max(tolerance, 0 if self._own else 0.5 / self._fps):
                self._add('video.to_timestamp', place.stop, stop, episode=episode.index)
            end = first + episode.length
        if len(self._episodes) > 1 and end / self._fps > MAX_SECONDS:
            self._add(
                'video.seconds',
                f'{end / self._fps:.0f} s for {len(self._episodes)} episodes',
                f'at most {MAX_SECONDS} s: LeRobot compares times in float32',
            )

    def _check_stream(self, container: InputContainer) -> None:
        stream = container.streams.video[0]
        context = stream.codec_context
        size = (context.height, context.width)
        if size != self._column.picture_shape[:2]:
            self._add('video.size', f'height and width {size}', self._column.picture_shape[:2])
        if self._column.is_depth and context.pix_fmt != _DEPTH_FORMAT:
            self._add('video.depth', f'pixels of {context.pix_fmt}', _DEPTH_FORMAT)
        rate = float(stream.average_rate or 0)
        frames = max(self._first_frame(e) + e.length for e in self._episodes)
        # torchcodec takes frame round(time * rate).
        drift = _OWN_TOLERANCE if self._own else 0.5 / frames
        if abs(rate / self._fps - 1) >= drift:
            self._add('video.fps', f'{stream.average_rate} frames a second', self._fps)
        if self._own:
            if len(container.streams) != 1:
                self._add('video.stream', f'{len(container.streams)} streams', 'one')
            self._check_info(context)

    def _check_info(self, context: VideoCodecContext) -> None:
        """Check what info.json says of the file; LeRobot reads none of it."""
        found = {
            'video.height': context.height,
            'video.width': context.width,
            'video.codec': context.codec.canonical_name,
            'video.pix_fmt': context.pix_fmt,
            'video.fps': self._fps,
        }
        info = {**self._column.info, **compared_info(self._column.info)}
        for name, value in found.items():
            stated = info.get(name, value)
            if stated != value:
                self._add('video.info', f'{name} {value}', f'{stated}, as info.json says')

    def _check_packets(self, packets: _Packets) -> None:
        if packets.damaged:
            self._add('video.truncated', f'{packets.damaged} incomplete packets', 'none')
        self._check_times(packets.times)
        self._check_count(len(packets.times))
        if not self._own:
            return
        for episode in self._episodes:
            first = self._first_frame(episode)
            if first < len(packets.keyframes) and not packets.keyframes[first]:
                self._add('video.keyframe', 'no key frame', 'one', episode=episode.index, frame=0)
        if not packets.in_order:
            self._add('video.order', 'frames decoded in another order', 'none: no B-frames')
        limit = self._dataset.limit_mb('video_files_size_in_mb')
        too_large = packets.bytes >= FileLimits(video_mb=limit).video_bytes
        if too_large and len(self._episodes) > 1:
            self._add('video.bytes', f'{packets.bytes} bytes', f'below {limit} MB')

    def _check_times(self, found: npt.NDArray[np.float64]) -> None:
        tolerance = _OWN_TOLERANCE if self._own else _TIMESTAMP_TOLERANCE
        expected = np.arange(len(found)) / self._fps
        wrong = ~(np.abs(found - expected) < tolerance)
        if wrong.any():
            at = int(wrong.argmax())
            episode, frame = self._frame_of(at)
            self._add(
                'video.times',
                f'{found[at]:.6f} s',
                f'{expected[at]:.6f} s',
                episode=episode,
                frame=frame,
                places=int(wrong.sum()),
            )

    def _check_count(self, found: int) -> None:
        """Report missing frames at the episodes that lack them."""
        for episode in self._episodes:
            first = self._first_frame(episode)
            missing = min(first + episode.length - found, episode.length)
            if missing > 0:
                self._add(
                    'video.frames',
                    f'{episode.length - missing} frames',
                    f'{episode.length}, one for each row',
                    episode=episode.index,
                    frame=episode.length - missing,
                    places=missing,
                )
        expected = max(self._first_frame(e) + e.length for e in self._episodes)
        if self._own and found > expected:
            self._add('video.frames', f'{found} frames', f'{expected}, one for each row')

    def _frame_of(self, frame: int) -> tuple[int | None, int]:
        for episode in self._episodes:
            first = self._first_frame(episode)
            if first <= frame < first + episode.length:
                return episode.index, frame - first
        return None, frame

    def _decode(self, keyframes: npt.NDArray[np.bool_]) -> None:
        """Decode every episode from its own first frame on."""
        with av.open(str(self._dataset.root / self.file)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for episode in self._episodes:
                first = self._first_frame(episode)
                if first + episode.length > len(keyframes):
                    continue
                keys = keyframes[slice(first, first + episode.length)]
                try:
                    self._decode_episode(container, stream, episode, keys.tolist())
                except FFmpegError as error:
                    self._add('video.decode', error, 'frames', episode=episode.index)

    def _decode_episode(
        self,
        container: InputContainer,
        stream: VideoStream,
        episode: StoredEpisode,
        is_key: Sequence[bool],
    ) -> None:
        first = self._first_frame(episode)
        collector = self._collector(stream, episode)
        sample = None if collector is None else KeyFrameSample(collector)
        every = not (self._own and self._column.has_copied_stream)
        found = 0
        for frame in _frames_from(container, stream, first / self._fps, self._fps):
            time = first / self._fps + found / self._fps
            if frame.is_corrupt or abs(float(frame.time or 0.0) - time) >= _TIMESTAMP_TOLERANCE:
                self._add(
                    'video.decode',
                    'a damaged picture' if frame.is_corrupt else f'a picture of {frame.time} s',
                    f'the picture of {time:.6f} s',
                    episode=episode.index,
                    frame=found,
                )
                return
            if collector is not None and sample is not None:
                key = every or is_key[found]
                times = sample.times(found, is_key=key, begins=not found)
                if times:
                    self._collect(collector, found, frame, times)
            found += 1
            if found == episode.length:
                break
        if found != episode.length:
            self._add('video.decode', f'{found} pictures', episode.length, episode=episode.index)
        elif collector is not None:
            place = (episode.index, self._column.key)
            self.statistics[place] = decoded_statistics(collector.histograms()[0])

    def _collector(self, stream: VideoStream, episode: StoredEpisode) -> ImageStatistics | None:
        if self._column.is_depth and stream.codec_context.pix_fmt != _DEPTH_FORMAT:
            return None
        return ImageStatistics(
            [episode.length],
            stream.codec_context.height,
            stream.codec_context.width,
            depth=self._column.is_depth,
        )

    def _collect(
        self, collector: ImageStatistics, index: int, frame: VideoFrame, times: int
    ) -> None:
        if self._column.is_depth:
            table = depth_of_codes(depth_coding(self._column)).astype(np.uint16)
            collector.add_array(index, table[frame.to_ndarray()], times)
        else:
            collector.add_frame(index, frame, times)


def _access_cost(keyframes: npt.NDArray[np.bool_]) -> AccessCost:
    numbers = np.arange(len(keyframes))
    last_keys = np.maximum.accumulate(np.where(keyframes, numbers, 0)) if len(numbers) else numbers
    decoded = numbers - last_keys + 1
    return AccessCost(len(numbers), int(decoded.sum()), int(decoded.max(initial=0)))


def depth_coding(column: StoredFeature) -> DepthCoding:
    """Return how a metric depth feature is coded; LeRobot's defaults where it does not say."""
    given = {
        name: column.info.get(f'video.{name}') for name in ('depth_min', 'depth_max', 'shift')
    }
    numbers = {name: v for name, v in given.items() if isinstance(v, (int, float))}
    return DepthCoding(**numbers, use_log=bool(column.info.get('video.use_log', True)))


def _read_packets(container: InputContainer) -> _Packets:
    stream = container.streams.video[0]
    base = float(stream.time_base or 0)
    times: list[float] = []
    keyframes: list[bool] = []
    size = damaged = 0
    in_order = True
    for packet in container.demux(stream):
        if packet.size == 0:
            continue
        times.append(np.nan if packet.pts is None else packet.pts * base)
        keyframes.append(packet.is_keyframe)
        size += packet.size
        damaged += packet.is_corrupt
        in_order &= packet.pts == packet.dts
    shown = np.argsort(times, kind='stable')
    return _Packets(
        np.array(times, float)[shown], np.array(keyframes, bool)[shown], size, in_order, damaged
    )


def _frames_from(
    container: InputContainer, stream: VideoStream, start: float, fps: float
) -> Iterator[VideoFrame]:
    """Decode from the frame at ``start`` seconds on, which a fresh decoder must be able to."""
    base = cast('Fraction', stream.time_base)
    container.seek(round(start / base), stream=stream)
    for frame in container.decode(stream):
        if frame.time is None or frame.time > start - 0.5 / fps:
            yield frame
