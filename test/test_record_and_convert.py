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

"""What ``record_and_convert.launch.py`` records is in the dataset when the launch has ended."""

import importlib.util
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time

from conversions import numbers, rows
from launches import install, words, write_program
import pytest

if any(importlib.util.find_spec(name) is None for name in ('launch_ros', 'sensor_msgs')):
    pytest.skip('no launch_ros here: needs a sourced ROS 2', allow_module_level=True)

from kuavo_bag_converter.jobs.watch import WatchOptions  # noqa: I100
from kuavo_bag_converter.settings import described, known_settings
from launch import LaunchContext
from launch.launch_description_sources import PythonLaunchDescriptionSource
from ros_recording import PROFILE, TOPICS

TEST = Path(__file__).resolve().parent
FILE = TEST.parent / 'launch' / 'record_and_convert.launch.py'
PATIENCE_S = 120
# Stands in for ``ros2 bag record --topics ...`` where there is no recorder.
ROS2 = f"""#!{sys.executable}
import os, runpy, sys
assert sys.argv[1:4] == ['bag', 'record', '--topics'], sys.argv
assert sys.argv[4:] == {[*TOPICS]!r}
sys.path.insert(0, {str(TEST)!r})
sys.argv[1:] = ['record', os.path.join(os.getcwd(), 'run')]
runpy.run_path({str(TEST / 'ros_recording.py')!r}, run_name='__main__')
"""


def has_recorder():
    return shutil.which('ros2') and importlib.util.find_spec('rosbag2_py') is not None


@pytest.fixture(autouse=True)
def installed(tmp_path_factory, monkeypatch):
    """Put the package under test, and a recorder, where launch finds them."""
    install(tmp_path_factory, monkeypatch, 'watch_node')
    if not has_recorder():
        folder = tmp_path_factory.mktemp('programs')
        write_program(folder / 'bin' / 'ros2', ROS2)
        monkeypatch.setenv('PATH', str(folder / 'bin'), prepend=os.pathsep)
        monkeypatch.setenv('ROS_DISTRO', 'jazzy')


def launch(**arguments):
    return subprocess.Popen(
        words(FILE, arguments),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.mark.parametrize('who', ['everybody', 'the recorder'])
def test_what_is_recorded_is_in_the_dataset_when_the_launch_ends(who, tmp_path):
    profile = tmp_path / 'arm.yaml'
    profile.write_text(PROFILE)
    folder, output = tmp_path / 'recordings', tmp_path / 'dataset'
    robot = subprocess.Popen([sys.executable, TEST / 'ros_recording.py', 'publish'])
    run = launch(
        topics=' '.join(TOPICS), folder=folder, output=output, profile=profile, poll_s=0.2,
        priority='normal',
    )  # fmt: skip
    try:
        end = time.monotonic() + PATIENCE_S
        while sum(path.stat().st_size for path in folder.glob('*/*')) < 20000:
            assert time.monotonic() < end
            assert run.poll() is None
            time.sleep(0.1)
        assert not output.exists()
        if who == 'everybody':
            os.killpg(run.pid, signal.SIGINT)  # as a terminal does at Ctrl-C
        else:
            found = subprocess.run(
                ['pgrep', '-g', str(run.pid), '-f', 'bag record'],
                stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            os.kill(int(found.stdout.split()[0]), signal.SIGINT)
        text, _ = run.communicate(timeout=PATIENCE_S)
    finally:
        for process in (robot, run):
            process.kill()
            process.wait()
    assert run.returncode == 0, text
    joints = rows(output)['observation.state'].ravel()
    shown = [number for _, number in numbers(output, 'observation.images.camera')]
    assert len(shown) >= 3
    assert shown == [*joints]


def test_a_setting_that_is_wrong_ends_the_recorder_and_fails_the_launch(tmp_path):
    run = launch(
        topics=' '.join(TOPICS), folder=tmp_path / 'in', output=tmp_path / 'out', profile='none'
    )
    text, _ = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 1
    assert "'none'" in text
    assert 'watch_node ended with exit code 2' in text
    assert not (tmp_path / 'out').exists()


def test_a_recorder_that_cannot_record_fails_the_launch(tmp_path):
    profile = tmp_path / 'arm.yaml'
    profile.write_text(PROFILE)
    run = launch(
        topics='/not/the/recorder', record_arguments='--no-such-option', folder=tmp_path / 'in',
        output=tmp_path / 'out', profile=profile, poll_s=0.2,
    )  # fmt: skip
    text, _ = run.communicate(timeout=PATIENCE_S)
    assert 'ros2 bag record ended with exit code' in text
    assert run.returncode == 1


def test_settings_and_options_are_arguments():
    source = PythonLaunchDescriptionSource(str(FILE))
    description = source.get_launch_description(LaunchContext())
    arguments = {item.name: item for item in description.get_launch_arguments()}
    own = {'params_file', 'log_level', 'topics', 'folder', 'storage', 'record_arguments'}
    fixed = {'bags', 'once', 'finish'}
    assert set(arguments) == {*known_settings(), *described(WatchOptions), *own} - fixed
    assert all(item.description for item in arguments.values())
