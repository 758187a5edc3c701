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
The tables of a benchmark, as Markdown.

The first table has the columns of the report in which the chunked method was first compared with
loading everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kuavo_bag_converter.benchmark.results import Result, Results
from kuavo_bag_converter.support.process import MB

_NONE = '-'
_STAGES = ('decode', 'resize', 'encode')


def as_markdown(results: Results) -> str:
    """Return the whole document."""
    parts = [
        f'# {results.title}',
        _setup(results),
        '## Methods 方法对比',
        _methods(results),
        _remarks(results),
        '## Resources 资源',
        _resources(results),
        '## CPU seconds by stage 各阶段 CPU 时间',
        _stages(results),
    ]
    if results.efficiencies:
        parts += ['## Efficiency 效率', _efficiency(results), _stage_costs(results)]
    return '\n\n'.join(part for part in parts if part) + '\n'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns, except the first, are aligned to the right."""
    lines = [header, ['---', *('---:' for _ in header[1:])], *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def size(megabytes: float) -> str:
    """Write an amount of memory; 1 GB is 1024 MB."""
    return f'{megabytes:.0f} MB' if megabytes < 1000 else f'{megabytes / 1024:.2f} GB'


def _setup(results: Results) -> str:
    machine, bag = results.machine, results.bag
    versions = ', '.join(f'{name} {text}' for name, text in machine['versions'].items() if text)
    lines = [
        f'- Machine: {machine["processor"]}, {machine["cores"]} cores, '
        f'{size(machine["memory_mb"])}, Linux {machine["kernel"]}, Python {machine["python"]}; '
        f'{versions}',
        f'- Bag: {size(bag["bytes"] / MB)}; {_named(bag["options"]) or bag["path"]}',
        f'- Settings: {_named(results.settings) or "defaults"}',
    ]
    return '\n'.join(lines)


def _named(values: dict[str, Any]) -> str:
    return ', '.join(f'{name} {value}' for name, value in values.items())


def _methods(results: Results) -> str:
    header = (
        'Method 方法',
        'Peak memory 内存峰值',
        'Increment 内存增量',
        'Time 处理时间',
        'FPS',
        'Peak reduction 峰值减少',
        'Increment reduction 增量减少',
        'Speed-up 速度提升',
    )
    whole = results.of('whole_bag')
    base = whole[0] if whole and whole[0].measured.status != 'failed' else None
    return table(header, [_method_row(result, base) for result in results.results])


def _method_row(result: Result, base: Result | None) -> list[str]:
    measured = result.measured
    if measured.status == 'failed':
        return [result.run.name, 'failed', *[_NONE] * 6]
    # A run that was stopped would have used more of everything.
    more = '> ' if measured.status == 'stopped' else ''
    row = [
        result.run.name,
        more + size(measured.peak_mb),
        more + size(measured.increment_mb),
        f'{more}{measured.work_wall_s:.1f} s',
        f'{result.frames_per_second:.1f}' if measured.status == 'done' else _NONE,
    ]
    if base is result:
        return row + ['baseline 基准'] * 3
    if base is None or measured.status == 'stopped':
        return row + [_NONE] * 3
    least = '> ' if base.measured.status == 'stopped' else ''
    faster = base.measured.work_wall_s / measured.work_wall_s
    return [
        *row,
        least + _reduction(measured.peak_mb, base.measured.peak_mb),
        least + _reduction(measured.increment_mb, base.measured.increment_mb),
        f'{least}{faster:.2f}x',
    ]


def _reduction(value: float, base: float) -> str:
    return f'{100 * (1 - value / base):.1f} %'


def _remarks(results: Results) -> str:
    lines = [
        f'- {result.run.name}: {result.measured.status}: {result.measured.reason}'
        for result in results.results
        if result.measured.status != 'done'
    ]
    return '\n'.join(lines)


def _resources(results: Results) -> str:
    header = (
        'Method',
        'Frames',
        'CPU s',
        'of it start-up',
        'Cores busy',
        "Others' CPU s",
        'Pass 1 CPU s',
        'of the run',
        'Pass 1 read',
        'Read',
        'Written',
        'Max RSS',
    )
    rows = [_resource_row(result, results.cores) for result in results.results]
    return table(header, rows)


def _resource_row(result: Result, cores: int) -> list[str]:
    measured = result.measured
    outcome = measured.outcome
    first = outcome.get('pass_1', {}) if result.run.method == 'chunked' else {}
    return [
        result.run.name,
        str(result.frames or _NONE),
        f'{measured.cpu_s:.1f}',
        f'{measured.cpu_s - measured.work_cpu_s:.2f}',
        f'{100 * result.busy(cores):.0f} %',
        f'{measured.others_cpu_s:.1f}',
        _or_none(first.get('cpu_s'), '{:.2f}'.format),
        _or_none(first.get('wall_s'), lambda s: f'{100 * s / measured.work_wall_s:.1f} %'),
        _or_none(first.get('bytes_read'), lambda count: size(count / MB)),
        _or_none(outcome.get('bytes_read'), lambda count: size(count / MB)),
        _or_none(outcome.get('bytes_written'), lambda count: size(count / MB)),
        size(measured.max_rss_mb),
    ]


def _or_none(value: Any, text: Callable[[Any], str]) -> str:
    return _NONE if value is None else text(value)


def _stages(results: Results) -> str:
    timed = [result for result in results.results if result.measured.outcome.get('stages')]
    names = list(dict.fromkeys(n for r in timed for n in r.measured.outcome['stages']))
    rows = []
    for result in timed:
        seconds = result.measured.outcome['stages']
        rest = result.measured.work_cpu_s - sum(seconds.values())
        values = [*(seconds.get(name, 0.0) for name in names), rest]
        rows.append([result.run.name, *(f'{value:.2f}' for value in values)])
    return table(('Method', *names, 'rest'), rows) if rows else ''


def _efficiency(results: Results) -> str:
    header = ('Method', *_STAGES, 'Unavoidable CPU s', 'CPU s of the run', 'Ratio')
    rows = [
        [
            item.run,
            *(f'{item.stages_s[stage]:.2f}' for stage in _STAGES),
            f'{item.unavoidable_s:.2f}',
            f'{item.cpu_s:.2f}',
            f'{item.ratio:.2f}',
        ]
        for item in results.efficiencies
    ]
    return table(header, rows)


def _stage_costs(results: Results) -> str:
    """Tabulate what one picture costs, by camera, stage and library."""
    rows = []
    for camera in results.stage_costs['cameras']:
        encode = zip(results.efficiencies, camera['encode'], strict=True)
        ways = [
            *(
                (stage, name, cost)
                for stage in _STAGES[:2]
                for name, cost in camera[stage].items()
            ),
            *(('encode', item.run, cost) for item, cost in encode),
        ]
        rows += [[camera['camera'], *way[:2], f'{way[2]:.2f}'] for way in ways]
    return table(('Camera', 'Stage', 'By', 'CPU ms per picture'), rows)
