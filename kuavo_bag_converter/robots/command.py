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

"""The subcommand ``profile``; what it needs is imported when it runs, so that --help is quick."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from kuavo_bag_converter.settings import Settings
from kuavo_bag_converter.support.errors import UsageError

if TYPE_CHECKING:
    from kuavo_bag_converter.profiles.model import Profile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments besides those of the settings."""
    parser.add_argument(
        'bag', nargs='?', metavar='BAG', help='bag whose topics settle what is auto, for --show'
    )
    actions = parser.add_mutually_exclusive_group(required=True)
    actions.add_argument(
        '--show', action='store_true', help='print the profile that the settings mean, as YAML'
    )
    actions.add_argument('--check', metavar='YAML', help='check a profile')
    actions.add_argument(
        '--list', action='store_true', help='list the shipped profiles and parameter files'
    )
    actions.add_argument(
        '--branches',
        action='store_true',
        help="print the settings that give the frames of each of the original's branches",
    )
    actions.add_argument(
        '--robots',
        action='store_true',
        help='print what each Kuavo needs of a bag and what its datasets hold',
    )
    actions.add_argument(
        '--template', action='store_true', help='print a parameter file with every setting'
    )


def run(options: argparse.Namespace, settings: Settings) -> int:
    """
    Do what the arguments ask.

    :raises UsageError: The settings or a profile are not valid.
    :raises BagError: The bag cannot be read.
    """
    from kuavo_bag_converter.profiles.dump import profile_as_yaml
    from kuavo_bag_converter.profiles.loader import read_profile
    from kuavo_bag_converter.profiles.shipped import parameter_file_template
    from kuavo_bag_converter.robots.kuavo.branches import branches_as_markdown
    from kuavo_bag_converter.robots.kuavo.overview import robots_as_markdown

    if options.show:
        text = profile_as_yaml(_profile(options.bag, settings))
    elif options.check:
        features = ', '.join(feature.key for feature in read_profile(options.check).features)
        text = f'{options.check}: valid, with the features {features}\n'
    elif options.list:
        text = _shipped()
    elif options.branches:
        text = branches_as_markdown()
    elif options.robots:
        text = robots_as_markdown()
    else:
        text = parameter_file_template()
    sys.stdout.write(text)
    return 0


def _profile(bag: str | None, settings: Settings) -> Profile:
    from kuavo_bag_converter.bags.open import open_bag
    from kuavo_bag_converter.robots.resolve import resolve, topics_of, undecided

    name = undecided(settings)
    if not name:
        return resolve(settings, ())
    if bag is None:
        raise UsageError(f'{name}: auto is settled by a bag; give BAG, or set {name}')
    with open_bag(bag, reader=settings.reader, on_damage=settings.on_damage) as reader:
        return resolve(settings, topics_of(reader, settings))


def _shipped() -> str:
    from kuavo_bag_converter.profiles.shipped import shipped_parameter_files, shipped_profiles
    from kuavo_bag_converter.robots.resolve import robots

    lines = ['profiles, for the setting profile:']
    lines += [f'  {name}  {robot.value.summary}' for name, robot in robots().items()]
    lines += [f'  {name}  {path}' for name, path in shipped_profiles().items()]
    lines += ['parameter files, for --params-file:']
    lines += [f'  {path}' for path in shipped_parameter_files().values()]
    return '\n'.join(lines) + '\n'
