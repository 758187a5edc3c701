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

"""What a bag holds for the frames of its plan: pictures as they are stored, and rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kuavo_bag_converter.alignment.binding import bind, Binding
from kuavo_bag_converter.alignment.plan import Plan
from kuavo_bag_converter.alignment.planning import plan_bag
from kuavo_bag_converter.alignment.selection import select_messages
from kuavo_bag_converter.bags.discover import find_recordings
from kuavo_bag_converter.bags.model import Ordinals
from kuavo_bag_converter.bags.open import open_bag
from kuavo_bag_converter.frames.aligned import iter_chunks
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.picture_headers import JPEG_MAGIC, PNG_MAGIC
from kuavo_bag_converter.robots.resolve import resolve, topics_of
from kuavo_bag_converter.settings import Settings
from kuavo_bag_converter.support.errors import BagError
import numpy as np
import numpy.typing as npt

_LONGEST_HEAD = 512


class ServedPicture(NamedTuple):
    """A picture and the frames that it serves."""

    key: str
    """Of the camera feature."""
    frames: list[int]
    data: bytes
    """JPEG or PNG, without what the message has around it."""


class ServedBag:
    """An open bag and its plan."""

    def __init__(self, settings: Settings) -> None:
        """
        Open the first of ``settings.bags`` and plan its frames.

        :raises BagError: It cannot be read or aligned.
        """
        self._settings = settings
        recording = find_recordings(settings.bags)[0]
        self._bag = open_bag(recording, reader=settings.reader, on_damage=settings.on_damage)
        profile = resolve(settings, topics_of(self._bag, settings))
        definitions = Definitions(settings.msg_path, settings.distro)
        self.binding: Binding
        self.binding, self._reader = select_messages(
            bind(profile, self._bag), self._bag, definitions
        )
        self.plan: Plan = plan_bag(self.binding, self._reader, definitions)

    def pictures(self, frames: Ordinals) -> Iterator[ServedPicture]:
        """
        Yield the pictures of all cameras that serve these frames, as they are stored.

        :raises BagError: A picture is neither JPEG nor PNG.
        """
        serving: dict[tuple[str, int], list[tuple[str, int]]] = {}
        for camera in self.binding.cameras:
            ordinals = self.plan.tracks[camera.track].first[frames].tolist()
            for frame, ordinal in zip(frames.tolist(), ordinals, strict=True):
                place = (camera.source.topic, ordinal)
                serving.setdefault(place, []).append((camera.feature.key, frame))
        wanted = {
            topic: np.unique([ordinal for other, ordinal in serving if other == topic])
            for topic in {topic for topic, _ in serving}
        }
        for message in self._reader.messages(wanted):
            topic = message.connection.topic
            data = _picture(topic, bytes(message.data))
            users: dict[str, list[int]] = {}
            for key, frame in serving[topic, message.ordinal]:
                users.setdefault(key, []).append(frame)
            for key, served in users.items():
                yield ServedPicture(key, served, data)

    def rows(self) -> dict[str, npt.NDArray[np.float32]]:
        """
        Return the rows of every vector feature, shape (frames, n).

        :raises BagError: A message cannot be decoded.
        """
        settings, profile = self._settings, self.binding.profile
        chunks = iter_chunks(
            self._bag, profile, msg_path=settings.msg_path, distro=settings.distro
        )
        parts = [chunk.vectors for chunk in chunks]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def __enter__(self) -> ServedBag:
        return self

    def __exit__(self, *_: object) -> None:
        self._bag.close()


def _picture(topic: str, message: bytes) -> bytes:
    starts = [message.find(magic, 0, _LONGEST_HEAD) for magic in (JPEG_MAGIC, PNG_MAGIC)]
    found = [start for start in starts if start >= 0]
    if not found:
        raise BagError(
            f'{topic}: its pictures are neither JPEG nor PNG, which the benchmark needs'
        )
    return message[slice(min(found), None)]
