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
from kuavo_bag_converter.robots.robot import Robot

if TYPE_CHECKING:
    from kuavo_bag_converter.profiles.model import Profile


class _Kuavo(Robot[KuavoOptions]):
    options = KuavoOptions
    summary = 'made from the Kuavo settings'
    distinguishing = {  # noqa: RUF012
        'platform_type': None, 'eef_type': None, 'which_arm': 'both', 'use_depth': True,
    }  # fmt: skip
    clock_fps = 'main_timeline_fps'

    def build(self, options: KuavoOptions, topics: Collection[str]) -> Profile:
        from kuavo_bag_converter.robots.kuavo.profile import end_effector_of, kuavo_profile

        if options.eef_type == 'auto':
            options = replace(options, eef_type=end_effector_of(topics))
        return kuavo_profile(options)

    def undecided(self, options: KuavoOptions) -> str:
        if options.eef_type != 'auto':
            return ''
        self.build(replace(options, eef_type='leju_claw'), ())
        return 'eef_type'

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
        return [
            replace(options, platform_type=platform_type, eef_type=eef_type, use_depth=use_depth)
            for platform_type, eef_type, use_depth in product(
                PLATFORMS, END_EFFECTORS, (True, False)
            )
        ]

    def title(self, settings: Mapping[str, Any]) -> str:
        name = f'{settings["platform_type"]} {settings["eef_type"]}'
        if settings['which_arm'] != 'both':
            name += f', {settings["which_arm"]} arm'
        return name if settings['use_depth'] else f'{name}, without depth'


KUAVO = _Kuavo()
