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

"""The job of a measured process: convert a bag with this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
import signal
import threading
import time
from typing import Any

from kuavo_bag_converter.alignment.report import PlanReport
from kuavo_bag_converter.benchmark.child import processor_seconds
from kuavo_bag_converter.benchmark.references import FILLERS
from kuavo_bag_converter.jobs.convert import convert_bags
from kuavo_bag_converter.jobs.report import Observer
from kuavo_bag_converter.settings import settings_from
from kuavo_bag_converter.support import stages
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.files import total_bytes
from kuavo_bag_converter.support.process import one_thread_each


def prepare(specification: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
    """
    Return the conversion by ``specification['method']``; SIGTERM stops it.

    What is returned raises BagError where the bag is not converted.
    """
    settings = settings_from(specification['settings'], 'benchmark')
    fill = FILLERS[specification['method']]
    cancel = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: cancel.set())

    def work() -> dict[str, Any]:
        times = stages.record()
        clock = _PassOneClock()
        with one_thread_each():
            report = convert_bags(settings, observer=clock, cancel=cancel, fill=fill)
        if report.failures:
            raise BagError(report.failures[0].reason)
        return {
            'frames': report.frames,
            'episodes': report.episodes,
            'pass_1': clock.pass_1,
            'bytes_read': bytes_read(),
            'bytes_written': total_bytes([report.output]),
            'stages': times.seconds(),
        }

    return work


class _PassOneClock(Observer):
    """Takes what a bag costs until its frames are planned; of the last bag, if there are many."""

    def __init__(self) -> None:
        self.pass_1: dict[str, float] = {}

    def bag_started(self, number: int, total: int, bag: str) -> None:
        """Begin to count."""
        del number, total, bag
        self._begin = _now()

    def planned(self, number: int, plan: PlanReport) -> None:
        """Keep what was used since the bag was begun."""
        del number, plan
        self.pass_1 = {name: value - self._begin[name] for name, value in _now().items()}


def _now() -> dict[str, float]:
    return {
        'wall_s': time.perf_counter(),
        'cpu_s': processor_seconds(),
        'bytes_read': bytes_read(),
    }


def bytes_read() -> int:
    """Return the bytes that this process has read from files so far, cached or not; proc(5)."""
    for line in Path('/proc/self/io').read_text(encoding='ascii').splitlines():
        name, _, value = line.partition(': ')
        if name == 'rchar':
            return int(value)
    return 0
