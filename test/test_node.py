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

"""``convert_node`` as its users meet it: parameters, exit codes, /diagnostics and ~/cancel."""

import importlib.util
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import threading
import time

from arm_runs import convert_arm, write_bag, write_profile
from conversions import write_samples
from kuavo_bag_converter.robots.kuavo.options import KuavoOptions
from kuavo_bag_converter.settings import known_settings, Settings, values_of
from kuavo_bag_converter.support.errors import UsageError
from plugin_packages import build_example, installed
import pytest
from ros_modules import add_package
from stuck_codecs import DECODER_HANGS, DECODER_IS_SLOW, PASS_HANGS, wait_for_line

if importlib.util.find_spec('rclpy') is None:
    pytest.skip('no rclpy here: needs a sourced ROS 2 or its wheels', allow_module_level=True)

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: I100
from kuavo_bag_converter.node.conversion import ConvertNode
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 60
pytestmark = pytest.mark.usefixtures('domain')


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bag')
    command('sample', str(folder / 'sample'), '--seconds', '3', '--size', '160x120', check=True)
    return folder / 'sample'


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, '-m', 'kuavo_bag_converter', *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        **options,
    )


def parameters(**values):
    pairs = [f'{name}:={value}' for name, value in values.items()]
    return ['--ros-args', *(word for pair in pairs for word in ('-p', pair))]


def run_node(*arguments):
    done = subprocess.run(
        [sys.executable, '-m', 'kuavo_bag_converter.node.convert_node', *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
    )
    return done.returncode, done.stdout


class Onlooker:
    """Another node: collects what the node publishes on /diagnostics and can ask it to stop."""

    def __init__(self):
        self.statuses = []
        self.stamps = []
        self._heard = threading.Condition()
        self._context = Context()
        self._context.init()
        self._node = rclpy.create_node('onlooker', context=self._context)
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        self._client = self._node.create_client(Trigger, '/convert_node/cancel')
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    def _spin(self):
        while not self._ended.is_set():
            self._executor.spin_once(timeout_sec=0.05)

    def _on_diagnostics(self, message):
        with self._heard:
            self.stamps.append(message.header.stamp.sec)
            self.statuses += message.status
            self._heard.notify_all()

    def wait_for_state(self, *states):
        with self._heard:
            assert self._heard.wait_for(
                lambda: any(value_of(status, 'state') in states for status in self.statuses),
                timeout=PATIENCE_S,
            )

    def wait_for_node(self):
        assert self._client.wait_for_service(timeout_sec=PATIENCE_S)

    def ask_to_stop(self):
        self.wait_for_node()
        answered = threading.Event()
        future = self._client.call_async(Trigger.Request())
        future.add_done_callback(lambda _: answered.set())
        assert answered.wait(PATIENCE_S)
        return future.result()

    def close(self):
        self._ended.set()
        self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()


def value_of(status, key):
    return {item.key: item.value for item in status.values}[key]


@pytest.fixture
def onlooker():
    onlooker = Onlooker()
    yield onlooker
    onlooker.close()


@pytest.fixture
def make_node():
    nodes = []

    def make(*arguments):
        rclpy.init(args=['convert_node', *arguments])
        nodes.append(ConvertNode(threading.Event()))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown()


def files_below(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file() and 'conversion' not in path.parts
    }


def test_every_setting_is_a_parameter_with_the_same_default(make_node):
    node = make_node()
    for name, default in values_of(Settings()).items():
        value = node.get_parameter(name).value
        assert (list(value) if isinstance(default, list) else value) == default, name


def test_parameters_tell_type_range_choices_and_meaning(make_node):
    node = make_node()
    types = {
        'bool': Parameter.Type.BOOL,
        'int': Parameter.Type.INTEGER,
        'float': Parameter.Type.DOUBLE,
        'str': Parameter.Type.STRING,
        'int list': Parameter.Type.INTEGER_ARRAY,
        'str list': Parameter.Type.STRING_ARRAY,
    }
    for info in known_settings().values():
        descriptor = node.describe_parameter(info.name)
        assert descriptor.type == types[info.kind].value
        assert descriptor.description == info.description
        assert descriptor.read_only
        for choice in info.choices:
            assert choice in descriptor.additional_constraints
        if info.kind in ('int', 'float') and info.minimum is not None:
            ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
            assert ranges[0].from_value == info.minimum
            assert ranges[0].to_value >= (info.maximum or info.minimum)


def test_a_running_conversion_refuses_to_be_changed(make_node):
    node = make_node()
    (result,) = node.set_parameters([Parameter('train_hz', value=20)])
    assert not result.successful
    assert node.get_parameter('train_hz').value == 10


def test_values_come_from_arguments_and_parameter_files(make_node, tmp_path):
    file = tmp_path / 'params.yaml'
    file.write_text(
        '/**: {ros__parameters: {train_hz: 5, resize: {width: 320}, bags: [a.bag, b.bag]}}\n'
        'convert_node: {ros__parameters: {train_hz: 6}}\n'
    )
    node = make_node('--ros-args', '--params-file', str(file), '-p', 'chunk_size:=7')
    assert node.settings.options_of(KuavoOptions) == KuavoOptions(train_hz=6, resize_width=320)
    assert node.settings.bags == ('a.bag', 'b.bag')
    assert node.settings.chunk_size == 7
    assert node.get_parameter('resize.width').value == 320


def test_values_are_as_lenient_as_in_the_command(make_node):
    node = make_node('--ros-args', '-p', 'align.tolerance_ms:=5', '-p', 'platform_type:=5')
    options = node.settings.options_of(KuavoOptions)
    assert options == KuavoOptions(align_tolerance_ms=5.0, platform_type='5')
    assert node.get_parameter('platform_type').value == '5'


def test_files_are_found_in_packages_of_the_workspace(make_node, tmp_path, monkeypatch):
    share = add_package(tmp_path, 'my_robot')
    share.mkdir()
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path), prepend=os.pathsep)
    node = make_node(
        '--ros-args', '-p', 'profile:=package://my_robot/config/arm.yaml',
        '-p', "msg_path:=['package://my_robot/msgs', other]",
    )  # fmt: skip
    assert node.settings.profile == str(share / 'config/arm.yaml')
    assert node.settings.msg_path == (str(share / 'msgs'), 'other')


def test_options_of_a_robot_that_another_package_adds_are_parameters(make_node, tmp_path):
    with installed(build_example(tmp_path)):
        node = make_node('--ros-args', '-p', 'profile:=two_arms', '-p', 'two_arms.fps:=15')
        assert values_of(node.settings)['two_arms.fps'] == 15
    assert node.get_parameter('two_arms.fps').value == 15
    assert node.get_parameter('two_arms.arms').value == 'auto'
    descriptor = node.describe_parameter('two_arms.fps')
    assert descriptor.read_only
    (span,) = descriptor.integer_range
    assert (span.from_value, span.to_value) == (1, 100)


def test_a_name_that_looks_like_a_number_can_be_given(make_node):
    assert make_node('--ros-args', '-p', "bags:=['2024']").settings.bags == ('2024',)


def test_the_parameters_that_every_node_has_are_no_unknown_settings(make_node):
    node = make_node('--ros-args', '-p', 'use_sim_time:=true')
    assert node.settings == Settings()


@pytest.mark.parametrize(
    ('assignment', 'expected'),
    [
        ('train_hzz:=5', "unknown setting 'train_hzz'; did you mean 'train_hz'?"),
        ('train_hz:=0', 'train_hz: expected int from 1 to 1000, found 0'),
        ('append:=maybe', "append: expected bool, found 'maybe'"),
        ('bags:=[]', 'a value is empty'),
        ('bags:=/x', "bags: expected str list, found '/x'; write it as ['/x']"),
        ('bags:=[2024, 2025]', "found [2024, 2025]; write it as ['2024', '2025']"),
        ('profile:=package://no_such/x.yaml', "'no_such' is no package of a ROS workspace that"),
        ('profile:=2024', "profile: expected str, found 2024; write it as '2024'"),
    ],
)
def test_a_wrong_parameter_is_one_line_that_names_it(assignment, expected, make_node):
    with pytest.raises(UsageError) as error:
        make_node('--ros-args', '-p', assignment)
    assert expected in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (parameters(train_hz=0), 'ROS parameters: train_hz: expected int from 1 to 1000, found 0'),
        (['some.bag'], 'some.bag: convert_node takes ROS parameters only'),
        (['--ros-args', '-p', 'train_hz'], "Couldn't parse parameter override rule"),
        (['--ros-args', '--params-file', 'absent.yaml'], "Couldn't parse params file"),
        (parameters(bags='[x.bag]'), 'output: no folder given for the dataset'),
    ],
)
def test_wrong_use_ends_with_exit_code_2_and_without_traceback(arguments, expected):
    code, text = run_node(*arguments)
    assert code == 2
    assert expected in text
    assert 'Traceback' not in text


def test_a_bag_that_is_not_there_is_named_and_leaves_nothing_behind(tmp_path):
    bag, output = tmp_path / 'absent.bag', tmp_path / 'dataset'
    code, text = run_node(*parameters(bags=f'[{bag}]', output=output))
    by_command = command('convert', str(bag), '--output', str(output))
    assert code == by_command.returncode != 0
    assert str(bag) in text
    assert 'Traceback' not in text
    assert list(tmp_path.iterdir()) == []


def test_the_node_writes_the_same_dataset_as_the_command(bag, tmp_path, onlooker):
    code, text = run_node(
        *parameters(bags=f'[{bag}]', output=tmp_path / 'by_node', **{'resize.width': 160}),
        *parameters(sample_drop=0, **{'resize.height': 120}),
    )
    assert code == 0, text
    settings = ('sample_drop=0', 'resize={width: 160, height: 120}')
    by_command = command(
        *('convert', str(bag), '--output', str(tmp_path / 'by_command')),
        *(word for setting in settings for word in ('--set', setting)),
    )
    assert by_command.returncode == 0, by_command.stderr
    assert files_below(tmp_path / 'by_node') == files_below(tmp_path / 'by_command')

    onlooker.wait_for_state('done')
    last = onlooker.statuses[-1]
    assert last.name == 'convert_node: conversion'
    assert last.hardware_id == socket.gethostname()
    assert last.level == DiagnosticStatus.OK
    assert value_of(last, 'state') == 'done'
    assert value_of(last, 'bags_done') == value_of(last, 'bags_total') == '1'
    assert value_of(last, 'frames_done') == value_of(last, 'frames_total')
    assert int(value_of(last, 'frames_done')) > 20
    assert float(value_of(last, 'frames_per_second')) > 0
    assert float(value_of(last, 'peak_memory_mb')) > 0


def test_the_node_converts_bags_beside_each_other(tmp_path):
    profile = write_profile(tmp_path)
    bags = [write_bag(tmp_path / f'bags/{number}.bag', number) for number in range(3)]
    output = tmp_path / 'by_node'
    code, text = run_node(
        *parameters(bags=f'[{tmp_path / "bags"}]', output=output, profile=profile, jobs=2)
    )
    assert code == 0, text
    convert_arm(bags, tmp_path / 'by_call', profile)
    assert files_below(output) == files_below(tmp_path / 'by_call')


def test_a_failed_bag_is_an_error_in_diagnostics_and_exit_code_1(bag, tmp_path, onlooker):
    broken = tmp_path / 'broken.bag'
    broken.write_bytes(b'#ROSBAG V2.0\n' + bytes(100))
    # The good bag first: it lasts long enough for the nodes to find each other.
    bags = f'[{bag}, {broken}]'
    code, text = run_node(*parameters(bags=bags, output=tmp_path / 'dataset'))
    assert code == 1
    assert 'broken.bag' in text
    assert 'Traceback' not in text
    onlooker.wait_for_state('failed')
    last = onlooker.statuses[-1]
    assert last.level == DiagnosticStatus.ERROR
    assert value_of(last, 'bags_failed') == '1'


def test_what_was_salvaged_is_a_warning_also_in_diagnostics(tmp_path, onlooker):
    whole = write_samples(tmp_path, 1, seconds=3, size=(60, 80))[0]
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    code, text = run_node(
        *parameters(bags=f'[{whole}]', output=tmp_path / 'set', on_damage='salvage'),
        *('-p', 'use_sim_time:=true', '-r', '__ns:=/robot1', '-r', '__node:=converter'),
        *('--log-level', 'warn'),
    )
    assert code == 0, text
    lines = text.splitlines()
    assert any('[WARN]' in line and 'salvaged ' in line for line in lines)
    assert not any('[INFO]' in line for line in lines)
    onlooker.wait_for_state('done')
    last = onlooker.statuses[-1]
    assert last.name == 'robot1/converter: conversion'
    assert last.level == DiagnosticStatus.WARN
    assert int(value_of(last, 'warnings')) >= 1
    # Nobody simulates a clock.
    assert all(abs(stamp - time.time()) < 600 for stamp in onlooker.stamps)


# Ends the process by Ctrl-C, or lacks a package, when the node is being imported.
IMPORTS = """
import os, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == {module!r}:
            {deed}
sys.meta_path.insert(0, Finder())
from {package}.{entry} import main
sys.exit(main())
"""
CTRL_C = 'os.kill(os.getpid(), signal.SIGINT)'


@pytest.mark.parametrize(
    ('entry', 'module', 'deed', 'code', 'expected'),
    [
        ('node.convert_node', 'rclpy.executors', CTRL_C, 1, 'cancelled; finished bags are kept'),
        ('__main__', 'numpy', CTRL_C, 1, 'cancelled'),
        ('node.convert_node', 'av', None, 2, 'package av is needed and not installed; pip'),
        ('__main__', 'av', None, 2, 'package av is needed and not installed; pip'),
        ('node.convert_node', 'rclpy', None, 2, 'rclpy is needed and not installed; source'),
        ('node.convert_node', 'std_srvs', None, 2, 'std_srvs is needed and not installed; source'),
    ],
)  # fmt: skip
def test_neither_ctrl_c_nor_a_missing_package_is_a_traceback(
    entry, module, deed, code, expected, tmp_path
):
    deed = deed or f'raise ModuleNotFoundError(name={module!r})'
    program = IMPORTS.format(module=module, deed=deed, entry=entry, package='kuavo_bag_converter')
    bag, output = str(tmp_path / 'bag'), str(tmp_path / 'set')
    words = ['convert', bag, '--output', output]
    if entry != '__main__':
        words = parameters(bags=f"['{bag}']", output=output)
    (tmp_path / 'bag').write_bytes(b'#ROSBAG V2.0\n')
    done = subprocess.run(
        [sys.executable, '-c', program, *words], cwd=ROOT, capture_output=True, text=True
    )
    text = done.stdout + done.stderr
    assert expected in text
    assert done.returncode == code
    assert 'Traceback' not in text


def test_the_cancel_service_stops_the_run_and_leaves_no_dataset(bag, tmp_path, onlooker):
    output = tmp_path / 'dataset'
    process = start_changed_node(DECODER_IS_SLOW, *parameters(bags=f'[{bag}]', output=output))
    response = onlooker.ask_to_stop()
    text, _ = process.communicate(timeout=PATIENCE_S)
    assert response.success
    assert 'kept for the next run' in response.message
    assert process.returncode == 1
    assert 'Traceback' not in text
    assert not output.exists()
    onlooker.wait_for_state('cancelled')
    assert onlooker.statuses[-1].level == DiagnosticStatus.ERROR


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_run_as_cancel_does(number, bag, tmp_path, onlooker):
    output = tmp_path / 'dataset'
    process = start_changed_node(DECODER_IS_SLOW, *parameters(bags=f'[{bag}]', output=output))
    onlooker.wait_for_node()
    os.kill(process.pid, number)
    text, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert 'Traceback' not in text
    assert not output.exists()


def start_changed_node(change, *arguments):
    program = f"""{change}
import sys
from kuavo_bag_converter.node.convert_node import main
sys.exit(main())
"""
    return subprocess.Popen(
        [sys.executable, '-c', program, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_signal_ends_the_node_though_a_codec_is_stuck(bag, tmp_path):
    given = parameters(bags=f'[{bag}]', output=tmp_path / 'dataset')
    process = start_changed_node(DECODER_HANGS, *given)
    wait_for_line(process, 'stuck')
    os.kill(process.pid, signal.SIGINT)
    text, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert 'cancelled; finished bags are kept for the next run; /cam_' in text
    assert 'a picture has kept its decoder or encoder busy' in text
    assert 'Traceback' not in text


@pytest.mark.parametrize('second', [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_node_at_once(second, bag, tmp_path):
    given = parameters(bags=f'[{bag}]', output=tmp_path / 'dataset')
    process = start_changed_node(PASS_HANGS, *given)
    wait_for_line(process, 'stuck')
    os.kill(process.pid, signal.SIGINT)
    wait_for_line(process, 'cancelled')
    os.kill(process.pid, second)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -second
