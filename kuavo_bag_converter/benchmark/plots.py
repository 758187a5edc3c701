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

"""The plots of a benchmark; they need matplotlib, which nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kuavo_bag_converter.benchmark.results import Result, Results
from matplotlib.figure import Figure

_FORMATS = ('svg', 'png')
_LEAST_MB = 30
"""What is below belongs to the start and the end of a process."""


def write_plots(results: Results, folder: Path) -> list[Path]:
    """Draw memory over time, and memory and speed by chunk size; return the files."""
    files = _save(_memory_over_time(results), folder / 'memory')
    sized = _by_chunk_size(results)
    if len(sized) > 1:
        files += _save(_chunk_sizes(sized), folder / 'chunk_size')
    return files


def _figure() -> tuple[Figure, Any]:
    figure = Figure(figsize=(9, 5), layout='constrained')
    return figure, figure.add_subplot()


def _save(figure: Figure, path: Path) -> list[Path]:
    files = [path.with_suffix(f'.{name}') for name in _FORMATS]
    for file in files:
        figure.savefig(file, dpi=120)
    return files


def _memory_over_time(results: Results) -> Figure:
    figure, axes = _figure()
    for result in results.results:
        curve = result.measured.curve
        if curve:
            label = result.run.name + (' (stopped)' if result.measured.status == 'stopped' else '')
            axes.plot(*zip(*curve, strict=True), label=label, linewidth=1)
    axes.set_yscale('log')
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=_LEAST_MB)
    axes.set_xlabel('seconds since the conversion began')
    axes.set_ylabel('memory of the process tree (PSS), MB')
    axes.set_title(f'{results.title}: memory over time')
    axes.grid(which='both', alpha=0.3)
    axes.legend(fontsize='small')
    return figure


def _by_chunk_size(results: Results) -> list[tuple[int, Result]]:
    """Return the done runs that differ in their chunk size alone, by that size."""
    sized = [
        (int(result.run.settings['chunk_size']), result)
        for result in results.of('chunked')
        if result.run.settings.keys() == {'chunk_size'} and result.measured.status == 'done'
    ]
    return sorted(sized, key=lambda pair: pair[0])


def _chunk_sizes(sized: list[tuple[int, Result]]) -> Figure:
    figure, axes = _figure()
    sizes = [size for size, _ in sized]
    axes.plot(sizes, [r.measured.peak_mb for _, r in sized], 'o-', label='peak')
    axes.plot(sizes, [r.measured.increment_mb for _, r in sized], 's--', label='increment')
    axes.set_ylim(bottom=0)
    axes.set_xlabel('chunk size, frames')
    axes.set_ylabel('memory, MB')
    axes.legend(loc='lower left')
    speed = axes.twinx()
    speed.plot(sizes, [r.frames_per_second for _, r in sized], '^:', color='tab:green')
    speed.set_ylim(bottom=0)
    speed.set_ylabel('frames per second (green)')
    axes.set_title('chunk size against memory and speed')
    axes.grid(alpha=0.3)
    return figure
