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

"""What a bag says of where its cameras are and how they see, for the record of a conversion."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
import math
from typing import Any

from kuavo_bag_converter.alignment.binding import Binding, BoundCamera
from kuavo_bag_converter.bags.model import BagReader, Connection, Message
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.texts import shown
import numpy as np

_CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
_TRANSFORMS = ('tf2_msgs/msg/TFMessage', 'tf/msg/tfMessage')
_STATIC = 'tf_static'
_STAMPED = 12
"""Bytes at the beginning of a message with a header that hold its stamp, of ROS 1 and CDR."""
_LOOKED_AT = 16
"""Messages of a camera_info that are read, evenly spread: in each, it should be the same."""
_MOST_STATIC = 1000
"""Messages of a topic of static transforms that are read; they are few, unless repeated."""


@dataclass(frozen=True)
class Calibration:
    """Intrinsics and static transforms, as JSON can hold them."""

    cameras: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By feature; of pictures as they are recorded, before crop, rotate and size."""
    static_transforms: tuple[Mapping[str, Any], ...] = ()
    remarks: tuple[str, ...] = ()
    """What was noticed, each in a line."""

    @property
    def topics(self) -> set[str]:
        """Return the topics that it is read from."""
        return {one['topic'] for one in (*self.cameras.values(), *self.static_transforms)}

    def as_json(self) -> dict[str, Any]:
        """Return what there is of it."""
        found = {
            'cameras': dict(self.cameras),
            'static_transforms': list(self.static_transforms),
        }
        return {name: value for name, value in found.items() if value}


def read_calibration(binding: Binding, reader: BagReader, definitions: Definitions) -> Calibration:
    """
    Read the camera_info of each camera and all static transforms; what is damaged is left out.

    :param binding: What of the bag is used.
    :param reader: The bag.
    :param definitions: Where message definitions come from.
    """
    cameras: dict[str, Mapping[str, Any]] = {}
    remarks: list[str] = []
    topics = {bound.feature.key: _info_topic(bound, reader) for bound in binding.cameras}
    spread = _spread({topic for topic in topics.values() if topic is not None}, reader)
    for bound in binding.cameras:
        key = bound.feature.key
        topic = topics[key]
        if topic is not None:
            with _noting(remarks, f'nothing is recorded of it ({key})'):
                infos = _infos_of(topic, spread(topic), definitions)
                cameras[key] = infos[0]
                others = sum(info != infos[0] for info in infos)
                if others:
                    remarks.append(
                        f'{shown(topic)}: changes within the bag, {others} of {len(infos)} '
                        'messages that were looked at differ from the first, which is recorded '
                        f'({key})'
                    )
        elif bound.feature.info_topic:
            remarks.append(
                f'{shown(bound.feature.info_topic)}: no {_CAMERA_INFO} in the bag, nothing is '
                f'recorded of it ({key})'
            )
    transforms: dict[tuple[str, str], Mapping[str, Any]] = {}
    for topic in _static_topics(reader):
        with _noting(remarks, 'its transforms are not recorded'):
            for message in reader.first_messages(topic, _MOST_STATIC):
                for transform in _transforms_of(topic, _decoded(message, definitions)):
                    transforms[transform['parent'], transform['child']] = transform
    return Calibration(cameras, tuple(transforms.values()), tuple(remarks))


@contextmanager
def _noting(remarks: list[str], consequence: str) -> Iterator[None]:
    """Turn what cannot be read into a remark: no frame needs it."""
    try:
        yield
    except (BagError, AttributeError) as error:
        remarks.append(f'{error}; {consequence}')


def _static_topics(reader: BagReader) -> list[str]:
    return sorted({
        connection.topic
        for connection in reader.connections
        if connection.msgtype in _TRANSFORMS
        and connection.topic.rpartition('/')[2] == _STATIC
        and reader.counts.get(connection.topic)
    })  # fmt: skip


def _info_topic(bound: BoundCamera, reader: BagReader) -> str | None:
    """Return the camera_info beside a camera's topic, as image_transport places it."""
    parent = bound.source.topic.rpartition('/')[0]
    beside = [f'{folder}/camera_info' for folder in (parent, parent.rpartition('/')[0])]
    wanted = [bound.feature.info_topic] if bound.feature.info_topic else beside
    there = {
        connection.topic
        for connection in reader.connections
        if connection.msgtype == _CAMERA_INFO and reader.counts.get(connection.topic)
    }
    return next((topic for topic in wanted if topic in there), None)


def _spread(topics: Collection[str], reader: BagReader) -> Callable[[str], Iterable[Message]]:
    """Return what gives some messages of each of the topics; the index is read once for all."""
    if reader.backend != 'portable':  # it would read all that lies between
        return lambda topic: reader.first_messages(topic, _LOOKED_AT)
    chosen = {
        topic: np.unique(np.linspace(0, reader.counts[topic] - 1, _LOOKED_AT).round().astype(int))
        for topic in topics
    }
    found: dict[str, list[Message]] = {topic: [] for topic in topics}
    try:
        for message in reader.messages(chosen):
            kept = message._replace(data=bytes(message.data))
            found[message.connection.topic].append(kept)
    except BagError:  # of one of them; the others are read by themselves
        return lambda topic: reader.messages({topic: chosen[topic]})
    return found.__getitem__


def _decoded(message: Message, definitions: Definitions) -> Any:
    return definitions.decoder(message.connection)(bytes(message.data))


def _infos_of(
    topic: str, messages: Iterable[Message], definitions: Definitions
) -> list[Mapping[str, Any]]:
    """Return the CameraInfo of each message; those that differ by their stamp alone are one."""
    known: dict[tuple[Connection, bytes], Mapping[str, Any]] = {}
    infos = []
    for message in messages:
        key = message.connection, bytes(message.data[_STAMPED:])
        if key not in known:
            known[key] = _info_of(topic, _decoded(message, definitions))
        infos.append(known[key])
    return infos


def _info_of(topic: str, message: Any) -> Mapping[str, Any]:
    """Return a CameraInfo, of ROS 1 or 2."""
    matrices = {name: _numbers(_either(message, name)) for name in ('d', 'k', 'r', 'p')}
    return {
        'topic': topic,
        'frame_id': message.header.frame_id,
        'width': int(message.width),
        'height': int(message.height),
        'distortion_model': message.distortion_model,
        **matrices,
    }


def _either(message: Any, name: str) -> Any:
    return getattr(message, name) if hasattr(message, name) else getattr(message, name.upper())


def _numbers(values: Iterable[float]) -> list[float | None]:
    """Return numbers as JSON can hold them; None for NaN and infinity."""
    return [float(value) if math.isfinite(value) else None for value in values]


def _transforms_of(topic: str, message: Any) -> Iterator[Mapping[str, Any]]:
    for stamped in message.transforms:
        moved, turned = stamped.transform.translation, stamped.transform.rotation
        yield {
            'topic': topic,
            'parent': stamped.header.frame_id,
            'child': stamped.child_frame_id,
            'translation': _numbers((moved.x, moved.y, moved.z)),
            'rotation_xyzw': _numbers((turned.x, turned.y, turned.z, turned.w)),
        }
