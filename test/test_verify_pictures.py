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

"""A good dataset is above suspicion whatever its pictures show and however they are coded."""

from __future__ import annotations

from conversions import run
from kuavo_bag_converter.replay.verify import verify
import numpy as np
from plain_robot import every, pixels, Robot
import pytest

CODINGS = {
    'h264': {},
    'h264, crf 51': {'crf': 51, 'gop': 30},
    'h264, 4:4:4': {'crf': 40, 'pix_fmt': 'yuv444p'},
    'hevc, v2.1': {
        'vcodec': 'hevc',
        'crf': 28,
        'preset': 'ultrafast',
        'lerobot_version': 'v2.1',
    },
    'av1': {'vcodec': 'libsvtav1', 'crf': 30, 'preset': '12'},
    'av1, crf 60': {'vcodec': 'libsvtav1', 'crf': 60, 'preset': '12'},
}
DEPTH_CODINGS = dict.fromkeys(CODINGS, 'range8') | {
    'h264, crf 51': 'metric12',
    'h264, 4:4:4': 'metric12',
    'av1': 'original',
}
PROFILE = """
robot_type: eye
fps: 10
task: look
clock: {from: {topic: /0}, fps: 10, end_trim: none, decimation: time}
features:
"""
FEATURE = """
  observation.images.c%d:
    camera: {from: {topic: /%d}%s}
"""


def depth(share, size=(48, 64)):
    """Return depth whose share of invalid pixels, 0, is as given."""

    def make(generator, number):
        rows, columns = np.mgrid[slice(0, size[0]), slice(0, size[1])]
        picture = 300 + 8 * rows + 4 * columns + 5 * number
        holes = generator.normal(size=(size[0] // 8, size[1] // 8)).repeat(8, 0).repeat(8, 1)
        holes += 0.2 * generator.normal(size=size)
        return np.where(holes < np.quantile(holes, share), 0, picture).astype(np.uint16)

    return make


def constant(value, size=(48, 64)):
    return lambda _, number: np.full((*size, 3), value + number, np.uint8)


def noise(mean, spread, size=(48, 64)):
    def make(generator, _):
        return generator.normal(mean, spread, (*size, 3)).clip(0, 255).astype(np.uint8)

    return make


def moving(size):
    """Return a soft scene that moves by 2 pixels."""

    def make(_, number):
        rows, columns = np.mgrid[slice(0, size[0]), slice(0, size[1])]
        waves = (
            np.sin((columns + 2 * number) / 7) + np.sin(rows / 5) + np.sin(rows * columns / 900)
        )
        return (128 + 40 * waves)[..., None].repeat(3, 2).astype(np.uint8)

    return make


SHOWN = [
    *(depth(share) for share in (0.005, 0.09, 0.1, 0.11, 0.5, 0.9)),
    constant(0),
    constant(3),
    constant(120),
    noise(2, 1),
    noise(100, 4),
    noise(128, 80, (120, 160)),
    noise(128, 30, (16, 16)),
    moving((16, 16)),
    moving((120, 160)),
    moving((240, 320)),
]


@pytest.mark.parametrize('frames', [1, 12])
@pytest.mark.parametrize('coding', CODINGS)
def test_a_good_dataset_is_above_suspicion(tmp_path, coding, frames):
    robot = Robot()
    generator = np.random.default_rng(frames)
    text = PROFILE
    for topic, make in enumerate(SHOWN):
        pictures = [make(generator, number) for number in range(frames)]
        robot.publish(f'/{topic}', every(10, frames / 10), pixels(pictures))
        is_depth = pictures[0].dtype == np.uint16
        depth_coding = f', depth: {DEPTH_CODINGS[coding]}' if is_depth else ''
        text += FEATURE % (topic, topic, depth_coding)
    bag = robot.write(tmp_path / 'bag')
    (tmp_path / 'eye.yaml').write_text(text)
    root = tmp_path / 'out'
    outcome = run(bag, root, profile=str(tmp_path / 'eye.yaml'), **CODINGS[coding])
    assert outcome.frames == frames
    result = verify(root, [str(bag)])
    assert result.findings == ()
    assert len(result.cameras) == len(SHOWN)
