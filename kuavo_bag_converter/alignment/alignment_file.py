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

"""The file that tells which messages serve each frame of a bag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kuavo_bag_converter.alignment.plan import Plan
from kuavo_bag_converter.support.files import sync
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

ALIGNMENT = 'alignment.parquet'
"""Its name in a shard."""


_ROW_GROUP = 4096
"""Frames that are in memory once more while they are written."""


def columns_of(plan: Plan) -> dict[str, npt.NDArray[Any]]:
    """
    Return the columns of the file, of shape (frames,).

    They are ``frame_stamp_ns``, ``episode`` (within the bag), and for each track i of the plan's
    report ``track.<i>.first`` and ``.second`` (ordinals, -1 where ``.fill`` tells what stands in),
    ``.weight`` of the second and ``.error_ns``; with ``reduce``, how many ``.messages``. Those of
    a track with several samples a frame have shape (frames, samples).
    """
    lengths = [stop - start for start, stop in plan.episodes]
    columns: dict[str, npt.NDArray[Any]] = {
        'frame_stamp_ns': plan.stamps,
        'episode': np.repeat(np.arange(len(lengths), dtype=np.int64), lengths),
    }
    for number, track in enumerate(plan.tracks):
        columns |= {
            f'track.{number}.first': track.by_frame(track.first),
            f'track.{number}.second': track.by_frame(track.second),
            f'track.{number}.weight': track.by_frame(track.weight),
            f'track.{number}.error_ns': track.by_frame(track.error),
            f'track.{number}.fill': track.by_frame(track.fill),
        }
        if track.earlier is not None:
            more = np.bincount(track.earlier.frames, minlength=len(plan))
            columns[f'track.{number}.messages'] = more.astype(np.int64) + (track.first >= 0)
    return columns


def write_alignment(path: Path, plan: Plan) -> None:
    """Write the file, one row for each frame; it is durable on return."""
    pq.write_table(
        pa.table({name: _array(column) for name, column in columns_of(plan).items()}),
        path,
        compression='zstd',
        use_dictionary=False,  # hardly anything repeats, and dictionaries cost 10 MB in a minute
        row_group_size=_ROW_GROUP,
    )
    sync(path)


def read_alignment(path: Path) -> dict[str, npt.NDArray[Any]]:
    """
    Read the file as :func:`columns_of` gives it.

    :raises OSError: It cannot be read.
    :raises pyarrow.ArrowException: It is damaged.
    """
    table = pq.ParquetFile(path).read()
    columns = {}
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_fixed_size_list(column.type):
            samples = column.type.list_size
            rows = pa.concat_arrays([chunk.flatten() for chunk in column.chunks])
            columns[name] = rows.to_numpy().reshape(-1, samples)
        else:
            columns[name] = column.to_numpy()
    return columns


def _array(column: npt.NDArray[Any]) -> pa.Array:
    if column.ndim == 1:
        return pa.array(column)
    return pa.FixedSizeListArray.from_arrays(column.ravel(), column.shape[1])
