"""Kuavo as a robot of the converter; the profile is imported when it is built."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

from kuavo_bag_converter.robots.kuavo.options import END_EFFECTORS, PLATFORMS, KuavoOptions
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
