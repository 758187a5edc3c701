"""A pool of threads that keeps each camera's pictures in order and bounds what waits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from kuavo_bag_converter.errors import StalledError

Task = Callable[[], None]


class Strand:
    """A queue whose tasks run one after the other, in the order in which they came."""

    def __init__(self, pool: WorkerPool, name: str) -> None:
        self._pool = pool
        self.name = name
        self.tasks: deque[tuple[int, Task]] = deque()
        self.active = False

    def submit(self, task: Task, size: int) -> None:
        """Queue a task that holds ``size`` bytes; wait while too much is queued.

        Raises:
            Exception: What a task of the pool raised before.
            StalledError: No task is finished any more.

        """
        self._pool.submit(self, task, size)


class WorkerPool:
    """Threads that run the tasks of strands.

    A strand runs on one thread at a time, so a stateful encoder needs no lock; strands run beside
    each other, so a slow camera does not hold up the others. Nothing is ever dropped: who submits
    waits instead.
    """

    def __init__(
        self, threads: int, max_bytes: int, max_tasks: int, stall_timeout_s: float
    ) -> None:
        """Start ``threads`` threads.

        Args:
            threads: At least 1.
            max_bytes: Bytes that may wait in all queues together (one task always may).
            max_tasks: Tasks that may wait in one strand.
            stall_timeout_s: How long to wait while no task at all is finished.

        """
        self._max_bytes = max_bytes
        self._max_tasks = max_tasks
        self._stall_timeout_s = stall_timeout_s
        self._finished_at = time.monotonic()
        self._running: set[Strand] = set()
        self._stalled = False
        self._bytes = 0
        self._unfinished = 0
        self._ready: deque[Strand] = deque()
        self._error: BaseException | None = None
        self._stopping = False
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._threads = [
            threading.Thread(target=self._run, name=f'worker-{i}', daemon=True)
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def strand(self, name: str) -> Strand:
        """Return a new, empty strand; ``name`` is for errors."""
        return Strand(self, name)

    def submit(self, strand: Strand, task: Task, size: int) -> None:
        """Queue a task on a strand; see :meth:`Strand.submit`."""
        with self._lock:
            while self._error is None and (
                (self._bytes and self._bytes + size > self._max_bytes)
                or len(strand.tasks) >= self._max_tasks
            ):
                self._wait_for_room()
            if self._error is not None:
                raise self._error
            strand.tasks.append((size, task))
            self._bytes += size
            self._unfinished += 1
            if not strand.active:
                strand.active = True
                if self._unfinished == 1:
                    self._finished_at = time.monotonic()
                self._ready.append(strand)
                self._work.notify()

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the tasks that have not run."""
        with self._lock:
            return self._bytes

    def drain(self) -> None:
        """Wait until every task has run.

        Raises:
            Exception: What a task raised; the tasks behind it have not run then.
            StalledError: No task is finished any more.

        """
        with self._lock:
            while self._unfinished and self._error is None:
                self._wait_for_room()
            if self._error is not None:
                raise self._error

    def close(self) -> None:
        """Stop the threads after the tasks that are running; what is queued is forgotten."""
        with self._lock:
            self._stopping = True
            self._work.notify_all()
        for thread in self._threads:
            # One that is stuck in a codec cannot be stopped; it ends with the process.
            thread.join(0.1 if self._stalled else None)

    def _wait_for_room(self) -> None:
        if self._room.wait(timeout=min(self._stall_timeout_s, 1.0)):
            return
        silent = time.monotonic() - self._finished_at
        if silent > self._stall_timeout_s:
            self._stalled = True
            names = ', '.join(sorted(strand.name for strand in self._running))
            raise StalledError(
                f'{names}: a picture has kept its decoder or encoder busy for {silent:.0f} s; '
                'look at the topic with inspect, or set stall_timeout_s higher'
            )

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._ready and not self._stopping:
                    self._work.wait()
                if self._stopping:
                    return
                strand = self._ready.popleft()
                size, task = strand.tasks.popleft()
                self._running.add(strand)
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
                self._running.discard(strand)
                if error is not None:
                    self._error = self._error or error
                    self._stopping = True
                    self._work.notify_all()
                elif strand.tasks:
                    self._ready.append(strand)
                    self._work.notify()
                else:
                    strand.active = False
                # Who submits is woken for many tasks at a time: each switch costs what a row costs.
                if self._error or not self._unfinished or self._bytes <= self._max_bytes // 2:
                    self._room.notify_all()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
