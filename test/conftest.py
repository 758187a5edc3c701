"""What is collected: tests with a real LeRobot only where there is one."""

from __future__ import annotations

from hypothesis import settings
from lerobot_readers import PYTHONS

# How long an example takes depends on what else the machine does.
settings.register_profile('untimed', deadline=None)
settings.load_profile('untimed')

collect_ignore_glob = [] if PYTHONS else ['*lerobot.py']


def pytest_report_header():
    if PYTHONS:
        return f'LeRobot readers: {", ".join(PYTHONS)}'
    return 'tests with a real LeRobot left out: it is not installed, KUAVO_LEROBOT_PYTHON not set'
