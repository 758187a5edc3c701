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

"""Conversions in tests: run one, read what came out without the code under test."""

from __future__ import annotations

from pathlib import Path
import re

import av
from dataset_reading import tree
from kuavo_bag_converter.benchmark.references import FILLERS
from kuavo_bag_converter.check.description import describe
from kuavo_bag_converter.check.findings import Findings
from kuavo_bag_converter.jobs.convert import convert_bags
from kuavo_bag_converter.messages.definitions import Definitions
from kuavo_bag_converter.profiles.loader import read_profile
from kuavo_bag_converter.replay.bags import match_bags
from kuavo_bag_converter.replay.opinion import BagOpinion
from kuavo_bag_converter.replay.plain_recording import OpinionSummary
from kuavo_bag_converter.sample.barcode import read_frame_number
from kuavo_bag_converter.sample.write import write_sample
from kuavo_bag_converter.settings import settings_from
import numpy as np
import pyarrow.parquet as pq
from record_files import read_record

COLOR = {
    'observation.images.head_cam_h': '/cam_h/color/image_raw/compressed',
    'observation.images.wrist_cam_l': '/cam_l/color/image_raw/compressed',
    'observation.images.wrist_cam_r': '/cam_r/color/image_raw/compressed',
}
DEPTH = {
    'observation.depth_h': '/cam_h/depth/image_raw/compressedDepth',
    'observation.depth_l': '/cam_l/depth/image_rect_raw/compressedDepth',
    'observation.depth_r': '/cam_r/depth/image_rect_raw/compressedDepth',
}
"""Cameras of a sample by their features."""


def write_samples(folder, count, **options):
    """Write ROS 1 bags that differ by their seed; return their paths in order."""
    paths = [folder / f'{seed}.bag' for seed in range(count)]
    for seed, path in enumerate(paths):
        write_sample(path, seed=seed, **options)
    return paths


def run(bags, output, *, observer=None, cancel=None, method='chunked', judged=False, **values):
    """
    Convert; names with dots are written with two underscores. Return the report.

    With ``judged``, the second opinion on the dataset must find nothing.
    """
    bags = bags if isinstance(bags, (list, tuple)) else [bags]
    given = {name.replace('__', '.'): value for name, value in values.items()}
    given |= {'bags': [str(bag) for bag in bags], 'output': str(output)}
    done = convert_bags(
        settings_from(given, 'test'), observer=observer, cancel=cancel, fill=FILLERS[method]
    )
    if judged and any(outcome.status == 'converted' for outcome in done.outcomes):
        assert opinion(output, bags)[0] == []
    return done


def opinion(root, bags, frames=3, instead=None):
    """
    Return what the second opinion finds in a dataset, and what it has looked at.

    ``instead`` is a bag that is taken for the one of which the dataset was made.
    """
    findings, summary = Findings(), OpinionSummary()
    dataset = describe(Path(root), findings)
    profile = read_profile(Path(root) / 'conversion' / 'profile.yaml')
    settings = dataset.record.known_settings('test')
    definitions = Definitions(settings.msg_path, settings.distro)
    if instead is None:
        pairs = [(m.bag, m.files) for m in match_bags(dataset.record, bags, findings).found]
    else:
        pairs = [(dataset.record.converted[0], [instead])]
    for bag, files in pairs:
        judge = BagOpinion(dataset, bag, files, profile, definitions, findings, summary, frames)
        judge.judge()
    return list(findings), summary


def rows(root):
    """Return the columns of the table as arrays."""
    table = pq.ParquetDataset(sorted(Path(root).glob('data/*/*.parquet'))).read()
    return {
        name: np.array(table[name].to_pylist(), dtype=None) for name in table.column_names
    }  # fmt: skip


def report(root):
    return read_record(root)


def alignment(root, bag=0):
    table = pq.read_table(Path(root) / f'conversion/alignment/chunk-000/{bag:06}.parquet')
    return {name: table[name].to_numpy() for name in table.column_names}


def serving(root, topic, bag=0):
    """Return the ordinals of a topic that serve each frame."""
    tracks = report(root)['bags'][bag]['plan']['tracks']
    number = next(i for i, track in enumerate(tracks) if track['topic'] == topic)
    return alignment(root, bag)[f'track.{number}.first']


def pictures(root, key):
    """Yield the decoded frames of a camera, uint8 (height, width, 3), in order."""
    for path in sorted((Path(root) / 'videos' / key).glob('*/*.mp4')):
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format='rgb24')


def numbers(root, key):
    """Return the camera and frame number in each picture of a camera."""
    return [read_frame_number(picture) for picture in pictures(root, key)]


def same_frames(root):
    """Return digests of everything that does not name the bag, or say how it was recorded."""
    return {
        name: digest
        for name, digest in tree(root).items()
        if not re.match(r'conversion/(report\.json|bags/|topics/)', name)
    }
