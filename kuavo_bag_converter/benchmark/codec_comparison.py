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
from kuavo_bag_converter.dataset.encoders import DEPTH_OPTIONS
from kuavo_bag_converter.dataset.features import VideoOptions
from kuavo_bag_converter.dataset.hardware import why_not
from kuavo_bag_converter.settings import HARDWARE_ENCODERS
from kuavo_bag_converter.support.errors import UsageError

_JOB = 'kuavo_bag_converter.benchmark.codec_job'

_COMPATIBILITY = {
    'h264': 'LeRobot, all browsers and players',
    'hevc': 'LeRobot; browsers with hardware for it',
    'libsvtav1': 'LeRobot (its default), recent browsers',
    'mjpeg': 'LeRobot reads it, its tools re-encode it; no browser',
}


_SIZE = (480, 640)
"""Of the pictures with which encoders in hardware are tried."""


@dataclass(frozen=True)
class _Codec:
    name: str
    video: VideoOptions
    parallel: bool = False
    """Threads and lookahead are the encoder's choice."""
    depth: str = ''
    """How depth is coded; '' for pictures in colours."""


_CODECS = (
    _Codec('H.264 ultrafast', VideoOptions(preset='ultrafast')),
    _Codec('H.264 superfast', VideoOptions()),
    _Codec('H.264 superfast, gop 30', VideoOptions(gop=30)),
    _Codec('H.264 veryfast', VideoOptions(preset='veryfast')),
    _Codec('H.264 medium', VideoOptions(preset='medium')),
    _Codec('H.264 superfast, yuv444p', VideoOptions(pix_fmt='yuv444p')),
    _Codec('H.264 superfast, yuv420p10le', VideoOptions(pix_fmt='yuv420p10le')),
    _Codec('HEVC ultrafast', VideoOptions('hevc', 23, 'ultrafast')),
    _Codec('HEVC ultrafast, crf 28', VideoOptions('hevc', 28, 'ultrafast')),
    _Codec('HEVC superfast', VideoOptions('hevc', 23)),
    _Codec('AV1 preset 10', VideoOptions('libsvtav1', 30, '10')),
    _Codec('AV1 preset 12', VideoOptions('libsvtav1', 30, '12')),
    _Codec('AV1 preset 12, gop 30', VideoOptions('libsvtav1', 30, '12', 30)),
    _Codec(
        'AV1 preset 12, as LeRobot runs it', VideoOptions('libsvtav1', 30, '12'), parallel=True
    ),
    _Codec('JPEG copy', VideoOptions('mjpeg')),
    _Codec('depth as grey, H.264 superfast', VideoOptions(gray_depth=True), depth='original'),
    _Codec(
        'depth as grey, H.264 ultrafast',
        VideoOptions(preset='ultrafast', gray_depth=True),
        depth='original',
    ),
    _Codec('depth in 12 bits, HEVC lossless', DEPTH_OPTIONS, depth='metric12'),
)
_BEGIN, _END = '<!-- benchmark codecs -->\n', '<!-- end of benchmark codecs -->'
"""The lines of a text file between which the table stands."""


def compare_codecs(options: argparse.Namespace, sample: Mapping[str, object]) -> int:
    """
    Measure all codecs and write the results.

    :param options: Of the command line.
    :param sample: Options of the bag to make.
    :raises UsageError: A setting is wrong, or the file has no place for the table.
    :raises ConverterError: The bag cannot be made.
    """
    settings = common_settings(options.assignments, sample)
    if options.write_into:
        _around_table(Path(options.write_into))
    work = Path(options.work)
    bag = Path(options.bag) if options.bag else made_bag(work, sample)
    path = scratch_folder(work) / 'video.mp4'
    specification = {'settings': {**settings, 'bags': [str(bag)]}, 'path': str(path)}
    rows = []
    for codec in _codecs(has_depth=bool(sample.get('depth', True))):
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
    if options.write_into:
        before, after = _around_table(Path(options.write_into))
        Path(options.write_into).write_text(f'{before}{text}{after}', encoding='utf-8')
    return 1 if any(row['status'] != 'done' for row in rows) else 0


def _codecs(*, has_depth: bool) -> list[_Codec]:
    """Return all that can be compared, with the encoders in hardware that work here."""
    found = [codec for codec in _CODECS if has_depth or not codec.depth]
    for encoder, codec in HARDWARE_ENCODERS.items():
        video = VideoOptions(codec, encoders=(encoder,))
        if not why_not(encoder, video, *_SIZE):
            found.append(_Codec(encoder, video))
    return found


def _around_table(path: Path) -> tuple[str, str]:
    """
    Return what stands before and behind the table in a text file.

    :raises UsageError: It has no place for one.
    """
    try:
        before, begin, rest = path.read_text(encoding='utf-8').partition(_BEGIN)
    except (OSError, ValueError) as error:
        raise UsageError(f'--write-into {path}: cannot be read ({error})') from error
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise UsageError(
            f'--write-into {path}: has not the lines {_BEGIN.strip()} and {_END}, between which '
            'the table goes'
        )
    return before + begin, end + after


def _measured(codec: _Codec, specification: Mapping[str, Any]) -> dict[str, Any]:
    encoding = {
        'judge': False,
        'video': asdict(codec.video),
        'parallel': codec.parallel,
        'depth': codec.depth,
    }
    encoded = measure(_JOB, {**specification, **encoding})
    judged: Measurement | None = None
    if encoded.status == 'done':
        judged = measure(_JOB, {**specification, **encoding, 'judge': True})
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
        _compatibility(row['video'], row['depth']),
    ]


def _compatibility(video: Mapping[str, Any], depth: str) -> str:
    if depth == 'metric12':
        return 'LeRobot 0.6 or later; few players'
    if video['vcodec'] == 'h264' and video['pix_fmt'] != 'yuv420p':
        return 'LeRobot, most players; few browsers'
    return _COMPATIBILITY[video['vcodec']]
