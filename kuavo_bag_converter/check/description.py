"""What a dataset's metadata says of it, in one form for both versions of LeRobot's format."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kuavo_bag_converter.check.coding import Coding, coding_of
from kuavo_bag_converter.check.record import Record

DATA_FILES = 'data/*/*.parquet'
EPISODES_FILES = 'meta/episodes/*/*.parquet'
"""LeRobot finds these files by globbing, sorted by path."""


@dataclass(frozen=True)
class Column:
    """One entry of ``features`` in info.json."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    names: Any
    info: Mapping[str, Any]

    @property
    def is_video(self) -> bool:
        """Whether it lives in MP4 files."""
        return self.dtype == 'video'

    @property
    def is_picture(self) -> bool:
        """Whether it holds pictures, in MP4 files or in the table."""
        return self.dtype in ('video', 'image')

    @property
    def is_numeric(self) -> bool:
        """Whether it holds numbers in the table."""
        try:
            return np.dtype(self.dtype).kind in 'biuf'
        except (TypeError, ValueError):
            return False

    @property
    def is_copied(self) -> bool:
        """Whether this converter copied its pictures, for which it names no codec."""
        return self.is_video and 'video.codec' not in self.info

    @property
    def is_depth(self) -> bool:
        """Whether it is metric depth, under today's key or under one of LeRobot's former ones."""
        return bool(self.info.get('is_depth_map') or self.info.get('video.is_depth_map'))

    @property
    def width(self) -> int:
        """How many numbers a row has."""
        return math.prod(self.shape)

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of a picture, whichever its shape says first."""
        first, second, third = self.shape
        if isinstance(self.names, list) and self.names[:1] in (['channel'], ['channels']):
            return second, third, first
        return first, second, third


class Place(NamedTuple):
    """Where an episode's pictures are: a file and a piece of it, in seconds."""

    file: str
    start: float
    stop: float


@dataclass(frozen=True)
class Episode:
    """What the metadata says of one episode."""

    index: int
    length: int
    first_row: int
    tasks: tuple[str, ...]
    data_file: str
    videos: Mapping[str, Place]
    """By camera feature."""


@dataclass(frozen=True)
class Description:
    """A dataset as its metadata describes it."""

    root: Path
    version: str
    """``v2.1`` or ``v3.0``."""
    info: Mapping[str, Any]
    fps: float
    features: Mapping[str, Column]
    tasks: tuple[str, ...]
    """By ``task_index``."""
    episodes: tuple[Episode, ...]
    record: Record | None
    """How this converter made the dataset or a part of it, if it did."""

    @cached_property
    def coding(self) -> Coding:
        """How this converter coded pictures, unless it copied them."""
        return coding_of({} if self.record is None else self.record.settings)

    @property
    def cameras(self) -> list[Column]:
        """The features that live in MP4 files."""
        return [column for column in self.features.values() if column.is_video]

    @property
    def frames(self) -> int:
        """Frames of all episodes."""
        return sum(episode.length for episode in self.episodes)

    def limit_mb(self, key: str) -> float:
        """Return how far a kind of file grows, MB; infinite where info.json does not say."""
        limit = self.info.get(key)
        return limit if isinstance(limit, (int, float)) else math.inf

    def own(self, episodes: Iterable[Episode]) -> bool:
        """Whether this converter wrote all of these episodes: its writer's rules hold too."""
        record = self.record
        return record is not None and all(record.wrote(episode.index) for episode in episodes)

    def data_files(self) -> dict[str, list[Episode]]:
        """Return the files of rows and the episodes in them, in order."""
        files: dict[str, list[Episode]] = {}
        for episode in self.episodes:
            files.setdefault(episode.data_file, []).append(episode)
        return files

    def video_files(self, key: str) -> dict[str, list[Episode]]:
        """Return the files of a camera and the episodes in them, in order."""
        files: dict[str, list[Episode]] = {}
        for episode in self.episodes:
            files.setdefault(episode.videos[key].file, []).append(episode)
        return files

    def files_on_disk(self, pattern: str) -> list[str]:
        """Return the files that match a pattern, sorted by path, relative to the root."""
        return [path.relative_to(self.root).as_posix() for path in sorted(self.root.glob(pattern))]
