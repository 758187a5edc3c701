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

"""Messages that hold pictures, and where in them the picture is, by the fields of their type."""

from __future__ import annotations

from typing import Any, NamedTuple

from kuavo_bag_converter.bags.model import Connection, NS_PER_S
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.video_streams import stream_codec
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.texts import shown

_RAW = frozenset({'height', 'width', 'encoding', 'step', 'data'})
"""``sensor_msgs/Image``, ``foxglove.RawImage``."""


class _Form(NamedTuple):
    """A kind of message whose picture or part of a stream is in its field ``data``."""

    fields: frozenset[str]
    """Those that tell such a message."""
    description: str
    """The field that names the codec."""
    number: str
    """The field that numbers the packets of a stream, '' for none."""
    codec: str = ''
    """What it is where no field tells."""


_FORMS = (
    # ffmpeg_image_transport_msgs/FFMPEGPacket
    _Form(frozenset({'encoding', 'pts', 'flags', 'data'}), 'encoding', 'pts'),
    # theora_image_transport/Packet
    _Form(frozenset({'granulepos', 'packetno', 'data'}), '', 'packetno', 'theora'),
    # sensor_msgs/CompressedImage, foxglove.CompressedImage, foxglove.CompressedVideo
    _Form(frozenset({'format', 'data'}), 'format', ''),
)


class Compressed(NamedTuple):
    """A compressed picture, or a part of a stream."""

    data: memoryview
    description: str
    """The message's own words for its format."""
    number: int | None
    """Of a packet in its stream, else the stamp of the message in ns; None if it has neither."""
    frame_id: str
    """Of the camera: topics that several share have a stream for each."""


class PictureMessages:
    """Decodes the messages of a connection, and finds the pictures in them."""

    def __init__(self, connection: Connection, definitions: Definitions) -> None:
        """
        Look at the type of a connection.

        :param connection: Of a topic with pictures.
        :param definitions: Where message definitions come from.
        :raises BagError: The type holds no picture, or its definition is missing.
        """
        self.decode = definitions.decoder(connection)
        """Decodes a payload; raises BagError if it does not fit its definition."""
        fields = self.decode.fields().keys()
        self._is_raw = fields >= _RAW
        form = next((form for form in _FORMS if fields >= form.fields), None)
        if form is None and not self._is_raw:
            raise BagError(
                f'{connection.label}: {shown(connection.msgtype)} holds no picture; expected '
                'sensor_msgs/msg/CompressedImage or sensor_msgs/msg/Image'
            )
        self._form = form

    def compressed(self, message: Any) -> Compressed | None:
        """Return the compressed picture of a decoded message; None where it holds pixels."""
        form = self._form
        if self._is_raw or form is None:
            if not stream_codec(message.encoding):
                return None
            number = _stamp(message)
            return Compressed(memoryview(message.data), message.encoding, number, _frame(message))
        description = getattr(message, form.description) if form.description else form.codec
        number = getattr(message, form.number) if form.number else _stamp(message)
        return Compressed(memoryview(message.data), description, number, _frame(message))


def _frame(message: Any) -> str:
    header = getattr(message, 'header', message)
    return str(getattr(header, 'frame_id', ''))


def _stamp(message: Any) -> int | None:
    header = getattr(message, 'header', message)
    stamp = getattr(header, 'stamp', getattr(message, 'timestamp', None))
    seconds = getattr(stamp, 'sec', getattr(stamp, 'seconds', None))
    if seconds is None:
        return None
    parts = (getattr(stamp, name, None) for name in ('nanosec', 'nsec', 'nanos'))
    return int(seconds) * NS_PER_S + next((int(part) for part in parts if part is not None), 0)
