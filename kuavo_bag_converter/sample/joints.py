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

"""The topics of the body: joints, arms and, on some robots, the base."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
import math
from typing import Any

from kuavo_bag_converter.bags.model import NS_PER_S
from kuavo_bag_converter.sample.messages import Build, Messages, Moment, Topic
from kuavo_bag_converter.sample.options import SampleOptions
from kuavo_bag_converter.sample.robot import (
    ARM_COMMAND,
    ARM_NAMES,
    arm_ranges,
    degrees,
    JOINT_COMMAND,
    joint_ranges,
    lower_body_ranges,
    SampleTimeline,
    STATE,
    SYNCED_ARM_COMMAND,
)
from kuavo_bag_converter.sample.stamps import PublishTiming
from kuavo_bag_converter.sample.truth import Ramp
import numpy as np

_CONTROL_DELAY_MS = (-15.0, -11.0)
JOINT_STATE = 'sensor_msgs/msg/JointState'
NOTHING = np.zeros(0)
_FIRST_ARM_COMMAND_S = 1.24


def body(options: SampleOptions, timeline: SampleTimeline) -> Iterator[Topic]:
    """Yield the state and the command of all joints, and the command of the arms."""
    ranges = joint_ranges(options.platform_type)
    control = PublishTiming(500, _CONTROL_DELAY_MS, jitter_ms=0.1)
    state = timeline.sweep(ranges, STATE)
    yaw = timeline.ramp([0.0], [math.pi / 2])
    yield Topic(
        '/sensors_data_raw',
        'kuavo_msgs/msg/sensorsData',
        replace(control, bursts=options.bursts),
        _sensors_data(state, yaw, options.sdk),
        ramps={'joint_data.joint_q': state, 'imu_data.quat': yaw},
    )
    command = timeline.sweep(ranges, JOINT_COMMAND)
    yield Topic(
        '/joint_cmd',
        'kuavo_msgs/msg/jointCmd',
        replace(control, unstamped_s=options.unstamped_s),
        _joint_command(command),
        ramps={'joint_q': command},
    )
    arms = timeline.sweep(degrees(arm_ranges()), ARM_COMMAND)
    yield Topic(
        '/kuavo_arm_traj',
        JOINT_STATE,
        PublishTiming(
            100,
            _CONTROL_DELAY_MS,
            jitter_ms=1.0,
            start_s=min(_FIRST_ARM_COMMAND_S, options.seconds / 4),
        ),
        joint_state(ARM_NAMES, arms),
        ramps={'position': arms},
    )


def whole_body(options: SampleOptions, timeline: SampleTimeline) -> Iterator[Topic]:
    """Yield the commands of arms, lower body and base that a robot records where all move."""
    timing = PublishTiming(100, _CONTROL_DELAY_MS, jitter_ms=0.3)
    arms = timeline.sweep(degrees(arm_ranges()), SYNCED_ARM_COMMAND)
    yield Topic(
        '/kuavo_arm_traj_synced',
        JOINT_STATE,
        timing,
        joint_state(ARM_NAMES, arms),
        ramps={'position': arms},
    )
    base = timeline.ramp([0.0, 0.2, -0.5], [1.5, -0.4, 0.8])

    def build_base(messages: Messages, moment: Moment) -> Any:
        x, y, yaw = base.at(moment.time).tolist()
        twist = messages.new(
            'geometry_msgs/msg/Twist',
            linear=messages.vector3(x, y),
            angular=messages.vector3(z=yaw),
        )
        return messages.new(
            'geometry_msgs/msg/TwistStamped', header=messages.header(moment), twist=twist
        )

    axes = ('twist.linear.x', 'twist.linear.y', 'twist.angular.z')
    yield Topic(
        '/cmd_pose_world_synced',
        'geometry_msgs/msg/TwistStamped',
        timing,
        build_base,
        ramps={
            axis: timeline.ramp(base.first[[i]], base.last[[i]]) for i, axis in enumerate(axes)
        },
    )

    if options.platform_type == '5w':
        yield from _moving_5w(timeline)


def _moving_5w(timeline: SampleTimeline) -> Iterator[Topic]:
    legs = timeline.sweep(degrees(lower_body_ranges('5w')), ARM_COMMAND)
    names = [f'joint{number}' for number in range(1, len(legs.first) + 1)]
    yield Topic(
        '/lb_leg_traj',
        JOINT_STATE,
        PublishTiming(100, _CONTROL_DELAY_MS, jitter_ms=0.3),
        joint_state(names, legs),
        ramps={'position': legs},
    )
    velocity = timeline.ramp([0.3, -0.1, 0.2], [-0.2, 0.1, -0.4])

    def build_velocity(messages: Messages, moment: Moment) -> Any:
        x, y, yaw = velocity.at(moment.time).tolist()
        return messages.new(
            'geometry_msgs/msg/Twist',
            linear=messages.vector3(x, y),
            angular=messages.vector3(z=yaw),
        )

    axes = ('linear.x', 'linear.y', 'angular.z')
    yield Topic(
        '/cmd_vel',
        'geometry_msgs/msg/Twist',
        PublishTiming(20, jitter_ms=2.0),
        build_velocity,
        has_header=False,
        ramps={
            axis: timeline.ramp(velocity.first[[i]], velocity.last[[i]])
            for i, axis in enumerate(axes)
        },
    )


def joint_state(names: list[str], positions: Ramp) -> Build:
    """Return what makes JointState messages whose positions follow a line, shape (names,)."""

    def build(messages: Messages, moment: Moment) -> Any:
        return messages.new(
            JOINT_STATE,
            header=messages.header(moment),
            name=names,
            position=positions.at(moment.time),
            velocity=NOTHING,
            effort=NOTHING,
        )

    return build


def _sensors_data(state: Ramp, yaw: Ramp, sdk: str) -> Build:
    joints = len(state.first)
    speeds = (state.last - state.first) * (NS_PER_S / state.duration)
    torque_field = 'joint_current' if sdk == '2025-04' else 'joint_torque'
    zeros = np.zeros(joints)

    def build(messages: Messages, moment: Moment) -> Any:
        joint_data = messages.new(
            'jointData',
            joint_q=state.at(moment.time),
            joint_v=speeds,
            joint_vd=zeros,
            **{torque_field: zeros},
        )
        imu_data = messages.new(
            'imuData',
            gyro=messages.vector3(z=float(yaw.last[0] * NS_PER_S / yaw.duration)),
            acc=messages.vector3(z=9.81),
            free_acc=messages.vector3(),
            quat=messages.rotation(float(yaw.at(moment.time)[0])),
        )
        fields = {}
        if sdk == 'dev':
            axes = {axis: np.zeros(2) for axis in ('Fx', 'Fy', 'Fz', 'Mx', 'My', 'Mz')}
            fields['FTsensor_data'] = messages.new('FTsensorData', **axes)
        return messages.new(
            'sensorsData',
            header=messages.header(moment),
            # On real robots this clock is seconds to minutes off, so nothing should use it.
            sensor_time=messages.time(moment.time - 10 * NS_PER_S),
            joint_data=joint_data,
            imu_data=imu_data,
            end_effector_data=messages.end_effectors([], NOTHING, NOTHING, NOTHING),
            **fields,
        )

    return build


def _joint_command(command: Ramp) -> Build:
    joints = len(command.first)
    zeros = np.zeros(joints)
    gains = np.full(joints, 60.0)
    modes = np.full(joints, 2, np.int32)

    def build(messages: Messages, moment: Moment) -> Any:
        return messages.new(
            'jointCmd',
            header=messages.header(moment),
            joint_q=command.at(moment.time),
            joint_v=zeros,
            tau=zeros,
            tau_max=gains,
            tau_ratio=np.ones(joints),
            joint_kp=gains,
            joint_kd=gains,
            control_modes=modes,
        )

    return build
