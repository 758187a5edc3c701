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

"""``convert_server`` as its clients meet it: its services, and how it begins and ends."""

import importlib.util
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading

from conversions import run, write_samples
import pytest
from stuck_codecs import DECODER_HANGS, wait_for_line

if importlib.util.find_spec('rclpy') is None:
    pytest.skip('no rclpy here: needs a sourced ROS 2 or its wheels', allow_module_level=True)

from convert_servers import Client, Gate, PATIENCE_S, Server  # noqa: I100
from dataset_reading import info, tree
from diagnostic_msgs.msg import DiagnosticStatus
from kuavo_bag_converter.node import goals
from kuavo_bag_converter.node.server import run as run_server
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterValue

ROOT = Path(__file__).resolve().parent.parent
SMALL = {'sample_drop': 0, 'resize__width': 80, 'resize__height': 60}
pytestmark = pytest.mark.usefixtures('domain')


@pytest.fixture(scope='module')
def bags(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bags')
    return list(map(str, write_samples(folder, 2, seconds=1.5, size=(60, 80), extras=False)))


@pytest.fixture
def start(monkeypatch):
    servers = []

    def start(*arguments, **options):
        servers.append(Server(monkeypatch, *arguments, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def parameters(**values):
    pairs = [f'{name.replace("__", ".")}:={value}' for name, value in values.items()]
    return ['--ros-args', *(word for pair in pairs for word in ('-p', pair))]


def made_of(folder):
    """Return the files of a dataset, without the record of how it was made."""
    return {path: data for path, data in tree(folder).items() if 'conversion' not in str(path)}


def test_goals_for_one_output_wait_for_each_other_and_make_what_the_command_makes(
    start, bags, tmp_path, monkeypatch
):
    gate = Gate(monkeypatch, 1)
    server = start(*parameters(**SMALL))
    output = str(tmp_path / 'set')
    first = server.submit(bags=bags[:1], output=output)
    gate.wait()
    second = server.submit(bags=bags, output=output, append=True)
    third = server.submit(bags=bags, output=str(tmp_path / 'other'))
    states = {number: goal['state'] for number, goal in server.goals().items()}
    assert states == {first: 'running', second: 'queued', third: 'queued'}

    wrong = server.cancel_goal(goal=7)
    assert not wrong.successful
    assert 'one of those that have not ended: 1, 2, 3' in wrong.reason
    assert server.cancel_goal(goal=third).successful
    assert server.ended(third)['state'] == 'cancelled'
    assert not server.cancel_goal(goal=third).successful

    gate.open()
    assert server.ended(first)['dataset'] == output
    goal = server.ended(second)
    assert (goal['state'], goal['exit_code'], goal['problem']) == ('done', 0, '')
    assert (goal['outcomes'], goal['episodes']) == ({'present': 1, 'converted': 1}, 1)
    by_command = tmp_path / 'by_command'
    run(bags[:1], by_command, **SMALL)
    run(bags, by_command, append=True, **SMALL)
    assert made_of(output) == made_of(by_command)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['by_command', 'set']


def test_a_server_that_appends_makes_the_dataset_first(start, bags, tmp_path):
    output = str(tmp_path / 'set')
    server = start(*parameters(output=output, append='true', **SMALL))
    goal = server.ended(server.submit(bags=bags[:1], append=True))
    assert 'is no dataset to append to' in goal['problem']
    for number, bag in enumerate(bags[:2]):
        goal = server.ended(server.submit(bags=[bag]))
        assert (goal['state'], goal['problem']) == ('done', '')
        assert info(output)['total_episodes'] == number + 1


def test_a_goal_that_is_wrong_is_refused_with_the_reason(start, tmp_path):
    server = start()
    output = str(tmp_path / 'set')
    assert server.refusal(bags=['a.bag']) == 'output: no folder given for the dataset'
    assert server.refusal(output=output) == 'bags: no bag given'
    good = {'bags': ['a.bag'], 'output': output}
    assert "did you mean 'train_hz'?" in server.refusal(**good, train_hzz=5)
    assert 'train_hz: expected int from 1 to 1000, found 0' in server.refusal(**good, train_hz=0)
    assert "bags: expected str list, found '/x'" in server.refusal(bags='/x', output=output)
    twice = [ParameterMessage(name='output')] * 2
    assert server.call_with('submit', twice).reason == 'goal: output: given twice'
    foreign = ParameterMessage(name='output', value=ParameterValue(type=42))
    reason = server.call_with('submit', [foreign]).reason
    assert reason == 'goal: output: 42 is no type of a parameter'
    assert not server.call_with('cancel_goal', [foreign]).successful
    assert server.goals() == {}
    assert not server.cancel_running().success

    # What only the run finds out is in the result.
    goal = server.ended(server.submit(**good))
    assert (goal['state'], goal['exit_code']) == ('failed', 2)
    assert goal['problem'] == 'a.bag: does not exist'
    assert not list(tmp_path.iterdir())


def test_cancel_stops_the_goal_that_runs_and_keeps_its_finished_bags(
    start, bags, tmp_path, monkeypatch
):
    gate = Gate(monkeypatch, 2)
    output = tmp_path / 'set'
    server = start(*parameters(output=output, **SMALL))
    number = server.submit(bags=bags)
    gate.wait()
    progress = server.goals()[number]['progress']
    assert (progress['bags_done'], progress['bags_total']) == (1, 2)
    response = server.cancel_running()
    assert response.success
    assert f'stopping goal {number}; finished bags are kept' in response.message
    gate.open()
    goal = server.ended(number)
    assert (goal['state'], goal['exit_code'], goal['dataset']) == ('cancelled', 1, '')
    assert 'finished bags are kept' in goal['problem']
    assert not output.exists()
    assert len([*(tmp_path / 'set.unfinished/shards').iterdir()]) == 1

    goal = server.ended(server.submit(bags=bags))
    assert (goal['state'], goal['outcomes']) == ('done', {'kept': 1, 'converted': 1})


def test_the_end_of_the_server_is_a_cancel_of_all_goals(start, bags, tmp_path, monkeypatch, capfd):
    gate = Gate(monkeypatch, 2)
    server = start(*parameters(**SMALL))
    good = {'bags': bags, 'output': str(tmp_path / 'set')}
    server.submit(**good)
    server.submit(**good)
    gate.wait()
    server.cancel.set()
    server.until(lambda: server.goals()[2]['state'] == 'cancelled')
    assert server.refusal(**good) == 'the server is being shut down'
    gate.open()
    server.end()
    assert server.exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ['set.unfinished']
    assert len([*(tmp_path / 'set.unfinished/shards').iterdir()]) == 1
    text = capfd.readouterr().err
    assert 'goal 1: cancelled; finished bags are kept for the next run' in text
    assert 'goal 2: cancelled before it had begun' in text


def test_a_goal_is_refused_while_another_one_runs_if_the_server_is_asked_to(
    start, bags, tmp_path, monkeypatch
):
    gate = Gate(monkeypatch, 1)
    server = start(
        *parameters(when_busy='reject', use_sim_time='true', **SMALL),
        *('-r', '__ns:=/robot1', '-r', '__node:=converter'),
        name='/robot1/converter',
    )
    number = server.submit(bags=bags[:1], output=str(tmp_path / 'set'))
    gate.wait()
    refusal = server.refusal(bags=bags[:1], output=str(tmp_path / 'other'))
    assert refusal == 'busy with goal 1, and when_busy is reject'
    gate.open()
    assert server.ended(number)['state'] == 'done'
    server.ended(server.submit(bags=['absent.bag'], output=str(tmp_path / 'other')))

    # Nobody simulates a clock, and the diagnostics go on.
    server.until(lambda: server.diagnostics and shown(server.diagnostics[-1]) == ('2', 'failed'))
    last = server.diagnostics[-1]
    assert last.name == 'robot1/converter: conversion'
    assert last.level == DiagnosticStatus.ERROR
    assert value_of(last, 'goals_queued') == '0'


def shown(status):
    return value_of(status, 'goal'), value_of(status, 'state')


def value_of(status, key):
    return {item.key: item.value for item in status.values}[key]


def test_no_goal_ends_the_server_and_only_the_last_are_remembered(
    start, bags, tmp_path, monkeypatch, capfd
):
    broken = tmp_path / 'broken.bag'
    broken.write_bytes(b'#ROSBAG V2.0\n' + bytes(100))
    server = start(*parameters(**SMALL))
    output = str(tmp_path / 'set')
    goal = server.ended(server.submit(bags=[*bags[:1], str(broken)], output=output))
    assert (goal['state'], goal['exit_code'], goal['dataset']) == ('failed', 1, output)
    (failure,) = goal['failures']
    assert failure['bag'] == str(broken)
    assert failure['reason']

    with monkeypatch.context() as patch:
        patch.setattr(goals.Goal, 'described', lambda _: 1 / 0)
        server.ask('status')
        server.until(lambda: 'a request was not answered' in capfd.readouterr().err)
    with monkeypatch.context() as patch:
        patch.setattr(goals, 'convert_bags', lambda *_, **__: 1 / 0)
        goal = server.ended(server.submit(bags=bags, output=str(tmp_path / 'other')))
    assert goal['problem'] == 'unexpected ZeroDivisionError: division by zero; please report this'
    assert (goal['state'], goal['exit_code']) == ('failed', 1)

    for _ in range(22):
        last = server.submit(bags=['absent.bag'], output=str(tmp_path / 'other'))
    server.ended(last)
    assert [*server.goals()] == [*range(last - 19, last + 1)]


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (parameters(when_busy='wait'), 'when_busy: expected one of queue, reject, found'),
        (parameters(train_hz=0), 'train_hz: expected int from 1 to 1000, found 0'),
        (['some.bag'], 'some.bag: convert_server takes ROS parameters only'),
    ],
)
def test_wrong_use_ends_with_exit_code_2(arguments, expected, monkeypatch, capfd):
    monkeypatch.setattr(sys, 'argv', ['convert_server', *arguments])
    assert run_server(threading.Event()) == 2
    assert expected in capfd.readouterr().err


def test_a_signal_ends_the_server_though_a_codec_is_stuck(bags, tmp_path):
    program = f"""{DECODER_HANGS}
import sys
from kuavo_bag_converter.node.convert_server import main
sys.exit(main())
"""
    process = subprocess.Popen(
        [sys.executable, '-c', program, *parameters(output=tmp_path / 'set', sample_drop=0)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    client = Client()
    client.submit(bags=bags)
    wait_for_line(process, 'stuck')
    os.kill(process.pid, signal.SIGTERM)
    text, _ = process.communicate(timeout=PATIENCE_S)
    client.close()
    assert process.returncode == 0, text
    assert 'goal 1: cancelled; finished bags are kept for the next run; /cam_' in text
    assert 'Traceback' not in text
    assert not (tmp_path / 'set').exists()
