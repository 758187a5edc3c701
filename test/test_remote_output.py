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

"""Datasets that go to other machines: whole or not to be loaded, whatever is cut."""

from __future__ import annotations

from pathlib import Path

from arm_runs import convert_arm, statuses, write_bag
from dataset_reading import tree
from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.jobs.convert import convert_bags
from kuavo_bag_converter.jobs.watch import watch, WatchOptions
from kuavo_bag_converter.settings import settings_from
from kuavo_bag_converter.support.errors import OutputError, UsageError
from kuavo_bag_converter.support.remote import retries
from observers import Notes
import pytest
from s3_servers import Fault, writing

fsspec = pytest.importorskip('fsspec', reason='the extra remote is not installed')
pytestmark = pytest.mark.usefixtures('own_cache')


@pytest.fixture
def bag(tmp_path):
    return write_bag(tmp_path / 'bags/0.bag', 0)


def fetched(url, folder):
    """Copy what is at a URL to a folder, and return what tells it from others."""
    fs, root = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    for path in fs.find(root):
        file = folder / path.removeprefix(root).lstrip('/')
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(fs.cat_file(path))
    return tree(folder)


def names(url):
    fs, root = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    return {path.removeprefix(root).lstrip('/') for path in fs.find(root)}


def test_a_dataset_at_a_url_is_that_of_a_folder(bag, tmp_path, profile, memory_url, capsys):
    assert (
        cli.run(['convert', str(bag), '-o', f'{memory_url}/out', '--set', f'profile={profile}'])
        == 0
    )
    assert capsys.readouterr().out.splitlines()[-2] == f'{memory_url}/out: 1 episode, 4 frames'
    convert_arm(bag, tmp_path / 'here', profile)
    there, here = fetched(f'{memory_url}/out', tmp_path / 'there'), tree(tmp_path / 'here')
    assert there.keys() == here.keys()
    assert {name for name in there if there[name] != here[name]} <= {
        'conversion/report.json',
        'conversion/bags/file-000.parquet',
    }
    assert list((tmp_path / 'cache/kuavo_bag_converter').glob('output-*')) == []


def test_bags_and_dataset_may_both_be_elsewhere(bag, tmp_path, profile, bucket):
    url, proxy = bucket
    fsspec.filesystem('s3').pipe_file(f'{url}/bags/0.bag', bag.read_bytes())
    convert_arm(f'{url}/bags', f'{url}/out', profile)
    assert 'meta/info.json' in names(f'{url}/out')
    wrote = [one.path for one in proxy.seen if one.method == 'PUT' and '/out/' in one.path]
    assert wrote[-1].endswith('meta/info.json')


def test_what_is_cut_is_sent_again_and_what_is_stopped_goes_on(
    bag, tmp_path, profile, bucket, monkeypatch
):
    url, proxy = bucket
    monkeypatch.setattr(retries, 'ATTEMPTS', 2)
    proxy.faults += [Fault(writing('data/'), 1), Fault(writing('report.json'), 99, status=400)]
    with pytest.raises(OutputError, match=r'dataset is whole in .*: run the same command again'):
        convert_arm(bag, f'{url}/out', profile)
    before = names(f'{url}/out')
    assert before
    assert 'meta/info.json' not in before
    proxy.faults.clear()
    proxy.seen.clear()
    notes = Notes()
    done = convert_arm(bag, f'{url}/out', profile, observer=notes)
    assert statuses(done) == ['kept']
    assert any('was converted before' in line for line in notes.lines)
    wrote = [one.path for one in proxy.seen if one.method == 'PUT']
    assert [Path(path.partition('?')[0]).name for path in wrote] == ['report.json', 'info.json']
    convert_arm(bag, tmp_path / 'here', profile)
    assert fetched(f'{url}/out', tmp_path / 'there').keys() == tree(tmp_path / 'here').keys()


def test_another_run_does_not_send_what_was_made_otherwise(
    bag, tmp_path, profile, bucket, monkeypatch
):
    url, proxy = bucket
    monkeypatch.setattr(retries, 'ATTEMPTS', 1)
    proxy.faults.append(Fault(writing('info.json'), 99, status=400))
    with pytest.raises(OutputError):
        convert_arm(bag, f'{url}/out', profile)
    proxy.faults.clear()
    other = write_bag(tmp_path / 'bags/1.bag', 1)
    for bags, values in (([bag, other], {}), ([bag], {'crf': 30})):
        with pytest.raises(UsageError, match='is of another run, which was stopped while it sent'):
            convert_arm(bags, f'{url}/out', profile, **values)
    convert_arm(bag, f'{url}/out', profile)
    assert 'meta/info.json' in names(f'{url}/out')


def test_what_is_there_is_never_mixed_with_a_dataset(bag, profile, memory_url):
    fs = fsspec.filesystem('memory')
    fs.pipe_file(f'{memory_url}/out/notes.txt', b'mine')
    with pytest.raises(UsageError, match=r'/out: exists already, with notes.txt; choose another'):
        convert_arm(bag, f'{memory_url}/out', profile)
    assert names(f'{memory_url}/out') == {'notes.txt'}


def test_a_dataset_elsewhere_is_neither_added_to_nor_watched(bag, tmp_path, profile, memory_url):
    for values in ({'append': True}, {'retry_failed': True}):
        with pytest.raises(UsageError, match='where no bags can be added to a dataset'):
            convert_arm(bag, f'{memory_url}/out', profile, **values)
    values = {'bags': [str(bag.parent)], 'output': f'{memory_url}/out', 'profile': str(profile)}
    with pytest.raises(UsageError, match='expected a folder of this machine, no URL'):
        watch(settings_from(values, 'test'), WatchOptions())
    values |= {'bags': [memory_url], 'output': str(tmp_path / 'out')}
    with pytest.raises(UsageError, match='only a folder of this machine can be watched'):
        watch(settings_from(values, 'test'), WatchOptions())


def test_a_bucket_that_is_not_there_is_wrong_use_before_a_bag_is_read(bag, profile, bucket):
    with pytest.raises(UsageError, match='there is no bucket not-there'):
        convert_arm(bag, 's3://not-there/out', profile)


def test_a_server_that_is_not_there_is_said_in_a_line(bag, profile, bucket, monkeypatch, capsys):
    kind = type(fsspec.filesystem('s3'))
    monkeypatch.setattr(kind, 'retries', 1)
    monkeypatch.setenv('AWS_ENDPOINT_URL', 'http://127.0.0.1:1')
    monkeypatch.setenv('AWS_MAX_ATTEMPTS', '1')
    kind.clear_instance_cache()
    try:
        arguments = ['convert', str(bag), '-o', f'{bucket[0]}/out', '--set', f'profile={profile}']
        assert cli.run(arguments) == 1
    finally:
        kind.clear_instance_cache()
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f'error: {bucket[0]}/out: cannot be reached: ')


def test_where_no_bag_is_converted_nothing_is_sent(tmp_path, profile, memory_url):
    (tmp_path / 'bad.bag').write_bytes(b'#ROSBAG V2.0\n')
    values = {'bags': [str(tmp_path / 'bad.bag')], 'output': f'{memory_url}/out'}
    done = convert_bags(settings_from(values | {'profile': str(profile)}, 'test'))
    assert statuses(done) == ['failed']
    assert names(f'{memory_url}/out') == set()
