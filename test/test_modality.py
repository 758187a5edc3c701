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

"""``meta/modality.json``, by which GR00T finds the parts of a dataset's vectors."""

from __future__ import annotations

import errno
import json

from arm_runs import convert_arm, PROFILE, states, write_bag, write_profile
from dataset_edits import edit_json
from kuavo_bag_converter.check.dataset import check_dataset
from kuavo_bag_converter.dataset.depth import DepthCoding
from kuavo_bag_converter.dataset.features import Feature
from kuavo_bag_converter.dataset.modality import modality_of
from kuavo_bag_converter.profiles.loader import read_profile
from kuavo_bag_converter.profiles.shipped import shipped_profiles
from kuavo_bag_converter.support.errors import OutputError
import pytest

TIME = {'original_key': 'timestamp'}
TASK = {'human.task_description': {'original_key': 'task_index'}}
ROBOT = """\
robot_type: arm
fps: 10
task: Count
clock: {from: {topic: /arm}, fps: 10}
features:
  observation.state:
    parts:
      - from: {topic: /arm, field: position}
        names: [arm_1, arm_2, arm_10, gripper]
      - {from: {topic: /more, field: position}, names: [arm_3]}
      - {from: {topic: /force, field: data}, names: [fx, fy, fz]}
      - from: {tf: {parent: base, child: tool0}}
        names: [x, y, z, qx, qy, qz, qw]
      - from: {topic: /pose, field: orientation}
        rotation: {from: quaternion_xyzw, to: quaternion_wxyz}
        names: [w1, x1, y1, z1]
      - from: {topic: /pose, field: orientation}
        rotation: {from: quaternion_xyzw, to: rot6d_columns}
        names: 'tool_{0:6}'
  observation.imu:
    parts: [{from: {topic: /imu, field: data}, names: [a, b, c]}]
  observation.fast:
    samples: 3
    parts: [{from: {topic: /imu, field: data}, names: [a, b, c]}]
  action:
    minus: observation.state
    parts: [{from: {topic: /command, field: position}, names: [arm_1, arm_2]}]
  action.mode:
    dtype: int64
    parts: [{from: {topic: /mode, field: data}, names: [mode]}]
  next.reward:
    parts: [{from: {topic: /reward, field: data}, names: [reward]}]
"""


@pytest.fixture
def bag(tmp_path):
    return write_bag(tmp_path / 'bags/0.bag', 0)


def modality(root):
    return json.loads((root / 'meta/modality.json').read_text())


def test_slices_have_the_names_that_elements_share_or_their_part_has(tmp_path):
    profile = read_profile(write_profile(tmp_path, ROBOT))
    cameras = [
        Feature('observation.images.head', 'video', (16, 16, 3)),
        Feature('observation.depth_head', 'video', (16, 16, 3)),
        Feature('observation.depth', 'video', (16, 16, 1), depth=DepthCoding()),
        Feature('observation.images.still', 'image', (16, 16, 3)),
    ]
    imu = {'start': 0, 'end': 3, 'original_key': 'observation.imu'}
    mode = {'start': 0, 'end': 1, 'original_key': 'action.mode', 'dtype': 'int64'}
    assert modality_of(profile, cameras) == {
        'state': {
            'arm': {'start': 0, 'end': 3},
            'gripper': {'start': 3, 'end': 4},
            'arm_2': {'start': 4, 'end': 5},
            'force': {'start': 5, 'end': 8},
            'tool0': {'start': 8, 'end': 15},
            'pose': {'start': 15, 'end': 19, 'rotation_type': 'quaternion'},
            'tool': {'start': 19, 'end': 25},
            'imu': imu,
        },
        'action': {'arm': {'start': 0, 'end': 2, 'absolute': False}, 'mode': mode},
        'video': {
            'head': {'original_key': 'observation.images.head'},
            'depth_head': {'original_key': 'observation.depth_head'},
        },
        'annotation': TASK,
    }


def test_a_humanoid_has_its_limbs():
    slices = modality_of(read_profile(shipped_profiles()['roban']), [])['state']
    assert {name: (entry['start'], entry['end']) for name, entry in slices.items()} == {
        'left_arm': (0, 4), 'left_hand': (4, 5), 'right_arm': (5, 9), 'right_hand': (9, 10),
        'left_leg': (10, 16), 'right_leg': (16, 22), 'waist': (22, 23),
    }  # fmt: skip


def test_it_is_made_for_v21_and_on_request_and_checked(bag, tmp_path):
    profile = write_profile(tmp_path)
    convert_arm(bag, tmp_path / 'plain', profile)
    convert_arm(bag, tmp_path / 'never', profile, lerobot_version='v2.1', modality=False)
    for name in ('plain', 'never'):
        assert not (tmp_path / name / 'meta/modality.json').exists()
    convert_arm(bag, tmp_path / 'old', profile, lerobot_version='v2.1')
    convert_arm(bag, tmp_path / 'asked', profile, modality=True)
    for name in ('old', 'asked'):
        assert check_dataset(tmp_path / name) == []
        found = modality(tmp_path / name)
        assert found['state'] == {'arm': {'start': 0, 'end': 2}}
        assert (found['action'], found['video'], found['annotation']) == ({}, {}, TASK)


def test_one_that_is_there_stays_and_one_that_is_asked_for_is_added(bag, tmp_path):
    profile, root = write_profile(tmp_path), tmp_path / 'out'
    convert_arm(bag, root, profile, lerobot_version='v2.1')
    edit_json(root / 'meta/modality.json', lambda document: document.update(mine=1))
    mine = (root / 'meta/modality.json').read_bytes()
    bags = [bag, write_bag(tmp_path / 'bags/1.bag', 1)]
    convert_arm(bags, root, profile, lerobot_version='v2.1', append=True, modality=True)
    assert (root / 'meta/modality.json').read_bytes() == mine
    (root / 'meta/modality.json').unlink()
    bags.append(write_bag(tmp_path / 'bags/2.bag', 2))
    convert_arm(bags, root, profile, lerobot_version='v2.1', append=True)
    assert not (root / 'meta/modality.json').exists()
    bags.append(write_bag(tmp_path / 'bags/3.bag', 3))
    convert_arm(bags, root, profile, lerobot_version='v2.1', append=True, modality=True)
    assert modality(root)['state'] == {'arm': {'start': 0, 'end': 2}}
    assert len(states(root)) == 16


def test_a_run_that_is_stopped_after_it_was_written_leaves_nothing_behind(
    bag, tmp_path, monkeypatch
):
    profile, root = write_profile(tmp_path), tmp_path / 'out'
    with monkeypatch.context() as patch:
        patch.setattr('kuavo_bag_converter.jobs.convert.write_conversion_folder', _full_disk)
        with pytest.raises(OutputError):
            convert_arm(bag, root, profile, modality=True)
    assert list(tmp_path.glob('out.unfinished/dataset/meta/modality.json'))
    convert_arm(bag, root, profile, modality=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['arm.yaml', 'bags', 'out']


def _full_disk(*_, **__):
    raise OSError(errno.ENOSPC, 'No space left on device')


@pytest.mark.parametrize(
    ('change', 'rule', 'feature'),
    [
        (lambda d: d['state']['arm'].update(end=3), 'modality.entry', 'state.arm'),
        (lambda d: d['state']['arm'].update(start=2), 'modality.entry', 'state.arm'),
        (lambda d: d['state']['arm'].update(start=True), 'modality.entry', 'state.arm'),
        (lambda d: d['state']['arm'].update(original_key='x'), 'modality.entry', 'state.arm'),
        (lambda d: d['state']['arm'].update(rotation_type='xyz'), 'modality.entry', 'state.arm'),
        (lambda d: d['state'].update(arm=1), 'modality.entry', 'state.arm'),
        (lambda d: d['action'].update(arm={'start': 0, 'end': 1}), 'modality.entry', 'action.arm'),
        (lambda d: d['video'].update(head={}), 'modality.entry', 'video.head'),
        (lambda d: d['annotation'].update(t={}), 'modality.entry', 'annotation.t'),
        (lambda d: d['annotation'].update(t=TIME), 'modality.entry', 'annotation.t'),
        (lambda d: d.pop('action'), 'modality.groups', ''),
        (lambda d: d.update(video=[]), 'modality.groups', ''),
    ],
)  # fmt: skip
def test_what_gr00t_cannot_read_is_found(change, rule, feature, made, tmp_path):
    path = made / 'meta/modality.json'
    before = path.read_text()
    edit_json(path, change)
    findings = check_dataset(made)
    path.write_text(before)
    assert [(found.rule, found.file, found.feature) for found in findings] == [
        (rule, 'meta/modality.json', feature)
    ]


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp('modality')
    bag = write_bag(folder / '0.bag', 0)
    convert_arm(bag, folder / 'out', write_profile(folder, PROFILE), modality=True)
    return folder / 'out'
