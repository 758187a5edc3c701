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
Aligned frames to HDF5 files as ACT (https://github.com/tonyzhaozh/act) reads them.

ACT reads qvel but does not use it: it holds differences of qpos. It wants episodes of one length.
Needs h5py: python examples/act_hdf5.py act/ run1.bag run2.bag --profile kuavo
"""

import argparse
from pathlib import Path

import h5py
import kuavo_bag_converter as kbc
import numpy as np

CAMERA = 'observation.images.'


def append(file, name, rows):
    """Add rows to an array of a file, which grows along its first axis."""
    if name not in file:
        chunks = (1 if rows.ndim > 2 else 100, *rows.shape[1:])  # pictures are read one by one
        file.create_dataset(name, data=rows, maxshape=(None, *rows.shape[1:]), chunks=chunks)
    else:
        file[name].resize(len(file[name]) + len(rows), axis=0)
        file[name][slice(-len(rows), None)] = rows


def export(folder, bags, profile):
    """Write the episodes of recordings; return how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    episodes, last = 0, None
    for path in bags:
        with kbc.open_bag(path) as bag:
            resolved = kbc.load_profile(profile, bag=bag)
            for chunk in kbc.iter_chunks(bag, resolved):
                qpos, is_new = chunk.vectors['observation.state'], chunk.first_frame == 0
                episodes, last = episodes + is_new, qpos[:1] if is_new else last
                qvel = np.diff(qpos, axis=0, prepend=last) * np.float32(resolved.fps)
                last = qpos[-1:]
                name = folder / f'episode_{episodes - 1}.hdf5'
                with h5py.File(name, 'w' if is_new else 'a') as file:
                    file.attrs['sim'] = False
                    for key, rows in (('qpos', qpos), ('qvel', qvel)):
                        append(file, f'observations/{key}', rows)
                    append(file, 'action', chunk.vectors['action'])
                    for key, pictures in chunk.pictures.items():
                        if key.startswith(CAMERA):
                            pixels = np.stack([picture.decode() for picture in pictures])
                            append(file, f'observations/images/{key.removeprefix(CAMERA)}', pixels)
    return episodes


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Bags to HDF5 files as ACT reads them.')
    parser.add_argument('folder', type=Path)
    parser.add_argument('bags', nargs='+')
    parser.add_argument('--profile', default='kuavo')
    print(export(**vars(parser.parse_args())), 'episodes')
