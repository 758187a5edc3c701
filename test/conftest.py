"""What is collected: tests with a real LeRobot only where there is one."""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import av
import cv2
import numpy
import pyarrow
import pytest
from hypothesis import settings
from lerobot_readers import PYTHONS

# How long an example takes depends on what else the machine does.
settings.register_profile('untimed', deadline=None)
settings.load_profile('untimed')

collect_ignore_glob = [] if PYTHONS else ['*lerobot.py']


# What root hands to an ordinary user must be readable, whoever runs the suite.
os.umask(0o022)


@pytest.fixture
def place():
    """A folder that an ordinary user can reach and write to, also in a suite that root runs."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def pytest_runtest_setup(item):
    if item.get_closest_marker('root') and os.geteuid() != 0:
        pytest.skip('needs root')


def pytest_report_header():
    readers = 'tests with a real LeRobot left out: no KUAVO_LEROBOT_PYTHON, see make readers'
    if PYTHONS:
        readers = f'LeRobot readers: {", ".join(PYTHONS)}'
    modules = (numpy, cv2, av, pyarrow)
    versions = [f'{module.__name__} {module.__version__}' for module in modules]
    return [readers, ', '.join([*versions, f'rosbags {version("rosbags")}'])]
