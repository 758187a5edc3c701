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

"""Every setting is an option of its own, and means there what it means in a file."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.cli.options import add_setting_options, given_settings
from kuavo_bag_converter.settings import known_settings, Settings, settings_from, values_of
import pytest

LISTS = ('bags', 'output', 'append', 'retry_failed', 'msg_path')
"""What commands have arguments of their own for."""


def parsed(*arguments):
    """Return the settings that options mean."""
    parser = argparse.ArgumentParser()
    add_setting_options(parser, LISTS)
    return settings_from(given_settings(parser.parse_args(arguments)), 'options')


def other_value(info):
    """Return a value that a setting has not by default, and the text of it."""
    default = info.value_in(Settings())
    if info.kind == 'bool':
        return not default, None
    if info.choices:
        value = next(choice for choice in info.choices if choice != default)
        return ([value] if info.kind == 'str list' else value), value
    if info.kind in ('int', 'float'):
        value = default + 1 if info.maximum is None or default < info.maximum else default - 1
        return value, str(value)
    if info.kind == 'int list':
        return [1, 2], '1,2'
    if info.kind == 'str list':
        return ['one', 'two'], 'one,two'
    return 'a, b: 5', 'a, b: 5'


@pytest.mark.parametrize('name', [name for name in known_settings() if name not in LISTS])
@pytest.mark.parametrize('spelled', ['-', '_'])
def test_an_option_of_its_own_means_what_a_file_means(name, spelled):
    value, text = other_value(known_settings()[name])
    option = name.replace('_', spelled)
    arguments = [f'--{"" if value is not False else "no-"}{option}']
    if text is not None:
        arguments = [f'--{option}={text}'] if spelled == '-' else [f'--{option}', text]
    assert values_of(parsed(*arguments)) == values_of(settings_from({name: value}, 'file'))


def test_lists_may_be_written_as_in_a_file():
    assert parsed('--labels', '[a, "b, c"]').labels == ('a', 'b, c')


def test_an_option_wins_over_set_and_both_over_the_file(tmp_path, capsys):
    file = tmp_path / 'settings.yaml'
    settings = {'train_hz': 5, 'eef_type': 'rq2f85', 'platform_type': '4pro', 'use_depth': 'false'}
    file.write_text(json.dumps({'/**': {'ros__parameters': settings}}))

    def rate(*arguments):
        assert cli.run(['profile', '--show', '--params-file', str(file), *arguments]) == 0
        out = capsys.readouterr().out
        return next(line for line in out.splitlines() if line.startswith('fps:'))

    assert rate() == 'fps: 5'
    assert rate('--set', 'train_hz=6') == 'fps: 6'
    assert rate('--set', 'train_hz=6', '--train-hz', '15') == 'fps: 15'


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (['--crf', 'high'], "command line: crf: expected int from 0 to 63, found 'high'"),
        (['--train-hx', '5'], "did you mean '--train-hz'?"),
        (['--vcodec', 'h265'], 'command line: vcodec: expected one of'),
    ],
)
def test_a_wrong_option_is_an_error_in_one_line(tmp_path, capsys, arguments, expected):
    assert cli.run(['convert', 'x.bag', '-o', str(tmp_path / 'out'), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


def test_a_shell_completes_commands_settings_and_choices(tmp_path):
    pytest.importorskip('argcomplete')

    def completed(line):
        answer = tmp_path / 'answer'
        environment = {
            **os.environ, '_ARGCOMPLETE': '1', '_ARGCOMPLETE_STDOUT_FILENAME': str(answer),
            'COMP_LINE': line, 'COMP_POINT': str(len(line)), '_ARGCOMPLETE_IFS': '\n',
        }  # fmt: skip
        command = [sys.executable, '-m', 'kuavo_bag_converter']
        subprocess.run(command, env=environment, check=True)
        return [word.strip() for word in answer.read_text().split('\n')]

    assert 'convert' in completed('kbc con')
    assert '--train-hz' in completed('kbc convert run.bag --train')
    assert '--stall-timeout-s' in completed('kbc convert --stall')
    assert {'h264', 'hevc', 'libsvtav1'} <= set(completed('kbc convert --vcodec '))


def test_help_is_short_and_help_all_has_every_setting(capsys):
    def printed(option):
        with pytest.raises(SystemExit) as done:
            cli.run(['convert', option])
        assert done.value.code == 0
        return capsys.readouterr().out

    short, full = printed('--help'), printed('--help-all')
    assert '--train-hz N' in short
    assert '--stall-timeout-s' not in short
    assert len(short.splitlines()) < 90
    for name in known_settings().keys() - {'bags'}:
        assert f'--{name.replace("_", "-")}' in full, name
