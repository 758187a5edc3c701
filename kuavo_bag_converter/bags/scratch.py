"""A temporary folder outside the bag's, made when it is needed and removed with the reader."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory


class Scratch:
    """At most one temporary folder."""

    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None

    def folder(self) -> Path:
        """Give the folder, in ``TMPDIR``."""
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix='kuavo_bag_')
        return Path(self._folder.name)

    def close(self) -> None:
        """Remove the folder and what is in it."""
        if self._folder:
            self._folder.cleanup()
            self._folder = None
