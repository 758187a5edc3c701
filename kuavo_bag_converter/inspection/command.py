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

"""The ``inspect`` subcommand; what it needs is imported when it runs, so that --help is quick."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import asdict, replace
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kuavo_bag_converter.settings import Settings

INSPECTION_FORMAT = 1
"""Of the JSON document; raised when a key changes its meaning or goes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments besides those of the settings."""
    parser.add_argument(
        'bags', nargs='+', metavar='BAG', help='bag file, rosbag2 directory, or folder of either'
    )
    parser.add_argument('--json', action='store_true', help='print everything as JSON')
    parser.add_argument(
        '--profile',
        metavar='FILE_OR_NAME',
        help='check the bags against this profile too; short for --set profile=FILE_OR_NAME',
    )


def run(options: argparse.Namespace, settings: Settings, given: Iterable[str]) -> int:
    """
    Inspect the bags and print what was found.

    :param options: The arguments.
    :param settings: Those of ``--params-file`` and ``--set``.
    :param given: Their names.
    :return: 0 if every bag can be read whole and fits what was asked for, else 1.
    :raises UsageError: A path does not exist, or the settings do not fit each other.
    """
    from kuavo_bag_converter.bags.discover import list_recordings
    from kuavo_bag_converter.inspection.bag import inspect_bag, refused_report, refused_together
    from kuavo_bag_converter.inspection.text import as_text
    from kuavo_bag_converter.messages.definitions import Definitions
    from kuavo_bag_converter.robots.resolve import shapes_frames
    from kuavo_bag_converter.support.remote.spool import Spool

    if options.profile:
        settings = replace(settings, profile=options.profile)
    asked = bool(options.profile) or any(map(shapes_frames, given))
    definitions = Definitions(settings.msg_path, settings.distro)
    listed = list_recordings(options.bags, Spool(settings.spool_dir, settings.spool_mb))
    for remark in listed.remarks:
        print(remark, file=sys.stderr)  # noqa: T201  # its purpose
    refused = refused_together(listed.recordings, settings) if asked else {}
    reports = []
    for recording in listed.recordings:
        report = inspect_bag(recording, settings, definitions, asked=asked)
        if recording in refused:
            report = refused_report(report, refused[recording])
        if not options.json:
            print(as_text(report), flush=True)  # noqa: T201  # its purpose
        reports.append(report)
    if options.json:
        document = {'format': INSPECTION_FORMAT, 'bags': [asdict(report) for report in reports]}
        print(json.dumps(document, indent=2, allow_nan=False))  # noqa: T201
    return 0 if all(report.ok for report in reports) else 1
