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

"""
What ROS brings: without its modules a test is skipped, but never where they are broken.

Packages of a workspace are made up.
"""

from importlib import import_module
from importlib.util import find_spec

import pytest


def needed(name, reason):
    """Import a module, or skip the test where there is none."""
    if find_spec(name) is None:
        pytest.skip(reason)
    return import_module(name)


def add_package(prefix, name):
    """Let a prefix have a package, as its index tells; return the folder of what it shares."""
    index = prefix / 'share/ament_index/resource_index/packages'
    index.mkdir(parents=True)
    (index / name).touch()
    return prefix / 'share' / name
