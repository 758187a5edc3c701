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

"""The benchmark: what it measures, in which order, and the form of what it writes."""

import json
import os
import re
import sys

from kuavo_bag_converter.benchmark.markdown import as_markdown
from kuavo_bag_converter.benchmark.measure import measure, Measurement
from kuavo_bag_converter.benchmark.results import Efficiency, Result, Results
from kuavo_bag_converter.benchmark.runs import conversions, Run
from kuavo_bag_converter.benchmark.stage_cost_job import prepare
from kuavo_bag_converter.cli.main import run
from kuavo_bag_converter.sample.write import write_sample
from kuavo_bag_converter.support import stages
import pytest
import ros_domain
from ros_modules import needed

MB = 1 << 20

ALLOCATE = """
def prepare(specification):
    import os, threading
    imported = bytearray(os.urandom(1 << 20)) * specification['imported_mb']

    def work():
        data = bytearray(os.urandom(1 << 20)) * specification['mb']
        print('not part of the protocol')
        stop = threading.Event()
        stop.wait(specification['seconds'])
        return {'length': len(data), 'imported': len(imported)}

    return work
"""
FORK = """
def prepare(specification):
    def work():
        import os
        data = bytearray(os.urandom(1 << 20)) * 60
        child = os.fork()
        if child == 0:
            import time
            time.sleep(specification['seconds'])
            os._exit(0)
        os.waitpid(child, 0)
        return {}

    return work
"""
BURN = """
def prepare(specification):
    def work():
        import time
        while time.process_time() < specification['cpu_s']:
            pass
        return {}

    return work
"""


@pytest.fixture
def job(tmp_path):
    """Write the program of a job; return its path."""

    def write(text):
        path = tmp_path / 'job.py'
        path.write_text(text)
        return str(path)

    return write


def test_the_increment_is_what_the_work_allocates_and_not_what_its_imports_took(job):
    given = {'imported_mb': 50, 'mb': 100, 'seconds': 0.3}
    measured = measure(job(ALLOCATE), given)
    assert (measured.status, measured.reason) == ('done', '')
    assert measured.outcome == {'length': 100 * MB, 'imported': 50 * MB}
    assert measured.baseline_mb > 50
    assert 90 < measured.increment_mb < 130
    assert measured.max_rss_mb > 140
    assert max(memory for _, memory in measured.curve) == measured.peak_mb
    assert measured.curve[0][0] < 0 < measured.curve[-1][0]


def test_memory_that_processes_share_counts_once(job):
    measured = measure(job(FORK), {'seconds': 0.3})
    assert measured.status == 'done'
    assert 50 < measured.increment_mb < 90


def test_cpu_time_is_split_into_imports_and_work(job):
    measured = measure(job(BURN), {'cpu_s': 0.5})
    assert 0.3 < measured.work_cpu_s <= measured.cpu_s < 2
    assert measured.work_wall_s <= measured.wall_s


def test_a_job_that_needs_too_much_memory_is_stopped_and_its_curve_kept(job):
    given = {'imported_mb': 0, 'mb': 300, 'seconds': 600}
    measured = measure(job(ALLOCATE), given, limit_mb=150)
    assert measured.status == 'stopped'
    assert measured.reason.startswith('needed more than 150 MB')
    assert measured.peak_mb > 150
    assert measured.outcome == {}


def test_a_job_that_ignores_the_request_to_stop_is_killed(job):
    deaf = 'import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n' + ALLOCATE
    given = {'imported_mb': 0, 'mb': 300, 'seconds': 600}
    assert measure(job(deaf), given, limit_mb=150).status == 'stopped'


def test_a_job_that_fails_gives_its_last_words(job):
    failing = 'def prepare(specification):\n    def work():\n        raise ValueError("no")\n'
    measured = measure(job(failing + '    return work\n'), {})
    assert (measured.status, measured.reason) == ('failed', 'ValueError: no')


def test_a_job_that_cannot_be_prepared_fails(job):
    measured = measure(job('import no_such_module\n'), {})
    assert measured.status == 'failed'
    assert 'no_such_module' in measured.reason


def test_a_job_that_is_killed_names_the_signal(job):
    dying = 'import os\ndef prepare(specification):\n    os.kill(os.getpid(), 9)\n'
    measured = measure(job(dying), {})
    assert (measured.status, measured.reason) == ('failed', 'ended by SIGKILL')


def test_every_job_has_a_process_of_its_own(job):
    program = job(
        'import os\ndef prepare(specification):\n    return lambda: {"id": os.getpid()}\n'
    )
    ids = {measure(program, {}).outcome['id'] for _ in range(2)}
    assert len(ids) == 2
    assert os.getpid() not in ids


def test_methods_that_stream_run_before_those_that_fill_the_memory():
    runs = conversions(
        methods=('whole_bag', 'streaming', 'chunked'),
        chunk_sizes=(50, 100),
        codecs=('h264', 'libsvtav1'),
        threads=(1,),
    )
    assert [run.name for run in runs] == [
        'chunked (chunk=50)',
        'chunked (chunk=100)',
        'chunked (chunk=50, libsvtav1)',
        'chunked (chunk=50, threads=1)',
        'streaming',
        'whole_bag',
    ]
    assert runs[2].settings['vcodec'] == 'libsvtav1'
    assert runs[3].settings == {'chunk_size': 50, 'threads': 1}


def test_the_node_gets_the_settings_of_the_first_chunk_size():
    runs = conversions(
        methods=('chunked',), chunk_sizes=(50, 100), codecs=(), threads=(), node=True
    )
    plain, node = runs[0], runs[-1]
    assert node.name == 'chunked (chunk=50, ROS node)'
    assert node.settings == plain.settings
    assert node.job != plain.job


def measured(**changes):
    values = {
        'status': 'done',
        'reason': '',
        'wall_s': 11.0,
        'cpu_s': 12.0,
        'work_wall_s': 10.0,
        'work_cpu_s': 11.0,
        'others_cpu_s': 0.0,
        'baseline_mb': 50.0,
        'peak_mb': 150.0,
        'max_rss_mb': 160.0,
        'curve': [(0.0, 50.0), (5.0, 150.0)],
        'outcome': {
            'frames': 100,
            'pass_1': {'wall_s': 0.1, 'cpu_s': 0.05, 'bytes_read': 3 * MB},
            'bytes_read': 700 * MB,
            'bytes_written': 30 * MB,
            'stages': {'decode': 4.0, 'encode': 6.0},
        },
    }
    return Measurement(**{**values, **changes})


CHUNKED = Result(Run('chunked (chunk=50)', 'chunked', {'chunk_size': 50}), measured())


def table_of(text, heading):
    """Return the rows of the table below a heading, as dicts by the header's words."""
    lines = text.split(f'## {heading}')[1].split('\n## ')[0].splitlines()
    rows = [line.strip('| ').split(' | ') for line in lines if line.startswith('|')]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def results_of(*results):
    bag = {'path': 'a.bag', 'bytes': 787 * MB, 'options': {'seconds': 63.0}}
    return Results('Benchmark: test', bag, {}, results=list(results))


def test_the_table_has_the_columns_of_the_original_report():
    whole = measured(peak_mb=4096.0, baseline_mb=46.0, work_wall_s=40.0)
    text = as_markdown(results_of(CHUNKED, Result(Run('whole_bag', 'whole_bag'), whole)))
    chunked, base = table_of(text, 'Methods')
    assert list(chunked.values()) == [
        'chunked (chunk=50)',
        '150 MB',
        '100 MB',
        '10.0 s',
        '10.0',
        '96.3 %',
        '97.5 %',
        '4.00x',
    ]
    assert list(base.values())[1:] == [
        '4.00 GB', '3.96 GB', '40.0 s', '2.5', *['baseline 基准'] * 3,
    ]  # fmt: skip
    for name in ('内存峰值', '内存增量', '处理时间', 'FPS', '峰值减少', '增量减少', '速度提升'):
        assert any(name in column for column in chunked)


def test_against_a_run_that_was_stopped_all_figures_are_bounds():
    stopped = measured(
        status='stopped', reason='needed more than 2048 MB after 20 s', peak_mb=2050.0,
        work_wall_s=20.0, outcome={},
    )  # fmt: skip
    text = as_markdown(results_of(CHUNKED, Result(Run('whole_bag', 'whole_bag'), stopped)))
    chunked, base = (list(row.values()) for row in table_of(text, 'Methods'))
    assert chunked[5:] == ['> 92.7 %', '> 95.0 %', '> 2.00x']
    assert base[1:5] == ['> 2.00 GB', '> 1.95 GB', '> 20.0 s', '-']
    assert '- whole_bag: stopped: needed more than 2048 MB after 20 s' in text


def test_a_failed_run_is_in_the_table_with_its_reason():
    failed = measured(status='failed', reason='BagError: no', outcome={})
    text = as_markdown(results_of(CHUNKED, Result(Run('streaming', 'streaming'), failed)))
    assert list(table_of(text, 'Methods')[1].values())[:2] == ['streaming', 'failed']
    assert '- streaming: failed: BagError: no' in text


def test_resources_and_stages_are_told():
    results = results_of(CHUNKED)
    results.machine['cores'] = 2
    text = as_markdown(results)
    (resources,) = table_of(text, 'Resources')
    assert resources['Cores busy'] == '55 %'
    assert resources['Pass 1 read'] == '3 MB'
    assert resources['of the run'] == '1.0 %'
    (by_stage,) = table_of(text, 'CPU seconds by stage')
    assert list(by_stage.values()) == ['chunked (chunk=50)', '4.00', '6.00', '1.00']


def test_efficiency_is_the_cpu_time_beside_what_the_stages_cost_alone():
    item = Efficiency('chunked', 11.0, {'decode': 4.0, 'resize': 1.0, 'encode': 5.0})
    assert item.ratio == pytest.approx(1.1)


@pytest.fixture
def recorded():
    """Return the times of the stages from now on."""
    yield stages.record()
    stages._times = None


def burn(seconds):
    import time

    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_a_stage_inside_another_counts_for_itself_alone(recorded):
    with stages.stage('outer'):
        burn(0.02)
        with stages.stage('inner'):
            burn(0.05)
    for _ in stages.stage_of_each('items', iter(range(3))):
        burn(0.02)
    seconds = recorded.seconds()
    assert 0.05 <= seconds['inner'] < 0.06
    assert 0.02 <= seconds['outer'] < 0.03
    assert 0 <= seconds['items'] < 0.01


def test_without_recording_a_stage_does_nothing():
    with stages.stage('outer'):
        pass
    assert list(stages.stage_of_each('items', [1, 2])) == [1, 2]


SMALL = ('--seconds', '2', '--size', '160x120', '--set', 'resize={width: 160, height: 120}')


def test_it_compares_methods_on_a_bag_of_its_own(tmp_path, capsys):
    arguments = [
        'benchmark', '--work', str(tmp_path), *SMALL, '--chunk-sizes', '4', '2',
        '--codecs', '--threads', '--methods', 'chunked', 'whole_bag',
    ]  # fmt: skip
    assert run(arguments) == 0
    folder = tmp_path / 'results' / 'small'
    found = json.loads((folder / 'results.json').read_text())
    names = ['chunked (chunk=4)', 'chunked (chunk=2)', 'whole_bag']
    assert [entry['name'] for entry in found['runs']] == names
    assert len({entry['outcome']['frames'] for entry in found['runs']}) == 1
    for entry in found['runs']:
        assert entry['status'] == 'done'
        assert 0 < entry['baseline_mb'] < entry['peak_mb']
        assert entry['curve']
    chunked = found['runs'][0]['outcome']
    assert 0 < chunked['pass_1']['bytes_read'] < chunked['bytes_read']
    assert chunked['stages'].keys() >= {'pass 1', 'read', 'decode', 'resize', 'encode'}
    assert found['efficiency'][0]['unavoidable_s'] > 0
    assert found['bag']['bytes'] > 0
    text = (folder / 'results.md').read_text()
    assert text == capsys.readouterr().out
    assert len(table_of(text, 'Methods')) == 3
    assert not list((tmp_path / 'scratch').iterdir())


def test_depth_in_the_table_is_measured_for_what_it_is(tmp_path):
    write_sample(tmp_path / 'a.bag', seconds=1, size=(60, 80))
    values = {'bags': [str(tmp_path / 'a.bag')], 'sample_drop': 2, 'use_depth': 'true'}
    costs = {}
    for coding in ('copy', 'image16'):
        work = prepare({'settings': [{**values, 'depth_coding': coding}]})
        cameras = {camera['camera']: camera for camera in work()['cameras']}
        costs[coding] = cameras['observation.depth_h']
        assert cameras['observation.images.head_cam_h']['encode'][0] > 0
    stages = ('decode', 'resize')
    assert all(cost == 0 for stage in stages for cost in costs['copy'][stage].values())
    assert costs['copy']['encode'] == [0]
    assert min(costs['image16']['decode'].values()) > 0
    assert costs['image16']['encode'][0] > 0


def test_it_measures_the_ros_node_on_copied_pictures(tmp_path, capsys, monkeypatch):
    needed('rclpy', 'needs a sourced ROS 2 or its wheels')
    for name, value in ros_domain.environment(tmp_path / 'log').items():
        monkeypatch.setenv(name, value)
    arguments = [
        'benchmark', '--work', str(tmp_path), *SMALL, '--chunk-sizes', '4', '--codecs',
        '--threads', '--methods', 'chunked', '--node', '--set', 'video=copy',
    ]  # fmt: skip
    assert run(arguments) == 0
    capsys.readouterr()
    found = json.loads((tmp_path / 'results' / 'small' / 'results.json').read_text())
    plain, node = found['runs']
    assert node['outcome']['frames'] == plain['outcome']['frames']
    assert node['peak_mb'] > plain['peak_mb']
    assert found['efficiency'] == []


def test_it_uses_a_bag_again_and_stops_a_method_at_the_memory_limit(tmp_path, capsys):
    arguments = [
        'benchmark', '--work', str(tmp_path), *SMALL, '--chunk-sizes', '4', '--codecs',
        '--threads', '--methods', 'chunked', '--memory-limit-mb', '10',
    ]  # fmt: skip
    assert run(arguments) == 0
    assert 'making' in capsys.readouterr().err
    assert run(arguments) == 0
    told = capsys.readouterr()
    assert 'making' not in told.err
    assert re.search(r'chunked \(chunk=4\): stopped: needed more than 10 MB', told.out)


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        (['--size', '640'], '--size 640: expected WIDTHxHEIGHT'),
        (['--bag', 'a.bag', '--seconds', '5'], '--bag and seconds exclude each other'),
        (['--set', 'chunk_sise=5'], 'chunk_sise'),
        (['--lerobot-python', sys.executable + '-none'], 'no lerobot'),
    ],
)
def test_wrong_use_is_told_before_anything_runs(tmp_path, capsys, arguments, told):
    assert run(['benchmark', '--work', str(tmp_path), *arguments]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_it_compares_codecs(tmp_path, monkeypatch):
    from kuavo_bag_converter.benchmark import codec_comparison

    first, *_, last = codec_comparison._CODECS
    monkeypatch.setattr(codec_comparison, '_CODECS', [first, last])
    monkeypatch.setattr(codec_comparison, 'HARDWARE_ENCODERS', {})
    page, begin, end = tmp_path / 'page.md', codec_comparison._BEGIN, codec_comparison._END
    page.write_text(f'a\n{begin}old\n{end}\nb')
    given = ['--work', str(tmp_path), *SMALL, '--write-into', str(page)]
    assert run(['benchmark', 'codecs', *given]) == 0
    folder = tmp_path / 'results/codecs'
    row, metric = json.loads((folder / 'results.json').read_text())['codecs']
    table = (folder / 'results.md').read_text()
    assert page.read_text() == f'a\n{begin}{table}{end}\nb'
    assert metric['status'] == 'done'
    assert metric['psnr_db'] == float('inf')
    assert row['status'] == 'done'
    assert 25 < row['worst_psnr_db'] <= row['psnr_db'] < 60
    assert 0.5 < row['ssim'] < 1
    assert row['encoder_mb'] > 0
    assert row['bytes_per_frame'] > 100
