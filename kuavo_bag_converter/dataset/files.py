"""Files that are either on disk for good or not there."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

FILE_MODE = 0o644

_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)


def sync_file(path: Path) -> None:
    """Make a finished file readable by everyone and durable."""
    path.chmod(FILE_MODE)
    sync(path)


def sync(path: Path) -> None:
    """Wait until the content of a file, or the entries of a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Make a folder and everything below it durable."""
    for folder, _, files in os.walk(root, topdown=False):
        for file in files:
            sync(Path(folder, file))
        sync(Path(folder))


def write_text(path: Path, text: str) -> None:
    """Write a whole small text file, durable on return."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
    sync_file(path)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a finished file a second name; copy it where the file system has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copyfile(source, target)
        sync_file(target)
