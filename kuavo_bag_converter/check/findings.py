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

"""What a check found wrong and where, and reading files that may be damaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
import json
from pathlib import Path
from typing import Any

import pyarrow as pa

BROKEN = (
    KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, OSError,
)  # fmt: skip
"""What reading metadata of another form than the format's raises."""
ARROW_ERRORS = (OSError, ValueError, pa.ArrowException)
"""What opening or reading a damaged Parquet file raises."""


@dataclass(frozen=True)
class Finding:
    """One rule that a dataset breaks; ``docs/verify.md`` lists the rules."""

    rule: str
    """What is broken, as ``<area>.<rule>``."""
    found: str
    expected: str
    file: str = ''
    """Relative to the dataset's root; '' where the finding is about no single file."""
    feature: str = ''
    episode: int | None = None
    frame: int | None = None
    """Within the episode."""
    places: int = 1
    """How many rows or frames of this file, feature and episode break the rule; the first of
    them is the one described."""

    def __str__(self) -> str:
        """Return it in a line, for errors."""
        place = f'{self.file}: ' if self.file else ''
        return f'{place}{self.rule}: found {self.found}, expected {self.expected}'

    def as_json(self) -> dict[str, Any]:
        """Return the finding as JSON can hold it."""
        return asdict(self)


class Findings:
    """Collects findings; those of one rule, file, feature and episode become one."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str, int | None], Finding] = {}

    def add(
        self,
        rule: str,
        found: object,
        expected: object,
        *,
        file: str = '',
        feature: str = '',
        episode: int | None = None,
        frame: int | None = None,
        places: int = 1,
    ) -> None:
        """
        Add a finding; of several in one place the first is described.

        :param rule: What was broken, as docs/verify.md lists it.
        :param found: What there is.
        :param expected: What there should be.
        :param file: Within the dataset; the name of a bag where no file is at fault.
        :param feature: Its key.
        :param episode: Its number.
        :param frame: Its number within the episode.
        :param places: How many places of the same kind the finding stands for.
        """
        key = (rule, file, feature, episode)
        known = self._found.get(key)
        if known is None:
            self._found[key] = Finding(
                rule, str(found), str(expected), file, feature, episode, frame, places
            )
        else:
            self._found[key] = replace(known, places=known.places + places)

    def extend(self, others: Findings) -> None:
        """Add the findings of another collection, none of which is here yet."""
        self._found.update(others._found)

    def __iter__(self) -> Iterator[Finding]:
        return iter(list(self._found.values()))

    def __len__(self) -> int:
        return len(self._found)


def first_line(error: Exception) -> str:
    """Return the first line of an error; those of pyarrow have many."""
    return str(error).split('\n', 1)[0] or repr(error)


def read_json(root: Path, file: str, area: str, findings: Findings) -> dict[str, Any] | None:
    """
    Read a JSON object; add a finding and return None where there is none.

    :param root: Of the dataset.
    :param file: Within it.
    :param area: Of the rules, the part before the dot.
    :param findings: Takes what is wrong.
    """
    try:
        content = json.loads((root / file).read_text(encoding='utf-8'))
    except FileNotFoundError:
        findings.add(f'{area}.missing', 'no file', 'a JSON file', file=file)
        return None
    except (OSError, ValueError, RecursionError) as error:
        findings.add(f'{area}.unreadable', error, 'a JSON object', file=file)
        return None
    if not isinstance(content, dict):
        findings.add(f'{area}.unreadable', type(content).__name__, 'a JSON object', file=file)
        return None
    return content


def read_json_lines(
    root: Path, file: str, area: str, findings: Findings
) -> list[dict[str, Any]] | None:
    """
    Read a JSON Lines file; add a finding and return None where there is none.

    :param root: Of the dataset.
    :param file: Within it.
    :param area: Of the rules, the part before the dot.
    :param findings: Takes what is wrong.
    """
    try:
        lines = (root / file).read_text(encoding='utf-8').split('\n')
        return [dict(json.loads(line)) for line in lines if line.strip()]
    except FileNotFoundError:
        findings.add(f'{area}.missing', 'no file', 'a JSON Lines file', file=file)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        findings.add(f'{area}.unreadable', error, 'one JSON object in each line', file=file)
    return None


def check_order(rule: str, index: Sequence[Any], file: str, findings: Findings) -> None:
    """
    Check that numbers count from 0.

    :param rule: That is broken if they do not.
    :param index: The numbers in the order in which they stand.
    :param file: Within the dataset.
    :param findings: Takes what is wrong.
    """
    wrong = [position for position, value in enumerate(index) if value != position]
    if wrong:
        findings.add(
            rule, f'{index[wrong[0]]} in row {wrong[0]}', wrong[0], file=file, places=len(wrong)
        )
