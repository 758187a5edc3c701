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

"""The comparison of video codecs on pictures of a bag, from which the default was chosen."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass
import json
import math
from pathlib import Path
import sys
from typing import Any

from kuavo_bag_converter.benchmark.campaign import common_settings, made_bag, say, scratch_folder
from kuavo_bag_converter.benchmark.markdown import table
from kuavo_bag_converter.benchmark.measure import measure, Measurement
from kuavo_bag_converter.benchmark.results import describe_machine
from kuavo_bag_converter.dataset.features import VideoOptions

_JOB = 'kuavo_bag_converter.benchmark.codec_job'

_COMPATIBILITY = {
    'h264': 'LeRobot, all browsers and players',
    'hevc': 'LeRobot; browsers with hardware for it',
    'libsvtav1': 'LeRobot (its default), recent browsers',
    'mjpeg': 'LeRobot reads it, its tools re-encode it; no browser',
}


@dataclass(frozen=True)
class _Codec:
    name: str
    video: VideoOptions
    parallel: bool = False
    """Threads and lookahead are the encoder's choice."""


_CODECS = (
    _Codec('H.264 ultrafast', VideoOptions(preset='ultrafast')),
    _Codec('H.264 superfast', VideoOptions()),
    _Codec('H.264 superfast, gop 30', VideoOptions(gop=30)),
    _Codec('H.264 veryfast', VideoOptions(preset='veryfast')),
    _Codec('H.264 medium', VideoOptions(preset='medium')),
    _Codec('HEVC ultrafast', VideoOptions('hevc', 28, 'ultrafast')),
    _Codec('AV1 preset 10', VideoOptions('libsvtav1', 30, '10')),
    _Codec('AV1 preset 12', VideoOptions('libsvtav1', 30, '12')),
    _Codec('AV1 preset 12, gop 30', VideoOptions('libsvtav1', 30, '12', 30)),
    _Codec(
        'AV1 preset 12, as LeRobot runs it', VideoOptions('libsvtav1', 30, '12'), parallel=True
    ),
    _Codec('JPEG copy', VideoOptions('mjpeg')),
)


def compare_codecs(options: argparse.Namespace, sample: Mapping[str, object]) -> int:
    """
    Measure all codecs and write the results.

    :param options: Of the command line.
    :param sample: Options of the bag to make.
    :raises UsageError: A setting is wrong.
    :raises ConverterError: The bag cannot be made.
    """
    settings = common_settings(options.assignments, sample)
    work = Path(options.work)
    bag = Path(options.bag) if options.bag else made_bag(work, sample)
    path = scratch_folder(work) / 'video.mp4'
    specification = {'settings': {**settings, 'bags': [str(bag)]}, 'path': str(path)}
    rows = []
    for codec in _CODECS:
        row = _measured(codec, specification)
        path.unlink(missing_ok=True)
        say(f'{codec.name}: {row["status"]} {row["reason"]}')
        rows.append(row)
    folder = work / 'results' / 'codecs'
    folder.mkdir(parents=True, exist_ok=True)
    found = {'machine': describe_machine(), 'codecs': rows}
    (folder / 'results.json').write_text(json.dumps(found, indent=1), encoding='utf-8')
    text = _markdown(rows)
    (folder / 'results.md').write_text(text, encoding='utf-8')
    sys.stdout.write(text)
    return 1 if any(row['status'] != 'done' for row in rows) else 0


def _measured(codec: _Codec, specification: Mapping[str, Any]) -> dict[str, Any]:
    encoding = {'judge': False, 'video': asdict(codec.video), 'parallel': codec.parallel}
    encoded = measure(_JOB, {**specification, **encoding})
    judged: Measurement | None = None
    if encoded.status == 'done':
        judged = measure(_JOB, {**specification, 'judge': True})
    last = judged or encoded
    row = {'name': codec.name, **encoding, 'status': last.status, 'reason': last.reason}
    if judged and judged.status == 'done':
        row |= encoded.outcome | judged.outcome
        row['encode_ms'] = encoded.work_cpu_s * 1000 / encoded.outcome['frames']
    return row


def _markdown(rows: list[dict[str, Any]]) -> str:
    header = (
        'Codec',
        'Encode, CPU ms',
        'Encoder, MB',
        'KB per picture',
        'PSNR, dB',
        'worst frame',
        'SSIM',
        'Decode in order, CPU ms',
        'at random',
        'Compatibility',
    )
    return table(header, [_row(row) for row in rows]) + '\n'


def _row(row: Mapping[str, Any]) -> list[str]:
    if row['status'] != 'done':
        return [row['name'], row['status'], *[''] * 8]
    exact = math.isinf(row['psnr_db'])
    return [
        row['name'],
        f'{row["encode_ms"]:.1f}',
        f'{row["encoder_mb"]:.0f}',
        f'{row["bytes_per_frame"] / 1024:.1f}',
        'exact' if exact else f'{row["psnr_db"]:.1f}',
        'exact' if exact else f'{row["worst_psnr_db"]:.1f}',
        'exact' if exact else f'{row["ssim"]:.3f}',
        f'{row["decode_ms"]:.1f}',
        f'{row["random_decode_ms"]:.1f}',
        _COMPATIBILITY[row['video']['vcodec']],
    ]
