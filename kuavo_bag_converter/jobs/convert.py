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

"""Many bags to one dataset: each bag becomes a shard, the shards become the dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
import json
from pathlib import Path
import threading
import time

from kuavo_bag_converter.check.dataset import check_dataset
from kuavo_bag_converter.dataset.assemble import assemble
from kuavo_bag_converter.dataset.layout import INFO_PATH, MODALITY_PATH
from kuavo_bag_converter.dataset.metadata import write_json
from kuavo_bag_converter.dataset.modality import modality_of
from kuavo_bag_converter.dataset.record import LEROBOT
from kuavo_bag_converter.dataset.writer import DatasetInfo, write_dataset, writer_of
from kuavo_bag_converter.frames.stream import fill_frames, Filler
from kuavo_bag_converter.jobs.append import (
    check_is_lerobot,
    read_again,
    read_before,
    settings_for,
)
from kuavo_bag_converter.jobs.bag_converter import BagConverter
from kuavo_bag_converter.jobs.bags import find_bags
from kuavo_bag_converter.jobs.bags_to_shards import BagsToShards, Conversion
from kuavo_bag_converter.jobs.conversion_folder import (
    replace_record,
    write_conversion_folder,
    write_failures,
)
from kuavo_bag_converter.jobs.executors.choose import choose_executor
from kuavo_bag_converter.jobs.finished_shards import FinishedShards
from kuavo_bag_converter.jobs.folders.configuration import configuration
from kuavo_bag_converter.jobs.folders.dataset_files import (
    carry_over,
    others_in,
    Snapshot,
    take_snapshot,
)
from kuavo_bag_converter.jobs.folders.publishing import Published
from kuavo_bag_converter.jobs.folders.workspace import resolve_output, Workspace
from kuavo_bag_converter.jobs.growing_dataset import GrowingDataset
from kuavo_bag_converter.jobs.part import convert_part
from kuavo_bag_converter.jobs.remote_output import convert_to_url
from kuavo_bag_converter.jobs.report import Observer, Outcome, Report
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.settings import Settings
from kuavo_bag_converter.support.errors import DatasetError, OutputError, UsageError
from kuavo_bag_converter.support.files import sync, system_reason
from kuavo_bag_converter.support.places import is_url
from kuavo_bag_converter.support.process import peak_memory_mb
from kuavo_bag_converter.support.texts import listed

_NAMED = 5
"""Files that a line names."""


def convert_bags(
    settings: Settings,
    *,
    observer: Observer | None = None,
    cancel: threading.Event | None = None,
    fill: Filler = fill_frames,
) -> Report:
    """
    Convert ``settings.bags`` to a dataset at ``settings.output``.

    :param settings: What to do.
    :param observer: Is told how it goes on.
    :param cancel: Set it to stop soon; finished bags are kept for the next run.
    :param fill: Brings the messages of a bag to its frames.
    :return: The outcome of every bag; the dataset exists if at least one was converted.
    :raises UsageError: The settings cannot be carried out.
    :raises OutputError: The disk is full or cannot be written.
    :raises DatasetError: What came out is not complete.
    :raises Cancelled: ``cancel`` was set.
    """
    check_given(settings)
    observer, cancel = observer or Observer(), cancel or threading.Event()
    if is_url(settings.output):
        here = partial(convert_bags, observer=observer, cancel=cancel, fill=fill)
        return convert_to_url(settings, here, observer, cancel)
    adding = settings.append or settings.retry_failed
    output = resolve_output(settings.output)
    writer_of(settings.dataset_format, settings.lerobot_version)
    if adding:
        check_is_lerobot(settings, output)
    with writing_to(settings.output):
        if settings.shard:
            return convert_part(settings, output, observer, cancel, fill)
        with Workspace(output, adding=adding) as workspace:
            before = read_before(output, take_snapshot(output)) if adding else None
            if before is not None:
                settings = settings_for(settings, before)
            run = Conversion(settings, workspace, before, observer, cancel)
            report = _convert(run, fill)
        run.pass_notes_on()
    return report


@contextmanager
def writing_to(output: str) -> Iterator[None]:
    """
    Say of what the system refuses that it is the output that cannot be written.

    :raises OutputError: The system has refused something.
    """
    try:
        yield
    except OSError as error:
        # What reading a bag meets is a BagError.
        advice = 'finished bags are kept beside it, run the same command again when this is mended'
        if isinstance(error, FileNotFoundError):
            advice = 'was its unfinished work removed? Run the same command again'
        raise OutputError(
            f'{output}: cannot be written: {system_reason(error)}; {advice}'
        ) from error


def check_given(settings: Settings) -> None:
    """
    Check that the settings say what to convert, and to where.

    :raises UsageError: They do not.
    """
    if not settings.output:
        raise UsageError('output: no folder given for the dataset')
    if not settings.bags and not settings.retry_failed:
        raise UsageError('bags: no bag given')


def _convert(run: Conversion, fill: Filler) -> Report:
    """Find the bags, check them all, convert each to a shard, and make the shards a dataset."""
    started = time.monotonic()
    settings = run.settings
    converter = BagConverter(settings, run.workspace.shards, run.before, fill)
    run.workspace.prepare(configuration(settings), redo=settings.on_change == 'redo')
    run.pass_notes_on()
    bags = find_bags(settings, run.before, run.observer.note)
    run.observer.bags_found([bag.name for bag in bags])
    executor = choose_executor(settings, len(bags), run.cancel)
    if settings.executor != 'local' and executor.jobs == 1 and len(bags) > 1:
        run.observer.note('jobs: 1 converts one bag at a time; jobs: 0 uses all of the cluster')
    growing = None
    # Where bags are converted in this process, it has no time beside.
    if executor.jobs > 1 and run.before is None and settings.dataset_format == LEROBOT:
        growing = GrowingDataset(run, converter.profile)
    take = None if growing is None else growing.take
    try:
        outcomes = BagsToShards(run, converter, executor, bags, take=take).outcomes()
    except BaseException:
        if growing is not None:
            growing.abandon()
        raise
    finally:
        executor.close()
    published = publish_outcomes(run, converter.profile.profile, outcomes, growing)
    seconds = time.monotonic() - started
    peak_mb = max(peak_memory_mb(), executor.peak_memory_mb)
    alignment = tuple(run.alignment.topics())
    return Report(published.path, tuple(outcomes), seconds, peak_mb, alignment, published.problem)


def publish_outcomes(
    run: Conversion,
    profile: Profile | None,
    outcomes: Sequence[Outcome],
    growing: GrowingDataset | None = None,
) -> Published:
    """
    Make the shards of bags a dataset, and give it its name.

    :param run: The run.
    :param profile: That of the shards; None if there are none.
    :param outcomes: What became of the bags, in order.
    :param growing: The dataset, if shards have been put together meanwhile.
    :raises DatasetError: What came out is not complete.
    """
    settings = run.settings
    shards = FinishedShards(outcomes, settings.labels)
    published = Published(Path(settings.output))
    if shards:
        assert profile is not None  # that of the shards
        dataset, snapshot = _assemble(run, profile, outcomes, shards, growing)
        if settings.dataset_format == LEROBOT:
            check_before_publishing(dataset, 0 if run.before is None else run.before.episodes)
        published = run.workspace.publish(dataset, snapshot)
    else:
        _record_failures(run, outcomes)
    return published if published.problem else Published(Path(settings.output))


def _assemble(
    run: Conversion,
    profile: Profile,
    outcomes: Sequence[Outcome],
    shards: FinishedShards,
    growing: GrowingDataset | None,
) -> tuple[Path, Snapshot | None]:
    """
    Put the dataset together in the workspace, with the record of how it was made.

    :return: The dataset, and what was in the one that it has grown from.
    """
    run.observer.assembling(sum(outcome.episodes for outcome in outcomes))
    settings = run.settings
    writer = writer_of(settings.dataset_format, settings.lerobot_version)
    root = None if growing is None else growing.finish(len(shards))
    is_there = root is not None
    root = root or run.workspace.dataset_path(by_plugin=writer is not None)
    output = run.workspace.output
    before = snapshot = None
    if run.before is not None:
        snapshot = run.workspace.begin_replacing()
        before = read_again(run.before, snapshot)
    features = next(iter(shards)).features
    if writer is not None:
        info = DatasetInfo(features, profile.fps, profile.robot_type)
        write_dataset(writer, tuple(shards), root, info)
    else:
        if not is_there:
            assemble(
                shards,
                root,
                features=features,
                fps=profile.fps,
                robot_type=profile.robot_type,
                version=settings.lerobot_version,
                onto=None if before is None else output,
                progress=lambda *_: run.check_cancelled(),
            )
        if settings.writes_modality(None if snapshot is None else MODALITY_PATH in snapshot):
            write_json(root / MODALITY_PATH, modality_of(profile, features))
            sync(root / 'meta')
    write_conversion_folder(root, output, settings, profile, outcomes, shards, before)
    if snapshot is not None:
        carry_over(output, root, snapshot)
        _name_others(run.observer, others_in(snapshot))
        _name_splits(run.observer, root)
    return root, snapshot


def _record_failures(run: Conversion, outcomes: Sequence[Outcome]) -> None:
    """Put bags that failed where nothing was added into the record of the dataset, if there is."""
    if run.before is None or all(outcome.status == 'present' for outcome in outcomes):
        return
    root, folder = run.before.root, run.workspace.dataset_path()
    before = read_again(run.before, take_snapshot(root))
    write_failures(folder, root, run.settings, outcomes, before)
    replace_record(folder, root)


def _name_others(observer: Observer, others: Sequence[str]) -> None:
    """Say which files come along that may tell of the dataset as it was."""
    if others:
        observer.note(
            f'carried over as they are: {listed(others, _NAMED)}; counts in them may be out of '
            'date'
        )


def _name_splits(observer: Observer, root: Path) -> None:
    """Say that splits of another program do not know the new episodes."""
    info = json.loads((root / INFO_PATH).read_text(encoding='utf-8'))
    if info['splits'] != {'train': f'0:{info["total_episodes"]}'}:
        observer.note(
            f'{INFO_PATH}: splits of another program stay as they are; put the new episodes into '
            'one of them'
        )


def check_before_publishing(root: Path, since: int = 0) -> None:
    """
    Read the finished dataset back, without decoding, before it gets its name.

    :param root: The dataset.
    :param since: Its first new episode; files of those before are only looked for.
    :raises DatasetError: Something in it is not as LeRobot needs it.
    """
    findings = check_dataset(root, 'cheap', since)
    if findings:
        first = findings[0]
        raise DatasetError(
            f'{root}: {first} ({len(findings)} findings in all); the dataset is not published, '
            'please report this'
        )
