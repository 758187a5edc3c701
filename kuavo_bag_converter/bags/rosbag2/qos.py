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

"""Offered QoS profiles as rosbag2 writes them: YAML with numbers up to version 8, then names."""

from __future__ import annotations

import re
from typing import Any

from kuavo_bag_converter.support.texts import shown
import yaml

_LOADER: Any = getattr(yaml, 'CBaseLoader', yaml.BaseLoader)
"""Gives texts alone: what a number is, and how long it may be, the reader says."""
MOST_CHARACTERS = 8 * 1024 * 1024
"""Bytes of YAML in a bag; a recording of 10,000 files in 500 topics has 3 MB."""
_DEEPEST = 20
_NAMES: dict[str, tuple[str, ...]] = {
    'history': ('system_default', 'keep_last', 'keep_all', 'unknown'),
    'reliability': ('system_default', 'reliable', 'best_effort', 'unknown', 'best_available'),
    'durability': ('system_default', 'transient_local', 'volatile', 'unknown', 'best_available'),
    'liveliness': (
        'system_default',
        'automatic',
        '',
        'manual_by_topic',
        'unknown',
        'best_available',
    ),
}
"""The words of rmw/types.h by their numbers."""
_NUMBER = re.compile(r'-?[0-9]{1,19}')
_DURABILITY = re.compile(r'durability:\s*(\w+)')


def load_yaml(text: str) -> Any:
    """
    Parse YAML as recorders write it: mappings, lists and texts; numbers are texts, too.

    :raises ValueError: it is not YAML, longer or deeper than any recorder writes it, or it has
        anchors or aliases, which let a short text stand for an endless one.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f'is YAML of {len(text)} characters, more than {MOST_CHARACTERS}')
    try:
        _check_events(text)
        return yaml.load(text, _LOADER)  # noqa: S506  # a safe loader
    except yaml.YAMLError as error:
        raise ValueError(shown(' '.join(str(error).split()))) from None


def _check_events(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, _LOADER):
        name = getattr(event, 'anchor', None)
        if name is not None:
            what = 'alias *' if isinstance(event, yaml.AliasEvent) else 'anchor &'
            raise ValueError(f'has the {what}{shown(name)}, which no recorder writes')
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f'is nested more than {_DEEPEST} deep')


def is_latched(profiles: str) -> bool:
    """Tell whether all publishers keep messages for late subscribers, by their profiles."""
    durability = _DURABILITY.findall(profiles)
    return bool(durability) and set(durability) <= {'1', 'transient_local'}


def normal_qos(profiles: object) -> list[dict[str, Any]] | None:
    """Profiles with names for numbers, however they were written; None where unreadable."""
    try:
        items = load_yaml(profiles) if isinstance(profiles, str) else profiles
    except ValueError:
        return None
    if not items:
        return []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return None
    return [{key: _normal(key, value) for key, value in item.items()} for item in items]


def readable_qos(profiles: object) -> list[dict[str, Any]]:
    """Profiles as JSON can hold them, with names, numbers and truth values; none if unreadable."""
    return [_readable(profile) for profile in normal_qos(profiles) or ()]


def _readable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _readable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_readable(item) for item in value]
    if value in ('true', 'false'):
        return value == 'true'
    return int(value) if _NUMBER.fullmatch(value) else shown(value)


def _normal(key: str, value: Any) -> Any:
    names = _NAMES.get(key)
    if names and isinstance(value, str) and value.isdecimal() and int(value[:9]) < len(names):
        return names[int(value)]
    return value
