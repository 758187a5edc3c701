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
A temporary folder outside the bag's, made when it is needed and removed with the reader.

What is killed leaves it behind: ``kuavo_bag_*`` in ``TMPDIR``, which may be deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
import shutil
from tempfile import TemporaryDirectory

from kuavo_bag_converter.support.errors import BagError

RESERVE = 64 * 1024 * 1024
"""Bytes that are left for others on the disk."""


class NoRoomError(BagError):
    """The disk has no room for a temporary copy; salvaging helps nothing."""


class Scratch:
    """At most one temporary folder."""

    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None

    def folder(self) -> Path:
        """
        Give the folder, in ``TMPDIR``.

        :raises NoRoomError: It cannot be made.
        """
        if self._folder is None:
            try:
                self._folder = TemporaryDirectory(prefix='kuavo_bag_')
            except OSError as error:
                raise NoRoomError(
                    f'no temporary folder can be made ({error.strerror or error}); '
                    'point TMPDIR to a folder that can be written'
                ) from None
        return Path(self._folder.name)

    def copied(self, files: Sequence[Path]) -> Path:
        """
        Copy files into the folder; return the copy of the first.

        :raises NoRoomError: There is no room for them, or the disk fails.
        """
        folder = self.folder()
        try:
            self.check_room(files[0], sum(file.stat().st_size for file in files))
            for file in files:
                shutil.copyfile(file, folder / file.name)
        except OSError as error:
            raise NoRoomError(
                f'{files[0]}: cannot be copied to {folder}: {error.strerror}; '
                f'point TMPDIR to a folder with enough space'
            ) from None
        return folder / files[0].name

    def check_room(self, source: Path, size: int) -> None:
        """
        Check that the folder's disk has room for so many more bytes, and for others a reserve.

        :raises NoRoomError: It has not.
        """
        folder = self.folder()
        free = shutil.disk_usage(folder).free
        if size + RESERVE > free:
            # A packed file need not say how much is to come.
            needed = f'{size / 1e6:.0f} MB more and' if size else 'more than is known, beside'
            raise NoRoomError(
                f'{source}: is unpacked or copied to {folder.parent} (TMPDIR), which needs '
                f'{needed} a reserve of {RESERVE / 1e6:.0f} MB; '
                f'{free / 1e6:.0f} MB are free: make room, or point TMPDIR to another folder'
            )

    def close(self) -> None:
        """Remove the folder and what is in it."""
        if self._folder:
            self._folder.cleanup()
            self._folder = None
