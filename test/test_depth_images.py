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

"""Depth of 16 bits in the table: coded anew (``image16``), and as it was recorded (``copy``)."""

from __future__ import annotations

import json
from pathlib import Path
import re
import struct
import zlib

from conversions import opinion, report, run
import cv2
from dataset_reading import info
from depth_payloads import png, rvl
import kuavo_bag_converter as kbc
from kuavo_bag_converter.check.dataset import check_dataset
from kuavo_bag_converter.replay.verify import verify
from kuavo_bag_converter.support.errors import UsageError
from lerobot_readers import BACKENDS, PYTHONS, read, version_of
import numpy as np
from plain_robot import every, joint_state, payloads_of, pixels, ramps, Robot
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

TOPIC, STATE = '/depth', '/joint_states'
COPY, CODED, METRIC = (f'observation.depth_{name}' for name in ('copy', 'coded', 'metric'))
SIZE = (47, 61)
COUNT = 6
FORMAT = '16UC1; compressedDepth png'


def depth(number):
    """Return a map in mm, up to 32 m, with places where there is none."""
    stored = (np.arange(47 * 61).reshape(SIZE) * 11 + 300 * number + 1).astype(np.uint16)
    stored[:3] = 0
    return stored


def bag(path, maps, damaged=()):
    """Write a bag of depth maps; the PNGs of the ``damaged`` ones are cut off."""
    payloads = [png(one) for one in maps]
    for number in damaged:
        payloads[number] = payloads[number][:-20]
    times = every(10, len(maps) / 10)
    robot = Robot().publish(TOPIC, times, payloads_of(payloads, FORMAT))
    return robot.publish(STATE, every(50, len(maps) / 10), joint_state(ramps(2))).write(path)


def profile(tmp_path, codings, **keys):
    """Write a profile with a camera of the topic for each coding."""
    cameras = {
        f'observation.depth_{name}': {
            'camera': {'from': {'topic': TOPIC}, 'depth': coding, **keys}
        }
        for name, coding in codings.items()
    }
    path = tmp_path / 'robot.yaml'
    path.write_text(yaml.safe_dump({
        'robot_type': 'eye', 'fps': 10, 'task': 'look',
        'clock': {'from': {'topic': TOPIC}, 'fps': 10, 'end_trim': 'none'},
        'features': {
            **cameras,
            'observation.state': {
                'parts': [{'from': {'topic': STATE, 'field': 'position'}, 'names': ['a', 'b']}]
            },
        },
    }))  # fmt: skip
    return str(path)


BOTH = {'copy': 'copy', 'coded': 'image16'}


def cells(root, key):
    """Return what is stored of a camera in the order of the rows."""
    table = pq.ParquetDataset(sorted(Path(root).glob('data/*/*.parquet'))).read([key])
    return [row['bytes'] for row in table[key].to_pylist()]


def millimetres(cell):
    return cv2.imdecode(np.frombuffer(cell, np.uint8), cv2.IMREAD_UNCHANGED)


def statistics(root, key):
    """Return the statistics of the first episode."""
    path = Path(root) / 'meta' / 'stats.json'
    if path.exists():
        return json.loads(path.read_text())[key]
    line = (Path(root) / 'meta' / 'episodes_stats.jsonl').read_text().splitlines()[0]
    return json.loads(line)['stats'][key]


@pytest.mark.parametrize('version', ['v3.0', 'v2.1'])
def test_depth_is_in_the_table_without_loss(tmp_path, version):
    maps = [depth(number) for number in range(COUNT)]
    bags = [bag(tmp_path / 'a', maps), bag(tmp_path / 'b', maps[::-1])]
    values = {'profile': profile(tmp_path, BOTH), 'lerobot_version': version}
    root = tmp_path / 'out'
    assert run(bags[:1], root, **values).exit_code == 0
    for key in (COPY, CODED):
        found = statistics(root, key)
        assert (found['min'], found['max']) == ([[[0.0]]], [[[float(np.max(maps))]]])
        assert found['mean'][0][0][0] == pytest.approx(np.mean(maps), rel=1e-9)
        assert found['std'][0][0][0] == pytest.approx(np.std(maps), rel=1e-9)
        assert info(root)['features'][key] == {
            'dtype': 'image', 'shape': [*SIZE, 1], 'names': ['height', 'width', 'channels'],
            'info': {'is_depth_map': True, 'depth_unit': 'mm'},
        }  # fmt: skip
    assert run(bags[1:], root, append=True, **values).exit_code == 0
    maps += maps[::-1]
    assert cells(root, COPY) == [png(one)[12:] for one in maps]
    for cell, one in zip(cells(root, CODED), maps, strict=True):
        assert millimetres(cell).dtype == np.uint16
        assert (millimetres(cell) == one).all()
    assert verify(root, [str(path) for path in bags]).findings == ()
    findings, summary = opinion(root, bags)
    assert findings == []
    assert summary.pictures > 0


def test_depth_has_no_key_that_lerobot_takes_for_colours(tmp_path):
    path = bag(tmp_path / 'bag', [depth(0)] * 2)
    file = Path(profile(tmp_path, {'coded': 'image16'}))
    file.write_text(file.read_text().replace(CODED, 'observation.images.depth'))
    with pytest.raises(
        UsageError, match=r'^observation\.images\.depth: LeRobot 0\.3 loads no v2\.1'
    ):
        run(path, tmp_path / 'out', profile=str(file), lerobot_version='v2.1')
    assert not (tmp_path / 'out').exists()
    assert run(path, tmp_path / 'out', profile=str(file)).exit_code == 0


def test_no_depth_is_0_unless_pngs_are_copied(tmp_path):
    one = depth(0)
    one[5] = 65535
    path = bag(tmp_path / 'bag', [one] * 3)
    assert run(path, tmp_path / 'out', profile=profile(tmp_path, BOTH)).exit_code == 0
    assert millimetres(cells(tmp_path / 'out', COPY)[1])[5].min() == 65535
    assert millimetres(cells(tmp_path / 'out', CODED)[1])[5].max() == 0
    assert millimetres(cells(tmp_path / 'out', CODED)[1])[6:].tolist() == one[6:].tolist()
    remarks = [line for line in report(tmp_path / 'out')['bags'][0]['problems'] if '65535' in line]
    assert remarks == [
        f'{TOPIC}: 65535 stands for no depth in its maps and is copied as it is; depth: image16 '
        f'would make it 0 ({COPY})'
    ]


def test_maps_are_scaled_turned_and_brought_to_millimetres(tmp_path):
    maps = [depth(number) // 4 for number in range(3)]
    path = bag(tmp_path / 'bag', maps)
    keys = {'unit': '2mm', 'rotate': 90, 'size': {'width': 32, 'height': 40}}
    made = run(path, tmp_path / 'out', profile=profile(tmp_path, {'coded': 'image16'}, **keys))
    assert made.exit_code == 0
    for cell, one in zip(cells(tmp_path / 'out', CODED), maps, strict=True):
        turned = cv2.rotate(one, cv2.ROTATE_90_CLOCKWISE)
        scaled = cv2.resize(turned, (32, 40), interpolation=cv2.INTER_NEAREST)
        assert (millimetres(cell) == 2 * scaled).all()
    assert verify(tmp_path / 'out', [str(path)]).findings == ()


@pytest.mark.parametrize(
    ('keys', 'words'),
    [
        ({'crop': {'width': 20, 'height': 20}}, 'crop changes them; set depth: image16'),
        ({'rotate': 180}, 'rotate changes them; set depth: image16, or leave it out'),
        ({'unit': '0.25mm'}, 'LeRobot takes for mm; set depth: image16, which brings the unit'),
    ],
)
def test_what_changes_maps_cannot_be_had_with_copies(tmp_path, keys, words):
    path = bag(tmp_path / 'bag', [depth(0)] * 2)
    with pytest.raises(UsageError, match=f'^{COPY}: depth: copy .*{words}'):
        run(path, tmp_path / 'out', profile=profile(tmp_path, {'copy': 'copy'}, **keys))
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('make', 'words'),
    [
        (payloads_of([png(depth(0)[:40])] * 2, FORMAT), 'needs pictures of 61x47, found 61x40'),
        (pixels([depth(0)] * 2), "found '?16UC1'? pictures; set depth to image16"),
        (payloads_of([rvl(depth(0))] * 2, '16UC1; compressedDepth rvl'), 'found rvl pictures'),
        (payloads_of([png(depth(0))] * 2, '32FC1; compressedDepth png'), r'inverse depth \(32FC1'),
        (
            payloads_of([png((depth(0) >> 8).astype(np.uint8))] * 2, '8UC1; compressedDepth png'),
            'a PNG with 1 channels of 8 bits',
        ),
    ],
)
def test_other_pictures_than_pngs_of_16_bits_are_not_copied(tmp_path, make, words):
    times = every(10, 0.2)
    robot = Robot().publish(TOPIC, times, make)
    path = robot.publish(STATE, every(50, 0.2), joint_state(ramps(2))).write(tmp_path / 'bag')
    size = {'size': {'width': 61, 'height': 47}}
    made = run(path, tmp_path / 'out', profile=profile(tmp_path, {'copy': 'copy'}, **size))
    assert made.exit_code == 1
    (outcome,) = made.outcomes
    assert outcome.status == 'failed'
    assert re.search(words, outcome.reason)
    assert '\n' not in outcome.reason
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('on_bad_image', ['fail', 'repeat', 'drop', 'split'])
def test_a_cut_png_is_found_without_decoding_it(tmp_path, on_bad_image):
    maps = [depth(number) for number in range(COUNT)]
    path = bag(tmp_path / 'bag', maps, damaged=[2])
    values = {'profile': profile(tmp_path, {'copy': 'copy'}), 'on_bad_image': on_bad_image}
    made = run(path, tmp_path / 'out', **values)
    if on_bad_image == 'fail':
        assert 'the PNG is cut off' in made.outcomes[0].reason
        return
    assert made.exit_code == 0
    kept = {'repeat': [0, 1, 1, 3, 4, 5], 'drop': [3, 4, 5], 'split': [0, 1, 3, 4, 5]}
    stored = [png(one)[12:] for one in maps]
    assert [stored.index(cell) for cell in cells(tmp_path / 'out', COPY)] == kept[on_bad_image]
    assert verify(tmp_path / 'out', [str(path)]).findings == ()


def test_a_damaged_a_shallow_and_another_map_are_found(tmp_path):
    path = bag(tmp_path / 'bag', [depth(number) for number in range(COUNT)])
    assert run(path, tmp_path / 'out', profile=profile(tmp_path, BOTH)).exit_code == 0
    (file,) = (tmp_path / 'out').glob('data/*/*.parquet')
    table = pq.read_table(file)

    def found(key, changed):
        column = pa.array([{'bytes': cell, 'path': None} for cell in changed],
                          table.schema.field(key).type)  # fmt: skip
        number = table.schema.get_field_index(key)
        pq.write_table(table.set_column(number, table.schema.field(key), column), file)
        return [(f.rule, f.frame) for f in verify(tmp_path / 'out', [str(path)]).findings]

    for key in (COPY, CODED):
        known = cells(tmp_path / 'out', key)
        shallow = png((depth(3) >> 8).astype(np.uint8), b'')
        assert ('image.picture', 3) in found(key, [*known[:3], shallow, *known[4:]])
        cut = known[1][:-20]
        assert ('image.picture', 1) in found(key, [known[0], cut, *known[2:]])
        swapped = [*known[:4], known[5], known[4]]
        assert found(key, swapped) == [('pictures.neighbour', 4)]
        assert found(key, known) == []
    described = info(tmp_path / 'out')
    described['features'][COPY]['info']['depth_unit'] = 'm'
    (tmp_path / 'out' / 'meta' / 'info.json').write_text(json.dumps(described))
    assert [finding.rule for finding in check_dataset(tmp_path / 'out')] == ['features.entry']


def test_a_png_that_only_decoding_finds_damaged_is_named(tmp_path):
    damaged = bytearray(png(depth(1)))
    place = damaged.index(b'IDAT')
    (length,) = struct.unpack_from('>I', damaged, place - 4)
    damaged[place + 6] ^= 0xFF
    checksum = zlib.crc32(damaged[slice(place, place + 4 + length)])
    struct.pack_into('>I', damaged, place + 4 + length, checksum)
    make = payloads_of([png(depth(0)), bytes(damaged), png(depth(2))], FORMAT)
    robot = Robot().publish(TOPIC, every(10, 0.3), make)
    path = robot.publish(STATE, every(50, 0.3), joint_state(ramps(2))).write(tmp_path / 'bag')
    made = run(path, tmp_path / 'out', profile=profile(tmp_path, {'copy': 'copy'}))
    assert made.exit_code == 1
    assert made.outcomes[0].reason.startswith(f'{TOPIC}: ')
    assert 'depth: image16' in made.outcomes[0].reason
    assert not (tmp_path / 'out').exists()


def test_inspect_says_what_metric_depth_loses(tmp_path):
    path = bag(tmp_path / 'bag', [depth(0) // 4 + 10] * 3)
    said = {}
    for coding in ('metric12', 'copy'):
        cameras = {'a': coding, 'b': coding}
        said[coding] = kbc.inspect(path, profile=profile(tmp_path, cameras, fit='pad')).asked
    assert said['metric12'].remarks == (
        'metric12 keeps 10 to 10000 mm to within 2 mm, and no depth reads as 10 mm '
        '(observation.depth_a, observation.depth_b)',
    )
    assert 'depth: copy stores pictures as they are' in said['copy'].misses[0].text


@pytest.mark.parametrize('python', PYTHONS)
def test_lerobot_reads_millimetres(python, tmp_path):
    if version_of(python) < (0, 4):
        pytest.skip('LeRobot before 0.4 reads v2.1 only')
    maps = [depth(number) for number in range(COUNT)]
    path = bag(tmp_path / 'bag', maps)
    assert run(path, tmp_path / 'out', profile=profile(tmp_path, BOTH)).exit_code == 0
    found = read(python, tmp_path / 'frames.npz', tmp_path / 'out')
    kind = np.float32 if version_of(python) >= (0, 6) else np.int16  # negative from 32.768 m on
    for key in (COPY, CODED):
        stored = found[f'out/{BACKENDS[0]}/{key}'][:, 0]
        assert stored.dtype == kind
        assert (stored == np.array(maps).astype(kind)).all()
