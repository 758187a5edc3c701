"""What libraries read from the environment when they are imported; what the user set is kept."""

from __future__ import annotations

import os

_DEFAULTS = {
    # Threads that only cost memory and start-up time here.
    'OPENBLAS_NUM_THREADS': '1',
    # pyarrow's own allocator keeps 15 MB that nothing else can use.
    'ARROW_DEFAULT_MEMORY_POOL': 'system',
}


def set_defaults() -> None:
    """Set what is not set; call it before numpy and pyarrow are imported."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
