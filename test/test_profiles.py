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

"""YAML profiles: what is read, what is refused and how it is said, and back to YAML."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
import re
from unicodedata import category

from hypothesis import given, settings
from hypothesis import strategies as st
from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.profiles import shipped
from kuavo_bag_converter.profiles.dump import profile_as_yaml
from kuavo_bag_converter.profiles.loader import read_profile
from kuavo_bag_converter.profiles.model import (
    Align,
    CameraFeature,
    Clock,
    Crop,
    Episodes,
    Language,
    Part,
    Profile,
    Source,
    TimeRange,
    VectorFeature,
)
from kuavo_bag_converter.robots.kuavo.options import KuavoOptions
from kuavo_bag_converter.robots.kuavo.profile import kuavo_profile
from kuavo_bag_converter.robots.resolve import resolve
from kuavo_bag_converter.settings import (
    known_settings,
    read_params_file,
    Settings,
    settings_from,
    updated,
)
from kuavo_bag_converter.support.errors import UsageError
import pytest

CONFIG = Path(__file__).resolve().parents[1] / 'config'

HEAD = """
robot_type: my_robot
fps: 10
task: Pick the cube
clock: {from: {topic: /camera/image_raw}, fps: 30}
"""
ARM = (
    '  observation.state: {parts: [{from: {topic: /joint_states, field: position}, '
    'names: [a, b]}]}'
)


def load(tmp_path, text):
    path = tmp_path / 'robot.yaml'
    path.write_text(text, encoding='utf-8')
    return read_profile(path)


def load_part(tmp_path, keys, head=HEAD):
    """Load a profile whose only part has the given keys besides ``from``."""
    part = f'{{from: {{topic: /joint_states, field: position}}, {keys}}}'
    profile = load(tmp_path, f'{head}features: {{action: {{parts: [{part}]}}}}')
    return profile.vectors[0].parts[0]


def load_camera(tmp_path, keys, head=HEAD):
    camera = f'{{from: {{topic: /camera}}{", " if keys else ""}{keys}}}'
    text = f'{head}features: {{observation.images.front: {{camera: {camera}}}}}'
    return load(tmp_path, text).cameras[0]


def refused(tmp_path, text):
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert '\n' not in message
    assert message.startswith(f'{tmp_path / "robot.yaml"}: ')
    return message.removeprefix(f'{tmp_path / "robot.yaml"}: ')


def refused_part(tmp_path, keys, head=HEAD):
    part = f'{{from: {{topic: /joint_states, field: position}}, {keys}}}'
    message = refused(tmp_path, f'{head}features: {{action: {{parts: [{part}]}}}}')
    return message.removeprefix('features.action.parts[0]').lstrip('.: ')


def test_a_profile_says_what_a_frame_is_made_of(tmp_path):
    profile = load(
        tmp_path,
        """
robot_type: my_robot
fps: 15
task: {from: {topic: /task, field: data}, default: Pick}
clock:
  from: [{topic: /a, type: sensor_msgs/msg/Image}, {topic: /b}]
  most_messages: true
  fps: 29.97
  decimation: time
  drop: 2
  end_trim: none
  end_topics: [/x, /y]
  timeline: header
align: {timeline: header, tolerance_ms: 1e1}
features:
  observation.state:
    parts:
      - from:
          - {topic: /joints, field: position, type: [a/msg/B, c/msg/D]}
          - {topic: /arm, fields: [left.q, 'right[0].q'], align: {strategy: hold}}
        length: 14
        select: [7:10, 12, 0]
        names: [a, b, c, d, e]
        unit: deg2rad
        range: [0, 100]
        scale: -1
        offset: 0.5
        threshold: 0.25
        relative_to_start: true
        align: {strategy: linear, on_gap: fail, gap_ms: 100}
      - from: {topic: /tick}
        names: [late]
        gap_flag: true
        align: {gap_ms: 150}
  action:
    parts: [{from: {topic: /command, field: position}, names: [a, b]}]
    minus: observation.state
  observation.images.front:
    camera: {from: {topic: /a}, size: {width: 320, height: 240}}
  observation.depth_front:
    camera: {from: {topic: /d}, depth: range8, depth_range: [100, 2000]}
""",
    )
    usual = Align(timeline='header', tolerance_ms=10, on_gap='split')
    mine = Align('linear', 'header', 10, 100, 'fail')
    assert profile == Profile(
        name='robot',
        robot_type='my_robot',
        fps=15,
        clock=Clock(
            (Source('/a', (), ('sensor_msgs/msg/Image',)), Source('/b')),
            29.97, True, 'time', 2, 'none', ('/x', '/y'), 'header',
        ),
        features=(
            VectorFeature(
                'observation.state',
                (
                    Part(
                        ('a', 'b', 'c', 'd', 'e'),
                        (
                            Source('/joints', ('position',), ('a/msg/B', 'c/msg/D')),
                            Source(
                                '/arm', ('left.q', 'right[0].q'),
                                (), replace(mine, strategy='hold')
                            ),
                        ),
                        14, (7, 8, 9, 12, 0), (), 'deg2rad', (0, 100), -1, 0.5, 0.25, True, False,
                        mine,
                    ),
                    Part(
                        ('late',), (Source('/tick'),), gap_flag=True,
                        align=Align(timeline='header', gap_ms=150),
                    ),
                ),
            ),
            VectorFeature(
                'action',
                (Part(('a', 'b'), (Source('/command', ('position',)),), align=usual),),
                'observation.state',
            ),
            CameraFeature('observation.images.front', (Source('/a'),), (240, 320), align=usual),
            CameraFeature(
                'observation.depth_front', (Source('/d'),), None, 'range8', (100, 2000), usual
            ),
        ),
        task='Pick',
        task_sources=(Source('/task', ('data',)),),
    )  # fmt: skip


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        (
            '{ranges: [{start_s: 0, stop_s: 2.5}, {start_s: 2.5, stop_s: 3, task: Place}]}',
            Episodes(ranges=(TimeRange(0, 2.5), TimeRange(2.5, 3, 'Place'))),
        ),
        ('{marks_file: "{bag}.json"}', Episodes(marks_file='{bag}.json')),
        (
            '{while_true: {topic: /rec, field: data}}',
            Episodes(sources=(Source('/rec', ('data',)),)),
        ),
        (
            '{each_message: [{topic: /prompt, field: data}, {topic: /mark}]}',
            Episodes(sources=(Source('/prompt', ('data',)), Source('/mark')), rule='each_message'),
        ),
        (
            '{events: {from: {topic: /e, field: data}, start: [go], stop: [], discard: [no]}}',
            Episodes(
                sources=(Source('/e', ('data',)),), rule='events', start=('go',), discard=('no',)
            ),
        ),
    ],
)
def test_episodes_are_cut_by_one_rule(tmp_path, text, expected):
    assert load(tmp_path, f'{HEAD}features:\n{ARM}\nepisodes: {text}').episodes == expected


@pytest.mark.parametrize(
    ('keys', 'expected'),
    [
        ('', Align()),
        ('align: {tolerance_ms: 20}', Align(tolerance_ms=20, on_gap='split')),
        ('align: {gap_ms: 20}', Align(gap_ms=20, on_gap='split')),
        ('align: {tolerance_ms: 20, on_gap: keep}', Align(tolerance_ms=20)),
        ('align: {tolerance_ms: null}', Align()),
        ('align: {strategy: linear, on_gap: mark}', Align('linear', on_gap='mark')),
        (
            'align: {strategy: hold, zeros_before_first: true}',
            Align('hold', zeros_before_first=True),
        ),
    ],
)
def test_on_gap_is_split_once_a_gap_is_defined(tmp_path, keys, expected):
    assert load_part(tmp_path, f'names: [a], {keys}').align == expected


def test_parts_and_cameras_take_over_keys_of_the_default_alignment_that_they_do_not_set(tmp_path):
    head = f'{HEAD}align: {{strategy: hold, timeline: header, tolerance_ms: 20, on_gap: drop}}\n'
    assert load_camera(tmp_path, '', head).align == Align('hold', 'header', 20, None, 'drop')
    camera = load_camera(tmp_path, 'align: {strategy: nearest, tolerance_ms: null}', head)
    assert camera.align == Align('nearest', 'header', None, None, 'drop')
    part = load_part(tmp_path, 'names: [a], align: {strategy: linear}', head)
    assert part.align == Align('linear', 'header', 20, None, 'drop')


def test_a_gap_flag_takes_over_the_time_line_alone(tmp_path):
    head = f'{HEAD}align: {{strategy: hold, timeline: header, tolerance_ms: 20, on_gap: drop}}\n'
    part = '{from: {topic: /tick}, names: [late], gap_flag: true, align: {gap_ms: 99}}'
    profile = load(tmp_path, f'{head}features: {{action: {{parts: [{part}]}}}}')
    assert profile.vectors[0].parts[0].align == Align(timeline='header', gap_ms=99)


def test_joints_are_chosen_by_name_and_name_the_elements(tmp_path):
    part = load_part(tmp_path, 'joints: [elbow, wrist]')
    assert (part.joints, part.names, part.select) == (('elbow', 'wrist'), ('elbow', 'wrist'), None)
    assert part.sources[0].names_field == 'name'
    part = load_part(tmp_path, 'joints: [elbow, wrist], names: [a, b], length: 9')
    assert (part.joints, part.names, part.length) == (('elbow', 'wrist'), ('a', 'b'), 9)
    source = '{topic: /a, field: position, names_field: joint_names}'
    profile = load(
        tmp_path, f'{HEAD}features: {{action: {{parts: [{{from: {source}, joints: [a]}}]}}}}'
    )
    assert profile.vectors[0].parts[0].sources[0].names_field == 'joint_names'


@pytest.mark.parametrize(
    ('pattern', 'expected'),
    [
        ('j{1:4}', ['j1', 'j2', 'j3']),
        ('j{08:11}_q', ['j08_q', 'j09_q', 'j10_q']),
        ('{left,right}_{0:2}', ['left_0', 'left_1', 'right_0', 'right_1']),
        ('{0:2}{x,y}', ['0x', '0y', '1x', '1y']),
    ],
)
def test_a_pattern_stands_for_a_name_for_each_way_to_fill_its_braces(tmp_path, pattern, expected):
    assert load_part(tmp_path, f'names: "{pattern}"').names == tuple(expected)
    assert load_part(tmp_path, f'joints: "{pattern}"').joints == tuple(expected)
    assert load_part(tmp_path, f'names: ["{pattern}"]').names == (pattern,)


def test_512_taxels_have_names_of_equal_length(tmp_path):
    names = load_part(tmp_path, 'names: "taxel_{000:512}", length: 512').names
    assert names == tuple(f'taxel_{number:03d}' for number in range(512))


def test_a_camera_says_how_its_pictures_are_changed(tmp_path):
    keys = (
        'crop: {x: 8, width: 64, height: 48}, rotate: 270, fit: pad, range: [3e3, 4e3], '
        'size: {width: 32, height: 32}'
    )
    camera = load_camera(tmp_path, keys)
    assert camera.crop == Crop(8, 0, 64, 48)
    assert (camera.rotate, camera.fit, camera.size) == (270, 'pad', (32, 32))
    assert camera.value_range == (3000.0, 4000.0)


def test_depth_has_a_form_and_its_former_name(tmp_path):
    for coding in ('original', 'range8', 'metric12', 'image16', 'copy'):
        camera = load_camera(tmp_path, f'depth: {coding}')
        in_table = coding in ('image16', 'copy')
        assert (camera.depth, camera.dtype) == (coding, 'image' if in_table else 'video')
    assert load_camera(tmp_path, 'depth: minmax8').depth == 'original'


@pytest.mark.parametrize(
    ('unit', 'expected'),
    [('m', 1000.0), ('mm', 1.0), ('0.1mm', 0.1), ('0.25 mm', 0.25), ('100um', 0.1), ('cm', 10.0),
     (0.1, 0.1), (1000, 1000.0)],
)  # fmt: skip
def test_the_unit_of_depth_is_a_length(tmp_path, unit, expected):
    camera = load_camera(tmp_path, f'depth: metric12, unit: {unit}')
    assert camera.unit_mm == pytest.approx(expected)


@pytest.mark.parametrize(
    ('keys', 'words'),
    [
        (
            'depth: image16, store: video',
            'store: depth: image16 is stored in the table; set',
        ),
        ('depth: metric12, store: image', 'store: metric12 is a coding of video; set depth to'),
        ('store: png', "store: expected one of video, image, found 'png'"),
        ('unit: m', 'unit: only for depth cameras; set depth to one of'),
        ('depth: metric12, unit: inch', "unit: expected a length such as m, .* found 'inch'"),
        ('depth: metric12, unit: 0mm', 'unit: expected a length such as m'),
        ('depth: metric12, unit: -1', 'unit: expected a length such as m'),
        ('depth: metric12, range: [1, 2]', 'range: not for depth cameras; set depth_range'),
        ('range: [2, 1]', r'range: expected \[low, high\] with low below high'),
        ('range: [1]', r'range: expected \[low, high\]'),
        ('rotate: 45', r'rotate: expected 90, 180 or 270 \(degrees, clockwise\), found 45'),
        ('rotate: true', 'rotate: expected 90, 180 or 270'),
        ('fit: padd', "fit: expected one of scale, pad, crop, found 'padd'; did you mean 'pad'"),
        ('crop: {x: 1}', "crop: the key 'width' is missing"),
        ('crop: {width: 0, height: 1}', r'crop\.width: expected an integer from 1'),
    ],
)
def test_what_a_camera_cannot_be_is_refused(tmp_path, keys, words):
    with pytest.raises(UsageError, match=words):
        load_camera(tmp_path, keys)


def test_plain_scalars_are_those_of_yaml_1_2(tmp_path):
    part = load_part(tmp_path, 'select: [1:3], names: [on, 2025-01-01], range: [-1e2, .5]')
    assert part.select == (1, 2)
    assert part.names == ('on', '2025-01-01')
    assert part.value_range == (-100.0, 0.5)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('fps: [', "line 1, column 7: not valid YAML: expected the node content, but found '<str"),
        ('fps: 10\nfps: 20', "line 2, column 1: not valid YAML: the key 'fps' is given twice"),
        ('1: 2', 'line 1, column 1: not valid YAML: expected a text as key, found 1; write it in'),
        ('a: &x 1\nb: *x', 'line 2, column 4: not valid YAML: aliases are not supported'),
        ('a: !!python/name:os.system', 'line 1, column 4: not valid YAML: tags are not supported'),
        ('a: !!int x', 'line 1, column 4: not valid YAML: tags are not supported'),
        ('a\x07', 'not valid YAML: unacceptable character'),
        ('[' * 3000, 'not valid YAML: '),
        ('fps: ' + '9' * 5000, ''),
        ('a: 1\n---\nb: 2', 'not valid YAML: but found another document'),
        ('', 'expected a mapping with the keys name, robot_type, .*, found nothing'),
        ('- 1', r'expected a mapping with the keys .*, found \[1\]'),
    ],
)
def test_what_is_not_strict_yaml_is_refused(tmp_path, text, message):
    assert re.search(message.replace('<str', '<stream end'), refused(tmp_path, text))


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r'none\.yaml: cannot read the file: No such file'):
        read_profile(tmp_path / 'none.yaml')
    (tmp_path / 'latin.yaml').write_bytes(b'robot_type: caf\xe9')
    with pytest.raises(UsageError, match=r'latin\.yaml: not a UTF-8 text: byte 15'):
        read_profile(tmp_path / 'latin.yaml')


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('fps: 10', '', "the key 'fps' is missing"),
        ('robot_type', 'robot_typ', r"unknown key 'robot_typ' \(known are name, .*\); did you "
         r"mean 'robot_type'\?"),
        ('fps: 10', 'fps: 0', 'fps: expected an integer from 1 to 1000, found 0'),
        ('fps: 10', 'fps: 10.5', 'fps: expected an integer from 1 to 1000, found 10.5'),
        ('fps: 10', 'fps: true', 'fps: expected an integer from 1 to 1000, found true'),
        ('my_robot', '', 'robot_type: expected a text, found nothing'),
        ('my_robot', '"  "', "robot_type: expected a text, found '  '"),
        ('my_robot', '"a\\nb"', r"robot_type: expected a text of one line, .*, found 'a\\nb'"),
        ('Pick the cube', '7', 'task: expected a text, or a mapping with the keys from, default'),
        ('Pick the cube', '{from: {topic: /t, field: d}}', "task: the key 'default' is missing"),
        ('Pick the cube', '{from: {topic: /t}, default: x}',
         "task.from: the key 'field' is missing"),
        ('fps: 30', 'fps: 0', 'clock.fps: expected a number greater than 0, found 0'),
        ('fps: 30', 'fps: .inf', 'clock.fps: expected a number greater than 0, found inf'),
        ('fps: 30', 'fps: 5, decimation: jump', 'clock.decimation: jump needs a clock topic at '
         'least as fast as the frames, found 5 Hz for 10 Hz; set time'),
        ('fps: 30', 'fps: 30, decimation: jumb', 'clock.decimation: expected one of auto, jump, '
         r"time, found 'jumb'; did you mean 'jump'\?"),
        ('fps: 30', 'fps: 30, drop: -1', 'clock.drop: expected an integer of at least 0, found '
                                         '-1'),
        ('fps: 30', 'fps: 30, end_topics: /a', 'clock.end_topics: expected a list of topics'),
        ('fps: 30', 'fps: 30, most_messages: 1', 'clock.most_messages: expected true or false'),
        ('topic: /camera/image_raw', 'topic: /a b', 'clock.from.topic: expected a topic without '
         "white space, found '/a b'"),
        ('topic: /camera/image_raw', 'topc: /a', r"clock.from: unknown key 'topc' \(known are "
         r"topic, type, frame_id, publisher, stamp_field, stamp_unit\); did you mean 'topic'\?"),
        ('{topic: /camera/image_raw}', '[]', 'clock.from: expected a list of alternatives, or a'),
        ('{topic: /camera/image_raw}', '[{topic: /a}, 3]', r'clock.from\[1\]: expected a mapping'),
        ('topic: /camera/image_raw', 'topic: /a, type: Image', 'clock.from.type: expected a '
         "message type such as sensor_msgs/msg/JointState, found 'Image'"),
    ],
)  # fmt: skip
def test_the_head_of_a_profile_is_checked(tmp_path, old, new, message):
    assert old in HEAD
    assert re.match(message, refused(tmp_path, f'{HEAD.replace(old, new)}features:\n{ARM}'))


@pytest.mark.parametrize(
    ('features', 'message'),
    [
        ('{}', 'features: expected at least one feature'),
        ('[action]', 'features: expected a mapping of features'),
        ('{action: 3}', 'features.action: expected a mapping with parts or camera, found neither'),
        ('{action: {parts: [], camera: {}}}', 'features.action: .* parts or camera, found both'),
        ('{action: {parts: []}}', r'features.action.parts: expected a list of parts, found \[\]'),
        ('{a/b: {parts: []}}', 'features.a/b: a key consists of words'),
        ('{"action.": {parts: []}}', 'features.action.: a key consists of words'),
        ('{../action: {parts: []}}', 'features.../action: a key consists of words'),
        ('{timestamp: {parts: []}}', 'features.timestamp: timestamp is a column that every'),
        ('{actions: {parts: []}}', 'features.actions: LeRobot knows vectors by action, .*; did '
         "you mean 'action'"),
        ('{action: {parts: [], dtype: int8}}', 'features.action.dtype: expected one of flo'),
        ('{next.done: {parts: [{last_frame: true, names: [a]}, {last_frame: true, names: [b]}]}}',
         'features.next.done.parts: LeRobot takes one number of next.done, found 2 elements'),
        ('{next.done: {parts: [{last_frame: true, names: [a, b]}]}}',
         r'features.next.done.parts\[0\].names: expected 1 name for a last_frame, found 2'),
        ('{next.done: {parts: [{names: [a]}]}}', r"features.next.done.parts\[0\]: the key 'from'"),
        ('{action: {dtype: int64, parts: [{from: {topic: /a, field: b}, names: [x], '
         'align: {strategy: linear}}]}}', r'features.action.parts\[0\]: linear gives numbers'),
        ('{action: {dtype: bool, parts: [{from: {topic: /a, field: b}, names: [x], '
         'relative_to_start: true}]}}', r'features.action.parts\[0\]: relative_to_start: boolea'),
        ('{action: {dtype: bool, parts: [{from: {topic: /a, field: b}, names: [x], '
         'align: {gap_ms: 1, on_gap: mark}}]}}', r'features.action.parts\[0\]: mark writes 999'),
        ('{action: {samples: 1, parts: [{from: {topic: /a, field: b}, names: [x]}]}}',
         'features.action.samples: expected an integer from 2 to 100000, found 1'),
        ('{action: {window_ms: 5, parts: [{from: {topic: /a, field: b}, names: [x]}]}}',
         'features.action.window_ms: is that of several samples; give samples, too'),
        ('{action: {samples: 60000, parts: [{from: {topic: /a, field: b}, names: [x, y]}]}}',
         'features.action.samples: expected at most 100000 numbers in a frame, found 60000 x 2'),
        ('{next.reward: {samples: 2, parts: [{from: {topic: /a, field: b}, names: [x]}]}}',
         'features.next.reward.parts: LeRobot takes one number of next.reward, found 2 samples'),
        ('{action: {samples: 2, parts: [{last_frame: true, names: [x]}]}}',
         r'features.action.parts\[0\]: last_frame is one of a frame, not of its samples'),
        ('{action: {samples: 2, parts: [{from: {topic: /a, field: b}, names: [x], '
         'align: {strategy: hold, reduce: max}}]}}',
         r'features.action.parts\[0\]: reduce makes one number of several, samples keep them'),
        ('{observation.state: {samples: 2, parts: [{from: {topic: /a, field: b}, names: [x]}]}, '
         'action: {minus: observation.state, parts: [{from: {topic: /a, field: b}, names: [x]}]}}',
         'features.action.minus: observation.state has other samples than action; a difference'),
        ('{observation.image: {parts: []}}', 'features.observation.image: LeRobot takes every '
                                             'key'),
        ('{images.front: {camera: {}}}', 'features.images.front: the key of a camera starts with '
         'observation., as observation.images.front'),
        ('{action: {parts: [{from: {topic: /a, field: b}, names: [x]}], minus: '
         'observation.state}}',
         "features.action.minus: expected the key of another vector, found 'observation.state'"),
        ('{action: {parts: [{from: {topic: /a, field: b}, names: [x]}], minus: action}}',
         "features.action.minus: expected the key of another vector, found 'action'"),
        ('{action: {parts: [{from: {topic: /a, field: b}, names: [x]},'
         '{from: {topic: /a, field: c}, names: [y, x]}]}}',
         r"features.action.parts\[1\]: names: 'x' is in features.action.parts\[0\] already"),
    ],
)  # fmt: skip
def test_features_are_checked(tmp_path, features, message):
    assert re.match(message, refused(tmp_path, f'{HEAD}features: {features}'))


def test_a_difference_needs_elements_to_subtract(tmp_path):
    part = '{{from: {{topic: /a, field: b}}, names: [{}]}}'
    one = f'{{parts: [{part.format("x")}]}}'
    two = f'{{parts: [{part.format("y")}], minus: observation.state}}'
    message = refused(tmp_path, f'{HEAD}features: {{observation.state: {one}, action: {two}}}')
    assert message.startswith(
        'features.action.minus: observation.state has no element with a name'
    )
    for keys, problem in (
        ('dtype: int64, ', 'observation.state has dtype float32, and action int64; a difference'),
        ('dtype: bool, ', 'booleans have no difference; set dtype: int64'),
    ):
        two = f'{{{keys}parts: [{part.format("x")}], minus: observation.state}}'
        message = refused(tmp_path, f'{HEAD}features: {{observation.state: {one}, action: {two}}}')
        assert message.startswith(f'features.action.minus: {problem}')
    angle = part.format('x').replace('names', 'unit: angle, names')
    two = f'{{parts: [{angle}], minus: observation.state}}'
    message = refused(tmp_path, f'{HEAD}features: {{observation.state: {one}, action: {two}}}')
    assert 'x has unit none in observation.state, and angle in action; angles need' in message
    two = f'{{parts: [{part.format("x")}], minus: observation.state}}'
    three = f'{{parts: [{part.format("x")}], minus: action}}'
    message = refused(
        tmp_path,
        f'{HEAD}features: {{observation.state: {one}, action: {two}, action.more: {three}}}',
    )
    assert message.startswith('features.action.more.minus: action is a difference itself')


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        ('nams: [a]', r"unknown key 'nams' \(known are .*\); did you mean 'names'\?"),
        ('length: 2', "the key 'names' is missing"),
        ('names: a', 'names: expected a list of names, or a pattern such as taxel_{000:512}, '
                     "found 'a'"),
        ('names: "a_{0:2"', 'names: expected a list of names, or a pattern .*, found'),
        ('names: "a_{}"', "names: expected in braces a range such as 0:6 .*, found ''"),
        ('names: "a_{x}"', "names: expected in braces a range .* left,right, found 'x'"),
        ('names: "a_{x,}"', "names: expected in braces a range .* left,right, found 'x,'"),
        ('names: "a_{2:2}"', "names: expected in braces .*, start below stop, found '2:2'"),
        ('names: "a_{0:999999999999}"', 'names: expected in braces a range of at most 100000'),
        ('names: "{0:999}{0:999}"', 'names: expected at most 100000 names'),
        ('names: "a_{x,x}"', "names: the name 'a_x' is given twice"),
        ('length: 500, names: "t_{0:512}"', 'names: expected 500 names, one for each element, '
                                            'found 512'),
        ('names: [1, 2]', r'names\[0\]: expected a name \(texts that look like numbers in quotes'),
        ('names: [a, b, a]', r"names\[2\]: the name 'a' is given twice"),
        ('select: ["0:99999", "0:2"], names: [a]', 'select: expected at most 100000 elements'),
        ('length: 3, names: [a, b]', 'names: expected 3 names, one for each element, found 2'),
        ('length: 3, select: [0:3], names: [a, b]', 'names: expected 3 names'),
        ('length: 3, select: [0, 3], names: [a, b]', r'select\[1\]: expected elements from 0 to 2 '
         r'\(length is 3\), found 3'),
        ('length: 3, select: [1:4], names: [a, b, c]', r'select\[0\]: expected elements from'),
        ('select: [3:3], names: [a]', r'select\[0\]: expected an element such as 6 or a range'),
        ('select: [":3"], names: [a]', r"select\[0\]: expected an element .*, found ':3'"),
        ('select: [-1], names: [a]', r'select\[0\]: expected an integer from 0 to 100000'),
        ('select: ["0:999999999999"], names: [a]', r'select\[0\]: expected an element'),
        ('select: 3, names: [a]', 'select: expected a list of elements'),
        ('length: 0, names: [a]', 'length: expected an integer from 1'),
        ('names: [a], on_length: fit', 'on_length: expected one of refuse, pad, cut, pad_or_cut'),
        ('names: [a], pad_value: 1', 'pad_value: is for on_length: pad or pad_or_cut'),
        ('names: [a], on_length: cut, pad_value: 1', 'pad_value: is for on_length: pad or pad_o'),
        ('names: [a], on_length: pad, align: {strategy: linear}', 'on_length: linear calculates '
         'with the elements of several messages, which may differ in number; set strategy: n'),
        ('names: [a], on_length: cut, align: {strategy: hold, reduce: max}', 'on_length: max c'),
        ('names: [a], on_length: pad, relative_to_start: true', 'relative_to_start: would calc'),
        ('joints: [a], on_length: pad', 'on_length: is for arrays of numbers by their places'),
        ('names: [a], select: [1], on_length: pad', 'on_length: needs to know the length with s'),
        ('names: [a, b], element_count: true', 'element_count is one number with one name, with'),
        ('names: [a], length: 1, element_count: true', 'element_count is one number with one n'),
        ('unit: deg, names: [a]', 'unit: expected one of deg2rad, rad2deg, angle, angle_deg, '),
        ('nan: keep, names: [a]', "nan: expected one of fail, hold, found 'keep'"),
        ('nan: .inf, names: [a]', 'nan: expected fail, hold or a number, found inf'),
        ('quaternion: short, names: [x, y, z, w]', 'quaternion: expected one of continuous, posi'),
        ('quaternion: continuous, names: [x, y, z]', 'quaternion: is for one quaternion, expected '
         '4 elements, found 3; make it a part of its own'),
        ('quaternion: continuous, names: [x, y, z, w], align: {strategy: linear}',
         'quaternion: linear does not turn; set strategy: slerp'),
        ('quaternion: positive_w, names: [a, b, c, d]', 'quaternion: positive_w needs to know wh'),
        ('unit: angle, names: [x, y, z, w], align: {strategy: slerp}', 'slerp turns one quaternion'
         ', whose elements are no angles; leave out unit'),
        ('last_frame: true, names: [a]', "unknown key 'from' .known are names, last_frame."),
        ('names: [a], stand_in: {from: {topic: /b, field: c}, names: [a]}',
         'stand_in.names: a stand_in has the names of its part'),
        ('names: [a], stand_in: {from: {topic: /b, field: c}, select: [1, 2]}',
         'stand_in: expected 2 names, one for each element, found 1'),
        ('names: [a], stand_in: {from: {topic: /b}}', "stand_in.from: the key 'field' is missing"),
        ('range: [1, 1], names: [a]', r'range: expected \[low, high\] with low and high '
                                      r'different'),
        ('range: [1], names: [a]', r'range: expected \[low, high\], what becomes 0 and'),
        ('range: [0, x], names: [a]', r"range\[1\]: expected a number, found 'x'"),
        ('scale: 0, names: [a]', 'scale: expected a number that is not 0, found 0'),
        ('offset: .nan, names: [a]', 'offset: expected a number, found nan'),
        ('threshold: yes, names: [a]', "threshold: expected a number, found 'yes'"),
        ('relative_to_start: 1, names: [a]', 'relative_to_start: expected true or false, found 1'),
        ('names: [a], align: {strategi: hold}', "align: unknown key 'strategi'"),
        ('names: [a], align: {strategy: cubic}', 'align.strategy: expected one of nearest, '
                                                 'hold, '),
        ('names: [a], align: {on_gap: skip}', 'align.on_gap: expected one of keep, hold, drop, s'),
        ('names: [a], align: {timeline: receive}', 'align.timeline: expected one of bag, header'),
        ('names: [a], align: {tolerance_ms: 0}', 'align.tolerance_ms: expected a number greater '
         'than 0, or null for no limit, found 0'),
        ('names: [a], align: {zeros_before_first: true}', 'align.zeros_before_first: needs '
         'strategy hold, found nearest'),
        ('names: [a], align: {reduce: max}', 'align.reduce: needs strategy hold, found nearest'),
        ('names: [a], align: {strategy: hold, reduce: min}', 'align.reduce: expected one of any,'),
        ('names: [a], align: {shift: -1}', 'align.shift: expected an integer from 0'),
        ('names: [a], align: {offset_ms: late}', 'align.offset_ms: expected milliseconds'),
        ('names: [a], align: {offset_ms: 1e300}', 'align.offset_ms: expected milliseconds, '
         'at most'),
        (f'names: [a], offset: 1{"0" * 400}', 'offset: expected a number, found 10000'),
        ('names: [a, b, c], align: {strategy: slerp}', 'slerp turns one quaternion, expected 4 '
         'elements, found 3'),
        ('names: [a], gap_flag: true', "unknown key|from: unknown key 'field'"),
        ('joints: [a, b], select: [0, 1]', 'joints: expected select or joints, found both'),
        ('joints: [a, b], names: [x]', 'names: expected 2 names, one for each element, found 1'),
        ('joints: [a, a]', r"joints\[1\]: the name 'a' is given twice"),
        ('joints: []', r'joints: expected a list of names, found \[\]'),
    ],
)  # fmt: skip
def test_parts_are_checked(tmp_path, keys, message):
    assert re.match(message, refused_part(tmp_path, keys))


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        ('{topic: /a}', "from: the key 'field' is missing"),
        ('{topic: /a, field: b, fields: [c]}', 'from: expected field or fields, found both'),
        ('{topic: /a, field: b..c}', 'from.field: expected a field path such as'),
        ('{topic: /a, fields: [b, c d]}', r'from.fields\[1\]: expected a field path such as'),
        ('{topic: /a, field: b, names_field: c}', 'from.names_field: names the joints of a part'),
        ('{topic: /a, field: b, align: {strategy: slerp}}', 'slerp turns one quaternion'),
        ('{topic: /a, field: b, align: {on_gap: x}}', 'from.align.on_gap: expected one of'),
    ],
)
def test_sources_of_parts_are_checked(tmp_path, source, message):
    text = f'{HEAD}features: {{action: {{parts: [{{from: {source}, names: [a]}}]}}}}'
    found = refused(tmp_path, text).removeprefix('features.action.parts[0]').lstrip('.: ')
    assert re.match(message, found)


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        ('names: [a, b], align: {gap_ms: 1}', 'names: expected 1 name for a gap_flag, found 2'),
        ('names: [a]', 'a gap_flag needs to know what a gap is; set align.gap_ms'),
        ('names: [a], align: {gap_ms: 1, on_gap: split}', 'align.on_gap: a gap_flag keeps the'),
        ('names: [a], align: {gap_ms: 1}, scale: 2', "unknown key 'scale'"),
    ],
)
def test_gap_flags_are_checked(tmp_path, keys, message):
    part = f'{{from: {{topic: /tick}}, gap_flag: true, {keys}}}'
    found = refused(tmp_path, f'{HEAD}features: {{action: {{parts: [{part}]}}}}')
    assert re.match(message, found.removeprefix('features.action.parts[0]').lstrip('.: '))


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        ('size: {width: 640}', "size: the key 'height' is missing"),
        ('size: {width: 640, height: 8}', 'size.height: expected an integer from 16 to 8192'),
        ('size: 640x480', "size: expected a mapping with the keys width, height, found '640x480'"),
        ('depth: 16bit', 'depth: expected one of original, range8, metric12, image16, copy'),
        ('depth_range: [0, 1]', 'depth_range: only for depth cameras; set depth to one of'),
        ('depth: range8, depth_range: [5, 5]', r'depth_range: expected \[min, max\] in mm'),
        ('depth: range8, depth_range: [0, 1.5]', r'depth_range: expected \[min, max\] in mm'),
        ('align: {strategy: linear}', 'align.strategy: linear is not possible for cameras'),
        ('align: {on_gap: mark}', 'align.on_gap: mark writes 999 in place of numbers'),
        ('align: {on_gap: zeros}', 'align.on_gap: zeros writes zeros in place of numbers'),
        ('align: {strategy: hold, reduce: any}', 'align.reduce: only for the parts of vectors'),
        ('align: {shift: 1}', 'align.shift: only for the parts of vectors'),
        (
            'align: {strategy: hold, zeros_before_first: true}',
            'align.zeros_before_first: only for',
        ),
    ],
)
def test_cameras_are_checked(tmp_path, keys, message):
    text = f'{HEAD}features: {{observation.d: {{camera: {{from: {{topic: /c}}, {keys}}}}}}}'
    found = refused(tmp_path, text).removeprefix('features.observation.d.camera.')
    assert re.match(message, found)


def test_a_default_alignment_must_be_possible_for_cameras_too(tmp_path):
    for align, message in [
        ('{strategy: slerp}', 'align.strategy: slerp is not possible as the default of all'),
        ('{on_gap: mark}', 'align.on_gap: mark writes 999'),
        ('{on_gap: hold, tolerance_ms: x}', 'align.tolerance_ms: expected a number'),
        ('nearest', 'align: expected a mapping with the keys strategy, timeline'),
    ]:
        assert refused(tmp_path, f'{HEAD}align: {align}\nfeatures:\n{ARM}').startswith(message)


@pytest.mark.parametrize(
    ('episodes', 'message'),
    [
        ('{}', 'episodes: expected one of ranges, .*, found none'),
        ('{ranges: [], marks_file: x}', 'episodes: expected one of .*, found ranges and marks'),
        ('{min_episode_s: 0}', 'episodes.min_episode_s: expected seconds greater than 0, found 0'),
        ('{range: []}', "episodes: unknown key 'range' .*; did you mean 'ranges'"),
        ('{ranges: []}', r'episodes.ranges: expected a list of ranges of time, found \[\]'),
        ('{ranges: [{start_s: 3, stop_s: 3}]}', r'episodes.ranges\[0\]: expected 0 <= start_s < '
         'stop_s, found 3 and 3'),
        ('{ranges: [{start_s: 3, stop_s: 1e300}]}', r'episodes.ranges\[0\].stop_s: expected '
         'seconds, at most'),
        ('{ranges: [{start_s: 0, stop_s: 3}, {start_s: 2, stop_s: 4}]}',
         r'episodes.ranges\[1\].start_s: expected a start at or after the end of the range '
         r'before'),
        ('{marks_file: "{name}.json"}', 'episodes.marks_file: expected a path such as'),
        ('{while_true: {topic: /a}}', "episodes.while_true: the key 'field' is missing"),
        ('{each_message: {topic: /a, fields: [x]}}', 'episodes.each_message: unknown key '
                                                     "'fields'"),
        ('{events: {from: {topic: /a, field: b}}}', "episodes.events: the key 'start' is missing"),
        ('{events: {from: {topic: /a, field: b}, start: []}}', 'episodes.events.start: expected a '
         'list of texts'),
        ('{events: {from: {topic: /a, field: b}, start: [1]}}', r'episodes.events.start\[0\]: '
         r'expected a text \(numbers in quotes\), found 1'),
        ('{events: {from: {topic: /a, field: b}, start: [x], stop: [x]}}',
         r"episodes.events.stop\[0\]: 'x' is in start already"),
    ],
)  # fmt: skip
def test_episode_rules_are_checked(tmp_path, episodes, message):
    text = f'{HEAD}features:\n{ARM}\nepisodes: {episodes}'
    assert re.match(message, refused(tmp_path, text))


def test_long_values_are_shortened_in_errors(tmp_path):
    assert len(refused(tmp_path, f'{HEAD}features: "{"x" * 10000}"')) < 200


characters = st.characters().filter(lambda one: category(one) not in {'Cs', 'Cc', 'Zl', 'Zp'})
texts = st.text(characters, min_size=1, max_size=12).filter(lambda text: text.strip())
words = texts.filter(lambda text: not any(character.isspace() for character in text))
field_paths = st.from_regex(r'\A[a-zA-Z][a-z_0-9]{0,5}(\[[0-9]\])?(\.[a-z]{1,3})?\Z')
msgtypes = st.sampled_from(['sensor_msgs/msg/JointState', 'a/msg/B'])
positive = st.floats(1e-6, 1e6) | st.integers(1, 1000)
numbers = st.floats(-1e9, 1e9) | st.integers(-1000, 1000)
limits = st.none() | positive
timelines = st.sampled_from(['bag', 'header'])


def aligns(use):
    strategies = ['nearest', 'hold', *(['linear'] if use != 'camera' else [])]
    on_gap = ['keep', 'hold', 'drop', 'split', 'fail', *(['mark'] if use != 'camera' else [])]
    plain = st.builds(
        Align, st.sampled_from(strategies), timelines, limits, limits, st.sampled_from(on_gap),
        offset_ms=st.just(0.0) | numbers, shift=st.integers(0, 0 if use == 'camera' else 9),
    )  # fmt: skip
    if use == 'camera':
        return plain
    held = plain.map(lambda a: replace(a, strategy='hold', zeros_before_first=True))
    return plain | held | held.map(lambda a: replace(a, on_gap='zeros', reduce='mean'))


def sources(fields, align=None):
    one = st.builds(
        Source,
        words,
        fields.map(tuple),
        st.lists(msgtypes, max_size=2, unique=True).map(tuple),
        st.none() if align is None else st.none() | align,
    )
    return st.lists(one, min_size=1, max_size=2).map(tuple)


no_fields = st.just([])
one_field = st.lists(field_paths, min_size=1, max_size=1)
some_fields = st.lists(field_paths, min_size=1, max_size=3)


named_sources = sources(one_field, aligns('vector')).flatmap(
    lambda found: st.lists(field_paths, min_size=len(found), max_size=len(found)).map(
        lambda paths: tuple(
            replace(source, names_field=path) for source, path in zip(found, paths, strict=True)
        )
    )
)


@st.composite
def with_a_rule_of_length(draw, part):
    plain = [align.strategy in ('nearest', 'hold') and align.reduce in (None, 'last')
             for align in (part.align, *(source.align for source in part.sources if source.align))
             ]  # fmt: skip
    if part.joints or not all(plain) or part.relative_to_start:
        return part
    if len(part.names) == 1 and part.length is part.select is None and draw(st.booleans()):
        return replace(part, element_count=True)
    if part.select is not None and part.length is None:
        return part
    on_length = draw(st.sampled_from(['refuse', 'pad', 'cut', 'pad_or_cut']))
    pads = on_length.startswith('pad')
    return replace(part, on_length=on_length, pad_value=draw(numbers) if pads else 0.0)


@st.composite
def parts(draw, names, *, stands_in=False):
    if len(names) == 1 and not stands_in and draw(st.integers(0, 4)) == 0:
        return Part(names, (), last_frame=True)
    if len(names) == 1 and not stands_in and draw(st.booleans()):
        align = Align(timeline=draw(timelines), gap_ms=draw(positive), tolerance_ms=draw(limits))
        return Part(names, draw(sources(no_fields)), gap_flag=True, align=align)
    length = select = None
    joints = ()
    if draw(st.booleans()):
        joints = tuple(
            draw(st.lists(texts, min_size=len(names), max_size=len(names), unique=True))
        )
        length = draw(st.none() | st.integers(1, 40))
    elif draw(st.booleans()):
        select = tuple(
            draw(st.lists(st.integers(0, 30), min_size=len(names), max_size=len(names)))
        )
        length = draw(st.none() | st.integers(31, 40))
    elif draw(st.booleans()):
        length = len(names)
    part = Part(
        names,
        draw(named_sources if joints else sources(some_fields, aligns('vector'))),
        length,
        select,
        joints,
        draw(st.sampled_from(['', 'deg2rad', 'rad2deg', 'angle', 'angle_deg'])),
        draw(st.none() | st.tuples(numbers, numbers).filter(lambda pair: pair[0] != pair[1])),
        draw(st.none() | numbers.filter(bool)),
        draw(st.none() | numbers),
        draw(st.none() | numbers),
        draw(st.booleans()),
        align=draw(aligns('vector')),
        stand_in=None if stands_in else draw(st.none() | parts(names, stands_in=True)),
        nan=draw(st.sampled_from(['fail', 'hold']) | numbers),
    )
    part = draw(with_a_rule_of_length(part))
    aligns_used = [part.align, *(source.align for source in part.sources if source.align)]
    if part.unit.startswith('angle') and 'mean' in {align.reduce for align in aligns_used}:
        return replace(part, unit='')  # there is no mean of angles
    return part


@st.composite
def vectors(draw, key):
    names = draw(st.lists(texts, min_size=1, max_size=6, unique=True))
    cuts = sorted(draw(st.sets(st.integers(1, 5))) | {len(names)})
    pieces = [tuple(names[a:b]) for a, b in zip([0, *cuts], cuts, strict=False)]
    dtype = draw(st.sampled_from(['float32', 'float64']))
    vector = VectorFeature(
        key, tuple(draw(parts(piece)) for piece in pieces if piece), None, dtype
    )
    used = [one for part in vector.parts for one in (part, part.stand_in) if one]
    aligned = [align for one in used for align in (one.align, *(s.align for s in one.sources))]
    if any(align and align.reduce for align in aligned) or any(one.last_frame for one in used):
        return vector
    samples = draw(st.integers(1, 9))
    window_ms = draw(st.none() | positive) if samples > 1 else None
    return replace(vector, samples=samples, window_ms=window_ms)


@st.composite
def cameras(draw, key):
    depth = draw(st.sampled_from(['', 'original', 'range8', 'metric12', 'image16', 'copy']))
    low, high = draw(
        st.lists(st.integers(0, 65535), min_size=2, max_size=2, unique=True).map(sorted)
    )
    return CameraFeature(
        key,
        draw(sources(no_fields, aligns('camera'))),
        draw(st.none() | st.tuples(st.integers(16, 8192), st.integers(16, 8192))),
        depth,
        (low, high) if depth else (0, 1500),
        draw(aligns('camera')),
        draw(st.none() | st.builds(Crop, *[st.integers(0, 999)] * 2, *[st.integers(1, 999)] * 2)),
        draw(st.sampled_from([0, 90, 180, 270])),
        draw(st.sampled_from(['', 'scale', 'pad', 'crop'])),
        None if depth else draw(st.none() | st.just((float(low), float(high)))),
        draw(st.none() | st.floats(1e-3, 1e4)) if depth else None,
        'video' if depth == 'metric12' else draw(st.sampled_from(['video', 'image'])),
        draw(st.sampled_from(['', '/eye/camera_info'])),
    )


@st.composite
def episodes(draw):
    kind = draw(st.sampled_from(['', 'ranges', 'marks', 'while_true', 'each_message', 'events']))
    if kind == 'ranges':
        edges = draw(st.lists(st.floats(0, 1e6), min_size=2, max_size=8, unique=True).map(sorted))
        return Episodes(
            ranges=tuple(
                TimeRange(a, b, draw(st.just('') | texts))
                for a, b in zip(edges[::2], edges[1::2], strict=False)
            )
        )
    if kind == 'marks':
        return Episodes(marks_file=draw(texts.filter(lambda t: not {'{', '}'} & set(t))) + '{bag}')
    if kind in ('while_true', 'each_message'):
        fields = one_field if kind == 'while_true' else no_fields | one_field
        return Episodes(sources=draw(sources(fields)), rule=kind)
    if kind == 'events':
        found = draw(st.lists(texts, min_size=3, max_size=6, unique=True))
        return Episodes(
            sources=draw(sources(one_field)), rule='events',
            start=tuple(found[:1]), stop=tuple(found[1:2]), discard=tuple(found[3:]),
        )  # fmt: skip
    return Episodes()


@st.composite
def profiles(draw):
    fps = draw(st.integers(1, 100))
    features = [draw(vectors('observation.state'))]
    if draw(st.booleans()):
        action = draw(vectors('action'))
        units = [
            {name: part.unit for part in vector.parts for name in part.names}
            for vector in (action, features[0])
        ]
        shared = units[0].keys() & units[1].keys()
        if any(units[0][name] != units[1][name] for name in shared):
            shared = ()
        if any(part.takes_empty for vector in (action, features[0]) for part in vector.parts):
            shared = ()
        if (action.samples, action.window_ms) != (features[0].samples, features[0].window_ms):
            shared = ()
        features.append(replace(action, minus='observation.state' if shared else None))
    features += [draw(cameras(f'observation.images.c{i}')) for i in range(draw(st.integers(0, 2)))]
    return Profile(
        draw(texts),
        draw(texts),
        fps,
        Clock(
            draw(sources(no_fields)),
            draw(st.floats(100, 1000)),
            draw(st.booleans()),
            draw(st.sampled_from(['auto', 'jump', 'time'])),
            draw(st.integers(0, 100)),
            draw(st.sampled_from(['min_end', 'max_end', 'none'])),
            tuple(draw(st.lists(words, max_size=3))),
            draw(timelines),
            on_step_back=draw(st.sampled_from(['split', 'fail'])),
            on_pause=draw(st.sampled_from(['split', 'keep'])),
        ),
        tuple(features),
        draw(texts),
        draw(st.just(()) | sources(one_field)),
        replace(draw(episodes()), min_episode_s=draw(st.just(0.0) | positive)),
        language=tuple(
            Language(draw(sources(one_field)), style, draw(st.sampled_from(['user', 'assistant'])))
            if style
            else Language(draw(sources(one_field)), key='complementary_info.said')
            for style in draw(st.sets(st.sampled_from(['subtask', 'plan', 'interjection', ''])))
        ),
    )


@settings(max_examples=60, deadline=None)
@given(profile=profiles())
def test_a_profile_survives_being_written_and_read(tmp_path_factory, profile):
    path = tmp_path_factory.getbasetemp() / 'round_trip.yaml'
    path.write_text(profile_as_yaml(profile), encoding='utf-8', newline='')
    assert read_profile(path) == profile


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.sampled_from('ab:-{}[], \n\'"#&*!|>%@`0')) | st.text())
def test_any_text_is_read_or_refused_with_one_line(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / 'any.yaml'
    path.write_text(text, encoding='utf-8', errors='replace')
    with pytest.raises(UsageError) as caught:
        read_profile(path)
    assert '\n' not in str(caught.value)


def test_written_profiles_show_defaults_and_no_aliases(tmp_path):
    text = profile_as_yaml(load(tmp_path, f'{HEAD}features:\n{ARM}'))
    assert 'name: robot\n' in text
    text = ' '.join(text.split())
    assert 'decimation: auto' in text
    assert (
        'align: {strategy: nearest, timeline: bag, tolerance_ms: null, gap_ms: null, on_gap: '
        'keep, zeros_before_first: false, reduce: null, offset_ms: 0.0, shift: 0}'
    ) in text
    assert 'on_step_back: split' in text
    assert 'on_pause: split' in text
    assert '&' not in text


def test_what_is_no_float32_survives_being_written_and_read(tmp_path):
    text = f"""{HEAD}features:
  observation.q:
    parts: [{{from: {{topic: /a, field: q}}, names: [a, b, c, w], quaternion: positive_w}}]
  observation.n: {{dtype: int64, parts: [{{from: {{topic: /a, field: n}}, names: [n]}}]}}
  next.done: {{dtype: bool, parts: [{{last_frame: true, names: [done]}}]}}
"""
    profile = load(tmp_path, text)
    assert [vector.dtype for vector in profile.vectors] == ['float32', 'int64', 'bool']
    assert profile.vectors[0].parts[0].quaternion == 'positive_w'
    assert profile.vectors[2].parts[0].last_frame
    assert load(tmp_path, profile_as_yaml(profile)) == profile


def test_a_quaternion_may_be_turned(tmp_path):
    part = load_part(tmp_path, 'names: [x, y, z, w], align: {strategy: slerp}')
    assert part.align.strategy == 'slerp'


def test_shipped_profiles_are_valid_and_in_one_piece_after_a_round_trip(tmp_path):
    names = shipped.shipped_profiles()
    assert 'joint_state_image' in names
    for name, path in names.items():
        profile = resolve(replace(Settings(), profile=name), [])
        assert profile == read_profile(path)
        assert profile.name == name
        assert load(tmp_path, profile_as_yaml(profile)) == profile


def test_the_example_of_the_reference_is_valid(tmp_path):
    text = (CONFIG.parent / 'docs' / 'profiles.md').read_text(encoding='utf-8')
    example, kuavo, mine, stereo = re.findall(r'```yaml\n(.*?)```', text, re.DOTALL)
    profile = load(tmp_path, example)
    assert [len(vector.names) for vector in profile.vectors] == [12, 8]
    kept = load(tmp_path, kuavo).vectors
    assert [len(vector.names) for vector in kept] == [36, 36, 3]
    (tmp_path / 'lab').mkdir()
    (tmp_path / 'lab' / 'base.yaml').write_text(example)
    (tmp_path / 'mine').mkdir()
    changed = load(tmp_path / 'mine', mine).vectors[0]
    assert changed.names == ('gripper', 'imu_x', 'imu_y', 'imu_z', 'imu_w', 'pressure')
    assert changed.parts[0].value_range == (0, 100)
    cameras = load(tmp_path, f'{HEAD}features:\n{stereo}').cameras
    assert [camera.crop.x for camera in cameras] == [0, 640]


@pytest.mark.parametrize(
    'line',
    [
        line.strip().removeprefix('my.yaml: ')
        for line in (CONFIG.parent / 'docs' / 'profiles.md').read_text('utf-8').splitlines()
        if line.startswith('    my.yaml: ')
    ],
)
def test_the_refusals_of_the_reference_are_real(tmp_path, line):
    part = 'from: {topic: /a, field: b}, length: 7'
    wrong = {
        'unknown key': f'action: {{parts: [{{{part}, nams: [x]}}]}}',
        'expected elements': f'action: {{parts: [{{{part}, select: [0, 7], names: [x, y]}}]}}',
        'linear': 'observation.images.head: '
        '{camera: {from: {topic: /c}, align: {strategy: linear}}}',
        'the key': 'fps: 1}\nfps: {',
    }
    feature = next(feature for words, feature in wrong.items() if words in line)
    assert refused(tmp_path, f'{HEAD}features: {{{feature}}}') == line


def test_shipped_parameter_files_mean_what_their_names_say(tmp_path):
    files = shipped.shipped_parameter_files()
    robots = {
        f'kuavo_{platform}_{eef}': (platform, eef)
        for platform in ('4pro', '5w')
        for eef in ('leju_claw', 'qiangnao', 'rq2f85')
    }
    assert set(files) == {'convert', *robots}
    for name, expected in robots.items():
        path = str(files[name])
        found = settings_from(read_params_file(path), path)
        options = found.options_of(KuavoOptions)
        assert (options.platform_type, options.eef_type) == expected
        profile = resolve(found, [])
        assert load(tmp_path, profile_as_yaml(profile)) == profile


def test_the_file_of_all_settings_is_in_step_with_the_settings():
    path = shipped.shipped_parameter_files()['convert']
    text = path.read_text(encoding='utf-8')
    assert text == shipped.parameter_file_template(), (
        'write it anew: python -m kuavo_bag_converter profile --template > config/convert.yaml'
    )
    values = read_params_file(str(path))
    assert settings_from(values, str(path)) == Settings()
    known = known_settings()
    assert set(known) - set(values) == {info.name for info in known.values() if info.default == ()}


@pytest.mark.parametrize(
    'package',
    [
        'lib/python3.10/site-packages',  # pip in a venv, and colcon
        'local/lib/python3.12/dist-packages',  # Debian's pip
        'target',  # pip install --target
    ],
)
def test_shipped_files_are_found_where_packages_are_installed(tmp_path, monkeypatch, package):
    home = tmp_path / package / 'kuavo_bag_converter' / 'profiles'
    home.mkdir(parents=True)
    monkeypatch.setattr(shipped, '__file__', str(home / 'shipped.py'))
    with pytest.raises(UsageError, match='the shipped configuration is not there'):
        shipped.shipped_profiles()
    prefix = tmp_path / package.partition('/lib/')[0].removeprefix('lib/python3.10/site-packages')
    folder = prefix / 'share' / 'kuavo_bag_converter' / 'config' / 'profiles'
    folder.mkdir(parents=True)
    (folder / 'mine.yaml').touch()
    assert shipped.shipped_profiles() == {'mine': folder / 'mine.yaml'}


def test_a_profile_is_named_by_path_or_by_the_name_of_a_shipped_one(tmp_path):
    load(tmp_path, f'{HEAD}features:\n{ARM}')
    by_path = resolve(replace(Settings(), profile=str(tmp_path / 'robot.yaml')), ['/any'])
    assert by_path.robot_type == 'my_robot'
    with pytest.raises(UsageError, match=r"'joint_state_imge' is not known; expected one of kuavo"
                       r".*; did you mean 'joint_state_image'\?"):  # fmt: skip
        resolve(replace(Settings(), profile='joint_state_imge'), [])
    with pytest.raises(UsageError, match=r'none\.yaml: cannot read the file'):
        resolve(replace(Settings(), profile='none.yaml'), [])


def test_kuavo_settings_have_no_meaning_with_another_profile(tmp_path):
    load(tmp_path, f'{HEAD}features:\n{ARM}')
    mine = replace(Settings(), profile=str(tmp_path / 'robot.yaml'))
    assert resolve(replace(mine, vcodec='hevc', chunk_size=7), []).name == 'robot'
    with pytest.raises(
        UsageError, match=r'^train_hz: has no meaning with profile .*robot\.yaml; set fps there$'
    ):
        resolve(updated(mine, {'train_hz': 30}, 'test'), [])
    kuavo = [info for info in known_settings().values() if info.owner is KuavoOptions]
    assert len(kuavo) == 36
    for info in kuavo:
        assert info.yaml
        name = info.name
        other = next((c for c in info.choices if c != info.default), None)
        if other is None:
            other = {'bool': not info.default, 'str': 'other', 'int list': [1, 2]}.get(
                info.kind, (info.minimum or 0) + 1
            )
        if other == info.default:
            other = 2 * other
        if info.kind == 'str list':
            other = [other]
        with pytest.raises(UsageError, match=f'^{re.escape(name)}: has no meaning'):
            resolve(updated(mine, {name: other}, 'test'), [])


def command(capsys, *arguments):
    code = cli.run(['profile', *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_shows_what_the_settings_mean(tmp_path, capsys):
    given = {'platform_type': '5w', 'eef_type': 'qiangnao', 'use_depth': 'false', 'train_hz': 15}
    words = [word for name, value in given.items() for word in ('--set', f'{name}={value}')]
    code, out, _ = command(capsys, '--show', *words)
    assert code == 0
    expected = kuavo_profile(KuavoOptions(**given))
    assert load(tmp_path, out) == expected


def test_the_command_needs_a_bag_for_what_is_automatic(capsys):
    code, out, err = command(capsys, '--show')
    assert (code, out) == (2, '')
    assert err == (
        'error: eef_type, platform_type, use_depth: auto is settled by a bag; give BAG, or set '
        'eef_type, platform_type, use_depth\n'
    )


def test_the_command_checks_and_lists(tmp_path, capsys):
    load(tmp_path, f'{HEAD}features:\n{ARM}')
    path = tmp_path / 'robot.yaml'
    code, out, _ = command(capsys, '--check', str(path))
    assert (code, out) == (0, f'{path}: valid, with the features observation.state\n')
    path.write_text('fps: 10')
    code, _, err = command(capsys, '--check', str(path))
    assert code == 2
    assert err == f"error: {path}: the key 'robot_type' is missing\n"
    code, out, _ = command(capsys, '--list')
    assert code == 0
    assert f'  joint_state_image  {CONFIG / "profiles" / "joint_state_image.yaml"}\n' in out
    assert f'  {CONFIG / "kuavo_4pro_leju_claw.yaml"}\n' in out
    code, out, _ = command(capsys, '--template')
    assert code == 0
    assert out == (CONFIG / 'convert.yaml').read_text(encoding='utf-8')
