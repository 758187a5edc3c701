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
Feeds rows of PNGs to the extension that undoes their filters, built with sanitizers.

By hand, where GCC and its sanitizers are::

    python test/fuzz_png_rows.py --seconds 60

Each result is compared with what the PNG specification says, in slow Python.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
import random
import subprocess
import sys
import sysconfig
import tempfile
import time

import numpy as np

SOURCE = Path(__file__).parents[1] / 'kuavo_bag_converter' / 'messages' / 'png_rows.c'


def unfiltered(data, height, width):
    """Return the pixels of filtered rows; None if a filter is unknown. PNG specification, 9."""
    above = [0] * (2 * width)
    pixels = []
    for row in range(height):
        kind, *raw = data[slice(row * (1 + 2 * width), (row + 1) * (1 + 2 * width))]
        line = []
        for place, value in enumerate(raw):
            left, up = line[place - 2] if place > 1 else 0, above[place]
            up_left = above[place - 2] if place > 1 else 0
            both = left + up - up_left
            nearest = min((abs(both - x), rank, x) for rank, x in enumerate((left, up, up_left)))
            if kind > 4:
                return None
            add = (0, left, up, (left + up) // 2, nearest[2])[kind]
            line.append((value + add) % 256)
        above = line
        pixels += [high * 256 + low for high, low in zip(line[::2], line[1::2], strict=True)]
    return pixels


def built(folder, *options):
    """Compile the extension into a folder, from which it can be imported."""
    include = sysconfig.get_path('include')
    target = Path(folder) / 'png_rows.so'
    command = ['gcc', '-shared', '-fPIC', '-Wno-psabi', f'-I{include}', *options, str(SOURCE)]
    subprocess.run([*command, '-o', str(target)], check=True)
    return target


def fuzz(seconds):
    import png_rows

    end, runs = time.monotonic() + seconds, 0
    chance = random.Random(0)
    while time.monotonic() < end:
        height, width = chance.randint(1, 24), chance.randint(1, 24)
        data = bytearray(chance.randbytes(height * (1 + 2 * width)))
        for row in range(height):
            data[row * (1 + 2 * width)] = chance.choices(range(6), (9, 9, 9, 9, 9, 0.05))[0]
        pixels = np.empty((height, width), np.uint16)
        done = png_rows.unfilter(bytes(data), pixels, height, width)
        expected = unfiltered(data, height, width)
        assert done == (expected is not None)
        assert not done or pixels.ravel().tolist() == expected
        wrong = chance.choice(
            [(0, width), (height, 0), (-1, -1), (height + 1, width), (1 << 62, 2)]
        )
        try:
            png_rows.unfilter(bytes(data), pixels, *wrong)
        except ValueError:
            runs += 1
            continue
        raise AssertionError(f'{wrong} was taken for {height, width}')
    sys.stdout.write(f'{runs} runs, nothing found\n')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.partition('\n\n')[0])
    parser.add_argument('--seconds', type=float, default=60)
    parser.add_argument('--child', action='store_true', help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        fuzz(given.seconds)
        sys.exit()
    with tempfile.TemporaryDirectory() as built_in:
        built(built_in, '-g', '-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=all')
        name = subprocess.check_output(['gcc', '-print-file-name=libasan.so'], text=True).strip()
        environment = os.environ | {
            'LD_PRELOAD': name, 'ASAN_OPTIONS': 'detect_leaks=0', 'PYTHONPATH': built_in,
            'PYTHONMALLOC': 'malloc',
        }  # fmt: skip
        again = [sys.executable, __file__, '--child', '--seconds', str(given.seconds)]
        sys.exit(subprocess.run(again, env=environment).returncode)
