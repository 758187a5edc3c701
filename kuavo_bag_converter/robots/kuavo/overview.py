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

"""What each Kuavo robot needs of a bag and gives to a dataset, from the profiles themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from kuavo_bag_converter.profiles.loader import read_profile
from kuavo_bag_converter.profiles.model import CameraFeature, Profile
from kuavo_bag_converter.profiles.shipped import shipped_profiles
from kuavo_bag_converter.robots.kuavo.options import END_EFFECTORS, KuavoOptions, PLATFORMS
from kuavo_bag_converter.robots.kuavo.profile import hand_joints, kuavo_profile, UNREADABLE

_PLAIN = KuavoOptions(platform_type='5w', eef_type='leju_claw', use_depth='false')
_MORE: tuple[tuple[str, dict[str, Any]], ...] = (
    ('`use_depth: true`', {'use_depth': 'true'}),
    ('`only_arm: false`', {'only_arm': False}),
    ('`5w_wholebody: true` (5w)', {'wholebody_5w': True}),
    ('`5w_base_move: true` (5w)', {'base_move_5w': True}),
    ('`use_head: true`', {'use_head': True}),
    ('`use_tactile: true`', {'use_tactile': True}),
    ('`extra_cameras: [head_cam_l]`', {'extra_cameras': ('head_cam_l',)}),
    ('`extra_cameras: [head_cam_r]`', {'extra_cameras': ('head_cam_r',)}),
)


def robots_as_markdown() -> str:
    """Return a table of robots and end effectors, and one of what options add."""
    lines = [
        '| `platform_type` | `eef_type` | topics for the state | topics for the action | elements '
        '| `robot_type` |',
        '|' + ' --- |' * 6,
    ]
    for platform in PLATFORMS:
        for eef in END_EFFECTORS:
            joints = hand_joints(eef) or 1
            options = replace(_PLAIN, platform_type=platform, eef_type=eef, dex_dof_needed=joints)
            profile = kuavo_profile(options)
            topics = [
                ', '.join(_topics_of(profile, key)) for key in ('observation.state', 'action')
            ]
            hand = '`dex_dof_needed`' if hand_joints(eef) == 0 else joints
            lines.append(
                f'| {platform} | {eef} | {topics[0]} | {topics[1]} | 2 x (7 + {hand}) | '
                f'{profile.robot_type} |'
            )
    roban = read_profile(shipped_profiles()['roban'])
    topics = [', '.join(_topics_of(roban, key)) for key in ('observation.state', 'action')]
    counts = ' and '.join(str(len(vector.names)) for vector in roban.vectors)
    cells = ('`profile: roban`', '', *topics, counts, roban.robot_type)
    lines.append(f'| {" | ".join(cells)} |')
    lines += ['', '| option | topics besides | adds |', '|' + ' --- |' * 3]
    for title, changes in _MORE:
        lines.append(f'| {title} | {", ".join(_added_topics(changes))} | {_added(changes)} |')
    return '\n'.join(lines) + '\n'


def _topics_of(profile: Profile, key: str) -> Sequence[str]:
    """Return the topics of a feature, alternatives joined by "or"."""
    feature = next(item for item in profile.features if item.key == key)
    alternatives = (
        [feature.sources]
        if isinstance(feature, CameraFeature)
        else [part.sources for part in feature.parts]
    )
    topics = (
        dict.fromkeys(source.topic for source in sources if source.topic not in UNREADABLE)
        for sources in alternatives
    )
    return list(dict.fromkeys(' or '.join(f'`{topic}`' for topic in names) for names in topics))


def _features(profile: Profile) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield from ((vector.key, vector.names) for vector in profile.vectors)
    yield from ((camera.key, ()) for camera in profile.cameras)


def _added_topics(changes: dict[str, Any]) -> list[str]:
    before, after = kuavo_profile(_PLAIN), kuavo_profile(replace(_PLAIN, **changes))
    known = {topic for key, _ in _features(before) for topic in _topics_of(before, key)}
    every = [topic for key, _ in _features(after) for topic in _topics_of(after, key)]
    return [topic for topic in dict.fromkeys(every) if topic not in known]


def _added(changes: dict[str, Any]) -> str:
    before = dict(_features(kuavo_profile(_PLAIN)))
    found = []
    for key, names in _features(kuavo_profile(replace(_PLAIN, **changes))):
        if key not in before:
            found.append(f'`{key}`' + (f' ({len(names)})' if names else ''))
        elif names != before[key]:
            more = [name for name in names if name not in before[key]]
            found.append(f'{", ".join(more)} to `{key}`')
    return '; '.join(found)
