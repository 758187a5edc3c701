"""What the stored statistics of a camera may be, by its decoded pictures.

They are taken before pictures are encoded. If coding moves pixels by ``lost`` (root mean square),
means and standard deviations differ by no more, and no more than a small share of the pixels moves
by several times that. So a quantile is compared with the quantiles of the decoded pictures at
shares around its own: where many pixels have one value, such as 0 for no depth, a quantile next to
their share jumps, and its distance says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from kuavo_bag_converter.check.coding import Coding
from kuavo_bag_converter.dataset.statistics import QUANTILES, Histogram

Values = npt.NDArray[np.float64]

_LEVEL = 1 / 255
_ORDERED = {'min': 0.0, **QUANTILES, 'max': 1.0}
_MOVING = dict.fromkeys(_ORDERED, (0.01, 7.0)) | dict.fromkeys(('q10', 'q50', 'q90'), (0.05, 3.0))
"""Share of the pixels that may move further than so many times what is lost."""
DECODED = ('mean', 'std', *_ORDERED, *(f'{n} {s}' for n in _ORDERED for s in ('below', 'above')))
"""What is kept of decoded pictures: also the quantiles at shares below and above each."""
_AROUND = np.array(
    [share + sign * _MOVING[name][0] for name, share in _ORDERED.items() for sign in (-1, 1)]
).clip(0, 1)


def decoded_statistics(histogram: Histogram) -> Values:
    """Return ``DECODED`` of the pictures of an episode: (statistics, channels)."""
    found = histogram.statistics()
    own = [np.asarray(found[name], float).reshape(-1) for name in DECODED[: -len(_AROUND)]]
    reached = np.cumsum(histogram.counts, axis=1)
    around = [np.searchsorted(row, np.maximum(_AROUND * row[-1], 1)) for row in reached]
    return np.concatenate([own, np.transpose(around) * histogram.scale])


def limits(
    decoded: Mapping[str, Values], std: Values, coding: Coding | None
) -> dict[str, tuple[Values, Values]]:
    """Return the smallest and largest value of each statistic of colour pictures.

    Args:
        decoded: ``DECODED`` by name, each (episodes, channels).
        std: The stored standard deviations: by what they are larger, coding took away.
        coding: How pictures were encoded; None if they were copied.

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
