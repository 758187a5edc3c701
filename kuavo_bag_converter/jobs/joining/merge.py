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

"""Finished datasets joined to one, or taken apart, without encoding a picture again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
import os
from pathlib import Path
import re
import threading
from typing import Any

from kuavo_bag_converter.check.description import describe, Description
from kuavo_bag_converter.check.findings import Findings
from kuavo_bag_converter.check.metadata import check_conversion, check_metadata
from kuavo_bag_converter.dataset.assemble import Assembler, check_format
from kuavo_bag_converter.dataset.existing import apart, compared_info
from kuavo_bag_converter.dataset.layout import MODALITY_PATH
from kuavo_bag_converter.jobs.convert import check_before_publishing, writing_to
from kuavo_bag_converter.jobs.folders.dataset_files import others_in, take_snapshot
from kuavo_bag_converter.jobs.folders.publishing import Published
from kuavo_bag_converter.jobs.folders.workspace import resolve_output, Workspace
from kuavo_bag_converter.jobs.joining.joined_record import (
    check_records,
    ChosenEpisodes,
    write_joined_record,
)
from kuavo_bag_converter.jobs.joining.stored_episodes import features_of, StoredEpisodes
from kuavo_bag_converter.jobs.report import Observer
from kuavo_bag_converter.support.errors import Cancelled, UsageError
from kuavo_bag_converter.support.files import sync_tree
from kuavo_bag_converter.support.texts import counted, listed
from kuavo_bag_converter.support.version import __version__

_VERSIONS = ('v3.0', 'v2.1')
_NAMED = 5
"""Files that a line names."""
_OF_V21 = (
    'video.height',
    'video.width',
    'video.codec',
    'video.pix_fmt',
    'video.fps',
    'video.channels',
    'has_audio',
)
"""What v2.1 tells of a video, but for whether it is depth."""


@dataclass(frozen=True)
class Joined:
    """What came of it: the datasets that were made, with their episodes and frames."""

    made: Mapping[Path, tuple[int, int]]
    problem: str = ''
    """Why they are not where they were to be; '' if they are."""

    def __str__(self) -> str:
        return '\n'.join(
            f'{root}: {counted(episodes, "episode")}, {frames} frames'
            for root, (episodes, frames) in self.made.items()
        )


def merge(
    datasets: Sequence[str],
    output: str,
    *,
    version: str = '',
    observer: Observer | None = None,
    cancel: threading.Event | None = None,
) -> Joined:
    """
    Join datasets of equal features to one, in their order; they are left as they are.

    Tasks are numbered anew, and what this converter has recorded of bags is joined. Of one dataset
    it makes the same one in another version of the format.

    :param datasets: Their folders; of this converter, or of LeRobot.
    :param output: The folder of the dataset to make, which must not exist.
    :param version: LeRobot's format, v3.0 or v2.1; that of the first dataset if ''.
    :param observer: Is told what is left out.
    :param cancel: Set it to stop soon.
    :raises UsageError: A dataset is none, or does not fit the others or the version.
    :raises DatasetError: A dataset is damaged, or its videos cannot be cut where they must.
    :raises OutputError: The disk is full or cannot be written.
    :raises Cancelled: ``cancel`` was set.
    """
    if not datasets:
        raise UsageError('merge: no dataset given')
    opened = [_opened(path) for path in datasets]
    for other in opened[1:]:
        _check_equal(opened[0], other)
    whole = [ChosenEpisodes(one, range(len(one.episodes))) for one in opened]
    check_records(whole)
    return _make(output, {'': whole}, version or opened[0].version, observer, cancel)


def split(
    dataset: str,
    output: str,
    parts: Mapping[str, str],
    *,
    version: str = '',
    observer: Observer | None = None,
    cancel: threading.Event | None = None,
) -> Joined:
    """
    Make datasets of some episodes of one, which is left as it is.

    :param dataset: Its folder.
    :param output: The folder that is to hold the datasets, or to be one; it must not exist.
    :param parts: What each gets, by its name below ``output`` ('' for ``output`` itself): ranges
        of episodes such as ``0:10,15`` (ends are left out), or a share such as ``0.8`` of those
        that no part before has.
    :param version: See :func:`merge`.
    :param observer: See :func:`merge`.
    :param cancel: See :func:`merge`.
    :raises UsageError: A part is none, has no episode, or names one that is not there or is in
        another part.
    :raises DatasetError: See :func:`merge`.
    :raises OutputError: See :func:`merge`.
    :raises Cancelled: See :func:`merge`.
    """
    opened = _opened(dataset)
    chosen = {
        name: [ChosenEpisodes(opened, episodes)]
        for name, episodes in _chosen(parts, len(opened.episodes)).items()
    }
    return _make(output, chosen, version or opened.version, observer, cancel)


def _chosen(parts: Mapping[str, str], total: int) -> dict[str, list[int]]:
    """Return the episodes of each part."""
    left = list(range(total))
    shares = {
        name: float(text) for name, text in parts.items() if re.fullmatch(r'0?\.\d+|1\.0*', text)
    }
    if not parts:
        raise UsageError('split: no part given; name some, such as train=0.8 val=0.2')
    if sum(shares.values()) > 1 + 1e-9:
        raise UsageError(f'split: shares of {sum(shares.values()):g} in all; expected at most 1')
    found: dict[str, list[int]] = {}
    for name, text in parts.items():
        if name and (name in ('.', '..') or os.sep in name):
            raise UsageError(f'split: {name!r} is no name of a folder')
        if name not in shares:
            found[name] = _ranges(name, text, total)
    taken: dict[int, str] = {}
    for name, episodes in found.items():
        for episode in episodes:
            if taken.setdefault(episode, name) != name:
                raise UsageError(f'split: episode {episode} is in {taken[episode]} and in {name}')
    left = [episode for episode in left if episode not in taken]
    count = len(left)
    first, sum_of_shares = 0, 0.0
    for name, share in shares.items():
        sum_of_shares += share
        last = round(count * sum_of_shares)
        found[name] = left[first:last]
        first = last
    for name, episodes in found.items():
        if not episodes:
            raise UsageError(f'split: {name or "the dataset"} would have no episode of {total}')
    return {name: found[name] for name in parts}


def _ranges(name: str, text: str, total: int) -> list[int]:
    """Return the episodes that ranges name."""
    episodes: set[int] = set()
    for piece in text.split(','):
        match = re.fullmatch(r'(\d+)(?::(\d+))?', piece.strip())
        if not match:
            raise UsageError(
                f'split: {name or "episodes"}: expected ranges such as 0:10,15 or a share such as '
                f'0.8, found {text!r}'
            )
        first = int(match[1])
        last = int(match[2]) if match[2] else first + 1
        if not first < last <= total:
            raise UsageError(
                f'split: {name or "episodes"}: {piece.strip()} is not among the {total} episodes, '
                f'0:{total}'
            )
        episodes.update(range(first, last))
    return sorted(episodes)


def _opened(path: str) -> Description:
    """
    Read the metadata of a dataset.

    :raises UsageError: It is none, or something is wrong with it.
    """
    root = Path(path)
    findings = Findings()
    dataset = describe(root, findings) if root.is_dir() else None
    if dataset is not None:
        check_metadata(dataset, findings)
        if dataset.record is not None:
            check_conversion(dataset, dataset.record, findings)
    for finding in findings:
        raise UsageError(f'{path}: {finding} ({len(findings)} findings in all)')
    if dataset is None:
        raise UsageError(f'{path}: is no LeRobot dataset')
    return replace(dataset, root=Path(os.path.realpath(root)))


def _check_equal(first: Description, other: Description) -> None:
    """
    Check that two datasets can be joined.

    :raises UsageError: Names what differs.
    """
    pairs: list[tuple[str, Any, Any]] = [
        ('fps', first.fps, other.fps),
        ('robot_type', first.info.get('robot_type'), other.info.get('robot_type')),
        ('features', list(first.features), list(other.features)),
    ]
    if pairs[-1][1] == pairs[-1][2]:
        for key, mine in first.features.items():
            theirs = other.features[key]
            pairs += [
                (f'{key} ({name})', getattr(mine, name), getattr(theirs, name))
                for name in ('dtype', 'shape', 'names')
            ]
            told, others = compared_info(mine.info), compared_info(theirs.info)
            pairs += [
                (f'{key} ({name})', told[name], others[name]) for name in told if name in others
            ]
    for name, value, others in pairs:
        if value != others:
            raise UsageError(
                f'{other.root}: its {name} is {apart(others, value)}, that of {first.root} is '
                f'{apart(value, others)}; only datasets of equal features can be joined'
            )


def _make(
    output: str,
    parts: Mapping[str, Sequence[ChosenEpisodes]],
    version: str,
    observer: Observer | None,
    cancel: threading.Event | None,
) -> Joined:
    """Make datasets below an output, by name, or the output itself, named ''."""
    if version not in _VERSIONS:
        raise UsageError(
            f'lerobot_version: expected one of {listed(_VERSIONS)}, found {version!r}'
        )
    observer, cancel = observer or Observer(), cancel or threading.Event()
    root = resolve_output(output)
    for chosen in parts.values():
        for dataset, _ in chosen:
            check_format(features_of(dataset), version)
            if root.is_relative_to(dataset.root):
                raise UsageError(f'{output}: lies in {dataset.root}; choose another output')
    for dataset, _ in next(iter(parts.values())):
        left = [path for path in others_in(take_snapshot(dataset.root)) if path != MODALITY_PATH]
        if left:
            observer.note(f'{dataset.root}: left out: {listed(left, _NAMED)}')
    made = {}
    with writing_to(output), Workspace(root) as workspace:
        workspace.prepare({'version': __version__, 'profile': '', 'merge': str(parts)})
        folder = workspace.dataset_path(by_plugin=True)
        folder.mkdir()
        for name, chosen in parts.items():
            size = _write(folder / name, root / name, chosen, version, observer, cancel)
            made[name] = size
        sync_tree(folder)
        published: Published = workspace.publish(folder)
    for note in workspace.notes:
        observer.note(note)
    place = published.path if published.problem else Path(output)
    return Joined({place / name: size for name, size in made.items()}, published.problem)


def _write(
    folder: Path,
    root: Path,
    chosen: Sequence[ChosenEpisodes],
    version: str,
    observer: Observer,
    cancel: threading.Event,
) -> tuple[int, int]:
    """Write a dataset that is going to be at ``root``; return its episodes and frames."""
    first = chosen[0].dataset
    quantiles = version != 'v2.1'
    sources = [StoredEpisodes(one, episodes, quantiles=quantiles) for one, episodes in chosen]
    episodes = sum(len(source.episode_lengths) for source in sources)
    observer.assembling(episodes)

    def check_cancelled(_: int) -> None:
        if cancel.is_set():
            raise Cancelled

    assembler = Assembler(
        folder,
        features=features_of(first),
        fps=first.fps,
        robot_type=first.info.get('robot_type'),
        version=version,
        entries=_entries(first, version),
        labels=list(dict.fromkeys(name for source in sources for name in source.labels(0))),
        progress=check_cancelled,
    )
    with assembler:
        for source in sources:
            assembler.add(source)
        assembler.finish()
    _keep_modality(folder, [dataset.root for dataset, _ in chosen])
    write_joined_record(folder, root, chosen, version, observer.note)
    check_before_publishing(folder)
    return episodes, sum(sum(source.episode_lengths) for source in sources)


def _entries(dataset: Description, version: str) -> dict[str, Any]:
    """Return the ``features`` of info.json in a version of the format."""
    entries: dict[str, Any] = dict(dataset.info['features'])
    if dataset.version == version:
        return entries
    for key, column in dataset.features.items():
        if not column.is_video:
            continue
        if version == 'v2.1':
            known = {name: column.info[name] for name in _OF_V21 if name in column.info}
            known['video.is_depth_map'] = False
        else:
            known = {k: v for k, v in column.info.items() if k != 'video.is_depth_map'}
            known['is_depth_map'] = column.is_depth
        entries[key] = {**entries[key], 'info': known}
    return entries


def _keep_modality(folder: Path, roots: Sequence[Path]) -> None:
    """Keep what GR00T reads where all datasets have the same."""
    texts = set()
    with suppress(FileNotFoundError):
        texts = {(root / MODALITY_PATH).read_bytes() for root in roots}
    if len(texts) == 1:
        (folder / MODALITY_PATH).write_bytes(texts.pop())
