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
A process that does one task after the other for :class:`.LocalExecutor`.

It is started by path, not as a copy of the main module: a script, a node or a test that converts
is not run again in it, and it has none of their state.
"""

from __future__ import annotations

from functools import partial
from multiprocessing.connection import Connection
import os
import pickle
import queue
import signal
import threading
import time
import traceback
from typing import Any

from kuavo_bag_converter.jobs.executors.model import Context, picklable, PROGRESS, Work
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.process import MB, one_thread_each, PeakMemory, set_defaults

_PROGRESS_S = 0.2
"""Time from one report of progress to the next."""
START = (
    'import json, sys; sys.path[:] = json.loads(sys.argv[2]); '
    'from kuavo_bag_converter.jobs.executors.worker import main; main(int(sys.argv[1]))'
)
"""The program of a worker; its arguments are a descriptor and the search path of modules."""


def main(descriptor: int) -> None:
    """Serve the process at the other end of a socket until that closes it or ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # who has started it ends it
    set_defaults()
    _Worker(Connection(descriptor)).run()


class _Worker:
    """Does what the main process sends it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._cancel = threading.Event()
        self._sent_at = 0.0

    def run(self) -> None:
        threading.Thread(target=self._receive, daemon=True).start()
        work: Work | None = None
        with one_thread_each():
            self._send('ready')
            while True:
                kind, *rest = pickle.loads(self._inbox.get())  # noqa: S301  # by our own parent
                if kind == 'work':
                    work = _loaded(*rest)
                else:
                    assert work is not None  # it comes before the first task
                    self._do(work, *rest)

    def _receive(self) -> None:
        """Take messages while a task runs, and end with the process that sends them."""
        try:
            while True:
                message = self._connection.recv_bytes()
                if message:
                    self._inbox.put(message)
                else:
                    self._cancel.set()
        except (EOFError, OSError):
            os._exit(0)

    def _do(
        self, work: Work, number: int, given: Any, threads: int, limit_mb: int, shares: bool
    ) -> None:
        peak = PeakMemory()
        context = Context(threads, limit_mb, self._cancel, partial(self._tell, number), shares)
        try:
            result = work(given, context)
        except Exception as error:  # noqa: BLE001  # raised by who gave the task
            self._send('raised', number, picklable(error), traceback.format_exc())
            return
        self._send('done', number, result, peak.bytes() / MB)

    def _tell(self, number: int, event: str, *arguments: Any) -> None:
        now = time.monotonic()
        if event == PROGRESS and now - self._sent_at < _PROGRESS_S:
            return
        self._sent_at = now
        self._send('event', number, event, *arguments)

    def _send(self, *message: Any) -> None:
        try:
            self._connection.send_bytes(pickle.dumps(message))
        except OSError:
            os._exit(1)


def _loaded(work: bytes) -> Work:
    """Return what is done, or what says with the first task why it cannot be."""
    try:
        done: Work = pickle.loads(work)  # noqa: S301  # by our own parent
    except Exception as error:  # noqa: BLE001  # of any class
        text = f'{type(error).__name__}: {error}'

        def refuse(*_: Any) -> None:
            raise UsageError(
                f'executor: the settings cannot be used in other processes ({text}); set '
                'executor: local and jobs: 1'
            )

        return refuse
    return done
