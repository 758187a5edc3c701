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

import re
from typing import Any, Literal, NamedTuple

from kuavo_bag_converter.alignment.selection import identity_reader, names_reader
from kuavo_bag_converter.bags.damage import seconds_text
from kuavo_bag_converter.bags.model import Connection
from kuavo_bag_converter.frames.operations import EXACT, is_as_recorded
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.messages.fields import (
    EMPTY,
    FieldReader,
    TextsReader,
    Vector,
    WITHOUT_JOINT,
)
from kuavo_bag_converter.messages.identity import IdentityCheck, IdentityReader, OtherIdentityError
from kuavo_bag_converter.profiles.model import INTEGERS, Part, Source, VectorFeature
from kuavo_bag_converter.support.errors import BagError, UnfitMessageError
from kuavo_bag_converter.support.texts import did_you_mean, listed
import numpy as np
import numpy.typing as npt

_Places = npt.NDArray[np.int64]
_CUTTING = ('cut', 'pad_or_cut')
_POSITION = frozenset(['latitude', 'longitude'])
WIDER = 'set an offset at the part, or dtype: float64 at the feature'
"""What to do about numbers that float32 does not hold apart."""


class _Readers(NamedTuple):
    numbers: FieldReader
    names: TextsReader | None
    identity: IdentityReader | None


class ElementReader:
    """Reads the elements of a part from the messages of its source."""

    def __init__(
        self, part: Part, source: Source, definitions: Definitions, feature: VectorFeature
    ) -> None:
        """Read ``part`` of ``feature`` from ``source``, one of its sources."""
        self._feature = feature
        self._key = feature.key
        self._integers = feature.dtype in INTEGERS and is_as_recorded(part)
        self.is_integer = True
        """Whether all that was read so far are integers."""
        self.is_single = True
        """Whether all that was read so far has the precision of float32."""
        self._part = part
        self._source = source
        self._definitions = definitions
        self._readers: dict[int, _Readers] = {}
        self._select = None if part.select is None else np.array(part.select, dtype=np.int64)
        self._last_selected = -1 if part.select is None else max(part.select)
        self._length = part.length
        """Elements that a message must have; without a say, as many as the first one has."""
        if part.length is None and part.select is None and not part.joints:
            self._length = len(part.recorded_names)
        self.fitted: Literal['', 'padded', 'cut_short'] = ''
        """What became of the elements of the message that was read last."""
        self._check = IdentityCheck()
        self._places: dict[tuple[str, ...], _Places] = {}
        """Of the joints among the names of a message; publishers keep to a few orders."""

    def read(
        self, connection: Connection, stamp: int, decoded: object
    ) -> Vector | npt.NDArray[np.int64]:
        """
        Return the raw elements of a message, shape (elements of the part,).

        They are float64, or int64 where they become integers of a dataset as they are.

        :param connection: Of the message.
        :param stamp: When it was received, ns.
        :param decoded: The message.
        :raises BagError: The type does not have the fields, or the message not the elements.
        """
        try:
            values = self._read(connection, stamp, decoded)
            if values.dtype == object:
                return self._exact(connection.topic, stamp, values)
            return values
        except UnfitMessageError as error:
            unfit = UnfitMessageError(f'{error} ({self._key})', error.reason)
            unfit.topic = connection.topic
            raise unfit from None
        except OtherIdentityError as error:
            raise OtherIdentityError(f'{error} ({self._key})') from None
        except BagError as error:
            raise BagError(f'{error} ({self._key})') from None

    def _exact(
        self, topic: str, stamp: int, numbers: npt.NDArray[np.object_]
    ) -> Vector | npt.NDArray[np.int64]:
        """
        Return numbers of Python as those of numpy.

        :raises BagError: One of them would be rounded.
        """
        for number in numbers.tolist():
            if not self._integers and isinstance(number, int) and int(float(number)) != number:
                problem = f'is {number}, which float64 would round; set dtype: int64'
            elif self._integers and number != number // 1:
                problem = f'is {number}, no whole number; set dtype: float64'
            elif self._integers and not -(2**63) <= number < 2**63:
                problem = f'is {number}, which int64 cannot hold; set dtype: float64'
            elif self._integers and isinstance(number, float) and abs(number) > EXACT:
                problem = f'is {number}, which may have been rounded; set dtype: float64'
            else:
                continue
            raise BagError(f'{_message(topic, stamp)}: {"+".join(self._source.fields)} {problem}')
        if self._integers:
            return numbers.astype(np.int64)
        return numbers.astype(np.float64)

    def _read(self, connection: Connection, stamp: int, decoded: object) -> npt.NDArray[Any]:
        readers = self._readers_of(connection)
        exact = self._integers or readers.numbers.is_wide
        values: npt.NDArray[Any]
        values = readers.numbers.read_exact(decoded) if exact else readers.numbers.read(decoded)
        self.fitted = ''
        if self._part.element_count:
            values = np.array([len(values)], values.dtype)
        if len(values) != self._length:
            values = self._of_length(connection.topic, stamp, values)
        places = self._select
        if readers.names is not None:
            names = readers.names.read(decoded)
            places = self._places.get(names)
            if places is None or len(names) != len(values):
                places = self._found(connection.topic, stamp, names, len(values))
                self._places[names] = places
        if readers.identity is not None:
            self._check.compare(readers.identity, decoded, connection.topic, stamp)
        return values if places is None else values[places]

    def _readers_of(self, connection: Connection) -> _Readers:
        readers = self._readers.get(connection.id)
        if readers is None:
            source, definitions = self._source, self._definitions
            names = names_reader(self._part, source, connection, definitions)
            readers = _Readers(
                FieldReader(source.fields, connection, definitions),
                names,
                identity_reader(self._part, source, connection, definitions),
            )
            self._readers[connection.id] = readers
            self._note_types(connection.topic, readers.numbers)
        return readers

    def _note_types(self, topic: str, numbers: FieldReader) -> None:
        """
        Note what the fields can hold.

        :raises BagError: They are a position on earth, and the feature holds it to half a metre.
        """
        self.is_integer &= numbers.is_integer
        self.is_single &= numbers.is_single
        part = self._part
        is_near_zero = part.relative_to_start or any(
            operation is not None for operation in (part.offset, part.value_range, part.threshold)
        )
        if self._feature.dtype != 'float32' or numbers.is_single or is_near_zero:
            return
        for text in (*self._source.fields, *part.names):
            if _POSITION & words_of(text):
                raise BagError(
                    f'{topic}: {text} is a position on earth, of which float32 holds no more than '
                    f'half a metre; {WIDER}'
                )

    def _of_length(self, topic: str, stamp: int, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return elements that are not as many as expected as the part says."""
        part, length = self._part, self._length
        if length is not None and len(values) < length and part.takes_empty:
            self.fitted = 'padded'
            filling = int(part.pad_value) if self._integers else part.pad_value
            return np.concatenate([values, np.full(length - len(values), filling, values.dtype)])
        if length is not None and len(values) > length and part.on_length in _CUTTING:
            self.fitted = 'cut_short'
            return values[:length]
        self._check_length(topic, stamp, len(values))
        return values

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
            f'expected {expected}; check the robot or the profile{self._advice(found)}'
        )
        raise BagError(text) if found else UnfitMessageError(text, EMPTY)

    def _advice(self, found: int) -> str:
        part, length = self._part, self._length
        if part.joints or length is None:
            return ''
        return f', or set on_length: {"pad" if found < length else "cut"}, or pad_or_cut'

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


def words_of(text: str) -> set[str]:
    """Return the words of a name or path."""
    return set(re.split(r'[^a-z]+', text.lower()))


def _message(topic: str, stamp: int) -> str:
    return f'{topic}: the message received at {seconds_text(stamp)}'
