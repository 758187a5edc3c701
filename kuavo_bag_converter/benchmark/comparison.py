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

"""The comparison of methods: everything that the arguments name, one after the other."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
import json
from pathlib import Path
import sys

from kuavo_bag_converter.benchmark.campaign import (
    Campaign,
    common_settings,
    find_lerobot,
    LeRobot,
    made_bag,
    say,
)
from kuavo_bag_converter.benchmark.markdown import as_markdown
from kuavo_bag_converter.benchmark.results import efficiency, Result, Results
from kuavo_bag_converter.benchmark.runs import BAG_PRESETS, conversions, Run
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.files import total_bytes


def compare_methods(options: argparse.Namespace, sample: Mapping[str, object]) -> int:
    """
    Measure all runs, write the results, and return 1 if a run failed, else 0.

    :param options: Of the command line.
    :param sample: Options of the bag to make.
    :raises UsageError: A setting is wrong, or there is no lerobot or rclpy where one should be.
    :raises ConverterError: The bag cannot be made or read.
    """
    settings = common_settings(options.assignments, sample)
    if options.node and find_spec('rclpy') is None:
        raise UsageError('--node needs rclpy: source a ROS 2, or use the Python of scripts/test')
    lerobot = find_lerobot(options.lerobot_python) if options.lerobot_python else None
    runs = conversions(
        methods=options.methods,
        chunk_sizes=options.chunk_sizes or BAG_PRESETS[options.preset].chunk_sizes,
        codecs=options.codecs,
        threads=options.threads,
        node=options.node,
    )
    work = Path(options.work)
    bag = Path(options.bag) if options.bag else made_bag(work, sample)
    title = bag.stem if options.bag else options.preset
    folder = work / 'results' / title
    folder.mkdir(parents=True, exist_ok=True)
    described = {'path': str(bag), 'bytes': total_bytes([bag]), 'options': dict(sample)}
    results = Results(f'Benchmark: {title}', described, settings)
    campaign = Campaign(work, bag, settings, options.memory_limit_mb)
    for result in _measured(campaign, runs, lerobot):
        results.results.append(result)
        _write(results, folder)
    _add_efficiency(results, campaign)
    _write(results, folder)
    _plot(results, folder)
    sys.stdout.write(as_markdown(results))
    return 1 if any(result.measured.status == 'failed' for result in results.results) else 0


def _measured(
    campaign: Campaign, runs: Sequence[Run], lerobot: LeRobot | None
) -> Iterator[Result]:
    """Run what streams first, what fills the memory last."""
    largest = [run for run in runs if run.method == 'whole_bag']
    for run in runs:
        if run not in largest:
            yield campaign.convert(run)
    if lerobot is not None:
        yield from campaign.write_with_lerobot(lerobot)
    for run in largest:
        yield campaign.convert(run)


def _add_efficiency(results: Results, campaign: Campaign) -> None:
    """
    Relate the first chunked run, and those with other codecs, to what they cannot avoid.

    Where pictures are copied, neither decoding nor encoding is unavoidable.
    """
    chunked = [
        result
        for result in results.of('chunked')
        if {**results.settings, **result.run.settings}.get('video') != 'copy'
    ]
    related = [
        result
        for result in chunked
        if result.measured.status == 'done'
        and (result is chunked[0] or 'vcodec' in result.run.settings)
    ]
    if related:
        results.stage_costs = campaign.stage_costs([result.run for result in related])
        results.efficiencies = [
            efficiency(result, results.stage_costs, place) for place, result in enumerate(related)
        ]


def _write(results: Results, folder: Path) -> None:
    text = json.dumps(results.as_json(), indent=1, ensure_ascii=False)
    (folder / 'results.json').write_text(text, encoding='utf-8')
    (folder / 'results.md').write_text(as_markdown(results), encoding='utf-8')


def _plot(results: Results, folder: Path) -> None:
    try:
        from kuavo_bag_converter.benchmark.plots import write_plots
    except ModuleNotFoundError:
        say('no plots: matplotlib is not there; scripts/install_benchmark installs it')
        return
    write_plots(results, folder)
