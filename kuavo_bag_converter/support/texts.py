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

"""Texts from elsewhere (bags, file names) in lines for people: short, one line, nothing acts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Sequence
import difflib
from pathlib import PurePath
import unicodedata

PROGRAM = 'python -m kuavo_bag_converter'
"""How the command line is called, where a line says what to do."""
SHORT = 120
"""Characters of a text that are shown."""
LINE = 4000
"""Characters of a line that are shown."""
_NAMES = 20


def visible(text: str) -> str:
    """Escape what breaks a line, acts on a terminal or cannot be printed, as Python would."""
    if text.isprintable():
        return text
    return ''.join(c if c.isprintable() or _is_blank(c) else _escaped(c) for c in text)


def shown(text: str) -> str:
    """Make a text fit into a line: shortened, with its length said, and escaped."""
    if len(text) <= SHORT:
        return visible(text)
    return f'{visible(text[:SHORT])}... ({len(text)} characters)'


def quoted(text: str) -> str:
    """As :func:`shown`, in quotes."""
    if len(text) <= SHORT:
        return repr(text)
    return f'{text[:SHORT]!r}... ({len(text)} characters)'


def one_line(text: str) -> str:
    """Make a message one line of bounded length; what it ends with, the advice, is kept."""
    if len(text) > LINE:
        end = LINE // 4
        text = f'{text[: LINE - end]} ... ({len(text)} characters) ... {text[-end:]}'
    return visible(text)


def error_text(error: Exception) -> str:
    """Return the text of an error in one line; its type where it has none."""
    return ' '.join(str(error).split()) or type(error).__name__


def listed(names: Iterable[str], most: int = _NAMES) -> str:
    """List names that come from elsewhere, the first ``most``; '' for none."""
    each = list(names)
    more = f' and {len(each) - most} more' if len(each) > most else ''
    return ', '.join(map(shown, each[:most])) + more


def counted(number: int, noun: str) -> str:
    """Write a number with its noun, as in ``1 frame`` and ``2 frames``."""
    return f'{number} {noun}' if number == 1 else f'{number} {noun}s'


def distinct_names(paths: Sequence[str]) -> dict[str, str]:
    """Return by path its file name, with as many folders before it as tell it from the others."""
    parts = {path: PurePath(path).parts for path in paths}
    names: dict[str, str] = {}
    for length in range(1, max(map(len, parts.values()), default=0) + 1):
        endings = Counter(part[-length:] for part in parts.values())
        for path, part in parts.items():
            if endings[part[-length:]] == 1:
                names.setdefault(path, str(PurePath(*part[-length:])))
    return {path: names.get(path, path) for path in paths}


def aligned(rows: Sequence[Sequence[str]], right: Container[int] = ()) -> list[str]:
    """Write rows as columns, two blanks apart, those named by ``right`` aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        '  '.join(
            text.rjust(width) if i in right else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return '; did you mean ...?' where a known name is near, else ''."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f'; did you mean {near[0]!r}?' if near else ''


def _is_blank(character: str) -> bool:
    """Tell whether it is a blank as the ideographic one, which Python does not call printable."""
    return unicodedata.category(character) == 'Zs'


def _escaped(character: str) -> str:
    return character.encode('unicode_escape').decode()
