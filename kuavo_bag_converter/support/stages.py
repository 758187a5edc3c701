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
CPU time by stage of a conversion, for those who ask for it.

Nothing is measured until :func:`record` is called; a stage then costs two calls of
:func:`time.thread_time`. A stage inside another one counts for itself alone, so that the stages
add up. What codecs do on threads of their own belongs to no stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
import threading
import time
from typing import ParamSpec, TypeVar

_Item = TypeVar('_Item')
_P = ParamSpec('_P')
_OFF = nullcontext()


class StageTimes:
    """CPU seconds of every stage, all threads together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}
        self._threads = threading.local()

    def seconds(self) -> dict[str, float]:
        """Return the seconds that each stage has taken so far, by its name."""
        with self._lock:
            return dict(self._seconds)

    def enter(self, stage: str) -> None:
        """Count the calling thread's time for a stage from now on."""
        self._charge()
        self._threads.stack.append(stage)

    def leave(self) -> None:
        """Go back to the stage before."""
        self._charge()
        self._threads.stack.pop()

    def _charge(self) -> None:
        mine = self._threads
        now = time.thread_time()
        if not hasattr(mine, 'stack'):
            mine.stack = []
        elif mine.stack:
            with self._lock:
                stage = mine.stack[-1]
                self._seconds[stage] = self._seconds.get(stage, 0.0) + now - mine.since
        mine.since = now


class _Stage(AbstractContextManager[None]):
    """Adds the time of its block to a stage."""

    def __init__(self, times: StageTimes, name: str) -> None:
        self._times = times
        self._name = name

    def __enter__(self) -> None:
        self._times.enter(self._name)

    def __exit__(self, *_: object) -> None:
        self._times.leave()


_times: StageTimes | None = None


def record() -> StageTimes:
    """Measure from now on, in this process; return where the times are collected."""
    global _times
    _times = StageTimes()
    return _times


def stage(name: str) -> AbstractContextManager[None]:
    """Count what happens inside for a stage."""
    return _OFF if _times is None else _Stage(_times, name)


def staged(name: str) -> Callable[[Callable[_P, _Item]], Callable[_P, _Item]]:
    """Count every call of a function for a stage."""

    def decorated(function: Callable[_P, _Item]) -> Callable[_P, _Item]:
        @wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _Item:
            with stage(name):
                return function(*args, **kwargs)

        return call

    return decorated


def stage_of_each(name: str, items: Iterable[_Item]) -> Iterator[_Item]:
    """Yield the items, counting the time that each takes to come for a stage."""
    iterator = iter(items)
    if _times is None:
        return iterator
    return _timed(_times, name, iterator)


def _timed(times: StageTimes, name: str, iterator: Iterator[_Item]) -> Iterator[_Item]:
    while True:
        with _Stage(times, name):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item
