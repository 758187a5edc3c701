"""From settings to the profile that they mean."""

from __future__ import annotations

from collections.abc import Collection

from kuavo_bag_converter.errors import UsageError
from kuavo_bag_converter.profiles.kuavo import end_effector_of, kuavo_profile
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.settings import Settings


def resolve(settings: Settings, topics: Collection[str]) -> Profile:
    """Return the profile of ``settings``; ``topics`` of a bag settle what is ``auto``.

    Raises:
        UsageError: The settings name no profile or do not fit each other.
        BagError: The topics leave open what is ``auto``.

    """
    if settings.profile != 'kuavo':
        raise UsageError(f'profile: {settings.profile!r} is not known; the only one is kuavo')
    eef_type = settings.eef_type
    return kuavo_profile(settings, end_effector_of(topics) if eef_type == 'auto' else eef_type)
