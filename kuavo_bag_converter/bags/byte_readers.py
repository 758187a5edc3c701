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

"""A file that is read by position and never beyond the size it had when it was opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import os
from pathlib import Path
import threading
from typing import Protocol

from kuavo_bag_converter.bags.damage import DamagedError
from kuavo_bag_converter.bags.detect import cannot_be_read
from kuavo_bag_converter.support.remote.spool import open_file, RangedFile
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
import numpy.typing as npt

_READ_GAP = 32 * 1024
"""Neighbours closer than this are read in one go: a call costs about as much as 32 KiB."""
RUN = 1024 * 1024
"""Neighbours are not joined to more than this."""


class ByteReader(Protocol):
    """Something that is read by position."""

    @property
    def end(self) -> int:
        """Where it ends."""

    def read(self, offset: int, length: int) -> bytes:
        """Read exactly that range, or raise DamagedError."""


class BagFile:
    """A file that is read by position, with the bytes counted."""

    def __init__(self, path: Path, shown: Path | None = None) -> None:
        """
        Open a file, to be called ``shown`` where that is another.

        :raises BagError: it cannot be opened.
        """
        self.path = shown or path
        try:
            self._file = open_file(path)
            self.size = path.stat().st_size
        except OSError as error:
            raise cannot_be_read(path, error) from None
        self._lock = threading.Lock()
        self.bytes_read = 0

    def read(self, offset: int, length: int) -> bytes:
        """
        Read exactly that range.

        :raises DamagedError: the range does not lie within the file, or the disk fails.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise DamagedError(
                offset, f'{length} bytes expected, the file ends at byte {self.size}'
            )
        parts: list[bytes] = []
        missing = length
        while missing:
            try:
                part = self._part(offset + length - missing, missing)
            except OSError as error:
                raise DamagedError(offset, f'cannot be read: {error.strerror}') from None
            if not part:
                raise DamagedError(offset, 'the file became shorter while it was read')
            parts.append(part)
            missing -= len(part)
        self.bytes_read += length
        return parts[0] if len(parts) == 1 else b''.join(parts)

    def _part(self, offset: int, length: int) -> bytes:
        if not isinstance(self._file, RangedFile):
            return os.pread(self._file.fileno(), length, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(length)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class FileWindow:
    """Small reads at ascending offsets of a file, or of bytes, through one buffer."""

    def __init__(self, source: BagFile, end: int, size: int = 65536) -> None:
        self._source = source
        self._size = size
        self._start = 0
        self._buffer = b''
        self.end = end
        """Nothing is read beyond this byte of the file."""

    def read(self, offset: int, length: int) -> bytes:
        """
        Read exactly that range.

        :raises DamagedError: the range ends beyond the window's end.
        """
        at = offset - self._start
        if at < 0 or at + length > len(self._buffer):
            if offset + length > self.end:
                raise DamagedError(
                    offset, f'{length} bytes expected, only {max(self.end - offset, 0)} are there'
                )
            self._buffer = self._source.read(
                offset, min(max(length, self._size), self.end - offset)
            )
            self._start, at = offset, 0
        return self._buffer[slice(at, at + length)]


class MemoryReader:
    """Bytes in memory with the face of a :class:`FileWindow`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.end = len(data)

    def read(self, offset: int, length: int) -> bytes:
        """
        Read exactly that range.

        :raises DamagedError: the range ends beyond the data.
        """
        if offset + length > self.end:
            raise DamagedError(
                offset, f'{length} bytes expected, only {max(self.end - offset, 0)} are there'
            )
        return self._data[slice(offset, offset + length)]


def read_ranges(
    source: BagFile, starts: Sequence[int], ends: Sequence[int]
) -> Iterator[memoryview]:
    """
    Read ranges of a file in ascending order, near neighbours in one call.

    :raises DamagedError: a range does not lie within the file.
    """
    first = 0
    while first < len(starts):
        begin, stop, last = starts[first], ends[first], first + 1
        while (
            last < len(starts)
            and starts[last] - stop <= _READ_GAP
            and max(stop, ends[last]) - begin <= RUN
        ):
            stop = max(stop, ends[last])
            last += 1
        data = memoryview(source.read(begin, stop - begin))
        for k in range(first, last):
            yield data[slice(starts[k] - begin, ends[k] - begin)]
        first = last


def read_pieces(
    source: BagFile, starts: npt.NDArray[np.int64], size: int
) -> npt.NDArray[np.uint8]:
    """
    Read pieces of one size, near neighbours in one call.

    :param source: The file.
    :param starts: Where each piece begins, ascending.
    :param size: Of a piece.
    :return: uint8 (pieces, size).
    :raises DamagedError: a piece does not lie within the file.
    """
    pieces: npt.NDArray[np.uint8] = np.empty((len(starts), size), np.uint8)
    is_far = np.diff(starts) > size + _READ_GAP
    enters_run = np.diff(starts // RUN) > 0
    for part in np.split(np.arange(len(starts)), np.flatnonzero(is_far | enters_run) + 1):
        if len(part):
            begin, last = int(starts[part[0]]), int(starts[part[-1]])
            data = np.frombuffer(source.read(begin, last + size - begin), np.uint8)
            pieces[part] = sliding_window_view(data, size)[starts[part] - begin]
    return pieces
