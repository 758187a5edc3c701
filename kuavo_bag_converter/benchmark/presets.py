"""The bags that the benchmark makes, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Preset:
    """A bag, and how finely its conversion is cut."""

    summary: str
    sample: Mapping[str, object]
    """Options of :class:`kuavo_bag_converter.sample.options.SampleOptions` by name."""
    chunk_sizes: tuple[int, ...]
    """The first is the one at which everything else is compared."""


_ALL_CHUNK_SIZES = (50, 100, 25, 200)

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        'small': Preset(
            '5 s, 3 colour and 3 depth cameras, 640x480: over in seconds', {'seconds': 5.0}, (10, 5)
        ),
        'six_cameras_60s': Preset(
            '63 s, 3 colour and 3 depth cameras, 640x480 at 30 Hz: about 620 frames at 10 Hz',
            {'seconds': 63.0},
            _ALL_CHUNK_SIZES,
        ),
        'original_7gb': Preset(
            '409 s, 7 GB, about 4080 frames at 10 Hz: the size of the original report',
            {'seconds': 409.0},
            _ALL_CHUNK_SIZES,
        ),
    }
)
