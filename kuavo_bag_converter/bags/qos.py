"""Offered QoS profiles as rosbag2 writes them: YAML with numbers up to version 8, then names."""

from __future__ import annotations

import re
from typing import Any

import yaml

_LOADER: Any = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
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
_DURABILITY = re.compile(r'durability:\s*(\w+)')


def load_yaml(text: str) -> Any:
    """Parse YAML with nothing but plain data in it.

    Raises:
        ValueError: it is not YAML.

    """
    try:
        return yaml.load(text, _LOADER)  # noqa: S506  # a safe loader
    except yaml.YAMLError as error:
        raise ValueError(' '.join(str(error).split())) from None


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


def _normal(key: str, value: Any) -> Any:
    names = _NAMES.get(key)
    if names and isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return value
