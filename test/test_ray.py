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

"""Bags that a Ray cluster of two nodes converts become the dataset that one process makes."""

from functools import partial
import os
import sys
import threading
import time

from arm_runs import convert_arm, statuses, write_bag, write_profile
from conversions import run, write_samples
from dataset_reading import tree
import executor_work as work
from executor_work import run_work, wait_until
from kuavo_bag_converter.jobs.convert import convert_bags
from kuavo_bag_converter.jobs.executors import ray_cluster, ray_task
from kuavo_bag_converter.jobs.executors.model import Died, Task
from kuavo_bag_converter.jobs.executors.ray_cluster import RayExecutor
from kuavo_bag_converter.jobs.executors.ray_task import look_around
from kuavo_bag_converter.settings import settings_from
from kuavo_bag_converter.support.errors import Cancelled, UsageError
from observers import Warnings
import pytest

SMALL = {'train_hz': 10, 'sample_drop': 0, 'executor': 'ray', 'jobs': 0}
STORE = 80 << 20
"""The least object store that a node of Ray can have, bytes."""


@pytest.fixture(scope='module')
def ray():
    return pytest.importorskip('ray', reason='ray is not installed')


@pytest.fixture(scope='module')
def cluster(ray):
    """Return a cluster of two nodes with a core each."""
    from ray.cluster_utils import Cluster

    node = {'num_cpus': 1, 'object_store_memory': STORE}
    with pytest.MonkeyPatch.context() as patch:
        # The nodes have what this process has.
        patch.setenv('PYTHONPATH', os.pathsep.join(filter(None, sys.path)))
        head = {**node, 'include_dashboard': False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        cluster.add_node(**node)
        patch.setenv('RAY_ADDRESS', cluster.address)
        yield cluster
        if ray.is_initialized():
            ray.shutdown()
        cluster.shutdown()


def executor(cancel=None, **values):
    given = {'jobs': 0, 'threads': 0, 'memory_limit_mb': 0}
    return RayExecutor(**given | values, cancel=cancel or threading.Event())


def test_the_dataset_is_the_same(cluster, tmp_path):
    bags = write_samples(tmp_path, 3, seconds=1.2, size=(48, 64), depth=False)
    bags.append(tmp_path / 'no.bag')
    bags[-1].write_bytes(b'#ROSBAG V2.0\n')
    done = run(bags, tmp_path / 'ray', **SMALL)
    assert statuses(done) == ['converted'] * 3 + ['failed']
    one = run(bags, tmp_path / 'one', **SMALL | {'executor': 'local', 'jobs': 1})
    assert done.alignment == one.alignment
    assert tree(tmp_path / 'ray') == tree(tmp_path / 'one')


def test_a_node_that_is_lost_in_the_middle_costs_nothing(cluster, tmp_path):
    profile = write_profile(tmp_path)
    bags = [write_bag(tmp_path / f'bags/{number}.bag', number, 5) for number in range(6)]
    node = cluster.add_node(num_cpus=3, object_store_memory=STORE)
    (tmp_path / 'doomed').write_text(node.node_id)

    def lose():
        wait_until((tmp_path / 'begun').exists)
        cluster.remove_node(node, allow_graceful=False)

    losing = threading.Thread(target=lose)
    losing.start()
    values = {'bags': list(map(str, bags)), 'profile': str(profile)}
    values |= {'output': str(tmp_path / 'ray'), 'executor': 'ray', 'jobs': 0}
    warnings = Warnings()
    fill = partial(work.fill_that_hangs_on_a_node, tmp_path)
    done = convert_bags(settings_from(values, 'test'), observer=warnings, fill=fill)
    losing.join()
    assert statuses(done) == ['converted'] * 6
    assert any('its node was lost; it is tried once more' in line for line in warnings.lines)
    convert_arm(bags, tmp_path / 'one', profile)
    assert tree(tmp_path / 'ray') == tree(tmp_path / 'one')


def test_a_task_whose_process_dies_is_done_again_and_then_named(cluster, tmp_path):
    notes = []
    inputs = [('kill', tmp_path / 'once', 1), ('kill', tmp_path / 'twice', 2), ('answer', 3)]
    results = run_work(executor(), work.act, inputs, on_event=lambda *event: notes.append(event))
    assert (results[1], results[3]) == ('survived', 3)
    assert results[2] == Died('its process has died on its node, each time that it was tried')
    assert sorted(number for number, *_ in notes) == [1, 2]


def test_an_error_that_is_not_of_a_bag_ends_the_run_with_its_traceback(cluster):
    with pytest.raises(ZeroDivisionError) as caught:
        run_work(executor(), work.act, [('divide',)])
    assert 'executor_work.py' in str(caught.value.__cause__)


def test_a_run_that_is_cancelled_ends_soon(cluster):
    cancel = threading.Event()
    threading.Timer(1.0, cancel.set).start()
    begin = time.monotonic()
    with pytest.raises(Cancelled):
        run_work(executor(cancel), work.threads, [60.0, 60.0])
    assert time.monotonic() - begin < 30


def test_nodes_that_see_other_things_are_refused(cluster, tmp_path, monkeypatch):
    one = executor()
    try:
        bag = write_bag(tmp_path / 'bags/0.bag', 0)
        one.check_reach(tmp_path, [bag])
        with pytest.raises(UsageError, match=r'does not see .*gone\.bag; put the bags on a disk'):
            one.check_reach(tmp_path, [bag, tmp_path / 'gone.bag'])
        here = {**ray_cluster.versions(), 'numpy': '1.0'}
        monkeypatch.setattr(ray_cluster, 'versions', lambda: here)
        with pytest.raises(UsageError, match=r'node .*: numpy is .*, where the run is it is 1\.0'):
            one.check_reach(tmp_path, [bag])
        assert list(tmp_path.iterdir()) == [tmp_path / 'bags']
    finally:
        one.close()


def test_a_node_that_comes_later_and_differs_ends_the_run(cluster, tmp_path, monkeypatch):
    one = executor()
    try:
        one.check_reach(tmp_path, [])
        (answer,) = dict(one.map(work.act, [Task(1, 1)], lambda _: ('answer', 5), print)).values()
        assert answer == 5
        # The node has the versions that this process does not have any more.
        monkeypatch.setattr(ray_task, 'versions', lambda: {'av': '1.0'})
        with pytest.raises(UsageError, match=r'node .*: av is .*, where the run is it is 1\.0'):
            list(one.map(work.act, [Task(1, 1)], lambda _: ('answer', 5), print))
        monkeypatch.undo()
        one.check_reach(tmp_path, [])
        monkeypatch.setattr(one, '_folder', tmp_path / 'gone')
        with pytest.raises(UsageError, match=r'does not see .*/gone; choose an output'):
            list(one.map(work.act, [Task(1, 1)], lambda _: ('answer', 5), print))
    finally:
        one.close()


def test_a_node_that_cannot_write_tells_why(tmp_path):
    _, problem, missing = look_around(tmp_path / 'not/there', [tmp_path, tmp_path / 'other'])
    assert problem == 'No such file or directory'
    assert missing == [tmp_path / 'other']


def test_without_ray_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(UsageError, match=r'pip install "kuavo_bag_converter\[ray\]"'):
        executor()
