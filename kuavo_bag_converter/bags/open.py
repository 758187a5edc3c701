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

"""Opening a recording, whatever it is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
import os
from pathlib import Path
from types import ModuleType

from kuavo_bag_converter.bags.compression import claimed_size, CompressionError, decompress_file
from kuavo_bag_converter.bags.damage import DamagePolicy, ReadsWholeError
from kuavo_bag_converter.bags.detect import container_of
from kuavo_bag_converter.bags.in_progress import check_not_in_progress, is_listed
from kuavo_bag_converter.bags.mcap.storage import McapStorage
from kuavo_bag_converter.bags.model import BagReader
from kuavo_bag_converter.bags.recording import RecordingReader
from kuavo_bag_converter.bags.rosbag1.storage import Rosbag1Storage
from kuavo_bag_converter.bags.rosbag2.directory import Directory, read_directory, SUFFIXES
from kuavo_bag_converter.bags.rosbag2.metadata import compare, NAME
from kuavo_bag_converter.bags.scratch import NoRoomError, Scratch
from kuavo_bag_converter.bags.sqlite3.storage import keeps_a_log, logs_beside, Sqlite3Storage
from kuavo_bag_converter.bags.storage import Storage
from kuavo_bag_converter.bags.storage_plugins import containers, open_by_plugin
from kuavo_bag_converter.support.errors import BagError, UsageError
from kuavo_bag_converter.support.files import as_paths, Paths
from kuavo_bag_converter.support.places import url_of, without_file_scheme
from kuavo_bag_converter.support.remote.spool import held, is_stub, Spool
from kuavo_bag_converter.support.texts import shown

READERS = ('auto', 'rosbag2_py', 'portable')
_ADVICE = 'set reader: auto or portable'
ON_DAMAGE = ('fail', 'salvage')
_BY_ROSBAG2_PY = ('mcap', 'sqlite3')
"""Containers that rosbag2_py reads."""
ROSBAG1_SUFFIXES = ('.bag', '.bag.active')
_BY_RANGES = ('rosbag1', 'mcap')
"""Containers of which ranges can be read that lie on another machine."""


def local_path(path: str | Path, spool: Spool) -> Path:
    """
    Return a path, or what stands for a URL in the spool.

    :raises UsageError: The URL does not exist, or must not be read.
    :raises BagError: It cannot be reached.
    """
    url = url_of(path)
    if not url:
        return Path(without_file_scheme(str(path)))
    suffixes = tuple(one for plugin in containers().values() for one in plugin.value.suffixes)
    return spool.local(url, (*ROSBAG1_SUFFIXES, *SUFFIXES, '-wal', '-journal', *suffixes))


def open_bag(path: Paths, *, reader: str = 'auto', on_damage: str = 'fail') -> BagReader:
    """
    Open a recording.

    :param path: a bag file, a rosbag2 directory, or the files of one recording in order; or URLs.
    :param reader: ``auto`` or ``portable``, which needs no ROS, or ``rosbag2_py``.
    :param on_damage: ``fail``, or ``salvage`` to read what can be read: the file is then scanned
        whole when it is opened, so that only readable messages are listed.
    :raises UsageError: an unknown ``reader`` or ``on_damage``.
    :raises BagError: not a recording that can be read, one that is still being recorded, or damage
        was found.
    """
    if reader not in READERS:
        raise UsageError(f'reader: {reader!r} is unknown; expected one of {", ".join(READERS)}')
    if on_damage not in ON_DAMAGE:
        raise UsageError(
            f'on_damage: {on_damage!r} is unknown; expected one of {", ".join(ON_DAMAGE)}'
        )
    paths = [local_path(one, Spool()) for one in as_paths(path)]
    if not paths:
        raise UsageError('no bag was given')
    return _open(paths, DamagePolicy(on_damage), reader, in_progress=False)


def open_portable(paths: Sequence[Path], damage: DamagePolicy) -> RecordingReader:
    """
    Open a file, a directory, or the files of one recording without ROS, whoever writes them.

    :raises BagError: not a recording that can be read, or damage was found.
    """
    return _open(paths, damage, 'portable', in_progress=True)


def holds_messages(path: Path) -> bool:
    """Tell whether any message of a file can be read, without ROS."""
    try:
        with open_portable([path], DamagePolicy('salvage')) as reader:
            return any(reader.counts.values())
    except BagError:
        return False


def open_quickly(paths: Sequence[Path], reader: str = 'portable') -> RecordingReader | None:
    """
    Open a recording without ROS if that takes no more than its index; else return None.

    Files without an index, and compressed ones, must be read whole: only their kind is checked.

    :param paths: a bag file, a rosbag2 directory, or the files of one recording in order.
    :param reader: what is going to read the recording.
    :raises DamagedBagError: damage was found.
    :raises BagError: not a recording that can be read, or one that is still being recorded.
    """
    damage = DamagePolicy('fail', quick=True)
    if _directory(paths, damage, reader).plugin:
        return None
    try:
        recording = _open(paths, damage, 'portable', in_progress=False)
    except ReadsWholeError:
        for path in _directory(paths, damage, reader).files:
            container_of(path)
        return None
    try:
        _check_reader(paths[0], recording.container, reader)
    except BaseException:
        recording.close()
        raise
    return recording


def _directory(paths: Sequence[Path], damage: DamagePolicy, reader: str) -> Directory:
    if len(paths) == 1 and os.path.isdir(paths[0]):
        return read_directory(paths[0], damage, by_rosbag2=reader == 'rosbag2_py')
    return Directory(list(paths), None)


def _open(
    paths: Sequence[Path], damage: DamagePolicy, reader: str, *, in_progress: bool
) -> RecordingReader:
    """Open a recording, one that is still being written only if ``in_progress``."""
    resources = ExitStack()
    try:
        directory = _directory(paths, damage, reader)
        if not in_progress:
            check_not_in_progress(paths[0], directory.files, directory.metadata)
        scratch = Scratch()
        resources.callback(scratch.close)
        portable = storages = _open_files(directory, damage, scratch, resources)
        backend = 'portable'
        if not storages:
            raise BagError(f'{paths[0]}: none of its files can be read')
        containers = sorted({storage.container for storage in storages})
        if len(containers) > 1:
            raise BagError(
                f'{paths[0]}: the files of one recording must be of one kind, '
                f'found {" and ".join(containers)}'
            )
        if directory.plugin:
            backend = 'rosbag2_py'
        elif reader == 'rosbag2_py':
            for storage in storages:
                resources.enter_context(held([storage.path]))
            storages, backend = _by_rosbag2_py(paths[0], storages, damage, scratch)
        listed = directory.metadata.topics if directory.metadata else ()
        recording = RecordingReader(
            paths[0],
            storages,
            portable,
            damage,
            resources,
            backend,
            {topic.topic: topic.qos for topic in listed},
        )
        _compare(recording, directory, damage)
    except BaseException:
        resources.close()
        raise
    return recording


def _open_files(
    directory: Directory, damage: DamagePolicy, scratch: Scratch, resources: ExitStack
) -> Sequence[Storage]:
    files = directory.files
    unpacked = sum(map(claimed_size, files))
    if unpacked:
        scratch.check_room(files[0], unpacked)
    storages: list[Storage] = []
    for path in files:
        storage = _open_or_survive(
            path, damage, scratch, resources, plugin=directory.plugin, alone=len(files) == 1
        )
        if storage:
            resources.callback(storage.close)
            storages.append(storage)
    return storages


def _by_rosbag2_py(
    path: Path, storages: Sequence[Storage], damage: DamagePolicy, scratch: Scratch
) -> tuple[Sequence[Storage], str]:
    """Let rosbag2_py read the payloads, or say why the portable reader does; who it is."""
    _check_reader(path, storages[0].container, 'rosbag2_py')
    backend = _rosbag2_backend()
    if damage.count:
        damage.note(f'{path}: is damaged: it is salvaged by the portable reader')
        return storages, 'portable'
    for storage in storages:
        # It locks what it reads, which a recorder would not survive, and writes logs beside it.
        in_place = storage.container == 'sqlite3' and storage.file == storage.path
        if in_place and (keeps_a_log(storage.file) or not is_listed(storage.file)):
            storage.file = scratch.copied([storage.file])
    return [backend.Rosbag2PyStorage(storage, damage) for storage in storages], 'rosbag2_py'


def _rosbag2_backend() -> ModuleType:
    """
    Import what reads by rosbag2_py.

    :raises UsageError: There is no rosbag2_py.
    """
    try:
        return import_module('kuavo_bag_converter.bags.rosbag2.backend')
    except ImportError as error:
        raise UsageError(
            f'reader: rosbag2_py cannot be imported ({error}); source the ROS setup or {_ADVICE}'
        ) from None


def _check_reader(path: Path, container: str, reader: str) -> None:
    if reader == 'rosbag2_py' and container not in _BY_ROSBAG2_PY:
        what = 'a ROS 1 bag' if container == 'rosbag1' else f'of the container {container}'
        raise BagError(f'{path}: is {what}, which rosbag2_py does not read; {_ADVICE}')


def _open_or_survive(
    path: Path,
    damage: DamagePolicy,
    scratch: Scratch,
    resources: ExitStack,
    *,
    plugin: str,
    alone: bool,
) -> Storage | None:
    """Open a file; None where there are others and the recording is salvaged without it."""
    try:
        if plugin:
            resources.enter_context(held([path]))
            storage: Storage = _rosbag2_backend().open_by_rosbag2(path, plugin, damage)
            return storage
        return _open_file(path, damage, scratch, resources)
    except BagError as error:
        if alone or isinstance(error, NoRoomError):
            raise
        damage.report_error(error)
        return None


def _open_file(
    path: Path, damage: DamagePolicy, scratch: Scratch, resources: ExitStack
) -> Storage:
    container, file = container_of(path), path
    if is_stub(path) and container not in _BY_RANGES:
        damage.require_whole()
        resources.enter_context(held([path, *logs_beside(path)]))
    if container == 'zstd':
        damage.require_whole()
        file = scratch.folder() / path.stem
        try:
            decompress_file(path, file, partial(scratch.check_room, path))
        except CompressionError as error:
            damage.report(path, error)
        container = container_of(file, path)
    if container == 'rosbag1':
        return Rosbag1Storage(file, damage, path)
    if container == 'mcap':
        return McapStorage(file, damage, path)
    if container == 'sqlite3':
        return Sqlite3Storage(file, damage, scratch, path)
    if container == 'zstd':
        raise BagError(f'{path}: is compressed twice')
    return open_by_plugin(container, file, path, damage)


def _compare(reader: RecordingReader, directory: Directory, damage: DamagePolicy) -> None:
    """Compare what metadata.yaml promises with what the files hold."""
    metadata = directory.metadata
    if metadata is None:
        return
    path = reader.path / NAME
    if metadata.storage not in {reader.container, ''}:
        damage.note(
            f'{path}: storage {shown(metadata.storage)} is listed, {reader.container} is stored'
        )
    stored = [
        (connection, storage.qos.get(connection.id, ''))
        for storage in reader.storages
        for connection in storage.connections
    ]
    files = {s.path.name: sum(s.counts.values()) for s in reader.storages}
    compare(path, metadata, stored, reader.counts, files, damage)
