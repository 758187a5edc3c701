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
The part of cv_bridge that the backend uses, with the traps that are known of it.

Big-endian images fail with numpy 2, padding of rows is not skipped, and the encodings are those
of Humble.
"""

from __future__ import annotations

from contextlib import contextmanager
import re
import sys

import cv2
from kuavo_bag_converter import messages
import numpy as np

BACKEND = 'kuavo_bag_converter.messages.cv_bridge_backend'
_COLOR = re.compile(r'(?:rgb|bgr|rgba|bgra|mono|bayer_[rgb]{4})(8|16)|8UC1|yuv422(?:_yuy2)?')
_CODES = {
    'bayer_rggb': cv2.COLOR_BayerBG2BGR,
    'bayer_bggr': cv2.COLOR_BayerRG2BGR,
    'bayer_gbrg': cv2.COLOR_BayerGR2BGR,
    'bayer_grbg': cv2.COLOR_BayerGB2BGR,
    'yuv422': cv2.COLOR_YUV2BGR_UYVY,
    'yuv422_yuy2': cv2.COLOR_YUV2BGR_YUY2,
}


class CvBridgeError(TypeError):
    pass


class CvBridge:
    """Converts messages to pictures."""

    def imgmsg_to_cv2(self, img_msg, desired_encoding='passthrough'):
        if img_msg.is_bigendian:
            raise AttributeError('`newbyteorder` was removed from the ndarray class in NumPy 2.0')
        if img_msg.step * img_msg.height > len(img_msg.data):
            raise TypeError('buffer is too small for requested array')
        encoding = img_msg.encoding
        match = _COLOR.fullmatch(encoding)
        if match is None:
            raise CvBridgeError(f'Unrecognized image encoding [{encoding}]')
        dtype = np.uint16 if match[1] == '16' else np.uint8
        channels = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'yuv422': 2, 'yuv422_yuy2': 2}
        shape = (img_msg.height, img_msg.width, channels.get(encoding, 1))
        pixels = np.ndarray(shape, dtype, buffer=img_msg.data)
        pixels = pixels[..., 0] if shape[2] == 1 else pixels
        if desired_encoding in ('passthrough', encoding):
            return pixels
        code = _CODES.get(encoding.removesuffix('8').removesuffix('16'))
        expected = 'mono8' if code is None else 'bgr8'
        if desired_encoding != expected:
            raise CvBridgeError(f'no conversion from {encoding} to {desired_encoding}')
        pixels = pixels if code is None else cv2.cvtColor(pixels, code)
        if dtype == np.uint16:
            pixels = cv2.convertScaleAbs(pixels, alpha=255 / 65535)
        return pixels


@contextmanager
def installed():
    """Put this in the place of cv_bridge."""
    before = sys.modules.get('cv_bridge')
    sys.modules['cv_bridge'] = sys.modules[__name__]
    _forget_backend()
    try:
        yield
    finally:
        _forget_backend()
        if before:
            sys.modules['cv_bridge'] = before
        else:
            del sys.modules['cv_bridge']


def _forget_backend():
    sys.modules.pop(BACKEND, None)
    vars(messages).pop('cv_bridge_backend', None)
