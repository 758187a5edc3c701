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
Convert bags to a LeRobot dataset; the launch ends with the conversion, and fails as it does.

``ros2 launch kuavo_bag_converter convert.launch.py bags:="/data/a.bag /data/b" output:=/data/set``
"""

import os
import shlex

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
import yaml


def generate_launch_description() -> LaunchDescription:
    """Return the launch of one ``convert_node``."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'bags',
                default_value='',
                description='Bags to convert, separated by spaces, or a YAML list.',
            ),
            DeclareLaunchArgument(
                'output',
                default_value='',
                description='Folder of the dataset to write; it must not exist yet.',
            ),
            DeclareLaunchArgument(
                'params_file',
                default_value='',
                description='ROS 2 parameter file with other settings; the arguments win over it.',
            ),
            OpaqueFunction(function=_convert_node),
        ]
    )


def _convert_node(context: LaunchContext) -> list[Node]:
    bags, output, params_file = (
        LaunchConfiguration(name).perform(context) for name in ('bags', 'output', 'params_file')
    )
    given: dict[str, object] = {}
    if bags:
        given['bags'] = [os.path.expanduser(bag) for bag in _split(bags)]
    if output:
        given['output'] = os.path.expanduser(output)
    parameters: list[object] = [os.path.expanduser(params_file)] if params_file else []
    if given:
        parameters.append(given)
    return [
        Node(
            package='kuavo_bag_converter',
            executable='convert_node',
            # With name and namespace, the arguments go by the node's name, which wins over the
            # wildcard of the parameter file.
            name='convert_node',
            namespace='',
            parameters=parameters,
            output='screen',
            on_exit=_end,
        )
    ]


def _split(bags: str) -> list[str]:
    if not bags.lstrip().startswith('['):
        return shlex.split(bags)
    return [str(bag) for bag in yaml.safe_load(bags)]


def _end(event: ProcessExited, _: LaunchContext) -> list[Shutdown]:
    if event.returncode != 0:
        # The one way to make the launch fail: its exit code is 1 after an exception only.
        raise RuntimeError(f'convert_node ended with exit code {event.returncode}')
    return [Shutdown(reason='the conversion is done')]
