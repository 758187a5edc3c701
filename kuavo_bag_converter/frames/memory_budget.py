"""How much memory a conversion needs, and what a limit leaves for messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kuavo_bag_converter.dataset.features import Feature, VideoOptions
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.memory import MB, resident_bytes

_ENCODER_BYTES_PER_PIXEL = {'h264': 30, 'hevc': 75, 'libsvtav1': 100, 'mjpeg': 1}
"""Measured with the settings that the dataset's encoders get, rounded up."""
_METRIC_DEPTH_BYTES_PER_PIXEL = 90
_PICTURE_BYTES_PER_PIXEL = 20
"""A camera's decoder, its picture, the scaled picture and a sample for the statistics."""
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


def memory_shares(limit_mb: int, cameras: Iterable[tuple[Feature, VideoOptions]]) -> MemoryShares:
    """Return how many bytes of messages may be in memory; with a limit, what it leaves.

    Args:
        limit_mb: ``memory_limit_mb``; 0 is no limit.
        cameras: The video features with their encoder settings.

    Raises:
        UsageError: The limit is below what the encoders and libraries need.

    """
    if not limit_mb:
        return MemoryShares(_MOST_WAITING, _MOST_HELD)
    needed = resident_bytes() + _TABLES
    for feature, options in cameras:
        height, width, _ = feature.shape
        encoder = _ENCODER_BYTES_PER_PIXEL[options.vcodec]
        if feature.depth is not None:
            encoder = _METRIC_DEPTH_BYTES_PER_PIXEL
        needed += height * width * (encoder + _PICTURE_BYTES_PER_PIXEL)
    left = limit_mb * MB - needed
    if left < _LEAST_WAITING:
        enough = -(-(needed + _LEAST_WAITING) // MB)
        raise UsageError(
            f'memory_limit_mb: {limit_mb} is too small for these cameras and vcodec, which need '
            f'about {enough}; raise it, or use fewer or smaller cameras'
        )
    waiting = min(max(_LEAST_WAITING, left // 3), _MOST_WAITING)
    return MemoryShares(waiting, min(left - waiting, _MOST_HELD))
