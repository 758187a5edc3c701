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

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from kuavo_bag_converter.alignment.binding import Binding, BoundPart
from kuavo_bag_converter.alignment.plan import Fill, Plan
from kuavo_bag_converter.alignment.stamps import nearest
from kuavo_bag_converter.bags.model import BagReader, Message, Ordinals
from kuavo_bag_converter.frames.elements import ElementReader
from kuavo_bag_converter.frames.operations import apply_operations
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.profiles.model import Part, Source, VectorFeature
from kuavo_bag_converter.support.errors import BagError
import numpy as np
import numpy.typing as npt

_Values = npt.NDArray[np.float64]
_FRAMES = 50
"""Frames, evenly spread, at which topics are compared."""


class _Pair(NamedTuple):
    """A part, another source of it, and the messages of both at some frames."""

    feature: VectorFeature
    bound: BoundPart
    taken: Source
    other: Source
    of_taken: Ordinals
    of_other: Ordinals


def alternative_lines(
    binding: Binding, plan: Plan, reader: BagReader, definitions: Definitions
) -> Iterator[str]:
    """
    Yield a line for each topic that is in the bag but was not taken, because another came first.

    Both are compared at some frames, by the messages next to them, in the unit of the dataset.

    :raises BagError: The bag is damaged.
    """
    pairs = _pairs(binding, plan, reader)
    found = _messages(pairs, reader)
    distances: dict[tuple[str, str, str], list[_Values]] = {}
    for pair in pairs:
        try:
            taken, other = (
                _values(pair, source, [found[source.topic, one] for one in ordinals], definitions)
                for source, ordinals in ((pair.taken, pair.of_taken), (pair.other, pair.of_other))
            )
        except (BagError, KeyError):
            off = np.empty(0)
        else:
            off = np.abs(taken - other).ravel()
        place = (pair.feature.key, pair.taken.topic, pair.other.topic)
        distances.setdefault(place, []).append(off)
    for (key, of_taken, of_other), parts in distances.items():
        off = np.concatenate(parts)
        how = 'with other elements'
        if len(off):
            how = f'and differs by {np.median(off):.2g} at the median, {off.max():.2g} at most'
        yield f'{of_taken}: taken for {key}; {of_other} is in the bag, too, {how}'


def _pairs(binding: Binding, plan: Plan, reader: BagReader) -> list[_Pair]:
    """Return what is to be compared; the index is read once for all of it."""
    parts = [
        (vector.feature, bound, bound.source, other)
        for vector in binding.vectors
        for bound in vector.parts
        if bound.source is not None and bound.source.tf is None and not bound.part.gap_flag
        for other in _others(bound.part, bound.source, reader)
    ]
    if not parts:
        return []
    index = reader.index({source.topic for *_, taken, other in parts for source in (taken, other)})
    pairs = []
    for feature, bound, taken, other in parts:
        track = plan.tracks[bound.track]
        served = np.flatnonzero(track.fill == Fill.VALUE)
        spread = np.linspace(0, len(served) - 1, _FRAMES if len(served) else 0).astype(int)
        mine = track.first[served[np.unique(spread)]]
        stamps = index[other.topic].receive
        order = np.argsort(stamps, kind='stable')
        theirs = order[nearest(stamps[order], index[taken.topic].receive[mine])]
        pairs.append(_Pair(feature, bound, taken, other, mine, theirs))
    return pairs


def _others(part: Part, taken: Source, reader: BagReader) -> Iterable[Source]:
    """Return the first source of each other topic that the bag has."""
    others: dict[str, Source] = {}
    for source in part.sources:
        if source.topic != taken.topic and reader.counts.get(source.topic):
            others.setdefault(source.topic, source)
    return others.values()


def _messages(pairs: Sequence[_Pair], reader: BagReader) -> dict[tuple[str, int], Message]:
    """Read what is compared, once; empty if it cannot be read."""
    wanted: dict[str, Ordinals] = {}
    for pair in pairs:
        for source, mine in ((pair.taken, pair.of_taken), (pair.other, pair.of_other)):
            if len(mine):
                wanted[source.topic] = np.union1d(wanted.get(source.topic, mine), mine)
    if not wanted:
        return {}
    try:
        return {
            (message.connection.topic, message.ordinal): message._replace(data=bytes(message.data))
            for message in reader.messages(wanted)
        }
    except BagError:
        return {}


def _values(
    pair: _Pair, source: Source, messages: Sequence[Message], definitions: Definitions
) -> _Values:
    elements = ElementReader(pair.bound.part, source, definitions, pair.feature)
    rows = [
        elements.read(
            message.connection,
            message.stamp,
            definitions.decoder(message.connection)(bytes(message.data)),
        )
        for message in messages
    ]
    return apply_operations(pair.bound.part, np.array(rows, dtype=np.float64))
