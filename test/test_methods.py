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

"""Whatever the settings of a Kuavo robot: the values are right, and every method writes them."""

from __future__ import annotations

from bag_edits import copied
from conversions import report, rows, run, same_frames
from covering import covering
from kuavo_bag_converter.sample.write import write_sample
from naive_kuavo import KuavoRows
import numpy as np
import pytest

SIZE = (60, 80)
SECONDS = 1.5
PLATFORMS = {'claws': '4pro', 'hands': '5', 'grippers': '5w'}
PARAMETERS = {
    'bag': tuple(PLATFORMS),
    'which_arm': ('both', 'left', 'right'),
    'only_arm': (True, False),
    'use_depth': (False, True),
    'depth_coding': ('original', 'range8', 'metric12'),
    'video': ('encode', 'copy'),
    'dex_dof_needed': (1, 2, 6),
    'is_binary': (False, True),
    'delta_action': (False, True),
    'relative_start': (False, True),
    'train_hz': (10, 12, 30),
    'main_timeline': ('head_cam_h', 'most_messages'),
    'sample_drop': (0, 2),
    'decimation': ('auto', 'time', 'jump'),
    'end_trim': ('min_end', 'max_end', 'none'),
    'late_eef': ('nearest', 'zeros_then_hold'),
    'align__strategy': ('nearest', 'hold', 'linear'),
    'align__timeline': ('bag', 'header'),
    'align__tolerance_ms': (0, 60),
    'align__on_gap': ('auto', 'keep', 'hold', 'drop', 'split'),
    'chunk_size': (1, 7, 100),
    'threads': (1, 3),
    'other_method': ('streaming', 'whole_bag'),
}


def makes_sense(row):
    """Only the bags with hands and claws have a base that moves."""
    return row.get('only_arm', True) or row.get('bag') != 'grippers'


ROWS = covering(PARAMETERS, makes_sense)


@pytest.fixture(scope='module')
def bags(tmp_path_factory):
    """Bags in which topics are late or silent for a while, or cameras have different rates."""
    folder = tmp_path_factory.mktemp('bags')
    silent = {'/kuavo_arm_traj': ((0.5, 0.8),), '/sensors_data_raw': ((0.7, 0.95),)}
    usual = {'size': SIZE, 'seconds': SECONDS, 'extras': False, 'gaps': silent}
    claws = write_sample(
        folder / 'whole.bag', whole_body=True, starts={'/leju_claw_command': 0.4}, **usual
    )
    copied(
        folder / 'whole.bag', folder / 'claws.bag',
        keep=lambda topic, _: topic != '/kuavo_arm_traj_synced',
    )  # fmt: skip
    hands = write_sample(
        folder / 'hands', eef_type='qiangnao', platform_type='5', whole_body=True, storage='mcap',
        camera_rates=(30, 15, 60), **usual,
    )  # fmt: skip
    grippers = write_sample(
        folder / 'grippers', eef_type='rq2f85', platform_type='5w', storage='sqlite3',
        starts={'/gripper/command': 0.3}, **usual,
    )  # fmt: skip
    return {
        'claws': (folder / 'claws.bag', claws),
        'hands': (folder / 'hands', hands),
        'grippers': (folder / 'grippers', grippers),
    }


@pytest.mark.parametrize('row', ROWS, ids=range(len(ROWS)))
def test_values_are_what_the_settings_say_and_the_same_by_every_method(bags, tmp_path, row):
    settings = dict(row, platform_type=PLATFORMS[row['bag']])
    settings |= {'resize__width': SIZE[1], 'resize__height': SIZE[0]}
    bag, truth = bags[settings.pop('bag')]
    method = settings.pop('other_method')
    outcome = run(bag, tmp_path / 'chunked', judged=True, **settings)
    assert outcome.exit_code == 0, outcome.outcomes
    expected = KuavoRows(tmp_path / 'chunked', truth, row['bag'], settings)
    table = rows(tmp_path / 'chunked')
    close = {'rtol': 2e-7, 'atol': 1e-7}
    np.testing.assert_allclose(table['observation.state'], expected.state(), **close)
    np.testing.assert_allclose(table['action'], expected.action(), **close)
    plan = report(tmp_path / 'chunked')['bags'][0]['plan']
    settings |= {'chunk_size': 100, 'threads': 1}
    run(bag, tmp_path / 'other', method=method, **settings)
    assert same_frames(tmp_path / 'other') == same_frames(tmp_path / 'chunked')
    assert report(tmp_path / 'other')['bags'][0]['plan'] == plan


def test_the_settings_meet_in_every_pair():
    missing = [
        (one, a, other, b)
        for one, first in PARAMETERS.items()
        for other, second in PARAMETERS.items()
        if one < other
        for a in first
        for b in second
        if makes_sense({one: a, other: b})
        and not any((row[one], row[other]) == (a, b) for row in ROWS)
    ]
    assert not missing
    assert len(ROWS) < 40
