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

"""An inspection as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kuavo_bag_converter.inspection.report import BagReport, FieldValues, Fit, TopicReport
from kuavo_bag_converter.robots.resolve import robot_of, robots
from kuavo_bag_converter.support.plugins import calling
from kuavo_bag_converter.support.texts import aligned, counted, listed, shown, visible

_NEAREST = 3
_FIELDS = 3
"""Fields of a topic that are shown; JSON has all."""
_VALUES = 4
_HEALTH = {
    'good': 'no damage in what was read',
    'noted': 'no damage in what was read, but:',
    'damaged': 'damaged; this is what on_damage: salvage reads',
    'unreadable': 'cannot be read',
}
_HIDDEN = 'sensor_msgs/msg/CameraInfo'
_HEADER = (
    ('topic', 'type', 'messages', 'rate', 'median', 'jitter', 'gap', 'bag-header', 'from', 'to',
     'pictures'),
    ('', '', '', 'Hz', 'Hz', 'ms', 'ms', 'ms', 'ms', 'ms', ''),
)  # fmt: skip
_RIGHT = range(2, 10)


def as_text(report: BagReport) -> str:
    """Return the report of one bag as lines."""
    sections = [list(_head(report))]
    if report.topics:
        sections += [_topics(report), _first_messages(report.topics)]
    sections += [_remarks(report), *_profiles(report)]
    return '\n\n'.join('\n'.join(map(visible, lines)) for lines in sections if lines) + '\n'


def _head(report: BagReport) -> Iterator[str]:
    yield report.bag
    if report.container:
        packed = {None: '', '': ', not compressed'}
        compression = packed.get(report.compression, f', compressed ({report.compression})')
        files = f' in {len(report.files)} files' if len(report.files) > 1 else ''
        read = f', {_size(report.bytes_read)} read' if report.bytes_read else ''
        yield f'  {report.container}{compression}, {_size(report.size_bytes)}{files}{read}'
        yield (
            f'  {report.backend} reader: index, first messages, header stamps of '
            f'{report.header_stamps_read or "no message"}'
        )
    if report.duration_s is not None:
        begin = report.start or f'{report.start_ns} ns'
        count, topics = report.messages, len(report.topics)
        yield f'  {begin}, {report.duration_s:.2f} s, {count} messages on {topics} topics'
    yield f'  health: {_HEALTH[report.health]}'
    if report.error:
        yield f'    {report.error}'
    for problem in report.problems:
        if not report.error.startswith(problem):
            yield f'    {problem}'


def _topics(report: BagReport) -> list[str]:
    rows = [_row(topic) for topic in report.topics]
    return aligned([*_HEADER, *rows], _RIGHT)


def _row(topic: TopicReport) -> tuple[str, ...]:
    timing, header = topic.timing, topic.header
    median = header.median_rate_hz if header and header.median_rate_hz else None
    if median is None and timing:
        median = timing.median_rate_hz
    offset = (
        (header.offset_median_ms, header.offset_min_ms, header.offset_max_ms) if header else ()
    )
    return (
        shown(topic.topic),
        ' + '.join(map(shown, topic.types)),
        str(topic.messages),
        _number(timing.rate_hz if timing else None),
        _number(median),
        _number(timing.jitter_p95_ms if timing else None),
        _number(timing.largest_gap_ms if timing else None),
        *(_number(value) for value in offset or (None, None, None)),
        _picture(topic),
    )


def _picture(topic: TopicReport) -> str:
    picture = topic.picture
    if picture is None:
        return 'cannot be decoded' if topic.error else ''
    size = f' {picture.width}x{picture.height}' if picture.width else ''
    name = shown(picture.encoding) if picture.codec == 'raw' else picture.codec
    return f'{name}{size}'


def _first_messages(topics: Sequence[TopicReport]) -> list[str]:
    rows = []
    for topic in topics:
        if topic.types[0] == _HIDDEN:
            continue
        fields = {path: item for path, item in topic.fields.items() if item.length}
        fields = fields or {path: item for path, item in topic.fields.items() if item.first}
        for path, item in list(fields.items())[:_FIELDS]:
            length = f'[{item.length}]' if item.length is not None else ''
            rows.append((shown(topic.topic), f'{shown(path)}{length}', _first_values(item)))
        if len(fields) > _FIELDS:
            rows.append((shown(topic.topic), f'and {len(fields) - _FIELDS} more', ''))
    return ['first values', *(f'  {line}' for line in aligned(rows))] if rows else []


def _first_values(item: FieldValues) -> str:
    values = ['nan' if value is None else f'{value:.5g}' for value in item.first[:_VALUES]]
    return ' '.join(values) + (' ...' if (item.length or 0) > _VALUES else '')


def _remarks(report: BagReport) -> list[str]:
    return ['remarks', *(f'  {text}' for text in report.remarks)] if report.remarks else []


def _profiles(report: BagReport) -> Iterator[list[str]]:
    asked = [] if report.asked is None else [report.asked]
    matching = [fit for fit in report.profiles if fit.fits]
    others = [fit for fit in report.profiles if not fit.fits]
    for title, fits in (
        ('as asked', asked),
        ('fits', _without_less(matching)),
        ('does not fit; the nearest', _without_less(others)[:_NEAREST]),
    ):
        if fits:
            yield [title, *(line for fit in fits for line in _fit(fit))]


def _without_less(fits: Sequence[Fit]) -> list[Fit]:
    """Leave out what is like another one but with less of the robot, and lacks as much."""
    return [fit for fit in fits if not any(_is_less(fit, other) for other in fits)]


def _is_less(fit: Fit, other: Fit) -> bool:
    mine, its = fit.settings, other.settings
    if fit.profile != other.profile or mine == its or len(other.misses) > len(fit.misses):
        return False
    robot = robot_of(fit.profile)
    most = robot.distinguishing if robot else {}
    return all(its[name] in (mine[name], most[name]) for name in mine)


def _fit(fit: Fit) -> Iterator[str]:
    gives = ''
    if fit.frames is not None and fit.episodes is not None:
        gives = f': {counted(fit.frames, "frame")} in {counted(fit.episodes, "episode")}'
    yield f'  {_name(fit)}{gives}'
    for miss in fit.misses:
        yield f'    {miss.text}'
        if miss.instead:
            yield f'      the bag has {listed(miss.instead)}'
    yield from (f'    {text}' for text in fit.remarks)
    if fit.fits:
        yield f'    {fit.command}'


def _name(fit: Fit) -> str:
    robot = robots().get(fit.profile)
    if robot is None:
        return fit.profile
    with calling(robot, 'title()'):
        return f'{fit.profile} {robot.value.title(fit.settings)}'


def _size(size: int) -> str:
    value = float(size)
    for unit in ('B', 'KB', 'MB'):
        if value < 1000:
            return f'{value:.3g} {unit}'
        value /= 1000
    return f'{value:.3g} GB'


def _number(value: float | None) -> str:
    if value is None:
        return ''
    if abs(value) >= 1e5:
        return f'{value:.1e}'
    return f'{value:.1f}' if abs(value) < 1000 else f'{value:.0f}'
