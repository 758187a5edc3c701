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

"""Files that are on disk for good or not there, their sizes, and paths as they are given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import errno
import os
from pathlib import Path
import re
import shutil
from typing import Any

from kuavo_bag_converter.support.errors import UsageError

_BLOCK = 1 << 20
_IN_PACKAGE = 'package://'
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)


Paths = str | Path | Sequence[str | Path]
"""A file or folder, or several."""


def as_paths(paths: Paths) -> list[Path]:
    """Return what is one path or several as a list."""
    return [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]


def total_bytes(paths: Iterable[Path]) -> int:
    """Return the bytes of files, and of all files in folders, as far as they can be seen."""
    files = list(paths)
    for path in tuple(files):
        files += [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    return sum(file.stat().st_size for file in files if os.path.isfile(file))


def system_reason(error: OSError) -> str:
    """Return what the system says of an error, without the words that pyarrow puts before it."""
    return re.sub(r'.*Detail: \[errno \d+\] ', '', error.strerror or str(error))


def file_digest(path: Path, digest: Any) -> str:
    """Return the digest of a file in hexadecimal, by one of ``hashlib`` that may have begun."""
    with path.open('rb') as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return str(digest.hexdigest())


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
    sync(path)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file to a place of its own, in a folder that is made if it is missing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def link_or_copy(source: Path, target: Path) -> None:
    """
    Give a file or symbolic link a second name; copy it where there are no hard links.

    A copy has the content, mode and times of the file, and is durable.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    if not source.is_symlink() and not source.is_file():
        raise OSError(errno.EOPNOTSUPP, 'is no regular file, and cannot be copied', str(source))
    shutil.copy2(source, target, follow_symlinks=False)
    if not target.is_symlink():
        sync(target)


def share_of_package(name: str) -> Path | None:
    """Return the share folder of a package of the sourced ROS, if there is such a package."""
    try:
        from ament_index_python.packages import get_package_share_directory
    except ImportError:
        return None
    try:
        return Path(get_package_share_directory(name))
    except (LookupError, ValueError, OSError):
        # Not found, not a package name, or no ROS sourced.
        return None


def without_package(path: str) -> str:
    """
    Return a path as it is, or where it lies if it is ``package://NAME/PATH``.

    :raises UsageError: NAME is no package of the sourced ROS.
    """
    if not path.startswith(_IN_PACKAGE):
        return path
    name, _, rest = path.removeprefix(_IN_PACKAGE).partition('/')
    share = share_of_package(name)
    if share is None:
        raise UsageError(f'{path}: {name!r} is no package of a ROS workspace that is sourced')
    return str(share / rest)
