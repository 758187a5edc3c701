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

"""The ``push`` subcommand: a dataset to the Hugging Face Hub, with a card of what it is."""

from __future__ import annotations

import argparse
from pathlib import Path
import sys

from kuavo_bag_converter.dataset.layout import INFO_PATH
from kuavo_bag_converter.support.errors import OutputError
from kuavo_bag_converter.support.texts import counted

_IGNORED = ('.git', '.cache', '.DS_Store', '__pycache__')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('dataset', metavar='DATASET', help='root of the dataset')
    parser.add_argument(
        '--repo', required=True, metavar='OWNER/NAME', help='dataset repository; made if missing'
    )
    parser.add_argument(
        '--private',
        action='store_true',
        default=None,
        help='make the repository for its owner alone, if it does not exist',
    )
    parser.add_argument(
        '--license', default='', metavar='NAME', help='for the card, such as apache-2.0'
    )
    parser.add_argument(
        '--tag', action='append', default=[], metavar='TEXT', help='for the card; several times'
    )
    parser.add_argument(
        '--overwrite-card',
        action='store_true',
        help='overwrite the card there also if somebody has edited it',
    )
    parser.add_argument(
        '--replace',
        action='store_true',
        help='delete files of another dataset that are in the repository',
    )


def run(options: argparse.Namespace) -> int:
    """
    Push a dataset; return 0.

    :raises UsageError: There is no dataset, the Hub does not take it, or it must not be written.
    :raises OutputError: The Hub cannot be reached; the same command sends what is left.
    """
    from kuavo_bag_converter.jobs.dataset_card import dataset_card, is_edited, version_of
    from kuavo_bag_converter.support.remote.hub import CARD, check_limits, HubRepository, send

    root = Path(options.dataset)
    card = dataset_card(root, options.repo, options.license, options.tag)
    files = {
        str(path.relative_to(root)): path
        for path in sorted(root.rglob('*'))
        if path.is_file() and not {*path.relative_to(root).parts} & {*_IGNORED}
    }
    check_limits(files, [CARD])
    if CARD in files:
        card = files.pop(CARD).read_text(encoding='utf-8', errors='replace')
    repository = HubRepository(options.repo)
    try:
        repository.create(private=options.private)
        sent = send(
            repository,
            files,
            card,
            last=[INFO_PATH],
            is_edited=is_edited,
            overwrite_card=options.overwrite_card,
            replace=options.replace,
            progress=_progress,
        )
        repository.tag(version_of(root))
    except OutputError as error:
        raise OutputError(f'{error}; the same command sends what is left') from None
    print(f'{options.repo}: {sent.line}')  # noqa: T201  # its purpose
    if sent.card_kept:
        _say(f'{CARD}: was edited on the Hub, and stays; --overwrite-card takes its place')
    if sent.interruptions:
        _say(f'sent after {counted(sent.interruptions, "interruption")}')
    if not options.license:
        _say('no licence is stated: give --license, or state one in the card')
    return 0


def _progress(done: int, total: int) -> None:
    _say(f'{done} of {counted(total, "file")} sent')


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201  # its purpose
