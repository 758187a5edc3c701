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

"""Encoders in hardware: real ones that do not work here, one that does, and stand-ins."""

import pickle

from conversions import report, run
from dataset_files import decode, frame, FRONT, make_dataset, make_shards, number_of
from kuavo_bag_converter.cli.main import run as command
from kuavo_bag_converter.dataset import encoders
from kuavo_bag_converter.dataset.features import VideoOptions
from kuavo_bag_converter.dataset.hardware import EncoderChoice, why_not
from kuavo_bag_converter.dataset.video import VideoWriter
from kuavo_bag_converter.replay.verify import verify
from kuavo_bag_converter.settings import HARDWARE_ENCODERS
from kuavo_bag_converter.support.errors import UsageError
from observers import Notes
from plain_robot import every, image, joint_state, ramps, Robot
import pytest
import yaml

STANDARD = VideoOptions()
SIZE = (96, 160)
WORKING = [
    name for name, codec in HARDWARE_ENCODERS.items()
    if not why_not(name, VideoOptions(codec), 480, 640)
]  # fmt: skip
KEY = 'observation.images.eye'
WHAT = 'vcodec: auto: pictures of 160x96 are encoded'
GOOD = {'preset': 'ultrafast', 'tune': 'zerolatency', 'threads': '1', 'qp': '20'}


@pytest.fixture
def stand_in(monkeypatch):
    """Let libx264 stand for hardware, with other options; that of the machine is hidden."""

    def install(formats=None, **options):
        for name in list(HARDWARE_ENCODERS):
            monkeypatch.delitem(HARDWARE_ENCODERS, name)
        monkeypatch.setitem(HARDWARE_ENCODERS, 'libx264', 'h264')
        hardware = encoders._Hardware(
            formats or {'yuv420p': 'nv12'}, lambda *_: {**GOOD, **options}
        )
        monkeypatch.setitem(encoders._HARDWARE, '', hardware)
        why_not.cache_clear()

    yield install
    why_not.cache_clear()


@pytest.fixture(scope='module')
def recording(tmp_path_factory):
    folder = tmp_path_factory.mktemp('recording')
    robot = Robot().publish('/eye', every(10, 0.6), image('head_cam_h', size=SIZE))
    robot.publish('/joints', every(50, 0.6), joint_state(ramps(2)))
    features = {
        KEY: {'camera': {'from': {'topic': '/eye'}}},
        'observation.state': {
            'parts': [{'from': {'topic': '/joints', 'field': 'position'}, 'names': ['a', 'b']}]
        },
    }
    clock = {'from': {'topic': '/eye'}, 'fps': 10, 'end_trim': 'none'}
    profile = {'robot_type': 'r', 'fps': 10, 'task': 't', 'clock': clock, 'features': features}
    path = folder / 'robot.yaml'
    path.write_text(yaml.safe_dump(profile))
    return robot.write(folder / 'bag'), str(path)


@pytest.mark.skipif(WORKING != [], reason='an encoder in hardware works here')
def test_auto_falls_back_to_software_and_says_why(recording, tmp_path):
    (bag, profile), notes = recording, Notes()
    done = run(bag, tmp_path / 'd', profile=profile, vcodec='auto', observer=notes, judged=True)
    assert done.exit_code == 0
    (text,) = notes.lines
    assert text.startswith(
        'vcodec: auto: pictures of 160x96 are encoded by libx264, in software ('
    )
    assert report(tmp_path / 'd')['bags'][0]['encoders'] == {KEY: 'libx264'}
    assert verify(tmp_path / 'd', [str(bag)]).findings == ()


@pytest.mark.skipif(WORKING == [], reason='no encoder in hardware works here')
@pytest.mark.parametrize('vcodec', ['auto', *WORKING])
def test_hardware_makes_the_same_kind_of_dataset(recording, tmp_path, vcodec):
    bag, profile = recording
    done = run(bag, tmp_path / 'd', profile=profile, vcodec=vcodec, judged=True)
    assert done.exit_code == 0
    used = report(tmp_path / 'd')['bags'][0]['encoders'][KEY]
    assert used in WORKING
    assert verify(tmp_path / 'd', [str(bag)]).findings == ()


@pytest.mark.parametrize('vcodec', sorted(set(HARDWARE_ENCODERS) - set(WORKING)))
def test_hardware_that_is_asked_for_by_name_is_used_or_refused(
    recording, tmp_path, vcodec, capsys
):
    bag, profile = recording
    given = ['--output', str(tmp_path / 'd'), '--set', f'profile={profile}']
    assert command(['convert', str(bag), *given, '--set', f'vcodec={vcodec}']) == 2
    (line,) = capsys.readouterr().err.strip().split('\n')
    assert f'vcodec {vcodec} cannot encode 640x480 yuv420p here (' in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        ({'qp': '51'}, 'bad pictures: PSNR'),
        ({'bf': '2', 'g': '30', 'tune': 'psnr'}, 'the encoder returned frame'),
        ({'g': '30'}, 'key frames 0, 5 of 9, with gop 2'),
        ({'preset': 'warp'}, 'preset'),
        ({'formats': {'yuv420p': 'yuv444p'}}, 'decodes to pictures of 160x96 yuv444p'),
        ({'formats': {'yuv444p': 'yuv444p'}}, 'use one of yuv444p'),
    ],
    ids=str,
)
def test_what_opens_and_does_not_do_its_work_is_not_used(stand_in, options, reason):
    stand_in(**options)
    choice = EncoderChoice('auto')
    assert choice.of(STANDARD, *SIZE) == ('',)
    (note,) = choice.take_notes()
    assert note.startswith(f'{WHAT} by libx264, in software (')
    assert reason in note


def test_what_works_is_chosen_once_for_each_size(stand_in):
    stand_in()
    choice = EncoderChoice('auto')
    assert choice.of(STANDARD, *SIZE) == ('libx264', '')
    assert choice.take_notes() == [f'{WHAT} by libx264, in hardware']
    elsewhere = pickle.loads(pickle.dumps(choice))
    stand_in(preset='warp')  # as on a machine without it
    assert elsewhere.of(STANDARD, *SIZE) == ('libx264', '')
    assert elsewhere.take_notes() == []
    assert elsewhere.of(STANDARD, 48, 64) == ('',)
    with pytest.raises(UsageError, match='vcodec libx264 cannot encode 640x480 yuv420p here'):
        EncoderChoice('libx264')


def test_a_conversion_is_encoded_by_what_was_chosen(stand_in, recording, tmp_path):
    stand_in()
    bag, profile = recording
    done = run(bag, tmp_path / 'd', profile=profile, vcodec='auto', judged=True)
    assert done.exit_code == 0
    assert verify(tmp_path / 'd', [str(bag)]).findings == ()


@pytest.mark.skipif('h264_nvenc' in WORKING, reason='h264_nvenc works here')
def test_a_camera_falls_back_where_the_hardware_is_taken(tmp_path):
    options = VideoOptions(encoders=('h264_nvenc', ''))
    path = tmp_path / 'v.mp4'
    writer = VideoWriter(path, FRONT, options, fps=10, episode_lengths=[3])
    for number in range(3):
        writer.write(frame(number))
    writer.close()
    assert [number_of(shown) for shown in decode(path)] == [0, 1, 2]
    assert writer.encoder == 'libx264'
    (remark,) = writer.remarks
    assert remark.startswith('observation.images.front: h264_nvenc was not used: ')


def test_shards_of_different_encoders_become_one_dataset(stand_in, tmp_path):
    shards = make_shards(tmp_path, [[3], [4]])
    stand_in()
    (tmp_path / 'more').mkdir()
    shards += make_shards(tmp_path / 'more', [[5]], options=VideoOptions(encoders=('libx264', '')))
    make_dataset(tmp_path / 'd', shards)
    files = sorted((tmp_path / 'd' / 'videos' / FRONT.key).glob('*/*.mp4'))
    assert [len(list(decode(file))) for file in files] == [7, 5]


def test_auto_keeps_to_the_encoder_of_a_dataset_that_grows(recording, tmp_path):
    bag, profile = recording
    assert run(bag, tmp_path / 'd', profile=profile, vcodec='hevc').exit_code == 0
    grown = run(bag, tmp_path / 'd', profile=profile, vcodec='auto', append=True)
    assert [outcome.status for outcome in grown.outcomes] == ['present']
    with pytest.raises(UsageError, match=r'was made with other settings \(.*vcodec'):
        run(bag, tmp_path / 'd', profile=profile, append=True)


def test_presets_of_software_are_refused_for_hardware(recording, tmp_path):
    bag, profile = recording
    with pytest.raises(UsageError, match=r"preset 'superfast' does not go with vcodec auto"):
        run(bag, tmp_path / 'd', profile=profile, vcodec='auto', preset='superfast')
