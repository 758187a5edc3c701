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

"""The ``init`` subcommand; what it needs is imported when it runs, so that --help is quick."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
import shlex
import sys
import tempfile
from typing import NamedTuple, TYPE_CHECKING

from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.texts import counted, PROGRAM, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kuavo_bag_converter.inspection.fit import InspectedBag
    from kuavo_bag_converter.inspection.report import BagReport, Fit, Miss
    from kuavo_bag_converter.settings import Settings


class _Drafted(NamedTuple):
    text: str
    left_out: Mapping[str, str]
    """Why topics serve nothing, by topic."""
    fit: Fit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments besides those of the settings."""
    parser.add_argument(
        'bag',
        metavar='BAG',
        help='bag file or rosbag2 directory of the robot; of a folder, the first',
    )
    parser.add_argument(
        '-o', '--output', metavar='YAML', required=True, help='the profile; must not exist yet'
    )
    parser.add_argument('--force', action='store_true', help='write over a file that exists')


def run(options: argparse.Namespace, settings: Settings) -> int:
    """
    Write a profile that converts a bag as it is, and print what to do next.

    :param options: The arguments.
    :param settings: Those of ``--params-file`` and ``--set``.
    :return: 0 if the profile fits the bag, else 1.
    :raises UsageError: The bag does not exist, or the profile does or cannot be written.
    :raises BagError: The bag cannot be read, or holds nothing that a profile can be made of.
    """
    from kuavo_bag_converter.bags.discover import list_recordings
    from kuavo_bag_converter.inspection.bag import inspected
    from kuavo_bag_converter.inspection.fit import fit_all
    from kuavo_bag_converter.messages.definitions import Definitions
    from kuavo_bag_converter.support.files import write_text
    from kuavo_bag_converter.support.remote.spool import Spool

    output = Path(options.output)
    if output.suffix not in ('.yaml', '.yml'):
        raise UsageError(f'{output}: a profile is a file that ends in .yaml')
    if output.exists() and not options.force:
        raise UsageError(f'{output}: exists already; --force writes over it')
    listed = list_recordings([options.bag], Spool(settings.spool_dir, settings.spool_mb))
    first, *others = listed.recordings
    definitions = Definitions(settings.msg_path, settings.distro)
    with inspected(first, settings, definitions) as (report, bag):
        drafted = _drafted(report, bag, settings, output.stem)
        shipped = next((fit for fit in fit_all(bag, settings) if fit.fits), None)
    try:
        write_text(output, drafted.text)
    except OSError as error:
        raise UsageError(f'{output}: cannot be written: {error.strerror}') from error
    _print_result(drafted, options.bag, report.bag, output, len(others))
    if shipped is not None:
        print(f'or as {shipped.profile}, which fits as well')  # noqa: T201
        print(f'  {shipped.command}')  # noqa: T201
    return 0 if drafted.fit.fits else 1


def _drafted(report: BagReport, bag: InspectedBag, settings: Settings, name: str) -> _Drafted:
    """Draft a profile; leave out, one by one, what a conversion would refuse."""
    from kuavo_bag_converter.inspection.draft import draft_profile
    from kuavo_bag_converter.inspection.draft_text import draft_as_yaml
    from kuavo_bag_converter.inspection.fit import fit_advised

    refused: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f'{name}.yaml')
        settings = replace(settings, profile=str(path))
        while True:
            draft = draft_profile(report, bag, refused)
            text = draft_as_yaml(draft, report, name)
            path.write_text(text, encoding='utf-8')
            fit = fit_advised(bag, settings)
            found = {topic: miss.text for miss in fit.misses if (topic := _topic(miss, report))}
            if fit.fits or not found:
                return _Drafted(text, dict(draft.left_out), fit)
            topic, reason = next(iter(found.items()))
            refused[topic] = reason.removeprefix(f'{topic}: ')


def _topic(miss: Miss, report: BagReport) -> str:
    """Return the topic of the recording that something is wrong with, '' for none."""
    names = [topic.topic for topic in report.topics]
    if miss.topic in names:
        return miss.topic
    return next((name for name in names if miss.text.startswith(f'{name}:')), '')


def _print_result(drafted: _Drafted, given: str, bag: str, output: Path, others: int) -> None:
    from kuavo_bag_converter.inspection.fit import setting_option

    fit = drafted.fit
    for topic, reason in drafted.left_out.items():
        print(f'left out  {shown(topic)}: {reason}')  # noqa: T201  # its purpose
    for miss in fit.misses:
        print(f'it does not fit {bag}: {miss.text}', file=sys.stderr)  # noqa: T201
    gives = ''
    if fit.frames is not None and fit.episodes is not None:
        gives = f': {counted(fit.frames, "frame")} in {counted(fit.episodes, "episode")}'
    print(f'wrote     {output}{gives}')  # noqa: T201
    if others:
        print(  # noqa: T201
            f'from {bag}; whether it fits the {counted(others, "other recording")} there, say '
            f'{PROGRAM} inspect {shlex.quote(given)} --profile {shlex.quote(str(output))}'
        )
    print('next')  # noqa: T201
    drafted_as, written_as = (
        setting_option('profile', path) for path in (fit.profile, str(output))
    )
    print(f'  {fit.command.replace(drafted_as, written_as)}')  # noqa: T201
    print(f'  {PROGRAM} verify DIR --bags {shlex.quote(bag)}')  # noqa: T201
