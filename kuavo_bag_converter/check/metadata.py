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

"""The rules for info.json, tasks and episodes that need no other file, and for the record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kuavo_bag_converter.check.description import Description, StoredFeature
from kuavo_bag_converter.check.findings import ARROW_ERRORS, Findings
from kuavo_bag_converter.dataset.language import language_features
from kuavo_bag_converter.dataset.layout import INFO_PATH, PROFILE_PATH, REPORT_PATH
from kuavo_bag_converter.dataset.metadata import DEPTH_IMAGE_INFO
from kuavo_bag_converter.dataset.record import ConversionRecord
from kuavo_bag_converter.dataset.recorded_bag import RecordedBag
from kuavo_bag_converter.dataset.tables import DEFAULT_FEATURES
from kuavo_bag_converter.profiles.model import CameraFeature, Profile, VectorFeature
from kuavo_bag_converter.support.errors import UsageError
import numpy as np
import pyarrow.parquet as pq

LEROBOT_CODECS = ('av1', 'h264', 'hevc')
"""Codecs that LeRobot can encode; its editing tools refuse a dataset that names another."""

_OWN_KEYS = (
    'total_frames',
    'total_tasks',
    'chunks_size',
    'video_path',
    'robot_type',
    'splits',
)
_OWN_KEYS_V30 = ('data_files_size_in_mb', 'video_files_size_in_mb')
_OWN_KEYS_V21 = ('total_videos', 'total_chunks')
_OTHER_DTYPES = ('string', 'image', 'video', 'language')


def check_metadata(dataset: Description, findings: Findings) -> None:
    """Check what metadata says against itself."""
    _check_totals(dataset, findings)
    for column in dataset.features.values():
        _check_column(dataset, column, findings)
    _check_default_columns(dataset, findings)
    _check_tasks(dataset, findings)


def _check_totals(dataset: Description, findings: Findings) -> None:
    episodes, info = len(dataset.episodes), dataset.info
    expected: dict[str, Any] = {
        'total_episodes': episodes,
        'total_frames': dataset.frames,
        'total_tasks': len(dataset.tasks),
    }
    if dataset.own(dataset.episodes):
        if set(info.get('splits') or ('train',)) == {'train'}:  # others are of other programs
            expected['splits'] = {'train': f'0:{episodes}'}
        own = _OWN_KEYS_V30 if dataset.version == 'v3.0' else _OWN_KEYS_V21
        for key in (*_OWN_KEYS, *own):
            if key not in info:
                findings.add('info.keys', f'no {key}', 'its value', file=INFO_PATH)
        if dataset.version == 'v2.1' and isinstance(info.get('chunks_size'), int):
            expected['total_videos'] = episodes * len(dataset.cameras)
            expected['total_chunks'] = -(-episodes // info['chunks_size'])
    elif dataset.version == 'v3.0':
        for key in expected.keys() - info.keys():
            findings.add('info.keys', f'no {key}', 'its value', file=INFO_PATH)
    for key, value in expected.items():
        if key in info and info[key] != value:
            findings.add('info.totals', f'{key} {info[key]}', value, file=INFO_PATH)


def _check_column(dataset: Description, column: StoredFeature, findings: Findings) -> None:
    problems = list(_column_problems(column))
    if dataset.own(dataset.episodes):
        problems += _own_problems(column)
    for found, expected in problems:
        findings.add('features.entry', found, expected, file=INFO_PATH, feature=column.key)


def _column_problems(column: StoredFeature) -> list[tuple[str, str]]:
    problems: list[tuple[str, str]] = []
    if column.dtype not in _OTHER_DTYPES and not column.is_numeric:
        problems.append((f'dtype {column.dtype!r}', 'a numpy dtype, string, image or video'))
    if not column.is_picture:
        return problems
    names = column.names if isinstance(column.names, list) else []
    if len(names) != 3 or not any(name in ('channel', 'channels') for name in names[::2]):
        problems.append((f'names {column.names}', "['height', 'width', 'channels']"))
    if column.is_depth and column.is_video:
        problems += _depth_problems(column)
    if column.is_depth and column.is_image and column.picture_shape[2] != 1:
        problems.append((f'depth of shape {list(column.shape)}', '1 channel'))
    return problems


def _depth_problems(column: StoredFeature) -> list[tuple[str, str]]:
    """Check the codec of a metric depth feature, as LeRobot 0.6 does when it loads a dataset."""
    problems = []
    if column.shape[-1] != 1:
        problems.append((f'depth of shape {list(column.shape)}', '1 channel'))
    for name, expected in (('video.codec', 'hevc'), ('video.pix_fmt', 'gray12le')):
        found = column.info.get(name, expected)
        if found != expected:
            problems.append((f'{name} {found} of metric depth', expected))
    return problems


def _own_problems(column: StoredFeature) -> list[tuple[str, str]]:
    problems = []
    if '/' in column.key:
        problems.append(('a key with "/"', 'none: LeRobot refuses to create it'))
    elements = column.shape[-1]
    names = len(column.names) if isinstance(column.names, list) else elements
    if column.is_numeric and names != elements:
        problems.append((f'{names} names', f'{elements}, one for each number'))
    if 'image' in column.key and not column.is_picture:
        problems.append(('a vector with "image" in its key', 'LeRobot takes it for pictures'))
    codec = column.info.get('video.codec')
    if column.is_video and codec is not None and codec not in LEROBOT_CODECS:
        problems.append((f'video.codec {codec}', f'none, or one of {", ".join(LEROBOT_CODECS)}'))
    if column.is_image and column.picture_shape[2] == 1:
        problems += [
            (f'{name} {column.info.get(name)}', f'{value}: pictures of one channel are depth')
            for name, value in DEPTH_IMAGE_INFO.items()
            if column.info.get(name) != value
        ]
    if column.is_video and 'is_depth_map' not in column.info and _is_v30_info(column.info):
        problems.append(('no is_depth_map', 'true or false'))
    return problems


def _is_v30_info(info: Mapping[str, Any]) -> bool:
    return 'video.is_depth_map' not in info


def _check_default_columns(dataset: Description, findings: Findings) -> None:
    for feature in DEFAULT_FEATURES:
        column = dataset.features.get(feature.key)
        found = None if column is None else (column.dtype, column.shape)
        if found != (feature.dtype, feature.shape):
            findings.add(
                'features.default',
                'missing' if found is None else f'{found[0]}{list(found[1])}',
                f'{feature.dtype}{list(feature.shape)}',
                file=INFO_PATH,
                feature=feature.key,
            )


def _check_tasks(dataset: Description, findings: Findings) -> None:
    known = set(dataset.tasks)
    if len(known) != len(dataset.tasks):
        findings.add('tasks.order', 'a task twice', 'each task once')
    for episode in dataset.episodes:
        unknown = [task for task in episode.tasks if task not in known]
        if unknown or not episode.tasks:
            findings.add(
                'episodes.tasks',
                f'task {unknown[0]!r}' if unknown else 'no task',
                'tasks of the list of tasks',
                episode=episode.index,
            )


def check_conversion(
    dataset: Description, record: ConversionRecord, findings: Findings, since: int = 0
) -> None:
    """
    Check the episodes and frames that the record counts, and the files beside it.

    :param dataset: The dataset.
    :param record: How it was made.
    :param findings: Where findings go.
    :param since: The first episode whose alignment is read.
    """
    try:
        _check_profile(dataset, dataset.profile, findings)
    except UsageError as error:
        findings.add('conversion.profile', error, 'a profile', file=PROFILE_PATH)
    for bag in record.converted:
        episodes = dataset.episodes[slice(bag.first_episode, bag.first_episode + bag.episodes)]
        frames = sum(episode.length for episode in episodes)
        for rule, found, expected in (
            ('conversion.episodes', len(episodes), bag.episodes),
            ('conversion.frames', frames, bag.frames),
        ):
            if found != expected:
                findings.add(rule, f'{found} of {bag.name}', expected, file=REPORT_PATH)
        if bag.first_episode >= since:
            _check_alignment(dataset, bag, [episode.length for episode in episodes], findings)


def check_details(record: ConversionRecord, findings: Findings) -> None:
    """Check that all that is recorded of bags can be read."""
    try:
        for bag in record.bags:
            bag.read_details()
    except UsageError as error:
        findings.add('conversion.unreadable', error, 'what the conversion wrote of each bag')


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
    texts = language_features(profile.language)
    known = {feature.key for feature in (*profile.features, *texts, *DEFAULT_FEATURES)}
    for text in texts:
        column = dataset.features.get(text.key)
        found = None if column is None else column.dtype
        if found != text.dtype:
            findings.add(
                'features.dtype', found or 'no feature', f'{text.dtype}, as the profile',
                file=INFO_PATH, feature=text.key,
            )  # fmt: skip
    for key in dataset.features.keys() - known:
        findings.add(
            'features.keys', 'a feature', 'none in the profile', file=INFO_PATH, feature=key
        )


def _stated(column: StoredFeature) -> dict[str, Any]:
    stated: dict[str, Any] = {'dtype': column.dtype, 'names': column.names}
    stated['shape'] = list(column.shape)
    if column.is_picture and len(column.shape) == 3:
        stated |= {'size': list(column.picture_shape[:2]), 'channels': column.picture_shape[2]}
    return stated


def _expected(feature: VectorFeature | CameraFeature) -> dict[str, Any]:
    if isinstance(feature, VectorFeature):
        shape, names = list(feature.shape), list(feature.names)
        return {'dtype': feature.dtype, 'shape': shape, 'names': names}
    expected: dict[str, Any] = {'dtype': feature.dtype}
    if feature.size is not None:
        expected['size'] = list(feature.size)
    return expected | {'channels': feature.channels}


def _check_alignment(
    dataset: Description, bag: RecordedBag, lengths: list[int], findings: Findings
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
