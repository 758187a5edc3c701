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

"""Cameras that send Image or video streams convert to the very frames that the plan names."""

from __future__ import annotations

import shutil
import struct
import sys

import av
from bag_edits import copied
from conversions import numbers, report, run, same_frames, serving
import cv2
from dataset_reading import info
import fake_cv_bridge
from kuavo_bag_converter.dataset.mp4 import frame_rate, Mp4Writer
from kuavo_bag_converter.messages.coded_pictures import coded_content
from kuavo_bag_converter.replay.verify import as_text, verify
from kuavo_bag_converter.sample.pictures import KEY_INTERVAL
from kuavo_bag_converter.sample.write import write_sample
import numpy as np
from observers import Notes
import pytest
from ros_messages import ROS1
from rosbags.rosbag1 import Reader

SMALL = {'resize__width': 160, 'resize__height': 120, 'sample_drop': 3}
COLOR = {
    'observation.images.head_cam_h': 'head_cam_h',
    'observation.images.wrist_cam_l': 'wrist_cam_l',
    'observation.images.wrist_cam_r': 'wrist_cam_r',
}
HEAD = '/cam_h/color/image_raw/compressed'
KIND = 'sensor_msgs/msg/CompressedImage'
DEPTH = {f'observation.depth_{letter}': f'depth_{letter}' for letter in 'hlr'}
CUT = 7
"""Messages that the cut stream lacks before its first."""
BAD = KEY_INTERVAL - CUT
"""Messages of the cut stream before its first key frame."""


def topic_of(root, key):
    """Return the topic that a camera of a dataset comes from."""
    return next(
        track['topic']
        for track in report(root)['bags'][0]['plan']['tracks']
        if key in track['name'].split(' + ')
    )


def sample_of(folder, transport, **options):
    path = folder / ('sample.bag' if options.get('storage', 'bag') == 'bag' else 'sample')
    truth = write_sample(path, transport=transport, seconds=2.5, size=(120, 160), **options)
    return path, truth


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    """Return a recording with H.265 cameras and no depth, and the topic of its head camera."""
    path, _ = sample_of(tmp_path_factory.mktemp('h265'), 'h265', depth=False, extras=False)
    return path, '/cam_h/color/h265_stream'


@pytest.fixture(scope='module')
def cut_stream(stream, tmp_path_factory):
    """Return the same, begun while the head camera was between two key frames."""
    path, topic = stream
    target = tmp_path_factory.mktemp('cut') / 'cut.bag'
    return copied(path, target, keep=lambda name, n: name != topic or n >= CUT), topic


@pytest.mark.parametrize('transport', ['jpeg', 'raw', 'h265', 'h264'])
def test_every_picture_of_every_transport_is_the_one_that_the_plan_names(tmp_path, transport):
    path, truth = sample_of(tmp_path, transport)
    outcome = run(path, tmp_path / 'out', **SMALL)
    assert outcome.exit_code == 0
    assert outcome.frames > 15
    for key, camera in (COLOR | DEPTH).items():
        topic = topic_of(tmp_path / 'out', key)
        assert truth.topics[topic].camera == camera
        expected = [(camera, n) for n in serving(tmp_path / 'out', topic).tolist()]
        assert numbers(tmp_path / 'out', key) == expected, key


@pytest.mark.parametrize(
    ('transport', 'suffix'),
    [
        ('jpeg', '/color/image_raw/compressed'),
        ('raw', 'camera/color/image_raw'),
        ('h265', '/color/h265_stream'),
        ('h264', '/color/h264_stream'),
    ],
)
def test_each_transport_has_topics_of_its_own(tmp_path, transport, suffix):
    _, truth = sample_of(tmp_path, transport, extras=False)
    cameras = {
        name: topic for name, topic in truth.topics.items() if topic.camera in COLOR.values()
    }
    assert len(cameras) == 3
    assert all(name.endswith(suffix) for name in cameras)
    kinds = {topic.msgtype for topic in truth.topics.values() if topic.camera}
    assert ('sensor_msgs/msg/Image' in kinds) == (transport == 'raw')
    assert len(kinds) == 1


def turned(topic, _number, data):
    """Store a head picture upside down, with the Exif orientation that says so."""
    if topic != HEAD:
        return data
    message = ROS1.deserialize_ros1(data, KIND)
    pixels = cv2.rotate(cv2.imdecode(message.data, cv2.IMREAD_COLOR), cv2.ROTATE_180)
    jpeg = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    tiff = b'II' + struct.pack('<HIHHHIII', 42, 8, 1, 0x0112, 3, 1, 3, 0)
    exif = b'\xff\xe1' + struct.pack('>H', len(tiff) + 8) + b'Exif\0\0' + tiff
    message.data = np.frombuffer(jpeg[:2] + exif + jpeg[2:], np.uint8)
    return bytes(ROS1.serialize_ros1(message, KIND))


def test_pictures_that_exif_turns_are_stored_upright_and_never_copied(tmp_path):
    path, _ = sample_of(tmp_path, 'jpeg', depth=False, extras=False)
    bag = copied(path, tmp_path / 'turned.bag', edited=turned)
    values = {**SMALL, 'use_depth': False}
    assert run(bag, tmp_path / 'out', **values).exit_code == 0
    expected = [('head_cam_h', n) for n in serving(tmp_path / 'out', HEAD).tolist()]
    assert numbers(tmp_path / 'out', 'observation.images.head_cam_h') == expected
    (outcome,) = run(bag, tmp_path / 'copy', video='copy', **values).outcomes
    assert outcome.reason.startswith(f'{HEAD}: ')
    assert 'needs upright JPEG pictures' in outcome.reason


def test_cv_bridge_does_not_show_in_the_dataset(tmp_path):
    path, _ = sample_of(tmp_path, 'raw', extras=False)
    run(path, tmp_path / 'without', **SMALL)
    with fake_cv_bridge.installed():
        run(path, tmp_path / 'with', **SMALL)
        assert fake_cv_bridge.BACKEND in sys.modules
    assert same_frames(tmp_path / 'with') == same_frames(tmp_path / 'without')


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_the_storage_of_a_stream_does_not_show_in_the_dataset(stream, tmp_path, storage):
    run(stream[0], tmp_path / 'bag', **SMALL, use_depth=False)
    path, _ = sample_of(tmp_path, 'h265', storage=storage, depth=False, extras=False)
    run(path, tmp_path / 'out', **SMALL, use_depth=False)
    assert same_frames(tmp_path / 'out') == same_frames(tmp_path / 'bag')


@pytest.mark.parametrize('method', ['whole_bag', 'streaming'])
def test_the_reference_methods_decode_a_stream_alike(stream, tmp_path, method):
    for name in ('chunked', method):
        run(stream[0], tmp_path / name, **SMALL, use_depth=False, method=name)
    assert same_frames(tmp_path / method) == same_frames(tmp_path / 'chunked')


AT_30_HZ = {**SMALL, 'use_depth': False, 'sample_drop': 0, 'train_hz': 30}


@pytest.fixture(scope='module', params=['h264', 'h265'])
def copied_stream(request, tmp_path_factory):
    """Return a recording, and its dataset, where streams are copied as far as they can be."""
    folder = tmp_path_factory.mktemp('copied')
    path, _ = sample_of(folder, request.param, depth=False, extras=False)
    assert run(path, folder / 'out', **AT_30_HZ, video='auto').exit_code == 0
    return path, folder / 'out'


def payloads(path, topic):
    with Reader(path) as bag:
        connections = [c for c in bag.connections if c.topic == topic]
        found = [ROS1.deserialize_ros1(raw, KIND) for _, _, raw in bag.messages(connections)]
    return [bytes(message.data) for message in found], found[0].format


def packets_of(root, key):
    (path,) = (root / 'videos' / key).glob('*/*.mp4')
    with av.open(str(path)) as container:
        return path, [bytes(packet) for packet in container.demux(video=0) if packet.size]


def test_the_packets_of_streams_are_those_of_the_bag(copied_stream):
    path, root = copied_stream
    plan = plan_of(root)
    for key, camera in COLOR.items():
        topic = topic_of(root, key)
        named = serving(root, topic).tolist()
        assert numbers(root, key) == [(camera, number) for number in named]
        messages, words = payloads(path, topic)
        codec = 'h264' if 'h264' in words else 'hevc'
        _, packets = packets_of(root, key)
        own = [
            coded_content(codec, packet) == coded_content(codec, messages[number])
            for packet, number in zip(packets, named, strict=True)
        ]
        assert plan['pictures_copied'][key] == sum(own)
        assert plan['pictures_encoded'][key] == own.count(False)
    assert plan['pictures_encoded']['observation.images.head_cam_h'] == 0
    assert plan['pictures_encoded']['observation.images.wrist_cam_l'] > 0


def test_copied_streams_pass_verification_and_tell_what_their_key_frames_cost(copied_stream):
    path, root = copied_stream
    result = verify(root, [path], independent=3)
    assert result.findings == ()
    head = result.cameras[0]
    assert (head.exact, head.encoded) == (True, 0)
    assert result.cameras[1].encoded == plan_of(root)['pictures_encoded'][result.cameras[1].key]
    assert result.access[head.key].most == KEY_INTERVAL
    assert f'{head.key}   {result.access[head.key].mean:.1f} ' in as_text(result)
    assert verify(root, [path], sample=3).findings == ()


def test_packets_in_each_other_s_place_are_found(copied_stream, tmp_path):
    path, root = copied_stream
    shutil.copytree(root, tmp_path / 'out')
    video, _ = packets_of(tmp_path / 'out', 'observation.images.head_cam_h')
    with av.open(str(video)) as source:
        stream = source.streams.video[0]
        packets = [packet for packet in source.demux(stream) if packet.size]
        packets[40], packets[41] = packets[41], packets[40]
        with Mp4Writer(tmp_path / 'new.mp4', frame_rate(30), len(packets)) as writer:
            writer.add_copy(stream)
            for packet in packets:
                writer.mux(packet)
    (tmp_path / 'new.mp4').replace(video)
    findings = verify(tmp_path / 'out', [path]).findings
    assert {finding.feature for finding in findings} == {'observation.images.head_cam_h'}
    assert any(finding.rule.startswith('pictures.') for finding in findings)


def test_copy_tells_which_frame_cannot_be_copied(copied_stream, tmp_path):
    (outcome,) = run(copied_stream[0], tmp_path / 'out', **AT_30_HZ, video='copy').outcomes
    assert outcome.reason == (
        'observation.images.wrist_cam_l: video: copy: frame 0 begins an episode and is no IDR '
        'picture; set video: auto to encode such frames'
    )


def test_at_another_size_streams_are_encoded(stream, tmp_path):
    values = {'resize__width': 80, 'resize__height': 60, 'use_depth': False, 'sample_drop': 3}
    outcome = run(stream[0], tmp_path / 'copy', **values, video='copy').outcomes[0]
    assert outcome.reason.startswith(
        f'{stream[1]}: video: copy needs pictures of 80x60, found 160'
    )
    for video in ('auto', 'encode'):
        assert run(stream[0], tmp_path / video, **values, video=video).exit_code == 0
    assert same_frames(tmp_path / 'auto') == same_frames(tmp_path / 'encode')
    assert 'pictures_copied' not in plan_of(tmp_path / 'auto')


def test_a_stream_of_more_pictures_than_frames_is_encoded_whole(stream, tmp_path):
    values = {**SMALL, 'use_depth': False, 'train_hz': 10}
    for video in ('auto', 'encode'):
        assert run(stream[0], tmp_path / video, **values, video=video).exit_code == 0
    assert same_frames(tmp_path / 'auto') == same_frames(tmp_path / 'encode')


def test_what_not_all_bags_let_copy_is_encoded_in_all(tmp_path):
    bags = []
    for transport in ('h265', 'jpeg'):
        (tmp_path / transport).mkdir()
        bags.append(sample_of(tmp_path / transport, transport, depth=False, extras=False)[0])
    notes = Notes()
    done = run(bags, tmp_path / 'out', **AT_30_HZ, video='auto', observer=notes)
    assert [outcome.status for outcome in done.outcomes] == ['converted'] * 2
    assert all(
        f'{key}: is encoded: not all bags have it in one coding' in notes.lines for key in COLOR
    )
    assert all('pictures_copied' not in bag['plan'] for bag in report(tmp_path / 'out')['bags'])
    assert verify(tmp_path / 'out', bags, sample=2).findings == ()
    done = run(bags[:1], tmp_path / 'out', **AT_30_HZ, video='auto', append=True)
    assert [outcome.status for outcome in done.outcomes] == ['present']


def test_streams_are_copied_to_a_dataset_that_has_them(copied_stream, tmp_path):
    path, root = copied_stream
    shutil.copytree(root, tmp_path / 'out')
    more = tmp_path / 'more.bag'
    write_sample(more, transport='h265', seconds=2.0, size=(120, 160), seed=1, depth=False)
    done = run(more, tmp_path / 'out', **AT_30_HZ, video='auto', append=True)
    known = info(root)['features']['observation.images.head_cam_h']['info']['video.codec']
    assert done.outcomes[0].status == ('converted' if known == 'hevc' else 'failed')
    if known == 'hevc':
        assert report(tmp_path / 'out')['bags'][1]['plan']['pictures_copied']
        assert verify(tmp_path / 'out', [path, more], sample=2).findings == ()
    else:
        assert '(video.codec) is h264, the new episodes have hevc' in done.outcomes[0].reason


def converted(bag, root, **values):
    """Convert every head camera picture to a frame."""
    values = {'sample_drop': 0, 'train_hz': 30, 'use_depth': False, **values}
    return run(bag, root, **SMALL | values)


def plan_of(root):
    return report(root)['bags'][0]['plan']


def test_a_stream_that_begins_before_its_key_frame_fails_by_name(cut_stream, tmp_path):
    bag, topic = cut_stream
    outcome = converted(bag, tmp_path / 'out', on_bad_image='fail')
    assert outcome.exit_code == 1
    reason = outcome.outcomes[0].reason
    assert reason.startswith(f'{topic}: the picture received at ')
    assert ': no hevc key frame before this picture; set on_bad_image to repeat, split' in reason
    assert not (tmp_path / 'out').exists()


def test_pictures_before_the_key_frame_do_not_matter_where_no_frame_needs_them(
    cut_stream, tmp_path
):
    bag, topic = cut_stream
    assert converted(bag, tmp_path / 'out', sample_drop=BAD).exit_code == 0
    assert serving(tmp_path / 'out', topic)[0] == BAD
    shown = numbers(tmp_path / 'out', 'observation.images.head_cam_h')
    assert [number - CUT for _, number in shown] == serving(tmp_path / 'out', topic).tolist()


@pytest.mark.parametrize(('on_bad_image', 'video'), [('split', 'encode'), ('drop', 'auto')])
def test_frames_before_the_key_frame_are_cut_and_counted(
    cut_stream, tmp_path, on_bad_image, video
):
    bag, topic = cut_stream
    outcome = converted(bag, tmp_path / 'out', on_bad_image=on_bad_image, video=video)
    plan = plan_of(tmp_path / 'out')
    assert outcome.episodes == 1
    assert plan['frames_with_bad_images'] == plan['frames_cut'] == BAD
    assert plan['frames'] == plan['candidate_frames'] - BAD == outcome.frames
    assert serving(tmp_path / 'out', topic)[0] == BAD
    for key, camera in COLOR.items():
        shift = CUT if camera == 'head_cam_h' else 0
        expected = serving(tmp_path / 'out', topic_of(tmp_path / 'out', key)) + shift
        assert numbers(tmp_path / 'out', key) == [(camera, n) for n in expected.tolist()]


@pytest.mark.parametrize('video', ['encode', 'auto'])
def test_frames_before_the_key_frame_show_the_first_good_picture_and_are_counted(
    cut_stream, tmp_path, video
):
    bag, topic = cut_stream
    outcome = converted(bag, tmp_path / 'out', on_bad_image='repeat', video=video)
    plan = plan_of(tmp_path / 'out')
    assert outcome.exit_code == 0
    assert plan['bad_images'] == {topic: BAD}
    assert plan['frames'] == plan['candidate_frames']
    serves = serving(tmp_path / 'out', topic)
    shown = [number for _, number in numbers(tmp_path / 'out', 'observation.images.head_cam_h')]
    assert shown == [max(ordinal, BAD) + CUT for ordinal in serves.tolist()]
