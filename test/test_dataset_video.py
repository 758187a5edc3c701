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

from dataclasses import replace
from fractions import Fraction
import os

import av
from dataset_files import (
    COPIED,
    decode,
    DEPTH,
    depth_map,
    frame,
    FRONT,
    H264,
    HEIGHT,
    jpeg,
    number_of,
    packets,
    WIDTH,
)
from kuavo_bag_converter.dataset.depth import code_table, depth_of_codes
from kuavo_bag_converter.dataset.encoders import (
    check_video_options,
    check_video_size,
    DEPTH_OPTIONS,
)
from kuavo_bag_converter.dataset.features import DepthCoding, Feature, VideoOptions
from kuavo_bag_converter.dataset.statistics import ImageStatistics
from kuavo_bag_converter.dataset.video import DepthWriter, PacketWriter, VideoWriter
from kuavo_bag_converter.support.errors import DatasetError, UsageError
import numpy as np
import pytest

AV1 = VideoOptions('libsvtav1', crf=30, preset='12', gop=30)
HEVC = VideoOptions('hevc', crf=20, preset='ultrafast', gop=30)
LONG_GOP = VideoOptions(gop=30)
DEEP = [
    VideoOptions(pix_fmt='yuv444p10le'),
    replace(HEVC, pix_fmt='yuv444p10le'),
    replace(AV1, pix_fmt='yuv420p10le'),
]


def encode(path, frames, options=H264, fps=10, lengths=None, statistics=None):
    writer = VideoWriter(
        path,
        FRONT,
        options,
        fps=fps,
        episode_lengths=lengths or [frames],
        statistics=statistics,
    )
    for number in range(frames):
        writer.write(frame(number, options.pix_fmt))
    writer.close()
    return writer


@pytest.mark.parametrize('options', [H264, LONG_GOP, AV1, HEVC, *DEEP], ids=str)
def test_every_frame_is_there_in_order_and_episodes_begin_with_key_frames(tmp_path, options):
    path = tmp_path / 'video.mp4'
    writer = encode(path, 23, options, lengths=[9, 1, 13])
    assert [number_of(image) for image in decode(path)] == list(range(23))
    found = packets(path)
    assert [time for time, _, _ in found] == [Fraction(k, 10) for k in range(23)]
    assert [found[start][1] for start in (0, 9, 10)] == [True] * 3
    sizes = [len(data) for _, _, data in found]
    expected = [sum(sizes[:9]), sizes[9], sum(sizes[10:])]
    assert writer.episode_bytes == pytest.approx(expected, abs=5 * 13)  # AV1 delimiters


def test_no_encoder_is_left_a_real_time_priority(tmp_path):
    """Libsvtav1 takes one for every thread where it is root that encodes."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    before = set(os.listdir('/proc/self/task'))
    writer = VideoWriter(tmp_path / 'v.mp4', FRONT, AV1, fps=10, episode_lengths=[4])
    for number in range(3):
        writer.write(frame(number))
    encoding = set(os.listdir('/proc/self/task')) - before
    assert encoding
    assert {os.sched_getscheduler(int(thread)) for thread in encoding} == {os.SCHED_OTHER}
    writer.write(frame(3))
    writer.close()
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.parametrize('fps', [10, 30, 15.5, 29.97, 1000 / 33])
@pytest.mark.parametrize('frames', [1, 31])
def test_the_frame_rate_is_exact(tmp_path, fps, frames):
    path = tmp_path / 'video.mp4'
    encode(path, frames, fps=fps)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == pytest.approx(fps, rel=1e-12)
        assert (stream.start_time, stream.frames) == (0, frames)
        assert stream.duration * stream.time_base == frames / stream.average_rate


@pytest.mark.parametrize('fps', [0, -1, 0.12345678, float('nan')])
def test_a_rate_that_no_video_can_have_is_refused(tmp_path, fps):
    with pytest.raises(UsageError, match='fps'):
        encode(tmp_path / 'video.mp4', 1, fps=fps)


@pytest.mark.parametrize('options', [H264, AV1, HEVC], ids=str)
def test_the_same_frames_give_the_same_bytes(tmp_path, options):
    for name in ('a.mp4', 'b.mp4'):
        encode(tmp_path / name, 12, options)
    assert (tmp_path / 'a.mp4').read_bytes() == (tmp_path / 'b.mp4').read_bytes()


def test_the_index_stands_in_front_and_everyone_may_read(tmp_path):
    path = tmp_path / 'video.mp4'
    encode(path, 3)
    data = path.read_bytes()
    assert 0 < data.index(b'moov') < data.index(b'mdat')
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_index_of_a_long_video_fits(tmp_path):
    path = tmp_path / 'video.mp4'
    writer = PacketWriter(path, FRONT, COPIED, fps=30, episode_lengths=[3000])
    picture = jpeg(1)
    for _ in range(3000):
        writer.write(picture)
    writer.close()
    assert len(packets(path)) == 3000


def test_colour_is_tagged_as_it_was_coded(tmp_path):
    path = tmp_path / 'video.mp4'
    encode(path, 1)
    with av.open(str(path)) as container:
        image = next(container.decode(video=0))
    assert (image.colorspace, image.color_range) == (6, 1)


FORMER = {
    'crf': '23', 'preset': 'superfast', 'g': '2', 'bf': '0', 'tune': 'zerolatency',
    'threads': '1', 'forced-idr': '1',
}  # fmt: skip
"""What a version before gave the default encoder."""


def formerly_coded(frames):
    encoder = av.CodecContext.create('libx264', 'w')
    decoder = av.CodecContext.create('h264', 'r')
    encoder.width, encoder.height, encoder.pix_fmt = 320, 240, 'yuv420p'
    encoder.time_base, encoder.framerate, encoder.options = Fraction(1, 10), 10, FORMER
    data = []
    for index, image in enumerate(frames):
        image.pts, image.pict_type = index, 0
        data += encoder.encode(image)
    data += encoder.encode(None)
    shown = [image for packet in [*data, None] for image in decoder.decode(packet)]
    return [lumas(image) for image in shown], sum(packet.size for packet in data)


def now_coded(path, frames, **options):
    feature = Feature('observation.images.camera', 'video', (240, 320, 3))
    video = VideoOptions(**options)
    writer = VideoWriter(path, feature, video, fps=10, episode_lengths=[len(frames)])
    for image in frames:
        writer.write(image)
    writer.close()
    with av.open(str(path)) as container:
        shown = [lumas(image) for image in container.decode(video=0)]
    return shown, sum(len(data) for _, _, data in packets(path))


def lumas(image):
    return image.to_ndarray()[: image.height].astype(float)


def losses(frames, shown):
    return [np.square(lumas(a) - b).mean() for a, b in zip(frames, shown, strict=True)]


def test_colour_shows_the_same_as_with_arithmetic_coding(tmp_path):
    random = np.random.default_rng(0)
    frames = []
    for shift in range(6):
        rows, columns = np.indices((240, 320)) + 5 * shift
        red = 120 + 60 * np.sin(columns / 9) + 40 * np.cos(rows / 7)
        pixels = np.stack([red, red[::-1], columns % 256], axis=2)
        noisy = (pixels + random.normal(0, 3, pixels.shape)).clip(0, 255).astype(np.uint8)
        frames.append(av.VideoFrame.from_ndarray(noisy, 'rgb24').reformat(format='yuv420p'))
    before, bytes_before = formerly_coded(frames)
    now, bytes_now = now_coded(tmp_path / 'video.mp4', frames)
    assert np.array_equal(before, now)
    assert bytes_now < 1.5 * bytes_before


def test_gray_depth_keeps_its_edges_better_than_colour_would(tmp_path):
    frames = []
    for shift in range(6):
        rows, columns = np.indices((240, 320))
        depth = 60 + columns / 4 + rows / 8
        depth[40:150, slice(60 + 4 * shift, 140 + 4 * shift)] = 30
        depth[(rows - 170) ** 2 + (columns - 220 + 3 * shift) ** 2 < 900] = 200
        depth[200:, ::7] = 16
        planes = np.concatenate([depth, np.full((120, 320), 128)]).astype(np.uint8)
        frames.append(av.VideoFrame.from_ndarray(planes, 'yuv420p'))
    before, bytes_before = formerly_coded(frames)
    now, bytes_now = now_coded(tmp_path / 'video.mp4', frames, gray_depth=True)
    worse = np.divide(losses(frames, now), losses(frames, before))
    assert worse.max() < 1
    assert bytes_now < 1.3 * bytes_before


def test_no_frame_depends_on_a_later_one(tmp_path):
    path = tmp_path / 'video.mp4'
    encode(path, 12, LONG_GOP)
    with av.open(str(path)) as container:
        assert all(packet.pts == packet.dts for packet in container.demux(video=0))


def test_a_frame_of_another_form_is_refused(tmp_path):
    writer = VideoWriter(tmp_path / 'v.mp4', FRONT, H264, fps=10, episode_lengths=[2])
    with pytest.raises(DatasetError, match=r"v.mp4: frame 0 is \(64, 48, 'yuv444p'\)"):
        writer.write(frame(0, 'yuv444p'))
    writer.abort()


def test_one_frame_too_many_is_refused(tmp_path):
    writer = VideoWriter(tmp_path / 'v.mp4', FRONT, H264, fps=10, episode_lengths=[1])
    writer.write(frame(0))
    with pytest.raises(DatasetError, match='more than the announced 1 frames'):
        writer.write(frame(1))
    writer.abort()


def test_one_frame_too_few_is_refused_and_leaves_nothing(tmp_path):
    writer = VideoWriter(tmp_path / 'v.mp4', FRONT, H264, fps=10, episode_lengths=[2])
    writer.write(frame(0))
    with pytest.raises(DatasetError, match='1 video frames were written, 2 were announced'):
        writer.close()
    assert list(tmp_path.iterdir()) == []


def test_abort_leaves_nothing(tmp_path):
    writer = VideoWriter(tmp_path / 'v.mp4', FRONT, H264, fps=10, episode_lengths=[2])
    writer.write(frame(0))
    writer.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (VideoOptions(vcodec='vp9'), "vcodec 'vp9' is not one of h264"),
        (VideoOptions(pix_fmt='rgb24'), "pix_fmt 'rgb24' does not go with vcodec h264"),
        (VideoOptions(pix_fmt='yuvj420p'), 'pix_fmt'),
        (VideoOptions(vcodec='libsvtav1', preset='12', pix_fmt='yuv444p'), 'pix_fmt'),
        (VideoOptions('libsvtav1', 30, '12', pix_fmt='yuv444p10le'), 'use one of yuv420p, yuv4'),
        (VideoOptions(preset='warp'), "preset 'warp' does not go with vcodec h264"),
        (VideoOptions(vcodec='libsvtav1', preset='superfast'), 'use one of 0, 1, 2'),
        (VideoOptions(crf=52), 'crf 52 is outside 0..51'),
        (VideoOptions(crf=-1), 'crf'),
        (VideoOptions(gop=0), 'gop 0'),
    ],
    ids=str,
)
def test_settings_that_cannot_encode_are_refused_in_one_line(options, message):
    with pytest.raises(UsageError, match=message) as caught:
        check_video_options(options)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('pix_fmt', 'height', 'width'), [('yuv420p', 47, 64), ('yuv420p', 48, 63), ('yuv422p', 48, 63)]
)
def test_odd_sizes_are_refused_where_colour_is_halved(pix_fmt, height, width):
    with pytest.raises(UsageError, match=f'{width}x{height} cannot be stored as {pix_fmt}'):
        check_video_size(VideoOptions(pix_fmt=pix_fmt), height, width)


def test_odd_sizes_are_taken_where_they_can_be_stored():
    check_video_size(VideoOptions(pix_fmt='yuv444p'), 47, 63)
    check_video_size(COPIED, 47, 63)


def test_a_size_that_an_encoder_cannot_do_is_refused(tmp_path):
    with pytest.raises(UsageError, match='vcodec hevc cannot encode 4x2 yuv420p'):
        VideoWriter(
            tmp_path / 'v.mp4', replace(FRONT, shape=(2, 4, 3)), HEVC, fps=10, episode_lengths=[1]
        )
    assert list(tmp_path.iterdir()) == []


def test_statistics_are_of_the_frames_before_encoding(tmp_path):
    statistics = ImageStatistics([4], HEIGHT, WIDTH)
    encode(tmp_path / 'v.mp4', 4, statistics=statistics)
    expected = ImageStatistics([4], HEIGHT, WIDTH)
    for number in range(4):
        expected.add_frame(number, frame(number))
    assert (statistics.histograms()[0].counts == expected.histograms()[0].counts).all()


def test_jpeg_pictures_are_stored_untouched(tmp_path):
    path = tmp_path / 'v.mp4'
    statistics = ImageStatistics([7], HEIGHT, WIDTH)
    writer = PacketWriter(
        path, FRONT, COPIED, fps=10, episode_lengths=[3, 4], statistics=statistics
    )
    for number in range(7):
        writer.write(memoryview(jpeg(number)))
    writer.close()
    assert [(data, key) for _, key, data in packets(path)] == [(jpeg(k), True) for k in range(7)]
    assert [number_of(image) for image in decode(path)] == list(range(7))
    assert writer.episode_bytes == [
        sum(len(jpeg(k)) for k in part) for part in (range(3), range(3, 7))
    ]
    assert statistics.histograms()[0].statistics()['max'].max() == 1.0
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 10


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        (b'\x89PNG\r\n\x1a\n', 'picture 0 is not a JPEG, expected JPEG 64x48'),
        (b'', 'not a JPEG'),
        (b'\xff\xd8\xff\xe0\xff', 'picture 0 is a damaged JPEG, expected JPEG 64x48'),
        (jpeg(0, 96, 128), 'picture 0 is 128x96, expected JPEG 64x48'),
    ],
)
def test_what_cannot_be_copied_is_refused(tmp_path, data, message):
    writer = PacketWriter(tmp_path / 'v.mp4', FRONT, COPIED, fps=10, episode_lengths=[1])
    with pytest.raises(DatasetError, match=message):
        writer.write(data)
    writer.abort()


def test_a_damaged_jpeg_that_statistics_need_is_refused(tmp_path):
    statistics = ImageStatistics([1], HEIGHT, WIDTH)
    writer = PacketWriter(
        tmp_path / 'v.mp4', FRONT, COPIED, fps=10, episode_lengths=[1], statistics=statistics
    )
    whole = jpeg(0)
    table = whole.index(b'\xff\xc4') + 5
    with pytest.raises(DatasetError, match='picture 0 is a damaged JPEG'):
        writer.write(whole[:table] + b'\xff' * 16 + whole[slice(table + 16, None)])
    writer.abort()


@pytest.mark.parametrize('coding', [DepthCoding(), DepthCoding(0.1, 5.0, use_log=False)], ids=str)
def test_metric_depth_keeps_every_code(tmp_path, coding):
    path = tmp_path / 'v.mp4'
    statistics = ImageStatistics([5], HEIGHT, WIDTH, depth=True)
    writer = DepthWriter(
        path,
        replace(DEPTH, depth=coding),
        DEPTH_OPTIONS,
        fps=10,
        episode_lengths=[5],
        statistics=statistics,
    )
    for number in range(5):
        writer.write(depth_map(number))
    writer.close()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ('hevc', 'gray12le')
        codes = [image.to_ndarray(format='gray12le') for image in container.decode(video=0)]
    for number, found in enumerate(codes):
        assert (found == code_table(coding)[depth_map(number)]).all()
    assert statistics.histograms()[0].statistics()['max'].item() == depth_map(4).max()


def test_depth_codes_stand_for_nearly_the_same_depth():
    codes, depths = code_table(DepthCoding()), depth_of_codes(DepthCoding())
    millimetres = np.arange(10, 8401)
    assert abs(depths[codes[millimetres]] - millimetres).max() <= 2
    assert depths[codes[[0, 10_000, 65_535]]].tolist() == [10, 10_000, 10_000]


@pytest.mark.parametrize('coding', [DepthCoding(2.0, 1.0), DepthCoding(0.1, 1.0, shift=-0.2)])
def test_a_depth_coding_without_a_range_is_refused(coding):
    with pytest.raises(UsageError, match='depth coding'):
        code_table(coding)


@pytest.mark.parametrize('depth', [np.zeros((48, 64), np.float32), np.zeros((48, 63), np.uint16)])
def test_a_depth_map_of_another_form_is_refused(tmp_path, depth):
    writer = DepthWriter(tmp_path / 'v.mp4', DEPTH, DEPTH_OPTIONS, fps=10, episode_lengths=[1])
    with pytest.raises(DatasetError, match='depth map 0 is'):
        writer.write(depth)
    writer.abort()
