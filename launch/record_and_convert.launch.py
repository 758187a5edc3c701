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
Record topics, and convert what was recorded when the recording is stopped.

``ros2 launch kuavo_bag_converter record_and_convert.launch.py topics:="/joint_states /cam/image"
folder:=/data/recordings output:=/data/dataset profile:=/data/arm.yaml``

``ros2 bag record`` writes a recording into the folder, ``watch_node`` puts what is complete in it
into the dataset. Ctrl-C, or the end of the recorder, lets the recorder close its files; then the
recording is converted, and the launch ends, with exit code 1 if something is not in the dataset,
or the recorder ended by itself with an exit code that is not 0.
"""

import os
from pathlib import Path
import shlex
from typing import Any

from kuavo_bag_converter.jobs.watch import WatchOptions
from kuavo_bag_converter.node.launching import (
    check_ended_well,
    check_names,
    declared,
    is_launched_alone,
    OF_NODES,
    parameters,
    texts,
    words_of,
)
from kuavo_bag_converter.settings import described, known_settings, SettingInfo
from launch import LaunchContext, LaunchDescription
from launch.actions import EmitEvent, ExecuteProcess, OpaqueFunction
from launch.events import matches_action
from launch.events.process import ProcessExited, ShutdownProcess
from launch_ros.actions import Node

_NODE = 'watch_node'
_OWN = OF_NODES | {
    'topics': ('', 'Topics to record, separated by spaces, or a YAML list; empty is all.'),
    'folder': ('', 'Folder that recordings are written to, and that is watched.'),
    'storage': ('', 'Storage of the recording (mcap, sqlite3); empty is that of the distro.'),
    'record_arguments': ('', 'Other arguments of ros2 bag record, as in a shell.'),
}
_FIXED = ('bags', 'once', 'finish')
"""What of the settings and options of the node this file itself gives."""
_CLOSING_S = '60'
"""How long the recorder may take to close its files."""
_CONVERTING_S = '1000000'
"""How long the conversion may take; the launch waits for it."""


def _settings() -> dict[str, SettingInfo]:
    infos = {**known_settings(), **described(WatchOptions)}
    return {name: info for name, info in infos.items() if name not in _FIXED}


def generate_launch_description() -> LaunchDescription:
    """Return the launch of a recorder and a ``watch_node``."""
    arguments = declared(_settings().values(), _OWN)
    return LaunchDescription([*arguments, OpaqueFunction(function=_record_and_convert)])


def _record_and_convert(context: LaunchContext) -> list[Any]:
    alone = is_launched_alone(__file__)
    if alone:
        check_names(context.argv, [*_settings(), *_OWN])
    own = texts(context, _OWN)
    if not own['folder']:
        raise RuntimeError('folder: no folder given for recordings')
    folder = Path(os.path.abspath(os.path.expanduser(own['folder'])))
    folder.mkdir(parents=True, exist_ok=True)
    recorders: list[int] = []

    def check(event: ProcessExited, _: LaunchContext) -> None:
        check_ended_well(event, _NODE)
        for code in filter(None, recorders):
            raise RuntimeError(f'ros2 bag record ended with exit code {code}')

    def convert_what_there_is(event: ProcessExited, context: LaunchContext) -> list[Any]:
        if not context.is_shutdown:  # else it was told to end, and some distros' say so
            recorders.append(event.returncode)
        return [EmitEvent(event=ShutdownProcess(process_matcher=matches_action(node)))]

    node = Node(
        package='kuavo_bag_converter',
        executable=_NODE,
        name=_NODE,
        namespace='',
        parameters=[
            *parameters(context, _settings().values()),
            {'bags': [str(folder)], 'finish': True},
        ],
        ros_arguments=['--log-level', own['log_level']],
        output='screen',
        sigterm_timeout=_CONVERTING_S,
        on_exit=check if alone else None,
    )
    recorder = ExecuteProcess(
        cmd=['ros2', 'bag', 'record', *_record_arguments(own)],
        cwd=str(folder),
        output='screen',
        sigterm_timeout=_CLOSING_S,
        on_exit=convert_what_there_is,
    )
    return [node, recorder]


def _record_arguments(own: dict[str, str]) -> list[str]:
    others = shlex.split(own['record_arguments'])
    if own['storage']:
        others += ['-s', own['storage']]
    topics = words_of(own['topics'])
    if not topics:
        return [*others, '-a']
    # Humble has no such option; later distros warn about topics without it.
    option = [] if os.environ.get('ROS_DISTRO') == 'humble' else ['--topics']
    return [*others, *option, *topics]
