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

"""Pictures and numbers in messages of every kind that holds them: Foxglove's, FFMPEGPacket..."""

from __future__ import annotations

import base64
from contextlib import suppress
import json
import zlib

from conversions import pictures, report, rows, run
import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.fields import FieldReader, numeric_fields
from kuavo_bag_converter.messages.images import ColorDecoder
from kuavo_bag_converter.support.errors import BagError, ImageError
from mcap.writer import Writer
import numpy as np
from plain_robot import BEGIN, NS
import pytest
from ros_messages import connection_of, header, image, store_of
from video_packets import annexb, encode, nal_units, picture, THEORA_LEVELS, theora_packets

COUNT = 12
FRAMES = COUNT - 1
"""The last message only ends the time that frames are made of."""
_HEADER = {
    True: 'uint32 seq\ntime stamp\nstring frame_id',
    False: 'builtin_interfaces/Time stamp\nstring frame_id',
}
FFMPEG = (
    'ffmpeg_image_transport_msgs/msg/FFMPEGPacket',
    """\
std_msgs/Header header
int32 width
int32 height
string encoding
uint64 pts
uint8 flags
bool is_bigendian
uint8[] data
""",
)
THEORA = (
    'theora_image_transport/msg/Packet',
    """\
std_msgs/Header header
uint8[] data
int32 b_o_s
int32 e_o_s
int64 granulepos
int64 packetno
""",
)
VIDEO = (
    'foxglove_msgs/msg/CompressedVideo',
    """\
builtin_interfaces/Time timestamp
string frame_id
uint8[] data
string format
""",
)
TIME = {'title': 'time', 'type': 'object',
        'properties': {'sec': {'type': 'integer'}, 'nsec': {'type': 'integer'}}}  # fmt: skip
JSON_VIDEO = {
    'title': 'foxglove.CompressedVideo',
    'type': 'object',
    'properties': {
        'timestamp': TIME,
        'frame_id': {'type': 'string'},
        'data': {'type': 'string', 'contentEncoding': 'base64'},
        'format': {'type': 'string'},
    },
}
JSON_ARM = {
    'type': 'object',
    '$defs': {'joint': {'type': 'object', 'properties': {
        'angle': {'type': 'number'}, 'ticks': {'type': ['integer', 'null']}}}},
    'properties': {
        'stamp': TIME,
        'joints': {'type': 'array', 'items': {'$ref': '#/$defs/joint'}},
        'angles': {'type': 'array', 'items': {'type': 'number'}},
        'grid': {'type': 'array', 'items': {'type': 'array', 'items': {'type': 'number'}}},
    },
}  # fmt: skip


def _described(text):
    """Return descriptors that protoc wrote."""
    return zlib.decompress(base64.b85decode(text))


FOXGLOVE = _described(
    'c-pm;PjAyO7{=xFPujQBCd@Rl9tP@(3#rsf2#H%kOcj@6O+(@`rHz|LG<FnwwA~#(0G|MH<ePBhTX5md4PrNOy0%'
    'jhj9VW2ecso<Cr;oOg8KpI!IZY+giAiW9Jgf{Q6ar3cJ&fISQfZ>LF*~h&+;1VfGy~VGhaC90eV;>xx|N1VIJecv'
    'C{PlS&H6!1b0U~a@U&n_D#!yS{k4?ovb9_Q;!8MPlA;*E@CR$ZyBGl;=J+jCqkdC(&?c0#X31%x(AuXeNCs+m&$O'
    'ayu+&Q)rIc}PR4v5O!+(7e#WCXp+ZpqJoG8g0;uKt&0SfwJ|Z|+Yl5FZ-IVE!8lC1kzH8`7QH+nFHcq^VUWC35u}'
    '*BQ`##1{_C4u2rF40Z=x2Nc)iF;ZPda5?oT*)?{m2XGzoP0Uw}e{Wj%sa1Ep0{pWWhayO1#-$GJZo)%iXsGXJ3a)'
    'KayGK%ZaA5$x<l12@QkE63-@?!cC}AHsXHBf-EJYRZK$C*r{lTem2oni|9;50**~WuP!}F6Bcr|o>A*LK(UMW0L?'
    'W!B51DELLWR;3#G2~c~f<z)J&f-RWmd60*=hkb2^ed>26Hyf}L&s`8YG+Yx;XJ69!ytzVw@^n>U=T6+v0G!jGU9a'
    '}mnakzIg0Zf<ci3o#}5F*JA*QYJm^u(ac_a1`^&YN28IfuMPfrO#fdYqNp0jd=Iv{(zvd()IuRr&>@>^Pu`gH9Gq'
    'RyqZk(Ue5a)dV&yr'
)
"""Of foxglove.CompressedVideo, CompressedImage, RawImage and PoseInFrame."""
ROBOT = _described(
    'c-oy*-A)rh6lS*F{v1jv1L9B+4KWd;*(%-;yt08*RJ558O}sI?-R-in-D!5GBG<;m=kU@e@j-kD6EF14Ot)y2pkD'
    'QS-+br)bm2RJtDz8K9JGe1kir}FTQV91nREw3M^kj(2%KE7aUZIOxrQ<*XF*RSe#Xc(vRU9cq)T8YZXz;fA#Za7+'
    'V2T0_Qb%M3fituLUt9^B`>$el2F8M5;`Icf2#3x7-X&EM4TjN^$xwSgnYCLoo@S+wcat_-LZ@FB8cP1%HdG?dL<p'
    '}9(*IPK0N_{l)5q!$$10Vfy(Y!^3VOhJE#A-JYwGd-M?%<FZRE>|6GCDRCq#;Tdf)pi?DgoT{JHk+s2nN6dt4ldI'
    'xOnrsp%e)tqkKnQWdLA-xTy*CI-!8eIWhmYhjh4n}kysYgE6&^4$IMHZ>d87rUz;b#Qy$Bu=_0#?Kqt8F!AxFOVj'
    'G8qgrX5$Ox2GAQ&90)&PB`mhSwK$de0H3%P(3@bZ-;9;f{T!uH&^lNmVHJ#6;b^JMJuylotLlp}K(SItH)eorksF'
    '{`KZvEvX3Z68KpRjv4o+DOxe`~V?q=Y|F`GlK%nhJ5ATFyTGtY^ukjLf`H8}AU>ahkQ%1KWlpDiGo<HT2}&nO~`l'
    'Rl+T^kU($MI>rm+lrIHTgjG?t8#7A>)6*(6#MLw-gN!fk#O@!TVRK7gu7bS%UzioTt~g_B{DtbMn`W!A$CJ{SqEM'
    'D?R@e-4p%C=4E9On%Ol26P9Ea6HB>wvmkij7Dp>Iv>OR~sV@)hZ^?^3s#C}~onN^+f&)26FYU*kl8Cyg58aF_({a'
    '6LPf^3Bw&>VrST~*4&9R&LSfGL$tn^4JbR(~%DpJ2KQrJ&yzsl@BXjbQC#{DBaCHBs+4!}}(i3*3Nq70R!SrnwDp'
    'Hq!iXOzQk_-nj877^gL0$J!<vYfw~IOe;{_-+i*zn4tirgJ;k8pLQDMb_t4M8V&PL$q!Js%{%'
)
"""Of robot.log.Arm: fields of every type."""


def stored(name, definition, values, ros1=False):
    """Return the payload of a message of a definition of its own, and the whole definition."""
    text = definition + '=' * 80 + f'\nMSG: std_msgs/Header\n{_HEADER[ros1]}\n'
    store = store_of(text, name, ros1)
    message = store.types[name](*values)
    serialize = store.serialize_ros1 if ros1 else store.serialize_cdr
    return bytes(serialize(message, name)), text


def ffmpeg(number, data, encoding='h264;yuv420p;bgr8;bgr8', ros1=False):
    values = (header(ros1), 64, 48, encoding, number, 0, False, np.frombuffer(data, np.uint8))
    return stored(*FFMPEG, values, ros1)


def varint(value):
    out = b''
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    """Return a field of protobuf: bytes or text, a double, or a number."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 1) + np.array(value, '<f8').tobytes()
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def fixed32(number, value):
    return varint(number << 3 | 5) + value.to_bytes(4, 'little')


def stamp_of(number):
    return divmod(BEGIN + number * NS // 30, NS)


def proto_stamp(number):
    sec, nanosec = stamp_of(number)
    return field(1, field(1, sec) + field(2, nanosec))


def proto_video(number, data, form):
    return proto_stamp(number) + field(2, 'cam') + field(3, data) + field(4, form)


def proto_picture(number):
    data = cv2.imencode('.png', picture(number)[:, :, ::-1])[1].tobytes()
    return proto_stamp(number) + field(2, data) + field(3, 'png') + field(4, 'cam')


def proto_raw(number):
    pixels = picture(number)
    head = proto_stamp(number) + fixed32(2, 64) + fixed32(3, 48) + field(4, 'rgb8')
    return head + fixed32(5, 192) + field(6, pixels.tobytes())


def proto_pose(number):
    x, y, z = (field(axis, value / 30) for axis, value in ((1, number * 1.0), (2, 0.0), (3, 3.0)))
    return proto_stamp(number) + field(3, field(1, x + y + z))


def json_video(number, data, form):
    sec, nsec = stamp_of(number)
    message = {
        'timestamp': {'sec': sec, 'nsec': nsec}, 'frame_id': 'cam', 'format': form,
        'data': base64.b64encode(data).decode(),
    }  # fmt: skip
    return json.dumps(message).encode()


def json_arm(number):
    joints = [{'angle': number / 10, 'ticks': None if number < 0 else number}, {'ticks': 2}]
    return json.dumps({'joints': joints, 'angles': [1, number / 10], 'grid': [[1]]}).encode()


def cdr_video(number, data, form):
    stamp = header().stamp
    stamp.sec, stamp.nanosec = stamp_of(number)
    return stored(*VIDEO, (stamp, 'cam', np.frombuffer(data, np.uint8), form))


def kinds():
    """Return by topic: encoding, type, schema, and the messages."""
    h264, hevc, av1, vp9 = (encode(codec, COUNT) for codec in ('h264', 'hevc', 'av1', 'vp9'))
    cdr = {
        '/ffmpeg': (FFMPEG[0], [ffmpeg(k, unit, 'hevc_nvenc') for k, unit in enumerate(hevc)]),
        '/cdr_video': (VIDEO[0], [cdr_video(k, unit, 'h264') for k, unit in enumerate(h264)]),
    }
    made = {
        topic: ('cdr', 'ros2msg', kind, messages[0][1].encode(), [data for data, _ in messages])
        for topic, (kind, messages) in cdr.items()
    }
    definition = connection_of('sensor_msgs/msg/Image').definition.encode()
    made['/image'] = (
        'cdr', 'ros2msg', 'sensor_msgs/msg/Image', definition,
        [image(unit, 48, 64, 'H264', 0) for unit in h264],
    )  # fmt: skip
    for topic, kind, messages in (
        ('/proto_video', 'CompressedVideo', [proto_video(k, u, 'av1') for k, u in enumerate(av1)]),
        ('/proto_picture', 'CompressedImage', [proto_picture(k) for k in range(COUNT)]),
        ('/proto_raw', 'RawImage', [proto_raw(k) for k in range(COUNT)]),
        ('/pose', 'PoseInFrame', [proto_pose(k) for k in range(COUNT)]),
    ):
        made[topic] = ('protobuf', 'protobuf', f'foxglove.{kind}', FOXGLOVE, messages)
    for topic, kind, schema, messages in (
        ('/json_video', 'foxglove.CompressedVideo', JSON_VIDEO,
         [json_video(k, u, 'vp9') for k, u in enumerate(vp9)]),
        ('/json_arm', 'Arm', JSON_ARM, [json_arm(k) for k in range(COUNT)]),
    ):  # fmt: skip
        text = json.dumps(schema).encode()
        made[topic] = ('json', 'jsonschema', kind, text, messages)
    return made


CAMERAS = ['ffmpeg', 'cdr_video', 'image', 'proto_video', 'proto_picture', 'proto_raw',
           'json_video']  # fmt: skip


def write(path, made):
    """Write an MCAP file; channels and schemas are numbered in the order of the topics."""
    with path.open('wb') as stream:
        writer = Writer(stream)
        writer.start()
        channels = []
        for topic, (encoding, form, kind, schema, messages) in made.items():
            number = writer.register_schema(kind, form, schema)
            channels.append((writer.register_channel(topic, encoding, number), messages))
        for k in range(COUNT):
            stamp = BEGIN + k * NS // 30
            for channel, messages in channels:
                writer.add_message(channel, stamp, messages[k], stamp)
        writer.finish()
    return path


PROFILE = """
robot_type: made_up
fps: 30
task: Move
clock: {{from: {{topic: /image}}, fps: 30, decimation: time, drop: 0}}
features:
  observation.state:
    parts:
      - {{from: {{topic: /pose, field: pose.position.x{late}}}, names: [x]}}
      - {{from: {{topic: /json_arm, field: 'joints[0].angle'}}, names: [angle]}}
      - {{from: {{topic: /json_arm, field: angles}}, select: [1:2], names: [other]}}
"""


@pytest.fixture(scope='module')
def converted(tmp_path_factory):
    """Two bags with the same messages, whose channels and schemas have other numbers."""
    folder = tmp_path_factory.mktemp('schemas')
    made = kinds()
    bags = [
        write(folder / 'a.mcap', made),
        write(folder / 'b.mcap', dict(reversed(made.items()))),
    ]
    profile = folder / 'profile.yaml'
    cameras = ''.join(
        f'  observation.images.{name}: {{camera: {{from: {{topic: /{name}}}}}}}\n'
        for name in CAMERAS
    )
    profile.write_text(PROFILE.format(late='') + cameras)
    done = run(bags, folder / 'out', profile=str(profile), crf=10)
    assert [outcome.status for outcome in done.outcomes] == ['converted'] * 2, done.outcomes
    return bags, folder / 'out', profile


def shown_by(root, name='cam'):
    """Return the numbers of the pictures that the frames of a camera show."""
    known = np.stack([picture(number) for number in range(COUNT)]).astype(int)
    return [
        int(np.abs(known - shown).mean(axis=(1, 2, 3)).argmin())
        for shown in pictures(root, f'observation.images.{name}')
    ]


@pytest.mark.parametrize('name', CAMERAS)
def test_every_kind_of_message_shows_its_pictures(converted, name):
    _, root, _ = converted
    assert shown_by(root, name) == [*range(FRAMES)] * 2


def test_streams_in_every_kind_of_message_are_copied(converted, tmp_path):
    bags, _, profile = converted
    root = tmp_path / 'out'
    assert run(bags[0], root, profile=str(profile), video='auto').exit_code == 0
    plan = report(root)['bags'][0]['plan']
    copied = ('ffmpeg', 'cdr_video', 'image')
    assert plan['pictures_copied'] == {f'observation.images.{name}': FRAMES for name in copied}
    assert all(count == 0 for count in plan['pictures_encoded'].values())
    for name in CAMERAS:
        assert shown_by(root, name) == [*range(FRAMES)]
    assert cli.run(['verify', str(root), '--bags', str(bags[0]), '--all']) == 0


def test_numbers_of_protobuf_and_json_are_read_by_their_schemas(converted):
    _, root, _ = converted
    expected = [[k / 30, k / 10, k / 10] for k in range(FRAMES)] * 2
    assert rows(root)['observation.state'] == pytest.approx(np.array(expected), abs=1e-6)


def test_verify_and_inspect_read_them_too(converted, capsys):
    bags, root, profile = converted
    words = [str(bag) for bag in bags]
    assert cli.run(['verify', str(root), '--bags', *words, '--sample', '2', '--independent']) == 0
    capsys.readouterr()
    assert cli.run(['inspect', '--json', words[0], '--profile', str(profile)]) == 0
    (bag,) = json.loads(capsys.readouterr().out)['bags']
    found = {topic['topic']: topic for topic in bag['topics']}
    codecs = {name: found[f'/{name}']['picture']['codec'] for name in CAMERAS}
    assert codecs == {
        'ffmpeg': 'hevc', 'cdr_video': 'h264', 'image': 'h264', 'proto_video': 'av1',
        'proto_picture': 'png', 'proto_raw': 'raw', 'json_video': 'vp9',
    }  # fmt: skip
    assert all(found[f'/{name}']['picture']['width'] == 64 for name in CAMERAS)
    assert found['/pose']['fields']['pose.position.x']['first'] == [0.0]
    assert not any(topic['error'] for topic in found.values())


def test_their_timestamps_stand_for_header_stamps(converted, tmp_path):
    bags, _, _ = converted
    profile = tmp_path / 'late.yaml'
    text = PROFILE.format(late=', stamp_field: timestamp').replace('/image}', '/cdr_video}')
    text = text.replace('fps: 30, dec', 'timeline: header, fps: 30, dec')
    profile.write_text(text + 'align: {timeline: header}\n')
    done = run(bags[0], tmp_path / 'out', profile=str(profile))
    assert 'json_arm: Arm (json) does not begin with' in done.outcomes[0].reason
    profile.write_text('\n'.join(
        line for line in profile.read_text().splitlines() if 'json_arm' not in line
    ))  # fmt: skip
    assert run(bags[0], tmp_path / 'out', profile=str(profile)).exit_code == 0
    assert rows(tmp_path / 'out')['observation.state'].reshape(-1) == pytest.approx(
        np.arange(FRAMES) / 30, abs=1e-6
    )
    (track,) = report(tmp_path / 'out')['bags'][0]['plan']['tracks']
    assert track['timeline'] == 'header'


def stream_bag(path, units):
    """Write messages of H.264, given with the numbers of their pictures."""
    kind, text = VIDEO[0], cdr_video(0, b'', 'h264')[1]
    with path.open('wb') as stream:
        writer = Writer(stream)
        writer.start()
        schema = writer.register_schema(kind, 'ros2msg', text.encode())
        channel = writer.register_channel('/cam', 'cdr', schema)
        for place, (number, unit) in enumerate(units):
            stamp = BEGIN + number * NS // 30 + place
            writer.add_message(channel, stamp, cdr_video(number, unit, 'h264')[0], stamp)
        writer.finish()
    return path


CAMERA_PROFILE = """
robot_type: made_up
fps: 30
task: Move
clock: {from: {topic: /cam}, fps: 30, decimation: time, drop: 0}
features: {observation.images.cam: {camera: {from: {topic: /cam}}}}
"""


def test_pictures_behind_a_lost_message_follow_on_bad_image(tmp_path):
    profile = tmp_path / 'profile.yaml'
    profile.write_text(CAMERA_PROFILE)
    units = list(enumerate(encode('h264', COUNT)))
    bag = stream_bag(tmp_path / 'lost.mcap', [*units[:5], *units[6:]])
    failed = run(bag, tmp_path / 'fail', profile=str(profile))
    assert (
        'no h264 key frame before this picture, since 1 of the stream are missing; set on_bad'
        in (failed.outcomes[0].reason)
    )
    # The frame of the lost message is served by the one before.
    for rule, expected in (('repeat', [*range(5), 4, 4, 4, *range(8, 12)]),
                           ('split', [*range(5), 4, *range(8, 12)])):  # fmt: skip
        done = run(bag, tmp_path / rule, profile=str(profile), on_bad_image=rule, crf=10)
        assert done.exit_code == 0
        assert shown_by(tmp_path / rule) == expected


def test_what_shares_messages_or_is_parted_is_counted(tmp_path):
    profile = tmp_path / 'profile.yaml'
    profile.write_text(CAMERA_PROFILE)
    parts = []
    for number, unit in enumerate(encode('h264', COUNT, parameters=':slices=2')):
        nals = nal_units(unit)
        if number in (0, 4):
            parts += [(number, annexb([nal])) for nal in nals]
        else:
            parts.append((number, unit))
    (second,) = (place for place, (number, _) in enumerate(parts) if number == 2)
    parts[slice(second, second + 2)] = [(2, parts[second][1] + parts[second + 1][1])]
    bag = stream_bag(tmp_path / 'parted.mcap', parts)
    (outcome,) = run(bag, tmp_path / 'out', profile=str(profile), crf=10).outcomes
    assert shown_by(tmp_path / 'out') == [0, 1, 3, *range(3, 12)]
    assert cli.run(['verify', str(tmp_path / 'out'), '--bags', str(bag), '--independent']) == 0
    said = '\n'.join(outcome.problems)
    assert 'share a message with a later one, which it shows: 1' in said
    assert 'came in several messages, of which each shows it: 2' in said
    assert 'what comes before a picture of its stream, which they show: ' in said


def pictures_of(connection, messages):
    """Return what the decoder of a connection shows for each message."""
    decoder = ColorDecoder(connection, Definitions(), pix_fmt='yuv444p')
    found = []
    for key, data in enumerate(messages):
        found += decoder.feed(key, data)
    return [give for _, give in sorted([*found, *decoder.flush()], key=lambda item: item[0])]


def error_of(give):
    try:
        give()
    except ImageError as error:
        return str(error)
    return ''


def test_packets_of_ros1_are_read():
    packets = [ffmpeg(k, unit, 'libx264', ros1=True) for k, unit in enumerate(encode('h264'))]
    connection = Connection(0, '/cam', FFMPEG[0], 'ros1', packets[0][1], 'msg')
    assert len([give() for give in pictures_of(connection, [data for data, _ in packets])]) == 12


def test_packets_of_theora_are_read():
    packets = [
        stored(*THEORA, (header(), np.frombuffer(data, np.uint8), 0, 0, 0, number))
        for number, data in enumerate(theora_packets())
    ]
    connection = Connection(0, '/cam', THEORA[0], 'cdr', packets[0][1], 'msg')
    shown = [give() for give in pictures_of(connection, [data for data, _ in packets])]
    means = [frame.to_ndarray(format='rgb24').mean() for frame in shown]
    assert np.allclose(means, [20, 20, 20, *THEORA_LEVELS], atol=2)


def test_packets_whose_numbers_have_a_gap_are_bad_up_to_the_next_key_frame():
    packets = [ffmpeg(k, unit, 'libvpx-vp9') for k, unit in enumerate(encode('vp9'))]
    connection = Connection(0, '/cam', FFMPEG[0], 'cdr', packets[0][1], 'msg')
    left = [data for data, _ in packets[:5] + packets[6:]]
    errors = [error_of(give) for give in pictures_of(connection, left)]
    assert [number for number, error in enumerate(errors) if error] == [5, 6]
    assert errors[5].startswith('/cam: no vp9 key frame before this picture, since 1 messages')


def arm(data, schema=ROBOT):
    text = base64.b64encode(schema).decode()
    connection = Connection(0, '/arm', 'robot.log.Arm', 'protobuf', text, 'protobuf')
    return Definitions().decoder(connection)(data), connection


def test_every_type_of_protobuf_is_read_as_protobuf_writes_it():
    # As Google's library serializes it.
    data = bytes.fromhex(
        '0a0b08da92a0810510a7ccad6812170a016111a7e6df966e1f11c01dab1952c020a886c4be0a1217'
        '0a016111de6e2217275212401de44de84020b5dffbc3031a0844ace4072ccf0ac025842e99bd2a1e'
        'f08de691e09e90e4eb01d8a189a3d4e6e4b3cb0197f2bd9ad59d93fde30130073a03070700480158'
        '80808080f8ffffffff0161ffffffffffffffff75ffffffff8001ffffffffffffffffff0195019b7b'
        'aa3d9a0105c80360f507a2010178b2010c0a0162113677378ae881e93fb2010c0a01611151dd0fe9'
        'dcd1e83fc1010bff9d97d512ed3fd2010161e2010131ea01020100'
    )
    message, connection = arm(data)
    assert (message.stamp.sec, message.stamp.nanosec) == (1344801114, 218850855)
    assert [joint.name for joint in message.joints] == ['a', 'a']
    assert message.joints[1].effort == pytest.approx(7.25950813293457)
    assert message.positions.tolist() == [-3.3511582008991656]
    assert message.loose.tolist() == pytest.approx([-0.07479575276374817])
    assert message.steps.tolist() == [
        8494950509799326584,
        7328422684645206124,
        -8213763586487991436,
    ]
    assert (message.mode, message.modes.tolist()) == (7, [7, 7, 0])
    names = ('count', 'total', 'delta', 'key', 'small', 'a', 'b', 'c', 'd', 'on', 'text')
    assert [getattr(message, name) for name in names] == [
        1,
        0,
        -2147483648,
        18446744073709551615,
        0,
        -1,
        0,
        -9223372036854775808,
        0,
        False,
        'x',
    ]
    assert message.width == 0.9085491143486889
    assert message.blob.tobytes() == bytes.fromhex('c80360f507')
    assert (message.tags, message.flags.tolist()) == (['a'], [True, False])
    decoder = Definitions().decoder(connection)
    assert 'joints[0].position' in numeric_fields(decoder)
    assert not any('child' in path for path in numeric_fields(decoder))
    ticks = FieldReader(['joints[1].ticks'], connection, Definitions()).read(message)
    assert ticks.tolist() == [message.joints[1].ticks]


def test_what_protobuf_does_not_set_is_nan_where_that_can_be_told():
    message, _ = arm(field(2, field(1, 'a')))
    assert message.joints[0].position == 0
    assert np.isnan(message.joints[0].effort)
    assert np.isnan(message.width)
    assert message.count == 0


@pytest.mark.parametrize('data', [b'\x0b', b'\x12\x05a', b'\x48', b'\x18\x01', b'\xff' * 12])
def test_broken_protobuf_is_one_line(data):
    with pytest.raises(BagError, match=r'^/arm: a message of \d+ bytes does not fit the schema'):
        arm(data)


@pytest.mark.parametrize('schema', [b'', b'?', ROBOT[:200], FOXGLOVE])
def test_a_schema_that_does_not_tell_the_type_is_said(schema):
    with pytest.raises(BagError, match=r"'protobuf'; only ros1 and cdr can be read.*; its"):
        arm(b'', schema)


def test_a_picture_of_foxglove_needs_no_fields_in_its_json_schema():
    connection = Connection(0, '/cam', 'foxglove.CompressedImage', 'json', '{}', 'jsonschema')
    message = Definitions().decoder(connection)(json_video(3, b'abc', 'png'))
    assert (message.format, message.data.tobytes(), message.timestamp.sec) == (
        'png', b'abc', stamp_of(3)[0],
    )  # fmt: skip


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        ({'angles': 3}, 'angles is no array'),
        ({'angles': ['1']}, r'angles\[0\] is "1", no number'),
        ({'joints': [[]]}, r'joints\[0\] is no object'),
        ({'joints': [{'angle': True}]}, r'joints\[0\].angle is true, no number'),
    ],
)
def test_json_that_does_not_fit_its_schema_is_one_line(change, text):
    connection = Connection(0, '/arm', 'Arm', 'json', json.dumps(JSON_ARM), 'jsonschema')
    decode = Definitions().decoder(connection)
    data = {**json.loads(json_arm(1)), **change}
    with pytest.raises(BagError, match=rf'^/arm: .* does not fit the schema of Arm \({text}\)'):
        decode(json.dumps(data).encode())


def test_what_ros_cannot_say_of_json_is_left_out_whatever_it_holds():
    parts = {'angle': {'type': 'number'}, 'any': {}, 'free': {'type': 'object'},
             'a b': {'type': 'integer'}, 'rows': {'type': 'array'}}  # fmt: skip
    schema = json.dumps({'type': 'object', 'properties': parts})
    decode = Definitions().decoder(Connection(0, '/arm', 'Arm', 'json', schema, 'jsonschema'))
    for others in ({}, {'any': None, 'free': 3, 'a b': 'c', 'rows': 'none'}):
        assert decode(json.dumps({'angle': 2.5, **others}).encode()).angle == 2.5


PROTO = proto_video(3, b'abc', 'h264')
JSON = json_arm(3)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from(['protobuf', 'json']), st.booleans())
def test_whatever_is_in_a_schema_or_message_only_bag_errors_come_out(data, encoding, of_schema):
    schema = FOXGLOVE if encoding == 'protobuf' else json.dumps(JSON_ARM).encode()
    payload = PROTO if encoding == 'protobuf' else JSON
    broken = bytearray(schema if of_schema else payload)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    schema, payload = (bytes(broken), payload) if of_schema else (schema, bytes(broken))
    kind, form, text = 'Arm', 'jsonschema', schema.decode(errors='replace')
    if encoding == 'protobuf':
        kind, form = 'foxglove.CompressedVideo', 'protobuf'
        text = base64.b64encode(schema).decode()
    connection = Connection(0, '/topic', kind, encoding, text, form)
    with suppress(BagError):
        Definitions().decoder(connection)(payload)


@pytest.mark.parametrize('name', ['x():\n    print(1)\ndef y', 'a b', ''])
def test_names_that_would_be_code_are_refused(name):
    text = json.dumps({'type': 'object', 'properties': {'a': {'type': 'number'}}})
    with pytest.raises(BagError, match='is no name of a type'):
        Definitions().decoder(Connection(0, '/t', name, 'json', text, 'jsonschema'))
    with pytest.raises(BagError):
        Definitions().decoder(Connection(0, '/t', f'a/msg/{name}', 'cdr', 'int32 a', 'msg'))
