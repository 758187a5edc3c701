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

"""What is wrong with a bag is said before the first bag is converted, at little cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
import threading
from typing import Any, NamedTuple

from kuavo_bag_converter.alignment.binding import bind, Binding, chooser_of
from kuavo_bag_converter.alignment.selection import compare_first_messages, tried_messages
from kuavo_bag_converter.bags.model import BagReader, Message
from kuavo_bag_converter.bags.open import open_quickly
from kuavo_bag_converter.dataset.agreement import ShardFormat
from kuavo_bag_converter.dataset.features import Feature
from kuavo_bag_converter.dataset.language import language_features
from kuavo_bag_converter.frames.cameras import needed_for, open_cameras
from kuavo_bag_converter.frames.elements import ElementReader
from kuavo_bag_converter.frames.kinds import CameraKind
from kuavo_bag_converter.frames.options import ShardOptions
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.fields import ValueReader
from kuavo_bag_converter.messages.images import PictureInfo
from kuavo_bag_converter.profiles.model import Part, Profile, Source, VectorFeature
from kuavo_bag_converter.support.errors import BagError, DamagedBagError, UnfitMessageError

_WITHIN = 100
"""Messages of a topic among which one must be as the profile needs it."""


class FirstMessages(NamedTuple):
    """What the first messages of a bag have told, so that they need not be read again."""

    element_names: Mapping[str, tuple[str, ...]]
    """Of :class:`.Binding`."""
    pictures: tuple[PictureInfo, ...]
    """What the first good picture of each camera says of itself."""


@dataclass(frozen=True)
class BoundBag:
    """What a bag is going to become, as far as its first messages tell."""

    binding: Binding
    cameras: tuple[CameraKind[Any], ...]

    @property
    def shard_format(self) -> ShardFormat:
        """Return what must agree with other shards."""
        profile = self.binding.profile
        return ShardFormat(
            shard_features(self.binding, self.cameras),
            {camera.key: camera.video for camera in self.cameras if camera.feature.is_video},
            profile.fps,
            profile.robot_type,
            {camera.key: camera.topic for camera in self.cameras},
            self.binding.element_names,
        )

    @property
    def first_messages(self) -> FirstMessages:
        """Return what binding the bag again can do without reading."""
        pictures = tuple(camera.info for camera in self.cameras)
        return FirstMessages(self.binding.element_names, pictures)


def shard_features(binding: Binding, kinds: Sequence[CameraKind[Any]]) -> tuple[Feature, ...]:
    """Return the features of a bag's shard."""
    vectors = binding.profile.vectors
    return (
        *(Feature(v.key, v.dtype, v.shape, v.names) for v in vectors),
        *(kind.feature for kind in kinds),
        *language_features(binding.profile.language),
    )


def try_bag(
    paths: Sequence[Path],
    settle: Callable[[BagReader], Profile],
    options: ShardOptions,
    *,
    reader: str,
    on_damage: str,
    cancel: threading.Event | None = None,
) -> BoundBag | None:
    """
    Try a recording as far as its index and the first messages of its topics tell.

    A recording that must be read whole to be opened is not tried, and one that is damaged only if
    that fails it.

    :param paths: A bag file, a rosbag2 directory, or the files of one recording.
    :param settle: Gives the profile.
    :param options: How the bag is going to be converted.
    :param reader: What is going to read it.
    :param on_damage: ``fail`` or ``salvage``.
    :param cancel: Set to stop.
    :return: What the bag is going to become; None if it was not tried.
    :raises BagError: The bag cannot be converted.
    """
    try:
        bag = open_quickly(paths, reader)
        if bag is None:
            return None
        with bag:
            return bind_bag(settle(bag), bag, options, cancel)
    except DamagedBagError:
        if on_damage == 'fail':
            raise
        return None


def bind_bag(
    profile: Profile,
    reader: BagReader,
    options: ShardOptions,
    cancel: threading.Event | None = None,
    known: FirstMessages | None = None,
) -> BoundBag:
    """
    Bind a profile to a bag, and try to read what it names from the first messages.

    :param profile: What a frame is made of.
    :param reader: The bag.
    :param options: How it is going to be converted.
    :param cancel: Set to stop.
    :param known: What the first messages have told, where the bag was bound before.
    :raises BagError: The bag does not have what the profile needs, or its pictures cannot be
        stored.
    """
    binding = bind(profile, reader)
    reader.check_headers(binding.topics_with_header)
    if known is None:
        names = _try_first_messages(binding, reader, options.definitions)
        pictures: Sequence[PictureInfo] = ()
    else:
        names, pictures = known
    binding = replace(binding, element_names=names)
    return BoundBag(binding, open_cameras(binding, reader, options, cancel, pictures))


def _try_first_messages(
    binding: Binding, reader: BagReader, definitions: Definitions
) -> Mapping[str, tuple[str, ...]]:
    for source, uses in _uses(binding, definitions).items():
        _try_source(reader, source, definitions, uses)
    return compare_first_messages(binding, reader, definitions)


_Use = Callable[[Message], object]


def _uses(binding: Binding, definitions: Definitions) -> dict[Source, list[_Use]]:
    """Return what is read of the messages that can serve the sources of each topic."""
    uses: dict[Source, list[_Use]] = {}
    for vector in binding.vectors:
        for bound in vector.parts:
            part, source = bound.part, bound.source
            if source is None or part.gap_flag or source.tf is not None:
                continue
            # Joints may be in different messages.
            alone = [replace(part, joints=(name,), names=(name,)) for name in part.joints]
            for one in alone or [part]:
                use = partial(_read_part, one, source, definitions, vector.feature)
                uses.setdefault(chooser_of(source), []).append(use)
    for single, user in binding.text_sources:
        if single.fields:
            use = partial(_read_value, single, definitions, user)
            uses.setdefault(chooser_of(single), []).append(use)
    return uses


def _read_part(
    part: Part, source: Source, definitions: Definitions, feature: VectorFeature, message: Message
) -> None:
    with needed_for(feature.key):
        decoded = _decoded(definitions, message)
    elements = ElementReader(part, source, definitions, feature)
    elements.read(message.connection, message.stamp, decoded)


def _read_value(source: Source, definitions: Definitions, user: str, message: Message) -> None:
    with needed_for(user):
        reader = ValueReader(source.fields[0], message.connection, definitions)
        reader.read(_decoded(definitions, message))


def _decoded(definitions: Definitions, message: Message) -> object:
    return definitions.decoder(message.connection)(bytes(message.data))


def _try_source(
    reader: BagReader, source: Source, definitions: Definitions, uses: Sequence[_Use]
) -> None:
    """
    Try the first messages of a source until each use has found one that it can read.

    Whether frames need those before it is not known yet.

    :raises BagError: None of them can be read; what the first one lacks.
    """
    errors: dict[_Use, BagError] = {}
    left = list(uses)
    tried = 0
    for message in tried_messages(source, reader, definitions, _WITHIN):
        for use in tuple(left):
            error = _error_of(use, message)
            if error is None:
                left.remove(use)
            else:
                errors.setdefault(use, error)
        # What does not fit the type is not going to.
        if not any(isinstance(errors[use], UnfitMessageError) for use in left):
            if not left:
                return
            tried += 1
            if tried >= _WITHIN:
                break
    if errors:
        raise errors[left[0]]


def _error_of(use: _Use, message: Message) -> BagError | None:
    try:
        use(message)
    except BagError as error:
        return error
    return None
