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

"""What contributors and their services are given is there, and says the same everywhere."""

from __future__ import annotations

import os
from pathlib import Path
import re

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / '.github/workflows').glob('*.yml'))


def requirements(name):
    """Return the lines of a file of requirements that ask for something, by package."""
    lines = [line.partition('#')[0].strip() for line in (ROOT / name).read_text().splitlines()]
    return {line: re.split(r'[<>=!; ]', line)[0].lower() for line in lines if line}


@pytest.fixture(scope='module')
def hooks():
    document = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())
    return {
        hook['id']: (repo['rev'], hook) for repo in document['repos'] for hook in repo['hooks']
    }


@pytest.fixture(scope='module')
def jobs():
    """Return the jobs of all workflows."""
    documents = [yaml.safe_load(path.read_text()) for path in WORKFLOWS]
    return {name: job for document in documents for name, job in document['jobs'].items()}


def test_tools_have_the_same_versions_everywhere(hooks):
    tools = requirements('.ci/requirements.txt')
    pins = {line.partition('==')[0]: line.partition('==')[2] for line in tools}
    for hook, tool in (('ruff-check', 'ruff'), ('ruff-format', 'ruff'), ('mypy', 'mypy')):
        assert hooks[hook][0] == f'v{pins[tool]}'


def test_types_are_checked_against_the_same_packages_everywhere(hooks):
    tools = requirements('.ci/requirements.txt')
    pinned = {line for line, name in tools.items() if name not in ('mypy', 'ruff')}
    names = {tools[line] for line in pinned}
    others = {line for line, name in requirements('requirements.txt').items() if name not in names}
    # Of PyYAML its types are enough.
    others = {line for line in others if not line.startswith('PyYAML')}
    assert set(hooks['mypy'][1]['additional_dependencies']) == pinned | others


def test_the_lowest_versions_are_those_that_are_stated():
    lowest = requirements('scripts/requirements-lowest.txt')
    versions = {name: line.partition('==')[2] for line, name in lowest.items()}
    stated = requirements('requirements.txt')
    assert set(stated.values()) <= set(versions)
    for line, name in stated.items():
        bound = re.search(r'>=([0-9.]+)', line)
        assert bound is None or f'{versions[name]}.'.startswith(f'{bound[1]}.'), line


def test_commands_are_the_same_in_makefile_and_contributing():
    text = (ROOT / 'Makefile').read_text()
    targets = re.findall(r'^([a-z]+): ## ', text, re.MULTILINE)
    assert f'.PHONY: {" ".join(targets)}\n' in text
    guide = (ROOT / 'CONTRIBUTING.md').read_text()
    listed = re.findall(r'^\| `make ([a-z]+)` \|', guide, re.MULTILINE)
    assert ['help', *listed] == targets
    scripts = re.findall(r'^\t(\S+/\S+)', text, re.MULTILINE)
    assert len(scripts) >= len(listed)
    for script in scripts:
        assert os.access(ROOT / script, os.X_OK), script


def test_every_python_that_is_promised_is_tested_and_stated(jobs):
    tested = jobs['tests']['strategy']['matrix']['python']
    assert jobs['lint']['steps'][1]['with']['python-version'] == tested[0]
    setup = (ROOT / 'setup.py').read_text()
    assert re.findall(r"Programming Language :: Python :: (3\.\d+)'", setup) == tested
    assert f"python_requires='>={tested[0]}'" in setup


def test_every_distro_is_tested_in_a_workspace_and_in_a_sourced_shell(jobs):
    for name in ('workspace', 'sourced'):
        entries = jobs[name]['strategy']['matrix']['include']
        assert [entry['distro'] for entry in entries] == ['humble', 'jazzy', 'kilted']


def test_workflows_use_scripts_that_exist_and_actions_of_fixed_versions(jobs):
    steps = [step for job in jobs.values() for step in job['steps']]
    used = [step['uses'] for step in steps if 'uses' in step]
    assert used
    used.remove('ros-industrial/industrial_ci@master')  # it has no versions
    assert all(re.fullmatch(r'[\w-]+/[\w-]+@v\d+(\.\d+)*', action) for action in used), used
    commands = '\n'.join(step.get('run', '') for step in steps)
    scripts = set(re.findall(r'(?:^|\s)((?:scripts|\.ci)/\w+)', commands))
    assert scripts == {
        '.ci/run', 'scripts/coverage', 'scripts/lerobot_reader', 'scripts/lint', 'scripts/test',
        'scripts/test_action', 'scripts/test_lowest',
    }  # fmt: skip
    assert all(os.access(ROOT / script, os.X_OK) for script in scripts)
