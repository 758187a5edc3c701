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

from fractions import Fraction
import itertools
import math
import tracemalloc

from dataset_files import frame, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kuavo_bag_converter.dataset.statistics import (
    Histogram,
    ImageStatistics,
    pooled,
    QUANTILES,
    sample_indices,
    sample_step,
)
from kuavo_bag_converter.dataset.vector_statistics import vector_statistics
import numpy as np
import pytest

NAMES = ['min', 'max', 'mean', 'std', 'count', 'q01', 'q10', 'q50', 'q90', 'q99']
COLUMNS = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.int64]),
    st.tuples(st.integers(1, 40), st.integers(1, 4)),
    elements=st.integers(-1000, 1000),
)


def lower_quantile(values, share):
    """Return the least value that this share does not exceed: numpy's 'inverted_cdf'."""
    reached = math.ceil(Fraction(str(share)) * len(values))
    return np.sort(values, axis=0)[reached - 1]


def cut(values, places):
    edges = sorted({0, len(values), *(place % (len(values) + 1) for place in places)})
    return [values[low:high] for low, high in itertools.pairwise(edges)]


@given(COLUMNS, st.lists(st.integers(0, 40), max_size=5))
def test_vector_statistics_are_the_true_ones_however_the_rows_are_cut(values, places):
    found = vector_statistics(lambda: cut(values, places), *values.shape)
    exact = values.astype(np.float64)
    assert list(found) == NAMES
    assert found['count'].tolist() == [len(values)]
    for name, expected in [
        ('min', exact.min(axis=0)),
        ('max', exact.max(axis=0)),
        ('mean', exact.mean(axis=0)),
        ('std', exact.std(axis=0)),
        *((name, np.quantile(exact, share, axis=0)) for name, share in QUANTILES.items()),
    ]:
        np.testing.assert_allclose(found[name], expected, rtol=1e-12, atol=1e-9)
    whole = vector_statistics(lambda: [values], *values.shape)
    assert all((found[name] == whole[name]).all() for name in NAMES)


def test_a_column_too_large_for_memory_is_read_dimension_by_dimension():
    rows, width, passes = 1 << 20, 5, 0

    def batches():
        nonlocal passes
        passes += 1
        for start in range(0, rows, 1 << 16):
            index = np.arange(start, start + (1 << 16), dtype=np.int64)[:, None]
            yield index * np.arange(1, width + 1)

    found = vector_statistics(batches, rows, width)
    assert passes > 1
    assert found['max'].tolist() == [(rows - 1) * factor for factor in range(1, width + 1)]
    assert found['q50'].tolist() == [(rows - 1) * factor / 2 for factor in range(1, width + 1)]


@pytest.mark.parametrize(
    ('make', 'dtype'),
    [
        (lambda rng, n: rng.normal(size=(n, 1)) * 1e9, 'float32'),
        (lambda rng, n: rng.normal(size=(n, 1)), 'float64'),
        (lambda rng, n: rng.integers(-(2**62), 2**62, (n, 1)), 'int64'),
        (lambda rng, n: rng.integers(-3, 4, (n, 1)), 'int16'),
    ],
)
def test_statistics_of_a_long_column_are_the_true_ones(make, dtype):
    rows = (8 << 20) // np.dtype(dtype).itemsize + 3
    values = make(np.random.default_rng(4), rows).astype(dtype)
    found = vector_statistics(lambda: np.array_split(values, 9), *values.shape)
    assert list(found) == NAMES
    for name, share in QUANTILES.items():
        # In float64, as the values of a dataset are taken in it.
        place = share * (rows - 1)
        ordered = np.sort(values, axis=0)[[math.floor(place), math.ceil(place)]].astype(float)
        expected = ordered[0] + (ordered[1] - ordered[0]) * (place - math.floor(place))
        assert (found[name] == expected).all()
    assert (found['min'] == values.min(axis=0)).all()
    assert (found['max'] == values.max(axis=0)).all()
    np.testing.assert_allclose(found['mean'], values.mean(axis=0, dtype=float), rtol=1e-9)
    np.testing.assert_allclose(found['std'], values.std(axis=0, dtype=float), rtol=1e-9)


def test_missing_rows_are_noticed():
    with pytest.raises(ValueError, match='2 rows were read, 3 were expected'):
        vector_statistics(lambda: [np.zeros((2, 1))], 3, 1)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 60), st.just(3))))
def test_histogram_statistics_are_those_of_the_pixels(pixels):
    counts = np.stack([np.bincount(channel, minlength=256) for channel in pixels.T])
    found = Histogram(counts, 7, 1 / 255).statistics()
    values = pixels / 255
    assert list(found) == NAMES
    assert found['count'].tolist() == [7]
    assert all(found[name].shape == (3, 1, 1) for name in NAMES if name != 'count')
    np.testing.assert_allclose(found['min'][:, 0, 0], values.min(axis=0))
    np.testing.assert_allclose(found['max'][:, 0, 0], values.max(axis=0))
    np.testing.assert_allclose(found['mean'][:, 0, 0], values.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(found['std'][:, 0, 0], values.std(axis=0), atol=1e-9)
    for name, share in QUANTILES.items():
        expected = lower_quantile(values, share)
        np.testing.assert_allclose(found[name][:, 0, 0], expected)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 99), min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_joined_histograms_of_fully_sampled_episodes_are_those_of_the_whole(lengths, random):
    seed = random.randrange(1 << 30)
    pictures = np.random.default_rng(seed).integers(0, 256, (sum(lengths), 4, 6, 3), np.uint8)
    parts = ImageStatistics(lengths, 4, 6)
    for index, image in enumerate(pictures):
        parts.add_array(index, image)
    first, *others = parts.histograms()
    for other in others:
        first = first + other
    found = first.statistics()
    flat = pictures.reshape(-1, 3) / 255
    assert found['count'].tolist() == [sum(lengths)]
    np.testing.assert_allclose(found['mean'][:, 0, 0], flat.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(found['std'][:, 0, 0], flat.std(axis=0), atol=1e-12)
    for name, share in QUANTILES.items():
        expected = lower_quantile(flat, share)
        np.testing.assert_allclose(found[name][:, 0, 0], expected)


def test_episodes_weigh_by_their_frames_and_not_by_their_samples():
    dark = Histogram(np.array([[100, 0]]), frames=1000, scale=1.0)
    bright = Histogram(np.array([[0, 100]]), frames=3000, scale=1.0)
    assert (dark + bright).statistics()['mean'].tolist() == [[[0.75]]]


@pytest.mark.parametrize('weighted', [False, True])
def test_a_histogram_survives_its_text_form(weighted):
    histogram = Histogram(np.arange(512).reshape(2, 256), frames=3, scale=0.5)
    histogram = histogram.weighted() if weighted else histogram
    read = Histogram.decode(histogram.encode(), 3, 0.5)
    assert read.counts.dtype == histogram.counts.dtype
    assert (read.counts == histogram.counts).all()


@pytest.mark.parametrize('text', ['', 'x:1:AAAA', '<i8:1:AAAA', '<i8:3:eJw=', '<i8:1:%%%%'])
def test_a_damaged_histogram_is_refused(text):
    with pytest.raises(ValueError, match='damaged histogram'):
        Histogram.decode(text, 1, 1.0)


@pytest.mark.parametrize(
    ('frames', 'samples'), [(1, 1), (99, 99), (464, 100), (1000, 177), (2000, 299), (10000, 1000)]
)
def test_frames_are_sampled_as_lerobot_does(frames, samples):
    indices = sample_indices(frames)
    assert len(set(indices.tolist())) == len(indices) == samples
    assert (indices[0], indices[-1]) == (0, frames - 1)


@pytest.mark.parametrize(
    ('size', 'step'), [((299, 299), 1), ((480, 640), 4), ((480, 848), 5), ((640, 300), 4)]
)
def test_pictures_are_thinned_as_lerobot_does(size, step):
    assert sample_step(*size) == step


def test_only_sampled_frames_are_wanted_in_each_episode():
    statistics = ImageStatistics([500, 50], 48, 64)
    wanted = [index for index in range(550) if statistics.wants(index)]
    assert len([index for index in wanted if index < 500]) == 105
    assert wanted[-50:] == list(range(500, 550))


def test_memory_does_not_grow_with_the_episodes():
    maps = np.random.default_rng(0).integers(0, 65536, (20, 8, 8)).astype(np.uint16)
    statistics = ImageStatistics([2] * 40, 8, 8, depth=True)
    tracemalloc.start()
    for index in range(80):
        statistics.add_array(index, maps[index % len(maps)])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * statistics.histograms()[-1].counts.nbytes
    assert sum(1 for _ in statistics.encoded()) == 40


def test_frames_count_alike_in_any_order():
    in_order, mixed = (ImageStatistics([3, 120, 1, 2], 48, 64) for _ in range(2))
    for index in range(126):
        if in_order.wants(index):
            in_order.add_array(index, picture(index))
    for index in np.random.default_rng(0).permutation(126).tolist():
        if mixed.wants(index):
            mixed.add_array(index, picture(index))
    assert [*mixed.encoded()] == [*in_order.encoded()]


def test_a_frame_counts_as_its_rgb_picture():
    from_frame, from_array = (ImageStatistics([1], 48, 64) for _ in range(2))
    from_frame.add_frame(0, frame(5))
    from_array.add_array(0, picture(5))
    assert (from_frame.histograms()[0].counts == from_array.histograms()[0].counts).all()


def test_depth_statistics_are_in_millimetres():
    statistics = ImageStatistics([2], 1, 2, depth=True)
    statistics.add_array(0, np.array([[0, 500]], np.uint16))
    statistics.add_array(1, np.array([[1000, 65535]], np.uint16))
    found = statistics.histograms()[0].statistics()
    assert found['min'].tolist() == [[[0.0]]]
    assert found['max'].tolist() == [[[65535.0]]]
    assert found['q50'].tolist() == [[[500.0]]]


def test_pooled_statistics_weigh_by_frames():
    values = np.arange(12.0).reshape(4, 3)
    parts = [
        vector_statistics(lambda part=part: [part], len(part), 3)
        for part in (values[:1], values[1:])
    ]
    found = pooled([(parts[0], 1), (parts[1], 3)])
    whole = vector_statistics(lambda: [values], 4, 3)
    for name in ('min', 'max', 'mean', 'std', 'count'):
        np.testing.assert_allclose(found[name], whole[name])
    assert list(found) == NAMES
