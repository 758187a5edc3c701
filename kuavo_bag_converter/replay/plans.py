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

"""Whether the stored alignment is what the bag's stamps say, and how far its topics are apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kuavo_bag_converter.alignment.alignment_file import columns_of, read_alignment
from kuavo_bag_converter.alignment.binding import Binding
from kuavo_bag_converter.alignment.plan import BadPictures, Fill, Plan, TrackPlan
from kuavo_bag_converter.alignment.planning import plan_bag
from kuavo_bag_converter.bags.model import BagReader, Ordinals
from kuavo_bag_converter.check.description import StoredEpisode
from kuavo_bag_converter.check.findings import ARROW_ERRORS, Findings
from kuavo_bag_converter.dataset.recorded_bag import RecordedBag
from kuavo_bag_converter.frames.camera_sequence import bad_pictures, CameraSequence
from kuavo_bag_converter.frames.kinds import CameraKind
from kuavo_bag_converter.frames.stream import memory_shares, stream
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.support.workers import InlineWorkers
import numpy as np
import numpy.typing as npt

_STATE = 'observation.state'
_MILLISECOND = 1e6


def derive_plan(
    bag: RecordedBag,
    reader: BagReader,
    binding: Binding,
    definitions: Definitions,
    cameras: Sequence[CameraKind[Any]],
    on_bad_image: str,
) -> Plan:
    """
    Plan a bag as the conversion did.

    Only where the conversion cut frames with bad pictures, all pictures that a frame may need are
    decoded, to find the bad ones again.

    :raises BagError: The bag cannot be read or planned.
    """
    plan = plan_bag(binding, reader, definitions)
    if not bag.plan.frames_with_bad_images:
        return plan
    bad = _undecodable(reader, binding, cameras, plan)
    return plan_bag(
        binding,
        reader,
        definitions,
        BadPictures(bad, 'drop' if on_bad_image == 'drop' else 'split'),
    )


def _undecodable(
    reader: BagReader, binding: Binding, kinds: Sequence[CameraKind[Any]], plan: Plan
) -> dict[str, Ordinals]:
    room = memory_shares(0, ()).held // len(kinds)
    cameras = [
        CameraSequence(plan.tracks[bound.track], kind.decoders(), lambda _: None, 'drop', room)
        for bound, kind in zip(binding.cameras, kinds, strict=True)
    ]
    for _ in stream(reader, None, cameras, InlineWorkers()):
        pass
    return bad_pictures(cameras)


def check_plan(
    root: Path, bag: RecordedBag, plan: Plan, episodes: Sequence[StoredEpisode], findings: Findings
) -> bool:
    """Compare the stored alignment with the plan; return whether the frames are the same."""
    lengths = [stop - start for start, stop in plan.episodes]
    found = [episode.length for episode in episodes]
    if found != lengths:
        findings.add(
            'plan.frames',
            f'{len(found)} episodes, {sum(found)} frames of {bag.name}',
            f'{len(lengths)} episodes, {sum(lengths)} frames',
            episode=_first_difference(found, lengths) + bag.first_episode,
        )
    try:
        stored = read_alignment(root / bag.alignment_path)
    except ARROW_ERRORS:  # reported as conversion.missing or conversion.unreadable
        return found == lengths
    for name, column in columns_of(plan).items():
        _compare(bag, name, stored.get(name), column, lengths, findings)
    return found == lengths


def _first_difference(first: Sequence[int], second: Sequence[int]) -> int:
    pairs = zip(first, second, strict=False)
    shorter = min(len(first), len(second))
    return next((index for index, (a, b) in enumerate(pairs) if a != b), max(0, shorter - 1))


def _compare(
    bag: RecordedBag,
    name: str,
    stored: npt.NDArray[Any] | None,
    expected: npt.NDArray[Any],
    lengths: Sequence[int],
    findings: Findings,
) -> None:
    if stored is None or stored.shape != expected.shape:
        found = 'no column' if stored is None else f'{_shape_text(stored)} rows'
        findings.add(
            'plan.alignment', found, f'{_shape_text(expected)} rows', file=bag.alignment_path,
            feature=name,
        )  # fmt: skip
        return
    wrong = (stored != expected).reshape(len(stored), -1).any(axis=1)
    if wrong.any():
        frame = int(wrong.argmax())
        ends = np.cumsum(lengths)
        episode = int(np.searchsorted(ends, frame, side='right'))
        findings.add(
            'plan.alignment',
            stored[frame],
            expected[frame],
            file=bag.alignment_path,
            feature=name,
            episode=bag.first_episode + episode,
            frame=frame - int(ends[episode]) + lengths[episode],
            places=int(wrong.sum()),
        )


def _shape_text(column: npt.NDArray[Any]) -> str:
    return ' x '.join(map(str, column.shape))


@dataclass(frozen=True)
class StateMinusPicture:
    """
    Stamp of the message that gives the state minus that of the picture, ms, over all frames.

    Both are distances from the frame on the time line that the topic is aligned on; a state that
    is interpolated lies at the frame itself.
    """

    state: str
    """Its topic."""
    picture: str
    """The camera's feature."""
    frames: int
    median: float
    """With its sign."""
    p95: float
    """Of the size, as the maximum."""
    max: float  # noqa: A003


StampDistances = dict[tuple[str, str], list[npt.NDArray[np.float32]]]
"""State minus picture, ms, by the state's topic and the camera's feature."""


def add_distances(distances: StampDistances, binding: Binding, plan: Plan) -> None:
    """Add the frames of a bag."""
    states = {
        part.track
        for vector in binding.vectors
        for part in vector.parts
        if vector.feature.key == _STATE and part.track >= 0 and not part.part.gap_flag
    }
    for state in sorted(states):
        for camera in binding.cameras:
            key = (plan.tracks[state].track.topic, camera.feature.key)
            apart = _apart(plan.tracks[state], plan.tracks[camera.track])
            if len(apart):
                distances.setdefault(key, []).append(apart)


def summarise(distances: StampDistances) -> Iterator[StateMinusPicture]:
    """Yield what the distances of all bags come to."""
    for (state, picture), parts in distances.items():
        values = np.concatenate(parts)
        size = np.abs(values)
        found = np.median(values), np.percentile(size, 95), size.max()
        yield StateMinusPicture(state, picture, len(values), *(round(float(x), 3) for x in found))


def _apart(state: TrackPlan, picture: TrackPlan) -> npt.NDArray[np.float32]:
    # The last of several samples is the one at the frame.
    fill, error = (state.by_frame(rows) for rows in (state.fill, state.error))
    if fill.ndim > 1:
        fill, error = fill[:, -1], error[:, -1]
    valued = (fill == Fill.VALUE) & (picture.fill == Fill.VALUE)
    apart = (error - picture.error)[valued] / _MILLISECOND
    return np.asarray(apart, np.float32)
