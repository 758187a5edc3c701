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
Logs of numbers as CSV: after the line ``stamp_ns,topic,values``, one message a line.

Messages are given to the converter as ``std_msgs/msg/Float64MultiArray``, in CDR as ROS 2 has it.
"""

from __future__ import annotations

from collections.abc import Iterator
import csv
from pathlib import Path
import struct

from kuavo_bag_converter.bags.storage_plugins import BagMessage, Container

_TYPE = 'std_msgs/msg/Float64MultiArray'
_FIRST_LINE = 'stamp_ns,topic,values'


class _CsvLog(Container):
    suffixes = ('.csv',)

    def matches(self, path: Path, begin: bytes) -> bool:  # noqa: ARG002
        return begin.startswith(_FIRST_LINE.encode())

    def read(self, path: Path) -> Iterator[BagMessage]:
        with path.open(encoding='utf-8', newline='') as file:
            lines = csv.reader(file)
            next(lines)
            for stamp, topic, *values in lines:
                yield BagMessage(topic, _TYPE, int(stamp), _cdr(list(map(float, values))))


def _cdr(values: list[float]) -> bytes:
    # Little endian; no dimensions, no offset, then the numbers, aligned to 8 bytes.
    return struct.pack(f'<4s3I4x{len(values)}d', b'\0\1\0\0', 0, 0, len(values), *values)


CSV_LOG = _CsvLog()
