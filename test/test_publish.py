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

"""A dataset gets its name without taking anything away that the run did not make."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import subprocess

from arm_runs import convert_arm, states, statuses, write_bag
from dataset_reading import tree
from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.jobs.folders import atomic_renames
from kuavo_bag_converter.jobs.report import Observer
from kuavo_bag_converter.replay.verify import verify
from kuavo_bag_converter.support.errors import Cancelled, ConverterError, OutputError, UsageError
from observers import Notes
import pytest


@pytest.fixture
def bags(tmp_path):
    return [write_bag(tmp_path / 'bags' / f'{number}.bag', number) for number in range(3)]


@pytest.fixture(params=['swapped at once', 'renamed one by one'])
def kernel(request, monkeypatch):
    """Return a system that has renames with flags, and one that has not."""
    if request.param == 'renamed one by one':

        def unknown(*_):
            raise OSError(22, 'Invalid argument')

        monkeypatch.setattr(atomic_renames, '_renameat2', unknown)
    return request.param


class When(Notes):
    """Does something when the dataset is being put together."""

    def __init__(self, action):
        super().__init__()
        self.action = action

    def assembling(self, episodes):
        self.action()


def beside(tmp_path):
    return sorted({path.name for path in tmp_path.iterdir()} - {'bags', 'arm.yaml'})


def test_this_system_renames_without_replacing(tmp_path):
    """Otherwise only the way around it is tested."""
    assert hasattr(ctypes.CDLL(None), 'renameat2')
    for name in 'ab':
        (tmp_path / name).mkdir()
    with pytest.raises(FileExistsError):
        atomic_renames.rename_new(tmp_path / 'a', tmp_path / 'b')
    assert atomic_renames.exchange(tmp_path / 'a', tmp_path / 'b')


def folder_of_others(place):
    place.mkdir()
    (place / 'thesis.txt').write_text('years of work')


def empty_folder(place):
    place.mkdir()


def file_of_others(place):
    place.write_text('years of work')


def dangling_link(place):
    place.symlink_to('/nowhere')


@pytest.mark.parametrize('appear', [folder_of_others, empty_folder, file_of_others, dangling_link])
def test_what_appears_at_the_output_stays(bags, tmp_path, profile, kernel, appear, capsys):
    root = tmp_path / 'out'
    (tmp_path / 'out.finished').mkdir()
    outcome = convert_arm(bags, root, profile, observer=When(lambda: appear(root)))
    assert outcome.exit_code == 1
    assert outcome.output == tmp_path / 'out.finished.2'
    assert len(outcome.problem.splitlines()) == 1
    assert 'out.finished.2: look at both' in outcome.problem
    assert beside(tmp_path) == ['out', 'out.finished', 'out.finished.2']
    assert os.listdir(tmp_path / 'out.finished') == []
    assert len(states(tmp_path / 'out.finished.2')) == 12
    assert verify(tmp_path / 'out.finished.2', []).findings == ()
    if appear is folder_of_others:
        assert (root / 'thesis.txt').read_text() == 'years of work'
        assert os.listdir(root) == ['thesis.txt']
    elif appear is empty_folder:
        assert os.listdir(root) == []
    elif appear is file_of_others:
        assert root.read_text() == 'years of work'
    else:
        assert os.readlink(root) == '/nowhere'


def test_the_command_says_where_the_dataset_is(bags, tmp_path, profile, capsys, monkeypatch):
    from kuavo_bag_converter.jobs import display

    root = tmp_path / 'out'
    monkeypatch.setattr(display.Display, 'assembling', lambda *_: root.mkdir())
    words = ['--output', str(root), '--set', f'profile={profile}']
    assert cli.run(['convert', str(bags[0]), *words]) == 1
    output = capsys.readouterr()
    assert f'{root}.finished: 1 episode, 4 frames' in output.out
    (line,) = [line for line in output.err.splitlines() if line.startswith('error: ')]
    assert line.startswith(f'error: {root}: something was put there while the run went on')


def test_files_that_appear_in_a_dataset_that_grows_come_along(bags, tmp_path, profile, kernel):
    root = tmp_path / 'out'
    convert_arm(bags[:1], root, profile)
    (root / 'README.md').write_text('old')
    (root / 'gone.txt').write_text('gone soon')
    (root / 'changed.txt').write_text('before')
    from kuavo_bag_converter.jobs import convert as module

    real = module.check_before_publishing

    def check(path, since):  # the last thing that is done before it is published
        real(path, since)
        (root / 'new').mkdir()
        (root / 'new/notes.txt').write_text('mine')
        (root / 'meta/modality.json').write_text('{}')
        (root / 'gone.txt').unlink()
        (root / 'changed.txt').write_text('after it')
        (root / 'other').write_text('card')
        os.replace(root / 'other', root / 'README.md')

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, 'check_before_publishing', check)
        outcome = convert_arm(bags, root, profile, append=True)
    assert outcome.exit_code == 0
    assert len(states(root)) == 12
    assert (root / 'new/notes.txt').read_text() == 'mine'
    assert (root / 'meta/modality.json').read_text() == '{}'
    assert (root / 'README.md').read_text() == 'card'
    assert (root / 'changed.txt').read_text() == 'after it'
    assert not (root / 'gone.txt').exists()
    assert beside(tmp_path) == ['out']


def rewrite_info(root):
    path = root / 'meta/info.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'mine': 1}))


def take_away(root):
    root.rename(root.with_name('taken'))


def replace_by_a_copy(root):
    root.rename(root.with_name('taken'))
    shutil.copytree(root.with_name('taken'), root)


def put_rows(root):
    (root / 'data/chunk-000/file-001.parquet').write_bytes(b'mine')


@pytest.mark.parametrize('change', [rewrite_info, take_away, replace_by_a_copy, put_rows])
def test_a_dataset_that_others_change_while_it_grows_is_left_alone(
    bags, tmp_path, profile, monkeypatch, kernel, change
):
    from kuavo_bag_converter.jobs import convert as module

    root = tmp_path / 'out'
    convert_arm(bags[:1], root, profile)
    (root / 'README.md').write_text('card')
    real, seen = module.check_before_publishing, []

    def check(path, since):
        real(path, since)
        change(root)
        seen.append(tree(root) if root.exists() else None)

    monkeypatch.setattr(module, 'check_before_publishing', check)
    outcome = convert_arm(bags, root, profile, append=True)
    assert outcome.exit_code == 1
    assert (tree(root) if root.exists() else None) == seen[0]
    finished = tmp_path / 'out.finished'
    assert outcome.output == finished
    assert len(states(finished)) == 12
    assert (finished / 'README.md').read_text() == 'card'
    assert not (tmp_path / 'out.unfinished').exists()


def test_what_is_changed_at_the_last_moment_is_moved_over_or_kept(
    bags, tmp_path, profile, monkeypatch
):
    from kuavo_bag_converter.jobs.folders import publishing

    root = tmp_path / 'out'
    convert_arm(bags[:1], root, profile)
    (root / 'README.md').write_text('old')
    real = publishing.exchange

    def exchange(first, second):
        (root / 'late.txt').write_text('late')
        (root / 'other').write_text('card')
        os.replace(root / 'other', root / 'README.md')
        rewrite_info(root)
        return real(first, second)

    monkeypatch.setattr(publishing, 'exchange', exchange)
    outcome = convert_arm(bags, root, profile, append=True)
    assert len(states(root)) == 12
    assert (root / 'late.txt').read_text() == 'late'
    assert (root / 'README.md').read_text() == 'card'
    assert outcome.exit_code == 1
    assert 'meta/info.json was changed in the dataset before' in outcome.problem
    assert beside(tmp_path) == ['out', 'out.previous']
    left = [p for p in (tmp_path / 'out.previous').rglob('*') if p.is_file()]
    assert [path.name for path in left] == ['info.json']
    assert json.loads(left[0].read_text())['mine'] == 1


@pytest.mark.parametrize('there', [None, 'thesis.txt'])
@pytest.mark.parametrize('kernel', ['renamed one by one'], indirect=True)
@pytest.mark.usefixtures('kernel')
def test_a_kill_between_two_renames_loses_nothing(bags, tmp_path, profile, there):
    from kuavo_bag_converter.jobs.folders import publishing

    root, work = tmp_path / 'out', tmp_path / 'out.unfinished'
    convert_arm(bags[:1], root, profile)
    (root / 'README.md').write_text('card')
    before = tree(root)

    class Killed(BaseException):
        pass

    def killed(*_):
        if there:
            root.mkdir()
            (root / there).write_text('mine')
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, 'rename_new', killed)
        with pytest.raises(Killed):
            convert_arm(bags, root, profile, append=True)
    assert tree(work / 'previous') == before
    if there:
        for append in (False, True):
            with pytest.raises(UsageError, match='something is there in place of the dataset'):
                convert_arm(bags, root, profile, append=append)
        assert (root / there).read_text() == 'mine'
        assert tree(work / 'previous') == before
        root.rename(tmp_path / 'mine')
    outcome = convert_arm(bags, root, profile, append=True)
    assert statuses(outcome) == ['present', 'kept', 'kept']
    assert (root / 'README.md').read_text() == 'card'
    assert len(states(root)) == 12
    assert not work.exists()


def test_a_kill_after_the_swap_loses_nothing(bags, tmp_path, profile, kernel):
    from kuavo_bag_converter.jobs.folders import publishing

    root = tmp_path / 'out'
    convert_arm(bags[:1], root, profile)
    (root / 'README.md').write_text('card')

    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, 'finish_replacing', killed)
        with pytest.raises(Killed):
            convert_arm(bags, root, profile, append=True)
    assert len(states(root)) == 12
    outcome = convert_arm(bags, root, profile, append=True)
    assert statuses(outcome) == ['present'] * 3
    assert (root / 'README.md').read_text() == 'card'
    assert len(states(root)) == 12
    assert beside(tmp_path) == ['out']


def test_what_a_former_version_left_is_cleared_away(bags, tmp_path, profile):
    """It said nowhere what it was replacing, and had carried nothing over."""
    root, work = tmp_path / 'out', tmp_path / 'out.unfinished'
    convert_arm(bags[:1], root, profile)
    work.mkdir()
    shutil.copytree(root, work / 'previous', copy_function=os.link)
    (work / 'previous/README.md').write_text('card')
    info_before = (work / 'previous/meta/info.json').read_bytes()
    os.unlink(work / 'previous/meta/info.json')
    (work / 'previous/meta/info.json').write_bytes(info_before)
    convert_arm(bags, root, profile, append=True)
    assert (root / 'README.md').read_text() == 'card'
    assert len(states(root)) == 12
    assert beside(tmp_path) == ['out']


# --- the output


@pytest.mark.parametrize('spelling', ['.', './', '../out', '{root}', '{root}/', '{root}/meta/..'])
def test_the_output_may_be_spelled_in_any_way(bags, tmp_path, profile, monkeypatch, spelling):
    root = tmp_path / 'out'
    convert_arm(bags[:1], root, profile)
    monkeypatch.chdir(root)
    convert_arm(bags, spelling.format(root=root), profile, append=True)
    assert len(states(root)) == 12


def test_an_output_inside_a_folder_that_is_not_there_yet(bags, tmp_path, profile, monkeypatch):
    monkeypatch.chdir(tmp_path)
    convert_arm(bags, 'a/b/../c/', profile)
    assert len(states(tmp_path / 'a/c')) == 12


@pytest.mark.parametrize('exists', [True, False])
def test_an_output_that_is_a_link_is_written_where_it_leads(bags, tmp_path, profile, exists):
    real, link = tmp_path / 'disk/dataset', tmp_path / 'out'
    link.symlink_to('disk/dataset')
    if exists:
        convert_arm(bags[:1], real, profile)
        with pytest.raises(UsageError, match='exists already'):
            convert_arm(bags, link, profile)
    outcome = convert_arm(bags, link, profile, append=exists)
    assert outcome.output == link
    assert os.readlink(link) == 'disk/dataset'
    assert len(states(real)) == 12
    assert beside(tmp_path) == ['disk', 'out']


@pytest.mark.parametrize(
    ('output', 'text'),
    [('/', 'found the root'), ('loop', 'exists already'), ('a\udcb2', 'is not UTF-8')],
)
def test_an_output_that_is_no_place_for_a_dataset(
    bags, tmp_path, profile, monkeypatch, output, text
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'loop').symlink_to('loop')
    with pytest.raises(UsageError, match=text):
        convert_arm(bags, output, profile)


def test_a_folder_that_must_not_be_written_is_one_line(bags, tmp_path, profile):
    locked = tmp_path / 'locked'
    locked.mkdir()
    if os.getuid() == 0:
        done = subprocess.run(['chattr', '+i', str(locked)], capture_output=True)
        if done.returncode:
            pytest.skip('root may write anywhere here')
    else:
        locked.chmod(0o555)
    try:
        with pytest.raises(ConverterError, match='cannot be made: ') as caught:
            convert_arm(bags, locked / 'out', profile)
        assert len(str(caught.value).splitlines()) == 1
    finally:
        if os.getuid() == 0:
            subprocess.run(['chattr', '-i', str(locked)], check=True)
        else:
            locked.chmod(0o755)


def test_a_mounted_dataset_is_not_added_to(bags, tmp_path, profile):
    root = tmp_path / 'out'
    root.mkdir()
    mounted = subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', str(root)], capture_output=True)
    if mounted.returncode:
        pytest.skip('nothing can be mounted here')
    try:
        convert_arm(bags[:1], root / 'inner', profile)
        for path in (root / 'inner').iterdir():
            path.rename(root / path.name)
        with pytest.raises(UsageError, match='is a disk of its own'):
            convert_arm(bags, root, profile, append=True)
    finally:
        subprocess.run(['umount', str(root)], check=True)


# --- the workspace


def foreign_folder(work):
    work.mkdir()
    (work / 'draft.txt').write_text('mine')


def foreign_file(work):
    work.write_text('mine')


def foreign_link(work):
    (work.parent / 'real').mkdir()
    work.symlink_to('real')


def foreign_configuration(work):
    work.mkdir()
    (work / 'configuration.json').write_text('{"mine": 1}')


@pytest.mark.parametrize(
    'make', [foreign_folder, foreign_file, foreign_link, foreign_configuration]
)
@pytest.mark.parametrize('append', [False, True])
def test_what_has_the_name_of_the_workspace_is_never_touched(
    bags, tmp_path, profile, make, append
):
    root, work = tmp_path / 'out', tmp_path / 'out.unfinished'
    if append:
        convert_arm(bags[:1], root, profile)
    make(work)
    names, before = beside(tmp_path), tree(tmp_path)
    with pytest.raises(UsageError, match=r'out\.unfinished: is not of a conversion \('):
        convert_arm(bags, root, profile, append=append, on_change='redo')
    assert (beside(tmp_path), tree(tmp_path)) == (names, before)


class Stop(Observer):
    """Stops the run after a bag."""

    def bag_finished(self, number, outcome, plan):
        raise Cancelled('stopped')


def test_files_of_others_in_the_workspace_stay(bags, tmp_path, profile):
    root, work = tmp_path / 'out', tmp_path / 'out.unfinished'
    with pytest.raises(Cancelled):
        convert_arm(bags, root, profile, observer=Stop())
    (shard,) = (work / 'shards').iterdir()
    mine = [work / 'mine.txt', shard / 'mine.txt', work / 'dataset/data/mine.txt']
    mine += [work / 'shards/mine.txt', work / 'dataset of mine/meta/info.json']
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('mine')
    observer = When(lambda: None)
    outcome = convert_arm(bags, root, profile, observer=observer)
    assert statuses(outcome) == ['kept', 'converted', 'converted']
    assert len(states(root)) == 12
    assert sorted(path for path in work.rglob('*') if path.is_file()) == sorted(mine)
    assert any(
        'is left, for dataset, dataset of mine, mine.txt, shards' in line
        for line in observer.lines
    )


def test_a_workspace_that_another_run_has_just_removed_is_made_anew(
    bags, tmp_path, profile, monkeypatch
):
    """The lock of a folder that is gone keeps nobody out."""
    real, work, done = fcntl.flock, tmp_path / 'out.unfinished', []

    def flock(descriptor, flags):
        if not done:
            done.append(work.rmdir())
            work.mkdir()
        real(descriptor, flags)

    monkeypatch.setattr(fcntl, 'flock', flock)

    class Second(Observer):
        """Starts a second run within the first."""

        def planned(self, number, plan):
            with pytest.raises(UsageError, match='another conversion is writing'):
                convert_arm(bags, tmp_path / 'out', profile)
            done.append(True)

    outcome = convert_arm(bags[:1], tmp_path / 'out', profile, observer=Second())
    assert outcome.exit_code == 0
    assert len(done) == 2


def test_a_second_run_takes_nothing_away_from_the_first(bags, tmp_path, profile):
    root, work = tmp_path / 'out', tmp_path / 'out.unfinished'
    convert_arm(bags[:1], root, profile)
    found = []

    def second():
        before = {**tree(root), **tree(work)}
        for append in (False, True):
            with pytest.raises(UsageError, match=r'another conversion is writing|exists already'):
                convert_arm(bags, root, profile, append=append)
        found.append({**tree(root), **tree(work)} == before)

    outcome = convert_arm(bags, root, profile, append=True, observer=When(second))
    assert found == [True]
    assert outcome.exit_code == 0


def test_closing_does_not_hide_why_a_run_failed(bags, tmp_path, profile):
    class Fail(Observer):
        """Lets the output fail."""

        def planned(self, number, plan):
            (tmp_path / 'a/mine.txt').write_text('mine')
            raise OutputError('the reason')

    with pytest.raises(OutputError, match='the reason'):
        convert_arm(bags[:1], tmp_path / 'a/b/out', profile, observer=Fail())
    assert (tmp_path / 'a/mine.txt').read_text() == 'mine'


def truncated(shard):
    path = shard / 'data.parquet'
    path.write_bytes(path.read_bytes()[:-9])


def flipped(shard):
    path = shard / 'data.parquet'
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def without_alignment(shard):
    (shard / 'alignment.parquet').unlink()


def of_another_form(shard):
    path = shard / 'shard.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'format': 99}))


def no_manifest(shard):
    (shard / 'shard.json').write_bytes(b'\0' * 100)


def without_plan(shard):
    path = shard / 'shard.json'
    document = json.loads(path.read_text())
    del document['extra']['plan']
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    'damage',
    [truncated, flipped, without_alignment, of_another_form, no_manifest, without_plan],
)
def test_a_kept_shard_that_is_damaged_is_made_again(bags, tmp_path, profile, damage):
    root = tmp_path / 'out'
    convert_arm(bags, tmp_path / 'whole', profile)
    with pytest.raises(Cancelled):
        convert_arm(bags, root, profile, observer=Stop())
    (shard,) = (tmp_path / 'out.unfinished/shards').iterdir()
    damage(shard)
    observer = When(lambda: None)
    outcome = convert_arm(bags, root, profile, observer=observer)
    assert statuses(outcome) == ['converted'] * 3
    (line,) = [line for line in observer.lines if str(shard) in line]
    assert 'its bag is converted again' in line
    assert tree(root) == tree(tmp_path / 'whole')


def test_shards_of_a_former_version_are_made_again(bags, tmp_path, profile):
    root, work = tmp_path / 'out', tmp_path / 'out.unfinished'
    convert_arm(bags, tmp_path / 'whole', profile)
    with pytest.raises(Cancelled):
        convert_arm(bags, root, profile, observer=Stop())
    (shard,) = (work / 'shards').iterdir()
    former = shard.rename(shard.with_name('0123456789ab-0123456789abcdef01234567'))
    configuration = json.loads((work / 'configuration.json').read_text())
    version = configuration['profile'].partition('(')[2]
    configuration['profile'] = f'{profile} ({version}'
    (work / 'configuration.json').write_text(json.dumps(configuration))
    observer = When(lambda: None)
    outcome = convert_arm(bags, root, profile, observer=observer)
    assert statuses(outcome) == ['converted'] * 3
    assert observer.lines == [f'{former}: is of a former version; its bag is converted again']
    assert tree(root) == tree(tmp_path / 'whole')
    assert not work.exists()
