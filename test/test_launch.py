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
import json
import subprocess
import sys

from kuavo_bag_converter.settings import known_settings
from launches import install, ROOT, words
import pytest

if importlib.util.find_spec('launch_ros') is None:
    pytest.skip('no launch_ros here: needs a sourced ROS 2', allow_module_level=True)

from launch import LaunchContext  # noqa: I100
from launch.launch_description_sources import PythonLaunchDescriptionSource

NAME = 'kuavo_bag_converter'
FILE = ROOT / 'launch' / 'convert.launch.py'


@pytest.fixture(autouse=True)
def installed(tmp_path, tmp_path_factory, monkeypatch):
    install(tmp_path_factory, monkeypatch, 'convert_node')
    monkeypatch.setenv('HOME', str(tmp_path))


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp('bag folder') / 'sample'
    program = [sys.executable, '-m', NAME, 'sample', path, '--seconds', '2', '--size', '160x120']
    subprocess.run(program, cwd=ROOT, check=True, capture_output=True)
    return path


def launch(file=FILE, **arguments):
    return subprocess.run(words(file, arguments), capture_output=True, text=True, timeout=120)


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


def settings_of_launch(output):
    """Return the settings that the dataset of a launch was made with."""
    report = json.loads((output / 'conversion' / 'report.json').read_text())
    return report['settings']


def test_every_setting_is_an_argument(bag, tmp_path, monkeypatch):
    (tmp_path / '2024').symlink_to(bag)
    (tmp_path / 'msgs').mkdir()
    monkeypatch.chdir(tmp_path)
    size = {'resize.width': 160, 'resize.height': 120}
    done = launch(
        bags='2024', output='~/dataset', train_hz=15, check_disk='false', msg_path='msgs ~',
        log_level='warn', preset='veryfast', **size,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    used = settings_of_launch(tmp_path / 'dataset')
    assert (used['train_hz'], used['resize.width'], used['preset']) == (15, 160, 'veryfast')
    assert used['check_disk'] is False
    assert used['msg_path'] == ['../msgs', './..']
    assert '[INFO] [1' not in done.stdout  # of the node


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        ({'train_hzz': 5}, "unknown argument 'train_hzz'; did you mean 'train_hz'?"),
        ({'params_file': 'absent.yaml'}, 'params_file: absent.yaml: there is no such file'),
        ({'train_hz': 'often'}, "train_hz: expected int from 1 to 1000, found 'often'"),
        ({'train_hz': '['}, "train_hz: expected int from 1 to 1000, found '['"),
    ],
)
def test_a_wrong_argument_fails_the_launch_in_one_line(arguments, expected, bag, tmp_path):
    done = launch(bags=f'"{bag}"', output=tmp_path / 'dataset', **arguments)
    assert done.returncode == 1
    assert expected in done.stdout
    assert 'Traceback' not in done.stdout + done.stderr
    assert not (tmp_path / 'dataset').exists()


PARENT = f"""
from launch import LaunchDescription
from launch.actions import ExecuteProcess, IncludeLaunchDescription, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
import sys

def generate_launch_description():
    other = ExecuteProcess(
        cmd=[sys.executable, '-c', 'import time; time.sleep(SECONDS); print("the other ends")'],
        output='screen',
    )
    include = IncludeLaunchDescription(
        PythonLaunchDescriptionSource({str(FILE)!r}), launch_arguments=ARGUMENTS.items()
    )
    return LaunchDescription([include, other])
"""


def parent(folder, seconds, **arguments):
    """Write a launch file that includes ours beside a process of its own."""
    path = folder / 'parent.launch.py'
    arguments = {name: str(value) for name, value in arguments.items()}
    path.write_text(PARENT.replace('SECONDS', str(seconds)).replace('ARGUMENTS', repr(arguments)))
    return path


@pytest.mark.parametrize('fails', [False, True])
def test_a_launch_that_includes_it_goes_on_when_the_conversion_has_ended(fails, bag, tmp_path):
    given = tmp_path / 'absent.bag' if fails else bag
    done = launch(parent(tmp_path, 8, bags=f'"{given}"', output=tmp_path / 'dataset'))
    assert done.returncode == 0, done.stdout
    assert 'the other ends' in done.stdout
    ended, others = (done.stdout.index(f'process has {how}') for how in (
        'died' if fails else 'finished cleanly', 'finished cleanly'
    ))  # fmt: skip
    assert ended <= others
    assert (tmp_path / 'dataset').exists() != fails


def test_a_name_with_an_apostrophe_is_given_as_a_yaml_list(tmp_path):
    done = launch(bags="[it's.bag]", output=tmp_path / 'dataset')
    assert done.returncode == 1
    assert "it's.bag: does not exist" in done.stdout


def test_a_launch_that_includes_it_can_end_with_it(tmp_path):
    absent = tmp_path / 'absent.bag'
    done = launch(
        parent(tmp_path, 100, bags=absent, output=tmp_path / 'dataset', shutdown_on_exit='true')
    )
    assert done.returncode == 1
    assert 'convert_node ended with exit code 2' in done.stdout


def test_arguments_are_described():
    source = PythonLaunchDescriptionSource(str(FILE))
    description = source.get_launch_description(LaunchContext())
    arguments = {item.name: item for item in description.get_launch_arguments()}
    own = {'params_file', 'log_level', 'shutdown_on_exit'}
    assert set(arguments) == {*known_settings(), *own}
    assert all(item.description for item in arguments.values())


def test_a_launch_test_drives_it_to_the_end_and_to_an_early_one(bag, tmp_path, monkeypatch):
    if importlib.util.find_spec('launch_testing') is None:
        pytest.skip('no launch_testing here: needs a sourced ROS 2')
    monkeypatch.setenv('BAG', str(bag))
    monkeypatch.setenv('OUTPUT', str(tmp_path))
    file = ROOT / 'test' / 'launch_test_convert.py'
    done = subprocess.run(
        [sys.executable, '-m', 'launch_testing.launch_test', file],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count('\nOK') == 4  # while it runs and afterwards, twice
