"""Many bags to one dataset: each bag becomes a shard, the shards become the dataset."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
from threadpoolctl import threadpool_limits

from kuavo_bag_converter.alignment.alignment_file import ALIGNMENT
from kuavo_bag_converter.alignment.report import PlanReport
from kuavo_bag_converter.bags.discover import list_recordings
from kuavo_bag_converter.bags.fingerprint import (
    Key,
    files_of,
    find_duplicates,
    fingerprint,
    key_of,
    same_files,
    state_of,
)
from kuavo_bag_converter.bags.model import BagReader
from kuavo_bag_converter.bags.open import open_bag
from kuavo_bag_converter.check.dataset import check_dataset
from kuavo_bag_converter.dataset.assemble import assemble
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.frames.options import shard_options
from kuavo_bag_converter.frames.stream import Filler, fill_frames
from kuavo_bag_converter.jobs.adding import number_of, read_before, recordings_left, settings_for
from kuavo_bag_converter.jobs.agreement import Agreement, Form
from kuavo_bag_converter.jobs.carrying import carry_over, others_in, take_snapshot
from kuavo_bag_converter.jobs.configuration import configuration
from kuavo_bag_converter.jobs.disk import DiskWatch, shard_bytes
from kuavo_bag_converter.jobs.preflight import Prospect, prospect_of, try_bag
from kuavo_bag_converter.jobs.publishing import Published
from kuavo_bag_converter.jobs.record import Before, write_record
from kuavo_bag_converter.jobs.report import Observer, Outcome, Report, Status
from kuavo_bag_converter.jobs.shard import write_shard
from kuavo_bag_converter.jobs.workspace import Workspace, resolve_output
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.robots.resolve import resolve, resolve_without_bag
from kuavo_bag_converter.settings import Settings
from kuavo_bag_converter.support.errors import (
    BagError,
    Cancelled,
    DatasetError,
    OutputError,
    UsageError,
)
from kuavo_bag_converter.support.memory import peak_memory_mb
from kuavo_bag_converter.support.texts import visible

_NAMED = 5
"""Files that a line names."""


def convert(
    settings: Settings,
    *,
    observer: Observer | None = None,
    cancel: threading.Event | None = None,
    fill: Filler = fill_frames,
) -> Report:
    """Convert ``settings.bags`` to a dataset at ``settings.output``.

    Args:
        settings: What to do.
        observer: Is told how it goes on.
        cancel: Set it to stop soon; finished bags are kept for the next run.
        fill: Brings the messages of a bag to its frames.

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
    adding = settings.append or settings.retry_failed
    if not settings.bags and not settings.retry_failed:
        raise UsageError('bags: no bag given')
    output = resolve_output(settings.output)
    observer = observer or Observer()
    try:
        with Workspace(output, adding=adding) as workspace, _one_thread_each():
            before = read_before(output, take_snapshot(output)) if adding else None
            if before is not None:
                settings = settings_for(settings, before)
            run = _Run(settings, workspace, before, observer, cancel or threading.Event(), fill)
            report = run.run()
        for note in workspace.notes:
            observer.note(note)
    except OSError as error:
        # What reading a bag meets is a BagError.
        advice = 'finished bags are kept beside it, run the same command again when this is mended'
        if isinstance(error, FileNotFoundError):
            advice = 'was its unfinished work removed? Run the same command again'
        raise OutputError(
            f'{settings.output}: cannot be written: {error.strerror or error}; {advice}'
        ) from error
    return report


class _Bag(NamedTuple):
    """A recording to convert."""

    paths: tuple[Path, ...]
    """Its file or directory, or the files of one recording."""
    recorded: int | None = None
    """Its number in the record of a dataset in which it failed."""

    @property
    def name(self) -> str:
        return str(self.paths[0])

    def outcome(self, status: Status, reason: str = '', shard: Shard | None = None) -> Outcome:
        """Return what became of it."""
        lengths = () if shard is None else shard.episode_lengths
        return Outcome(
            self.name,
            status,
            reason,
            episodes=len(lengths),
            frames=sum(lengths),
            plan=None if shard is None else PlanReport.from_json(shard.extra['plan']),
            problems=() if shard is None else tuple(shard.extra['problems']),
            paths=self.paths,
            recorded=self.recorded,
        )


class _Run:
    """One call of :func:`convert`."""

    def __init__(
        self,
        settings: Settings,
        workspace: Workspace,
        before: Before | None,
        observer: Observer,
        cancel: threading.Event,
        fill: Filler,
    ) -> None:
        self._fill = fill
        self._settings = settings
        self._workspace = workspace
        self._before = before
        self._observer = observer
        self._cancel = cancel
        self._options = shard_options(settings)
        self._profile = resolve_without_bag(settings)
        self._agreement = Agreement(
            settings.lerobot_version, None if before is None else workspace.output
        )

    def run(self) -> Report:
        started = time.monotonic()
        settings, workspace = self._settings, self._workspace
        workspace.prepare(configuration(settings), redo=settings.on_change == 'redo')
        for note in workspace.notes:
            self._observer.note(note)
        workspace.notes.clear()
        bags = _chosen(self._bags(), settings)
        # One bag is checked when it is opened to be converted, which is at once.
        refused = self._check_all(bags) if len(bags) > 1 else {}
        outcomes, shards = self._convert_all(bags, refused)
        published = Published(Path(settings.output))
        if shards:
            published = self._assemble(shards, outcomes)
        where = published.path if published.problem else Path(settings.output)
        seconds = time.monotonic() - started
        return Report(where, tuple(outcomes), seconds, peak_memory_mb(), published.problem)

    def _bags(self) -> list[_Bag]:
        """Return the recordings to convert, each once."""
        if self._settings.retry_failed and self._before is not None:
            left = recordings_left(self._before.record, self._settings.bags)
            return [_Bag(paths, number) for paths, number in left]
        listed = list_recordings(self._settings.bags)
        for remark in listed.remarks:
            self._observer.note(remark)
        recordings = [
            (recording,) if isinstance(recording, Path) else recording
            for recording in listed.recordings
        ]
        doubles = find_duplicates(recordings)
        for number, other in doubles.items():
            self._observer.note(
                f'{recordings[number][0]}: holds what {recordings[other][0]} holds; that one is '
                'converted, once'
            )
        return [
            _Bag(paths, self._number_before(paths))
            for number, paths in enumerate(recordings)
            if number not in doubles
        ]

    def _number_before(self, paths: Sequence[Path]) -> int | None:
        return None if self._before is None else number_of(self._before.record, paths)

    def _check_all(self, bags: Sequence[_Bag]) -> dict[int, Outcome]:
        """Return the outcomes of the bags that cannot be converted, by their numbers from 1.

        Damage further inside, and that of bags without an index, is found when their turn comes.
        """
        total = len(bags)
        self._observer.checking(total)
        refused: dict[int, Outcome] = {}
        forms: dict[int, Form] = {}

        def refuse(number: int, bag: _Bag, error: Exception) -> None:
            if not self._is_done(bag):
                refused[number] = bag.outcome('failed', self._reason(bag, error))
                self._observer.bag_refused(number, total, refused[number])

        for number, bag in enumerate(bags, start=1):
            self._check_cancelled()
            try:
                prospect = self._try(bag)
            except (BagError, OSError) as error:
                refuse(number, bag, error)
                continue
            if prospect is not None:
                forms[number] = prospect.form
        self._agreement.settle({bags[number - 1].name: form for number, form in forms.items()})
        for number, form in forms.items():
            bag = bags[number - 1]
            try:
                self._agreement.check(bag.name, form)
            except (BagError, DatasetError) as error:
                refuse(number, bag, error)
        return refused

    def _try(self, bag: _Bag) -> Prospect | None:
        settings = self._settings
        prospect = try_bag(
            bag.paths,
            self._profile_for,
            self._options,
            reader=settings.reader,
            on_damage=settings.on_damage,
        )
        if prospect is not None:
            self._profile = self._profile or prospect.binding.profile
        return prospect

    def _reason(self, bag: _Bag, error: Exception) -> str:
        """Return in a line why a bag is not converted."""
        reason = _one_line(error)
        if bag.recorded is not None and not any(map(os.path.lexists, bag.paths)):
            reason += '; tell where the bag is now: --retry-failed BAG'
        return reason

    def _is_done(self, bag: _Bag) -> bool:
        """Tell whether a bag is in the dataset, or was converted by an unfinished run."""
        try:
            key = key_of(fingerprint(bag.paths))
        except BagError:
            return False
        if self._before is not None and self._before.record.holder_of(bag.paths, key):
            return True
        path = self._workspace.shard_path(_place(bag), key)
        return any(True for _ in self._workspace.finished_shards(path))

    def _convert_all(
        self, bags: Sequence[_Bag], refused: Mapping[int, Outcome]
    ) -> tuple[list[Outcome], list[Shard]]:
        outcomes: list[Outcome] = []
        shards: list[Shard] = []
        stopped = bool(refused) and self._settings.on_error == 'stop'
        numbered = list(enumerate(bags, start=1))
        sizes = [0 if number in refused else _bytes_of(bag.paths) for number, bag in numbered]
        self._disk = DiskWatch(self._workspace.root, sizes)
        for (number, bag), size in zip(numbered, sizes, strict=True):
            if number in refused:
                outcomes.append(refused[number])
                continue
            self._observer.bag_started(number, len(bags), bag.name)
            if stopped:
                outcome = bag.outcome('skipped', 'on_error: stop, because of the one that failed')
            else:
                outcome, shard = self._convert_one(bag)
                self._disk.note(size, 0 if shard is None else _bytes_of([shard.path]))
                if shard is not None:
                    shards.append(shard)
                stopped = outcome.status == 'failed' and self._settings.on_error == 'stop'
            outcomes.append(outcome)
            self._observer.bag_finished(outcome)
        return outcomes, shards

    def _convert_one(self, bag: _Bag) -> tuple[Outcome, Shard | None]:
        workspace = self._workspace
        try:
            state, mark = state_of(bag.paths), fingerprint(bag.paths)
            key = key_of(mark)
            if self._before is not None:
                if self._before.record.holder_of(bag.paths, key):
                    return bag.outcome('present'), None
                self._check_not_shared(bag, key)
            path = workspace.shard_path(_place(bag), key)
            workspace.forget_changed(path, bag.name, redo=self._settings.on_change == 'redo')
            shard = self._kept_shard(bag, path)
            if shard is not None:
                if self._profile is None:
                    with self._open(bag) as reader:
                        self._profile = self._profile_for(reader)
                options = {key: video.options for key, video in shard.videos.items()}
                form = Form(shard.features, options, shard.fps, self._profile.robot_type)
                self._agreement.check(bag.name, form)
                return bag.outcome('kept', shard=shard), shard
            places = [os.path.abspath(file) for file in files_of(bag.paths)]
            shard = self._write_shard(bag, path, {'bag': mark, 'paths': places})
            if state_of(bag.paths) != state:
                workspace.remove_shard(path)
                raise BagError('the bag changed while it was read; wait until it is complete')
        except (BagError, DatasetError) as error:
            return bag.outcome('failed', self._reason(bag, error)), None
        return bag.outcome('converted', shard=shard), shard

    def _check_not_shared(self, bag: _Bag, key: Key) -> None:
        """Refuse a recording of which another one in the dataset has a part.

        Raises:
            BagError: Names the file.

        """
        assert self._before is not None
        shared = self._before.record.sharer_of(bag.paths, key)
        if shared is not None:
            raise BagError(
                f'{shared[0]}: is in the dataset already, as {shared[1].name}; give the other '
                'files of the recording by their own paths'
            )

    def _kept_shard(self, bag: _Bag, path: Path) -> Shard | None:
        """Return the shard that an unfinished run has made of a bag, if it is whole."""
        for kept in self._workspace.finished_shards(path):
            try:
                shard = Shard.load(kept, whole=True)
                shard.check_attachment(ALIGNMENT)
                places = [Path(file) for file in shard.extra['identity'].get('paths', ())]
                bag.outcome('kept', shard=shard)
            except (DatasetError, KeyError, AttributeError, TypeError, ValueError) as error:
                self._observer.note(
                    f'{kept}: cannot be taken over ({_one_line(error)}); its bag is converted again'
                )
                self._workspace.remove_shard(kept)
                continue
            there = places and all(map(os.path.exists, places))
            if kept == path or not there or same_files(files_of(bag.paths), places):
                return shard
        return None

    def _write_shard(self, bag: _Bag, path: Path, identity: dict[str, Any]) -> Shard:
        settings, options = self._settings, self._options
        with self._open(bag) as reader:
            profile = self._profile_for(reader)
            prospect = prospect_of(profile, reader, options)
            self._agreement.check(bag.name, prospect.form)
            self._profile = profile
            if settings.check_disk:
                estimate = shard_bytes(
                    reader,
                    profile,
                    prospect.binding.clock_topic,
                    options.video,
                    copy=options.color_cameras == 'copy',
                )
                self._disk.expect(_bytes_of(bag.paths), estimate)
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
                fill=self._fill,
            )

    def _check_cancelled(self, *_: int) -> None:
        if self._cancel.is_set():
            raise Cancelled

    def _open(self, bag: _Bag) -> BagReader:
        settings = self._settings
        try:
            return open_bag(bag.paths, reader=settings.reader, on_damage=settings.on_damage)
        except OSError as error:  # of a temporary folder
            raise BagError(f'{bag.name}: cannot be read: {error}') from error

    def _profile_for(self, reader: BagReader) -> Profile:
        """Return the profile of the run, which the first bag that fits one settles."""
        if not any(reader.counts.values()):
            raise BagError('the bag has no messages; leave it out, or record it again')
        topics = {connection.topic for connection in reader.connections}
        return self._profile or resolve(self._settings, topics)

    def _assemble(self, shards: Sequence[Shard], outcomes: Sequence[Outcome]) -> Published:
        self._observer.assembling(sum(outcome.episodes for outcome in outcomes))
        workspace, output, profile = self._workspace, self._workspace.output, self._profile
        root = workspace.dataset_path()
        assert profile is not None
        before = snapshot = None
        if self._before is not None:
            snapshot = workspace.begin_replacing()
            before = read_before(output, snapshot)
            if before.record.document != self._before.record.document:
                raise DatasetError(f'{output}: is another dataset than when the run began')
        assemble(
            shards,
            root,
            features=shards[0].features,
            fps=profile.fps,
            robot_type=profile.robot_type,
            version=self._settings.lerobot_version,
            onto=None if before is None else output,
            progress=self._check_cancelled,
        )
        write_record(root, output, self._settings, profile, outcomes, shards, before)
        if snapshot is not None:
            carry_over(output, root, snapshot)
            self._name_others(others_in(snapshot))
        _check(root)
        return workspace.publish(root, snapshot)

    def _name_others(self, others: Sequence[str]) -> None:
        """Say which files come along that may tell of the dataset as it was."""
        if others:
            named = ', '.join(visible(path) for path in others[:_NAMED])
            more = f' and {len(others) - _NAMED} more' if len(others) > _NAMED else ''
            self._observer.note(
                f'carried over as they are: {named}{more}; counts in them may be out of date'
            )


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


def _chosen(bags: Sequence[_Bag], settings: Settings) -> Sequence[_Bag]:
    """Draw ``num_used`` of the recordings, always the same ones, in their order."""
    wanted = settings.num_used
    if not wanted or wanted >= len(bags) or settings.retry_failed:
        return bags
    chosen = sorted(random.Random(42).sample(range(len(bags)), wanted))  # noqa: S311
    return [bags[position] for position in chosen]


def _place(bag: _Bag) -> str:
    return os.path.realpath(bag.paths[0])


def _bytes_of(paths: Sequence[Path]) -> int:
    """Return the bytes of a recording's files, or of all files in a folder, that can be seen."""
    files = list(paths)
    for path in paths:
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
