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

r"""
The record ``conversion/report.json``: what a dataset was made from, and how.

Paths in it are relative to the dataset's folder, so that dataset and bags can be moved together
and no path of the machine is told. In names, backslashes and what is not UTF-8 are escaped
(``\x5c``, ``\udcb2``).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
import json
import os
from pathlib import Path
import re
from typing import Any

from kuavo_bag_converter.alignment.report import PlanReport
from kuavo_bag_converter.bags.fingerprint import (
    files_of,
    Fingerprint,
    fingerprint,
    Key,
    same_files,
)
from kuavo_bag_converter.dataset.layout import ALIGNMENT_PATH, REPORT_PATH
from kuavo_bag_converter.profiles.shipped import is_path
from kuavo_bag_converter.settings import is_table, known_settings, Settings, settings_from
from kuavo_bag_converter.support.errors import BagError, UsageError
from kuavo_bag_converter.support.files import write_text
from kuavo_bag_converter.support.places import is_url, name_of
from kuavo_bag_converter.support.plugins import installed_plugins
from kuavo_bag_converter.support.texts import visible
from kuavo_bag_converter.support.version import __version__

LEROBOT = 'lerobot'
"""The setting ``dataset_format`` of datasets that this package itself writes."""
RECORD_FORMAT = 2
"""The first one had no number, the bags' paths as they were given, and one path for each bag."""
_KEYS = ('format', 'converter', 'settings', 'bags', 'topics', 'definitions')
_BAG_KEYS = ('bag', 'status', 'reason', 'task', 'episodes', 'frames', 'problems', 'plan',
             'first_episode', 'files', 'topics', 'labels', 'encoders', 'cameras',
             'static_transforms', 'fingerprint')  # fmt: skip
"""The keys that this converter writes, the last in the first form."""
_CALIBRATION = ('cameras', 'static_transforms')


@dataclass(frozen=True)
class RecordedFile:
    """A file of a bag as it was when it was converted."""

    path: Path
    bytes: int  # noqa: A003
    """-1 where it could not be read."""
    digest: str

    def as_json(self, root: Path) -> dict[str, Any]:
        """Return what the record of the dataset at ``root`` holds of it."""
        path = as_recorded(self.path, root)
        return {'path': path, 'bytes': self.bytes, 'digest': self.digest}


class _Topics:
    """What bags say of their topics, each description and each definition once."""

    def __init__(self) -> None:
        self.described: list[Mapping[str, Any]] = []
        self.definitions: dict[str, Mapping[str, Any]] = {}
        """By type, followed by a number where bags define it differently."""
        self._places: dict[str, int] = {}

    def place_of(self, topic: Mapping[str, Any]) -> int:
        """Return the position of a description among :attr:`described`."""
        if 'definition' in topic:
            topic = {**topic, 'definition': self._name_of(topic['type'], topic['definition'])}
        place = self._places.setdefault(json.dumps(topic), len(self.described))
        if place == len(self.described):
            self.described.append(topic)
        return place

    def _name_of(self, msgtype: str, definition: Mapping[str, Any]) -> str:
        names = (msgtype if number == 1 else f'{msgtype} ({number})' for number in count(1))
        return next(
            name for name in names if self.definitions.setdefault(name, definition) == definition
        )


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
    problems: tuple[str, ...] = ()
    """What its reader noticed, each in a line."""
    plan: PlanReport = field(default_factory=PlanReport)
    """How its frames were aligned, if it was converted."""
    task: str = ''
    """Of its frames where nothing in it names another; '' where a former version told none."""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """``cameras`` and ``static_transforms``, as far as the bag has them."""
    topics: tuple[Mapping[str, Any], ...] = ()
    """What it says of the topics that were used, see :func:`.described_topics`."""
    labels: Mapping[str, str | None] = field(default_factory=dict)
    """What was noted of it, by the keys of the setting ``labels``."""
    encoders: Mapping[str, str] = field(default_factory=dict)
    """FFmpeg's names of the encoders of its cameras, where they were chosen among several."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """What other programs have added."""

    def as_json(self, root: Path, topics: _Topics) -> dict[str, Any]:
        """Return what the record of the dataset at ``root`` holds of it; fills ``topics``."""
        return {
            'bag': as_recorded(self.path, root),
            'status': self.status,
            'reason': self.reason,
            'task': self.task,
            'episodes': self.episodes,
            'frames': self.frames,
            'problems': list(self.problems),
            'plan': self.plan.as_json() if self.converted else {},
            'first_episode': self.first_episode,
            'files': [file.as_json(root) for file in self.files],
            'topics': [topics.place_of(topic) for topic in self.topics],
            **({'labels': dict(self.labels)} if self.labels else {}),
            **({'encoders': dict(self.encoders)} if self.encoders else {}),
            **self.calibration,
            **self.others,
        }

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

    @property
    def alignment_path(self) -> str:
        """Return the file that says which messages serve its frames."""
        return ALIGNMENT_PATH.format(bag=self.number)


@dataclass(frozen=True)
class ConversionRecord:
    """What ``conversion/report.json`` of a dataset says."""

    settings: Mapping[str, Any]
    """By name; paths are absolute."""
    bags: tuple[RecordedBag, ...]
    others: Mapping[str, Any] = field(default_factory=dict)
    """What other programs have added."""

    def as_json(self, root: Path) -> dict[str, Any]:
        """Return what the dataset at ``root`` holds of it; paths are relative to there."""
        settings = dict(self.settings)
        if 'msg_path' in settings:
            settings['msg_path'] = [as_recorded(folder, root) for folder in settings['msg_path']]
        if is_path(settings.get('profile', '')):
            settings['profile'] = as_recorded(settings['profile'], root)
        if is_table(settings.get('tasks', '')):
            settings['tasks'] = as_recorded(settings['tasks'], root)
        topics = _Topics()
        bags = [bag.as_json(root, topics) for bag in self.bags]
        return {
            'format': RECORD_FORMAT,
            'converter': {
                'name': 'kuavo_bag_converter',
                'version': __version__,
                **installed_plugins(),
            },
            'settings': settings,
            'bags': bags,
            'topics': topics.described,
            'definitions': topics.definitions,
            **self.others,
        }

    def known_settings(self, source: str) -> Settings:
        """
        Return the settings that this version knows.

        :param source: Where they are from, for errors.
        :raises UsageError: One has a value that it cannot have.
        """
        known = known_settings()
        given = {name: value for name, value in self.settings.items() if name in known}
        return settings_from(given, source)

    @cached_property
    def converted(self) -> tuple[RecordedBag, ...]:
        """Return the bags whose frames are in the dataset, in the order of their episodes."""
        bags = [bag for bag in self.bags if bag.converted]
        return tuple(sorted(bags, key=lambda bag: bag.first_episode))

    @cached_property
    def _starts(self) -> list[int]:
        return [bag.first_episode for bag in self.converted]

    def wrote(self, episode: int) -> bool:
        """Whether the conversion wrote an episode of the dataset."""
        after = bisect_right(self._starts, episode)
        if not after:
            return False
        bag = self.converted[after - 1]
        return episode < bag.first_episode + bag.episodes

    def holds(self, paths: Sequence[Path], key: Key) -> bool:
        """
        Tell whether the dataset has all files of a recording, be it as several bags.

        Equal keys are taken for equal files only if the bytes are equal, where the file that the
        dataset was made from is still at hand as it was.
        """
        return bool(key) and all(self.holders(paths, key).values())

    def holders(self, paths: Sequence[Path], key: Key) -> dict[Path, RecordedBag | None]:
        """Return for each file of a recording the bag of the dataset that has it, if one has."""
        return {
            path: next((bag for bag in self._by_file.get(one, ()) if _has(bag, path, one)), None)
            for path, one in zip(_files(paths), key, strict=False)
        }

    @cached_property
    def _by_file(self) -> dict[tuple[int, str], list[RecordedBag]]:
        """Return the bags in the dataset by the size and digest of their files."""
        found: dict[tuple[int, str], list[RecordedBag]] = {}
        for bag in self.converted:
            for one in dict.fromkeys(bag.key):
                found.setdefault(one, []).append(bag)
        return found


def _has(bag: RecordedBag, path: Path, one: tuple[int, str]) -> bool:
    """Tell whether a file is one that a bag was converted from, which may be gone or changed."""
    there = next((file.path for file in bag.files if (file.bytes, file.digest) == one), None)
    return there is not None and (same_files([path], [there]) or not _is_as(there, one))


def _is_as(path: Path, one: tuple[int, str]) -> bool:
    """Tell whether a file is still there with this size and digest."""
    try:
        return os.path.isfile(path) and fingerprint([path]).key == (one,)
    except BagError:
        return False


def _files(paths: Sequence[Path]) -> list[Path]:
    try:
        return files_of(paths)
    except BagError:
        return []


def read_record(root: Path) -> ConversionRecord:
    """
    Read the record of a dataset.

    :raises FileNotFoundError: It has none.
    :raises UsageError: It cannot be read, or has another form.
    """
    path = root / REPORT_PATH
    try:
        document = json.loads(path.read_text(encoding='utf-8'))
        version = document.get('format', 1)
        if version not in (1, RECORD_FORMAT):
            raise UsageError(
                f'{path}: has format {version}, this version reads 1 and {RECORD_FORMAT}'
            )
        home = os.path.realpath(root) if version > 1 else os.getcwd()
        topics = _read_topics(document)
        bags = [
            _read_bag(number, bag, version, home, topics)
            for number, bag in enumerate(document['bags'])
        ]
        settings = {
            name: _resolved(name, value, version, home)
            for name, value in document['settings'].items()
        }
        return ConversionRecord(settings, tuple(bags), _without(document, _KEYS))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f'{path}: cannot be read: {error.strerror}') from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f'{path}: is no record of a conversion ({error!r})') from error


def format_of(root: Path) -> str:
    """Return the ``dataset_format`` of a dataset; LeRobot's where no record says another."""
    try:
        return str(read_record(root).settings.get('dataset_format', LEROBOT))
    except (FileNotFoundError, UsageError):
        return LEROBOT


def write_record(record: ConversionRecord, folder: Path, root: Path) -> None:
    """
    Write the record of a dataset.

    :param record: The record.
    :param folder: Where the dataset is being put together.
    :param root: Where it is going to be, without links; paths are recorded relative to it.
    """
    text = json.dumps(record.as_json(root), indent=2, ensure_ascii=False)
    write_text(folder / REPORT_PATH, text)


def _without(document: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in keys}


def _read_topics(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the described topics that bags refer to, each with its definition."""
    definitions = document.get('definitions', {})
    return [
        {**topic, 'definition': definitions[topic['definition']]}
        if 'definition' in topic
        else topic
        for topic in document.get('topics', ())
    ]


def _read_bag(
    number: int,
    entry: Mapping[str, Any],
    version: int,
    home: str,
    topics: Sequence[Mapping[str, Any]],
) -> RecordedBag:
    if version > 1:
        path = _place(home, entry['bag'])
        files = [
            RecordedFile(_place(home, file['path']), int(file['bytes']), str(file['digest']))
            for file in entry['files']
        ]
    else:
        path = Path(os.path.normpath(os.path.join(home, str(entry['bag']))))
        files = _files_of_first_form(path, entry.get('fingerprint'))
    status = str(entry['status'])
    bag = RecordedBag(
        number,
        path,
        tuple(files),
        status,
        str(entry['reason']),
        int(entry['first_episode']),
        int(entry['episodes']),
        int(entry['frames']),
        tuple(map(str, entry.get('problems', ()))),
        PlanReport.from_json(entry['plan']),
        str(entry.get('task', '')),
        {name: entry[name] for name in _CALIBRATION if name in entry},
        tuple(topics[place] for place in entry.get('topics', ())),
        dict(entry.get('labels', {})),
        dict(entry.get('encoders', {})),
        _without(entry, _BAG_KEYS),
    )
    if bag.converted and (bag.first_episode < 0 or bag.episodes < 1 or not bag.files):
        raise ValueError(f'bag {number}: without episodes or files')
    return bag


def _files_of_first_form(path: Path, recorded: Mapping[str, Any] | None) -> list[RecordedFile]:
    if recorded is None:
        return []
    known = Fingerprint.from_json(recorded)
    names = [Path(file.name).name for file in known.files]
    folder = path.parent if path.name in names else path
    return [
        RecordedFile(folder / Path(file.name).name, file.bytes, file.digest)
        for file in known.message_files
    ]


def _resolved(name: str, value: Any, version: int, home: str) -> Any:
    """Return a setting with the paths in it made absolute."""
    place = _place if version > 1 else os.path.join
    if name == 'msg_path':
        return [str(place(home, folder)) for folder in value]
    if (name == 'profile' and is_path(value)) or (name == 'tasks' and is_table(value)):
        return str(place(home, value))
    return value


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


def _place(home: str, recorded: str) -> Path:
    """Return the absolute path that :func:`as_recorded` has written."""
    text = re.sub(
        r'\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|[ntr])',
        lambda match: match[0].encode().decode('unicode_escape'),
        recorded,
    )
    return Path(text if is_url(text) else os.path.normpath(os.path.join(home, text)))
