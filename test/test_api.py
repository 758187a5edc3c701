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

"""The public interface: scripts get what a conversion writes, and nothing else is changed."""

from __future__ import annotations

import ast
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
import shutil
import subprocess
import sys

from bag_edits import copied
from conversions import alignment, COLOR, DEPTH, pictures, report, rows, same_frames, write_samples
from dataset_reading import tree
import kuavo_bag_converter as kbc
from kuavo_bag_converter.frames import stream
from kuavo_bag_converter.profiles.model import Align
from kuavo_bag_converter.sample.barcode import read_frame_number
from kuavo_bag_converter.sample.write import write_sample
import numpy as np
from observers import CancelAfter
import pytest

OPTIONS = {'resize': {'width': 80, 'height': 60}, 'sample_drop': 0}


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    (path,) = write_samples(tmp_path_factory.mktemp('bags'), 1, seconds=1.5, size=(60, 80))
    return path


@pytest.fixture(scope='module')
def dataset(bag, tmp_path_factory):
    root = tmp_path_factory.mktemp('converted') / 'dataset'
    kbc.convert(bag, root, depth_coding='metric12', **OPTIONS)
    return root


def chunks_of(bag, watch=lambda reader: reader, **options):
    with kbc.open_bag(bag) as reader:
        profile = kbc.load_profile('kuavo', bag=reader, **OPTIONS)
        yield from kbc.iter_chunks(watch(reader), profile, **options)


def frame_numbers(chunks, key):
    return [
        read_frame_number(picture.decode()) for chunk in chunks for picture in chunk.pictures[key]
    ]


@pytest.mark.parametrize('chunk_size', [1, 4, 7, 100])
def test_chunks_hold_what_a_conversion_writes(bag, dataset, chunk_size):
    chunks = list(chunks_of(bag, chunk_size=chunk_size))
    table = rows(dataset)
    for key in ('observation.state', 'action'):
        values = np.concatenate([chunk.vectors[key] for chunk in chunks])
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, table[key])
    stamps = np.concatenate([chunk.stamps for chunk in chunks])
    np.testing.assert_array_equal(stamps, alignment(dataset)['frame_stamp_ns'])
    assert [len(chunk) for chunk in chunks[:-1]] == [chunk_size] * (len(chunks) - 1)
    assert [chunk.first_frame for chunk in chunks] == list(range(0, len(stamps), chunk_size))
    assert {task for chunk in chunks for task in chunk.tasks} == {'Pick and Place'}
    for number, track in enumerate(report(dataset)['bags'][0]['plan']['tracks']):
        errors = np.concatenate([chunk.errors_ms[track['topic']] for chunk in chunks])
        stored = alignment(dataset)[f'track.{number}.error_ns']
        np.testing.assert_allclose(errors, stored / 1e6)


@pytest.mark.parametrize('chunk_size', [3, 100])
def test_pictures_are_those_of_the_dataset(bag, dataset, chunk_size):
    chunks = list(chunks_of(bag, chunk_size=chunk_size))
    for key in COLOR:
        decoded = [picture.decode() for chunk in chunks for picture in chunk.pictures[key]]
        assert {(picture.shape, picture.dtype.name) for picture in decoded} == {
            ((60, 80, 3), 'uint8')
        }
        stored = [read_frame_number(picture) for picture in pictures(dataset, key)]
        assert frame_numbers(chunks, key) == stored
    for key in DEPTH:
        depth = chunks[0].pictures[key][0].decode()
        assert (depth.shape, depth.dtype) == ((60, 80), np.uint16)
        assert depth.max() > 255, 'millimetres'


def test_frames_are_the_rows_of_chunks(bag):
    (chunk,) = chunks_of(bag, chunk_size=100)
    with kbc.open_bag(bag) as reader:
        profile = kbc.load_profile('kuavo', bag=reader, **OPTIONS)
        frames = list(kbc.iter_frames(reader, profile))
        assert len(kbc.plan(reader, profile)) == len(frames) == len(chunk)
    assert [frame.index for frame in frames] == list(range(len(chunk)))
    assert [frame.stamp for frame in frames] == chunk.stamps.tolist()
    np.testing.assert_array_equal([frame.vectors['action'] for frame in frames],
                                  chunk.vectors['action'])  # fmt: skip
    for key, all_pictures in chunk.pictures.items():
        for frame, picture in zip(frames, all_pictures, strict=True):
            np.testing.assert_array_equal(frame.pictures[key].decode(), picture.decode())
    topic = COLOR['observation.images.wrist_cam_l']
    assert [frame.errors_ms[topic] for frame in frames] == chunk.errors_ms[topic].tolist()


class Payload(bytes):
    """A payload that counts how many bytes of its kind are alive."""

    alive = most = 0

    def __init__(self, *_):
        Payload.alive += len(self)
        Payload.most = max(Payload.most, Payload.alive)

    def __del__(self):
        Payload.alive -= len(self)


class Watched:
    """A bag whose payloads are counted."""

    passes = 0

    def __init__(self, reader):
        self._reader = reader
        Payload.most = Payload.alive
        Watched.passes = 0

    def __getattr__(self, name):
        return getattr(self._reader, name)

    def messages(self, wanted):
        Watched.passes += 1
        for message in self._reader.messages(wanted):
            yield message._replace(data=Payload(message.data))


@pytest.mark.parametrize('held', [0, 60_000, 32 << 20])
def test_memory_is_bounded_where_topics_are_stored_far_apart(bag, tmp_path, monkeypatch, held):
    expected = list(chunks_of(bag, chunk_size=2))
    stored = sum(picture.nbytes for chunk in expected for key in chunk.pictures
                 for picture in chunk.pictures[key])  # fmt: skip
    apart = copied(bag, tmp_path / 'apart.bag', by_topic=True)
    monkeypatch.setattr(stream, '_MOST_HELD', held)
    for chunk, other in zip(chunks_of(apart, Watched, chunk_size=2), expected, strict=True):
        assert (chunk.episode, chunk.first_frame) == (other.episode, other.first_frame)
        np.testing.assert_array_equal(chunk.stamps, other.stamps)
        for key, values in other.vectors.items():
            np.testing.assert_array_equal(chunk.vectors[key], values)
        for key, both in other.pictures.items():
            for mine, picture in zip(chunk.pictures[key], both, strict=True):
                np.testing.assert_array_equal(mine.decode(), picture.decode())
        del chunk, mine
    if held < stored:
        assert Watched.passes > 1
        assert Payload.most < stored / 2
    else:
        assert Watched.passes == 1


def test_a_video_stream_gives_the_frames_that_the_plan_names(tmp_path, monkeypatch):
    path = tmp_path / 'h264.bag'
    write_sample(path, transport='h264', seconds=2, size=(60, 80), depth=False)
    options = {**OPTIONS, 'use_depth': False}
    kbc.convert(path, tmp_path / 'dataset', **options)
    with kbc.open_bag(path) as reader:
        profile = kbc.load_profile('kuavo', bag=reader, **options)
        for chunk_size in (1, 5, 100):
            chunks = list(kbc.iter_chunks(reader, profile, chunk_size=chunk_size))
            for key in COLOR:
                stored = [read_frame_number(p) for p in pictures(tmp_path / 'dataset', key)]
                assert frame_numbers(chunks, key) == stored
    apart = copied(path, tmp_path / 'apart.bag', by_topic=True)
    monkeypatch.setattr(stream, '_MOST_HELD', 100_000)
    waits = r'wait for other topics .* sort the bag by time'
    with kbc.open_bag(apart) as reader, pytest.raises(kbc.BagError, match=waits):
        list(kbc.iter_chunks(reader, profile, chunk_size=5))


def test_every_name_is_there_and_typed():
    source = Path(kbc.__file__).read_text(encoding='utf-8')
    typed = {
        alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module.startswith('kuavo_bag_converter.')
        for alias in node.names
    }
    assert typed == {'__version__', *kbc.__all__}
    assert set(kbc.__all__) <= set(dir(kbc))
    for name in kbc.__all__:
        assert getattr(kbc, name).__doc__
    with pytest.raises(AttributeError, match='has no attribute'):
        kbc.something_else  # noqa: B018


def test_importing_the_package_imports_no_part_of_it():
    program = 'import sys, kuavo_bag_converter; print(*(m for m in sys.modules if "." in m))'
    loaded = subprocess.run(
        [sys.executable, '-c', program], cwd=Path(kbc.__file__).parents[1], capture_output=True,
        text=True, check=True,
    ).stdout.split()  # fmt: skip
    parts = [name for name in loaded if name.startswith(('kuavo_bag_converter', 'numpy'))]
    assert parts == ['kuavo_bag_converter.support', 'kuavo_bag_converter.support.version']


@pytest.fixture(scope='module')
def profile(bag):
    with kbc.open_bag(bag) as reader:
        return kbc.load_profile('kuavo', bag=reader, **OPTIONS, depth_coding='metric12')


def test_a_profile_can_be_an_object(bag, dataset, profile, tmp_path):
    root = tmp_path / 'dataset'
    kbc.convert(bag, root, profile=profile)
    assert same_frames(root) == same_frames(dataset)
    assert report(root)['settings']['profile'] == 'conversion/profile.yaml'
    assert kbc.load_profile(root / 'conversion' / 'profile.yaml') == profile
    assert kbc.verify(root, bags=[bag], sample=2).ok


def test_a_dataset_of_an_object_is_added_to_with_it_or_with_its_file(profile, tmp_path):
    bags = write_samples(tmp_path, 4, seconds=1.5, size=(60, 80), extras=False)
    broken = tmp_path / 'broken.bag'
    broken.write_bytes(b'#ROSBAG V2.0\n')
    root = tmp_path / 'dataset'
    assert len(kbc.convert([bags[0], broken], root, profile=profile).failures) == 1
    moved = shutil.move(root, tmp_path / 'moved')
    kbc.convert(bags[1], moved, profile=profile, append=True)
    kbc.convert(bags[2], moved, profile=moved / 'conversion' / 'profile.yaml', append=True)
    with pytest.raises(kbc.UsageError, match='made with other settings'):
        kbc.convert(bags[3], moved, profile=replace(profile, robot_type='another'), append=True)
    shutil.copy(bags[3], broken)
    assert kbc.convert([], moved, retry_failed=True).failures == ()
    found = kbc.verify(moved, bags=[], sample=2)
    assert (found.ok, found.episodes) == (True, 4)


def test_a_run_with_an_object_that_was_stopped_goes_on(bag, profile, tmp_path):
    bags = [bag, *write_samples(tmp_path, 1, seconds=2, size=(60, 80), extras=False)]
    stop = CancelAfter(1)
    with pytest.raises(kbc.Cancelled):
        kbc.convert(
            bags, tmp_path / 'out', profile=profile, observer=stop, cancel=stop.cancel
        )  # fmt: skip
    outcomes = kbc.convert(bags, tmp_path / 'out', profile=profile).outcomes
    assert [outcome.status for outcome in outcomes] == ['kept', 'converted']


def test_a_profile_that_no_file_could_hold_is_refused_in_a_line(bag, profile, tmp_path):
    (head, *rest) = profile.cameras
    wrong = replace(head, align=Align('sometimes'))
    for changes, said in (
        ({'features': (*profile.vectors, wrong, *rest)}, 'strategy: expected .* found .sometimes'),
        ({'fps': np.int64(10)}, 'cannot be written as YAML'),
        ({'fps': -1}, 'fps: expected'),
    ):
        bad = replace(profile, **changes)
        with pytest.raises(kbc.UsageError, match=said) as error:
            kbc.convert(bag, tmp_path / 'out', profile=bad)
        assert '\n' not in str(error.value)
        with kbc.open_bag(bag) as reader, pytest.raises(kbc.UsageError, match=said):
            kbc.iter_chunks(reader, bad)
    assert not (tmp_path / 'out').exists()


def test_wrong_use_is_said_in_a_line(bag, dataset, profile, tmp_path):
    for said, call in (
        ("unknown setting 'train_hertz'", lambda: kbc.load_profile('kuavo', train_hertz=1)),
        ('crf: is no option of a profile', lambda: kbc.load_profile('kuavo', crf=1)),
        ('eef_type, platform_type, use_depth: auto is settled by a bag',
         lambda: kbc.load_profile('kuavo', eef_type='auto')),
        ("profile: 'kuavoo' is not known", lambda: kbc.load_profile('kuavoo')),
        ('train_hz: has no meaning', lambda: kbc.convert(bag, tmp_path / 'o', profile=profile,
                                                         train_hz=5)),
        ('exists already', lambda: kbc.convert(bag, dataset)),
        ('no such folder', lambda: kbc.verify(tmp_path / 'none')),
        ('sample: expected at least 2', lambda: kbc.verify(dataset, bags=bag, sample=1)),
    ):  # fmt: skip
        with pytest.raises(kbc.UsageError, match=said):
            call()
    with kbc.open_bag(bag) as reader, pytest.raises(kbc.UsageError, match='chunk_size: expected'):
        kbc.iter_chunks(reader, profile, chunk_size=0)


def test_inspect_tells_what_fits(bag, profile, tmp_path):
    assert kbc.inspect(str(bag)).asked is None
    assert kbc.inspect(bag, profile=profile).asked.fits
    assert kbc.inspect(bag, profile='kuavo', eef_type='leju_claw').asked.fits
    assert not kbc.inspect(bag, eef_type='qiangnao').asked.fits
    (tmp_path / 'no.bag').write_bytes(b'')
    assert kbc.inspect(tmp_path / 'no.bag').health == 'unreadable'


def test_conversions_run_beside_each_other(bag, tmp_path):
    (other,) = write_samples(tmp_path, 1, seconds=2, size=(60, 80), storage='bag')
    jobs = [(bag, {'depth_coding': 'metric12'}), (other, {'video': 'encode', 'threads': 2})]
    jobs = [(path, {**OPTIONS, **options}) for path, options in jobs]

    def convert(folder, number):
        path, options = jobs[number]
        kbc.convert(path, tmp_path / folder / str(number), **options)
        return tree(tmp_path / folder / str(number))

    alone = [convert('alone', number) for number in range(2)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(convert, ['beside'] * 2, range(2))) == alone


STATE = """
import json, locale, logging, os, random, signal, sys, threading, warnings
import av, cv2, numpy as np, pyarrow, threadpoolctl
import kuavo_bag_converter as kbc

def state():
    umask = os.umask(0)
    os.umask(umask)
    return {
        'environment': dict(os.environ), 'cv2': cv2.getNumThreads(), 'umask': umask,
        'blas': [(p['filepath'], p['num_threads']) for p in threadpoolctl.threadpool_info()],
        'signals': [str(signal.getsignal(n)) for n in signal.valid_signals()],
        'path': sys.path, 'folder': os.getcwd(), 'locale': locale.setlocale(locale.LC_ALL),
        'logging': [str(logging.root.handlers), logging.root.level, logging.root.disabled],
        'random': str(random.getstate()), 'numpy': str(np.random.get_state()),
        'floats': np.geterr(), 'hooks': [str(sys.excepthook), str(threading.excepthook)],
        'warnings': str(warnings.filters), 'limit': sys.getrecursionlimit(),
        'pool': pyarrow.default_memory_pool().backend_name,
    }

def everything(bag, output):
    seen = []

    class Watch(kbc.Observer):

        def planned(self, number, plan):
            seen.append(state())

    for codec in ('h264', 'libsvtav1'):
        kbc.convert(bag, f'{output}-{codec}', vcodec=codec, preset='10' if codec != 'h264' else
                    'superfast', observer=Watch(), resize={'width': 80, 'height': 60})
    kbc.verify(f'{output}-h264', bags=bag, sample=2)
    kbc.inspect(bag)
    with kbc.open_bag(bag) as reader:
        for frame in kbc.iter_frames(reader, kbc.load_profile('kuavo', bag=reader)):
            next(iter(frame.pictures.values())).decode()
    return seen

for name in kbc.__all__:
    getattr(kbc, name)
bag, output = sys.argv[1:]
cv2.setNumThreads(3)
before = json.dumps(state())
seen = everything(bag, output)
thread = threading.Thread(target=lambda: seen.extend(everything(bag, output + '-thread')))
thread.start()
thread.join()
assert len(seen) == 4
for now in [*seen, state()]:
    for name, value in json.loads(before).items():
        assert json.loads(json.dumps(now))[name] == value, (name, value, now[name])
assert threading.active_count() == 1, threading.enumerate()
"""


def test_nothing_of_the_process_is_changed(tmp_path):
    (path,) = write_samples(tmp_path, 1, seconds=1.2, size=(60, 80), extras=False)
    done = subprocess.run(
        [sys.executable, '-c', STATE, path, tmp_path / 'out'],
        cwd=Path(kbc.__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
