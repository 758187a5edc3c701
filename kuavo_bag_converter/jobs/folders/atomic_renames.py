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

"""Renames that replace nothing, and such that swap two folders at once."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_NOREPLACE = 1
_EXCHANGE = 2
_HERE = -100  # AT_FDCWD: relative paths are those of the working directory
_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
"""What kernels and file systems answer that do not know a flag."""


def rename_new(source: Path, target: Path) -> None:
    """
    Rename a folder to a name that nothing has.

    :raises FileExistsError: Something has that name; nothing is changed.
    :raises OSError: The system refuses.
    """
    try:
        _renameat2(source, target, _NOREPLACE)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
        _rename_onto_claim(source, target)


def exchange(first: Path, second: Path) -> bool:
    """
    Let two folders change names at once; tell whether kernel and file system can do that.

    :raises OSError: The system refuses.
    """
    try:
        _renameat2(first, second, _EXCHANGE)
    except OSError as error:
        if error.errno in _UNKNOWN:
            return False
        raise
    return True


def _rename_onto_claim(source: Path, target: Path) -> None:
    """Claim the name by an empty folder, which a rename replaces as long as it is empty."""
    target.mkdir()
    try:
        source.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        target.rmdir()
        raise


def _renameat2(source: Path, target: Path, flags: int) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), 'renameat2', None)
    if function is None:  # a C library that is older than the kernel's call
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    names = ctypes.c_char_p(os.fsencode(source)), ctypes.c_char_p(os.fsencode(target))
    if function(_HERE, names[0], _HERE, names[1], ctypes.c_uint(flags)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(source), None, str(target))
