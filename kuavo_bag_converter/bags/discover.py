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

"""Which recordings the given paths hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from functools import cache
from itertools import groupby
import os
from pathlib import Path
import re
from typing import NamedTuple

from kuavo_bag_converter.bags.damage import DamagePolicy
from kuavo_bag_converter.bags.detect import container_of
from kuavo_bag_converter.bags.inputs import expand_inputs, TableRow
from kuavo_bag_converter.bags.mcap import storage as mcap
from kuavo_bag_converter.bags.open import local_path, open_portable, ROSBAG1_SUFFIXES
from kuavo_bag_converter.bags.rosbag1 import storage as rosbag1
from kuavo_bag_converter.bags.rosbag2.directory import natural, split_stem, SUFFIXES
from kuavo_bag_converter.bags.rosbag2.metadata import NAME, plain_name
from kuavo_bag_converter.bags.storage_plugins import is_of_a_plugin
from kuavo_bag_converter.bags.time_spans import recorded_spans, SILENCE_S, TimeSpan
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.places import with_urls
from kuavo_bag_converter.support.remote.spool import Spool

Recording = tuple[Path, ...]
"""A bag file or rosbag2 directory, or the files that one recording was split into."""

_BESIDE_RECORDINGS = re.compile(r'(?P<stem>.+)\.(c|orig)\.bag')
"""
KuavoBrain's previews, and the backups of ``rosbag reindex``, ``compress`` and ``decompress``.
"""
_NAMED = 5
"""Files that a remark names."""
_TIME_RANGES = {'rosbag1': rosbag1.time_range, 'mcap': mcap.time_range}
_SPAN_GAP_NS = 10**9
"""Parts of a split recording follow each other within this many ns."""


class Listing(NamedTuple):
    """What paths hold."""

    recordings: list[Recording]
    rows: list[TableRow]
    """What tables of bags say of them."""
    left_out: list[Path]
    """Previews and backups in folders."""
    duplicates: list[tuple[Path, Path]]
    """Other paths of files and folders that were given before, with the paths that are taken."""

    @property
    def remarks(self) -> list[str]:
        """Return what is left out, a line for each reason."""
        lines = [
            f'{path}: is {"" if path == other else f"{other}, which is "}given already; taken once'
            for path, other in self.duplicates
        ]
        return list(map(with_urls, [self._beside, *lines] if self.left_out else lines))

    @property
    def _beside(self) -> str:
        count = len(self.left_out)
        if not count:
            return ''
        names = ', '.join(bag.name for bag in self.left_out[:_NAMED])
        more = f' and {count - _NAMED} more' if count > _NAMED else ''
        return (
            f'left out {count} {"file" if count == 1 else "files"}, previews or backups of the '
            f'bags beside them: {names}{more}; to convert one, give its own path'
        )


def find_recordings(paths: Iterable[str | Path], spool: Spool | None = None) -> list[Recording]:
    """Find the recordings at ``paths``; see :func:`list_recordings`."""
    return list_recordings(paths, spool).recordings


def list_recordings(paths: Iterable[str | Path], spool: Spool | None = None) -> Listing:
    """
    Find the recordings at ``paths``, each a bag, a rosbag2 directory or a folder of either.

    A pattern of paths, a list or a table stands for what it names, see :mod:`.inputs`.

    Folders are searched one level deep, their entries are sorted by name (``bag_2`` before
    ``bag_10``). Files that are numbered (``NAME_0.bag``, ``NAME_1.bag``...; ``.mcap`` or ``.db3``
    likewise) and of which each begins less than a second after the one before it ends are one
    recording, as recorders leave it that split by size or time.

    In a folder, ``NAME.c.bag`` (a preview) and ``NAME.orig.bag`` (a backup) are left out where
    ``NAME.bag`` or ``NAME.bag.active`` is beside them. Given by their own path, they are taken.
    A file or folder that is given by two paths is taken once, by the first.
    A folder that holds nothing of all that, or must not be looked into, is taken for a recording,
    so that opening it says what is wrong.

    :param paths: Of files and folders; URLs stand for the copies in the spool.
    :param spool: Where those are.
    :raises UsageError: paths do not exist, or a list or table is not as it must be.
    :raises BagError: a URL cannot be reached.
    """
    found: list[Path] = []
    left_out: list[Path] = []
    spool = spool or Spool()
    inputs = expand_inputs(paths)
    for path in (local_path(path, spool) for path in inputs.paths):
        if not os.path.isdir(path) or is_directory_bag(path):
            found.append(path)
        else:
            bags = _in_folder(path)
            known = set(bags)
            beside = {bag for bag in bags if is_beside_its_bag(bag, known)}
            found += [bag for bag in bags if bag not in beside]
            left_out += [bag for bag in bags if bag in beside]
    found, duplicates = _each_once(found)
    recordings = [
        recording for _, group in groupby(found, key=_family) for recording in _joined(list(group))
    ]
    taken = set(found)
    left_out = [bag for bag in dict.fromkeys(left_out) if bag not in taken]
    return Listing(recordings, inputs.rows, left_out, duplicates)


def _each_once(paths: Iterable[Path]) -> tuple[list[Path], list[tuple[Path, Path]]]:
    """Leave out the second path to one file or folder: another spelling of it, or a link."""
    taken: dict[object, Path] = {}
    duplicates = []
    for path in paths:
        try:
            status = path.stat()
            key: object = (status.st_dev, status.st_ino)
        except OSError:
            key = path
        if key in taken:
            duplicates.append((path, taken[key]))
        taken.setdefault(key, path)
    return list(taken.values()), list(dict.fromkeys(duplicates))


def is_beside_its_bag(path: Path, paths: Set[Path]) -> bool:
    """Tell whether a file is, by its name, the preview or backup of a bag among other paths."""
    match = _BESIDE_RECORDINGS.fullmatch(path.name)
    return match is not None and any(
        path.with_name(match['stem'] + suffix) in paths for suffix in ROSBAG1_SUFFIXES
    )


def _in_folder(folder: Path) -> list[Path]:
    entries = sorted(folder.iterdir(), key=natural)
    return [entry for entry in entries if is_bag(entry)] or [folder]


def is_bag(path: Path) -> bool:
    """Tell whether an entry of a folder is taken for a bag: a file by its name, or a directory."""
    if os.path.isdir(path):
        return is_directory_bag(path)
    return path.name.endswith(ROSBAG1_SUFFIXES + SUFFIXES) or is_of_a_plugin(path)


def is_directory_bag(folder: Path) -> bool:
    """Tell whether a folder is a rosbag2 directory, which names its files after itself."""
    try:
        if (folder / NAME).exists():
            return True
        files = [path for path in folder.iterdir() if path.name.endswith(SUFFIXES)]
    except OSError:
        return True
    stems = {part[0] if (part := split_stem(path)) else path.name for path in files}
    return stems == {folder.name}


def _family(path: Path) -> object:
    """Key that neighbours share if they may be parts of one recording."""
    part = part_of(path)
    return (path.parent, part.name, part.kind) if part else path


class FilePart(NamedTuple):
    """A file that a recorder which splits may have written."""

    name: str
    number: int
    kind: str
    """The suffix, without what says that it is unfinished or packed."""


def part_of(path: Path) -> FilePart | None:
    """Return which part of a split recording a file is, if its name says so."""
    kind = plain_name(path.name.removesuffix('.active'))
    part = split_stem(path) if path.name.endswith(ROSBAG1_SUFFIXES + SUFFIXES) else None
    # Recorders do not fill their numbers up with zeros.
    if part is None or not re.search(rf'_{part[1]}\.[a-z0-9]+$', kind):
        return None
    return FilePart(*part, kind.rpartition('.')[2])


def _joined(parts: list[Path]) -> list[Recording]:
    """Join files that follow each other by number and by time."""
    recordings: list[Recording] = []
    spans = cache(_spans)  # a part that follows another is followed by the next
    for path in parts:
        if recordings and _follows(recordings[-1][-1], path, spans):
            recordings[-1] += (path,)
        else:
            recordings.append((path,))
    return recordings


def _follows(first: Path, second: Path, spans: Callable[[Path], list[TimeSpan]]) -> bool:
    before, after = part_of(first), part_of(second)
    if not before or not after or after.number != before.number + 1:
        return False
    return any(0 <= b.start - a.stop < _SPAN_GAP_NS for a in spans(first) for b in spans(second))


def goes_on(first: Path, second: Path) -> bool | None:
    """Tell whether the second of two parts begins where the first ends; None if it is empty."""
    spans = cache(_spans)
    return _follows(first, second, spans) if spans(second) else None


def _spans(path: Path) -> list[TimeSpan]:
    """
    Stretches of time in which messages were received; none of an unreadable bag.

    More than one need not be told apart where the index says that all is short.
    """
    try:
        container = container_of(path)
        times = _TIME_RANGES[container](path) if container in _TIME_RANGES else None
        if times and times[1] - times[0] < SILENCE_S * 10**9:
            return [TimeSpan(*times)]
        unclosed = container in _TIME_RANGES and times is None
        with open_portable([path], DamagePolicy('salvage' if unclosed else 'fail')) as reader:
            index = reader.index(set(reader.counts))
    except BagError:
        return []
    return recorded_spans(topic.receive for topic in index.values())
