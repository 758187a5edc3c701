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

"""What an inspection finds; the fields are the keys of the JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from kuavo_bag_converter.alignment.report import ClockStep, Pause

Health = Literal['good', 'noted', 'damaged', 'unreadable']
"""``noted``: everything can be read, but the bag disagrees with itself or was not closed."""

MissKind = Literal[
    'topic',
    'empty',
    'type',
    'field',
    'length',
    'names',
    'picture',
    'bad_pictures',
    'frames',
    'refused',
]


@dataclass(frozen=True)
class Timing:
    """Receive stamps of one topic, of the messages within the recording."""

    first_s: float
    """Since the recording's start."""
    last_s: float
    rate_hz: float | None
    """Intervals per second from the first message to the last; None for one message."""
    median_rate_hz: float | None
    """1 / median interval; None where that is 0 too."""
    jitter_p95_ms: float | None
    """95th percentile of how far intervals are from the median interval."""
    largest_gap_ms: float | None
    largest_gap_at_s: float | None
    """Where that begins, since the recording's start."""


@dataclass(frozen=True)
class OutsideStamps:
    """Messages whose receive stamps are no part of the recording's time."""

    messages: int
    before_s: float
    """How long before the recording's start the earliest is; 0 for none."""
    after_s: float
    """How long after the recording's end the latest is; 0 for none."""


@dataclass(frozen=True)
class HeaderStamps:
    """Header stamps of the sampled messages of one topic."""

    sampled: int
    zero: int
    backward: int
    """Those before the stamp of the message before them."""
    median_rate_hz: float | None
    """1 / median interval between neighbouring messages."""
    offset_median_ms: float | None
    """Receive stamp minus header stamp, without stamps of 0."""
    offset_min_ms: float | None
    offset_max_ms: float | None
    steps: tuple[ClockStep, ...] = ()
    """Where the publisher's clock was set back."""


@dataclass(frozen=True)
class FirstPicture:
    """What the first message of a camera holds."""

    codec: str
    """``jpeg``, ``png``, ``webp``, ``h264``, ``hevc``, ``rvl`` or ``raw``."""
    encoding: str
    """The message's own words: its ``format`` or ``encoding``."""
    width: int
    """Of a stream, that of its first key frame; 0 where there is none near the beginning."""
    height: int
    channels: int
    upright: bool
    bytes: int  # noqa: A003
    """Of the message."""
    before_key: int = 0
    """Pictures of a stream before its first key frame, none of which can be decoded."""


@dataclass(frozen=True)
class FieldValues:
    """Numbers of the first message of a topic."""

    type: str  # noqa: A003
    """As in the definition: ``float64[]``, ``uint8``..."""
    length: int | None
    """None for a single number."""
    first: tuple[float | None, ...]
    """The first few; None for NaN and infinity."""


@dataclass(frozen=True)
class TopicReport:
    """One topic."""

    topic: str
    types: tuple[str, ...]
    encoding: str
    messages: int
    publishers: int
    latched: bool
    timing: Timing | None
    outside: OutsideStamps | None
    header: HeaderStamps | None
    picture: FirstPicture | None
    fields: Mapping[str, FieldValues]
    """By path, without those of headers."""
    error: str
    """Why its messages, or the first of its pictures, cannot be decoded, or ''."""
    trailing_bytes: int = 0
    """Bytes behind the end of its first message."""


@dataclass(frozen=True)
class Miss:
    """Something that a configuration needs and the bag does not have."""

    feature: str
    """Key of the feature, ``clock`` or ``episodes``; '' for the whole."""
    topic: str
    kind: MissKind | str
    """Or the setting, as ``eef_type``, that the topics do not settle."""
    text: str
    instead: tuple[str, ...] = ()
    """Other topics of the bag that hold what is needed."""


@dataclass(frozen=True)
class Fit:
    """Whether one configuration can convert the bag."""

    profile: str
    settings: Mapping[str, object]
    """Those that tell this configuration from others."""
    fits: bool
    frames: int | None
    """Frames that a conversion gives; None where that takes more than receive stamps to tell."""
    episodes: int | None
    misses: tuple[Miss, ...]
    command: str
    remarks: tuple[str, ...] = ()
    """What there is to say of the first pictures of its cameras."""


@dataclass(frozen=True)
class BagReport:
    """One recording."""

    bag: str
    files: tuple[str, ...]
    size_bytes: int
    health: Health
    error: str = ''
    """What a conversion with ``on_damage: fail`` says, or ''."""
    problems: tuple[str, ...] = ()
    """Disagreements and, for a damaged bag, what would be salvaged and what is lost."""
    container: str = ''
    backend: str = ''
    compression: str | None = None
    """``lz4``, ``bz2`` or ``zstd`` of chunks, ``zstd file`` or ``zstd message``; '' for none, None
    where it is not known."""
    start_ns: int | None = None
    start: str = ''
    """In UTC, ISO 8601."""
    duration_s: float | None = None
    messages: int = 0
    header_stamps_read: str = ''
    """Which messages' header stamps were read."""
    bytes_read: int = 0
    """Of the files, as far as the backend can tell."""
    topics: tuple[TopicReport, ...] = ()
    clock_steps: tuple[ClockStep, ...] = ()
    """Where the recorder's clock was set back."""
    silences: tuple[Pause, ...] = ()
    """Times in which no topic says anything, as when the recorder paused."""
    receive_step_ms: float | None = None
    """In what steps receive stamps come, where many messages share one."""
    remarks: tuple[str, ...] = ()
    asked: Fit | None = None
    """The configuration that the settings name, if they name one."""
    profiles: tuple[Fit, ...] = field(default=())
    """Shipped profiles and variants of robots, the nearest first."""

    @property
    def ok(self) -> bool:
        """Whether the bag can be read whole, and fits what was asked for."""
        return self.health in ('good', 'noted') and (self.asked is None or self.asked.fits)
