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

"""Encoded pictures are told from those of neighbouring frames, also where little moves."""

from __future__ import annotations

import av
import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
from kuavo_bag_converter.check.coding import coding_of, Loss, loss_of
from kuavo_bag_converter.dataset.features import Feature, VideoOptions
from kuavo_bag_converter.dataset.video import VideoWriter
from kuavo_bag_converter.messages.video_frames import FrameFitter
from kuavo_bag_converter.replay.similarity import ComparedFrame, EpisodeComparison, reduced_frame
import numpy as np
import pytest

HEIGHT, WIDTH, FRAMES = 120, 160, 24
CODINGS = {
    'h264': VideoOptions(),
    'h264, crf 40': VideoOptions(crf=40),
    'h264, gop 30': VideoOptions(gop=30),
    'hevc': VideoOptions('hevc', 28, 'ultrafast', 2),
    'av1': VideoOptions('libsvtav1', 30, '12', 2),
    'av1, crf 55, gop 30': VideoOptions('libsvtav1', 55, '12', 30),
}


def world():
    """Return a picture of soft shapes, larger than a frame."""
    noise = np.random.default_rng(5).uniform(0, 255, (30, 60, 3)).astype(np.float32)
    return cv2.resize(noise, (1280, 640), interpolation=cv2.INTER_CUBIC).clip(0, 255)


def scene(kind):
    """Return frames of a scene, as a camera with noise takes them."""
    picture, noise = world(), np.random.default_rng(7)
    frames = []
    for number in range(FRAMES):
        # Four pixels of the world are one of the frame: it moves by a quarter or by two.
        left = {'still': 0, 'slow': number, 'fast': 8 * number}[kind]
        window = picture[: 4 * HEIGHT, slice(left, left + 4 * WIDTH)]
        frame = cv2.resize(window, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        frame = frame + noise.normal(0, 2, frame.shape)
        frames.append(frame.clip(0, 255).astype(np.uint8))
    return frames


@pytest.fixture(scope='module')
def coded(tmp_path_factory):
    """Return the reduced pictures of a scene before and after coding; each is made once."""
    folder = tmp_path_factory.mktemp('videos')
    known = {}

    def pictures(kind, coding):
        if (kind, coding) not in known:
            known[kind, coding] = encode(folder / 'video.mp4', scene(kind), CODINGS[coding])
        return known[kind, coding]

    return pictures


def encode(path, frames, options):
    fitter = FrameFitter((HEIGHT, WIDTH), options.pix_fmt)
    feature = Feature('camera', 'video', (HEIGHT, WIDTH, 3))
    writer = VideoWriter(path, feature, options, fps=10, episode_lengths=[len(frames)])
    source = []
    for pixels in frames:
        frame = fitter.fit(av.VideoFrame.from_ndarray(pixels, 'bgr24'))
        # An encoder changes the frame that it is given.
        source.append(av.VideoFrame.from_ndarray(frame.to_ndarray(), format=options.pix_fmt))
        writer.write(frame)
    writer.close()
    with av.open(str(path)) as container:
        return source, list(container.decode(video=0))


def suspicions(source, stored, coding, numbers=None):
    options = CODINGS[coding]
    known = coding_of({'vcodec': options.vcodec, 'crf': options.crf})
    comparison = EpisodeComparison(known)
    found = []
    for number in range(len(source)) if numbers is None else numbers:
        first, second = source[number], stored[number]
        loss = loss_of(first, second, known)
        found += comparison.add(
            ComparedFrame(number, number, reduced_frame(first), reduced_frame(second), loss)
        )
    return [*found, *comparison.finish()], comparison


def rules(source, stored, coding):
    return {suspicion.rule for suspicion in suspicions(source, stored, coding)[0]}


@pytest.mark.parametrize('coding', CODINGS)
@pytest.mark.parametrize('kind', ['still', 'slow', 'fast'])
def test_a_video_of_the_bag_is_above_suspicion(coded, kind, coding):
    source, stored = coded(kind, coding)
    assert suspicions(source, stored, coding)[0] == []
    some = [0, 1, 10, 11, 12, FRAMES - 2, FRAMES - 1]
    assert suspicions(source, stored, coding, some)[0] == []


@pytest.mark.parametrize('coding', ['h264', 'h264, gop 30', 'hevc', 'av1', 'av1, crf 55, gop 30'])
@pytest.mark.parametrize('kind', ['slow', 'fast'])
def test_neighbours_in_each_others_place_are_found_even_in_a_slow_scene(coded, kind, coding):
    source, stored = coded(kind, coding)
    for first in range(2, FRAMES - 2, 5):
        order = list(range(FRAMES))
        order[first], order[first + 1] = first + 1, first
        found, _ = suspicions(source, [stored[number] for number in order], coding)
        swapped = [item.frame for item in found if item.rule == 'pictures.order']
        assert swapped == [first]


@pytest.mark.parametrize('coding', ['h264', 'av1'])
@pytest.mark.parametrize('step', [1, -1])
def test_pictures_one_frame_early_or_late_are_found_even_in_a_slow_scene(coded, coding, step):
    source, stored = coded('slow', coding)
    shifted = [stored[min(max(number + step, 0), FRAMES - 1)] for number in range(FRAMES)]
    assert 'pictures.shifted' in rules(source, shifted, coding)
    source, stored = coded('fast', coding)
    shifted = [stored[min(max(number + step, 0), FRAMES - 1)] for number in range(FRAMES)]
    found, _ = suspicions(source, shifted, coding)
    assert {item.rule for item in found} >= {'pictures.neighbour'}
    shown = next(item for item in found if item.rule == 'pictures.neighbour')
    assert shown.found == f'the picture of frame {shown.frame + step}'


@pytest.mark.parametrize('coding', ['h264', 'av1', 'h264, crf 40'])
def test_a_picture_from_elsewhere_is_found(coded, coding):
    source, stored = coded('fast', coding)
    replaced = [*stored[:5], stored[20], *stored[6:]]
    assert 'pictures.scene' in rules(source, replaced, coding)
    assert 'pictures.scene' in rules(source, stored[12:] + stored[:12], coding)


def test_frames_that_look_alike_are_counted_as_such(coded):
    coding = 'h264, crf 40'
    _, comparison = suspicions(*coded('still', coding), coding)
    assert comparison.still == comparison.pairs == FRAMES - 1
    _, comparison = suspicions(*coded('fast', coding), coding)
    assert comparison.still == 0


arrays = st.integers(0, 2**32 - 1)


@given(arrays, st.floats(0.0, 0.3), st.integers(0, 6))
@settings(max_examples=40, deadline=None)
def test_noise_below_the_change_neither_hides_a_swap_nor_makes_one(seed, share, first):
    generator = np.random.default_rng(seed)
    steps = generator.normal(0, 3, (8, 600)).astype(np.float32)
    source = list(128 + np.cumsum(steps, axis=0))
    lost = generator.normal(0, 3 * share, (8, 600)).astype(np.float32)
    stored = [picture + rest for picture, rest in zip(source, lost, strict=True)]

    def found(stored):
        comparison = EpisodeComparison(coding_of({}))
        loss = Loss(3 * share, 3 * share + 0.1, 20.0, 0.0, 2.0, 600)
        pairs = enumerate(zip(source, stored, strict=True))
        shown = [ComparedFrame(number, number, *pair, loss) for number, pair in pairs]
        return {suspicion.rule for item in shown for suspicion in comparison.add(item)}

    assert 'pictures.order' not in found(stored)
    stored[first], stored[first + 1] = stored[first + 1], stored[first]
    assert {'pictures.order', 'pictures.neighbour'} <= found(stored)
