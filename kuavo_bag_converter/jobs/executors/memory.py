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

"""How much memory tasks beside each other may take, by what such tasks were seen to need."""

from __future__ import annotations

from kuavo_bag_converter.support.machine import available_bytes
from kuavo_bag_converter.support.process import MB, resident_bytes

_UNKNOWN_MB = 400.0
"""What a task is taken to need before one was measured."""
_MARGIN = 1.1
_OF_AVAILABLE = 0.8
_NEARLY_ALL = 0.9
_GROWTH = 0.03
_OF_LIMIT = 0.95
"""The rest is for what a process takes between two looks at its memory."""


class MemoryBudget:
    """
    Shares the memory of a run out to its tasks.

    With a limit, each task is held to its share, and one that does not suffice is doubled. Without
    one, a task is begun if what is free suffices for the most that one of its kind has taken.
    """

    def __init__(self, limit_mb: int, jobs: int) -> None:
        """
        Share the memory of a run.

        :param limit_mb: What all of its processes may have together, MB; 0 is no limit.
        :param jobs: Tasks beside each other, at most.
        """
        self.limited = limit_mb > 0
        self._total = float(limit_mb) or available_bytes() / MB * _OF_AVAILABLE
        self._jobs = jobs
        self._peaks: dict[str, float] = {}
        self._too_small: dict[str, float] = {}
        """Shares that did not suffice, by kind; the largest one."""

    @property
    def room_mb(self) -> float:
        """Return what all tasks together may take, MB."""
        if not self.limited:
            return self._total
        return self._total * _OF_LIMIT - resident_bytes() / MB

    def measured(self, kind: str, peak_mb: float) -> None:
        """Learn what the process of a task has taken."""
        self._peaks[kind] = max(self._peaks.get(kind, 0.0), peak_mb)

    def did_not_suffice(self, kind: str, share_mb: float) -> None:
        """Learn that a task could not be done with a share."""
        self._too_small[kind] = max(self._too_small.get(kind, 0.0), share_mb)

    def expected_mb(self, kind: str) -> float:
        """Return what a task of a kind is taken to need, MB: what such ones have, or any."""
        known = self._peaks.get(kind) or max(self._peaks.values(), default=0.0)
        return known * _MARGIN or _UNKNOWN_MB

    def share(self, kind: str, running_mb: list[float]) -> float | None:
        """
        Return what a task is given beside others, MB; None if it must wait for them.

        :param kind: Of the task.
        :param running_mb: What each of the others was given, or takes if that is more.
        :return: 0 if it takes more than all that there is, alone.
        """
        room = self.room_mb
        if self.limited:
            too_small = self._too_small.get(kind, 0.0)
            if too_small > _NEARLY_ALL * room:
                return None if running_mb else 0.0
            share = max(room / self._jobs, min(2 * too_small, room))
        else:
            share = self.expected_mb(kind)
        # With a limit, this process may have grown since the others were given their shares.
        most = room * (1 + _GROWTH) if self.limited else room
        if not running_mb or share + sum(running_mb) <= most:
            return max(share, 0.0)
        return None
