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

"""Former forms of the record, in which ``conversion/report.json`` had the bags themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import os
from pathlib import Path
from typing import Any

from kuavo_bag_converter.alignment.report import PlanReport
from kuavo_bag_converter.bags.fingerprint import Fingerprint
from kuavo_bag_converter.dataset.layout import alignment_path, FORMER_ALIGNMENT_PATH
from kuavo_bag_converter.dataset.recorded_bag import (
    as_absolute,
    BagDetails,
    RecordedBag,
    RecordedFile,
)

FORMER_FORMATS = (1, 2)
"""The first one had no number, the bags' paths as they were given, and one path for each bag."""
_BAG_KEYS = ('bag', 'status', 'reason', 'task', 'episodes', 'frames', 'problems', 'plan',
             'first_episode', 'files', 'topics', 'labels', 'encoders', 'cameras',
             'static_transforms', 'fingerprint')  # fmt: skip
"""The keys that the converter wrote, the last in the first form."""
_CALIBRATION = ('cameras', 'static_transforms')


def read_former_bags(
    document: Mapping[str, Any], version: int, home: str
) -> tuple[RecordedBag, ...]:
    """
    Read the bags of a record of a former form.

    :param document: The record.
    :param version: Its form.
    :param home: The folder to which its paths are relative.
    :raises ValueError, LookupError, TypeError, AttributeError: It has another form.
    """
    topics = _read_topics(document)
    return tuple(
        _read_bag(number, bag, version, home, topics)
        for number, bag in enumerate(document['bags'])
    )


def _read_topics(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the described topics that bags refer to, each with its definition."""
    definitions = document.get('definitions', {})
    return [
        {**topic, 'definition': definitions[topic['definition']]}
        if 'definition' in topic
        else topic
        for topic in document.get('topics', ())
    ]


def _read_bag(
    number: int,
    entry: Mapping[str, Any],
    version: int,
    home: str,
    topics: Sequence[Mapping[str, Any]],
) -> RecordedBag:
    if version > 1:
        path = as_absolute(home, entry['bag'])
        files = [
            RecordedFile(as_absolute(home, file['path']), int(file['bytes']), str(file['digest']))
            for file in entry['files']
        ]
    else:
        path = Path(os.path.normpath(os.path.join(home, str(entry['bag']))))
        files = _files_of_first_form(path, entry.get('fingerprint'))
    status = str(entry['status'])
    details = BagDetails(
        tuple(map(str, entry.get('problems', ()))),
        PlanReport.from_json(entry['plan']),
        {name: entry[name] for name in _CALIBRATION if name in entry},
        tuple(topics[place] for place in entry.get('topics', ())),
        dict(entry.get('labels', {})),
        dict(entry.get('encoders', {})),
        (),
        {name: value for name, value in entry.items() if name not in _BAG_KEYS},
    )
    bag = RecordedBag(
        number,
        path,
        tuple(files),
        status,
        str(entry['reason']),
        int(entry['first_episode']),
        int(entry['episodes']),
        int(entry['frames']),
        str(entry.get('task', '')),
        alignment_path(number, FORMER_ALIGNMENT_PATH),
        lambda: details,
    )
    if bag.converted and (bag.first_episode < 0 or bag.episodes < 1 or not bag.files):
        raise ValueError(f'bag {number}: without episodes or files')
    return bag


def _files_of_first_form(path: Path, recorded: Mapping[str, Any] | None) -> list[RecordedFile]:
    if recorded is None:
        return []
    known = Fingerprint.from_json(recorded)
    names = [Path(file.name).name for file in known.files]
    folder = path.parent if path.name in names else path
    return [
        RecordedFile(folder / Path(file.name).name, file.bytes, file.digest)
        for file in known.message_files
    ]
