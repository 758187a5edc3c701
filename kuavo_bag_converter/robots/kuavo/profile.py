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
from functools import partial
from typing import Any, NamedTuple

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
from kuavo_bag_converter.robots.robot import BagTopics
from kuavo_bag_converter.support.errors import BagError, UsageError

_JOINT_STATE = 'sensor_msgs/msg/JointState'
_SIDES = ('left', 'right')
_ARM_JOINTS = 7


_command = partial(Source, names_field=None, frame_ids=None)
"""
Several nodes command the robot. They number the joints from 0 or from 1, in the same order, and
their headers name other frames or none.
"""


class _Platform(NamedTuple):
    joints: int
    """Elements of joint_q: the lower body, the arms, two of the head."""
    arm_start: int
    robot_type: str

    @property
    def head_start(self) -> int:
        return self.arm_start + 2 * _ARM_JOINTS


_PLATFORMS = {
    '4pro': _Platform(28, 12, 'kuavo4pro'),
    '5w': _Platform(20, 4, 'kuavo-5w'),
    '5': _Platform(29, 13, 'kuavo-5'),
}


class _Values(NamedTuple):
    """Where the state or the command of an end effector comes from, and what its numbers mean."""

    sources: tuple[Source, ...]
    """Of both sides, or with ``{side}`` in the topic where each has one of its own."""
    value_range: tuple[float, float]
    """What is open and what is closed."""
    threshold: float
    """Closed are values above it."""

    def of_side(self, side: str) -> tuple[Source, ...]:
        return tuple(
            replace(source, topic=source.topic.replace('{side}', side)) for source in self.sources
        )


class _EndEffector(NamedTuple):
    """One kind of end effector."""

    name: str
    joints: int
    """Of one side; 0 if hands of this kind differ in it."""
    state: _Values
    command: _Values
    is_hand: bool = True
    """Whether ``dex_dof_needed`` of its joints are used, not one."""

    @property
    def by_side(self) -> bool:
        """Whether each side has a topic of its own; else they share one, left first."""
        return '{side}' in self.state.sources[0].topic


_HANDS = ('left_hand_position', 'right_hand_position')
_SG100_HANDS = ('left_hand_positions', 'right_hand_positions')
_END_EFFECTORS = {
    'leju_claw': _EndEffector(
        'claw',
        1,
        _Values((Source('/leju_claw_state', ('data.position',)),), (0, 100), 50),
        _Values((_command('/leju_claw_command', ('data.position',)),), (0, 100), 50),
        is_hand=False,
    ),
    'qiangnao': _EndEffector(
        'qiangnao',
        6,
        _Values(
            (
                Source('/dexhand/state', ('position',)),
                Source('/control_robot_hand_position_state', _HANDS),
            ),
            (0, 100),
            50,
        ),
        _Values((_command('/control_robot_hand_position', _HANDS),), (0, 100), 50),
    ),
    'rq2f85': _EndEffector(
        'claw',
        1,
        _Values(
            (
                Source('/gripper/state', ('position',), (_JOINT_STATE,)),
                Source('/gripper/state', ('left_position', 'right_position')),
            ),
            (0, 0.8),
            0.4,
        ),
        _Values(
            (
                _command('/gripper/command', ('position',), (_JOINT_STATE,)),
                _command('/gripper/command', ('left_cmd', 'right_cmd')),
            ),
            (0, 255),
            70,
        ),
        is_hand=False,
    ),
    'sg100': _EndEffector(
        'sg100',
        11,
        _Values((Source('/sg100_hand_state', _SG100_HANDS),), (0, 1.57), 0.785),
        _Values((_command('/sg100_hand_command', _SG100_HANDS),), (0, 1.57), 0.785),
    ),
    'linker_hand': _EndEffector(
        'linker_hand',
        0,
        _Values((Source('/cb_{side}_hand_state', ('position',)),), (0, 255), 127.5),
        _Values((_command('/cb_{side}_hand_control_cmd', ('position',)),), (0, 255), 127.5),
    ),
}
_ALIASES = {'revo2': 'qiangnao'}
_ORIGINAL_END_EFFECTORS = ('leju_claw', 'qiangnao', 'rq2f85')


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
        f'/{camera}/depth/h265_stream',
    )


# The last names are those of the ZED Mini head, and of the simulator's own cameras.
_COLOR_TOPICS = {
    'head_cam_h': _color_topics(
        'cam_h', 'camera', '/zedm/zed_node/left/image_rect_color/compressed'
    ),
    'wrist_cam_l': _color_topics('cam_l', 'left_wrist_camera', '/wrist_cam_l/color/image_raw'),
    'wrist_cam_r': _color_topics('cam_r', 'right_wrist_camera', '/wrist_cam_r/color/image_raw'),
}
_EXTRA_TOPICS = {
    'head_cam_l': ('/left_cam/color/image_raw/compressed', '/left_cam/color/image_raw'),
    'head_cam_r': (
        '/zedm/zed_node/right/image_rect_color/compressed',
        '/right_cam/color/image_raw/compressed',
        '/right_cam/color/image_raw',
    ),
}
_DEPTH_TOPICS = {
    'depth_h': _depth_topics('cam_h', 'camera', 'image_raw'),
    'depth_l': _depth_topics('cam_l', 'left_wrist_camera', 'image_rect_raw'),
    'depth_r': _depth_topics('cam_r', 'right_wrist_camera', 'image_rect_raw'),
}
UNREADABLE = tuple(f'/cam_{letter}/depth/h265_stream' for letter in 'hlr')
"""Topics that are named in an error: a video of depth holds no depths any more."""
_PLAIN_ARM_TOPIC = '/kuavo_arm_traj'
_SYNCED_ARM_TOPIC = '/kuavo_arm_traj_synced'
_BASE_TOPIC = '/cmd_pose_world_synced'
_ROBAN_TOPIC = '/rt/joint_state'
_STATE_TOPIC = '/sensors_data_raw'
_STATE_FIELD = 'joint_data.joint_q'
_COMMAND_TOPIC = '/joint_cmd'


_LOWER_BODY_TOPIC = '/lb_leg_traj'
_VELOCITY_TOPIC = '/cmd_vel'
_HEAD_TOPIC = '/robot_head_motion_data'
_TOUCH_TOPIC = '/dexhand/touch_state'


def hand_joints(eef_type: str) -> int | None:
    """Return the joints of one hand, 0 where hands differ, None of what is no hand."""
    eef = _END_EFFECTORS[eef_type]
    return eef.joints if eef.is_hand else None


def settled(options: KuavoOptions, bag: BagTopics) -> KuavoOptions:
    """
    Return the options with what is ``auto`` settled by a bag.

    :raises BagError: The bag leaves it open.
    """
    changes: dict[str, Any] = {}
    is_open = 'auto' in (options.eef_type, options.platform_type)
    if is_open and _ROBAN_TOPIC in bag and _STATE_TOPIC not in bag:
        raise BagError(f'{_ROBAN_TOPIC}: is of a Roban, which is no Kuavo; set profile=roban')
    if options.eef_type == 'auto':
        changes['eef_type'] = _end_effector_of(bag)
    if options.platform_type == 'auto':
        changes['platform_type'] = _platform_of(bag)
    if options.use_depth == 'auto':
        names = [f'depth_{camera[-1]}' for camera in _camera_names(options)]
        found = any(topic in bag for name in names for topic in _DEPTH_TOPICS[name])
        changes['use_depth'] = 'true' if found else 'false'
    return replace(options, **changes)


def _end_effector_of(topics: Collection[str]) -> str:
    first = {
        eef_type: [source.topic for side in _SIDES for source in eef.state.of_side(side)]
        for eef_type, eef in _END_EFFECTORS.items()
    }
    found = [name for name, mine in first.items() if any(topic in topics for topic in mine)]
    if len(found) == 1:
        return found[0]
    if not found:
        looked_for = ', '.join(mine[0] for mine in first.values())
        raise BagError(f'no end effector topic in the bag (looked for {looked_for})')
    raise BagError(f'topics of several end effectors in the bag; set eef_type to one of {found}')


def _platform_of(bag: BagTopics) -> str:
    joints = bag.length_of(_STATE_TOPIC, _STATE_FIELD)
    for name, platform in _PLATFORMS.items():
        if platform.joints == joints:
            return name
    if joints is None:
        return next(iter(_PLATFORMS))  # of any robot it is said that its state is missing
    known = ', '.join(f'{item.joints} ({name})' for name, item in _PLATFORMS.items())
    raise BagError(
        f'{_STATE_TOPIC}: {joints} elements in {_STATE_FIELD}, by which platform_type: auto knows '
        f'{known}; set platform_type, or write a profile for this robot'
    )


def kuavo_profile(options: KuavoOptions) -> Profile:
    """
    Build the profile of ``options``, of which nothing is ``auto``.

    :raises UsageError: The options do not fit each other or the robot.
    """
    _check(options)
    platform = _PLATFORMS[options.platform_type]
    eef = _END_EFFECTORS[_eef_type(options)]
    align = _align(options)
    command_align = align
    if options.late_eef == 'zeros_then_hold':
        command_align = replace(align, strategy='hold', zeros_before_first=True)

    state: list[Part] = []
    action: list[Part] = []
    for side in _sides(options):
        start = platform.arm_start + _ARM_JOINTS * _SIDES.index(side)
        state.append(
            replace(
                _joints(platform, start, _arm_names(side), align),
                relative_to_start=options.relative_start,
            )
        )
        state.append(_hand(options, eef, side, align, command=False))
        command = _hand(options, eef, side, command_align, command=True)
        action += [_arm_command(options, side, align), command]
    if options.wholebody_5w:
        names = tuple(f'lower_body_{joint + 1}' for joint in range(platform.arm_start))
        state.append(_joints(platform, 0, names, align))
        source = Source(_LOWER_BODY_TOPIC, ('position',))
        action.append(Part(names, (source,), len(names), unit='deg2rad', align=align))
    if options.use_head:
        names = ('head_yaw', 'head_pitch')
        state.append(_joints(platform, platform.head_start, names, align))
        # It is sent when the head is to move, without a header.
        head = Align('hold', zeros_before_first=True)
        source = Source(_HEAD_TOPIC, ('joint_data',))
        action.append(Part(names, (source,), len(names), unit='deg2rad', align=head))
    if options.missing_action == 'state':
        action = [
            replace(command, stand_in=measured)
            for command, measured in zip(action, state, strict=True)
        ]
    if not options.only_arm:
        action += _base_motion(options, align)
    if options.base_move_5w:
        fields = ('linear.x', 'linear.y', 'angular.z')
        names = ('base_vx', 'base_vy', 'base_vyaw')
        source = Source(_VELOCITY_TOPIC, fields)
        action.append(Part(names, (source,), 3, align=replace(align, timeline='bag')))

    size = (options.resize_height, options.resize_width)
    picture_align = replace(align, strategy='nearest') if align.strategy == 'linear' else align
    cameras: list[CameraFeature] = []
    for name in _camera_names(options):
        color = tuple(map(Source, _COLOR_TOPICS[name]))
        cameras.append(
            CameraFeature(f'observation.images.{name}', color, size, align=picture_align)
        )
        if options.use_depth == 'true':
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
    for name in options.extra_cameras:
        color = tuple(map(Source, _EXTRA_TOPICS[name]))
        key = f'observation.images.{name}'
        cameras.append(CameraFeature(key, color, size, align=picture_align))
    tactile = (_tactile(options, align),) if options.use_tactile else ()
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
            *tactile,
            *cameras,
        ),
        task=options.task_description,
    )


def _check(options: KuavoOptions) -> None:
    span = options.depth_range
    if len(span) != 2 or span[0] >= span[1]:
        raise UsageError(f'depth_range: expected [min, max] in mm, found {list(span)}')
    eef = _END_EFFECTORS[_eef_type(options)]
    needed, first = options.dex_dof_needed, options.dex_dof_offset
    if eef.is_hand and eef.joints and first + needed > eef.joints:
        raise UsageError(
            f'dex_dof_needed: {options.eef_type} has {eef.joints} joints a hand, found {needed} '
            f'from dex_dof_offset {first} on'
        )
    if options.platform_type != '5w' and (options.wholebody_5w or options.base_move_5w):
        name = '5w_wholebody' if options.wholebody_5w else '5w_base_move'
        raise UsageError(f'{name}: is of platform_type 5w, found {options.platform_type}')
    if options.main_timeline not in ('most_messages', *_camera_names(options)):
        raise UsageError(
            f'main_timeline: {options.main_timeline} is not used with which_arm '
            f'{options.which_arm}; set it to head_cam_h'
        )


def _eef_type(options: KuavoOptions) -> str:
    return _ALIASES.get(options.eef_type, options.eef_type)


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
    for name in _ORIGINAL_END_EFFECTORS:
        eef = _END_EFFECTORS[name]
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
        on_step_back=options.on_step_back,  # type: ignore[arg-type]
        on_pause=options.on_pause,  # type: ignore[arg-type]
    )


def _joints(platform: _Platform, start: int, names: tuple[str, ...], align: Align) -> Part:
    return Part(
        names=names,
        sources=(Source(_STATE_TOPIC, (_STATE_FIELD,)),),
        length=platform.joints,
        select=tuple(range(start, start + len(names))),
        align=align,
    )


def _arm_command(options: KuavoOptions, side: str, align: Align) -> Part:
    start = _ARM_JOINTS * _SIDES.index(side)
    plain_align = None
    if not options.only_arm:
        plain_align = replace(align, gap_ms=_gap_ms(options), on_gap='mark')
    sources = (
        # Its publishers number the joints from 0 or from 1; their order is always the same.
        _command(_SYNCED_ARM_TOPIC, ('position',)),
        _command(_PLAIN_ARM_TOPIC, ('position',), align=plain_align),
    )
    return Part(
        names=_arm_names(side),
        sources=sources if options.arm_command == 'synced' else sources[::-1],
        length=2 * _ARM_JOINTS,
        select=tuple(range(start, start + _ARM_JOINTS)),
        unit='deg2rad',
        relative_to_start=options.relative_start,
        align=align,
    )


def _hand(
    options: KuavoOptions, eef: _EndEffector, side: str, align: Align, *, command: bool
) -> Part:
    values = eef.command if command else eef.state
    used = options.dex_dof_needed if eef.is_hand else 1
    first = options.dex_dof_offset if eef.is_hand else 0
    names: tuple[str, ...] = (f'{side}_{eef.name}',)
    if eef.is_hand:
        names = tuple(f'{side}_{eef.name}_{first + i + 1}' for i in range(used))
    if not eef.by_side:
        first += eef.joints * _SIDES.index(side)
    return Part(
        names=names,
        sources=values.of_side(side),
        length=None if eef.by_side else 2 * eef.joints,
        select=tuple(range(first, first + used)),
        value_range=None if options.is_binary else values.value_range,
        threshold=values.threshold if options.is_binary else None,
        align=align,
    )


def _tactile(options: KuavoOptions, align: Align) -> VectorFeature:
    fingers = ('thumb', 'index', 'middle', 'ring', 'pinky')
    return VectorFeature(
        'observation.tactile',
        tuple(
            Part(
                names=tuple(f'{side}_{finger}_{k + 1}' for finger in fingers for k in range(3)),
                sources=(
                    Source(
                        _TOUCH_TOPIC,
                        tuple(
                            f'{side}_hand[{finger}].normal_force{k + 1}'
                            for finger in range(len(fingers))
                            for k in range(3)
                        ),
                    ),
                ),
                align=align,
            )
            for side in _sides(options)
        ),
    )


def _base_motion(options: KuavoOptions, align: Align) -> list[Part]:
    fields = ('twist.linear.x', 'twist.linear.y', 'twist.angular.z')
    return [
        Part(
            names=('cmd_pos_x', 'cmd_pos_y', 'cmd_pos_yaw'),
            sources=(_command(_BASE_TOPIC, fields),),
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
