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

"""The dataset of all parts of a run, as the run itself would have made it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
import os
from pathlib import Path
import shlex
import threading
import time

from kuavo_bag_converter.dataset.agreement import Agreement, ShardFormat
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.jobs.bags_to_shards import Conversion
from kuavo_bag_converter.jobs.convert import publish_outcomes, writing_to
from kuavo_bag_converter.jobs.folders.configuration import differences
from kuavo_bag_converter.jobs.folders.workspace import (
    PART_SETTINGS,
    remove_part,
    resolve_output,
    Workspace,
)
from kuavo_bag_converter.jobs.part import FinishedPart, PartOf, parts_folder
from kuavo_bag_converter.jobs.report import Observer, Outcome, Report
from kuavo_bag_converter.jobs.shard import format_of, Origin
from kuavo_bag_converter.profiles.loader import profile_from_yaml
from kuavo_bag_converter.settings import settings_from
from kuavo_bag_converter.support.errors import BagError, DatasetError, UsageError
from kuavo_bag_converter.support.process import peak_memory_mb
from kuavo_bag_converter.support.texts import error_text, listed, PROGRAM

_NAMED = 10
"""Parts that a line names."""


def assemble_parts(
    output: str, *, observer: Observer | None = None, cancel: threading.Event | None = None
) -> Report:
    """
    Make the dataset at ``output`` of the finished parts beside it, which are gone then.

    :param output: What each part was given as ``output``.
    :param observer: Is told how it goes on.
    :param cancel: Set it to stop soon; all parts are kept.
    :return: The outcome of every bag; the dataset exists if at least one was converted.
    :raises UsageError: A part is missing or not finished, or parts are not of one run.
    :raises OutputError: The disk is full or cannot be written.
    :raises DatasetError: A part is damaged, or what came out is not complete.
    :raises Cancelled: ``cancel`` was set.
    """
    started = time.monotonic()
    root = resolve_output(output)
    parts = _read_parts(root)
    first = parts[0]
    settings = settings_from(first.settings, str(first.folder))
    settings = replace(settings, output=output, shard='')
    observer, cancel = observer or Observer(), cancel or threading.Event()
    with writing_to(output), Workspace(root) as workspace:
        workspace.prepare(first.configuration, redo=settings.on_change == 'redo')
        run = Conversion(settings, workspace, None, observer, cancel)
        outcomes = _outcomes(run, parts)
        text = next((part.profile for part in parts if part.profile), '')
        profile = profile_from_yaml(text, str(first.folder)) if text else None
        published = publish_outcomes(run, profile, outcomes)
    run.pass_notes_on()
    if not published.problem:
        for line in filter(None, [remove_part(part.folder) for part in parts]):
            observer.note(line)
        if not os.listdir(parts_folder(root)):
            parts_folder(root).rmdir()
    return Report(
        published.path,
        tuple(outcomes),
        time.monotonic() - started,
        peak_memory_mb(),
        tuple(run.alignment.topics()),
        published.problem,
    )


def _read_parts(root: Path) -> list[FinishedPart]:
    """
    Return all parts, in order.

    :raises UsageError: One is missing or not finished, or they are not of one run.
    """
    folder = parts_folder(root)
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [(part, entry) for entry in entries if (part := PartOf.named(entry)) is not None]
    counts = sorted({part.parts for part, _ in found})
    if not counts:
        raise UsageError(
            f'{folder}: no finished part is there; convert the bags with --shard 1/N to --shard '
            f'N/N and --output {root} first'
        )
    if len(counts) > 1:
        raise UsageError(
            f'{folder}: has parts of {listed(map(str, counts))}; remove those of another division'
        )
    parts = [FinishedPart.read(entry) for _, entry in found]
    _check_complete(root, parts, counts[0])
    for other in parts[1:]:
        _check_equal(parts[0], other)
    numbers = sorted(number for part in parts for number in part.outcomes)
    if numbers != list(range(1, parts[0].bags + 1)):
        raise UsageError(
            f'{folder}: its parts do not have each bag once; remove it, and begin anew'
        )
    return parts


def _check_complete(root: Path, parts: Sequence[FinishedPart], count: int) -> None:
    """
    Check that all parts are there and have tried all of their bags.

    :raises UsageError: Names those that are to be run, and how.
    """
    there = {part.part.number for part in parts}
    missing = [PartOf(number, count) for number in range(1, count + 1) if number not in there]
    begun = [part for part in missing if Path(f'{part.folder(root)}.unfinished').is_dir()]
    stopped = [
        part.part
        for part in parts
        if part.settings['on_error'] == 'stop'
        and any(outcome.shard is None for outcome in part.outcomes.values())
    ]
    for left, what in (
        ([part for part in missing if part not in begun], 'missing'),
        (begun, 'not finished'),
        (stopped, 'stopped at a bag that failed (on_error: stop)'),
    ):
        if left:
            command = f'{PROGRAM} convert --params-file {{}} --shard {left[0]}'
            settings = shlex.quote(str(parts[0].folder / PART_SETTINGS))
            named = listed(list(map(str, left)), _NAMED)
            raise UsageError(
                f'{parts_folder(root)}: {len(left)} of {count} parts '
                f'{"is" if len(left) == 1 else "are"} {what}: {named}; run each again: '
                f'{command.format(settings)}'
            )


def _check_equal(first: FinishedPart, other: FinishedPart) -> None:
    """
    Check that two parts are of one run.

    :raises UsageError: Names what differs.
    """
    differing = differences(first.configuration, other.configuration)
    if not differing and (first.inputs, first.bags) != (other.inputs, other.bags):
        differing = f'its list of bags, their sizes or tasks: {first.bags} and {other.bags} bags'
    settled = first.profile and other.profile and first.profile != other.profile
    if not differing and settled:
        differing = 'its profile, as its first bag settles it; give the settings that are auto'
    if differing:
        raise UsageError(
            f'{other.folder}: is of another run than {first.folder} ({differing}); convert one of '
            'them again with the settings of the other'
        )


def _outcomes(run: Conversion, parts: Sequence[FinishedPart]) -> list[Outcome]:
    """Return what became of all bags, in order: some do not agree with those of other parts."""
    outcomes: dict[int, Outcome] = {}
    formats: dict[int, ShardFormat] = {}
    for part in parts:
        outcomes |= part.outcomes
        formats |= part.formats
    agreement = Agreement(run.settings.lerobot_version, None)
    agreement.settle({outcomes[number].bag: formats[number] for number in sorted(formats)})
    for number in sorted(formats):
        outcomes[number] = _agreed(agreement, outcomes[number], formats[number])
    for number in sorted(outcomes):
        run.check_cancelled()
        path = outcomes[number].shard
        if path is None:
            continue
        shard = Shard.load(path)
        origin = Origin.of(shard)
        outcomes[number] = _agreed(agreement, outcomes[number], format_of(shard, origin))
        if outcomes[number].shard is not None:
            run.alignment.add(number, origin.plan)
    for number, outcome in sorted(outcomes.items()):
        if outcome.status == 'failed':
            run.observer.bag_refused(number, len(outcomes), outcome)
    return [outcomes[number] for number in sorted(outcomes)]


def _agreed(agreement: Agreement, outcome: Outcome, shard_format: ShardFormat) -> Outcome:
    """Return the outcome of a bag, which has failed if its shard would not fit the others."""
    try:
        agreement.check_agreement(outcome.bag, shard_format)
    except (BagError, DatasetError) as error:
        return replace(
            outcome,
            status='failed',
            reason=error_text(error),
            episodes=0,
            frames=0,
            shard=None,
            problems=(),
        )
    return outcome
