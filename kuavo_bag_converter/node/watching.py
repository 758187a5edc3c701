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

"""The node that watches folders: what wakes it, its progress as diagnostics, and what ends it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
import math
import signal
import threading
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from kuavo_bag_converter.jobs.watch import watch, WatchOptions, WatchReport
from kuavo_bag_converter.node.progress import Progress
from kuavo_bag_converter.node.settings_node import run_node, SettingsNode, SPIN_S
from kuavo_bag_converter.settings import setting
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.priority import set_priority
from kuavo_bag_converter.support.process import one_thread_each, set_signals
from kuavo_bag_converter.support.texts import visible
from rclpy.exceptions import InvalidTopicNameException
from rclpy.executors import SingleThreadedExecutor
from rclpy.validate_topic_name import validate_topic_name

WATCH_NAME = 'watch_node'
_EVENTS_DEPTH = 10
_SAME_S = 2.0
"""Signals within this time are one request to finish: a launch, a terminal and systemd each send
theirs to all processes."""


@dataclass(frozen=True)
class _NodeOptions(WatchOptions):
    """What the node has, and the command."""

    events_topics: tuple[str, ...] = setting(
        ('/events/write_split', '/rosbag2_recorder/events/write_split'),
        'Topics on which a recorder tells that it has closed a file '
        '(rosbag2_interfaces/msg/WriteSplitEvent); the folders are looked at then.',
    )


class WatchProgress(Progress):
    """The progress of one conversion after the other, and what waits for the next one."""

    def __init__(self, logger: Any) -> None:
        """Write to an rclpy logger."""
        super().__init__(logger)
        self._done_before = 0
        self.waiting(0, 0)

    def waiting(self, ready: int, unfinished: int) -> None:
        """Keep both numbers for the diagnostics."""
        self._done_before = self._numbers['bags_done']
        self._numbers |= {'recordings_ready': ready, 'recordings_unfinished': unfinished}
        if not ready:
            self.set_state('watching')

    def bag_started(self, number: int, total: int, bag: str) -> None:
        """Name the bag, and count it among all since the beginning."""
        super().bag_started(number, total, bag)
        self._numbers['bags_total'] = self._done_before + total


class WatchNode(SettingsNode):
    """
    Watches folders until it is told to end.

    :ivar progress: Of the conversions.
    :ivar cancel: Is set by ``~/cancel``.
    :ivar wake: Is set by a recorder's event.
    """

    def __init__(self) -> None:
        """
        Listen to ``~/cancel`` and to recorders.

        :raises UsageError: A parameter is unknown or its value is not allowed.
        """
        super().__init__(WATCH_NAME, _NodeOptions)
        self.progress = WatchProgress(self.get_logger())
        self.cancel = threading.Event()
        self.wake = threading.Event()
        self.serve_cancel(self.cancel, 'ending; finished bags are kept for the next watch')
        topics = [topic for topic in self.options.events_topics if topic]
        if topics:
            self._listen(topics)

    def status(self) -> DiagnosticStatus:
        """Return how the watch goes on."""
        return self.progress.status(self.get_fully_qualified_name())

    def _listen(self, topics: list[str]) -> None:
        try:
            for topic in topics:
                validate_topic_name(topic)
        except InvalidTopicNameException as error:
            why = str(error).splitlines()[0].rstrip(':')
            raise UsageError(f'events_topics: {topic}: {why}') from error
        try:
            from rosbag2_interfaces.msg import WriteSplitEvent
        except ImportError:
            self.get_logger().info(
                'rosbag2_interfaces is not installed: events of recorders are not listened to, '
                f'the folders are looked at every {self.options.poll_s:g} s'
            )
            return
        for topic in topics:
            self.create_subscription(
                WriteSplitEvent, topic, lambda _: self.wake.set(), _EVENTS_DEPTH
            )


def run(stop: threading.Event) -> int:
    """Run the node until ``stop`` is set; return the exit code."""
    # One that is set already ends the watch as a later one does, which may finish first.
    return run_node(WATCH_NAME, lambda _: _run(stop), threading.Event())


def _run(stop: threading.Event) -> int:
    node = WatchNode()
    state = 'failed'
    try:
        report = _spin_while_watching(node, stop)
        node.get_logger().info(visible(str(report)))
        for line in report.missing:
            node.get_logger().warning(visible(f'not in the dataset: {line}'))
        state = 'failed' if report.exit_code else 'done'
    finally:
        node.progress.set_state(state)
        node.publish_last_status()
        node.destroy_node()
    return report.exit_code


def _spin_while_watching(node: WatchNode, stop: threading.Event) -> WatchReport:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    finish = threading.Event()
    asked = finish if node.options.finish else node.cancel
    first_asked = math.inf

    def work() -> WatchReport:
        set_priority(node.options.priority)  # not that of the threads that serve ROS
        return watch(
            node.settings,
            node.options,
            observer=node.progress,
            cancel=node.cancel,
            finish=finish,
            wake=node.wake,
        )

    with one_thread_each(), ThreadPoolExecutor(max_workers=1) as pool:
        done = pool.submit(work)
        try:
            while not done.done():
                executor.spin_once(timeout_sec=SPIN_S)
                if stop.is_set() and not asked.is_set():
                    asked.set()
                    first_asked = time.monotonic()
                    if node.options.finish:
                        set_signals(signal.SIG_IGN)
                elif time.monotonic() - first_asked > _SAME_S:
                    first_asked = math.inf
                    set_signals(signal.SIG_DFL)
        finally:
            node.cancel.set()
            executor.shutdown()
        return done.result()
