"""Reading the files of a dataset that may be damaged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from kuavo_bag_converter.check.findings import Findings

BROKEN = (
    KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, OSError,
)  # fmt: skip
"""What reading metadata of another form than the format's raises."""
ARROW_ERRORS = (OSError, ValueError, pa.ArrowException)
"""What opening or reading a damaged Parquet file raises."""


def first_line(error: Exception) -> str:
    """Return the first line of an error; those of pyarrow have many."""
    return str(error).split('\n', 1)[0] or repr(error)


def read_json(root: Path, file: str, area: str, findings: Findings) -> dict[str, Any] | None:
    """Read a JSON object; add a finding and return None where there is none."""
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
    """Read a JSON Lines file; add a finding and return None where there is none."""
    try:
        lines = (root / file).read_text(encoding='utf-8').split('\n')
        return [dict(json.loads(line)) for line in lines if line.strip()]
    except FileNotFoundError:
        findings.add(f'{area}.missing', 'no file', 'a JSON Lines file', file=file)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        findings.add(f'{area}.unreadable', error, 'one JSON object in each line', file=file)
    return None


def check_order(rule: str, index: Sequence[Any], file: str, findings: Findings) -> None:
    """Check that numbers count from 0."""
    wrong = [position for position, value in enumerate(index) if value != position]
    if wrong:
        findings.add(
            rule, f'{index[wrong[0]]} in row {wrong[0]}', wrong[0], file=file, places=len(wrong)
        )
