"""What is collected: tests with a real LeRobot only where there is one."""

from __future__ import annotations

from lerobot_readers import PYTHONS

collect_ignore_glob = [] if PYTHONS else ['*lerobot.py']


def pytest_report_header():
    if PYTHONS:
        return f'LeRobot readers: {", ".join(PYTHONS)}'
    return 'tests with a real LeRobot left out: it is not installed, KUAVO_LEROBOT_PYTHON not set'
