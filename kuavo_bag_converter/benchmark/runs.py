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

"""What the benchmark runs, in which order, and on which bags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

METHODS = ('chunked', 'streaming', 'whole_bag')

CODECS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        'h264': {},
        'hevc': {'vcodec': 'hevc', 'preset': 'ultrafast', 'crf': 28},
        'libsvtav1': {'vcodec': 'libsvtav1', 'preset': '12', 'crf': 30},
        'copy': {'video': 'copy'},
    }
)
"""Settings of each codec; those of libsvtav1 are LeRobot's defaults."""


@dataclass(frozen=True)
class Run:
    """One conversion by this package, or by LeRobot's own writer (method ``lerobot``)."""

    name: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    job: str = 'conversion_job'
    """Module that does it."""


def conversions(
    *,
    methods: Sequence[str],
    chunk_sizes: Sequence[int],
    codecs: Sequence[str],
    threads: Sequence[int],
    node: bool = False,
) -> list[Run]:
    """
    Return the runs of this package's methods, those that hold the whole bag at the end.

    Codecs, numbers of threads and the ROS node are compared at the first chunk size.
    """
    runs = []
    if 'chunked' in methods:
        runs = [_chunked(size) for size in chunk_sizes]
        base = chunk_sizes[0]
        runs += [_chunked(base, codec, **CODECS[codec]) for codec in codecs if CODECS[codec]]
        runs += [_chunked(base, f'threads={count}', threads=count) for count in threads]
        runs += [replace(_chunked(base, 'ROS node'), job='node_job')] if node else []
    runs += [Run(name, name, {}) for name in METHODS[1:] if name in methods]
    return runs


def _chunked(chunk_size: int, what: str = '', **settings: object) -> Run:
    inside = f'chunk={chunk_size}' + (f', {what}' if what else '')
    return Run(
        f'chunked ({inside})',
        'chunked',
        {'chunk_size': chunk_size, **settings},
    )


@dataclass(frozen=True)
class Preset:
    """A bag, and how finely its conversion is cut."""

    summary: str
    sample: Mapping[str, object]
    """Options of :class:`kuavo_bag_converter.sample.options.SampleOptions` by name."""
    chunk_sizes: tuple[int, ...]
    """The first is the one at which everything else is compared."""


_ALL_CHUNK_SIZES = (50, 100, 25, 200)

BAG_PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        'small': Preset(
            '5 s, 3 colour and 3 depth cameras, 640x480: over in seconds',
            {'seconds': 5.0},
            (10, 5),
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
