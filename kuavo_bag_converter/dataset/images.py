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

"""One camera's frames as PNG pictures in a Parquet file, in order: LeRobot's dtype ``image``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import av
import cv2
from kuavo_bag_converter.dataset.features import Feature
from kuavo_bag_converter.dataset.statistics import ImageStatistics
from kuavo_bag_converter.dataset.tables import table_schema, TableWriter
from kuavo_bag_converter.messages.depth import DepthPng
from kuavo_bag_converter.messages.video_frames import RGB, rgb_pixels
from kuavo_bag_converter.support.errors import DatasetError
from kuavo_bag_converter.support.stages import staged
import numpy as np
from numpy.typing import NDArray
import pyarrow as pa

PictureT = TypeVar('PictureT')

_GROUP_BYTES = 4 << 20
"""Pictures that are in memory until they are written as a row group. The pages of a dataset follow
it, so that another number gives the same pictures in other bytes."""
_DEPTH_GROUP_BYTES = 1 << 20


class ImageWriter(ABC, Generic[PictureT]):
    """
    Writes one camera's pictures, a row for each; no row group has rows of two episodes.

    ``PictureT`` is what it takes for a frame.

    :ivar path: The Parquet file.
    :ivar frames: How many frames have been given.
    :ivar episode_bytes: Size of the pictures of each episode.
    """

    def __init__(
        self,
        path: Path,
        feature: Feature,
        *,
        episode_lengths: Sequence[int],
        statistics: ImageStatistics,
    ) -> None:
        """
        Open the file.

        :param path: The Parquet file.
        :param feature: Of the camera; its frames have this shape.
        :param episode_lengths: Frames of each episode.
        :param statistics: Gets the pictures that it wants.
        """
        self.path = path
        self.frames = 0
        self.episode_bytes = [0] * len(episode_lengths)
        self._feature = feature
        self._statistics = statistics
        self._ends = list(accumulate(episode_lengths))
        self._episode = 0
        self._schema = table_schema([feature])
        self._table = TableWriter(path, self._schema, 'none')  # PNGs do not shrink
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    @staged('encode')
    def write(self, picture: PictureT) -> None:
        """
        Append the next frame.

        :raises DatasetError: The picture has another form than the feature, or is one too many.
        :raises ImageError: It is a PNG that was copied, and cannot be decoded for the statistics.
        """
        found, expected = self._form(picture), (*self._feature.shape[:2], self._kind)
        if found != expected or self.frames == self._ends[-1]:
            raise DatasetError(
                f'{self.path.name}: frame {self.frames} is {found}, expected {expected} of '
                f'{self._ends[-1]} frames'
            )
        if self._statistics.wants(self.frames):
            self._statistics.add_array(self.frames, self._pixels(picture))
        png = self._png(picture)
        self.frames += 1
        self.episode_bytes[self._episode] += len(png)
        self._waiting.append(png)
        self._waiting_bytes += len(png)
        ends = self.frames == self._ends[self._episode]
        limit = _DEPTH_GROUP_BYTES if self._feature.is_depth else _GROUP_BYTES
        if ends or self._waiting_bytes >= limit:
            self._flush()
        self._episode += ends

    _kind: ClassVar[str]
    """Of its pictures."""

    @abstractmethod
    def _form(self, picture: PictureT) -> tuple[int, int, str]:
        """Return height, width and kind of a picture."""

    @abstractmethod
    def _pixels(self, picture: PictureT) -> NDArray[Any]:
        """Return its pixels, as the statistics take them."""

    @abstractmethod
    def _png(self, picture: PictureT) -> bytes:
        """Return what is stored."""

    def _flush(self) -> None:
        pictures = pa.array(self._waiting, pa.binary())
        paths = pa.nulls(len(self._waiting), pa.string())
        fields = list(self._schema.field(0).type)
        column = pa.StructArray.from_arrays([pictures, paths], fields=fields)
        self._table.write(pa.Table.from_arrays([column], schema=self._schema))
        self._waiting.clear()
        self._waiting_bytes = 0

    def close(self) -> None:
        """
        Make the file durable.

        :raises DatasetError: Fewer frames were given than announced; the file is removed.
        """
        if self.frames != self._ends[-1]:
            self.abort()
            raise DatasetError(
                f'{self.path.name}: {self.frames} frames were written, {self._ends[-1]} were '
                'announced'
            )
        self._table.close()

    def abort(self) -> None:
        """Stop and remove the file."""
        self._table.abort()


class ColorImageWriter(ImageWriter[av.VideoFrame]):
    """Takes pictures in RGB."""

    _kind = RGB

    def _form(self, picture: av.VideoFrame) -> tuple[int, int, str]:
        return picture.height, picture.width, picture.format.name

    def _pixels(self, picture: av.VideoFrame) -> NDArray[Any]:
        return rgb_pixels(picture)

    def _png(self, picture: av.VideoFrame) -> bytes:
        return _encoded(rgb_pixels(picture)[..., ::-1])


class DepthImageWriter(ImageWriter[NDArray[np.uint16]]):
    """Takes depth maps (height, width) in millimetres, 0 where there is none."""

    _kind = 'uint16'

    def _form(self, picture: NDArray[np.uint16]) -> tuple[int, int, str]:
        height, width = picture.shape
        return height, width, str(picture.dtype)

    def _pixels(self, picture: NDArray[np.uint16]) -> NDArray[Any]:
        return picture

    def _png(self, picture: NDArray[np.uint16]) -> bytes:
        return _encoded(picture)


class CopiedDepthWriter(ImageWriter[DepthPng]):
    """Takes PNGs of 16 bits and stores them as they are; those of the statistics are decoded."""

    _kind = 'png'

    def _form(self, picture: DepthPng) -> tuple[int, int, str]:
        return *picture.size, 'png'

    def _pixels(self, picture: DepthPng) -> NDArray[Any]:
        return picture.pixels()

    def _png(self, picture: DepthPng) -> bytes:
        return picture.data


def _encoded(pixels: NDArray[Any]) -> bytes:
    return cv2.imencode('.png', np.ascontiguousarray(pixels))[1].tobytes()
