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

"""Tasks beside each other, in processes of this machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
import json
from multiprocessing.connection import Connection, wait
from pathlib import Path
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from kuavo_bag_converter.jobs.executors.memory import MemoryBudget
from kuavo_bag_converter.jobs.executors.model import (
    Begin,
    Died,
    longest_first,
    OnEvent,
    pickled,
    RemoteError,
    RETRIED,
    Task,
    Work,
)
from kuavo_bag_converter.jobs.executors.serial import SerialExecutor
from kuavo_bag_converter.jobs.executors.worker import START
from kuavo_bag_converter.support.errors import Cancelled, MemoryLimitError, UsageError
from kuavo_bag_converter.support.machine import cores
from kuavo_bag_converter.support.process import MB, peak_memory_mb, resident_bytes

_LOOK_S = 0.1
"""Longest time for which it is not noticed that the user has asked to stop."""
_GRACE_S = 1.3
"""How long tasks have to end by themselves when they are stopped."""
_FAREWELL_S = 0.3
"""How long a process has to end when its connection is closed."""
_SAMPLE_S = 0.5
_FAILED_STARTS = 3
_ATTEMPTS = 2


@dataclass
class _Job:
    """
    A task and how far it is.

    :ivar task: It.
    :ivar given: Its input, None before its turn has come.
    :ivar share_mb: What it is given of the memory.
    :ivar attempt: From 1.
    """

    task: Task
    given: Any = None
    share_mb: float = 0.0
    attempt: int = 1


class _Worker:
    """One process and what it does."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        descriptor = theirs.fileno()
        with theirs:
            try:
                self.process = subprocess.Popen(
                    [sys.executable, '-c', START, str(descriptor), json.dumps(sys.path)],
                    pass_fds=[descriptor],
                    stdin=subprocess.DEVNULL,
                    stdout=sys.__stderr__.fileno() if sys.__stderr__ else subprocess.DEVNULL,
                    # Ctrl-C in a terminal is for the process that has started it.
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise UsageError(
                    f'executor: no process can be started ({error.strerror}); set jobs: 1'
                ) from error
        self.connection = Connection(ours.detach())
        self.ready = False
        self.work: Work | None = None
        self.job: _Job | None = None

    @property
    def resident_mb(self) -> float:
        return resident_bytes(self.process.pid) / MB

    def begin(self, work: Work, job: _Job, threads: int, limit_mb: int) -> None:
        """Give it a task; that it has died meanwhile is noticed by who reads from it."""
        self.job = job
        with suppress(OSError):
            if self.work is not work:
                self.connection.send_bytes(pickle.dumps(('work', pickled(work))))
                self.work = work
            task = ('task', job.task.number, job.given, threads, limit_mb, limit_mb > 0)
            self.connection.send_bytes(pickle.dumps(task))

    def cancel(self) -> None:
        with suppress(OSError):
            self.connection.send_bytes(b'')

    def end(self, within_s: float = 0.0) -> str:
        """End it, which it does by itself when its connection is closed; return how it did."""
        self.connection.close()
        with suppress(subprocess.TimeoutExpired):
            return _how(self.process.wait(within_s))
        self.process.kill()
        return _how(self.process.wait())


class LocalExecutor:
    """
    Runs tasks in processes that are kept from one to the next.

    A process that dies costs its task a second attempt, alone in case it was for want of memory;
    if that dies, too, the result is :class:`.Died`. When this process ends, so do the others.
    """

    def __init__(
        self, jobs: int, threads: int, memory_limit_mb: int, cancel: threading.Event
    ) -> None:
        """
        Run tasks beside each other.

        :param jobs: How many, at most; at least 2.
        :param threads: Of each task; 0 shares the cores out.
        :param memory_limit_mb: What all processes together may have, MB; 0 is no limit.
        :param cancel: Set to stop.
        """
        self.jobs = jobs
        self.peak_memory_mb = peak_memory_mb()
        self._threads = threads
        self._memory_limit_mb = memory_limit_mb
        self._cancel = cancel
        self._budget = MemoryBudget(memory_limit_mb, jobs)
        self._workers: list[_Worker] = []
        self._waiting: deque[_Job] = deque()
        self._alone: deque[_Job] = deque()
        """Tasks whose process has died, which are done again when no other runs."""
        self._here: list[_Job] = []
        """Tasks that take more memory than there is beside this process, which are done in it."""
        self._failed_starts = 0
        self._sampled_at = 0.0

    def map(  # noqa: A003
        self,
        work: Work,
        tasks: Sequence[Task],
        begin: Begin,
        on_event: OnEvent,
        *,
        in_order: bool = False,
    ) -> Iterator[tuple[int, Any]]:
        """See :class:`.Executor`."""
        self._waiting = deque(map(_Job, tasks if in_order else longest_first(tasks)))
        while self._waiting or self._alone or self._jobs():
            if self._cancel.is_set():
                raise Cancelled
            while self._start_one(work, begin):
                pass
            self._sample()
            by_connection = {worker.connection: worker for worker in self._workers}
            for connection in wait(list(by_connection), _LOOK_S) if by_connection else ():
                assert isinstance(connection, Connection)  # as all that was given
                yield from self._take(by_connection[connection], on_event)
        if self._here:
            self.close()
            jobs, self._here = self._here, []
            given = {job.task.number: job.given for job in jobs}
            here = SerialExecutor(self._threads or cores(), self._memory_limit_mb, self._cancel)
            yield from here.map(work, [job.task for job in jobs], given.get, on_event)

    def check_reach(self, folder: Path, inputs: Sequence[Path]) -> None:
        """All is of this machine."""

    def _jobs(self) -> list[_Job]:
        """Return what is running."""
        return [worker.job for worker in self._workers if worker.job]

    def _idle(self) -> list[_Worker]:
        return [worker for worker in self._workers if not worker.job]

    def _start_one(self, work: Work, begin: Begin) -> bool:
        """Start a task if there is one and room for it; return whether another may be."""
        running = self._jobs()
        if len(running) >= self.jobs or any(job.attempt > 1 for job in running):
            return False
        if not self._waiting:
            if self._alone and not running:
                job = self._alone.popleft()
                job.share_mb = self._budget.room_mb
                self._give(work, job)
            return False
        job = self._waiting[0]
        share = self._budget.share(job.task.kind, self._taken_mb())
        if share is None:
            self._end(self._idle())  # they take memory, too
            return False
        self._waiting.popleft()
        if job.given is None:
            job.given = begin(job.task.number)
        if job.given is None:
            return True
        job.share_mb = share
        if share:
            self._give(work, job)
        else:
            self._here.append(job)
        return True

    def _taken_mb(self) -> list[float]:
        """Return the memory of each task that is running: its share, or what it takes."""
        taken = []
        for worker in self._workers:
            if worker.job:
                found = 0.0 if self._budget.limited else worker.resident_mb
                taken.append(max(worker.job.share_mb, found))
        return taken

    def _give(self, work: Work, job: _Job) -> None:
        """Give a task to a worker that has none."""
        threads = self._share_of_cores()
        idle = self._idle()
        if not idle:
            idle = [_Worker()]
            self._workers += idle
        limit = max(1, int(job.share_mb)) if self._budget.limited else 0
        idle[0].begin(work, job, threads, limit)

    def _share_of_cores(self) -> int:
        """Return the threads of a task that is begun now; the last ones have the most."""
        beside = min(self.jobs, len(self._jobs()) + len(self._waiting) + 1)
        return self._threads or max(1, cores() // beside)

    def _take(self, worker: _Worker, on_event: OnEvent) -> Iterator[tuple[int, Any]]:
        """Yield what a message of a worker gives."""
        try:
            kind, *rest = pickle.loads(worker.connection.recv_bytes())  # noqa: S301  # of our own
        except (EOFError, OSError):
            yield from self._died(worker, on_event)
            return
        if kind == 'ready':
            worker.ready, self._failed_starts = True, 0
            return
        if kind == 'event':
            on_event(*rest)
            return
        job, worker.job = worker.job, None
        assert job is not None  # it tells of its task
        if kind == 'done':
            number, result, peak = rest
            self._budget.measured(job.task.kind, peak)
            yield number, result
            return
        _, error, text = rest
        if not isinstance(error, MemoryLimitError):
            raise error from RemoteError(text)
        self._budget.did_not_suffice(job.task.kind, job.share_mb)
        self._waiting.appendleft(job)

    def _died(self, worker: _Worker, on_event: OnEvent) -> Iterator[tuple[int, Any]]:
        """Yield the result of a task whose processes have died; let it be done again before."""
        self._workers.remove(worker)
        reason = worker.end(_FAREWELL_S)
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= _FAILED_STARTS:
                raise UsageError(
                    f'executor: processes cannot be started ({reason}, see above); set jobs: 1'
                )
        job = worker.job
        if job is None:
            return
        if job.attempt >= _ATTEMPTS:
            yield job.task.number, Died(f'{reason}, in the second attempt, too')
            return
        on_event(job.task.number, RETRIED, reason)
        job.attempt += 1
        self._alone.append(job)

    def _sample(self) -> None:
        """Look at the memory of all processes."""
        now = time.monotonic()
        if now - self._sampled_at >= _SAMPLE_S:
            self._sampled_at = now
            resident = resident_bytes() / MB + sum(one.resident_mb for one in self._workers)
            self.peak_memory_mb = max(self.peak_memory_mb, resident)

    def _end(self, workers: Sequence[_Worker]) -> None:
        end = time.monotonic() + _FAREWELL_S
        for worker in workers:
            self._workers.remove(worker)
            worker.connection.close()
        for worker in workers:
            worker.end(max(0.0, end - time.monotonic()))

    def close(self) -> None:
        """End all processes; tasks that are running have a moment to remove what is unfinished."""
        busy = {worker.connection: worker for worker in self._workers if worker.job}
        for worker in busy.values():
            worker.cancel()
        end = time.monotonic() + _GRACE_S
        while busy and (left := end - time.monotonic()) > 0:
            for connection in wait(list(busy), left):
                assert isinstance(connection, Connection)  # as all that was given
                if not _goes_on(connection):
                    del busy[connection]
        self._end(list(self._workers))


def _goes_on(connection: Connection) -> bool:
    """Read a message of a worker; tell whether its task is still running."""
    try:
        kind, *_ = pickle.loads(connection.recv_bytes())  # noqa: S301  # of our own
    except (EOFError, OSError):
        return False
    return kind not in ('done', 'raised')


def _how(code: int) -> str:
    """Say how a process has ended."""
    if code < 0:
        with suppress(ValueError):
            name = signal.Signals(-code).name
            hint = ', as the system does where memory is short' if name == 'SIGKILL' else ''
            return f'its process was ended by {name}{hint}'
    return f'its process has ended with exit code {code}'
