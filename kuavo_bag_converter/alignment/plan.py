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
The alignment plan: which message serves which frame. Pure numpy, no input or output.

All stamps are int64 nanoseconds. A plan is global: it is made from the stamps of the whole bag
before one payload is read, so neither chunks nor reading order can change it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from kuavo_bag_converter.alignment.frame_clock import (
    clock_frames,
    FrameStamps,
    joined,
    Mask,
    unevenness,
)
from kuavo_bag_converter.alignment.report import (
    ClockReport,
    ErrorMs,
    PlanReport,
    TopicStampReport,
    TrackReport,
)
from kuavo_bag_converter.alignment.runs import BagTimes, read_bag_times
from kuavo_bag_converter.alignment.stamps import nearest, TopicTimes, total_counts
from kuavo_bag_converter.bags.model import NS_PER_S, Ordinals, Stamps, TopicIndex
from kuavo_bag_converter.profiles.model import Align, Clock
from kuavo_bag_converter.support.errors import BagError
import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


class Fill(IntEnum):
    """What a cell holds instead of a message's value."""

    VALUE = 0
    ZEROS = 1
    MARK = 2


class Selected(NamedTuple):
    """A topic that consists of some messages of another."""

    topic: str
    """The other."""
    passed_by: Mapping[str, int]
    """The messages that are left out, counted by what they are."""


class Track(NamedTuple):
    """One use of a topic by a feature."""

    name: str
    """For reports: the feature, and the topic if the feature has several."""
    topic: str
    """As the bag that is planned has it; see :mod:`kuavo_bag_converter.alignment.selection`."""
    align: Align
    selected: Selected | None = None
    """How its topic was selected from one of the recording, if it was."""
    offsets: tuple[int, ...] = (0,)
    """How long before a frame each of its samples lies, ns, descending."""


@dataclass(frozen=True, eq=False)
class Earlier:
    """Messages that ``reduce`` takes besides the last one of their frame; shape (messages,)."""

    ordinals: Ordinals
    frames: npt.NDArray[np.int64]
    """The frame of each."""


@dataclass(frozen=True, eq=False)
class TrackPlan:
    """
    The messages of one track; all arrays have shape (rows,).

    A row is a sample of a frame, and there are as many for each frame as the track has offsets:
    one, of most tracks.
    """

    track: Track
    first: Ordinals
    """Ordinal of the message that serves the row, -1 where ``fill`` does."""
    second: Ordinals
    """The later message of an interpolation; equal to ``first`` where there is none."""
    weight: Vector
    """Share of ``second``, 0 to 1."""
    error: Stamps
    """Stamp of the serving message minus stamp of the row, ns; 0 between interpolated ones."""
    fill: npt.NDArray[np.uint8]
    """A :class:`Fill` for each row."""
    in_gap: Mask
    """Whether the row lies in a gap of the topic (see :class:`Align`)."""
    report: TrackReport
    earlier: Earlier | None = None
    """None without ``reduce``, and where the last one is all."""

    def wanted(self) -> Ordinals:
        """Return the ordinals that some frame needs, ascending."""
        return _used(self.first, self.second, self.earlier)

    def by_frame(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Give one of the arrays the shape (frames,), or (frames, samples) of several."""
        samples = len(self.track.offsets)
        return rows if samples == 1 else rows.reshape(-1, samples)


class LanguageRow(NamedTuple):
    """A text of an episode."""

    frame: int
    """Of the episode, at which it is said or from which on it holds."""
    style: str
    role: str
    text: str
    key: str = ''
    """Of the column that has it, if that is none of LeRobot's columns of language."""


@dataclass(frozen=True, eq=False)
class Plan:
    """The frames of a bag and the messages that serve them."""

    stamps: Stamps
    """Stamps of the frames on the clock's time line, shape (frames,)."""
    episodes: tuple[tuple[int, int], ...]
    """Each episode's frames as (start, stop)."""
    tracks: tuple[TrackPlan, ...]
    report: PlanReport
    tasks: tuple[str, ...] = ()
    """The tasks of the bag, each once; none means the profile's for every frame."""
    task_index: npt.NDArray[np.int64] | None = None
    """Which of ``tasks`` each frame has, shape (frames,)."""
    run: npt.NDArray[np.int64] | None = None
    """The run of the recording that each frame lies in, shape (frames,)."""
    language: tuple[tuple[LanguageRow, ...], ...] = ()
    """The rows of each episode's language columns; none where the profile asks for none."""

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.stamps)

    def wanted(self) -> dict[str, Ordinals]:
        """Return the ordinals that some frame needs, by topic."""
        wanted: dict[str, Ordinals] = {}
        for track in self.tracks:
            topic = track.track.topic
            mine = track.wanted()
            wanted[topic] = np.union1d(wanted[topic], mine) if topic in wanted else mine
        return wanted


class Segment(NamedTuple):
    """A piece of the time line that is to be an episode, ns on the clock's time line."""

    start: int
    stop: int
    """Exclusive."""


class BadPictures(NamedTuple):
    """Messages that a first attempt could not decode."""

    ordinals: Mapping[str, Ordinals]
    """By topic."""
    on_bad: Literal['drop', 'split']


class _Matches(NamedTuple):
    """The outcome for one track before frames are cut, by row; ``cut`` is by frame."""

    first: Ordinals
    second: Ordinals
    weight: Vector
    error: Stamps
    fill: npt.NDArray[np.uint8]
    in_gap: Mask
    cut: Mask
    before_first: Mask
    earlier: Earlier | None = None


class _RunFrames(NamedTuple):
    """The frames of one run before any is cut, and what serves them."""

    number: int
    frames: FrameStamps
    report: ClockReport
    piece: npt.NDArray[np.int64]
    served: list[_Matches]
    next_piece: int
    """The number of the first piece of the next run."""


def _joined_matches(runs: Sequence[_Matches]) -> _Matches:
    if len(runs) == 1:
        return runs[0]
    earlier = None
    if runs[0].earlier is not None:
        begins = np.cumsum([0, *(len(run.first) for run in runs)])
        found = [run.earlier for run in runs if run.earlier is not None]
        earlier = Earlier(
            np.concatenate([one.ordinals for one in found]),
            np.concatenate([one.frames + int(n) for one, n in zip(found, begins, strict=False)]),
        )
    names = [name for name in _Matches._fields if name != 'earlier']
    arrays = {name: np.concatenate([getattr(run, name) for run in runs]) for name in names}
    return _Matches(**arrays, earlier=earlier)


def _used(first: Ordinals, second: Ordinals, earlier: Earlier | None) -> Ordinals:
    others = [] if earlier is None else [earlier.ordinals]
    # By sorting, which takes a tenth of the time of the hashes of np.unique.
    used: Ordinals = np.sort(np.concatenate([first, second, *others]))
    return used[np.diff(used, prepend=-1) > 0]


def topics_with_header(clock_topic: str, clock: Clock, tracks: Sequence[Track]) -> frozenset[str]:
    """Return the topics whose header stamps the plan needs."""
    topics = {track.topic for track in tracks if track.align.timeline == 'header'}
    if topics or clock.timeline == 'header':
        topics.add(clock_topic)
    return frozenset(topics)


def make_plan(
    clock: Clock,
    clock_topic: str,
    fps: int,
    tracks: Sequence[Track],
    index: Mapping[str, TopicIndex],
    end_topics: Sequence[str] = (),
    segments: Sequence[Segment] | None = None,
    bad: BadPictures | None = None,
    latched: AbstractSet[str] = frozenset(),
    min_episode_s: float = 0.0,
) -> Plan:
    """
    Decide which message serves which frame.

    :param clock: How frames lie in time.
    :param clock_topic: Topic of the clock.
    :param fps: Frames per second.
    :param tracks: Every use of a topic.
    :param index: Stamps of every topic that is named here.
    :param end_topics: Topics besides those of the tracks whose end counts for ``clock.end_trim``.
    :param segments: Pieces that become episodes of their own, in order of time, not overlapping;
        frames outside are left out. The whole bag is one piece if not given.
    :param bad: Messages found to be undecodable, whose frames are cut.
    :param latched: Topics whose last message lasts: their end does not count for
        ``clock.end_trim``.
    :param min_episode_s: Shorter episodes are left out, s.
    :raises BagError: No frame is left, or a frame is in a gap that must not be.
    """
    recording = recording_of(clock, clock_topic, tracks, index, latched)
    pieces = None if segments is None else [segments] * len(recording.runs)
    return plan_recording(
        clock, clock_topic, fps, tracks, recording, end_topics, pieces, bad, latched, min_episode_s
    )


def recording_of(
    clock: Clock,
    clock_topic: str,
    tracks: Sequence[Track],
    index: Mapping[str, TopicIndex],
    latched: AbstractSet[str] = frozenset(),
    *,
    by_receive: bool = False,
) -> BagTimes:
    """
    Part a bag where a clock was set back.

    ``by_receive`` says that something is aligned by receive stamps besides the tracks and the
    clock; for the rest see :func:`make_plan`.

    :raises BagError: A clock was set back and must not be.
    """
    lines = {clock.timeline, *(track.align.timeline for track in tracks)}
    needed = {track.topic for track in tracks if not _may_be_missing(track.align)} - latched
    return read_bag_times(
        index,
        clock,
        clock_topic,
        needed | {clock_topic},
        by_receive=by_receive or 'bag' in lines,
        latched=latched,
    )


def _may_be_missing(align: Align) -> bool:
    return align.strategy == 'hold'


def plan_recording(
    clock: Clock,
    clock_topic: str,
    fps: int,
    tracks: Sequence[Track],
    recording: BagTimes,
    end_topics: Sequence[str] = (),
    segments: Sequence[Sequence[Segment]] | None = None,
    bad: BadPictures | None = None,
    latched: AbstractSet[str] = frozenset(),
    min_episode_s: float = 0.0,
) -> Plan:
    """
    Decide which message serves which frame of a recording; ``segments`` are those of each run.

    The rest is as in :func:`make_plan`.
    """
    # What is held lasts, so that its end is none.
    ending = {*(track.topic for track in tracks if track.align.strategy != 'hold'), *end_topics}
    counted = sorted(ending - latched - {clock_topic})
    made: list[_RunFrames] = []
    failures: list[tuple[int, BagError]] = []
    for number, times in enumerate(recording.runs):
        try:
            frames, clock_report = clock_frames(clock, clock_topic, fps, times, counted)
            piece = _pieces(
                frames.on(clock.timeline), None if segments is None else segments[number]
            )
            inside = piece >= 0
            served = [_serve(track, frames, times[track.topic], inside, fps) for track in tracks]
        except BagError as error:
            failures.append((len(times[clock_topic].index.receive), error))
            continue
        first = made[-1].next_piece if made else 0
        pieces = len(segments[number]) if segments is not None else 1
        made.append(
            _RunFrames(
                number, frames, clock_report, np.where(inside, piece + first, -1), served,
                first + pieces,
            )
        )  # fmt: skip
    if not made:
        raise max(failures, key=lambda failure: failure[0])[1]
    frames = joined([run.frames for run in made])
    piece = np.concatenate([run.piece for run in made])
    served = [_joined_matches([run.served[i] for run in made]) for i in range(len(tracks))]
    count = len(frames.bag)
    inside = piece >= 0
    dropped = _any_cut(tracks, served, count, drop=True)
    split = _any_cut(tracks, served, count, drop=False)
    undecodable = _served_by(bad, tracks, served, count)
    if bad is not None and bad.on_bad == 'drop':
        dropped |= undecodable
    else:
        split |= undecodable
    keep = inside & ~dropped
    label = np.where(inside, piece * (int(frames.part[-1]) + 1) + frames.part, -1)
    if dropped.any():
        keep = _longest_of_each(keep, label)
    keep &= ~split
    if not keep.any():
        raise BagError(_nothing_left(tracks, served, frames))
    whole = keep
    keep = _without_tails(keep, label, max((track.align.shift for track in tracks), default=0))
    shifted = int(whole.sum() - keep.sum())
    keep, short = _without_short(keep, label, min_episode_s * fps)
    if not keep.any():
        raise BagError(
            f'no frame is left of {int(whole.sum())}: no episode is longer than what shift looks '
            'ahead; lower shift, or check why episodes are so short'
        )
    episodes = _runs(keep, label)
    lengths = np.array([stop - start for start, stop in episodes])
    ends = np.cumsum(lengths)
    plans = [
        _track_plan(track, result, inside, keep, recording.topic(track.topic), fps)
        for track, result in zip(tracks, served, strict=True)
    ]
    stamps = frames.on(clock.timeline)
    off = np.abs(np.concatenate([unevenness(stamps[start:stop], fps) for start, stop in episodes]))
    kept_pieces = len(np.unique(piece[keep]))
    report = PlanReport(
        **_clock_report(clock, recording, clock_topic, [run.report for run in made]),
        clock_steps=recording.steps or None,
        runs_without_frames=tuple(str(error) for _, error in failures) or None,
        latched_topics=tuple(sorted({*(t.topic for t in tracks), *end_topics} & latched)),
        clock_error_ms=_milliseconds(off.max()),
        frames_off_clock=int(np.sum(off > NS_PER_S / fps / 2)),
        candidate_frames=count,
        frames=int(keep.sum()),
        frames_outside_segments=int(count - inside.sum()),
        segments_without_frames=(0 if segments is None else sum(map(len, segments)) - kept_pieces),
        frames_cut=int(inside.sum() - whole.sum()),
        frames_cut_by_shift=shifted or None,
        episodes_too_short=len(short) or None,
        frames_in_short_episodes=sum(short) or None,
        frames_with_bad_images=int((inside & undecodable).sum()),
        episodes=len(episodes),
        tracks=tuple(plan.report for plan in plans),
    )
    numbers = np.repeat([run.number for run in made], [len(run.piece) for run in made])[keep]
    return Plan(
        stamps[keep],
        tuple((int(end - length), int(end)) for end, length in zip(ends, lengths, strict=True)),
        tuple(plans),
        report,
        run=numbers,
    )


def _clock_report(
    clock: Clock, recording: BagTimes, topic: str, runs: Sequence[ClockReport]
) -> dict[str, Any]:
    """Return the fields of the clock's report over all runs that give frames."""
    decimations = dict.fromkeys(run.decimation for run in runs)
    most_cut = max(runs, key=lambda run: run.frames_cut_by_end_trim)
    steps = [run.receive_step_ms for run in runs if run.receive_step_ms is not None]
    report = replace(
        runs[0],
        clock_messages=sum(run.clock_messages for run in runs),
        clock_stamps=TopicStampReport(
            topic, stamps=total_counts(recording.topic(topic), clock.timeline)
        ),
        decimation=' + '.join(decimations),
        frames_cut_by_end_trim=sum(run.frames_cut_by_end_trim for run in runs),
        end_trim_topic=most_cut.end_trim_topic,
        pauses=tuple(pause for run in runs for pause in run.pauses or ()) or None,
        receive_step_ms=min(steps, default=None),
    )
    return vars(report)


def _without_tails(keep: Mask, piece: Ordinals, ahead: int) -> Mask:
    """Leave out the last frames of every episode, for which others lie ahead of its end."""
    if not ahead:
        return keep
    result: Mask = keep.copy()
    for start, stop in _runs(keep, piece):
        result[slice(max(start, stop - ahead), stop)] = False
    return result


def _without_short(keep: Mask, piece: Ordinals, shortest: float) -> tuple[Mask, list[int]]:
    """
    Leave out episodes of less than ``shortest`` frames; return also how many each of them has.

    :raises BagError: That would be most of the frames.
    """
    runs = _runs(keep, piece)
    short = [run for run in runs if run[1] - run[0] < shortest]
    if not short:
        return keep, []
    lengths = [stop - start for start, stop in short]
    if 2 * sum(lengths) > int(keep.sum()):
        raise BagError(
            f'{len(short)} of {len(runs)} episodes, {sum(lengths)} of {int(keep.sum())} frames, '
            f'are shorter than min_episode_s ({shortest:g} frames); check why, or lower '
            'min_episode_s'
        )
    result = keep.copy()
    for start, stop in short:
        result[start:stop] = False
    return result, lengths


def _serve(
    track: Track, frames: FrameStamps, topic: TopicTimes, inside: Mask, fps: int
) -> _Matches:
    align, samples = track.align, len(track.offsets)
    times, part = frames.on(align.timeline), frames.part
    if samples > 1:
        times = (times[:, None] - np.array(track.offsets)).ravel()
        part, inside = np.repeat(part, samples), np.repeat(inside, samples)
    held = align.strategy == 'hold'
    stamps, ordinals = topic.usable(align.timeline, held=held)
    if not len(stamps):
        raise topic.nothing_usable(track.topic, align.timeline, held=held)
    stamps = stamps + round(align.offset_ms * 1e6) if align.offset_ms else stamps
    first, second = _positions(align.strategy, stamps, times)
    if align.strategy in ('linear', 'slerp'):
        bounds = _bounds_of_parts(frames.on(align.timeline), frames.part)
        first, second = _within_bounds(first, second, stamps, bounds, samples)
    missing = first < 0
    reach = np.maximum(np.abs(stamps[first] - times), np.abs(stamps[second] - times))
    gap = missing.copy()
    if align.tolerance_ms is not None:
        gap |= reach > align.tolerance_ms * 1e6
    if align.gap_ms is not None:
        gap |= _between_distant(stamps, times, align.gap_ms)
    if align.zeros_before_first:
        gap &= ~missing
    if align.on_gap == 'fail' and (gap & inside).any():
        raise BagError(_gap_text(track, gap & inside, missing, times, reach))
    if align.on_gap == 'hold' and gap.any():
        latest = _latest(stamps, times)
        first = np.where(gap, latest, first)
        second = np.where(gap, latest, second)
        missing = first < 0

    fill = np.zeros(len(times), dtype=np.uint8)
    if align.zeros_before_first:
        fill[missing] = Fill.ZEROS
    if align.on_gap in ('mark', 'zeros'):
        fill[gap] = Fill.MARK if align.on_gap == 'mark' else Fill.ZEROS
    cut = missing & (fill == Fill.VALUE)
    if align.on_gap in ('drop', 'split'):
        cut |= gap & (fill == Fill.VALUE)

    interpolated = first != second
    span = np.where(interpolated, stamps[second] - stamps[first], 1)
    weight = np.where(interpolated, (times - stamps[first]) / span, 0.0)
    error = np.where(interpolated, 0, stamps[first] - times)
    filled = fill != Fill.VALUE
    earlier = None
    if align.reduce not in (None, 'last'):
        earlier = _since_last_frame(stamps, ordinals, times, part, fps, ~filled & ~cut)
    return _Matches(
        np.where(filled, -1, ordinals[first]),
        np.where(filled, -1, ordinals[second]),
        np.where(filled, 0.0, weight),
        np.where(filled, 0, error),
        fill,
        gap,
        _by_frame(cut, track),
        times < stamps[0],
        earlier,
    )


def _since_last_frame(
    stamps: Stamps, ordinals: Ordinals, times: Stamps, part: Ordinals, fps: int, wanted: Mask
) -> Earlier:
    """
    Return the messages after the last frame and up to each one, but the last of them.

    Before the first frame of a part of the bag lies the time from one frame to the next.
    """
    first = np.concatenate([[True], np.diff(part) != 0])
    since = np.where(first, times - NS_PER_S // fps, np.concatenate([times[:1], times[:-1]]))
    begin, end = (np.searchsorted(stamps, at, side='right') for at in (since, times))
    counts = np.where(wanted, np.maximum(end - begin - 1, 0), 0)
    frames = np.repeat(np.arange(len(times)), counts)
    within = np.arange(len(frames)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Earlier(ordinals[begin[frames] + within], frames)


def _latest(stamps: Stamps, frames: Stamps) -> Ordinals:
    """Return positions of the last stamps not after the frames, -1 where there is none."""
    return np.searchsorted(stamps, frames, side='right') - 1


def _positions(strategy: str, stamps: Stamps, times: Stamps) -> tuple[Ordinals, Ordinals]:
    """Return positions of the two messages of each frame, equal where one serves it alone."""
    if strategy == 'nearest':
        near = nearest(stamps, times)
        return near, near
    latest = _latest(stamps, times)
    if strategy == 'hold':
        return latest, latest
    first = np.maximum(latest, 0)
    between = (latest >= 0) & (stamps[first] < times) & (latest + 1 < len(stamps))
    return first, np.where(between, latest + 1, first)


def _by_frame(rows: Mask, track: Track) -> Mask:
    """Tell of which frames something is true of a row, shape (frames,)."""
    return np.asarray(rows.reshape(-1, len(track.offsets)).any(axis=1))


def _bounds_of_parts(times: Stamps, part: Ordinals) -> tuple[Stamps, Stamps] | None:
    """Return where the part of each frame begins and ends; None where there is one alone."""
    begins = np.flatnonzero(np.diff(part)) + 1
    if not len(begins):
        return None
    middle = times[begins - 1] + (times[begins] - times[begins - 1]) // 2
    number = np.searchsorted(begins, np.arange(len(times)), side='right')
    bounds = np.concatenate([[-(2**63)], middle, [2**63 - 1]])
    return bounds[number], bounds[number + 1]


def _within_bounds(
    first: Ordinals,
    second: Ordinals,
    stamps: Stamps,
    bounds: tuple[Stamps, Stamps] | None,
    samples: int,
) -> tuple[Ordinals, Ordinals]:
    """Leave out of the two messages of each row the one that lies beyond a pause."""
    if bounds is None:
        return first, second
    low, high = (np.repeat(bound, samples) for bound in bounds)
    early, late = stamps[first] < low, stamps[second] > high
    return np.where(early & ~late, second, first), np.where(late & ~early, first, second)


def _between_distant(stamps: Stamps, times: Stamps, gap_ms: float) -> Mask:
    """Tell whether a time lies strictly between consecutive stamps more than gap_ms apart."""
    after = np.searchsorted(stamps, times, side='left')
    inside = (after > 0) & (after < len(stamps))
    after = np.clip(after, 1, max(len(stamps) - 1, 1))
    if len(stamps) < 2:
        return np.zeros(len(times), dtype=bool)
    distant = stamps[after] - stamps[after - 1] > gap_ms * 1e6
    return np.asarray(inside & distant & (stamps[after] != times))


def _pieces(frames: Stamps, segments: Sequence[Segment] | None) -> npt.NDArray[np.int64]:
    """Return the number of each frame's segment, -1 outside."""
    if segments is None:
        return np.zeros(len(frames), dtype=np.int64)
    starts = np.array([segment.start for segment in segments], dtype=np.int64)
    stops = np.array([-(2**63), *(segment.stop for segment in segments)], dtype=np.int64)
    begun = np.searchsorted(starts, frames, side='right')
    return np.where(frames < stops[begun], begun - 1, -1)


def _any_cut(
    tracks: Sequence[Track], served: Sequence[_Matches], count: int, *, drop: bool
) -> Mask:
    """Return the frames cut by tracks that drop, or by the others."""
    cut = np.zeros(count, dtype=bool)
    for track, result in zip(tracks, served, strict=True):
        if (track.align.on_gap == 'drop') is drop:
            cut |= result.cut
    return cut


def _served_by(
    bad: BadPictures | None, tracks: Sequence[Track], served: Sequence[_Matches], count: int
) -> Mask:
    """Return the frames that a bad message serves."""
    frames = np.zeros(count, dtype=bool)
    for track, result in zip(tracks, served, strict=True):
        if bad is not None and track.topic in bad.ordinals:
            frames |= _by_frame(np.isin(result.first, bad.ordinals[track.topic]), track)
    return frames


def _longest_of_each(keep: Mask, piece: npt.NDArray[np.int64]) -> Mask:
    """Keep only the longest run of each piece, the first of equally long ones."""
    best: dict[int, tuple[int, int]] = {}
    for start, stop in _runs(keep, piece):
        number = int(piece[start])
        low, high = best.get(number, (0, 0))
        if stop - start > high - low:
            best[number] = (start, stop)
    result = np.zeros_like(keep)
    for start, stop in best.values():
        result[start:stop] = True
    return result


def _runs(keep: Mask, piece: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return the runs (start, stop) of kept frames that lie in one piece."""
    label = np.where(keep, piece, -1)
    edges = np.flatnonzero(np.diff(label)) + 1
    bounds = [0, *edges.tolist(), len(label)]
    return [(a, b) for a, b in pairwise(bounds) if a < b and label[a] >= 0]


def _track_plan(
    track: Track,
    served: _Matches,
    inside: Mask,
    keep: Mask,
    times: Sequence[TopicTimes],
    fps: int,
) -> TrackPlan:
    rows = np.flatnonzero(keep) + track.align.shift
    samples = len(track.offsets)
    spacing = NS_PER_S / fps
    if samples > 1:
        rows = (rows[:, None] * samples + np.arange(samples)).ravel()
        spacing = track.offsets[0] / (samples - 1)
    first, second, weight = served.first[rows], served.second[rows], served.weight[rows]
    if np.array_equal(first, second):
        # One array for both, none for the weights: most tracks interpolate nothing.
        second, weight = first, np.broadcast_to(np.float64(0), first.shape)
    fill, error, in_gap = served.fill[rows], served.error[rows], served.in_gap[rows]
    earlier = _earlier_of(served.earlier, rows)
    used = _used(first, second, earlier)
    valued = fill == Fill.VALUE
    distance = np.abs(error[valued])
    messages = sum(len(run.index.receive) for run in times)
    report = TrackReport(
        name=track.name,
        topic=track.topic,
        strategy=track.align.strategy,
        timeline=track.align.timeline,
        messages=messages,
        stamps=total_counts(times, track.align.timeline),
        used=len(used),
        skipped=messages - len(used),
        repeated=int(np.sum((first[1:] == first[:-1]) & (second[1:] == second[:-1])
                            & (weight[1:] == weight[:-1]) & valued[1:] & valued[:-1])),
        error_ms=_errors(distance),
        beyond_half_frame=int(np.sum(distance > spacing / 2)),
        beyond_full_frame=int(np.sum(distance > spacing)),
        before_first_message=int(served.before_first[rows].sum()),
        in_gap=int(in_gap.sum()),
        cut=int((served.cut & inside).sum()),
        filled_with_zeros=int(np.sum(fill == Fill.ZEROS)),
        marked=int(np.sum(fill == Fill.MARK)),
        on_gap=track.align.on_gap,
        selected_from=None if track.selected is None else track.selected.topic,
        passed_by=None if track.selected is None else track.selected.passed_by,
        reduced=None if earlier is None else len(np.unique(earlier.frames)),
        samples=samples if samples > 1 else None,
    )  # fmt: skip
    return TrackPlan(track, first, second, weight, error, fill, in_gap, report, earlier)


def _earlier_of(earlier: Earlier | None, rows: Ordinals) -> Earlier | None:
    """Return what is left where only some of the frames, ascending, are."""
    if earlier is None or not len(rows):
        return earlier
    places = np.minimum(np.searchsorted(rows, earlier.frames), len(rows) - 1)
    kept = rows[places] == earlier.frames
    return Earlier(earlier.ordinals[kept], places[kept])


def _errors(distance: Stamps) -> ErrorMs:
    if not len(distance):
        return ErrorMs()
    worst = (np.median(distance), np.percentile(distance, 95), distance.max())
    return ErrorMs(*map(_milliseconds, worst))


def _gap_text(track: Track, gap: Mask, missing: Mask, times: Stamps, reach: Stamps) -> str:
    row, samples = int(np.flatnonzero(gap)[0]), len(track.offsets)
    frame, which = row // samples, ' for each of its samples' if samples > 1 else ''
    tolerance_ms, gap_ms = track.align.tolerance_ms, track.align.gap_ms
    if missing[row]:
        found = 'nothing is before it'
    elif tolerance_ms is not None and reach[row] > tolerance_ms * 1e6:
        found = f'what would serve it is {_milliseconds(reach[row])} ms away'
    else:
        found = f'it lies between two messages more than {gap_ms:g} ms apart'
    at_s = (times[row] - times[samples - 1]) / NS_PER_S
    return (
        f'{track.topic}: {int(_by_frame(gap, track).sum())} frames have no message near enough'
        f'{which}, the first at frame {frame} ({at_s:.3f} s): {found}; set '
        'on_gap or a larger limit'
    )


def _nothing_left(tracks: Sequence[Track], served: Sequence[_Matches], frames: FrameStamps) -> str:
    worst = max(range(len(tracks)), key=lambda i: int(served[i].cut.sum()))
    return (
        f'no frame is left of {len(frames.bag)}: {tracks[worst].topic} serves '
        f'{int((~served[worst].cut).sum())} of them; check its tolerance_ms and on_gap'
    )


def _milliseconds(ns: float) -> float:
    return round(float(ns) / 1e6, 6)
