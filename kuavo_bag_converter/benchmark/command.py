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

"""The subcommand ``benchmark``; what it needs is imported when it runs: --help is quick."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from kuavo_bag_converter.benchmark.runs import BAG_PRESETS, CODECS, METHODS
from kuavo_bag_converter.support.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        'what',
        nargs='?',
        choices=('methods', 'codecs'),
        default='methods',
        help='methods: compare methods, chunk sizes, codecs and threads (default); '
        'codecs: compare video codecs on pictures of the bag',
    )
    parser.add_argument(
        '--work',
        default='benchmark',
        metavar='DIR',
        help='folder for bags, which are used again, and results (default: benchmark)',
    )
    _bag_arguments(parser.add_argument_group('bag'))
    _run_arguments(parser.add_argument_group('runs'))


def _bag_arguments(parser: argparse._ArgumentGroup) -> None:
    presets = '; '.join(f'{name}: {preset.summary}' for name, preset in BAG_PRESETS.items())
    parser.add_argument('--preset', choices=BAG_PRESETS, default='small', help=presets)
    parser.add_argument('--bag', help='an own bag, in place of one that is made')
    parser.add_argument('--seconds', type=float, help='length, other than that of the preset')
    parser.add_argument('--cameras', type=int, choices=(3, 6), help='3 colour, or 3 depth as well')
    parser.add_argument('--size', metavar='WIDTHxHEIGHT', help='of all pictures')
    parser.add_argument(
        '--camera-rates', type=float, nargs=3, metavar='HZ', help='of head, left and right camera'
    )
    parser.add_argument('--storage', choices=('bag', 'mcap', 'sqlite3'), help='default: bag')


def _run_arguments(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=METHODS)
    parser.add_argument(
        '--chunk-sizes',
        nargs='+',
        type=int,
        metavar='FRAMES',
        help='of chunked; everything else is compared at the first',
    )
    parser.add_argument(
        '--codecs', nargs='*', choices=CODECS, default=('libsvtav1', 'copy'),
        help='besides that of the settings (default: libsvtav1 copy)',
    )  # fmt: skip
    parser.add_argument(
        '--threads', nargs='*', type=int, default=(1,), metavar='COUNT',
        help='besides that of the settings (default: 1)',
    )  # fmt: skip
    parser.add_argument(
        '--node', action='store_true', help='convert in the ROS node, too (needs rclpy)'
    )
    parser.add_argument(
        '--set',
        metavar='NAME=VALUE',
        action='append',
        default=[],
        dest='assignments',
        help='a setting of all conversions; may be given several times',
    )
    parser.add_argument(
        '--write-into',
        metavar='FILE',
        help='of codecs: put the table into a text file, too, where it has the lines for it',
    )
    parser.add_argument(
        '--memory-limit-mb',
        type=float,
        metavar='MB',
        help='memory at which a run is stopped (default: most of what is free)',
    )
    parser.add_argument(
        '--lerobot-python',
        metavar='PYTHON',
        help='a Python that has lerobot, whose own writer is compared on the same frames',
    )


def run(options: argparse.Namespace) -> int:
    """
    Run the benchmark and write its results.

    :raises UsageError: The arguments do not fit.
    :raises ConverterError: The bag cannot be made or read.
    """
    if options.what == 'codecs':
        from kuavo_bag_converter.benchmark.codec_comparison import compare_codecs

        return compare_codecs(options, sample_options(options))
    from kuavo_bag_converter.benchmark.comparison import compare_methods

    return compare_methods(options, sample_options(options))


def sample_options(options: argparse.Namespace) -> Mapping[str, object]:
    """
    Return the options of the sample that the arguments ask for; none for an own bag.

    :raises UsageError: The size is malformed, or a bag is given too.
    """
    changes = {
        'seconds': options.seconds,
        'depth': None if options.cameras is None else options.cameras == 6,
        'size': None if options.size is None else _size(options.size),
        'camera_rates': options.camera_rates,
        'storage': options.storage,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    if options.bag and given:
        raise UsageError(f'benchmark: --bag and {", ".join(given)} exclude each other')
    if options.bag:
        return {}
    return {'storage': 'bag', **BAG_PRESETS[options.preset].sample, **given}


def _size(text: str) -> list[int]:
    """Return height and width."""
    width, cross, height = text.partition('x')
    if not (cross and width.isdigit() and height.isdigit()):
        raise UsageError(f'benchmark: --size {text}: expected WIDTHxHEIGHT, as in 640x480')
    return [int(height), int(width)]
