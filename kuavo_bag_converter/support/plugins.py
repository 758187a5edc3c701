"""What other packages add to this one, by Python entry points."""

from __future__ import annotations

import functools
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from kuavo_bag_converter.support.errors import UsageError

ROBOTS = 'kuavo_bag_converter.robots'
"""Group of robots: each a :class:`~kuavo_bag_converter.robots.robot.Robot`, by profile name."""
_OWN = (EntryPoint('kuavo', 'kuavo_bag_converter.robots.kuavo.robot:KUAVO', ROBOTS),)


class Plugin(NamedTuple):
    """An entry point, loaded."""

    name: str
    value: Any
    package: str
    """Name and version of the package that brings it, '' for this one."""

    def __str__(self) -> str:
        return f'{self.name} ({self.package or "of this package"})'


@functools.cache
def plugins(group: str) -> dict[str, Plugin]:
    """Return all of a group by name, those of this package first.

    Raises:
        UsageError: One cannot be loaded, or two have the same name.
    """
    found: dict[str, Plugin] = {}
    for entry in (*(own for own in _OWN if own.group == group), *entry_points(group=group)):
        package = f'{entry.dist.name} {entry.dist.version}' if entry.dist else ''
        try:
            plugin = Plugin(entry.name, entry.load(), package)
        except Exception as error:  # whatever the code of others raises
            raise UsageError(
                f'{package}: its entry point {entry.name!r} in {group} cannot be loaded '
                f'({type(error).__name__}: {error}); update or uninstall it'
            ) from error
        if entry.name in found:
            raise UsageError(
                f'{package}: its entry point {entry.name!r} in {group} has the name of '
                f'{found[entry.name]}; uninstall one of them'
            )
        found[entry.name] = plugin
    return found
