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
Pictures and poses that the Foxglove SDK logs as JSON.

Schemas: https://docs.foxglove.dev/docs/sdk/schemas
"""

from __future__ import annotations

import base64
import json

_STAMP = 'builtin_interfaces/Time timestamp\nstring frame_id\n'


class _FoxgloveJson:
    encoding = 'json'
    msgtypes = {  # noqa: RUF012
        # A message with the fields format and data is a picture.
        'foxglove.CompressedImage': f'{_STAMP}string format\nuint8[] data',
        'foxglove.PoseInFrame': f'{_STAMP}geometry_msgs/Pose pose',
    }

    def decode(self, msgtype: str, payload: memoryview) -> object:
        message = json.loads(bytes(payload))
        message['timestamp']['nanosec'] = message['timestamp'].pop('nsec')
        if msgtype == 'foxglove.CompressedImage':
            message['data'] = base64.b64decode(message['data'], validate=True)
        return message


DECODER = _FoxgloveJson()
