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

"""What a person sees of a run: a progress bar or log lines, and the tables at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
import shutil
import time
from typing import TextIO

from kuavo_bag_converter.alignment.report import (
    ClockStep,
    CutReport,
    LanguageReport,
    PlanReport,
    TopicStampReport,
    TrackReport,
)
from kuavo_bag_converter.alignment.runs import step_text
from kuavo_bag_converter.jobs.report import Observer, Outcome, Report
from kuavo_bag_converter.jobs.topic_alignment import TopicAlignment
from kuavo_bag_converter.support.places import name_of
from kuavo_bag_converter.support.texts import aligned, counted, distinct_names, shown, visible

_BAR = 30
_SHORT_BAR = 10
"""Of bags that are drawn beside each other."""
_LEFT_FREE = 16
"""Columns of a terminal in which is said how many more bags there are."""
_LOG_EVERY_S = 10.0
_DRAW_EVERY_S = 0.1
_NUMBERS = {
    'not_finite': 'with NaN or infinity held or replaced',
    'padded': 'with too few elements padded (on_length)',
    'cut_short': 'with too many elements cut (on_length)',
}
"""What was done about the numbers of messages, by the keys of the report."""
_KEPT_IN_GAPS = {'hold': 'hold the message before', 'keep': 'kept as they are'}
"""What becomes of frames in gaps that are neither cut nor filled, by ``on_gap``."""
_MOST_ROWS = 50
"""Bags that are all in the table at the end."""
_ALIGNMENT = ('topic', 'messages', 'used', 'repeated', 'median ms', 'p95 ms', 'max ms', 'far')


@dataclass
class _Bar:
    """How far a bag is."""

    label: str
    started: float
    logged: float = 0.0
    done: int = 0
    total: int = 0

    def __post_init__(self) -> None:
        self.logged = self.started

    def rate(self, now: float) -> float:
        """Return the frames per second so far."""
        return self.done / max(now - self.started, 1e-9)

    def drawn(self, width: int, now: float) -> str:
        """Return it as text."""
        frames = f'{self.done}/{self.total} frames, {self.rate(now):.0f}/s'
        return f'{self.drawn_short(width)} {frames}'

    def drawn_short(self, width: int) -> str:
        """Return it as text without numbers."""
        filled = width * self.done // max(self.total, 1)
        return f'{self.label} {"#" * filled}{"-" * (width - filled)}'


def _fitting(texts: Sequence[str]) -> list[str]:
    """Return the first of some texts that fit into a line beside each other, one at least."""
    room = shutil.get_terminal_size().columns - _LEFT_FREE
    shown: list[str] = []
    for text in texts:
        room -= len(text) + len(' | ')
        if shown and room < 0:
            return [*shown, f'and {len(texts) - len(shown)} more']
        shown.append(text)
    return shown


class Display(Observer):
    """
    Draws bars on a terminal, writes a line now and then to anything else.

    Bags that are converted beside each other have a bar each, in one line.
    """

    def __init__(self, stream: TextIO) -> None:
        """Write to ``stream``."""
        self._stream = stream
        self._terminal = stream.isatty()
        self._names: dict[str, str] = {}
        self._bars: dict[int, _Bar] = {}
        """Of the bags that are being converted, by their numbers."""
        self._bar_shown = False
        self._drawn_at = 0.0

    def note(self, text: str) -> None:
        """Write it down."""
        self._line(text)

    def warning(self, text: str) -> None:
        """Write it down as what it is."""
        self._line(f'warning: {text}')

    def bags_found(self, bags: Sequence[str]) -> None:
        """Find out what tells their names apart."""
        self._names = distinct_names(bags)
        self._bars.clear()

    def checking(self, total: int) -> None:
        """Say that all bags are checked first."""
        self._line(f'checking {counted(total, "bag")}')

    def bag_refused(self, number: int, total: int, outcome: Outcome) -> None:
        """Say why a bag is not going to be converted."""
        self._line(f'{self._numbered(number, total, outcome.bag)}: failed: {outcome.reason}')

    def bag_started(self, number: int, total: int, bag: str) -> None:
        """Name the bag."""
        label = visible(self._numbered(number, total, bag))
        self._bars[number] = _Bar(label, time.monotonic())
        if not self._terminal:
            self._line(f'{label}: reading timestamps')

    def planned(self, number: int, plan: PlanReport) -> None:
        """Show what the plan will do, and what it had to do about missing data."""
        if number in self._bars:
            self._bars[number].total = plan.frames
        self._line(f'{self._label(number)}: {plan_summary(plan)}')
        for track in plan.tracks:
            for text in _remarks(track):
                self._line(f'    {text}')
        for text in (*_cut_remarks(plan.cut), *_stamp_remarks(plan)):
            self._line(f'    {text}')

    def progressed(self, number: int, done: int, total: int) -> None:
        """Move the bar."""
        bar = self._bars.get(number)
        if bar is None:
            return
        now = time.monotonic()
        bar.done, bar.total = done, total
        if self._terminal:
            if now - self._drawn_at >= _DRAW_EVERY_S:
                self._drawn_at = now
                self._draw(now)
        elif now - bar.logged >= _LOG_EVERY_S * len(self._bars):
            bar.logged = now
            self._line(f'{bar.label}: {done}/{total} frames, {bar.rate(now):.0f}/s')

    def _draw(self, now: float) -> None:
        bars = list(self._bars.values())
        if len(bars) == 1:
            text = bars[0].drawn(_BAR, now)
        else:
            text = ' | '.join(_fitting([bar.drawn_short(_SHORT_BAR) for bar in bars]))
        self._stream.write('\r\033[K' + text)
        self._stream.flush()
        self._bar_shown = True

    def bag_finished(self, number: int, outcome: Outcome, plan: PlanReport | None) -> None:
        """Say what became of the bag."""
        text = f'{outcome.frames} frames' if outcome.status != 'failed' else outcome.reason
        self._line(f'{self._label(number)}: {outcome.status}: {text}')
        repeated = plan.bad_images if plan else None
        for topic, count in (repeated or {}).items():
            pictures = counted(count, 'bad picture')
            self._remark(
                number,
                f'    {topic}: {pictures} replaced by the ones before (on_bad_image: repeat)',
            )
        for key, what in _NUMBERS.items():
            counts = getattr(plan, key, None) or {}
            for topic, count in counts.items():
                self._line(f'    {topic}: {counted(count, "frame")} {what}')
        encoded = getattr(plan, 'pictures_encoded', None) or {}
        for key, count in (getattr(plan, 'pictures_copied', None) or {}).items():
            self._line(f'    {key}: {counted(count, "picture")} copied, {encoded[key]} encoded')
        for problem in outcome.problems:
            self._remark(number, f'    {problem}')
        self._bars.pop(number, None)

    def assembling(self, episodes: int) -> None:
        """Say that the dataset is being put together."""
        self._line(f'putting {counted(episodes, "episode")} together')

    def _label(self, number: int) -> str:
        bar = self._bars.get(number)
        return bar.label if bar else ''

    def _remark(self, number: int, text: str) -> None:  # noqa: ARG002  # of others
        """Write what is wrong with bag ``number`` and does not stop it."""
        self._line(text)

    def _numbered(self, number: int, total: int, bag: str) -> str:
        return f'[{number}/{total}] {self._names.get(bag) or Path(bag).name}'

    def _line(self, text: str) -> None:
        if self._bar_shown:
            self._stream.write('\r\033[K')
            self._bar_shown = False
        self._stream.write(visible(text) + '\n')
        self._stream.flush()

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar_shown:
            self._stream.write('\n')


def plan_summary(plan: PlanReport) -> str:
    """Return the plan in one line."""
    text = (
        f'{plan.frames} frames in {counted(plan.episodes, "episode")}, '
        f'{plan.decimation} from {plan.clock_messages} pictures of {plan.clock_topic}'
    )
    at_the_end = plan.frames_cut_by_end_trim
    cut = plan.frames_cut + at_the_end
    if cut:
        where = f'at the end of {plan.end_trim_topic}' if at_the_end else 'at the end'
        text += f'; {counted(cut, "frame")} cut ({at_the_end} {where}, {plan.frames_cut} in gaps)'
    if plan.dropped_at_each_end:
        text += f'; {counted(plan.dropped_at_each_end, "picture")} dropped at each end'
    if plan.frames_with_bad_images:
        text += f'; {counted(plan.frames_with_bad_images, "frame")} with bad pictures'
    if plan.segments_without_frames:
        text += f'; {counted(plan.segments_without_frames, "episode")} without a frame'
    if plan.frames_outside_segments:
        text += f'; {counted(plan.frames_outside_segments, "frame")} outside of every episode'
    if plan.frames_off_clock:
        text += (
            f'; {counted(plan.frames_off_clock, "frame")} more than half a frame from index / '
            f'fps, at most {plan.clock_error_ms:.0f} ms'
        )
    if plan.frames_cut_by_shift:
        text += (
            f'; {counted(plan.frames_cut_by_shift, "frame")} cut at the ends of episodes (shift)'
        )
    if plan.episodes_too_short:
        text += (
            f'; {counted(plan.episodes_too_short, "episode")} shorter than min_episode_s left out '
            f'({counted(plan.frames_in_short_episodes or 0, "frame")})'
        )
    if plan.frames_with_default_task:
        text += f'; {counted(plan.frames_with_default_task, "frame")} with the default task'
    return text


def print_report(report: Report, stream: TextIO) -> None:
    """
    Print the table of bags, the alignment in short, and the totals.

    Of many bags those are in the table of which there is something to say.
    """
    shown_bags = report.outcomes
    if len(shown_bags) > _MOST_ROWS:
        shown_bags = tuple(
            item for item in shown_bags if item.status != 'converted' or item.reason
        )
    names = distinct_names([item.bag for item in report.outcomes])
    header = ['bag', 'outcome', 'episodes', 'frames', 'task', 'reason']
    rows = [
        [
            names[item.bag], item.status, str(item.episodes), str(item.frames), shown(item.task),
            item.reason,
        ]
        for item in shown_bags
    ]  # fmt: skip
    if not any(item.task for item in shown_bags):
        for row in (header, *rows):
            del row[4]
    for line in _table(header, rows):
        print(line, file=stream)
    if len(shown_bags) < len(report.outcomes):
        more = counted(len(report.outcomes) - len(shown_bags), 'bag')
        print(f'and {more} converted; the command catalogue lists all', file=stream)
    if report.alignment:
        print(file=stream)
        for line in _table(_ALIGNMENT, [_alignment_row(topic) for topic in report.alignment]):
            print(line, file=stream)
        print(file=stream)
    if report.frames:
        output = visible(name_of(report.output))
        print(
            f'{output}: {counted(report.episodes, "episode")}, {report.frames} frames', file=stream
        )
    seconds = max(report.seconds, 1e-9)
    print(
        f'{report.frames} frames in {report.seconds:.1f} s, {report.frames / seconds:.1f} frames '
        f'per second, peak memory {report.peak_memory_mb:.0f} MB',
        file=stream,
    )


def _alignment_row(topic: TopicAlignment) -> tuple[str, ...]:
    errors = (topic.median_ms, topic.p95_ms, topic.max_ms)
    counts = (topic.messages, topic.used, topic.repeated)
    far = str(topic.beyond_half_frame)
    return (topic.topic, *map(str, counts), *(f'{error:.1f}' for error in errors), far)


def _remarks(track: TrackReport) -> list[str]:
    remarks = [
        f'{counted(count, "message")} of {track.selected_from} {reason} left aside'
        for reason, count in (track.passed_by or {}).items()
    ]
    unit = 'sample' if track.samples else 'frame'
    if track.beyond_half_frame:
        half = 'half the time between two' if track.samples else 'half a frame'
        remarks.append(
            f'{counted(track.beyond_half_frame, unit)} more than {half} from their message, at '
            f'most {track.error_ms.max:.0f} ms'
        )
    if track.before_first_message:
        remarks.append(f'{counted(track.before_first_message, unit)} before its first message')
    if track.cut:
        remarks.append(f'{counted(track.cut, "frame")} cut ({track.on_gap})')
    if track.filled_with_zeros:
        remarks.append(f'{counted(track.filled_with_zeros, unit)} filled with zeros')
    if track.reduced:
        remarks.append(
            f'{counted(track.reduced, "frame")} with several messages since the frame before'
        )
    if track.marked:
        remarks.append(f'{counted(track.marked, unit)} marked 999')
    if track.in_gap and track.on_gap in _KEPT_IN_GAPS:
        kept = _KEPT_IN_GAPS[track.on_gap]
        remarks.append(f'{counted(track.in_gap, unit)} in gaps {kept}')
    return [f'{track.topic}: {text}' for text in remarks]


def _cut_remarks(cut: CutReport | None) -> list[str]:
    """Say what was left out, or had no effect, when the bag was cut into episodes."""
    if cut is None:
        return []
    counts = {
        'discarded': cut.discarded,
        'unfinished and left out': cut.unfinished,
        'outside of the recording': cut.outside,
        'ending after the recording, with which they end': cut.beyond_end,
        'open at the end, with which it ends': cut.open_at_end,
        'stops or discards without effect': cut.without_effect,
        'other texts': cut.other_texts,
    }
    remarks = [f'{count} {text}' for text, count in counts.items() if count]
    if not remarks:
        return []
    return [f'episodes by {cut.rule}: {cut.episodes} kept, {", ".join(remarks)}']


def _stamp_remarks(plan: PlanReport) -> list[str]:
    """Say what was done about stamps that are not trusted, once for each topic."""
    others = [plan.task_stamps, plan.cut.stamps if plan.cut else None]
    judged: list[TopicStampReport | TrackReport] = [plan.clock_stamps, *plan.tracks]
    judged += [topic for topic in others if topic is not None]
    remarks = [
        f'{topic.topic}: {counted(count, "message")} {text}'
        for topic in judged
        for count, text in _stamp_texts(topic)
        if count
    ]
    remarks += [
        f'{elements}: {counted(plan.frames, "frame")} from {topic}, which stands in for what '
        'the bag lacks'
        for elements, topic in (plan.stand_ins or {}).items()
    ]
    remarks += [_language_text(language) for language in plan.language or ()]
    remarks += [_step_text(step) for step in plan.clock_steps or ()]
    remarks += [
        f'left out between such steps: {reason}' for reason in plan.runs_without_frames or ()
    ]
    remarks += [
        f'all topics are silent for {pause.silent_s:.2f} s at {pause.at_s:.2f} s: an episode ends '
        'there (on_pause: split)'
        for pause in plan.pauses or ()
    ]
    if plan.receive_step_ms is not None:
        remarks.append(
            f'receive stamps come in steps of {plan.receive_step_ms:.0f} ms; use timeline: header'
        )
    remarks += [f'{topic}: latched, so its end does not count' for topic in plan.latched_topics]
    if plan.frames_cut_by_end_trim > plan.frames:
        remarks.append(
            f'{plan.end_trim_topic}: its end cuts most frames; if its last message lasts, set '
            'end_trim: none'
        )
    return list(dict.fromkeys(remarks))


def _language_text(language: LanguageReport) -> str:
    what = f'language ({language.key or f"{language.style}, {language.role}"})'
    if language.topic is None:
        return f'{what}: no row, for the bag has none of its topics'
    blank = f', {language.blank} of them blank' if language.blank else ''
    texts = counted(language.texts, 'message')
    return f'{what}: {counted(language.rows, "row")} from {texts} of {language.topic}{blank}'


def _step_text(step: ClockStep) -> str:
    return f'{step_text(step)}: an episode ends there (on_step_back: split)'


def _stamp_texts(topic: TopicStampReport | TrackReport) -> list[tuple[int, str]]:
    used = 'used only if it lasts from before' if topic.held else 'not used'
    stamps = topic.stamps
    apart = f'{stamps.outside_by_s or 0:.0f} s or more'
    return [
        (stamps.outside_recording, f'received outside of the recording (by {apart}), {used}'),
        (stamps.without_header_stamp, 'without header stamp, not used'),
        (stamps.absurd_header_stamps, 'with a header stamp far from its receive stamp, not used'),
        (stamps.backward_stamps, 'stamped before the one before it, sorted in'),
    ]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Align a table, columns of numbers to the right."""
    rows = [[visible(text) for text in row] for row in rows]
    numbers = [
        index
        for index in range(len(header))
        if all(row[index].replace('.', '', 1).isdigit() for row in rows)
    ]
    return aligned([header, *rows], numbers)
