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

"""``watch_node`` beside a robot and a recorder: what is published becomes part of a dataset."""

import importlib.util
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time
import types

from conversions import numbers, rows
import pytest

if importlib.util.find_spec('rclpy') is None:
    pytest.skip('no rclpy here: needs a sourced ROS 2 or its wheels', allow_module_level=True)

from kuavo_bag_converter.node.watching import WatchNode  # noqa: I100
from kuavo_bag_converter.settings import known_settings
from kuavo_bag_converter.support.errors import UsageError
import rclpy
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String
from std_srvs.srv import Trigger

TEST = Path(__file__).resolve().parent
PATIENCE_S = 60
pytestmark = pytest.mark.usefixtures('domain')


@pytest.fixture
def start():
    """Start programs, which end with the test."""
    started = []

    def start(*words):
        started.append(
            subprocess.Popen(
                [sys.executable, *map(str, words)],
                cwd=TEST.parent,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def start_watch(start, **values):
    pairs = [word for name, value in values.items() for word in ('-p', f'{name}:={value}')]
    return start('-m', 'kuavo_bag_converter.node.watch_node', '--ros-args', *pairs)


def test_what_is_recorded_is_converted_when_the_recording_is_stopped(start, tmp_path):
    pytest.importorskip('sensor_msgs', reason='needs ros-sensor-msgs or a sourced ROS 2')
    from ros_recording import PROFILE

    profile = tmp_path / 'arm.yaml'
    profile.write_text(PROFILE)
    folder, output = tmp_path / 'recordings', tmp_path / 'dataset'
    folder.mkdir()
    watch = start_watch(
        start, bags=f'[{folder}]', output=output, profile=profile,
        poll_s=0.2, finish='true', priority='normal',
    )  # fmt: skip
    start(TEST / 'ros_recording.py', 'publish')
    recorder = start(TEST / 'ros_recording.py', 'record', folder / 'run')
    lines = iter(watch.stdout.readline, '')
    assert any('watching' in line for line in lines)
    recorded = (int(line) for line in recorder.stdout)  # messages of each topic
    assert any(messages >= 5 for messages in recorded)
    watch.send_signal(signal.SIGINT)
    time.sleep(0.3)  # so that it was noticed
    watch.send_signal(signal.SIGINT)  # of a launch that is no child of a terminal
    assert any(messages >= 8 for messages in recorded)
    assert watch.poll() is None
    assert not output.exists()
    recorder.send_signal(signal.SIGINT)
    text, _ = watch.communicate(timeout=PATIENCE_S)
    assert watch.returncode == 0, text
    assert f'{output}: 1 recording added' in text
    joints = rows(output)['observation.state'].ravel()
    shown = [number for _, number in numbers(output, 'observation.images.camera')]
    assert len(shown) >= 5
    assert shown == [*joints]  # of the same stamp


@pytest.fixture
def make_node():
    nodes = []

    def make(*arguments):
        rclpy.init(args=['watch_node', *arguments])
        nodes.append(WatchNode())
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown()


def test_options_are_parameters_beside_the_settings(make_node):
    node = make_node('--ros-args', '-p', 'poll_s:=5', '-p', 'train_hz:=15', '-p', 'once:=true')
    assert (node.options.poll_s, node.options.once) == (5.0, True)
    for name in (*known_settings(), 'finish', 'priority', 'events_topics'):
        assert node.describe_parameter(name).read_only
    assert node.get_parameter('train_hz').value == 15
    topics = node.get_parameter('events_topics').get_parameter_value().string_array_value
    assert list(topics) == ['/events/write_split', '/rosbag2_recorder/events/write_split']


@pytest.mark.parametrize(
    ('assignment', 'expected'),
    [
        ('poll_s:=0', 'ROS parameters: poll_s: expected float of at least 0.1, found 0'),
        ('priority:=high', 'priority: expected one of low, idle, normal'),
        ('polls:=1', "unknown setting 'polls'"),
        ("events_topics:=['/split events']", 'events_topics: /split events: Invalid topic name: '),
    ],
)
def test_a_wrong_parameter_is_named(assignment, expected, make_node):
    with pytest.raises(UsageError) as error:
        make_node('--ros-args', '-p', assignment)
    assert expected in str(error.value)


def test_a_recorder_that_closes_a_file_and_a_request_to_end_are_noticed(make_node, monkeypatch):
    messages = types.ModuleType('rosbag2_interfaces.msg')
    messages.WriteSplitEvent = String  # any type; what it says does not matter
    monkeypatch.setitem(sys.modules, 'rosbag2_interfaces', types.ModuleType('rosbag2_interfaces'))
    monkeypatch.setitem(sys.modules, 'rosbag2_interfaces.msg', messages)
    node = make_node()
    other = rclpy.create_node('other')
    publisher = other.create_publisher(String, '/events/write_split', 1)
    client = other.create_client(Trigger, '/watch_node/cancel')
    executor = SingleThreadedExecutor()
    for one in (node, other):
        executor.add_node(one)
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    try:
        assert client.wait_for_service(PATIENCE_S)
        answered = threading.Event()
        asked = client.call_async(Trigger.Request())
        asked.add_done_callback(lambda _: answered.set())
        assert answered.wait(PATIENCE_S)
        assert asked.result().success
        assert node.cancel.is_set()
        for _ in range(PATIENCE_S * 10):
            publisher.publish(String())
            if node.wake.wait(0.1):
                break
        assert node.wake.is_set()
    finally:
        executor.shutdown()
        spinning.join()
        other.destroy_node()


def test_what_waits_is_shown_as_diagnostics(make_node):
    node = make_node()
    node.progress.waiting(3, 2)
    node.progress.warning('left.mcap: has no footer')
    status = node.status()
    values = {item.key: item.value for item in status.values}
    assert (values['recordings_ready'], values['recordings_unfinished']) == ('3', '2')
    assert (status.level, status.name) == (status.WARN, 'watch_node: conversion')
