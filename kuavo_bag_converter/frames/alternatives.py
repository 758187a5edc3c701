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

"""What the topics that a part could also come from would have said."""

from __future__ import annotations

from collections.abc import Iterator

from kuavo_bag_converter.alignment.binding import Binding, BoundPart
from kuavo_bag_converter.alignment.plan import Fill, Plan
from kuavo_bag_converter.alignment.stamps import nearest
from kuavo_bag_converter.bags.model import BagReader, Ordinals
from kuavo_bag_converter.frames.elements import ElementReader
from kuavo_bag_converter.frames.operations import apply_operations
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.profiles.model import Source, VectorFeature
from kuavo_bag_converter.support.errors import BagError
import numpy as np
import numpy.typing as npt

_Values = npt.NDArray[np.float64]
_FRAMES = 50
"""Frames, evenly spread, at which topics are compared."""


def alternative_lines(
    binding: Binding, plan: Plan, reader: BagReader, definitions: Definitions
) -> Iterator[str]:
    """
    Yield a line for each topic that is in the bag but was not taken, because another came first.

    Both are compared at some frames, by the messages next to them, in the unit of the dataset.

    :raises BagError: The bag is damaged.
    """
    for vector in binding.vectors:
        distances: dict[tuple[str, str], list[_Values]] = {}
        for bound in vector.parts:
            for other in _others(bound, reader):
                assert bound.source is not None
                pair = (bound.source.topic, other.topic)
                found = _distances(bound, other, plan, reader, definitions, vector.feature)
                distances.setdefault(pair, []).append(found)
        for (taken, left), parts in distances.items():
            off = np.concatenate([part.ravel() for part in parts])
            how = 'with other elements'
            if len(off):
                how = f'and differs by {np.median(off):.2g} at the median, {off.max():.2g} at most'
            yield f'{taken}: taken for {vector.feature.key}; {left} is in the bag, too, {how}'


def _others(bound: BoundPart, reader: BagReader) -> list[Source]:
    if bound.source is None or bound.source.tf is not None or bound.part.gap_flag:
        return []
    names = dict.fromkeys(
        source.topic
        for source in bound.part.sources
        if source.topic != bound.source.topic and reader.counts.get(source.topic)
    )
    return [next(s for s in bound.part.sources if s.topic == name) for name in names]


def _distances(
    bound: BoundPart,
    other: Source,
    plan: Plan,
    reader: BagReader,
    definitions: Definitions,
    feature: VectorFeature,
) -> _Values:
    """Return how far two sources of a part are apart, shape (frames, elements)."""
    assert bound.source is not None
    track = plan.tracks[bound.track]
    served = np.flatnonzero(track.fill == Fill.VALUE)
    if not len(served):
        return np.empty((0, 0))
    frames = served[np.unique(np.linspace(0, len(served) - 1, _FRAMES).astype(int))]
    topics = {bound.source.topic, other.topic}
    index = reader.index(frozenset(topics), frozenset())
    mine = track.first[frames]
    stamps = index[other.topic].receive
    order = np.argsort(stamps, kind='stable')
    theirs = order[nearest(stamps[order], index[bound.source.topic].receive[mine])]
    try:
        taken, left = (
            _values(bound, source, ordinals, reader, definitions, feature)
            for source, ordinals in ((bound.source, mine), (other, theirs))
        )
    except BagError:
        return np.empty((0, 0))
    return np.abs(taken - left)


def _values(
    bound: BoundPart,
    source: Source,
    ordinals: Ordinals,
    reader: BagReader,
    definitions: Definitions,
    feature: VectorFeature,
) -> _Values:
    elements = ElementReader(bound.part, source, definitions, feature)
    values = {}
    for message in reader.messages({source.topic: np.unique(ordinals)}):
        decoded = definitions.decoder(message.connection)(bytes(message.data))
        values[message.ordinal] = elements.read(message.connection, message.stamp, decoded)
    rows: _Values = np.stack([values[ordinal] for ordinal in ordinals]).astype(np.float64)
    return apply_operations(bound.part, rows)
