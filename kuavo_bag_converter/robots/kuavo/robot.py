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

"""Kuavo as a robot of the converter; the profile is imported when it is built."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, TYPE_CHECKING

from kuavo_bag_converter.robots.kuavo.options import END_EFFECTORS, KuavoOptions, PLATFORMS
from kuavo_bag_converter.robots.robot import BagTopics, Robot
from kuavo_bag_converter.support.errors import UsageError

if TYPE_CHECKING:
    from kuavo_bag_converter.profiles.model import Profile


def _is_possible(options: KuavoOptions) -> bool:
    from kuavo_bag_converter.robots.kuavo.profile import kuavo_profile

    try:
        kuavo_profile(options)
    except UsageError:
        return False
    return True


class _Kuavo(Robot[KuavoOptions]):
    options = KuavoOptions
    summary = 'made from the Kuavo settings'
    distinguishing = {  # noqa: RUF012
        'platform_type': None, 'eef_type': None, 'which_arm': 'both', 'use_depth': 'true',
    }  # fmt: skip
    clock_fps = 'main_timeline_fps'

    def settled(self, options: KuavoOptions, topics: BagTopics) -> KuavoOptions:
        from kuavo_bag_converter.robots.kuavo.profile import settled

        return settled(options, topics)

    def build(self, options: KuavoOptions, topics: Collection[str]) -> Profile:
        from kuavo_bag_converter.robots.kuavo.profile import kuavo_profile

        bag = topics if isinstance(topics, BagTopics) else BagTopics(topics)
        return kuavo_profile(self.settled(options, bag))

    def undecided(self, options: KuavoOptions) -> str:
        open_options = [
            name for name in ('eef_type', 'platform_type', 'use_depth')
            if getattr(options, name) == 'auto'
        ]  # fmt: skip
        if not open_options:
            return ''
        # What is given is checked whatever the bag: with what leaves most open for the rest.
        rest: dict[str, Any] = {
            'eef_type': 'linker_hand',
            'platform_type': '5w',
            'use_depth': 'true',
        }
        from kuavo_bag_converter.robots.kuavo.profile import kuavo_profile

        kuavo_profile(replace(options, **{name: rest[name] for name in open_options}))
        return ', '.join(open_options)

    def variants(self, options: KuavoOptions) -> Iterator[Sequence[KuavoOptions]]:
        """Yield those of the arms that are asked for, then those of one arm."""
        yield self._variants(options)
        if options.which_arm == 'both':
            yield [
                one
                for side, other_wrist in (('left', 'wrist_cam_r'), ('right', 'wrist_cam_l'))
                if options.main_timeline != other_wrist
                for one in self._variants(replace(options, which_arm=side))
            ]

    def _variants(self, options: KuavoOptions) -> list[KuavoOptions]:
        on_5w = options.wholebody_5w or options.base_move_5w
        platforms = ('5w',) if on_5w else PLATFORMS
        every = [
            replace(options, platform_type=platform_type, eef_type=eef_type, use_depth=use_depth)
            for platform_type, eef_type, use_depth in product(
                platforms, END_EFFECTORS, ('true', 'false')
            )
        ]
        # Not every hand has the joints that are asked for; if none has, the first says so.
        return list(filter(_is_possible, every)) or every

    def title(self, settings: Mapping[str, Any]) -> str:
        name = f'{settings["platform_type"]} {settings["eef_type"]}'
        if settings['which_arm'] != 'both':
            name += f', {settings["which_arm"]} arm'
        return name if settings['use_depth'] == 'true' else f'{name}, without depth'


KUAVO = _Kuavo()
