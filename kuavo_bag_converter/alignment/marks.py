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
Annotations of the LET dataset: JSON with ``marks[]``, one file for each bag.

The format is that of "Label Format" in the README of Leju's LET dataset
(https://huggingface.co/datasets/LejuRobotics/let_dataset), whose example has for each mark::

    "taskId", "markStart", "markEnd" (local time without a zone), "duration" (seconds),
    "startPosition", "endPosition" (0 to 1), "skillAtomic" (pick), "skillDetail" (Chinese),
    "enSkillDetail" (English), "markType" ("step")

In that example and in others from the field, ``duration`` is in proportion to the distance of the
positions, and ``markStart`` too, so the positions are fractions of the recording's length.
``markEnd`` contradicts both in one mark, and converters of users found the clock times not to fit
their bags: only the positions are used here. ``duration`` serves to find out that a file belongs
to another bag. A converter of the field takes the type ``retry`` for a failed attempt; it knows no
third type.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from kuavo_bag_converter.support.errors import BagError

_OUTER = ('.active', '.zstd', '.zst')
"""Endings behind that of the container."""


class Mark(NamedTuple):
    """A marked piece of a recording."""

    start: float
    """Fraction of the recording's length."""
    stop: float
    duration_s: float | None
    """Its length as the annotation states it."""
    failed: bool
    """Whether it is a failed attempt (``retry``)."""
    task: str
    """English if there is any, else Chinese; '' without text."""


def find_marks(pattern: str, bag: Path) -> Path:
    """
    Find the annotation of a bag.

    ``{bag}`` stands for the bag's name without endings: first that of a recording that was not
    closed or is packed (``.active``, ``.zstd``, ``.zst``), then that of the container. A name that
    keeps the last, or both, is found too, if there is only one such file. A folder has no endings.

    :param pattern: Path that is absolute or relative to the bag's folder, with ``{bag}`` or
        without.
    :param bag: The bag file or folder.
    :raises BagError: There is no such file, or there are several.
    """
    bag = bag if bag.name.strip('.') else bag.resolve()
    paths = [bag.parent / pattern.replace('{bag}', name) for name in _names(bag)]
    found: dict[tuple[int, int], Path] = {}
    for path in paths:
        if path.exists():
            status = path.stat()
            found.setdefault((status.st_dev, status.st_ino), path)
    if len(found) > 1:
        raise BagError(
            f'{" and ".join(map(str, found.values()))}: both may hold the marks of {bag.name}; '
            'keep one of them'
        )
    if not found:
        others = ', '.join(dict.fromkeys(path.name for path in paths[1:] if path != paths[0]))
        raise BagError(
            f'{paths[0]}: cannot read the marks of the bag: there is no such file'
            f'{f", nor {others}" if others else ""}'
        )
    return next(iter(found.values()))


def _names(bag: Path) -> list[str]:
    """Return what a bag may be called, the shortest name first."""
    if bag.is_dir():
        return [bag.name]
    names = [bag.name]
    for endings in (_OUTER, None):
        stem, dot, ending = names[0].rpartition('.')
        if stem and (endings is None or dot + ending in endings):
            names.insert(0, stem)
    return names


def read_marks(path: Path) -> tuple[Mark, ...]:
    """
    Read the marks of an annotation, in order of time.

    :raises BagError: The file cannot be read or something in it is not understood; the mark and
        key are named.
    """
    try:
        document = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise BagError(f'{path}: cannot read the marks of the bag: {error.strerror}') from error
    except (ValueError, RecursionError) as error:
        raise BagError(f'{path}: not valid JSON: {" ".join(str(error).split())}') from error
    entries = document.get('marks') if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise BagError(f'{path}: expected an object with "marks", a list that is not empty')
    marks = [_mark(f'{path}: marks[{index}]', entry) for index, entry in enumerate(entries)]
    return tuple(sorted(marks, key=lambda mark: mark.start))


def _mark(place: str, entry: object) -> Mark:
    if not isinstance(entry, dict):
        raise BagError(f'{place}: expected an object, found {_shown(entry)}')
    start, stop = (_number(place, entry, key) for key in ('startPosition', 'endPosition'))
    if not 0 <= start < stop <= 1:
        raise BagError(
            f'{place}: expected 0 <= startPosition < endPosition <= 1, found {start} and {stop}'
        )
    kind = entry.get('markType', 'step')
    if kind not in ('step', 'retry'):
        raise BagError(f'{place}: markType: expected step or retry, found {_shown(kind)}')
    duration = None
    if entry.get('duration') is not None:
        duration = _number(place, entry, 'duration')
    return Mark(start, stop, duration, kind == 'retry', _task(place, entry))


def _task(place: str, entry: dict[str, Any]) -> str:
    for key in ('enSkillDetail', 'skillDetail'):
        text = entry.get(key) or ''
        if not isinstance(text, str):
            raise BagError(f'{place}: {key}: expected a text, found {_shown(text)}')
        if text.strip():
            return text.strip()
    return ''


def _number(place: str, entry: dict[str, Any], key: str) -> float:
    value = entry.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        found = 'nothing' if value is None else _shown(value)
        raise BagError(f'{place}: {key}: expected a number, found {found}')
    return value


def _shown(value: object) -> str:
    return repr(value)[:60]
