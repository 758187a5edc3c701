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

"""The node of one conversion: its progress as diagnostics, and the cancel service."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import threading

from diagnostic_msgs.msg import DiagnosticStatus
from kuavo_bag_converter.jobs.report import Report
from kuavo_bag_converter.node.progress import log_report, Progress
from kuavo_bag_converter.node.settings_node import run_node, SettingsNode, SPIN_S
from kuavo_bag_converter.settings import NODE_NAME
from kuavo_bag_converter.support.errors import Cancelled
from kuavo_bag_converter.support.process import one_thread_each
from rclpy.executors import SingleThreadedExecutor


class ConvertNode(SettingsNode):
    """One conversion, with a service that stops it."""

    def __init__(self, cancel: threading.Event) -> None:
        """
        Let ``~/cancel`` set ``cancel``.

        :raises UsageError: A parameter is unknown or its value is not allowed.
        """
        super().__init__(NODE_NAME)
        self.progress = Progress(self.get_logger())
        self.serve_cancel(cancel, 'stopping; finished bags are kept for the next run')

    def status(self) -> DiagnosticStatus:
        """Return how the conversion goes on."""
        return self.progress.status(self.get_fully_qualified_name())


def run(cancel: threading.Event) -> int:
    """Run the node until the conversion has ended or ``cancel`` is set; return the exit code."""
    return run_node(NODE_NAME, _run, cancel)


def _run(cancel: threading.Event) -> int:
    if cancel.is_set():
        raise Cancelled
    node = ConvertNode(cancel)
    state = 'failed'
    try:
        report = _spin_while_converting(node, cancel)
        log_report(report, node.get_logger())
        state = 'failed' if report.exit_code else 'done'
    except Cancelled:
        state = 'cancelled'
        raise
    finally:
        node.progress.set_state(state)
        node.publish_last_status()
        node.destroy_node()
    return report.exit_code


def _spin_while_converting(node: ConvertNode, cancel: threading.Event) -> Report:
    from kuavo_bag_converter.jobs.convert import convert_bags

    executor = SingleThreadedExecutor()
    executor.add_node(node)
    with one_thread_each(), ThreadPoolExecutor(max_workers=1) as pool:
        run = pool.submit(convert_bags, node.settings, observer=node.progress, cancel=cancel)
        try:
            while not run.done():
                executor.spin_once(timeout_sec=SPIN_S)
        finally:
            cancel.set()
            executor.shutdown()
        return run.result()
