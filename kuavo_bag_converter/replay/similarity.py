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
Whether encoded pictures are those of the messages that they should show.

Coding changes a picture by more than a slow scene changes it from one frame to the next, so no
fixed distance tells the right picture from its neighbour. Two relative measures do. With ``S`` the
pictures of the bag and ``D`` those of the dataset, both reduced to about 160 columns, which
removes most of what coding loses:

- The *change* from one frame to the next, ``S1 - S0`` in the bag and ``D1 - D0`` in the dataset.
  Their correlation is positive where the scene changes more than coding hides, near 0 where it
  does not, and negative only where the two frames are in each other's place: prediction between
  frames can carry the first picture into the second, which makes the change smaller, but cannot
  turn it around.
- The *offset* ``(D - S0) . (S1 - S0) / |S1 - S0|**2``: 0 for a frame that shows its own picture, 1
  for one that shows its neighbour's. It counts only where the neighbour differs by more than
  coding loses, since a predicted frame may well stay behind by less than that.
"""

from __future__ import annotations

from collections.abc import Iterator
import math
from typing import NamedTuple

import av
import cv2
from kuavo_bag_converter.check.coding import Coding, Loss
from kuavo_bag_converter.messages.video_frames import plane_pixels, sample_bits
import numpy as np
import numpy.typing as npt

Planes = npt.NDArray[np.float32]
"""The planes of a picture, reduced, one after the other."""

_COLUMNS = 160
_REVERSED = -0.1
"""Correlation of changes below which two frames are in each other's place."""
_STILL = 0.1
"""Correlation of changes below which they tell nothing."""
_NEIGHBOUR = 0.6
"""Offset from which a frame shows its neighbour's picture..."""
_CLEAR = 2.0
"""... if the neighbour differs this many times more than coding loses."""

_VISIBLE = 1.6
"""... and this many times more than coding may lose."""

_MOST = 4
"""Frames from which on most of them, and not each by itself, say how pictures were coded."""

_BLOCK = 16
"""Pairs of frames that are judged together, where each by itself says too little."""
_BLOCK_CLEAR = 0.7
_BLOCK_AHEAD = 0.55
_BLOCK_BEHIND = (0.7, 0.2)
"""Offset to the frame before, above, and to the frame after, below: frames come late."""
_BLOCK_REVERSED = -0.03
_BLOCK_ALIEN = (2.0, 0.2)
"""Times what coding may lose that the scene changes (squares), and correlation of that with the
video's changes."""

_HIDDEN = 6.0
"""Standard deviations that chance may shift a change by, which coding makes in each block."""


def reduced_frame(frame: av.VideoFrame) -> Planes:
    """
    Return a small version of a planar picture, shape (n,), less the mean of each plane.

    How bright a picture is says little about which it is, and coding shifts it as a whole.
    """
    factor = max(1, max(frame.width, frame.height) // _COLUMNS)
    parts = []
    levels = 2 ** (sample_bits(frame) - 8)
    for index in range(len(frame.planes)):
        plane = plane_pixels(frame, index)
        height, width = plane.shape
        step = max(1, factor * width // frame.width)
        size = (max(1, width // step), max(1, height // step))
        small = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
        values = small.astype(np.float32).reshape(-1)
        values -= cv2.mean(small)[0]
        values /= levels
        parts.append(values)
    return np.concatenate(parts)


class ComparedFrame(NamedTuple):
    """One frame: the picture that it should show and the one that it shows."""

    frame: int
    """Within the episode."""
    ordinal: int
    """Of the message that it should show."""
    source: Planes
    stored: Planes
    coding: Loss


class Suspicion(NamedTuple):
    """Frames that seem to show another picture than they should."""

    rule: str
    frame: int
    found: str
    expected: str
    places: int = 1


class _Pair(NamedTuple):
    """Two neighbouring frames that show different messages; all but the first are squares."""

    correlation: float
    """Of the changes in the bag and in the video."""
    source: float
    stored: float
    both: float
    bound: float
    ahead: float
    behind: float
    lost: float


class EpisodeComparison:
    """Compares the frames of one episode, in order."""

    def __init__(self, coding: Coding) -> None:
        self._coding = coding
        self._losses: list[Loss] = []
        self.pairs = 0
        """Neighbouring frames that show different messages."""
        self.still = 0
        """Those of them that are too alike to tell if they were in each other's place."""
        self._before: ComparedFrame | None = None
        self._pairs: list[_Pair] = []
        """Those that are not judged together yet."""
        self._first = 0
        """The frame that they begin with."""

    def add(self, shown: ComparedFrame) -> Iterator[Suspicion]:
        """Compare the next frame, and with its neighbour if that was the one before."""
        loss = shown.coding
        self._losses.append(loss)
        if loss.found > loss.frame_bound:
            yield Suspicion(
                'pictures.scene', shown.frame, f'a picture {loss.found:.1f} levels away',
                f'that of its message, at most {loss.frame_bound:.1f} levels away',
            )  # fmt: skip
        before, self._before = self._before, shown
        if before is not None and before.frame + 1 == shown.frame:
            yield from self._pair(before, shown)

    def _pair(self, first: ComparedFrame, second: ComparedFrame) -> Iterator[Suspicion]:
        change = second.source - first.source
        moved = _mean_square(change)
        if first.ordinal == second.ordinal:
            return
        self.pairs += 1
        bound = max(first.coding.bound, second.coding.bound)
        rests = first.stored - first.source, second.stored - second.source
        most = max(_mean_square(rest) for rest in rests)
        if moved <= _HIDDEN**2 * most / first.coding.blocks:
            self.still += 1
            return
        stored_change = second.stored - first.stored
        stored_moved = _mean_square(stored_change)
        both = _mean_product(change, stored_change)
        correlation = both / math.sqrt(moved * stored_moved) if stored_moved else 0.0
        self.still += abs(correlation) < _STILL
        if correlation < _REVERSED:
            yield Suspicion(
                'pictures.order', first.frame,
                f'a change of the opposite sign (correlation {correlation:.2f})',
                f'the change from frame {first.frame} to {second.frame}',
            )  # fmt: skip
        ahead, lost_first = _offset(rests[0], change, moved)
        behind, lost_second = _offset(rests[1], -change, moved)
        for shown, other, offset, lost in (
            (first, second, ahead, lost_first),
            (second, first, behind, lost_second),
        ):
            clear = max(_CLEAR**2 * lost, _VISIBLE**2 * bound**2)
            if offset > _NEIGHBOUR and moved >= clear:
                yield Suspicion(
                    'pictures.neighbour', shown.frame, f'the picture of frame {other.frame}',
                    'its own',
                )  # fmt: skip
        if not self._pairs:
            self._first = first.frame
        self._pairs.append(
            _Pair(
                correlation, moved, stored_moved, both, bound**2, ahead * moved, behind * moved,
                (lost_first + lost_second) / 2,
            )
        )  # fmt: skip
        if len(self._pairs) == _BLOCK:
            yield from self._judge()

    @property
    def loss(self) -> float:
        """Median of what coding lost: root mean square, levels of 255; NaN without frames."""
        return float(np.median([loss.found for loss in self._losses] or [math.nan]))

    def finish(self) -> Iterator[Suspicion]:
        """Judge what only several frames together show."""
        yield from self._judge_losses()
        if len(self._pairs) >= _BLOCK // 4:
            yield from self._judge()

    def _judge_losses(self) -> Iterator[Suspicion]:
        """Compare what coding changed in most frames with what it may change."""
        if not self._losses:
            return
        count = len(self._losses)
        bounds = [loss.bound if count >= _MOST else loss.frame_bound for loss in self._losses]
        found = [loss.found for loss in self._losses]
        if float(np.median(np.divide(found, bounds))) > 1:
            yield Suspicion(
                'pictures.loss', 0, f'pictures {self.loss:.1f} levels away',
                f'at most {np.median(bounds):.1f} levels, by {self._coding.name}', count,
            )  # fmt: skip
        shift = float(np.median([loss.shift for loss in self._losses]))
        bound = float(np.median([loss.shift_bound for loss in self._losses]))
        if abs(shift) > bound:
            yield Suspicion(
                'pictures.level', 0, f'pictures {abs(shift):.1f} levels '
                f'{"brighter" if shift > 0 else "darker"}',
                f'at most {bound:.1f} levels, by {self._coding.name}', count,
            )  # fmt: skip

    def _judge(self) -> Iterator[Suspicion]:
        count = len(self._pairs)
        block = _Pair(*map(sum, zip(*self._pairs, strict=True)))
        self._pairs = []
        ahead, behind = block.ahead / block.source, block.behind / block.source
        clear = block.source >= _BLOCK_CLEAR**2 * block.lost
        moves_along = block.both / math.sqrt(block.source * block.stored) if block.stored else 0.0
        found = ''
        if clear and ahead > _BLOCK_AHEAD:
            found = f'pictures {ahead:.2f} frames early'
        elif clear and behind > _BLOCK_BEHIND[0] and ahead < _BLOCK_BEHIND[1]:
            found = f'pictures {behind:.2f} frames late'
        elif block.correlation / count < _BLOCK_REVERSED:
            found = 'changes of the opposite sign'
        elif block.source > _BLOCK_ALIEN[0] * block.bound and moves_along < _BLOCK_ALIEN[1]:
            found = f'changes unlike those of the bag (correlation {moves_along:.2f})'
        if found:
            yield Suspicion(
                'pictures.shifted', self._first, found, 'the pictures of the messages', count
            )


def _offset(rest: Planes, change: Planes, moved: float) -> tuple[float, float]:
    """Return how far a frame is on the way to its neighbour, and the mean square of the rest."""
    offset = _mean_product(rest, change) / moved
    return offset, max(0.0, _mean_square(rest) - offset**2 * moved)


def _mean_square(values: Planes) -> float:
    return _mean_product(values, values)


def _mean_product(first: Planes, second: Planes) -> float:
    return float(np.dot(first, second)) / len(first)
