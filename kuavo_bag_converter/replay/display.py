"""What ``verify`` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from kuavo_bag_converter.check.findings import Finding
from kuavo_bag_converter.replay.verify import Verification

_SHOWN = 40
"""Findings that the text shows; JSON has all of them."""
_WIDTH = 60
"""Characters of a value that the text shows."""


def as_json(result: Verification) -> str:
    """Return everything that was found."""
    return json.dumps(result.as_json(), indent=2, ensure_ascii=False)


def as_text(result: Verification) -> str:
    """Return what was found in short."""
    return '\n'.join(_lines(result))


def _lines(result: Verification) -> Iterator[str]:
    yield f'{result.root}: {result.episodes} episodes, {result.frames} frames'
    if result.bags:
        yield f'compared with {len(result.bags)} bags'
    if result.not_compared:
        yield f'not compared: {len(result.not_compared)} bags that were not given'
    for bag in result.others[:_SHOWN]:
        yield f'not in the dataset: {bag}'
    if len(result.others) > _SHOWN:
        yield f'not in the dataset: {len(result.others) - _SHOWN} more; --json has all of them'
    if result.cameras:
        yield ''
        yield from table(
            ('pictures', 'frames', 'compared', 'coding loss', 'too alike'),
            [
                (
                    camera.key,
                    str(camera.frames),
                    'exactly' if camera.exact else 'by likeness',
                    '' if camera.loss is None else f'{camera.loss:.2f}',
                    '' if camera.exact else f'{camera.still} of {camera.pairs} pairs',
                )
                for camera in result.cameras
            ],
        )
    if result.timing:
        yield ''
        yield from table(
            ('state minus picture', '', 'median ms', 'p95 ms', 'max ms'),
            [
                (
                    entry['state'],
                    entry['picture'],
                    *(f'{entry[name]:.1f}' for name in ('median', 'p95', 'max')),
                )
                for entry in result.timing
            ],
        )
    yield ''
    if result.ok:
        yield 'nothing is wrong'
        return
    yield f'{len(result.findings)} things are wrong:'
    rows = [_row(finding) for finding in result.findings[:_SHOWN]]
    yield from table(('rule', 'where', 'found', 'expected'), rows)
    if len(result.findings) > _SHOWN:
        yield f'... and {len(result.findings) - _SHOWN} more; --json has all of them'


def _row(finding: Finding) -> tuple[str, ...]:
    where = [finding.file, finding.feature]
    if finding.episode is not None:
        where.append(f'episode {finding.episode}')
    if finding.frame is not None:
        where.append(f'frame {finding.frame}')
    if finding.places > 1:
        where.append(f'{finding.places} places')
    place = ', '.join(part for part in where if part)
    return finding.rule, place, _short(finding.found), _short(finding.expected)


def _short(text: str) -> str:
    text = ' '.join(text.split())
    return text if len(text) <= _WIDTH else f'{text[:_WIDTH]}...'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, its columns aligned."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return [
        '  '.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
