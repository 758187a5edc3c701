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

"""The examples and the documentation of the public interface run, and do what they say."""

from __future__ import annotations

import doctest
from pathlib import Path
import subprocess
import sys

from conversions import rows, write_samples
import kuavo_bag_converter as kbc
from kuavo_bag_converter.sample.barcode import read_frame_number
from kuavo_bag_converter.sample.write import write_sample
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAD = 'observation.images.head_cam_h'


@pytest.fixture(scope='module')
def bags(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bags')
    return write_samples(folder, 2, seconds=2.5, size=(60, 80), extras=False)


@pytest.fixture(scope='module')
def dataset(bags, tmp_path_factory):
    """Both bags, converted as the examples do."""
    root = tmp_path_factory.mktemp('converted') / 'dataset'
    kbc.convert(bags, root, depth_coding='metric12')
    return root


def run_example(name, *arguments):
    done = subprocess.run(
        [sys.executable, ROOT / 'examples' / name, *map(str, arguments)],
        cwd=ROOT, env={'PYTHONPATH': str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, '')
    return done.stdout


def numbers(pictures):
    return [read_frame_number(picture) for picture in pictures]


def expected(bag):
    with kbc.open_bag(bag) as reader:
        frames = kbc.iter_frames(reader, kbc.load_profile('kuavo', bag=reader))
        return numbers(frame.pictures[HEAD].decode() for frame in frames)


def test_act_finds_all_that_it_reads(bags, dataset, tmp_path):
    h5py = pytest.importorskip('h5py', reason='the example writes HDF5 files')
    assert run_example('act_hdf5.py', tmp_path / 'act', *bags) == '2 episodes\n'
    table = rows(dataset)
    for episode, bag in enumerate(bags):
        mine = table['episode_index'] == episode
        with h5py.File(tmp_path / 'act' / f'episode_{episode}.hdf5', 'r') as root:
            # As utils.py of ACT reads an episode.
            assert not root.attrs['sim']
            action, qpos = root['/action'][()], root['/observations/qpos'][()]
            assert root['/observations/qvel'][()].shape == qpos.shape
            images = root['/observations/images/head_cam_h']
            assert images.chunks == (1, *images.shape[1:])
            assert len(images) == len(action) == len(qpos) == mine.sum()
            np.testing.assert_array_equal(action, table['action'][mine])
            np.testing.assert_array_equal(qpos, table['observation.state'][mine])
            assert numbers(images) == expected(bag)


def test_diffusion_policy_finds_all_that_its_replay_buffer_reads(bags, dataset, tmp_path):
    zarr = pytest.importorskip('zarr', reason='the example writes a zarr store')
    store = tmp_path / 'replay_buffer.zarr'
    run_example('diffusion_policy_zarr.py', store, *bags)
    assert (store / 'data' / '.zgroup').is_file(), 'format 2'
    # As replay_buffer.py of Diffusion Policy reads it.
    root = zarr.open(str(store), mode='r')
    ends = root['meta']['episode_ends'][:]
    table = rows(dataset)
    lengths = np.bincount(table['episode_index'])
    assert (ends.dtype, ends.tolist()) == (np.int64, np.cumsum(lengths).tolist())
    for name, key in (('action', 'action'), ('state', 'observation.state')):
        np.testing.assert_array_equal(root['data'][name][:], table[key])
    assert {array.shape[0] for _, array in root['data'].arrays()} == {ends[-1]}
    assert numbers(root['data']['head_cam_h'][:]) == [n for bag in bags for n in expected(bag)]
    assert root['data']['depth_h'].dtype == np.uint16


@pytest.mark.parametrize('name', ['act_hdf5.py', 'diffusion_policy_zarr.py'])
def test_examples_are_short(name):
    code = (ROOT / 'examples' / name).read_text().partition('\n\n')[2]  # without the licence
    assert len(code.splitlines()) < 60


def test_the_documentation_says_what_happens(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_sample(tmp_path / 'sample.bag', seconds=1.5)
    failed, tried = doctest.testfile(str(ROOT / 'docs' / 'api.md'), module_relative=False)
    assert (failed, tried > 5) == (0, True)
