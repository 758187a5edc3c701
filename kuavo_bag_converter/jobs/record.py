"""The folder ``conversion/`` of a dataset: how it was made, and from what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kuavo_bag_converter import __version__
from kuavo_bag_converter.conversion.alignment_file import ALIGNMENT
from kuavo_bag_converter.dataset.files import link_or_copy, sync_tree, write_text
from kuavo_bag_converter.dataset.layout import ALIGNMENT_PATH, PROFILE_PATH, REPORT_PATH
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.errors import UsageError
from kuavo_bag_converter.jobs.report import Outcome
from kuavo_bag_converter.profiles.dump import profile_as_yaml
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.settings import Settings, recorded_values


class Record(NamedTuple):
    """What ``conversion/report.json`` of a dataset says."""

    settings: dict[str, Any]
    bags: list[dict[str, Any]]

    def holds(self, fingerprint: Mapping[str, Any]) -> bool:
        """Tell whether a bag with this fingerprint is in the dataset."""
        return any(bag.get('fingerprint') == fingerprint for bag in self.bags)


def read_record(root: Path) -> Record:
    """Read the record of a dataset.

    Raises:
        UsageError: It has none, or one of another form.

    """
    path = root / REPORT_PATH
    try:
        document = json.loads(path.read_text(encoding='utf-8'))
        return Record(dict(document['settings']), list(document['bags']))
    except OSError as error:
        raise UsageError(
            f'{path}: cannot be read ({error.strerror}); only a dataset that this converter made '
            'can be added to'
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f'{path}: is no record of a conversion ({error!r})') from error


def write_record(
    root: Path,
    settings: Settings,
    profile: Profile,
    outcomes: Sequence[Outcome],
    shards: Sequence[Shard],
    before: Path | None = None,
) -> None:
    """Write ``report.json``, ``profile.yaml`` and ``alignment/<number of the bag>.parquet``.

    They are durable on return. See :mod:`.alignment_file` for the last.

    Args:
        root: The dataset.
        settings: It was made with them.
        profile: What a frame is made of.
        outcomes: Of the bags of this run.
        shards: Of the converted ones, in order.
        before: The dataset whose episodes come first; a bag that failed there and was converted
            now takes its old place in the list.

    """
    bags = _bags_before(before, root) if before is not None else []
    first = sum(bag['episodes'] for bag in bags)
    remaining = iter(shards)
    for outcome in outcomes:
        if outcome.status == 'present':
            continue
        entry = {**outcome.as_json(), 'first_episode': first}
        number = _place(bags, outcome.bag)
        bags[number:] = [entry, *bags[number + 1 :]]
        if outcome.episodes:
            shard = next(remaining)
            entry['fingerprint'] = shard.extra['identity']['bag']
            link_or_copy(shard.attachment(ALIGNMENT), root / ALIGNMENT_PATH.format(bag=number))
            first += outcome.episodes
    document = {
        'converter': {'name': 'kuavo_bag_converter', 'version': __version__},
        'settings': {
            name: value
            for name, value in recorded_values(settings).items()
            if name not in ('bags', 'output', 'append', 'retry_failed')
        },
        'bags': bags,
    }
    write_text(root / REPORT_PATH, json.dumps(document, indent=2, ensure_ascii=False))
    write_text(root / PROFILE_PATH, profile_as_yaml(profile))
    sync_tree((root / REPORT_PATH).parent)


def _bags_before(before: Path, root: Path) -> list[dict[str, Any]]:
    bags = read_record(before).bags
    for number in range(len(bags)):
        path = ALIGNMENT_PATH.format(bag=number)
        if (before / path).exists():
            link_or_copy(before / path, root / path)
    return bags


def _place(bags: Sequence[Mapping[str, Any]], name: str) -> int:
    """Return where a bag goes in the list: where it failed before, or at the end."""
    for number, bag in enumerate(bags):
        if bag['bag'] == name and bag['status'] != 'converted':
            return number
    return len(bags)
