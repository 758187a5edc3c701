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

"""The node of one conversion: parameters, diagnostics and the cancel service."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
import io
import socket
import sys
import threading
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from kuavo_bag_converter.alignment.report import PlanReport
from kuavo_bag_converter.jobs.report import Outcome, Report
from kuavo_bag_converter.report.display import Display, print_report
from kuavo_bag_converter.settings import (
    known_settings,
    NODE_NAME,
    RESERVED,
    SettingInfo,
    settings_from,
    values_of,
)
from kuavo_bag_converter.support.environment import one_thread_each
from kuavo_bag_converter.support.errors import Cancelled, ConverterError, UsageError
from kuavo_bag_converter.support.memory import peak_memory_mb
from kuavo_bag_converter.support.texts import visible
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from std_srvs.srv import Trigger

_USAGE = 'takes ROS parameters only, as in: --ros-args -p bags:="[run1.bag]" -p output:=dataset'
_TYPES = {
    'bool': Parameter.Type.BOOL,
    'int': Parameter.Type.INTEGER,
    'float': Parameter.Type.DOUBLE,
    'str': Parameter.Type.STRING,
    'int list': Parameter.Type.INTEGER_ARRAY,
    'str list': Parameter.Type.STRING_ARRAY,
}
_FAILED = ('failed', 'cancelled')
_LARGEST_INTEGER = 2**63 - 1
_PERIOD_S = 1.0
_SPIN_S = 0.1
"""Longest time for which a signal waits to be noticed."""
_DISCOVERY_S = 4.0
"""How long it may take from the start until nodes know of each other."""
_LAST_WORD_S = 2.0
"""How long the final status waits to be received."""


class _LogStream(io.StringIO):
    """A text stream whose lines are log messages."""

    def __init__(self, log: Callable[[str], object]) -> None:
        super().__init__()
        self._log = log
        self._line = ''

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split('\n')
        for line in filter(None, lines):
            self._log(line)
        return len(text)


class Progress(Display):
    """
    Logs what the command prints, and keeps what the diagnostics tell.

    The conversion's thread writes, the node's thread reads.
    """

    def __init__(self, logger: Any) -> None:
        """Write to an rclpy logger."""
        super().__init__(_LogStream(logger.info))
        self._logger = logger
        self._bag_started = time.monotonic()
        self._values: dict[str, object] = {'state': 'starting', 'bag': ''}
        self._numbers = dict.fromkeys(
            ('bags_done', 'bags_failed', 'bags_total', 'frames_done', 'frames_total', 'warnings'),
            0,
        )

    def bag_started(self, number: int, total: int, bag: str) -> None:
        """Name the bag."""
        super().bag_started(number, total, bag)
        self._bag_started = time.monotonic()
        self._values = {'state': 'reading timestamps', 'bag': bag}
        self._numbers |= {'bags_total': total, 'frames_done': 0, 'frames_total': 0}

    def bag_refused(self, number: int, total: int, outcome: Outcome) -> None:
        """Log why a bag is not going to be converted, as an error."""
        self._numbers['bags_total'] = total
        self._failed(outcome, f'[{number}/{total}] ')

    def planned(self, plan: PlanReport) -> None:
        """Log the plan."""
        super().planned(plan)
        self._values['state'] = 'converting'
        self._numbers['frames_total'] = plan.frames

    def progressed(self, done: int, total: int) -> None:
        """Log a line now and then."""
        super().progressed(done, total)
        self._numbers |= {'frames_done': done, 'frames_total': total}

    def _remark(self, text: str) -> None:
        self._numbers['warnings'] += 1
        label = f'{self._label}: ' if self._label else ''
        self._logger.warning(visible(f'{label}{text.strip()}'))

    def bag_finished(self, outcome: Outcome) -> None:
        """Log what became of the bag, as an error where it is not in the dataset."""
        if outcome.status in ('failed', 'skipped'):
            self._failed(outcome)
        else:
            self._numbers['bags_done'] += 1
            super().bag_finished(outcome)

    def assembling(self, episodes: int) -> None:
        """Log that the dataset is being put together."""
        super().assembling(episodes)
        self.ended('assembling')

    def _failed(self, outcome: Outcome, place: str = '') -> None:
        self._numbers['bags_done'] += 1
        self._numbers['bags_failed'] += 1
        text = f'{place}{outcome.bag}: {outcome.status}: {outcome.reason}'
        self._logger.error(visible(text))

    def ended(self, state: str) -> None:
        """Set the state in which no bag is being converted."""
        self._values = {'state': state, 'bag': ''}

    def status(self, name: str) -> DiagnosticStatus:
        """Return the state of the node of that name as ROS diagnostics."""
        numbers, values = dict(self._numbers), dict(self._values)
        elapsed = max(time.monotonic() - self._bag_started, 1e-9)
        values |= numbers
        values['frames_per_second'] = f'{numbers["frames_done"] / elapsed:.1f}'
        values['peak_memory_mb'] = f'{peak_memory_mb():.0f}'
        warned = numbers['bags_failed'] or numbers['warnings']
        level = DiagnosticStatus.WARN if warned else DiagnosticStatus.OK
        return DiagnosticStatus(
            level=DiagnosticStatus.ERROR if values['state'] in _FAILED else level,
            name=f'{name}: conversion',
            hardware_id=socket.gethostname(),
            message=visible(' '.join(filter(None, (str(values['state']), str(values['bag']))))),
            values=[KeyValue(key=key, value=visible(str(value))) for key, value in values.items()],
        )


class ConvertNode(Node):  # type: ignore[misc] # rclpy has no types
    """Parameters, diagnostics and the cancel service of one conversion."""

    def __init__(self, cancel: threading.Event) -> None:
        """
        Let ``~/cancel`` set ``cancel``.

        :raises UsageError: A parameter is unknown or its value is not allowed.
        """
        try:
            super().__init__(NODE_NAME, automatically_declare_parameters_from_overrides=True)
        except ValueError as error:
            raise UsageError(
                'ROS parameters: a value is empty, which ROS cannot hold; leave that parameter out'
            ) from error
        self._started = time.monotonic()
        self._cancel = cancel
        self.settings = settings_from(self._given(), 'ROS parameters')
        self._declare(values_of(self.settings))
        self.progress = Progress(self.get_logger())
        self._publisher = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # On clocks that run, also where use_sim_time is set and nobody simulates.
        self._system_clock = Clock(clock_type=ClockType.SYSTEM_TIME)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_PERIOD_S, self.publish_status, clock=steady)
        self.create_service(Trigger, '~/cancel', self._on_cancel)

    def publish_status(self) -> None:
        """Publish the progress."""
        now = self.get_clock().now()
        message = DiagnosticArray()
        message.header.stamp = (now if now.nanoseconds else self._system_clock.now()).to_msg()
        message.status.append(self.progress.status(self.get_fully_qualified_name().lstrip('/')))
        self._publisher.publish(message)

    def publish_last_status(self, state: str) -> None:
        """Publish how it ended, and give those who listen the time to receive it."""
        self.progress.ended(state)
        # Who listens is found within the first seconds, which a run of failures does not last.
        end = max(self._started + _DISCOVERY_S, time.monotonic() + _SPIN_S)
        while time.monotonic() < end and not self._all_are_connected():
            time.sleep(_SPIN_S / 10)
        self.publish_status()
        self._publisher.wait_for_all_acked(Duration(seconds=_LAST_WORD_S))

    def _all_are_connected(self) -> bool:
        known = self.count_subscribers(self._publisher.topic_name)
        return bool(self._publisher.get_subscription_count() >= max(1, known))

    def _given(self) -> dict[str, object]:
        """Return the values from outside, which rclpy has declared as they were written."""
        given: dict[str, object] = {}
        for name, parameter in self.get_parameters_by_prefix('').items():
            if name.partition('.')[0] in RESERVED:
                continue
            value = parameter.value
            given[name] = list(value) if isinstance(value, array) else value
        return given

    def _declare(self, values: Mapping[str, object]) -> None:
        for info in known_settings().values():
            if self.has_parameter(info.name):
                self.undeclare_parameter(info.name)
            kind = _TYPES[info.kind]
            # The type before the value, because rclpy takes an empty list for one of bytes.
            self.declare_parameter(info.name, kind, _descriptor(info), ignore_override=True)
            self.set_parameters([Parameter(info.name, kind, values[info.name])])
            self.set_descriptor(info.name, _descriptor(info, read_only=True))

    def _on_cancel(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._cancel.set()
        response.success = True
        response.message = 'stopping; finished bags are kept for the next run'
        return response


def _descriptor(info: SettingInfo, *, read_only: bool = False) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        name=info.name,
        type=_TYPES[info.kind].value,
        description=info.description,
        read_only=read_only,
    )
    low, high = info.minimum, info.maximum
    if info.choices:
        descriptor.additional_constraints = 'one of ' + ', '.join(info.choices)
    elif low is not None and info.kind == 'int':
        highest = _LARGEST_INTEGER if high is None else int(high)
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=highest, step=1)]
    elif low is not None and info.kind == 'float':
        highest_float = sys.float_info.max if high is None else float(high)
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(low), to_value=highest_float)
        ]
    elif low is not None:
        descriptor.additional_constraints = f'each at least {low:g}'
    return descriptor


def run(cancel: threading.Event) -> int:
    """Run the node until the conversion has ended or ``cancel`` is set; return the exit code."""
    try:
        rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:
        print(f'error: {" ".join(str(error).split())}', file=sys.stderr)  # noqa: T201 (no log yet)
        return 2
    try:
        return _run(cancel)
    except UsageError as error:
        get_logger(NODE_NAME).error(str(error))
        return 2
    except ConverterError as error:
        get_logger(NODE_NAME).error(str(error))
        return 1
    finally:
        rclpy.shutdown()


def _run(cancel: threading.Event) -> int:
    others = remove_ros_args(sys.argv)[1:]
    if others:
        raise UsageError(f'{others[0]}: {NODE_NAME} {_USAGE}')
    if cancel.is_set():
        raise Cancelled
    node = ConvertNode(cancel)
    state = 'failed'
    try:
        report = _spin_while_converting(node, cancel)
        print_report(report, _LogStream(node.get_logger().info))
        if report.problem:
            node.get_logger().error(visible(report.problem))
        state = 'failed' if report.exit_code else 'done'
    except Cancelled:
        state = 'cancelled'
        raise
    finally:
        node.publish_last_status(state)
        node.destroy_node()
    return report.exit_code


def _spin_while_converting(node: ConvertNode, cancel: threading.Event) -> Report:
    from kuavo_bag_converter.jobs.convert import convert

    executor = SingleThreadedExecutor()
    executor.add_node(node)
    with one_thread_each(), ThreadPoolExecutor(max_workers=1) as pool:
        run = pool.submit(convert, node.settings, observer=node.progress, cancel=cancel)
        try:
            while not run.done():
                executor.spin_once(timeout_sec=_SPIN_S)
        finally:
            cancel.set()
            executor.shutdown()
        return run.result()
