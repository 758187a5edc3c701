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

"""Profiles that extend others: what comes out, what is refused, and where errors say it stands."""

from __future__ import annotations

from dataclasses import replace
import re
from types import SimpleNamespace

from conversions import rows, run
from dataset_reading import info
from kuavo_bag_converter.cli.main import run as command
from kuavo_bag_converter.profiles import composition
from kuavo_bag_converter.profiles.dump import profile_as_yaml
from kuavo_bag_converter.profiles.loader import read_profile
from kuavo_bag_converter.profiles.model import Align
from kuavo_bag_converter.profiles.shipped import shipped_profiles
from kuavo_bag_converter.robots.kuavo.options import KuavoOptions
from kuavo_bag_converter.robots.kuavo.profile import kuavo_profile
from kuavo_bag_converter.sample.write import write_sample
from kuavo_bag_converter.support import files
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.plugins import Plugin
import pytest

BASE = """
name: the_lab
robot_type: lab_robot
fps: 10
task: Pick the cube
clock: {from: {topic: /head}, fps: 30, drop: 2}
align: {timeline: header, tolerance_ms: 50}
features:
  observation.state:
    parts:
      - {from: {topic: /joints, field: position}, names: [j1, j2], select: [0, 2], unit: deg2rad}
      - {from: {topic: /gripper, field: position}, names: [gripper], range: [0, 255]}
      - {from: {topic: /force, field: data}, names: 'taxel_{0:3}'}
  action:
    parts: [{from: {topic: /command, field: position}, names: [j1, j2]}]
  observation.images.head:
    camera: {from: {topic: /head}, size: {width: 64, height: 48}}
  observation.images.wrist:
    camera: {from: {topic: /wrist}}
episodes: {while_true: {topic: /recording, field: data}, min_episode_s: 2}
"""


def extending(folder, text, base=BASE, extends='base.yaml'):
    (folder / 'base.yaml').write_text(base)
    path = folder / 'mine.yaml'
    path.write_text(f'extends: {extends}\n{text}')
    return path


def load(folder, text, **keys):
    return read_profile(extending(folder, text, **keys))


def refused(folder, text, **keys):
    with pytest.raises(UsageError) as error:
        load(folder, text, **keys)
    message = str(error.value)
    assert '\n' not in message
    return message.replace(f'{folder}/', '')


def state(profile):
    return next(item for item in profile.features if item.key == 'observation.state').parts


def test_what_is_not_said_is_inherited(tmp_path):
    mine = load(tmp_path, '')
    assert mine == replace(read_profile(tmp_path / 'base.yaml'), name='mine')
    assert load(tmp_path, 'name: other').name == 'other'


def test_the_path_of_what_is_extended_may_have_blanks(tmp_path):
    base = tmp_path / 'my robots' / 'base profile.yaml'
    base.parent.mkdir()
    base.write_text(BASE)
    mine = load(tmp_path, '', extends='./my robots/base profile.yaml')
    assert mine == replace(read_profile(base), name='mine')


def test_mappings_are_put_together_and_other_values_replaced(tmp_path):
    text = """
fps: 20
clock: {drop: 5}
align: {tolerance_ms: 80}
features:
  observation.images.head: {camera: {size: {width: 32}}}
  observation.images.extra: {camera: {from: {topic: /extra}}}
  observation.force: {parts: [{from: {topic: /force, field: data}, names: [f]}]}
"""
    base, mine = read_profile(extending(tmp_path, text).parent / 'base.yaml'), load(tmp_path, text)
    assert (mine.fps, mine.clock) == (20, replace(base.clock, drop=5))
    assert [item.key for item in mine.features] == [
        *(item.key for item in base.features), 'observation.images.extra', 'observation.force',
    ]  # fmt: skip
    assert mine.cameras[0].size == (48, 32)
    align = Align('nearest', 'header', 80, None, 'split')
    assert {camera.align for camera in mine.cameras} == {align}
    assert state(mine) == tuple(replace(part, align=align) for part in state(base))


def test_parts_are_changed_added_and_taken_out_by_the_names_of_their_elements(tmp_path):
    text = """
features:
  observation.state:
    parts:
      gripper: {range: [0, 100], align: {tolerance_ms: null}}
      taxel_1: null
      j2: {from: {topic: /other}, unit: null, joints: [a, b]}
      pressure: {from: {topic: /pressure, field: data}}
      wrench: {from: {topic: /wrench, fields: [x, y]}, names: [fx, fy]}
"""
    base, mine = read_profile(extending(tmp_path, text).parent / 'base.yaml'), load(tmp_path, text)
    joints, gripper, pressure, wrench = state(mine)
    assert (joints.sources[0].topic, joints.sources[0].fields) == ('/other', ('position',))
    assert (joints.unit, joints.joints, joints.select) == ('', ('a', 'b'), None)
    assert gripper == replace(
        state(base)[1], value_range=(0, 100), align=Align(timeline='header', on_gap='keep')
    )
    assert (pressure.names, wrench.names) == (('pressure',), ('fx', 'fy'))
    vectors = {vector.key: vector for vector in mine.vectors}
    assert vectors['action'] == base.vectors[1]


def test_a_list_takes_the_place_of_the_inherited_one(tmp_path):
    parts = 'parts: [{from: {topic: /a, field: b}, names: [one]}]'
    mine = load(tmp_path, f'features: {{observation.state: {{{parts}}}}}')
    assert [part.names for part in state(mine)] == [('one',)]


@pytest.mark.parametrize(
    ('text', 'changes'),
    [
        ('episodes: null', {'episodes': None}),
        ('episodes: {each_message: {topic: /mark}}', {'rule': 'each_message'}),
        ('task: {from: {topic: /prompt, field: data}, default: x}', {'task': 'x'}),
        ('features: {observation.images.wrist: null}', {'cameras': 1}),
    ],
)
def test_one_key_takes_the_place_of_another_and_null_takes_out(tmp_path, text, changes):
    mine = load(tmp_path, text)
    assert mine.task == changes.get('task', 'Pick the cube')
    assert len(mine.cameras) == changes.get('cameras', 2)
    assert mine.episodes.cuts == ('episodes' not in changes)
    if mine.episodes.cuts:
        assert mine.episodes.rule == changes.get('rule', 'while_true')
        assert mine.episodes.min_episode_s == 2


def test_a_chain_lies_in_many_folders(tmp_path):
    (tmp_path / 'lab').mkdir()
    (tmp_path / 'lab' / 'root.yaml').write_text(BASE)
    (tmp_path / 'lab' / 'base.yaml').write_text('extends: ./root.yaml\nfps: 15\ntask: Push')
    mine = load(tmp_path, 'task: Pull', extends='lab/base.yaml')
    assert (mine.name, mine.fps, mine.task, mine.robot_type) == ('mine', 15, 'Pull', 'lab_robot')


def test_a_package_and_a_shipped_profile_are_extended(tmp_path, monkeypatch):
    (tmp_path / 'share').mkdir()
    (tmp_path / 'share' / 'robot.yaml').write_text(BASE)
    found = {'my_robot': tmp_path / 'share'}
    monkeypatch.setattr(files, 'share_of_package', found.get)
    assert load(tmp_path, 'fps: 7', extends='package://my_robot/robot.yaml').fps == 7
    assert refused(tmp_path, '', extends='package://none/robot.yaml') == (
        "mine.yaml: extends: package://none/robot.yaml: 'none' is no package of a ROS workspace "
        'that is sourced'
    )
    shipped = read_profile(shipped_profiles()['joint_state_image'])
    mine = load(tmp_path, 'fps: 7', extends='joint_state_image')
    assert mine == replace(shipped, name='mine', fps=7)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('fps: fast', "mine.yaml: fps: expected an integer from 1 to 1000, found 'fast'"),
        ('clock: {from: null}', "mine.yaml: clock: the key 'from' is missing"),
        ('clok: {drop: 1}', r"mine.yaml: unknown key 'clok' \(known are name, .*\); did you "
         "mean 'clock'"),
        ('clock: {dorp: 1}', r"mine.yaml: clock: unknown key 'dorp' \(known are .*'drop'"),
        ('clock: {dorp: null}', 'mine.yaml: clock.dorp: null takes out what is inherited, which '
         "has no such key; did you mean 'drop'"),
        ('features: {observation.state: {parts: {griper: {range: [0, 1]}}}}',
         'mine.yaml: features.observation.state.parts.griper: no part that is inherited has an '
         "element 'griper', and a new one needs from; did you mean 'gripper'"),
        ('features: {observation.state: {parts: {griper: null}}}',
         'mine.yaml: features.observation.state.parts.griper: no part that is inherited has'),
        ('features: {observation.state: {parts: {gripper: {range: [1, 1]}}}}',
         r'mine.yaml: features.observation.state.parts.gripper.range: expected \[low, high\]'),
        ('features: {observation.state: {parts: {j1: {length: 2}}}}',
         r'base.yaml: features.observation.state.parts\[0\].select\[1\]: expected elements'),
        ('options: {train_hz: 10}', 'mine.yaml: options: are those of a robot; they need extends'),
    ],
)  # fmt: skip
def test_errors_name_the_file_and_the_key_where_the_wrong_value_stands(tmp_path, text, message):
    assert re.match(message, refused(tmp_path, text))


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('drop: 2', 'dorp: 2', r"base.yaml: clock: unknown key 'dorp' \(known are"),
        ('range: [0, 255]', 'range: [0]', r'base.yaml: features.observation.state.parts\[1\].ra'),
        ('fps: 30', 'fps: x', 'base.yaml: clock.fps: expected a number greater than 0'),
        ('fps: 10', '', "mine.yaml: the key 'fps' is missing"),
        ('fps: 10', 'fps: [', 'base.yaml: line 6, column'),
    ],
)  # fmt: skip
def test_errors_of_what_is_extended_name_its_file(tmp_path, old, new, message):
    text = 'clock: {decimation: time}\nfeatures: {observation.state: {parts: {j1: {scale: 2}}}}'
    assert old in BASE
    assert re.match(message, refused(tmp_path, text, base=BASE.replace(old, new)))


@pytest.mark.parametrize(
    ('extends', 'base', 'message'),
    [
        ('mine.yaml', BASE, 'mine.yaml: extends: profiles extend each other in a circle: '
         'mine.yaml, mine.yaml'),
        ('base.yaml', 'extends: ./mine.yaml', 'base.yaml: extends: profiles extend each other '
         'in a circle: mine.yaml, base.yaml, mine.yaml'),
        ('none.yaml', BASE, 'mine.yaml: extends: there is no file none.yaml'),
        ('joint_state_imag', BASE, "mine.yaml: extends: 'joint_state_imag' is not known; "
         "expected one of kuavo, joint_state_image, .*did you mean 'joint_state_image'"),
        ('[a, b]', BASE, 'mine.yaml: extends: expected the name of a profile or robot, or '),
        ('base.yaml', '- 1', 'base.yaml: expected a profile'),
    ],
)  # fmt: skip
def test_what_cannot_be_extended(tmp_path, extends, base, message):
    assert re.match(message, refused(tmp_path, 'fps: 5', base=base, extends=extends))


# A robot with options

KUAVO = {'platform_type': '5w', 'eef_type': 'leju_claw', 'use_depth': 'false'}
OPTIONS = f'options: {KUAVO}'.replace("'", '')
MORE = """
features:
  observation.imu:
    parts:
      - {from: {topic: /sensors_data_raw, fields: [imu_data.gyro.x, imu_data.gyro.z]},
         names: 'gyro_{x,z}'}
"""


def test_a_robot_is_extended_with_its_options(tmp_path):
    mine = load(tmp_path, f'{OPTIONS}\nfps: 15\n{MORE}', extends='kuavo')
    robot = kuavo_profile(KuavoOptions(**KUAVO))
    assert (mine.name, mine.fps) == ('mine', 15)
    assert mine.features[: len(robot.features)] == robot.features
    assert mine.vectors[-1].names == ('gyro_x', 'gyro_z')


def test_options_are_put_together_along_a_chain(tmp_path):
    base = f'extends: kuavo\n{OPTIONS}'
    mine = load(
        tmp_path, 'options: {eef_type: sg100, resize: {width: 320}, train_hz: 20}', base=base
    )
    given = {**KUAVO, 'eef_type': 'sg100', 'resize_width': 320, 'train_hz': 20}
    assert mine == replace(kuavo_profile(KuavoOptions(**given)), name='mine')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ('', 'mine.yaml: extends: eef_type, platform_type, use_depth: auto is settled by a bag, '
         'of which a profile knows nothing; say under options what it is'),
        ('options: {eff_type: sg100}', 'mine.yaml: options.eff_type: is no option of kuavo; did '
         "you mean 'eef_type'"),
        ('options: {crf: 20}', 'mine.yaml: options.crf: is no option of kuavo'),
        ('options: {eef_type: sg10}', 'mine.yaml: options: eef_type: .*sg10'),
        ('options: {platform_type: 4pro, eef_type: sg100, use_depth: false, base_move: 1}',
         'mine.yaml: options.base_move: is no option of kuavo'),
        ('options: {platform_type: 4pro, eef_type: sg100, use_depth: false, 5w_wholebody: true}',
         'mine.yaml: options: 5w_wholebody'),
        ('options: 5w', "mine.yaml: options: expected a mapping of the robot's options"),
    ],
)  # fmt: skip
def test_options_that_a_robot_cannot_have(tmp_path, options, message):
    assert re.match(message, refused(tmp_path, options, extends='kuavo'))


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda *_: 1 / 0, r'building the profile failed \(ZeroDivisionError: division by zero\)'),
        (lambda *_: 3, r'building the profile failed \(AttributeError: .*\)'),
    ],
)
def test_a_robot_that_builds_no_profile_is_named_in_one_line(
    tmp_path, monkeypatch, build, message
):
    robot = SimpleNamespace(options=KuavoOptions, undecided=lambda _: '', build=build)
    found = {'mobile': Plugin('mobile', robot, 'mobile_robot 1.0')}
    monkeypatch.setattr(composition, 'plugins', lambda _: found)
    expected = rf'mine.yaml: options: mobile \(mobile_robot 1.0\): {message}'
    assert re.fullmatch(expected, refused(tmp_path, '', extends='mobile'))


def test_a_kuavo_with_one_more_sensor_converts(tmp_path, capsys):
    """Its dataset keeps the profile as a whole, so that it is verified without the file."""
    bag = tmp_path / 'bag'
    truth = write_sample(
        bag, seconds=0.9, size=(60, 80), platform_type='5w', depth=False, storage='mcap'
    )
    small = 'clock: {drop: 1}\n'
    options = OPTIONS.replace('{', '{resize: {width: 80, height: 60}, ')
    path = extending(tmp_path, f'{options}\n{small}{MORE}', extends='kuavo')
    out = tmp_path / 'out'
    assert run(bag, out, profile=str(path), judged=True).exit_code == 0
    yaw = truth.topics['/sensors_data_raw'].ramps['imu_data.quat']
    gyro = rows(out)['observation.imu']
    assert gyro[:, 1] == pytest.approx(float(yaw.last[0] * 1e9 / yaw.duration))
    assert info(out)['features']['observation.imu']['names'] == ['gyro_x', 'gyro_z']
    kept = (out / 'conversion' / 'profile.yaml').read_text()
    assert kept == profile_as_yaml(read_profile(path))
    assert command(['profile', '--show', '--set', f'profile={path}']) == 0
    assert capsys.readouterr().out == kept
    path.unlink()
    assert command(['verify', str(out), '--bags', str(bag)]) == 0
