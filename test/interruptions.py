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

"""
Something happens in the middle of a run: at the n-th change that it makes to the disk.

The point is counted and not timed, so that a history that fails can be repeated and made shorter.
What happens there is real: the process is killed, a file appears, another run begins.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
import os
from pathlib import Path
import pickle
import signal
import sys
import tempfile
import traceback
from typing import Any, NamedTuple

PHASES = {
    'start': '',
    'shard': '.unfinished/shards/',
    'assembly': '.unfinished/dataset/',
    'info': '.unfinished/dataset/meta/info.json',
    'record': '.unfinished/dataset/conversion/',
}
"""Parts of the path whose first change begins a phase; it lasts until the run ends."""
_CHANGES = ('os.mkdir', 'os.rename', 'os.remove', 'os.rmdir', 'os.link', 'os.symlink', 'os.chmod')
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Point(NamedTuple):
    """A place in a run: after so many changes since a phase began."""

    phase: str
    changes: int


class _Watch:
    """Counts the changes of this process, and acts at one of them, once."""

    def __init__(self, point: Point, act: Callable[[], Any]) -> None:
        self._path = PHASES[point.phase]
        self._begun = not self._path
        self._left = point.changes
        self._act = act
        self.acted = False

    def changed(self, path: str) -> None:
        if self.acted:
            return
        self._begun = self._begun or self._path in path
        if self._begun:
            self._left -= 1
        if self._left < 0:
            self.acted = True
            self._act()


_watch: _Watch | None = None
_installed = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _watch is None or (event not in _CHANGES and event not in ('open', 'ctypes.dlsym')):
        return
    path = arguments[0]
    if event == 'ctypes.dlsym' and arguments[1] != 'renameat2':
        return
    if event == 'open' and (not arguments[2] & _WRITING or isinstance(path, int)):
        return
    _watch.changed(os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else '')


@contextmanager
def at(point: Point, act: Callable[[], Any]):
    """Call ``act`` just before a change that this process makes; yield what tells if it was."""
    global _watch, _installed
    if not _installed:
        sys.addaudithook(_audit)  # It cannot be taken off again.
        _installed = True
    before, _watch = _watch, _Watch(point, act)
    try:
        yield _watch
    finally:
        _watch = before


def killed_at(point: Point, run: Callable[[], Any]) -> Any:
    """
    Do something in a process of its own that is killed at a point.

    :return: What ``run`` returned if it came to its end before; None if it was killed.
    """
    descriptor, name = tempfile.mkstemp()
    os.close(descriptor)
    result = Path(name)
    process = os.fork()
    if process == 0:
        try:
            with at(point, lambda: os.kill(os.getpid(), signal.SIGKILL)):
                answer = run()
            result.write_bytes(pickle.dumps(answer))
        except BaseException:  # noqa: BLE001  # told by the parent
            result.write_text(traceback.format_exc())
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(process, 0)
    answer = result.read_bytes()
    result.unlink()
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    assert status == 0, answer.decode()
    return pickle.loads(answer)
