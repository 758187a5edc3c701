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
How a bag is cut into episodes, and the task of every frame. Pure, no input or output.

All stamps are int64 nanoseconds on the time line of the frame clock. The ``span`` of a recording
is from the first message of the clock to the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import itertools
from typing import Any, NamedTuple

from kuavo_bag_converter.alignment.marks import Mark
from kuavo_bag_converter.alignment.plan import LanguageRow, Segment
from kuavo_bag_converter.alignment.report import CutReport
from kuavo_bag_converter.bags.model import Stamps
from kuavo_bag_converter.bags.time_spans import TimeSpan
from kuavo_bag_converter.profiles.model import Episodes, Language, TimeRange
from kuavo_bag_converter.support.errors import BagError
import numpy as np
import numpy.typing as npt

_NS = 1_000_000_000

Value = bool | int | float | str
"""What a marker topic's field holds."""

_LENGTHS_AGREE = 0.1
"""How far an annotation's idea of a recording's length may be off, as a fraction."""


class Cut(NamedTuple):
    """The episodes of a bag, in order of time, not overlapping, each with its task."""

    segments: tuple[Segment, ...]
    tasks: tuple[str, ...]
    """'' where the profile's task holds."""
    report: CutReport


class FrameTasks(NamedTuple):
    """The tasks of a bag's frames."""

    texts: tuple[str, ...]
    """Each once, in order of appearance."""
    of_frame: npt.NDArray[np.int64]
    """Which of them each frame has, shape (frames,)."""
    by_default: int
    """Frames that have the profile's task because nothing names another."""


def language_rows(
    language: Language, frames: Stamps, said: Sequence[tuple[int, str]], fps: int
) -> list[LanguageRow]:
    """
    Return which texts an episode has at which frames.

    A text that lasts stands once, at the first frame that has it: of several since the frame
    before the last one, and none that is as the one before. Before the first frame of the episode
    the last one lasts into it; of others, those within the time of a frame belong to it.

    :param language: What the texts are.
    :param frames: Stamps of the episode's frames, ns.
    :param said: Texts and when they were received, ns on the time line of the frames, ascending.
    :param fps: Frames per second.
    """
    rows: list[LanguageRow] = []
    for at, text in said:
        frame = int(np.searchsorted(frames, at))
        if frame == len(frames) or (not language.lasts and at <= frames[0] - _NS // fps):
            continue
        row = LanguageRow(frame, language.style, language.role, text, language.key)
        if language.lasts and rows and rows[-1].frame == frame:
            rows.pop()
        if not (language.lasts and rows and rows[-1].text == text):
            rows.append(row)
    return rows


class _Piece(NamedTuple):
    start: int
    stop: int
    task: str = ''


def cut_by_ranges(ranges: Sequence[TimeRange], span: TimeSpan) -> Cut:
    """
    Cut at given times, seconds after ``span.start``.

    ``beyond_end`` counts ranges that end after the recording; they end with it.

    :raises BagError: A range begins after the recording ends.
    """
    pieces = []
    for item in ranges:
        start, stop = (span.start + round(s * 1e9) for s in (item.start_s, item.stop_s))
        if start > span.stop:
            raise BagError(
                f'episodes.ranges: a range starts at {item.start_s:g} s, the recording has '
                f'{_seconds(span):.3f} s'
            )
        pieces.append(_Piece(start, stop, item.task))
    beyond = sum(piece.stop > span.stop + 1 for piece in pieces)
    return _cut('ranges', 'episodes.ranges', pieces, span, {'beyond_end': beyond})


def cut_by_marks(marks: Sequence[Mark], span: TimeSpan, source: str) -> Cut:
    """
    Cut as an annotation says, each mark being an episode with its text as task.

    ``discarded`` counts failed attempts, which are left out.

    :param marks: In order of time.
    :param span: The recording; the positions of the marks are fractions of it.
    :param source: Name of the annotation, for the errors.
    :raises BagError: Marks overlap, belong to a recording of another length, or are all failed.
    """
    _check_length(marks, span, source)
    kept = [mark for mark in marks if not mark.failed]
    for before, after in itertools.pairwise(kept):
        if after.start < before.stop:
            raise BagError(
                f'{source}: a mark starts at {after.start}, before the end of the one before, '
                f'{before.stop}; marks must not overlap'
            )
    length = span.stop + 1 - span.start
    pieces = [
        _Piece(
            span.start + round(mark.start * length),
            span.start + round(mark.stop * length),
            mark.task,
        )
        for mark in kept
    ]
    if not pieces:
        raise BagError(f'{source}: none of {len(marks)} marks is a step, all are failed attempts')
    return _cut('marks_file', source, pieces, span, {'discarded': len(marks) - len(kept)})


def cut_by_messages(
    episodes: Episodes, topic: str, stamps: Stamps, values: Sequence[Value], span: TimeSpan
) -> Cut:
    """
    Cut as the messages of a topic say, by ``episodes.rule``.

    ``while_true``: from the first message of each run of true values to the first false one after
    it. ``each_message``: from every message to the next; a text is the episode's task. In both,
    the last episode lasts until the recording ends (``open_at_end``).

    ``events``: from a start text to the next stop text; a number or boolean counts as the text
    that YAML would write for it (``1``, ``2.5``, ``true``). An episode that gets none is
    ``unfinished`` and left out; without any stop texts, the next start ends an episode, or the
    end of the recording does. A discard text leaves out the episode that is open or, if none is,
    the one that ended last (``discarded``). Stops, and discards that find nothing, are counted as
    ``without_effect``, texts that are none of these as ``other_texts``.

    :param episodes: The rule.
    :param topic: Name of the topic, for the errors.
    :param stamps: Of its messages, shape (n,), in any order.
    :param values: Of its messages, n of them; not used by ``each_message`` without a field.
    :param span: The recording.
    :raises BagError: A value is of the wrong kind, or no episode comes out.
    """
    order = np.argsort(stamps, kind='stable')
    times = [int(stamps[index]) for index in order]
    end = span.stop + 1
    counts: dict[str, int] = {}
    if episodes.rule == 'each_message':
        with_text = bool(episodes.sources[0].fields)
        tasks = [_text(values[i], topic) if with_text else '' for i in order]
        pieces = [
            _Piece(start, stop, task)
            for start, stop, task in zip(times, [*times[1:], end], tasks, strict=True)
        ]
        counts['open_at_end'] = int(bool(pieces))
    elif episodes.rule == 'while_true':
        states = [_truth(values[index], topic) for index in order]
        pieces = _while_true(times, states, end, counts)
    else:
        texts = [_label(values[index]) for index in order]
        pieces = _between_events(episodes, times, texts, end, counts)
        if not pieces:
            found = ', '.join(sorted({repr(text) for text in texts})[:5]) or 'no message'
            raise BagError(
                f'{topic}: no episode begins and ends; expected {list(episodes.start)} then '
                f'{list(episodes.stop) or "the end"}, found {found}'
            )
    if not pieces:
        raise BagError(f'{topic}: no episode begins, by the rule {episodes.rule}')
    return _cut(episodes.rule, topic, pieces, span, {'messages': len(times), **counts})


def tasks_of_frames(
    frames: Stamps, default: str, cut: Cut | None, stamps: Stamps, texts: Sequence[str]
) -> FrameTasks:
    """
    Return the tasks and which of them each frame has.

    A frame has the task of its episode; where that has none, the last text of the task topic that
    is not after the frame; where there is none or it is blank, ``default``.

    :param frames: Stamps of the frames, ascending, shape (frames,).
    :param default: The profile's task.
    :param cut: The episodes, if the bag is cut.
    :param stamps: Of the messages of the task topic, in any order, shape (n,).
    :param texts: Of the task topic, n of them.
    """
    order = np.argsort(stamps, kind='stable')
    last = np.searchsorted(stamps[order], frames, side='right') - 1
    chosen = [texts[order[i]].strip() if i >= 0 else '' for i in last]
    for segment, task in zip(cut.segments, cut.tasks, strict=True) if cut else ():
        if task:
            start, stop = np.searchsorted(frames, [segment.start, segment.stop])
            chosen[start:stop] = [task] * int(stop - start)
    named = [task or default for task in chosen]
    tasks = tuple(dict.fromkeys(named))
    number = {task: index for index, task in enumerate(tasks)}
    of_frame = np.array([number[task] for task in named], dtype=np.int64)
    return FrameTasks(tasks, of_frame, chosen.count(''))


def joined_tasks(runs: Sequence[FrameTasks]) -> FrameTasks:
    """Put the tasks of runs of frames one after the other."""
    if len(runs) == 1:
        return runs[0]
    texts = tuple(dict.fromkeys(text for run in runs for text in run.texts))
    of_frame = [[texts.index(text) for text in run.texts] for run in runs]
    numbers = [
        np.array(own, dtype=np.int64)[run.of_frame]
        for own, run in zip(of_frame, runs, strict=True)
    ]
    return FrameTasks(texts, np.concatenate(numbers), sum(run.by_default for run in runs))


def _cut(
    rule: str, source: str, pieces: Sequence[_Piece], span: TimeSpan, counts: Mapping[str, Any]
) -> Cut:
    """Keep what lies in the recording; ``outside`` counts episodes that do not."""
    clipped = [
        _Piece(max(piece.start, span.start), min(piece.stop, span.stop + 1), piece.task)
        for piece in pieces
    ]
    kept = [piece for piece in clipped if piece.start < piece.stop]
    if not kept:
        raise BagError(
            f'{source}: no episode lies between the first and the last message of the frame clock'
        )
    report = CutReport(rule, len(kept), outside=len(pieces) - len(kept), **counts)
    segments = tuple(Segment(piece.start, piece.stop) for piece in kept)
    return Cut(segments, tuple(piece.task for piece in kept), report)


def _check_length(marks: Sequence[Mark], span: TimeSpan, source: str) -> None:
    timed = [(mark.duration_s, mark.stop - mark.start) for mark in marks if mark.duration_s]
    if not timed:
        return
    stated = sum(duration for duration, _ in timed) / sum(share for _, share in timed)
    length = _seconds(span)
    if abs(stated - length) > _LENGTHS_AGREE * length:
        raise BagError(
            f'{source}: by duration and positions of its marks it annotates a recording of '
            f'{stated:.1f} s, the bag has {length:.1f} s; check that it belongs to this bag'
        )


def _while_true(
    times: Sequence[int], states: Sequence[bool], end: int, counts: dict[str, int]
) -> list[_Piece]:
    pieces = []
    start: int | None = None
    for time, state in zip(times, states, strict=True):
        if state and start is None:
            start = time
        elif not state and start is not None:
            pieces.append(_Piece(start, time))
            start = None
    if start is not None:
        pieces.append(_Piece(start, end))
    counts['open_at_end'] = int(start is not None)
    return pieces


def _between_events(
    episodes: Episodes,
    times: Sequence[int],
    texts: Sequence[str],
    end: int,
    counts: dict[str, int],
) -> list[_Piece]:
    counts.update(discarded=0, unfinished=0, without_effect=0, other_texts=0)
    pieces: list[_Piece] = []
    start: int | None = None
    may_take_back = False
    for time, text in zip(times, texts, strict=True):
        if text in episodes.start:
            if start is not None and episodes.stop:
                counts['unfinished'] += 1
            elif start is not None:
                pieces.append(_Piece(start, time))
            start = time
        elif text in episodes.stop and start is not None:
            pieces.append(_Piece(start, time))
            start, may_take_back = None, True
        elif text in episodes.discard and start is not None:
            counts['discarded'] += 1
            start, may_take_back = None, False
        elif text in episodes.discard and may_take_back:
            pieces.pop()
            counts['discarded'] += 1
            may_take_back = False
        elif text in episodes.stop or text in episodes.discard:
            counts['without_effect'] += 1
        else:
            counts['other_texts'] += 1
    if start is not None and episodes.stop:
        counts['unfinished'] += 1
    elif start is not None:
        pieces.append(_Piece(start, end))
    return pieces


def _truth(value: Value, topic: str) -> bool:
    if isinstance(value, str):
        raise BagError(f'{topic}: while_true needs a boolean or a number, found {value[:60]!r}')
    return bool(value != 0)


def _text(value: Value, topic: str) -> str:
    if not isinstance(value, str):
        raise BagError(f'{topic}: each_message needs a text, found {value!r}; leave out the field')
    return value


def _label(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'{value:.12g}' if isinstance(value, float) else str(value)


def _seconds(span: TimeSpan) -> float:
    return (span.stop - span.start) / 1e9
