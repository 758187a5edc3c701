"""What is collected: tests with a real LeRobot only where there is one."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from lerobot_readers import PYTHONS

# How long an example takes depends on what else the machine does.
settings.register_profile('untimed', deadline=None)
settings.load_profile('untimed')

collect_ignore_glob = [] if PYTHONS else ['*lerobot.py']


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
    if PYTHONS:
        return f'LeRobot readers: {", ".join(PYTHONS)}'
    return 'tests with a real LeRobot left out: it is not installed, KUAVO_LEROBOT_PYTHON not set'
