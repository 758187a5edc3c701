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

"""The launch file starts the node as asked, ends with it and fails as it does."""

import importlib.util
import os
from pathlib import Path
import subprocess
import sys

import pytest
import ros_domain

if importlib.util.find_spec('launch_ros') is None:
    pytest.skip('no launch_ros here: needs a sourced ROS 2', allow_module_level=True)

from launch import LaunchContext
from launch.launch_description_sources import PythonLaunchDescriptionSource

ROOT = Path(__file__).resolve().parent.parent
NAME = 'kuavo_bag_converter'
FILE = ROOT / 'launch' / 'convert.launch.py'
NODE = f"""#!{sys.executable}
import sys
from {NAME}.node.convert_node import main
sys.exit(main())
"""
# What ``ros2 launch`` does with a launch file; a process of its own, because launch keeps state.
LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
file, *arguments = sys.argv[1:]
service = LaunchService()
include = IncludeLaunchDescription(
    PythonLaunchDescriptionSource(file),
    launch_arguments=[tuple(argument.split(':=', 1)) for argument in arguments],
)
service.include_launch_description(LaunchDescription([include]))
sys.exit(service.run())
"""


@pytest.fixture(autouse=True)
def installed(tmp_path_factory, monkeypatch):
    """Return the package under test as launch finds it, installed or not."""
    prefix = tmp_path_factory.mktemp('prefix')
    index = prefix / 'share/ament_index/resource_index/packages'
    index.mkdir(parents=True)
    (index / NAME).touch()
    executable = prefix / 'lib' / NAME / 'convert_node'
    executable.parent.mkdir(parents=True)
    executable.write_text(NODE)
    executable.chmod(0o755)
    for variable, first in (('AMENT_PREFIX_PATH', prefix), ('PYTHONPATH', ROOT)):
        monkeypatch.setenv(variable, str(first), prepend=os.pathsep)
    for name, value in ros_domain.environment(tmp_path_factory.mktemp('log')).items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp('bag folder') / 'sample'
    program = [sys.executable, '-m', NAME, 'sample', path, '--seconds', '2', '--size', '160x120']
    subprocess.run(program, cwd=ROOT, check=True, capture_output=True)
    return path


def launch(**arguments):
    words = [f'{name}:={value}' for name, value in arguments.items()]
    return subprocess.run(
        [sys.executable, '-c', LAUNCH, FILE, *words], capture_output=True, text=True, timeout=120
    )


def test_bags_are_converted_and_the_launch_ends(bag, tmp_path):
    settings = tmp_path / 'params.yaml'
    settings.write_text(
        '/**:\n'
        '  ros__parameters:\n'
        '    sample_drop: 0\n'
        '    resize: {width: 160, height: 120}\n'
        '    output: /not/this\n'
        'convert_node:\n'
        '  ros__parameters:\n'
        '    bags: [/nor/this]\n'
    )
    output = tmp_path / 'dataset'
    done = launch(bags=f'["{bag}"]', output=output, params_file=settings)
    assert done.returncode == 0, done.stdout
    assert (output / 'meta' / 'info.json').is_file()


def test_the_launch_fails_if_the_node_does(tmp_path):
    output = tmp_path / 'dataset'
    absent = [tmp_path / 'absent.bag', tmp_path / 'absent too.bag']
    done = launch(bags=f'{absent[0]} "{absent[1]}"', output=output)
    assert done.returncode == 1
    assert str(absent[0]) in done.stdout
    assert not output.exists()


def test_the_launch_fails_if_a_setting_is_wrong(tmp_path):
    settings = tmp_path / 'params.yaml'
    settings.write_text('/**: {ros__parameters: {train_hzz: 5}}\n')
    done = launch(params_file=settings)
    assert done.returncode == 1
    assert "did you mean 'train_hz'?" in done.stdout


def test_arguments_are_described():
    source = PythonLaunchDescriptionSource(str(FILE))
    description = source.get_launch_description(LaunchContext())
    arguments = {item.name: item for item in description.get_launch_arguments()}
    assert set(arguments) == {'bags', 'output', 'params_file'}
    assert all(item.description for item in arguments.values())
