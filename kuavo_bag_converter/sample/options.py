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

"""What a sample recording is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kuavo_bag_converter.support.errors import UsageError

COMPRESSIONS = {'bag': ('lz4', 'bz2'), 'mcap': ('zstd',), 'sqlite3': ('zstd',)}
"""Compressions of each storage; sqlite3 compresses messages, the others chunks."""

STREAM_TRANSPORTS = ('h265', 'h264')
"""Transports that are video streams."""

CHOICES = {
    'storage': tuple(COMPRESSIONS),
    'eef_type': ('leju_claw', 'qiangnao', 'rq2f85', 'sg100', 'linker_hand'),
    'platform_type': ('4pro', '5w', '5', 'roban'),
    'transport': ('jpeg', 'raw', *STREAM_TRANSPORTS),
    'gripper_messages': ('JointState', 'Rq2f85'),
    'sdk': ('main', 'dev', '2025-04'),
}
"""Allowed values of the options that are names."""

_LEAST_SIZE = (30, 40)


@dataclass(frozen=True)
class SampleOptions:
    """
    Options of a sample; times are seconds from its start unless said otherwise.

    :raises UsageError: A value is not allowed or does not fit another one.
    """

    storage: str = 'bag'
    compression: str = ''
    seconds: float = 5.0
    size: tuple[int, int] = (480, 640)
    """Height and width of all pictures."""
    eef_type: str = 'leju_claw'
    platform_type: str = '4pro'
    """A Roban has one camera, without depth, and hands of its own."""
    seed: int = 0
    transport: str = 'jpeg'
    """How colour pictures travel: JPEG or a video stream in CompressedImage, or Image, where the
    depth cameras send Image too and topics have the names that the drivers give them."""
    depth: bool = True
    camera_rates: tuple[float, ...] = ()
    """Pictures per second of the head, left and right camera; 30 if not given, of a Roban 60."""
    extras: bool = True
    """Include topics that no dataset needs: camera_info, metadata, tf, calibration."""
    whole_body: bool = False
    """Include the synchronized arm trajectory and the base pose command; of a 5w, the commands of
    the lower body and of the base's velocity too."""
    simulator: bool = False
    """Picture formats, depth unit and frame ids of the challenge simulator."""
    gripper_messages: str = 'JointState'
    """Messages on the topics of the ``rq2f85`` gripper."""
    sdk: str = 'main'
    """Which of the ``sensorsData`` definitions of the field is recorded."""
    bursts: bool = True
    """Deliver sensor messages in bursts of up to 42 ms."""
    starts: Mapping[str, float] = field(default_factory=dict)
    """When a topic begins; ``/kuavo_arm_traj`` is late by itself."""
    gaps: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    """Spans (from, to) in which a topic is silent."""
    unstamped_s: float = 0.0
    """How long ``/joint_cmd`` has a header stamp of 0, as while the robot stands up."""
    latched_age_s: float = 0.0
    """How long before the start the receive stamps of latched messages are."""

    @property
    def is_roban(self) -> bool:
        """Whether it is a Roban, not a Kuavo."""
        return self.platform_type == 'roban'

    @property
    def rates_of_cameras(self) -> tuple[float, ...]:
        """Pictures per second of each camera that there is."""
        usual = (60.0,) if self.is_roban else (30.0, 30.0, 30.0)
        return (self.camera_rates or usual)[: len(usual)]

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UsageError(
                    f'sample: {name} is {getattr(self, name)!r}; allowed: {", ".join(allowed)}'
                )
        if self.compression and self.compression not in COMPRESSIONS[self.storage]:
            raise UsageError(
                f'sample: compression is {self.compression!r}; storage {self.storage} allows: '
                f'{", ".join(COMPRESSIONS[self.storage])}'
            )
        if self.is_roban and (self.whole_body or self.simulator):
            raise UsageError('sample: whole_body and simulator are not for platform_type roban')
        if self.seconds <= 0 or min(self.rates_of_cameras) <= 0:
            raise UsageError('sample: seconds and camera rates must be positive')
        if self.size[0] < _LEAST_SIZE[0] or self.size[1] < _LEAST_SIZE[1]:
            raise UsageError(
                f'sample: size {self.size[1]}x{self.size[0]} is too small for the frame numbers; '
                f'at least {_LEAST_SIZE[1]}x{_LEAST_SIZE[0]}'
            )
        if self.transport in STREAM_TRANSPORTS and (self.size[0] % 2 or self.size[1] % 2):
            raise UsageError(
                f'sample: size {self.size[1]}x{self.size[0]} is odd; transport {self.transport} '
                'needs even sides'
            )
