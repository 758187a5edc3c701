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

"""Bag by bag: try whether it can be converted, then give it a shard in the workspace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
import os
from pathlib import Path
import threading

from kuavo_bag_converter.alignment.alignment_file import ALIGNMENT
from kuavo_bag_converter.bags.fingerprint import (
    files_of,
    FilesState,
    Fingerprint,
    fingerprint,
    same_files,
    state_of,
)
from kuavo_bag_converter.bags.model import BagReader
from kuavo_bag_converter.bags.open import holds_messages, open_bag
from kuavo_bag_converter.dataset.agreement import Agreement, ShardFormat
from kuavo_bag_converter.dataset.record import RecordedBag
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.frames.options import shard_options
from kuavo_bag_converter.frames.preflight import bind_bag, FirstMessages, try_bag
from kuavo_bag_converter.frames.stream import Filler
from kuavo_bag_converter.jobs.append import ExistingDataset
from kuavo_bag_converter.jobs.bags import Bag
from kuavo_bag_converter.jobs.disk import DiskWatch, shard_bytes
from kuavo_bag_converter.jobs.labels import check_labels, labels_of
from kuavo_bag_converter.jobs.report import Observer, Outcome
from kuavo_bag_converter.jobs.shard import Origin, write_shard
from kuavo_bag_converter.jobs.workspace import Workspace
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.robots.resolve import RunProfile
from kuavo_bag_converter.settings import Settings
from kuavo_bag_converter.support.errors import BagError, Cancelled, DatasetError, UsageError
from kuavo_bag_converter.support.files import total_bytes
from kuavo_bag_converter.support.texts import error_text, listed


@dataclass(frozen=True)
class Conversion:
    """One call of :func:`~kuavo_bag_converter.jobs.convert.convert`."""

    settings: Settings
    workspace: Workspace
    before: ExistingDataset | None
    """The dataset that is added to."""
    observer: Observer
    cancel: threading.Event
    fill: Filler
    """Brings the messages of a bag to its frames."""

    def check_cancelled(self) -> None:
        """
        Stop if that was asked for.

        :raises Cancelled: ``cancel`` is set.
        """
        if self.cancel.is_set():
            raise Cancelled

    def pass_notes_on(self) -> None:
        """Tell the observer what the workspace has to say."""
        for note in self.workspace.notes:
            self.observer.note(note)
        self.workspace.notes.clear()


class BagConverter:
    """Converts the bags of a run, which have one profile and must agree in the form of shards."""

    def __init__(self, run: Conversion) -> None:
        """
        Convert to shards in the run's workspace.

        :raises UsageError: The settings cannot be carried out.
        """
        settings, before = run.settings, run.before
        self._profile = RunProfile(settings)
        bags = () if before is None else before.record.converted
        self.agreement = Agreement(
            settings.lerobot_version,
            None if before is None else run.workspace.output,
            [bag.plan.element_names or {} for bag in bags],
        )
        self._run = run
        self._options = shard_options(settings)
        check_labels(settings.labels)
        self._tried: dict[Bag, tuple[FilesState, FirstMessages]] = {}
        """What first messages have told, and how the files were then."""

    @property
    def profile(self) -> Profile | None:
        """Return that of the run, which the first bag that fits one settles."""
        return self._profile.profile

    def try_bag(self, bag: Bag) -> ShardFormat | None:
        """
        Return the form that a bag's shard will have, as far as its first messages tell.

        Damage further inside, and that of bags without an index, which are not tried (None), is
        found when their turn comes.

        :raises BagError: The bag cannot be converted.
        """
        state = state_of(bag.paths)
        bound = try_bag(
            bag.paths,
            self._profile.of,
            self._options,
            reader=self._run.settings.reader,
            on_damage=self._run.settings.on_damage,
            cancel=self._run.cancel,
        )
        if bound is None:
            return None
        self._settle(bag, bound.binding.profile)
        self._tried[bag] = state, bound.first_messages
        return bound.shard_format

    def is_done(self, bag: Bag) -> bool:
        """Tell whether a bag is in the dataset, or was converted by an unfinished run."""
        try:
            key = fingerprint(bag.paths).key
        except BagError:
            return False
        before, workspace = self._run.before, self._run.workspace
        if before is not None and before.record.holds(bag.paths, key):
            return True
        return any(True for _ in workspace.finished_shards(workspace.shard_path(bag.place, key)))

    def convert(self, bag: Bag, disk: DiskWatch) -> tuple[Outcome, Shard | None]:
        """
        Convert a bag, or take over the shard that an unfinished run has made of it.

        :param bag: The bag.
        :param disk: Knows whether its shard has room.
        :return: What became of it, and its shard if it has one.
        :raises UsageError: The bag has changed since an unfinished run converted it.
        :raises OutputError: The disk has no room.
        :raises Cancelled: ``cancel`` was set.
        """
        try:
            outcome, shard = self._convert(bag, disk)
        except (BagError, DatasetError) as error:
            outcome, shard = bag.failure(error), None
        if shard is not None:
            labels, lines = labels_of(self._run.settings.labels, bag.paths[0])
            shard = replace(shard, labels=labels)
            outcome = replace(outcome, problems=(*outcome.problems, *lines))
        disk.note(total_bytes(bag.paths), 0 if shard is None else total_bytes([shard.path]))
        return outcome, shard

    def _convert(self, bag: Bag, disk: DiskWatch) -> tuple[Outcome, Shard | None]:
        workspace, before = self._run.workspace, self._run.before
        state, found = state_of(bag.paths), fingerprint(bag.paths)
        key = found.key
        if before is not None:
            holders = before.record.holders(bag.paths, key)
            if holders and all(holders.values()):
                return bag.outcome('present', self._other_task(bag, holders)), None
            _check_not_shared(holders)
        path = workspace.shard_path(bag.place, key)
        workspace.forget_changed(path, bag.name, redo=self._run.settings.on_change == 'redo')
        shard = self._kept_shard(bag, path)
        if shard is not None and self._serves(bag, shard):
            return bag.outcome('kept', shard=shard), shard
        tried = self._tried.pop(bag, None)
        known = tried[1] if tried is not None and tried[0] == state else None
        shard = self._write_shard(bag, path, found, known, disk)
        if state_of(bag.paths) != state:
            workspace.remove_shard(path)
            raise BagError('the bag changed while it was read; wait until it is complete')
        return bag.outcome('converted', shard=shard), shard

    def _other_task(self, bag: Bag, holders: Mapping[Path, RecordedBag | None]) -> str:
        """Say that a bag of the dataset has another task there than it would be given now."""
        now = bag.task or (self.profile.task if self.profile else '')
        others = {holder.task for holder in holders.values() if holder} - {now, ''}
        if not now or not others:
            return ''
        return f'its task there stays {listed(sorted(others))}, not {now}'

    def _kept_shard(self, bag: Bag, path: Path) -> Shard | None:
        """Return the shard that an unfinished run has made of a bag, if it is whole."""
        for kept in self._run.workspace.finished_shards(path):
            try:
                shard = Shard.load(kept, whole=True)
                shard.check_attachment(ALIGNMENT)
                files = Origin.of(shard).files
            except DatasetError as error:
                self._run.observer.note(
                    f'{kept}: cannot be taken over ({error_text(error)}); its bag is converted '
                    'again'
                )
                self._run.workspace.remove_shard(kept)
                continue
            there = files and all(map(os.path.exists, files))
            if kept == path or not there or same_files(files_of(bag.paths), files):
                return shard
        return None

    def _serves(self, bag: Bag, shard: Shard) -> bool:
        """Tell whether the shard of an unfinished run serves this one, which must fit it."""
        profile = self.profile
        if profile is None:
            with self._open(bag) as reader:
                profile = self._profile.of(reader)
            self._settle(bag, profile)
        options = {key: video.options for key, video in shard.videos.items()}
        origin = Origin.of(shard)
        names = origin.plan.element_names or {}
        shard_format = ShardFormat(
            shard.features, options, shard.fps, profile.robot_type, names=names
        )
        self.agreement.check(bag.name, shard_format)
        task, now = origin.task, bag.task or profile.task
        if task in ('', now):
            return True
        workspace = self._run.workspace
        if self._run.settings.on_change != 'redo':
            raise UsageError(
                f'{bag.name}: was converted by an unfinished run with the task {task!r}, which is '
                f'{now!r} now; set on_change: redo to convert it again, or remove {workspace.root}'
            )
        workspace.remove_shard(shard.path)
        return False

    def _write_shard(
        self,
        bag: Bag,
        path: Path,
        found: Fingerprint,
        known: FirstMessages | None,
        disk: DiskWatch,
    ) -> Shard:
        options = self._options
        files = [Path(os.path.abspath(file)) for file in files_of(bag.paths)]
        with self._open(bag) as reader:
            profile = self._profile.of(reader)
            profile_of_bag = replace(profile, task=bag.task or profile.task)
            bound = bind_bag(profile_of_bag, reader, options, self._run.cancel, known)
            self.agreement.check(bag.name, bound.shard_format)
            self._settle(bag, profile)
            if self._run.settings.check_disk:
                estimate = shard_bytes(
                    reader,
                    profile,
                    bound.binding.clock_topic,
                    options.video,
                    copy=options.color_cameras == 'copy',
                )
                disk.expect(total_bytes(bag.paths), estimate)
                disk.check()
            return write_shard(
                reader,
                bound.binding,
                bound.cameras,
                path,
                options,
                found,
                files,
                planned=lambda plan: self._run.observer.planned(plan.report),
                progress=self._run.observer.progressed,
                cancel=self._run.cancel,
                fill=self._run.fill,
            )

    def _open(self, bag: Bag) -> BagReader:
        settings = self._run.settings
        try:
            return open_bag(bag.paths, reader=settings.reader, on_damage=settings.on_damage)
        except OSError as error:  # of a temporary folder
            raise BagError(f'{bag.name}: cannot be read: {error}') from error

    def _settle(self, bag: Bag, profile: Profile) -> None:
        settled = self._profile.settle(profile)
        if settled:
            self._run.observer.note(f'{bag.name}: {settled}, by what it holds')


def _check_not_shared(holders: Mapping[Path, RecordedBag | None]) -> None:
    """
    Refuse a recording of which another one in the dataset has a part.

    :raises BagError: Names the file.
    """
    for file, holder in holders.items():
        if holder is not None and holds_messages(file):
            raise BagError(
                f'{file}: is in the dataset already, as {holder.name}; give the other '
                'files of the recording by their own paths'
            )
