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

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import av
import cv2
from kuavo_bag_converter.dataset.features import Feature
from kuavo_bag_converter.dataset.statistics import ImageStatistics
from kuavo_bag_converter.dataset.tables import table_schema, TableWriter
from kuavo_bag_converter.messages.video_frames import RGB, rgb_pixels
from kuavo_bag_converter.support.errors import DatasetError
from kuavo_bag_converter.support.stages import staged
import numpy as np
import pyarrow as pa

_GROUP_BYTES = 4 << 20
"""Pictures that are in memory until they are written as a row group."""


class ImageWriter:
    """
    Writes one camera's pictures, a row for each; no row group has rows of two episodes.

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
        self._table = TableWriter(path, self._schema)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    @staged('encode')
    def write(self, picture: av.VideoFrame) -> None:
        """
        Append the next frame, a picture in RGB.

        :raises DatasetError: The picture has another form than the feature, or is one too many.
        """
        found = (picture.height, picture.width, picture.format.name)
        if found != (*self._feature.shape[:2], RGB) or self.frames == self._ends[-1]:
            raise DatasetError(
                f'{self.path.name}: frame {self.frames} is {found}, expected '
                f'{self._feature.shape} of {self._ends[-1]} frames'
            )
        pixels = rgb_pixels(picture)
        if self._statistics.wants(self.frames):
            self._statistics.add_array(self.frames, pixels)
        png = cv2.imencode('.png', np.ascontiguousarray(pixels[..., ::-1]))[1].tobytes()
        self.frames += 1
        self.episode_bytes[self._episode] += len(png)
        self._waiting.append(png)
        self._waiting_bytes += len(png)
        ends = self.frames == self._ends[self._episode]
        if ends or self._waiting_bytes >= _GROUP_BYTES:
            self._flush()
        self._episode += ends

    def _flush(self) -> None:
        rows = [{self._feature.key: {'bytes': png, 'path': None}} for png in self._waiting]
        self._table.write(pa.Table.from_pylist(rows, self._schema))
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
