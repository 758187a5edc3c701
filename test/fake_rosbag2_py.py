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
The part of rosbag2_py's reader that the backend uses, with the traps that are known of it.

Payloads come as they are stored, compressed or not. sqlite3 yields by stamp and then id, never by
place, and passes stamps below 0 by; a cut mcap just ends. Options take keywords only, as their
order differs between distros.
"""

from __future__ import annotations

from pathlib import Path
import sqlite3
from types import SimpleNamespace

from mcap.exceptions import McapError
from mcap.reader import make_reader, NonSeekingReader

PLUGIN = 'mirrored'
"""A storage plugin that is installed."""


class StorageOptions:
    """What to open."""

    def __init__(self, *, uri, storage_id=''):
        self.uri = uri
        self.storage_id = storage_id


class ConverterOptions:
    """How payloads are written."""

    def __init__(self, *, input_serialization_format='', output_serialization_format=''):
        self.formats = input_serialization_format, output_serialization_format


class StorageFilter:
    """Which topics to read."""

    def __init__(self, *, topics=()):
        self.topics = list(topics)


class ReadOrderSortBy:
    ReceivedTimestamp, PublishedTimestamp, File = range(3)


class ReadOrder:
    """The order of messages."""

    def __init__(self, *, sort_by, reverse=False):
        self.sort_by = sort_by
        self.reverse = reverse


class HumbleReader:
    """As of Humble: by stamp, without an order to choose."""

    def __init__(self):
        self._rows = None
        self._by_place = False

    def open(self, storage_options, converter_options):  # noqa: A003
        path = Path(storage_options.uri)
        if path.is_dir() or storage_options.storage_id not in ('mcap', 'sqlite3', PLUGIN):
            raise RuntimeError('No storage could be initialized from the inputs.')
        self._sqlite = storage_options.storage_id == 'sqlite3'
        if storage_options.storage_id == PLUGIN:
            self._rows, self._types = _mirrored_rows(path)
        else:
            self._rows = _sqlite_rows(path) if self._sqlite else _mcap_rows(path)
        if len({row[4] for row in self._rows}) > 1:
            raise RuntimeError('Topics with different rmw serialization format have been found.')
        self._topics = []
        self._waiting = None

    def get_all_topics_and_types(self):
        return [
            SimpleNamespace(name=name, type=kind, serialization_format='cdr')
            for name, (kind, _) in self._types.items()
        ]

    def set_filter(self, storage_filter):
        self._topics = storage_filter.topics
        self._waiting = None

    def has_next(self):
        return bool(self._queue())

    def read_next(self):
        _, stamp, topic, data, _ = self._queue().pop(0)
        return topic, data, stamp

    def _queue(self):
        if self._waiting is None:
            rows = self._rows if self._by_place else sorted(self._rows, key=lambda row: row[1])
            self._waiting = [row for row in rows if not self._topics or row[2] in self._topics]
        return self._waiting


class SequentialReader(HumbleReader):
    """As of Jazzy."""

    def set_read_order(self, order):
        if self._rows is None:
            raise RuntimeError('read order can only be set after open()')
        if self._sqlite:
            return False
        self._by_place = order.sort_by == ReadOrderSortBy.File
        return True

    def get_all_message_definitions(self):
        return [
            SimpleNamespace(topic_type=kind, encoding='ros2msg', encoded_message_definition=text)
            for kind, text in self._types.values()
        ]

    def close(self):
        self._rows = None


class LyricalReader(SequentialReader):
    """As of Lyrical, where read_next() is deprecated."""

    def read_next(self):
        raise AssertionError('deprecated')

    def read_next_ext(self):
        return (*super().read_next(), 0)


def mirrored(path):
    """Make of an mcap file one that the plugin alone reads."""
    path.write_bytes(path.read_bytes()[::-1])


def _mirrored_rows(path):
    plain = path.with_suffix('.plain')
    plain.write_bytes(path.read_bytes()[::-1])
    try:
        with plain.open('rb') as stream:
            summary = make_reader(stream).get_summary()
        kinds = {
            channel.topic: (schema.name, schema.data.decode())
            for channel in summary.channels.values()
            for schema in [summary.schemas[channel.schema_id]]
        }
        return _mcap_rows(plain), kinds
    finally:
        plain.unlink()


def _mcap_rows(path):
    rows = []
    with path.open('rb') as stream:
        try:
            for _, channel, message in NonSeekingReader(stream).iter_messages(
                log_time_order=False
            ):
                row = (message.log_time, channel.topic, message.data, channel.message_encoding)
                rows.append((len(rows), *row))
        except McapError:
            pass
    return rows


def _sqlite_rows(path):
    base = sqlite3.connect(f'file:{path}?mode=ro', uri=True)
    try:
        return base.execute(
            'SELECT messages.id, timestamp, topics.name, data, serialization_format '
            'FROM messages JOIN topics ON messages.topic_id = topics.id '
            'WHERE timestamp >= 0 ORDER BY messages.timestamp, messages.id'
        ).fetchall()
    except sqlite3.DatabaseError as error:
        raise RuntimeError(str(error)) from None
    finally:
        base.close()
