"""The file that tells which messages serve each frame of a bag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from kuavo_bag_converter.alignment.plan import Plan
from kuavo_bag_converter.support.files import sync

ALIGNMENT = 'alignment.parquet'
"""Its name in a shard."""


_ROW_GROUP = 4096
"""Frames that are in memory once more while they are written."""


def columns_of(plan: Plan) -> dict[str, npt.NDArray[Any]]:
    """Return the columns of the file, all of shape (frames,).

    They are ``frame_stamp_ns``, ``episode`` (within the bag), and for each track i of the plan's
    report ``track.<i>.first`` and ``.second`` (ordinals, -1 where ``.fill`` tells what stands in),
    ``.weight`` of the second and ``.error_ns``.
    """
    lengths = [stop - start for start, stop in plan.episodes]
    columns: dict[str, npt.NDArray[Any]] = {
        'frame_stamp_ns': plan.stamps,
        'episode': np.repeat(np.arange(len(lengths), dtype=np.int64), lengths),
    }
    for number, track in enumerate(plan.tracks):
        columns |= {
            f'track.{number}.first': track.first,
            f'track.{number}.second': track.second,
            f'track.{number}.weight': track.weight,
            f'track.{number}.error_ns': track.error,
            f'track.{number}.fill': track.fill,
        }
    return columns


def write_alignment(path: Path, plan: Plan) -> None:
    """Write the file, one row for each frame; it is durable on return."""
    pq.write_table(
        pa.table(columns_of(plan)),
        path,
        compression='zstd',
        use_dictionary=False,  # hardly anything repeats, and dictionaries cost 10 MB in a minute
        row_group_size=_ROW_GROUP,
    )
    sync(path)
