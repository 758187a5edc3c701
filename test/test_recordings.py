"""Rules about recordings of every kind, from the file to what the commands say."""

from __future__ import annotations

import pytest
from conversions import report, rows, run
from plain_robot import Robot, every, joint_state, jpeg, ramps

from kuavo_bag_converter import cli

PROFILE = """
robot_type: made_up
fps: 10
task: Move
clock: {from: {topic: /head/compressed}, fps: 10}
features:
  observation.state:
    parts: [{from: {topic: /joints, field: position}, names: [a, b]}]
  observation.images.head:
    camera: {from: {topic: /head/compressed}}
"""
JOINTS, HEAD = '/joints', '/head/compressed'


@pytest.fixture(scope='module')
def robot():
    """Two joints and a camera, for two seconds."""
    made = Robot().publish(JOINTS, every(20, 2.0), joint_state(ramps(2)))
    return made.publish(HEAD, every(10, 2.0), jpeg('head_cam_h'))


@pytest.fixture(scope='module')
def profile(tmp_path_factory):
    path = tmp_path_factory.mktemp('profile') / 'robot.yaml'
    path.write_text(PROFILE)
    return str(path)


def printed(capsys, *words):
    """Run a command; return its exit code and all lines that it prints."""
    capsys.readouterr()
    code = cli.run([*map(str, words)])
    done = capsys.readouterr()
    return code, (done.out + done.err).splitlines()


# --- bytes behind the end of messages


@pytest.mark.parametrize('surplus', [bytes(8), b'\xff' * 8])
@pytest.mark.parametrize('method', ['chunked', 'whole_bag'])
def test_messages_longer_than_they_are_give_the_same_rows(
    robot, profile, tmp_path, surplus, method
):
    bag = robot.write(tmp_path / 'longer', surplus)
    outcome = run(bag, tmp_path / 'out', profile=profile, method=method).outcomes[0]
    assert run(robot.write(tmp_path / 'plain'), tmp_path / 'other', profile=profile).frames
    mine, other = rows(tmp_path / 'out'), rows(tmp_path / 'other')
    assert (mine['observation.state'] == other['observation.state']).all()
    assert len(outcome.problems) == 2
    joints = next(line for line in outcome.problems if line.startswith(JOINTS))
    assert joints.endswith(' messages have 8 bytes behind the end, which are ignored')
    assert report(tmp_path / 'out')['bags'][0]['problems'] == list(outcome.problems)
    assert report(tmp_path / 'other')['bags'][0]['problems'] == []


def test_messages_longer_than_they_are_are_counted_where_the_user_looks(
    robot, profile, tmp_path, capsys
):
    bag = robot.write(tmp_path / 'longer', bytes(8))
    code, lines = printed(
        capsys, 'convert', bag, '--output', tmp_path / 'out', '--set', f'profile={profile}'
    )
    assert code == 0
    tracks = report(tmp_path / 'out')['bags'][0]['plan']['tracks']
    for track in tracks:
        text = f'{track["used"]} messages have 8 bytes behind the end, which are ignored'
        assert lines.count(f'    {track["topic"]}: {text}') == 1
    code, lines = printed(capsys, 'inspect', bag)
    assert code == 0
    assert f'  {JOINTS}: its first message has 8 bytes behind the end; a conversion ignores and ' \
        'counts them' in lines  # fmt: skip
