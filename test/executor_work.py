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

"""Work that tests give to executors; processes of theirs import it from here."""

import os
from pathlib import Path
import signal
import time

from kuavo_bag_converter.frames.stream import fill_frames
from kuavo_bag_converter.jobs.executors.model import Task
from kuavo_bag_converter.support.errors import BagError, BagMemoryError, UsageError

PATIENCE_S = 60


class PairError(Exception):
    """Can be pickled, but not be made again of its text alone."""

    def __init__(self, one, two):
        super().__init__(f'{one} and {two}')


def act(given, context):
    """Do what the input says."""
    what, *arguments = given
    if what == 'answer':
        return arguments[0]
    if what == 'divide':
        return 1 // 0
    if what == 'refuse':
        raise UsageError(*arguments)
    if what == 'raise a pair':
        raise PairError(*arguments)
    if what == 'exit':
        os._exit(*arguments)
    counts, times = arguments
    with Path(counts).open('a') as file:
        file.write('.')
    if Path(counts).stat().st_size <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return 'survived'


def run_work(executor, function, inputs, sizes=None, on_event=lambda *_: None):
    """Return the results of tasks by their numbers, in the order in which they are done."""
    sizes = sizes or [1] * len(inputs)
    tasks = [Task(number, size, str(number)) for number, size in enumerate(sizes, start=1)]
    try:
        return dict(executor.map(function, tasks, lambda number: inputs[number - 1], on_event))
    finally:
        executor.close()


def fill_that_crashes(reader, *arguments, **options):
    """Fill the frames of a bag, but crash as a library does where it has six messages."""
    if sum(reader.counts.values()) == 6:
        os.kill(os.getpid(), signal.SIGSEGV)
    fill_frames(reader, *arguments, **options)


def fill_that_fails(reader, *arguments, **options):
    """Likewise, but find the bag wrong."""
    if sum(reader.counts.values()) == 6:
        raise BagError('is wrong')
    fill_frames(reader, *arguments, **options)


def fill_that_hangs_on_a_node(folder, *arguments, **options):
    """Fill the frames of a bag, but never on the node of a Ray cluster that a file names."""
    import ray

    if ray.get_runtime_context().get_node_id() == (folder / 'doomed').read_text():
        (folder / 'begun').touch()
        time.sleep(PATIENCE_S)
    fill_frames(*arguments, **options)


def wait_until(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def threads(seconds, context):
    """Return what a task may use."""
    time.sleep(seconds)
    return context.threads, context.memory_limit_mb


def takes(needed_mb, context):
    """Return the limit of a task that takes so much memory, and its process."""
    if context.shares_memory and context.memory_limit_mb < needed_mb - 60:
        raise BagMemoryError('too little')
    return context.memory_limit_mb, os.getpid()
