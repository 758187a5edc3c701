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
How long one bag takes on how many cores, simulated from measured costs.

Threads take the pictures of stretches as the pool of a conversion does: the stretch that begins
first comes first, each is worked on by one thread at a time, and no more have begun than there are
cameras or threads. Python's lock is held by one thread at a time, for the part of a picture's
cost that is Python's, and by the thread that reads, for its part of each picture::

    python scripts/simulate_stretches.py --colour 3 --depth 3 --frames 623
"""

from __future__ import annotations

# ruff: noqa: T201 (printing is what it is for)
import argparse
import heapq


def simulated(
    cameras: list[float],
    frames: int,
    stretch: int,
    threads: int,
    read_ms: float,
    python_ms: float,
    open_ms: float,
) -> float:
    """
    Return the seconds that the pictures of a bag take.

    :param cameras: CPU ms that a picture of each camera takes outside of Python.
    :param frames: Of the bag.
    :param stretch: Frames of a stretch; all where cameras are not cut.
    :param threads: That decode and encode, each on a core of its own.
    :param read_ms: CPU ms to read a picture, on a further thread, which holds Python's lock.
    :param python_ms: CPU ms of a picture for which its thread holds the lock.
    :param open_ms: CPU ms to open an encoder.
    """
    starts = [*range(0, frames - stretch // 2, stretch)] or [0]
    stretches = [
        (start, camera, end)
        for start, end in zip(starts, [*starts[1:], frames], strict=True)
        for camera in range(len(cameras))
    ]
    stretches.reverse()  # the next one is the last
    begun = []  # first frame, camera, end, next frame, when it can go on
    free = [0.0] * threads
    lock = done = 0.0
    while stretches or begun:
        while stretches and len(begun) < max(threads, len(cameras)):
            start, camera, end = stretches.pop()
            begun.append((start, camera, end, start, 0.0))
        now = heapq.heappop(free)
        arrivals = [
            max(since, (at * len(cameras) + camera + 1) * read_ms)
            for _, camera, _, at, since in begun
        ]
        there = [item for item, arrival in zip(begun, arrivals, strict=True) if arrival <= now]
        if not there:
            heapq.heappush(free, min(arrivals))
            continue
        chosen = min(there)
        begun.remove(chosen)
        start, camera, end, at, _ = chosen
        lock = max(lock, now) + python_ms + read_ms
        ended = lock + cameras[camera] + (open_ms if at == start else 0.0)
        done = max(done, ended)
        heapq.heappush(free, ended)
        if at + 1 < end:
            begun.append((start, camera, end, at + 1, ended))
    return done / 1000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n\n')[0])
    parser.add_argument('--colour', type=int, default=3, help='cameras')
    parser.add_argument('--depth', type=int, default=3, help='cameras')
    parser.add_argument('--frames', type=int, default=623)
    parser.add_argument('--colour-ms', type=float, default=4.6, help='decode and encode')
    parser.add_argument('--depth-ms', type=float, default=3.9, help='decode and encode')
    parser.add_argument('--python-ms', type=float, default=0.7, help='of them under the lock')
    parser.add_argument('--read-ms', type=float, default=0.15, help='a picture, under the lock')
    parser.add_argument('--open-ms', type=float, default=4.0, help='an encoder')
    parser.add_argument('--serial-s', type=float, default=1.0, help='start, plan and end of a run')
    parser.add_argument('--threads', type=int, nargs='+', default=[1, 2, 4, 6, 8, 16, 32])
    given = parser.parse_args()
    cameras = [given.colour_ms] * given.colour + [given.depth_ms] * given.depth
    outside = [cost - given.python_ms for cost in cameras]
    costs = given.read_ms, given.python_ms, given.open_ms
    print('| threads | cameras not cut, s | stretches, s | without the lock, s |')
    print('| ---: | ---: | ---: | ---: |')
    for threads in given.threads:
        row = [
            simulated(outside, given.frames, given.frames, threads, *costs),
            simulated(outside, given.frames, 160, threads, *costs),
            simulated(cameras, given.frames, 160, threads, 0.0, 0.0, given.open_ms),
        ]
        texts = [f'{given.serial_s + seconds:.1f}' for seconds in row]
        print(f'| {threads} | {" | ".join(texts)} |')


if __name__ == '__main__':
    main()
