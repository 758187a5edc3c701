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

"""What runs on the nodes of a Ray cluster; it is found there by its name, and imports no Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
import functools
import hashlib
from importlib.metadata import PackageNotFoundError, version
import os
from pathlib import Path
import pickle
import platform
import sys
import threading
import traceback
from typing import Any

from kuavo_bag_converter.jobs.executors.model import Context, picklable, pickled, PROGRESS, Work
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.plugins import installed_plugins
from kuavo_bag_converter.support.process import MB, one_thread_each, PeakMemory, set_defaults
from kuavo_bag_converter.support.version import __version__

_LIBRARIES = ('numpy', 'av', 'pyarrow', 'opencv-python-headless', 'opencv-python')
"""On whose versions the bytes of a dataset may depend."""
_PACKAGE = Path(__file__).parent.parent


def run_task(work: bytes, number: int, given: bytes, threads: int, limit_mb: int) -> bytes:
    """
    Do a task.

    :param work: What is done, as :func:`packed` gives it.
    :param number: Of the task.
    :param given: Its input, pickled.
    :param threads: See :class:`.Context`.
    :param limit_mb: Likewise.
    :return: Pickled: True, the result, the memory that it took (MB) and what it has told; or
        False, the error and its traceback.
    """
    set_defaults()
    events: list[tuple[Any, ...]] = []

    def tell(event: str, *arguments: Any) -> None:
        if event != PROGRESS:
            events.append((number, event, *arguments))

    try:
        with one_thread_each():
            peak = PeakMemory()
            context = Context(threads, limit_mb, threading.Event(), tell)
            result = _loaded(work)(pickle.loads(given), context)  # noqa: S301  # of the run
            return pickle.dumps((True, result, peak.bytes() / MB, events))
    except Exception as error:  # noqa: BLE001  # raised where the run is
        return pickle.dumps((False, picklable(error), traceback.format_exc()))


def packed(work: Work, folder: Path) -> bytes:
    """Return what is done, with what a node must have and see to do it."""
    return pickle.dumps((versions(), folder, pickled(work)))


@functools.lru_cache(maxsize=1)
def _loaded(packed_work: bytes) -> Work:
    """
    Return what is done; a process does many tasks of one run.

    :raises UsageError: This node, which may have come since the run began, cannot do it.
    """
    expected, folder, work = pickle.loads(packed_work)  # noqa: S301  # of the run
    problem = difference(versions(), expected)
    if not problem and not folder.is_dir():
        problem = f'does not see {folder}; choose an output on a disk that all nodes share'
    if problem:
        raise UsageError(f'executor: ray: node {platform.node()}: {problem}')
    done: Work = pickle.loads(work)  # noqa: S301  # of the run
    return done


def versions() -> dict[str, str]:
    """Return what must be the same wherever a run converts, for its result to be the same."""
    found = {
        'Python': '{}.{}'.format(*sys.version_info),
        'processor': platform.machine(),
        'kuavo_bag_converter': f'{__version__} ({_code_digest()})',
        'plug-ins': ', '.join(installed_plugins().get('plugins', ())) or 'none',
    }
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def difference(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Say in what a node differs from where the run is; '' if in nothing."""
    for name, ours in here.items():
        theirs = there.get(name, 'not installed')
        if theirs != ours:
            return (
                f'{name} is {theirs}, where the run is it is {ours}, so that the dataset could '
                'differ; install the same on both, or take the node out'
            )
    return ''


def _code_digest() -> str:
    digest = hashlib.blake2b(digest_size=6)
    for file in sorted(_PACKAGE.rglob('*.py')):
        digest.update(f'{file.relative_to(_PACKAGE)} '.encode() + file.read_bytes())
    return digest.hexdigest()


def look_around(probe: Path, paths: Sequence[Path]) -> tuple[dict[str, str], str, list[Path]]:
    """
    Tell what a node has and sees.

    :param probe: A file that the run has made where shards go; the node makes one beside it.
    :param paths: Bags.
    :return: Its versions, why it cannot write where shards go ('' if it can), and the bags that
        it does not see.
    """
    problem = ''
    try:
        probe.with_name(f'{probe.name}{os.getpid():x}').write_bytes(probe.read_bytes())
    except OSError as error:
        problem = str(error.strerror or error)
    return versions(), problem, [path for path in paths if not path.exists()]
