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

"""What the record of a conversion keeps of the topics that it used."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from kuavo_bag_converter.alignment.binding import Binding
from kuavo_bag_converter.alignment.planning import aligned_topics
from kuavo_bag_converter.bags.model import BagReader, Connection
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.texts import visible


def used_topics(binding: Binding) -> set[str]:
    """Return the topics whose messages are in the frames of a bag, or choose them."""
    parts = [part.source for vector in binding.vectors for part in vector.parts]
    return {*aligned_topics(binding), *(source.topic for source in parts if source is not None)}


def described_topics(
    topics: Collection[str], reader: BagReader, definitions: Definitions
) -> tuple[Mapping[str, Any], ...]:
    """
    Return type, encoding, definition and offered QoS profiles of topics, as JSON can hold them.

    A topic of several types has an entry for each.

    :param topics: Which; those without messages are left out.
    :param reader: The bag.
    :param definitions: Where the definitions come from that the bag does not embed.
    """
    return tuple(_described(topics, reader, definitions))


def _described(
    topics: Collection[str], reader: BagReader, definitions: Definitions
) -> Iterator[Mapping[str, Any]]:
    alike: dict[Connection, list[Connection]] = {}
    for connection in reader.connections:
        if connection.topic in topics and reader.connection_counts[connection.id]:
            declared = connection._replace(publisher='', latched=False, id=0)
            alike.setdefault(declared, []).append(connection)
    for _, connections in sorted(alike.items()):
        first = connections[0]
        entry: dict[str, Any] = {
            'topic': visible(first.topic),
            'type': visible(first.msgtype),
            'encoding': visible(first.encoding),
        }
        if first.md5:
            entry['md5'] = visible(first.md5)
        if any(connection.latched for connection in connections):
            entry['latched'] = True
        definition = _definition_of(first, definitions)
        if definition:
            entry['definition'] = definition
        profiles: list[Mapping[str, Any]] = []
        for connection in connections:
            offered = reader.qos(connection)
            profiles += [profile for profile in offered if profile not in profiles]
        if profiles:
            entry['qos'] = profiles
        yield entry


def _definition_of(connection: Connection, definitions: Definitions) -> Mapping[str, Any]:
    """Return the text of a definition; where the bag embeds none, that of what it is read by."""
    if connection.definition.strip():
        return {
            'format': connection.definition_format,
            'embedded': True,
            'text': connection.definition,
        }
    try:
        text = definitions.decoder(connection).text()
    except BagError:
        return {}
    return {'format': 'msg', 'embedded': False, 'text': text} if text else {}
