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

"""A second opinion on the pictures of a camera; see :mod:`.opinion`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing

from kuavo_bag_converter.check.description import Description, StoredEpisode
from kuavo_bag_converter.check.findings import Findings
from kuavo_bag_converter.dataset.recorded_bag import RecordedBag
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.profiles.model import CameraFeature, Source
from kuavo_bag_converter.replay.pictures import stored_pictures
from kuavo_bag_converter.replay.plain_pictures import (
    distance,
    PlainDecoder,
    PlainPicture,
    rather_like,
    Reduced,
    scene_distance,
    stored_picture,
    Unreadable,
)
from kuavo_bag_converter.replay.plain_recording import OpinionSummary, PlainRecording
from kuavo_bag_converter.replay.plausible import in_turns
from kuavo_bag_converter.replay.stated_rows import speaker_of
from kuavo_bag_converter.support.errors import ConverterError

_ALIKE = 16.0
"""Levels by which a picture may differ from that of its message, in the mean of all pixels."""
_NEAR = 400
"""Frames within which another picture may have been taken for that of a frame."""

Wanted = Mapping[tuple[int, int], int]
"""Which message of the camera serves a frame, by number of the episode in the bag and frame."""


class CameraOpinion:
    """
    Judges the pictures of one camera in the episodes of one bag.

    :param dataset: The dataset.
    :param bag: What the record says of the bag.
    :param episodes: Of the bag.
    :param camera: The camera.
    :param source: Where its messages are.
    :param findings: Takes what is wrong.
    :param summary: Counts what was looked at.
    """

    def __init__(
        self,
        dataset: Description,
        bag: RecordedBag,
        episodes: Sequence[StoredEpisode],
        camera: CameraFeature,
        source: Source,
        findings: Findings,
        summary: OpinionSummary,
    ) -> None:
        self._dataset = dataset
        self._bag = bag
        self._episodes = episodes
        self._camera = camera
        self._source = source
        self._findings = findings
        self._summary = summary

    def judge(self, recording: PlainRecording, definitions: Definitions, wanted: Wanted) -> None:
        """Compare the pictures of frames with those of the messages that serve them."""
        pictures = self._decoded(recording, definitions, {*wanted.values()})
        stored = self._stored(wanted)
        if stored is None:
            return
        self._check_levels([pictures[one] for one in wanted.values() if one in pictures])
        self._check_turns(wanted, pictures)
        for (number, frame), own in wanted.items():
            if own in pictures:
                near = {
                    w for (n, f), w in wanted.items() if n == number and abs(f - frame) < _NEAR
                }
                others = {o: pictures[o].reduced for o in sorted(near - {own}) if o in pictures}
                self._compare(number, frame, own, stored[number, frame], pictures[own], others)

    def _decoded(
        self, recording: PlainRecording, definitions: Definitions, wanted: set[int]
    ) -> dict[int, PlainPicture]:
        """Decode the wanted messages of a topic, and of a stream all those before them."""
        height, width = self._dataset.features[self._camera.key].picture_shape[:2]
        decoder = PlainDecoder(self._camera, (height, width))
        pictures: dict[int, PlainPicture] = {}
        speakers: list[tuple[str, ...]] = []
        number = -1
        for message in recording.messages():
            if message.connection.topic != self._source.topic:
                continue
            number += 1
            if number not in wanted and number and not decoder.is_stream:
                continue
            decoded = definitions.decoder(message.connection)(message.data)
            if number in wanted:
                speakers.append(speaker_of(decoded, self._source))
            try:
                picture = decoder.feed(decoded, wanted=number in wanted)
            except Unreadable:
                if number in wanted:
                    what = f'{self._camera.key}: a picture that cannot be decoded'
                    self._summary.not_judged[what] += 1
                continue
            if picture is not None:
                pictures[number] = picture
        if in_turns(speakers):
            found = ' and '.join(sorted({' '.join(one) or 'nobody' for one in speakers})[:2])
            self._add('opinion.sources', f'pictures of {found} in turns', 'one camera')
        known = self._bag.plan.frames_with_bad_images or self._bag.plan.bad_images
        if decoder.losses and not known:
            self._add(
                'opinion.stream', f'{len(decoder.losses)} pictures: {decoder.losses[0]}',
                'pictures of which nothing was lost',
            )  # fmt: skip
        return pictures

    def _stored(self, wanted: Wanted) -> dict[tuple[int, int], Reduced] | None:
        """Return the pictures of the dataset; None where one cannot be read."""
        column = self._dataset.features[self._camera.key]
        stored = {}
        source = stored_pictures(self._dataset, column, packets=column.has_copied_jpegs)
        try:
            with closing(source):
                for number, frame in sorted(wanted):
                    picture = source.picture(self._episodes[number], frame)
                    stored[number, frame] = stored_picture(picture, metric=column.is_depth)
        except ConverterError:
            return None  # found by what checks the dataset by itself
        return stored

    def _check_levels(self, seen: Sequence[PlainPicture]) -> None:
        for what, flags in (
            ('no depth at all', [picture.empty for picture in seen]),
            ('depth beyond 30 m', [picture.far for picture in seen]),
            ('fewer than 32 levels', [0 < picture.levels < 32 for picture in seen]),
        ):
            if sum(flags) > len(flags) / 2:
                self._add(
                    'opinion.levels', f'{what} in {sum(flags)} of {len(flags)} pictures',
                    'a unit or range that fits the camera',
                )  # fmt: skip

    def _compare(
        self,
        number: int,
        frame: int,
        own: int,
        shown: Reduced,
        picture: PlainPicture,
        others: Mapping[int, Reduced],
    ) -> None:
        self._summary.pictures += 1
        apart = scene_distance(shown, picture.reduced)
        other = rather_like(shown, picture.reduced, others)
        if other is not None:
            found, expected = f'a picture like that of message {other}', f'that of message {own}'
        elif apart > _ALIKE:
            found = f'a picture {apart:.0f} levels away'
            expected = f'that of its message, at most {_ALIKE:.0f} levels away'
        else:
            return
        self._add('opinion.picture', found, expected, self._episodes[number].index, frame)

    def _check_turns(self, wanted: Wanted, pictures: Mapping[int, PlainPicture]) -> None:
        """Find pictures that are more like the next but one than like the next: two cameras."""
        turns = []
        for (number, frame), own in wanted.items():
            three = [own, *(wanted.get((number, frame + step), -1) for step in (1, 2))]
            if len(set(three)) == 3 and all(one in pictures for one in three):
                first, next_one, second = (pictures[one].reduced for one in three)
                apart = distance(first, next_one)
                turns.append(apart > 4 and distance(first, second) < apart / 2)
        if len(turns) >= 6 and sum(turns) > 0.7 * len(turns):
            self._add(
                'opinion.sources', f'{sum(turns)} of {len(turns)} pictures like the next but one',
                'pictures of one camera',
            )  # fmt: skip

    def _add(
        self,
        rule: str,
        found: str,
        expected: str,
        episode: int | None = None,
        frame: int | None = None,
    ) -> None:
        self._findings.add(
            rule, found, expected, file=self._bag.name if episode is None else '',
            feature=self._camera.key, episode=episode, frame=frame,
        )  # fmt: skip
