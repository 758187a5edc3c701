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

"""Faults in finished datasets, made the way they may come about; each edits a copy in place."""

from __future__ import annotations

from dataclasses import replace
import json
from pathlib import Path

import av
from dataset_reading import info
from kuavo_bag_converter.dataset.encoders import COPY, DEPTH_OPTIONS
from kuavo_bag_converter.dataset.features import Feature, VideoOptions
from kuavo_bag_converter.dataset.video import PacketWriter, VideoWriter
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CAMERA = 'observation.images.head_cam_h'


def edit_json(path, change):
    """Change a JSON document in place."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def edit_info(root, **changes):
    edit_json(root / 'meta/info.json', lambda document: document.update(changes))


def edit_lines(path, change):
    """Change the documents of a JSON Lines file in place."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines)
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines))


def edit_column(path, name, change):
    """Change a column of a Parquet file; row groups, types and metadata stay."""
    with pq.ParquetFile(path) as file:
        groups = [file.read_row_group(index) for index in range(file.num_row_groups)]
        schema = file.schema_arrow
    table = pa.concat_tables(groups)
    values = change(table[name].to_pylist())
    column = pa.array(values, schema.field(name).type)
    table = table.set_column(table.column_names.index(name), schema.field(name), column)
    write_groups(path, table.cast(schema), [group.num_rows for group in groups])


def write_groups(path, table, rows):
    """Write a table with these row groups."""
    with pq.ParquetWriter(path, table.schema) as writer:
        start = 0
        for count in rows:
            writer.write_table(table.slice(start, count))
            start += count


def data_file(root, number=0):
    return sorted(root.glob('data/*/*.parquet'))[number]


def episodes_file(root):
    return min(root.glob('meta/episodes/*/*.parquet'))


def video_file(root, camera=CAMERA, number=0):
    pattern = f'videos/{camera}/*/*.mp4'
    if info(root)['codebase_version'] == 'v2.1':
        pattern = f'videos/*/{camera}/*.mp4'
    return sorted(root.glob(pattern))[number]


def lengths(root):
    """Return the frames of each episode."""
    if info(root)['codebase_version'] == 'v2.1':
        lines = (root / 'meta/episodes.jsonl').read_text().splitlines()
        return [json.loads(line)['length'] for line in lines]
    return pq.read_table(episodes_file(root), columns=['length'])['length'].to_pylist()


def rewrite_video(path, order, fps=10, starts=(0,), gop=2, rate=None, crf=None, darker=0):
    """Write a video anew with its frames in another order; copied pictures stay as they are."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stream.codec_context.name == COPY:
            size = (stream.width, stream.height)
            packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
            return _write_packets(path, [packets[i] for i in order], size, fps)
        name = stream.codec_context.codec.canonical_name
        pix_fmt = stream.codec_context.pix_fmt
        frames = list(container.decode(stream))
    codec = {'av1': 'libsvtav1'}.get(name, name)
    options = {
        'h264': VideoOptions(gop=gop, pix_fmt=pix_fmt),
        'hevc': VideoOptions('hevc', 28, 'ultrafast', gop, pix_fmt),
        'libsvtav1': VideoOptions('libsvtav1', 30, '12', gop, pix_fmt),
    }[codec]
    if pix_fmt.startswith('gray'):
        options = DEPTH_OPTIONS
    if crf is not None:
        options = replace(options, crf=crf)
    ends = [*starts[1:], len(order)]
    writer = VideoWriter(
        path,
        Feature('camera', 'video', (frames[0].height, frames[0].width, 3)),
        options,
        fps=rate or fps,
        episode_lengths=[end - start for start, end in zip(starts, ends, strict=True)],
    )
    for index in order:
        # An encoder changes the frame that it is given; the same one may come again.
        pixels = frames[index].to_ndarray(format=pix_fmt)
        if darker:
            luma = pixels[0] if pix_fmt == 'yuv444p' else pixels[: frames[index].height]
            luma[:] = luma.clip(darker) - darker
        writer.write(av.VideoFrame.from_ndarray(pixels, format=pix_fmt))
    writer.close()
    return None


def _write_packets(path, packets, size, fps):
    width, height = size
    feature = Feature('camera', 'video', (height, width, 3))
    copied = VideoOptions('mjpeg')
    writer = PacketWriter(path, feature, copied, fps=fps, episode_lengths=[len(packets)])
    for data in packets:
        writer.write(data)
    writer.close()


def starts_of(root):
    """Return the first frame of each episode of a file that holds them all."""
    ends = np.cumsum(lengths(root)).tolist()
    return [0, *ends[:-1]] if info(root)['codebase_version'] == 'v3.0' else [0]


def frames_of(root, path):
    with av.open(str(path)) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)


def reorder(root, change, camera=CAMERA, **options):
    """Write the first file of a camera anew; ``change`` edits the list of its frames."""
    path = video_file(root, camera)
    order = list(range(frames_of(root, path)))
    change(order)
    starts = [start for start in starts_of(root) if start < len(order)]
    rewrite_video(path, order, starts=starts, **options)


def swap_frames(first, second):
    def change(order):
        order[first], order[second] = order[second], order[first]

    return change


def truncate(path, share):
    """Cut off the end of a file."""
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: int(len(data) * share)])
