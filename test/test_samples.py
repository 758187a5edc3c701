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

"""Sensors faster than the frames: several samples of each frame, and what each of them is."""

from __future__ import annotations

from bisect import bisect_right
import json
import math
import sys

from conversions import report, rows, run
from dataset_reading import info
from hypothesis import given, settings
from hypothesis import strategies as st
from kuavo_bag_converter import iter_chunks, iter_frames, load_profile, open_bag
from kuavo_bag_converter.alignment.alignment_file import read_alignment
from kuavo_bag_converter.alignment.plan import Fill, make_plan, Track
from kuavo_bag_converter.bags.model import TopicIndex
from kuavo_bag_converter.jobs.display import Display
from kuavo_bag_converter.profiles.model import Align, Clock, Part, Source, VectorFeature
from kuavo_bag_converter.replay.verify import verify
from kuavo_bag_converter.support.errors import BagError
from lerobot_readers import BACKENDS, PYTHONS, read, version_of
import numpy as np
from plain_robot import BEGIN, every, imu, joint_state, MS, NS, ramps, Robot, said
import pytest
from ros_messages import ROS2

FPS = 10
FRAMES = 8
SAMPLES = 5
FAST = 50
TICKS = {'from': {'topic': '/tick'}, 'fps': FPS, 'end_trim': 'none'}


def robot(seconds=FRAMES / FPS, **keys):
    """Return a robot with frames of a tick and joints that are sent five times as often."""
    made = Robot().publish('/tick', every(FPS, seconds), said([0.0] * 99, 'Float64'))
    return made.publish('/fast', every(FAST, seconds + 0.2, -0.1, **keys), joint_state(ramps(2)))


def profile_of(*parts, align=None, **feature):
    """Return a profile with a vector of samples, and one of the joints at the frame."""
    fast = {'from': {'topic': '/fast', 'field': 'position'}, 'names': ['a', 'b']}
    own = {**fast, **({} if align is None else {'align': align})}
    return {
        'robot_type': 'made_up', 'fps': FPS, 'task': 'Do it', 'clock': TICKS,
        'features': {
            'observation.state': {'parts': [fast]},
            'observation.fast': {'parts': list(parts) or [own], 'samples': SAMPLES, **feature},
        },
    }  # fmt: skip


def written(folder, made, profile):
    path = folder / 'robot.yaml'
    path.write_text(json.dumps(profile))
    bag = folder / 'bag'
    return bag if bag.exists() else made.write(bag), path


def instants(window_ms=1000 / FPS, count=SAMPLES, frames=FRAMES):
    """Return when the samples of each frame are, ns after the beginning: (frames, samples)."""
    before = np.array([(count - 1 - j) * window_ms / count for j in range(count)])
    return np.arange(frames)[:, None] * NS // FPS - (before * MS).round().astype(int)


def values_at(times):
    """Return what the joints of :func:`robot` are then, float32 (..., 2)."""
    seconds = np.asarray(times)[..., None] / NS
    return (seconds * [1, 2] + [0, 1]).astype(np.float32)


# What a sample is


@pytest.mark.parametrize('version', ['v3.0', 'v2.1'])
def test_the_samples_of_a_frame_are_those_of_its_period(tmp_path, version):
    bag, path = written(tmp_path, robot(), profile_of())
    root = tmp_path / 'out'
    run(bag, root, judged=True, profile=str(path), lerobot_version=version)
    table = rows(root)
    expected = values_at(instants())
    np.testing.assert_array_equal(table['observation.fast'], expected)
    np.testing.assert_array_equal(table['observation.state'], expected[:, -1])
    entry = info(root)['features']['observation.fast']
    assert (entry['dtype'], entry['shape'], entry['names']) == ('float32', [5, 2], ['a', 'b'])
    track = report(root)['bags'][0]['plan']['tracks'][1]
    assert (track['samples'], track['used'], track['repeated']) == (SAMPLES, 40, 0)
    assert track['error_ms'] == {'median': 0, 'p95': 0, 'max': 0}
    served = read_alignment(root / 'conversion' / 'alignment' / 'chunk-000' / '000000.parquet')
    assert served['track.1.first'].tolist() == np.arange(1, 41).reshape(FRAMES, SAMPLES).tolist()
    found = verify(root, [bag], independent=FRAMES)
    assert found.findings == ()
    assert found.opinion.values == FRAMES * 2 * (SAMPLES + 1)


def test_samples_are_interpolated_where_the_profile_says_so(tmp_path):
    profile = profile_of(align={'strategy': 'linear'}, samples=8, window_ms=300)
    bag, path = written(tmp_path, robot(), profile)
    run(bag, tmp_path / 'out', judged=True, profile=str(path))
    found = rows(tmp_path / 'out')['observation.fast']
    times = instants(300, 8).clip(min=-NS // 10)  # nothing is extrapolated
    np.testing.assert_allclose(found, values_at(times), rtol=0, atol=3e-7)
    assert verify(tmp_path / 'out', [bag], independent=FRAMES).ok


@pytest.mark.parametrize('chunk_size', [1, 3, 99])
def test_chunks_and_threads_change_no_sample(tmp_path, chunk_size):
    align = {'strategy': 'linear', 'offset_ms': 7}
    relative = {
        'from': {'topic': '/fast', 'field': 'position'}, 'names': ['a', 'b'], 'align': align,
        'relative_to_start': True, 'scale': 3,
    }  # fmt: skip
    profile = profile_of(relative, window_ms=260)
    bag, path = written(tmp_path, robot(), profile)
    run(bag, tmp_path / 'one', profile=str(path), chunk_size=FRAMES, threads=1)
    run(bag, tmp_path / 'out', profile=str(path), chunk_size=chunk_size, threads=3)
    files = [root / 'data/chunk-000/file-000.parquet' for root in tmp_path.glob('o*')]
    assert len({file.read_bytes() for file in files}) == 1
    with open_bag(bag) as reader:
        loaded = load_profile(path)
        chunks = list(iter_chunks(reader, loaded, chunk_size=chunk_size))
        frames = list(iter_frames(reader, loaded))
    given = np.concatenate([chunk.vectors['observation.fast'] for chunk in chunks])
    np.testing.assert_array_equal(given, rows(tmp_path / 'one')['observation.fast'])
    assert [frame.vectors['observation.fast'].tolist() for frame in frames] == given.tolist()
    errors = [frame.errors_ms['/fast (observation.fast)'] for frame in frames]
    assert {error.shape for error in errors} == {(SAMPLES,)}


def test_the_errors_of_samples_are_measured_and_shown(tmp_path, capsys):
    made = robot(without=[(0.33, 0.41)])  # those at 340, 360, 380 and 400 ms
    bag, path = written(tmp_path, made, profile_of())
    with Display(sys.stderr) as display:
        run(bag, tmp_path / 'out', profile=str(path), observer=display)
    track = report(tmp_path / 'out')['bags'][0]['plan']['tracks'][1]
    assert track['error_ms']['max'] == 40
    assert (track['beyond_half_frame'], track['beyond_full_frame']) == (4, 2)
    assert (track['repeated'], track['cut']) == (4, 0)
    assert (
        '/fast: 4 samples more than half the time between two from their message, at most 40 ms'
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(('on_gap', 'holes'), [('split', [4]), ('zeros', []), ('mark', [])])
def test_gaps_are_found_sample_by_sample(tmp_path, on_gap, holes):
    made = robot(without=[(0.33, 0.41)])
    profile = profile_of(align={'tolerance_ms': 25, 'on_gap': on_gap})
    bag, path = written(tmp_path, made, profile)
    run(bag, tmp_path / 'out', judged=True, profile=str(path))
    left = [frame for frame in range(FRAMES) if frame not in holes]
    expected = values_at(instants())
    expected[4, 1] = values_at(320 * MS)
    expected[4, 2:4] = {'zeros': 0, 'mark': 999, 'split': 0}[on_gap]
    expected[4, 4] = values_at(420 * MS)
    found = rows(tmp_path / 'out')['observation.fast']
    np.testing.assert_array_equal(found, expected[left])
    track = report(tmp_path / 'out')['bags'][0]['plan']['tracks'][1]
    counted = {'split': 'cut', 'zeros': 'filled_with_zeros', 'mark': 'marked'}[on_gap]
    assert track[counted] == (1 if on_gap == 'split' else 2)


def test_a_gap_that_must_not_be_names_the_sample(tmp_path):
    made = robot(without=[(0.33, 0.41)])
    profile = profile_of(align={'tolerance_ms': 25, 'on_gap': 'fail'})
    bag, path = written(tmp_path, made, profile)
    text = run(bag, tmp_path / 'out', profile=str(path)).outcomes[0].reason
    assert text == (
        '/fast: 1 frames have no message near enough for each of its samples, the first at frame '
        '4 (0.360 s): what would serve it is 40.0 ms away; set on_gap or a larger limit'
    )


def test_joints_poses_and_gap_flags_have_samples_too(tmp_path):
    def transform(number, time):
        kinds = ROS2.types
        vector = kinds['geometry_msgs/msg/Vector3'](time / NS, 0.0, 0.0)
        half = time / NS / 2
        turn = kinds['geometry_msgs/msg/Quaternion'](0.0, 0.0, math.sin(half), math.cos(half))
        stamp = kinds['builtin_interfaces/msg/Time'](*divmod(BEGIN + time, NS))
        header = kinds['std_msgs/msg/Header'](stamp, 'base')
        moved = kinds['geometry_msgs/msg/Transform'](vector, turn)
        one = kinds['geometry_msgs/msg/TransformStamped'](header, 'tool', moved)
        return kinds['tf2_msgs/msg/TFMessage']([one])

    made = robot(without=[(0.33, 0.41)])
    made.publish('/tf', every(30, 1.0, -0.15), transform)
    names = [['a', 'b'], ['c']]
    made.publish(
        '/joints', every(FAST, 1.0, -0.1),
        joint_state(lambda n, time: [time / NS] * len(names[n % 2]), lambda n: names[n % 2]),
    )  # fmt: skip
    pose = {'from': {'tf': {'parent': 'base', 'child': 'tool'}}, 'names': list('xyzijkw')}
    joints = {'from': {'topic': '/joints', 'field': 'position'}, 'joints': ['c', 'a']}
    flag = {
        'from': {'topic': '/fast'}, 'names': ['gap'], 'gap_flag': True, 'align': {'gap_ms': 50}
    }  # fmt: skip
    bag, path = written(tmp_path, made, profile_of(pose, joints, flag))
    run(bag, tmp_path / 'out', judged=True, profile=str(path))
    found = rows(tmp_path / 'out')['observation.fast']
    seconds = instants() / NS
    np.testing.assert_allclose(found[..., 0], seconds, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[..., 5], np.sin(seconds / 2), rtol=0, atol=1e-6)
    for joint, first in ((7, 1), (8, 0)):
        sent = np.arange(first, 50, 2) / FAST - 0.1
        near = np.abs(found[..., joint, None] - sent).min(axis=-1)
        assert near.max() < 1e-6
        assert np.abs(found[..., joint] - seconds).max() < 0.0201
    between = (instants() > 320 * MS) & (instants() < 420 * MS)
    assert (found[..., 9] == between).all()
    assert verify(tmp_path / 'out', [bag], independent=FRAMES).ok


@pytest.mark.parametrize('window_ms', [100, 250])
def test_rotations_have_samples_too(tmp_path, window_ms):
    made = robot()
    made.publish(
        '/imu', every(FAST, 1.2, -0.31, jitter_ms=2),
        imu(lambda n, t: [0, 0, (-1) ** n * math.sin(t / NS), (-1) ** n * math.cos(t / NS)]),
    )  # fmt: skip
    fields = [f'orientation.{axis}' for axis in 'xyzw']
    turned = {
        'from': {'topic': '/imu', 'fields': fields}, 'align': {'strategy': 'slerp'},
        'rotation': {'from': 'quaternion_xyzw', 'to': 'rot6d_columns'}, 'names': list('abcdef'),
    }  # fmt: skip
    plain = {
        'from': {'topic': '/imu', 'fields': fields}, 'align': {'strategy': 'slerp'},
        'names': list('xyzw'),
    }  # fmt: skip
    bag, path = written(tmp_path, made, profile_of(turned, plain, window_ms=window_ms))
    run(bag, tmp_path / 'out', judged=True, profile=str(path))
    found = rows(tmp_path / 'out')['observation.fast']
    angle = 2 * instants(window_ms) / NS
    for element, expected in ((0, np.cos(angle)), (1, np.sin(angle)), (4, np.cos(angle))):
        np.testing.assert_allclose(found[..., element], expected, rtol=0, atol=1e-6)
    signs = np.sum(found[:, 1:, 6:] * found[:, :-1, 6:], axis=-1)
    assert (signs > 0).all()
    assert verify(tmp_path / 'out', [bag], independent=FRAMES).ok


stamps = st.lists(st.integers(-300, 700), min_size=1, max_size=30).map(sorted)


@settings(max_examples=100, deadline=None)
@given(
    stamps,
    st.sampled_from(['nearest', 'hold', 'linear']),
    st.integers(2, 7),
    st.none() | st.integers(1, 400),
    st.none() | st.integers(1, 80),
    st.sampled_from(['keep', 'hold', 'mark']),
)
def test_any_sample_is_what_a_frame_at_its_time_would_be(
    times, strategy, samples, window_ms, tolerance_ms, on_gap
):
    """Each sample alone is served as the naive rule says; a frame that lacks one is cut."""
    source = Source('/fast', ('x',))
    vector = VectorFeature('action', (Part(('x',), (source,)),), None, 'float32', samples,
                           window_ms)  # fmt: skip
    align = Align(strategy, tolerance_ms=tolerance_ms, on_gap=on_gap)
    track = Track('action', '/fast', align, offsets=vector.sample_offsets(FPS))
    ticks = BEGIN + np.arange(5) * NS // FPS
    sent = BEGIN + np.array(times) * MS
    clock = Clock((Source('/tick'),), FPS, end_trim='none', on_pause='keep')
    index = {'/tick': TopicIndex(ticks, None, 0), '/fast': TopicIndex(sent, None, 0)}
    spacing = (NS / FPS if window_ms is None else window_ms * MS) / samples
    wanted = {}
    for frame, tick in enumerate(ticks.tolist()):
        instants = [tick - round((samples - 1 - j) * spacing) for j in range(samples)]
        cells = [_naive(sent.tolist(), at, strategy, tolerance_ms, on_gap) for at in instants]
        if None not in cells:
            wanted[frame] = cells
    try:
        plan = make_plan(clock, '/tick', FPS, [track], index)
    except BagError:
        assert not wanted
        return
    assert plan.stamps.tolist() == ticks[[*wanted]].tolist()
    mine = plan.tracks[0]
    found = zip(*(mine.by_frame(rows).tolist()
                  for rows in (mine.first, mine.second, mine.weight, mine.fill)),
                strict=True)  # fmt: skip
    for cells, row in zip(wanted.values(), found, strict=True):
        for (first, second, weight), *one in zip(cells, *row, strict=True):
            a, b, share, fill = one
            assert (a < 0) == (fill == Fill.MARK) == (first < 0)
            if a >= 0:
                assert (sent[a], sent[b]) == (sent[first], sent[second])
                assert abs(share - weight) < 1e-12


def _naive(sent, at, strategy, tolerance_ms, on_gap):
    """Return the two messages of a time and the share of the second; -1 marked, None cut."""
    past = bisect_right(sent, at) - 1
    first = second = past
    if strategy == 'nearest':
        first = second = min(range(len(sent)), key=lambda i: (abs(sent[i] - at), sent[i]))
    elif strategy == 'linear':
        first = second = max(past, 0)
        if past >= 0 and sent[past] < at and past + 1 < len(sent):
            second = past + 1
    missing = first < 0
    far = not missing and max(abs(sent[i] - at) for i in (first, second)) / MS
    if missing or (tolerance_ms is not None and far > tolerance_ms):
        if on_gap == 'mark':
            return -1, -1, 0.0
        if on_gap == 'hold':
            first = second = past
    if first < 0:
        return None
    share = (at - sent[first]) / (sent[second] - sent[first]) if first != second else 0.0
    return first, second, share


def test_what_is_done_to_messages_is_counted_by_frame(tmp_path):
    """However many of the samples of a frame have such a message, and both of two."""
    made = robot()
    pads = [[1.0] * (1 + number % 2) for number in range(99)]
    layout = ROS2.types['std_msgs/msg/MultiArrayLayout']([], 0)
    made.publish(
        '/array', every(FAST, 1.0, -0.1),
        lambda n, _: ROS2.types['std_msgs/msg/Float64MultiArray'](layout, np.array(pads[n])),
    )  # fmt: skip
    made.publish(
        '/imu', every(FAST, 1.0, -0.11),
        imu(lambda _, t: [0, 0, 0, 0.0 if 290 < t / MS < 360 else 1]),
    )  # fmt: skip
    array = {
        'from': {'topic': '/array', 'field': 'data'}, 'names': ['x', 'y'], 'on_length': 'pad',
    }  # fmt: skip
    turned = {
        'from': {'topic': '/imu', 'fields': [f'orientation.{axis}' for axis in 'xyzw']},
        'rotation': {'from': 'quaternion_xyzw', 'to': 'rotvec'}, 'nan': 'hold',
        'align': {'strategy': 'slerp'},
    }  # fmt: skip
    bag, path = written(tmp_path, made, profile_of(array, turned))
    run(bag, tmp_path / 'out', profile=str(path))
    plan = report(tmp_path / 'out')['bags'][0]['plan']
    assert plan['padded'] == {'/array': FRAMES}
    assert plan['not_finite'] == {'/imu': 2}


# As a dataset


def test_statistics_are_those_of_all_samples(tmp_path):
    profile = profile_of()
    bag, path = written(tmp_path, robot(), profile)
    run(bag, tmp_path / 'out', profile=str(path))
    stored = json.loads((tmp_path / 'out' / 'meta' / 'stats.json').read_text())
    found = stored['observation.fast']
    samples = values_at(instants()).reshape(-1, 2).astype(np.float64)
    assert found['count'] == [FRAMES]
    np.testing.assert_allclose(found['mean'], samples.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found['std'], samples.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found['q10'], np.quantile(samples, 0.1, axis=0), rtol=1e-12)
    assert found['min'] == samples.min(axis=0).tolist()


def test_what_verify_finds_in_a_sample_says_which_it_is(tmp_path):
    bag, path = written(tmp_path, robot(), profile_of())
    run(bag, tmp_path / 'out', profile=str(path))
    (tmp_path / 'other').mkdir()
    made = robot()
    made.topics['/fast'][8].message.position[1] += 1
    other = made.write(tmp_path / 'other' / 'bag')
    from conversions import opinion

    findings, _ = opinion(tmp_path / 'out', [bag], FRAMES, instead=other)
    assert [(one.rule, one.feature, one.frame) for one in findings] == [
        ('opinion.row', 'observation.fast', 1)
    ]


def test_bags_of_other_samples_are_not_added(tmp_path):
    from kuavo_bag_converter.support.errors import UsageError

    bag, path = written(tmp_path, robot(), profile_of())
    run(bag, tmp_path / 'out', profile=str(path))
    path.write_text(json.dumps(profile_of(samples=4)))
    with pytest.raises(UsageError, match='was made with other settings'):
        run(bag, tmp_path / 'out', profile=str(path), append=True)


def test_bags_are_added_to_a_dataset_of_samples(tmp_path):
    bag, path = written(tmp_path, robot(), profile_of())
    more = robot(1.0).write(tmp_path / 'more')
    run(bag, tmp_path / 'out', profile=str(path))
    run(more, tmp_path / 'out', profile=str(path), append=True)
    run([bag, more], tmp_path / 'both', profile=str(path))
    for name in ('meta/stats.json', 'meta/info.json'):
        assert (tmp_path / 'out' / name).read_text() == (tmp_path / 'both' / name).read_text()
    assert verify(tmp_path / 'out', [bag, more]).ok


@pytest.mark.parametrize('python', PYTHONS)
def test_lerobot_loads_samples(tmp_path, python):
    bag, path = written(tmp_path, robot(), profile_of())
    version = 'v2.1' if version_of(python) < (0, 4) else 'v3.0'
    run(bag, tmp_path / 'out', profile=str(path), lerobot_version=version)
    found = read(python, tmp_path / 'frames.npz', tmp_path / 'out')
    for backend in BACKENDS:
        loaded = found[f'out/{backend}/observation.fast']
        assert loaded.dtype == np.float32
        np.testing.assert_array_equal(loaded, values_at(instants()))
