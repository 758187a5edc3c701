"""Whether the dataset is still the one that ``conversion/`` tells of."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq

from kuavo_bag_converter.dataset.layout import PROFILE_PATH, REPORT_PATH
from kuavo_bag_converter.errors import UsageError
from kuavo_bag_converter.profiles.loader import load_profile
from kuavo_bag_converter.verification.description import Description
from kuavo_bag_converter.verification.findings import Findings
from kuavo_bag_converter.verification.reading import ARROW_ERRORS
from kuavo_bag_converter.verification.record import ConvertedBag, Record


def check_conversion(dataset: Description, record: Record, findings: Findings) -> None:
    """Check the episodes and frames that the report counts, and the files beside it."""
    try:
        load_profile(dataset.root / PROFILE_PATH)
    except UsageError as error:
        findings.add('conversion.profile', error, 'a profile', file=PROFILE_PATH)
    for bag in record.bags:
        episodes = dataset.episodes[bag.first_episode : bag.first_episode + bag.episodes]
        frames = sum(episode.length for episode in episodes)
        for rule, found, expected in (
            ('conversion.episodes', len(episodes), bag.episodes),
            ('conversion.frames', frames, bag.frames),
        ):
            if found != expected:
                findings.add(rule, f'{found} of {bag.name}', expected, file=REPORT_PATH)
        _check_alignment(dataset, bag, [episode.length for episode in episodes], findings)


def _check_alignment(
    dataset: Description, bag: ConvertedBag, lengths: list[int], findings: Findings
) -> None:
    file = bag.alignment_path
    try:
        table = pq.ParquetFile(dataset.root / file).read(['episode'])
        numbers = table.column('episode').to_numpy().astype(np.int64)
    except FileNotFoundError:
        findings.add('conversion.missing', 'no file', 'the alignment of a bag', file=file)
        return
    except ARROW_ERRORS as error:
        findings.add('conversion.unreadable', error, 'the alignment of a bag', file=file)
        return
    found = np.bincount(numbers, minlength=len(lengths)).tolist()
    if len(found) > len(lengths):
        findings.add('conversion.alignment', f'{len(found)} episodes', len(lengths), file=file)
    for index, (stored, length) in enumerate(zip(found, lengths, strict=False)):
        if stored != length:
            findings.add(
                'conversion.alignment',
                f'{stored} frames',
                f'{length}, as many as the episode has',
                file=file,
                episode=bag.first_episode + index,
            )
