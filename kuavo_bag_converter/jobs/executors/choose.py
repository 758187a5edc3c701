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

"""Which executor the settings mean."""

from __future__ import annotations

import threading

from kuavo_bag_converter.jobs.executors.local import LocalExecutor
from kuavo_bag_converter.jobs.executors.model import Executor
from kuavo_bag_converter.jobs.executors.ray_cluster import RayExecutor
from kuavo_bag_converter.jobs.executors.serial import SerialExecutor
from kuavo_bag_converter.settings import Settings
from kuavo_bag_converter.support.machine import cores


def choose_executor(settings: Settings, tasks: int, cancel: threading.Event) -> Executor:
    """
    Return the executor of a run.

    :param settings: Say how many tasks run beside each other, and where.
    :param tasks: How many there are.
    :param cancel: Set to stop.
    :raises UsageError: There is no such executor here.
    """
    if settings.executor == 'ray':
        return RayExecutor(settings.jobs, settings.threads, settings.memory_limit_mb, cancel)
    jobs = min(settings.jobs or max(1, cores() // max(1, settings.threads)), tasks)
    if jobs > 1:
        return LocalExecutor(jobs, settings.threads, settings.memory_limit_mb, cancel)
    return serial_executor(settings, cancel)


def serial_executor(settings: Settings, cancel: threading.Event) -> SerialExecutor:
    """Return the one that does one task after the other in this process."""
    return SerialExecutor(settings.threads or cores(), settings.memory_limit_mb, cancel)
