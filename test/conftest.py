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

"""What is collected: tests with a real LeRobot only where there is one."""

from __future__ import annotations

from importlib.metadata import version
import os
from pathlib import Path
import shutil
import tempfile

from arm_runs import write_profile
import av
import cv2
from hypothesis import settings
from lerobot_readers import PYTHONS
import numpy
import pyarrow
import pytest
import ros_domain
from s3_servers import BUCKET, s3_server

# How long an example takes depends on what else the machine does.
settings.register_profile('untimed', deadline=None)
settings.load_profile('untimed')

collect_ignore_glob = [] if PYTHONS else ['*lerobot.py']


# What root hands to an ordinary user must be readable, whoever runs the suite.
os.umask(0o022)


@pytest.fixture(scope='session', autouse=True)
def no_wait_for_the_disk():
    """No test cuts the power, and to wait 80 times in a conversion is a third of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, 'fsync', lambda _: None)
        yield


@pytest.fixture(scope='module')
def domain(tmp_path_factory):
    """Put this process and its children into a ROS domain of their own."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ros_domain.environment(tmp_path_factory.mktemp('log')).items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def profile(tmp_path):
    """Return the profile of recordings that :mod:`arm_runs` writes."""
    return write_profile(tmp_path)


@pytest.fixture
def place():
    """Return a folder that an ordinary user can reach and write to, also where root runs."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def pytest_runtest_setup(item):
    if item.get_closest_marker('root') and os.geteuid() != 0:
        pytest.skip('needs root')


def pytest_runtest_teardown():
    """Let threads be ordinary ones where a test opened libsvtav1 itself, as root."""
    if os.sched_getscheduler(0) == os.SCHED_FIFO:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def pytest_report_header():
    readers = 'tests with a real LeRobot left out: no KUAVO_LEROBOT_PYTHON, see make readers'
    if PYTHONS:
        readers = f'LeRobot readers: {", ".join(PYTHONS)}'
    modules = (numpy, cv2, av, pyarrow)
    versions = [f'{module.__name__} {module.__version__}' for module in modules]
    return [readers, ', '.join([*versions, f'rosbags {version("rosbags")}'])]


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Keep what a test copies out of the user's cache."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture
def memory_url(request):
    """Return the URL of a folder in memory."""
    return f'memory://{request.node.name.partition("[")[0]}'


@pytest.fixture(scope='session')
def s3():
    """Run a stand-in for S3, which is where its clients look for it."""
    fsspec = pytest.importorskip('fsspec', reason='the extra remote is not installed')
    pytest.importorskip('s3fs', reason='the extra s3 is not installed')
    pytest.importorskip('moto.server', reason='moto, the stand-in for S3, is not installed')
    with s3_server() as (proxy, environment), pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        fsspec.filesystem('s3').mkdir(BUCKET)
        yield proxy
        fsspec.filesystem('s3').clear_instance_cache()


@pytest.fixture
def bucket(s3, request):
    """Return the URL of an empty folder in it, and the proxy before it."""
    s3.faults.clear()
    s3.seen.clear()
    return f's3://{BUCKET}/{request.node.name.partition("[")[0]}', s3
