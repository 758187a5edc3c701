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

"""What keeps the shards of a run from becoming one dataset is found, by bag, before it is."""

from __future__ import annotations

import json

from bag_files import unindexed
from conversions import report, run, same_frames
from dataset_reading import info
from kuavo_bag_converter.jobs.report import Observer
from kuavo_bag_converter.sample.write import write_sample
from kuavo_bag_converter.support.errors import Cancelled, UsageError
from observers import CancelAfter
from plain_robot import depth, every, image, joint_state, jpeg, ramps, Robot
import pytest

CAMERA, STATE = '/camera/image_raw', '/joint_states'
KEY = 'observation.images.head'
SMALL, LARGE, ODD = (48, 64), (64, 80), (47, 65)
"""(height, width)."""


def bag(path, size=SMALL, make=image, seconds=1.0):
    robot = Robot()
    robot.publish(CAMERA, every(15, seconds), make('head_cam_h', size=size))
    robot.publish(STATE, every(50, seconds), joint_state(ramps(2)))
    return robot.write(path)


def profile(tmp_path, **camera):
    """Return a profile whose camera has the size of its pictures; return its path."""
    part = {'from': {'topic': STATE, 'field': 'position'}, 'names': ['a', 'b']}
    document = {
        'robot_type': 'made_up', 'fps': 15, 'task': 'Do it',
        'clock': {'from': {'topic': CAMERA}, 'fps': 15},
        'features': {
            'observation.state': {'parts': [part]},
            KEY: {'camera': {'from': {'topic': CAMERA}, **camera}},
        },
    }  # fmt: skip
    path = tmp_path / 'robot.yaml'
    path.write_text(json.dumps(document))  # which is YAML too
    return str(path)


class Watching(Observer):
    """Notes what is said of bags."""

    def __init__(self):
        self.said = []

    def bag_refused(self, number, total, outcome):
        self.said.append(f'refused {number}')

    def planned(self, number, plan):
        self.said.append('planned')


def statuses(done):
    return [outcome.status for outcome in done.outcomes]


def test_a_bag_with_other_pictures_than_most_is_refused_by_name(tmp_path):
    bags = [bag(tmp_path / 'a', LARGE), bag(tmp_path / 'b'), bag(tmp_path / 'c', seconds=1.5)]
    watching = Watching()
    values = {'profile': profile(tmp_path), 'observer': watching}
    done = run(bags, tmp_path / 'out', **values)
    assert done.exit_code == 1
    assert statuses(done) == ['failed', 'converted', 'converted']
    assert watching.said == ['refused 1', 'planned', 'planned']
    assert done.outcomes[0].reason == (
        f'{CAMERA}: pictures of 80x64, those of the run are 64x48, as in b; give the camera a '
        f'size in the profile ({KEY})'
    )
    assert report(tmp_path / 'out')['bags'][0]['reason'] == done.outcomes[0].reason
    assert info(tmp_path / 'out')['features'][KEY]['shape'] == [48, 64, 3]
    assert info(tmp_path / 'out')['total_episodes'] == 2

    # Of as many, those that come first; and the advice helps.
    done = run(bags[:2], tmp_path / 'two', profile=profile(tmp_path))
    assert statuses(done) == ['converted', 'failed']
    sized = profile(tmp_path, size={'width': 64, 'height': 48})
    assert run(bags, tmp_path / 'sized', profile=sized).exit_code == 0


def test_copied_pictures_of_another_size_are_refused_with_what_helps(tmp_path):
    bags = [bag(tmp_path / 'a', SMALL, jpeg), bag(tmp_path / 'b', LARGE, jpeg)]
    done = run(bags, tmp_path / 'out', profile=profile(tmp_path), video='copy')
    assert statuses(done) == ['converted', 'failed']
    assert 'give the camera a size in the profile and set video: encode' in done.outcomes[1].reason


@pytest.mark.parametrize('alone', [True, False])
def test_pictures_that_the_pixel_format_cannot_hold_are_refused_by_name(tmp_path, alone):
    odd = bag(tmp_path / 'odd', ODD)
    bags = [odd] if alone else [odd, bag(tmp_path / 'b')]
    values = {'profile': profile(tmp_path)}
    done = run(bags, tmp_path / 'out', **values)
    assert statuses(done) == ['failed', 'converted'][: len(bags)]
    assert done.outcomes[0].reason == (
        f'{CAMERA}: pictures of 65x47 cannot be stored as yuv420p, which halves the colour '
        'planes; give the camera a size of even numbers or fit (pad, crop or scale), or set '
        f'pix_fmt: yuv444p ({KEY})'
    )
    if alone:
        assert run(bags, tmp_path / 'full', pix_fmt='yuv444p', **values).exit_code == 0
        assert info(tmp_path / 'full')['features'][KEY]['shape'] == [47, 65, 3]


def test_pictures_that_an_encoder_does_not_take_are_refused_by_name(tmp_path):
    bags = [bag(tmp_path / 'a'), bag(tmp_path / 'b', (8, 12))]
    values = {'vcodec': 'hevc', 'preset': 'ultrafast', 'profile': profile(tmp_path)}
    done = run(bags, tmp_path / 'out', **values)
    assert statuses(done) == ['converted', 'failed']
    assert done.outcomes[1].reason.startswith(f'{CAMERA}: vcodec hevc cannot encode 12x8 yuv420p')


def test_a_size_of_the_profile_that_cannot_be_stored_is_the_fault_of_no_bag(tmp_path):
    bags = [bag(tmp_path / 'a'), bag(tmp_path / 'b')]
    sized = profile(tmp_path, size={'width': 63, 'height': 48})
    with pytest.raises(UsageError, match=f'^{KEY}: pictures of 63x48 cannot be stored'):
        run(bags, tmp_path / 'out', profile=sized)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a', 'b', 'robot.yaml']


def test_a_format_that_cannot_hold_a_feature_is_refused_before_the_first_bag(tmp_path):
    robot = Robot().publish(CAMERA, every(15, 1.0), depth)
    robot.publish(STATE, every(50, 1.0), joint_state(ramps(2))).write(tmp_path / 'a')
    watching = Watching()
    metric = profile(tmp_path, depth='metric12')
    with pytest.raises(UsageError, match='has no metric depth; use v3'):
        run(tmp_path / 'a', tmp_path / 'out', profile=metric, lerobot_version='v2.1',
            observer=watching)  # fmt: skip
    assert watching.said == []


@pytest.mark.parametrize('count', [1, 2])
def test_what_is_appended_must_have_the_pictures_of_the_dataset(tmp_path, count):
    values = {'profile': profile(tmp_path)}
    run(bag(tmp_path / 'a'), tmp_path / 'out', **values)
    bags = [bag(tmp_path / name, LARGE) for name in 'bc'[:count]]
    before = same_frames(tmp_path / 'out')
    watching = Watching()
    done = run(bags, tmp_path / 'out', append=True, observer=watching, **values)
    assert statuses(done) == ['failed'] * count
    assert 'planned' not in watching.said
    assert done.outcomes[0].reason == (
        f'{CAMERA}: pictures of 80x64, those of the dataset are 64x48; choose another output for '
        f'it ({KEY})'
    )
    assert same_frames(tmp_path / 'out') == before
    recorded = [bag['status'] for bag in report(tmp_path / 'out')['bags']]
    assert recorded == ['converted'] + ['failed'] * count
    more = [*bags, bag(tmp_path / 'd', seconds=1.5)]
    done = run(more, tmp_path / 'out', append=True, **values)
    assert statuses(done) == ['failed'] * count + ['converted']
    assert info(tmp_path / 'out')['total_episodes'] == 2


def test_what_is_appended_must_have_the_elements_of_the_dataset(tmp_path):
    values = {'eef_type': 'auto', 'use_depth': False, 'sample_drop': 0,
              'resize__width': 80, 'resize__height': 60}  # fmt: skip
    for name, eef_type in (('a', 'rq2f85'), ('b', 'qiangnao')):
        write_sample(tmp_path / f'{name}.bag', eef_type=eef_type, seconds=1.0, size=(60, 80),
                     depth=False)  # fmt: skip
    run(tmp_path / 'a.bag', tmp_path / 'out', **values)
    watching = Watching()
    done = run(tmp_path / 'b.bag', tmp_path / 'out', append=True, observer=watching, **values)
    assert statuses(done) == ['failed']
    assert watching.said == []
    assert "(names) is ['left_claw', 'right_claw'], the new" in done.outcomes[0].reason


def camera_only(tmp_path):
    topic = '/cam_h/color/image_raw/compressed'
    document = {
        'robot_type': 'kuavo', 'fps': 10, 'task': 'Look',
        'clock': {'from': {'topic': topic}, 'fps': 30},
        'features': {KEY: {'camera': {'from': {'topic': topic}}}},
    }  # fmt: skip
    path = tmp_path / 'camera.yaml'
    path.write_text(json.dumps(document))
    return str(path)


def test_a_bag_that_cannot_be_checked_first_fails_before_it_is_converted(tmp_path):
    bags = [tmp_path / f'{name}.bag' for name in 'abc']
    for seed, (path, size) in enumerate(zip(bags, (SMALL, LARGE, SMALL), strict=True)):
        write_sample(path, storage='bag', seconds=1.0, size=size, depth=False, seed=seed)
        unindexed(path)
    values = {'profile': camera_only(tmp_path)}
    watching = Watching()
    done = run(bags, tmp_path / 'out', observer=watching, **values)
    assert statuses(done) == ['converted', 'failed', 'converted']
    assert watching.said == ['planned', 'planned']
    assert 'those of the run are 64x48, as in a.bag' in done.outcomes[1].reason

    # A finished shard of an earlier run settles it, too.
    stop = CancelAfter(1)
    with pytest.raises(Cancelled):
        run(bags, tmp_path / 'again', observer=stop, cancel=stop.cancel, **values)
    done = run(bags, tmp_path / 'again', **values)
    assert statuses(done) == ['kept', 'failed', 'converted']
