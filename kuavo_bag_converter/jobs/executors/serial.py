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

"""One task after the other, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
import threading
from typing import Any

from kuavo_bag_converter.jobs.executors.model import Begin, Context, OnEvent, Task, Work
from kuavo_bag_converter.support.errors import Cancelled
from kuavo_bag_converter.support.process import peak_memory_mb


class SerialExecutor:
    """Runs tasks in the order of the inputs, each when the result before it was taken."""

    jobs = 1

    def __init__(self, threads: int, memory_limit_mb: int, cancel: threading.Event) -> None:
        """Let each task use all that is given; ``cancel`` is set to stop."""
        self._threads = threads
        self._memory_limit_mb = memory_limit_mb
        self._cancel = cancel

    @property
    def peak_memory_mb(self) -> float:
        """Return that of this process."""
        return peak_memory_mb()

    def map(  # noqa: A003
        self,
        work: Work,
        tasks: Sequence[Task],
        begin: Begin,
        on_event: OnEvent,
        *,
        in_order: bool = False,  # noqa: ARG002  # it always is
    ) -> Iterator[tuple[int, Any]]:
        """See :class:`.Executor`."""
        for task in tasks:
            if self._cancel.is_set():
                raise Cancelled
            given = begin(task.number)
            if given is None:
                continue
            tell = partial(on_event, task.number)
            context = Context(self._threads, self._memory_limit_mb, self._cancel, tell)
            yield task.number, work(given, context)

    def check_reach(self, folder: Path, inputs: Sequence[Path]) -> None:
        """All is of this process."""

    def close(self) -> None:
        """Nothing is left running."""
