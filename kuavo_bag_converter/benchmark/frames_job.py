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

"""The job of a process: take the frames of a bag out of it, for a writer that reads no bags."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
import json
from pathlib import Path
from typing import Any

from kuavo_bag_converter.alignment.binding import BoundCamera
from kuavo_bag_converter.benchmark.served import ServedBag
from kuavo_bag_converter.settings import settings_from
from kuavo_bag_converter.support.errors import UsageError
import numpy as np


def prepare(specification: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
    """Return the writing of the frames of ``specification['settings']`` to ``['frames']``."""
    settings = settings_from(specification['settings'], 'benchmark')
    folder = Path(specification['frames'])

    def work() -> dict[str, Any]:
        folder.mkdir(parents=True)
        with ServedBag(settings) as bag:
            _write_pictures(bag, folder)
            rows = bag.rows()
            for key, values in rows.items():
                np.save(folder / f'{key}.npy', values)
            cameras = {camera.feature.key: _describe(camera) for camera in bag.binding.cameras}
            description = {
                'fps': bag.binding.profile.fps,
                'task': bag.binding.profile.task,
                'episodes': [stop - start for start, stop in bag.plan.episodes],
                'vectors': list(rows),
                'cameras': cameras,
                'features': _features(rows, cameras),
            }
        (folder / 'frames.json').write_text(json.dumps(description), encoding='utf-8')
        return {}

    return work


def _write_pictures(bag: ServedBag, folder: Path) -> None:
    keys = [camera.feature.key for camera in bag.binding.cameras]
    places = {key: np.zeros((len(bag.plan), 2), np.int64) for key in keys}
    with ExitStack() as stack:
        files = {key: stack.enter_context((folder / f'{key}.pictures').open('wb')) for key in keys}
        for served in bag.pictures(np.arange(len(bag.plan))):
            file = files[served.key]
            start = file.tell()
            file.write(served.data)
            places[served.key][served.frames] = start, file.tell()
    for key in keys:
        np.save(folder / f'{key}.places.npy', places[key])


def _describe(camera: BoundCamera) -> dict[str, Any]:
    feature = camera.feature
    if feature.size is None:
        raise UsageError(f'{feature.key}: the comparison with LeRobot needs a size in the profile')
    depth_range = feature.depth_range if feature.depth else None
    return {'height': feature.size[0], 'width': feature.size[1], 'depth_range': depth_range}


def _features(rows: Mapping[str, Any], cameras: Mapping[str, Any]) -> dict[str, Any]:
    """Return the features as ``LeRobotDataset.create`` takes them."""
    vectors = {
        key: {'dtype': str(values.dtype), 'shape': values.shape[1:], 'names': None}
        for key, values in rows.items()
    }
    videos = {
        key: {
            'dtype': 'video',
            'shape': (camera['height'], camera['width'], 3),
            'names': ['height', 'width', 'channels'],
        }
        for key, camera in cameras.items()
    }
    return vectors | videos
