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

r"""
The catalogue of a dataset: tables of its bags, and of the topics of each, in Parquet files.

``conversion/bags/`` has a row for each bag, ``conversion/topics/`` one for each use of a topic in
each bag. Bag n is in the file n // 1000 of either, so that a run which adds bags writes the last
files anew and no others; what is read of a file is the columns that are asked for. Paths are
relative to the dataset. In names, backslashes and what is not UTF-8 are escaped (``\x5c``,
``\udcb2``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from itertools import groupby
import json
from pathlib import Path
import re
from typing import Any

from kuavo_bag_converter.alignment.report import PlanReport, TrackReport
from kuavo_bag_converter.dataset.layout import BAGS_PATH, FILES_PER_CHUNK, TOPICS_PATH
from kuavo_bag_converter.dataset.recorded_bag import (
    as_absolute,
    as_recorded,
    BagDetails,
    RecordedBag,
    RecordedFile,
)
from kuavo_bag_converter.profiles.model import TimeRange
from kuavo_bag_converter.support.errors import UsageError
from kuavo_bag_converter.support.files import link_or_copy
import pyarrow as pa
import pyarrow.parquet as pq

BAGS_PER_FILE = FILES_PER_CHUNK
_BAGS_PER_GROUP = 100
"""Bags whose rows are in memory at once."""
_TEXT = pa.string()
_COUNT = pa.int64()
_RANGE = pa.struct([('start_s', pa.float64()), ('stop_s', pa.float64()), ('task', _TEXT)])
_FILE = pa.struct([('path', _TEXT), ('bytes', _COUNT), ('digest', _TEXT)])

BAGS_SCHEMA = pa.schema(
    {
        'bag': _COUNT,
        'path': _TEXT,
        'status': _TEXT,
        'reason': _TEXT,
        'cause': _TEXT,
        'task': _TEXT,
        'labels': pa.map_(_TEXT, _TEXT),
        'first_episode': _COUNT,
        'episodes': _COUNT,
        'frames': _COUNT,
        'seconds': pa.float64(),
        'error_median_ms': pa.float64(),
        'error_p95_ms': pa.float64(),
        'error_max_ms': pa.float64(),
        'frames_cut': _COUNT,
        'frames_in_gap': _COUNT,
        'frames_repeated': _COUNT,
        'frames_filled': _COUNT,
        'bytes': _COUNT,
        'files': pa.list_(_FILE),
        'ranges': pa.list_(_RANGE),
        'problems': pa.list_(_TEXT),
        'encoders': pa.map_(_TEXT, _TEXT),
        'plan': _TEXT,
        'cameras': _TEXT,
        'static_transforms': _TEXT,
        'element_names': _TEXT,
        'others': _TEXT,
    }
)
"""Columns of the table of bags; ``plan`` and those after it are JSON."""
_NEEDED = (
    'bag', 'path', 'status', 'reason', 'task', 'first_episode', 'episodes', 'frames', 'files',
)  # fmt: skip
"""What is read of all bags."""
_DETAILS = (
    'bag', 'problems', 'plan', 'cameras', 'static_transforms', 'labels', 'encoders', 'ranges',
    'others',
)  # fmt: skip
"""What is read of a bag that is looked into."""
_COUNTED = ('bag', 'status', 'cause', 'reason', 'path', 'episodes', 'frames', 'seconds')
_WORST: Mapping[str, Callable[[TrackReport], float | None]] = {
    'error_median_ms': lambda track: track.error_ms.median,
    'error_p95_ms': lambda track: track.error_ms.p95,
    'error_max_ms': lambda track: track.error_ms.max,
    'frames_in_gap': lambda track: track.in_gap,
    'frames_repeated': lambda track: track.repeated,
    'frames_filled': lambda track: track.filled_with_zeros,
}
"""What the table of bags says of the worst of the topics of a bag."""
_USE_TEXTS = ('strategy', 'timeline', 'on_gap')
_USE_COUNTS = (
    'messages', 'used', 'skipped', 'repeated', 'beyond_half_frame', 'beyond_full_frame',
    'before_first_message', 'in_gap', 'cut', 'filled_with_zeros', 'marked',
)  # fmt: skip
_STAMP_COUNTS = (
    'outside_recording', 'without_header_stamp', 'absurd_header_stamps', 'backward_stamps',
)  # fmt: skip
_ERRORS = ('median', 'p95', 'max')

TOPICS_SCHEMA = pa.schema(
    {
        'bag': _COUNT,
        'topic': _TEXT,
        'used_for': _TEXT,
        'type': _TEXT,
        **dict.fromkeys(_USE_TEXTS, _TEXT),
        **dict.fromkeys(_USE_COUNTS, _COUNT),
        **dict.fromkeys(_STAMP_COUNTS, _COUNT),
        **{f'error_{name}_ms': pa.float64() for name in _ERRORS},
        'place': _COUNT,
        'description': _TEXT,
        'definition': _TEXT,
    }
)
"""
Columns of the table of topics.

A topic that serves no feature (it cuts or names episodes) has nulls for the counts; ``place`` is
the position of its description among those of the bag, and the columns after it are JSON.
"""


@dataclass
class Totals:
    """What the bags of a dataset come to."""

    statuses: Counter[str] = field(default_factory=Counter)
    """Bags by status."""
    episodes: int = 0
    frames: int = 0
    seconds: float = 0.0
    causes: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    """Bags that are not in the dataset by their cause: how many, and of the first one its path and
    the reason."""

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row of the table of bags."""
        self.statuses[row['status']] += 1
        self.episodes += row['episodes']
        self.frames += row['frames']
        self.seconds += row['seconds']
        if row['status'] != 'converted':
            count, *first = self.causes.get(row['cause'], (0, row['path'], row['reason']))
            self.causes[row['cause']] = count + 1, *first

    def add_all(self, bags: pa.Table) -> None:
        """Count rows of the table of bags."""
        for row in bags.select(_COUNTED).to_pylist():
            self.add(row)

    def as_json(self) -> dict[str, Any]:
        """Return them as JSON can hold them."""
        causes = sorted(self.causes.items(), key=lambda item: (-item[1][0], item[0]))
        return {
            'totals': {
                'bags': {
                    'declared': sum(self.statuses.values()),
                    **{name: self.statuses[name] for name in ('converted', 'failed', 'skipped')},
                },
                'episodes': self.episodes,
                'frames': self.frames,
                'hours': round(self.seconds / 3600, 6),
            },
            'failures': [
                {'cause': cause, 'bags': bags, 'first': path, 'reason': reason}
                for cause, (bags, path, reason) in causes
            ],
        }


def cause_of(reason: str) -> str:
    """Return what reasons of one kind have in common: without paths, names and numbers."""
    text = re.sub(r"'[^']*'|\"[^\"]*\"", '...', reason)
    text = re.sub(r'(?<![\w.])[\w.~-]*/[^\s:;,]*', '...', text)
    return re.sub(r'(?<![A-Za-z_])[-+]?\d[\d.]*', 'N', text)


class Catalogue:
    """
    The tables of a finished dataset.

    :ivar numbers: Those of the files, of either table.
    """

    def __init__(self, root: Path) -> None:
        """
        Open the catalogue of the dataset at ``root``.

        :raises UsageError: A file is missing or is none of the catalogue.
        """
        self.root = root
        found = {
            file.relative_to(root).as_posix()
            for pattern in (BAGS_PATH, TOPICS_PATH)
            for file in (root / pattern).parent.glob('file-*.parquet')
        }
        self.numbers = range(-(-len(found) // 2))
        needed = (_file(pattern, n) for pattern in (BAGS_PATH, TOPICS_PATH) for n in self.numbers)
        for file in needed:
            if file not in found:
                raise UsageError(f'{root / file}: is missing; the files beside it are not enough')

    def table(self, pattern: str, columns: Sequence[str] | None = None) -> pa.Table:
        """
        Read columns of the tables of bags or of topics, all if none are named.

        :param pattern: ``BAGS_PATH`` or ``TOPICS_PATH``.
        :param columns: Their names.
        :raises UsageError: They cannot be read.
        """
        schema = BAGS_SCHEMA if pattern == BAGS_PATH else TOPICS_SCHEMA
        tables = [self.read(_file(pattern, n), columns) for n in self.numbers]
        if not tables:
            fields = [item for item in schema if columns is None or item.name in columns]
            return pa.schema(fields).empty_table()
        return pa.concat_tables(tables, promote_options='default')

    def dataset(self, pattern: str) -> Any:
        """Return the tables of bags or of topics as a ``pyarrow.dataset``; nothing is read yet."""
        from pyarrow.dataset import dataset

        files = [str(self.root / _file(pattern, number)) for number in self.numbers]
        known = BAGS_SCHEMA if pattern == BAGS_PATH else TOPICS_SCHEMA
        others = [pq.read_schema(file).remove_metadata() for file in files]
        return dataset(files, schema=pa.unify_schemas([known, *others]))

    def read(self, file: str, columns: Sequence[str] | None, **options: Any) -> pa.Table:
        """
        Read columns of a file, all if none are named.

        :raises UsageError: It cannot be read.
        """
        try:
            return pq.read_table(
                self.root / file,
                columns=None if columns is None else list(columns),
                use_threads=False,
                partitioning=None,
                **options,
            )
        except (OSError, KeyError, ValueError) as error:  # ArrowInvalid is a ValueError
            reason = ' '.join(str(error).split())
            raise UsageError(f'{self.root / file}: cannot be read: {reason}') from error

    def bags(self, alignment_path: Callable[[int], str]) -> Iterator[RecordedBag]:
        """
        Yield all bags.

        :param alignment_path: Of the bag of a number.
        :raises UsageError: They cannot be read.
        :raises ValueError: They are not as they must be.
        """
        place_of = cache(partial(as_absolute, str(self.root.resolve())))
        reader = _DetailsReader(self)
        table = self.table(BAGS_PATH, _NEEDED)
        missing = [name for name in _NEEDED if name not in table.column_names]
        if missing:
            raise ValueError(f'{BAGS_PATH}: has no column {", ".join(missing)}')
        columns = [table.column(name).to_pylist() for name in _NEEDED[:-1]]
        files = _files_in(table.column('files'), place_of)
        for place, (number, path, *rest, own) in enumerate(zip(*columns, files, strict=True)):
            status, reason, task, first, episodes, frames = rest
            if number != place:
                raise ValueError(f'bag {number} is in row {place} of {BAGS_PATH}')
            if status == 'converted' and (first < 0 or episodes < 1 or not own):
                raise ValueError(f'bag {number}: without episodes or files')
            yield RecordedBag(
                number, place_of(path), own, status, reason, first, episodes, frames,
                task, alignment_path(number), reader.of(number),
            )  # fmt: skip

    def element_names(self) -> Iterator[Mapping[str, Sequence[str]]]:
        """Yield the names that converted bags give elements which are read by place, by part."""
        for chunk in self.table(BAGS_PATH, ['element_names']).column(0).chunks:
            yield from (json.loads(text) for text in chunk.unique().to_pylist() if text)

    def rows_of(
        self, pattern: str, start: int, stop: int, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Read columns of the rows of some bags, all of which are in one file."""
        filters = [('bag', '>=', start), ('bag', '<', stop)]
        return self.read(_file(pattern, start // BAGS_PER_FILE), columns, filters=filters)


def _file(pattern: str, number: int) -> str:
    return pattern.format(index=number)


def _files_in(
    column: pa.ChunkedArray, place_of: Callable[[str], Path]
) -> Iterator[tuple[RecordedFile, ...]]:
    """Yield the files of each bag."""
    for chunk in column.chunks:
        values = chunk.flatten()
        paths, sizes, digests = (values.field(i).to_pylist() for i in range(3))
        start = 0
        for count in chunk.value_lengths().to_pylist():
            own = slice(start, start + count)
            yield tuple(
                RecordedFile(place_of(path), size, digest)
                for path, size, digest in zip(paths[own], sizes[own], digests[own], strict=True)
            )
            start += count


class _DetailsReader:
    """Reads details of bags; keeps those of the bags around the last one."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._start = -1
        self._rows: dict[int, Mapping[str, Any]] = {}
        self._topics: dict[int, list[Mapping[str, Any]]] = {}
        self._last: tuple[int, BagDetails] | None = None

    def of(self, number: int) -> Callable[[], BagDetails]:
        """Return what reads those of a bag."""

        def read() -> BagDetails:
            if self._last is None or self._last[0] != number:
                self._last = number, self._read(number)
            return self._last[1]

        return read

    def _read(self, number: int) -> BagDetails:
        start = number - number % _BAGS_PER_GROUP
        if start != self._start:
            span = start, start + _BAGS_PER_GROUP
            rows = self._catalogue.rows_of(BAGS_PATH, *span, _DETAILS).to_pylist()
            columns = ['bag', 'place', 'description', 'definition']
            topics = self._catalogue.rows_of(TOPICS_PATH, *span, columns).to_pylist()
            self._rows = {row['bag']: row for row in rows}
            self._topics = {}
            for row in topics:
                self._topics.setdefault(row['bag'], []).append(row)
            self._start = start
        try:
            return _details(self._rows[number], self._topics.get(number, ()))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(
                f'{self._catalogue.root / _file(BAGS_PATH, number // BAGS_PER_FILE)}: '
                f'bag {number} cannot be read ({error!r})'
            ) from error


def _details(row: Mapping[str, Any], topics: Iterable[Mapping[str, Any]]) -> BagDetails:
    described: dict[int, dict[str, Any]] = {}
    for topic in topics:
        if topic['place'] is not None and topic['place'] not in described:
            entry = json.loads(topic['description'])
            if topic['definition'] is not None:
                entry['definition'] = json.loads(topic['definition'])
            described[topic['place']] = entry
    return BagDetails(
        tuple(row['problems'] or ()),
        PlanReport.from_json(json.loads(row['plan'] or '{}')),
        {name: json.loads(row[name]) for name in ('cameras', 'static_transforms') if row[name]},
        tuple(described[place] for place in sorted(described)),
        dict(row['labels'] or ()),
        dict(row['encoders'] or ()),
        tuple(TimeRange(**one) for one in row['ranges'] or ()),
        json.loads(row['others'] or '{}'),
    )


def write_catalogue(
    folder: Path,
    root: Path,
    bags: Iterable[RecordedBag],
    fps: float,
    before: Catalogue | None = None,
) -> Totals:
    """
    Write the tables of a dataset.

    Files of the dataset before in which nothing changes get a second name. Of the bags, those of
    a hundred are in memory at a time.

    :param folder: The dataset as it is being put together.
    :param root: Where it is going to be, without links.
    :param bags: What is new or has changed, in the order of their numbers.
    :param fps: Frames per second.
    :param before: The catalogue that it has grown from.
    :return: What all bags come to.
    """
    totals = Totals()
    changed: set[int] = set()
    for number, group in groupby(bags, key=lambda bag: bag.number // BAGS_PER_FILE):
        changed.add(number)
        old = before if before is not None and number in before.numbers else None
        with _FileWriter(folder, root, number, fps, old, totals) as writer:
            for start, some in groupby(group, key=lambda bag: bag.number // _BAGS_PER_GROUP):
                writer.write(start * _BAGS_PER_GROUP, list(some))
    if before is not None:
        for number in sorted({*before.numbers} - changed):
            for pattern in (BAGS_PATH, TOPICS_PATH):
                file = _file(pattern, number)
                link_or_copy(before.root / file, folder / file)
            totals.add_all(before.read(_file(BAGS_PATH, number), _COUNTED))
    return totals


class _FileWriter:
    """Writes one file of the table of bags and that of their topics."""

    def __init__(
        self,
        folder: Path,
        root: Path,
        number: int,
        fps: float,
        before: Catalogue | None,
        totals: Totals,
    ) -> None:
        self._root, self._fps, self._before, self._totals = root, fps, before, totals
        self._next = number * BAGS_PER_FILE
        self._stop = self._next + BAGS_PER_FILE
        self._writers = {}
        for pattern, own in ((BAGS_PATH, BAGS_SCHEMA), (TOPICS_PATH, TOPICS_SCHEMA)):
            file, schema = _file(pattern, number), own
            if before is not None:  # whose columns of other programs stay
                old = pq.read_schema(before.root / file)
                schema = pa.unify_schemas([own, old.remove_metadata()])
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            self._writers[pattern] = pq.ParquetWriter(folder / file, schema, compression='zstd')

    def __enter__(self) -> _FileWriter:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._carry_until(self._stop)
        for writer in self._writers.values():
            writer.close()

    def write(self, start: int, bags: Sequence[RecordedBag]) -> None:
        """Write the rows of a hundred bags from ``start`` on, of which some are new."""
        self._carry_until(start)
        self._write(start, bags)

    def _carry_until(self, stop: int) -> None:
        while self._next < stop:
            self._write(self._next, ())

    def _write(self, start: int, bags: Sequence[RecordedBag]) -> None:
        self._next = start + _BAGS_PER_GROUP
        details = {bag.number: bag.details for bag in bags}
        added = {
            BAGS_PATH: [_bag_row(bag, details[bag.number], self._root, self._fps) for bag in bags],
            TOPICS_PATH: [
                row for bag in bags for row in _topic_rows(bag.number, details[bag.number])
            ],
        }
        for pattern, writer in self._writers.items():
            table = pa.Table.from_pylist(added[pattern], schema=writer.schema)
            if self._before is not None:
                kept = self._before.rows_of(pattern, start, self._next)
                mask = [number not in details for number in kept.column('bag').to_pylist()]
                kept = kept.filter(pa.array(mask, pa.bool_())).replace_schema_metadata()
                table = pa.concat_tables([table, kept], promote_options='default')
                table = table.select(writer.schema.names).sort_by('bag')
            if table.num_rows:
                writer.write_table(table, row_group_size=table.num_rows)
            if pattern == BAGS_PATH:
                self._totals.add_all(table)


def _bag_row(bag: RecordedBag, details: BagDetails, root: Path, fps: float) -> dict[str, Any]:
    plan = details.plan
    names = plan.element_names
    sizes = [file.bytes for file in bag.files]
    return {
        'bag': bag.number,
        'path': as_recorded(bag.path, root),
        'status': bag.status,
        'reason': bag.reason,
        'cause': '' if bag.converted else cause_of(bag.reason),
        'task': bag.task,
        'labels': list(details.labels.items()),
        'first_episode': bag.first_episode,
        'episodes': bag.episodes,
        'frames': bag.frames,
        'seconds': bag.frames / fps,
        **{name: _worst(plan, value_of) for name, value_of in _WORST.items()},
        'frames_cut': plan.frames_cut,
        'bytes': None if -1 in sizes else sum(sizes),
        'files': [
            {
                'path': as_recorded(file.path, root),
                'bytes': file.bytes,
                'digest': file.digest,
            }
            for file in bag.files
        ],
        'ranges': list(map(asdict, details.ranges)),
        'problems': list(details.problems),
        'encoders': list(details.encoders.items()),
        'plan': _json(plan.as_json()) if bag.converted else None,
        **{name: _json(value) for name, value in details.calibration.items()},
        'element_names': None if names is None else _json(names),
        'others': _json(details.others) if details.others else None,
    }


def _worst(plan: PlanReport, value_of: Callable[[TrackReport], float | None]) -> float | None:
    values = (value_of(track) for track in plan.tracks)
    return max((value for value in values if value is not None), default=None)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _topic_rows(bag: int, details: BagDetails) -> Iterator[dict[str, Any]]:
    """Yield a row for each use of a topic, and for each description of which no use is told."""
    described = [_described(place, entry) for place, entry in enumerate(details.topics)]
    used: set[int | None] = set()
    for track in details.plan.tracks:
        topic = track.selected_from or track.topic
        own = next((one for one in described if one['topic'] == topic), {'place': None})
        used.add(own['place'])
        yield {
            **own,
            'bag': bag,
            'topic': topic,
            'used_for': track.name,
            **{name: getattr(track, name) for name in (*_USE_TEXTS, *_USE_COUNTS)},
            **{name: getattr(track.stamps, name) for name in _STAMP_COUNTS},
            **{f'error_{name}_ms': getattr(track.error_ms, name) for name in _ERRORS},
        }
    yield from ({**one, 'bag': bag} for one in described if one['place'] not in used)


def _described(place: int, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns that say what a bag says of a topic."""
    rest = {name: value for name, value in entry.items() if name != 'definition'}
    return {
        'topic': entry['topic'],
        'type': entry['type'],
        'place': place,
        'description': _json(rest),
        'definition': _json(entry['definition']) if 'definition' in entry else None,
    }
