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

"""Recordings that the names in their messages tell apart, and tests that read rows of them."""

from __future__ import annotations

import json
from pathlib import Path

from kuavo_bag_converter.bags.open import open_bag
from kuavo_bag_converter.frames.aligned import iter_chunks
from kuavo_bag_converter.profiles.loader import read_profile
import numpy as np
from ros_messages import ROS1, ROS2
from rosbags.rosbag1 import Writer as Rosbag1Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Rosbag2Writer
from rosbags.typesys import get_types_from_msg

NS = 10**9
BEGIN = 1_700_000_000 * NS
SECONDS = 1.0
FPS = 10
NONE = np.empty(0)

DEFINITIONS = {
    'tf2_msgs/msg/TFMessage': 'geometry_msgs/TransformStamped[] transforms\n',
    'control_msgs/msg/InterfaceValue': 'string[] interface_names\nfloat64[] values\n',
    'control_msgs/msg/DynamicJointState': (
        'std_msgs/Header header\nstring[] joint_names\nInterfaceValue[] interface_values\n'
    ),
    'made_up/msg/Motor': 'string name\nfloat64 position\n',
    'made_up/msg/Motors': 'string[] states\nfloat64[] q\n',
    'made_up/msg/Object': 'int32 id\ngeometry_msgs/Point position\n',
    'made_up/msg/Objects': 'Object[] objects\n',
    'made_up/msg/Servo': 'uint8 id\nfloat64 position\n',
    'made_up/msg/Tag': 'int32[] id\ngeometry_msgs/Point position\n',
    'made_up/msg/Tags': 'Tag[] tags\n',
    'made_up/msg/Goal': 'trajectory_msgs/JointTrajectory trajectory\n',
    'made_up/msg/Late': 'float64 q\nuint64 timestamp\nstd_msgs/Header header\nfloat64 t\n',
}


def _register(store):
    types = {}
    for name, text in DEFINITIONS.items():
        types.update(get_types_from_msg(text, name))
    store.register({name: fields for name, fields in types.items() if name not in store.types})


for _store in (ROS1, ROS2):
    _register(_store)


class Recording:
    """Messages of a made-up robot, to be written in any container."""

    def __init__(self, ros1=False):
        self.store = ROS1 if ros1 else ROS2
        self._ros1 = ros1
        self._sent = []
        self.every('/tick', FPS, lambda _: self.make('std_msgs/msg/Float64', 0.0))

    def make(self, msgtype, *values):
        return self.store.types[msgtype](*values)

    def header(self, time, frame=''):
        sec, nanosec = divmod(BEGIN + round(time * NS), NS)
        stamp = self.make('builtin_interfaces/msg/Time', sec, nanosec)
        given = (0, stamp, frame) if self._ros1 else (stamp, frame)
        return self.make('std_msgs/msg/Header', *given)

    def send(self, topic, time, message, publisher='/node', late=0.0):
        """Send a message at a time, s; it is received ``late`` later."""
        stamp = BEGIN + round((time + late) * NS)
        self._sent.append((stamp, topic, message, publisher))

    def every(self, topic, hz, make, start=0.0, until=SECONDS, **how):
        """Send what ``make`` gives for each time."""
        for number in range(round((until - start) * hz) + 1):
            time = start + number / hz
            self.send(topic, time, make(time), **how)
        return self

    def joints(self, time, names, positions, velocities=NONE, frame=''):
        return self.make(
            'sensor_msgs/msg/JointState', self.header(time, frame), list(names),
            np.array(positions, float), np.array(velocities, float), NONE,
        )  # fmt: skip

    def trajectory(self, time, names, points):
        kind = 'trajectory_msgs/msg/JointTrajectory'
        soon = self.make('builtin_interfaces/msg/Duration', 0, 0)
        made = [
            self.make(f'{kind}Point', np.array(point, float), NONE, NONE, NONE, soon)
            for point in points
        ]
        return self.make(kind, self.header(time), list(names), made)

    def transform(self, time, parent, child, move, turn=(0, 0, 0, 1)):
        kind = 'geometry_msgs/msg/'
        return self.make(
            f'{kind}TransformStamped', self.header(time, parent), child,
            self.make(
                f'{kind}Transform', self.make(f'{kind}Vector3', *map(float, move)),
                self.make(f'{kind}Quaternion', *map(float, turn)),
            ),
        )  # fmt: skip

    def tf(self, *transforms):
        return self.make('tf2_msgs/msg/TFMessage', list(transforms))

    def write(self, folder, container='mcap'):
        path = Path(folder) / ('run.bag' if self._ros1 else 'run')
        if self._ros1:
            writer = Rosbag1Writer(path)
        else:
            writer = Rosbag2Writer(
                path, version=9, storage_plugin=StoragePlugin[container.upper()]
            )
        connections = {}
        with writer:
            for stamp, topic, message, publisher in sorted(self._sent, key=lambda sent: sent[0]):
                kind = message.__msgtype__
                place = (topic, kind, publisher if self._ros1 else '')
                if place not in connections:
                    more = {'callerid': publisher} if self._ros1 else {}
                    connections[place] = writer.add_connection(
                        topic, kind, typestore=self.store, **more
                    )
                serialize = self.store.serialize_ros1 if self._ros1 else self.store.serialize_cdr
                writer.write(connections[place], stamp, bytes(serialize(message, kind)))
        return path


def profile_of(*parts, clock=None, align=None, fps=FPS, **features):
    """Return a profile of one vector; its frames lie on /tick."""
    return {
        'robot_type': 'made_up', 'fps': fps, 'task': 'Do it',
        'clock': {'from': {'topic': '/tick'}, 'fps': FPS, 'end_trim': 'none', **(clock or {})},
        'align': align or {},
        'features': {'observation.state': {'parts': list(parts)}, **features},
    }  # fmt: skip


def profile_file(folder, profile):
    path = Path(folder) / 'profile.yaml'
    path.write_text(json.dumps(profile))  # which is YAML, too
    return path


def read(folder, recording, *parts, container='mcap', **keys):
    """Return the rows of a recording and when their frames are, s; the rest is as a profile's."""
    bag = recording.write(folder, container)
    profile = read_profile(profile_file(folder, profile_of(*parts, **keys)))
    with open_bag([bag]) as reader:
        chunks = [*iter_chunks(reader, profile)]
    values = np.concatenate([chunk.vectors['observation.state'] for chunk in chunks])
    stamps = np.concatenate([chunk.stamps for chunk in chunks])
    return values, (stamps - BEGIN) / NS
