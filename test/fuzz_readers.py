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
Feeds broken bags, pictures and definitions to whatever reads them.

By hand, for as long as wanted, where the package is installed or in PYTHONPATH::

    python test/fuzz_readers.py --seconds 600

Only a BagError may come out, in bounded memory and time. Where atheris can be imported, libFuzzer
guides the mutations by coverage. Without it, or with ``--runs``, each run mutates one of the seeds
at random; ``--seed S --first N --runs 1`` repeats run N.
"""

from __future__ import annotations

import argparse
from collections import Counter
from contextlib import contextmanager, nullcontext
import faulthandler
import itertools
from pathlib import Path
import random
import resource
import struct
import sys
import tempfile
import time

import av
import cv2
from mcap.writer import IndexType
import numpy as np

try:
    import atheris
except ImportError:
    atheris = None

with atheris.instrument_imports(['kuavo_bag_converter']) if atheris else nullcontext():
    from bag_files import (
        CLAW,
        HEAD_MOTION,
        IMAGE,
        recording,
        unfinished,
        unindexed,
        write_mcap,
        write_rosbag1,
        write_rosbag2,
    )
    from depth_payloads import rvl
    from kuavo_bag_converter.bags.open import open_bag
    from kuavo_bag_converter.messages.definitions import Definitions
    from kuavo_bag_converter.messages.depth import DepthDecoder, DepthPngCopier, GrayDepthDecoder
    from kuavo_bag_converter.messages.fields import FieldReader
    from kuavo_bag_converter.messages.images import ColorDecoder, JpegCopier, picture_info
    from kuavo_bag_converter.support.errors import BagError
    from ros_messages import compressed_image, connection_of, image
    from video_packets import encode, theora_packets

MEMORY = 3 * 2**30
"""Bytes of address space; Python with its libraries needs about a third."""
HANG_S = 120
"""Wall time after which a run is said to hang; runs take milliseconds."""

DEFINITIONS = Definitions()
COMPRESSED = connection_of('sensor_msgs/msg/CompressedImage', topic='/camera')
RAW = connection_of('sensor_msgs/msg/Image', topic='/camera')


# What is read


@contextmanager
def refusals():
    """Let errors pass that a user may see: one line each."""
    try:
        yield
    except BagError as error:
        if not str(error) or '\n' in str(error):
            raise AssertionError(repr(error)) from error


def read_bag(path):
    """Read all of a bag, as a conversion and as a salvage do."""
    for on_damage in ('fail', 'salvage'):
        with refusals(), open_bag(path, reader='portable', on_damage=on_damage) as bag:
            bag.index(set(bag.counts))
            with refusals():
                bag.index(set(), header={IMAGE.name, CLAW.name} & bag.counts.keys())
            wanted = {topic: np.arange(count) for topic, count in bag.counts.items()}
            for message in bag.messages(wanted):
                bytes(message.data)


def read_pictures(connection, payloads):
    """Give messages to every decoder that there is."""
    decoders = [
        ColorDecoder(connection, DEFINITIONS, (32, 48)),
        ColorDecoder(connection, DEFINITIONS, pix_fmt='yuv444p'),
        DepthDecoder(connection, DEFINITIONS),
        GrayDepthDecoder(DepthDecoder(connection, DEFINITIONS, (32, 48)), 'original', (0, 1500)),
    ]
    if connection is COMPRESSED:
        decoders.append(JpegCopier(connection, DEFINITIONS))
        decoders.append(DepthPngCopier(connection, DEFINITIONS))
    for decoder, payload in itertools.product(decoders, payloads):
        with refusals():
            decoder.decode(payload)
    for payload in payloads:
        with refusals():
            picture_info(connection, DEFINITIONS, payload)


def read_definition(kind, text, payload):
    """Decode a message by a definition."""
    connection = connection_of(
        CLAW.msgtype, definition=text, definition_format=kind, encoding='ros1'
    )
    definitions = Definitions()
    with refusals():
        decoded = definitions.decoder(connection)(payload)
        for path in ('state', 'header.stamp.sec'):
            FieldReader((path,), connection, definitions).read(decoded)


# What is mutated: (kind, bytes)

BAGS = {
    'bag': lambda p, few: write_rosbag1(p / 'r.bag', few, chunk=2000),
    'bag-lz4': lambda p, few: write_rosbag1(p / 'r.bag', few, 'lz4', chunk=2000),
    'bag-bz2': lambda p, few: write_rosbag1(p / 'r.bag', few, 'bz2', chunk=2000),
    'bag-active': lambda p, few: unfinished(write_rosbag1(p / 'r.bag', few, chunk=2000)),
    'bag-unindexed': lambda p, few: unindexed(write_rosbag1(p / 'r.bag', few, chunk=2000)),
    'mcap': lambda p, few: write_mcap(p / 'r.mcap', few, chunk=2000),
    'mcap-no-crc': lambda p, few: write_mcap(p / 'r.mcap', few, chunk=2000, enable_crcs=False),
    'mcap-zstd': lambda p, few: write_mcap(
        p / 'r.mcap', few, 'ZSTD', chunk=2000, enable_crcs=False
    ),
    'mcap-lz4': lambda p, few: write_mcap(p / 'r.mcap', few, 'LZ4', chunk=2000, enable_crcs=False),
    'mcap-no-chunks': lambda p, few: write_mcap(p / 'r.mcap', few, use_chunking=False),
    'mcap-no-index': lambda p, few: write_mcap(p / 'r.mcap', few, index=IndexType.NONE),
    'mcap-ros1': lambda p, few: write_mcap(p / 'r.mcap', few, encoding='ros1', profile='ros1'),
    'mcap-file-zstd': lambda p, few: write_rosbag2(p / 'r', few, 'MCAP', 'FILE') / 'r.mcap.zstd',
    'mcap-message-zstd': lambda p, few: write_rosbag2(p / 'r', few, 'MCAP', 'MESSAGE') / 'r.mcap',
    'db3': lambda p, few: write_rosbag2(p / 'r', few, 'SQLITE3') / 'r.db3',
    'db3-message-zstd': lambda p, few: write_rosbag2(p / 'r', few, 'SQLITE3', 'MESSAGE') / 'r.db3',
    'metadata': lambda p, few: write_rosbag2(p / 'r', few, 'MCAP') / 'metadata.yaml',
}  # fmt: skip


def bag_seeds(folder):
    # Without jumps in time; pictures are shortened, so that mutations hit structure too.
    few = [
        sample._replace(body=sample.body[:60]) if sample.topic is IMAGE else sample
        for sample in recording(0.1)
    ]
    seeds = []
    for name, write in BAGS.items():
        (folder / name).mkdir()
        path = write(folder / name, few)
        seeds.append((name, path.read_bytes()))
    return seeds


def picture_seeds():
    rng = np.random.default_rng(0)
    color = cv2.resize(rng.integers(0, 256, (8, 12, 3), np.uint8), (48, 32))
    depth = rng.integers(300, 3000, (32, 48), np.uint16)
    gray = np.ascontiguousarray(color[:, :, 0])
    jpeg, png, webp = '.jpg', '.png', '.webp'
    head = struct.pack('<iff', 0, 100.0, 0.5)

    def encoded(suffix, pixels, *options):
        return cv2.imencode(suffix, pixels, options)[1].tobytes()

    return [
        ('jpeg', encoded(jpeg, color)),
        ('jpeg', encoded(jpeg, color, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        ('jpeg', encoded(jpeg, gray, cv2.IMWRITE_JPEG_RST_INTERVAL, 2)),
        ('png', encoded(png, color)),
        ('png', encoded(png, depth)),
        ('png', encoded(png, gray, cv2.IMWRITE_PNG_BILEVEL, 1)),
        ('png', encoded(png, gray)),
        ('webp', encoded(webp, color, cv2.IMWRITE_WEBP_QUALITY, 80)),
        ('webp', encoded(webp, color, cv2.IMWRITE_WEBP_QUALITY, 101)),
        ('16UC1; compressedDepth', bytes(12) + encoded(png, depth)),
        ('32FC1; compressedDepth', head + encoded(png, depth)),
        ('16UC1; compressedDepth rvl', rvl(depth)),
        ('16UC1; compressedDepth rvl', rvl(depth, b'')),
        ('32FC1; compressedDepth rvl', rvl(depth, head)),
    ]


def stream_seeds():
    """Access units of a key frame and four more pictures, lengths before each."""
    seeds = []
    for codec, options in (('libx264', {'tune': 'zerolatency'}), ('libx265', X265)):
        context = av.CodecContext.create(codec, 'w')
        context.width, context.height, context.pix_fmt = 48, 32, 'yuv420p'
        context.framerate, context.options = 30, {'preset': 'ultrafast', **options}
        units = []
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(
                np.full((48, 48), 40 * number, np.uint8)[:48], 'gray'
            )
            frame = frame.reformat(48, 32, 'yuv420p')
            frame.pts = number
            units += [bytes(packet) for packet in context.encode(frame)]
        seeds.append((codec.removeprefix('libx'), b''.join(map(with_length, units))))
    packets = {codec: encode(codec, count=5) for codec in ('av1', 'vp9')}
    packets['theora'] = theora_packets()
    return seeds + [(codec, b''.join(map(with_length, some))) for codec, some in packets.items()]


X265 = {'tune': 'zerolatency', 'x265-params': 'log-level=none:pools=none:frame-threads=1'}


def with_length(unit):
    return struct.pack('<H', len(unit)) + unit


def units_of(data):
    units = []
    while len(data) > 2 and len(units) < 8:
        (length,) = struct.unpack_from('<H', data)
        units.append(data[slice(2, 2 + length)])
        data = data[slice(2 + length, None)]
    return units


def raw_seeds():
    pixels = np.random.default_rng(1).integers(0, 256, 32 * 48 * 4, np.uint8).tobytes()
    sizes = {'rgb8': 3, 'bgra8': 4, 'mono8': 1, 'mono16': 2, '16UC1': 2, '32FC1': 4,
             'yuv422': 2, 'bayer_rggb8': 1, 'bayer_gbrg16': 2}  # fmt: skip
    return [
        (encoding, image(pixels[: 32 * 48 * size], 32, 48, encoding, 48 * size))
        for encoding, size in sizes.items()
    ]


IDL = """\
#include "std_msgs/msg/Header.idl"
module kuavo_msgs { module msg {
  typedef double double__3[3];
  module lejuClawState_Constants { const uint8 OPEN = 1 + (2 << 1); };
  @verbatim (language="comment", text="a" "b")
  struct lejuClawState {
    std_msgs::msg::Header header;
    sequence<int8, 4> state;
    double__3 pose;
    string<8> name;
  };
}; };
"""


class Targets:
    """Everything that is fuzzed; a target takes bytes that a seed became."""

    def __init__(self, folder):
        self.folder = folder
        self.seeds = [('bag', *seed) for seed in bag_seeds(folder)]
        self.seeds += [('picture', *seed) for seed in picture_seeds()]
        self.seeds += [('stream', *seed) for seed in stream_seeds()]
        self.seeds += [('raw', *seed) for seed in raw_seeds()]
        definitions = (CLAW.ros1, HEAD_MOTION.ros1, IMAGE.ros1)
        self.seeds += [('definition', 'msg', text.encode()) for text in definitions]
        self.seeds.append(('definition', 'idl', IDL.encode()))
        self.counts = Counter()

    def run(self, number, data):
        """Give the mutated bytes of seed ``number`` to what reads its kind."""
        target, name, _ = self.seeds[number]
        self.counts[target] += 1
        getattr(self, f'_{target}')(name, data)

    def _bag(self, name, data):
        if name == 'metadata':
            path = self.folder / name / 'r'
            (path / 'metadata.yaml').write_bytes(data)
        else:
            path = self.folder / 'mutated'
            path.write_bytes(data)
        read_bag(path)

    def _picture(self, name, data):
        read_pictures(COMPRESSED, [compressed_image(data, name)])

    def _stream(self, name, data):
        read_pictures(COMPRESSED, [compressed_image(unit, name) for unit in units_of(data)])

    def _raw(self, _name, data):
        read_pictures(RAW, [data])

    def _definition(self, name, data):
        read_definition(name, data.decode(errors='replace'), bytes(range(64)))


def mutated(data, others, rng):
    """Change bytes in one to three places."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        data = _mutated_once(data, others, rng)
    return data


def _mutated_once(data, others, rng):
    at = rng.choice([rng.randrange(len(data) + 1), min(len(data), rng.randrange(64))])
    length = rng.choice([1, 2, 4, 8, rng.randrange(1, 400)])
    kind = rng.randrange(9)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + data[slice(at + length, None)]
    if kind == 2:
        return data[:at] + rng.randbytes(length) + data[at:]
    if kind == 3:
        return data[:at] + rng.randbytes(length) + data[slice(at + length, None)]
    if kind == 4:
        return data[:at] + rng.choice(EXTREMES) + data[slice(at + 4, None)]
    if kind == 5:
        return (
            data[:at]
            + data[slice(at, at + length)] * rng.randrange(2, 9)
            + data[slice(at + length, None)]
        )
    if kind == 6:
        other = rng.choice(others)
        start = rng.randrange(len(other))
        return data[:at] + other[slice(start, start + length)] + data[slice(at + length, None)]
    if kind == 7:
        return data[:at] + bytes(length) + data[slice(at + length, None)]
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


EXTREMES = [
    b'\xff\xff\xff\xff', b'\xff\xff\xff\x7f', b'\0\0\0\x80', b'\0\0\0\0', b'\x01\0\0\0',
    b'\x7f\xff\xff\xff', b'\x80\0\0\0', b'\0\0\xff\xff', b'\x28\xb5\x2f\xfd',
]  # fmt: skip


def fuzz_at_random(targets, arguments):
    """Run until the time or the runs are over; the number of runs."""
    seeds = [data for _, _, data in targets.seeds]
    end = time.monotonic() + arguments.seconds
    for runs in itertools.count():
        if runs == arguments.runs or time.monotonic() > end:
            break
        number = arguments.first + runs
        rng = random.Random(f'{arguments.seed} {number}')
        seed = rng.randrange(len(seeds))
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        try:
            targets.run(seed, mutated(seeds[seed], seeds, rng))
        except BaseException:
            repeat = f'--seed {arguments.seed} --first {number} --runs 1'
            say(f'failed with {targets.seeds[seed][:2]}; to repeat it: {repeat}')
            raise
    faulthandler.cancel_dump_traceback_later()
    return runs


def fuzz_by_coverage(targets, arguments):
    """Let libFuzzer mutate; it prints the number of runs and ends the process."""
    corpus = targets.folder / 'corpus'
    corpus.mkdir()
    for number, (_, _, data) in enumerate(targets.seeds):
        (corpus / str(number)).write_bytes(bytes([number]) + data)

    def one_input(data):
        if len(data) > 1:
            targets.run(data[0] % len(targets.seeds), data[1:])

    options = {
        'max_total_time': round(arguments.seconds),
        'timeout': HANG_S,
        'rss_limit_mb': MEMORY >> 20,
        'seed': arguments.seed + 1,
        'max_len': 65536,
        'print_final_stats': 1,
    }
    words = [f'-{name}={value}' for name, value in options.items()]
    atheris.Setup([sys.argv[0], *words, str(corpus)], one_input)
    atheris.Fuzz()


def say(line):
    sys.stdout.write(f'{line}\n')
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().partition('\n')[0])
    parser.add_argument('--seconds', type=float, default=60.0, help='stop after so long')
    parser.add_argument('--runs', type=int, help='stop after so many, without atheris')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--first', type=int, default=0, help='number of the first run')
    arguments = parser.parse_args()
    faulthandler.enable()
    with tempfile.TemporaryDirectory() as folder:
        targets = Targets(Path(folder))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        started = time.monotonic()
        if atheris and arguments.runs is None:
            fuzz_by_coverage(targets, arguments)
        runs = fuzz_at_random(targets, arguments)
    counts = ', '.join(f'{count} {name}' for name, count in sorted(targets.counts.items()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    say(f'{runs} runs in {time.monotonic() - started:.0f} s ({counts}), peak {peak} MB')


if __name__ == '__main__':
    main()
