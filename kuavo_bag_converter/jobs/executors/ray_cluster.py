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

"""Tasks on the nodes of a Ray cluster, which must see the bags and the folder of the shards."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
import os
from pathlib import Path
import pickle
import signal
import threading
from typing import Any
import uuid

from kuavo_bag_converter.jobs.executors.memory import MemoryBudget
from kuavo_bag_converter.jobs.executors.model import (
    Begin,
    Died,
    longest_first,
    OnEvent,
    RemoteError,
    RETRIED,
    Task,
    Work,
)
from kuavo_bag_converter.jobs.executors.ray_task import (
    difference,
    look_around,
    packed,
    run_task,
    versions,
)
from kuavo_bag_converter.support.errors import Cancelled, UsageError
from kuavo_bag_converter.support.process import MB, peak_memory_mb
from kuavo_bag_converter.support.texts import listed, one_line

_LOOK_S = 0.1
_GRACE_S = 1.5
_TASKS_OF_A_PROCESS = 40
"""Then it is replaced: what a codec has not given back goes with it. Each bag is two tasks."""
_ATTEMPTS = 2
_LOST_NODES = 3
"""So many times a task is begun again whose node was lost."""
_SEEN = 20
"""Bags that each node is asked for."""
_NAMED = 3


@dataclass
class _Job:
    task: Task
    given: bytes
    attempts: int = 0
    lost_nodes: int = 0


class RayExecutor:
    """
    Runs tasks by Ray, one each; what they make they leave in files that all nodes see.

    A task whose process dies is done once more, and one whose node is lost wherever there is room.
    One that raises an error is not.
    """

    def __init__(
        self, jobs: int, threads: int, memory_limit_mb: int, cancel: threading.Event
    ) -> None:
        """
        Connect to the cluster at ``RAY_ADDRESS``, or to one of this machine, begun if need be.

        :param jobs: Tasks at a time, at most; 0 is as many as the cluster has cores for.
        :param threads: Cores of each task; 0 shares them out, if there are more than tasks.
        :param memory_limit_mb: Of each task; 0 is no limit.
        :param cancel: Set to stop.
        :raises UsageError: Ray is not installed, or there is no cluster.
        """
        try:
            import ray
        except ModuleNotFoundError:
            raise UsageError(
                'executor: ray: the Python package ray is not installed; pip install '
                '"kuavo_bag_converter[ray]", or pip install ray'
            ) from None
        self._ray: Any = ray
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            _connect(ray)
        self._function = ray.remote(
            max_calls=_TASKS_OF_A_PROCESS, max_retries=0, retry_exceptions=False
        )(run_task)
        self._cores = int(ray.cluster_resources().get('CPU', 0))
        nodes = self._nodes()
        self._least_cores = max(1, min(int(node['Resources'].get('CPU', 0)) for node in nodes))
        self._least_memory_mb = min(node['Resources'].get('memory', 0) for node in nodes) / MB
        self._jobs = jobs
        self._threads = threads
        self._limit_mb = memory_limit_mb
        self._cancel = cancel
        self._budget = MemoryBudget(memory_limit_mb, 1)
        self._folder = Path.cwd()
        """Where tasks write."""
        self._running: dict[Any, _Job] = {}

    def _nodes(self) -> list[dict[str, Any]]:
        """Return the nodes that can run tasks."""
        nodes = [n for n in self._ray.nodes() if n['Alive'] and n['Resources'].get('CPU', 0) >= 1]
        if not nodes:
            raise UsageError('executor: ray: no node of the cluster has a core; add nodes')
        return nodes

    @property
    def jobs(self) -> int:
        """Return how many tasks it runs beside each other, at most."""
        return self._jobs or self._cores

    @property
    def peak_memory_mb(self) -> float:
        """Return that of this process; the nodes are not looked at."""
        return peak_memory_mb()

    def check_reach(self, folder: Path, inputs: Sequence[Path]) -> None:
        """
        Check that every node sees what tasks read and write, and gives the same results.

        :param folder: Where tasks write.
        :param inputs: What they read; some of it is looked for.
        :raises UsageError: Names the node, what it lacks and what to do.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._folder = folder
        step = max(1, len(inputs) // _SEEN)
        paths = [Path(os.path.abspath(path)) for path in inputs[::step]]
        place = folder / 'probe.partial'
        place.mkdir(exist_ok=True)
        probe = place / f'probe.{uuid.uuid4().hex}'
        try:
            probe.touch()
            look = self._ray.remote(look_around)
            asked = {
                node['NodeManagerAddress']: look.options(
                    num_cpus=0,
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node['NodeID'], soft=False),
                ).remote(probe, paths)
                for node in self._nodes()
            }
            for address, reference in asked.items():
                self._check_node(f'executor: ray: node {address}', reference, folder)
        finally:
            for file in place.iterdir():
                file.unlink(missing_ok=True)
            place.rmdir()

    def _check_node(self, node: str, reference: Any, folder: Path) -> None:
        try:
            theirs, problem, missing = self._ray.get(reference)
        except Exception as error:  # of any class, as the node has it
            text = one_line(str(error).strip().splitlines()[-1])
            raise UsageError(
                f'{node}: cannot run kuavo_bag_converter ({text}); install it there as here'
            ) from error
        if unlike := difference(theirs, versions()):
            raise UsageError(f'{node}: {unlike}')
        if problem:
            raise UsageError(
                f'{node}: cannot write to {folder} ({problem}); choose an output on a disk that '
                'all nodes share'
            )
        if missing:
            raise UsageError(
                f'{node}: does not see {listed(map(str, missing), _NAMED)}; put the bags on a '
                'disk that all nodes share, under the same path'
            )

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
        waiting = deque(tasks if in_order else longest_first(tasks))
        again: deque[_Job] = deque()
        beside = min(self.jobs, max(1, len(tasks)))
        threads = self._threads or max(1, min(self._least_cores, self._cores // beside))
        window = min(beside, max(1, self._cores // threads))
        shared = self._ray.put(packed(work, self._folder))
        while waiting or again or self._running:
            if self._cancel.is_set():
                raise Cancelled
            while (waiting or again) and len(self._running) < window:
                if again:
                    job = again.popleft()
                else:
                    task = waiting.popleft()
                    given = begin(task.number)
                    if given is None:
                        continue
                    job = _Job(task, pickle.dumps(given))
                self._submit(shared, job, threads)
            done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=_LOOK_S)
            for reference in done:
                job = self._running.pop(reference)
                yield from self._take(job, reference, on_event, again)

    def _submit(self, work: Any, job: _Job, threads: int) -> None:
        memory = self._budget.expected_mb(job.task.kind)
        function = self._function.options(
            name=f'bag {job.task.number}',
            num_cpus=min(threads, self._least_cores),
            memory=int(min(memory, self._least_memory_mb) * MB),
        )
        reference = function.remote(work, job.task.number, job.given, threads, self._limit_mb)
        self._running[reference] = job

    def _take(
        self, job: _Job, reference: Any, on_event: OnEvent, again: deque[_Job]
    ) -> Iterator[tuple[int, Any]]:
        """Yield the result of a task that has ended in any way, unless it is begun again."""
        errors = self._ray.exceptions
        number = job.task.number
        try:
            answer = self._ray.get(reference)
        except errors.NodeDiedError:
            job.lost_nodes += 1
            reason, last = 'its node was lost', job.lost_nodes > _LOST_NODES
        except errors.OutOfMemoryError:
            job.attempts += 1
            reason = 'its process was ended by Ray for want of memory on its node'
            last = job.attempts >= _ATTEMPTS
        except errors.WorkerCrashedError:
            job.attempts += 1
            reason, last = 'its process has died on its node', job.attempts >= _ATTEMPTS
        else:
            succeeded, result, *rest = pickle.loads(answer)  # noqa: S301  # by our own task
            if not succeeded:
                raise result from RemoteError(rest[0])
            peak_mb, events = rest
            self._budget.measured(job.task.kind, peak_mb)
            for event in events:
                on_event(*event)
            yield number, result
            return
        if last:
            yield number, Died(f'{reason}, each time that it was tried')
        else:
            on_event(number, RETRIED, reason)
            again.append(job)

    def close(self) -> None:
        """Stop what is running, and leave the cluster."""
        left = list(self._running)
        self._running.clear()
        for reference in left:
            self._ray.cancel(reference, force=False)
        if left:
            _, left = self._ray.wait(left, num_returns=len(left), timeout=_GRACE_S)
        for reference in left:
            self._ray.cancel(reference, force=True)
        if self._is_ours:
            self._ray.shutdown()


def _connect(ray: Any) -> None:
    """
    Connect to a cluster, or begin one on this machine, changing nothing else of this process.

    :raises UsageError: It cannot be reached.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    statistics = os.environ.get('RAY_USAGE_STATS_ENABLED')
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    try:
        ray.init(log_to_driver=False, logging_level='ERROR', configure_logging=False)
    except Exception as error:  # of many classes
        where = os.environ.get('RAY_ADDRESS', 'this machine')
        raise UsageError(
            f'executor: ray: no cluster at {where}: {one_line(str(error))}; start one (ray start '
            '--head), or set RAY_ADDRESS'
        ) from error
    finally:
        if statistics is None:
            os.environ.pop('RAY_USAGE_STATS_ENABLED', None)
        with suppress(ValueError):  # in another thread than the main one, Ray sets none
            for number, handler in before.items():
                signal.signal(number, handler)
