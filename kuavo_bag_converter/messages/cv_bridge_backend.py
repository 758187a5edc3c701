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

"""Image messages through ROS's cv_bridge, where it is installed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from cv_bridge import CvBridge, CvBridgeError
from kuavo_bag_converter.messages import raw_images
from kuavo_bag_converter.messages.picture_remarks import PictureRemarks
from kuavo_bag_converter.messages.raw_images import encoding_of, Pixels, pixels_of
from kuavo_bag_converter.support.errors import BagError
import numpy as np

_DESIRED = {'bgr24': 'bgr8', 'gray': 'mono8'}
_OLD_NAMES = {'uyvy': 'yuv422', 'yuyv': 'yuv422_yuy2'}
"""Humble's cv_bridge does not know the names of later distros."""
_CONVERTED = ('mono16', 'yuv422', 'bayer_')
"""Beginnings of what needs more than a view of the payload."""

_bridge = CvBridge()


def color_of(
    message: Any,
    value_range: tuple[float, float] | None = None,
    remarks: PictureRemarks | None = None,
) -> tuple[Pixels, str]:
    """
    Return what :func:`raw_images.color_of` returns, converted by cv_bridge where it can.

    :raises BagError: The encoding is not supported, or is no colour.
    :raises ImageError: Size, step and data do not fit each other.
    """
    name = _OLD_NAMES.get(message.encoding, message.encoding)
    if value_range is not None or not name.startswith(_CONVERTED):
        return raw_images.color_of(message, value_range, remarks)
    encoding = encoding_of(message)
    raw_images.check_color(message, encoding)
    pixels = np.ascontiguousarray(pixels_of(message))
    if remarks is not None and encoding.dtype != 'u1':
        remarks.values(pixels, None)
    # cv_bridge 4.1 fails on other byte orders with numpy 2, and some versions ignore the step.
    plain = SimpleNamespace(
        height=message.height,
        width=message.width,
        encoding=name,
        is_bigendian=0,
        step=pixels.nbytes // message.height,
        data=pixels.view(np.uint8).reshape(-1),
    )
    try:
        return _bridge.imgmsg_to_cv2(plain, _DESIRED[encoding.pix_fmt]), encoding.pix_fmt
    except CvBridgeError as error:
        raise BagError(f'cv_bridge: {error}') from None
