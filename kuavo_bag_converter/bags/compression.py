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

"""Decompression that trusts no size a file claims, and that checks the checksums of the frames."""

from __future__ import annotations

import bz2
from collections.abc import Callable, Iterator
import errno
from pathlib import Path
from typing import Any, IO, Protocol

from kuavo_bag_converter.bags.scratch import NoRoomError
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.texts import quoted
import lz4.frame
import zstandard

MOST_BYTES = 2**31
"""No chunk or message is decompressed to more than this many bytes."""
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
_STEP = 1024 * 1024
_PIECE = 16 * 1024
"""Bytes that are decompressed at a time: they cannot become more than 512 MiB."""
_LOOK = 64 * 1024 * 1024
_FRAME_HEADER = 18
"""Bytes of the longest header of a zstd frame."""


class CompressionError(Exception):
    """Compressed data is broken, or not what its header says."""


class _Decompressor(Protocol):
    """What unpacks a stream piece by piece."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


def decompress(method: str, data: bytes, size: int) -> bytes:
    """
    Decompress one chunk that claims to be ``size`` bytes long.

    :raises CompressionError: unknown method, broken data, a wrong checksum or another size.
    """
    if size > MOST_BYTES:
        raise CompressionError(f'claims to be {size} bytes, more than {MOST_BYTES}')
    if method == 'zstd':
        return _zstd(data, size)
    stream = _stream(method)
    try:
        plain = stream.decompress(data, size + 1)
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise CompressionError(f'{method} data is broken ({error})') from None
    if len(plain) != size or not stream.eof:
        raise CompressionError(f'{method} data does not give the {size} bytes it claims')
    return plain


def decompress_prefix(method: str, data: bytes) -> bytes:
    """
    Decompress what can be had of a chunk whose end is missing.

    :raises CompressionError: unknown method.
    """
    parts: list[bytes] = []
    total = 0
    feed: Callable[[bytes], bytes] = (
        zstandard.ZstdDecompressor().decompressobj().decompress
        if method == 'zstd'
        else _stream(method).decompress
    )
    for at in range(0, len(data), _PIECE):
        try:
            parts.append(feed(data[slice(at, at + _PIECE)]))
        except (RuntimeError, OSError, EOFError, ValueError, zstandard.ZstdError):
            break
        total += len(parts[-1])
        if total > MOST_BYTES:
            break
    return b''.join(parts)


def decompress_message(data: bytes | memoryview) -> bytes:
    """
    Decompress one zstd frame, the payload of a message-compressed rosbag2 bag.

    :raises CompressionError: broken data, or a frame without its size.
    """
    try:
        size = zstandard.frame_content_size(data)
    except zstandard.ZstdError as error:
        raise CompressionError(f'zstd data is broken ({error})') from None
    if size < 0:
        raise CompressionError('zstd frame does not say its size')
    return _zstd(data, size)


def decompress_file(source: Path, target: Path, check_room: Callable[[int], None]) -> None:
    """
    Decompress a whole zstd file, as long as there is room for it.

    :param source: the file.
    :param target: what becomes of it.
    :param check_room: is called with the bytes that are still to come, as far as the file tells,
        at the beginning and every 64 MiB; raises BagError where there is no room for them.
    :raises CompressionError: broken data; what lies before it has been written.
    :raises BagError: there is no room, or the disk fails.
    """
    try:
        with source.open('rb') as packed, target.open('wb', buffering=_STEP) as plain:
            claimed = _claimed(packed.read(_FRAME_HEADER))
            packed.seek(0)
            check_room(claimed)
            written = looked = 0
            for part in _decompressed(packed):
                written += plain.write(part)
                if written - looked >= _LOOK:
                    plain.flush()
                    check_room(max(0, claimed - written))
                    looked = written
    except zstandard.ZstdError as error:
        raise CompressionError(f'zstd data is broken ({error})') from None
    except OSError as error:
        kind = NoRoomError if error.errno in (errno.ENOSPC, errno.EDQUOT) else BagError
        raise kind(
            f'{source}: cannot be decompressed to {target}: {error.strerror}; '
            f'point TMPDIR to a folder with enough space'
        ) from None


def _decompressed(packed: IO[bytes]) -> Iterator[bytes]:
    stream = zstandard.ZstdDecompressor().decompressobj()
    while block := packed.read(_STEP):
        for at in range(0, len(block), _PIECE):
            piece = block[slice(at, at + _PIECE)]
            while piece:
                if stream.eof:
                    stream = zstandard.ZstdDecompressor().decompressobj()
                yield stream.decompress(piece)
                piece = stream.unused_data
    if not stream.eof:
        raise CompressionError('zstd data is cut')


def claimed_size(path: Path) -> int:
    """Return what a zstd file says that it becomes, in bytes; 0 where it does not, or is none."""
    try:
        if not path.is_file():  # a pipe would keep its reader waiting
            return 0
        with path.open('rb') as packed:
            return _claimed(packed.read(_FRAME_HEADER))
    except OSError:
        return 0


def _claimed(header: bytes) -> int:
    try:
        return max(0, int(zstandard.frame_content_size(header)))
    except zstandard.ZstdError:
        return 0


def _zstd(data: bytes | memoryview, size: int) -> bytes:
    if size > MOST_BYTES:
        raise CompressionError(f'claims to be {size} bytes, more than {MOST_BYTES}')
    try:
        claimed = zstandard.frame_content_size(data)
        if claimed not in (-1, size):
            raise CompressionError(f'zstd frame holds {claimed} bytes, not {size}')
        plain = zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
    except zstandard.ZstdError as error:
        raise CompressionError(f'zstd data is broken ({error})') from None
    if len(plain) != size:
        raise CompressionError(f'zstd data does not give the {size} bytes it claims')
    return bytes(plain)


def _stream(method: str) -> _Decompressor:
    if method == 'lz4':
        untyped: Any = lz4.frame.LZ4FrameDecompressor
        stream: _Decompressor = untyped()
        return stream
    if method == 'bz2':
        return bz2.BZ2Decompressor()
    raise CompressionError(f'compression {quoted(method)} is not known; expected lz4, bz2 or zstd')
