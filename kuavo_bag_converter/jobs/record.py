"""The folder ``conversion/`` of a dataset: how it was made, and from what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kuavo_bag_converter import __version__
from kuavo_bag_converter.alignment import Plan
from kuavo_bag_converter.dataset.files import link_or_copy, sync_tree, write_text
from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.jobs.report import Outcome
from kuavo_bag_converter.profiles.dump import profile_as_yaml
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.settings import Settings, values_of

FOLDER = 'conversion'
ALIGNMENT = 'alignment.parquet'
"""The file that a shard keeps for the dataset's record."""


def write_record(
    root: Path,
    settings: Settings,
    profile: Profile,
    outcomes: Sequence[Outcome],
    shards: Sequence[Shard],
) -> None:
    """Write ``report.json``, ``profile.yaml`` and ``alignment/<number of the bag>.parquet``.

    They are durable on return. See :func:`write_alignment` for the last.

    """
    folder = root / FOLDER
    folder.mkdir()
    first = 0
    bags = []
    (folder / 'alignment').mkdir()
    remaining = iter(shards)
    for number, outcome in enumerate(outcomes):
        entry = {**outcome.as_json(), 'first_episode': first}
        if outcome.episodes:
            shard = next(remaining)
            entry['fingerprint'] = shard.extra['identity']['bag']
            link_or_copy(shard.attachment(ALIGNMENT), folder / 'alignment' / f'{number:06}.parquet')
        bags.append(entry)
        first += outcome.episodes
    document = {
        'converter': {'name': 'kuavo_bag_converter', 'version': __version__},
        'settings': {
            name: value for name, value in values_of(settings).items() if name != 'output'
        },
        'bags': bags,
    }
    write_text(folder / 'report.json', json.dumps(document, indent=2, ensure_ascii=False))
    write_text(folder / 'profile.yaml', profile_as_yaml(profile))
    sync_tree(folder)


def write_alignment(path: Path, plan: Plan) -> None:
    """Write which messages serve each frame of a bag.

    One row for each frame: ``frame_stamp_ns``, ``episode`` (within the bag), and for each track i
    of the plan's report ``track.<i>.first`` and ``.second`` (ordinals, -1 where ``.fill`` tells
    what stands in), ``.weight`` of the second and ``.error_ns``.
    """
    episode = np.repeat(
        np.arange(len(plan.episodes)), [stop - start for start, stop in plan.episodes]
    )
    columns = {'frame_stamp_ns': plan.stamps, 'episode': episode.astype(np.int64)}
    for number, track in enumerate(plan.tracks):
        columns |= {
            f'track.{number}.first': track.first,
            f'track.{number}.second': track.second,
            f'track.{number}.weight': track.weight,
            f'track.{number}.error_ns': track.error,
            f'track.{number}.fill': track.fill,
        }
    pq.write_table(pa.table(columns), path, compression='zstd')
