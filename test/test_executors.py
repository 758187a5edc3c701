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

"""Bags that are converted beside each other become the same dataset, whatever happens to one."""

from contextlib import suppress
from io import StringIO
import os
from pathlib import Path
import pickle
import signal
import subprocess
import sys
import threading
import time

from arm_runs import convert_arm, statuses, write_bag, write_profile
from conversions import run, write_samples
from dataset_reading import tree
import executor_work as work
from executor_work import PATIENCE_S, run_work, wait_until
from kuavo_bag_converter.jobs.convert import convert_bags
from kuavo_bag_converter.jobs.display import Display
from kuavo_bag_converter.jobs.executors.choose import choose_executor
from kuavo_bag_converter.jobs.executors.local import LocalExecutor
from kuavo_bag_converter.jobs.executors.memory import MemoryBudget
from kuavo_bag_converter.jobs.executors.model import Died
from kuavo_bag_converter.jobs.executors.ray_task import packed, run_task
from kuavo_bag_converter.jobs.executors.serial import SerialExecutor
from kuavo_bag_converter.jobs.report import Observer
from kuavo_bag_converter.settings import Settings, settings_from
from kuavo_bag_converter.support.errors import Cancelled, DatasetError, UsageError
from kuavo_bag_converter.support.machine import available_bytes, cores
from kuavo_bag_converter.support.process import MB, resident_bytes
from observers import CancelAfter, Warnings
import pytest

SMALL = {'train_hz': 10, 'sample_drop': 0}
WORKER = b'kuavo_bag_converter.jobs.executors.worker'


def workers(parent):
    """Return the ids of the workers of a process."""
    found = []
    for folder in Path('/proc').glob('[0-9]*'):
        with suppress(FileNotFoundError, ProcessLookupError):
            of = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
            if of == parent and WORKER in (folder / 'cmdline').read_bytes():
                found.append(int(folder.name))
    return found


@pytest.fixture
def profile(tmp_path):
    return write_profile(tmp_path)


@pytest.fixture
def bags(tmp_path):
    """Six recordings of about a size, so that they are begun in their order."""
    return [write_bag(tmp_path / f'bags/{number}.bag', number, 3 + number) for number in range(6)]


class Events(Observer):
    """Keeps what is told of each bag, in order."""

    def __init__(self):
        self.of = {}
        self.started = []

    def bag_started(self, number, total, bag):
        self.started.append(number)
        self.of.setdefault(number, []).append('started')

    def planned(self, number, plan):
        self.of[number].append('planned')

    def bag_finished(self, number, outcome, plan):
        self.of[number].append(outcome.status)


# --- the same dataset


def test_bags_beside_each_other_become_the_same_dataset(tmp_path):
    bags = write_samples(tmp_path, 3, seconds=1.2, size=(48, 64), depth=False)
    bags[1].write_bytes(bags[1].read_bytes()[:-100])  # without an index, damaged at its end
    (tmp_path / 'no.bag').write_bytes(b'#ROSBAG V2.0\n')
    bags.append(tmp_path / 'no.bag')
    values = {**SMALL, 'on_damage': 'salvage'}
    one = run(bags, tmp_path / 'one', **values)
    two = run(bags, tmp_path / 'two', jobs=2, **values)
    assert statuses(one) == ['converted', 'converted', 'converted', 'failed']
    assert statuses(two) == statuses(one)
    assert [o.reason for o in two.outcomes] == [o.reason for o in one.outcomes]
    assert [o.problems for o in two.outcomes] == [o.problems for o in one.outcomes]
    assert two.alignment == one.alignment
    assert tree(tmp_path / 'two') == tree(tmp_path / 'one')


def test_the_longest_is_begun_first_and_each_bag_is_told_of_by_its_number(tmp_path, profile):
    frames = (3, 4, 5, 300, 7, 8)
    bags = [write_bag(tmp_path / f'bags/{n}.bag', n, count) for n, count in enumerate(frames)]
    events = Events()
    done = convert_arm(bags, tmp_path / 'out', profile, jobs=3, observer=events)
    assert statuses(done) == ['converted'] * 6
    assert events.started == [4, 1, 2, 3, 5, 6]
    assert events.of == {n: ['started', 'planned', 'converted'] for n in range(1, 7)}
    convert_arm(bags, tmp_path / 'one', profile)
    assert tree(tmp_path / 'out') == tree(tmp_path / 'one')


def test_shards_are_put_together_while_other_bags_are_converted(tmp_path, profile):
    bags = [write_bag(tmp_path / f'bags/{number}.bag', number, 4) for number in range(6)]
    files = []

    class Look(Events):
        """Counts the files of the dataset that grows."""

        def bag_finished(self, number, outcome, plan):
            files.append(len(list(tmp_path.glob('out.unfinished/dataset/data/*/*'))))

    # What stops at a failure is told of its bags in their order.
    convert_arm(bags, tmp_path / 'out', profile, jobs=2, observer=Look(), on_error='stop')
    assert files == [0, 1, 1, 1, 1, 1]
    convert_arm(bags, tmp_path / 'one', profile, on_error='stop')
    assert tree(tmp_path / 'out') == tree(tmp_path / 'one')


def test_a_shard_that_is_damaged_meanwhile_ends_the_run_when_all_bags_are_converted(
    tmp_path, profile
):
    bags = [write_bag(tmp_path / f'bags/{number}.bag', number, 4) for number in range(4)]
    finished = []

    class Damage(Observer):
        """Damages something after the first bag."""

        def bag_finished(self, number, outcome, plan):
            finished.append(number)
            if number == 1:
                (outcome.shard / 'data.parquet').write_bytes(b'')

    with pytest.raises(DatasetError, match=r'data\.parquet: 0 bytes, expected'):
        convert_arm(bags, tmp_path / 'out', profile, jobs=2, observer=Damage())
    assert sorted(finished) == [1, 2, 3, 4]
    assert not list(tmp_path.glob('out.unfinished/dataset*'))
    done = convert_arm(bags, tmp_path / 'out', profile, jobs=2)
    assert statuses(done) == ['converted', 'kept', 'kept', 'kept']


def test_an_unfinished_run_goes_on_with_any_number_of_jobs(tmp_path, profile, bags):
    stop = CancelAfter(3)
    with pytest.raises(Cancelled):
        convert_arm(bags, tmp_path / 'out', profile, jobs=2, observer=stop, cancel=stop.cancel)
    assert workers(os.getpid()) == []
    kept = len(list((tmp_path / 'out.unfinished/shards').glob('*/shard.json')))
    assert kept >= 3
    done = convert_arm(bags, tmp_path / 'out', profile, jobs=3)
    assert statuses(done).count('kept') == kept
    convert_arm(bags, tmp_path / 'one', profile)
    assert tree(tmp_path / 'out') == tree(tmp_path / 'one')


def test_bags_are_added_and_retried_beside_each_other(tmp_path, profile, bags):
    late = bags[1].with_suffix('.late')
    bags[1].rename(late)
    bags[1].write_bytes(b'#ROSBAG V2.0\n')
    for output, jobs in (('one', 1), ('two', 2)):
        convert_arm(bags[:4], tmp_path / output, profile, jobs=jobs)
        done = convert_arm(bags, tmp_path / output, profile, jobs=jobs, append=True)
        expected = ['present', 'failed', 'present', 'present', 'converted', 'converted']
        assert statuses(done) == expected
    assert tree(tmp_path / 'two') == tree(tmp_path / 'one')
    late.rename(bags[1])
    for output, jobs in (('one', 1), ('two', 2)):
        run([], tmp_path / output, jobs=jobs, retry_failed=True)
    assert tree(tmp_path / 'two') == tree(tmp_path / 'one')


def test_after_the_first_bag_that_fails_none_is_taken_whatever_was_done(tmp_path, profile, bags):
    outcomes = {}
    for jobs in (1, 4):
        values = {'bags': list(map(str, bags)), 'profile': str(profile), 'on_error': 'stop'}
        values |= {'output': str(tmp_path / f'with_{jobs}'), 'jobs': jobs}
        done = convert_bags(settings_from(values, 'test'), fill=work.fill_that_fails)
        outcomes[jobs] = [(item.status, item.reason) for item in done.outcomes]
    found = [status for status, _ in outcomes[1]]
    assert found == ['converted'] * 3 + ['failed'] + ['skipped'] * 2
    assert outcomes[4] == outcomes[1]
    assert tree(tmp_path / 'with_4') == tree(tmp_path / 'with_1')


class Terminal(StringIO):
    """Says that it is one."""

    def isatty(self):
        return True


def test_a_terminal_shows_as_many_bags_beside_each_other_as_fit(monkeypatch):
    monkeypatch.setenv('COLUMNS', '70')
    terminal = Terminal()
    display = Display(terminal)
    names = [f'/bags/{name}.bag' for name in 'abcd']
    display.bags_found(names)
    for number, name in enumerate(names, start=1):
        display.bag_started(number, 4, name)
    display.progressed(2, 5, 10)
    assert terminal.getvalue() == (
        '\r\033[K[1/4] a.bag ---------- | [2/4] b.bag #####----- | and 2 more'
    )


# --- what happens to a process


def kill_workers():
    """Kill all workers as soon as there are any."""
    wait_until(lambda: workers(os.getpid()))
    for process in workers(os.getpid()):
        os.kill(process, signal.SIGKILL)


def test_a_process_that_is_killed_costs_nothing(tmp_path, profile, bags):
    killing, warnings = threading.Thread(target=kill_workers), Warnings()
    killing.start()
    done = convert_arm(bags, tmp_path / 'out', profile, jobs=2, observer=warnings)
    killing.join()
    assert statuses(done) == ['converted'] * 6
    assert any('was ended by SIGKILL' in line for line in warnings.lines)
    convert_arm(bags, tmp_path / 'one', profile)
    assert tree(tmp_path / 'out') == tree(tmp_path / 'one')


def local(jobs=2, threads=1, memory_limit_mb=0, cancel=None):
    return LocalExecutor(jobs, threads, memory_limit_mb, cancel or threading.Event())


def test_a_task_whose_process_dies_is_done_again_and_then_named(tmp_path):
    notes = []
    inputs = [('kill', tmp_path / 'once', 1), ('kill', tmp_path / 'twice', 2), ('answer', 3)]
    results = run_work(local(), work.act, inputs, on_event=lambda *event: notes.append(event))
    assert results[1] == 'survived'
    assert results[3] == 3
    died = results[2]
    assert isinstance(died, Died)
    assert died.reason == (
        'its process was ended by SIGKILL, as the system does where memory is short, in the '
        'second attempt, too'
    )
    killed = 'its process was ended by SIGKILL, as the system does where memory is short'
    assert sorted(notes) == [(1, 'retried', killed), (2, 'retried', killed)]


def test_an_exit_code_is_named(tmp_path):
    (died,) = run_work(local(), work.act, [('exit', 7)]).values()
    assert died.reason.startswith('its process has ended with exit code 7')


def test_an_error_that_is_not_of_a_bag_ends_the_run_with_its_traceback():
    with pytest.raises(ZeroDivisionError) as caught:
        run_work(local(), work.act, [('answer', 1), ('divide',)])
    assert 'executor_work.py' in str(caught.value.__cause__)
    with pytest.raises(UsageError, match='as it was raised'):
        run_work(local(), work.act, [('refuse', 'as it was raised')])


def test_an_error_that_cannot_be_made_again_comes_back_by_its_words(tmp_path):
    given = ('raise a pair', 'salt', 'pepper')
    answer = run_task(packed(work.act, tmp_path), 1, pickle.dumps(given), 1, 0)
    succeeded, error, text = pickle.loads(answer)
    assert not succeeded
    assert 'in act' in text
    with pytest.raises(RuntimeError) as caught:
        run_work(local(), work.act, [given])
    assert str(caught.value) == str(error) == 'PairError: salt and pepper'


def test_a_bag_whose_process_dies_twice_fails_by_name_and_the_others_go_on(
    tmp_path, profile, bags
):
    values = {'bags': list(map(str, bags)), 'profile': str(profile), 'jobs': 2}
    values['output'] = str(tmp_path / 'out')
    done = convert_bags(settings_from(values, 'test'), fill=work.fill_that_crashes)
    assert statuses(done) == ['converted'] * 3 + ['failed'] + ['converted'] * 2
    assert done.exit_code == 1
    assert done.outcomes[3].reason.startswith('its process was ended by SIGSEGV')


class Losing(SerialExecutor):
    """Loses the processes of a task, each time it is tried."""

    def map(self, work, tasks, begin, on_event, *, in_order=False):  # noqa: A003
        for number, result in super().map(work, tasks, begin, on_event):
            yield number, Died('its process has gone') if number == 4 else result


def test_a_bag_that_ends_the_process_that_tries_it_fails_by_name(
    tmp_path, profile, bags, monkeypatch
):
    monkeypatch.setattr(
        'kuavo_bag_converter.jobs.convert.choose_executor',
        lambda _settings, _tasks, cancel: Losing(1, 0, cancel),
    )
    done = convert_arm(bags, tmp_path / 'out', profile)
    assert statuses(done) == ['converted'] * 3 + ['failed'] + ['converted'] * 2
    assert done.outcomes[3].reason == 'its process has gone'


def arguments(bags, output, profile, *others):
    program = [sys.executable, '-m', 'kuavo_bag_converter', 'convert', *map(str, bags)]
    return [*program, '--output', str(output), '--set', f'profile={profile}', *others]


@pytest.fixture(scope='module')
def long_bags(tmp_path_factory):
    folder = tmp_path_factory.mktemp('long')
    return write_samples(folder, 2, seconds=2.0, size=(240, 320), depth=False)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_when_the_run_is_ended(tmp_path, long_bags, number):
    others = ('--set', 'jobs=2', '--set', 'train_hz=30')
    program = arguments(long_bags, tmp_path / 'out', 'kuavo', *others)
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True)
    shards = tmp_path / 'out.unfinished/shards'
    wait_until(lambda: any(shards.glob('*.partial')))
    children = workers(process.pid)
    assert children
    process.send_signal(number)
    begin = time.monotonic()
    _, errors = process.communicate(timeout=PATIENCE_S)
    wait_until(lambda: not any(Path(f'/proc/{child}').exists() for child in children))
    assert time.monotonic() - begin < 20
    assert 'Traceback' not in errors
    if number != signal.SIGKILL:
        assert process.returncode == 1
        assert 'cancelled; finished bags are kept' in errors


# --- cores and memory


def test_cores_are_shared_out_and_the_last_task_has_all(monkeypatch):
    monkeypatch.setattr('kuavo_bag_converter.jobs.executors.local.cores', lambda: 8)
    results = run_work(local(2, threads=0), work.threads, [0.3, 0.3, 0.0], sizes=[3, 2, 1])
    assert results[1][0] == results[2][0] == 4
    assert run_work(local(2, threads=3), work.threads, [0.0]) == {1: (3, 0)}
    assert run_work(local(2, threads=0), work.threads, [0.0]) == {1: (8, 0)}


def test_zero_jobs_are_as_many_as_cores_and_bags_allow(monkeypatch):
    monkeypatch.setattr('kuavo_bag_converter.jobs.executors.choose.cores', lambda: 8)
    cancel = threading.Event()

    def jobs(tasks, **values):
        return choose_executor(Settings(**values), tasks, cancel).jobs

    assert jobs(100) == 1
    assert jobs(100, jobs=0) == 8
    assert jobs(100, jobs=0, threads=3) == 2
    assert jobs(3, jobs=0) == 3
    assert jobs(100, jobs=5) == 5
    assert isinstance(choose_executor(Settings(jobs=4), 1, cancel), SerialExecutor)


def test_a_task_waits_until_what_such_tasks_have_taken_is_free(monkeypatch):
    monkeypatch.setattr(
        'kuavo_bag_converter.jobs.executors.memory.available_bytes', lambda: 1250 * MB
    )
    budget = MemoryBudget(0, 4)  # of 1000 MB
    budget.measured('large', 300.0)
    budget.measured('large', 200.0)
    assert budget.share('large', []) == pytest.approx(330)
    assert budget.share('large', [330.0, 330.0]) == pytest.approx(330)
    assert budget.share('large', [330.0, 400.0]) is None
    assert budget.share('unknown', [700.0]) is None  # as the largest of the others
    budget.measured('small', 50.0)
    assert budget.share('small', [330.0, 400.0]) == pytest.approx(55)
    budget.measured('huge', 5000.0)
    assert budget.share('huge', []) == pytest.approx(5500)  # alone it is tried
    assert budget.share('huge', [1.0]) is None


def test_a_share_of_a_limit_that_does_not_suffice_is_doubled():
    own = resident_bytes() / MB
    budget = MemoryBudget(int((own + 1000) / 0.95), 4)
    share = budget.share('', [])
    assert share == pytest.approx(250, abs=30)
    budget.did_not_suffice('', share)
    assert budget.share('', []) == pytest.approx(2 * share)
    assert budget.share('', [share, share, share]) is None
    budget.did_not_suffice('', 4 * share)
    assert budget.share('', [share]) is None
    assert budget.share('', []) == 0  # more than there is


def test_what_does_not_fit_beside_others_is_done_alone_and_then_here():
    limit = int(resident_bytes() / MB) + 800
    results = run_work(local(4, memory_limit_mb=limit), work.takes, [0, 300, 700, 5000])
    inside = {number: result for number, result in results.items() if result[1] != os.getpid()}
    assert inside.keys() == {1, 2, 3}
    assert results[2][0] >= 300
    assert results[3][0] >= 700 - 60
    assert results[4] == (limit, os.getpid())


def test_a_run_with_a_limit_is_the_same_beside_each_other(tmp_path, profile, bags):
    limit = int(resident_bytes() / MB) + 300
    for output, jobs in (('one', 1), ('two', 2)):
        done = convert_arm(bags, tmp_path / output, profile, jobs=jobs, memory_limit_mb=limit)
        assert statuses(done) == ['converted'] * 6
    assert tree(tmp_path / 'two') == tree(tmp_path / 'one')


def test_the_machine_has_cores_and_memory():
    assert 1 <= cores() <= len(os.sched_getaffinity(0))
    total = int(Path('/proc/meminfo').read_text().split()[1]) << 10
    assert 0 < available_bytes() <= total
