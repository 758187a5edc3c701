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

"""The one profile of all bags of a run, which the first of them settles."""

from __future__ import annotations

from collections.abc import Mapping

from kuavo_bag_converter.bags.model import BagReader
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.robots.resolve import (
    resolve,
    resolve_without_bag,
    settled,
    topics_of,
    undecided,
)
from kuavo_bag_converter.settings import Settings
from kuavo_bag_converter.support.errors import BagError


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

    def settle(self, profile: Profile) -> str:
        """Take what :meth:`of` has given for that of the run; say what this settles."""
        first = self.profile is None
        self.profile = profile
        if first:
            self._settled = self._found
        return _as_text(self._settled) if first else ''


def _as_text(values: Mapping[str, object]) -> str:
    return ', '.join(f'{name} {value}' for name, value in values.items())
