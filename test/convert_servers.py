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

"""A ``convert_server`` in a thread of the test process, and a client of it."""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray
from kuavo_bag_converter.jobs import shard
from kuavo_bag_converter.node.server import run
from rcl_interfaces.srv import SetParametersAtomically
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

PATIENCE_S = 60


class Gate:
    """Holds a conversion in pass 1 of the n-th bag that is planned, until it is opened."""

    def __init__(self, monkeypatch, number):
        self._reached, self._opened = threading.Event(), threading.Event()
        real, numbers = shard.plan_bag, itertools.count(1)

        def plan_bag(*arguments):
            if next(numbers) == number:
                self._reached.set()
                assert self._opened.wait(PATIENCE_S)
            return real(*arguments)

        monkeypatch.setattr(shard, 'plan_bag', plan_bag)

    def wait(self):
        assert self._reached.wait(PATIENCE_S)

    def open(self):  # noqa: A003
        self._opened.set()


class Client:
    """Another node: asks a server for conversions, and listens to its diagnostics."""

    def __init__(self, name='/convert_server'):
        self._context = Context()
        self._context.init(args=[])
        self.node = rclpy.create_node('client', context=self._context)
        self.diagnostics = []
        self.node.create_subscription(
            DiagnosticArray, '/diagnostics', lambda one: self.diagnostics.extend(one.status), 10
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._clients = {
            service: self.node.create_client(kind, f'{name}/{service}')
            for service, kind in (
                ('submit', SetParametersAtomically),
                ('status', Trigger),
                ('cancel', Trigger),
                ('cancel_goal', SetParametersAtomically),
            )
        }
        assert all(one.wait_for_service(PATIENCE_S) for one in self._clients.values())

    def until(self, condition):
        """Spin until a condition is true; return what it returned."""
        end = time.monotonic() + PATIENCE_S
        while not (answer := condition()):
            assert time.monotonic() < end
            self._executor.spin_once(timeout_sec=0.05)
        return answer

    def result_of(self, future):
        self.until(future.done)
        return future.result()

    def ask(self, service, **fields):
        client = self._clients[service]
        return client.call_async(client.srv_type.Request(**fields))

    def _call(self, service, **fields):
        return self.result_of(self.ask(service, **fields))

    def call_with(self, service, messages):
        return self._call(service, parameters=messages).result

    def _call_with(self, service, values):
        parameters = [Parameter(name, value=value) for name, value in values.items()]
        return self.call_with(service, [one.to_parameter_msg() for one in parameters])

    def submit(self, **values):
        """Submit a goal, whose names have two underscores for a dot; return its number."""
        named = {name.replace('__', '.'): value for name, value in values.items()}
        result = self._call_with('submit', named)
        assert result.successful, result.reason
        return int(result.reason.removeprefix('goal '))

    def refusal(self, **values):
        """Submit a goal that is refused; return why."""
        result = self._call_with('submit', values)
        assert not result.successful
        return result.reason

    def cancel_running(self):
        return self._call('cancel')

    def cancel_goal(self, **values):
        return self._call_with('cancel_goal', values)

    def goals(self):
        """Return what is known of each goal, by its number."""
        response = self._call('status')
        assert response.success
        return {goal['goal']: goal for goal in json.loads(response.message)}

    def ended(self, number):
        """Wait until a goal has ended; return what is known of it."""

        def look():
            goal = self.goals()[number]
            return goal if 'exit_code' in goal else None

        return self.until(look)

    def close(self):
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()


class Server(Client):
    """Runs ``convert_server`` in a thread of this process until it is closed."""

    def __init__(self, monkeypatch, *arguments, **options):
        monkeypatch.setattr(sys, 'argv', ['convert_server', *arguments])
        self.cancel = threading.Event()
        self.exit_code = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        super().__init__(**options)

    def _run(self):
        self.exit_code = run(self.cancel)

    def end(self):
        """Ask it to end, and wait until it has."""
        self.cancel.set()
        self.until(lambda: not self._thread.is_alive())

    def close(self):
        self.end()
        super().close()
