"""Many bags to one dataset: each bag becomes a shard, the shards become the dataset."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
from threadpoolctl import threadpool_limits

from kuavo_bag_converter import __version__
from kuavo_bag_converter.bags.discover import Recording, list_recordings
from kuavo_bag_converter.bags.fingerprint import fingerprint
from kuavo_bag_converter.bags.model import BagReader
from kuavo_bag_converter.bags.open import open_bag
from kuavo_bag_converter.check.dataset import check_dataset
from kuavo_bag_converter.conversion.options import shard_options
from kuavo_bag_converter.conversion.shard import write_shard
from kuavo_bag_converter.dataset.assemble import assemble
from kuavo_bag_converter.dataset.layout import REPORT_PATH
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.errors import BagError, Cancelled, DatasetError, OutputError, UsageError
from kuavo_bag_converter.jobs.agreement import Agreement, Form
from kuavo_bag_converter.jobs.disk import DiskWatch, shard_bytes
from kuavo_bag_converter.jobs.preflight import Prospect, prospect_of, try_bag
from kuavo_bag_converter.jobs.record import Record, read_record, write_record
from kuavo_bag_converter.jobs.report import Observer, Outcome, Report, Status
from kuavo_bag_converter.jobs.workspace import Workspace, differences, recover
from kuavo_bag_converter.memory import peak_memory_mb
from kuavo_bag_converter.plan_report import PlanReport
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.robots.resolve import profile_version, resolve, resolve_without_bag
from kuavo_bag_converter.settings import Settings, recorded_values, settings_from

_NOT_IN_THE_DATASET = ('bags', 'output', 'num_used', 'threads', 'memory_limit_mb', 'chunk_size',
                       'reader', 'on_error', 'method', 'append', 'retry_failed', 'on_change',
                       'stall_timeout_s', 'check_disk', 'debug_memory')  # fmt: skip
"""Settings that do not change what a bag becomes."""


def convert(
    settings: Settings,
    *,
    observer: Observer | None = None,
    cancel: threading.Event | None = None,
) -> Report:
    """Convert ``settings.bags`` to a dataset at ``settings.output``.

    Args:
        settings: What to do.
        observer: Is told how it goes on.
        cancel: Set it to stop soon; finished bags are kept for the next run.

    Returns:
        The outcome of every bag; the dataset exists if at least one was converted.

    Raises:
        UsageError: The settings cannot be carried out.
        OutputError: The disk is full or cannot be written.
        DatasetError: What came out is not complete.
        Cancelled: ``cancel`` was set.

    """
    if not settings.output:
        raise UsageError('output: no folder given for the dataset')
    recover(Path(settings.output))
    before = None
    if settings.append or settings.retry_failed:
        before = read_record(Path(settings.output))
        settings = _as_before(settings, before)
    if not settings.bags:
        raise UsageError('bags: no bag given')
    run = _Run(settings, before, observer or Observer(), cancel or threading.Event())
    try:
        return run.run()
    except OSError as error:
        # What reading a bag meets is a BagError.
        advice = 'finished bags are kept beside it, run the same command again when this is mended'
        if isinstance(error, FileNotFoundError):
            advice = 'was its unfinished work removed? Run the same command again'
        raise OutputError(
            f'{settings.output}: cannot be written: {error.strerror or error}; {advice}'
        ) from error


class _Run:
    """One call of :func:`convert`."""

    def __init__(
        self,
        settings: Settings,
        before: Record | None,
        observer: Observer,
        cancel: threading.Event,
    ) -> None:
        self._settings = settings
        self._before = before
        self._observer = observer
        self._cancel = cancel
        self._options = shard_options(settings)
        self._profile = resolve_without_bag(settings)

    def run(self) -> Report:
        started = time.monotonic()
        settings = self._settings
        output = Path(settings.output)
        listed = list_recordings(settings.bags)
        recordings = _chosen(listed.recordings, settings)
        workspace = Workspace(
            output,
            _configuration(settings),
            appending=self._before is not None,
            redo=settings.on_change == 'redo',
        )
        with workspace, _one_thread_each():
            self._agreement = Agreement(
                settings.lerobot_version, workspace.output if self._before else None
            )
            if listed.left_out:
                self._observer.left_out(listed.remark)
            # One bag is checked when it is opened to be converted, which is at once.
            refused = self._check_all(workspace, recordings) if len(recordings) > 1 else {}
            outcomes, shards = self._convert_all(workspace, recordings, refused)
            if shards:
                self._assemble(workspace, shards, outcomes)
        return Report(output, tuple(outcomes), time.monotonic() - started, peak_memory_mb())

    def _check_all(
        self, workspace: Workspace, recordings: Sequence[Recording]
    ) -> dict[int, Outcome]:
        """Return the outcomes of the bags that cannot be converted, by their numbers from 1.

        Damage further inside, and that of bags without an index, is found when their turn comes.
        """
        total = len(recordings)
        self._observer.checking(total)
        refused: dict[int, Outcome] = {}
        forms: dict[int, Form] = {}

        def refuse(number: int, recording: Recording, error: Exception) -> None:
            if not self._is_done(workspace, recording):
                refused[number] = Outcome(_name(recording), 'failed', _one_line(error))
                self._observer.bag_refused(number, total, refused[number])

        for number, recording in enumerate(recordings, start=1):
            self._check_cancelled()
            try:
                prospect = self._try(recording)
            except (BagError, OSError) as error:
                refuse(number, recording, error)
                continue
            if prospect is not None:
                forms[number] = prospect.form
        self._agreement.settle({_name(recordings[n - 1]): form for n, form in forms.items()})
        for number, form in forms.items():
            recording = recordings[number - 1]
            try:
                self._agreement.check(_name(recording), form)
            except (BagError, DatasetError) as error:
                refuse(number, recording, error)
        return refused

    def _try(self, recording: Recording) -> Prospect | None:
        settings = self._settings
        prospect = try_bag(
            _paths(recording),
            self._profile_for,
            self._options,
            reader=settings.reader,
            on_damage=settings.on_damage,
        )
        if prospect is not None:
            self._profile = self._profile or prospect.binding.profile
        return prospect

    def _is_done(self, workspace: Workspace, recording: Recording) -> bool:
        """Tell whether a bag is in the dataset, or was converted by an unfinished run."""
        try:
            mark = fingerprint(_paths(recording))
        except BagError:
            return False
        present = self._before is not None and self._before.holds(mark)
        return present or workspace.shard_path(_name(recording), {'bag': mark}).exists()

    def _convert_all(
        self,
        workspace: Workspace,
        recordings: Sequence[Recording],
        refused: Mapping[int, Outcome],
    ) -> tuple[list[Outcome], list[Shard]]:
        outcomes: list[Outcome] = []
        shards: list[Shard] = []
        stopped = bool(refused) and self._settings.on_error == 'stop'
        numbered = list(enumerate(recordings, start=1))
        sizes = [0 if number in refused else _bytes_of(bag) for number, bag in numbered]
        self._disk = DiskWatch(workspace.root, sizes)
        for (number, recording), size in zip(numbered, sizes, strict=True):
            if number in refused:
                outcomes.append(refused[number])
                continue
            bag = _name(recording)
            self._observer.bag_started(number, len(recordings), bag)
            if stopped:
                outcome = Outcome(bag, 'skipped', 'on_error: stop, because of the one that failed')
            else:
                outcome, shard = self._convert_one(workspace, recording, bag)
                self._disk.note(size, 0 if shard is None else _bytes_of(shard.path))
                if shard is not None:
                    shards.append(shard)
                stopped = outcome.status == 'failed' and self._settings.on_error == 'stop'
            outcomes.append(outcome)
            self._observer.bag_finished(outcome)
        return outcomes, shards

    def _convert_one(
        self, workspace: Workspace, recording: Recording, bag: str
    ) -> tuple[Outcome, Shard | None]:
        try:
            mark = fingerprint(_paths(recording))
            if self._before is not None and self._before.holds(mark):
                return Outcome(bag, 'present'), None
            identity = {'bag': mark}
            path = workspace.shard_path(bag, identity)
            workspace.forget_changed(path, bag, redo=self._settings.on_change == 'redo')
            if path.exists():
                shard = Shard.load(path)
                if self._profile is None:
                    with self._open(recording) as reader:
                        self._profile = self._profile_for(reader)
                options = {key: video.options for key, video in shard.videos.items()}
                form = Form(shard.features, options, shard.fps, self._profile.robot_type)
                self._agreement.check(bag, form)
                return _outcome(bag, 'kept', shard), shard
            shard = self._write_shard(recording, path, identity)
            if fingerprint(_paths(recording)) != mark:
                shutil.rmtree(path)
                raise BagError('the bag changed while it was read; wait until it is complete')
        except (BagError, DatasetError) as error:
            return Outcome(bag, 'failed', _one_line(error)), None
        return _outcome(bag, 'converted', shard), shard

    def _write_shard(self, recording: Recording, path: Path, identity: dict[str, Any]) -> Shard:
        settings, options = self._settings, self._options
        with self._open(recording) as reader:
            profile = self._profile_for(reader)
            prospect = prospect_of(profile, reader, options)
            self._agreement.check(_name(recording), prospect.form)
            self._profile = profile
            if settings.check_disk:
                estimate = shard_bytes(
                    reader, profile, prospect.binding.clock_topic, options.video, copy=options.copy
                )
                self._disk.expect(_bytes_of(recording), estimate)
                self._disk.check()
            return write_shard(
                reader,
                prospect.binding,
                prospect.cameras,
                path,
                options,
                {'identity': identity},
                planned=lambda plan: self._observer.planned(plan.report),
                progress=self._observer.progressed,
                cancel=self._cancel,
            )

    def _check_cancelled(self, *_: int) -> None:
        if self._cancel.is_set():
            raise Cancelled

    def _open(self, recording: Recording) -> BagReader:
        settings = self._settings
        try:
            return open_bag(_paths(recording), reader=settings.reader, on_damage=settings.on_damage)
        except OSError as error:  # of a temporary folder
            raise BagError(f'{_name(recording)}: cannot be read: {error}') from error

    def _profile_for(self, reader: BagReader) -> Profile:
        """Return the profile of the run, which the first bag that fits one settles."""
        if not any(reader.counts.values()):
            raise BagError('the bag has no messages; leave it out, or record it again')
        topics = {connection.topic for connection in reader.connections}
        return self._profile or resolve(self._settings, topics)

    def _assemble(
        self, workspace: Workspace, shards: Sequence[Shard], outcomes: Sequence[Outcome]
    ) -> None:
        self._observer.assembling(sum(outcome.episodes for outcome in outcomes))
        root = workspace.dataset_path()
        profile = self._profile
        assert profile is not None
        before = None if self._before is None else workspace.output
        assemble(
            shards,
            root,
            features=shards[0].features,
            fps=profile.fps,
            robot_type=profile.robot_type,
            version=self._settings.lerobot_version,
            onto=before,
            progress=self._check_cancelled,
        )
        write_record(root, self._settings, profile, outcomes, shards, before)
        _check(root)
        workspace.publish(root)


def _check(root: Path) -> None:
    """Read the finished dataset back, without decoding, before it gets its name.

    Raises:
        DatasetError: Something in it is not as LeRobot needs it.

    """
    findings = check_dataset(root, 'cheap')
    if findings:
        first = findings[0]
        raise DatasetError(
            f'{first.file or root}: {first.rule}: found {first.found}, expected {first.expected} '
            f'({len(findings)} findings in all); the dataset is not published, please report this'
        )


def _as_before(settings: Settings, before: Record) -> Settings:
    """Return the settings for adding to a dataset: what shapes it must be as it was.

    Raises:
        UsageError: Something that shapes the dataset differs, or nothing failed.

    """
    was = settings_from(before.settings, REPORT_PATH)
    if settings.retry_failed:
        failed = [bag['bag'] for bag in before.bags if bag['status'] != 'converted']
        if not failed:
            raise UsageError(f'{settings.output}: no bag failed when it was made')
        return replace(was, output=settings.output, bags=tuple(failed), retry_failed=True)
    differing = differences(_configuration(was), _configuration(settings))
    if differing:
        raise UsageError(
            f'{settings.output}: was made with other settings ({differing}); use the same ones, '
            'or another output'
        )
    return settings


def _outcome(bag: str, status: Status, shard: Shard) -> Outcome:
    return Outcome(
        bag,
        status,
        episodes=len(shard.episode_lengths),
        frames=sum(shard.episode_lengths),
        plan=PlanReport.from_json(shard.extra['plan']),
        problems=tuple(shard.extra['problems']),
    )


def _chosen(recordings: Sequence[Recording], settings: Settings) -> Sequence[Recording]:
    """Draw ``num_used`` of the recordings, always the same ones, in their order."""
    wanted = settings.num_used
    if not wanted or wanted >= len(recordings):
        return recordings
    chosen = sorted(random.Random(42).sample(range(len(recordings)), wanted))  # noqa: S311
    return [recordings[position] for position in chosen]


def _paths(recording: Recording) -> Sequence[Path]:
    return [recording] if isinstance(recording, Path) else recording


def _name(recording: Recording) -> str:
    return str(recording if isinstance(recording, Path) else recording[0])


def _configuration(settings: Settings) -> dict[str, object]:
    values = {
        name: value
        for name, value in recorded_values(settings).items()
        if name not in _NOT_IN_THE_DATASET
    }
    version = profile_version(settings)
    if version:
        values['profile'] = f'{settings.profile} ({version})'
    return {'version': __version__, **values}


def _bytes_of(recording: Recording) -> int:
    """Return the bytes of a recording's files, or of all files in a folder, that can be seen."""
    files = list(_paths(recording))
    for path in _paths(recording):
        files += [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    return sum(file.stat().st_size for file in files if os.path.isfile(file))


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split()) or type(error).__name__


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Keep BLAS and OpenCV from starting threads of their own beside the workers."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(limits=1):  # type: ignore[no-untyped-call]
            yield
    finally:
        cv2.setNumThreads(before)
