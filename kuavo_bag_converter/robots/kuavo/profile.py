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

"""The profile of a Leju Kuavo robot, made from the original converter's options."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

from kuavo_bag_converter.profiles.model import (
    Align,
    CameraFeature,
    Clock,
    Part,
    Profile,
    Source,
    VectorFeature,
)
from kuavo_bag_converter.robots.kuavo.options import KuavoOptions
from kuavo_bag_converter.support.errors import BagError, UsageError

_JOINT_STATE = 'sensor_msgs/msg/JointState'
_SIDES = ('left', 'right')
_ARM_JOINTS = 7


class _Platform(NamedTuple):
    joints: int
    arm_start: int
    robot_type: str


_PLATFORMS = {
    '4pro': _Platform(28, 12, 'kuavo4pro'),
    '5w': _Platform(20, 4, 'kuavo-5w'),
    '5': _Platform(29, 13, 'kuavo-5'),
}


class _Opening(NamedTuple):
    """Where the opening of both sides of an end effector comes from, and what its numbers mean."""

    sources: tuple[Source, ...]
    value_range: tuple[float, float]
    threshold: float


class _EndEffector(NamedTuple):
    """One kind of end effector; both sides share a message."""

    name: str
    length: int
    """Elements of a message, left side first."""
    state: _Opening
    command: _Opening


_HANDS = ('left_hand_position', 'right_hand_position')
_END_EFFECTORS = {
    'leju_claw': _EndEffector(
        'claw',
        2,
        _Opening((Source('/leju_claw_state', ('data.position',)),), (0, 100), 50),
        _Opening((Source('/leju_claw_command', ('data.position',)),), (0, 100), 50),
    ),
    'qiangnao': _EndEffector(
        'qiangnao',
        12,
        _Opening(
            (
                Source('/dexhand/state', ('position',)),
                Source('/control_robot_hand_position_state', _HANDS),
            ),
            (0, 100),
            50,
        ),
        _Opening((Source('/control_robot_hand_position', _HANDS),), (0, 100), 50),
    ),
    'rq2f85': _EndEffector(
        'claw',
        2,
        _Opening(
            (
                Source('/gripper/state', ('position',), (_JOINT_STATE,)),
                Source('/gripper/state', ('left_position', 'right_position')),
            ),
            (0, 0.8),
            0.4,
        ),
        _Opening(
            (
                Source('/gripper/command', ('position',), (_JOINT_STATE,)),
                Source('/gripper/command', ('left_cmd', 'right_cmd')),
            ),
            (0, 255),
            70,
        ),
    ),
}


def _color_topics(camera: str, native: str, *others: str) -> tuple[str, ...]:
    """
    Return the topics of a colour camera: as Kuavo names them, then as its driver does.

    Pictures that stand alone come before video streams.
    """
    return (
        f'/{camera}/color/image_raw/compressed',
        f'/{camera}/color/compressed',
        f'/{camera}/color/image_raw',
        f'/{camera}/color/h265_stream',
        f'/{camera}/color/h264_stream',
        f'/{native}/color/image_raw/compressed',
        f'/{native}/color/image_raw',
        *others,
    )


def _depth_topics(camera: str, native: str, stream: str) -> tuple[str, ...]:
    return (
        f'/{camera}/depth/{stream}/compressedDepth',
        f'/{camera}/depth/{stream}/compressed',
        f'/{camera}/depth/{stream}',
        f'/{native}/depth/{stream}/compressedDepth',
        f'/{native}/depth/{stream}',
    )


# The last names are those of the ZED Mini head, and of the simulator's own cameras.
_COLOR_TOPICS = {
    'head_cam_h': _color_topics(
        'cam_h', 'camera', '/zedm/zed_node/left/image_rect_color/compressed'
    ),
    'wrist_cam_l': _color_topics('cam_l', 'left_wrist_camera', '/wrist_cam_l/color/image_raw'),
    'wrist_cam_r': _color_topics('cam_r', 'right_wrist_camera', '/wrist_cam_r/color/image_raw'),
}
_DEPTH_TOPICS = {
    'depth_h': _depth_topics('cam_h', 'camera', 'image_raw'),
    'depth_l': _depth_topics('cam_l', 'left_wrist_camera', 'image_rect_raw'),
    'depth_r': _depth_topics('cam_r', 'right_wrist_camera', 'image_rect_raw'),
}
_PLAIN_ARM_TOPIC = '/kuavo_arm_traj'
_SYNCED_ARM_TOPIC = '/kuavo_arm_traj_synced'
_BASE_TOPIC = '/cmd_pose_world_synced'
_STATE_TOPIC = '/sensors_data_raw'
_COMMAND_TOPIC = '/joint_cmd'


def end_effector_of(topics: Collection[str]) -> str:
    """
    Return the ``eef_type`` whose state topic is among a bag's topics.

    :raises BagError: There is none, or more than one.
    """
    found = [
        eef_type
        for eef_type, eef in _END_EFFECTORS.items()
        if any(source.topic in topics for source in eef.state.sources)
    ]
    if len(found) == 1:
        return found[0]
    looked_for = ', '.join(
        source.topic for eef in _END_EFFECTORS.values() for source in eef.state.sources[:1]
    )
    if not found:
        raise BagError(f'no end effector topic in the bag (looked for {looked_for})')
    raise BagError(f'topics of several end effectors in the bag; set eef_type to one of {found}')


def kuavo_profile(options: KuavoOptions) -> Profile:
    """
    Build the profile of ``options``, whose ``eef_type`` is not ``auto``.

    :raises UsageError: KuavoOptions do not fit each other or the robot.
    """
    _check(options)
    platform = _PLATFORMS[options.platform_type]
    eef = _END_EFFECTORS[options.eef_type]
    align = _align(options)
    command_align = align
    if options.late_eef == 'zeros_then_hold':
        command_align = replace(align, strategy='hold', zeros_before_first=True)

    state: list[Part] = []
    action: list[Part] = []
    for side in _sides(options):
        state.append(_joints(options, platform, side, align))
        state.append(_hand(options, eef, side, align, command=False))
        action.append(_arm_command(options, side, align))
        action.append(_hand(options, eef, side, command_align, command=True))
    if not options.only_arm:
        action += _base_motion(options, align)

    size = (options.resize_height, options.resize_width)
    picture_align = replace(align, strategy='nearest') if align.strategy == 'linear' else align
    cameras: list[CameraFeature] = []
    for name in _camera_names(options):
        color = tuple(map(Source, _COLOR_TOPICS[name]))
        cameras.append(
            CameraFeature(f'observation.images.{name}', color, size, align=picture_align)
        )
        if options.use_depth:
            depth = f'depth_{name[-1]}'
            cameras.append(
                CameraFeature(
                    f'observation.{depth}',
                    tuple(map(Source, _DEPTH_TOPICS[depth])),
                    size,
                    options.depth_coding,  # type: ignore[arg-type]  # checked against the choices
                    (options.depth_range[0], options.depth_range[1]),
                    picture_align,
                )
            )
    return Profile(
        name='kuavo',
        robot_type=platform.robot_type,
        fps=options.train_hz,
        clock=_clock(options),
        features=(
            VectorFeature('observation.state', tuple(state)),
            VectorFeature(
                'action',
                tuple(action),
                minus='observation.state' if options.delta_action else None,
            ),
            *cameras,
        ),
        task=options.task_description,
    )


def _check(options: KuavoOptions) -> None:
    span = options.depth_range
    if len(span) != 2 or span[0] >= span[1]:
        raise UsageError(f'depth_range: expected [min, max] in mm, found {list(span)}')
    if options.dex_dof_needed not in (1, 2, 6):
        raise UsageError(f'dex_dof_needed: expected 1, 2 or 6, found {options.dex_dof_needed}')
    if options.main_timeline not in ('most_messages', *_camera_names(options)):
        raise UsageError(
            f'main_timeline: {options.main_timeline} is not used with which_arm '
            f'{options.which_arm}; set it to head_cam_h'
        )


def _sides(options: KuavoOptions) -> tuple[str, ...]:
    return _SIDES if options.which_arm == 'both' else (options.which_arm,)


def _camera_names(options: KuavoOptions) -> list[str]:
    return ['head_cam_h', *(f'wrist_cam_{side[0]}' for side in _sides(options))]


def _align(options: KuavoOptions) -> Align:
    tolerance = options.align_tolerance_ms or None
    on_gap = options.align_on_gap
    if on_gap == 'auto':
        on_gap = 'split' if tolerance else 'keep'
    return Align(
        strategy=options.align_strategy,  # type: ignore[arg-type]  # checked against the choices
        timeline=options.align_timeline,  # type: ignore[arg-type]
        tolerance_ms=tolerance,
        on_gap=on_gap,  # type: ignore[arg-type]
    )


def _clock(options: KuavoOptions) -> Clock:
    # The original trims at the end of every topic that it knows, used or not.
    known = [_STATE_TOPIC, _COMMAND_TOPIC, _PLAIN_ARM_TOPIC, _SYNCED_ARM_TOPIC, _BASE_TOPIC]
    for eef in _END_EFFECTORS.values():
        known += [source.topic for source in (*eef.state.sources[:1], *eef.command.sources)]
    automatic = options.main_timeline == 'most_messages'
    names = _camera_names(options) if automatic else [options.main_timeline]
    return Clock(
        sources=tuple(Source(topic) for name in names for topic in _COLOR_TOPICS[name]),
        most_messages=automatic,
        source_fps=options.main_timeline_fps,
        decimation=options.decimation,  # type: ignore[arg-type]
        drop=options.sample_drop,
        end_trim=options.end_trim,  # type: ignore[arg-type]
        end_topics=tuple(dict.fromkeys(known)),
        timeline=options.align_timeline,  # type: ignore[arg-type]
        absurd_stamp_s=options.absurd_stamp_s,
    )


def _joints(options: KuavoOptions, platform: _Platform, side: str, align: Align) -> Part:
    start = platform.arm_start + _ARM_JOINTS * _SIDES.index(side)
    return Part(
        names=_arm_names(side),
        sources=(Source(_STATE_TOPIC, ('joint_data.joint_q',)),),
        length=platform.joints,
        select=tuple(range(start, start + _ARM_JOINTS)),
        relative_to_start=options.relative_start,
        align=align,
    )


def _arm_command(options: KuavoOptions, side: str, align: Align) -> Part:
    start = _ARM_JOINTS * _SIDES.index(side)
    plain_align = None
    if not options.only_arm:
        plain_align = replace(align, gap_ms=_gap_ms(options), on_gap='mark')
    return Part(
        names=_arm_names(side),
        sources=(
            # Its publishers number the joints from 0 or from 1; their order is always the same.
            Source(_SYNCED_ARM_TOPIC, ('position',), names_field=None),
            Source(_PLAIN_ARM_TOPIC, ('position',), align=plain_align, names_field=None),
        ),
        length=2 * _ARM_JOINTS,
        select=tuple(range(start, start + _ARM_JOINTS)),
        unit='deg2rad',
        relative_to_start=options.relative_start,
        align=align,
    )


def _hand(
    options: KuavoOptions, eef: _EndEffector, side: str, align: Align, *, command: bool
) -> Part:
    per_side = eef.length // 2
    start = per_side * _SIDES.index(side)
    used = options.dex_dof_needed if eef.name == 'qiangnao' else per_side
    if eef.name == 'qiangnao':
        names = tuple(f'{side}_qiangnao_{i + 1}' for i in range(used))
    else:
        names = (f'{side}_claw',)
    opening = eef.command if command else eef.state
    return Part(
        names=names,
        sources=opening.sources,
        length=eef.length,
        select=tuple(range(start, start + used)),
        value_range=None if options.is_binary else opening.value_range,
        threshold=opening.threshold if options.is_binary else None,
        align=align,
    )


def _base_motion(options: KuavoOptions, align: Align) -> list[Part]:
    fields = ('twist.linear.x', 'twist.linear.y', 'twist.angular.z')
    return [
        Part(
            names=('cmd_pos_x', 'cmd_pos_y', 'cmd_pos_yaw'),
            sources=(Source(_BASE_TOPIC, fields),),
            length=3,
            align=align,
        ),
        Part(
            names=('ctrl_change_cmd',),
            sources=(Source(_PLAIN_ARM_TOPIC),),
            gap_flag=True,
            align=Align(timeline=align.timeline, gap_ms=_gap_ms(options)),
        ),
    ]


def _gap_ms(options: KuavoOptions) -> float:
    """Return the original's rule: 150 ms at 10 Hz, in proportion at other rates."""
    return 150.0 * 10 / options.train_hz


def _arm_names(side: str) -> tuple[str, ...]:
    return tuple(f'zarm_{side[0]}{i + 1}_link' for i in range(_ARM_JOINTS))
