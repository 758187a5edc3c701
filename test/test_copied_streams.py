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

"""Streams that are copied: the bag's own packets, and pictures encoded where those cannot be."""

from __future__ import annotations

from collections import Counter
import random

import av
from dataset_files import decode, make_dataset, packets, rows, STATE
from dataset_reading import info
from kuavo_bag_converter.check.dataset import check_dataset
from kuavo_bag_converter.dataset.encoders import copied_stream_options
from kuavo_bag_converter.dataset.features import Feature
from kuavo_bag_converter.dataset.shard import ShardWriter
from kuavo_bag_converter.dataset.statistics import ImageStatistics, KeyFrameSample, sample_indices
from kuavo_bag_converter.dataset.stream_writer import StreamWriter
from kuavo_bag_converter.messages import coded_pictures
from kuavo_bag_converter.messages.coded_pictures import coded_content
from kuavo_bag_converter.messages.video_streams import open_stream
from kuavo_bag_converter.support.errors import BagError, ImageError
import numpy as np
import pytest
from video_packets import annexb, avcc, configuration, decoded, encode, is_slice, nal_units, SIZE

FPS = 15
FEATURE = Feature('observation.images.front', 'video', (*SIZE, 3))
CODECS = ('h264', 'hevc')
IDR = {'h264': '', 'hevc': ':open-gop=0'}
"""What makes key frames IDR pictures."""
OTHER = {'h264': ':cabac=0:8x8dct=0', 'hevc': ':ctu=32:min-cu-size=16:open-gop=0'}
"""What gives a stream other parameter sets."""


def taken(codec, messages):
    """Return the coded picture that each message shows."""
    stream = open_stream(codec, Counter(), decodes=False)
    found = {}
    for key, payload in enumerate(messages):
        for shown in stream.feed(key, memoryview(payload), key):
            found[shown.key] = shown.picture
    found.update((shown.key, shown.picture) for shown in stream.flush())
    assert sorted(found) == list(range(len(messages)))
    return [found[key] for key in sorted(found)]


def written(path, pictures, lengths=None, **named):
    """Write a video of coded pictures; return its writer."""
    codec, pix_fmt = pictures[0].group.codec, pictures[0].group.form.pix_fmt
    writer = StreamWriter(
        path,
        FEATURE,
        copied_stream_options(codec, pix_fmt),
        fps=FPS,
        episode_lengths=lengths or [len(pictures)],
        **named,
    )
    for picture in pictures:
        writer.write(picture)
    writer.close()
    return writer


def frames_of(path):
    """Return the decoded planes of every frame of a video, each found from its time alone."""
    found = {}
    with av.open(str(path)) as container:
        in_turn = [frame.to_ndarray() for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        order = list(range(stream.frames))
        random.Random(0).shuffle(order)
        for number in order:
            container.seek(round(number / FPS / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if round(frame.time * FPS) == number:
                    found[number] = frame.to_ndarray()
                    break
    assert all(map(same, in_turn, [found[number] for number in range(len(in_turn))]))
    assert len(found) == len(in_turn)
    return in_turn


def same(first, second):
    return bool((first == second).all())


@pytest.mark.parametrize('codec', CODECS)
@pytest.mark.parametrize('how', ['start codes', 'lengths', 'parameters once', 'delimiters'])
def test_a_stream_becomes_a_video_packet_by_packet(tmp_path, codec, how):
    units = encode(codec, 12, 4, parameters=':slices=2:aud=1' if how == 'delimiters' else '')
    messages = units
    if how == 'lengths':
        messages = [configuration(codec, nal_units(units[0])), *map(avcc, map(nal_units, units))]
    if how == 'parameters once':
        kinds = (7, 8) if codec == 'h264' else (32, 33, 34)
        messages = [units[0]]
        for unit in units[1:]:
            kept = [
                n for n in nal_units(unit) if (n[0] & 31, n[0] >> 1)[codec == 'hevc'] not in kinds
            ]
            messages.append(annexb(kept))
    pictures = taken(codec, messages)[slice(-len(units), None)]
    writer = written(tmp_path / 'a.mp4', pictures)
    assert writer.encoded == 0
    found = packets(tmp_path / 'a.mp4')
    assert [float(time) for time, _, _ in found] == [number / FPS for number in range(12)]
    assert [is_key for _, is_key, _ in found] == [number % 4 == 0 for number in range(12)]
    for (_, _, packet), unit in zip(found, units, strict=True):
        assert [nal for nal in coded_content(codec, packet) if is_slice(codec, nal)] == [
            nal for nal in nal_units(unit) if is_slice(codec, nal)
        ]
    for shown, expected in zip(frames_of(tmp_path / 'a.mp4'), decoded(codec, units), strict=True):
        assert same(shown, expected)
    with av.open(str(tmp_path / 'a.mp4')) as container:
        assert container.streams.video[0].average_rate == FPS


@pytest.mark.parametrize(
    ('codec', 'parameters', 'options'),
    [
        ('h264', '', {}),
        ('h264', ':cabac=0:fullrange=1:colormatrix=bt709', {}),
        ('h264', ':ref=4', {}),
        ('hevc', ':open-gop=0', {}),
        ('hevc', ':open-gop=1:ref=3', {}),  # later key frames are no IDR pictures
    ],
)
def test_only_what_cannot_be_copied_is_encoded(tmp_path, codec, parameters, options):
    units = encode(codec, 40, 8, parameters, options)
    source = decoded(codec, units)
    pictures = taken(codec, units)
    numbers = [
        *range(3, 13), 12, *range(13, 18),  # begins between key frames; 12 twice
        *range(18, 21), *range(22, 26),  # without 21
        *range(33, 40), 32, 32, 33,  # begins anew; a key frame twice
    ]  # fmt: skip
    lengths = [16, 7, 10]
    copied = {*range(5, 10), 14, 15, 21, 22, 30, 31, 32}
    if 'open-gop=1' in parameters:
        copied -= {31, 32}  # as no IDR picture but the first, it does not come twice
    writer = written(tmp_path / 'a.mp4', [pictures[number] for number in numbers], lengths)
    shown = frames_of(tmp_path / 'a.mp4')
    assert len(shown) == len(numbers)
    exact = [same(picture, source[number]) for picture, number in zip(shown, numbers, strict=True)]
    assert exact == [place in copied for place in range(33)]
    assert writer.encoded == 33 - len(copied)
    for picture, number in zip(shown, numbers, strict=True):
        own, other = (
            np.abs(picture.astype(int) - source[k].astype(int)).mean()
            for k in (number, (number + 1) % 40)
        )
        assert own < other
    with av.open(str(tmp_path / 'a.mp4')) as container:
        tags = {(f.color_range, f.colorspace, f.format.name) for f in container.decode(video=0)}
    assert len(tags) == 1
    keys = [is_key for _, is_key, _ in packets(tmp_path / 'a.mp4')]
    assert all(keys[place] for place in (0, 16, 23))
    assert float(packets(tmp_path / 'a.mp4')[-1][0]) == (len(numbers) - 1) / FPS


@pytest.mark.parametrize(
    ('numbers', 'lengths', 'reason'),
    [
        ([1, 2], [2], 'frame 0 begins an episode and is no IDR picture'),
        ([0, 1, 2, 3], [2, 2], 'frame 2 begins an episode and is no IDR picture'),
        ([0, 1, 1], [3], 'frame 2 shows the picture of the frame before'),
        ([0, 1, 3], [3], 'frame 2 does not show the picture behind that of the frame before'),
    ],
)
def test_copy_refuses_what_would_have_to_be_encoded(tmp_path, numbers, lengths, reason):
    pictures = taken('h264', encode('h264', 4, 4))
    with pytest.raises(BagError, match=f'^{FEATURE.key}: video: copy: {reason}; set video: auto'):
        written(tmp_path / 'a.mp4', [pictures[n] for n in numbers], lengths, may_encode=False)


@pytest.mark.parametrize(('codec', 'parameters'), [('h264', ''), ('hevc', ':open-gop=0')])
def test_any_of_the_pictures_of_a_stream_of_key_frames_is_copied(tmp_path, codec, parameters):
    units = encode(codec, 12, 1, parameters)
    pictures = taken(codec, units)
    numbers = [0, 2, 4, 4, 9, 11, 3, 1]
    written(tmp_path / 'a.mp4', [pictures[n] for n in numbers], [2, 6], may_encode=False)
    source = decoded(codec, units)
    shown = frames_of(tmp_path / 'a.mp4')
    assert len(shown) == len(numbers)
    assert all(map(same, shown, [source[n] for n in numbers]))


@pytest.mark.parametrize('codec', CODECS)
def test_a_stream_may_change_its_encoder_at_a_key_frame(tmp_path, codec):
    first = encode(codec, 6, 6)
    second = encode(codec, 6, 6, OTHER[codec])
    pictures = taken(codec, [*first, *second, *first])
    assert pictures[0].group.sets != pictures[6].group.sets
    written(tmp_path / 'a.mp4', pictures, may_encode=False)
    expected = [*decoded(codec, first), *decoded(codec, second), *decoded(codec, first)]
    assert all(map(same, frames_of(tmp_path / 'a.mp4'), expected))


@pytest.mark.parametrize('codec', CODECS)
def test_streams_with_b_frames_are_not_copied(codec):
    options = {'tune': 'film' if codec == 'h264' else 'grain', 'preset': 'medium'}
    units = encode(codec, 12, 12, ':bframes=2:b-adapt=0', options)
    with pytest.raises(BagError, match='reorders its pictures'):
        taken(codec, units)


@pytest.mark.parametrize('codec', CODECS)
def test_after_a_loss_nothing_is_copied_up_to_the_next_key_frame(codec):
    units = encode(codec, 12, 4)
    found = taken(codec, [*units[:5], *units[6:]])
    assert [isinstance(picture, ImageError) for picture in found] == [
        k in (5, 6) for k in range(11)
    ]
    assert found[7].is_key


def test_long_groups_are_let_go_of_while_they_are_written(tmp_path, monkeypatch):
    units = encode('h264', 30, 300)
    limit = 3 * max(map(len, units[1:]))
    monkeypatch.setattr(coded_pictures, 'HELD_BYTES', limit)
    pictures = taken('h264', units)
    group = pictures[0].group
    numbers = [*range(20), 19, *range(20, 30)]
    written(tmp_path / 'a.mp4', [pictures[n] for n in numbers])
    assert sum(map(len, group._units)) <= limit + max(map(len, units))
    shown, source = frames_of(tmp_path / 'a.mp4'), decoded('h264', units)
    assert [same(a, source[n]) for a, n in zip(shown, numbers, strict=True)] == [
        place < 20 for place in range(31)
    ]


def test_statistics_of_a_stream_are_those_of_the_key_frames_behind_the_sample(tmp_path):
    units = encode('h264', 40, 4)
    pictures = taken('h264', units)
    lengths = [24, 16]
    kept = ImageStatistics(lengths, *SIZE)
    written(tmp_path / 'a.mp4', pictures, lengths, statistics=kept)
    stored = decode(tmp_path / 'a.mp4')
    for start, length, histogram in zip((0, 24), lengths, kept.histograms(), strict=True):
        assert len(sample_indices(length)) == length
        keys = range(start, start + length, 4)
        weights = [1, *[4] * (len(keys) - 1)]  # a key frame stands for the three before it
        mean = np.average([stored[k].reshape(-1, 3).mean(axis=0) for k in keys], 0, weights) / 255
        assert histogram.statistics()['mean'].reshape(-1) == pytest.approx(mean)


def test_without_a_key_frame_nearby_the_sample_is_decoded():
    statistics = ImageStatistics([200], *SIZE)
    sample = KeyFrameSample(statistics)
    wanted = []
    for number in range(200):
        times = sample.times(number, is_key=number == 0, begins=number == 0)
        if times:
            wanted.append(number)
            statistics.add_array(number, np.zeros((*SIZE, 3), np.uint8), times)
    assert wanted[0] == 0
    assert 2 < len(wanted) < 6
    assert max(np.diff(wanted)) <= 64


def shard_of(path, pictures, first):
    """Write a shard of one episode whose rows are numbered from ``first`` on."""
    options, features = copied_stream_options(pictures[0].group.codec, 'yuv420p'), (STATE, FEATURE)
    count = len(pictures)
    with ShardWriter(
        path, features, FPS, episode_lengths=[count], tasks=['pick'], video=options
    ) as writer:
        writer.append_rows(rows((STATE,), first, count))
        camera = writer.camera_writer(FEATURE.key, StreamWriter)
        for picture in pictures:
            camera.write(picture)
        assert writer.copied_streams == {FEATURE.key: (4, 3)}
        return writer.finish({})


@pytest.mark.parametrize('codec', CODECS)
@pytest.mark.parametrize('version', ['v3.0', 'v2.1'])
def test_a_file_has_shards_of_one_encoder(tmp_path, codec, version):
    own = IDR[codec]
    streams = [encode(codec, 8, 4, parameters) for parameters in (own, own, OTHER[codec])]
    shards = [
        shard_of(tmp_path / str(number), taken(codec, units)[1:], 7 * number)
        for number, units in enumerate(streams)
    ]
    root = make_dataset(tmp_path / 'out', shards, version=version)
    files = sorted(root.glob('videos/**/*.mp4'))
    assert len(files) == (2 if version == 'v3.0' else 3)
    shown = [frame for file in files for frame in frames_of(file)]
    for place, frame in enumerate(shown):
        expected = decoded(codec, streams[place // 7])[1 + place % 7]
        assert same(frame, expected) == (place % 7 >= 3)
    entry = info(root)['features'][FEATURE.key]['info']
    assert (entry['video.codec'], entry['video.pix_fmt']) == (codec, 'yuv420p')
    assert entry['video.g'] is None
    assert 'video.crf' not in entry
    assert check_dataset(root, 'full') == []
