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

"""The record of a dataset as one JSON document, read and written without the converter."""

import json
from pathlib import Path
import shutil

import pyarrow as pa
import pyarrow.parquet as pq

JSON_COLUMNS = ('plan', 'cameras', 'static_transforms')


def tables(root, name):
    """Return the rows of ``conversion/bags`` or ``conversion/topics``, in order."""
    files = sorted((Path(root) / 'conversion' / name).iterdir())
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def read_record(root):
    """Return the summary with an entry for each bag, which has the descriptions of its topics."""
    document = json.loads((Path(root) / 'conversion/report.json').read_text())
    described = {}
    for row in tables(root, 'topics'):
        if row['place'] is not None:
            entry = json.loads(row['description'])
            if row['definition'] is not None:
                entry['definition'] = json.loads(row['definition'])
            described.setdefault(row['bag'], {})[row['place']] = entry
    bags = []
    for number, row in enumerate(tables(root, 'bags')):
        assert row['bag'] == number
        topics = described.get(number, {})
        entry = {
            'bag': row['path'],
            **{name: row[name] for name in ('status', 'reason', 'task', 'problems', 'files')},
            **{name: row[name] for name in ('first_episode', 'episodes', 'frames')},
            'plan': {},
            'topics': [topics[place] for place in range(len(topics))],
            **({'labels': dict(row['labels'])} if row['labels'] else {}),
            **({'encoders': dict(row['encoders'])} if row['encoders'] else {}),
        }
        entry |= {name: json.loads(row[name]) for name in JSON_COLUMNS if row[name]}
        bags.append(entry | json.loads(row['others'] or '{}'))
    return {**document, 'bags': bags}


def edit_record(root, change):
    """Change the record of a dataset of less than a thousand bags in place."""
    document = read_record(root)
    change(document)
    file = Path(root) / 'conversion/bags/file-000.parquet'
    schema = pq.read_schema(file)
    rows = tables(root, 'bags')[: len(document['bags'])]
    for row, entry in zip(rows, document.pop('bags'), strict=True):
        own = {**entry, 'path': entry['bag']}
        own |= {name: [*entry.get(name, {}).items()] for name in ('labels', 'encoders')}
        own |= {name: json.dumps(entry[name]) for name in JSON_COLUMNS if name in entry}
        row |= {name: own[name] for name in row if name in own and name != 'bag'}
    document['totals']['bags']['declared'] = len(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema), file)
    (Path(root) / 'conversion/report.json').write_text(json.dumps(document))


def as_former_record(root, change=None):
    """Give a dataset the record of the former form, with the bags in report.json."""
    folder = Path(root) / 'conversion'
    document = read_record(root)
    document['format'] = 2
    for name in ('totals', 'failures', 'alignment_path'):
        del document[name]
    topics = []
    for bag in document['bags']:
        places = []
        for topic in bag['topics']:
            topics += [] if topic in topics else [topic]
            places.append(topics.index(topic))
        bag['topics'] = places
    document['definitions'] = {
        str(place): topic.pop('definition')
        for place, topic in enumerate(topics)
        if 'definition' in topic
    }
    for place, topic in enumerate(topics):
        if str(place) in document['definitions']:
            topic['definition'] = str(place)
    document['topics'] = topics
    if change is not None:
        change(document)
    (folder / 'report.json').write_text(json.dumps(document))
    for name in ('bags', 'topics'):
        shutil.rmtree(folder / name)
    for file in sorted((folder / 'alignment').glob('*/*')):
        file.rename(folder / 'alignment' / file.name)
    for chunk in (folder / 'alignment').glob('chunk-*'):
        chunk.rmdir()
