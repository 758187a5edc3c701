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
The record ``conversion/report.json``: what a dataset was made from, and how; in short.

What became of each bag is in the tables beside it, see :mod:`.catalogue`. Paths are relative to
the dataset's folder, so that dataset and bags can be moved together and no path of the machine is
told.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import merge
from itertools import groupby
import json
import os
from pathlib import Path
from typing import Any

from kuavo_bag_converter.bags.fingerprint import files_of, fingerprint, Key, same_files
from kuavo_bag_converter.dataset.catalogue import Catalogue, write_catalogue
from kuavo_bag_converter.dataset.former_record import FORMER_FORMATS, read_former_bags
from kuavo_bag_converter.dataset.layout import (
    ALIGNMENT_PATH,
    alignment_path,
    FORMER_ALIGNMENT_PATH,
    REPORT_PATH,
)
from kuavo_bag_converter.dataset.recorded_bag import as_absolute, as_recorded, RecordedBag
from kuavo_bag_converter.profiles.shipped import is_path
from kuavo_bag_converter.settings import is_table, known_settings, Settings, settings_from
from kuavo_bag_converter.support.errors import BagError, UsageError
from kuavo_bag_converter.support.files import write_text
from kuavo_bag_converter.support.plugins import installed_plugins
from kuavo_bag_converter.support.version import __version__

LEROBOT = 'lerobot'
"""The setting ``dataset_format`` of datasets that this package itself writes."""
RECORD_FORMAT = 3
"""The two before it had the bags in report.json, see :mod:`.former_record`."""
_KEYS = ('format', 'converter', 'settings', 'alignment_path', 'totals', 'failures')
_FORMER_KEYS = ('bags', 'topics', 'definitions')


@dataclass(frozen=True)
class ConversionRecord:
    """What a dataset says of how it was made."""

    settings: Mapping[str, Any]
    """By name; paths are absolute."""
    bags: tuple[RecordedBag, ...] = ()
    others: Mapping[str, Any] = field(default_factory=dict)
    """What other programs have added."""
    alignment_path: str = ALIGNMENT_PATH
    """Where it is said which messages serve the frames of a bag, see :func:`.alignment_path`."""
    catalogue: Catalogue | None = field(default=None, compare=False)
    """The tables of the bags; None of a record of a former form."""

    def element_names(self) -> Iterator[Mapping[str, Sequence[str]]]:
        """Yield the names that converted bags give elements which are read by place, by part."""
        if self.catalogue is not None:
            yield from self.catalogue.element_names()
        else:
            yield from (bag.plan.element_names or {} for bag in self.converted)

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

    def having(self, key: Key) -> list[RecordedBag]:
        """Return the bags in the dataset that have files of all these sizes and digests."""
        if not key:
            return list(self.converted)
        return [bag for bag in self._by_file.get(key[0], ()) if {*key} <= {*bag.key}]

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
    document = _read_summary(path)
    try:
        version = document.get('format', 1)
        if version not in (*FORMER_FORMATS, RECORD_FORMAT):
            raise UsageError(
                f'{path}: has format {version}, this version reads 1 to {RECORD_FORMAT}'
            )
        home = os.path.realpath(root) if version > 1 else os.getcwd()
        settings = {
            name: _resolved(name, value, version, home)
            for name, value in document['settings'].items()
        }
        if version in FORMER_FORMATS:
            bags = read_former_bags(document, version, home)
            others = _without(document, (*_KEYS, *_FORMER_KEYS))
            return ConversionRecord(settings, bags, others, FORMER_ALIGNMENT_PATH)
        catalogue, pattern = Catalogue(root), str(document['alignment_path'])
        bags = tuple(catalogue.bags(lambda bag: alignment_path(bag, pattern)))
        declared = document['totals']['bags']['declared']
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f'{path}: is no record of a conversion ({error!r})') from error
    # Bags that failed come to be in the tables before they are counted here.
    if len(bags) < declared:
        raise UsageError(f'{path}: counts {declared} bags, but {len(bags)} are in the tables')
    return ConversionRecord(settings, bags, _without(document, _KEYS), pattern, catalogue)


def _read_summary(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f'{path}: cannot be read: {error.strerror}') from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f'{path}: is no record of a conversion ({error!r})') from error


def format_of(root: Path) -> str:
    """Return the ``dataset_format`` of a dataset; LeRobot's where no record says another."""
    try:
        return str(_read_summary(root / REPORT_PATH)['settings'].get('dataset_format', LEROBOT))
    except (FileNotFoundError, UsageError, LookupError, TypeError, AttributeError):
        return LEROBOT


def write_record(
    folder: Path,
    root: Path,
    settings: Mapping[str, Any],
    bags: Iterable[RecordedBag],
    fps: float,
    before: ConversionRecord | None = None,
    pattern: str = ALIGNMENT_PATH,
) -> None:
    """
    Write the record of a dataset: its tables, then the summary.

    :param folder: Where the dataset is being put together.
    :param root: Where it is going to be, without links; paths are recorded relative to it.
    :param settings: It was made with them; paths are absolute.
    :param bags: What is new or has changed, in the order of their numbers.
    :param fps: Frames per second.
    :param before: The record that it has grown from.
    :param pattern: Where the alignment of bags is.
    """
    if before is not None and before.catalogue is None:
        both = groupby(merge(before.bags, bags, key=_number), key=_number)
        bags = ([*same][-1] for _, same in both)  # what is new comes after what was there
    catalogue = None if before is None else before.catalogue
    totals = write_catalogue(folder, root, bags, fps, catalogue)
    document = {
        'format': RECORD_FORMAT,
        'converter': {
            'name': 'kuavo_bag_converter',
            'version': __version__,
            **installed_plugins(),
        },
        'settings': _relative(settings, root),
        'alignment_path': pattern,
        **totals.as_json(),
        **({} if before is None else before.others),
    }
    write_text(folder / REPORT_PATH, json.dumps(document, indent=2, ensure_ascii=False))


def _number(bag: RecordedBag) -> int:
    return bag.number


def _relative(settings: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Return settings with the paths in them made relative to the dataset."""
    relative = dict(settings)
    if 'msg_path' in relative:
        relative['msg_path'] = [as_recorded(folder, root) for folder in relative['msg_path']]
    if is_path(relative.get('profile', '')):
        relative['profile'] = as_recorded(relative['profile'], root)
    if is_table(relative.get('tasks', '')):
        relative['tasks'] = as_recorded(relative['tasks'], root)
    return relative


def _without(document: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in keys}


def _resolved(name: str, value: Any, version: int, home: str) -> Any:
    """Return a setting with the paths in it made absolute."""
    place = as_absolute if version > 1 else os.path.join
    if name == 'msg_path':
        return [str(place(home, folder)) for folder in value]
    if (name == 'profile' and is_path(value)) or (name == 'tasks' and is_table(value)):
        return str(place(home, value))
    return value
