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

"""Small shards and datasets whose every picture and row says which frame it is."""

from __future__ import annotations

from fractions import Fraction

import av
from kuavo_bag_converter.dataset.assemble import assemble
from kuavo_bag_converter.dataset.features import DepthCoding, Feature, VideoOptions
from kuavo_bag_converter.dataset.shard import ShardWriter
from kuavo_bag_converter.dataset.video import DepthWriter, PacketWriter, VideoWriter
import numpy as np
import pyarrow.parquet as pq

HEIGHT, WIDTH = 48, 64
BITS = 10
FPS = 10
STATE = Feature('observation.state', 'float32', (3,), ('a', 'b', 'c'))
ACTION = Feature('action', 'float32', (1,), ('grip',))
FRONT = Feature('observation.images.front', 'video', (HEIGHT, WIDTH, 3))
WRIST = Feature('observation.images.wrist', 'video', (HEIGHT, WIDTH, 3))
DEPTH = Feature('observation.depth_front', 'video', (HEIGHT, WIDTH, 1), depth=DepthCoding())
FEATURES = (STATE, ACTION, FRONT, WRIST)
H264 = VideoOptions()
COPIED = VideoOptions(vcodec='mjpeg')


def picture(number):
    """Return an RGB picture with ``number`` in white stripes, one for each bit."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for bit in range(BITS):
        image[:, slice(6 * bit, 6 * bit + 6)] = 255 * (number >> bit & 1)
    return image


def number_of(image):
    """Read the number from an RGB picture."""
    return sum(
        int(image[:, slice(6 * bit + 1, 6 * bit + 5)].mean() > 127) << bit for bit in range(BITS)
    )


def frame(number, pix_fmt='yuv420p'):
    """Return a picture in the form that an encoder takes."""
    image = av.VideoFrame.from_ndarray(picture(number), format='rgb24')
    return image.reformat(format=pix_fmt, dst_colorspace='ITU601', dst_color_range='MPEG')


def jpeg(number, height=HEIGHT, width=WIDTH):
    """Return a picture as a JPEG message holds it."""
    encoder = av.CodecContext.create('mjpeg', 'w')
    encoder.width, encoder.height, encoder.pix_fmt = width, height, 'yuvj420p'
    encoder.time_base = Fraction(1, 30)
    image = av.VideoFrame.from_ndarray(picture(number), format='rgb24')
    return bytes(encoder.encode(image.reformat(width, height, 'yuvj420p'))[0])


def depth_map(number):
    """Return a depth map in millimetres."""
    return (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) + 100 * number).astype(np.uint16)


def rows(features, first, count):
    """Return rows whose values say which frame and dimension they are."""
    index = np.arange(first, first + count)[:, None]
    return {
        feature.key: (index + np.arange(feature.shape[0]) / 10).astype(feature.dtype)
        for feature in features
        if not feature.is_video
    }


def fill(writer, features, frames, options=H264, first=0, step=7, task_index=None):
    """Write the frames ``first`` to ``first + frames - 1`` of all features to a shard."""
    for start in range(0, frames, step):
        count = min(step, frames - start)
        tasks = np.zeros(count, np.int64) if task_index is None else task_index[start:][:count]
        writer.append_rows(rows(features, first + start, count), tasks)
    for feature in features:
        numbers = range(first, first + frames)
        if feature.depth:
            camera = writer.camera_writer(feature.key, DepthWriter)
            for number in numbers:
                camera.write(depth_map(number))
        elif feature.is_video and options.vcodec == 'mjpeg':
            packets = writer.camera_writer(feature.key, PacketWriter)
            for number in numbers:
                packets.write(jpeg(number))
        elif feature.is_video:
            encoder = writer.camera_writer(feature.key, VideoWriter)
            for number in numbers:
                encoder.write(frame(number, options.pix_fmt))


def make_shard(
    path,
    lengths,
    *,
    features=FEATURES,
    options=H264,
    fps=FPS,
    first=0,
    tasks=('pick',),
    step=7,
    task_index=None,
):
    """Write a shard whose frames are numbered from ``first`` on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = ShardWriter(path, features, fps, episode_lengths=lengths, tasks=tasks, video=options)
    with writer:
        fill(writer, features, sum(lengths), options, first, step, task_index)
        return writer.finish({'bag': path.name})


def make_shards(folder, lengths, **settings):
    """Write a shard for each list of episode lengths; frames are numbered through all."""
    shards = []
    first = 0
    for number, episodes in enumerate(lengths):
        shards.append(make_shard(folder / f'shard{number}', episodes, first=first, **settings))
        first += sum(episodes)
    return shards


def make_dataset(root, shards, **settings):
    """Assemble shards."""
    shard = shards[0]
    options = {'features': shard.features, 'fps': shard.fps, 'robot_type': 'kuavo', **settings}
    assemble(shards, root, **options)
    return root


def decode(path):
    """Return all pictures of a video as RGB arrays."""
    with av.open(str(path)) as container:
        return [picture.to_ndarray(format='rgb24') for picture in container.decode(video=0)]


def packets(path):
    """Return (time stamp, key frame, bytes) of all packets of a video."""
    with av.open(str(path)) as container:
        return [
            (packet.pts * packet.time_base, packet.is_keyframe, bytes(packet))
            for packet in container.demux(video=0)
            if packet.size
        ]


def table(root):
    """Return all rows of a dataset."""
    files = sorted(root.glob('data/*/*.parquet'))
    columns = {}
    for file in files:
        for key, values in pq.read_table(file).to_pydict().items():
            columns.setdefault(key, []).extend(values)
    return columns
