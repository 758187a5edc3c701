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

"""
How much of a picture its coding may lose, by the settings; ``docs/verify.md`` has the reasons.

Coding rounds the coefficients of small blocks to multiples of a *step*, which the settings give.
So a block's coefficient loses at most itself or about a step: the mean of the smaller squares over
an orthonormal 8 x 8 cosine transform bounds the mean square of the loss. Encoders take larger
steps where there is much fine detail, and drop detail below a few levels at any setting.

Statistics of pictures are taken before coding. If it moves pixels by ``lost`` (root mean square),
means and standard deviations differ by no more, and no more than a small share of the pixels moves
by several times that. So a quantile is held between those of the decoded pictures at shares around
its own: where many pixels have one value, such as 0 for no depth, it may jump by any distance.
"""

from __future__ import annotations

from collections.abc import Mapping
import math
from typing import Any, NamedTuple

import av
from kuavo_bag_converter.dataset.statistics import Histogram, QUANTILES
from kuavo_bag_converter.messages.video_frames import plane_pixels, sample_bits
from kuavo_bag_converter.settings import codec_of
import numpy as np
import numpy.typing as npt

Levels = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

_SIZE = 8
_BLOCKS = 96
"""Blocks of a picture that are compared, evenly spread."""
_DETAIL = 18.0
"""Mean size of fine coefficients that raises the step by as much as the settings say."""
_SPARSE = 2.3
"""The same for detail that is dropped whatever the settings."""
_MARGIN = 1.15
_LARGER = 32.0
"""How much larger the step of a single frame may be than that of most frames."""

_LEVEL = 1 / 255
_ORDERED = {'min': 0.0, **QUANTILES, 'max': 1.0}
_MOVING = dict.fromkeys(_ORDERED, (0.01, 7.0)) | dict.fromkeys(('q10', 'q50', 'q90'), (0.05, 3.0))
"""Share of the pixels that may move further than so many times what is lost."""
DECODED = ('mean', 'std', *_ORDERED, *(f'{n} {s}' for n in _ORDERED for s in ('below', 'above')))
"""What is kept of decoded pictures: also the quantiles at shares below and above each."""
_AROUND = np.array(
    [share + sign * _MOVING[name][0] for name, share in _ORDERED.items() for sign in (-1, 1)]
).clip(0, 1)


class Coding(NamedTuple):
    """How pictures were coded; steps are in levels of an orthonormal transform."""

    name: str
    step: float
    share: float
    """Of the step, what plain pictures lose at most."""
    floor: float
    """Step up to which detail may be dropped whatever the settings."""
    frame_margin: float = 1.25
    """Times the bound that a single frame may lose: fast presets of AV1 keep some old blocks."""

    def largest_step(self, detail: float) -> float:
        """Return the largest step for pictures whose fine coefficients have this mean size."""
        by_settings = 1.0 + self.step * (self.share + detail / _DETAIL)
        return max(by_settings, self.floor * (1 + detail / _SPARSE))


def coding_of(settings: Mapping[str, Any]) -> Coding:
    """Return the coding that the settings of a conversion name; the defaults where they do not."""
    vcodec, crf = codec_of(str(settings.get('vcodec', 'h264'))), settings.get('crf')
    if isinstance(crf, bool) or not isinstance(crf, (int, float)):
        crf = 23
    if vcodec == 'libsvtav1':
        return Coding(f'av1 crf {crf:g}', 6.0 * 2 ** ((crf - 30) / 8.8), 0.8, 8.5, 2.5)
    share = 0.6 if vcodec == 'hevc' else 1.2
    return Coding(f'{vcodec} crf {crf:g}', 2 ** ((crf - 4) / 6), share, 0.0)


class Loss(NamedTuple):
    """What coding took from a picture's luma, and what it may take; levels of 255."""

    found: float
    """Root mean square."""
    bound: float
    """Of the root mean square in most frames."""
    frame_bound: float
    """In a single frame."""
    shift: float
    """Mean of the picture in the video less that in the bag."""
    shift_bound: float
    blocks: int
    """How many the whole picture has."""


def loss_of(source: av.VideoFrame, stored: av.VideoFrame, coding: Coding) -> Loss:
    """Compare the luma of two pictures of the same size and format."""
    first, blocks = _blocks(source)
    second, _ = _blocks(stored)
    squares = np.square(_TRANSFORM @ first @ _TRANSFORM.T)
    detail = _mean(np.sqrt(squares[:, _FINE]))
    step = coding.largest_step(detail)
    rest = second - first

    def largest(step: float) -> float:
        return rounding + math.sqrt(_mean(np.minimum(squares, step**2)))

    rounding = 0.5 + coding.step / 128
    bound = _MARGIN * largest(step)
    return Loss(
        math.sqrt(_mean(np.square(rest))),
        bound,
        coding.frame_margin * largest(step + _LARGER),
        _mean(rest),
        1.75 + coding.step / 32 + 2 * bound / math.sqrt(len(first)),
        blocks,
    )


def _mean(values: Levels) -> float:
    """Return the mean; ``numpy.mean`` takes longer for so few values."""
    return float(values.sum()) / values.size


def _blocks(frame: av.VideoFrame) -> tuple[Levels, int]:
    """Return some 8 x 8 blocks of the luma (n, 8, 8), and how many there are."""
    luma = plane_pixels(frame, 0)
    missing = [max(0, _SIZE - length) for length in luma.shape]
    if any(missing):
        luma = np.pad(luma, [(0, length) for length in missing], 'edge')
    height, width = (length // _SIZE for length in luma.shape)
    blocks = luma[: height * _SIZE, : width * _SIZE].reshape(height, _SIZE, width, _SIZE)
    count = height * width
    some = min(count, _BLOCKS)
    chosen = np.arange(some) * count // some
    levels = blocks[chosen // width, :, chosen % width].astype(np.float32)
    return levels / 2 ** (sample_bits(frame) - 8), count


def _transform() -> Levels:
    """Return the matrix of the orthonormal cosine transform."""
    index = np.arange(_SIZE)
    rows = np.cos(np.pi * (2 * index + 1) * index[:, None] / (2 * _SIZE)) * math.sqrt(2 / _SIZE)
    rows[0] /= math.sqrt(2)
    return rows.astype(np.float32)


_TRANSFORM = _transform()
_FINE = np.add.outer(np.arange(_SIZE), np.arange(_SIZE)) >= _SIZE - 1


def decoded_statistics(histogram: Histogram) -> Floats:
    """Return ``DECODED`` of the pictures of an episode: (statistics, channels)."""
    found = histogram.statistics()
    own = [np.asarray(found[name], float).reshape(-1) for name in DECODED[: -len(_AROUND)]]
    reached = np.cumsum(histogram.counts, axis=1)
    around = [np.searchsorted(row, np.maximum(_AROUND * row[-1], 1)) for row in reached]
    return np.concatenate([own, np.transpose(around) * histogram.scale])


def limits(
    decoded: Mapping[str, Floats], std: Floats, coding: Coding | None
) -> dict[str, tuple[Floats, Floats]]:
    """
    Return the smallest and largest value of each statistic of colour pictures.

    :param decoded: ``DECODED`` by name, each (episodes, channels).
    :param std: The stored standard deviations: by what they are larger, coding took away.
    :param coding: How pictures were encoded; None if they were copied.
    """
    step = _LEVEL if coding is None else max(coding.step, coding.floor / 2) * _LEVEL
    lost = np.sqrt(np.maximum(0.0, std**2 - decoded['std'] ** 2) + step**2)
    mean = 4 * _LEVEL + step / 8 + lost / 10
    most = 10 * _LEVEL + 4 * step
    found = {
        'mean': (decoded['mean'] - mean, decoded['mean'] + mean),
        'std': (
            decoded['std'] - 4 * _LEVEL - step / 8,
            np.sqrt(decoded['std'] ** 2 + most**2),
        ),
    }
    for name, share in _ORDERED.items():
        apart, times = _MOVING[name]
        found[name] = (
            decoded[f'{name} below'] - (times * lost if share > apart else np.inf),
            decoded[f'{name} above'] + (times * lost if share < 1 - apart else np.inf),
        )
    return found
