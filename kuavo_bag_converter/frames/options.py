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

"""How a bag becomes a shard, apart from the profile."""

from __future__ import annotations

from dataclasses import dataclass

from kuavo_bag_converter.dataset.features import VideoOptions
from kuavo_bag_converter.dataset.hardware import EncoderChoice
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.settings import AUTO, codec_of, FASTEST, PRESETS, Settings
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.machine import cores


@dataclass(frozen=True)
class ShardOptions:
    """How a bag becomes a shard, apart from the profile."""

    video: VideoOptions
    color_cameras: str
    """``encode``, ``copy`` to take their coded pictures as they are, ``auto`` where possible."""
    on_bad_image: str
    definitions: Definitions
    use_cv_bridge: bool
    """Convert the pixels of Image messages by cv_bridge; the pictures are the same."""
    chunk_size: int
    """Frames that are flushed together."""
    threads: int
    memory_limit_mb: int
    """0 for no limit."""
    stall_timeout_s: float
    debug_memory: bool = False
    encoders: EncoderChoice | None = None
    """Chooses encoders in hardware, if that was asked for."""
    encoded: frozenset[str] = frozenset()
    """Colour cameras of which ``auto`` copies nothing."""


def shard_options(settings: Settings) -> ShardOptions:
    """
    Return what settings say about making shards.

    :raises UsageError: A folder of ``msg_path`` does not exist, ``distro`` is not known, or a
        preset is given for encoders that have others.
    """
    if settings.vcodec not in PRESETS and settings.preset not in (AUTO, FASTEST):
        raise UsageError(
            f'preset {settings.preset!r} does not go with vcodec {settings.vcodec}, which has '
            f'presets of its own: leave it {AUTO}, or set vcodec: {codec_of(settings.vcodec)}'
        )
    return ShardOptions(
        video=video_options(settings),
        color_cameras=settings.video,
        on_bad_image=settings.on_bad_image,
        definitions=Definitions(settings.msg_path, settings.distro),
        use_cv_bridge=_has_cv_bridge(),
        chunk_size=settings.chunk_size,
        threads=settings.threads or cores(),
        memory_limit_mb=settings.memory_limit_mb,
        stall_timeout_s=settings.stall_timeout_s,
        debug_memory=settings.debug_memory,
    )


def video_options(settings: Settings) -> VideoOptions:
    """Return what settings say about encoders."""
    return VideoOptions(
        codec_of(settings.vcodec),
        settings.crf,
        settings.encoder_preset,
        settings.gop,
        settings.pix_fmt,
    )


def _has_cv_bridge() -> bool:
    """Tell whether cv_bridge can be imported, which one for another Python or numpy cannot."""
    try:
        from kuavo_bag_converter.messages import cv_bridge_backend  # noqa: F401  # may be missing
    except ImportError:
        return False
    return True
