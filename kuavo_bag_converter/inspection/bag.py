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

"""Recordings, inspected one by one and for a conversion to one dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
import os
from pathlib import Path

from kuavo_bag_converter.alignment.frame_clock import common_step_ms
from kuavo_bag_converter.alignment.report import ClockStep
from kuavo_bag_converter.alignment.runs import recorder_steps
from kuavo_bag_converter.bags.damage import DamagePolicy
from kuavo_bag_converter.bags.discover import Recording
from kuavo_bag_converter.bags.model import BagReader, Connection, Stamps, TopicIndex
from kuavo_bag_converter.bags.open import open_bag
from kuavo_bag_converter.bags.rosbag2.directory import read_directory
from kuavo_bag_converter.bags.time_spans import TimeSpan
from kuavo_bag_converter.dataset.agreement import Agreement, ShardFormat
from kuavo_bag_converter.frames.options import shard_options
from kuavo_bag_converter.frames.preflight import try_bag
from kuavo_bag_converter.inspection.contents import (
    choose,
    fields_of,
    first_key_frame,
    has_header,
    MessageSample,
    picture_of,
    read_contents,
    SampledContents,
)
from kuavo_bag_converter.inspection.fit import fit_all, fit_asked, InspectedBag, with_refusal
from kuavo_bag_converter.inspection.remarks import remarks_on
from kuavo_bag_converter.inspection.report import (
    BagReport,
    FieldValues,
    FirstPicture,
    Health,
    TopicReport,
)
from kuavo_bag_converter.inspection.timing import outside_of, silences_of, span_of, timing_of
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.video_streams import STREAMS
from kuavo_bag_converter.robots.resolve import RunProfile
from kuavo_bag_converter.settings import Settings
from kuavo_bag_converter.support.errors import BagError, ImageError, UsageError
from kuavo_bag_converter.support.files import total_bytes
from kuavo_bag_converter.support.places import name_of
from kuavo_bag_converter.support.texts import error_text, shown


def inspect_bag(
    recording: Recording, settings: Settings, definitions: Definitions, *, asked: bool
) -> BagReport:
    """
    Inspect a recording; one that cannot be read gives a report that says so.

    :param recording: A file, a rosbag2 directory, or the files of one recording.
    :param settings: ``reader``, and what configurations are based on.
    :param definitions: Where message definitions come from.
    :param asked: Whether to try the configuration that the settings name.
    :raises UsageError: The settings name no profile or do not fit each other.
    """
    report = _unread(recording)
    inspector = _Inspector(recording, settings, definitions, asked=asked)
    try:
        return inspector.inspect(report, 'fail')
    except BagError as error:
        report = replace(report, error=str(error))
    try:
        return inspector.inspect(report, 'salvage')
    except BagError as error:
        return replace(report, problems=(str(error),) if str(error) != report.error else ())


@contextmanager
def inspected(
    recording: Recording, settings: Settings, definitions: Definitions
) -> Iterator[tuple[BagReport, InspectedBag]]:
    """
    Open a recording; give what is in it, and what configurations can be tried on.

    :param recording: A file, a rosbag2 directory, or the files of one recording.
    :param settings: ``reader`` and ``on_damage``.
    :param definitions: Where message definitions come from.
    :raises BagError: It cannot be read.
    """
    inspector = _Inspector(recording, settings, definitions, asked=False)
    on_damage = settings.on_damage
    with open_bag(recording, reader=settings.reader, on_damage=on_damage) as reader:
        report, bag = inspector.read(reader, _unread(recording), on_damage)
        yield replace(report, remarks=tuple(remarks_on(report))), bag


def _unread(recording: Recording) -> BagReport:
    files = _files_of(recording)
    return BagReport(
        bag=name_of(recording[0]),
        files=tuple(map(str, files)),
        size_bytes=total_bytes(files),
        health='unreadable',
    )


def _files_of(recording: Recording) -> list[Path]:
    """Return the files of a recording that are there, in order."""
    if len(recording) == 1 and os.path.isdir(recording[0]):
        try:
            return read_directory(recording[0], DamagePolicy('salvage')).files
        except BagError:
            return []
    return list(recording)


class _Inspector:
    """Inspects one recording, as ``fail`` or as ``salvage`` reads it."""

    def __init__(
        self, paths: Recording, settings: Settings, definitions: Definitions, *, asked: bool
    ) -> None:
        self._paths = paths
        self._settings = settings
        self._definitions = definitions
        self._asked = asked

    def inspect(self, report: BagReport, on_damage: str) -> BagReport:
        """
        Fill in a report.

        :raises BagError: The bag is damaged, or cannot be salvaged.
        """
        with open_bag(self._paths, reader=self._settings.reader, on_damage=on_damage) as reader:
            report, bag = self.read(reader, report, on_damage)
            report = self._fitted(report, bag, on_damage)
            report = replace(
                report,
                problems=(*reader.problems, *report.problems),
                bytes_read=reader.bytes_read,
                compression=reader.compression,
            )
        return replace(report, remarks=tuple(remarks_on(report)))

    def read(
        self, reader: BagReader, report: BagReport, on_damage: str
    ) -> tuple[BagReport, InspectedBag]:
        """
        Fill in what a bag holds, without configurations; return what those are tried on, too.

        :raises BagError: The bag is damaged, or cannot be salvaged.
        """
        index = reader.index(set(reader.counts))
        receive = {topic: index[topic].receive for topic in sorted(index)}
        connections = _by_topic(reader.connections)
        span = _span(connections, receive)
        sample = self._sample(connections, receive, span, report.size_bytes)
        contents, problems = _contents(reader, sample, on_damage)
        topics = tuple(
            self._topic(connections[topic], stamps, span, contents)
            for topic, stamps in receive.items()
        )
        topics = tuple(self._with_key_frame(reader, topic) for topic in topics)
        report = replace(
            report,
            health=_health(reader, on_damage),
            container=reader.container,
            backend=reader.backend,
            messages=sum(len(stamps) for stamps in receive.values()),
            header_stamps_read=sample.text,
            topics=topics,
            problems=tuple(problems),
        )
        if span is not None:
            report = _timed(report, span, index)
        paths = [name_of(path) for path in self._paths]
        by_name = {topic.topic: topic for topic in topics}
        return report, InspectedBag(
            paths, reader, index, contents.first, by_name, self._definitions
        )

    def _sample(
        self,
        connections: Mapping[str, Sequence[Connection]],
        receive: Mapping[str, Stamps],
        span: TimeSpan | None,
        size_bytes: int,
    ) -> MessageSample:
        if span is None:
            return MessageSample({}, frozenset(), '')
        with_header = frozenset(
            topic
            for topic, mine in connections.items()
            if all(has_header(connection, self._definitions) for connection in mine)
        )
        return choose(receive, with_header, span, size_bytes)

    def _topic(
        self,
        connections: Sequence[Connection],
        receive: Stamps,
        span: TimeSpan | None,
        contents: SampledContents,
    ) -> TopicReport:
        topic = connections[0].topic
        picture: FirstPicture | None = None
        fields: Mapping[str, FieldValues] = {}
        error = ''
        trailing = 0
        try:
            for connection in connections:
                self._definitions.decoder(connection)
            if topic in contents.first:
                connection, _, data = contents.first[topic]
                trailing = self._definitions.decoder(connection).trailing_bytes(data)
                picture = picture_of(contents.first[topic], self._definitions)
                if picture is None:
                    fields = fields_of(contents.first[topic], self._definitions)
        except ImageError as found:
            name = shown(topic)
            error = f'{name}: its first picture: {str(found).removeprefix(f"{name}: ")}'
        except BagError as found:
            error = str(found)
        return TopicReport(
            topic=topic,
            types=tuple(dict.fromkeys(connection.msgtype for connection in connections)),
            encoding=connections[0].encoding,
            messages=len(receive),
            publishers=len(connections),
            latched=_is_latched(connections),
            timing=timing_of(receive, span) if span else None,
            outside=outside_of(receive, span) if span else None,
            header=contents.header.get(topic),
            picture=picture,
            fields=fields,
            error=error,
            trailing_bytes=trailing,
        )

    def _with_key_frame(self, reader: BagReader, topic: TopicReport) -> TopicReport:
        picture = topic.picture
        if picture is None or picture.codec not in STREAMS or picture.width:
            return topic
        return replace(
            topic, picture=first_key_frame(reader, topic.topic, picture, self._definitions)
        )

    def _fitted(self, report: BagReport, bag: InspectedBag, on_damage: str) -> BagReport:
        settings = self._settings
        if on_damage == 'salvage':
            settings = replace(settings, on_damage=on_damage)
        return replace(
            report,
            asked=fit_asked(bag, settings) if self._asked else None,
            profiles=fit_all(bag, settings) if report.messages else (),
        )


def _by_topic(connections: Sequence[Connection]) -> dict[str, list[Connection]]:
    topics: dict[str, list[Connection]] = {}
    for connection in connections:
        topics.setdefault(connection.topic, []).append(connection)
    return topics


def _is_latched(connections: Sequence[Connection]) -> bool:
    return all(connection.latched for connection in connections)


def _health(reader: BagReader, on_damage: str) -> Health:
    if on_damage == 'salvage':
        return 'damaged'
    return 'noted' if reader.problems else 'good'


def _contents(
    reader: BagReader, sample: MessageSample, on_damage: str
) -> tuple[SampledContents, Sequence[str]]:
    """Read the sample; of a damaged bag, if it can be read."""
    try:
        return read_contents(reader, sample), ()
    except BagError as error:
        if on_damage == 'fail':
            raise
        return SampledContents({}, {}), (str(error),)


def _timed(report: BagReport, span: TimeSpan, index: Mapping[str, TopicIndex]) -> BagReport:
    receive = [times.receive for times in index.values()]
    steps: list[ClockStep] = []
    with suppress(BagError):  # A conversion says so, if it uses the topics.
        steps = recorder_steps(index)
    return replace(
        report,
        start_ns=span.start,
        start=_iso(span.start),
        duration_s=(span.stop - span.start) / 1e9,
        clock_steps=tuple(steps),
        silences=silences_of(receive, span),
        receive_step_ms=common_step_ms(receive),
    )


def _span(
    connections: Mapping[str, Sequence[Connection]], receive: Mapping[str, Stamps]
) -> TimeSpan | None:
    """Return the time of the recording; topics that are latched do not stretch it."""
    live = [receive[topic] for topic, mine in connections.items() if not _is_latched(mine)]
    return span_of(live) or span_of(receive.values())


def _iso(stamp: int) -> str:
    try:
        start = datetime.fromtimestamp(stamp // 10**9, timezone.utc)
        start = start.replace(microsecond=stamp % 10**9 // 1000)
        return start.isoformat(timespec='milliseconds')
    except (OverflowError, ValueError, OSError):
        return ''


def refused_together(recordings: Sequence[Recording], settings: Settings) -> dict[Recording, str]:
    """
    Return what a conversion of recordings to one dataset says of those that it refuses at once.

    :raises UsageError: The settings name no profile or do not fit each other.
    """
    profile = RunProfile(settings)
    options = shard_options(settings)
    agreement = Agreement(settings.lerobot_version, None)
    forms: dict[Recording, ShardFormat] = {}
    lines: dict[Recording, str] = {}

    for recording in recordings:
        with _said(lines, recording):
            bound = try_bag(
                recording,
                profile.of,
                options,
                reader=settings.reader,
                on_damage=settings.on_damage,
            )
            if bound is not None:
                profile.settle(bound.binding.profile, profile.found)
                forms[recording] = bound.shard_format
    agreement.settle({name_of(recording[0]): form for recording, form in forms.items()})
    for recording, form in forms.items():
        with _said(lines, recording):
            agreement.check(name_of(recording[0]), form)
    return lines


def refused_report(report: BagReport, line: str) -> BagReport:
    """Return the report of a bag that a conversion with others refuses."""
    if report.asked is None:
        return report
    misses = tuple(with_refusal(report.asked.misses, line))
    return replace(report, asked=replace(report.asked, fits=False, misses=misses))


@contextmanager
def _said(lines: dict[Recording, str], recording: Recording) -> Iterator[None]:
    """Keep what is said of a recording that is refused."""
    try:
        yield
    except (BagError, UsageError, OSError) as error:
        lines[recording] = error_text(error)
