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

"""What a file is, by its first bytes; whatever is not a recording is refused in one line."""

from __future__ import annotations

import os
from pathlib import Path
import stat

from kuavo_bag_converter.bags.compression import ZSTD_MAGIC
from kuavo_bag_converter.bags.storage_plugins import BEGIN_BYTES, container_by_plugin
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.remote.spool import open_file

_CONTAINERS = {
    b'#ROSBAG V2.0\n': 'rosbag1',
    b'\x89MCAP0\r\n': 'mcap',
    b'SQLite format 3\0': 'sqlite3',
    ZSTD_MAGIC: 'zstd',
}
_OTHERS = {
    b'version https://git-lfs': 'a Git LFS pointer, not the recording itself; run `git lfs pull`',
    b'PK\x03\x04': 'a zip archive; unpack it first',
    b'\x1f\x8b': 'gzip data; unpack it first',
    b'BZh': 'bzip2 data; unpack it first',
    b'\xfd7zXZ\0': 'xz data; unpack it first',
    b'7z\xbc\xaf': 'a 7z archive; unpack it first',
    b'Rar!': 'a rar archive; unpack it first',
    b'\x04\x22\x4d\x18': 'lz4 data; unpack it first',
    b'\x89HDF': 'an HDF5 file, not a bag',
}
_WEB = (b'<!doctype', b'<html', b'<?xml', b'<error')
EXPECTED = 'a ROS 1 bag 2.0, an MCAP file or an sqlite3 file of rosbag2'


def container_of(path: Path, shown: Path | None = None) -> str:
    """
    Tell what a file is: ``rosbag1``, ``mcap``, ``sqlite3``, or ``zstd`` for one packed whole.

    What is none of them may be the container of a plug-in, by its name.

    :param path: the file.
    :param shown: its name for users, where it is a temporary file.
    :raises BagError: it is none of them, or cannot be read.
    :raises UsageError: A plug-in cannot be used, or two take it.
    """
    try:
        status = status_of(path)
        with open_file(path) as file:
            begin = file.read(BEGIN_BYTES)
    except OSError as error:
        raise cannot_be_read(path, error) from None
    for magic, container in _CONTAINERS.items():
        if begin.startswith(magic):
            return container
    if (container := container_by_plugin(path, begin)) != '':
        return container
    raise BagError(f'{shown or path}: is {_name(begin, status.st_size)}')


def status_of(path: Path) -> os.stat_result:
    """
    Return the status of a regular file; any other could keep its reader waiting.

    :raises BagError: it is none, or the system does not tell.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise cannot_be_read(path, error) from None
    if not stat.S_ISREG(status.st_mode):
        raise BagError(f'{path}: is no regular file; expected {EXPECTED}')
    return status


def cannot_be_read(path: Path, error: OSError) -> BagError:
    """Return what to say of a file or folder that the system does not let be read."""
    if isinstance(error, FileNotFoundError):
        if path.is_symlink():
            return BagError(f'{path}: is a link to {path.readlink()}, which does not exist')
        return BagError(f'{path}: does not exist')
    if isinstance(error, PermissionError):
        return BagError(
            f'{path}: permission denied; it may have been recorded by root: change its owner'
        )
    return BagError(f'{path}: cannot be read: {error.strerror}')


def mistaken_for_a_bag(path: Path) -> str:
    """Return what a file is that often takes a bag's place, '' for anything else."""
    with open_file(path) as file:
        other = _other(file.read(BEGIN_BYTES))
    return f'is {other}' if other else ''


def _other(begin: bytes) -> str:
    for magic, what in _OTHERS.items():
        if begin.startswith(magic):
            return what
    if begin.removeprefix(b'\xef\xbb\xbf').lstrip().lower().startswith(_WEB):
        return 'a web page, not the recording; download it again'
    return ''


def _name(begin: bytes, size: int) -> str:
    if size == 0:
        return f'empty (0 bytes); expected {EXPECTED}'
    other = _other(begin)
    if other:
        return other
    if begin.startswith(b'#ROSBAG V'):
        version = begin[9:13].split(b'\n')[0].decode(errors='replace')
        return (
            f'a ROS 1 bag of version {version}, expected 2.0; '
            f'rewrite it with ROS 1: rosbag filter OLD NEW True'
        )
    if begin.startswith(b'rosbag2_bagfile_information'):
        return 'the metadata of a rosbag2 directory; give the path of that'
    if not begin.strip(b'\0'):
        return f'not a recording: it begins with zeros; expected {EXPECTED}'
    return f'not a recording: it begins with {begin[:8]!r}; expected {EXPECTED}'
