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
The command line: ``convert``, ``sample`` and the rest.

Modules that need numpy and the codecs are imported by the subcommand that uses them, so that
``--help`` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
import io
import os
import sys
import threading
from typing import NamedTuple, TYPE_CHECKING

from kuavo_bag_converter.support.errors import ConverterError, UsageError
from kuavo_bag_converter.support.process import cancel_on_signals, exit_on_sigterm, one_thread_each
from kuavo_bag_converter.support.texts import did_you_mean, PROGRAM, quoted
from kuavo_bag_converter.support.version import __version__

if TYPE_CHECKING:
    from kuavo_bag_converter.jobs.display import Display
    from kuavo_bag_converter.jobs.joining.merge import Joined
    from kuavo_bag_converter.jobs.report import Report
    from kuavo_bag_converter.settings import Settings


class _Command(NamedTuple):
    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def run(arguments: Sequence[str]) -> int:
    """Run one subcommand and return the exit code: 0 done, 1 a bag failed, 2 wrong use."""
    return exit_code_of(lambda: _run(arguments))


def exit_code_of(work: Callable[[], int]) -> int:
    """Run a command, and print an error that it ends with; return the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')  # names of files need not be texts
    try:
        with exit_on_sigterm():
            return work()
    except ConverterError as error:
        _print_error(error)
        return 2 if isinstance(error, UsageError) else 1


def _print_error(error: object) -> None:
    print(f'error: {error}', file=sys.stderr)  # noqa: T201


def _run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description='Convert ROS bags to LeRobot datasets in small, flat memory.'
    )
    parser.add_argument('--version', action='version', version=__version__)
    subparsers = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    completes = '_ARGCOMPLETE' in os.environ
    if completes:
        arguments = os.environ.get('COMP_LINE', '').split()[1:]
    named = next((word for word in arguments if not word.startswith('-')), '')
    for command in _COMMANDS:
        subparser = subparsers.add_parser(
            command.name,
            help=command.summary,
            description=command.summary,
            allow_abbrev=False,
        )
        if command.name == named:
            command.add_arguments(subparser)
            subparser.set_defaults(run=command.run)
    if completes:
        import argcomplete

        argcomplete.autocomplete(parser, print_suppressed=True)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        known = _spellings(subparsers.choices[named])
        word = unknown[0].partition('=')[0]
        raise UsageError(
            f'{named}: no option or argument {quoted(unknown[0])}{did_you_mean(word, known)}; see '
            f'{PROGRAM} {named} --help-all'
        )
    return int(options.run(options))


def _spellings(parser: argparse.ArgumentParser) -> list[str]:
    return [spelling for action in parser._actions for spelling in action.option_strings]


def add_convert_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``convert``."""
    parser.add_argument(
        'bags', nargs='*', metavar='BAG', help='bag file, rosbag2 directory, or folder of either'
    )
    parser.add_argument(
        '-o', '--output', metavar='DIR', help='root of the dataset; must not exist yet'
    )
    parser.add_argument(
        '--append', action='store_true', help='add the bags to the dataset that DIR already is'
    )
    parser.add_argument(
        '--retry-failed',
        action='store_true',
        help='convert the bags that failed when DIR was made: where they were, or among the BAGs '
        'that are given, by name',
    )
    _settings_arguments(parser)


def _settings_arguments(parser: argparse.ArgumentParser, but: Collection[str] = ()) -> None:
    """Add the arguments of settings, but of those that a command has arguments of its own for."""
    from kuavo_bag_converter.cli.options import add_setting_options

    parser.add_argument(
        '--params-file', metavar='YAML', help='settings, in the form of a ROS 2 parameter file'
    )
    parser.add_argument(
        '--set',
        metavar='NAME=VALUE',
        action='append',
        default=[],
        dest='assignments',
        help='one setting as a file has it; may be given several times, and wins over the file',
    )
    parser.add_argument(
        '--msg-path',
        metavar='DIR',
        action='append',
        default=[],
        help='folder with .msg files of types that a bag does not define; may be given several '
        'times',
    )
    add_setting_options(parser, ('bags', 'output', 'append', 'retry_failed', 'msg_path', *but))


def _settings(options: argparse.Namespace) -> Settings:
    from kuavo_bag_converter.settings import NODE_NAME, Settings, updated

    settings = Settings()
    for values, source in _given(options, NODE_NAME):
        settings = updated(settings, values, source)
    return settings


def _given(options: argparse.Namespace, node: str) -> Iterator[tuple[dict[str, object], str]]:
    """Yield the values for a node that the arguments of settings give, and where they are from."""
    from kuavo_bag_converter.cli.options import given_settings
    from kuavo_bag_converter.settings import parse_assignments, read_params_file

    if options.params_file:
        yield read_params_file(options.params_file, node), options.params_file
    yield parse_assignments(options.assignments), '--set'
    yield given_settings(options), 'command line'
    if options.msg_path:
        yield {'msg_path': options.msg_path}, '--msg-path'


def convert(options: argparse.Namespace) -> int:
    """Convert as the arguments of ``convert`` say; return the exit code."""
    from kuavo_bag_converter.jobs.convert import convert_bags
    from kuavo_bag_converter.settings import updated

    given: dict[str, object] = {}
    if options.bags:
        given['bags'] = options.bags
    if options.output:
        given['output'] = options.output
    if options.append:
        given['append'] = True
    if options.retry_failed:
        given['retry_failed'] = True
    settings = updated(_settings(options), given, 'command line')
    with _shown_run() as (display, cancel):
        report = convert_bags(settings, observer=display, cancel=cancel)
    return _print_report(report)


@contextmanager
def _shown_run() -> Iterator[tuple[Display, threading.Event]]:
    """Show a run in the terminal; give what shows it, and what is set when the user stops it."""
    from kuavo_bag_converter.jobs.display import Display

    with Display(sys.stderr) as display, cancel_on_signals() as cancel, one_thread_each():
        yield display, cancel


def _print_report(report: Report) -> int:
    from kuavo_bag_converter.jobs.display import print_report

    print_report(report, sys.stdout)
    if report.problem:
        _print_error(report.problem)
    return report.exit_code


def _assemble_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('output', metavar='DIR', help='what convert --shard was given as --output')


def _assemble(options: argparse.Namespace) -> int:
    from kuavo_bag_converter.jobs.joining.assemble_parts import assemble_parts

    with _shown_run() as (display, cancel):
        report = assemble_parts(options.output, observer=display, cancel=cancel)
    return _print_report(report)


def _merge_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('datasets', nargs='+', metavar='DATASET', help='its folder')
    _making_arguments(parser)


def _making_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '-o', '--output', metavar='DIR', required=True, help='what to make; must not exist yet'
    )
    parser.add_argument(
        '--lerobot-version',
        metavar='VERSION',
        default='',
        help="LeRobot's format, v3.0 or v2.1; as it is if not given",
    )


def _merge(options: argparse.Namespace) -> int:
    from kuavo_bag_converter.jobs.joining.merge import merge

    with _shown_run() as (display, cancel):
        joined = merge(
            options.datasets,
            options.output,
            version=options.lerobot_version,
            observer=display,
            cancel=cancel,
        )
    return _print_joined(joined)


def _print_joined(joined: Joined) -> int:
    print(joined)  # noqa: T201
    if joined.problem:
        _print_error(joined.problem)
    return 1 if joined.problem else 0


def _split_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('dataset', metavar='DATASET', help='its folder')
    _making_arguments(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        '--episodes', metavar='A:B,...', help='make DIR of these episodes; B is left out'
    )
    what.add_argument(
        '--parts',
        metavar='NAME=PART',
        nargs='+',
        help='make DIR/NAME of a share of the episodes, such as 0.8, or of some, as A:B,...',
    )


def _split(options: argparse.Namespace) -> int:
    from kuavo_bag_converter.jobs.joining.merge import split

    parts = {'': options.episodes}
    if options.parts:
        pairs = [text.partition('=') for text in options.parts]
        parts = {name: part for name, _, part in pairs}
        if '' in parts or len(parts) < len(pairs):
            raise UsageError('split: each part needs a name of its own, such as train=0.8')
    with _shown_run() as (display, cancel):
        joined = split(
            options.dataset,
            options.output,
            parts,
            version=options.lerobot_version,
            observer=display,
            cancel=cancel,
        )
    return _print_joined(joined)


def _watch_arguments(parser: argparse.ArgumentParser) -> None:
    from kuavo_bag_converter.jobs.watch import WatchOptions
    from kuavo_bag_converter.settings import described

    parser.add_argument(
        'bags', nargs='+', metavar='FOLDER', help='folder in which recordings appear'
    )
    parser.add_argument(
        '-o', '--output', metavar='DIR', help='root of the dataset; it is made, or added to'
    )
    for info in described(WatchOptions).values():
        option = f'--{info.name.replace("_", "-")}'
        if info.kind == 'bool':
            parser.add_argument(option, action='store_true', default=None, help=info.description)
        else:
            kind = float if info.kind == 'float' else str
            parser.add_argument(
                option, type=kind, metavar=info.name.upper(), help=info.description
            )
    parser.add_argument(
        '--retry-failed',
        action='store_true',
        default=None,
        help='also convert the recordings that failed before and have not changed since',
    )
    _settings_arguments(parser, described(WatchOptions))


def _watch(options: argparse.Namespace) -> int:
    from kuavo_bag_converter.jobs.watch import watch, WatchOptions
    from kuavo_bag_converter.settings import described, options_from, Settings, updated
    from kuavo_bag_converter.support.priority import set_priority

    own = described(WatchOptions)
    named = ('bags', 'output', 'retry_failed', *own)
    arguments = {name: value for name in named if (value := getattr(options, name)) is not None}
    settings, chosen = Settings(), dict[str, object]()
    for values, source in (*_given(options, 'watch_node'), (arguments, 'command line')):
        chosen |= {name: values.pop(name) for name in own if name in values}
        how = options_from(WatchOptions, chosen, source)
        settings = updated(settings, values, source)
    set_priority(how.priority)
    with _shown_run() as (display, stop):
        report = watch(
            settings,
            how,
            observer=display,
            cancel=threading.Event() if how.finish else stop,
            finish=stop if how.finish else None,
        )
    print(report)  # noqa: T201
    for line in report.missing:
        print(f'    {line}')  # noqa: T201
    return report.exit_code


def _inspect_arguments(parser: argparse.ArgumentParser) -> None:
    from kuavo_bag_converter.inspection.command import add_arguments

    add_arguments(parser)
    _settings_arguments(parser, ('profile',))


def _inspect(options: argparse.Namespace) -> int:
    from kuavo_bag_converter.inspection.command import run as run_inspect
    from kuavo_bag_converter.settings import NODE_NAME

    given = [name for values, _ in _given(options, NODE_NAME) for name in values]
    return run_inspect(options, _settings(options), given)


def _of_module(name: str, summary: str, module: str, *, with_settings: bool = False) -> _Command:
    """
    Return a command whose module has ``add_arguments`` and ``run``.

    With settings, these are arguments of it, too, and ``run`` gets them.
    """

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        import_module(f'kuavo_bag_converter.{module}').add_arguments(parser)
        if with_settings:
            _settings_arguments(parser)

    def run_module(options: argparse.Namespace) -> int:
        run = import_module(f'kuavo_bag_converter.{module}').run
        return int(run(options, _settings(options)) if with_settings else run(options))

    return _Command(name, summary, add_arguments, run_module)


_COMMANDS = (
    _of_module(
        'init',
        'Write a first profile for a robot, from a bag.',
        'inspection.init_command',
        with_settings=True,
    ),
    _Command('convert', 'Convert bags to a LeRobot dataset.', add_convert_arguments, convert),
    _Command('assemble', 'Join what convert --shard made.', _assemble_arguments, _assemble),
    _Command('merge', 'Join datasets, or change their version.', _merge_arguments, _merge),
    _Command('split', 'Make datasets of parts of one.', _split_arguments, _split),
    _Command('watch', 'Convert recordings as they are completed.', _watch_arguments, _watch),
    _Command('inspect', 'Say what bags hold, and what fits them.', _inspect_arguments, _inspect),
    _of_module('verify', 'Check a dataset, and compare it with its bags.', 'replay.command'),
    _of_module(
        'catalogue', 'Say what a dataset is made of, and list bags.', 'jobs.catalogue_command'
    ),
    _of_module('push', 'Send a dataset to the Hugging Face Hub.', 'jobs.push_command'),
    _of_module('sample', 'Make a Kuavo bag with known truth.', 'sample.command'),
    _of_module('profile', 'Show, check and list profiles.', 'robots.command', with_settings=True),
    _of_module('benchmark', 'Compare methods and codecs.', 'benchmark.command'),
)
