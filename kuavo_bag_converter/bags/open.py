"""Opening a recording, whatever it is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ..errors import UsageError
from .damage import Damage
from .model import BagReader
from .recording import PortableReader
from .rosbag1 import Rosbag1Storage

READERS = ('auto', 'rosbag2_py', 'portable')
ON_DAMAGE = ('fail', 'salvage')


def open_bag(
    path: str | Path | Sequence[str | Path], *, reader: str = 'auto', on_damage: str = 'fail'
) -> BagReader:
    """Open a recording.

    Args:
        path: a bag file, a rosbag2 directory, or the files of one recording in order.
        reader: ``portable``, ``rosbag2_py``, or ``auto`` for rosbag2_py where it can be had.
        on_damage: ``fail``, or ``salvage`` to read what can be read: the file is then scanned
            whole when it is opened, so that only readable messages are listed.

    Raises:
        UsageError: an unknown ``reader`` or ``on_damage``.
        BagError: not a recording that can be read, or damage was found.

    """
    if reader not in READERS:
        raise UsageError(f'reader: {reader!r} is unknown; expected one of {", ".join(READERS)}')
    if on_damage not in ON_DAMAGE:
        raise UsageError(
            f'on_damage: {on_damage!r} is unknown; expected one of {", ".join(ON_DAMAGE)}'
        )
    damage = Damage(on_damage)
    paths = [Path(path)] if isinstance(path, (str, Path)) else [Path(p) for p in path]
    return PortableReader(paths[0], [Rosbag1Storage(p, damage) for p in paths], damage, ExitStack())
