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

"""Interpreters with a real LeRobot: of KUAVO_LEROBOT_PYTHON, and this one where it has it."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
import os
from pathlib import Path
import subprocess
import sys

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
