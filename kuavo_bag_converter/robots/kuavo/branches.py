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

"""
The original converter's branches, each as the settings that give its frames.

Source: LejuRobotics/kuavo_data_challenge, ``kuavo_data/`` and ``configs/data/`` of each branch;
its successor LeTools-Learning for ``letools`` (commit 03535f6) and ``letools-sg100`` (8287059).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kuavo_bag_converter.settings import Settings, updated, values_of


class Branch(NamedTuple):
    """One branch: its settings, and what of it is not done here and why."""

    name: str
    settings: Mapping[str, object]
    different: tuple[str, ...]


_MAIN: Mapping[str, object] = {
    'platform_type': '4pro',
    'eef_type': 'rq2f85',
    'use_depth': True,
    'decimation': 'jump',
}
_EVERYWHERE = (
    'frames that lack a topic were left out silently; here the bag is refused, or cut by on_gap',
)
_LETOOLS: Mapping[str, object] = {
    **_MAIN,
    'eef_type': 'leju_claw',
    'arm_command': 'plain',
    'use_depth': False,
    'resize': {'width': 848, 'height': 480},
    'end_trim': 'max_end',
    'late_eef': 'zeros_then_hold',
}
_OF_LETOOLS = (
    *_EVERYWHERE,
    'robot_type was kuavo-4pro; here kuavo4pro, as in main',
    'zeros_then_hold: the original held a value only where a chunk had none',
)

BRANCHES = (
    Branch(
        'main',
        _MAIN,
        (
            *_EVERYWHERE,
            'a nearest message outside the window of a chunk of frames was lost; the plan here '
            'sees the whole bag',
            'delta_action and relative_start were read and ignored',
        ),
    ),
    Branch('tianchi', _MAIN, ('the same as main',)),
    Branch(
        'dev',
        {
            **_MAIN,
            'eef_type': 'leju_claw',
            'which_arm': 'right',
            'use_depth': False,
            'resize': {'width': 848, 'height': 480},
            'end_trim': 'max_end',
            'late_eef': 'zeros_then_hold',
        },
        (*_EVERYWHERE, 'zeros_then_hold: the original held a value only where a chunk had none'),
    ),
    Branch(
        'icra',
        {**_MAIN, 'main_timeline': 'most_messages'},
        (
            *_EVERYWHERE,
            'joints and end effectors were clamped to their ranges; here values are as recorded',
            'sample_drop 0 gave no frames',
        ),
    ),
    Branch(
        'research_scenario',
        {
            **_MAIN,
            'eef_type': 'leju_claw',
            'resize': {'width': 848, 'height': 480},
            'main_timeline': 'most_messages',
            'end_trim': 'none',
        },
        (
            *_EVERYWHERE,
            'bags were cut into episodes of 100 frames; here a bag is one episode',
            'on Kuavo 5 the arm command went to joints 12 to 25; here to the arms (13 to 26)',
        ),
    ),
    Branch('letools', _LETOOLS, _OF_LETOOLS),
    Branch(
        'letools-sg100',
        {**_LETOOLS, 'platform_type': '5w', 'eef_type': 'sg100', 'dex_dof_needed': 11},
        (
            *_OF_LETOOLS,
            'with H.265 cameras frames were cut to where all cameras have pictures; here on_gap '
            'and on_bad_image cut them',
            'where claw commands are missing the state was the action; here missing_action: state',
        ),
    ),
)


def branches_as_markdown() -> str:
    """Return the table of settings that differ between the branches, and of what is not done."""
    columns = {
        branch.name: values_of(updated(Settings(), branch.settings, branch.name))
        for branch in BRANCHES
    }
    default = values_of(Settings())
    rows = [
        name
        for name, value in default.items()
        if any(values[name] != value for values in columns.values())
    ]
    lines = [
        '| setting | default here | ' + ' | '.join(columns) + ' |',
        '|' + ' --- |' * (len(columns) + 2),
    ]
    for name in rows:
        cells = [default[name], *(values[name] for values in columns.values())]
        lines.append(f'| `{name}` | ' + ' | '.join(str(cell) for cell in cells) + ' |')
    lines.append('')
    for branch in BRANCHES:
        lines += [f'Branch {branch.name}:', '']
        lines += [f'- {text}' for text in branch.different]
        lines.append('')
    return '\n'.join(lines).rstrip() + '\n'
