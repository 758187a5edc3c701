"""Writes the folder ``conversion/`` of a dataset: how it was made, and from what."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kuavo_bag_converter import __version__
from kuavo_bag_converter.alignment.alignment_file import ALIGNMENT
from kuavo_bag_converter.bags.fingerprint import files_of, fingerprint
from kuavo_bag_converter.dataset.layout import ALIGNMENT_PATH, PROFILE_PATH, REPORT_PATH
from kuavo_bag_converter.dataset.record import FORMAT, ConversionRecord, as_recorded, is_path
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.jobs.report import Outcome
from kuavo_bag_converter.jobs.shard import Origin
from kuavo_bag_converter.profiles.dump import profile_as_yaml
from kuavo_bag_converter.profiles.loader import load_profile
from kuavo_bag_converter.profiles.model import IN_DATASET, Profile
from kuavo_bag_converter.settings import Settings, recorded_values
from kuavo_bag_converter.support.errors import BagError, UsageError
from kuavo_bag_converter.support.files import link_or_copy, sync_tree, write_text
from kuavo_bag_converter.support.texts import visible

_NOT_RECORDED = ('bags', 'output', 'append', 'retry_failed')
_PATH = r'(?<![\w.~/-]){}/[^\s:;,\'"]*'
"""A path in a text that begins with a folder."""
_IN_ROOT = 2
"""Parts of a path to what lies in the root folder."""


@dataclass(frozen=True)
class Before:
    """A dataset whose episodes come first.

    Attributes:
        root: Its folder.
        record: What it was made from.
        episodes: How many it has, those of other programs counted.
    """

    root: Path
    record: ConversionRecord
    episodes: int


def write_record(
    root: Path,
    output: Path,
    settings: Settings,
    profile: Profile,
    outcomes: Sequence[Outcome],
    shards: Sequence[Shard],
    before: Before | None = None,
) -> None:
    """Write ``report.json``, ``profile.yaml`` and ``alignment/<number of the bag>.parquet``.

    They are durable on return. See :mod:`.alignment_file` for the last.

    Args:
        root: The dataset as it is being put together.
        output: Where it is going to be, without links; paths are recorded relative to it.
        settings: It was made with them.
        profile: What a frame is made of.
        outcomes: Of the bags of this run.
        shards: Of the converted ones, in order.
        before: The dataset whose episodes come first; a bag that failed there takes its old place
            in the list.

    """
    texts = _Texts(output, settings, profile, outcomes)
    bags = [] if before is None else _bags_before(before, root, output)
    first = 0 if before is None else before.episodes
    remaining = iter(shards)
    for outcome in outcomes:
        if outcome.status == 'present':
            continue
        mark = None
        number = len(bags) if outcome.recorded is None else outcome.recorded
        if outcome.episodes:
            shard = next(remaining)
            mark = Origin.of(shard).mark
            link_or_copy(shard.attachment(ALIGNMENT), root / ALIGNMENT_PATH.format(bag=number))
        entry = {
            'bag': as_recorded(outcome.paths[0], output),
            **texts.without_places(outcome.as_json()),
            'first_episode': first,
            'files': _files(outcome.paths, mark, output),
        }
        bags[number:] = [entry, *bags[number + 1 :]]
        first += outcome.episodes
    document = {
        **({} if before is None else before.record.document),
        'format': FORMAT,
        'converter': {'name': 'kuavo_bag_converter', 'version': __version__},
        'settings': _settings(settings, output),
        'bags': bags,
    }
    write_text(root / REPORT_PATH, json.dumps(document, indent=2, ensure_ascii=False))
    _write_profile(root, output, profile, before)
    sync_tree((root / REPORT_PATH).parent)


def _files(
    paths: Sequence[Path], mark: Mapping[str, Any] | None, output: Path
) -> list[dict[str, Any]]:
    """Return what is recorded of the files of a bag, as far as they can be read."""
    try:
        files = files_of(paths)
        marks = (mark or fingerprint(paths))['files']
    except BagError:
        files = [path for path in paths if not os.path.isdir(path)]
        marks = [{'bytes': -1, 'digest': ''} for _ in files]
    return [
        {'path': as_recorded(file, output), 'bytes': one['bytes'], 'digest': one['digest']}
        for file, one in zip(files, marks, strict=False)
    ]


def _bags_before(before: Before, root: Path, output: Path) -> list[dict[str, Any]]:
    """Return the entries of the bags that are in the dataset, in the form of today."""
    entries = []
    for bag, entry in zip(before.record.bags, before.record.document['bags'], strict=True):
        if (before.root / bag.alignment_path).exists():
            link_or_copy(before.root / bag.alignment_path, root / bag.alignment_path)
        files = [
            {'path': as_recorded(file.path, output), 'bytes': file.bytes, 'digest': file.digest}
            for file in bag.files
        ]
        kept = {name: value for name, value in entry.items() if name != 'fingerprint'}
        entries.append({**kept, 'bag': as_recorded(bag.path, output), 'files': files})
    return entries


def _settings(settings: Settings, output: Path) -> dict[str, Any]:
    values = {
        name: value
        for name, value in recorded_values(settings).items()
        if name not in _NOT_RECORDED
    }
    values['msg_path'] = [as_recorded(folder, output) for folder in settings.msg_path]
    if is_path(settings.profile):
        values['profile'] = as_recorded(settings.profile, output)
    return values


def _movable(profile: Profile, output: Path) -> Profile:
    """Return a profile that names no place of the machine."""
    marks = profile.episodes.marks_file
    if not os.path.isabs(marks):
        return profile
    place = f'{IN_DATASET}{os.path.relpath(marks, output)}'
    return replace(profile, episodes=replace(profile.episodes, marks_file=place))


def _write_profile(root: Path, output: Path, profile: Profile, before: Before | None) -> None:
    """Write the profile; a file that says the same stays, with the comments that it may have."""
    if before is not None and _says(before.root / PROFILE_PATH, profile):
        link_or_copy(before.root / PROFILE_PATH, root / PROFILE_PATH)
    else:
        write_text(root / PROFILE_PATH, profile_as_yaml(_movable(profile, output)))


def _says(path: Path, profile: Profile) -> bool:
    try:
        return load_profile(path) == profile
    except UsageError:
        return False


class _Texts:
    """Makes the absolute paths in texts relative to the dataset."""

    def __init__(
        self, output: Path, settings: Settings, profile: Profile, outcomes: Iterable[Outcome]
    ) -> None:
        paths = [path for outcome in outcomes for path in outcome.paths]
        paths += [Path(os.readlink(path)) for path in paths if os.path.islink(path)]
        folders = {path.parent for path in paths} | {output, output.parent, Path.cwd()}
        folders |= {Path(folder) for folder in settings.msg_path}
        folders |= {Path(profile.episodes.marks_file).parent, Path(settings.profile).parent}
        folders |= {Path(os.path.expanduser('~')), Path(tempfile.gettempdir())}
        folders |= {Path(os.path.realpath(folder)) for folder in folders}
        known = [folder for folder in folders if folder.is_absolute() and folder.name]
        known.sort(key=lambda folder: len(str(folder)), reverse=True)
        self._places = [
            (re.compile(_PATH.format(re.escape(visible(str(folder))))), folder, output)
            for folder in known
        ]

    def without_places(self, value: Any) -> Any:
        """Return a JSON value whose texts name no place of the machine."""
        if isinstance(value, str):
            return self._without_places(visible(value))
        if isinstance(value, Mapping):
            return {name: self.without_places(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.without_places(item) for item in value]
        return value

    def _without_places(self, text: str) -> str:
        for pattern, folder, output in self._places:

            def place(match: re.Match[str], folder: Path = folder, output: Path = output) -> str:
                # The names of topics begin with a slash, too, as in /data/state.
                is_topic = len(folder.parts) == _IN_ROOT and not os.path.lexists(match[0])
                beginning = str(folder) if is_topic else as_recorded(folder, output)
                return match[0].replace(str(folder), beginning, 1)

            text = pattern.sub(place, text)
        return text
