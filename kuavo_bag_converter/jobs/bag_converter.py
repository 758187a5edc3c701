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

"""Bag by bag: try whether it can be converted, then give it a shard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
import os
from pathlib import Path
from typing import Any, NamedTuple

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
from kuavo_bag_converter.dataset.existing import encoded_cameras
from kuavo_bag_converter.dataset.hardware import EncoderChoice
from kuavo_bag_converter.dataset.recorded_bag import RecordedBag
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.frames.options import shard_options, ShardOptions
from kuavo_bag_converter.frames.preflight import bind_bag, BoundBag, FirstMessages, try_bag
from kuavo_bag_converter.frames.stream import Filler
from kuavo_bag_converter.jobs.append import ExistingDataset
from kuavo_bag_converter.jobs.bags import Bag
from kuavo_bag_converter.jobs.executors.model import Context, PROGRESS
from kuavo_bag_converter.jobs.folders.disk import DiskWatch, shard_bytes
from kuavo_bag_converter.jobs.folders.shard_folder import ShardFolder
from kuavo_bag_converter.jobs.labels import check_labels
from kuavo_bag_converter.jobs.report import Outcome
from kuavo_bag_converter.jobs.shard import format_of, Origin, write_shard
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.robots.resolve import RunProfile
from kuavo_bag_converter.settings import AUTO, Settings
from kuavo_bag_converter.support.errors import BagError, DatasetError, MemoryLimitError, UsageError
from kuavo_bag_converter.support.files import total_bytes
from kuavo_bag_converter.support.remote.spool import held, is_stub
from kuavo_bag_converter.support.remote.urls import remember, remembered
from kuavo_bag_converter.support.texts import counted, error_text, listed


class TriedBag(NamedTuple):
    """What the first messages of a bag have told."""

    shard_format: ShardFormat
    profile: Profile
    settled: Mapping[str, object]
    """Settings that were ``auto``, as the bag settles them."""
    state: FilesState
    """How its files were then."""
    first_messages: FirstMessages


class BagToConvert(NamedTuple):
    """A bag whose turn has come."""

    bag: Bag
    disk: DiskWatch
    """Knows whether its shard has room."""
    state: FilesState | None = None
    """How its files were when its first messages were read, if they have been."""
    first_messages: FirstMessages | None = None


class BagConverter:
    """
    Tries and converts the bags of a run, which have one profile and must agree in their shards.

    It can be pickled: what several bags decide is settled by the run, before they are converted
    beside each other.

    :ivar settings: Of the run.
    :ivar profile: Of the run.
    :ivar agreement: Of the shards.
    :ivar shards: Where they are.
    :ivar encoders: Of their cameras.
    :ivar encoded: Cameras of which ``video: auto`` copies nothing, as the run settles it.
    """

    def __init__(
        self,
        settings: Settings,
        shards: ShardFolder,
        before: ExistingDataset | None,
        fill: Filler,
    ) -> None:
        """
        Convert to shards in a folder.

        :param settings: How.
        :param shards: The folder.
        :param before: The dataset that is added to.
        :param fill: Brings the messages of a bag to its frames.
        :raises UsageError: The settings cannot be carried out.
        """
        self.settings = settings
        self.shards = shards
        self.profile = RunProfile(settings)
        self.agreement = Agreement(
            settings.lerobot_version,
            None if before is None else before.root,
            () if before is None else before.record.element_names(),
        )
        self.encoded: frozenset[str] = frozenset()
        if before is not None:
            self.encoded = encoded_cameras(before.root)
        self._fill = fill
        self._options: ShardOptions | None = shard_options(settings)
        remember(settings.bags)
        self.encoders = EncoderChoice(settings.vcodec)
        check_labels(settings.labels)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_options': None, '_urls': remembered()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        remember(state.pop('_urls'))
        self.__dict__.update(state)

    def _options_in(self, context: Context) -> ShardOptions:
        """Return the options of shards, with what a task may use."""
        self._options = self._options or shard_options(self.settings)
        return replace(
            self._options,
            threads=context.threads,
            memory_limit_mb=context.memory_limit_mb,
            encoders=self.encoders,
            encoded=self.encoded,
        )

    def try_bag(self, bag: Bag, context: Context) -> TriedBag | Outcome | None:
        """
        Return what the first messages of a bag tell, or its outcome if it cannot be converted.

        Damage further inside, and that of bags without an index, which are not tried (None), is
        found when their turn comes.
        """
        try:
            state = state_of(bag.paths)
            bound = try_bag(
                bag.paths,
                self.profile.of,
                self._options_in(context),
                reader=self.settings.reader,
                on_damage=self.settings.on_damage,
                cancel=context.cancel,
            )
        except (BagError, OSError) as error:
            return bag.failure(error)
        if bound is None:
            return None
        return self._tried(bound, state)

    def try_whole(self, bag: Bag, context: Context) -> TriedBag | None:
        """Do the same for a bag that must be read whole for it; None if it cannot be converted."""
        try:
            state = state_of(bag.paths)
            with self._open(bag) as reader:
                bound = bind_bag(
                    self.profile.of(reader), reader, self._options_in(context), context.cancel
                )
        except (BagError, OSError):
            return None
        return self._tried(bound, state)

    def _tried(self, bound: BoundBag, state: FilesState) -> TriedBag:
        profile, found = bound.binding.profile, self.profile.found
        return TriedBag(bound.shard_format, profile, found, state, bound.first_messages)

    def is_finished(self, bag: Bag) -> bool:
        """Tell whether a bag was converted by an unfinished run."""
        try:
            path = self.shards.path_of(bag.place, fingerprint(bag.paths).key)
        except BagError:
            return False
        return any(True for _ in self.shards.finished(path))

    def convert(self, given: BagToConvert, context: Context) -> Outcome:
        """
        Convert a bag, or take over the shard that an unfinished run has made of it.

        :return: What became of it.
        :raises UsageError: The bag has changed since an unfinished run converted it.
        :raises OutputError: The disk has no room.
        :raises MemoryLimitError: Its share of the memory does not suffice.
        :raises Cancelled: The run was cancelled.
        """
        bag = given.bag
        try:
            return self._convert(given, context)
        except (BagError, DatasetError) as error:
            if isinstance(error, MemoryLimitError) and context.shares_memory:
                raise
            return bag.failure(error)

    def _convert(self, given: BagToConvert, context: Context) -> Outcome:
        bag = given.bag
        state, found = state_of(bag.paths), fingerprint(bag.paths)
        path = self.shards.path_of(bag.place, found.key)
        self.shards.forget_changed(path, bag.name, redo=self.settings.on_change == 'redo')
        shard = self._kept_shard(bag, path, context)
        if shard is not None and self._serves(bag, shard, context):
            return bag.outcome('kept', shard=shard)
        known = given.first_messages if given.state == state else None
        shard = self._write_shard(bag, path, found, known, given.disk, context)
        if state_of(bag.paths) != state:
            self.shards.remove(path)
            raise BagError('the bag changed while it was read; wait until it is complete')
        return bag.outcome('converted', shard=shard)

    def _kept_shard(self, bag: Bag, path: Path, context: Context) -> Shard | None:
        """Return the shard that an unfinished run has made of a bag, if it is whole."""
        for kept in self.shards.finished(path):
            try:
                shard = Shard.load(kept, whole=True)
                shard.check_attachment(ALIGNMENT)
                files = Origin.of(shard).files
            except DatasetError as error:
                context.tell(
                    'note',
                    f'{kept}: cannot be taken over ({error_text(error)}); its bag is converted '
                    'again',
                )
                self.shards.remove(kept)
                continue
            there = files and all(map(os.path.exists, files))
            if kept == path or not there or same_files(files_of(bag.paths), files):
                return shard
        return None

    def _serves(self, bag: Bag, shard: Shard, context: Context) -> bool:
        """Tell whether the shard of an unfinished run serves this one, which must fit it."""
        profile = self.profile.profile
        if profile is None:
            with self._open(bag) as reader:
                profile = self.profile.of(reader)
            self._settle(bag, profile, context)
        origin = Origin.of(shard)
        try:
            self.agreement.check(bag.name, format_of(shard, origin, profile.robot_type))
        except BagError:
            if self.settings.video != AUTO:
                raise
            self.shards.remove(shard.path)  # other bags were beside it then
            return False
        task, now = origin.task, bag.task or profile.task
        same_pieces = origin.ranges == profile.for_bag('', bag.ranges).episodes.ranges
        if task in ('', now) and same_pieces:
            return True
        if self.settings.on_change != 'redo':
            what = f'the task {task!r}, which is {now!r} now'
            raise UsageError(
                f'{bag.name}: was converted by an unfinished run with '
                f'{what if same_pieces else "other start_s and stop_s"}; set on_change: redo to '
                'convert it again, or remove '
                f'{self.shards.path.parent}'
            )
        self.shards.remove(shard.path)
        return False

    def _write_shard(
        self,
        bag: Bag,
        path: Path,
        found: Fingerprint,
        known: FirstMessages | None,
        disk: DiskWatch,
        context: Context,
    ) -> Shard:
        options = self._options_in(context)
        files = [Path(os.path.abspath(file)) for file in files_of(bag.paths)]
        if any(map(is_stub, files)):
            context.tell('note', f'{bag.name}: copying {total_bytes(files) / 1e6:.1f} MB')
        with held(files, context.cancel) as interrupted, self._open(bag) as reader:
            if interrupted:
                times = counted(interrupted, 'interruption')
                context.tell('note', f'{bag.name}: copied after {times}')
            profile = self.profile.of(reader)
            if bag.ranges and profile.episodes.cuts:
                raise BagError(
                    'its table gives start_s and stop_s, but the profile cuts bags itself '
                    '(episodes); leave one of them out'
                )
            profile_of_bag = profile.for_bag(bag.task, bag.ranges)
            bound = bind_bag(profile_of_bag, reader, options, context.cancel, known)
            self.agreement.check(bag.name, bound.shard_format)
            self._settle(bag, profile, context)
            for note in self.encoders.take_notes():
                context.tell('note', note)
            if self.settings.check_disk:
                estimate = shard_bytes(
                    reader,
                    profile,
                    bound.binding.clock_topic,
                    bound.shard_format.video,
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
                planned=lambda plan: context.tell('planned', plan.report),
                progress=partial(context.tell, PROGRESS),
                cancel=context.cancel,
                fill=self._fill,
            )

    def _open(self, bag: Bag) -> BagReader:
        settings = self.settings
        try:
            return open_bag(bag.paths, reader=settings.reader, on_damage=settings.on_damage)
        except OSError as error:  # of a temporary folder
            raise BagError(f'{bag.name}: cannot be read: {error}') from error

    def _settle(self, bag: Bag, profile: Profile, context: Context) -> None:
        text = self.profile.settle(profile, self.profile.found)
        if text:
            context.tell('note', f'{bag.name}: {text}, by what it holds')


def is_present(bag: Bag, before: ExistingDataset) -> bool:
    """Tell whether a bag is in the dataset that is added to."""
    try:
        return before.record.holds(bag.paths, fingerprint(bag.paths).key)
    except BagError:
        return False


def present_outcome(bag: Bag, before: ExistingDataset, profile: Profile | None) -> Outcome | None:
    """
    Return the outcome of a bag that is in the dataset that is added to; None if it is not.

    :param bag: The bag.
    :param before: The dataset.
    :param profile: Of the run, if it is known.
    :raises BagError: The dataset has a part of its recording.
    """
    holders = before.record.holders(bag.paths, fingerprint(bag.paths).key)
    if holders and all(holders.values()):
        return bag.outcome('present', _other_task(bag, holders, profile))
    _check_not_shared(holders)
    return None


def _other_task(
    bag: Bag, holders: Mapping[Path, RecordedBag | None], profile: Profile | None
) -> str:
    """Say that a bag of the dataset has another task there than it would be given now."""
    now = bag.task or (profile.task if profile else '')
    others = {holder.task for holder in holders.values() if holder} - {now, ''}
    if not now or not others:
        return ''
    return f'its task there stays {listed(sorted(others))}, not {now}'


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
