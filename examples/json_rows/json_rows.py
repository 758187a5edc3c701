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
A dataset as JSON lines, one for each frame, beside the MP4 files of the cameras.

``dataset.json`` describes it. For bag ``n``, ``rows/<n>.jsonl`` has the frames of all its episodes
and ``videos/<n>/<camera>.mp4`` their pictures: line ``k`` of the one goes with picture ``k``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
import json
from pathlib import Path
from typing import Any

from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.dataset.writer import DatasetInfo
from kuavo_bag_converter.support.files import link_or_copy
import pyarrow.parquet as pq


class _JsonRows:
    """Writes a dataset as rows of JSON."""

    def write(self, shards: Sequence[Shard], root: Path, info: DatasetInfo) -> None:
        (root / 'rows').mkdir()
        first = 0
        for bag, shard in enumerate(shards):
            with (root / 'rows' / f'{bag:06d}.jsonl').open('w', encoding='utf-8') as file:
                for row in _rows(shard, first, info):
                    file.write(json.dumps(row) + '\n')
            for camera in shard.videos:
                place = root / 'videos' / f'{bag:06d}' / f'{camera}.mp4'
                place.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(shard.video_path(camera), place)
            first += len(shard.episode_lengths)
        text = json.dumps({**asdict(info), 'episodes': first}, indent=2)
        (root / 'dataset.json').write_text(text, encoding='utf-8')


def _rows(shard: Shard, first_episode: int, info: DatasetInfo) -> Iterator[dict[str, Any]]:
    table = pq.ParquetFile(shard.table_path)
    # One row group at a time, so that memory does not grow with the bag.
    rows = (row for batch in table.iter_batches() for row in batch.to_pylist())
    for episode, length in enumerate(shard.episode_lengths, start=first_episode):
        for frame in range(length):
            row = next(rows)
            task = shard.tasks[row.pop('task_index')]
            yield {'episode': episode, 'timestamp': frame / info.fps, 'task': task, **row}


JSON_ROWS = _JsonRows()
