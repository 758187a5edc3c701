"""A dataset as JSON lines, one for each frame, beside the MP4 files of the cameras.

``dataset.json`` describes it. For bag ``n``, ``rows/<n>.jsonl`` has the frames of all its episodes
and ``videos/<n>/<camera>.mp4`` their pictures: line ``k`` of the one goes with picture ``k``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from kuavo_bag_converter.dataset.shard import Shard
from kuavo_bag_converter.dataset.writer import DatasetInfo
from kuavo_bag_converter.support.files import link_or_copy


class _JsonRows:
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
