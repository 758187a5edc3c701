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

"""The linters of ament, where they are installed, have nothing to say."""

import importlib.util
import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ('kuavo_bag_converter', 'examples', 'launch', 'scripts', 'setup.py', 'test')


@pytest.mark.parametrize('linter', ['copyright', 'flake8', 'pep257', 'xmllint'])
def test_it_finds_nothing(linter):
    module = f'ament_{linter}'
    if importlib.util.find_spec(module) is None:
        pytest.skip(f'no {module} here: needs a sourced ROS 2 with ros-$ROS_DISTRO-ament-lint')
    if linter == 'xmllint' and shutil.which('xmllint') is None:
        pytest.skip('no xmllint here: apt install libxml2-utils')
    manifests = ['package.xml', 'interfaces/package.xml']
    paths = manifests if linter == 'xmllint' else SOURCES
    done = subprocess.run(
        [sys.executable, '-m', f'{module}.main', *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONWARNINGS': 'ignore'},
    )
    if 'failed to load' in done.stdout + done.stderr:
        pytest.skip('the schema of package.xml cannot be reached from here')
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
