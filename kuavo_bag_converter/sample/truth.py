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
The truth of a sample: when each message was stamped, and what its values say.

Joint and gripper values are straight lines in time, so that interpolating between two messages
gives the exact value, and so that any single value gives its time back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
import json
from pathlib import Path
from typing import Any

from kuavo_bag_converter.bags.model import Stamps
import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ramp:
    """A vector that goes from ``first`` to ``last``, both of shape (d,), in ``duration`` ns."""

    start: int
    duration: int
    first: Vector
    last: Vector

    def at(self, times: int | Stamps) -> Vector:
        """Return the values at times in ns: shape (d,) for one time, (n, d) for n of them."""
        share = (np.asarray(times, np.int64) - self.start) / self.duration
        return self.first + (self.last - self.first) * share[..., None]

    def times(self, values: npt.ArrayLike) -> Vector:
        """
        Return the time in ns since ``start`` that each element of ``values`` encodes.

        :param values: Shape (d,) or (n, d), in the unit of the message.
        """
        share = (np.asarray(values, np.float64) - self.first) / (self.last - self.first)
        return share * self.duration


@dataclass(frozen=True, eq=False)
class TopicTruth:
    """The messages of one topic; element i of the arrays belongs to ordinal i."""

    msgtype: str
    rate: float
    """Nominal messages per second; 0 for a single message."""
    receive: Stamps
    header: Stamps | None
    """Stamps of the headers; None for messages without one."""
    time: Stamps
    """What the values encode; the header stamp where that is set."""
    camera: str = ''
    """Camera of the frame numbers, which are the ordinals; '' where there are no pictures."""
    ramps: dict[str, Ramp] = field(default_factory=dict)
    """Truth of the values by field path; of a quaternion, its angle about z in rad."""


@dataclass(frozen=True, eq=False)
class SampleTruth:
    """All topics of a sample, and the options that it was made with."""

    start: int
    """Ns since the epoch; the header grid of all topics begins here."""
    duration: int
    """Ns."""
    topics: dict[str, TopicTruth]
    options: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write the truth as JSON; stamps are stored relative to ``start``."""
        topics = {}
        for name, topic in self.topics.items():
            header = None if topic.header is None else (topic.header - self.start).tolist()
            topics[name] = {
                'msgtype': topic.msgtype,
                'rate': topic.rate,
                'camera': topic.camera,
                'receive_ns': (topic.receive - self.start).tolist(),
                'header_ns': header,
                'time_ns': (topic.time - self.start).tolist(),
                'ramps': {
                    path: {'first': ramp.first.tolist(), 'last': ramp.last.tolist()}
                    for path, ramp in topic.ramps.items()
                },
            }
        document = {
            'start_ns': self.start,
            'duration_ns': self.duration,
            'options': self.options,
            'topics': topics,
        }
        path.write_text(json.dumps(document), encoding='utf-8')

    @classmethod
    def load(cls, path: Path) -> SampleTruth:
        """Read what ``save`` wrote."""
        document = json.loads(path.read_text(encoding='utf-8'))
        start, duration = document['start_ns'], document['duration_ns']

        def stamps(offsets: list[int]) -> Stamps:
            moved: Stamps = np.asarray(offsets, np.int64) + start
            return moved

        topics = {}
        for name, topic in document['topics'].items():
            header = topic['header_ns']
            topics[name] = TopicTruth(
                msgtype=topic['msgtype'],
                rate=topic['rate'],
                receive=stamps(topic['receive_ns']),
                header=None if header is None else stamps(header),
                time=stamps(topic['time_ns']),
                camera=topic['camera'],
                ramps={
                    field_path: Ramp(
                        start, duration, np.asarray(ramp['first']), np.asarray(ramp['last'])
                    )
                    for field_path, ramp in topic['ramps'].items()
                },
            )
        return cls(start, duration, topics, document['options'])
