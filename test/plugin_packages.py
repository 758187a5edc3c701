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

"""Packages that add to the converter, installed for the time of a test."""

from __future__ import annotations

from contextlib import contextmanager
import importlib
from pathlib import Path
import shutil
import subprocess
import sys

from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.robots.resolve import robots
from kuavo_bag_converter.settings import known_settings
from kuavo_bag_converter.support.plugins import all_entries, plugins
from plain_robot import every, image, joint_state, ramps, Robot

EXAMPLES = Path(__file__).resolve().parent.parent / 'examples'


def build_example(folder, name='two_arms'):
    """Copy an example to a folder with the metadata that installing it gives."""
    package = shutil.copytree(EXAMPLES / name, folder / name)
    subprocess.run(
        [sys.executable, 'setup.py', '-q', 'egg_info'],
        cwd=package,
        check=True,
        capture_output=True,
    )
    return package


def write_package(folder, name, code, entry='it', group='robots', named=''):
    """Write a package ``name`` 1.0 with a module and one entry point, by default of that name."""
    metadata = folder / f'{name}-1.0.dist-info'
    metadata.mkdir(parents=True)
    (metadata / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n')
    (metadata / 'entry_points.txt').write_text(
        f'[kuavo_bag_converter.{group}]\n{named or name} = module_of_{name}:{entry}\n'
    )
    (folder / f'module_of_{name}.py').write_text(code)
    return folder


@contextmanager
def installed(*folders):
    """Let the packages in folders be installed."""
    before, modules = list(sys.path), set(sys.modules)
    sys.path[:0] = map(str, folders)
    try:
        _look_again()
        yield
    finally:
        sys.path[:] = before
        for name in set(sys.modules) - modules:
            if any(str(getattr(sys.modules[name], '__file__', '')).startswith(str(folder))
                   for folder in folders):  # fmt: skip
                del sys.modules[name]
        _look_again()


def _look_again():
    importlib.invalidate_caches()
    for cached in (all_entries, plugins, robots, known_settings):
        cached.cache_clear()


def command(capsys, *arguments):
    """Run a command line; return its exit code, what it prints and its errors."""
    capsys.readouterr()
    code = cli.run(list(map(str, arguments)))
    return code, *capsys.readouterr()


def two_arms_bag(path, *, sides=('left', 'right'), seconds=2.0, camera_hz=30):
    """Write a bag of the example's robot; joint k begins at k and goes k + 1 rad/s."""
    robot = Robot()
    robot.publish('/camera/image_raw', every(camera_hz, seconds), image('head_cam_h'))
    for side in sides:
        robot.publish(f'/{side}_arm/joint_states', every(100, seconds), joint_state(ramps(7)))
        robot.publish(f'/{side}_arm/joint_commands', every(100, seconds), joint_state(ramps(7)))
    return robot.write(path)
