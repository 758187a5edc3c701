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
One of several parts of a run, each a process of its own on any machine.

A part lies in ``<output>.parts/00001-of-00004``: the shards of its bags, what became of each, and
the settings. Under this name it is finished; until then the name ends in ``.unfinished``, and the
folder is the workspace of its run. :mod:`.assemble_parts` makes the dataset of all parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, fields, replace
import hashlib
import json
import os
from pathlib import Path
import re
import threading
import time
from typing import Any, NamedTuple

from kuavo_bag_converter.bags.fingerprint import fingerprint
from kuavo_bag_converter.dataset.agreement import Agreement, ShardFormat
from kuavo_bag_converter.dataset.features import Feature, VideoOptions
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.frames.stream import Filler
from kuavo_bag_converter.jobs.bag_converter import BagConverter
from kuavo_bag_converter.jobs.bags import Bag, find_bags
from kuavo_bag_converter.jobs.bags_to_shards import BagsToShards, Conversion
from kuavo_bag_converter.jobs.executors.choose import choose_executor
from kuavo_bag_converter.jobs.folders.configuration import configuration, differences
from kuavo_bag_converter.jobs.folders.workspace import InUseError, PART, PART_SETTINGS, Workspace
from kuavo_bag_converter.jobs.report import Observer, Outcome, Report
from kuavo_bag_converter.jobs.shard import Origin
from kuavo_bag_converter.profiles.dump import profile_as_yaml
from kuavo_bag_converter.profiles.model import TimeRange
from kuavo_bag_converter.profiles.shipped import is_path
from kuavo_bag_converter.settings import is_table, known_settings, Settings, values_of
from kuavo_bag_converter.support.errors import BagError, DatasetError, UsageError
from kuavo_bag_converter.support.files import total_bytes, write_text
from kuavo_bag_converter.support.places import is_url, name_of, plain_url
from kuavo_bag_converter.support.process import peak_memory_mb

PART_FORMAT = 2
_NAME = re.compile(r'(\d+)-of-(\d+)')


class PartOf(NamedTuple):
    """Which part of how many, from 1."""

    number: int
    parts: int

    def __str__(self) -> str:
        return f'{self.number}/{self.parts}'

    @staticmethod
    def of(settings: Settings) -> PartOf:
        """
        Return the part that settings ask for.

        :raises UsageError: It is none, or is asked for where there are no parts.
        """
        found = re.fullmatch(r'(\d+)/(\d+)', settings.shard)
        part = PartOf(int(found[1]), int(found[2])) if found else PartOf(0, 0)
        if not 1 <= part.number <= part.parts:
            raise UsageError(
                f'shard: expected I/N with I from 1 to N, such as 1/4, found {settings.shard!r}'
            )
        if settings.append or settings.retry_failed:
            raise UsageError(
                'shard: has no meaning with append and retry_failed; convert the bags to a '
                'dataset of their own, and merge the two'
            )
        return part

    @staticmethod
    def named(folder: Path) -> PartOf | None:
        """Return the part that a finished one's folder is."""
        found = _NAME.fullmatch(folder.name)
        return PartOf(int(found[1]), int(found[2])) if found else None

    def folder(self, output: Path) -> Path:
        """Return where it lies when it is finished."""
        return parts_folder(output) / f'{self.number:05d}-of-{self.parts:05d}'

    def members(self, sizes: Sequence[int]) -> list[int]:
        """
        Return the places of its bags among all, ascending.

        The largest bag goes to the part that has least so far, then the next one: of the same bags
        all parts find the same, and no two the same bag.
        """
        filled = [(0, number) for number in range(1, self.parts + 1)]
        mine = []
        for place in sorted(range(len(sizes)), key=lambda place: (-sizes[place], place)):
            least, number = min(filled)
            # A bag costs something even if it is empty.
            filled[number - 1] = (least + max(1, sizes[place]), number)
            if number == self.number:
                mine.append(place)
        return sorted(mine)


def parts_folder(output: Path) -> Path:
    """Return the folder of the parts of a dataset that is going to be at ``output``."""
    return output.with_name(output.name + '.parts')


@dataclass(frozen=True)
class FinishedPart:
    """What ``part.json`` of a finished part says."""

    folder: Path
    part: PartOf
    configuration: Mapping[str, Any]
    inputs: str
    """A digest of the list of all bags."""
    bags: int
    """How many there are in all parts."""
    settings: Mapping[str, Any]
    """By name; paths are absolute."""
    profile: str
    """As YAML; '' if no bag has settled it."""
    outcomes: Mapping[int, Outcome]
    """What became of its bags, by their numbers among all, from 1."""
    formats: Mapping[int, ShardFormat]
    """What first messages told, by the same: sizes, codings, names and topics."""

    def write(self, folder: Path) -> None:
        """Write it to a folder, durable on return."""
        document = {
            'format': PART_FORMAT,
            'part': list(self.part),
            'configuration': self.configuration,
            'inputs': self.inputs,
            'bags': self.bags,
            'settings': self.settings,
            'profile': self.profile,
            'outcomes': {number: _outcome_as_json(one) for number, one in self.outcomes.items()},
            'formats': {
                number: {
                    'sizes': dict(one.sizes),
                    'codings': dict(one.codings),
                    'names': {part: list(names) for part, names in one.names.items()},
                    'topics': dict(one.topics),
                }
                for number, one in self.formats.items()
            },
        }
        write_text(folder / PART, json.dumps(document))

    @staticmethod
    def read(folder: Path) -> FinishedPart:
        """
        Read that of a finished part.

        :raises DatasetError: It cannot be read.
        """
        try:
            document = json.loads((folder / PART).read_text(encoding='utf-8'))
            if document['format'] != PART_FORMAT:
                raise ValueError(f'format {document["format"]}')
            return FinishedPart(
                folder,
                PartOf(*document['part']),
                document['configuration'],
                document['inputs'],
                document['bags'],
                document['settings'],
                document['profile'],
                {
                    int(number): _outcome_from_json(one, folder)
                    for number, one in document['outcomes'].items()
                },
                {int(n): _format_from_json(one) for n, one in document['formats'].items()},
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise DatasetError(
                f'{folder / PART}: is not of a finished part ({error!r})'
            ) from error


def _outcome_as_json(outcome: Outcome) -> dict[str, Any]:
    known = {item.name: getattr(outcome, item.name) for item in fields(outcome)}
    shard = None if outcome.shard is None else outcome.shard.name
    return {
        **known,
        'shard': shard,
        'paths': [_absolute(path) for path in outcome.paths],
        'ranges': list(map(astuple, outcome.ranges)),
    }


def _outcome_from_json(document: Mapping[str, Any], folder: Path) -> Outcome:
    known = {name: _as_tuple(value) for name, value in document.items()}
    shard = known['shard']
    known['shard'] = None if shard is None else folder / 'shards' / shard
    known['ranges'] = tuple(TimeRange(*one) for one in known['ranges'])
    return Outcome(**{**known, 'paths': tuple(map(Path, known['paths']))})


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _format_from_json(document: Mapping[str, Any]) -> ShardFormat:
    cameras = [Feature(key, 'video', (*size, 3)) for key, size in document['sizes'].items()]
    video = {
        key: VideoOptions(vcodec=codec, pix_fmt=pix_fmt, copied=copied)
        for key, (codec, pix_fmt, copied) in document['codings'].items()
    }
    names = {part: tuple(names) for part, names in document['names'].items()}
    return ShardFormat(tuple(cameras), video, 0, '', document['topics'], names)


class _AgreementLater(Agreement):
    """Refuses nothing that all bags must agree in, which only their list together can tell."""

    def __init__(self, version: str) -> None:
        super().__init__(version, None)
        self.formats: dict[str, ShardFormat] = {}
        """What first messages have told, by bag."""

    @property
    def is_settled(self) -> bool:
        """Return that no bag has to settle anything."""
        return True

    def settle(self, formats: Mapping[str, ShardFormat]) -> None:
        """Keep what the first messages of bags tell, by name."""
        self.formats.update(formats)

    def check_agreement(self, name: str, shard_format: ShardFormat) -> None:
        """Take any form."""


def convert_part(
    settings: Settings, output: Path, observer: Observer, cancel: threading.Event, fill: Filler
) -> Report:
    """
    Convert the bags of a part; a finished one is checked and left as it is.

    :param settings: What to do; ``shard`` says which part.
    :param output: Of the dataset, without links.
    :param observer: Is told how it goes on.
    :param cancel: Set it to stop soon.
    :param fill: Brings the messages of a bag to its frames.
    :raises UsageError: The settings cannot be carried out.
    :raises Cancelled: ``cancel`` was set.
    """
    started = time.monotonic()
    part = PartOf.of(settings)
    if os.path.lexists(output):
        raise UsageError(f'{output}: exists already; choose another output, or remove it')
    bags = find_bags(settings, None, observer.note)
    sizes = [total_bytes(bag.paths) for bag in bags]
    members = part.members(sizes)
    mine = [bags[place] for place in members]
    folder = part.folder(output)
    description = FinishedPart(
        folder,
        part,
        json.loads(json.dumps(configuration(settings))),
        _digest(bags, sizes),
        len(bags),
        _movable(settings),
        '',
        {},
        {},
    )
    observer.bags_found([bag.name for bag in mine])
    finished = _finished(description, dict(zip(members, mine, strict=True)))
    if finished is not None:
        for number, outcome in enumerate(finished, start=1):
            observer.bag_finished(number, outcome, None)
        return Report(folder, finished, time.monotonic() - started, peak_memory_mb())
    _take_back(folder)
    with Workspace(folder) as workspace:
        run = Conversion(settings, workspace, None, observer, cancel)
        converter = BagConverter(settings, workspace.shards, None, fill)
        agreement = _AgreementLater(settings.lerobot_version)
        converter.agreement = agreement
        workspace.prepare(description.configuration, redo=settings.on_change == 'redo')
        run.pass_notes_on()
        executor = choose_executor(settings, len(mine), cancel)
        try:
            if len(bags) > 1:
                all_bags = BagsToShards(run, converter, executor, bags)
                all_bags.settle_profile()
                all_bags.settle_copies()
            is_whole = len(bags) == 1
            outcomes = BagsToShards(run, converter, executor, mine, is_whole=is_whole).outcomes()
        finally:
            executor.close()
        profile = converter.profile.profile
        numbers = {bag.name: place + 1 for place, bag in zip(members, mine, strict=True)}
        done = replace(
            description,
            profile='' if profile is None else profile_as_yaml(profile),
            outcomes={numbers[outcome.bag]: outcome for outcome in outcomes},
            formats={numbers[name]: one for name, one in agreement.formats.items()},
        )
        done.write(workspace.root)
        write_text(workspace.root / PART_SETTINGS, _as_parameters(settings, description.settings))
        workspace.keep_as_part()
    run.pass_notes_on()
    alignment = tuple(run.alignment.topics())
    peak_mb = max(peak_memory_mb(), executor.peak_memory_mb)
    return Report(folder, tuple(outcomes), time.monotonic() - started, peak_mb, alignment)


def _digest(bags: Sequence[Bag], sizes: Sequence[int]) -> str:
    """Return what tells lists of bags apart, wherever these are mounted."""
    places = [bag.place for bag in bags]
    local = [os.path.dirname(place) for place in places if not is_url(place)]
    common = os.path.commonpath(local) if local else ''
    known = [
        (
            place if is_url(place) else os.path.relpath(place, common),
            len(bag.paths),
            size,
            bag.task,
            bag.labels,
            [*map(astuple, bag.ranges)],
        )
        for place, bag, size in zip(places, bags, sizes, strict=True)
    ]
    return hashlib.blake2b(json.dumps(known).encode(), digest_size=16).hexdigest()


def _movable(settings: Settings) -> dict[str, Any]:
    """Return all settings by name, with paths that hold in any folder."""
    values: dict[str, Any] = values_of(settings)
    for name, is_place in (('bags', True), ('msg_path', True), ('output', True),
                           ('profile', is_path(settings.profile)),
                           ('tasks', is_table(settings.tasks))):  # fmt: skip
        if is_place:
            given = values[name]
            values[name] = (
                [*map(_absolute, given)] if isinstance(given, list) else _absolute(given)
            )
    return values


def _absolute(path: str | Path) -> str:
    """Return a path that holds in any folder, or a URL without its secrets."""
    name = name_of(path)
    return plain_url(name) if is_url(name) else os.path.abspath(path)


def _as_parameters(settings: Settings, values: Mapping[str, Any]) -> str:
    """Return the settings that are not the default ones as a file of ROS parameters."""
    import yaml

    given = {
        name: values[name]
        for name, info in known_settings().items()
        if name != 'shard' and not info.is_default_in(settings)
    }
    document = {'/**': {'ros__parameters': given}}
    return str(yaml.safe_dump(document, sort_keys=False))


def _finished(wanted: FinishedPart, bags: Mapping[int, Bag]) -> tuple[Outcome, ...] | None:
    """
    Return the outcomes of a part that is finished, if nothing in it is left to be done.

    :param wanted: What it must be made of.
    :param bags: Its bags, by their places among all.
    """
    try:
        found = FinishedPart.read(wanted.folder)
        same = found.inputs == wanted.inputs and not differences(
            found.configuration, wanted.configuration
        )
        if not same or found.outcomes.keys() != {place + 1 for place in bags}:
            return None
        for number, outcome in found.outcomes.items():
            if outcome.shard is None:
                return None
            origin = Origin.of(Shard.load(outcome.shard, whole=True))
            if origin.fingerprint.key != fingerprint(bags[number - 1].paths).key:
                return None
    except (BagError, DatasetError):
        return None
    return tuple(replace(found.outcomes[place + 1], status='kept') for place in bags)


def _take_back(folder: Path) -> None:
    """Make a finished part an unfinished one again, of which finished shards are taken over."""
    with suppress(OSError):
        folder.rmdir()  # the name was claimed by a run that was killed before it had it
    if not folder.is_dir():
        return
    try:
        folder.rename(folder.with_name(folder.name + '.unfinished'))
    except OSError as error:
        raise InUseError(f'{folder}: another conversion is writing here') from error
