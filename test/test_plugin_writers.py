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

"""Datasets of other formats are written by other packages."""

from __future__ import annotations

import json
import os

import av
from conversions import report, run
from kuavo_bag_converter.sample.barcode import read_frame_number
from kuavo_bag_converter.support.errors import Cancelled
import numpy as np
from observers import CancelAfter
from plain_robot import every, image, joint_state, ramps, Robot
from plugin_packages import build_example, command, installed, write_package
import pytest

PROFILE = """
robot_type: arm
fps: 15
task: Wave
clock: {from: {topic: /camera}, fps: 15}
features:
  observation.state: {parts: [{from: {topic: /joints, field: position}, names: [a, b]}]}
  observation.images.camera: {camera: {from: {topic: /camera}}}
episodes: {ranges: [{start_s: 0, stop_s: 0.5}, {start_s: 0.5, stop_s: 1}]}
"""
CODE = """
from pathlib import Path
class Writer:

    def write(self, shards, root, info):
        BODY
it = Writer()
"""


@pytest.fixture(scope='module')
def package(tmp_path_factory):
    return build_example(tmp_path_factory.mktemp('package'), 'json_rows')


@pytest.fixture
def bags(tmp_path):
    """Two bags in a folder, with a profile beside it."""
    (tmp_path / 'profile.yaml').write_text(PROFILE)
    for number in range(2):
        robot = Robot(number)
        robot.publish('/camera', every(15, 1.1 + number / 10), image('head_cam_h'))
        robot.publish('/joints', every(30, 1.3), joint_state(ramps(2)))
        robot.write(tmp_path / 'bags' / str(number))
    return tmp_path / 'bags'


def convert(capsys, bags, output, *more, name='json_rows'):
    return command(
        capsys, 'convert', bags, '--output', output, '--set', f'dataset_format={name}',
        '--set', f'profile={output.parent / "profile.yaml"}', *more,
    )  # fmt: skip


def test_a_dataset_is_written_and_has_its_record(package, bags, tmp_path, capsys):
    output = tmp_path / 'dataset'
    with installed(package):
        code, out, _ = convert(capsys, bags, output)
    assert (code, f'{output}: 4 episodes, ' in out) == (0, True)
    assert not (tmp_path / 'dataset.unfinished').exists()
    info = json.loads((output / 'dataset.json').read_text())
    assert (info['episodes'], info['fps'], info['robot_type']) == (4, 15, 'arm')
    episodes = set()
    for bag in ('000000', '000001'):
        lines = (output / 'rows' / f'{bag}.jsonl').read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        with av.open(str(output / 'videos' / bag / 'observation.images.camera.mp4')) as video:
            shown = [
                read_frame_number(frame.to_ndarray(format='rgb24'))[1]
                for frame in video.decode(video=0)
            ]
        state = np.array([row['observation.state'] for row in rows])
        assert len(shown) == len(rows) > 12
        assert state[:, 0] == pytest.approx(np.array(shown) / 15, abs=0.034)
        assert {row['task'] for row in rows} == {'Wave'}
        episodes |= {row['episode'] for row in rows}
    assert episodes == {0, 1, 2, 3}
    recorded = report(output)
    assert recorded['settings']['dataset_format'] == 'json_rows'
    assert recorded['converter']['plugins'] == ['json_rows (json-rows 1.0)']
    assert [bag['status'] for bag in recorded['bags']] == ['converted'] * 2
    assert (output / 'conversion' / 'alignment' / 'chunk-000' / '000001.parquet').exists()


def test_it_is_neither_added_to_nor_verified(package, bags, tmp_path, capsys):
    output = tmp_path / 'dataset'
    with installed(package):
        assert convert(capsys, bags / '0', output)[0] == 0
        before = {path: path.stat().st_mtime_ns for path in output.rglob('*')}
        for more in (['--append'], ['--retry-failed']):
            for name in ('json_rows', 'lerobot'):
                found = convert(capsys, bags / '1', output, *more, name=name)
                assert found == (
                    2, '', f'error: {output}: datasets of the format json_rows cannot be added '
                    'to; leave out append and retry_failed, and choose another output\n'
                )  # fmt: skip
    assert command(capsys, 'verify', output) == (
        2, '', f'error: {output}: is of the format json_rows, which cannot be checked\n'
    )  # fmt: skip
    assert {path: path.stat().st_mtime_ns for path in output.rglob('*')} == before
    assert not (tmp_path / 'dataset.unfinished').exists()


def test_an_unfinished_run_goes_on(package, bags, tmp_path, capsys):
    stop = CancelAfter(1)
    values = {'profile': str(tmp_path / 'profile.yaml'), 'dataset_format': 'json_rows'}
    with installed(package):
        with pytest.raises(Cancelled):
            run(bags, tmp_path / 'dataset', observer=stop, cancel=stop.cancel, **values)
        code, _, err = convert(capsys, bags, tmp_path / 'dataset', name='lerobot')
        assert (code, "dataset_format was 'json_rows', now 'lerobot'" in err) == (2, True)
        done = run(bags, tmp_path / 'dataset', **values)
    assert [outcome.status for outcome in done.outcomes] == ['kept', 'converted']
    assert (tmp_path / 'dataset' / 'dataset.json').exists()


@pytest.mark.parametrize(
    ('body', 'expected'),
    [
        ("(root / 'half').mkdir(); (root / 'half' / 'file').write_text('x'); 1 / 0",
         'bad (bad 1.0): cannot write the dataset (ZeroDivisionError: division by zero); finished '
         'bags are kept beside it, run the same command again when this is mended'),
        ('pass', 'bad (bad 1.0): wrote nothing; update or uninstall it'),
        ("(root / 'conversion').mkdir()",
         'bad (bad 1.0): wrote conversion/, which is for the record; update or uninstall it'),
        ("Path('/proc/none').write_text('')", 'dataset: cannot be written: No such file'),
    ],
)  # fmt: skip
def test_what_it_cannot_write_leaves_no_dataset_and_no_rest(
    package, bags, tmp_path, capsys, body, expected
):
    write_package(tmp_path / 'p', 'bad', CODE.replace('BODY', body), group='writers')
    output = tmp_path / 'dataset'
    with installed(tmp_path / 'p'):
        code, out, err = convert(capsys, bags, output, name='bad')
        assert (code, 'Traceback' in out + err) == (1, False)
        assert expected in err.splitlines()[-1]
        assert not os.path.lexists(output)
        write_package_again = CODE.replace('BODY', "(root / 'all').write_text('x')")
        (tmp_path / 'p' / 'module_of_bad.py').write_text(write_package_again)
    with installed(tmp_path / 'p'):
        code, _, _ = convert(capsys, bags, output, name='bad')
    assert code == 0
    assert sorted(os.listdir(output)) == ['all', 'conversion']
    assert sorted(os.listdir(tmp_path)) == ['bags', 'dataset', 'p', 'profile.yaml']


@pytest.mark.parametrize(
    ('name', 'more', 'expected'),
    [
        ('json_row', [], "dataset_format: 'json_row' is not known; expected lerobot or json_rows; "
                         "did you mean 'json_rows'?"),
        ('json_rows', ['--set', 'lerobot_version=v2.1'],
         'lerobot_version: has no meaning with dataset_format json_rows; leave it out'),
    ],
)  # fmt: skip
def test_a_format_that_cannot_be_is_refused(package, bags, tmp_path, capsys, name, more, expected):
    with installed(package):
        found = convert(capsys, bags, tmp_path / 'dataset', *more, name=name)
    assert found == (2, '', f'error: {expected}\n')


@pytest.mark.parametrize(
    ('name', 'code', 'expected'),
    [
        ('bad', 'it = 3', 'bad (bad 1.0): lacks write; an entry point in '
                          'kuavo_bag_converter.writers is an object with write '
                          '(docs/extending.md)'),
        ('bad', '1 / 0', "bad 1.0: its entry point 'bad' in kuavo_bag_converter.writers cannot be "
                         'loaded (ZeroDivisionError: division by zero); update or uninstall it'),
    ],
)  # fmt: skip
def test_what_is_no_writer_is_refused(bags, tmp_path, capsys, name, code, expected):
    write_package(tmp_path / 'p', name, code, group='writers')
    with installed(tmp_path / 'p'):
        assert convert(capsys, bags, tmp_path / 'dataset', name=name) == (
            2, '', f'error: {expected}\n'
        )  # fmt: skip


def test_two_packages_may_not_write_one_format(package, bags, tmp_path, capsys):
    write_package(
        tmp_path / 'p', 'twin', CODE.replace('BODY', 'pass'), group='writers', named='json_rows'
    )
    with installed(package, tmp_path / 'p'):
        code, _, err = convert(capsys, bags, tmp_path / 'dataset')
    assert (code, err.count('\n')) == (2, 1)
    assert "its entry point 'json_rows' in kuavo_bag_converter.writers has the name of" in err
