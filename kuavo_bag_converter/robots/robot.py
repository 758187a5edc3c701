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

"""What a robot is to the converter: options of its own that build a profile."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
import functools
from typing import Any, Generic, TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from kuavo_bag_converter.profiles.model import Profile

Options = TypeVar('Options')


class BagTopics(Collection[str]):
    """The topics of a bag, for options that are found out from it."""

    def __init__(
        self,
        topics: Collection[str],
        length_of: Callable[[str, str], int | None] = lambda _topic, _field: None,
    ) -> None:
        """Hold the names; ``length_of`` counts the elements of a field in a first message."""
        self._topics = frozenset(topics)
        self._length_of = functools.cache(length_of)

    def __contains__(self, topic: object) -> bool:
        """Tell whether the bag has a topic."""
        return topic in self._topics

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in their order."""
        return iter(sorted(self._topics))

    def __len__(self) -> int:
        """Return how many topics there are."""
        return len(self._topics)

    def length_of(self, topic: str, field: str) -> int | None:
        """
        Return how many elements a field has in the first message of a topic.

        :return: None if there is no message, or none that can be read.
        """
        return self._length_of(topic, field) if topic in self else None


class Robot(Generic[Options]):
    """
    A family of robots with settings of its own, chosen by the setting ``profile``.

    An instance is registered as an entry point, whose name is the profile's; docs/profiles.md has
    an example. Importing its module should be quick: it is done for every ``--help``.
    """

    options: type[Options]
    """A frozen dataclass whose fields are made by :func:`kuavo_bag_converter.settings.setting`."""
    summary: str = ''
    """For the list of profiles."""
    distinguishing: Mapping[str, object] = {}
    """Settings by name that tell apart what ``inspect`` tries, each with the value that has most
    of the robot, or with None where the values are different robots."""
    clock_fps: str = ''
    """Name of the setting that holds the nominal rate of the clock's topic, Hz."""

    def settled(self, options: Options, topics: BagTopics) -> Options:  # noqa: ARG002
        """
        Return the options with what is ``auto`` settled by a bag.

        :raises BagError: The bag leaves it open.
        """
        return options

    def build(self, options: Options, topics: Collection[str]) -> Profile:
        """
        Build the profile.

        :param options: Each checked by itself.
        :param topics: Those of the bag, a :class:`BagTopics`; empty where no option needs them,
            see :meth:`undecided`.
        :raises UsageError: The options do not fit each other.
        :raises BagError: The topics do not settle what is to be found out from them.
        """
        raise NotImplementedError

    def undecided(self, options: Options) -> str:  # noqa: ARG002
        """
        Return what is ``auto`` until there is a bag, by name, joined by commas; '' if nothing.

        :raises UsageError: The options do not fit each other, whatever the topics.
        """
        return ''

    def variants(self, options: Options) -> Iterator[Sequence[Options]]:
        """
        Yield what ``inspect`` tries on a bag, until one of the sequence fits.

        Nothing in them is undecided.
        """
        yield (options,)

    def title(self, settings: Mapping[str, Any]) -> str:
        """Name a variant in a few words, from its ``distinguishing`` settings."""
        return ' '.join(map(str, settings.values()))
