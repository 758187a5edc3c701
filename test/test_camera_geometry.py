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

"""Cut, turned, framed and scaled pictures show what numpy says, in datasets too."""

from __future__ import annotations

import json

from conversions import pictures, report, run
import cv2
from dataset_reading import info
from kuavo_bag_converter import iter_frames, load_profile, open_bag
from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.messages.geometry import Geometry
from kuavo_bag_converter.replay.verify import verify
from kuavo_bag_converter.support.errors import BagError
import numpy as np
from plain_robot import every, jpeg, pixels, Robot
import pytest

CAMERA, DEPTH = '/camera', '/depth'
KEY, DEPTH_KEY = 'observation.images.eye', 'observation.images.depth'
COLORS = np.array([[[250, 20, 20], [20, 250, 20]], [[20, 20, 250], [250, 250, 20]]], np.uint8)
"""Of the quarters of a picture: red and green over blue and yellow."""


def quarters(height=48, width=64):
    rows = np.arange(height) * 2 // height
    columns = np.arange(width) * 2 // width
    return COLORS[rows][:, columns]


def profile(tmp_path, name='robot', **cameras):
    """Return a profile of cameras only; return its path."""
    document = {
        'robot_type': 'eye', 'fps': 10, 'task': 'look',
        'clock': {'from': {'topic': CAMERA}, 'fps': 10, 'end_trim': 'none'},
        'features': {
            f'observation.images.{key}': {'camera': {'from': {'topic': CAMERA}, **keys}}
            for key, keys in cameras.items()
        },
    }  # fmt: skip
    path = tmp_path / f'{name}.yaml'
    path.write_text(json.dumps(document))  # which is YAML too
    return str(path)


def bag(path, *shown, depth=None):
    robot = Robot().publish(CAMERA, every(10, len(shown) / 10), pixels(shown))
    if depth is not None:
        robot.publish(DEPTH, every(10, len(shown) / 10), pixels([depth] * len(shown)))
    return robot.write(path)


def assert_like(found, expected, mean=6):
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected.astype(int)).mean() < mean


def framed(picture, height, width):
    """Return the picture in the middle of black."""
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
    canvas[slice(top, top + picture.shape[0]), slice(left, left + picture.shape[1])] = picture
    return canvas


WHOLE = quarters()
CASES = {
    'crop': ({'crop': {'x': 32, 'width': 32, 'height': 24}}, WHOLE[:24, 32:]),
    'odd': ({'crop': {'x': 3, 'y': 5, 'width': 40, 'height': 30}}, WHOLE[5:35, 3:43]),
    'turned': ({'rotate': 90}, np.rot90(WHOLE, -1)),
    'back': ({'rotate': 270}, np.rot90(WHOLE)),
    'over': ({'rotate': 180}, WHOLE[::-1, ::-1]),
    'both': (
        {'rotate': 90, 'crop': {'y': 24, 'width': 64, 'height': 24}},
        np.rot90(WHOLE[24:], -1),
    ),
    'letterbox': ({'fit': 'pad', 'size': {'width': 64, 'height': 64}}, framed(WHOLE, 64, 64)),
    'pillarbox': ({'fit': 'pad', 'size': {'width': 96, 'height': 48}}, framed(WHOLE, 48, 96)),
    'square': ({'fit': 'crop', 'size': {'width': 48, 'height': 48}}, WHOLE[:, 8:56]),
    'wide': ({'fit': 'crop', 'size': {'width': 64, 'height': 16}}, WHOLE[16:32]),
    'stretched': (
        {'fit': 'scale', 'size': {'width': 32, 'height': 96}},
        WHOLE.repeat(2, 0)[:, ::2],
    ),
    'all': (
        {
            'crop': {'x': 32, 'width': 32, 'height': 48}, 'rotate': 90, 'fit': 'pad',
            'size': {'width': 48, 'height': 48},
        },
        framed(np.rot90(WHOLE[:, 32:], -1), 48, 48),
    ),
}  # fmt: skip


@pytest.fixture(scope='module')
def converted(tmp_path_factory):
    """All cases as cameras of one dataset: one topic becomes many features."""
    folder = tmp_path_factory.mktemp('geometry')
    path = bag(folder / 'bag', WHOLE, WHOLE)
    used = profile(folder, **{name: keys for name, (keys, _) in CASES.items()})
    assert run(path, folder / 'out', profile=used, pix_fmt='yuv444p', crf=10).exit_code == 0
    return path, used, folder / 'out'


@pytest.mark.parametrize('name', CASES)
def test_pictures_are_cut_turned_and_fitted(converted, name):
    path, used, root = converted
    expected = CASES[name][1]
    key = f'observation.images.{name}'
    assert info(root)['features'][key]['shape'] == [*expected.shape]
    for picture in pictures(root, key):
        assert_like(picture, expected)
    frame = next(iter(iter_frames(open_bag(path), load_profile(used))))
    assert_like(frame.pictures[key].decode(), expected)


def test_a_dataset_of_changed_pictures_is_verified(converted):
    path, _, root = converted
    assert verify(root, [str(path)]).findings == ()


def test_two_cameras_side_by_side_become_two_features(tmp_path):
    left, right = quarters(48, 32), np.roll(quarters(48, 32), 24, axis=0)
    path = bag(tmp_path / 'bag', np.hstack([left, right]))
    half = {'width': 32, 'height': 48}
    used = profile(tmp_path, left={'crop': half}, right={'crop': {'x': 32, **half}})
    assert run(path, tmp_path / 'out', profile=used, pix_fmt='yuv444p', crf=10).exit_code == 0
    for name, shown in (('left', left), ('right', right)):
        (picture,) = pictures(tmp_path / 'out', f'observation.images.{name}')
        assert_like(picture, shown)


@pytest.mark.parametrize(
    ('fit', 'expected'),
    [
        ('pad', lambda p: np.pad(p, ((0, 1), (0, 1), (0, 0)))),
        ('crop', lambda p: p[:46, :60]),
        ('scale', lambda p: np.pad(p, ((0, 1), (0, 1), (0, 0)), mode='edge')),
    ],
)
def test_odd_sizes_are_fitted_as_asked(tmp_path, fit, expected):
    odd = quarters(47, 61)
    path = bag(tmp_path / 'bag', odd)
    assert run(path, tmp_path / 'none', profile=profile(tmp_path, eye={})).exit_code == 1
    used = profile(tmp_path, eye={'fit': fit})
    assert run(path, tmp_path / 'out', profile=used, crf=10).exit_code == 0
    (picture,) = pictures(tmp_path / 'out', KEY)
    assert_like(picture, expected(odd), mean=9)  # of halved colour planes
    assert verify(tmp_path / 'out', [str(path)]).findings == ()


@pytest.mark.parametrize(
    ('size', 'vcodec'), [((1, 1), 'h264'), ((3, 3), 'h264'), ((1, 64), 'hevc')]
)
def test_tiny_pictures_are_padded_to_what_the_encoder_takes(tmp_path, size, vcodec):
    path = bag(tmp_path / 'bag', np.full((*size, 3), 200, np.uint8))
    preset = {'vcodec': vcodec, 'preset': 'ultrafast'}
    refused = run(path, tmp_path / 'none', profile=profile(tmp_path, eye={}), **preset)
    assert refused.outcomes[0].reason.startswith(f'{CAMERA}: pictures of {size[1]}x{size[0]}')
    done = run(path, tmp_path / 'out', profile=profile(tmp_path, eye={'fit': 'pad'}), **preset)
    assert done.exit_code == 0
    (picture,) = pictures(tmp_path / 'out', KEY)
    assert picture.shape[0] >= size[0]
    assert picture.shape[1] >= size[1]


def test_depth_maps_are_cut_turned_and_fitted_without_made_up_depth(tmp_path):
    depth = (500 + np.arange(48 * 64).reshape(48, 64)).astype(np.uint16)
    geometry = Geometry((8, 4, 40, 20), 270, 'pad', (40, 40))
    found = geometry.applied(depth)
    part = np.rot90(depth[4:24, 8:48])
    assert (found == np.pad(part, ((0, 0), (10, 10)))).all()
    assert found.dtype == np.uint16
    path = bag(tmp_path / 'bag', WHOLE, depth=depth)
    used = profile(
        tmp_path,
        eye={},
        depth={
            'from': {'topic': DEPTH},
            'depth': 'metric12',
            'rotate': 90,
            'crop': {'x': 8, 'y': 4, 'width': 40, 'height': 20},
        },
    )
    frame = next(iter(iter_frames(open_bag(path), load_profile(used))))
    assert (frame.pictures[DEPTH_KEY].decode() == np.rot90(depth[4:24, 8:48], -1)).all()
    assert run(path, tmp_path / 'out', profile=used).exit_code == 0
    assert info(tmp_path / 'out')['features'][DEPTH_KEY]['shape'] == [40, 20, 1]
    assert verify(tmp_path / 'out', [str(path)]).findings == ()


def test_a_crop_beyond_the_picture_is_refused_by_name_and_by_inspect(tmp_path, capsys):
    path = bag(tmp_path / 'bag', WHOLE)
    used = profile(tmp_path, eye={'crop': {'x': 10, 'width': 60, 'height': 48}})
    done = run(path, tmp_path / 'out', profile=used)
    reason = (
        f'{CAMERA}: crop takes x 10 to 70 and y 0 to 48, the pictures are 64x48; set crop to a '
        f'part of them ({KEY})'
    )
    assert done.outcomes[0].reason == reason
    assert cli.run(['inspect', str(path), '--profile', used]) == 1
    assert reason in capsys.readouterr().out


def test_inspect_refuses_odd_pictures_as_convert_does(tmp_path, capsys):
    path = bag(tmp_path / 'bag', quarters(47, 61))
    used = profile(tmp_path, eye={})
    reason = run(path, tmp_path / 'out', profile=used).outcomes[0].reason
    assert cli.run(['inspect', str(path), '--profile', used]) == 1
    assert reason in capsys.readouterr().out
    fitted = profile(tmp_path, eye={'fit': 'crop'})
    assert cli.run(['inspect', str(path), '--profile', fitted]) == 0


@pytest.mark.parametrize(
    'keys', [{'crop': {'width': 32, 'height': 32}}, {'rotate': 90}, {'fit': 'pad'}]
)
def test_copied_pictures_cannot_be_changed(tmp_path, capsys, keys):
    path = Robot().publish(CAMERA, every(10, 0.2), jpeg('head_cam_h')).write(tmp_path / 'bag')
    words = ['convert', str(path), '--output', str(tmp_path / 'out'), '--set', 'video=copy']
    assert cli.run([*words, '--set', f'profile={profile(tmp_path, eye=keys)}']) == 2
    (name,) = keys
    assert (
        f'{KEY}: video: copy stores pictures as they are, {name} changes them; set video: encode, '
        'or leave it out'
    ) in capsys.readouterr().err


def test_a_compressed_mosaic_gets_its_colours_and_cannot_be_copied(tmp_path):
    mosaic = np.empty((48, 64), np.uint8)
    for row, column, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        mosaic[row::2, column::2] = (220, 60, 30)[channel]
    data = cv2.imencode('.jpg', mosaic, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].reshape(-1)

    def make(number, time):
        message = jpeg('head_cam_h')(number, time)
        message.format, message.data = 'bayer_rggb8; jpeg compressed ', data
        return message

    path = Robot().publish(CAMERA, every(10, 0.2), make).write(tmp_path / 'bag')
    used = profile(tmp_path, eye={})
    assert run(path, tmp_path / 'out', profile=used).exit_code == 0
    for picture in pictures(tmp_path / 'out', KEY):
        assert np.abs(picture.astype(int) - (220, 60, 30)).mean() < 6
    reason = run(path, tmp_path / 'copy', profile=used, video='copy').outcomes[0].reason
    assert reason.startswith(
        f'{CAMERA}: video: copy needs pictures with colours, found the mosaic'
    )


def test_a_change_of_size_within_a_bag_is_an_error_or_said(tmp_path):
    path = bag(tmp_path / 'bag', quarters(), quarters(), quarters(96, 128), quarters())
    done = run(path, tmp_path / 'out', profile=profile(tmp_path, eye={}))
    assert 'the picture received at' in done.outcomes[0].reason
    assert 'its pictures change from 64x48 to 128x96; give the camera a size' in (
        done.outcomes[0].reason
    )
    used = profile(tmp_path, eye={'size': {'width': 64, 'height': 48}})
    assert run(path, tmp_path / 'sized', profile=used, crf=10).exit_code == 0
    assert report(tmp_path / 'sized')['bags'][0]['problems'] == [
        f'{CAMERA}: its pictures change in size: 3 of 64x48, 1 of 128x96; all are brought to one '
        f'size ({KEY})'
    ]
    for picture in pictures(tmp_path / 'sized', KEY):
        assert_like(picture, WHOLE)


def test_a_geometry_without_a_change_leaves_pictures_alone():
    assert Geometry().is_plain((47, 61))
    assert Geometry(size=(10, 10)).is_plain((47, 61))
    assert Geometry(fit='pad', size=(24, 32)).is_plain((48, 64))
    assert not Geometry(fit='pad', size=(24, 31)).is_plain((48, 64))
    with pytest.raises(BagError, match='crop takes'):
        Geometry((0, 0, 65, 48)).turned((48, 64))
