"""What a robot is to the converter: options of its own that build a profile."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from kuavo_bag_converter.profiles.model import Profile

Options = TypeVar('Options')


class Robot(Generic[Options]):
    """A family of robots with settings of its own, chosen by the setting ``profile``.

    An instance is registered as an entry point, whose name is the profile's; docs/profiles.md has
    an example. Importing its module should be quick: it is done for every ``--help``.
    """

    options: type[Options]
    """A frozen dataclass whose fields are made by :func:`kuavo_bag_converter.settings.setting`."""
    summary: str = ''
    """For the list of profiles."""
    distinguishing: Mapping[str, object] = {}
    """Settings by name that tell apart what ``inspect`` tries, each with the value that has most of
    the robot, or with None where the values are different robots."""
    clock_fps: str = ''
    """Name of the setting that holds the nominal rate of the clock's topic, Hz."""

    def build(self, options: Options, topics: Collection[str]) -> Profile:
        """Build the profile.

        Args:
            options: Each checked by itself.
            topics: Those of the bag; empty where no option needs them, see :meth:`undecided`.

        Raises:
            UsageError: The options do not fit each other.
            BagError: The topics do not settle what is to be found out from them.
        """
        raise NotImplementedError

    def undecided(self, options: Options) -> str:  # noqa: ARG002
        """Return the setting that is ``auto`` until there are topics, '' if none.

        Raises:
            UsageError: The options do not fit each other, whatever the topics.
        """
        return ''

    def variants(self, options: Options) -> Iterator[Sequence[Options]]:
        """Yield what ``inspect`` tries on a bag, until one of the sequence fits.

        Nothing in them is undecided.
        """
        yield (options,)

    def title(self, settings: Mapping[str, Any]) -> str:
        """Name a variant in a few words, from its ``distinguishing`` settings."""
        return ' '.join(map(str, settings.values()))
