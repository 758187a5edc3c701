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

"""The generator of sample recordings."""

from collections import Counter
from dataclasses import fields, is_dataclass
import io

import av
import cv2
from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.sample.barcode import CAMERAS, draw_frame_number, read_frame_number
from kuavo_bag_converter.sample.definitions import SampleDefinitions
from kuavo_bag_converter.sample.pictures import ColorScene, DEPTH_HEADER, DepthScene, KEY_INTERVAL
from kuavo_bag_converter.sample.truth import SampleTruth
from kuavo_bag_converter.sample.write import START, write_sample
from kuavo_bag_converter.support.errors import UsageError
import numpy as np
import pytest
from rosbags import rosbag1, rosbag2

MS = 1_000_000
SMALL = (60, 80)
TINY = {'seconds': 1.0, 'size': SMALL}
STORAGES = ('bag', 'mcap', 'sqlite3')

# As computed by ROS 1 and found in recordings of the robot.
MD5 = {
    'kuavo_msgs/msg/sensorsData': '35fff741b8e115992c1ac46e99c1084f',
    'kuavo_msgs/msg/jointCmd': '9ed16f87b9f90b25cdeeb417f3c21f9e',
    'kuavo_msgs/msg/lejuClawState': '71c0eb8f4803a00f5667de51a2f70aac',
    'kuavo_msgs/msg/lejuClawCommand': '57c40e80f90e7a289ae0b2488552e043',
    'sensor_msgs/msg/JointState': '3066dcd76a6cfaef579bd0f34173e9fd',
    'sensor_msgs/msg/CompressedImage': '8f7a12909da2c9d3332d540a0977563f',
    'sensor_msgs/msg/CameraInfo': 'c9a58c1b0b154e0e6da7578cb991d214',
    'orbbec_camera/msg/Metadata': '4966ca002be16ee67fe4dbfb2f354787',
    'realsense2_camera/msg/Metadata': '4966ca002be16ee67fe4dbfb2f354787',
    'tf2_msgs/msg/TFMessage': '94810edda583a504dfda3829e70d7eec',
}


def time_of(ramp, values):
    """Return the time in ns since the epoch that a vector of shape (d,) encodes (the median)."""
    return ramp.start + round(float(np.median(ramp.times(values))))


def place(folder, storage):
    return folder / ('sample.bag' if storage == 'bag' else 'sample')


def messages(path, topics=None):
    """Yield connection, receive stamp and payload in storage order."""
    reader = rosbag1.Reader(path) if path.suffix == '.bag' else rosbag2.Reader(path)
    with reader:
        for connection, stamp, data in reader.messages():
            if topics is None or connection.topic in topics:
                yield connection, stamp, bytes(data)


def decoded(path, topics=None, sdk='main'):
    ros = 1 if path.suffix == '.bag' else 2
    store = SampleDefinitions(ros, sdk).store
    deserialize = store.deserialize_ros1 if ros == 1 else store.deserialize_cdr
    for connection, stamp, data in messages(path, topics):
        yield connection.topic, stamp, deserialize(data, connection.msgtype)


def plain(message):
    """Return the fields of a message by lower-case name, without what ROS 1 alone has."""
    if is_dataclass(message):
        return {
            field.name.lower(): plain(getattr(message, field.name))
            for field in fields(message)
            if field.name not in ('seq', '__msgtype__')
        }
    if isinstance(message, list):
        return [plain(item) for item in message]
    return message.tolist() if isinstance(message, np.ndarray) else message


def stamp_of(header):
    return header.stamp.sec * 10**9 + header.stamp.nanosec


def picture(message):
    data = message.data
    if 'compressedDepth' in message.format:
        assert bytes(data[:12]) == DEPTH_HEADER
        data = data[12:]
    return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)


@pytest.fixture(scope='module')
def samples(tmp_path_factory):
    """Return the same sample in each storage: path and truth by storage."""
    made = {}
    for storage in STORAGES:
        path = place(tmp_path_factory.mktemp(storage), storage)
        made[storage] = path, write_sample(path, storage=storage, whole_body=True, **TINY)
    return made


def test_definitions_have_the_md5_sums_of_the_robot(samples):
    with rosbag1.Reader(samples['bag'][0]) as reader:
        found = {connection.msgtype: connection.digest for connection in reader.connections}
    assert {msgtype: found[msgtype] for msgtype in MD5} == MD5


@pytest.mark.parametrize(
    ('sdk', 'md5'),
    [
        ('dev', 'f9f437eb06511eb4cb60f115760b94e5'),
        ('2025-04', '54439d3ac2ef33d46fd7cf6d324860c3'),
    ],
)
def test_sensors_data_has_the_md5_sum_of_each_sdk(tmp_path, sdk, md5):
    path = tmp_path / 'a.bag'
    write_sample(path, sdk=sdk, depth=False, extras=False, **TINY)
    digests = {connection.digest for connection, *_ in messages(path, {'/sensors_data_raw'})}
    assert digests == {md5}
    assert len(next(decoded(path, {'/sensors_data_raw'}, sdk))[2].joint_data.joint_q) == 28


@pytest.mark.parametrize(
    ('msgtype', 'md5'),
    [
        ('kuavo_msgs/msg/robotHandPosition', 'ee45ac8dfb6e0c9a4c7712025fd69d4f'),
        ('kuavo_msgs/msg/Rq2f85ClawCmd', 'f037a588b76159ef3013c89bfe92c638'),
    ],
)
def test_definitions_of_other_end_effectors_have_the_md5_sums_of_the_robot(msgtype, md5):
    assert SampleDefinitions(1, 'main')[msgtype].digest == md5


def test_definitions_keep_what_parsers_stumble_over():
    ros1 = SampleDefinitions(1, 'main')['kuavo_msgs/msg/lejuClawState'].text
    ros2 = SampleDefinitions(2, 'main')['kuavo_msgs/msg/lejuClawState'].text
    assert 'int8 kError = -1    ' in ros1
    assert 'int8 kError = -1    ' in ros2
    assert 'uint32 seq' in ros1
    assert 'uint32 seq' not in ros2
    assert 'builtin_interfaces/Time stamp' in ros2


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_all_storages_hold_the_same_content(samples, storage):
    expected = decoded(samples['bag'][0])
    count = 0
    for (topic, stamp, message), other in zip(decoded(samples[storage][0]), expected, strict=True):
        assert (topic, stamp) == other[:2]
        assert plain(message) == plain(other[2])
        count += 1
    assert count == sum(len(topic.receive) for topic in samples[storage][1].topics.values())


@pytest.mark.parametrize('storage', STORAGES)
def test_the_truth_names_every_stamp(samples, storage):
    path, truth = samples[storage]
    receive, header = {}, {}
    for topic, stamp, message in decoded(path):
        receive.setdefault(topic, []).append(stamp)
        if hasattr(message, 'header'):
            header.setdefault(topic, []).append(stamp_of(message.header))
    assert {name: topic.receive.tolist() for name, topic in truth.topics.items()} == receive
    assert {
        name: topic.header.tolist()
        for name, topic in truth.topics.items()
        if topic.header is not None
    } == header


@pytest.mark.parametrize(
    ('storage', 'compression'),
    [('bag', 'lz4'), ('bag', 'bz2'), ('mcap', 'zstd'), ('sqlite3', 'zstd')],
)
def test_compression_changes_the_file_alone(samples, tmp_path, storage, compression):
    path = place(tmp_path, storage)
    write_sample(path, storage=storage, compression=compression, whole_body=True, **TINY)
    bare = samples[storage][0]
    assert [item[1:] for item in messages(path)] == [item[1:] for item in messages(bare)]
    assert sum(file.stat().st_size for file in [path, *path.parent.rglob('*')]) < sum(
        file.stat().st_size for file in [bare, *bare.parent.rglob('*')]
    )


def test_a_seed_gives_the_same_bytes_and_another_seed_gives_others(samples, tmp_path):
    again, other = tmp_path / 'again.bag', tmp_path / 'other.bag'
    write_sample(again, whole_body=True, **TINY)
    write_sample(other, whole_body=True, seed=1, **TINY)
    assert again.read_bytes() == samples['bag'][0].read_bytes()
    assert again.read_bytes() != other.read_bytes()


def test_pictures_carry_their_ordinals(samples):
    path, truth = samples['bag']
    cameras = {name: topic.camera for name, topic in truth.topics.items() if topic.camera}
    assert sorted(cameras.values()) == sorted(CAMERAS)
    seen = {}
    for topic, _, message in decoded(path, set(cameras)):
        ordinals = seen.setdefault(topic, [])
        assert read_frame_number(picture(message)) == (cameras[topic], len(ordinals))
        ordinals.append(message.data.tobytes())
    assert all(len(set(pictures)) == len(pictures) for pictures in seen.values())


def field(message, path):
    for name in path.split('.'):
        message = getattr(message, name)
    return np.atleast_1d(message)


def test_values_are_lines_in_time_that_give_the_time_back(samples):
    path, truth = samples['bag']
    checked = 0
    counts = Counter()
    for topic, _, message in decoded(path):
        known = truth.topics[topic]
        number, counts[topic] = counts[topic], counts[topic] + 1
        for field_path, ramp in known.ramps.items():
            if field_path == 'imu_data.quat':
                continue
            unstamped = known.header is None
            stamp = int(known.time[number]) if unstamped else stamp_of(message.header)
            values = field(message, field_path)
            assert np.array_equal(values, ramp.at(stamp))
            assert np.abs(ramp.times(values) + START - stamp).max() < 1000
            assert time_of(ramp, values) == stamp
            checked += 1
    assert checked > 1000


def test_state_and_command_of_a_joint_never_agree(samples):
    truth = samples['bag'][1]
    state = truth.topics['/sensors_data_raw'].ramps['joint_data.joint_q']
    command = truth.topics['/joint_cmd'].ramps['joint_q']
    arms = truth.topics['/kuavo_arm_traj'].ramps['position']
    assert (np.maximum(state.first, state.last) < np.minimum(command.first, command.last)).all()
    low = np.deg2rad(np.minimum(arms.first, arms.last))
    assert (np.maximum(command.first, command.last)[12:26] < low).all()


def test_the_quaternion_turns_evenly(samples):
    path, truth = samples['bag']
    yaw = truth.topics['/sensors_data_raw'].ramps['imu_data.quat']
    for _, _, message in decoded(path, {'/sensors_data_raw'}):
        quaternion = message.imu_data.quat
        angle = 2 * np.arctan2(quaternion.z, quaternion.w)
        assert angle == pytest.approx(yaw.at(stamp_of(message.header))[0], abs=1e-12)


def test_stamps_are_those_of_a_real_robot(tmp_path):
    truth = write_sample(tmp_path / 'a.bag', seconds=4, size=SMALL, depth=False)
    sensors = truth.topics['/sensors_data_raw']
    assert np.median(np.diff(sensors.header)) == pytest.approx(2 * MS, rel=0.01)
    apart = np.diff(sensors.receive)
    assert apart.min() > 0
    assert np.median(apart) == pytest.approx(0.012 * MS, rel=0.1)
    assert 20 * MS < apart.max() < 42 * MS

    def late(topic):
        return truth.topics[topic].receive - truth.topics[topic].header

    assert -15 * MS <= late('/sensors_data_raw').min() <= -11 * MS
    for topic in ('/joint_cmd', '/kuavo_arm_traj'):
        assert late(topic).min() >= -15 * MS
        assert late(topic).max() <= -11 * MS + 0.1 * MS
    assert np.median(late('/cam_h/color/image_raw/compressed')) == pytest.approx(52 * MS, rel=0.02)
    for side in 'lr':
        delay = np.median(late(f'/cam_{side}/color/image_raw/compressed'))
        assert 22 * MS < delay < 24 * MS
    first = truth.topics['/kuavo_arm_traj'].header[0] - truth.start
    assert first == pytest.approx(1e9, rel=0.02)
    jitter = np.diff(truth.topics['/cam_h/color/image_raw/compressed'].header) - 1e9 / 30
    assert 0.1 * MS < np.std(jitter) < 1 * MS


def test_sensors_without_bursts_come_one_by_one(tmp_path):
    truth = write_sample(tmp_path / 'a.bag', bursts=False, depth=False, **TINY)
    assert np.median(np.diff(truth.topics['/sensors_data_raw'].receive)) > MS


def test_messages_are_stored_in_receive_order(samples):
    stamps = [stamp for _, stamp, _ in messages(samples['bag'][0])]
    assert stamps == sorted(stamps)


def test_gaps_and_starts_silence_a_topic_and_renumber_its_pictures(tmp_path):
    path = tmp_path / 'a.bag'
    head = '/cam_h/color/image_raw/compressed'
    truth = write_sample(
        path,
        starts={'/leju_claw_command': 0.5},
        gaps={'/kuavo_arm_traj': ((0.4, 0.6),), head: ((0.2, 0.5), (0.8, 0.9))},
        **TINY,
    )
    seconds = {name: (topic.time - truth.start) / 1e9 for name, topic in truth.topics.items()}
    assert 0.49 < seconds['/leju_claw_command'][0] < 0.52
    assert np.diff(seconds['/kuavo_arm_traj']).max() == pytest.approx(0.21, abs=0.01)
    assert len(seconds[head]) == 17
    assert np.array_equal(
        truth.topics['/cam_h/color/camera_info'].header, truth.topics[head].header
    )
    numbers = [read_frame_number(picture(message))[1] for *_, message in decoded(path, {head})]
    assert numbers == list(range(17))


def test_the_joint_command_is_unstamped_while_the_robot_stands_up(tmp_path):
    path = tmp_path / 'a.bag'
    truth = write_sample(path, unstamped_s=0.3, depth=False, extras=False, **TINY)
    command = truth.topics['/joint_cmd']
    unstamped = command.header == 0
    assert 140 < unstamped.sum() < 155
    assert np.array_equal(command.header[~unstamped], command.time[~unstamped])
    message = next(decoded(path, {'/joint_cmd'}))[2]
    assert stamp_of(message.header) == 0
    assert time_of(command.ramps['joint_q'], message.joint_q) == command.time[0]


def test_latched_messages_may_be_older_than_the_recording(tmp_path):
    path = tmp_path / 'a.bag'
    truth = write_sample(path, latched_age_s=30_000, depth=False, **TINY)
    assert truth.topics['/kuavo/arm_zeros'].receive[0] < truth.start - 29_000 * 10**9
    latched = {connection.topic for connection, *_ in messages(path) if connection.ext.latching}
    assert latched == {'/tf_static', '/kuavo/arm_zeros', '/kuavo/offset'}


@pytest.mark.parametrize(('platform', 'joints'), [('4pro', 28), ('5w', 20), ('5', 29)])
def test_platforms_have_their_number_of_joints(tmp_path, platform, joints):
    path = tmp_path / 'a.bag'
    write_sample(path, platform_type=platform, depth=False, extras=False, **TINY)
    wanted = {'/sensors_data_raw', '/joint_cmd'}
    lengths = {
        len(message.joint_q if topic == '/joint_cmd' else message.joint_data.joint_q)
        for topic, _, message in decoded(path, wanted)
    }
    assert lengths == {joints}


def test_dexterous_hands_count_their_commands(tmp_path):
    path = tmp_path / 'a.bag'
    write_sample(path, eef_type='qiangnao', depth=False, extras=False, **TINY)
    commands = [message for *_, message in decoded(path, {'/control_robot_hand_position'})]
    assert [int(message.left_hand_position[0]) for message in commands] == [
        ordinal % 101 for ordinal in range(len(commands))
    ]
    assert all(len(message.right_hand_position) == 6 for message in commands)
    state = next(decoded(path, {'/dexhand/state'}))[2]
    assert state.name[0] == 'l_thumb'
    assert len(state.position) == 12


@pytest.mark.parametrize('kind', ['JointState', 'Rq2f85'])
def test_grippers_come_in_both_kinds_of_messages(tmp_path, kind):
    path = tmp_path / 'sample'
    truth = write_sample(
        path, storage='mcap', eef_type='rq2f85', gripper_messages=kind, depth=False,
        extras=False, **TINY,
    )  # fmt: skip
    types = {
        connection.topic: connection.msgtype
        for connection, *_ in messages(path, {'/gripper/state', '/gripper/command'})
    }
    assert all(kind in msgtype for msgtype in types.values())
    for topic, _, message in decoded(path, set(types)):
        for field_path, ramp in truth.topics[topic].ramps.items():
            assert np.array_equal(field(message, field_path), ramp.at(stamp_of(message.header)))


def test_the_base_pose_is_commanded_for_whole_body_motion(samples):
    path, truth = samples['mcap']
    assert '/kuavo_arm_traj_synced' in truth.topics
    _, _, message = next(decoded(path, {'/cmd_pose_world_synced'}))
    assert message.twist.angular.z < 0 < message.twist.linear.y


def test_cameras_may_differ_in_rate(tmp_path):
    truth = write_sample(tmp_path / 'a.bag', camera_rates=(60, 10, 30), **TINY)
    counts = {topic.camera: len(topic.receive) for topic in truth.topics.values() if topic.camera}
    assert counts == {
        'head_cam_h': 59, 'depth_h': 59, 'wrist_cam_l': 9, 'depth_l': 9, 'wrist_cam_r': 29,
        'depth_r': 29,
    }  # fmt: skip


def test_the_simulator_sends_depth_counts_in_a_bare_png(tmp_path):
    path = tmp_path / 'a.bag'
    write_sample(path, simulator=True, extras=False, **TINY)
    _, _, message = next(decoded(path, {'/cam_h/depth/image_raw/compressedDepth'}))
    assert bytes(message.data[:4]) == b'\x89PNG'
    assert message.header.frame_id == 'Head Camera View'
    counts = cv2.imdecode(message.data, cv2.IMREAD_UNCHANGED)
    assert counts.dtype == np.uint16
    assert read_frame_number(counts) == ('depth_h', 0)
    # The near level of the frame numbers is 400 mm.
    assert counts[6, 10] == round(400 / 1.5259)


def test_raw_pictures_are_what_the_drivers_send(tmp_path):
    path = tmp_path / 'a.bag'
    truth = write_sample(path, transport='raw', extras=False, **TINY)
    names = {topic.camera: name for name, topic in truth.topics.items() if topic.camera}
    assert names == {
        'head_cam_h': '/camera/color/image_raw',
        'wrist_cam_l': '/left_wrist_camera/color/image_raw',
        'wrist_cam_r': '/right_wrist_camera/color/image_raw',
        'depth_h': '/camera/depth/image_raw',
        'depth_l': '/left_wrist_camera/depth/image_rect_raw',
        'depth_r': '/right_wrist_camera/depth/image_rect_raw',
    }
    for camera, encoding, step in (('head_cam_h', 'rgb8', 240), ('depth_h', '16UC1', 160)):
        _, _, message = next(decoded(path, {names[camera]}))
        assert (message.encoding, message.step, message.is_bigendian) == (encoding, step, 0)
        assert (message.height, message.width, len(message.data)) == (60, 80, 60 * step)
        pixels = message.data.reshape(60, step)
        pixels = pixels.view('<u2') if encoding == '16UC1' else pixels.reshape(60, 80, 3)
        assert read_frame_number(pixels) == (camera, 0)


@pytest.mark.parametrize('codec', ['h264', 'h265'])
def test_a_stream_has_a_key_frame_every_second_and_the_same_bytes_every_time(tmp_path, codec):
    paths = [tmp_path / name for name in ('a.bag', 'b.bag')]
    for path in paths:
        write_sample(path, transport=codec, seconds=1.5, size=SMALL, depth=False, extras=False)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    stream = [message for *_, message in decoded(paths[0], {f'/cam_l/color/{codec}_stream'})]
    assert {message.format for message in stream} == {codec}
    keys = {'h264': b'\0\0\0\1\x67', 'h265': b'\0\0\0\1\x40'}
    begins = [n for n, message in enumerate(stream) if keys[codec] in bytes(message.data)]
    assert begins == list(range(0, len(stream), KEY_INTERVAL))


def test_depth_has_holes_and_millimetres(samples):
    _, _, message = next(decoded(samples['bag'][0], {'/cam_h/depth/image_raw/compressedDepth'}))
    depth = picture(message)
    assert depth.dtype == np.uint16
    assert 0.05 < (depth == 0).mean() < 0.3
    assert 1500 < depth.max() < 6000


def test_pictures_cost_as_much_as_on_the_robot():
    color = ColorScene((480, 848), 0, 'head_cam_h', 80).encode(7, START)
    depth = DepthScene((480, 848), 0, 'depth_h', simulator=False).encode(7, START)
    assert 62_000 < len(color) < 93_000
    assert 100_000 < len(depth) < 185_000


def noise_picture(camera, number, shape=(480, 640)):
    generator = np.random.default_rng(number)
    frame = generator.integers(0, 256, (*shape, 3), dtype=np.uint8)
    frame = cv2.GaussianBlur(frame, (5, 5), 0)
    draw_frame_number(frame, camera, number, (24, 232))
    return frame


@pytest.mark.parametrize('size', [(320, 240), (848, 480), (640, 480)])
@pytest.mark.parametrize('camera', CAMERAS[:3])
def test_frame_numbers_survive_jpeg_and_resizing(camera, size):
    for number in (0, 1, 255, 65_535, 2**24 - 1):
        frame = noise_picture(camera, number)
        data = cv2.imencode('.jpg', frame, [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
        resized = cv2.resize(cv2.imdecode(data, cv2.IMREAD_COLOR), size)
        assert read_frame_number(resized) == (camera, number)
        assert read_frame_number(cv2.cvtColor(resized, cv2.COLOR_BGR2GRAY)) == (camera, number)


@pytest.mark.parametrize(('codec', 'options'), [
    ('libx264', {'crf': '30', 'preset': 'veryfast'}),
    ('libsvtav1', {'crf': '30', 'preset': '12', 'g': '2'}),
])  # fmt: skip
@pytest.mark.parametrize('size', [(240, 320), (480, 848)])
def test_frame_numbers_survive_video(codec, options, size):
    scene = ColorScene((480, 640), 0, 'wrist_cam_l', 80)
    numbers = [0, 1, 2, 1000, 1001, 2**24 - 1]
    frames = [cv2.imdecode(scene.encode(n, START + n), cv2.IMREAD_COLOR) for n in numbers]
    frames = [cv2.resize(frame, size[::-1]) for frame in frames]
    assert [read_frame_number(frame) for frame in through_video(frames, codec, options)] == [
        ('wrist_cam_l', number) for number in numbers
    ]


def test_frame_numbers_survive_the_depth_normalization_of_the_original_converter():
    scene = DepthScene((480, 640), 0, 'depth_r', simulator=False)
    frames = []
    for number in range(5):
        depth = cv2.imdecode(scene.encode(number, START)[12:], cv2.IMREAD_UNCHANGED)
        near = np.clip(depth, 0, 1500).astype(np.float32)
        gray = ((near - near.min()) / np.ptp(near) * 255).astype(np.uint8)
        frames.append(cv2.resize(np.dstack([gray] * 3), (320, 240)))
    decoded_frames = through_video(frames, 'libx264', {'crf': '30'})
    assert [read_frame_number(frame)[1] for frame in decoded_frames] == list(range(5))
    assert read_frame_number(255 - frames[3]) == ('depth_r', 3)


def through_video(frames, codec, options):
    buffer = io.BytesIO()
    with av.open(buffer, 'w', format='mp4') as container:
        stream = container.add_stream(codec, rate=30, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = 'yuv420p'
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='bgr24')))
        container.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer) as container:
        return [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]


def test_a_picture_without_a_frame_number_is_refused():
    with pytest.raises(ValueError, match='no frame number'):
        read_frame_number(np.zeros((480, 640), np.uint8))
    frame = noise_picture('head_cam_h', 5)
    frame[80:100, :320] = 255 - frame[80:100, :320]
    with pytest.raises(ValueError, match='no frame number'):
        read_frame_number(frame[:, ::-1])


def test_the_command_writes_the_sample_and_its_truth(tmp_path, capsys):
    arguments = ['sample', str(tmp_path / 'new'), '--seconds', '0.5', '--size', '80x60']
    arguments += ['--gap', '/joint_cmd=0.1-0.2', '--start', '/leju_claw_command=0.2']
    assert cli.run(arguments) == 0
    assert 'sample' in capsys.readouterr().out
    path = tmp_path / 'new' / 'sample'
    truth = SampleTruth.load(tmp_path / 'new' / 'truth.json')
    assert sorted(file.name for file in path.iterdir()) == ['metadata.yaml', 'sample.mcap']
    expected = write_sample(
        tmp_path / 'same.bag', seconds=0.5, size=SMALL,
        gaps={'/joint_cmd': ((0.1, 0.2),)}, starts={'/leju_claw_command': 0.2},
    )  # fmt: skip
    for name, topic in expected.topics.items():
        assert np.array_equal(truth.topics[name].receive, topic.receive)
        for field_path, ramp in topic.ramps.items():
            assert np.array_equal(
                truth.topics[name].ramps[field_path].at(topic.time), ramp.at(topic.time)
            )
    assert cli.run(arguments) == 2
    assert 'exists already' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('changes', 'named'),
    [
        ({'storage': 'zip'}, "storage is 'zip'"),
        ({'storage': 'mcap', 'compression': 'lz4'}, "compression is 'lz4'"),
        ({'eef_type': 'hook'}, "eef_type is 'hook'"),
        ({'size': (10, 10)}, '10x10'),
        ({'transport': 'gif'}, "transport is 'gif'"),
        ({'size': (61, 80), 'transport': 'h265'}, '80x61 is odd; transport h265 needs even sides'),
        ({'platform_type': 'roban', 'whole_body': True}, 'are not for platform_type roban'),
        ({'seconds': 0}, 'seconds'),
        ({'starts': {'/nothing': 1.0}}, '/nothing'),
        ({'starts': {'/joint_cmd': 9.0}}, '/joint_cmd'),
    ],
)
def test_options_that_cannot_be_met_are_refused_and_leave_nothing(tmp_path, changes, named):
    with pytest.raises(UsageError, match=named):
        write_sample(tmp_path / 'new' / 'a.bag', **{**TINY, **changes})
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told_in_one_line(tmp_path, capsys):
    (tmp_path / 'file').touch()
    assert cli.run(['sample', str(tmp_path / 'file' / 'bag'), '--seconds', '1']) == 1
    error = capsys.readouterr().err
    assert error.startswith(f'error: sample: {tmp_path / "file" / "bag"}: cannot be written')
    assert error.count('\n') == 1


@pytest.mark.parametrize(
    ('argument', 'value'), [('--size', '640'), ('--gap', '/a=1'), ('--start', '/a')]
)
def test_malformed_arguments_are_refused(tmp_path, capsys, argument, value):
    assert cli.run(['sample', str(tmp_path / 'new'), argument, value]) == 2
    assert f'{argument} is {value!r}' in capsys.readouterr().err
