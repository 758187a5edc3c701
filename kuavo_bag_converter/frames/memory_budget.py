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

"""How much memory a conversion needs, and what a limit leaves for messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from kuavo_bag_converter.frames.kinds import CameraKind
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.memory import MB, resident_bytes

_TABLES = 16 * MB
_LEAST_WAITING = 1 * MB
_MOST_WAITING = 16 * MB
_MOST_HELD = 32 * MB


class MemoryShares(NamedTuple):
    """What may be in memory of messages, bytes."""

    waiting: int
    """Messages that wait for the workers."""
    held: int
    """Messages that cameras hold for frames to come."""


def memory_shares(limit_mb: int, cameras: Iterable[CameraKind[Any]]) -> MemoryShares:
    """
    Return how many bytes of messages may be in memory; with a limit, what it leaves.

    :param limit_mb: ``memory_limit_mb``; 0 is no limit.
    :param cameras: Of the bag.
    :raises UsageError: The limit is below what the encoders and libraries need.
    """
    if not limit_mb:
        return MemoryShares(_MOST_WAITING, _MOST_HELD)
    needed = resident_bytes() + _TABLES + sum(camera.memory_bytes for camera in cameras)
    left = limit_mb * MB - needed
    if left < _LEAST_WAITING:
        enough = -(-(needed + _LEAST_WAITING) // MB)
        raise UsageError(
            f'memory_limit_mb: {limit_mb} is too small for these cameras and vcodec, which need '
            f'about {enough}; raise it, or use fewer or smaller cameras'
        )
    waiting = min(max(_LEAST_WAITING, left // 3), _MOST_WAITING)
    return MemoryShares(waiting, min(left - waiting, _MOST_HELD))
