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

"""``meta/modality.json``: which elements of state and action belong together, for GR00T."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, takewhile
import re
from typing import Any, NamedTuple

from kuavo_bag_converter.dataset.features import Feature
from kuavo_bag_converter.profiles.model import Part, Profile, VectorFeature

GROUPS = {'state': 'observation.state', 'action': 'action'}
"""Groups of slices, each with the column that they are of if they name none."""
ROTATION_TYPES = {
    'quaternion_wxyz': 'quaternion',
    'rot6d_rows': 'rotation_6d',
    'rotvec': 'axis_angle',
    'euler_XYZ': 'euler_angles_rpy',
    'euler_XZY': 'euler_angles_ryp',
    'euler_YXZ': 'euler_angles_pry',
    'euler_YZX': 'euler_angles_pyr',
    'euler_ZXY': 'euler_angles_yrp',
    'euler_ZYX': 'euler_angles_ypr',
}
"""Representations of profiles in GR00T's terms, which are those of PyTorch3D."""
_NUMBERED = re.compile(r'(.*\D)\d+\D*')
_PREFIXES = ('observation.images.', 'observation.', 'action.')


class _Slice(NamedTuple):
    name: str
    start: int
    end: int
    rotation: str = ''
    """GR00T's type of a slice that is a rotation."""


def modality_of(profile: Profile, features: Sequence[Feature]) -> dict[str, Any]:
    """
    Return what GR00T has to know of a dataset beside LeRobot's metadata.

    A slice is a run of elements that are called alike but for a number (``left_arm_1`` to
    ``left_arm_7``), else a part of the profile. GR00T reads pictures from colour videos alone.

    :param profile: The dataset is made with it.
    :param features: Of the dataset.
    """
    document: dict[str, Any] = {group: {} for group in GROUPS}
    for feature in profile.vectors:
        group = 'action' if feature.key.split('.')[0] == 'action' else 'state'
        if feature.samples == 1 and feature.key.startswith(('action', 'observation.')):
            for name, entry in _entries(feature, group):
                document[group][_free_name(name, document[group])] = entry
    document['video'] = {}
    for camera in features:
        if camera.is_video and camera.depth is None:
            name = _free_name(_short(camera.key), document['video'])
            document['video'][name] = {'original_key': camera.key}
    document['annotation'] = {'human.task_description': {'original_key': 'task_index'}}
    return document


def _entries(feature: VectorFeature, group: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the slices of a feature by name."""
    options: dict[str, Any] = {}
    if feature.key != GROUPS[group]:
        options['original_key'] = feature.key
    if not feature.dtype.startswith('float'):
        options['dtype'] = feature.dtype
    if group == 'action' and feature.minus is not None:
        options['absolute'] = False
    slices = _slices(feature)
    for piece in slices:
        name = piece.name
        if feature.key != GROUPS[group]:
            short = _short(feature.key)
            name = short if len(slices) == 1 else f'{short}_{piece.name}'
        rotation = {'rotation_type': piece.rotation} if piece.rotation else {}
        yield name, {'start': piece.start, 'end': piece.end, **options, **rotation}


def _slices(feature: VectorFeature) -> list[_Slice]:
    slices: list[_Slice] = []
    numbered = ''  # what the last slice's elements are called, if it may go on
    start = 0
    for part in feature.parts:
        end = start + len(part.names)
        stems = [_stem(name) for name in part.names]
        if part.rotation is not None or len(set(stems)) == len(stems) > 1:
            slices.append(_Slice(_name_of(part), start, end, _rotation_type(part)))
            numbered = ''
        else:
            for place, (stem, name) in enumerate(zip(stems, part.names, strict=True), start):
                if numbered and stem == numbered:
                    slices[-1] = slices[-1]._replace(end=place + 1)
                else:
                    slices.append(_Slice(stem, place, place + 1))
                numbered = stem if stem != name else ''
        start = end
    return slices


def _stem(name: str) -> str:
    """Return a name without its number and what follows: ``zarm_l`` of ``zarm_l1_link``."""
    match = _NUMBERED.fullmatch(name)
    return (match[1].rstrip('_.- ') if match else '') or name


def _name_of(part: Part) -> str:
    """Return what the elements of a part have in common, or where they come from."""
    places = zip(*(re.split(r'[_.\- ]', name) for name in part.names), strict=False)
    words = [words[0] for words in takewhile(lambda words: len(set(words)) == 1, places)]
    if words:
        return '_'.join(words)
    source = part.sources[0]
    return source.tf.child if source.tf is not None else source.topic.rsplit('/', 1)[-1]


def _rotation_type(part: Part) -> str:
    changed = part.relative_to_start or part.unit or part.threshold is not None
    if part.rotation is None or changed or (part.scale, part.offset) != (None, None):
        return ''
    return ROTATION_TYPES.get(part.rotation.written, '')


def _short(key: str) -> str:
    prefix = next((text for text in _PREFIXES if key.startswith(text)), '')
    return key.removeprefix(prefix)


def _free_name(name: str, taken: dict[str, Any]) -> str:
    names = (name if number == 1 else f'{name}_{number}' for number in count(1))
    return next(free for free in names if free not in taken)
