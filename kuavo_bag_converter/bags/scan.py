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

"""One pass over a file's records, without its index and past what is damaged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from kuavo_bag_converter.bags.byte_readers import BagFile
from kuavo_bag_converter.bags.chunked import ScannedChunk
from kuavo_bag_converter.bags.damage import DamagedError, DamagePolicy, range_text
from kuavo_bag_converter.bags.model import Connection, Stamps
from kuavo_bag_converter.bags.storage import StampColumns


class Scan(ABC):
    """A pass over the records of a file of chunks."""

    def __init__(
        self, source: BagFile, damage: DamagePolicy, connections: Sequence[Connection]
    ) -> None:
        """Prepare; ``connections`` that the file has declared so far may grow during the scan."""
        self.columns = StampColumns(connections)
        """Stamps of all messages that can be read."""
        self.chunks: list[ScannedChunk] = []
        """Chunks that hold them, in storage order."""
        self._source = source
        self._damage = damage
        self._loss: LostMessages | None = None
        """Of the last chunk, until its index records are read."""

    def run(self, offset: int) -> None:
        """
        Scan from the record at ``offset`` to the end of the file.

        :raises BagError: damage was found and is not allowed.
        """
        begin: int | None = offset
        while begin is not None:
            begin = self._run(begin)
        self._settle()

    @abstractmethod
    def _run(self, offset: int) -> int | None:
        """Scan until damage stops it; where to go on behind that, None at the end."""

    def _lose(self, error: DamagedError, read: int) -> None:
        """Give a chunk up behind its first ``read`` messages, until its index records are read."""
        if not self._damage.salvage:
            self._damage.report(self._source.path, error)
        self._loss = LostMessages(error, read)

    def _settle(self) -> None:
        """Report a chunk that was given up: its index records are read."""
        if self._loss:
            self._damage.report(self._source.path, self._loss)
            self._loss = None

    def _skip(self, error: DamagedError, begin: int, after: int | None) -> int | None:
        """Report damage between ``begin`` and ``after``, None for the end; return ``after``."""
        skipped = (after or self._source.size) - begin
        self._damage.report(self._source.path, f'{error}: {skipped} bytes skipped')
        return after


class LostMessages:
    """Damage in a chunk, and what the index records behind the chunk say it costs."""

    def __init__(self, error: DamagedError, read: int) -> None:
        """Hold the damage that ended a chunk after ``read`` messages."""
        self._error = error
        self._read = read
        self._listed = 0
        self._first, self._last = 2**63, -(2**63)

    def add(self, stamps: Stamps) -> None:
        """Take the stamps of an index record."""
        if len(stamps):
            self._listed += len(stamps)
            self._first = min(self._first, int(stamps.min()))
            self._last = max(self._last, int(stamps.max()))

    def __str__(self) -> str:
        if not self._listed:
            return str(self._error)
        return (
            f'{self._error}: {self._listed - self._read} of the {self._listed} messages '
            f'{range_text(self._first, self._last)} are lost'
        )
