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

"""What this process may use of the machine, also in a container or a Slurm job."""

from __future__ import annotations

from collections.abc import Iterator
import math
import os
from pathlib import Path

from kuavo_bag_converter.support.process import kernel_bytes

_CGROUPS = Path('/sys/fs/cgroup')
_NO_LIMIT = 1 << 60
"""Version 1 of control groups writes about so many bytes where there is no limit."""


def cores() -> int:
    """Return how many cores this process may keep busy, at least 1."""
    found = float(len(os.sched_getaffinity(0)))
    for folder in _groups('cpu'):
        words = _read(folder / 'cpu.max').split()
        if len(words) == 2:
            quota, period = words
        else:
            quota = _read(folder / 'cpu.cfs_quota_us')
            period = _read(folder / 'cpu.cfs_period_us')
        if quota.isdigit() and period.isdigit() and int(period):
            found = min(found, int(quota) / int(period))
    return max(1, math.ceil(found))


def available_bytes() -> int:
    """Return how many bytes of memory this process and its children may still take."""
    found = kernel_bytes('meminfo', 'MemAvailable') or _NO_LIMIT
    for folder in _groups('memory'):
        for limit, used in (
            ('memory.max', 'memory.current'),
            ('memory.limit_in_bytes', 'memory.usage_in_bytes'),
        ):
            most, now = _read(folder / limit), _read(folder / used)
            if most.isdigit() and now.isdigit() and int(most) < _NO_LIMIT:
                found = min(found, int(most) - int(now) + _cached(folder))
    return max(found, 0)


def _cached(folder: Path) -> int:
    """Return the bytes of a group that the system takes back when they are needed."""
    for line in _read(folder / 'memory.stat').splitlines():
        name, _, value = line.partition(' ')
        if name in ('inactive_file', 'total_inactive_file'):
            return int(value)
    return 0


def _groups(controller: str) -> Iterator[Path]:
    """Yield the control groups of this process that have a controller, innermost first."""
    for line in _read(Path('/proc/self/cgroup')).splitlines():
        _, controllers, path = line.split(':', 2)
        if controllers and controller not in controllers.split(','):
            continue
        root = _CGROUPS / controller if controllers else _CGROUPS
        inner = root / path.lstrip('/')
        # In a container the path may be that of the machine, which is not there.
        yield from (
            folder for folder in (inner, *inner.parents) if root in (folder, *folder.parents)
        )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding='ascii').strip()
    except (OSError, UnicodeDecodeError):
        return ''
