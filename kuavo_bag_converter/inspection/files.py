"""The files of a recording: which, and how large."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from kuavo_bag_converter.bags.damage import DamagePolicy
from kuavo_bag_converter.bags.discover import Recording
from kuavo_bag_converter.bags.rosbag2.directory import read_directory
from kuavo_bag_converter.support.errors import BagError


def files_of(recording: Recording) -> list[Path]:
    """Return the files of a recording that are there, in order."""
    paths = [recording] if isinstance(recording, Path) else list(recording)
    if len(paths) == 1 and os.path.isdir(paths[0]):
        try:
            return read_directory(paths[0], DamagePolicy('salvage')).files
        except BagError:
            return []
    return paths


def size_of(files: Sequence[Path]) -> int:
    """Return the bytes of the files that can be seen."""
    return sum(path.stat().st_size for path in files if os.path.isfile(path))
