"""The topics of the robot: when they are published, and what their messages say."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kuavo_bag_converter.errors import UsageError
from kuavo_bag_converter.sample.messages import NANOSECONDS, Messages, Moment
from kuavo_bag_converter.sample.options import STREAMS, SampleOptions
from kuavo_bag_converter.sample.pictures import ColorScene, DepthScene
from kuavo_bag_converter.sample.robot import (
    ARM_COMMAND,
    ARM_NAMES,
    JOINT_COMMAND,
    STATE,
    SYNCED_ARM_COMMAND,
    Band,
    Timeline,
    arm_ranges,
    degrees,
    joint_ranges,
)
from kuavo_bag_converter.sample.stamps import Timing
from kuavo_bag_converter.sample.streams import StreamEncoder
from kuavo_bag_converter.sample.truth import Ramp

Build: TypeAlias = Callable[[Messages, Moment], Any]
"""Makes one message of a topic."""

_CONTROL_DELAY_MS = (-15.0, -11.0)
_COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
_IMAGE = 'sensor_msgs/msg/Image'
_JOINT_STATE = 'sensor_msgs/msg/JointState'
_NOTHING = np.zeros(0)
_PAIR = np.array([[0.0, 1.0], [0.0, 1.0]])
_JPEG_QUALITY = 80
_SIMULATOR_JPEG_QUALITY = 95
_FIRST_ARM_COMMAND_S = 1.24


@dataclass(frozen=True)
class Topic:
    """One topic of a recording."""

    name: str
    msgtype: str
    timing: Timing
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


def topics_of(options: SampleOptions, timeline: Timeline) -> list[Topic]:
    """Return the topics that a robot with these options records.

    Raises:
        UsageError: ``starts`` or ``gaps`` name a topic that is not among them.

    """
    topics = [
        *_body(options, timeline),
        *_end_effectors(options, timeline),
        *(_whole_body(timeline) if options.whole_body else ()),
        *_cameras(options),
        *(_extras() if options.extras else ()),
    ]
    names = {topic.name for topic in topics if not topic.clock}
    for option in ('starts', 'gaps'):
        for name in getattr(options, option):
            if name not in names:
                raise UsageError(
                    f'sample: {option} names {name}, which is not among the topics: '
                    f'{", ".join(sorted(names))}'
                )
    return [_timed(topic, options) for topic in topics]


def _timed(topic: Topic, options: SampleOptions) -> Topic:
    own = topic.clock or topic.name
    timing = replace(
        topic.timing,
        start_s=options.starts.get(own, topic.timing.start_s),
        gaps_s=tuple(options.gaps.get(own, ())),
    )
    return replace(topic, timing=timing)


def _body(options: SampleOptions, timeline: Timeline) -> Iterator[Topic]:
    ranges = joint_ranges(options.platform_type)
    control = Timing(500, _CONTROL_DELAY_MS, jitter_ms=0.1)
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
        _JOINT_STATE,
        Timing(
            100,
            _CONTROL_DELAY_MS,
            jitter_ms=1.0,
            start_s=min(_FIRST_ARM_COMMAND_S, options.seconds / 4),
        ),
        _joint_state(ARM_NAMES, arms),
        ramps={'position': arms},
    )


def _sensors_data(state: Ramp, yaw: Ramp, sdk: str) -> Build:
    joints = len(state.first)
    speeds = (state.last - state.first) * (NANOSECONDS / state.duration)
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
            gyro=messages.vector3(z=float(yaw.last[0] * NANOSECONDS / yaw.duration)),
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
            sensor_time=messages.time(moment.time - 10 * NANOSECONDS),
            joint_data=joint_data,
            imu_data=imu_data,
            end_effector_data=messages.end_effectors([], _NOTHING, _NOTHING, _NOTHING),
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


def _joint_state(names: list[str], positions: Ramp) -> Build:
    def build(messages: Messages, moment: Moment) -> Any:
        return messages.new(
            _JOINT_STATE,
            header=messages.header(moment),
            name=names,
            position=positions.at(moment.time),
            velocity=_NOTHING,
            effort=_NOTHING,
        )

    return build


def _end_effectors(options: SampleOptions, timeline: Timeline) -> Iterator[Topic]:
    if options.eef_type == 'leju_claw':
        yield from _claws(timeline)
    elif options.eef_type == 'qiangnao':
        yield from _hands(timeline)
    elif options.gripper_messages == 'JointState':
        yield from _grippers(timeline)
    else:
        yield from _typed_grippers(timeline)


_EEF_STATE = Band(0.1, 0.8)
_EEF_COMMAND = Band(0.15, 0.9)


def _claws(timeline: Timeline) -> Iterator[Topic]:
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
        data = messages.end_effectors(names, command.at(moment.time), np.full(2, 90.0), _NOTHING)
        return messages.new('lejuClawCommand', header=messages.header(moment), data=data)

    yield Topic(
        '/leju_claw_state',
        'kuavo_msgs/msg/lejuClawState',
        Timing(500, jitter_ms=0.1),
        build_state,
        ramps={'data.position': state},
    )
    yield Topic(
        '/leju_claw_command',
        'kuavo_msgs/msg/lejuClawCommand',
        Timing(100, jitter_ms=1.0),
        build_command,
        ramps={'data.position': command},
    )


def _hands(timeline: Timeline) -> Iterator[Topic]:
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
        _JOINT_STATE,
        Timing(100, jitter_ms=1.0),
        _joint_state(names, state),
        ramps={'position': state},
    )
    yield Topic(
        '/control_robot_hand_position',
        'kuavo_msgs/msg/robotHandPosition',
        Timing(100, jitter_ms=1.0),
        build_command,
    )


_GRIPPER_STATE_TIMING = Timing(500, jitter_ms=0.1)
_GRIPPER_COMMAND_TIMING = Timing(200, jitter_ms=0.3)


def _gripper_ramps(timeline: Timeline) -> tuple[Ramp, Ramp]:
    return timeline.sweep(_PAIR * 0.8, _EEF_STATE), timeline.sweep(_PAIR * 255, _EEF_COMMAND)


def _grippers(timeline: Timeline) -> Iterator[Topic]:
    names = ['left_gripper', 'right_gripper']
    state, command = _gripper_ramps(timeline)
    for name, timing, ramp in (
        ('/gripper/state', _GRIPPER_STATE_TIMING, state),
        ('/gripper/command', _GRIPPER_COMMAND_TIMING, command),
    ):
        yield Topic(name, _JOINT_STATE, timing, _joint_state(names, ramp), ramps={'position': ramp})


def _typed_grippers(timeline: Timeline) -> Iterator[Topic]:
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


def _sides(timeline: Timeline, ramp: Ramp, suffix: str) -> dict[str, Ramp]:
    return {
        f'{side}_{suffix}': timeline.ramp(ramp.first[[i]], ramp.last[[i]])
        for i, side in enumerate(('left', 'right'))
    }


def _whole_body(timeline: Timeline) -> Iterator[Topic]:
    timing = Timing(100, _CONTROL_DELAY_MS, jitter_ms=0.3)
    arms = timeline.sweep(degrees(arm_ranges()), SYNCED_ARM_COMMAND)
    yield Topic(
        '/kuavo_arm_traj_synced',
        _JOINT_STATE,
        timing,
        _joint_state(ARM_NAMES, arms),
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
        ramps={axis: timeline.ramp(base.first[[i]], base.last[[i]]) for i, axis in enumerate(axes)},
    )


@dataclass(frozen=True)
class _Camera:
    letter: str
    """As in ``/cam_h``."""
    native: str
    """First part of the topics as the driver names them."""
    color: str
    depth: str
    """Names in the frame numbers."""
    depth_topic: str
    depth_frame: str
    driver: str
    delay_ms: tuple[float, float]
    phase_ms: float
    focal: float
    """In picture widths."""
    distortion: tuple[str, int]
    """Model and number of its parameters."""
    simulator_frame: str


_CAMERAS = (
    _Camera(
        'h', 'camera', 'head_cam_h', 'depth_h', 'image_raw', 'cam_h_color_optical_frame',
        'orbbec_camera', (51.0, 53.0), 5.0, 406 / 848, ('rational_polynomial', 8),
        'Head Camera View',
    ),
    _Camera(
        'l', 'left_wrist_camera', 'wrist_cam_l', 'depth_l', 'image_rect_raw',
        'cam_l_depth_optical_frame', 'realsense2_camera', (22.0, 24.0), 12.0, 430 / 848,
        ('plumb_bob', 5), 'Left Wrist Camera View',
    ),
    _Camera(
        'r', 'right_wrist_camera', 'wrist_cam_r', 'depth_r', 'image_rect_raw',
        'cam_r_depth_optical_frame', 'realsense2_camera', (22.0, 24.0), 19.0, 430 / 848,
        ('plumb_bob', 5), 'Right wrist Camera View',
    ),
)  # fmt: skip
_DEPTH_LAG_MS = 6.0


def _cameras(options: SampleOptions) -> Iterator[Topic]:
    for camera, rate in zip(_CAMERAS, options.camera_rates, strict=True):
        timing = Timing(rate, camera.delay_ms, jitter_ms=0.35, phase_ms=camera.phase_ms)
        yield from _color_topics(camera, timing, options)
        if options.depth:
            least, most = camera.delay_ms
            timing = replace(timing, delay_ms=(least + _DEPTH_LAG_MS, most + _DEPTH_LAG_MS))
            yield from _depth_topics(camera, timing, options)


def _color_topics(camera: _Camera, timing: Timing, options: SampleOptions) -> Iterator[Topic]:
    quality = _SIMULATOR_JPEG_QUALITY if options.simulator else _JPEG_QUALITY
    frame = (
        camera.simulator_frame if options.simulator else f'cam_{camera.letter}_color_optical_frame'
    )
    scene = ColorScene(options.size, options.seed, camera.color, quality)
    base = f'/{_namespace(camera, options)}/color'
    if options.transport == 'jpeg':
        picture_format = 'rgb8' if options.simulator else 'rgb8; jpeg compressed bgr8'
        name, msgtype = f'{base}/image_raw/compressed', _COMPRESSED_IMAGE
        build = _compressed(scene.encode, frame, picture_format)
    elif options.transport == 'raw':
        name, msgtype = f'{base}/image_raw', _IMAGE
        build = _image(lambda number, time: scene.draw(number, time)[..., ::-1], frame, 'rgb8')
    else:
        stream = StreamEncoder(options.transport, options.size)
        name, msgtype = f'{base}/{options.transport}_stream', _COMPRESSED_IMAGE
        build = _compressed(
            lambda number, time: stream.encode(scene.draw(number, time)), frame, options.transport
        )
    in_order = options.transport in STREAMS
    yield Topic(name, msgtype, timing, build, camera=camera.color, in_order=in_order)
    if options.extras:
        yield from _about_pictures(camera, base, frame, name, timing, options)


def _depth_topics(camera: _Camera, timing: Timing, options: SampleOptions) -> Iterator[Topic]:
    frame = camera.simulator_frame if options.simulator else camera.depth_frame
    scene = DepthScene(options.size, options.seed, camera.depth, simulator=options.simulator)
    base = f'/{_namespace(camera, options)}/depth'
    if options.transport == 'raw':
        name, msgtype = f'{base}/{camera.depth_topic}', _IMAGE
        build = _image(scene.draw, frame, '16UC1')
    else:
        picture_format = '16UC1; compressedDepth png'
        if options.simulator:
            picture_format = '16UC1; jpeg compressed; znear=0.000100; zfar=100.000000'
        name, msgtype = f'{base}/{camera.depth_topic}/compressedDepth', _COMPRESSED_IMAGE
        build = _compressed(scene.encode, frame, picture_format)
    yield Topic(name, msgtype, timing, build, camera=camera.depth)
    if options.extras:
        yield from _about_pictures(camera, base, frame, name, timing, options)


def _namespace(camera: _Camera, options: SampleOptions) -> str:
    return camera.native if options.transport == 'raw' else f'cam_{camera.letter}'


def _compressed(
    encode: Callable[[int, int], npt.NDArray[np.uint8]], frame: str, picture_format: str
) -> Build:
    def build(messages: Messages, moment: Moment) -> Any:
        return messages.new(
            _COMPRESSED_IMAGE,
            header=messages.header(moment, frame),
            format=picture_format,
            data=encode(moment.ordinal, moment.time),
        )

    return build


def _image(draw: Callable[[int, int], npt.NDArray[Any]], frame: str, encoding: str) -> Build:
    def build(messages: Messages, moment: Moment) -> Any:
        pixels = np.ascontiguousarray(draw(moment.ordinal, moment.time))
        return messages.new(
            _IMAGE,
            header=messages.header(moment, frame),
            height=pixels.shape[0],
            width=pixels.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=pixels.strides[0],
            data=pixels.reshape(-1).view(np.uint8),
        )

    return build


def _about_pictures(
    camera: _Camera,
    base: str,
    frame: str,
    pictures: str,
    timing: Timing,
    options: SampleOptions,
) -> Iterator[Topic]:
    def build_info(messages: Messages, moment: Moment) -> Any:
        focal = camera.focal * options.size[1]
        return messages.camera_info(
            messages.header(moment, frame), options.size, focal, *camera.distortion
        )

    metadata = f'{camera.driver}/msg/Metadata'

    def build_metadata(messages: Messages, moment: Moment) -> Any:
        content = {'frame_number': moment.ordinal, 'timestamp': moment.time // 1000}
        return messages.new(
            metadata, header=messages.header(moment, frame), json_data=json.dumps(content)
        )

    sensor_msgs = 'sensor_msgs/msg/CameraInfo'
    yield Topic(f'{base}/camera_info', sensor_msgs, timing, build_info, clock=pictures)
    yield Topic(f'{base}/metadata', metadata, timing, build_metadata, clock=pictures)


def _extras() -> Iterator[Topic]:
    once = Timing(0)
    tf_message = 'tf2_msgs/msg/TFMessage'
    array = 'std_msgs/msg/Float32MultiArray'
    yield Topic('/tf', tf_message, Timing(50), _transform('odom', 'base_link'), has_header=False)
    yield Topic(
        '/tf_static',
        tf_message,
        once,
        _transform('base_link', 'camera_base'),
        has_header=False,
        latched=True,
    )
    for name in ('/kuavo/arm_zeros', '/kuavo/offset'):
        yield Topic(name, array, once, _calibration, has_header=False, latched=True)
    yield Topic(
        '/robot_head_motion_data',
        'kuavo_msgs/msg/robotHeadMotionData',
        Timing(10, jitter_ms=8.0),
        _head_motion,
        has_header=False,
    )


def _transform(parent: str, child: str) -> Build:
    def build(messages: Messages, moment: Moment) -> Any:
        transform = messages.new(
            'geometry_msgs/msg/Transform',
            translation=messages.vector3(z=0.8),
            rotation=messages.rotation(0.0),
        )
        stamped = messages.new(
            'geometry_msgs/msg/TransformStamped',
            header=messages.header(moment, parent),
            child_frame_id=child,
            transform=transform,
        )
        return messages.new('tf2_msgs/msg/TFMessage', transforms=[stamped])

    return build


def _calibration(messages: Messages, _: Moment) -> Any:
    layout = messages.new('std_msgs/msg/MultiArrayLayout', dim=[], data_offset=0)
    data = np.zeros(len(ARM_NAMES), np.float32)
    return messages.new('std_msgs/msg/Float32MultiArray', layout=layout, data=data)


def _head_motion(messages: Messages, moment: Moment) -> Any:
    turn = math.sin(moment.ordinal / 20)
    return messages.new('robotHeadMotionData', joint_data=np.array([25 * turn, 15 * turn]))
