"""The files of a recording: which, how large, and how packed as told by their first bytes."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from mcap.opcode import Opcode

from kuavo_bag_converter.bags import mcap_records, rosbag1_records
from kuavo_bag_converter.bags.compression import ZSTD_MAGIC
from kuavo_bag_converter.bags.damage import Damage, DamagedError
from kuavo_bag_converter.bags.detect import container_of
from kuavo_bag_converter.bags.directory import read_directory
from kuavo_bag_converter.bags.discover import Recording
from kuavo_bag_converter.bags.rosbag1_index import chunk_of
from kuavo_bag_converter.bags.rosbag2_metadata import NAME, read_metadata
from kuavo_bag_converter.bags.source import Source, Window
from kuavo_bag_converter.errors import BagError

_HEADER = 4096


def files_of(recording: Recording) -> list[Path]:
    """Return the files of a recording that are there, in order."""
    paths = [recording] if isinstance(recording, Path) else list(recording)
    if len(paths) == 1 and paths[0].is_dir():
        try:
            return read_directory(paths[0], Damage('salvage')).files
        except BagError:
            return []
    return paths


def size_of(files: Sequence[Path]) -> int:
    """Return the bytes of the files that can be seen."""
    return sum(path.stat().st_size for path in files if path.is_file())


def compression_of(files: Sequence[Path]) -> str | None:
    """Return how the first file is compressed; '' for not at all, None where that is not known.

    It is ``lz4``, ``bz2`` or ``zstd`` of chunks, ``zstd file`` or ``zstd message``.
    """
    if not files:
        return None
    path = files[0]
    try:
        container = container_of(path)
        if container == 'zstd':
            return 'zstd file'
        if _metadata_says_messages(path.parent / NAME):
            return 'zstd message'
        if container == 'sqlite3':
            return _of_first_row(path)
        source = Source(path)
        with closing(source):
            window = Window(source, source.size, _HEADER)
            return _of_rosbag1(window) if container == 'rosbag1' else _of_mcap(window)
    except (BagError, DamagedError, sqlite3.Error, ValueError):
        return None


def _metadata_says_messages(path: Path) -> bool:
    try:
        return read_metadata(path).compression == 'message'
    except (ValueError, OSError):
        return False


def _of_rosbag1(window: Window) -> str | None:
    for record in rosbag1_records.walk(window, len(rosbag1_records.MAGIC)):
        if record.op == rosbag1_records.CHUNK:
            return chunk_of(record).compression
    return None


def _of_mcap(window: Window) -> str | None:
    for record in mcap_records.walk(window, len(mcap_records.MAGIC)):
        if record.op == Opcode.CHUNK:
            return mcap_records.chunk_of(window, record).compression
        if record.op == Opcode.MESSAGE:
            return ''
    return None


def _of_first_row(path: Path) -> str | None:
    name = f'file:{quote(str(path.resolve()))}?mode=ro&immutable=1'
    with closing(sqlite3.connect(name, uri=True)) as base:
        row = base.execute('SELECT substr(data, 1, 4) FROM messages LIMIT 1').fetchone()
    if row is None:
        return None
    return 'zstd message' if row[0] == ZSTD_MAGIC else ''
