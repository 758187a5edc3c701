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

"""The action ``~/convert``, a face of the queue of goals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
import time
from typing import Any

from kuavo_bag_converter.jobs.report import Outcome
from kuavo_bag_converter.node.goals import Goal, GoalQueue
from kuavo_bag_converter.node.settings_node import SettingsNode
from kuavo_bag_converter.settings import parse_value
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.texts import visible
from kuavo_bag_converter_interfaces.action import Convert
from kuavo_bag_converter_interfaces.msg import BagOutcome
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle

_LOOK_S = 0.1
"""How often goals are looked at."""
_FEEDBACK_S = 1.0
_RESULT_KEPT_S = 900
"""How long a client may ask for a result when the goal has ended."""
_FIELDS = ('bags', 'output', 'profile', 'tasks')
"""Settings that the type of the goal has a field for."""


@dataclass
class _Asked:
    """A goal that a client of the action waits for."""

    handle: ServerGoalHandle
    goal: Goal
    answers: bool = False
    """Whether the callback runs that answers when the goal has ended."""
    feedback_at: float = 0.0


class ConvertAction:
    """
    Offers the action on a node, whose executor must have two threads at least.

    All but the answer to a client happens in the node's own callback group, one call after the
    other, so that no goal is cancelled while it begins.
    """

    def __init__(self, node: SettingsNode, queue: GoalQueue) -> None:
        """
        Offer it.

        :raises UsageError: The interface package cannot be used.
        """
        self._logger = node.get_logger()
        self._queue = queue
        self._asked: list[_Asked] = []
        try:
            self._server = ActionServer(
                node,
                Convert,
                '~/convert',
                self._abort,
                goal_callback=self._on_goal,
                handle_accepted_callback=self._on_accepted,
                cancel_callback=lambda _: CancelResponse.ACCEPT,
                result_timeout=_RESULT_KEPT_S,
            )
        except Exception as error:
            raise UsageError(
                f'kuavo_bag_converter_interfaces: cannot be used: {error}; build it again'
            ) from error
        node.create_timer(_LOOK_S, self._look, clock=node.steady_clock)

    @property
    def is_idle(self) -> bool:
        """Whether no client waits."""
        return not self._asked

    def destroy(self) -> None:
        """Destroy the server of the action."""
        self._server.destroy()

    def _on_goal(self, _: Convert.Goal) -> GoalResponse:
        refusal = self._queue.refusal()
        if refusal:
            self._logger.warning(f'~/convert: {refusal}')
        return GoalResponse.REJECT if refusal else GoalResponse.ACCEPT

    def _on_accepted(self, handle: ServerGoalHandle) -> None:
        # A goal that is wrong is no rejected one: a rejection cannot say why.
        try:
            goal = self._queue.submit(_values_in(handle.request))
        except UsageError as error:
            self._logger.warning(f'~/convert: {error}')
            handle.execute(partial(self._abort, problem=str(error)))
        else:
            self._asked.append(_Asked(handle, goal))

    def _look(self) -> None:
        for asked in list(self._asked):
            handle, goal = asked.handle, asked.goal
            if handle.is_cancel_requested:
                self._queue.cancel(goal)
            ended = goal.ended.is_set()
            if not asked.answers and goal.state != 'queued':
                asked.answers = True
                handle.execute(partial(self._answer, goal=goal))
            if ended:
                self._asked.remove(asked)
            elif time.monotonic() >= asked.feedback_at:
                asked.feedback_at = time.monotonic() + _FEEDBACK_S
                handle.publish_feedback(self._feedback(goal))

    def _feedback(self, goal: Goal) -> Convert.Feedback:
        values = _texts_visible(goal.progress.values())
        return Convert.Feedback(**values, goals_ahead=self._queue.ahead_of(goal))

    def _answer(self, handle: ServerGoalHandle, goal: Goal) -> Convert.Result:
        goal.ended.wait()
        if goal.report is not None:
            handle.succeed()
        elif goal.state == 'cancelled' and handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.abort()
        return _result(goal)

    def _abort(self, handle: ServerGoalHandle, problem: str = '') -> Convert.Result:
        handle.abort()
        return Convert.Result(exit_code=2, problem=visible(problem))


def _values_in(request: Convert.Goal) -> dict[str, object]:
    given = {name: getattr(request, name) for name in _FIELDS}
    values: dict[str, object] = {
        name: value if isinstance(value, str) else list(value)
        for name, value in given.items()
        if value
    }
    for item in request.settings:
        if item.key in values:
            raise UsageError(f'goal: {item.key}: given twice')
        values[item.key] = parse_value(item.value, f'goal: {item.key}')
    return values


def _result(goal: Goal) -> Convert.Result:
    result = Convert.Result(
        exit_code=goal.exit_code, problem=visible(goal.problem), dataset=visible(goal.dataset)
    )
    report = goal.report
    if report is not None:
        result.episodes, result.frames = report.episodes, report.frames
        result.seconds = report.seconds
        result.peak_memory_mb = round(report.peak_memory_mb)
        result.outcomes = [_outcome(item) for item in report.outcomes]
    return result


def _outcome(outcome: Outcome) -> BagOutcome:
    return BagOutcome(
        bag=visible(outcome.bag),
        status=outcome.status,
        reason=visible(outcome.reason),
        episodes=outcome.episodes,
        frames=outcome.frames,
        task=visible(outcome.task),
        problems=list(map(visible, outcome.problems)),
    )


def _texts_visible(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: visible(value) if isinstance(value, str) else value for name, value in values.items()
    }
