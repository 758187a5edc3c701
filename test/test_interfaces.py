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

"""The package of the action's type (interfaces/): what colcon finds, and what its files say."""

from dataclasses import fields
import importlib.util
from pathlib import Path
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

from kuavo_bag_converter.jobs.report import Outcome
from kuavo_bag_converter.settings import known_settings
import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / 'interfaces'
NAME = 'kuavo_bag_converter'
COLCON = 'import sys; from colcon_core.command import main; sys.exit(main())'


def names_found(folder, *base_paths):
    """Return the packages that colcon finds, with their build types."""
    if importlib.util.find_spec('colcon_core') is None:
        pytest.skip('no colcon here: needs colcon-common-extensions')
    done = subprocess.run(
        [sys.executable, '-c', COLCON, 'list', *base_paths],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split('\t') for line in done.stdout.splitlines()]
    return {name: kind for name, _, kind in lines}


BOTH = {NAME: '(ros.ament_python)', f'{NAME}_interfaces': '(ros.ament_cmake)'}


def test_a_workspace_finds_it_by_a_link_or_a_base_path_and_does_well_without(tmp_path):
    source = tmp_path / 'src'
    source.mkdir()
    (source / NAME).symlink_to(ROOT)
    assert names_found(tmp_path) == {NAME: BOTH[NAME]}
    assert names_found(tmp_path, '--base-paths', 'src', f'src/{NAME}/interfaces') == BOTH
    (source / f'{NAME}_interfaces').symlink_to(f'{NAME}/interfaces')
    assert names_found(tmp_path) == BOTH


def test_the_packages_belong_together():
    own, other = (ET.parse(folder / 'package.xml').getroot() for folder in (ROOT, FOLDER))
    for tag in ('version', 'maintainer', 'license', 'url'):
        assert [item.text for item in own.iter(tag)] == [item.text for item in other.iter(tag)]
    assert (FOLDER / 'LICENSE').read_text() == (ROOT / 'LICENSE').read_text()
    # A dependency only where it is in the workspace.
    (group,) = [item.text for item in own.iter('group_depend')]
    groups = [item.text for item in other.iter('member_of_group')]
    assert groups == ['rosidl_interface_packages', group]
    assert f'{NAME}_interfaces' not in [item.text for item in own]
    # The schema wants groups behind all else.
    assert [item.tag for item in own][-2:] == ['group_depend', 'export']
    assert [item.tag for item in other][-3:] == [*['member_of_group'] * 2, 'export']


def test_every_type_is_generated_and_every_package_is_named_that_it_needs():
    text = (FOLDER / 'CMakeLists.txt').read_text()
    types = {str(path.relative_to(FOLDER)) for path in FOLDER.glob('*/*')}
    assert types == set(re.findall(r'^  ((?:action|msg)/\S+)$', text, re.MULTILINE))
    manifest = ET.parse(FOLDER / 'package.xml').getroot()
    needed = {item.text for tag in ('depend', 'buildtool_depend') for item in manifest.iter(tag)}
    assert set(re.findall(r'find_package\((\w+) REQUIRED\)', text)) == needed
    (generated,) = re.findall(r'DEPENDENCIES (.*)', text)
    assert set(generated.split()) == {item.text for item in manifest.iter('depend')}


def names_in(text):
    return re.findall(r'^[\w/]+(?:\[\])? +(\w+)', text, re.MULTILINE)


def test_fields_have_the_names_of_what_they_hold():
    goal = (FOLDER / 'action/Convert.action').read_text().split('---')[0]
    assert set(names_in(goal)) - {'settings'} <= set(known_settings())
    outcome = names_in((FOLDER / 'msg/BagOutcome.msg').read_text())
    assert set(outcome) <= {item.name for item in fields(Outcome)}
