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

"""What a command or a node sets for its own process; what a script imports sets nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import os
import sys

_DEFAULTS = {
    # Threads that only cost memory and start-up time here.
    'OPENBLAS_NUM_THREADS': '1',
    # pyarrow's own allocator keeps 15 MB that nothing else can use.
    'ARROW_DEFAULT_MEMORY_POOL': 'system',
    # SVT-AV1 prints a page for every video; errors are printed still.
    'SVT_LOG': '1',
}


def set_defaults() -> None:
    """
    Set what libraries read when they are imported, where the user has not set it.

    Call it before numpy and pyarrow are imported.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


@contextmanager
def packages_needed() -> Iterator[None]:
    """Make one line of a package that is not installed, and end the process with exit code 2."""
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or '').partition('.')[0]
        if name == __name__.partition('.')[0]:
            raise
        advice = (
            'source the setup file of a ROS 2 that has it'
            if name == 'rclpy' or name.endswith(('_msgs', '_srvs', '_interfaces'))
            else 'pip install what requirements.txt lists'
        )
        line = f'error: the Python package {name} is needed and not installed; {advice}'
        print(line, file=sys.stderr)  # noqa: T201
        sys.exit(2)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keep BLAS and OpenCV from starting threads of their own beside the workers."""
    import cv2
    from threadpoolctl import threadpool_limits

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(limits=1):  # type: ignore[no-untyped-call]
            yield
    finally:
        cv2.setNumThreads(before)
