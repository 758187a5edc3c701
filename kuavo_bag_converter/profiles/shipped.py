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

"""The profiles and parameter files that come with the package, wherever it is installed."""

from __future__ import annotations

from pathlib import Path
import textwrap

from kuavo_bag_converter.settings import known_settings, Settings
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.files import without_package
from kuavo_bag_converter.support.plugins import plugins, ROBOTS
from kuavo_bag_converter.support.texts import did_you_mean
import yaml

_NAME = 'kuavo_bag_converter'
_WIDTH = 99
"""Of the lines of a parameter file."""


def is_path(profile: str) -> bool:
    """Tell whether a profile is given by path, not by the name of a robot or of a shipped one."""
    return '/' in profile or profile.endswith(('.yaml', '.yml'))


def file_of_profile(profile: str) -> Path:
    """
    Return the file of a profile, given by path, ``package://`` or the name of a shipped one.

    :raises UsageError: There is no shipped profile of that name, or no such package.
    """
    if is_path(profile):
        return Path(without_package(profile))
    shipped = shipped_profiles()
    if profile not in shipped:
        known = [*plugins(ROBOTS), *shipped]
        raise UsageError(
            f'{profile!r} is not known; expected one of {", ".join(known)}, or a path that ends '
            f'in .yaml{did_you_mean(profile, known)}'
        )
    return shipped[profile]


def shipped_folder() -> Path:
    """
    Return the folder ``config`` of the package.

    In a source checkout it lies beside the package. pip and colcon install it below ``share`` of
    the prefix whose ``lib`` holds the package. No ROS is needed to find it.

    :raises UsageError: The package was copied without it.
    """
    package = Path(__file__).resolve().parents[1]
    source = package.parent
    if (source / 'package.xml').is_file() and (source / 'config').is_dir():
        return source / 'config'
    for prefix in package.parents:
        folder = prefix / 'share' / _NAME / 'config'
        if folder.is_dir():
            return folder
    raise UsageError(
        f'the shipped configuration is not there (looked for share/{_NAME}/config above '
        f'{package}); install the package with pip or colcon'
    )


def shipped_profiles() -> dict[str, Path]:
    """
    Return the files of the shipped profiles by name.

    :raises UsageError: The package was copied without them.
    """
    return _yaml_files(shipped_folder() / 'profiles')


def shipped_parameter_files() -> dict[str, Path]:
    """
    Return the shipped ROS 2 parameter files by name.

    :raises UsageError: The package was copied without them.
    """
    return _yaml_files(shipped_folder())


def parameter_file_template() -> str:
    """Return a ROS 2 parameter file with every setting, its description and its default."""
    lines = [
        '# Every setting with its default; what is left out of a file has it too.',
        '# 所有参数及其默认值；未写出的参数取默认值。',  # noqa: RUF001  # Chinese
        f'# Printed by: python -m {_NAME} profile --template',
        '/**:',
        '  ros__parameters:',
    ]
    group = ''
    for name, info in known_settings().items():
        value = info.value_in(Settings())
        outer, dot, inner = name.rpartition('.')
        if dot and outer != group:
            lines.append(f'    {outer}:')
        group = outer
        indent = '      ' if dot else '    '
        text = info.description
        if info.choices:
            text += f' One of {", ".join(info.choices)}.'
        lines += textwrap.wrap(
            text, _WIDTH, initial_indent=f'{indent}# ', subsequent_indent=f'{indent}# '
        )
        # ROS 2 cannot tell of what an empty list is one.
        comment = '# ' if value == [] else ''
        lines.append(f'{indent}{comment}{inner or name}: {_scalar(value)}')
    return '\n'.join(lines) + '\n'


def _scalar(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix('...\n').strip()


def _yaml_files(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob('*.yaml'))}
