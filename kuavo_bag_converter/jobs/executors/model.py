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

"""What every executor does: tasks in, what became of each out, as they finish."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
import pickle
import threading
from typing import Any, NamedTuple, Protocol

from kuavo_bag_converter.support.errors import UsageError

PROGRESS = 'progressed'
"""The event of which some may be left out, since the next one tells more."""
RETRIED = 'retried'
"""The event that a task is done once more; its argument says in a few words why."""


class Task(NamedTuple):
    """What is to be done once."""

    number: int
    """From 1, in the order of the inputs."""
    bytes: int  # noqa: A003
    """Size of its input; the largest are begun first where several run beside each other."""
    kind: str = ''
    """Tasks of one kind need about the same memory; '' if nothing is known."""


def longest_first(tasks: Sequence[Task]) -> list[Task]:
    """
    Return tasks in the order in which they are begun beside each other: the largest first.

    Of sizes within a power of two the inputs' order counts: what is made of the first ones can be
    put together while the others run.
    """
    return sorted(tasks, key=lambda task: -task.bytes.bit_length())


class Died(NamedTuple):
    """The result of a task whose process has ended before it was done, twice."""

    reason: str


class RemoteError(Exception):
    """The traceback of an error in another process, as the cause of the error here."""

    def __str__(self) -> str:
        return f'where it was raised:\n{self.args[0]}'


@dataclass(frozen=True)
class Context:
    """
    What a running task may use, and how it tells what happens.

    :ivar threads: It may keep so many cores busy.
    :ivar memory_limit_mb: Resident set that its process may have, MB; 0 is no limit.
    :ivar cancel: Set when it is to stop.
    :ivar tell: Called with the name of an event and its arguments, which can be pickled.
    :ivar shares_memory: Whether the limit is only a part of what the run may use. The task raises
        :class:`.MemoryLimitError` where that does not suffice, and is done again with more.
    """

    threads: int
    memory_limit_mb: int
    cancel: threading.Event
    tell: Callable[..., None]
    shares_memory: bool = False


Work = Callable[[Any, Context], Any]
"""Does a task, of which it gets the input; both it and its result can be pickled."""
Begin = Callable[[int], Any]
"""Returns the input of a task, by number, when its turn has come; None to leave it out."""
OnEvent = Callable[..., None]
"""Called with the number of a task, the name of an event and its arguments."""


def pickled(work: Work) -> bytes:
    """
    Return what is done as another process can have it.

    :raises UsageError: It is made of something that only this process knows.
    """
    try:
        return pickle.dumps(work)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            f'executor: the settings cannot be sent to other processes ({error}); set executor: '
            'local and jobs: 1'
        ) from error


def picklable(error: Exception) -> Exception:
    """Return an error as another process can have it."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # made in the line itself
    except Exception:  # noqa: BLE001  # of any class
        return RuntimeError(f'{type(error).__name__}: {error}')
    return error


class Executor(Protocol):
    """Runs tasks; which one, and in which order they finish, must not show in their results."""

    @property
    def jobs(self) -> int:
        """How many it runs beside each other, at most."""

    @property
    def peak_memory_mb(self) -> float:
        """Largest resident set of its processes together, MB; they are looked at now and then."""

    def map(  # noqa: A003
        self,
        work: Work,
        tasks: Sequence[Task],
        begin: Begin,
        on_event: OnEvent,
        *,
        in_order: bool = False,
    ) -> Iterator[tuple[int, Any]]:
        """
        Yield the number and the result of each task when it is done.

        :param work: What is done.
        :param tasks: In the order of the inputs.
        :param begin: Gives the input of a task; called in the thread of the caller.
        :param on_event: Told what tasks tell; likewise.
        :param in_order: Begin the tasks in their order, in place of the largest first.
        :raises Exception: What a task raised.
        :raises Cancelled: The user asked to stop.
        """

    def check_reach(self, folder: Path, inputs: Sequence[Path]) -> None:
        """
        Check that tasks see what they need wherever they run, and give the same results there.

        :param folder: Where they write.
        :param inputs: What they read.
        :raises UsageError: They do not.
        """

    def close(self) -> None:
        """Stop what is running, within two seconds."""
