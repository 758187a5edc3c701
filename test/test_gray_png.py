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

"""Depth PNGs through the optional extension: the pixels of FFmpeg, or FFmpeg itself."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
import shutil
import struct
import subprocess
import sys
import sysconfig
import zlib

import cv2
from hypothesis import given, settings
import hypothesis.strategies as st
from kuavo_bag_converter.messages import gray_png
from kuavo_bag_converter.messages.codecs import PictureCodec
from kuavo_bag_converter.messages.picture_headers import PNG_MAGIC, read_png
from kuavo_bag_converter.messages.video_frames import gray_pixels
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
CAN_BUILD = shutil.which('gcc') and Path(sysconfig.get_path('include'), 'Python.h').exists()


@pytest.fixture(scope='module', autouse=True)
def built(tmp_path_factory):
    """Build the extension as an installation does, and use it."""
    if not CAN_BUILD:
        pytest.skip('needs gcc and the headers of Python')
    folder = tmp_path_factory.mktemp('built')
    command = [sys.executable, 'setup.py', '-q', 'build_ext', '-b', str(folder), '-t', str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    (file,) = folder.rglob('png_rows*.so')
    spec = spec_from_file_location('kuavo_bag_converter.messages.png_rows', file)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gray_png, 'rows', module)
        yield


def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def png(rows, width, *, bits=16, interlaced=0, extra=b'', parts=1, packed=None):
    """Return a grey PNG of filtered rows."""
    header = struct.pack('>IIBBBBB', width, len(rows), bits, 0, 0, 0, interlaced)
    data = zlib.compress(b''.join(rows)) if packed is None else packed
    step = -(-len(data) // parts)
    pieces = [chunk(b'IDAT', data[slice(at, at + step)]) for at in range(0, len(data), step)]
    return b''.join([PNG_MAGIC, chunk(b'IHDR', header), extra, *pieces, chunk(b'IEND', b'')])


def quickly(data):
    return gray_png.decode(memoryview(data), read_png(memoryview(data)))


@st.composite
def pictures(draw):
    height, width = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    row = st.builds(
        lambda kind, raw: bytes([kind]) + raw,
        st.integers(0, 4), st.binary(min_size=2 * width, max_size=2 * width),
    )  # fmt: skip
    rows = draw(st.lists(row, min_size=height, max_size=height))
    return png(rows, width, parts=draw(st.integers(1, 3)))


@settings(deadline=None)
@given(pictures())
def test_pixels_are_those_of_ffmpeg(data):
    expected = gray_pixels(PictureCodec('png').decode(memoryview(data)))
    assert quickly(data).tolist() == expected.tolist()


@pytest.mark.parametrize('strategy', [
    cv2.IMWRITE_PNG_STRATEGY_DEFAULT, cv2.IMWRITE_PNG_STRATEGY_FILTERED,
    cv2.IMWRITE_PNG_STRATEGY_RLE,
])  # fmt: skip
def test_pictures_of_opencv_are_decoded(strategy):
    y, x = np.mgrid[:48, :65]
    depth = (500 + 20 * x + 3 * y + (x * y) % 7).astype(np.uint16)
    data = cv2.imencode('.png', depth, [cv2.IMWRITE_PNG_STRATEGY, strategy])[1].tobytes()
    assert (quickly(data) == depth).all()


ROWS = [b'\1' + bytes(range(8)), b'\4' + bytes(range(8))]
PACKED = zlib.compress(b''.join(ROWS))


@pytest.mark.parametrize('data', [
    png(ROWS, 4, interlaced=1),
    png([row[:5] for row in ROWS], 4, bits=8),
    png(ROWS, 4, extra=chunk(b'tRNS', b'\0\7')),
    png([b'\5' + bytes(8)], 4),
    png([*ROWS, b''], 4),
    png(ROWS, 4, packed=zlib.compress(b''.join([*ROWS, b'more']))),
    png(ROWS, 4, packed=PACKED[:-1] + b'?'),
    png(ROWS, 4, packed=PACKED[:-4]),
    png(ROWS, 4, packed=b'no stream at all'),
], ids=[
    'interlaced', '8 bits', 'transparent', 'unknown filter', 'too little', 'too much',
    'wrong checksum', 'without checksum', 'not deflated',
])  # fmt: skip
def test_what_is_not_plain_or_not_whole_is_left_to_ffmpeg(data):
    assert quickly(data) is None


def test_without_the_extension_ffmpeg_is_asked(monkeypatch):
    assert quickly(png(ROWS, 4)).shape == (2, 4)
    monkeypatch.setattr(gray_png, 'rows', None)
    assert quickly(png(ROWS, 4)) is None


def test_buffers_of_other_sizes_are_refused():
    pixels = np.zeros((2, 4), np.uint16)
    for data, height, width in ((b'', 2, 4), (bytes(18), 0, 4), (bytes(18), 2, 1 << 62)):
        with pytest.raises(ValueError, match='other sizes'):
            gray_png.rows.unfilter(data, pixels, height, width)
