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

"""
The life of a dataset's folder: whatever happens in and around it, nothing of anybody's is lost.

A state machine converts recordings, appends, retries, is killed and goes on, while the user and
other programs touch, copy, damage, move and add files. After every step

- no byte that the tool did not write is changed or removed,
- no finished episode is lost, none is there twice,
- the dataset is whole, by reading it without the code under test, or it does not exist.

The suite runs 400 histories, always the same ones. For others, or more, with a count of what
happened in them::

    KUAVO_FOLDER_HISTORIES=10000 python -m pytest test/test_folder_life.py -s --hypothesis-seed=7
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
import json
import os
from pathlib import Path
import shutil
import tempfile
import threading
from typing import Any, NamedTuple

from conversions import run as convert
import dataset_truth
from folder_world import differences, Files, NO_FILES, snapshot, World
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    RuleBasedStateMachine,
    run_state_machine_as_test,
)
from interruptions import at, killed_at, PHASES, Point
from kuavo_bag_converter.replay.verify import verify
from kuavo_bag_converter.support.errors import Cancelled, ConverterError, UsageError
from lerobot_append import append_episode
import pyarrow as pa
from tiny_recordings import CONTENTS, DAMAGES, episodes_of, Pool

_GIVEN = os.environ.get('KUAVO_FOLDER_HISTORIES')
HISTORIES = int(_GIVEN or 400)
DERANDOMIZE = not _GIVEN
MEMORY = '/dev/shm'
"""Where it is fast to make and remove folders."""
STEPS = 10
REACHED = Counter()
"""How often each rule and each outcome happened."""

OFTEN = 5
TO_REACH = {
    *(f'{mode}: {kind}' for mode in ('create', 'append') for kind in ('report', 'refused')),
    *(f'{mode}: {kind}' for mode in ('create', 'append') for kind in ('cancelled', 'killed')),
    *(f'interrupted in phase {phase}' for phase in PHASES),
    'retry: report',
    'kept beside',
    'second create: refused',
    'second append: refused',
}
"""What happens often in the histories of the suite, as every rule does, or the machine is lost."""
NAMES = ('plain', 'run of 3 May', '测试', os.fsdecode(b'\xb2\xe2\xca\xd4'))
"""Of recordings; the last is not UTF-8, as a zip from a Chinese Windows leaves it."""
RECORDED = st.tuples(
    st.sampled_from(CONTENTS), st.sampled_from(['', '', '', *DAMAGES]), st.sampled_from(NAMES)
)
"""A recording: what it holds, how it is damaged, and its name."""
FOREIGN_FILES = (
    'README.md',
    'meta/modality.json',
    'meta/episodes/chunk-000/notes.txt',
    'data/README',
    'videos/preview/first.gif',
    'conversion/notes.txt',
    'notes/day 1/operator.txt',
    '.cache/huggingface/download.lock',
)
SHARD_DAMAGES = ('shorter', 'no rows', 'no manifest', 'other manifest', 'other rows')
WORKSPACE_FILES = ('mine.txt', 'shards/mine.txt', 'shards/mine/mine.txt', 'dataset/mine.txt')


class How(NamedTuple):
    """How a command is written."""

    folder: str
    """Where it is run."""
    paths: str
    output: str
    umask: int


@dataclass
class Dataset:
    """What the dataset must hold."""

    contents: list[str] = field(default_factory=list)
    foreign: list[list[tuple[float, ...]]] = field(default_factory=list)
    """Episodes of another program."""
    failed: set[Files] = field(default_factory=set)
    """Recordings that its record says are not in it."""
    info: dict[str, Any] = field(default_factory=dict)
    """Keys of info.json that are not LeRobot's."""


class Ended(NamedTuple):
    """How a command ended."""

    kind: str
    """``report``, ``refused``, ``stopped`` (another error), ``cancelled`` or ``killed``."""
    text: str = ''
    exit_code: int = 0
    outcomes: tuple[tuple[str, str], ...] = ()
    """The bag and status of each."""


def counted(function):
    """Count how often a rule is followed."""
    TO_REACH.add(function.__name__)

    @wraps(function)
    def rule(self, **drawn):
        REACHED[function.__name__] += 1
        return function(self, **drawn)

    return rule


HOWS = st.builds(
    How,
    st.sampled_from(['site', 'elsewhere', 'recordings', 'dataset']),
    st.sampled_from(['absolute', 'relative', 'through a link', 'mixed']),
    st.sampled_from(['absolute', 'absolute', 'relative', 'relative', 'through a link', 'a link']),
    st.sampled_from([0o022, 0o002, 0o077]),
)
POINTS = st.builds(Point, st.sampled_from(list(PHASES)), st.integers(0, 30))
MODES = st.sampled_from(['next', 'next', 'next', 'next', 'retry', 'retry', 'wrong'])
"""``next`` creates a dataset, or appends to the one that is there; ``wrong`` does the other."""


class FolderLife(World, RuleBasedStateMachine):
    """A user, other programs, and the tool, around one output folder."""

    recordings = Bundle('recordings')

    folder: Path
    """Where to make worlds."""
    recorded: Pool

    def __init__(self):
        RuleBasedStateMachine.__init__(self)
        World.__init__(self, Path(tempfile.mkdtemp(dir=self.folder)).resolve(), self.recorded)
        self.dataset: Dataset | None = None
        self.finished: set[str] = set()
        """Contents whose shards are complete in the workspace."""
        self.shard_of: dict[Files, str] = {}
        """What the recordings held whose shards, whole or damaged, are in the workspace."""
        self.displaced = False
        """Whether a killed run has moved the dataset aside."""
        self.half_done = False
        """Whether a run was killed after it had replaced the dataset."""
        self.files: dict[str, tuple] = {}
        """What the dataset consisted of when it was read."""

    def teardown(self):
        shutil.rmtree(self.world)

    @property
    def has_dataset(self):
        return self.dataset is not None

    @property
    def is_working(self):
        """Whether there is a workspace, which the tool made."""
        return self.workspace.is_dir() and self.workspace not in self.theirs

    # What the user and other programs do.

    @initialize(
        target=recordings,
        first=st.lists(RECORDED, min_size=2, max_size=3),
        how=st.none() | HOWS,
    )
    def begin(self, first, how):
        made = [self.record(*drawn) for drawn in first]
        if how is not None:
            self.command('next', made[:2], how)
        return multiple(*made)

    @rule(target=recordings, drawn=RECORDED)
    @counted
    def record_another(self, drawn):
        return self.record(*drawn)

    @rule(
        target=recordings,
        recording=recordings,
        how=st.sampled_from(['copy', 'hard link', 'symbolic link']),
        folder=st.sampled_from(['recordings', 'copies']),
    )
    @counted
    def give_another_name(self, recording, how, folder):
        other = recording._replace(folder=Path(folder), name=self.fresh(how))
        pairs = zip(recording.parts(self.site), other.parts(self.site), strict=True)
        for old, new in pairs:
            if not old.exists():
                continue
            self.put(new, old.read_bytes())
            if how == 'hard link':
                new.unlink()
                os.link(old.resolve(), new)
            elif how == 'symbolic link':
                self.link(new, os.path.relpath(old, new.parent))
        self.all_recordings.append(other)
        return other

    @rule(
        recording=recordings,
        how=st.sampled_from(
            ['touch', 'remove', 'repair', 'repair', 'cut off', 'broken', 'replace']
        ),
    )
    @counted
    def change_a_recording(self, recording, how):
        """Damage a recording, put it back as it was, or put another one in its place."""
        paths = recording.parts(self.site)
        if how == 'touch':
            for path in paths:
                if path.exists():
                    os.utime(path)
            return
        fitting = [name for name in CONTENTS if tuple(self.pool.files(name)) == recording.suffixes]
        content = self.content(recording) or fitting[0]
        if how == 'replace':
            content = fitting[(fitting.index(content) + 1) % len(fitting)]
        damage = how if how in DAMAGES else ''
        damage = 'broken' if damage and content == 'two files' else damage
        for path, data in zip(paths, self.pool.files(content, damage).values(), strict=True):
            path.unlink(missing_ok=True)
            self.forget(path)
            if how != 'remove':
                self.put(path, data)

    @precondition(lambda self: self.has_dataset and self.output.exists())
    @rule(what=st.sampled_from([*FOREIGN_FILES, *NO_FILES, 'a key of info.json']))
    @counted
    def add_to_the_dataset(self, what):
        path = self.output / what
        if what in FOREIGN_FILES:
            self.put(path, self.fresh(what).encode())
        elif what in NO_FILES and not os.path.lexists(path):
            self.make(path, what)
        elif what not in NO_FILES:
            path = self.output / 'meta/info.json'
            info = json.loads(path.read_text())
            info['license'] = self.dataset.info['license'] = [self.fresh('key')]
            path.write_text(json.dumps(info))

    @precondition(lambda self: self.has_dataset and self.output.exists())
    @rule(frames=st.integers(1, 3), task=st.sampled_from(['Count', 'Wave']))
    @counted
    def lerobot_appends(self, frames, task):
        self.count += 1
        states = [(100.0 + self.count, float(frame)) for frame in range(frames)]
        for path in append_episode(self.output, states, task):
            self.theirs[path] = ('file', path.lstat().st_mode, path.read_bytes())
        self.dataset.foreign.append(states)

    @rule(
        place=st.sampled_from(['output', 'workspace']),
        kind=st.sampled_from(['a file', 'a folder', *NO_FILES]),
        given=st.lists(recordings, min_size=1, max_size=2),
        how=HOWS,
    )
    @counted
    def convert_where_another_program_writes(self, place, kind, given, how):
        """Convert where the output, or the folder for work, is not the tool's."""
        path = self.output if place == 'output' else self.workspace
        empty = kind == 'an empty folder' and place == 'workspace'
        if os.path.lexists(path) or self.is_working or empty:
            return
        made_parent = not path.parent.exists()
        self.make(path, kind)
        self.command('next', given, how)
        self.forget(path)
        shutil.rmtree(path) if kind.endswith('folder') else path.unlink()
        if made_parent:
            self.forget(path.parent)

    @precondition(lambda self: self.is_working)
    @rule(name=st.sampled_from(WORKSPACE_FILES), how=st.sampled_from([None, *SHARD_DAMAGES]))
    @counted
    def add_to_the_workspace(self, name, how):
        self.put(self.workspace / name, self.fresh(name).encode())
        if how is not None and self.finished:
            self.damage_a_shard(how=how)

    @counted
    def damage_a_shard(self, how):
        for content, shard in self.shards():
            path = shard / ('shard.json' if 'manifest' in how else 'data.parquet')
            data = path.read_bytes()
            if how.startswith('no '):
                path.unlink()
            else:
                path.write_bytes(data[:-9] if how == 'shorter' else b'{}' + bytes(len(data) - 2))
            self.finished.discard(content)
            return

    # The next run brings a dataset back where it looks as if a killed one had taken it away.
    @precondition(lambda self: self.has_dataset and self.output.exists() and not self.half_done)
    @rule()
    @counted
    def put_the_dataset_away(self):
        archive = self.world / self.fresh('archive')
        self.output.rename(archive)
        self.forget(self.output)
        self.own_all(archive)
        self.dataset = None

    @rule(copy=st.booleans())
    @counted
    def move_the_site(self, copy):
        """Move the dataset to another disk together with its recordings."""
        old, self.site = self.site, self.world / self.fresh('site')
        moved = {self.site / path.relative_to(old): state
                 for path, state in self.theirs.items() if old in path.parents}  # fmt: skip
        if copy:
            shutil.copytree(old, self.site, symlinks=True)
            self.own_all(old)
        else:
            old.rename(self.site)
            self.forget(old)
        self.theirs |= moved
        self.link(self.world / 'shortcut', self.site.name)
        self.theirs[self.site] = ('folder', self.site.lstat().st_mode)

    # What the tool does.

    @precondition(lambda self: self.has_dataset and self.output.exists())
    @rule()
    @counted
    def verify(self):
        """Find the dataset right, and its bags those that it was made from."""
        there = {self.content(item): item for item in self.all_recordings}
        known = [there[content] for content in self.dataset.contents if content in there]
        bags = [str(path) for item in known for path in item.given(self.site)]
        result = verify(self.output, bags or None)
        assert result.ok, result.findings
        assert len(result.bags) == len(known)

    @rule(mode=MODES, given=st.lists(recordings, min_size=1, max_size=3), how=HOWS)
    @counted
    def convert(self, mode, given, how):
        self.command(mode, given, how)

    @rule(mode=MODES, given=st.lists(recordings, min_size=1, max_size=3), how=HOWS, point=POINTS)
    @counted
    def kill(self, mode, given, how, point):
        self.command(mode, given, how, point=point, kill=True)

    @rule(mode=MODES, given=st.lists(recordings, min_size=1, max_size=3), how=HOWS, point=POINTS)
    @counted
    def cancel(self, mode, given, how, point):
        cancel = threading.Event()
        self.command(mode, given, how, point=point, act=cancel.set, cancel=cancel)

    @precondition(lambda self: not self.has_dataset)
    @rule(
        given=st.lists(recordings, min_size=1, max_size=3),
        how=HOWS,
        point=POINTS,
        kind=st.sampled_from(['a file', 'a folder', *NO_FILES]),
    )
    @counted
    def occupy_meanwhile(self, given, how, point, kind):
        def act():
            if not os.path.lexists(self.output):
                self.make(self.output, kind)

        self.command('next', given, how, point=point, act=act)

    @rule(
        mode=MODES,
        given=st.lists(recordings, min_size=1, max_size=3),
        how=HOWS,
        point=POINTS,
        place=st.sampled_from(['dataset', 'workspace', 'beside']),
    )
    @counted
    def add_meanwhile(self, mode, given, how, point, place):
        def act():
            folder = {
                'dataset': self.output,
                'workspace': self.workspace,
                'beside': self.output.parent,
            }[place]
            if folder.is_dir() and folder not in self.theirs:
                path = folder / self.fresh('meanwhile')
                path.write_bytes(b'theirs')
                self.theirs[path] = ('file', path.lstat().st_mode, b'theirs')

        self.command(mode, given, how, point=point, act=act)

    @rule(
        mode=MODES,
        given=st.lists(recordings, min_size=1, max_size=2),
        how=HOWS,
        point=POINTS,
        second=st.tuples(MODES, st.lists(recordings, min_size=1, max_size=2), HOWS),
    )
    @counted
    def run_twice_at_once(self, mode, given, how, point, second):
        self.command(mode, given, how, point=point, second=second)

    def command(
        self, mode, given, how, *, point=None, act=None, kill=False, cancel=None, second=None
    ):
        """Run a command, perhaps with something that happens in its middle; judge how it ended."""
        if mode != 'wrong':
            given = [item for item in given if self.exists(item)]
            if not given:
                return
        mode = self.mode(mode)
        wanted = self.wanted(mode, given)
        must, may = self.refusals(mode, wanted, how)
        good = {content for item in wanted if (content := self.content(item))}
        held = set(self.dataset.contents) if self.dataset else set()
        run = self.prepared(mode, given, how, cancel)
        before = snapshot(self.site)
        ends, acted = [], True
        if kill:
            ends.append(killed_at(point, run) or Ended('killed'))
        elif point:
            if second:
                other, others = self.mode(second[0]), second[1]
                # The folder and the mask are those of the process.
                other_how = second[2]._replace(folder=how.folder, umask=how.umask)
                run_other = self.prepared(other, others, other_how)
                more = self.wanted(other, others)

                def act():
                    ends.append(run_other())

            with at(point, act) as watch:
                ends.insert(0, run())
            acted = watch.acted
            if acted and second:
                REACHED[f'second {other}: {ends[1].kind}'] += 1
                good |= {content for item in more if (content := self.content(item))}
                wanted = [*wanted, *more]
        else:
            ends.append(run())
            acted = False
        first = ends[0]
        if (point and first.kind == 'killed') or (not kill and acted):
            REACHED[f'interrupted in phase {point.phase}'] += 1
        REACHED[f'{mode}: {first.kind}'] += 1
        if not acted:
            if must or not may:
                expected = 'refused' if must else 'report'
                assert first.kind == expected, f'{mode}: expected {must or "to be done"}: {first}'
            if first.kind == 'refused':
                changed = differences(before, snapshot(self.site), but=self.workspace)
                assert self.displaced or not changed, f'{first} changed {changed}'
        allowed = {'report', 'refused', 'killed'} | ({'cancelled'} if cancel else set())
        occupied = acted and self.output in self.theirs
        for ended in ends:
            assert ended.kind in allowed or occupied, ended
        if occupied and not must and any(e.kind in ('report', 'stopped') for e in ends):
            self.find_beside(ends, good)
            self.finished.clear()
        else:
            self.observe(mode, ends, held, good, wanted)
        if first.kind == 'report' and not acted:
            self.check_report(first, wanted, held, good)
            if mode == 'create' and not self.finished & good and self.dataset:
                modes = {state[1] & 0o777 for state in self.files.values() if state[0] == 'file'}
                assert modes == {0o666 & ~how.umask}, 'the umask is not heeded'
        self.note_shards(wanted, held)
        now = set(self.dataset.contents) if self.dataset else set()
        self.half_done = now != held and self.is_working

    def mode(self, word):
        if word == 'retry' and not (self.dataset and self.dataset.failed):
            word = 'next'
        return {
            'next': 'append' if self.dataset else 'create',
            'wrong': 'create' if self.dataset else 'append',
        }.get(word, word)

    def wanted(self, mode, given):
        """Return the recordings that a command is to convert."""
        if mode != 'retry':
            return list(dict.fromkeys(given))
        return [
            item for item in self.all_recordings if self.dataset and item in self.dataset.failed
        ]

    def prepared(self, mode, given, how, cancel=None):
        """Return what runs a command as the user writes it."""
        folder = {
            'site': self.site,
            'elsewhere': self.world / 'elsewhere',
            'recordings': self.site / 'recordings',
            'dataset': self.output if self.dataset else self.site,
        }[how.folder]
        if not folder.exists():
            folder = self.site
        output = self.spelled(self.output, how.output, folder)
        values: dict[str, Any] = {'retry_failed': True}
        bags = []
        if mode != 'retry':
            kinds = ('absolute', 'relative', 'through a link')
            profile = self.spelled(self.site / 'robot.yaml', kinds[len(given) % 2], folder)
            values = {'append': mode == 'append', 'threads': 1, 'profile': profile}
            for number, item in enumerate(given):
                kind = kinds[number % 3] if how.paths == 'mixed' else how.paths
                bags += [self.spelled(path, kind, folder) for path in item.given(self.site)]
        return lambda: self.run(folder, how.umask, bags, output, cancel, values)

    def run(self, folder, umask, bags, output, cancel, values):
        """Run a command in this process; return how it ended."""
        with inside(folder, umask):
            try:
                report = convert(bags, output, cancel=cancel, **values)
            except UsageError as error:
                return Ended('refused', str(error))
            except Cancelled as error:
                return Ended('cancelled', str(error))
            except ConverterError as error:
                return Ended('stopped', str(error))
        outcomes = tuple((item.bag, item.status) for item in report.outcomes)
        reasons = ' '.join(item.reason for item in report.outcomes)
        return Ended('report', reasons.strip(), report.exit_code, outcomes)

    def spelled(self, path, kind, folder):
        if kind == 'relative':
            return os.path.relpath(path, folder)
        if kind == 'through a link':
            return str(self.world / 'shortcut' / path.relative_to(self.site))
        if kind == 'a link':
            link = self.world / 'elsewhere' / 'a link'
            self.link(link, os.path.relpath(path, link.parent))
            return str(link)
        return str(path)

    def refusals(self, mode, wanted, how):
        """Return why a command must be refused, '' if it must not, and whether it may be."""
        if self.workspace in self.theirs:
            return 'that the workspace is not ours', True
        if mode == 'create' and (self.dataset or self.output in self.theirs):
            return 'that the output exists', True
        if mode != 'create' and not self.dataset:
            return 'that there is no dataset', True
        if mode == 'retry' and not wanted:
            return 'that no bag failed', True
        missing = not all(map(self.exists, wanted))
        if missing and mode != 'retry':
            return 'that a recording does not exist', True
        changed = any(
            item in self.shard_of and self.shard_of[item] != self.content(item) for item in wanted
        )
        to_nothing = mode == 'create' and how.output == 'a link'
        return '', missing or changed or to_nothing or self.is_unknown

    @property
    def is_unknown(self):
        """Whether others have put something into a workspace that does not say whose it is yet."""
        known = (self.workspace / 'configuration.json').exists()
        return not known and any(self.workspace in path.parents for path in self.theirs)

    def place(self):
        """Return where the dataset is: beside the output if a swap was killed."""
        previous = self.workspace / 'previous'
        self.displaced = not os.path.lexists(self.output) and previous.exists()
        return previous if self.displaced else self.output

    def observe(self, mode, ends, held, good, wanted):
        """Learn what the dataset holds now; nothing may be lost, nothing else come in."""
        root = self.place()
        if root in self.theirs or not root.exists():
            assert self.dataset is None, 'the dataset is lost'
            now = set()
        else:
            truth = self.truth(root)
            now = {content_of(rows) for rows in truth.episodes} - {None}
            dataset = self.dataset or Dataset()
            failed = {self.named(e.name) for e in truth.record if e.status == 'failed'}
            if len(ends) == 1 and ends[0].kind == 'report':
                failing = {item for item in wanted if not self.content(item)}
                expected = (dataset.failed - set(wanted)) | failing
                assert failed - expected <= dataset.failed
                # Of copies that fail, one is in the record.
                untold = {*map(self.bytes_of, expected)} - {*map(self.bytes_of, failed)}
                assert not untold, f'{expected - failed} failed and is not in the record'
            dataset.contents, dataset.failed = sorted(now), failed
            self.dataset = dataset
        assert held <= now, f'lost {held - now}'
        assert now <= held | good, f'made {now - held - good}'
        if len(ends) == 1 and ends[0].kind == 'report' and self.output not in self.theirs:
            assert now == held | good, f'{held | good - now} is not converted: {ends[0]}'

    def check_report(self, ended, wanted, held, good):
        """Demand that what is told of each recording is what became of it."""
        by_content = {}
        failed = set()
        for bag, status in ended.outcomes:
            item = self.named(Path(bag).name)
            content = self.content(item)
            if status == 'failed':
                assert not content, f'{bag} failed: {ended}'
                failed.add(item)
            else:
                by_content.setdefault(content, []).append(status)
        for content in good:
            statuses = Counter(by_content.get(content, ()))
            done = statuses['converted'] + statuses['kept']
            assert done == (content not in held), f'{content}: {statuses}: {ended}'
            if content in self.finished and content not in held:
                assert statuses['kept'], f'{content} was finished and is converted again: {ended}'
        bad = {item for item in wanted if not self.content(item)}
        assert {self.bytes_of(item) for item in bad} == {self.bytes_of(item) for item in failed}
        assert ended.exit_code == bool(bad), ended

    def find_beside(self, ends, good):
        """Find what was made beside an output that was taken."""
        found = [
            path.parent.parent
            for path in self.site.rglob('meta/info.json')
            if path not in self.theirs and self.output not in path.parents
        ]
        assert all(ended.kind != 'report' or ended.exit_code == 1 for ended in ends), ends
        if good:
            assert len(found) == 1, f'the finished dataset is not beside the output: {ends}'
        for root in found:
            contents = [content_of(rows) for rows in dataset_truth.read(root).episodes]
            assert set(contents) == good
            self.own_all(root)
            REACHED['kept beside'] += 1

    def shards(self):
        """Yield the complete shards of the workspace with their contents."""
        for manifest in sorted(self.workspace.glob('shards/*/shard.json')):
            if manifest.parent.suffix:
                continue
            try:
                rows = dataset_truth.table(manifest.parent / 'data.parquet')['observation.state']
            except (OSError, pa.ArrowInvalid):
                continue
            yield content_of(rows.to_pylist()), manifest.parent

    def note_shards(self, wanted, held):
        now = {content for content, _ in self.shards()} - {None}
        for item in wanted:
            if self.content(item) in now:
                self.shard_of[item] = self.content(item)
        if not any(self.workspace.glob('shards/*')):
            self.shard_of.clear()
        in_dataset = set(self.dataset.contents) if self.dataset else set()
        lost = self.finished - now - in_dataset
        if not in_dataset - held:
            assert not lost, f'the finished shards of {lost} are lost'
        self.finished = now

    # What must hold after every step.

    @invariant()
    def nothing_is_lost(self):
        self.check_theirs()
        self.check_dataset()

    def check_theirs(self):
        """No byte that the tool did not write is changed or removed; it leaves none elsewhere."""
        root = self.place()
        found = snapshot(self.world)
        for path, state in self.theirs.items():
            moved = self.displaced and self.output in path.parents
            place = root / path.relative_to(self.output) if moved else path
            now = found.pop(str(place), None)
            assert now == state, f'{place}: was {state}, is {now}'
        places = [str(self.workspace), *([str(root)] if self.dataset else [])]
        for path in found:
            of_the_tool = path.startswith(tuple(f'{place}/' for place in places))
            known = (*places, str(self.output.parent))
            assert of_the_tool or path in known, f'{path}: came from nowhere'

    def check_dataset(self):
        """Demand that the dataset holds every episode once, or is not there."""
        root = self.place()
        if self.dataset is None:
            assert root in self.theirs or not os.path.lexists(root), 'there is half a dataset'
            return
        truth = self.truth(root)
        expected = [rows for content in self.dataset.contents for rows in episodes_of(content)]
        assert sorted(truth.episodes) == sorted(expected + self.dataset.foreign)
        recorded = [entry.episodes for entry in truth.record if entry.status == 'converted']
        assert sorted(recorded) == sorted(map(episodes_of, self.dataset.contents))
        info = json.loads((root / 'meta/info.json').read_text())
        assert {key: info.get(key) for key in self.dataset.info} == self.dataset.info
        theirs = {
            str(root / path.relative_to(self.output))
            for path in self.theirs
            if self.output in path.parents
        }
        used = {str(folder) for file in truth.files for folder in file.parents}
        for path in self.files.keys() - set(map(str, truth.files)) - theirs - used:
            raise AssertionError(f'{path}: came from nowhere')
        for path, state in self.files.items():
            if path.startswith(f'{root}/conversion/') and path not in theirs:
                told = str(self.world).encode() in state[-1] if state[0] == 'file' else False
                assert not told, f'{path}: names a folder of this machine'

    def truth(self, root):
        """Read the dataset, if it is not as it was when it was read."""
        files = snapshot(root)
        if files != self.files:
            self.files, self._truth = files, dataset_truth.read(root)
        return self._truth


@contextmanager
def inside(folder, umask):
    """Run something in another folder and under another umask."""
    before, mask = os.open('.', os.O_RDONLY), os.umask(umask)
    os.chdir(folder)
    try:
        yield
    finally:
        os.fchdir(before)
        os.close(before)
        os.umask(mask)


def content_of(rows):
    """Return the content that an episode's rows are from, None if another program wrote them."""
    number = int(rows[0][0])
    return CONTENTS[number] if number < len(CONTENTS) else None


def test_nothing_is_lost_in_the_life_of_a_folder(tmp_path_factory):
    FolderLife.recorded = Pool(tmp_path_factory.mktemp('recorded'))
    fast = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=fast) as FolderLife.folder:
        run_state_machine_as_test(
            FolderLife,
            settings=settings(
                max_examples=HISTORIES,
                stateful_step_count=STEPS,
                derandomize=DERANDOMIZE,
                database=None,
                deadline=None,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=[
                    HealthCheck.too_slow,
                    HealthCheck.filter_too_much,
                    HealthCheck.data_too_large,
                ],
            ),
        )
    for name, count in sorted(REACHED.items()):
        print(f'{count:6} {name}')  # noqa: T201
    assert not DERANDOMIZE or not {name for name in TO_REACH if REACHED[name] < OFTEN}
