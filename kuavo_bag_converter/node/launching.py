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

"""What the launch files share: settings as arguments, and as parameters of a node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import os
from pathlib import Path
import shlex
import sys
from typing import Any, List  # noqa: UP035  # as launch_ros has it

from kuavo_bag_converter.settings import SettingInfo
from kuavo_bag_converter.support.texts import did_you_mean
from launch import LaunchContext
from launch.actions import DeclareLaunchArgument
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.parameter_descriptions import ParameterValue
import yaml

OF_NODES = {
    'params_file': ('', 'ROS 2 parameter file with other settings; the arguments win over it.'),
    'log_level': ('info', 'Least level of the messages that are shown: debug, info, warn, error.'),
}
"""Arguments of every launch of a node that are no settings: default and description."""
_OF_LAUNCH = ('launch-prefix', 'launch-prefix-filter')
"""Options of ``ros2 launch`` that are among the arguments."""


def declared(
    infos: Iterable[SettingInfo], others: Mapping[str, tuple[str, str]]
) -> list[DeclareLaunchArgument]:
    """Return the arguments for settings, and others by default and description."""
    settings = [
        DeclareLaunchArgument(info.name, default_value='', description=_description(info))
        for info in infos
    ]
    return settings + [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in others.items()
    ]


def texts(context: LaunchContext, names: Iterable[str]) -> dict[str, str]:
    """Return the arguments of these names as they were written."""
    return {name: str(LaunchConfiguration(name).perform(context)) for name in names}


def parameters(context: LaunchContext, infos: Iterable[SettingInfo]) -> list[Any]:
    """
    Return what a node takes as its parameters: the file, then the settings that were given.

    :raises RuntimeError: The file is not there.
    """
    params_file = os.path.expanduser(LaunchConfiguration('params_file').perform(context))
    if params_file and not os.path.isfile(params_file):
        raise RuntimeError(f'params_file: {params_file}: there is no such file')
    given = {
        info.name: value_of(info, text)
        for info in infos
        if (text := LaunchConfiguration(info.name).perform(context))
    }
    return [*filter(None, [params_file, given])]


def is_launched_alone(file: str) -> bool:
    """Tell whether a launch file is what ``ros2 launch`` was asked for."""
    names = [Path(word).name for word in sys.argv[1:] if ':=' not in word]
    return Path(file).name in names


def check_names(arguments: Sequence[str], known: Sequence[str]) -> None:
    """
    Refuse arguments that nothing takes, which launch itself ignores.

    :raises RuntimeError: Names the first one.
    """
    for word in arguments:
        name, is_argument, _ = word.partition(':=')
        if is_argument and name not in (*known, *_OF_LAUNCH):
            raise RuntimeError(f'unknown argument {name!r}{did_you_mean(name, known)}')


def check_ended_well(event: ProcessExited, node: str) -> None:
    """
    Let the launch fail where its node does: its exit code is 1 after an exception only.

    :raises RuntimeError: The node did.
    """
    if event.returncode != 0:
        raise RuntimeError(f'{node} ended with exit code {event.returncode}')


def value_of(info: SettingInfo, text: str) -> object:
    """Return the value of a parameter; what it may be says the node."""
    if info.kind == 'str':
        return ParameterValue(os.path.expanduser(text), value_type=str)
    if info.kind == 'str list':
        words = [os.path.expanduser(word) for word in words_of(text)]
        return ParameterValue(words, value_type=List[str])  # noqa: UP006
    if info.kind == 'int list' and not text.lstrip().startswith('['):
        text = f'[{", ".join(text.split())}]'
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    return text if value is None else value


def words_of(text: str) -> list[str]:
    """Return texts that are separated by blanks, or a YAML list."""
    if text.lstrip().startswith('['):
        return [str(word) for word in yaml.load(text, yaml.BaseLoader)]  # noqa: S506  # all texts
    return shlex.split(text)


def _description(info: SettingInfo) -> str:
    if info.kind.endswith('list'):
        return f'{info.description} Separated by spaces, or a YAML list.'
    default = str(info.default).lower() if info.kind == 'bool' else info.default
    return f'{info.description} Default: {default}.' if default != '' else info.description
