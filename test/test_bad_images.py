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

"""Pictures that cannot be decoded: whatever is asked for, it is counted, and time stays honest."""

from __future__ import annotations

import functools

from bag_edits import copied
from conversions import alignment, numbers, report, rows, run, same_frames, serving
from kuavo_bag_converter.sample.write import write_sample
import numpy as np
import pytest
from ros_messages import ROS1

HEAD = '/cam_h/color/image_raw/compressed'
DEPTH = '/cam_l/depth/image_rect_raw/compressedDepth'
CAMERAS = {'observation.images.head_cam_h': HEAD, 'observation.depth_l': DEPTH}
SMALL = {
    'resize__width': 48, 'resize__height': 32, 'sample_drop': 2, 'which_arm': 'left', 'threads': 1,
}  # fmt: skip
START, MIDDLE = range(6), range(30, 35)
KIND = 'sensor_msgs/msg/CompressedImage'


def cut(picture):
    return picture[: len(picture) * 6 // 10]


def corrupt(picture):
    """
    Overwrite the lengths of a JPEG's Huffman codes, or some of a PNG's compressed data.

    (A JPEG has no checksum: where its coded data is changed, it often still decodes.)
    """
    table = bytes(picture).find(b'\xff\xc4')
    place = len(picture) // 2 if table < 0 else table + 5
    return np.concatenate(
        [picture[:place], np.full(20, 0xFE, np.uint8), picture[slice(place + 20, None)]]
    )


def empty(picture):
    return picture[:0]


def text(_picture):
    return np.frombuffer(b'no picture at all', np.uint8)


def damaged(damages):
    """Return an edit that changes the pictures of some ordinals, ``{(topic, ordinals): how}``."""

    def edit(topic, number, data):
        for (name, ordinals), how in damages.items():
            if name == topic and number in ordinals:
                message = ROS1.deserialize_ros1(data, KIND)
                message.data = how(message.data)
                return bytes(ROS1.serialize_ros1(message, KIND))
        return data

    return edit


DAMAGES = {
    'jpegs-cut-pngs-corrupt': {(HEAD, MIDDLE): cut, (DEPTH, START): corrupt},
    'jpegs-corrupt-pngs-cut': {(HEAD, START): corrupt, (DEPTH, MIDDLE): cut},
    'jpegs-empty-pngs-text': {(HEAD, START): empty, (DEPTH, START): text},
}


@pytest.fixture(scope='module')
def sample(tmp_path_factory):
    path = tmp_path_factory.mktemp('sample') / 'sample.bag'
    write_sample(path, seconds=2.0, size=(32, 48), extras=False)
    return path


@pytest.fixture(scope='module')
def whole(sample, tmp_path_factory):
    """Return the dataset of the undamaged sample."""
    root = tmp_path_factory.mktemp('whole') / 'dataset'
    assert run(sample, root, **SMALL).exit_code == 0
    return root


@pytest.fixture(scope='module', params=DAMAGES)
def bag(request, sample, tmp_path_factory):
    """Return a damaged copy of the sample, and its damages."""
    damages = DAMAGES[request.param]
    target = tmp_path_factory.mktemp('damaged') / 'sample.bag'
    return copied(sample, target, edited=damaged(damages)), damages


@pytest.fixture(scope='module')
def converted(bag, tmp_path_factory):
    """Return what converts the damaged bag with ``on_bad_image``, once with each value."""

    @functools.cache
    def convert(on_bad_image):
        root = tmp_path_factory.mktemp(on_bad_image) / 'out'
        return root, run(bag[0], root, on_bad_image=on_bad_image, **SMALL)

    return convert


def bad_frames(whole, damages):
    """Tell of each frame of the undamaged dataset, and each camera, whether its picture is bad."""
    bad = {}
    for topic in CAMERAS.values():
        ordinals = [n for (name, numbers), _ in damages.items() if name == topic for n in numbers]
        bad[topic] = np.isin(serving(whole, topic), ordinals)
    return bad


def pieces(good):
    """Return the runs (start, stop) of frames that are good."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], good, [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def check_time(root):
    """Frames of an episode are a tenth of a second apart in the bag as in the dataset."""
    table, plan = rows(root), alignment(root)
    for episode in np.unique(table['episode_index']):
        mine = table['episode_index'] == episode
        assert np.allclose(table['timestamp'][mine], np.arange(mine.sum()) / 10)
        seconds = (plan['frame_stamp_ns'][mine] - plan['frame_stamp_ns'][mine][0]) / 1e9
        assert np.abs(seconds - table['timestamp'][mine]).max() < 0.05


def shown(root, key):
    return [number for _, number in numbers(root, key)]


@pytest.mark.parametrize('on_bad_image', ['split', 'drop'])
def test_frames_with_bad_pictures_are_cut_and_counted(whole, bag, converted, on_bad_image):
    damages = bag[1]
    bad = bad_frames(whole, damages)
    good = ~np.any(list(bad.values()), axis=0)
    kept = pieces(good)
    if on_bad_image == 'drop':
        kept = [max(kept, key=lambda piece: piece[1] - piece[0])]
    root, outcome = converted(on_bad_image)
    plan = report(root)['bags'][0]['plan']
    assert (outcome.exit_code, outcome.episodes) == (0, len(kept))
    assert plan['frames_with_bad_images'] == np.sum(~good) > 0
    assert plan['candidate_frames'] == len(good)
    assert plan['frames_cut'] == len(good) - plan['frames']
    frames = np.concatenate([np.arange(*piece) for piece in kept])
    stamps = alignment(whole)['frame_stamp_ns'][frames]
    assert alignment(root)['frame_stamp_ns'].tolist() == stamps.tolist()
    for key, topic in CAMERAS.items():
        assert shown(root, key) == serving(whole, topic)[frames].tolist()
    check_time(root)


def test_repeated_pictures_stand_in_for_bad_ones_and_are_counted(whole, bag, converted):
    damages = bag[1]
    root, outcome = converted('repeat')
    plan = report(root)['bags'][0]['plan']
    bad = bad_frames(whole, damages)
    assert (outcome.exit_code, outcome.episodes, outcome.frames) == (
        0,
        1,
        plan['candidate_frames'],
    )
    counts = {t: len(np.unique(serving(whole, t)[mask])) for t, mask in bad.items() if mask.any()}
    assert plan['bad_images'] == counts
    for key, topic in CAMERAS.items():
        serves = serving(whole, topic)
        good = np.flatnonzero(~bad[topic])
        before = np.maximum(np.searchsorted(good, np.arange(len(serves)), side='right') - 1, 0)
        assert shown(root, key) == serves[good[before]].tolist(), key
    check_time(root)


@pytest.mark.parametrize('on_bad_image', ['split', 'drop', 'repeat'])
def test_every_method_does_the_same_about_bad_pictures(bag, converted, tmp_path, on_bad_image):
    roots = [converted(on_bad_image)[0], tmp_path / 'streaming', tmp_path / 'whole_bag']
    for root in roots[1:]:
        run(bag[0], root, on_bad_image=on_bad_image, method=root.name, **SMALL)
    datasets = [(same_frames(root), report(root)['bags'][0]['plan']) for root in roots]
    assert datasets[1:] == datasets[:1] * 2


@pytest.mark.parametrize('how', [cut, corrupt, empty, text])
@pytest.mark.parametrize('place', [START, MIDDLE], ids=['start', 'middle'])
@pytest.mark.parametrize('topic', [HEAD, DEPTH])
def test_a_bad_picture_fails_the_bag_by_name_and_leaves_nothing(
    sample, tmp_path, topic, place, how
):
    bag = copied(sample, tmp_path / 'bad.bag', edited=damaged({(topic, place): how}))
    outcome = run(bag, tmp_path / 'out', **SMALL)
    assert outcome.exit_code == 1
    assert outcome.outcomes[0].reason.startswith(f'{topic}: ')
    assert [path.name for path in tmp_path.iterdir()] == ['bad.bag']


def test_bad_pictures_that_no_frame_needs_do_not_matter(sample, whole, tmp_path):
    needed = {topic: set(serving(whole, topic).tolist()) for topic in CAMERAS.values()}

    def edit(topic, number, data):
        bad = topic in needed and number not in needed[topic]
        return damaged({(topic, (number,)): cut})(topic, number, data) if bad else data

    bag = copied(sample, tmp_path / 'bad.bag', edited=edit)
    assert run(bag, tmp_path / 'out', **SMALL).exit_code == 0
    assert same_frames(tmp_path / 'out') == same_frames(whole)


@pytest.mark.parametrize('on_bad_image', ['fail', 'split', 'drop', 'repeat'])
def test_a_camera_without_one_good_picture_fails_before_anything_is_written(
    sample, tmp_path, on_bad_image
):
    bag = copied(sample, tmp_path / 'bad.bag', edited=damaged({(HEAD, range(10**6)): text}))
    (outcome,) = run(bag, tmp_path / 'out', on_bad_image=on_bad_image, **SMALL).outcomes
    assert outcome.reason.startswith(f'{HEAD}: the payload ')
    assert 'none of its first 59 pictures can be read (observation.images.' in outcome.reason
    assert outcome.shard is None
