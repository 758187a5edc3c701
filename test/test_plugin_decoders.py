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

"""Message types of any encoding are decoded by other packages."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys

from conversions import numbers, report, rows
import cv2
from kuavo_bag_converter.sample.barcode import draw_frame_number
from mcap.writer import Writer
import numpy as np
from plain_robot import BEGIN, COLOR, every, joint_state, NS, ramps, Robot
from plugin_packages import build_example, command, EXAMPLES, installed, write_package
import pytest

PROFILE = EXAMPLES / 'foxglove_json' / 'profile.yaml'
CODE = """
class Decoder:
    encoding = 'json'
    msgtypes = {'foxglove.PoseInFrame': 'float64[] values', 'foxglove.CompressedImage':
                'string format\\nuint8[] data'}
    def decode(self, msgtype, payload):
        BODY
it = Decoder()
"""


@pytest.fixture(scope='module')
def package(tmp_path_factory):
    return build_example(tmp_path_factory.mktemp('package'), 'foxglove_json')


def picture(number):
    pixels = np.full((120, 160, 3), COLOR, np.uint8)
    draw_frame_number(pixels, 'head_cam_h', number, (30, 220))
    return cv2.imencode('.png', pixels[:, :, ::-1])[1].tobytes()


def foxglove_bag(path, *, count=45, change=None):
    """Write an MCAP file as the Foxglove SDK does; pose ``k`` is at (k, 2 k, 3 k) / 30."""
    with path.open('wb') as stream:
        writer = Writer(stream)
        writer.start()
        channels = {}
        for topic, kind in (('/camera', 'CompressedImage'), ('/tool', 'PoseInFrame')):
            schema = writer.register_schema(f'foxglove.{kind}', 'jsonschema', b'{}')
            channels[topic] = writer.register_channel(topic, 'json', schema)
        for number in range(count):
            stamp = BEGIN + number * NS // 30
            head = {
                'timestamp': {'sec': stamp // NS, 'nsec': stamp % NS}, 'frame_id': 'base'
            }  # fmt: skip
            position = dict(zip('xyz', np.array([1.0, 2.0, 3.0]) * number / 30, strict=True))
            orientation = {'x': 0, 'y': 0, 'z': 0, 'w': 1}
            data = base64.b64encode(picture(number)).decode()
            messages = {
                '/camera': {**head, 'format': 'png', 'data': data},
                '/tool': {**head, 'pose': {'position': position, 'orientation': orientation}},
            }
            for topic, message in messages.items():
                if change is not None:
                    change(number, topic, message)
                payload = json.dumps(message).encode()
                writer.add_message(channels[topic], stamp, payload, stamp)
        writer.finish()
    return path


def convert(capsys, bag, output):
    return command(
        capsys, 'convert', bag, '--output', output, '--set', f'profile={PROFILE}'
    )  # fmt: skip


def test_numbers_and_pictures_are_converted_and_verified(package, tmp_path, capsys):
    bag = foxglove_bag(tmp_path / 'log.mcap')
    output = tmp_path / 'dataset'
    with installed(package):
        assert convert(capsys, bag, output)[0] == 0
        assert command(capsys, 'verify', output, '--bags', bag)[0] == 0
    expected = np.outer(np.arange(44) / 30, [1, 2, 3])
    assert np.stack(rows(output)['observation.state']) == pytest.approx(expected, abs=1e-6)
    shown = numbers(output, 'observation.images.camera')
    assert shown == [('head_cam_h', number) for number in range(44)]
    assert report(output)['converter']['plugins'] == ['foxglove_json (foxglove-json 1.0)']


def test_without_the_package_the_encoding_is_named(tmp_path, capsys):
    bag = foxglove_bag(tmp_path / 'log.mcap', count=3)
    code, out, _ = convert(capsys, bag, tmp_path / 'dataset')
    assert code == 1
    assert (
        "its payloads are encoded as 'json'; only ros1 and cdr can be read, and no plug-in is "
        "installed that decodes 'foxglove."
    ) in out


def test_inspect_shows_what_it_decodes(package, tmp_path, capsys):
    bag = foxglove_bag(tmp_path / 'log.mcap', count=5)
    with installed(package):
        code, out, _ = command(capsys, 'inspect', '--json', bag)
    assert code == 0
    topics = {topic['topic']: topic for topic in json.loads(out)['bags'][0]['topics']}
    assert topics['/camera']['picture']['codec'] == 'png'
    assert topics['/camera']['picture']['width'] == 160
    assert 'pose.position.x' in topics['/tool']['fields']


@pytest.mark.parametrize(
    ('field', 'value', 'expected'),
    [
        ('position', {'x': 1, 'y': 2}, 'ValueError: the decoded message has no pose.position.z'),
        ('position', {'x': 'up', 'y': 2, 'z': 0}, 'ValueError: pose.position.x cannot be float64'),
    ],
)
def test_a_message_that_is_not_as_defined_fails_its_bag_in_one_line(
    package, tmp_path, capsys, field, value, expected
):
    def change(_, topic, message):
        if topic == '/tool':
            message['pose'][field] = value

    bag = foxglove_bag(tmp_path / 'log.mcap', count=5, change=change)
    with installed(package):
        code, out, err = convert(capsys, bag, tmp_path / 'dataset')
    assert (code, 'Traceback' in out + err) == (1, False)
    assert '/tool: foxglove_json (foxglove-json 1.0) cannot decode a message of ' in out
    assert f'of foxglove.PoseInFrame ({expected}' in out
    assert not (tmp_path / 'dataset').exists()


@pytest.mark.parametrize(
    ('body', 'expected'),
    [
        ('1 / 0', 'ZeroDivisionError: division by zero'),
        ('return None', 'ValueError: the decoded message has no values'),
        ("return {'values': 3}", 'ValueError: values has 0 dimensions, the definition has 1'),
        ("return {'values': ['a']}", 'ValueError: values cannot be float64 (could not convert'),
    ],
)
def test_what_a_decoder_raises_names_it_and_the_topic(tmp_path, capsys, body, expected):
    write_package(tmp_path, 'bad', CODE.replace('BODY', body), group='decoders')
    bag = foxglove_bag(tmp_path / 'log.mcap', count=3)
    with installed(tmp_path):
        code, out, _ = command(capsys, 'inspect', '--json', bag)
    assert code in (0, 1)
    topics = {topic['topic']: topic for topic in json.loads(out)['bags'][0]['topics']}
    error = topics['/tool']['error']
    assert error.startswith('/tool: bad (bad 1.0) cannot decode a message of ')
    assert f'({expected}' in error


def test_it_wins_over_the_definition_of_the_bag_for_its_encoding_alone(tmp_path, capsys):
    bag = Robot().publish('/joints', every(10, 1), joint_state(ramps(2))).write(tmp_path / 'bag')
    code = """
class Decoder:
    encoding = 'ENCODING'
    msgtypes = {'sensor_msgs/msg/JointState': 'int32 count'}
    def decode(self, msgtype, payload):
        return {'count': len(payload)}
it = Decoder()
"""
    fields = {}
    for encoding in ('cdr', 'ros1'):
        folder = tmp_path / encoding
        write_package(folder, 'own', code.replace('ENCODING', encoding), group='decoders')
        with installed(folder):
            _, out, _ = command(capsys, 'inspect', '--json', bag)
        fields[encoding] = set(json.loads(out)['bags'][0]['topics'][0]['fields'])
    assert fields['cdr'] == {'count'}
    assert {'position', 'count'} - fields['ros1'] == {'count'}


@pytest.mark.parametrize(
    ('code', 'expected'),
    [
        ('1 / 0', "bad 1.0: its entry point 'bad' in kuavo_bag_converter.decoders cannot be "
                  'loaded (ZeroDivisionError: division by zero); update or uninstall it'),
        ('it = 3', 'bad (bad 1.0): lacks encoding and msgtypes and decode; an entry point in '
                   'kuavo_bag_converter.decoders is an object with encoding, msgtypes, decode '
                   '(docs/extending.md)'),
        (CODE.replace('BODY', 'pass').replace('it = Decoder()', 'it = Decoder'),
         'bad (bad 1.0): is a class; an entry point in'),
        (CODE.replace('BODY', 'pass').replace("= 'json'", '= 3'),
         'bad (bad 1.0): its encoding must be a text, and its msgtypes a mapping of type names'),
        (CODE.replace('BODY', 'pass').replace('msgtypes = {', 'msgtypes = 3\n    other = {'),
         'bad (bad 1.0): its encoding must be a text, and its msgtypes a mapping of type names'),
        (CODE.replace('BODY', 'pass').replace('float64[] values', 'float64'),
         'bad (bad 1.0): its definition of foxglove.PoseInFrame cannot be read'),
    ],
)  # fmt: skip
def test_what_is_no_decoder_is_refused(tmp_path, capsys, code, expected):
    write_package(tmp_path, 'bad', code, group='decoders')
    bag = foxglove_bag(tmp_path / 'log.mcap', count=3)
    with installed(tmp_path):
        found, out, err = convert(capsys, bag, tmp_path / 'dataset')
    assert (found, out) == (2, '')
    assert err.splitlines()[-1].startswith(f'error: {expected}')
    assert not (tmp_path / 'dataset').exists()


def test_two_may_not_decode_the_same_type(package, tmp_path, capsys):
    write_package(tmp_path, 'other', CODE.replace('BODY', 'pass'), group='decoders')
    bag = foxglove_bag(tmp_path / 'log.mcap', count=3)
    with installed(package, tmp_path):
        code, _, err = convert(capsys, bag, tmp_path / 'dataset')
    assert code == 2
    assert err.startswith('error: ')
    assert 'decodes foxglove.' in err
    assert 'foxglove_json (foxglove-json 1.0)' in err
    assert 'other (other 1.0)' in err
    assert err.endswith('does; uninstall one of them\n')


@pytest.mark.parametrize('group', ['decoders', 'storages', 'writers'])
def test_help_loads_no_plugin_of_the_other_groups(tmp_path, group):
    write_package(tmp_path, 'bad', '1 / 0', group=group)
    done = subprocess.run(
        [sys.executable, '-m', 'kuavo_bag_converter', 'convert', '--help'],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, '')
