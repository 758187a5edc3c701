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

"""Bags that lie on other machines: found, read by ranges, spooled, and called by their URLs."""

from __future__ import annotations

import json
from pathlib import Path
import random
import struct
import sys
import threading
from typing import NamedTuple

from arm_runs import (
    ARM,
    convert_arm,
    messages,
    states,
    statuses,
    write_bag,
    write_directory,
)
from bag_files import BEGIN, SECOND, Topic, write_rosbag2
from conversions import report
from dataset_reading import tree
import kuavo_bag_converter as kbc
from kuavo_bag_converter.bags.discover import list_recordings
from kuavo_bag_converter.bags.fingerprint import find_duplicates, fingerprint
from kuavo_bag_converter.cli import main as cli
from kuavo_bag_converter.support.errors import BagError, Cancelled
from kuavo_bag_converter.support.places import masked, name_of
from kuavo_bag_converter.support.remote import retries, urls
from kuavo_bag_converter.support.remote import spool as spools
from kuavo_bag_converter.support.remote.spool import held, is_stub, kept_digest, Spool
import pytest
from s3_servers import Fault, reading

RECORD = ('conversion/report.json', 'conversion/bags/file-000.parquet')
BLOB = Topic('/blob', 'test_msgs/msg/Blob', 'uint8[] data\n', 'uint8[] data\n')


class Blob(NamedTuple):
    """A large message."""

    number: int
    topic: Topic = BLOB

    @property
    def stamp(self):
        return BEGIN + self.number * SECOND

    @property
    def cdr(self):
        data = bytes(4_000_000)
        return b'\0\1\0\0' + struct.pack('<I', len(data)) + data


fsspec = pytest.importorskip('fsspec', reason='the extra remote is not installed')
pytestmark = pytest.mark.usefixtures('own_cache')


def put(url, *paths):
    """Copy files and folders to a URL."""
    fs, root = fsspec.core.url_to_fs(url)
    for path in paths:
        for file in sorted(path.rglob('*')) if path.is_dir() else [path]:
            fs.pipe_file(f'{root}/{file.relative_to(path.parent)}', file.read_bytes())


def taken(folder):
    """Return the bytes that files of a folder take of the disk, in blocks of 4096."""
    bags = [path for path in folder.rglob('*') if path.name.endswith(('.bag', '.mcap', '.part'))]
    return sum(path.stat().st_blocks for path in bags if path.is_file())


def same_but_record(first, second):
    """Tell whether datasets are equal but for what names their bags."""
    first, second = tree(first), tree(second)
    differing = {name for name in {*first, *second} if first.get(name) != second.get(name)}
    return first.keys() == second.keys() and differing <= {*RECORD}


def test_a_folder_of_bags_becomes_the_same_dataset_as_here(tmp_path, profile, memory_url):
    bags = [write_bag(tmp_path / f'bags/{number}.bag', number) for number in range(2)]
    bags.append(write_directory(tmp_path / 'bags/three', 3))
    put(memory_url, *bags)
    done = convert_arm([memory_url], tmp_path / 'out', profile)
    convert_arm([tmp_path / 'bags'], tmp_path / 'here', profile)
    assert same_but_record(tmp_path / 'out', tmp_path / 'here')
    names = [f'{memory_url}/0.bag', f'{memory_url}/1.bag', f'{memory_url}/three']
    assert [outcome.bag for outcome in done.outcomes] == names
    assert [bag['bag'] for bag in report(tmp_path / 'out')['bags']] == names
    assert (
        report(tmp_path / 'out')['bags'][2]['files'][0]['path'] == f'{memory_url}/three/three.mcap'
    )
    assert taken(tmp_path / 'cache') == 0


def test_a_folder_may_be_called_as_those_of_the_spool_are(tmp_path, profile, memory_url):
    put(f'{memory_url}/spooled-runs', write_bag(tmp_path / '0.bag', 0))
    done = convert_arm([f'{memory_url}/spooled-runs'], tmp_path / 'out', profile)
    assert [outcome.bag for outcome in done.outcomes] == [f'{memory_url}/spooled-runs/0.bag']
    assert states(tmp_path / 'out') == [(0, frame) for frame in range(4)]


def test_bags_of_urls_are_added_retried_and_verified(tmp_path, profile, memory_url):
    good, bad = write_bag(tmp_path / '0.bag', 0), tmp_path / '1.bag'
    bad.write_bytes(b'#ROSBAG V2.0\n')
    put(memory_url, good, bad)
    root = tmp_path / 'out'
    assert statuses(convert_arm([memory_url], root, profile)) == ['converted', 'failed']
    put(memory_url, write_bag(tmp_path / 'new/1.bag', 1), write_bag(tmp_path / '2.bag', 2))
    done = convert_arm([memory_url], root, profile, append=True)
    assert statuses(done) == ['present', 'converted', 'converted']
    assert [bag['status'] for bag in report(root)['bags']] == ['converted'] * 3
    assert states(root) == [(number, frame) for number in range(3) for frame in range(4)]
    assert cli.run(['verify', str(root), '--bags', memory_url]) == 0
    assert cli.run(['verify', str(root), '--bags']) == 0


def test_sqlite_and_packed_bags_are_copied_before_they_are_read(tmp_path, profile, memory_url):
    folder = tmp_path / 'db'
    write_rosbag2(folder, messages(0, 3), topics=[ARM], storage='SQLITE3')
    put(memory_url, folder)
    convert_arm([f'{memory_url}/db'], tmp_path / 'out', profile)
    assert states(tmp_path / 'out') == [(0, 0), (0, 1), (0, 2)]
    assert taken(tmp_path / 'cache') == 0


def test_cut_connections_and_busy_servers_change_nothing(tmp_path, profile, bucket, monkeypatch):
    url, proxy = bucket
    monkeypatch.setattr(spools, '_CHUNK', 2048)
    bag = write_bag(tmp_path / 'bags/0.bag', 0)
    put(url, bag)
    proxy.faults += [Fault(reading('0.bag'), 2, after=100), Fault(reading('0.bag'), 2, status=503)]
    convert_arm([url], tmp_path / 'out', profile)
    convert_arm([bag], tmp_path / 'here', profile)
    assert proxy.faults == []
    assert same_but_record(tmp_path / 'out', tmp_path / 'here')


def test_a_copy_goes_on_where_it_was_interrupted(tmp_path, bucket, monkeypatch):
    url, proxy = bucket
    monkeypatch.setattr(spools, '_CHUNK', 2048)
    monkeypatch.setattr(retries, 'ATTEMPTS', 1)
    bag = write_bag(tmp_path / 'bags/0.bag', 0)
    size = bag.stat().st_size
    put(url, bag)
    (paths,) = list_recordings([f'{url}/0.bag']).recordings
    end = f'bytes=4096-{size - 1}'
    proxy.faults.append(Fault(lambda *request: request[2] == end, 50, status=400))
    said = rf'4096 of {size} bytes are copied; the same command'
    with pytest.raises(BagError, match=said), held(paths):
        pass
    proxy.faults.clear()
    proxy.seen.clear()
    with held(paths):
        assert paths[0].read_bytes() == bag.read_bytes()
    assert proxy.fetched('0.bag') == [end]
    assert is_stub(paths[0])


def test_what_has_changed_is_copied_anew(tmp_path, profile, bucket):
    url, _ = bucket
    put(url, write_bag(tmp_path / '0.bag', 0))
    (paths,) = list_recordings([f'{url}/0.bag']).recordings
    with held(paths):
        pass
    put(url, write_bag(tmp_path / 'new/0.bag', 7))
    with pytest.raises(BagError, match='has changed while it was copied'), held(paths):
        pass
    convert_arm([f'{url}/0.bag'], tmp_path / 'out', profile)
    assert states(tmp_path / 'out')[0] == (7, 0)


def test_an_inspection_reads_parts_of_a_bag(tmp_path, bucket, capsys):
    url, proxy = bucket
    blobs = [Blob(number) for number in range(4)]
    folder = write_rosbag2(tmp_path / 'large', blobs, topics=[BLOB])
    put(url, folder)
    proxy.seen.clear()
    assert cli.run(['inspect', f'{url}/large', '--json']) == 0
    (bag,) = json.loads(capsys.readouterr().out)['bags']
    assert bag['bag'] == f'{url}/large'
    fetched = sum(one.sent for one in proxy.seen if one.path.endswith('.mcap'))
    assert 0 < fetched < sum(file.stat().st_size for file in folder.iterdir())


def test_a_profile_is_drafted_by_the_spool_that_is_named(tmp_path, memory_url, capsys):
    put(memory_url, *(write_bag(tmp_path / f'bags/{number}.bag', number) for number in range(2)))
    yaml, spool = tmp_path / 'arm.yaml', tmp_path / 'spool'
    assert cli.run(['init', memory_url, '-o', str(yaml), '--spool-dir', str(spool)]) == 0
    assert f'inspect {memory_url} --profile {yaml}' in capsys.readouterr().out
    assert yaml.exists()
    assert spool.exists()


def test_a_spool_holds_what_it_may_and_who_needs_room_waits(tmp_path, memory_url):
    put(memory_url, *(_file(tmp_path / f'{number}.bag', 700_000, number) for number in range(2)))
    put(memory_url, _file(tmp_path / 'large.bag', 1_200_000, 3))
    recordings = list_recordings([memory_url], Spool(str(tmp_path / 'spool'), 1)).recordings
    said = r'large.bag: has 2 MB, and spool_mb is 1; set spool_mb'
    with pytest.raises(BagError, match=said), held(recordings[2]):
        pass
    entered, cancel = threading.Event(), threading.Event()

    def second(event):
        with held(recordings[1], event):
            entered.set()

    with held(recordings[0]):
        waiting = threading.Thread(target=second, args=(threading.Event(),))
        waiting.start()
        stopped = threading.Thread(target=_expect_cancelled, args=(second, cancel))
        stopped.start()
        cancel.set()
        stopped.join(10)
        assert not entered.is_set()
        assert 0 < taken(tmp_path / 'spool') * 512 < 1 << 20
    waiting.join(10)
    assert entered.is_set()
    assert taken(tmp_path / 'spool') == 0


def _expect_cancelled(work, cancel):
    with pytest.raises(Cancelled):
        work(cancel)


def test_what_interrupted_copies_have_left_gives_way(tmp_path, memory_url, monkeypatch):
    put(memory_url, *(_file(tmp_path / f'{number}.bag', 700_000, number) for number in range(2)))
    recordings = list_recordings([memory_url], Spool(str(tmp_path / 'spool'), 1)).recordings
    monkeypatch.setattr(spools, '_CHUNK', 400_000)
    stop, copy = threading.Event(), type(fsspec.filesystem('memory')).cat_file

    def stopping(fs, path, start=None, end=None, **options):
        stop.set()
        return copy(fs, path, start, end, **options)

    monkeypatch.setattr(type(fsspec.filesystem('memory')), 'cat_file', stopping)
    with pytest.raises(Cancelled), held(recordings[0], stop):
        pass
    assert taken(tmp_path / 'spool') * 512 >= 400_000
    with held(recordings[1]):
        assert recordings[1][0].read_bytes() == (tmp_path / '1.bag').read_bytes()
        assert taken(tmp_path / 'spool') * 512 < 1 << 20


def test_processes_beside_each_other_share_a_spool(tmp_path, profile, bucket):
    url, _ = bucket
    put(url, *(write_bag(tmp_path / f'bags/{number}.bag', number) for number in range(2)))
    spool = str(tmp_path / 'spool')
    convert_arm([url], tmp_path / 'out', profile, jobs=2, spool_dir=spool, spool_mb=1)
    convert_arm([tmp_path / 'bags'], tmp_path / 'here', profile)
    assert same_but_record(tmp_path / 'out', tmp_path / 'here')
    assert taken(tmp_path / 'spool') == 0


def test_scripts_may_give_urls(tmp_path, profile, memory_url):
    put(memory_url, write_bag(tmp_path / '0.bag', 0))
    url = f'{memory_url}/0.bag'
    assert kbc.inspect(url).bag == url
    with kbc.open_bag(url) as bag:
        assert dict(bag.counts) == {'/arm': 4}
    kbc.convert(url, tmp_path / 'out', profile=profile)
    assert states(tmp_path / 'out') == [(0, frame) for frame in range(4)]


def test_scripts_may_give_urls_as_paths(tmp_path, profile, memory_url):
    put(memory_url, write_bag(tmp_path / '0.bag', 0))
    kbc.convert(Path(memory_url, '0.bag'), Path(memory_url, 'out'), profile=profile)
    fs, root = fsspec.core.url_to_fs(f'{memory_url}/out')
    assert fs.exists(f'{root}/meta/info.json')


def test_files_that_differ_between_samples_are_no_duplicates(tmp_path, memory_url):
    first = _file(tmp_path / '0.bag', 3_000_000, 0)
    changed = bytearray(first.read_bytes())
    changed[1_530_001] ^= 1
    (tmp_path / '1.bag').write_bytes(changed)
    (tmp_path / '2.bag').write_bytes(first.read_bytes())
    put(memory_url, *(tmp_path / f'{number}.bag' for number in range(3)))
    recordings = list_recordings([memory_url]).recordings
    assert find_duplicates(recordings) == {2: 0}


def test_a_digest_that_another_process_is_writing_is_not_taken(tmp_path, memory_url):
    put(memory_url, _file(tmp_path / '0.bag', 100, 0))
    (recording,) = list_recordings([memory_url]).recordings
    key = fingerprint(recording).key
    kept_digest(recording[0]).write_text('')
    assert fingerprint(recording).key == key


@pytest.mark.parametrize('what', ['nothing.bag', 'no/folder'])
def test_what_does_not_exist_is_wrong_use(what, tmp_path, profile, bucket, capsys):
    url, _ = bucket
    for place in (f'{url}/{what}', f's3://no-such-bucket/{what}'):
        assert cli.run(['convert', place, '-o', str(tmp_path / 'out')]) == 2
        assert capsys.readouterr().err.splitlines()[-1] == f'error: {place}: does not exist'
    assert not (tmp_path / 'out').exists()


def test_who_must_not_read_learns_it(tmp_path, bucket, capsys):
    url, proxy = bucket
    put(url, write_bag(tmp_path / '0.bag', 0))
    proxy.faults += [Fault(lambda *_: True, 50, status=403)]
    assert cli.run(['convert', f'{url}/0.bag', '-o', str(tmp_path / 'out')]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f'error: {url}/0.bag: permission denied')
    assert 'secret-of-tests' not in line


def test_names_lead_out_of_no_spool(tmp_path, memory_url, monkeypatch, capsys):
    put(memory_url, write_bag(tmp_path / '0.bag', 0))
    kind = type(fsspec.filesystem('memory'))
    entry = {'type': 'file', 'size': 1}
    found = {f'/{memory_url[9:]}/x/../../../../out.yaml': entry}
    monkeypatch.setattr(kind, 'find', lambda *_, **__: found)
    assert cli.run(['convert', memory_url, '-o', str(tmp_path / 'out')]) == 2
    assert 'is no name of a file' in capsys.readouterr().err


def test_a_server_that_is_not_there_is_no_missing_file(tmp_path, capsys):
    pytest.importorskip('aiohttp', reason='the extra http is not installed')
    url = 'http://me:secret@127.0.0.1:1/0.bag?sig=secret'
    assert cli.run(['convert', url, '-o', str(tmp_path / 'out')]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith('error: http://127.0.0.1:1/0.bag: cannot be reached: ')
    assert 'secret' not in line


def test_without_fsspec_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'fsspec', None)
    assert cli.run(['convert', 's3://lab/0.bag', '-o', str(tmp_path / 'out')]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == (
        'error: s3://lab/0.bag: cannot be opened without fsspec; install it: pip install '
        "'kuavo_bag_converter[s3]'"
    )


def test_a_scheme_that_nobody_opens_is_wrong_use(tmp_path, capsys):
    assert cli.run(['convert', 'nonsense://lab/0.bag', '-o', str(tmp_path / 'out')]) == 2
    assert 'error: nonsense://lab/0.bag: ' in capsys.readouterr().err


def test_secrets_of_urls_are_shown_nowhere():
    text = 'https://me:pass@host/a/b.bag?X-Amz-Signature=abc&X=1: failed, ftp://u@h/x fine'
    assert masked(text) == 'https://host/a/b.bag?...: failed, ftp://h/x fine'
    assert 'pass' not in str(BagError(text))
    assert name_of(Path('s3://lab/x.bag')) == 's3://lab/x.bag'
    assert name_of('run.bag') == 'run.bag'


def test_secrets_open_what_is_called_without_them(monkeypatch):
    monkeypatch.setattr(urls, '_full_urls', {})
    urls.remember(['sftp://me:pass@host/runs/', 'https://host/a.bag?sig=1', 's3://lab/runs'])
    assert urls.full_url('sftp://host/runs/1/a.mcap') == 'sftp://me:pass@host/runs/1/a.mcap'
    assert urls.full_url('https://host/a.bag') == 'https://host/a.bag?sig=1'
    for other in ('sftp://host/runs2', 'https://host/b.bag', 's3://lab/runs/0.bag'):
        assert urls.full_url(other) == other
    assert set(urls.remembered()) == {'sftp://me:pass@host/runs/', 'https://host/a.bag?sig=1'}


def _file(path, size, seed):
    path.write_bytes(random.Random(seed).randbytes(size))
    return path
