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

"""From settings to the profile that they mean, also of a run of many bags."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
import functools
import hashlib
from pathlib import Path
from typing import Any

from kuavo_bag_converter.bags.model import BagReader
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.fields import FieldReader
from kuavo_bag_converter.profiles.loader import checked, read_profile
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.profiles.shipped import file_of_profile, shipped_profiles
from kuavo_bag_converter.robots.robot import BagTopics, Robot
from kuavo_bag_converter.settings import known_settings, Settings
from kuavo_bag_converter.support.errors import BagError, UsageError
from kuavo_bag_converter.support.plugins import calling, Plugin, plugins, ROBOTS


def robot_of(profile: str) -> Robot[Any] | None:
    """
    Return the robot of which a profile is built; None if it is read from a file.

    :raises UsageError: A robot that is installed beside the package cannot be used.
    """
    plugin = robots().get(profile)
    return plugin.value if plugin else None


@functools.cache
def robots() -> dict[str, Plugin]:
    """
    Return all robots by name.

    :raises UsageError: One that is installed beside the package cannot be used, or has the name of
        a shipped profile.
    """
    found = plugins(ROBOTS)
    for name in found.keys() & shipped_profiles().keys():
        raise UsageError(
            f'{found[name]}: has the name of a profile of this package; rename or uninstall it'
        )
    return found


def resolve(settings: Settings, topics: Collection[str]) -> Profile:
    """
    Return the profile of ``settings``; ``topics`` of a bag settle what is ``auto``.

    Options of other robots than the profile's must have their defaults: others would be ignored.

    :raises UsageError: The settings name no profile, do not fit each other or have no meaning.
    :raises BagError: The topics leave open what is ``auto``.
    """
    robot = robot_of(settings.profile)
    if robot is not None:
        _check_unused(settings)
        plugin = robots()[settings.profile]
        with calling(plugin, 'building the profile'):
            profile: Profile = robot.build(settings.options_of(robot.options), topics)
        if not isinstance(profile, Profile):
            raise UsageError(
                f'{plugin}: built {type(profile).__name__} in place of a Profile; update it'
            )
        if not plugin.package:
            return profile
        try:
            return checked(profile)
        except UsageError as error:
            raise UsageError(f'{plugin}: {error}') from error
    if settings.profile_object is not None:
        _check_unused(settings)
        given: Profile = settings.profile_object
        return given
    path = _file_of(settings.profile)
    _check_unused(settings)
    return read_profile(path)


def topics_of(reader: BagReader, settings: Settings) -> BagTopics:
    """Return the topics of a bag, for :func:`resolve`; what they hold is read when it is asked."""

    def length_of(topic: str, field: str) -> int | None:
        definitions = Definitions(settings.msg_path, settings.distro)
        try:
            for message in reader.first_messages(topic, 1):
                fields = FieldReader((field,), message.connection, definitions)
                decoded = definitions.decoder(message.connection)(bytes(message.data))
                return len(fields.read(decoded))
        except BagError:
            pass
        return None

    return BagTopics([connection.topic for connection in reader.connections], length_of)


def settled(settings: Settings, topics: BagTopics) -> dict[str, object]:
    """
    Return the values of the settings that are ``auto``, as a bag settles them.

    :raises BagError: The bag leaves them open.
    """
    plugin = robots().get(settings.profile)
    if plugin is None:
        return {}
    given = settings.options_of(plugin.value.options)
    with calling(plugin, 'settled()'):
        found = settings.with_options(plugin.value.settled(given, topics))
    return {
        name: info.value_in(found)
        for name, info in known_settings().items()
        if info.value_in(found) != info.value_in(settings)
    }


def shapes_frames(name: str) -> bool:
    """Tell whether a setting, or a group of them, says what a frame is made of."""
    return name == 'profile' or any(
        info.robot and name in (info.name, info.name.partition('.')[0])
        for info in known_settings().values()
    )


def undecided(settings: Settings) -> str:
    """
    Return the settings that only the topics of a bag settle, '' if none; check the options.

    :raises UsageError: The options of the robot do not fit each other.
    """
    plugin = robots().get(settings.profile)
    if plugin is None:
        return ''
    with calling(plugin, 'undecided()'):
        return str(plugin.value.undecided(settings.options_of(plugin.value.options)))


def variants(plugin: Plugin, settings: Settings) -> Iterator[Sequence[Any]]:
    """
    Yield what ``inspect`` tries of a robot; see :meth:`.robot.Robot.variants`.

    :raises UsageError: The robot cannot tell.
    """
    robot = plugin.value
    with calling(plugin, 'variants()'):
        yield from robot.variants(settings.options_of(robot.options))


def resolve_without_bag(settings: Settings) -> Profile | None:
    """
    Return the profile, or None if it takes a bag to settle it; check the settings either way.

    :raises UsageError: The settings name no profile, do not fit each other or have no meaning.
    """
    if undecided(settings):
        _check_unused(settings)
        return None
    return resolve(settings, ())


def profile_version(settings: Settings) -> str:
    """
    Return what tells apart profiles that other code or another file makes of the same settings.

    That is '' for the robots of this package, whose version tells.

    :raises UsageError: The settings name no profile, do not fit each other or have no meaning.
    """
    if robot_of(settings.profile) is None:
        return digest_of(resolve(settings, ()))
    return robots()[settings.profile].package


def digest_of(profile: Profile) -> str:
    """Return what tells a profile apart from others."""
    from kuavo_bag_converter.profiles.dump import profile_as_yaml

    return hashlib.blake2b(profile_as_yaml(profile).encode(), digest_size=8).hexdigest()


def _file_of(profile: str) -> Path:
    """
    Return the file of a YAML profile that is given by path or by the name of a shipped one.

    :raises UsageError: There is no shipped profile of that name.
    """
    try:
        return file_of_profile(profile)
    except UsageError as error:
        raise UsageError(f'profile: {error}') from None


def _check_unused(settings: Settings) -> None:
    for info in known_settings().values():
        robot = info.robot
        if robot and robot.name != settings.profile and not info.is_default_in(settings):
            advice = 'leave it out' if robot_of(settings.profile) else f'set {info.yaml} there'
            raise UsageError(
                f'{info.name}: has no meaning with profile {settings.profile}; {advice}'
            )


class RunProfile:
    """
    The profile that the settings mean, with what is ``auto`` in them as the first bag has it.

    :ivar profile: None until a bag has settled it.
    """

    def __init__(self, settings: Settings) -> None:
        """
        Take the profile of a run with these settings.

        :raises UsageError: The settings name no profile or do not fit each other.
        """
        self._settings = settings
        self.profile: Profile | None = resolve_without_bag(settings)
        self._found: Mapping[str, object] = {}
        """The settings that were ``auto``, as the bag settles them that was asked for last."""
        self._settled: Mapping[str, object] = {}
        """As the bag settles them that settled the profile."""

    def of(self, reader: BagReader) -> Profile:
        """
        Return the profile for a bag.

        :raises BagError: The bag is empty, does not settle what is ``auto``, or settles it
            otherwise than the first one.
        """
        if not any(reader.counts.values()):
            raise BagError('the bag has no messages; leave it out, or record it again')
        settings = self._settings
        if not undecided(settings):
            return self.profile or resolve(settings, ())
        topics = topics_of(reader, settings)
        try:
            found = settled(settings, topics)
        except BagError:
            if self.profile is None:
                raise
            return self.profile  # what the bag lacks for it is said where it is missed
        if self.profile is None:
            self._found = found
            return resolve(settings, topics)
        if self._settled and found != self._settled:
            other = {name: value for name, value in found.items() if value != self._settled[name]}
            run = {name: self._settled[name] for name in other}
            raise BagError(
                f'by what it holds it is {_as_text(other)}, the run is {_as_text(run)} by its '
                f'first bag; set {" and ".join(other)}, or convert it apart'
            )
        return self.profile

    @property
    def found(self) -> Mapping[str, object]:
        """Return what was ``auto``, as the bag settles it that :meth:`of` was asked for last."""
        return self._found if self.profile is None else self._settled

    def settle(self, profile: Profile, settled: Mapping[str, object]) -> str:
        """Take the profile of a bag for that of the run; say what this settles."""
        first = self.profile is None
        if first:
            self.profile, self._settled = profile, settled
        return _as_text(self._settled) if first else ''


def _as_text(values: Mapping[str, object]) -> str:
    return ', '.join(f'{name} {value}' for name, value in values.items())
