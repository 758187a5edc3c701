"""The job of a measured process: convert a bag in the ROS node, which needs rclpy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from kuavo_bag_converter.benchmark.conversion_job import bytes_read
from kuavo_bag_converter.dataset.record import read_record
from kuavo_bag_converter.jobs import convert
from kuavo_bag_converter.node import convert_node as node
from kuavo_bag_converter.support import stages
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.files import total_bytes


def prepare(specification: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
    """Return a run of the node with ``specification['settings']``; SIGTERM stops it."""
    settings = dict(specification['settings'])
    parameters = Path(specification['parameters'])
    parameters.write_text(yaml.safe_dump({'/**': {'ros__parameters': settings}}), 'utf-8')
    assert convert  # The node imports it when it begins, the other jobs before.

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
