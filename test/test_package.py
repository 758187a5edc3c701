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

"""The package's own files agree: what colcon, rosdep, pip and a reader see is one package."""

import ast
from pathlib import Path
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import kuavo_bag_converter
import pytest

ROOT = Path(__file__).resolve().parent.parent
NAME = 'kuavo_bag_converter'


@pytest.fixture(scope='module')
def manifest():
    return ET.parse(ROOT / 'package.xml').getroot()


@pytest.fixture(scope='module')
def setup_arguments():
    """Return what setup.py passes to setuptools."""
    program = """
import setuptools
setuptools.setup = lambda **arguments: print(repr(arguments))
setuptools.Extension = lambda name, sources, **_: (name, sources)
exec(compile(open('setup.py').read(), 'setup.py', 'exec'), {'__file__': 'setup.py'})
"""
    done = subprocess.run(
        [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return ast.literal_eval(done.stdout)


def test_the_version_is_the_same_everywhere(manifest, setup_arguments):
    version = kuavo_bag_converter.__version__
    assert manifest.findtext('version') == version
    assert setup_arguments['version'] == version
    assert re.search(
        rf'^{re.escape(version)} ', (ROOT / 'CHANGELOG.rst').read_text(), re.MULTILINE
    )


def test_name_maintainer_and_license_are_the_same_everywhere(manifest, setup_arguments):
    assert manifest.findtext('name') == setup_arguments['name'] == NAME
    maintainer = manifest.find('maintainer')
    assert maintainer.text == setup_arguments['maintainer']
    assert maintainer.get('email') == setup_arguments['maintainer_email']
    assert manifest.findtext('license') == setup_arguments['license'] == 'Apache-2.0'
    text = (ROOT / 'LICENSE').read_text()
    assert 'Apache License' in text
    assert 'END OF TERMS AND CONDITIONS' in text


def test_every_source_file_begins_with_the_licence_as_ament_copyright_knows_it():
    header = (ROOT / 'setup.py').read_text().partition('\n\n')[0] + '\n\n'
    assert header.startswith('# Copyright 2026 The kuavo_bag_converter maintainers\n#\n# Licensed')
    folders = [ROOT / name for name in (NAME, 'launch', 'test', 'examples', 'scripts')]
    paths = [ROOT / 'setup.py', *(path for folder in folders for path in folder.rglob('*.py'))]
    texts = {path: re.sub(r'^#!.*\n', '', path.read_text()) for path in paths}
    assert len(texts) > 200
    assert [path for path, text in texts.items() if text and not text.startswith(header)] == []


def test_addresses_are_the_same_everywhere_and_of_the_maintainers_domain(
    manifest, setup_arguments
):
    address = manifest.find('maintainer').get('email')
    urls = {url.get('type'): url.text for url in manifest.iter('url')}
    assert urls['repository'] == setup_arguments['url']
    assert urls['bugtracker'] == setup_arguments['project_urls']['Issues']
    domain = address.partition('@')[2].removeprefix('users.noreply.')
    for url in [*urls.values(), *setup_arguments['project_urls'].values()]:
        assert url.startswith(f'https://{domain}/{NAME}')
    assert address in (ROOT / 'SECURITY.md').read_text()


def test_a_maintainer_address_that_colcon_refuses_would_be_noticed(manifest):
    # Colcon then takes the package for one without ROS, after no more than a warning.
    address = manifest.find('maintainer').get('email')
    assert re.fullmatch(
        r'[-\w%+]+(\.[-\w%+]+)*@[-a-zA-Z0-9%]+(\.[-a-zA-Z0-9%]+)*\.[a-zA-Z]{2,}', address
    )


def test_it_is_an_ament_python_package(manifest, setup_arguments):
    assert manifest.get('format') == '3'
    assert manifest.findtext('export/build_type') == 'ament_python'
    installed = dict(setup_arguments['data_files'])
    assert installed['share/ament_index/resource_index/packages'] == [f'resource/{NAME}']
    assert installed[f'share/{NAME}'] == ['package.xml']
    assert 'pytest' in setup_arguments['extras_require']['test']


def test_every_launch_and_config_file_is_installed_where_it_lies(setup_arguments):
    installed = {
        f'{folder}/{Path(file).name}': file
        for folder, files in setup_arguments['data_files']
        for file in files
    }
    files = [*(ROOT / 'launch').rglob('*.launch.py'), *(ROOT / 'config').rglob('*.yaml')]
    assert files
    for file in files:
        relative = str(file.relative_to(ROOT))
        assert installed[f'share/{NAME}/{relative}'] == relative


def test_every_python_package_is_installed(setup_arguments):
    folders = {file.parent for file in (ROOT / NAME).rglob('*.py')}
    assert set(setup_arguments['packages']) == {
        '.'.join(folder.relative_to(ROOT).parts) for folder in folders
    }


def test_every_data_file_of_the_package_is_installed(setup_arguments):
    patterns = setup_arguments['package_data']['']
    for file in (ROOT / NAME).rglob('*'):
        if file.is_file() and file.suffix not in {'.py', '.pyc', '.c', '.so'}:
            assert any(file.match(pattern) for pattern in patterns), file


def names_of_requirements(setup_arguments):
    return {re.split('[<>=]', line)[0].lower() for line in setup_arguments['install_requires']}


def test_every_requirement_is_in_the_manifest(manifest, setup_arguments):
    # A key of rosdep, or, where there is none, the name of the PyPI package in a comment.
    text = (ROOT / 'package.xml').read_text()
    for name in names_of_requirements(setup_arguments):
        keyed = {'opencv-python-headless': 'python3-opencv', 'pyyaml': 'python3-yaml'}
        assert re.search(rf'[>, ](python3-)?{keyed.get(name, name)}(-pip)?[<,. \n]', text), name


def test_everything_that_is_imported_is_a_requirement_or_a_dependency(manifest, setup_arguments):
    # All but the benchmark's, which names its extras itself, and the action's, which is a group's.
    known = names_of_requirements(setup_arguments) | {f'{NAME}_interfaces'}
    known |= {'argcomplete', 'duckdb', 'fsspec', 'huggingface_hub', 'ray'}  # of extras
    known |= {item.text for item in manifest.iter('exec_depend')} | {NAME, 'cv2', 'yaml'}
    for path in (ROOT / NAME).rglob('*.py'):
        if 'benchmark' in path.parts:
            continue
        for module in imported(ast.parse(path.read_text())):
            assert module in known or module in sys.stdlib_module_names, f'{path}: {module}'


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split('.')[0]


def test_commands_start_functions_that_exist(setup_arguments):
    commands = dict(
        entry.split(' = ') for entry in setup_arguments['entry_points']['console_scripts']
    )
    assert set(commands) == {'convert_node', 'convert_server', 'watch_node', NAME, 'kbc'}
    verbs = dict(entry.split(' = ') for entry in setup_arguments['entry_points']['ros2bag.verb'])
    for target in (*commands.values(), *verbs.values()):
        module, function = target.split(':')
        source = ROOT / f'{module.replace(".", "/")}.py'
        names = {item.name for item in ast.parse(source.read_text()).body if hasattr(item, 'name')}
        assert function in names


def test_executables_go_where_ros2_run_looks(setup_arguments):
    for file in dict(setup_arguments['data_files'])[f'lib/{NAME}']:
        assert (ROOT / file).stat().st_mode & 0o111 == 0o111
    text = (ROOT / 'setup.cfg').read_text()
    assert f'[develop]\nscript_dir=$base/lib/{NAME}\n' in text
    assert f'[install]\ninstall_scripts=$base/lib/{NAME}\n' in text
