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

"""What happens when a bag is damaged: stop with one line, or go on and say what was lost."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kuavo_bag_converter.support.errors import BagError, DamagedBagError
from kuavo_bag_converter.support.texts import one_line

ADVICE = 'set on_damage: salvage to keep what can be read'


class DamagedError(Exception):
    """A part of a file cannot be read; caught inside this package, never seen by users."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        """Byte of the file where the unreadable part begins."""
        self.reason = reason

    def __str__(self) -> str:
        return f'byte {self.offset}: {self.reason}'


class ReadsWholeError(Exception):
    """A file would have to be read whole to be opened; never seen by users."""


class DamagePolicy:
    """The ``on_damage`` policy of one recording, and the lines for its report."""

    def __init__(self, on_damage: str, *, quick: bool = False) -> None:
        """Follow ``on_damage``; with ``quick``, no file may be read whole to be opened."""
        self.salvage = on_damage == 'salvage'
        self._quick = quick
        self.problems: list[str] = []
        self.count = 0
        """Damages that were found and survived."""
        self._of_topics: dict[str, str] = {}
        """Lines about topics that nobody has asked for yet."""

    def report(self, path: Path, what: object) -> None:
        """
        Stop, or note the damage and go on.

        :raises DamagedBagError: the policy is ``fail``.
        """
        line = one_line(' '.join(f'{path}: {what}'.split()))
        if not self.salvage:
            raise DamagedBagError(f'{line}; {ADVICE}')
        self.count += 1
        self.note(line)

    def note_topic(self, path: Path, topic: str, what: object) -> None:
        """Note damage of one topic, which stops only who asks for the topic."""
        if self.salvage:
            self.report(path, what)
            return
        line = one_line(' '.join(f'{path}: {what}'.split()))
        self._of_topics.setdefault(topic, line)
        self.note(line)

    def check_topics(self, topics: Iterable[str]) -> None:
        """
        Stop if topics are asked for that are damaged.

        :raises DamagedBagError: One is.
        """
        for topic in topics:
            if topic in self._of_topics:
                raise DamagedBagError(f'{self._of_topics[topic]}; {ADVICE}')

    def note_unused(self, path: Path, what: object, *, needed: bool = False) -> None:
        """
        Note damage in what nobody has asked for, or stop there if it is ``needed``, too.

        :raises DamagedBagError: It is needed, and the policy is ``fail``.
        """
        if needed:
            self.report(path, what)
            return
        self.note(' '.join(f'{path}: {what}; it lies in nothing that is converted'.split()))

    def report_error(self, error: BagError) -> None:
        """
        Raise an error, or note it and go on without what it is about.

        :raises DamagedBagError: the policy is ``fail``.
        """
        if not self.salvage:
            raise DamagedBagError(str(error)) from error
        self.count += 1
        self.note(str(error))

    def require_whole(self) -> None:
        """
        Learn that a file is going to be read whole to be opened.

        :raises ReadsWholeError: It must not be.
        """
        if self._quick:
            raise ReadsWholeError

    def note(self, line: str) -> None:
        """Put a line that is no loss of data into the report, once."""
        line = one_line(line)
        if line not in self.problems:
            self.problems.append(line)


def range_text(first: int, last: int) -> str:
    """Text of a range of receive stamps given in ns."""
    return f'from {seconds_text(first)} to {seconds_text(last)} s'


def seconds_text(stamp: int) -> str:
    """Text of a stamp given in ns, in seconds with all its digits."""
    sign = '-' if stamp < 0 else ''
    whole, rest = divmod(abs(stamp), 10**9)
    return f'{sign}{whole}.{rest:09d}'
