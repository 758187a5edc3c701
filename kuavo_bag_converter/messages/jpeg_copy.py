"""The JPEG of a message as it is, for videos whose packets are the bag's own pictures."""

from __future__ import annotations

from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.images import errors_about
from kuavo_bag_converter.messages.picture_headers import JPEG_MAGIC, JpegHeader, JpegReader
from kuavo_bag_converter.support.errors import BagError, ImageError


class JpegCopier:
    """Takes the JPEGs out of the messages of one camera."""

    def __init__(self, connection: Connection, definitions: Definitions) -> None:
        """Prepare for a connection whose messages have ``data``, as CompressedImage."""
        self._topic = connection.label
        self._message = definitions.decoder(connection)
        self._headers = JpegReader()
        self._first: JpegHeader | None = None

    def decode(self, data: bytes | memoryview) -> bytes:
        """Return the JPEG of a message, undecoded.

        Raises:
            ImageError: It is no JPEG, its header is damaged, or its end is missing.
            BagError: The message does not fit its definition, or the picture has another size or
                orientation than the first.
        """
        payload = memoryview(self._message(data).data)
        with errors_about(self._topic):
            if bytes(payload[:3]) != JPEG_MAGIC:
                raise ImageError('the payload is no JPEG')
            header = self._headers.read(payload)
            first = self._first = self._first or header
            if header != first:
                raise BagError(
                    f'its pictures change from {first.width}x{first.height} to '
                    f'{header.width}x{header.height} or in colour or orientation, and cannot '
                    'be copied; set video: encode'
                )
        return bytes(payload)

    def skip(self, data: bytes | memoryview) -> None:
        """Ignore a message whose picture is not used."""
