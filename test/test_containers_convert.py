"""One recording gives one dataset, whatever it was recorded into."""

from __future__ import annotations

from pathlib import Path

import pytest
from containers import CONTAINERS, sample_recording, write_msg_files
from conversions import report, run, same_frames

PROFILE = """
robot_type: kuavo
fps: 10
task: Pick
clock: {from: {topic: /cam_h/color/image_raw/compressed}, fps: 30, drop: 2}
features:
  observation.state:
    parts:
      - from: {topic: /sensors_data_raw, field: joint_data.joint_q}
        select: [12:15]
        names: [a, b, c]
        align: {timeline: header, strategy: linear}
      - {from: {topic: /leju_claw_state, field: data.position}, names: [left, right]}
  action:
    parts:
      - {from: {topic: /kuavo_arm_traj, field: position}, select: [0:3], names: [a, b, c]}
  observation.images.head:
    camera: {from: {topic: /cam_h/color/image_raw/compressed}}
  observation.depth_head:
    camera: {from: {topic: /cam_h/depth/image_raw/compressedDepth}, depth: range8}
"""
SIZE = (32, 48)
"""As small as frame numbers and encoders allow."""


@pytest.fixture(scope='module')
def recording(tmp_path_factory):
    return sample_recording(tmp_path_factory.mktemp('sample'), seconds=2.0, size=SIZE)


@pytest.fixture(scope='module')
def msg_path(recording, tmp_path_factory):
    return write_msg_files(tmp_path_factory.mktemp('msgs'), recording)


@pytest.fixture(scope='module')
def profile(tmp_path_factory):
    path = tmp_path_factory.mktemp('profile') / 'small.yaml'
    path.write_text(PROFILE)
    return path


@pytest.fixture(scope='module')
def expected(recording, msg_path, profile, tmp_path_factory):
    """Digests of the dataset of a plain ROS 1 bag, and the report of its plan."""
    return made(CONTAINERS['bag'], recording, tmp_path_factory.mktemp('expected'),
                profile=str(profile), msg_path=[str(msg_path)])  # fmt: skip


def made(write, recording, folder: Path, **values):
    (folder / 'recording').mkdir()
    bags = write(folder / 'recording', recording)
    outcome = run(bags, folder / 'dataset', threads=1, **values)
    assert [item.reason for item in outcome.outcomes] == ['']
    assert outcome.frames > 10
    (bag,) = report(folder / 'dataset')['bags']
    return same_frames(folder / 'dataset'), bag['plan']


@pytest.mark.parametrize('container', [name for name in CONTAINERS if name != 'bag'])
def test_every_container_gives_the_same_dataset(
    container, recording, expected, msg_path, profile, tmp_path
):
    values = {'profile': str(profile), 'msg_path': [str(msg_path)]}
    assert made(CONTAINERS[container], recording, tmp_path, **values) == expected


def test_types_that_neither_the_bag_nor_a_folder_defines_are_named(recording, profile, tmp_path):
    bag = CONTAINERS['db3-schema-1'](tmp_path, recording)
    (outcome,) = run(bag, tmp_path / 'dataset', profile=str(profile)).outcomes
    assert 'give a folder that holds kuavo_msgs/msg/' in outcome.reason
    assert sorted(path.name for path in tmp_path.iterdir()) == ['run.db3']
