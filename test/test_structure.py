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

"""The parts of the package depend one way, and the pure ones load no reader and no ROS."""

import ast
from pathlib import Path
import re
import subprocess
import sys

import pytest

NAME = 'kuavo_bag_converter'
ROOT = Path(__file__).resolve().parent.parent

LAYERS = """
    support
    settings  support.remote
    bags
    messages  profiles
    alignment  robots
    dataset
    sample  check
    jobs.executors
    frames
    inspection  replay
    jobs.folders
    jobs
    jobs.joining
    api
    node
    benchmark
    cli
    __main__
"""
"""Each imports from lines above its own, and from itself."""
LEVEL = {unit: level for level, line in enumerate(LAYERS.split('\n')) for unit in line.split()}
ROS = {
    'rclpy': 'node',
    'rosbag2_py': 'bags/rosbag2/backend.py',
    'cv_bridge': 'messages/cv_bridge_backend.py',
}
"""Modules of ROS and the only file or folder that imports them."""


def unit_of(module):
    """Return the longest name in the list that the module lies in."""
    parts = module.split('.')
    names = ['.'.join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((name for name in names if name in LEVEL), None)


def imports_of(path):
    """Return what a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: relative import'
            for alias in node.names:
                inner = ROOT.joinpath(*node.module.split('.'), alias.name)
                is_module = inner.is_dir() or inner.with_suffix('.py').exists()
                yield f'{node.module}.{alias.name}' if is_module else node.module


def modules():
    for path in sorted((ROOT / NAME).rglob('*.py')):
        parts = path.relative_to(ROOT / NAME).with_suffix('').parts
        if parts[-1] != '__init__':
            yield '.'.join(parts), path


def test_every_module_has_its_place():
    assert [module for module, _ in modules() if unit_of(module) is None] == []


def test_no_module_imports_from_its_own_layer_or_one_above():
    wrong = []
    for module, path in modules():
        own = unit_of(module)
        for name in imports_of(path):
            other = unit_of(name.removeprefix(f'{NAME}.')) if name.startswith(f'{NAME}.') else None
            if other not in (None, own) and LEVEL[other] >= LEVEL[own]:
                wrong.append(f'{module} imports {name}')
    assert wrong == []


def test_ros_is_imported_by_its_backends_alone():
    found = {
        (name.partition('.')[0], path.relative_to(ROOT / NAME))
        for _, path in modules()
        for name in imports_of(path)
        if name.partition('.')[0] in ROS
    }
    assert {module for module, _ in found} == set(ROS)
    for module, path in found:
        assert Path(ROS[module]) in (path, *path.parents), f'{path} imports {module}'


@pytest.mark.parametrize(
    'module',
    ['alignment.planning', 'profiles.loader', 'dataset.assemble', 'check.dataset', 'cli.main'],
)
def test_what_reads_no_bag_loads_no_reader(module):
    program = f"""
import sys
import {NAME}.{module}
print(*(name for name in ('{NAME}.bags.open', 'rclpy', 'rosbag2_py') if name in sys.modules))
"""
    done = subprocess.run(
        [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_no_slice_has_a_blank_before_its_colon():
    """The formatter writes one where a bound is no name, which ament_flake8 refuses (E203)."""
    blank = re.compile(r"""\[[^\]'"`#]*[\w)] :[ \]]""")
    found = [
        f'{path.relative_to(ROOT)}:{number}'
        for folder in (NAME, 'test', 'launch', 'scripts', 'examples')
        for path in sorted((ROOT / folder).rglob('*.py'))
        for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), start=1)
        if blank.search(line)
    ]
    assert found == [], 'write slice(a, b)'
