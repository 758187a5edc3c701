"""Which of the given bags is which of those that a dataset was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kuavo_bag_converter.bags.discover import Recording, find_recordings
from kuavo_bag_converter.bags.fingerprint import fingerprint
from kuavo_bag_converter.errors import UsageError
from kuavo_bag_converter.verification.findings import Findings
from kuavo_bag_converter.verification.record import ConvertedBag, Record

_CONTENT = ('name', 'bytes', 'digest')
"""What of a fingerprint stays when a bag is copied."""


class Match(NamedTuple):
    """A bag of the dataset and where it is."""

    bag: ConvertedBag
    files: tuple[Path, ...]


def match_bags(record: Record, paths: Sequence[str], findings: Findings) -> list[Match]:
    """Find the bags of a dataset by their content, or else by name, in the dataset's order.

    Args:
        record: What the dataset was made from.
        paths: Bags and folders of bags; the recorded paths if there are none.
        findings: Gets a finding for a bag that has changed.

    Raises:
        UsageError: A path holds no bag, or a bag that the dataset was not made from.

    """
    given = paths or [bag.name for bag in record.bags]
    matches = []
    for recording in find_recordings(given):
        files = _files(recording)
        content = _content(fingerprint(files))
        bag = _equal(record, content) or _namesake(record, files)
        if bag is None:
            raise UsageError(f'{files[0]}: the dataset was not made from this bag')
        if _content(bag.fingerprint) != content:
            findings.add(
                'bags.changed',
                f'{files[0]}: another size or content',
                'the bag as it was converted',
                file=bag.name,
            )
        matches.append(Match(bag, files))
    return sorted(matches, key=lambda match: match.bag.first_episode)


def _files(recording: Recording) -> tuple[Path, ...]:
    return (recording,) if isinstance(recording, Path) else recording


def _content(mark: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{key: file.get(key) for key in _CONTENT} for file in mark['files']]


def _equal(record: Record, content: list[dict[str, Any]]) -> ConvertedBag | None:
    for bag in record.bags:
        if _content(bag.fingerprint) == content:
            return bag
    return None


def _namesake(record: Record, files: Sequence[Path]) -> ConvertedBag | None:
    """Return the only bag of this file name."""
    named = [bag for bag in record.bags if Path(bag.name).name == files[0].name]
    return named[0] if len(named) == 1 else None
