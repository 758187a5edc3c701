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

"""Broken bags, pictures and definitions raise nothing but errors that a user may see."""

from __future__ import annotations

import os
from pathlib import Path
import re
import subprocess
import sys

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
    assert re.match(
        rf'{RUNS} runs in .*bag, .*definition, .*picture, .*raw, .*stream', done.stdout
    )
