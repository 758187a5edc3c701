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

"""All bags of a run become shards: tried, settled what several of them decide, converted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
import pickle
import sys
import threading
from typing import Any

from kuavo_bag_converter.dataset.agreement import ShardFormat, unlike_codings
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.jobs.append import ExistingDataset
from kuavo_bag_converter.jobs.bag_converter import (
    BagConverter,
    BagToConvert,
    is_present,
    present_outcome,
    TriedBag,
)
from kuavo_bag_converter.jobs.bags import Bag
from kuavo_bag_converter.jobs.executors.choose import serial_executor
from kuavo_bag_converter.jobs.executors.model import (
    Died,
    Executor,
    longest_first,
    PROGRESS,
    RETRIED,
    Task,
    Work,
)
from kuavo_bag_converter.jobs.folders.disk import DiskWatch
from kuavo_bag_converter.jobs.folders.workspace import Workspace
from kuavo_bag_converter.jobs.labels import labels_of
from kuavo_bag_converter.jobs.report import Observer, Outcome
from kuavo_bag_converter.jobs.shard import Origin
from kuavo_bag_converter.jobs.topic_alignment import AlignmentSummary
from kuavo_bag_converter.settings import AUTO, Settings
from kuavo_bag_converter.support.errors import BagError, Cancelled, DatasetError
from kuavo_bag_converter.support.files import total_bytes
from kuavo_bag_converter.support.places import is_url
from kuavo_bag_converter.support.remote.prefetch import Prefetch

_SKIPPED = 'on_error: stop, because of the one that failed'


@dataclass(frozen=True)
class Conversion:
    """One call of :func:`~kuavo_bag_converter.jobs.convert.convert_bags`."""

    settings: Settings
    workspace: Workspace
    before: ExistingDataset | None
    """The dataset that is added to."""
    observer: Observer
    cancel: threading.Event
    alignment: AlignmentSummary = field(default_factory=AlignmentSummary)
    """Of the bags that are converted."""

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


class BagsToShards:
    """
    Tries all bags, settles what several of them decide, and converts each.

    Little is kept of a bag: where 10,000 are converted, what is in a plan stays in their shards.
    """

    def __init__(
        self,
        run: Conversion,
        converter: BagConverter,
        executor: Executor,
        bags: Sequence[Bag],
        *,
        is_whole: bool = True,
        take: Callable[[Outcome], int] | None = None,
    ) -> None:
        """
        Prepare to convert bags.

        :param run: The run.
        :param converter: Does it.
        :param executor: Says where.
        :param bags: The bags.
        :param is_whole: Whether these are all bags of a dataset.
        :param take: Called with the outcomes in order, each as soon as it and those before are
            known; returns the bytes of shards that need not be joined any more.
        """
        self._run = run
        self._take_in_order = take
        self._taken = 0
        # One bag is checked when it is opened to be converted, which is at once.
        self._checks = len(bags) > 1 or not is_whole
        self._converter = converter
        self._executor = executor
        self._bags = bags
        self._sizes = [total_bytes(bag.paths) for bag in bags]
        self._here = serial_executor(run.settings, run.cancel)
        self._outcomes: dict[int, Outcome] = {}
        """By the numbers of the bags, from 1."""
        self._tried: dict[int, TriedBag] = {}
        self._equal: dict[bytes, TriedBag] = {}
        """One of the bags whose first messages tell the same, by what they tell."""
        self._stop_behind = len(bags)
        """Bags with larger numbers are skipped."""

    def outcomes(self) -> list[Outcome]:
        """
        Return what became of each bag, in order.

        :raises UsageError: A bag has changed since an unfinished run converted it.
        :raises OutputError: The disk has no room.
        :raises Cancelled: The user asked to stop.
        """
        self._check_reach()
        if self._checks:
            self._check_all()
        converter = self._converter
        if converter.profile.profile is None or not converter.agreement.is_settled:
            self._executor = self._here  # the first bag that is converted settles it
        self._convert_all()
        return [self._outcomes[number] for number in self._numbers()]

    def settle_profile(self) -> None:
        """Let the first bag that can settle the profile, whoever converts it."""
        converter = self._converter
        for number in self._numbers():
            if converter.profile.profile is not None:
                return
            tasks = [Task(number, self._sizes[number - 1])]
            for _, tried in self._here.map(converter.try_bag, tasks, self._bag, self._on_event):
                if isinstance(tried, TriedBag):
                    self._settle_profile(self._bag(number), tried)

    def settle_copies(self) -> None:
        """
        With ``video: auto``, encode cameras that some bags have coded otherwise than others.

        :raises UsageError: The bags are not seen wherever they are converted.
        """
        if self._run.settings.video != AUTO:
            return
        self._check_reach()
        tries = self._executor.map(
            self._converter.try_bag, self._tasks(), self._bag, self._on_event
        )
        self._encode_all(tried.shard_format for _, tried in tries if isinstance(tried, TriedBag))

    def _check_reach(self) -> None:
        self._executor.check_reach(
            self._run.workspace.shards.path, [path for bag in self._bags for path in bag.paths]
        )

    def _numbers(self) -> range:
        return range(1, len(self._bags) + 1)

    def _bag(self, number: int) -> Bag:
        return self._bags[number - 1]

    def _tasks(self) -> list[Task]:
        """Return the bags that are not refused."""
        return [
            Task(number, self._sizes[number - 1], self._kind(number))
            for number in self._numbers()
            if number not in self._outcomes
        ]

    def _kind(self, number: int) -> str:
        """Return what is the same for bags that need about the same memory."""
        tried = self._tried.get(number)
        shard_format = tried.shard_format if tried else None
        # There are few, for many bags.
        return sys.intern(repr((shard_format.sizes, shard_format.video))) if shard_format else ''

    def _on_event(self, number: int, event: str, *arguments: Any) -> None:
        """Tell the observer what a task tells."""
        observer = self._run.observer
        if event == 'note':
            observer.note(*arguments)
        elif event == 'planned':
            observer.planned(number, *arguments)
        elif event == RETRIED:
            observer.warning(f'{self._bag(number).name}: {arguments[0]}; it is tried once more')
        elif event == PROGRESS:
            observer.progressed(number, *arguments)

    def _check_all(self) -> None:
        """Refuse the bags that cannot be converted, and settle what all bags must agree in."""
        self._run.observer.checking(len(self._bags))
        converter = self._converter
        self._try_all(self._tasks())
        self._settle_copies()
        formats = {n: self._tried[n].shard_format for n in sorted(self._tried)}
        converter.agreement.settle({self._bag(n).name: one for n, one in formats.items()})
        for number, shard_format in formats.items():
            bag = self._bag(number)
            try:
                converter.agreement.check(bag.name, shard_format)
            except (BagError, DatasetError) as error:
                self._refuse(number, bag.failure(error))
        if self._executor.jobs > 1:
            self._settle_by_the_others()

    def _settle_copies(self) -> None:
        """With ``video: auto``, encode cameras whose pictures could not be copied alike."""
        formats = (tried.shard_format for tried in self._equal.values())
        if self._run.settings.video != AUTO or not self._encode_all(formats):
            return
        again = [task for task in self._tasks() if task.number in self._tried]
        self._tried.clear()
        self._equal.clear()
        self._try_all(again)

    def _encode_all(self, formats: Iterable[ShardFormat]) -> bool:
        """Encode cameras that are not coded alike; return whether there are any."""
        unlike = unlike_codings(formats)
        for key in sorted(unlike):
            self._run.observer.note(f'{key}: is encoded: not all bags have it in one coding')
        self._converter.encoded |= unlike
        return bool(unlike)

    def _try_all(self, tasks: Sequence[Task]) -> None:
        """Take what the first messages of bags tell, and refuse those that cannot be converted."""
        for number, tried in self._try(self._converter.try_bag, tasks):
            if isinstance(tried, Died):
                self._refuse(number, self._died(number, tried))
            elif isinstance(tried, Outcome):
                self._refuse(number, tried)
            elif tried is not None:
                self._take(number, tried)

    def _try(
        self, work: Work, tasks: Sequence[Task]
    ) -> Iterator[tuple[int, TriedBag | Outcome | Died | None]]:
        """Yield what becomes of bags that are tried, one by one until the profile is settled."""
        begun = 0
        while begun < len(tasks) and self._converter.profile.profile is None:
            yield from self._here.map(work, [tasks[begun]], self._bag, self._on_event)
            begun += 1
        yield from self._executor.map(work, tasks[begun:], self._bag, self._on_event)

    def _settle_by_the_others(self) -> None:
        """
        Let bags that must be read whole settle what the others leave open, in their order.

        One after the other they would when they are converted; beside each other they cannot.
        """
        formats: dict[int, ShardFormat] = {}
        tasks = [task for task in self._tasks() if task.number not in self._tried]
        for number, tried in self._try(self._converter.try_whole, tasks):
            if isinstance(tried, TriedBag):
                self._settle_profile(self._bag(number), tried)
                formats[number] = tried.shard_format
        for number in sorted(formats):
            # Why it does not fit is said when it is converted.
            with suppress(BagError, DatasetError):
                self._converter.agreement.check(self._bag(number).name, formats[number])

    def _take(self, number: int, tried: TriedBag) -> None:
        """Keep what the first messages of a bag have told, once for all that tell the same."""
        self._settle_profile(self._bag(number), tried)
        self._choose_encoders(tried.shard_format)
        content = pickle.dumps((tried.shard_format, tried.first_messages))
        equal = self._equal.setdefault(content, tried)
        self._tried[number] = equal._replace(state=tried.state)

    def _settle_profile(self, bag: Bag, tried: TriedBag) -> None:
        text = self._converter.profile.settle(tried.profile, tried.settled)
        if text:
            self._run.observer.note(f'{bag.name}: {text}, by what it holds')

    def _choose_encoders(self, shard_format: ShardFormat) -> None:
        """Choose once for all bags, where the one that was tried did for itself."""
        encoders = self._converter.encoders
        for key, options in shard_format.video.items():
            if options.encoders:
                encoders.of(options, *shard_format.sizes[key])
        for note in encoders.take_notes():
            self._run.observer.note(note)

    def _died(self, number: int, died: Died) -> Outcome:
        """Return the outcome of a bag with which processes have died."""
        return self._bag(number).failure(BagError(died.reason))

    def _refuse(self, number: int, outcome: Outcome) -> None:
        """Take a bag for failed, unless it is in the dataset, or converted, already."""
        bag, before = self._bag(number), self._run.before
        if not self._converter.is_finished(bag) and not (before and is_present(bag, before)):
            self._outcomes[number] = outcome
            self._run.observer.bag_refused(number, len(self._bags), outcome)

    def _convert_all(self) -> None:
        stop = self._run.settings.on_error == 'stop'
        if stop and self._outcomes:
            self._stop_behind = 0
        refused = self._outcomes.keys()
        sizes = [0 if n in refused else self._sizes[n - 1] for n in self._numbers()]
        disk = self._disk = DiskWatch(self._run.workspace.root, sizes)

        def begin(number: int) -> BagToConvert | None:
            bag = self._bag(number)
            self._run.observer.bag_started(number, len(self._bags), bag.name)
            outcome = self._outcome_at_once(number)
            if outcome is None:
                prefetch.start(number, bag.paths, following.get(number, ()))
                tried = self._tried.pop(number, None)
                if tried is None:
                    return BagToConvert(bag, disk)
                return BagToConvert(bag, disk, tried.state, tried.first_messages)
            self._finish(number, outcome)
            disk.note(self._sizes[number - 1], 0)
            return None

        tasks = self._tasks()
        prefetch = Prefetch(self._run.cancel)
        following = self._following(tasks, in_order=stop)
        try:
            results = self._executor.map(
                self._converter.convert, tasks, begin, self._on_event, in_order=stop
            )
            for number, result in self._in_order(results, tasks) if stop else results:
                bag = self._bag(number)
                prefetch.finish(number)
                outcome = self._died(number, result) if isinstance(result, Died) else result
                written = 0 if outcome.shard is None else total_bytes([outcome.shard])
                disk.note(self._sizes[number - 1], written)
                if number > self._stop_behind:
                    outcome = bag.outcome('skipped', _SKIPPED)
                elif stop and outcome.status == 'failed':
                    self._stop_behind = number
                self._finish(number, outcome)
        finally:
            prefetch.close()

    def _following(self, tasks: Sequence[Task], *, in_order: bool) -> dict[int, tuple[Path, ...]]:
        """Return by number which bag is begun after each, if they lie on other machines."""
        if not any(is_url(bag.name) for bag in self._bags):
            return {}
        largest_first = self._executor.jobs > 1 and not in_order
        order = longest_first(tasks) if largest_first else tasks
        return {one.number: self._bag(next_.number).paths for one, next_ in pairwise(order)}

    def _in_order(
        self, results: Iterator[tuple[int, Any]], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Any]]:
        """Yield results in the order of the bags: what fails first must not depend on the rest."""
        left = deque(task.number for task in tasks)
        known: dict[int, Any] = {}
        for number, result in results:
            known[number] = result
            while left and (left[0] in known or left[0] in self._outcomes):
                first = left.popleft()
                if first in known:
                    yield first, known.pop(first)

    def _outcome_at_once(self, number: int) -> Outcome | None:
        """Return the outcome of a bag that need not be opened; None if there is none."""
        bag = self._bag(number)
        if number > self._stop_behind:
            return bag.outcome('skipped', _SKIPPED)
        if self._run.before is None:
            return None
        try:
            return present_outcome(bag, self._run.before, self._converter.profile.profile)
        except BagError as error:
            return bag.failure(error)

    def _finish(self, number: int, outcome: Outcome) -> None:
        plan = None
        if outcome.shard is not None:
            plan = Origin.of(Shard.load(outcome.shard)).plan
            self._run.alignment.add(number, plan)
            _, lines = labels_of(self._run.settings.labels, outcome.paths[0], dict(outcome.labels))
            outcome = replace(outcome, problems=(*outcome.problems, *lines))
        self._outcomes[number] = outcome
        self._run.observer.bag_finished(number, outcome, plan)
        while self._take_in_order is not None and self._taken + 1 in self._outcomes:
            self._taken += 1
            self._disk.note_joined(self._take_in_order(self._outcomes[self._taken]))
