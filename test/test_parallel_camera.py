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

"""Stretches of a camera's frames on several threads: the dataset is the same for any number."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
import runpy
import threading
from typing import NamedTuple

from bag_edits import copied
from conversions import run, same_frames
from hypothesis import given, settings
import hypothesis.strategies as st
from kuavo_bag_converter.dataset import video
from kuavo_bag_converter.dataset.video import stretches_of
from kuavo_bag_converter.frames.camera_sequence import CameraSequence
from kuavo_bag_converter.frames.parallel_camera import ParallelCamera
from kuavo_bag_converter.frames.pictures import PictureDecoder
from kuavo_bag_converter.frames.stream import memory_shares, stream
from kuavo_bag_converter.sample.write import write_sample
from kuavo_bag_converter.support.process import resident_bytes
from kuavo_bag_converter.support.workers import WorkerPool
import pytest
from test_bad_images import cut, damaged
from test_camera_order import Decoder, Stored, track

SCRIPTS = Path(__file__).parents[1] / 'scripts'
HEAD = '/cam_h/color/image_raw/compressed'
SMALL = {
    'resize__width': 48, 'resize__height': 32, 'sample_drop': 2, 'which_arm': 'left',
}  # fmt: skip


@given(st.lists(st.integers(1, 700), min_size=1, max_size=12), st.sampled_from([1, 2, 7, 30, 250]))
def test_stretches_begin_at_key_frames_and_are_long(lengths, gop):
    stretches = stretches_of(lengths, gop)
    assert [n for stretch in stretches for n in stretch] == list(range(sum(lengths)))
    starts = [0, *accumulate(lengths)]
    keys = {
        key
        for start, length in zip(starts, lengths, strict=False)
        for key in range(start, start + length, gop)
    }
    assert all(stretch.start in keys for stretch in stretches)
    assert all(len(stretch) >= 160 for stretch in stretches[:-1])
    assert len(stretches) == 1 or len(stretches[-1]) >= 80
    longest = max(160, gop) + gop + 80  # behind a stretch that is long enough, as far as a key
    assert all(len(stretch) < longest for stretch in stretches)


class Written:
    """Stretches that keep what is written, in place of files."""

    def __init__(self, lengths):
        ends = list(accumulate(lengths))
        self.stretches = [range(end - n, end) for end, n in zip(ends, lengths, strict=True)]
        self.pictures = [[] for _ in lengths]

    def stretch(self, number):
        pictures = self.pictures[number]

        class Stretch:
            write = staticmethod(pictures.append)

        return Stretch


@st.composite
def cameras(draw):
    serving = draw(st.lists(st.integers(0, 15), min_size=1, max_size=40))
    order = draw(st.permutations(sorted(set(serving))))
    cuts = sorted(draw(st.sets(st.integers(1, len(serving) - 1)))) if len(serving) > 1 else []
    ends = [*cuts, len(serving)]
    lengths = [end - start for start, end in zip([0, *cuts], ends, strict=True)]
    return serving, order, lengths


@settings(deadline=None)
@given(cameras(), st.integers(0, 8), st.integers(1, 4))
def test_each_stretch_gets_its_pictures_in_order(camera, fitting, threads):
    serving, order, lengths = camera
    written = Written(lengths)
    decoder = PictureDecoder(lambda _: Decoder(()), is_stream=False)
    whole = CameraSequence(track(serving), decoder, None, 'fail', fitting * 1000 + 5, written)
    with WorkerPool(threads, 3000, 2, 60, max_begun=threads) as pool:
        parallel = ParallelCamera(whole, written, pool)
        for _ in stream(Stored(order), None, [parallel], pool):
            pass
    assert [n for pictures in written.pictures for n in pictures] == serving
    assert list(map(len, written.pictures)) == lengths
    assert parallel.frames_written == len(serving)


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp('sample') / 'sample.bag'
    write_sample(path, seconds=2.5, size=(32, 48), extras=False)
    return path


@pytest.fixture
def short_stretches(monkeypatch):
    monkeypatch.setattr(video, '_STRETCH', 4)


def test_a_dataset_is_the_same_however_many_threads_make_it(bag, tmp_path, short_stretches):
    spoilt = copied(bag, tmp_path / 'bag.bag', edited=damaged({(HEAD, range(40, 44)): cut}))
    values = SMALL | {'on_bad_image': 'split'}
    made = {}
    for method, threads in (('chunked', 1), ('chunked', 6), ('streaming', 1)):
        root = tmp_path / f'{method}{threads}'
        assert run(spoilt, root, method=method, threads=threads, **values).exit_code == 0
        made[method, threads] = same_frames(root)
    assert made['chunked', 1] == made['chunked', 6] == made['streaming', 1]


def test_a_bad_picture_of_any_stretch_fails_the_bag_by_name(bag, tmp_path, short_stretches):
    spoilt = copied(bag, tmp_path / 'bag.bag', edited=damaged({(HEAD, range(50, 54)): cut}))
    report = run(spoilt, tmp_path / 'out', threads=4, **SMALL)
    assert report.exit_code == 1
    assert 'received at' in report.outcomes[0].reason
    assert HEAD in report.outcomes[0].reason
    assert not (tmp_path / 'out').exists()


def test_long_videos_have_the_bytes_of_their_stretches(bag, tmp_path, short_stretches):
    whole, parted = tmp_path / 'whole', tmp_path / 'parted'
    assert run(bag, parted, threads=2, **SMALL).exit_code == 0
    assert run(bag, whole, threads=2, on_bad_image='repeat', **SMALL).exit_code == 0
    names = [name for name in same_frames(parted) if name.endswith('.mp4')]
    assert len(names) == 4
    assert all(same_frames(whole)[name] == same_frames(parted)[name] for name in names)


def test_queues_of_low_rank_come_first_and_few_are_begun():
    done, gate = [], threading.Event()
    with WorkerPool(1, 1000, 10, 60, max_begun=2) as pool:
        first = pool.queue('first', 1)
        first.submit(gate.wait, 1)
        queues = [pool.queue(str(rank), rank) for rank in (3, 2, 4)]
        for queue in queues:
            for _ in range(2):
                queue.submit(lambda name=queue.name: done.append(name), 1)
            queue.close()
        gate.set()
        first.close()
        pool.drain()
    assert done == ['2', '2', '3', '3', '4', '4']


class Camera(NamedTuple):
    memory_bytes: int


def test_threads_beyond_the_cameras_have_memory_of_their_own_as_far_as_there_is():
    cameras = [Camera(20 << 20), Camera(10 << 20)]
    alone, more = memory_shares(0, cameras, 2), memory_shares(0, cameras, 10)
    assert (alone.encoders, more.encoders) == (2, 10)
    assert more.waiting == alone.waiting + 8 * (8 << 20)
    tight = (resident_bytes() >> 20) + 64
    assert memory_shares(tight, cameras, 10).encoders == 2
    assert 2 < memory_shares(tight + 100, cameras, 10).encoders < 10
    assert memory_shares(tight + 1000, cameras, 10).encoders == 10


def test_the_simulation_keeps_to_what_one_thread_and_the_lock_allow():
    simulated = runpy.run_path(SCRIPTS / 'simulate_stretches.py')['simulated']
    cameras, lock = [3.0, 1.0], 0.5 + 0.25  # CPU ms
    alone = simulated(cameras, 400, 160, 1, 0.25, 0.5, 4.0)
    assert alone == pytest.approx((400 * (4.0 + 2 * lock) + 3 * 2 * 4.0 - 4.0) / 1000, rel=0.02)
    times = [simulated(cameras, 400, 160, threads, 0.25, 0.5, 4.0) for threads in (1, 2, 4, 64)]
    assert times == sorted(times, reverse=True)
    assert times[-1] >= 400 * 2 * lock / 1000
