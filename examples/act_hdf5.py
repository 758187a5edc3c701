"""Aligned frames to HDF5 files as ACT reads them, one for each episode.

The layout is that of ACT's record_sim_episodes.py (https://github.com/tonyzhaozh/act), with the
cameras that the profile has. Bags seldom tell velocities; ACT reads qvel but does not use it: here
it holds the differences of qpos. ACT wants all episodes to be of one length.

    pip install h5py
    python examples/act_hdf5.py act/ run1.bag run2.bag --profile kuavo
"""

import argparse
from pathlib import Path

import h5py
import numpy as np

import kuavo_bag_converter as kbc

CAMERA = 'observation.images.'


def append(file, name, rows):
    """Add rows to an array of a file, which grows along its first axis."""
    if name not in file:
        chunks = (1 if rows.ndim > 2 else 100, *rows.shape[1:])  # pictures are read one by one
        file.create_dataset(name, data=rows, maxshape=(None, *rows.shape[1:]), chunks=chunks)
    else:
        file[name].resize(len(file[name]) + len(rows), axis=0)
        file[name][-len(rows) :] = rows


def export(folder, bags, profile_name):
    """Write the episodes of recordings; return how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    episodes = 0
    for path in bags:
        with kbc.open_bag(path) as bag:
            profile = kbc.load_profile(profile_name, bag=bag)
            for chunk in kbc.iter_chunks(bag, profile):
                qpos, is_new = chunk.vectors['observation.state'], chunk.first_frame == 0
                if is_new:
                    episodes, last = episodes + 1, qpos[:1]
                qvel = np.diff(qpos, axis=0, prepend=last) * np.float32(profile.fps)
                last = qpos[-1:]
                name = folder / f'episode_{episodes - 1}.hdf5'
                with h5py.File(name, 'w' if is_new else 'a') as file:
                    file.attrs['sim'] = False
                    append(file, 'action', chunk.vectors['action'])
                    append(file, 'observations/qpos', qpos)
                    append(file, 'observations/qvel', qvel)
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
    given = parser.parse_args()
    print(f'{export(given.folder, given.bags, given.profile)} episodes in {given.folder}')
