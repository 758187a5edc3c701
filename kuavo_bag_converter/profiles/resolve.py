"""From settings to the profile that they mean."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from kuavo_bag_converter.errors import UsageError
from kuavo_bag_converter.profiles.kuavo import end_effector_of, kuavo_profile
from kuavo_bag_converter.profiles.loader import load_profile
from kuavo_bag_converter.profiles.model import Profile
from kuavo_bag_converter.profiles.shipped import shipped_profiles
from kuavo_bag_converter.settings import SETTINGS, Settings, did_you_mean

IN_A_PROFILE = {
    'platform_type': 'robot_type, and length and select of the parts',
    'eef_type': 'the parts',
    'which_arm': 'the parts and cameras',
    'only_arm': 'the parts of action',
    'use_depth': 'the cameras',
    'depth_range': 'depth_range of the cameras',
    'depth_coding': 'depth of the cameras',
    'dex_dof_needed': 'select of the parts',
    'is_binary': 'threshold of the parts',
    'delta_action': 'minus of action',
    'relative_start': 'relative_to_start of the parts',
    'resize.width': 'size of the cameras',
    'resize.height': 'size of the cameras',
    'train_hz': 'fps',
    'main_timeline': 'clock.from',
    'main_timeline_fps': 'clock.fps',
    'sample_drop': 'clock.drop',
    'decimation': 'clock.decimation',
    'end_trim': 'clock.end_trim',
    'absurd_stamp_s': 'clock.absurd_stamp_s',
    'late_eef': 'align.zeros_before_first of the parts',
    'task_description': 'task',
    'align.strategy': 'align.strategy',
    'align.timeline': 'align.timeline and clock.timeline',
    'align.tolerance_ms': 'align.tolerance_ms',
    'align.on_gap': 'align.on_gap',
}
"""What stands in a YAML profile for each Kuavo setting."""


def resolve(settings: Settings, topics: Collection[str]) -> Profile:
    """Return the profile of ``settings``; ``topics`` of a bag settle what is ``auto``.

    With a YAML profile, Kuavo settings must have their defaults: others would be ignored.

    Raises:
        UsageError: The settings name no profile, do not fit each other or have no meaning.
        BagError: The topics leave open what is ``auto``.

    """
    if settings.profile != 'kuavo':
        path = profile_path(settings.profile)
        _check_unused(settings)
        return load_profile(path)
    eef_type = settings.eef_type
    return kuavo_profile(settings, end_effector_of(topics) if eef_type == 'auto' else eef_type)


def resolve_without_bag(settings: Settings) -> Profile | None:
    """Return the profile, or None if it takes a bag to settle it; check the settings either way.

    Raises:
        UsageError: The settings name no profile, do not fit each other or have no meaning.

    """
    if settings.profile == 'kuavo' and settings.eef_type == 'auto':
        kuavo_profile(settings, 'leju_claw')
        return None
    return resolve(settings, ())


def profile_path(profile: str) -> Path:
    """Return the file of a YAML profile that is given by path or by the name of a shipped one.

    What has a ``/`` or ends in ``.yaml`` or ``.yml`` is a path.

    Raises:
        UsageError: There is no shipped profile of that name.

    """
    if '/' in profile or profile.endswith(('.yaml', '.yml')):
        return Path(profile)
    shipped = shipped_profiles()
    if profile not in shipped:
        known = ['kuavo', *shipped]
        raise UsageError(
            f'profile: {profile!r} is not known; expected one of {", ".join(known)}, or a path '
            f'that ends in .yaml{did_you_mean(profile, known)}'
        )
    return shipped[profile]


def _check_unused(settings: Settings) -> None:
    for info in SETTINGS.values():
        if info.kuavo and getattr(settings, info.attribute) != info.default:
            raise UsageError(
                f'{info.name}: has no meaning with profile {settings.profile}; set '
                f'{IN_A_PROFILE[info.name]} there'
            )
