"""Whether the dataset is still the one that ``conversion/`` tells of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.parquet as pq

from kuavo_bag_converter.check.description import Column, Description
from kuavo_bag_converter.check.findings import Findings
from kuavo_bag_converter.check.reading import ARROW_ERRORS
from kuavo_bag_converter.check.record import ConvertedBag, Record
from kuavo_bag_converter.dataset.layout import INFO_PATH, PROFILE_PATH, REPORT_PATH
from kuavo_bag_converter.dataset.tables import DEFAULT_FEATURES
from kuavo_bag_converter.errors import UsageError
from kuavo_bag_converter.profiles.loader import load_profile
from kuavo_bag_converter.profiles.model import CameraFeature, Profile, VectorFeature


def check_conversion(dataset: Description, record: Record, findings: Findings) -> None:
    """Check the episodes and frames that the report counts, and the files beside it."""
    try:
        _check_profile(dataset, load_profile(dataset.root / PROFILE_PATH), findings)
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


def _check_profile(dataset: Description, profile: Profile, findings: Findings) -> None:
    """Check what info.json says of the robot and the features against the profile."""
    info = dataset.info
    for name, expected in (('robot_type', profile.robot_type), ('fps', profile.fps)):
        if name in info and info[name] != expected:
            findings.add(f'info.{name}', info[name], f'{expected}, as the profile', file=INFO_PATH)
    for feature in profile.features:
        column = dataset.features.get(feature.key)
        stated: dict[str, Any] = {} if column is None else _stated(column)
        for name, expected in _expected(feature).items():
            if stated.get(name) != expected:
                findings.add(
                    f'features.{name}', stated.get(name, 'no feature'),
                    f'{expected}, as the profile', file=INFO_PATH, feature=feature.key,
                )  # fmt: skip
    known = {feature.key for feature in (*profile.features, *DEFAULT_FEATURES)}
    for key in dataset.features.keys() - known:
        findings.add(
            'features.keys', 'a feature', 'none in the profile', file=INFO_PATH, feature=key
        )


def _stated(column: Column) -> dict[str, Any]:
    stated: dict[str, Any] = {'dtype': column.dtype, 'names': column.names}
    stated['shape'] = list(column.shape)
    if column.is_picture and len(column.shape) == 3:
        stated |= {'size': list(column.picture_shape[:2]), 'channels': column.picture_shape[2]}
    return stated


def _expected(feature: VectorFeature | CameraFeature) -> dict[str, Any]:
    if isinstance(feature, VectorFeature):
        names = list(feature.names)
        return {'dtype': 'float32', 'shape': [len(names)], 'names': names}
    expected: dict[str, Any] = {'dtype': 'video'}
    if feature.size is not None:
        expected['size'] = list(feature.size)
    return expected | {'channels': 1 if feature.depth == 'metric12' else 3}


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
