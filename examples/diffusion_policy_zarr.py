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
Aligned frames to a zarr store as Diffusion Policy's replay buffer reads it.

The layout is that of its replay_buffer.py (https://github.com/real-stanford/diffusion_policy): in
``data`` an array for each feature with the frames of all episodes, in ``meta/episode_ends`` where
each episode ends. The store has format 2, which zarr 2 and 3 read and write.

    pip install zarr
    python examples/diffusion_policy_zarr.py replay_buffer.zarr run1.bag run2.bag --profile kuavo
"""

import argparse

import kuavo_bag_converter as kbc
import numpy as np
import zarr

FORMAT = {} if zarr.__version__.startswith('2.') else {'zarr_format': 2}


def append(group, name, rows):
    """Add rows to an array of a group, which grows along its first axis."""
    if name not in group:
        chunks = (1 if rows.ndim > 2 else 1000, *rows.shape[1:])
        group.create(name, shape=(0, *rows.shape[1:]), chunks=chunks, dtype=rows.dtype)
    group[name].append(rows)


def export(store, bags, profile):
    """Write the episodes of recordings; return where each ends."""
    root = zarr.open_group(store, mode='w', **FORMAT)
    data, meta = root.create_group('data'), root.create_group('meta')
    ends = []
    for path in bags:
        with kbc.open_bag(path) as bag:
            for chunk in kbc.iter_chunks(bag, kbc.load_profile(profile, bag=bag)):
                for key, rows in chunk.vectors.items():
                    append(data, key.removeprefix('observation.'), rows)
                for key, pictures in chunk.pictures.items():
                    pixels = np.stack([picture.decode() for picture in pictures])
                    append(data, key.rpartition('.')[2], pixels)
                if chunk.first_frame == 0:
                    ends.append(ends[-1] if ends else 0)
                ends[-1] += len(chunk)
    append(meta, 'episode_ends', np.array(ends, dtype=np.int64))
    return ends


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Bags to a zarr store for Diffusion Policy.')
    parser.add_argument('store')
    parser.add_argument('bags', nargs='+')
    parser.add_argument('--profile', default='kuavo')
    print('episodes end at', export(**vars(parser.parse_args())))
