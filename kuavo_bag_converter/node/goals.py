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

"""Conversions that are asked for while a process runs: a queue, run in a thread of its own."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import replace
import os
import threading
import traceback
from typing import Any, Literal

from kuavo_bag_converter.jobs.convert import check_given, convert_bags
from kuavo_bag_converter.jobs.report import Report
from kuavo_bag_converter.node.progress import log_report, Progress
from kuavo_bag_converter.settings import Settings, updated
from kuavo_bag_converter.support.errors import Cancelled, ConverterError, UsageError
from kuavo_bag_converter.support.places import masked
from kuavo_bag_converter.support.texts import counted, one_line

State = Literal['queued', 'running', 'done', 'failed', 'cancelled']
_LONGEST_QUEUE = 100
_KEPT = 20
"""Goals that are remembered when they have ended."""


class Goal:
    """One conversion that was asked for. The thread of its queue writes, others read."""

    def __init__(self, number: int, settings: Settings, progress: Progress) -> None:
        """Make a goal that is queued."""
        self.number = number
        """From 1 in the order in which they came."""
        self.settings = settings
        self.progress = progress
        self.cancel = threading.Event()
        self.ended = threading.Event()
        self.begins_dataset = False
        """Whether ``append``, which it does not give itself, makes the dataset where none is."""
        self.report: Report | None = None
        """None if the run has not come to its end by itself. Without the plans."""
        self.exit_code = 0
        """That of the command ``convert``."""
        self.problem = ''
        """Why there is no dataset, or it is not where it was to be; one line."""
        self.set_state('queued')

    def set_state(self, state: State) -> None:
        """Set the state, also for those who look at the progress."""
        self.state = state
        self.progress.set_state(state)

    @property
    def dataset(self) -> str:
        """Return the absolute path of the dataset, '' if there is none."""
        path = os.path.abspath(self.report.output) if self.report else ''
        return path if path and os.path.isdir(path) else ''

    def described(self) -> dict[str, Any]:
        """Return what is known of it, as JSON can hold it."""
        about = {
            'goal': self.number,
            'state': self.state,
            'bags': list(self.settings.bags),
            'output': self.settings.output,
        }
        if not self.ended.is_set():
            return {**about, 'progress': self.progress.values()}
        outcomes = self.report.outcomes if self.report else ()
        return {
            **about,
            'exit_code': self.exit_code,
            'problem': self.problem,
            'dataset': self.dataset,
            'episodes': self.report.episodes if self.report else 0,
            'frames': self.report.frames if self.report else 0,
            'outcomes': dict(Counter(item.status for item in outcomes)),
            'failures': [
                {'bag': item.bag, 'status': item.status, 'reason': item.reason}
                for item in (self.report.failures if self.report else ())
            ],
        }


class GoalQueue:
    """
    Runs goals one after the other, in the order in which they came.

    Whatever becomes of one, the next is run; of those that have ended, the last few are known.
    """

    def __init__(self, defaults: Settings, logger: Any, *, waits_when_busy: bool = True) -> None:
        """
        Start a thread that waits for goals.

        :param defaults: Settings of every goal that it does not give itself.
        :param logger: Of rclpy.
        :param waits_when_busy: Whether a goal waits for those before it, or is refused.
        """
        self._defaults = defaults
        self._logger = logger
        self._waits_when_busy = waits_when_busy
        self._waiting: deque[Goal] = deque()
        self._running: Goal | None = None
        self._ended: deque[Goal] = deque(maxlen=_KEPT)
        self._number = 0
        self._closed = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name='goals', daemon=True)
        self._thread.start()

    def refusal(self) -> str:
        """Say why no goal is taken now, '' if one is."""
        with self._change:
            return self._refusal()

    def _refusal(self) -> str:
        ahead = len(self._waiting) + (self._running is not None)
        if self._closed:
            return 'the server is being shut down'
        if ahead and not self._waits_when_busy:
            return f'busy with {self._names()}, and when_busy is reject'
        if len(self._waiting) >= _LONGEST_QUEUE:
            return f'{counted(len(self._waiting), "goal")} are waiting already'
        return ''

    def _names(self) -> str:
        first = self._running or self._waiting[0]
        return f'goal {first.number}'

    def submit(self, given: Mapping[str, object]) -> Goal:
        """
        Queue a conversion.

        :param given: Settings by name.
        :raises UsageError: No goal is taken now, or a setting is missing, unknown or not allowed.
        """
        settings = updated(self._defaults, given, 'goal')
        check_given(settings)
        with self._change:
            refusal = self._refusal()
            if refusal:
                raise UsageError(refusal)
            self._number += 1
            goal = Goal(self._number, settings, Progress(self._logger))
            goal.begins_dataset = 'append' not in given
            self._waiting.append(goal)
            self._change.notify()
        return goal

    def cancel(self, goal: Goal) -> None:
        """Take a goal out of the queue, or let it stop soon; one that has ended stays as it is."""
        with self._change:
            if goal in self._waiting:
                self._waiting.remove(goal)
                goal.exit_code, goal.problem = 1, 'cancelled before it had begun'
                self._end(goal, 'cancelled')
            goal.cancel.set()

    def close(self) -> None:
        """Take no more goals, and cancel those that there are."""
        with self._change:
            self._closed = True
            self._change.notify()
        for goal in self.goals():
            self.cancel(goal)

    @property
    def is_closed(self) -> bool:
        """Whether it was closed and nothing runs any more."""
        return not self._thread.is_alive()

    @property
    def running(self) -> Goal | None:
        """Return the goal that is being run."""
        return self._running

    def goals(self) -> list[Goal]:
        """Return those that are known: the last that have ended, the running, the waiting ones."""
        with self._change:
            running = [] if self._running is None else [self._running]
            return [*self._ended, *running, *self._waiting]

    def ahead_of(self, goal: Goal) -> int:
        """Return how many goals are run before one that has not ended."""
        return sum(
            not other.ended.is_set() for other in self.goals() if other.number < goal.number
        )

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                goal = self._running = self._waiting.popleft()
                goal.set_state('running')
            state = self._convert(goal)
            with self._change:
                self._running = None
                self._end(goal, state)

    def _end(self, goal: Goal, state: State) -> None:
        goal.set_state(state)
        self._ended.append(goal)
        goal.ended.set()
        text = one_line(f'goal {goal.number}: {goal.problem or state}')
        # A logger of rclpy does not take two severities from one line of code.
        if goal.exit_code:
            self._logger.error(text)
        else:
            self._logger.info(text)

    def _convert(self, goal: Goal) -> State:
        settings = goal.settings
        if goal.begins_dataset and not os.path.exists(settings.output):
            settings = replace(settings, append=False)
        bags = ' '.join(settings.bags)
        self._logger.info(one_line(masked(f'goal {goal.number}: {bags} to {settings.output}')))
        try:
            report = convert_bags(settings, observer=goal.progress, cancel=goal.cancel)
            log_report(report, self._logger)
        except Cancelled as error:
            goal.exit_code, goal.problem = 1, str(error)
            return 'cancelled'
        except ConverterError as error:
            goal.exit_code = 2 if isinstance(error, UsageError) else 1
            goal.problem = str(error)
            return 'failed'
        except Exception as error:  # noqa: BLE001  # a defect that one bag shows ends no server
            self._logger.error(traceback.format_exc())
            goal.exit_code = 1
            goal.problem = one_line(
                f'unexpected {type(error).__name__}: {error}; please report this'
            )
            return 'failed'
        goal.report = report
        goal.exit_code, goal.problem = report.exit_code, report.problem
        return 'failed' if report.exit_code else 'done'
