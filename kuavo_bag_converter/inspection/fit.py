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

"""Which configurations can convert a bag, and what the others would miss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
import json
import shlex

from kuavo_bag_converter.alignment.binding import bind, Binding, BoundCamera, chooses
from kuavo_bag_converter.alignment.plan import BadPictures, make_plan, topics_with_header
from kuavo_bag_converter.alignment.planning import aligned_topics, latched_topics
from kuavo_bag_converter.alignment.selection import (
    select_messages,
    spread_topics,
    tried_messages,
)
from kuavo_bag_converter.bags.model import BagReader, TopicIndex
from kuavo_bag_converter.frames.cameras import first_picture
from kuavo_bag_converter.frames.elements import ElementReader
from kuavo_bag_converter.frames.kinds import camera_of
from kuavo_bag_converter.frames.options import shard_options
from kuavo_bag_converter.frames.preflight import bind_bag
from kuavo_bag_converter.inspection.contents import FirstMessage
from kuavo_bag_converter.inspection.report import (
    FirstPicture,
    Fit,
    Miss,
    MissKind,
    TopicReport,
)
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.fields import FieldReader
from kuavo_bag_converter.messages.images import picture_info
from kuavo_bag_converter.messages.video_streams import STREAMS
from kuavo_bag_converter.profiles.model import (
    CameraFeature,
    Clock,
    Part,
    Profile,
    Source,
    VectorFeature,
)
from kuavo_bag_converter.profiles.shipped import shipped_profiles
from kuavo_bag_converter.robots.resolve import (
    resolve,
    robot_of,
    robots,
    topics_of,
    undecided,
    variants,
)
from kuavo_bag_converter.settings import known_settings, SettingInfo, Settings, updated
from kuavo_bag_converter.support.errors import BagError, ImageError, UnfitMessageError, UsageError
from kuavo_bag_converter.support.texts import listed, PROGRAM, shown
import numpy as np
import yaml

_NOT_SAID = ('bags', 'output', 'append', 'retry_failed', 'num_used', 'seed')
_RATE_TOLERANCE = 0.1
_WITHIN = 100
"""Messages of a topic among which one must be as a profile needs it."""
_DEPTH_SIGNS = ('16UC1', '32FC1', 'compressedDepth')


@dataclass(frozen=True, eq=False)
class InspectedBag:
    """What configurations are tried on."""

    files: Sequence[str]
    """As on a command line."""
    reader: BagReader
    index: Mapping[str, TopicIndex]
    """Receive stamps of every topic."""
    first: Mapping[str, FirstMessage]
    """First message of every topic that has a readable one."""
    topics: Mapping[str, TopicReport]
    definitions: Definitions

    def chooses(self, source: Source) -> bool:
        """Tell whether only some messages of a topic are meant."""
        return chooses(source) or len(self.topics[source.topic].types) > 1


def fit_asked(bag: InspectedBag, settings: Settings) -> Fit:
    """
    Try what the settings name, as they are.

    :raises UsageError: They name no profile or do not fit each other.
    """
    return _ProfileFitter(bag, settings).fit(settings, asked=True)


def fit_all(bag: InspectedBag, base: Settings) -> tuple[Fit, ...]:
    """
    Try the variants of every robot and the shipped profiles; the nearest come first.

    Everything else is as in ``base``.

    :raises UsageError: The settings of ``base`` do not fit each other.
    """
    fitter = _ProfileFitter(bag, base)
    fits: list[Fit] = []
    for name, robot in robots().items():
        settings = replace(base, profile=name, robot_options=(), profile_object=None)
        for tries in variants(robot, base):
            named = [settings.with_options(options) for options in tries]
            tried = [fitter.advised(fitter.tuned(one)) for one in named]
            fits += tried
            if any(fit.fits for fit in tried):
                break
    fits += [
        fitter.advised(replace(base, profile=name, robot_options=(), profile_object=None))
        for name in shipped_profiles()
    ]
    return tuple(sorted(fits, key=lambda fit: len(fit.misses)))


def fit_advised(bag: InspectedBag, settings: Settings) -> Fit:
    """
    Try what the settings name, and if bad pictures would stop it, without their frames.

    :raises UsageError: They name no profile or do not fit each other.
    """
    return _ProfileFitter(bag, settings).advised(settings, asked=True)


class _BadPictures(Exception):  # noqa: N818  # it tells what it found
    """Frames need pictures that cannot be decoded."""

    def __init__(self, miss: Miss) -> None:
        super().__init__(miss.text)
        self.miss = miss


class _ProfileFitter:
    """Tries configurations on one bag; what several of them share is tried once."""

    def __init__(self, bag: InspectedBag, base: Settings) -> None:
        self._bag = bag
        self._options = replace(
            shard_options(base), definitions=bag.definitions, on_bad_image='fail'
        )
        """How bags are converted, as far as it matters for one picture."""
        self._part = cache(self._try_part)
        self._camera = cache(self._try_camera)
        self._remarks: dict[CameraFeature, tuple[str, ...]] = {}
        """What there is to say of the first picture of a camera."""
        self._losses: dict[CameraFeature, str] = {}
        """What its pictures lose."""
        self._bad: dict[str, int] = {}
        """First pictures of a topic that cannot be decoded, as far as they were tried."""

    def fit(self, settings: Settings, *, asked: bool = False) -> Fit:
        """
        Try one configuration; what is ``asked`` for is refused in the words of a conversion.

        :raises UsageError: The settings name no profile or do not fit each other.
        """
        frames = episodes = None
        misses: list[Miss] = []
        cameras: Sequence[CameraFeature] = ()
        try:
            profile = resolve(settings, topics_of(self._bag.reader, settings))
        except BagError as error:
            misses.append(Miss('', '', undecided(settings).partition(',')[0], str(error)))
        else:
            cameras = profile.cameras
            misses += self._misses(profile)
            try:
                bound = bind_bag(profile, self._bag.reader, self._options)
            except (BagError, UsageError) as error:
                if asked or not misses:
                    misses = with_refusal(misses, str(error))
            else:
                misses.clear()  # a first message lacks something; the conversion reads on
                try:
                    frames, episodes = self._frames(bound.binding, settings.on_bad_image)
                except _BadPictures as bad:
                    misses.append(bad.miss)
                except BagError as error:
                    misses.append(Miss('', '', 'frames', str(error)))
        return Fit(
            settings.profile,
            {
                name: known_settings()[name].value_in(settings)
                for name in _distinguishing(settings)
            },
            not misses,
            frames,
            episodes,
            tuple(misses),
            _command(self._bag.files, settings),
            (
                *(text for camera in cameras for text in self._remarks.get(camera, ())),
                *(self._lost(cameras) if not misses else ()),
            ),
        )

    def _lost(self, cameras: Sequence[CameraFeature]) -> Iterator[str]:
        """Say what is lost of pictures, once for all cameras that lose the same."""
        losses = [self._losses.get(camera, '') for camera in cameras]
        for loss in dict.fromkeys(filter(None, losses)):
            keys = [camera.key for camera, own in zip(cameras, losses, strict=True) if own == loss]
            yield f'{loss} ({", ".join(keys)})'

    def advised(self, settings: Settings, *, asked: bool = False) -> Fit:
        """
        Try one configuration, and if bad pictures would stop it, without their frames.

        :raises UsageError: The settings name no profile or do not fit each other.
        """
        fit = self.fit(settings, asked=asked)
        if any(miss.kind == 'bad_pictures' for miss in fit.misses):
            return self.fit(replace(settings, on_bad_image='split'), asked=asked)
        return fit

    def tuned(self, settings: Settings) -> Settings:
        """Set the rate of the clock's topic to what it is in the bag, where that is another."""
        robot = robot_of(settings.profile)
        info = known_settings()[robot.clock_fps] if robot and robot.clock_fps else None
        if info is None or not info.is_default_in(settings):
            return settings
        try:
            binding = self._bound(resolve(settings, topics_of(self._bag.reader, settings)).clock)
        except BagError:
            return settings
        topic = self._bag.topics[binding.clock_topic] if binding else None
        rate = _rate(topic) if topic else None
        if rate is None or abs(rate / info.default - 1) <= _RATE_TOLERANCE:
            return settings
        allowed = min(max(round(rate), info.minimum or 1), info.maximum or 1000)
        return updated(settings, {info.name: allowed}, 'inspect')

    def _frames(self, binding: Binding, on_bad: str) -> tuple[int | None, int | None]:
        """
        Return how many frames and episodes there would be, where receive stamps tell.

        :raises _BadPictures: Frames need pictures that cannot be decoded, or may need them.
        :raises BagError: No frame is left.
        """
        reader, definitions = self._bag.reader, self._bag.definitions
        profile = binding.profile
        spread = spread_topics(binding, reader, definitions)
        binding, selected = select_messages(binding, reader, definitions, spread)
        clock, topic = profile.clock, binding.clock_topic
        bad = [camera for camera in binding.cameras if camera.source.topic in self._bad]
        if topics_with_header(topic, clock, binding.tracks) or profile.episodes.cuts:
            if bad and on_bad == 'fail':
                raise self._bad_pictures(bad[0])
            return None, None
        index = self._bag.index
        if selected is not reader:
            index = selected.index(aligned_topics(binding))
        index = {used: index[used] for used in aligned_topics(binding)}
        planned = partial(
            make_plan, clock, topic, profile.fps, binding.tracks, index, binding.end_topics,
            latched=latched_topics(selected.connections),
            min_episode_s=profile.episodes.min_episode_s,
        )  # fmt: skip
        plan = planned()
        for camera in bad:
            if (
                on_bad == 'fail'
                and plan.tracks[camera.track].first.min() < self._bad[camera.source.topic]
            ):
                raise self._bad_pictures(camera)
        if bad and on_bad in ('split', 'drop'):
            ordinals = {name: np.arange(count) for name, count in self._bad.items()}
            plan = planned(bad=BadPictures(ordinals, 'drop' if on_bad == 'drop' else 'split'))
        return len(plan), len(plan.episodes)

    def _bad_pictures(self, camera: BoundCamera) -> _BadPictures:
        topic, key = camera.source.topic, camera.feature.key
        count = self._bad[topic]
        first = 'picture' if count == 1 else f'{count} pictures'
        text = (
            f'{shown(topic)}: its first {first} cannot be decoded, at which on_bad_image: fail '
            f'stops; set on_bad_image to split, drop or repeat ({key})'
        )
        return _BadPictures(Miss(key, topic, 'bad_pictures', text))

    def _misses(self, profile: Profile) -> list[Miss]:
        found: list[Miss | None] = []
        if all(profile.clock.sources != camera.sources for camera in profile.cameras):
            found.append(self._clock('clock', profile.clock))
        for vector in profile.vectors:
            found += [
                self._part(replace(vector, parts=(part,), minus=None))
                for part in vector.parts
                if not part.gap_flag and not part.last_frame
            ]
        found += [self._camera(camera) for camera in profile.cameras]
        if profile.episodes.sources:
            found.append(self._clock('episodes', Clock(profile.episodes.sources, 1)))
        return list({miss.text: miss for miss in found if miss is not None}.values())

    def _bound(
        self, clock: Clock, feature: VectorFeature | CameraFeature | None = None
    ) -> Binding | None:
        """Bind one thing as a conversion would; None if it cannot be had."""
        features = () if feature is None else (feature,)
        try:
            return bind(Profile('', '', 1, clock, features, ''), self._bag.reader)
        except BagError:
            return None

    def _clock(self, user: str, clock: Clock) -> Miss | None:
        if self._bound(clock):
            return None
        return self._absent(user, clock.sources, self._pictures(depth=False))

    def _try_part(self, feature: VectorFeature) -> Miss | None:
        """Tell what is missing of a feature of one part."""
        key, (part,) = feature.key, feature.parts
        others = part.stand_in.sources if part.stand_in is not None else ()
        binding = self._bound(Clock((*part.sources, *others), 1), feature)
        if binding is None:
            return self._absent(key, part.sources, self._numbers(part))
        part, source, *_ = binding.vectors[0].parts[0]
        assert source is not None
        try:
            self._read(part, source, feature)
        except BagError as error:
            return Miss(key, source.topic, self._kind(part, source), str(error))
        return None

    def _read(self, part: Part, source: Source, feature: VectorFeature) -> None:
        """
        Read a part of a feature from the first message of a topic, if there is a readable one.

        Joints may be in different messages, and others than the first one be meant.

        :raises BagError: The messages do not have the elements.
        """
        if source.topic not in self._bag.first or source.tf is not None:
            return
        if not self._bag.chooses(source):
            try:
                self._read_first(part, source, feature)
            except UnfitMessageError:
                pass  # others may hold it
            else:
                return
        definitions = self._bag.definitions
        left = [replace(part, joints=(name,), names=(name,)) for name in part.joints] or [part]
        errors: dict[Part, BagError] = {}
        for message in tried_messages(source, self._bag.reader, definitions, _WITHIN):
            decoded = definitions.decoder(message.connection)(bytes(message.data))
            for one in tuple(left):
                elements = ElementReader(one, source, definitions, feature)
                try:
                    elements.read(message.connection, message.stamp, decoded)
                except UnfitMessageError as error:
                    errors.setdefault(one, error)
                else:
                    left.remove(one)
            if not left:
                return
        if errors:
            raise errors[left[0]]

    def _read_first(self, part: Part, source: Source, feature: VectorFeature) -> None:
        connection, stamp, data = self._bag.first[source.topic]
        definitions = self._bag.definitions
        elements = ElementReader(part, source, definitions, feature)
        elements.read(connection, stamp, definitions.decoder(connection)(data))

    def _kind(self, part: Part, source: Source) -> MissKind:
        """Tell whether the fields of a topic are missing, or elements of them."""
        connection = self._bag.first[source.topic].connection
        try:
            FieldReader(source.fields, connection, self._bag.definitions)
        except BagError:
            return 'field'
        return 'names' if part.joints else 'length'

    def _try_camera(self, camera: CameraFeature) -> Miss | None:
        binding = self._bound(Clock(camera.sources, 1), camera)
        if binding is None:
            others = self._pictures(depth=bool(camera.depth))
            return self._absent(camera.key, camera.sources, others)
        bound = binding.cameras[0]
        topic = bound.source.topic
        picture = self._bag.topics[topic].picture
        if topic not in self._bag.first:
            return None
        connection, _, data = self._bag.first[topic]
        is_stream = picture is not None and picture.codec in STREAMS
        if picture is not None and picture.before_key:
            self._bad[topic] = picture.before_key
        try:
            # As a conversion does, so that both say the same.
            if is_stream:
                info, message = first_picture(bound, self._bag.reader, self._bag.definitions)
                connection, data = message.connection, bytes(message.data)
            else:
                info = picture_info(connection, self._bag.definitions, data)
            kind = camera_of(bound, info, self._options)
            kind.decoder(connection).decode(data)
        except ImageError:
            if not is_stream:
                self._bad[topic] = 1  # others may be good
            return None
        except (BagError, UsageError) as error:
            return Miss(camera.key, topic, 'picture', f'{error} ({camera.key})')
        self._remarks[camera] = tuple(kind.remarks.lines())
        self._losses[camera] = kind.loss
        return None

    def _absent(self, user: str, sources: Sequence[Source], others: Sequence[str]) -> Miss:
        """Say what is wrong with every source."""
        counts = self._bag.reader.counts
        needs = 'the frame clock needs it' if user == 'clock' else f'{user} needs it'
        for source in sources:
            if counts.get(source.topic):
                types = listed(self._bag.topics[source.topic].types)
                wanted = ' or '.join(sorted({t for s in sources for t in s.msgtypes}))
                text = f'{source.topic}: has {types}; {user} needs {wanted}'
                return Miss(user, source.topic, 'type', text)
        for source in sources:
            if source.topic in counts:
                text = f'{source.topic}: has no messages; {needs}'
                return Miss(user, source.topic, 'empty', text, tuple(others))
        topics = list(dict.fromkeys(source.topic for source in sources))
        names = topics[0]
        if len(topics) > 1:
            names += f' (or {topics[1]})' if len(topics) == 2 else f' ({len(topics)} names tried)'
        return Miss(user, topics[0], 'topic', f'no topic {names}; {needs}', tuple(others))

    def _numbers(self, part: Part) -> list[str]:
        """List topics whose first message has the elements of a part."""
        return [
            topic
            for topic in self._bag.first
            if any(self._has(part, replace(source, topic=topic)) for source in part.sources)
        ]

    def _has(self, part: Part, source: Source) -> bool:
        """Tell whether the first message of a topic has the elements of a part."""
        try:
            self._read_first(part, source, VectorFeature('', (part,), dtype='float64'))
        except BagError:
            return False
        return source.tf is None

    def _pictures(self, *, depth: bool) -> list[str]:
        return [
            name
            for name, topic in self._bag.topics.items()
            if topic.picture and is_depth(topic.picture) == depth
        ]


def with_refusal(misses: Sequence[Miss], line: str) -> list[Miss]:
    """Return what is missed, the first of it in the words of a conversion."""
    about = (
        miss for miss in misses if line.startswith((f'{miss.topic}:', f'no topic {miss.topic} '))
    )
    own = next((miss for miss in misses if miss.text == line), None)
    own = own or next(about, None)
    own = own or Miss('', '', 'refused', line)
    return [replace(own, text=line), *(miss for miss in misses if miss is not own)]


def is_depth(picture: FirstPicture) -> bool:
    """Tell whether a picture says of itself that it holds depth."""
    return any(sign in picture.encoding for sign in _DEPTH_SIGNS)


def _rate(topic: TopicReport) -> float | None:
    if topic.header and topic.header.median_rate_hz:
        return topic.header.median_rate_hz
    return topic.timing.median_rate_hz if topic.timing else None


def _command(files: Sequence[str], settings: Settings) -> str:
    words = [*(shlex.quote(file) for file in files), '--output DIR']
    said = [name for name, most in _distinguishing(settings).items() if most is None]
    for name, info in known_settings().items():
        if name not in _NOT_SAID and (name in said or not info.is_default_in(settings)):
            words.append(setting_option(name, info.value_in(settings)))
    return f'{PROGRAM} convert {" ".join(words)}'


def setting_option(name: str, value: object) -> str:
    """Return a setting as an option of a command line for a shell."""
    text = value if _is_plain(known_settings()[name], value) else json.dumps(value)
    return f'--set {shlex.quote(f"{name}={text}")}'


def _distinguishing(settings: Settings) -> Mapping[str, object]:
    robot = robot_of(settings.profile)
    return robot.distinguishing if robot else {}


def _is_plain(info: SettingInfo, value: object) -> bool:
    """Tell whether a text needs no quotes in YAML; JSON is YAML for everything else."""
    if not isinstance(value, str):
        return False
    return bool(info.choices) or yaml.safe_load(value) == value
