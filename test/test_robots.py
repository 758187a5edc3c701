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

"""A robot with settings of its own is added by another package, beside Kuavo."""

from __future__ import annotations

import json
import os
from pathlib import Path
import shlex
import subprocess
import sys

from conversions import report, rows, run
import kuavo_bag_converter
from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.profiles.loader import read_profile
from kuavo_bag_converter.replay.verify import verify
from kuavo_bag_converter.robots.kuavo.options import KuavoOptions
from kuavo_bag_converter.robots.resolve import profile_version, resolve
from kuavo_bag_converter.sample.write import write_sample
from kuavo_bag_converter.settings import known_settings, Settings, settings_from, updated
from kuavo_bag_converter.support.errors import UsageError
from plugin_packages import build_example, command, installed, two_arms_bag, write_package
import pytest
import yaml

OWN = {'two_arms.arms', 'two_arms.fps', 'two_arms.camera_fps'}
DECLARED = """
from dataclasses import dataclass
from kuavo_bag_converter.robots.robot import Robot
from kuavo_bag_converter.settings import setting
@dataclass(frozen=True)
class Options:
    speed: int = setting(1, 'Its speed.')
    FIELD
class Robots(Robot):
    options = Options
it = Robots()
"""


@pytest.fixture(scope='module')
def package(tmp_path_factory):
    return build_example(tmp_path_factory.mktemp('package'))


@pytest.fixture
def two_arms(package):
    with installed(package):
        yield package


def test_its_options_convert_a_bag_and_are_recorded(two_arms, tmp_path):
    bag = two_arms_bag(tmp_path / 'bag')
    params = tmp_path / 'params.yaml'
    params.write_text('/**: {ros__parameters: {profile: two_arms, two_arms: {fps: 15}}}')
    output = tmp_path / 'dataset'
    assert cli.run(
        ['convert', str(bag), '--output', str(output), '--params-file', str(params),
         '--set', 'two_arms.arms=left']
    ) == 0  # fmt: skip
    info = json.loads((output / 'meta' / 'info.json').read_text())
    assert (info['fps'], info['robot_type']) == (15, 'two_arms')
    assert info['features']['observation.state']['names'] == [f'left_{k + 1}' for k in range(7)]
    recorded = report(output)['settings']
    assert {name: recorded[name] for name in OWN} == {
        'two_arms.arms': 'left', 'two_arms.fps': 15, 'two_arms.camera_fps': 30
    }  # fmt: skip
    state = rows(output)['observation.state']
    assert state[:, 0] == pytest.approx(rows(output)['timestamp'], abs=0.01)
    assert read_profile(output / 'conversion' / 'profile.yaml').name == 'two_arms'


@pytest.mark.parametrize('sides', [('right',), ('left', 'right')])
def test_the_topics_of_the_bag_settle_what_is_automatic(two_arms, tmp_path, sides):
    bag = two_arms_bag(tmp_path / 'bag', sides=sides)
    run(bag, tmp_path / 'dataset', profile='two_arms')
    info = json.loads((tmp_path / 'dataset' / 'meta' / 'info.json').read_text())
    names = info['features']['action']['names']
    assert [name for name in names if name.endswith('_1')] == [f'{side}_1' for side in sides]


def test_what_is_automatic_takes_a_bag_to_show(two_arms, tmp_path, capsys):
    shown = command(capsys, 'profile', '--show', '--set', 'profile=two_arms')
    assert shown == (
        2, '', 'error: two_arms.arms: auto is settled by a bag; give BAG, or set two_arms.arms\n'
    )  # fmt: skip
    bag = two_arms_bag(tmp_path / 'bag', sides=['right'])
    code, text, _ = command(capsys, 'profile', '--show', bag, '--set', 'profile=two_arms')
    assert code == 0
    assert len(yaml.safe_load(text)['features']['action']['parts']) == 1


def test_a_bag_that_it_does_not_fit_is_refused_in_one_line(two_arms, tmp_path, capsys):
    write_sample(tmp_path / 'kuavo.bag', seconds=1, size=(48, 64))
    code, out, err = command(
        capsys, 'convert', tmp_path / 'kuavo.bag', '--output', tmp_path / 'dataset',
        '--set', 'profile=two_arms',
    )  # fmt: skip
    assert code == 1
    assert 'no arm in the bag (looked for /left_arm/joint_states and right)' in out + err
    assert not (tmp_path / 'dataset').exists()


@pytest.mark.parametrize(('sides', 'arms'), [(('left', 'right'), 'both'), (('left',), 'left')])
def test_inspecting_advises_it_with_the_options_that_fit(two_arms, tmp_path, capsys, sides, arms):
    bag = two_arms_bag(tmp_path / 'bag', sides=sides, camera_hz=20)
    code, out, _ = command(capsys, 'inspect', '--json', bag)
    assert code == 0
    fits = json.loads(out)['bags'][0]['profiles']
    fit = next(fit for fit in fits if fit['fits'])
    assert (fit['profile'], fit['settings']) == ('two_arms', {'two_arms.arms': arms})
    assert '--set two_arms.camera_fps=20' in fit['command']
    _, out, _ = command(capsys, 'inspect', bag)
    assert f'\n  two_arms {arms}: ' in out
    words = shlex.split(fit['command'].replace('DIR', str(tmp_path / 'dataset')))
    assert cli.run(words[3:]) == 0
    assert report(tmp_path / 'dataset')['bags'][0]['plan']['frames'] == fit['frames']


def test_inspecting_says_what_the_topics_leave_open(tmp_path, capsys):
    code = DECLARED.replace('FIELD', "arm: str = setting('auto', 'Its arm.', name='other.arm')")
    code = code.replace(
        'it = Robots()',
        """
    clock_fps = 'speed'
    def undecided(self, options):
        return 'other.arm'
    def build(self, options, topics):
        raise BagError('no arm in the bag')
it = Robots()""",
    ).replace('\nfrom k', '\nfrom kuavo_bag_converter.support.errors import BagError\nfrom k', 1)
    write_package(tmp_path, 'other', code)
    bag = two_arms_bag(tmp_path / 'bag', seconds=0.5)
    with installed(tmp_path):
        _, out, _ = command(capsys, 'inspect', '--json', bag)
    fit = next(fit for fit in json.loads(out)['bags'][0]['profiles'] if fit['profile'] == 'other')
    (miss,) = fit['misses']
    assert (miss['kind'], miss['text']) == ('other.arm', 'no arm in the bag')


def test_inspecting_a_kuavo_bag_still_advises_kuavo(two_arms, tmp_path, capsys):
    write_sample(tmp_path / 'kuavo.bag', seconds=1, size=(48, 64))
    _, out, _ = command(capsys, 'inspect', '--json', tmp_path / 'kuavo.bag')
    fits = [fit for fit in json.loads(out)['bags'][0]['profiles'] if fit['fits']]
    assert {fit['profile'] for fit in fits} == {'kuavo'}


def test_help_the_list_of_profiles_and_the_file_of_settings_have_it(package):
    def printed(*arguments):
        done = subprocess.run(
            [sys.executable, '-m', 'kuavo_bag_converter', *arguments],
            env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(package), *sys.path])},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout

    assert 'Frames a second. (10)' in printed('convert', '--help-all')
    assert '  two_arms  made from the two_arms settings\n' in printed('profile', '--list')
    template = yaml.safe_load(printed('profile', '--template'))['/**']['ros__parameters']
    assert template['two_arms'] == {'arms': 'auto', 'fps': 10, 'camera_fps': 30}
    assert template['train_hz'] == 10


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        ({'two_arms.fps': 0}, 'two_arms.fps: expected int from 1 to 100, found 0'),
        ({'two_arms.arms': 'lef'}, 'two_arms.arms: expected one of auto, left, right, both, found '
                                   "'lef'; did you mean 'left'?"),
        ({'two_arms.fsp': 1}, "unknown setting 'two_arms.fsp'; did you mean 'two_arms.fps'?"),
    ],
)  # fmt: skip
def test_its_options_are_checked_as_all_settings_are(two_arms, values, expected):
    with pytest.raises(UsageError) as caught:
        settings_from(values, 'test')
    assert str(caught.value) == f'test: {expected}'


@pytest.mark.parametrize(
    ('profile', 'name', 'advice'),
    [
        ('two_arms', 'train_hz', 'leave it out'),
        ('kuavo', 'two_arms.fps', 'leave it out'),
        ('joint_state_image', 'two_arms.fps', 'set fps there'),
    ],
)
def test_options_of_another_robot_than_the_profile_s_are_refused(two_arms, profile, name, advice):
    settings = settings_from({'profile': profile, name: 20}, 'test')
    with pytest.raises(UsageError) as caught:
        resolve(settings, ())
    assert str(caught.value) == f'{name}: has no meaning with profile {profile}; {advice}'


def test_defaults_are_as_if_not_given_and_others_stay(two_arms):
    changed = updated(Settings(), {'two_arms.fps': 20, 'train_hz': 15}, 'test')
    assert changed.options_of(KuavoOptions) == KuavoOptions(train_hz=15)
    again = updated(changed, {'two_arms.fps': 10}, 'test')
    assert again == updated(Settings(), {'train_hz': 15}, 'test')
    assert updated(again, {'train_hz': 10}, 'test') == Settings()


def test_a_dataset_of_another_profile_does_not_depend_on_what_is_installed(package, tmp_path):
    write_sample(tmp_path / 'kuavo.bag', seconds=1.5, size=(48, 64), depth=False)
    run(tmp_path / 'kuavo.bag', tmp_path / 'without', use_depth=False)
    with installed(package):
        assert set(known_settings()) > OWN
        run(tmp_path / 'kuavo.bag', tmp_path / 'with', use_depth=False)
    without, found = report(tmp_path / 'without'), report(tmp_path / 'with')
    assert list(found['settings'].items()) == list(without['settings'].items())
    assert found['settings']['train_hz'] == 10


def test_an_unfinished_run_goes_on_with_the_same_version_of_the_package(two_arms, tmp_path):
    assert profile_version(settings_from({'profile': 'two_arms'}, 'test')) == 'two-arms 1.0'
    assert profile_version(Settings()) == ''


def test_a_dataset_can_be_verified_where_the_robot_is_not_installed(package, tmp_path):
    bag = two_arms_bag(tmp_path / 'bag')
    with installed(package):
        run(bag, tmp_path / 'dataset', profile='two_arms')
    assert 'two_arms.fps' not in known_settings()
    result = verify(tmp_path / 'dataset', [str(bag)])
    assert (result.ok, result.bags) == (True, (str(bag),))


@pytest.mark.parametrize(
    ('field', 'expected'),
    [
        ("train_hz: int = setting(1, 'Taken.')", "the setting 'train_hz' is taken by kuavo"),
        ("width: int = setting(1, 'Taken.', name='resize.x')",
         "the setting 'resize.x' is taken by kuavo"),
        ("output: str = setting('', 'Taken.')",
         "the setting 'output' is taken by the converter"),
        ("clock: bool = setting(True, 'Taken.', name='use_sim_time')",
         "the setting 'use_sim_time' is taken by the converter"),
        ('bare: int = 3', 'its options must be a dataclass whose fields are made by setting(), '
         'each a bool, int, float, str, int list, str list'),
        ("odd: bytes = setting(b'', 'Odd.')", 'its options must be a dataclass'),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_refused_by_its_package(tmp_path, capsys, field, expected):
    write_package(tmp_path, 'other', DECLARED.replace('FIELD', field))
    with installed(tmp_path):
        code, out, err = command(capsys, 'convert', 'x.bag', '--output', tmp_path / 'dataset')
    assert (code, out, err.count('\n')) == (2, '', 1)
    assert err.startswith(f'error: other (other 1.0): {expected}')


def test_two_packages_may_not_share_a_name(package, tmp_path, capsys):
    code = DECLARED.replace('FIELD', '')
    one = write_package(tmp_path / '1', 'kuavo', code)
    with installed(one):
        found = command(capsys, 'profile', '--list')
    assert found == (
        2, '', "error: kuavo 1.0: its entry point 'kuavo' in kuavo_bag_converter.robots has the "
        'name of kuavo (of this package); uninstall one of them\n'
    )  # fmt: skip


@pytest.mark.parametrize(
    ('code', 'expected'),
    [
        ('import none_such', "ModuleNotFoundError: No module named 'none_such'"),
        ('1 / 0', 'ZeroDivisionError: division by zero'),
        ('other = 1', "AttributeError: module 'module_of_bad' has no attribute 'it'"),
    ],
)
def test_a_robot_that_cannot_be_loaded_is_named_with_its_package(tmp_path, capsys, code, expected):
    write_package(tmp_path, 'bad', code)
    with installed(tmp_path):
        found = command(capsys, 'convert', 'x.bag', '--output', tmp_path / 'dataset')
    assert found == (
        2, '', "error: bad 1.0: its entry point 'bad' in kuavo_bag_converter.robots cannot be "
        f'loaded ({expected}); update or uninstall it\n'
    )  # fmt: skip


def test_something_that_is_no_robot_is_refused(tmp_path, capsys):
    write_package(tmp_path, 'bad', 'it = 3')
    with installed(tmp_path):
        code, _, err = command(capsys, 'profile', '--list')
    assert code == 2
    assert err.startswith('error: bad (bad 1.0): its options must be a dataclass')


FAILING = DECLARED.replace('FIELD', '').replace(
    'it = Robots()',
    """
    from kuavo_bag_converter.support.errors import BagError
    def build(self, options, topics):
        raise self.BagError('no arm in the bag')
    def METHOD(self, *_):
        BODY
it = Robots()
""",
)


@pytest.mark.parametrize(
    ('method', 'body', 'expected'),
    [
        ('build', "return {}['arm']", "building the profile failed (KeyError: 'arm')"),
        ('build', "return {'fps': 10}", 'built dict in place of a Profile; update it'),
        (
            'build',
            'from dataclasses import replace; from kuavo_bag_converter import load_profile; '
            "return replace(load_profile('joint_state_image'), fps=0)",
            'profile joint_state_image: fps: expected an integer from 1 to 1000, found 0',
        ),
        ('undecided', '1 / 0', 'undecided() failed (ZeroDivisionError: division by zero)'),
        (
            'title',
            'return self.none',
            "title() failed (AttributeError: 'Robots' object has no attribute 'none')",
        ),
        ('variants', 'yield 1 / 0', 'variants() failed (ZeroDivisionError: division by zero)'),
    ],
)
def test_what_the_code_of_a_robot_raises_is_one_line(tmp_path, capsys, method, body, expected):
    code = FAILING.replace('METHOD', method).replace('BODY', body)
    write_package(tmp_path / 'p', 'other', code)
    bag = two_arms_bag(tmp_path / 'bag', seconds=0.5)
    words = ['inspect', bag]
    if method in ('build', 'undecided'):
        words = ['convert', bag, '--output', tmp_path / 'dataset', '--set', 'profile=other']
    with installed(tmp_path / 'p'):
        code, out, err = command(capsys, *words)
    assert (code, 'Traceback' in out + err) == (2, False)
    assert f'error: other (other 1.0): {expected}' in err.splitlines()
    assert not (tmp_path / 'dataset').exists()


@pytest.mark.parametrize('words', [['--list'], ['--show', '--set', 'profile=joint_state_image']])
def test_a_robot_may_not_have_the_name_of_a_shipped_profile(tmp_path, capsys, words):
    write_package(tmp_path, 'joint_state_image', DECLARED.replace('FIELD', ''))
    with installed(tmp_path):
        assert command(capsys, 'profile', *words) == (
            2, '', 'error: joint_state_image (joint_state_image 1.0): has the name of a profile '
            'of this package; rename or uninstall it\n'
        )  # fmt: skip


def test_the_core_names_no_robot():
    package = Path(kuavo_bag_converter.__file__).parent
    named = [
        str(path.relative_to(package))
        for path in package.rglob('*.py')
        if "'kuavo'" in path.read_text(encoding='utf-8')
    ]
    # The default of the setting `profile`, what is registered, and what is Kuavo's.
    assert sorted(named) == ['robots/kuavo/profile.py', 'settings.py', 'support/plugins.py']
