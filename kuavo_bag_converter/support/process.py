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
The process: what a command or a node sets for it, its memory, what Ctrl-C and SIGTERM do.

What a script imports sets nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
import ctypes
import os
from pathlib import Path
import resource
import signal
import sys
import threading

_DEFAULTS = {
    # Threads that only cost memory and start-up time here.
    'OPENBLAS_NUM_THREADS': '1',
    # pyarrow's own allocator keeps 15 MB that nothing else can use.
    'ARROW_DEFAULT_MEMORY_POOL': 'system',
    # SVT-AV1 prints a page for every video; errors are printed still.
    'SVT_LOG': '1',
}
MB = 1 << 20
_PAGE = os.sysconf('SC_PAGE_SIZE')
_trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
"""Of the GNU C library, malloc_trim(3); others give back by themselves or not at all."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def set_defaults() -> None:
    """
    Set what libraries read when they are imported, where the user has not set it.

    Call it before numpy and pyarrow are imported.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


@contextmanager
def packages_needed() -> Iterator[None]:
    """Make one line of a package that is not installed, and end the process with exit code 2."""
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or '').partition('.')[0]
        if name == __name__.partition('.')[0]:
            raise
        advice = (
            'source the setup file of a ROS 2 that has it'
            if name == 'rclpy' or name.endswith(('_msgs', '_srvs', '_interfaces'))
            else 'pip install what requirements.txt lists'
        )
        line = f'error: the Python package {name} is needed and not installed; {advice}'
        print(line, file=sys.stderr)  # noqa: T201
        sys.exit(2)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keep BLAS and OpenCV from starting threads of their own beside the workers."""
    import cv2
    from threadpoolctl import threadpool_limits

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(limits=1):  # type: ignore[no-untyped-call]
            yield
    finally:
        cv2.setNumThreads(before)


def release_memory() -> None:
    """
    Return what has been freed to the system; takes less than a millisecond.

    Small allocations that live on keep malloc from doing so itself after a phase that needed
    large ones.
    """
    if _trim is not None:
        _trim(0)


def resident_bytes(process: int | str = 'self') -> int:
    """Return the resident set of a process, by its id; 0 if it has ended."""
    try:
        with open(f'/proc/{process}/statm', encoding='ascii') as file:
            return int(file.read().split()[1]) * _PAGE
    except (FileNotFoundError, ProcessLookupError):
        return 0


def kernel_bytes(file: str, name: str) -> int:
    """Return an entry in kB of a file of ``/proc`` in bytes; 0 if it is not there."""
    text = Path('/proc', file).read_text(encoding='ascii', errors='replace')
    for line in text.splitlines():
        if line.startswith(f'{name}:'):
            return int(line.split()[1]) << 10
    return 0


def peak_memory_mb() -> float:
    """Return the largest resident set so far, MB (2**20 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class PeakMemory:
    """The largest resident set of this process from now on."""

    def __init__(self) -> None:
        with suppress(OSError):  # then it is that since the process began
            Path('/proc/self/clear_refs').write_text('5', encoding='ascii')

    def bytes(self) -> int:  # noqa: A003
        """Return it."""
        return kernel_bytes('self/status', 'VmHWM') or resident_bytes()


@contextmanager
def cancel_on_signals() -> Iterator[threading.Event]:
    """Set an event on the first Ctrl-C or SIGTERM; the next one of either ends the process."""
    cancel = threading.Event()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def stop(*_: object) -> None:
        cancel.set()
        for number in _SIGNALS:
            # At once, also where the main thread waits for something that does not end.
            signal.signal(number, signal.SIG_DFL)

    for number in _SIGNALS:
        signal.signal(number, stop)
    try:
        yield cancel
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def set_signals(action: signal.Handlers) -> None:
    """Let Ctrl-C and SIGTERM be ignored, or end the process; in the main thread only."""
    for number in _SIGNALS:
        signal.signal(number, action)


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the process as an exception does, so that temporary files go with it."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
