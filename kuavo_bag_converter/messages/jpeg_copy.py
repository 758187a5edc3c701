"""The JPEG of a message as it is, for videos whose packets are the bag's own pictures."""

from __future__ import annotations

from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.errors import ImageError
from kuavo_bag_converter.messages.definitions import Definitions

_START = b'\xff\xd8'
_END = b'\xff\xd9'


class JpegCopier:
    """Takes the JPEG out of the messages of one camera."""

    def __init__(self, connection: Connection, definitions: Definitions) -> None:
        """Prepare for a connection whose messages have ``data``, as CompressedImage."""
        self._topic = connection.topic
        self._message = definitions.decoder(connection)

    def decode(self, data: bytes) -> bytes:
        """Return the JPEG of a message, undecoded.

        Raises:
            ImageError: It is no JPEG, or ends before its end marker.
            BagError: The message does not fit its definition.

        """
        jpeg = bytes(self._message(data).data)
        # Drivers pad the payload after the end marker.
        if not jpeg.startswith(_START) or not jpeg.rstrip(b'\0').endswith(_END):
            raise ImageError(f'{self._topic}: a JPEG picture that is cut off, or no JPEG')
        return jpeg

    def skip(self, data: bytes) -> None:
        """Ignore a message whose picture is not used."""
