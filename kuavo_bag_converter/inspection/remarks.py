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

"""What is worth saying of a bag in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kuavo_bag_converter.alignment.report import Pause
from kuavo_bag_converter.alignment.runs import step_text
from kuavo_bag_converter.inspection.report import BagReport, Timing, TopicReport
from kuavo_bag_converter.support.texts import counted, listed, shown

_LATE_S = 0.5
_NAMED = 3
"""Steps and silences that are named."""
_GAP_PERIODS = 5.0
_GAP_MS = 100.0
_BURST = 4.0
"""Messages that are so many times as near to each other as their rate says come in bursts."""
_FAR_MS = 1000.0
_UNITS = ((86400 * 365.25, 'years'), (86400, 'days'), (3600, 'hours'), (60, 'minutes'))


def remarks_on(report: BagReport) -> Iterator[str]:
    """Yield a line for everything that a conversion may stumble over."""
    if not report.messages:
        yield 'the bag has no messages'
    yield from _on_clock(report)
    for topic in report.topics:
        for text in _on_topic(topic, report.duration_s or 0.0, report.silences):
            yield f'{shown(topic.topic)}: {text}'


def _on_clock(report: BagReport) -> Iterator[str]:
    for step in report.clock_steps[:_NAMED]:
        yield (
            f'{step_text(step)}: an episode ends there, but where all is aligned on the header '
            'timeline'
        )
    yield from _more(len(report.clock_steps), 'step back')
    for silence in report.silences[:_NAMED]:
        yield (
            f'all topics are silent for {silence.silent_s:.2f} s at {silence.at_s:.2f} s, as '
            'where the recorder pauses: an episode ends there'
        )
    yield from _more(len(report.silences), 'silence')
    if report.receive_step_ms is not None:
        yield (
            f'receive stamps come in steps of {report.receive_step_ms:.0f} ms, as by a coarse '
            '/clock: align on the header timeline'
        )


def _more(count: int, what: str) -> Iterator[str]:
    if count > _NAMED:
        yield f'and {counted(count - _NAMED, what)} more'


def _on_topic(topic: TopicReport, duration: float, silences: Sequence[Pause]) -> Iterator[str]:
    if topic.error:
        # The error names the topic itself.
        yield topic.error.removeprefix(f'{shown(topic.topic)}: ')
    if topic.trailing_bytes:
        yield (
            f'its first message has {topic.trailing_bytes} bytes behind the end; a conversion '
            'ignores and counts them'
        )
    if len(topic.types) > 1:
        yield f'has messages of {len(topic.types)} types: {listed(topic.types)}'
    yield from _on_stamps(topic)
    if topic.timing is not None and topic.messages > 1:
        yield from _on_timing(topic.timing, duration, silences)
    if topic.picture is not None and topic.picture.before_key:
        codec, count = topic.picture.codec, topic.picture.before_key
        size = '' if topic.picture.width else ', nor is its size known'
        pictures = 'picture' if count == 1 else f'{count} pictures'
        yield (
            f'the {codec} stream begins before a key frame: its first {pictures} cannot be '
            f'decoded{size}; on_bad_image says what becomes of frames that need them'
        )
    if topic.picture is not None and not topic.picture.upright:
        yield 'Exif turns its pictures'


def _on_stamps(topic: TopicReport) -> Iterator[str]:
    outside, header = topic.outside, topic.header
    if outside is not None:
        far = [f'{time_of(outside.before_s)} before its start'] if outside.before_s else []
        far += [f'{time_of(outside.after_s)} after its end'] if outside.after_s else []
        what = 'latched; ' if topic.latched else ''
        yield (
            f'{what}{outside.messages} of {topic.messages} messages are stamped outside of the '
            f'recording, {" and ".join(far)}; they do not count for its duration'
        )
    if header is None:
        return
    sampled = '' if header.sampled == topic.messages else ' that were read'
    if header.zero:
        yield f'{header.zero} of {header.sampled} header stamps{sampled} are 0'
    if header.backward:
        yield f'{header.backward} of {header.sampled} header stamps{sampled} go back in time'
    for step in header.steps[:_NAMED]:
        yield (
            f'header stamps go back by {step.back_s:.3f} s at {step.at_s:.3f} s, where a clock '
            'was set back: on the header timeline an episode ends there, on bag it does not matter'
        )
    if header.offset_median_ms is not None and abs(header.offset_median_ms) > _FAR_MS:
        direction = 'before' if header.offset_median_ms > 0 else 'after'
        yield (
            f'header stamps are {time_of(abs(header.offset_median_ms) / 1000)} {direction} the '
            'receive stamps: the clocks differ, align on the bag timeline'
        )


def _on_timing(timing: Timing, duration: float, silences: Sequence[Pause]) -> Iterator[str]:
    rate, median, gap = timing.rate_hz, timing.median_rate_hz, timing.largest_gap_ms
    first, last = timing.first_s, timing.last_s
    paused = sum(one.silent_s for one in silences if first <= one.at_s < last)
    if timing.first_s > _LATE_S:
        yield f'begins {timing.first_s:.2f} s after the recording'
    if duration - timing.last_s > _LATE_S:
        yield f'ends {duration - timing.last_s:.2f} s before the recording'
    begin = timing.largest_gap_at_s
    if rate is None or gap is None or begin is None:
        return
    if paused < last - first:
        rate *= (last - first) / (last - first - paused)
    shared = any(
        begin - _LATE_S <= one.at_s
        and one.silent_s > gap / 2000
        and one.at_s + one.silent_s <= begin + gap / 1000 + _LATE_S
        for one in silences
    )
    if median is None or median > _BURST * rate:
        yield f'comes in bursts, {gap:.0f} ms apart at most'
    elif gap > _GAP_MS and gap * median > 1000 * _GAP_PERIODS and not shared:
        yield f'is silent for {gap / 1000:.2f} s at {begin:.2f} s'


def time_of(seconds: float) -> str:
    """Write a length of time in a unit that suits it."""
    for length, unit in _UNITS:
        if seconds >= 2 * length:
            return f'{seconds / length:.1f} {unit}'
    return f'{seconds:.1f} s' if seconds >= 1 else f'{seconds * 1000:.0f} ms'
