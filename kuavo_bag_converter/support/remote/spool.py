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

"""
Local copies of bags that lie on other machines, as many at a time as the spool may hold.

Of each file there is a *stub* first, which has its size and modification time and no content, so
that recordings are found and told apart. What needs an index alone reads ranges of the file
itself (:func:`open_file`); what reads all of it *holds* it: a stub then becomes the file, and is a
stub again when nobody holds it any more. Processes share a spool: what holds a file has a lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, ExitStack, suppress
import errno
import fcntl
import hashlib
import io
import json
import os
from pathlib import Path, PurePosixPath
import shutil
import threading
from typing import Any, BinaryIO, cast, NamedTuple
import uuid

from kuavo_bag_converter.support.errors import BagError, Cancelled, ConverterError, UsageError
from kuavo_bag_converter.support.files import write_text
from kuavo_bag_converter.support.places import (
    FOLDER_URL,
    in_spool,
    name_of,
    OBJECTS,
    plain_url,
    SPOOLED,
)
from kuavo_bag_converter.support.process import MB
from kuavo_bag_converter.support.remote.remote_file import RemoteFile
from kuavo_bag_converter.support.remote.retries import with_retries
from kuavo_bag_converter.support.remote.urls import explained, file_system, remember
from kuavo_bag_converter.support.texts import shown

_CHUNK = 8 << 20
_BLOCK = 1 << 20
_SMALL = 1 << 20
"""Files beside bags (metadata.yaml, annotations) are copied at once up to this size."""
_RESERVE = 64 << 20
_AT_ONCE = 8
_WAIT_S = 0.2
_LIMIT = 'limit'
_LOCK = 'lock'
_WANTED = 'wanted'
"""Folder that lists the files that are here, or on their way."""
_PARTS = 'parts'
"""Folder of what is copied in part; beside each, which file it is of."""


class SpoolFullError(BagError):
    """A recording does not fit into what a spool may hold."""


class _Place(NamedTuple):
    """Where a file of another machine is in a spool."""

    spooled: Path
    """``spooled-<digest>``."""
    relative: str

    @property
    def copy(self) -> Path:
        return self.spooled / self.relative

    def note(self, ending: str) -> Path:
        """Return a file that says something of it: json, here, kept, lock, fetching or digest."""
        return self.spooled / OBJECTS / f'{self.relative}.{ending}'

    def listed(self, folder: str, ending: str = '') -> Path:
        """Return its entry in a folder of the spool that lists few of its files."""
        name = f'{self.spooled.name}/{self.relative}'
        digest = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
        return self.spooled.parent / folder / f'{digest}{ending}'

    @property
    def part(self) -> Path:
        """Return where it is while it is copied."""
        return self.listed(_PARTS, '.part')

    def list_in(self, folder: str) -> None:
        """Note it among others."""
        entry = self.listed(folder)
        entry.parent.mkdir(exist_ok=True)
        entry.write_text(json.dumps([self.spooled.name, self.relative]))

    @property
    def is_here(self) -> bool:
        return self.note('here').exists()

    def remote(self) -> RemoteFile:
        """
        Read what is known of it.

        :raises BagError: Another process has cleared it away.
        """
        try:
            url, size, identity, checksum, time_s = json.loads(self.note('json').read_text())
        except (OSError, ValueError) as error:
            raise BagError(f'{self.copy}: is in the spool no more ({error})') from None
        return RemoteFile(url, size, identity, tuple(checksum) if checksum else None, time_s)


def place_in_spool(path: Path) -> _Place | None:
    """Return where in a spool a path is, None of any other path."""
    found = in_spool(path)
    if found is None:
        return None
    spooled, inner = found
    place = _Place(spooled, str(inner))
    return place if place.note('json').exists() else None


def is_stub(path: Path) -> bool:
    """Tell whether a path is that of a file of another machine that is not copied."""
    place = place_in_spool(path)
    return place is not None and not place.is_here


def open_file(path: Path) -> BinaryIO:
    """
    Open a file to read it; of a stub, ranges are read from the other machine.

    :raises OSError: It cannot be opened.
    """
    place = place_in_spool(path)
    if place is None or place.is_here:
        return path.open('rb')
    return cast('BinaryIO', RangedFile(place))


class RangedFile(io.RawIOBase):
    """A file of another machine; blocks that were read are kept on the disk of the spool."""

    def __init__(self, place: _Place) -> None:
        self._remote = remote = place.remote()
        fs, path = file_system(remote.url)
        blocks = place.note(f'{uuid.uuid4().hex}.blocks')
        with _as_os_error(remote):
            self._file = fs.open(
                path, 'rb', block_size=_BLOCK, cache_type='mmap',
                cache_options={'location': str(blocks)}, size=remote.bytes,
            )  # fmt: skip
        blocks.unlink(missing_ok=True)  # it is there as long as it is open

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; return how many bytes."""
        with _as_os_error(self._remote):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Return the place."""
        return int(self._file.tell())

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it has places."""
        return True

    def close(self) -> None:
        """Close it."""
        if not self.closed:
            with suppress(Exception):
                self._file.close()
        super().close()


@contextmanager
def _as_os_error(remote: RemoteFile) -> Iterator[None]:
    """Let readers of files handle what goes wrong, as where a disk fails."""
    try:
        with explained(remote.url):
            yield
    except ConverterError as error:
        raise OSError(errno.EIO, str(error)) from None


def read_ranges_of(path: Path, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """
    Read ranges (start, stop) of a stub, at once where the library can.

    :raises OSError: They cannot be read.
    """
    place = place_in_spool(path)
    assert place is not None
    remote = place.remote()
    fs, name = file_system(remote.url)
    starts, stops = [list(bounds) for bounds in zip(*ranges, strict=True)]
    with _as_os_error(remote):
        found = fs.cat_ranges([name] * len(starts), starts, stops, on_error='raise')
    return [bytes(data) for data in found]


def kept_digest(path: Path) -> Path | None:
    """Return where a digest of a spooled file may be kept, None of any other file."""
    place = place_in_spool(path)
    return None if place is None else place.note('digest')


@contextmanager
def held(
    paths: Sequence[Path], cancel: threading.Event | None = None, *, wait: bool = True
) -> Iterator[int]:
    """
    Have the files of a recording at hand, all of those that lie on another machine.

    :param paths: Its files or its folder.
    :param cancel: Set it to stop soon.
    :param wait: For room that other recordings take; else a full spool is an error.
    :return: How often copying was interrupted, and went on.
    :raises BagError: One cannot be fetched whole and unchanged.
    :raises SpoolFullError: They do not fit into the spool.
    :raises Cancelled: ``cancel`` was set.
    """
    places = list(_places(paths))
    cancel = cancel or threading.Event()
    keep = False
    try:
        with ExitStack() as stack:
            for place in places:
                stack.enter_context(_used(place))
            if places:
                _make_room(places, cancel, wait=wait)
            yield sum(_fetch(place, cancel) for place in places)
    except Cancelled:
        keep = True  # for the run that goes on
        raise
    finally:
        for place in () if keep else places:
            _become_stub(place)


def _places(paths: Sequence[Path]) -> Iterator[_Place]:
    """Yield where files are in a spool that are stubs when nobody holds them."""
    for path in paths:
        inner = sorted(path.rglob('*')) if SPOOLED in str(path) and path.is_dir() else ()
        for file in (path, *inner):
            place = place_in_spool(file)
            if place is not None and not place.note('kept').exists():
                yield place


def _used(place: _Place) -> AbstractContextManager[None]:
    """Lock a file for reading: nobody takes it away meanwhile."""
    return _locked(place.note('lock'), fcntl.LOCK_SH)


@contextmanager
def _unused(place: _Place) -> Iterator[bool]:
    """Lock a file that nobody uses; tell whether that is so."""
    descriptor = os.open(place.note('lock'), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


@contextmanager
def _locked(file: Path, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


def _make_room(places: Sequence[_Place], cancel: threading.Event, *, wait: bool) -> None:
    """Wait until files fit beside those that others use, which their locks tell."""
    root = places[0].spooled.parent
    limit = int((root / _LIMIT).read_text()) * MB
    size = sum(place.remote().bytes for place in places)
    name = name_of(places[0].copy)
    if limit and size > limit:
        raise SpoolFullError(
            f'{name}: has {-(-size // MB)} MB, and spool_mb is {limit // MB}; set spool_mb to '
            'at least as much'
        )
    while True:
        with _locked(root / _LOCK):
            used, left = _used_bytes(root, places), _left_bytes(root, places)
            missing = sum(place.remote().bytes for place in places if not place.is_here)
            free = shutil.disk_usage(root).free - _RESERVE
            if missing <= free and (not limit or used + left + size <= limit):
                for place in places:
                    place.list_in(_WANTED)
                return
            dropped = _drop_parts(root, places)
        if dropped:
            continue
        if used == 0 or not wait:
            raise SpoolFullError(
                f'{name}: has {-(-size // MB)} MB, and {max(free, 0) // MB} MB are free in '
                f'{root}; make room, or set spool_dir'
            )
        if cancel.wait(_WAIT_S):
            raise Cancelled


def _used_bytes(root: Path, ours: Sequence[_Place]) -> int:
    """Return the bytes of other files that are here or on their way; unused ones are taken off."""
    total = 0
    for place in _listed_in(root, _WANTED):
        if place in ours:
            continue
        with _unused(place) as unused:
            if unused:
                _clear(place)
            else:
                total += place.remote().bytes
    return total


def _drop_parts(root: Path, ours: Sequence[_Place]) -> bool:
    """Delete what interrupted copies of unused files have left; tell whether there was any."""
    dropped = False
    for place in _listed_in(root, _PARTS):
        if place not in ours:
            with _unused(place) as unused:
                if unused:
                    _drop_part(place)
                    dropped = True
    return dropped


def _left_bytes(root: Path, ours: Sequence[_Place]) -> int:
    """Return what interrupted copies of files that are not wanted now have left."""
    total = 0
    for place in _listed_in(root, _PARTS):
        if place not in ours and not place.listed(_WANTED).exists():
            with suppress(FileNotFoundError):  # complete by now
                total += place.part.stat().st_size
    return total


def _listed_in(root: Path, folder: str) -> Iterator[_Place]:
    """Yield the files that a folder lists."""
    with suppress(FileNotFoundError):
        for entry in sorted(os.listdir(root / folder)):
            if not entry.endswith('.part'):
                with suppress(FileNotFoundError, ValueError):  # of a moment ago
                    name, relative = json.loads((root / folder / entry).read_text())
                    yield _Place(root / name, relative)


def _drop_part(place: _Place) -> None:
    place.part.unlink(missing_ok=True)
    place.listed(_PARTS).unlink(missing_ok=True)


def _fetch(place: _Place, cancel: threading.Event) -> int:
    """
    Copy a file whole; what an earlier attempt has copied of the same content is kept.

    :return: How often that was interrupted.
    """
    with _locked(place.note('fetching')):
        if place.is_here:
            return 0
        remote = place.remote()

        def copy() -> None:
            with explained(remote.url):
                _copy_rest(place, remote, cancel)

        try:
            _, retries = with_retries(copy, BagError, _WAIT_S, cancel)
        except BagError as error:
            raise BagError(
                f'{error} ({place.part.stat().st_size} of {remote.bytes} bytes are copied; the '
                'same command goes on from there)'
            ) from None
        except UsageError as error:  # of one bag: others may be read
            raise BagError(str(error)) from None
        with explained(remote.url):
            _check(place, remote)
        os.utime(place.part, (remote.time_s, remote.time_s))
        os.replace(place.part, place.copy)
        _drop_part(place)
        place.note('here').touch()
    return retries


def _copy_rest(place: _Place, remote: RemoteFile, cancel: threading.Event) -> None:
    fs, path = file_system(remote.url)
    place.list_in(_PARTS)
    with place.part.open('ab') as file:
        while (have := file.tell()) < remote.bytes:
            if cancel.is_set():
                raise Cancelled
            stop = min(have + _CHUNK, remote.bytes)
            data = fs.cat_file(path, start=have, end=stop)
            if len(data) != stop - have:
                raise OSError(errno.EIO, f'{stop - have} bytes expected, {len(data)} have come')
            file.write(data)


def _check(place: _Place, remote: RemoteFile) -> None:
    """
    Compare what was copied with what the storage says of the file now.

    :raises BagError: It has changed meanwhile, or has come otherwise than it is stored.
    """
    fs, path = file_system(remote.url)
    part = place.part
    fs.invalidate_cache()
    now = RemoteFile.of(remote.url, fs.info(path))
    if (now.bytes, now.identity) != (remote.bytes, remote.identity):
        _drop_part(place)
        raise BagError(
            f'{remote.url}: has changed while it was copied; run the same command again when it '
            'is complete'
        )
    difference = remote.difference(part)
    if difference:
        _drop_part(place)
        raise BagError(f'{remote.url}: {difference}; run the same command again')


def _become_stub(place: _Place) -> None:
    """Take a copy away if nobody uses it."""
    with (
        suppress(OSError, BagError),
        _locked(place.spooled.parent / _LOCK),
        _unused(place) as unused,
    ):
        if unused:
            _clear(place)


def _clear(place: _Place) -> None:
    place.listed(_WANTED).unlink(missing_ok=True)
    if place.is_here:
        place.note('here').unlink()
        _write_stub(place, place.remote())


def _write_stub(place: _Place, remote: RemoteFile) -> None:
    """Make a file of the right size and time; a hole, which takes no room."""
    temporary = place.note('stub')
    with temporary.open('wb') as file:
        file.truncate(remote.bytes)
    os.utime(temporary, (remote.time_s, remote.time_s))
    os.replace(temporary, place.copy)


class Spool:
    """Where copies are, and how much of the disk they may take."""

    def __init__(self, folder: str = '', limit_mb: int = 0) -> None:
        """
        Use a folder.

        :param folder: Of the spool; one in the user's cache if it is ''.
        :param limit_mb: What all copies may take together; 0 is what the disk has free.
        """
        cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
        self.root = Path(os.path.realpath(folder or os.path.join(cache, 'kuavo_bag_converter')))
        self._limit_mb = limit_mb
        self._is_prepared = False

    def prepare(self) -> Path:
        """
        Make the folder.

        :raises UsageError: It cannot be made.
        """
        if self._is_prepared:
            return self.root
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with _locked(self.root / _LOCK):
                write_text(self.root / _LIMIT, str(self._limit_mb))
        except OSError as error:
            raise UsageError(f'spool_dir: {self.root}: cannot be made: {error.strerror}') from None
        self._is_prepared = True
        return self.root

    def local(self, url: str, suffixes: tuple[str, ...]) -> Path:
        """
        Return what stands for a file or folder of another machine.

        :param url: Of a file, a rosbag2 directory, or a folder of either.
        :param suffixes: Of bags; small files beside them are copied at once.
        :raises UsageError: It does not exist, or must not be read.
        :raises BagError: It cannot be reached.
        """
        self.prepare()
        remember([url])
        url = plain_url(url).rstrip('/')
        fs, path = file_system(url)
        with explained(url):
            fs.invalidate_cache()
            info = fs.info(path)
            if info['type'] != 'directory':
                return self._mirror(url, {PurePosixPath(url).name: info}, suffixes, whole=False)
            found = fs.find(path, maxdepth=2, detail=True)
        start = len(path.rstrip('/')) + 1
        entries = {
            name[start:]: entry
            for name, entry in found.items()
            if name[start:] and entry['type'] == 'file' and not name.endswith('/')
        }
        if not entries:
            raise UsageError(f'{url}: is empty, or does not exist')
        return self._mirror(f'{url}/.', entries, suffixes, whole=True)

    def _mirror(
        self,
        url: str,
        entries: Mapping[str, Mapping[str, Any]],
        suffixes: tuple[str, ...],
        *,
        whole: bool,
    ) -> Path:
        """Make stubs of files in a folder; ``whole`` if they are all that it has."""
        for relative in entries:
            if {'', '.', '..'} & {*relative.split('/')}:  # which could lead out of the spool
                raise UsageError(f'{url}: {shown(relative)!r} is no name of a file')
        folder_url = url.rpartition('/')[0]
        name = PurePosixPath(folder_url.partition('://')[2]).name or 'root'
        digest = hashlib.blake2b(folder_url.encode(), digest_size=8).hexdigest()
        spooled = self.root / f'{SPOOLED}{digest}'
        (spooled / OBJECTS).mkdir(parents=True, exist_ok=True)
        with _locked(spooled / _LOCK):
            if not (spooled / OBJECTS / FOLDER_URL).exists():
                write_text(spooled / OBJECTS / FOLDER_URL, folder_url)
            small: list[_Place] = []
            for relative, info in entries.items():
                remote = RemoteFile.of(f'{folder_url}/{relative}', info)
                place = _Place(spooled, f'{name}/{relative}')
                if relative.endswith(suffixes) or not whole:
                    _note(place, remote)
                elif remote.bytes <= _SMALL:
                    _note(place, remote)
                    place.note('kept').touch()
                    small.append(place)
            with ThreadPoolExecutor(_AT_ONCE, 'small-files') as pool:
                list(pool.map(_fetch_small, small))
            if whole:
                known = {f'{name}/{relative}' for relative in entries}
                for copy in [path for path in (spooled / name).rglob('*') if path.is_file()]:
                    if str(copy.relative_to(spooled)) not in known:
                        copy.unlink()
        return spooled / name if whole else spooled / name / next(iter(entries))


def _fetch_small(place: _Place) -> None:
    with _used(place):
        _fetch(place, threading.Event())


def _note(place: _Place, remote: RemoteFile) -> None:
    """Keep what is known of a file, and forget what is here of another content."""
    place.copy.parent.mkdir(parents=True, exist_ok=True)
    place.note('json').parent.mkdir(parents=True, exist_ok=True)
    known = None
    with suppress(BagError):
        known = place.remote()
    if known is not None and known.identity and known == remote and place.copy.exists():
        return
    for ending in ('here', 'kept', 'digest'):
        place.note(ending).unlink(missing_ok=True)
    _drop_part(place)
    temporary = place.note('tmp')
    temporary.write_text(json.dumps(remote))
    os.replace(temporary, place.note('json'))
    _write_stub(place, remote)
