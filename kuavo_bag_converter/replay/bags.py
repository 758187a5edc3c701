"""Which of the given bags is which of those that a dataset was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kuavo_bag_converter.bags.discover import find_recordings
from kuavo_bag_converter.bags.fingerprint import fingerprint
from kuavo_bag_converter.check.findings import Findings
from kuavo_bag_converter.check.record import ConvertedBag, Record
from kuavo_bag_converter.errors import BagError, UsageError


class Match(NamedTuple):
    """A bag of the dataset and where it is."""

    bag: ConvertedBag
    files: tuple[Path, ...]


class Matches(NamedTuple):
    """Which of the given bags are in the dataset."""

    found: list[Match]
    """In the dataset's order, each bag once."""
    others: list[str]
    """The bags that are not in the dataset, and why if the record tells."""


def match_bags(record: Record, paths: Sequence[str], findings: Findings) -> Matches:
    """Find the bags of a dataset by their content, or else by name.

    Args:
        record: What the dataset was made from.
        paths: Bags and folders of bags; the recorded paths if there are none.
        findings: Gets a finding for a bag that has changed or cannot be read.

    Raises:
        UsageError: A path does not exist, or none of the bags is in the dataset.

    """
    given = paths or [bag.name for bag in record.bags if Path(bag.name).exists()]
    found: dict[int, Match] = {}
    left: list[tuple[tuple[Path, ...], str]] = []
    for recording in find_recordings(given):
        files = (recording,) if isinstance(recording, Path) else recording
        try:
            content = _content(fingerprint(files))
        except BagError as error:
            left.append((files, str(error)))
            continue
        bag = next((bag for bag in record.bags if _content(bag.fingerprint) == content), None)
        if bag is None:
            left.append((files, ''))
        else:
            found.setdefault(bag.number, Match(bag, files))
    others = []
    changed = False
    for files, problem in left:
        bag = _namesake(record, files[0].name)
        if bag is None or bag.number in found:
            others.append(_described(record, files[0]))
            continue
        changed = True
        if problem:
            findings.add('bags.unreadable', problem, 'the bag as it was converted', file=bag.name)
            continue
        found[bag.number] = Match(bag, files)
        different = f'{files[0]}: another size or content'
        findings.add('bags.changed', different, 'the bag as it was converted', file=bag.name)
    if not found and not changed:
        places = ', '.join(map(str, paths)) or 'the recorded paths'
        raise UsageError(f'{places}: no bag that the dataset was made from')
    return Matches(sorted(found.values(), key=lambda match: match.bag.first_episode), others)


def _content(mark: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return what of a fingerprint stays when a bag is copied or renamed."""
    return sorted((file.get('bytes'), file.get('digest')) for file in mark.get('files', ()))


def _namesake(record: Record, name: str) -> ConvertedBag | None:
    """Return the only bag of this file name."""
    named = [bag for bag in record.bags if Path(bag.name).name == name]
    return named[0] if len(named) == 1 else None


def _described(record: Record, path: Path) -> str:
    """Return a bag that is not in the dataset, with the reason if its conversion failed."""
    reasons = [reason for bag, reason in record.failed if Path(bag).name == path.name]
    return f'{path} (failed: {reasons[0]})' if reasons else str(path)
