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

"""The elements of a part: which numbers of a message they are."""

from __future__ import annotations

from typing import NamedTuple

from kuavo_bag_converter.alignment.selection import identity_reader
from kuavo_bag_converter.bags.damage import seconds_text
from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.fields import (
    EMPTY,
    FieldReader,
    TextsReader,
    Vector,
    WITHOUT_JOINT,
)
from kuavo_bag_converter.messages.identity import IdentityCheck, IdentityReader, OtherIdentityError
from kuavo_bag_converter.profiles.model import Part, Source
from kuavo_bag_converter.support.errors import BagError, UnfitMessageError
from kuavo_bag_converter.support.texts import did_you_mean, listed
import numpy as np
import numpy.typing as npt

_Places = npt.NDArray[np.int64]


class _Readers(NamedTuple):
    numbers: FieldReader
    names: TextsReader | None
    identity: IdentityReader | None


class ElementReader:
    """Reads the elements of a part from the messages of its source."""

    def __init__(
        self,
        part: Part,
        source: Source,
        definitions: Definitions,
        key: str,
    ) -> None:
        """Read ``part`` of the feature ``key`` from ``source``, one of its sources."""
        self._key = key
        self._part = part
        self._source = source
        self._definitions = definitions
        self._readers: dict[int, _Readers] = {}
        self._select = None if part.select is None else np.array(part.select, dtype=np.int64)
        self._last_selected = -1 if part.select is None else max(part.select)
        self._length = part.length
        """Elements that a message must have; without a say, as many as the first one has."""
        if part.length is None and part.select is None and not part.joints:
            self._length = len(part.names)
        self._check = IdentityCheck()
        self._places: dict[tuple[str, ...], _Places] = {}
        """Of the joints among the names of a message; publishers keep to a few orders."""

    def read(self, connection: Connection, stamp: int, decoded: object) -> Vector:
        """
        Return the raw elements of a message, shape (elements of the part,).

        :param connection: Of the message.
        :param stamp: When it was received, ns.
        :param decoded: The message.
        :raises BagError: The type does not have the fields, or the message not the elements.
        """
        try:
            return self._read(connection, stamp, decoded)
        except UnfitMessageError as error:
            unfit = UnfitMessageError(f'{error} ({self._key})', error.reason)
            unfit.topic = connection.topic
            raise unfit from None
        except OtherIdentityError as error:
            raise OtherIdentityError(f'{error} ({self._key})') from None
        except BagError as error:
            raise BagError(f'{error} ({self._key})') from None

    def _read(self, connection: Connection, stamp: int, decoded: object) -> Vector:
        readers = self._readers_of(connection)
        values = readers.numbers.read(decoded)
        if len(values) != self._length:
            self._check_length(connection.topic, stamp, len(values))
        places = self._select
        if readers.names is not None:
            names = readers.names.read(decoded)
            places = self._places.get(names)
            if places is None or len(names) != len(values):
                places = self._found(connection.topic, stamp, names, len(values))
                self._places[names] = places
        if readers.identity is not None:
            self._check.compare(readers.identity, decoded, _message(connection.topic, stamp))
        return values if places is None else values[places]

    def _readers_of(self, connection: Connection) -> _Readers:
        readers = self._readers.get(connection.id)
        if readers is None:
            source, definitions = self._source, self._definitions
            names = None
            if self._part.joints:
                names = TextsReader(source.names_field or 'name', connection, definitions)
            readers = _Readers(
                FieldReader(source.fields, connection, definitions),
                names,
                identity_reader(self._part, source, connection, definitions),
            )
            self._readers[connection.id] = readers
        return readers

    def _check_length(self, topic: str, stamp: int, found: int) -> None:
        """
        Check a length that is not the expected one; of joints by name there may be any number.

        Where places are selected and no length is given, the first message tells the length: what
        changes its length does not keep its places.
        """
        expected = str(self._length)
        if self._length is None:
            if self._select is None:
                return
            if found > self._last_selected:
                self._length = found
                return
            expected = f'more than {self._last_selected}'
        elif self._part.length is None and self._select is not None:
            expected += ' as in the messages before it'
        text = (
            f'{_message(topic, stamp)} has {found} elements in {"+".join(self._source.fields)}, '
            f'expected {expected}; check the robot or the profile'
        )
        raise BagError(text) if found else UnfitMessageError(text, EMPTY)

    def _found(self, topic: str, stamp: int, names: tuple[str, ...], values: int) -> _Places:
        """Return the places of the joints among the names of a message."""
        message = _message(topic, stamp)
        source = self._source
        if len(names) != values:
            raise BagError(
                f'{message} has {len(names)} names in {source.names_field} for {values} elements '
                f'in {"+".join(source.fields)}; use select where names are not to be relied on'
            )
        for joint in self._part.joints:
            if names.count(joint) != 1:
                what = 'no joint' if joint not in names else 'several joints'
                text = (
                    f'{message} has {what} {joint!r} (in {source.names_field}: '
                    f'{listed(names) or "nothing"}); check joints in the profile'
                )
                if joint in names:
                    raise BagError(text)
                raise UnfitMessageError(f'{text}{did_you_mean(joint, names)}', WITHOUT_JOINT)
        return np.array([names.index(joint) for joint in self._part.joints], dtype=np.int64)


def _message(topic: str, stamp: int) -> str:
    return f'{topic}: the message received at {seconds_text(stamp)}'
