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
Load datasets with a real LeRobot, in its own interpreter, and save every frame.

Usage: python lerobot_frames.py OUTPUT.npz ROOT [ROOT...]

For each dataset and video backend the arrays are saved under ``<dataset>/<backend>/<key>``.
"""

import os
from pathlib import Path
import random
import sys
import tempfile

os.environ['HF_HUB_OFFLINE'] = os.environ['HF_DATASETS_OFFLINE'] = '1'
os.environ['HF_HOME'] = tempfile.mkdtemp()

from lerobot.datasets.lerobot_dataset import LeRobotDataset  # noqa: E402
import numpy as np  # noqa: E402


def frames(root, backend):
    dataset = LeRobotDataset('local/check', root=root, video_backend=backend)
    order = random.Random(0).sample(range(len(dataset)), len(dataset))  # as training does
    found = {index: dataset[index] for index in order}
    items = [found[index] for index in sorted(found)]
    for key in items[0]:
        values = [item[key] for item in items]
        yield key, np.stack([np.asarray(value) for value in values])


output, *roots = map(Path, sys.argv[1:])
np.savez(
    output,
    **{
        f'{root.name}/{backend}/{key}': values
        for root in roots
        for backend in ('torchcodec', 'pyav')
        for key, values in frames(root, backend)
    },
)
