"""Interpreters with a real LeRobot: of KUAVO_LEROBOT_PYTHON, and this one where it has it."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

PYTHONS = [path for path in os.environ.get('KUAVO_LEROBOT_PYTHON', '').split(os.pathsep) if path]
if not PYTHONS and find_spec('lerobot') is not None:
    PYTHONS = [sys.executable]
BACKENDS = ('torchcodec', 'pyav')


@cache
def version_of(python):
    program = 'from importlib.metadata import version; print(version("lerobot"))'
    done = subprocess.run([python, '-c', program], capture_output=True, text=True, check=True)
    return tuple(int(part) for part in done.stdout.strip().split('.')[:2])


def read(python, output, *roots):
    """Load datasets with both video backends; return arrays ``<dataset>/<backend>/<key>``."""
    script = Path(__file__).with_name('lerobot_frames.py')
    done = subprocess.run([python, script, output, *roots], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return np.load(output)
