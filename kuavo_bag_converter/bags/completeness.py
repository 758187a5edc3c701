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

"""
What a recording lacks of what its recorder, or a copy of it, writes last.

A file that is whole by its content may still have a writer: see :mod:`.in_progress`. Containers
that do not tell their end (packed files, plug-ins) lack nothing here.
"""

from __future__ import annotations

import os
from pathlib import Path
import struct

from kuavo_bag_converter.bags.byte_readers import BagFile
from kuavo_bag_converter.bags.damage import DamagedError
from kuavo_bag_converter.bags.detect import cannot_be_read, status_of
from kuavo_bag_converter.bags.mcap.records import MAGIC as MCAP
from kuavo_bag_converter.bags.mcap.summary import has_footer
from kuavo_bag_converter.bags.rosbag1.records import MAGIC as ROSBAG1
from kuavo_bag_converter.bags.rosbag1.storage import check_index
from kuavo_bag_converter.bags.rosbag2.directory import plain_or_packed, storage_files
from kuavo_bag_converter.bags.rosbag2.metadata import NAME, plain_name, read_metadata
from kuavo_bag_converter.bags.sqlite3.storage import logs_beside
from kuavo_bag_converter.support.texts import shown

_SQLITE3 = struct.Struct('>16sH6xI I60xI')
"""Its header: magic, bytes of a page, changes, pages, and at which change they were counted."""
_SQLITE3_MAGIC = b'SQLite format 3\0'
_LARGEST_PAGE = 65536


def lacks(path: Path) -> str:
    """
    Say what a recording lacks to be complete, '' if nothing.

    :param path: A bag file, or a rosbag2 directory.
    :raises BagError: It cannot be read.
    """
    if os.path.isdir(path):
        return _directory_lacks(path)
    lack = _file_lacks(path)
    if not lack and logs_beside(path):
        return f'was not closed: {logs_beside(path)[0].name} is beside it'
    return lack


def _directory_lacks(folder: Path) -> str:
    try:
        metadata = read_metadata(folder / NAME)
    except FileNotFoundError:
        return f'has no {NAME}'
    except ValueError as error:
        return f'its {NAME} {error}'
    except OSError as error:
        raise cannot_be_read(folder / NAME, error) from None
    if not metadata.messages:
        return f'its {NAME} lists no messages'
    listed = {plain_name(name): plain_or_packed(folder / name) for name in metadata.files}
    for name, file in listed.items():
        if file is None:
            return f'{shown(name)}, which its {NAME} lists, is not there'
    others = [file for file in storage_files(folder) if plain_name(file.name) not in listed]
    for file in (*filter(None, listed.values()), *others):
        if lack := _file_lacks(file):
            return f'its {file.name} {lack}'
    return ''


def _file_lacks(path: Path) -> str:
    status_of(path)
    source = BagFile(path)
    try:
        begin = source.read(0, min(source.size, _SQLITE3.size))
        if not begin:
            return 'is empty'
        if begin.startswith(MCAP):
            return '' if has_footer(source) else 'has no footer'
        if path.name.endswith('.active'):
            return 'is still called .active'
        if begin.startswith(ROSBAG1):
            check_index(source)
        if begin.startswith(_SQLITE3_MAGIC):
            return _sqlite3_lacks(begin, source.size)
    except DamagedError as error:
        return f'has no whole index: {error}'
    finally:
        source.close()
    return ''


def _sqlite3_lacks(begin: bytes, size: int) -> str:
    if len(begin) < _SQLITE3.size:
        return 'is cut'
    _, page, changes, pages, counted_at = _SQLITE3.unpack(begin)
    whole = pages * (_LARGEST_PAGE if page == 1 else page) if counted_at == changes else 0
    return f'is cut: it has {size} of {whole} bytes' if size < whole else ''
