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

"""Containers that other packages bring; one that is read from its beginning needs few lines."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from kuavo_bag_converter.bags.damage import DamagePolicy, ReadsWholeError
from kuavo_bag_converter.bags.model import Connection, normal_type, Stamps
from kuavo_bag_converter.bags.storage import Selection, Storage, StoredMessage
from kuavo_bag_converter.support.errors import (
    BagError,
    ConverterError,
    DamagedBagError,
    UsageError,
)
from kuavo_bag_converter.support.plugins import calling, described, Plugin, plugins, STORAGES
from kuavo_bag_converter.support.remote.spool import open_file
import numpy as np

BEGIN_BYTES = 64
"""Bytes that tell what a file is."""
BUILT_IN = ('rosbag1', 'mcap', 'sqlite3', 'zstd')
"""Containers that need no plug-in."""


class BagMessage(NamedTuple):
    """One message of a file."""

    topic: str
    msgtype: str
    """As ``sensor_msgs/msg/Image``, or what a decoder plug-in calls it."""
    stamp: int
    """Receive stamp, ns since the epoch."""
    payload: bytes | Callable[[], bytes]
    """Serialized, or what reads it: that is called only for messages that are wanted."""
    encoding: str = 'cdr'
    """``cdr``, ``ros1``, or one that a decoder plug-in decodes."""
    definition: str = ''
    """Text of the ``.msg`` file with those that it contains, as bags have it, or ''."""


class Container:
    """
    Reads files of one kind; an instance is an entry point in the group of storages.

    A class that is derived from this one gives :attr:`suffixes`, :meth:`matches` and :meth:`read`.
    To use an index that a file has, override :meth:`open` in place of ``read``.
    """

    suffixes: tuple[str, ...] = ()
    """How names end of files that are taken for bags where a folder of bags is given."""

    def matches(self, path: Path, begin: bytes) -> bool:
        """
        Tell whether a file is of this kind.

        :param path: It.
        :param begin: Its first 64 bytes, or all of a shorter one.
        """
        raise NotImplementedError

    def read(self, path: Path) -> Iterator[BagMessage]:
        """
        Yield all messages in the order of the file, the same ones each time.

        :raises Exception: What comes next is damaged; its text is shown.
        """
        raise NotImplementedError

    def open(self, path: Path, damage: DamagePolicy) -> Storage:  # noqa: A003
        """
        Open a file.

        :raises BagError: It is damaged and ``damage`` does not allow that.
        """
        return ScannedStorage(path, self.read, damage)


def containers() -> dict[str, Plugin]:
    """
    Return the containers of installed plug-ins by name.

    :raises UsageError: One cannot be loaded or used, or has the name of a container of this
        package.
    """
    found = plugins(STORAGES)
    for name, plugin in found.items():
        if name in BUILT_IN:
            raise UsageError(f'{plugin}: has the name of a container of this package; rename it')
        suffixes = plugin.value.suffixes
        if not isinstance(suffixes, tuple) or not all(isinstance(one, str) for one in suffixes):
            raise UsageError(
                f'{plugin}: its suffixes must be a tuple of texts, found {suffixes!r}'
            )
    return found


def is_of_a_plugin(path: Path) -> bool:
    """
    Tell whether a file is a bag of a plug-in, by its name and its first bytes.

    :raises UsageError: Two take it, or one cannot be used.
    """
    suffixes = tuple(
        suffix for plugin in containers().values() for suffix in plugin.value.suffixes
    )
    if not path.name.endswith(suffixes):
        return False
    try:
        with open_file(path) as file:
            return bool(container_by_plugin(path, file.read(BEGIN_BYTES)))
    except OSError:
        return True  # opening it says what is wrong


def container_by_plugin(path: Path, begin: bytes) -> str:
    """
    Return the name of the container that a plug-in takes a file for, '' if none does.

    :raises UsageError: Two do, or one cannot be used.
    """
    matching = []
    for plugin in containers().values():
        with calling(plugin, f'matches() for {path}'):
            if plugin.value.matches(path, begin):
                matching.append(plugin)
    if len(matching) > 1:
        raise UsageError(
            f'{path}: is taken by {matching[0]} and by {matching[1]}; uninstall one of them'
        )
    return matching[0].name if matching else ''


def open_by_plugin(container: str, path: Path, shown: Path, damage: DamagePolicy) -> Storage:
    """
    Open a file by the plug-in of a container.

    :param container: Its name.
    :param path: The file.
    :param shown: What users know it by.
    :param damage: What to do with damage.
    :raises DamagedBagError: It is damaged, and that is not allowed.
    :raises BagError: It cannot be read.
    """
    plugin = containers()[container]
    try:
        storage: Storage = plugin.value.open(path, damage)
        storage.path, storage.container = shown, container
    except DamagedBagError as error:
        raise DamagedBagError(f'{plugin}: {error}') from error
    except (ConverterError, ReadsWholeError):
        raise
    except Exception as error:  # whatever the code of others raises
        raise BagError(f'{shown}: {plugin} cannot open it ({described(error)})') from error
    return storage


class ScannedStorage(Storage):
    """A file without an index: scanned when it is opened, and read again from its beginning."""

    container = ''

    def __init__(
        self, path: Path, read: Callable[[Path], Iterator[BagMessage]], damage: DamagePolicy
    ) -> None:
        """
        Scan a file.

        :param path: The file.
        :param read: Yields its messages.
        :param damage: What to do with damage; what comes before it is kept where that is allowed.
        :raises BagError: It is damaged, and that is not allowed.
        """
        damage.require_whole()
        self.path = self.file = path
        self.connections: list[Connection] = []
        self.counts: dict[int, int] = {}
        self.qos: dict[int, str] = {}
        self._read = read
        self._places: dict[tuple[str, str, str, str], int] = {}
        self._stamps: dict[str, array[int]] = {}
        self._messages = 0
        """How many can be read."""
        try:
            for message in read(path):
                self._add(message)
        except Exception as error:  # noqa: BLE001  # whatever the code of others raises
            damage.report(path, f'behind {self._messages} messages: {described(error)}')

    def _add(self, message: BagMessage) -> None:
        topic, msgtype, stamp, _, encoding, definition = message
        if not all(isinstance(text, str) for text in (topic, msgtype, encoding, definition)):
            raise TypeError(f'{message[:2]!r}: topic, type, encoding and definition must be texts')
        key = (topic, normal_type(msgtype), encoding, definition)
        stamps = self._stamps.setdefault(topic, array('q'))
        stamps.append(stamp)
        place = self._places.setdefault(key, len(self.connections))
        if place == len(self.connections):
            kind = 'msg' if definition else ''
            self.connections.append(Connection(place, *key, definition_format=kind))
        self.counts[place] = self.counts.get(place, 0) + 1
        self._messages += 1

    def stamps(self, topics: Collection[str]) -> dict[str, Stamps]:
        """Return receive stamps in the order of the file."""
        none = array('q')
        return {t: np.frombuffer(self._stamps.get(t, none), np.int64) for t in topics}

    def messages(self, selection: Selection, head: int | None = None) -> Iterator[StoredMessage]:
        """
        Yield the selected messages in the order of the file, or their first ``head`` bytes.

        :raises BagError: One that was there when the file was scanned cannot be read.
        """
        try:
            for _, message in zip(range(self._messages), self._read(self.path), strict=False):
                topic, msgtype, stamp, payload, encoding, definition = message
                place = self._places[topic, normal_type(msgtype), encoding, definition]
                rank = selection.step(place)
                if rank is not None:
                    data = memoryview(payload() if callable(payload) else payload)
                    yield StoredMessage(place, rank, stamp, data[:head])
                    if not selection.missing:
                        return
        except BagError:
            raise
        except Exception as error:
            raise BagError(f'{self.path}: cannot be read again: {described(error)}') from error
