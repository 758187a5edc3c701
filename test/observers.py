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

"""Observers of runs: those that keep what is said, and one that stops a run."""

from __future__ import annotations

import threading

from kuavo_bag_converter.jobs.report import Observer


class Notes(Observer):
    """Keeps the notes."""

    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


class Warnings(Notes):
    """Keeps the notes and the warnings."""

    def warning(self, text):
        self.note(text)


class CancelAfter(Observer):
    """Cancels a run when so many bags are finished."""

    def __init__(self, bags):
        self.left = bags
        self.cancel = threading.Event()

    def bag_finished(self, number, outcome, plan):
        self.left -= 1
        if self.left == 0:
            self.cancel.set()
