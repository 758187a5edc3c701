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

"""A node that converts what it is asked for, by services and by an action."""

from __future__ import annotations

from dataclasses import dataclass
import json
import threading
import time
import traceback

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from kuavo_bag_converter.node.goals import GoalQueue
from kuavo_bag_converter.node.progress import Progress
from kuavo_bag_converter.node.settings_node import run_node, SettingsNode, SPIN_S, values_in
from kuavo_bag_converter.settings import setting
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.process import one_thread_each
from kuavo_bag_converter.support.texts import listed, visible
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.executors import MultiThreadedExecutor
from std_srvs.srv import Trigger

SERVER_NAME = 'convert_server'
_INTERFACES = 'kuavo_bag_converter_interfaces'
_THREADS = 3
"""One waits for the goal that is run, and answers when it has ended; the others serve."""
_LAST_RESULTS_S = 0.3
"""How long the last results may take to be sent."""


@dataclass(frozen=True)
class ServerOptions:
    """Parameters of the server that are no settings."""

    when_busy: str = setting(
        'queue',
        'A goal that comes while another one is run: queue or reject.',
        choices=('queue', 'reject'),
    )


class ConvertServer(SettingsNode):
    """
    Takes goals by ``~/submit``, and by the action ``~/convert`` where its type is built.

    The parameters are the settings of a goal that does not give them itself.
    """

    def __init__(self) -> None:
        """
        Take goals as soon as the node is spun.

        :raises UsageError: A parameter is unknown or its value is not allowed, or the interface
            package is broken.
        """
        super().__init__(SERVER_NAME, ServerOptions)
        self._idle = Progress(self.get_logger())
        self._idle.set_state('idle')
        waits = self.options.when_busy == 'queue'
        self.queue = GoalQueue(self.settings, self.get_logger(), waits_when_busy=waits)
        self.create_service(SetParametersAtomically, '~/submit', self._on_submit)
        self.create_service(Trigger, '~/status', self._on_status)
        self.create_service(Trigger, '~/cancel', self._on_cancel)
        self.create_service(SetParametersAtomically, '~/cancel_goal', self._on_cancel_goal)
        try:
            from kuavo_bag_converter.node.convert_action import ConvertAction
        except ModuleNotFoundError as error:
            if (error.name or '').partition('.')[0] != _INTERFACES:
                raise
            self._action = None
            self.get_logger().info(f'no action ~/convert: {_INTERFACES} is not built')
        else:
            self._action = ConvertAction(self, self.queue)

    @property
    def has_ended(self) -> bool:
        """Whether the queue was closed, and all has been answered."""
        return self.queue.is_closed and (self._action is None or self._action.is_idle)

    def status(self) -> DiagnosticStatus:
        """Return how the goal goes on that is run, or how the last one has ended."""
        goals = self.queue.goals()
        begun = [goal for goal in goals if goal.state != 'queued']
        progress = begun[-1].progress if begun else self._idle
        status = progress.status(self.get_fully_qualified_name())
        about = {
            'goal': begun[-1].number if begun else '',
            'goals_queued': len(goals) - len(begun),
        }
        status.values += [KeyValue(key=key, value=str(value)) for key, value in about.items()]
        return status

    def destroy_node(self) -> None:
        """Destroy what the node has made."""
        if self._action is not None:
            self._action.destroy()
        super().destroy_node()

    def _on_submit(
        self,
        request: SetParametersAtomically.Request,
        response: SetParametersAtomically.Response,
    ) -> SetParametersAtomically.Response:
        try:
            goal = self.queue.submit(values_in(request.parameters, 'goal'))
        except UsageError as error:
            response.result.reason = visible(str(error))
            self.get_logger().warning(f'~/submit: {response.result.reason}')
        else:
            response.result.successful = True
            response.result.reason = f'goal {goal.number}'
        return response

    def _on_status(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = True
        response.message = json.dumps([goal.described() for goal in self.queue.goals()])
        return response

    def _on_cancel(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        goal = self.queue.running
        if goal is None:
            response.message = 'no goal is being run'
        else:
            self.queue.cancel(goal)
            response.success = True
            response.message = (
                f'stopping goal {goal.number}; finished bags are kept for the next run'
            )
        return response

    def _on_cancel_goal(
        self,
        request: SetParametersAtomically.Request,
        response: SetParametersAtomically.Response,
    ) -> SetParametersAtomically.Response:
        goals = {goal.number: goal for goal in self.queue.goals() if not goal.ended.is_set()}
        try:
            given = values_in(request.parameters, '~/cancel_goal')
            number = given.pop('goal', None)
            if given or not isinstance(number, int) or number not in goals:
                numbers = listed(map(str, goals)) or 'none'
                raise UsageError(
                    f'expected the parameter goal, one of those that have not ended: {numbers}'
                )
        except UsageError as error:
            response.result.reason = visible(str(error))
        else:
            self.queue.cancel(goals[number])
            response.result.successful = True
            response.result.reason = f'goal {number}'
        return response


def run(cancel: threading.Event) -> int:
    """Run the server until ``cancel`` is set; return the exit code."""
    return run_node(SERVER_NAME, _run, cancel)


def _run(cancel: threading.Event) -> int:
    node = ConvertServer()
    executor = MultiThreadedExecutor(num_threads=_THREADS)
    executor.add_node(node)

    def serve() -> None:
        try:
            executor.spin_once(timeout_sec=SPIN_S)
        except Exception:  # noqa: BLE001  # a client that is gone, or one odd request
            node.get_logger().error(f'a request was not answered: {traceback.format_exc()}')

    with one_thread_each():
        try:
            while not cancel.is_set():
                serve()
        finally:
            node.queue.close()
        while not node.has_ended:
            serve()
    end = time.monotonic() + _LAST_RESULTS_S
    while time.monotonic() < end:
        serve()
    node.publish_last_status()
    time.sleep(SPIN_S)  # callbacks that were begun need the executor, which does not wait for them
    executor.shutdown()
    node.destroy_node()
    return 0
