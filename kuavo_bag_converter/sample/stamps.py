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

"""Header and receive stamps as robots have them: jitter, offsets between clocks, bursts."""

from __future__ import annotations

from dataclasses import dataclass
import zlib

from kuavo_bag_converter.bags.model import Stamps
import numpy as np
import numpy.typing as npt

_MS = 1_000_000
_LEAST_SPACING = 7_000
_BURST_SPACING = 12_000
_BURST_MS = (10.0, 41.5)


@dataclass(frozen=True)
class PublishTiming:
    """How a topic is published and received."""

    rate: float
    """Hz; 0 for a single message at the start."""
    delay_ms: tuple[float, float] = (0.1, 1.0)
    """Receive minus header stamp, least and most; negative where the clocks differ."""
    jitter_ms: float = 0.05
    """Standard deviation of header stamps around an even grid."""
    phase_ms: float = 5.0
    """First grid point after the start."""
    bursts: bool = False
    """Received many at a time."""
    start_s: float = 0.0
    gaps_s: tuple[tuple[float, float], ...] = ()
    unstamped_s: float = 0.0
    """How long header stamps stay 0."""


def seeded(seed: int, name: str) -> np.random.Generator:
    """Return a generator of random numbers that no other name shares."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def published(
    timing: PublishTiming, start: int, duration: int, random: np.random.Generator
) -> Stamps:
    """
    Return when the messages of a topic are stamped by their publisher, ns, ascending.

    :param timing: How it is published.
    :param start: Of the recording, ns.
    :param duration: Of the recording, ns.
    :param random: Gives the jitter.
    """
    if timing.rate == 0:
        return np.array([start])
    period = 1e9 / timing.rate
    first = timing.phase_ms * _MS
    grid = first + np.arange(max(1, int((duration - first) / period))) * period
    jitter = np.clip(random.normal(0, timing.jitter_ms * _MS, len(grid)), -period / 3, period / 3)
    seconds = grid / 1e9
    kept = seconds >= timing.start_s
    for begin, end in timing.gaps_s:
        kept &= (seconds < begin) | (seconds >= end)
    return start + np.rint(grid + jitter).astype(np.int64)[kept]


def received(timing: PublishTiming, times: Stamps, random: np.random.Generator) -> Stamps:
    """Return when the recorder stamps messages that are published at ``times``, ascending."""
    low, high = timing.delay_ms
    stamps = times + np.rint(random.uniform(low, high, len(times)) * _MS).astype(np.int64)
    if timing.bursts:
        return _in_bursts(stamps, random)
    return _spaced(stamps, _LEAST_SPACING)


def _in_bursts(stamps: Stamps, random: np.random.Generator) -> Stamps:
    """Hold messages back until the end of the burst that they fall in."""
    stamps = np.maximum.accumulate(stamps)
    span = int(stamps[-1] - stamps[0])
    lengths = random.uniform(*_BURST_MS, int(span / (_BURST_MS[0] * _MS)) + 2) * _MS
    deliveries = stamps[0] + np.cumsum(lengths).astype(np.int64)
    return _spaced(deliveries[np.searchsorted(deliveries, stamps)], _BURST_SPACING)


def _spaced(stamps: Stamps, spacing: int) -> Stamps:
    """Keep the order of publishing: delay what would overtake."""
    steps: npt.NDArray[np.int64] = np.arange(len(stamps)) * spacing
    return np.maximum.accumulate(stamps - steps) + steps
