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
A second opinion on a dataset: what its bags say, by other code than that which converted them.

The recording is read from front to back (:mod:`.plain_recording`), the meaning of the profile is
stated frame by frame (:mod:`.stated_rows`), pictures are decoded in another way
(:mod:`.plain_pictures`), and numbers must be what they claim to be (:mod:`.plausible`). What is
shared with the converter reads profiles and message definitions. What is not covered is said.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
import math
from pathlib import Path
from typing import Any

from kuavo_bag_converter.check.description import Description, StoredEpisode
from kuavo_bag_converter.check.findings import ARROW_ERRORS, Findings
from kuavo_bag_converter.dataset.features import Feature, LANGUAGE_FEATURES
from kuavo_bag_converter.dataset.recorded_bag import RecordedBag
from kuavo_bag_converter.dataset.tables import read_arrays, read_rows
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.profiles.model import (
    Align,
    CameraFeature,
    Profile,
    Source,
    VectorFeature,
)
from kuavo_bag_converter.replay.camera_opinion import CameraOpinion
from kuavo_bag_converter.replay.plain_recording import (
    NotJudged,
    OpinionSummary,
    plain_header_stamp,
    PlainRecording,
    Stored,
)
from kuavo_bag_converter.replay.plausible import doubts, PartEvidence
from kuavo_bag_converter.replay.rows import first_rows
from kuavo_bag_converter.replay.stated_rotations import rotated
from kuavo_bag_converter.replay.stated_rows import (
    as_number,
    Cell,
    check_stated,
    difference,
    full_turn,
    mark_stretches,
    operated,
    quaternions,
    reduced_values,
    relative,
    samples_before,
    SECOND,
    source_of,
    stated_between,
    StatedFrame,
    StatedNumber,
    StatedTopic,
    Statement,
)
from kuavo_bag_converter.replay.used_messages import UsedPart, UsedPose, UsedTexts, UsedTopic
from kuavo_bag_converter.support.errors import ConverterError
import numpy as np
from numpy.typing import NDArray
import pyarrow as pa
import pyarrow.parquet as pq

_ENOUGH = 0.9
"""Share of a recording that must be in the dataset if nothing says why it is not."""
_NAN = math.nan
_Rows = Mapping[str, NDArray[Any]]
"""The columns of an episode by feature, (frames, elements)."""


class BagOpinion:
    """
    Judges the episodes of one bag.

    :param dataset: The dataset.
    :param bag: What the record says of the bag.
    :param files: Where the bag is.
    :param profile: What a frame is made of.
    :param definitions: Where message definitions come from.
    :param frames: How many of each episode are looked at, each with the next two.
    """

    def __init__(
        self,
        dataset: Description,
        bag: RecordedBag,
        files: Sequence[Path],
        profile: Profile,
        definitions: Definitions,
        findings: Findings,
        summary: OpinionSummary,
        frames: int,
    ) -> None:
        self._dataset = dataset
        self._bag = bag
        self._recording = PlainRecording(tuple(files))
        self._profile = profile
        self._definitions = definitions
        self._findings = findings
        self._summary = summary
        self._sample = frames
        self._columns: list[UsedPart] = []
        self._cameras: dict[str, UsedTopic] = {}
        self._texts: list[UsedTexts] = []
        first = bag.first_episode
        self._episodes = dataset.episodes[slice(first, first + bag.episodes)]
        self._first_rows = first_rows(dataset)

    def judge(self) -> None:
        """Look at the bag; what cannot be judged is counted."""
        try:
            with self._not_judged(''):
                self._judge()
        except ConverterError as error:
            self._summary.not_judged[f'a bag: {" ".join(str(error).split())}'] += 1

    def _judge(self) -> None:
        profile = self._profile
        if any('salvaged' in problem for problem in self._bag.details.problems):
            raise NotJudged('a damaged bag, of which a part was salvaged')
        check_stated(profile, profile.clock, profile.episodes, *profile.vectors)
        self._read()
        self._frame_stamps = self._stored_stamps()
        self._check_length()
        judged = [
            self._judge_rows(episode, stamps)
            for episode, stamps in zip(self._episodes, self._frame_stamps, strict=True)
        ]
        for camera in profile.cameras:
            with self._not_judged(camera.key):
                self._judge_camera(camera, judged)

    @contextmanager
    def _not_judged(self, what: str) -> Iterator[None]:
        """Count what cannot be judged, and go on."""
        try:
            yield
        except NotJudged as reason:
            self._summary.not_judged[f'{what}: {reason}' if what else str(reason)] += 1

    # What the bag holds.

    def _aligned(self) -> Iterator[tuple[Source, Align]]:
        """Yield the sources of all features, and how each would be aligned."""
        for feature in self._profile.features:
            parts = feature.parts if isinstance(feature, VectorFeature) else (feature,)
            for part in parts:
                yield from ((source, source.align or part.align) for source in part.sources)

    def _named(self) -> set[str]:
        """Return the topics that the profile names."""
        profile = self._profile
        sources = [source for source, _ in self._aligned()]
        static = {source.tf.static_topic for source in sources if source.tf is not None}
        sources += (*profile.clock.sources, *profile.task_sources, *profile.episodes.sources)
        sources += [source for one in profile.language for source in one.sources]
        return {source.topic for source in sources} | static | {*profile.clock.end_topics}

    def _lines_of(self, topic: str) -> set[str]:
        """Return the time lines on which a topic is used."""
        clock = self._profile.clock
        lines: set[str] = {how.timeline for one, how in self._aligned() if one.topic == topic}
        if any(source.topic == topic for source in clock.sources):
            lines.add(clock.timeline)
        return lines or {'bag'}

    def _read(self) -> None:
        """Read the stamps of all topics, and all numbers."""
        named = self._named()
        types: dict[str, set[str]] = {}
        counts: Counter[str] = Counter()
        for message in self._recording.messages():
            if message.connection.topic in named:
                types.setdefault(message.connection.topic, set()).add(message.connection.msgtype)
                counts[message.connection.topic] += 1
        self._types = types
        clock = self._bind(counts)
        uses = [clock, *self._cameras.values(), *(c for c in self._columns if c.bound)]
        uses += self._texts
        topics = {name: StatedTopic(name) for name in types}
        lines = {name: self._lines_of(name) for name in topics}
        headed = any('header' in used for used in lines.values())
        for message in self._recording.messages():
            topic = topics.get(message.connection.topic)
            if topic is None:
                continue
            number = len(topic.places)
            header = self._header(message) if headed else 0
            mine = [use for use in uses if topic.name in use.topics_read]
            decoded = None
            if any(
                isinstance(u, UsedPart | UsedTexts) or u.source.frame_ids or u.source.stamp_field
                for u in mine
            ):
                decoded = self._definitions.decoder(message.connection)(message.data)
            for use in mine:
                use.take(number, message, decoded, header)
                if use.source.stamp_field:
                    header = use.stamped(message, decoded, header)
            topic.add(number, message.place, message.received, header)
        self._stretches = mark_stretches(list(topics.values()), lines)
        for use in uses:
            for own in use.topics:
                stretch = topics[own.name].stretch
                own.stretch = [stretch[number] for number in own.numbers]
            if isinstance(use, UsedPose):
                base = topics[use.source.topic]
                stretches = dict(zip(base.places, base.stretch, strict=True))
                for edge in use.edges.values():
                    edge.topic.stretch = [stretches.get(p, 0) for p in edge.topic.places]
        self._statement = Statement(self._profile, list(topics.values()), clock.topics[0])

    def _header(self, message: Stored) -> int:
        fields = self._definitions.decoder(message.connection).fields()
        name, kind = next(iter(fields.items()), ('', None))
        if name != 'header' or 'std_msgs/msg/Header' not in str(kind):
            return 0
        return plain_header_stamp(message)

    def _bind(self, counts: Mapping[str, int]) -> UsedTopic:
        """Find the sources of the features, and return the frame clock."""
        profile = self._profile
        for vector in profile.vectors:
            offset = 0
            for part in vector.parts:
                source = source_of(part.sources, counts, self._types)
                used = part
                if source is None and part.stand_in is not None:
                    used = replace(part.stand_in, names=part.names)
                    source = source_of(used.sources, counts, self._types)
                align = used.align if source is None or source.align is None else source.align
                kind = UsedPose if source is not None and source.tf else UsedPart
                self._columns.append(kind(vector.key, used, source, align, offset))
                offset += len(part.names)
        for camera in profile.cameras:
            source = source_of(camera.sources, counts, self._types)
            if source is not None:
                self._cameras[camera.key] = UsedTopic(source, source.align or camera.align)
        for language in profile.language:
            source = source_of(language.sources, counts, self._types)
            if source is not None:
                self._texts.append(UsedTexts(language, source))
        sources = [source for source in profile.clock.sources if source.topic in counts]
        if not sources:
            raise NotJudged('a bag without the topic of the frame clock')
        if profile.clock.most_messages:
            sources.sort(key=lambda source: -counts[source.topic])
        clock = sources[0]
        plain = not clock.frame_ids and not clock.publisher and not clock.stamp_field
        same = [use.source for use in self._cameras.values() if use.source.topic == clock.topic]
        return UsedTopic(same[0] if plain and same else clock, Align())

    # What the dataset holds.

    def _stored_stamps(self) -> list[list[int]]:
        """Return the stamps of the frames of each episode."""
        try:
            table = pq.ParquetFile(self._dataset.root / self._bag.alignment_path).read()
            stamps = table.column('frame_stamp_ns').to_pylist()
        except (*ARROW_ERRORS, KeyError) as error:
            raise NotJudged(f'frames without stamps ({type(error).__name__})') from None
        result, start = [], 0
        for episode in self._episodes:
            result.append(stamps[slice(start, start + episode.length)])
            start += episode.length
        if start != len(stamps):
            raise NotJudged('frames of which the record tells other stamps')
        return result

    def _rows(self, episode: StoredEpisode) -> dict[str, NDArray[Any]]:
        keys = {vector.key for vector in self._profile.vectors}
        features = [column for key, column in self._dataset.features.items() if key in keys]
        path = self._dataset.root / episode.data_file
        first = episode.first_row - self._first_rows[episode.data_file]
        return read_arrays(path, first, episode.length, features)

    # How much of the recording is there.

    def _check_length(self) -> None:
        """Find frames that are missing though nothing says why."""
        profile, plan = self._profile, self._bag.plan
        frames = sum(map(len, self._frame_stamps))
        expected = 0
        for stretch in range(self._stretches):
            stamps, _ = self._statement.line(
                self._statement.clock, profile.clock.timeline, stretch
            )
            stamps = stamps[slice(profile.clock.drop, len(stamps) - profile.clock.drop)]
            if len(stamps) > 1:
                rate = min(profile.fps, profile.clock.source_fps) / SECOND
                length = sum(min(b - a, SECOND) for a, b in pairwise(stamps))
                expected += min(round(length * rate), len(stamps))
        said = plan.frames_outside_segments + plan.frames_cut + plan.frames_cut_by_end_trim
        said += plan.frames_cut_by_shift or 0
        said += plan.frames_in_short_episodes or 0
        if frames + said < _ENOUGH * expected - 2 and not plan.runs_without_frames:
            self._add(
                'opinion.length', f'{frames} frames, {said} left out for a reason',
                f'about {expected} frames, as the clock has',
            )  # fmt: skip
        ender = plan.end_trim_topic
        uses = [c.align for c in self._columns if c.source.topic == ender]
        held = bool(uses) and all(use.strategy == 'hold' for use in uses)
        if plan.frames_cut_by_end_trim > 2 and held and ender not in profile.clock.end_topics:
            self._add(
                'opinion.length',
                f'{plan.frames_cut_by_end_trim} frames cut behind the last message of {ender}',
                'a value that holds to the end of the recording',
            )

    # Rows.

    def _judge_rows(self, episode: StoredEpisode, stamps: Sequence[int]) -> tuple[int, list[int]]:
        """
        Judge the sampled rows of an episode, by the stretch that they fit best.

        :return: The stretch and the sampled frames.
        """
        chosen, rows = self._chosen(stamps), self._rows(episode)
        self._check_silence(episode, stamps)
        wrong = {
            stretch: list(self._wrong_values(stamps, stretch, chosen, rows))
            for stretch in self._possible(stamps)
        }
        if not wrong:
            self._add(
                'opinion.clock', 'frames on both sides of where a clock was set back, or beyond',
                'frames between the first and the last message of the clock', episode,
            )  # fmt: skip
            return 0, []
        best = min(wrong, key=lambda stretch: len(wrong[stretch]))
        for frame, key, found, expected in wrong[best]:
            self._add('opinion.row', found, expected, episode, frame, key)
        self._doubt(episode, best, stamps, rows)
        if self._profile.language:
            with self._not_judged('language'):
                self._judge_texts(episode, best, stamps, chosen)
        self._summary.frames += len(chosen)
        return best, chosen

    def _possible(self, stamps: Sequence[int]) -> list[int]:
        """Return the stretches in which the clock covers the frames."""
        clock = self._profile.clock
        slack = 2 * SECOND / self._profile.fps
        possible = []
        for stretch in range(self._stretches):
            line, _ = self._statement.line(self._statement.clock, clock.timeline, stretch)
            if line and line[0] - slack <= stamps[0] and stamps[-1] <= line[-1] + slack:
                possible.append(stretch)
        return possible

    def _chosen(self, stamps: Sequence[int]) -> list[int]:
        """Return frames spread over an episode, and those around holes, each with the next two."""
        count = len(stamps)
        spread = np.linspace(0, count - 1, min(self._sample, count)).round().astype(int).tolist()
        period = 1.5 * SECOND / self._profile.fps
        holes = [i for i in range(count - 1) if stamps[i + 1] - stamps[i] > period]
        frames = {*spread, *holes[: self._sample]}
        return sorted({frame for f in frames for frame in (f, f + 1, f + 2) if frame < count})

    def _wrong_values(
        self,
        stamps: Sequence[int],
        stretch: int,
        chosen: Sequence[int],
        rows: _Rows,
    ) -> Iterator[tuple[int, str, str, str]]:
        """Yield (frame, feature, found, expected) of what differs from the messages."""
        for frame in chosen:
            expected = {
                vector.key: self._vector(vector, stamps, stretch, frame)
                for vector in self._profile.vectors
            }
            for vector in self._profile.vectors:
                turns = [full_turn(part) for part in vector.parts for _ in part.names]
                for sample, stored in enumerate(np.atleast_2d(rows[vector.key][frame])):
                    values = self._signed(vector.key, expected[vector.key][sample], stored)
                    if vector.minus is not None:
                        base = dict(
                            zip(
                                self._names(vector.minus),
                                expected[vector.minus][sample],
                                strict=True,
                            )
                        )
                        values = [
                            difference(value, base[name], turn) if name in base else value
                            for name, value, turn in zip(vector.names, values, turns, strict=True)
                        ]
                    for name, found, wanted, turn in zip(
                        vector.names, stored, values, turns, strict=True
                    ):
                        if wanted is None:
                            continue
                        self._summary.values += 1
                        number = as_number(wanted)
                        if not _equal(found, number, turn):
                            yield frame, vector.key, f'{name} {found}', f'{number:.9g}'

    def _signed(self, key: str, values: Sequence[StatedNumber], stored: Any) -> list[StatedNumber]:
        """Give quaternions of either sign the one that they have; that it stays is seen apart."""
        result = list(values)
        for column in (c for c in self._columns if c.key == key and c.bound):
            for places in quaternions(column.part, column.source, column.align.strategy):
                own = [column.offset + place for place in places]
                numbers = [number for place in own if isinstance(number := result[place], float)]
                if len(numbers) == len(own):
                    product = sum(a * float(stored[i]) for a, i in zip(numbers, own, strict=True))
                    sign = -1.0 if product < 0 else 1.0
                    for place, number in zip(own, numbers, strict=True):
                        result[place] = sign * number
        return result

    def _names(self, key: str) -> Sequence[str]:
        return next(vector.names for vector in self._profile.vectors if vector.key == key)

    def _vector(
        self, vector: VectorFeature, stamps: Sequence[int], stretch: int, frame: int
    ) -> list[list[StatedNumber]]:
        """Return what each sample of a frame must hold; None where that is not judged."""
        before = samples_before(vector, self._profile.fps)
        values: list[list[StatedNumber]] = [[] for _ in before]
        for column in (c for c in self._columns if c.key == vector.key):
            for sample, own in enumerate(values):
                found: Sequence[StatedNumber] = [None] * column.width
                with self._not_judged(vector.key):
                    found = self._elements(column, stamps, stretch, frame, sample, before)
                own.extend(found)
        return values

    def _elements(
        self,
        column: UsedPart,
        stamps: Sequence[int],
        stretch: int,
        frame: int,
        sample: int,
        samples: Sequence[int],
    ) -> Sequence[StatedNumber]:
        part, align = column.part, column.align
        check_stated(part, align)
        if part.last_frame:
            return [float(frame == len(stamps) - 1)]
        if part.gap_flag and not column.bound:
            return [0.0]
        if not column.bound:
            raise NotJudged('a part without a topic')
        check_stated(column.source)
        if part.gap_flag:
            at = StatedFrame(stamps[frame], stretch, samples[sample])
            return [float(self._statement.cell(column.topics[0], align, at).in_gap)]

        count = len(samples)

        def row(number: int) -> Sequence[StatedNumber]:
            ahead = number // count + align.shift
            if not 0 <= ahead < len(stamps):
                raise NotJudged('what lies beyond the end of an episode')
            before = StatedFrame(stamps[ahead - 1], stretch) if ahead else None
            at = StatedFrame(stamps[ahead], stretch, samples[number % count])
            rows = [self._row(column, topic, at, before) for topic in column.topics]
            return [own[place] for place, own in enumerate(rows)] if part.joints else rows[0]

        def with_held(number: int) -> Sequence[StatedNumber]:
            values = list(row(number))
            if part.nan == 'hold':
                for earlier in range(number - 1, -1, -1):
                    held = [i for i, v in enumerate(values) if _is_not_finite(v)]
                    if not held:
                        break
                    for i, old in enumerate(row(earlier)):
                        if i in held and not isinstance(old, str):  # what is filled is not held
                            values[i] = old
            return values

        number = frame * count + sample
        if part.relative_to_start:
            return relative(with_held, number, len(stamps) * count, full_turn(part))
        return with_held(number)

    def _row(
        self, column: UsedPart, topic: StatedTopic, frame: StatedFrame, before: StatedFrame | None
    ) -> Sequence[StatedNumber]:
        align = column.align
        if isinstance(column, UsedPose):
            pose = column.pose(self._statement, frame)
            return self._operated(column, pose, pose, Cell(0, 0))
        cell = self._statement.cell(topic, align, frame)
        if cell.fill:
            return [cell.fill] * column.width
        if cell.cut:
            return [_NAN] * column.width
        first, second = column.values[cell.first], column.values[cell.second]
        how = align.reduce
        if how is not None:
            since = self._statement.since(topic, align, before, frame)
            if since:
                first = second = reduced_values([column.values[i] for i in since], how)
        return self._operated(column, first, second, cell)

    def _operated(
        self, column: UsedPart, first: Sequence[float], second: Sequence[float], cell: Cell
    ) -> Sequence[StatedNumber]:
        """Return the elements that two messages make, of which the first may serve alone."""
        part = column.part
        if part.rotation is not None:
            found: Any = np.array(rotated(first, second, cell.weight, part.rotation))
        else:
            found = stated_between(first, second, cell, part, column.align)
        if part.quaternion == 'positive_w':
            w = part.real_part(column.source)
            found = -found if w is not None and found[w] < 0 else found
        return [float(v) for v in operated(found, part)]

    def _judge_texts(
        self, episode: StoredEpisode, stretch: int, stamps: Sequence[int], chosen: Sequence[int]
    ) -> None:
        """Compare what is said and holds at sampled frames with what was received by then."""
        path = self._dataset.root / episode.data_file
        first = episode.first_row - self._first_rows[episode.data_file]
        keys = {use.language.key for use in self._texts}
        columns = [Feature(key, 'string', (1,)) for key in keys if key]
        columns += LANGUAGE_FEATURES if '' in keys else ()
        table = pa.concat_tables(read_rows(path, first, episode.length, columns))
        cells = {column.key: table.column(column.key).to_pylist() for column in columns}
        lasting, events = (cells.get(one.key, []) for one in LANGUAGE_FEATURES)
        period = SECOND // self._profile.fps
        for use in self._texts:
            language = use.language
            received, numbers = self._statement.line(
                use.topics[0], 'bag', stretch, held=language.lasts
            )
            mine = (language.style, language.role)
            for frame in chosen:
                time = self._statement.time(StatedFrame(stamps[frame], stretch), 'bag')
                if language.lasts:
                    last = bisect_right(received, time)
                    expected = [use.texts[number] for number in numbers[:last][-1:]]
                    if language.key:
                        self._judge_text(
                            cells[language.key][frame], ''.join(expected), episode, frame,
                            language.key,
                        )  # fmt: skip
                        continue
                    held = [row for row in lasting[frame] if (row['style'], row['role']) == mine]
                    known = [
                        r for r in held if r['timestamp'] <= (frame + 0.5) / self._dataset.fps
                    ]
                    found = [row['content'] for row in known[-1:]]
                else:
                    since = time - period
                    if frame:
                        before = StatedFrame(stamps[frame - 1], stretch)
                        since = self._statement.time(before, 'bag')
                    inside = slice(bisect_right(received, since), bisect_right(received, time))
                    expected = [use.texts[number] for number in numbers[inside]]
                    said = [row for row in events[frame] if (row['style'], row['role']) == mine]
                    found = [row['content'] for row in said]
                self._judge_text(found, expected, episode, frame, f'language {mine}')

    def _judge_text(
        self, found: Any, expected: Any, episode: StoredEpisode, frame: int, key: str
    ) -> None:
        self._summary.values += 1
        if found != expected:
            self._add('opinion.text', f'{found!r}', f'{expected!r}', episode, frame, key)

    # What the numbers must be like.

    def _doubt(
        self, episode: StoredEpisode, stretch: int, frames: Sequence[int], rows: _Rows
    ) -> None:
        minus = {vector.key: vector.minus for vector in self._profile.vectors}
        for column in self._columns:
            line = column.align.timeline
            if column.part.gap_flag or not column.bound or isinstance(column, UsedPose):
                continue
            times = [self._statement.time(StatedFrame(stamp, stretch), line) for stamp in frames]
            for place, topic in enumerate(column.topics):
                stamps, numbers = self._statement.line(topic, line, stretch)
                low = bisect_left(stamps, times[0] - SECOND)
                high = bisect_right(stamps, times[-1] + SECOND)
                inside = numbers[low:high]
                if not inside:
                    continue
                # Each joint has messages of its own; the elements of others come together.
                own = slice(place, place + 1) if column.part.joints else slice(column.width)
                stored = rows[column.key]
                stored = stored if stored.ndim == 2 else stored[:, -1]  # the samples at the frames
                chosen = np.arange(column.offset, column.offset + column.width)[own]
                values = np.array([column.values[i] for i in inside])
                done = operated(values, column.part)
                seen = PartEvidence(
                    part=column.part,
                    source=column.source,
                    columns=column.part.names[own],
                    strategy=column.align.strategy,
                    is_difference=minus[column.key] is not None,
                    single=self._dataset.features[column.key].dtype == 'float32',
                    rows=_unfilled(stored[:, chosen].astype(np.float64), column.align),
                    values=values[:, own],
                    operated=done[:, own],
                    stamps=np.array(stamps[low:high], np.int64),
                    frame_stamps=np.array(times, np.int64),
                    who=[column.who[i] for i in inside],
                    names=[column.names[i] for i in inside],
                )
                for doubt in doubts(seen):
                    self._add(doubt.rule, doubt.found, doubt.expected, episode, key=column.key)

    def _check_silence(self, episode: StoredEpisode, stamps: Sequence[int]) -> None:
        """Find frames where nothing was recorded."""
        for start, stop in self._statement.pauses:
            inside = [i for i, stamp in enumerate(stamps) if start + SECOND / 4 < stamp < stop]
            if len(inside) > 1 and stamps[0] < start:
                self._add(
                    'opinion.frozen',
                    f'{len(inside)} frames in {(stop - start) / SECOND:.1f} s of silence',
                    'frames of what was recorded', episode, inside[0],
                )  # fmt: skip

    # Pictures.

    def _judge_camera(
        self, camera: CameraFeature, judged: Sequence[tuple[int, list[int]]]
    ) -> None:
        use = self._cameras.get(camera.key)
        if use is None:
            raise NotJudged('a camera without a topic')
        check_stated(camera, use.source, use.align)
        wanted: dict[tuple[int, int], int] = {}
        for number, (stretch, chosen) in enumerate(judged):
            for frame in chosen:
                stamp = self._frame_stamps[number][frame]
                cell = self._statement.cell(use.topics[0], use.align, StatedFrame(stamp, stretch))
                if cell.first >= 0:
                    wanted[number, frame] = cell.first
        judge = CameraOpinion(
            self._dataset, self._bag, self._episodes, camera, use.source, self._findings,
            self._summary,
        )  # fmt: skip
        judge.judge(self._recording, self._definitions, wanted)

    def _add(
        self,
        rule: str,
        found: str,
        expected: str,
        episode: StoredEpisode | None = None,
        frame: int | None = None,
        key: str = '',
    ) -> None:
        number = None if episode is None else episode.index
        self._findings.add(
            rule, found, expected, file=self._bag.name if episode is None else '',
            feature=key, episode=number, frame=frame,
        )  # fmt: skip


def _unfilled(rows: NDArray[np.float64], align: Align) -> NDArray[np.float64]:
    """Make what was filled in NaN."""
    filled = np.zeros(len(rows), np.bool_)
    if align.on_gap == 'mark':
        filled |= (rows == as_number('mark')).any(axis=1)
    zeros = (rows == 0).all(axis=1)
    if align.zeros_before_first or (align.on_gap == 'zeros' and not zeros.all()):
        filled |= zeros
    return np.where(filled[:, None], _NAN, rows)


def _is_not_finite(value: StatedNumber) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _equal(found: Any, wanted: float, turn: float) -> bool:
    """Tell whether a stored number is the wanted one within rounding, and full turns of angles."""
    if not math.isfinite(wanted):
        return False
    apart = float(found) - wanted
    if turn:
        apart -= turn * round(apart / turn)
    rounding = 2 * float(np.spacing(np.abs(found))) if found.dtype.kind == 'f' else 1e-6
    return bool(abs(apart) <= rounding + 2 * float(np.spacing(abs(wanted))) + 1e-9)
