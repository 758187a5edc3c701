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

"""``ros2 bag to_lerobot`` and what ``ros2 run`` starts are the command line."""

import importlib.util
import os
from pathlib import Path
import subprocess
import sys

from conversions import write_samples
import pytest
from ros_modules import add_package
from test_package import setup_arguments  # noqa: F401  # a fixture

ROOT = Path(__file__).resolve().parent.parent
NAME = 'kuavo_bag_converter'
ROS2 = 'import sys; from ros2cli.cli import main; sys.argv[0] = "ros2"; sys.exit(main())'
COMMAND = f"""#!{sys.executable}
import sys
from {NAME}.__main__ import main
sys.exit(main())
"""


def run(*words, **options):
    return subprocess.run([*map(str, words)], capture_output=True, text=True, **options)


@pytest.fixture
def installed(tmp_path, monkeypatch, setup_arguments):  # noqa: F811
    """Install the entry points and executables of the package under test."""
    prefix = tmp_path / 'prefix'
    metadata = prefix / 'python' / f'{NAME}-0.0.0.dist-info'
    metadata.mkdir(parents=True)
    (metadata / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {NAME}\nVersion: 0.0.0\n')
    groups = setup_arguments['entry_points'].items()
    lines = [line for group, entries in groups for line in (f'[{group}]', *entries)]
    (metadata / 'entry_points.txt').write_text('\n'.join(lines))
    add_package(prefix, NAME)
    folder = prefix / 'lib' / NAME
    folder.mkdir(parents=True)
    files = dict(setup_arguments['data_files'])[f'lib/{NAME}']
    for file in files:
        (folder / Path(file).name).symlink_to(ROOT / file)
    command = folder / NAME
    command.write_text(COMMAND)
    command.chmod(0o755)
    monkeypatch.setenv('PYTHONPATH', f'{prefix / "python"}:{ROOT}', prepend=os.pathsep)
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(prefix), prepend=os.pathsep)
    return folder


def test_the_executables_of_ros2_run_are_the_commands(installed, tmp_path):
    (bag,) = write_samples(tmp_path, 1, seconds=1.5, size=(60, 80), extras=False)
    for name in ('convert', 'inspect', 'verify', 'watch'):
        done = run(installed / name, '--help')
        assert done.returncode == 0
        assert f'usage: python -m {NAME} {name} ' in done.stdout
    done = run(installed / 'inspect', bag)
    assert done.returncode == 0
    assert bag.name in done.stdout


def ros2(*words):
    needed = {'bag': 'ros2bag', 'run': 'ros2run'}[words[0]]
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f'no {needed} here: needs a sourced ROS 2')
    return run(sys.executable, '-c', ROS2, *words)


def test_ros2_run_finds_them(installed, tmp_path):
    done = ros2('run', NAME, 'convert', tmp_path / 'absent.bag', '-o', tmp_path / 'set')
    assert done.returncode == 2
    assert 'absent.bag: does not exist' in done.stderr


def test_ros2_bag_converts_as_the_command_does(installed, tmp_path):
    (bag,) = write_samples(tmp_path, 1, seconds=1.5, size=(60, 80), extras=False)
    words = ['--set', 'sample_drop=0', '--set', 'resize={width: 80, height: 60}']
    done = ros2('bag', 'to_lerobot', bag, '-o', tmp_path / 'set', *words)
    assert done.returncode == 0, done.stderr
    assert '1 episode, ' in done.stdout
    assert (tmp_path / 'set/meta/info.json').is_file()
    assert ros2('bag', 'to_lerobot', bag, '-o', tmp_path / 'set').returncode == 2


@pytest.mark.parametrize(
    ('words', 'expected'),
    [
        (['absent.bag', '-o', 'set'], 'error: absent.bag: does not exist'),
        (['absent.bag'], 'error: output: no folder given'),
        (['absent.bag', '-o', 'set', '--set', 'train_hzz=5'], "did you mean 'train_hz'?"),
        (['--no-such-option'], 'unrecognized arguments: --no-such-option'),
    ],
)
def test_ros2_bag_says_wrong_use_in_one_line(words, expected, installed):
    done = ros2('bag', 'to_lerobot', *words)
    assert done.returncode == 2
    assert expected in done.stderr
    assert 'Traceback' not in done.stderr


def test_ros2_bag_lists_it_with_its_settings(installed):
    assert 'to_lerobot' in ros2('bag', '-h').stdout
    assert '--train-hz N' in ros2('bag', 'to_lerobot', '-h').stdout
