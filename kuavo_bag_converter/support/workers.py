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

"""A pool of threads that keeps the tasks of each queue in order and bounds what waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
import threading
import time
from typing import TypeVar

from kuavo_bag_converter.support.errors import Cancelled, StalledError

WorkItem = Callable[[], object]
_Result = TypeVar('_Result')

_GRACE_S = 2.0
"""How long running tasks are waited for when the user has asked to stop."""
_LOOK_S = 0.2
"""Longest time for which it is not noticed that the user has asked to stop."""


class WorkerQueue:
    """A queue whose tasks run one after the other, in the order in which they came."""

    def __init__(self, pool: WorkerPool, name: str, rank: int) -> None:
        self._pool = pool
        self.name = name
        self.rank = rank
        self.tasks: deque[tuple[int, WorkItem]] = deque()
        self.active = False
        """Whether a task is running or about to."""
        self.begun = False
        self.closed = False

    def submit(self, task: WorkItem, size: int) -> None:
        """
        Queue a task that holds ``size`` bytes; wait while too much is queued.

        :raises Exception: What a task of the pool raised before.
        :raises StalledError: No task is finished any more.
        :raises Cancelled: The user asked to stop.
        """
        self._pool.submit(self, task, size)

    def close(self) -> None:
        """Say that no task is going to follow."""
        self._pool.close(self)


class InlineWorkers:
    """Has the face of a :class:`WorkerPool`, and runs each task in the thread that submits it."""

    def queue(self, name: str, rank: int = 0) -> InlineWorkers:  # noqa: ARG002  # there is one
        """Return the one queue."""
        return self

    def submit(self, task: WorkItem, size: int) -> None:  # noqa: ARG002  # nothing waits
        """Run a task."""
        task()

    def close(self) -> None:
        """Do nothing."""

    def drain(self) -> None:
        """Wait for nothing."""


class WorkerPool:
    """
    Threads that run the tasks of queues.

    A queue runs on one thread at a time, so a stateful encoder needs no lock; queues run beside
    each other, so a slow camera does not hold up the others. Where there are more queues than
    threads, those of the lowest rank come first. Nothing is ever dropped: who submits waits
    instead.

    No wait is without limit, since a thread that is stuck in a codec cannot be stopped: it is left
    behind, :attr:`stuck` tells so, and what it uses must be left alone. It ends with the process.
    """

    def __init__(
        self,
        threads: int,
        max_bytes: int,
        max_tasks: int,
        stall_timeout_s: float,
        cancel: threading.Event | None = None,
        name: str = 'worker',
        max_begun: int | None = None,
    ) -> None:
        """
        Start ``threads`` threads.

        :param threads: At least 1.
        :param max_bytes: Bytes that may wait in all queues together (one task always may).
        :param max_tasks: Tasks that may wait in one queue.
        :param stall_timeout_s: How long to wait while no task at all is finished.
        :param cancel: Set when the user asks to stop; then running tasks have two seconds to
            finish.
        :param name: Of the threads.
        :param max_begun: Queues that may have begun and not ended, which is when they are closed
            and empty; None for any number. So many must be able to end without the others.
        """
        self._max_bytes = max_bytes
        self._max_begun = max_begun
        self._begun = 0
        self._max_tasks = max_tasks
        self._stall_timeout_s = stall_timeout_s
        self._cancel = cancel or threading.Event()
        self._finished_at = time.monotonic()
        self._running: dict[threading.Thread, WorkerQueue] = {}
        self._bytes = 0
        self._unfinished = 0
        self._ready: list[WorkerQueue] = []
        self._error: BaseException | None = None
        self._stopping = False
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._threads = [
            threading.Thread(target=self._run, name=f'{name}-{i}', daemon=True)
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def queue(self, name: str, rank: int = 0) -> WorkerQueue:
        """
        Return a new, empty queue.

        :param name: For errors.
        :param rank: Queues of lower ranks come first.
        """
        return WorkerQueue(self, name, rank)

    def submit(self, queue: WorkerQueue, task: WorkItem, size: int) -> None:
        """Queue a task on a queue; see :meth:`WorkerQueue.submit`."""
        with self._lock:
            while self._error is None and (
                (self._bytes and self._bytes + size > self._max_bytes)
                or len(queue.tasks) >= self._max_tasks
            ):
                self._wait_for_room()
            if self._error is not None:
                raise self._error
            queue.tasks.append((size, task))
            self._bytes += size
            self._unfinished += 1
            if not queue.active:
                queue.active = True
                if self._unfinished == 1:
                    self._finished_at = time.monotonic()
                self._ready.append(queue)
                self._work.notify()

    def close(self, queue: WorkerQueue) -> None:
        """Say that no task of a queue is going to follow."""
        with self._lock:
            queue.closed = True
            if not queue.active:
                self._end(queue)

    def _end(self, queue: WorkerQueue) -> None:
        """Let another queue begin for one that has ended."""
        if queue.begun:
            self._begun -= 1
            self._work.notify()

    def _next_queue(self) -> WorkerQueue | None:
        """Take the queue whose turn it is; None if none may run."""
        ready = self._ready
        if self._max_begun is not None and self._begun >= self._max_begun:
            ready = [queue for queue in ready if queue.begun]
        if not ready:
            return None
        queue = min(ready, key=lambda queue: queue.rank)
        self._ready.remove(queue)
        if not queue.begun:
            queue.begun = True
            self._begun += 1
        return queue

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the tasks that have not run."""
        with self._lock:
            return self._bytes

    @property
    def stuck(self) -> bool:
        """Whether a task is still running though the pool was left."""
        with self._lock:
            return bool(self._running)

    def drain(self) -> None:
        """
        Wait until every task has run.

        :raises Exception: What a task raised; the tasks behind it have not run then.
        :raises StalledError: No task is finished any more.
        :raises Cancelled: The user asked to stop.
        """
        with self._lock:
            while self._unfinished and self._error is None:
                self._wait_for_room()
            if self._error is not None:
                raise self._error

    def _wait_for_room(self) -> None:
        self._room.wait(timeout=min(self._stall_timeout_s, _LOOK_S))
        if self._cancel.is_set():
            raise Cancelled
        if self._is_silent():
            raise StalledError(
                f'{self._busy()}; look at the topic with inspect, or set stall_timeout_s higher'
            )

    def _is_silent(self) -> bool:
        return time.monotonic() - self._finished_at > self._stall_timeout_s

    def _busy(self) -> str:
        names = ', '.join(sorted({queue.name for queue in self._running.values()}))
        silent = time.monotonic() - self._finished_at
        return f'{names}: a picture has kept its decoder or encoder busy for {silent:.0f} s'

    def _settle(self, *, hurry: bool) -> str:
        """
        Stop the threads after the tasks that are running; what is queued is forgotten.

        :return: Which tasks are stuck, '' if none is.
        """
        with self._lock:
            self._stopping = True
            self._work.notify_all()
            hurried_at = None
            while self._running and not self._is_silent():
                if hurried_at is None and (hurry or self._cancel.is_set()):
                    hurried_at = time.monotonic()
                if hurried_at is not None and time.monotonic() - hurried_at > _GRACE_S:
                    break
                self._room.wait(timeout=min(self._stall_timeout_s, _LOOK_S))
            idle = [thread for thread in self._threads if thread not in self._running]
            busy = self._busy() if self._running else ''
        for thread in idle:
            thread.join()
        return busy

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._stopping:
                    queue = self._next_queue()
                    if queue is not None:
                        break
                    self._work.wait()
                if self._stopping or queue is None:
                    return
                size, task = queue.tasks.popleft()
                self._running[threading.current_thread()] = queue
            error: BaseException | None = None
            try:
                task()
            except BaseException as raised:  # noqa: BLE001  # handed to the thread that submits
                error = raised
            del task
            with self._lock:
                self._bytes -= size
                self._unfinished -= 1
                self._finished_at = time.monotonic()
                del self._running[threading.current_thread()]
                if error is not None:
                    self._error = self._error or error
                    self._stopping = True
                    self._work.notify_all()
                elif queue.tasks:
                    self._ready.append(queue)
                    self._work.notify()
                else:
                    queue.active = False
                    if queue.closed:
                        self._end(queue)
                # Who submits is woken for many tasks at a time: a switch costs what a row costs.
                if self._stopping or not self._unfinished or self._bytes <= self._max_bytes // 2:
                    self._room.notify_all()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, _: object, error: BaseException | None, traceback: object) -> None:
        interrupted = error is not None and not isinstance(error, Exception)
        busy = self._settle(hurry=interrupted)
        if busy and isinstance(error, Cancelled):
            raise Cancelled(f'{busy} and was not waited for') from None


def call_within(
    stall_timeout_s: float, cancel: threading.Event | None, name: str, task: Callable[[], _Result]
) -> _Result:
    """
    Return what a task returns that may never come back; it then keeps a thread of its own.

    :raises Exception: What the task raised.
    :raises StalledError: It has taken longer than ``stall_timeout_s``; ``name`` is what it is
        about.
    :raises Cancelled: The user asked to stop.
    """
    results: list[_Result] = []
    with WorkerPool(1, 0, 1, stall_timeout_s, cancel, 'single') as pool:
        pool.queue(name).submit(lambda: results.append(task()), 0)
        pool.drain()
    return results[0]
