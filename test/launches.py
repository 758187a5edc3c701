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

"""Launch files as ``ros2 launch`` runs them, with the package under test as it is installed."""

from __future__ import annotations

import os
from pathlib import Path
import sys

import ros_domain
from ros_modules import add_package

ROOT = Path(__file__).resolve().parent.parent
NAME = 'kuavo_bag_converter'
LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
file, *arguments = sys.argv[1:]
service = LaunchService(argv=arguments)
include = IncludeLaunchDescription(
    PythonLaunchDescriptionSource(file),
    launch_arguments=[tuple(argument.split(':=', 1)) for argument in arguments],
)
service.include_launch_description(LaunchDescription([include]))
sys.exit(service.run())
"""
"""What ``ros2 launch`` does with a launch file; for a process of its own: launch keeps state."""
_NODE = """#!{python}
import sys
from {name}.node.{node} import main
sys.exit(main())
"""


def install(folders, monkeypatch, node):
    """Put a node of the package under test where launch finds it, installed or not."""
    prefix = folders.mktemp('prefix')
    add_package(prefix, NAME)
    text = _NODE.format(python=sys.executable, name=NAME, node=node)
    write_program(prefix / 'lib' / NAME / node, text)
    for variable, first in (('AMENT_PREFIX_PATH', prefix), ('PYTHONPATH', ROOT)):
        monkeypatch.setenv(variable, str(first), prepend=os.pathsep)
    for name, value in ros_domain.environment(folders.mktemp('log')).items():
        monkeypatch.setenv(name, value)


def write_program(path, text):
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(0o755)


def words(file, arguments):
    """Return the command that launches a file with arguments."""
    given = [f'{name}:={value}' for name, value in arguments.items()]
    return [sys.executable, '-c', LAUNCH, str(file), *given]
