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

"""The topics of a Roban, whose whole body is taught: joints, hands and the reference for both."""

from __future__ import annotations

from collections.abc import Iterator
import math
from typing import Any

from kuavo_bag_converter.sample.messages import Build, Messages, Moment, Topic
from kuavo_bag_converter.sample.robot import ARM_COMMAND, Band, SampleTimeline, STATE
from kuavo_bag_converter.sample.stamps import PublishTiming
from kuavo_bag_converter.sample.truth import Ramp
import numpy as np

_JOINTS = np.tile([-1.5, 1.5], (21, 1))
_HANDS = np.tile([0.0, 100.0], (12, 1))
_TIMING = PublishTiming(50, jitter_ms=0.5)


def roban(timeline: SampleTimeline) -> Iterator[Topic]:
    """Yield the state and the command of joints and hands."""
    joints = timeline.sweep(_JOINTS, STATE)
    yield Topic(
        '/rt/joint_state', 'leju_msgs/msg/JointState', PublishTiming(100, jitter_ms=0.3),
        _joints(joints), ramps={'q': joints},
    )  # fmt: skip
    hands = timeline.sweep(_HANDS, Band(0.1, 0.8))
    yield Topic(
        '/rt/hand_state', 'leju_msgs/msg/HandState', _TIMING, _hands(hands),
        ramps={'position': hands},
    )  # fmt: skip
    commands = timeline.sweep(_HANDS, Band(0.15, 0.9))

    def build_commands(messages: Messages, moment: Moment) -> Any:
        return messages.new(
            'leju_msgs/msg/Float64Array',
            header=messages.header(moment),
            data=commands.at(moment.time),
        )

    yield Topic(
        '/rt/hand_cmd', 'leju_msgs/msg/Float64Array', _TIMING, build_commands,
        ramps={'data': commands},
    )  # fmt: skip
    reference = {
        'q': timeline.sweep(_JOINTS, ARM_COMMAND),
        'root_pos': timeline.ramp([0.0, 0.1, 0.7], [0.5, -0.2, 0.6]),
        'root_quat': timeline.ramp([-0.2], [math.pi / 2]),
    }
    yield Topic(
        '/rt/pico/heft_reference', 'leju_msgs/msg/HeftReference', _TIMING,
        _reference(reference), ramps=reference,
    )  # fmt: skip


def _joints(joints: Ramp) -> Build:
    zeros = np.zeros(len(_JOINTS))

    def build(messages: Messages, moment: Moment) -> Any:
        return messages.new(
            'leju_msgs/msg/JointState',
            header=messages.header(moment),
            q=joints.at(moment.time),
            v=zeros,
            vd=zeros,
            tau=zeros,
        )

    return build


def _hands(hands: Ramp) -> Build:
    zeros = np.zeros(len(_HANDS))

    def build(messages: Messages, moment: Moment) -> Any:
        return messages.new(
            'leju_msgs/msg/HandState',
            header=messages.header(moment),
            left_valid=True,
            right_valid=True,
            left_sample_age_ms=0,
            right_sample_age_ms=0,
            position=hands.at(moment.time),
            velocity=zeros,
            current=zeros,
            state=np.zeros(len(_HANDS), np.uint8),
        )

    return build


def _reference(reference: dict[str, Ramp]) -> Build:
    zeros = np.zeros(len(_JOINTS))

    def build(messages: Messages, moment: Moment) -> Any:
        half = float(reference['root_quat'].at(moment.time)[0]) / 2
        return messages.new(
            'leju_msgs/msg/HeftReference',
            header=messages.header(moment),
            schema_version=1,
            robot_version='roban',
            seq=moment.ordinal,
            calibration_epoch=1,
            capture_timestamp_ms=moment.time // 10**6,
            valid=True,
            calibrated=True,
            root_pos=reference['root_pos'].at(moment.time),
            root_quat=np.array([math.cos(half), 0.0, 0.0, math.sin(half)]),
            q=reference['q'].at(moment.time),
            qd=zeros,
        )

    return build
