"""What ``conversion/`` of a dataset says of the bags that it was made from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kuavo_bag_converter.check.findings import BROKEN, Findings, read_json
from kuavo_bag_converter.dataset.layout import ALIGNMENT_PATH, REPORT_PATH
from kuavo_bag_converter.plan_report import PlanReport


@dataclass(frozen=True)
class ConvertedBag:
    """One bag of the report whose frames are in the dataset."""

    number: int
    """Its position in the report."""
    name: str
    """Its path as it was given."""
    first_episode: int
    """Index in the dataset."""
    episodes: int
    frames: int
    fingerprint: Mapping[str, Any]
    plan: PlanReport

    @property
    def alignment_path(self) -> str:
        """The file that says which messages serve its frames."""
        return ALIGNMENT_PATH.format(bag=self.number)


@dataclass(frozen=True)
class Record:
    """The report of the conversion."""

    settings: Mapping[str, Any]
    bags: tuple[ConvertedBag, ...]
    """In the order of their episodes."""
    failed: tuple[tuple[str, str], ...] = ()
    """Path and reason of each bag that could not be converted."""

    def wrote(self, episode: int) -> bool:
        """Whether the conversion wrote an episode of the dataset."""
        after = bisect_right(self._starts, episode)
        if not after:
            return False
        bag = self.bags[after - 1]
        return episode < bag.first_episode + bag.episodes

    @cached_property
    def _starts(self) -> list[int]:
        return [bag.first_episode for bag in self.bags]


def read_record(root: Path, findings: Findings) -> Record | None:
    """Read the report of the conversion; None where there is none that can be read."""
    if not (root / REPORT_PATH).is_file():
        return None
    report = read_json(root, REPORT_PATH, 'conversion', findings)
    if report is None:
        return None
    try:
        bags = [
            ConvertedBag(
                number,
                str(bag['bag']),
                int(bag['first_episode']),
                int(bag['episodes']),
                int(bag['frames']),
                dict(bag['fingerprint']),
                PlanReport.from_json(bag['plan']),
            )
            for number, bag in enumerate(report['bags'])
            if bag['status'] == 'converted'
        ]
        if any(bag.first_episode < 0 or bag.episodes < 1 for bag in bags):
            raise ValueError('a bag without episodes')
        ordered = sorted(bags, key=lambda bag: bag.first_episode)
        failed = tuple(
            (str(bag['bag']), str(bag['reason']))
            for bag in report['bags']
            if bag['status'] == 'failed'
        )
        return Record(dict(report['settings']), tuple(ordered), failed)
    except BROKEN as error:
        expected = 'settings and bags, as the conversion wrote them'
        findings.add('conversion.unreadable', repr(error), expected, file=REPORT_PATH)
        return None
