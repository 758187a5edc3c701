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

"""The ``sample`` subcommand: a recording with known content, and its truth beside it."""

from __future__ import annotations

import argparse
from pathlib import Path
import re

from kuavo_bag_converter.support.errors import OutputError, UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments; values are checked by ``SampleOptions``."""
    parser.add_argument('directory', metavar='DIR', help='where sample and truth.json go')
    parser.add_argument(
        '--storage', default='mcap', help='mcap (default), sqlite3, or bag for ROS 1'
    )
    parser.add_argument('--compression', default='', help='mcap, sqlite3: zstd; bag: lz4, bz2')
    parser.add_argument('--seconds', type=float, default=5.0, help='length (default 5)')
    parser.add_argument('--size', default='640x480', help='WIDTHxHEIGHT of all pictures')
    parser.add_argument(
        '--eef-type',
        default='leju_claw',
        help='leju_claw (default), qiangnao, rq2f85, sg100, linker_hand',
    )
    parser.add_argument('--platform-type', default='4pro', help='4pro (default), 5w, 5, roban')
    parser.add_argument(
        '--camera-rates',
        type=float,
        nargs=3,
        default=(),
        metavar='HZ',
        help='of head, left and right camera (default 30 30 30; 60 of the one of a roban)',
    )
    parser.add_argument(
        '--transport', default='jpeg', help='of colour pictures: jpeg (default), raw, h265, h264'
    )
    parser.add_argument('--no-depth', action='store_true', help='leave out the depth cameras')
    parser.add_argument(
        '--whole-body',
        action='store_true',
        help='with the topics that base motion needs; of a 5w, with lower body and base velocity',
    )
    parser.add_argument(
        '--simulator', action='store_true', help='picture formats of the challenge simulator'
    )
    parser.add_argument(
        '--start',
        action='append',
        default=[],
        metavar='TOPIC=SECONDS',
        help='first message of a topic; may be given several times',
    )
    parser.add_argument(
        '--gap',
        action='append',
        default=[],
        metavar='TOPIC=FROM-TO',
        help='seconds in which a topic is silent; may be given several times',
    )
    parser.add_argument('--seed', type=int, default=0, help='of jitter and scenes (default 0)')


def run(arguments: argparse.Namespace) -> int:
    """
    Write the sample and say what it holds.

    :raises UsageError: An argument is malformed, or something of that name exists.
    :raises OutputError: The folder cannot be written.
    """
    from kuavo_bag_converter.sample.options import SampleOptions
    from kuavo_bag_converter.sample.write import write_sample

    options = SampleOptions(
        storage=arguments.storage,
        compression=arguments.compression,
        seconds=arguments.seconds,
        size=_size(arguments.size),
        eef_type=arguments.eef_type,
        platform_type=arguments.platform_type,
        seed=arguments.seed,
        transport=arguments.transport,
        depth=not arguments.no_depth,
        camera_rates=tuple(arguments.camera_rates),
        whole_body=arguments.whole_body,
        simulator=arguments.simulator,
        starts=_starts(arguments.start),
        gaps=_gaps(arguments.gap),
    )
    directory = Path(arguments.directory)
    truth_path = directory / 'truth.json'
    if truth_path.exists():
        raise UsageError(f'sample: {truth_path} exists already; remove it or name another place')
    path = directory / ('sample.bag' if options.storage == 'bag' else 'sample')
    try:
        truth = write_sample(path, options)
        truth.save(truth_path)
    except OSError as error:
        raise OutputError(f'sample: {directory}: cannot be written ({error.strerror})') from None
    messages = sum(len(topic.receive) for topic in truth.topics.values())
    print(f'{path}: {messages} messages on {len(truth.topics)} topics')  # noqa: T201
    print(f'{truth_path}: their stamps and values')  # noqa: T201
    return 0


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r'(\d+)x(\d+)', text)
    if not match:
        raise UsageError(f'sample: --size is {text!r}; expected WIDTHxHEIGHT, as in 640x480')
    return int(match[2]), int(match[1])


def _starts(texts: list[str]) -> dict[str, float]:
    starts = {}
    for text in texts:
        match = re.fullmatch(r'(.+)=(\d+(?:\.\d*)?)', text)
        if not match:
            raise UsageError(f'sample: --start is {text!r}; expected TOPIC=SECONDS')
        starts[match[1]] = float(match[2])
    return starts


def _gaps(texts: list[str]) -> dict[str, tuple[tuple[float, float], ...]]:
    gaps: dict[str, tuple[tuple[float, float], ...]] = {}
    for text in texts:
        match = re.fullmatch(r'(.+)=(\d+(?:\.\d*)?)-(\d+(?:\.\d*)?)', text)
        if not match:
            raise UsageError(f'sample: --gap is {text!r}; expected TOPIC=FROM-TO in seconds')
        gaps[match[1]] = (*gaps.get(match[1], ()), (float(match[2]), float(match[3])))
    return gaps
