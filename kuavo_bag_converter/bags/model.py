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
What a bag looks like to the rest of the converter, whatever its container.

The two passes of a conversion are the two reading methods of :class:`BagReader`: ``index`` gives
the stamps and touches no payload that it can avoid, ``messages`` streams the payloads of chosen
messages once, in storage order.

A message is known by its *ordinal*: its rank within its topic, by receive stamp, ties in storage
order. Ordinals do not depend on the container, on the backend or on the order in which
``messages`` yields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from kuavo_bag_converter.support.texts import shown
import numpy as np
import numpy.typing as npt

Stamps = npt.NDArray[np.int64]
"""Nanoseconds since the epoch, shape (n,)."""
NS_PER_S = 10**9

Ordinals = npt.NDArray[np.int64]
"""Ranks of messages within their topic, ascending, shape (n,)."""


class Connection(NamedTuple):
    """One publisher's declaration of a topic; a ROS 1 bag may have several for one topic."""

    id: int  # noqa: A003
    """Position in :attr:`BagReader.connections`."""
    topic: str
    msgtype: str
    """With the ``/msg/`` part, as in ``sensor_msgs/msg/Image``."""
    encoding: str
    """Of the payload: ``ros1``, ``cdr``, or what the container says (``protobuf``...)."""
    definition: str
    """Message definition with its dependencies as the bag embeds it, or ''."""
    definition_format: str
    """``msg``, ``idl``, ``protobuf`` (descriptors in base64), ``jsonschema`` or '' (no one)."""
    md5: str = ''
    latched: bool = False
    publisher: str = ''
    """Name of the publishing node (``callerid``), as ROS 1 records it and its conversions keep it;
    '' where the container does not tell."""

    @property
    def label(self) -> str:
        """Return the topic as messages to people name it."""
        return shown(self.topic)


def normal_type(name: str) -> str:
    """Type name with the ``/msg/`` part that ROS 1 and early ROS 2 bags leave out."""
    parts = name.split('/')
    return f'{parts[0]}/msg/{parts[1]}' if len(parts) == 2 else name


class Message(NamedTuple):
    """One message that a pass over the bag yields."""

    connection: Connection
    ordinal: int
    stamp: int
    """Receive stamp, ns."""
    data: bytes | memoryview
    """Serialized payload; valid until the next message is taken unless it is ``bytes``."""


class TopicIndex(NamedTuple):
    """The stamps of one topic, element i belonging to ordinal i."""

    receive: Stamps
    header: Stamps | None
    """Header stamps where they were asked for; 0 where the publisher left them unset."""
    backward: int = 0
    """Messages received before the one that is stored before them."""
    steps: tuple[int, ...] = ()
    """Places of the first messages after the recorder's clock was set back, ascending."""
    place: Ordinals | None = None
    """
    Place of each message among those of all topics asked for, as they are stored.

    None where the recorder's clock was not set back.
    """

    def only(self, ordinals: Ordinals) -> TopicIndex:
        """Return the stamps of some of the messages, ascending."""
        header = None if self.header is None else self.header[ordinals]
        index = self._replace(receive=self.receive[ordinals], header=header)
        if self.place is None:
            return index
        place = self.place[ordinals]
        stored = np.sort(place)
        after = np.unique(np.searchsorted(stored, self.steps))
        shown = after[(after > 0) & (after < len(stored))]
        return index._replace(place=place, steps=tuple(stored[shown].tolist()))


class BagReader(Protocol):
    """A readable recording: one file, or a directory of files that belong together."""

    path: Path
    container: str
    """``rosbag1``, ``mcap`` or ``sqlite3``."""
    backend: str
    """``portable`` or ``rosbag2_py``."""
    connections: Sequence[Connection]
    counts: Mapping[str, int]
    """Messages per topic, as stored (not as promised by metadata)."""
    connection_counts: Sequence[int]
    """Messages of each of the connections, as stored."""
    problems: list[str]
    """One line for each disagreement or damage found so far, for the report."""

    @property
    def compression(self) -> str | None:
        """
        How the first message is packed; None where there is none.

        ``lz4``, ``bz2`` or ``zstd`` for its chunk, ``zstd message`` for itself, ``zstd file``, or
        '' for not at all.

        :raises BagError: damage was found.
        """

    @property
    def bytes_read(self) -> int:
        """Payload and index bytes read from disk so far, where the backend can tell, else 0."""

    def index(
        self, topics: AbstractSet[str], header: AbstractSet[str] = frozenset()
    ) -> dict[str, TopicIndex]:
        """
        Collect stamps; topics of ``header`` get their header stamps too.

        :raises BagError: a topic is not in the bag, damage was found, or a topic of ``header`` has
            no ``std_msgs/Header`` as its first field.
        """

    def messages(self, wanted: Mapping[str, Ordinals]) -> Iterator[Message]:
        """
        Stream the wanted messages once, in storage order, reading others as little as possible.

        :raises BagError: damage was found, or a wanted message is not there.
        """

    def check_headers(self, topics: AbstractSet[str]) -> None:
        """
        Check that the messages of topics begin with a header, by their types.

        :raises BagError: a topic has no ``std_msgs/Header`` as its first field.
        """

    def first_messages(self, topic: str, limit: int) -> Iterator[Message]:
        """
        Stream up to ``limit`` messages of a topic that are stored first, without the index.

        The ordinal of each is its place in the file, which is another where stamps go back.

        :raises BagError: damage was found, or the topic is not in the bag.
        """

    def verify_rest(self, *, needed: bool = False) -> None:
        """
        Look for damage in what was not read, if the bag is small, and note it in ``problems``.

        :raises BagError: damage was found, and what lies there is ``needed``, too.
        """

    def qos(self, connection: Connection) -> list[dict[str, Any]]:
        """Return the QoS profiles that publishers offered, with the keys and words of rosbag2."""

    def close(self) -> None:
        """Release files; the reader cannot be used afterwards."""

    def __enter__(self) -> BagReader: ...

    def __exit__(self, *_: object) -> None: ...
