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

"""Whether the disk has room for what a run is going to write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
import shutil

from kuavo_bag_converter.bags.model import BagReader
from kuavo_bag_converter.dataset.encoders import COPY
from kuavo_bag_converter.dataset.features import VideoOptions
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.support.errors import OutputError

_BYTES_PER_PIXEL = {'h264': 0.07, 'hevc': 0.05, 'libsvtav1': 0.05, 'mjpeg': 0.2}
"""Typical of camera pictures at the crf below, a key frame every second picture."""
_TYPICAL_CRF = {'h264': 23, 'hevc': 28, 'libsvtav1': 30}
_METRIC_DEPTH = 0.6
_PNG = 1.7
_DEPTH_PNG = 0.4
_ASSUMED_SIZE = (480, 640)
_RESERVE = 32 << 20


class DiskWatch:
    """Compares what is still to be written with what is free, before every bag."""

    def __init__(self, folder: Path, bags: Sequence[int]) -> None:
        """Watch the disk of ``folder``; ``bags`` are the sizes of all recordings in bytes."""
        self._folder = folder
        self._left = sum(bags)
        self._copies = 2 if len(bags) > 1 else 1
        self._read = 0
        self._written = 0
        self._joined = 0
        self._estimate: float | None = None

    def expect(self, bag_bytes: int, shard_bytes: float) -> None:
        """Estimate from one bag what the others will become; only the first call counts."""
        if self._estimate is None and bag_bytes:
            self._estimate = shard_bytes / bag_bytes

    def note(self, bag_bytes: int, shard_bytes: int) -> None:
        """Learn from a finished bag; 0 for one that gave nothing."""
        self._left -= bag_bytes
        if shard_bytes:
            self._read += bag_bytes
            self._written += shard_bytes

    def note_joined(self, shard_bytes: int) -> None:
        """Learn that so many bytes of shards are in the dataset already."""
        self._joined += shard_bytes

    def check(self) -> None:
        """
        Stop if what is still to come does not fit.

        :raises OutputError: Names what is needed and what is free.
        """
        ratio = self._written / self._read if self._read else self._estimate or 0.0
        joined = max(0, self._written - self._joined) * (self._copies - 1)
        needed = ratio * self._left * self._copies + joined + _RESERVE
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise OutputError(
                f'{self._folder}: the run needs about {needed / 1e6:.0f} MB more, '
                f'{free / 1e6:.0f} '
                'MB are free; make room, choose another output, or set check_disk: false'
            )


def shard_bytes(
    reader: BagReader, profile: Profile, clock_topic: str, videos: Mapping[str, VideoOptions]
) -> float:
    """Estimate the size of a bag's shard from its message counts; ``videos`` are by camera."""
    frames = reader.counts[clock_topic] * profile.fps / profile.clock.source_fps
    total = 0.0
    for camera in profile.cameras:
        height, width = camera.size or _ASSUMED_SIZE
        per_pixel = 0.0
        if camera.key in videos:
            per_pixel = _bytes_per_pixel(videos[camera.key])
        if camera.depth == 'metric12':
            per_pixel = _METRIC_DEPTH
        elif camera.dtype == 'image':
            per_pixel = _DEPTH_PNG if camera.channels == 1 else _PNG
        total += frames * height * width * per_pixel
    return total


def _bytes_per_pixel(video: VideoOptions) -> float:
    usual = _BYTES_PER_PIXEL[video.vcodec]
    if video.copied or video.vcodec == COPY:
        return usual
    return usual * 2 ** ((_TYPICAL_CRF[video.vcodec] - video.crf) / 6)
