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

"""What the processes of one session use, from Linux's ``/proc`` (see proc(5))."""

from __future__ import annotations

import os
from pathlib import Path

from kuavo_bag_converter.support.process import kernel_bytes

_PROC = Path('/proc')
_TICKS = os.sysconf('SC_CLK_TCK')


class Session:
    """All processes of a session: a leader and whatever it starts, reparented ones included."""

    def __init__(self, leader: int) -> None:
        """Follow the session whose leader has this process id."""
        self._leader = leader
        # A process can leave a session but not enter one, so each new id is looked at once.
        self._members: dict[int, bool] = {}

    def members(self) -> list[int]:
        """Return the ids of the processes that are there now."""
        present = [int(name) for name in os.listdir(_PROC) if name.isdigit()]
        self._members = {
            pid: self._members[pid] if pid in self._members else self._belongs(pid)
            for pid in present
        }
        return [pid for pid, member in self._members.items() if member]

    def memory(self) -> int:
        """Return the proportional set size of all processes together, bytes."""
        return sum(_proportional_set_size(pid) for pid in self.members())

    def _belongs(self, pid: int) -> bool:
        try:
            return os.getsid(pid) == self._leader
        except OSError:
            return False


def _proportional_set_size(pid: int) -> int:
    try:
        return kernel_bytes(f'{pid}/smaps_rollup', 'Pss')
    except OSError:
        return 0  # It has ended since it was listed.


def processor_seconds_of(pid: int) -> float:
    """Return the user and system time of a process and of its children that it waited for."""
    text = (_PROC / str(pid) / 'stat').read_text(encoding='utf-8')
    fields = text.rpartition(')')[2].split()  # The name before may have any character.
    return sum(map(int, fields[11:15])) / _TICKS


def memory_available() -> int:
    """Return how many bytes new processes can have without swapping."""
    return kernel_bytes('meminfo', 'MemAvailable')


def memory_total() -> int:
    """Return the memory of the machine, bytes."""
    return kernel_bytes('meminfo', 'MemTotal')


def machine_busy_seconds() -> float:
    """Return the CPU seconds that all processes of the machine have used since it started."""
    first = (_PROC / 'stat').read_text(encoding='ascii').splitlines()[0].split()
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, first[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS


def processor_name() -> str:
    """Return the processor's name as the kernel has it, or '' where it has none."""
    for line in (_PROC / 'cpuinfo').read_text(encoding='utf-8').splitlines():
        if line.startswith('model name'):
            return line.partition(':')[2].strip()
    return ''
