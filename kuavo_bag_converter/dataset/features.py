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

"""The columns of a dataset, in LeRobot's terms."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class DepthCoding:
    """How metric depth becomes 12-bit codes (LeRobot >= 0.6); lengths in metres."""

    depth_min: float = 0.01
    depth_max: float = 10.0
    shift: float = 3.5
    use_log: bool = True


@dataclass(frozen=True)
class Feature:
    """
    One column: a vector in the table, a camera's video, or its pictures in the table.

    ``shape`` is (n,) for a vector, (k, n) for one with k samples in each row, (height, width,
    channels) for a camera. ``names`` has n entries for a vector and is not used for a camera.
    ``depth`` marks a metric depth video. Pictures in the table that have one channel are depth
    maps of 16 bits.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None
    depth: DepthCoding | None = None

    @property
    def is_language(self) -> bool:
        """Whether the column holds texts, see :mod:`.language`."""
        return self.dtype in ('language', 'string')

    @property
    def is_video(self) -> bool:
        """Whether the column lives in MP4 files and not in the table."""
        return self.dtype == 'video'

    @property
    def is_image(self) -> bool:
        """Whether the column holds compressed pictures in the table."""
        return self.dtype == 'image'

    @property
    def is_picture(self) -> bool:
        """Whether the column is a camera."""
        return self.is_video or self.is_image

    @property
    def is_depth(self) -> bool:
        """Whether its pictures are depth maps, mm."""
        return self.depth is not None or (self.is_image and self.shape[-1] == 1)


LANGUAGE_FEATURES = (
    Feature('language_persistent', 'language', (1,)),
    Feature('language_events', 'language', (1,)),
)
"""Texts that last until the next one, and texts that are said at a frame (LeRobot >= 0.6)."""


@dataclass(frozen=True)
class VideoOptions:
    """
    Encoder settings under LeRobot's names; see ``docs/performance.md`` for the defaults.

    ``vcodec``: ``h264``, ``hevc``, ``libsvtav1``, or ``mjpeg`` for packets copied from the bag.
    ``gray_depth``: pictures are depth in grey, which has sharp edges and no texture; videos that
    differ in it alone belong to one dataset.
    ``encoders``: FFmpeg's names of encoders in hardware, '' for the software encoder of the codec,
    of which the first that can be opened is taken; the latter if there are none. What belongs
    together may differ in it.
    ``copied``: the pictures of an H.264 or H.265 stream, stored as they were recorded; what else
    is said here is of those that must be encoded.
    """

    vcodec: str = 'h264'
    crf: int = 23
    preset: str = 'superfast'
    gop: int = 2
    pix_fmt: str = 'yuv420p'
    gray_depth: bool = field(default=False, compare=False)
    encoders: tuple[str, ...] = field(default=(), compare=False)
    copied: bool = False
