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
Which messages are read: all of a small bag, else a few windows of time that all topics share.

Shared windows keep the chunks few that must be read and decompressed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from kuavo_bag_converter.bags.model import Ordinals, Stamps
from kuavo_bag_converter.bags.recording import WHOLE_BYTES
from kuavo_bag_converter.bags.time_spans import TimeSpan
import numpy as np

WINDOWS = 10
WINDOW_S = 0.1
FEW = 32
"""Topics with no more messages are read whole."""


class MessageSample(NamedTuple):
    """Messages to read."""

    wanted: dict[str, Ordinals]
    with_header: Collection[str]
    """Topics whose header stamps are measured."""
    text: str
    """Which messages' header stamps are read."""


def choose(
    receive: Mapping[str, Stamps], with_header: Collection[str], span: TimeSpan, size_bytes: int
) -> MessageSample:
    """
    Choose the first message of every topic, and those whose header stamps are measured.

    :param receive: Receive stamps of every topic, ascending.
    :param with_header: Topics that have header stamps.
    :param span: The time of the recording.
    :param size_bytes: Of its files.
    """
    whole = size_bytes <= WHOLE_BYTES
    starts = np.linspace(span.start, max(span.start, span.stop - WINDOW_S * 1e9), WINDOWS)
    wanted: dict[str, Ordinals] = {}
    read = total = 0
    for topic, stamps in receive.items():
        if not len(stamps):
            continue
        chosen: Ordinals = np.zeros(1, dtype=np.int64)
        if topic in with_header:
            total += len(stamps)
            if whole or len(stamps) <= FEW:
                chosen = np.arange(len(stamps), dtype=np.int64)
            else:
                chosen = np.union1d(chosen, _in_windows(stamps, starts.astype(np.int64)))
            read += len(chosen)
        wanted[topic] = chosen
    if read == total:
        return MessageSample(wanted, with_header, 'all messages')
    return MessageSample(
        wanted,
        with_header,
        f'{read} of {total} messages, in {WINDOWS} windows of {WINDOW_S:g} s evenly spread',
    )


def _in_windows(stamps: Stamps, starts: Stamps) -> Ordinals:
    low = np.searchsorted(stamps, starts)
    high = np.searchsorted(stamps, starts + round(WINDOW_S * 1e9))
    return np.concatenate([np.arange(a, b) for a, b in zip(low, high, strict=True)])
