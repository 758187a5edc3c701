"""The pictures of one camera feature: what decodes them and what they are until written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kuavo_bag_converter.bags.model import Connection

Picture = Any
"""What a camera's writer takes: an encoder-ready frame, a depth map, or the JPEG itself."""


class PictureDecoder:
    """Decodes the messages of one camera, with a decoder for each connection."""

    def __init__(self, decoder_for: Callable[[Connection], Callable[[bytes], Picture]]) -> None:
        """Use ``decoder_for`` once for every connection."""
        self._decoder_for = decoder_for
        self._decoders: dict[int, Callable[[bytes], Picture]] = {}

    def decode(self, connection: Connection, data: bytes) -> Picture:
        """Return the picture of a message.

        Raises:
            BagError: It cannot be decoded.

        """
        decode = self._decoders.get(connection.id)
        if decode is None:
            decode = self._decoders[connection.id] = self._decoder_for(connection)
        return decode(data)
