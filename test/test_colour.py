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

"""Colours of a chart, from a bag to what readers of the dataset decode."""

from fractions import Fraction
from pathlib import Path

import av
from conversions import run
import cv2
from jpeg_files import sampled_jpeg
from kuavo_bag_converter.messages.video_frames import FrameFitter
from kuavo_bag_converter.replay.verify import verify
import numpy as np
from plain_robot import compressed, every, joint_state, ramps, raw, Robot
import pytest
import yaml

SIZE = (96, 128)
LARGE = (720, 1280)
"""Of a camera whose video players would take for BT.709, if it did not say otherwise."""
CHART = np.array(
    [
        [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)],
        [(115, 82, 68), (194, 150, 130), (98, 122, 157), (87, 108, 67)],
        [(0, 0, 0), (64, 64, 64), (200, 200, 200), (214, 126, 44)],
    ],
    np.uint8,
)
"""Primaries, skin, sky, foliage, greys."""
RGB_OF_BT601 = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]])


def scene(size):
    """Return the chart as a picture of large patches, RGB."""
    return cv2.resize(CHART, size[::-1], interpolation=cv2.INTER_NEAREST)


def jpeg(size):
    """Return the chart as OpenCV stores it, with colours halved."""
    return bytes(cv2.imencode('.jpg', scene(size)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1])


def limited(picture):
    """Return BT.601 in limited range, float (height, width, 3)."""
    full = picture @ np.linalg.inv(RGB_OF_BT601).T
    return full * np.array([219, 224, 224]) / 255 + np.array([16, 128, 128])


def nv12(picture):
    planes = limited(picture).round().astype(np.uint8)
    pairs = planes[::2, ::2, 1:].reshape(-1, picture.shape[1])
    return np.concatenate([planes[..., 0], pairs])


def uyvy(picture):
    planes = limited(picture).round().astype(np.uint8)
    u, v = planes[:, ::2, 1], planes[:, ::2, 2]
    return np.stack([u, planes[:, ::2, 0], v, planes[:, 1::2, 0]], -1).reshape(len(planes), -1)


def cameras():
    """Return for each camera what it publishes, and the size of its pictures."""
    picture = scene(SIZE)
    rows = picture.reshape(SIZE[0], -1)
    png = bytes(cv2.imencode('.png', picture[..., ::-1])[1])
    deep = bytes(cv2.imencode('.png', picture[..., ::-1].astype(np.uint16) * 257)[1])
    return {
        'rgb8': (raw('rgb8', SIZE, rows), SIZE),
        'bgr8': (raw('bgr8', SIZE, picture[..., ::-1].reshape(rows.shape)), SIZE),
        'yuv422': (raw('yuv422', SIZE, uyvy(picture)), SIZE),
        'nv12': (raw('nv12', SIZE, nv12(picture)), SIZE),
        'png': (compressed('png', png), SIZE),
        'png16': (compressed('png', deep), SIZE),
        'jpeg420': (compressed('jpeg', jpeg(SIZE)), SIZE),
        'jpeg444': (compressed('jpeg', sampled_jpeg(picture[..., ::-1], 1, 1)), SIZE),
        'large': (compressed('jpeg', jpeg(LARGE)), LARGE),
    }


def patches(picture):
    """Return the means of the inner parts of the patches."""
    rows, columns = CHART.shape[:2]
    height, width = picture.shape[0] // rows, picture.shape[1] // columns
    cells = picture.reshape(rows, height, columns, width, 3)
    high, wide = slice(height // 4, -height // 4), slice(width // 4, -width // 4)
    inner = cells[:, high, :, wide]
    return inner.mean(axis=(1, 3))


def off(picture):
    """Return by how much a picture misses the chart on average, levels of 255."""
    return np.abs(patches(picture) - CHART).mean()


def planes_of(frame):
    """Return the planes at full size in levels of 8 bits, float (height, width, 3)."""
    bits = frame.format.components[0].bits
    planes = []
    for plane in frame.planes:
        samples = np.frombuffer(memoryview(plane), np.uint8 if bits == 8 else '<u2')
        rows = samples.reshape(plane.height, -1)[:, : plane.width] / 2 ** (bits - 8)
        planes.append(cv2.resize(rows, (frame.width, frame.height)))
    return np.stack(planes, -1)


def exactly(frame):
    """Convert a decoded frame of BT.601 in limited range by its definition."""
    full = (planes_of(frame) - [16, 128, 128]) * 255 / np.array([219, 224, 224])
    return (full @ RGB_OF_BT601.T).clip(0, 255)


def by_pyav(frame):
    """Convert as LeRobot does with PyAV."""
    return frame.to_ndarray(format='rgb24').astype(float)


def by_graph(frame):
    """Convert as torchcodec does: by FFmpeg's filters."""
    graph = av.filter.Graph()
    nodes = [
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 10)
        ),
        graph.add('format', 'rgb24'),
        graph.add('buffersink'),
    ]
    graph.link_nodes(*nodes).configure()
    graph.push(frame)
    return graph.pull().to_ndarray().astype(float)


FORMATS = ('yuv420p', 'yuv444p', 'yuv420p10le', 'yuv444p10le')
READERS = (exactly, by_pyav, by_graph)


@pytest.fixture(scope='module', params=FORMATS)
def dataset(request, tmp_path_factory):
    """Return a frame of each camera of a dataset, and its file."""
    folder = tmp_path_factory.mktemp(request.param)
    times = every(10, 0.4)
    robot = Robot().publish('/joints', times, joint_state(ramps(2)))
    features = {
        'observation.state': {
            'parts': [{'from': {'topic': '/joints', 'field': 'position'}, 'names': ['a', 'b']}]
        }
    }
    for name, (make, _) in cameras().items():
        robot.publish(f'/{name}', times, make)
        features[f'observation.images.{name}'] = {'camera': {'from': {'topic': f'/{name}'}}}
    clock = {'from': {'topic': '/rgb8'}, 'fps': 10, 'end_trim': 'none'}
    profile = {'robot_type': 'r', 'fps': 10, 'task': 't', 'clock': clock, 'features': features}
    path = folder / 'robot.yaml'
    path.write_text(yaml.safe_dump(profile))
    bag, root = robot.write(folder / 'bag'), folder / 'dataset'
    done = run(
        bag, root, profile=str(path), pix_fmt=request.param, crf=1, preset='ultrafast',
        judged=True,
    )  # fmt: skip
    assert done.exit_code == 0
    assert verify(root, [str(bag)]).findings == ()
    return {name: video(root, name) for name in cameras()}


def video(root, name):
    (path,) = (Path(root) / 'videos' / f'observation.images.{name}').glob('*/*.mp4')
    with av.open(str(path)) as container:
        return next(container.decode(video=0)), path


@pytest.mark.parametrize('reader', READERS)
def test_colours_are_within_a_level_of_the_chart(dataset, reader):
    found = {name: off(reader(frame)) for name, (frame, _) in dataset.items()}
    if reader is not exactly:
        del found['nv12']  # YUV that is stored as it is recorded
    assert {name: value for name, value in found.items() if value > 1} == {}


def test_limited_yuv_is_stored_as_it_is_recorded(dataset):
    frame, _ = dataset['nv12']
    recorded = limited(CHART.astype(float)).round()
    assert np.abs(patches(planes_of(frame)) - recorded).max() <= 1


def test_stream_and_file_tell_players_what_the_colours_are(dataset):
    for frame, path in dataset.values():
        assert (frame.colorspace, frame.color_range) == (6, 1)
        # Primaries, transfer and matrix of sRGB as BT.601; not of full range.
        assert b'colrnclx\x00\x01\x00\x0d\x00\x06\x00' in path.read_bytes()


@pytest.mark.parametrize('color_range', [1, 2])
@pytest.mark.parametrize('pix_fmt', FORMATS)
def test_streams_of_bt709_become_bt601(pix_fmt, color_range):
    picture = av.VideoFrame.from_ndarray(scene(SIZE), 'rgb24')
    stream = picture.reformat(
        format='yuv420p', dst_colorspace='ITU709', dst_color_range=color_range
    )
    stream.colorspace, stream.color_range = 1, color_range
    # FFmpeg goes through rounded RGB; with the other matrix it would be 10.
    assert off(exactly(FrameFitter(None, pix_fmt).fit(stream))) <= 1.5
