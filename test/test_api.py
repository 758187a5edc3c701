"""The public interface: scripts get what a conversion writes, and nothing else is changed."""

from __future__ import annotations

import numpy as np
import pytest
from bag_edits import copied
from conversions import COLOR, DEPTH, alignment, pictures, report, rows, write_samples

import kuavo_bag_converter as kbc
from kuavo_bag_converter.frames import memory_budget
from kuavo_bag_converter.sample.barcode import read_frame_number
from kuavo_bag_converter.sample.write import write_sample

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
    monkeypatch.setattr(memory_budget, '_MOST_HELD', held)
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
    monkeypatch.setattr(memory_budget, '_MOST_HELD', 100_000)
    waits = r'wait for other topics .* sort the bag by time'
    with kbc.open_bag(apart) as reader, pytest.raises(kbc.BagError, match=waits):
        list(kbc.iter_chunks(reader, profile, chunk_size=5))
