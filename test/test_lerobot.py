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

"""A converted sample, loaded by real LeRobot readers, shows what the plan names."""

from __future__ import annotations

from conversions import COLOR, DEPTH, numbers, report, rows, run, serving, write_samples
from kuavo_bag_converter.sample.barcode import read_frame_number
from lerobot_readers import BACKENDS, PYTHONS, read, version_of
import numpy as np
import pytest

SIZE = {'resize__width': 320, 'resize__height': 240}
CAMERAS = COLOR | DEPTH


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp('lerobot')
    bags = write_samples(folder, 2, seconds=2.0, size=(240, 320))
    variants = {
        'default': {},
        'copy': {'video': 'copy'},
        'av1': {'vcodec': 'libsvtav1', 'crf': 30, 'preset': '10', 'pix_fmt': 'yuv420p10le'},
        'split': {'align__tolerance_ms': 20, 'use_depth': False, 'pix_fmt': 'yuv444p10le'},
    }
    for name, values in variants.items():
        done = run(bags, folder / name, sample_drop=5, **SIZE, **values)
        assert done.exit_code == 0, done.outcomes
    return [folder / name for name in variants]


@pytest.mark.parametrize('python', PYTHONS)
def test_lerobot_shows_for_every_frame_what_the_plan_names(roots, python, tmp_path):
    if version_of(python) < (0, 4):
        pytest.skip('LeRobot before 0.4 reads v2.1 only')
    found = read(python, tmp_path / 'frames.npz', *roots)
    for root in roots:
        bags = range(len(report(root)['bags']))
        table = rows(root)
        for backend in BACKENDS:
            for key, topic in CAMERAS.items():
                if f'{root.name}/{backend}/{key}' not in found:
                    continue
                named = [ordinal for bag in bags for ordinal in serving(root, topic, bag)]
                shown = found[f'{root.name}/{backend}/{key}'].transpose(0, 2, 3, 1)
                assert [read_frame_number(picture)[1] for picture in shown] == named, (root, key)
            for key in ('observation.state', 'action'):
                loaded = found[f'{root.name}/{backend}/{key}']
                assert (loaded == table[key].astype(np.float32)).all()


@pytest.mark.parametrize('python', PYTHONS)
def test_lerobot_shows_the_pictures_of_copied_streams(python, tmp_path):
    if version_of(python) < (0, 4):
        pytest.skip('LeRobot before 0.4 reads v2.1 only')
    roots = [tmp_path / codec for codec in ('h264', 'h265')]
    for root in roots:
        bags = root.with_suffix('.bags')
        bags.mkdir()
        (bag,) = write_samples(bags, 1, transport=root.name, seconds=2.5, size=(120, 160))
        values = {'train_hz': 30, 'sample_drop': 0, 'use_depth': False, 'video': 'auto'}
        assert run(bag, root, resize__width=160, resize__height=120, **values).exit_code == 0
    found = read(python, tmp_path / 'frames.npz', *roots)
    for root in roots:
        for key in COLOR:
            expected = [number for _, number in numbers(root, key)]
            for backend in BACKENDS:
                shown = found[f'{root.name}/{backend}/{key}'].transpose(0, 2, 3, 1)
                assert [read_frame_number(picture)[1] for picture in shown] == expected
