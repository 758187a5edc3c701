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

"""Every setting as an option of its own: ``--train-hz 10``, short in ``--help``."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from kuavo_bag_converter.settings import known_settings, parse_value, SettingInfo, Settings

_GIVEN = 'given_settings'
"""Where the parser keeps the texts of options, by setting."""
_COMMON = (
    'profile', 'platform_type', 'eef_type', 'which_arm', 'use_depth', 'train_hz',
    'task_description', 'tasks', 'on_damage', 'on_bad_image', 'lerobot_version', 'video',
    'vcodec', 'jobs', 'shard', 'memory_limit_mb',
)  # fmt: skip
"""What ``--help`` shows; ``--help-all`` shows the others, too."""
_RECORDINGS = (
    'tasks', 'labels', 'num_used', 'reader', 'on_damage', 'on_bad_image', 'msg_path', 'distro',
)  # fmt: skip
_DATASET = (
    'dataset_format', 'lerobot_version', 'modality', 'video', 'vcodec', 'crf', 'preset', 'gop',
    'pix_fmt',
)  # fmt: skip
_MOST_CHOICES = 4
"""That stand for a value in a line of help."""


class _HelpFormatter(argparse.HelpFormatter):
    """Shows an option of a setting by one of its spellings, and none of them in the usage."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not isinstance(action, _Option):
            return super()._format_action_invocation(action)
        shown = action.option_strings[0]
        if action.nargs == 0:
            return f'{shown}, --no-{shown.removeprefix("--")}'
        return f'{shown} {action.metavar}'

    def _format_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[Any],
        prefix: str | None,
    ) -> str:
        few = [action for action in actions if not isinstance(action, _Option)]
        return super()._format_usage(usage, few, groups, prefix)


class _Option(argparse.Action):
    """Keeps the text of a setting; ``--no-NAME`` of a truth value is false."""

    def __init__(self, *, full_help: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.full_help = full_help

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        del parser
        given = dict(getattr(namespace, _GIVEN, {}))
        if self.nargs == 0:
            values = 'false' if (option_string or '').startswith('--no-') else 'true'
        given[self.dest] = values
        setattr(namespace, _GIVEN, given)


class _HelpAll(argparse.Action):
    """Prints the help with all options."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        for action in parser._actions:  # argparse lists them nowhere else
            if isinstance(action, _Option):
                action.help = action.full_help
        parser.print_help()
        parser.exit()


def add_setting_options(parser: argparse.ArgumentParser, but: Collection[str] = ()) -> None:
    """
    Add an option for every setting, in groups.

    :param parser: Of a subcommand.
    :param but: Settings that the subcommand has arguments of its own for.
    """
    parser.formatter_class = _HelpFormatter
    parser.add_argument(
        '--help-all', action=_HelpAll, nargs=0, default=argparse.SUPPRESS,
        help='show this help message with all settings and exit',
    )  # fmt: skip
    groups: dict[str, Any] = {}
    for info in known_settings().values():
        if info.name in but:
            continue
        title = _group_of(info)
        if title not in groups:
            groups[title] = parser.add_argument_group(f'settings of {title}')
        _add(groups[title], info)


def given_settings(options: argparse.Namespace) -> dict[str, object]:
    """
    Return the values of the options of settings that were given, by name.

    :raises UsageError: One is not written as in YAML.
    """
    known = known_settings()
    texts: dict[str, str] = getattr(options, _GIVEN, {})
    return {name: _value(known[name], text) for name, text in texts.items()}


def _group_of(info: SettingInfo) -> str:
    if info.robot is not None:
        return f'the robot {info.robot.name}'
    if info.name in _RECORDINGS:
        return 'recordings'
    if info.name in _DATASET:
        return 'the dataset'
    return 'frames' if info.name == 'profile' else 'the run'


def _add(group: Any, info: SettingInfo) -> None:
    name = info.name.replace('_', '-')
    spellings = list(dict.fromkeys((f'--{name}', f'--{info.name}')))
    if info.kind == 'bool':
        spellings += [f'--no-{spelling.removeprefix("--")}' for spelling in spellings]
    default = info.value_in(Settings())
    shown = '' if default in ('', []) else f' ({_as_text(default)})'
    choices = f' One of {", ".join(info.choices)}.' if len(info.choices) > _MOST_CHOICES else ''
    text = f'{info.description}{choices}{shown}'.replace('%', '%%')
    action = group.add_argument(
        *spellings,
        action=_Option,
        dest=info.name,
        nargs=0 if info.kind == 'bool' else None,
        default=argparse.SUPPRESS,
        metavar=_metavar(info),
        help=text if info.name in _COMMON else argparse.SUPPRESS,
        full_help=text,
    )
    if info.choices:
        action.completer = lambda **_: info.choices  # of argcomplete


def _metavar(info: SettingInfo) -> str:
    if 0 < len(info.choices) <= _MOST_CHOICES:
        return '|'.join(info.choices)
    return {'int': 'N', 'float': 'X', 'str': 'TEXT'}.get(info.kind, 'A,B,...')


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    return ','.join(map(str, value)) if isinstance(value, list) else str(value)


def _value(info: SettingInfo, text: str) -> object:
    """Read a value: texts are taken as they are, lists may be written with commas alone."""
    if info.kind == 'str':
        return text
    source = f'--{info.name.replace("_", "-")} {text}'
    if info.kind == 'str list' and not text.lstrip().startswith('['):
        return [one.strip() for one in text.split(',')]
    if info.kind == 'int list' and not text.lstrip().startswith('['):
        return [parse_value(one, source) for one in text.split(',')]
    return parse_value(text, source)
