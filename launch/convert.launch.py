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

from kuavo_bag_converter.node.launching import (
    check_ended_well,
    check_names,
    declared,
    is_launched_alone,
    OF_NODES,
    parameters,
    texts,
)
from kuavo_bag_converter.settings import known_settings
from launch import LaunchContext, LaunchDescription
from launch.actions import OpaqueFunction, Shutdown
from launch.events.process import ProcessExited
from launch_ros.actions import Node

_NODE = 'convert_node'
_OWN = OF_NODES | {
    'shutdown_on_exit': (
        'auto',
        'End the whole launch with the conversion, and fail as it does: true, false, or auto, '
        'which is true if this file is what `ros2 launch` was asked for.',
    ),
}
_BOOLEANS = {'true': True, 'false': False}


def generate_launch_description() -> LaunchDescription:
    """Return the launch of one ``convert_node``."""
    arguments = declared(known_settings().values(), _OWN)
    return LaunchDescription([*arguments, OpaqueFunction(function=_convert_node)])


def _convert_node(context: LaunchContext) -> list[Node]:
    alone = is_launched_alone(__file__)
    if alone:
        check_names(context.argv, [*known_settings(), *_OWN])
    own = texts(context, _OWN)
    shutdown = _BOOLEANS.get(own['shutdown_on_exit'].lower(), alone)
    return [
        Node(
            package='kuavo_bag_converter',
            executable=_NODE,
            # With name and namespace, the arguments go by the node's name, which wins over the
            # wildcard of the parameter file.
            name=_NODE,
            namespace='',
            parameters=parameters(context, known_settings().values()),
            ros_arguments=['--log-level', own['log_level']],
            output='screen',
            on_exit=_end if shutdown else None,
        )
    ]


def _end(event: ProcessExited, _: LaunchContext) -> list[Shutdown]:
    check_ended_well(event, _NODE)
    return [Shutdown(reason='the conversion is done')]
