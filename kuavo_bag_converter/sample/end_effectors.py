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

"""The topics of the end effectors: claws, hands or grippers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kuavo_bag_converter.sample.joints import JOINT_STATE, joint_state, NOTHING
from kuavo_bag_converter.sample.messages import Build, Messages, Moment, Topic
from kuavo_bag_converter.sample.options import SampleOptions
from kuavo_bag_converter.sample.robot import Band, LINKER_JOINTS, SampleTimeline, SG100_JOINTS
from kuavo_bag_converter.sample.stamps import PublishTiming
from kuavo_bag_converter.sample.truth import Ramp
import numpy as np

TOUCH_REST = (
    *(f'tangential_{what}{k}' for what in ('force', 'direction') for k in (1, 2, 3)),
    'self_proximity1', 'self_proximity2', 'mutual_proximity', 'status',
)  # fmt: skip
"""Fields of a touch sensor's message besides the normal forces."""
_PAIR = np.array([[0.0, 1.0], [0.0, 1.0]])
_EEF_STATE = Band(0.1, 0.8)
_EEF_COMMAND = Band(0.15, 0.9)
_GRIPPER_STATE_TIMING = PublishTiming(500, jitter_ms=0.1)
_GRIPPER_COMMAND_TIMING = PublishTiming(200, jitter_ms=0.3)


def end_effectors(options: SampleOptions, timeline: SampleTimeline) -> Iterator[Topic]:
    """Yield the state and the command of the end effectors."""
    if options.eef_type == 'leju_claw':
        yield from _claws(timeline)
    elif options.eef_type == 'qiangnao':
        yield from _hands(timeline)
    elif options.eef_type == 'sg100':
        yield from _sg100_hands(timeline)
    elif options.eef_type == 'linker_hand':
        yield from _linker_hands(timeline)
    elif options.gripper_messages == 'JointState':
        yield from _grippers(timeline)
    else:
        yield from _typed_grippers(timeline)


def _claws(timeline: SampleTimeline) -> Iterator[Topic]:
    names = ['left_claw', 'right_claw']
    state = timeline.sweep(_PAIR * 100, _EEF_STATE)
    command = timeline.sweep(_PAIR * 100, _EEF_COMMAND)
    moving = np.array([1, 1], np.int8)

    def build_state(messages: Messages, moment: Moment) -> Any:
        data = messages.end_effectors(names, state.at(moment.time), np.zeros(2), np.zeros(2))
        return messages.new(
            'lejuClawState',
            header=messages.header(moment, 'leju_claw'),
            state=moving,
            data=data,
        )

    def build_command(messages: Messages, moment: Moment) -> Any:
        data = messages.end_effectors(names, command.at(moment.time), np.full(2, 90.0), NOTHING)
        return messages.new('lejuClawCommand', header=messages.header(moment), data=data)

    yield Topic(
        '/leju_claw_state',
        'kuavo_msgs/msg/lejuClawState',
        PublishTiming(500, jitter_ms=0.1),
        build_state,
        ramps={'data.position': state},
    )
    yield Topic(
        '/leju_claw_command',
        'kuavo_msgs/msg/lejuClawCommand',
        PublishTiming(100, jitter_ms=1.0),
        build_command,
        ramps={'data.position': command},
    )


def _hands(timeline: SampleTimeline) -> Iterator[Topic]:
    fingers = ('thumb', 'thumb_aux', 'index', 'middle', 'ring', 'pinky')
    names = [f'{side}_{finger}' for side in 'lr' for finger in fingers]
    state = timeline.sweep(np.tile([0.0, 100.0], (len(names), 1)), _EEF_STATE)
    steps = np.arange(len(fingers), dtype=np.int64) * 7

    def build_command(messages: Messages, moment: Moment) -> Any:
        # Bytes are too coarse for a line in time, so they count messages instead.
        left = (moment.ordinal + steps) % 101
        return messages.new(
            'robotHandPosition',
            header=messages.header(moment),
            left_hand_position=left.astype(np.uint8),
            right_hand_position=((left + 50) % 101).astype(np.uint8),
        )

    yield Topic(
        '/dexhand/state',
        JOINT_STATE,
        PublishTiming(100, jitter_ms=1.0),
        joint_state(names, state),
        ramps={'position': state},
    )
    yield Topic(
        '/control_robot_hand_position',
        'kuavo_msgs/msg/robotHandPosition',
        PublishTiming(100, jitter_ms=1.0),
        build_command,
    )

    touch = 'kuavo_msgs/msg/touchSensorStatus'

    def build_touch(messages: Messages, moment: Moment) -> Any:
        def hand(first: int) -> list[Any]:
            return [
                messages.new(
                    touch,
                    **{
                        f'normal_force{k + 1}': (moment.ordinal + first + 3 * finger + k) % 5000
                        for k in range(3)
                    },
                    **dict.fromkeys(TOUCH_REST, 0),
                )
                for finger in range(5)
            ]

        return messages.new(
            'dexhandTouchState',
            header=messages.header(moment),
            left_hand=hand(0),
            right_hand=hand(1000),
        )

    yield Topic(
        '/dexhand/touch_state',
        'kuavo_msgs/msg/dexhandTouchState',
        PublishTiming(100, jitter_ms=1.0),
        build_touch,
    )


def _sg100_hands(timeline: SampleTimeline) -> Iterator[Topic]:
    ranges = np.tile([0.0, 1.57], (2 * SG100_JOINTS, 1))
    for kind, rate, band in (('State', 100, _EEF_STATE), ('Command', 50, _EEF_COMMAND)):
        ramp = timeline.sweep(ranges, band)
        yield Topic(
            f'/sg100_hand_{kind.lower()}',
            f'kuavo_msgs/msg/SG100Hand{kind}',
            PublishTiming(rate, jitter_ms=1.0),
            _sg100(f'SG100Hand{kind}', ramp),
            ramps={
                f'{side}_hand_positions': timeline.ramp(ramp.first[half], ramp.last[half])
                for side, half in (
                    ('left', slice(SG100_JOINTS)), ('right', slice(SG100_JOINTS, None)),
                )
            },
        )  # fmt: skip


def _sg100(msgtype: str, ramp: Ramp) -> Build:
    position_control = 7
    all_joints = (1 << SG100_JOINTS) - 1

    def build(messages: Messages, moment: Moment) -> Any:
        positions = ramp.at(moment.time)
        return messages.new(
            msgtype,
            header=messages.header(moment),
            left_hand_positions=positions[:SG100_JOINTS],
            right_hand_positions=positions[SG100_JOINTS:],
            control_mode=position_control,
            left_enable_mask=all_joints,
            right_enable_mask=all_joints,
        )

    return build


def _linker_hands(timeline: SampleTimeline) -> Iterator[Topic]:
    ranges = np.tile([0.0, 255.0], (2 * LINKER_JOINTS, 1))
    for name, rate, band in (('state', 40, _EEF_STATE), ('control_cmd', 30, _EEF_COMMAND)):
        both = timeline.sweep(ranges, band)
        for side, half in (
            ('left', slice(LINKER_JOINTS)), ('right', slice(LINKER_JOINTS, None)),
        ):  # fmt: skip
            ramp = timeline.ramp(both.first[half], both.last[half])
            yield Topic(
                f'/cb_{side}_hand_{name}',
                JOINT_STATE,
                PublishTiming(rate, jitter_ms=1.0),
                joint_state([f'joint{i + 1}' for i in range(LINKER_JOINTS)], ramp),
                ramps={'position': ramp},
            )


def _gripper_ramps(timeline: SampleTimeline) -> tuple[Ramp, Ramp]:
    return timeline.sweep(_PAIR * 0.8, _EEF_STATE), timeline.sweep(_PAIR * 255, _EEF_COMMAND)


def _grippers(timeline: SampleTimeline) -> Iterator[Topic]:
    names = ['left_gripper', 'right_gripper']
    state, command = _gripper_ramps(timeline)
    for name, timing, ramp in (
        ('/gripper/state', _GRIPPER_STATE_TIMING, state),
        ('/gripper/command', _GRIPPER_COMMAND_TIMING, command),
    ):
        yield Topic(name, JOINT_STATE, timing, joint_state(names, ramp), ramps={'position': ramp})


def _typed_grippers(timeline: SampleTimeline) -> Iterator[Topic]:
    state, command = _gripper_ramps(timeline)

    def build_state(messages: Messages, moment: Moment) -> Any:
        left, right = state.at(moment.time).tolist()
        return messages.new(
            'Rq2f85ClawState',
            header=messages.header(moment),
            left_position=left,
            left_velocity=0.0,
            left_force=0.0,
            right_position=right,
            right_velocity=0.0,
            right_force=0.0,
        )

    def build_command(messages: Messages, moment: Moment) -> Any:
        left, right = command.at(moment.time).tolist()
        return messages.new(
            'Rq2f85ClawCmd', header=messages.header(moment), left_cmd=left, right_cmd=right
        )

    yield Topic(
        '/gripper/state',
        'kuavo_msgs/msg/Rq2f85ClawState',
        _GRIPPER_STATE_TIMING,
        build_state,
        ramps=_sides(timeline, state, 'position'),
    )
    yield Topic(
        '/gripper/command',
        'kuavo_msgs/msg/Rq2f85ClawCmd',
        _GRIPPER_COMMAND_TIMING,
        build_command,
        ramps=_sides(timeline, command, 'cmd'),
    )


def _sides(timeline: SampleTimeline, ramp: Ramp, suffix: str) -> dict[str, Ramp]:
    return {
        f'{side}_{suffix}': timeline.ramp(ramp.first[[i]], ramp.last[[i]])
        for i, side in enumerate(('left', 'right'))
    }
