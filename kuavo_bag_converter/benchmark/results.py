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

"""What a benchmark found, in the form in which its JSON holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
import os
import platform
from typing import Any

from kuavo_bag_converter.benchmark.measure import Measurement
from kuavo_bag_converter.benchmark.processes import memory_total, processor_name
from kuavo_bag_converter.benchmark.runs import Run
from kuavo_bag_converter.support.process import MB
from kuavo_bag_converter.support.version import __version__

_LIBRARIES = ('av', 'opencv-python-headless', 'numpy', 'pyarrow', 'rosbags', 'mcap')


@dataclass(frozen=True)
class Result:
    """A run and what was measured of it."""

    run: Run
    measured: Measurement

    @property
    def frames(self) -> int:
        """Frames of the dataset; 0 where none came to be."""
        return int(self.measured.outcome.get('frames', 0))

    @property
    def frames_per_second(self) -> float:
        """Frames per second of the work."""
        return self.frames / self.measured.work_wall_s if self.measured.work_wall_s else 0.0

    def busy(self, cores: int) -> float:
        """Return the share of the cores that the work kept busy, 0 to 1."""
        wall = self.measured.work_wall_s
        return self.measured.work_cpu_s / (wall * cores) if wall else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return everything, the curve rounded."""
        values = asdict(self.measured)
        values['curve'] = [[round(at, 3), round(memory, 1)] for at, memory in self.measured.curve]
        values['increment_mb'] = self.measured.increment_mb
        return {
            'name': self.run.name,
            'method': self.run.method,
            'settings': dict(self.run.settings),
            'frames_per_second': self.frames_per_second,
            **values,
        }


@dataclass(frozen=True)
class Efficiency:
    """What a run used beside what it could not avoid."""

    run: str
    cpu_s: float
    stages_s: Mapping[str, float]
    """CPU seconds that decode, resize and encode cost alone, for the same pictures and frames."""

    @property
    def unavoidable_s(self) -> float:
        """CPU seconds of all these stages."""
        return sum(self.stages_s.values())

    @property
    def ratio(self) -> float:
        """How many times the unavoidable the run used."""
        return self.cpu_s / self.unavoidable_s


def efficiency(result: Result, costs: Mapping[str, Any], codec: int) -> Efficiency:
    """
    Relate a run to the costs of :mod:`~kuavo_bag_converter.benchmark.stage_cost_job`.

    :param result: A run that was done.
    :param costs: The job's outcome.
    :param codec: Position of the run's settings in what the job was given.
    """
    stages = {'decode': 0.0, 'resize': 0.0, 'encode': 0.0}
    for camera in costs['cameras']:
        for stage in ('decode', 'resize'):
            stages[stage] += min(camera[stage].values()) * camera['pictures'] / 1000
        stages['encode'] += camera['encode'][codec] * costs['frames'] / 1000
    return Efficiency(result.run.name, result.measured.cpu_s, stages)


def describe_machine() -> dict[str, Any]:
    """Return what the numbers depend on: processor, memory, kernel, versions."""
    return {
        'processor': processor_name() or platform.machine(),
        'cores': len(os.sched_getaffinity(0)),
        'memory_mb': memory_total() // MB,
        'kernel': platform.release(),
        'python': platform.python_version(),
        'versions': {'kuavo_bag_converter': __version__}
        | {name: _version(name) for name in _LIBRARIES},
    }


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ''


@dataclass
class Results:
    """All that one benchmark found."""

    title: str
    bag: dict[str, Any]
    settings: dict[str, Any]
    """What all runs have in common, where it differs from the defaults."""
    machine: dict[str, Any] = field(default_factory=describe_machine)
    results: list[Result] = field(default_factory=list)
    stage_costs: dict[str, Any] = field(default_factory=dict)
    efficiencies: list[Efficiency] = field(default_factory=list)

    @property
    def cores(self) -> int:
        """Cores that the processes may use."""
        return int(self.machine['cores'])

    def of(self, method: str) -> Sequence[Result]:
        """Return the results of one method."""
        return [result for result in self.results if result.run.method == method]

    def as_json(self) -> dict[str, Any]:
        """Return everything."""
        return {
            'title': self.title,
            'machine': self.machine,
            'bag': self.bag,
            'settings': self.settings,
            'runs': [result.as_json() for result in self.results],
            'stage_costs_ms': self.stage_costs,
            'efficiency': [
                {**asdict(item), 'unavoidable_s': item.unavoidable_s, 'ratio': item.ratio}
                for item in self.efficiencies
            ],
        }
