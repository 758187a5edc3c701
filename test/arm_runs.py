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

"""Small runs on recordings of two numbers: which recording it is, and which frame."""

from __future__ import annotations

from pathlib import Path
import struct
from typing import NamedTuple

from bag_files import BEGIN, SECOND, Topic, write_rosbag1, write_rosbag2
from conversions import run
import pyarrow.parquet as pq

ARM = Topic('/arm', 'test_msgs/msg/Numbers', 'float64[] values\n', 'float64[] values\n')
PROFILE = """\
robot_type: arm
fps: 10
task: Count
clock: {from: {topic: /arm}, fps: 10, end_trim: none}
features:
  observation.state:
    parts: [{from: {topic: /arm, field: values}, names: [recording, frame]}]
"""


class _Numbers(NamedTuple):
    topic: Topic
    stamp: int
    values: tuple[float, ...]

    @property
    def ros1(self) -> bytes:
        return struct.pack(f'<I{len(self.values)}d', len(self.values), *self.values)

    @property
    def cdr(self) -> bytes:
        head = struct.pack('<4BI4x', 0, 1, 0, 0, len(self.values))
        return head + struct.pack(f'<{len(self.values)}d', *self.values)


def messages(number, frames, first=0):
    return [
        _Numbers(ARM, BEGIN + frame * SECOND // 10, (number, frame))
        for frame in range(first, first + frames)
    ]


def write_bag(path, number, frames=4, first=0):
    """Write a ROS 1 bag whose frames count from ``first`` on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_rosbag1(path, messages(number, frames, first), topics=[ARM])


def write_directory(path, number, frames=4):
    """Write a rosbag2 directory."""
    return write_rosbag2(path, messages(number, frames), topics=[ARM])


def write_profile(folder, text=PROFILE):
    path = Path(folder) / 'arm.yaml'
    path.write_text(text)
    return path


def states(root):
    """Return the rows of a dataset: (recording, frame)."""
    return [
        tuple(map(int, row))
        for path in sorted(Path(root).glob('data/*/*.parquet'))
        for row in pq.read_table(path)['observation.state'].to_pylist()
    ]


def convert_arm(bags, output, profile, **values):
    return run(bags, output, **{'profile': str(profile)} | values)


def statuses(report):
    return [outcome.status for outcome in report.outcomes]
