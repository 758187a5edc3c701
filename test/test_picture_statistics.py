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

"""Statistics of pictures are compared with those of the video without a false alarm."""

from __future__ import annotations

import av
from hypothesis import given, HealthCheck, settings
from hypothesis import strategies as st
from kuavo_bag_converter.check.coding import (
    coding_of,
    DECODED,
    decoded_statistics,
    limits,
)
from kuavo_bag_converter.dataset.features import Feature, VideoOptions
from kuavo_bag_converter.dataset.statistics import ImageStatistics, QUANTILES, STATISTICS
from kuavo_bag_converter.dataset.video import VideoWriter
from kuavo_bag_converter.messages.video_frames import FrameFitter
import numpy as np
import pytest

HEIGHT, WIDTH = 48, 64
CODINGS = st.one_of(
    st.builds(VideoOptions, st.just('h264'), st.sampled_from([1, 18, 23, 35, 51])),
    st.builds(VideoOptions, st.just('hevc'), st.sampled_from([5, 28, 45]), st.just('ultrafast')),
    st.builds(VideoOptions, st.just('libsvtav1'), st.sampled_from([5, 30, 60]), st.just('12')),
)


def depth_like(generator, share, nearest, spread):
    """Return a slope of which a share, in patches and single pixels, is invalid and so 0."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    picture = nearest + spread * (rows + columns) / (HEIGHT + WIDTH)
    coarse = generator.normal(size=(HEIGHT // 8, WIDTH // 8)).repeat(8, 0).repeat(8, 1)
    holes = coarse + 0.3 * generator.normal(size=picture.shape)
    picture[holes < np.quantile(holes, share)] = 0
    return picture


def constant(generator, share, nearest, spread):
    return np.full((HEIGHT, WIDTH), nearest)


def noisy(generator, share, nearest, spread):
    return nearest + spread * generator.normal(size=(HEIGHT, WIDTH))


def dark(generator, share, nearest, spread):
    return 3 * generator.random((HEIGHT, WIDTH))


@st.composite
def pictures(draw):
    """Return 1 to 3 pictures whose share of zeros lies anywhere near a quantile."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    at = draw(st.sampled_from([0.0, *QUANTILES.values(), 1.0]))
    share = min(1.0, max(0.0, at + draw(st.floats(-0.03, 0.03))))
    make = draw(st.sampled_from([depth_like, depth_like, constant, noisy, dark]))
    nearest, spread = draw(st.integers(1, 200)), draw(st.integers(0, 120))
    gray = [make(generator, share, nearest, spread) for _ in range(draw(st.integers(1, 3)))]
    return [picture.clip(0, 255).astype(np.uint8)[..., None].repeat(3, 2) for picture in gray]


def statistics(frames):
    collector = ImageStatistics([len(frames)], HEIGHT, WIDTH)
    for index, frame in enumerate(frames):
        collector.add_frame(index, frame)
    return collector.histograms()[0]


def encoded(path, images, options):
    """Return the histograms of pictures before and after coding."""
    fitter = FrameFitter((HEIGHT, WIDTH), options.pix_fmt)
    frames = [fitter.fit(av.VideoFrame.from_ndarray(image, 'bgr24')) for image in images]
    before = statistics(frames)
    feature = Feature('camera', 'video', (HEIGHT, WIDTH, 3))
    writer = VideoWriter(path, feature, options, fps=10, episode_lengths=[len(frames)])
    for frame in frames:
        writer.write(frame)
    writer.close()
    with av.open(str(path)) as container:
        return before, statistics(list(container.decode(video=0)))


def outside(before, after, options):
    """Return the statistics that are not what they may be."""
    stored = {name: value.reshape(-1) for name, value in before.statistics().items()}
    known = dict(zip(DECODED, decoded_statistics(after), strict=True))
    coding = coding_of({'vcodec': options.vcodec, 'crf': options.crf})
    found = limits(known, stored['std'], coding)
    assert {*found, 'count'} == {*STATISTICS}
    return {
        name: (stored[name], low, high)
        for name, (low, high) in found.items()
        if ((stored[name] < low) | (stored[name] > high)).any()
    }


@given(pictures(), CODINGS)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_statistics_before_coding_are_never_outside_of_what_the_video_leaves_open(
    tmp_path, images, options
):
    assert outside(*encoded(tmp_path / 'video.mp4', images, options), options) == {}


@pytest.mark.parametrize('crf', [18, 23, 30])
def test_statistics_of_other_pictures_are_outside(tmp_path, crf):
    options = VideoOptions(crf=crf)
    generator = np.random.default_rng(1)
    image = depth_like(generator, 0.1, 60, 80).astype(np.uint8)[..., None].repeat(3, 2)
    before, after = encoded(tmp_path / 'video.mp4', [image], options)
    assert outside(before, after, options) == {}
    brighter, _ = encoded(tmp_path / 'other.mp4', [image + np.uint8(12)], options)
    assert 'mean' in outside(brighter, after, options)
    flatter, _ = encoded(tmp_path / 'other.mp4', [image // 2 + np.uint8(50)], options)
    assert 'std' in outside(flatter, after, options)
    holes = depth_like(generator, 0.7, 60, 80).astype(np.uint8)[..., None].repeat(3, 2)
    emptier, _ = encoded(tmp_path / 'other.mp4', [holes], options)
    assert 'mean' in outside(emptier, after, options)
