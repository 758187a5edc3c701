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

"""Copies of ROS 1 bags that differ from them in one thing."""

from __future__ import annotations

from collections import Counter

from rosbags.rosbag1 import Reader, Writer


def copied(
    path, target, *, keep=None, renamed=None, restamped=None, edited=None, backwards=(),
    by_topic=False,
):  # fmt: skip
    """
    Copy a bag.

    ``keep(topic, number)`` tells which messages stay, ``renamed`` gives topics another name,
    ``restamped(topic, number, stamp)`` gives messages another receive stamp,
    ``edited(topic, number, data)`` another payload. The messages of the topics in ``backwards``
    are stored from the last to the first, with their stamps, in the places that they have.
    ``by_topic`` stores one topic after the other.
    """
    names = renamed or {}
    counts = Counter()
    with Reader(path) as bag, Writer(target) as copy:
        kept = {c.id: c for c in bag.connections}
        connections = {}
        last_first = {
            topic: iter([*bag.messages([c for c in bag.connections if c.topic == topic])][::-1])
            for topic in backwards
        }
        messages = [*bag.messages()]
        if by_topic:
            messages.sort(key=lambda message: message[0].topic)
        for message in messages:
            connection, stamp, data = next(last_first.get(message[0].topic, iter([message])))
            topic, number = connection.topic, counts[connection.topic]
            counts[topic] += 1
            if keep is not None and not keep(topic, number):
                continue
            if connection.id not in connections:
                original = kept[connection.id]
                connections[connection.id] = copy.add_connection(
                    names.get(topic, topic),
                    original.msgtype,
                    msgdef=original.msgdef.data,
                    md5sum=original.digest,
                    callerid=original.ext.callerid,
                    latching=original.ext.latching,
                )
            new = restamped(topic, number, stamp) if restamped else stamp
            payload = edited(topic, number, data) if edited else data
            copy.write(connections[connection.id], new, payload)
    return target
