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

"""The ``verify`` subcommand: whether a dataset is whole, and what its bags say."""

from __future__ import annotations

import argparse

from kuavo_bag_converter.support.process import one_thread_each

_SAMPLE = 10
_INDEPENDENT = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('dataset', metavar='DATASET', help='root of the dataset')
    parser.add_argument(
        '--bags',
        nargs='*',
        metavar='BAG',
        help='compare with the bags too: files, rosbag2 directories or folders of either; without '
        'a path, where they were when they were converted',
    )
    frames = parser.add_mutually_exclusive_group()
    frames.add_argument(
        '--sample',
        type=int,
        default=_SAMPLE,
        metavar='N',
        help='with --bags: compare the pictures of N frames of each episode, evenly spread and '
        f'each with its neighbours (default {_SAMPLE}); rows are always compared all',
    )
    frames.add_argument(
        '--all', action='store_true', help='with --bags: compare the pictures of all frames'
    )
    parser.add_argument(
        '--independent',
        type=int,
        nargs='?',
        const=_INDEPENDENT,
        metavar='N',
        help='with --bags: ask other code than the converter for its opinion, too, on N frames of '
        f'each episode ({_INDEPENDENT} if not given)',
    )
    parser.add_argument('--json', action='store_true', help='print everything as JSON')


def run(options: argparse.Namespace) -> int:
    """
    Verify and print what was found; 0 if nothing is wrong, else 1.

    :raises UsageError: There is no dataset, or the bags are not those of it.
    """
    from kuavo_bag_converter.replay.verify import as_json, as_text, verify

    sample = None if options.all else options.sample
    with one_thread_each():
        result = verify(options.dataset, options.bags, sample, options.independent)
    print(as_json(result) if options.json else as_text(result))  # noqa: T201  # its purpose
    return 0 if result.ok else 1
