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

"""Bags of other machines are copied before their turn comes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
import threading

from kuavo_bag_converter.support.errors import ConverterError
from kuavo_bag_converter.support.remote.spool import held, is_stub


class Prefetch:
    """Copies one recording while another one is converted, if the spool has room for both."""

    def __init__(self, cancel: threading.Event) -> None:
        """Copy nothing yet; ``cancel`` is set to stop."""
        self._cancel = cancel
        self._done: dict[int, threading.Event] = {}

    def start(self, number: int, paths: Sequence[Path], following: Sequence[Path]) -> None:
        """
        Copy a recording that is going to be converted now, and then the one that follows.

        What goes wrong is found when they are converted.

        :param number: Of the first one, for :meth:`finish`.
        :param paths: Its files.
        :param following: Those of the other one.
        """
        if any(map(is_stub, (*paths, *following))):
            done = self._done[number] = threading.Event()
            threading.Thread(
                target=self._copy, args=(paths, following, done), daemon=True, name='prefetch'
            ).start()

    def _copy(
        self, paths: Sequence[Path], following: Sequence[Path], done: threading.Event
    ) -> None:
        # The first one must have its room before the next one takes any.
        current, ahead = held(paths, self._cancel), held(following, self._cancel, wait=False)
        with suppress(ConverterError, OSError), current, ahead:
            done.wait()

    def finish(self, number: int) -> None:
        """Let go of a recording that is converted."""
        if number in self._done:
            self._done.pop(number).set()

    def close(self) -> None:
        """Let go of all."""
        for number in list(self._done):
            self.finish(number)
