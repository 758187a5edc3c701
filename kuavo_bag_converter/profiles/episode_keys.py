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

"""What a profile says under ``episodes``: how a bag is cut."""

from __future__ import annotations

from dataclasses import replace

from kuavo_bag_converter.profiles.document import LONGEST_S, YamlNode
from kuavo_bag_converter.profiles.model import Episodes, IN_DATASET, TimeRange
from kuavo_bag_converter.profiles.source_keys import read_sources


def read_episodes(node: YamlNode) -> Episodes:
    """
    Read the one rule that cuts bags.

    :raises UsageError: There is not just one, or a value is not allowed.
    """
    rules = ('ranges', 'marks_file', 'while_true', 'each_message', 'events')
    keys = node.mapping(*rules, 'min_episode_s')
    shortest = keys.pop('min_episode_s', None)
    if len(keys) > 1 or (not keys and shortest is None):
        found = ' and '.join(keys) or 'none'
        raise node.error(f'expected one of {", ".join(rules)}, found {found}')
    episodes = _rule(*next(iter(keys.items()))) if keys else Episodes()
    if shortest is None:
        return episodes
    return replace(episodes, min_episode_s=shortest.positive('seconds greater than 0'))


def _rule(rule: str, value: YamlNode) -> Episodes:
    if rule == 'ranges':
        return Episodes(ranges=_ranges(value))
    if rule == 'marks_file':
        return Episodes(marks_file=_marks_file(value))
    if rule == 'while_true':
        return Episodes(sources=read_sources(value, 'one'), rule='while_true')
    if rule == 'each_message':
        return Episodes(sources=read_sources(value, 'none or one'), rule='each_message')
    return _events(value)


def _marks_file(node: YamlNode) -> str:
    what = 'a path such as "{bag}.json", with no other braces'
    path = node.text(what)
    if set('{}') & set(path.removeprefix(IN_DATASET).replace('{bag}', '')):
        raise node.expected(what)
    return path


def _ranges(node: YamlNode) -> tuple[TimeRange, ...]:
    ranges: list[TimeRange] = []
    for item in node.items('ranges of time'):
        keys = item.mapping('start_s', 'stop_s', 'task', required=('start_s', 'stop_s'))
        start, stop = (keys[key].number('seconds', LONGEST_S) for key in ('start_s', 'stop_s'))
        if start < 0 or stop <= start:
            raise item.error(f'expected 0 <= start_s < stop_s, found {start:g} and {stop:g}')
        if ranges and start < ranges[-1].stop_s:
            raise keys['start_s'].error(
                f'expected a start at or after the end of the range before, {ranges[-1].stop_s:g} '
                f's, found {start:g} s'
            )
        ranges.append(TimeRange(start, stop, keys['task'].text() if 'task' in keys else ''))
    return tuple(ranges)


def _events(node: YamlNode) -> Episodes:
    keys = node.mapping('from', 'start', 'stop', 'discard', required=('from', 'start'))
    texts: dict[str, tuple[str, ...]] = {}
    seen: dict[str, str] = {}
    for rule in ('start', 'stop', 'discard'):
        if rule not in keys or (rule != 'start' and keys[rule].value == []):
            continue
        items = keys[rule].items('texts')
        texts[rule] = tuple(item.text('a text (numbers in quotes)') for item in items)
        for item in items:
            if item.text() in seen:
                raise item.error(f'{item.value!r} is in {seen[item.text()]} already')
            seen[item.text()] = rule
    return Episodes(
        sources=read_sources(keys['from'], 'one'),
        rule='events',
        start=texts['start'],
        stop=texts.get('stop', ()),
        discard=texts.get('discard', ()),
    )
