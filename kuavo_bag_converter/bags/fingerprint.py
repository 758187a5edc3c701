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
What a recording is recognised by, so that finished work is found again and no other is taken.

That is the content and size of the files that hold its messages: neither where it lies, nor what
it is called, nor when it was touched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

from kuavo_bag_converter.bags.detect import cannot_be_read, status_of
from kuavo_bag_converter.bags.rosbag2.directory import natural, SUFFIXES
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.remote.spool import (
    is_stub,
    kept_digest,
    open_file,
    read_ranges_of,
)

Key = tuple[tuple[int, str], ...]
"""Size and digest of each file."""

FilesState = list[tuple[Path, int, int]]
"""Path, size and modification time (ns) of each file of a recording."""

_EDGE = 1 << 20
_SAMPLES = 64
_SAMPLE = 4096
_BLOCK = 1 << 20
_MESSAGES = (*SUFFIXES, '-wal')
"""How the files of a rosbag2 directory end that hold its messages."""


class FileFingerprint(NamedTuple):
    """A file of a recording."""

    name: str
    bytes: int  # noqa: A003
    digest: str
    """Of samples of its content."""


class Fingerprint(NamedTuple):
    """The files of a recording, in order."""

    files: tuple[FileFingerprint, ...]

    @property
    def message_files(self) -> Sequence[FileFingerprint]:
        """
        Those that hold messages, in order.

        Fingerprints of former versions have all files of a rosbag2 directory, sorted as texts.
        """
        messages = [file for file in self.files if file.name.endswith(_MESSAGES)]
        if not messages or len(messages) == len(self.files):
            return self.files
        return sorted(messages, key=lambda file: natural(Path(file.name)))

    @property
    def key(self) -> Key:
        """Return what of it tells recordings apart."""
        return tuple((file.bytes, file.digest) for file in self.message_files)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {'files': [file._asdict() for file in self.files]}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Fingerprint:
        """
        Read what :meth:`as_json` gave.

        :raises KeyError, TypeError, ValueError, AttributeError: It is something else.
        """
        files = document['files']
        return Fingerprint(
            tuple(
                FileFingerprint(str(file['name']), int(file['bytes']), str(file['digest']))
                for file in files
            )
        )


def fingerprint(paths: Sequence[Path]) -> Fingerprint:
    """
    Describe the files of a recording: names, sizes and a digest of samples.

    The digest covers the first and last MiB of every file and 64 places between them, so it costs
    the same for any size of bag; :func:`same_files` tells recordings of equal keys apart.

    :raises BagError: A file cannot be read, or is no regular file.
    """
    return Fingerprint(tuple(map(_file_fingerprint, files_of(paths))))


def files_of(paths: Sequence[Path]) -> list[Path]:
    """
    Return the files that hold the messages of a recording; those of a directory by name.

    :raises BagError: A directory cannot be read.
    """
    found: list[Path] = []
    for path in paths:
        try:
            files = [path]
            if path.is_dir():
                entries = sorted((item for item in path.iterdir() if item.is_file()), key=natural)
                files = [item for item in entries if item.name.endswith(_MESSAGES)] or entries
        except OSError as error:
            raise cannot_be_read(path, error) from None
        found += files
    return found


def state_of(paths: Sequence[Path]) -> FilesState:
    """
    Return how the files of a recording are, to notice a change.

    :raises BagError: A file cannot be read, or is no regular file.
    """
    statuses = [(path, status_of(path)) for path in files_of(paths)]
    return [(path, status.st_size, status.st_mtime_ns) for path, status in statuses]


def same_files(first: Sequence[Path], second: Sequence[Path]) -> bool:
    """Tell whether files hold the same bytes, one by one, in constant memory."""
    return len(first) == len(second) and all(map(_same_bytes, first, second))


def find_duplicates(recordings: Sequence[Sequence[Path]]) -> dict[int, int]:
    """
    Return which recordings are in others whole: the position of each and of one that has it.

    Of two equal ones, the first counts. What cannot be read is in no other one.
    """
    contents = _Contents(recordings)
    held: dict[int, list[int]] = {}
    for number, files in enumerate(contents.of_each):
        for content in files:
            held.setdefault(content, []).append(number)
    duplicates = {}
    for number, files in enumerate(contents.of_each):
        for other in held[min(files, key=lambda content: len(held[content]))] if files else ():
            theirs = contents.of_each[other]
            if files < theirs or (files == theirs and other < number):
                duplicates[number] = other
                break
    return duplicates


class _Contents:
    """
    Numbers the contents of files: equal files have the same number.

    A file is read only where another one has its size, and whole only where samples are equal.
    """

    def __init__(self, recordings: Sequence[Sequence[Path]]) -> None:
        listed = [_sized(recording) for recording in recordings]
        sizes = Counter(size for files in listed for size in files.values())
        self._repeated = {size for size, count in sizes.items() if count > 1}
        self._known: dict[object, list[tuple[Path, int]]] = {}
        self._count = 0
        self.of_each = [
            frozenset(self._number(path, size) for path, size in files.items()) for files in listed
        ]

    def _number(self, path: Path, size: int) -> int:
        key: object = path
        if size in self._repeated:
            try:
                key = (size, _digest(path, size))
            except OSError:
                key = path
        known = self._known.setdefault(key, [])
        for other, number in known:
            if _same_bytes(path, other):
                return number
        self._count += 1
        known.append((path, self._count))
        return self._count


def _sized(recording: Sequence[Path]) -> dict[Path, int]:
    try:
        return {path: status_of(path).st_size for path in files_of(recording)}
    except BagError:
        return {}


def _file_fingerprint(path: Path) -> FileFingerprint:
    status = status_of(path)
    try:
        digest = _digest(path, status.st_size)
    except OSError as error:
        raise cannot_be_read(path, error) from None
    return FileFingerprint(path.name, status.st_size, digest)


def _digest(path: Path, size: int) -> str:
    known = kept_digest(path)
    kept = known.read_text() if known is not None and known.exists() else ''
    if kept:  # nothing is in it while another process writes it
        return kept
    digest = hashlib.blake2b(digest_size=16)
    if is_stub(path):
        for data in read_ranges_of(path, list(_samples(size))):
            digest.update(data)
    else:
        with path.open('rb') as file:
            for start, stop in _samples(size):
                file.seek(start)
                digest.update(file.read(stop - start))
    if known is not None:
        known.write_text(digest.hexdigest())
    return digest.hexdigest()


def _samples(size: int) -> Iterator[tuple[int, int]]:
    """Yield what of a file the digest covers, from and to which byte."""
    yield 0, min(_EDGE, size)
    for sample in range(_SAMPLES):
        place = size * sample // _SAMPLES
        if _EDGE < place < size - _EDGE:
            yield place, min(place + _SAMPLE, size)
    if size > _EDGE:
        yield max(_EDGE, size - _EDGE), size


def _same_bytes(first: Path, second: Path) -> bool:
    try:
        if os.path.samefile(first, second):
            return True
        with open_file(first) as one, open_file(second) as other:
            while True:
                block = one.read(_BLOCK)
                if block != other.read(_BLOCK):
                    return False
                if not block:
                    return True
    except OSError:
        return False
