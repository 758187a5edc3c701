"""The folder ``conversion/`` of a dataset: how it was made, and from what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from kuavo_bag_converter import __version__
from kuavo_bag_converter.dataset.files import sync_tree, write_text
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.jobs.report import Outcome
from kuavo_bag_converter.profiles.dump import profile_as_yaml
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.settings import Settings, values_of

FOLDER = 'conversion'


def write_record(
    root: Path,
    settings: Settings,
    profile: Profile,
    outcomes: Sequence[Outcome],
    shards: Sequence[Shard],
) -> None:
    """Write ``report.json``, ``profile.yaml`` and the alignment of every bag; durable on return.

    ``alignment/<number of the bag>.parquet`` says for every frame which messages serve it.

    """
    folder = root / FOLDER
    folder.mkdir()
    first = 0
    bags = []
    for outcome in outcomes:
        bags.append({**outcome.as_json(), 'first_episode': first})
        first += outcome.episodes
    document = {
        'converter': {'name': 'kuavo_bag_converter', 'version': __version__},
        'settings': values_of(settings),
        'bags': bags,
    }
    write_text(folder / 'report.json', json.dumps(document, indent=2, ensure_ascii=False))
    write_text(folder / 'profile.yaml', profile_as_yaml(profile))
    sync_tree(folder)
