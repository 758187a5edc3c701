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

"""Datasets on disk, loaded by real LeRobot readers."""

from dataset_files import (
    ACTION,
    COPIED,
    DEPTH,
    depth_map,
    FEATURES,
    FRONT,
    make_dataset,
    make_shards,
    number_of,
    rows,
    STATE,
    WRIST,
)
from kuavo_bag_converter.dataset.features import VideoOptions
from lerobot_readers import BACKENDS, PYTHONS, read, version_of
import numpy as np
import pytest

LENGTHS = [[5], [3, 4], [1], [6]]
FRAMES = 19


def datasets(folder, lerobot):
    """Write what this version can read; return the roots by name."""
    coded = make_shards(folder / 'coded', LENGTHS)
    copied = make_shards(folder / 'copied', LENGTHS, options=COPIED)
    if lerobot < (0, 4):
        return [
            make_dataset(folder / 'v21', coded, version='v2.1'),
            make_dataset(folder / 'v21-copied', copied, version='v2.1'),
        ]
    av1 = VideoOptions('libsvtav1', crf=30, preset='12', gop=2)
    old = make_dataset(folder / 'old', coded[:2])
    roots = [
        make_dataset(folder / 'joined', coded),
        make_dataset(folder / 'split', coded, video_files_size_in_mb=1e-6),
        make_dataset(folder / 'appended', coded[2:], onto=old),
        make_dataset(folder / 'copied-packets', copied),
        make_dataset(folder / 'av1', make_shards(folder / 'av1-shards', LENGTHS, options=av1)),
    ]
    for name, features in (('cameras', (FRONT,)), ('vectors', (STATE,))):
        shards = make_shards(folder / f'{name}-shards', LENGTHS, features=features)
        roots.append(make_dataset(folder / name, shards))
    if lerobot >= (0, 6):
        features = (STATE, FRONT, DEPTH)
        shards = make_shards(folder / 'depth-shards', LENGTHS, features=features)
        roots.append(make_dataset(folder / 'depth', shards))
    return roots


@pytest.mark.parametrize('python', PYTHONS)
def test_lerobot_reads_every_frame_in_its_place(tmp_path, python):
    roots = datasets(tmp_path, version_of(python))
    found = read(python, tmp_path / 'frames.npz', *roots)
    written = rows(FEATURES, 0, FRAMES)
    assert f'cameras/pyav/{STATE.key}' not in found
    for place in [f'{root.name}/{backend}' for root in roots for backend in BACKENDS]:
        assert found[f'{place}/index'].tolist() == list(range(FRAMES))
        assert set(found[f'{place}/task']) == {'pick'}
        for key in (FRONT.key, WRIST.key):
            if f'{place}/{key}' in found:
                pictures = found[f'{place}/{key}'].transpose(0, 2, 3, 1) * 255
                assert [number_of(image) for image in pictures] == list(range(FRAMES)), place
        if not place.startswith('cameras/'):
            assert (found[f'{place}/{STATE.key}'] == written[STATE.key]).all()
        if f'{place}/{ACTION.key}' in found:
            assert (found[f'{place}/{ACTION.key}'].reshape(-1, 1) == written[ACTION.key]).all()
        if f'{place}/{DEPTH.key}' in found:
            depths = found[f'{place}/{DEPTH.key}'][:, 0]
            expected = np.stack([depth_map(number) for number in range(FRAMES)])
            assert abs(depths - np.maximum(expected, 10)).max() <= 2, place
