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

"""Make the bag, and run things on it in processes of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import hashlib
import json
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Any

from kuavo_bag_converter.benchmark.measure import measure
from kuavo_bag_converter.benchmark.processes import memory_available
from kuavo_bag_converter.benchmark.results import Result
from kuavo_bag_converter.benchmark.runs import Run
from kuavo_bag_converter.sample.options import SampleOptions
from kuavo_bag_converter.sample.write import write_sample
from kuavo_bag_converter.settings import parse_assignments, Settings, updated
from kuavo_bag_converter.support.errors import ConverterError, UsageError
from kuavo_bag_converter.support.process import MB
from kuavo_bag_converter.support.version import __version__

_PACKAGE = 'kuavo_bag_converter.benchmark'
_LEROBOT_JOB = Path(__file__).resolve().with_name('lerobot_job.py')
_SHARE_OF_MEMORY = 0.85


@dataclass(frozen=True)
class LeRobot:
    """A Python that has lerobot."""

    python: str
    version: str
    streaming: bool
    """Whether it can encode while frames come."""


class Campaign:
    """What all runs on one bag have in common."""

    def __init__(
        self,
        work: Path,
        bag: Path,
        settings: Mapping[str, object],
        limit_mb: float | None,
    ) -> None:
        """
        Prepare for a bag.

        :param work: Folder for datasets, which are removed as soon as they are measured.
        :param bag: What to convert.
        :param settings: Of all conversions.
        :param limit_mb: Memory of a run; if None, most of what is free when it starts.
        """
        self._scratch = scratch_folder(work)
        self._settings = {**settings, 'bags': [str(bag)]}
        self._limit_mb = limit_mb

    def convert(self, run: Run) -> Result:
        """Run a method of this package."""
        output = self._fresh('dataset')
        specification = {
            'method': run.method,
            'settings': {**self._settings, **run.settings, 'output': str(output)},
            'parameters': str(self._scratch / 'parameters.yaml'),
        }
        result = self._measured(run, f'{_PACKAGE}.{run.job}', specification)
        (self._scratch / 'parameters.yaml').unlink(missing_ok=True)
        return result

    def write_with_lerobot(self, lerobot: LeRobot) -> list[Result]:
        """Run LeRobot's own writer on the same frames, in each of its ways."""
        frames = self._fresh('frames')
        specification: dict[str, Any] = {'settings': self._settings, 'frames': str(frames)}
        say('taking the frames out of the bag for LeRobot')
        _done(f'{_PACKAGE}.frames_job', specification)
        results = []
        for streaming in (False, True) if lerobot.streaming else (False,):
            what = ' streaming' if streaming else ''
            run = Run(f'LeRobot {lerobot.version}{what}', 'lerobot', {'streaming': streaming})
            given = {
                'frames': str(frames),
                'output': str(self._scratch / 'dataset'),
                'streaming': streaming,
            }
            results.append(self._measured(run, str(_LEROBOT_JOB), given, lerobot.python))
        shutil.rmtree(frames)
        return results

    def stage_costs(self, runs: Sequence[Run]) -> dict[str, Any]:
        """Return what the stages of these runs cost at least."""
        say('measuring the stages alone')
        listed = [{**self._settings, **run.settings} for run in runs]
        return _done(f'{_PACKAGE}.stage_cost_job', {'settings': listed})

    def _measured(
        self, run: Run, job: str, specification: Mapping[str, Any], python: str | None = None
    ) -> Result:
        limit = self._limit_mb or memory_available() * _SHARE_OF_MEMORY / MB
        more = {'python': python} if python else {}
        measured = measure(job, specification, limit_mb=limit, **more)
        shutil.rmtree(self._scratch / 'dataset', ignore_errors=True)
        shutil.rmtree(self._scratch / 'dataset.unfinished', ignore_errors=True)
        say(
            f'{run.name}: {measured.status}: '
            f'{measured.reason or f"{measured.work_wall_s:.1f} s"}, '
            f'{measured.cpu_s:.1f} CPU s, {measured.peak_mb:.0f} MB'
        )
        return Result(run, measured)

    def _fresh(self, name: str) -> Path:
        """Return the path of a folder that is to be made in the scratch folder."""
        path = self._scratch / name
        shutil.rmtree(path, ignore_errors=True)
        return path


def say(text: str) -> None:
    """Tell the user how it goes on."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def scratch_folder(work: Path) -> Path:
    """Return the folder for what is removed as soon as it is measured."""
    folder = work / 'scratch'
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def common_settings(assignments: Sequence[str], sample: Mapping[str, Any]) -> dict[str, object]:
    """
    Return the settings of all conversions: what the user set, and what the sample asks for.

    :raises UsageError: A setting is wrong.
    """
    settings = parse_assignments(assignments)
    updated(Settings(), settings, '--set')
    return settings if sample.get('depth', True) else {'use_depth': 'false', **settings}


def made_bag(work: Path, options: Mapping[str, Any]) -> Path:
    """
    Return a sample bag with these options, made now or by an earlier benchmark.

    :raises UsageError: The options do not fit each other.
    """
    text = json.dumps([__version__, dict(sorted(options.items()))])
    folder = work / 'bags' / hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
    path = folder / ('sample' if options.get('storage', 'bag') != 'bag' else 'sample.bag')
    if not path.exists():
        say(f'making {path}')
        folder.mkdir(parents=True, exist_ok=True)
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in options.items()
        }
        write_sample(path, SampleOptions(**given))
    return path


def find_lerobot(python: str) -> LeRobot:
    """
    Ask a Python for its lerobot.

    :raises UsageError: It cannot be run or has none.
    """
    try:
        done = subprocess.run(
            [python, str(_LEROBOT_JOB)], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        lines = (getattr(error, 'stderr', '') or str(error)).strip().splitlines()
        raise UsageError(f'--lerobot-python {python}: no lerobot: {lines[-1]}') from error
    return LeRobot(python, **json.loads(done.stdout.splitlines()[-1]))


def _done(job: str, specification: Mapping[str, Any]) -> dict[str, Any]:
    measured = measure(job, specification)
    if measured.status != 'done':
        raise ConverterError(f'benchmark: {job.rpartition(".")[2]}: {measured.reason}')
    return measured.outcome
