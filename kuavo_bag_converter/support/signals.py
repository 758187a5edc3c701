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

"""What Ctrl-C and SIGTERM do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import signal
import sys
import threading

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the process as an exception does, so that temporary files go with it."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
