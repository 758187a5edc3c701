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

"""The action ``~/convert`` of ``convert_server``, where its type is built."""

import importlib.util

from conversions import write_samples
import pytest

if importlib.util.find_spec('rclpy') is None:
    pytest.skip('no rclpy here: needs a sourced ROS 2 or its wheels', allow_module_level=True)
if importlib.util.find_spec('kuavo_bag_converter_interfaces') is None:
    pytest.skip(
        'no kuavo_bag_converter_interfaces here: in a sourced ROS 2, colcon build --base-paths . '
        'interfaces, and source install/setup.bash; without ROS 2, scripts/test_action',
        allow_module_level=True,
    )

from action_msgs.msg import GoalStatus  # noqa: I100
from convert_servers import Gate, PATIENCE_S, Server
from dataset_reading import info
from diagnostic_msgs.msg import KeyValue
from kuavo_bag_converter_interfaces.action import Convert
from rclpy.action import ActionClient

pytestmark = pytest.mark.usefixtures('domain')


@pytest.fixture(scope='module')
def bags(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bags')
    return list(map(str, write_samples(folder, 2, seconds=1.5, size=(60, 80), extras=False)))


SETTINGS = {'sample_drop': '0', 'resize': '{width: 80, height: 60}'}


class Asker:
    """A client of the action."""

    def __init__(self, server, name='/convert_server'):
        self._server = server
        self._client = ActionClient(server.node, Convert, f'{name}/convert')
        assert self._client.wait_for_server(timeout_sec=PATIENCE_S)
        self.feedback = []

    def send(self, settings=None, **fields):
        pairs = (SETTINGS if settings is None else settings).items()
        goal = Convert.Goal(
            settings=[KeyValue(key=key, value=value) for key, value in pairs], **fields
        )
        sending = self._client.send_goal_async(
            goal, feedback_callback=lambda one: self.feedback.append(one.feedback)
        )
        return self._server.result_of(sending)

    def cancel(self, handle):
        return self._server.result_of(handle.cancel_goal_async())

    def close(self):
        self._client.destroy()

    def result(self, handle):
        """Return the terminal status and the result."""
        assert handle.accepted
        answer = self._server.result_of(handle.get_result_async())
        return answer.status, answer.result


@pytest.fixture
def start(monkeypatch):
    started = []

    def start(*arguments):
        server = Server(monkeypatch, *arguments)
        started.append((server, Asker(server)))
        return started[-1]

    yield start
    for server, asker in started:
        server.end()
        asker.close()
        server.close()


def test_the_status_is_of_the_run_and_the_result_of_its_outcome(start, bags, tmp_path):
    server, asker = start('--ros-args', '-p', f'output:={tmp_path / "set"}')
    broken = tmp_path / 'broken.bag'
    broken.write_bytes(b'#ROSBAG V2.0\n' + bytes(100))
    handle = asker.send(bags=[bags[0], str(broken)], tasks='folder')
    status, result = asker.result(handle)
    assert status == GoalStatus.STATUS_SUCCEEDED
    assert (result.exit_code, result.problem) == (1, '')
    assert result.dataset == str(tmp_path / 'set')
    assert (result.episodes, result.frames) == (1, info(tmp_path / 'set')['total_frames'])
    assert result.seconds > 0
    assert result.peak_memory_mb > 0
    converted, failed = result.outcomes
    assert (converted.status, converted.frames) == ('converted', result.frames)
    assert converted.task == (tmp_path / bags[0]).parent.name
    assert (failed.bag, failed.status) == (str(broken), 'failed')
    assert failed.reason
    server.until(lambda: asker.feedback)
    assert asker.feedback[0].peak_memory_mb > 0

    # The server goes on, by each face.
    assert server.goals()[1]['state'] == 'failed'


@pytest.mark.parametrize(
    ('fields', 'problem'),
    [
        (
            {'settings': {'train_hzz': '5'}},
            "unknown setting 'train_hzz'; did you mean 'train_hz'?",
        ),
        ({'settings': {'train_hz': '[5'}}, 'goal: train_hz: not a valid value'),
        ({'settings': {'train_hz': '2024-13-45'}}, 'goal: train_hz: not a valid value'),
        ({'settings': {'output': 'x'}}, 'goal: output: given twice'),
        ({'bags': []}, 'bags: no bag given'),
        ({}, 'absent.bag: does not exist'),
    ],
)
def test_a_wrong_goal_is_aborted_and_the_result_says_why(fields, problem, start, tmp_path):
    _, asker = start()
    given = {'bags': ['absent.bag'], 'output': str(tmp_path / 'set'), **fields}
    status, result = asker.result(asker.send(**given))
    assert status == GoalStatus.STATUS_ABORTED
    assert result.exit_code == 2
    assert problem in result.problem
    assert list(tmp_path.iterdir()) == []


def test_goals_are_cancelled_while_they_wait_and_while_they_run(
    start, bags, tmp_path, monkeypatch
):
    gate = Gate(monkeypatch, 2)
    server, asker = start()
    running = asker.send(bags=bags, output=str(tmp_path / 'set'))
    waiting = asker.send(bags=bags, output=str(tmp_path / 'other'))
    gate.wait()
    server.until(lambda: {one.goals_ahead for one in asker.feedback} == {0, 1})
    assert running.status == GoalStatus.STATUS_EXECUTING
    assert waiting.status == GoalStatus.STATUS_ACCEPTED
    asker.cancel(waiting)
    status, result = asker.result(waiting)
    assert status == GoalStatus.STATUS_CANCELED
    assert result.problem == 'cancelled before it had begun'

    asker.cancel(running)
    gate.open()
    status, result = asker.result(running)
    assert status == GoalStatus.STATUS_CANCELED
    assert (result.exit_code, result.dataset) == (1, '')
    assert 'finished bags are kept' in result.problem
    assert len([*(tmp_path / 'set.unfinished/shards').iterdir()]) == 1

    # Stopped by someone else than its client.
    gate = Gate(monkeypatch, 1)
    again = asker.send(bags=bags, output=str(tmp_path / 'set'))
    gate.wait()
    assert server.cancel_running().success
    gate.open()
    status, result = asker.result(again)
    assert status == GoalStatus.STATUS_ABORTED
    assert 'finished bags are kept' in result.problem


def test_a_busy_server_rejects_if_it_is_asked_to_and_answers_before_it_ends(
    start, bags, tmp_path, monkeypatch
):
    gate = Gate(monkeypatch, 1)
    server, asker = start('--ros-args', '-p', 'when_busy:=reject')
    goal = asker.send(bags=bags[:1], output=str(tmp_path / 'set'))
    gate.wait()
    assert not asker.send(bags=bags[:1], output=str(tmp_path / 'other')).accepted
    answer = goal.get_result_async()
    server.cancel.set()
    gate.open()
    answer = server.result_of(answer)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert answer.result.problem.startswith('cancelled')
    server.end()
    assert server.exit_code == 0
    assert list(tmp_path.iterdir()) == []
