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

"""Stamps that stand somewhere else than in a header at the beginning of a message."""

from __future__ import annotations

from typing import Any

from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.fields import follow, HEADER
from kuavo_bag_converter.support.errors import BagError
from kuavo_bag_converter.support.texts import shown
from rosbags.interfaces import Nodetype

_NS = {'s': 10**9, 'ms': 10**6, 'us': 10**3, 'ns': 1}
_TIME = ('sec', 'nanosec')
_SAME = 0.1
"""How far a stamp may be from the receive stamp, as a share of it, for its unit to be known."""
_LATEST = 2**63 - 1


class StampReader:
    """Reads a stamp of decoded messages of one connection."""

    def __init__(
        self, path: str, unit: str, connection: Connection, definitions: Definitions
    ) -> None:
        """
        Check the path against the type of the connection.

        :param path: Of a time, a header, or a number.
        :param unit: Of a number: ``s``, ``ms``, ``us``, ``ns``, or '' for what the first one fits.
        :param connection: Of the messages.
        :param definitions: Where their type is defined.
        :raises BagError: The path is not in the type or leads to something else.
        """
        decoder = definitions.decoder(connection)
        self._topic = decoder.topic
        self._path, desc = follow(decoder, path)
        self._unit = _NS.get(unit, 0)
        self._is_header = desc == HEADER
        self._is_number = desc[0] == Nodetype.BASE
        if self._is_number:
            if desc[1][0] in ('bool', 'string', 'wstring', 'float32'):
                raise BagError(
                    f'{self._topic}: stamp_field: {path} is {shown(str(desc[1][0]))}, which holds '
                    'no stamp; expected a time, a header, an integer or a float64'
                )
        elif not self._is_header and (
            desc[0] != Nodetype.NAME or tuple(decoder.fields(str(desc[1]))) != _TIME
        ):
            raise BagError(
                f'{self._topic}: stamp_field: {path} is no time; expected a time, a header, an '
                'integer or a float64'
            )

    def read(self, message: Any, received: int) -> int:
        """
        Return the stamp of a message in ns, 0 where it is not set.

        :param message: The decoded message.
        :param received: Its receive stamp, ns, which tells the unit where it is not given.
        :raises BagError: The unit is not given and not to be told.
        """
        value = self._path.of(message)
        if self._is_number:
            return self._in_ns(value, received)
        stamp = value.stamp if self._is_header else value
        return int(stamp.sec) * 10**9 + int(stamp.nanosec)

    def _in_ns(self, value: Any, received: int) -> int:
        if not value or value != value:  # NaN
            return 0
        if not self._unit:
            units = _NS.values() if received else ()
            fits = [ns for ns in units if abs(value * ns / received - 1) < _SAME]
            if not fits:
                raise BagError(
                    f'{self._topic}: stamp_field: {self._path.path} is {value}, which in no unit '
                    f'is near the receive stamp; give its unit as stamp_unit: {", ".join(_NS)}'
                )
            self._unit = fits[0]
        if isinstance(value, float):
            if abs(value) * self._unit > _LATEST:
                return _LATEST
            seconds = int(value)
            return seconds * self._unit + round((value - seconds) * self._unit)
        return max(-_LATEST, min(int(value) * self._unit, _LATEST))
