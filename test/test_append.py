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

"""What is in a dataset stays when episodes are added, and none is added twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
import shutil
import socket
import stat
import subprocess
import tempfile

from arm_runs import (
    convert_arm,
    PROFILE,
    states,
    statuses,
    write_bag,
    write_directory,
    write_profile,
)
from conversions import report
from dataset_edits import edit_info, edit_json
from dataset_reading import info, tree
from kuavo_bag_converter.bags import fingerprint as identity
from kuavo_bag_converter.bags.fingerprint import find_duplicates, fingerprint, same_files
from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.jobs.convert import convert_bags
from kuavo_bag_converter.jobs.report import Observer
from kuavo_bag_converter.replay.verify import verify
from kuavo_bag_converter.settings import settings_from
from kuavo_bag_converter.support.errors import ConverterError, DatasetError, UsageError
from observers import Notes
from ordinary_user import as_nobody
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from record_files import as_former_record, edit_record


@pytest.fixture
def bags(tmp_path):
    return [write_bag(tmp_path / 'bags' / f'{number}.bag', number) for number in range(3)]


def retry(root, *bags, observer=None):
    values = {'output': str(root), 'retry_failed': True, 'bags': [str(bag) for bag in bags]}
    return convert_bags(settings_from(values, 'test'), observer=observer)


def frames_of(*numbers, frames=4):
    return [(number, frame) for number in numbers for frame in range(frames)]


@pytest.mark.parametrize('version', ['v3.0', 'v2.1'])
def test_everything_that_is_not_the_datasets_is_carried_over(bags, tmp_path, profile, version):
    root = tmp_path / 'out'
    convert_arm(bags[:1], root, profile, lerobot_version=version)
    (root / 'README.md').write_bytes(b'---\nlicense: mit\n---\n\xff card')
    (root / 'meta/modality.json').write_text('{"state": {}}')
    (root / 'notes/deep/er').mkdir(parents=True)
    (root / 'notes/deep/run.sh').write_text('#!/bin/sh\n')
    (root / 'notes/deep/run.sh').chmod(0o750)
    os.utime(root / 'notes/deep/run.sh', (1_000_000_000, 1_000_000_000))
    (root / 'notes/card').symlink_to('../README.md')
    (root / 'notes/nowhere').symlink_to('/nowhere/at/all')
    (root / 'notes').chmod(0o2755)
    before = tree(root)
    notes = Notes()
    convert_arm(bags, root, profile, lerobot_version=version, append=True, observer=notes)
    after = tree(root)
    kept = ('README.md', 'meta/modality.json', 'notes/deep/run.sh', 'notes/card')
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    script = (root / 'notes/deep/run.sh').stat()
    assert (stat.S_IMODE(script.st_mode), script.st_mtime) == (0o750, 1_000_000_000)
    assert os.readlink(root / 'notes/card') == '../README.md'
    assert os.readlink(root / 'notes/nowhere') == '/nowhere/at/all'
    assert (root / 'notes/deep/er').is_dir()
    assert stat.S_IMODE((root / 'notes').stat().st_mode) == 0o2755
    assert states(root) == frames_of(0, 1, 2)
    (line,) = [line for line in notes.lines if 'carried over' in line]
    assert 'README.md, meta/modality.json, notes/card' in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ['arm.yaml', 'bags', 'out']


def test_what_others_have_put_into_the_metadata_stays(bags, tmp_path, profile):
    root = tmp_path / 'out'
    convert_arm(bags[:1], root, profile)
    edit_info(root, license='mit', splits={'train': '0:1', 'test': '0:0'})
    edit_json(
        root / 'meta/info.json', lambda i: i['features']['observation.state'].update(unit='rad')
    )
    edit_json(root / 'meta/stats.json', lambda s: s.update(note='mine', other={'mean': [1]}))
    edit_json(root / 'meta/stats.json', lambda s: s['index'].update(q05=[7]))
    tasks = pq.read_table(root / 'meta/tasks.parquet')
    tasks = tasks.append_column('chinese', pa.array(['数'])).replace_schema_metadata(
        tasks.schema.metadata
    )
    pq.write_table(tasks, root / 'meta/tasks.parquet')
    edit_json(root / 'conversion/report.json', lambda r: r.update(seen_by='me'))
    as_former_record(root, lambda r: r['bags'][0].update(rating=5))
    with (root / 'conversion/profile.yaml').open('a') as file:
        file.write('# mine\n')
    notes = Notes()
    outcome = convert_arm(bags, root, profile, append=True, observer=notes)
    assert statuses(outcome) == ['present', 'converted', 'converted']
    assert [line for line in notes.lines if line.startswith('meta/info.json: splits')]
    assert info(root)['license'] == 'mit'
    assert info(root)['splits'] == {'train': '0:1', 'test': '0:0'}
    assert info(root)['features']['observation.state']['unit'] == 'rad'
    assert info(root)['total_episodes'] == 3
    statistics = json.loads((root / 'meta/stats.json').read_text())
    assert (statistics['note'], statistics['other']) == ('mine', {'mean': [1]})
    assert statistics['index']['q05'] == [7]
    assert statistics['index']['count'] == [12]
    assert pq.read_table(root / 'meta/tasks.parquet')['chinese'].to_pylist() == ['数']
    assert report(root)['seen_by'] == 'me'
    assert report(root)['bags'][0]['rating'] == 5
    assert (root / 'conversion/profile.yaml').read_text().endswith('# mine\n')


def test_who_is_in_the_folder_learns_that_it_is_another_one(bags, tmp_path, profile, monkeypatch):
    root = tmp_path / 'out'
    notes = Notes()
    convert_arm(bags[:1], root, profile, observer=notes)
    monkeypatch.chdir(root / 'meta')
    convert_arm(bags[1], '..', profile, append=True, observer=notes)
    assert [line for line in notes.lines if 'must change again' in line] == notes.lines[-1:]
    monkeypatch.chdir(root)
    assert states('.') == frames_of(0, 1)


def test_columns_of_others_in_the_tasks_have_no_value_for_new_tasks(bags, tmp_path, profile):
    root = tmp_path / 'out'
    convert_arm(bags[:1], root, profile)
    tasks = pq.read_table(root / 'meta/tasks.parquet')
    extended = tasks.append_column('chinese', pa.array(['数']))
    pq.write_table(
        extended.replace_schema_metadata(tasks.schema.metadata), root / 'meta/tasks.parquet'
    )
    # The profile is part of what must be equal, but for this test.
    path = root / 'conversion/profile.yaml'
    path.write_text(path.read_text().replace('task: Count', 'task: Sing'))
    singing = write_profile(tmp_path, PROFILE.replace('task: Count', 'task: Sing'))
    convert_arm(bags[1:2], root, singing, append=True)
    table = pq.read_table(root / 'meta/tasks.parquet').to_pydict()
    assert table == {'task_index': [0, 1], 'task': ['Count', 'Sing'], 'chinese': ['数', None]}


def test_lines_of_a_v21_dataset_stay_as_they_are(bags, tmp_path, profile):
    root = tmp_path / 'out'
    convert_arm(bags[:1], root, profile, lerobot_version='v2.1')
    lines = {}
    for name in ('tasks', 'episodes', 'episodes_stats'):
        path = root / f'meta/{name}.jsonl'
        document = json.loads(path.read_text()) | {'note': 'ü'}
        lines[path] = json.dumps(document, separators=(',', ':'))
        path.write_text(lines[path])  # without a line break at the end
    convert_arm(bags, root, profile, lerobot_version='v2.1', append=True)
    for path, line in lines.items():
        assert path.read_text().splitlines()[0] == line
    assert len((root / 'meta/episodes.jsonl').read_text().splitlines()) == 3
    assert verify(root).findings == ()


@pytest.mark.parametrize(
    'place',
    ['data/chunk-000/file-001.parquet', 'meta/episodes/chunk-000/mine.parquet',
     'conversion/alignment/chunk-000/000001.parquet', 'videos/a/b/c.mp4'],
)  # fmt: skip
def test_a_file_of_others_where_episodes_belong_is_refused_by_name(bags, tmp_path, profile, place):
    root = tmp_path / 'out'
    convert_arm(bags[:1], root, profile)
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'mine')
    before = tree(root)
    with pytest.raises(ConverterError, match=path.name):
        convert_arm(bags, root, profile, append=True)
    assert tree(root) == before
    assert not (tmp_path / 'out.unfinished').exists()


@pytest.mark.parametrize('place', ['data', 'meta/info.json', 'conversion/alignment'])
def test_a_link_where_episodes_belong_is_refused_by_name(bags, tmp_path, profile, place):
    root = tmp_path / 'out'
    convert_arm(bags[:1], root, profile)
    (root / place).rename(tmp_path / 'elsewhere')
    (root / place).symlink_to(tmp_path / 'elsewhere')
    before = tree(tmp_path / 'elsewhere') if (tmp_path / 'elsewhere').is_dir() else None
    with pytest.raises(DatasetError, match=f'{place}: is (a link|no regular file)'):
        convert_arm(bags, root, profile, append=True)
    if before is not None:
        assert tree(tmp_path / 'elsewhere') == before


def test_a_write_protected_dataset_is_refused_before_a_bag_is_converted(bags, tmp_path, profile):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        given = [shutil.copy(path, folder) for path in (*bags[:2], profile)]
        root = Path(folder, 'out')

        def attempt():
            convert_arm(given[0], root, given[2])
            root.chmod(0o555)
            try:
                convert_arm(given[:2], root, given[2], append=True)
            except DatasetError as error:
                return str(error)
            finally:
                root.chmod(0o755)

        assert f'{root}: is write-protected' in as_nobody(attempt)
        assert states(root) == frames_of(0)


def test_a_disk_within_a_dataset_is_refused_by_name(bags, tmp_path, profile):
    root = tmp_path / 'out'
    convert_arm(bags[:1], root, profile)
    (root / 'notes').mkdir()
    mount = ['mount', '-t', 'tmpfs', 'tmpfs', str(root / 'notes')]
    if os.getuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('nothing can be mounted here')
    try:
        (root / 'notes/mine.txt').write_text('mine')
        with pytest.raises(DatasetError, match='notes: is on another disk'):
            convert_arm(bags, root, profile, append=True)
        assert (root / 'notes/mine.txt').read_text() == 'mine'
    finally:
        subprocess.run(['umount', str(root / 'notes')], check=True)


def test_a_socket_in_a_dataset_comes_along(bags, tmp_path, profile):
    root = tmp_path / 'out'
    convert_arm(bags[:1], root, profile)
    os.mkfifo(root / 'pipe')
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / 'socket'))
        convert_arm(bags, root, profile, append=True)
    assert stat.S_ISFIFO(os.lstat(root / 'pipe').st_mode)
    assert stat.S_ISSOCK(os.lstat(root / 'socket').st_mode)
    assert states(root) == frames_of(0, 1, 2)


def test_where_there_are_no_hard_links_files_are_copied(bags, tmp_path, profile, monkeypatch):
    root = tmp_path / 'out'
    convert_arm(bags[:1], root, profile)
    (root / 'README.md').write_text('card')
    os.utime(root / 'README.md', (1_000_000_000, 1_000_000_000))
    (root / 'card').symlink_to('README.md')

    def link(*_, **__):
        raise OSError(1, 'Operation not permitted')

    monkeypatch.setattr(os, 'link', link)
    convert_arm(bags, root, profile, append=True)
    assert (root / 'README.md').read_text() == 'card'
    assert (root / 'README.md').stat().st_mtime == 1_000_000_000
    assert os.readlink(root / 'card') == 'README.md'
    assert states(root) == frames_of(0, 1, 2)


def test_the_users_umask_holds(bags, tmp_path, profile):
    before = os.umask(0o027)
    try:
        convert_arm(bags, tmp_path / 'out', profile)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / 'out').rglob('*.*')}
    assert modes == {0o640}
    assert verify(tmp_path / 'out').findings == ()


def touched(bag):
    os.utime(bag, (1_000_000_000, 1_000_000_000))
    return bag


def copied(bag):
    return shutil.copy(bag, bag.parent.parent / 'another name.bag')


def moved(bag):
    target = bag.parent.parent / 'elsewhere' / bag.name
    target.parent.mkdir()
    return bag.rename(target)


def linked(bag):
    target = bag.parent.parent / 'link.bag'
    target.symlink_to(bag)
    return target


@pytest.mark.parametrize('change', [touched, copied, moved, linked])
def test_a_recording_is_known_by_its_content(bags, tmp_path, profile, change):
    root = tmp_path / 'out'
    convert_arm(bags, root, profile)
    before = tree(root)
    outcome = convert_arm([change(bags[1])], root, profile, append=True)
    assert statuses(outcome) == ['present']
    assert outcome.exit_code == 0
    assert tree(root) == before


class Interrupt(Observer):
    """Stops a run after a bag."""

    def bag_finished(self, number, outcome, plan):
        raise KeyboardInterrupt


@pytest.mark.parametrize('change', [touched, copied, moved, linked])
def test_an_unfinished_run_goes_on_with_a_recording_known_by_its_content(
    bags, tmp_path, profile, change
):
    with pytest.raises(KeyboardInterrupt):
        convert_arm(bags[:1], tmp_path / 'out', profile, observer=Interrupt())
    outcome = convert_arm([change(bags[0]), bags[1]], tmp_path / 'out', profile)
    assert statuses(outcome) == ['kept', 'converted']
    assert states(tmp_path / 'out') == frames_of(0, 1)


def test_what_a_first_run_has_finished_serves_when_episodes_are_added(bags, tmp_path, profile):
    with pytest.raises(KeyboardInterrupt):
        convert_arm(bags[:1], tmp_path / 'out', profile, observer=Interrupt())
    convert_arm(bags[2], tmp_path / 'other', profile)
    (tmp_path / 'other').rename(tmp_path / 'out')
    outcome = convert_arm(bags[:2], tmp_path / 'out', profile, append=True)
    assert statuses(outcome) == ['kept', 'converted']
    assert states(tmp_path / 'out') == frames_of(2, 0, 1)
    assert not (tmp_path / 'out.unfinished').exists()


def test_a_note_in_a_rosbag2_directory_does_not_make_another_recording(tmp_path, profile):
    bag = write_directory(tmp_path / 'run', 1)
    convert_arm(bag, tmp_path / 'out', profile)
    (bag / 'note.txt').write_text('good')
    (bag / 'metadata.yaml').write_text((bag / 'metadata.yaml').read_text() + '\n')
    (file,) = bag.glob('*.mcap')
    for again in (bag, file):
        assert statuses(convert_arm(again, tmp_path / 'out', profile, append=True)) == ['present']


def test_a_recording_that_is_given_twice_is_converted_once(bags, tmp_path, profile, monkeypatch):
    monkeypatch.chdir(bags[0].parent)
    (tmp_path / 'links').mkdir()
    (tmp_path / 'links/b.bag').symlink_to(bags[0])
    os.link(bags[0], tmp_path / 'hard.bag')
    shutil.copy(bags[0], tmp_path / 'copy.bag')
    given = [
        '0.bag',
        '0.bag',
        bags[0],
        tmp_path / 'links',
        tmp_path / 'hard.bag',
        tmp_path / 'copy.bag',
    ]
    notes = Notes()
    outcome = convert_arm([*given, bags[1]], tmp_path / 'out', profile, observer=notes)
    assert statuses(outcome) == ['converted', 'converted']
    assert states(tmp_path / 'out') == frames_of(0, 1)
    assert len(notes.lines) == 5
    assert all('0.bag' in line and 'once' in line for line in notes.lines)


def test_a_part_of_a_recording_is_not_added_to_the_whole_one(tmp_path, profile):
    parts = [write_bag(tmp_path / f'rec_{n}.bag', 5, 4, first=4 * n) for n in range(2)]
    copy = shutil.copy(parts[0], tmp_path / 'copy.bag')
    notes = Notes()
    outcome = convert_arm([*parts, copy], tmp_path / 'out', profile, observer=notes)
    assert statuses(outcome) == ['converted']
    assert states(tmp_path / 'out') == frames_of(5, frames=8)
    assert [line for line in notes.lines if 'copy.bag: holds what' in line]
    assert statuses(convert_arm(copy, tmp_path / 'out', profile, append=True)) == ['present']


def test_a_recording_is_not_added_to_a_part_of_it(tmp_path, profile):
    parts = [write_bag(tmp_path / f'rec_{n}.bag', 5, 4, first=4 * n) for n in range(2)]
    convert_arm(parts[0], tmp_path / 'out', profile)
    outcome = convert_arm(parts, tmp_path / 'out', profile, append=True)
    assert statuses(outcome) == ['failed']
    assert 'rec_0.bag: is in the dataset already' in outcome.outcomes[0].reason
    assert statuses(convert_arm(parts[1], tmp_path / 'out', profile, append=True)) == ['converted']
    assert states(tmp_path / 'out') == frames_of(5, frames=8)


def test_files_without_messages_are_no_recordings_own(tmp_path, profile):
    empty = write_bag(tmp_path / 'one/rec_1.bag', 0, 0)
    one = [write_bag(tmp_path / 'one/rec_0.bag', 1), empty]
    other = [write_bag(tmp_path / 'two/rec_0.bag', 2), tmp_path / 'two/rec_1.bag']
    shutil.copy(empty, other[1])
    convert_arm(one, tmp_path / 'out', profile)
    convert_arm(other, tmp_path / 'out', profile, append=True)
    assert states(tmp_path / 'out') == frames_of(1, 2)


def padded(bag, text):
    """Make a bag large by a record that no sample of its digest meets, which holds a text."""
    data = bag.read_bytes()
    with bag.open('r+b') as file:
        file.seek(0, os.SEEK_END)
        file.write(b'\0' * ((8 << 20) - len(data)))
        file.seek((3 << 20) + 70_000)
        file.write(text)
    return bag


def test_equal_samples_are_not_taken_for_equal_recordings(tmp_path):
    one, other = (tmp_path / name for name in ('one.bag', 'other.bag'))
    write_bag(one, 1)
    shutil.copy(one, other)
    padded(one, b'this')
    padded(other, b'that')
    assert fingerprint([one]).key == fingerprint([other]).key
    assert not same_files([one], [other])
    assert find_duplicates([[one], [other]]) == {}
    assert find_duplicates([[one], [other], [shutil.copy(one, tmp_path / 'copy.bag')]]) == {2: 0}


def test_equal_samples_are_told_apart_in_a_run_and_in_appending(
    bags, tmp_path, profile, monkeypatch
):
    # As for large bags of equal size that differ where no sample is taken.
    monkeypatch.setattr(identity, '_digest', lambda *_: 'equal')
    assert len({bag.stat().st_size for bag in bags}) == 1
    assert statuses(convert_arm(bags[:2], tmp_path / 'out', profile)) == ['converted'] * 2
    outcome = convert_arm(bags, tmp_path / 'out', profile, append=True)
    assert statuses(outcome) == ['present', 'present', 'converted']
    assert states(tmp_path / 'out') == frames_of(0, 1, 2)
    assert len(report(tmp_path / 'out')['bags']) == 3


def cut(bag):
    whole = bag.read_bytes()
    bag.write_bytes(whole[: len(whole) // 2])
    return whole


def test_retry_takes_all_files_of_a_recording(tmp_path, profile):
    parts = [write_bag(tmp_path / f'bags/rec_{n}.bag', 5, 4, first=4 * n) for n in range(3)]
    whole = cut(parts[1])
    good = write_bag(tmp_path / 'good.bag', 1)
    root = tmp_path / 'out'
    outcome = convert_arm([tmp_path / 'bags', good], root, profile)
    # Damage parts it: what cannot be read follows nothing.
    assert 'failed' in statuses(outcome)
    parts[1].write_bytes(whole)
    retry(root)
    assert len(states(root)) == 4 + 12
    assert sorted(states(root)) == sorted(frames_of(1) + frames_of(5, frames=12))


@pytest.mark.parametrize('first_form', [False, True])
@pytest.mark.parametrize('given', [False, True], ids=['where they were', 'given'])
def test_retry_of_the_damaged_file_of_a_recording_doubles_no_other(
    tmp_path, profile, first_form, given
):
    parts = [write_bag(tmp_path / f'bags/rec_{n}.bag', 5, 4, first=4 * n) for n in range(3)]
    root = tmp_path / 'out'
    whole = cut(parts[1])
    assert statuses(convert_arm([tmp_path / 'bags'], root, profile)) == [
        'converted', 'failed', 'converted',
    ]  # fmt: skip
    parts[1].write_bytes(whole)
    if first_form:
        as_first_form(root, parts)
    bags = (tmp_path / 'bags').rename(tmp_path / 'moved') if given else tmp_path / 'bags'
    outcome = retry(root, bags) if given else retry(root)
    assert statuses(outcome) == ['converted']
    assert sorted(states(root)) == frames_of(5, frames=12)
    # Whole again the three are one recording, of which the dataset has everything.
    assert verify(root, [str(bags)]).findings == ()
    assert len(verify(root, [str(bags)]).bags) == 3
    assert statuses(convert_arm([bags], root, profile, append=True)) == ['present']


def test_verify_gives_each_namesake_its_own_reason(tmp_path, profile):
    good, empty, short = (tmp_path / folder / 'a.bag' for folder in ('good', 'empty', 'short'))
    write_bag(good, 1)
    write_bag(empty, 2, 0)
    write_bag(short, 3)
    cut(short)
    convert_arm([good, empty, short], tmp_path / 'out', profile)
    lines = verify(tmp_path / 'out', [str(good), str(empty), str(short)]).others
    assert 'no messages' in lines[0]
    assert 'truncated' in lines[1]


def test_retry_takes_all_files_of_a_recording_that_failed_as_one(tmp_path, profile):
    parts = [write_bag(tmp_path / f'bags/rec_{n}.bag', 5, 4, first=4 * n) for n in range(3)]
    root = tmp_path / 'out'
    write_bag(tmp_path / 'good.bag', 1)

    class Break(Observer):
        """Damages a bag in the run."""

        def checking(self, total):
            self.whole = cut(parts[2])

    breaking = Break()
    outcome = convert_arm(
        [tmp_path / 'good.bag', tmp_path / 'bags'], root, profile, observer=breaking
    )
    assert statuses(outcome) == ['converted', 'failed']
    files = report(root)['bags'][1]['files']
    assert [file['path'] for file in files] == [f'../bags/rec_{n}.bag' for n in range(3)]
    parts[2].write_bytes(breaking.whole)
    assert statuses(retry(root)) == ['converted']
    assert states(root) == frames_of(1) + frames_of(5, frames=12)
    assert [bag['first_episode'] for bag in report(root)['bags']] == [0, 1]
    assert verify(root, []).findings == ()


def test_retry_finds_bags_from_any_folder_and_takes_no_namesake(
    bags, tmp_path, profile, monkeypatch
):
    whole = cut(bags[1])
    monkeypatch.chdir(tmp_path)
    outcome = convert_arm(['bags/0.bag', 'bags/1.bag'], 'out', 'arm.yaml')
    assert statuses(outcome) == ['converted', 'failed']
    bags[1].write_bytes(whole)
    elsewhere = tmp_path / 'elsewhere'
    write_bag(elsewhere / 'bags/1.bag', 8)
    monkeypatch.chdir(elsewhere)
    assert statuses(retry('../out')) == ['converted']
    assert states(tmp_path / 'out') == frames_of(0, 1)


def test_retry_finds_bags_that_were_moved_where_it_is_told(bags, tmp_path, profile):
    root = tmp_path / 'out'
    whole = cut(bags[1])
    convert_arm(bags, root, profile)
    bags[1].unlink()
    outcome = retry(root)
    assert statuses(outcome) == ['failed']
    assert f'{bags[1]}: does not exist; tell where the bag is now' in outcome.outcomes[0].reason
    there = tmp_path / 'there'
    there.mkdir()
    (there / '1.bag').write_bytes(whole)
    write_bag(there / 'other.bag', 7)
    assert statuses(retry(root, there)) == ['converted']
    assert states(root) == frames_of(0, 2, 1)
    assert report(root)['bags'][1]['bag'] == '../there/1.bag'


def test_bags_that_fail_are_in_the_record_though_nothing_was_added(bags, tmp_path, profile):
    root = tmp_path / 'out'
    convert_arm(bags[:1], root, profile)
    (converted,), before = report(root)['bags'], tree(root)
    whole = cut(bags[1])
    assert statuses(convert_arm(bags[1:2], root, profile, append=True)) == ['failed']
    first, failed = report(root)['bags']
    assert first == converted
    assert (failed['status'], failed['bag']) == ('failed', '../bags/1.bag')
    assert 'truncated' in failed['reason']
    now = tree(root)
    assert {path for path in now if now[path] != before[path]} == {
        'conversion/report.json', 'conversion/bags/file-000.parquet',
    }  # fmt: skip
    assert statuses(retry(root)) == ['failed']
    assert tree(root) == now
    assert verify(root, [str(bags[0])]).findings == ()
    bags[1].write_bytes(whole)
    assert statuses(retry(root)) == ['converted']
    assert states(root) == frames_of(0, 1)


def test_a_dataset_that_moves_with_its_bags_finds_them(bags, tmp_path, profile):
    whole = cut(bags[1])
    world = tmp_path / 'world'
    world.mkdir()
    convert_arm(bags, tmp_path / 'out', profile)
    bags[1].write_bytes(whole)
    for name in ('bags', 'out', 'arm.yaml'):
        (tmp_path / name).rename(world / name)
    assert statuses(retry(world / 'out')) == ['converted']
    assert len(verify(world / 'out', []).bags) == 3


def test_skipped_bags_are_tried_again(bags, tmp_path, profile):
    class Break(Observer):
        """Damages a bag in the run."""

        def bag_started(self, number, total, bag):
            if number == 1:
                self.whole = cut(bags[1])

    root, breaking = tmp_path / 'out', Break()
    outcome = convert_arm(bags, root, profile, on_error='stop', observer=breaking)
    assert statuses(outcome) == ['converted', 'failed', 'skipped']
    bags[1].write_bytes(breaking.whole)
    assert statuses(retry(root)) == ['converted', 'converted']
    assert states(root) == frames_of(0, 1, 2)
    assert [bag['status'] for bag in report(root)['bags']] == ['converted'] * 3


def texts(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def test_the_record_tells_no_place_of_the_machine(bags, tmp_path, profile):
    marks = tmp_path / 'marks'
    marks.mkdir()
    for bag in bags[:2]:
        mark = {'startPosition': 0.0, 'endPosition': 1.0, 'skillAtomic': 'pick'}
        (marks / f'{bag.stem}.json').write_text(json.dumps({'marks': [mark]}))
    text = PROFILE + f'episodes: {{marks_file: "{marks}/{{bag}}.json"}}\n'
    profile = write_profile(tmp_path, text)
    cut(bags[1])
    messages = tmp_path / 'msg'
    messages.mkdir()
    outcome = convert_arm(bags, tmp_path / 'out', profile, msg_path=[str(messages)])
    assert statuses(outcome) == ['converted', 'failed', 'failed']
    for path in (tmp_path / 'out/conversion').iterdir():
        if path.is_file():
            assert str(tmp_path) not in path.read_text()
    document = report(tmp_path / 'out')
    assert document['format'] == 3
    assert [bag['bag'] for bag in document['bags']] == [f'../bags/{n}.bag' for n in range(3)]
    assert '../marks/2.json: cannot read the marks' in document['bags'][2]['reason']
    assert document['settings']['msg_path'] == ['../msg']
    assert not any(text.startswith(('/tmp', '/home', '/root')) for text in texts(document))
    assert verify(tmp_path / 'out', []).findings == ()


def as_first_form(root, paths):
    """Write a record as the first version did: paths as they were given, one for each bag."""

    def change(document):
        del document['format']
        document['settings']['profile'] = str(root.parent / 'arm.yaml')
        for bag, path in zip(document['bags'], paths, strict=True):
            bag['bag'] = str(path)
            files = bag.pop('files')
            if bag['status'] == 'converted':
                bag['fingerprint'] = {
                    'files': [
                        {
                            'name': os.path.basename(file['path']),
                            'bytes': file['bytes'],
                            'changed_ns': 1_700_000_000_000_000_000,
                            'digest': file['digest'],
                        }
                        for file in files
                    ]
                }

    as_former_record(root, change)


@pytest.mark.parametrize('relative', [False, True])
def test_a_record_of_the_first_form_is_still_read(tmp_path, profile, monkeypatch, relative):
    bag = write_bag(tmp_path / 'a.bag', 1)
    parts = [write_bag(tmp_path / f'bags/rec_{n}.bag', 5, 4, first=4 * n) for n in range(3)]
    directory = write_directory(tmp_path / 'run', 6)
    root = tmp_path / 'out'
    monkeypatch.chdir(tmp_path)

    class Break(Observer):
        """Damages a bag in the run."""

        def checking(self, total):
            self.whole = cut(parts[2])

    breaking = Break()
    given = [bag, tmp_path / 'bags', directory]
    assert statuses(convert_arm(given, root, profile, observer=breaking))[1] == 'failed'
    parts[2].write_bytes(breaking.whole)
    paths = [bag, parts[0], directory]
    as_first_form(root, [os.path.relpath(path) if relative else path for path in paths])
    assert len(verify(root, []).bags) == 2
    assert statuses(convert_arm([bag, directory], root, profile, append=True)) == ['present'] * 2
    assert statuses(retry(root)) == ['converted']
    assert states(root) == frames_of(1, 6) + frames_of(5, frames=12)
    assert [entry['bag'] for entry in report(root)['bags']] == [
        '../a.bag', '../bags/rec_0.bag', '../run',
    ]  # fmt: skip
    assert len(verify(root, []).bags) == 3
    assert verify(root, []).findings == ()


def test_the_record_of_another_version_is_refused_by_name(bags, tmp_path, profile):
    convert_arm(bags[:1], tmp_path / 'out', profile)
    edit_json(tmp_path / 'out/conversion/report.json', lambda document: document.update(format=9))
    with pytest.raises(UsageError, match=r'report\.json: has format 9, this version reads 1 to 3'):
        convert_arm(bags, tmp_path / 'out', profile, append=True)


def test_a_record_whose_bag_refers_to_a_topic_that_is_not_there_is_none(bags, tmp_path, profile):
    convert_arm(bags[:1], tmp_path / 'out', profile)
    as_former_record(tmp_path / 'out', lambda document: document.pop('topics'))
    with pytest.raises(UsageError, match=r'report\.json: is no record of a conversion'):
        convert_arm(bags, tmp_path / 'out', profile, append=True)


def append_as_another_program(root):
    """Add the first episode once more as LeRobot does: rows, an entry of meta/episodes, counts."""
    episodes = min(root.glob('meta/episodes/*/*.parquet'))
    entry = pq.read_table(episodes).slice(0, 1).to_pylist()[0]
    count, frames, length = info(root)['total_episodes'], info(root)['total_frames'], 4
    table = pq.read_table(min(root.glob('data/*/*.parquet'))).slice(0, length)
    rows = [
        row | {'episode_index': count, 'index': frames + number}
        for number, row in enumerate(table.to_pylist())
    ]
    pq.write_table(
        pa.Table.from_pylist(rows, schema=table.schema), root / 'data/chunk-000/file-001.parquet'
    )
    entry |= {
        'episode_index': count, 'data/file_index': 1, 'meta/episodes/file_index': 1,
        'dataset_from_index': frames, 'dataset_to_index': frames + length,
    }  # fmt: skip
    pq.write_table(
        pa.Table.from_pylist([entry], schema=pq.read_schema(episodes)),
        root / 'meta/episodes/chunk-000/file-001.parquet',
    )
    splits = {'train': f'0:{count + 1}'}
    edit_info(root, total_episodes=count + 1, total_frames=frames + length, splits=splits)


def test_episodes_that_another_program_added_are_counted(bags, tmp_path, profile):
    root = tmp_path / 'out'
    convert_arm(bags[:1], root, profile)
    append_as_another_program(root)
    outcome = convert_arm(bags, root, profile, append=True)
    assert statuses(outcome) == ['present', 'converted', 'converted']
    assert [bag['first_episode'] for bag in report(root)['bags']] == [0, 2, 3]
    assert states(root) == frames_of(0, 0, 1, 2)
    result = verify(root, [str(bag) for bag in bags])
    assert len(result.bags) == 3
    assert result.findings == ()


def test_a_record_that_no_longer_fits_the_episodes_is_refused(bags, tmp_path, profile):
    root = tmp_path / 'out'
    convert_arm([*bags[:2], write_bag(tmp_path / 'long.bag', 7, 9)], root, profile)

    def swap(document):
        first, _, third = document['bags']
        first['first_episode'], third['first_episode'] = 2, 0

    edit_record(root, swap)
    before = tree(root)
    with pytest.raises(UsageError, match=r'conversion\.frames: .*another program has changed'):
        convert_arm(bags, root, profile, append=True)
    assert tree(root) == before


def test_names_that_are_not_utf_8_are_converted_like_others(tmp_path, profile, capsys):
    folder = os.fsencode(tmp_path) + b'/\xb2\xe2\xca\xd4'
    os.mkdir(folder)
    bag, broken = (os.fsdecode(folder + name) for name in (b'/\xd4\xcb.bag', b'/a\\b.bag'))
    shutil.move(write_bag(tmp_path / 'x.bag', 1), bag)
    shutil.move(write_bag(tmp_path / 'y.bag', 2), broken)
    directory = shutil.move(write_directory(tmp_path / 'z', 3), os.fsdecode(folder + b'/\xff'))
    with open(broken, 'r+b') as file:
        whole = file.read()
        file.truncate(len(whole) // 2)
    out = str(tmp_path / 'out')
    words = ['--output', out, '--set', f'profile={profile}']
    assert cli.run(['convert', os.fsdecode(folder), *words]) == 1
    output = capsys.readouterr()
    assert r'\udcd4\udccb.bag' in output.out
    assert r'\udcb2\udce2\udcca\udcd4/a\b.bag' in output.err
    bags = {entry['bag']: entry['status'] for entry in report(out)['bags']}
    assert bags == {
        r'../\udcb2\udce2\udcca\udcd4/a\x5cb.bag': 'failed',
        r'../\udcb2\udce2\udcca\udcd4/\udcd4\udccb.bag': 'converted',
        r'../\udcb2\udce2\udcca\udcd4/\udcff': 'converted',
    }
    with open(broken, 'wb') as file:
        file.write(whole)
    assert cli.run(['convert', '--output', out, '--retry-failed']) == 0
    assert sorted(states(out)) == frames_of(1, 2, 3)
    assert cli.run(['convert', bag, broken, directory, '--append', *words]) == 0
    assert cli.run(['verify', out, '--bags']) == 0
    assert len(states(out)) == 12
