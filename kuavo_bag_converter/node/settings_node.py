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

"""A node whose parameters are the settings of conversions, and which publishes diagnostics."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
import sys
import threading
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from kuavo_bag_converter.settings import (
    described,
    known_settings,
    options_from,
    RESERVED,
    SettingInfo,
    settings_from,
)
from kuavo_bag_converter.support.errors import ConverterError, UsageError
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rcl_interfaces.msg import Parameter as ParameterMessage
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from std_srvs.srv import Trigger

_USAGE = 'takes ROS parameters only, as in: --ros-args -p bags:="[run1.bag]" -p output:=dataset'
_SOURCE = 'ROS parameters'
_TYPES = {
    'bool': Parameter.Type.BOOL,
    'int': Parameter.Type.INTEGER,
    'float': Parameter.Type.DOUBLE,
    'str': Parameter.Type.STRING,
    'int list': Parameter.Type.INTEGER_ARRAY,
    'str list': Parameter.Type.STRING_ARRAY,
}
_LARGEST_INTEGER = 2**63 - 1
_PERIOD_S = 1.0
SPIN_S = 0.1
"""Longest time for which a signal waits to be noticed."""
_DISCOVERY_S = 4.0
"""How long it may take from the start until nodes know of each other."""
_LAST_WORD_S = 2.0
"""How long the final status waits to be received."""


@dataclass(frozen=True)
class _NoOptions:
    """Of a node that has no parameters but the settings."""


class SettingsNode(Node):  # type: ignore[misc] # rclpy has no types
    """
    Every setting is a parameter that is read once, at the start.

    Once a second, and when it is told to, the node publishes its :meth:`status`.
    """

    def __init__(self, name: str, options: type[Any] = _NoOptions) -> None:
        """
        Read and declare the parameters.

        :param name: Of the node, where it is not remapped.
        :param options: Dataclass of its parameters that are no settings.
        :raises UsageError: A parameter is unknown or its value is not allowed.
        """
        try:
            super().__init__(name, automatically_declare_parameters_from_overrides=True)
        except ValueError as error:
            raise UsageError(
                'ROS parameters: a value is empty, which ROS cannot hold; leave that parameter out'
            ) from error
        self._started = time.monotonic()
        given = self._given()
        own = described(options)
        self.options = options_from(
            options, {name: given.pop(name) for name in own if name in given}, _SOURCE
        )
        self.settings = settings_from(given, _SOURCE)
        for info in known_settings().values():
            self._declare(info, info.value_in(self.settings))
        for info in own.values():
            self._declare(info, info.value_in(self.options))
        self._publisher = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # On clocks that run, also where use_sim_time is set and nobody simulates.
        self._system_clock = Clock(clock_type=ClockType.SYSTEM_TIME)
        self.steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_PERIOD_S, self.publish_status, clock=self.steady_clock)

    def status(self) -> DiagnosticStatus:
        """Return what the node publishes on ``/diagnostics``."""
        raise NotImplementedError

    def serve_cancel(self, cancel: threading.Event, answer: str) -> None:
        """Let ``~/cancel`` set ``cancel``, and answer with a text."""

        def on_cancel(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            cancel.set()
            response.success = True
            response.message = answer
            return response

        self.create_service(Trigger, '~/cancel', on_cancel)

    def publish_status(self) -> None:
        """Publish the status."""
        now = self.get_clock().now()
        message = DiagnosticArray()
        message.header.stamp = (now if now.nanoseconds else self._system_clock.now()).to_msg()
        message.status.append(self.status())
        self._publisher.publish(message)

    def publish_last_status(self) -> None:
        """Publish the status, and give those who listen the time to receive it."""
        # Who listens is found within the first seconds, which a run of failures does not last.
        end = max(self._started + _DISCOVERY_S, time.monotonic() + SPIN_S)
        while time.monotonic() < end and not self._all_are_connected():
            time.sleep(SPIN_S / 10)
        self.publish_status()
        self._publisher.wait_for_all_acked(Duration(seconds=_LAST_WORD_S))

    def _all_are_connected(self) -> bool:
        known = self.count_subscribers(self._publisher.topic_name)
        return bool(self._publisher.get_subscription_count() >= max(1, known))

    def _given(self) -> dict[str, object]:
        """Return the values from outside, which rclpy has declared as they were written."""
        return {
            name: plain_value(parameter)
            for name, parameter in self.get_parameters_by_prefix('').items()
            if name.partition('.')[0] not in RESERVED
        }

    def _declare(self, info: SettingInfo, value: object) -> None:
        if self.has_parameter(info.name):
            self.undeclare_parameter(info.name)
        kind = _TYPES[info.kind]
        # The type before the value, because rclpy takes an empty list for one of bytes.
        self.declare_parameter(info.name, kind, _descriptor(info), ignore_override=True)
        self.set_parameters([Parameter(info.name, kind, value)])
        self.set_descriptor(info.name, _descriptor(info, read_only=True))


def plain_value(parameter: Parameter) -> object:
    """Return the value of a parameter as settings have it: a list as a list."""
    value = parameter.value
    return list(value) if isinstance(value, array) else value


def values_in(parameters: Sequence[ParameterMessage], source: str) -> dict[str, object]:
    """
    Return the values in parameters of a request by name.

    :param source: What they are, for the errors.
    :raises UsageError: One is given twice, or has a type that there is none of.
    """
    values: dict[str, object] = {}
    for message in parameters:
        if message.name in values:
            raise UsageError(f'{source}: {message.name}: given twice')
        try:
            values[message.name] = plain_value(Parameter.from_parameter_msg(message))
        except ValueError as error:
            raise UsageError(
                f'{source}: {message.name}: {message.value.type} is no type of a parameter'
            ) from error
    return values


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


def run_node(name: str, work: Callable[[threading.Event], int], cancel: threading.Event) -> int:
    """
    Run a node from the initialization of rclpy to its shutdown; return the exit code.

    :param name: Of the node.
    :param work: Makes the node and lets it do its work until ``cancel`` is set.
    """
    try:
        rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:
        print(f'error: {" ".join(str(error).split())}', file=sys.stderr)  # noqa: T201 (no log yet)
        return 2
    try:
        others = remove_ros_args(sys.argv)[1:]
        if others:
            raise UsageError(f'{others[0]}: {name} {_USAGE}')
        return work(cancel)
    except UsageError as error:
        get_logger(name).error(str(error))
        return 2
    except ConverterError as error:
        get_logger(name).error(str(error))
        return 1
    finally:
        rclpy.shutdown()
