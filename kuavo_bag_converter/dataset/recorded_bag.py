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

"""A bag of the record of a conversion: what it was, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
import os
from pathlib import Path
import re
from typing import Any

from kuavo_bag_converter.alignment.report import PlanReport
from kuavo_bag_converter.bags.fingerprint import Key
from kuavo_bag_converter.profiles.model import TimeRange
from kuavo_bag_converter.support.places import is_url, name_of
from kuavo_bag_converter.support.texts import visible


@dataclass(frozen=True)
class RecordedFile:
    """A file of a bag as it was when it was converted."""

    path: Path
    bytes: int  # noqa: A003
    """-1 where it could not be read."""
    digest: str


@dataclass(frozen=True)
class BagDetails:
    """What is recorded of a bag and seldom needed: read when it is asked for, bag by bag."""

    problems: tuple[str, ...] = ()
    """What its reader noticed, each in a line."""
    plan: PlanReport = field(default_factory=PlanReport)
    """How its frames were aligned, if it was converted."""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """``cameras`` and ``static_transforms``, as far as the bag has them."""
    topics: tuple[Mapping[str, Any], ...] = ()
    """What it says of the topics that were used, see :func:`.described_topics`."""
    labels: Mapping[str, str | None] = field(default_factory=dict)
    """What was noted of it."""
    encoders: Mapping[str, str] = field(default_factory=dict)
    """FFmpeg's names of the encoders of its cameras, where they were chosen among several."""
    ranges: tuple[TimeRange, ...] = ()
    """Pieces that it was cut into, where these were given by their times."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """What other programs have added."""


@dataclass(frozen=True)
class RecordedBag:
    """One bag of the record; all paths are absolute."""

    number: int
    """Its position in the record."""
    path: Path
    """The bag file, the first of several, or the rosbag2 directory."""
    files: tuple[RecordedFile, ...]
    """The files that hold its messages; empty where a former version named none."""
    status: str
    """``converted``, ``failed`` or ``skipped``."""
    reason: str
    """Why it is not in the dataset."""
    first_episode: int
    """Index in the dataset."""
    episodes: int
    frames: int
    task: str = ''
    """Of its frames where nothing in it names another; '' where a former version told none."""
    alignment_path: str = ''
    """The file of the dataset that says which messages serve its frames."""
    read_details: Callable[[], BagDetails] = field(default=BagDetails, compare=False, repr=False)
    """Reads :attr:`details`."""

    @property
    def details(self) -> BagDetails:
        """
        Return the rest of what is recorded of it.

        :raises UsageError: It cannot be read any more.
        """
        return self.read_details()

    @property
    def plan(self) -> PlanReport:
        """Return how its frames were aligned, see :attr:`details`."""
        return self.details.plan

    @property
    def name(self) -> str:
        """Its path as it is printed."""
        return visible(name_of(self.path))

    @property
    def converted(self) -> bool:
        """Whether its episodes are in the dataset."""
        return self.status == 'converted'

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return what to open: its files, or its directory."""
        files = tuple(file.path for file in self.files)
        return files if self.path in files else (self.path,)

    @property
    def key(self) -> Key:
        """Return what it is recognised by."""
        return tuple((file.bytes, file.digest) for file in self.files)


def as_recorded(path: str | Path, root: str | Path) -> str:
    """
    Return a path as the record of the dataset at ``root`` holds it.

    Links in the path's folders are followed, its own name stays. The root has no links.
    """
    if is_url(url := name_of(path)):
        return visible(url.replace('\\', '\\x5c'))
    folder, name = os.path.split(path)
    place = os.path.realpath(path)
    if name not in ('', '.', '..'):
        place = os.path.join(os.path.realpath(folder), name)
    relative = os.path.relpath(place, root)
    # A name alone would be taken for a shipped profile.
    relative = relative if '/' in relative else os.path.join('.', relative)
    return visible(relative.replace('\\', '\\x5c'))


def as_absolute(home: str, recorded: str) -> Path:
    """Return the absolute path that :func:`as_recorded` has written."""
    text = recorded
    if '\\' in text:
        text = re.sub(
            r'\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|[ntr])',
            lambda match: match[0].encode().decode('unicode_escape'),
            recorded,
        )
    return Path(text if is_url(text) else os.path.normpath(os.path.join(home, text)))
