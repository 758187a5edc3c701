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
Run a job in a fresh process and watch what it uses.

Memory is the proportional set size (PSS) of the job's whole process tree, read 20 times a second:
pages that several of its processes share count once. The *peak* is the largest reading, the
*baseline* the reading after the job's imports and before its work, the *increment* the difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import contextlib
from dataclasses import dataclass, field
import json
import os
from pathlib import Path
import select
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from kuavo_bag_converter.benchmark import child
from kuavo_bag_converter.benchmark.processes import (
    machine_busy_seconds,
    processor_seconds_of,
    Session,
)
from kuavo_bag_converter.support.process import MB

_INTERVAL_S = 0.05
# Reading the memory of a large process takes milliseconds of a core that it could use.
_LARGEST_SHARE = 0.05
_GRACE_S = 10.0
_RUNAWAY = 1.1


@dataclass(frozen=True)
class Measurement:
    """What one process tree used from its start to its end; memory in MB (2**20 bytes)."""

    status: str
    """``done``, ``failed``, or ``stopped`` (at the memory limit)."""
    reason: str
    """Why it failed or was stopped; one line."""
    wall_s: float
    """From the start of the process to its end."""
    cpu_s: float
    """User and system time of all its processes, imports included."""
    work_wall_s: float
    """Of the work alone, until it ended or was stopped."""
    work_cpu_s: float
    others_cpu_s: float
    """CPU time that the rest of the machine used during the work."""
    baseline_mb: float
    """Memory after the imports, before the work."""
    peak_mb: float
    max_rss_mb: float
    """Largest resident set of any single process, see getrusage(2)."""
    curve: list[tuple[float, float]]
    """Seconds since the work began, and the memory then."""
    outcome: dict[str, Any] = field(default_factory=dict)
    """What the job returned."""

    @property
    def increment_mb(self) -> float:
        """Memory that the work took on top of what its imports take."""
        return self.peak_mb - self.baseline_mb


def measure(
    job: str,
    specification: Mapping[str, Any],
    *,
    python: str = sys.executable,
    limit_mb: float | None = None,
) -> Measurement:
    """
    Run a job of :mod:`~kuavo_bag_converter.benchmark.child` and measure it.

    :param job: Module or file of the job.
    :param specification: What its ``prepare`` gets; anything that JSON can hold.
    :param python: Interpreter that runs it.
    :param limit_mb: Memory at which the job is stopped: with SIGTERM, then with SIGKILL.
    """
    with tempfile.TemporaryDirectory(prefix='benchmark-') as name:
        folder = Path(name)
        paths = [folder / 'specification.json', folder / 'result.json']
        paths[0].write_text(json.dumps(specification), encoding='utf-8')
        command = [python, str(Path(child.__file__).resolve()), job, *map(str, paths)]
        with (
            (folder / 'log').open('wb') as log,
            _Watched(command, log.fileno(), limit_mb) as watched,
        ):
            watched.watch()
        return watched.measurement(paths[1], folder / 'log')


class _Watched:
    """A job that runs, in a session of its own."""

    def __init__(self, command: Sequence[str], log: int, limit_mb: float | None) -> None:
        self._limit_mb = limit_mb
        self._samples: list[tuple[float, int]] = []
        self._baseline = 0
        self._asked_to_stop: float | None = None
        self._started = self._work_started = self._ended = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        self._handle = os.pidfd_open(self._process.pid)
        self._session = Session(self._process.pid)
        self._cpu_before_work = 0.0
        self._machine = machine_busy_seconds()

    def watch(self) -> None:
        """Sample until the job has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._sample_until_readable(self._process.stdout.fileno())
        if self._process.stdout.readline() == b'prepared\n':
            self._baseline = self._session.memory()
            self._cpu_before_work = processor_seconds_of(self._process.pid)
            self._machine = machine_busy_seconds()
            self._work_started = time.perf_counter()
            self._process.stdin.write(b'\n')
            self._process.stdin.flush()
        self._sample_until_readable(self._handle)
        self._ended = time.perf_counter()
        self._machine = machine_busy_seconds() - self._machine
        _, self._status, self._usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(self._status)

    def _sample_until_readable(self, descriptor: int) -> None:
        readable: Sequence[int] = ()
        while not readable:
            used = time.process_time()
            self._sample(time.perf_counter())
            pause = max(_INTERVAL_S, (time.process_time() - used) / _LARGEST_SHARE)
            readable = select.select([descriptor], [], [], pause)[0]

    def _sample(self, now: float) -> None:
        memory = self._session.memory()
        self._samples.append((now, memory))
        limit = self._limit_mb
        if limit is None or memory <= limit * MB:
            return
        if self._asked_to_stop is None:
            self._asked_to_stop = now
            self._process.terminate()
        elif now - self._asked_to_stop > _GRACE_S or memory > limit * MB * _RUNAWAY:
            self._kill()

    def _kill(self) -> None:
        for pid in self._session.members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def measurement(self, result: Path, log: Path) -> Measurement:
        """Return what was measured."""
        status, reason = self._verdict(result, log)
        usage = self._usage
        cpu = usage.ru_utime + usage.ru_stime
        done = json.loads(result.read_text(encoding='utf-8')) if status == 'done' else {}
        work_cpu = done.get('cpu_s', cpu - self._cpu_before_work)
        return Measurement(
            status,
            reason,
            wall_s=self._ended - self._started,
            cpu_s=cpu,
            work_wall_s=done.get('wall_s', self._ended - self._work_started),
            work_cpu_s=work_cpu,
            others_cpu_s=max(0.0, self._machine - work_cpu),
            baseline_mb=self._baseline / MB,
            peak_mb=max(memory for _, memory in self._samples) / MB,
            max_rss_mb=usage.ru_maxrss / 1024,
            curve=[(now - self._work_started, memory / MB) for now, memory in self._samples],
            outcome=done.get('outcome', {}),
        )

    def _verdict(self, result: Path, log: Path) -> tuple[str, str]:
        code = self._process.returncode
        if self._asked_to_stop is not None:
            after = self._asked_to_stop - self._work_started
            return 'stopped', f'needed more than {self._limit_mb:.0f} MB after {after:.0f} s'
        if code == 0 and result.exists():
            return 'done', ''
        lines = log.read_text(encoding='utf-8', errors='replace').strip().splitlines()
        ending = f'ended by {signal.Signals(-code).name}' if code < 0 else f'exit code {code}'
        return 'failed', lines[-1] if lines and code >= 0 else ending

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *error: Any) -> None:
        self._kill()
        self._process.__exit__(*error)
        os.close(self._handle)
