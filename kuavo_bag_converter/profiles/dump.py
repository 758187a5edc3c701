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

"""Profiles as YAML, the inverse of :mod:`kuavo_bag_converter.profiles.loader`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from kuavo_bag_converter.profiles.alignment_keys import fits_every_feature
from kuavo_bag_converter.profiles.document import FLOAT_FIRST, FLOAT_PATTERN, FLOAT_TAG
from kuavo_bag_converter.profiles.model import (
    Align,
    CameraFeature,
    Clock,
    Episodes,
    Part,
    Profile,
    Source,
    VectorFeature,
)
import yaml

_PART_FIELDS = (
    'length', 'on_length', 'pad_value', 'element_count', 'select', 'joints', 'names', 'unit',
    'value_range', 'scale', 'offset', 'threshold', 'relative_to_start', 'gap_flag', 'nan',
    'quaternion', 'last_frame',
)  # fmt: skip
_KEYS = {'value_range': 'range'}


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper without aliases, which the loader refuses."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  # PyYAML's signature
        return True


# So that texts which the loader takes for numbers are quoted.
_Dumper.add_implicit_resolver(FLOAT_TAG, FLOAT_PATTERN, FLOAT_FIRST)


def profile_as_yaml(profile: Profile) -> str:
    """
    Return the YAML that :func:`read_profile` reads as an equal profile.

    Defaults are written out. The alignment that most features share stands at the top, and with
    the features that differ from it.
    """
    common = _common_align(profile)
    document: dict[str, Any] = {
        'name': profile.name,
        'robot_type': profile.robot_type,
        'fps': profile.fps,
        'task': _task(profile),
        'clock': _clock(profile.clock),
    }
    if common is not None:
        document['align'] = asdict(common)
    document['features'] = {item.key: _feature(item, common) for item in profile.features}
    if profile.language:
        document['language'] = [
            {'from': _sources(one.sources)}
            | ({'key': one.key} if one.key else {'style': one.style, 'role': one.role})
            for one in profile.language
        ]
    if profile.episodes != Episodes():
        document['episodes'] = _episodes(profile.episodes)
        if profile.episodes.min_episode_s:
            document['episodes']['min_episode_s'] = profile.episodes.min_episode_s
    return yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100,
        default_flow_style=None,
    )  # fmt: skip


def _common_align(profile: Profile) -> Align | None:
    used = Counter(camera.align for camera in profile.cameras)
    used.update(
        part.align
        for vector in profile.vectors
        for part in vector.parts
        if part.sources and not part.gap_flag
    )
    matching = [align for align, _ in used.most_common() if fits_every_feature(align)]
    return matching[0] if matching else None


def _task(profile: Profile) -> Any:
    if not profile.task_sources:
        return profile.task
    return {'from': _sources(profile.task_sources), 'default': profile.task}


def _clock(clock: Clock) -> dict[str, Any]:
    return {
        'from': _sources(clock.sources),
        'most_messages': clock.most_messages,
        'fps': clock.source_fps,
        'decimation': clock.decimation,
        'drop': clock.drop,
        'end_trim': clock.end_trim,
        'end_topics': list(clock.end_topics),
        'timeline': clock.timeline,
        'absurd_stamp_s': clock.absurd_stamp_s,
        'on_step_back': clock.on_step_back,
        'on_pause': clock.on_pause,
    }


def _sources(sources: Sequence[Source]) -> Any:
    written = [_source(source) for source in sources]
    return written[0] if len(written) == 1 else written


def _source(source: Source) -> dict[str, Any]:
    written: dict[str, Any] = {'topic': source.topic}
    if source.tf is not None:
        written['tf'] = asdict(source.tf)
    if len(source.fields) == 1:
        written['field'] = source.fields[0]
    elif source.fields:
        written['fields'] = list(source.fields)
    if len(source.msgtypes) == 1:
        written['type'] = source.msgtypes[0]
    elif source.msgtypes:
        written['type'] = list(source.msgtypes)
    if source.names_field != Source.names_field:
        written['names_field'] = source.names_field
    if source.frame_ids is None:
        written['frame_id'] = None
    elif source.frame_ids:
        written['frame_id'] = list(source.frame_ids)
    for key in ('publisher', 'stamp_field', 'stamp_unit'):
        if getattr(source, key):
            written[key] = getattr(source, key)
    if source.align is not None:
        written['align'] = asdict(source.align)
    return written


def _feature(feature: VectorFeature | CameraFeature, common: Align | None) -> dict[str, Any]:
    if isinstance(feature, CameraFeature):
        return {'camera': _camera(feature, common)}
    written: dict[str, Any] = {'parts': [_part(part, common) for part in feature.parts]}
    if feature.minus is not None:
        written['minus'] = feature.minus
    for name in ('dtype', 'samples', 'window_ms'):
        if getattr(feature, name) != getattr(VectorFeature, name):
            written[name] = getattr(feature, name)
    return written


def _camera(camera: CameraFeature, common: Align | None) -> dict[str, Any]:
    written: dict[str, Any] = {'from': _sources(camera.sources)}
    if camera.size is not None:
        written['size'] = {'width': camera.size[1], 'height': camera.size[0]}
    if camera.crop is not None:
        written['crop'] = camera.crop._asdict()
    if camera.rotate:
        written['rotate'] = camera.rotate
    if camera.fit:
        written['fit'] = camera.fit
    if camera.value_range is not None:
        written['range'] = list(camera.value_range)
    if camera.depth:
        written['depth'] = camera.depth
        written['depth_range'] = list(camera.depth_range)
    if camera.unit_mm is not None:
        written['unit'] = camera.unit_mm
    if camera.store != 'video':
        written['store'] = camera.store
    if camera.info_topic:
        written['info'] = camera.info_topic
    if camera.align != common:
        written['align'] = asdict(camera.align)
    return written


def _part(part: Part, common: Align | None) -> dict[str, Any]:
    written: dict[str, Any] = {'from': _sources(part.sources)} if part.sources else {}
    for name in _PART_FIELDS:
        value = getattr(part, name)
        if value != getattr(Part, name, None):
            written[_KEYS.get(name, name)] = list(value) if isinstance(value, tuple) else value
    if part.select is not None:
        written['select'] = _runs(part.select)
    if part.rotation is not None:
        written['rotation'] = {'from': part.rotation.recorded, 'to': part.rotation.written}
    if part.gap_flag or (part.align != common and not part.last_frame):
        written['align'] = asdict(part.align)
    if part.stand_in is not None:
        written['stand_in'] = _part(part.stand_in, common)
        del written['stand_in']['names']
    return written


def _runs(select: Sequence[int]) -> list[int | str]:
    """Write consecutive elements as ``start:stop``."""
    written: list[int | str] = []
    start = 0
    for index in range(1, len(select) + 1):
        if index < len(select) and select[index] == select[index - 1] + 1:
            continue
        if index - start > 1:
            written.append(f'{select[start]}:{select[index - 1] + 1}')
        else:
            written.append(select[start])
        start = index
    return written


def _episodes(episodes: Episodes) -> dict[str, Any]:
    if not episodes.cuts:
        return {}
    if episodes.ranges:
        written: list[dict[str, Any]] = []
        for item in episodes.ranges:
            entry: dict[str, Any] = {'start_s': item.start_s, 'stop_s': item.stop_s}
            if item.task:
                entry['task'] = item.task
            written.append(entry)
        return {'ranges': written}
    if episodes.marks_file:
        return {'marks_file': episodes.marks_file}
    sources = _sources(episodes.sources)
    if episodes.rule != 'events':
        return {episodes.rule: sources}
    return {
        'events': {
            'from': sources,
            'start': list(episodes.start),
            'stop': list(episodes.stop),
            'discard': list(episodes.discard),
        }
    }
