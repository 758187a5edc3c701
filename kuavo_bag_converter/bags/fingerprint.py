"""What a recording is recognised by, so that finished work is found again and no other is taken."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from kuavo_bag_converter.bags.detect import cannot_be_read, status_of

_EDGE = 1 << 20
_SAMPLES = 64
_SAMPLE = 4096


def fingerprint(paths: Sequence[Path]) -> dict[str, object]:
    """Describe the files of a recording: names, sizes, change times and a digest of samples.

    The digest covers the first and last MiB of every file and 64 places between them, so it costs
    the same for any size of bag.

    Raises:
        BagError: A file cannot be read, or is no regular file.

    """
    return {'files': [_described(path) for path in _files(paths)]}


def _described(path: Path) -> dict[str, object]:
    status = status_of(path)
    try:
        digest = _digest(path, status.st_size)
    except OSError as error:
        raise cannot_be_read(path, error) from None
    return {
        'name': path.name,
        'bytes': status.st_size,
        'changed_ns': status.st_mtime_ns,
        'digest': digest,
    }


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        try:
            files = [path]
            if path.is_dir():
                files = sorted(item for item in path.iterdir() if item.is_file())
        except OSError as error:
            raise cannot_be_read(path, error) from None
        yield from files


def _digest(path: Path, size: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open('rb') as file:
        digest.update(file.read(_EDGE))
        for sample in range(_SAMPLES):
            place = size * sample // _SAMPLES
            if _EDGE < place < size - _EDGE:
                file.seek(place)
                digest.update(file.read(_SAMPLE))
        if size > _EDGE:
            file.seek(max(_EDGE, size - _EDGE))
            digest.update(file.read(_EDGE))
    return digest.hexdigest()
