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

"""Video streams: each message shows its own picture, whatever the packaging, or none."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from kuavo_bag_converter.messages.video_streams import open_stream
from kuavo_bag_converter.support.errors import BagError, ImageError
import numpy as np
import pytest
from video_packets import (
    annexb,
    avcc,
    configuration,
    decoded,
    encode,
    is_slice,
    nal_units,
    THEORA_LEVELS,
    theora_packets,
)


def shown(codec, messages, number=lambda key: key, counts=None):
    """Return what each message (key, payload) shows: a frame or an ImageError."""
    stream = open_stream(codec, Counter() if counts is None else counts)
    messages = list(messages)
    found = {}
    for key, payload in messages:
        for result in stream.feed(key, memoryview(payload), number(key)):
            assert result.key not in found
            found[result.key] = result.picture
    for result in stream.flush():
        assert result.key not in found
        found[result.key] = result.picture
    assert found.keys() == dict(messages).keys()
    return found


def bad(found):
    return sorted(key for key, picture in found.items() if isinstance(picture, ImageError))


def assert_right(found, pictures, of=lambda key: key):
    """Check that what is shown is right, bit by bit."""
    for key, frame in found.items():
        if not isinstance(frame, ImageError):
            np.testing.assert_array_equal(frame.to_ndarray(), pictures[of(key)])


STREAMS = [
    ('h264', '', {}),
    ('h264', ':slices=3', {}),
    ('h264', ':slice-max-size=200', {}),
    ('h264', ':ref=4:aud=1', {'tune': 'film'}),
    ('h264', ':open-gop=1', {'profile': 'main'}),
    ('h264', ':intra-refresh=1', {}),
    ('h264', ':interlaced=1', {}),
    ('h264', '', {'profile': 'baseline'}),
    ('hevc', '', {}),
    ('hevc', ':ref=3:aud=1', {'preset': 'fast'}),
    ('hevc', ':slices=2', {}),
    ('av1', '', {}),
    ('av1', ':pred-struct=2:rtc=0', {}),
    ('vp9', '', {}),
]


@pytest.mark.parametrize(('codec', 'parameters', 'options'), STREAMS)
def test_every_lost_message_leaves_no_damaged_picture(codec, parameters, options):
    units = encode(codec, parameters=parameters, options=options)
    pictures = decoded(codec, units)
    assert len(pictures) == len(units) == 12
    whole = shown(codec, enumerate(units))
    assert not bad(whole)
    assert_right(whole, pictures)
    for lost in range(len(units)):
        left = [(key, unit) for key, unit in enumerate(units) if key != lost]
        found = shown(codec, left)
        assert_right(found, pictures)
        assert all(key > lost for key in bad(found))
        if 'intra-refresh' not in parameters:
            key_frame = -(-(lost + 1) // 4) * 4
            assert all(key < key_frame for key in bad(found))


def packed(how, codec, is_first, nals):
    """Return the messages that the NAL units of a picture come in."""
    if how == 'start codes of 3':
        return [annexb(nals, b'\0\0\1')]
    if how == 'a message each':
        return [annexb([nal]) for nal in nals]
    if how == 'a message each, lengths':
        return [avcc([nal]) for nal in nals]
    if how == 'the last slice alone':
        return [annexb(nals[:-1]), annexb(nals[-1:])]
    record, size = {
        'lengths': (False, 4), 'record': (True, 4), 'record, lengths of 2': (True, 2),
    }[how]  # fmt: skip
    begin = [configuration(codec, nals, size)] if record and is_first else []
    return [*begin, avcc(nals, size)]


@pytest.mark.parametrize('codec', ['h264', 'hevc'])
@pytest.mark.parametrize(
    'how',
    ['start codes of 3', 'a message each', 'a message each, lengths', 'the last slice alone',
     'lengths', 'record', 'record, lengths of 2'],
)  # fmt: skip
def test_a_message_shows_the_picture_that_it_is_a_part_of(codec, how):
    units = encode(codec, count=6, parameters=':slices=2:aud=1')
    pictures = decoded(codec, units)
    messages = [
        (number, part)
        for number, unit in enumerate(units)
        for part in packed(how, codec, not number, nal_units(unit))
    ]
    found = shown(codec, [(key, payload) for key, (_, payload) in enumerate(messages)])
    assert not bad(found)
    assert_right(found, pictures, lambda key: messages[key][0])


def test_a_message_with_several_pictures_shows_the_last_of_them():
    units = encode('h264', count=8)
    counts = Counter()
    pairs = [(key, b''.join(units[slice(key, key + 2)])) for key in range(0, 8, 2)]
    found = shown('h264', pairs, counts=counts)
    assert not bad(found)
    ((text, count),) = ((text, count) for text, count in counts.items() if count)
    assert count == 4
    assert 'share a message with a later one' in text
    assert_right(found, decoded('h264', units), lambda key: key + 1)


@pytest.mark.parametrize('codec', ['h264', 'hevc'])
def test_a_message_that_is_there_twice_shows_its_picture_twice(codec):
    units = encode(codec, count=8)
    counts = Counter()
    messages = [(2 * key + twice, unit) for key, unit in enumerate(units) for twice in range(2)]
    found = shown(codec, messages, counts=counts)
    assert not bad(found)
    assert_right(found, decoded(codec, units), lambda key: key // 2)
    ((text, count),) = ((text, count) for text, count in counts.items() if count)
    assert count == 8
    assert 'repeat the one before' in text


def test_a_delimiter_behind_a_picture_does_not_move_it():
    units = [nal_units(unit) for unit in encode('h264', count=6, parameters=':aud=1')]
    late = [[*this[1:], following[0]] for this, following in pairwise(units)]
    found = shown('h264', enumerate(map(annexb, late)))
    assert not bad(found)
    assert_right(found, decoded('h264', encode('h264', count=6)))


@pytest.mark.parametrize('codec', ['h264', 'hevc'])
@pytest.mark.parametrize('lost', [0, 1, 2])
def test_a_picture_whose_slices_are_lost_is_bad_and_those_that_need_it(codec, lost):
    units = encode(codec, count=12, parameters=':slices=3')
    pictures = decoded(codec, units)
    messages = []
    for number, unit in enumerate(units):
        nals = nal_units(unit)
        slices = [nal for nal in nals if is_slice(codec, nal)]
        if number == 9:
            del slices[lost]
        messages.append(annexb([*(nal for nal in nals if not is_slice(codec, nal)), *slices]))
    found = shown(codec, enumerate(messages))
    assert bad(found) == [9, 10, 11]
    assert_right(found, pictures)


def test_pictures_that_no_other_refers_to_may_be_lost():
    units = encode('h264', parameters=':bframes=0:ref=1')
    pictures = decoded('h264', units)
    # Nothing follows the last picture of a group but a key frame.
    left = [(key, unit) for key, unit in enumerate(units) if key not in (3, 7)]
    found = shown('h264', left)
    assert not bad(found)
    assert_right(found, pictures)


@pytest.mark.parametrize('codec', ['h264', 'hevc'])
def test_a_loss_is_told_with_how_many_pictures_are_missing(codec):
    units = list(enumerate(encode(codec)))
    found = shown(codec, [*units[:5], *units[7:]])
    assert str(found[7]).endswith('before this picture, since 2 of the stream are missing')


@pytest.mark.parametrize('step', [1, 33_366_700])
def test_a_loss_of_a_whole_turn_of_the_numbers_is_found_by_those_of_messages(step):
    units = encode('h264', count=44, gop=60)
    pictures = decoded('h264', units)
    # The encoder counts up to 16.
    left = [(key, unit) for key, unit in enumerate(units) if not 10 <= key < 26]
    found = shown('h264', left, lambda key: key * step + key * 7919 % 13 * (step // 200))
    assert bad(found) == list(range(26, 44))
    assert_right(found, pictures)
    # A camera that pauses for another time goes on.
    whole = shown('h264', enumerate(units), lambda key: (key + 21 * (key > 20)) * step)
    assert not bad(whole)


@pytest.mark.parametrize('codec', ['h264', 'hevc'])
def test_key_frames_without_parameter_sets_say_what_is_missing(codec):
    units = [
        annexb([nal for nal in nal_units(unit) if is_slice(codec, nal)]) for unit in encode(codec)
    ]
    found = shown(codec, enumerate(units))
    assert str(found[4]) == f'no parameter sets of the {codec} stream before this key frame'
    assert bad(found) == list(range(12))


def test_a_stream_of_theora_is_read_with_its_headers():
    packets = theora_packets()
    found = shown('theora', enumerate(packets))
    means = [frame.to_ndarray(format='rgb24').mean() for frame in found.values()]
    assert np.allclose(means, [20, 20, 20, *THEORA_LEVELS], atol=1)
    late = shown('theora', enumerate(packets[3:]))
    assert bad(late) == list(range(9))
    assert 'no headers of the theora stream' in str(late[0])


def test_a_lost_packet_of_theora_is_found_by_its_number():
    packets = list(enumerate(theora_packets()))
    found = shown('theora', [*packets[:5], *packets[6:]])
    assert bad(found) == [6]
    means = [found[key].to_ndarray(format='rgb24').mean() for key in range(7, 12)]
    assert np.allclose(means, THEORA_LEVELS[4:], atol=1)


@pytest.mark.parametrize('codec', ['h264', 'hevc'])
def test_streams_that_reorder_their_pictures_are_refused(codec):
    units = encode(codec, parameters=':bframes=2:b-adapt=0', options={'tune': 'grain'})
    with pytest.raises(BagError, match='reorders its pictures'):
        shown(codec, enumerate(units))
