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

"""What became of the frames and topics of a bag: the report of its plan, and its one JSON form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

PLAN_FORMAT = 1
"""Of the JSON form; raised when a key changes its meaning or goes."""


_OPTIONAL = {'optional': True}
"""Of a field that is left out of the JSON where it is None: it does not apply."""


@dataclass(frozen=True)
class StampCounts:
    """Messages of a topic about which a rule had to decide on a time line; see docs/time.md."""

    outside_recording: int = 0
    """Received long before or after the recording."""
    outside_by_s: float | None = None
    """How long the nearest of those, s; None if there is none."""
    without_header_stamp: int = 0
    absurd_header_stamps: int = 0
    """Too far from the receive stamp."""
    backward_stamps: int = 0
    """Stamped before the message stored before them."""


_COUNTS = {'kind': StampCounts, 'flat': True}
"""Of a field whose keys stand in the JSON among those of the report that holds it."""


@dataclass(frozen=True)
class TopicStampReport:
    """The stamps of a topic that makes the frames, the episodes or the tasks."""

    topic: str = ''
    held: bool | None = field(default=None, metadata=_OPTIONAL)
    """Whether what was received before the recording counts."""
    stamps: StampCounts = field(default=StampCounts(), metadata=_COUNTS)


@dataclass(frozen=True)
class ErrorMs:
    """Time between frame and message, ms; None where no message serves a frame."""

    median: float | None = None
    p95: float | None = None
    max: float | None = None  # noqa: A003


@dataclass(frozen=True)
class ClockStep:
    """A clock that was set back, so that an episode ends there; see docs/time.md."""

    stamps: str = ''
    """``receive`` (the recorder's clock) or ``header`` (the publishers')."""
    topics: tuple[str, ...] = ()
    """Whose stamps show it."""
    at_s: float = 0.0
    """When it was received, s after the first message."""
    back_s: float = 0.0
    """By how much, s; up to a period of the topics less than it was."""


@dataclass(frozen=True)
class Pause:
    """A time in which no topic that is used says anything, so that an episode ends there."""

    at_s: float = 0.0
    """When it begins, s after the first message of the frame clock."""
    silent_s: float = 0.0


@dataclass(frozen=True)
class TrackReport:
    """
    One use of a topic by a feature; counts are of frames unless said otherwise.

    Of a feature with several samples a frame they are of samples, but for ``cut``, and what is
    said of a frame's period means the time from one sample to the next.
    """

    name: str = ''
    topic: str = ''
    strategy: str = ''
    timeline: str = ''
    messages: int = 0
    """Of the topic."""
    stamps: StampCounts = field(default=StampCounts(), metadata=_COUNTS)
    used: int = 0
    """Messages that serve a frame."""
    skipped: int = 0
    """Messages that serve none."""
    repeated: int = 0
    """With the same message as the frame before, or the same point between two."""
    error_ms: ErrorMs = field(default=ErrorMs(), metadata={'kind': ErrorMs})
    beyond_half_frame: int = 0
    beyond_full_frame: int = 0
    before_first_message: int = 0
    in_gap: int = 0
    """In a gap, but kept, held or marked."""
    cut: int = 0
    filled_with_zeros: int = 0
    marked: int = 0
    on_gap: str = ''
    selected_from: str | None = field(default=None, metadata=_OPTIONAL)
    """Topic of which ``topic`` is those messages that can serve, where that are not all."""
    passed_by: Mapping[str, int] | None = field(default=None, metadata=_OPTIONAL)
    """Its other messages, counted by what they are."""
    reduced: int | None = field(default=None, metadata=_OPTIONAL)
    """With more than one message since the frame before; None without ``reduce``."""
    samples: int | None = field(default=None, metadata=_OPTIONAL)
    """Of each frame, where there are several."""

    @property
    def held(self) -> bool:
        """Whether what was received before the recording counts."""
        return self.strategy == 'hold'


@dataclass(frozen=True)
class CutReport:
    """How a bag was cut into episodes; counts of what the rule does not know are None."""

    rule: str = ''
    episodes: int = 0
    messages: int | None = field(default=None, metadata=_OPTIONAL)
    """Of the topic that cuts."""
    beyond_end: int | None = field(default=None, metadata=_OPTIONAL)
    """Ranges that end after the recording; they end with it."""
    open_at_end: int | None = field(default=None, metadata=_OPTIONAL)
    """1 if the last episode ends with the recording."""
    discarded: int | None = field(default=None, metadata=_OPTIONAL)
    unfinished: int | None = field(default=None, metadata=_OPTIONAL)
    """Episodes without a stop, left out."""
    without_effect: int | None = field(default=None, metadata=_OPTIONAL)
    """Stops, and discards that find nothing."""
    other_texts: int | None = field(default=None, metadata=_OPTIONAL)
    outside: int = 0
    """Episodes outside of the recording, left out."""
    stamps: TopicStampReport | None = field(
        default=None, metadata={'kind': TopicStampReport, **_OPTIONAL}
    )


@dataclass(frozen=True)
class LanguageReport:
    """What became of the texts of a topic that are for the language columns."""

    style: str = ''
    role: str = ''
    topic: str | None = None
    """None where the bag has none of those that the profile names."""
    texts: int = 0
    """Messages."""
    blank: int = 0
    """Messages without a text, which are passed by."""
    rows: int = 0
    """Texts of all episodes; one that lasts is one until it changes."""
    key: str | None = field(default=None, metadata=_OPTIONAL)
    """Of the column that has them, if it is one of their own."""


@dataclass(frozen=True)
class ClockReport:
    """What the frame clock made, before frames are left out for what serves them."""

    clock_topic: str = ''
    clock_messages: int = 0
    clock_stamps: TopicStampReport = field(
        default=TopicStampReport(), metadata={'kind': TopicStampReport}
    )
    decimation: str = ''
    dropped_at_each_end: int = 0
    """Messages of the clock's topic."""
    frames_cut_by_end_trim: int = 0
    end_trim_topic: str | None = None
    """Whose end it was."""
    pauses: tuple[Pause, ...] | None = field(default=None, metadata={'kind': Pause, **_OPTIONAL})
    """None where there is none."""
    receive_step_ms: float | None = field(default=None, metadata=_OPTIONAL)
    """In what steps receive stamps come, where many messages share one."""


@dataclass(frozen=True)
class PlanReport(ClockReport):
    """What became of the frames of a bag, and of the messages of each topic."""

    clock_steps: tuple[ClockStep, ...] | None = field(
        default=None, metadata={'kind': ClockStep, **_OPTIONAL}
    )
    """None where no clock was set back."""
    runs_without_frames: tuple[str, ...] | None = field(default=None, metadata=_OPTIONAL)
    """Why, of each stretch between such steps that gives none."""
    latched_topics: tuple[str, ...] = ()
    """Topics whose end does not count, because their last message lasts."""
    clock_error_ms: float = 0.0
    """How far a frame is from index / fps of its episode at most."""
    frames_off_clock: int = 0
    """Further than half a frame."""
    candidate_frames: int = 0
    """Of the clock."""
    frames: int = 0
    """Of the dataset."""
    frames_outside_segments: int = 0
    """In no episode."""
    segments_without_frames: int = 0
    frames_cut: int = 0
    """Left out within episodes, for gaps or bad pictures."""
    frames_cut_by_shift: int | None = field(default=None, metadata=_OPTIONAL)
    """At the ends of episodes, where a topic looks ahead."""
    episodes_too_short: int | None = field(default=None, metadata=_OPTIONAL)
    """Left out, as shorter than ``min_episode_s``."""
    frames_in_short_episodes: int | None = field(default=None, metadata=_OPTIONAL)
    frames_with_bad_images: int = 0
    """Left out for bad pictures."""
    episodes: int = 0
    tracks: tuple[TrackReport, ...] = field(default=(), metadata={'kind': TrackReport})
    cut: CutReport | None = field(default=None, metadata={'kind': CutReport, **_OPTIONAL})
    """None where a bag is one episode."""
    task_stamps: TopicStampReport | None = field(
        default=None, metadata={'kind': TopicStampReport, **_OPTIONAL}
    )
    """Of the topic that names the task, if one does."""
    frames_with_default_task: int | None = field(default=None, metadata=_OPTIONAL)
    language: tuple[LanguageReport, ...] | None = field(
        default=None, metadata={'kind': LanguageReport, **_OPTIONAL}
    )
    """What became of texts for the language columns; None where the profile asks for none."""
    element_names: Mapping[str, Sequence[str]] | None = field(default=None, metadata=_OPTIONAL)
    """Names that the bag gives elements that are read by their places, by part."""
    stand_ins: Mapping[str, str] | None = field(default=None, metadata=_OPTIONAL)
    """The topic that stands in where the bag has none of a part's own, by feature and elements."""
    bad_images: Mapping[str, int] | None = field(default=None, metadata=_OPTIONAL)
    """Pictures that could not be decoded and were repeated, by topic; None before conversion."""
    pictures_copied: Mapping[str, int] | None = field(default=None, metadata=_OPTIONAL)
    """Of the bag's own video streams, by camera feature; None where none is copied."""
    pictures_encoded: Mapping[str, int] | None = field(default=None, metadata=_OPTIONAL)
    """Frames of the same cameras whose picture could not be copied."""
    not_finite: Mapping[str, int] | None = field(default=None, metadata=_OPTIONAL)
    """Frames in which NaN or infinity was held or replaced, by topic; None if there are none."""
    padded: Mapping[str, int] | None = field(default=None, metadata=_OPTIONAL)
    """Frames of messages with too few elements, by topic; None if there are none."""
    cut_short: Mapping[str, int] | None = field(default=None, metadata=_OPTIONAL)
    """Frames of messages with too many elements, by topic; None if there are none."""

    def as_json(self) -> dict[str, Any]:
        """Return what shards and the record of a dataset hold of it."""
        return {'format': PLAN_FORMAT, **_written(self)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PlanReport:
        """
        Read the JSON form, also that of earlier versions: what they did not count is 0.

        :raises ValueError: It is of a later version.
        """
        if document.get('format', PLAN_FORMAT) > PLAN_FORMAT:
            raise ValueError(f'format {document["format"]} of a plan, known is {PLAN_FORMAT}')
        return cls(**_read(cls, document))


def _written(report: Any) -> dict[str, Any]:
    written: dict[str, Any] = {}
    for item in fields(report):
        value = getattr(report, item.name)
        if item.metadata.get('flat'):
            written |= _written(value)
        elif value is not None or 'optional' not in item.metadata:
            written[item.name] = _plain(value)
    return written


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return _written(value) if is_dataclass(value) else value


def _read(kind: type[Any], document: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for item in fields(kind):
        nested: Any = item.metadata.get('kind')
        if item.metadata.get('flat'):
            values[item.name] = nested(**_read(nested, document))
        elif item.name in document:
            value = document[item.name]
            if nested and isinstance(value, list):
                value = tuple(nested(**_read(nested, one)) for one in value)
            elif nested:
                value = nested(**_read(nested, value))
            values[item.name] = tuple(value) if isinstance(value, list) else value
    return values
