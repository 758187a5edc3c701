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

"""Which recordings a path holds."""

from bag_files import (
    BEGIN,
    IMAGE,
    recording,
    Sample,
    SECOND,
    write_mcap,
    write_rosbag1,
    write_rosbag2,
)
from kuavo_bag_converter.bags.discover import find_recordings
from kuavo_bag_converter.bags.open import open_bag
from kuavo_bag_converter.support.errors import UsageError
import pytest

SAMPLES = recording(0.5)


def at(second):
    return [Sample(IMAGE, BEGIN + int((second + n / 10) * SECOND), b'.') for n in range(10)]


def test_a_file_and_a_directory_are_recordings(tmp_path):
    bag = write_rosbag1(tmp_path / 'a.bag', SAMPLES)
    folder = write_rosbag2(tmp_path / 'b', SAMPLES)
    assert find_recordings([folder, str(bag), bag]) == [(folder,), (bag,)]


def test_a_folder_holds_recordings_of_every_kind_by_name_and_number(tmp_path):
    names = ['run_2.bag', 'run_10.bag', 'x.bag.active', 'y.db3', 'z.mcap', 'z.mcap.zstd']
    for name in [*names, 'notes.txt', 'y.db3-wal']:
        (tmp_path / name).write_bytes(b'?')
    directory = write_rosbag2(tmp_path / 'a', SAMPLES)
    (tmp_path / 'empty').mkdir()
    deeper = tmp_path / 'b' / 'c'
    deeper.mkdir(parents=True)
    write_mcap(deeper / 'not_seen.mcap', SAMPLES)
    assert find_recordings([tmp_path]) == [(directory,), *((tmp_path / name,) for name in names)]


def test_a_directory_without_metadata_is_known_by_its_file_names(tmp_path):
    folder = tmp_path / 'run'
    folder.mkdir()
    for n in range(2):
        write_mcap(folder / f'run_{n}.mcap', SAMPLES)
    assert find_recordings([folder]) == [(folder,)]
    assert find_recordings([tmp_path]) == [(folder,)]
    (folder / 'other.mcap').write_bytes(b'?')
    assert len(find_recordings([folder])) == 3


def test_the_files_of_a_split_ros1_recording_are_one(tmp_path):
    paths = [write_rosbag1(tmp_path / f'run_{n}.bag', at(n)) for n in range(11)]
    (recording,) = find_recordings([tmp_path])
    assert recording == tuple(paths)
    with open_bag(recording) as bag:
        assert bag.counts[IMAGE.name] == 110


@pytest.mark.parametrize(
    ('storage', 'compression'), [('MCAP', 'NONE'), ('SQLITE3', 'NONE'), ('SQLITE3', 'FILE')]
)
def test_a_split_rosbag2_recording_is_one_whatever_its_folder_is_called(
    storage, compression, tmp_path
):
    folder = tmp_path / 'renamed'
    folder.mkdir()
    for n in range(3):
        part = write_rosbag2(tmp_path / f'run_{n}', at(n), storage, compression)
        (file,) = (path for path in part.iterdir() if path.name != 'metadata.yaml')
        file.rename(folder / file.name)
    (recording,) = find_recordings([folder])
    with open_bag(recording) as bag:
        assert bag.counts[IMAGE.name] == 30
    for path in recording[::2]:
        assert find_recordings([path]) == [(path,)]
    assert find_recordings([recording[0], recording[2]]) == [recording[:1], recording[2:]]


def test_numbered_rosbag2_files_of_takes_with_a_pause_between_them_are_separate(tmp_path):
    paths = [write_mcap(tmp_path / f'take_{n}.mcap', at(3 * n)) for n in range(3)]
    assert find_recordings([tmp_path]) == [(path,) for path in paths]


def test_files_of_different_kinds_are_no_parts_of_one_recording(tmp_path):
    first = write_mcap(tmp_path / 'run_0.mcap', at(0))
    second = write_rosbag1(tmp_path / 'run_1.bag', at(1))
    assert find_recordings([tmp_path]) == [(first,), (second,)]


def test_numbered_ros1_recordings_with_a_pause_between_them_are_separate(tmp_path):
    paths = [write_rosbag1(tmp_path / f'run_{n}.bag', at(3 * n)) for n in range(3)]
    assert find_recordings([tmp_path]) == [(path,) for path in paths]


def test_numbers_filled_up_with_zeros_are_not_of_a_split_recording(tmp_path):
    paths = [write_rosbag1(tmp_path / f'data_round_{n:07d}.bag', at(n)) for n in range(2)]
    assert find_recordings([tmp_path]) == [(path,) for path in paths]


def test_the_last_file_of_a_split_recording_may_lack_its_index(tmp_path):
    first = write_rosbag1(tmp_path / 'run_0.bag', at(0))
    last = write_rosbag1(tmp_path / 'run_1.bag.active', at(1))
    data = bytearray(last.read_bytes())
    place = data.index(b'index_pos=') + len(b'index_pos=')
    data[slice(place, place + 8)] = bytes(8)
    last.write_bytes(data)
    assert find_recordings([tmp_path]) == [(first, last)]


def test_a_gap_in_the_numbers_separates_recordings(tmp_path):
    paths = [write_rosbag1(tmp_path / f'run_{n}.bag', at(n)) for n in (0, 1, 3, 4)]
    assert find_recordings([tmp_path]) == [tuple(paths[:2]), tuple(paths[2:])]


def test_unreadable_files_are_left_for_the_reader_to_refuse(tmp_path):
    for n in range(2):
        (tmp_path / f'run_{n}.bag').write_bytes(b'?')
    assert len(find_recordings([tmp_path])) == 2


def test_a_folder_without_recordings_is_left_for_the_reader_to_refuse(tmp_path):
    assert find_recordings([tmp_path]) == [(tmp_path,)]


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UsageError, match='nowhere: does not exist'):
        find_recordings([tmp_path / 'nowhere'])
