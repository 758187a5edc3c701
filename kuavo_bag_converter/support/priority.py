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

"""How much a run may disturb what else the machine does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
import os

PRIORITIES = ('low', 'idle', 'normal')


def set_priority(priority: str) -> None:
    """
    Set the priority of this thread and of those that it starts from now on.

    Linux takes that of the disk from it, too: lowest of the usual ones, or idle.

    :param priority: ``low`` (nice 19), ``idle`` (runs where nothing else wants to), ``normal``.
    """
    if priority == 'normal':
        return
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    if priority == 'idle':
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    elif os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@contextmanager
def without_real_time() -> Iterator[None]:
    """
    Give back the scheduling of this thread to those of the process that became real-time ones.

    libsvtav1 makes the thread that opens it and all its own real-time ones if it is root's: they
    would take the machine from a recorder, whatever the priority of the run.
    """
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    before = _real_time_threads()
    try:
        yield
    finally:
        for thread in _real_time_threads() - before:
            with suppress(ProcessLookupError):
                os.sched_setscheduler(thread, policy, parameter)


def _real_time_threads() -> set[int]:
    found = set()
    for thread in map(int, os.listdir('/proc/self/task')):
        with suppress(ProcessLookupError):
            if os.sched_getscheduler(thread) == os.SCHED_FIFO:
                found.add(thread)
    return found
