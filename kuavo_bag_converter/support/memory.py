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

"""What this process has in memory, and what it gives back."""

from __future__ import annotations

import ctypes
import os
import resource

MB = 1 << 20
_PAGE = os.sysconf('SC_PAGE_SIZE')
_trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
"""Of the GNU C library, malloc_trim(3); others give back by themselves or not at all."""


def release_memory() -> None:
    """
    Return what has been freed to the system; takes less than a millisecond.

    Small allocations that live on keep malloc from doing so itself after a phase that needed
    large ones.
    """
    if _trim is not None:
        _trim(0)


def resident_bytes() -> int:
    """Return the resident set."""
    with open('/proc/self/statm', encoding='ascii') as file:
        return int(file.read().split()[1]) * _PAGE


def peak_memory_mb() -> float:
    """Return the largest resident set so far, MB (2**20 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
