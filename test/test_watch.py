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

"""Recordings become part of a dataset when they are complete: not before, and once."""

from contextlib import contextmanager
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

from arm_runs import (
    ARM,
    convert_arm,
    messages,
    states,
    write_bag,
    write_directory,
    write_profile,
)
from bag_files import write_mcap, write_rosbag2
from conversions import report, same_frames
from kuavo_bag_converter.cli.main import run as command
from kuavo_bag_converter.jobs.watch import watch, WatchOptions
from kuavo_bag_converter.settings import settings_from
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.priority import set_priority
from observers import Notes
import pytest

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 60
FRAMES = 4


class Onlooker(Notes):
    """Keeps the lines of a watch, and knows how often it has looked at the folders."""

    def __init__(self):
        super().__init__()
        self.warnings = []
        self.converted = []
        self._looks = 0
        self._changed = threading.Condition()

    def warning(self, text):
        self.warnings.append(text)

    def waiting(self, ready, unfinished):
        with self._changed:
            self._looks += 1
            self._changed.notify_all()

    def bag_finished(self, number, outcome, plan):
        self.converted.append((Path(outcome.bag).name, outcome.status))

    def looks(self, count=4):
        """Wait until the folders were looked at so many times more."""
        with self._changed:
            wanted = self._looks + count
            assert self._changed.wait_for(lambda: self._looks >= wanted, PATIENCE_S)


class Place:
    """A folder that is watched, the dataset that comes of it, and how."""

    def __init__(self, root):
        self.root = root
        self.folder = root / 'in'
        self.output = root / 'out'
        self.profile = write_profile(root)
        self.folder.mkdir()

    def settings(self, **values):
        given = {'bags': [str(self.folder)], 'output': str(self.output)}
        return settings_from(given | {'profile': str(self.profile)} | values, 'test')

    def once(self, observer=None, **values):
        """Convert what is complete; return the report of the watch."""
        options = WatchOptions(poll_s=0.1, once=True, priority='normal')
        return watch(self.settings(**values), options, observer=observer)

    @contextmanager
    def watched(self, **values):
        """Watch in a thread until the end of the block; gives the one who is told."""
        observer, stop = Onlooker(), {name: threading.Event() for name in ('cancel', 'finish')}
        observer.stop = stop
        observer.reports = []

        def work():
            options = WatchOptions(poll_s=0.1, priority='normal')
            observer.reports += [
                watch(self.settings(**values), options, observer=observer, **stop)
            ]

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield observer
        finally:
            stop['cancel'].set()
            thread.join(PATIENCE_S)
            assert not thread.is_alive()

    def start(self, *words, program=''):
        """Start the command in a process of its own, with a program before it."""
        arguments = ['watch', self.folder, '-o', self.output, '--set', f'profile={self.profile}']
        arguments += ['--poll-s', '0.1', '--priority', 'normal', *words]
        text = f'{program}\nimport sys\nfrom kuavo_bag_converter.cli.main import run\n'
        return subprocess.Popen(
            [sys.executable, '-c', f'{text}sys.exit(run(sys.argv[1:]))', *map(str, arguments)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def numbers(self):
        """Return which recordings are in the dataset, in order, each checked to be whole."""
        if not (self.output / 'meta').exists():
            return []
        rows = states(self.output)
        found = list(dict.fromkeys(number for number, _ in rows))
        assert rows == [(number, frame) for number in found for frame in range(FRAMES)]
        return found

    def until(self, *numbers):
        """Wait until the dataset has these recordings."""
        until(lambda: sorted(self.numbers()) == sorted(numbers))


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def until(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def write_recording(path, number, storage='MCAP'):
    """Write a directory whose files are named as those of ``ros2 bag record``."""
    write_rosbag2(path, messages(number, FRAMES), storage, topics=[ARM])
    file = next(file for file in path.iterdir() if file.name != 'metadata.yaml')
    file.rename(path / f'{path.name}_0{file.suffix}')
    text = (path / 'metadata.yaml').read_text()
    (path / 'metadata.yaml').write_text(text.replace(file.name, f'{path.name}_0{file.suffix}'))
    return path


def write_every_kind(folder):
    """Write recordings of every kind that are complete; return their paths, oldest first."""
    paths = [
        write_bag(folder / 'z.bag', 1),
        write_recording(folder / 'y', 2),
        write_mcap(folder / 'x.mcap', messages(3, FRAMES), topics=[ARM]),
        write_recording(folder / 'w', 4, 'SQLITE3'),
    ]
    base = write_recording(folder.parent / 'elsewhere', 5, 'SQLITE3') / 'elsewhere_0.db3'
    paths.append(shutil.copy(base, folder / 'v.db3'))
    for age, path in enumerate(reversed(paths)):
        for file in (path, *path.rglob('*')):
            os.utime(file, (10**9 - age, 10**9 - age))
    return paths


def test_what_is_there_is_converted_oldest_first_and_once(place, tmp_path):
    bags = write_every_kind(place.folder)
    convert_arm(bags, tmp_path / 'expected/out', place.profile)
    done = place.once()
    assert (done.converted, done.exit_code) == (5, 0)
    assert place.numbers() == [1, 2, 3, 4, 5]
    made, expected = same_frames(place.output), same_frames(tmp_path / 'expected/out')
    assert made == expected  # but for the paths of the bags
    observer = Onlooker()
    assert (place.once(observer).converted, observer.converted) == (0, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'arm.yaml', 'elsewhere', 'expected', 'in', 'out'
    ]  # fmt: skip


# Writes a recording that is there already as its recorder does, each step when it is told to.
RECORDER = """
import os, pathlib, sqlite3, sys
source, target = map(pathlib.Path, sys.argv[1:3])

def step(text):
    print(text, flush=True)
    sys.stdin.readline()

def metadata():
    text = (source / 'metadata.yaml').read_text()
    (target / 'metadata.yaml').write_text(text.replace(source.name + '_0', target.name + '_0'))

if source.is_dir():
    target.mkdir()
    name = next(path.name for path in source.iterdir() if path.name != 'metadata.yaml')
if not source.is_dir():
    data = source.read_bytes()
    with open(f'{target}.active', 'wb', buffering=0) as file:
        for part in data[:len(data) // 2], data[len(data) // 2:]:
            file.write(part)
            step('recording')
    os.rename(f'{target}.active', target)
elif name.endswith('.mcap'):
    data = (source / name).read_bytes()
    with (target / name.replace(source.name, target.name)).open('wb', buffering=0) as file:
        file.write(data[:-40])
        step('recording')
        metadata()  # before the file has its footer, as rosbag2 does
        step('recording')
        file.write(data[-40:])
else:
    lines = list(sqlite3.connect(source / name).iterdump())
    base = sqlite3.connect(target / name.replace(source.name, target.name), isolation_level=None)
    base.execute(f'PRAGMA journal_mode={sys.argv[3]}')
    messages = [line for line in lines if line.startswith('INSERT INTO "messages"')]
    for line in lines:
        if line not in messages[2:]:
            base.execute(line)
    step('recording')
    for line in messages[2:]:
        base.execute(line)
    metadata()
    step('recording')
    base.close()
"""


class Recorder:
    """A process that writes a file as a recorder does."""

    def __init__(self, source, target, *words):
        self._process = subprocess.Popen(
            [sys.executable, '-c', RECORDER, source, target, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.wait()

    def wait(self):
        assert self._process.stdout.readline() == 'recording\n'

    def go_on(self):
        self._process.stdin.write('\n')
        self._process.stdin.flush()

    def end(self):
        self.go_on()
        assert self._process.wait(PATIENCE_S) == 0
        self._process.stdout.close()
        self._process.stdin.close()


def test_a_recording_is_taken_when_its_recorder_has_closed_it(place, tmp_path):
    made = tmp_path / 'made'
    made.mkdir()
    sources = {
        'bag.bag': (write_bag(made / 'bag.bag', 1),),
        'mcap': (write_recording(made / 'mcap', 2),),
        'delete': (write_recording(made / 'delete', 3, 'SQLITE3'), 'DELETE'),
        'wal': (write_recording(made / 'wal', 4, 'SQLITE3'), 'WAL'),
    }
    with place.watched() as observer:
        recorders = [
            Recorder(source, place.folder / name, *words)
            for name, (source, *words) in sources.items()
        ]
        observer.looks()
        for recorder in recorders:
            recorder.go_on()
            recorder.wait()
        observer.looks()
        assert place.numbers() == []
        assert observer.converted == []
        for number, recorder in enumerate(recorders, start=1):
            recorder.end()
            place.until(*range(1, number + 1))
    assert len(observer.converted) == 4
    assert {status for _, status in observer.converted} == {'converted'}
    assert observer.reports[0].exit_code == 0
    waiting = {line for line in observer.lines if 'is being recorded: ' in line}
    assert any(re.search(r'delete_0.db3 is open for writing in .*; waits$', line)
               for line in waiting)  # fmt: skip


def test_a_copy_in_progress_is_not_taken(place, tmp_path):
    made = tmp_path / 'made'
    made.mkdir()
    sources = write_every_kind(made / 'in')
    pieces = {}
    for source in sources:
        for file in (source, *sorted(source.rglob('*'), reverse=True)):  # metadata.yaml at last
            if file.is_file():
                pieces[place.folder / file.relative_to(made / 'in')] = file.read_bytes()
    with place.watched() as observer:
        for part in range(3):
            for path, data in pieces.items():
                path.parent.mkdir(exist_ok=True)
                if path.name == 'metadata.yaml':
                    path.write_bytes(data)  # too small to be seen in part, and there at first
                else:
                    size = len(data) * (part + 1) // 4
                    path.write_bytes(data[:size])
            observer.looks()
            assert observer.converted == []
        for path, data in pieces.items():
            path.write_bytes(data)
        place.until(1, 2, 3, 4, 5)
    assert [status for _, status in observer.converted] == ['converted'] * 5
    assert observer.warnings == []


def test_nothing_is_lost_or_doubled_by_a_kill_in_the_middle(place, tmp_path):
    bags = [write_bag(place.folder / f'{number}.bag', number) for number in range(3)]
    assert convert_arm(bags, tmp_path / 'expected/out', place.profile).exit_code == 0
    stuck = (
        'import time\n'
        'import kuavo_bag_converter.jobs.shard as shard\n'
        'real = shard.plan_bag\n'
        'def plan_bag(*arguments):\n'
        '    if "1.bag" in str(arguments[1].path):\n'
        '        print("stuck", flush=True)\n'
        '        time.sleep(1000)\n'
        '    return real(*arguments)\n'
        'shard.plan_bag = plan_bag\n'
    )
    process = place.start(program=stuck)
    assert process.stdout.readline() == 'stuck\n'
    process.kill()
    process.communicate()
    assert not place.output.exists()
    observer = Onlooker()
    assert place.once(observer).converted == 3
    assert observer.converted == [
        ('0.bag', 'kept'),
        ('1.bag', 'converted'),
        ('2.bag', 'converted'),
    ]
    assert same_frames(place.output) == same_frames(tmp_path / 'expected/out')
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'arm.yaml',
        'expected',
        'in',
        'out',
    ]


def test_a_signal_ends_the_watch_with_what_was_done(place):
    write_bag(place.folder / 'a.bag', 1)
    process = place.start()
    place.until(1)
    until(lambda: not place.output.with_name('out.unfinished').exists())
    second = place.start()
    _, said = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 2
    assert f'({place.root}' not in said
    assert f'process {process.pid} watches {place.folder}' in said
    assert said.startswith('error: ')
    assert said.count('\n') == 1
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert text == f'{place.output}: 1 recording added\n'
    assert sorted(path.name for path in place.root.iterdir()) == ['arm.yaml', 'in', 'out']


def test_the_watch_can_be_told_to_finish_first(place, tmp_path):
    source = write_recording(tmp_path / 'made', 7)
    with place.watched() as observer:
        recorder = Recorder(source, place.folder / 'rec')
        observer.looks()
        observer.stop['finish'].set()
        observer.looks()
        assert observer.reports == []
        recorder.go_on()
        recorder.wait()
        recorder.end()
        until(lambda: observer.reports)
    assert place.numbers() == [7]
    assert observer.reports[0].exit_code == 0


def test_a_watch_for_once_does_not_wait_for_a_recorder(place, tmp_path):
    recorder = Recorder(write_recording(tmp_path / 'made', 7), place.folder / 'rec')
    write_bag(place.folder / 'a.bag', 1)
    observer = Onlooker()
    done = place.once(observer)
    assert (done.converted, done.exit_code) == (1, 0)
    assert any('rec: is being recorded: rec_0.mcap is open' in line for line in observer.lines)
    recorder.go_on()
    recorder.wait()
    recorder.end()
    assert place.once().converted == 1
    assert place.numbers() == [1, 7]


def write_parts(folder, hole=0):
    """Write two parts of a recording, with so many frames between them."""
    write_bag(folder / 'r_0.bag', 1, 2)
    return write_bag(folder / 'r_1.bag', 1, 2, first=2 + hole)


def test_a_split_recording_is_taken_as_a_whole(place):
    active = write_parts(place.folder).rename(place.folder / 'r_1.bag.active')
    with place.watched() as observer:
        line = f'{place.folder}/r_0.bag: goes on in r_1.bag.active, which is not complete; waits'
        until(lambda: line in observer.lines)
        assert place.numbers() == []
        active.rename(place.folder / 'r_1.bag')
        place.until(1)
    assert observer.converted == [('r_0.bag', 'converted')]
    assert [len(bag['files']) for bag in report(place.output)['bags']] == [2]


def test_numbered_recordings_do_not_wait_for_each_other(place):
    write_parts(place.folder, hole=50).rename(place.folder / 'r_1.bag.active')
    assert place.once().converted == 1
    assert states(place.output) == [(1, 0), (1, 1)]


@pytest.fixture
def soon(monkeypatch):
    """Take what is unfinished for abandoned at once."""
    monkeypatch.setattr('kuavo_bag_converter.jobs.folders.watched_folders.ABANDONED_S', 0.0)


def write_leftovers(folder):
    """Write what killed recorders leave."""
    whole = write_mcap(folder / 'cut.mcap', messages(1, FRAMES), topics=[ARM]).read_bytes()
    (folder / 'cut.mcap').write_bytes(whole[:-40])
    write_bag(folder / 'a.bag', 2).rename(folder / 'a.bag.active')
    (write_recording(folder / 'rec', 3) / 'metadata.yaml').unlink()
    base = write_recording(folder / 'cut', 4, 'SQLITE3') / 'cut_0.db3'
    base.write_bytes(base.read_bytes()[:-4096])


@pytest.mark.usefixtures('soon')
def test_what_killed_recorders_leave_is_named_once_and_taken_if_asked(place):
    write_bag(place.folder / 'good.bag', 0)
    write_leftovers(place.folder)
    with place.watched() as observer:
        place.until(0)
        observer.looks()
    lacks = {
        'a.bag.active': 'is still called .active',
        'cut': r'its cut_0.db3 is cut: it has \d+ of \d+ bytes',
        'cut.mcap': 'has no footer',
        'rec': 'has no metadata.yaml',
    }
    advice = '; its recorder was killed, or .* watch with on_damage: salvage, .*'
    for name, lack in lacks.items():
        pattern = f'{re.escape(str(place.folder / name))}: {lack}{advice}'
        assert sum(re.fullmatch(pattern, line) is not None for line in observer.warnings) == 1
    assert len(observer.warnings) == 4
    assert observer.reports[0].exit_code == 1
    assert len(observer.reports[0].missing) == 4
    shutil.rmtree(place.folder / 'cut')
    assert place.once(on_damage='salvage').exit_code == 0
    assert place.numbers()[0] == 0
    assert sorted(place.numbers()) == [0, 1, 2, 3]
    assert report(place.output)['settings']['on_damage'] == 'salvage'


def test_what_is_not_whole_yet_is_only_left_for_the_next_time(place):
    write_leftovers(place.folder)
    observer = Onlooker()
    assert place.once(observer, on_damage='salvage').exit_code == 0
    assert observer.warnings == []
    assert sum('; is left for the next watch' in line for line in observer.lines) == 4
    assert not place.output.exists()


def test_a_failed_recording_is_tried_again_when_it_has_changed(place):
    good = write_bag(place.root / 'good.bag', 1).read_bytes()
    (place.folder / 'a.bag').write_bytes(b'nonsense')
    observer = Onlooker()
    assert place.once(observer).exit_code == 1  # there is no dataset yet that could tell
    write_bag(place.folder / 'b.bag', 2)
    with place.watched() as observer:
        place.until(2)
        observer.looks()
        assert observer.converted == [('b.bag', 'converted')]
    assert [bag['status'] for bag in report(place.output)['bags']] == ['failed', 'converted']
    observer = Onlooker()
    done = place.once(observer)
    assert done.exit_code == 1
    a = place.folder / 'a.bag'
    failed = f'{a}: failed before, and has not changed; retry_failed tries it again'
    assert list(done.missing) == [failed] == observer.warnings
    assert 'is not a recording' in place.once(retry_failed=True).missing[0]
    assert [bag['status'] for bag in report(place.output)['bags']] == ['failed', 'converted']
    with place.watched() as observer:
        observer.looks()
        a.write_bytes(good)
        place.until(1, 2)
    assert observer.reports[0].exit_code == 0
    assert [bag['status'] for bag in report(place.output)['bags']] == ['converted'] * 2


def test_what_goes_meanwhile_is_no_fault(place, monkeypatch):
    write_bag(place.folder / 'a.bag', 1)
    lost = write_bag(place.folder / 'b.bag', 2)
    from kuavo_bag_converter.jobs import watch as module

    real = module.convert_bags

    def convert(settings, **options):
        lost.unlink(missing_ok=True)
        return real(settings, **options)

    monkeypatch.setattr(module, 'convert_bags', convert)
    done = place.once()
    assert (done.exit_code, place.numbers()) == (0, [1])


def test_a_link_to_nothing_in_a_recording_does_not_matter(place):
    (write_recording(place.folder / 'a', 1) / 'notes').symlink_to('nowhere')
    (place.folder / 'b.bag').symlink_to('nowhere')
    done = place.once()
    assert place.numbers() == [1]
    assert done.missing == (
        f'{place.folder / "b.bag"}: is a link to nowhere, which does not exist',
    )


def test_a_folder_that_goes_and_comes_back(place):
    with place.watched() as observer:
        observer.looks(1)
        place.folder.rename(place.root / 'away')
        until(lambda: observer.warnings)
        observer.looks()
        assert observer.warnings == [f'{place.folder}: does not exist; looks again every 0.1 s']
        write_bag(place.root / 'away/a.bag', 1)
        (place.root / 'away').rename(place.folder)
        place.until(1)


def test_another_conversion_of_the_output_is_waited_for(place, tmp_path):
    write_bag(place.folder / 'a.bag', 1)
    other = write_bag(tmp_path / 'b.bag', 2)
    entered, go_on = threading.Event(), threading.Event()

    class Holds(Notes):
        """Waits in the first bag."""

        def bag_started(self, *_):
            entered.set()
            assert go_on.wait(PATIENCE_S)

    thread = threading.Thread(
        target=convert_arm, args=([other], place.output, place.profile),
        kwargs={'observer': Holds()},
    )  # fmt: skip
    thread.start()
    assert entered.wait(PATIENCE_S)
    with place.watched() as observer:
        until(lambda: observer.warnings)
        go_on.set()
        place.until(1, 2)
    thread.join()
    assert re.fullmatch(r'.*: another conversion is writing here; waits .*', observer.warnings[0])
    assert len(observer.warnings) == 1


def test_a_recording_that_is_done_is_not_opened_again(place):
    write_every_kind(place.folder)
    opened = []

    def hook(event, arguments):
        if event == 'open' and str(arguments[0]).startswith(f'{place.folder}/'):
            opened.append(arguments[0])

    sys.addaudithook(hook)
    with place.watched() as observer:
        place.until(1, 2, 3, 4, 5)
        observer.looks()
        assert opened
        opened.clear()
        observer.looks(10)
        assert opened == []
    with place.watched() as observer:
        observer.looks(10)
    assert opened == []


def test_a_recording_without_its_task_does_not_stop_the_others(place):
    write_bag(place.folder / 'a.bag', 1)
    path = write_recording(place.folder / 'b', 2)
    text = (path / 'metadata.yaml').read_text()
    noted = re.sub(r'custom_data: .*', 'custom_data: {task: Count twice}', text)
    (path / 'metadata.yaml').write_text(noted)
    done = place.once(tasks='custom_data:task')
    assert place.numbers() == [2]
    assert done.exit_code == 1
    assert re.match(r'.*a\.bag: tasks: custom_data:task: 1 bag of 1 without it', done.missing[0])


def test_wrong_use_is_said_at_once(place, capsys):
    bag = write_bag(place.folder / 'a.bag', 1)
    assert place.once().exit_code == 0
    directory = write_directory(place.root / 'rec', 2)
    (place.root / 'empty').mkdir()
    said = {
        f'{place.root / "none"}: does not exist': {'bags': [str(place.root / 'none')]},
        f'{bag}: is no folder; watch the one': {'bags': [str(bag)]},
        f'{directory}: is a recording; watch': {'bags': [str(directory)]},
        'bags: no folder given': {'bags': []},
        'num_used: a watch takes every recording': {'num_used': 1},
        'shard: a watch takes every recording': {'shard': '1/2'},
        r'was made with other settings \(crf was 23, now 30\)': {'crf': 30},
        'is no dataset to append to|does not exist; only a dataset': {
            'output': str(place.root / 'empty')
        },
        'tasks: expected folder': {'tasks': 'by name'},
        'labels: outcome is there 2 times': {'labels': ['outcome', 'outcome']},
        "preset '12' does not go with vcodec h264": {'preset': '12'},
        'msg_path: .*none': {'msg_path': [str(place.root / 'none')]},
    }
    for text, values in said.items():
        with pytest.raises(UsageError, match=text):
            place.once(**{'bags': [str(place.root / 'empty')]} | values)
    words = ['watch', str(place.folder), '-o', str(place.output), '--poll-s', '0']
    assert command(words) == 2
    assert 'command line: poll_s: expected float of at least 0.1' in capsys.readouterr().err


def test_a_file_for_the_node_serves_the_command(place, capsys):
    write_bag(place.folder / 'a.bag', 1)
    file = place.root / 'params.yaml'
    file.write_text(
        f'/**: {{ros__parameters: {{profile: {place.profile}, poll_s: 5}}}}\n'
        f'watch_node: {{ros__parameters: {{output: {place.output}, priority: normal}}}}\n'
    )
    words = ['watch', str(place.folder), '--once', '--params-file', str(file)]
    assert command([*words, '--set', 'poll_s=0.1']) == 0
    assert capsys.readouterr().out == f'{place.output}: 1 recording added\n'
    assert command([*words, '--set', 'poll_s=0']) == 2
    assert '--set: poll_s: expected float of at least 0.1' in capsys.readouterr().err


def test_what_is_interrupted_is_named_and_done_next_time(place):
    for number in range(3):
        write_bag(place.folder / f'{number}.bag', number)
    cancel = threading.Event()

    class Stops(Onlooker):
        """Cancels the run at its second bag."""

        def bag_started(self, number, *_):
            if number == 2:
                cancel.set()

    options = WatchOptions(poll_s=0.1, priority='normal')
    done = watch(place.settings(), options, observer=Stops(), cancel=cancel)
    assert (done.converted, done.exit_code, len(done.missing)) == (0, 1, 3)
    assert done.missing[0] == (
        f'{place.folder / "0.bag"}: the watch was ended before it was in the dataset'
    )
    assert place.once().converted == 3
    assert place.numbers() == [0, 1, 2]


def test_previews_are_left_out_also_when_their_bag_has_gone(place):
    bag = write_bag(place.folder / 'a.bag', 1)
    preview = write_bag(place.folder / 'a.c.bag', 2)
    observer = Onlooker()
    assert place.once(observer).converted == 1
    assert f'{preview}: is a preview or backup of the bag beside it; is left out' in observer.lines
    bag.unlink()
    assert place.once().converted == 0
    assert place.numbers() == [1]


def test_another_recording_of_the_same_name_and_size_is_converted(place):
    bag = write_bag(place.folder / 'a.bag', 1)
    size = bag.stat().st_size
    assert place.once().converted == 1
    write_bag(place.root / 'b.bag', 2).replace(bag)
    assert bag.stat().st_size == size
    assert place.once().converted == 1
    assert place.numbers() == [1, 2]


def test_a_recording_that_is_written_over_while_it_is_watched_is_converted(place):
    bag = write_bag(place.folder / 'latest.bag', 1)
    other = write_bag(place.root / 'b.bag', 2)
    with place.watched() as observer:
        place.until(1)
        shutil.copyfile(other, bag)  # the same inode
        place.until(1, 2)
        bag.touch()
        observer.looks()
    assert place.numbers() == [1, 2]


def test_recordings_in_a_folder_below_are_not_left_out_in_silence(place):
    day = place.folder / '2026-11-27'
    write_bag(day / 'a.bag', 1)
    place.output = day.with_name('out')  # inside of what is watched
    write_bag(place.folder / 'b.bag', 2)
    for _ in range(2):
        observer = Onlooker()
        assert place.once(observer).exit_code == 0
        named = [line.partition(': holds recordings')[0] for line in observer.lines]
        assert [name for name in named if name not in observer.lines] == [str(day)]
    assert place.numbers() == [2]


@pytest.mark.parametrize('priority', ['low', 'idle'])
def test_priority(priority):
    found = []

    def look():
        set_priority(priority)
        found.append((os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [(19, os.SCHED_IDLE if priority == 'idle' else os.SCHED_OTHER)]
