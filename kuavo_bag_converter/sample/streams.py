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

"""The pictures of one camera as a video stream, one access unit for each message."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

import av
from av.video.codeccontext import VideoCodecContext
import numpy as np
import numpy.typing as npt

KEY_INTERVAL = 30
"""Pictures from one key frame to the next; parameter sets are sent before each."""

# Without B-frames, look-ahead and threads, every picture is out before the next comes in.
_ENCODERS = {
    'h264': (
        'libx264',
        {
            'preset': 'ultrafast',
            'tune': 'zerolatency',
            'crf': '23',
            'x264-params': f'keyint={KEY_INTERVAL}:min-keyint={KEY_INTERVAL}:scenecut=0',
        },
    ),
    'h265': (
        'libx265',
        {
            'preset': 'ultrafast',
            'tune': 'zerolatency',
            'crf': '23',
            'x265-params': f'keyint={KEY_INTERVAL}:min-keyint={KEY_INTERVAL}:scenecut=0'
            ':repeat-headers=1:pools=none:frame-threads=1:log-level=none',
        },
    ),
}


class StreamEncoder:
    """Encodes the pictures of one camera, to be given in their order."""

    def __init__(self, codec: str, size: tuple[int, int]) -> None:
        """Prepare for ``h265`` or ``h264`` and pictures of ``size`` (height, width), both even."""
        name, options = _ENCODERS[codec]
        context = cast('VideoCodecContext', av.CodecContext.create(name, 'w'))
        context.height, context.width = size
        context.pix_fmt = 'yuv420p'
        context.framerate = Fraction(30)
        context.thread_count = 1
        context.options = options
        self._context = context
        self._count = 0

    def encode(self, picture: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Return the access unit (Annex B) of a BGR picture, uint8 (height, width, 3)."""
        frame = av.VideoFrame.from_ndarray(picture, format='bgr24').reformat(format='yuv420p')
        frame.pts = self._count
        self._count += 1
        (packet,) = self._context.encode(frame)
        return np.frombuffer(bytes(packet), np.uint8)
