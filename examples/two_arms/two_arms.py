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

"""A robot of up to two arms and a camera, whose profile is built from settings of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kuavo_bag_converter.robots.robot import Robot
from kuavo_bag_converter.settings import setting
from kuavo_bag_converter.support.errors import BagError

if TYPE_CHECKING:
    from kuavo_bag_converter.profiles.model import Part, Profile

_JOINTS = 7


@dataclass(frozen=True)
class TwoArmsOptions:
    """The settings of the robot ``two_arms``; a name of one's own keeps them apart from others."""

    arms: str = setting(
        'auto',
        'Arms to use; "auto" takes those that the first bag has.',
        name='two_arms.arms',
        choices=('auto', 'left', 'right', 'both'),
        yaml='the parts',
    )
    fps: int = setting(
        10, 'Frames a second.', name='two_arms.fps', minimum=1, maximum=100, yaml='fps'
    )
    camera_fps: int = setting(
        30, 'Nominal rate of the camera, Hz.', name='two_arms.camera_fps', minimum=1, maximum=100,
        yaml='clock.fps',
    )  # fmt: skip


class _TwoArms(Robot[TwoArmsOptions]):
    options = TwoArmsOptions
    summary = 'made from the two_arms settings'
    distinguishing = {'two_arms.arms': 'both'}  # noqa: RUF012
    clock_fps = 'two_arms.camera_fps'

    def undecided(self, options: TwoArmsOptions) -> str:
        return 'two_arms.arms' if options.arms == 'auto' else ''

    def variants(self, options: TwoArmsOptions) -> Iterator[Sequence[TwoArmsOptions]]:
        yield [replace(options, arms='both')]
        yield [replace(options, arms=side) for side in ('left', 'right')]

    def build(self, options: TwoArmsOptions, topics: Collection[str]) -> Profile:
        from kuavo_bag_converter.profiles.model import (
            CameraFeature,
            Clock,
            Profile,
            Source,
            VectorFeature,
        )

        sides = [side for side in ('left', 'right') if options.arms in (side, 'both', 'auto')]
        if options.arms == 'auto':
            sides = [side for side in sides if f'/{side}_arm/joint_states' in topics]
            if not sides:
                raise BagError('no arm in the bag (looked for /left_arm/joint_states and right)')
        camera = (Source('/camera/image_raw'),)
        return Profile(
            name='two_arms',
            robot_type='two_arms',
            fps=options.fps,
            clock=Clock(camera, options.camera_fps),
            features=(
                VectorFeature('observation.state', tuple(_arm(side, 'states') for side in sides)),
                VectorFeature('action', tuple(_arm(side, 'commands') for side in sides)),
                CameraFeature('observation.images.camera', camera),
            ),
            task='Pick up the cube',
        )


def _arm(side: str, what: str) -> Part:
    from kuavo_bag_converter.profiles.model import Part, Source

    return Part(
        names=tuple(f'{side}_{joint + 1}' for joint in range(_JOINTS)),
        sources=(Source(f'/{side}_arm/joint_{what}', ('position',)),),
        length=_JOINTS,
    )


TWO_ARMS = _TwoArms()
