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

from collections import Counter
import contextlib
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.fields import FieldReader, numeric_fields
from kuavo_bag_converter.support.errors import BagError, UsageError
import numpy as np
import pytest
from ros_messages import connection_of, header, ROS1, ROS2, store_of
from ros_modules import add_package, needed

END_EFFECTOR = """\
================================================================================
MSG: kuavo_msgs/endEffectorData
string[] name
float64[] position
float64[] velocity
float64[] effort
"""
ROS1_HEADER = """\
================================================================================
MSG: std_msgs/Header
uint32 seq
time stamp
string frame_id
"""
CLAW_FIELDS = 'std_msgs/Header header\nint8[] state\nkuavo_msgs/endEffectorData data\n'
CLAW_STATE = f"""\
# State of both claws
Header header

int8 kError = -1
int8 kUnknown = 0   # not known
int8 kMoving=1
int8 kReached= 2
int8 GRABBED=3
float32 Mixed_Case = 0.5
string note = no # comment here
int8[] state # left, right
endEffectorData data
{ROS1_HEADER}{END_EFFECTOR}"""
CLAW = 'kuavo_msgs/msg/lejuClawState'


def claw_payload():
    store = store_of(CLAW_FIELDS + END_EFFECTOR, CLAW)
    kinds = store.types
    data = kinds['kuavo_msgs/msg/endEffectorData'](
        ['left_claw', 'right_claw'], np.array([4.85, 4.7]), np.zeros(2), np.ones(2)
    )
    message = kinds[CLAW](header(ros1=True), np.array([1, -1], dtype=np.int8), data)
    return bytes(store.serialize_ros1(message, CLAW))


def joint_state(encoding, positions=(1.0, 2.0, 3.0)):
    store = ROS1 if encoding == 'ros1' else ROS2
    message = store.types['sensor_msgs/msg/JointState'](
        header(encoding == 'ros1'),
        ['a', 'b', 'c'],
        np.array(positions, dtype=np.float64),
        np.array([], dtype=np.float64),
        np.array([], dtype=np.float64),
    )
    serialize = store.serialize_ros1 if encoding == 'ros1' else store.serialize_cdr
    return bytes(serialize(message, 'sensor_msgs/msg/JointState'))


def test_constants_with_lower_case_names_are_not_fields():
    connection = connection_of(CLAW, encoding='ros1', definition=CLAW_STATE)
    message = Definitions().decoder(connection)(claw_payload())
    assert message.state.tolist() == [1, -1]
    assert message.data.position.tolist() == [4.85, 4.7]
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (5, 7)


def test_a_definition_with_windows_line_ends_tabs_and_no_msg_part_is_read():
    text = CLAW_STATE.replace('\n', '\r\n').replace('int8[] state', '\tint8[]\tstate')
    connection = connection_of('kuavo_msgs/lejuClawState', encoding='ros1', definition=text)
    message = Definitions().decoder(connection)(claw_payload())
    assert message.data.name == ['left_claw', 'right_claw']


@pytest.mark.parametrize('fourth', ['joint_torque', 'joint_current', None])
def test_versions_of_one_type_decode_side_by_side(fourth):
    names = ['joint_q', 'joint_v', 'joint_vd', *([fourth] if fourth else [])]
    definition = ''.join(f'float64[] {name}\n' for name in names)
    msgtype = 'kuavo_msgs/msg/jointData'
    store = store_of(definition, msgtype)
    arrays = [np.arange(3.0) + i for i in range(len(names))]
    payload = bytes(store.serialize_ros1(store.types[msgtype](*arrays), msgtype))
    definitions = Definitions()
    other = connection_of(msgtype, encoding='ros1', definition='float64[] joint_q\n')
    definitions.decoder(other)
    connection = connection_of(msgtype, encoding='ros1', definition=definition)
    reader = FieldReader((names[-1],), connection, definitions)
    assert reader.read(definitions.decoder(connection)(payload)).tolist() == arrays[-1].tolist()


@pytest.mark.parametrize('other', ['float64 Y', 'float32 y', 'float64 y\nfloat64 z', 'float64 y'])
def test_versions_of_a_type_within_others_decode_side_by_side(other):
    definitions = Definitions()
    for kind, inner in (('First', 'float64 y'), ('Second', other)):
        msgtype = f'kuavo_msgs/msg/{kind}'
        text = f'Inner x\n{"=" * 80}\nMSG: kuavo_msgs/Inner\n{inner}\n'
        store = store_of(text, msgtype)
        names = [line.split()[1] for line in inner.splitlines()]
        values = store.types['kuavo_msgs/msg/Inner'](*(2.5 + place for place in range(len(names))))
        payload = bytes(store.serialize_cdr(store.types[msgtype](values), msgtype))
        connection = connection_of(msgtype, encoding='cdr', definition=text)
        read = FieldReader([f'x.{name}' for name in names], connection, definitions).read
        found = read(definitions.decoder(connection)(payload)).tolist()
        assert found == [2.5 + place for place in range(len(names))]


@pytest.mark.parametrize('encoding', ['ros1', 'cdr'])
@pytest.mark.parametrize('view', [bytes, memoryview])
def test_both_encodings_decode_from_bytes_and_views(encoding, view):
    connection = connection_of('sensor_msgs/msg/JointState', encoding=encoding)
    message = Definitions().decoder(connection)(view(joint_state(encoding)))
    assert message.position.tolist() == [1.0, 2.0, 3.0]
    assert message.header.frame_id == 'map'


@pytest.mark.parametrize('headed', [True, False])
def test_idl_definitions_are_read(headed):
    idl = """
module my_pkg { module msg {
  module Flag_Constants { const long kLow = 3; };
  struct Flag { my_pkg::msg::Inner inner; sequence<double> values; boolean on; };
}; };
"""
    inner = 'module my_pkg { module msg { struct Inner { long count; }; }; };'
    separator = '=' * 80
    if headed:
        text = (
            f'{separator}\nIDL: my_pkg/msg/Flag\n{idl}{separator}\nIDL: my_pkg/msg/Inner\n{inner}'
        )
    else:
        text = inner + idl
    msgtype = 'my_pkg/msg/Flag'
    store = store_of(
        'my_pkg/Inner inner\nfloat64[] values\nbool on\n'
        f'{separator}\nMSG: my_pkg/Inner\nint32 count\n',
        msgtype,
        ros1=False,
    )
    inner_message = store.types['my_pkg/msg/Inner'](4)
    message = store.types[msgtype](inner_message, np.array([1.5]), True)
    payload = bytes(store.serialize_cdr(message, msgtype))
    connection = connection_of(msgtype, definition=text, definition_format='idl')
    definitions = Definitions()
    reader = FieldReader(('inner.count', 'values', 'on'), connection, definitions)
    assert reader.read(definitions.decoder(connection)(payload)).tolist() == [4.0, 1.5, 1.0]


IDL_SECTIONS = {
    'my_pkg/msg/Wheel': """\
// generated from rosidl_adapter/resource/msg.idl.em
// with input from my_pkg/msg/Wheel.msg

module my_pkg {
  module msg {
    @verbatim (language="comment", text=
      "One wheel." "\\n"
      "#include is no directive here")
    struct Wheel {
      @unit (value="rad/s")
      double speed;

      string<8> name;
    };
  };
};
""",
    'my_pkg/msg/Base': """\
// generated from rosidl_adapter/resource/msg.idl.em
// with input from my_pkg/msg/Base.msg

#include "my_pkg/msg/Wheel.idl"
  #include "std_msgs/msg/Header.idl"

module my_pkg {
  module msg {
    typedef my_pkg::msg::Wheel my_pkg__msg__Wheel;
    typedef my_pkg__msg__Wheel my_pkg__msg__Wheel__2[2];
    typedef double double__3[3];
    module Base_Constants {
      const uint8 MODE_OFF = 0;
      const string kName = "base";
      const boolean kFlag = TRUE;
    };
    struct Base {
      std_msgs::msg::Header header;

      my_pkg__msg__Wheel__2 wheels;

      @verbatim (language="comment", text=
        "x, y, yaw")
      double__3 pose;

      sequence<float, 4> currents;

      @default (value=TRUE)
      boolean on;
    };
  };
};
""",
}
"""Two types as rosidl_adapter writes them."""


@pytest.mark.parametrize('first', ['my_pkg/msg/Wheel', 'my_pkg/msg/Base'])
def test_idl_as_ros_generates_it_is_read_with_its_includes_in_any_order(first):
    last = next(name for name in IDL_SECTIONS if name != first)
    text = ''.join(f'{"=" * 80}\nIDL: {name}\n{IDL_SECTIONS[name]}' for name in (first, last))
    msgtype = 'my_pkg/msg/Base'
    fields = (
        'std_msgs/Header header\nWheel[2] wheels\nfloat64[3] pose\nfloat32[] currents\nbool on'
    )
    wheel = f'{"=" * 80}\nMSG: my_pkg/Wheel\nfloat64 speed\nstring name\n'
    store = store_of(f'{fields}\n{wheel}', msgtype, ros1=False)
    wheels = [store.types['my_pkg/msg/Wheel'](speed, 'left') for speed in (2.5, -2.5)]
    message = store.types[msgtype](
        header(), wheels, np.array([1.0, 2.0, 3.0]), np.array([7.0], np.float32), True
    )
    payload = bytes(store.serialize_cdr(message, msgtype))
    connection = connection_of(msgtype, definition=text, definition_format='idl')
    definitions = Definitions()
    reader = FieldReader(('wheels[1].speed', 'pose', 'currents', 'on'), connection, definitions)
    assert reader.read(definitions.decoder(connection)(payload)).tolist() == [-2.5, 1, 2, 3, 7, 1]


@pytest.mark.parametrize(
    ('declared', 'expected'),
    [
        ('const string URL = "http://x/#(a)@b(("; struct A { double x; };', ['x']),
        ('const long N = 1 + 2; struct A { double x; double y[N]; };', ['x', 'y']),
        (f'const long N = {"(" * 9}1{")" * 9}; struct A {{ double x; }};', ['x']),
        ('module A_Constants { const boolean a = TRUE; }; struct A { double x; };', ['x']),
        ('/* a (b) */ struct A { @unit ("(m") double x; // (m)\n };', ['x']),
    ],
)
def test_what_idl_says_besides_its_types_does_not_matter(declared, expected):
    text = f'module p {{ module msg {{ {declared} }}; }};'
    connection = connection_of('p/msg/A', definition=text, definition_format='idl')
    assert list(numeric_fields(Definitions().decoder(connection))) == expected


@pytest.mark.parametrize(
    'declared',
    [
        f'const long N = {"(" * 9}1{")" * 9}; struct A {{ double x[N]; }};',
        f'struct A {{ {"sequence<" * 40}double{">" * 40} x; }};',
    ],
)
def test_idl_that_would_take_the_parser_for_ever_is_refused(declared):
    text = f'module p {{ module msg {{ {declared} }}; }};'
    connection = connection_of('p/msg/A', definition=text, definition_format='idl')
    with pytest.raises(BagError, match=r'^/topic: .*p/msg/A .*nested parentheses or sequences'):
        Definitions().decoder(connection)


EVENT = 'my_pkg/srv/Add_Event'


def test_service_events_are_decoded_where_their_whole_definition_is_embedded():
    section = '=' * 80 + '\nMSG: '
    definition = (
        'service_msgs/msg/ServiceEventInfo info\n'
        'my_pkg/srv/Add_Request[<=1] request\nmy_pkg/srv/Add_Response[<=1] response\n'
        f'{section}service_msgs/msg/ServiceEventInfo\nuint8 REQUEST_SENT=0\nuint8 event_type\n'
        f'{section}my_pkg/srv/Add_Request\nint64 a\nint64 b\n'
        f'{section}my_pkg/srv/Add_Response\nint64 sum\n'
    )
    connection = connection_of(EVENT, definition=definition)
    definitions = Definitions()
    # One request of 3 and 4, no response.
    payload = b'\0\1\0\0' + np.array([1, 1], '<u4').tobytes() + np.array([3, 4], '<i8').tobytes()
    message = definitions.decoder(connection)(payload + bytes(4))
    reader = FieldReader(('info.event_type', 'request[0].b'), connection, definitions)
    assert reader.read(message).tolist() == [1.0, 4.0]


@pytest.mark.parametrize(
    ('definition', 'line'),
    [
        ('', 'no definition of my_pkg/srv/Add_Event'),
        (
            '=' * 80 + '\nSRV: my_pkg/srv/Add\nint64 a\n---\nint64 sum\n',
            'the bag holds a definition of my_pkg/srv/Add_Event that cannot be read '
            "(no field in the line 'SRV: my_pkg/srv/Add')",
        ),
    ],
)
def test_service_events_of_other_recorders_are_refused_in_one_line(definition, line):
    connection = connection_of(EVENT, topic='/add/_service_event', definition=definition)
    with pytest.raises(BagError) as caught:
        Definitions().decoder(connection)
    assert str(caught.value) == f'/add/_service_event: {line}'


def test_a_bag_without_definitions_uses_the_standard_types():
    connection = connection_of('sensor_msgs/msg/JointState', definition='')
    assert Definitions().decoder(connection)(joint_state('cdr')).name == ['a', 'b', 'c']


def test_standard_types_follow_the_distro():
    connection = connection_of('sensor_msgs/msg/Range', definition='')
    assert 'variance' not in Definitions(distro='humble').decoder(connection).fields()
    assert 'variance' in Definitions(distro='jazzy').decoder(connection).fields()


@pytest.mark.parametrize('place', ['kuavo_msgs/msg', 'kuavo_msgs', 'msg', '.'])
def test_a_bag_without_definitions_uses_the_folders_of_msg_files(tmp_path, place):
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'lejuClawState.msg').write_text(CLAW_STATE.partition('=====')[0])
    (folder / 'endEffectorData.msg').write_text(END_EFFECTOR.split('\n', 2)[2])
    connection = connection_of(CLAW, encoding='ros1', definition='')
    message = Definitions(msg_path=[tmp_path]).decoder(connection)(claw_payload())
    assert message.data.position.tolist() == [4.85, 4.7]


def test_types_that_a_definition_leaves_out_are_found_elsewhere():
    definition = 'Header header\nsensor_msgs/JointState joints\n'
    connection = connection_of('my_pkg/msg/Robot', encoding='ros1', definition=definition)
    assert 'joints.position' in numeric_fields(Definitions().decoder(connection))


def test_types_are_found_in_the_packages_of_a_sourced_ros(tmp_path, monkeypatch):
    needed('ament_index_python', 'needs a ROS with its package index')
    folder = add_package(tmp_path, 'my_pkg') / 'msg'
    folder.mkdir(parents=True)
    (folder / 'Speed.msg').write_text('float64 value\n')
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    connection = connection_of('my_pkg/msg/Speed', definition='')
    assert list(Definitions().decoder(connection).fields()) == ['value']


def test_a_type_that_is_nowhere_defined_is_named_with_the_file_that_is_needed():
    connection = connection_of(CLAW, topic='/claw', definition='')
    with pytest.raises(BagError, match=r'/claw: no definition of kuavo_msgs/msg/lejuClawState.*'
                       r'kuavo_msgs/msg/lejuClawState\.msg as msg_path'):  # fmt: skip
        Definitions().decoder(connection)
    connection = connection_of(CLAW, topic='/claw', definition='endEffectorData data\n')
    with pytest.raises(BagError, match=r'endEffectorData, which kuavo_msgs/msg/lejuClawState'):
        Definitions().decoder(connection)


@pytest.mark.parametrize(
    ('definition', 'kind'),
    [
        ('float64 x y\nnonsense\n', 'msg'),
        ('Other other\n' + '=' * 80 + '\nMSG: my_pkg/Other\nLoop loop\n', 'msg'),
        ('module a { struct { }', 'idl'),
        ('wstring text\n', 'msg'),
    ],
)
def test_definitions_that_cannot_be_used_are_refused(definition, kind):
    connection = connection_of('my_pkg/msg/Loop', definition=definition, definition_format=kind)
    with pytest.raises(BagError, match=r'^/topic: .*my_pkg/msg/Loop') as caught:
        Definitions().decoder(connection)
    assert '\n' not in str(caught.value)


def test_another_encoding_is_refused():
    connection = connection_of('my_pkg.Proto', encoding='protobuf', definition='x')
    with pytest.raises(BagError, match=r"/topic: .*'protobuf'; only ros1 and cdr"):
        Definitions().decoder(connection)


def test_wrong_folders_and_distros_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r'msg_path: .*missing is not a folder'):
        Definitions(msg_path=[tmp_path / 'missing'])
    with pytest.raises(UsageError, match=r"distro: .*humble.*found 'kinetic'"):
        Definitions(distro='kinetic')


@pytest.mark.parametrize(
    ('encoding', 'damage'),
    [
        *product(['ros1', 'cdr'], [lambda d: d[:-9], lambda _: b'']),
        ('ros1', lambda d: d + bytes(8)),
    ],
)
def test_a_payload_of_the_wrong_length_names_topic_and_type(encoding, damage):
    connection = connection_of('sensor_msgs/msg/JointState', encoding=encoding, topic='/joints')
    with pytest.raises(BagError, match=r'^/joints: .*sensor_msgs/msg/JointState'):
        Definitions().decoder(connection)(damage(joint_state(encoding)))


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(['ros1', 'cdr']))
def test_random_payloads_raise_nothing_but_bag_errors(data, encoding):
    payload = bytearray(joint_state(encoding))
    for _ in range(data.draw(st.integers(1, 6))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(payload)))
    decode = Definitions().decoder(connection_of('sensor_msgs/msg/JointState', encoding=encoding))
    with contextlib.suppress(BagError):
        decode(bytes(payload[:cut]))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200), st.sampled_from(['msg', 'idl']))
def test_random_definitions_raise_nothing_but_bag_errors(text, kind):
    with contextlib.suppress(BagError):
        Definitions().decoder(connection_of('a/msg/B', definition=text, definition_format=kind))


def transforms():
    kinds = ROS2.types
    vector = kinds['geometry_msgs/msg/Vector3']
    turn = kinds['geometry_msgs/msg/Quaternion'](0.0, 0.0, 0.0, 1.0)
    msgtype = 'geometry_msgs/msg/TransformStamped'
    items = [
        kinds[msgtype](
            header(), 'child', kinds['geometry_msgs/msg/Transform'](vector(x, 2.0, 3.0), turn)
        )
        for x in (1.0, 10.0)
    ]
    message = kinds['tf2_msgs/msg/TFMessage'](items)
    return bytes(ROS2.serialize_cdr(message, 'tf2_msgs/msg/TFMessage'))


def test_field_paths_lead_through_messages_lists_and_arrays():
    connection = connection_of('tf2_msgs/msg/TFMessage')
    definitions = Definitions()
    paths = (
        'transforms[1].transform.translation.x',
        'transforms[0].transform.rotation.w',
        'transforms[0].header.stamp.nanosec',
    )
    message = definitions.decoder(connection)(transforms())
    values = FieldReader(paths, connection, definitions).read(message)
    assert values.dtype == np.float64
    assert values.tolist() == [10.0, 1.0, 7.0]
    short = FieldReader(('transforms[2].transform.translation.x',), connection, definitions)
    with pytest.raises(BagError, match=r'transforms has 2 elements, element 2 of'):
        short.read(message)


def test_every_kind_of_number_becomes_a_float64_vector():
    definition = 'bool on\nuint8[] bytes\nint8[3] fixed\nfloat32 x\nbool[] flags\nuint64 big\n'
    msgtype = 'my_pkg/msg/Numbers'
    store = store_of(definition, msgtype, ros1=False)
    message = store.types[msgtype](
        True,
        np.array([1, 255], dtype=np.uint8),
        np.array([-1, 0, 1], dtype=np.int8),
        0.5,
        np.array([True, False]),
        2**40,
    )
    payload = bytes(store.serialize_cdr(message, msgtype))
    connection = connection_of(msgtype, definition=definition)
    definitions = Definitions()
    fields = numeric_fields(definitions.decoder(connection))
    assert fields == {
        'on': 'bool',
        'bytes': 'uint8[]',
        'fixed': 'int8[3]',
        'x': 'float32',
        'flags': 'bool[]',
        'big': 'uint64',
    }
    values = FieldReader((*fields, 'fixed[2]'), connection, definitions).read(
        definitions.decoder(connection)(payload)
    )
    assert values.tolist() == [1, 1, 255, -1, 0, 1, 0.5, 1, 0, 2.0**40, 1]


def test_values_do_not_refer_to_the_payload():
    connection = connection_of('sensor_msgs/msg/JointState')
    definitions = Definitions()
    payload = bytearray(joint_state('cdr'))
    message = definitions.decoder(connection)(memoryview(payload))
    values = FieldReader(('position',), connection, definitions).read(message)
    del message
    payload.clear()
    assert values.tolist() == [1.0, 2.0, 3.0]


def test_a_field_named_like_a_keyword_is_reached_by_its_own_name():
    connection = connection_of('my_pkg/msg/Hop', definition='float64 from\n')
    definitions = Definitions()
    message = definitions.decoder(connection)(b'\x00\x01\x00\x00' + np.float64(2.5).tobytes())
    assert FieldReader(('from',), connection, definitions).read(message).tolist() == [2.5]


@pytest.mark.parametrize(
    ('path', 'complaint'),
    [
        ('positions', r"no field 'positions'; did you mean 'position'\? \(it has header, name"),
        (
            'header',
            r'header is std_msgs/msg/Header, not numbers \(.*: header\.stamp\.sec',
        ),
        ('name', r'name is string\[\], not numbers'),
        ('header.frame_id', r'is string, not numbers'),
        ('position.x', r'position is a list: give an index|has no fields'),
        ('header.stamp.sec.x', r'header\.stamp\.sec is int32 and has no fields'),
        ('header[0]', r'header is not a list'),
        ('position[', r"no field 'position\['"),
        ('', r"no field ''"),
    ],
)
def test_a_wrong_path_is_refused_with_what_there_is(path, complaint):
    with pytest.raises(BagError, match=complaint) as caught:
        FieldReader((path,), connection_of('sensor_msgs/msg/JointState'), Definitions())
    assert str(caught.value).startswith('/topic: ')


def test_a_list_of_messages_needs_an_index():
    with pytest.raises(BagError, match=r'transforms is a list: give an index'):
        FieldReader(
            ('transforms.transform.translation.x',),
            connection_of('tf2_msgs/msg/TFMessage'),
            Definitions(),
        )


def test_numbers_of_a_list_of_messages_are_listed_by_its_first_element():
    fields = numeric_fields(Definitions().decoder(connection_of('tf2_msgs/msg/TFMessage')))
    assert fields['transforms[0].transform.translation.x'] == 'float64'


# --- bytes behind the end of a message


def _other_end(payload):
    """Return the same CDR message in the other byte order."""
    return bytes(ROS2.serialize_cdr(
        ROS2.deserialize_cdr(payload, 'sensor_msgs/msg/JointState'),
        'sensor_msgs/msg/JointState',
        little_endian=False,
    ))  # fmt: skip


@pytest.mark.parametrize('order', ['little', 'big'])
@pytest.mark.parametrize('extra', [b'\0' * 4, b'\0' * 8, b'\xff' * 8, bytes(range(100))])
def test_bytes_behind_a_cdr_message_are_ignored_and_counted(order, extra):
    payload = joint_state('cdr') if order == 'little' else _other_end(joint_state('cdr'))
    definitions = Definitions()
    decoder = definitions.decoder(connection_of('sensor_msgs/msg/JointState', topic='/joints'))
    before = definitions.trailing.counts()
    plain = decoder(payload)
    longer = decoder(payload + extra)
    assert longer.position.tolist() == plain.position.tolist() == [1.0, 2.0, 3.0]
    assert longer.name == plain.name
    assert decoder.trailing_bytes(payload + extra) == len(extra)
    assert decoder.trailing_bytes(payload) == 0
    assert definitions.trailing.lines_since(before) == [
        f'/joints: 1 message has {len(extra)} bytes behind the end, which are ignored'
    ]


def test_messages_of_another_length_each_make_one_line():
    definitions = Definitions()
    decoder = definitions.decoder(connection_of('sensor_msgs/msg/JointState', topic='/joints'))
    decoder(joint_state('cdr') + bytes(8))
    before = definitions.trailing.counts()
    for extra in (3, 4, 8, 8, 5000):
        decoder(joint_state('cdr') + bytes(extra))
    assert definitions.trailing.lines_since(before) == [
        '/joints: 4 messages have 4 to 1000 or more bytes behind the end, which are ignored'
    ]


def test_padding_is_no_surplus():
    definitions = Definitions()
    decoder = definitions.decoder(connection_of('sensor_msgs/msg/JointState'))
    decoder(joint_state('cdr') + bytes(3))
    assert decoder.trailing_bytes(joint_state('cdr') + bytes(3)) == 0
    assert not definitions.trailing.counts()


@pytest.mark.parametrize('order', ['little', 'big'])
def test_a_cut_cdr_message_is_refused_wherever_it_is_cut(order):
    payload = joint_state('cdr') if order == 'little' else _other_end(joint_state('cdr'))
    decoder = Definitions().decoder(connection_of('sensor_msgs/msg/JointState'))
    for length in range(len(payload)):
        with pytest.raises(BagError, match='does not fit the definition'):
            decoder(payload[:length])


def test_bytes_behind_a_ros1_message_mean_another_definition():
    decoder = Definitions().decoder(connection_of('sensor_msgs/msg/JointState', encoding='ros1'))
    payload = joint_state('ros1')
    decoder(payload)
    with pytest.raises(BagError, match=f'{len(payload)} bytes by the definition'):
        decoder(payload + bytes(8))


def test_where_no_definition_is_embedded_the_line_says_what_to_check():
    connection = connection_of('sensor_msgs/msg/JointState', topic='/joints', definition='')
    definitions = Definitions()
    definitions.decoder(connection)(joint_state('cdr') + bytes(8))
    (line,) = definitions.trailing.lines_since(Counter())
    assert line.endswith(
        'which are ignored; the bag embeds no definition: check msg_path and distro'
    )
