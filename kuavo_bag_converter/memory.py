"""What this process has in memory."""

from __future__ import annotations

import os
import resource

MB = 1 << 20
_PAGE = os.sysconf('SC_PAGE_SIZE')


def resident_bytes() -> int:
    """Return the resident set."""
    with open('/proc/self/statm', encoding='ascii') as file:
        return int(file.read().split()[1]) * _PAGE


def peak_memory_mb() -> float:
    """Return the largest resident set so far, MB (2**20 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
