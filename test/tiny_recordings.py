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

"""Recordings of a few frames whose every value says which recording and frame it is."""

from __future__ import annotations

from pathlib import Path
import shutil

from arm_runs import ARM, messages
from arm_runs import PROFILE as ONE_EPISODE
from bag_files import write_rosbag1, write_rosbag2

PROFILE = ONE_EPISODE + 'align: {tolerance_ms: 60}\n'
"""A hole in the messages ends an episode."""
LAYOUTS = {
    'three frames': [range(3)],
    'two frames': [range(2)],
    'one frame': [range(1)],
    'two episodes': [range(2), range(7, 10)],
    'two files': [range(4)],
    'a directory': [range(3)],
}
"""The numbers of the frames of each episode, by content."""
CONTENTS = tuple(LAYOUTS)
DAMAGES = ('cut off', 'broken')
"""Known before anything is converted, and found when the last message is converted."""


def number_of(content: str) -> int:
    """Return the first value of every frame of a recording."""
    return CONTENTS.index(content)


def episodes_of(content: str) -> list[list[tuple[float, float]]]:
    """Return the rows of each episode of a recording."""
    return [[(number_of(content), frame) for frame in episode] for episode in LAYOUTS[content]]


class Pool:
    """The files of every recording, whole and damaged, made once."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[tuple[str, str], dict[str, bytes]] = {}
        for content in CONTENTS:
            for damage in ('', 'broken'):
                self._files[content, damage] = _written(folder, content, damage)
            self._files[content, 'cut off'] = {
                name: data if name.endswith('.yaml') else data[: len(data) * 2 // 3]
                for name, data in self._files[content, ''].items()
            }
        self._known = {
            tuple(files.values()): key for key, files in self._files.items() if len(files) < 3
        }

    def files(self, content: str, damage: str = '') -> dict[str, bytes]:
        """Return the files of a recording, by what follows its name."""
        return self._files[content, damage]

    def content_of(self, files: tuple[bytes, ...]) -> tuple[str, str] | None:
        """Return which recording these files are, and how it is damaged."""
        return self._known.get(files)


def _written(folder: Path, content: str, damage: str) -> dict[str, bytes]:
    number = number_of(content)
    sent = [
        message
        for episode in LAYOUTS[content]
        for message in messages(number, len(episode), episode.start)
    ]
    if damage:
        sent[-1] = sent[-1]._replace(values=(number,))
    place = folder / f'{number}{damage}'
    place.mkdir()
    if content == 'a directory':
        write_rosbag2(place / 'run', sent, topics=[ARM])
        files = {f'/{path.name}': path for path in sorted((place / 'run').iterdir())}
    elif content == 'two files':
        halves = sent[: len(sent) // 2], sent[slice(len(sent) // 2, None)]
        files = {
            f'_{n}.bag': write_rosbag1(place / f'{n}.bag', half, topics=[ARM])
            for n, half in enumerate(halves)
        }
    else:
        files = {'.bag': write_rosbag1(place / 'run.bag', sent, topics=[ARM])}
    made = {name: path.read_bytes() for name, path in files.items()}
    shutil.rmtree(place)
    return made
