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

"""The job of a measured process: convert a bag in the ROS node, which needs rclpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
import sys
from typing import Any

from kuavo_bag_converter.benchmark.conversion_job import bytes_read
from kuavo_bag_converter.dataset.record import read_record
from kuavo_bag_converter.jobs import convert
from kuavo_bag_converter.node import conversion
from kuavo_bag_converter.node import convert_node as node
from kuavo_bag_converter.support import stages
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.files import total_bytes
import yaml


def prepare(specification: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
    """
    Return a run of the node with ``specification['settings']``; SIGTERM stops it.

    What is returned raises BagError where the bag is not converted.
    """
    settings = dict(specification['settings'])
    parameters = Path(specification['parameters'])
    parameters.write_text(yaml.safe_dump({'/**': {'ros__parameters': settings}}), 'utf-8')
    assert convert and conversion  # noqa: PT018  # else the node would import them in the run

    def work() -> dict[str, Any]:
        times = stages.record()
        sys.argv = ['convert_node', '--ros-args', '--params-file', str(parameters)]
        if node.main() != 0:
            raise BagError('the node failed')
        output = Path(settings['output'])
        bags = read_record(output).bags
        return {
            'frames': sum(bag.frames for bag in bags),
            'episodes': sum(bag.episodes for bag in bags),
            'bytes_read': bytes_read(),
            'bytes_written': total_bytes([output]),
            'stages': times.seconds(),
        }

    return work
