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

"""Files of other containers are read as bags by other packages."""

from __future__ import annotations

import json

from conversions import report, rows, run
from kuavo_bag_converter.support.errors import Cancelled
import numpy as np
from observers import CancelAfter
from plain_robot import BEGIN, MS
from plugin_packages import build_example, command, EXAMPLES, installed, write_package
import pytest

PROFILE = EXAMPLES / 'csv_log' / 'profile.yaml'
CODE = """
from kuavo_bag_converter.bags.storage_plugins import BagMessage, Container
class Any(Container):
    suffixes = ('.csv',)
    def matches(self, path, begin):
        return path.suffix == '.csv'
    def read(self, path):
        BODY
it = Any()
"""


@pytest.fixture(scope='module')
def package(tmp_path_factory):
    return build_example(tmp_path_factory.mktemp('package'), 'csv_log')


def csv_log(path, *, count=200, last=''):
    """Write a log of 100 Hz: joint ``j`` is at ``k (j + 1)`` / 100, its target 1 further."""
    lines = ['stamp_ns,topic,values']
    for k in range(count):
        joints = np.arange(1, 4) * k / 100
        for topic, values in (('/joints', joints), ('/target', joints + 1)):
            lines.append(','.join([str(BEGIN + k * 10 * MS), topic, *map(str, values)]))
    path.parent.mkdir(exist_ok=True)
    path.write_text('\n'.join([*lines, last]))
    return path


def convert(capsys, bag, output, *more):
    words = ['convert', bag, '--output', output, '--set', f'profile={PROFILE}', *more]
    return command(capsys, *words)


def test_a_log_is_converted_and_verified(package, tmp_path, capsys):
    bag, output = csv_log(tmp_path / 'log.csv'), tmp_path / 'dataset'
    with installed(package):
        assert convert(capsys, bag, output)[0] == 0
        code, out, _ = command(capsys, 'verify', output, '--bags', bag)
    assert (code, 'compared with 1 bag' in out) == (0, True)
    state = np.stack(rows(output)['observation.state'])
    assert state == pytest.approx(np.outer(np.arange(100) / 50, [1, 2, 3]), abs=1e-6)
    assert np.stack(rows(output)['action']) == pytest.approx(state + 1, abs=1e-6)
    assert report(output)['converter']['plugins'] == ['csv_log (csv-log 1.0)']


def test_a_folder_of_logs_is_searched_for_them(package, tmp_path, capsys):
    for name in ('a', 'b'):
        csv_log(tmp_path / 'logs' / f'{name}.csv', count=100 if name == 'a' else 101)
    (tmp_path / 'logs' / 'notes.txt').write_text('stamp_ns,topic,values\n')
    (tmp_path / 'logs' / 'labels.csv').write_text('bag,label\n')
    with installed(package):
        assert convert(capsys, tmp_path / 'logs', tmp_path / 'dataset')[0] == 0
    assert [bag['status'] for bag in report(tmp_path / 'dataset')['bags']] == ['converted'] * 2


def test_inspect_says_what_it_holds(package, tmp_path, capsys):
    bag = csv_log(tmp_path / 'log.csv', count=20)
    with installed(package):
        code, out, _ = command(capsys, 'inspect', '--json', bag)
    found = json.loads(out)['bags'][0]
    assert (code, found['container'], found['messages']) == (0, 'csv_log', 40)
    assert found['topics'][0]['fields']['data']['first'] == [0.0, 0.0, 0.0]


def test_without_the_package_it_is_no_bag_but_a_table_of_bags(tmp_path, capsys):
    bag = csv_log(tmp_path / 'log.csv', count=3)
    code, _, err = convert(capsys, bag, tmp_path / 'dataset')
    assert code == 2
    assert 'log.csv: expected the column path in the first line' in err


def test_damage_fails_the_bag_or_ends_it(package, tmp_path, capsys):
    bag = csv_log(tmp_path / 'log.csv', last=f'{BEGIN + 9000 * MS},/joints,1.0,wrist,3.0')
    with installed(package):
        code, out, _ = convert(capsys, bag, tmp_path / 'dataset')
        assert code == 1
        assert (
            f'csv_log (csv-log 1.0): {bag}: behind 400 messages: ValueError: could not convert '
            "string to float: 'wrist'; set on_damage: salvage to keep what can be read"
        ) in out
        assert not (tmp_path / 'dataset').exists()
        code, out, _ = convert(
            capsys, bag, tmp_path / 'dataset', '--set', 'on_damage=salvage'
        )  # fmt: skip
    assert code == 0
    (entry,) = report(tmp_path / 'dataset')['bags']
    (problem,) = entry['problems']
    assert 'log.csv: behind 400 messages: ValueError: could not convert' in problem
    assert entry['frames'] == 100


def test_rosbag2_py_does_not_read_it(package, tmp_path, capsys):
    bag = csv_log(tmp_path / 'log.csv', count=3)
    with installed(package):
        code, out, _ = convert(capsys, bag, tmp_path / 'dataset', '--set', 'reader=rosbag2_py')
    assert code == 1
    assert (
        'log.csv: is of the container csv_log, which rosbag2_py does not read; set reader' in out
    )


@pytest.mark.parametrize(
    ('body', 'expected'),
    [
        ('1 / 0', 'behind 0 messages: ZeroDivisionError: division by zero'),
        ("return [BagMessage('/a', 'b/msg/C', 'now', b'')]", 'behind 0 messages: TypeError: '),
        ("return [BagMessage('/a', 'b/msg/C', 1, b''), (1, 2)]",
         'behind 1 messages: ValueError: not enough values to unpack'),
        ("return [BagMessage('/a', None, 1, b'')]",
         "behind 0 messages: TypeError: ('/a', None): topic, type, encoding and definition must "
         'be texts'),
    ],
)  # fmt: skip
def test_what_it_raises_is_one_line_that_names_it(tmp_path, capsys, body, expected):
    write_package(tmp_path, 'bad', CODE.replace('BODY', body), group='storages')
    bag = csv_log(tmp_path / 'log.csv', count=3)
    with installed(tmp_path):
        code, out, err = convert(capsys, bag, tmp_path / 'dataset')
    assert (code, 'Traceback' in out + err) == (1, False)
    assert f'bad (bad 1.0): {bag}: {expected}' in out


def test_payloads_are_read_only_where_they_are_wanted(tmp_path, capsys):
    code = (
        CODE.replace('BODY', 'yield from messages()')
        + """
def messages():
    from struct import pack
    for k in range(200):
        for topic in ('/joints', '/target', '/unused'):
            payload = pack('<4s3I4x3d', bytes([0, 1, 0, 0]), 0, 0, 3, k, k, k)
            yield BagMessage(topic, 'std_msgs/msg/Float64MultiArray', 10**18 + k * 10**7,
                             fail if topic == '/unused' else lambda payload=payload: payload)
def fail():
    raise RuntimeError('nobody needs it')
"""
    )
    write_package(tmp_path, 'lazy', code, group='storages')
    bag = csv_log(tmp_path / 'log.csv', count=3)
    with installed(tmp_path):
        assert convert(capsys, bag, tmp_path / 'dataset')[0] == 0
    state = np.stack(rows(tmp_path / 'dataset')['observation.state'])
    assert state[:, 0] == pytest.approx(np.arange(len(state)) * 2)


@pytest.mark.parametrize(
    ('name', 'code', 'expected'),
    [
        ('bad', 'it = 3', 'bad (bad 1.0): lacks suffixes and matches and open; an entry point in '
                          'kuavo_bag_converter.storages is an object with suffixes, matches, '
                          'open'),
        ('mcap', CODE.replace('BODY', 'pass'),
         'mcap (mcap 1.0): has the name of a container of this package; rename it'),
        ('bad', CODE.replace('BODY', 'pass').replace("path.suffix == '.csv'", '1 / 0'),
         'bad (bad 1.0): matches() for '),
        ('bad', CODE.replace('BODY', 'pass').replace("('.csv',)", "'.csv'"),
         "bad (bad 1.0): its suffixes must be a tuple of texts, found '.csv'"),
    ],
)  # fmt: skip
def test_what_is_no_container_is_refused(tmp_path, capsys, name, code, expected):
    write_package(tmp_path, name, code, group='storages')
    bag = csv_log(tmp_path / 'log.csv', count=3)
    with installed(tmp_path):
        found, out, err = convert(capsys, bag, tmp_path / 'dataset')
    assert (found, 'Traceback' in out + err) == (2, False)
    assert err.splitlines()[-1].startswith(f'error: {expected}')


def test_two_may_not_take_one_file(package, tmp_path, capsys):
    write_package(tmp_path, 'other', CODE.replace('BODY', 'pass'), group='storages')
    bag = csv_log(tmp_path / 'log.csv', count=3)
    with installed(package, tmp_path):
        code, _, err = convert(capsys, bag, tmp_path / 'dataset')
    assert code == 2
    assert f'error: {bag}: is taken by ' in err
    assert 'csv_log (csv-log 1.0)' in err
    assert 'other (other 1.0)' in err


def test_an_unfinished_run_goes_on_with_the_same_plugins_alone(package, tmp_path, capsys):
    logs = tmp_path / 'logs'
    for name, count in (('a', 100), ('b', 101)):
        csv_log(logs / f'{name}.csv', count=count)
    stop = CancelAfter(1)
    write_package(tmp_path / 'more', 'other', 'it = None', group='writers')
    with installed(package):
        with pytest.raises(Cancelled):
            run(
                logs, tmp_path / 'dataset', observer=stop, cancel=stop.cancel,
                profile=str(PROFILE),
            )  # fmt: skip
        with installed(tmp_path / 'more'):
            code, _, err = convert(capsys, logs, tmp_path / 'dataset')
        assert code == 2
        assert (
            "an unfinished run has other settings (plugins was ['csv_log (csv-log 1.0)'], now "
            "['csv_log (csv-log 1.0)', 'other (other 1.0)']); use the same ones to go on"
        ) in err
        assert convert(capsys, logs, tmp_path / 'dataset')[0] == 0
    assert [bag['status'] for bag in report(tmp_path / 'dataset')['bags']] == ['converted'] * 2
