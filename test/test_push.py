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

"""A dataset goes to the Hub with a card of its facts, and nobody's work there is lost."""

from __future__ import annotations

from importlib import import_module
import os
from pathlib import Path
import shutil
import subprocess
import sys

from arm_runs import convert_arm, write_bag, write_profile
from hub_server import Hub
from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.support.remote import hub as hub_client
from kuavo_bag_converter.support.remote import retries
import pytest
import yaml

pytest.importorskip('huggingface_hub', reason='the extra hub is not installed')
REPO = 'lab/arm'
TOKEN = 'hf_secretOfTests123'


@pytest.fixture
def hub(monkeypatch):
    """Run a stand-in, and let the client find it."""
    hub = Hub()
    constants = import_module('huggingface_hub.constants')
    monkeypatch.setattr(constants, 'ENDPOINT', hub.url)
    monkeypatch.setattr(constants, 'HF_HUB_DISABLE_XET', True)
    template = f'{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}'
    monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', template)
    monkeypatch.setenv('HF_TOKEN', TOKEN)
    monkeypatch.setattr(hub_client, '_WAIT_S', 0.01)
    yield hub
    hub.close()


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp('made')
    bags = [write_bag(folder / f'{number}.bag', number) for number in range(2)]
    (folder / '2.bag').write_bytes(b'#ROSBAG V2.0\n')
    convert_arm([*bags, folder / '2.bag'], folder / 'out', write_profile(folder))
    return folder / 'out'


@pytest.fixture
def dataset(made, tmp_path):
    shutil.copytree(made, tmp_path / 'dataset')
    return tmp_path / 'dataset'


def push(dataset, *options):
    return cli.run(['push', str(dataset), '--repo', REPO, *options])


def contents(dataset):
    return {str(path.relative_to(dataset)): path.read_bytes()
            for path in Path(dataset).rglob('*') if path.is_file()}  # fmt: skip


def test_a_dataset_is_there_whole_with_its_card_and_tag(dataset, hub, capsys):
    assert push(dataset, '--private', '--license', 'mit', '--tag', 'kuavo') == 0
    there = dict(hub.repositories[REPO])
    card = there.pop('README.md').decode()
    assert there == contents(dataset)
    assert hub.private == {REPO: True}
    assert 'meta/info.json' in hub.commits[-1]
    assert all('meta/info.json' not in commit for commit in hub.commits[:-1])
    assert hub.tags == {REPO: {'v3.0': len(hub.commits)}}
    front = yaml.safe_load(card.split('---\n')[1])
    assert front['license'] == 'mit'
    assert front['tags'] == ['LeRobot', 'arm', 'kuavo']
    assert front['configs'] == [{'config_name': 'default', 'data_files': 'data/*/*.parquet'}]
    for text in (
        '2 episodes of the robot arm: 8 frames at 10 frames a second, 0.00 hours',
        'Converted from 2 recordings; 1 could not be.',
        "LeRobotDataset('lab/arm')",
        '| `observation.state` | float32 | 2 | recording, frame |',
        '| `/arm` | 8 | 8 | 0 | 0.0 | 0.0 | 0.0 | 0 |',
        'Tasks: Count.',
    ):
        assert text in card
    out = capsys.readouterr()
    assert out.out.startswith('lab/arm: ')
    assert TOKEN not in out.out + out.err
    assert f'Bearer {TOKEN}' in hub.tokens


def test_what_is_there_is_not_sent_again_and_failures_are_tried_again(dataset, hub, capsys):
    hub.failures += [('/commit/', 0, 503), ('/commit/', 0, 502)]
    assert push(dataset) == 0
    assert 'sent after 2 interruptions' in capsys.readouterr().err
    commits = len(hub.commits)
    assert push(dataset) == 0
    assert len(hub.commits) == commits
    assert ': 0 files sent (0.0 MB), ' in capsys.readouterr().out
    (dataset / 'conversion/notes.txt').write_text('more')
    assert push(dataset) == 0
    assert hub.commits[commits:] == [['conversion/notes.txt']]


def test_what_was_stopped_goes_on(dataset, hub, monkeypatch, capsys):
    monkeypatch.setattr(hub_client, '_PER_COMMIT', 2)
    monkeypatch.setattr(retries, 'ATTEMPTS', 1)
    hub.failures.append(('/commit/', 1, 500))
    assert push(dataset) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith('error: lab/arm: the Hub cannot be reached')
    assert line.endswith('the same command sends what is left')
    assert 'meta/info.json' not in hub.repositories[REPO]
    assert hub.tags == {}
    assert push(dataset) == 0
    assert hub.repositories[REPO].keys() == {*contents(dataset), 'README.md'}


def test_a_card_that_somebody_has_edited_stays(dataset, hub, capsys):
    assert push(dataset) == 0
    made = hub.repositories[REPO]['README.md']
    assert push(dataset, '--license', 'mit') == 0
    assert hub.repositories[REPO]['README.md'] != made
    edited = hub.repositories[REPO]['README.md'] + b'\nBy hand.\n'
    hub.repositories[REPO]['README.md'] = edited
    capsys.readouterr()
    assert push(dataset) == 0
    assert hub.repositories[REPO]['README.md'] == edited
    assert 'README.md: was edited on the Hub, and stays' in capsys.readouterr().err
    assert push(dataset, '--overwrite-card') == 0
    assert hub.repositories[REPO]['README.md'] == made


def test_a_card_of_the_dataset_is_sent_as_it_is(dataset, hub):
    (dataset / 'README.md').write_text('# Mine\n')
    assert push(dataset) == 0
    assert hub.repositories[REPO]['README.md'] == b'# Mine\n'


def test_files_of_another_dataset_are_not_mixed_in(dataset, hub, capsys):
    hub.repositories[REPO] = {'data/chunk-000/file-007.parquet': b'x', 'notes.md': b'mine'}
    assert push(dataset) == 2
    assert 'such as data/chunk-000/file-007.parquet; choose another' in capsys.readouterr().err
    assert hub.commits == []
    assert push(dataset, '--replace') == 0
    there = hub.repositories[REPO]
    assert there.keys() == {*contents(dataset), 'README.md', 'notes.md'}


@pytest.mark.parametrize(
    ('limit', 'value', 'said'),
    [
        ('MOST_FILES', 3, 'files, a repository of the Hub holds 3; convert with lerobot_version'),
        ('MOST_ENTRIES', 2, 'entries, a folder of the Hub holds 2; convert to several datasets'),
        ('MOST_BYTES', 10, 'a file of the Hub holds'),
    ],
)
def test_the_limits_of_the_hub_are_checked_before_a_byte_is_sent(
    limit, value, said, dataset, hub, monkeypatch, capsys
):
    monkeypatch.setattr(hub_client, limit, value)
    assert push(dataset) == 2
    assert said in capsys.readouterr().err
    assert hub.repositories == {}


def test_who_must_not_write_learns_it(dataset, hub, capsys):
    hub.failures.append(('/api/repos/create', 0, 403))
    assert push(dataset) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith('error: lab/arm: must not be written with this login')
    assert TOKEN not in line


def test_nothing_private_goes_where_everybody_sees_it(dataset, hub, capsys):
    hub.repositories[REPO] = {}
    assert push(dataset, '--private') == 2
    assert 'is there already, and everybody can see it' in capsys.readouterr().err
    assert hub.repositories[REPO] == {}


@pytest.mark.parametrize('repo', ['arm', 'a/b/c', '../x/y', ''])
def test_a_name_that_is_none_is_wrong_use(repo, dataset, hub, capsys):
    assert cli.run(['push', str(dataset), '--repo', repo]) == 2
    assert '--repo: expected owner/name' in capsys.readouterr().err


def test_what_is_no_dataset_is_wrong_use(tmp_path, hub, capsys):
    assert push(tmp_path) == 2
    assert f'error: {tmp_path}: is no dataset of LeRobot' in capsys.readouterr().err


def test_without_the_client_the_extra_is_named(dataset, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    assert push(dataset) == 2
    assert "pip install 'kuavo_bag_converter[hub]'" in capsys.readouterr().err


def test_the_command_finds_the_hub_as_its_client_does(dataset, hub, tmp_path):
    environment = {**os.environ, 'HF_ENDPOINT': hub.url, 'HF_HOME': str(tmp_path / 'home'),
                   'HF_HUB_DISABLE_XET': '1'}  # fmt: skip
    command = [sys.executable, '-m', 'kuavo_bag_converter', 'push', str(dataset), '--repo', REPO]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert hub.repositories[REPO].keys() == {*contents(dataset), 'README.md'}
