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

"""Pictures stored in another order than frames need them: same dataset, flat memory."""

from __future__ import annotations

import av
from bag_edits import copied
from conversions import COLOR, DEPTH, run, same_frames
from hypothesis import given
from hypothesis import strategies as st
from kuavo_bag_converter.alignment.plan import Track, TrackPlan
from kuavo_bag_converter.bags.model import Connection, Message
from kuavo_bag_converter.frames import stream as memory
from kuavo_bag_converter.frames.camera_sequence import CameraSequence
from kuavo_bag_converter.frames.pictures import PictureDecoder
from kuavo_bag_converter.frames.stream import stream
from kuavo_bag_converter.jobs.report import Observer
from kuavo_bag_converter.profiles.model import Align
from kuavo_bag_converter.replay import bag as replay
from kuavo_bag_converter.replay.verify import verify
from kuavo_bag_converter.sample.write import write_sample
from kuavo_bag_converter.support.errors import BagError, ImageError
from kuavo_bag_converter.support.workers import InlineWorkers
import numpy as np
import pytest

CAMERA = Connection(0, '/cam', 'sensor_msgs/msg/Image', 'cdr', '', '')
SIZE = 10
"""Bytes of a payload."""


class Payload(bytes):
    """A payload that counts how many of its kind are alive."""

    alive = 0

    def __new__(cls, ordinal):
        cls.alive += 1
        return super().__new__(cls, ordinal.to_bytes(SIZE, 'big'))

    def __del__(self):
        Payload.alive -= 1


class Stored:
    """A bag that holds messages of one topic in any order."""

    def __init__(self, order):
        self.order = order
        self.counts = {'/cam': len(order)}
        self.passes = 0

    def messages(self, wanted):
        self.passes += 1
        for ordinal in self.order:
            if ordinal in wanted['/cam']:
                yield Message(CAMERA, ordinal, 0, Payload(ordinal))


class Decoder:
    """Decodes all but the bad pictures."""

    def __init__(self, bad):
        self._bad = bad

    def decode(self, data):
        ordinal = int.from_bytes(data, 'big')
        if ordinal in self._bad:
            raise ImageError('bad')
        return ordinal


def track(serving):
    serving = np.array(serving, dtype=np.int64)
    none = np.zeros(len(serving), dtype=np.int64)
    align = Align('nearest', 'bag', None, None, 'keep')
    return TrackPlan(
        Track('cam', '/cam', align), serving, serving, none.astype(float), none,
        none.astype(np.uint8), none.astype(bool), {},
    )  # fmt: skip


def write_all(serving, order, room, bad=()):
    """Write the frames; return the pictures and the most payloads that were held."""
    written, most = [], 0
    decoder = PictureDecoder(lambda _: Decoder(bad), is_stream=False)
    camera = CameraSequence(track(serving), decoder, written.append, 'repeat', room)
    reader = Stored(order)
    for _ in stream(reader, None, [camera], InlineWorkers()):
        most = max(most, Payload.alive)
        assert camera.stale_messages == 0
    assert Payload.alive == 0
    return written, most


def repeating(serving, bad):
    """Return what stands for bad pictures: the one before, the first good one at the start."""
    good = [ordinal for ordinal in serving if ordinal not in bad]
    shown, pictures = good[0], []
    for ordinal in serving:
        shown = shown if ordinal in bad else ordinal
        pictures.append(shown)
    return pictures


@st.composite
def bags(draw):
    serving = draw(st.lists(st.integers(0, 15), min_size=1, max_size=40))
    order = draw(st.permutations(sorted(set(serving))))
    bad = set(draw(st.lists(st.sampled_from(order), max_size=3))) - {serving[0]}
    return serving, order, bad


@given(bags(), st.integers(0, 8))
def test_frames_come_in_order_whatever_the_storage_and_the_room(bag, fitting):
    serving, order, bad = bag
    written, most = write_all(serving, order, fitting * SIZE + 5, bad)
    assert written == repeating(serving, bad)
    assert most <= fitting + 1
    unlimited, _ = write_all(serving, order, None, bad)
    assert unlimited == written


def test_what_is_read_again_is_read_in_few_passes():
    for order in (range(200), [*range(10, 200), *range(10)], range(199, -1, -1)):
        written, most = write_all(range(200), list(order), 20 * SIZE)
        assert written == list(range(200))
        assert most <= 21
    reader = Stored(list(range(199, -1, -1)))
    decoder = PictureDecoder(lambda _: Decoder(()), is_stream=False)
    camera = CameraSequence(track(range(200)), decoder, lambda _: None, 'fail', 20 * SIZE)
    for _ in stream(reader, None, [camera], InlineWorkers()):
        pass
    assert reader.passes <= 11


class StreamDecoder:
    """Gives frames that carry the number of their message; must get every message in order."""

    def __init__(self):
        self._next = 0

    def decode(self, data):
        ordinal = int.from_bytes(data, 'big')
        assert ordinal == self._next
        self._next += 1
        frame = av.VideoFrame(64, 48, 'yuv420p')
        frame.pts = ordinal
        return frame

    def feed(self, key, data):
        frame = self.decode(data)
        return [(key, lambda: frame)]

    def flush(self):
        return []


@pytest.mark.parametrize('back', [2, 6])
def test_a_video_stream_is_decoded_in_its_own_order_and_refused_when_too_far_out_of_it(back):
    serving = [*range(10 + back, 10, -1), *range(20, 24)]
    written = []
    decoder = PictureDecoder(lambda _: StreamDecoder(), is_stream=True)
    room = 3 * sum(plane.buffer_size for plane in av.VideoFrame(64, 48, 'yuv420p').planes)
    camera = CameraSequence(
        track(serving), decoder, lambda frame: written.append(frame.pts), 'fail', room
    )  # fmt: skip
    reader = Stored(list(range(30)))

    def convert():
        for _ in stream(reader, None, [camera], InlineWorkers()):
            pass

    if back == 2:
        convert()
        assert written == serving
    else:
        with pytest.raises(BagError, match=r'/cam: 4 decoded pictures of this video stream .* 16'):
            convert()


@pytest.fixture(scope='module')
def sample(tmp_path_factory):
    path = tmp_path_factory.mktemp('bag') / 'run.bag'
    write_sample(path, seconds=2, size=(60, 80))
    return path


@pytest.fixture(scope='module')
def shuffled(sample):
    """Return the same messages, those of every camera stored from the last to the first."""
    cameras = [*COLOR.values(), *DEPTH.values()]
    return copied(sample, sample.with_name('shuffled.bag'), backwards=cameras)


VALUES = {'resize__width': 80, 'resize__height': 60, 'sample_drop': 0, 'depth_coding': 'metric12'}


@pytest.mark.parametrize('held', [0, 6 * 10_000, 32 << 20])
def test_the_order_in_the_file_does_not_show(sample, shuffled, tmp_path, monkeypatch, held):
    monkeypatch.setattr(memory, '_MOST_HELD', held)
    monkeypatch.setattr(replay, '_SHARES', memory.memory_shares(0, ()))
    run(sample, tmp_path / 'ordered', **VALUES)
    assert run(shuffled, tmp_path / 'out', **VALUES, debug_memory=True).exit_code == 0
    assert same_frames(tmp_path / 'out') == same_frames(tmp_path / 'ordered')
    assert verify(tmp_path / 'out', bags=[shuffled]).findings == ()


class Hog(Observer):
    """Takes memory once the plan is made."""

    def planned(self, number, plan):
        self.taken = np.ones(200 << 20, np.uint8)


def test_a_memory_limit_that_does_not_suffice_fails_the_bag_in_one_line(sample, tmp_path):
    with pytest.raises(Exception, match='which need about') as refused:
        run(sample, tmp_path / 'out', memory_limit_mb=1, **VALUES)
    enough = int(str(refused.value).split('which need about ')[1].split(';')[0])
    (outcome,) = run(
        sample, tmp_path / 'out', memory_limit_mb=enough + 10, observer=Hog(), **VALUES
    ).outcomes
    assert f'memory_limit_mb: {enough + 10} does not suffice for this bag' in outcome.reason
    assert not (tmp_path / 'out').exists()
