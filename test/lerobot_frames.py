"""Load datasets with a real LeRobot, in its own interpreter, and save every frame.

Usage: python lerobot_frames.py OUTPUT.npz ROOT [ROOT...]

For each dataset and video backend the arrays are saved under ``<dataset>/<backend>/<key>``.
"""

import os
import sys
import tempfile
from pathlib import Path

os.environ['HF_HUB_OFFLINE'] = os.environ['HF_DATASETS_OFFLINE'] = '1'
os.environ['HF_HOME'] = tempfile.mkdtemp()

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset


def frames(root, backend):
    dataset = LeRobotDataset('local/check', root=root, video_backend=backend)
    items = [dataset[index] for index in range(len(dataset))]
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
