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
What a profile means for a bag of the made-up robot, stated frame by frame and without haste.

Nothing here is shared with the code under test. A profile is what YAML makes of its file.
"""

from __future__ import annotations

from itertools import pairwise
import math
import statistics
from typing import NamedTuple

import numpy as np
from plain_robot import MS, NS


class Use(NamedTuple):
    """A topic with an alignment."""

    topic: str
    strategy: str
    timeline: str
    tolerance_ms: float | None
    gap_ms: float | None
    on_gap: str
    zeros_before_first: bool
    reduce: str | None = None
    offset_ms: float = 0.0
    shift: int = 0


class Cell(NamedTuple):
    """What serves one frame of one use: ordinals, or a fill, or nothing."""

    first: int = -1
    second: int = -1
    weight: float = 0.0
    error: int = 0
    fill: str = ''
    in_gap: bool = False
    cut: bool = False
    before_first: bool = False
    earlier: tuple[int, ...] = ()
    """Ordinals of the other messages since the last frame."""


class Frame(NamedTuple):
    """A frame of the clock, and the number of its piece of the bag, None outside of all."""

    stamp: int
    taken: int
    """On the time line of headers."""
    piece: object
    """With the number of the part between two pauses."""
    cells: tuple[Cell, ...]


class NaivePlan:
    """
    The frames of a bag.

    ``piece_of`` tells the piece of the bag that a frame belongs to by its stamp on the clock's
    time line; frames of which it says None are in no episode.
    """

    def __init__(self, robot, profile, piece_of=lambda _: 0):
        self.fps = profile['fps']
        self.uses = uses_of(profile)
        self._robot = robot
        self._line = profile['clock'].get('timeline', 'bag')
        pairs, self.trimmed = _clock(robot, profile, self.uses)
        self.candidates = [self._frame(pairs, number, piece_of) for number in range(len(pairs))]
        ahead = max((use.shift for use in self.uses), default=0)
        shortest = profile.get('episodes', {}).get('min_episode_s', 0) * self.fps
        whole = self._episodes()
        self.uncut = sum(map(len, whole))
        """Frames before episodes lose their ends and short ones are left out."""
        self.episodes = [e[: len(e) - ahead] for e in whole if len(e) - ahead >= max(shortest, 1)]
        self.frames = [frame for episode in self.episodes for frame in episode]
        self._served = [
            [frame.cells for frame in e] for e in whole if len(e) - ahead >= max(shortest, 1)
        ]

    def cells(self, use):
        """Return what serves each frame."""
        number = self.uses.index(use)
        return [
            cells[row + use.shift][number]
            for episode, cells in zip(self.episodes, self._served, strict=True)
            for row in range(len(episode))
        ]

    def report(self, use):
        """Return the numbers that are reported of a use."""
        stamps = self._robot.stamps(use.topic, use.timeline)
        cells = self.cells(use)
        inside = [frame for frame in self.candidates if frame.piece is not None]
        used = {o for c in cells for o in (c.first, c.second, *c.earlier) if o >= 0}
        errors = [abs(cell.error) / MS for cell in cells if not cell.fill]
        known = bool(errors)
        return {
            'topic': use.topic,
            'strategy': use.strategy,
            'timeline': use.timeline,
            'on_gap': use.on_gap,
            'messages': len(stamps),
            'without_header_stamp': stamps.count(0),
            'used': len(used),
            'skipped': len(stamps) - len(used),
            'repeated': sum(
                a[:3] == b[:3] and not a.fill and not b.fill for a, b in pairwise(cells)
            ),
            'error_ms': {
                'median': round(statistics.median(errors), 6) if known else None,
                'p95': round(float(np.percentile(errors, 95)), 6) if known else None,
                'max': round(max(errors), 6) if known else None,
            },
            'beyond_half_frame': sum(error > 500 / self.fps for error in errors),
            'beyond_full_frame': sum(error > 1000 / self.fps for error in errors),
            'before_first_message': sum(cell.before_first for cell in cells),
            'in_gap': sum(cell.in_gap for cell in cells),
            'cut': sum(frame.cells[self.uses.index(use)].cut for frame in inside),
            'filled_with_zeros': sum(cell.fill == 'zeros' for cell in cells),
            'marked': sum(cell.fill == 'mark' for cell in cells),
        }

    def _frame(self, pairs, number, piece_of):
        pair = pairs[number]
        stamp, part = pair[self._line], pair['part']
        before = pairs[number - 1] if number else None
        cells = []
        for use in self.uses:
            since = pair[use.timeline] - NS // self.fps
            if before is not None and before['part'] == part:
                since = before[use.timeline]
            stamps = [
                at and at + round(use.offset_ms * MS)
                for at in self._robot.stamps(use.topic, use.timeline)
            ]
            part_of_use = _middles(pairs, part, use.timeline)
            cells.append(_cell(stamps, pair[use.timeline], since, part_of_use, use))
        piece = piece_of(stamp)
        return Frame(
            stamp, pair['header'], None if piece is None else (piece, part), tuple(cells)
        )  # fmt: skip

    def _episodes(self):
        frames = self.candidates
        drops = [use.on_gap == 'drop' for use in self.uses]

        def cut(frame, by_drop):
            cells = zip(frame.cells, drops, strict=True)
            return any(cell.cut and drop == by_drop for cell, drop in cells)

        runs = _runs(frames, lambda frame: not cut(frame, by_drop=True))
        if any(cut(frame, by_drop=True) for frame in frames):
            pieces = list(dict.fromkeys(run[0].piece for run in runs))
            runs = [max((r for r in runs if r[0].piece == piece), key=len) for piece in pieces]
        return [
            part
            for run in runs
            for part in _runs(run, lambda frame: not cut(frame, by_drop=False))
        ]


def _runs(frames, wanted):
    """Return consecutive frames of one piece that are wanted."""
    runs, open_run = [], []
    for frame in frames:
        keep = frame.piece is not None and wanted(frame)
        if open_run and (not keep or open_run[-1].piece != frame.piece):
            runs.append(open_run)
            open_run = []
        if keep:
            open_run.append(frame)
    return [*runs, open_run] if open_run else runs


def uses_of(profile):
    """Return every topic with its alignment: of vectors, then of cameras."""
    features = profile['features'].values()
    parts = [part for feature in features for part in feature.get('parts', ())]
    cameras = [feature['camera'] for feature in features if 'camera' in feature]
    return list(dict.fromkeys(use_of(profile, item) for item in [*parts, *cameras]))


def use_of(profile, item):
    """Return the use of a part or a camera."""
    inherited = profile.get('align', {})
    if item.get('gap_flag'):
        inherited = {'on_gap': 'keep', 'timeline': inherited.get('timeline', 'bag')}
    align = {**inherited, **item.get('align', {})}
    limits = (align.get('tolerance_ms'), align.get('gap_ms'))
    return Use(
        item['from']['topic'],
        align.get('strategy', 'nearest'),
        align.get('timeline', 'bag'),
        *limits,
        align.get('on_gap', 'keep' if limits == (None, None) else 'split'),
        align.get('zeros_before_first', False),
        align.get('reduce'),
        align.get('offset_ms', 0.0),
        align.get('shift', 0),
    )


def _clock(robot, profile, uses):
    """Return the frames' stamps on both time lines, and how many the end trim cut."""
    clock = profile['clock']
    topic, timeline = clock['from']['topic'], clock.get('timeline', 'bag')
    other = {'bag': 'header', 'header': 'bag'}[timeline]
    messages = [
        {'bag': sent.received, 'header': sent.taken}
        for sent in sorted(robot.topics[topic], key=lambda sent: getattr(sent, _SENT[timeline]))
        if getattr(sent, _SENT[timeline])
    ]
    drop = clock.get('drop', 0)
    stamps = [message[timeline] for message in messages][slice(drop, len(messages) - drop)]
    both = []
    parts = _parts(robot, clock, stamps, uses)
    thinned = _thinned(parts, clock, profile['fps'])
    for part, frame in [(n, frame) for n, frames in enumerate(thinned) for frame in frames]:
        near = min(
            (message for message in messages if message[other]),
            key=lambda message: (abs(message[timeline] - frame), message[timeline]),
            default={other: 0, timeline: 0},
        )
        at_other = near[other] + frame - near[timeline]
        both.append({timeline: frame, other: at_other, 'part': part})
    trim = clock.get('end_trim', 'min_end')
    if trim == 'none':
        return both, 0
    ending = {use.topic for use in uses if use.strategy != 'hold'}
    ending |= {name for name in clock.get('end_topics', []) if name in robot.topics}
    by_header = {topic, *(use.topic for use in uses if use.timeline == 'header')}
    ends = [
        (name, 'header' if timeline == 'header' and name in by_header else 'bag')
        for name in {topic, *ending}
    ]
    combine = all if trim == 'min_end' else any
    kept = [
        frame
        for frame in both
        if combine(frame[line] < max(robot.stamps(name, line)) for name, line in ends)
    ]
    return kept, len(both) - len(kept)


_SENT = {'bag': 'received', 'header': 'taken'}


def _parts(robot, clock, stamps, uses):
    """Part the clock's stamps where no topic says anything for long."""
    timeline, topic = clock.get('timeline', 'bag'), clock['from']['topic']
    if clock.get('on_pause') == 'keep' or len(stamps) < 3:
        return [stamps]
    topics = {topic}
    topics |= {use.topic for use in uses if timeline == 'bag' or use.timeline == 'header'}
    said = [sorted(s for s in robot.stamps(name, timeline) if s) for name in topics]

    def period(times):
        apart = [b - a for a, b in pairwise(times) if b > a]
        return statistics.median(apart) * len(apart) / (len(times) - 1) if apart else math.inf

    per_ns = sum(1 / period(times) for times in said if len(times) >= 3)
    if not per_ns:
        return [stamps]
    silence = max(NS / 2, 5 * period(stamps), 20 / per_ns)
    parts = [stamps[:1]]
    every = sorted(s for times in said for s in times)

    def held_up(a, b):
        soon = sum(b <= stamp <= b + (b - a) // 10 for stamp in stamps)
        return soon >= (b - a) / NS * clock['fps'] / 2

    pauses = [(a, b) for a, b in pairwise(every) if b - a > silence and not held_up(a, b)]
    for before, stamp in pairwise(stamps):
        if any(before <= a and b <= stamp for a, b in pauses):
            parts.append([])
        parts[-1].append(stamp)
    return parts


def _thinned(parts, clock, fps):
    jumped = [stamps[:: max(1, int(clock['fps'] // fps))] for stamps in parts]
    late = [[stamp - part[0] - i * NS // fps for i, stamp in enumerate(part)] for part in jumped]
    even = all(max(part) - min(part) <= NS / fps / 2 for part in late)
    mode = clock.get('decimation', 'auto')
    if mode == 'jump' or (mode == 'auto' and clock['fps'] % fps == 0 and even):
        return jumped
    return [
        [part[0] + i * NS // fps for i in range((part[-1] - part[0]) * fps // NS + 1)]
        for part in parts
    ]


def _middles(pairs, part, line):
    """Return the middles of the pauses around a part, between the frames next to them."""
    mine = [number for number, pair in enumerate(pairs) if pair['part'] == part]

    def middle(number):
        before, after = pairs[number - 1][line], pairs[number][line]
        return before + (after - before) // 2

    low = middle(mine[0]) if mine[0] else -math.inf
    high = middle(mine[-1] + 1) if mine[-1] + 1 < len(pairs) else math.inf
    return low, high


def _cell(stamps, time, since, part, use):
    """Return what serves a frame at ``time``; ``stamps`` by ordinal, 0 where unset."""
    known = sorted((stamp, number) for number, stamp in enumerate(stamps) if stamp)
    past = [pair for pair in known if pair[0] <= time]
    future = [pair for pair in known if pair[0] > time]
    between = bool(past and future) and past[-1][0] < time
    latest = past[-1] if past else None
    first = second = {
        'nearest': min(known, key=lambda pair: (abs(pair[0] - time), pair)),
        'hold': latest,
    }.get(use.strategy, latest or known[0])
    if use.strategy in ('linear', 'slerp') and between:
        second = future[0]
        # Nothing is interpolated across a pause.
        if first[0] < part[0] and second[0] <= part[1]:
            first = second
        elif second[0] > part[1] and first[0] >= part[0]:
            second = first

    in_gap = first is None
    if first is not None and use.tolerance_ms is not None:
        in_gap |= max(abs(first[0] - time), abs(second[0] - time)) > use.tolerance_ms * MS
    if use.gap_ms is not None and between:
        in_gap |= future[0][0] - past[-1][0] > use.gap_ms * MS

    gap = {'in_gap': in_gap, 'before_first': not past}
    if first is None and use.zeros_before_first:
        return Cell(fill='zeros', before_first=True)
    if in_gap and use.on_gap in ('mark', 'zeros'):
        return Cell(fill=use.on_gap, **gap)
    if in_gap and use.on_gap == 'hold':
        first = second = latest
    if first is None or (in_gap and use.on_gap in ('drop', 'split')):
        return Cell(cut=True, **gap)
    if first == second:
        lately = [number for stamp, number in known if since < stamp <= time]
        earlier = tuple(lately[:-1]) if use.reduce not in (None, 'last') else ()
        return Cell(first[1], first[1], 0.0, first[0] - time, earlier=earlier, **gap)
    weight = (time - first[0]) / (second[0] - first[0])
    return Cell(first[1], second[1], weight, **gap)
