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

"""rosbag2 directories: which files belong to the recording, in which order."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
import re
from typing import NamedTuple

from kuavo_bag_converter.bags.damage import DamagePolicy
from kuavo_bag_converter.bags.detect import cannot_be_read, container_of, mistaken_for_a_bag
from kuavo_bag_converter.bags.rosbag2.metadata import (
    Metadata,
    NAME,
    plain_name,
    read_metadata,
)
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.texts import listed, quoted, shown

SUFFIXES = ('.mcap', '.db3', '.mcap.zstd', '.db3.zstd', '.mcap.zst', '.db3.zst')
_STORAGES = ('mcap', 'sqlite3', '')
_NUMBERED = re.compile(r'(?P<stem>.*)_(?P<number>\d+)(?:\.[a-z0-9]+)+')


class Directory(NamedTuple):
    """A recording's folder."""

    files: list[Path]
    metadata: Metadata | None
    plugin: str = ''
    """The storage plugin of rosbag2 without which the files cannot be read, if there is one."""


def storage_files(folder: Path) -> list[Path]:
    """
    Files of a folder that rosbag2 stores messages in, by name and number.

    :raises BagError: the folder cannot be read.
    """
    try:
        files = [path for path in folder.iterdir() if path.name.endswith(SUFFIXES)]
    except OSError as error:
        raise cannot_be_read(folder, error) from None
    return sorted(files, key=natural)


def natural(path: Path) -> tuple[object, ...]:
    """Sort key that puts ``bag_2`` before ``bag_10``."""
    parts = re.split(r'(\d+)', path.name)
    return tuple((int(p), '') if p.isdigit() else (-1, p) for p in parts), path.name


def split_stem(path: Path) -> tuple[str, int] | None:
    """Name and number of a file that looks like a part of a split recording."""
    match = _NUMBERED.fullmatch(path.name)
    return (match['stem'], int(match['number'])) if match else None


def read_directory(folder: Path, damage: DamagePolicy, *, by_rosbag2: bool = False) -> Directory:
    """
    Find the files of a rosbag2 directory.

    :param folder: The directory.
    :param damage: What to do with files that are missing.
    :param by_rosbag2: Whether rosbag2 reads them, which may have a storage plugin for them.
    :raises BagError: there is no recording, or files are missing and that is not allowed.
    """
    found = storage_files(folder)
    path = folder / NAME
    metadata: Metadata | None = None
    try:
        metadata = read_metadata(path)
    except FileNotFoundError:
        files = _without_metadata(folder, found, damage)
        damage.note(f'{folder}: has no {NAME}; its {len(files)} storage files are read by name')
        return Directory(files, None)
    except OSError as error:
        damage.report_error(cannot_be_read(path, error))
    except ValueError as error:
        damage.report(path, mistaken_for_a_bag(path) or error)
    if metadata is None:
        return Directory(_without_metadata(folder, found, damage), None)
    places = {name: plain_or_packed(folder / name) for name in metadata.files}
    files = [file for file in places.values() if file]
    absent = [name for name, file in places.items() if not file]
    if not files:
        raise BagError(
            f'{folder}: none of the files that {NAME} lists is there: {listed(absent)}; '
            'put them into the folder'
        )
    for name in absent:
        declared = metadata.declared_files.get(plain_name(name))
        lost = f': its {declared} are lost' if declared else ''
        damage.report(path, f'{shown(name)} is listed but missing{lost}')
    for file in found:
        if file not in files:
            damage.note(f'{path}: {file.name} is in the folder but not listed; it is not read')
    plugin = ''
    if metadata.storage not in _STORAGES:
        try:
            for file in files:
                container_of(file)
        except BagError as error:
            if not by_rosbag2:
                raise BagError(
                    f'{error}; {NAME} names the storage plugin {quoted(metadata.storage)}, '
                    'expected mcap or sqlite3: where that plugin is installed, set reader: '
                    'rosbag2_py, or use `ros2 bag convert`'
                ) from None
            plugin = metadata.storage
    return Directory(files, metadata, plugin)


def plain_or_packed(path: Path) -> Path | None:
    """Give the file, or its plain or packed twin: metadata may name it either way."""
    twins = [path]
    if path.suffix in {'.zstd', '.zst'}:
        twins.append(path.with_suffix(''))
    else:
        twins += [path.with_name(f'{path.name}.zstd'), path.with_name(f'{path.name}.zst')]
    return next((twin for twin in twins if twin.exists()), None)


def _without_metadata(folder: Path, found: list[Path], damage: DamagePolicy) -> list[Path]:
    if not found:
        raise BagError(
            f'{folder}: holds no recording: no {NAME}, no .bag, .mcap or .db3 files, and no '
            'rosbag2 directories; folders in it are not searched'
        )
    files = _without_packed_twins(found, damage)
    stems = {part[0] if (part := split_stem(path)) else path.name for path in files}
    if len(stems) > 1:
        raise BagError(
            f'{folder}: has no {NAME}, and its {len(files)} files are not the parts of one '
            f'recording; give the path of one of them'
        )
    for first, second in pairwise(files):
        before, after = split_stem(first), split_stem(second)
        if before and after and after[1] > before[1] + 1:
            damage.report(
                folder, f'{first.name} is followed by {second.name}: what lies between is missing'
            )
    return files


def _without_packed_twins(found: list[Path], damage: DamagePolicy) -> list[Path]:
    """Leave out files that are there unpacked too, as some readers leave them behind."""
    plain = {path.name for path in found}
    files: list[Path] = []
    for path in found:
        twin = plain_name(path.name)
        if twin != path.name and twin in plain:
            damage.note(f'{path}: is not read: {twin} is the same unpacked')
        else:
            files.append(path)
    return files
