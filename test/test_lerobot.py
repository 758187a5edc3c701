"""A converted sample, loaded by real LeRobot readers, shows what the plan names."""

from __future__ import annotations

import numpy as np
import pytest
from conversions import report, rows, run, serving
from lerobot_readers import BACKENDS, PYTHONS, read, version_of

from kuavo_bag_converter.sample.barcode import read_frame_number
from kuavo_bag_converter.sample.write import write_sample

SIZE = {'resize__width': 320, 'resize__height': 240}
CAMERAS = {
    'observation.images.head_cam_h': '/cam_h/color/image_raw/compressed',
    'observation.images.wrist_cam_l': '/cam_l/color/image_raw/compressed',
    'observation.images.wrist_cam_r': '/cam_r/color/image_raw/compressed',
    'observation.depth_h': '/cam_h/depth/image_raw/compressedDepth',
    'observation.depth_l': '/cam_l/depth/image_rect_raw/compressedDepth',
    'observation.depth_r': '/cam_r/depth/image_rect_raw/compressedDepth',
}


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp('lerobot')
    bags = [folder / f'{seed}.bag' for seed in range(2)]
    for seed, bag in enumerate(bags):
        write_sample(bag, storage='bag', seconds=2.0, size=(240, 320), seed=seed)
    variants = {
        'default': {},
        'copy': {'video': 'copy'},
        'av1': {'vcodec': 'libsvtav1', 'crf': 30, 'preset': '10'},
        'split': {'align__tolerance_ms': 20, 'use_depth': False},
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
