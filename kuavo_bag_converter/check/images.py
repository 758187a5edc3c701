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

"""Pictures in the table of a dataset: LeRobot's dtype ``image``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import cv2
from kuavo_bag_converter.check.coding import decoded_statistics, Floats
from kuavo_bag_converter.check.description import Description, StoredEpisode, StoredFeature
from kuavo_bag_converter.check.findings import ARROW_ERRORS, Findings
from kuavo_bag_converter.check.videos import PictureStatistics
from kuavo_bag_converter.dataset.statistics import ImageStatistics
from kuavo_bag_converter.messages.picture_headers import PNG_MAGIC, read_png
from kuavo_bag_converter.support.errors import ImageError
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Pixels = npt.NDArray[Any]

_BATCH_ROWS = 16


def check_images(dataset: Description, findings: Findings) -> PictureStatistics:
    """
    Decode every picture in the table.

    :param dataset: The dataset.
    :param findings: Where findings go.
    :return: The statistics of the decoded pictures.
    """
    statistics: PictureStatistics = {}
    for column in dataset.features.values():
        if column.is_image:
            for file, episodes in dataset.data_files().items():
                # A file that cannot be read is reported as data.unreadable or data.columns.
                with suppress(*ARROW_ERRORS, KeyError):
                    statistics |= _check_file(dataset, column, file, episodes, findings)
    return statistics


def decoded_image(data: bytes | None, *, depth: bool) -> Pixels | None:
    """
    Return the picture that a cell holds.

    :param data: The cell.
    :param depth: Whether it is a depth map.
    :return: RGB uint8 (height, width, 3), or depth of one channel as it is stored (height, width);
        None if there is none.
    """
    if not data:
        return None
    if data.startswith(PNG_MAGIC):
        try:
            read_png(memoryview(data))  # OpenCV writes to stderr what is wrong
        except ImageError:
            return None
    how = cv2.IMREAD_UNCHANGED if depth else cv2.IMREAD_COLOR
    found: Pixels | None = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    if depth:
        return found if found is not None and found.ndim == 2 else None
    return None if found is None else found[..., ::-1]


def cells_of(array: pa.Array) -> Iterator[bytes | None]:
    """Yield the encoded pictures of a column, of structs with ``bytes``, or plain ones."""
    if pa.types.is_struct(array.type):
        array = array.field('bytes')
    for cell in array:
        yield cell.as_py()


def _check_file(
    dataset: Description,
    column: StoredFeature,
    file: str,
    episodes: Sequence[StoredEpisode],
    findings: Findings,
) -> PictureStatistics:
    with pq.ParquetFile(dataset.root / file) as table:
        batches = table.iter_batches(batch_size=_BATCH_ROWS, columns=[column.key])
        cells = (cell for batch in batches for cell in cells_of(batch.column(column.key)))
        found = {
            (episode.index, column.key): _check_episode(
                column, file, episode, cells, findings, own=dataset.own([episode])
            )
            for episode in episodes
        }
    return {key: statistics for key, statistics in found.items() if statistics is not None}


def _check_episode(
    column: StoredFeature,
    file: str,
    episode: StoredEpisode,
    cells: Iterator[bytes | None],
    findings: Findings,
    *,
    own: bool,
) -> Floats | None:
    """Check the next pictures of a file, those of an episode; return their statistics."""
    height, width, channels = column.picture_shape
    depth = column.is_depth
    collector = ImageStatistics([episode.length], height, width, depth=depth)
    counted = channels == (1 if depth else 3)
    wrong: list[int] = []
    first: object = ''
    frames = 0
    for frame, data in enumerate(islice(cells, episode.length)):
        if data is None and not own:
            continue  # a file, which the path of the cell names
        frames += 1
        picture = decoded_image(data, depth=depth)
        if picture is None or picture.shape[:2] != (height, width):
            wrong.append(frame)
            first = first or ('no picture' if picture is None else list(picture.shape[:2]))
        elif depth and picture.dtype != np.uint16:
            if own:
                wrong.append(frame)
                first = first or f'depth of {picture.dtype}'
            counted = False  # others may store metres
        elif counted and collector.wants(frame):
            collector.add_array(frame, picture)
    if wrong:
        findings.add(
            'image.picture', first, f'a picture of {[height, width]}', file=file,
            feature=column.key, episode=episode.index, frame=wrong[0], places=len(wrong),
        )  # fmt: skip
    if wrong or not counted or frames != episode.length:
        return None
    return decoded_statistics(collector.histograms()[0])
