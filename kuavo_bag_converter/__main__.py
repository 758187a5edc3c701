"""``python -m kuavo_bag_converter``."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command line; see :mod:`kuavo_bag_converter.cli`."""
    # Before numpy is imported: threads that only cost memory and start-up time here.
    os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
    from kuavo_bag_converter.cli import run

    return run(sys.argv[1:])


if __name__ == '__main__':
    sys.exit(main())
