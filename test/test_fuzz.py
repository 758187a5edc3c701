"""Broken bags, pictures and definitions raise nothing but errors that a user may see."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

RUNS = 400


def test_a_short_run_of_the_fuzz_target_finds_nothing():
    """For longer ones: ``python test/fuzz_readers.py --seconds 600``."""
    target = Path(__file__).with_name('fuzz_readers.py')
    done = subprocess.run(
        [sys.executable, str(target), '--runs', str(RUNS), '--seconds', '600'],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(rf'{RUNS} runs in .*bag, .*definition, .*picture, .*raw, .*stream', done.stdout)
