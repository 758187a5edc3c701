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

"""
Convert bags to a LeRobot dataset: every setting of ``convert_node`` is an argument.

``ros2 launch kuavo_bag_converter convert.launch.py bags:="/data/a.bag /data/b" output:=/data/set``

Launched by itself, it ends with the conversion, and fails as it does. Included by another launch
file, it leaves that running, unless ``shutdown_on_exit`` is true.
"""

import os
from pathlib import Path
import shlex
import sys
from typing import List  # noqa: UP035  # as launch_ros has it

from kuavo_bag_converter.settings import known_settings, SettingInfo
from kuavo_bag_converter.support.texts import did_you_mean
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
import yaml

_OWN = {
    'params_file': ('', 'ROS 2 parameter file with other settings; the arguments win over it.'),
    'log_level': ('info', 'Least level of the messages that are shown: debug, info, warn, error.'),
    'shutdown_on_exit': (
        'auto',
        'End the whole launch with the conversion, and fail as it does: true, false, or auto, '
        'which is true if this file is what `ros2 launch` was asked for.',
    ),
}
_OF_LAUNCH = ('launch-prefix', 'launch-prefix-filter')
"""Options of ``ros2 launch`` that are among the arguments."""
_BOOLEANS = {'true': True, 'false': False}


def generate_launch_description() -> LaunchDescription:
    """Return the launch of one ``convert_node``."""
    settings = [
        DeclareLaunchArgument(info.name, default_value='', description=_description(info))
        for info in known_settings().values()
    ]
    own = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in _OWN.items()
    ]
    return LaunchDescription([*settings, *own, OpaqueFunction(function=_convert_node)])


def _description(info: SettingInfo) -> str:
    if info.kind.endswith('list'):
        return f'{info.description} Separated by spaces, or a YAML list.'
    default = str(info.default).lower() if info.kind == 'bool' else info.default
    return f'{info.description} Default: {default}.' if default != '' else info.description


def _convert_node(context: LaunchContext) -> list[Node]:
    alone = _is_launched_alone()
    if alone:
        _check_names(context.argv)
    own = {name: LaunchConfiguration(name).perform(context) for name in _OWN}
    params_file = os.path.expanduser(own['params_file'])
    if params_file and not os.path.isfile(params_file):
        raise RuntimeError(f'params_file: {params_file}: there is no such file')
    shutdown = _BOOLEANS.get(own['shutdown_on_exit'].lower(), alone)
    given = {
        info.name: _value(info, text)
        for info in known_settings().values()
        if (text := LaunchConfiguration(info.name).perform(context))
    }
    return [
        Node(
            package='kuavo_bag_converter',
            executable='convert_node',
            # With name and namespace, the arguments go by the node's name, which wins over the
            # wildcard of the parameter file.
            name='convert_node',
            namespace='',
            parameters=[*filter(None, [params_file, given])],
            ros_arguments=['--log-level', own['log_level']],
            output='screen',
            on_exit=_end if shutdown else None,
        )
    ]


def _is_launched_alone() -> bool:
    names = [Path(word).name for word in sys.argv[1:] if ':=' not in word]
    return Path(__file__).name in names


def _check_names(argv: list[str]) -> None:
    known = [*known_settings(), *_OWN, *_OF_LAUNCH]
    for word in argv:
        name, is_argument, _ = word.partition(':=')
        if is_argument and name not in known:
            raise RuntimeError(f'unknown argument {name!r}{did_you_mean(name, known)}')


def _value(info: SettingInfo, text: str) -> object:
    """Return the value of a parameter; what it may be says the node."""
    if info.kind == 'str':
        return ParameterValue(os.path.expanduser(text), value_type=str)
    if info.kind == 'str list':
        if text.lstrip().startswith('['):
            words = yaml.load(text, yaml.BaseLoader)  # noqa: S506  # safe: all are texts
        else:
            words = shlex.split(text)
        texts = [os.path.expanduser(str(word)) for word in words]
        return ParameterValue(texts, value_type=List[str])  # noqa: UP006
    if info.kind == 'int list' and not text.lstrip().startswith('['):
        text = f'[{", ".join(text.split())}]'
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    return text if value is None else value


def _end(event: ProcessExited, _: LaunchContext) -> list[Shutdown]:
    if event.returncode != 0:
        # The one way to make the launch fail: its exit code is 1 after an exception only.
        raise RuntimeError(f'convert_node ended with exit code {event.returncode}')
    return [Shutdown(reason='the conversion is done')]
