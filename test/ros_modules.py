"""Modules that ROS brings: without them a test is skipped, but never where they are broken."""

from importlib import import_module
from importlib.util import find_spec

import pytest


def needed(name, reason):
    """Import a module, or skip the test where there is none."""
    if find_spec(name) is None:
        pytest.skip(reason)
    return import_module(name)
