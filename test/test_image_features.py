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

"""Pictures in the table in place of videos: without loss, in both versions of the format."""

from __future__ import annotations

from pathlib import Path

from conversions import report, run
import cv2
from dataset_reading import info
from kuavo_bag_converter.check.dataset import check_dataset
from kuavo_bag_converter.dataset import images, layout, parts, sources
from kuavo_bag_converter.dataset.tables import read_rows
from kuavo_bag_converter.replay.verify import verify
from lerobot_readers import BACKENDS, PYTHONS, read, version_of
import numpy as np
from plain_robot import every, joint_state, pixels, ramps, Robot
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

CAMERA, DEPTH, STATE = '/camera', '/depth', '/joint_states'
KEY, DEPTH_KEY = 'observation.images.eye', 'observation.images.depth'
COUNT = 7


def shown(number, size=(47, 61)):
    """Return a noisy picture of an odd size, which no coding with loss would keep."""
    generator = np.random.default_rng(number)
    return generator.integers(0, 256, (*size, 3), np.uint8)


def depth(number):
    return (500 + 30 * number + np.arange(47 * 61).reshape(47, 61) // 4).astype(np.uint16)


def bag(path, first=0, count=COUNT):
    times = every(10, count / 10)
    robot = Robot().publish(CAMERA, times, pixels([shown(first + n) for n in range(count)]))
    robot.publish(DEPTH, times, pixels([depth(first + n) for n in range(count)]))
    return robot.publish(STATE, every(50, count / 10), joint_state(ramps(2))).write(path)


def profile(tmp_path, **camera):
    document = {
        'robot_type': 'eye', 'fps': 10, 'task': 'look',
        'clock': {'from': {'topic': CAMERA}, 'fps': 10, 'end_trim': 'none'},
        'features': {
            KEY: {'camera': {'from': {'topic': CAMERA}, 'store': 'image', **camera}},
            'observation.state': {
                'parts': [{'from': {'topic': STATE, 'field': 'position'}, 'names': ['a', 'b']}]
            },
            DEPTH_KEY: {
                'camera': {
                    'from': {'topic': DEPTH}, 'store': 'image', 'depth': 'range8',
                    'depth_range': [400, 1600],
                }
            },
        },
    }  # fmt: skip
    path = tmp_path / 'robot.yaml'
    path.write_text(yaml.safe_dump(document))
    return str(path)


def stored(root, key):
    """Return the pictures of a camera in the order of the rows, RGB."""
    table = pq.ParquetDataset(sorted(Path(root).glob('data/*/*.parquet'))).read([key])
    cells = [row['bytes'] for row in table[key].to_pylist()]
    assert all(cell.startswith(b'\x89PNG') for cell in cells)
    return [cv2.imdecode(np.frombuffer(cell, np.uint8), 1)[..., ::-1] for cell in cells]


@pytest.mark.parametrize('version', ['v3.0', 'v2.1'])
def test_pictures_are_in_the_table_without_loss(tmp_path, version):
    bags = [bag(tmp_path / 'a'), bag(tmp_path / 'b', 50, 3)]
    values = {'profile': profile(tmp_path), 'lerobot_version': version}
    assert run(bags[:1], tmp_path / 'out', **values).exit_code == 0
    assert run(bags[1:], tmp_path / 'out', append=True, **values).exit_code == 0
    numbers = [*range(COUNT), *range(50, 53)]
    root = tmp_path / 'out'
    for number, picture in zip(numbers, stored(root, KEY), strict=True):
        assert (picture == shown(number)).all()
    for number, picture in zip(numbers, stored(root, DEPTH_KEY), strict=True):
        levels = np.rint((depth(number).clip(400, 1600) - 400.0) / 1200 * 255)
        assert (picture == levels[..., None]).all()
    described = info(root)
    assert described['features'][KEY] == {
        'dtype': 'image', 'shape': [47, 61, 3], 'names': ['height', 'width', 'channels'],
    }  # fmt: skip
    assert described['video_path'] is None
    assert not list(root.glob('videos/*'))
    assert verify(root, [str(path) for path in bags]).findings == ()


def test_episodes_with_pictures_are_put_together_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(images, '_GROUP_BYTES', 20_000)
    monkeypatch.setattr(parts, '_PIECE_BYTES', 40_000)
    bags = [bag(tmp_path / name, first) for name, first in (('a', 0), ('b', 20), ('c', 40))]
    monkeypatch.setattr(layout, '_BYTES_PER_MB', 1000)  # a file of rows takes 100 KB
    reads = []
    monkeypatch.setattr(
        sources, 'read_rows', lambda path, *rest: [reads.append(path), *read_rows(path, *rest)][1:]
    )
    assert run(bags, tmp_path / 'out', profile=profile(tmp_path)).exit_code == 0
    files = sorted((tmp_path / 'out').glob('data/*/*.parquet'))
    assert len(files) == 3
    assert len(reads) == len({*reads}) == 6, 'the pictures of an episode are read once'
    for file in files:
        table = pq.ParquetFile(file)
        groups = [table.metadata.row_group(i).num_rows for i in range(table.num_row_groups)]
        assert len(groups) > 1
        assert sum(groups) == COUNT
        assert max(groups) < 5
    expected = [shown(first + n) for first in (0, 20, 40) for n in range(COUNT)]
    for picture, one in zip(stored(tmp_path / 'out', KEY), expected, strict=True):
        assert (picture == one).all()
    assert verify(tmp_path / 'out', [str(path) for path in bags]).findings == ()


def test_a_damaged_a_missing_and_a_wrong_picture_are_found(tmp_path):
    made = run(bag(tmp_path / 'bag'), tmp_path / 'out', profile=profile(tmp_path))
    assert made.exit_code == 0
    (file,) = (tmp_path / 'out').glob('data/*/*.parquet')
    table = pq.read_table(file)
    cells = table[KEY].to_pylist()

    def found(changed):
        pictures = pa.array(changed, table.schema.field(KEY).type)
        number = table.schema.get_field_index(KEY)
        pq.write_table(table.set_column(number, table.schema.field(KEY), pictures), file)
        return [(f.rule, f.frame) for f in verify(tmp_path / 'out', ()).findings]

    cut = {'bytes': cells[3]['bytes'][:99], 'path': None}
    assert ('image.picture', 3) in found([*cells[:3], cut, *cells[4:]])
    empty = {'bytes': None, 'path': None}
    assert ('image.picture', 6) in found([*cells[:6], empty])
    small = cv2.imencode('.png', shown(0)[:40])[1].tobytes()
    assert ('image.picture', 0) in found([{'bytes': small, 'path': None}, *cells[1:]])
    dark = cv2.imencode('.png', shown(0) // 2)[1].tobytes()
    assert 'stats.episode' in [
        rule for rule, _ in found([{'bytes': dark, 'path': None}, *cells[1:]])
    ]
    swapped = [*cells[:2], cells[3], cells[2], *cells[4:]]
    assert found(swapped) == [('pictures.neighbour', 2)]
    assert check_dataset(tmp_path / 'out') == []


def test_videos_and_pictures_go_side_by_side_and_sizes_must_agree(tmp_path):
    bags = [bag(tmp_path / 'a'), bag(tmp_path / 'c', 9)]
    times = every(10, 0.3)
    other = Robot().publish(CAMERA, times, pixels([shown(n, (48, 64)) for n in range(3)]))
    other.publish(DEPTH, times, pixels([depth(n) for n in range(3)]))
    other.publish(STATE, every(50, 0.3), joint_state(ramps(2)))
    bags.append(other.write(tmp_path / 'b'))
    path = Path(profile(tmp_path))
    document = yaml.safe_load(path.read_text())
    document['features']['observation.images.film'] = {
        'camera': {'from': {'topic': CAMERA}, 'size': {'width': 64, 'height': 48}}
    }
    path.write_text(yaml.safe_dump(document))
    done = run(bags, tmp_path / 'out', profile=str(path), video='encode')
    assert [outcome.status for outcome in done.outcomes] == ['converted', 'converted', 'failed']
    assert 'pictures of 64x48, those of the run are 61x47' in done.outcomes[2].reason
    assert report(tmp_path / 'out')['bags'][2]['status'] == 'failed'
    assert info(tmp_path / 'out')['features']['observation.images.film']['dtype'] == 'video'
    assert verify(tmp_path / 'out', [str(path) for path in bags[:2]]).findings == ()


@pytest.mark.parametrize('python', PYTHONS)
def test_lerobot_reads_the_pictures(python, tmp_path):
    if version_of(python) < (0, 4):
        pytest.skip('LeRobot before 0.4 reads v2.1 only')
    assert run(bag(tmp_path / 'bag'), tmp_path / 'out', profile=profile(tmp_path)).exit_code == 0
    found = read(python, tmp_path / 'frames.npz', tmp_path / 'out')
    pictures = found[f'out/{BACKENDS[0]}/{KEY}'].transpose(0, 2, 3, 1)
    assert np.abs(pictures - [shown(n) / 255 for n in range(COUNT)]).max() < 1e-6
