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

"""What the messages of a bag hold for each use of a topic; see :mod:`.opinion`."""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import Any

from kuavo_bag_converter.profiles.model import Align, Language, Part, POSE_FIELDS, Source
from kuavo_bag_converter.replay.plain_recording import Stored
from kuavo_bag_converter.replay.stated_rows import (
    Cell,
    elements,
    names_of,
    SECOND,
    speaker_of,
    StatedFrame,
    StatedTopic,
    Statement,
    value_at,
)
from kuavo_bag_converter.replay.stated_transforms import pose, StatedEdge


class UsedTopic:
    """
    A use of a topic: those of its messages that can serve.

    :ivar topics: Its messages; of a part with ``joints``, those of each joint.
    """

    def __init__(self, source: Source, align: Align, topics: int = 1) -> None:
        self.source = source
        self.align = align
        self.topics = [StatedTopic(source.topic) for _ in range(topics)]

    @property
    def topics_read(self) -> set[str]:
        """Return the topics of the bag that hold its messages."""
        return {self.source.topic}

    def stamped(self, message: Stored, decoded: Any, header: int) -> int:
        """Return the stamp of a message that stands for that of a header, ns."""
        if not self.source.stamp_field:
            return header
        found = value_at(decoded, self.source.stamp_field)
        found = getattr(found, 'stamp', found)
        if hasattr(found, 'sec'):
            return int(found.sec) * SECOND + int(found.nanosec)
        scales = {'s': SECOND, 'ms': 10**6, 'us': 10**3, 'ns': 1}
        scale = scales.get(self.source.stamp_unit) or min(
            scales.values(), key=lambda one: abs(float(found) * one - message.received)
        )
        return round(float(found) * scale) if isinstance(found, float) else int(found) * scale

    def accepts(self, message: Stored, decoded: Any) -> bool:
        """Tell whether a message can serve by its type, its publisher and its frame."""
        source, connection = self.source, message.connection
        frame = getattr(getattr(decoded, 'header', None), 'frame_id', '')
        return (
            (not source.msgtypes or connection.msgtype in source.msgtypes)
            and source.publisher in ('', connection.publisher)
            and (not source.frame_ids or frame in source.frame_ids)
        )

    def take(self, number: int, message: Stored, decoded: Any, header: int) -> None:
        """Take notice of a message."""
        if self.accepts(message, decoded):
            stamp = self.stamped(message, decoded, header)
            self.topics[0].add(number, message.place, message.received, stamp)


class UsedPart(UsedTopic):
    """
    A part of a feature, and what the messages of its topic hold.

    :ivar key: The feature.
    :ivar offset: Its first element within the feature.
    :ivar values: Of every message of the topic; NaN where it has none.
    """

    def __init__(
        self, key: str, part: Part, source: Source | None, align: Align, offset: int
    ) -> None:
        super().__init__(source or Source(''), align, max(1, len(part.joints)))
        self.key = key
        self.part = part
        self.bound = source is not None
        self.offset = offset
        self.width = len(part.names)
        self.values: dict[int, Sequence[float]] = {}
        self.who: dict[int, tuple[Any, ...]] = {}
        self.names: dict[int, Sequence[str]] = {}

    def take(self, number: int, message: Stored, decoded: Any, header: int) -> None:
        """Take what a message holds."""
        if not self.accepts(message, decoded):
            return
        found: Sequence[float | None] = [math.nan] * self.width
        if not self.part.gap_flag:
            try:
                found = elements(decoded, self.part, self.source)
            except (AttributeError, LookupError, ValueError):
                return
        stamp = self.stamped(message, decoded, header)
        for place, topic in enumerate(self.topics):
            if found[place] is not None:
                topic.add(number, message.place, message.received, stamp)
        self.values[number] = [math.nan if value is None else value for value in found]
        names = _names_in(decoded, self.part, self.source)
        self.names[number] = names
        self.who[number] = (*speaker_of(decoded, self.source), *names)


def _names_in(message: Any, part: Part, source: Source) -> Sequence[str]:
    """Return the names of the elements by place, if the message tells them."""
    if part.joints or len(source.fields) != 1 or '=' in source.fields[0]:
        return ()
    names = names_of(message, source)
    chosen = range(len(names)) if part.select is None else part.select
    return [str(names[place]) for place in chosen if place < len(names)]


class UsedTexts(UsedTopic):
    """The texts of a topic, by the number of their message."""

    def __init__(self, language: Language, source: Source) -> None:
        super().__init__(source, Align('hold'))
        self.language = language
        self.texts: dict[int, str] = {}

    def take(self, number: int, message: Stored, decoded: Any, header: int) -> None:
        """Take the text of a message, if it has one."""
        text = str(value_at(decoded, self.source.fields[0])).strip()
        if text and self.accepts(message, decoded):
            self.topics[0].add(number, message.place, message.received, header)
            self.texts[number] = text


class UsedPose(UsedPart):
    """A part whose source is a transform; of each frame, the transforms in its parent."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.edges: dict[str, StatedEdge] = {}

    @property
    def topics_read(self) -> set[str]:
        """Where its transforms are."""
        assert self.source.tf is not None
        return {self.source.topic, self.source.tf.static_topic}

    def take(self, number: int, message: Stored, decoded: Any, header: int) -> None:  # noqa: ARG002, E501
        """Take the transforms of a message."""
        static = message.connection.topic != self.source.topic
        if not static and self.source.publisher not in ('', message.connection.publisher):
            return
        for transform in getattr(decoded, 'transforms', [decoded]):
            child = transform.child_frame_id.lstrip('/')
            parent = transform.header.frame_id.lstrip('/')
            edge = self.edges.setdefault(
                child, StatedEdge(self.source.topic, parent, static=static)
            )
            edge.add(message.place, message.received, transform)

    def pose(self, statement: Statement, frame: StatedFrame) -> Sequence[float]:
        """Return the fields that are asked for, of the pose at a frame."""
        tf = self.source.tf
        assert tf is not None

        def serve(edge: StatedEdge) -> Cell:
            return statement.cell(edge.topic, self.align, frame)

        found = pose(self.edges, tf.parent.lstrip('/'), tf.child.lstrip('/'), serve)
        fields = [found[POSE_FIELDS.index(name)] for name in self.source.fields or POSE_FIELDS]
        return fields if self.part.select is None else [fields[at] for at in self.part.select]
