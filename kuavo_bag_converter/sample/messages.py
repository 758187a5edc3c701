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

"""Topics, and making and serializing messages, alike for both generations of ROS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from kuavo_bag_converter.bags.model import NS_PER_S
from kuavo_bag_converter.sample.definitions import Ros, SampleDefinitions
from kuavo_bag_converter.sample.stamps import PublishTiming
from kuavo_bag_converter.sample.truth import Ramp
import numpy as np
import numpy.typing as npt


class Moment(NamedTuple):
    """What all messages of a topic share: their place in it, and their time."""

    ordinal: int
    header: int
    """Ns; 0 where the publisher leaves it unset, ``time`` where the topic has no header."""
    time: int
    """Ns; what the values of the message encode."""


class Messages:
    """Maker of messages in the wire format of one generation of ROS."""

    def __init__(self, ros: Ros, definitions: SampleDefinitions) -> None:
        self._ros = ros
        self._store = definitions.store

    def new(self, msgtype: str, **fields: Any) -> Any:
        """Make a message; the package may be left out for ``kuavo_msgs``."""
        if '/' not in msgtype:
            msgtype = f'kuavo_msgs/msg/{msgtype}'
        return self._store.types[msgtype](**fields)

    def header(self, moment: Moment, frame_id: str = '') -> Any:
        """Make a ``std_msgs/Header``, which counts messages in ROS 1 alone."""
        fields = {'stamp': self.time(moment.header), 'frame_id': frame_id}
        if self._ros == 1:
            fields['seq'] = moment.ordinal
        return self.new('std_msgs/msg/Header', **fields)

    def time(self, stamp: int) -> Any:
        """Make a time of ns since the epoch."""
        seconds, nanoseconds = divmod(stamp, NS_PER_S)
        return self.new('builtin_interfaces/msg/Time', sec=seconds, nanosec=nanoseconds)

    def vector3(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Any:
        """Make a ``geometry_msgs/Vector3``."""
        return self.new('geometry_msgs/msg/Vector3', x=x, y=y, z=z)

    def rotation(self, angle: float) -> Any:
        """Make the ``geometry_msgs/Quaternion`` of a turn about z by ``angle`` rad."""
        half = angle / 2
        return self.new(
            'geometry_msgs/msg/Quaternion',
            x=0.0,
            y=0.0,
            z=float(np.sin(half)),
            w=float(np.cos(half)),
        )

    def end_effectors(
        self,
        names: list[str],
        position: npt.NDArray[np.float64],
        velocity: npt.NDArray[np.float64],
        effort: npt.NDArray[np.float64],
    ) -> Any:
        """Make a ``kuavo_msgs/endEffectorData``; an array has the shape (names,) or is empty."""
        return self.new(
            'endEffectorData', name=names, position=position, velocity=velocity, effort=effort
        )

    def camera_info(
        self, header: Any, size: tuple[int, int], focal: float, model: str, distortion: int
    ) -> Any:
        """Make a ``sensor_msgs/CameraInfo``, whose matrices are named d, k, r, p in ROS 2."""
        height, width = size
        x, y = width / 2, height / 2
        matrices = {
            'd': np.zeros(distortion),
            'k': np.array([focal, 0, x, 0, focal, y, 0, 0, 1]),
            'r': np.eye(3).ravel(),
            'p': np.array([focal, 0, x, 0, 0, focal, y, 0, 0, 0, 1, 0]),
        }
        if self._ros == 1:
            matrices = {name.upper(): matrix for name, matrix in matrices.items()}
        region = self.new(
            'sensor_msgs/msg/RegionOfInterest',
            x_offset=0,
            y_offset=0,
            height=0,
            width=0,
            do_rectify=False,
        )
        return self.new(
            'sensor_msgs/msg/CameraInfo',
            header=header,
            height=height,
            width=width,
            distortion_model=model,
            binning_x=0,
            binning_y=0,
            roi=region,
            **matrices,
        )

    def serialize(self, message: Any, msgtype: str) -> memoryview:
        """Serialize to ROS 1 or little-endian CDR."""
        if self._ros == 1:
            return self._store.serialize_ros1(message, msgtype)
        return self._store.serialize_cdr(message, msgtype)


Build: TypeAlias = Callable[[Messages, Moment], Any]
"""Makes one message of a topic."""


@dataclass(frozen=True)
class Topic:
    """One topic of a recording."""

    name: str
    msgtype: str
    timing: PublishTiming
    build: Build
    has_header: bool = True
    latched: bool = False
    camera: str = ''
    """Name in the frame numbers; '' for anything but pictures."""
    in_order: bool = False
    """Messages must be made one after the other."""
    clock: str = ''
    """Name of the topic whose header stamps this one shares; '' for its own."""
    ramps: dict[str, Ramp] = field(default_factory=dict)
