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

"""What the sampled messages of a bag hold, topic by topic."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import av
from kuavo_bag_converter.bags.header_stamps import header_stamp
from kuavo_bag_converter.bags.model import BagReader, Connection, Ordinals, Stamps
from kuavo_bag_converter.bags.recording import WHOLE_BYTES
from kuavo_bag_converter.bags.time_spans import TimeSpan
from kuavo_bag_converter.inspection.report import FieldValues, FirstPicture, HeaderStamps
from kuavo_bag_converter.inspection.timing import header_stamps_of
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.fields import FieldReader, HEADER, numeric_fields
from kuavo_bag_converter.messages.identity import named_path
from kuavo_bag_converter.messages.images import ColorDecoder, picture_info
from kuavo_bag_converter.messages.picture_messages import PictureMessages
from kuavo_bag_converter.support.errors import BagError, ImageError
import numpy as np

FIRST_VALUES = 8
_WITHIN = 600
"""Pictures among which a key frame is searched."""
WINDOWS = 10
WINDOW_S = 0.1
FEW = 32
"""Topics with no more messages are read whole."""


class FirstMessage(NamedTuple):
    """The first message of a topic."""

    connection: Connection
    stamp: int
    """Receive stamp, ns."""
    data: bytes


class SampledContents(NamedTuple):
    """What was read of a bag."""

    first: Mapping[str, FirstMessage]
    header: Mapping[str, HeaderStamps]


def has_header(connection: Connection, definitions: Definitions) -> bool:
    """Tell whether messages can be decoded and begin with a ``std_msgs/Header``."""
    try:
        fields = definitions.decoder(connection).fields()
    except BagError:
        return False
    return next(iter(fields.values()), None) == HEADER


def read_contents(reader: BagReader, sample: MessageSample) -> SampledContents:
    """
    Read the messages of a sample.

    :raises BagError: The bag is damaged there.
    """
    first: dict[str, FirstMessage] = {}
    stamps: dict[str, list[tuple[int, int, int]]] = {topic: [] for topic in sample.with_header}
    for message in reader.messages(sample.wanted):
        topic = message.connection.topic
        if message.ordinal == 0:
            first[topic] = FirstMessage(message.connection, message.stamp, bytes(message.data))
        if topic in stamps:
            header = header_stamp(message.connection.encoding, message.data)
            if header is not None:
                stamps[topic].append((message.ordinal, message.stamp, header))
    reader.verify_rest(needed=True)
    return SampledContents(
        first, {topic: _measured(rows) for topic, rows in stamps.items() if rows}
    )


def _measured(rows: Sequence[tuple[int, int, int]]) -> HeaderStamps:
    table = np.array(rows, dtype=np.int64)
    ordinals: Ordinals = table[:, 0]
    return header_stamps_of(ordinals, table[:, 1], table[:, 2])


def picture_of(message: FirstMessage, definitions: Definitions) -> FirstPicture | None:
    """
    Describe the picture of a message; None if it has none.

    :raises BagError: The picture is damaged or of a kind that is not supported.
    """
    connection, data = message.connection, message.data
    try:
        PictureMessages(connection, definitions)
    except BagError:
        return None
    info = picture_info(connection, definitions, data)
    return FirstPicture(
        info.codec, info.encoding, info.width, info.height, info.channels, info.upright, len(data)
    )


def first_key_frame(
    reader: BagReader, topic: str, picture: FirstPicture, definitions: Definitions
) -> FirstPicture:
    """Find the first message of a stream that shows a picture, and take its size."""
    decoders: dict[int, ColorDecoder] = {}
    count = 0
    try:
        for message in reader.first_messages(topic, _WITHIN):
            connection = message.connection
            if connection.id not in decoders:
                decoders[connection.id] = ColorDecoder(connection, definitions)
            shown = decoders[connection.id].feed(count, message.data)
            count += 1
            if found := _first_shown(shown):
                break
        else:
            found = _first_shown(picture for one in decoders.values() for picture in one.flush())
    except BagError:
        found = None  # what is wrong with it is said elsewhere
    if found is None:
        return replace(picture, before_key=count)
    before, frame = found
    return replace(picture, width=frame.width, height=frame.height, before_key=before)


def _first_shown(
    shown: Iterable[tuple[int, Callable[[], av.VideoFrame]]],
) -> tuple[int, av.VideoFrame] | None:
    for key, give in shown:
        with suppress(ImageError):
            return key, give()
    return None


def fields_of(message: FirstMessage, definitions: Definitions) -> dict[str, FieldValues]:
    """
    Read the numbers of a message that are not of its header.

    :raises BagError: The message cannot be decoded.
    """
    connection, data = message.connection, message.data
    decoder = definitions.decoder(connection)
    decoded = decoder(data)
    return {
        named_path(decoder, path, decoded): _values(path, kind, connection, decoded, definitions)
        for path, kind in numeric_fields(decoder).items()
        if 'header' not in path.split('.')
    }


def _values(
    path: str, kind: str, connection: Connection, decoded: Any, definitions: Definitions
) -> FieldValues:
    try:
        values = FieldReader((path,), connection, definitions).read(decoded)
    except BagError:
        values = np.empty(0)  # of an element of an empty list
    first = tuple(float(v) if np.isfinite(v) else None for v in values[:FIRST_VALUES])
    return FieldValues(kind, len(values) if kind.endswith(']') else None, first)


class MessageSample(NamedTuple):
    """Messages to read."""

    wanted: dict[str, Ordinals]
    with_header: Collection[str]
    """Topics whose header stamps are measured."""
    text: str
    """Which messages' header stamps are read."""


def choose(
    receive: Mapping[str, Stamps], with_header: Collection[str], span: TimeSpan, size_bytes: int
) -> MessageSample:
    """
    Choose the first message of every topic, and those whose header stamps are measured.

    Those are all of a small bag, else those of a few windows of time that all topics share, so
    that few chunks must be read and decompressed.

    :param receive: Receive stamps of every topic, ascending.
    :param with_header: Topics that have header stamps.
    :param span: The time of the recording.
    :param size_bytes: Of its files.
    """
    whole = size_bytes <= WHOLE_BYTES
    starts = np.linspace(span.start, max(span.start, span.stop - WINDOW_S * 1e9), WINDOWS)
    wanted: dict[str, Ordinals] = {}
    read = total = 0
    for topic, stamps in receive.items():
        if not len(stamps):
            continue
        chosen: Ordinals = np.zeros(1, dtype=np.int64)
        if topic in with_header:
            total += len(stamps)
            if whole or len(stamps) <= FEW:
                chosen = np.arange(len(stamps), dtype=np.int64)
            else:
                chosen = np.union1d(chosen, _in_windows(stamps, starts.astype(np.int64)))
            read += len(chosen)
        wanted[topic] = chosen
    if read == total:
        return MessageSample(wanted, with_header, 'all messages')
    return MessageSample(
        wanted,
        with_header,
        f'{read} of {total} messages, in {WINDOWS} windows of {WINDOW_S:g} s evenly spread',
    )


def _in_windows(stamps: Stamps, starts: Stamps) -> Ordinals:
    low = np.searchsorted(stamps, starts)
    high = np.searchsorted(stamps, starts + round(WINDOW_S * 1e9))
    return np.concatenate([np.arange(a, b) for a, b in zip(low, high, strict=True)])
