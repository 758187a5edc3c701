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

"""What other packages add by Python entry points; docs/extending.md has the groups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import functools
from importlib.metadata import entry_points, EntryPoint
from typing import Any, NamedTuple

from kuavo_bag_converter.support.errors import ConverterError, UsageError

ROBOTS = 'kuavo_bag_converter.robots'
"""Each a :class:`~kuavo_bag_converter.robots.robot.Robot`, by profile name."""
DECODERS = 'kuavo_bag_converter.decoders'
"""Each a :class:`~kuavo_bag_converter.messages.decoder_plugins.Decoder`."""
STORAGES = 'kuavo_bag_converter.storages'
"""Each a :class:`~kuavo_bag_converter.bags.storage_plugins.Container`, by the container's name."""
WRITERS = 'kuavo_bag_converter.writers'
"""Each a :class:`~kuavo_bag_converter.dataset.writer.DatasetWriter`, by the format's name."""
_OWN = (EntryPoint('kuavo', 'kuavo_bag_converter.robots.kuavo.robot:KUAVO', ROBOTS),)
_MEMBERS = {
    DECODERS: ('encoding', 'msgtypes', 'decode'),
    STORAGES: ('suffixes', 'matches', 'open'),
    WRITERS: ('write',),
}
"""What an object must have to be in a group; robots are checked by their settings."""


class Plugin(NamedTuple):
    """An entry point, loaded."""

    name: str
    value: Any
    package: str
    """Name and version of the package that brings it, '' for this one."""

    def __str__(self) -> str:
        return f'{self.name} ({self.package or "of this package"})'


all_entries = functools.cache(entry_points)
"""Read once in a process: it opens a file of every Python package that is installed."""


def installed_entries(group: str) -> tuple[EntryPoint, ...]:
    """Return what other packages bring for a group, as it was when the process first asked."""
    return tuple(all_entries().select(group=group))


@functools.cache
def plugins(group: str) -> dict[str, Plugin]:
    """
    Return all of a group by name, those of this package first.

    :raises UsageError: One cannot be loaded or is not what the group needs, or two have one name.
    """
    found: dict[str, Plugin] = {}
    for entry in (*(own for own in _OWN if own.group == group), *installed_entries(group)):
        package = _package_of(entry)
        try:
            plugin = Plugin(entry.name, entry.load(), package)
        except Exception as error:  # whatever the code of others raises
            raise UsageError(
                f'{package}: its entry point {entry.name!r} in {group} cannot be loaded '
                f'({described(error)}); update or uninstall it'
            ) from error
        if entry.name in found:
            raise UsageError(
                f'{package}: its entry point {entry.name!r} in {group} has the name of '
                f'{found[entry.name]}; uninstall one of them'
            )
        _check_members(plugin, group)
        found[entry.name] = plugin
    return found


def installed_plugins() -> dict[str, list[str]]:
    """
    Return what other packages do to what a bag becomes, with versions; nothing is loaded.

    It is under the key ``plugins``, which is not there if nothing is installed. Robots are not in
    it: only that of the profile counts.
    """
    found = sorted(
        f'{entry.name} ({_package_of(entry)})'
        for group in (DECODERS, STORAGES, WRITERS)
        for entry in installed_entries(group)
    )
    return {'plugins': found} if found else {}


@contextmanager
def calling(plugin: Plugin, what: str) -> Iterator[None]:
    """
    Make one line of whatever the code of a plug-in raises while it does ``what``.

    :raises UsageError: It has raised something that is no error of the converter.
    """
    try:
        yield
    except ConverterError:
        raise
    except Exception as failure:
        raise UsageError(f'{plugin}: {what} failed ({described(failure)})') from failure


def described(error: BaseException) -> str:
    """Return the kind and the text of an exception in one line."""
    text = ' '.join(str(error).split())
    return f'{type(error).__name__}: {text}' if text else type(error).__name__


def _package_of(entry: EntryPoint) -> str:
    return f'{entry.dist.name} {entry.dist.version}' if entry.dist else ''


def _check_members(plugin: Plugin, group: str) -> None:
    needed = _MEMBERS.get(group, ())
    missing = [name for name in needed if not hasattr(plugin.value, name)]
    if needed and (missing or isinstance(plugin.value, type)):
        found = f'lacks {" and ".join(missing)}' if missing else 'is a class'
        raise UsageError(
            f'{plugin}: {found}; an entry point in {group} is an object with '
            f'{", ".join(needed)} (docs/extending.md)'
        )
