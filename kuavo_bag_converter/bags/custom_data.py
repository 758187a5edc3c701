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

"""What the one who recorded noted beside the messages: rosbag2's ``custom_data``."""

from __future__ import annotations

from collections.abc import Mapping
import os
from pathlib import Path

from kuavo_bag_converter.bags.rosbag2.directory import storage_files
from kuavo_bag_converter.bags.rosbag2.metadata import custom_data_in, metadata_of
from kuavo_bag_converter.bags.rosbag2.qos import MOST_CHARACTERS
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.remote.spool import open_file
from mcap.exceptions import McapError
from mcap.reader import SeekingReader

_RECORD = 'rosbag2'
"""Name of the metadata records in which rosbag2 keeps its metadata in an MCAP file itself."""


def custom_data_of(path: Path) -> Mapping[str, str]:
    """
    Return the ``custom_data`` of a recording by key: of metadata.yaml, or of an MCAP file itself.

    :param path: A rosbag2 directory, or the first file of a recording.
    """
    metadata = metadata_of(path)
    if metadata is not None:
        return metadata.custom_data
    try:
        files = storage_files(path) if os.path.isdir(path) else [path]
    except BagError:  # which opening it says
        return {}
    found: dict[str, str] = {}
    for file in files:
        found.update(_in_mcap(file))
    return found


def _in_mcap(file: Path) -> Mapping[str, str]:
    """Return what the last metadata record of a file says; nothing without an index of them."""
    found: Mapping[str, str] = {}
    try:
        with open_file(file) as stream:
            reader = SeekingReader(stream, record_size_limit=MOST_CHARACTERS)
            if reader.get_summary() is None:
                return {}
            for record in reader.iter_metadata():
                if record.name == _RECORD:
                    text = record.metadata.get('serialized_metadata', '')
                    found = custom_data_in(text) or found
    except (McapError, OSError, ValueError, StopIteration, EOFError):
        return {}  # no MCAP file, or one whose damage its reader says
    return found
