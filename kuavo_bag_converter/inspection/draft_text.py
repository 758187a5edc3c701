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

"""A drafted profile as commented YAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from kuavo_bag_converter.inspection.draft import (
    Draft,
    DraftCamera,
    DraftPart,
    DraftVector,
    steady_rate,
)
from kuavo_bag_converter.inspection.report import BagReport
from kuavo_bag_converter.support.texts import counted, shown, visible
import yaml

_WIDTH = 95
_OFFSET_MS = 20.0
"""Header stamps further from the receive stamps are worth a word."""


def draft_as_yaml(draft: Draft, report: BagReport, robot_type: str) -> str:
    """
    Return a profile with a comment at whatever a person may want to change.

    :param draft: What the profile takes.
    :param report: What the inspection of the recording has found.
    :param robot_type: What the robot is called.
    """
    return '\n'.join(line.rstrip() for line in _Writer(draft, report).lines(robot_type)) + '\n'


class _Writer:
    """Writes one draft, line by line."""

    def __init__(self, draft: Draft, report: BagReport) -> None:
        self._draft = draft
        self._report = report
        self._topics = {topic.topic: topic for topic in report.topics}

    def lines(self, robot_type: str) -> Iterator[str]:
        draft, report = self._draft, self._report
        yield (
            f'# Drafted from {visible(report.bag)}: {report.container}, '
            f'{report.duration_s or 0:.1f} s, {counted(len(report.topics), "topic")}.'
        )
        yield '# It converts that recording as it is. Every key is described in docs/profiles.md.'
        yield ''
        yield f'robot_type: {_flow(robot_type)}'
        yield ''
        yield '# Frames per second of the dataset.'
        yield f'fps: {draft.fps}'
        yield ''
        yield '# What the robot does, for policies that are told; one text, or one for each frame.'
        topic, field = draft.task
        default = 'describe the task here'
        if topic:
            source = _flow({'topic': topic, 'field': field})
            yield f'task: {{from: {source}, default: {default}}}'
        else:
            yield f'task: {default}'
        yield ''
        yield '# Frames lie on the messages of this topic.'
        yield f'# {self._said(draft.clock)}'
        yield 'clock:'
        yield f'  from: {_flow({"topic": draft.clock})}'
        yield f'  fps: {draft.clock_fps}'
        yield ''
        yield from self._align()
        yield ''
        yield 'features:'
        kept = [vector for vector in draft.vectors if not vector.reason]
        for vector in kept:
            yield from self._vector(vector)
        if all(vector.key != 'action' for vector in kept):
            yield from self._next_state(kept)
        for camera in draft.cameras:
            yield from self._camera(camera)
        for vector in draft.vectors:
            if vector.reason:
                yield f'  # Left out ({vector.reason}); without the "# ", a feature of its own:'
                yield from (f'  # {line[2:]}' for line in self._vector(vector))
                yield ''
        yield from self._remarks()

    def _align(self) -> Iterator[str]:
        timeline = 'header' if self._draft.by_header else 'bag'
        yield '# Each topic gives a frame the message nearest to it, by the stamps of headers'
        yield '# (timeline: header) or of receiving (bag). With tolerance_ms, frames that have no'
        yield '# message so near are left out, and an episode ends there.'
        yield 'align:'
        yield '  strategy: nearest'
        yield f'  timeline: {timeline}'
        yield f'  # tolerance_ms: {self._tolerance()}'

    def _tolerance(self) -> int:
        """Return twice the period of the slowest topic that is measured all the time."""
        parts = chain.from_iterable(
            vector.parts for vector in self._draft.vectors if vector.key == 'observation.state'
        )
        topics = [part.topic for part in parts]
        topics += [camera.topic for camera in self._draft.cameras]
        rates = [steady_rate(self._topics[topic]) or 1.0 for topic in topics]
        return max(50, *(round(2000 / rate) for rate in rates), 0)

    def _vector(self, vector: DraftVector) -> Iterator[str]:
        yield f'  {vector.key}:'
        yield '    parts:'
        is_command = vector.key == 'action'
        if is_command:
            yield '      # A command holds until the next one.'
        for part in vector.parts:
            yield from self._part(part, {'strategy': 'hold'} if is_command else {})
        yield ''

    def _next_state(self, vectors: Sequence[DraftVector]) -> Iterator[str]:
        state = next((one for one in vectors if one.key == 'observation.state'), None)
        if state is None:
            return
        yield '  # No topic was found that commands the robot: the action is the next state.'
        yield '  action:'
        yield '    parts:'
        for part in state.parts:
            yield from self._part(part, {'shift': 1})
        yield ''

    def _part(self, part: DraftPart, align: Mapping[str, object]) -> Iterator[str]:
        yield f'      # {self._said(part.topic)}'
        source = {'topic': part.topic}
        if len(part.fields) == 1:
            yield f'      - from: {_flow({**source, "field": part.fields[0]})}'
        else:
            yield f'      - from: {_flow({**source, "fields": list(part.fields)})}'
        if part.joints:
            yield from _list('joints', part.joints)
        if part.names != part.joints:
            yield from _list('names', part.names)
        if part.topic in self._draft.unstamped:
            align = {**align, 'timeline': 'bag'}
        if part.is_quaternion:
            align = {'strategy': 'slerp', **align}
        if align:
            yield f'        align: {_flow(dict(align))}'

    def _camera(self, camera: DraftCamera) -> Iterator[str]:
        yield f'  # {self._said(camera.topic)}'
        yield f'  {camera.key}:'
        yield '    camera:'
        source = {'topic': camera.topic}
        if camera.frame_id:
            source['frame_id'] = camera.frame_id
        yield f'      from: {_flow(source)}'
        if camera.is_odd:
            yield '      # No video has such a size: black pixels at the right and below make one.'
            yield '      fit: pad'
        if camera.depth:
            yield '      # In millimetres, 12 bits, without loss; for others see docs/profiles.md.'
            yield '      depth: metric12'
        if camera.topic in self._draft.unstamped:
            yield '      align: {timeline: bag}'
        yield ''

    def _said(self, topic: str) -> str:
        found = self._topics[topic]
        rate = steady_rate(found)
        words = [shown(' + '.join(found.types)), counted(found.messages, 'message')]
        words += [] if rate is None else [f'{rate:.1f} Hz']
        if found.picture is not None:
            size = f'{found.picture.width}x{found.picture.height}'
            name = found.picture.encoding if found.picture.codec == 'raw' else found.picture.codec
            words.append(f'{shown(name)} {size}')
        offset = found.header.offset_median_ms if found.header else None
        if offset is not None and abs(offset) > _OFFSET_MS:
            words.append(f'received {offset:.0f} ms after its header stamps')
        return ', '.join(words)

    def _remarks(self) -> Iterator[str]:
        draft, report = self._draft, self._report
        if draft.left_out:
            yield '# Not taken:'
            for topic, reason in draft.left_out:
                yield f'#   {shown(topic)}: {reason.removeprefix(f"{topic}: ")}'
            yield ''
        if draft.transforms:
            yield '# Poses of frames can be parts as well, as in'
            parent, child = draft.transforms[0]
            source = _flow({'tf': {'parent': parent, 'child': child}})
            yield f'#   - {{from: {source}, names: [x, y, z, qx, qy, qz, qw]}}'
            yield '# /tf has, as parent and child:'
            yield from (f'#   {shown(a)} {shown(b)}' for a, b in draft.transforms)
            yield ''
        if report.remarks:
            yield '# What the inspection has to say:'
            yield from (f'#   {remark}' for remark in report.remarks)


def _list(key: str, values: Sequence[str]) -> Iterator[str]:
    """Write a list in lines of readable length."""
    line = f'        {key}: ['
    indent = ' ' * len(line)
    for number, value in enumerate(values):
        text = _flow(value) + (']' if number == len(values) - 1 else ', ')
        if len(line) + len(text) > _WIDTH and line.strip():
            yield line
            line = indent
        line += text
    yield line


def _flow(value: object) -> str:
    """Write a value as YAML in one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False
    )
    return text.removesuffix('\n').removesuffix('\n...').removesuffix('...').strip()
