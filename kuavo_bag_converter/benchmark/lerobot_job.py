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
The job of a measured process: LeRobot's own writer on frames that were taken from a bag.

It is run by the Python that has lerobot, so it imports nothing of this package. What it gets was
written by :mod:`~kuavo_bag_converter.benchmark.frames_job`; reading and aligning the bag is not
part of its work, decoding the pictures is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import inspect
import io
import json
from pathlib import Path
from typing import Any

import lerobot
from lerobot.datasets.lerobot_dataset import LeRobotDataset
import numpy as np
from PIL import Image


def prepare(specification: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
    """Return the writing of ``specification['frames']`` to a dataset at ``['output']``."""
    folder, root = Path(specification['frames']), Path(specification['output'])
    description = json.loads((folder / 'frames.json').read_text(encoding='utf-8'))
    streaming = {'streaming_encoding': True} if specification['streaming'] else {}

    def work() -> dict[str, Any]:
        dataset = LeRobotDataset.create(
            repo_id='benchmark/frames',
            fps=description['fps'],
            features=description['features'],
            root=root,
            use_videos=True,
            **streaming,
        )
        _add(dataset, folder, description)
        if hasattr(dataset, 'finalize'):
            dataset.finalize()
        size = sum(path.stat().st_size for path in root.rglob('*') if path.is_file())
        return {'frames': sum(description['episodes']), 'bytes_written': size}

    return work


def describe() -> dict[str, object]:
    """Return the version of lerobot, and whether it can encode while frames come."""
    create = inspect.signature(LeRobotDataset.create)
    return {
        'version': lerobot.__version__,
        'streaming': 'streaming_encoding' in create.parameters,
    }


def _add(dataset: Any, folder: Path, description: Mapping[str, Any]) -> None:
    rows = {key: np.load(folder / f'{key}.npy') for key in description['vectors']}
    cameras = {
        key: _Pictures(folder, key, camera) for key, camera in description['cameras'].items()
    }
    task = {'task': description['task']}
    separate = 'task' in inspect.signature(dataset.add_frame).parameters
    index = 0
    for length in description['episodes']:
        for _ in range(length):
            frame = {key: values[index] for key, values in rows.items()}
            frame |= {key: camera.picture(index) for key, camera in cameras.items()}
            if separate:
                dataset.add_frame(frame, **task)
            else:
                dataset.add_frame(frame | task)
            index += 1
        dataset.save_episode()


class _Pictures:
    """The JPEG or PNG pictures of one camera, decoded one by one."""

    def __init__(self, folder: Path, key: str, camera: Mapping[str, Any]) -> None:
        self._file = (folder / f'{key}.pictures').open('rb')
        self._places = np.load(folder / f'{key}.places.npy')
        self._size = (camera['width'], camera['height'])
        self._depth_range = camera['depth_range']

    def picture(self, index: int) -> Any:
        """Return a picture as uint8 of shape (height, width, 3)."""
        start, stop = self._places[index]
        self._file.seek(start)
        picture = Image.open(io.BytesIO(self._file.read(stop - start)))
        if self._depth_range is None:
            return np.asarray(picture.convert('RGB').resize(self._size))
        return self._gray(np.asarray(picture.resize(self._size, Image.Resampling.NEAREST)))

    def _gray(self, depth: Any) -> Any:
        """Stretch depth in mm to 8 bit, picture by picture, as the original converter does."""
        low, high = self._depth_range
        clipped = np.clip(depth, low, high).astype(np.float32)
        least, most = clipped.min(), clipped.max()
        gray = ((clipped - least) * (255 / max(most - least, 1))).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)


if __name__ == '__main__':
    print(json.dumps(describe()))  # noqa: T201
